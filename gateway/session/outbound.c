/* Reliability of what the gateway sends (RFC 7252 4.2) and NSTART (4.7). */
#include <errno.h>
#include <stddef.h>

#include "gateway/session/messaging.h"

#define EMPTY_BYTES 4 /* of an Empty message */

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
    return s->closing || (s->role == SESSION_UPSTREAM && s->gate.shared->held);
}

/* What was sent in an association is not sent again in another one (RFC 7252 9.1.1), and nothing is
 * sent in clear. */
static bool is_mute(const struct session *s)
{
    return __builtin_expect(s->unsecured, 0);
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

    if (is_mute(s))
        return;
    if (ob->chunk == CHUNK_NONE) {
        messaging_send_empty(m, &s->flow, TYPE_CON, ob->key.mid);
        return;
    }
    if (!m->io.alloc(m->io.context, &s->flow, &out)) {
        m->counters->drop_reply_buffer++; /* as if it was lost on the way: it is sent again */
        return;
    }
    chunks_read(&m->chunks, ob->chunk, out.data, ob->length);
    messaging_send(m, &s->flow, &out, ob->length);
}

/* ---- PROBING_RATE (RFC 7252 4.7) ---- */

/* A server does not answer when nothing at all has come from it for ACK_TIMEOUT since the first NON
 * request after its last sign of life. From then on as much time goes by after each NON request as
 * its bytes take at that rate: the average stays below it, and what went out before the silence was
 * known is limited by NSTART. */

/* Messages to where a server was before (see upstreams_move()) are few, and to no one server. */
static bool is_probed(const struct session *s)
{
    return s->role == SESSION_UPSTREAM && s->side.upstream.server != POOL_NONE;
}

static void probe_sent(struct messaging *m, const struct session *s, uint16_t length)
{
    struct gate_shared *shared = s->gate.shared;

    if (!shared->unanswered_us)
        shared->unanswered_us = m->now;
    shared->probed_us = m->now;
    shared->probed_bytes = length;
}

/* When the next one may go, 0: at once. */
static uint64_t probe_due_us(const struct messaging *m, const struct session *s)
{
    const struct gate_shared *shared = s->gate.shared;
    const struct transmission *t = s->transmission;
    uint64_t due_us;

    if (!is_probed(s) || !shared->unanswered_us ||
        m->now < shared->unanswered_us + t->ack_timeout_ms * UINT64_C(1000))
        return 0;
    due_us = shared->probed_us +
             (shared->probed_bytes * UINT64_C(1000000000) + t->probing_rate_milli - 1) /
                 t->probing_rate_milli;
    return due_us > m->now ? due_us : 0;
}

/* ---- sending ---- */

/* Keepalive caps what is between two transmissions, but not how often it is doubled. */
static void arm_retransmit(struct messaging *m, struct outbound *ob, const struct session *s)
{
    uint64_t cap_us = life_keepalive_us(m, s);
    bool capped = cap_us && cap_us < ob->timeout_us;

    wheel_arm(&m->wheel, &ob->timer, m->now + (capped ? cap_us : ob->timeout_us));
}

static void start(struct messaging *m, struct outbound *ob)
{
    struct session *s = session_of(m, ob);

    ob->sent = true;
    ob->sent_us = ob->first_us = m->now;
    gate_of(s)->outstanding++;
    if (s->role == SESSION_UPSTREAM)
        s->seen_us = m->now;
    if (ob->type == TYPE_CON) {
        ob->max_retransmit = s->transmission->max_retransmit;
        ob->timeout_us = transmission_initial_timeout_ms(s->transmission, &m->random) * 1000ull;
        arm_retransmit(m, ob, s);
    } else if (is_probed(s)) {
        probe_sent(m, s, ob->length);
    }
    transmit(m, ob);
}

/* True when the one that has waited longest may go now, as far as its server's silence goes. */
static bool may_probe(struct messaging *m, const struct outbound *ob, struct session *s)
{
    uint64_t due_us = ob->type == TYPE_NON ? probe_due_us(m, s) : 0;

    if (due_us)
        wheel_arm(&m->wheel, &s->gate.shared->probe, due_us);
    return due_us == 0;
}

