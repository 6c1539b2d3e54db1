/* A worker between clients and origins of a test: messages with any options, bodies in blocks, and
 * an origin that is played by hand. Beside tests/unit/worker_harness.h. */
#ifndef COAPGW_TESTS_UNIT_PROXY_HARNESS_H
#define COAPGW_TESTS_UNIT_PROXY_HARNESS_H

#include "gateway/coap/block.h"
#include "tests/unit/worker_harness.h"

#define BODY_MAX 70000

/* A message in the making; `options` in ascending order. The path goes before what has a higher
 * number. */
struct mold {
    enum message_type type;
    uint8_t code;
    uint16_t mid;
    const uint8_t *token;
    size_t token_length;
    const char *path; /* "a/b", NULL: none */
    const struct addition *options;
    unsigned option_count;
    const void *payload;
    size_t payload_length;
};

#define OPTIONS_OF(...)                                \
    .options = (const struct addition[]){__VA_ARGS__}, \
    .option_count = sizeof((const struct addition[]){__VA_ARGS__}) / sizeof(struct addition)

static inline struct addition block_option(uint16_t number, uint32_t block, bool more, uint8_t szx)
{
    struct block b = {.number = block, .more = more, .szx = szx};

    return addition_uint(number, block_encode(&b));
}

static inline struct addition text_option(uint16_t number, const char *text)
{
    return addition_bytes(number, text, (uint16_t)strlen(text));
}

static inline size_t mold_write(const struct mold *m, uint8_t out[1500])
{
    uint8_t path[512];
    struct encoder p = {.data = path, .room = sizeof(path)}, e;

    for (const char *at = m->path; at && *at;) {
        size_t length = strcspn(at, "/");

        encoder_option(&p, OPTION_URI_PATH, at, length);
        at += length + (at[length] == '/');
    }
    encoder_begin(&e, out, 1472, m->type, m->code, m->mid, m->token, m->token_length);
    encoder_merge(&e, path, encoder_end(&p), m->options, m->option_count);
    encoder_payload(&e, m->payload, m->payload_length);
    assert_true(encoder_end(&e) > 0);
    return encoder_end(&e);
}

static inline void give_mold(struct harness *h, const struct flow *flow, const struct mold *m)
{
    uint8_t bytes[1500];

    harness_give(h, flow, bytes, mold_write(m, bytes));
}

/* What a client sends; token and message ID are its number and a counter unless they are given. */
static inline uint16_t client_sends(struct harness *h, unsigned client, const struct mold *mold)
{
    static uint16_t mids = 0x100;
    struct flow flow = harness_client(h, client);
    uint8_t token = (uint8_t)client;
    struct mold m = *mold;

    if (!m.token) {
        m.token = &token;
        m.token_length = 1;
    }
    if (!m.mid)
        m.mid = ++mids;
    give_mold(h, &flow, &m);
    return m.mid;
}

#define CLIENT(h, client, ...) client_sends(h, client, &(const struct mold){__VA_ARGS__})

/* What the origin answers to a request of the gateway's: with its token, piggybacked unless a type
 * and an ID are given. */
static inline void origin_answers(struct harness *h, const struct sent *request,
                                  const struct mold *mold)
{
    struct sent kept = *request;
    struct mold m = *mold;
    struct message asked;

    assert_int_equal(message_parse(kept.data, kept.length, &asked), VERDICT_OK);
    if (!m.mid) {
        m.type = TYPE_ACK;
        m.mid = asked.mid;
    }
    m.token = asked.token;
    m.token_length = asked.token_length;
    give_mold(h, &kept.flow, &m);
}

#define ORIGIN(h, request, ...) origin_answers(h, request, &(const struct mold){__VA_ARGS__})

/* The bytes of a test body: no two blocks are alike. */
static inline void body_fill(uint8_t *body, size_t length, unsigned version)
{
    for (size_t i = 0; i < length; i++)
        body[i] = (uint8_t)(i * 7 + (i >> 4) * 13 + (i >> 10) * 29 + version * 101);
}

static inline bool is_to_origin(const struct sent *s)
{
    return s->flow.peer_port == 5683;
}

/* The next datagram, which goes to an origin. */
static inline struct sent *expect_at_origin(struct harness *h, struct message *m)
{
    struct sent *s = harness_expect(h, m);

    assert_true(is_to_origin(s));
    return s;
}

/* The next datagram, which goes to this client and has this code. */
static inline struct sent *expect_at_client(struct harness *h, unsigned client, uint8_t code,
                                            struct message *m)
{
    struct flow flow = harness_client(h, client);
    struct sent *s = harness_expect(h, m);

    assert_true(flow_equal(&s->flow, &flow));
    assert_int_equal(m->code, code);
    return s;
}

#define NO_OPTION UINT32_MAX

static inline uint32_t option_of(const struct message *m, enum option_slot slot)
{
    return message_uint(m, slot, NO_OPTION);
}

/* Asserts the value of a block option. */
static inline void assert_block(const struct message *m, enum option_slot slot, uint32_t number,
                                bool more, uint8_t szx)
{
    struct block b = {.number = number, .more = more, .szx = szx};

    assert_int_equal(option_of(m, slot), block_encode(&b));
}

static inline void assert_payload(const struct message *m, const void *bytes, size_t length)
{
    assert_int_equal(m->payload_length, length);
    if (length)
        assert_memory_equal(m->payload, bytes, length);
}

static inline struct worker_usage usage_of(const struct harness *h)
{
    struct worker_usage u;

    worker_usage(h->worker, &u);
    return u;
}

/* After the cache and the transfers have had their time: nothing is assembled or pinned. */
static inline void nothing_is_kept(struct harness *h)
{
    struct worker_usage u;

    harness_nothing_left(h);
    h->taken = h->count;
    u = usage_of(h);
    assert_int_equal(u.transfers, 0);
    assert_int_equal(u.relations, 0);
    assert_int_equal(u.observations, 0);
    assert_int_equal(u.assembly_bytes, 0);
}

#endif
