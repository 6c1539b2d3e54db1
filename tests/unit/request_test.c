/* What becomes of a client's request on its way to the origin: which options go on, which are this
 * hop's, and what is refused. */
#include "tests/unit/proxy_steps.h"

static const char yaml[] =
    "instance: unit\n"
    "interfaces:\n"
    "  - name: south\n"
    "    device: tap:unit0\n"
    "    addresses: [10.99.0.2/24]\n"
    "listeners: [{uri: coap://10.99.0.2}]\n"
    "upstreams:\n"
    "  - {name: origin, servers: [coap://10.99.0.1], transmission: {nstart: 16}}\n"
    "routes:\n"
    "  - {path: /, to: origin}\n"
    "  - {path: /deep/er, to: origin, strip: true}\n"
    "  - {path: /kept, to: origin}\n"
    "  - {path: /%2f, to: origin, strip: true}\n"
    "forward_proxy: {allow: [10.99.0.0/24]}\n"
    "limits: {sessions: 64, exchanges: 32, outbound: 32, queue: 8, remembered: 256, "
    "message_memory: 64KiB, assembly_memory: 1MiB, body: 64KiB, amplification: 0, "
    "client_requests: 4}\n";

static int setup(void **state)
{
    return start(state, yaml);
}

/* Sends a request and answers what reaches the origin, which is returned. */
static struct sent pass(struct harness *h, uint16_t mid, uint8_t method, const struct opt *options,
                        const char *payload, struct message *m)
{
    static struct sent out; /* `m` points into it */
    struct message answer;

    ask_with(h, 1, mid, method, options, payload);
    out = expect_upstream(h, m);
    assert_int_equal(message_parse(out.data, out.length, m), VERDICT_OK);
    answer_with(h, &out, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 0)), NULL);
    expect_client(h, 1, CODE_CONTENT, &answer);
    harness_silent(h);
    return out;
}

static void expect_refusal(struct harness *h, uint16_t mid, uint8_t method,
                           const struct opt *options, uint8_t code)
{
    struct message m;

    ask_with(h, 1, mid, method, options, NULL);
    expect_client(h, 1, code, &m);
    harness_silent(h);
}

/* ---- Hop-Limit (RFC 8768 3) ---- */

static void hops_are_counted(void **state)
{
    static const struct {
        size_t length;
        const char *value;
        uint8_t code, sent;
    } cases[] = {
        {1, "\xff", 0, 254},
        {1, "\x10", 0, 15},
        {1, "\x02", 0, 1},
        {1, "\x01", CODE_HOP_LIMIT_REACHED, 0},
        {1, "\x00", CODE_BAD_REQUEST, 0},
        {0, "", CODE_BAD_REQUEST, 0},
        {2, "\x01\x00", CODE_BAD_REQUEST, 0},
        {2, "\x00\x05", CODE_BAD_REQUEST, 0},
    };
    struct harness *h = *state;
    struct message m;

    pass(h, 0, CODE_GET, OPTIONS(PATH("a")), NULL, &m);
    assert_int_equal(message_uint(&m, SLOT_HOP_LIMIT, 0), 16);
    for (uint16_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t method = i & 1 ? CODE_POST : CODE_GET;
        const struct opt *options =
            OPTIONS(PATH("a"), BYTES(OPTION_HOP_LIMIT, cases[i / 2].value, cases[i / 2].length));

        if (cases[i / 2].code) {
            expect_refusal(h, (uint16_t)(1 + i), method, options, cases[i / 2].code);
        } else {
            pass(h, (uint16_t)(1 + i), method, options, NULL, &m);
            assert_int_equal(message_uint(&m, SLOT_HOP_LIMIT, 0), cases[i / 2].sent);
        }
    }
}

/* Only the first counts of an option that may not be repeated (RFC 7252 5.4.5). */
static void a_second_hop_limit_gives_no_more_hops(void **state)
{
    struct harness *h = *state;
    struct message m;

    pass(h, 1, CODE_GET, OPTIONS(PATH("a"), UINT(OPTION_HOP_LIMIT, 5), UINT(OPTION_HOP_LIMIT, 200)),
         NULL, &m);
    assert_int_equal(message_uint(&m, SLOT_HOP_LIMIT, 0), 4);
    assert_int_equal(strlen(option_texts(&m, OPTION_HOP_LIMIT)), 2);
    pass(h, 2, CODE_GET, OPTIONS(PATH("a"), UINT(OPTION_HOP_LIMIT, 5), UINT(OPTION_HOP_LIMIT, 1)),
         NULL, &m);
    assert_int_equal(message_uint(&m, SLOT_HOP_LIMIT, 0), 4);
}

