#include "tests/sim/restart.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_mempool.h>

#include "gateway/session/session.h"

#define SPREAD_US (250 * SECOND) /* the last state spreads, over the network as it is */
#define CALM_US   (300 * SECOND) /* and over one that loses nothing */
#define LEAVE_US  (30 * SECOND)
#define SHAKE_US  (10 * SECOND) /* between changes that find out who is silent */
#define END_US    (1300 * SECOND)

#define DRAIN_US     SECOND
#define NUMBER_SHIFT 14
#define NUMBER_WRAP  (UINT64_C(1) << 38) /* after so many microseconds 24 bits are full */

#define DISASTER_US  (60 * SECOND) /* from one to the next, at the most */
#define STORM_MAX    3000
#define STORM_FREE   (MID_LEAD - 100) /* the rest is for what else is sent */
#define STORM_GAP_US 2
#define BURST_GAP_US 1000 /* each change is told by itself */
#define STORMS       2
#define LIVES_MAX    6

static struct stage *stage_of(struct restart_world *w)
{
    return &w->base.fleet.stage;
}

/* ---- resources and servers ---- */

static void on_change(struct stage *s, void *who, uint64_t what)
{
    struct restart_world *w = restart_world_of(s);
    struct resource *r = who;

    (void)what;
    if (w->calm)
        return;
    source_change(&w->base, r);
    stage_at(s, s->now + 1000 + stage_below(s, (uint32_t)r->change_every_us), on_change, r, 0);
}

static void make_resource(struct restart_world *w)
{
    static const int64_t ages[] = {-1, 2, 10, 30, 60, 300};
    static const uint32_t pauses[] = {1, 10, 60, 300};
    struct stage *s = stage_of(w);
    struct resource *r = &w->base.resources[w->base.resource_count];

    r->id = w->base.resource_count++;
    r->server = stage_below(s, w->base.fleet.server_count);
    snprintf(r->path, sizeof(r->path), "/s%u/r%u", r->server, r->id / 2);
    r->query[0] = '\0';
    if (r->id % 2)
        snprintf(r->query, sizeof(r->query), "k=%u", r->id);
    r->state = 1;
    r->min_length = BODY_LINE;
    r->max_length = 60;
    r->etag = stage_below(s, 2);
    r->max_age = ages[stage_below(s, 6)];
    r->observable = true;
    r->change_every_us = 2 * pauses[stage_below(s, 4)] * SECOND;
    stage_at(s, s->now + stage_below(s, 60 * SECOND), on_change, r, 0);
}

/* So many changes that Observe numbers run ahead of the clock. */
static void on_storm(struct stage *s, void *who, uint64_t left)
{
    struct restart_world *w = restart_world_of(s);
    struct resource *r = who;
    struct source *source = &w->base.sources[r->server];
    unsigned confirm_every = source->confirm_every;

    if (w->calm)
        return;
    source->confirm_every = UINT32_MAX; /* a CON would make the next ones wait */
    source_change(&w->base, r);
    w->stormed++;
    source->confirm_every = confirm_every;
    if (left)
        stage_at(s, s->now + 1 + stage_below(s, w->bursts ? BURST_GAP_US : 2 * STORM_GAP_US),
                 on_storm, r, left - 1);
}

/* One that somebody observes, or NULL. */
static struct resource *observed(struct restart_world *w)
{
    for (unsigned i = 0; i < w->watcher_count; i++)
        for (unsigned k = 0; k < w->watchers[i].count; k++)
            if (w->watchers[i].interests[k].registered && !w->watchers[i].device.node.down)
                return w->watchers[i].interests[k].resource;
    return NULL;
}

static void on_weather(struct stage *s, void *who, uint64_t storms)
{
    struct restart_world *w = restart_world_of(s);
    struct resource *r = observed(w);

    (void)who;
    if (r && s->running) {
        on_storm(s, r, stage_below(s, stage_below(s, 2) ? STORM_MAX : STORM_FREE));
        storms--;
    }
    if (storms && !w->calm)
        stage_at(s, s->now + stage_below(s, 20 * SECOND), on_weather, NULL, storms);
}

