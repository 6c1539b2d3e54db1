/* What an origin answers: the blocks of a body are acknowledged, those of an answer put together
 * (RFC 7959 2.3 to 2.9), and the whole goes into the cache (RFC 7252 5.6). */
#include "gateway/proxy/fetch.h"

/* How often a transfer begins anew because the representation changed under it. */
#define RESTARTS_MAX 2

/* ---- a good answer ---- */

/* RFC 7252 5.9.1.2 to 5.9.3: what may be kept. Failures of class 5 only when the origin says for
 * how long: a minute of them, the default, would be the gateway's making. */
static bool is_cacheable(uint8_t code, bool has_etag, bool has_max_age, uint32_t max_age_s)
{
    switch (code) {
    case CODE_CONTENT:
        return max_age_s > 0 || has_etag;
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
    if (code_class(code) == 4)
        return max_age_s > 0;
    return code_class(code) == 5 && has_max_age && max_age_s > 0;
}

bool fetch_is_cacheable(const struct content *content)
{
    return is_cacheable(content->code, content->etag.length && !content->own_etag,
                        content->has_max_age, content->max_age_s);
}

static bool is_message_cacheable(const struct message *msg)
{
    return is_cacheable(msg->code, message_has(msg, SLOT_ETAG), message_has(msg, SLOT_MAX_AGE),
                        message_uint(msg, SLOT_MAX_AGE, MAX_AGE_DEFAULT_S));
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
    const struct content *content = content_at(&p->contents, f->answer);

    f->code = content->code;
    if (code_class(content->code) == 5 && fetch_stand_in(p, f)) {
        fetch_finish(p, f);
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
    fetch_finish(p, f);
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
    if (content == CONTENT_NONE ||
        !etag_equal(&content_at(&p->contents, content)->etag, &f->etag) || !names(msg, &f->etag)) {
        f->validating = false;
        fetch_send(p, f);
        return;
    }
    p->m->counters->cache_validated++;
    content_refresh(content_at(&p->contents, content), msg, p->m->now);
    target_renew(&p->targets, f->target);
    f->answer = content_hold(&p->contents, content);
    fetch_finish(p, f);
}

/* ---- answers ---- */

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

/* A message as clients get it, in `out`. 0 when it does not fit; `*rewritten` is false when it is
 * passed on as it is. */
static size_t rewrite(struct proxy *p, const struct fetch *f, const struct message *msg,
                      uint8_t *out, size_t room, bool *rewritten)
{
    *rewritten = true;
    if (msg->code == CODE_HOP_LIMIT_REACHED)
        return put_name_in_front(p, msg, out, room);
    if (f->route != ROUTE_NONE && p->m->config->routes[f->route].strip_segments &&
        message_has(msg, SLOT_LOCATION_PATH))
        return put_prefix_back(p, f, msg, out, room);
    *rewritten = false;
    return 0;
}

/* RFC 7252 5.9.1.1: what was stored of a resource that has been created is not true any more; it
 * may be that there is none. A destination of the forward proxy has its name in the hash, too:
 * there the next Max-Age tells. */
static void created(struct proxy *p, const struct fetch *f, const struct message *msg)
{
    static const struct {
        enum option_slot location;
        uint16_t uri;
    } parts[] = {{SLOT_LOCATION_PATH, OPTION_URI_PATH}, {SLOT_LOCATION_QUERY, OPTION_URI_QUERY}};
    uint8_t names[KEY_BYTES];
    struct encoder e = {.data = names, .room = sizeof(names)};
    struct space space;

    rope_read(&p->contents.chunks, fetch_request(p, f), NULL, 0, &space, sizeof(space));
    if (space.forward)
        return;
    for (unsigned i = 0; i < 2; i++) {
        struct option_cursor cursor = option_cursor_at(msg, parts[i].location);
        struct option_view view;

        while (option_next_same(&cursor, &view))
            encoder_option(&e, parts[i].uri, view.value, view.length);
    }
    if (!e.failed) /* as that of a key */
        changed(p, hash_mix(space_hash(&space, p->hash_seed),
                            hash_bytes(names, e.length, p->hash_seed)));
}

/* The first or only message of an answer becomes a content. */
static bool begin_answer(struct proxy *p, struct fetch *f, const struct message *msg)
{
    uint8_t bytes[MESSAGE_MAX_BYTES];
    struct message other;
    bool rewritten;
    size_t length = rewrite(p, f, msg, bytes, sizeof(bytes), &rewritten);

    if (msg->code == CODE_CREATED && message_has(msg, SLOT_LOCATION_PATH))
        created(p, f, msg);
    if (rewritten) {
        if (length == 0 || message_parse(bytes, length, &other) != VERDICT_OK) {
            fetch_broken(p, f, "the origin's answer is too long with the gateway's part of it");
            return false;
        }
        msg = &other;
    }
    f->answer = content_create(&p->contents, msg, p->m->now);
    if (message_has(msg, SLOT_ECHO))
        f->shared = false; /* a challenge is for one client */
    if (f->answer != CONTENT_NONE)
        return true;
    p->m->counters->refused_memory++;
    fetch_fail(p, fetch_index(p, f), CODE_SERVICE_UNAVAILABLE, "no memory for the answer");
    return false;
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
    struct content *answer = content_at(&p->contents, f->answer);
    struct etag etag = {0};

    if (message_has(msg, SLOT_ETAG)) {
        etag.length = (uint8_t)msg->first[SLOT_ETAG].length;
        memcpy(etag.bytes, msg->first[SLOT_ETAG].value, etag.length);
    }
    if (!block || msg->code != answer->code || !etag_equal(&etag, &answer->etag) ||
        (uint64_t)block->number * block_size(block) != answer->payload_length) {
        /* It has changed, or the origin has lost it. */
        if (f->role == FETCH_REST || !code_is_safe(f->method) || f->restarts++ >= RESTARTS_MAX)
            fetch_broken(p, f, "the blocks of the origin's answer do not fit together");
        else
            fetch_send_anew(p, f);
        return;
    }
    if (answer->payload_length + msg->payload_length > p->m->config->limits.body) {
        fetch_broken(p, f, "the origin's answer is too large");
        return;
    }
    if (!content_extend(&p->contents, f->answer, msg->payload, msg->payload_length)) {
        p->m->counters->refused_memory++;
        fetch_fail(p, fetch_index(p, f), CODE_SERVICE_UNAVAILABLE, "no memory for the answer");
        return;
    }
    take_size(f, block);
    if (block->more)
        fetch_go_further(p, f);
    else
        complete(p, f);
}

/* True when there is one client, who can get the answer as it is. A failure of the origin's may
 * have a stand-in. */
static bool is_simple(const struct proxy *p, const struct fetch *f, const struct message *msg)
{
    const struct wait *wait;

    if (f->role != FETCH_ANSWER || f->waits.head == POOL_NONE || f->waits.head != f->waits.tail ||
        (code_class(msg->code) != 2 && code_class(msg->code) != 4))
        return false;
    wait = pool_at(&p->waits, f->waits.head);
    return deliver_is_simple(p, wait->exchange, &wait->wish, msg);
}

/* True when an answer that one client waits for is to be stored for others. */
static bool is_to_be_kept(struct proxy *p, const struct fetch *f, const struct message *msg)
{
    if (!f->shared || f->target == TARGET_NONE || !is_message_cacheable(msg))
        return false;
    return message_uint(msg, SLOT_MAX_AGE, MAX_AGE_DEFAULT_S) > 0 ||
           p->m->config->cache.stale_if_error_s > 0 ||
           target_is_worth_it(&p->targets, f->target, msg->length);
}

/* An answer that is not kept is passed on at once. */
static void pass_on(struct proxy *p, struct fetch *f, const struct message *msg)
{
    f->code = msg->code;
    f->raw = msg;
    if (f->shared && f->target != TARGET_NONE)
        target_forget(&p->targets, f->target);
    fetch_finish(p, f);
}

static void take_answer(struct proxy *p, struct fetch *f, const struct message *msg,
                        const struct block *block)
{
    bool simple;

    if (f->answer != CONTENT_NONE) {
        go_on(p, f, msg, block);
        return;
    }
    if (msg->code == CODE_VALID && f->validating) {
        complete_valid(p, f, msg);
        return;
    }
    if (msg->code == CODE_VALID || msg->code == CODE_CONTINUE || (block && block->number)) {
        fetch_broken(p, f, "the origin's answer does not fit the request");
        return;
    }
    if (message_uint(msg, SLOT_SIZE2, 0) > p->m->config->limits.body && block && block->more) {
        fetch_broken(p, f, "the origin's answer is too large");
        return;
    }
    simple = is_simple(p, f, msg);
    if (simple && !is_to_be_kept(p, f, msg)) {
        pass_on(p, f, msg);
        return;
    }
    if (!begin_answer(p, f, msg))
        return;
    if (!block || !block->more) {
        f->raw = simple ? msg : NULL;
        complete(p, f);
        return;
    }
    take_size(f, block);
    fetch_go_further(p, f);
}

/* ---- the body of the request ---- */

/* An answer that says: not like this. True when it can be sent in another way. */
static bool send_otherwise(struct proxy *p, struct fetch *f, const struct message *msg,
                           const struct block *block)
{
    switch (msg->code) {
    case CODE_REQUEST_ENTITY_TOO_LARGE: /* RFC 7959 2.9.3: a smaller block is welcome */
        if (!block || block->szx >= f->szx || fetch_body_length(p, f) <= block_size(block))
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
    fetch_send_anew(p, f);
    return true;
}

/* What the origin says to a block: true when the request is not over with it. */
static bool take_continue(struct proxy *p, struct fetch *f, const struct message *msg)
{
    bool last = !f->in_blocks || fetch_is_last_block(p, f);
    struct block block;
    bool has_block = message_has(msg, SLOT_BLOCK1) &&
                     block_decode(message_uint(msg, SLOT_BLOCK1, 0), &block) == 0;

    if (send_otherwise(p, f, msg, has_block ? &block : NULL))
        return true;
    if (last || code_class(msg->code) != 2)
        return false;
    /* A success without a word about this block is none: the rest would be lost. */
    if (!has_block || (uint64_t)block.number * fetch_block_bytes(f) != f->body_sent) {
        fetch_broken(p, f, "the origin acknowledged another block");
        return true;
    }
    if (changes_state(f, msg->code) && msg->code != CODE_CONTINUE) /* each has its effect */
        changed(p, f->uri);
    f->body_sent += fetch_block_bytes(f);
    if (block.szx < f->szx)
        f->szx = block.szx;
    fetch_go_further(p, f);
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
        fetch_broken(p, f, "the origin's answer has an unknown class");
        return true;
    }
    if (msg->unknown_critical_unsafe || msg->unknown_elective_unsafe ||
        (msg->present & UNSAFE_UNSUPPORTED)) {
        fetch_broken(p, f, "the response has an option that is unsafe to forward");
        return true;
    }
    if (msg->options_length > CONTENT_OPTIONS_MAX) {
        fetch_broken(p, f, "the options of the origin's answer are too long");
        return true;
    }
    if (has_block && block_decode(message_uint(msg, SLOT_BLOCK2, 0), &block) < 0) {
        fetch_broken(p, f, "the origin's answer has a reserved block size");
        return true;
    }
    if (has_block && (block.more ? msg->payload_length != block_size(&block)
                                 : msg->payload_length > block_size(&block))) {
        fetch_broken(p, f, "the origin's answer has a block of the wrong length");
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

bool fetch_overtake(struct proxy *p, uint32_t index, const struct message *msg)
{
    struct fetch *f = fetch_at(p, index);

    /* Not for ever: a state may change faster than it can be fetched. */
    if (p->m->now - f->begun_us > f->config->timeout_ms * UINT64_C(1000))
        return false;
    f->restarts = 0;
    content_release(&p->contents, f->answer);
    f->answer = CONTENT_NONE;
    return fetch_response(p, index, msg);
}

void fetch_continue(struct proxy *p, uint32_t index, const struct message *first)
{
    struct fetch *f = fetch_at(p, index);
    struct block block;

    (void)block_decode(message_uint(first, SLOT_BLOCK2, 0), &block);
    if (!begin_answer(p, f, first))
        return;
    take_size(f, &block);
    fetch_go_further(p, f);
}
