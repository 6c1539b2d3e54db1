/* One operation at an origin server, from its beginning to its end: who waits for it, its servers,
 * and how it fails. What it sends is in fetch_request.c, what comes back in fetch_answer.c. */
#include "gateway/proxy/fetch.h"

#include <errno.h>
#include <stddef.h>

#include "gateway/memory.h"

#define BY_SERVER offsetof(struct fetch, by_server)
#define BY_FETCH  offsetof(struct wait, by_fetch)

/* ---- opening ---- */

void fetch_arm_deadline(struct proxy *p, struct fetch *f)
{
    wheel_arm(&p->m->wheel, &f->deadline, p->m->now + f->config->timeout_ms * 1000ull);
}

uint32_t fetch_open(struct proxy *p, const struct fetch_setup *setup)
{
    struct fetch *f = pool_get(&p->fetches);

    if (!f)
        return POOL_NONE;
    *f = (struct fetch){
        .server = SERVER_NONE,
        .session = POOL_NONE,
        .outbound = POOL_NONE,
        .target = setup->target,
        .observation = setup->observation,
        .waits = LIST_NONE,
        .request = setup->request,
        .options_length = setup->options_length,
        .last_option = setup->last_option,
        .route = setup->place->route,
        .role = (uint8_t)setup->role,
        .method = setup->place->space.method,
        .hop_limit = setup->hop_limit,
        .szx = setup->place->config->block_szx,
        .shared = setup->shared,
        .answer = CONTENT_NONE,
        .tag = (uint32_t)random_u64(&p->m->random),
        .config = setup->place->config,
        .first = setup->place->first,
        .count = setup->place->count,
        .uri = setup->uri,
        .begun_us = p->m->now,
    };
    if (f->target != TARGET_NONE)
        target_at(&p->targets, f->target)->refs++;
    fetch_divide(p, f);
    timer_init(&f->deadline, TIMER_FETCH);
    fetch_arm_deadline(p, f);
    p->upstreams.outstanding[p->upstreams.servers[f->first].group]++;
    if (setup->server != SERVER_NONE)
        fetch_join_server(p, f, setup->server);
    p->m->counters->forwards++;
    return fetch_index(p, f);
}

/* A stored answer that is too old can be asked about with its ETag (RFC 7252 5.6.2). */
static bool can_validate(const struct proxy *p, const struct fetch *f)
{
    uint32_t content;

    if (f->target == TARGET_NONE || f->role == FETCH_CANCEL || f->role == FETCH_REST)
        return false;
    content = target_at(&p->targets, f->target)->content;
    return content != CONTENT_NONE && content_at(&p->contents, content)->code == CODE_CONTENT &&
           content_at(&p->contents, content)->etag.length &&
           !content_at(&p->contents, content)->own_etag;
}

void fetch_start(struct proxy *p, uint32_t index)
{
    struct fetch *f = fetch_at(p, index);

    f->begun = true;
    if (f->server == SERVER_NONE)
        fetch_join_server(p, f,
                          upstreams_choose(&p->upstreams, f->first, f->count, f->uri, SERVER_NONE));
    f->validating = can_validate(p, f);
    if (f->validating)
        f->etag = content_at(&p->contents, target_at(&p->targets, f->target)->content)->etag;
    if (forward_is_ready(p, index))
        fetch_send(p, f);
}

bool fetch_join(struct proxy *p, uint32_t index, struct exchange *x, const struct wish *wish)
{
    struct wait *wait = pool_get(&p->waits);

    if (!wait)
        return false;
    wait->exchange = x;
    wait->wish = *wish;
    list_push_back(&fetch_at(p, index)->waits, &p->waits, BY_FETCH, pool_index(&p->waits, wait));
    return true;
}

/* ---- the end ---- */

