/* The phases of a run: observers register, warm-up, what is measured, and the wait for what is
 * still on its way; or a ramp of such. */
#ifndef COAPGW_BENCH_GUN_RUN_H
#define COAPGW_BENCH_GUN_RUN_H

#include "bench/gun/engine.h"

struct progress;

/* Runs it all. g->r has the result, which is that of the best step of a ramp. `progress` may be
 * NULL. */
void run_all(struct gun *g, struct gun_ramp *ramp, struct progress *progress);

/* Ends what runs, as soon as may be, with a report of what was measured; for signal handlers. */
void run_interrupt(int signal);

/* ---- the search of a ramp, without the runs ---- */

struct search {
    double good, bad; /* the highest rate that went well, the lowest that did not; 0: none yet */
    double next;      /* what to try; 0: found */
    double to;
    unsigned left; /* bisections */
};

void search_begin(struct search *s, double from, double to, unsigned steps);
void search_step(struct search *s, bool good);

#endif
