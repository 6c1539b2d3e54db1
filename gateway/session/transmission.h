/* Transmission parameters (RFC 7252 4.8) and what is derived from them (4.8.2).
 *
 * Values are integers with a precision of 1/1000, so that what is configured is what is used.
 * Within the ranges below nothing overflows; whoever fills the struct keeps to them. Lifetimes that
 * are not whole milliseconds are rounded up: they are promises not to be earlier. Plain values: a
 * session points to the set that governs it and never owns one. */
#ifndef COAPGW_GATEWAY_SESSION_TRANSMISSION_H
#define COAPGW_GATEWAY_SESSION_TRANSMISSION_H

#include <stdbool.h>
#include <stdint.h>

struct random;

struct transmission {
    uint32_t ack_timeout_ms;          /* 1 to 3,600,000 */
    uint32_t ack_random_factor_milli; /* 1000 to 10,000; 1500 means 1.5 */
    uint32_t default_leisure_ms;      /* 0 to 3,600,000 */
    uint32_t probing_rate_milli;      /* 1 to 4,000,000,000: thousandths of a byte per second */
    uint16_t nstart;                  /* 1 to 65,535 */
    uint8_t max_retransmit;           /* 0 to 20 */
};

/* RFC 7252 table 2. */
#define TRANSMISSION_DEFAULTS                                                                \
    {                                                                                        \
        .ack_timeout_ms = 2000, .ack_random_factor_milli = 1500, .default_leisure_ms = 5000, \
        .probing_rate_milli = 1000, .nstart = 1, .max_retransmit = 4,                        \
    }

#define MAX_LATENCY_MS       100000u
#define EXCHANGE_LIFETIME_MS 247000u /* with default parameters */
#define NON_LIFETIME_MS      145000u

/* The parameters by number, for those who name them. Their values are in thousandths of the unit:
 * 2500 is 2.5 s, 1500 a factor of 1.5, and 4000 four retransmissions. */
enum transmission_parameter {
    TRANSMISSION_ACK_TIMEOUT,       /* s */
    TRANSMISSION_ACK_RANDOM_FACTOR, /* a factor */
    TRANSMISSION_MAX_RETRANSMIT,    /* a whole number */
    TRANSMISSION_NSTART,            /* a whole number */
    TRANSMISSION_DEFAULT_LEISURE,   /* s */
    TRANSMISSION_PROBING_RATE,      /* bytes/s */
    TRANSMISSION_PARAMETERS,
};

struct transmission_range {
    const char *name; /* as in the configuration */
    uint64_t lowest_milli, highest_milli;
    bool whole; /* a multiple of 1000 */
};

extern const struct transmission_range transmission_ranges[TRANSMISSION_PARAMETERS];

uint64_t transmission_get(const struct transmission *t, enum transmission_parameter which);

/* 0; -ERANGE for a value out of its range, or a whole number that is none; -EINVAL for a parameter
 * that does not exist. `t` is as it was then. */
int transmission_set(struct transmission *t, enum transmission_parameter which,
                     uint64_t value_milli);

/* The range of the first parameter that is not in it; NULL: all of them are. */
const struct transmission_range *transmission_check(const struct transmission *t);

/* The first timeout: uniform over the whole milliseconds in
 * [ack_timeout, ack_timeout * ack_random_factor], both ends included (4.2). Drawn once for each
 * message; retransmission n waits for it doubled n times. */
uint32_t transmission_initial_timeout_ms(const struct transmission *t, struct random *random);

/* MAX_TRANSMIT_SPAN: from the first transmission to the last retransmission, at the longest. */
uint64_t transmission_max_span_ms(const struct transmission *t);

/* MAX_TRANSMIT_WAIT: from the first transmission to giving up, at the longest. */
uint64_t transmission_max_wait_ms(const struct transmission *t);

/* EXCHANGE_LIFETIME: how long a message ID of a CON may not be used again. MAX_LATENCY is fixed and
 * PROCESSING_DELAY is ack_timeout, as 4.8.2 has them. */
uint64_t transmission_exchange_lifetime_ms(const struct transmission *t);

/* NON_LIFETIME: the same for a NON. */
uint64_t transmission_non_lifetime_ms(const struct transmission *t);

#endif
