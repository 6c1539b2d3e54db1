#include "gateway/proxy/upstream.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "gateway/hash.h"
#include "gateway/memory.h"
#include "gateway/security/security.h"

/* A server's sessions begin with one of so many ports: the first ones are those whose answers come
 * to the right queue (see worker_io.upstream_port). */
#define FIRST_PORTS 256u

/* Upstreams that a server may be in, each with ports of its own. */
#define PORT_TRIES 16

#define GATE_EMPTY ((struct gate){.head = POOL_NONE, .tail = POOL_NONE})

/* ---- start and end ---- */

static void gate_init(struct gate_shared *gate, const struct transmission *transmission)
{
    gate->gate = GATE_EMPTY;
    gate->transmission = transmission;
    timer_init(&gate->probe, TIMER_PROBE);
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* From one life's first port to the next one's: about the golden section of all, so that those of a
 * few lives in a row are as far from each other as can be, and each port has its turn. */
static uint32_t stride_of(uint32_t ports)
{
    uint32_t stride = (uint32_t)(ports * UINT64_C(618) / 1000);

    while (common_divisor(ports, stride) != 1)
        stride++;
    return stride;
}

/* With which port a life begins: an origin may remember message IDs of the one before, which was
 * ahead of the clock there (RFC 7252 4.4). */
static uint16_t first_port(const struct upstreams *u, const struct server *server)
{
    uint32_t ports = server->ports < FIRST_PORTS ? server->ports : FIRST_PORTS;
    uint64_t life = u->m->mids.life;

    if (life == 0)
        life = u->m->mids.key >> 32; /* random, and the same each time: sessions are found again */
    return (uint16_t)(life % ports * stride_of(ports) % ports);
}

static void server_init(struct upstreams *u, struct server *server,
                        const struct config_upstream *upstream, uint16_t group)
{
    server->upstream = upstream;
    gate_init(&server->gate, &upstream->transmission);
    server->gate.keepalive_us = upstream->keepalive_us;
    server->group = group;
    server->ports = upstream->ports;
    server->ping_session = POOL_NONE;
    server->fetches = server->observations = LIST_NONE;
    timer_init(&server->timer, TIMER_SERVER);
    server->sessions = u->ports + u->ports_used;
    u->ports_used += server->ports;
    server->current = first_port(u, server);
}

static void make_servers(struct upstreams *u, unsigned index)
{
    const struct config_upstream *upstream = &u->m->config->upstreams[index];

    u->first[index] = u->server_count;
    u->turn[index] = random_below(&u->m->random, upstream->server_count);
    for (unsigned k = 0; k < upstream->server_count; k++) {
        struct server *server = &u->servers[u->server_count];

        server_init(u, server, upstream, (uint16_t)index);
        server->place = upstream->servers[k];
        server->gate.heard_us = u->m->now;
        server->dtls.wanted = server_is_secure(server);
        if (upstream->keepalive_us || server->dtls.wanted)
            wheel_arm(&u->m->wheel, &server->timer,
                      u->m->now + (server->dtls.wanted ? 0 : upstream->keepalive_us));
        u->server_count++;
    }
}

/* Pages of ports that are never used are never touched. */
static bool reserve_ports(struct upstreams *u, unsigned destinations)
{
    const struct config *config = u->m->config;
    size_t count = (size_t)destinations * config->forward.upstream.ports + 1;

    for (unsigned i = 0; i < config->upstream_count; i++)
        count += (size_t)config->upstreams[i].server_count * config->upstreams[i].ports;
    u->ports_bytes = count * sizeof(*u->ports);
    u->ports = memory_reserve(u->ports_bytes);
    return u->ports != NULL;
}

static void on_server_timer(void *context, struct timer *timer, uint64_t now_us);

int upstreams_init(struct upstreams *u, struct messaging *m, unsigned destinations)
{
    const struct config *config = m->config;
    unsigned total = destinations;

    memset(u, 0, sizeof(*u));
    u->m = m;
    gate_init(&u->left, &config->transmission);
    wheel_handle(&m->wheel, TIMER_SERVER, on_server_timer, u);
    for (unsigned i = 0; i < config->upstream_count; i++)
        total += config->upstreams[i].server_count;
    u->total = total;
    u->servers = calloc(total + 1, sizeof(*u->servers));
    u->first = calloc(config->upstream_count + 1, sizeof(*u->first));
    u->turn = calloc(config->upstream_count + 1, sizeof(*u->turn));
    u->outstanding = calloc(config->upstream_count + 1, sizeof(*u->outstanding));
    if (!u->servers || !u->first || !u->turn || !u->outstanding || !reserve_ports(u, destinations))
        goto fail;
    for (unsigned i = 0; i < config->upstream_count; i++)
        make_servers(u, i);
    return 0;
fail:
    upstreams_fini(u);
    return -ENOMEM;
}

void upstreams_fini(struct upstreams *u)
{
    memory_release(u->ports, u->ports_bytes);
    free(u->servers);
    free(u->first);
    free(u->turn);
    free(u->outstanding);
    memset(u, 0, sizeof(*u));
}

void upstreams_add(struct upstreams *u, uint32_t index, const struct config_upstream *upstream,
                   uint16_t group)
{
    server_init(u, &u->servers[index], upstream, group);
}

/* What is under way at a place that a server leaves is no concern of the next. */
static void leave_gate(struct upstreams *u, struct gate *gate)
{
    struct list waiting = {gate->head, gate->tail}, left = {u->left.gate.head, u->left.gate.tail};
    size_t offset = offsetof(struct outbound, by_gate);
    uint32_t index;

    while ((index = waiting.head) != POOL_NONE) {
        list_remove(&waiting, &u->m->outbound, offset, index);
        list_push_back(&left, &u->m->outbound, offset, index);
    }
    u->left.gate.head = left.head;
    u->left.gate.tail = left.tail;
    u->left.gate.waiting += gate->waiting;
    u->left.gate.outstanding += gate->outstanding;
    *gate = GATE_EMPTY;
}

void upstreams_move(struct upstreams *u, uint32_t index, const struct config_server *place)
{
    struct server *server = &u->servers[index];

    for (unsigned n = 0; n < server->ports; n++) {
        struct session *s;

        if (!server->sessions[n])
            continue;
        s = session_at(&u->m->sessions, server->sessions[n] - 1);
        if (server_is_secure(server))
            upstreams_cut(u, server, s);
        s->side.upstream.server = SERVER_NONE;
        s->gate.shared = &u->left;
        server->sessions[n] = 0;
    }
    if (server_is_secure(server))
        upstreams_tell(u, server, CODE_BAD_GATEWAY, "the origin is at another address");
    server->dtls = (struct server_dtls){.name = server->dtls.name, .unbound = true};
    leave_gate(u, &server->gate.gate);
    wheel_cancel(&u->m->wheel, &server->gate.probe);
    server->gate.unanswered_us = 0;
    wheel_cancel(&u->m->wheel, &server->timer);
    server->down = false;
    server->pings = 0;
    server->ping_session = POOL_NONE;
    server->current = first_port(u, server);
    server->dry_s = 0;
    server->place = *place;
}

/* ---- choosing ---- */

static bool is_wanted(const struct upstreams *u, uint32_t index, bool up_only, uint32_t but)
{
    return index != but && !(up_only && u->servers[index].down);
}

/* Rendezvous: each server draws a number for the target, the highest has it. When one goes down,
 * only what it had moves. */
static uint32_t choose_by_hash(const struct upstreams *u, unsigned first, unsigned count,
                               uint64_t hash, bool up_only, uint32_t but)
{
    uint64_t best = 0;
    uint32_t pick = SERVER_NONE;

    for (unsigned i = first; i < first + count; i++) {
        uint64_t score = hash_mix(hash_mix(hash, i + 1), 0);

        if (is_wanted(u, i, up_only, but) && (pick == SERVER_NONE || score > best)) {
            best = score;
            pick = i;
        }
    }
    return pick;
}

static uint32_t choose_in_turn(struct upstreams *u, unsigned first, unsigned count, bool up_only,
                               uint32_t but)
{
    unsigned *turn = &u->turn[u->servers[first].group];

    for (unsigned i = 0; i < count; i++) {
        uint32_t index = first + (*turn)++ % count;

        if (is_wanted(u, index, up_only, but))
            return index;
    }
    return SERVER_NONE;
}

static uint32_t choose(struct upstreams *u, unsigned first, unsigned count, uint64_t hash,
                       bool up_only, uint32_t but)
{
    return u->servers[first].upstream->balance == CONFIG_BALANCE_HASH
               ? choose_by_hash(u, first, count, hash, up_only, but)
               : choose_in_turn(u, first, count, up_only, but);
}

uint32_t upstreams_choose(struct upstreams *u, unsigned first, unsigned count, uint64_t hash,
                          uint32_t but)
{
    uint32_t pick;

    if (count == 1)
        return first;
    pick = choose(u, first, count, hash, true, but);
    if (pick == SERVER_NONE && but != SERVER_NONE && !u->servers[but].down)
        pick = but;
    if (pick == SERVER_NONE)
        pick = choose(u, first, count, hash, false, but);
    return pick;
}

bool upstreams_any_up(const struct upstreams *u, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++)
        if (!u->servers[i].down)
            return true;
    return false;
}

