#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_random.h>

#include "tests/sim/sim.h"

#define EVENTS_MAX  200000
#define START_US    (1000 * SECOND)
#define TRAFFIC_MAX (1500 * SECOND) /* by then every client is at its end */
#define DRAIN_US    (1200 * SECOND) /* EXCHANGE_LIFETIME, idle sessions, and what they wait for */

enum kind { TO_GATEWAY, TO_PEER, ICMP, WAKE };

struct event {
    uint64_t at, order; /* what is due at the same time keeps its order */
    enum kind kind;
    uint32_t client; /* WAKE */
    struct flow flow;
    uint16_t length;
    uint8_t *data;
};

struct world {
    uint64_t seed, now, order;
    bool trace, failed;
    struct random random;
    struct profile profile;
    struct config *config;
    struct steer *steer;
    struct worker *workers[WORKERS_MAX];
    struct worker_side {
        struct world *world;
        unsigned index;
        bool open;
        uint64_t emitted, given;
        uint64_t icmp; /* errors about requests of its own */
        uint8_t buffer[MESSAGE_BYTES];
    } sides[WORKERS_MAX];
    struct client clients[CLIENTS_MAX];
    struct origin origins[ORIGINS_MAX];
    struct origins *memory;
    struct watch *watch;
    struct event *heap[EVENTS_MAX];
    unsigned heap_count;
};

/* ---- small things ---- */

uint64_t world_now(const struct world *w)
{
    return w->now;
}

struct random *world_random(struct world *w)
{
    return &w->random;
}

const struct profile *world_profile(const struct world *w)
{
    return &w->profile;
}

const struct config *world_config(const struct world *w)
{
    return w->config;
}

struct client *world_client(struct world *w, uint32_t index)
{
    return &w->clients[index];
}

const struct origin *world_origin(const struct world *w, uint32_t index)
{
    return &w->origins[index];
}

unsigned world_executed(struct world *w, uint32_t id)
{
    return origins_executed(w->memory, id);
}

uint32_t world_origin_of(const struct world *w, const struct flow *flow)
{
    for (uint32_t i = 0; i < w->profile.origins; i++)
        if (address_equal(&w->origins[i].endpoint.address, &flow->peer))
            return i;
    return NOBODY;
}

enum behaviour behaviour_of(const struct world *w, uint32_t id)
{
    uint64_t x = (id + 1) * 0x9e3779b97f4a7c15u ^ w->seed * 0xd1b54a32d192ed03u;

    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 32;
    /* Half of the requests are answered at once; the rest is shared by all. */
    return x & 1 ? PIGGYBACKED : (enum behaviour)((x >> 1) % BEHAVIOURS);
}

void world_fail(struct world *w, const char *format, ...)
{
    va_list values;

    if (!w->failed) {
        fprintf(stderr, "seed %llu at %.6f s: ", (unsigned long long)w->seed,
                (double)(w->now - START_US) / 1e6);
        va_start(values, format);
        vfprintf(stderr, format, values);
        va_end(values);
        fprintf(stderr, " (replay: sim --seed %llu --trace)\n", (unsigned long long)w->seed);
    }
    w->failed = true;
}

static void trace(const struct world *w, const char *what, const struct flow *flow,
                  const uint8_t *data, size_t length)
{
    static const char *const types[] = {"CON", "NON", "ACK", "RST"};
    char peer[ENDPOINT_TEXT_BYTES];

    if (!w->trace)
        return;
    printf("%12.6f %-9s %-22s port %u", (double)(w->now - START_US) / 1e6, what,
           endpoint_format(&flow->peer, flow->peer_port, peer), flow->local_port);
    if (length >= 4)
        printf(" %s %u.%02u mid %u token %02x%02x", types[data[0] >> 4 & 3], data[1] >> 5,
               data[1] & 31, data[2] << 8 | data[3], length > 4 ? data[4] : 0,
               length > 5 ? data[5] : 0);
    printf(" %zu bytes\n", length);
}

