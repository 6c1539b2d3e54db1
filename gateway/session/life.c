/* The life of a session: how it begins, how it is told whether its client is still there, and how
 * it ends.
 *
 * A session has one timer, which packets do not touch: when it fires it looks at what has happened
 * since, and is armed for when there is something to look at next. That is when an unused session
 * expires, and, with keepalive, when the client is to be pinged: nothing has been received from it
 * for that long, nor sent to it. A tenth of the interval at the most is added at random, so that
 * sessions that began in the same moment are not pinged in the same moment. A message that waits
 * for its ACK is as good as a ping. When one or the other finds no answer, the client is not there
 * any more.
 *
 * The answer to a ping only arms the timer: it is no use of the session, which expires in its time
 * with or without. */
#include <errno.h>
#include <stddef.h>

#include "gateway/session/messaging.h"

#define JITTER_DIVISOR 10u

/* A ping that there is no room for is put off for one to two such parts of the interval: when many
 * clients are gone at once, all others come by here. */
#define POSTPONE_DIVISOR 4u

/* ---- keepalive ---- */

uint64_t life_keepalive_us(const struct messaging *m, const struct session *s)
{
    return s->role == SESSION_CLIENT ? messaging_listener(m, s)->keepalive_us
                                     : s->gate.shared->keepalive_us;
}

/* Up to `most_us`, which is less than a day. */
static uint64_t random_us(struct messaging *m, uint64_t most_us)
{
    return random_below(&m->random, (uint32_t)(most_us / 1000) + 1) * UINT64_C(1000);
}

static uint64_t jitter_us(struct messaging *m, uint64_t keepalive_us)
{
    return random_us(m, keepalive_us / JITTER_DIVISOR);
}

static uint64_t expires_us(const struct messaging *m, const struct session *s)
{
    return s->seen_us + m->config->limits.session_idle_us;
}

/* When something was last received or sent. */
static uint64_t active_us(const struct messaging *m, const struct session *s)
{
    uint64_t quiet_us = session_quiet_us(s, m->now);
    uint64_t sent_us = quiet_us < m->now ? m->now - quiet_us : 0;

    return sent_us > s->seen_us ? sent_us : s->seen_us;
}

/* Pings the client when it is time to. When there is something to look at next. */
static uint64_t keep_alive(struct messaging *m, struct session *s)
{
    uint64_t keepalive_us = life_keepalive_us(m, s);
    uint64_t due_us = active_us(m, s) + keepalive_us;

    if (keepalive_us == 0 || s->pinged)
        return WHEEL_NEVER; /* a ping's end arms the timer */
    if (due_us > m->now)
        return due_us + jitter_us(m, keepalive_us);
    if (s->outbound != POOL_NONE)
        return m->now + keepalive_us;
    if (outbound_ping(m, s)) {
        m->counters->keepalive_pings++;
        return WHEEL_NEVER;
    }
    m->counters->keepalive_postponed++;
    keepalive_us /= POSTPONE_DIVISOR;
    return m->now + keepalive_us + random_us(m, keepalive_us);
}

/* Arms the timer for `look_us`, or for when it expires, should that be earlier. */
static void arm(struct messaging *m, struct session *s, uint64_t look_us)
{
    uint64_t end_us =
        session_is_unused(s) ? expires_us(m, s) : m->now + m->config->limits.session_idle_us;

    wheel_arm(&m->wheel, &s->idle, look_us < end_us ? look_us : end_us);
}

void life_ping_over(struct messaging *m, struct session *s)
{
    uint64_t keepalive_us = life_keepalive_us(m, s);

    arm(m, s, m->now + keepalive_us + jitter_us(m, keepalive_us));
}

/* ---- the end ---- */

static void remove_session(struct messaging *m, struct session *s)
{
    outbound_clear(m, s); /* a ping, at the most */
    if (!s->closing)
        messaging_event(m, s, SESSION_CLOSED, 0);
    dedup_forget(&m->dedup, s);
    (void)messaging_set_transmission(m, s, NULL);
    wheel_cancel(&m->wheel, &s->idle);
    session_remove(&m->sessions, s);
}

/* What still works on requests of a client that has gone neither acknowledges them nor makes
 * relations. */
static void silence(struct messaging *m, struct session *s)
{
    for (uint32_t index = s->exchanges; index != POOL_NONE;) {
        struct exchange *x = pool_at(&m->exchanges, index);

        wheel_cancel(&m->wheel, &x->separate);
        x->retracted = true;
        index = x->by_session.next;
    }
}

/* What was asked of us must not be done twice, should the client be back before it has been
 * forgotten (RFC 7252 4.5). */
static void remove_or_linger(struct messaging *m, struct session *s)
{
    if (s->exchanges != POOL_NONE)
        return; /* the end of the last one arms the timer */
    if (s->remembered_unsafe && expires_us(m, s) > m->now)
        wheel_arm(&m->wheel, &s->idle, expires_us(m, s));
    else
        remove_session(m, s);
}

