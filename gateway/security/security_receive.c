/* The way in: which datagrams are records, whose they are, and what is in them. */
#include <string.h>

#include "gateway/security/security_parts.h"

/* ---- delivering ---- */

void security_flush(struct security *s)
{
    unsigned n = s->plain_count;

    if (n == 0)
        return;
    s->plain_count = 0;
    s->setup.ops.deliver(s->setup.ops.context, s->plain, n);
    s->arena_used = 0;
}

static void collect(struct security *s, const struct datagram *d)
{
    s->plain[s->plain_count++] = *d;
    if (s->plain_count == WORKER_BURST)
        security_flush(s);
}

/* Room for what a record holds, good until the next flush. */
static uint8_t *arena_room(struct security *s, size_t length)
{
    if (length > SECURITY_ARENA_BYTES - s->arena_used)
        security_flush(s);
    return s->arena + s->arena_used;
}

/* ---- what a record says ---- */

/* RFC 5246 7.2: a fatal alert ends the association, and so does close_notify, which is answered.
 * Others change nothing. */
static void take_alert(struct security *s, struct association *a, const uint8_t *alert,
                       size_t length)
{
    struct counters *counters = s->setup.counters;

    if (length != 2) {
        counters->drop_dtls_malformed++;
        return;
    }
    counters->dtls_alerts_in++;
    if (alert[1] == ALERT_CLOSE_NOTIFY)
        security_end(s, a, true, &counters->associations_closed);
    else if (alert[0] == ALERT_FATAL)
        security_end(s, a, false, &counters->associations_closed);
}

/* Either the last messages of a handshake that is done, again: then ours were lost; or the client
 * wants to renegotiate, which is not done (RFC 5746 4.4). */
static void take_handshake(struct security *s, struct association *a, const struct datagram *d)
{
    if (a->contact != POOL_NONE)
        security_queue(s, contact_at(s, a->contact), d->data, d->length);
    else
        security_send_alert(s, a, ALERT_WARNING, ALERT_NO_RENEGOTIATION);
}

static void take_message(struct security *s, struct association *a, const uint8_t *bytes,
                         size_t length)
{
    struct datagram plain = {
        .data = bytes, .length = (uint16_t)length, .flow = association_flow(a)};

    /* What is under our keys shows that the peer has got all of the handshake. */
    if (a->contact != POOL_NONE)
        security_contact_end(s, contact_at(s, a->contact));
    if (length == 0)
        return;
    s->arena_used += length;
    collect(s, &plain);
}

/* RFC 9146 6: the peer's address is another one from now on, as what came from there is authentic
 * and newer than all before. */
static void follow(struct security *s, struct association *a, const struct flow *wire, bool newest)
{
    if (flow_equal(&a->wire, wire) || !newest)
        return;
    association_move(&s->associations, a, wire);
    security_keep_changed(s, a);
    s->setup.counters->associations_moved++;
}

/* ---- one record ---- */

/* What is behind it goes, too: who forges records has one try for each datagram. */
static void count_forged(struct security *s, struct association *a)
{
    s->setup.counters->drop_dtls_forged++;
    if (++a->failures < suite_forgery_limit((enum suite)a->suite))
        return;
    security_flush(s);
    if (s->receiving == a)
        security_end(s, a, true, &s->setup.counters->associations_exhausted);
}

/* False when the rest of the datagram is not to be looked at: the association may be gone. */
static bool take_record(struct security *s, struct association *a, const struct datagram *d,
                        const struct record_view *v)
{
    struct counters *counters = s->setup.counters;
    uint8_t *out, type;
    bool newest;
    int length;

    if (__builtin_expect(a->unproven, 0))
        security_flush(s); /* what came before may prove it, which closes the window */
    if (s->receiving != a)
        return false;
    if (v->epoch != ASSOCIATION_EPOCH) {
        counters->drop_dtls_epoch++;
        return true;
    }
    if (!window_is_fresh(&a->window, v->sequence)) {
        counters->drop_dtls_replay++;
        return true;
    }
    out = arena_room(s, v->length);
    if (s->receiving != a)
        return false;
    length =
        record_open(s->aead, association_slot(&s->associations, a, false), &a->read, v, out, &type);
    if (length < 0) {
        count_forged(s, a);
        return false;
    }
    newest = !a->window.any || v->sequence > a->window.top;
    window_mark(&a->window, v->sequence);
    a->seen_us = s->now;
    counters->dtls_records_in++;
    follow(s, a, &d->flow, newest);
    switch (type) {
    case RECORD_APPLICATION_DATA:
        take_message(s, a, out, (size_t)length);
        return s->receiving == a;
    case RECORD_ALERT: {
        uint8_t alert[2] = {out[0], length > 1 ? out[1] : 0};

        security_flush(s); /* what came before it is answered before it ends */
        if (s->receiving == a)
            take_alert(s, a, alert, (size_t)length);
        return false;
    }
    case RECORD_HANDSHAKE:
        take_handshake(s, a, d);
        return false;
    default:
        counters->drop_dtls_type++;
        return true;
    }
}

/* ---- one datagram ---- */

/* The association of a datagram's first record; NULL. */
static struct association *association_of(const struct security *s, const struct datagram *d,
                                          const struct record_view *v, uint32_t hash)
{
    struct association *a;

    if (v->type != RECORD_CID)
        return association_of_wire(&s->associations, &d->flow, hash);
    a = association_of_id(&s->associations, v->cid, hash);
    return a && a->own_cid ? a : NULL;
}

/* Not an association's: it belongs to a handshake, or to nobody. Nobody gets an answer, which would
 * go to where somebody else says that it came from. */
