/* A representation that the gateway holds itself, and the answer to a request for it: methods,
 * preconditions, content negotiation, validation and Block2 (RFC 7252 5.5 to 5.10, RFC 7959 2.4).
 *
 * The common answer, the whole representation in one message, is written with one copy of bytes
 * that were put together at start. Owned by who made it; read-only while workers serve it. */
#ifndef COAPGW_GATEWAY_SERVE_REPRESENTATION_H
#define COAPGW_GATEWAY_SERVE_REPRESENTATION_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/session/messaging.h"

/* The largest payload that is sent whole: a block of SZX 6. */
#define REPRESENTATION_WHOLE_BYTES 1024

struct representation {
    const uint8_t *payload; /* of the owner */
    uint32_t length;
    bool has_content_format;
    bool has_max_age;
    uint16_t content_format;
    uint32_t max_age_s;
    uint8_t etag[4];  /* a hash of payload and format */
    struct tail tail; /* of the whole answer; `bytes` is NULL when it takes blocks */
};

/* Computes the ETag and the tail from the other fields. 0 or a negative errno. */
int representation_prepare(struct representation *r);
void representation_release(struct representation *r);

/* Only the ETag: for one that lives for a single answer. */
void representation_tag(struct representation *r);

/* Answers a request for it. The request's path has been matched; it is pure. */
void representation_serve(struct messaging *m, struct request *rq, const struct representation *r);

/* The options of a request that a resource of the gateway itself understands; critical ones besides
 * are answered 4.02 (RFC 7252 5.4.1). True when there was such an option and the request is done
 * with. */
bool representation_bad_option(struct messaging *m, const struct request *rq);

#endif
