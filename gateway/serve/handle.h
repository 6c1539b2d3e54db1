/* Handles of things in numbered places: what has gone is never taken for what came after it in the
 * same place. A handle is the place and a number that each occupant of it has for itself.
 *
 * One worker; no locking. */
#ifndef COAPGW_GATEWAY_SERVE_HANDLE_H
#define COAPGW_GATEWAY_SERVE_HANDLE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/memory.h"

struct handles {
    uint32_t *nonces; /* by place; 0: it is free, or has not been asked for its handle */
    uint32_t count;
    uint32_t last;
};

/* For places 0 to count - 1. 0 or -ENOMEM. */
static inline int handles_init(struct handles *h, uint32_t count)
{
    *h = (struct handles){.count = count,
                          .nonces = memory_reserve((size_t)count * sizeof(*h->nonces))};
    return h->nonces ? 0 : -ENOMEM;
}

static inline void handles_fini(struct handles *h)
{
    memory_release(h->nonces, (size_t)h->count * sizeof(*h->nonces));
    h->nonces = NULL;
}

/* The handle of what is in a place: never 0, and the same until handle_close(). */
static inline uint64_t handle_of(struct handles *h, uint32_t place)
{
    if (h->nonces[place] == 0) {
        if (++h->last == 0)
            h->last = 1;
        h->nonces[place] = h->last;
    }
    return (uint64_t)h->nonces[place] << 32 | place;
}

/* What was in a place has gone. */
static inline void handle_close(struct handles *h, uint32_t place)
{
    h->nonces[place] = 0;
}

/* False when what it was the handle of has gone, or it is none at all. */
static inline bool handle_find(const struct handles *h, uint64_t handle, uint32_t *place)
{
    uint32_t nonce = (uint32_t)(handle >> 32);

    *place = (uint32_t)handle;
    return nonce && *place < h->count && h->nonces[*place] == nonce;
}

#endif
