/* The parts of the gateway one by one: each case runs one function, or a pair of them, again and
 * again. One thread. */
#ifndef COAPGW_BENCH_MICRO_H
#define COAPGW_BENCH_MICRO_H

#include <stdbool.h>
#include <stdint.h>

struct micro_case {
    const char *name; /* "group: what" */
    double target_ns; /* what one operation must not exceed; 0: no target */
    uint32_t scale;   /* for the case itself: how many there are of what it works on */

    /* `scale` divided by what --shrink says, at least 1. 0 or a negative errno. NULL: nothing is to
     * be made. */
    int (*begin)(uint32_t scale);
    /* The n next operations: what is measured. It returns something that depends on all of them, so
     * that none is left out by the compiler. */
    uint64_t (*run)(unsigned n);
    /* Between measurements: makes the next n operations possible; NULL: nothing is needed. */
    void (*ready)(unsigned n);
    /* True when what happened was right. NULL: it cannot go wrong. */
    bool (*end)(void);
};

/* The operations of one measurement. */
#define MICRO_BATCH 1024

/* A table of cases; the last one has no name. */
extern const struct micro_case micro_codec[], micro_wheel[], micro_sessions[], micro_memory[],
    micro_frames[], micro_records[];

/* What it points to, or its value, is unknown to the compiler from here on: nothing is computed
 * before it is measured. */
#define MICRO_HIDE(value) __asm__ volatile("" : "+r"(value)::"memory")

/* Always the same numbers. */
static inline uint64_t micro_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

#endif
