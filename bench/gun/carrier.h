/* What carries messages between the engine and the target: a DPDK device, or the kernel's sockets.
 *
 * Messages go in bursts. An outgoing one is written by the engine straight into the buffer that
 * reserve() gave; an incoming one is read where it was received, until release(). Endpoint e of the
 * options is the device with the address and port that the carrier gives it; the origin, where
 * there is one, is a party of its own.
 *
 * The engine's thread calls everything. */
#ifndef COAPGW_BENCH_GUN_CARRIER_H
#define COAPGW_BENCH_GUN_CARRIER_H

#include "bench/gun/gun.h"

#define CARRIER_BURST     64
#define CARRIER_MAX_BYTES 1472 /* of an outgoing message */

enum carrier_party { PARTY_DEVICE, PARTY_ORIGIN };

/* Whom the origin talks to. */
struct carrier_peer {
    struct address address;
    uint16_t port;
    uint8_t mac[6];
};

struct incoming {
    const uint8_t *data;
    uint32_t endpoint; /* PARTY_DEVICE */
    uint16_t length;
    uint8_t party;
    bool astray;                     /* PARTY_DEVICE: not from the target */
    const struct carrier_peer *peer; /* PARTY_ORIGIN; the carrier's, until release() */
};

struct outgoing {
    uint8_t *data; /* room for CARRIER_MAX_BYTES */
    void *buffer;  /* the carrier's */
    uint64_t sum;  /* of the message's 32-bit words as they stand in memory, where `summed` */
    uint32_t endpoint;
    uint16_t length;
    uint8_t party;
    bool summed;
    const struct carrier_peer *peer; /* PARTY_ORIGIN; the engine's, until send() */
};

struct carrier {
    /* Up to CARRIER_BURST messages. Each call is followed by release(). */
    unsigned (*receive)(struct carrier *c, struct incoming *in);
    void (*release)(struct carrier *c);
    /* Buffers for up to `n` messages: sets `data` and `buffer`. Returns how many there are. */
    unsigned (*reserve)(struct carrier *c, struct outgoing *out, unsigned n);
    /* Sends all `n`, which reserve() gave; returns how many could not be. */
    unsigned (*send)(struct carrier *c, struct outgoing *out, unsigned n);
    /* Nothing is to be done for so long: sleeps until then or until something comes, or not. */
    void (*wait)(struct carrier *c, uint64_t ns);
    void (*close)(struct carrier *c);
    bool uses_tsc; /* its time is the TSC's of DPDK, not the kernel's */
};

/* Whether a device is written as one that can be opened. */
bool carrier_dpdk_knows(const char *device);

/* Opens the device, gets its link up and the next hop's link address. `*out` is closed by its
 * close(). A negative errno; what is wrong has been said on stderr. */
int carrier_dpdk_open(const struct gun_options *o, struct carrier **out);
int carrier_kernel_open(const struct gun_options *o, struct carrier **out);

/* The address `index` places behind another, in its lowest 32 bits. */
static inline struct address carrier_address(const struct address *first, uint32_t index)
{
    struct address a = *first;
    uint32_t low = ((uint32_t)a.bytes[12] << 24 | (uint32_t)a.bytes[13] << 16 |
                    (uint32_t)a.bytes[14] << 8 | a.bytes[15]) +
                   index;

    a.bytes[12] = (uint8_t)(low >> 24);
    a.bytes[13] = (uint8_t)(low >> 16);
    a.bytes[14] = (uint8_t)(low >> 8);
    a.bytes[15] = (uint8_t)low;
    return a;
}

/* The lowest 32 bits of an address. */
static inline uint32_t carrier_low(const struct address *a)
{
    return (uint32_t)a->bytes[12] << 24 | (uint32_t)a->bytes[13] << 16 |
           (uint32_t)a->bytes[14] << 8 | a->bytes[15];
}

/* How many places `a` lies behind `first`; UINT32_MAX when it is before it or of another network.
 */
static inline uint32_t carrier_distance(const struct address *first, const struct address *a)
{
    uint32_t from = carrier_low(first), to = carrier_low(a);

    if (memcmp(first->bytes, a->bytes, 12) != 0 || to < from)
        return UINT32_MAX;
    return to - from;
}

#endif
