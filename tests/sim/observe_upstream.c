/* One observation at a server for each resource and worker, ended with the token that it began
 * with. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/observe.h"

#define TOKENS_MAX   4096
#define LAST_MESSAGE 16
#define PATIENCE     (40 * SECOND) /* a refresh may be taken for failed after so long */

/* A token with which a worker observes. */
struct observation {
    unsigned worker;
    struct flow flow;
    uint64_t token;
    const struct resource *resource;
    bool established; /* the server has said so, and nothing else since */
    bool waiting;     /* for an answer since asked_at */
    bool cancelled, dead;
    uint16_t asked_mid;
    uint64_t asked_at;
    uint16_t heard[LAST_MESSAGE]; /* message IDs of what came with this token */
    unsigned heard_count;
};

struct upstream_judge {
    struct observe_world *world;
    struct observation observations[TOKENS_MAX];
    unsigned count;
};

struct upstream_judge *upstream_judge_create(struct observe_world *w)
{
    struct upstream_judge *u = calloc(1, sizeof(*u));

    u->world = w;
    return u;
}

void upstream_judge_destroy(struct upstream_judge *u)
{
    free(u);
}

static uint64_t token_of(const struct message *m)
{
    uint64_t token = 0;

    memcpy(&token, m->token, m->token_length < 8 ? m->token_length : 8);
    return token;
}

static struct observation *find(struct upstream_judge *u, const struct flow *flow, uint64_t token)
{
    for (unsigned i = 0; i < u->count; i++)
        if (u->observations[i].token == token && flow_equal(&u->observations[i].flow, flow))
            return &u->observations[i];
    return NULL;
}

static bool is_alive(const struct upstream_judge *u, const struct observation *o)
{
    uint64_t now = u->world->fleet.stage.now;

    return o->established && !o->dead && !o->cancelled &&
           !(o->waiting && now - o->asked_at > PATIENCE);
}

static struct observation *add(struct upstream_judge *u, const struct passing *p,
                               const struct resource *r)
{
    struct stage *s = &u->world->fleet.stage;
    struct observation *o = &u->observations[u->count];

    for (unsigned i = 0; i < u->count; i++)
        if (u->observations[i].worker == p->worker && u->observations[i].resource == r &&
            is_alive(u, &u->observations[i]))
            stage_fail(s, "worker %u observes resource %u a second time", p->worker, r->id);
    if (++u->count == TOKENS_MAX)
        stage_fail(s, "too many observations for one run");
    *o = (struct observation){.worker = p->worker, .flow = *p->flow, .resource = r};
    o->token = token_of(p->m);
    return o;
}

static void on_registration(struct upstream_judge *u, const struct passing *p)
{
    const struct resource *r = observe_find(u->world, p->m);
    struct observation *o = find(u, p->flow, token_of(p->m));

    if (!r)
        return;
    if (!o)
        o = add(u, p, r);
    else if (o->cancelled)
        stage_fail(&u->world->fleet.stage, "a cancelled token is used again");
    if (o->resource != r)
        stage_fail(&u->world->fleet.stage, "a token is used for two resources");
    if (o->waiting && o->asked_mid == p->m->mid)
        return; /* repeated */
    o->waiting = true;
    o->asked_at = u->world->fleet.stage.now;
    o->asked_mid = p->m->mid;
}

static void on_cancellation(struct upstream_judge *u, const struct passing *p)
{
    struct observation *o = find(u, p->flow, token_of(p->m));

    if (!o)
        stage_fail(&u->world->fleet.stage, "a cancellation with a token of its own");
    else if (o->resource != observe_find(u->world, p->m))
        stage_fail(&u->world->fleet.stage, "a cancellation for another resource");
    else
        o->cancelled = true;
}

/* Rejects a notification. */
static void on_reset(struct upstream_judge *u, const struct passing *p)
{
    for (unsigned i = 0; i < u->count; i++) {
        struct observation *o = &u->observations[i];

        for (unsigned k = 0; k < LAST_MESSAGE && k < o->heard_count; k++)
            if (o->heard[k] == p->m->mid && flow_equal(&o->flow, p->flow)) {
                if (is_alive(u, o))
                    stage_fail(&u->world->fleet.stage, "a notification of resource %u is rejected",
                               o->resource->id);
                o->dead = true;
            }
    }
}

/* The worker holds the server for dead, and may begin anew. */
static void on_ping(struct upstream_judge *u, const struct passing *p)
{
    for (unsigned i = 0; i < u->count; i++) {
        struct observation *o = &u->observations[i];

        if (o->worker == p->worker && address_equal(&o->flow.peer, &p->flow->peer))
            o->established = false;
    }
}

void upstream_emitted(struct upstream_judge *u, const struct passing *p)
{
    if (p->m->type == TYPE_RST)
        on_reset(u, p);
    else if (p->m->code == CODE_EMPTY && p->m->type == TYPE_CON)
        on_ping(u, p);
    else if (code_is_request(p->m->code) && message_uint(p->m, SLOT_OBSERVE, 2) == 0)
        on_registration(u, p);
    else if (code_is_request(p->m->code) && message_uint(p->m, SLOT_OBSERVE, 2) == 1)
        on_cancellation(u, p);
}

void upstream_delivered(struct upstream_judge *u, const struct passing *p)
{
    struct observation *o;

    if (!p->m || !code_is_response(p->m->code))
        return;
    o = find(u, p->flow, token_of(p->m));
    if (!o)
        return;
    if (p->m->type != TYPE_ACK)
        o->heard[o->heard_count++ % LAST_MESSAGE] = p->m->mid;
    if (o->waiting && u->world->fleet.stage.now - o->asked_at > PATIENCE)
        return; /* it may be nobody's any more */
    o->waiting = false;
    if (code_class(p->m->code) != 2 || !message_has(p->m, SLOT_OBSERVE))
        o->dead = true;
    else
        o->established = true;
}

void upstream_killed(struct upstream_judge *u)
{
    for (unsigned i = 0; i < u->count; i++)
        u->observations[i].dead = true;
}

void upstream_check_cancelled(struct upstream_judge *u)
{
    for (unsigned i = 0; i < u->count; i++)
        if (is_alive(u, &u->observations[i]))
            stage_fail(&u->world->fleet.stage,
                       "worker %u has not cancelled its observation of resource %u",
                       u->observations[i].worker, u->observations[i].resource->id);
}