/* ---- events: a binary heap ---- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct world *w, struct event *e)
{
    unsigned i = w->heap_count++;

    if (w->heap_count >= EVENTS_MAX)
        abort();
    e->order = w->order++;
    for (; i > 0 && before(e, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct event *pop(struct world *w)
{
    struct event *top = w->heap[0], *last = w->heap[--w->heap_count];
    unsigned i = 0;

    while (2 * i + 1 < w->heap_count) {
        unsigned child = 2 * i + 1;

        if (child + 1 < w->heap_count && before(w->heap[child + 1], w->heap[child]))
            child++;
        if (!before(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static void post(struct world *w, uint64_t at, enum kind kind, const struct flow *flow,
                 const void *data, size_t length)
{
    struct event *e = calloc(1, sizeof(*e));

    e->at = at;
    e->kind = kind;
    e->flow = *flow;
    e->length = (uint16_t)length;
    e->data = malloc(length + !length);
    if (length)
        memcpy(e->data, data, length);
    push(w, e);
}

void world_wake_client(struct world *w, uint32_t client, uint64_t at)
{
    struct event *e = calloc(1, sizeof(*e));

    e->at = at;
    e->kind = WAKE;
    e->client = client;
    push(w, e);
}

/* ---- the network ---- */

static bool chance(struct world *w, double probability)
{
    return random_below(&w->random, 1000000) < probability * 1000000;
}

static uint64_t delay(struct world *w)
{
    const struct profile *p = &w->profile;

    return p->delay_min_us + random_below(&w->random, p->delay_max_us - p->delay_min_us + 1);
}

static void carry(struct world *w, uint64_t pause, enum kind kind, const struct flow *flow,
                  const void *data, size_t length)
{
    if (chance(w, w->profile.loss)) {
        trace(w, "lost", flow, data, length);
        return;
    }
    post(w, w->now + pause + delay(w), kind, flow, data, length);
    if (chance(w, w->profile.repeat))
        post(w, w->now + pause + delay(w), kind, flow, data, length);
}

void world_to_gateway(struct world *w, const struct flow *flow, const void *data, size_t length)
{
    carry(w, 0, TO_GATEWAY, flow, data, length);
}

void world_to_gateway_in(struct world *w, uint64_t us, const struct flow *flow, const void *data,
                         size_t length)
{
    carry(w, us, TO_GATEWAY, flow, data, length);
}

void world_icmp(struct world *w, const struct flow *flow, const void *quoted, size_t length)
{
    carry(w, 0, ICMP, flow, quoted, length);
}

/* ---- the workers' side ---- */

static bool io_alloc(void *context, const struct flow *flow, struct outgoing *out)
{
    struct worker_side *side = context;

    (void)flow;
    if (side->open)
        world_fail(side->world, "a second buffer before the first was sent or cancelled");
    side->open = true;
    *out = (struct outgoing){side->buffer, MESSAGE_BYTES, side};
    return true;
}

static void io_send(void *context, const struct flow *flow, struct outgoing *out, uint16_t length)
{
    struct worker_side *side = context;
    struct world *w = side->world;

    side->open = false;
    side->emitted++;
    trace(w, "gateway >", flow, out->data, length);
    watch_emitted(w, w->watch, side->index, flow, out->data, length);
    carry(w, 0, TO_PEER, flow, out->data, length);
}

static void io_cancel(void *context, struct outgoing *out)
{
    struct worker_side *side = context;

    (void)out;
    side->open = false;
}

static uint16_t io_upstream_port(void *context, uint16_t local, const struct endpoint *server,
                                 unsigned n)
{
    struct worker_side *side = context;
    struct world *w = side->world;

    return steer_upstream_port(w->steer, side->index, &w->config->locals[local].address, server, n);
}

static unsigned owner_of(const struct world *w, const struct flow *flow)
{
    struct steer_tuple tuple = {.source = flow->peer,
                                .destination = w->config->locals[flow->local].address,
                                .source_port = flow->peer_port,
                                .destination_port = flow->local_port};

    return steer_worker_of(w->steer, &tuple);
}

/* ---- what happens ---- */

static void to_gateway(struct world *w, const struct event *e)
{
    unsigned owner = owner_of(w, &e->flow);
    struct datagram d = {.data = e->data, .length = e->length, .flow = e->flow};

    trace(w, "gateway <", &e->flow, e->data, e->length);
    watch_delivered(w, w->watch, &e->flow, e->data, e->length, e->kind == ICMP);
    if (e->kind == ICMP) {
        w->sides[owner].icmp++;
        worker_unreachable(w->workers[owner], &e->flow, e->data, e->length, w->now);
        return;
    }
    w->sides[owner].given++;
    worker_receive(w->workers[owner], &d, 1, w->now);
}

