/* ARP, ICMP and ICMPv6: what is read from them and written, as bytes (RFC 826, 792, 4443, 4861).
 *
 * Pure functions on packets; no state; any thread. */
#ifndef COAPGW_DPDK_ICMP_H
#define COAPGW_DPDK_ICMP_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "dpdk/frame.h"

/* ---- ARP ---- */

struct arp {
    bool request; /* otherwise a reply */
    struct address sender, target;
    struct rte_ether_addr sender_mac;
};

/* False for anything but a well-formed request or reply for IPv4 over Ethernet. */
bool arp_read(const struct frame *frame, struct arp *arp);

/* Turns a request into our reply, in place. */
void arp_answer(struct rte_mbuf *mbuf, const struct frame *frame, const struct rte_ether_addr *mac);

/* Writes a request into an empty packet: to one neighbour, or to all when `known` is NULL. False
 * when it does not fit. */
bool arp_ask(struct rte_mbuf *mbuf, const struct stack_interface *interface,
             const struct address *sender, const struct address *target,
             const struct rte_ether_addr *known);

/* ---- neighbour discovery ---- */

struct discovery_message {
    bool solicitation;    /* otherwise an advertisement */
    bool duplicate_check; /* a solicitation from the unspecified address (RFC 4862 5.4) */
    struct address target;
    bool has_mac; /* the source (solicitation) or target (advertisement) link-layer address */
    struct rte_ether_addr mac;
};

/* False for anything but a valid solicitation or advertisement (RFC 4861 7.1). */
bool discovery_read(const struct frame *frame, struct discovery_message *message);

/* Turns a solicitation into our advertisement, in place. */
void discovery_answer(struct rte_mbuf *mbuf, const struct frame *frame,
                      const struct discovery_message *message, const struct rte_ether_addr *mac);

/* Writes a solicitation into an empty packet. */
bool discovery_ask(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                   const struct address *sender, const struct address *target,
                   const struct rte_ether_addr *known);

/* Writes an advertisement to all nodes that nobody has asked for (RFC 4861 7.2.6): `address` is
 * here. */
bool discovery_announce(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                        const struct address *address);

/* ---- echo and errors ---- */

/* True for a valid echo request. */
bool icmp_is_echo(const struct frame *frame);

/* Turns an echo request into its reply, in place. */
void icmp_answer_echo(struct rte_mbuf *mbuf, const struct frame *frame, const struct address *local,
                      const struct rte_ether_addr *mac);

/* What an ICMP error quotes of a UDP packet of ours. */
struct icmp_error {
    struct address local, peer; /* source and destination of the quoted packet */
    uint16_t local_port, peer_port;
    const uint8_t *quoted; /* of our UDP payload */
    uint16_t quoted_bytes; /* may be 0 */
};

/* True for a valid error that says that a UDP packet of ours did not arrive: unreachable but for
 * "fragmentation needed", and time exceeded in transit (RFC 1122 3.2.2, RFC 4443 3). */
bool icmp_read_error(const struct frame *frame, struct icmp_error *error);

#endif
