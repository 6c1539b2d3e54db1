#include "tests/sim/balance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRAFFIC_US (EPOCHS * EPOCH_US)
#define END_US     (1200 * SECOND)

struct requester {
    struct device device;
    struct caller caller;
    uint32_t id;
    uint32_t pause_us;
    uint8_t payload[BODY_LINE];
};

/* ---- servers ---- */

static uint32_t id_of(const struct message *m)
{
    char query[24];

    message_query(m, query, sizeof(query));
    return (uint32_t)strtoul(query + 2, NULL, 10) % IDS_MAX;
}

static void on_request(struct node *n, const struct flow *flow, const struct message *m)
{
    struct balance_world *w = balance_world_of(n->stage);
    struct response r = response_make(m->code == CODE_GET ? CODE_CONTENT : CODE_CHANGED);
    uint32_t id = id_of(m);
    uint8_t body[BODY_LINE];

    if (++w->executed[id] > 1 && m->code != CODE_GET)
        stage_fail(n->stage, "unsafe request %u was executed twice", id);
    body_write(body, sizeof(body), id, 0);
    r.payload = body;
    r.payload_length = sizeof(body);
    node_respond(n, flow, m, &r, w->strict ? 0 : 2 * SECOND);
}

static const struct node_handler handler = {.request = on_request};

static bool is_rock(const struct balance_world *w, unsigned server, uint64_t at)
{
    uint64_t t = at - START_US;

    return w->rocks[t / EPOCH_US] == server || w->rocks[(t + OVERLAP_US) / EPOCH_US] == server ||
           w->rocks[(t > OVERLAP_US ? t - OVERLAP_US : 0) / EPOCH_US] == server;
}

static void on_return(struct stage *s, void *who, uint64_t what)
{
    struct node *n = who;

    n->down = false;
    stage_note(s, "server %u is up", (unsigned)what);
}

static void on_time_to_crash(struct stage *s, void *who, uint64_t server)
{
    struct balance_world *w = who;
    uint64_t down = 3 * SECOND + stage_below(s, 100 * SECOND);
    bool may = true;

    if (s->now + down > START_US + TRAFFIC_US)
        return;
    for (uint64_t t = 0; t <= down; t += SECOND)
        may &= !is_rock(w, (unsigned)server, s->now + t);
    if (may && !w->servers[server].down) {
        node_crash(&w->servers[server], stage_below(s, 2));
        stage_note(s, "server %u is down", (unsigned)server);
        stage_at(s, s->now + down, on_return, &w->servers[server], server);
    }
    stage_at(s, s->now + (may ? down : 0) + SECOND + stage_below(s, 60 * SECOND), on_time_to_crash,
             w, server);
}

static void make_servers(struct balance_world *w)
{
    struct stage *s = &w->fleet.stage;

    for (unsigned i = 0; i < w->server_count; i++) {
        node_init(&w->servers[i], s, &handler, w);
        fleet_add_server(&w->fleet, &w->servers[i]);
        stage_at(s, s->now + 1 + stage_below(s, 60 * SECOND), on_time_to_crash, w, i);
    }
    for (unsigned i = 0; i < EPOCHS + 2; i++)
        w->rocks[i] = (uint8_t)stage_below(s, w->server_count);
}

/* ---- devices ---- */

static void on_time_to_ask(struct stage *s, void *who, uint64_t what)
{
    static const uint8_t methods[] = {CODE_GET, CODE_GET, CODE_PUT, CODE_POST};
    struct balance_world *w = balance_world_of(s);
    struct requester *r = who;
    struct request *request = &r->caller.request;
    uint8_t method = methods[stage_below(s, 4)];

    (void)what;
    if (s->now > START_US + TRAFFIC_US - OVERLAP_US || w->next_id == IDS_MAX)
        return;
    r->id = w->next_id++;
    *request = request_make(method, stage_below(s, 4) ? TYPE_CON : TYPE_NON, "/d");
    snprintf(request->query, sizeof(request->query), "i=%u", r->id);
    if (method != CODE_GET) {
        body_write(r->payload, sizeof(r->payload), r->id, 0);
        request->payload = r->payload;
        request->payload_length = sizeof(r->payload);
    }
    caller_new_token(&r->caller);
    caller_ask(&r->caller);
}

