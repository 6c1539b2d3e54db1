#include "gateway/session/dedup.h"

#include <stddef.h>

#define BY_AGE     offsetof(struct dedup_entry, by_age)
#define BY_SESSION offsetof(struct dedup_entry, by_session)

/* How far a search for something to give up goes: bounded work for each packet. */
#define YIELD_PROBES 8

/* Message memory is scarce when less than this part of it is free. */
#define SCARCE_SHARE 8

int dedup_init(struct dedup *dedup, uint32_t entries, uint64_t con_us, uint64_t non_us,
               struct chunks *chunks, const struct session_table *sessions)
{
    int err = pool_init(&dedup->pool, sizeof(struct dedup_entry), entries);

    if (err)
        return err;
    err = mid_index_init(&dedup->index, &dedup->pool);
    if (err) {
        pool_fini(&dedup->pool);
        return err;
    }
    for (unsigned i = 0; i < DEDUP_LISTS; i++)
        dedup->lists[i] = LIST_NONE;
    dedup->lifetime_us[DEDUP_CON_SAFE] = dedup->lifetime_us[DEDUP_CON_UNSAFE] = con_us;
    dedup->lifetime_us[DEDUP_NON_SAFE] = dedup->lifetime_us[DEDUP_NON_UNSAFE] = non_us;
    dedup->young_us = 0;
    dedup->chunks = chunks;
    dedup->sessions = sessions;
    return 0;
}

void dedup_fini(struct dedup *dedup)
{
    mid_index_fini(&dedup->index);
    pool_fini(&dedup->pool);
}

static bool list_is_safe(unsigned list)
{
    return list == DEDUP_CON_SAFE || list == DEDUP_NON_SAFE;
}

static void drop(struct dedup *dedup, uint32_t index)
{
    struct dedup_entry *entry = dedup_at(dedup, index);
    struct session *session = session_at(dedup->sessions, entry->key.session);

    list_remove(&dedup->lists[entry->list], &dedup->pool, BY_AGE, index);
    chain_remove(&session->remembered, &dedup->pool, BY_SESSION, index);
    session->remembered_count--;
    if (!list_is_safe(entry->list))
        session->remembered_unsafe--;
    mid_index_remove(&dedup->index, index);
    chunks_free(dedup->chunks, entry->chunk);
    pool_put(&dedup->pool, entry);
}

struct dedup_entry *dedup_find(struct dedup *dedup, const struct session *session, uint16_t mid,
                               uint64_t now_us)
{
    uint32_t index = mid_index_find(&dedup->index, session_index(dedup->sessions, session), mid);
    struct dedup_entry *entry;

    if (index == POOL_NONE)
        return NULL;
    entry = dedup_at(dedup, index);
    if (!entry->busy && entry->expires_us <= now_us) {
        drop(dedup, index);
        return NULL;
    }
    return entry;
}

/* The oldest safe entry that is not busy; CON and NON lists take turns by age. */
static uint32_t oldest_safe(const struct dedup *dedup, bool with_bytes)
{
    static const uint8_t lists[] = {DEDUP_NON_SAFE, DEDUP_CON_SAFE};

    for (unsigned i = 0; i < sizeof(lists); i++) {
        uint32_t index = dedup->lists[lists[i]].head;

        for (unsigned probe = 0; index != POOL_NONE && probe < YIELD_PROBES; probe++) {
            const struct dedup_entry *entry = dedup_at(dedup, index);

            if (!entry->busy && (!with_bytes || entry->chunk != CHUNK_NONE))
                return index;
            index = entry->by_age.next;
        }
    }
    return POOL_NONE;
}

/* A newer safe entry of the session itself, so that one session's limit costs nobody else. */
static uint32_t own_safe(const struct dedup *dedup, const struct session *session)
{
    uint32_t index = session->remembered;

    for (unsigned probe = 0; index != POOL_NONE && probe < YIELD_PROBES; probe++) {
        const struct dedup_entry *entry = dedup_at(dedup, index);

        if (!entry->busy && list_is_safe(entry->list))
            return index;
        index = entry->by_session.next;
    }
    return POOL_NONE;
}

/* True when a peer may still repeat it for the first time: to forget it then for another safe one
 * that may never be repeated would only cost time. */
static bool is_young(const struct dedup *dedup, uint32_t index, uint64_t now_us)
{
    const struct dedup_entry *entry = dedup_at(dedup, index);

    return entry->expires_us > now_us + dedup->lifetime_us[entry->list] - dedup->young_us;
}

/* What is left of the message memory is for what must be kept. */
static bool is_scarce(const struct pool *pool)
{
    return pool->capacity - pool_used(pool) < pool->capacity / SCARCE_SHARE;
}

/* True when messages come faster than memory lets them be remembered for as long as it takes a peer
 * to repeat one: then only some safe ones are, but those for long enough. */
