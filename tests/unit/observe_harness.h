/* Clients that observe and origins that are observed, around one worker. */
#ifndef COAPGW_TESTS_UNIT_OBSERVE_HARNESS_H
#define COAPGW_TESTS_UNIT_OBSERVE_HARNESS_H

#include "gateway/coap/block.h"
#include "tests/unit/worker_harness.h"

#define OBSERVE_YAML                                                \
    "instance: unit\n"                                              \
    "interfaces:\n"                                                 \
    "  - name: south\n"                                             \
    "    device: tap:unit0\n"                                       \
    "    addresses: [10.99.0.2/24]\n"                               \
    "listeners:\n"                                                  \
    "  - uri: coap://10.99.0.2\n"                                   \
    "upstreams:\n"                                                  \
    "  - name: origin\n"                                            \
    "    servers: [coap://10.99.0.1:5683]\n"                        \
    "    transmission: {nstart: 4}\n"                               \
    "  - name: pair\n"                                              \
    "    servers: [coap://10.99.0.4:5683, coap://10.99.0.5:5683]\n" \
    "    retries: 0\n"                                              \
    "    transmission: {nstart: 4}\n"                               \
    "routes:\n"                                                     \
    "  - {path: /, to: origin}\n"                                   \
    "  - {path: /pair, to: pair}\n"

#define NO_OBSERVE (-1)

/* What an origin says. All zero: 2.05 without options and payload. */
struct say {
    uint8_t code;
    bool observed;
    uint32_t number;  /* Observe */
    uint32_t max_age; /* 0: none */
    const char *etag, *payload;
    size_t length; /* 0: of the string */
    bool in_blocks;
    struct block block;
};

/* A registration as the origin has it. */
struct registered {
    struct flow flow;
    uint8_t token[8];
    uint16_t mid;
};

static inline void observe_start(void **state, const char *yaml)
{
    struct harness *h = malloc(sizeof(*h));

    harness_start(h, yaml);
    *state = h;
}

/* Goes on without looking at what is sent. */
static inline void observe_skip(struct harness *h, unsigned seconds)
{
    for (unsigned at = 0; at < seconds; at += 10) {
        harness_advance(h, 10 * SECOND_US);
        h->count = h->taken = 0;
    }
}

/* The origins are silent from now on, and so are the clients: all has to end. */
static inline void observe_end(struct harness *h)
{
    struct worker_usage u;

    observe_skip(h, 4000);
    worker_usage(h->worker, &u);
    assert_int_equal(u.relations, 0);
    assert_int_equal(u.observations, 0);
    assert_int_equal(u.transfers, 0);
    harness_nothing_left(h);
    harness_stop(h);
    free(h);
}

static inline struct worker_usage observe_usage(struct harness *h)
{
    struct worker_usage u;

    worker_usage(h->worker, &u);
    return u;
}

/* ---- clients ---- */

/* Options of a client's request besides its path. */
struct ask {
    int observe; /* NO_OBSERVE, 0, 1 */
    const char *etag;
    bool in_blocks;
    struct block block;
    const char *payload; /* makes it a FETCH */
    size_t token_length; /* 0: one byte */
};

static inline void client_send(struct harness *h, unsigned n, enum message_type type, uint16_t mid,
                               uint8_t token, const char *path, const struct ask *ask)
{
    uint8_t bytes[1500], long_token[64];
    struct flow flow = harness_client(h, n);
    struct encoder e;

    memset(long_token, token, sizeof(long_token));
    encoder_begin(&e, bytes, 1400, type, ask->payload ? CODE_FETCH : CODE_GET, mid, long_token,
                  ask->token_length ? ask->token_length : 1);
    if (ask->etag)
        encoder_option(&e, OPTION_ETAG, ask->etag, strlen(ask->etag));
    if (ask->observe != NO_OBSERVE)
        encoder_uint(&e, OPTION_OBSERVE, (uint32_t)ask->observe);
    while (*path) {
        size_t length = strcspn(path, "/");

        encoder_option(&e, OPTION_URI_PATH, path, length);
        path += length + (path[length] == '/');
    }
    if (ask->in_blocks)
        encoder_uint(&e, OPTION_BLOCK2, block_encode(&ask->block));
    if (ask->payload)
        encoder_payload(&e, ask->payload, strlen(ask->payload));
    assert_true(encoder_end(&e) > 0);
    harness_give(h, &flow, bytes, encoder_end(&e));
}

static inline void client_observe(struct harness *h, unsigned n, uint16_t mid, uint8_t token,
                                  const char *path, int observe)
{
    const struct ask ask = {.observe = observe};

    client_send(h, n, TYPE_CON, mid, token, path, &ask);
}

static inline void client_empty(struct harness *h, unsigned n, enum message_type type, uint16_t mid)
{
    uint8_t bytes[4];
    struct flow flow = harness_client(h, n);

    message_write_empty(bytes, type, mid);
    harness_give(h, &flow, bytes, sizeof(bytes));
}

/* The next message goes to client n. */
static inline struct sent *client_expect(struct harness *h, unsigned n, struct message *m)
{
    struct sent *s = harness_expect(h, m);
    struct flow flow = harness_client(h, n);

    assert_int_equal(s->flow.peer_port, flow.peer_port);
    assert_true(flow_equal(&s->flow, &flow));
    return s;
}

