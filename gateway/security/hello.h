/* ClientHello and cookie of DTLS (RFC 6347 4.2.1): a client proves that it receives what is sent to
 * its address before anything is spent on it. Nothing is kept of a client, and nothing allocated:
 * the cookie is a MAC over its flow and what its ClientHello says, under a secret that is turned
 * over; what was made with the one before is still good.
 *
 * One worker owns it; no locking, no clock. */
#ifndef COAPGW_GATEWAY_SECURITY_HELLO_H
#define COAPGW_GATEWAY_SECURITY_HELLO_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/net.h"

#define HELLO_COOKIE_BYTES 16
#define HELLO_SEED_BYTES   32
#define HELLO_RANDOM_BYTES 32
#define HELLO_TURN_US      (UINT64_C(300) * 1000000) /* how long a secret makes cookies */

/* A HelloVerifyRequest: record and message header, version, the cookie and its length. It is
 * shorter than any ClientHello can be. */
#define HELLO_VERIFY_BYTES (13 + 12 + 2 + 1 + HELLO_COOKIE_BYTES)

/* A ClientHello as it lies in a datagram: the one message of its one record. */
struct hello {
    uint64_t sequence; /* of the record, whose epoch is 0 */
    uint16_t message_sequence;
    uint8_t cookie_length;
    const uint8_t *cookie;
    const uint8_t *random; /* HELLO_RANDOM_BYTES */
    const uint8_t *front;  /* version, random and session ID: all that stands before the cookie */
    uint16_t front_length;
    const uint8_t *back; /* cipher suites, compression methods, extensions: what stands behind */
    uint16_t back_length;
};

enum hello_verdict {
    HELLO_NONE,   /* does not begin with a record that could be a ClientHello's */
    HELLO_BAD,    /* it does, and is none, or in more pieces than one */
    HELLO_VERIFY, /* without our cookie: a HelloVerifyRequest has been written, to be sent */
    HELLO_GOOD,   /* with our cookie */
};

/* HELLO_GOOD when `data` is a ClientHello, whatever its cookie; HELLO_NONE or HELLO_BAD. Pure. */
enum hello_verdict hello_parse(const uint8_t *data, size_t length, struct hello *out);

struct hello_secrets;

/* The secrets follow from the seed and the time: who has the same seed knows the cookies. NULL when
 * memory is short. */
struct hello_secrets *hello_create(const uint8_t seed[HELLO_SEED_BYTES]);
void hello_destroy(struct hello_secrets *secrets);

/* What a datagram from `wire` is. `out` has room for HELLO_VERIFY_BYTES and is written, with
 * `out_length`, for HELLO_VERIFY alone. */
enum hello_verdict hello_verify(struct hello_secrets *secrets, const struct flow *wire,
                                const uint8_t *data, size_t length, uint64_t now_us,
                                uint8_t out[HELLO_VERIFY_BYTES], size_t *out_length);

#endif
