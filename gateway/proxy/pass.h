/* The shortest way of a request through the proxy: one without a body in blocks that goes to an
 * origin in one datagram and comes back in one, before anything is due that an exchange may need
 * besides. Nearly all are of this kind, and what they need is in one object.
 *
 * A pass has the place of a fetch, by the same index and with the same token, an exchange and a
 * message ID that waits for its ACK, as any fetch has: limits, NSTART, duplicates and all that
 * hangs on sessions are theirs. What it has not is timers, a target, a kept message and a list of
 * those who wait. As soon as anything happens that is not that one answer, or some time has gone
 * by, it is unfolded: it becomes a fetch with all of these, as if it had been one from the start.
 *
 * Another request with the same key must find it: passes are in a table by their URI's hash.
 *
 * One worker owns them; no locking. */
#ifndef COAPGW_GATEWAY_PROXY_PASS_H
#define COAPGW_GATEWAY_PROXY_PASS_H

#include "gateway/proxy/request.h"

/* The longest message to an origin. */
#define PASS_BYTES 120

/* So many at a time, each of which may be unfolded when a server goes down; others are fetches. */
#define PASSES_MAX 4096

struct pass {
    uint64_t hash, uri; /* of its key */
    uint64_t begun_us;
    struct links by_age;
    uint32_t by_uri; /* next in the table, index + 1; 0 ends it */
    uint32_t exchange, outbound;
    uint32_t session; /* to the server */
    uint32_t server;
    uint32_t route;
    uint16_t mid; /* towards the server */
    uint16_t length;
    uint16_t options_length, payload_length;
    uint16_t last_option; /* of the key */
    uint8_t hop_limit;
    bool open;
    bool shared;               /* others may join, and its answer may be stored */
    uint8_t bytes[PASS_BYTES]; /* the request as the server gets it */
};
_Static_assert(sizeof(struct pass) == 192, "three cache lines");

int passes_init(struct proxy *p);
void passes_fini(struct proxy *p);

/* A client's request that has been admitted, and whose key in p->key has neither a target nor a
 * pass. False when it has to take another way: nothing has been done. */
bool pass_start(struct proxy *p, const struct asked *a);

/* An ACK of a server's with an answer in it. True when it has been handed to the client; otherwise
 * nothing has been done. */
bool pass_answered(struct proxy *p, const struct session *s, const struct message *msg);

/* It becomes a fetch. Where memory is short the client is told, and all of it is gone. */
void pass_unfold(struct proxy *p, uint32_t index);

/* The same for those with the key in p->key: they have a target now. True: there was one. */
bool pass_unfold_same(struct proxy *p);

/* The same for those at a server. */
void pass_unfold_server(struct proxy *p, uint32_t server);

/* What is on its way for a URI is not good for others any more. */
void pass_disclaim(struct proxy *p, uint64_t uri);
/* Nothing is. */
void pass_disclaim_all(struct proxy *p);

static inline struct pass *pass_at(const struct proxy *p, uint32_t index)
{
    return &p->passes.at[index];
}

#endif
