/* One worker: a shard of the gateway's sessions and all that hangs on them.
 *
 * A worker is a state machine. It opens no device, reads no clock and never blocks: it is given
 * datagrams and the time, and emits datagrams through the interface that it was created with. The
 * lcore loop drives it with mbufs and the TSC, the simulator with plain memory and virtual time.
 *
 * One thread drives a worker. Time is microseconds from one monotonic origin that all workers
 * share; when it goes back, it is treated as standing still. */
#ifndef COAPGW_GATEWAY_WORKER_H
#define COAPGW_GATEWAY_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "gateway/counters.h"
#include "gateway/datagram.h"
#include "gateway/random.h"

struct credentials;
struct journal;
struct modules;

struct worker_setup {
    const struct config *config;     /* shared by all workers, not changed while they run */
    struct modules *modules;         /* shared, too; NULL when no route is a module's */
    struct worker_io io;             /* copied */
    struct credentials *credentials; /* for DTLS: a reference that the worker takes over; NULL
                                        where the configuration has none */
    unsigned index, count;           /* this worker and how many there are */
    uint8_t seed[RANDOM_SEED_BYTES];
    uint64_t
        shared_key;   /* secret, the same for all workers: names of resources are hashed with it */
    uint64_t mid_key; /* secret, the same for all workers and after a restart, if it can be:
                         message IDs follow from it. 0: a random one */
    uint64_t life;    /* with a mid_key: one more than at any start before; 0: not known */
    uint64_t number_floor;         /* Observe numbers of before the start were not above this */
    const struct journal *journal; /* shared by all workers, outlives them; see session/journal.h.
                                      NULL: what was executed before a restart is not known */
};

struct worker;

/* NULL when memory is short (errno is set), or when a module does not start: errno is ECANCELED
 * then, and modules->failure says why. All memory is reserved here. rte_eal_init() must have been
 * called: modules are timed by its clock. */
struct worker *worker_create(const struct worker_setup *setup, uint64_t now);

/* Frees everything; sends nothing. */
void worker_destroy(struct worker *w);

/* Handles up to WORKER_BURST datagrams. Returns `n`: every datagram is consumed. */
unsigned worker_receive(struct worker *w, const struct datagram *burst, unsigned n, uint64_t now);

/* Fires due timers, a bounded number a call. Returns how many fired. */
unsigned worker_advance(struct worker *w, uint64_t now);

/* When worker_advance() has something to do next, in the same time; UINT64_MAX for never. */
uint64_t worker_next_us(const struct worker *w);

/* An ICMP error says that a datagram of ours did not arrive: destination unreachable other than
 * "fragmentation needed" (RFC 1122 3.2.2.1, RFC 4443 3.1). `quoted` is what it quotes of our UDP
 * payload; `length` may be 0. An exchange whose message ID is quoted, or any outstanding one of the
 * flow when none is, ends at once (RFC 7252 4.2). */
void worker_unreachable(struct worker *w, const struct flow *flow, const uint8_t *quoted,
                        size_t length, uint64_t now);

/* The answer to worker_io.resolve(). One whose question is not open any more is ignored. */
void worker_resolved(struct worker *w, const struct resolved *answer, uint64_t now);

/* What other workers said with worker_io.changed(). */
void worker_changed(struct worker *w, const uint64_t *uris, unsigned n, uint64_t now);

/* A parcel from another thread, see worker_io.tell(). It is consumed. */
void worker_told(struct worker *w, struct parcel *parcel, uint64_t now);

/* Some of that was lost: nothing that is stored can be trusted any more. Walks all of the cache. */
void worker_forget(struct worker *w, uint64_t now);

/* From now on new requests that need an origin are answered 5.03, so that what is in flight can
 * end. */
void worker_drain(struct worker *w);

/* True when no exchange is open: nothing waits for an origin, an ACK or a timer but idle sessions,
 * and pings to them. */
bool worker_is_quiet(const struct worker *w);

const struct counters *worker_counters(const struct worker *w);

/* The same, for the driver's own counters (COUNTERS_DEVICE). */
struct counters *worker_counters_mutable(struct worker *w);

/* How much of each bounded thing is in use: for metrics and for the test that nothing leaks. */
struct worker_usage {
    uint32_t sessions, sessions_max;
    uint32_t exchanges, exchanges_max;   /* requests of clients that are being worked on */
    uint32_t forwards, forwards_max;     /* requests at an origin */
    uint32_t outbound, outbound_max;     /* confirmable messages waiting for an ACK or for NSTART */
    uint32_t remembered, remembered_max; /* message IDs remembered for deduplication */
    uint32_t chunks, chunks_max;         /* message memory, in chunks of CHUNK_BYTES */
    uint32_t observations, observations_max;     /* resources observed at origins */
    uint32_t relations, relations_max;           /* observe relations of clients */
    uint32_t resources, resources_max;           /* held ones, all workers' */
    uint32_t transfers, transfers_max;           /* block-wise transfers with clients */
    uint64_t cache_bytes, cache_bytes_max;       /* what the cache holds */
    uint64_t assembly_bytes, assembly_bytes_max; /* bodies that are not in the cache */
    uint32_t destinations, destinations_max;     /* of the forward proxy */
    uint32_t async, async_max;                   /* requests that modules answer later */
    uint32_t associations, associations_max;     /* of DTLS */
    uint32_t handshakes, handshakes_max;         /* under way, or just done */
    uint64_t timers;                             /* armed ones */
};
void worker_usage(const struct worker *w, struct worker_usage *usage);

#endif
