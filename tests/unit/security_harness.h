/* A struct security of its own, without a worker: associations are made by hand, and what goes in
 * and comes out is looked at. Times are given. */
#ifndef COAPGW_TESTS_UNIT_SECURITY_HARNESS_H
#define COAPGW_TESTS_UNIT_SECURITY_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/security/security_parts.h"

#define BENCH_SENT  64
#define BENCH_PLAIN 64
#define BENCH_BYTES 2048
#define BENCH_MTU   1280

struct bench_datagram {
    struct flow flow;
    uint16_t length;
    uint8_t bytes[BENCH_BYTES];
};

/* Not on the stack: it is large. */
struct bench {
    struct config config;
    struct config_listener listeners[2]; /* coaps at port 5684, coap at 5683 */
    struct config_dtls_listener dtls;
    struct local_address local;
    struct counters counters;
    struct wheel wheel;
    struct security *security;
    struct aead *aead; /* the peers' */
    uint64_t now;
    bool out_of_buffers, busy;
    unsigned allocated;
    struct bench_datagram sent[BENCH_SENT], plain[BENCH_PLAIN];
    unsigned sent_count, plain_count;
    struct flow ended[8];
    unsigned ended_count;
    uint8_t buffer[BENCH_BYTES];
};

static bool bench_alloc(void *context, const struct flow *flow, struct outgoing *out)
{
    struct bench *b = context;

    (void)flow;
    if (b->out_of_buffers)
        return false;
    *out = (struct outgoing){.data = b->buffer, .room = BENCH_MTU - 28, .buffer = b->buffer};
    assert_int_equal(b->allocated++, 0);
    return true;
}

static void bench_send(void *context, const struct flow *flow, struct outgoing *out,
                       uint16_t length)
{
    struct bench *b = context;
    struct bench_datagram *d = &b->sent[b->sent_count++];

    assert_ptr_equal(out->data, out->buffer);
    assert_in_range(b->sent_count, 1, BENCH_SENT);
    assert_in_range(length, 1, BENCH_MTU - 28);
    b->allocated--;
    d->flow = *flow;
    d->length = length;
    memcpy(d->bytes, out->data, length);
}

static void bench_cancel(void *context, struct outgoing *out)
{
    struct bench *b = context;

    assert_ptr_equal(out->buffer, b->buffer);
    b->allocated--;
}

static void bench_deliver(void *context, const struct datagram *burst, unsigned n)
{
    struct bench *b = context;

    for (unsigned i = 0; i < n; i++) {
        struct bench_datagram *d = &b->plain[b->plain_count++];

        assert_in_range(b->plain_count, 1, BENCH_PLAIN);
        d->flow = burst[i].flow;
        d->length = burst[i].length;
        memcpy(d->bytes, burst[i].data, burst[i].length);
    }
}

static void bench_ended(void *context, const struct flow *session)
{
    struct bench *b = context;

    b->ended[b->ended_count++ % 8] = *session;
}

static bool bench_is_busy(void *context, const struct flow *session)
{
    (void)session;
    return ((struct bench *)context)->busy;
}

static struct flow bench_wire(uint32_t n)
{
    struct endpoint peer = {.address = address_from_v4((const uint8_t[]){
                                10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n}),
                            .port = 40000};

    return flow_make(0, 5684, &peer, TRANSPORT_UDP);
}

static int bench_begin(void **state, uint32_t associations)
{
    static const uint8_t seed[RANDOM_SEED_BYTES] = {1, 2, 3};
    struct bench *b = calloc(1, sizeof(*b));
    struct security_setup setup = {
        .io = {.context = b, .alloc = bench_alloc, .send = bench_send, .cancel = bench_cancel},
        .ops = {.context = b,
                .deliver = bench_deliver,
                .ended = bench_ended,
                .is_busy = bench_is_busy},
        .index = 3,
        .count = 4,
        .associations = associations,
        .now = 1000000,
        .seed = seed};

    assert_non_null(b);
    b->now = setup.now;
    b->local = (struct local_address){.address = address_from_v4((const uint8_t[]){10, 99, 0, 2}),
                                      .mtu = BENCH_MTU};
    b->listeners[0] =
        (struct config_listener){.port = 5684, .transport = TRANSPORT_DTLS, .dtls = &b->dtls};
    b->listeners[1] = (struct config_listener){.port = 5683, .transport = TRANSPORT_UDP};
    b->config.locals = &b->local;
    b->config.local_count = 1;
    b->config.listeners = b->listeners;
    b->config.listener_count = 2;
    b->config.workers = 4;
    b->config.limits.associations = associations;
    b->config.limits.handshakes = 4;
    b->config.security.idle_us = UINT64_C(3600) * 1000000;
    b->config.security.handshake_budget = 16;
    wheel_init(&b->wheel, b->now);
    setup.config = &b->config;
    setup.counters = &b->counters;
    setup.wheel = &b->wheel;
    b->security = security_create(&setup);
    assert_non_null(b->security);
    b->aead = aead_create(0);
    assert_non_null(b->aead);
    *state = b;
    return 0;
}

