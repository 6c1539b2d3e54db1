/* RFC 7252 4.2, 4.4 and 4.7, as seen on the wire. */
#include <stdlib.h>
#include <string.h>

#include "gateway/hash.h"
#include "tests/sim/sim.h"

#define ENTRIES          65536 /* a power of two */
#define DUE_MAX          4096
#define SEEN_MAX         1024
#define UPSTREAM_TIMEOUT (93 * SECOND) /* MAX_TRANSMIT_WAIT, the default of `timeout` */

/* A CON or NON message of the gateway's, by flow and message ID. */
struct own {
    struct flow flow;
    uint16_t mid;
    uint8_t type;
    bool upstream, settled;
    uint64_t hash, token;
    uint64_t first_at, last_at, gap;
    unsigned repeats;
    unsigned worker;
    uint64_t until; /* the gateway may have given the request up from here on */
};

/* A CON request of a client that has no ACK yet. */
struct due {
    struct flow flow;
    uint16_t mid;
    uint64_t by;
};

struct watch {
    struct own entries[ENTRIES];
    struct due due[DUE_MAX]; /* in the order in which they came */
    unsigned due_count;
    struct due seen[SEEN_MAX]; /* requests lately; `by` is 1 */
    unsigned seen_next;
    uint32_t used[ENTRIES]; /* indices of upstream CONs that may be outstanding */
    unsigned used_count;
};

/* RFC 7252 5.2.2: an ACK within separate_after, with the answer or without. Called before anything
 * else happens. */
