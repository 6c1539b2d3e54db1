#include "gateway/session/session.h"

#include <errno.h>

#include <rte_jhash.h>

#include "gateway/memory.h"

#define VICTIM_PROBES 64
#define FLOW_WORDS    (sizeof(struct flow) / sizeof(uint32_t))

/* What nearly every message needs is in both lines. */
#define LINE_BYTES 64

/* ---- start and end ---- */

/* SplitMix64: four words of key from one. */
static uint64_t stretch(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int session_table_init(struct session_table *table, uint32_t max, uint64_t seed)
{
    uint64_t slots = 64;

    memset(table, 0, sizeof(*table));
    while (slots < (uint64_t)max * 2)
        slots *= 2;
    table->slots_bytes = slots * sizeof(struct session_slot);
    table->slots = memory_reserve(table->slots_bytes);
    table->sessions_bytes = (size_t)max * sizeof(struct session);
    table->sessions = memory_reserve(table->sessions_bytes);
    if (!table->slots || !table->sessions) {
        session_table_fini(table);
        return -ENOMEM;
    }
    table->max = max;
    table->mask = (uint32_t)(slots - 1);
    for (unsigned i = 0; i < 4; i++)
        table->key[i] = stretch(&seed);
    return 0;
}

void session_table_fini(struct session_table *table)
{
    memory_release(table->sessions, table->sessions_bytes);
    memory_release(table->slots, table->slots_bytes);
    table->sessions = NULL;
    table->slots = NULL;
}

/* ---- look-up ---- */

/* NH (Black et al., UMAC, 1999): under a random key, flows meet by chance only, however they were
 * chosen. The last multiplication brings all of it into the bits that are used. */
uint32_t session_hash(const struct session_table *table, const struct flow *flow)
{
    const uint8_t *at = (const uint8_t *)flow;
    const uint64_t *key = table->key;
    unsigned __int128 sum =
        (unsigned __int128)(net_word(at) + key[0]) * (net_word(at + 8) + key[1]);
    uint64_t h;

    sum += (unsigned __int128)(net_word(at + 16) + key[2]) * (net_word(at + 24) + key[3]);
    h = (uint64_t)sum ^ (uint64_t)(sum >> 64);
    sum = (unsigned __int128)h * 0x9e3779b97f4a7c15u;
    return (uint32_t)((uint64_t)sum ^ (uint64_t)(sum >> 64));
}

static inline const struct session_slot *next_slot(const struct session_table *table,
                                                   const struct session_slot *slot)
{
    return slot == table->slots + table->mask ? table->slots : slot + 1;
}

struct session *session_find(const struct session_table *table, const struct flow *flow,
                             uint32_t hash)
{
    const struct session_slot *slot = &table->slots[hash & table->mask];

    for (; slot->place; slot = next_slot(table, slot)) {
        struct session *s = &table->sessions[slot->place - 1];

        if (slot->hash == hash && flow_equal(&s->flow, flow))
            return s;
    }
    return NULL;
}

static inline struct session *candidate(const struct session_table *table, uint32_t hash)
{
    const struct session_slot *slot = &table->slots[hash & table->mask];

    while (slot->place && slot->hash != hash)
        slot = next_slot(table, slot);
    return slot->place ? &table->sessions[slot->place - 1] : NULL;
}

void session_find_burst(const struct session_table *table, const struct flow *const *flows,
                        uint32_t *hashes, unsigned n, struct session **found)
{
    for (unsigned i = 0; i < n; i++) {
        hashes[i] = session_hash(table, flows[i]);
        __builtin_prefetch(&table->slots[hashes[i] & table->mask]);
    }
    for (unsigned i = 0; i < n; i++) {
        found[i] = candidate(table, hashes[i]);
        if (!found[i])
            continue;
        __builtin_prefetch(found[i], 1);
        __builtin_prefetch((uint8_t *)found[i] + LINE_BYTES, 1);
    }
}

/* ---- change ---- */

static uint32_t take_index(struct session_table *table)
{
    uint32_t index = table->free;

    if (index == 0)
        return table->fresh++;
    table->free = table->sessions[index - 1].mid_left_s[0];
    return index - 1;
}

struct session *session_add(struct session_table *table, const struct flow *flow, uint32_t hash)
{
    uint32_t at = hash & table->mask, index;
    struct session *s;

    if (table->count >= table->max)
        return NULL;
    while (table->slots[at].place)
        at = (at + 1) & table->mask;
    index = take_index(table);
    table->slots[at] = (struct session_slot){.hash = hash, .place = index + 1};
    s = &table->sessions[index];
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

/* Closes the gap: what lies behind it and is not at its first choice moves up, unless it would come
 * before that. */
static void free_slot(struct session_table *table, uint32_t gap)
{
    uint32_t mask = table->mask;

    for (uint32_t at = (gap + 1) & mask; table->slots[at].place; at = (at + 1) & mask) {
        uint32_t first = table->slots[at].hash & mask;

        if (((at - first) & mask) < ((at - gap) & mask))
            continue;
        table->slots[gap] = table->slots[at];
        gap = at;
    }
    table->slots[gap].place = 0;
}

void session_remove(struct session_table *table, struct session *session)
{
    uint32_t place = session_index(table, session) + 1;
    uint32_t at = session_hash(table, &session->flow) & table->mask;

    while (table->slots[at].place != place)
        at = (at + 1) & table->mask;
    free_slot(table, at);
    session->open = false;
    session->mid_left_s[0] = table->free;
    table->free = place;
    table->count--;
}

/* ---- eviction ---- */

/* True when the session would begin with a message ID that it has not used (RFC 7252 4.4) if it was
 * forgotten and came back at once. IDs are compared around the circle, which holds as long as
 * session_first_mid() says. */
static bool ids_have_rest(const struct session *s, const struct mid_origin *origin, uint64_t now_us)
{
    uint16_t lead = (uint16_t)(session_first_mid(&s->flow, origin, now_us) - s->next_mid);

    return lead < 0x8000 || now_us - s->seen_us >= EXCHANGE_LIFETIME_MS * UINT64_C(1000);
}

struct session *session_victim(struct session_table *table, const struct mid_origin *origin,
                               uint64_t now_us)
{
    struct session *victim = NULL;

    for (unsigned i = 0; i < VICTIM_PROBES; i++) {
        struct session *s = &table->sessions[table->hand];

        table->hand = table->hand + 1 >= table->fresh ? 0 : table->hand + 1;
        if (session_is_evictable(s) && (!victim || s->seen_us < victim->seen_us) &&
            ids_have_rest(s, origin, now_us))
            victim = s;
    }
    return victim;
}

/* ---- message IDs ---- */

uint16_t session_first_mid(const struct flow *flow, const struct mid_origin *origin,
                           uint64_t now_us)
{
    uint32_t hash =
        rte_jhash_32b((const uint32_t *)(const void *)flow, FLOW_WORDS, (uint32_t)origin->key);

    return (uint16_t)(hash + now_us * MID_RATE / 1000000 + origin->life * MID_LEAD);
}

/* For how many whole seconds the peer may remember a message ID, by the parameters that hold
 * between it and us (RFC 7252 4.8.2). */
static uint32_t lifetime_s(const struct session *s)
{
    return (uint32_t)((transmission_exchange_lifetime_ms(s->transmission) + 999) / 1000);
}

/* Seconds, counted from 1 so that 0 can mean never. */
static uint32_t mid_seconds(uint64_t now_us)
{
    return (uint32_t)(now_us / 1000000) + 1;
}

void session_follow_clock(struct session *s, const struct mid_origin *origin, uint64_t now_us)
{
    uint16_t clock = session_first_mid(&s->flow, origin, now_us), half = clock >> 15;
    uint64_t quiet_us = session_quiet_us(s, now_us);
    bool enters = half != s->next_mid >> 15 || (s->next_mid & 0x7fff) == 0;

    if (quiet_us > lifetime_s(s) * UINT64_C(1000000)) {
        s->mid_left_s[0] = s->mid_left_s[1] = 0;
    } else {
        if (clock == s->next_mid || (uint16_t)(clock - s->next_mid) >= 0x8000)
            return; /* it is ahead */
        if (enters && s->mid_left_s[half] &&
            mid_seconds(now_us) - s->mid_left_s[half] <= lifetime_s(s))
            return; /* a little later it has had its rest */
        if (half != s->next_mid >> 15 && (s->next_mid & 0x7fff) != 0)
            s->mid_left_s[!half] = mid_seconds(now_us - quiet_us);
        if (clock & 0x7fff)
            s->mid_left_s[half] = 0;
    }
    s->next_mid = clock;
}

bool session_take_mid(struct session *s, uint64_t now_us, uint16_t *mid)
{
    uint16_t half = s->next_mid >> 15;

    if ((s->next_mid & 0x7fff) == 0) {
        uint32_t left_s = s->mid_left_s[half];

        /* Rounded so that the wait is never short. */
        if (left_s && mid_seconds(now_us) - left_s <= lifetime_s(s))
            return false;
        s->mid_left_s[half] = 0;
    }
    *mid = s->next_mid++;
    if (s->role == SESSION_CLIENT)
        s->gate.own.ticks = session_ticks(now_us);
    if ((s->next_mid & 0x7fff) == 0)
        s->mid_left_s[half] = mid_seconds(now_us);
    return true;
}
