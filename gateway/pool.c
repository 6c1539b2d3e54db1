#include "gateway/pool.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/memory.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define POOL_ASAN
#endif

#ifdef POOL_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size)   ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

#define OBJECT_ALIGN 8u
#define OBJECT_MAX   (UINT32_C(1) << 31)

/* Poison takes a byte of real memory for eight: of a large pool only the start is poisoned before
 * first use, so that it stays cheap to reserve. */
#define POISON_FRESH_BYTES ((size_t)64 << 20)

/* The part of the memory that may be poisoned. */
static size_t pool_marked_bytes(const struct pool *pool)
{
    size_t used = (size_t)pool->fresh * pool->object_bytes;
    size_t marked = used > POISON_FRESH_BYTES ? used : POISON_FRESH_BYTES;

    return marked < pool->memory_bytes ? marked : pool->memory_bytes;
}

int pool_init(struct pool *pool, size_t object_bytes, uint32_t capacity)
{
    memset(pool, 0, sizeof(*pool));
    if (object_bytes == 0 || object_bytes > OBJECT_MAX || capacity == 0)
        return -EINVAL;
    object_bytes = (object_bytes + OBJECT_ALIGN - 1) & ~(size_t)(OBJECT_ALIGN - 1);

    size_t memory_bytes = object_bytes * capacity; /* below 2^63 */
    size_t free_bytes = sizeof(*pool->free) * (size_t)capacity;
    uint8_t *memory = memory_reserve(memory_bytes);
    if (!memory)
        return -ENOMEM;
    uint32_t *stack = memory_reserve(free_bytes);
    if (!stack) {
        memory_release(memory, memory_bytes);
        return -ENOMEM;
    }
    *pool = (struct pool){
        .memory = memory,
        .free = stack,
        .reciprocal = UINT64_MAX / object_bytes + 1, /* 2^64 / object_bytes, rounded up */
        .object_bytes = (uint32_t)object_bytes,
        .capacity = capacity,
        .memory_bytes = memory_bytes,
        .free_bytes = free_bytes,
    };
    ASAN_POISON_MEMORY_REGION(memory, pool_marked_bytes(pool));
    return 0;
}

void pool_fini(struct pool *pool)
{
    if (!pool->memory)
        return;
    /* Others may be mapped here next. */
    ASAN_UNPOISON_MEMORY_REGION(pool->memory, pool_marked_bytes(pool));
    memory_release(pool->memory, pool->memory_bytes);
    memory_release(pool->free, pool->free_bytes);
    memset(pool, 0, sizeof(*pool));
}

void *pool_get(struct pool *pool)
{
    uint32_t index;

    if (pool->free_count > 0)
        index = pool->free[--pool->free_count];
    else if (pool->fresh < pool->capacity)
        index = pool->fresh++;
    else
        return NULL;

    void *object = pool_at(pool, index);
    ASAN_UNPOISON_MEMORY_REGION(object, pool->object_bytes);
    return object;
}

void pool_put(struct pool *pool, void *object)
{
    uint32_t index = pool_index(pool, object);

    assert(index < pool->fresh && pool_at(pool, index) == object);
    assert(pool->free_count < pool->fresh);
#ifdef POOL_ASAN
    (void)*(volatile uint8_t *)object; /* makes a second put an access to what is free */
#endif
    ASAN_POISON_MEMORY_REGION(object, pool->object_bytes);
    pool->free[pool->free_count++] = index;
}
