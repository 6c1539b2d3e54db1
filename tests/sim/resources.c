#include "tests/sim/resources.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_mempool.h>

#define TRAFFIC_US (150 * SECOND)
#define SPREAD_US  (200 * SECOND) /* the last state spreads, over the network as it is */
#define CALM_US    (150 * SECOND) /* and over one that loses nothing */
#define END_US     (1300 * SECOND)
#define PATIENCE_S 5 /* beyond Max-Age */

static struct stage *stage_of(const struct member *m)
{
    return m->device.node.stage;
}

static struct resources_world *world_of(const struct member *m)
{
    return resources_world_of(stage_of(m));
}

struct held *resources_find(struct resources_world *w, const char *path)
{
    for (unsigned i = 0; i < w->held_count; i++)
        if (strcmp(w->held[i].path, path) == 0)
            return &w->held[i];
    return NULL;
}

/* ---- writing ---- */

static void write_state(struct member *m, const struct held *held)
{
    struct resources_world *w = world_of(m);
    struct stage *s = stage_of(m);
    struct request *r = &m->writer.request;
    size_t length = BODY_LINE + stage_below(s, sizeof(m->body) - BODY_LINE);

    if (w->last_write + 1 >= WRITES_MAX)
        return;
    *r = request_make(CODE_PUT, stage_below(s, 4) ? TYPE_CON : TYPE_NON, held->path);
    body_write(m->body, length, held->id, ++w->last_write);
    r->payload = m->body;
    r->payload_length = length;
    if (!w->calm && m->known[held->id].state && stage_below(s, 2))
        r->if_match = m->known[held->id].etag;
    else if (!w->calm)
        r->if_none_match = stage_below(s, 4) == 0;
    caller_new_token(&m->writer);
    caller_ask(&m->writer);
}

static void remove_state(struct member *m, const struct held *held)
{
    m->writer.request = request_make(CODE_DELETE, TYPE_CON, held->path);
    caller_new_token(&m->writer);
    caller_ask(&m->writer);
}

static void on_time_to_write(struct stage *s, void *who, uint64_t what)
{
    struct member *m = who;
    struct resources_world *w = world_of(m);

    (void)what;
    if (w->calm)
        return;
    if (stage_below(s, 8))
        write_state(m, &w->held[stage_below(s, w->held_count)]);
    else
        remove_state(m, &w->held[stage_below(s, w->held_count)]);
}

static void learn(struct member *m, const struct caller *c, const struct message *answer,
                  uint32_t state)
{
    struct held *held = resources_find(world_of(m), c->request.path);

    if (!message_has(answer, SLOT_ETAG))
        return;
    m->known[held->id].state = state;
    m->known[held->id].etag = message_etag(answer);
}

static uint32_t state_in(const uint8_t *body, size_t length)
{
    uint32_t state = 0;

    if (length >= BODY_LINE)
        memcpy(&state, body + 4, sizeof(state));
    return state;
}

static void on_written(struct caller *c, const struct message *answer)
{
    static const uint32_t pauses[] = {1000, 100000, 3 * SECOND};
    struct member *m = c->owner;
    struct stage *s = stage_of(m);
    const struct resources_world *w = world_of(m);

    if (answer && (answer->code == CODE_CREATED || answer->code == CODE_CHANGED))
        learn(m, c, answer, state_in(m->body, c->request.payload_length));
    if (!answer && s->network.loss == 0 && c->request.type == TYPE_CON && !w->stored)
        stage_fail(s, "no answer to a write, and nothing was lost");
    if (!w->calm)
        stage_at(s, s->now + stage_below(s, w->slow ? 60 * SECOND : pauses[stage_below(s, 3)]),
                 on_time_to_write, m, 0);
}

/* ---- reading ---- */

static void on_time_to_read(struct stage *s, void *who, uint64_t what)
{
    struct member *m = who;
    struct resources_world *w = world_of(m);
    const struct held *held = &w->held[stage_below(s, w->held_count)];

    (void)what;
    if (w->calm)
        return;
    if (stage_below(s, 2) && m->writer.waiting)
        held = resources_find(w, m->writer.request.path); /* what it is just writing */
    m->reader.request = request_make(CODE_GET, stage_below(s, 4) ? TYPE_CON : TYPE_NON, held->path);
    caller_new_token(&m->reader);
    caller_ask(&m->reader);
}

