/* Options and codes at a worker as a server and as a proxy. Rows of tests/conformance.tsv that no
 * other test shows. */
#include "tests/unit/worker_harness.h"

static const char yaml[] = "instance: unit\n"
                           "interfaces:\n"
                           "  - name: south\n"
                           "    device: tap:unit0\n"
                           "    addresses: [10.99.0.2/24]\n"
                           "listeners:\n"
                           "  - uri: coap://10.99.0.2\n"
                           "upstreams:\n"
                           "  - name: origin\n"
                           "    servers: [coap://10.99.0.1:5683]\n"
                           "    transmission: {nstart: 8}\n"
                           "transmission: {default_leisure: 2s}\n"
                           "routes:\n"
                           "  - {path: /, to: origin}\n"
                           "limits: {sessions: 64, exchanges: 16, outbound: 16, remembered: 64, "
                           "message_memory: 64KiB, amplification: 0}\n";

static int setup(void **state)
{
    struct harness *h = malloc(sizeof(*h));

    harness_start(h, yaml);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct harness *h = *state;

    harness_nothing_left(h);
    harness_stop(h);
    free(h);
    return 0;
}

/* Options besides the path, in order; those below Uri-Path go in front of it. */
struct given {
    uint16_t number;
    const char *value;
    size_t length;
};

static void put_up_to(struct encoder *e, const struct given **at, unsigned *left, uint32_t number)
{
    for (; *left && (*at)->number < number; ++*at, --*left)
        encoder_option(e, (*at)->number, (*at)->value, (*at)->length);
}

static void ask(struct harness *h, unsigned client, enum message_type type, uint8_t code,
                const char *path, const struct given *options, unsigned count)
{
    static uint16_t mid = 100;
    struct flow flow = harness_client(h, client);
    uint8_t bytes[1500], token = (uint8_t)client;
    struct encoder e;

    encoder_begin(&e, bytes, 1400, type, code, ++mid, &token, 1);
    put_up_to(&e, &options, &count, OPTION_URI_PATH);
    encoder_option(&e, OPTION_URI_PATH, path, strlen(path));
    put_up_to(&e, &options, &count, UINT32_MAX);
    assert_true(encoder_end(&e) > 0);
    harness_give(h, &flow, bytes, encoder_end(&e));
}

#define GIVEN(...)                       \
    (const struct given[]){__VA_ARGS__}, \
        sizeof((const struct given[]){__VA_ARGS__}) / sizeof(struct given)

/* The next datagram is a request to the origin: a copy. */
static struct sent expect_request(struct harness *h, struct message *m)
{
    struct sent *s = harness_expect(h, m);

    assert_true(code_is_request(m->code));
    assert_int_equal(s->flow.peer_port, 5683);
    return *s;
}

static void expect_answer(struct harness *h, unsigned client, uint8_t code, struct message *m)
{
    struct flow flow = harness_client(h, client);
    struct sent *s = harness_expect(h, m);

    assert_true(flow_equal(&s->flow, &flow));
    assert_int_equal(m->code, code);
}

static void answer(struct harness *h, const struct sent *request, enum message_type type,
                   uint16_t mid, uint8_t code, const struct given *options, unsigned count,
                   const char *payload)
{
    uint8_t bytes[1500];
    struct message m;
    struct encoder e;

    assert_int_equal(message_parse(request->data, request->length, &m), VERDICT_OK);
    encoder_begin(&e, bytes, 1400, type, code, type == TYPE_ACK ? m.mid : mid, m.token,
                  m.token_length);
    put_up_to(&e, &options, &count, UINT32_MAX);
    if (payload)
        encoder_payload(&e, payload, strlen(payload));
    assert_true(encoder_end(&e) > 0);
    harness_give(h, &request->flow, bytes, encoder_end(&e));
}

/* RFC 7252 5.4.1: rejected as 4.2 says, by a Reset where there is a CON to be reset. */
static void a_response_that_is_not_understood_is_rejected(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent request;
    bool reset = false;

    ask(h, 1, TYPE_CON, CODE_GET, "x", NULL, 0);
    request = expect_request(h, &m);
    answer(h, &request, TYPE_CON, 0x4242, CODE_CONTENT, GIVEN({65003, "?", 1}), "x");
    for (unsigned i = 0; i < 2; i++) {
        const struct sent *s = harness_expect(h, &m);

        if (s->flow.peer_port == 5683) {
            assert_int_equal(m.type, TYPE_RST);
            assert_int_equal(m.mid, 0x4242);
            reset = true;
        } else {
            assert_int_equal(m.code, CODE_BAD_GATEWAY);
        }
    }
    assert_true(reset);
    harness_silent(h);
    answer(h, &request, TYPE_CON, 0x4242, CODE_CONTENT, GIVEN({65003, "?", 1}), "x");
    harness_expect(h, &m); /* it comes again: so does the Reset */
    assert_int_equal(m.type, TYPE_RST);

    ask(h, 1, TYPE_CON, CODE_GET, "y", NULL, 0);
    request = expect_request(h, &m);
    answer(h, &request, TYPE_ACK, 0, CODE_CONTENT, GIVEN({65003, "?", 1}), "x");
    expect_answer(h, 1, CODE_BAD_GATEWAY, &m);
    harness_advance(h, 60 * SECOND_US);
    harness_silent(h);
}

