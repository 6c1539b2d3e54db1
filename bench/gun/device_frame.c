/* Ethernet, IP and UDP headers.
 *
 * Checksums are one's complement sums of 16-bit words as they stand in memory, which gives the same
 * bytes on any machine (RFC 1071 2 B), so that sums made in advance are only added to. */
#include <string.h>

#include <rte_ip.h>
#include <rte_udp.h>

#include "bench/gun/device.h"

/* Words of 32 bits may be added as they are: both halves end up in the 16 bits that are left. */
static uint16_t fold(uint64_t sum)
{
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t) ~((sum >> 16) + sum);
}

static uint32_t sum_of(const void *bytes, size_t length)
{
    return rte_raw_cksum(bytes, length);
}

/* ---- writing ---- */

static void make_ip4(struct rte_ipv4_hdr *ip, uint32_t destination)
{
    memset(ip, 0, sizeof(*ip));
    ip->version_ihl = RTE_IPV4_VHL_DEF;
    ip->time_to_live = 64;
    ip->next_proto_id = IPPROTO_UDP;
    ip->dst_addr = rte_cpu_to_be_32(destination);
}

static void make_ip6(struct rte_ipv6_hdr *ip, const struct address *from, const struct address *to)
{
    memset(ip, 0, sizeof(*ip));
    ip->vtc_flow = rte_cpu_to_be_32(6u << 28);
    ip->proto = IPPROTO_UDP;
    ip->hop_limits = 64;
    memcpy(ip->src_addr, from->bytes, sizeof(ip->src_addr));
    memcpy(ip->dst_addr, to->bytes, sizeof(ip->dst_addr));
}

void frame_make_header(struct device *d)
{
    struct rte_ether_hdr *ether = (struct rte_ether_hdr *)d->header;
    struct rte_udp_hdr *udp;

    ether->src_addr = d->mac;
    ether->dst_addr = d->hop_mac;
    if (d->v6) {
        struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(ether + 1);

        ether->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV6);
        make_ip6(ip, &d->o->source, &d->o->target.address);
        udp = (struct rte_udp_hdr *)(ip + 1);
        /* All of the address but its lowest word, which differs by device. */
        d->udp_sum = sum_of(ip->src_addr, 12) + sum_of(ip->dst_addr, 16);
    } else {
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(ether + 1);

        ether->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
        make_ip4(ip, d->target);
        udp = (struct rte_udp_hdr *)(ip + 1);
        d->ip_sum = sum_of(ip, sizeof(*ip));
        d->udp_sum = sum_of(&ip->dst_addr, 4);
    }
    udp->dst_port = rte_cpu_to_be_16(d->o->target.port);
    d->udp_sum += udp->dst_port + rte_cpu_to_be_16(IPPROTO_UDP);
}

/* `pseudo`: the sum of the addresses, the protocol and the destination port. */
static inline void finish_udp(struct rte_udp_hdr *udp, const struct outgoing *out, uint64_t pseudo,
                              uint16_t source_port)
{
    uint64_t message = out->summed ? out->sum : sum_of(out->data, out->length);
    rte_be16_t port = rte_cpu_to_be_16(source_port);
    rte_be16_t bytes = rte_cpu_to_be_16((uint16_t)(sizeof(*udp) + out->length));
    /* The length counts twice: in the pseudo header and in the header. */
    uint16_t sum = fold(pseudo + message + port + 2u * bytes);

    udp->src_port = port;
    udp->dgram_len = bytes;
    udp->dgram_cksum = sum ? sum : 0xffff;
}

static inline void write_device4(const struct device *d, struct outgoing *out)
{
    uint8_t *packet = out->data - HEADERS4;
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(packet + sizeof(struct rte_ether_hdr));
    struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(ip + 1);
    rte_be32_t source = rte_cpu_to_be_32(d->source + out->endpoint / DEVICE_PORTS);
    rte_be16_t bytes = rte_cpu_to_be_16((uint16_t)(sizeof(*ip) + sizeof(*udp) + out->length));

    memcpy(packet, d->header, HEADERS4);
    ip->total_length = bytes;
    ip->src_addr = source;
    ip->hdr_checksum = fold((uint64_t)d->ip_sum + bytes + source);
    finish_udp(udp, out, (uint64_t)d->udp_sum + source,
               (uint16_t)(DEVICE_PORT_FIRST + out->endpoint % DEVICE_PORTS));
}

