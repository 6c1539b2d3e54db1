#include "dpdk/membership_message.h"

#include <rte_ip.h>

#define IGMP_QUERY        0x11
#define IGMP_REPORT1      0x12
#define IGMP_REPORT2      0x16
#define IGMP_LEAVE        0x17
#define IGMP_REPORT3      0x22
#define IGMP_BYTES        8
#define IGMP_QUERY3_BYTES 12
#define IGMP1_RESPONSE_MS 10000 /* RFC 3376 8.3: what an IGMPv1 router expects */
#define IGMP_RESPONSE_MS  100   /* the unit of Max Resp Code */
#define IGMP_RECORD_BYTES 8
#define IGMP_TOS          0xc0 /* internetwork control (RFC 3376 4) */
#define IGMP_IP_HEADER    24

#define MLD_QUERY        130
#define MLD_REPORT1      131
#define MLD_DONE         132
#define MLD_REPORT2      143
#define MLD_BYTES        24
#define MLD_QUERY2_BYTES 28
#define MLD_RECORD_BYTES 20
#define MLD_IP_HEADERS   48 /* with the hop-by-hop header */

#define REPORT_HEADER_BYTES 8

static const struct address all_nodes4 = {{[10] = 0xff, [11] = 0xff, 224, 0, 0, 1}};
static const struct address all_routers4 = {{[10] = 0xff, [11] = 0xff, 224, 0, 0, 2}};
static const struct address igmp3_routers = {{[10] = 0xff, [11] = 0xff, 224, 0, 0, 22}};
static const struct address all_nodes6 = {{0xff, 0x02, [15] = 0x01}};
static const struct address all_routers6 = {{0xff, 0x02, [15] = 0x02}};
static const struct address mld2_routers = {{0xff, 0x02, [15] = 0x16}};

static uint16_t load16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* ---- reading ---- */

bool membership_is_mld(const struct frame *f)
{
    uint8_t type = f->payload_bytes ? f->payload[0] : 0;

    return (type >= MLD_QUERY && type <= MLD_DONE) || type == MLD_REPORT2;
}

/* The exponential codes of RFC 3376 4.1.1 (4 bits of mantissa) and RFC 3810 5.1.3 (12 bits). */
static uint32_t decode(uint32_t code, unsigned mantissa_bits)
{
    uint32_t mantissa = code & ((1u << mantissa_bits) - 1);
    unsigned exponent = code >> mantissa_bits & 7;

    if (code < 1u << (mantissa_bits + 3))
        return code;
    return (mantissa | 1u << mantissa_bits) << (exponent + 3);
}

/* A query for all groups goes to all nodes, or to one host by unicast (RFC 3376 9.1). */
static bool check_group(struct membership_message *m, const struct frame *f,
                        const struct address *all_nodes)
{
    if (!m->general)
        return address_is_multicast(&m->group);
    return !f->group || address_equal(&f->destination, all_nodes);
}

static bool read_query4(const struct frame *f, struct membership_message *m)
{
    static const uint8_t none[4];
    const uint8_t *p = f->payload;

    m->general = memcmp(p + 4, none, 4) == 0;
    m->response_ms = p[1] * IGMP_RESPONSE_MS;
    if (f->payload_bytes == IGMP_BYTES) {
        m->version = p[1] ? MEMBERSHIP_OLD : MEMBERSHIP_OLDEST;
        if (p[1] == 0)
            m->response_ms = IGMP1_RESPONSE_MS;
    } else {
        if (f->payload_bytes < IGMP_QUERY3_BYTES ||
            f->payload_bytes < IGMP_QUERY3_BYTES + load16(p + 10) * 4u)
            return false;
        m->version = MEMBERSHIP_CURRENT;
        m->response_ms = decode(p[1], 4) * IGMP_RESPONSE_MS;
    }
    return (f->router_alert || m->version == MEMBERSHIP_OLDEST) && check_group(m, f, &all_nodes4);
}

static bool read_query6(const struct frame *f, struct membership_message *m)
{
    const uint8_t *p = f->payload;

    m->general = address_is_unspecified(&m->group);
    m->response_ms = load16(p + 4);
    m->version = MEMBERSHIP_OLD;
    if (f->payload_bytes != MLD_BYTES) {
        if (f->payload_bytes < MLD_QUERY2_BYTES ||
            f->payload_bytes < MLD_QUERY2_BYTES + load16(p + 26) * 16u)
            return false;
        m->version = MEMBERSHIP_CURRENT;
        m->response_ms = decode(load16(p + 4), 12);
    }
    return check_group(m, f, &all_nodes6);
}

static struct membership_message read_igmp(const struct frame *f)
{
    struct membership_message m = {.kind = MEMBERSHIP_BAD};

    if (f->payload_bytes < IGMP_BYTES || f->hop_limit != 1 ||
        rte_raw_cksum(f->payload, f->payload_bytes) != 0xffff)
        return m;
    m.group = address_from_v4(f->payload + 4);
    switch (f->payload[0]) {
    case IGMP_QUERY:
        m.kind = read_query4(f, &m) ? MEMBERSHIP_QUERY : MEMBERSHIP_BAD;
        break;
    case IGMP_REPORT1:
    case IGMP_REPORT2:
        m.kind = MEMBERSHIP_REPORT;
        break;
    default:
        m.kind = MEMBERSHIP_UNNEEDED;
        break;
    }
    return m;
}

static struct membership_message read_mld(const struct frame *f)
{
    struct membership_message m = {.kind = MEMBERSHIP_BAD};

