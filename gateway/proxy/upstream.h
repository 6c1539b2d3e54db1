/* The origin servers of one worker: which server a request goes to, over which of our ports, and
 * which of them are alive.
 *
 * A message ID may be used once in EXCHANGE_LIFETIME towards an endpoint (RFC 7252 4.4), so one
 * pair of ports carries 65,536 messages in 247 s at the most. A server is therefore reached over
 * several of our ports, each a session of its own, opened when the IDs of the last one are used up:
 * 1,024 ports carry 271,000 messages in a second for as long as one likes, 8,192 more than two
 * million.
 * All of them share one NSTART, since it holds for the server (4.7).
 *
 * Over DTLS each port is an association of its own. One is made before any request needs it, and
 * the next one when a port has but a quarter of its IDs left, so that no request waits for a
 * handshake but those of before the first one. A new association has new message IDs (9.1.1): a
 * single port with one after the other would do, as far as we are concerned. But a server may still
 * have the old one, when it did not get our close_notify, and not hear a ClientHello then, as
 * libcoap's with OpenSSL; so each association has the next port in turn. They are not resumed: one
 * full handshake in 65,536 messages is no cost, and nothing secret is kept when an association
 * ends.
 *
 * What was sent in an association that has ended gets no answer, and is not sent again (9.1.1): its
 * request is made anew, once, if it is safe. What has not been sent waits for the next one. A
 * server that does not answer may have been started anew, without the association: after two
 * retransmissions, or pings, there is a handshake over the next port. When that ends well, and in
 * the old associations there still is silence, these end; when it fails, too, or there is no
 * message in the new one either, the server is down. For one that is down a handshake is not
 * enough: it has to answer a ping, as any other.
 *
 * A server is down when an exchange with it has failed, or a ping after a silence. It gets no
 * requests then while another is up, but pings until anything is heard of it. Behind the servers of
 * the configuration stand those that the forward proxy has found.
 *
 * One worker owns this; no locking. */
#ifndef COAPGW_GATEWAY_PROXY_UPSTREAM_H
#define COAPGW_GATEWAY_PROXY_UPSTREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "gateway/session/messaging.h"

#define SERVER_NONE      POOL_NONE
#define SERVER_WHY_BYTES 64

/* Of a server over DTLS. */
struct server_dtls {
    const char *name; /* of a destination of the forward proxy; NULL: see security_connect() */
    uint64_t
        again_us; /* when there was an association again for one that had been silent; 0: never */
    bool wanted;  /* a handshake is to be made, whether a request waits for it or not */
    bool unbound; /* observations may be here without the association that they were made in */
    bool doubted; /* a handshake is to show whether it has been started anew, */
    uint64_t doubted_us;        /* since this time */
    uint16_t associations;      /* sessions that have one */
    int error;                  /* how the last handshake that failed did: see upstreams_secure() */
    char why[SERVER_WHY_BYTES]; /* the same for operators; "": none has failed */
    uint64_t failed_us;         /* when */
    uint64_t pause_us;          /* after which there may be another one; 0: the last one was good */
};

struct server {
    const struct config_upstream *upstream;
    struct config_server place;
    struct gate_shared gate;
    uint32_t *sessions; /* by number of the port, index + 1; 0: not open */
    uint16_t ports;     /* how many this worker may use */
    uint16_t current;   /* number of the port in use */
    uint16_t group;     /* whose limit of outstanding requests counts */
    uint32_t dry_s;     /* in this second no port had a message ID left, 0: never so */
    bool down;
    uint8_t pings; /* unanswered, in a row */
    uint16_t ping_mid;
    uint64_t ping_gap_us;  /* what follows the last one, before keepalive caps it */
    uint32_t ping_session; /* POOL_NONE: the last ping was answered, or cannot be any more */
    uint64_t ping_us;      /* when it was sent first */
    uint64_t down_us;
    struct timer timer;
    struct server_dtls dtls;
    struct list fetches, observations; /* links `by_server` of both */
    uint32_t fetch_count, observation_count;
    uint32_t lost_fetches, lost_observations; /* still to be told that it is down, or that what they
                                                 were sent in has ended */
    bool telling;                             /* it is one of upstreams.lost */
    uint8_t lost_code;                        /* what they are answered with who cannot go on, */
    const char *lost_why;                     /* and the diagnostic */
};

struct upstreams {
    struct messaging *m;
    struct server *servers; /* of all upstreams, in order; then room for destinations */
    unsigned server_count;  /* of the configuration */
    unsigned total;         /* with destinations */
    uint32_t *ports;        /* `sessions` of all servers, one after the other */
    size_t ports_bytes, ports_used;
    unsigned *first;         /* by upstream: index of its first server */
    unsigned *turn;          /* by upstream: round robin */
    uint32_t *outstanding;   /* by group: fetches that are open */
    unsigned lost;           /* servers that lost_* are to be told of */
    struct gate_shared left; /* of what is still under way where servers have moved from */
};

/* `destinations` more servers can be added at run time. 0 or -ENOMEM. */
int upstreams_init(struct upstreams *u, struct messaging *m, unsigned destinations);
void upstreams_fini(struct upstreams *u);

