/* ceiling: the answer to a confirmable GET, written over the request in its own buffer.
 *
 * The least that any server must do: look at what makes the packet a CON GET for us (no option is
 * looked at), turn the addresses around, write the fixed options and payload behind the token and
 * mend both checksums by what has changed (RFC 1624). The request's checksum is not verified: a
 * request that was damaged gives an answer whose checksum is as wrong, so nobody is deceived. */
#ifndef COAPGW_BENCH_CEILING_ANSWER_H
#define COAPGW_BENCH_CEILING_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#define ANSWER_PAYLOAD_MAX 1024
#define ANSWER_TAIL_MAX    (ANSWER_PAYLOAD_MAX + 32)
#define ANSWER_MID_AT      44 /* where the message ID stands in a packet */

/* Read-only once it is made; addresses and ports in network byte order. */
struct answer {
    uint32_t address;
    uint16_t port;
    uint16_t tail_length;
    uint16_t tail_sum;             /* one's complement sum of the tail, in memory's byte order */
    uint8_t tail[ANSWER_TAIL_MAX]; /* options, payload marker and payload */
};

/* The same options as coapgw gives with a `respond:` route (ETag, Content-Format, Max-Age), so that
 * packets have the same size. The payload is "hello world!", or `payload` times 'x' unless that is
 * 12. 0, or -EMSGSIZE over ANSWER_PAYLOAD_MAX. */
int answer_make(struct answer *a, uint32_t address, uint16_t port, uint16_t payload);

/* Whether a packet of `length` bytes, from its Ethernet header on, is a confirmable GET for us over
 * IPv4, without IP options or fragments. */
bool answer_wanted(const struct answer *a, const uint8_t *packet, uint16_t length);

/* Turns a packet that answer_wanted() into its answer. The buffer must have room for
 * ANSWER_TAIL_MAX bytes more. Returns the new length. */
uint16_t answer_in_place(const struct answer *a, uint8_t *packet);

#endif
