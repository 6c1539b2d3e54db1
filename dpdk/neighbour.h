/* Next hops: the MAC addresses of neighbours on the link (ARP, RFC 826; neighbour discovery, RFC
 * 4861), and the packets that wait for one.
 *
 * An entry is asked for when a packet needs it, at most three times a second apart. Meanwhile
 * packets wait: a few for each entry, and a bounded number in all; and a number of which one alone
 * may have all, the oldest making room. A known
 * neighbour is asked again, by unicast, when its address was confirmed a minute ago and is in use.
 * Asking without an answer leaves a negative entry for a while, which drops what comes.
 *
 * The table is bounded; the entry that was not used for longest among a few makes room. One worker
 * owns a table, with the waiting packets in it; no locking. */
#ifndef COAPGW_DPDK_NEIGHBOUR_H
#define COAPGW_DPDK_NEIGHBOUR_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "gateway/counters.h"
#include "gateway/net.h"

#define NEIGHBOUR_ENTRIES       8192
#define NEIGHBOUR_WAITING       16   /* packets for one neighbour */
#define NEIGHBOUR_WAITING_TOTAL 1024 /* packets in all */
/* On top of that, for those who need more: all that a start sends to its origin or router. Junk for
 * many addresses cannot take it from them, nor they the room of the others. 5 MB of buffers. */
#define NEIGHBOUR_BEYOND 2048

struct neighbours;

struct neighbours_setup {
    struct counters *counters;
    void *context;
    /* Sends a complete frame. Takes it. */
    void (*transmit)(void *context, uint16_t interface, struct rte_mbuf *mbuf);
    /* Sends a request for the address: to its known MAC address, or to the group when NULL. */
    void (*ask)(void *context, uint16_t interface, const struct address *address,
                const struct rte_ether_addr *known);
};

/* NULL when memory is short. */
struct neighbours *neighbours_create(const struct neighbours_setup *setup);
void neighbours_destroy(struct neighbours *n);

/* Sends a frame, complete but for its destination MAC address, to a neighbour; or lets it wait; or
 * drops it, counted. Takes it. */
void neighbour_send(struct neighbours *n, uint16_t interface, const struct address *address,
                    struct rte_mbuf *mbuf, uint64_t now);

/* A neighbour has said its address. `create`: also when nothing is known of it yet. True when this
 * is news that other workers want: new, changed, or confirmed for the first time in a second. */
bool neighbour_learn(struct neighbours *n, uint16_t interface, const struct address *address,
                     const struct rte_ether_addr *mac, bool create, uint64_t now);

/* Asks again, gives up. Cheap when nothing is due. */
void neighbours_advance(struct neighbours *n, uint64_t now);
uint64_t neighbours_next_us(const struct neighbours *n);

#endif