/* The index of a server for a request, out of `count` ones from `first` on that are up, or out of
 * all when none is: by a hash of its target, or in turn. `but` is left out, unless it is the only
 * one that is up. */
uint32_t upstreams_choose(struct upstreams *u, unsigned first, unsigned count, uint64_t hash,
                          uint32_t but);

/* True when one of them is up. */
bool upstreams_any_up(const struct upstreams *u, unsigned first, unsigned count);

/* A session to the server with this index, and a message ID in it. NULL when all its ports have
 * used up their IDs or no session can be had. */
struct session *upstreams_session(struct upstreams *u, uint32_t index, uint16_t *mid);

/* True when that was for want of message IDs, in this second. */
bool upstreams_is_dry(const struct upstreams *u, uint32_t index);

/* A session has gone: its port is free to be opened again. */
void upstreams_closed(struct upstreams *u, const struct session *s);

/* An exchange with the server has failed: its fetches and observations are to be told (lost_*). */
void upstreams_failed(struct upstreams *u, uint32_t index);

/* A request or a ping has got no answer. Over DTLS the associations end, and a new handshake tells
 * whether the server is down; otherwise it is. */
void upstreams_silent(struct upstreams *u, uint32_t index);

/* A server over DTLS (or SERVER_NONE) has not answered for some time. */
void upstreams_doubt(struct upstreams *u, uint32_t index);

/* Something was heard of it. */
void upstreams_heard(struct upstreams *u, uint32_t index);

/* A RST in one of its sessions, or an ICMP error (`alive` is false). True when it answers the last
 * ping. */
bool upstreams_pong(struct upstreams *u, const struct session *s, uint16_t mid, bool alive);

/* Prepares a slot behind the configured servers, for the first time. */
void upstreams_add(struct upstreams *u, uint32_t index, const struct config_upstream *upstream,
                   uint16_t group);

/* It is another endpoint from now on: its open sessions are forgotten, and what is under way in
 * them does not count for NSTART any more. */
void upstreams_move(struct upstreams *u, uint32_t index, const struct config_server *place);

/* ---- over DTLS (upstream_dtls.c) ---- */

/* A session that is to be used needs an association: 0 when it has one, or a handshake is under way
 * or about to begin. -ECONNREFUSED, -ETIMEDOUT, -EHOSTUNREACH: the last handshake has failed so,
 * not long ago. -EBUSY and others: there is no room for one. */
int upstreams_secure(struct upstreams *u, struct session *s);

/* An answer for what cannot be sent for such an error, and its diagnostic. */
uint8_t upstreams_code(int error, const char **why);

/* The handshake for a session has ended, with an association where `error` is 0. See
 * security_ops. */
void upstreams_connected(struct upstreams *u, struct session *s, int error, const char *why);

/* A session's association has ended. */
void upstreams_disconnected(struct upstreams *u, struct session *s);

/* The same for operators. */
enum server_association { SERVER_APART, SERVER_SHAKING_HANDS, SERVER_ASSOCIATED };
enum server_association upstreams_association(const struct upstreams *u,
                                              const struct server *server);

/* True for one whose association has ended, or was never made: nothing will be sent in it any more.
 */
static inline bool upstreams_is_cut(const struct session *s)
{
    return s->unsecured && s->side.upstream.server == SERVER_NONE;
}

/* All who had to be told (lost_*) have been: what waits can go on. */
void upstreams_go_on(struct upstreams *u, struct server *server);

/* ---- between the files ---- */

static inline bool server_is_secure(const struct server *server)
{
    return server->place.transport == TRANSPORT_DTLS;
}

/* Has a handshake made if there is no association. */
void upstreams_connect(struct upstreams *u, struct server *server);
/* A handshake has failed since there was an association last, and it is early for another one. */
bool upstreams_is_pausing(const struct upstreams *u, const struct server *server);
/* True when the last handshake was to tell whether it is there, and not a message has come since.
 */
bool upstreams_is_mute(const struct server *server);
/* A ping to one that is not known to be up. */
void upstreams_ping(struct upstreams *u, struct server *server);
/* A session ends, with its association if it has one: what is in it is to be told. */
void upstreams_cut(struct upstreams *u, struct server *server, struct session *s);
/* Ends all associations with it but this session's; NULL: all. */
void upstreams_disconnect(struct upstreams *u, struct server *server, const struct session *but);
/* The next port's, when this ID says that it will be needed. */
void upstreams_look_ahead(struct upstreams *u, struct server *server, const struct session *s,
                          uint16_t mid);
/* All that is at the server is to be told. */
void upstreams_tell(struct upstreams *u, struct server *server, uint8_t code, const char *why);
/* Whether it still has anybody to tell: to be called when that may have changed. */
void upstreams_count_lost(struct upstreams *u, struct server *server);
/* All observations. */
void upstreams_tell_observations(struct upstreams *u, struct server *server);
/* The session at the n-th port, which is opened if it is not. NULL: it cannot be. */
struct session *upstreams_port(struct upstreams *u, struct server *server, uint16_t n);

#endif
