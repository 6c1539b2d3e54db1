/* Echo values (RFC 9175 2.2): a time and a MAC over it and the flow, so that a client can prove
 * that it receives what is sent to its address, and the gateway keeps nothing until it has.
 *
 * One worker owns it; no locking. No allocation after creation. */
#ifndef COAPGW_GATEWAY_SESSION_ECHO_H
#define COAPGW_GATEWAY_SESSION_ECHO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/net.h"
#include "gateway/random.h"

#define ECHO_BYTES      12
#define ECHO_LIFETIME_S 60 /* a value older than this proves nothing */

struct echo;

/* With a key of its own, drawn from `random`. NULL when memory is short. */
struct echo *echo_create(struct random *random);
void echo_destroy(struct echo *echo);

void echo_make(struct echo *echo, const struct flow *flow, uint64_t now_us,
               uint8_t out[ECHO_BYTES]);

enum echo_verdict {
    ECHO_FOREIGN, /* not made here for this flow: somebody else's */
    ECHO_STALE,   /* made here, but too long ago to prove anything */
    ECHO_PROOF,
};

/* What a value that came with a request is. */
enum echo_verdict echo_verify(struct echo *echo, const struct flow *flow, uint64_t now_us,
                              const uint8_t *value, size_t length);

#endif