/* ---- sessions ---- */

/* A session of a server that has moved since can be used by the one that is there now; over DTLS,
 * when nothing of before hangs on it. */
static bool is_left(const struct session *s)
{
    if (s->role != SESSION_UPSTREAM || s->side.upstream.server != SERVER_NONE)
        return false;
    return s->flow.transport != TRANSPORT_DTLS || session_is_unused(s);
}

/* The flow over the n-th port, or over a later one where the same server in another upstream has
 * taken it; its port is 0 when there is none. Returns its hash. */
static uint32_t find_port(const struct upstreams *u, const struct server *server, unsigned n,
                          struct flow *flow, struct session **left)
{
    const struct messaging *m = u->m;
    const struct config_server *c = &server->place;
    uint32_t hash = 0;

    for (unsigned tries = 0; tries < PORT_TRIES; tries++, n += server->ports) {
        uint16_t port = m->io.upstream_port(m->io.context, c->local, &c->endpoint, n);

        *flow = flow_make(c->local, port, &c->endpoint, c->transport);
        hash = session_hash(&m->sessions, flow);
        *left = port ? session_find(&m->sessions, flow, hash) : NULL;
        if (!*left || is_left(*left))
            return hash;
    }
    flow->local_port = 0;
    return hash;
}

static uint32_t server_index(const struct upstreams *u, const struct server *server)
{
    return (uint32_t)(server - u->servers);
}

