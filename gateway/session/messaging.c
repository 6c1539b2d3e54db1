#include "gateway/session/messaging.h"

#include <errno.h>
#include <stddef.h>

#include "gateway/session/journal.h"

/* Timers of one turn: some of them send, and a packet that comes in waits for them. */
#define TIMERS_PER_TURN 512
#define EXPIRE_PER_TURN 1024

#define IP4_UDP_BYTES 28
#define IP6_UDP_BYTES 48

/* ---- sending ---- */

uint16_t messaging_headers(const struct messaging *m, const struct flow *flow)
{
    if (__builtin_expect(flow->transport == TRANSPORT_DTLS, 0))
        return security_headers(m->security, flow) + security_overhead(m->security, flow);
    return address_is_v4(&flow->peer) ? IP4_UDP_BYTES : IP6_UDP_BYTES;
}

uint16_t messaging_room(const struct messaging *m, const struct flow *flow)
{
    uint16_t room = m->config->locals[flow->local].mtu;

    room -= messaging_headers(m, flow);
    return room < MESSAGE_MAX_BYTES ? room : MESSAGE_MAX_BYTES;
}

struct endpoint messaging_peer(const struct messaging *m, const struct flow *flow)
{
    struct endpoint peer = {flow->peer, flow->peer_port};

    (void)security_peer(m->security, flow, &peer);
    return peer;
}

void messaging_send(struct messaging *m, const struct flow *flow, struct outgoing *out,
                    uint16_t length)
{
    m->counters->tx_type[(out->data[0] >> 4) & 3]++;
    m->counters->tx_code[out->data[1]]++;
    if (__builtin_expect(m->loss.active, 0) && loss_strikes(&m->loss, &m->random)) {
        m->counters->lost_on_purpose++;
        m->io.cancel(m->io.context, out);
        return;
    }
    m->io.send(m->io.context, flow, out, length);
}

void messaging_send_empty(struct messaging *m, const struct flow *flow, enum message_type type,
                          uint16_t mid)
{
    struct outgoing out;

    if (!m->io.alloc(m->io.context, flow, &out)) {
        m->counters->drop_reply_buffer++;
        return;
    }
    message_write_empty(out.data, type, mid);
    if (type == TYPE_RST)
        m->counters->resets_sent++;
    messaging_send(m, flow, &out, MESSAGE_HEADER_BYTES);
}

static void reject(struct messaging *m, const struct flow *flow, const struct message *msg)
{
    messaging_send_empty(m, flow, TYPE_RST, msg->mid);
}

/* ---- sessions ---- */

/* Anything that comes from a server ends the limit for one that does not answer. */
static void heard(struct messaging *m, const struct session *s)
{
    if (__builtin_expect(s->gate.shared->unanswered_us != 0, 0))
        outbound_heard(m, s->gate.shared);
}

static const struct config_listener *listener_of(const struct messaging *m, const struct flow *flow)
{
    for (unsigned i = 0; i < m->config->listener_count; i++) {
        const struct config_listener *l = &m->config->listeners[i];

        if (l->port == flow->local_port && l->local == flow->local &&
            l->transport == flow->transport)
            return l;
    }
    return NULL;
}

/* A client without a session whom the table has no room for: answered without any state. */
static void refuse_stateless(struct messaging *m, const struct flow *flow,
                             const struct message *msg)
{
    struct outgoing out;
    struct encoder e;

    m->counters->sessions_refused++;
    if (msg->type != TYPE_CON)
        return;
    if (!m->io.alloc(m->io.context, flow, &out)) {
        m->counters->drop_reply_buffer++;
        return;
    }
    encoder_begin(&e, out.data, out.room, TYPE_ACK, CODE_SERVICE_UNAVAILABLE, msg->mid, msg->token,
                  msg->token_length);
    encoder_uint(&e, OPTION_MAX_AGE, BUSY_MAX_AGE_S);
    if (encoder_end(&e) == 0)
        m->io.cancel(m->io.context, &out);
    else
        messaging_send(m, flow, &out, (uint16_t)encoder_end(&e));
}

/* ---- receiving ---- */

