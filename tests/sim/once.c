/* Devices whose requests add up (POST, PATCH), and a gateway that is killed and started again at
 * any moment: whatever is lost or repeated, a server executes none of them twice (RFC 7252 4.5),
 * and none is refused that no former process has had. What remembers is the journal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/fleet.h"

#define POSTERS_MAX 12
#define ASKED_MAX   200000
#define PAYLOAD     16 /* "ID" and zeros */
#define LIVES_MAX   12
#define END_US      (600 * SECOND)
#define REFUSAL     "the gateway was restarted"

struct poster {
    struct device device;
    struct caller callers[CALLERS_MAX];
    uint8_t payloads[CALLERS_MAX][PAYLOAD];
    uint8_t life_of[65536]; /* in which a request with this message ID first came; 0: in none */
};

struct once_world {
    struct fleet fleet; /* the first member */
    struct node servers[2];
    unsigned server_count, slow_us, pause_us;
    struct poster posters[POSTERS_MAX];
    unsigned poster_count;
    uint8_t executed[ASKED_MAX];
    unsigned asked, answered, refused;
    bool calm, leaving;
};

static struct once_world *world_of(struct stage *s)
{
    return (struct once_world *)s;
}

/* ---- servers ---- */

static void on_request(struct node *n, const struct flow *flow, const struct message *m)
{
    struct once_world *w = world_of(n->stage);
    struct response answer = response_make(CODE_CHANGED);
    unsigned id = m->payload_length == PAYLOAD ? (unsigned)atoi((const char *)m->payload) : 0;

    if (id == 0 || id > w->asked)
        stage_fail(n->stage, "a request that nobody has made");
    else if (++w->executed[id] > 1)
        stage_fail(n->stage, "request %u is executed a second time", id);
    node_respond(n, flow, m, &answer, w->calm ? 1000 : w->slow_us);
}

static const struct node_handler serving = {.request = on_request};

/* ---- devices ---- */

static void ask(struct once_world *w, struct caller *c)
{
    struct stage *s = &w->fleet.stage;
    uint8_t *payload = c->owner;
    char path[16];

    if (++w->asked == ASKED_MAX)
        stage_fail(s, "too many requests for this simulation");
    memset(payload, 0, PAYLOAD);
    snprintf((char *)payload, PAYLOAD, "%u", w->asked);
    snprintf(path, sizeof(path), "/s%u/x", stage_below(s, w->server_count));
    c->request = request_make(stage_below(s, 4) ? CODE_POST : CODE_PATCH,
                              stage_below(s, 5) ? TYPE_CON : TYPE_NON, path);
    c->request.payload = payload;
    c->request.payload_length = PAYLOAD;
    caller_new_token(c);
    caller_ask(c);
}

static void on_pause_over(struct stage *s, void *who, uint64_t what)
{
    struct once_world *w = world_of(s);

    (void)what;
    if (!w->leaving)
        ask(w, who);
}

static bool is_refusal(const struct message *m)
{
    return m->code == CODE_GATEWAY_TIMEOUT && m->payload_length >= strlen(REFUSAL) &&
           memcmp(m->payload, REFUSAL, strlen(REFUSAL)) == 0;
}

static void on_answer(struct caller *c, const struct message *m)
{
    struct stage *s = c->device->node.stage;
    struct once_world *w = world_of(s);
    unsigned id = (unsigned)atoi(c->owner);

    if (m && m->code == CODE_CHANGED && !w->executed[id])
        stage_fail(s, "request %u is answered and was not executed", id);
    w->answered += m && m->code == CODE_CHANGED;
    w->refused += m && is_refusal(m);
    stage_at(s, s->now + 1000 + stage_below(s, w->pause_us), on_pause_over, c, 0);
}

static void add_poster(struct once_world *w)
{
    struct poster *p = &w->posters[w->poster_count++];
    unsigned callers = 1 + stage_below(&w->fleet.stage, CALLERS_MAX);

    device_init(&p->device, &w->fleet, p);
    for (unsigned i = 0; i < callers; i++) {
        caller_init(&p->callers[i], &p->device, p->payloads[i], on_answer);
        p->callers[i].patience_us = 95 * SECOND;
        ask(w, &p->callers[i]);
    }
}

/* ---- the judge ---- */

static struct poster *poster_of(struct fleet *f, const struct flow *flow)
{
    return &world_of(&f->stage)->posters[flow->peer_port - 40000u];
}

