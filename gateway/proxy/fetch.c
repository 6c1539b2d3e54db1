/* One operation at an origin server: a request, with its body in as many blocks as it takes (RFC
 * 7959 2.5), the answer with all its blocks (2.4), and another server when one fails. */
#include <errno.h>
#include <stddef.h>

#include "gateway/memory.h"
#include "gateway/proxy/proxy.h"

#define BY_SERVER offsetof(struct fetch, by_server)
#define BY_FETCH  offsetof(struct wait, by_fetch)

/* How often a transfer begins anew because the representation changed under it. */
#define RESTARTS_MAX 2

static struct contents *contents(struct proxy *p)
{
    return &p->contents;
}

static uint32_t index_of(const struct proxy *p, const struct fetch *f)
{
    return pool_index(&p->fetches, f);
}

/* ---- the request ---- */

static const struct rope *request_of(const struct proxy *p, const struct fetch *f)
{
    return f->request.length ? &f->request : &target_at(&p->targets, f->target)->key;
}

static uint32_t body_offset(const struct fetch *f)
{
    return (uint32_t)sizeof(struct space) + f->options_length;
}

static uint32_t body_length(const struct proxy *p, const struct fetch *f)
{
    return request_of(p, f)->length - body_offset(f);
}

static uint32_t block_bytes(const struct fetch *f)
{
    return 16u << f->szx;
}

static bool is_last_block(const struct proxy *p, const struct fetch *f)
{
    return f->body_sent + block_bytes(f) >= body_length(p, f);
}

static void token_write(const struct proxy *p, const struct fetch *f, uint8_t token[TOKEN_BYTES])
{
    /* Later blocks of a registration's answer have a token of their own (RFC 7959 3.4). */
    bool observing =
        f->role == FETCH_CANCEL || (f->role == FETCH_REGISTER && f->answer == CONTENT_NONE);
    uint32_t index = observing ? f->observation | UINT32_C(1) << 31 : index_of(p, f);
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
    if (going_on || (f->szx < BLOCK_SZX_MAX && (!f->in_blocks || is_last_block(p, f)))) {
        struct block block = {.szx = f->szx};

        if (going_on)
            block.number = content_at(contents(p), f->answer)->payload_length / block_bytes(f);
        out[n++] = addition_uint(OPTION_BLOCK2, block_encode(&block));
    }
    if (f->in_blocks && !going_on) {
        struct block block = {.number = f->body_sent / block_bytes(f), .szx = f->szx};

        block.more = !is_last_block(p, f);
        out[n++] = addition_uint(OPTION_BLOCK1, block_encode(&block));
        if (f->body_sent == 0)
            out[n++] = addition_uint(OPTION_SIZE1, body_length(p, f));
    }
    if (f->in_blocks) /* the answer's blocks are asked for with the same one (RFC 9175 3.3) */
        out[n++] = addition_bytes(OPTION_REQUEST_TAG, &f->tag, sizeof(f->tag));
    return n;
}

static void add_body(struct proxy *p, const struct fetch *f, struct encoder *e)
{
    uint32_t length = body_length(p, f), from = 0;
    uint8_t bytes[MESSAGE_MAX_BYTES];

    if (f->answer != CONTENT_NONE && (f->method != CODE_FETCH || f->in_blocks))
        return;
    if (f->in_blocks) {
        from = f->body_sent;
        length = length - from < block_bytes(f) ? length - from : block_bytes(f);
    }
    if (length > sizeof(bytes)) {
        e->failed = true;
        return;
    }
    rope_read(&contents(p)->chunks, request_of(p, f), NULL, body_offset(f) + from, bytes, length);
    encoder_payload(e, bytes, length);
}

/* Writes the message into the scratch buffer. Its length, 0 when it does not fit. */
static size_t compose(struct proxy *p, const struct fetch *f, const struct session *s, uint16_t mid)
{
    struct messaging *m = p->m;
    uint8_t token[TOKEN_BYTES], options[KEY_BYTES];
    struct addition additions[8];
    struct encoder e;
    unsigned n;

    token_write(p, f, token);
    encoder_begin(&e, m->scratch, messaging_room(m, &s->flow),
                  f->config->reliable ? TYPE_CON : TYPE_NON, f->method, mid, token, TOKEN_BYTES);
    rope_read(&contents(p)->chunks, request_of(p, f), NULL, sizeof(struct space), options,
              f->options_length);
    n = add_options(p, f, additions);
    encoder_merge(&e, options, f->options_length, additions, n);
    add_body(p, f, &e);
    return encoder_end(&e);
}

