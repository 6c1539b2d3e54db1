/* A client's request: what it wants, its key, and which way it goes. */
#include "gateway/bytes.h"
#include "gateway/hash.h"
#include "gateway/proxy/hot.h"
#include "gateway/proxy/request.h"

#define HOP_LIMIT_DEFAULT 16 /* RFC 8768 3 */

/* ---- reading ---- */

static bool refuse(struct asked *a, uint8_t code, const char *reason)
{
    a->refusal = code;
    a->reason = reason;
    return false;
}

/* What becomes of an option on the way to the origin. */
enum fate { FATE_DROP, FATE_KEEP, FATE_URI };

static enum fate fate_of(uint16_t number, const struct asked *a)
{
    switch (number) {
    case OPTION_URI_HOST:
    case OPTION_URI_PORT:
        return a->place->space.forward ? FATE_URI : FATE_DROP;
    case OPTION_URI_PATH:
    case OPTION_URI_QUERY:
        return FATE_URI;
    case OPTION_ECHO: /* ours ends here; another's is the origin's */
        return a->rq->own_echo ? FATE_DROP : FATE_KEEP;
    case OPTION_PROXY_URI:
    case OPTION_PROXY_SCHEME:
    case OPTION_OBSERVE:
    case OPTION_ETAG:
    case OPTION_MAX_AGE:
    case OPTION_HOP_LIMIT:
    case OPTION_BLOCK1:
    case OPTION_BLOCK2:
    case OPTION_SIZE1:
    case OPTION_SIZE2:
    case OPTION_NO_RESPONSE:
        return FATE_DROP;
    default:
        return FATE_KEEP;
    }
}

/* RFC 8768 3: an invalid value is an error; an option that is too long has not been recognised. */
static bool read_hop_limit(struct asked *a, const struct option_view *view)
{
    if (view->length != 1 || view->value[0] == 0)
        return refuse(a, CODE_BAD_REQUEST, "invalid Hop-Limit");
    if (view->value[0] == 1)
        return refuse(a, CODE_HOP_LIMIT_REACHED, NULL);
    a->hop_limit = view->value[0] - 1;
    return true;
}

/* A key that is being built. */
struct reading {
    struct encoder encoder;
    struct option_copy copy;
    struct encoder names; /* the options that name the resource, for their hash */
    bool only_names;      /* there are no others: `names` has not been written */
    unsigned skipped;     /* path segments */
};

/* Options whose fate is known by their numbers: they are kept, in all requests. */
#define PLAIN_OPTIONS                                                        \
    (UINT64_C(1) << OPTION_URI_PATH | UINT64_C(1) << OPTION_CONTENT_FORMAT | \
     UINT64_C(1) << OPTION_URI_QUERY | UINT64_C(1) << OPTION_ACCEPT)

#define PLAIN_SLOTS                                                                       \
    (SLOT_BIT(SLOT_URI_PATH) | SLOT_BIT(SLOT_CONTENT_FORMAT) | SLOT_BIT(SLOT_URI_QUERY) | \
     SLOT_BIT(SLOT_ACCEPT))

/* The longest options that are looked at before their request's turn has come. */
#define EXPECTED_BYTES 64

static bool is_plain(uint16_t number)
{
    return number < 64 && PLAIN_OPTIONS >> number & 1;
}

/* What becomes of any option: `*keep` says whether it goes into the key. */
static bool read_option(struct asked *a, struct reading *r, uint16_t number,
                        const struct option_view *view, bool *keep)
{
    enum fate fate = fate_of(number, a);

    *keep = false;
    if (number == OPTION_HOP_LIMIT && !a->local) {
        if (a->has_hops) /* only the first counts (RFC 7252 5.4.5) */
            return true;
        a->has_hops = true;
        return read_hop_limit(a, view);
    }
    if (number == OPTION_REQUEST_TAG) {
        a->tags = hash_bytes(view->value, view->length, a->tags + number);
        return true;
    }
    if (fate == FATE_DROP)
        return true;
    if (number == OPTION_URI_PATH && r->skipped < a->place->strip) {
        r->skipped++;
        return true;
    }
    if (number == OPTION_ECHO || number == OPTION_IF_MATCH || number == OPTION_IF_NONE_MATCH)
        a->transient = true;
    if (option_is_no_cache_key(number)) {
        a->extras = true;
        if (a->plain)
            return true;
    }
    if (fate == FATE_URI)
        encoder_option(&r->names, number, view->value, view->length);
    *keep = true;
    return true;
}

