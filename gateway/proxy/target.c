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
    uint32_t heads = 16;
    int err = pool_init(&t->pool, sizeof(struct target), count);

    t->contents = contents;
    t->evictions = evictions;
    t->age = LIST_NONE;
    t->cache_max = (uint32_t)(cache_bytes / CHUNK_BYTES);
    if (err)
        return err;
    while (heads < count && heads < UINT32_C(1) << 31)
        heads *= 2;
    t->mask = heads - 1;
    t->index_bytes = heads * sizeof(*t->hashes);
    t->hashes = memory_reserve(t->index_bytes);
    t->uris = memory_reserve(t->index_bytes);
    t->stamps_bytes = sizeof(*t->stamps) * (size_t)count;
    t->stamps = memory_reserve(t->stamps_bytes);
    t->asked = memory_reserve(ASKED_PLACES * sizeof(*t->asked));
    return t->hashes && t->uris && t->stamps && t->asked ? 0 : -ENOMEM;
}

void targets_fini(struct targets *t)
{
    memory_release(t->hashes, t->index_bytes);
    memory_release(t->uris, t->index_bytes);
    memory_release(t->stamps, t->stamps_bytes);
    memory_release(t->asked, ASKED_PLACES * sizeof(*t->asked));
    pool_fini(&t->pool);
}

/* Heads are index + 1, so that fresh zero pages mean empty. */
static uint32_t head(const uint32_t *heads, const struct targets *t, uint64_t hash)
{
    return heads[hash & t->mask] - 1;
}

uint32_t target_find(const struct targets *t, const struct key *key)
{
    uint32_t index = head(t->hashes, t, key->hash);

    while (index != TARGET_NONE) {
        const struct target *target = target_at(t, index);

        /* Where the options end is part of it: a payload may look like more of them. */
        if (target->hash == key->hash && target->options_length == key->options_length &&
            rope_equal(&t->contents->chunks, &target->key, key->bytes, key->length))
            return index;
        index = target->by_hash;
    }
    return TARGET_NONE;
}

uint32_t target_of_uri(const struct targets *t, uint64_t uri)
{
    uint32_t index = head(t->uris, t, uri);

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
    __builtin_prefetch(&t->hashes[target->hash & t->mask], 1);
    __builtin_prefetch(&t->uris[target->uri & t->mask], 1);
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
    uint32_t index, *by_hash, *by_uri;

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
    by_hash = &t->hashes[key->hash & t->mask];
    by_uri = &t->uris[key->uri & t->mask];
    target->by_hash = *by_hash - 1;
    target->by_uri = *by_uri - 1;
    *by_hash = *by_uri = index + 1;
    return index;
}

static void unlink_from(struct targets *t, uint32_t *heads, uint64_t hash, uint32_t index,
                        size_t member)
{
    uint32_t at = heads[hash & t->mask] - 1, next;

    memcpy(&next, (uint8_t *)target_at(t, index) + member, sizeof(next));
    if (at == index) {
        heads[hash & t->mask] = next + 1;
        return;
    }
    for (;;) {
        uint32_t *link = (uint32_t *)(void *)((uint8_t *)target_at(t, at) + member);

        if (*link == index) {
            *link = next;
            return;
        }
        at = *link;
    }
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
    unlink_from(t, t->hashes, target->hash, index, offsetof(struct target, by_hash));
    unlink_from(t, t->uris, target->uri, index, offsetof(struct target, by_uri));
    rope_free(&t->contents->chunks, &target->key);
    target->open = false;
    pool_put(&t->pool, target);
}
