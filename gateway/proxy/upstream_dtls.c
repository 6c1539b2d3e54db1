/* Servers over DTLS: when a session gets its association, and what becomes of what is under way
 * when that ends. See upstream.h. */
#include <errno.h>
#include <stdio.h>

#include "gateway/proxy/upstream.h"
#include "gateway/security/security.h"

/* What is between a handshake that has failed and the next one: doubled by each. A server that
 * refuses is not asked by every request; one that comes back is not kept waiting. */
#define PAUSE_FIRST_US UINT64_C(1000000)
#define PAUSE_LAST_US  UINT64_C(16000000)

/* How long a session is kept whose association has ended, for those who hang on it to be told. */
#define CUT_US UINT64_C(1000000)

/* Where a port has so many IDs left the next one is made ready. */
#define AHEAD 0x4000u

/* Ports that are looked at for one without an association. */
#define PORTS_TRIED 8

/* ---- what is answered ---- */

uint8_t upstreams_code(int error, const char **why)
{
    switch (error) {
    case -ECONNREFUSED:
        *why = "the DTLS handshake with the origin was refused";
        return CODE_BAD_GATEWAY;
    case -ETIMEDOUT:
        *why = "the origin is silent";
        return CODE_GATEWAY_TIMEOUT;
    case -EHOSTUNREACH:
        *why = "the origin is unreachable";
        return CODE_GATEWAY_TIMEOUT;
    default:
        *why = "no room for a DTLS association with the origin";
        return CODE_SERVICE_UNAVAILABLE;
    }
}

/* ---- the end of an association ---- */

/* Nothing goes over its port any more before another association is made there. */
static void cut(struct upstreams *u, struct server *server, struct session *s)
{
    s->unsecured = true;
    server->dtls.unbound = true;
    upstreams_closed(u, s);
    if (server->current == s->place)
        server->current = s->place + 1 == server->ports ? 0 : s->place + 1;
    s->side.upstream.server = SERVER_NONE;
    s->seen_us = 0; /* it expires as soon as nobody hangs on it */
    wheel_arm(&u->m->wheel, &s->idle, u->m->now + CUT_US);
}

void upstreams_disconnected(struct upstreams *u, struct session *s)
{
    struct server *server;

    if (s->unsecured)
        return;
    server = &u->servers[s->side.upstream.server];
    server->dtls.associations--;
    cut(u, server, s);
    upstreams_tell(u, server, CODE_BAD_GATEWAY, "the origin has ended the DTLS association");
}

/* The server goes to another place. */
void upstreams_cut(struct upstreams *u, struct server *server, struct session *s)
{
    bool associated = !s->unsecured;

    /* A handshake ends, too: its certificate would be for who was to be here. */
    security_close(u->m->security, &s->flow, associated);
    if (!associated)
        cut(u, server, s);
}

void upstreams_disconnect(struct upstreams *u, struct server *server, const struct session *but)
{
    unsigned left = but != NULL;

    for (unsigned n = 0; n < server->ports && server->dtls.associations > left; n++) {
        const struct session *s;

        if (!server->sessions[n])
            continue;
        s = session_at(&u->m->sessions, server->sessions[n] - 1);
        if (!s->unsecured && s != but)
            security_close(u->m->security, &s->flow, true);
    }
}

/* ---- the beginning ---- */

bool upstreams_is_pausing(const struct upstreams *u, const struct server *server)
{
    return server->dtls.pause_us && u->m->now - server->dtls.failed_us < server->dtls.pause_us;
}

int upstreams_secure(struct upstreams *u, struct session *s)
{
    struct server *server = &u->servers[s->side.upstream.server];
    uint64_t patience_us = transmission_max_wait_ms(&server->upstream->transmission) * 1000;
    int err;

    if (!s->unsecured || security_is_connecting(u->m->security, &s->flow))
        return 0;
    if (upstreams_is_pausing(u, server))
        return server->dtls.error;
    if (server->lost_fetches) { /* what was sent before must be out of the way */
        server->dtls.wanted = true;
        return 0;
    }
    err = security_connect(u->m->security, server->group, &s->flow, server->dtls.name, patience_us);
    if (err)
        return err;
    return upstreams_is_cut(s) ? server->dtls.error : 0; /* it has ended within this call */
}

void upstreams_connect(struct upstreams *u, struct server *server)
{
    struct session *s = upstreams_port(u, server, server->current);

    server->dtls.wanted = false;
    if (s)
        (void)upstreams_secure(u, s);
}

bool upstreams_is_mute(const struct server *server)
{
    return server->dtls.again_us && server->gate.heard_us <= server->dtls.again_us;
}

/* The next port without an association. */
static struct session *free_port(struct upstreams *u, struct server *server)
{
    unsigned n = server->current;

    for (unsigned i = 1; i < server->ports && i <= PORTS_TRIED; i++) {
        struct session *s;

        n = n + 1 == server->ports ? 0 : n + 1;
        s = upstreams_port(u, server, (uint16_t)n);
        if (s && s->unsecured)
            return s;
    }
    return NULL;
}

