/* Which worker owns a flow. One function decides, and everything uses it: the queues of a NIC with
 * RSS, the hand-over between workers in software, sessions that are restored, and the choice of
 * upstream ports.
 *
 *   - A packet to one of our upstream ports belongs to the worker whose block the port is in:
 *     owner = (port - base) >> shift.
 *   - Any other packet belongs to reta[toeplitz(source address, destination address, source port,
 *     destination port) % reta_size], with a secret key, as a NIC with RSS computes it.
 *   - Packets without ports (fragments, ICMP) have no owner by this function: see stack.h.
 *
 * The key follows from the service's secret. Where a store has that, it is the same after a
 * restart, and a flow finds the worker that it had, as long as there are as many workers and the
 * NIC's table has the same size: what belongs to a flow and is read back goes there.
 *
 * A steer is made once at start and read by all workers; nothing in it changes afterwards. */
#ifndef COAPGW_DPDK_STEER_H
#define COAPGW_DPDK_STEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/net.h"

#define STEER_KEY_BYTES                                                      \
    52 /* the longest of the NICs DPDK knows; shorter ones use its beginning \
        */
#define STEER_RETA_MAX 512

/* A UDP packet as it comes in: source is the peer, destination is ours. Host byte order ports. */
struct steer_tuple {
    struct address source, destination;
    uint16_t source_port, destination_port;
};

struct steer_setup {
    unsigned workers;              /* 1 to CONFIG_WORKERS_MAX */
    uint16_t port_base;            /* first upstream port */
    uint8_t port_shift;            /* a block has 1 << shift ports */
    uint16_t reta_size;            /* a power of two, 64 to STEER_RETA_MAX */
    uint8_t seed[STEER_KEY_BYTES]; /* secret; the key is derived from it, the same for the same
                                      workers and size */
};

#define STEER_SECRET_BYTES 16

/* The seed that follows from the service's secret. 0, or -EIO: OpenSSL fails. */
int steer_seed(const uint8_t secret[STEER_SECRET_BYTES], uint8_t seed[STEER_KEY_BYTES]);

struct steer;

/* Reseeds DPDK's generator of random numbers: to be called before anything runs that needs them.
 * NULL with errno set: EINVAL when the blocks do not fit below port 65,536. */
struct steer *steer_create(const struct steer_setup *setup);
void steer_destroy(struct steer *steer);

unsigned steer_worker_of(const struct steer *steer, const struct steer_tuple *tuple);

/* The same when the NIC has computed the Toeplitz hash already (RTE_MBUF_F_RX_RSS_HASH). */
unsigned steer_worker_of_hash(const struct steer *steer, uint16_t destination_port, uint32_t hash);

/* The owner by the port alone: true and the worker when `port` is an upstream port. */
bool steer_port_owner(const struct steer *steer, uint16_t port, unsigned *worker);

/* The hash of a tuple in software, and what NICs are programmed with so that they agree. */
uint32_t steer_hash(const struct steer *steer, const struct steer_tuple *tuple);
const uint8_t *steer_key(const struct steer *steer);
uint16_t steer_reta_size(const struct steer *steer);
unsigned steer_reta(const struct steer *steer, uint16_t index); /* the worker of an entry */

/* The n-th port (n from 0) of `worker` for replies from `server` to `local`: inside the worker's
 * block, first those whose reply also hashes to one of the worker's own RETA entries, then the
 * others. 0 when n is past the end of the block. Deterministic. */
uint16_t steer_upstream_port(struct steer *steer, unsigned worker, const struct address *local,
                             const struct endpoint *server, unsigned n);

#endif