static void check_due(struct world *w, struct watch *watch)
{
    for (unsigned i = 0; i < watch->due_count; i++)
        if (watch->due[i].by < world_now(w))
            world_fail(w, "a CON request (message %u) was not acknowledged in time",
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
static bool watch_is_repeated(struct watch *watch, const struct flow *flow, uint16_t mid)
{
    for (unsigned i = 0; i < SEEN_MAX; i++)
        if (watch->seen[i].by && watch->seen[i].mid == mid &&
            flow_equal(&watch->seen[i].flow, flow))
            return true;
    watch->seen[watch->seen_next++ % SEEN_MAX] = (struct due){*flow, mid, 1};
    return false;
}

static void note_due(struct world *w, struct watch *watch, const struct flow *flow, uint16_t mid)
{
    forget_due(watch, flow, mid);
    if (watch->due_count < DUE_MAX) /* two ticks: up to the next, and what is due in it */
        watch->due[watch->due_count++] =
            (struct due){*flow, mid, world_now(w) + world_config(w)->separate_after_us + 2000};
}

struct watch *watch_create(void)
{
    return calloc(1, sizeof(struct watch));
}

void watch_destroy(struct watch *watch)
{
    free(watch);
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
static void check_gap(struct world *w, const struct own *own, uint64_t now)
{
    uint64_t gap = now - own->last_at;
    const struct transmission *t = &world_config(w)->transmission;
    uint64_t low = t->ack_timeout_ms * 1000ull;
    uint64_t high = low * t->ack_random_factor_milli / 1000;

    if (own->repeats == 0 && (gap < low || gap > high + 2000))
        world_fail(w, "first retransmission after %llu us", (unsigned long long)gap);
    if (own->repeats > 0 && (gap + 4000 < own->gap * 2 || gap > own->gap * 2 + 4000))
        world_fail(w, "retransmission %u after %llu us, the one before after %llu us",
                   own->repeats + 1, (unsigned long long)gap, (unsigned long long)own->gap);
    if (own->repeats >= t->max_retransmit)
        world_fail(w, "more than max_retransmit retransmissions");
}

/* Outstanding for sure: sent, not settled, and its timeout not over. */
static void check_nstart(struct world *w, struct watch *watch, const struct own *sent)
{
    unsigned outstanding = 0, kept = 0;
    uint64_t now = world_now(w);

    for (unsigned i = 0; i < watch->used_count; i++) {
        const struct own *own = &watch->entries[watch->used[i]];
        uint64_t timeout = 2 * SECOND << own->repeats;

        if (own->settled || now >= own->until)
            continue;
        watch->used[kept++] = watch->used[i];
        if (now - own->last_at < timeout && own->worker == sent->worker &&
            memcmp(&own->flow.peer, &sent->flow.peer, sizeof(own->flow.peer)) == 0)
            outstanding++;
    }
    watch->used_count = kept;
    if (outstanding > world_profile(w)->nstart)
        world_fail(w, "%u requests outstanding at a server, nstart is %u", outstanding,
                   world_profile(w)->nstart);
}

static void note_new(struct world *w, struct watch *watch, struct own *own, unsigned worker,
                     const struct flow *flow, const struct message *m, uint64_t hash)
{
    uint64_t now = world_now(w);

    *own = (struct own){.flow = *flow,
                        .mid = m->mid,
                        .type = m->type,
                        .upstream = code_is_request(m->code),
                        .hash = hash,
                        .first_at = now,
                        .last_at = now,
                        .worker = worker};
    if (m->token_length == 8)
        memcpy(&own->token, m->token, 8);
    if (own->upstream && own->type == TYPE_CON && watch->used_count < ENTRIES) {
        uint32_t id = origin_id_of(m);

        own->until = id == NOBODY ? now : client_begun_at(w, id) + UPSTREAM_TIMEOUT;
        watch->used[watch->used_count++] = (uint32_t)(own - watch->entries);
        check_nstart(w, watch, own);
    }
}

void watch_emitted(struct world *w, struct watch *watch, unsigned worker, const struct flow *flow,
                   const uint8_t *data, size_t length)
{
    uint64_t now = world_now(w), hash = hash_bytes(data, length, 1);
    struct message m;
    struct own *own;

    if (message_parse(data, length, &m) != VERDICT_OK) {
        world_fail(w, "a datagram that does not parse");
        return;
    }
    check_due(w, watch);
    if (m.type != TYPE_CON && m.type != TYPE_NON) { /* the peer's message ID */
        forget_due(watch, flow, m.mid);
        return;
    }
    own = find(watch, flow, m.mid);
    if (!own->first_at || now - own->last_at > LIFETIME) {
        note_new(w, watch, own, worker, flow, &m, hash);
        return;
    }
    if (own->hash != hash) {
        world_fail(w, "message ID %u used for two messages within EXCHANGE_LIFETIME", m.mid);
        return;
    }
    if (m.type == TYPE_NON)
        world_fail(w, "a NON was sent twice");
    if (own->settled)
        world_fail(w, "message %u was sent again after it had been acknowledged", m.mid);
    check_gap(w, own, now);
    own->gap = now - own->last_at;
    own->last_at = now;
    own->repeats++;
}

void watch_delivered(struct world *w, struct watch *watch, const struct flow *flow,
                     const uint8_t *data, size_t length, bool icmp)
{
    uint16_t mid = length >= 4 ? (uint16_t)(data[2] << 8 | data[3]) : 0;
    struct message m;
    struct own *own;

    if (length < 4)
        return;
    check_due(w, watch);
    if (!icmp && world_origin_of(w, flow) == NOBODY &&
        message_parse(data, length, &m) == VERDICT_OK && m.type == TYPE_CON &&
        code_is_request(m.code) && !watch_is_repeated(watch, flow, m.mid))
        note_due(w, watch, flow, m.mid);
    if (icmp || (data[0] >> 4 & 3) >= TYPE_ACK) {
        own = find(watch, flow, mid);
        if (own->first_at)
            own->settled = true;
    }
    if (icmp || message_parse(data, length, &m) != VERDICT_OK || !code_is_response(m.code) ||
        m.token_length != 8)
        return;
    for (unsigned i = 0; i < watch->used_count; i++) { /* a response acknowledges, too */
        own = &watch->entries[watch->used[i]];
        if (memcmp(&own->token, m.token, 8) == 0 && flow_equal(&own->flow, flow))
            own->settled = true;
    }
}
