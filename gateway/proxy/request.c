/* A client's request: which way it goes. What it wants is read in asked.c. */
#include "gateway/proxy/hot.h"
#include "gateway/proxy/request.h"
#include "gateway/proxy/tell.h"

/* ---- refusing ---- */

bool asked_admit(struct proxy *p, struct asked *a, bool pure)
{
    if (!a->admitted)
        a->admitted = request_admit(p->m, a->rq, pure);
    return a->admitted;
}

void asked_refuse(struct proxy *p, struct asked *a)
{
    if (a->refusal == CODE_HOP_LIMIT_REACHED) /* RFC 8768 4: where the loop was found */
        a->reason = p->m->config->instance;
    if (asked_admit(p, a, true))
        reply_code(p->m, a->rq, a->refusal, a->reason);
}

bool asked_is_limited(struct proxy *p, struct asked *a)
{
    struct messaging *m = p->m;

    if (p->draining) {
        reply_busy(m, a->rq, "the gateway is stopping");
    } else if (a->rq->session->exchange_count >= m->config->limits.client_requests) {
        m->counters->refused_client++;
        reply_code(m, a->rq, CODE_TOO_MANY_REQUESTS, "too many requests at a time");
    } else {
        return false;
    }
    return true;
}

static bool is_origin_full(const struct proxy *p, const struct asked *a)
{
    uint16_t group = p->upstreams.servers[a->place->first].group;

    return p->upstreams.outstanding[group] >= a->place->config->outstanding;
}

/* The same; it has been answered then. */
static bool refused_by_origin(struct proxy *p, struct asked *a)
{
    if (!is_origin_full(p, a))
        return false;
    p->m->counters->refused_queue++;
    reply_busy(p->m, a->rq, "too many requests are at the origin");
    return true;
}

void request_refuse_memory(struct proxy *p, struct request *rq)
{
    p->m->counters->refused_memory++;
    reply_busy(p->m, rq, "no memory for another request");
}

/* ---- going to the origin ---- */

/* Opens an operation and lets this client wait for it. `body` is the whole request where it has no
 * target; it is taken over. */
static void open_for(struct proxy *p, struct asked *a, uint32_t target, struct rope body)
{
    struct fetch_setup setup = {
        .role = FETCH_ANSWER,
        .place = a->place,
        .server = SERVER_NONE,
        .target = target,
        .request = body,
        .options_length = p->key.options_length,
        .last_option = p->key.last_option,
        .observation = POOL_NONE,
        .uri = p->key.uri,
        .hop_limit = a->hop_limit,
        .shared = target != TARGET_NONE,
    };
    struct exchange *x = exchange_open(p->m, a->rq);
    uint32_t fetch = x ? fetch_open(p, &setup) : POOL_NONE;

    if (fetch == POOL_NONE) {
        rope_free(&p->contents.chunks, &body);
        if (!x) {
            request_refuse_memory(p, a->rq);
            return;
        }
        p->m->counters->refused_memory++;
        exchange_reply_code(p->m, x, CODE_SERVICE_UNAVAILABLE, "no memory for another request");
        return;
    }
    if (!fetch_join(p, fetch, x, &a->wish)) {
        fetch_abort(p, fetch);
        p->m->counters->refused_memory++;
        exchange_reply_code(p->m, x, CODE_SERVICE_UNAVAILABLE, "no memory for another request");
        return;
    }
    if (target != TARGET_NONE)
        target_at(&p->targets, target)->fetch = fetch;
    fetch_start(p, fetch);
}

static void go(struct proxy *p, struct asked *a, uint32_t target, struct rope body)
{
    if (refused_by_origin(p, a))
        rope_free(&p->contents.chunks, &body);
    else
        open_for(p, a, target, body);
}

/* A request that has nothing to do with any other. */
static void go_alone(struct proxy *p, struct asked *a)
{
    const struct message *msg = a->rq->message;
    struct rope request = ROPE_EMPTY;

    /* The key of a safe request has its payload already. */
    if (contents_append(&p->contents, &request, p->key.bytes, p->key.length) &&
        (code_is_safe(msg->code) ||
         contents_append(&p->contents, &request, msg->payload, msg->payload_length))) {
        go(p, a, TARGET_NONE, request);
        return;
    }
    rope_free(&p->contents.chunks, &request);
    request_refuse_memory(p, a->rq);
}

/* RFC 8768 3: a request that has come round a loop must not wait for itself, but use its hops up;
 * nor may one with many hops left fail with one that had few. */
static bool may_join(const struct proxy *p, const struct asked *a, uint32_t fetch)
{
    return fetch_at(p, fetch)->hop_limit == a->hop_limit;
}

/* Waits for what is under way already. */
static void join(struct proxy *p, struct asked *a, uint32_t fetch)
{
    struct exchange *x = exchange_open(p->m, a->rq);

    if (!x) {
        request_refuse_memory(p, a->rq);
        return;
    }
    if (a->wish.observe)
        a->wish.record = persist_record(p, a->rq);
    if (fetch_join(p, fetch, x, &a->wish)) {
        p->m->counters->joined++;
        return;
    }
    persist_drop_record(p, &a->wish.record);
    p->m->counters->refused_memory++;
    exchange_reply_code(p->m, x, CODE_SERVICE_UNAVAILABLE, "no memory for another request");
}

