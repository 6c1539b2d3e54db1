/* Reliability of what the gateway sends (RFC 7252 4.2) and NSTART (4.7). */
#include <errno.h>
#include <stddef.h>

#include "gateway/session/messaging.h"

#define BY_SESSION offsetof(struct outbound, by_session)
#define BY_GATE    offsetof(struct outbound, by_gate)

/* One ICMP error ends at most so many messages. */
#define SETTLE_ALL_MAX 64

static struct gate *gate_of(struct session *s)
{
    return s->role == SESSION_UPSTREAM ? &s->gate.shared->gate : &s->gate.own;
}

static bool is_held(const struct session *s)
{
    return s->role == SESSION_UPSTREAM && s->gate.shared->held;
}

static struct session *session_of(const struct messaging *m, const struct outbound *ob)
{
    return session_at(&m->sessions, ob->key.session);
}

static struct outbound *outbound_at(const struct messaging *m, uint32_t index)
{
    return pool_at(&m->outbound, index);
}

static void transmit(struct messaging *m, const struct outbound *ob)
{
    const struct session *s = session_of(m, ob);
    struct outgoing out;

    if (!m->io.alloc(m->io.context, &s->flow, &out)) {
        m->counters->drop_reply_buffer++; /* as if it was lost on the way: it is sent again */
        return;
    }
    chunks_read(&m->chunks, ob->chunk, out.data, ob->length);
    messaging_send(m, &s->flow, &out, ob->length);
}

static void start(struct messaging *m, struct outbound *ob)
{
    struct session *s = session_of(m, ob);

    ob->sent = true;
    ob->sent_us = m->now;
    gate_of(s)->outstanding++;
    if (s->role == SESSION_UPSTREAM)
        s->seen_us = m->now;
    if (ob->type == TYPE_CON) {
        ob->timeout_us = transmission_initial_timeout_ms(s->transmission, &m->random) * 1000ull;
        wheel_arm(&m->wheel, &ob->timer, m->now + ob->timeout_us);
    }
    transmit(m, ob);
}

/* Lets waiting messages go while there is room. */
static void pump(struct messaging *m, struct gate *gate, const struct transmission *t)
{
    while (gate->head != POOL_NONE && gate->outstanding < t->nstart) {
        struct list waiting = {gate->head, gate->tail};
        uint32_t index = gate->head;

        list_remove(&waiting, &m->outbound, BY_GATE, index);
        gate->head = waiting.head;
        gate->tail = waiting.tail;
        gate->waiting--;
        if (outbound_at(m, index)->owner_kind == OWNER_RELATION)
            m->ops.renew(m->ops.context, outbound_at(m, index)->owner, index);
        start(m, outbound_at(m, index));
    }
}

static void gate_pump(struct messaging *m, struct session *s)
{
    if (!is_held(s))
        pump(m, gate_of(s), s->transmission);
}

uint16_t outbound_mid(const struct messaging *m, uint32_t index)
{
    return outbound_at(m, index)->key.mid;
}

void outbound_release(struct messaging *m, struct gate_shared *shared, const struct transmission *t)
{
    shared->held = false;
    pump(m, &shared->gate, t);
}

bool outbound_was_sent(const struct messaging *m, uint32_t index)
{
    return outbound_at(m, index)->sent;
}

static void gate_enqueue(struct messaging *m, struct gate *gate, uint32_t index)
{
    struct list waiting = {gate->head, gate->tail};

    list_push_back(&waiting, &m->outbound, BY_GATE, index);
    gate->head = waiting.head;
    gate->tail = waiting.tail;
    gate->waiting++;
    m->counters->nstart_waits++;
}

static void gate_leave(struct messaging *m, struct gate *gate, const struct outbound *ob,
                       uint32_t index)
{
    struct list waiting = {gate->head, gate->tail};

    if (ob->sent) {
        gate->outstanding--;
        return;
    }
    list_remove(&waiting, &m->outbound, BY_GATE, index);
    gate->head = waiting.head;
    gate->tail = waiting.tail;
    gate->waiting--;
}

int outbound_submit(struct messaging *m, struct session *s, enum message_type type, uint16_t mid,
                    const void *bytes, uint16_t length, enum owner_kind owner_kind, uint32_t owner,
                    uint32_t *index)
{
    struct gate *gate = gate_of(s);
    bool waits =
        gate->outstanding >= s->transmission->nstart || gate->head != POOL_NONE || is_held(s);
    struct outbound *ob;
    uint32_t chunk;

    if (waits && gate->waiting >= m->config->limits.queue)
        return -ENOBUFS;
    ob = pool_get(&m->outbound);
    if (!ob)
        return -ENOMEM;
    do
        chunk = chunks_write(&m->chunks, bytes, length);
    while (chunk == CHUNK_NONE && dedup_yield(&m->dedup));
    if (chunk == CHUNK_NONE) {
        pool_put(&m->outbound, ob);
        return -ENOMEM;
    }
    ob->key = (struct mid_key){.session = session_index(&m->sessions, s), .mid = mid};
    ob->chunk = chunk;
    ob->length = length;
    ob->type = (uint8_t)type;
    ob->retransmits = 0;
    ob->owner_kind = (uint8_t)owner_kind;
    ob->owner = owner;
    ob->sent = false;
    timer_init(&ob->timer, TIMER_RETRANSMIT);
    *index = pool_index(&m->outbound, ob);
    mid_index_add(&m->outbound_index, *index);
    chain_push(&s->outbound, &m->outbound, BY_SESSION, *index);
    if (waits)
        gate_enqueue(m, gate, *index);
    else
        start(m, ob);
    return 0;
}