static void receive_other(struct security *s, const struct datagram *d, const struct record_view *v,
                          uint32_t hash)
{
    struct contact *c;

    if (v->type == RECORD_CID)
        hash = places_hash_flow(&s->associations.key, &d->flow);
    c = security_contact_of(s, &d->flow, hash);
    if (c && (v->type != RECORD_CID || memcmp(c->id, v->cid, sizeof(c->id)) == 0))
        security_queue(s, c, d->data, d->length);
    else
        s->setup.counters->drop_dtls_unknown++;
}

/* A record under an association's old keys, or one that a new handshake has just come to: both come
 * from the same address (RFC 6347 4.2.8). Who goes first is told by the type as it can be seen. */
static bool is_of_contact(const struct security *s, const struct datagram *d,
                          const struct record_view *v, uint32_t hash)
{
    const struct contact *c;

    if (v->type != RECORD_HANDSHAKE || pool_used(&s->contacts) == 0)
        return false;
    c = security_contact_of(s, &d->flow, hash);
    return c && c->association == POOL_NONE;
}

/* What is delivered meanwhile may end the association: an origin's, whose place another one gets.
 */
static void receive_records(struct security *s, struct association *a, const struct datagram *d)
{
    const uint8_t *at = d->data;
    size_t left = d->length;
    struct record_view v;

    s->receiving = a;
    while (left) {
        int taken = record_next(at, left, a->own_cid ? ASSOCIATION_ID_BYTES : 0, &v);

        if (taken < 0) {
            s->setup.counters->drop_dtls_malformed++;
            return;
        }
        if ((v.type == RECORD_CID) != a->own_cid ||
            (a->own_cid && memcmp(v.cid, a->id, sizeof(a->id)) != 0))
            s->setup.counters->drop_dtls_unknown++; /* RFC 9146 3 */
        else if (!take_record(s, a, d, &v))
            return;
        at += taken;
        left -= (size_t)taken;
    }
}

void security_receive_datagram(struct security *s, const struct datagram *d, uint32_t hash)
{
    struct association *a;
    struct record_view v;

    if (d->multicast || d->length > SECURITY_DATAGRAM_MAX ||
        record_next(d->data, d->length, ASSOCIATION_ID_BYTES, &v) < 0) {
        s->setup.counters->drop_dtls_malformed++;
        return;
    }
    if (v.epoch == 0) {
        if (!security_receive_hello(s, d, hash))
            receive_other(s, d, &v, hash);
        return;
    }
    a = is_of_contact(s, d, &v, hash) ? NULL : association_of(s, d, &v, hash);
    if (a)
        receive_records(s, a, d);
    else
        receive_other(s, d, &v, hash);
}

void security_receive_own(struct security *s, const struct flow *wire, const uint8_t *data,
                          size_t length)
{
    struct datagram d = {.data = data, .length = (uint16_t)length, .flow = *wire};
    uint32_t hash;

    if (length >= RECORD_CID_AT + ASSOCIATION_ID_BYTES && data[0] == RECORD_CID)
        hash = places_hash_id(&s->associations.key, data + RECORD_CID_AT);
    else
        hash = places_hash_flow(&s->associations.key, wire);
    security_receive_datagram(s, &d, hash);
}

/* ---- a burst ---- */

enum kind { KIND_PLAIN, KIND_WIRE, KIND_CID };

/* What a datagram looks like, and the hash that it will be looked up by. */
static enum kind classify(const struct security *s, const struct datagram *d, uint32_t *hash)
{
    if (!security_port_is_ours(s, d->flow.local_port))
        return KIND_PLAIN;
    if (d->length >= RECORD_CID_AT + ASSOCIATION_ID_BYTES && d->data[0] == RECORD_CID) {
        *hash = places_hash_id(&s->associations.key, d->data + RECORD_CID_AT);
        __builtin_prefetch(places_slot(&s->associations.by_id, *hash));
        return KIND_CID;
    }
    *hash = places_hash_flow(&s->associations.key, &d->flow);
    __builtin_prefetch(places_slot(&s->associations.by_wire, *hash));
    return KIND_WIRE;
}

/* Upstream ports are shared with servers that are talked to without DTLS, and an address may have a
 * plain listener at a port where another one has DTLS. */
static bool is_plain(const struct security *s, const struct datagram *d, uint32_t hash)
{
    return security_listener_of(s, &d->flow) < 0 &&
           !association_at_wire(&s->associations, &d->flow, hash, NULL) &&
           !security_contact_of(s, &d->flow, hash);
}

void security_receive(struct security *s, const struct datagram *burst, unsigned n, uint64_t now)
{
    uint32_t hashes[WORKER_BURST];
    uint8_t kinds[WORKER_BURST];

    if (now > s->now)
        s->now = now;
    for (unsigned i = 0; i < n; i++)
        kinds[i] = (uint8_t)classify(s, &burst[i], &hashes[i]);
    for (unsigned i = 0; i < n; i++)
        if (kinds[i] != KIND_PLAIN)
            association_fetch(&s->associations,
                              kinds[i] == KIND_CID ? &s->associations.by_id
                                                   : &s->associations.by_wire,
                              hashes[i]);
    for (unsigned i = 0; i < n; i++) {
        if (kinds[i] == KIND_PLAIN || (kinds[i] == KIND_WIRE && is_plain(s, &burst[i], hashes[i])))
            collect(s, &burst[i]);
        else
            security_receive_datagram(s, &burst[i], hashes[i]);
    }
    security_flush(s);
}
