/* Observers, many and fickle, of resources that change at servers that fail (RFC 7641).
 *
 *   observe.c           the world, its phases, what must hold at the end of each
 *   observe_source.c    servers
 *   observe_device.c    devices
 *   observe_judge.c     what passes between the gateway and its clients
 *   observe_upstream.c  what passes between the gateway and the servers */
#ifndef COAPGW_TESTS_SIM_OBSERVE_H
#define COAPGW_TESTS_SIM_OBSERVE_H

#include "tests/sim/fleet.h"

#define RESOURCES_MAX      6
#define SUBSCRIBERS_MAX    64 /* relations of one resource at its server */
#define WATCHINGS_MAX      2  /* of one device */
#define BODY_MAX           3000
#define SOURCE_CONFIRM_MAX 10 /* of so many notifications of a server at least one is a CON */
#define LAST_NON           8  /* notifications whose RST the gateway must understand */

/* A relation as its server sees it. */
struct subscriber {
    bool used, dirty;
    struct flow flow;
    uint8_t token[8];
    uint8_t token_length, szx;
    uint64_t con; /* cookie of the CON that is not acknowledged, or 0 */
    uint16_t last_non[LAST_NON];
    unsigned nons;
};

struct resource {
    uint32_t id;
    unsigned server;
    char path[32], query[24];
    uint32_t state;
    size_t min_length, max_length;
    bool etag, observable, gone;
    int64_t max_age; /* negative: not said */
    uint64_t change_every_us;
    struct subscriber subscribers[SUBSCRIBERS_MAX];
};

struct source {
    struct node node;
    unsigned index;
    uint8_t szx;
    unsigned confirm_every;
    uint32_t number; /* of the last notification, all resources together */
    uint64_t next_cookie;
};

enum leave { STAY, DEREGISTER, RESET, SILENT };

/* What a device thinks of one relation of its own. */
struct watching {
    struct device *device;
    struct resource *resource;
    struct caller registration, fetch;
    bool wanted, registered;
    bool has_number, has_state;
    uint32_t number, state;
    uint64_t number_at, heard_at;
    uint32_t max_age;
    uint8_t szx;      /* of the blocks that it likes; 7: does not say */
    struct etag etag; /* of what is being fetched */
    uint8_t body[BODY_MAX + 1024];
    size_t length;
};

struct observer {
    struct device device;
    struct watching watchings[WATCHINGS_MAX];
    unsigned count;
};

struct observe_judge;

struct observe_world {
    struct fleet fleet; /* the first member */
    unsigned confirm_every;
    bool calm;    /* nothing changes, nobody comes or goes */
    bool leaving; /* nobody comes any more */
    struct source sources[SERVERS_MAX];
    struct resource resources[RESOURCES_MAX];
    unsigned resource_count;
    struct observer *observers;
    unsigned observer_count;
    struct observe_judge *judge;
};

static inline struct observe_world *observe_world_of(struct stage *s)
{
    return (struct observe_world *)s;
}

/* NULL when there is none. */
struct resource *observe_find(struct observe_world *w, const struct message *request);

/* ---- observe_source.c ---- */

void source_init(struct observe_world *w, unsigned index);
/* Another state, and notifications of it. */
void source_change(struct observe_world *w, struct resource *r);
/* The resource disappears: its relations end with 4.04. */
void source_remove(struct observe_world *w, struct resource *r);
/* The server loses its relations and hears nothing. */
void source_crash(struct observe_world *w, unsigned index);
void source_restart(struct observe_world *w, unsigned index);
/* The body of the state that `state` names. Returns its length. */
size_t resource_body(const struct observe_world *w, const struct resource *r, uint32_t state,
                     uint8_t out[BODY_MAX]);
unsigned resource_subscribers(const struct resource *r);

/* ---- observe_device.c ---- */

void observer_init(struct observe_world *w, unsigned index);
void observer_leave(struct watching *g, enum leave how);
/* Each one that is still there has the last state. */
void observer_check(struct observe_world *w, const struct observer *o);

/* ---- observe_judge.c ---- */

struct observe_judge *observe_judge_create(struct observe_world *w);
void observe_judge_destroy(struct observe_judge *j);
extern const struct judge observe_judging;
/* How many relations a worker must have at least, and may have at the most. */
void observe_judge_count(struct observe_judge *j, unsigned worker, unsigned *least, unsigned *most);
/* What must hold when the last observer has left. */
void observe_judge_end(struct observe_judge *j);

/* ---- observe_upstream.c ---- */

struct upstream_judge;
struct upstream_judge *upstream_judge_create(struct observe_world *w);
void upstream_judge_destroy(struct upstream_judge *u);
void upstream_emitted(struct upstream_judge *u, const struct passing *p);
void upstream_delivered(struct upstream_judge *u, const struct passing *p);
/* The gateway has died, and its observations with it. */
void upstream_killed(struct upstream_judge *u);
/* After the last observer has left. */
void upstream_check_cancelled(struct upstream_judge *u);

#endif
