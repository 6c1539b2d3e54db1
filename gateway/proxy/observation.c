/* Resources observed at origins (RFC 7641 5): one observation for each target, whose state goes to
 * the cache and to all clients that observe. Here are its life, its states, and the notifications
 * that come. */
#include "gateway/proxy/observation.h"

#include <errno.h>
#include <stddef.h>

#include "gateway/memory.h"
#include "gateway/proxy/local.h"

#define BY_SERVER offsetof(struct observation, by_server)
#define BY_FANOUT offsetof(struct observation, by_fanout)

/* After Max-Age has passed without a notification the origin is asked, within this time (RFC 7641
 * 3.3.1). */
#define LATE_LAST_US 15000000u

/* A number further back than this is newer all the same (RFC 7641 3.4). */
#define NUMBER_LIFETIME_US UINT64_C(128000000)

/* Numbers are not behind a clock with 61 ticks a second, nor behind those of any observation that
 * was given up: one that is made again goes on behind the last number of the one before (RFC 7641
 * 4.4). In the 24 hours within which a client gets a notification they grow by less than 2^23. They
 * are kept whole; 24 bits are sent. */
#define NUMBER_CLOCK_SHIFT 14
#define NUMBER_MASK        UINT32_C(0xffffff)

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
    target->observation = observation_index(p, o);
    p->observation_nonces[observation_index(p, o)] = (uint32_t)random_u64(&p->m->random) | 1;
    p->m->counters->observations++;
    return observation_index(p, o);
}

static void unbind(struct proxy *p, struct observation *o)
{
    if (o->server != SERVER_NONE) {
        struct server *server = &p->upstreams.servers[o->server];

        list_remove(&server->observations, &p->observations, BY_SERVER, observation_index(p, o));
        server->observation_count--;
    }
    if (o->session != POOL_NONE)
        session_at(&p->m->sessions, o->session)->side.upstream.users--;
    o->server = SERVER_NONE;
    o->session = POOL_NONE;
}

/* A destination of the forward proxy is not given up then. */
void observation_hold_server(struct proxy *p, struct observation *o, uint32_t index)
{
    struct server *server = &p->upstreams.servers[index];

    unbind(p, o);
    o->server = index;
    list_push_back(&server->observations, &p->observations, BY_SERVER, observation_index(p, o));
    server->observation_count++;
}

void observation_bind(struct proxy *p, struct observation *o, uint32_t session, uint32_t index)
{
    observation_hold_server(p, o, index);
    o->session = session;
    session_at(&p->m->sessions, session)->side.upstream.users++;
}

/* Who asks for the target from now on gets a new observation. */
void observation_detach(struct proxy *p, struct observation *o)
{
    if (p->number_top < o->number)
        p->number_top = o->number;
    if (o->target != TARGET_NONE &&
        target_at(&p->targets, o->target)->observation == observation_index(p, o))
        target_at(&p->targets, o->target)->observation = POOL_NONE;
}

void observation_free(struct proxy *p, uint32_t index)
{
    struct observation *o = observation_at(p, index);

    observation_detach(p, o);
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

void observation_heard(struct proxy *p, struct observation *o, uint32_t content)
{
    observation_set(p, o, content);
    arm(p, o);
}

void observation_over(struct proxy *p, struct observation *o, uint32_t content, uint8_t code)
{
    o->state = OBSERVATION_OVER;
    o->last_code = code;
    observation_detach(p, o);
    wheel_cancel(&p->m->wheel, &o->timer);
    content_release(&p->contents, o->content);
    o->content = content;
    o->state_n++;
    observation_abort_rest(p, o);
    if (o->relation_count)
        relation_fan_out(p, o);
    else
        observation_left(p, observation_index(p, o));
}

/* The origin has ended it. */
void observation_end(struct proxy *p, struct observation *o, uint32_t content)
{
    unbind(p, o);
    p->observation_nonces[observation_index(p, o)] = 0;
    observation_over(p, o, content, 0);
}

/* We end it; the origin is told where it has accepted. */
void observation_give_up(struct proxy *p, struct observation *o, uint8_t code)
{
    o->forsaken = o->session != POOL_NONE;
    observation_over(p, o, CONTENT_NONE, code);
}

bool observation_is_fresh(const struct proxy *p, const struct observation *o)
{
    return o->state == OBSERVATION_LIVE && o->content != CONTENT_NONE && !o->doubtful &&
           content_is_fresh(content_at(&p->contents, o->content), p->m->now);
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
    uint32_t fetch = observation_open(p, o, FETCH_REST);

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
        observation_ask_soon(p, o);
        return;
    }
    content_refresh(content, msg, p->m->now);
    observation_heard(p, o, content_hold(&p->contents, o->content));
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
        observation_heard(p, o, content);
    else
        observation_end(p, o, content);
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

    observation_abort_rest(p, o); /* what it is fetching is old */
    if (is_broken(msg, &block))
        observation_give_up(p, o, CODE_BAD_GATEWAY);
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

/* True when it is to be registered now, elsewhere or again. Where other associations with the
 * server stand one that has ended concerns those alone that were made in it. */
static bool is_to_move(const struct observation *o, const struct server *server)
{
    if (o->session == POOL_NONE)
        return !server->down || o->count > 1;
    return o->count > 1 && (server->down || !server_is_secure(server));
}

void observation_server_lost(struct proxy *p, uint32_t index)
{
    struct observation *o = observation_at(p, index);

    if (o->session != POOL_NONE && upstreams_is_cut(session_at(&p->m->sessions, o->session))) {
        observation_hold_server(p, o, o->server); /* the origin does not know it any more */
        o->forsaken = false;
    }
    if (o->state == OBSERVATION_LIVE && is_to_move(o, &p->upstreams.servers[o->server]))
        wheel_arm(&p->m->wheel, &o->timer, p->m->now + random_below(&p->m->random, 2000000));
}

/* ---- start and end ---- */

int observations_init(struct proxy *p)
{
    uint32_t count = p->m->config->limits.observations;
    int err;

    p->fanout = LIST_NONE;
    p->confirms = CONFIRMS_PER_TURN;
    wheel_handle(&p->m->wheel, TIMER_OBSERVATION, observation_on_timer, p);
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
