/* Packet loss for testing: messages that the gateway does not send although it says that it did.
 *
 * A specification is "N%" (each message is lost with that probability; "0%" loses none and "100%"
 * all), or up to LOSS_RANGES ranges of the n-th messages sent since it was set, counted from 1:
 * "1,5-9,11-20,101". Every worker counts what it sends itself.
 *
 * Plain values; each worker has its own copy. */
#ifndef COAPGW_GATEWAY_SESSION_LOSS_H
#define COAPGW_GATEWAY_SESSION_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct random;

#define LOSS_RANGES     10
#define LOSS_TEXT_BYTES 256 /* the longest specification, with the final zero */

struct loss {
    bool active;      /* false: nothing is lost, and nothing is counted */
    uint32_t percent; /* 0 to 100, of those in no range */
    uint32_t range_count;
    struct {
        uint64_t first, last; /* 1 and up, both ends included */
    } ranges[LOSS_RANGES];
    uint64_t sent; /* messages since it was set */
};

/* 0, or -EINVAL for a text that is no specification: `loss` is as it was then, and `*why`, unless
 * NULL, says what is wrong (a static text). The text ends with a zero. */
int loss_parse(struct loss *loss, const char *text, const char **why);

/* Counts a message: true when it is to be lost. */
bool loss_strikes(struct loss *loss, struct random *random);

#endif
