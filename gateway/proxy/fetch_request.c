/* What an operation sends to its origin: the request, with its body in as many blocks as it takes
 * (RFC 7959 2.5), and requests for the other blocks of the answer (2.4). */
#include "gateway/proxy/fetch.h"

#include <errno.h>
#include <stddef.h>

#define BY_SERVER offsetof(struct fetch, by_server)

/* ---- the request ---- */

static void token_write(const struct proxy *p, const struct fetch *f, uint8_t token[TOKEN_BYTES])
{
    /* Later blocks of a registration's answer have a token of their own (RFC 7959 3.4). */
    bool observing =
        f->role == FETCH_CANCEL || (f->role == FETCH_REGISTER && f->answer == CONTENT_NONE);
    uint32_t index = observing ? f->observation | UINT32_C(1) << 31 : fetch_index(p, f);
    uint32_t nonce = observing ? p->observation_nonces[f->observation] : p->fetch_nonces[index];

    index ^= p->token_mask;
    memcpy(token, &index, sizeof(index));
    memcpy(token + sizeof(index), &nonce, sizeof(nonce));
}

/* Options that this request has besides its own. */
static unsigned add_options(struct proxy *p, const struct fetch *f, struct addition out[8])
{
    bool going_on = f->answer != CONTENT_NONE;
    bool first = !going_on && f->body_sent == 0;
    unsigned n = 0;

    if (f->validating && first) {
        out[n++] = addition_bytes(OPTION_ETAG, f->etag.bytes, f->etag.length);
    }
    if (f->role == FETCH_REGISTER && !going_on)
        out[n++] = addition_uint(OPTION_OBSERVE, 0);
    if (f->role == FETCH_CANCEL)
        out[n++] = addition_uint(OPTION_OBSERVE, 1);
    if (f->hop_limit)
        out[n++] = addition_uint(OPTION_HOP_LIMIT, f->hop_limit);
    if (going_on || (f->szx < BLOCK_SZX_MAX && (!f->in_blocks || fetch_is_last_block(p, f)))) {
        struct block block = {.szx = f->szx};

        if (going_on)
            block.number =
                content_at(&p->contents, f->answer)->payload_length / fetch_block_bytes(f);
        out[n++] = addition_uint(OPTION_BLOCK2, block_encode(&block));
    }
    if (f->in_blocks && !going_on) {
        struct block block = {.number = f->body_sent / fetch_block_bytes(f), .szx = f->szx};

        block.more = !fetch_is_last_block(p, f);
        out[n++] = addition_uint(OPTION_BLOCK1, block_encode(&block));
        if (f->body_sent == 0)
            out[n++] = addition_uint(OPTION_SIZE1, fetch_body_length(p, f));
    }
    if (f->in_blocks) /* the answer's blocks are asked for with the same one (RFC 9175 3.3) */
        out[n++] = addition_bytes(OPTION_REQUEST_TAG, &f->tag, sizeof(f->tag));
    return n;
}

static void add_body(struct proxy *p, const struct fetch *f, struct encoder *e)
{
    uint32_t length = fetch_body_length(p, f), from = 0;
    uint8_t buffer[MESSAGE_MAX_BYTES];

    if (length == 0)
        return;
    if (f->answer != CONTENT_NONE && (f->method != CODE_FETCH || f->in_blocks))
        return;
    if (f->in_blocks) {
        from = f->body_sent;
        length = length - from < fetch_block_bytes(f) ? length - from : fetch_block_bytes(f);
    }
    if (length > sizeof(buffer)) {
        e->failed = true;
        return;
    }
    encoder_payload(e,
                    rope_view(&p->contents.chunks, fetch_request(p, f), fetch_body_offset(f) + from,
                              length, buffer),
                    length);
}

/* True when nothing is added to the client's options but Hop-Limit, behind all of them. */
static bool is_plain(const struct fetch *f)
{
    return f->last_option <= OPTION_HOP_LIMIT && f->role == FETCH_ANSWER && !f->validating &&
           f->answer == CONTENT_NONE && !f->in_blocks && f->szx == BLOCK_SZX_MAX;
}

static void put_options(struct proxy *p, const struct fetch *f, struct encoder *e)
{
    struct addition additions[8];
    uint8_t buffer[KEY_BYTES];
    const uint8_t *options = rope_view(&p->contents.chunks, fetch_request(p, f),
                                       sizeof(struct space), f->options_length, buffer);

    if (!is_plain(f)) {
        encoder_merge(e, options, f->options_length, additions, add_options(p, f, additions));
        return;
    }
    encoder_raw(e, options, f->options_length);
    e->last_option = f->last_option;
    if (f->hop_limit)
        encoder_option(e, OPTION_HOP_LIMIT, &f->hop_limit, 1);
}

/* Writes the message into the scratch buffer. Its length, 0 when it does not fit. */
static size_t compose(struct proxy *p, const struct fetch *f, const struct session *s, uint16_t mid)
{
    struct messaging *m = p->m;
    uint8_t token[TOKEN_BYTES];
    struct encoder e;

    token_write(p, f, token);
    encoder_begin(&e, m->scratch, messaging_room(m, &s->flow),
                  f->config->reliable ? TYPE_CON : TYPE_NON, f->method, mid, token, TOKEN_BYTES);
    put_options(p, f, &e);
    add_body(p, f, &e);
    return encoder_end(&e);
}

/* ---- sending ---- */