/* Nobody can join any more, and the origin has nothing more to say. */
static void close_upstream(struct proxy *p, struct fetch *f)
{
    uint32_t index = fetch_index(p, f);

    wheel_cancel(&p->m->wheel, &f->deadline);
    fetch_unbind(p, f);
    fetch_leave_server(p, f);
    p->fetch_nonces[index] = 0;
    p->upstreams.outstanding[p->upstreams.servers[f->first].group]--;
    if (f->target != TARGET_NONE && target_at(&p->targets, f->target)->fetch == index)
        target_at(&p->targets, f->target)->fetch = POOL_NONE;
}

static void fetch_free(struct proxy *p, struct fetch *f)
{
    content_release(&p->contents, f->answer);
    rope_free(&p->contents.chunks, &f->request);
    if (f->target != TARGET_NONE)
        target_release(&p->targets, f->target);
    pool_put(&p->fetches, f);
}

void fetch_abort(struct proxy *p, uint32_t index)
{
    struct fetch *f = fetch_at(p, index);

    close_upstream(p, f);
    fetch_free(p, f);
}

/* RFC 7641 4.1: the relation of a client that asked to observe, POOL_NONE where it is not to. */
static uint32_t take_in(struct proxy *p, const struct fetch *f, const struct wait *wait)
{
    uint8_t buffer[MESSAGE_MAX_BYTES];
    const struct exchange *x = wait->exchange;
    struct session *s = session_at(&p->m->sessions, x->session);
    const uint8_t *token;

    if (!wait->wish.observe)
        return POOL_NONE;
    token = exchange_token(p->m, x, buffer);
    if (f->observed && !x->retracted &&
        observation_at(p, f->observation)->state == OBSERVATION_LIVE)
        return relation_add(p, s, token, x->token_length, f->observation, &wait->wish);
    /* An answer without Observe ends what it had (4.2). */
    relation_cancel(p, s, token, x->token_length);
    return POOL_NONE;
}

/* The state may have changed since the first of those who waited were answered: it is the present
 * one that counts. */
static void answer_observer(struct proxy *p, struct wait *wait, uint32_t relation)
{
    struct client to = {.exchange = wait->exchange};

    persist_attach(p, relation_at(p, relation), wait->wish.record);
    wait->wish.record = ROPE_EMPTY;
    relation_accept(p, relation, &to, &wait->wish);
}

/* Answers the one who has waited longest. */
static void hand_out_one(struct proxy *p, struct fetch *f)
{
    uint32_t index = f->waits.head;
    struct wait *wait = pool_at(&p->waits, index);
    struct client to = {.exchange = wait->exchange};
    uint32_t relation;

    list_remove(&f->waits, &p->waits, BY_FETCH, index);
    relation = take_in(p, f, wait);
    if (relation != POOL_NONE)
        answer_observer(p, wait, relation);
    else if (f->raw)
        deliver_as_it_is(p, wait->exchange, f->raw);
    else if (f->answer != CONTENT_NONE)
        (void)deliver(p, &to, f->answer, &wait->wish, NULL);
    else
        deliver_code(p, &to, f->code, f->diagnostic);
    persist_drop_record(p, &wait->wish.record);
    pool_put(&p->waits, wait);
}

/* True when it is over and gone. */
static bool hand_out(struct proxy *p, struct fetch *f, unsigned budget, unsigned *handed)
{
    uint32_t observation = f->observed ? f->observation : POOL_NONE;

    while (f->waits.head != POOL_NONE && budget--) {
        hand_out_one(p, f);
        (*handed)++;
    }
    if (f->waits.head != POOL_NONE)
        return false;
    fetch_free(p, f);
    if (observation != POOL_NONE)
        observation_released(p, observation);
    return true;
}

unsigned fetch_hand_out(struct proxy *p, unsigned budget)
{
    unsigned handed = 0;

    while (p->handouts.head != POOL_NONE && handed < budget) {
        uint32_t index = p->handouts.head;

        list_remove(&p->handouts, &p->fetches, BY_SERVER, index);
        if (!hand_out(p, fetch_at(p, index), budget - handed, &handed))
            list_push_back(&p->handouts, &p->fetches, BY_SERVER, index);
    }
    return handed;
}

