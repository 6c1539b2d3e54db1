/* Handshakes: who may have one, whose turn it is, and what comes of it. */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "gateway/hash.h"
#include "gateway/security/security_parts.h"

#define BY_WORK offsetof(struct contact, by_work)

/* ---- the beginning ---- */

static uint64_t name_of(const struct datagram *d)
{
    struct hello hello;

    if (hello_parse(d->data, d->length, &hello) != HELLO_GOOD)
        return 0;
    return hash_bytes(hello.random, HELLO_RANDOM_BYTES, 0) | 1;
}

/* A ClientHello whose sender gets what is sent to its address. */
static void greet(struct security *s, const struct datagram *d, unsigned listener, uint32_t hash)
{
    struct contact *c = security_contact_of(s, &d->flow, hash);
    uint64_t name = name_of(d);

    if (c && c->name != name) { /* the client has begun anew */
        security_contact_end(s, c);
        c = NULL;
    }
    if (c && c->association != POOL_NONE)
        return; /* late: it has been answered by all that follows it */
    if (!c && !s->draining)
        c = security_contact_make(s, &d->flow, (uint16_t)listener, ASSOCIATION_SERVER);
    if (!c) {
        s->setup.counters->dtls_handshakes_refused++;
        return;
    }
    c->name = name;
    security_queue(s, c, d->data, d->length);
    if (!c->handshake && c->queued == 0) /* nothing would ever work on it, nor end it */
        security_contact_end(s, c);
}

bool security_receive_hello(struct security *s, const struct datagram *d, uint32_t hash)
{
    int listener = security_listener_of(s, &d->flow);
    uint8_t out[HELLO_VERIFY_BYTES];
    size_t length;

    if (listener < 0)
        return false;
    switch (hello_check(s->handshakes, &d->flow, d->data, d->length, s->now, out, &length)) {
    case HELLO_NONE:
        return false;
    case HELLO_BAD:
        s->setup.counters->drop_dtls_malformed++;
        return true;
    case HELLO_VERIFY:
        if (security_send_raw(s, &d->flow, out, length))
            s->setup.counters->dtls_hello_verify++;
        return true;
    case HELLO_GOOD:
        greet(s, d, (unsigned)listener, hash);
        return true;
    }
    return true;
}

static const struct credentials_side *side_of(const struct contact *c)
{
    return c->role == ASSOCIATION_SERVER ? credentials_listener(c->credentials, c->place)
                                         : credentials_upstream(c->credentials, c->place);
}

static bool wants_cid(const struct security *s, const struct contact *c)
{
    const struct config *config = s->setup.config;
    bool forward = c->place == config->upstream_count;

    if (c->role == ASSOCIATION_SERVER)
        return config->listeners[c->place].dtls->connection_id;
    return (forward ? &config->forward.upstream : &config->upstreams[c->place])
        ->dtls->connection_id;
}

int security_begin(struct security *s, struct contact *c)
{
    struct handshake_setup setup = {.worker = s->setup.index,
                                    .own_cid = be64toh(net_word(c->id)),
                                    .cid_wanted = wants_cid(s, c),
                                    .room = security_wire_room(s, &c->wire),
                                    .server_name = c->server_name,
                                    .owner = c};
    int error = 0;

    c->credentials = credentials_take(s->credentials);
    setup.side = side_of(c);
    if (!setup.side)
        return -ENOENT;
    c->handshake = c->role == ASSOCIATION_SERVER
                       ? handshake_accept(s->handshakes, &setup, s->now, &error)
                       : handshake_connect(s->handshakes, &setup, &c->wire.peer, s->now, &error);
    return c->handshake ? 0 : error;
}

/* ---- the end ---- */

void security_fail(struct security *s, struct contact *c, int error, const char *why)
{
    const char *own = c->handshake ? handshake_error(c->handshake) : "";
    bool ours = c->role == ASSOCIATION_CLIENT;
    char text[HANDSHAKE_ERROR_BYTES];
    struct flow wire = c->wire;

    snprintf(text, sizeof(text), "%s", *own ? own : why);
    s->setup.counters->dtls_handshakes_failed++;
    security_contact_end(s, c);
    if (ours)
        security_tell_failure(s, &wire, error, text);
}

