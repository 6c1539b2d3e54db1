/* The life of an association after its handshake: its place among the others, its end. */
#include <string.h>

#include "gateway/security/security_parts.h"

/* Peers that are told in one turn that the gateway ends. */
#define FAREWELLS_PER_TURN 64

uint64_t security_last_sequence(const struct association *a)
{
    uint64_t limit = suite_seal_limit((enum suite)a->suite);

    if (limit > RECORD_SEQUENCE_LAST)
        limit = RECORD_SEQUENCE_LAST;
    return limit - SECURITY_ALERTS_LEFT;
}

/* ---- room ---- */

static bool is_unused(void *context, const struct association *a)
{
    const struct security *s = context;
    struct flow flow = association_flow(a);

    return a->role == ASSOCIATION_SERVER && !s->setup.ops.is_busy(s->setup.ops.context, &flow);
}

static bool is_client(void *context, const struct association *a)
{
    (void)context;
    return a->role == ASSOCIATION_SERVER;
}

struct association *security_make(struct security *s, const struct flow *wire,
                                  const uint8_t id[ASSOCIATION_ID_BYTES])
{
    struct association *a = association_add(&s->associations, wire, id), *victim;

    if (a)
        return a;
    victim = association_victim(&s->associations, is_unused, s);
    if (!victim)
        victim = association_victim(&s->associations, is_client, s);
    if (!victim)
        return NULL;
    security_end(s, victim, true, &s->setup.counters->associations_evicted);
    return association_add(&s->associations, wire, id);
}

/* ---- the end ---- */

void security_end(struct security *s, struct association *a, bool notify, uint64_t *counter)
{
    struct flow flow = association_flow(a);
    uint64_t read = association_slot(&s->associations, a, false);
    uint64_t write = association_slot(&s->associations, a, true);
    enum suite suite = (enum suite)a->suite;

    if (notify)
        security_send_alert(s, a, ALERT_WARNING, ALERT_CLOSE_NOTIFY);
    security_keep_end(s, a);
    if (a->contact != POOL_NONE)
        security_contact_end(s, contact_at(s, a->contact));
    wheel_cancel(s->setup.wheel, &a->idle);
    aead_forget(s->aead, read, suite);
    aead_forget(s->aead, write, suite);
    association_remove(&s->associations, a);
    s->last = NULL;
    if (s->receiving == a)
        s->receiving = NULL;
    (*counter)++;
    s->setup.ops.ended(s->setup.ops.context, &flow);
}

static bool is_same_client(const struct association *a, const struct association *b)
{
    return a->principal.kind == b->principal.kind && a->principal.length == b->principal.length &&
           memcmp(a->principal.text, b->principal.text, a->principal.length) == 0;
}

/* Without a CID the address alone says whose records they are: the client has begun anew. With one
 * the older association may be another client's, whose address this one has got from a NAT. */
static bool is_replaced(const struct association *a, const struct association *fresh)
{
    return a != fresh && (!a->own_cid || is_same_client(a, fresh));
}

void security_replace(struct security *s, const struct association *fresh)
{
    uint32_t hash = places_hash_flow(&s->associations.key, &fresh->wire);
    struct association *a = association_at_wire(&s->associations, &fresh->wire, hash, NULL);

    while (a) {
        if (!is_replaced(a, fresh)) {
            a = association_at_wire(&s->associations, &fresh->wire, hash, a);
            continue;
        }
        security_end(s, a, false, &s->setup.counters->associations_replaced);
        a = association_at_wire(&s->associations, &fresh->wire, hash, NULL);
    }
}

/* ---- time ---- */

void security_on_idle(void *context, struct timer *timer, uint64_t now_us)
{
    struct security *s = context;
    struct association *a =
        (struct association *)(void *)((uint8_t *)timer - offsetof(struct association, idle));
    uint64_t ends_us = a->seen_us + s->setup.config->security.idle_us;

    if (now_us > s->now)
        s->now = now_us;
    if (a->sequence >= security_last_sequence(a) || security_keep_is_stalled(s, a))
        security_end(s, a, true, &s->setup.counters->associations_exhausted);
    else if (ends_us <= s->now)
        security_end(s, a, true, &s->setup.counters->associations_expired);
    else
        wheel_arm(s->setup.wheel, &a->idle, ends_us);
}

unsigned security_say_farewell(struct security *s)
{
    const struct places *places = &s->associations.by_id;
    unsigned told = 0;

    for (; told < FAREWELLS_PER_TURN && s->farewell_at <= places->mask; s->farewell_at++) {
        const struct places_slot *slot = &places->slots[s->farewell_at];

        struct association *a;

        if (!slot->place)
            continue;
        a = pool_at(&s->associations.pool, slot->place - 1);
        told++; /* it takes its time, too, to look at it */
        if (s->farewell_to_all || a->role == ASSOCIATION_CLIENT)
            security_send_alert(s, a, ALERT_WARNING, ALERT_CLOSE_NOTIFY);
    }
    if (s->farewell_at > places->mask)
        s->farewell = false;
    return told;
}
