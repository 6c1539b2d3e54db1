/* What a piece of code costs: the processor's time that this thread had for it, which leaves out
 * what others had meanwhile, and what the processor's counters say of it, in user mode.
 *
 * Where there are no such counters, as in many virtual machines, meter_step_*() still counts
 * instructions, exactly, by running them one at a time: that takes some microseconds for each, so
 * it is for a sample.
 *
 * One thread. */
#ifndef COAPGW_BENCH_METER_H
#define COAPGW_BENCH_METER_H

#include <stdbool.h>
#include <stdint.h>

enum meter_event {
    METER_CYCLES,
    METER_INSTRUCTIONS,
    METER_L1_MISSES, /* loads that were not in the first-level data cache */
    METER_LLC_MISSES,
    METER_EVENTS
};

#define METER_SAMPLES 16384

/* Some pieces together, with what was done in them. */
struct meter_sample {
    uint64_t ns, operations;
};

struct meter {
    int fds[METER_EVENTS]; /* -1: the processor, or the kernel, does not count it for us */
    uint64_t begun[METER_EVENTS], begun_ns;
    uint64_t sum[METER_EVENTS]; /* of all measured pieces */
    uint64_t own_ns;            /* what measuring a piece takes: left out */
    uint64_t ns, marked_ns;     /* of all; of those that are in a sample */
    uint64_t operations, marks; /* in all samples; how many there are */
    struct meter_sample samples[METER_SAMPLES];
};

/* Never fails: what cannot be counted is not. */
void meter_open(struct meter *meter);
void meter_close(struct meter *meter);

/* The sums begin at zero again. */
void meter_reset(struct meter *meter);

/* Around a piece; what is between meter_stop() and the next meter_start() does not count. */
void meter_start(struct meter *meter);
void meter_stop(struct meter *meter);

/* All since the last mark is one sample, of so many operations. */
void meter_mark(struct meter *meter, uint64_t operations);

/* Nanoseconds of an operation, without the slowest twentieth of the samples: those in which the
 * kernel or others came between. Sorts the samples. */
double meter_ns_each(struct meter *meter);

static inline bool meter_has(const struct meter *meter, enum meter_event event)
{
    return meter->fds[event] >= 0;
}

double meter_ns_to_tsc(double ns);

/* ---- instructions one by one ---- */

/* True where it can be done. */
bool meter_can_step(void);

/* Between the two, each instruction of this thread is counted, unless meter_step_pause(true) says
 * that it belongs to the benchmark. meter_step_end() gives their number. */
void meter_step_begin(void);
uint64_t meter_step_end(void);

extern volatile bool meter_step_paused;

static inline void meter_step_pause(bool paused)
{
    meter_step_paused = paused;
}

#endif
