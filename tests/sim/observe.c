#include "tests/sim/observe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHURN_US  (300 * SECOND) /* everything changes */
#define SPREAD_US (250 * SECOND) /* the last state spreads, over the network as it is */
#define CALM_US   (500 * SECOND) /* and over one that loses nothing */
#define LEAVE_US  (30 * SECOND)
#define SHAKE_US  (10 * SECOND) /* between changes that find out who is silent */
#define END_US    (1300 * SECOND)

struct resource *observe_find(struct observe_world *w, const struct message *request)
{
    char path[32], query[24];

    message_path(request, path, sizeof(path));
    message_query(request, query, sizeof(query));
    for (unsigned i = 0; i < w->resource_count; i++)
        if (strcmp(w->resources[i].path, path) == 0 && strcmp(w->resources[i].query, query) == 0)
            return &w->resources[i];
    return NULL;
}

/* ---- the world ---- */

static bool open_gateway(struct observe_world *w)
{
    static const unsigned every[] = {1, 2, 5, 20}, nstarts[] = {1, 1, 2, 8};
    static const char *const sizes[] = {"64B", "256B", "1KiB"};
    struct stage *s = &w->fleet.stage;
    char yaml[4096], upstreams[1024] = "", routes[512] = "";
    unsigned servers = 1 + stage_below(s, 3);

    w->confirm_every = every[stage_below(s, 4)];
    for (unsigned i = 0; i < servers; i++) {
        snprintf(upstreams + strlen(upstreams), sizeof(upstreams) - strlen(upstreams),
                 "  - {name: s%u, servers: [coap://10.0.9.%u], block_size: %s, "
                 "transmission: {nstart: 64}}\n",
                 i, i + 1, sizes[stage_below(s, 3)]);
        snprintf(routes + strlen(routes), sizeof(routes) - strlen(routes),
                 "  - {path: /s%u, to: s%u}\n", i, i);
    }
    snprintf(yaml, sizeof(yaml),
             "workers: %u\n"
             "interfaces:\n"
             "  - {name: s, device: \"tap:s0\", addresses: [" GATEWAY "/8]}\n"
             "listeners:\n"
             "  - {uri: coap://" GATEWAY ", block_size: %s, transmission: {nstart: %u}}\n"
             "upstreams:\n%s"
             "routes:\n%s"
             "observe: {confirm_every: %u}\n"
             "limits: {sessions: 2000, exchanges: 2000, outbound: 2000, remembered: 20000, "
             "queue: 1000, message_memory: 4MiB, amplification: %u}\n",
             1 + stage_below(s, WORKERS_MAX), sizes[stage_below(s, 3)], nstarts[stage_below(s, 4)],
             upstreams, routes, w->confirm_every, stage_below(s, 2) ? 0 : 3);
    if (!fleet_open(&w->fleet, yaml))
        return false;
    for (unsigned i = 0; i < servers; i++)
        source_init(w, i);
    return true;
}

static void on_change(struct stage *s, void *who, uint64_t what)
{
    struct observe_world *w = observe_world_of(s);
    struct resource *r = who;

    (void)what;
    if (w->calm)
        return;
    source_change(w, r);
    stage_at(s, s->now + 1000 + stage_below(s, (uint32_t)r->change_every_us), on_change, r, 0);
}

static void on_remove(struct stage *s, void *who, uint64_t what)
{
    (void)what;
    source_remove(observe_world_of(s), who);
}

static void make_resource(struct observe_world *w)
{
    static const int64_t ages[] = {-1, -1, 2, 10, 30, 60};
    static const uint32_t pauses[] = {1, 5, 20, 60};
    struct stage *s = &w->fleet.stage;
    struct resource *r = &w->resources[w->resource_count];
    bool large = stage_below(s, 3) == 0;

    r->id = w->resource_count++;
    r->server = stage_below(s, w->fleet.server_count);
    snprintf(r->path, sizeof(r->path), "/s%u/r%u", r->server, r->id / 2);
    r->query[0] = '\0';
    if (r->id % 2)
        snprintf(r->query, sizeof(r->query), "k=%u", r->id);
    r->state = 1;
    r->min_length = BODY_LINE;
    r->max_length = large ? BODY_MAX : stage_below(s, 2) ? 60 : BODY_LINE;
    r->etag = stage_below(s, 2);
    r->max_age = ages[stage_below(s, 6)];
    r->observable = stage_below(s, 8) != 0;
    r->change_every_us = 2 * pauses[stage_below(s, 4)] * SECOND;
    stage_at(s, s->now + stage_below(s, 60 * SECOND), on_change, r, 0);
    if (stage_below(s, 10) == 0)
        stage_at(s, s->now + 60 * SECOND + stage_below(s, 200 * SECOND), on_remove, r, 0);
}

