/* The DPDK device: one port, and the frames on it. */
#ifndef COAPGW_BENCH_GUN_DEVICE_H
#define COAPGW_BENCH_GUN_DEVICE_H

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "bench/gun/carrier.h"

#define DEVICE_PORTS      60000 /* endpoints of one source address: ports from the first one on */
#define DEVICE_PORT_FIRST 1024
#define SPARE_BUFFERS     128
#define HEADERS4          42 /* Ethernet, IP, UDP */
#define HEADERS6          62

struct device {
    struct carrier carrier;
    const struct gun_options *o;
    uint16_t port;
    uint16_t queues, sent_to, received_from; /* the latest ones */
    bool v6, started;                        /* `started`: DPDK is */
    bool hop_known;
    struct rte_mempool *pool;
    struct rte_ether_addr mac, origin_mac, hop_mac;
    struct address hop;       /* whose MAC is asked for */
    uint32_t addresses;       /* of the devices */
    uint32_t source, target;  /* IPv4, host byte order */
    uint8_t header[64];       /* of a device's request: all but what differs by request */
    uint32_t ip_sum, udp_sum; /* of its fixed words, as they stand in memory */
    uint16_t held_count, spare_count;
    struct rte_mbuf *held[CARRIER_BURST];     /* received, until release() */
    struct rte_mbuf *spare[SPARE_BUFFERS];    /* to be sent next */
    uint8_t *spare_data[SPARE_BUFFERS];       /* where their packets begin */
    struct carrier_peer peers[CARRIER_BURST]; /* of the origin; by the same index */
};

/* ---- device_frame.c ---- */

/* Fills `header` in, once the next hop is known. */
void frame_make_header(struct device *d);

/* Writes the headers in front of a message. */
void frame_write(const struct device *d, struct outgoing *out);

/* True when it is a UDP datagram for one of ours. */
bool frame_read(struct device *d, struct rte_mbuf *mbuf, struct incoming *in);

/* Whether an address is one of the devices' or the origin's. */
bool frame_is_ours(const struct device *d, const struct address *a);

/* ---- device_neighbour.c ---- */

/* Answers ARP and neighbour discovery for our addresses, and learns the next hop's MAC. True when
 * the packet was turned into an answer; it is then to be sent. */
bool neighbour_receive(struct device *d, struct rte_mbuf *mbuf);

/* A question for the next hop's MAC; NULL when there is no buffer. */
struct rte_mbuf *neighbour_ask(struct device *d);

#endif
