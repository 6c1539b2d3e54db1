/* The administration over HTTP: what the gateway is doing, and what may be changed while it runs.
 * docs/admin.md lists the resources.
 *
 * libmicrohttpd serves it in a thread of its own. Workers are asked by parcels (gateway/inspect.h)
 * and never wait; counters are read as they stand. There is no access control but the address that
 * it listens on: by default 127.0.0.1. */
#ifndef COAPGW_GATEWAY_CONTROL_ADMIN_H
#define COAPGW_GATEWAY_CONTROL_ADMIN_H

#include <stdbool.h>

#include "config/config.h"
#include "gateway/parcel.h"
#include "gateway/store/store.h"
#include "gateway/vitals.h"

struct admin;
struct resolver;
struct rte_mempool;

/* What it is told at start; all of it must live until admin_stop(). */
struct admin_setup {
    struct rte_mempool *parcels;
    struct vitals vitals;
    const struct resolver *resolver; /* NULL: there is none */
    const struct store *store;       /* NULL: there is none */
    void (*store_status)(const struct store *store, struct store_status *status);
};

/* Takes the address of config->admin, so that one that is taken is known before anything else
 * starts. NULL with errno set, and said on stderr. `config` must outlive it. Main thread, as all
 * but admin_tell() and admin_take(). */
struct admin *admin_create(const struct config *config);

/* Starts the thread; workers run already. 0, or a negative errno, said on stderr. */
int admin_start(struct admin *admin, const struct admin_setup *setup);

/* Ends the thread; workers run still. Does nothing when it has not been started. */
void admin_stop(struct admin *admin);

/* Frees all, and stops it before that. No worker may be running. NULL is nothing. */
void admin_destroy(struct admin *admin);

/* A worker's side: see lcore_office. `context` is a struct admin. */
bool admin_tell(void *context, unsigned worker, struct parcel *parcel);
struct parcel *admin_take(void *context, unsigned worker);

#endif
