#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define TRAFFIC_MAX (1500 * SECOND) /* by then every client is at its end */
#define DRAIN_US    (1200 * SECOND) /* EXCHANGE_LIFETIME, idle sessions, and what they wait for */

struct world {
    struct stage stage; /* the first member: the cast gets a pointer to it */
    struct profile profile;
    struct client clients[CLIENTS_MAX];
    struct origin origins[ORIGINS_MAX];
    struct origins *memory;
    struct watch *watch;
};

/* ---- small things ---- */

static struct world *world_of(struct stage *s)
{
    return (struct world *)s;
}

uint64_t world_now(const struct world *w)
{
    return w->stage.now;
}

struct random *world_random(struct world *w)
{
    return &w->stage.random;
}

const struct profile *world_profile(const struct world *w)
{
    return &w->profile;
}

struct stage *world_stage(struct world *w)
{
    return &w->stage;
}

struct client *world_client(struct world *w, uint32_t index)
{
    return &w->clients[index];
}

const struct origin *world_origin(const struct world *w, uint32_t index)
{
    return &w->origins[index];
}

static uint32_t origin_of(const struct world *w, const struct flow *flow)
{
    for (uint32_t i = 0; i < w->profile.origins; i++)
        if (address_equal(&w->origins[i].endpoint.address, &flow->peer))
            return i;
    return NOBODY;
}

enum behaviour behaviour_of(const struct world *w, uint32_t id)
{
    uint64_t x = (id + 1) * 0x9e3779b97f4a7c15u ^ w->stage.seed * 0xd1b54a32d192ed03u;

    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 32;
    /* Half of the requests are answered at once; the rest is shared by all. */
    return x & 1 ? PIGGYBACKED : (enum behaviour)((x >> 1) % BEHAVIOURS);
}

static void wake(struct stage *s, void *who, uint64_t what)
{
    (void)who;
    client_on_timer(world_of(s), (uint32_t)what);
}

void world_wake_client(struct world *w, uint32_t client, uint64_t at)
{
    stage_at(&w->stage, at, wake, NULL, client);
}

void world_to_gateway(struct world *w, const struct flow *flow, const void *data, size_t length)
{
    stage_send(&w->stage, 0, flow, data, length);
}

void world_to_gateway_in(struct world *w, uint64_t us, const struct flow *flow, const void *data,
                         size_t length)
{
    stage_send(&w->stage, us, flow, data, length);
}

void world_icmp(struct world *w, const struct flow *flow, const void *quoted, size_t length)
{
    stage_icmp(&w->stage, flow, quoted, length);
}

/* ---- what happens ---- */

static void emitted(struct stage *s, unsigned worker, const struct flow *flow, const uint8_t *data,
                    size_t length)
{
    watch_emitted(world_of(s)->watch, worker, flow, data, length);
}

static void delivered(struct stage *s, unsigned worker, const struct flow *flow,
                      const uint8_t *data, size_t length, bool icmp)
{
    watch_delivered(world_of(s)->watch, worker, flow, data, length, icmp);
}

static uint32_t client_of(const struct world *w, const struct flow *flow)
{
    for (uint32_t i = 0; i < w->profile.clients; i++)
        if (flow_equal(&w->clients[i].flow, flow))
            return i;
    return NOBODY;
}

static void arrived(struct stage *s, const struct flow *flow, const uint8_t *data, size_t length)
{
    struct world *w = world_of(s);
    uint32_t origin = origin_of(w, flow), client;

    if (origin != NOBODY) {
        origin_receive(w, w->memory, origin, flow, data, length);
        return;
    }
    client = client_of(w, flow);
    if (client == NOBODY)
        stage_fail(s, "an answer from an endpoint that was not asked, or to nobody");
    else
        client_receive(w, client, data, length);
}

static const struct stage_cast cast = {
    .emitted = emitted, .delivered = delivered, .arrived = arrived};

static bool is_upstream(struct stage *s, const struct flow *flow)
{
    return origin_of(world_of(s), flow) != NOBODY;
}

static uint64_t given_up_from(struct stage *s, const struct message *request)
{
    uint32_t id = origin_id_of(request);

    return id == NOBODY ? s->now : client_begun_at(world_of(s), id) + UPSTREAM_TIMEOUT;
}

/* ---- start ---- */

static void draw_profile(struct world *w)
{
    static const double losses[] = {0, 0, 0.05, 0.2, 0.4};
    static const uint16_t nstarts[] = {1, 2, 8, 64};
    struct profile *p = &w->profile;
    struct network *n = &w->stage.network;
    struct random *r = &w->stage.random;

    n->loss = losses[random_below(r, 5)];
    n->repeat = random_below(r, 2) ? 0.1 : 0;
    n->delay_min_us = 100;
    n->delay_max_us = random_below(r, 3) ? 20000 : 400000;
    p->workers = 1 + random_below(r, WORKERS_MAX);
    p->clients =
        random_below(r, 4) ? 1 + random_below(r, 20) : 20 + random_below(r, CLIENTS_MAX - 20);
    p->origins = 1 + random_below(r, 3);
    p->nstart = nstarts[random_below(r, 4)];
    p->reliable = random_below(r, 4) != 0;
    p->small_limits = random_below(r, 4) == 0;
    p->hostile = random_below(r, 3) == 0;
    p->dead_origin = p->origins > 1 && random_below(r, 4) == 0;
    p->requests = 1 + random_below(r, 6);
}