/* RFC 9177 4.1: both are critical and unsafe to forward. */
static void q_block_is_not_forwarded(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent request;

    ask(h, 1, TYPE_CON, CODE_PUT, "x", GIVEN({OPTION_Q_BLOCK1, "\x0e", 1}));
    expect_answer(h, 1, CODE_BAD_OPTION, &m);
    ask(h, 1, TYPE_CON, CODE_GET, "x", GIVEN({OPTION_Q_BLOCK2, "\x06", 1}));
    expect_answer(h, 1, CODE_BAD_OPTION, &m);
    harness_silent(h);
    ask(h, 1, TYPE_CON, CODE_GET, "x", NULL, 0);
    request = expect_request(h, &m);
    answer(h, &request, TYPE_ACK, 0, CODE_CONTENT, GIVEN({OPTION_Q_BLOCK2, "\x06", 1}), "x");
    expect_answer(h, 1, CODE_BAD_GATEWAY, &m);
}

/* RFC 7252 12.3: new ones may be registered at any time. */
static void formats_that_nobody_knows_are_passed_on(void **state)
{
    static const uint32_t formats[] = {0, 9999, 65535};
    struct harness *h = *state;
    struct message m;

    for (unsigned i = 0; i < 3; i++) {
        const char bytes[] = {(char)(formats[i] >> 8), (char)formats[i]};
        size_t zeros = formats[i] == 0 ? 2 : 0;
        struct sent request;

        ask(h, 1, TYPE_CON, CODE_POST, "x",
            GIVEN({OPTION_CONTENT_FORMAT, bytes + zeros, 2 - zeros},
                  {OPTION_ACCEPT, bytes + zeros, 2 - zeros}));
        request = expect_request(h, &m);
        assert_int_equal(message_uint(&m, SLOT_CONTENT_FORMAT, 1), formats[i]);
        assert_int_equal(message_uint(&m, SLOT_ACCEPT, 1), formats[i]);
        answer(h, &request, TYPE_ACK, 0, CODE_CHANGED,
               GIVEN({OPTION_CONTENT_FORMAT, bytes + zeros, 2 - zeros}), "x");
        expect_answer(h, 1, CODE_CHANGED, &m);
        assert_int_equal(message_uint(&m, SLOT_CONTENT_FORMAT, 1), formats[i]);
    }
}

static void an_answer_that_one_client_does_not_want_is_kept_for_others(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent request;

    ask(h, 1, TYPE_CON, CODE_GET, "x", GIVEN({OPTION_NO_RESPONSE, "\x02", 1}));
    request = expect_request(h, &m);
    assert_false(message_has(&m, SLOT_NO_RESPONSE));
    answer(h, &request, TYPE_ACK, 0, CODE_CONTENT, NULL, 0, "whole");
    expect_answer(h, 1, CODE_EMPTY, &m);
    assert_int_equal(m.type, TYPE_ACK);
    ask(h, 2, TYPE_CON, CODE_GET, "x", NULL, 0);
    expect_answer(h, 2, CODE_CONTENT, &m);
    assert_memory_equal(m.payload, "whole", 5);
    harness_silent(h);
    ask(h, 3, TYPE_NON, CODE_GET, "x", GIVEN({OPTION_NO_RESPONSE, "\x02", 1}));
    harness_advance(h, 10 * SECOND_US);
    harness_silent(h);
}

/* A server has no business to ask on the ports that requests to it leave from. */
static void servers_cannot_ask(void **state)
{
    struct harness *h = *state;
    uint8_t bytes[1500];
    struct message m;
    struct sent request;

    ask(h, 1, TYPE_CON, CODE_GET, "x", NULL, 0);
    request = expect_request(h, &m);
    harness_give(h, &request.flow, bytes,
                 harness_request(bytes, TYPE_CON, CODE_GET, 5, 1, "x", NULL));
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_RST);
    assert_int_equal(m.mid, 5);
    harness_give(h, &request.flow, bytes,
                 harness_request(bytes, TYPE_NON, CODE_POST, 6, 1, "x", NULL));
    harness_silent(h);
    assert_int_equal(worker_counters(h->worker)->drop_upstream_request, 2);
    answer(h, &request, TYPE_ACK, 0, CODE_CONTENT, NULL, 0, "x");
    expect_answer(h, 1, CODE_CONTENT, &m);
}

/* ---- Hop-Limit ---- */

