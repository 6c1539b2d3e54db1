/* The whole machinery: DPDK, devices, lcores. Put together and taken apart by the main thread. */
#ifndef COAPGW_DPDK_PLANT_H
#define COAPGW_DPDK_PLANT_H

#include <stdio.h>

#include "dpdk/lcore.h"

struct plant {
    const struct config *config;
    struct lcore_shared shared;
    struct lcore *lcores[CONFIG_WORKERS_MAX];
    unsigned launched; /* lcores in their loops */
};

/* The threads of the control side that the workers work with, and what they need from them. */
struct plant_links {
    struct lcore_resolver resolver;
    struct lcore_office store, control;
    struct modules *modules;              /* see worker_setup */
    struct credentials *credentials;      /* the same; each worker gets a reference of its own */
    uint64_t mid_key, life, number_floor; /* the same */
    uint8_t secret[STEER_SECRET_BYTES];   /* the service's: who owns a flow follows from it */
    const struct journal *journal;        /* the same */
    uint64_t clock_us; /* the latest time that is known of before the start; 0: none */
};

/* Brings everything up; packets flow when it returns. `links` is copied. 0, or a negative errno
 * with everything down again; what is wrong has been said on stderr. */
int plant_start(struct plant *plant, const struct config *config, const struct plant_links *links);

/* The pool of the parcels that workers exchange with the control side; lives until plant_stop(). */
struct rte_mempool *plant_parcels(const struct plant *plant);

/* The worker that owns a client's flow. Any thread. */
unsigned plant_worker_of(const struct plant *plant, const struct flow *flow);

/* Ends the workers in order: new work is refused, and what is in flight gets up to a second. Prints
 * the counters. Everything is there still, so that the control side's threads can end. */
void plant_halt(struct plant *plant);

/* Takes all down; plant_halt() has been called. Nobody holds a parcel any more. */
void plant_stop(struct plant *plant);

/* What it says of itself; holds while the plant is up. */
struct vitals plant_vitals(const struct plant *plant);

/* Counters of each worker, their sum, and the devices' own. */
void plant_print(const struct plant *plant, FILE *out);

#endif