/* RFC 9175 2.3: an Echo that we gave proves that the client gets what is sent to its address. */
static void check_echo(struct messaging *m, struct request *rq)
{
    const struct option_view *echo = &rq->message->first[SLOT_ECHO];
    enum echo_verdict verdict =
        echo_verify(m->echo, &rq->session->flow, m->now, echo->value, echo->length);

    rq->own_echo = verdict != ECHO_FOREIGN;
    if (verdict != ECHO_PROOF)
        return;
    rq->session->proven = true;
    if (rq->session->flow.transport == TRANSPORT_DTLS)
        security_prove(m->security, &rq->session->flow);
}

static void serve_request(struct messaging *m, struct session *s, const struct message *msg,
                          bool multicast)
{
    struct request rq = {.message = msg, .session = s, .dedup = POOL_NONE, .multicast = multicast};

    if (message_has(msg, SLOT_NO_RESPONSE))
        rq.unwanted = (uint8_t)message_uint(msg, SLOT_NO_RESPONSE, 0);
    if (message_has(msg, SLOT_ECHO))
        check_echo(m, &rq);

    if (msg->token_length > m->config->limits.token) {
        /* RFC 8974 2.2.2: longer than this implementation supports. The token is echoed, as the
         * client could not match the answer without. */
        if (msg->type == TYPE_CON)
            reply_code(m, &rq, CODE_BAD_REQUEST, "token too long");
        else
            m->counters->drop_long_token++;
        return;
    }
    if (__builtin_expect(!s->proven && s->flow.transport == TRANSPORT_DTLS, 0) &&
        !code_is_safe(msg->code)) {
        /* A former process may have carried it out, and the client would send it anew. */
        if (!request_is_former(m, &rq))
            reply_challenge(m, &rq);
        return;
    }
    m->ops.request(m->ops.context, &rq);
}

static void receive_request(struct messaging *m, const struct flow *flow, struct session *s,
                            uint32_t hash, const struct message *msg, bool multicast)
{
    if (msg->type != TYPE_CON && msg->type != TYPE_NON) {
        m->counters->drop_request_type++;
        return;
    }
    if (!s) {
        const struct config_listener *l = listener_of(m, flow);

        if (!l) {
            m->counters->drop_no_listener++;
            return;
        }
        s = messaging_open_client(m, flow, hash, l);
        if (!s) {
            refuse_stateless(m, flow, msg);
            return;
        }
    } else if (s->role == SESSION_UPSTREAM) {
        /* We are no server on this flow: there is no context for a request (RFC 7252 4.2). */
        m->counters->drop_upstream_request++;
        heard(m, s);
        if (msg->type == TYPE_CON)
            reject(m, flow, msg);
        return;
    } else if (s->closing) {
        messaging_reopen(m, s);
    }
    s->seen_us = m->now;
    serve_request(m, s, msg, multicast);
}

/* A CON response: acknowledged when it belongs to us, also when it comes again; rejected when not,
 * or when it is not understood (RFC 7252 4.2, 5.4.1). */
static void receive_con_response(struct messaging *m, struct session *s, const struct message *msg)
{
    struct dedup_entry *entry = dedup_find(&m->dedup, s, msg->mid, m->now);
    bool understood = !msg->unknown_critical_unsafe;

    if (entry) {
        m->counters->duplicates++;
        m->counters->duplicates_replayed++;
        messaging_send_empty(m, &s->flow, entry->state == DEDUP_REJECTED ? TYPE_RST : TYPE_ACK,
                             msg->mid);
        return;
    }
    if (!m->ops.response(m->ops.context, s, msg)) {
        m->counters->drop_unmatched_response++;
        reject(m, &s->flow, msg);
        return;
    }
    entry = dedup_add(&m->dedup, s, msg->mid, true, true, m->now);
    if (entry)
        entry->state = understood ? DEDUP_ACKED : DEDUP_REJECTED;
    s->gate.shared->heard_us = m->now;
    m->counters->responses++;
    messaging_send_empty(m, &s->flow, understood ? TYPE_ACK : TYPE_RST, msg->mid);
}

