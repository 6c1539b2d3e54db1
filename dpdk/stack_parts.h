/* The parts of a stack: what stack.c, stack_out.c and stack_control.c share, and nobody else. One
 * thread drives a stack with all of its parts; no locking. */
#ifndef COAPGW_DPDK_STACK_PARTS_H
#define COAPGW_DPDK_STACK_PARTS_H

#include "dpdk/fragment.h"
#include "dpdk/frame.h"
#include "dpdk/groups.h"
#include "dpdk/membership.h"
#include "dpdk/neighbour.h"
#include "dpdk/stack.h"

#define NO_LOCAL UINT16_MAX

#define SPARE_MAX WORKER_BURST

/* The worker that announces groups for all. */
#define MEMBERSHIP_WORKER 0

/* What may be done only so often: a token for each time. */
struct bucket {
    uint64_t refilled_us;
    uint32_t tokens;
};

/* The subnet of a local address, for a quick look at IPv4 peers. */
struct subnet4 {
    uint32_t net, mask; /* network order; mask 0 and net 1: no IPv4 */
};

/* What sending from a local address takes. */
struct departure {
    struct frame_template template;
    struct subnet4 subnet;
    uint16_t interface;
    uint16_t room; /* for a UDP payload */
} __attribute__((aligned(64)));

struct stack {
    struct stack_setup setup;
    struct worker *worker;
    struct departure *departures;  /* by local address */
    struct address *link_local;    /* by interface */
    struct groups *groups;         /* by interface */
    struct membership *membership; /* of MEMBERSHIP_WORKER; NULL for the others */
    struct neighbours *neighbours;
    struct fragments *fragments;
    bool *coaps;            /* by local port: a listener there has DTLS; NULL: none has, or there is
                               one worker */
    uint64_t fragment_seed; /* the same for all workers */
    uint64_t now;
    uint64_t announce_us;  /* when our addresses are announced next; UINT64_MAX: never */
    unsigned announced;    /* how often they have been */
    struct bucket echoes;  /* replies to pings */
    struct bucket spreads; /* ARP and discovery packets that other workers were told of */
    uint16_t ip_id;

    /* Datagrams that have been collected for the worker, and the packets that they are in. */
    struct datagram burst[WORKER_BURST];
    struct rte_mbuf *held[WORKER_BURST];
    unsigned held_count;

    /* Packets that have been handled: the next ones that are sent are built in them, which spares
     * the pool the giving back and the taking. */
    struct rte_mbuf *spare[SPARE_MAX];
    unsigned spare_count;
};

static inline const struct stack_interface *stack_interface_of(const struct stack *s,
                                                               uint16_t index)
{
    return &s->setup.interfaces[index];
}

static inline struct stack_mark *stack_mark_of(struct rte_mbuf *mbuf)
{
    return rte_mbuf_to_priv(mbuf);
}

static inline void stack_drop(struct rte_mbuf *mbuf, uint64_t *counter)
{
    (*counter)++;
    rte_pktmbuf_free(mbuf);
}

/* ---- stack.c ---- */

/* The index of a local address of the interface, or NO_LOCAL. */
uint16_t stack_find_local(const struct stack *s, uint16_t interface, const struct address *a);

/* The first address of a family: what answers to a group come from. Or NO_LOCAL. */
uint16_t stack_first_local(const struct stack *s, uint16_t interface, bool v4);

/* Gives a packet to its owner. Takes it. */
void stack_hand_to(struct stack *s, uint16_t interface, unsigned owner, struct rte_mbuf *mbuf);

/* ---- stack_out.c ---- */

/* Departures and neighbours. 0 or -ENOMEM; what was made is freed by stack_out_fini(). */
int stack_out_init(struct stack *s);
void stack_out_fini(struct stack *s);

/* Takes packets that are done with, to be sent again as others. */
void stack_recycle(struct stack *s, struct rte_mbuf **mbufs, unsigned n);

/* Sends a complete frame. Takes it. */
void stack_send(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf);

/* ---- stack_control.c ---- */

/* ARP, ICMP, ICMPv6, IGMP from a device. Take the packet. */
void stack_receive_arp(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                       const struct frame *f);
void stack_receive_icmp(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                        const struct frame *f);

void stack_receive_membership(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                              const struct frame *f);

/* Says that our addresses are here, when that is due. */
void stack_announce_due(struct stack *s);

/* A copy of what another worker has received and answered. Takes it. */
void stack_learn_from(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf);

#endif