static void on_answered(struct caller *c, const struct message *m)
{
    struct requester *r = c->owner;
    struct stage *s = r->device.node.stage;
    struct balance_world *w = balance_world_of(s);
    bool good = m && code_class(m->code) == 2;
    uint32_t version;

    if (good && !body_check(m->payload, m->payload_length, r->id, &version))
        stage_fail(s, "request %u got another's answer", r->id);
    if (good && !w->executed[r->id])
        stage_fail(s, "request %u succeeded, and no server has seen it", r->id);
    if (!m && w->strict)
        stage_fail(s, "request %u got no answer", r->id);
    if (m && !good && w->strict && c->request.method == CODE_GET)
        stage_fail(s, "request %u failed with %u.%02u, and a server is up", r->id,
                   code_class(m->code), code_detail(m->code));
    if (m && !good && m->code != CODE_GATEWAY_TIMEOUT && m->code != CODE_BAD_GATEWAY)
        stage_fail(s, "request %u failed with %u.%02u", r->id, code_class(m->code),
                   code_detail(m->code));
    stage_at(s, s->now + stage_below(s, r->pause_us), on_time_to_ask, r, 0);
}

static void make_requesters(struct balance_world *w)
{
    static const uint32_t pauses[] = {2, 10, 30};
    struct stage *s = &w->fleet.stage;

    w->requester_count = 1 + stage_below(s, 20);
    w->requesters = calloc(w->requester_count, sizeof(w->requesters[0]));
    for (unsigned i = 0; i < w->requester_count; i++) {
        struct requester *r = &w->requesters[i];

        device_init(&r->device, &w->fleet, r);
        caller_init(&r->caller, &r->device, r, on_answered);
        r->pause_us = pauses[stage_below(s, 3)] * (uint32_t)SECOND;
        stage_at(s, s->now + stage_below(s, r->pause_us), on_time_to_ask, r, 0);
    }
}

/* ---- the run ---- */

static bool open_gateway(struct balance_world *w)
{
    struct stage *s = &w->fleet.stage;
    char yaml[2048], servers[256] = "";

    for (unsigned i = 0; i < w->server_count; i++)
        snprintf(servers + strlen(servers), sizeof(servers) - strlen(servers), "%scoap://10.0.9.%u",
                 i ? ", " : "", i + 1);
    snprintf(yaml, sizeof(yaml),
             "workers: %u\n"
             "interfaces:\n"
             "  - {name: s, device: \"tap:s0\", addresses: [" GATEWAY "/8]}\n"
             "listeners:\n"
             "  - {uri: coap://" GATEWAY ", transmission: {nstart: 64}}\n"
             "upstreams:\n"
             "  - {name: a, servers: [%s], balance: %s, retries: %u, timeout: 100s, "
             "keepalive: %us, revive: 5s, "
             "transmission: {ack_timeout: %us, max_retransmit: %u, nstart: 64}}\n"
             "routes:\n"
             "  - {path: /, to: a}\n"
             "limits: {sessions: 2000, exchanges: 2000, outbound: 2000, remembered: 20000, "
             "queue: 1000, message_memory: 4MiB}\n",
             1 + stage_below(s, WORKERS_MAX), servers, w->round_robin ? "round_robin" : "hash",
             w->server_count - 1, (unsigned)(w->keepalive_us / SECOND), ACK_TIMEOUT, RETRANSMITS);
    return fleet_open(&w->fleet, yaml);
}

static void run(struct balance_world *w)
{
    struct stage *s = &w->fleet.stage;

    make_servers(w);
    make_requesters(w);
    for (uint64_t end = START_US + TRAFFIC_US; s->now < end && !s->failed;) {
        stage_run(s, s->now + SECOND);
        if (w->strict)
            balance_judge_look(w->judge);
    }
    stage_run(s, s->now + END_US);
    if (!s->failed && !w->keepalive_us) /* pings go on, and keep what they need */
        stage_check_empty(s);
}

int balance_run(uint64_t seed, bool trace)
{
    struct balance_world *w = calloc(1, sizeof(*w));
    struct stage *s = &w->fleet.stage;
    int failed;

    fleet_begin(&w->fleet, "balance", seed, trace, &balance_judging);
    w->judge = balance_judge_create(w);
    w->strict = stage_below(s, 4) != 0;
    fleet_draw_network(&w->fleet, w->strict ? 0 : 0.2);
    w->server_count = 2 + stage_below(s, SERVERS_MAX - 1);
    w->round_robin = stage_below(s, 2);
    w->keepalive_us = stage_below(s, 3) ? 0 : 10 * SECOND;
    if (open_gateway(w))
        run(w);
    failed = fleet_end(&w->fleet);
    balance_judge_destroy(w->judge);
    free(w->requesters);
    free(w);
    return failed;
}
