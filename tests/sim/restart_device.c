#include <string.h>

#include "tests/sim/restart.h"

#define PROBE_US    (5 * SECOND)
#define MARGIN_US   5000 /* ticks of the gateway's timers, and its rings */
#define IMPATIENT_S 10   /* beyond Max-Age */

static struct stage *stage_of(const struct interest *g)
{
    return g->device->node.stage;
}

static struct restart_world *world_of(const struct interest *g)
{
    return restart_world_of(stage_of(g));
}

/* ---- registering ---- */

static void ask(struct interest *g, int64_t observe)
{
    struct stage *s = stage_of(g);
    struct request *r = &g->registration.request;

    caller_give_up(&g->registration);
    *r = request_make(CODE_GET, stage_below(s, 4) ? TYPE_CON : TYPE_NON, g->resource->path);
    strcpy(r->query, g->resource->query);
    r->observe = observe;
    caller_ask(&g->registration);
}

/* `new_token`: the device forgets the old one, and rejects what comes with it. */
static void register_again(struct interest *g, bool new_token)
{
    if (g->device->node.down)
        return;
    if (new_token) {
        caller_give_up(&g->registration);
        caller_new_token(&g->registration);
        g->has_number = g->registered = false;
    }
    g->wanted = true;
    ask(g, 0);
}

static void on_time_to_register(struct stage *s, void *who, uint64_t heard_at)
{
    struct interest *g = who;

    if (g->wanted && !g->registration.waiting && g->heard_at == heard_at)
        register_again(g, stage_below(s, 3) == 0);
}

static void register_in(struct interest *g, uint64_t us)
{
    stage_at(stage_of(g), stage_of(g)->now + us, on_time_to_register, g, g->heard_at);
}

static void lost_relation(struct interest *g)
{
    g->registered = false;
    g->heard_at = stage_of(g)->now;
    if (g->wanted)
        register_in(g, 5 * SECOND + stage_below(stage_of(g), 15 * SECOND));
}

/* ---- notifications ---- */

/* RFC 7641 3.4 */
static bool is_newer(const struct interest *g, uint32_t number)
{
    uint32_t v1 = g->number, v2 = number;

    return !g->has_number || (v1 < v2 && v2 - v1 < 1u << 23) || (v1 > v2 && v1 - v2 > 1u << 23) ||
           stage_of(g)->now > g->number_at + 128 * SECOND;
}

static void take_state(struct interest *g, const struct message *m)
{
    uint32_t state;

    if (!body_check(m->payload, m->payload_length, g->resource->id, &state))
        stage_fail(stage_of(g), "a body that is none of resource %u", g->resource->id);
    else if (g->has_state && state < g->state)
        stage_fail(stage_of(g), "a device has state %u after %u of resource %u", state, g->state,
                   g->resource->id);
    g->has_state = true;
    g->state = state;
}

static void take_notification(struct interest *g, const struct message *m)
{
    uint32_t number = message_uint(m, SLOT_OBSERVE, 0), age = message_uint(m, SLOT_MAX_AGE, 60);

    if (!is_newer(g, number))
        return; /* reordered by the network: the judge has seen them leave in order */
    g->has_number = true;
    g->number = number;
    g->number_at = g->heard_at = stage_of(g)->now;
    g->registered = true;
    take_state(g, m);
    if (!g->patient)
        register_in(g, (age + IMPATIENT_S) * SECOND);
}