/* ---- observing ---- */

/* A registration of before a restart. Nobody waits for an answer: the client is told the state
 * soon, and the origin is asked for it, but not for all of them at once. */
static void observe_again(struct proxy *p, struct asked *a, uint32_t target)
{
    struct request *rq = a->rq;
    uint32_t relation = POOL_NONE, index;

    index = relation_may_add(p, rq->session, rq->message) ? observation_get(p, target) : POOL_NONE;
    if (index != POOL_NONE)
        relation = relation_add(p, rq->session, rq->message->token, rq->message->token_length,
                                index, &a->wish);
    if (relation == POOL_NONE) {
        if (index != POOL_NONE)
            observation_left(p, index);
        request_refuse_memory(p, rq);
        return;
    }
    persist_attach(p, relation_at(p, relation), persist_record(p, rq));
    relation_resume(p, relation);
    if (!observation_is_fresh(p, observation_at(p, index)))
        observation_defer(p, index, a->place, a->hop_limit, p->m->config->store.resume_spread_us);
}

/* Registers, or refreshes. False when the request is to be answered as a plain one. */
static bool observe(struct proxy *p, struct asked *a, uint32_t target)
{
    struct request *rq = a->rq;
    struct client to = {.rq = rq};
    struct observation *o;
    uint32_t index, relation;

    if (!relation_may_add(p, rq->session, rq->message))
        return false;
    index = observation_get(p, target);
    if (index == POOL_NONE)
        return false;
    o = observation_at(p, index);
    if (observation_is_fresh(p, o)) {
        relation = relation_add(p, rq->session, rq->message->token, rq->message->token_length,
                                index, &a->wish);
        if (relation == POOL_NONE) {
            (void)deliver(p, &to, o->content, &a->wish, NULL);
            return true;
        }
        persist_attach(p, relation_at(p, relation), persist_record(p, rq));
        relation_accept(p, relation, &to, &a->wish);
        return true;
    }
    if ((o->fetch == POOL_NONE || fetch_at(p, o->fetch)->role == FETCH_REST) &&
        (is_origin_full(p, a) || !observation_register(p, index, a->place, a->hop_limit))) {
        observation_left(p, index);
        return false;
    }
    a->wish.observe = true;
    if (o->fetch != POOL_NONE && fetch_at(p, o->fetch)->role == FETCH_REGISTER &&
        may_join(p, a, o->fetch)) {
        index = o->fetch;
        join(p, a, index);
        if (!fetch_at(p, index)->begun)
            fetch_start(p, index);
        return true;
    }
    return false;
}

/* ---- safe requests ---- */

static bool is_fresh(const struct proxy *p, const struct target *target)
{
    return target->content != CONTENT_NONE &&
           content_is_fresh(content_at(&p->contents, target->content), p->m->now);
}

bool asked_deliver_pinned(struct proxy *p, struct asked *a)
{
    struct client to = {.rq = a->rq};
    uint32_t content = transfer_find(p, a->rq->session, &a->wish);

    if (content == CONTENT_NONE)
        return false;
    (void)deliver(p, &to, content, &a->wish, NULL);
    return true;
}

bool asked_serve_pinned(struct proxy *p, struct asked *a)
{
    if (transfer_find(p, a->rq->session, &a->wish) == CONTENT_NONE)
        return false;
    if (asked_admit(p, a, true))
        (void)asked_deliver_pinned(p, a);
    return true;
}

/* What is kept for its bytes alone is anybody's who sends them. */
static bool is_for_some(const struct proxy *p, const struct asked *a)
{
    return a->place->route != ROUTE_NONE && p->m->config->routes[a->place->route].allow_count;
}

static bool serve_cached(struct proxy *p, struct asked *a, uint32_t index)
{
    struct client to = {.rq = a->rq};
    struct target *target = target_at(&p->targets, index);

    if (!is_fresh(p, target))
        return false;
    if (!asked_admit(p, a, true))
        return true;
    p->m->counters->cache_hits++;
    target_touch(&p->targets, index);
    if (!is_for_some(p, a))
        hot_note(p, a->rq, index);
    (void)deliver(p, &to, target->content, &a->wish, NULL);
    return true;
}

/* RFC 7252 5.6: what is stored is good whatever options that are no cache key say. */
static bool serve_without_extras(struct proxy *p, struct asked *a)
{
    bool served = false;
    uint32_t index;

    a->plain = true;
    if (asked_read_key(p, a)) {
        index = target_find(&p->targets, &p->key);
        served = index != TARGET_NONE && serve_cached(p, a, index);
    }
    a->plain = false;
    return served || !asked_read_key(p, a);
}