/* ---- options ---- */

static void options_of_this_hop_do_not_go_on(void **state)
{
    struct harness *h = *state;
    struct message m;

    pass(h, 1, CODE_FETCH,
         OPTIONS(TEXT(OPTION_IF_MATCH, "i"), TEXT(OPTION_URI_HOST, "some.example"),
                 TEXT(OPTION_ETAG, "e"), UINT(OPTION_URI_PORT, 5683), PATH("a"), PATH(""),
                 UINT(OPTION_CONTENT_FORMAT, 60), UINT(OPTION_MAX_AGE, 7),
                 TEXT(OPTION_URI_QUERY, "q"), UINT(OPTION_HOP_LIMIT, 8), UINT(OPTION_ACCEPT, 0),
                 UINT(OPTION_BLOCK2, 6), UINT(OPTION_SIZE2, 0), UINT(OPTION_SIZE1, 4),
                 TEXT(92, "n"), TEXT(OPTION_ECHO, "echo"), UINT(OPTION_NO_RESPONSE, 0),
                 TEXT(OPTION_REQUEST_TAG, "tag"), TEXT(2048, "elective"), TEXT(2049, "critical")),
         "body", &m);
    assert_int_equal(m.code, CODE_FETCH);
    assert_payload(&m, "body");
    assert_string_equal(option_texts(&m, OPTION_IF_MATCH), "|i");
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), "|a|");
    assert_string_equal(option_texts(&m, OPTION_CONTENT_FORMAT), "|<");
    assert_string_equal(option_texts(&m, OPTION_URI_QUERY), "|q");
    assert_string_equal(option_texts(&m, OPTION_HOP_LIMIT), "|\a");
    assert_string_equal(option_texts(&m, OPTION_ACCEPT), "|");
    assert_string_equal(option_texts(&m, 92), "|n");
    assert_string_equal(option_texts(&m, OPTION_ECHO), "|echo");
    assert_string_equal(option_texts(&m, 2048), "|elective");
    assert_string_equal(option_texts(&m, 2049), "|critical");
    assert_int_equal(m.option_count, 11);
}

static void a_token_and_a_message_id_are_this_hops(void **state)
{
    struct harness *h = *state;
    struct message m, other;

    pass(h, 0x1234, CODE_POST, OPTIONS(PATH("a")), NULL, &m);
    assert_int_equal(m.token_length, 8);
    assert_int_equal(m.type, TYPE_CON);
    uint8_t token[8];
    memcpy(token, m.token, 8);
    uint16_t mid = m.mid;
    pass(h, 0x1235, CODE_POST, OPTIONS(PATH("a")), NULL, &other);
    assert_memory_not_equal(token, other.token, 8);
    assert_int_not_equal(mid, other.mid);
}

static void options_that_are_unsafe_to_forward_are_refused(void **state)
{
    static const struct {
        struct opt options[4];
    } cases[] = {
        {{PATH("a"), TEXT(65003, "?")}}, /* critical */
        {{PATH("a"), TEXT(65002, "?")}}, /* elective */
        {{PATH("a"), UINT(OPTION_Q_BLOCK1, 0)}},
        {{PATH("a"), UINT(OPTION_Q_BLOCK2, 0)}},
        {{UINT(OPTION_OBSERVE, 0), UINT(OPTION_OBSERVE, 0), PATH("a")}},
        {{PATH("a"), UINT(OPTION_MAX_AGE, 0), UINT(OPTION_MAX_AGE, 0)}},
        {{PATH("a"), TEXT(OPTION_MAX_AGE, "12345")}},
        {{PATH("a"), TEXT(OPTION_BLOCK2, "1234")}},
        {{TEXT(OPTION_URI_HOST, ""), PATH("a")}},
    };
    struct harness *h = *state;

    for (uint16_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++)
        expect_refusal(h, i, i & 1 ? CODE_PUT : CODE_GET, cases[i / 2].options, CODE_BAD_OPTION);
    assert_int_equal(COUNTER(h, forwards), 0);
}

