/* What an observation asks of its origin (RFC 7641 3.1, 3.6): registrations and cancellations, when
 * they are made, and what becomes of them. */
#include "gateway/proxy/observation.h"

#include <stddef.h>

#include "gateway/proxy/local.h"

/* A state that is known to be there is asked for within this time. */
#define ASK_WITHIN_US 200000u

/* A state that is known to be there is asked for within this time. */
#define ASK_WITHIN_US 200000u

/* So many registrations in a row have to fail before clients are told that it is over. */
#define FAILURES_MAX 3

/* After a restart clients are told later: the origin may have been started at the same time, and
 * take longer. The pause between two registrations doubles so often. */
#define PATIENCE_US   UINT64_C(300000000)
#define PAUSE_DOUBLES 3

/* ---- requests ---- */

struct place observation_place(const struct proxy *p, const struct observation *o)
{
    struct place place = {
        .config = o->config, .first = o->first, .count = o->count, .route = ROUTE_NONE};

    rope_read(&p->contents.chunks, &target_at(&p->targets, o->target)->key, NULL, 0, &place.space,
              sizeof(place.space));
    return place;
}

uint32_t observation_open(struct proxy *p, struct observation *o, enum fetch_role role)
{
    struct place place = observation_place(p, o);
    const struct target *target = target_at(&p->targets, o->target);
    struct fetch_setup setup = {
        .role = role,
        .place = &place,
        .server = o->server,
        .target = o->target,
        .request = ROPE_EMPTY,
        .options_length = target->options_length,
        .last_option = OPTION_UNKNOWN,
        .observation = observation_index(p, o),
        .uri = target->uri,
        .hop_limit = o->hop_limit,
        .shared = role != FETCH_CANCEL,
    };

    if (o->server != SERVER_NONE && p->upstreams.servers[o->server].down && role == FETCH_REGISTER)
        setup.server = SERVER_NONE;
    o->fetch = fetch_open(p, &setup);
    return o->fetch;
}

/* What it was fetching is not wanted any more. */
void observation_abort_rest(struct proxy *p, struct observation *o)
{
    if (o->fetch == POOL_NONE || fetch_at(p, o->fetch)->role != FETCH_REST)
        return;
    fetch_abort(p, o->fetch);
    o->fetch = POOL_NONE;
}

bool observation_register(struct proxy *p, uint32_t index, const struct place *place,
                          uint8_t hop_limit)
{
    struct observation *o = observation_at(p, index);
    struct target *target = target_at(&p->targets, o->target);

    observation_abort_rest(p, o);
    o->missed = false;
    o->config = place->config;
    o->first = place->first;
    o->count = place->count;
    o->hop_limit = hop_limit;
    if (observation_open(p, o, FETCH_REGISTER) == POOL_NONE)
        return false;
    p->m->counters->registrations++;
    if (target->fetch == POOL_NONE)
        target->fetch = o->fetch;
    return true;
}

static void register_again(struct proxy *p, struct observation *o)
{
    struct place place = observation_place(p, o);
    uint32_t fetch;

    if (o->fetch == POOL_NONE &&
        observation_register(p, observation_index(p, o), &place, o->hop_limit)) {
        fetch = o->fetch;
        fetch_start(p, fetch);
        return;
    }
    wheel_arm(&p->m->wheel, &o->timer, p->m->now + LATE_FIRST_US);
}

void observation_defer(struct proxy *p, uint32_t index, const struct place *place,
                       uint8_t hop_limit, uint64_t delay_us)
{
    struct observation *o = observation_at(p, index);
    uint32_t spread = delay_us < UINT32_MAX ? (uint32_t)delay_us : UINT32_MAX - 1;

    if (o->fetch != POOL_NONE || timer_armed(&o->timer))
        return;
    o->config = place->config;
    o->first = place->first;
    o->count = place->count;
    o->hop_limit = hop_limit;
    if (place->space.forward && o->server == SERVER_NONE)
        observation_hold_server(p, o, place->first);
    wheel_arm(&p->m->wheel, &o->timer, p->m->now + random_below(&p->m->random, spread + 1));
}

/* RFC 7641 3.6: with the token of the registration. */
static void cancel(struct proxy *p, struct observation *o)
{
    o->state = OBSERVATION_ENDING;
    o->forsaken = false;
    observation_detach(p, o);
    wheel_cancel(&p->m->wheel, &o->timer);
    if (observation_open(p, o, FETCH_CANCEL) == POOL_NONE) {
        observation_free(p,
                         observation_index(p, o)); /* a notification will be answered with a RST */
        return;
    }
    p->m->counters->cancellations++;
    fetch_start(p, o->fetch);
}