/* In the end each device reads all. */
static void check_next(struct member *m)
{
    if (m->checked == world_of(m)->held_count)
        return;
    m->reader.request = request_make(CODE_GET, TYPE_CON, world_of(m)->held[m->checked].path);
    caller_new_token(&m->reader);
    caller_ask(&m->reader);
}

static void check_read(struct member *m, const struct message *answer)
{
    struct resources_world *w = world_of(m);
    const struct held *held = &w->held[m->checked++];
    uint32_t last = resources_judge_last(w->judge, held);

    if (!answer || answer->code != CODE_CONTENT ||
        state_in(answer->payload, answer->payload_length) != last)
        stage_fail(stage_of(m), "the device at port %u does not read write %u of %s in the end",
                   m->device.flow.peer_port, last, held->path);
    check_next(m);
}

static void on_read(struct caller *c, const struct message *answer)
{
    struct member *m = c->owner;
    struct stage *s = stage_of(m);

    if (world_of(m)->ending) {
        check_read(m, answer);
        return;
    }
    if (answer && answer->code == CODE_CONTENT)
        learn(m, c, answer, state_in(answer->payload, answer->payload_length));
    stage_at(s, s->now + stage_below(s, 2 * SECOND), on_time_to_read, m, 0);
}

/* ---- observing ---- */

static void on_time_to_register(struct stage *s, void *who, uint64_t heard_at)
{
    struct member *m = who;

    if (!m->wanted || m->heard_at != heard_at || m->registration.waiting)
        return;
    m->registration.request =
        request_make(CODE_GET, stage_below(s, 4) ? TYPE_CON : TYPE_NON, m->observed->path);
    m->registration.request.observe = 0;
    caller_ask(&m->registration);
}

static void register_in(struct member *m, uint64_t us)
{
    stage_at(stage_of(m), stage_of(m)->now + us, on_time_to_register, m, m->heard_at);
}

static void lost_relation(struct member *m)
{
    m->registered = false;
    m->state = 0;
    m->heard_at = stage_of(m)->now;
    register_in(m, SECOND + stage_below(stage_of(m), 5 * SECOND));
}

static bool is_newer(const struct member *m, uint32_t number)
{
    uint32_t v1 = m->number, v2 = number;

    return !m->has_number || (v1 < v2 && v2 - v1 < 1u << 23) || (v1 > v2 && v1 - v2 > 1u << 23) ||
           stage_of(m)->now > m->number_at + 128 * SECOND;
}

static void take_notification(struct member *m, const struct message *n)
{
    uint32_t number = message_uint(n, SLOT_OBSERVE, 0);

    if (!is_newer(m, number))
        return;
    m->has_number = m->registered = true;
    m->number = number;
    m->number_at = m->heard_at = stage_of(m)->now;
    m->state = state_in(n->payload, n->payload_length);
    register_in(m, (message_uint(n, SLOT_MAX_AGE, 60) + PATIENCE_S) * SECOND);
}

static bool on_unasked(struct device *d, const struct message *n)
{
    struct member *m = d->owner;
    const struct caller *c = &m->registration;

    if (n->token_length != c->token_length || memcmp(n->token, c->token, c->token_length) != 0 ||
        !m->wanted)
        return false;
    if (message_has(n, SLOT_OBSERVE))
        take_notification(m, n);
    else if (code_class(n->code) != 2)
        lost_relation(m);
    return true;
}

static void on_registered(struct caller *c, const struct message *answer)
{
    struct member *m = c->owner;

    if (!m->wanted)
        return;
    if (answer && answer->code == CODE_CONTENT && message_has(answer, SLOT_OBSERVE))
        take_notification(m, answer);
    else
        lost_relation(m);
}

/* ---- the world ---- */

static void make_members(struct resources_world *w)
{
    struct stage *s = &w->fleet.stage;

    w->member_count = 2 + stage_below(s, 18);
    w->members = calloc(w->member_count, sizeof(w->members[0]));
    for (unsigned i = 0; i < w->member_count; i++) {
        struct member *m = &w->members[i];

        device_init(&m->device, &w->fleet, m);
        m->device.unasked = on_unasked;
        caller_init(&m->writer, &m->device, m, on_written);
        caller_init(&m->reader, &m->device, m, on_read);
        caller_init(&m->registration, &m->device, m, on_registered);
        m->registration.patience_us = 20 * SECOND;
        m->observed = &w->held[stage_below(s, w->held_count)];
        m->wanted = stage_below(s, 3) != 0;
        if (stage_below(s, 3))
            stage_at(s, s->now + stage_below(s, 10 * SECOND), on_time_to_write, m, 0);
        stage_at(s, s->now + stage_below(s, 10 * SECOND), on_time_to_read, m, 0);
        register_in(m, stage_below(s, 20 * SECOND));
    }
}