static void write_device6(const struct device *d, struct outgoing *out)
{
    uint8_t *packet = out->data - HEADERS6;
    struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(packet + sizeof(struct rte_ether_hdr));
    struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(ip + 1);
    rte_be32_t low = rte_cpu_to_be_32(d->source + out->endpoint / DEVICE_PORTS);

    memcpy(packet, d->header, HEADERS6);
    ip->payload_len = rte_cpu_to_be_16((uint16_t)(sizeof(*udp) + out->length));
    memcpy(ip->src_addr + 12, &low, sizeof(low));
    finish_udp(udp, out, (uint64_t)d->udp_sum + low,
               (uint16_t)(DEVICE_PORT_FIRST + out->endpoint % DEVICE_PORTS));
}

static struct rte_udp_hdr *write_origin_ip(const struct device *d, const struct outgoing *out,
                                           void *at, uint32_t *pseudo)
{
    uint16_t bytes = (uint16_t)(sizeof(struct rte_udp_hdr) + out->length);
    const struct address *origin = &d->o->origin.address, *peer = &out->peer->address;

    *pseudo = sum_of(origin->bytes + (d->v6 ? 0 : 12), d->v6 ? 16 : 4) +
              sum_of(peer->bytes + (d->v6 ? 0 : 12), d->v6 ? 16 : 4) +
              rte_cpu_to_be_16(IPPROTO_UDP);
    if (d->v6) {
        struct rte_ipv6_hdr *ip = at;

        make_ip6(ip, origin, peer);
        ip->payload_len = rte_cpu_to_be_16(bytes);
        return (struct rte_udp_hdr *)(ip + 1);
    } else {
        struct rte_ipv4_hdr *ip = at;

        make_ip4(ip, carrier_low(peer));
        ip->src_addr = rte_cpu_to_be_32(carrier_low(origin));
        ip->total_length = rte_cpu_to_be_16((uint16_t)(sizeof(*ip) + bytes));
        ip->hdr_checksum = rte_ipv4_cksum(ip);
        return (struct rte_udp_hdr *)(ip + 1);
    }
}

static void write_origin(const struct device *d, struct outgoing *out)
{
    struct rte_ether_hdr *ether =
        (struct rte_ether_hdr *)(out->data - (d->v6 ? HEADERS6 : HEADERS4));
    struct rte_udp_hdr *udp;
    uint32_t pseudo;

    memcpy(&ether->dst_addr, out->peer->mac, sizeof(out->peer->mac));
    ether->src_addr = d->origin_mac;
    ether->ether_type = rte_cpu_to_be_16(d->v6 ? RTE_ETHER_TYPE_IPV6 : RTE_ETHER_TYPE_IPV4);
    udp = write_origin_ip(d, out, ether + 1, &pseudo);
    udp->dst_port = rte_cpu_to_be_16(out->peer->port);
    finish_udp(udp, out, pseudo + udp->dst_port, d->o->origin.port);
}

void frame_write(const struct device *d, struct outgoing *out)
{
    if (out->party == PARTY_ORIGIN)
        write_origin(d, out);
    else if (d->v6)
        write_device6(d, out);
    else
        write_device4(d, out);
}

/* ---- reading ---- */

bool frame_is_ours(const struct device *d, const struct address *a)
{
    return carrier_distance(&d->o->source, a) < d->addresses ||
           (d->o->origin_given && address_equal(a, &d->o->origin.address));
}

static bool read_udp(const struct rte_udp_hdr *udp, size_t left, struct incoming *in)
{
    uint16_t bytes = rte_be_to_cpu_16(udp->dgram_len);

    if (bytes < sizeof(*udp) || bytes > left)
        return false;
    in->data = (const uint8_t *)(udp + 1);
    in->length = (uint16_t)(bytes - sizeof(*udp));
    return true;
}