/* ---- the gateway ---- */

struct plan {
    unsigned servers, confirm_every, spread_s, timeout_ms, save_freq, nstart, amplification;
};

static struct plan draw_plan(struct restart_world *w)
{
    static const unsigned every[] = {1, 2, 5, 20}, nstarts[] = {1, 1, 2, 8};
    static const unsigned spreads[] = {0, 1, 10, 30}, timeouts[] = {50, 500, 2000};
    static const unsigned freqs[] = {1, 10, 100000};
    struct stage *s = stage_of(w);

    w->reject = stage_below(s, 2);
    w->lives_left = 1 + stage_below(s, LIVES_MAX);
    w->bursts = stage_below(s, 6) == 0;
    if (w->bursts) /* one by one, at once: what waits for an ACK is not sent so often */
        return (struct plan){
            .servers = 1, .confirm_every = 60000, .timeout_ms = 500, .save_freq = 1, .nstart = 1};
    return (struct plan){.servers = 1 + stage_below(s, 2),
                         .confirm_every = every[stage_below(s, 4)],
                         .spread_s = spreads[stage_below(s, 4)],
                         .timeout_ms = timeouts[stage_below(s, 3)],
                         .save_freq = freqs[stage_below(s, 3)],
                         .nstart = nstarts[stage_below(s, 4)],
                         .amplification = stage_below(s, 2) ? 0 : 3};
}

/* Without the store message IDs follow from nothing that is known. */
static void remember(struct restart_world *w)
{
    struct stage *s = stage_of(w);
    bool own;

    s->number_floor = vault_floor(&w->vault);
    s->mid_life = vault_life(&w->vault, &own);
    s->mid_key = s->mid_life ? w->secret : 0;
    s->forgetful[s->life + 1] = !own;
}

static bool open_gateway(struct restart_world *w, const struct plan *plan)
{
    char yaml[4096], upstreams[512] = "", routes[512] = "";

    for (unsigned i = 0; i < plan->servers; i++) {
        snprintf(upstreams + strlen(upstreams), sizeof(upstreams) - strlen(upstreams),
                 "  - {name: s%u, servers: [coap://10.0.9.%u], transmission: {nstart: 64}}\n", i,
                 i + 1);
        snprintf(routes + strlen(routes), sizeof(routes) - strlen(routes),
                 "  - {path: /s%u, to: s%u}\n", i, i);
    }
    snprintf(yaml, sizeof(yaml),
             "workers: %u\n"
             "interfaces:\n"
             "  - {name: s, device: \"tap:s0\", addresses: [" GATEWAY "/8]}\n"
             "listeners:\n"
             "  - {uri: coap://" GATEWAY ", transmission: {nstart: %u}}\n"
             "upstreams:\n%s"
             "routes:\n%s"
             "  - {path: /hello, respond: {payload: \"hello world!\"}}\n"
             "observe: {confirm_every: %u}\n"
             "store: {url: \"redis://127.0.0.1:6379/0\", on_failure: %s, timeout: %ums, "
             "resume_spread: %us, save_freq: %u}\n"
             "limits: {sessions: 2000, exchanges: 2000, outbound: 2000, remembered: 20000, "
             "queue: 1000, message_memory: 4MiB, amplification: %u}\n",
             1 + stage_below(stage_of(w), WORKERS_MAX), plan->nstart, upstreams, routes,
             plan->confirm_every, w->reject ? "reject" : "serve", plan->timeout_ms, plan->spread_s,
             plan->save_freq, plan->amplification);
    remember(w);
    if (!fleet_open(&w->base.fleet, yaml))
        return false;
    w->born_at = stage_of(w)->now;
    w->stormed = 0;
    w->lives++;
    restart_judge_born(w->judge);
    vault_start(&w->vault);
    return true;
}

/* ---- disasters: the store's ---- */

