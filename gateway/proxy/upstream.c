#include "gateway/proxy/upstream.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/hash.h"

static int server_init(struct server *server, const struct config_upstream *upstream,
                       const struct config_server *config)
{
    server->upstream = upstream;
    server->config = config;
    server->gate = (struct gate){.head = POOL_NONE, .tail = POOL_NONE};
    server->ports = upstream->ports;
    server->sessions = malloc(sizeof(*server->sessions) * server->ports);
    if (!server->sessions)
        return -ENOMEM;
    for (unsigned i = 0; i < server->ports; i++)
        server->sessions[i] = POOL_NONE;
    return 0;
}

int upstreams_init(struct upstreams *u, struct messaging *m)
{
    const struct config *config = m->config;
    unsigned total = 0;

    memset(u, 0, sizeof(*u));
    u->m = m;
    for (unsigned i = 0; i < config->upstream_count; i++)
        total += config->upstreams[i].server_count;
    u->servers = calloc(total + 1, sizeof(*u->servers));
    u->first = calloc(config->upstream_count + 1, sizeof(*u->first));
    u->turn = calloc(config->upstream_count + 1, sizeof(*u->turn));
    if (!u->servers || !u->first || !u->turn)
        goto fail;
    for (unsigned i = 0; i < config->upstream_count; i++) {
        const struct config_upstream *upstream = &config->upstreams[i];

        u->first[i] = u->server_count;
        u->turn[i] = random_below(&m->random, upstream->server_count);
        for (unsigned k = 0; k < upstream->server_count; k++)
            if (server_init(&u->servers[u->server_count++], upstream, &upstream->servers[k]) < 0)
                goto fail;
    }
    return 0;
fail:
    upstreams_fini(u);
    return -ENOMEM;
}

void upstreams_fini(struct upstreams *u)
{
    for (unsigned i = 0; u->servers && i < u->server_count; i++)
        free(u->servers[i].sessions);
    free(u->servers);
    free(u->first);
    free(u->turn);
    memset(u, 0, sizeof(*u));
}

static uint32_t target_hash(const struct message *request)
{
    static const enum option_slot slots[] = {SLOT_URI_PATH, SLOT_URI_QUERY};
    uint64_t hash = 0;

    for (unsigned i = 0; i < 2; i++) {
        struct option_cursor cursor = option_cursor_at(request, slots[i]);
        struct option_view view;

        while (option_next_same(&cursor, &view))
            hash = hash_bytes(view.value, view.length, hash + slots[i]);
    }
    return (uint32_t)hash;
}

uint32_t upstreams_choose(struct upstreams *u, unsigned upstream, const struct message *request)
{
    const struct config_upstream *config = &u->m->config->upstreams[upstream];
    unsigned n = config->server_count, pick = 0;

    if (n > 1 && config->balance == CONFIG_BALANCE_HASH)
        pick = target_hash(request) % n;
    else if (n > 1)
        pick = u->turn[upstream]++ % n;
    return u->first[upstream] + pick;
}

static struct session *open_port(struct upstreams *u, uint32_t index, uint16_t n)
{
    struct messaging *m = u->m;
    struct server *server = &u->servers[index];
    const struct config_server *c = server->config;
    uint16_t port = m->io.upstream_port(m->io.context, c->local, &c->endpoint, n);
    struct session *s;
    struct flow flow;
    uint32_t hash;

    if (!port)
        return NULL;
    flow = flow_make(c->local, port, &c->endpoint, c->transport);
    hash = session_hash(&m->sessions, &flow);
    s = session_find(&m->sessions, &flow, hash);
    if (s) /* the same server in another upstream has it */
        return NULL;
    s = messaging_open_session(m, &flow, hash, &server->upstream->transmission);
    if (!s)
        return NULL;
    s->role = SESSION_UPSTREAM;
    s->gate.shared = &server->gate;
    s->owner = index;
    s->port_n = n;
    server->sessions[n] = session_index(&m->sessions, s);
    return s;
}

struct session *upstreams_session(struct upstreams *u, uint32_t index, uint16_t *mid)
{
    struct server *server = &u->servers[index];

    /* The one in use, then the others in turn: at most once around. */
    for (unsigned tries = 0; tries < server->ports; tries++) {
        uint16_t n = server->current;
        struct session *s = server->sessions[n] == POOL_NONE
                                ? open_port(u, index, n)
                                : session_at(&u->m->sessions, server->sessions[n]);

        if (s && session_take_mid(s, u->m->now, mid))
            return s;
        server->current = n + 1 == server->ports ? 0 : n + 1;
        if (!s && u->m->sessions.count >= u->m->sessions.max)
            return NULL; /* no session to be had: the other ports have none either */
    }
    return NULL;
}

void upstreams_closed(struct upstreams *u, const struct session *s)
{
    u->servers[s->owner].sessions[s->port_n] = POOL_NONE;
}
