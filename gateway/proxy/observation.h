/* Between the files that observe resources at origins: observation.c, what comes from them, and
 * observation_request.c, what is asked of them. */
#ifndef COAPGW_GATEWAY_PROXY_OBSERVATION_H
#define COAPGW_GATEWAY_PROXY_OBSERVATION_H

#include "gateway/proxy/proxy.h"

/* A registration is made again not before this time: after Max-Age has passed without a
 * notification (RFC 7641 3.3.1), or after it has failed. */
#define LATE_FIRST_US 5000000u

static inline uint32_t observation_index(const struct proxy *p, const struct observation *o)
{
    return pool_index(&p->observations, o);
}

/* observation.c */
/* A destination of the forward proxy is not given up then. */
void observation_hold_server(struct proxy *p, struct observation *o, uint32_t server);
/* The session over which the origin notifies. */
void observation_bind(struct proxy *p, struct observation *o, uint32_t session, uint32_t server);
/* Who asks for the target from now on gets a new observation. */
void observation_detach(struct proxy *p, struct observation *o);
/* The origin has said this state, which is good until its Max-Age has passed. */
void observation_heard(struct proxy *p, struct observation *o, uint32_t content);
/* The origin has ended it. */
void observation_end(struct proxy *p, struct observation *o, uint32_t content);
/* We end it; the origin is told where it has accepted. */
void observation_give_up(struct proxy *p, struct observation *o, uint8_t code);

/* observation_request.c */
/* Prepares a request. POOL_NONE at the limit. */
uint32_t observation_open(struct proxy *p, struct observation *o, enum fetch_role role);
/* The rest of a notification is not wanted any more. */
void observation_abort_rest(struct proxy *p, struct observation *o);
/* A state that is known to be there is asked for, but not by all at once. */
void observation_ask_soon(struct proxy *p, struct observation *o);
/* TIMER_OBSERVATION. */
void observation_on_timer(void *context, struct timer *timer, uint64_t now_us);

#endif
