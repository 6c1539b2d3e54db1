/* One clock for a run: nanoseconds from its start, never 0. It is the TSC where DPDK has measured
 * that, and the kernel's monotonic clock elsewhere. */
#ifndef COAPGW_BENCH_GUN_CLOCK_H
#define COAPGW_BENCH_GUN_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <rte_cycles.h>

#define SECOND_NS      1000000000ull
#define MILLISECOND_NS 1000000ull

struct clock {
    uint64_t begin;
    uint64_t per_tick; /* nanoseconds, times 2^32; 0: the kernel's clock */
};

static inline uint64_t clock_monotonic_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static inline uint64_t clock_now(const struct clock *c)
{
    if (!c->per_tick)
        return clock_monotonic_ns() - c->begin + 1;
    return (uint64_t)(((unsigned __int128)(rte_rdtsc() - c->begin) * c->per_tick) >> 32) + 1;
}

static inline void clock_start(struct clock *c, bool tsc)
{
    c->per_tick = tsc ? (uint64_t)(1e9 * 4294967296.0 / (double)rte_get_tsc_hz()) : 0;
    c->begin = tsc ? rte_rdtsc() : clock_monotonic_ns();
}

#endif
