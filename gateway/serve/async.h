/* Requests that modules answer later (RFC 7252 5.2.2): one for each session and token, found by
 * both, and due at a time or when it is told.
 *
 * What is kept here is the promise; the exchange that holds the client's request open, and the copy
 * of the request, hang on it and belong to who registered it.
 *
 * One worker; no locking. */
#ifndef COAPGW_GATEWAY_SERVE_ASYNC_H
#define COAPGW_GATEWAY_SERVE_ASYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/chunk.h"
#include "gateway/coap/message.h"
#include "gateway/list.h"
#include "gateway/proxy/proxy.h"
#include "gateway/serve/handle.h"
#include "gateway/timer/wheel.h"

/* A request that outlives its message. */
struct kept_request {
    struct rope rope; /* in proxy.contents: options as in a message, then the payload */
    uint16_t options_length;
    uint8_t method;
};

struct async {
    struct timer timer; /* armed: it is due then */
    struct links by_session;
    uint32_t next; /* of its bucket */
    uint32_t hash;
    uint32_t session;
    uint32_t owner; /* the instance's number */
    uint32_t token_length;
    uint32_t token_chunk; /* a token longer than 8 bytes */
    uint8_t token[TOKEN_INLINE_BYTES];
    bool observe; /* its request is a registration */
    bool freed;   /* by the module, which knows of it no more: the client is still to be told */
    void *data;   /* the module's, with what frees it; NULL: nothing does */
    void (*destroy)(void *data);
    /* Of who registered it. */
    struct exchange *exchange; /* NULL: the first pass has not returned yet */
    struct kept_request request;
    struct wish wish;
};

struct asyncs {
    struct wheel *wheel;
    struct chunks *chunks; /* of long tokens */
    struct pool pool;
    struct handles handles;
    uint32_t *buckets; /* first of each, plus one */
    uint32_t bucket_mask;
    uint32_t *heads; /* by session: the first of its chain, plus one */
    uint32_t sessions;
    uint64_t seed;
    void (*due)(void *context, struct async *async);
    void *context;
};

struct asyncs_setup {
    struct wheel *wheel;   /* its handler of TIMER_ASYNC is set */
    struct chunks *chunks; /* for tokens that are longer than 8 bytes */
    uint32_t capacity;     /* 1 and up */
    uint32_t sessions;     /* places of sessions */
    uint64_t seed;         /* secret: clients choose tokens */
    /* It is due. What is not freed in it waits until it is told again. */
    void (*due)(void *context, struct async *async);
    void *context;
};

/* 0 or a negative errno; nothing is left behind then. */
int asyncs_init(struct asyncs *a, const struct asyncs_setup *setup);

/* Everything must have been freed. */
void asyncs_fini(struct asyncs *a);

/* -EEXIST: there is one with this session and token. -ENOSPC: at the limit. -ENOMEM: no room for a
 * long token. The rest of it is zero. */
int async_register(struct asyncs *a, uint32_t session, const uint8_t *token, uint32_t token_length,
                   struct async **async);

/* NULL when there is none. */
struct async *async_find(const struct asyncs *a, uint32_t session, const uint8_t *token,
                         uint32_t token_length);

/* `delay_us` after `now_us`; 0: when it is told. */
void async_set_delay(struct asyncs *a, struct async *async, uint64_t now_us, uint64_t delay_us);

/* In the next tick. */
void async_trigger(struct asyncs *a, struct async *async, uint64_t now_us);

/* Replaces its data; what was attached is destroyed. */
void async_attach(struct async *async, void *data, void (*destroy)(void *data));

/* Forgets it; its data is destroyed. */
void async_free(struct asyncs *a, struct async *async);

/* The first one of a session, NULL: it has none. */
struct async *async_first(const struct asyncs *a, uint32_t session);

static inline uint64_t async_handle(struct asyncs *a, const struct async *async)
{
    return handle_of(&a->handles, pool_index(&a->pool, async));
}

/* NULL: it has gone. */
static inline struct async *async_at(const struct asyncs *a, uint64_t handle)
{
    uint32_t place;

    return handle_find(&a->handles, handle, &place) ? pool_at(&a->pool, place) : NULL;
}

#endif