static void on_restart(struct stage *s, void *who, uint64_t index)
{
    (void)who;
    source_restart(observe_world_of(s), (unsigned)index);
}

static void on_crash(struct stage *s, void *who, uint64_t index)
{
    (void)who;
    source_crash(observe_world_of(s), (unsigned)index);
    stage_at(s, s->now + SECOND + stage_below(s, 60 * SECOND), on_restart, NULL, index);
}

static void populate(struct observe_world *w)
{
    struct stage *s = &w->fleet.stage;
    unsigned resources = 1 + stage_below(s, RESOURCES_MAX);

    for (unsigned i = 0; i < resources; i++)
        make_resource(w);
    w->observer_count = stage_below(s, 4) ? 1 + stage_below(s, 10) : 10 + stage_below(s, 30);
    w->observers = calloc(w->observer_count, sizeof(w->observers[0]));
    for (unsigned i = 0; i < w->observer_count; i++)
        observer_init(w, i);
    for (unsigned i = 0; i < w->fleet.server_count; i++)
        if (stage_below(s, 4) == 0)
            stage_at(s, s->now + 30 * SECOND + stage_below(s, 150 * SECOND), on_crash, NULL, i);
}

/* ---- the phases ---- */

static void check_relations(struct observe_world *w)
{
    for (unsigned i = 0; i < w->fleet.stage.worker_count; i++) {
        struct worker_usage u;
        unsigned least, most;

        worker_usage(w->fleet.stage.workers[i], &u);
        observe_judge_count(w->judge, i, &least, &most);
        if (u.relations < least || u.relations > most)
            stage_fail(&w->fleet.stage, "worker %u has %u relations, and should have %u to %u", i,
                       u.relations, least, most);
    }
}

/* Everything comes to rest; then each observer that is left has the last state. */
static void settle(struct observe_world *w)
{
    struct stage *s = &w->fleet.stage;

    w->calm = true;
    stage_note(s, "nothing changes any more");
    stage_run(s, s->now + SPREAD_US);
    if (s->failed)
        return;
    s->network.loss = 0;
    stage_note(s, "nothing is lost any more");
    stage_run(s, s->now + CALM_US);
    for (unsigned i = 0; !s->failed && i < w->observer_count; i++)
        observer_check(w, &w->observers[i]);
    if (!s->failed)
        check_relations(w);
}

static void leave(struct observe_world *w)
{
    struct stage *s = &w->fleet.stage;

    w->leaving = true;
    for (unsigned i = 0; i < w->observer_count; i++)
        for (unsigned k = 0; k < w->observers[i].count; k++) {
            stage_run(s, s->now + stage_below(s, LEAVE_US / w->observer_count));
            observer_leave(&w->observers[i].watchings[k], stage_below(s, 3) ? DEREGISTER : RESET);
        }
}

/* Who has gone without a word is found out by notifications. */
static void shake(struct observe_world *w)
{
    struct stage *s = &w->fleet.stage;

    /* So often that each server sends a CON, too. */
    for (unsigned i = 0; i < w->confirm_every + 2 || i < SOURCE_CONFIRM_MAX + 2; i++) {
        for (unsigned k = 0; k < w->resource_count; k++)
            source_change(w, &w->resources[k]);
        stage_run(s, s->now + SHAKE_US);
    }
    stage_run(s, s->now + 600 * SECOND);
    for (unsigned i = 0; i < w->resource_count; i++)
        if (resource_subscribers(&w->resources[i]))
            stage_fail(s, "resource %u still has observers", w->resources[i].id);
    if (!s->failed)
        observe_judge_end(w->judge);
    if (!s->failed)
        check_relations(w);
}

static void run(struct observe_world *w)
{
    struct stage *s = &w->fleet.stage;

    stage_run(s, START_US + CHURN_US);
    if (!s->failed)
        settle(w);
    if (!s->failed)
        leave(w);
    if (!s->failed)
        shake(w);
    stage_run(s, s->now + END_US);
    if (!s->failed)
        stage_check_empty(s);
}

int observe_run(uint64_t seed, bool trace)
{
    struct observe_world *w = calloc(1, sizeof(*w));
    int failed;

    fleet_begin(&w->fleet, "observe", seed, trace, &observe_judging);
    w->judge = observe_judge_create(w);
    fleet_draw_network(&w->fleet, 0.3);
    if (open_gateway(w)) {
        populate(w);
        run(w);
    }
    failed = fleet_end(&w->fleet);
    observe_judge_destroy(w->judge);
    free(w->observers);
    free(w);
    return failed;
}