/* ---- sending ---- */

static void unbind(struct proxy *p, struct fetch *f)
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
    unbind(p, f);
    f->session = session_index(&p->m->sessions, s);
    s->side.upstream
        .users++; /* keeps the session: an origin may take longer than one may be idle */
    p->fetch_nonces[index_of(p, f)] = (uint32_t)random_u64(&p->m->random) | 1;
}

/* What a client gets when its request cannot go out. */
static void fail_to_send(struct proxy *p, struct fetch *f, int err)
{
    switch (err) {
    case -EMSGSIZE:
        fetch_fail(p, index_of(p, f), CODE_REQUEST_ENTITY_TOO_LARGE,
                   "too large for the origin's link");
        break;
    case -ENOBUFS:
        p->m->counters->refused_queue++;
        fetch_fail(p, index_of(p, f), CODE_SERVICE_UNAVAILABLE, "the queue to the origin is full");
        break;
    default:
        p->m->counters->refused_memory++;
        fetch_fail(p, index_of(p, f), CODE_SERVICE_UNAVAILABLE, "no memory for another request");
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

            if (session_take_mid(s, p->m->now, mid))
                return s;
        }
    }
    return upstreams_session(&p->upstreams, f->server, mid);
}

/* Less of the body at a time, where all its options leave no room on the link. */
static bool use_smaller_blocks(const struct proxy *p, struct fetch *f)
{
    if (f->answer != CONTENT_NONE || f->szx == 0 || body_length(p, f) <= 16)
        return false;
    f->szx--;
    f->in_blocks = body_length(p, f) > block_bytes(f);
    return true;
}

static void send_request(struct proxy *p, struct fetch *f)
{
    struct messaging *m = p->m;
    struct session *s;
    size_t length;
    uint16_t mid;
    int err = -ENOMEM;

    s = session_for(p, f, &mid);
    if (s) {
        bind(p, f, s);
        do
            length = compose(p, f, s, mid);
        while (length == 0 && use_smaller_blocks(p, f));
        err = length ? outbound_submit(m, s, f->config->reliable ? TYPE_CON : TYPE_NON, mid,
                                       m->scratch, (uint16_t)length, OWNER_FETCH, index_of(p, f),
                                       &f->outbound)
                     : -EMSGSIZE;
    }
    if (err) {
        f->outbound = POOL_NONE;
        fail_to_send(p, f, err);
    }
}

static void leave_server(struct proxy *p, struct fetch *f)
{
    struct server *server;

    if (f->server == SERVER_NONE)
        return;
    server = &p->upstreams.servers[f->server];
    list_remove(&server->fetches, &p->fetches, BY_SERVER, index_of(p, f));
    server->fetch_count--;
    f->server = SERVER_NONE;
}

static void join_server(struct proxy *p, struct fetch *f, uint32_t index)
{
    struct server *server = &p->upstreams.servers[index];

    leave_server(p, f);
    f->server = index;
    list_push_back(&server->fetches, &p->fetches, BY_SERVER, index_of(p, f));
    server->fetch_count++;
}

/* ---- opening ---- */

static void arm_deadline(struct proxy *p, struct fetch *f)
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
    f->in_blocks = body_length(p, f) > block_bytes(f);
    timer_init(&f->deadline, TIMER_FETCH);
    arm_deadline(p, f);
    p->upstreams.outstanding[p->upstreams.servers[f->first].group]++;
    if (setup->server != SERVER_NONE)
        join_server(p, f, setup->server);
    p->m->counters->forwards++;
    return index_of(p, f);
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
        join_server(p, f, upstreams_choose(&p->upstreams, f->first, f->count, f->uri, SERVER_NONE));
    f->validating = can_validate(p, f);
    if (f->validating)
        f->etag = content_at(contents(p), target_at(&p->targets, f->target)->content)->etag;
    if (forward_is_ready(p, index))
        send_request(p, f);
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
    uint32_t index = index_of(p, f);

    wheel_cancel(&p->m->wheel, &f->deadline);
    unbind(p, f);
    leave_server(p, f);
    p->fetch_nonces[index] = 0;
    p->upstreams.outstanding[p->upstreams.servers[f->first].group]--;
    if (f->target != TARGET_NONE && target_at(&p->targets, f->target)->fetch == index)
        target_at(&p->targets, f->target)->fetch = POOL_NONE;
}