/* The outcome is known: f->answer, or f->code. */
void fetch_finish(struct proxy *p, struct fetch *f)
{
    uint32_t index = fetch_index(p, f);
    unsigned handed = 0;

    close_upstream(p, f);
    f->done = true;
    if (f->observation != POOL_NONE)
        f->observed = observation_fetched(p, f);
    if (!hand_out(p, f, HAND_OUT_AT_ONCE, &handed))
        list_push_back(&p->handouts, &p->fetches, BY_SERVER, index);
}

/* A stale answer may stand in for an origin that fails. */
bool fetch_stand_in(struct proxy *p, struct fetch *f)
{
    uint64_t limit_us = p->m->config->cache.stale_if_error_s * UINT64_C(1000000);
    const struct content *old;
    uint32_t content;

    if (!f->shared || f->target == TARGET_NONE || limit_us == 0)
        return false;
    content = target_at(&p->targets, f->target)->content;
    if (content == CONTENT_NONE)
        return false;
    old = content_at(&p->contents, content);
    if (p->m->now - old->received_us > old->max_age_s * UINT64_C(1000000) + limit_us)
        return false;
    content_release(&p->contents, f->answer);
    f->answer = content_hold(&p->contents, content);
    f->stale = true;
    p->m->counters->cache_stale++;
    return true;
}

void fetch_fail(struct proxy *p, uint32_t index, uint8_t code, const char *diagnostic)
{
    struct fetch *f = fetch_at(p, index);

    if (code == CODE_GATEWAY_TIMEOUT)
        p->m->counters->forward_timeouts++;
    else if (f->role != FETCH_CANCEL)
        p->m->counters->forward_failures++;
    content_release(&p->contents, f->answer);
    f->answer = CONTENT_NONE;
    f->code = code;
    f->diagnostic = diagnostic;
    if (code == CODE_GATEWAY_TIMEOUT || code == CODE_BAD_GATEWAY)
        (void)fetch_stand_in(p, f);
    fetch_finish(p, f);
}

/* ---- failure ---- */

void fetch_broken(struct proxy *p, struct fetch *f, const char *why)
{
    fetch_fail(p, fetch_index(p, f), CODE_BAD_GATEWAY, why);
}

/* RFC 7252 5.1: a safe request may be made again, elsewhere; any one that no server has seen, too.
 */
static bool can_move(const struct proxy *p, const struct fetch *f)
{
    return code_is_safe(f->method) ||
           (f->outbound != POOL_NONE && f->body_sent == 0 && f->answer == CONTENT_NONE &&
            f->restarts == 0 && !outbound_was_sent(p->m, f->outbound));
}

static bool try_another(struct proxy *p, struct fetch *f)
{
    uint32_t from = f->server, to;

    if (!can_move(p, f) || f->tries >= f->config->retries || f->count < 2 ||
        f->role == FETCH_CANCEL || f->role == FETCH_REST ||
        !upstreams_any_up(&p->upstreams, f->first, f->count))
        return false;
    to = upstreams_choose(&p->upstreams, f->first, f->count, f->uri, from);
    if (to == SERVER_NONE || to == from)
        return false;
    f->tries++;
    p->m->counters->retries++;
    fetch_unbind(p, f);
    fetch_join_server(p, f, to);
    f->szx = f->config->block_szx;
    f->begun_us = p->m->now;
    fetch_arm_deadline(p, f);
    fetch_send_anew(p, f);
    return true;
}

/* What it was to be answered in has ended. A request that was sent is made anew once, as a server
 * may end each association that it gets one in. */
static void go_again(struct proxy *p, struct fetch *f)
{
    const struct server *server = &p->upstreams.servers[f->server];
    bool sent = f->outbound == POOL_NONE || outbound_was_sent(p->m, f->outbound);

    if (server->down || (sent && f->again) || !can_move(p, f) || f->role == FETCH_CANCEL ||
        f->role == FETCH_REST) {
        fetch_fail(p, fetch_index(p, f), server->lost_code, server->lost_why);
        return;
    }
    fetch_unbind(p, f);
    if (sent) {
        f->again = true;
        f->szx = f->config->block_szx;
        f->begun_us = p->m->now;
        fetch_arm_deadline(p, f);
    }
    fetch_send_anew(p, f);
}

