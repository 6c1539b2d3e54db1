/* Answers to requests: at once, or from an exchange later (RFC 7252 5.2), and deduplication of the
 * requests themselves (4.5). */
#include <stddef.h>

#include "gateway/checksum.h"
#include "gateway/coap/block.h"
#include "gateway/bytes.h"
#include "gateway/session/journal.h"
#include "gateway/session/messaging.h"

#define BY_SESSION offsetof(struct exchange, by_session)

/* Exchanges of one session that are looked at for a duplicate. */
#define UNDER_WAY_PROBES 16

/* ---- duplicates ---- */

/* The answer that is known by its code alone: an ACK with the duplicate's own token. */
static void replay_code(struct messaging *m, const struct request *rq, uint8_t code)
{
    const struct message *msg = rq->message;
    struct outgoing out;
    struct encoder e;

    if (!m->io.alloc(m->io.context, &rq->session->flow, &out)) {
        m->counters->drop_reply_buffer++;
        return;
    }
    encoder_begin(&e, out.data, out.room, TYPE_ACK, code, msg->mid, msg->token, msg->token_length);
    if (e.failed)
        m->io.cancel(m->io.context, &out);
    else
        messaging_send(m, &rq->session->flow, &out, (uint16_t)encoder_end(&e));
}

static void replay_bytes(struct messaging *m, const struct request *rq,
                         const struct dedup_entry *entry)
{
    struct outgoing out;

    if (!m->io.alloc(m->io.context, &rq->session->flow, &out)) {
        m->counters->drop_reply_buffer++;
        return;
    }
    chunks_read(&m->chunks, entry->chunk, out.data, entry->length);
    messaging_send(m, &rq->session->flow, &out, entry->length);
}

static void replay(struct messaging *m, const struct request *rq, const struct dedup_entry *entry)
{
    m->counters->duplicates++;
    switch ((enum dedup_state)entry->state) {
    case DEDUP_PENDING:
    case DEDUP_SILENT:
        m->counters->drop_duplicate++;
        return;
    case DEDUP_REJECTED:
        messaging_send_empty(m, &rq->session->flow, TYPE_RST, rq->message->mid);
        break;
    case DEDUP_ACKED:
        messaging_send_empty(m, &rq->session->flow, TYPE_ACK, rq->message->mid);
        break;
    case DEDUP_ANSWERED:
        if (entry->chunk == CHUNK_NONE)
            replay_code(m, rq, entry->code);
        else
            replay_bytes(m, rq, entry);
        break;
    }
    m->counters->duplicates_replayed++;
}

/* A request that is being worked on although there was no room to remember it: its duplicates are
 * known by the exchange itself. True when the request is one. */
static bool is_under_way(struct messaging *m, const struct request *rq)
{
    uint32_t index = rq->session->exchanges;

    for (unsigned i = 0; index != POOL_NONE && i < UNDER_WAY_PROBES; i++) {
        const struct exchange *x = pool_at(&m->exchanges, index);

        if (x->dedup == POOL_NONE && x->mid == rq->message->mid) {
            m->counters->duplicates++;
            if (x->acked)
                messaging_send_empty(m, &rq->session->flow, TYPE_ACK, x->mid);
            else
                m->counters->drop_duplicate++;
            return true;
        }
        index = x->by_session.next;
    }
    return false;
}

/* Of the unsafe methods, those whose second execution has another effect than the first: PUT,
 * DELETE (RFC 7252 5.1) and iPATCH (RFC 8132 3) are idempotent. */
static bool adds_up(const struct message *msg)
{
    struct block block;

    if (msg->code != CODE_POST && msg->code != CODE_PATCH)
        return false;
    /* What others follow is executed with the last one (RFC 7959 2.3), and is lost with a process
     * like those that it came with. */
    return !message_has(msg, SLOT_BLOCK1) ||
           block_decode(message_uint(msg, SLOT_BLOCK1, 0), &block) != 0 || !block.more;
}

/* A process before this one has had it: its answer, if there was one, is not known any more. A NON
 * is ignored (RFC 7252 4.3). */
static void refuse_former(struct messaging *m, const struct request *rq)
{
    if (rq->message->type != TYPE_CON) {
        m->counters->drop_former++;
        return;
    }
    m->counters->refused_former++;
    reply_code(m, rq, CODE_GATEWAY_TIMEOUT,
               "the gateway was restarted: it is not known whether this was carried out");
}

