#include "gateway/chunk.h"

#include <string.h>

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

uint32_t chunks_write_long(struct chunks *chunks, const void *data, size_t length)
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

void chunks_read_long(const struct chunks *chunks, uint32_t handle, void *out, size_t length)
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

/* ---- ropes ---- */

bool rope_append_far(struct chunks *chunks, struct rope *rope, const void *data, size_t length)
{
    const uint8_t *from = data;
    uint32_t used = rope->length % CHUNK_PAYLOAD;

    if (rope_growth(rope, length) > chunks->pool.capacity - pool_used(&chunks->pool))
        return false;
    while (length > 0) {
        size_t part = CHUNK_PAYLOAD - used;

        if (used == 0) {
            struct chunk *chunk = pool_get(&chunks->pool);

            chunk->next = CHUNK_NONE;
            if (rope->head == CHUNK_NONE)
                rope->head = pool_index(&chunks->pool, chunk);
            else
                chunk_at(chunks, rope->tail)->next = pool_index(&chunks->pool, chunk);
            rope->tail = pool_index(&chunks->pool, chunk);
        }
        if (part > length)
            part = length;
        memcpy(chunk_at(chunks, rope->tail)->payload + used, from, part);
        from += part;
        length -= part;
        rope->length += (uint32_t)part;
        used = 0;
    }
    return true;
}

void rope_read_far(const struct chunks *chunks, const struct rope *rope, struct rope_cursor *cursor,
                   uint32_t offset, void *out, size_t length)
{
    struct rope_cursor own = ROPE_START, *at = cursor ? cursor : &own;
    uint32_t wanted = offset / CHUNK_PAYLOAD, skip = offset % CHUNK_PAYLOAD;
    uint8_t *to = out;

    if (length == 0)
        return;
    if (at->chunk == CHUNK_NONE || at->index > wanted)
        *at = (struct rope_cursor){rope->head, 0};
    for (;;) {
        const struct chunk *chunk = chunk_at(chunks, at->chunk);

        if (at->index >= wanted) {
            size_t part = CHUNK_PAYLOAD - skip < length ? CHUNK_PAYLOAD - skip : length;

            memcpy(to, chunk->payload + skip, part);
            to += part;
            length -= part;
            skip = 0;
            if (length == 0)
                return; /* stands at the chunk that was read last: the next block may begin in it */
        }
        at->chunk = chunk->next;
        at->index++;
    }
}

bool rope_equal_far(const struct chunks *chunks, const struct rope *rope, const void *data,
                    size_t length)
{
    const uint8_t *with = data;
    uint32_t index = rope->head;

    if (rope->length != length)
        return false;
    while (length > 0) {
        const struct chunk *chunk = chunk_at(chunks, index);
        size_t part = length < CHUNK_PAYLOAD ? length : CHUNK_PAYLOAD;

        if (memcmp(chunk->payload, with, part) != 0)
            return false;
        with += part;
        length -= part;
        index = chunk->next;
    }
    return true;
}
