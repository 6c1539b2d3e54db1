/* Resources observed at origins (RFC 7641 5): one observation for each target, whose state goes to
 * the cache and to all clients that observe. */
#include <errno.h>
#include <stddef.h>

#include "gateway/memory.h"
#include "gateway/proxy/local.h"

#define BY_SERVER offsetof(struct observation, by_server)
#define BY_FANOUT offsetof(struct observation, by_fanout)

/* After Max-Age has passed without a notification, a registration is made again within this time
 * (RFC 7641 3.3.1). */
#define LATE_FIRST_US 5000000u
#define LATE_LAST_US  15000000u

/* A state that is known to be there is asked for within this time. */
#define ASK_WITHIN_US 200000u

/* So many registrations in a row have to fail before clients are told that it is over. */
#define FAILURES_MAX 3

/* After a restart clients are told later: the origin may have been started at the same time, and
 * take longer. The pause between two registrations doubles so often. */
#define PATIENCE_US   UINT64_C(300000000)
#define PAUSE_DOUBLES 3

/* A number further back than this is newer all the same (RFC 7641 3.4). */
#define NUMBER_LIFETIME_US UINT64_C(128000000)

/* Numbers are not behind a clock with 61 ticks a second, nor behind those of any observation that
 * was given up: one that is made again goes on behind the last number of the one before (RFC 7641
 * 4.4). In the 24 hours within which a client gets a notification they grow by less than 2^23. They
 * are kept whole; 24 bits are sent. */
#define NUMBER_CLOCK_SHIFT 14
#define NUMBER_MASK        UINT32_C(0xffffff)

static uint32_t index_of(const struct proxy *p, const struct observation *o)
{
    return pool_index(&p->observations, o);
}

/* ---- numbers ---- */

static uint64_t clock_number(const struct proxy *p)
{
    return p->m->now >> NUMBER_CLOCK_SHIFT;
}

void observation_keep_up(const struct proxy *p, struct observation *o)
{
    if (o->number < clock_number(p))
        o->number = clock_number(p);
    if (o->number <= p->persist.floor) /* the clock has been set back since */
        o->number = p->persist.floor + 1;
}

uint32_t observation_number(const struct observation *o)
{
    return (uint32_t)o->number & NUMBER_MASK;
}

uint32_t observation_next_number(struct proxy *p, struct observation *o)
{
    o->number++;
    persist_number(p, o->number);
    return observation_number(o);
}

/* ---- life ---- */

struct observation *observation_new(struct proxy *p)
{
    struct observation *o = p->observations.capacity ? pool_get(&p->observations) : NULL;

    if (!o) {
        p->m->counters->refused_observations++;
        return NULL;
    }
    *o = (struct observation){
        .relations = LIST_NONE,
        .target = TARGET_NONE,
        .server = SERVER_NONE,
        .session = POOL_NONE,
        .fetch = POOL_NONE,
        .content = CONTENT_NONE,
        .cursor = POOL_NONE,
        .number = p->number_top,
        .state = OBSERVATION_REGISTERING,
    };
    timer_init(&o->timer, TIMER_OBSERVATION);
    observation_keep_up(p, o);
    return o;
}

uint32_t observation_get(struct proxy *p, uint32_t index)
{
    struct target *target = target_at(&p->targets, index);
    struct observation *o;

    if (target->observation != POOL_NONE)
        return target->observation;
    o = observation_new(p);
    if (!o)
        return POOL_NONE;
    o->target = index;
    target->refs++;
    target->observation = index_of(p, o);
    p->observation_nonces[index_of(p, o)] = (uint32_t)random_u64(&p->m->random) | 1;
    p->m->counters->observations++;
    return index_of(p, o);
}

static void unbind(struct proxy *p, struct observation *o)
{
    if (o->server != SERVER_NONE) {
        struct server *server = &p->upstreams.servers[o->server];

        list_remove(&server->observations, &p->observations, BY_SERVER, index_of(p, o));
        server->observation_count--;
    }
    if (o->session != POOL_NONE)
        session_at(&p->m->sessions, o->session)->side.upstream.users--;
    o->server = SERVER_NONE;
    o->session = POOL_NONE;
}

/* A destination of the forward proxy is not given up then. */
static void hold_server(struct proxy *p, struct observation *o, uint32_t index)
{
    struct server *server = &p->upstreams.servers[index];

    unbind(p, o);
    o->server = index;
    list_push_back(&server->observations, &p->observations, BY_SERVER, index_of(p, o));
    server->observation_count++;
}

static void bind(struct proxy *p, struct observation *o, uint32_t session, uint32_t index)
{
    hold_server(p, o, index);
    o->session = session;
    session_at(&p->m->sessions, session)->side.upstream.users++;
}

