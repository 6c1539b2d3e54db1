/* The table of sessions, and what is remembered of their messages. */
#include "bench/micro/micro.h"

#include <errno.h>
#include <stdlib.h>

#include "bench/harness.h"
#include "gateway/session/dedup.h"

#define FEW        1000
#define MANY       1000000
#define SPARE      (2 * MICRO_BATCH) /* room for those that are added and removed */
#define ENTRIES    1048576           /* message IDs, as many as by default */
#define CON_US     (EXCHANGE_LIFETIME_MS * UINT64_C(1000))
#define KEPT_BYTES (64u << 20)

static struct {
    struct session_table table;
    struct session **all; /* the ones that stay */
    uint32_t count;
    uint64_t random, wrong;
    struct flow flows[MICRO_BATCH]; /* of the next operations */
    const struct flow *keys[MICRO_BATCH];
    struct session *sessions[MICRO_BATCH];

    struct chunks chunks;
    struct dedup dedup;
    uint64_t now_us, added;
    uint16_t mids[MICRO_BATCH];
} s;

static int begin_table(uint32_t count)
{
    s.random = 1;
    s.wrong = 0;
    s.count = count;
    s.all = calloc(count, sizeof(struct session *));
    if (!s.all || session_table_init(&s.table, count + SPARE, 12345) < 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        struct flow flow = harness_client(i);

        s.all[i] = session_add(&s.table, &flow, session_hash(&s.table, &flow));
        if (!s.all[i])
            return -ENOSPC;
    }
    return 0;
}

static bool end_table(void)
{
    session_table_fini(&s.table);
    free(s.all);
    return s.wrong == 0;
}

/* ---- look-up ---- */

static void ready_known(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint32_t which = (uint32_t)(micro_random(&s.random) % s.count);

        s.flows[i] = harness_client(which);
        s.keys[i] = &s.flows[i];
        s.sessions[i] = s.all[which];
    }
}

static void ready_unknown(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        s.flows[i] = harness_client(s.count + (unsigned)(micro_random(&s.random) % 100000));
        s.keys[i] = &s.flows[i];
        s.sessions[i] = NULL;
    }
}

/* In bursts, as worker_receive() does; then what is found is looked at, and whether it is the right
 * one, as messaging_receive() does. */
static uint64_t run_find(unsigned n)
{
    struct session *found[HARNESS_BURST];
    uint32_t hashes[HARNESS_BURST];
    uint64_t seen = 0;

    for (unsigned i = 0; i + HARNESS_BURST <= n; i += HARNESS_BURST) {
        session_find_burst(&s.table, s.keys + i, hashes, HARNESS_BURST, found);
        for (unsigned k = 0; k < HARNESS_BURST; k++) {
            if (found[k] && !flow_equal(&found[k]->flow, s.keys[i + k]))
                found[k] = session_find(&s.table, s.keys[i + k], hashes[k]);
            s.wrong += found[k] != s.sessions[i + k];
            seen += found[k] ? found[k]->seen_us++ : 0;
        }
    }
    return seen;
}

/* ---- add and remove ---- */

/* Flows that the table does not have, each one once. */
static void ready_new(unsigned n)
{
    uint32_t from = s.count + (uint32_t)(micro_random(&s.random) % 100000);

    for (unsigned i = 0; i < n; i++)
        s.flows[i] = harness_client(from + i);
}

static uint64_t run_add_remove(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        s.sessions[i] = session_add(&s.table, &s.flows[i], session_hash(&s.table, &s.flows[i]));
    for (unsigned i = 0; i < n; i++) {
        if (s.sessions[i])
            session_remove(&s.table, s.sessions[i]);
        else
            s.wrong++;
    }
    return s.table.count;
}

/* ---- deduplication ---- */

static int begin_dedup(uint32_t entries)
{
    int err = begin_table(FEW);

    if (err)
        return err;
    s.now_us = 1000000;
    s.added = 0;
    if (chunks_init(&s.chunks, KEPT_BYTES) < 0 ||
        dedup_init(&s.dedup, entries + SPARE, CON_US, CON_US, &s.chunks, &s.table) < 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < entries; i++, s.added++)
        if (!dedup_add(&s.dedup, s.all[s.added % FEW], (uint16_t)(s.added / FEW), true, true,
                       s.now_us))
            return -ENOSPC;
    return 0;
}

static bool end_dedup(void)
{
    for (uint32_t i = 0; i < FEW; i++)
        dedup_forget(&s.dedup, s.all[i]);
    s.wrong += pool_used(&s.dedup.pool) + pool_used(&s.chunks.pool);
    dedup_fini(&s.dedup);
    chunks_fini(&s.chunks);
    return end_table();
}

/* Requests that have not been seen; as many as are added have been seen long ago and are let go. */
static void ready_add(unsigned n)
{
    for (unsigned i = 0; i < n; i++, s.added++) {
        s.sessions[i] = s.all[s.added % FEW];
        s.mids[i] = (uint16_t)(s.added / FEW);
    }
}

/* All that a new request costs here: not found, added, and an old one expires. Each entry lives
 * until as many as there are by now have come after it. */
static uint64_t run_add(unsigned n)
{
    uint64_t step = CON_US / pool_used(&s.dedup.pool);

    for (unsigned i = 0; i < n; i++) {
        s.now_us += step;
        s.wrong += dedup_find(&s.dedup, s.sessions[i], s.mids[i], s.now_us) != NULL;
        s.wrong += !dedup_add(&s.dedup, s.sessions[i], s.mids[i], true, true, s.now_us);
        (void)dedup_expire(&s.dedup, s.now_us, 1);
    }
    return s.added;
}

/* Any of those that are remembered. */
static void ready_seen(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t k = micro_random(&s.random) % s.added;

        s.sessions[i] = s.all[k % FEW];
        s.mids[i] = (uint16_t)(k / FEW);
    }
}

static uint64_t run_seen(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        const struct dedup_entry *e = dedup_find(&s.dedup, s.sessions[i], s.mids[i], s.now_us);

        if (e)
            sum += e->state;
        else
            s.wrong++;
    }
    return sum;
}

static void ready_expire(unsigned n)
{
    for (unsigned i = 0; i < n; i++, s.added++)
        s.wrong += !dedup_add(&s.dedup, s.all[s.added % FEW], (uint16_t)(s.added / FEW), true, true,
                              s.now_us);
    s.now_us += CON_US;
}

static uint64_t run_expire(unsigned n)
{
    unsigned expired = dedup_expire(&s.dedup, s.now_us, n);

    s.wrong += expired != n;
    return expired;
}

const struct micro_case micro_sessions[] = {
    {"session: look-up in bursts, 1,000", 0, FEW, begin_table, run_find, ready_known, end_table},
    {"session: look-up in bursts, 1,000,000", 0, MANY, begin_table, run_find, ready_known,
     end_table},
    {"session: unknown flows, 1,000,000", 0, MANY, begin_table, run_find, ready_unknown, end_table},
    {"session: add + remove, 1,000", 0, FEW, begin_table, run_add_remove, ready_new, end_table},
    {"session: add + remove, 1,000,000", 0, MANY, begin_table, run_add_remove, ready_new,
     end_table},
    {"dedup: a new one, and an old one expires", 0, ENTRIES, begin_dedup, run_add, ready_add,
     end_dedup},
    {"dedup: one seen before, of 1,048,576", 0, ENTRIES, begin_dedup, run_seen, ready_seen,
     end_dedup},
    {"dedup: expire", 0, ENTRIES, begin_dedup, run_expire, ready_expire, end_dedup},
    {0},
};