static void fill(struct association *a, const struct contact *c,
                 const struct handshake_outcome *outcome)
{
    a->role = c->role;
    a->place = c->place;
    a->suite = outcome->suite;
    a->sequence = outcome->next_sequence;
    a->limit = security_last_sequence(a);
    a->window = outcome->window;
    a->own_cid = outcome->cid_in;
    a->cid_length = outcome->cid_out ? outcome->peer_cid_length : 0;
    memcpy(a->cid, outcome->peer_cid, a->cid_length);
    a->resumed = outcome->resumed;
    a->read = outcome->in;
    a->write = outcome->out;
    a->principal = outcome->principal;
}

/* NULL: there is no room for it. */
static struct association *establish(struct security *s, struct contact *c,
                                     const struct handshake_outcome *outcome)
{
    struct association *a = security_make(s, &c->wire, c->id);

    if (!a)
        return NULL;
    fill(a, c, outcome);
    a->seen_us = a->opened_us = s->now;
    a->contact = pool_index(&s->contacts, c);
    security_contact_done(s, c, association_index(&s->associations, a));
    (void)aead_prepare(s->aead, (enum suite)a->suite); /* without it it is slower */
    wheel_arm(s->setup.wheel, &a->idle, s->now + s->setup.config->security.idle_us);
    s->setup.counters->associations_opened++;
    s->setup.counters->dtls_handshakes++;
    s->setup.counters->dtls_resumed += a->resumed;
    security_replace(s, a);
    security_keep_begin(s, a);
    return a;
}

/* What came before its time may be the association's first messages. */
static void receive_queued(struct security *s, struct contact *c)
{
    struct flow wire = c->wire;
    uint32_t chunks[CONTACT_QUEUE];
    uint16_t lengths[CONTACT_QUEUE];
    unsigned n = c->queued;

    for (unsigned i = 0; i < n; i++) {
        chunks[i] = c->queue[i].chunk;
        lengths[i] = c->queue[i].length;
    }
    c->queued = 0;
    security_contact_rest(s, c);
    for (unsigned i = 0; i < n; i++) { /* `c` may go by any of them */
        chunks_read(&s->chunks, chunks[i], s->datagram, lengths[i]);
        chunks_free(&s->chunks, chunks[i]);
        security_receive_own(s, &wire, s->datagram, lengths[i]);
    }
}

static void finish(struct security *s, struct contact *c)
{
    struct handshake_outcome outcome;
    struct association *a = NULL;
    struct flow flow;

    if (handshake_outcome(c->handshake, &outcome) == 0)
        a = establish(s, c, &outcome);
    OPENSSL_cleanse(&outcome, sizeof(outcome));
    if (!a) {
        security_fail(s, c, -EBUSY, "there is no room for an association");
        return;
    }
    if (a->role == ASSOCIATION_CLIENT) {
        flow = association_flow(a);
        s->setup.ops.connected(s->setup.ops.context, &flow, 0, "");
    }
}

/* ---- keys ---- */

/* An identity that is not in the file: the store may know it. Otherwise it is unknown. */
static enum handshake_state find_key(struct security *s, struct contact *c)
{
    bool store =
        c->role == ASSOCIATION_SERVER && s->setup.config->listeners[c->place].dtls->psk_store;

    if (store && security_ask_key(s, c)) {
        c->asking = true;
        return HANDSHAKE_NEEDS_KEY;
    }
    return handshake_give_key(c->handshake, NULL, 0, s->now);
}

/* ---- steps ---- */

/* When it is to be looked at: patience with an origin may end before the handshake does. */
static void arm(struct security *s, struct contact *c)
{
    uint64_t due_us = handshake_due_us(c->handshake);

    if (c->role == ASSOCIATION_CLIENT && c->association == POOL_NONE && c->until_us < due_us)
        due_us = c->until_us;
    wheel_arm(s->setup.wheel, &c->timer, due_us);
}

void security_settle(struct security *s, struct contact *c, enum handshake_state state)
{
    if (state == HANDSHAKE_NEEDS_KEY && !c->asking)
        state = find_key(s, c);
    switch (state) {
    case HANDSHAKE_GOING:
    case HANDSHAKE_NEEDS_KEY:
        break;
    case HANDSHAKE_DONE:
        if (c->association == POOL_NONE) {
            wheel_arm(s->setup.wheel, &c->timer, handshake_due_us(c->handshake));
            finish(s, c);
            return;
        }
        break;
    case HANDSHAKE_FAILED:
        security_fail(s, c, -ECONNREFUSED, "");
        return;
    }
    arm(s, c);
}