static uint32_t client_of(const struct world *w, const struct flow *flow)
{
    for (uint32_t i = 0; i < w->profile.clients; i++)
        if (flow_equal(&w->clients[i].flow, flow))
            return i;
    return NOBODY;
}

static void to_peer(struct world *w, const struct event *e)
{
    uint32_t origin = world_origin_of(w, &e->flow), client;

    if (origin != NOBODY) {
        origin_receive(w, w->memory, origin, &e->flow, e->data, e->length);
        return;
    }
    client = client_of(w, &e->flow);
    if (client == NOBODY)
        world_fail(w, "an answer from an endpoint that was not asked, or to nobody");
    else
        client_receive(w, client, e->data, e->length);
}

static void happen(struct world *w, struct event *e)
{
    switch (e->kind) {
    case TO_GATEWAY:
    case ICMP:
        to_gateway(w, e);
        break;
    case TO_PEER:
        to_peer(w, e);
        break;
    case WAKE:
        client_on_timer(w, e->client);
        break;
    }
}

static uint64_t next_timer(const struct world *w)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < w->profile.workers; i++) {
        uint64_t at = worker_next_us(w->workers[i]);

        if (at < next)
            next = at;
    }
    return next;
}

static void advance_workers(struct world *w)
{
    for (unsigned i = 0; i < w->profile.workers; i++)
        if (worker_next_us(w->workers[i]) <= w->now)
            worker_advance(w->workers[i], w->now);
}

static void run_until(struct world *w, uint64_t end)
{
    while (!w->failed) {
        uint64_t event = w->heap_count ? w->heap[0]->at : UINT64_MAX;
        uint64_t timer = next_timer(w), next = event < timer ? event : timer;
        struct event *e;

        if (next > end)
            break;
        if (timer <= event) {
            /* A timer whose tick has passed fires with the next one. */
            w->now = timer > w->now ? timer : w->now + 1000;
            advance_workers(w);
            continue;
        }
        w->now = event > w->now ? event : w->now;
        e = pop(w);
        happen(w, e);
        free(e->data);
        free(e);
    }
    if (w->now < end && !w->failed)
        w->now = end;
}

/* ---- start ---- */

static void draw_profile(struct world *w)
{
    static const double losses[] = {0, 0, 0.05, 0.2, 0.4};
    static const uint16_t nstarts[] = {1, 2, 8, 64};
    struct profile *p = &w->profile;
    struct random *r = &w->random;

    p->loss = losses[random_below(r, 5)];
    p->repeat = random_below(r, 2) ? 0.1 : 0;
    p->delay_min_us = 100;
    p->delay_max_us = random_below(r, 3) ? 20000 : 400000;
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
static int make_config(struct world *w)
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
             p->workers, servers, random_below(&w->random, 2) ? "hash" : "round_robin",
             p->reliable ? "true" : "false", p->nstart, servers, p->nstart,
             p->small_limits ? 24 : 2000, p->small_limits ? 16 : 2000, p->small_limits ? 16 : 2000,
             p->small_limits ? 32 : 20000, p->small_limits ? 2 : 1000,
             p->small_limits ? "64KiB" : "1MiB");
    w->config = config_load_text("sim.yaml", yaml, strlen(yaml), stderr);
    return w->config ? 0 : -1;
}

