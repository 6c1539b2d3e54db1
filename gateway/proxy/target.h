/* What clients ask of origins: one target for each cache key (RFC 7252 5.6), with the answer that
 * is stored for it, the fetch that is under way for it, and its observation at the origin.
 *
 * The key is the request as the origin gets it: where it goes, the method, the options that count
 * (no NoCacheKey ones, and none that belong to one exchange), and the payload of a FETCH. It is
 * kept byte for byte, so that an answer is never taken for that of another key, and a request can
 * be made from it again. It is found by its hash, in a table of open addressing over slots of eight
 * bytes with a part of the hash: nothing is read of a target that has another one. A second index
 * finds all targets with the same URI, which an unsafe request invalidates together.
 *
 * A target lives while it has an answer, a fetch, an observation, or anybody who needs its key.
 * Answers are given up least recently used first. One worker; no locking. */
#ifndef COAPGW_GATEWAY_PROXY_TARGET_H
#define COAPGW_GATEWAY_PROXY_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/hash.h"
#include "gateway/list.h"
#include "gateway/proxy/content.h"

#define TARGET_NONE POOL_NONE

/* Room for what a datagram can carry, and for where it goes. */
#define KEY_BYTES 2304

/* Where a request goes, at the start of its key. */
struct space {
    uint8_t method;
    uint8_t forward;     /* a destination of the forward proxy: 1, over DTLS 2 */
    uint16_t upstream;   /* index of the upstream; for the forward proxy the port */
    uint8_t address[16]; /* of the forward proxy's destination, where it was given as a literal */
};
_Static_assert(sizeof(struct space) == 20, "no padding: it is compared and hashed");

/* Where a request goes, without the method: what the hashes of its key and URI begin with. */
static inline uint64_t space_hash(const struct space *space, uint64_t seed)
{
    uint64_t words[2];

    memcpy(words, space->address, sizeof(words));
    seed = hash_mix(seed, (uint64_t)space->forward << 16 | space->upstream);
    return hash_mix(hash_mix(seed, words[0]), words[1]);
}

/* A request on its way to become a target, a transfer or a fetch: space, options, payload. */
struct key {
    uint8_t bytes[KEY_BYTES];
    uint32_t length;         /* of all */
    uint16_t options_length; /* of the options behind the space */
    uint16_t last_option;    /* the number of the last one, 0: there is none */
    uint64_t base;           /* space_hash() */
    uint64_t hash;           /* of all */
    uint64_t uri;            /* of where it goes, path and query: without the method */
};

static inline const uint8_t *key_options(const struct key *key)
{
    return key->bytes + sizeof(struct space);
}

struct target {
    uint64_t hash, uri;
    struct rope key;
    uint16_t options_length;
    bool open;
    bool cached;          /* its answer counts for the cache and is in the list by age */
    uint32_t refs;        /* who needs the key */
    uint32_t content;     /* CONTENT_NONE: no answer is stored */
    uint32_t fetch;       /* which others may join; POOL_NONE */
    uint32_t observation; /* POOL_NONE */
    uint32_t by_uri;      /* next in the chain of the index */
    struct links by_age;
};

struct target_slot {
    uint32_t hash;  /* lower half */
    uint32_t place; /* index of the target + 1; 0: free, as fresh pages are */
};

struct targets {
    struct pool pool;
    struct contents *contents;
    struct target_slot *slots; /* by hash */
    uint32_t *uris;            /* heads of chains, index + 1 */
    size_t slots_bytes, uris_bytes;
    uint32_t slots_mask, uris_mask; /* number of them - 1 */
    struct list age;                /* least recently used first */
    uint32_t cache_max;             /* chunks */
    uint64_t *stamps; /* by target, of any time: no other answer that was ever stored has the same
                         one; 0: none is stored */
    uint64_t last_stamp;
    size_t stamps_bytes;
    uint16_t *asked;     /* see target_is_worth_it() */
    uint64_t *evictions; /* counts answers that were given up for others */
};

/* 0 or a negative errno. */
int targets_init(struct targets *t, struct contents *contents, uint32_t count, uint64_t cache_bytes,
                 uint64_t *evictions);
void targets_fini(struct targets *t);

static inline struct target *target_at(const struct targets *t, uint32_t index)
{
    return pool_at(&t->pool, index);
}

/* What has this hash is going to be looked for: what that reads is fetched into the processor's
 * cache. */
static inline void target_expect(const struct targets *t, uint64_t hash, uint64_t uri)
{
    __builtin_prefetch(&t->slots[(uint32_t)hash & t->slots_mask], 1);
    __builtin_prefetch(&t->uris[uri & t->uris_mask], 1);
}

/* The target of a key, or TARGET_NONE. */
uint32_t target_find(const struct targets *t, const struct key *key);

/* A new one, with one reference; the key has none yet. TARGET_NONE when memory is short, even after
 * older answers were given up. */
uint32_t target_add(struct targets *t, const struct key *key);

/* True when the slot is in use. */
bool target_is_open(const struct targets *t, uint32_t index);

/* Gives a reference up; the target goes when nothing holds it. */
void target_release(struct targets *t, uint32_t index);

/* Keeps an answer, in the place of the one before. Where the cache has no room for it, not even
 * after giving up older ones, none is kept. */
void target_store(struct targets *t, uint32_t index, uint32_t content);

/* Whether an answer that is stale from the start is to be kept, which only spares its origin to
 * send it again when it is still the same. Where others would have to go for it, it is kept when
 * its target was asked for lately, and that it is asked for now is noted: many that are asked for
 * once must not drive all others out. `bytes`: how long it is, at the most. */
bool target_is_worth_it(struct targets *t, uint32_t index, size_t bytes);

/* Gives the stored answer up. */
void target_forget(struct targets *t, uint32_t index);

/* Its answer has been used. */
void target_touch(struct targets *t, uint32_t index);

/* It is as good as new: the origin has said so. */
void target_renew(struct targets *t, uint32_t index);

/* The first target with this URI hash at or behind `index`, and the next ones: for
 * (i = target_of_uri(t, uri); ...; i = target_next_of_uri(t, i)). */
uint32_t target_of_uri(const struct targets *t, uint64_t uri);
uint32_t target_next_of_uri(const struct targets *t, uint32_t index);

#endif
