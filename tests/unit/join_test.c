/* Identical safe requests at the same time become one request to the origin, and each client gets
 * the answer as it wants it. */
#include "tests/unit/proxy_steps.h"

static int setup(void **state)
{
    return start(state, ORIGINS_YAML("{size: 1MiB}", ""));
}

static int setup_without_cache(void **state)
{
    return start(state, ORIGINS_YAML("{size: 0}", ""));
}

#define A            OPTIONS(PATH("a"))
#define AGE(seconds) OPTIONS(UINT(OPTION_MAX_AGE, seconds))

static void one_request_serves_all(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    get(h, 1, 1, "a");
    out = expect_upstream(h, &m);
    for (unsigned n = 2; n <= 20; n++)
        get(h, n, 1, "a");
    harness_silent(h);
    assert_int_equal(COUNTER(h, joined), 19);
    answer_with(h, &out, CODE_CONTENT, AGE(60), "body");
    for (unsigned n = 1; n <= 20; n++) { /* first come, first served */
        expect_client(h, n, CODE_CONTENT, &m);
        assert_payload(&m, "body");
        assert_int_equal(m.token[0], n);
    }
    harness_silent(h);
}

static void many_are_served_in_portions(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;
    unsigned n;

    get(h, 0, 1, "a");
    out = expect_upstream(h, &m);
    for (n = 1; n < 32; n++)
        get(h, n, 1, "a");
    get(h, n, 1, "a"); /* limits.exchanges */
    expect_client(h, n, CODE_SERVICE_UNAVAILABLE, &m);
    answer_with(h, &out, CODE_CONTENT, AGE(60), "body");
    harness_advance(h, 10000);
    for (n = 0; n < 32; n++)
        expect_client(h, n, CODE_CONTENT, &m);
    harness_silent(h);
}

static void each_gets_it_as_it_wants(void **state)
{
    const struct opt *with_tag = OPTIONS(TEXT(OPTION_ETAG, "v1"), PATH("a")),
                     *with_other = OPTIONS(TEXT(OPTION_ETAG, "v0"), PATH("a")),
                     *second_half = OPTIONS(PATH("a"), UINT(OPTION_BLOCK2, 1 << 4)),
                     *first_half = OPTIONS(PATH("a"), UINT(OPTION_BLOCK2, 0)),
                     *beyond = OPTIONS(PATH("a"), UINT(OPTION_BLOCK2, 2 << 4));
    struct harness *h = *state;
    struct message m;
    struct sent out;

    ask_with(h, 1, 1, CODE_GET, with_other, NULL);
    out = expect_upstream(h, &m);
    assert_false(message_has(&m, SLOT_ETAG));
    assert_false(message_has(&m, SLOT_BLOCK2));
    ask_with(h, 2, 1, CODE_GET, with_tag, NULL);
    ask_with(h, 3, 1, CODE_GET, second_half, NULL);
    ask_with(h, 4, 1, CODE_GET, first_half, NULL);
    ask_with(h, 5, 1, CODE_GET, beyond, NULL);
    ask_typed(h, 6, TYPE_NON, 1, CODE_GET, A, NULL);
    ask_with(h, 7, 1, CODE_GET, OPTIONS(PATH("a"), UINT(OPTION_NO_RESPONSE, 2)), NULL);
    harness_silent(h);
    answer_with(h, &out, CODE_CONTENT, OPTIONS(TEXT(OPTION_ETAG, "v1")), "0123456789abcdef+++");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "0123456789abcdef+++");
    expect_client(h, 2, CODE_VALID, &m);
    expect_client(h, 3, CODE_CONTENT, &m);
    assert_payload(&m, "+++");
    assert_int_equal(message_uint(&m, SLOT_BLOCK2, 99), 1 << 4);
    expect_client(h, 4, CODE_CONTENT, &m);
    assert_payload(&m, "0123456789abcdef");
    assert_int_equal(message_uint(&m, SLOT_BLOCK2, 99), 1 << 3);
    expect_client(h, 5, CODE_BAD_REQUEST, &m);
    expect_client(h, 6, CODE_CONTENT, &m);
    assert_int_equal(m.type, TYPE_NON);
    expect_client(h, 7, CODE_EMPTY, &m);
    assert_int_equal(m.type, TYPE_ACK);
    harness_silent(h);
}

