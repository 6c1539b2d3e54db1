#include "bench/gun/schedule.h"

uint64_t schedule_count(const struct schedule *s, uint64_t end_ns)
{
    uint64_t count;

    if (end_ns <= s->begin_ns)
        return 0;
    count = (uint64_t)((double)(end_ns - s->begin_ns) / s->interval_ns);
    /* The quotient is rounded: the exact count is next to it. */
    while (schedule_due(s, count) < end_ns)
        count++;
    while (count > 0 && schedule_due(s, count - 1) >= end_ns)
        count--;
    return count;
}