/* Takes it out of everything and frees it. The gate is pumped by the caller, after the owner was
 * told. */
static void outbound_free(struct messaging *m, uint32_t index)
{
    struct outbound *ob = outbound_at(m, index);
    struct session *s = session_of(m, ob);

    wheel_cancel(&m->wheel, &ob->timer);
    gate_leave(m, gate_of(s), ob, index);
    chain_remove(&s->outbound, &m->outbound, BY_SESSION, index);
    mid_index_remove(&m->outbound_index, index);
    chunks_free(&m->chunks, ob->chunk);
    pool_put(&m->outbound, ob);
}

void outbound_cancel(struct messaging *m, uint32_t index)
{
    struct session *s = session_of(m, outbound_at(m, index));

    outbound_free(m, index);
    gate_pump(m, s);
}

void outbound_disown(struct messaging *m, uint32_t index)
{
    outbound_at(m, index)->owner_kind = OWNER_NONE;
}

bool outbound_replace(struct messaging *m, uint32_t index, uint16_t mid, const void *bytes,
                      uint16_t length)
{
    struct outbound *ob = outbound_at(m, index);
    uint32_t chunk;

    do
        chunk = chunks_write(&m->chunks, bytes, length);
    while (chunk == CHUNK_NONE && dedup_yield(&m->dedup));
    if (chunk == CHUNK_NONE)
        return false;
    chunks_free(&m->chunks, ob->chunk);
    ob->chunk = chunk;
    ob->length = length;
    mid_index_remove(&m->outbound_index, index);
    ob->key.mid = mid;
    mid_index_add(&m->outbound_index, index);
    return true;
}

static void settle(struct messaging *m, uint32_t index, enum outbound_outcome outcome)
{
    struct outbound *ob = outbound_at(m, index);
    struct session *s = session_of(m, ob);
    enum owner_kind kind = ob->owner_kind;
    uint32_t owner = ob->owner;

    m->settled_sent_us = ob->sent_us;

    outbound_free(m, index);
    if (s->role == SESSION_UPSTREAM && (outcome == OUTBOUND_ACKED || outcome == OUTBOUND_RESET))
        s->gate.shared->heard_us = m->now;
    if (kind != OWNER_NONE)
        m->ops.settled(m->ops.context, kind, owner, outcome);
    gate_pump(m, s);
}

bool outbound_settle(struct messaging *m, const struct session *s, uint16_t mid,
                     enum outbound_outcome outcome)
{
    uint32_t index = mid_index_find(&m->outbound_index, session_index(&m->sessions, s), mid);
    const struct outbound *ob;

    if (index == POOL_NONE)
        return false;
    ob = outbound_at(m, index);
    /* What was not sent cannot be acknowledged: a guess must not free a slot. Nor has a NON an ACK.
     */
    if (!ob->sent || (ob->type != TYPE_CON && outcome == OUTBOUND_ACKED))
        return false;
    settle(m, index, outcome);
    return true;
}

unsigned outbound_settle_all(struct messaging *m, const struct session *s,
                             enum outbound_outcome outcome)
{
    uint16_t mids[SETTLE_ALL_MAX];
    unsigned n = 0, settled = 0;

    /* Noted first: settling lets waiting ones go, and those are not meant. */
    for (uint32_t index = s->outbound; index != POOL_NONE && n < SETTLE_ALL_MAX;) {
        const struct outbound *ob = outbound_at(m, index);

        if (ob->sent)
            mids[n++] = ob->key.mid;
        index = ob->by_session.next;
    }
    for (unsigned i = 0; i < n; i++)
        settled += outbound_settle(m, s, mids[i], outcome);
    return settled;
}

void outbound_on_timer(void *context, struct timer *timer, uint64_t now_us)
{
    struct messaging *m = context;
    struct outbound *ob =
        (struct outbound *)(void *)((uint8_t *)timer - offsetof(struct outbound, timer));
    const struct session *s = session_of(m, ob);

    if (ob->retransmits >= s->transmission->max_retransmit) {
        m->counters->give_ups++;
        settle(m, pool_index(&m->outbound, ob), OUTBOUND_TIMED_OUT);
        return;
    }
    ob->retransmits++;
    ob->timeout_us *= 2;
    ob->sent_us = now_us;
    m->counters->retransmissions++;
    wheel_arm(&m->wheel, &ob->timer, now_us + ob->timeout_us);
    if (ob->owner_kind == OWNER_RELATION)
        m->ops.renew(m->ops.context, ob->owner, pool_index(&m->outbound, ob));
    transmit(m, ob);
}