static void delivered(struct fleet *f, const struct passing *p)
{
    uint8_t *life;

    if (p->upstream || p->icmp || !code_is_request(p->m->code))
        return;
    life = &poster_of(f, p->flow)->life_of[p->m->mid];
    if (*life == 0)
        *life = (uint8_t)f->stage.life;
}

/* A separate refusal would have another message ID: there is none. */
static void emitted(struct fleet *f, const struct passing *p)
{
    unsigned life;

    if (p->upstream || !is_refusal(p->m))
        return;
    life = poster_of(f, p->flow)->life_of[p->m->mid];
    if (p->m->type != TYPE_ACK || life == 0 || life == f->stage.life)
        stage_fail(&f->stage, "a request is refused that came first in life %u", life);
}

static const struct judge judging = {.emitted = emitted, .delivered = delivered};

/* ---- the gateway ---- */

static bool open_gateway(struct once_world *w)
{
    static const char *const separate[] = {"0s", "100ms", "1s", "10s"};
    struct stage *s = &w->fleet.stage;
    char yaml[2048], upstreams[256] = "", routes[256] = "";

    for (unsigned i = 0; i < w->server_count; i++) {
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
             "  - {uri: coap://" GATEWAY "}\n"
             "upstreams:\n%s"
             "routes:\n%s"
             "separate_after: %s\n"
             "limits: {sessions: 2000, exchanges: 2000, outbound: 2000, remembered: 20000, "
             "queue: 1000, message_memory: 4MiB}\n",
             1 + stage_below(s, WORKERS_MAX), upstreams, routes, separate[stage_below(s, 4)]);
    return fleet_open(&w->fleet, yaml);
}

/* Killed, and up again within seconds; the wall clock may be set ahead meanwhile. */
static void restart(struct once_world *w)
{
    struct stage *s = &w->fleet.stage;

    stage_note(s, "the gateway is gone");
    fleet_kill(&w->fleet);
    stage_run(s, s->now + 1000 + stage_below(s, stage_below(s, 3) ? SECOND : 20 * SECOND));
    if (stage_below(s, 4) == 0)
        s->clock_ahead_us += stage_below(s, 30 * SECOND);
    if (s->failed)
        return;
    stage_note(s, "the gateway starts");
    if (!open_gateway(w))
        stage_fail(s, "it cannot be set up again");
}

static void run(struct once_world *w)
{
    struct stage *s = &w->fleet.stage;

    for (unsigned lives = 2 + stage_below(s, LIVES_MAX); lives && !s->failed; lives--) {
        stage_run(s, s->now + 1000 + stage_below(s, stage_below(s, 3) ? 5 * SECOND : 90 * SECOND));
        if (!s->failed)
            restart(w);
    }
    w->calm = true;
    s->network.loss = 0;
    stage_run(s, s->now + 150 * SECOND);
    w->answered = w->refused = 0;
    stage_run(s, s->now + 100 * SECOND);
    if (!s->failed && (w->answered < w->poster_count || w->refused))
        stage_fail(s, "in peace %u requests are answered and %u refused", w->answered, w->refused);
    w->leaving = true;
    stage_run(s, s->now + END_US);
    if (!s->failed)
        stage_check_empty(s);
}

static int once(uint64_t seed, bool trace, bool journaled)
{
    static const unsigned pauses_s[] = {1, 5, 20}, slow_s[] = {1, 2, 8};
    struct once_world *w = calloc(1, sizeof(*w));
    struct stage *s = &w->fleet.stage;
    int failed;

    fleet_begin(&w->fleet, journaled ? "once" : "twice", seed, trace, &judging);
    s->deaths = true;
    s->journaled = journaled;
    s->mid_key = random_u64(&s->random) | 1;
    fleet_draw_network(&w->fleet, 0.3);
    w->server_count = 1 + stage_below(s, 2);
    w->pause_us = (unsigned)(pauses_s[stage_below(s, 3)] * SECOND);
    w->slow_us = (unsigned)(slow_s[stage_below(s, 3)] * SECOND);
    if (open_gateway(w)) {
        for (unsigned i = 0; i < w->server_count; i++) {
            node_init(&w->servers[i], s, &serving, w);
            fleet_add_server(&w->fleet, &w->servers[i]);
        }
        for (unsigned i = 1 + stage_below(s, POSTERS_MAX); i; i--)
            add_poster(w);
        run(w);
    }
    failed = fleet_end(&w->fleet);
    free(w);
    return failed;
}

int once_run(uint64_t seed, bool trace)
{
    return once(seed, trace, true);
}

int twice_run(uint64_t seed, bool trace)
{
    return once(seed, trace, false);
}
