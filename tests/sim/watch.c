#include "tests/sim/watch.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/hash.h"

#define ENTRIES  131072 /* a power of two */
#define DUE_MAX  4096
#define SEEN_MAX 1024
/* So much later than from its client a request comes, at the most. */
#define LATE_US (50 * SECOND)

/* A CON or NON message of the gateway's, by flow and message ID. */
struct own {
    struct flow flow;
    uint16_t mid;
    uint8_t type;
    bool upstream;
    bool settled; /* acknowledged or rejected */
    bool answered;
    bool released; /* the gateway may have given it up, or another took its place */
    bool doubtful; /* the gateway may drop it now */
    bool observe;
    bool overtaken; /* there is no room for it, so that it must have been dropped */
    uint64_t hash, token;
    uint64_t first_at, last_at, gap;
    unsigned repeats;
    uint64_t taken_gap; /* when it may be the repetition of an older one */
    unsigned taken_repeats;
    unsigned worker, life;
    uint64_t until; /* the gateway may have given the request up from here on */
};

/* A CON request of a client that has no ACK yet. */
struct due {
    struct flow flow;
    uint16_t mid;
    uint64_t by;
};

struct watch {
    struct stage *stage;
    struct watch_rules rules;
    struct own entries[ENTRIES];
    unsigned count;
    struct due due[DUE_MAX]; /* in the order in which they came */
    unsigned due_count;
    struct due seen[SEEN_MAX]; /* CONs and NONs that came lately; `by` is 1 */
    unsigned seen_next;
    uint32_t open[ENTRIES]; /* indices of CONs that may be outstanding */
    unsigned open_count;
};

struct watch *watch_create(struct stage *s, const struct watch_rules *rules)
{
    struct watch *watch = calloc(1, sizeof(*watch));

    watch->stage = s;
    watch->rules = *rules;
    return watch;
}

void watch_destroy(struct watch *watch)
{
    free(watch);
}

void watch_killed(struct watch *watch)
{
    for (unsigned i = 0; i < watch->open_count; i++)
        watch->entries[watch->open[i]].released = true;
    watch->open_count = watch->due_count = 0;
    memset(watch->seen, 0, sizeof(watch->seen));
}

/* ---- ACKs in time ---- */

/* RFC 7252 5.2.2: an ACK within separate_after, with the answer or without. Called before anything
 * else happens. */
static void check_due(struct watch *watch)
{
    for (unsigned i = 0; i < watch->due_count; i++)
        if (watch->due[i].by < watch->stage->now)
            stage_fail(watch->stage, "a CON request (message %u) was not acknowledged in time",
                       watch->due[i].mid);
}

static void forget_due(struct watch *watch, const struct flow *flow, uint16_t mid)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < watch->due_count; i++)
        if (watch->due[i].mid != mid || !flow_equal(&watch->due[i].flow, flow))
            watch->due[kept++] = watch->due[i];
    watch->due_count = kept;
}

/* Only the first copy of a request starts the clock: others may be met with silence while the
 * answer is on its way. */
static bool is_repeated(struct watch *watch, const struct flow *flow, uint16_t mid)
{
    for (unsigned i = 0; i < SEEN_MAX; i++)
        if (watch->seen[i].by && watch->seen[i].mid == mid &&
            flow_equal(&watch->seen[i].flow, flow))
            return true;
    watch->seen[watch->seen_next++ % SEEN_MAX] = (struct due){*flow, mid, 1};
    return false;
}

static void note_due(struct watch *watch, const struct flow *flow, uint16_t mid)
{
    uint64_t patience = watch->stage->config->separate_after_us;

    forget_due(watch, flow, mid);
    if (watch->due_count < DUE_MAX) /* two ticks: up to the next, and what is due in it */
        watch->due[watch->due_count++] =
            (struct due){*flow, mid, watch->stage->now + patience + 2000};
}

/* ---- the gateway's own messages ---- */

static const struct transmission *parameters(const struct watch *watch, const struct own *own)
{
    return own->upstream ? watch->rules.servers : watch->rules.clients;
}

static struct own *find(struct watch *watch, const struct flow *flow, uint16_t mid)
{
    uint64_t at = hash_bytes(flow, sizeof(*flow), mid);

