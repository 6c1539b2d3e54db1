#include "dpdk/frame.h"

#include <rte_arp.h>
#include <rte_ether.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "gateway/checksum.h"
#include "dpdk/frame_plain.h"

#define TTL 64

/* Extension headers that are walked before a packet is given up. */
#define EXTENSIONS_MAX 8

#define PROTOCOL_HOP_BY_HOP  0
#define PROTOCOL_ROUTING     43
#define PROTOCOL_FRAGMENT    44
#define PROTOCOL_DESTINATION 60

#define OPTION4_END          0
#define OPTION4_NOTHING      1
#define OPTION4_LOOSE_ROUTE  131
#define OPTION4_STRICT_ROUTE 137
#define OPTION4_ROUTER_ALERT 148
#define OPTION6_PAD1         0
#define OPTION6_ROUTER_ALERT 5

/* What is left of the packet while it is read. */
struct rest {
    uint8_t *at;
    uint32_t bytes;
};

static uint16_t load16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void skip(struct rest *rest, uint32_t bytes)
{
    rest->at += bytes;
    rest->bytes -= bytes;
}

/* ---- reading ---- */

static bool mac_is_ours(const struct rte_ether_addr *mac, const struct stack_interface *interface)
{
    return rte_is_same_ether_addr(mac, &interface->mac) || rte_is_multicast_ether_addr(mac);
}

/* The Ethernet header and its tag. `ethertype` is the payload's. */
static enum frame_verdict read_ethernet(const struct rte_mbuf *mbuf, struct rest *rest,
                                        const struct stack_interface *interface,
                                        uint16_t *ethertype, struct frame *f)
{
    const struct rte_ether_hdr *ether = (const struct rte_ether_hdr *)rest->at;
    bool tagged = mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED;
    uint16_t tag = tagged ? mbuf->vlan_tci & 0x0fff : 0;

    if (rest->bytes < sizeof(*ether))
        return FRAME_RUNT;
    if (!mac_is_ours(&ether->dst_addr, interface))
        return FRAME_MAC;
    f->link_group = rte_is_multicast_ether_addr(&ether->dst_addr);
    *ethertype = rte_be_to_cpu_16(ether->ether_type);
    skip(rest, sizeof(*ether));
    if (*ethertype == RTE_ETHER_TYPE_VLAN) {
        if (tagged || rest->bytes < sizeof(struct rte_vlan_hdr))
            return FRAME_VLAN;
        tag = load16(rest->at) & 0x0fff;
        *ethertype = load16(rest->at + 2);
        skip(rest, sizeof(struct rte_vlan_hdr));
    }
    return tag == interface->vlan ? FRAME_UDP : FRAME_VLAN; /* tag 0 is a priority, no VLAN */
}

/* RFC 1122 3.2.1.8: options are skipped, source routes are not for us: false. */
static bool read_options4(const uint8_t *options, unsigned bytes, struct frame *f)
{
    unsigned i = 0;

    while (i < bytes && options[i] != OPTION4_END) {
        if (options[i] == OPTION4_LOOSE_ROUTE || options[i] == OPTION4_STRICT_ROUTE)
            return false;
        if (options[i] == OPTION4_NOTHING) {
            i++;
            continue;
        }
        if (i + 1 >= bytes || options[i + 1] < 2)
            return true;
        f->router_alert |= options[i] == OPTION4_ROUTER_ALERT && options[i + 1] == 4;
        i += options[i + 1];
    }
    return true;
}

/* Loopback and groups. The unspecified address is for a few messages of ICMPv6. */
static bool source_is_valid6(const struct address *source, uint8_t protocol)
{
    static const struct address loopback = {{[15] = 1}};

    return !address_is_multicast(source) && !address_equal(source, &loopback) &&
           (protocol == IPPROTO_ICMPV6 || !address_is_unspecified(source));
}

