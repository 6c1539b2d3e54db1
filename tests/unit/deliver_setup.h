/* What the tests of delivery begin with. Beside tests/unit/blockwise_harness.h. */
#ifndef COAPGW_TESTS_UNIT_DELIVER_SETUP_H
#define COAPGW_TESTS_UNIT_DELIVER_SETUP_H

#include "tests/unit/blockwise_harness.h"

#define COMMON(limits, cache)                                                   \
    "instance: unit\n"                                                          \
    "interfaces:\n"                                                             \
    "  - name: south\n"                                                         \
    "    device: tap:unit0\n"                                                   \
    "    addresses: [10.99.0.2/24]\n"                                           \
    "listeners:\n"                                                              \
    "  - uri: coap://10.99.0.2\n"                                               \
    "upstreams:\n"                                                              \
    "  - name: origin\n"                                                        \
    "    servers: [coap://10.99.0.1:5683]\n"                                    \
    "    transmission: {nstart: 64}\n"                                          \
    "  - name: pair\n"                                                          \
    "    servers: [coap://10.99.0.4:5683, coap://10.99.0.5:5683]\n"             \
    "    transmission: {nstart: 64}\n"                                          \
    "  - name: narrow\n"                                                        \
    "    servers: [coap://10.99.0.6:5683]\n"                                    \
    "    block_size: 128B\n"                                                    \
    "routes:\n"                                                                 \
    "  - {path: /, to: origin}\n"                                               \
    "  - {path: /pair, to: pair}\n"                                             \
    "  - {path: /narrow, to: narrow}\n"                                         \
    "  - {path: /p/q, to: origin, strip: true}\n"                               \
    "cache: {" cache "}\n"                                                      \
    "limits: {sessions: 512, exchanges: 512, outbound: 512, remembered: 4096, " \
    "token: 1024, message_memory: 4MiB" limits "}\n"

static const char plain[] = COMMON(", amplification: 0", "size: 1MiB");
static const char careful[] = COMMON("", "size: 1MiB");
static const char lenient[] = COMMON(", amplification: 0", "size: 1MiB, stale_if_error: 30s");
static const char no_queue[] = COMMON(", amplification: 0, queue: 0", "size: 1MiB");

static uint8_t body[BODY_MAX];

static inline int start(void **state, const char *yaml)
{
    struct harness *h = malloc(sizeof(*h));

    body_fill(body, sizeof(body), 1);
    harness_start(h, yaml);
    *state = h;
    return 0;
}

static inline int setup(void **state)
{
    return start(state, plain);
}

static inline int setup_careful(void **state)
{
    return start(state, careful);
}

static inline int setup_lenient(void **state)
{
    return start(state, lenient);
}

static inline int setup_no_queue(void **state)
{
    return start(state, no_queue);
}

static inline int teardown(void **state)
{
    struct harness *h = *state;

    nothing_is_kept(h);
    harness_stop(h);
    free(h);
    return 0;
}

/* A server that was lost answers its ping: it is not pinged any more. */
static inline void come_back(struct harness *h)
{
    uint8_t bytes[1500];
    struct message m;
    struct sent *s;

    harness_advance(h, 6 * SECOND_US);
    while ((s = harness_take(h)))
        if (is_to_origin(s) && message_parse(s->data, s->length, &m) == VERDICT_OK &&
            m.code == CODE_EMPTY && m.type == TYPE_CON) {
            struct flow flow = s->flow;

            harness_give(h, &flow, bytes,
                         harness_message(bytes, TYPE_RST, CODE_EMPTY, m.mid, NULL, 0, NULL));
        }
}

#define TEST(name, with) cmocka_unit_test_setup_teardown(name, with, teardown)

#endif