    for (;; at++) {
        struct own *own = &watch->entries[at % ENTRIES];

        if (!own->first_at || (own->mid == mid && flow_equal(&own->flow, flow)))
            return own;
    }
}

/* Gaps in ticks of a millisecond: each end may be rounded up. */
static bool is_first_gap(const struct watch *watch, const struct own *own, uint64_t gap)
{
    const struct transmission *t = parameters(watch, own);
    uint64_t low = t->ack_timeout_ms * 1000ull;

    return own->repeats == 0 && gap >= low && gap <= low * t->ack_random_factor_milli / 1000 + 2000;
}

static bool is_double_gap(const struct own *own, uint64_t gap)
{
    uint64_t twice = 2 * (own->repeats ? own->gap : own->taken_gap);

    return twice && gap + 4000 >= twice && gap <= twice + 4000;
}

static void check_gap(struct watch *watch, struct own *own)
{
    uint64_t gap = watch->stage->now - own->last_at;

    if (own->overtaken)
        stage_fail(watch->stage, "message %u was outstanding beyond nstart", own->mid);
    if (!is_first_gap(watch, own, gap) && own->repeats == 0 && own->taken_gap) {
        own->repeats = own->taken_repeats;
        own->gap = own->taken_gap;
    }
    if (!is_first_gap(watch, own, gap) && !is_double_gap(own, gap))
        stage_fail(watch->stage,
                   "retransmission %u of message %u after %llu us, the one before after %llu us",
                   own->repeats + 1, own->mid, (unsigned long long)gap,
                   (unsigned long long)own->gap);
    if (own->repeats >= parameters(watch, own)->max_retransmit)
        stage_fail(watch->stage, "more than max_retransmit retransmissions of message %u",
                   own->mid);
}

static bool is_open(const struct own *own)
{
    return !own->settled && !own->released;
}

/* Outstanding for sure: sent, not settled, and its timeout not over. */
static bool is_outstanding(const struct watch *watch, const struct own *own)
{
    uint64_t timeout = (uint64_t)parameters(watch, own)->ack_timeout_ms * 1000 << own->repeats;

    return is_open(own) && !own->doubtful && watch->stage->now - own->last_at < timeout;
}

static bool same_peer(const struct own *a, const struct own *b)
{
    if (a->upstream != b->upstream || a->worker != b->worker)
        return false;
    return a->upstream ? address_equal(&a->flow.peer, &b->flow.peer) &&
                             a->flow.peer_port == b->flow.peer_port
                       : flow_equal(&a->flow, &b->flow);
}

/* When all retransmissions are over without an ACK, at the earliest. */
static uint64_t gives_up_at(const struct watch *watch, const struct own *own)
{
    const struct transmission *t = parameters(watch, own);
    uint64_t low = t->ack_timeout_ms * 1000ull;

    if (own->repeats < t->max_retransmit)
        return UINT64_MAX;
    return own->last_at + (own->repeats ? own->gap * 2 - 4000 : low);
}

/* A request has got no ACK, or no answer in all the time that there is: its server counts as down,
 * and all others at it may be given up. */
static void server_fails(struct watch *watch, const struct own *failed)
{
    for (unsigned i = 0; i < watch->open_count; i++) {
        struct own *own = &watch->entries[watch->open[i]];

        if (failed->upstream && own != failed && same_peer(own, failed))
            own->released = true;
    }
}

/* The end of a resource may have been put in the place of a notification before that was
 * acknowledged: it is said when that would have been repeated. */
static bool is_followed(const struct watch *watch, const struct own *own)
{
    return own->observe && watch->stage->now < own->last_at + 2 * LATE_US;
}

/* Looks at what is over, and drops it. */
static void tidy(struct watch *watch)
{
    uint64_t now = watch->stage->now;
    unsigned kept = 0;

    for (unsigned i = 0; i < watch->open_count; i++) {
        struct own *own = &watch->entries[watch->open[i]];

        if (!own->settled && now >= gives_up_at(watch, own)) {
            server_fails(watch, own);
            own->released = true;
        } else if (now >= own->until) { /* or a little later, when it came late to the gateway */
            server_fails(watch, own);
            own->doubtful = true;
        }
    }
    for (unsigned i = 0; i < watch->open_count; i++) {
        const struct own *own = &watch->entries[watch->open[i]];
        bool waits = own->upstream ? !own->answered : !own->settled || is_followed(watch, own);

        if (waits && !own->released && (now < own->until || now - own->until < LATE_US))
            watch->open[kept++] = watch->open[i];
    }
    watch->open_count = kept;
}