static int make_workers(struct world *w)
{
    struct steer_setup steer = {.workers = w->profile.workers,
                                .port_base = w->config->upstream_port_base,
                                .port_shift = w->config->upstream_port_shift,
                                .reta_size = 128};

    for (unsigned i = 0; i < sizeof(steer.seed); i++)
        steer.seed[i] = (uint8_t)random_u64(&w->random);
    rte_srand(w->seed); /* rte_thash draws its polynomials from there */
    w->steer = steer_create(&steer);
    if (!w->steer)
        return -1;
    for (unsigned i = 0; i < w->profile.workers; i++) {
        struct worker_side *side = &w->sides[i];
        struct worker_setup setup = {.config = w->config,
                                     .index = i,
                                     .count = w->profile.workers,
                                     .io = {.context = side,
                                            .alloc = io_alloc,
                                            .send = io_send,
                                            .cancel = io_cancel,
                                            .upstream_port = io_upstream_port}};

        side->world = w;
        side->index = i;
        for (unsigned k = 0; k < sizeof(setup.seed); k++)
            setup.seed[k] = (uint8_t)random_u64(&w->random);
        w->workers[i] = worker_create(&setup, w->now);
        if (!w->workers[i])
            return -1;
    }
    return 0;
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
        size_t length = random_below(&w->random, sizeof(bytes));
        struct flow flow = w->clients[random_below(&w->random, w->profile.clients)].flow;

        for (size_t k = 0; k < length; k++)
            bytes[k] = (uint8_t)random_u64(&w->random);
        if (length)
            bytes[0] = (uint8_t)(0x40 | (bytes[0] & 0x3f)); /* version 1: reaches further */
        if (length > 1 && random_below(&w->random, 2))
            bytes[1] = 0xe0; /* a reserved class */
        if (length > 1 && code_is_request(bytes[1]))
            bytes[1] = CODE_CONTENT; /* not a request: nobody waits for its answer */
        if (random_below(&w->random, 4) == 0) {
            flow.peer = w->origins[0].endpoint.address;
            flow.peer_port = 5683;
            flow.local_port = (uint16_t)(32768 + random_below(&w->random, 200));
        }
        post(w, w->now + random_below(&w->random, 200 * SECOND), TO_GATEWAY, &flow, bytes, length);
    }
}

/* ---- end ---- */

static void check_worker(struct world *w, unsigned i)
{
    const struct counters *c = worker_counters(w->workers[i]);
    struct worker_usage u;
    uint64_t verdicts = 0, types = 0;

    worker_usage(w->workers[i], &u);
    if (u.sessions || u.exchanges || u.forwards || u.outbound || u.remembered || u.chunks ||
        u.timers)
        world_fail(w,
                   "worker %u keeps %u sessions, %u exchanges, %u forwards, %u outbound, %u "
                   "remembered, %u chunks, %llu timers",
                   i, u.sessions, u.exchanges, u.forwards, u.outbound, u.remembered, u.chunks,
                   (unsigned long long)u.timers);
    for (unsigned v = 0; v < VERDICT_COUNT; v++)
        verdicts += c->rx_verdict[v];
    for (unsigned t = 0; t < 4; t++)
        types += c->tx_type[t];
    if (verdicts != w->sides[i].given || types != w->sides[i].emitted)
        world_fail(w, "worker %u counts %llu datagrams in and %llu out of %llu and %llu", i,
                   (unsigned long long)verdicts, (unsigned long long)types,
                   (unsigned long long)w->sides[i].given, (unsigned long long)w->sides[i].emitted);
    if (w->sides[i].icmp && w->profile.loss == 0 && !c->unreachables)
        world_fail(w, "worker %u took no notice of %llu ICMP errors", i,
                   (unsigned long long)w->sides[i].icmp);
    if (w->sides[i].open)
        world_fail(w, "worker %u keeps a buffer", i);
}

static void world_free(struct world *w)
{
    while (w->heap_count) {
        struct event *e = pop(w);

        free(e->data);
        free(e);
    }
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        worker_destroy(w->workers[i]);
    steer_destroy(w->steer);
    config_free(w->config);
    origins_destroy(w->memory);
    watch_destroy(w->watch);
    free(w);
}

int world_run(uint64_t seed, bool tracing)
{
    struct world *w = calloc(1, sizeof(*w));
    uint8_t bytes[RANDOM_SEED_BYTES] = {0};
    bool failed;

    memcpy(bytes, &seed, sizeof(seed));
    random_seed(&w->random, bytes);
    w->seed = seed;
    w->trace = tracing;
    w->now = START_US;
    w->memory = origins_create();
    w->watch = watch_create();
    draw_profile(w);
    if (make_config(w) != 0 || make_workers(w) != 0)
        world_fail(w, "it cannot be set up");
    if (!w->failed) {
        make_peers(w);
        throw_garbage(w);
        run_until(w, START_US + TRAFFIC_MAX);
        /* Some clients may still be patient; then silence until all is forgotten. */
        run_until(w, w->now + DRAIN_US);
    }
    for (unsigned i = 0; !w->failed && i < w->profile.workers; i++)
        check_worker(w, i);
    for (uint32_t i = 0; !w->failed && i < w->profile.clients; i++)
        client_check(w, i);
    failed = w->failed;
    world_free(w);
    return failed;
}
