/* Gives up the capabilities that only the start needs.
 *
 * Main thread, once all ports are up and before a packet is looked at. */
#ifndef COAPGW_DPDK_PRIVILEGE_H
#define COAPGW_DPDK_PRIVILEGE_H

#include "config/config.h"

/* Leaves all threads of the process, those of DPDK too, with what the devices need for their end,
 * and without a way to more: no program that is executed gets any back. Reads back that it is so.
 * 0, or a negative errno after a line on stderr: then some are left, and nothing else is wrong. */
int privilege_drop(const struct config *config);

#endif
