/* A hash table from keys to indices of a pool: slots of eight bytes, the hash of a key and the
 * index + 1 of what has it, as the table of sessions has them. The key is in the object itself: who
 * looks up compares it. Several objects may have the same key.
 *
 * At least half of the slots are free, so that a search ends soon; a removal moves up what came
 * after it. Hashes are keyed by who owns the table: who does not know the key cannot choose objects
 * that meet.
 *
 * One worker owns a table; no locking. */
#ifndef COAPGW_GATEWAY_SECURITY_PLACES_H
#define COAPGW_GATEWAY_SECURITY_PLACES_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/net.h"

struct places_slot {
    uint32_t hash;
    uint32_t place; /* 0: free, as fresh pages are */
};

struct places {
    struct places_slot *slots;
    uint32_t mask; /* number of slots - 1 */
    size_t bytes;
};

/* Room for `max` objects. 0, or -ENOMEM. */
int places_init(struct places *places, uint32_t max);
void places_fini(struct places *places);

void places_add(struct places *places, uint32_t hash, uint32_t index);
/* It must be there. */
void places_remove(struct places *places, uint32_t hash, uint32_t index);

static inline const struct places_slot *places_slot(const struct places *places, uint32_t hash)
{
    return &places->slots[hash & places->mask];
}

/* This slot, or the first one behind it, whose object may have a key of this hash; NULL: no more.
 * Begun with places_slot(), gone on with places_behind() of what was found. */
static inline const struct places_slot *places_next(const struct places *places,
                                                    const struct places_slot *slot, uint32_t hash)
{
    for (; slot->place; slot = slot == places->slots + places->mask ? places->slots : slot + 1)
        if (slot->hash == hash)
            return slot;
    return NULL;
}

static inline const struct places_slot *places_behind(const struct places *places,
                                                      const struct places_slot *slot)
{
    return slot == places->slots + places->mask ? places->slots : slot + 1;
}

/* Hashes of what the keys are, under four secret words. */
struct places_key {
    uint64_t words[4];
};

void places_key_init(struct places_key *key, uint64_t seed);
uint32_t places_hash_flow(const struct places_key *key, const struct flow *flow);
uint32_t places_hash_id(const struct places_key *key, const uint8_t id[8]);

#endif
