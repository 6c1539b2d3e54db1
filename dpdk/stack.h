/* The network stack of one worker: everything between a device's queue and the worker's datagrams.
 *
 *   in:  stack_receive() takes mbufs from a queue or from another worker's ring, classifies them
 *        (Ethernet, VLAN, ARP, IPv4, IPv6, ICMP, fragments, UDP), answers what is the network's own
 *        business, hands packets of foreign flows to their owners, and gives the rest to the worker
 *        in bursts.
 *   out: stack_io() is the worker's emitter: it puts Ethernet, IP and UDP headers in front of a
 *        message and hands the packet to the next hop's device, or lets it wait while the next
 * hop's address is asked for.
 *
 * Each worker has a stack of its own: neighbour table, reassembly table and waiting packets are
 * private. What all workers must learn (a neighbour's address) goes to them as a copy of the packet
 * that said it. One thread drives a stack; the mbuf pool may be shared.
 *
 * Where a packet goes: a fragment to the worker that its (source, destination, identification,
 * protocol) hashes to, which reassembles, and from there like a whole packet; an ICMP error to the
 * owner of the flow that it quotes; UDP to steer_worker_of(). A packet is handed over at most
 * twice. Records of DTLS that carry a Connection ID of ours go to the worker that it names.
 *
 * Groups: each stack takes packets to those that the interface is in (groups.h); that of worker 0
 * announces them, and gets the queries that come to the others. */
#ifndef COAPGW_DPDK_STACK_H
#define COAPGW_DPDK_STACK_H

#include <stdint.h>
#include <rte_ether.h>
#include <rte_mbuf.h>

#include "config/config.h"
#include "dpdk/steer.h"
#include "gateway/worker.h"

/* What a stack knows of an interface; index as in config.interfaces. Filled by port.c at start. */
struct stack_interface {
    uint16_t port_id;
    struct rte_ether_addr mac;
    uint16_t vlan; /* 0: untagged */
    uint16_t mtu;
    bool tx_ip_cksum;  /* the device computes the IPv4 header checksum */
    bool tx_udp_cksum; /* and the UDP checksum */
    bool rx_cksum;     /* the device checks; flags of the mbuf tell (GOOD, BAD, UNKNOWN, NONE) */
    bool rx_hash; /* RSS is programmed as the steer has it: the hash of an mbuf can be trusted */
};

/* Why an mbuf is in a hand-over ring. Kept in the mbuf's private area, struct stack_mark. */
enum stack_reason {
    STACK_PACKET, /* a packet of a flow, a fragment, an ICMP error, or a query for groups, that the
                     taker owns */
    STACK_LEARN,  /* a copy of an ARP or ND packet: learn from it, do not answer it */
    STACK_TRANSMIT, /* ready to send: the taker owns the device's transmit queue */
};

/* The private area of every mbuf of the packet pool (rte_pktmbuf_pool_create's priv_size). */
struct stack_mark {
    uint16_t interface;
    uint8_t reason;        /* enum stack_reason */
    uint8_t handed;        /* how often it was handed over already */
    struct rte_mbuf *next; /* while it waits for its next hop's address */
};

struct stack_setup {
    const struct config *config;
    const struct stack_interface *interfaces; /* config->interface_count entries */
    struct steer *steer;
    unsigned index, count; /* of the worker */
    struct rte_mempool *pool;
    struct counters *counters; /* the worker's */

    /* Sends a packet that is complete, or queues it for sending at the end of the turn. Takes the
     * mbuf. */
    void (*transmit)(void *context, uint16_t interface, struct rte_mbuf *mbuf);
    /* Gives a packet to another worker; its mark is filled in. Takes the mbuf. */
    void (*hand_over)(void *context, unsigned worker, struct rte_mbuf *mbuf);
    /* worker_io.resolve(); NULL when there is no resolver. */
    bool (*resolve)(void *context, const char *name, size_t length, uint32_t id);
    /* worker_io.changed(); NULL when there is one worker. */
    void (*changed)(void *context, uint64_t uri);
    /* worker_io.tell(), .room() and .parcels; NULL when there is nobody else. */
    bool (*tell)(void *context, unsigned to, struct parcel *parcel);
    unsigned (*room)(void *context, unsigned to);
    struct rte_mempool *parcels;
    void *context;
};

struct stack;

/* NULL with errno set. */
struct stack *stack_create(const struct stack_setup *setup, uint64_t now);
void stack_destroy(struct stack *stack);

/* The emitter for worker_create(). */
struct worker_io stack_io(struct stack *stack);

/* The worker that gets the datagrams; before the first stack_receive(). */
void stack_attach(struct stack *stack, struct worker *worker);

/* Handles `n` packets that came in on `interface`, or that were handed over (their marks tell the
 * interface and the reason; STACK_TRANSMIT is the lcore's own business and never comes here). Takes
 * all mbufs. */
void stack_receive(struct stack *stack, uint16_t interface, struct rte_mbuf **mbufs, unsigned n,
                   uint64_t now);
void stack_take_over(struct stack *stack, struct rte_mbuf **mbufs, unsigned n, uint64_t now);

/* Neighbour requests that are due again, reports on groups, entries that expire, fragments whose
 * time is up. Cheap when nothing is due. */
void stack_advance(struct stack *stack, uint64_t now);
uint64_t stack_next_us(const struct stack *stack);

/* Tells the neighbours that our addresses are here: another machine may have had them until now,
 * and switches and neighbours would go on to send there (RFC 5227 2.3, RFC 4861 7.2.6). Goes out
 * with the next stack_advance(), and twice again a second apart. To be called for one stack. */
void stack_announce(struct stack *stack);

/* The gateway is stopping: the routers are told, by the stack of worker 0, that its groups are
 * left. Packets to them are still taken. */
void stack_leave(struct stack *stack);

#endif