void observation_left(struct proxy *p, uint32_t index)
{
    struct observation *o = observation_at(p, index);

    if (o->relation_count || o->holders)
        return;
    if (o->local_kind != LOCAL_NONE) {
        local_left(p, index);
        return;
    }
    observation_abort_rest(p, o);
    if (o->fetch != POOL_NONE)
        return; /* it comes by here when that is over */
    if ((o->state == OBSERVATION_LIVE && o->session != POOL_NONE) || o->forsaken)
        cancel(p, o);
    else if (o->state != OBSERVATION_ENDING)
        observation_free(p, index);
}

void observation_released(struct proxy *p, uint32_t index)
{
    observation_at(p, index)->holders--;
    observation_left(p, index);
}

/* ---- outcomes of its fetches ---- */

void observation_answered(struct proxy *p, struct fetch *f, const struct message *msg)
{
    struct observation *o = observation_at(p, f->observation);

    f->observe_seen = message_has(msg, SLOT_OBSERVE) && code_class(msg->code) == 2;
    if (!f->observe_seen)
        return;
    observation_bind(p, o, f->session, f->server);
    o->heard = true;
    o->heard_number = message_uint(msg, SLOT_OBSERVE, 0);
    o->heard_us = p->m->now;
}

void observation_ask_soon(struct proxy *p, struct observation *o)
{
    wheel_arm(&p->m->wheel, &o->timer, p->m->now + random_below(&p->m->random, ASK_WITHIN_US));
}

/* A want of room in the gateway says nothing of the origin; that one's 5.03 is an answer. */
static bool is_worth_a_try(const struct proxy *p, struct observation *o, const struct fetch *f)
{
    if (f->answer == CONTENT_NONE && f->code == CODE_SERVICE_UNAVAILABLE)
        return true;
    if (o->failures == 0)
        o->failing_us = p->m->now;
    if (o->failures < UINT8_MAX)
        o->failures++;
    if (o->state == OBSERVATION_REGISTERING) /* its clients are those of before a restart */
        return p->m->now - o->failing_us < PATIENCE_US;
    return o->failures < FAILURES_MAX;
}

/* Many may have failed at once. */
static void try_again(struct proxy *p, struct observation *o)
{
    unsigned doubles = o->failures < PAUSE_DOUBLES ? o->failures : PAUSE_DOUBLES;
    uint64_t pause_us = (uint64_t)LATE_FIRST_US << doubles;

    wheel_arm(&p->m->wheel, &o->timer,
              p->m->now + pause_us + random_below(&p->m->random, LATE_FIRST_US));
}

static bool registered(struct proxy *p, struct observation *o, const struct fetch *f)
{
    bool failed = f->answer == CONTENT_NONE || f->stale;

    if (!failed && f->observe_seen) {
        o->state = OBSERVATION_LIVE;
        o->failures = 0;
        o->holders++;
        observation_heard(p, o, content_hold(&p->contents, f->answer));
        if (o->missed)
            observation_ask_soon(p, o);
        return true;
    }
    if (failed && o->relation_count && is_worth_a_try(p, o, f)) {
        try_again(p, o);
        return false;
    }
    if (failed)
        observation_give_up(p, o, f->code ? f->code : CODE_GATEWAY_TIMEOUT);
    else /* the origin does not let us observe: what it says is the last word */
        observation_end(p, o, content_hold(&p->contents, f->answer));
    return false;
}

bool observation_fetched(struct proxy *p, struct fetch *f)
{
    struct observation *o = observation_at(p, f->observation);

    o->fetch = POOL_NONE;
    switch ((enum fetch_role)f->role) {
    case FETCH_REGISTER:
        return registered(p, o, f);
    case FETCH_CANCEL:
        observation_free(p, f->observation);
        return false;
    case FETCH_REST:
        if (f->answer != CONTENT_NONE && !f->stale)
            observation_heard(p, o, content_hold(&p->contents, f->answer));
        else /* the state could not be had */
            observation_ask_soon(p, o);
        return false;
    case FETCH_ANSWER:
        break;
    }
    return false;
}

/* ---- time ---- */

void observation_on_timer(void *context, struct timer *timer, uint64_t now_us)
{
    struct proxy *p = context;

    (void)now_us;
    register_again(
        p, (struct observation *)(void *)((uint8_t *)timer - offsetof(struct observation, timer)));
}