static void fetch_free(struct proxy *p, struct fetch *f)
{
    content_release(contents(p), f->answer);
    rope_free(&contents(p)->chunks, &f->request);
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
static void answer_observer(struct proxy *p, const struct fetch *f, struct wait *wait,
                            uint32_t relation)
{
    struct observation *o = observation_at(p, f->observation);
    struct client to = {.exchange = wait->exchange};

    if (!relation_answer(p, relation, wait->exchange) &&
        !deliver(p, &to, o->content, &wait->wish, o))
        relation_drop(p, relation);
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
        answer_observer(p, f, wait, relation);
    else if (f->answer != CONTENT_NONE)
        (void)deliver(p, &to, f->answer, &wait->wish, NULL);
    else
        deliver_code(p, &to, f->code, f->diagnostic);
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
static void finish(struct proxy *p, struct fetch *f)
{
    uint32_t index = index_of(p, f);
    unsigned handed = 0;

    close_upstream(p, f);
    f->done = true;
    if (f->observation != POOL_NONE)
        f->observed = observation_fetched(p, f);
    if (!hand_out(p, f, HAND_OUT_AT_ONCE, &handed))
        list_push_back(&p->handouts, &p->fetches, BY_SERVER, index);
}

/* A stale answer may stand in for an origin that fails. */
static bool stand_in(struct proxy *p, struct fetch *f)
{
    uint64_t limit_us = p->m->config->cache.stale_if_error_s * UINT64_C(1000000);
    const struct content *old;
    uint32_t content;

    if (!f->shared || f->target == TARGET_NONE || limit_us == 0)
        return false;
    content = target_at(&p->targets, f->target)->content;
    if (content == CONTENT_NONE)
        return false;
    old = content_at(contents(p), content);
    if (p->m->now - old->received_us > old->max_age_s * UINT64_C(1000000) + limit_us)
        return false;
    content_release(contents(p), f->answer);
    f->answer = content_hold(contents(p), content);
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
    content_release(contents(p), f->answer);
    f->answer = CONTENT_NONE;
    f->code = code;
    f->diagnostic = diagnostic;
    if (code == CODE_GATEWAY_TIMEOUT || code == CODE_BAD_GATEWAY)
        (void)stand_in(p, f);
    finish(p, f);
}

/* ---- a good answer ---- */

/* RFC 7252 5.9.1.2 to 5.9.3: what may be kept. Failures of class 5 only when the origin says for
 * how long: a minute of them, the default, would be the gateway's making. */
bool fetch_is_cacheable(const struct content *content)
{
    switch (content->code) {
    case CODE_CONTENT:
        return content->max_age_s > 0 || (content->etag.length && !content->own_etag);
    case CODE_UNAUTHORIZED:
    case CODE_REQUEST_ENTITY_INCOMPLETE:
    case CODE_PRECONDITION_FAILED:
    case CODE_REQUEST_ENTITY_TOO_LARGE:
    case CODE_TOO_MANY_REQUESTS:
    case CODE_HOP_LIMIT_REACHED:
        return false; /* these speak of one client or one request */
    default:
        break;
    }
    if (code_class(content->code) == 4)
        return content->max_age_s > 0;
    return code_class(content->code) == 5 && content->has_max_age && content->max_age_s > 0;
}

static bool changes_state(const struct fetch *f, uint8_t code)
{
    return !code_is_safe(f->method) && code_class(code) == 2;
}

/* The resource is another one now: here and for the other workers. */
static void changed(struct proxy *p, uint64_t uri)
{
    proxy_invalidate(p, uri);
    if (p->m->io.changed)
        p->m->io.changed(p->m->io.context, uri);
}

static void complete(struct proxy *p, struct fetch *f)
{
    const struct content *content = content_at(contents(p), f->answer);

    f->code = content->code;
    if (code_class(content->code) == 5 && stand_in(p, f)) {
        finish(p, f);
        return;
    }
    if (changes_state(f, content->code))
        changed(p, f->uri);
    if (f->shared && f->target != TARGET_NONE && f->role != FETCH_CANCEL) {
        if (fetch_is_cacheable(content))
            target_store(&p->targets, f->target, f->answer);
        else
            target_forget(&p->targets, f->target);
    }
    finish(p, f);
}

/* A 2.03 says what is valid (RFC 7252 5.9.1.3); one that does not can only mean what was sent. */
static bool names(const struct message *msg, const struct etag *etag)
{
    const struct option_view *view = &msg->first[SLOT_ETAG];

    return !message_has(msg, SLOT_ETAG) ||
           (view->length == etag->length && memcmp(view->value, etag->bytes, etag->length) == 0);
}

/* The stored answer is still good. */
static void complete_valid(struct proxy *p, struct fetch *f, const struct message *msg)
{
    uint32_t content = target_at(&p->targets, f->target)->content;

    /* It was given up or replaced meanwhile: then this is no word about it, and the whole is asked
     * for. */
    if (content == CONTENT_NONE || !etag_equal(&content_at(contents(p), content)->etag, &f->etag) ||
        !names(msg, &f->etag)) {
        f->validating = false;
        send_request(p, f);
        return;
    }
    p->m->counters->cache_validated++;
    content_refresh(content_at(contents(p), content), msg, p->m->now);
    target_touch(&p->targets, f->target);
    f->answer = content_hold(contents(p), content);
    finish(p, f);
}

/* ---- answers ---- */

static void send_from_start(struct proxy *p, struct fetch *f)
{
    content_release(contents(p), f->answer);
    f->answer = CONTENT_NONE;
    f->body_sent = 0;
    f->in_blocks = body_length(p, f) > block_bytes(f);
    send_request(p, f);
}

static void broken(struct proxy *p, struct fetch *f, const char *why)
{
    fetch_fail(p, index_of(p, f), CODE_BAD_GATEWAY, why);
}

/* The route's own path segments before those that the origin names (Location-Path). */
static size_t put_prefix_back(struct proxy *p, const struct fetch *f, const struct message *msg,
                              uint8_t *out, size_t room)
{
    const struct config_route *route = &p->m->config->routes[f->route];
    struct option_cursor cursor = option_cursor(msg);
    struct option_view view;
    struct encoder e;
    bool done = false;

    encoder_begin(&e, out, room, TYPE_NON, msg->code, 0, NULL, 0);
    while (option_next(&cursor, &view)) {
        if (!done && cursor.number == OPTION_LOCATION_PATH) {
            const char *at = route->path;

            for (unsigned i = 0; i < route->strip_segments; i++) {
                size_t length = strcspn(++at, "/");
                uint8_t segment[256];
                int decoded = uri_decode(at, length, segment);

                encoder_option(&e, OPTION_LOCATION_PATH, segment,
                               decoded > 0 ? (size_t)decoded : 0);
                at += length;
            }
            done = true;
        }
        encoder_option(&e, cursor.number, view.value, view.length);
    }
    encoder_payload(&e, msg->payload, msg->payload_length);
    return encoder_end(&e);
}

/* RFC 8768 4: we stand before those who were reached behind us. */
static size_t put_name_in_front(struct proxy *p, const struct message *msg, uint8_t *out,
                                size_t room)
{
    const char *name = p->m->config->instance;
    uint8_t payload[MESSAGE_MAX_BYTES];
    size_t length = strlen(name);
    struct encoder e;

    memcpy(payload, name, length);
    if (msg->payload_length && msg->payload_length < sizeof(payload) - length - 1) {
        payload[length++] = ' ';
        memcpy(payload + length, msg->payload, msg->payload_length);
        length += msg->payload_length;
    }
    encoder_begin(&e, out, room, TYPE_NON, msg->code, 0, NULL, 0);
    encoder_merge(&e, msg->options, msg->options_length, NULL, 0);
    encoder_payload(&e, payload, length);
    return encoder_end(&e);
}

/* The first or only message of an answer becomes a content. */
static bool begin_answer(struct proxy *p, struct fetch *f, const struct message *msg)
{
    uint8_t rewritten[MESSAGE_MAX_BYTES];
    struct message other;

    if (msg->code == CODE_HOP_LIMIT_REACHED) {
        size_t length = put_name_in_front(p, msg, rewritten, sizeof(rewritten));

        if (length && message_parse(rewritten, length, &other) == VERDICT_OK)
            msg = &other;
    }

    if (f->route != ROUTE_NONE && p->m->config->routes[f->route].strip_segments &&
        message_has(msg, SLOT_LOCATION_PATH)) {
        size_t length = put_prefix_back(p, f, msg, rewritten, sizeof(rewritten));

        if (length == 0 || message_parse(rewritten, length, &other) != VERDICT_OK) {
            broken(p, f, "the origin's Location-Path is too long");
            return false;
        }
        msg = &other;
    }
    f->answer = content_create(contents(p), msg, p->m->now);
    if (message_has(msg, SLOT_ECHO))
        f->shared = false; /* a challenge is for one client */
    if (f->answer != CONTENT_NONE)
        return true;
    p->m->counters->refused_memory++;
    fetch_fail(p, index_of(p, f), CODE_SERVICE_UNAVAILABLE, "no memory for the answer");
    return false;
}

/* The next block, of the answer or of the body: each has as long as a whole request. */
static void go_further(struct proxy *p, struct fetch *f)
{
    arm_deadline(p, f);
    send_request(p, f);
}

/* Blocks are not asked for in a larger size than is configured, whatever came. */
static void take_size(struct fetch *f, const struct block *block)
{
    if (block->szx < f->szx)
        f->szx = block->szx;
}

/* RFC 7959 2.4: the blocks of one representation, told by its ETag. */
static void go_on(struct proxy *p, struct fetch *f, const struct message *msg,
                  const struct block *block)
{
    struct content *answer = content_at(contents(p), f->answer);
    struct etag etag = {0};

    if (message_has(msg, SLOT_ETAG)) {
        etag.length = (uint8_t)msg->first[SLOT_ETAG].length;
        memcpy(etag.bytes, msg->first[SLOT_ETAG].value, etag.length);
    }
    if (!block || msg->code != answer->code || !etag_equal(&etag, &answer->etag) ||
        (uint64_t)block->number * block_size(block) != answer->payload_length) {
        /* It has changed, or the origin has lost it. */
        if (f->role == FETCH_REST || !code_is_safe(f->method) || f->restarts++ >= RESTARTS_MAX)
            broken(p, f, "the blocks of the origin's answer do not fit together");
        else
            send_from_start(p, f);
        return;
    }
    if (answer->payload_length + msg->payload_length > p->m->config->limits.body) {
        broken(p, f, "the origin's answer is too large");
        return;
    }
    if (!content_extend(contents(p), f->answer, msg->payload, msg->payload_length)) {
        p->m->counters->refused_memory++;
        fetch_fail(p, index_of(p, f), CODE_SERVICE_UNAVAILABLE, "no memory for the answer");
        return;
    }
    take_size(f, block);
    if (block->more)
        go_further(p, f);
    else
        complete(p, f);
}

static void take_answer(struct proxy *p, struct fetch *f, const struct message *msg,
                        const struct block *block)
{
    if (f->answer != CONTENT_NONE) {
        go_on(p, f, msg, block);
        return;
    }
    if (msg->code == CODE_VALID && f->validating) {
        complete_valid(p, f, msg);
        return;
    }
    if (msg->code == CODE_VALID || msg->code == CODE_CONTINUE || (block && block->number)) {
        broken(p, f, "the origin's answer does not fit the request");
        return;
    }
    if (message_uint(msg, SLOT_SIZE2, 0) > p->m->config->limits.body && block && block->more) {
        broken(p, f, "the origin's answer is too large");
        return;
    }
    if (!begin_answer(p, f, msg))
        return;
    if (!block || !block->more) {
        complete(p, f);
        return;
    }
    take_size(f, block);
    go_further(p, f);
}

/* ---- the body of the request ---- */

/* An answer that says: not like this. True when it can be sent in another way. */
static bool send_otherwise(struct proxy *p, struct fetch *f, const struct message *msg,
                           const struct block *block)
{
    switch (msg->code) {
    case CODE_REQUEST_ENTITY_TOO_LARGE: /* RFC 7959 2.9.3: a smaller block is welcome */
        if (!block || block->szx >= f->szx || body_length(p, f) <= block_size(block))
            return false;
        f->szx = block->szx;
        break;
    case CODE_REQUEST_ENTITY_INCOMPLETE: /* 2.9.2: it has lost what came before */
        if (!f->in_blocks || f->restarts++ >= RESTARTS_MAX)
            return false;
        break;
    default:
        return false;
    }
    send_from_start(p, f);
    return true;
}

/* What the origin says to a block: true when the request is not over with it. */
static bool take_continue(struct proxy *p, struct fetch *f, const struct message *msg)
{
    bool last = !f->in_blocks || is_last_block(p, f);
    struct block block;
    bool has_block = message_has(msg, SLOT_BLOCK1) &&
                     block_decode(message_uint(msg, SLOT_BLOCK1, 0), &block) == 0;

    if (send_otherwise(p, f, msg, has_block ? &block : NULL))
        return true;
    if (last || code_class(msg->code) != 2)
        return false;
    /* A success without a word about this block is none: the rest would be lost. */
    if (!has_block || (uint64_t)block.number * block_bytes(f) != f->body_sent) {
        broken(p, f, "the origin acknowledged another block");
        return true;
    }
    if (changes_state(f, msg->code) && msg->code != CODE_CONTINUE) /* each has its effect */
        changed(p, f->uri);
    f->body_sent += block_bytes(f);
    if (block.szx < f->szx)
        f->szx = block.szx;
    go_further(p, f);
    return true;
}

/* Options that a proxy knows to be unsafe to forward, and does not process (RFC 7252 5.7.1). */
#define UNSAFE_UNSUPPORTED (SLOT_BIT(SLOT_Q_BLOCK1) | SLOT_BIT(SLOT_Q_BLOCK2))

bool fetch_response(struct proxy *p, uint32_t index, const struct message *msg)
{
    struct fetch *f = fetch_at(p, index);
    struct block block;
    bool has_block = message_has(msg, SLOT_BLOCK2);

    upstreams_heard(&p->upstreams, f->server);
    if (f->outbound != POOL_NONE) { /* the response came without its ACK, which it stands for */
        outbound_cancel(p->m, f->outbound);
        f->outbound = POOL_NONE;
    }
    if (!code_is_response(msg->code)) { /* class 3: no code of it exists (RFC 7252 12.1) */
        broken(p, f, "the origin's answer has an unknown class");
        return true;
    }
    if (msg->unknown_critical_unsafe || msg->unknown_elective_unsafe ||
        (msg->present & UNSAFE_UNSUPPORTED)) {
        broken(p, f, "the response has an option that is unsafe to forward");
        return true;
    }
    if (has_block && block_decode(message_uint(msg, SLOT_BLOCK2, 0), &block) < 0) {
        broken(p, f, "the origin's answer has a reserved block size");
        return true;
    }
    if (has_block && (block.more ? msg->payload_length != block_size(&block)
                                 : msg->payload_length > block_size(&block))) {
        broken(p, f, "the origin's answer has a block of the wrong length");
        return true;
    }
    if (f->answer == CONTENT_NONE && take_continue(p, f, msg))
        return true;
    if (f->role == FETCH_REGISTER && f->answer == CONTENT_NONE)
        observation_answered(p, f, msg);
    if (f->role == FETCH_CANCEL) { /* its answer is nobody's */
        fetch_fail(p, index, msg->code, NULL);
        return true;
    }
    take_answer(p, f, msg, has_block ? &block : NULL);
    return true;
}

void fetch_continue(struct proxy *p, uint32_t index, const struct message *first)
{
    struct fetch *f = fetch_at(p, index);
    struct block block;

    (void)block_decode(message_uint(first, SLOT_BLOCK2, 0), &block);
    if (!begin_answer(p, f, first))
        return;
    take_size(f, &block);
    go_further(p, f);
}

/* ---- failure ---- */

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
    unbind(p, f);
    join_server(p, f, to);
    f->szx = f->config->block_szx;
    arm_deadline(p, f);
    send_from_start(p, f);
    return true;
}

void fetch_server_lost(struct proxy *p, uint32_t index)
{
    struct fetch *f = fetch_at(p, index);

    if (p->upstreams.servers[f->server].down) /* it may be back */
        (void)try_another(p, f);
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
        broken(p, f, "the origin rejected the request");
        return;
    case OUTBOUND_MALFORMED:
        broken(p, f, "the origin's answer is malformed");
        return;
    case OUTBOUND_TIMED_OUT:
    case OUTBOUND_UNREACHABLE:
        /* Not when it has spoken since the last attempt: that was made while it was down. An ICMP
         * error is news of now. */
        if (outcome == OUTBOUND_UNREACHABLE ||
            p->upstreams.servers[f->server].gate.heard_us <= p->m->settled_sent_us)
            upstreams_failed(&p->upstreams, f->server);
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
    if (f->server != SERVER_NONE && f->outbound != POOL_NONE &&
        p->upstreams.servers[f->server].gate.heard_us < f->begun_us)
        upstreams_failed(&p->upstreams, f->server);
    if (!try_another(p, f))
        fetch_fail(p, index_of(p, f), CODE_GATEWAY_TIMEOUT, "the origin did not answer in time");
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
