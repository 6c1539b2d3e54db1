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

/* Brings everything up; packets flow when it returns. `resolver` is copied. 0, or a negative errno
 * with everything down again; what is wrong has been said on stderr. */
int plant_start(struct plant *plant, const struct config *config,
                const struct lcore_resolver *resolver);

/* Ends in order: new work is refused, what is in flight gets up to a second, then all goes down.
 * Prints the counters. */
void plant_stop(struct plant *plant);

/* Counters of each worker, their sum, and the devices' own. */
void plant_print(const struct plant *plant, FILE *out);

#endif
