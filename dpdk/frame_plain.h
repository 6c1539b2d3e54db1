/* Reading the shape that nearly all packets have: to our own MAC address, without a tag, with an
 * IPv4 header without options, a whole UDP datagram to a single host, and everything right with it.
 *
 * It is here and not in frame.c so that it can become a part of the loop over a burst: what is read
 * stays in registers. Pure functions on one packet in one segment; any thread. */
#ifndef COAPGW_DPDK_FRAME_PLAIN_H
#define COAPGW_DPDK_FRAME_PLAIN_H

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "gateway/checksum.h"
#include "dpdk/frame.h"

/* Where things are. */
#define FRAME_PLAIN_L2  sizeof(struct rte_ether_hdr)
#define FRAME_PLAIN_L3  sizeof(struct rte_ipv4_hdr)
#define FRAME_PLAIN_UDP (FRAME_PLAIN_L2 + FRAME_PLAIN_L3)
#define FRAME_PLAIN_ALL (FRAME_PLAIN_UDP + sizeof(struct rte_udp_hdr))

/* What nobody can send from: "this network", loopback, groups and broadcast (RFC 1122 3.2.1.3). A
 * switch without an address asks for groups from 0.0.0.0 (RFC 4541 2.1.1). */
static inline bool frame_source_is_valid4(const uint8_t source[4], uint8_t protocol)
{
    static const uint8_t unspecified[4];

    if (protocol == IPPROTO_IGMP && memcmp(source, unspecified, 4) == 0)
        return true;
    return source[0] != 0 && source[0] != 127 && source[0] < 224;
}

/* What both checksums of a plain packet come to, where the device has not said it. */
static inline bool frame_plain_sums(const struct rte_mbuf *mbuf, const struct rte_ipv4_hdr *ip,
                                    const struct rte_udp_hdr *udp, uint16_t bytes)
{
    uint64_t ip_checked = mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    uint64_t udp_checked = mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
    uint64_t ends = checksum_load64((const uint8_t *)&ip->src_addr), sum;

    if (ip_checked == RTE_MBUF_F_RX_IP_CKSUM_UNKNOWN) {
        sum = checksum_add(ends, checksum_load64((const uint8_t *)ip));
        sum = checksum_add(sum, checksum_load32((const uint8_t *)ip + 8));
        if (checksum_fold(sum) != 0xffff)
            return false;
    } else if (ip_checked == RTE_MBUF_F_RX_IP_CKSUM_BAD) {
        return false;
    }
    if (udp_checked != RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN)
        return udp_checked != RTE_MBUF_F_RX_L4_CKSUM_BAD;
    if (udp->dgram_cksum == 0)
        return true;
    sum = checksum_add(ends, (uint64_t)rte_cpu_to_be_16(IPPROTO_UDP) + udp->dgram_len);
    return checksum_fold(checksum_bytes(sum, udp, bytes)) == 0xffff;
}

/* False: frame_read() is to say what it is. Where it is true, that would say FRAME_UDP and the
 * same, but for `id`, which is not set. */
static inline bool frame_read_plain(const struct rte_mbuf *mbuf,
                                    const struct stack_interface *interface, struct frame *f)
{
    uint8_t *at = rte_pktmbuf_mtod(mbuf, uint8_t *);
    const struct rte_ether_hdr *ether = (const struct rte_ether_hdr *)at;
    const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(at + FRAME_PLAIN_L2);
    const struct rte_udp_hdr *udp = (const struct rte_udp_hdr *)(at + FRAME_PLAIN_UDP);
    const uint8_t *source = at + FRAME_PLAIN_L2 + 12, *destination = source + 4;
    uint32_t rest = rte_pktmbuf_data_len(mbuf);
    uint16_t total, bytes;

    if (rest < FRAME_PLAIN_ALL || !rte_is_same_ether_addr(&ether->dst_addr, &interface->mac) ||
        ether->ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) || interface->vlan ||
        (mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) || ip->version_ihl != RTE_IPV4_VHL_DEF ||
        (ip->fragment_offset & rte_cpu_to_be_16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) ||
        ip->next_proto_id != IPPROTO_UDP)
        return false;
    total = rte_be_to_cpu_16(ip->total_length);
    bytes = rte_be_to_cpu_16(udp->dgram_len);
    if (total > rest - FRAME_PLAIN_L2 || bytes < sizeof(*udp) || bytes + FRAME_PLAIN_L3 > total ||
        udp->src_port == 0 || !frame_source_is_valid4(source, IPPROTO_UDP) ||
        (destination[0] & 0xf0) == 0xe0 || !frame_plain_sums(mbuf, ip, udp, bytes))
        return false;
    f->source = address_from_v4(source);
    f->destination = address_from_v4(destination);
    f->source_port = rte_be_to_cpu_16(udp->src_port);
    f->destination_port = rte_be_to_cpu_16(udp->dst_port);
    f->link_group = f->group = f->router_alert = false;
    f->l2_bytes = FRAME_PLAIN_L2;
    f->l3_bytes = FRAME_PLAIN_L3;
    f->hop_limit = ip->time_to_live;
    f->protocol = IPPROTO_UDP;
    f->payload = at + FRAME_PLAIN_ALL;
    f->payload_bytes = (uint16_t)(bytes - sizeof(*udp));
    return true;
}

#endif
