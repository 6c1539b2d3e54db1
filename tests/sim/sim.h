/* A world of devices and origins of every kind, which looks at the messages: what is sent twice,
 * lost, broken or never answered. */
#ifndef COAPGW_TESTS_SIM_SIM_H
#define COAPGW_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/coap/message.h"
#include "tests/sim/stage.h"
#include "tests/sim/watch.h"

#define CLIENTS_MAX      150
#define ORIGINS_MAX      5
#define NOBODY           UINT32_MAX
#define UPSTREAM_TIMEOUT (93 * SECOND) /* MAX_TRANSMIT_WAIT, the default of `timeout` */

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
struct stage *world_stage(struct world *w);

/* Datagrams on their way, through the lossy network. `flow` is as the gateway sees it. */
void world_to_gateway(struct world *w, const struct flow *flow, const void *data, size_t length);
/* The same after a pause. */
void world_to_gateway_in(struct world *w, uint64_t us, const struct flow *flow, const void *data,
                         size_t length);
void world_icmp(struct world *w, const struct flow *flow, const void *quoted, size_t length);

/* Calls client_on_timer() then. */
void world_wake_client(struct world *w, uint32_t client, uint64_t at);

/* Notes a violation: the run ends. */
#define world_fail(w, ...) stage_fail(world_stage(w), __VA_ARGS__)

struct client *world_client(struct world *w, uint32_t index);
const struct origin *world_origin(const struct world *w, uint32_t index);

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

#endif
