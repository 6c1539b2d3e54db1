/* A line each second while it runs. Another thread writes it, so that a slow terminal does not hold
 * the packets up. */
#ifndef COAPGW_BENCH_GUN_PROGRESS_H
#define COAPGW_BENCH_GUN_PROGRESS_H

#include <sched.h>

#include "bench/gun/gun.h"

struct progress;

/* A thread on the CPUs of `cpus`. NULL when it cannot be had. */
struct progress *progress_start(const cpu_set_t *cpus);
void progress_stop(struct progress *p);

/* What has been counted by now; the difference to the last is shown. Skipped when the thread is
 * not done with the last. Called by the engine's thread. */
void progress_post(struct progress *p, const struct gun_result *r, double at_s);

/* How far the handshakes are. Skipped as above. */
void progress_handshakes(struct progress *p, const struct gun_security *s, uint32_t of);

/* A step of a ramp has ended. */
void progress_step(struct progress *p, const struct gun_step *step);

#endif
