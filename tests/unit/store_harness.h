/* The store's side of a worker, played by hand: what it is told, and what it says. */
#ifndef COAPGW_TESTS_UNIT_STORE_HARNESS_H
#define COAPGW_TESTS_UNIT_STORE_HARNESS_H

#include "gateway/store/store.h"
#include "tests/unit/observe_harness.h"

/* A record as the store would keep it: what is behind the head. */
struct kept {
    uint32_t length;
    uint8_t bytes[1024];
};

static inline struct rte_mempool *store_parcels(void)
{
    static struct rte_mempool *pool;

    if (!pool)
        pool = parcel_pool_create("unit", 2047);
    assert_non_null(pool);
    return pool;
}

/* A worker of its own, as after the start of the process. */
static inline struct harness *store_worker(const char *yaml, uint64_t now)
{
    struct harness *h = malloc(sizeof(*h));

    assert_non_null(h);
    harness_start_full(h, yaml, NULL, store_parcels());
    if (now) {
        h->now = now;
        worker_advance(h->worker, now);
    }
    return h;
}

static inline void store_says_head(struct harness *h, enum store_type type,
                                   const struct store_head *head, const struct kept *record)
{
    struct parcel *parcel = parcel_new(h->parcels, PARCEL_RECORD, (uint16_t)type,
                                       (uint32_t)sizeof(*head) + (record ? record->length : 0));

    assert_non_null(parcel);
    parcel->from = PARCEL_STORE;
    assert_true(parcel_write(parcel, 0, head, sizeof(*head)));
    if (record)
        assert_true(parcel_write(parcel, sizeof(*head), record->bytes, record->length));
    worker_told(h->worker, parcel, h->now);
}

static inline void store_says(struct harness *h, enum store_type type)
{
    const struct store_head head = {.cookie = 0};

    store_says_head(h, type, &head, NULL);
    harness_advance(h, 2000);
}

static inline void store_done(struct harness *h, uint64_t cookie, int error)
{
    const struct store_head head = {.cookie = cookie, .error = error};

    store_says_head(h, STORE_DONE, &head, NULL);
}

static inline void store_gives(struct harness *h, const struct kept *record, bool verify)
{
    const struct store_head head = {.what = STORE_RELATION, .verify = verify};

    store_says_head(h, STORE_RECORD, &head, record);
}

/* The next parcel to the store is of this type. Its cookie. */
static inline uint64_t store_expect(struct harness *h, enum store_type type, struct kept *record)
{
    struct store_head head;
    struct parcel *parcel;

    assert_true(h->told_taken < h->told_count);
    assert_int_equal(h->told_to[h->told_taken], PARCEL_STORE);
    parcel = h->told[h->told_taken++];
    assert_int_equal(parcel->kind, PARCEL_RECORD);
    assert_int_equal(parcel->type, type);
    assert_true(parcel_read(parcel, 0, &head, sizeof(head)));
    if (record) {
        record->length = parcel->length - (uint32_t)sizeof(head);
        assert_true(record->length <= sizeof(record->bytes));
        assert_true(parcel_read(parcel, sizeof(head), record->bytes, record->length));
    }
    parcel_free(h->parcels, parcel);
    return head.cookie;
}

#define store_untold(h) assert_int_equal((h)->told_taken, (h)->told_count)

#endif
