#include "gateway/store/owners.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/hash.h"

#define SIZE_FIRST 1024

static const uint8_t none[STORE_ID_BYTES];

static bool is_free(const struct owner *slot)
{
    return memcmp(slot->id, none, sizeof(none)) == 0;
}

/* Where the id is, or the free one where it belongs. */
static struct owner *slot_of(const struct owners *o, const uint8_t *id)
{
    size_t at = hash_bytes(id, STORE_ID_BYTES, o->seed) & (o->size - 1);

    while (!is_free(&o->slots[at]) && memcmp(o->slots[at].id, id, STORE_ID_BYTES) != 0)
        at = (at + 1) & (o->size - 1);
    return &o->slots[at];
}

static bool grow(struct owners *o)
{
    struct owners larger = {.size = o->size ? 2 * o->size : SIZE_FIRST, .seed = o->seed};

    larger.slots = calloc(larger.size, sizeof(*larger.slots));
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < o->size; i++)
        if (!is_free(&o->slots[i]))
            *slot_of(&larger, o->slots[i].id) = o->slots[i];
    larger.count = o->count;
    free(o->slots);
    *o = larger;
    return true;
}

void owners_set(struct owners *o, const uint8_t id[STORE_ID_BYTES], unsigned worker)
{
    struct owner *slot;

    if (2 * (o->count + 1) > o->size && !grow(o))
        return;
    slot = slot_of(o, id);
    if (is_free(slot)) {
        if (o->count >= OWNERS_MAX)
            return;
        o->count++;
        memcpy(slot->id, id, sizeof(slot->id));
    }
    slot->worker = worker;
}

bool owners_find(const struct owners *o, const uint8_t id[STORE_ID_BYTES], unsigned *worker)
{
    const struct owner *slot = o->size ? slot_of(o, id) : NULL;

    if (!slot || is_free(slot))
        return false;
    *worker = slot->worker;
    return true;
}

void owners_clear(struct owners *o)
{
    free(o->slots);
    *o = (struct owners){.seed = o->seed};
}