/* A notification may have been dropped for a newer one that waits: it counts when it turns out to
 * be repeated. */
static void check_nstart(struct watch *watch, const struct own *sent)
{
    unsigned sure = 0, maybe = 0, nstart = parameters(watch, sent)->nstart;

    if (sent->upstream && !watch->rules.until)
        return;
    for (unsigned i = 0; i < watch->open_count; i++) {
        const struct own *own = &watch->entries[watch->open[i]];

        if (!is_outstanding(watch, own) || !same_peer(own, sent))
            continue;
        if (own->observe && own != sent)
            maybe++;
        else
            sure++;
    }
    if (sure > nstart)
        stage_fail(watch->stage, "%u CONs outstanding at a peer, nstart is %u", sure, nstart);
    for (unsigned i = 0; sure + maybe > nstart && i < watch->open_count; i++) {
        struct own *own = &watch->entries[watch->open[i]];

        if (own->observe && own != sent && is_outstanding(watch, own) && same_peer(own, sent))
            own->overtaken = true;
    }
}

/* RFC 7641 4.5.2: a retransmission that carries a newer state has a message ID of its own, and goes
 * on counting. So may be what comes just then; at another time it is a message of its own. Either
 * way the older one with the same token may be dropped for it. */
static void take_over(struct watch *watch, struct own *own)
{
    bool sure = false;

    for (unsigned i = 0; i < watch->open_count; i++) {
        struct own *old = &watch->entries[watch->open[i]];
        uint64_t gap = watch->stage->now - old->last_at;
        unsigned repeats;

        if (old == own || old->released || old->token != own->token ||
            !flow_equal(&old->flow, &own->flow) || (old->settled && (sure || own->observe)))
            continue;
        old->released = !old->settled;
        repeats = 1 + (old->repeats ? old->repeats : old->taken_repeats);
        if (own->type != TYPE_CON || repeats > parameters(watch, old)->max_retransmit ||
            (!is_first_gap(watch, old, gap) && !is_double_gap(old, gap)))
            continue;
        sure = !old->settled;
        own->taken_repeats = repeats;
        own->taken_gap = gap;
    }
}

static void note_new(struct watch *watch, struct own *own, unsigned worker, const struct flow *flow,
                     const struct message *m, uint64_t hash)
{
    uint64_t now = watch->stage->now;
    bool upstream = watch->rules.upstream(watch->stage, flow);

    if (!own->first_at && ++watch->count > ENTRIES * 3 / 4)
        stage_fail(watch->stage, "too many messages for one run");
    *own = (struct own){.flow = *flow,
                        .mid = m->mid,
                        .type = m->type,
                        .upstream = upstream,
                        .hash = hash,
                        .first_at = now,
                        .last_at = now,
                        .worker = worker,
                        .life = watch->stage->life,
                        .until = UINT64_MAX};
    own->observe = message_has(m, SLOT_OBSERVE);
    own->token = m->token_length ? hash_bytes(m->token, m->token_length, 7) : 0;
    if (!upstream && m->type != TYPE_ACK && code_is_response(m->code))
        take_over(watch, own);
    if (m->type != TYPE_CON || m->code == CODE_EMPTY)
        return;
    tidy(watch);
    if (upstream && watch->rules.until)
        own->until = watch->rules.until(watch->stage, m);
    if (own->until <= now) { /* nobody knows */
        own->until = UINT64_MAX;
        own->doubtful = true;
    }
    if (watch->open_count == ENTRIES)
        abort();
    watch->open[watch->open_count++] = (uint32_t)(own - watch->entries);
    check_nstart(watch, own);
}

/* Another process has sent it, and where the store could not be asked nothing is known of that. */
static bool is_forgotten(const struct watch *watch, const struct own *own)
{
    const struct stage *s = watch->stage;

    return own->life != s->life && (s->forgetful[own->life] || s->forgetful[s->life]);
}

