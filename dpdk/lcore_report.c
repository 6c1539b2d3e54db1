/* What a lcore says of itself. */
#include "dpdk/lcore_parts.h"

void lcore_counters(const struct lcore *l, struct counters *sum)
{
    counters_add(sum, &l->device);
    counters_add(sum, worker_counters(l->worker));
}

static uint64_t peek(const uint64_t *value)
{
    return __atomic_load_n(value, __ATOMIC_RELAXED);
}

void lcore_load(const struct lcore *l, struct worker_load *load)
{
    uint64_t begun = peek(&l->now), now = lcore_now_us(l->shared);

    *load = (struct worker_load){
        .turns = peek(&l->load.turns),
        .busy_turns = peek(&l->load.busy_turns),
        .sleeps = peek(&l->load.sleeps),
        .busy_us = lcore_tsc_to_us(l->shared, peek(&l->load.busy_cycles)),
        .idle_us = lcore_tsc_to_us(l->shared, peek(&l->load.idle_cycles)),
        .longest_us = peek(&l->load.longest_us),
        .turn_age_us = now > begun ? now - begun : 0,
    };
}

void lcore_print(const struct lcore *l, FILE *out)
{
    const struct lcore_load *load = &l->load;
    struct counters sum = {0};
    struct worker_usage use;
    char prefix[32];
    uint64_t cycles = load->busy_cycles + load->idle_cycles;

    snprintf(prefix, sizeof(prefix), "worker %u", l->index);
    lcore_counters(l, &sum);
    counters_print(&sum, prefix, out);
    worker_usage(l->worker, &use);
    fprintf(
        out,
        "%s in use: sessions %u of %u, exchanges %u of %u, forwards %u of %u, outbound %u of %u, "
        "remembered %u of %u, chunks %u of %u, timers %llu\n",
        prefix, use.sessions, use.sessions_max, use.exchanges, use.exchanges_max, use.forwards,
        use.forwards_max, use.outbound, use.outbound_max, use.remembered, use.remembered_max,
        use.chunks, use.chunks_max, (unsigned long long)use.timers);
    fprintf(out, "%s busy %.1f %% of its time, %llu turns, %llu sleeps, longest turn %llu us\n",
            prefix, cycles ? 100.0 * (double)load->busy_cycles / (double)cycles : 0.0,
            (unsigned long long)load->turns, (unsigned long long)load->sleeps,
            (unsigned long long)load->longest_us);
}
