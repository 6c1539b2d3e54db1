#include "gateway/session/session.h"

#include <errno.h>
#include <stdio.h>

#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_jhash.h>
#include <rte_lcore.h>
#include <rte_prefetch.h>

#include "gateway/memory.h"

#define VICTIM_PROBES 64
#define FLOW_WORDS    (sizeof(struct flow) / sizeof(uint32_t))

int session_table_init(struct session_table *table, uint32_t max, uint32_t hash_seed)
{
    static unsigned serial; /* tables are made by the main thread only */
    char name[RTE_HASH_NAMESIZE];
    struct rte_hash_parameters parameters = {
        .name = name,
        .entries = (uint32_t)((uint64_t)max * 4 / 3 + 8),
        .key_len = sizeof(struct flow),
        .hash_func = rte_jhash,
        .hash_func_init_val = hash_seed,
        .socket_id = (int)rte_socket_id(),
    };

    memset(table, 0, sizeof(*table));
    snprintf(name, sizeof(name), "sessions-%u", serial++);
    table->hash = rte_hash_create(&parameters);
    if (!table->hash)
        return rte_errno ? -rte_errno : -ENOMEM;
    table->positions = (uint32_t)rte_hash_max_key_id(table->hash) + 1;
    table->sessions_bytes = (size_t)table->positions * sizeof(struct session);
    table->sessions = memory_reserve(table->sessions_bytes);
    if (!table->sessions) {
        session_table_fini(table);
        return -ENOMEM;
    }
    table->max = max;
    table->hash_seed = hash_seed;
    return 0;
}

void session_table_fini(struct session_table *table)
{
    memory_release(table->sessions, table->sessions_bytes);
    rte_hash_free(table->hash);
    table->sessions = NULL;
    table->hash = NULL;
}

uint32_t session_hash(const struct session_table *table, const struct flow *flow)
{
    return rte_jhash_32b((const uint32_t *)(const void *)flow, FLOW_WORDS, table->hash_seed);
}

struct session *session_find(const struct session_table *table, const struct flow *flow,
                             uint32_t hash)
{
    int32_t position = rte_hash_lookup_with_hash(table->hash, flow, hash);

    return position < 0 ? NULL : &table->sessions[position];
}

void session_find_burst(const struct session_table *table, const struct flow *const *flows,
                        uint32_t *hashes, unsigned n, struct session **found)
{
    int32_t positions[RTE_HASH_LOOKUP_BULK_MAX];
    const void *keys[RTE_HASH_LOOKUP_BULK_MAX];

    for (unsigned i = 0; i < n; i++) {
        keys[i] = flows[i];
        hashes[i] = session_hash(table, flows[i]);
    }
    rte_hash_lookup_with_hash_bulk(table->hash, keys, hashes, n, positions);
    for (unsigned i = 0; i < n; i++) {
        found[i] = positions[i] < 0 ? NULL : &table->sessions[positions[i]];
        if (found[i])
            rte_prefetch0(found[i]);
    }
}

struct session *session_add(struct session_table *table, const struct flow *flow, uint32_t hash)
{
    struct session *s;
    int32_t position;

    if (table->count >= table->max)
        return NULL;
    position = rte_hash_add_key_with_hash(table->hash, flow, hash);
    if (position < 0)
        return NULL;
    s = &table->sessions[position];
    memset(s, 0, sizeof(*s));
    s->flow = *flow;
    timer_init(&s->idle, TIMER_SESSION_IDLE);
    s->gate.own = (struct gate){.head = POOL_NONE, .tail = POOL_NONE};
    s->outbound = s->exchanges = s->remembered = POOL_NONE;
    s->side.client.relations = s->side.client.transfers = POOL_NONE;
    s->open = true;
    table->count++;
    table->changed = true;
    return s;
}

void session_remove(struct session_table *table, struct session *session)
{
    rte_hash_del_key_with_hash(table->hash, &session->flow, session_hash(table, &session->flow));
    session->open = false;
    table->count--;
}

/* True when the session would begin with a message ID that it has not used (RFC 7252 4.4) if it was
 * forgotten and came back at once. IDs are compared around the circle, which holds as long as
 * session_first_mid() says. */
static bool ids_have_rest(const struct session *s, uint64_t mid_key, uint64_t now_us)
{
    uint16_t lead = (uint16_t)(session_first_mid(&s->flow, mid_key, now_us) - s->next_mid);

    return lead < 0x8000 || now_us - s->seen_us >= EXCHANGE_LIFETIME_MS * UINT64_C(1000);
}

struct session *session_victim(struct session_table *table, uint64_t mid_key, uint64_t now_us)
{
    struct session *victim = NULL;

    for (unsigned i = 0; i < VICTIM_PROBES; i++) {
        struct session *s = &table->sessions[table->hand];

        table->hand = table->hand + 1 == table->positions ? 0 : table->hand + 1;
        if (session_is_evictable(s) && (!victim || s->seen_us < victim->seen_us) &&
            ids_have_rest(s, mid_key, now_us))
            victim = s;
    }
    return victim;
}

uint16_t session_first_mid(const struct flow *flow, uint64_t key, uint64_t now_us)
{
    uint32_t hash = rte_jhash_32b((const uint32_t *)(const void *)flow, FLOW_WORDS, (uint32_t)key);

    return (uint16_t)(hash + now_us / 1000 * 32768 / EXCHANGE_LIFETIME_MS);
}

bool session_take_mid(struct session *s, uint64_t now_us, uint16_t *mid)
{
    uint16_t half = s->next_mid >> 15;

    if ((s->next_mid & 0x7fff) == 0) {
        /* Seconds, counted from 1 so that 0 can mean never: rounded so that the wait is never
         * short. */
        uint32_t now_s = (uint32_t)(now_us / 1000000) + 1;
        uint32_t left_s = s->mid_left_s[half];

        if (left_s && now_s - left_s <= EXCHANGE_LIFETIME_MS / 1000)
            return false;
        s->mid_left_s[half] = 0;
    }
    *mid = s->next_mid++;
    if (s->role == SESSION_CLIENT)
        s->gate.own.ticks = session_ticks(now_us);
    if ((s->next_mid & 0x7fff) == 0)
        s->mid_left_s[half] = (uint32_t)(now_us / 1000000) + 1;
    return true;
}