static void a_late_one_gets_a_separate_answer_where_the_first_does(void **state)
{
    struct harness *h = *state;
    struct flow client = harness_client(h, 1);
    struct message m;
    struct sent out;

    get(h, 1, 1, "a");
    out = expect_upstream(h, &m);
    harness_advance(h, 600 * 1000);
    expect_client(h, 1, CODE_EMPTY, &m);
    get(h, 2, 1, "a");
    answer_with(h, &out, CODE_CONTENT, AGE(60), "body");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(m.type, TYPE_CON);
    give_empty(h, &client, TYPE_ACK, m.mid);
    expect_client(h, 2, CODE_CONTENT, &m);
    assert_int_equal(m.type, TYPE_ACK);
}

static void failures_are_shared(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    get(h, 1, 1, "a");
    out = expect_upstream(h, &m);
    get(h, 2, 1, "a");
    unreachable(h, &out);
    expect_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
    expect_client(h, 2, CODE_GATEWAY_TIMEOUT, &m);
    get(h, 1, 2, "a"); /* and not kept */
    out = expect_upstream(h, &m);
    get(h, 2, 2, "a");
    give_empty(h, &out.flow, TYPE_RST, m.mid = (uint16_t)(out.data[2] << 8 | out.data[3]));
    expect_client(h, 1, CODE_BAD_GATEWAY, &m);
    expect_client(h, 2, CODE_BAD_GATEWAY, &m);
}

static void what_is_not_cacheable_is_still_shared(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    get(h, 1, 1, "a");
    out = expect_upstream(h, &m);
    get(h, 2, 1, "a");
    answer_with(h, &out, CODE_CONTENT, AGE(0), "body");
    expect_client(h, 1, CODE_CONTENT, &m);
    expect_client(h, 2, CODE_CONTENT, &m);
    get(h, 3, 1, "a");
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CONTENT, AGE(0), "body");
    expect_client(h, 3, CODE_CONTENT, &m);
}

static void different_requests_are_not_joined(void **state)
{
    struct harness *h = *state;
    struct message m;

    get(h, 1, 1, "a");
    expect_upstream(h, &m);
    get(h, 2, 1, "b");
    expect_upstream(h, &m);
    ask_with(h, 3, 1, CODE_FETCH, A, "x");
    expect_upstream(h, &m);
    ask_with(h, 4, 1, CODE_FETCH, A, "y");
    expect_upstream(h, &m);
    ask_with(h, 5, 1, CODE_GET, OPTIONS(TEXT(OPTION_IF_MATCH, "x"), PATH("a")), NULL);
    expect_upstream(h, &m);
    ask_with(h, 6, 1, CODE_GET, OPTIONS(PATH("a"), TEXT(OPTION_ECHO, "theirs")), NULL);
    expect_upstream(h, &m);
    ask_with(h, 7, 1, CODE_PUT, A, "x");
    expect_upstream(h, &m);
    ask_with(h, 8, 1, CODE_PUT, A, "x"); /* unsafe ones never */
    expect_upstream(h, &m);
    harness_silent(h);
    let_it_end(h, 200 * SECOND_US);
}

/* RFC 8768: a request that comes round a loop has a smaller Hop-Limit. It must not wait for itself.
 */
static void a_request_in_a_loop_does_not_wait_for_itself(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out[20];
    unsigned n = 0;

    get(h, 1, 1, "a");
    for (;;) {
        out[n] = expect_upstream(h, &m);
        assert_int_equal(message_uint(&m, SLOT_HOP_LIMIT, 0), 16 - n);
        n++;
        ask_with(h, 2, (uint16_t)n, CODE_GET,
                 OPTIONS(PATH("a"), UINT(OPTION_HOP_LIMIT, message_uint(&m, SLOT_HOP_LIMIT, 0))),
                 NULL);
        if (n == 16)
            break;
    }
    expect_client(h, 2, CODE_HOP_LIMIT_REACHED, &m); /* and back it goes */
    while (n-- > 0) {
        answer_with(h, &out[n], CODE_HOP_LIMIT_REACHED, NO_OPTIONS, NULL);
        expect_client(h, n ? 2 : 1, CODE_HOP_LIMIT_REACHED, &m);
    }
    harness_silent(h);
}

