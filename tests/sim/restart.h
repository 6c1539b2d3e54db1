/* Observers of a gateway that is killed and started again, with a store that keeps what it can
 * (PROTOCOL: what survives a restart; RFC 7641, RFC 7252 4.4).
 *
 *   restart.c          the world, its phases and its disasters
 *   restart_device.c   devices, which do not ask again by themselves
 *   restart_judge.c    what passes between the gateway and its clients, over all its lives
 *   vault.c            the store; observe_source.c has the servers */
#ifndef COAPGW_TESTS_SIM_RESTART_H
#define COAPGW_TESTS_SIM_RESTART_H

#include "tests/sim/observe.h"

#define INTERESTS_MAX 3 /* of one device */

/* What a device thinks of one relation of its own. */
struct interest {
    struct device *device;
    struct resource *resource;
    struct caller registration;
    bool wanted, registered;
    bool patient; /* it does not ask again when it hears nothing */
    bool has_number, has_state;
    uint32_t number, state;
    uint64_t number_at, heard_at;
};

struct watcher {
    struct device device;
    struct interest interests[INTERESTS_MAX];
    unsigned count;
    struct caller prober; /* plain requests */
    bool probing;
    unsigned probed_life; /* in which the last one was sent */
};

enum parting { PART_STAY, PART_CANCEL, PART_REJECT, PART_VANISH, PART_NAP };

struct restart_judge;

struct restart_world {
    struct observe_world base; /* the first member: servers and resources */
    struct vault vault;
    bool reject;  /* on_failure */
    bool calm;    /* nobody comes or goes, nothing breaks */
    bool hurried; /* parcels are scarce, or the ring is full: some records are refused */
    bool draining;
    bool bursts;      /* some lives end in a burst of notifications: */
    bool hasty;       /* this one */
    bool stormy;      /* resources change faster than the clock of Observe numbers, at times */
    unsigned stormed; /* changes in storms, in this life */
    bool lossy;       /* the network has lost something */
    struct parcel *hoard;
    unsigned hoarded;
    struct watcher *watchers;
    unsigned watcher_count;
    struct restart_judge *judge;
    unsigned lives, lives_left;
    uint64_t secret;     /* what message IDs follow from */
    uint64_t born_at;    /* when the gateway was started */
    uint64_t trouble_at; /* when records were last refused for lack of parcels, or of a ring */
};

static inline struct restart_world *restart_world_of(struct stage *s)
{
    return (struct restart_world *)s;
}

/* ---- restart_device.c ---- */

void watcher_init(struct restart_world *w, unsigned index);
void interest_part(struct interest *g, enum parting how);

/* ---- restart_judge.c ---- */

struct restart_judge *restart_judge_create(struct restart_world *w);
void restart_judge_destroy(struct restart_judge *j);
extern const struct judge restart_judging;

/* Before the gateway dies, while it runs; and before it starts again. */
void restart_judge_killed(struct restart_judge *j);
void restart_judge_born(struct restart_judge *j);
/* The store has lost its data: what the gateway has not read back is gone. */
void restart_judge_lost(struct restart_judge *j);

/* The process has ended in order: the store knows of all that has ended. */
void restart_judge_stopped(struct restart_judge *j);

/* All is quiet: each relation that is there for sure has the last state, each worker has as many as
 * it should, and the store has the same. */
void restart_judge_settled(struct restart_judge *j);

/* The last observer has left. */
void restart_judge_end(struct restart_judge *j);

#endif
