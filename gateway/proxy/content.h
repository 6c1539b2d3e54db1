/* What an origin answered: a code, options and a payload of any length, kept in a rope and shared
 * by all who hand it out: the cache, transfers in blocks, and observations.
 *
 * Contents and bodies that are still being put together share one store of chunks with three
 * allowances: what the cache holds (`cache.size`), what the gateway itself holds (the routes'
 * `size`) and everything else (`limits.assembly_memory`). A content that leaves the cache while a
 * transfer still needs it moves from there to the last. For one that the gateway holds there is
 * room in the last before a transfer may need it: what is bounded by the routes always finds its
 * memory.
 *
 * Counted references: who keeps an index holds one. One worker; no locking. */
#ifndef COAPGW_GATEWAY_PROXY_CONTENT_H
#define COAPGW_GATEWAY_PROXY_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/chunk.h"
#include "gateway/coap/message.h"

#define CONTENT_NONE POOL_NONE
#define ETAG_MAX     8
/* The longest options of a response that is kept, encoded; longer ones are no answer. */
#define CONTENT_OPTIONS_MAX 1900

#define MAX_AGE_DEFAULT_S 60u /* RFC 7252 5.10.5 */

struct etag {
    uint8_t length; /* 0: none */
    uint8_t bytes[ETAG_MAX];
};

/* The rope has the options that go to every client, encoded, and then the payload. Not among them
 * are those that are made anew for each: ETag, Observe, Max-Age, Block1, Block2, Size1, Size2. */
struct content {
    struct rope rope;
    uint32_t refs;
    uint32_t payload_length;
    uint16_t options_length;
    uint8_t code;
    bool own_etag; /* it was made here: the origin does not know it */
    bool own;      /* the gateway's own: it does not age */
    bool held;     /* counts as held */
    uint32_t pins; /* references of transfers */
    struct etag etag;
    bool has_max_age;
    uint32_t max_age_s;        /* as the origin said; MAX_AGE_DEFAULT_S when it did not */
    uint64_t received_us;      /* its age counts from here */
    struct rope_cursor cursor; /* where a block was last read */
};

struct contents {
    struct pool pool;
    struct chunks chunks;
    uint32_t cached;       /* chunks that the cache answers for */
    uint32_t held;         /* chunks of what the gateway holds itself */
    uint32_t reserved;     /* those of them that a transfer may need for longer */
    uint32_t assembly_max; /* chunks that everything else may take */
};

/* `held_chunks` of what the gateway holds itself. 0 or a negative errno. */
int contents_init(struct contents *c, uint32_t count, uint64_t cache_bytes, uint64_t assembly_bytes,
                  uint64_t held_chunks);
void contents_fini(struct contents *c);

static inline struct content *content_at(const struct contents *c, uint32_t index)
{
    return pool_at(&c->pool, index);
}

/* Chunks that neither the cache nor the gateway's own representations answer for, or soon may not.
 */
static inline uint32_t contents_assembling(const struct contents *c)
{
    return pool_used(&c->chunks.pool) - c->cached - c->held + c->reserved;
}

/* Adds to a rope that is not in the cache. False when the allowance or the memory is used up. */
bool contents_append(struct contents *c, struct rope *rope, const void *data, size_t length);

/* The same for what is held beside contents, and back: who holds it bounds it. */
bool contents_append_held(struct contents *c, struct rope *rope, const void *data, size_t length);
void contents_free_held(struct contents *c, struct rope *rope);

/* A content from the first message of a response, with one reference. Its options are at most
 * CONTENT_OPTIONS_MAX long. The payload is what this message has. CONTENT_NONE when memory is
 * short. */
uint32_t content_create(struct contents *c, const struct message *response, uint64_t now_us);

/* The gateway's own, with one reference: `options` are encoded, as long as above. It has no payload
 * yet. `held`: it counts as held, and who makes it bounds that. CONTENT_NONE when memory is short.
 */
uint32_t content_own(struct contents *c, uint8_t code, const uint8_t *options, uint16_t length,
                     bool held);

/* It is not held any more. */
void content_let_go(struct contents *c, uint32_t index);

/* One more block of its payload. */
bool content_extend(struct contents *c, uint32_t index, const void *payload, size_t length);

static inline uint32_t content_hold(struct contents *c, uint32_t index)
{
    content_at(c, index)->refs++;
    return index;
}

/* CONTENT_NONE is allowed. */
void content_release(struct contents *c, uint32_t index);

/* A reference of a transfer's, for which there has to be room. */
bool content_pin(struct contents *c, uint32_t index);
/* CONTENT_NONE is allowed. */
void content_unpin(struct contents *c, uint32_t index);

/* Gives it an ETag of its own where the origin gave none: what is served in blocks needs one. */
void content_tag(struct contents *c, struct content *content);

static inline bool etag_equal(const struct etag *a, const struct etag *b)
{
    return a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

/* Whole seconds since it was received. What is the gateway's own is told by who knows: it is as it
 * says. */
static inline uint32_t content_age_s(const struct content *content, uint64_t now_us)
{
    return content->own ? 0 : (uint32_t)((now_us - content->received_us) / 1000000);
}

static inline bool content_is_fresh(const struct content *content, uint64_t now_us)
{
    return content->own || now_us - content->received_us < content->max_age_s * UINT64_C(1000000);
}

/* What a 2.03 says: it is good for so long from now on. */
void content_refresh(struct content *content, const struct message *valid, uint64_t now_us);

#endif