static bool is_crowded(const struct dedup *dedup, uint64_t now_us)
{
    bool full = pool_used(&dedup->pool) == dedup->pool.capacity;
    bool scarce = is_scarce(&dedup->chunks->pool);
    uint32_t victim;

    if (!full && !scarce)
        return false;
    victim = oldest_safe(dedup, !full);
    return victim == POOL_NONE || is_young(dedup, victim, now_us);
}

static struct dedup_entry *entry_get(struct dedup *dedup, const struct session *session)
{
    uint32_t victim;

    if (session->remembered_count >= DEDUP_SESSION_MAX) {
        victim = own_safe(dedup, session);
        if (victim == POOL_NONE)
            return NULL;
        drop(dedup, victim);
    }
    if (pool_used(&dedup->pool) == dedup->pool.capacity) {
        victim = oldest_safe(dedup, false);
        if (victim == POOL_NONE)
            return NULL;
        drop(dedup, victim);
    }
    return pool_get(&dedup->pool);
}

struct dedup_entry *dedup_add(struct dedup *dedup, struct session *session, uint16_t mid,
                              bool confirmable, bool safe, uint64_t now_us)
{
    struct dedup_entry *entry;
    uint32_t index;

    if (safe && dedup->young_us && is_crowded(dedup, now_us))
        return NULL;
    entry = entry_get(dedup, session);
    if (!entry)
        return NULL;
    index = dedup_index_of(dedup, entry);
    entry->key.session = session_index(dedup->sessions, session);
    entry->key.mid = mid;
    entry->state = confirmable ? DEDUP_PENDING : DEDUP_SILENT;
    if (confirmable)
        entry->list = safe ? DEDUP_CON_SAFE : DEDUP_CON_UNSAFE;
    else
        entry->list = safe ? DEDUP_NON_SAFE : DEDUP_NON_UNSAFE;
    entry->code = 0;
    entry->busy = false;
    entry->length = 0;
    entry->chunk = CHUNK_NONE;
    entry->expires_us = now_us + dedup->lifetime_us[entry->list];
    mid_index_add(&dedup->index, index);
    list_push_back(&dedup->lists[entry->list], &dedup->pool, BY_AGE, index);
    chain_push(&session->remembered, &dedup->pool, BY_SESSION, index);
    session->remembered_count++;
    if (!safe)
        session->remembered_unsafe++;
    return entry;
}

bool dedup_yield(struct dedup *dedup)
{
    uint32_t victim = oldest_safe(dedup, true);

    if (victim == POOL_NONE)
        return false;
    drop(dedup, victim);
    return true;
}

void dedup_store(struct dedup *dedup, struct dedup_entry *entry, uint8_t code, const void *answer,
                 uint16_t length)
{
    bool was_busy = entry->busy;

    entry->state = DEDUP_ANSWERED;
    entry->code = code;
    entry->length = length;
    entry->busy = true; /* must not give itself up while room is made */
    chunks_free(dedup->chunks, entry->chunk);
    do
        entry->chunk = chunks_write(dedup->chunks, answer, length);
    while (entry->chunk == CHUNK_NONE && dedup_yield(dedup));
    entry->busy = was_busy;
    /* The code without its payload would be another answer: a safe request is executed again. */
    if (entry->chunk == CHUNK_NONE && list_is_safe(entry->list))
        entry->expires_us = 0;
}

void dedup_forget(struct dedup *dedup, struct session *session)
{
    while (session->remembered != POOL_NONE)
        drop(dedup, session->remembered);
}

unsigned dedup_expire(struct dedup *dedup, uint64_t now_us, unsigned budget)
{
    unsigned dropped = 0;

    for (unsigned i = 0; i < DEDUP_LISTS; i++) {
        uint32_t index;

        while (dropped < budget && (index = dedup->lists[i].head) != POOL_NONE) {
            struct dedup_entry *entry = dedup_at(dedup, index);

            if (entry->expires_us > now_us)
                break;
            dropped++;
            if (!entry->busy) {
                drop(dedup, index);
                continue;
            }
            /* Its exchange outlived it: keep it for another lifetime, at the young end. */
            entry->expires_us = now_us + dedup->lifetime_us[i];
            list_remove(&dedup->lists[i], &dedup->pool, BY_AGE, index);
            list_push_back(&dedup->lists[i], &dedup->pool, BY_AGE, index);
        }
    }
    return dropped;
}

uint64_t dedup_next_us(const struct dedup *dedup)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < DEDUP_LISTS; i++) {
        uint32_t index = dedup->lists[i].head;

        if (index != POOL_NONE && dedup_at(dedup, index)->expires_us < next)
            next = dedup_at(dedup, index)->expires_us;
    }
    return next;
}
