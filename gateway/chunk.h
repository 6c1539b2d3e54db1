/* Messages that are kept: bytes of any length in a chain of fixed chunks out of one pool, so that
 * the memory for retransmission and for repeated answers has one limit and no fragmentation.
 *
 * One worker owns a store; no locking. */
#ifndef COAPGW_GATEWAY_CHUNK_H
#define COAPGW_GATEWAY_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/bytes.h"
#include "gateway/pool.h"

#define CHUNK_BYTES   128
#define CHUNK_PAYLOAD (CHUNK_BYTES - sizeof(uint32_t))
#define CHUNK_NONE    POOL_NONE

struct chunk {
    uint32_t next; /* CHUNK_NONE at the end */
    uint8_t payload[CHUNK_PAYLOAD];
};
_Static_assert(sizeof(struct chunk) == CHUNK_BYTES, "two cache lines");

struct chunks {
    struct pool pool;
};

static inline struct chunk *chunk_at(const struct chunks *chunks, uint32_t index)
{
    return pool_at(&chunks->pool, index);
}

/* Room for `bytes` in all, links included; less than one chunk is refused, more than 512 GiB is not
 * used. 0 or a negative errno from pool_init(). */
int chunks_init(struct chunks *chunks, size_t bytes);
void chunks_fini(struct chunks *chunks);

/* The longest message that chunks_write() would take now. */
static inline size_t chunks_room(const struct chunks *chunks)
{
    return (size_t)(chunks->pool.capacity - pool_used(&chunks->pool)) * CHUNK_PAYLOAD;
}

/* Most messages fit into one chunk: what is longer is for these. */
uint32_t chunks_write_long(struct chunks *chunks, const void *data, size_t length);
void chunks_read_long(const struct chunks *chunks, uint32_t handle, void *out, size_t length);

/* Copies `length` bytes in. The handle of the chain, or CHUNK_NONE when there is not room for all
 * (nothing is kept then). Length 0 takes one chunk. `data` is not kept. */
static inline uint32_t chunks_write(struct chunks *chunks, const void *data, size_t length)
{
    struct chunk *chunk;

    if (length > CHUNK_PAYLOAD)
        return chunks_write_long(chunks, data, length);
    chunk = pool_get(&chunks->pool);
    if (!chunk)
        return CHUNK_NONE;
    chunk->next = CHUNK_NONE;
    bytes_copy(chunk->payload, data, length);
    return pool_index(&chunks->pool, chunk);
}

/* Copies the first `length` bytes of the chain out; `length` must not exceed what was written: the
 * chain does not know it. */
static inline void chunks_read(const struct chunks *chunks, uint32_t handle, void *out,
                               size_t length)
{
    if (length > CHUNK_PAYLOAD)
        chunks_read_long(chunks, handle, out, length);
    else if (length)
        bytes_copy(out, chunk_at(chunks, handle)->payload, length);
}

/* Gives the chain back. CHUNK_NONE is allowed and does nothing. */
static inline void chunks_free(struct chunks *chunks, uint32_t handle)
{
    while (handle != CHUNK_NONE) {
        uint32_t next = chunk_at(chunks, handle)->next;

        pool_put_at(&chunks->pool, handle);
        handle = next;
    }
}

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

/* Over the borders of chunks. */
bool rope_append_far(struct chunks *chunks, struct rope *rope, const void *data, size_t length);
void rope_read_far(const struct chunks *chunks, const struct rope *rope, struct rope_cursor *cursor,
                   uint32_t offset, void *out, size_t length);
bool rope_equal_far(const struct chunks *chunks, const struct rope *rope, const void *data,
                    size_t length);

/* Copies `length` bytes to the end. False when there is not room for all: nothing is added then. */
static inline bool rope_append(struct chunks *chunks, struct rope *rope, const void *data,
                               size_t length)
{
    /* The first bytes, or more of what fits into the first chunk. */
    if (length == 0 || rope->length + length > CHUNK_PAYLOAD)
        return rope_append_far(chunks, rope, data, length);
    if (rope->length == 0) {
        rope->head = rope->tail = chunks_write(chunks, data, length);
        if (rope->head == CHUNK_NONE)
            return false;
    } else {
        bytes_copy(chunk_at(chunks, rope->tail)->payload + rope->length, data, length);
    }
    rope->length += (uint32_t)length;
    return true;
}

/* Copies `length` bytes from `offset` on; all of them must be there. `cursor` may be NULL. */
static inline void rope_read(const struct chunks *chunks, const struct rope *rope,
                             struct rope_cursor *cursor, uint32_t offset, void *out, size_t length)
{
    if (offset + length > CHUNK_PAYLOAD)
        rope_read_far(chunks, rope, cursor, offset, out, length);
    else if (length)
        bytes_copy(out, chunk_at(chunks, rope->head)->payload + offset, length);
}

/* The same bytes where they lie, if that is in one chunk: good until the rope is changed. Otherwise
 * a copy in `buffer`. */
static inline const uint8_t *rope_view(const struct chunks *chunks, const struct rope *rope,
                                       uint32_t offset, size_t length, uint8_t *buffer)
{
    if (length && offset + length <= CHUNK_PAYLOAD)
        return chunk_at(chunks, rope->head)->payload + offset;
    rope_read(chunks, rope, NULL, offset, buffer, length);
    return buffer;
}

/* True when the rope holds these bytes and no others. */
static inline bool rope_equal(const struct chunks *chunks, const struct rope *rope,
                              const void *data, size_t length)
{
    if (rope->length != length)
        return false;
    if (length > CHUNK_PAYLOAD)
        return rope_equal_far(chunks, rope, data, length);
    return length == 0 || bytes_equal(chunk_at(chunks, rope->head)->payload, data, length);
}

/* Gives all chunks back; the rope is empty then. */
static inline void rope_free(struct chunks *chunks, struct rope *rope)
{
    chunks_free(chunks, rope->head);
    *rope = ROPE_EMPTY;
}

#endif
