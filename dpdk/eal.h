/* Starts DPDK's environment from the configuration: memory, cores and devices.
 *
 * Called once, by the main thread, before anything else of DPDK; ended by the same thread. */
#ifndef COAPGW_DPDK_EAL_H
#define COAPGW_DPDK_EAL_H

#include "config/config.h"

/* The lcore of worker i is 1 + i; lcore 0 is the main thread, which is not pinned. */
#define EAL_WORKER_LCORE(i) ((i) + 1)

/* 0, or a negative errno; what is wrong has been said on stderr. Leaves no runtime directory:
 * neither its own nor that of an earlier process of the same instance. */
int eal_start(const struct config *config);

/* Ends what eal_start() started. */
void eal_stop(void);

/* The device name that DPDK knows an interface by ("net_tap_south", "0000:01:00.0"). Returns
 * `name`. */
#define EAL_DEVICE_NAME_BYTES 64
const char *eal_device_name(const struct config_interface *interface, unsigned index,
                            char name[EAL_DEVICE_NAME_BYTES]);

#endif
