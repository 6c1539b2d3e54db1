/* ARP (RFC 826) and neighbour discovery (RFC 4861), as far as hosts on one link need them. */
#include <string.h>

#include <rte_arp.h>
#include <rte_ip.h>

#include "bench/gun/device.h"

#define SOLICITATION  135
#define ADVERTISEMENT 136
#define SOLICITED     0x60 /* flags of an advertisement: solicited, override */
#define OPTION_SOURCE 1    /* link-layer addresses (RFC 4861 4.6.1) */
#define OPTION_TARGET 2

/* A solicitation or an advertisement with its one option. */
struct discovery {
    uint8_t type, code;
    uint16_t checksum;
    uint8_t flags, reserved[3];
    struct address target;
    uint8_t option, units; /* of 8 bytes */
    struct rte_ether_addr mac;
};
_Static_assert(sizeof(struct discovery) == 32, "as it stands on the wire");

static const struct rte_ether_addr *mac_of(const struct device *d, const struct address *a)
{
    bool origin = d->o->origin_given && address_equal(a, &d->o->origin.address);

    return origin ? &d->origin_mac : &d->mac;
}

static void learn(struct device *d, const struct address *who, const struct rte_ether_addr *mac)
{
    if (d->hop_known || !address_equal(who, &d->hop))
        return;
    d->hop_mac = *mac;
    d->hop_known = true;
}

/* ---- IPv4 ---- */

static bool receive_arp(struct device *d, struct rte_ether_hdr *ether, uint16_t length)
{
    struct rte_arp_hdr *arp = (struct rte_arp_hdr *)(ether + 1);
    struct address asked, asker;
    rte_be32_t ours;

    if (length < sizeof(*ether) + sizeof(*arp))
        return false;
    ours = arp->arp_data.arp_tip;
    asked = address_from_v4((const uint8_t *)&arp->arp_data.arp_tip);
    asker = address_from_v4((const uint8_t *)&arp->arp_data.arp_sip);
    learn(d, &asker, &arp->arp_data.arp_sha);
    if (arp->arp_opcode != rte_cpu_to_be_16(RTE_ARP_OP_REQUEST) || !frame_is_ours(d, &asked))
        return false;
    ether->dst_addr = ether->src_addr;
    ether->src_addr = *mac_of(d, &asked);
    arp->arp_opcode = rte_cpu_to_be_16(RTE_ARP_OP_REPLY);
    arp->arp_data.arp_tha = arp->arp_data.arp_sha;
    arp->arp_data.arp_tip = arp->arp_data.arp_sip;
    arp->arp_data.arp_sha = *mac_of(d, &asked);
    arp->arp_data.arp_sip = ours;
    return true;
}

static void write_arp(const struct device *d, struct rte_ether_hdr *ether)
{
    struct rte_arp_hdr *arp = (struct rte_arp_hdr *)(ether + 1);

    memset(&ether->dst_addr, 0xff, sizeof(ether->dst_addr));
    ether->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_ARP);
    memset(arp, 0, sizeof(*arp));
    arp->arp_hardware = rte_cpu_to_be_16(RTE_ARP_HRD_ETHER);
    arp->arp_protocol = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
    arp->arp_hlen = sizeof(d->mac);
    arp->arp_plen = 4;
    arp->arp_opcode = rte_cpu_to_be_16(RTE_ARP_OP_REQUEST);
    arp->arp_data.arp_sha = d->mac;
    arp->arp_data.arp_sip = rte_cpu_to_be_32(d->source);
    arp->arp_data.arp_tip = rte_cpu_to_be_32(carrier_low(&d->hop));
}

/* ---- IPv6 ---- */

static void finish_discovery(struct rte_ipv6_hdr *ip, struct discovery *nd)
{
    ip->vtc_flow = rte_cpu_to_be_32(6u << 28);
    ip->payload_len = rte_cpu_to_be_16(sizeof(*nd));
    ip->proto = IPPROTO_ICMPV6;
    ip->hop_limits = 255; /* whoever receives it checks that (RFC 4861 7.1) */
    nd->code = 0;
    memset(nd->reserved, 0, sizeof(nd->reserved));
    nd->units = 1;
    nd->checksum = 0;
    nd->checksum = rte_ipv6_udptcp_cksum(ip, nd);
}