static void receive_response(struct messaging *m, const struct flow *flow, struct session *s,
                             const struct message *msg)
{
    if (msg->type == TYPE_RST) {
        m->counters->drop_request_type++;
        return;
    }
    if (!s || s->role != SESSION_UPSTREAM) {
        m->counters->drop_unmatched_response++;
        if (msg->type == TYPE_CON)
            reject(m, flow, msg);
        return;
    }
    s->seen_us = m->now;
    heard(m, s);
    if (msg->type == TYPE_CON) {
        receive_con_response(m, s, msg);
        return;
    }
    /* Piggybacked: only with the ACK of a message that is waiting for it. */
    if (msg->type == TYPE_ACK && !outbound_settle(m, s, msg->mid, OUTBOUND_ACKED)) {
        m->counters->drop_unmatched_ack++;
        return;
    }
    if (m->ops.response(m->ops.context, s, msg)) {
        s->gate.shared->heard_us = m->now;
        m->counters->responses++;
        return;
    }
    m->counters->drop_unmatched_response++;
    /* A notification that nobody waits for any more: the origin may stop (RFC 7641 3.6). */
    if (msg->type == TYPE_NON && message_has(msg, SLOT_OBSERVE))
        reject(m, flow, msg);
}

static void receive_ping(struct messaging *m, const struct flow *flow, struct session *s,
                         const struct message *msg)
{
    if (!s && !listener_of(m, flow)) {
        m->counters->drop_no_listener++;
        return;
    }
    m->counters->pings++;
    if (s) {
        s->seen_us = m->now;
        messaging_event(m, s, SESSION_PINGED, msg->mid);
    }
    reject(m, flow, msg);
}

/* An ACK or RST. True when it is known what it is about. */
static bool settle_empty(struct messaging *m, struct session *s, const struct message *msg)
{
    bool known;

    if (msg->type == TYPE_ACK)
        return outbound_settle(m, s, msg->mid, OUTBOUND_ACKED);
    /* First to the layer above: what is rejected with it must not be let go by settling. */
    known = m->ops.reset(m->ops.context, s, msg->mid, false);
    return outbound_settle(m, s, msg->mid, OUTBOUND_RESET) || known;
}

/* The answer to a ping of ours is no use that a client makes of its session, and neither is what
 * comes too late for anything: it may be the second answer to a ping that was sent twice. */
static void receive_settling(struct messaging *m, struct session *s, const struct message *msg)
{
    uint32_t pings = m->pings;

    if (!s || !settle_empty(m, s, msg)) {
        m->counters->drop_unmatched_ack += msg->type == TYPE_ACK;
        m->counters->drop_unmatched_rst += msg->type == TYPE_RST;
    } else if (m->pings == pings) {
        s->seen_us = m->now;
    }
}

static void receive_empty(struct messaging *m, const struct flow *flow, struct session *s,
                          const struct message *msg)
{
    if (s && s->role == SESSION_UPSTREAM) {
        s->seen_us = m->now;
        heard(m, s);
    }
    switch ((enum message_type)msg->type) {
    case TYPE_CON:
        receive_ping(m, flow, s, msg);
        return;
    case TYPE_NON:
        m->counters->drop_request_type++;
        return;
    case TYPE_ACK:
    case TYPE_RST:
        receive_settling(m, s, msg);
        return;
    }
}

/* A message format error (RFC 7252 4.2, 4.3). */
static void receive_malformed(struct messaging *m, const struct datagram *d, struct session *s,
                              const struct message *msg, enum message_verdict verdict)
{
    if (s && s->role == SESSION_UPSTREAM)
        heard(m, s);
    if (verdict == VERDICT_SHORT || verdict == VERDICT_VERSION || d->multicast)
        return;
    if (msg->type == TYPE_CON) {
        if (s || listener_of(m, &d->flow))
            reject(m, &d->flow, msg);
        return;
    }
    /* The header of an ACK names the message that it answers: no use to wait for a better one. */
    if (msg->type == TYPE_ACK && s)
        outbound_settle(m, s, msg->mid, OUTBOUND_MALFORMED);
}

/* A multicast request is answered at a random time within the leisure (RFC 7252 8.2), both ends
 * included. */