static struct session *open_port(struct upstreams *u, struct server *server, uint16_t n)
{
    struct messaging *m = u->m;
    struct session *s;
    struct flow flow;
    uint32_t hash = find_port(u, server, n, &flow, &s);
    bool opened = false;

    if (!flow.local_port)
        return NULL;
    if (!s) {
        s = messaging_open_session(m, &flow, hash, &server->upstream->transmission);
        if (!s)
            return NULL;
        s->role = SESSION_UPSTREAM;
        s->side.upstream.users = 0;
        opened = true;
    } else {
        (void)messaging_set_transmission(m, s, NULL); /* they were meant for another peer */
        s->seen_us = m->now;
    }
    if (s->outbound == POOL_NONE) { /* what is under way stays with its gate */
        s->gate.shared = &server->gate;
        s->transmission = &server->upstream->transmission;
    }
    s->side.upstream.server = server_index(u, server);
    s->unsecured = server_is_secure(server);
    s->place = n;
    server->sessions[n] = session_index(&m->sessions, s) + 1;
    if (opened)
        messaging_event(m, s, SESSION_OPENED, 0);
    return s;
}

struct session *upstreams_port(struct upstreams *u, struct server *server, uint16_t n)
{
    return server->sessions[n] ? session_at(&u->m->sessions, server->sessions[n] - 1)
                               : open_port(u, server, n);
}

/* IDs rest for whole seconds: what has been found in this one is true until the next. */
static uint32_t second_of(uint64_t now_us)
{
    return (uint32_t)(now_us / 1000000) + 1;
}

bool upstreams_is_dry(const struct upstreams *u, uint32_t index)
{
    return u->servers[index].dry_s == second_of(u->m->now);
}

