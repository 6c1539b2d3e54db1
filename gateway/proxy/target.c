#include "gateway/proxy/target.h"

#include <errno.h>
#include <stddef.h>

#include "gateway/memory.h"

#define BY_AGE offsetof(struct target, by_age)

/* Where it is noted what was asked for, by a part of the hash; what comes later takes the place. */
#define ASKED_PLACES 65536u

int targets_init(struct targets *t, struct contents *contents, uint32_t count, uint64_t cache_bytes,
                 uint64_t *evictions)
{
    uint32_t heads = 16, slots = 32;
    int err = pool_init(&t->pool, sizeof(struct target), count);

    t->contents = contents;
    t->evictions = evictions;
    t->age = LIST_NONE;
    t->cache_max = (uint32_t)(cache_bytes / CHUNK_BYTES);
    if (err)
        return err;
    while (heads < count && heads < UINT32_C(1) << 31)
        heads *= 2;
    while (slots / 3 * 2 < count && slots < UINT32_C(1) << 31) /* a third is free at least */
        slots *= 2;
    t->slots_mask = slots - 1;
    t->uris_mask = heads - 1;
    t->slots_bytes = slots * sizeof(*t->slots);
    t->uris_bytes = heads * sizeof(*t->uris);
    t->slots = memory_reserve(t->slots_bytes);
    t->uris = memory_reserve(t->uris_bytes);
    t->stamps_bytes = sizeof(*t->stamps) * (size_t)count;
    t->stamps = memory_reserve(t->stamps_bytes);
    t->asked = memory_reserve(ASKED_PLACES * sizeof(*t->asked));
    return t->slots && t->uris && t->stamps && t->asked ? 0 : -ENOMEM;
}

void targets_fini(struct targets *t)
{
    memory_release(t->slots, t->slots_bytes);
    memory_release(t->uris, t->uris_bytes);
    memory_release(t->stamps, t->stamps_bytes);
    memory_release(t->asked, ASKED_PLACES * sizeof(*t->asked));
    pool_fini(&t->pool);
}

/* ---- the table ---- */

static bool is_it(const struct targets *t, const struct target *target, const struct key *key)
{
    /* Where the options end is part of it: a payload may look like more of them. */
    return target->hash == key->hash && target->options_length == key->options_length &&
           rope_equal(&t->contents->chunks, &target->key, key->bytes, key->length);
}

uint32_t target_find(const struct targets *t, const struct key *key)
{
    uint32_t hash = (uint32_t)key->hash, at = hash & t->slots_mask;

    for (; t->slots[at].place; at = (at + 1) & t->slots_mask)
        if (t->slots[at].hash == hash && is_it(t, target_at(t, t->slots[at].place - 1), key))
            return t->slots[at].place - 1;
    return TARGET_NONE;
}

static void enter(struct targets *t, uint64_t hash, uint32_t index)
{
    uint32_t at = (uint32_t)hash & t->slots_mask;

    while (t->slots[at].place)
        at = (at + 1) & t->slots_mask;
    t->slots[at] = (struct target_slot){.hash = (uint32_t)hash, .place = index + 1};
}

/* What lies behind the gap and is not at its first choice moves up, unless it would come before
 * that: no search grows longer with time. */
static void leave(struct targets *t, uint64_t hash, uint32_t index)
{
    uint32_t mask = t->slots_mask, gap = (uint32_t)hash & mask;

    while (t->slots[gap].place != index + 1)
        gap = (gap + 1) & mask;
    for (uint32_t at = (gap + 1) & mask; t->slots[at].place; at = (at + 1) & mask) {
        if (((at - t->slots[at].hash) & mask) < ((at - gap) & mask))
            continue;
        t->slots[gap] = t->slots[at];
        gap = at;
    }
    t->slots[gap].place = 0;
}

/* ---- by URI ---- */

/* Heads are index + 1, so that fresh zero pages mean empty. */
static uint32_t *head_of(const struct targets *t, uint64_t uri)
{
    return &t->uris[uri & t->uris_mask];
}

static void leave_uri(struct targets *t, const struct target *target, uint32_t index)
{
    uint32_t *head = head_of(t, target->uri), at = *head - 1;

    if (at == index) {
        *head = target->by_uri + 1;
        return;
    }
    while (target_at(t, at)->by_uri != index)
        at = target_at(t, at)->by_uri;
    target_at(t, at)->by_uri = target->by_uri;
}

uint32_t target_of_uri(const struct targets *t, uint64_t uri)
{
    uint32_t index = *head_of(t, uri) - 1;

    while (index != TARGET_NONE && target_at(t, index)->uri != uri)
        index = target_at(t, index)->by_uri;
    return index;
}

uint32_t target_next_of_uri(const struct targets *t, uint32_t index)
{
    uint64_t uri = target_at(t, index)->uri;

    do
        index = target_at(t, index)->by_uri;
    while (index != TARGET_NONE && target_at(t, index)->uri != uri);
    return index;
}

/* ---- answers ---- */

static uint32_t chunks_of(const struct targets *t, const struct target *target)
{
    return rope_chunks(&target->key) + rope_chunks(&content_at(t->contents, target->content)->rope);
}

static void leave_cache(struct targets *t, uint32_t index)
{
    struct target *target = target_at(t, index);

    t->contents->cached -= chunks_of(t, target);
    list_remove(&t->age, &t->pool, BY_AGE, index);
    target->cached = false;
}

