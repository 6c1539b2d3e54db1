/* Addresses, endpoints and flows: how the gateway names who talks to whom.
 *
 * An address is always 16 bytes; IPv4 is held as ::ffff:a.b.c.d (RFC 4291 2.5.5.2), so that one key
 * and one comparison serve both families. Ports are in host byte order.
 *
 * The gateway's own addresses form one table (struct local_address), made from the configuration
 * before anything starts and never changed after. A flow names its local end by an index into it,
 * which stands for interface and address together.
 *
 * Pure functions and plain values: any thread may call them. */
#ifndef COAPGW_GATEWAY_NET_H
#define COAPGW_GATEWAY_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct address {
    uint8_t bytes[16];
};

struct endpoint {
    struct address address;
    uint16_t port;
};

enum transport {
    TRANSPORT_UDP = 0,
    TRANSPORT_DTLS, /* DTLS over UDP: coaps (RFC 7252 9.1) */
    TRANSPORT_COUNT
};

/* One of the gateway's own unicast addresses. */
struct local_address {
    struct address address;
    uint16_t interface; /* index into the configuration's interfaces */
    uint16_t mtu;       /* of the interface: the largest IP packet, in bytes */
    uint8_t prefix;     /* length of the subnet's prefix in bits of the family: 0-32 or 0-128 */
};

/* The two ends of a conversation: the key of a session. All 32 bytes are compared and hashed, so
 * `zero` must be zero: start from flow_make() or a zeroed struct. */
struct flow {
    struct address peer;
    uint16_t peer_port;
    uint16_t local_port;
    uint16_t local; /* index into the table of local addresses */
    uint8_t transport;
    uint8_t zero[9];
} __attribute__((aligned(8))); /* hashed as words */
_Static_assert(sizeof(struct flow) == 32, "hashed and compared as four words");

/* "[2001:db8::1]:65535" and the final zero, with a margin. */
#define ENDPOINT_TEXT_BYTES 56

/* Comparisons by words: these run several times for each packet, and a call of memcmp() costs more
 * than the comparison. */
static inline uint64_t net_word(const uint8_t *bytes)
{
    uint64_t word;

    memcpy(&word, bytes, sizeof(word));
    return word;
}

/* Four bytes in network order to an address. Written as two words, as it will be read: a word that
 * was written in parts cannot be read until they have left the store buffer. */
static inline struct address address_from_v4(const uint8_t bytes[4])
{
    static const uint8_t prefix[8] = {0, 0, 0xff, 0xff};
    struct address a = {{0}};
    uint64_t word;
    uint32_t low;

    memcpy(&low, bytes, sizeof(low));
    word = net_word(prefix);
    word |= __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? (uint64_t)low << 32 : low;
    memcpy(a.bytes + 8, &word, sizeof(word));
    return a;
}

static inline bool address_is_v4(const struct address *a)
{
    return (net_word(a->bytes) | (uint64_t)(a->bytes[8] | a->bytes[9])) == 0 &&
           (a->bytes[10] & a->bytes[11]) == 0xff;
}

static inline bool address_equal(const struct address *a, const struct address *b)
{
    return ((net_word(a->bytes) ^ net_word(b->bytes)) |
            (net_word(a->bytes + 8) ^ net_word(b->bytes + 8))) == 0;
}

static inline bool flow_equal(const struct flow *a, const struct flow *b)
{
    const uint8_t *x = (const uint8_t *)a, *y = (const uint8_t *)b;

    return ((net_word(x) ^ net_word(y)) | (net_word(x + 8) ^ net_word(y + 8)) |
            (net_word(x + 16) ^ net_word(y + 16)) | (net_word(x + 24) ^ net_word(y + 24))) == 0;
}

static inline void flow_set(struct flow *flow, uint16_t local, uint16_t local_port,
                            const struct address *peer, uint16_t peer_port,
                            enum transport transport)
{
    uint64_t first = net_word(peer->bytes), second = net_word(peer->bytes + 8);

    memset(flow, 0, sizeof(*flow));
    memcpy(flow->peer.bytes, &first, sizeof(first));
    memcpy(flow->peer.bytes + 8, &second, sizeof(second));
    flow->peer_port = peer_port;
    flow->local_port = local_port;
    flow->local = local;
    flow->transport = (uint8_t)transport;
}

static inline struct flow flow_make(uint16_t local, uint16_t local_port,
                                    const struct endpoint *peer, enum transport transport)
{
    struct flow flow;

    flow_set(&flow, local, local_port, &peer->address, peer->port, transport);
    return flow;
}

/* "udp" or "dtls": in records of the store, in what operators see. */
const char *transport_name(enum transport transport);

bool address_is_multicast(const struct address *a);
bool address_is_link_local(const struct address *a);
bool address_is_unspecified(const struct address *a);

/* True when the first `prefix` bits of the family are equal; addresses of different families never
 * match. */
bool address_in_subnet(const struct address *a, const struct address *subnet, unsigned prefix);

/* "10.0.0.1" or "2001:db8::1" (no brackets, no zone). 0, or -EINVAL. */
int address_parse(const char *text, struct address *out);

/* Writes the address, IPv6 without brackets. Returns `text`. */
const char *address_format(const struct address *a, char text[ENDPOINT_TEXT_BYTES]);

/* Writes "10.0.0.1:5683" or "[2001:db8::1]:5683". Returns `text`. */
const char *endpoint_format(const struct address *a, uint16_t port, char text[ENDPOINT_TEXT_BYTES]);

#endif
