/* The reverse proxy: a client's request becomes a request of our own to an origin server, and its
 * response the client's (RFC 7252 5.7).
 *
 * Token and message ID on the far leg are the gateway's own. The token is the index of the forward
 * and a random number that only this forward has, so that a late or forged response finds nothing.
 *
 * One worker owns this; no locking. */
#ifndef COAPGW_GATEWAY_PROXY_FORWARD_H
#define COAPGW_GATEWAY_PROXY_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/proxy/upstream.h"
#include "gateway/session/messaging.h"

struct forward {
    struct timer deadline;
    struct exchange *exchange; /* the client's request */
    uint32_t session;          /* to the origin */
    uint32_t outbound;         /* our request while it is unacknowledged, else POOL_NONE */
};

struct proxy {
    struct messaging *m;
    struct upstreams upstreams;
    struct pool forwards;
    uint32_t *nonces; /* by index: second half of the token; 0: there is no such forward */
    size_t nonces_bytes;
    uint32_t token_mask; /* hides the indices */
    bool draining;       /* new requests are refused */
};

/* 0 or a negative errno. Registers the handler of TIMER_FORWARD. */
int proxy_init(struct proxy *p, struct messaging *m);
void proxy_fini(struct proxy *p);

/* Forwards a request along a route to an upstream, or answers an error. */
void proxy_request(struct proxy *p, struct request *rq, unsigned upstream);

/* For messaging_ops. */
bool proxy_response(struct proxy *p, struct session *s, const struct message *response);
void proxy_settled(struct proxy *p, uint32_t forward, enum outbound_outcome outcome);

#endif
