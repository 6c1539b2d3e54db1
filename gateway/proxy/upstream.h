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

#define SERVER_NONE POOL_NONE

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
    struct list fetches, observations; /* links `by_server` of both */
    uint32_t fetch_count, observation_count;
    uint32_t lost_fetches, lost_observations; /* still to be told that it is down */
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
    unsigned lost;           /* servers with lost_* */
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

#endif