static void receive_multicast(struct messaging *m, const struct datagram *d,
                              const struct session *s, const struct message *msg)
{
    const struct config_listener *l = listener_of(m, &d->flow);
    const struct transmission *t;
    struct leisure *leisure;
    uint32_t delay_us;

    if (msg->type != TYPE_NON || !code_is_request(msg->code) || !l ||
        d->length > MESSAGE_MAX_BYTES) {
        m->counters->drop_multicast++;
        return;
    }
    leisure = pool_get(&m->leisure);
    if (!leisure) {
        m->counters->drop_leisure_full++;
        return;
    }
    leisure->chunk = chunks_write(&m->chunks, d->data, d->length);
    if (leisure->chunk == CHUNK_NONE) {
        pool_put(&m->leisure, leisure);
        m->counters->drop_leisure_full++;
        return;
    }
    leisure->length = d->length;
    leisure->flow = d->flow;
    timer_init(&leisure->timer, TIMER_LEISURE);
    t = s && s->role == SESSION_CLIENT ? s->transmission : &l->transmission;
    delay_us = random_below(&m->random, t->default_leisure_ms + 1) * 1000u;
    wheel_arm(&m->wheel, &leisure->timer, m->now + delay_us);
}

static void on_leisure(void *context, struct timer *timer, uint64_t now_us)
{
    struct messaging *m = context;
    struct leisure *leisure =
        (struct leisure *)(void *)((uint8_t *)timer - offsetof(struct leisure, timer));
    struct flow flow = leisure->flow;
    uint8_t bytes[MESSAGE_MAX_BYTES];
    uint16_t length = leisure->length;
    struct message msg;
    uint32_t hash;

    (void)now_us;
    chunks_read(&m->chunks, leisure->chunk, bytes, length);
    chunks_free(&m->chunks, leisure->chunk);
    pool_put(&m->leisure, leisure);
    if (message_parse(bytes, length, &msg) != VERDICT_OK)
        return; /* it was parsed when it came in: cannot be */
    hash = session_hash(&m->sessions, &flow);
    receive_request(m, &flow, session_find(&m->sessions, &flow, hash), hash, &msg, true);
}

void messaging_receive(struct messaging *m, const struct datagram *d, struct session *s,
                       uint32_t hash)
{
    struct message msg;
    enum message_verdict verdict = message_parse(d->data, d->length, &msg);

    /* What the burst's look-up found may be gone, or may be there now, by what came before in it.
     */
    if (s ? !s->open || !flow_equal(&s->flow, &d->flow) : m->sessions.changed)
        s = session_find(&m->sessions, &d->flow, hash);
    m->counters->rx_verdict[verdict]++;
    if (verdict != VERDICT_OK) {
        receive_malformed(m, d, s, &msg, verdict);
        return;
    }
    m->counters->rx_type[msg.type]++;
    m->counters->rx_code[msg.code]++;
    if (d->multicast)
        receive_multicast(m, d, s, &msg);
    else if (code_is_request(msg.code))
        receive_request(m, &d->flow, s, hash, &msg, false);
    else if (msg.code == CODE_EMPTY)
        receive_empty(m, &d->flow, s, &msg);
    else
        receive_response(m, &d->flow, s, &msg);
}

static bool unreachable_message(struct messaging *m, struct session *s, uint16_t mid)
{
    return outbound_settle(m, s, mid, OUTBOUND_UNREACHABLE) ||
           m->ops.reset(m->ops.context, s, mid, true);
}

void messaging_unreachable(struct messaging *m, const struct flow *flow, const uint8_t *quoted,
                           size_t length)
{
    struct session *s = session_find(&m->sessions, flow, session_hash(&m->sessions, flow));
    unsigned settled = 0;

    if (s && length >= MESSAGE_HEADER_BYTES)
        settled = unreachable_message(m, s, (uint16_t)(quoted[2] << 8 | quoted[3]));
    else if (s)
        settled = outbound_settle_all(m, s, OUTBOUND_UNREACHABLE);
    if (settled)
        m->counters->unreachables += settled;
    else
        m->counters->drop_stray_icmp++;
}

/* ---- time ---- */

unsigned messaging_advance(struct messaging *m)
{
    unsigned done = wheel_advance(&m->wheel, m->now, TIMERS_PER_TURN);

    return done + dedup_expire(&m->dedup, m->now, EXPIRE_PER_TURN);
}

uint64_t messaging_next_us(const struct messaging *m)
{
    uint64_t timers = wheel_next_us(&m->wheel), dedup = dedup_next_us(&m->dedup);

    return timers < dedup ? timers : dedup;
}

/* ---- start and end ---- */