static bool open_gateway(struct resources_world *w)
{
    struct stage *s = &w->fleet.stage;
    char yaml[2048], store[160] = "";

    if (w->stored)
        snprintf(store, sizeof(store),
                 "store: {url: \"redis://127.0.0.1:6379/0\", on_failure: %s, resume_spread: 1s}\n",
                 w->reject ? "reject" : "serve");
    snprintf(yaml, sizeof(yaml),
             "workers: %u\n"
             "interfaces:\n"
             "  - {name: s, device: \"tap:s0\", addresses: [" GATEWAY "/8]}\n"
             "listeners:\n"
             "  - {uri: coap://" GATEWAY ", transmission: {nstart: 64}}\n"
             "routes:\n"
             "  - {path: /shared, resources: {max: 16, size: 64KiB}}\n"
             "%s"
             "limits: {sessions: 2000, exchanges: 2000, outbound: 2000, remembered: 20000, "
             "queue: 1000, message_memory: 4MiB, amplification: 0}\n",
             2 + stage_below(s, WORKERS_MAX - 1), store);
    if (w->stored)
        s->number_floor = vault_floor(&w->vault);
    if (!fleet_open(&w->fleet, yaml))
        return false;
    resources_judge_born(w->judge);
    if (w->stored)
        vault_start(&w->vault);
    return true;
}

static void release_hoard(struct resources_world *w)
{
    if (w->hoarded)
        parcel_free(w->fleet.stage.parcels, w->hoard);
    w->hoarded = 0;
}

/* Few parcels are left for some time. */
static void on_scarcity(struct stage *s, void *who, uint64_t on)
{
    struct resources_world *w = resources_world_of(s);
    unsigned left = stage_below(s, 20);

    (void)who;
    release_hoard(w);
    if (on && !w->calm && s->running && rte_mempool_avail_count(s->parcels) > left) {
        w->hoarded = rte_mempool_avail_count(s->parcels) - left;
        w->hoard = parcel_new(s->parcels, PARCEL_RECORD, 0, w->hoarded * PARCEL_DATA_BYTES);
    }
    if (!w->calm)
        stage_at(s, s->now + stage_below(s, 10 * SECOND), on_scarcity, NULL, !on);
}

static void on_outage(struct stage *s, void *who, uint64_t on)
{
    struct resources_world *w = resources_world_of(s);

    (void)who;
    if (on && !w->calm)
        stage_below(s, 2) ? vault_go_away(&w->vault) : vault_stall(&w->vault, SECOND);
    else
        vault_come_back(&w->vault);
    if (!w->calm)
        stage_at(s, s->now + SECOND + stage_below(s, 20 * SECOND), on_outage, NULL, !on);
}

static void draw(struct resources_world *w)
{
    static const uint32_t rings[] = {0, 20000, 300000};
    struct stage *s = &w->fleet.stage;

    s->ring_us = rings[stage_below(s, 3)];
    s->mid_key = random_u64(&s->random) | 1;
    s->deaths = true;
    w->scarce = stage_below(s, 3) == 0;
    if (w->scarce && stage_below(s, 2))
        s->ring_size = 1 + stage_below(s, 8);
    w->slow = stage_below(s, 3) == 0;
    w->stored = stage_below(s, 2);
    w->reject = stage_below(s, 2);
    w->held_count = 1 + stage_below(s, HELD_MAX);
    for (unsigned i = 0; i < w->held_count; i++) {
        w->held[i].id = i;
        snprintf(w->held[i].path, sizeof(w->held[i].path), "/shared/%u", i);
    }
    if (w->stored) {
        vault_init(&w->vault, s);
        w->fleet.vault = &w->vault;
    }
}

/* ---- the phases ---- */