/* Lets waiting messages go while there is room. */
static void pump(struct messaging *m, struct gate *gate)
{
    while (gate->head != POOL_NONE) {
        struct list waiting = {gate->head, gate->tail};
        uint32_t index = gate->head;
        struct outbound *ob = outbound_at(m, index);
        struct session *s = session_of(m, ob);

        if (gate->outstanding >= s->transmission->nstart || is_mute(s) || !may_probe(m, ob, s))
            return;
        list_remove(&waiting, &m->outbound, BY_GATE, index);
        gate->head = waiting.head;
        gate->tail = waiting.tail;
        gate->waiting--;
        if (ob->owner_kind == OWNER_RELATION)
            m->ops.renew(m->ops.context, ob->owner, index);
        start(m, ob);
    }
}

void outbound_pump(struct messaging *m, struct session *s)
{
    if (!is_held(s))
        pump(m, gate_of(s));
}

void outbound_heard(struct messaging *m, struct gate_shared *shared)
{
    shared->unanswered_us = 0;
    if (!timer_armed(&shared->probe))
        return;
    wheel_cancel(&m->wheel, &shared->probe);
    if (!shared->held)
        pump(m, &shared->gate);
}

void outbound_on_probe(void *context, struct timer *timer, uint64_t now_us)
{
    struct gate_shared *shared =
        (struct gate_shared *)(void *)((uint8_t *)timer - offsetof(struct gate_shared, probe));

    (void)now_us;
    if (!shared->held)
        pump(context, &shared->gate);
}

uint16_t outbound_mid(const struct messaging *m, uint32_t index)
{
    return outbound_at(m, index)->key.mid;
}

void outbound_release(struct messaging *m, struct gate_shared *shared)
{
    shared->held = false;
    pump(m, &shared->gate);
}

bool outbound_was_sent(const struct messaging *m, uint32_t index)
{
    return outbound_at(m, index)->sent;
}

struct session *outbound_first(const struct messaging *m, const struct gate_shared *shared)
{
    uint32_t index = shared->gate.head;

    return index == POOL_NONE ? NULL : session_of(m, outbound_at(m, index));
}

static void gate_enqueue(struct messaging *m, struct gate *gate, uint32_t index)
{
    struct list waiting = {gate->head, gate->tail};

    list_push_back(&waiting, &m->outbound, BY_GATE, index);
    gate->head = waiting.head;
    gate->tail = waiting.tail;
    gate->waiting++;
}

static void gate_leave(struct messaging *m, struct session *s, const struct outbound *ob,
                       uint32_t index)
{
    struct gate *gate = gate_of(s);
    struct list waiting = {gate->head, gate->tail};

    if (ob->sent) {
        gate->outstanding--;
        return;
    }
    list_remove(&waiting, &m->outbound, BY_GATE, index);
    gate->head = waiting.head;
    gate->tail = waiting.tail;
    gate->waiting--;
    if (gate->head == POOL_NONE && s->role == SESSION_UPSTREAM)
        wheel_cancel(&m->wheel, &s->gate.shared->probe);
}

/* Fills in what all kinds have; it is in the session and found by its message ID then. */
static uint32_t enter(struct messaging *m, struct session *s, struct outbound *ob,
                      enum message_type type, uint16_t mid)
{
    uint32_t index = pool_index(&m->outbound, ob);

    ob->key = (struct mid_key){.session = session_index(&m->sessions, s), .mid = mid};
    ob->type = (uint8_t)type;
    ob->retransmits = ob->max_retransmit = 0;
    ob->sent = false;
    timer_init(&ob->timer, TIMER_RETRANSMIT);
    mid_index_add(&m->outbound_index, index);
    chain_push(&s->outbound, &m->outbound, BY_SESSION, index);
    return index;
}

/* What may not go now waits; of a server that does not answer, until the probing rate allows it. */
static void send_or_wait(struct messaging *m, struct session *s, struct outbound *ob,
                         uint32_t index, bool waits)
{
    bool silent = !waits && ob->type == TYPE_NON && probe_due_us(m, s);

    if (!waits && !silent) {
        start(m, ob);
        return;
    }
    gate_enqueue(m, gate_of(s), index);
    if (silent) {
        m->counters->probing_waits++;
        outbound_pump(m, s); /* arms the timer */
    } else {
        m->counters->nstart_waits++;
    }
}

