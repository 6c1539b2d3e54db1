#include "gateway/pool.h"

#include <errno.h>
#include <string.h>

#include "gateway/memory.h"

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
    POOL_POISON(memory, pool_marked_bytes(pool));
    return 0;
}

void pool_fini(struct pool *pool)
{
    if (!pool->memory)
        return;
    /* Others may be mapped here next. */
    POOL_UNPOISON(pool->memory, pool_marked_bytes(pool));
    memory_release(pool->memory, pool->memory_bytes);
    memory_release(pool->free, pool->free_bytes);
    memset(pool, 0, sizeof(*pool));
}
