/* Ethernet frames: reading those that come in, and writing those that go out. IPv4 and IPv6,
 * 802.1Q, UDP, ICMP, IGMP; checksums by the device or in software.
 *
 * Pure functions on one packet in one segment; no state; any thread. */
#ifndef COAPGW_DPDK_FRAME_H
#define COAPGW_DPDK_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#include "dpdk/stack.h"
#include "gateway/net.h"

/* What a frame is. From FRAME_DROPS on: why it goes no further. */
enum frame_verdict {
    FRAME_UDP,
    FRAME_FRAGMENT, /* a part of an IP packet */
    FRAME_ICMP4,
    FRAME_ICMP6,
    FRAME_IGMP,
    FRAME_ARP,
    FRAME_DROPS,
    FRAME_RUNT = FRAME_DROPS,
    FRAME_MAC,
    FRAME_VLAN,
    FRAME_ETHERTYPE,
    FRAME_IP_HEADER,
    FRAME_IP_CHECKSUM,
    FRAME_SOURCE, /* an address that nobody can send from */
    FRAME_PROTOCOL,
    FRAME_UDP_HEADER,
    FRAME_UDP_CHECKSUM,
    FRAME_VERDICTS
};

/* A frame that was read: points into the packet. Also filled for fragments (without ports). */
struct frame {
    struct address source, destination;
    uint16_t source_port, destination_port;
    uint16_t l2_bytes; /* Ethernet and VLAN header */
    uint16_t l3_bytes; /* IP header with options or extension headers */
    uint8_t hop_limit; /* TTL of IPv4 */
    uint8_t protocol;  /* of the payload */
    bool link_group;   /* it was sent to a group of MAC addresses, or to all */
    bool group;        /* its IP destination is a group */
    bool router_alert; /* it has that option (RFC 2113, RFC 2711) */
    uint32_t id;       /* of the fragments of one packet */
    uint8_t *payload;  /* of UDP, of ICMP or IGMP with its header, or of ARP */
    uint16_t payload_bytes;
};

/* Reads a packet that came in on an interface. `trusted`: its IP header was checked before (it was
 * put together from fragments). */
enum frame_verdict frame_read(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                              bool trusted, struct frame *frame);

/* What the headers of all datagrams from one local address have in common. They stand at the end of
 * `bytes`, in front of where that of UDP begins, so that they are copied as a block of one length;
 * what comes before is copied into the headroom, too. */
#define FRAME_HEADER_MAX     66 /* Ethernet, VLAN, IPv6, UDP */
#define FRAME_TEMPLATE_BYTES 64
struct frame_template {
    uint8_t bytes[FRAME_TEMPLATE_BYTES] __attribute__((aligned(8)));
    uint8_t l2_bytes;
    uint8_t l3_bytes;
    uint8_t header_bytes; /* of all headers, UDP's as well */
    bool v4;
    bool ip_cksum, udp_cksum; /* the device computes them */
    /* Sums of what never changes, for the checksums in software: of the IPv4 header, and of the
     * pseudo header. */
    uint64_t ip_sum, udp_sum;
};
_Static_assert(RTE_PKTMBUF_HEADROOM >= FRAME_TEMPLATE_BYTES + 8, "the block fits the headroom");

void frame_template_init(struct frame_template *t, const struct stack_interface *interface,
                         const struct address *local);

/* Puts the headers in front of a UDP payload of `payload` bytes, which stands behind the headroom
 * of a fresh mbuf; `sum` is its checksum_bytes(), or NULL. The destination MAC address is left for
 * the neighbour module. `id` is for IPv4. */
void frame_write_udp(struct rte_mbuf *mbuf, const struct frame_template *t, uint16_t payload,
                     const uint64_t *sum, const struct address *peer, uint16_t local_port,
                     uint16_t peer_port, uint16_t id);

/* Starts a frame of our own: Ethernet header with tag. Returns where the payload goes, with room
 * for `payload_bytes`, or NULL. */
uint8_t *frame_begin(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                     uint16_t ethertype, uint16_t payload_bytes);

/* Writes an IPv6 header. `payload`: the bytes behind it; `protocol`: what they begin with. */
void frame_write_ip6(uint8_t *at, const struct address *source, const struct address *destination,
                     uint16_t payload, uint8_t protocol, uint8_t hop_limit);

/* The MAC address of a group (RFC 1112 6.4, RFC 2464 7), and an address in a frame of our own. */
struct rte_ether_addr frame_group_mac(const struct address *group);
void frame_set_destination(struct rte_mbuf *mbuf, const struct rte_ether_addr *mac);

/* The IP checksum of RFC 1071 over `bytes` at `data` with an IPv6 pseudo header for ICMPv6. The
 * field must be zero; result in network order. */
uint16_t frame_icmp6_checksum(const struct address *source, const struct address *destination,
                              const uint8_t *data, uint16_t bytes);

/* The solicited-node group of an address (RFC 4291 2.7.1). */
struct address frame_solicited_node(const struct address *address);

/* The link-local address of a MAC address (RFC 4291 appendix A). */
struct address frame_link_local(const struct rte_ether_addr *mac);

#endif
