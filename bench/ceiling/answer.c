#include "bench/ceiling/answer.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_memcpy.h>
#include <rte_udp.h>

#include "gateway/coap/code.h"
#include "gateway/coap/message.h"
#include "gateway/coap/option.h"

#define MESSAGE_AT \
    (sizeof(struct rte_ether_hdr) + sizeof(struct rte_ipv4_hdr) + sizeof(struct rte_udp_hdr))
#define TIME_TO_LIVE 64
#define MAX_AGE_S    60
#define TEXT_PLAIN   0

static struct rte_ipv4_hdr *ip_of(const uint8_t *packet)
{
    return (struct rte_ipv4_hdr *)(uintptr_t)(packet + sizeof(struct rte_ether_hdr));
}

static struct rte_udp_hdr *udp_of(const uint8_t *packet)
{
    return (struct rte_udp_hdr *)(uintptr_t)(packet + MESSAGE_AT - sizeof(struct rte_udp_hdr));
}

int answer_make(struct answer *a, uint32_t address, uint16_t port, uint16_t payload)
{
    static const char hello[] = "hello world!";
    static const uint8_t etag[4] = {0xce, 0x11, 0x19, 0x60};
    uint8_t message[MESSAGE_HEADER_BYTES + ANSWER_TAIL_MAX], text[ANSWER_PAYLOAD_MAX];
    struct encoder e;
    size_t length;

    if (payload > ANSWER_PAYLOAD_MAX)
        return -EMSGSIZE;
    if (payload == sizeof(hello) - 1)
        memcpy(text, hello, payload);
    else
        memset(text, 'x', payload);
    encoder_begin(&e, message, sizeof(message), TYPE_ACK, CODE_CONTENT, 0, NULL, 0);
    encoder_option(&e, OPTION_ETAG, etag, sizeof(etag));
    encoder_uint(&e, OPTION_CONTENT_FORMAT, TEXT_PLAIN);
    encoder_uint(&e, OPTION_MAX_AGE, MAX_AGE_S);
    encoder_payload(&e, text, payload);
    length = encoder_end(&e);
    if (length == 0)
        return -EMSGSIZE;
    a->address = address;
    a->port = port;
    a->tail_length = (uint16_t)(length - MESSAGE_HEADER_BYTES);
    memcpy(a->tail, message + MESSAGE_HEADER_BYTES, a->tail_length);
    a->tail_sum = rte_raw_cksum(a->tail, a->tail_length);
    return 0;
}

bool answer_wanted(const struct answer *a, const uint8_t *packet, uint16_t length)
{
    const struct rte_ether_hdr *ether = (const struct rte_ether_hdr *)packet;
    const struct rte_ipv4_hdr *ip = ip_of(packet);
    const struct rte_udp_hdr *udp = udp_of(packet);
    const uint8_t *message = packet + MESSAGE_AT;
    unsigned total, bytes;

    if (length < MESSAGE_AT + MESSAGE_HEADER_BYTES ||
        ether->ether_type != RTE_BE16(RTE_ETHER_TYPE_IPV4) || ip->version_ihl != RTE_IPV4_VHL_DEF ||
        ip->next_proto_id != IPPROTO_UDP ||
        (ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) ||
        ip->dst_addr != a->address || udp->dst_port != a->port)
        return false;
    total = rte_be_to_cpu_16(ip->total_length);
    bytes = rte_be_to_cpu_16(udp->dgram_len);
    /* Version 1, CON and the token's length share the first byte (RFC 7252 3). */
    return total + sizeof(*ether) <= length && sizeof(*ip) + bytes == total &&
           (message[0] & 0xf0) == 0x40 && message[1] == CODE_GET && (message[0] & 0x0f) <= 8 &&
           sizeof(*udp) + MESSAGE_HEADER_BYTES + (message[0] & 0x0f) <= bytes;
}

/* ---- checksums: sums of 16-bit words in memory's byte order, RFC 1071 2 (B) ---- */

static uint16_t fold(uint32_t sum)
{
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)((sum >> 16) + sum);
}

static uint16_t word_at(const void *at)
{
    uint16_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

/* RFC 1624 3, eqn. 3: HC' = ~(~HC + ~m + m'). */
static uint16_t mend(uint16_t checksum, uint32_t before, uint32_t after)
{
    return (uint16_t)~fold((uint16_t)~checksum + (uint32_t)(uint16_t)~fold(before) + after);
}

/* A sum of bytes whose first one is the second of its word. */
static uint16_t at_odd(uint16_t sum, bool odd)
{
    return odd ? (uint16_t)(sum << 8 | sum >> 8) : sum;
}

/* ---- the answer ---- */

static void turn_around(uint8_t *packet)
{
    struct rte_ether_hdr *ether = (struct rte_ether_hdr *)packet;
    struct rte_ipv4_hdr *ip = ip_of(packet);
    struct rte_udp_hdr *udp = udp_of(packet);
    struct rte_ether_addr mac = ether->src_addr;
    rte_be32_t address = ip->src_addr;
    rte_be16_t port = udp->src_port;

    ether->src_addr = ether->dst_addr;
    ether->dst_addr = mac;
    ip->src_addr = ip->dst_addr;
    ip->dst_addr = address;
    udp->src_port = udp->dst_port;
    udp->dst_port = port;
}

static void set_ip_length(struct rte_ipv4_hdr *ip, rte_be16_t length)
{
    uint32_t before = (uint32_t)ip->total_length + word_at(&ip->time_to_live);

    ip->total_length = length;
    ip->time_to_live = TIME_TO_LIVE;
    ip->hdr_checksum =
        mend(ip->hdr_checksum, before, (uint32_t)length + word_at(&ip->time_to_live));
}

uint16_t answer_in_place(const struct answer *a, uint8_t *packet)
{
    struct rte_udp_hdr *udp = udp_of(packet);
    uint8_t *message = packet + MESSAGE_AT;
    unsigned token = message[0] & 0x0f, kept = MESSAGE_HEADER_BYTES + token;
    unsigned bytes = (unsigned)sizeof(*udp) + kept + a->tail_length;
    unsigned options = rte_be_to_cpu_16(udp->dgram_len) - (unsigned)sizeof(*udp) - kept;
    /* The length counts twice: in the pseudo header, too. */
    uint32_t before = 2u * udp->dgram_len + word_at(message) +
                      at_odd(rte_raw_cksum(message + kept, options), token & 1);

    turn_around(packet);
    message[0] = (uint8_t)(0x60 | token); /* an ACK */
    message[1] = CODE_CONTENT;
    udp->dgram_len = rte_cpu_to_be_16((uint16_t)bytes);
    rte_memcpy(message + kept, a->tail, a->tail_length);
    if (udp->dgram_cksum) { /* 0: the sender uses none (RFC 768) */
        udp->dgram_cksum =
            mend(udp->dgram_cksum, before,
                 2u * udp->dgram_len + word_at(message) + at_odd(a->tail_sum, token & 1));
        if (udp->dgram_cksum == 0)
            udp->dgram_cksum = 0xffff;
    }
    set_ip_length(ip_of(packet), rte_cpu_to_be_16((uint16_t)(sizeof(struct rte_ipv4_hdr) + bytes)));
    return (uint16_t)(MESSAGE_AT - sizeof(*udp) + bytes);
}