/* A notification, or the answer to a registration. Its Observe number; negative: it has none. */
static inline int64_t expect_state(struct harness *h, unsigned n, int type, const char *payload,
                                   struct message *m)
{
    struct message other;

    m = m ? m : &other;
    client_expect(h, n, m);
    assert_int_equal(m->type, type);
    assert_int_equal(m->code, CODE_CONTENT);
    assert_int_equal(m->payload_length, strlen(payload));
    assert_memory_equal(m->payload, payload, strlen(payload));
    return message_has(m, SLOT_OBSERVE) ? (int64_t)message_uint(m, SLOT_OBSERVE, 0) : -1;
}

/* RFC 7641 3.4, without the clock. */
static inline void assert_newer(int64_t number, int64_t than)
{
    assert_true(number >= 0 && than >= 0);
    assert_in_range((number - than) & 0xffffff, 1, 0x7fffff);
}

/* ---- origins ---- */

static inline size_t say_encode(uint8_t bytes[1500], const struct say *say, enum message_type type,
                                uint16_t mid, const uint8_t *token, size_t token_length)
{
    size_t length = say->payload ? say->length ? say->length : strlen(say->payload) : 0;
    struct encoder e;

    encoder_begin(&e, bytes, 1500, type, say->code ? say->code : CODE_CONTENT, mid, token,
                  token_length);
    if (say->etag)
        encoder_option(&e, OPTION_ETAG, say->etag, strlen(say->etag));
    if (say->observed)
        encoder_uint(&e, OPTION_OBSERVE, say->number);
    if (say->max_age)
        encoder_uint(&e, OPTION_MAX_AGE, say->max_age);
    if (say->in_blocks)
        encoder_uint(&e, OPTION_BLOCK2, block_encode(&say->block));
    encoder_payload(&e, say->payload, length);
    assert_true(encoder_end(&e) > 0);
    return encoder_end(&e);
}

/* The next message is a request to an origin. */
static inline struct sent *origin_expect(struct harness *h, struct message *m)
{
    struct sent *s = harness_expect(h, m);

    assert_int_equal(s->flow.peer_port, 5683);
    assert_true(code_is_request(m->code));
    return s;
}

static inline void origin_answer(struct harness *h, const struct sent *request,
                                 enum message_type type, uint16_t mid, const struct say *say)
{
    uint8_t bytes[1500];
    struct message m;

    assert_int_equal(message_parse(request->data, request->length, &m), VERDICT_OK);
    harness_give(
        h, &request->flow, bytes,
        say_encode(bytes, say, type, type == TYPE_ACK ? m.mid : mid, m.token, m.token_length));
}

/* Expects a registration at an origin, which has Observe = 0. */
static inline struct sent *origin_registration(struct harness *h, struct registered *r)
{
    struct message m;
    struct sent *s = origin_expect(h, &m);

    assert_true(message_has(&m, SLOT_OBSERVE));
    assert_int_equal(message_uint(&m, SLOT_OBSERVE, 9), 0);
    assert_int_equal(m.token_length, 8);
    if (r) {
        r->flow = s->flow;
        r->mid = m.mid;
        memcpy(r->token, m.token, 8);
    }
    return s;
}

static inline void origin_notify(struct harness *h, const struct registered *r,
                                 enum message_type type, uint16_t mid, const struct say *say)
{
    uint8_t bytes[1500];

    harness_give(h, &r->flow, bytes, say_encode(bytes, say, type, mid, r->token, 8));
    harness_advance(h, 2000); /* the fan-out is done in the next turn */
}

/* A new state in a NON notification, which gets no answer. */
static inline void origin_state(struct harness *h, const struct registered *r, uint32_t number,
                                const char *payload)
{
    const struct say say = {.observed = true, .number = number, .payload = payload};

    origin_notify(h, r, TYPE_NON, (uint16_t)(0x4000 + number), &say);
}

/* Client n registers, with its number as the token, and the origin accepts. */
static inline int64_t observe_begin(struct harness *h, unsigned n, const char *path,
                                    const char *payload, struct registered *r)
{
    const struct say say = {.observed = true, .number = 1, .payload = payload};
    struct sent *request;

    client_observe(h, n, 1, (uint8_t)n, path, 0);
    request = origin_registration(h, r);
    origin_answer(h, request, TYPE_ACK, 0, &say);
    return expect_state(h, n, TYPE_ACK, payload, NULL);
}

/* Client n joins an observation whose state is known. */
static inline int64_t observe_join(struct harness *h, unsigned n, const char *path,
                                   const char *payload)
{
    int64_t number;

    client_observe(h, n, 1, (uint8_t)n, path, 0);
    number = expect_state(h, n, TYPE_ACK, payload, NULL);
    assert_true(number >= 0);
    return number;
}

/* Expects an observation to be cancelled with the registration's token, and lets the origin answer.
 */
static inline void origin_cancelled(struct harness *h, const struct registered *r)
{
    const struct say say = {.payload = "bye"};
    uint32_t before = observe_usage(h).observations;
    struct message m;
    struct sent *s = origin_expect(h, &m);

    assert_int_equal(message_uint(&m, SLOT_OBSERVE, 9), 1);
    assert_int_equal(m.token_length, 8);
    assert_memory_equal(m.token, r->token, 8);
    assert_true(flow_equal(&s->flow, &r->flow));
    origin_answer(h, s, TYPE_ACK, 0, &say);
    assert_int_equal(observe_usage(h).observations, before - 1);
}

#endif