static void registrations_in_a_loop_do_not_wait_for_themselves(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    ask_with(h, 1, 1, CODE_GET, OPTIONS(UINT(OPTION_OBSERVE, 0), PATH("a")), NULL);
    out = expect_upstream(h, &m);
    assert_int_equal(message_uint(&m, SLOT_HOP_LIMIT, 0), 16);
    ask_with(h, 2, 1, CODE_GET,
             OPTIONS(UINT(OPTION_OBSERVE, 0), PATH("a"), UINT(OPTION_HOP_LIMIT, 16)), NULL);
    expect_upstream(h, &m);
    assert_int_equal(message_uint(&m, SLOT_HOP_LIMIT, 0), 15);
    unreachable(h, &out);
    expect_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
    let_it_end(h, 200 * SECOND_US);
}

/* Nor is one with more hops left bound to fail with one that has few. */
static void hop_limits_that_differ_are_not_joined(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent few, many;

    ask_with(h, 1, 1, CODE_GET, OPTIONS(PATH("a"), UINT(OPTION_HOP_LIMIT, 2)), NULL);
    few = expect_upstream(h, &m);
    get(h, 2, 1, "a");
    many = expect_upstream(h, &m);
    ask_with(h, 3, 1, CODE_GET, OPTIONS(PATH("a"), UINT(OPTION_HOP_LIMIT, 2)), NULL);
    harness_silent(h);
    answer_with(h, &few, CODE_HOP_LIMIT_REACHED, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_HOP_LIMIT_REACHED, &m);
    expect_client(h, 3, CODE_HOP_LIMIT_REACHED, &m);
    answer_with(h, &many, CODE_CONTENT, AGE(60), "body");
    expect_client(h, 2, CODE_CONTENT, &m);
    ask_with(h, 3, 2, CODE_GET, OPTIONS(PATH("a"), UINT(OPTION_HOP_LIMIT, 2)), NULL);
    let_it_end(h, 200 * SECOND_US);
}

static void without_a_cache_requests_are_joined_all_the_same(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;
    struct worker_usage usage;

    get(h, 1, 1, "a");
    out = expect_upstream(h, &m);
    get(h, 2, 1, "a");
    harness_silent(h);
    answer_with(h, &out, CODE_CONTENT, OPTIONS(TEXT(OPTION_ETAG, "v1")), "body");
    expect_client(h, 1, CODE_CONTENT, &m);
    expect_client(h, 2, CODE_CONTENT, &m);
    worker_usage(h->worker, &usage);
    assert_int_equal(usage.cache_bytes, 0);
    assert_int_equal(usage.assembly_bytes, 0);
    get(h, 3, 1, "a");
    out = expect_upstream(h, &m);
    assert_false(message_has(&m, SLOT_ETAG));
    answer_with(h, &out, CODE_CONTENT, AGE(60), "body");
    expect_client(h, 3, CODE_CONTENT, &m);
}

/* One who waits and is gone, or has asked for something else meanwhile, harms nobody. */
static void clients_with_too_many_requests_are_told(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    get(h, 1, 1, "a");
    out = expect_upstream(h, &m);
    for (uint16_t mid = 2; mid <= 4; mid++)
        get(h, 1, mid, "a");
    harness_silent(h);
    get(h, 1, 5, "a");
    expect_client(h, 1, CODE_TOO_MANY_REQUESTS, &m);
    assert_true(message_has(&m, SLOT_MAX_AGE));
    get(h, 2, 1, "a"); /* another client may */
    harness_silent(h);
    answer_with(h, &out, CODE_CONTENT, AGE(60), "body");
    for (unsigned i = 0; i < 4; i++)
        expect_client(h, 1, CODE_CONTENT, &m);
    expect_client(h, 2, CODE_CONTENT, &m);
    get(h, 1, 6, "b");
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CONTENT, NO_OPTIONS, "b");
    expect_client(h, 1, CODE_CONTENT, &m);
}

static int setup_few(void **state)
{
    return start(state, ORIGINS_YAML("{size: 1MiB}", ", client_requests: 4"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_request_serves_all),
        TEST(many_are_served_in_portions),
        TEST(each_gets_it_as_it_wants),
        TEST(a_late_one_gets_a_separate_answer_where_the_first_does),
        TEST(failures_are_shared),
        TEST(what_is_not_cacheable_is_still_shared),
        TEST(different_requests_are_not_joined),
        TEST(a_request_in_a_loop_does_not_wait_for_itself),
        TEST(registrations_in_a_loop_do_not_wait_for_themselves),
        TEST(hop_limits_that_differ_are_not_joined),
        cmocka_unit_test_setup_teardown(without_a_cache_requests_are_joined_all_the_same,
                                        setup_without_cache, finish),
        cmocka_unit_test_setup_teardown(clients_with_too_many_requests_are_told, setup_few, finish),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
