/* Requests for what the gateway itself holds: read as those for origins are, and answered in the
 * same ways. */
#include "gateway/proxy/local.h"

#include <stddef.h>

#include <rte_mempool.h>

#include "gateway/proxy/request.h"
#include "gateway/session/unsupported.h"

_Static_assert((int)LOCAL_KIND_COUNT == LOCAL_OWNERS, "each kind has its place");

#define UNDERSTOOD                                                                      \
    (SLOT_BIT(SLOT_IF_MATCH) | SLOT_BIT(SLOT_URI_HOST) | SLOT_BIT(SLOT_IF_NONE_MATCH) | \
     SLOT_BIT(SLOT_URI_PORT) | SLOT_BIT(SLOT_URI_PATH) | SLOT_BIT(SLOT_URI_QUERY) |     \
     SLOT_BIT(SLOT_ACCEPT) | SLOT_BIT(SLOT_BLOCK1) | SLOT_BIT(SLOT_BLOCK2))

/* In keys, which name transfers: no upstream has this index. */
#define NO_UPSTREAM UINT16_MAX

/* Content-Format, Max-Age, Size1 and what else there may be. */
#define OPTIONS_ROOM (CONTENT_OPTIONS_MAX + 16)

/* ---- reading ---- */

/* A GET is answered from the request and the present state alone. What modules do is their own. */
static bool is_pure(const struct proxy *p, const struct asked *a)
{
    return a->rq->message->code == CODE_GET && !a->observes &&
           (a->place->route == ROUTE_NONE ||
            p->m->config->routes[a->place->route].kind == CONFIG_ROUTE_RESOURCES);
}

static bool begin_blocks(struct proxy *p, struct asked *a, struct local_request *l)
{
    /* As in request.c: only a block in the middle does no harm when it comes again. */
    if (!asked_admit(p, a, a->block1.more && a->block1.number) ||
        !transfer_upload(p, a->rq, &a->wish, &a->block1, &l->body))
        return false;
    if ((a->wish.block2.number && asked_deliver_pinned(p, a)) || asked_is_limited(p, a)) {
        local_release(p, l);
        return false;
    }
    l->body_offset = (uint32_t)sizeof(struct space) + p->key.options_length;
    l->body_length = l->body.length - l->body_offset;
    return true;
}

static bool begin_whole(struct proxy *p, struct asked *a, struct local_request *l)
{
    const struct message *msg = a->rq->message;
    bool pure = is_pure(p, a);

    if (a->wish.block2.number && asked_serve_pinned(p, a))
        return false;
    if (!asked_admit(p, a, pure) || (!pure && !a->rq->resumed && asked_is_limited(p, a)))
        return false;
    if (a->wish.block2.number && !code_is_safe(msg->code)) { /* nothing is done a second time */
        reply_code(p->m, a->rq, CODE_REQUEST_ENTITY_INCOMPLETE, "the answer is not kept any more");
        return false;
    }
    l->body_length = msg->payload_length;
    return true;
}

bool local_begin(struct proxy *p, struct request *rq, unsigned route, struct local_request *l)
{
    struct place place = {.route = route,
                          .space = {.method = rq->message->code, .upstream = NO_UPSTREAM}};
    struct asked a = {.rq = rq, .place = &place, .local = true};
    uint16_t unsupported = unsupported_option(rq->message, UNDERSTOOD);

    *l = (struct local_request){
        .rq = rq, .route = route, .resumed = rq->resumed, .body = ROPE_EMPTY};
    if (rq->multicast && rq->message->code != CODE_GET) {
        p->m->counters->drop_multicast++;
        return false;
    }
    if (unsupported) {
        if (asked_admit(p, &a, true))
            unsupported_refuse(p->m, rq, unsupported);
        return false;
    }
    memcpy(place.space.address, &route, sizeof(route)); /* paths of other hosts may be the same */
    if (!asked_read(p, &a)) {
        asked_refuse(p, &a);
        return false;
    }
    a.observes = a.observes && !rq->multicast;
    if (a.cancels && !asked_deregister(p, &a))
        return false;
    if (a.in_blocks ? !begin_blocks(p, &a, l) : !begin_whole(p, &a, l))
        return false;
    l->wish = a.wish;
    l->observes = a.observes;
    return true;
}

