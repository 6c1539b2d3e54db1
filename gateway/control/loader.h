/* Modules into the process: shared objects are opened before the workers are made, with whatever
 * privileges the process has then. Afterwards a thread of the control side prints what they log,
 * and names those whose functions take too long. Their code is never unloaded before the end. */
#ifndef COAPGW_GATEWAY_CONTROL_LOADER_H
#define COAPGW_GATEWAY_CONTROL_LOADER_H

#include <stdio.h>

#include "config/config.h"
#include "gateway/serve/module_table.h"

struct loader_thread;

/* Opens the modules of all routes and lets them check their options. `*modules` is NULL when no
 * route has one. 0, or a negative errno: each route that is wrong has got a line on `errors` then.
 * Main thread. */
int loader_open(const struct config *config, FILE *errors, struct modules **modules);

/* After the workers, and the thread, have gone. NULL is nothing. Main thread. */
void loader_close(struct modules *modules);

/* Starts the thread; `out` is where it prints. NULL with errno set. Main thread. */
struct loader_thread *loader_watch(struct modules *modules, FILE *out);

/* Prints what is left, and ends it. NULL is nothing. Main thread. */
void loader_unwatch(struct loader_thread *thread);

/* What each module has cost so far, one line for each route and worker. Any thread. */
void loader_print(const struct modules *modules, FILE *out);

#endif
