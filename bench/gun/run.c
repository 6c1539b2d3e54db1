#include "bench/gun/run.h"

#include <signal.h>
#include <string.h>

#include "bench/gun/progress.h"

#define SLEEP_NS    (1 * MILLISECOND_NS) /* at most, when there is nothing to do */
#define LIFETIME_S  247                  /* EXCHANGE_LIFETIME (RFC 7252 4.8.2) */
#define SHORT_SLEEP 20000                /* ns; not worth it */

static volatile sig_atomic_t interrupted;

void run_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* What a run remembers from second to second. */
struct run {
    struct gun *g;
    struct progress *progress;
    uint64_t second_ns; /* when the next one begins */
    uint64_t seconds;
    uint64_t mids_used[LIFETIME_S + 1]; /* at the last seconds */
    bool mids_repeated;
};

/* A server remembers a message ID for EXCHANGE_LIFETIME (RFC 7252 4.4): devices take their turns,
 * so none uses more than its share of those that were used within it. */
static void each_second(struct run *r, uint64_t now)
{
    struct gun *g = r->g;
    uint64_t *old = &r->mids_used[r->seconds++ % (LIFETIME_S + 1)];

    if (g->mids_used - *old > (uint64_t)g->o->endpoints << 16)
        r->mids_repeated = true;
    *old = g->mids_used;
    r->second_ns = now + SECOND_NS;
    if (r->progress && engine_measures(g, now))
        progress_post(r->progress, g->r, (double)(now - g->begin_ns) / 1e9);
}

static uint64_t turn(struct run *r)
{
    struct gun *g = r->g;
    uint64_t now = clock_now(&g->clock), due, sleep = SLEEP_NS;

    if (engine_turn(g, now) == 0 && g->out_count == 0) {
        if (g->firing && g->open_loop) {
            due = schedule_due(&g->schedule, g->schedule.sent);
            sleep = due > now ? due - now : 0;
        }
        if (sleep > SHORT_SLEEP)
            g->carrier->wait(g->carrier, sleep < SLEEP_NS ? sleep : SLEEP_NS);
    }
    if (now >= r->second_ns)
        each_second(r, now);
    return now;
}

static void run_until(struct run *r, uint64_t end)
{
    while (turn(r) < end && !interrupted)
        ;
}

/* Handshakes. False when not all devices have an association: then there is nothing to measure. */
static bool connect_all(struct run *r)
{
    struct gun *g = r->g;
    uint64_t now = clock_now(&g->clock);

    secure_begin(g->secure, now);
    while (secure_is_busy(g->secure) && !interrupted) {
        if (secure_turn(g->secure, now) == 0)
            g->carrier->wait(g->carrier, SLEEP_NS);
        now = clock_now(&g->clock);
        if (r->progress && now >= r->second_ns) {
            progress_handshakes(r->progress, secure_result(g->secure), g->o->endpoints);
            r->second_ns = now + SECOND_NS;
        }
    }
    secure_end(g->secure, now);
    return secure_result(g->secure)->failed == 0;
}

static void register_observers(struct run *r)
{
    while (!observers_ready(r->g) && !interrupted)
        turn(r);
}

/* Until all that count have been answered or have timed out, and no debt is left. */
static void drain(struct run *r)
{
    struct gun *g = r->g;
    uint64_t due = g->open_loop ? schedule_count(&g->schedule, g->end_ns) : 0;
    uint64_t debt_end = g->end_ns + g->timeout_ns;

    g->firing = g->open_loop;
    for (;;) {
        uint64_t now = turn(r);

        if (g->firing && (g->schedule.sent >= due || now >= debt_end || interrupted))
            g->firing = false;
        if (!g->firing && (engine_open(g) == 0 || interrupted))
            break;
    }
    if (g->schedule.sent < due)
        g->r->unsent = due - g->schedule.sent;
    if (interrupted)
        g->r->sent -= engine_open(g); /* nobody knows what would have become of them */
}

static void begin_schedule(struct gun *g, double rate, uint64_t now)
{
    g->schedule = (struct schedule){.begin_ns = now, .interval_ns = 1e9 / rate};
}

static void measure(struct run *r, double rate)
{
    struct gun *g = r->g;
    uint64_t cycles = rte_rdtsc(), now;

    g->r->offered = rate;
    now = clock_now(&g->clock);
    r->second_ns = now + SECOND_NS;
    g->end_ns = now + (uint64_t)(g->o->duration_s * 1e9);
    g->begin_ns = now;
    run_until(r, g->end_ns);
    if (interrupted)
        g->end_ns = clock_now(&g->clock);
    g->r->cycles = rte_rdtsc() - cycles;
    g->r->seconds = (double)(g->end_ns - g->begin_ns) / 1e9;
    drain(r);
    g->r->mids_repeated = r->mids_repeated;
}

static void warm_up(struct run *r, double rate)
{
    struct gun *g = r->g;
    uint64_t now = clock_now(&g->clock);

    if (g->open_loop)
        begin_schedule(g, rate, now);
    g->firing = g->open_loop || g->o->window;
    run_until(r, now + (uint64_t)(g->o->warmup_s * 1e9));
}

/* ---- ramps ---- */

/* Counters of the whole run outlive the steps. */
static void clear_result(struct gun_result *r)
{
    uint64_t registered = r->registered, refused = r->refused;
    const struct gun_security *security = r->security;

    memset(r, 0, sizeof(*r));
    r->security = security;
    r->registered = registered;
    r->refused = refused;
}

static bool run_step(struct run *r, double rate, struct gun_step *step)
{
    struct gun *g = r->g;

    clear_result(g->r);
    begin_schedule(g, rate, clock_now(&g->clock));
    g->firing = true;
    measure(r, rate);
    step->offered = rate;
    step->reached = gun_rate(g->r);
    step->loss = gun_loss(g->r);
    step->p50_ns = histogram_at(&g->r->latency_ns, 0.5);
    step->p99_ns = histogram_at(&g->r->latency_ns, 0.99);
    step->good = step->loss * 100 <= g->o->loss_percent && g->r->answered;
    return step->good;
}

static void run_ramp(struct run *r, struct gun_ramp *ramp, struct gun_result *best)
{
    struct gun *g = r->g;
    struct search search;
    bool good;

    search_begin(&search, g->o->ramp_from, g->o->ramp_to, g->o->ramp_steps);
    while (search.next > 0 && ramp->count < GUN_STEPS_MAX && !interrupted) {
        good = run_step(r, search.next, &ramp->steps[ramp->count]);
        if (r->progress)
            progress_step(r->progress, &ramp->steps[ramp->count]);
        ramp->count++;
        if (good || ramp->count == 1)
            *best = *g->r;
        search_step(&search, good);
    }
    *g->r = *best;
}

void run_all(struct gun *g, struct gun_ramp *ramp, struct progress *progress)
{
    static struct gun_result best; /* too large for a stack */
    struct run r = {.g = g, .progress = progress};

    r.second_ns = clock_now(&g->clock) + SECOND_NS;
    if (g->secure && (!connect_all(&r) || g->o->duration_s == 0))
        return;
    register_observers(&r);
    warm_up(&r, g->o->mode == GUN_RAMP ? g->o->ramp_from : g->o->rate);
    if (g->o->mode == GUN_RAMP)
        run_ramp(&r, ramp, &best);
    else
        measure(&r, g->o->mode == GUN_OPEN ? g->o->rate : 0);
    engine_flush(g);
}