static void blocks_that_cannot_be_are_bad_requests(void **state)
{
    struct harness *h = *state;

    expect_refusal(h, 1, CODE_GET, OPTIONS(PATH("a"), UINT(OPTION_BLOCK2, 7)), CODE_BAD_REQUEST);
    expect_refusal(h, 2, CODE_PUT, OPTIONS(PATH("a"), UINT(OPTION_BLOCK1, 7)), CODE_BAD_REQUEST);
    expect_refusal(h, 3, CODE_PUT, OPTIONS(PATH("a"), UINT(OPTION_BLOCK2, 15)), CODE_BAD_REQUEST);
    expect_refusal(h, 4, CODE_GET,
                   OPTIONS(UINT(OPTION_OBSERVE, 0), PATH("a"), UINT(OPTION_BLOCK2, 1 << 4 | 6)),
                   CODE_BAD_REQUEST);
    expect_refusal(h, 5, CODE_POST, OPTIONS(PATH("a"), UINT(OPTION_BLOCK2, 1 << 4 | 6)),
                   CODE_REQUEST_ENTITY_INCOMPLETE);
    assert_int_equal(COUNTER(h, forwards), 0);
}

/* ---- Observe on what cannot be observed ---- */

static void only_get_and_fetch_observe(void **state)
{
    struct harness *h = *state;
    struct message m;

    pass(h, 1, CODE_POST, OPTIONS(UINT(OPTION_OBSERVE, 0), PATH("a")), NULL, &m);
    assert_false(message_has(&m, SLOT_OBSERVE));
    pass(h, 2, CODE_GET, OPTIONS(UINT(OPTION_OBSERVE, 2), PATH("a")), NULL, &m);
    assert_false(message_has(&m, SLOT_OBSERVE));
    pass(h, 3, CODE_GET, OPTIONS(UINT(OPTION_OBSERVE, 1), PATH("a")), NULL, &m);
    assert_false(message_has(&m, SLOT_OBSERVE)); /* there is nothing to be cancelled */
}

/* ---- strip ---- */

static void a_route_may_take_its_segments_away(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    pass(h, 1, CODE_GET, OPTIONS(PATH("deep"), PATH("er"), PATH("x"), PATH("deep")), NULL, &m);
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), "|x|deep");
    pass(h, 2, CODE_GET, OPTIONS(PATH("deep"), PATH("er")), NULL, &m);
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), "");
    pass(h, 3, CODE_GET, OPTIONS(PATH("deep"), PATH("er"), PATH("")), NULL, &m);
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), "|");
    pass(h, 4, CODE_GET, OPTIONS(PATH("/"), PATH("y")), NULL, &m);
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), "|y");
    pass(h, 5, CODE_GET, OPTIONS(PATH("kept"), PATH("x")), NULL, &m);
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), "|kept|x");
    pass(h, 6, CODE_GET, OPTIONS(PATH("deep"), PATH("x")), NULL, &m);
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), "|deep|x");

    ask_with(h, 1, 7, CODE_POST, OPTIONS(PATH("deep"), PATH("er"), PATH("list")), "new");
    out = expect_upstream(h, &m);
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), "|list");
    answer_with(h, &out, CODE_CREATED,
                OPTIONS(TEXT(OPTION_LOCATION_PATH, "list"), TEXT(OPTION_LOCATION_PATH, "7"),
                        TEXT(OPTION_LOCATION_QUERY, "q")),
                NULL);
    expect_client(h, 1, CODE_CREATED, &m); /* where the client finds it */
    assert_string_equal(option_texts(&m, OPTION_LOCATION_PATH), "|deep|er|list|7");
    assert_string_equal(option_texts(&m, OPTION_LOCATION_QUERY), "|q");
}

/* ---- what is too long ---- */

