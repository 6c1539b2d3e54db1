/* Relations that come back after a restart: records that the store has read, as requests, and what
 * is not to come back. */
#include <errno.h>

#include <rte_common.h>

#include "gateway/hash.h"
#include "gateway/memory.h"
#include "gateway/proxy/proxy.h"
#include "gateway/store/store.h"

#define BY_OBSERVATION offsetof(struct relation, by_observation)

/* ---- what was cancelled meanwhile ---- */

/* As many as there can be relations: those that have a record are not more. */
static uint32_t cancelled_slots(const struct proxy *p)
{
    return rte_align32pow2(2 * p->m->config->limits.relations);
}

int persist_init_resume(struct proxy *p)
{
    uint32_t slots = cancelled_slots(p);

    p->persist.cancelled = memory_reserve(slots * sizeof(*p->persist.cancelled));
    p->persist.cancelled_mask = slots - 1;
    return p->persist.cancelled ? 0 : -ENOMEM;
}

void persist_fini_resume(struct proxy *p)
{
    memory_release(p->persist.cancelled, cancelled_slots(p) * sizeof(*p->persist.cancelled));
}

static uint64_t name_of(const struct proxy *p, const struct flow *flow, const uint8_t *token,
                        uint32_t token_length)
{
    uint64_t name = hash_bytes(token, token_length, hash_bytes(flow, sizeof(*flow), p->hash_seed));

    return name ? name : 1;
}

/* Where the name is, or is to be put. */
static uint64_t *find_cancelled(const struct proxy *p, uint64_t name)
{
    const struct persist *ps = &p->persist;
    uint32_t at = (uint32_t)name & ps->cancelled_mask;

    while (ps->cancelled[at] && ps->cancelled[at] != name)
        at = (at + 1) & ps->cancelled_mask;
    return &ps->cancelled[at];
}

/* Clients may cancel what they have never registered, too: at the limit nothing more is remembered.
 */
void persist_cancelled(struct proxy *p, const struct session *s, const uint8_t *token,
                       uint32_t token_length)
{
    struct persist *ps = &p->persist;
    uint64_t name, *slot;

    if (!ps->enabled || ps->resumed || ps->cancelled_count >= p->m->config->limits.relations)
        return;
    name = name_of(p, &s->flow, token, token_length);
    slot = find_cancelled(p, name);
    ps->cancelled_count += *slot == 0;
    *slot = name;
}

static bool was_cancelled(const struct proxy *p, const struct flow *flow, const struct message *msg)
{
    return p->persist.cancelled_count &&
           *find_cancelled(p, name_of(p, flow, msg->token, msg->token_length));
}

/* ---- records ---- */

/* The listener of a record, or NULL. */
static const struct config_listener *listener_of(const struct proxy *p,
                                                 const struct store_relation *head)
{
    const struct config *config = p->m->config;

    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];

        if (l->port == head->listen.port && l->transport == head->transport &&
            address_equal(&config->locals[l->local].address, &head->listen.address))
            return l;
    }
    return NULL;
}

static struct relation *find_relation(struct proxy *p, const struct session *s,
                                      const struct message *msg)
{
    for (uint32_t index = s->side.client.relations; index != POOL_NONE;) {
        struct relation *r = relation_at(p, index);

        if (relation_has_token(p, r, msg->token, msg->token_length))
            return r;
        index = r->by_session.next;
    }
    return NULL;
}

/* The session of a record's client, made when there is none. */
static struct session *session_for(struct proxy *p, const struct flow *flow,
                                   const struct config_listener *listener)
{
    uint32_t hash = session_hash(&p->m->sessions, flow);
    struct session *s = session_find(&p->m->sessions, flow, hash);

    if (s && s->closing)
        messaging_reopen(p->m, s);
    if (s)
        return s->role == SESSION_CLIENT ? s : NULL;
    s = messaging_open_client(p->m, flow, hash, listener);
    if (s && flow->transport != TRANSPORT_DTLS) /* there, what it sends may be a repetition */
        s->proven = true;                       /* it has observed for some time */
    return s;
}

/* A deletion without a relation waits for room in the place of one. Without a place it is asked
 * about when the store is connected the next time. */
static void delete_later(struct proxy *p, struct rope *record)
{
    struct relation *r = pool_get(&p->relations);

    if (!r) {
        rope_free(&p->persist.records, record);
        return;
    }
    memset(r, 0, sizeof(*r));
    r->record = *record;
    list_push_back(&p->persist.deleting, &p->relations, BY_OBSERVATION,
                   pool_index(&p->relations, r));
}

/* The store is told that there is no such relation (any more). */
static void disown(struct proxy *p, const struct parcel *parcel)
{
    struct rope record = ROPE_EMPTY;
    uint8_t bytes[PARCEL_DATA_BYTES];

    for (uint32_t at = sizeof(struct store_head); at < parcel->length;) {
        uint32_t n = parcel->length - at < sizeof(bytes) ? parcel->length - at : sizeof(bytes);

        if (!parcel_read(parcel, at, bytes, n) ||
            !rope_append(&p->persist.records, &record, bytes, n)) {
            rope_free(&p->persist.records, &record);
            return;
        }
        at += n;
    }
    if (persist_tell(p, STORE_DELETE, 0, &record))
        rope_free(&p->persist.records, &record);
    else
        delete_later(p, &record);
}

static bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
    return a->port == b->port && address_equal(&a->address, &b->address);
}

static bool is_registration(const struct message *msg)
{
    return (msg->code == CODE_GET || msg->code == CODE_FETCH) && message_has(msg, SLOT_OBSERVE) &&
           message_uint(msg, SLOT_OBSERVE, 1) == 0;
}

static bool parse(const struct parcel *parcel, struct store_relation *head, struct message *msg,
                  uint8_t buffer[MESSAGE_MAX_BYTES])
{
    const uint32_t offset = sizeof(struct store_head);

    return parcel_read(parcel, offset, head, sizeof(*head)) &&
           head->packet_length <= MESSAGE_MAX_BYTES &&
           parcel_read(parcel, offset + (uint32_t)sizeof(*head), buffer, head->packet_length) &&
           message_parse(buffer, head->packet_length, msg) == VERDICT_OK && is_registration(msg);
}

/* It has been refused or ended already, and the store could not be told yet. */
static bool is_being_deleted(struct proxy *p, const struct store_relation *record,
                             const struct message *msg)
{
    const struct list *deleting = &p->persist.deleting;

    for (uint32_t index = deleting->head; index != POOL_NONE;) {
        const struct relation *r = relation_at(p, index);
        uint8_t packet[MESSAGE_MAX_BYTES];
        struct store_relation head;
        struct message other;

        rope_read(&p->persist.records, &r->record, NULL, 0, &head, sizeof(head));
        rope_read(&p->persist.records, &r->record, NULL, sizeof(head), packet, head.packet_length);
        if (endpoint_equal(&head.peer, &record->peer) &&
            endpoint_equal(&head.listen, &record->listen) &&
            message_parse(packet, head.packet_length, &other) == VERDICT_OK &&
            other.token_length == msg->token_length &&
            memcmp(other.token, msg->token, msg->token_length) == 0)
            return true;
        index = r->by_observation.next;
    }
    return false;
}

/* There is no room for a session: the client hears that its relation is over, as it would if there
 * was none for the relation (RFC 7641 4.2), and registers again. Each one gets a message ID of its
 * own. */
static void refuse(struct proxy *p, const struct flow *flow, const struct message *msg)
{
    struct messaging *m = p->m;
    uint16_t mid = (uint16_t)(session_first_mid(flow, &m->mids, m->now) + p->persist.refused++);
    struct outgoing out;
    struct encoder e;
    size_t length;

    if (!m->io.alloc(m->io.context, flow, &out)) {
        m->counters->drop_reply_buffer++;
        return;
    }
    encoder_begin(&e, out.data, out.room, TYPE_NON, CODE_SERVICE_UNAVAILABLE, mid, msg->token,
                  msg->token_length);
    length = encoder_end(&e);
    if (length)
        messaging_send(m, flow, &out, (uint16_t)length);
    else
        m->io.cancel(m->io.context, &out);
}

/* Associations come before relations: one that is not there now is not coming back. */
static bool is_bereft(const struct proxy *p, const struct flow *flow)
{
    return flow->transport == TRANSPORT_DTLS && !security_find(p->m->security, flow);
}

bool persist_read(struct proxy *p, const struct parcel *parcel, struct request *rq,
                  struct message *msg, uint8_t buffer[MESSAGE_MAX_BYTES])
{
    const struct config_listener *listener;
    struct store_relation record;
    struct store_head head;
    struct endpoint peer;
    struct session *s;
    struct flow flow;

    if (!parcel_read(parcel, 0, &head, sizeof(head)) || head.what != STORE_RELATION ||
        !parse(parcel, &record, msg, buffer) || !(listener = listener_of(p, &record))) {
        p->m->counters->records_unusable++;
        return false;
    }
    peer = record.peer;
    flow = flow_make(listener->local, listener->port, &peer, (enum transport)record.transport);
    s = session_find(&p->m->sessions, &flow, session_hash(&p->m->sessions, &flow));
    if (s && s->role == SESSION_CLIENT && find_relation(p, s, msg))
        return false; /* the newest counts: what is there */
    if (is_being_deleted(p, &record, msg))
        return false;
    if (head.verify || was_cancelled(p, &flow, msg) || is_bereft(p, &flow)) {
        disown(p, parcel);
        return false;
    }
    s = session_for(p, &flow, listener);
    if (!s) {
        p->m->counters->records_unusable++;
        refuse(p, &flow, msg);
        disown(p, parcel);
        return false;
    }
    *rq = (struct request){.message = msg,
                           .session = s,
                           .dedup = POOL_NONE,
                           .own_echo = true, /* with an origin's there would be no relation */
                           .resumed = true,
                           .created_us = record.created_us};
    return true;
}

void persist_handled(struct proxy *p, const struct parcel *parcel, const struct session *s,
                     const struct message *msg)
{
    if (!find_relation(p, s, msg))
        disown(p, parcel);
}
