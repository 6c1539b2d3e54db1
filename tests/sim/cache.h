/* Devices that ask for the same things and for almost the same, of a server where they change, and
 * change them: RFC 7252 5.6 and 5.4.2.
 *
 *   cache.c         the world: the server, the devices
 *   cache_judge.c   whose answer it is, how old, and whether it had to be fetched */
#ifndef COAPGW_TESTS_SIM_CACHE_H
#define COAPGW_TESTS_SIM_CACHE_H

#include "tests/sim/fleet.h"

#define TARGETS_MAX 8 /* paths with a query */

struct target {
    char path[32], query[24];
    uint32_t version;
    bool etag;
    int64_t max_age; /* negative: not said */
};

struct cache_judge;

struct cache_world {
    struct fleet fleet; /* the first member */
    struct node server;
    struct target targets[TARGETS_MAX];
    unsigned target_count;
    unsigned accepts, safes, payloads; /* so many values of each are asked for */
    struct asker *askers;
    unsigned asker_count;
    uint32_t next_id;
    uint8_t *executed; /* by the id of an unsafe request */
    struct cache_judge *judge;
};

/* What a request asks for: equal only where the cache key is (method, URI, options, and the payload
 * of a FETCH). Never 0. */
uint32_t cache_key(const struct message *m);

/* The index of what a request's URI names, or -1. */
int cache_target(const struct cache_world *w, const struct message *m);

struct cache_judge *cache_judge_create(struct cache_world *w);
void cache_judge_destroy(struct cache_judge *j);
extern const struct judge cache_judging;

#endif
