#include "tests/sim/stage.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_mempool.h>
#include <rte_random.h>

#include "gateway/security/credentials.h"
#include "gateway/security/record.h"
#include "gateway/session/messaging.h"

enum kind { TO_GATEWAY, TO_PEER, ICMP, CALL };

struct stage_event {
    uint64_t at, order; /* what is due at the same time keeps its order */
    enum kind kind;
    stage_call *call; /* CALL */
    void *who;
    uint64_t what;
    struct flow flow;
    uint16_t length;
    uint8_t *data;
};

/* ---- what is said ---- */

static double seconds(const struct stage *s)
{
    return (double)(s->now - START_US) / 1e6;
}

void stage_fail(struct stage *s, const char *format, ...)
{
    va_list values;

    if (!s->failed) {
        fprintf(stderr, "%s, seed %llu at %.6f s: ", s->scenario, (unsigned long long)s->seed,
                seconds(s));
        va_start(values, format);
        vfprintf(stderr, format, values);
        va_end(values);
        fprintf(stderr, " (replay: sim --scenario %s --seed %llu --trace)\n", s->scenario,
                (unsigned long long)s->seed);
    }
    s->failed = true;
}

void stage_note(const struct stage *s, const char *format, ...)
{
    va_list values;

    if (!s->trace)
        return;
    printf("%12.6f ", seconds(s));
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
    putchar('\n');
}

static void trace_bytes(const char *before, const uint8_t *bytes, size_t length)
{
    if (length)
        printf("%s", before);
    for (size_t i = 0; i < length && i < 8; i++)
        printf("%02x", bytes[i]);
}

static void trace_options(const struct message *m)
{
    struct option_cursor c = option_cursor(m);
    struct option_view view;

    while (option_next(&c, &view)) {
        enum option_slot slot = option_slot(c.number);

        if (slot == SLOT_UNKNOWN)
            printf(" %u", c.number);
        else
            printf(" %s", option_table[slot].name);
        if (slot != SLOT_UNKNOWN && option_table[slot].format == FORMAT_STRING) {
            printf("=%.*s", view.length, (const char *)view.value);
            continue;
        }
        trace_bytes("=", view.value, view.length);
    }
}

static void trace(const struct stage *s, const char *what, const struct flow *flow,
                  const uint8_t *data, size_t length)
{
    static const char *const types[] = {"CON", "NON", "ACK", "RST"};
    char peer[ENDPOINT_TEXT_BYTES];
    struct message m;

    if (!s->trace)
        return;
    printf("%12.6f %-9s %-22s port %u", seconds(s), what,
           endpoint_format(&flow->peer, flow->peer_port, peer), flow->local_port);
    if (length >= 4)
        printf(" %s %u.%02u mid %u", types[data[0] >> 4 & 3], data[1] >> 5, data[1] & 31,
               data[2] << 8 | data[3]);
    if (message_parse(data, length, &m) == VERDICT_OK) {
        trace_bytes(" token ", m.token, m.token_length);
        trace_options(&m);
    }
    printf(" %zu bytes\n", length);
}

/* ---- events: a binary heap ---- */

