#include "tests/sim/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/hash.h"

#define TRAFFIC_US (600 * SECOND)
#define END_US     (1200 * SECOND)
#define IDS_MAX    65536
#define KNOWN_MAX  8 /* answers that a device remembers */
#define TOGETHER   2 /* requests of one device at a time */

struct asker {
    struct device device;
    struct caller callers[TOGETHER];
    unsigned left;
    uint32_t pause_us;
    struct known {
        uint32_t key;
        struct etag etag;
    } known[KNOWN_MAX];
    unsigned known_next;
    uint8_t payloads[TOGETHER][BODY_LINE];
};

static struct cache_world *world_of(struct stage *s)
{
    return (struct cache_world *)s;
}

uint32_t cache_key(const struct message *m)
{
    struct option_cursor c = option_cursor(m);
    struct option_view view;
    uint64_t hash = m->code;

    while (option_next(&c, &view))
        if (c.number == OPTION_URI_PATH || c.number == OPTION_URI_QUERY ||
            c.number == OPTION_ACCEPT || c.number == OPTION_SAFE)
            hash = hash_bytes(view.value, view.length, hash + c.number);
    if (m->code == CODE_FETCH)
        hash = hash_bytes(m->payload, m->payload_length, hash);
    return (uint32_t)hash | 1;
}

int cache_target(const struct cache_world *w, const struct message *m)
{
    char path[32], query[24];

    message_path(m, path, sizeof(path));
    message_query(m, query, sizeof(query));
    for (unsigned i = 0; i < w->target_count; i++)
        if (strcmp(w->targets[i].path, path) == 0 && strcmp(w->targets[i].query, query) == 0)
            return (int)i;
    return -1;
}

/* ---- the server ---- */

static bool has_etag(const struct message *m, const struct etag *etag)
{
    struct option_cursor c = option_cursor_at(m, SLOT_ETAG);
    struct option_view view;

    while (option_next_same(&c, &view))
        if (view.length == etag->length && memcmp(view.value, etag->value, view.length) == 0)
            return true;
    return false;
}

static void answer_safe(struct cache_world *w, const struct flow *flow, const struct message *m,
                        const struct target *t)
{
    uint32_t key = cache_key(m);
    struct response r = response_make(CODE_CONTENT);
    struct etag etag = body_etag(key, t->version);
    uint8_t body[256];

    r.max_age = t->max_age;
    if (t->etag)
        r.etag = etag;
    if (t->etag && has_etag(m, &etag)) {
        r.code = CODE_VALID;
    } else {
        r.payload = body;
        r.payload_length = body_length(w->fleet.stage.seed, key, t->version, BODY_LINE, 200);
        body_write(body, r.payload_length, key, t->version);
    }
    node_respond(&w->server, flow, m, &r, 3 * SECOND);
}

/* What it does is told with the version that comes of it. */
static void answer_unsafe(struct cache_world *w, const struct flow *flow, const struct message *m,
                          struct target *t)
{
    struct response r = response_make(CODE_BAD_REQUEST);
    uint8_t body[BODY_LINE];
    uint32_t id;

    if (m->payload_length != BODY_LINE) {
        stage_fail(&w->fleet.stage, "an unsafe request has lost its payload");
        return;
    }
    memcpy(&id, m->payload, sizeof(id));
    if (w->executed[id % IDS_MAX]++)
        stage_fail(&w->fleet.stage, "unsafe request %u was executed twice", id);
    if (stage_below(&w->fleet.stage, 5)) {
        t->version++;
        stage_note(&w->fleet.stage, "%s?%s has version %u", t->path, t->query, t->version);
        r.code = m->code == CODE_DELETE ? CODE_DELETED : CODE_CHANGED;
        body_write(body, sizeof(body), id, t->version);
        r.payload = body;
        r.payload_length = sizeof(body);
    }
    node_respond(&w->server, flow, m, &r, SECOND);
}

static void on_request(struct node *n, const struct flow *flow, const struct message *m)
{
    struct cache_world *w = world_of(n->stage);
    int target = cache_target(w, m);

    if (target < 0)
        stage_fail(n->stage, "a request for nothing that there is");
    else if (code_is_safe(m->code))
        answer_safe(w, flow, m, &w->targets[target]);
    else
        answer_unsafe(w, flow, m, &w->targets[target]);
}

static const struct node_handler handler = {.request = on_request};