/* RFC 8768 4: where the loop was found, and the way back, with spaces between. */
static void hop_limit_reached_says_where(void **state)
{
    struct harness *h = *state;
    uint8_t own[200];
    size_t length;
    struct message m;
    struct sent request;

    ask(h, 1, TYPE_CON, CODE_GET, "x", GIVEN({OPTION_HOP_LIMIT, "\x01", 1}));
    expect_answer(h, 1, CODE_HOP_LIMIT_REACHED, &m);
    length = m.payload_length;
    assert_in_range(length, 1, sizeof(own));
    memcpy(own, m.payload, length);
    assert_null(memchr(own, ' ', length));
    harness_silent(h);

    ask(h, 1, TYPE_CON, CODE_GET, "x", GIVEN({OPTION_HOP_LIMIT, "\x02", 1}));
    request = expect_request(h, &m);
    answer(h, &request, TYPE_ACK, 0, CODE_HOP_LIMIT_REACHED, NULL, 0, "far near");
    expect_answer(h, 1, CODE_HOP_LIMIT_REACHED, &m);
    assert_int_equal(m.payload_length, length + 9);
    assert_memory_equal(m.payload, own, length);
    assert_memory_equal(m.payload + length, " far near", 9);
}

static void hop_limit_reached_is_not_shared(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent few, many;

    ask(h, 1, TYPE_CON, CODE_GET, "x", GIVEN({OPTION_HOP_LIMIT, "\x02", 1}));
    few = expect_request(h, &m);
    ask(h, 2, TYPE_CON, CODE_GET, "x", NULL, 0); /* it may go further: not joined */
    many = expect_request(h, &m);
    assert_int_equal(message_uint(&m, SLOT_HOP_LIMIT, 0), 16);
    ask(h, 3, TYPE_CON, CODE_GET, "x", GIVEN({OPTION_HOP_LIMIT, "\x02", 1}));
    harness_silent(h); /* the same as the first one: joined */
    answer(h, &few, TYPE_ACK, 0, CODE_HOP_LIMIT_REACHED, NULL, 0, "far");
    expect_answer(h, 1, CODE_HOP_LIMIT_REACHED, &m);
    expect_answer(h, 3, CODE_HOP_LIMIT_REACHED, &m);
    answer(h, &many, TYPE_ACK, 0, CODE_CONTENT, NULL, 0, "x");
    expect_answer(h, 2, CODE_CONTENT, &m);

    ask(h, 1, TYPE_CON, CODE_GET, "y", GIVEN({OPTION_HOP_LIMIT, "\x02", 1}));
    few = expect_request(h, &m);
    answer(h, &few, TYPE_ACK, 0, CODE_HOP_LIMIT_REACHED, GIVEN({OPTION_MAX_AGE, "\x3c", 1}), "far");
    expect_answer(h, 1, CODE_HOP_LIMIT_REACHED, &m);
    ask(h, 2, TYPE_CON, CODE_GET, "y", NULL, 0); /* nor is it kept */
    many = expect_request(h, &m);
    answer(h, &many, TYPE_ACK, 0, CODE_CONTENT, NULL, 0, "y");
    expect_answer(h, 2, CODE_CONTENT, &m);
    harness_silent(h);
}

/* ---- discovery ---- */

static void ask_group(struct harness *h, uint16_t mid, const char *query)
{
    uint8_t bytes[1500];
    struct encoder e;
    struct datagram d = {.data = bytes, .multicast = true, .flow = harness_client(h, 1)};

    encoder_begin(&e, bytes, sizeof(bytes), TYPE_NON, CODE_GET, mid, (const uint8_t *)"g", 1);
    encoder_option(&e, OPTION_URI_PATH, ".well-known", 11);
    encoder_option(&e, OPTION_URI_PATH, "core", 4);
    if (query)
        encoder_option(&e, OPTION_URI_QUERY, query, strlen(query));
    d.length = (uint16_t)encoder_end(&e);
    worker_receive(h->worker, &d, 1, h->now);
    harness_advance(h, 3 * SECOND_US);
}

static void discovery_by_a_group_is_quiet_when_nothing_matches(void **state)
{
    struct harness *h = *state;
    struct message m;

    ask_group(h, 1, NULL);
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_memory_equal(m.payload, "</>", 3);
    ask_group(h, 2, "rt=nothing");
    harness_silent(h);
    ask_group(h, 3, "href=/*");
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_CONTENT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_response_that_is_not_understood_is_rejected),
        TEST(q_block_is_not_forwarded),
        TEST(formats_that_nobody_knows_are_passed_on),
        TEST(an_answer_that_one_client_does_not_want_is_kept_for_others),
        TEST(servers_cannot_ask),
        TEST(hop_limit_reached_says_where),
        TEST(hop_limit_reached_is_not_shared),
        TEST(discovery_by_a_group_is_quiet_when_nothing_matches),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
