/* Parcels: bytes on their way from one thread to another, between workers, and between a worker and
 * the threads of the control side (store, administration).
 *
 * A parcel is a chain of segments from one rte_mempool that all threads share, sized at start. It
 * has one owner at a time: who got it from parcel_new() or out of a ring either passes it on or
 * frees it. Rings carry the pointers; a ring and the pool are the only limits, and who meets one
 * says so to whom it serves (5.03, or a record that is written later).
 *
 * Functions may be called by any thread, for parcels that it owns. */
#ifndef COAPGW_GATEWAY_PARCEL_H
#define COAPGW_GATEWAY_PARCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rte_mempool;

#define PARCEL_SEGMENT_BYTES 2048
#define PARCEL_DATA_BYTES    (PARCEL_SEGMENT_BYTES - 24)

/* Where a parcel goes to and comes from: a worker by its index, or one of these. */
#define PARCEL_STORE   0xfffe
#define PARCEL_CONTROL 0xffff

/* Who understands it; the numbers within belong to the modules that are named. */
enum parcel_kind {
    PARCEL_RECORD,   /* gateway/store/store.h: between a worker and the store */
    PARCEL_RESOURCE, /* gateway/serve/resource.h: between workers */
    PARCEL_INSPECT,  /* gateway/inspect.h: between the control thread and a worker */
    /* From the control thread: the pointer to a struct credentials, with the reference that the
     * worker takes over. */
    PARCEL_CREDENTIALS,
    PARCEL_KIND_COUNT
};

struct parcel {
    struct parcel *next; /* further segments */
    uint32_t length;     /* of all segments together; in the first one */
    uint16_t kind;       /* enum parcel_kind */
    uint16_t type;       /* what it says, by kind */
    uint16_t from;
    uint16_t zero[3];
    uint8_t data[PARCEL_DATA_BYTES];
};
_Static_assert(sizeof(struct parcel) == PARCEL_SEGMENT_BYTES, "no padding");

/* Room for `count` segments. NULL when memory is short (rte_errno). */
struct rte_mempool *parcel_pool_create(const char *name, unsigned count);
void parcel_pool_destroy(struct rte_mempool *pool);

/* A parcel of `length` bytes, which are not set. NULL when the pool cannot give all of it. */
struct parcel *parcel_new(struct rte_mempool *pool, enum parcel_kind kind, uint16_t type,
                          uint32_t length);

/* A parcel with the same kind, type, sender and bytes. NULL as above. */
struct parcel *parcel_copy(struct rte_mempool *pool, const struct parcel *parcel);

/* NULL is allowed. */
void parcel_free(struct rte_mempool *pool, struct parcel *parcel);

/* Bytes in and out. False when they do not all lie within the parcel; nothing is copied then. */
bool parcel_write(struct parcel *parcel, uint32_t offset, const void *data, size_t length);
bool parcel_read(const struct parcel *parcel, uint32_t offset, void *data, size_t length);

/* The bytes from `offset` to the end of their segment, so that long ones need not be copied twice.
 * `*length` is how many there are, 0 at the end. */
const uint8_t *parcel_span(const struct parcel *parcel, uint32_t offset, uint32_t *length);

#endif
