/* Handshakes that are under way or just done: who has one, and which of its datagrams wait. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "gateway/security/security_parts.h"

#define BY_WORK offsetof(struct contact, by_work)
#define BY_AGE  offsetof(struct contact, by_age)

/* Memory for the datagrams that wait, for each handshake that may be under way. */
#define CHUNK_BYTES_EACH 2048u

/* The part of the handshakes that only those with origins may have, where there are any. */
#define RESERVED_DIVISOR 8u

/* A client that has said nothing for so long may lose its place to another one: it has repeated
 * what it said three times by then, or is gone (RFC 6347 4.2.4.1). */
#define SILENT_US UINT64_C(8000000)

/* ---- contacts ---- */

struct contact *security_contact_of(const struct security *s, const struct flow *wire,
                                    uint32_t hash)
{
    const struct places *places = &s->contacts_by_wire;
    const struct places_slot *slot = places_slot(places, hash);

    for (; (slot = places_next(places, slot, hash)); slot = places_behind(places, slot)) {
        struct contact *c = contact_at(s, slot->place - 1);

        if (flow_equal(&c->wire, wire))
            return c;
    }
    return NULL;
}

/* Random, and nobody else's. The first byte, modulo the number of workers, says whose it is; all
 * the same it is spread, so that another number of workers after a restart shares them evenly. */
static void draw_id(struct security *s, uint8_t id[ASSOCIATION_ID_BYTES])
{
    const struct associations *all = &s->associations;
    unsigned index = s->setup.index, count = s->setup.count;
    unsigned choices = (UINT8_MAX - index) / count + 1;

    do {
        uint64_t word = random_u64(&s->random) | 1;

        memcpy(id, &word, ASSOCIATION_ID_BYTES);
        id[0] = (uint8_t)(index + count * random_below(&s->random, choices));
    } while (association_of_id(all, id, places_hash_id(&all->key, id)));
}

/* Clients do not get all of them: when they come in a storm the gateway still has to get to its
 * origins. */
static bool is_kept_back(const struct security *s, enum association_role role)
{
    uint32_t spare = s->has_origins ? s->contacts.capacity / RESERVED_DIVISOR : 0;

    return role == ASSOCIATION_SERVER && pool_used(&s->contacts) >= s->contacts.capacity - spare;
}

/* A client's that has been silent for long; POOL_NONE: there is none. */
static uint32_t find_silent(const struct security *s)
{
    uint32_t index = s->waiting.head;

    return index != POOL_NONE && contact_at(s, index)->heard_us + SILENT_US <= s->now ? index
                                                                                      : POOL_NONE;
}

/* One that is done gives its place to one that begins: its peer has nothing to complain of until
 * now. Otherwise a silent one does: nobody keeps all others out by so many ClientHellos. */
static struct contact *take_contact(struct security *s, enum association_role role)
{
    struct contact *c = is_kept_back(s, role) ? NULL : pool_get(&s->contacts);
    uint32_t victim = s->lingering.head;

    if (c)
        return c;
    if (victim == POOL_NONE && (victim = find_silent(s)) != POOL_NONE)
        s->setup.counters->dtls_handshakes_failed++;
    if (victim == POOL_NONE)
        return NULL;
    security_contact_end(s, contact_at(s, victim));
    return pool_get(&s->contacts);
}

static bool is_waiting(const struct contact *c)
{
    return c->role == ASSOCIATION_SERVER && c->association == POOL_NONE;
}

struct contact *security_contact_make(struct security *s, const struct flow *wire, uint16_t place,
                                      enum association_role role)
{
    struct contact *c = take_contact(s, role);

    if (!c)
        return NULL;
    memset(c, 0, sizeof(*c));
    c->wire = *wire;
    draw_id(s, c->id);
    c->begun_us = s->now;
    c->association = POOL_NONE;
    c->serial = ++s->serial ? s->serial : ++s->serial;
    s->serials[pool_index(&s->contacts, c)] = c->serial;
    c->place = place;
    c->role = (uint8_t)role;
    c->heard_us = s->now;
    if (is_waiting(c))
        list_push_back(&s->waiting, &s->contacts, BY_AGE, pool_index(&s->contacts, c));
    timer_init(&c->timer, TIMER_HANDSHAKE);
    places_add(&s->contacts_by_wire, places_hash_flow(&s->associations.key, wire),
               pool_index(&s->contacts, c));
    return c;
}

void security_contact_rest(struct security *s, struct contact *c)
{
    if (c->working)
        list_remove(&s->work, &s->contacts, BY_WORK, pool_index(&s->contacts, c));
    c->working = false;
}