void watch_emitted(struct watch *watch, unsigned worker, const struct flow *flow,
                   const uint8_t *data, size_t length)
{
    uint64_t now = watch->stage->now, hash = hash_bytes(data, length, 1);
    struct message m;
    struct own *own;

    if (message_parse(data, length, &m) != VERDICT_OK) {
        stage_fail(watch->stage, "a datagram that does not parse");
        return;
    }
    check_due(watch);
    if (m.type != TYPE_CON && m.type != TYPE_NON) { /* the peer's message ID */
        forget_due(watch, flow, m.mid);
        return;
    }
    own = find(watch, flow, m.mid);
    if (!own->first_at || now - own->last_at > LIFETIME || is_forgotten(watch, own)) {
        note_new(watch, own, worker, flow, &m, hash);
        return;
    }
    if (own->hash != hash) {
        stage_fail(watch->stage, "message ID %u used for two messages within EXCHANGE_LIFETIME",
                   m.mid);
        return;
    }
    if (m.type == TYPE_NON)
        stage_fail(watch->stage, "NON %u was sent twice", m.mid);
    if (own->settled)
        stage_fail(watch->stage, "message %u was sent again after it had been acknowledged", m.mid);
    if (m.code == CODE_EMPTY)
        return; /* a ping is repeated at its own pace */
    check_gap(watch, own);
    own->gap = now - own->last_at;
    own->last_at = now;
    own->repeats++;
}

/* ---- what comes in ---- */

/* By an answer, which acknowledges a request, unless it is a notification, which may or may not be
 * the answer; or by a request that starts or ends a relation: then a notification may be dropped.
 */
static void by_token(struct watch *watch, const struct flow *flow, const struct message *m)
{
    uint64_t token = m->token_length ? hash_bytes(m->token, m->token_length, 7) : 0;

    for (unsigned i = 0; i < watch->open_count; i++) {
        struct own *own = &watch->entries[watch->open[i]];

        if (own->token != token || !flow_equal(&own->flow, flow) ||
            (m->type == TYPE_ACK && own->mid != m->mid))
            continue;
        if (code_is_response(m->code) && !message_has(m, SLOT_OBSERVE))
            own->settled = own->answered = true;
        else
            own->doubtful = true;
    }
}

static void server_is_gone(struct watch *watch, unsigned worker, const struct flow *flow)
{
    struct own peer = {.flow = *flow, .upstream = true, .worker = worker};

    for (unsigned i = 0; i < watch->open_count; i++)
        if (same_peer(&watch->entries[watch->open[i]], &peer))
            watch->entries[watch->open[i]].released = true;
}

/* A notification was rejected: what else the relation has sent may be dropped (RFC 7641 3.6). */
static void relation_is_gone(struct watch *watch, const struct own *rejected)
{
    for (unsigned i = 0; i < watch->open_count; i++) {
        struct own *own = &watch->entries[watch->open[i]];

        if (own->token == rejected->token && flow_equal(&own->flow, &rejected->flow))
            own->doubtful = true;
    }
}

void watch_delivered(struct watch *watch, unsigned worker, const struct flow *flow,
                     const uint8_t *data, size_t length, bool icmp)
{
    uint16_t mid = length >= 4 ? (uint16_t)(data[2] << 8 | data[3]) : 0;
    bool upstream = watch->rules.upstream(watch->stage, flow);
    struct message m;

    if (length < 4)
        return;
    check_due(watch);
    if (icmp || (data[0] >> 4 & 3) >= TYPE_ACK) {
        struct own *own = find(watch, flow, mid);

        if (own->first_at)
            own->settled = true;
        if (own->first_at && own->observe && (data[0] >> 4 & 3) == TYPE_RST)
            relation_is_gone(watch, own);
    }
    if (icmp && upstream)
        server_is_gone(watch, worker, flow);
    if (icmp || message_parse(data, length, &m) != VERDICT_OK || m.code == CODE_EMPTY)
        return;
    if (m.type < TYPE_ACK && is_repeated(watch, flow, m.mid))
        return;
    if (!upstream && m.type == TYPE_CON && code_is_request(m.code))
        note_due(watch, flow, m.mid);
    if (upstream == code_is_response(m.code))
        by_token(watch, flow, &m);
}
