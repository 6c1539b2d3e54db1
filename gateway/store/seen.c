#include "gateway/store/seen.h"

#include <stdlib.h>

#include "gateway/hash.h"

#define SIZE_FIRST 1024

/* The slot of the hash, or the free one where it belongs. */
static size_t slot_of(const struct seen *seen, uint64_t hash)
{
    size_t at = hash & (seen->size - 1);

    while (seen->slots[at] && seen->slots[at] != hash)
        at = (at + 1) & (seen->size - 1);
    return at;
}

static uint64_t hash_of(const struct seen *seen, const char *name, size_t length)
{
    uint64_t hash = hash_bytes(name, length, seen->seed);

    return hash ? hash : 1;
}

static bool grow(struct seen *seen)
{
    struct seen larger = {.size = seen->size ? 2 * seen->size : SIZE_FIRST, .seed = seen->seed};

    larger.slots = calloc(larger.size, sizeof(*larger.slots));
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < seen->size; i++)
        if (seen->slots[i])
            larger.slots[slot_of(&larger, seen->slots[i])] = seen->slots[i];
    larger.count = seen->count;
    free(seen->slots);
    *seen = larger;
    return true;
}

void seen_add(struct seen *seen, const char *name, size_t length)
{
    size_t at;

    if (seen->count >= SEEN_MAX || (2 * (seen->count + 1) > seen->size && !grow(seen)))
        return;
    at = slot_of(seen, hash_of(seen, name, length));
    if (!seen->slots[at]) {
        seen->slots[at] = hash_of(seen, name, length);
        seen->count++;
    }
}

bool seen_has(const struct seen *seen, const char *name, size_t length)
{
    return seen->size && seen->slots[slot_of(seen, hash_of(seen, name, length))];
}

void seen_clear(struct seen *seen)
{
    free(seen->slots);
    *seen = (struct seen){.seed = seen->seed};
}