void security_contact_heard(struct security *s, struct contact *c)
{
    uint32_t index = pool_index(&s->contacts, c);

    if (!is_waiting(c))
        return;
    c->heard_us = s->now;
    list_remove(&s->waiting, &s->contacts, BY_AGE, index);
    list_push_back(&s->waiting, &s->contacts, BY_AGE, index);
}

void security_contact_done(struct security *s, struct contact *c, uint32_t association)
{
    uint32_t index = pool_index(&s->contacts, c);

    if (is_waiting(c))
        list_remove(&s->waiting, &s->contacts, BY_AGE, index);
    c->association = association;
    list_push_back(&s->lingering, &s->contacts, BY_AGE, index);
}

/* All but the timer's place in the wheel. */
static void release(struct security *s, struct contact *c)
{
    uint32_t index = pool_index(&s->contacts, c);

    security_contact_rest(s, c);
    for (unsigned i = 0; i < c->queued; i++)
        chunks_free(&s->chunks, c->queue[i].chunk);
    if (c->association != POOL_NONE) {
        struct association *a = pool_at(&s->associations.pool, c->association);

        a->contact = POOL_NONE;
        list_remove(&s->lingering, &s->contacts, BY_AGE, index);
    } else if (is_waiting(c)) {
        list_remove(&s->waiting, &s->contacts, BY_AGE, index);
    }
    if (c->handshake)
        handshake_free(c->handshake);
    credentials_drop(c->credentials);
    s->serials[index] = 0;
    places_remove(&s->contacts_by_wire, places_hash_flow(&s->associations.key, &c->wire), index);
    pool_put_at(&s->contacts, index);
}

void security_contact_end(struct security *s, struct contact *c)
{
    wheel_cancel(s->setup.wheel, &c->timer);
    release(s, c);
}

/* ---- datagrams that wait ---- */

void security_queue(struct security *s, struct contact *c, const uint8_t *data, size_t length)
{
    uint32_t chunk;

    if (c->queued == CONTACT_QUEUE ||
        (chunk = chunks_write(&s->chunks, data, length)) == CHUNK_NONE) {
        s->setup.counters->drop_dtls_queue++;
        return;
    }
    c->queue[c->queued].chunk = chunk;
    c->queue[c->queued++].length = (uint16_t)length;
    if (!c->working)
        list_push_back(&s->work, &s->contacts, BY_WORK, pool_index(&s->contacts, c));
    c->working = true;
    security_contact_heard(s, c);
}

/* The oldest one, into s->datagram. Its length. */
uint16_t security_unqueue(struct security *s, struct contact *c)
{
    uint16_t length = c->queue[0].length;

    chunks_read(&s->chunks, c->queue[0].chunk, s->datagram, length);
    chunks_free(&s->chunks, c->queue[0].chunk);
    c->queued--;
    memmove(&c->queue[0], &c->queue[1], c->queued * sizeof(c->queue[0]));
    return length;
}

/* ---- start and end ---- */

static void send_flight(void *context, struct handshake *h, const uint8_t *datagram, size_t length)
{
    struct security *s = context;
    const struct contact *c = handshake_owner(h);

    (void)security_send_raw(s, &c->wire, datagram, length); /* lost: it is repeated */
}

int security_contacts_init(struct security *s)
{
    uint32_t max = s->setup.config->limits.handshakes;
    struct handshakes_setup setup = {.max = max, .ops = {.context = s, .send = send_flight}};
    int err;

    s->work = s->lingering = s->waiting = LIST_NONE;
    if (RAND_bytes(setup.seed, sizeof(setup.seed)) != 1)
        return -EIO;
    if ((err = pool_init(&s->contacts, sizeof(struct contact), max)) ||
        (err = places_init(&s->contacts_by_wire, max)) ||
        (err = chunks_init(&s->chunks, (size_t)max * CHUNK_BYTES_EACH + 64 * CHUNK_BYTES)))
        return err;
    s->serials = calloc(max, sizeof(*s->serials));
    if (!s->serials)
        return -ENOMEM;
    s->handshakes = handshakes_create(&setup);
    OPENSSL_cleanse(setup.seed, sizeof(setup.seed));
    return s->handshakes ? 0 : -ENOMEM;
}

/* The wheel is left alone: what else is armed in it may be gone already. */
void security_contacts_fini(struct security *s)
{
    for (uint32_t i = 0; s->contacts_by_wire.slots && i <= s->contacts_by_wire.mask;) {
        uint32_t place = s->contacts_by_wire.slots[i].place;

        if (place)
            release(s, contact_at(s, place - 1)); /* another one may move up here */
        else
            i++;
    }
    handshakes_destroy(s->handshakes);
    chunks_fini(&s->chunks);
    places_fini(&s->contacts_by_wire);
    pool_fini(&s->contacts);
    free(s->serials);
}
