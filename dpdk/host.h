/* The kernel's end of a TAP: link up and addresses, by rtnetlink. Main thread, at start. */
#ifndef COAPGW_DPDK_HOST_H
#define COAPGW_DPDK_HOST_H

#include "config/config.h"

/* Sets a tap: interface's link up and gives it host_addresses, those of IPv6 without duplicate
 * address detection, so that they work at once. Does nothing for other devices. 0, or a negative
 * errno; what is wrong has been said on stderr. */
int host_setup(const struct config_interface *interface);

#endif
