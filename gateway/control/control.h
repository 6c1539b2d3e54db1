/* The control thread: signals in, readiness and counters out. It is the main thread. */
#ifndef COAPGW_GATEWAY_CONTROL_CONTROL_H
#define COAPGW_GATEWAY_CONTROL_CONTROL_H

#include <stdio.h>

#include "config/config.h"

/* Before any thread is made, so that all inherit it: signals are taken by control_run() only. 0 or
 * a negative errno, said on stderr. */
int control_block_signals(void);

/* Says that traffic is served: a line on stderr with the listeners, and READY=1 to systemd. */
void control_ready(const struct config *config);

/* Serves signals until SIGTERM or SIGINT comes. SIGUSR1 calls `print`, with stderr. `tick` is
 * called about once a second. */
void control_run(void (*print)(void *context, FILE *out), void (*tick)(void *context),
                 void *context);

#endif