static bool before(const struct stage_event *a, const struct stage_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct stage *s, struct stage_event *e)
{
    unsigned i = s->heap_count++;

    if (s->heap_count > s->heap_room) {
        s->heap_room = s->heap_room ? 2 * s->heap_room : 1024;
        s->heap = realloc(s->heap, s->heap_room * sizeof(s->heap[0]));
    }
    e->order = s->order++;
    for (; i > 0 && before(e, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
}

static struct stage_event *pop(struct stage *s)
{
    struct stage_event *top = s->heap[0], *last = s->heap[--s->heap_count];
    unsigned i = 0;

    while (2 * i + 1 < s->heap_count) {
        unsigned child = 2 * i + 1;

        if (child + 1 < s->heap_count && before(s->heap[child + 1], s->heap[child]))
            child++;
        if (!before(s->heap[child], last))
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

static void post(struct stage *s, uint64_t at, enum kind kind, const struct flow *flow,
                 const void *data, size_t length)
{
    struct stage_event *e = calloc(1, sizeof(*e));

    e->at = at;
    e->kind = kind;
    e->flow = *flow;
    e->length = (uint16_t)length;
    e->data = malloc(length + !length);
    if (length)
        memcpy(e->data, data, length);
    push(s, e);
}

void stage_at(struct stage *s, uint64_t at, stage_call *call, void *who, uint64_t what)
{
    struct stage_event *e = calloc(1, sizeof(*e));

    e->at = at;
    e->kind = CALL;
    e->call = call;
    e->who = who;
    e->what = what;
    push(s, e);
}

void stage_deliver(struct stage *s, uint64_t at, const struct flow *flow, const void *data,
                   size_t length)
{
    post(s, at, TO_GATEWAY, flow, data, length);
}

/* ---- the network ---- */

bool stage_chance(struct stage *s, double probability)
{
    return random_below(&s->random, 1000000) < probability * 1000000;
}

static uint64_t delay(struct stage *s)
{
    const struct network *n = &s->network;

    return n->delay_min_us + random_below(&s->random, n->delay_max_us - n->delay_min_us + 1);
}

static void carry(struct stage *s, uint64_t pause, enum kind kind, const struct flow *flow,
                  const void *data, size_t length)
{
    if (stage_chance(s, s->network.loss)) {
        trace(s, "lost", flow, data, length);
        return;
    }
    post(s, s->now + pause + delay(s), kind, flow, data, length);
    if (stage_chance(s, s->network.repeat))
        post(s, s->now + pause + delay(s), kind, flow, data, length);
}

void stage_send(struct stage *s, uint64_t pause_us, const struct flow *flow, const void *data,
                size_t length)
{
    carry(s, pause_us, TO_GATEWAY, flow, data, length);
}

void stage_icmp(struct stage *s, const struct flow *flow, const void *quoted, size_t length)
{
    carry(s, 0, ICMP, flow, quoted, length);
}

/* ---- the workers' side ---- */

static bool io_alloc(void *context, const struct flow *flow, struct outgoing *out)
{
    struct stage_side *side = context;

    (void)flow;
    if (side->open)
        stage_fail(side->stage, "a second buffer before the first was sent or cancelled");
    side->open = true;
    *out = (struct outgoing){.data = side->buffer, .room = MESSAGE_BYTES, .buffer = side};
    return true;
}

static void io_send(void *context, const struct flow *flow, struct outgoing *out, uint16_t length)
{
    struct stage_side *side = context;
    struct stage *s = side->stage;

    side->open = false;
    side->emitted++;
    trace(s, "gateway >", flow, out->data, length);
    if (s->cast->emitted)
        s->cast->emitted(s, side->index, flow, out->data, length);
    if (!s->muted)
        carry(s, 0, TO_PEER, flow, out->data, length);
}

static void io_cancel(void *context, struct outgoing *out)
{
    struct stage_side *side = context;

    (void)out;
    side->open = false;
}

static uint16_t io_upstream_port(void *context, uint16_t local, const struct endpoint *server,
                                 unsigned n)
{
    struct stage_side *side = context;
    struct stage *s = side->stage;

    return steer_upstream_port(s->steer, side->index, &s->config->locals[local].address, server, n);
}

/* `who`: the life and the worker. */
static void tell_changed(struct stage *s, void *who, uint64_t uri)
{
    uintptr_t to = (uintptr_t)who;

    if (s->running && to / WORKERS_MAX == s->life)
        worker_changed(s->workers[to % WORKERS_MAX], &uri, 1, stage_clock(s));
}

static void io_changed(void *context, uint64_t uri)
{
    struct stage_side *side = context;
    struct stage *s = side->stage;

    for (unsigned i = 0; i < s->worker_count; i++)
        if (i != side->index)
            stage_at(s, s->now + stage_below(s, STAGE_TELL_US), tell_changed,
                     (void *)(uintptr_t)(s->life * WORKERS_MAX + i), uri);
}

static bool io_tell(void *context, unsigned to, struct parcel *parcel)
{
    struct stage_side *side = context;
    struct stage *s = side->stage;

    if (to == PARCEL_STORE)
        return s->cast->told && s->cast->told(s, side->index, parcel);
    if (to >= s->worker_count || to == side->index || post_room(s, side->index, to) == 0)
        return false;
    if (s->cast->handed)
        s->cast->handed(s, side->index, parcel);
    stage_hand(s, side->index, to, parcel, s->ring_us ? s->ring_us : STAGE_TELL_US);
    return true;
}

static unsigned io_room(void *context, unsigned to)
{
    struct stage_side *side = context;
    struct stage *s = side->stage;

    if (to == PARCEL_STORE)
        return s->cast->room ? s->cast->room(s, side->index) : 0;
    return to < s->worker_count && to != side->index ? post_room(s, side->index, to) : 0;
}

unsigned stage_owner(const struct stage *s, const struct flow *flow)
{
    struct steer_tuple tuple = {.source = flow->peer,
                                .destination = s->config->locals[flow->local].address,
                                .source_port = flow->peer_port,
                                .destination_port = flow->local_port};

    return steer_worker_of(s->steer, &tuple);
}

/* A record with a Connection ID names its worker (as dpdk/stack.h has it). */
static unsigned owner_of(const struct stage *s, const struct flow *flow, const uint8_t *data,
                         size_t length)
{
    const struct config *c = s->config;

    for (unsigned i = 0; i < c->listener_count; i++)
        if (c->listeners[i].dtls && c->listeners[i].port == flow->local_port &&
            length > RECORD_CID_AT && data[0] == RECORD_CID)
            return data[RECORD_CID_AT] % s->worker_count;
    return stage_owner(s, flow);
}

/* ---- what happens ---- */

void stage_receive(struct stage *s, const struct flow *flow, const void *data, size_t length)
{
    struct datagram d = {.data = data, .length = (uint16_t)length, .flow = *flow};
    unsigned owner = owner_of(s, flow, data, length);

    trace(s, "gateway <", flow, data, length);
    if (s->cast->delivered)
        s->cast->delivered(s, owner, flow, data, length, false);
    s->sides[owner].given++;
    worker_receive(s->workers[owner], &d, 1, stage_clock(s));
    if (s->cast->consumed)
        s->cast->consumed(s, owner, flow, data, length);
}

static void to_gateway(struct stage *s, const struct stage_event *e)
{
    unsigned owner;

    if (!s->running) {
        trace(s, "nobody", &e->flow, e->data, e->length);
        return;
    }
    if (e->kind != ICMP) {
        stage_receive(s, &e->flow, e->data, e->length);
        return;
    }
    owner = stage_owner(s, &e->flow);
    trace(s, "ICMP    <", &e->flow, e->data, e->length);
    if (s->cast->delivered)
        s->cast->delivered(s, owner, &e->flow, e->data, e->length, true);
    s->sides[owner].icmp++;
    worker_unreachable(s->workers[owner], &e->flow, e->data, e->length, stage_clock(s));
}

static void happen(struct stage *s, const struct stage_event *e)
{
    switch (e->kind) {
    case TO_GATEWAY:
    case ICMP:
        to_gateway(s, e);
        break;
    case TO_PEER:
        s->cast->arrived(s, &e->flow, e->data, e->length);
        break;
    case CALL:
        e->call(s, e->who, e->what);
        break;
    }
}

static uint64_t next_timer(const struct stage *s)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < s->worker_count; i++) {
        uint64_t at = worker_next_us(s->workers[i]);

        if (at < next)
            next = at;
    }
    if (next == UINT64_MAX)
        return next;
    return next > s->clock_ahead_us ? next - s->clock_ahead_us : 0;
}

static void advance_workers(struct stage *s)
{
    for (unsigned i = 0; i < s->worker_count; i++)
        if (worker_next_us(s->workers[i]) <= stage_clock(s))
            worker_advance(s->workers[i], stage_clock(s));
}

void stage_run(struct stage *s, uint64_t end)
{
    while (!s->failed) {
        uint64_t event = s->heap_count ? s->heap[0]->at : UINT64_MAX;
        uint64_t timer = next_timer(s), next = event < timer ? event : timer;
        struct stage_event *e;

        if (next > end)
            break;
        if (timer <= event) {
            /* A timer whose tick has passed fires with the next one. */
            s->now = timer > s->now ? timer : s->now + 1000;
            advance_workers(s);
            continue;
        }
        s->now = event > s->now ? event : s->now;
        e = pop(s);
        happen(s, e);
        free(e->data);
        free(e);
    }
    if (s->now < end && !s->failed)
        s->now = end;
}

/* ---- start and end ---- */

void stage_begin(struct stage *s, const char *scenario, uint64_t seed, bool tracing,
                 const struct stage_cast *cast)
{
    uint8_t bytes[RANDOM_SEED_BYTES] = {0};

    memcpy(bytes + sizeof(seed), &seed, sizeof(seed)); /* of the first word a bit is lost */
    random_seed(&s->random, bytes);
    s->scenario = scenario;
    s->seed = seed;
    s->trace = tracing;
    s->now = START_US;
    s->cast = cast;
}

/* Out of the one of the life before. */
static bool make_journal(struct stage *s)
{
    struct journal_setup setup = {.workers = s->worker_count,
                                  .entries = s->config->limits.remembered,
                                  .now_us = stage_clock(s),
                                  .then_us = stage_clock(s),
                                  .key = s->seed};
    struct journal old;
    void *memory;
    size_t bytes;

    if (!s->journaled)
        return true;
    messaging_lifetimes(s->config, &setup.con_us, &setup.non_us);
    if (s->journal_memory && journal_view(&old, s->journal_memory, s->journal_bytes) != 0)
        return false;
    setup.old = s->journal_memory ? &old : NULL;
    bytes = journal_bytes(&setup);
    memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!memory)
        return false;
    memset(memory, 0, bytes);
    if (journal_create(&s->journal, memory, &setup) != 0)
        stage_fail(s, "the journal has forgotten something");
    free(s->journal_memory);
    s->journal_memory = memory;
    s->journal_bytes = bytes;
    return true;
}

static bool make_worker(struct stage *s, unsigned i, uint64_t shared_key)
{
    struct stage_side *side = &s->sides[i];
    struct worker_setup setup = {.config = s->config,
                                 .index = i,
                                 .count = s->worker_count,
                                 .credentials = credentials_take(s->credentials),
                                 .shared_key = shared_key,
                                 .mid_key = s->mid_key,
                                 .life = s->mid_life,
                                 .number_floor = s->number_floor,
                                 .journal = s->journaled ? &s->journal : NULL,
                                 .io = {.context = side,
                                        .alloc = io_alloc,
                                        .send = io_send,
                                        .cancel = io_cancel,
                                        .upstream_port = io_upstream_port,
                                        .changed = io_changed,
                                        .tell = io_tell,
                                        .room = io_room,
                                        .parcels = s->parcels}};

    *side = (struct stage_side){.stage = s, .index = i};
    for (unsigned k = 0; k < sizeof(setup.seed); k++)
        setup.seed[k] = (uint8_t)random_u64(&s->random);
    s->workers[i] = worker_create(&setup, stage_clock(s));
    return s->workers[i] != NULL;
}

static bool load(struct stage *s, const char *yaml)
{
    stage_note(s, "loss %.2f, repetition %.2f, delay up to %u us\n%s", s->network.loss,
               s->network.repeat, s->network.delay_max_us, yaml);
    s->config = config_load_text("sim.yaml", yaml, strlen(yaml), stderr);
    if (!s->config)
        return false;
    s->configs[s->life] = s->config;
    s->worker_count = s->config->workers;
    return s->config->workers <= WORKERS_MAX;
}

static bool make_credentials(struct stage *s)
{
    uint8_t secret[CREDENTIALS_SECRET_BYTES] = {0};

    if (!credentials_wanted(s->config))
        return true;
    memcpy(secret, &s->seed, sizeof(s->seed));
    s->credentials = credentials_load(s->config, secret, stderr);
    if (s->credentials)
        credentials_set_time(s->credentials, STAGE_UNIX_S + s->now / SECOND);
    return s->credentials != NULL;
}

static void drop_credentials(struct stage *s)
{
    credentials_drop(s->credentials);
    s->credentials = NULL;
}

static bool make_steer(struct stage *s)
{
    struct steer_setup steer = {.reta_size = 128};

    steer.workers = s->config->workers;
    steer.port_base = s->config->upstream_port_base;
    steer.port_shift = s->config->upstream_port_shift;
    for (unsigned i = 0; i < sizeof(steer.seed); i++)
        steer.seed[i] = (uint8_t)random_u64(&s->random);
    rte_srand(s->seed); /* rte_thash draws its polynomials from there */
    s->steer = steer_create(&steer);
    return s->steer != NULL;
}

bool stage_open(struct stage *s, const char *yaml)
{
    uint64_t shared_key;

    if (s->life + 1 >= STAGE_LIVES)
        return false;
    s->life++;
    if (!s->post)
        s->post = post_create();
    s->parcels = post_pool();
    if (!s->parcels || !load(s, yaml) || !make_steer(s) || !make_journal(s) || !make_credentials(s))
        return false;
    shared_key = random_u64(&s->random);
    for (unsigned i = 0; i < s->worker_count; i++)
        if (!make_worker(s, i, shared_key))
            return false;
    s->running = true;
    return true;
}

void stage_kill(struct stage *s)
{
    stage_check_counts(s);
    post_clear(s);
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        worker_destroy(s->workers[i]);
        s->workers[i] = NULL;
    }
    s->worker_count = 0;
    drop_credentials(s);
    steer_destroy(s->steer);
    s->steer = NULL;
    s->running = false;
}

