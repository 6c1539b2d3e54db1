#include <string.h>

#include "tests/sim/observe.h"

static struct observe_world *world_of(const struct watching *g)
{
    return observe_world_of(g->device->node.stage);
}

static struct stage *stage_of(const struct watching *g)
{
    return g->device->node.stage;
}

/* ---- registering ---- */

static void ask_relation(struct watching *g, int64_t observe)
{
    struct stage *s = stage_of(g);
    struct request *r = &g->registration.request;

    if (g->registration.waiting)
        caller_give_up(&g->registration);
    *r = request_make(CODE_GET, stage_below(s, 3) ? TYPE_CON : TYPE_NON, g->resource->path);
    strcpy(r->query, g->resource->query);
    r->observe = observe;
    if (g->szx <= BLOCK_SZX_MAX) {
        r->has_block2 = true;
        r->block2 = (struct block){.szx = g->szx};
    }
    caller_ask(&g->registration);
}

static void on_time_to_register(struct stage *s, void *who, uint64_t heard_at)
{
    struct watching *g = who;

    (void)s;
    if (g->wanted && !g->device->node.down && !g->registration.waiting && g->heard_at == heard_at)
        ask_relation(g, 0);
}

/* Registers again unless something has been heard by then (RFC 7641 3.3.1). */
static void register_in(struct watching *g, uint64_t us)
{
    stage_at(stage_of(g), stage_of(g)->now + us, on_time_to_register, g, g->heard_at);
}

static void lost_relation(struct watching *g)
{
    g->registered = false;
    g->heard_at = stage_of(g)->now;
    if (g->wanted)
        register_in(g, 5 * SECOND + stage_below(stage_of(g), 15 * SECOND));
}

/* ---- representations ---- */

static void take_body(struct watching *g)
{
    uint32_t state;

    if (!body_check(g->body, g->length, g->resource->id, &state)) {
        /* Without an ETag nobody can tell the parts of different states apart. */
        if (g->resource->etag || g->resource->max_length <= 16)
            stage_fail(stage_of(g), "a body of more than one state of resource %u",
                       g->resource->id);
        return;
    }
    if (g->has_state && state < g->state)
        stage_fail(stage_of(g), "a device has state %u after %u of resource %u", state, g->state,
                   g->resource->id);
    g->has_state = true;
    g->state = state;
}

static void fetch_next(struct watching *g, const struct block *got)
{
    struct request *r = &g->fetch.request;

    *r = request_make(CODE_GET, TYPE_CON, g->resource->path);
    strcpy(r->query, g->resource->query);
    r->has_block2 = true;
    r->block2 = *got;
    r->block2.number++;
    r->block2.more = false;
    caller_new_token(&g->fetch);
    caller_ask(&g->fetch);
}

static void append(struct watching *g, const struct message *m)
{
    if (g->length + m->payload_length > sizeof(g->body)) {
        stage_fail(stage_of(g), "a body of more bytes than resource %u has", g->resource->id);
        return;
    }
    memcpy(g->body + g->length, m->payload, m->payload_length);
    g->length += m->payload_length;
}

/* The first block of a representation, or all of it. */
static void take_first(struct watching *g, const struct message *m)
{
    struct block b;

    if (g->fetch.waiting && g->etag.length && message_is_etag(m, &g->etag))
        return; /* the same again */
    caller_give_up(&g->fetch);
    g->length = 0;
    append(g, m);
    if (!message_block(m, SLOT_BLOCK2, &b) || !b.more) {
        take_body(g);
        return;
    }
    if (b.number || m->payload_length != block_size(&b))
        stage_fail(stage_of(g), "block %u of %u bytes comes first", b.number, m->payload_length);
    if (!message_has(m, SLOT_ETAG))
        stage_fail(stage_of(g), "a block without an ETag");
    g->etag = message_etag(m);
    fetch_next(g, &b);
}

static void on_fetched(struct caller *c, const struct message *m)
{
    struct watching *g = c->owner;
    struct block b;

    if (!m || m->code != CODE_CONTENT || !message_block(m, SLOT_BLOCK2, &b) ||
        !message_is_etag(m, &g->etag)) {
        /* Gone, or another one by now: a registration brings what there is. */
        register_in(g, 2 * SECOND + stage_below(stage_of(g), 5 * SECOND));
        return;
    }
    if (b.number * block_size(&b) != g->length) {
        stage_fail(stage_of(g), "block %u at %zu bytes", b.number, g->length);
        return;
    }
    append(g, m);
    if (b.more)
        fetch_next(g, &b);
    else
        take_body(g);
}

/* ---- notifications ---- */

/* RFC 7641 3.4 */
static bool is_newer(const struct watching *g, uint32_t number)
{
    uint32_t v1 = g->number, v2 = number;

    return !g->has_number || (v1 < v2 && v2 - v1 < 1u << 23) || (v1 > v2 && v1 - v2 > 1u << 23) ||
           stage_of(g)->now > g->number_at + 128 * SECOND;
}

static void take_notification(struct watching *g, const struct message *m)
{
    struct stage *s = stage_of(g);
    uint32_t number = message_uint(m, SLOT_OBSERVE, 0);

    if (!is_newer(g, number)) { /* it may have come in the place of an answer */
        register_in(g, (g->max_age + 5) * SECOND + stage_below(s, 5 * SECOND));
        return;
    }
    g->has_number = true;
    g->number = number;
    g->number_at = g->heard_at = s->now;
    g->registered = true;
    g->max_age = message_uint(m, SLOT_MAX_AGE, 60);
    if (m->code == CODE_CONTENT)
        take_first(g, m);
    else
        stage_fail(s, "a notification with code %02x", m->code);
    register_in(g, (g->max_age + 5) * SECOND + stage_below(s, 5 * SECOND));
}

