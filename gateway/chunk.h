/* Messages that are kept: bytes of any length in a chain of fixed chunks out of one pool, so that
 * the memory for retransmission and for repeated answers has one limit and no fragmentation.
 *
 * One worker owns a store; no locking. */
#ifndef COAPGW_GATEWAY_CHUNK_H
#define COAPGW_GATEWAY_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/pool.h"

#define CHUNK_BYTES   128
#define CHUNK_PAYLOAD (CHUNK_BYTES - sizeof(uint32_t))
#define CHUNK_NONE    POOL_NONE

struct chunks {
    struct pool pool;
};

/* Room for `bytes` in all, links included; less than one chunk is refused, more than 512 GiB is not
 * used. 0 or a negative errno from pool_init(). */
int chunks_init(struct chunks *chunks, size_t bytes);
void chunks_fini(struct chunks *chunks);

/* The longest message that chunks_write() would take now. */
static inline size_t chunks_room(const struct chunks *chunks)
{
    return (size_t)(chunks->pool.capacity - pool_used(&chunks->pool)) * CHUNK_PAYLOAD;
}

/* Copies `length` bytes in. The handle of the chain, or CHUNK_NONE when there is not room for all
 * (nothing is kept then). Length 0 takes one chunk. `data` is not kept. */
uint32_t chunks_write(struct chunks *chunks, const void *data, size_t length);

/* Copies the first `length` bytes of the chain out; `length` must not exceed what was written: the
 * chain does not know it. */
void chunks_read(const struct chunks *chunks, uint32_t handle, void *out, size_t length);

/* ---- ropes: a chain that grows at its end ---- */

/* Bytes in a chain of chunks, all of them full but the last. Zero bytes take no chunk. */
struct rope {
    uint32_t head, tail; /* CHUNK_NONE when empty */
    uint32_t length;
};

#define ROPE_EMPTY ((struct rope){CHUNK_NONE, CHUNK_NONE, 0})

/* Where a reader stands, so that reading on does not walk the chain from its start again. */
struct rope_cursor {
    uint32_t chunk, index; /* the index-th chunk of the rope */
};

#define ROPE_START ((struct rope_cursor){CHUNK_NONE, 0})

/* Copies `length` bytes to the end. False when there is not room for all: nothing is added then. */
bool rope_append(struct chunks *chunks, struct rope *rope, const void *data, size_t length);

/* The chunks that rope_append() would take. */
static inline uint32_t rope_growth(const struct rope *rope, size_t length)
{
    return (uint32_t)((rope->length + length + CHUNK_PAYLOAD - 1) / CHUNK_PAYLOAD -
                      (rope->length + CHUNK_PAYLOAD - 1) / CHUNK_PAYLOAD);
}

static inline uint32_t rope_chunks(const struct rope *rope)
{
    return (uint32_t)((rope->length + CHUNK_PAYLOAD - 1) / CHUNK_PAYLOAD);
}

/* Copies `length` bytes from `offset` on; all of them must be there. `cursor` may be NULL. */
void rope_read(const struct chunks *chunks, const struct rope *rope, struct rope_cursor *cursor,
               uint32_t offset, void *out, size_t length);

/* True when the rope holds these bytes and no others. */
bool rope_equal(const struct chunks *chunks, const struct rope *rope, const void *data,
                size_t length);

/* Gives all chunks back; the rope is empty then. */
void rope_free(struct chunks *chunks, struct rope *rope);

/* Gives the chain back. CHUNK_NONE is allowed and does nothing. */
void chunks_free(struct chunks *chunks, uint32_t handle);

#endif