void stage_end(struct stage *s)
{
    while (s->heap_count) {
        struct stage_event *e = pop(s);

        free(e->data);
        free(e);
    }
    free(s->heap);
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        worker_destroy(s->workers[i]);
    drop_credentials(s);
    steer_destroy(s->steer);
    post_destroy(s);
    free(s->journal_memory);
    for (unsigned i = 0; i < STAGE_LIVES; i++)
        config_free(s->configs[i]);
}

/* ---- what must hold in the end ---- */

static void check_counts(struct stage *s, unsigned i)
{
    const struct counters *c = worker_counters(s->workers[i]);
    const struct stage_side *side = &s->sides[i];
    uint64_t verdicts = 0, types = 0;

    for (unsigned v = 0; v < VERDICT_COUNT; v++)
        verdicts += c->rx_verdict[v];
    for (unsigned t = 0; t < 4; t++)
        types += c->tx_type[t];
    /* What is in records is counted once it is out of them. */
    if (!s->credentials && (verdicts != side->given || types != side->emitted))
        stage_fail(s, "worker %u counts %llu datagrams in and %llu out of %llu and %llu", i,
                   (unsigned long long)verdicts, (unsigned long long)types,
                   (unsigned long long)side->given, (unsigned long long)side->emitted);
    if (side->icmp && s->network.loss == 0 && !s->deaths && !c->unreachables)
        stage_fail(s, "worker %u took no notice of %llu ICMP errors", i,
                   (unsigned long long)side->icmp);
    if (side->open)
        stage_fail(s, "worker %u keeps a buffer", i);
}