/* What follows when a step has ended the handshake well: the rest of its last datagram, which is in
 * s->datagram, and what has come after that. */
static void begin_association(struct security *s, const struct flow *wire, uint32_t serial,
                              uint16_t length, size_t left)
{
    struct contact *c;

    if (left && left <= length)
        security_receive_own(s, wire, s->datagram + length - left, left);
    c = security_contact_of(s, wire, places_hash_flow(&s->associations.key, wire));
    if (c && c->serial == serial)
        receive_queued(s, c);
    c = security_contact_of(s, wire, places_hash_flow(&s->associations.key, wire));
    if (c && c->serial == serial && handshake_due_us(c->handshake) == UINT64_MAX)
        security_contact_end(s, c); /* the last messages were the peer's: there is no more to say */
    security_flush(s);
}

/* Works on one datagram. What it cost, in units. */
static unsigned step(struct security *s, struct contact *c)
{
    uint16_t length = security_unqueue(s, c);
    uint32_t serial = c->serial;
    struct flow wire = c->wire;
    bool was_done = c->association != POOL_NONE;
    enum handshake_state state;
    unsigned weight;
    size_t left;
    int err;

    security_contact_heard(s, c); /* nor does it lose its place by what it does */
    if (!c->handshake && (err = security_begin(s, c))) {
        security_fail(s, c, err, "it cannot be begun");
        return 1;
    }
    weight = handshake_weight(c->handshake);
    state = handshake_feed(c->handshake, s->datagram, length, s->now);
    left = handshake_left(c->handshake);
    security_settle(s, c, state);
    if (!was_done && state == HANDSHAKE_DONE)
        begin_association(s, &wire, serial, length, left);
    return weight;
}

void security_take_key(struct security *s, uint64_t cookie, int error, const uint8_t *key,
                       size_t length)
{
    uint32_t index = (uint32_t)cookie, serial = (uint32_t)(cookie >> 32);
    enum handshake_state state;
    struct contact *c;
    struct flow wire;

    if (index >= s->contacts.capacity || serial == 0 || s->serials[index] != serial)
        return; /* it has ended */
    c = contact_at(s, index);
    if (!c->asking)
        return;
    c->asking = false;
    if (error && error != -ENOENT) { /* it cannot be said that the identity is unknown */
        security_fail(s, c, error, "the store has no answer");
        return;
    }
    wire = c->wire;
    security_contact_heard(s, c);
    state = handshake_give_key(c->handshake, key, error ? 0 : length, s->now);
    security_settle(s, c, state);
    if (state == HANDSHAKE_DONE)
        begin_association(s, &wire, serial, 0, 0);
}

unsigned security_work(struct security *s)
{
    unsigned budget = s->setup.config->security.handshake_budget, spent = 0;

    while (spent < budget && s->work.head != POOL_NONE) {
        uint32_t index = s->work.head;
        struct contact *c = contact_at(s, index);

        security_contact_rest(s, c);
        if (c->queued > 1) { /* the next one in its turn */
            list_push_back(&s->work, &s->contacts, BY_WORK, index);
            c->working = true;
        }
        spent += step(s, c);
    }
    return spent;
}

static bool is_tired_of(const struct security *s, const struct contact *c)
{
    return c->role == ASSOCIATION_CLIENT && c->association == POOL_NONE && c->until_us <= s->now;
}

void security_on_handshake(void *context, struct timer *timer, uint64_t now_us)
{
    struct security *s = context;
    struct contact *c =
        (struct contact *)(void *)((uint8_t *)timer - offsetof(struct contact, timer));
    enum handshake_state state;

    if (now_us > s->now)
        s->now = now_us;
    if (!c->handshake)
        return;
    state = handshake_timeout(c->handshake, s->now);
    if (state == HANDSHAKE_FAILED || is_tired_of(s, c))
        security_fail(s, c, -ETIMEDOUT, "no answer");
    else if (state == HANDSHAKE_DONE && c->association != POOL_NONE &&
             handshake_due_us(c->handshake) == UINT64_MAX)
        security_contact_end(s, c);
    else
        security_settle(s, c, state);
}