void upstreams_doubt(struct upstreams *u, uint32_t index)
{
    struct server *server;
    struct session *s;

    if (index == SERVER_NONE)
        return;
    server = &u->servers[index];
    if (server->dtls.associations == 0 || upstreams_is_pausing(u, server) ||
        upstreams_is_mute(server))
        return;
    s = free_port(u, server);
    if (!s)
        return;
    server->dtls.doubted = true;
    server->dtls.doubted_us = u->m->now;
    (void)upstreams_secure(u, s);
}

void upstreams_look_ahead(struct upstreams *u, struct server *server, const struct session *s,
                          uint16_t mid)
{
    struct session *next;

    if ((mid & 0x7fff) != 0x8000 - AHEAD || !s->mid_left_s[!(mid >> 15)])
        return;
    next = upstreams_port(u, server, s->place + 1 == server->ports ? 0 : s->place + 1);
    if (next && next->unsecured)
        (void)upstreams_secure(u, next);
}

/* Nothing has come in the associations of before, since it has been asked whether it is there. */
static bool is_dead(const struct server *server)
{
    return server->dtls.doubted && server->gate.heard_us < server->dtls.doubted_us;
}

/* The server knows nothing of them. */
static void forget_others(struct upstreams *u, struct server *server, const struct session *s)
{
    server->current = s->place;
    if (server->dtls.associations == 1)
        return;
    upstreams_disconnect(u, server, s);
    upstreams_tell(u, server, CODE_GATEWAY_TIMEOUT, "the origin is silent");
}

static void made(struct upstreams *u, struct session *s)
{
    struct server *server = &u->servers[s->side.upstream.server];
    bool dead = is_dead(server);

    s->unsecured = false;
    s->mid_left_s[0] = s->mid_left_s[1] = 0; /* its message IDs are new (RFC 7252 9.1.1) */
    s->seen_us = u->m->now;
    server->dtls.associations++;
    server->dtls.pause_us = 0;
    server->dtls.doubted = false;
    if (dead) {
        forget_others(u, server, s);
        server->dtls.again_us = u->m->now;
    }
    server->gate.heard_us = u->m->now;
    if (server->down)
        upstreams_ping(u, server);
    outbound_heard(u->m, &server->gate);
    if (server->dtls.unbound)
        upstreams_tell_observations(u, server);
    server->dtls.unbound = false;
    outbound_pump(u->m, s);
    if (!server->lost_fetches)
        upstreams_go_on(u, server);
}

enum server_association upstreams_association(const struct upstreams *u,
                                              const struct server *server)
{
    uint32_t place = server->sessions[server->current];

    if (server->dtls.associations)
        return SERVER_ASSOCIATED;
    return place && security_is_connecting(u->m->security,
                                           &session_at(&u->m->sessions, place - 1)->flow)
               ? SERVER_SHAKING_HANDS
               : SERVER_APART;
}

/* What it says may stand between quotation marks anywhere. */
static void note_reason(struct server_dtls *d, const char *why)
{
    snprintf(d->why, sizeof(d->why), "%s", why);
    for (char *at = d->why; *at; at++)
        if (*at < ' ' || *at > '~' || *at == '"' || *at == '\\')
            *at = '?';
}

static void note_failure(struct upstreams *u, struct server *server, int error, const char *why)
{
    struct server_dtls *d = &server->dtls;

    d->error = error;
    d->failed_us = u->m->now;
    d->pause_us = d->pause_us ? d->pause_us * 2 : PAUSE_FIRST_US;
    if (d->pause_us > PAUSE_LAST_US)
        d->pause_us = PAUSE_LAST_US;
    note_reason(d, why);
}

/* Where another association stands the server is not down. */
static void failed(struct upstreams *u, struct session *s, int error, const char *why)
{
    struct server *server = &u->servers[s->side.upstream.server];
    const char *diagnostic;
    uint8_t code = upstreams_code(error, &diagnostic);

    note_failure(u, server, error, why);
    cut(u, server, s);
    if ((server->dtls.associations == 0 || is_dead(server)) && code != CODE_SERVICE_UNAVAILABLE)
        upstreams_failed(u, (uint32_t)(server - u->servers));
    server->dtls.doubted = false;
    upstreams_tell(u, server, code, diagnostic);
}

void upstreams_connected(struct upstreams *u, struct session *s, int error, const char *why)
{
    if (s->side.upstream.server == SERVER_NONE) {
        if (!error)
            security_close(u->m->security, &s->flow, true);
    } else if (error) {
        failed(u, s, error, why);
    } else {
        made(u, s);
    }
}

/* One whose turn it is to wait at the gate may need a handshake. */
void upstreams_go_on(struct upstreams *u, struct server *server)
{
    struct session *first;
    const char *why;
    int err;

    if (server->dtls.wanted)
        upstreams_connect(u, server);
    first = outbound_first(u->m, &server->gate);
    if (!first || !first->unsecured || upstreams_is_cut(first))
        return;
    err = upstreams_secure(u, first);
    if (err && !upstreams_is_cut(first)) {
        uint8_t code = upstreams_code(err, &why);

        cut(u, server, first);
        upstreams_tell(u, server, code, why);
    }
}