/* A request that is put together from fragments may be longer than a packet. */
static void give_long(struct harness *h, uint16_t mid, uint8_t method, const char *proxy_uri,
                      unsigned segments, unsigned payload)
{
    static uint8_t bytes[8192], fill[4096];
    struct flow flow = harness_client(h, 1);
    uint8_t token = 1;
    struct encoder e;

    memset(fill, 'x', sizeof(fill));
    encoder_begin(&e, bytes, sizeof(bytes), TYPE_CON, method, mid, &token, 1);
    for (unsigned i = 0; i < segments; i++)
        encoder_option(&e, OPTION_URI_QUERY, fill, 200);
    if (proxy_uri)
        encoder_option(&e, OPTION_PROXY_URI, proxy_uri, strlen(proxy_uri));
    encoder_payload(&e, fill, payload);
    assert_true(encoder_end(&e) > 0);
    harness_give(h, &flow, bytes, encoder_end(&e));
}

static void what_has_no_room_is_refused(void **state)
{
    struct harness *h = *state;
    struct message m;

    give_long(h, 1, CODE_GET, NULL, 20, 0);
    expect_client(h, 1, CODE_BAD_OPTION, &m);
    give_long(h, 2, CODE_FETCH, NULL, 0, 3000);
    expect_client(h, 1, CODE_REQUEST_ENTITY_TOO_LARGE, &m);
    give_long(h, 3, CODE_GET, NULL, 9, 0); /* room here, but not on the way to the origin */
    expect_client(h, 1, CODE_REQUEST_ENTITY_TOO_LARGE, &m);
    give_long(h, 4, CODE_GET, "coap://10.99.0.7/", 0, 3000);
    expect_client(h, 1, CODE_BAD_REQUEST, &m);
    harness_silent(h);
}

/* ---- limits ---- */

static void a_client_may_have_so_many_requests_at_a_time(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out[4];

    for (uint16_t i = 0; i < 4; i++) {
        ask_with(h, 1, i, CODE_POST, OPTIONS(PATH("a")), NULL);
        out[i] = expect_upstream(h, &m);
    }
    for (uint16_t i = 0; i < 2; i++) { /* and the same again, when it comes twice */
        ask_with(h, 1, 4, CODE_POST, OPTIONS(PATH("a")), NULL);
        expect_client(h, 1, CODE_TOO_MANY_REQUESTS, &m);
        assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 0), 5);
    }
    get(h, 1, 5, "b");
    expect_client(h, 1, CODE_TOO_MANY_REQUESTS, &m);
    assert_int_equal(COUNTER(h, refused_client), 2);
    ask_with(h, 2, 1, CODE_POST, OPTIONS(PATH("a")), NULL);
    struct sent other = expect_upstream(h, &m);
    answer_with(h, &other, CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 2, CODE_CHANGED, &m);
    answer_with(h, &out[2], CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CHANGED, &m);
    ask_with(h, 1, 6, CODE_POST, OPTIONS(PATH("a")), NULL);
    out[2] = expect_upstream(h, &m);
    for (unsigned i = 0; i < 4; i++) {
        answer_with(h, &out[i], CODE_CHANGED, NO_OPTIONS, NULL);
        expect_client(h, 1, CODE_CHANGED, &m);
    }
}

static void what_is_known_already_is_not_limited(void **state)
{
    struct harness *h = *state;
    struct message m;

    fetch_through(h, 1, 0, OPTIONS(PATH("known")), NO_OPTIONS, "known");
    for (uint16_t i = 1; i < 5; i++) {
        ask_typed(h, 1, TYPE_NON, i, CODE_POST, OPTIONS(PATH("a")), NULL);
        expect_upstream(h, &m);
    }
    expect_hit(h, 1, 5, OPTIONS(PATH("known")), "known");
    expect_refusal(h, 6, CODE_GET, OPTIONS(PATH("a"), UINT(OPTION_BLOCK2, 7)), CODE_BAD_REQUEST);
    let_it_end(h, 200 * SECOND_US);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(hops_are_counted),
        TEST(a_second_hop_limit_gives_no_more_hops),
        TEST(options_of_this_hop_do_not_go_on),
        TEST(a_token_and_a_message_id_are_this_hops),
        TEST(options_that_are_unsafe_to_forward_are_refused),
        TEST(blocks_that_cannot_be_are_bad_requests),
        TEST(only_get_and_fetch_observe),
        TEST(a_route_may_take_its_segments_away),
        TEST(what_has_no_room_is_refused),
        TEST(a_client_may_have_so_many_requests_at_a_time),
        TEST(what_is_known_already_is_not_limited),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
