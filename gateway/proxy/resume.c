/* Relations that come back after a restart: records that the store has read, as requests, and what
 * is not to come back. */
#include "gateway/hash.h"
#include "gateway/proxy/proxy.h"
#include "gateway/store/store.h"

#define BY_OBSERVATION offsetof(struct relation, by_observation)

/* ---- what was cancelled meanwhile ---- */

static uint64_t name_of(const struct proxy *p, const struct flow *flow, const uint8_t *token,
                        uint32_t token_length)
{
    return hash_bytes(token, token_length, hash_bytes(flow, sizeof(*flow), p->hash_seed));
}

void persist_cancelled(struct proxy *p, const struct session *s, const uint8_t *token,
                       uint32_t token_length)
{
    struct persist *ps = &p->persist;

    if (!ps->enabled || ps->resumed)
        return;
    ps->cancelled[ps->cancelled_next] = name_of(p, &s->flow, token, token_length);
    ps->cancelled_next = (ps->cancelled_next + 1) % PERSIST_CANCELLED;
}

static bool was_cancelled(const struct proxy *p, const struct flow *flow, const struct message *msg)
{
    uint64_t name = name_of(p, flow, msg->token, msg->token_length);

    for (unsigned i = 0; i < PERSIST_CANCELLED; i++)
        if (p->persist.cancelled[i] == name)
            return true;
    return false;
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
    if (s)
        s->proven = true; /* it has observed for some time */
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

bool persist_read(struct proxy *p, const struct parcel *parcel, struct request *rq,
                  struct message *msg, uint8_t buffer[MESSAGE_MAX_BYTES])
{
    const struct config_listener *listener;
    struct store_relation record;
    struct store_head head;
    struct endpoint peer;
    struct session *s;
    struct flow flow;

    if (!parcel_read(parcel, 0, &head, sizeof(head)) || !parse(parcel, &record, msg, buffer) ||
        !(listener = listener_of(p, &record))) {
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
    if (head.verify || was_cancelled(p, &flow, msg)) {
        disown(p, parcel);
        return false;
    }
    s = session_for(p, &flow, listener);
    if (!s) {
        p->m->counters->records_unusable++;
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
