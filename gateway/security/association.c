#include "gateway/security/association.h"

#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>

#define VICTIM_PROBES 64

/* Keys, window and sequence numbers are in the first lines. */
#define LINE_BYTES  64
#define LINES_ASKED 5

/* ---- start and end ---- */

int associations_init(struct associations *all, uint32_t max, uint64_t seed)
{
    int err;

    memset(all, 0, sizeof(*all));
    places_key_init(&all->key, seed);
    if ((err = pool_init(&all->pool, sizeof(struct association), max)) ||
        (err = places_init(&all->by_wire, max)) || (err = places_init(&all->by_id, max)))
        associations_fini(all);
    return err;
}

static void wipe_pool(struct pool *pool)
{
    for (uint32_t i = 0; i < pool->fresh; i++) {
        void *object = pool_at(pool, i);

        POOL_UNPOISON(object, pool->object_bytes);
        OPENSSL_cleanse(object, pool->object_bytes);
    }
}

void associations_fini(struct associations *all)
{
    wipe_pool(&all->pool);
    pool_fini(&all->pool);
    places_fini(&all->by_wire);
    places_fini(&all->by_id);
}

/* ---- look-up ---- */

struct association *association_at_wire(const struct associations *all, const struct flow *wire,
                                        uint32_t hash, const struct association *after)
{
    const struct places *places = &all->by_wire;
    const struct places_slot *slot = places_slot(places, hash);
    bool passed = after == NULL;

    for (; (slot = places_next(places, slot, hash)); slot = places_behind(places, slot)) {
        struct association *a = pool_at(&all->pool, slot->place - 1);

        if (passed && flow_equal(&a->wire, wire))
            return a;
        passed |= a == after;
    }
    return NULL;
}

struct association *association_of_wire(const struct associations *all, const struct flow *wire,
                                        uint32_t hash)
{
    struct association *a = association_at_wire(all, wire, hash, NULL);

    while (a && a->own_cid)
        a = association_at_wire(all, wire, hash, a);
    return a;
}

struct association *association_of_id(const struct associations *all,
                                      const uint8_t id[ASSOCIATION_ID_BYTES], uint32_t hash)
{
    const struct places *places = &all->by_id;
    const struct places_slot *slot = places_slot(places, hash);

    for (; (slot = places_next(places, slot, hash)); slot = places_behind(places, slot)) {
        struct association *a = pool_at(&all->pool, slot->place - 1);

        if (net_word(a->id) == net_word(id))
            return a;
    }
    return NULL;
}

void association_fetch(const struct associations *all, const struct places *places, uint32_t hash)
{
    const struct places_slot *slot = places_next(places, places_slot(places, hash), hash);
    const uint8_t *at;

    if (!slot)
        return;
    at = pool_at(&all->pool, slot->place - 1);
    for (unsigned i = 0; i < LINES_ASKED; i++)
        __builtin_prefetch(at + (size_t)i * LINE_BYTES, 1);
}

/* ---- change ---- */

struct association *association_add(struct associations *all, const struct flow *wire,
                                    const uint8_t id[ASSOCIATION_ID_BYTES])
{
    struct association *a = pool_get(&all->pool);
    uint32_t index;

    if (!a)
        return NULL;
    memset(a, 0, sizeof(*a));
    a->wire = *wire;
    memcpy(a->id, id, sizeof(a->id));
    a->generation = ++all->generation;
    a->contact = POOL_NONE;
    a->open = true;
    timer_init(&a->idle, TIMER_ASSOCIATION);
    index = association_index(all, a);
    places_add(&all->by_wire, places_hash_flow(&all->key, wire), index);
    places_add(&all->by_id, places_hash_id(&all->key, id), index);
    return a;
}

void association_remove(struct associations *all, struct association *a)
{
    uint32_t index = association_index(all, a);

    places_remove(&all->by_wire, places_hash_flow(&all->key, &a->wire), index);
    places_remove(&all->by_id, places_hash_id(&all->key, a->id), index);
    OPENSSL_cleanse(a, sizeof(*a));
    pool_put_at(&all->pool, index);
}

void association_move(struct associations *all, struct association *a, const struct flow *wire)
{
    uint32_t index = association_index(all, a);

    places_remove(&all->by_wire, places_hash_flow(&all->key, &a->wire), index);
    a->wire = *wire;
    places_add(&all->by_wire, places_hash_flow(&all->key, wire), index);
}

/* The hand goes over the slots of the ids: what is in the pool cannot be looked at unless it is in
 * use. */
struct association *association_victim(struct associations *all,
                                       bool (*may_go)(void *context, const struct association *a),
                                       void *context)
{
    struct association *victim = NULL;

    for (unsigned seen = 0, i = 0; seen < VICTIM_PROBES && i < 16 * VICTIM_PROBES; i++) {
        const struct places_slot *slot = places_slot(&all->by_id, all->hand++);
        struct association *a;

        if (!slot->place)
            continue;
        seen++;
        a = pool_at(&all->pool, slot->place - 1);
        if ((!victim || a->seen_us < victim->seen_us) && may_go(context, a))
            victim = a;
    }
    return victim;
}

struct flow association_flow(const struct association *a)
{
    struct endpoint peer = {.address = {{1}}, .port = 1};

    if (a->role == ASSOCIATION_CLIENT)
        peer = (struct endpoint){a->wire.peer, a->wire.peer_port};
    else
        memcpy(peer.address.bytes + 8, a->id, sizeof(a->id));
    return flow_make(a->wire.local, a->wire.local_port, &peer, TRANSPORT_DTLS);
}
