/* The worker cores: what each polls, how packets cross between them, and when they sleep.
 *
 * All lcores are made and destroyed by the main thread. While they run, each is driven by its own
 * thread; the main thread only reads counters and sets the flags below. */
#ifndef COAPGW_DPDK_LCORE_H
#define COAPGW_DPDK_LCORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_mempool.h>
#include <rte_ring.h>

#include "config/config.h"
#include "dpdk/port.h"
#include "dpdk/stack.h"
#include "dpdk/steer.h"
#include "gateway/vitals.h"
#include "gateway/worker.h"

struct credentials;
struct journal;
struct modules;
struct resolver;
struct rte_mempool;

/* Who resolves host names for the workers. Each worker asks, and takes its answers, from its own
 * thread; neither call waits. */
struct lcore_resolver {
    struct resolver *resolver;
    /* As worker_io.resolve(). NULL: there is no resolver. */
    bool (*ask)(struct resolver *resolver, unsigned worker, const char *name, size_t length,
                uint32_t id);
    /* The next answer; false when there is none, which is known at once. */
    bool (*take)(struct resolver *resolver, unsigned worker, struct resolved *answer);
};

/* A thread of the control side that workers exchange parcels with: the store, the administration.
 * Neither call waits; both are the worker's. NULL: there is none. */
struct lcore_office {
    void *context;
    /* As worker_io.tell(). */
    bool (*tell)(void *context, unsigned worker, struct parcel *parcel);
    /* The next one for a worker; NULL when there is none, which is known at once. */
    struct parcel *(*take)(void *context, unsigned worker);
};

/* What all lcores share, read-only while they run. */
struct lcore_shared {
    const struct config *config;
    struct lcore_resolver resolver;
    struct lcore_office store, control;
    struct rte_mempool *parcels;
    struct modules *modules;              /* see worker_setup */
    struct credentials *credentials;      /* the same; each worker gets a reference of its own */
    uint64_t mid_key, life, number_floor; /* see worker_setup */
    const struct journal *journal;        /* the same */
    uint64_t clock_us;  /* time has been so late before the start: it goes on behind that */
    struct port *ports; /* by interface */
    struct stack_interface *interfaces;
    struct steer *steer;
    struct rte_mempool *pool;
    struct rte_ring *rings[CONFIG_WORKERS_MAX][CONFIG_WORKERS_MAX]; /* [from][to]: packets */
    struct rte_ring *news[CONFIG_WORKERS_MAX][CONFIG_WORKERS_MAX];  /* [from][to]: changed URIs */
    atomic_bool news_lost[CONFIG_WORKERS_MAX]; /* a ring to this worker was full */
    struct rte_ring *mail[CONFIG_WORKERS_MAX][CONFIG_WORKERS_MAX]; /* [from][to]: parcels */
    uint64_t shared_key;
    struct {
        _Atomic uint32_t word; /* a futex: 1 while the worker sleeps */
    } __attribute__((aligned(64))) asleep[CONFIG_WORKERS_MAX];
    /* Time goes on from the wall clock at start, by the TSC: Observe numbers and message IDs, which
     * follow it, go on after a restart (RFC 7641 4.4, RFC 7252 4.4). */
    uint64_t origin_us, origin_tsc;
    uint64_t us_per_tsc; /* microseconds in a cycle, times 2^TSC_SHIFT */
    atomic_bool drain;   /* take no new work */
    atomic_bool stop;    /* leave the loop */
    atomic_uint running; /* lcores in the loop */
};

/* How a lcore spends its time, in TSC cycles: since top always says 100 %. */
struct lcore_load {
    uint64_t turns, busy_turns;
    uint64_t busy_cycles; /* of turns that did something */
    uint64_t idle_cycles; /* of turns that did not, sleep included */
    uint64_t longest_us;  /* the longest turn that did something */
    uint64_t sleeps;
};

struct lcore;

/* The time at which workers begin that are made now: the wall clock's, or right behind `clock_us`,
 * the latest time that is known of before the start. */
uint64_t lcore_start_us(uint64_t clock_us);

/* Prepares what is shared: rings and the clock. 0 or a negative errno. */
int lcore_shared_init(struct lcore_shared *shared);
void lcore_shared_fini(struct lcore_shared *shared);

/* The time that everything uses, in microseconds. It never goes back while the process runs. */
uint64_t lcore_now_us(const struct lcore_shared *shared);

/* The lcore of worker `index` with its stack and worker. NULL with errno set. */
struct lcore *lcore_create(struct lcore_shared *shared, unsigned index);
void lcore_destroy(struct lcore *lcore);

/* Starts the loop on the lcore's own core; returns at once. 0 or a negative errno. */
int lcore_launch(struct lcore *lcore);

/* Waits for the loop to end (shared->stop). */
void lcore_join(struct lcore *lcore);

/* After shared->drain: true when nothing is in flight. As seen a moment ago. */
bool lcore_is_quiet(const struct lcore *lcore);

/* Adds what the lcore has counted to `sum`. */
void lcore_counters(const struct lcore *lcore, struct counters *sum);

/* How it spends its time, as seen a moment ago. Any thread. */
void lcore_load(const struct lcore *lcore, struct worker_load *load);

/* Counters, load and use of limits, each line with the worker's number in front. */
void lcore_print(const struct lcore *lcore, FILE *out);

#endif