int outbound_submit(struct messaging *m, struct session *s, enum message_type type, uint16_t mid,
                    const void *bytes, uint16_t length, enum owner_kind owner_kind, uint32_t owner,
                    uint32_t *index)
{
    const struct gate *gate = gate_of(s);
    bool waits = gate->outstanding >= s->transmission->nstart || gate->head != POOL_NONE ||
                 is_held(s) || is_mute(s);
    struct outbound *ob;
    uint32_t chunk;

    if (waits && (gate->waiting >= m->config->limits.queue || s->closing))
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
    ob->chunk = chunk;
    ob->length = length;
    ob->owner_kind = (uint8_t)owner_kind;
    ob->owner = owner;
    *index = enter(m, s, ob, type, mid);
    send_or_wait(m, s, ob, *index, waits);
    return 0;
}

bool outbound_ping(struct messaging *m, struct session *s)
{
    struct outbound *ob;
    uint16_t mid;

    /* The other half is for messages that carry something. */
    if (pool_used(&m->outbound) >= (m->outbound.capacity + 1) / 2)
        return false;
    if (!messaging_take_mid(m, s, &mid))
        return false;
    ob = pool_get(&m->outbound);
    ob->chunk = CHUNK_NONE;
    ob->length = EMPTY_BYTES;
    ob->owner_kind = OWNER_PING;
    ob->owner = 0;
    (void)enter(m, s, ob, TYPE_CON, mid);
    s->pinged = true;
    m->pings++;
    start(m, ob);
    return true;
}

/* Takes it out of everything and frees it. The gate is pumped by the caller, after the owner was
 * told. */
static void outbound_free(struct messaging *m, uint32_t index)
{
    struct outbound *ob = outbound_at(m, index);
    struct session *s = session_of(m, ob);

    if (ob->owner_kind == OWNER_PING) {
        s->pinged = false;
        m->pings--;
    }
    wheel_cancel(&m->wheel, &ob->timer);
    gate_leave(m, s, ob, index);
    chain_remove(&s->outbound, &m->outbound, BY_SESSION, index);
    mid_index_remove(&m->outbound_index, index);
    chunks_free(&m->chunks, ob->chunk);
    pool_put(&m->outbound, ob);
}

void outbound_cancel(struct messaging *m, uint32_t index)
{
    struct session *s = session_of(m, outbound_at(m, index));

    outbound_free(m, index);
    outbound_pump(m, s);
}

static bool has_token(const struct messaging *m, const struct outbound *ob, const uint8_t *token,
                      uint32_t token_length)
{
    uint8_t bytes[MESSAGE_MAX_BYTES];
    struct message msg;

    chunks_read(&m->chunks, ob->chunk, bytes, ob->length);
    return message_parse(bytes, ob->length, &msg) == VERDICT_OK &&
           msg.token_length == token_length &&
           (token_length == 0 || memcmp(msg.token, token, token_length) == 0);
}

void outbound_forget(struct messaging *m, struct session *s, const uint8_t *token,
                     uint32_t token_length)
{
    for (uint32_t index = s->outbound; index != POOL_NONE;) {
        const struct outbound *ob = outbound_at(m, index);
        uint32_t next = ob->by_session.next;

        if (!ob->sent && ob->owner_kind == OWNER_NONE && has_token(m, ob, token, token_length))
            outbound_free(m, index);
        index = next;
    }
}