static enum frame_verdict read_ip4(const struct rte_mbuf *mbuf, struct rest *rest, bool trusted,
                                   struct frame *f)
{
    const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)rest->at;
    uint64_t checked = mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    uint16_t total, fragment;

    if (rest->bytes < sizeof(*ip))
        return FRAME_RUNT;
    total = rte_be_to_cpu_16(ip->total_length);
    f->l3_bytes = rte_ipv4_hdr_len(ip);
    if (ip->version_ihl >> 4 != 4 || f->l3_bytes < sizeof(*ip) || total < f->l3_bytes ||
        total > rest->bytes ||
        (f->l3_bytes > sizeof(*ip) && !read_options4(rest->at + sizeof(*ip), f->l3_bytes - 20u, f)))
        return FRAME_IP_HEADER;
    if (checked == RTE_MBUF_F_RX_IP_CKSUM_BAD)
        return FRAME_IP_CHECKSUM;
    if (!trusted && checked == RTE_MBUF_F_RX_IP_CKSUM_UNKNOWN &&
        checksum_fold(checksum_bytes(0, ip, f->l3_bytes)) != 0xffff)
        return FRAME_IP_CHECKSUM;
    if (!frame_source_is_valid4((const uint8_t *)&ip->src_addr, ip->next_proto_id))
        return FRAME_SOURCE;
    f->source = address_from_v4((const uint8_t *)&ip->src_addr);
    f->destination = address_from_v4((const uint8_t *)&ip->dst_addr);
    f->group = address_is_multicast(&f->destination);
    f->hop_limit = ip->time_to_live;
    f->protocol = ip->next_proto_id;
    f->id = rte_be_to_cpu_16(ip->packet_id);
    fragment = rte_be_to_cpu_16(ip->fragment_offset);
    rest->bytes = total; /* what lies behind it is padding */
    skip(rest, f->l3_bytes);
    return fragment & (RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK) ? FRAME_FRAGMENT
                                                                        : FRAME_UDP;
}

/* An option that is not known ends the packet unless its type begins with 00 (RFC 8200 4.2): false.
 */
static bool read_options6(const uint8_t *options, uint32_t bytes, struct frame *f)
{
    uint32_t i = 0;

    while (i < bytes) {
        if (options[i] == OPTION6_PAD1) { /* has no length */
            i++;
            continue;
        }
        if (options[i] & 0xc0 || i + 1 == bytes)
            return false;
        f->router_alert |= options[i] == OPTION6_ROUTER_ALERT && options[i + 1] == 2;
        i += options[i + 1] + 2u;
    }
    return i == bytes;
}

/* The length of the extension header at the front, or 0 when the packet ends here. `first`: it is
 * right behind the fixed header, the only place for a hop-by-hop one (RFC 8200 4.1). */
static uint32_t read_extension(const struct rest *rest, uint8_t type, bool first, struct frame *f)
{
    uint32_t bytes = rest->bytes < 8 ? 0 : (rest->at[1] + 1u) * 8;

    if (bytes == 0 || bytes > rest->bytes)
        return 0;
    if (type == PROTOCOL_ROUTING)
        return rest->at[3] == 0 ? bytes : 0; /* segments left: we are no router */
    if (type == PROTOCOL_HOP_BY_HOP && !first)
        return 0;
    return read_options6(rest->at + 2, bytes - 2, f) ? bytes : 0;
}

/* A fragment header; the rest of a packet that is whole all the same goes on behind it (RFC 6946).
 */
static enum frame_verdict read_fragment_header(struct rest *rest, struct frame *f)
{
    if (rest->bytes < 8)
        return FRAME_IP_HEADER;
    if (load16(rest->at + 2) & 0xfff9) { /* an offset, or more to come */
        f->id = (uint32_t)load16(rest->at + 4) << 16 | load16(rest->at + 6);
        return FRAME_FRAGMENT;
    }
    f->protocol = rest->at[0];
    f->l3_bytes = (uint16_t)(f->l3_bytes + 8);
    skip(rest, 8);
    return FRAME_UDP;
}