void messaging_lifetimes(const struct config *config, uint64_t *con_us, uint64_t *non_us)
{
    uint64_t con_ms = EXCHANGE_LIFETIME_MS, non_ms = NON_LIFETIME_MS;

    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct transmission *t = &config->listeners[i].transmission;

        if (transmission_exchange_lifetime_ms(t) > con_ms)
            con_ms = transmission_exchange_lifetime_ms(t);
        if (transmission_non_lifetime_ms(t) > non_ms)
            non_ms = transmission_non_lifetime_ms(t);
    }
    *con_us = con_ms * 1000;
    *non_us = non_ms * 1000;
}

/* How long it takes a client at the most to send a message for the second time. */
static uint64_t repeated_after_us(const struct config *config)
{
    uint64_t us = 0;

    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct transmission *t = &config->listeners[i].transmission;
        uint64_t own_us = (uint64_t)t->ack_timeout_ms * t->ack_random_factor_milli;

        if (own_us > us)
            us = own_us;
    }
    return us;
}

static int init_memory(struct messaging *m, uint32_t sessions)
{
    const struct config_limits *limits = &m->config->limits;
    uint64_t con_us, non_us;
    int err;

    messaging_lifetimes(m->config, &con_us, &non_us);
    m->echo = echo_create(&m->random);
    if (!m->echo)
        return -ENOMEM;
    if ((err = session_table_init(&m->sessions, sessions, random_u64(&m->random))))
        return err;
    if ((err = chunks_init(&m->chunks, limits->message_bytes)))
        return err;
    if ((err = dedup_init(&m->dedup, limits->remembered, con_us, non_us, &m->chunks, &m->sessions)))
        return err;
    m->dedup.young_us = repeated_after_us(m->config);
    if ((err = pool_init(&m->outbound, sizeof(struct outbound), limits->outbound)))
        return err;
    if ((err = mid_index_init(&m->outbound_index, &m->outbound)))
        return err;
    if ((err = pool_init(&m->exchanges, sizeof(struct exchange), limits->exchanges)))
        return err;
    if (limits->parameter_sets &&
        (err = pool_init(&m->parameters, sizeof(struct transmission), limits->parameter_sets)))
        return err;
    return pool_init(&m->leisure, sizeof(struct leisure), LEISURE_MAX);
}

/* Entries of the journal go by those of the table. */
static int join_journal(struct messaging *m, const struct messaging_setup *setup)
{
    const struct journal_head *head = setup->journal ? setup->journal->head : NULL;

    if (!head)
        return 0;
    if (setup->index >= head->workers || m->dedup.pool.capacity > head->entries)
        return -EINVAL;
    m->journal = setup->journal;
    m->noted = journal_noted(setup->journal, setup->index);
    return 0;
}

int messaging_init(struct messaging *m, const struct messaging_setup *setup, uint64_t now)
{
    int err;

    memset(m, 0, sizeof(*m));
    m->now = now;
    m->config = setup->config;
    m->io = setup->io;
    m->ops = setup->ops;
    m->counters = setup->counters;
    m->shared_key = setup->shared_key;
    random_seed(&m->random, setup->seed);
    m->mids.key = random_u64(&m->random);
    if (setup->mids.key)
        m->mids = setup->mids;
    messaging_set_loss(m, &setup->config->packet_loss);
    wheel_init(&m->wheel, now);
    wheel_handle(&m->wheel, TIMER_SESSION_IDLE, life_on_timer, m);
    wheel_handle(&m->wheel, TIMER_RETRANSMIT, outbound_on_timer, m);
    wheel_handle(&m->wheel, TIMER_PROBE, outbound_on_probe, m);
    wheel_handle(&m->wheel, TIMER_SEPARATE, exchange_on_timer, m);
    wheel_handle(&m->wheel, TIMER_LEISURE, on_leisure, m);
    err = init_memory(m, setup->sessions);
    if (!err)
        err = join_journal(m, setup);
    if (err)
        messaging_fini(m);
    return err;
}

void messaging_fini(struct messaging *m)
{
    echo_destroy(m->echo);
    pool_fini(&m->parameters);
    pool_fini(&m->leisure);
    pool_fini(&m->exchanges);
    mid_index_fini(&m->outbound_index);
    pool_fini(&m->outbound);
    dedup_fini(&m->dedup);
    chunks_fini(&m->chunks);
    session_table_fini(&m->sessions);
}