void fetch_unbind(struct proxy *p, struct fetch *f)
{
    if (f->outbound != POOL_NONE)
        outbound_cancel(p->m, f->outbound);
    f->outbound = POOL_NONE;
    if (f->session != POOL_NONE)
        session_at(&p->m->sessions, f->session)->side.upstream.users--;
    f->session = POOL_NONE;
}

static void bind(struct proxy *p, struct fetch *f, struct session *s)
{
    fetch_unbind(p, f);
    f->session = session_index(&p->m->sessions, s);
    s->side.upstream
        .users++; /* keeps the session: an origin may take longer than one may be idle */
    p->fetch_nonces[fetch_index(p, f)] = (uint32_t)random_u64(&p->m->random) | 1;
}

/* What a client gets when its request cannot go out. */
static void fail_to_send(struct proxy *p, struct fetch *f, int err)
{
    const char *why;
    uint8_t code;

    switch (err) {
    case -ECONNREFUSED:
    case -ETIMEDOUT:
    case -EHOSTUNREACH:
    case -EBUSY:
        code = upstreams_code(err, &why);
        fetch_fail(p, fetch_index(p, f), code, why);
        break;
    case -EMSGSIZE:
        fetch_fail(p, fetch_index(p, f), CODE_REQUEST_ENTITY_TOO_LARGE,
                   "too large for the origin's link");
        break;
    case -ENOBUFS:
        p->m->counters->refused_queue++;
        fetch_fail(p, fetch_index(p, f), CODE_SERVICE_UNAVAILABLE,
                   "the queue to the origin is full");
        break;
    case -EAGAIN:
        p->m->counters->drop_no_mid++;
        fetch_fail(p, fetch_index(p, f), CODE_SERVICE_UNAVAILABLE,
                   "no message ID towards the origin is free: it needs more ports");
        break;
    default:
        p->m->counters->refused_memory++;
        fetch_fail(p, fetch_index(p, f), CODE_SERVICE_UNAVAILABLE, "no memory for another request");
        break;
    }
}

/* What concerns a relation at the origin goes over the ports that it was made over: it is known by
 * them and the token (RFC 7641 4.1). */
static struct session *session_for(struct proxy *p, const struct fetch *f, uint16_t *mid)
{
    if (f->role == FETCH_REGISTER || f->role == FETCH_CANCEL) {
        const struct observation *o = observation_at(p, f->observation);

        if (o->session != POOL_NONE && o->server == f->server) {
            struct session *s = session_at(&p->m->sessions, o->session);
            bool there = (f->role == FETCH_CANCEL && !upstreams_is_cut(s)) ||
                         s->side.upstream.server == f->server;

            /* What is renewed follows its host; what ends, ends where it was made. */
            if (there && session_take_mid(s, p->m->now, mid))
                return s;
        }
    }
    return upstreams_session(&p->upstreams, f->server, mid);
}

/* Less of the body at a time, where all its options leave no room on the link. */
static bool use_smaller_blocks(const struct proxy *p, struct fetch *f)
{
    if (f->answer != CONTENT_NONE || f->szx == 0 || fetch_body_length(p, f) <= 16)
        return false;
    f->szx--;
    fetch_divide(p, f);
    return true;
}

static int submit(struct proxy *p, struct fetch *f, struct session *s, uint16_t mid)
{
    enum message_type type = f->config->reliable ? TYPE_CON : TYPE_NON;
    int err = s->unsecured ? upstreams_secure(&p->upstreams, s) : 0;
    size_t length;

    if (err)
        return err;
    bind(p, f, s);
    do
        length = compose(p, f, s, mid);
    while (length == 0 && use_smaller_blocks(p, f));
    if (length == 0)
        return -EMSGSIZE;
    return outbound_submit(p->m, s, type, mid, p->m->scratch, (uint16_t)length, OWNER_FETCH,
                           fetch_index(p, f), &f->outbound);
}

void fetch_send(struct proxy *p, struct fetch *f)
{
    struct session *s;
    uint16_t mid;
    int err = -ENOMEM;

    s = session_for(p, f, &mid);
    if (s) {
        err = submit(p, f, s, mid);
    } else if (upstreams_is_dry(&p->upstreams, f->server)) {
        err = -EAGAIN;
    }
    if (err) {
        f->outbound = POOL_NONE;
        fail_to_send(p, f, err);
    }
}

void fetch_leave_server(struct proxy *p, struct fetch *f)
{
    struct server *server;

    if (f->server == SERVER_NONE)
        return;
    server = &p->upstreams.servers[f->server];
    list_remove(&server->fetches, &p->fetches, BY_SERVER, fetch_index(p, f));
    server->fetch_count--;
    f->server = SERVER_NONE;
}

void fetch_join_server(struct proxy *p, struct fetch *f, uint32_t index)
{
    struct server *server = &p->upstreams.servers[index];

    fetch_leave_server(p, f);
    f->server = index;
    list_push_back(&server->fetches, &p->fetches, BY_SERVER, fetch_index(p, f));
    server->fetch_count++;
}

void fetch_send_anew(struct proxy *p, struct fetch *f)
{
    content_release(&p->contents, f->answer);
    f->answer = CONTENT_NONE;
    f->body_sent = 0;
    fetch_divide(p, f);
    fetch_send(p, f);
}

/* The next block, of the answer or of the body: each has as long as a whole request. */
void fetch_go_further(struct proxy *p, struct fetch *f)
{
    fetch_arm_deadline(p, f);
    fetch_send(p, f);
}
