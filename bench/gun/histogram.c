#include "bench/gun/histogram.h"

#include <string.h>

static uint64_t bucket_top(unsigned bucket)
{
    unsigned shift = bucket < 2 * HISTOGRAM_SUB ? 0 : bucket / HISTOGRAM_SUB - 1;

    return (((uint64_t)bucket - shift * HISTOGRAM_SUB + 1) << shift) - 1;
}

uint64_t histogram_total(const struct histogram *h)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        total += h->count[i];
    return total;
}

uint64_t histogram_at(const struct histogram *h, double share)
{
    double exact = (double)histogram_total(h) * share;
    uint64_t wanted = (uint64_t)exact, seen = 0;

    if ((double)wanted < exact || wanted == 0)
        wanted++;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->count[i];
        if (seen >= wanted)
            return bucket_top(i) < h->largest ? bucket_top(i) : h->largest;
    }
    return h->largest;
}

void histogram_since(const struct histogram *now, const struct histogram *before,
                     struct histogram *out)
{
    memset(out, 0, sizeof(*out));
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        out->count[i] = now->count[i] - before->count[i];
        if (out->count[i])
            out->largest = bucket_top(i) < now->largest ? bucket_top(i) : now->largest;
    }
}
