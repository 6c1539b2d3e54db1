/* Resources that the gateway itself holds: clients make them with PUT below a route `resources`,
 * read, observe and remove them.
 *
 *   resource.c         the table of a worker: its replica of all resources; GET
 *   resource_write.c   PUT and DELETE: from the worker that is asked to the owner, and back
 *   resource_store.c   what the store has of them
 *
 * Each resource has one owner, a worker that follows from a hash of its name. A write goes to the
 * owner in a parcel with the whole body (RESOURCE_WRITE). The owner checks the preconditions and
 * the limits, gives the state a version, puts it into its own replica, sends it to all other
 * workers (RESOURCE_STATE), and then the outcome to the worker that asked (RESOURCE_OUTCOME): in
 * this order and through one ring, so that a client that has heard of its write sees it. With a
 * store, the outcome waits until the record is kept.
 *
 * Nothing is changed unless everybody can be told: where a pool, a ring or a table is full, the
 * answer is 5.03. A state that has been sent finds its memory: what a worker reserves is the sum of
 * the routes' limits and what can be on the way between workers.
 *
 * Limits hold for all workers together. The owner counts by its replica, which knows of all writes
 * but those that are on their way to it: the limits are reached, and exceeded at most by what fits
 * into the parcels that are under way.
 *
 * Versions follow the clock in microseconds, so that they grow over restarts and removals, too. An
 * ETag is a hash of version and representation: equal representations of different times differ.
 *
 * One worker; no locking. */
#ifndef COAPGW_GATEWAY_SERVE_RESOURCE_H
#define COAPGW_GATEWAY_SERVE_RESOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/proxy/local.h"

/* The longest name, encoded as in a URI. */
#define RESOURCE_NAME_BYTES 1024

struct resources;

struct resources_setup {
    struct proxy *proxy;
    unsigned index, count; /* this worker, and how many there are */
};

/* NULL when memory is short (errno is set). */
struct resources *resources_create(const struct resources_setup *setup);
/* Before the proxy goes. NULL is nothing. */
void resources_destroy(struct resources *r);

/* A request that a route leads to resources. */
void resources_request(struct resources *r, struct request *rq, unsigned route);

/* A parcel of another worker's (PARCEL_RESOURCE), which is taken over. */
void resources_told(struct resources *r, struct parcel *parcel);

/* A parcel of the store's (PARCEL_RECORD), not consumed. True when it is about resources alone. */
bool resources_stored(struct resources *r, const struct parcel *parcel);

/* Work in portions: outcomes that found a ring full, and records that are put again. Returns how
 * much was done. */
unsigned resources_advance(struct resources *r, unsigned budget);
bool resources_has_work(const struct resources *r);

uint32_t resources_count(const struct resources *r);
/* What the configuration allows. */
uint32_t resources_max(const struct resources *r);

/* The name of one that is observed, by what local_observe() got; in the proxy's contents.chunks. */
const struct rope *resources_name(const struct resources *r, uint32_t index);

/* ---- for discovery ---- */

/* What a link says of a resource. */
struct resource_link {
    const char *host; /* of its route; NULL: any */
    const char *path; /* as in a URI, ends with a zero; valid until the next call */
    int32_t format;   /* -1: none */
    unsigned route;   /* index of it */
};

/* Walks them, oldest first, `*at` POOL_NONE at the beginning. False at the end. */
bool resources_next(struct resources *r, uint32_t *at, struct resource_link *link);
/* The one with this path, and the host of a route's or NULL. */
bool resources_lookup(struct resources *r, const char *host, const char *path, size_t length,
                      struct resource_link *link);

#endif