static bool names_resource(uint16_t number)
{
    return number == OPTION_URI_PATH || number == OPTION_URI_QUERY;
}

static bool read_options(struct asked *a, struct reading *r)
{
    struct option_cursor cursor = option_cursor(a->rq->message);
    bool strips = a->place->strip, keep;
    struct option_view view;

    while (option_next(&cursor, &view)) {
        if (is_plain(cursor.number) && !(strips && cursor.number == OPTION_URI_PATH)) {
            if (names_resource(cursor.number))
                encoder_option(&r->names, cursor.number, view.value, view.length);
            option_copy_keep(&r->copy, &cursor, &view);
            continue;
        }
        if (!read_option(a, r, cursor.number, &view, &keep))
            return false;
        if (keep)
            option_copy_keep(&r->copy, &cursor, &view);
        else
            option_copy_drop(&r->copy, &cursor);
    }
    option_copy_end(&r->copy);
    return true;
}

static void read_names(const struct message *msg, struct encoder *names)
{
    struct option_cursor cursor = option_cursor(msg);
    struct option_view view;

    while (option_next(&cursor, &view))
        if (names_resource(cursor.number))
            encoder_option(names, cursor.number, view.value, view.length);
}

/* The same where all of them are kept as they are: they go over in one piece. False where they are
 * not, and nothing has been done. */
static bool read_plain_options(struct asked *a, struct reading *r)
{
    const struct message *msg = a->rq->message;
    struct option_cursor cursor = option_cursor(msg);
    struct option_view view;
    bool only_names = true;

    if (a->place->strip || (msg->present & ~PLAIN_SLOTS) || msg->options_length > r->encoder.room)
        return false;
    while (option_next(&cursor, &view)) {
        if (!is_plain(cursor.number))
            return false;
        only_names &= names_resource(cursor.number);
    }
    r->only_names = only_names;
    if (!only_names)
        read_names(msg, &r->names);
    bytes_copy(r->encoder.data, msg->options, msg->options_length);
    r->encoder.length = msg->options_length;
    r->encoder.last_option = cursor.number;
    return true;
}

/* The same options that name the resource have the same hash, whatever stood between them. */
static void name_key(const struct proxy *p, struct key *key, const struct space *space,
                     const struct reading *r)
{
    uint64_t options = hash_bytes(key_options(key), key->options_length, p->hash_seed);
    uint64_t names =
        r->only_names ? options : hash_bytes(r->names.data, r->names.length, p->hash_seed);

    key->base = space_hash(space, p->hash_seed);
    key->uri = hash_mix(key->base, names);
    key->hash = hash_mix(hash_mix(key->base, space->method), options);
}

/* Builds the key of the request in p->key, and names its transfer: by all of the key but a payload.
 */
static bool read_key(struct proxy *p, struct asked *a)
{
    const struct message *msg = a->rq->message;
    const struct space *space = &a->place->space;
    struct key *key = &p->key;
    uint8_t names[KEY_BYTES];
    struct reading r = {.encoder = {.data = key->bytes + sizeof(struct space),
                                    .room = KEY_BYTES - sizeof(struct space)},
                        .names = {.data = names, .room = sizeof(names)}};

    a->tags = 0;
    a->has_hops = false;
    memcpy(key->bytes, space, sizeof(struct space));
    if (!read_plain_options(a, &r)) {
        r.copy = option_copy(&r.encoder, msg->options);
        if (!read_options(a, &r))
            return false;
    }
    key->options_length = (uint16_t)r.encoder.length;
    key->last_option = r.encoder.last_option;
    key->length = (uint32_t)sizeof(struct space) + r.encoder.length;
    if (r.encoder.failed || r.names.failed)
        return refuse(a, CODE_BAD_OPTION, "options too long");
    name_key(p, key, space, &r);
    a->wish.transfer = hash_mix(key->hash, a->tags);
    target_expect(&p->targets, key->hash, key->uri);
    if (code_is_safe(msg->code) && msg->payload_length && !a->in_blocks) {
        if (KEY_BYTES - key->length < msg->payload_length)
            return refuse(a, CODE_REQUEST_ENTITY_TOO_LARGE, NULL);
        memcpy(key->bytes + key->length, msg->payload, msg->payload_length);
        key->length += msg->payload_length;
        a->wish.body = hash_bytes(msg->payload, msg->payload_length, p->hash_seed) | 1;
        key->hash = hash_mix(key->hash, a->wish.body);
    }
    return true;
}

