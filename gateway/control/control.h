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

struct control_ops {
    void *context;
    void (*print)(void *context, FILE *out); /* SIGUSR1, with stderr */
    void (*reload)(void *context); /* SIGHUP; NULL: there is nothing that could be read again */
    void (*tick)(void *context);   /* about once a second */
};

/* Serves signals until SIGTERM or SIGINT comes. */
void control_run(const struct control_ops *ops);

#endif