void messaging_drop_session(struct messaging *m, struct session *s)
{
    if (s->role != SESSION_CLIENT || s->closing)
        return;
    s->closing = true;
    silence(m, s);
    wheel_cancel(&m->wheel, &s->idle);
    m->ops.session_closed(m->ops.context, s);
    outbound_clear(m, s);
    messaging_event(m, s, SESSION_CLOSED, 0);
    remove_or_linger(m, s);
}

void life_failed(struct messaging *m, struct session *s, uint16_t mid)
{
    m->counters->keepalive_failed++;
    messaging_event(m, s, SESSION_KEEPALIVE_FAILED, mid);
    messaging_drop_session(m, s);
}

/* In the next tick: whoever has ended the exchange may go on with its session. */
void life_exchanges_over(struct messaging *m, struct session *s)
{
    wheel_arm(&m->wheel, &s->idle, m->now);
}

/* What has been answered in the meantime may have left something behind. */
static void close_session(struct messaging *m, struct session *s)
{
    if (!session_is_unused(s))
        m->ops.session_closed(m->ops.context, s);
    outbound_clear(m, s);
    remove_or_linger(m, s);
}

static void expire(struct messaging *m, struct session *s)
{
    if (s->role == SESSION_UPSTREAM)
        m->ops.session_closed(m->ops.context, s);
    remove_session(m, s);
    m->counters->sessions_expired++;
}

void life_on_timer(void *context, struct timer *timer, uint64_t now_us)
{
    struct messaging *m = context;
    struct session *s =
        (struct session *)(void *)((uint8_t *)timer - offsetof(struct session, idle));

    (void)now_us;
    if (s->closing)
        close_session(m, s);
    else if (session_is_unused(s) && expires_us(m, s) <= m->now)
        expire(m, s);
    else
        arm(m, s, s->role == SESSION_CLIENT ? keep_alive(m, s) : WHEEL_NEVER);
}

/* ---- the beginning ---- */

static struct session *make_room(struct messaging *m, const struct flow *flow, uint32_t hash)
{
    struct session *victim = session_victim(&m->sessions, &m->mids, m->now);

    if (!victim)
        return NULL;
    remove_session(m, victim);
    m->counters->sessions_evicted++;
    return session_add(&m->sessions, flow, hash);
}

struct session *messaging_open_session(struct messaging *m, const struct flow *flow, uint32_t hash,
                                       const struct transmission *transmission)
{
    struct session *s = session_add(&m->sessions, flow, hash);

    if (!s)
        s = make_room(m, flow, hash);
    if (!s)
        return NULL;
    s->transmission = transmission;
    s->seen_us = m->now;
    s->gate.own.ticks = session_ticks(m->now);
    s->next_mid = session_first_mid(flow, &m->mids, m->now);
    wheel_arm(&m->wheel, &s->idle, expires_us(m, s));
    m->counters->sessions_opened++;
    return s;
}

/* A client is there. */
static void begin(struct messaging *m, struct session *s)
{
    uint64_t keepalive_us = life_keepalive_us(m, s);

    if (keepalive_us)
        arm(m, s, m->now + keepalive_us + jitter_us(m, keepalive_us));
    messaging_event(m, s, SESSION_OPENED, 0);
}

struct session *messaging_open_client(struct messaging *m, const struct flow *flow, uint32_t hash,
                                      const struct config_listener *listener)
{
    struct session *s = messaging_open_session(m, flow, hash, &listener->transmission);

    if (!s)
        return NULL;
    s->place = (uint16_t)(listener - m->config->listeners);
    /* Its cookie has come back from there (RFC 6347 4.2.1), unless that was before a restart. */
    s->proven = flow->transport == TRANSPORT_DTLS && !security_is_unproven(m->security, flow);
    begin(m, s);
    return s;
}

void messaging_reopen(struct messaging *m, struct session *s)
{
    s->closing = false;
    s->seen_us = m->now;
    wheel_arm(&m->wheel, &s->idle, expires_us(m, s));
    m->counters->sessions_opened++;
    begin(m, s);
}

/* ---- parameters ---- */

static const struct transmission *inherited(const struct messaging *m, const struct session *s)
{
    if (s->role == SESSION_CLIENT)
        return &messaging_listener(m, s)->transmission;
    return s->gate.shared->transmission;
}

int messaging_set_transmission(struct messaging *m, struct session *s, const struct transmission *t)
{
    struct transmission *own;

    if (!t && !s->tuned)
        return 0;
    if (t && transmission_check(t))
        return -ERANGE;
    if (s->tuned)
        own = pool_at(&m->parameters, pool_index(&m->parameters, s->transmission));
    else if (!m->parameters.capacity || !(own = pool_get(&m->parameters)))
        return -ENOSPC;
    s->tuned = t != NULL;
    if (t) {
        *own = *t;
        s->transmission = own;
    } else {
        pool_put(&m->parameters, own);
        s->transmission = inherited(m, s);
    }
    outbound_pump(m, s); /* NSTART may be more than it was */
    return 0;
}

void messaging_set_loss(struct messaging *m, const struct loss *loss)
{
    m->loss = *loss;
    m->loss.sent = 0;
}