bool request_is_former(struct messaging *m, const struct request *rq)
{
    const struct message *msg = rq->message;
    const struct flow *flow = &rq->session->flow;

    if (!m->journal || !adds_up(msg) ||
        !journal_knows(m->journal,
                       journal_flow(m->journal, flow, &m->config->locals[flow->local].address),
                       msg->mid, m->now))
        return false;
    refuse_former(m, rq);
    return true;
}

/* With a journal: it is noted, so that a later process knows it. */
static void note(struct messaging *m, const struct request *rq)
{
    const struct message *msg = rq->message;
    const struct flow *flow = &rq->session->flow;

    if (!m->journal || !adds_up(msg))
        return;
    journal_note(
        &m->noted[rq->dedup],
        journal_flow(m->journal, flow, &m->config->locals[flow->local].address),
        journal_stamp(m->now, msg->mid, msg->type == TYPE_CON ? JOURNAL_CON : JOURNAL_NON));
}

bool request_admit(struct messaging *m, struct request *rq, bool pure)
{
    const struct message *msg = rq->message;
    bool confirmable = msg->type == TYPE_CON;
    bool safe = pure || code_is_safe(msg->code);
    struct dedup_entry *entry;

    if (rq->resumed)
        return true;
    if (pure && confirmable) {
        m->counters->requests++;
        return true;
    }
    entry = dedup_find(&m->dedup, rq->session, msg->mid, m->now);
    if (entry) {
        replay(m, rq, entry);
        return false;
    }
    if (is_under_way(m, rq))
        return false;
    entry = dedup_add(&m->dedup, rq->session, msg->mid, confirmable, safe, m->now);
    if (entry) {
        rq->dedup = dedup_index_of(&m->dedup, entry);
    } else if (!safe) {
        m->counters->refused_memory++;
        reply_busy(m, rq, "too many recent requests");
        return false;
    }
    if (!safe && request_is_former(m, rq))
        return false;
    if (!safe)
        note(m, rq);
    m->counters->requests++;
    return true;
}

/* ---- answers ---- */

/* IP and UDP headers count on both sides: they are what an attacker pays and what a victim gets. */
uint16_t reply_longest(const struct messaging *m, const struct session *s, uint16_t request_length)
{
    uint32_t headers = messaging_headers(m, &s->flow), longest;

    if (s->proven || m->config->limits.amplification == 0)
        return 0;
    longest = m->config->limits.amplification * (request_length + headers) - headers;
    return longest < UINT16_MAX ? (uint16_t)longest : UINT16_MAX;
}

static bool is_unwanted(uint8_t unwanted, uint8_t code)
{
    return unwanted >> (code_class(code) - 1) & 1;
}

/* Instead of an answer that an attacker might have asked for in another's name: a proof of the
 * address is wanted first (RFC 9175 2.3). It is the answer to this message ID from now on. */
static void write_challenge(struct messaging *m, struct reply *reply, const uint8_t *token,
                            size_t token_length)
{
    uint8_t echo[ECHO_BYTES];

    echo_make(m->echo, &reply->session->flow, m->now, echo);
    reply->code = CODE_UNAUTHORIZED;
    reply->longest = 0;
    encoder_begin(&reply->encoder, reply->encoder.data, reply->encoder.room, reply->type,
                  reply->code, reply->mid, token, token_length);
    encoder_option(&reply->encoder, OPTION_ECHO, echo, sizeof(echo));
    m->counters->challenges++;
}

/* Puts a challenge in the place of what is too long. The token is the message's own. */
static void challenge_instead(struct messaging *m, struct reply *reply)
{
    uint8_t token[MESSAGE_MAX_BYTES];
    struct message own;

    if (reply->encoder.failed ||
        message_parse(reply->encoder.data, reply->encoder.length, &own) != VERDICT_OK)
        return;
    memcpy(token, own.token, own.token_length);
    write_challenge(m, reply, token, own.token_length);
}

static inline void limit_amplification(struct messaging *m, struct reply *reply)
{
    if (__builtin_expect(reply->longest && reply->encoder.length > reply->longest, 0))
        challenge_instead(m, reply);
}

/* Without an outgoing buffer the answer is written all the same, so that a duplicate of the request
 * can get it: as if it was lost on the way. */
static void reply_start(struct messaging *m, struct reply *reply, struct session *s,
                        const uint8_t *token, size_t token_length)
{
    reply->session = s;
    if (!m->io.alloc(m->io.context, &s->flow, &reply->out))
        reply->out = (struct outgoing){.data = m->scratch, .room = messaging_room(m, &s->flow)};
    encoder_begin(&reply->encoder, reply->out.data, reply->out.room, reply->type, reply->code,
                  reply->mid, token, token_length);
    reply->bare_length = reply->encoder.length;
}