/* Without loss and delay, an answer may still be late where a queue of NSTART has silent ones
 * before it. */
static bool open_gateway(struct world *w)
{
    const struct profile *p = &w->profile;
    char yaml[2048], servers[256] = "";

    for (unsigned i = 0; i < p->origins; i++)
        snprintf(servers + strlen(servers), sizeof(servers) - strlen(servers), "%scoap://10.0.9.%u",
                 i ? ", " : "", i + 1);
    snprintf(yaml, sizeof(yaml),
             "workers: %u\n"
             "interfaces:\n"
             "  - {name: s, device: \"tap:s0\", addresses: [10.0.0.1/8]}\n"
             "listeners:\n"
             "  - uri: coap://10.0.0.1\n"
             "upstreams:\n"
             "  - {name: a, servers: [%s], balance: %s, reliable: %s, "
             "transmission: {nstart: %u}}\n"
             "  - {name: n, servers: [%s], reliable: false, transmission: {nstart: %u}}\n"
             "routes:\n"
             "  - {path: /hello, respond: {payload: \"hello world!\"}}\n"
             "  - {path: /, to: a}\n"
             "  - {path: /n, to: n}\n"
             "limits: {sessions: %u, exchanges: %u, outbound: %u, remembered: %u, queue: %u, "
             "message_memory: %s}\n",
             p->workers, servers, random_below(&w->stage.random, 2) ? "hash" : "round_robin",
             p->reliable ? "true" : "false", p->nstart, servers, p->nstart,
             p->small_limits ? 24 : 2000, p->small_limits ? 16 : 2000, p->small_limits ? 16 : 2000,
             p->small_limits ? 32 : 20000, p->small_limits ? 2 : 1000,
             p->small_limits ? "64KiB" : "1MiB");
    return stage_open(&w->stage, yaml);
}

static void make_peers(struct world *w)
{
    for (uint32_t i = 0; i < w->profile.origins; i++) {
        uint8_t ip[4] = {10, 0, 9, (uint8_t)(i + 1)};

        w->origins[i].endpoint = (struct endpoint){address_from_v4(ip), 5683};
        w->origins[i].dead = w->profile.dead_origin && i == w->profile.origins - 1;
    }
    for (uint32_t i = 0; i < w->profile.clients; i++) {
        uint8_t ip[4] = {10, 1, (uint8_t)(i / 8), (uint8_t)(1 + i % 8)};
        struct endpoint peer = {address_from_v4(ip), (uint16_t)(40000 + i)};

        w->clients[i].flow = flow_make(0, 5683, &peer, TRANSPORT_UDP);
        client_init(w, i);
    }
}

/* Garbage on the clients' and the origins' flows, all over the first minutes. */
static void throw_garbage(struct world *w)
{
    for (unsigned i = 0; w->profile.hostile && i < 300; i++) {
        uint8_t bytes[64];
        size_t length = random_below(&w->stage.random, sizeof(bytes));
        struct flow flow = w->clients[random_below(&w->stage.random, w->profile.clients)].flow;

        for (size_t k = 0; k < length; k++)
            bytes[k] = (uint8_t)random_u64(&w->stage.random);
        if (length)
            bytes[0] = (uint8_t)(0x40 | (bytes[0] & 0x3f)); /* version 1: reaches further */
        if (length > 1 && random_below(&w->stage.random, 2))
            bytes[1] = 0xe0; /* a reserved class */
        if (length > 1 && code_is_request(bytes[1]))
            bytes[1] = CODE_CONTENT; /* not a request: nobody waits for its answer */
        if (random_below(&w->stage.random, 4) == 0) {
            flow.peer = w->origins[0].endpoint.address;
            flow.peer_port = 5683;
            flow.local_port = (uint16_t)(32768 + random_below(&w->stage.random, 200));
        }
        stage_deliver(&w->stage, w->stage.now + random_below(&w->stage.random, 200 * SECOND), &flow,
                      bytes, length);
    }
}

/* ---- the run ---- */

static void run(struct world *w)
{
    struct watch_rules rules = {is_upstream, &w->stage.config->upstreams[0].transmission,
                                &w->stage.config->listeners[0].transmission, given_up_from};

    w->watch = watch_create(&w->stage, &rules);
    make_peers(w);
    throw_garbage(w);
    stage_run(&w->stage, START_US + TRAFFIC_MAX);
    /* Some clients may still be patient; then silence until all is forgotten. A server that is down
     * would be asked for ever whether it is back. */
    for (uint32_t i = 0; i < w->profile.origins; i++)
        w->origins[i].dead = false;
    stage_run(&w->stage, w->stage.now + DRAIN_US);
    if (!w->stage.failed)
        stage_check_empty(&w->stage);
    if (!w->stage.failed)
        stage_check_counts(&w->stage);
    for (uint32_t i = 0; !w->stage.failed && i < w->profile.clients; i++)
        client_check(w, i);
}

int world_run(uint64_t seed, bool trace)
{
    struct world *w = calloc(1, sizeof(*w));
    bool failed;

    stage_begin(&w->stage, "messages", seed, trace, &cast);
    w->memory = origins_create();
    draw_profile(w);
    if (open_gateway(w))
        run(w);
    else
        stage_fail(&w->stage, "it cannot be set up");
    failed = w->stage.failed;
    origins_destroy(w->memory);
    watch_destroy(w->watch);
    stage_end(&w->stage);
    free(w);
    return failed;
}