struct session *upstreams_session(struct upstreams *u, uint32_t index, uint16_t *mid)
{
    struct server *server = &u->servers[index];

    if (upstreams_is_dry(u, index))
        return NULL; /* a request that cannot be sent must not cost a look at thousands of ports */
    /* The one in use, then the others in turn: at most once around. */
    for (unsigned tries = 0; tries < server->ports; tries++) {
        uint16_t n = server->current;
        struct session *s = upstreams_port(u, server, n);

        if (s && session_take_mid(s, u->m->now, mid)) {
            if (server_is_secure(server))
                upstreams_look_ahead(u, server, s, *mid);
            return s;
        }
        server->current = n + 1 == server->ports ? 0 : n + 1;
        if (!s && u->m->sessions.count >= u->m->sessions.max)
            return NULL; /* no session to be had: the other ports have none either */
    }
    server->dry_s = second_of(u->m->now);
    return NULL;
}

void upstreams_closed(struct upstreams *u, const struct session *s)
{
    struct server *server;

    if (s->side.upstream.server == SERVER_NONE)
        return;
    server = &u->servers[s->side.upstream.server];
    if (s->flow.transport == TRANSPORT_DTLS && !s->unsecured)
        security_close(u->m->security, &s->flow, true); /* the server need not keep it */
    server->sessions[s->place] = 0;
    server->dry_s = 0;
    if (server->ping_session == session_index(&u->m->sessions, s))
        server->ping_session = POOL_NONE;
}

/* ---- health ---- */

/* One that is sent again has the same message ID, so that an answer counts that takes longer than
 * the time between two; but only for as long as a CON would be sent again. False when there is no
 * session or message ID to be had. */
static bool ping(struct upstreams *u, struct server *server)
{
    uint64_t span_us = transmission_max_span_ms(&server->upstream->transmission) * 1000;
    struct session *s;

    if (server->ping_session != POOL_NONE &&
        (server->pings || u->m->now - server->ping_us < span_us)) {
        s = session_at(&u->m->sessions, server->ping_session);
    } else {
        s = upstreams_session(u, server_index(u, server), &server->ping_mid);
        if (!s)
            return false;
        if (s->unsecured) { /* the handshake tells as much */
            upstreams_connect(u, server);
            return false;
        }
        server->ping_session = session_index(&u->m->sessions, s);
        server->ping_us = u->m->now;
    }
    u->m->counters->server_pings++;
    messaging_send_empty(u->m, &s->flow, TYPE_CON, server->ping_mid);
    return true;
}

void upstreams_ping(struct upstreams *u, struct server *server)
{
    (void)ping(u, server);
}

static void tell(struct upstreams *u, const struct server *server, enum session_event event)
{
    if (server->ping_session != POOL_NONE)
        messaging_event(u->m, session_at(&u->m->sessions, server->ping_session), event,
                        server->ping_mid);
}

void upstreams_count_lost(struct upstreams *u, struct server *server)
{
    bool telling = server->lost_fetches || server->lost_observations;

    u->lost += (unsigned)telling - (unsigned)server->telling;
    server->telling = telling;
}

void upstreams_tell_observations(struct upstreams *u, struct server *server)
{
    server->lost_observations = server->observation_count;
    upstreams_count_lost(u, server);
}

void upstreams_tell(struct upstreams *u, struct server *server, uint8_t code, const char *why)
{
    server->lost_fetches = server->fetch_count;
    server->lost_observations = server->observation_count;
    server->lost_code = code;
    server->lost_why = why;
    upstreams_count_lost(u, server);
    /* What it has not been sent may go to another. */
    server->gate.held =
        server->lost_fetches && (server->upstream->server_count > 1 || server_is_secure(server));
}