void outbound_clear(struct messaging *m, struct session *s)
{
    while (s->outbound != POOL_NONE)
        outbound_free(m, s->outbound);
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

bool outbound_is_silent(const struct messaging *m, const struct session *s)
{
    for (uint32_t index = s->outbound; index != POOL_NONE;) {
        const struct outbound *ob = outbound_at(m, index);

        if (ob->sent && ob->retransmits && s->seen_us <= ob->first_us)
            return true;
        index = ob->by_session.next;
    }
    return false;
}

static void tell_nack(struct messaging *m, struct session *s, uint16_t mid,
                      enum outbound_outcome outcome)
{
    static const enum session_event events[] = {
        [OUTBOUND_TIMED_OUT] = SESSION_NACK_TIMED_OUT,
        [OUTBOUND_RESET] = SESSION_NACK_RESET,
        [OUTBOUND_UNREACHABLE] = SESSION_NACK_UNREACHABLE,
        [OUTBOUND_MALFORMED] = SESSION_NACK_MALFORMED,
    };

    if (outcome != OUTBOUND_ACKED)
        messaging_event(m, s, events[outcome], mid);
}

/* True when a message was the proof that a client is not there any more: one that waits for an ACK
 * is as good as a ping. */
static bool is_proof(const struct messaging *m, const struct session *s, uint64_t first_us,
                     enum outbound_outcome outcome)
{
    return s->role == SESSION_CLIENT && s->seen_us <= first_us &&
           (outcome == OUTBOUND_TIMED_OUT || outcome == OUTBOUND_UNREACHABLE) &&
           life_keepalive_us(m, s);
}

/* The session may be gone after this. */
static void settle(struct messaging *m, uint32_t index, enum outbound_outcome outcome)
{
    struct outbound *ob = outbound_at(m, index);
    struct session *s = session_of(m, ob);
    enum owner_kind kind = ob->owner_kind;
    uint64_t first_us = ob->first_us;
    uint32_t owner = ob->owner;
    uint16_t mid = ob->key.mid;

    m->settled_sent_us = ob->sent_us;

    outbound_free(m, index);
    if (s->role == SESSION_UPSTREAM && (outcome == OUTBOUND_ACKED || outcome == OUTBOUND_RESET))
        s->gate.shared->heard_us = m->now;
    if (kind == OWNER_PING && (outcome == OUTBOUND_RESET || outcome == OUTBOUND_ACKED)) {
        m->counters->keepalive_pongs++;
        messaging_event(m, s, SESSION_PONG, mid);
    } else {
        tell_nack(m, s, mid, outcome);
    }
    if (kind == OWNER_PING)
        life_ping_over(m, s);
    else if (kind != OWNER_NONE)
        m->ops.settled(m->ops.context, kind, owner, outcome);
    if (is_proof(m, s, first_us, outcome))
        life_failed(m, s, mid);
    else
        outbound_pump(m, s);
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
    struct flow flow = s->flow;
    unsigned n = 0, settled = 0;

    /* Noted first: settling lets waiting ones go, and those are not meant. */
    for (uint32_t index = s->outbound; index != POOL_NONE && n < SETTLE_ALL_MAX;) {
        const struct outbound *ob = outbound_at(m, index);

        if (ob->sent)
            mids[n++] = ob->key.mid;
        index = ob->by_session.next;
    }
    for (unsigned i = 0; i < n && s->open && flow_equal(&s->flow, &flow); i++)
        settled += outbound_settle(m, s, mids[i], outcome);
    return settled;
}

static bool is_doubted(const struct outbound *ob, const struct session *s)
{
    return s->flow.transport == TRANSPORT_DTLS && s->role == SESSION_UPSTREAM &&
           ob->retransmits == DOUBTED_AFTER && s->gate.shared->heard_us <= ob->first_us;
}

void outbound_on_timer(void *context, struct timer *timer, uint64_t now_us)
{
    struct messaging *m = context;
    struct outbound *ob =
        (struct outbound *)(void *)((uint8_t *)timer - offsetof(struct outbound, timer));
    struct session *s = session_of(m, ob);

    if (ob->retransmits >= ob->max_retransmit) {
        m->counters->give_ups++;
        settle(m, pool_index(&m->outbound, ob), OUTBOUND_TIMED_OUT);
        return;
    }
    ob->retransmits++;
    ob->timeout_us *= 2;
    ob->sent_us = now_us;
    m->counters->retransmissions++;
    arm_retransmit(m, ob, s);
    if (ob->owner_kind == OWNER_RELATION)
        m->ops.renew(m->ops.context, ob->owner, pool_index(&m->outbound, ob));
    transmit(m, ob);
    if (is_doubted(ob, s))
        m->ops.doubted(m->ops.context, s);
}
