/* The absolute schedule of an open loop: request k is due at begin + k * interval, whatever became
 * of those before it. A sender that is late has a debt, which is sent as soon as possible and never
 * forgotten; latency counts from the due time, so that a server that stalls is charged for all who
 * had to wait.
 *
 * Pure. Times in nanoseconds of any one clock. */
#ifndef COAPGW_BENCH_GUN_SCHEDULE_H
#define COAPGW_BENCH_GUN_SCHEDULE_H

#include <stdint.h>

struct schedule {
    uint64_t begin_ns;
    double interval_ns;
    uint64_t sent; /* requests 0 to sent - 1 have gone */
};

/* When request k is due. Exact to a nanosecond for 2^53 ns, 104 days. */
static inline uint64_t schedule_due(const struct schedule *s, uint64_t k)
{
    return s->begin_ns + (uint64_t)((double)k * s->interval_ns);
}

/* How many requests are due by `now` and have not gone; `most` at most. */
static inline unsigned schedule_waiting(const struct schedule *s, uint64_t now, unsigned most)
{
    unsigned n = 0;

    while (n < most && schedule_due(s, s->sent + n) <= now)
        n++;
    return n;
}

/* The number of requests that are due before `end`. */
uint64_t schedule_count(const struct schedule *s, uint64_t end_ns);

#endif
