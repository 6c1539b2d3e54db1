/* Between the files that carry out operations at origins: fetch.c, fetch_request.c, fetch_answer.c.
 *
 * What sends may fail at once: the fetch is gone then, and the caller must not touch it any more.
 */
#ifndef COAPGW_GATEWAY_PROXY_FETCH_H
#define COAPGW_GATEWAY_PROXY_FETCH_H

#include "gateway/proxy/proxy.h"

static inline uint32_t fetch_index(const struct proxy *p, const struct fetch *f)
{
    return pool_index(&p->fetches, f);
}

/* The request as a key. */
static inline const struct rope *fetch_request(const struct proxy *p, const struct fetch *f)
{
    return f->request.length ? &f->request : &target_at(&p->targets, f->target)->key;
}

static inline uint32_t fetch_body_offset(const struct fetch *f)
{
    return (uint32_t)sizeof(struct space) + f->options_length;
}

static inline uint32_t fetch_body_length(const struct proxy *p, const struct fetch *f)
{
    return fetch_request(p, f)->length - fetch_body_offset(f);
}

static inline uint32_t fetch_block_bytes(const struct fetch *f)
{
    return 16u << f->szx;
}

static inline bool fetch_is_last_block(const struct proxy *p, const struct fetch *f)
{
    return f->body_sent + fetch_block_bytes(f) >= fetch_body_length(p, f);
}

/* Whether the body goes in blocks of the size that holds now. */
static inline void fetch_divide(const struct proxy *p, struct fetch *f)
{
    f->in_blocks = fetch_body_length(p, f) > fetch_block_bytes(f);
}

/* fetch_request.c */
/* Sends what is next: the request, or the request for the next block. It may fail at once. */
void fetch_send(struct proxy *p, struct fetch *f);
/* The same from the first block on, and what has come is forgotten. */
void fetch_send_anew(struct proxy *p, struct fetch *f);
/* The next block, of the answer or of the body: each has as long as a whole request. */
void fetch_go_further(struct proxy *p, struct fetch *f);
/* Nothing is under way any more. */
void fetch_unbind(struct proxy *p, struct fetch *f);
void fetch_join_server(struct proxy *p, struct fetch *f, uint32_t server);
void fetch_leave_server(struct proxy *p, struct fetch *f);

/* fetch.c */
void fetch_arm_deadline(struct proxy *p, struct fetch *f);
/* The outcome is known: f->answer, or f->code. It may be gone then. */
void fetch_finish(struct proxy *p, struct fetch *f);
/* A stale answer may stand in for an origin that fails: true when it does. */
bool fetch_stand_in(struct proxy *p, struct fetch *f);
/* 5.02. It may be gone then. */
void fetch_broken(struct proxy *p, struct fetch *f, const char *why);

#endif