/* Who asks for the target from now on gets a new observation. */
static void detach(struct proxy *p, struct observation *o)
{
    if (p->number_top < o->number)
        p->number_top = o->number;
    if (o->target != TARGET_NONE &&
        target_at(&p->targets, o->target)->observation == index_of(p, o))
        target_at(&p->targets, o->target)->observation = POOL_NONE;
}

void observation_free(struct proxy *p, uint32_t index)
{
    struct observation *o = observation_at(p, index);

    detach(p, o);
    unbind(p, o);
    wheel_cancel(&p->m->wheel, &o->timer);
    if (o->in_fanout)
        list_remove(&p->fanout, &p->observations, BY_FANOUT, index);
    content_release(&p->contents, o->content);
    p->observation_nonces[index] = 0;
    if (o->target != TARGET_NONE)
        target_release(&p->targets, o->target);
    pool_put(&p->observations, o);
}

/* ---- requests to the origin ---- */

struct place observation_place(const struct proxy *p, const struct observation *o)
{
    struct place place = {
        .config = o->config, .first = o->first, .count = o->count, .route = ROUTE_NONE};

    rope_read(&p->contents.chunks, &target_at(&p->targets, o->target)->key, NULL, 0, &place.space,
              sizeof(place.space));
    return place;
}

static uint32_t open_fetch(struct proxy *p, struct observation *o, enum fetch_role role)
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
        .observation = index_of(p, o),
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
static void abort_rest(struct proxy *p, struct observation *o)
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

    abort_rest(p, o);
    o->missed = false;
    o->config = place->config;
    o->first = place->first;
    o->count = place->count;
    o->hop_limit = hop_limit;
    if (open_fetch(p, o, FETCH_REGISTER) == POOL_NONE)
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

    if (o->fetch == POOL_NONE && observation_register(p, index_of(p, o), &place, o->hop_limit)) {
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
        hold_server(p, o, place->first);
    wheel_arm(&p->m->wheel, &o->timer, p->m->now + random_below(&p->m->random, spread + 1));
}

/* RFC 7641 3.6: with the token of the registration. */
static void cancel(struct proxy *p, struct observation *o)
{
    o->state = OBSERVATION_ENDING;
    o->forsaken = false;
    detach(p, o);
    wheel_cancel(&p->m->wheel, &o->timer);
    if (open_fetch(p, o, FETCH_CANCEL) == POOL_NONE) {
        observation_free(p, index_of(p, o)); /* a notification will be answered with a RST */
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
    abort_rest(p, o);
    if (o->fetch != POOL_NONE)
        return; /* it comes by here when that is over */
    if (o->state == OBSERVATION_LIVE || o->forsaken)
        cancel(p, o);
    else if (o->state != OBSERVATION_ENDING)
        observation_free(p, index);
}

void observation_released(struct proxy *p, uint32_t index)
{
    observation_at(p, index)->holders--;
    observation_left(p, index);
}

/* ---- states ---- */

/* The state is good until its Max-Age has passed; then the origin is asked again. */
static void arm(struct proxy *p, struct observation *o)
{
    const struct content *content = content_at(&p->contents, o->content);
    uint64_t late = LATE_FIRST_US + random_below(&p->m->random, LATE_LAST_US - LATE_FIRST_US);

    wheel_arm(&p->m->wheel, &o->timer, p->m->now + content->max_age_s * UINT64_C(1000000) + late);
}

void observation_set(struct proxy *p, struct observation *o, uint32_t content)
{
    content_release(&p->contents, o->content);
    o->content = content;
    o->state_n++;
    o->doubtful = false;
    observation_keep_up(p, o);
    (void)observation_next_number(p, o);
    if (o->relation_count)
        relation_fan_out(p, o);
}

static void set_state(struct proxy *p, struct observation *o, uint32_t content)
{
    observation_set(p, o, content);
    arm(p, o);
}

void observation_over(struct proxy *p, struct observation *o, uint32_t content, uint8_t code)
{
    o->state = OBSERVATION_OVER;
    o->last_code = code;
    detach(p, o);
    wheel_cancel(&p->m->wheel, &o->timer);
    content_release(&p->contents, o->content);
    o->content = content;
    o->state_n++;
    abort_rest(p, o);
    if (o->relation_count)
        relation_fan_out(p, o);
    else
        observation_left(p, index_of(p, o));
}

/* The origin has ended it. */
static void end(struct proxy *p, struct observation *o, uint32_t content)
{
    unbind(p, o);
    p->observation_nonces[index_of(p, o)] = 0;
    observation_over(p, o, content, 0);
}

/* We end it; the origin is told where it has accepted. */
static void give_up(struct proxy *p, struct observation *o, uint8_t code)
{
    o->forsaken = o->session != POOL_NONE;
    observation_over(p, o, CONTENT_NONE, code);
}

bool observation_is_fresh(const struct proxy *p, const struct observation *o)
{
    return o->state == OBSERVATION_LIVE && o->content != CONTENT_NONE && !o->doubtful &&
           content_is_fresh(content_at(&p->contents, o->content), p->m->now);
}

/* ---- outcomes of its fetches ---- */

void observation_answered(struct proxy *p, struct fetch *f, const struct message *msg)
{
    struct observation *o = observation_at(p, f->observation);

    f->observe_seen = message_has(msg, SLOT_OBSERVE) && code_class(msg->code) == 2;
    if (!f->observe_seen)
        return;
    bind(p, o, f->session, f->server);
    o->heard = true;
    o->heard_number = message_uint(msg, SLOT_OBSERVE, 0);
    o->heard_us = p->m->now;
}

static void ask_soon(struct proxy *p, struct observation *o)
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
        set_state(p, o, content_hold(&p->contents, f->answer));
        if (o->missed)
            ask_soon(p, o);
        return true;
    }
    if (failed && o->relation_count && is_worth_a_try(p, o, f)) {
        try_again(p, o);
        return false;
    }
    if (failed)
        give_up(p, o, f->code ? f->code : CODE_GATEWAY_TIMEOUT);
    else /* the origin does not let us observe: what it says is the last word */
        end(p, o, content_hold(&p->contents, f->answer));
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
            set_state(p, o, content_hold(&p->contents, f->answer));
        else /* the state could not be had */
            ask_soon(p, o);
        return false;
    case FETCH_ANSWER:
        break;
    }
    return false;
}

