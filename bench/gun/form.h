/* Requests written in advance: all of a message but what differs from one request to the next,
 * which is its first 12 bytes (header and token), the digits of %u, and what block-wise transfer
 * appends.
 *
 * There is one for each path, kind and number of digits, so that nothing ever moves; for observe
 * there are two, registration and cancellation, next to each other.
 *
 * Made once at start; any number of readers after that. */
#ifndef COAPGW_BENCH_GUN_FORM_H
#define COAPGW_BENCH_GUN_FORM_H

#include "bench/gun/mix.h"

#define FORM_TOKEN_BYTES  8
#define FORM_HEAD_BYTES   12   /* header and token */
#define FORM_MAX_BYTES    1408 /* with them: fits an MTU of 1500 over IPv6 */
#define FORM_RECORD_BYTES 72   /* less, where a record is put around it */
#define BLOCK_BODY_MIN    1024 /* a body above this goes in blocks */

struct form {
    uint16_t length;      /* of all that is in `bytes` */
    uint16_t last_option; /* what is appended counts its delta from here */
    uint16_t number_at;   /* offset of the digits of %u */
    uint8_t digits;       /* 0: no %u */
    uint8_t kind, code;
    bool appended;     /* something is: a Block option and, perhaps, a payload */
    uint32_t rest_sum; /* of the 16-bit words from byte 12 on, where nothing is put in */
    uint8_t bytes[FORM_MAX_BYTES] __attribute__((aligned(64)));
};

struct forms {
    struct form *all;
    uint32_t count;
    uint8_t *body;   /* what POST and PUT send, options->payload_bytes of it */
    uint8_t digits;  /* of the largest number for %u */
    uint16_t *first; /* [path * GUN_KINDS + kind]: its template for numbers of one digit */
};

/* Makes all that plan and observers need. 0; -EMSGSIZE when a path is too long for a datagram,
 * which has been said on stderr; -ENOMEM. */
int forms_make(struct forms *t, const struct gun_options *o);
void forms_free(struct forms *t);

/* The index of the template of a path for a number. */
uint16_t forms_find(const struct forms *t, unsigned path, unsigned kind, uint32_t number);

/* Writes `digits` decimal digits. */
static inline void form_put_number(uint8_t *at, unsigned digits, uint32_t number)
{
    while (digits-- > 0) {
        at[digits] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
}

#endif
