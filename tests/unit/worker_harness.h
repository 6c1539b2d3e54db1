/* One worker in the hands of a unit test: datagrams in, a list of datagrams out, time by hand. */
#ifndef COAPGW_TESTS_UNIT_WORKER_HARNESS_H
#define COAPGW_TESTS_UNIT_WORKER_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <rte_eal.h>

#include "config/config.h"
#include "gateway/coap/message.h"
#include "gateway/worker.h"

#define SENT_MAX  4096
#define TOLD_MAX  1024
#define SECOND_US 1000000ull

struct sent {
    struct flow flow;
    uint16_t length;
    uint64_t at_us;
    uint8_t data[1500];
};

struct harness {
    struct config *config;
    struct worker *worker;
    uint64_t now;
    struct sent *sent;
    unsigned count, taken;
    unsigned open_buffers;
    bool no_buffers;  /* alloc fails */
    unsigned changes; /* told to other workers */
    uint64_t changed_uri;
    /* Parcels that the worker has given away, in order; NULL: there is nobody to give them to. */
    struct rte_mempool *parcels;
    struct parcel *told[TOLD_MAX];
    unsigned told_to[TOLD_MAX];
    unsigned told_count, told_taken;
    bool deaf; /* nobody takes any */
    uint8_t buffer[1500];
};

static inline void harness_eal(void)
{
    static char program[] = "unit", no_huge[] = "--no-huge", m[] = "-m", size[] = "256",
                no_shconf[] = "--no-shconf", no_pci[] = "--no-pci", quiet[] = "--log-level=3",
                telemetry[] = "--no-telemetry", prefix[32];
    char *argv[] = {program, no_huge, m, size, no_shconf, no_pci, quiet, telemetry, prefix, NULL};

    snprintf(prefix, sizeof(prefix), "--file-prefix=u%d", (int)getpid());
    assert_true(rte_eal_init(9, argv) >= 0);
    rmdir(rte_eal_get_runtime_dir()); /* empty, and made for each process */
}

static inline bool harness_alloc(void *context, const struct flow *flow, struct outgoing *out)
{
    struct harness *h = context;

    if (h->no_buffers)
        return false;
    assert_int_equal(h->open_buffers, 0); /* one at a time: sent or cancelled before the next */
    h->open_buffers++;
    out->data = h->buffer;
    out->room =
        (uint16_t)(h->config->locals[flow->local].mtu - (address_is_v4(&flow->peer) ? 28 : 48));
    out->buffer = h;
    return true;
}

static inline void harness_send(void *context, const struct flow *flow, struct outgoing *out,
                                uint16_t length)
{
    struct harness *h = context;
    struct sent *s = &h->sent[h->count++];
    struct message m;

    assert_true(h->count < SENT_MAX);
    h->open_buffers--;
    s->flow = *flow;
    s->length = length;
    s->at_us = h->now;
    memcpy(s->data, out->data, length);
    assert_int_equal(message_parse(s->data, length, &m), VERDICT_OK);
}

static inline void harness_cancel(void *context, struct outgoing *out)
{
    struct harness *h = context;

    (void)out;
    h->open_buffers--;
}

static inline uint16_t harness_port(void *context, uint16_t local, const struct endpoint *server,
                                    unsigned n)
{
    const struct harness *h = context;

    (void)local;
    (void)server;
    return n < (1u << h->config->upstream_port_shift)
               ? (uint16_t)(h->config->upstream_port_base + n)
               : 0;
}

static inline void harness_changed(void *context, uint64_t uri)
{
    struct harness *h = context;

    h->changes++;
    h->changed_uri = uri;
}

static inline bool harness_tell(void *context, unsigned to, struct parcel *parcel)
{
    struct harness *h = context;

    if (h->deaf || h->told_count == TOLD_MAX)
        return false;
    h->told_to[h->told_count] = to;
    h->told[h->told_count++] = parcel;
    return true;
}

static inline unsigned harness_room(void *context, unsigned to)
{
    const struct harness *h = context;

    (void)to;
    return h->deaf ? 0 : TOLD_MAX - h->told_count;
}

typedef bool harness_resolve(void *context, const char *name, size_t length, uint32_t id);

/* `resolve` is worker_io's, NULL: there is no resolver. Its context is `h`. `parcels`: NULL, or a
 * pool, and what the worker gives away is kept in h->told. `prepare` may change the rest of what
 * the worker is made with; NULL: nothing. */