static void restart(struct resources_world *w)
{
    struct stage *s = &w->fleet.stage;

    stage_note(s, "the gateway is gone");
    release_hoard(w);
    resources_judge_killed(w->judge);
    vault_kill(&w->vault);
    fleet_kill(&w->fleet);
    if (!s->failed && stage_parcels_out(s))
        stage_fail(s, "%u parcels have gone with the process", stage_parcels_out(s));
    stage_run(s, s->now + 10000 + stage_below(s, 10 * SECOND));
    stage_note(s, "the gateway starts");
    if (!s->failed && !open_gateway(w))
        stage_fail(s, "it cannot be set up again");
}

static void churn(struct resources_world *w)
{
    struct stage *s = &w->fleet.stage;

    for (unsigned lives = w->stored ? stage_below(s, 4) : 0; lives && !s->failed; lives--) {
        stage_run(s, s->now + stage_below(s, 50 * SECOND));
        if (!s->failed)
            restart(w);
    }
    stage_run(s, s->now + TRAFFIC_US);
}

/* One last write of each, by who is there. */
static void write_last(struct resources_world *w)
{
    struct stage *s = &w->fleet.stage;

    for (unsigned i = 0; !s->failed && i < w->held_count; i++) {
        struct member *m = &w->members[i % w->member_count];

        caller_give_up(&m->writer);
        write_state(m, &w->held[i]);
        stage_run(s, s->now + 5 * SECOND);
    }
}

static void settle(struct resources_world *w)
{
    struct stage *s = &w->fleet.stage;

    w->calm = true;
    stage_note(s, "nothing changes any more");
    on_scarcity(s, NULL, 0);
    if (w->stored)
        on_outage(s, NULL, 0);
    stage_run(s, s->now + SPREAD_US);
    s->network.loss = 0;
    s->ring_size = 0;
    stage_note(s, "nothing is lost any more");
    stage_run(s, s->now + 10 * SECOND);
    write_last(w);
    stage_run(s, s->now + CALM_US);
    w->ending = true;
    for (unsigned i = 0; !s->failed && i < w->member_count; i++)
        check_next(&w->members[i]);
    stage_run(s, s->now + 10 * SECOND);
    for (unsigned i = 0; !s->failed && i < w->member_count; i++) {
        const struct member *m = &w->members[i];
        uint32_t last = resources_judge_last(w->judge, m->observed);

        if (m->checked < w->held_count)
            stage_fail(s, "the device at port %u has no answer", m->device.flow.peer_port);
        if (m->wanted && (!m->registered || m->state != last))
            stage_fail(s, "the device at port %u has been told of write %u of %s, not of %u",
                       m->device.flow.peer_port, m->state, m->observed->path, last);
    }
}

/* Everything goes: relations by their resources' end. */
static void clear(struct resources_world *w)
{
    struct stage *s = &w->fleet.stage;

    for (unsigned i = 0; i < w->member_count; i++)
        w->members[i].wanted = false;
    for (unsigned i = 0; !s->failed && i < w->held_count; i++) {
        remove_state(&w->members[i % w->member_count], &w->held[i]);
        stage_run(s, s->now + 5 * SECOND);
    }
    stage_run(s, s->now + END_US);
    if (!s->failed)
        stage_check_empty(s);
    if (!s->failed && w->stored && vault_count(&w->vault))
        stage_fail(s, "%u records are left", vault_count(&w->vault));
}

static void run(struct resources_world *w)
{
    struct stage *s = &w->fleet.stage;

    if (w->scarce && !s->ring_size)
        stage_at(s, s->now + stage_below(s, 10 * SECOND), on_scarcity, NULL, 1);
    if (w->stored && stage_below(s, 2))
        stage_at(s, s->now + stage_below(s, 60 * SECOND), on_outage, NULL, 1);
    churn(w);
    if (!s->failed)
        settle(w);
    if (!s->failed)
        clear(w);
}

int resources_run(uint64_t seed, bool trace)
{
    struct resources_world *w = calloc(1, sizeof(*w));
    int failed;

    fleet_begin(&w->fleet, "resources", seed, trace, &resources_judging);
    w->judge = resources_judge_create(w);
    w->fleet.handed = resources_judge_handed;
    fleet_draw_network(&w->fleet, 0.2);
    draw(w);
    if (open_gateway(w)) {
        make_members(w);
        run(w);
    }
    release_hoard(w);
    if (w->stored)
        vault_free(&w->vault);
    failed = fleet_end(&w->fleet);
    resources_judge_destroy(w->judge);
    free(w->members);
    free(w);
    return failed;
}
