/* Devices that make, change, remove, read and observe what the gateway itself holds, all at a time
 * and through several workers, whose rings are slow, narrow or out of parcels; with and without a
 * store, and with a process that dies.
 *
 *   resources.c         the world: devices and phases
 *   resources_judge.c   what was done in which order, and who may see what of it */
#ifndef COAPGW_TESTS_SIM_RESOURCES_H
#define COAPGW_TESTS_SIM_RESOURCES_H

#include "tests/sim/fleet.h"

#define HELD_MAX   4
#define WRITES_MAX 16384

struct resources_judge;

/* Something that devices write to: "/shared/N". */
struct held {
    uint32_t id;
    char path[24];
};

struct member {
    struct device device;
    struct caller writer, reader, registration;
    struct held *observed;
    bool wanted, registered;
    uint32_t state; /* the write that made what it has been told last; 0: there is nothing */
    bool has_number;
    uint32_t number;
    uint64_t number_at, heard_at;
    uint8_t body[256];
    struct {
        uint32_t state;
        struct etag etag;
    } known[HELD_MAX]; /* what it has last seen of each */
    unsigned checked;  /* resources that it has read in the end */
};

struct resources_world {
    struct fleet fleet; /* the first member */
    struct vault vault;
    bool stored, reject;
    bool scarce; /* a ring, or the pool, has been too small at times: 5.03 may come */
    bool slow;   /* writes are rare */
    bool calm, ending;
    struct held held[HELD_MAX];
    unsigned held_count;
    struct member *members;
    unsigned member_count;
    uint32_t last_write;
    struct parcel *hoard;
    unsigned hoarded;
    struct resources_judge *judge;
};

static inline struct resources_world *resources_world_of(struct stage *s)
{
    return (struct resources_world *)s;
}

/* NULL when there is none. */
struct held *resources_find(struct resources_world *w, const char *path);

/* ---- resources_judge.c ---- */

struct resources_judge *resources_judge_create(struct resources_world *w);
void resources_judge_destroy(struct resources_judge *j);
extern const struct judge resources_judging;
void resources_judge_handed(struct fleet *f, unsigned from, const struct parcel *parcel);
/* Before the gateway dies, and when it has been started again. */
void resources_judge_killed(struct resources_judge *j);
void resources_judge_born(struct resources_judge *j);
/* The write that made the last state; 0: it was removed, or never there. */
uint32_t resources_judge_last(const struct resources_judge *j, const struct held *held);

#endif
