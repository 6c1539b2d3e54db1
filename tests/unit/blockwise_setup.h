/* What the tests of bodies in blocks begin with: a worker with two upstreams, one of which takes
 * smaller blocks. Beside tests/unit/blockwise_harness.h. */
#ifndef COAPGW_TESTS_UNIT_BLOCKWISE_SETUP_H
#define COAPGW_TESTS_UNIT_BLOCKWISE_SETUP_H

#include "tests/unit/blockwise_harness.h"

#define COMMON                                                                            \
    "instance: unit\n"                                                                    \
    "interfaces:\n"                                                                       \
    "  - name: south\n"                                                                   \
    "    device: tap:unit0\n"                                                             \
    "    addresses: [10.99.0.2/24]\n"                                                     \
    "upstreams:\n"                                                                        \
    "  - name: origin\n"                                                                  \
    "    servers: [coap://10.99.0.1:5683]\n"                                              \
    "    transmission: {nstart: 16}\n"                                                    \
    "  - name: small\n"                                                                   \
    "    servers: [coap://10.99.0.3:5683]\n"                                              \
    "    block_size: 128B\n"                                                              \
    "    transmission: {nstart: 16}\n"                                                    \
    "routes:\n"                                                                           \
    "  - {path: /, to: origin}\n"                                                         \
    "  - {path: /s, to: small}\n"                                                         \
    "limits: {sessions: 64, exchanges: 64, outbound: 64, remembered: 4096, body: 64KiB, " \
    "assembly_memory: 256KiB, transfers: 64, amplification: 0, message_memory: 4MiB, "    \
    "client_requests: 8}\n"                                                               \
    "cache: {size: 256KiB}\n"                                                             \
    "listeners:\n"                                                                        \
    "  - uri: coap://10.99.0.2\n"

static const char plain[] = COMMON;
static const char blocks_of_128[] = COMMON "    block_size: 128B\n";

static uint8_t body[BODY_MAX];

static inline int setup(void **state)
{
    struct harness *h = malloc(sizeof(*h));

    body_fill(body, sizeof(body), 1);
    harness_start(h, plain);
    *state = h;
    return 0;
}

static inline int setup_128(void **state)
{
    struct harness *h = malloc(sizeof(*h));

    body_fill(body, sizeof(body), 1);
    harness_start(h, blocks_of_128);
    *state = h;
    return 0;
}

static inline int teardown(void **state)
{
    struct harness *h = *state;

    nothing_is_kept(h);
    harness_stop(h);
    free(h);
    return 0;
}

/* Behind header and token. */
static inline void assert_tail(const struct sent *s, unsigned token_length, const void *bytes,
                               size_t length)
{
    assert_true(s->length >= 4 + token_length + length);
    assert_memory_equal(s->data + 4 + token_length, bytes, length);
}

#define TEST(name)     cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_128(name) cmocka_unit_test_setup_teardown(name, setup_128, teardown)

#endif
