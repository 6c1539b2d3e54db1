#include "gateway/parcel.h"

#include <string.h>

#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mempool.h>

#define POOL_CACHE 64

static unsigned segments_of(uint32_t length)
{
    return length ? (length + PARCEL_DATA_BYTES - 1) / PARCEL_DATA_BYTES : 1;
}

struct rte_mempool *parcel_pool_create(const char *name, unsigned count)
{
    /* A core's cache may hold 1.5 times its size: a small pool must not end up in caches. */
    unsigned cache = count >= POOL_CACHE * 64 ? POOL_CACHE : 0;
    struct rte_mempool *pool =
        rte_mempool_create_empty(name, count, sizeof(struct parcel), cache, 0, (int)rte_socket_id(),
                                 RTE_MEMPOOL_F_NO_IOVA_CONTIG);
    int err;

    if (!pool)
        return NULL;
    /* Not the default ring: there a thread of the control side that is preempted in its middle
     * would keep the workers waiting. */
    err = rte_mempool_set_ops_byname(pool, "lf_stack", NULL);
    if (err == 0)
        err = rte_mempool_populate_default(pool);
    if (err < 0) {
        rte_mempool_free(pool);
        rte_errno = -err;
        return NULL;
    }
    return pool;
}

void parcel_pool_destroy(struct rte_mempool *pool)
{
    rte_mempool_free(pool);
}

struct parcel *parcel_new(struct rte_mempool *pool, enum parcel_kind kind, uint16_t type,
                          uint32_t length)
{
    struct parcel *first = NULL;

    for (unsigned n = segments_of(length); n; n--) {
        void *segment;

        if (!pool || rte_mempool_get(pool, &segment) != 0) {
            parcel_free(pool, first);
            return NULL;
        }
        ((struct parcel *)segment)->next = first;
        first = segment;
    }
    first->length = length;
    first->kind = (uint16_t)kind;
    first->type = type;
    first->from = 0;
    memset(first->zero, 0, sizeof(first->zero));
    return first;
}

struct parcel *parcel_copy(struct rte_mempool *pool, const struct parcel *parcel)
{
    struct parcel *copy =
        parcel_new(pool, (enum parcel_kind)parcel->kind, parcel->type, parcel->length);
    struct parcel *to = copy;

    if (!copy)
        return NULL;
    copy->from = parcel->from;
    for (const struct parcel *from = parcel; from; from = from->next, to = to->next)
        memcpy(to->data, from->data, sizeof(to->data));
    return copy;
}

void parcel_free(struct rte_mempool *pool, struct parcel *parcel)
{
    while (parcel) {
        struct parcel *next = parcel->next;

        rte_mempool_put(pool, parcel);
        parcel = next;
    }
}

const uint8_t *parcel_span(const struct parcel *parcel, uint32_t offset, uint32_t *length)
{
    uint32_t left = parcel->length, here;

    if (offset >= left) {
        *length = 0;
        return parcel->data;
    }
    while (offset >= PARCEL_DATA_BYTES) {
        offset -= PARCEL_DATA_BYTES;
        left -= PARCEL_DATA_BYTES;
        parcel = parcel->next;
    }
    here = left < PARCEL_DATA_BYTES ? left : PARCEL_DATA_BYTES;
    *length = here - offset;
    return parcel->data + offset;
}

static bool is_within(const struct parcel *parcel, uint32_t offset, size_t length)
{
    return offset <= parcel->length && length <= parcel->length - offset;
}

bool parcel_write(struct parcel *parcel, uint32_t offset, const void *data, size_t length)
{
    if (!is_within(parcel, offset, length))
        return false;
    while (length) {
        uint32_t span;
        uint8_t *to = (uint8_t *)(uintptr_t)parcel_span(parcel, offset, &span);
        size_t n = length < span ? length : span;

        memcpy(to, data, n);
        data = (const uint8_t *)data + n;
        offset += (uint32_t)n;
        length -= n;
    }
    return true;
}

bool parcel_read(const struct parcel *parcel, uint32_t offset, void *data, size_t length)
{
    if (!is_within(parcel, offset, length))
        return false;
    while (length) {
        uint32_t span;
        const uint8_t *from = parcel_span(parcel, offset, &span);
        size_t n = length < span ? length : span;

        memcpy(data, from, n);
        data = (uint8_t *)data + n;
        offset += (uint32_t)n;
        length -= n;
    }
    return true;
}
