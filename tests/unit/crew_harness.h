/* Several workers and the rings between them: parcels get there in order, when the test says so. */
#ifndef COAPGW_TESTS_UNIT_CREW_HARNESS_H
#define COAPGW_TESTS_UNIT_CREW_HARNESS_H

#include "gateway/hash.h"
#include "gateway/store/store.h"
#include "tests/unit/resource_harness.h"

#define CREW_MAX      4
#define CREW_RING_MAX 256
#define CREW_KEY      0x5eed5eed5eed5eedull

struct crew_ring {
    struct parcel *items[CREW_RING_MAX];
    unsigned count;
    unsigned capacity;
};

struct crew {
    struct harness h[CREW_MAX];
    unsigned count;
    struct crew_ring rings[CREW_MAX][CREW_MAX]; /* from, to */
    struct crew_ring store[CREW_MAX];           /* to the store */
    struct rte_mempool *parcels;
};

static struct crew *crew_made;
static unsigned crew_next;

static inline unsigned crew_index(const struct harness *h)
{
    return (unsigned)(h - crew_made->h);
}

static inline struct crew_ring *crew_ring(const struct harness *h, unsigned to)
{
    return to == PARCEL_STORE ? &crew_made->store[crew_index(h)]
                              : &crew_made->rings[crew_index(h)][to];
}

static inline bool crew_tell(void *context, unsigned to, struct parcel *parcel)
{
    struct crew_ring *ring = crew_ring(context, to);

    if (ring->count >= ring->capacity)
        return false;
    ring->items[ring->count++] = parcel;
    return true;
}

static inline unsigned crew_room(void *context, unsigned to)
{
    const struct crew_ring *ring = crew_ring(context, to);

    return to == PARCEL_STORE ? 0 : ring->capacity - ring->count; /* of the store nobody says */
}

static inline struct parcel *crew_pop(struct crew_ring *ring)
{
    struct parcel *parcel = ring->count ? ring->items[0] : NULL;

    if (parcel)
        memmove(ring->items, ring->items + 1, --ring->count * sizeof(*ring->items));
    return parcel;
}

static inline void crew_prepare(struct worker_setup *setup)
{
    setup->index = crew_next;
    setup->count = crew_made->count;
    setup->shared_key = CREW_KEY;
    setup->seed[0] = (uint8_t)(crew_next + 1);
    setup->io.tell = crew_tell;
    setup->io.room = crew_room;
}

static inline struct crew *crew_start(const char *yaml, unsigned count, unsigned parcels)
{
    struct crew *c = calloc(1, sizeof(*c));

    assert_non_null(c);
    crew_made = c;
    c->count = count;
    c->parcels = parcel_pool_create("crew", parcels);
    assert_non_null(c->parcels);
    for (unsigned i = 0; i < CREW_MAX; i++) {
        c->store[i].capacity = CREW_RING_MAX;
        for (unsigned k = 0; k < CREW_MAX; k++)
            c->rings[i][k].capacity = CREW_RING_MAX;
    }
    for (crew_next = 0; crew_next < count; crew_next++)
        harness_start_prepared(&c->h[crew_next], yaml, NULL, c->parcels, crew_prepare);
    return c;
}

/* One parcel of this ring gets there. False when there is none. */
static inline bool crew_carry_one(struct crew *c, unsigned from, unsigned to)
{
    struct parcel *parcel = crew_pop(&c->rings[from][to]);

    if (parcel)
        worker_told(c->h[to].worker, parcel, c->h[to].now);
    return parcel;
}

/* All workers' time goes on. */
static inline void crew_advance(struct crew *c, uint64_t us)
{
    for (unsigned i = 0; i < c->count; i++)
        harness_advance(&c->h[i], us);
}

/* Everything that is on its way gets there. */
static inline void crew_carry(struct crew *c)
{
    bool any = true;

    while (any) {
        any = false;
        for (unsigned from = 0; from < c->count; from++)
            for (unsigned to = 0; to < c->count; to++)
                any |= crew_carry_one(c, from, to);
    }
    crew_advance(c, 2000);
}

/* No parcel is left anywhere, and every worker has the same resources. */
static inline void crew_stop(struct crew *c)
{
    uint32_t resources = usage_of(&c->h[0]).resources;

    crew_carry(c);
    for (unsigned k = 0; k < 1000; k++) {
        crew_advance(c, 100 * SECOND_US);
        crew_carry(c);
        for (unsigned i = 0; i < c->count; i++)
            c->h[i].count = c->h[i].taken = 0;
    }
    for (unsigned i = 0; i < c->count; i++) {
        struct parcel *parcel;

        while ((parcel = crew_pop(&c->store[i])))
            parcel_free(c->parcels, parcel);
        resources = usage_of(&c->h[0]).resources;
        assert_int_equal(usage_of(&c->h[i]).resources, resources);
        assert_int_equal(worker_counters(c->h[i].worker)->drop_resource_state, 0);
        nothing_is_kept(&c->h[i]);
    }
    assert_int_equal(rte_mempool_in_use_count(c->parcels), 0);
    for (unsigned i = 0; i < c->count; i++)
        harness_stop(&c->h[i]);
    parcel_pool_destroy(c->parcels);
    free(c);
}

/* The n-th path below /shared whose owner is this worker, without the leading slash. */
static inline const char *crew_path(const struct crew *c, unsigned owner, unsigned n)
{
    static char path[4][64];
    static unsigned turn;
    char *out = path[turn++ % 4];

    for (unsigned i = 0;; i++) {
        snprintf(out, sizeof(path[0]), "/shared/%u", i);
        if (hash_bytes(out, strlen(out), CREW_KEY) % c->count == owner && n-- == 0)
            return memmove(out, out + 1, strlen(out));
    }
}

#endif