void stage_check_counts(struct stage *s)
{
    for (unsigned i = 0; !s->failed && i < s->worker_count; i++)
        check_counts(s, i);
}

void stage_check_empty(struct stage *s)
{
    for (unsigned i = 0; !s->failed && i < s->worker_count; i++) {
        struct worker_usage u;

        worker_usage(s->workers[i], &u);
        if (u.sessions || u.exchanges || u.forwards || u.outbound || u.remembered || u.chunks ||
            u.timers)
            stage_fail(s,
                       "worker %u keeps %u sessions, %u exchanges, %u forwards, %u outbound, %u "
                       "remembered, %u chunks, %llu timers",
                       i, u.sessions, u.exchanges, u.forwards, u.outbound, u.remembered, u.chunks,
                       (unsigned long long)u.timers);
        if (u.observations || u.relations || u.transfers || u.assembly_bytes || u.destinations)
            stage_fail(s,
                       "worker %u keeps %u observations, %u relations, %u transfers, %llu bytes of "
                       "bodies, %u destinations",
                       i, u.observations, u.relations, u.transfers,
                       (unsigned long long)u.assembly_bytes, u.destinations);
    }
    if (!s->failed && stage_parcels_out(s))
        stage_fail(s, "%u parcels are gone", stage_parcels_out(s));
}
