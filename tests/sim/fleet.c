#include "tests/sim/fleet.h"

static struct fleet *fleet_of(struct stage *s)
{
    return (struct fleet *)s;
}

int fleet_server_of(const struct flow *flow)
{
    static const uint8_t first[4] = {10, 0, 9, 1};
    struct address base = address_from_v4(first);
    unsigned index = (unsigned)(flow->peer.bytes[15] - base.bytes[15]);

    base.bytes[15] = flow->peer.bytes[15];
    return address_equal(&base, &flow->peer) && index < SERVERS_MAX ? (int)index : -1;
}

static bool is_upstream(struct stage *s, const struct flow *flow)
{
    (void)s;
    return fleet_server_of(flow) >= 0;
}

/* ---- the cast ---- */

static void emitted(struct stage *s, unsigned worker, const struct flow *flow, const uint8_t *data,
                    size_t length)
{
    struct fleet *f = fleet_of(s);
    struct message m;
    struct passing p = {.worker = worker, .flow = flow, .upstream = is_upstream(s, flow), .m = &m};

    watch_emitted(f->watch, worker, flow, data, length);
    if (message_parse(data, length, &m) == VERDICT_OK && f->judge->emitted)
        f->judge->emitted(f, &p);
}

static void delivered(struct stage *s, unsigned worker, const struct flow *flow,
                      const uint8_t *data, size_t length, bool icmp)
{
    struct fleet *f = fleet_of(s);
    struct message m;
    struct passing p = {worker, flow, is_upstream(s, flow), icmp, NULL};

    watch_delivered(f->watch, worker, flow, data, length, icmp);
    if (message_parse(data, length, &m) == VERDICT_OK)
        p.m = &m;
    if (f->judge->delivered && (p.m || icmp))
        f->judge->delivered(f, &p);
}

static void arrived(struct stage *s, const struct flow *flow, const uint8_t *data, size_t length)
{
    struct fleet *f = fleet_of(s);
    int server = fleet_server_of(flow);
    unsigned device = flow->peer_port - 40000u;

    if (server >= 0 && (unsigned)server < f->server_count)
        node_receive(f->servers[server], flow, data, length);
    else if (device < f->device_count && flow_equal(&f->devices[device]->flow, flow))
        node_receive(&f->devices[device]->node, flow, data, length);
    else
        stage_fail(s, "a datagram to an endpoint that was not asked, or to nobody");
}

static bool told(struct stage *s, unsigned worker, struct parcel *parcel)
{
    struct vault *vault = fleet_of(s)->vault;

    return vault && vault_told(vault, worker, parcel);
}

static unsigned room(struct stage *s, unsigned worker)
{
    const struct vault *vault = fleet_of(s)->vault;

    return vault ? vault_room(vault, worker) : 0;
}

static void handed(struct stage *s, unsigned from, const struct parcel *parcel)
{
    struct fleet *f = fleet_of(s);

    if (f->handed)
        f->handed(f, from, parcel);
}

static const struct stage_cast cast = {.emitted = emitted,
                                       .delivered = delivered,
                                       .arrived = arrived,
                                       .told = told,
                                       .room = room,
                                       .handed = handed};

/* ---- start and end ---- */

void fleet_begin(struct fleet *f, const char *scenario, uint64_t seed, bool trace,
                 const struct judge *judge)
{
    stage_begin(&f->stage, scenario, seed, trace, &cast);
    f->judge = judge;
}

void fleet_draw_network(struct fleet *f, double loss)
{
    static const double parts[] = {0, 0, 0.2, 0.6, 1};
    struct network *n = &f->stage.network;

    n->loss = loss * parts[stage_below(&f->stage, 5)];
    n->repeat = stage_below(&f->stage, 2) ? 0.1 : 0;
    n->delay_min_us = 100;
    n->delay_max_us = stage_below(&f->stage, 3) ? 20000 : 400000;
}

bool fleet_open(struct fleet *f, const char *yaml)
{
    struct watch_rules rules = {.upstream = is_upstream};

    if (!stage_open(&f->stage, yaml)) {
        stage_fail(&f->stage, "it cannot be set up");
        return false;
    }
    if (f->watch)
        return true;
    rules.servers =
        f->stage.config->upstream_count ? &f->stage.config->upstreams[0].transmission : NULL;
    rules.clients = &f->stage.config->listeners[0].transmission;
    f->watch = watch_create(&f->stage, &rules);
    return true;
}

void fleet_kill(struct fleet *f)
{
    watch_killed(f->watch);
    stage_kill(&f->stage);
}

void fleet_add_server(struct fleet *f, struct node *server)
{
    f->servers[f->server_count++] = server;
}

int fleet_end(struct fleet *f)
{
    if (!f->stage.failed && f->watch && f->stage.running)
        stage_check_counts(&f->stage);
    for (unsigned i = 0; i < f->server_count; i++)
        node_free(f->servers[i]);
    for (unsigned i = 0; i < f->device_count; i++)
        node_free(&f->devices[i]->node);
    watch_destroy(f->watch);
    stage_end(&f->stage);
    return f->stage.failed;
}
