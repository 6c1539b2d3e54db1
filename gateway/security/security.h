/* DTLS between a worker and its emitter: one for each worker that has coaps listeners or upstreams.
 *
 *     datagram -> security_receive() -> ops.deliver()      what was in its records
 *                                    -> a handshake        worked on in security_advance()
 *     security_io() : alloc, send -> sealed in place -> the emitter
 *
 * The rest of the worker knows a client over DTLS by its *session flow*: association_flow(), with
 * transport TRANSPORT_DTLS. The *wire flow*, the addresses that packets go between, is known here
 * alone.
 *
 * What costs time or memory is bounded: nothing is kept for a client that has not shown that it
 * gets what is sent to its address (RFC 6347 4.2.1); handshakes are so many, their datagrams wait
 * their turn, and a turn has a budget; at the limit of associations the longest idle one goes.
 *
 * One worker's thread. Times are the worker's. */
#ifndef COAPGW_GATEWAY_SECURITY_SECURITY_H
#define COAPGW_GATEWAY_SECURITY_SECURITY_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "gateway/counters.h"
#include "gateway/datagram.h"
#include "gateway/random.h"
#include "gateway/security/association.h"
#include "gateway/security/principal.h"
#include "gateway/timer/wheel.h"

struct credentials;
struct parcel;
struct security;

struct security_ops {
    void *context;
    /* Up to WORKER_BURST plain datagrams: their flows are session flows, or untouched where they
     * are none of ours. They are gone after the call. */
    void (*deliver)(void *context, const struct datagram *burst, unsigned n);
    /* An association has ended: nothing more can be sent in its session. */
    void (*ended)(void *context, const struct flow *session);
    /* Something hangs on its session: it should go last when room is needed. */
    bool (*is_busy)(void *context, const struct flow *session);
    /* Of ours to an origin: it can be used, or could not be made. `error` is 0; -ECONNREFUSED: one
     * of both has refused it; -ETIMEDOUT: silence; -EHOSTUNREACH: an ICMP error; -EBUSY: no room.
     * `why` is for operators, and lives for this call. NULL: there are no coaps upstreams. */
    void (*connected)(void *context, const struct flow *session, int error, const char *why);
};

struct security_setup {
    const struct config *config;
    struct worker_io io;             /* the emitter; copied */
    struct security_ops ops;         /* copied */
    struct credentials *credentials; /* a reference of its own, which is given up in the end */
    struct counters *counters;
    struct wheel *wheel;
    unsigned index, count; /* of the worker */
    uint32_t associations; /* this worker's share of limits.associations */
    uint64_t now;          /* the time of the start */
    const uint8_t *seed;   /* RANDOM_SEED_BYTES */
};

/* True when the configuration has a listener or an upstream with DTLS: otherwise there is no struct
 * security, and nothing is asked of it. */
bool security_wanted(const struct config *config);

/* NULL with errno set. */
struct security *security_create(const struct security_setup *setup);
void security_destroy(struct security *s);

/* The emitter for all that is above: the same as was given, but for flows over DTLS. */
struct worker_io security_io(struct security *s);

/* Takes a burst and delivers what is in it, in order as far as the peers are concerned. */
void security_receive(struct security *s, const struct datagram *burst, unsigned n, uint64_t now);

/* Works on handshakes, within the budget. Returns how much was done. Timers are the wheel's. */
unsigned security_advance(struct security *s, uint64_t now);

/* True when security_advance() has something to do at once. */
bool security_has_work(const struct security *s);

/* An ICMP error about a datagram to this wire flow. True, and the session's flow in `out`, when
 * what it quotes may well be a record of ours. */
bool security_unreachable(const struct security *s, const struct flow *wire, const uint8_t *quoted,
                          size_t length, struct flow *out);

/* New credentials: for handshakes from now on. Takes over a reference. */
void security_renew(struct security *s, struct credentials *credentials);

/* What the store says: true when it was for this layer alone. The parcel stays the caller's. */
bool security_told(struct security *s, struct parcel *parcel);

/* The gateway is stopping: with `farewell` all peers, without it origins only, are told that their
 * associations end here (close_notify), within the budget of each security_advance(). No more
 * handshakes begin. */
void security_drain(struct security *s, bool farewell);

/* False while farewells are still to be sent. */
bool security_is_quiet(const struct security *s);

/* ---- what a session over DTLS is; for others the answer is no or nothing ---- */

/* NULL when there is no such association. Good until it ends. */
const struct association *security_find(const struct security *s, const struct flow *session);

/* Who the client is; kind PRINCIPAL_NONE where it is nobody. Never NULL. */
const struct principal *security_principal(const struct security *s, const struct flow *session);

/* The address that it has now. */
bool security_peer(const struct security *s, const struct flow *session, struct endpoint *out);

/* What its records take beside the message, in bytes: the most that it can be, as long as there is
 * no association. And what is around them: IP and UDP headers
 * of the real address. */
uint16_t security_overhead(const struct security *s, const struct flow *session);
uint16_t security_headers(const struct security *s, const struct flow *session);

/* True for an association that was restored, whose client has not shown yet that what it sends is
 * new: its last requests may be somebody's repetition. An unsafe one must wait for that. */
bool security_is_unproven(const struct security *s, const struct flow *session);
/* It has: by an Echo option that was given to it since (RFC 9175 2.3). */
void security_prove(struct security *s, const struct flow *session);

/* Begins a handshake with an origin: the local end, and the server's address, of the session that
 * is to be. With a `name`, which is needed for this call, the server's certificate must be for
 * that; NULL: for the configured one, or for its address. ops.connected() says how it ends, also
 * within this call; after `patience_us` without an end it has failed. 0; -EALREADY: it is under
 * way; -EBUSY and others: it cannot be begun now, and connected() is not called. */
int security_connect(struct security *s, unsigned upstream, const struct flow *session,
                     const char *name, uint64_t patience_us);

/* True from security_connect() until connected(). */
bool security_is_connecting(const struct security *s, const struct flow *session);

/* The same as security_unreachable() for a handshake with an origin, which ends by it. True when
 * there was one. */
bool security_connect_unreachable(struct security *s, const struct flow *wire,
                                  const uint8_t *quoted, size_t length);

/* Ends an association; with `notify` its peer is told. Where there is none it ends a handshake with
 * an origin, and connected() is not called. */
void security_close(struct security *s, const struct flow *session, bool notify);

/* ---- figures ---- */

struct security_usage {
    uint32_t associations, associations_max;
    uint32_t handshakes, handshakes_max;
    uint32_t chunks, chunks_max; /* datagrams of handshakes that wait */
};
void security_usage(const struct security *s, struct security_usage *usage);

#endif