void local_not_allowed(struct proxy *p, struct request *rq)
{
    uint16_t unsupported = unsupported_option(rq->message, UNDERSTOOD);

    if (rq->multicast)
        p->m->counters->drop_multicast++;
    else if (!request_admit(p->m, rq, true))
        return;
    else if (unsupported)
        unsupported_refuse(p->m, rq, unsupported);
    else
        reply_code(p->m, rq, CODE_METHOD_NOT_ALLOWED, NULL);
}

void local_release(struct proxy *p, struct local_request *l)
{
    rope_free(&p->contents.chunks, &l->body);
}

void local_body(const struct proxy *p, const struct local_request *l, uint32_t offset, void *out,
                uint32_t length)
{
    if (length == 0)
        return;
    if (l->body.length)
        rope_read(&p->contents.chunks, &l->body, NULL, l->body_offset + offset, out, length);
    else
        memcpy(out, l->rq->message->payload + offset, length);
}

static bool has_etag(const struct message *msg, const struct etag *etag)
{
    struct option_cursor cursor = option_cursor_at(msg, SLOT_IF_MATCH);
    struct option_view view;

    while (option_next_same(&cursor, &view))
        if (view.length == 0 ||
            (view.length == etag->length && memcmp(view.value, etag->bytes, view.length) == 0))
            return true;
    return false;
}

uint8_t local_refusal(const struct message *msg, int32_t format, const struct etag *etag)
{
    if (message_has(msg, SLOT_IF_NONE_MATCH) ||
        (message_has(msg, SLOT_IF_MATCH) && !has_etag(msg, etag)))
        return CODE_PRECONDITION_FAILED;
    if (message_has(msg, SLOT_ACCEPT) &&
        (format < 0 || message_uint(msg, SLOT_ACCEPT, 0) != (uint32_t)format))
        return CODE_NOT_ACCEPTABLE;
    return 0;
}

/* ---- answers ---- */

/* An error in the place of a registration's answer ends what the client had (RFC 7641 4.2). */
static void end_relation(struct proxy *p, const struct local_request *l)
{
    const struct message *msg = l->rq->message;

    if (l->observes)
        relation_cancel(p, l->rq->session, msg->token, msg->token_length);
}

/* RFC 7959 2.3: the answer to a body in blocks names the last one. */
static void answer_code(struct proxy *p, const struct client *to, const struct wish *wish,
                        uint8_t code, const char *diagnostic)
{
    struct local_answer answer = {
        .code = code,
        .format = -1,
        .max_age_s = code == CODE_SERVICE_UNAVAILABLE ? BUSY_MAX_AGE_S : -1,
    };
    uint32_t content = wish->has_block1 ? local_content(p, &answer) : CONTENT_NONE;

    if (content == CONTENT_NONE ||
        (diagnostic && !content_extend(&p->contents, content, diagnostic, strlen(diagnostic))))
        deliver_code(p, to, code, diagnostic);
    else
        (void)deliver(p, to, content, wish, NULL);
    content_release(&p->contents, content);
}

void local_code(struct proxy *p, struct local_request *l, uint8_t code, const char *diagnostic)
{
    const struct client to = {.rq = l->rq};

    end_relation(p, l);
    answer_code(p, &to, &l->wish, code, diagnostic);
}

/* RFC 7641 4.1. The answer may wait for the store; one of before a restart has had its answer. */
static bool take_in(struct proxy *p, struct local_request *l, uint32_t observation)
{
    const struct client to = {.rq = l->rq};
    const struct message *msg = l->rq->message;
    uint32_t relation = POOL_NONE;

    if (relation_may_add(p, l->rq->session, msg))
        relation =
            relation_add(p, l->rq->session, msg->token, msg->token_length, observation, &l->wish);
    if (relation == POOL_NONE)
        return false;
    persist_attach(p, relation_at(p, relation), persist_record(p, l->rq));
    if (l->resumed)
        relation_resume(p, relation);
    else
        relation_accept(p, relation, &to, &l->wish);
    return true;
}

void local_deliver(struct proxy *p, struct local_request *l, uint32_t content, uint32_t observation)
{
    const struct client to = {.rq = l->rq};

    content_hold(&p->contents, content); /* whose it is may lose it with the observation */
    if (!l->observes || observation == POOL_NONE || !take_in(p, l, observation)) {
        if (observation != POOL_NONE)
            observation_left(p, observation);
        end_relation(p, l);
        if (l->resumed)
            request_refuse_memory(p, l->rq);
        else
            (void)deliver(p, &to, content, &l->wish, NULL);
    }
    content_release(&p->contents, content);
}

struct exchange *local_later(struct proxy *p, struct local_request *l, struct wish *wish)
{
    struct exchange *x = l->rq->multicast ? NULL : exchange_open(p->m, l->rq);

