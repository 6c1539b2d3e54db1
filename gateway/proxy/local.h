/* Requests for what the gateway itself holds: dynamic resources, and those of modules. What clients
 * can do with them is the same as with an origin's: blocks both ways, validation, Observe, and the
 * proof of an address; so it is done by the same files. There is only no origin.
 *
 *   local_begin()      reads and checks a request; its body is complete then
 *   local_deliver()    answers it with a representation, and takes the client in as an observer
 *   local_observe()    makes the observation that clients are taken into
 *   local_state()      a new state: all who observe are notified
 *   local_end()        the resource is gone: all get a last word
 *
 * One worker; no locking. */
#ifndef COAPGW_GATEWAY_PROXY_LOCAL_H
#define COAPGW_GATEWAY_PROXY_LOCAL_H

#include "gateway/proxy/proxy.h"

/* A request in hand. */
struct local_request {
    struct request *rq;
    unsigned route;
    struct wish wish;
    bool observes;        /* a registration (RFC 7641 3.1) */
    bool resumed;         /* one of before a restart: nobody waits for an answer */
    struct rope body;     /* of a payload that came in blocks: in p->contents; else empty */
    uint32_t body_offset; /* where the payload begins in it */
    uint32_t body_length; /* of the payload, however it came */
};

/* Reads a request. False: it has been dealt with (answered with an error, more blocks are to come,
 * or it was a duplicate). True: it has been admitted; local_deliver(), local_code() or
 * local_later() is to be called, then local_release(). An Observe option of 1 has ended the
 * relation. */
bool local_begin(struct proxy *p, struct request *rq, unsigned route, struct local_request *l);
void local_release(struct proxy *p, struct local_request *l);

/* Answers a request whose method is not there for its resource: 4.05. Instead of all of the above.
 */
void local_not_allowed(struct proxy *p, struct request *rq);

/* Copies the payload out, from `offset` on. */
void local_body(const struct proxy *p, const struct local_request *l, uint32_t offset, void *out,
                uint32_t length);

/* Answers: 2.03 where the client has it already, in blocks where it is long, with a challenge where
 * it would be amplified. Where the request registers and `observation` is not POOL_NONE, the client
 * observes from now on, unless a limit is in the way. */
void local_deliver(struct proxy *p, struct local_request *l, uint32_t content,
                   uint32_t observation);

/* Whether a GET can be answered with a representation (RFC 7252 5.10.8, 5.10.4): 0; 4.12 when its
 * conditions are not met, 4.06 when it accepts another format only. `format` -1: it has none. */
uint8_t local_refusal(const struct message *msg, int32_t format, const struct etag *etag);

/* Answers with a code and a diagnostic payload, which may be NULL. */
void local_code(struct proxy *p, struct local_request *l, uint8_t code, const char *diagnostic);

/* The answer takes longer. NULL when a table is full: 5.03 has been sent then. What is needed for
 * local_deliver_later() is copied into `wish`. */
struct exchange *local_later(struct proxy *p, struct local_request *l, struct wish *wish);
void local_deliver_later(struct proxy *p, struct exchange *x, const struct wish *wish,
                         uint32_t content);
void local_code_later(struct proxy *p, struct exchange *x, const struct wish *wish, uint8_t code,
                      const char *diagnostic);

/* ---- representations ---- */

struct local_answer {
    uint8_t code;
    int32_t format;    /* Content-Format; -1: none */
    int64_t max_age_s; /* -1: not said */
    struct etag etag;
    const uint8_t *options; /* encoded, others than these and those of struct content's comment */
    uint16_t options_length;
};

/* A content of the gateway's own with one reference: room for its payload counts as assembly memory
 * while it is put together with content_extend(). CONTENT_NONE when memory is short. */
uint32_t local_content(struct proxy *p, const struct local_answer *answer);

/* The same, but it counts as held (see content.h) until content_let_go(): who makes it bounds how
 * much that is, within what proxy_init() has reserved. */
uint32_t local_held_content(struct proxy *p, const struct local_answer *answer);

/* How many representations a worker may hold, and how many chunks they and their names take: the
 * routes' limits, and what can be on the way between workers beyond them. 0 without such routes. */
void local_limits(const struct messaging *m, uint64_t *representations, uint64_t *chunks);

/* ---- observing ---- */

enum local_kind { LOCAL_NONE, LOCAL_RESOURCE, LOCAL_MODULE, LOCAL_KIND_COUNT };

/* Who is told that an observation is gone: nobody observes it any more. `index` is the owner's. */
void local_handle(struct proxy *p, enum local_kind kind,
                  void (*gone)(void *context, uint32_t index), void *context);

/* A new observation, whose state is `content` (a reference is taken). POOL_NONE at the limit. It
 * goes when the last relation leaves, or at once when local_deliver() could take nobody in: the
 * owner's gone() is called in either case, and must not touch it any more. */
uint32_t local_observe(struct proxy *p, enum local_kind kind, uint32_t index, uint32_t content);

/* A new state; the reference is taken over. */
void local_state(struct proxy *p, uint32_t observation, uint32_t content);

/* The resource is gone: all who observe get a response with this error code, and the observation
 * goes. gone() is called at once, from within. */
void local_end(struct proxy *p, uint32_t observation, uint8_t code);

#endif
