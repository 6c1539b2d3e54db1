#include "gateway/chunk.h"

#include <string.h>

struct chunk {
    uint32_t next; /* CHUNK_NONE at the end */
    uint8_t payload[CHUNK_PAYLOAD];
};
_Static_assert(sizeof(struct chunk) == CHUNK_BYTES, "two cache lines");

int chunks_init(struct chunks *chunks, size_t bytes)
{
    size_t capacity = bytes / CHUNK_BYTES;

    return pool_init(&chunks->pool, sizeof(struct chunk),
                     capacity > UINT32_MAX ? UINT32_MAX : (uint32_t)capacity);
}

void chunks_fini(struct chunks *chunks)
{
    pool_fini(&chunks->pool);
}

uint32_t chunks_write(struct chunks *chunks, const void *data, size_t length)
{
    const uint8_t *from = data;
    uint32_t handle = CHUNK_NONE;
    uint32_t *link = &handle;

    if (length > chunks_room(chunks))
        return CHUNK_NONE;
    do {
        struct chunk *chunk = pool_get(&chunks->pool);
        size_t part = length < CHUNK_PAYLOAD ? length : CHUNK_PAYLOAD;
        if (!chunk)
            return CHUNK_NONE; /* only the first: there is room for the rest */
        if (part > 0) {        /* `data` may be NULL when there is none */
            memcpy(chunk->payload, from, part);
            from += part;
            length -= part;
        }
        *link = pool_index(&chunks->pool, chunk);
        link = &chunk->next;
    } while (length > 0);
    *link = CHUNK_NONE;
    return handle;
}

void chunks_read(const struct chunks *chunks, uint32_t handle, void *out, size_t length)
{
    uint8_t *to = out;

    while (length > 0) {
        const struct chunk *chunk = pool_at(&chunks->pool, handle);
        size_t part = length < CHUNK_PAYLOAD ? length : CHUNK_PAYLOAD;
        memcpy(to, chunk->payload, part);
        to += part;
        length -= part;
        handle = chunk->next;
    }
}

void chunks_free(struct chunks *chunks, uint32_t handle)
{
    while (handle != CHUNK_NONE) {
        struct chunk *chunk = pool_at(&chunks->pool, handle);
        handle = chunk->next;
        pool_put(&chunks->pool, chunk);
    }
}