static bool answer_solicitation(struct device *d, struct rte_mbuf *mbuf, struct rte_ipv6_hdr *ip,
                                struct discovery *nd)
{
    struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *);
    uint16_t bytes = (uint16_t)(sizeof(*ether) + sizeof(*ip) + sizeof(*nd));
    const struct rte_ether_addr *mac = mac_of(d, &nd->target);

    /* One without a source looks for a duplicate of its own address: none of ours. */
    if (!frame_is_ours(d, &nd->target) || ip->src_addr[0] == 0)
        return false;
    ether->dst_addr = ether->src_addr;
    ether->src_addr = *mac;
    memcpy(ip->dst_addr, ip->src_addr, sizeof(ip->dst_addr));
    memcpy(ip->src_addr, nd->target.bytes, sizeof(ip->src_addr));
    nd->type = ADVERTISEMENT;
    nd->flags = SOLICITED;
    nd->option = OPTION_TARGET;
    nd->mac = *mac;
    finish_discovery(ip, nd);
    mbuf->data_len = bytes;
    mbuf->pkt_len = bytes;
    return true;
}

static bool receive_discovery(struct device *d, struct rte_mbuf *mbuf)
{
    struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *);
    struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(ether + 1);
    struct discovery *nd = (struct discovery *)(ip + 1);

    if (rte_pktmbuf_data_len(mbuf) < sizeof(*ether) + sizeof(*ip) + sizeof(*nd) ||
        ip->proto != IPPROTO_ICMPV6 || ip->hop_limits != 255)
        return false;
    if (nd->type == ADVERTISEMENT && nd->option == OPTION_TARGET)
        learn(d, &nd->target, &nd->mac);
    return nd->type == SOLICITATION && answer_solicitation(d, mbuf, ip, nd);
}

/* To the solicited-node multicast address of the hop (RFC 4291 2.7.1). */
static void write_solicitation(const struct device *d, struct rte_ether_hdr *ether)
{
    static const uint8_t group[13] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
    struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(ether + 1);
    struct discovery *nd = (struct discovery *)(ip + 1);

    memcpy(ip->src_addr, d->o->source.bytes, sizeof(ip->src_addr));
    memcpy(ip->dst_addr, group, sizeof(group));
    memcpy(ip->dst_addr + 13, d->hop.bytes + 13, 3);
    ether->dst_addr.addr_bytes[0] = 0x33;
    ether->dst_addr.addr_bytes[1] = 0x33;
    memcpy(ether->dst_addr.addr_bytes + 2, ip->dst_addr + 12, 4);
    ether->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV6);
    nd->type = SOLICITATION;
    nd->flags = 0;
    nd->target = d->hop;
    nd->option = OPTION_SOURCE;
    nd->mac = d->mac;
    finish_discovery(ip, nd);
}

/* ---- both ---- */

bool neighbour_receive(struct device *d, struct rte_mbuf *mbuf)
{
    struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *);
    uint16_t type = rte_be_to_cpu_16(ether->ether_type);

    if (!d->v6)
        return type == RTE_ETHER_TYPE_ARP && receive_arp(d, ether, rte_pktmbuf_data_len(mbuf));
    return type == RTE_ETHER_TYPE_IPV6 && receive_discovery(d, mbuf);
}

struct rte_mbuf *neighbour_ask(struct device *d)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(d->pool);
    uint16_t bytes = (uint16_t)(sizeof(struct rte_ether_hdr) +
                                (d->v6 ? sizeof(struct rte_ipv6_hdr) + sizeof(struct discovery)
                                       : sizeof(struct rte_arp_hdr)));
    struct rte_ether_hdr *ether;

    if (!mbuf)
        return NULL;
    ether = (struct rte_ether_hdr *)rte_pktmbuf_append(mbuf, bytes);
    ether->src_addr = d->mac;
    if (d->v6)
        write_solicitation(d, ether);
    else
        write_arp(d, ether);
    return mbuf;
}
