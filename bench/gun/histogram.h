/* A histogram of times with log-linear buckets: 64 for each power of two, so that what it tells is
 * at most 1/64 above the truth, from a nanosecond to centuries, in fixed memory.
 *
 * One thread owns it. No function fails. */
#ifndef COAPGW_BENCH_GUN_HISTOGRAM_H
#define COAPGW_BENCH_GUN_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB     64 /* buckets of one power of two */
#define HISTOGRAM_BUCKETS 3776

struct histogram {
    uint64_t largest;
    uint64_t count[HISTOGRAM_BUCKETS];
};

/* Values below 128 have a bucket each; above, a bucket holds those that agree in their seven
 * highest bits. */
static inline unsigned histogram_bucket(uint64_t value)
{
    unsigned shift = value < 2 * HISTOGRAM_SUB ? 0 : 57 - (unsigned)__builtin_clzll(value);

    return shift * HISTOGRAM_SUB + (unsigned)(value >> shift);
}

static inline void histogram_add(struct histogram *h, uint64_t value)
{
    h->count[histogram_bucket(value)]++;
    if (value > h->largest)
        h->largest = value;
}

uint64_t histogram_total(const struct histogram *h);

/* The value that a share (0 to 1) of all are at or below, rounded up to its bucket's end; 0 when
 * there are none. */
uint64_t histogram_at(const struct histogram *h, double share);

/* What came into `now` since it was `before`; `largest` is the upper end of a bucket. */
void histogram_since(const struct histogram *now, const struct histogram *before,
                     struct histogram *out);

#endif
