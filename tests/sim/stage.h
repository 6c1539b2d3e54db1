/* What every world of the simulator stands on: virtual time, a network that loses, repeats, delays
 * and reorders, and the workers of a gateway with a configuration, which can be killed and started
 * again.
 *
 * A world embeds a struct stage as its first member, gives it a cast and lets it run. Everything
 * follows from the seed. One thread. */
#ifndef COAPGW_TESTS_SIM_STAGE_H
#define COAPGW_TESTS_SIM_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "dpdk/steer.h"
#include "gateway/random.h"
#include "gateway/session/journal.h"
#include "gateway/worker.h"

#define WORKERS_MAX   4
#define MESSAGE_BYTES 1472
#define SECOND        1000000ull
#define LIFETIME      (247 * SECOND)
#define START_US      (1000 * SECOND)
#define GATEWAY       "10.0.0.1"
#define STAGE_TELL_US 1000 /* by then all workers have heard what one has to tell them */
#define STAGE_LIVES   16   /* starts of one gateway, at the most */
#define STAGE_PARCELS 8191
#define STAGE_UNIX_S  UINT64_C(1800000000) /* the time of day of tickets */

struct credentials;
struct stage;
struct stage_event;

/* The others on the stage. All but `arrived` may be NULL. */
struct stage_cast {
    /* Every datagram that a worker emits, before the network has it. */
    void (*emitted)(struct stage *s, unsigned worker, const struct flow *flow, const uint8_t *data,
                    size_t length);
    /* Every datagram and ICMP error, just before it reaches a worker. */
    void (*delivered)(struct stage *s, unsigned worker, const struct flow *flow,
                      const uint8_t *data, size_t length, bool icmp);
    /* A datagram of a worker's has come to the other end of its flow. */
    void (*arrived)(struct stage *s, const struct flow *flow, const uint8_t *data, size_t length);
    /* The worker has taken it: what it said in return has been emitted. */
    void (*consumed)(struct stage *s, unsigned worker, const struct flow *flow, const uint8_t *data,
                     size_t length);
    /* A parcel for the store: as worker_io.tell() and room(). NULL: there is no store. */
    bool (*told)(struct stage *s, unsigned worker, struct parcel *parcel);
    unsigned (*room)(struct stage *s, unsigned worker);
    /* A parcel that one worker gives to another, as it is sent. */
    void (*handed)(struct stage *s, unsigned from, const struct parcel *parcel);
};

typedef void stage_call(struct stage *s, void *who, uint64_t what);

struct network {
    double loss, repeat; /* probabilities */
    uint32_t delay_min_us, delay_max_us;
};

struct stage {
    const char *scenario;
    uint64_t seed, now, order;
    bool trace, failed;
    bool deaths; /* peers vanish and gateways die: ICMP errors may be about what is settled */
    struct random random;
    struct network network;
    const struct stage_cast *cast;
    struct config *config;
    struct config
        *configs[STAGE_LIVES]; /* all that there have been: who watches points into them */
    unsigned life;             /* starts of the gateway */
    bool running;
    uint64_t
        clock_ahead_us; /* the workers' clock is so much ahead of `now`; only a start sets it */
    uint64_t mid_key;   /* the same for all lives; 0: random ones */
    uint64_t mid_life;  /* see worker_setup.life */
    bool forgetful[STAGE_LIVES];     /* lives whose message IDs may be those of another one */
    uint64_t number_floor;           /* see worker_setup */
    struct credentials *credentials; /* of this life; NULL: it has no DTLS */
    bool muted;                      /* what workers emit does not reach the network */
    bool journaled;                  /* there is a journal, which outlives the gateway */
    struct journal journal;
    void *journal_memory;
    size_t journal_bytes;
    unsigned ring_size; /* of the rings between workers */
    uint32_t ring_us;   /* how long a parcel takes between workers, at the most; 0: STAGE_TELL_US */
    struct post *post;  /* parcels between workers, see post.c */
    struct rte_mempool *parcels;
    struct steer *steer;
    unsigned worker_count;
    struct worker *workers[WORKERS_MAX];
    struct stage_side {
        struct stage *stage;
        unsigned index;
        bool open;
        uint64_t emitted, given;
        uint64_t icmp; /* errors about datagrams of its own */
        uint8_t buffer[MESSAGE_BYTES];
    } sides[WORKERS_MAX];
    struct stage_event **heap;
    unsigned heap_count, heap_room;
};

void stage_begin(struct stage *s, const char *scenario, uint64_t seed, bool trace,
                 const struct stage_cast *cast);

/* Loads the configuration and makes the workers that it wants; again after stage_kill(). False when
 * that fails. */
bool stage_open(struct stage *s, const char *yaml);

/* The process dies: nothing more is sent, and what is between workers is lost. What comes in
 * before stage_open() is lost, too. */
void stage_kill(struct stage *s);

/* The workers' time. */
static inline uint64_t stage_clock(const struct stage *s)
{
    return s->now + s->clock_ahead_us;
}

/* Frees all but `s` itself. */
void stage_end(struct stage *s);

/* Runs to `end` in virtual time, or until something has failed. */
void stage_run(struct stage *s, uint64_t end);

/* Notes a violation: the run ends. */
void stage_fail(struct stage *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A remark in the trace. */
void stage_note(const struct stage *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Through the network, after a pause. `flow` is as the gateway sees it. */
void stage_send(struct stage *s, uint64_t pause_us, const struct flow *flow, const void *data,
                size_t length);
void stage_icmp(struct stage *s, const struct flow *flow, const void *quoted, size_t length);

/* Reaches the gateway at a moment, whatever the network is like. */
void stage_deliver(struct stage *s, uint64_t at, const struct flow *flow, const void *data,
                   size_t length);

/* Reaches the gateway at once. */
void stage_receive(struct stage *s, const struct flow *flow, const void *data, size_t length);

/* Calls `call` then. There is no way to cancel it. */
void stage_at(struct stage *s, uint64_t at, stage_call *call, void *who, uint64_t what);

/* A parcel on its way to a worker, from another or from PARCEL_STORE: those from one reach another
 * in order, each up to `delay_us` behind the one before. It is taken over. */
void stage_hand(struct stage *s, unsigned from, unsigned to, struct parcel *parcel,
                uint32_t delay_us);

/* Parcels that nobody has given back. */
unsigned stage_parcels_out(const struct stage *s);

/* The worker to which a datagram of this flow comes. */
unsigned stage_owner(const struct stage *s, const struct flow *flow);

/* True with this probability. */
bool stage_chance(struct stage *s, double probability);

/* From 0 to `bound` - 1; `bound` is not 0. */
static inline uint32_t stage_below(struct stage *s, uint32_t bound)
{
    return random_below(&s->random, bound);
}

/* Every datagram was counted, every buffer given back, and every ICMP error noticed that must be.
 */
void stage_check_counts(struct stage *s);

/* Nothing is in use any more but what a cache may keep, and no parcel is under way. */
void stage_check_empty(struct stage *s);

/* ---- post.c, for stage.c ---- */

struct post *post_create(void);
/* Frees what is under way. */
void post_clear(struct stage *s);
/* The same, and itself. */
void post_destroy(struct stage *s);
/* As worker_io.room(), between workers. */
unsigned post_room(const struct stage *s, unsigned from, unsigned to);
/* The pool of all parcels: one for the process. */
struct rte_mempool *post_pool(void);

#endif
