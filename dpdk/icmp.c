#include "dpdk/icmp.h"

#include <rte_arp.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_udp.h>

#define ICMP6_UNREACHABLE   1
#define ICMP6_TIME_EXCEEDED 3
#define ICMP6_ECHO_REQUEST  128
#define ICMP6_ECHO_REPLY    129
#define ICMP6_SOLICITATION  135
#define ICMP6_ADVERTISEMENT 136

#define ICMP4_UNREACHABLE   3
#define ICMP4_FRAG_NEEDED   4
#define ICMP4_TIME_EXCEEDED 11

#define OPTION_SOURCE_MAC 1
#define OPTION_TARGET_MAC 2

#define ND_HOP_LIMIT     255
#define ND_HEADER_BYTES  24 /* up to the options */
#define ND_MESSAGE_BYTES 32 /* with one link-layer address option */
#define ADVERT_SOLICITED 0x40
#define ADVERT_OVERRIDE  0x20

/* ---- ARP ---- */

bool arp_read(const struct frame *f, struct arp *arp)
{
    const struct rte_arp_hdr *h = (const struct rte_arp_hdr *)f->payload;
    uint16_t opcode;

    if (f->payload_bytes < sizeof(*h))
        return false;
    opcode = rte_be_to_cpu_16(h->arp_opcode);
    if (h->arp_hardware != rte_cpu_to_be_16(RTE_ARP_HRD_ETHER) ||
        h->arp_protocol != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) || h->arp_hlen != 6 ||
        h->arp_plen != 4 || (opcode != RTE_ARP_OP_REQUEST && opcode != RTE_ARP_OP_REPLY))
        return false;
    arp->request = opcode == RTE_ARP_OP_REQUEST;
    arp->sender = address_from_v4((const uint8_t *)&h->arp_data.arp_sip);
    arp->target = address_from_v4((const uint8_t *)&h->arp_data.arp_tip);
    arp->sender_mac = h->arp_data.arp_sha;
    return true;
}

/* Back to where it came from. */
static void turn_ethernet(struct rte_mbuf *mbuf, const struct rte_ether_addr *mac)
{
    struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *);

    ether->dst_addr = ether->src_addr;
    ether->src_addr = *mac;
}

void arp_answer(struct rte_mbuf *mbuf, const struct frame *f, const struct rte_ether_addr *mac)
{
    struct rte_arp_hdr *h = (struct rte_arp_hdr *)f->payload;
    rte_be32_t ours = h->arp_data.arp_tip;

    turn_ethernet(mbuf, mac);
    h->arp_opcode = rte_cpu_to_be_16(RTE_ARP_OP_REPLY);
    h->arp_data.arp_tha = h->arp_data.arp_sha;
    h->arp_data.arp_tip = h->arp_data.arp_sip;
    h->arp_data.arp_sha = *mac;
    h->arp_data.arp_sip = ours;
}

bool arp_ask(struct rte_mbuf *mbuf, const struct stack_interface *interface,
             const struct address *sender, const struct address *target,
             const struct rte_ether_addr *known)
{
    static const struct rte_ether_addr all = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
    struct rte_arp_hdr *h =
        (struct rte_arp_hdr *)frame_begin(mbuf, interface, RTE_ETHER_TYPE_ARP, sizeof(*h));

    if (!h)
        return false;
    frame_set_destination(mbuf, known ? known : &all);
    memset(h, 0, sizeof(*h));
    h->arp_hardware = rte_cpu_to_be_16(RTE_ARP_HRD_ETHER);
    h->arp_protocol = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
    h->arp_hlen = 6;
    h->arp_plen = 4;
    h->arp_opcode = rte_cpu_to_be_16(RTE_ARP_OP_REQUEST);
    h->arp_data.arp_sha = interface->mac;
    memcpy(&h->arp_data.arp_sip, sender->bytes + 12, 4);
    memcpy(&h->arp_data.arp_tip, target->bytes + 12, 4);
    return true;
}

/* ---- neighbour discovery ---- */

static bool icmp6_checksum_good(const struct frame *f)
{
    return frame_icmp6_checksum(&f->source, &f->destination, f->payload, f->payload_bytes) == 0;
}

/* False when the options are malformed (RFC 4861 7.1.1: a length of 0). */
static bool read_options(const struct frame *f, uint8_t wanted, struct discovery_message *m)
{
    const uint8_t *at = f->payload + ND_HEADER_BYTES, *end = f->payload + f->payload_bytes;

    while (at < end) {
        size_t bytes = end - at >= 2 ? at[1] * 8u : 0;

        if (bytes == 0 || bytes > (size_t)(end - at))
            return false;
        if (at[0] == wanted && bytes == 8) {
            memcpy(m->mac.addr_bytes, at + 2, 6);
            m->has_mac = true;
        }
        at += bytes;
    }
    return true;
}

