#include "gateway/proxy/forward.h"

#include <errno.h>
#include <stddef.h>

#include "gateway/memory.h"

#define TOKEN_BYTES 8

static struct forward *forward_at(const struct proxy *p, uint32_t index)
{
    return pool_at(&p->forwards, index);
}

static void token_write(const struct proxy *p, const struct forward *f, uint8_t token[TOKEN_BYTES])
{
    uint32_t index = pool_index(&p->forwards, f), hidden = index ^ p->token_mask;

    memcpy(token, &hidden, sizeof(hidden));
    memcpy(token + sizeof(hidden), &p->nonces[index], sizeof(p->nonces[index]));
}

/* NULL when no open forward of this session has the token. */
static struct forward *token_find(const struct proxy *p, const struct session *s,
                                  const struct message *msg)
{
    uint32_t index, nonce;
    struct forward *f;

    if (msg->token_length != TOKEN_BYTES)
        return NULL;
    memcpy(&index, msg->token, sizeof(index));
    memcpy(&nonce, msg->token + sizeof(index), sizeof(nonce));
    index ^= p->token_mask;
    if (index >= p->forwards.capacity || nonce == 0 || p->nonces[index] != nonce)
        return NULL;
    f = forward_at(p, index);
    return f->session == session_index(&p->m->sessions, s) ? f : NULL;
}

/* Ends our side; the exchange is the caller's. */
static void forward_free(struct proxy *p, struct forward *f)
{
    wheel_cancel(&p->m->wheel, &f->deadline);
    if (f->outbound != POOL_NONE)
        outbound_cancel(p->m, f->outbound);
    session_at(&p->m->sessions, f->session)->forwards--;
    p->nonces[pool_index(&p->forwards, f)] = 0;
    pool_put(&p->forwards, f);
}

static void fail(struct proxy *p, struct forward *f, uint8_t code, const char *diagnostic)
{
    struct exchange *x = f->exchange;

    if (code == CODE_GATEWAY_TIMEOUT)
        p->m->counters->forward_timeouts++;
    else
        p->m->counters->forward_failures++;
    forward_free(p, f);
    exchange_reply_code(p->m, x, code, diagnostic);
}

static void on_deadline(void *context, struct timer *timer, uint64_t now_us)
{
    struct forward *f =
        (struct forward *)(void *)((uint8_t *)timer - offsetof(struct forward, deadline));

    (void)now_us;
    fail(context, f, CODE_GATEWAY_TIMEOUT, "the origin did not answer in time");
}

int proxy_init(struct proxy *p, struct messaging *m)
{
    int err;

    memset(p, 0, sizeof(*p));
    p->m = m;
    p->token_mask = (uint32_t)random_u64(&m->random);
    p->nonces_bytes = sizeof(*p->nonces) * (size_t)m->config->limits.exchanges;
    p->nonces = memory_reserve(p->nonces_bytes);
    err = p->nonces ? 0 : -ENOMEM;
    if (!err)
        err = pool_init(&p->forwards, sizeof(struct forward), m->config->limits.exchanges);
    if (!err)
        err = upstreams_init(&p->upstreams, m);
    if (err) {
        proxy_fini(p);
        return err;
    }
    wheel_handle(&m->wheel, TIMER_FORWARD, on_deadline, p);
    return 0;
}

void proxy_fini(struct proxy *p)
{
    upstreams_fini(&p->upstreams);
    pool_fini(&p->forwards);
    memory_release(p->nonces, p->nonces_bytes);
    p->nonces = NULL;
}

/* ---- requests ---- */

/* Options that end here: they speak of the gateway's own address, or of what it does not offer on
 * this leg. */
static bool ends_here(uint16_t number, bool request)
{
    switch (number) {
    case OPTION_URI_HOST:
    case OPTION_URI_PORT:
    case OPTION_PROXY_URI:
    case OPTION_PROXY_SCHEME:
    case OPTION_OBSERVE:
        return true;
    case OPTION_MAX_AGE:
        return request; /* has no meaning in a request */
    default:
        return false;
    }
}

static void copy_options(struct encoder *e, const struct message *from, bool request)
{
    struct option_cursor cursor = option_cursor(from);
    struct option_view view;

    while (option_next(&cursor, &view))
        if (!ends_here(cursor.number, request))
            encoder_option(e, cursor.number, view.value, view.length);
    encoder_payload(e, from->payload, from->payload_length);
}

/* Options that a proxy knows to be unsafe to forward, and does not process (RFC 7252 5.7.1). */
#define UNSAFE_UNSUPPORTED (SLOT_BIT(SLOT_Q_BLOCK1) | SLOT_BIT(SLOT_Q_BLOCK2))

static bool is_unsafe(const struct message *msg)
{
    return msg->unknown_critical_unsafe || msg->unknown_elective_unsafe ||
           (msg->present & UNSAFE_UNSUPPORTED);
}

/* Sends the request. 0, -EMSGSIZE when it does not fit the far leg, or what outbound_submit()
 * says. */
static int send_request(struct proxy *p, struct forward *f, struct session *s, uint16_t mid,
                        const struct message *msg, bool reliable)
{
    struct messaging *m = p->m;
    enum message_type type = reliable ? TYPE_CON : TYPE_NON;
    uint8_t token[TOKEN_BYTES];
    struct encoder e;
    size_t length;

    token_write(p, f, token);
    encoder_begin(&e, m->scratch, messaging_room(m, &s->flow), type, msg->code, mid, token,
                  TOKEN_BYTES);
    copy_options(&e, msg, true);
    length = encoder_end(&e);
    if (length == 0)
        return -EMSGSIZE;
    return outbound_submit(m, s, type, mid, m->scratch, (uint16_t)length, OWNER_FORWARD,
                           pool_index(&p->forwards, f), &f->outbound);
}

