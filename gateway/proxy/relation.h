/* Between the files that look after clients that observe: relation.c, their life, and
 * relation_notify.c, what they are told. */
#ifndef COAPGW_GATEWAY_PROXY_RELATION_H
#define COAPGW_GATEWAY_PROXY_RELATION_H

#include "gateway/proxy/proxy.h"

static inline uint32_t relation_index(const struct proxy *p, const struct relation *r)
{
    return pool_index(&p->relations, r);
}

static inline struct session *relation_session(const struct proxy *p, const struct relation *r)
{
    return session_at(&p->m->sessions, r->session);
}

/* A RST to a message with this ID ends the relation. */
static inline void relation_remember_mid(struct relation *r, uint16_t mid)
{
    r->mids[r->mid_next] = mid;
    r->mid_next = (r->mid_next + 1) % RELATION_MIDS;
    if (r->mid_count < RELATION_MIDS)
        r->mid_count++;
}

/* relation.c */
/* Takes it out of everything. The observation may go with it: observation_left() is the caller's.
 */
void relation_remove(struct proxy *p, struct relation *r);
/* The same, and the observation goes when nobody is left. */
void relation_end(struct proxy *p, struct relation *r);
/* RFC 7641 3.6: the client does not know the token. */
void relation_reject(struct proxy *p, struct relation *r);

/* relation_notify.c */
/* Its timer, after a state has been sent or acknowledged. */
void relation_arm(struct proxy *p, struct relation *r);
/* A notification that the client has not acknowledged yet does not concern the relation any more:
 * NSTART holds all the same (RFC 7252 4.7). */
void relation_leave_outbound(struct proxy *p, struct relation *r);
/* TIMER_RELATION. */
void relation_on_confirm(void *context, struct timer *timer, uint64_t now_us);

#endif
