#include "gateway/security/places.h"

#include <errno.h>

#include "gateway/memory.h"

int places_init(struct places *places, uint32_t max)
{
    uint64_t slots = 64;

    while (slots < (uint64_t)max * 2)
        slots *= 2;
    places->bytes = slots * sizeof(struct places_slot);
    places->slots = memory_reserve(places->bytes);
    places->mask = (uint32_t)(slots - 1);
    return places->slots ? 0 : -ENOMEM;
}

void places_fini(struct places *places)
{
    memory_release(places->slots, places->bytes);
    places->slots = NULL;
}

void places_add(struct places *places, uint32_t hash, uint32_t index)
{
    uint32_t at = hash & places->mask;

    while (places->slots[at].place)
        at = (at + 1) & places->mask;
    places->slots[at] = (struct places_slot){hash, index + 1};
}

/* What lies behind the gap and is not at its first choice moves up, unless it would come before
 * that. */
void places_remove(struct places *places, uint32_t hash, uint32_t index)
{
    uint32_t mask = places->mask, gap = hash & mask;

    while (places->slots[gap].place != index + 1)
        gap = (gap + 1) & mask;
    for (uint32_t at = (gap + 1) & mask; places->slots[at].place; at = (at + 1) & mask) {
        uint32_t first = places->slots[at].hash & mask;

        if (((at - first) & mask) < ((at - gap) & mask))
            continue;
        places->slots[gap] = places->slots[at];
        gap = at;
    }
    places->slots[gap].place = 0;
}

/* ---- hashes ---- */

/* SplitMix64: words of a key from one. */
static uint64_t stretch(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void places_key_init(struct places_key *key, uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++)
        key->words[i] = stretch(&seed);
}

static uint64_t fold(unsigned __int128 product)
{
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The last multiplication brings all of the sum into the bits that are used. */
static uint32_t spread(uint64_t h)
{
    return (uint32_t)fold((unsigned __int128)h * 0x9e3779b97f4a7c15u);
}

/* NH, as for sessions: under a secret key flows meet by chance only, however they were chosen. */
uint32_t places_hash_flow(const struct places_key *key, const struct flow *flow)
{
    const uint8_t *at = (const uint8_t *)flow;
    const uint64_t *k = key->words;
    unsigned __int128 sum = (unsigned __int128)(net_word(at) + k[0]) * (net_word(at + 8) + k[1]);

    sum += (unsigned __int128)(net_word(at + 16) + k[2]) * (net_word(at + 24) + k[3]);
    return spread(fold(sum));
}

uint32_t places_hash_id(const struct places_key *key, const uint8_t id[8])
{
    const uint64_t *k = key->words;

    return spread(fold((unsigned __int128)(net_word(id) + k[0]) * (k[1] | 1)));
}
