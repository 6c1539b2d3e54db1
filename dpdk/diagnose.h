/* What the kernel knows of a device, and why one cannot be had: DPDK's drivers say little; the
 * kernel, asked the same again, says more.
 *
 * Main thread, at start. */
#ifndef COAPGW_DPDK_DIAGNOSE_H
#define COAPGW_DPDK_DIAGNOSE_H

#include <stdbool.h>

#include "config/config.h"

#define DIAGNOSE_BYTES 160

/* What is wrong with the interface's device, and what to do about it. Returns `text`. */
const char *diagnose_device(const struct config_interface *interface, char text[DIAGNOSE_BYTES]);

/* The MTU of the kernel's interface that a device is named after, or 0. */
unsigned diagnose_mtu(const struct config_interface *interface);

/* True when the device is an interface of the kernel (af_packet:, af_xdp:) that is down. */
bool diagnose_is_down(const struct config_interface *interface);

#endif
