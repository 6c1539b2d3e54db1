/* The resolver: host names to addresses, for the forward proxy.
 *
 * One thread of the control side asks for all workers, with c-ares: /etc/hosts first, then DNS (A
 * and AAAA). A worker gives it a question through a ring and finds the answer in another one; it
 * never waits, locks or allocates.
 *
 *   worker --- resolver_ask() ---> ring ---> thread ---> DNS servers
 *   worker <-- resolver_take() --- ring <--- thread <---
 *
 * Names that are being asked for already are not asked for again: the one answer goes to all who
 * wait for it. Nothing is cached here; that is the worker's business, with the answer's ttl_s.
 *
 * Each question has a c-ares channel of its own, and with it sockets and so ports of its own: with
 * a shared one, an attacker who makes us ask could guess at the answers to many questions at a time
 * (RFC 5452 9.2). It also means that a changed resolv.conf is heeded from the next question on. */
#ifndef COAPGW_GATEWAY_CONTROL_RESOLVER_H
#define COAPGW_GATEWAY_CONTROL_RESOLVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "gateway/datagram.h"

/* Questions of one worker that have not been answered, or whose answers it has not taken. */
#define RESOLVER_OPEN_MAX 256

/* Questions at the DNS servers. Those beyond wait in the workers' rings. */
#define RESOLVER_UNDER_WAY_MAX 128

/* The longest name in bytes, the final dot included. */
#define RESOLVER_NAME_MAX 255

/* A server gets so long for the first try, twice as long for the second. The question ends with
 * -ETIMEDOUT after RESOLVER_PATIENCE_MS, however many servers there are. */
#define RESOLVER_TIMEOUT_MS  2000
#define RESOLVER_PATIENCE_MS 10000

/* How long answers hold: the smallest TTL of their records up to a day; without records, one of
 * these two. */
#define RESOLVER_TTL_MAX_S      86400
#define RESOLVER_TTL_HOSTS_S    60 /* from /etc/hosts, which has no TTL */
#define RESOLVER_TTL_NEGATIVE_S 5  /* there is no such name, or nobody could be asked */

struct resolver_setup {
    unsigned workers;
    const char *servers; /* "10.0.0.53,[fd00::53]:5353", an IPv6 one always with its port; NULL: the
                            system's. Not copied. */
    unsigned timeout_ms; /* 0: RESOLVER_TIMEOUT_MS */
};

struct resolver;

/* Reserves everything; asks nobody. NULL with errno set: EINVAL for `servers` that cannot be
 * understood. Main thread. `servers` must outlive the resolver. */
struct resolver *resolver_create(const struct resolver_setup *setup);

/* Starts the thread. Questions may have been asked before. 0 or a negative errno. Main thread. */
int resolver_start(struct resolver *resolver);

/* Ends the thread, if there is one; questions that are under way are dropped without an answer. No
 * worker may be running. NULL is nothing. Main thread. */
void resolver_destroy(struct resolver *resolver);

/* Asks for the addresses of `name`: lower case, not ended by a zero. The answer comes with the same
 * `id`. False: too many questions are open, or the length is not 1..RESOLVER_NAME_MAX. Worker's
 * thread. */
bool resolver_ask(struct resolver *resolver, unsigned worker, const char *name, size_t length,
                  uint32_t id);

/* The next answer for a worker; false when there is none. Costs a load when no question is open.
 * Addresses are of both families by turns, IPv6 first, and in the servers' order within one.
 * Worker's thread. */
bool resolver_take(struct resolver *resolver, unsigned worker, struct resolved *answer);

/* What it has done so far. Any thread. */
struct resolver_status {
    uint64_t asked, joined;         /* names that were asked for; asked while that was under way */
    uint64_t found, absent, failed; /* names asked for, by outcome */
};
void resolver_status(const struct resolver *resolver, struct resolver_status *status);

/* The same as one line. */
void resolver_print(const struct resolver *resolver, FILE *out);

#endif
