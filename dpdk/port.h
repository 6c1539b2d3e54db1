/* One device: queues, RSS, offloads, MAC and MTU. Asks what the device can do, takes what it has,
 * says what it does instead.
 *
 * Set up and torn down by the main thread. Afterwards a queue belongs to the worker that polls it.
 */
#ifndef COAPGW_DPDK_PORT_H
#define COAPGW_DPDK_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_mempool.h>

#include "config/config.h"
#include "dpdk/stack.h"
#include "dpdk/steer.h"
#include "gateway/vitals.h"

/* Buffers that one core keeps for itself. */
#define PORT_BUFFER_CACHE 256

struct port {
    const struct config_interface *interface;
    uint16_t id;        /* DPDK's */
    uint16_t rx_queues; /* queue q is polled by worker q */
    uint16_t tx_queues; /* queue q is used by worker q; workers beyond hand over to q % tx_queues */
    bool rss;           /* the device sends each flow to the queue of its owner */
    bool opened;        /* the device exists and `id` is its number */
    bool started;
    bool promiscuous; /* we made it so */
    int membership;   /* a socket that makes a kernel's interface show more frames, or -1 */
};

/* Packet buffers for all ports and workers: a number that rte_mempool likes. */
unsigned port_buffers_wanted(const struct config *config);

/* Sets the device up and starts it; fills in what the stacks need. 0, or a negative errno; what is
 * wrong has been said on stderr. */
int port_start(struct port *port, const struct config *config, unsigned index, struct steer *steer,
               struct rte_mempool *pool, struct stack_interface *out);
void port_stop(struct port *port);

/* The device's own statistics. False when it has none. */
bool port_figures(const struct port *port, struct port_figures *figures);

/* The same as one line. */
void port_print(const struct port *port, FILE *out);

#endif
