/* Steps of tests that play the clients and the origins of one worker: requests and answers with any
 * options, and what must come out. */
#ifndef COAPGW_TESTS_UNIT_PROXY_STEPS_H
#define COAPGW_TESTS_UNIT_PROXY_STEPS_H

#include "tests/unit/worker_harness.h"

/* A gateway with two origins, the rest of the line behind `cache:` and more limits. */
#define ORIGINS_YAML(cache, limits)                                                   \
    "instance: unit\n"                                                                \
    "interfaces:\n"                                                                   \
    "  - name: south\n"                                                               \
    "    device: tap:unit0\n"                                                         \
    "    addresses: [10.99.0.2/24]\n"                                                 \
    "listeners: [{uri: coap://10.99.0.2}]\n"                                          \
    "upstreams:\n"                                                                    \
    "  - name: origin\n"                                                              \
    "    servers: [coap://10.99.0.1]\n"                                               \
    "    transmission: {nstart: 16}\n"                                                \
    "  - name: other\n"                                                               \
    "    servers: [coap://10.99.0.3]\n"                                               \
    "routes:\n"                                                                       \
    "  - {path: /, to: origin}\n"                                                     \
    "  - {path: /other, to: other}\n"                                                 \
    "  - {path: /s/t, to: origin, strip: true}\n"                                     \
    "cache: " cache "\n"                                                              \
    "limits: {sessions: 64, exchanges: 32, outbound: 32, queue: 8, remembered: 256, " \
    "message_memory: 64KiB, assembly_memory: 1MiB, body: 64KiB, amplification: 0" limits "}\n"

static inline int start(void **state, const char *yaml)
{
    struct harness *h = malloc(sizeof(*h));

    harness_start(h, yaml);
    *state = h;
    return 0;
}

/* Nothing may be left but what is cached, and the cache is what is counted. */
static inline int finish(void **state)
{
    struct harness *h = *state;
    struct worker_usage usage;

    harness_nothing_left(h);
    worker_usage(h->worker, &usage);
    assert_int_equal(usage.assembly_bytes, 0);
    assert_int_equal(usage.transfers, 0);
    assert_int_equal(usage.observations, 0);
    assert_int_equal(usage.relations, 0);
    harness_stop(h);
    free(h);
    return 0;
}

/* An option of a message. A list of them is in order, and ends with number 0. */
struct opt {
    uint16_t number;
    const void *value; /* NULL: `uint` is meant */
    size_t length;
    uint32_t uint;
};

#define TEXT(option, text)                    \
    {                                         \
        (option), (text), sizeof(text) - 1, 0 \
    }
#define BYTES(option, bytes, length_)   \
    {                                   \
        (option), (bytes), (length_), 0 \
    }
#define UINT(option, value_)        \
    {                               \
        (option), NULL, 0, (value_) \
    }
#define PATH(text)   TEXT(OPTION_URI_PATH, text)
#define OPTIONS(...) ((const struct opt[]){__VA_ARGS__, {0, NULL, 0, 0}})
#define NO_OPTIONS   ((const struct opt[]){{0, NULL, 0, 0}})

static inline void put_options(struct encoder *e, const struct opt *options)
{
    for (; options && options->number; options++) {
        if (options->value)
            encoder_option(e, options->number, options->value, options->length);
        else
            encoder_uint(e, options->number, options->uint);
    }
}

/* Client n sends a request; its token is its number and the message ID. */
static inline void ask_typed(struct harness *h, unsigned n, enum message_type type, uint16_t mid,
                             uint8_t code, const struct opt *options, const char *payload)
{
    uint8_t bytes[1500], token[3] = {(uint8_t)n, (uint8_t)(mid >> 8), (uint8_t)mid};
    struct flow flow = harness_client(h, n);
    struct encoder e;

    encoder_begin(&e, bytes, sizeof(bytes), type, code, mid, token, sizeof(token));
    put_options(&e, options);
    if (payload)
        encoder_payload(&e, payload, strlen(payload));
    assert_true(encoder_end(&e) > 0);
    harness_give(h, &flow, bytes, encoder_end(&e));
}

static inline void ask_with(struct harness *h, unsigned n, uint16_t mid, uint8_t code,
                            const struct opt *options, const char *payload)
{
    ask_typed(h, n, TYPE_CON, mid, code, options, payload);
}

static inline void get(struct harness *h, unsigned n, uint16_t mid, const char *path)
{
    const struct opt options[] = {{OPTION_URI_PATH, path, strlen(path), 0}, {0, NULL, 0, 0}};

    ask_with(h, n, mid, CODE_GET, options, NULL);
}