/* Walks extension headers (RFC 8200 4). FRAME_UDP: the upper protocol is reached. */
static enum frame_verdict read_extensions(struct rest *rest, struct frame *f)
{
    for (unsigned i = 0; i < EXTENSIONS_MAX; i++) {
        enum frame_verdict verdict;
        uint8_t type = f->protocol;
        uint32_t bytes;

        switch (type) {
        case PROTOCOL_FRAGMENT:
            verdict = read_fragment_header(rest, f);
            if (verdict != FRAME_UDP)
                return verdict;
            break;
        case PROTOCOL_HOP_BY_HOP:
        case PROTOCOL_DESTINATION:
        case PROTOCOL_ROUTING:
            bytes = read_extension(rest, type, i == 0, f);
            if (bytes == 0)
                return FRAME_IP_HEADER;
            f->protocol = rest->at[0];
            f->l3_bytes = (uint16_t)(f->l3_bytes + bytes);
            skip(rest, bytes);
            break;
        default:
            return FRAME_UDP;
        }
    }
    return FRAME_IP_HEADER;
}

static enum frame_verdict read_ip6(struct rest *rest, struct frame *f)
{
    const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)rest->at;
    enum frame_verdict verdict;
    uint16_t payload;

    if (rest->bytes < sizeof(*ip))
        return FRAME_RUNT;
    payload = rte_be_to_cpu_16(ip->payload_len);
    if (rest->at[0] >> 4 != 6 || payload > rest->bytes - sizeof(*ip))
        return FRAME_IP_HEADER;
    memcpy(f->source.bytes, ip->src_addr, 16);
    memcpy(f->destination.bytes, ip->dst_addr, 16);
    if (address_is_v4(&f->source) || address_is_v4(&f->destination))
        return FRAME_IP_HEADER; /* mapped addresses are not for the wire (RFC 4291 2.5.5.2) */
    f->group = address_is_multicast(&f->destination);
    f->hop_limit = ip->hop_limits;
    f->protocol = ip->proto;
    f->l3_bytes = sizeof(*ip);
    rest->bytes = sizeof(*ip) + payload;
    skip(rest, sizeof(*ip));
    verdict = read_extensions(rest, f);
    return verdict == FRAME_UDP && !source_is_valid6(&f->source, f->protocol) ? FRAME_SOURCE
                                                                              : verdict;
}

static bool udp_checksum_good(const struct rte_mbuf *mbuf, const struct frame *f,
                              const struct rte_udp_hdr *udp)
{
    uint64_t checked = mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
    const uint8_t *ip = rte_pktmbuf_mtod(mbuf, const uint8_t *) + f->l2_bytes;
    uint64_t sum = (uint64_t)rte_cpu_to_be_16(IPPROTO_UDP) + udp->dgram_len;

    if (checked == RTE_MBUF_F_RX_L4_CKSUM_BAD)
        return false;
    if (checked != RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN)
        return true;
    if (udp->dgram_cksum == 0) /* legal on IPv4 only (RFC 768, RFC 8200 8.1) */
        return address_is_v4(&f->source);
    /* The pseudo header by hand: IP options and extension headers are not in it. */
    if (address_is_v4(&f->source))
        sum = checksum_bytes(sum, ip + 12, 8);
    else
        sum = checksum_bytes(sum, ip + 8, 32);
    return checksum_fold(checksum_bytes(sum, udp, rte_be_to_cpu_16(udp->dgram_len))) == 0xffff;
}

static enum frame_verdict read_udp(const struct rte_mbuf *mbuf, struct rest *rest, struct frame *f)
{
    const struct rte_udp_hdr *udp = (const struct rte_udp_hdr *)rest->at;
    uint16_t bytes;