void proxy_expect(const struct proxy *p, const struct datagram *d)
{
    uint32_t head = MESSAGE_HEADER_BYTES + (d->data[0] & 0x0f);
    uint32_t length = d->length - head;
    uint64_t options;

    if (d->data[1] != CODE_GET || d->length <= head || length > EXPECTED_BYTES)
        return;
    options = hash_bytes(d->data + head, length, p->hash_seed); /* as name_key() has it */
    target_expect(&p->targets, hash_mix(hash_mix(p->expected_base, CODE_GET), options),
                  hash_mix(p->expected_base, options));
}

static void read_etags(struct wish *wish, const struct message *msg)
{
    struct option_cursor cursor = option_cursor_at(msg, SLOT_ETAG);
    struct option_view view;

    while (wish->etag_count < WISH_ETAGS && option_next_same(&cursor, &view)) {
        struct etag *etag = &wish->etags[wish->etag_count++];

        etag->length = (uint8_t)view.length;
        memcpy(etag->bytes, view.value, view.length);
    }
}

static bool read_blocks(struct asked *a, const struct message *msg)
{
    struct wish *wish = &a->wish;

    wish->block2.szx = BLOCK_SZX_MAX;
    if (message_has(msg, SLOT_BLOCK2)) {
        wish->has_block2 = true;
        if (block_decode(message_uint(msg, SLOT_BLOCK2, 0), &wish->block2) < 0)
            return refuse(a, CODE_BAD_REQUEST, "reserved block size");
    }
    if (message_has(msg, SLOT_BLOCK1)) {
        wish->has_block1 = true;
        wish->block1 = message_uint(msg, SLOT_BLOCK1, 0);
        if (block_decode(wish->block1, &a->block1) < 0)
            return refuse(a, CODE_BAD_REQUEST, "reserved block size");
        a->in_blocks = a->block1.number || a->block1.more;
    }
    return true;
}

/* Options that a proxy knows to be unsafe to forward, and does not process (RFC 7252 5.7.1). */
#define UNSAFE_UNSUPPORTED (SLOT_BIT(SLOT_Q_BLOCK1) | SLOT_BIT(SLOT_Q_BLOCK2))

bool asked_read(struct proxy *p, struct asked *a)
{
    const struct message *msg = a->rq->message;
    uint32_t observe;

    mid_index_expect(&p->m->dedup.index, session_index(&p->m->sessions, a->rq->session), msg->mid);
    a->hop_limit = HOP_LIMIT_DEFAULT;
    if (msg->unknown_critical_unsafe || msg->unknown_elective_unsafe ||
        (msg->present & UNSAFE_UNSUPPORTED))
        return refuse(a, CODE_BAD_OPTION, "an option is unsafe to forward");
    if (!read_blocks(a, msg) || !read_key(p, a))
        return false;
    if (code_is_safe(msg->code) && message_has(msg, SLOT_OBSERVE)) {
        observe = message_uint(msg, SLOT_OBSERVE, 0);
        a->observes = observe == 0;
        a->cancels = observe == 1;
    }
    if (a->observes &&
        a->wish.block2.number) /* RFC 7959 2.6: the rest is fetched without Observe */
        return refuse(a, CODE_BAD_REQUEST, "Observe with a later block");
    if (message_has(msg, SLOT_ETAG) && code_is_safe(msg->code))
        read_etags(&a->wish, msg);
    return true;
}

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
    if (read_key(p, a)) {
        index = target_find(&p->targets, &p->key);
        served = index != TARGET_NONE && serve_cached(p, a, index);
    }
    a->plain = false;
    return served || !read_key(p, a);
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

    proxy_pass(p, rq, &place);
}