static void release_hoard(struct restart_world *w)
{
    struct stage *s = stage_of(w);

    if (w->hoarded)
        parcel_free(s->parcels, w->hoard);
    w->hoarded = 0;
    w->hoard = NULL;
}

static void on_relief(struct stage *s, void *who, uint64_t what)
{
    struct restart_world *w = restart_world_of(s);

    (void)who;
    (void)what;
    vault_come_back(&w->vault);
    w->vault.deaf = w->vault.failing = false;
    if (w->hurried)
        w->trouble_at = s->now;
    w->hurried = false;
    release_hoard(w);
}

/* Few parcels are left. */
static void hoard(struct restart_world *w)
{
    struct stage *s = stage_of(w);
    unsigned left = stage_below(s, 6), free = rte_mempool_avail_count(s->parcels);

    if (w->hoarded || free <= left)
        return;
    w->hoarded = free - left;
    w->hoard = parcel_new(s->parcels, PARCEL_RECORD, 0, w->hoarded * PARCEL_DATA_BYTES);
    w->hurried = true;
    stage_note(s, "%u parcels are left", left);
}

static void on_disaster(struct stage *s, void *who, uint64_t what)
{
    struct restart_world *w = restart_world_of(s);
    struct vault *v = &w->vault;
    uint64_t relief = 100000 + stage_below(s, stage_below(s, 3) ? 5 * SECOND : 40 * SECOND);

    (void)who;
    (void)what;
    if (w->calm)
        return;
    switch (stage_below(s, 12)) {
    case 0:
    case 1:
    case 2:
        stage_note(s, "store: away for %llu us", (unsigned long long)relief);
        vault_go_away(v);
        break;
    case 3:
    case 4:
        vault_stall(v, relief / 2);
        break;
    case 5:
        vault_cut(v);
        break;
    case 6:
    case 10:
        stage_note(s, "store: takes nothing for %llu us", (unsigned long long)relief);
        v->deaf = w->hurried = true;
        break;
    case 7:
    case 11:
        hoard(w);
        break;
    case 8:
        stage_note(s, "store: Redis refuses for %llu us", (unsigned long long)relief);
        v->failing = true;
        break;
    case 9:
        if (stage_below(s, 4) == 0 && v->floor_known) { /* else nobody knows the numbers */
            vault_lose(v);
            restart_judge_lost(w->judge);
        }
        break;
    }
    stage_at(s, s->now + relief, on_relief, NULL, 0);
    stage_at(s, s->now + relief + stage_below(s, DISASTER_US), on_disaster, NULL, 0);
}

/* ---- disasters: the gateway's ---- */

static void die(struct restart_world *w)
{
    struct stage *s = stage_of(w);

    release_hoard(w);
    restart_judge_killed(w->judge);
    if (w->draining)
        vault_stop(&w->vault);
    else
        vault_kill(&w->vault);
    if (w->draining)
        restart_judge_stopped(w->judge);
    fleet_kill(&w->base.fleet);
    w->draining = false;
    if (!s->failed && stage_parcels_out(s))
        stage_fail(s, "%u parcels have gone with the process", stage_parcels_out(s));
}

/* Until it has nothing more to do, or for a second. */
static void drain(struct restart_world *w)
{
    struct stage *s = stage_of(w);
    uint64_t end = s->now + DRAIN_US;
    bool quiet = false;

    stage_note(s, "the gateway stops");
    w->draining = true;
    for (unsigned i = 0; i < s->worker_count; i++)
        worker_drain(s->workers[i]);
    while (!s->failed && !quiet && s->now < end) {
        stage_run(s, s->now + 10000);
        quiet = true;
        for (unsigned i = 0; i < s->worker_count; i++)
            quiet &= worker_is_quiet(s->workers[i]);
    }
}

/* The wall clock may have been set meanwhile: back only where the store knows how far it was, and
 * the gateway starts from there. */
