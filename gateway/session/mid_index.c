#include "gateway/session/mid_index.h"

#include <errno.h>

#include "gateway/memory.h"

static inline uint32_t *slot(const struct mid_index *index, uint32_t session, uint16_t mid)
{
    /* Fibonacci hashing spreads the sessions over the table. Consecutive message IDs of one are
     * neighbours: those that are in use together share cache lines, and none are in one chain. */
    uint64_t first = (session * UINT64_C(0x9e3779b97f4a7c15)) >> 32;

    return &index->head[(first + mid) & index->mask];
}

static inline struct mid_key *key_of(const struct mid_index *index, uint32_t object)
{
    return pool_at(index->pool, object);
}

int mid_index_init(struct mid_index *index, struct pool *pool)
{
    unsigned bits = 4;

    while (bits < 31 && (1u << bits) < pool->capacity)
        bits++;
    index->head_bytes = sizeof(uint32_t) << bits;
    index->head = memory_reserve(index->head_bytes);
    if (!index->head)
        return -errno;
    index->pool = pool;
    index->mask = (1u << bits) - 1;
    return 0;
}

void mid_index_fini(struct mid_index *index)
{
    memory_release(index->head, index->head_bytes);
    index->head = NULL;
}

void mid_index_expect(const struct mid_index *index, uint32_t session, uint16_t mid)
{
    __builtin_prefetch(slot(index, session, mid), 1);
}

uint32_t mid_index_find(const struct mid_index *index, uint32_t session, uint16_t mid)
{
    uint32_t at = *slot(index, session, mid);

    while (at) {
        const struct mid_key *key = key_of(index, at - 1);

        if (key->session == session && key->mid == mid)
            return at - 1;
        at = key->next;
    }
    return POOL_NONE;
}

void mid_index_add(struct mid_index *index, uint32_t object)
{
    struct mid_key *key = key_of(index, object);
    uint32_t *head = slot(index, key->session, key->mid);

    key->next = *head;
    *head = object + 1;
}

void mid_index_remove(struct mid_index *index, uint32_t object)
{
    struct mid_key *key = key_of(index, object);
    uint32_t *link = slot(index, key->session, key->mid);

    while (*link != object + 1)
        link = &key_of(index, *link - 1)->next;
    *link = key->next;
}