static inline bool is_to_client(const struct harness *h, const struct sent *s)
{
    return s->flow.local_port == h->config->listeners[0].port;
}

/* The next datagram goes to an origin. A copy, as the list of what was sent may move on. */
static inline struct sent expect_upstream(struct harness *h, struct message *m)
{
    struct sent *s = harness_expect(h, m);

    assert_false(is_to_client(h, s));
    return *s;
}

/* The next datagram goes to client n, with a code. */
static inline struct sent expect_client(struct harness *h, unsigned n, uint8_t code,
                                        struct message *m)
{
    struct sent *s = harness_expect(h, m);
    struct flow client = harness_client(h, n);

    assert_true(flow_equal(&s->flow, &client));
    assert_int_equal(m->code, code);
    return *s;
}

static inline void assert_payload(const struct message *m, const char *payload)
{
    assert_int_equal(m->payload_length, strlen(payload));
    assert_memory_equal(m->payload, payload, strlen(payload));
}

/* An origin answers what it got: in the ACK of a CON, with a NON to a NON. */
static inline void answer_with(struct harness *h, const struct sent *request, uint8_t code,
                               const struct opt *options, const char *payload)
{
    static uint16_t mid = 0x6000;
    uint8_t bytes[1500];
    struct message m;
    struct encoder e;

    assert_int_equal(message_parse(request->data, request->length, &m), VERDICT_OK);
    encoder_begin(&e, bytes, sizeof(bytes), m.type == TYPE_CON ? TYPE_ACK : TYPE_NON, code,
                  m.type == TYPE_CON ? m.mid : mid++, m.token, m.token_length);
    put_options(&e, options);
    if (payload)
        encoder_payload(&e, payload, strlen(payload));
    assert_true(encoder_end(&e) > 0);
    harness_give(h, &request->flow, bytes, encoder_end(&e));
}

/* An Empty message of a peer. */
static inline void give_empty(struct harness *h, const struct flow *flow, enum message_type type,
                              uint16_t mid)
{
    uint8_t bytes[4];

    message_write_empty(bytes, type, mid);
    harness_give(h, flow, bytes, sizeof(bytes));
}

/* An ICMP error about a datagram of ours. */
static inline void unreachable(struct harness *h, const struct sent *s)
{
    worker_unreachable(h->worker, &s->flow, s->data, s->length, h->now);
}

/* Client n asks, the origin is asked and answers, and the client gets it. */
static inline void fetch_through(struct harness *h, unsigned n, uint16_t mid,
                                 const struct opt *request, const struct opt *answer,
                                 const char *payload)
{
    struct message m;
    struct sent out;

    ask_with(h, n, mid, CODE_GET, request, NULL);
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CONTENT, answer, payload);
    expect_client(h, n, CODE_CONTENT, &m);
    assert_payload(&m, payload);
    harness_silent(h);
}

/* Client n asks and gets an answer at once. */
static inline void expect_hit(struct harness *h, unsigned n, uint16_t mid,
                              const struct opt *request, const char *payload)
{
    struct message m;

    ask_with(h, n, mid, CODE_GET, request, NULL);
    expect_client(h, n, CODE_CONTENT, &m);
    assert_payload(&m, payload);
    harness_silent(h);
}

/* What is sent from here on until all timers are done is of no interest. */
static inline void let_it_end(struct harness *h, uint64_t us)
{
    harness_advance(h, us);
    h->taken = h->count;
}

static inline uint64_t counter(const struct harness *h, size_t offset)
{
    uint64_t value;

    memcpy(&value, (const uint8_t *)worker_counters(h->worker) + offset, sizeof(value));
    return value;
}
#define COUNTER(h, name) counter(h, offsetof(struct counters, name))

/* The text of all options of one number, in order, with '|' in front of each. */
static inline const char *option_texts(const struct message *m, uint16_t number)
{
    static char text[4][1200];
    static unsigned turn;
    char *out = text[turn++ % 4];
    struct option_cursor cursor = option_cursor(m);
    struct option_view view;
    size_t n = 0;

    while (option_next(&cursor, &view)) {
        if (cursor.number != number)
            continue;
        assert_true(n + view.length + 2 < sizeof(text[0]));
        out[n++] = '|';
        memcpy(out + n, view.value, view.length);
        n += view.length;
    }
    out[n] = '\0';
    return out;
}

#endif