static void ask_target(struct proxy *p, struct asked *a, uint32_t index)
{
    const struct target *target = target_at(&p->targets, index);

    if (a->rq->resumed) {
        observe_again(p, a, index);
        return;
    }
    if (a->observes && (observe(p, a, index) || serve_cached(p, a, index)))
        return;
    if (target->fetch != POOL_NONE && may_join(p, a, target->fetch))
        join(p, a, target->fetch);
    else if (target->fetch != POOL_NONE)
        go_alone(p, a);
    else
        go(p, a, index, ROPE_EMPTY);
}

bool asked_deregister(struct proxy *p, struct asked *a)
{
    if (!asked_admit(p, a, false))
        return false;
    relation_deregister(p, a->rq->session, a->rq->message->token, a->rq->message->token_length);
    return true;
}

static void ask_safe(struct proxy *p, struct asked *a)
{
    uint32_t index;

    if (a->cancels && !asked_deregister(p, a))
        return;
    if (a->wish.block2.number && asked_serve_pinned(p, a))
        return;
    if (a->extras && !a->transient && !a->observes && serve_without_extras(p, a))
        return;
    if (a->extras)
        a->transient = true;
    index = a->transient ? TARGET_NONE : target_find(&p->targets, &p->key);
    if (index != TARGET_NONE && !a->observes && serve_cached(p, a, index))
        return;
    if (!asked_admit(p, a, false) || (!a->rq->resumed && asked_is_limited(p, a)))
        return;
    if (a->transient) {
        go_alone(p, a);
        return;
    }
    p->m->counters->cache_misses++;
    if (p->expecting < EXPECTING_MAX)
        p->expecting += EXPECTING_EACH;
    p->expected_base = p->key.base;
    if (index == TARGET_NONE)
        index = target_add(&p->targets, &p->key);
    else
        target_at(&p->targets, index)->refs++;
    if (index == TARGET_NONE) {
        request_refuse_memory(p, a->rq);
        return;
    }
    ask_target(p, a, index);
    target_release(&p->targets, index);
}

/* ---- requests with a body in blocks ---- */

static void ask_in_blocks(struct proxy *p, struct asked *a)
{
    struct rope body;

    /* A block in the middle does no harm when it comes again; the first one would begin anew, and
     * the last one is the request. */
    if (!asked_admit(p, a, a->block1.more && a->block1.number))
        return;
    if (!transfer_upload(p, a->rq, &a->wish, &a->block1, &body))
        return;
    /* A client may send the question of a FETCH again for each block of the answer. */
    if ((a->wish.block2.number && asked_deliver_pinned(p, a)) || asked_is_limited(p, a)) {
        rope_free(&p->contents.chunks, &body);
        return;
    }
    go(p, a, TARGET_NONE, body);
}

/* ---- the way in ---- */

void proxy_pass(struct proxy *p, struct request *rq, const struct place *place)
{
    struct asked a = {.rq = rq, .place = place};

    if (rq->multicast) { /* never forwarded: one datagram would become one from each gateway */
        p->m->counters->drop_multicast++;
        return;
    }
    if (!asked_read(p, &a)) {
        asked_refuse(p, &a);
        return;
    }
    if (a.in_blocks) {
        ask_in_blocks(p, &a);
    } else if (code_is_safe(rq->message->code)) {
        ask_safe(p, &a);
    } else if (a.wish.block2.number) { /* the rest of an answer: nothing is done a second time */
        if (!asked_serve_pinned(p, &a) && request_admit(p->m, rq, true))
            reply_code(p->m, rq, CODE_REQUEST_ENTITY_INCOMPLETE, "the answer is not kept any more");
    } else if (request_admit(p->m, rq, false) && !asked_is_limited(p, &a)) {
        go_alone(p, &a);
    }
}

/* The origin hears who it is from. What is kept of a registration is what came. */
static __attribute__((noinline)) void pass_told(struct proxy *p, struct request *rq,
                                                const struct place *place)
{
    const struct message *came = rq->message, *original = rq->original;
    struct told told;

    if (tell_write(&told, came, place->config,
                   security_principal(p->m->security, &rq->session->flow)) < 0) {
        if (!rq->multicast && request_admit(p->m, rq, true))
            reply_code(p->m, rq, CODE_REQUEST_ENTITY_TOO_LARGE, "the request is too long");
        return;
    }
    rq->message = &told.message;
    rq->original = original ? original : came;
    proxy_pass(p, rq, place);
    rq->message = came;
    rq->original = original;
}

void proxy_request(struct proxy *p, struct request *rq, unsigned route)
{
    const struct config_route *r = &p->m->config->routes[route];
    const struct config_upstream *upstream = &p->m->config->upstreams[r->upstream];
    struct place place = {
        .config = upstream,
        .first = p->upstreams.first[r->upstream],
        .count = upstream->server_count,
        .route = route,
        .strip = r->strip_segments,
        .space = {.method = rq->message->code, .upstream = (uint16_t)r->upstream},
    };

    if (upstream->tell_client == CONFIG_TELL_NONE)
        proxy_pass(p, rq, &place);
    else
        pass_told(p, rq, &place);
}
