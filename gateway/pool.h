/* A pool of objects of one size, reserved at creation and never grown: get and put in O(1).
 *
 * Memory is reserved with mmap and touched on first use, so that a limit that is configured high costs
 * address space, not memory; MADV_HUGEPAGE is asked for. Objects have stable indices in [0, capacity). An object comes
 * back as it was put (not zeroed).
 *
 * One worker owns a pool; no locking. */
#ifndef COAPGW_GATEWAY_POOL_H
#define COAPGW_GATEWAY_POOL_H

#include <stddef.h>
#include <stdint.h>

#define POOL_NONE UINT32_MAX

struct pool {
    uint8_t *memory;
    uint32_t *free; /* stack of indices that have been put back */
    uint32_t object_bytes;
    uint32_t capacity;
    uint32_t free_count;
    uint32_t fresh; /* indices from here on have never been used */
    size_t memory_bytes, free_bytes; /* what mmap was asked for */
};

/* `object_bytes` is rounded up to 8. 0, or -ENOMEM, -EINVAL. A capacity of 0 is refused. */
int pool_init(struct pool *pool, size_t object_bytes, uint32_t capacity);
void pool_fini(struct pool *pool);

/* An object, or NULL when all are in use. */
void *pool_get(struct pool *pool);
void pool_put(struct pool *pool, void *object);

static inline void *pool_at(const struct pool *pool, uint32_t index)
{
    return pool->memory + (size_t)index * pool->object_bytes;
}

static inline uint32_t pool_index(const struct pool *pool, const void *object)
{
    return (uint32_t)((size_t)((const uint8_t *)object - pool->memory) / pool->object_bytes);
}

static inline uint32_t pool_used(const struct pool *pool)
{
    return pool->fresh - pool->free_count;
}

#endif