    if (rest->bytes < sizeof(*udp))
        return FRAME_UDP_HEADER;
    bytes = rte_be_to_cpu_16(udp->dgram_len);
    if (bytes < sizeof(*udp) || bytes > rest->bytes || udp->src_port == 0)
        return FRAME_UDP_HEADER;
    if (!udp_checksum_good(mbuf, f, udp))
        return FRAME_UDP_CHECKSUM;
    f->source_port = rte_be_to_cpu_16(udp->src_port);
    f->destination_port = rte_be_to_cpu_16(udp->dst_port);
    f->payload = rest->at + sizeof(*udp);
    f->payload_bytes = (uint16_t)(bytes - sizeof(*udp));
    return FRAME_UDP;
}

static enum frame_verdict read_upper(const struct rte_mbuf *mbuf, struct rest *rest,
                                     struct frame *f)
{
    bool v4 = address_is_v4(&f->source);

    if (f->protocol == IPPROTO_UDP)
        return read_udp(mbuf, rest, f);
    f->payload = rest->at;
    f->payload_bytes = (uint16_t)rest->bytes;
    if (f->protocol == IPPROTO_ICMP && v4)
        return FRAME_ICMP4;
    if (f->protocol == IPPROTO_IGMP && v4)
        return FRAME_IGMP;
    if (f->protocol == IPPROTO_ICMPV6 && !v4)
        return FRAME_ICMP6;
    return FRAME_PROTOCOL;
}

enum frame_verdict frame_read(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                              bool trusted, struct frame *f)
{
    struct rest rest = {rte_pktmbuf_mtod(mbuf, uint8_t *), rte_pktmbuf_data_len(mbuf)};
    enum frame_verdict verdict;
    uint16_t ethertype;

    f->router_alert = false;
    verdict = read_ethernet(mbuf, &rest, interface, &ethertype, f);
    if (verdict != FRAME_UDP)
        return verdict;
    f->l2_bytes = (uint16_t)(rest.at - rte_pktmbuf_mtod(mbuf, uint8_t *));
    switch (ethertype) {
    case RTE_ETHER_TYPE_IPV4:
        verdict = read_ip4(mbuf, &rest, trusted, f);
        break;
    case RTE_ETHER_TYPE_IPV6:
        verdict = read_ip6(&rest, f);
        break;
    case RTE_ETHER_TYPE_ARP:
        f->payload = rest.at;
        f->payload_bytes = (uint16_t)rest.bytes;
        return FRAME_ARP;
    default:
        return FRAME_ETHERTYPE;
    }
    return verdict == FRAME_UDP ? read_upper(mbuf, &rest, f) : verdict;
}

/* ---- writing ---- */

static uint8_t *put_ethernet(uint8_t *at, const struct stack_interface *interface,
                             uint16_t ethertype)
{
    struct rte_ether_hdr *ether = (struct rte_ether_hdr *)at;
    uint16_t outer = interface->vlan ? RTE_ETHER_TYPE_VLAN : ethertype;

    memset(&ether->dst_addr, 0, sizeof(ether->dst_addr));
    ether->src_addr = interface->mac;
    ether->ether_type = rte_cpu_to_be_16(outer);
    at += sizeof(*ether);
    if (interface->vlan) {
        at[0] = (uint8_t)(interface->vlan >> 8);
        at[1] = (uint8_t)interface->vlan;
        at[2] = (uint8_t)(ethertype >> 8);
        at[3] = (uint8_t)ethertype;
        at += sizeof(struct rte_vlan_hdr);
    }
    return at;
}