static bool on_unasked(struct device *d, const struct message *m)
{
    struct watcher *o = d->owner;

    for (unsigned i = 0; i < o->count; i++) {
        struct interest *g = &o->interests[i];
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
    struct interest *g = c->owner;

    if (!g->wanted || c->request.observe == 1)
        return;
    if (m && m->code == CODE_CONTENT && message_has(m, SLOT_OBSERVE)) {
        take_notification(g, m);
        return;
    }
    if (m && m->code == CODE_CONTENT)
        take_state(g, m);
    lost_relation(g);
}

/* ---- plain requests ---- */

static bool must_answer(const struct watcher *o)
{
    const struct stage *s = o->device.node.stage;
    const struct restart_world *w = (const struct restart_world *)s;

    return s->network.loss == 0 && s->running && s->life == o->probed_life && !w->draining;
}

static void on_probed(struct caller *c, const struct message *m)
{
    struct watcher *o = c->owner;
    struct stage *s = o->device.node.stage;
    uint64_t longest = 2ull * s->network.delay_max_us + MARGIN_US;

    if (!must_answer(o))
        return;
    if (!m)
        stage_fail(s, "a plain request has got no answer");
    else if (m->code != CODE_CONTENT)
        stage_fail(s, "a plain request has got %u.%02u", code_class(m->code), code_detail(m->code));
    else if (strcmp(c->request.path, "/hello") == 0 && s->now - c->begun_at > longest)
        stage_fail(s, "a plain request was answered after %llu us",
                   (unsigned long long)(s->now - c->begun_at));
}

static void on_time_to_probe(struct stage *s, void *who, uint64_t what)
{
    struct restart_world *w = restart_world_of(s);
    struct watcher *o = who;
    const struct resource *r = &w->base.resources[stage_below(s, w->base.resource_count)];

    (void)what;
    if (o->device.node.down || w->calm)
        return;
    if (!o->prober.waiting) {
        o->prober.request =
            request_make(CODE_GET, TYPE_CON, stage_below(s, 2) ? "/hello" : r->path);
        if (strcmp(o->prober.request.path, r->path) == 0)
            strcpy(o->prober.request.query, r->query);
        caller_new_token(&o->prober);
        o->probed_life = s->running && s->network.loss == 0 ? s->life : 0;
        caller_ask(&o->prober);
    }
    stage_at(s, s->now + stage_below(s, PROBE_US), on_time_to_probe, o, 0);
}

/* ---- coming and going ---- */

static void on_time_to_wake(struct stage *s, void *who, uint64_t what)
{
    struct interest *g = who;

    (void)s;
    (void)what;
    g->device->node.down = false;
}

void interest_part(struct interest *g, enum parting how)
{
    struct stage *s = stage_of(g);

    if (g->device->node.down || how == PART_STAY)
        return;
    stage_note(s, "device at port %u leaves resource %u (%d)", g->device->flow.peer_port,
               g->resource->id, how);
    if (how == PART_VANISH || how == PART_NAP)
        ((struct watcher *)g->device->owner)->probed_life = 0; /* it does not wait any more */
    switch (how) {
    case PART_CANCEL:
        if (g->wanted)
            ask(g, 1);
        g->wanted = g->registered = false;
        break;
    case PART_REJECT:
        caller_give_up(&g->registration);
        g->wanted = g->registered = false;
        break;
    case PART_VANISH:
        node_crash(&g->device->node, stage_below(s, 2));
        break;
    case PART_NAP:
        node_crash(&g->device->node, false);
        stage_at(s, s->now + stage_below(s, 60 * SECOND), on_time_to_wake, g, 0);
        break;
    case PART_STAY:
        break;
    }
}

/* What a device does now and then while everything changes. */
static void on_time_to_act(struct stage *s, void *who, uint64_t what)
{
    static const enum parting partings[] = {PART_CANCEL, PART_CANCEL, PART_REJECT, PART_REJECT,
                                            PART_NAP,    PART_STAY,   PART_STAY,   PART_VANISH};
    struct interest *g = who;
    uint32_t pause = 40 * SECOND + stage_below(s, 100 * SECOND);

    (void)what;
    if (world_of(g)->calm)
        return;
    if (!g->wanted) /* the old token means something new then, at times */
        register_again(g, stage_below(s, 3) != 0);
    else if (stage_below(s, 3) == 0)
        register_again(g, stage_below(s, 2));
    else if (stage_below(s, 2))
        interest_part(g, partings[stage_below(s, stage_below(s, 3) ? 7 : 8)]);
    stage_at(s, s->now + stage_below(s, stage_below(s, 4) ? pause : SECOND), on_time_to_act, g, 0);
}

static void on_time_to_come(struct stage *s, void *who, uint64_t what)
{
    struct interest *g = who;

    (void)what;
    if (world_of(g)->calm)
        return;
    register_again(g, true);
    if (stage_below(s, 3)) /* the others stay as they are for good */
        stage_at(s, s->now + stage_below(s, 100 * SECOND), on_time_to_act, g, 0);
}

void watcher_init(struct restart_world *w, unsigned index)
{
    struct stage *s = &w->base.fleet.stage;
    struct watcher *o = &w->watchers[index];
    unsigned count = w->stormy ? 1 : 1 + stage_below(s, INTERESTS_MAX);

    device_init(&o->device, &w->base.fleet, o);
    o->device.unasked = on_unasked;
    for (unsigned i = 0; i < count; i++) {
        struct interest *g = &o->interests[o->count++];

        g->device = &o->device;
        g->resource = &w->base.resources[stage_below(s, w->base.resource_count)];
        g->patient = stage_below(s, 5) != 0;
        caller_init(&g->registration, &o->device, g, on_registered);
        stage_at(s, s->now + stage_below(s, stage_below(s, 2) ? 5 * SECOND : 150 * SECOND),
                 on_time_to_come, g, 0);
    }
    caller_init(&o->prober, &o->device, o, on_probed);
    if (stage_below(s, 2))
        stage_at(s, s->now + stage_below(s, PROBE_US), on_time_to_probe, o, 0);
}
