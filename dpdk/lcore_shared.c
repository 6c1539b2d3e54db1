/* What the lcores share: the clock, and the rings between them. */
#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include <rte_cycles.h>
#include <rte_errno.h>

#include "dpdk/lcore_parts.h"

/* Packets that wait in a ring between two workers. */
#define RING_PACKETS 4096

/* Changed resources that a worker has been told of and has not looked at yet. */
#define RING_NEWS 4096

/* Parcels between two workers. */
#define RING_MAIL 1024

/* ---- time ---- */

uint64_t lcore_now_us(const struct lcore_shared *shared)
{
    return lcore_time_at(shared, rte_rdtsc());
}

uint64_t lcore_start_us(uint64_t clock_us)
{
    struct timespec now;
    uint64_t wall_us;

    clock_gettime(CLOCK_REALTIME, &now);
    wall_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    return wall_us > clock_us ? wall_us : clock_us + 1; /* it has been set back meanwhile */
}

/* ---- shared ---- */

static struct rte_ring *make_ring(const char *kind, unsigned from, unsigned to, unsigned count)
{
    char name[RTE_RING_NAMESIZE];

    snprintf(name, sizeof(name), "%s-%u-%u", kind, from, to);
    return rte_ring_create(name, count, (int)rte_socket_id(), RING_F_SP_ENQ | RING_F_SC_DEQ);
}

int lcore_shared_init(struct lcore_shared *shared)
{
    unsigned n = shared->config->workers;

    shared->origin_us = lcore_start_us(shared->clock_us);
    shared->origin_tsc = rte_rdtsc();
    if (getrandom(&shared->shared_key, sizeof(shared->shared_key), 0) !=
        (ssize_t)sizeof(shared->shared_key))
        return -EIO;
    shared->us_per_tsc = (uint64_t)(((unsigned __int128)1000000 << TSC_SHIFT) / rte_get_tsc_hz());
    for (unsigned from = 0; from < n; from++)
        for (unsigned to = 0; to < n; to++) {
            if (from == to)
                continue;
            shared->rings[from][to] = make_ring("hand", from, to, RING_PACKETS);
            shared->news[from][to] = make_ring("news", from, to, RING_NEWS);
            shared->mail[from][to] = make_ring("mail", from, to, RING_MAIL);
            if (!shared->rings[from][to] || !shared->news[from][to] || !shared->mail[from][to]) {
                int err = rte_errno ? rte_errno : ENOMEM;

                lcore_shared_fini(shared);
                return -err;
            }
        }
    return 0;
}

void lcore_shared_fini(struct lcore_shared *shared)
{
    for (unsigned from = 0; from < CONFIG_WORKERS_MAX; from++)
        for (unsigned to = 0; to < CONFIG_WORKERS_MAX; to++) {
            struct rte_ring *ring = shared->rings[from][to];
            void *packet, *parcel;

            while (ring && rte_ring_dequeue(ring, &packet) == 0)
                rte_pktmbuf_free(packet);
            rte_ring_free(ring);
            rte_ring_free(shared->news[from][to]);
            ring = shared->mail[from][to];
            while (ring && rte_ring_dequeue(ring, &parcel) == 0)
                parcel_free(shared->parcels, parcel);
            rte_ring_free(ring);
            shared->rings[from][to] = shared->news[from][to] = shared->mail[from][to] = NULL;
        }
}
