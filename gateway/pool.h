/* A pool of objects of one size, reserved at creation and never grown: get and put in O(1).
 *
 * Memory is reserved with mmap and touched on first use, so that a limit that is configured high
 * costs address space, not memory; huge pages are asked for. Objects have stable indices in
 * [0, capacity). An object that was never used is all zero; one that was put back comes again as it
 * was put, the latest one first, since it is likely to be in the cache still.
 *
 * Under AddressSanitizer what is not in use is poisoned: an access after put, and a second put, are
 * reported.
 *
 * One worker owns a pool; no locking. */
#ifndef COAPGW_GATEWAY_POOL_H
#define COAPGW_GATEWAY_POOL_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define POOL_ASAN
#endif

#ifdef POOL_ASAN
#include <sanitizer/asan_interface.h>
#define POOL_POISON(address, size)   ASAN_POISON_MEMORY_REGION(address, size)
#define POOL_UNPOISON(address, size) ASAN_UNPOISON_MEMORY_REGION(address, size)
#else
#define POOL_POISON(address, size)   ((void)(address), (void)(size))
#define POOL_UNPOISON(address, size) ((void)(address), (void)(size))
#endif

#define POOL_NONE UINT32_MAX

struct pool {
    uint8_t *memory;
    uint32_t *free;      /* stack of indices that have been put back */
    uint64_t reciprocal; /* of object_bytes, for pool_index() */
    uint32_t object_bytes;
    uint32_t capacity;
    uint32_t free_count;
    uint32_t fresh;                  /* indices from here on have never been used */
    size_t memory_bytes, free_bytes; /* what mmap was asked for */
};

/* `object_bytes` is rounded up to 8; an object is aligned to the largest power of two, up to a
 * page, that divides the result. 0; -EINVAL when the capacity is 0 or the size is 0 or beyond 2^31;
 * -ENOMEM. The pool is all zero when it fails. */
int pool_init(struct pool *pool, size_t object_bytes, uint32_t capacity);

/* Gives the memory back, whatever is still in use. Does nothing to a pool that is all zero. */
void pool_fini(struct pool *pool);

static inline void *pool_at(const struct pool *pool, uint32_t index)
{
    return pool->memory + (size_t)index * pool->object_bytes;
}

/* `object` must be the start of an object. Multiplies by the reciprocal 2^64 / size, rounded up:
 * with an offset of index * size below 2^63 the rounding adds less than half a unit, so the whole
 * part is exact. */
static inline uint32_t pool_index(const struct pool *pool, const void *object)
{
    uint64_t offset = (uint64_t)((const uint8_t *)object - pool->memory);

    return (uint32_t)(((unsigned __int128)offset * pool->reciprocal) >> 64);
}

/* An object, or NULL when all are in use. */
static inline void *pool_get(struct pool *pool)
{
    uint32_t index;
    void *object;

    if (pool->free_count > 0)
        index = pool->free[--pool->free_count];
    else if (pool->fresh < pool->capacity)
        index = pool->fresh++;
    else
        return NULL;
    object = pool_at(pool, index);
    POOL_UNPOISON(object, pool->object_bytes);
    return object;
}

/* The same for one whose index is known. */
static inline void pool_put_at(struct pool *pool, uint32_t index)
{
    void *object = pool_at(pool, index);

    assert(index < pool->fresh && pool->free_count < pool->fresh);
#ifdef POOL_ASAN
    (void)*(volatile uint8_t *)object; /* makes a second put an access to what is free */
#endif
    POOL_POISON(object, pool->object_bytes);
    pool->free[pool->free_count++] = index;
}

/* `object` must be in use. */
static inline void pool_put(struct pool *pool, void *object)
{
    uint32_t index = pool_index(pool, object);

    assert(pool_at(pool, index) == object);
    pool_put_at(pool, index);
}

static inline uint32_t pool_used(const struct pool *pool)
{
    return pool->fresh - pool->free_count;
}

#endif