static bool on_unasked(struct device *d, const struct message *m)
{
    struct observer *o = d->owner;

    for (unsigned i = 0; i < o->count; i++) {
        struct watching *g = &o->watchings[i];
        const struct caller *c = &g->registration;

        if (m->token_length != c->token_length || memcmp(m->token, c->token, c->token_length) != 0)
            continue;
        if (!g->wanted)
            return false;
        if (message_has(m, SLOT_OBSERVE))
            take_notification(g, m);
        else if (code_class(m->code) != 2)
            lost_relation(g);
        return true;
    }
    return false;
}

static void on_registered(struct caller *c, const struct message *m)
{
    struct watching *g = c->owner;

    if (!g->wanted || c->request.observe == 1)
        return;
    if (!m || m->code != CODE_CONTENT) {
        lost_relation(g);
        return;
    }
    if (message_has(m, SLOT_OBSERVE)) {
        take_notification(g, m);
        return;
    }
    take_first(g, m);
    g->has_number = false;
    lost_relation(g);
}

/* ---- coming and going ---- */

static void on_time_to_come(struct stage *s, void *who, uint64_t what)
{
    struct watching *g = who;

    (void)what;
    if (observe_world_of(s)->calm || g->device->node.down)
        return;
    caller_new_token(&g->registration);
    g->wanted = true;
    g->has_number = false;
    ask_relation(g, 0);
}

static void on_time_to_leave(struct stage *s, void *who, uint64_t how)
{
    if (!observe_world_of(s)->calm)
        observer_leave(who, (enum leave)how);
}

/* Now and then a client asks again although nothing is stale. */
static void on_time_to_repeat(struct stage *s, void *who, uint64_t what)
{
    struct watching *g = who;

    (void)what;
    if (observe_world_of(s)->calm)
        return;
    if (g->wanted && g->registered && !g->device->node.down)
        ask_relation(g, 0);
    stage_at(s, s->now + 10 * SECOND + stage_below(s, 200 * SECOND), on_time_to_repeat, g, 0);
}

void observer_leave(struct watching *g, enum leave how)
{
    struct stage *s = stage_of(g);

    if (!g->wanted || g->device->node.down)
        return;
    stage_note(s, "device at port %u leaves resource %u: %s", g->device->flow.peer_port,
               g->resource->id,
               how == DEREGISTER ? "deregisters"
               : how == RESET    ? "rejects"
                                 : "is silent");
    g->wanted = g->registered = false;
    caller_give_up(&g->fetch);
    if (how == DEREGISTER)
        ask_relation(g, 1);
    else
        caller_give_up(&g->registration);
    if (how == SILENT)
        node_crash(&g->device->node, false);
    else if (!world_of(g)->leaving && stage_below(s, 2))
        stage_at(s, s->now + 10 * SECOND + stage_below(s, 60 * SECOND), on_time_to_come, g, 0);
}

static void watching_init(struct observe_world *w, struct observer *o, struct resource *r)
{
    static const enum leave leaves[] = {STAY, STAY, DEREGISTER, DEREGISTER, RESET, SILENT};
    struct stage *s = &w->fleet.stage;
    struct watching *g = &o->watchings[o->count++];
    enum leave leave = leaves[stage_below(s, 6)];

    g->device = &o->device;
    g->resource = r;
    g->szx = stage_below(s, 2) ? 7 : (uint8_t)stage_below(s, 7);
    caller_init(&g->registration, &o->device, g, on_registered);
    caller_init(&g->fetch, &o->device, g, on_fetched);
    stage_at(s, s->now + stage_below(s, 100 * SECOND), on_time_to_come, g, 0);
    if (leave != STAY)
        stage_at(s, s->now + 20 * SECOND + stage_below(s, 250 * SECOND), on_time_to_leave, g,
                 leave);
    if (stage_below(s, 3) == 0)
        stage_at(s, s->now + stage_below(s, 200 * SECOND), on_time_to_repeat, g, 0);
}

void observer_init(struct observe_world *w, unsigned index)
{
    struct observer *o = &w->observers[index];
    struct stage *s = &w->fleet.stage;
    unsigned first = stage_below(s, w->resource_count), count = 1 + stage_below(s, WATCHINGS_MAX);

    device_init(&o->device, &w->fleet, o);
    o->device.unasked = on_unasked;
    for (unsigned i = 0; i < count && i < w->resource_count; i++)
        watching_init(w, o, &w->resources[(first + i) % w->resource_count]);
}

void observer_check(struct observe_world *w, const struct observer *o)
{
    for (unsigned i = 0; i < o->count && !o->device.node.down; i++) {
        const struct watching *g = &o->watchings[i];
        const struct resource *r = g->resource;

        if (!g->wanted)
            continue;
        if (g->registered != (r->observable && !r->gone))
            stage_fail(&w->fleet.stage, "device at port %u is %sregistered for resource %u",
                       o->device.flow.peer_port, g->registered ? "" : "not ", r->id);
        else if (!r->gone && (!g->has_state || g->state != r->state))
            stage_fail(&w->fleet.stage,
                       "device at port %u has state %u of resource %u, which is in state %u",
                       o->device.flow.peer_port, g->state, r->id, r->state);
    }
}
