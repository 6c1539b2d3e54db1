/* DTLS 1.2 around a carrier: each device has an association with the target, by a pre-shared key.
 *
 * Handshakes are those of the tests' own client (tests/dtls), so many at a time, before anything
 * else is sent. What is left of one then is a record of keys and numbers, 192 bytes, and the
 * records of the run are made and read by the gateway's record layer, which keeps keyed contexts
 * for as many associations as are worth it. What the origin says and hears is not protected.
 *
 * The engine's thread calls everything. */
#ifndef COAPGW_BENCH_GUN_SECURE_H
#define COAPGW_BENCH_GUN_SECURE_H

#include "bench/gun/carrier.h"

struct secure;

/* On success `*out` owns `inner`, and is closed by the close() of its carrier. Else a negative
 * errno that has been said, and `inner` is as it was. */
int secure_open(const struct gun_options *o, struct carrier *inner, struct secure **out);

/* What the engine sends and receives by once all are connected. */
struct carrier *secure_carrier(struct secure *s);

/* Handshakes begin; times are nanoseconds of the run's clock. */
void secure_begin(struct secure *s, uint64_t now_ns);
/* One turn of them: how many datagrams it handled. */
unsigned secure_turn(struct secure *s, uint64_t now_ns);
/* False once each device has its association or has failed. */
bool secure_is_busy(const struct secure *s);
/* Ends them: what is not done has failed. */
void secure_end(struct secure *s, uint64_t now_ns);

/* Its counters go on for the whole run. */
const struct gun_security *secure_result(const struct secure *s);

/* "psk%u" to an endpoint's identity: its length, or -ENAMETOOLONG. */
int secure_identity(const char *text, uint32_t endpoint, char *out, size_t room);

#endif
