/* The origin servers of one worker: which server a request goes to, and over which of our ports.
 *
 * A message ID may be used once in EXCHANGE_LIFETIME towards an endpoint (RFC 7252 4.4), so one
 * pair of ports carries 65,536 messages in 247 s at the most. A server is therefore reached over
 * several of our ports, each a session of its own, opened when the IDs of the last one are used up.
 * All of them share one NSTART, since it holds for the server (4.7).
 *
 * One worker owns this; no locking. */
#ifndef COAPGW_GATEWAY_PROXY_UPSTREAM_H
#define COAPGW_GATEWAY_PROXY_UPSTREAM_H

#include <stdint.h>

#include "config/config.h"
#include "gateway/session/messaging.h"

/* One server of one upstream. */
struct server {
    const struct config_upstream *upstream;
    const struct config_server *config;
    struct gate gate;
    uint32_t *sessions; /* by number of the port; POOL_NONE: not open */
    uint16_t ports;     /* how many this worker may use */
    uint16_t current;   /* number of the port in use */
};

struct upstreams {
    struct messaging *m;
    struct server *servers; /* of all upstreams, in order */
    unsigned server_count;
    unsigned *first; /* by upstream: index of its first server */
    unsigned *turn;  /* by upstream: round robin */
};

/* 0 or -ENOMEM. */
int upstreams_init(struct upstreams *u, struct messaging *m);
void upstreams_fini(struct upstreams *u);

/* The index of the server for a request: by a hash of path and query, or in turn. */
uint32_t upstreams_choose(struct upstreams *u, unsigned upstream, const struct message *request);

/* A session to the server with this index, and a message ID in it. NULL when all its ports have
 * used up their IDs or no session can be had. */
struct session *upstreams_session(struct upstreams *u, uint32_t index, uint16_t *mid);

/* A session has gone: its port is free to be opened again. */
void upstreams_closed(struct upstreams *u, const struct session *s);

#endif
