#include "gateway/store/channel.h"

#include <errno.h>
#include <stdlib.h>

#include <rte_common.h>

/* Plain memory, not the EAL's: the store is made before it. */
static struct rte_ring *make_ring(const char *name)
{
    ssize_t bytes = rte_ring_get_memsize(CHANNEL_RING);
    struct rte_ring *ring = NULL;

    if (bytes > 0)
        ring = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN((size_t)bytes, RTE_CACHE_LINE_SIZE));
    if (ring && rte_ring_init(ring, name, CHANNEL_RING, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
        free(ring);
        ring = NULL;
    }
    return ring;
}

int channel_init(struct channel *channel)
{
    channel->first = NULL;
    channel->last = &channel->first;
    channel->to_store = make_ring("to-store");
    channel->to_worker = make_ring("from-store");
    return channel->to_store && channel->to_worker ? 0 : -ENOMEM;
}

static void drain(struct rte_ring *ring, struct rte_mempool *parcels)
{
    void *parcel;

    while (ring && parcels && rte_ring_sc_dequeue(ring, &parcel) == 0)
        parcel_free(parcels, parcel);
    free(ring);
}

void channel_fini(struct channel *channel, struct rte_mempool *parcels)
{
    if (parcels)
        parcel_free(parcels, channel->first);
    drain(channel->to_store, parcels);
    drain(channel->to_worker, parcels);
}

/* ---- the worker's side ---- */

/* The exchange is more than a store and a load: it makes the parcel visible before the word is
 * read, as the thread's exchange makes the word visible before it looks at the ring. */
bool channel_tell(struct channel *channel, struct parcel *parcel, bool *sleeps)
{
    if (rte_ring_sp_enqueue(channel->to_store, parcel) != 0)
        return false;
    *sleeps = atomic_exchange(&channel->asleep, false);
    return true;
}

struct parcel *channel_take(struct channel *channel)
{
    void *parcel;

    return rte_ring_sc_dequeue(channel->to_worker, &parcel) == 0 ? parcel : NULL;
}

/* ---- the thread's side ---- */

bool channel_flush(struct channel *channel)
{
    while (channel->first) {
        struct parcel *parcel = channel->first, *next = parcel->next;

        parcel->next = NULL;
        if (rte_ring_sp_enqueue(channel->to_worker, parcel) != 0) {
            parcel->next = next;
            return false;
        }
        channel->first = next;
    }
    channel->last = &channel->first;
    return true;
}

void channel_post(struct channel *channel, struct parcel *parcel)
{
    parcel->next = NULL;
    *channel->last = parcel;
    channel->last = &parcel->next;
    (void)channel_flush(channel);
}

bool channel_give(struct channel *channel, struct parcel *parcel)
{
    return channel_flush(channel) && rte_ring_sp_enqueue(channel->to_worker, parcel) == 0;
}

bool channel_has_room(const struct channel *channel, unsigned n)
{
    return !channel->first && rte_ring_free_count(channel->to_worker) >= n;
}