    if (x)
        *wish = l->wish;
    else
        request_refuse_memory(p, l->rq);
    return x;
}

void local_deliver_later(struct proxy *p, struct exchange *x, const struct wish *wish,
                         uint32_t content)
{
    const struct client to = {.exchange = x};

    (void)deliver(p, &to, content, wish, NULL);
}

void local_code_later(struct proxy *p, struct exchange *x, const struct wish *wish, uint8_t code,
                      const char *diagnostic)
{
    const struct client to = {.exchange = x};

    answer_code(p, &to, wish, code, diagnostic);
}

/* ---- representations ---- */

static uint32_t make_content(struct proxy *p, const struct local_answer *answer, bool held)
{
    uint8_t options[OPTIONS_ROOM];
    struct encoder e = {.data = options, .room = sizeof(options)};
    struct addition format = addition_uint(OPTION_CONTENT_FORMAT, (uint32_t)answer->format);
    struct content *content;
    uint32_t index;

    encoder_merge(&e, answer->options, answer->options_length, &format, answer->format >= 0);
    if (e.failed || e.length > CONTENT_OPTIONS_MAX)
        return CONTENT_NONE;
    index = content_own(&p->contents, answer->code, options, (uint16_t)e.length, held);
    if (index == CONTENT_NONE)
        return CONTENT_NONE;
    content = content_at(&p->contents, index);
    content->etag = answer->etag;
    if (answer->max_age_s >= 0) {
        content->has_max_age = true;
        content->max_age_s = (uint32_t)answer->max_age_s;
    }
    return index;
}

uint32_t local_content(struct proxy *p, const struct local_answer *answer)
{
    return make_content(p, answer, false);
}

uint32_t local_held_content(struct proxy *p, const struct local_answer *answer)
{
    return make_content(p, answer, true);
}

/* Options, payload and name fill their last chunks but in part. */
#define CHUNKS_EACH 3u

void local_limits(const struct messaging *m, uint64_t *representations, uint64_t *chunks)
{
    uint64_t bytes = 0;

    *representations = 0;
    for (unsigned i = 0; i < m->config->route_count; i++) {
        const struct config_route *route = &m->config->routes[i];

        if (route->kind != CONFIG_ROUTE_RESOURCES)
            continue;
        *representations += route->resources.max;
        bytes += route->resources.bytes;
    }
    *chunks = 0;
    if (*representations == 0)
        return;
    if (m->io.parcels) { /* each segment may be a resource */
        *representations += m->io.parcels->size;
        bytes += (uint64_t)m->io.parcels->size * PARCEL_DATA_BYTES;
    }
    ++*representations; /* the new one while the old one is there */
    bytes += m->config->limits.body;
    *chunks = bytes / CHUNK_PAYLOAD + 1 + CHUNKS_EACH * *representations;
}

/* ---- observing ---- */

void local_handle(struct proxy *p, enum local_kind kind,
                  void (*gone)(void *context, uint32_t index), void *context)
{
    p->locals[kind] = (struct local_owner){gone, context};
}

uint32_t local_observe(struct proxy *p, enum local_kind kind, uint32_t index, uint32_t content)
{
    struct observation *o = observation_new(p);

    if (!o)
        return POOL_NONE;
    o->local_kind = (uint8_t)kind;
    o->local = index;
    o->state = OBSERVATION_LIVE;
    o->content = content_hold(&p->contents, content);
    return pool_index(&p->observations, o);
}

void local_state(struct proxy *p, uint32_t observation, uint32_t content)
{
    observation_set(p, observation_at(p, observation), content);
}

static void tell_gone(struct proxy *p, uint8_t kind, uint32_t index)
{
    const struct local_owner *owner = &p->locals[kind];

    if (owner->gone)
        owner->gone(owner->context, index);
}

void local_end(struct proxy *p, uint32_t observation, uint8_t code)
{
    struct observation *o = observation_at(p, observation);

    tell_gone(p, o->local_kind, o->local);
    observation_over(p, o, CONTENT_NONE, code);
}

/* Of one that is over the owner has heard already. */
void local_left(struct proxy *p, uint32_t observation)
{
    const struct observation *o = observation_at(p, observation);
    uint8_t kind = o->local_kind;
    uint32_t index = o->local;
    bool over = o->state == OBSERVATION_OVER;

    observation_free(p, observation);
    if (!over)
        tell_gone(p, kind, index);
}