/* A CON is kept for retransmission: it is built where it can be copied from. */
static void separate_start(struct messaging *m, struct reply *reply, struct session *s,
                           const uint8_t *token, size_t token_length)
{
    reply->session = s;
    reply->bare_length = 0;
    reply->out = (struct outgoing){.data = m->scratch, .room = messaging_room(m, &s->flow)};
    encoder_begin(&reply->encoder, m->scratch, reply->out.room, TYPE_CON, reply->code, reply->mid,
                  token, token_length);
}

bool reply_begin(struct messaging *m, const struct request *rq, uint8_t code, struct reply *reply)
{
    const struct message *msg = rq->message;

    if (rq->multicast && code_class(code) != 2) {
        m->counters->drop_multicast_error++;
        return false;
    }
    reply->code = code;
    reply->dedup = rq->dedup;
    reply->suppressed = is_unwanted(rq->unwanted, code);
    reply->longest = 0;
    if (code_is_safe(msg->code) && !rq->multicast)
        reply->longest = reply_longest(m, rq->session, msg->length);
    if (msg->type == TYPE_CON && !rq->resumed) {
        reply->type = TYPE_ACK;
        reply->mid = msg->mid;
    } else {
        reply->type = rq->resumed ? TYPE_CON : TYPE_NON;
        if (!messaging_take_mid(m, rq->session, &reply->mid)) {
            m->counters->drop_no_mid++;
            return false;
        }
    }
    if (reply->type == TYPE_CON)
        separate_start(m, reply, rq->session, msg->token, msg->token_length);
    else
        reply_start(m, reply, rq->session, msg->token, msg->token_length);
    return true;
}

/* Keeps what was answered to a CON, for its duplicates. */
static void remember(struct messaging *m, const struct reply *reply, const void *bytes,
                     uint16_t length)
{
    struct dedup_entry *entry;

    if (reply->dedup == POOL_NONE || reply->type != TYPE_ACK)
        return;
    entry = dedup_at(&m->dedup, reply->dedup);
    if (length == reply->bare_length) {
        /* Header and token can be made again from the duplicate: no memory needed. */
        entry->state = DEDUP_ANSWERED;
        entry->code = reply->code;
        return;
    }
    dedup_store(&m->dedup, entry, reply->code, bytes, length);
}

/* RFC 7967 2.1: no response, but a CON is acknowledged. */
static void suppress(struct messaging *m, struct reply *reply)
{
    if (reply->out.buffer)
        m->io.cancel(m->io.context, &reply->out);
    m->counters->suppressed_responses++;
    if (reply->type != TYPE_ACK)
        return;
    if (reply->dedup != POOL_NONE)
        dedup_at(&m->dedup, reply->dedup)->state = DEDUP_ACKED;
    messaging_send_empty(m, &reply->session->flow, TYPE_ACK, reply->mid);
}

/* A separate response that is confirmable, or, where it cannot be kept for retransmission, one that
 * is not: a client must expect either (RFC 7252 5.2.2). False when it did not fit. */
static bool separate_end(struct messaging *m, struct reply *reply)
{
    struct session *s = reply->session;
    uint16_t length;
    uint32_t index;

    if (reply->suppressed) { /* the request was acknowledged long ago */
        m->counters->suppressed_responses++;
        return true;
    }
    limit_amplification(m, reply);
    length = (uint16_t)encoder_end(&reply->encoder);
    if (length == 0)
        return false;
    if (outbound_submit(m, s, TYPE_CON, reply->mid, m->scratch, length, OWNER_NONE, 0, &index) == 0)
        return true;
    m->counters->unkept_responses++;
    if (!m->io.alloc(m->io.context, &s->flow, &reply->out)) {
        m->counters->drop_reply_buffer++;
        return true;
    }
    memcpy(reply->out.data, m->scratch, length);
    message_set_type(reply->out.data, TYPE_NON);
    messaging_send(m, &s->flow, &reply->out, length);
    return true;
}

bool reply_end(struct messaging *m, struct reply *reply)
{
    uint16_t length;

    if (reply->type == TYPE_CON)
        return separate_end(m, reply);
    if (reply->suppressed) {
        suppress(m, reply);
        return true;
    }
    limit_amplification(m, reply);
    length = (uint16_t)encoder_end(&reply->encoder);
    if (length == 0) {
        if (reply->out.buffer)
            m->io.cancel(m->io.context, &reply->out);
        return false;
    }
    remember(m, reply, reply->out.data, length);
    if (reply->out.buffer)
        messaging_send(m, &reply->session->flow, &reply->out, length);
    else
        m->counters->drop_reply_buffer++;
    return true;
}