bool discovery_read(const struct frame *f, struct discovery_message *m)
{
    uint8_t type = f->payload_bytes ? f->payload[0] : 0;

    memset(m, 0, sizeof(*m));
    m->solicitation = type == ICMP6_SOLICITATION;
    if ((!m->solicitation && type != ICMP6_ADVERTISEMENT) || f->payload_bytes < ND_HEADER_BYTES ||
        f->payload[1] != 0 || f->hop_limit != ND_HOP_LIMIT || !icmp6_checksum_good(f))
        return false;
    memcpy(m->target.bytes, f->payload + 8, 16);
    if (address_is_multicast(&m->target))
        return false;
    m->duplicate_check = m->solicitation && address_is_unspecified(&f->source);
    return read_options(f, m->solicitation ? OPTION_SOURCE_MAC : OPTION_TARGET_MAC, m) &&
           !(m->duplicate_check && m->has_mac);
}

/* The body of a solicitation or advertisement with its checksum. */
static void write_message(uint8_t *body, uint8_t type, uint8_t flags, const struct address *target,
                          uint8_t option, const struct rte_ether_addr *mac,
                          const struct address *source, const struct address *destination)
{
    uint16_t sum;

    memset(body, 0, ND_MESSAGE_BYTES);
    body[0] = type;
    body[4] = flags;
    memcpy(body + 8, target->bytes, 16);
    body[ND_HEADER_BYTES] = option;
    body[ND_HEADER_BYTES + 1] = 1;
    memcpy(body + ND_HEADER_BYTES + 2, mac->addr_bytes, 6);
    sum = frame_icmp6_checksum(source, destination, body, ND_MESSAGE_BYTES);
    memcpy(body + 2, &sum, sizeof(sum));
}

static const struct address all_nodes = {{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};

void discovery_answer(struct rte_mbuf *mbuf, const struct frame *f,
                      const struct discovery_message *m, const struct rte_ether_addr *mac)
{
    uint8_t *ip = rte_pktmbuf_mtod(mbuf, uint8_t *) + f->l2_bytes;
    struct address source = m->target, destination = m->duplicate_check ? all_nodes : f->source;
    uint16_t have = (uint16_t)(rte_pktmbuf_data_len(mbuf) - f->l2_bytes);
    uint16_t want = sizeof(struct rte_ipv6_hdr) + ND_MESSAGE_BYTES;
    uint8_t flags = m->duplicate_check ? ADVERT_OVERRIDE : ADVERT_SOLICITED | ADVERT_OVERRIDE;

    turn_ethernet(mbuf, mac);
    if (m->duplicate_check) {
        struct rte_ether_addr all = frame_group_mac(&all_nodes);

        frame_set_destination(mbuf, &all);
    }
    if (have > want)
        rte_pktmbuf_trim(mbuf, (uint16_t)(have - want));
    else if (have < want) /* the buffer holds a whole frame: there is room */
        rte_pktmbuf_append(mbuf, (uint16_t)(want - have));
    frame_write_ip6(ip, &source, &destination, ND_MESSAGE_BYTES, IPPROTO_ICMPV6, ND_HOP_LIMIT);
    write_message(ip + sizeof(struct rte_ipv6_hdr), ICMP6_ADVERTISEMENT, flags, &source,
                  OPTION_TARGET_MAC, mac, &source, &destination);
}

bool discovery_ask(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                   const struct address *sender, const struct address *target,
                   const struct rte_ether_addr *known)
{
    struct address group = frame_solicited_node(target);
    const struct address *destination = known ? target : &group;
    struct rte_ether_addr mac = known ? *known : frame_group_mac(&group);
    uint8_t *ip = frame_begin(mbuf, interface, RTE_ETHER_TYPE_IPV6,
                              sizeof(struct rte_ipv6_hdr) + ND_MESSAGE_BYTES);

    if (!ip)
        return false;
    frame_set_destination(mbuf, &mac);
    frame_write_ip6(ip, sender, destination, ND_MESSAGE_BYTES, IPPROTO_ICMPV6, ND_HOP_LIMIT);
    write_message(ip + sizeof(struct rte_ipv6_hdr), ICMP6_SOLICITATION, 0, target,
                  OPTION_SOURCE_MAC, &interface->mac, sender, destination);
    return true;
}

bool discovery_announce(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                        const struct address *address)
{
    struct rte_ether_addr mac = frame_group_mac(&all_nodes);
    uint8_t *ip = frame_begin(mbuf, interface, RTE_ETHER_TYPE_IPV6,
                              sizeof(struct rte_ipv6_hdr) + ND_MESSAGE_BYTES);

    if (!ip)
        return false;
    frame_set_destination(mbuf, &mac);
    frame_write_ip6(ip, address, &all_nodes, ND_MESSAGE_BYTES, IPPROTO_ICMPV6, ND_HOP_LIMIT);
    write_message(ip + sizeof(struct rte_ipv6_hdr), ICMP6_ADVERTISEMENT, ADVERT_OVERRIDE, address,
                  OPTION_TARGET_MAC, &interface->mac, address, &all_nodes);
    return true;
}

/* ---- echo ---- */

bool icmp_is_echo(const struct frame *f)
{
    if (f->payload_bytes < 8 || f->payload[1] != 0)
        return false;
    if (address_is_v4(&f->source))
        return f->payload[0] == RTE_IP_ICMP_ECHO_REQUEST &&
               rte_raw_cksum(f->payload, f->payload_bytes) == 0xffff;
    return f->payload[0] == ICMP6_ECHO_REQUEST && icmp6_checksum_good(f);
}

void icmp_answer_echo(struct rte_mbuf *mbuf, const struct frame *f, const struct address *local,
                      const struct rte_ether_addr *mac)
{
    uint8_t *base = rte_pktmbuf_mtod(mbuf, uint8_t *) + f->l2_bytes;
    uint16_t sum = 0;

    turn_ethernet(mbuf, mac);
    memcpy(f->payload + 2, &sum, sizeof(sum));
    if (address_is_v4(&f->source)) {
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)base;

        ip->dst_addr = ip->src_addr;
        memcpy(&ip->src_addr, local->bytes + 12, 4);
        ip->time_to_live = 64;
        ip->hdr_checksum = 0;
        sum = (uint16_t)~rte_raw_cksum(ip, f->l3_bytes);
        ip->hdr_checksum = sum;
        f->payload[0] = RTE_IP_ICMP_ECHO_REPLY;
        sum = (uint16_t)~rte_raw_cksum(f->payload, f->payload_bytes);
    } else {
        struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)base;

        memcpy(ip->dst_addr, f->source.bytes, 16);
        memcpy(ip->src_addr, local->bytes, 16);
        ip->hop_limits = 64;
        f->payload[0] = ICMP6_ECHO_REPLY;
        sum = frame_icmp6_checksum(local, &f->source, f->payload, f->payload_bytes);
    }
    memcpy(f->payload + 2, &sum, sizeof(sum));
}