void frame_template_init(struct frame_template *t, const struct stack_interface *interface,
                         const struct address *local)
{
    uint8_t *at;

    memset(t, 0, sizeof(*t));
    t->v4 = address_is_v4(local);
    t->l2_bytes = (uint8_t)(sizeof(struct rte_ether_hdr) +
                            (interface->vlan ? sizeof(struct rte_vlan_hdr) : 0));
    t->l3_bytes = t->v4 ? sizeof(struct rte_ipv4_hdr) : sizeof(struct rte_ipv6_hdr);
    t->header_bytes = (uint8_t)(t->l2_bytes + t->l3_bytes + sizeof(struct rte_udp_hdr));
    at = put_ethernet(t->bytes + sizeof(t->bytes) - t->l2_bytes - t->l3_bytes, interface,
                      t->v4 ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6);
    t->ip_cksum = interface->tx_ip_cksum;
    t->udp_cksum = interface->tx_udp_cksum;
    if (t->v4) {
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)at;

        ip->version_ihl = RTE_IPV4_VHL_DEF;
        ip->time_to_live = TTL;
        ip->next_proto_id = IPPROTO_UDP;
        memcpy(&ip->src_addr, local->bytes + 12, 4);
        t->ip_sum = checksum_bytes(0, ip, sizeof(*ip));
        t->udp_sum = (uint64_t)ip->src_addr + rte_cpu_to_be_16(IPPROTO_UDP);
    } else {
        struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)at;

        at[0] = 0x60;
        ip->proto = IPPROTO_UDP;
        ip->hop_limits = TTL;
        memcpy(ip->src_addr, local->bytes, 16);
        t->udp_sum = checksum_bytes(rte_cpu_to_be_16(IPPROTO_UDP), local->bytes, 16);
    }
}

/* The header's own words are added from registers, since reading back what was just written stalls.
 * `sum` is that of the addresses and the protocol. */
static rte_be16_t udp_checksum(const struct rte_udp_hdr *udp, uint64_t payload_sum, uint64_t sum)
{
    uint16_t result;

    sum += (uint64_t)udp->src_port + udp->dst_port + 2u * udp->dgram_len;
    result = (uint16_t)~checksum_fold(checksum_add(sum, payload_sum));
    return result ? result : 0xffff; /* 0 means that there is none */
}

static void finish_ip4(struct rte_mbuf *mbuf, const struct frame_template *t,
                       struct rte_ipv4_hdr *ip, struct rte_udp_hdr *udp, uint64_t payload_sum)
{
    if (t->udp_cksum) {
        mbuf->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM;
        udp->dgram_cksum = rte_ipv4_phdr_cksum(ip, mbuf->ol_flags);
    } else {
        udp->dgram_cksum = udp_checksum(udp, payload_sum, t->udp_sum + ip->dst_addr);
    }
    if (t->ip_cksum)
        mbuf->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
    else
        ip->hdr_checksum =
            (uint16_t)~checksum_fold(t->ip_sum + ip->dst_addr + ip->total_length + ip->packet_id);
}

static void finish_ip6(struct rte_mbuf *mbuf, const struct frame_template *t,
                       struct rte_ipv6_hdr *ip, struct rte_udp_hdr *udp, uint64_t payload_sum,
                       const struct address *peer)
{
    if (t->udp_cksum) {
        mbuf->ol_flags |= RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM;
        udp->dgram_cksum = rte_ipv6_phdr_cksum(ip, mbuf->ol_flags);
    } else {
        udp->dgram_cksum =
            udp_checksum(udp, payload_sum, checksum_bytes(t->udp_sum, peer->bytes, 16));
    }
}

