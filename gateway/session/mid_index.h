/* Finds pool objects by (session, message ID): the confirmable messages that wait for their ACK,
 * and the requests that are remembered for deduplication (RFC 7252 4.4, 4.5).
 *
 * A chained hash over one pool; the chain runs through the objects, which begin with a struct
 * mid_key. Does not own the objects. One worker; no locking. */
#ifndef COAPGW_GATEWAY_SESSION_MID_INDEX_H
#define COAPGW_GATEWAY_SESSION_MID_INDEX_H

#include <stdint.h>

#include "gateway/pool.h"

struct mid_key {
    uint32_t session; /* index of the session */
    uint32_t next;    /* in the chain */
    uint16_t mid;
};

struct mid_index {
    struct pool *pool;
    uint32_t *head; /* 0: empty, otherwise index + 1, so that fresh zero pages mean empty */
    size_t head_bytes;
    uint32_t mask; /* number of heads - 1 */
};

/* For all objects of `pool`. 0 or a negative errno. */
int mid_index_init(struct mid_index *index, struct pool *pool);
void mid_index_fini(struct mid_index *index);

/* It is going to be looked for: what that reads is fetched into the processor's cache. */
void mid_index_expect(const struct mid_index *index, uint32_t session, uint16_t mid);

/* The object's index, or POOL_NONE. */
uint32_t mid_index_find(const struct mid_index *index, uint32_t session, uint16_t mid);

/* The object's key must be set; it must not be in the index yet. */
void mid_index_add(struct mid_index *index, uint32_t object);
void mid_index_remove(struct mid_index *index, uint32_t object);

#endif
