/* Which route serves a request: by host, then by the longest path prefix (whole segments).
 *
 *   - Routes of the request's host are tried first, then those without a host. The host is
 * Uri-Host, compared without regard to case; where it is absent, it is the literal of the address
 * that the request was sent to (RFC 7252 5.10.1).
 *   - A route to an upstream serves its path and all below it. A `respond` route is one resource:
 * it serves its path exactly, and what lies below it belongs to the next shorter route.
 *
 * Made once from the configuration; read-only afterwards, so all workers may share one. */
#ifndef COAPGW_GATEWAY_SERVE_ROUTER_H
#define COAPGW_GATEWAY_SERVE_ROUTER_H

#include <stdint.h>

#include "config/config.h"
#include "gateway/coap/message.h"

struct router;

/* NULL when memory is short. Keeps a pointer to the configuration. */
struct router *router_create(const struct config *config);
void router_destroy(struct router *router);

/* The index of the route in config.routes, or -1. `local` is the index of the address that the
 * request came to. */
int router_find(const struct router *router, const struct message *request, uint16_t local);

/* What a worker has found lately, by the bytes of the requests' options: devices of a kind ask for
 * the same with the same bytes. Each entry says exactly what router_find() would, as that depends
 * on these bytes and on `local` alone. To begin with all zero. */
#define ROUTER_MEMORY_ENTRIES 256 /* a power of two */
#define ROUTER_MEMORY_BYTES   24  /* the options of a request that is remembered */
struct router_memory {
    struct router_memory_entry {
        uint64_t options[ROUTER_MEMORY_BYTES / 8]; /* padded */
        uint16_t length;                           /* 0: free */
        uint16_t local;
        int32_t route;
    } entries[ROUTER_MEMORY_ENTRIES];
};

/* router_find() for a request as it came: its options are those bytes. */
int router_recall(const struct router *router, struct router_memory *memory,
                  const struct message *request, uint16_t local);

#endif
