/* A client's request as it has been read by asked.c: between request.c, which sends it to an
 * origin, and local.c, which hands it to what the gateway holds itself. */
#ifndef COAPGW_GATEWAY_PROXY_REQUEST_H
#define COAPGW_GATEWAY_PROXY_REQUEST_H

#include "gateway/proxy/proxy.h"

struct asked {
    struct request *rq;
    const struct place *place;
    struct wish wish;
    struct block block1;
    uint64_t tags; /* hash of its Request-Tags: they are this hop's (RFC 9175 3.3) */
    bool local;    /* it goes no further: hops do not count */
    bool observes, cancels;
    bool admitted;  /* request_admit() has said so */
    bool in_blocks; /* one block of several */
    bool transient; /* what it gets is of no use to others, nor theirs to it */
    bool extras;    /* it has options that go to the origin but are no part of the key */
    bool plain;     /* they are to be left out */
    bool has_hops;
    uint8_t hop_limit; /* as the origin gets it */
    uint8_t refusal;   /* a code, 0: none */
    const char *reason;
};

/* Reads it, with its key in p->key. False when it is to be refused with asked_refuse(). */
bool asked_read(struct proxy *p, struct asked *a);
void asked_refuse(struct proxy *p, struct asked *a);

/* Builds the key of the request in p->key, and names its transfer: by all of the key but a payload.
 * Part of asked_read(). */
bool asked_read_key(struct proxy *p, struct asked *a);

/* request_admit(), once for each request. */
bool asked_admit(struct proxy *p, struct asked *a, bool pure);

/* True when no more of this client's can be begun; it has been answered. */
bool asked_is_limited(struct proxy *p, struct asked *a);

/* The client does not observe any more. False for a duplicate, which may come when it has begun to
 * observe again. */
bool asked_deregister(struct proxy *p, struct asked *a);

/* A later block of what the client is fetching already: false when there is no such thing. The
 * first function admits the request. */
bool asked_serve_pinned(struct proxy *p, struct asked *a);
bool asked_deliver_pinned(struct proxy *p, struct asked *a);

/* 5.03 for want of memory. */
void request_refuse_memory(struct proxy *p, struct request *rq);

#endif