/* Header and token of an ACK, written as words and summed as they are written. */
static uint64_t put_ack(uint8_t *data, uint8_t code, const struct message *msg)
{
    uint8_t header[MESSAGE_HEADER_BYTES] = {
        (uint8_t)(MESSAGE_VERSION << 6 | TYPE_ACK << 4 | msg->token_length), code,
        (uint8_t)(msg->mid >> 8), (uint8_t)msg->mid};
    uint32_t word;

    memcpy(&word, header, sizeof(word));
    memcpy(data, &word, sizeof(word));
    bytes_copy(data + sizeof(word), msg->token, msg->token_length);
    return checksum_bytes(word, msg->token, msg->token_length);
}

/* The answer to a CON of which nothing is remembered, where nothing stands against it: it is
 * written in one go. False: it has to take the long way. */
static bool answer_at_once(struct messaging *m, const struct request *rq, uint8_t code,
                           const struct tail *tail)
{
    const struct message *msg = rq->message;
    uint32_t bare = MESSAGE_HEADER_BYTES + msg->token_length, total = bare + tail->length;
    struct session *s = rq->session;
    uint16_t longest = reply_longest(m, s, msg->length);
    struct outgoing out;

    if (msg->type != TYPE_CON || rq->resumed || rq->dedup != POOL_NONE || rq->unwanted ||
        msg->token_length > TOKEN_NIBBLE_MAX || (longest && total > longest))
        return false;
    if (!m->io.alloc(m->io.context, &s->flow, &out)) {
        m->counters->drop_reply_buffer++;
        return true;
    }
    if (total > out.room) {
        m->io.cancel(m->io.context, &out);
        return false;
    }
    out.sum = checksum_add(put_ack(out.data, code, msg),
                           bare & 1 ? checksum_at_odd(tail->sum) : tail->sum);
    out.summed = true;
    bytes_copy(out.data + bare, tail->bytes, tail->length);
    messaging_send(m, &s->flow, &out, (uint16_t)total);
    return true;
}

bool reply_whole(struct messaging *m, const struct request *rq, uint8_t code,
                 const struct tail *tail)
{
    struct reply reply;

    if (answer_at_once(m, rq, code, tail) || !reply_begin(m, rq, code, &reply))
        return true;
    encoder_raw(&reply.encoder, tail->bytes, tail->length);
    return reply_end(m, &reply);
}

/* What every error answer has besides its code. */
static void put_diagnostic(struct encoder *e, uint8_t code, const char *diagnostic)
{
    if (code == CODE_SERVICE_UNAVAILABLE || code == CODE_TOO_MANY_REQUESTS)
        encoder_uint(e, OPTION_MAX_AGE, BUSY_MAX_AGE_S);
    if (diagnostic)
        encoder_payload(e, diagnostic, strlen(diagnostic));
}

void reply_code(struct messaging *m, const struct request *rq, uint8_t code, const char *diagnostic)
{
    struct reply reply;

    if (!reply_begin(m, rq, code, &reply))
        return;
    put_diagnostic(&reply.encoder, code, diagnostic);
    if (!reply_end(m, &reply))
        m->counters->drop_reply_buffer++;
}

void reply_challenge(struct messaging *m, const struct request *rq)
{
    struct reply reply;

    if (!reply_begin(m, rq, CODE_UNAUTHORIZED, &reply))
        return;
    write_challenge(m, &reply, rq->message->token, rq->message->token_length);
    (void)reply_end(m, &reply);
}

void reply_busy(struct messaging *m, const struct request *rq, const char *diagnostic)
{
    reply_code(m, rq, CODE_SERVICE_UNAVAILABLE, diagnostic);
}

/* ---- exchanges ---- */

struct exchange *exchange_open(struct messaging *m, const struct request *rq)
{
    const struct message *msg = rq->message;
    struct exchange *x = pool_get(&m->exchanges);