/* Which device it is for; false: none. */
static bool find_device(const struct device *d, uint32_t index, const struct rte_udp_hdr *udp,
                        struct incoming *in)
{
    uint32_t port = (uint32_t)rte_be_to_cpu_16(udp->dst_port) - DEVICE_PORT_FIRST;

    if (index >= d->addresses || port >= DEVICE_PORTS)
        return false;
    in->endpoint = index * DEVICE_PORTS + port;
    in->party = PARTY_DEVICE;
    return in->endpoint < d->o->endpoints;
}

static bool read_origin(struct device *d, const struct rte_ether_hdr *ether,
                        const struct address *to, const struct address *from,
                        const struct rte_udp_hdr *udp, struct incoming *in)
{
    struct carrier_peer *peer = &d->peers[d->held_count];

    if (!d->o->origin_given || !address_equal(to, &d->o->origin.address) ||
        udp->dst_port != rte_cpu_to_be_16(d->o->origin.port))
        return false;
    in->party = PARTY_ORIGIN;
    peer->address = *from;
    peer->port = rte_be_to_cpu_16(udp->src_port);
    memcpy(peer->mac, &ether->src_addr, sizeof(peer->mac));
    in->peer = peer;
    return true;
}

static bool read4(struct device *d, const struct rte_mbuf *mbuf, struct incoming *in)
{
    const struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, const struct rte_ether_hdr *);
    const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(ether + 1);
    const struct rte_udp_hdr *udp = (const struct rte_udp_hdr *)(ip + 1);

    /* No options and no fragments: an answer is one packet. */
    if (rte_pktmbuf_data_len(mbuf) < HEADERS4 || ip->version_ihl != RTE_IPV4_VHL_DEF ||
        ip->next_proto_id != IPPROTO_UDP ||
        (ip->fragment_offset & rte_cpu_to_be_16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) ||
        !read_udp(udp, rte_pktmbuf_data_len(mbuf) - (HEADERS4 - sizeof(*udp)), in))
        return false;
    if (find_device(d, rte_be_to_cpu_32(ip->dst_addr) - d->source, udp, in)) {
        in->astray = ip->src_addr != rte_cpu_to_be_32(d->target) ||
                     udp->src_port != rte_cpu_to_be_16(d->o->target.port);
        return true;
    }
    if (d->o->origin_given) {
        struct address to = address_from_v4((const uint8_t *)&ip->dst_addr),
                       from = address_from_v4((const uint8_t *)&ip->src_addr);

        return read_origin(d, ether, &to, &from, udp, in);
    }
    return false;
}

static bool read6(struct device *d, const struct rte_mbuf *mbuf, struct incoming *in)
{
    const struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, const struct rte_ether_hdr *);
    const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)(ether + 1);
    const struct rte_udp_hdr *udp = (const struct rte_udp_hdr *)(ip + 1);
    struct address to, from;

    if (rte_pktmbuf_data_len(mbuf) < HEADERS6 || ip->proto != IPPROTO_UDP ||
        !read_udp(udp, rte_pktmbuf_data_len(mbuf) - (HEADERS6 - sizeof(*udp)), in))
        return false;
    memcpy(to.bytes, ip->dst_addr, sizeof(to.bytes));
    memcpy(from.bytes, ip->src_addr, sizeof(from.bytes));
    if (find_device(d, carrier_distance(&d->o->source, &to), udp, in)) {
        in->astray = !address_equal(&from, &d->o->target.address) ||
                     udp->src_port != rte_cpu_to_be_16(d->o->target.port);
        return true;
    }
    return read_origin(d, ether, &to, &from, udp, in);
}

bool frame_read(struct device *d, struct rte_mbuf *mbuf, struct incoming *in)
{
    const struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, const struct rte_ether_hdr *);

    if (!d->v6)
        return ether->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) && read4(d, mbuf, in);
    return ether->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV6) && read6(d, mbuf, in);
}