static int bench_end(void **state)
{
    struct bench *b = *state;

    assert_int_equal(b->allocated, 0);
    security_destroy(b->security);
    aead_destroy(b->aead);
    free(b);
    return 0;
}

/* ---- associations, and records as their peers make them ---- */

static void bench_key(struct record_key *key, enum suite suite, uint8_t fill)
{
    memset(key, 0, sizeof(*key));
    key->suite = (uint8_t)suite;
    memset(key->key, fill, suite_key_bytes(suite));
    memset(key->salt, fill ^ 0xff, suite_salt_bytes(suite));
}

/* The n-th: its id and keys follow from n. */
static struct association *bench_add(struct bench *b, uint32_t n, enum suite suite, bool cid)
{
    struct flow wire = bench_wire(n);
    uint8_t id[ASSOCIATION_ID_BYTES] = {3, 0xc1, 0xd0, 0, 0, (uint8_t)(n >> 8), (uint8_t)n, 1};
    struct association *a = security_make(b->security, &wire, id);

    assert_non_null(a);
    a->suite = (uint8_t)suite;
    bench_key(&a->read, suite, (uint8_t)(2 * n + 1));
    bench_key(&a->write, suite, (uint8_t)(2 * n + 2));
    a->seen_us = a->opened_us = b->now;
    a->sequence = 1;
    a->limit = security_last_sequence(a);
    a->own_cid = cid;
    if (cid) {
        a->cid_length = 3;
        memcpy(a->cid, "abc", 3);
    }
    wheel_arm(&b->wheel, &a->idle, b->now + b->config.security.idle_us);
    return a;
}

/* A record of the association's peer. Its length. */
static size_t bench_seal(struct bench *b, const struct association *a, uint8_t type,
                         uint64_t sequence, const void *content, size_t length, uint8_t *out)
{
    struct record_mark mark = {.type = type,
                               .epoch = 1,
                               .sequence = sequence,
                               .cid = a->id,
                               .cid_length = a->own_cid ? ASSOCIATION_ID_BYTES : 0};
    int sealed;

    memcpy(out + record_lead((enum suite)a->suite, mark.cid_length), content, length);
    sealed = record_seal(b->aead, AEAD_NO_SLOT, &a->read, &mark, out, length);
    assert_true(sealed > 0);
    return (size_t)sealed;
}

static void bench_receive(struct bench *b, const struct flow *wire, const uint8_t *bytes,
                          size_t length)
{
    struct datagram d = {.data = bytes, .length = (uint16_t)length, .flow = *wire};

    security_receive(b->security, &d, 1, b->now);
}

/* A message of the peer's arrives. */
static void bench_say(struct bench *b, const struct association *a, const struct flow *wire,
                      uint64_t sequence, const char *text)
{
    uint8_t record[BENCH_BYTES];
    size_t length = bench_seal(b, a, RECORD_APPLICATION_DATA, sequence, text, strlen(text), record);

    bench_receive(b, wire, record, length);
}

/* Opens what was sent as the peer would. The type; the content, ended by a zero, in `text`. */
static inline uint8_t bench_open(struct bench *b, const struct association *a,
                                 const struct bench_datagram *sent, char text[BENCH_BYTES])
{
    struct record_view v;
    uint8_t type;
    int taken = record_next(sent->bytes, sent->length, a->cid_length, &v), length;

    assert_int_equal(taken, sent->length);
    length = record_open(b->aead, AEAD_NO_SLOT, &a->write, &v, (uint8_t *)text, &type);
    assert_true(length >= 0);
    text[length] = 0;
    return type;
}

/* The worker sends a message in a session. */
static inline bool bench_reply(struct bench *b, const struct flow *session, const char *text)
{
    struct worker_io io = security_io(b->security);
    struct outgoing out;

    if (!io.alloc(io.context, session, &out))
        return false;
    memcpy(out.data, text, strlen(text));
    io.send(io.context, session, &out, (uint16_t)strlen(text));
    return true;
}

static inline void bench_advance(struct bench *b, uint64_t us)
{
    b->now += us;
    wheel_advance(&b->wheel, b->now, 1000);
    security_advance(b->security, b->now);
}

#endif