static struct forward *forward_open(struct proxy *p, struct exchange *x, struct session *s,
                                    uint32_t timeout_ms)
{
    struct forward *f = pool_get(&p->forwards);

    if (!f)
        return NULL;
    f->exchange = x;
    f->session = session_index(&p->m->sessions, s);
    f->outbound = POOL_NONE;
    s->forwards++; /* keeps the session: an origin may take longer than one may be idle */
    p->nonces[pool_index(&p->forwards, f)] = (uint32_t)random_u64(&p->m->random) | 1;
    timer_init(&f->deadline, TIMER_FORWARD);
    wheel_arm(&p->m->wheel, &f->deadline, p->m->now + timeout_ms * 1000ull);
    return f;
}

/* What a client gets when its request cannot go out. */
static void refuse(struct messaging *m, struct exchange *x, int err)
{
    switch (err) {
    case -EMSGSIZE:
        exchange_reply_code(m, x, CODE_REQUEST_ENTITY_TOO_LARGE, "too large for the origin's link");
        break;
    case -ENOBUFS:
        m->counters->refused_queue++;
        exchange_reply_code(m, x, CODE_SERVICE_UNAVAILABLE, "the queue to the origin is full");
        break;
    default:
        m->counters->refused_memory++;
        exchange_reply_code(m, x, CODE_SERVICE_UNAVAILABLE, "no memory for another request");
        break;
    }
}

/* The request was admitted: it will be answered, whatever happens. */
static void dispatch(struct proxy *p, const struct request *rq, unsigned upstream)
{
    struct messaging *m = p->m;
    uint32_t index = upstreams_choose(&p->upstreams, upstream, rq->message);
    const struct config_upstream *config = &m->config->upstreams[upstream];
    struct exchange *x = exchange_open(m, rq);
    struct session *s;
    struct forward *f;
    uint16_t mid;
    int err;

    if (!x) {
        m->counters->refused_memory++;
        reply_busy(m, rq, "no memory for another request");
        return;
    }
    s = upstreams_session(&p->upstreams, index, &mid);
    f = s ? forward_open(p, x, s, config->timeout_ms) : NULL;
    if (!f) {
        refuse(m, x, -ENOMEM);
        return;
    }
    err = send_request(p, f, s, mid, rq->message, config->reliable);
    if (err) {
        forward_free(p, f);
        refuse(m, x, err);
        return;
    }
    m->counters->forwards++;
}

void proxy_request(struct proxy *p, struct request *rq, unsigned upstream)
{
    struct messaging *m = p->m;

    if (rq->multicast) { /* never forwarded: one datagram would become one from each gateway */
        m->counters->drop_multicast++;
        return;
    }
    if (!request_admit(m, rq, false))
        return;
    if (is_unsafe(rq->message))
        reply_code(m, rq, CODE_BAD_OPTION, "an option is unsafe to forward");
    else if (p->draining)
        reply_busy(m, rq, "the gateway is stopping");
    else
        dispatch(p, rq, upstream);
}

/* ---- responses ---- */

/* True when the response can go to the client as it is. */
static bool pass_on(struct proxy *p, struct exchange *x, const struct message *response)
{
    struct reply reply;

    if (!exchange_reply_begin(p->m, x, response->code, &reply))
        return true; /* nothing can be sent; the exchange is gone */
    copy_options(&reply.encoder, response, false);
    return exchange_reply_end(p->m, x, &reply);
}

bool proxy_response(struct proxy *p, struct session *s, const struct message *response)
{
    struct forward *f = token_find(p, s, response);
    struct exchange *x;

    if (!f)
        return false;
    if (!code_is_response(response->code)) { /* class 3: no code of it exists (RFC 7252 12.1) */
        fail(p, f, CODE_BAD_GATEWAY, "the origin's answer has an unknown class");
        return true;
    }
    if (is_unsafe(response)) {
        fail(p, f, CODE_BAD_GATEWAY, "the response has an option that is unsafe to forward");
        return true;
    }
    x = f->exchange;
    forward_free(p, f);
    if (!pass_on(p, x, response)) {
        p->m->counters->forward_failures++;
        exchange_reply_code(p->m, x, CODE_BAD_GATEWAY, "the response is too large for this link");
    }
    return true;
}

void proxy_settled(struct proxy *p, uint32_t forward, enum outbound_outcome outcome)
{
    struct forward *f = forward_at(p, forward);

    f->outbound = POOL_NONE;
    switch (outcome) {
    case OUTBOUND_ACKED: /* the response follows, or is in the same message */
        return;
    case OUTBOUND_RESET:
        fail(p, f, CODE_BAD_GATEWAY, "the origin rejected the request");
        return;
    case OUTBOUND_MALFORMED:
        fail(p, f, CODE_BAD_GATEWAY, "the origin's answer is malformed");
        return;
    case OUTBOUND_TIMED_OUT:
        fail(p, f, CODE_GATEWAY_TIMEOUT, "the origin is silent");
        return;
    case OUTBOUND_UNREACHABLE:
        fail(p, f, CODE_GATEWAY_TIMEOUT, "the origin is unreachable");
        return;
    }
}