static void set_clock(struct restart_world *w, uint64_t clock_then)
{
    struct stage *s = stage_of(w);
    struct vault *v = &w->vault;
    bool known = v->redis_mark > clock_then >> NUMBER_SHIFT && vault_clock(v) >= clock_then;
    uint64_t by = stage_below(s, stage_below(s, 2) ? 5 * SECOND : 200 * SECOND);
    unsigned way = stage_below(s, 6);

    if (way < 2 && known) {
        s->clock_ahead_us -= by;
        stage_note(s, "the clock is set back by %llu us", (unsigned long long)by);
    } else if (way == 2) {
        s->clock_ahead_us += by % (30 * SECOND); /* message IDs follow it round their circle */
    }
    if (stage_clock(s) < vault_clock(v))
        s->clock_ahead_us = vault_clock(v) - s->now;
}

/* The process ends in one way or the other, and another one is started. */
static void restart(struct restart_world *w, const struct plan *plan)
{
    struct stage *s = stage_of(w);
    uint64_t clock_then, pause = stage_below(s, stage_below(s, 5) ? 10 * SECOND : 200 * SECOND);

    if (stage_below(s, 4) == 0)
        drain(w);
    if (s->failed)
        return;
    stage_note(s, "the gateway is gone");
    clock_then = stage_clock(s);
    die(w);
    /* After a storm message IDs, of which the clock gives 128 a second, have run ahead of it: if it
     * is more than a life has ahead of the one before, the clock catches up with them, but not with
     * the numbers, of which it gives 61. */
    if (w->stormed > STORM_FREE)
        stage_run(s, s->now + SECOND + w->stormed * SECOND / 120);
    else
        stage_run(s, s->now + 10000 + (w->hasty ? pause / 100 : pause));
    if (s->failed)
        return;
    set_clock(w, clock_then);
    stage_note(s, "the gateway starts");
    if (!open_gateway(w, plan))
        stage_fail(s, "it cannot be set up again");
}

/* ---- the phases ---- */

/* A process that dies soon, and right after a burst: its sessions have run ahead of the clock. */
static void live_hastily(struct restart_world *w)
{
    struct stage *s = stage_of(w);
    struct resource *r;

    stage_run(s, s->now + stage_below(s, w->lives > 1 ? SECOND : 4 * SECOND));
    r = observed(w);
    if (!r || resource_subscribers(r) == 0 || s->failed)
        return;
    stage_note(s, "a burst");
    on_storm(s, r, STORM_FREE - stage_below(s, 50));
    stage_run(s, s->now + STORM_FREE * BURST_GAP_US / 2 + stage_below(s, SECOND / 2));
}

static void churn(struct restart_world *w, const struct plan *plan)
{
    struct stage *s = stage_of(w);

    for (; w->lives_left && !s->failed; w->lives_left--) {
        w->hasty = w->bursts && w->stormed == 0 && stage_below(s, 4);
        if (w->hasty)
            live_hastily(w);
        else
            stage_run(s, s->now + 1000 +
                             stage_below(s, stage_below(s, 3) ? 100 * SECOND : 2 * SECOND));
        if (!s->failed)
            restart(w, plan);
    }
    w->hasty = false;
    stage_run(s, s->now + stage_below(s, 60 * SECOND));
}

static void settle(struct restart_world *w)
{
    struct stage *s = stage_of(w);

    w->calm = true;
    stage_note(s, "nothing changes any more");
    on_relief(s, NULL, 0);
    stage_run(s, s->now + SPREAD_US);
    s->network.loss = 0;
    stage_note(s, "nothing is lost any more");
    for (unsigned i = 0; !s->failed && i < w->base.resource_count; i++)
        source_change(&w->base, &w->base.resources[i]);
    stage_run(s, s->now + CALM_US);
    if (!s->failed)
        restart_judge_settled(w->judge);
}

static void leave(struct restart_world *w)
{
    struct stage *s = stage_of(w);

    w->base.leaving = true;
    for (unsigned i = 0; i < w->watcher_count; i++)
        for (unsigned k = 0; k < w->watchers[i].count; k++) {
            stage_run(s, s->now + stage_below(s, LEAVE_US / w->watcher_count));
            interest_part(&w->watchers[i].interests[k],
                          stage_below(s, 3) ? PART_CANCEL : PART_REJECT);
        }
}