/* The next answers to be given up were last touched long ago: each of them is fetched into the
 * processor's cache a piece at a time, the last one when it is the next to go. */
static void foresee(const struct targets *t)
{
    uint32_t next = t->age.head, second, third;
    const struct content *content;
    const struct target *target;

    if (next == TARGET_NONE || (second = target_at(t, next)->by_age.next) == TARGET_NONE)
        return;
    content = content_at(t->contents, target_at(t, next)->content);
    if (content->rope.head != CHUNK_NONE)
        __builtin_prefetch(chunk_at(&t->contents->chunks, content->rope.head), 1);
    target = target_at(t, second);
    __builtin_prefetch(content_at(t->contents, target->content), 1);
    __builtin_prefetch(chunk_at(&t->contents->chunks, target->key.head), 1);
    __builtin_prefetch(&t->slots[(uint32_t)target->hash & t->slots_mask], 1);
    __builtin_prefetch(head_of(t, target->uri), 1);
    __builtin_prefetch(&t->stamps[second], 1);
    third = target->by_age.next;
    if (third == TARGET_NONE)
        return;
    __builtin_prefetch(target_at(t, third), 1);
    __builtin_prefetch((const uint8_t *)target_at(t, third) + 64, 1);
}

/* Gives the least recently used answer up. False when there is none. */
static bool evict(struct targets *t)
{
    uint32_t index = t->age.head;

    if (index == TARGET_NONE)
        return false;
    target_at(t, index)->refs++;
    target_forget(t, index);
    target_release(t, index);
    foresee(t);
    ++*t->evictions;
    return true;
}

void target_forget(struct targets *t, uint32_t index)
{
    struct target *target = target_at(t, index);

    if (target->content == CONTENT_NONE)
        return;
    t->stamps[index] = 0;
    if (target->cached)
        leave_cache(t, index);
    content_release(t->contents, target->content);
    target->content = CONTENT_NONE;
}

void target_store(struct targets *t, uint32_t index, uint32_t content)
{
    struct target *target = target_at(t, index);
    uint32_t need;

    target->refs++; /* it must not go with its old answer */
    if (target->content != content) {
        target_forget(t, index);
        target->content = content_hold(t->contents, content);
    } else if (target->cached) {
        leave_cache(t, index);
    }
    need = chunks_of(t, target);
    while (need <= t->cache_max && t->contents->cached + need > t->cache_max && evict(t))
        ;
    if (t->contents->cached + need > t->cache_max) {
        target_forget(t, index);
    } else {
        t->contents->cached += need;
        list_push_back(&t->age, &t->pool, BY_AGE, index);
        target->cached = true;
        t->stamps[index] = ++t->last_stamp;
    }
    target->refs--; /* the caller has one */
}

bool target_is_worth_it(struct targets *t, uint32_t index, size_t bytes)
{
    const struct target *target = target_at(t, index);
    size_t need = rope_chunks(&target->key) + (bytes + CHUNK_PAYLOAD - 1) / CHUNK_PAYLOAD;
    uint16_t tag = (uint16_t)(target->hash >> 48), *place;

    if (target->content != CONTENT_NONE || t->contents->cached + need <= t->cache_max)
        return true;
    place = &t->asked[(uint32_t)(target->hash >> 32) % ASKED_PLACES];
    if (*place == tag)
        return true;
    *place = tag;
    return false;
}

void target_touch(struct targets *t, uint32_t index)
{
    if (!target_at(t, index)->cached || t->age.tail == index)
        return;
    list_remove(&t->age, &t->pool, BY_AGE, index);
    list_push_back(&t->age, &t->pool, BY_AGE, index);
}

void target_renew(struct targets *t, uint32_t index)
{
    if (t->stamps[index])
        t->stamps[index] = ++t->last_stamp;
    target_touch(t, index);
}

/* ---- targets ---- */

uint32_t target_add(struct targets *t, const struct key *key)
{
    struct target *target = pool_get(&t->pool);
    uint32_t index, *head;

    if (!target && evict(t))
        target = pool_get(&t->pool);
    if (!target)
        return TARGET_NONE;
    target->key = ROPE_EMPTY;
    if (!contents_append(t->contents, &target->key, key->bytes, key->length)) {
        pool_put(&t->pool, target);
        return TARGET_NONE;
    }
    index = pool_index(&t->pool, target);
    target->open = true;
    target->hash = key->hash;
    target->uri = key->uri;
    target->options_length = key->options_length;
    target->cached = false;
    target->refs = 1;
    target->content = CONTENT_NONE;
    target->fetch = target->observation = POOL_NONE;
    enter(t, key->hash, index);
    head = head_of(t, key->uri);
    target->by_uri = *head - 1;
    *head = index + 1;
    return index;
}

bool target_is_open(const struct targets *t, uint32_t index)
{
    return index < t->pool.fresh && target_at(t, index)->open;
}

void target_release(struct targets *t, uint32_t index)
{
    struct target *target = target_at(t, index);

    target->refs--;
    if (target->refs || target->content != CONTENT_NONE || target->fetch != POOL_NONE ||
        target->observation != POOL_NONE)
        return;
    leave(t, target->hash, index);
    leave_uri(t, target, index);
    rope_free(&t->contents->chunks, &target->key);
    target->open = false;
    pool_put(&t->pool, target);
}