void upstreams_failed(struct upstreams *u, uint32_t index)
{
    struct server *server = &u->servers[index];

    if (server->down)
        return;
    server->down = true;
    server->down_us = u->m->now;
    server->pings = 0;
    u->m->counters->servers_down++;
    if (server_is_secure(server))
        upstreams_disconnect(u, server, NULL);
    upstreams_tell(u, server, CODE_GATEWAY_TIMEOUT, "the origin is down");
    /* The only server of its kind gets all requests all the same: the next one tells. */
    if (server->upstream->server_count > 1 || server->upstream->keepalive_us)
        wheel_arm(&u->m->wheel, &server->timer, u->m->now + server->upstream->revive_us);
    else
        wheel_cancel(&u->m->wheel, &server->timer);
}

void upstreams_silent(struct upstreams *u, uint32_t index)
{
    struct server *server = &u->servers[index];

    if (server->down || server->dtls.associations == 0 || upstreams_is_pausing(u, server) ||
        upstreams_is_mute(server)) {
        upstreams_failed(u, index);
        return;
    }
    server->pings = 0;
    server->dtls.doubted = true;
    server->dtls.doubted_us = u->m->now;
    upstreams_disconnect(u, server, NULL);
    upstreams_tell(u, server, CODE_GATEWAY_TIMEOUT, "the origin is silent");
    upstreams_connect(u, server);
}

void upstreams_heard(struct upstreams *u, uint32_t index)
{
    struct server *server = &u->servers[index];

    if (!server->down)
        return;
    server->down = false;
    server->pings = 0;
    u->m->counters->servers_up++;
    wheel_cancel(&u->m->wheel, &server->timer);
    if (server->upstream->keepalive_us)
        wheel_arm(&u->m->wheel, &server->timer, u->m->now + server->upstream->keepalive_us);
}

bool upstreams_pong(struct upstreams *u, const struct session *s, uint16_t mid, bool alive)
{
    uint32_t index = s->side.upstream.server;
    struct server *server;

    if (index == SERVER_NONE)
        return false;
    server = &u->servers[index];
    if (server->ping_session != session_index(&u->m->sessions, s) || server->ping_mid != mid)
        return false;
    tell(u, server, alive ? SESSION_PONG : SESSION_KEEPALIVE_FAILED);
    server->ping_session = POOL_NONE;
    if (!alive) {
        upstreams_failed(u, index);
        return true;
    }
    server->gate.heard_us = u->m->now;
    upstreams_heard(u, index);
    return true;
}

/* A ping after a silence, repeated as a CON would be, until something is heard or all are used up
 * (RFC 7252 4.2). */
static void keep_alive(struct upstreams *u, struct server *server)
{
    const struct transmission *t = &server->upstream->transmission;
    uint64_t keepalive_us = server->upstream->keepalive_us;
    uint64_t due = server->gate.heard_us + keepalive_us, gap;

    if (due > u->m->now) {
        server->pings = 0;
        wheel_arm(&u->m->wheel, &server->timer, due);
        return;
    }
    if (server->pings > t->max_retransmit) {
        tell(u, server, SESSION_KEEPALIVE_FAILED);
        upstreams_silent(u, server_index(u, server));
        if (!server->down)
            wheel_arm(&u->m->wheel, &server->timer, u->m->now + keepalive_us);
        return;
    }
    if (server->pings == 0) {
        server->ping_session = POOL_NONE;
        gap = transmission_initial_timeout_ms(t, &u->m->random) * UINT64_C(1000);
    } else {
        gap = server->ping_gap_us * 2;
    }
    if (ping(u, server)) { /* what could not be sent says nothing about the server */
        server->pings++;
        server->ping_gap_us = gap;
        if (server->pings == 1 + DOUBTED_AFTER && server_is_secure(server))
            upstreams_doubt(u, server_index(u, server));
    }
    wheel_arm(&u->m->wheel, &server->timer, u->m->now + (gap < keepalive_us ? gap : keepalive_us));
}

static void on_server_timer(void *context, struct timer *timer, uint64_t now_us)
{
    struct upstreams *u = context;
    struct server *server =
        (struct server *)(void *)((uint8_t *)timer - offsetof(struct server, timer));

    if (server->down) {
        wheel_arm(&u->m->wheel, &server->timer, now_us + server->upstream->revive_us);
        (void)ping(u, server);
        return;
    }
    if (server->dtls.wanted)
        upstreams_connect(u, server);
    if (!server->down && server->upstream->keepalive_us)
        keep_alive(u, server);
}