    if (f->payload_bytes < MLD_BYTES || f->hop_limit != 1 || !f->router_alert ||
        !address_is_link_local(&f->source) ||
        frame_icmp6_checksum(&f->source, &f->destination, f->payload, f->payload_bytes) != 0)
        return m;
    memcpy(m.group.bytes, f->payload + 8, 16);
    switch (f->payload[0]) {
    case MLD_QUERY:
        m.kind = read_query6(f, &m) ? MEMBERSHIP_QUERY : MEMBERSHIP_BAD;
        break;
    case MLD_REPORT1:
        m.kind = MEMBERSHIP_REPORT;
        break;
    default:
        m.kind = MEMBERSHIP_UNNEEDED;
        break;
    }
    return m;
}

struct membership_message membership_read(const struct frame *f)
{
    return address_is_v4(&f->destination) ? read_igmp(f) : read_mld(f);
}

/* ---- writing ---- */

/* The IPv4 header with the router alert option (RFC 2113), and TTL 1. */
static void put_ip4(uint8_t *at, const struct address *source, const struct address *destination,
                    uint16_t payload)
{
    static const uint8_t router_alert[] = {148, 4, 0, 0};
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)at;

    memset(ip, 0, sizeof(*ip));
    ip->version_ihl = 0x46;
    ip->type_of_service = IGMP_TOS;
    ip->total_length = rte_cpu_to_be_16((uint16_t)(IGMP_IP_HEADER + payload));
    ip->fragment_offset = rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG);
    ip->time_to_live = 1;
    ip->next_proto_id = IPPROTO_IGMP;
    memcpy(&ip->src_addr, source->bytes + 12, 4);
    memcpy(&ip->dst_addr, destination->bytes + 12, 4);
    memcpy(at + sizeof(*ip), router_alert, sizeof(router_alert));
    ip->hdr_checksum = (uint16_t)~rte_raw_cksum(at, IGMP_IP_HEADER);
}

/* The IPv6 header and a hop-by-hop header with the router alert option (RFC 2711) and PadN. */
static void put_ip6(uint8_t *at, const struct address *source, const struct address *destination,
                    uint16_t payload)
{
    static const uint8_t hop_by_hop[] = {IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0};

    frame_write_ip6(at, source, destination, (uint16_t)(sizeof(hop_by_hop) + payload),
                    IPPROTO_HOPOPTS, 1);
    memcpy(at + sizeof(struct rte_ipv6_hdr), hop_by_hop, sizeof(hop_by_hop));
}

/* Starts a frame; returns where the message goes, all zero, or NULL. */
static uint8_t *begin(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                      const struct address *source, const struct address *destination,
                      uint16_t bytes)
{
    bool v4 = address_is_v4(destination);
    struct rte_ether_addr mac = frame_group_mac(destination);
    uint16_t headers = v4 ? IGMP_IP_HEADER : MLD_IP_HEADERS;
    uint8_t *at = frame_begin(mbuf, interface, v4 ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6,
                              (uint16_t)(headers + bytes));

    if (!at)
        return NULL;
    frame_set_destination(mbuf, &mac);
    if (v4)
        put_ip4(at, source, destination, bytes);
    else
        put_ip6(at, source, destination, bytes);
    return memset(at + headers, 0, bytes);
}

/* The checksum is in the same place in both. */
static void finish(uint8_t *message, uint16_t bytes, const struct address *source,
                   const struct address *destination)
{
    uint16_t sum = address_is_v4(destination)
                       ? (uint16_t)~rte_raw_cksum(message, bytes)
                       : frame_icmp6_checksum(source, destination, message, bytes);

    memcpy(message + 2, &sum, sizeof(sum));
}

bool membership_write(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                      const struct address *source, enum membership_record record,
                      const struct address *groups, unsigned count)
{
    bool v4 = address_is_v4(&groups[0]);
    const struct address *destination = v4 ? &igmp3_routers : &mld2_routers;
    unsigned record_bytes = v4 ? IGMP_RECORD_BYTES : MLD_RECORD_BYTES;
    uint16_t bytes = (uint16_t)(REPORT_HEADER_BYTES + count * record_bytes);
    uint8_t *message = begin(mbuf, interface, source, destination, bytes), *at;

    if (!message)
        return false;
    message[0] = v4 ? IGMP_REPORT3 : MLD_REPORT2;
    message[7] = (uint8_t)count;
    at = message + REPORT_HEADER_BYTES;
    for (unsigned i = 0; i < count; i++, at += record_bytes) {
        at[0] = (uint8_t)record;
        memcpy(at + 4, groups[i].bytes + (v4 ? 12 : 0), v4 ? 4 : 16);
    }
    finish(message, bytes, source, destination);
    return true;
}

bool membership_write_old(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                          const struct address *source, enum membership_version version,
                          bool leaves, const struct address *group)
{
    bool v4 = address_is_v4(group);
    const struct address *routers = v4 ? &all_routers4 : &all_routers6;
    const struct address *destination = leaves ? routers : group;
    uint16_t bytes = v4 ? IGMP_BYTES : MLD_BYTES;
    uint8_t *message = begin(mbuf, interface, source, destination, bytes);

    if (!message)
        return false;
    if (v4) {
        uint8_t report = version == MEMBERSHIP_OLDEST ? IGMP_REPORT1 : IGMP_REPORT2;

        message[0] = leaves ? IGMP_LEAVE : report;
        memcpy(message + 4, group->bytes + 12, 4);
    } else {
        message[0] = leaves ? MLD_DONE : MLD_REPORT1;
        memcpy(message + 8, group->bytes, 16);
    }
    finish(message, bytes, source, destination);
    return true;
}