static inline void harness_start_prepared(struct harness *h, const char *yaml,
                                          harness_resolve *resolve, struct rte_mempool *parcels,
                                          void (*prepare)(struct worker_setup *setup))
{
    struct worker_setup setup = {.index = 0, .count = 1, .seed = {1, 2, 3, 4, 5}};

    memset(h, 0, sizeof(*h));
    h->now = 1000 * SECOND_US;
    h->parcels = parcels;
    h->sent = calloc(SENT_MAX, sizeof(*h->sent));
    h->config = config_load_text("test.yaml", yaml, strlen(yaml), stderr);
    assert_non_null(h->config);
    setup.config = h->config;
    setup.io = (struct worker_io){.context = h,
                                  .alloc = harness_alloc,
                                  .send = harness_send,
                                  .cancel = harness_cancel,
                                  .upstream_port = harness_port,
                                  .changed = harness_changed,
                                  .resolve = resolve,
                                  .tell = parcels ? harness_tell : NULL,
                                  .room = parcels ? harness_room : NULL,
                                  .parcels = parcels};
    if (prepare)
        prepare(&setup);
    h->worker = worker_create(&setup, h->now);
    assert_non_null(h->worker);
}

static inline void harness_start_full(struct harness *h, const char *yaml, harness_resolve *resolve,
                                      struct rte_mempool *parcels)
{
    harness_start_prepared(h, yaml, resolve, parcels, NULL);
}

static inline void harness_start_with(struct harness *h, const char *yaml, harness_resolve *resolve)
{
    harness_start_full(h, yaml, resolve, NULL);
}

static inline void harness_start(struct harness *h, const char *yaml)
{
    harness_start_with(h, yaml, NULL);
}

static inline void harness_stop(struct harness *h)
{
    const unsigned sent = h->count, told = h->told_count;

    assert_int_equal(h->open_buffers, 0);
    worker_destroy(h->worker); /* sends nothing, and tells nobody */
    assert_int_equal(h->count, sent);
    assert_int_equal(h->told_count, told);
    for (unsigned i = h->told_taken; i < h->told_count; i++)
        parcel_free(h->parcels, h->told[i]);
    config_free(h->config);
    free(h->sent);
}

/* Time goes on in steps of a millisecond where something is due. */
static inline void harness_advance(struct harness *h, uint64_t us)
{
    uint64_t end = h->now + us;

    while (h->now < end) {
        uint64_t next = worker_next_us(h->worker);

        h->now = next > h->now && next < end ? next : next <= h->now ? h->now + 1000 : end;
        if (h->now > end)
            h->now = end;
        worker_advance(h->worker, h->now);
    }
}

static inline void harness_give(struct harness *h, const struct flow *flow, const void *data,
                                size_t length)
{
    struct datagram d = {.data = data, .length = (uint16_t)length, .flow = *flow};

    worker_receive(h->worker, &d, 1, h->now);
}

/* The next datagram that was sent, NULL when there is none. */
static inline struct sent *harness_take(struct harness *h)
{
    return h->taken < h->count ? &h->sent[h->taken++] : NULL;
}

static inline struct sent *harness_expect(struct harness *h, struct message *m)
{
    struct sent *s = harness_take(h);

    assert_non_null(s);
    assert_int_equal(message_parse(s->data, s->length, m), VERDICT_OK);
    return s;
}

#define harness_silent(h) assert_null(harness_take(h))

static inline struct flow harness_client(struct harness *h, unsigned n)
{
    struct endpoint peer;
    const struct config_listener *l = &h->config->listeners[0];

    assert_int_equal(address_parse("10.99.0.77", &peer.address), 0);
    peer.port = (uint16_t)(20000 + n);
    return flow_make(l->local, l->port, &peer, TRANSPORT_UDP);
}

/* A request: type, method, ID, one-byte token, path like "a/b". Returns its length. */
static inline size_t harness_request(uint8_t out[1500], enum message_type type, uint8_t code,
                                     uint16_t mid, uint8_t token, const char *path,
                                     const char *payload)
{
    struct encoder e;

    encoder_begin(&e, out, 1400, type, code, mid, &token, 1);
    while (path && *path) {
        size_t length = strcspn(path, "/");

        encoder_option(&e, OPTION_URI_PATH, path, length);
        path += length + (path[length] == '/');
    }
    if (payload)
        encoder_payload(&e, payload, strlen(payload));
    assert_true(encoder_end(&e) > 0);
    return encoder_end(&e);
}

/* A message without options: an answer from an origin or a client. */
static inline size_t harness_message(uint8_t out[1500], enum message_type type, uint8_t code,
                                     uint16_t mid, const uint8_t *token, size_t token_length,
                                     const char *payload)
{
    struct encoder e;

    encoder_begin(&e, out, 1400, type, code, mid, token, token_length);
    if (payload)
        encoder_payload(&e, payload, strlen(payload));
    assert_true(encoder_end(&e) > 0);
    return encoder_end(&e);
}

/* After all that can end has ended, nothing may be left. */
static inline void harness_nothing_left(struct harness *h)
{
    struct worker_usage u;

    harness_advance(h, 2000 * SECOND_US);
    worker_usage(h->worker, &u);
    assert_int_equal(u.sessions, 0);
    assert_int_equal(u.exchanges, 0);
    assert_int_equal(u.forwards, 0);
    assert_int_equal(u.outbound, 0);
    assert_int_equal(u.remembered, 0);
    assert_int_equal(u.chunks, 0);
    assert_int_equal(u.timers, 0);
}

#endif