    if (!x)
        return NULL;
    x->token_chunk = CHUNK_NONE;
    if (msg->token_length > TOKEN_INLINE_BYTES) {
        x->token_chunk = chunks_write(&m->chunks, msg->token, msg->token_length);
        if (x->token_chunk == CHUNK_NONE) {
            pool_put(&m->exchanges, x);
            return NULL;
        }
    } else if (msg->token_length) {
        memcpy(x->token, msg->token, msg->token_length);
    }
    x->token_length = (uint16_t)msg->token_length;
    x->session = session_index(&m->sessions, rq->session);
    x->dedup = rq->dedup;
    x->mid = msg->mid;
    x->type = msg->type;
    x->code = msg->code;
    x->request_length = msg->length;
    x->unwanted = rq->unwanted;
    x->acked = rq->resumed; /* by who was here before the restart */
    x->retracted = false;
    timer_init(&x->separate, TIMER_SEPARATE);
    if (x->type == TYPE_CON && !x->acked)
        wheel_arm(&m->wheel, &x->separate, m->now + m->config->separate_after_us);
    if (x->dedup != POOL_NONE)
        dedup_at(&m->dedup, x->dedup)->busy = true;
    chain_push(&rq->session->exchanges, &m->exchanges, BY_SESSION, pool_index(&m->exchanges, x));
    rq->session->exchange_count++;
    return x;
}

static void exchange_free(struct messaging *m, struct exchange *x)
{
    struct session *s = session_at(&m->sessions, x->session);

    wheel_cancel(&m->wheel, &x->separate);
    if (x->dedup != POOL_NONE)
        dedup_at(&m->dedup, x->dedup)->busy = false;
    chunks_free(&m->chunks, x->token_chunk);
    chain_remove(&s->exchanges, &m->exchanges, BY_SESSION, pool_index(&m->exchanges, x));
    s->exchange_count--;
    pool_put(&m->exchanges, x);
    if (s->closing && s->exchanges == POOL_NONE)
        life_exchanges_over(m, s);
}

void exchange_abandon(struct messaging *m, struct exchange *x)
{
    exchange_free(m, x);
}

void exchange_close(struct messaging *m, struct exchange *x)
{
    m->counters->separate_responses++;
    exchange_free(m, x);
}

void exchange_acknowledge(struct messaging *m, struct exchange *x)
{
    if (x->type != TYPE_CON || x->acked || session_at(&m->sessions, x->session)->closing)
        return;
    wheel_cancel(&m->wheel, &x->separate);
    x->acked = true;
    if (x->dedup != POOL_NONE)
        dedup_at(&m->dedup, x->dedup)->state = DEDUP_ACKED;
    m->counters->empty_acks++;
    messaging_send_empty(m, &session_at(&m->sessions, x->session)->flow, TYPE_ACK, x->mid);
}

void exchange_on_timer(void *context, struct timer *timer, uint64_t now_us)
{
    struct exchange *x =
        (struct exchange *)(void *)((uint8_t *)timer - offsetof(struct exchange, separate));

    (void)now_us;
    exchange_acknowledge(context, x);
}

const uint8_t *exchange_token(const struct messaging *m, const struct exchange *x, uint8_t *buffer)
{
    if (x->token_chunk == CHUNK_NONE)
        return x->token;
    chunks_read(&m->chunks, x->token_chunk, buffer, x->token_length);
    return buffer;
}

bool exchange_reply_begin(struct messaging *m, struct exchange *x, uint8_t code,
                          struct reply *reply)
{
    struct session *s = session_at(&m->sessions, x->session);
    uint8_t long_token[MESSAGE_MAX_BYTES];
    const uint8_t *token = exchange_token(m, x, long_token);

    if (s->closing) {
        exchange_free(m, x);
        return false;
    }
    reply->code = code;
    reply->dedup = x->dedup;
    reply->mid = x->mid;
    reply->type = TYPE_ACK;
    reply->suppressed = is_unwanted(x->unwanted, code);
    reply->longest = code_is_safe(x->code) ? reply_longest(m, s, x->request_length) : 0;
    if (x->type != TYPE_CON || x->acked) {
        reply->type = x->type;
        if (!messaging_take_mid(m, s, &reply->mid)) {
            m->counters->drop_no_mid++;
            exchange_free(m, x);
            return false;
        }
    }
    if (reply->type == TYPE_CON)
        separate_start(m, reply, s, token, x->token_length);
    else
        reply_start(m, reply, s, token, x->token_length);
    return true;
}

bool exchange_reply_end(struct messaging *m, struct exchange *x, struct reply *reply)
{
    if (!reply_end(m, reply))
        return false;
    if (x->type == TYPE_NON || x->acked)
        m->counters->separate_responses++;
    exchange_free(m, x);
    return true;
}

void exchange_reply_code(struct messaging *m, struct exchange *x, uint8_t code,
                         const char *diagnostic)
{
    struct reply reply;

    if (!exchange_reply_begin(m, x, code, &reply))
        return;
    put_diagnostic(&reply.encoder, code, diagnostic);
    if (!exchange_reply_end(m, x, &reply)) { /* no room even for this: a token near the MTU */
        m->counters->drop_reply_buffer++;
        exchange_free(m, x);
    }
}