void fetch_server_lost(struct proxy *p, uint32_t index)
{
    struct fetch *f = fetch_at(p, index);

    if (p->upstreams.servers[f->server].down && try_another(p, f)) /* it may be back */
        return;
    if (f->session != POOL_NONE && upstreams_is_cut(session_at(&p->m->sessions, f->session)))
        go_again(p, f);
}

/* Not where its host was before, as its name said then. */
static bool is_where_its_server_is(const struct proxy *p, const struct fetch *f)
{
    return session_at(&p->m->sessions, f->session)->side.upstream.server == f->server;
}

void fetch_settled(struct proxy *p, uint32_t index, enum outbound_outcome outcome)
{
    struct fetch *f = fetch_at(p, index);

    f->outbound = POOL_NONE;
    switch (outcome) {
    case OUTBOUND_ACKED: /* the response follows, or is in the same message */
        upstreams_heard(&p->upstreams, f->server);
        return;
    case OUTBOUND_RESET:
        upstreams_heard(&p->upstreams, f->server);
        fetch_broken(p, f, "the origin rejected the request");
        return;
    case OUTBOUND_MALFORMED:
        fetch_broken(p, f, "the origin's answer is malformed");
        return;
    case OUTBOUND_TIMED_OUT:
    case OUTBOUND_UNREACHABLE:
        /* Not when it has spoken since the last attempt: that was made while it was down. An ICMP
         * error is news of now. */
        if (is_where_its_server_is(p, f) && outcome == OUTBOUND_UNREACHABLE)
            upstreams_failed(&p->upstreams, f->server);
        else if (is_where_its_server_is(p, f) &&
                 p->upstreams.servers[f->server].gate.heard_us <= p->m->settled_sent_us)
            upstreams_silent(&p->upstreams, f->server);
        if (!try_another(p, f))
            fetch_fail(p, index, CODE_GATEWAY_TIMEOUT,
                       outcome == OUTBOUND_TIMED_OUT ? "the origin is silent"
                                                     : "the origin is unreachable");
        return;
    }
}

static void on_deadline(void *context, struct timer *timer, uint64_t now_us)
{
    struct proxy *p = context;
    struct fetch *f = (struct fetch *)(void *)((uint8_t *)timer - offsetof(struct fetch, deadline));

    (void)now_us;
    /* Not a word since the request began: not even an ACK. */
    if (f->server != SERVER_NONE && f->outbound != POOL_NONE && is_where_its_server_is(p, f) &&
        p->upstreams.servers[f->server].gate.heard_us < f->begun_us)
        upstreams_silent(&p->upstreams, f->server);
    if (!try_another(p, f))
        fetch_fail(p, fetch_index(p, f), CODE_GATEWAY_TIMEOUT, "the origin did not answer in time");
}

/* ---- start and end ---- */

int fetches_init(struct proxy *p)
{
    uint32_t count = p->m->config->limits.exchanges + p->m->config->limits.observations;
    int err = pool_init(&p->fetches, sizeof(struct fetch), count);

    p->handouts = LIST_NONE;
    p->fetch_nonces_bytes = sizeof(*p->fetch_nonces) * (size_t)count;
    p->fetch_nonces = memory_reserve(p->fetch_nonces_bytes);
    if (!err)
        err = pool_init(&p->waits, sizeof(struct wait), p->m->config->limits.exchanges);
    wheel_handle(&p->m->wheel, TIMER_FETCH, on_deadline, p);
    return err ? err : p->fetch_nonces ? 0 : -ENOMEM;
}

void fetches_fini(struct proxy *p)
{
    memory_release(p->fetch_nonces, p->fetch_nonces_bytes);
    pool_fini(&p->waits);
    pool_fini(&p->fetches);
}
