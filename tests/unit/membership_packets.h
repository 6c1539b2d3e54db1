/* IGMP and MLD messages in their frames, right or with one flaw, for unit tests. */
#ifndef COAPGW_TESTS_UNIT_MEMBERSHIP_PACKETS_H
#define COAPGW_TESTS_UNIT_MEMBERSHIP_PACKETS_H

#include "tests/unit/stack_harness.h"

#include "dpdk/membership_message.h"

/* What may be wrong with a message on its way. */
struct flaw {
    bool no_alert, sum;
    uint8_t ttl; /* 0: 1, as it should be */
};

/* An IGMP message in its frame; the checksum is filled in. Returns the length. */
static inline size_t igmp(uint8_t *out, const char *from, const char *to, const uint8_t *message,
                          size_t length, struct flaw flaw)
{
    static const uint8_t alert[] = {148, 4, 0, 0};
    struct address source = address_of(from), destination = address_of(to);
    struct rte_ether_addr mac = frame_group_mac(&destination);
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(out + 14);
    size_t header = flaw.no_alert ? 20 : 24;
    uint16_t sum;

    memset(out, 0, 60);
    memcpy(out, address_is_multicast(&destination) ? &mac : &our_mac, 6);
    memcpy(out + 6, &peer_mac, 6);
    out[12] = 8;
    ip->version_ihl = (uint8_t)(0x40 + header / 4);
    ip->total_length = rte_cpu_to_be_16((uint16_t)(header + length));
    ip->time_to_live = flaw.ttl ? flaw.ttl : 1;
    ip->next_proto_id = 2;
    memcpy(&ip->src_addr, source.bytes + 12, 4);
    memcpy(&ip->dst_addr, destination.bytes + 12, 4);
    if (!flaw.no_alert)
        memcpy(out + 34, alert, 4);
    ip->hdr_checksum = (uint16_t)~rte_raw_cksum(ip, header);
    memcpy(out + 14 + header, message, length);
    sum = (uint16_t)~rte_raw_cksum(message, length);
    sum = flaw.sum ? (uint16_t)(sum ^ 1) : sum;
    memcpy(out + 14 + header + 2, &sum, 2);
    return 14 + header + length;
}

/* An MLD message likewise. */
static inline size_t mld(uint8_t *out, const char *from, const char *to, const uint8_t *message,
                         size_t length, struct flaw flaw)
{
    static const uint8_t alert[] = {58, 0, 5, 2, 0, 0, 1, 0}, padding[] = {58, 0, 1, 4, 0, 0, 0, 0};
    struct address source = address_of(from), destination = address_of(to);
    struct rte_ether_addr mac = frame_group_mac(&destination);
    uint16_t sum;

    memset(out, 0, 100);
    memcpy(out, address_is_multicast(&destination) ? &mac : &our_mac, 6);
    memcpy(out + 6, &peer_mac, 6);
    out[12] = 0x86;
    out[13] = 0xdd;
    frame_write_ip6(out + 14, &source, &destination, (uint16_t)(8 + length), 0,
                    flaw.ttl ? flaw.ttl : 1);
    memcpy(out + 54, flaw.no_alert ? padding : alert, 8);
    memcpy(out + 62, message, length);
    sum = frame_icmp6_checksum(&source, &destination, out + 62, (uint16_t)length);
    sum = flaw.sum ? (uint16_t)(sum ^ 1) : sum;
    memcpy(out + 64, &sum, 2);
    return 62 + length;
}

#endif
