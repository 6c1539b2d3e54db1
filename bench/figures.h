/* What benchmarks print: one row for each case, as a table or as JSON. */
#ifndef COAPGW_BENCH_FIGURES_H
#define COAPGW_BENCH_FIGURES_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/meter.h"

#define FIGURES_NAME 44
#define FIGURES_MAX  64

/* Of one operation. What is not known is negative. */
struct figure {
    char name[FIGURES_NAME];
    double ns, tsc;              /* by the time stamp counter */
    double instructions;         /* run one by one, or counted */
    double counts[METER_EVENTS]; /* by the processor's counters */
    double target_ns;            /* what it must not exceed; negative: no target */
    uint64_t operations;         /* in each round */
};

struct figures {
    const char *program, *unit; /* what one operation is: "request" */
    struct figure rows[FIGURES_MAX];
    unsigned count;
};

/* One round: all that was marked since meter_reset(). */
struct figure figure_of(struct meter *meter);

/* Adds a row whose values are the medians of the rounds. Returns it. */
struct figure *figures_add(struct figures *f, const char *name, struct figure *rounds,
                           unsigned count);

/* To standard output: columns that no row has a value for are left out of the table, and null in
 * the JSON. */
void figures_print(const struct figures *f, bool json);

#endif
