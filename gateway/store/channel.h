/* Between the store's thread and one worker: a ring each way, and what does not fit yet.
 *
 * A worker never makes a system call for a parcel unless the thread sleeps: it says so in `asleep`,
 * a word of each channel, and looks at the rings again afterwards. Who puts something into a ring
 * exchanges the word for false, and rings the bell if it was true. */
#ifndef COAPGW_GATEWAY_STORE_CHANNEL_H
#define COAPGW_GATEWAY_STORE_CHANNEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_ring.h>

#include "gateway/parcel.h"

/* Parcels in a ring. */
#define CHANNEL_RING 4096

/* Room for answers that records which are read back leave in the ring. */
#define CHANNEL_RESERVE 256

struct channel {
    /* The thread's own. Parcels of one segment each that wait for room in the ring, in order. */
    struct parcel *first __attribute__((aligned(64)));
    struct parcel **last;
    uint64_t told_up; /* the number of the STORE_UP that was given last; 0: STORE_DOWN, or none */
    uint64_t told_mark;
    bool told_resumed, told_over;
    /* Read by both; but for the word, not changed. */
    struct rte_ring *to_store __attribute__((aligned(64)));
    struct rte_ring *to_worker;
    atomic_bool asleep;
};

int channel_init(struct channel *channel);

/* Frees what is in it. `parcels` NULL: nothing can be. */
void channel_fini(struct channel *channel, struct rte_mempool *parcels);

/* The worker's side. channel_tell() sets `*sleeps` when the bell is to be rung. */
bool channel_tell(struct channel *channel, struct parcel *parcel, bool *sleeps);
struct parcel *channel_take(struct channel *channel);

/* The thread's side. Gives a parcel of one segment, at once or later: it is never refused. */
void channel_post(struct channel *channel, struct parcel *parcel);

/* Gives a parcel at once, or not: then it is the caller's still. For parcels of any length. */
bool channel_give(struct channel *channel, struct parcel *parcel);

/* Room for `n` parcels, and nothing is waiting. */
bool channel_has_room(const struct channel *channel, unsigned n);

/* Moves what is waiting into the ring. True when nothing is waiting any more. */
bool channel_flush(struct channel *channel);

#endif