/* ---- notifications ---- */

/* RFC 7641 3.4: true when the message is newer than what has been heard. */
static bool is_newer(const struct proxy *p, const struct observation *o, uint32_t number)
{
    uint32_t v1 = o->heard_number, v2 = number;

    return !o->heard || (v1 < v2 && v2 - v1 < UINT32_C(1) << 23) ||
           (v1 > v2 && v1 - v2 > UINT32_C(1) << 23) || p->m->now - o->heard_us > NUMBER_LIFETIME_US;
}

static bool is_old(const struct proxy *p, const struct observation *o, const struct message *msg)
{
    return message_has(msg, SLOT_OBSERVE) && !is_newer(p, o, message_uint(msg, SLOT_OBSERVE, 0));
}

static void store(struct proxy *p, const struct observation *o, uint32_t content)
{
    if (fetch_is_cacheable(content_at(&p->contents, content)))
        target_store(&p->targets, o->target, content);
    else
        target_forget(&p->targets, o->target);
}

/* The state did not fit into the memory, or nothing can be made of it: it is asked for soon. */
static void miss(struct proxy *p, struct observation *o)
{
    p->m->counters->refused_memory++;
    wheel_arm(&p->m->wheel, &o->timer, p->m->now + LATE_FIRST_US);
}

static void notified_in_blocks(struct proxy *p, struct observation *o, const struct message *msg)
{
    uint32_t fetch = open_fetch(p, o, FETCH_REST);

    if (fetch == POOL_NONE)
        miss(p, o);
    else
        fetch_continue(p, fetch, msg);
}

static bool has_etag_of(const struct message *msg, const struct content *content)
{
    struct etag etag = {.length = (uint8_t)msg->first[SLOT_ETAG].length};

    if (!message_has(msg, SLOT_ETAG))
        return false;
    memcpy(etag.bytes, msg->first[SLOT_ETAG].value, etag.length);
    return etag_equal(&etag, &content->etag);
}

/* RFC 7641 3.2: a state that we have said to know. That may be another than the last one. */
static void notified_valid(struct proxy *p, struct observation *o, const struct message *msg)
{
    struct content *content = content_at(&p->contents, o->content);

    if (message_has(msg, SLOT_ETAG) && !has_etag_of(msg, content)) {
        o->doubtful = true;
        target_forget(&p->targets, o->target);
        ask_soon(p, o);
        return;
    }
    content_refresh(content, msg, p->m->now);
    set_state(p, o, content_hold(&p->contents, o->content));
}

static void notified_whole(struct proxy *p, struct observation *o, const struct message *msg)
{
    uint32_t content = content_create(&p->contents, msg, p->m->now);

    if (content == CONTENT_NONE) {
        miss(p, o);
        return;
    }
    store(p, o, content);
    if (message_has(msg, SLOT_OBSERVE) && code_class(msg->code) == 2)
        set_state(p, o, content);
    else
        end(p, o, content);
}