/* Who has gone without a word is found out by notifications. */
static void shake(struct restart_world *w, const struct plan *plan)
{
    struct stage *s = stage_of(w);

    for (unsigned i = 0; i < plan->confirm_every + 2 || i < SOURCE_CONFIRM_MAX + 2; i++) {
        for (unsigned k = 0; !s->failed && k < w->base.resource_count; k++)
            source_change(&w->base, &w->base.resources[k]);
        stage_run(s, s->now + SHAKE_US);
    }
    stage_run(s, s->now + 600 * SECOND);
    for (unsigned i = 0; i < w->base.resource_count; i++)
        if (resource_subscribers(&w->base.resources[i]))
            stage_fail(s, "resource %u still has observers", w->base.resources[i].id);
    if (!s->failed)
        restart_judge_end(w->judge);
}

static void run(struct restart_world *w, const struct plan *plan)
{
    struct stage *s = stage_of(w);

    stage_at(s, s->now + stage_below(s, DISASTER_US), on_disaster, NULL, 0);
    churn(w, plan);
    if (!s->failed)
        settle(w);
    if (!s->failed)
        leave(w);
    if (!s->failed)
        shake(w, plan);
    stage_run(s, s->now + END_US);
    if (!s->failed)
        stage_check_empty(s);
}

/* ---- start and end ---- */

static void populate(struct restart_world *w)
{
    struct stage *s = stage_of(w);
    unsigned resources = 1 + stage_below(s, RESOURCES_MAX);

    for (unsigned i = 0; i < resources; i++)
        make_resource(w);
    w->watcher_count =
        w->bursts || stage_below(s, 4) ? 1 + stage_below(s, 8) : 8 + stage_below(s, 24);
    w->watchers = calloc(w->watcher_count, sizeof(w->watchers[0]));
    w->stormy = w->bursts || (w->watcher_count <= 8 && stage_below(s, 3) == 0);
    for (unsigned i = 0; i < w->watcher_count; i++)
        watcher_init(w, i);
    if (w->stormy) {
        s->network.delay_max_us = s->network.delay_min_us; /* what is overtaken counts nothing */
        stage_at(s, s->now + stage_below(s, 20 * SECOND), on_weather, NULL, STORMS);
    }
}

/* Wall clocks; of half of them the 24 bits of an Observe number end during the run. */
static void draw_clock(struct restart_world *w)
{
    struct stage *s = stage_of(w);
    uint64_t wraps = 6000 + stage_below(s, 1000);

    s->clock_ahead_us = wraps * NUMBER_WRAP - START_US;
    if (stage_below(s, 2))
        s->clock_ahead_us -= stage_below(s, 800 * SECOND);
    else
        s->clock_ahead_us += random_u64(&s->random) % NUMBER_WRAP;
    w->secret = random_u64(&s->random) | 1;
}

int restart_run(uint64_t seed, bool trace)
{
    struct restart_world *w = calloc(1, sizeof(*w));
    struct stage *s = stage_of(w);
    struct plan plan;
    int failed;

    fleet_begin(&w->base.fleet, "restart", seed, trace, &restart_judging);
    w->judge = restart_judge_create(w);
    s->deaths = true;
    fleet_draw_network(&w->base.fleet, 0.25);
    w->lossy = s->network.loss > 0;
    vault_init(&w->vault, s);
    w->base.fleet.vault = &w->vault;
    plan = draw_plan(w);
    w->base.confirm_every = plan.confirm_every;
    draw_clock(w);
    if (open_gateway(w, &plan)) {
        for (unsigned i = 0; i < plan.servers; i++)
            source_init(&w->base, i);
        populate(w);
        run(w, &plan);
    }
    release_hoard(w);
    vault_free(&w->vault);
    failed = fleet_end(&w->base.fleet);
    restart_judge_destroy(w->judge);
    free(w->watchers);
    free(w);
    return failed;
}