void frame_write_udp(struct rte_mbuf *mbuf, const struct frame_template *t, uint16_t payload,
                     const uint64_t *sum, const struct address *peer, uint16_t local_port,
                     uint16_t peer_port, uint16_t id)
{
    uint16_t udp_bytes = (uint16_t)(payload + sizeof(struct rte_udp_hdr));
    struct rte_udp_hdr *udp =
        rte_pktmbuf_mtod_offset(mbuf, struct rte_udp_hdr *, -(int)sizeof(struct rte_udp_hdr));
    uint8_t *at = (uint8_t *)udp - t->l3_bytes;
    uint64_t payload_sum = 0;

    if (!t->udp_cksum)
        payload_sum = sum ? *sum : checksum_bytes(0, udp + 1, payload);
    memcpy((uint8_t *)udp - sizeof(t->bytes), t->bytes, sizeof(t->bytes));
    mbuf->data_off = (uint16_t)(mbuf->data_off - t->header_bytes);
    mbuf->data_len = (uint16_t)(payload + t->header_bytes);
    mbuf->pkt_len = mbuf->data_len;
    mbuf->l2_len = t->l2_bytes;
    mbuf->l3_len = t->l3_bytes;
    udp->src_port = rte_cpu_to_be_16(local_port);
    udp->dst_port = rte_cpu_to_be_16(peer_port);
    udp->dgram_len = rte_cpu_to_be_16(udp_bytes);
    udp->dgram_cksum = 0;
    if (t->v4) {
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)at;

        memcpy(&ip->dst_addr, peer->bytes + 12, 4);
        ip->total_length = rte_cpu_to_be_16((uint16_t)(udp_bytes + t->l3_bytes));
        ip->packet_id = rte_cpu_to_be_16(id);
        finish_ip4(mbuf, t, ip, udp, payload_sum);
    } else {
        struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)at;

        memcpy(ip->dst_addr, peer->bytes, 16);
        ip->payload_len = rte_cpu_to_be_16(udp_bytes);
        finish_ip6(mbuf, t, ip, udp, payload_sum, peer);
    }
}

uint8_t *frame_begin(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                     uint16_t ethertype, uint16_t payload_bytes)
{
    uint16_t header = (uint16_t)(sizeof(struct rte_ether_hdr) +
                                 (interface->vlan ? sizeof(struct rte_vlan_hdr) : 0));
    uint8_t *at = (uint8_t *)rte_pktmbuf_append(mbuf, (uint16_t)(header + payload_bytes));

    return at ? put_ethernet(at, interface, ethertype) : NULL;
}

void frame_write_ip6(uint8_t *at, const struct address *source, const struct address *destination,
                     uint16_t payload, uint8_t protocol, uint8_t hop_limit)
{
    struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)at;

    memset(ip, 0, sizeof(*ip));
    ip->vtc_flow = rte_cpu_to_be_32(0x60000000);
    ip->payload_len = rte_cpu_to_be_16(payload);
    ip->proto = protocol;
    ip->hop_limits = hop_limit;
    memcpy(ip->src_addr, source->bytes, 16);
    memcpy(ip->dst_addr, destination->bytes, 16);
}

struct rte_ether_addr frame_group_mac(const struct address *group)
{
    const uint8_t *b = group->bytes;
    struct rte_ether_addr mac = {{0x33, 0x33, b[12], b[13], b[14], b[15]}};

    if (address_is_v4(group))
        mac = (struct rte_ether_addr){{1, 0, 0x5e, b[13] & 0x7f, b[14], b[15]}};
    return mac;
}

void frame_set_destination(struct rte_mbuf *mbuf, const struct rte_ether_addr *mac)
{
    rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *)->dst_addr = *mac;
}

uint16_t frame_icmp6_checksum(const struct address *source, const struct address *destination,
                              const uint8_t *data, uint16_t bytes)
{
    uint32_t sum = rte_raw_cksum(source->bytes, 16);

    sum += rte_raw_cksum(destination->bytes, 16);
    sum += (uint32_t)rte_cpu_to_be_16(bytes) + rte_cpu_to_be_16(IPPROTO_ICMPV6);
    sum += rte_raw_cksum(data, bytes);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)~sum;
}

struct address frame_solicited_node(const struct address *address)
{
    const uint8_t *b = address->bytes;
    struct address group = {{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, b[13], b[14], b[15]}};

    return group;
}

struct address frame_link_local(const struct rte_ether_addr *mac)
{
    const uint8_t *m = mac->addr_bytes;
    struct address a = {{0xfe, 0x80, 0, 0, 0, 0, 0, 0, (uint8_t)(m[0] ^ 2), m[1], m[2], 0xff, 0xfe,
                         m[3], m[4], m[5]}};

    return a;
}
