/* The simulator: whole workers, clients and origins in virtual time, over a network that loses,
 * repeats, delays and reorders. Everything follows from a seed, so that a failing run can be
 * replayed.
 *
 *   sim.c     command line, seeds, processes
 *   world.c   time, the network, the workers
 *   client.c  devices: their own message layer, written from RFC 7252
 *   origin.c  origin servers, well-behaved and otherwise
 *   watch.c   looks at every datagram that the gateway emits
 *
 * One thread; a world lives for one seed. */
#ifndef COAPGW_TESTS_SIM_SIM_H
#define COAPGW_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "dpdk/steer.h"
#include "gateway/coap/message.h"
#include "gateway/random.h"
#include "gateway/worker.h"

#define WORKERS_MAX   4
#define CLIENTS_MAX   150
#define ORIGINS_MAX   5
#define MESSAGE_BYTES 1472
#define SECOND        1000000ull
#define LIFETIME      (247 * SECOND)
#define NOBODY        UINT32_MAX

/* What an origin does with a request: a hash of the request's id says which, so that the client
 * knows what to expect. */
enum behaviour {
    PIGGYBACKED,
    SEPARATE_CON,
    SEPARATE_NON,
    SLOW,        /* separate, after seconds */
    SILENT,      /* 5.04 */
    RESETS,      /* 5.02 */
    MALFORMED,   /* 5.02 when the request is a CON, 5.04 otherwise */
    UNSAFE,      /* 5.02: an option that must not be forwarded */
    WRONG_TOKEN, /* 5.04 */
    BEHAVIOURS
};

struct profile {
    double loss, repeat;
    uint32_t delay_min_us, delay_max_us;
    bool small_limits; /* 5.03 may come */
    bool hostile;      /* garbage is thrown in */
    unsigned workers, clients, origins;
    uint16_t nstart;
    bool reliable;
    bool dead_origin;  /* the last origin: ICMP for everything */
    unsigned requests; /* of each client */
};

/* A request of a client. */
struct ask {
    uint32_t id;
    uint8_t method, type;
    bool local; /* /hello, answered by the gateway itself */
    uint16_t mid;
    uint8_t token[8];
    uint8_t bytes[128];
    uint16_t length;
    unsigned sends;
    uint64_t timeout, next_at; /* retransmission; 0: none */
    uint64_t begun_at, give_up_at;
    bool acked, done, gave_up;
    uint8_t code; /* of the answer */
    uint64_t answer_hash;
};

struct client {
    struct flow flow; /* as the gateway sees it */
    uint16_t next_mid;
    unsigned left; /* requests still to come */
    uint64_t start_at;
    struct ask ask;
    bool asking;
    struct ask before;      /* the last one: late repetitions of its answer come in */
    uint16_t seen_mids[16]; /* of CON responses, to acknowledge repetitions */
    unsigned seen;
};

struct origin {
    struct endpoint endpoint;
    bool dead;
};

struct world;

/* ---- world.c ---- */

/* Runs one seed. 0, or 1 with the violation on stderr. */
int world_run(uint64_t seed, bool trace);

uint64_t world_now(const struct world *w);
struct random *world_random(struct world *w);
const struct profile *world_profile(const struct world *w);
const struct config *world_config(const struct world *w);

/* Datagrams on their way, through the lossy network. `flow` is as the gateway sees it. */
void world_to_gateway(struct world *w, const struct flow *flow, const void *data, size_t length);
/* The same after a pause. */
void world_to_gateway_in(struct world *w, uint64_t us, const struct flow *flow, const void *data,
                         size_t length);
void world_icmp(struct world *w, const struct flow *flow, const void *quoted, size_t length);

/* Calls client_on_timer() then. */
void world_wake_client(struct world *w, uint32_t client, uint64_t at);

/* Notes a violation: the run ends. */
void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct client *world_client(struct world *w, uint32_t index);
const struct origin *world_origin(const struct world *w, uint32_t index);
uint32_t world_origin_of(const struct world *w, const struct flow *flow); /* or NOBODY */

/* How often an origin has executed a request. */
unsigned world_executed(struct world *w, uint32_t id);

enum behaviour behaviour_of(const struct world *w, uint32_t id);

/* ---- client.c ---- */

void client_init(struct world *w, uint32_t index);
void client_on_timer(struct world *w, uint32_t index);
/* When the client of a request first sent it. */
uint64_t client_begun_at(struct world *w, uint32_t id);
void client_receive(struct world *w, uint32_t index, const uint8_t *data, size_t length);
/* After all has ended. */
void client_check(struct world *w, uint32_t index);

/* ---- origin.c ---- */

struct origins; /* what all origins remember */
struct origins *origins_create(void);
void origins_destroy(struct origins *o);
void origin_receive(struct world *w, struct origins *o, uint32_t index, const struct flow *flow,
                    const uint8_t *data, size_t length);
/* The id that a request carries, NOBODY when it has none. */
uint32_t origin_id_of(const struct message *request);
unsigned origins_executed(const struct origins *o, uint32_t id);

/* ---- watch.c ---- */

struct watch;
struct watch *watch_create(void);
void watch_destroy(struct watch *watch);
/* Every datagram that a worker emits, before the network has it. */
void watch_emitted(struct world *w, struct watch *watch, unsigned worker, const struct flow *flow,
                   const uint8_t *data, size_t length);
/* Every datagram and ICMP error from an origin that reaches a worker. */
void watch_delivered(struct world *w, struct watch *watch, const struct flow *flow,
                     const uint8_t *data, size_t length, bool icmp);

#endif