static void on_change(struct stage *s, void *who, uint64_t every)
{
    struct target *t = who;

    t->version++;
    stage_note(s, "%s?%s has version %u", t->path, t->query, t->version);
    if (s->now < START_US + TRAFFIC_US)
        stage_at(s, s->now + stage_below(s, (uint32_t)every), on_change, t, every);
}

static void make_targets(struct cache_world *w)
{
    static const int64_t ages[] = {-1, 0, 1, 3, 10, 60};
    struct stage *s = &w->fleet.stage;

    w->target_count = 1 + stage_below(s, TARGETS_MAX);
    for (unsigned i = 0; i < w->target_count; i++) {
        struct target *t = &w->targets[i];

        snprintf(t->path, sizeof(t->path), "/c/%u", i / 3);
        t->query[0] = '\0';
        if (i % 3)
            snprintf(t->query, sizeof(t->query), "q=%u", i % 3);
        t->version = 1;
        t->etag = stage_below(s, 2);
        t->max_age = ages[stage_below(s, 6)];
        if (stage_below(s, 2))
            stage_at(s, s->now + stage_below(s, 20 * SECOND), on_change, t,
                     (uint64_t)(2 + stage_below(s, 60)) * SECOND);
    }
    w->accepts = 1 + stage_below(s, 3);
    w->safes = 1 + stage_below(s, 3);
    w->payloads = 1 + stage_below(s, 3);
}

/* ---- the devices ---- */

static const uint8_t *fetch_payload(struct cache_world *w)
{
    static const uint8_t texts[3][BODY_LINE] = {"first question", "other question", "third"};

    return texts[stage_below(&w->fleet.stage, w->payloads)];
}

/* ETags that the device knows, for whatever key, and some that nobody has given. */
static void add_etags(struct asker *a, struct request *r)
{
    struct stage *s = a->device.node.stage;

    for (unsigned i = 0; i < ETAGS_MAX; i++) {
        const struct known *known = &a->known[stage_below(s, KNOWN_MAX)];

        if (stage_below(s, 2) && known->etag.length)
            r->etags[r->etag_count++] = known->etag;
        else if (stage_below(s, 8) == 0)
            r->etags[r->etag_count++] = body_etag((uint32_t)random_u64(&s->random), 1);
    }
}

static void choose_safe(struct cache_world *w, struct asker *a, struct request *r)
{
    static const int64_t accepts[] = {-1, 0, 50};
    struct stage *s = &w->fleet.stage;

    r->method = stage_below(s, 4) ? CODE_GET : CODE_FETCH;
    r->accept = accepts[stage_below(s, w->accepts)];
    r->safe = stage_below(s, w->safes);
    r->unkeyed = stage_below(s, 4) == 0 ? 1 + stage_below(s, 3) : 0;
    if (r->method == CODE_FETCH) {
        r->payload = fetch_payload(w);
        r->payload_length = BODY_LINE;
    }
    if (stage_below(s, 2))
        add_etags(a, r);
}

static void choose_unsafe(struct cache_world *w, struct request *r, uint8_t payload[BODY_LINE])
{
    static const uint8_t methods[] = {CODE_PUT, CODE_POST, CODE_DELETE, CODE_PATCH, CODE_IPATCH};

    r->method = methods[stage_below(&w->fleet.stage, 5)];
    body_write(payload, BODY_LINE, w->next_id++, 0);
    r->payload = payload;
    r->payload_length = BODY_LINE;
}

static void on_time_to_ask(struct stage *s, void *who, uint64_t which)
{
    struct cache_world *w = world_of(s);
    struct asker *a = who;
    struct caller *c = &a->callers[which];
    const struct target *t = &w->targets[stage_below(s, w->target_count)];

    if (!a->left)
        return;
    a->left--;
    c->request = request_make(CODE_GET, stage_below(s, 4) ? TYPE_CON : TYPE_NON, t->path);
    strcpy(c->request.query, t->query);
    if (stage_below(s, 10))
        choose_safe(w, a, &c->request);
    else
        choose_unsafe(w, &c->request, a->payloads[which]);
    caller_new_token(c);
    caller_ask(c);
}

/* The key of what a caller has asked for, as everyone else sees it. */
static uint32_t key_of(const struct caller *c)
{
    uint8_t bytes[MESSAGE_BYTES];
    struct message m;
    size_t length = request_write(&c->request, bytes, sizeof(bytes), 0, c->token, c->token_length);

    return message_parse(bytes, length, &m) == VERDICT_OK ? cache_key(&m) : 0;
}

