/* Announcing the groups that the gateway is in: the host's part of IGMPv3 (RFC 3376) and MLDv2 (RFC
 * 3810), and of their older versions where a querier speaks one.
 *
 * For each interface and family: reports of our own at start, twice, at most a second apart;
 * answers to queries, at a random time within what the query allows; where the querier is an old
 * one its kind of report, not said when another host has said it; and that we leave, at an orderly
 * stop.
 *
 * We filter no sources, so a query for certain sources is answered like one for the group: all are
 * wanted. An answer that is given is not repeated within a tenth of a second, whatever is asked.
 *
 * One worker owns it; the others hand their queries to that one. */
#ifndef COAPGW_DPDK_MEMBERSHIP_H
#define COAPGW_DPDK_MEMBERSHIP_H

#include <rte_mbuf.h>

#include "dpdk/groups.h"
#include "dpdk/membership_message.h"
#include "gateway/counters.h"
#include "gateway/random.h"

struct membership;

struct membership_setup {
    const struct config *config;
    const struct stack_interface *interfaces;
    const struct groups *groups;      /* by interface */
    const struct address *link_local; /* by interface: what MLD is sent from */
    struct rte_mempool *pool;
    struct counters *counters;
    uint8_t seed[RANDOM_SEED_BYTES];
    void *context;
    /* Sends a complete frame. Takes it. */
    void (*transmit)(void *context, uint16_t interface, struct rte_mbuf *mbuf);
};

/* What it points to must live as long. NULL when memory is short. */
struct membership *membership_create(const struct membership_setup *setup, uint64_t now);
void membership_destroy(struct membership *membership);

/* A query or report that membership_read() found good, on an interface. True when it says something
 * to us. `v4`: IGMP. */
bool membership_hear(struct membership *membership, uint16_t interface, bool v4,
                     const struct membership_message *message, uint64_t now);

/* From now on no query is answered; says once or twice, while it is driven on, that all groups are
 * left. */
void membership_leave(struct membership *membership, uint64_t now);

/* Sends what is due. Cheap when nothing is. */
void membership_advance(struct membership *membership, uint64_t now);
uint64_t membership_next_us(const struct membership *membership);

#endif