/* True when nothing can be made of it. */
static bool is_broken(const struct message *msg, struct block *block)
{
    return !code_is_response(msg->code) || msg->unknown_critical_unsafe ||
           msg->unknown_elective_unsafe || msg->options_length > CONTENT_OPTIONS_MAX ||
           (message_has(msg, SLOT_BLOCK2) &&
            (block_decode(message_uint(msg, SLOT_BLOCK2, 0), block) < 0 || block->number));
}

static void hear(struct proxy *p, struct observation *o, const struct message *msg)
{
    p->m->counters->notifications_received++;
    o->heard = message_has(msg, SLOT_OBSERVE);
    o->heard_number = message_uint(msg, SLOT_OBSERVE, 0);
    o->heard_us = p->m->now;
}

static void notified(struct proxy *p, struct observation *o, const struct message *msg)
{
    bool observed = message_has(msg, SLOT_OBSERVE) && code_class(msg->code) == 2;
    struct block block = {0};

    abort_rest(p, o); /* what it is fetching is old */
    if (is_broken(msg, &block))
        give_up(p, o, CODE_BAD_GATEWAY);
    else if (observed && (msg->code == CODE_VALID ||
                          (block.more && has_etag_of(msg, content_at(&p->contents, o->content)))))
        notified_valid(p, o, msg); /* the rest of it is here already */
    else if (observed && block.more)
        notified_in_blocks(p, o, msg);
    else
        notified_whole(p, o, msg);
}

/* Whether a message with the observation's token answers the request that is under way, or
 * notifies. What the origin says while it is asked is an answer, too: it is as new. */
static bool answers(const struct fetch *f, uint32_t session, const struct message *msg)
{
    if (f->session != session)
        return false;
    if (f->role == FETCH_CANCEL)
        return !message_has(msg, SLOT_OBSERVE);
    return f->role == FETCH_REGISTER && f->answer == CONTENT_NONE;
}

bool observation_response(struct proxy *p, uint32_t index, uint32_t session,
                          const struct message *msg)
{
    struct observation *o = observation_at(p, index);
    bool known = o->server != SERVER_NONE && o->session == session; /* it has begun to notify */

    if (known && msg->type != TYPE_ACK && is_old(p, o, msg)) {
        p->m->counters->drop_old_notification++;
        return true;
    }
    if (o->fetch != POOL_NONE && answers(fetch_at(p, o->fetch), session, msg))
        return fetch_response(p, o->fetch, msg);
    if (!known) /* one that was on its way when it ended needs no RST: the origin knows */
        return o->state != OBSERVATION_REGISTERING;
    upstreams_heard(&p->upstreams, o->server);
    if (o->state == OBSERVATION_ENDING || o->state == OBSERVATION_OVER)
        return true;
    hear(p, o, msg);
    if (o->fetch == POOL_NONE || fetch_at(p, o->fetch)->role != FETCH_REGISTER)
        notified(p, o, msg);
    else if (fetch_at(p, o->fetch)->session != session || !fetch_overtake(p, o->fetch, msg))
        o->missed = true; /* the answer that is coming in may be older */
    return true;
}

void observation_server_lost(struct proxy *p, uint32_t index)
{
    struct observation *o = observation_at(p, index);

    if (o->state == OBSERVATION_LIVE && o->count > 1)
        wheel_arm(&p->m->wheel, &o->timer, p->m->now + random_below(&p->m->random, 2000000));
}

/* ---- time ---- */

static void on_timer(void *context, struct timer *timer, uint64_t now_us)
{
    struct proxy *p = context;

    (void)now_us;
    register_again(
        p, (struct observation *)(void *)((uint8_t *)timer - offsetof(struct observation, timer)));
}

int observations_init(struct proxy *p)
{
    uint32_t count = p->m->config->limits.observations;
    int err;

    p->fanout = LIST_NONE;
    wheel_handle(&p->m->wheel, TIMER_OBSERVATION, on_timer, p);
    if (count == 0)
        return 0;
    err = pool_init(&p->observations, sizeof(struct observation), count);
    p->observation_nonces_bytes = sizeof(*p->observation_nonces) * (size_t)count;
    p->observation_nonces = memory_reserve(p->observation_nonces_bytes);
    return err ? err : p->observation_nonces ? 0 : -ENOMEM;
}

void observations_fini(struct proxy *p)
{
    memory_release(p->observation_nonces, p->observation_nonces_bytes);
    pool_fini(&p->observations);
}