static void take(struct asker *a, const struct caller *c, const struct message *m)
{
    struct stage *s = a->device.node.stage;
    uint32_t key = key_of(c), version;

    if (!body_check(m->payload, m->payload_length, key, &version))
        stage_fail(s, "a device has got another key's answer");
    if (message_has(m, SLOT_ETAG))
        a->known[a->known_next++ % KNOWN_MAX] = (struct known){key, message_etag(m)};
}

static void on_answered(struct caller *c, const struct message *m)
{
    struct asker *a = c->owner;
    struct stage *s = a->device.node.stage;
    bool safe = code_is_safe(c->request.method);

    if (m && safe && m->code == CODE_CONTENT)
        take(a, c, m);
    if (!m && s->network.loss == 0 && c->request.type == TYPE_CON)
        stage_fail(s, "no answer, and nothing was lost");
    if (m && safe && m->code != CODE_CONTENT && m->code != CODE_VALID && s->network.loss == 0)
        stage_fail(s, "a device got %u.%02u", code_class(m->code), code_detail(m->code));
    stage_at(s, s->now + stage_below(s, a->pause_us), on_time_to_ask, a,
             (uint64_t)(c - a->callers));
}

static void make_askers(struct cache_world *w)
{
    static const uint32_t pauses[] = {1000, 100000, 2000000, 10000000};
    struct stage *s = &w->fleet.stage;

    w->asker_count = 1 + stage_below(s, 20);
    w->askers = calloc(w->asker_count, sizeof(w->askers[0]));
    w->executed = calloc(IDS_MAX, 1);
    for (unsigned i = 0; i < w->asker_count; i++) {
        struct asker *a = &w->askers[i];

        device_init(&a->device, &w->fleet, a);
        a->left = 10 + stage_below(s, 50);
        a->pause_us = 1 + pauses[stage_below(s, 4)];
        for (unsigned k = 0; k < TOGETHER; k++) {
            caller_init(&a->callers[k], &a->device, a, on_answered);
            stage_at(s, s->now + stage_below(s, a->pause_us), on_time_to_ask, a, k);
        }
    }
}

/* ---- the run ---- */

static bool open_gateway(struct cache_world *w)
{
    struct stage *s = &w->fleet.stage;
    char yaml[2048];

    snprintf(yaml, sizeof(yaml),
             "workers: %u\n"
             "interfaces:\n"
             "  - {name: s, device: \"tap:s0\", addresses: [" GATEWAY "/8]}\n"
             "listeners:\n"
             "  - {uri: coap://" GATEWAY ", transmission: {nstart: 64}}\n"
             "upstreams:\n"
             "  - {name: a, servers: [coap://10.0.9.1], transmission: {nstart: 64}}\n"
             "routes:\n"
             "  - {path: /, to: a}\n"
             "cache: {size: %s}\n"
             "limits: {sessions: 2000, exchanges: 2000, outbound: 2000, remembered: 20000, "
             "queue: 1000, message_memory: 4MiB, amplification: %u}\n",
             1 + stage_below(s, WORKERS_MAX), stage_below(s, 5) ? "1MiB" : "0",
             stage_below(s, 2) ? 0 : 3);
    return fleet_open(&w->fleet, yaml);
}

static void run(struct cache_world *w)
{
    struct stage *s = &w->fleet.stage;

    node_init(&w->server, s, &handler, w);
    fleet_add_server(&w->fleet, &w->server);
    make_targets(w);
    make_askers(w);
    stage_run(s, START_US + TRAFFIC_US);
    for (unsigned i = 0; i < w->asker_count; i++)
        w->askers[i].left = 0;
    stage_run(s, s->now + END_US);
    if (!s->failed)
        stage_check_empty(s);
}

int cache_run(uint64_t seed, bool trace)
{
    struct cache_world *w = calloc(1, sizeof(*w));
    int failed;

    fleet_begin(&w->fleet, "cache", seed, trace, &cache_judging);
    w->judge = cache_judge_create(w);
    fleet_draw_network(&w->fleet, 0.2);
    if (open_gateway(w))
        run(w);
    failed = fleet_end(&w->fleet);
    cache_judge_destroy(w->judge);
    free(w->askers);
    free(w->executed);
    free(w);
    return failed;
}