/* ---- errors ---- */

static void read_quoted_udp(const uint8_t *udp, uint16_t bytes, struct icmp_error *e)
{
    e->local_port = (uint16_t)(udp[0] << 8 | udp[1]);
    e->peer_port = (uint16_t)(udp[2] << 8 | udp[3]);
    e->quoted = udp + sizeof(struct rte_udp_hdr);
    e->quoted_bytes = (uint16_t)(bytes - sizeof(struct rte_udp_hdr));
}

static bool read_error4(const struct frame *f, struct icmp_error *e)
{
    const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(f->payload + 8);
    uint8_t type = f->payload[0], code = f->payload[1];
    uint16_t bytes = (uint16_t)(f->payload_bytes - 8), header;

    if ((type != ICMP4_UNREACHABLE || code == ICMP4_FRAG_NEEDED) &&
        (type != ICMP4_TIME_EXCEEDED || code != 0))
        return false;
    if (rte_raw_cksum(f->payload, f->payload_bytes) != 0xffff || bytes < sizeof(*ip))
        return false;
    header = rte_ipv4_hdr_len(ip);
    if (ip->version_ihl >> 4 != 4 || header < sizeof(*ip) || bytes < header + 8u ||
        ip->next_proto_id != IPPROTO_UDP ||
        (ip->fragment_offset & rte_cpu_to_be_16(RTE_IPV4_HDR_OFFSET_MASK)))
        return false;
    e->local = address_from_v4((const uint8_t *)&ip->src_addr);
    e->peer = address_from_v4((const uint8_t *)&ip->dst_addr);
    read_quoted_udp(f->payload + 8 + header, (uint16_t)(bytes - header), e);
    return true;
}

static bool read_error6(const struct frame *f, struct icmp_error *e)
{
    const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)(f->payload + 8);
    uint8_t type = f->payload[0], code = f->payload[1];
    uint16_t bytes = (uint16_t)(f->payload_bytes - 8);

    if (type != ICMP6_UNREACHABLE && (type != ICMP6_TIME_EXCEEDED || code != 0))
        return false;
    if (!icmp6_checksum_good(f) || bytes < sizeof(*ip) + 8 || f->payload[8] >> 4 != 6 ||
        ip->proto != IPPROTO_UDP) /* our packets have no extension headers */
        return false;
    memcpy(e->local.bytes, ip->src_addr, 16);
    memcpy(e->peer.bytes, ip->dst_addr, 16);
    read_quoted_udp(f->payload + 8 + sizeof(*ip), (uint16_t)(bytes - sizeof(*ip)), e);
    return true;
}

bool icmp_read_error(const struct frame *f, struct icmp_error *e)
{
    if (f->payload_bytes < 8)
        return false;
    return address_is_v4(&f->source) ? read_error4(f, e) : read_error6(f, e);
}
