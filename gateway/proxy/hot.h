/* What is asked for all the time: requests whose answer is in the cache, known by the bytes of
 * their options, with all of the answer that is the same for every client.
 *
 * Which target a plain GET leads to depends on nothing but these bytes and on the address and
 * listener that it came to: neither the route nor the key has to be found again. The answer is good
 * until the target gets another one, and until its Max-Age is a second less.
 *
 * A place of the table goes to another one that is asked for twice while what is there is not asked
 * for at all: what is asked for now and then does not drive out what is asked for often.
 *
 * One worker owns this; no locking. */
#ifndef COAPGW_GATEWAY_PROXY_HOT_H
#define COAPGW_GATEWAY_PROXY_HOT_H

#include "gateway/proxy/proxy.h"

/* 0 or -ENOMEM. */
int hot_init(struct proxy *p);
void hot_fini(struct proxy *p);

/* A request has been answered from the cache with all that its target has. */
void hot_note(struct proxy *p, const struct request *rq, uint32_t target);

#endif
