/* The parts of a lcore: what lcore.c, the loop, shares with lcore_shared.c, lcore_mail.c and
 * lcore_report.c, and with nobody else. What a packet passes is all in lcore.c, so that the
 * compiler sees it whole. */
#ifndef COAPGW_DPDK_LCORE_PARTS_H
#define COAPGW_DPDK_LCORE_PARTS_H

#include "dpdk/lcore.h"

#define TSC_SHIFT 32 /* of lcore_shared.us_per_tsc */

/* Outgoing packets of one port that have been collected in this turn. */
struct outbox {
    uint16_t count;
    struct rte_mbuf *packets[WORKER_BURST];
};

/* Packets for another worker that have been collected in this turn. */
struct handbox {
    uint16_t count;
    struct rte_mbuf *packets[WORKER_BURST];
};

struct lcore {
    struct lcore_shared *shared;
    unsigned index, workers, ports;
    struct stack *stack;
    struct worker *worker;
    struct outbox *outboxes;   /* by port */
    struct handbox *handboxes; /* by worker */
    uint64_t now;
    unsigned idle_turns;
    bool drained;
    atomic_bool quiet;
    struct lcore_load load;
    struct counters device; /* of the stack and of this loop; the worker has its own */
} __attribute__((aligned(64)));

static inline uint64_t lcore_tsc_to_us(const struct lcore_shared *shared, uint64_t tsc)
{
    return (uint64_t)(((unsigned __int128)tsc * shared->us_per_tsc) >> TSC_SHIFT);
}

static inline uint64_t lcore_time_at(const struct lcore_shared *shared, uint64_t tsc)
{
    return shared->origin_us + lcore_tsc_to_us(shared, tsc - shared->origin_tsc);
}

/* ---- lcore.c ---- */

/* Only a worker that has been idle for long sleeps: under load this reads one line and does
 * nothing. */
void lcore_wake(struct lcore_shared *shared, unsigned worker);

/* ---- lcore_mail.c: as stack_setup has them; the lcore's own thread ---- */

bool lcore_resolve(void *context, const char *name, size_t length, uint32_t id);
/* A resource was changed through this worker: rare beside packets, so each is passed on at once. */
void lcore_changed(void *context, uint64_t uri);
bool lcore_tell(void *context, unsigned to, struct parcel *parcel);
unsigned lcore_room(void *context, unsigned to);

/* What has come is handed to the worker; how much it was. */
unsigned lcore_poll_news(struct lcore *l);
unsigned lcore_poll_mail(struct lcore *l);
unsigned lcore_poll_resolver(struct lcore *l);

#endif
