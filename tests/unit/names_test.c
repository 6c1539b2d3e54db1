/* Host names in the forward proxy: what is asked of the resolver, and what its answers do. */
#include <errno.h>

#include "tests/unit/names_steps.h"

/* ---- which names ---- */

static void names_are_allowed_as_listed(void **state)
{
    static const char *const good[] = {"coap://A.example/", "coap://a.EXAMPLE./",
                                       "coap://%61.example/", "coap://x.fleet.example/",
                                       "coap://x.y.fleet.example/"};
    static const char *const names[] = {"a.example", "a.example", "a.example", "x.fleet.example",
                                        "x.y.fleet.example"};
    static const char *const bad[] = {"coap://c.example/",         "coap://example/",
                                      "coap://fleet.example/",     "coap://.fleet.example/",
                                      "coap://xfleet.example/",    "coap://a.example.org/",
                                      "coap://x.fleet.example.x/", "coap://aa.example/",
                                      "coap://a.example../",       "coap://*.fleet.example.org/"};
    struct named *n = *state;

    for (uint16_t i = 0; i < 10; i++)
        expect_refusal(n, i, bad[i], CODE_FORBIDDEN);
    for (uint16_t i = 0; i < 5; i++) {
        struct sent out;
        char host[64] = "|";

        ask_uri(n, 1, (uint16_t)(20 + i), good[i]);
        if (i == 0 || i > 2)
            give_answer(n, expect_question(n, names[i]), 0, 600, "10.99.0.7");
        no_question(n);
        strcat(host, names[i]);
        out = expect_at(n, 7, host);
        finish_request(n, 1, &out, "far");
    }
}

/* ---- questions and answers ---- */

static void one_question_serves_all_who_wait(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent out[3];
    uint32_t id;

    ask_uri(n, 1, 1, "coap://a.example/x");
    id = expect_question(n, "a.example");
    ask_uri(n, 2, 1, "coap://a.example/x"); /* joined */
    ask_uri(n, 3, 1, "coap://a.example/y");
    ask_with(&n->h, 4, 1, CODE_POST, OPTIONS(TEXT(OPTION_PROXY_URI, "coap://a.example/x")), "p");
    no_question(n);
    harness_silent(&n->h);
    give_answer(n, id, 0, 60, "10.99.0.7");
    /* NSTART is 1: one after the other. */
    out[0] = expect_at(n, 7, "|a.example");
    answer_with(&n->h, &out[0], CODE_CONTENT, NO_OPTIONS, "x");
    out[1] = expect_at(n, 7, "|a.example");
    expect_client(&n->h, 1, CODE_CONTENT, &m);
    expect_client(&n->h, 2, CODE_CONTENT, &m);
    answer_with(&n->h, &out[1], CODE_CONTENT, NO_OPTIONS, "y");
    out[2] = expect_at(n, 7, "|a.example");
    expect_client(&n->h, 3, CODE_CONTENT, &m);
    answer_with(&n->h, &out[2], CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(&n->h, 4, CODE_CHANGED, &m);
    harness_silent(&n->h);
    assert_int_equal(COUNTER(&n->h, names_asked), 1);
}

static void failures_are_told_to_all_who_wait(void **state)
{
    static const struct {
        int error;
        const char *addresses;
        uint8_t code;
    } cases[] = {
        {-ENOENT, "", CODE_BAD_GATEWAY},
        {-EIO, "", CODE_BAD_GATEWAY},
        {-ETIMEDOUT, "", CODE_GATEWAY_TIMEOUT},
        {0, "", CODE_BAD_GATEWAY},
        {0, "127.0.0.1", CODE_FORBIDDEN},
        {0, "10.99.0.2", CODE_FORBIDDEN},
        {0, "::1 fe80::1 224.0.1.187 ::ffff:127.0.0.1 0.0.0.0 255.255.255.255", CODE_FORBIDDEN},
        {0, "192.0.2.1", CODE_GATEWAY_TIMEOUT}, /* no way there */
        {0, "127.0.0.1 2001:db8::1", CODE_GATEWAY_TIMEOUT},
    };
    struct named *n = *state;
    struct message m;

    for (uint16_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t id;

        ask_uri(n, 1, i, "coap://a.example/x");
        id = expect_question(n, "a.example"); /* a failure is not remembered */
        ask_uri(n, 2, i, "coap://a.example/y");
        give_answer(n, id, cases[i].error, 60, cases[i].addresses);
        expect_client(&n->h, 1, cases[i].code, &m);
        expect_client(&n->h, 2, cases[i].code, &m);
        harness_silent(&n->h);
        no_question(n);
    }
    assert_int_equal(COUNTER(&n->h, names_failed), sizeof(cases) / sizeof(cases[0]));
}

static void the_first_good_address_is_used(void **state)
{
    struct named *n = *state;
    struct sent out;

    ask_uri(n, 1, 1, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 60,
                "127.0.0.1 2001:db8::1 10.99.0.2 10.99.0.9 10.99.0.8");
    out = expect_at(n, 9, "|a.example");
    finish_request(n, 1, &out, "far");
}

static void addresses_hold_for_their_ttl(void **state)
{
    struct named *n = *state;
    struct sent out, old;

    ask_uri(n, 1, 1, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 10, "10.99.0.7");
    out = expect_at(n, 7, "|a.example");
    finish_request(n, 1, &out, "far");
    harness_advance(&n->h, 9 * SECOND_US);
    /* Still at the old address when that changes. */
    ask_typed(&n->h, 1, TYPE_NON, 2, CODE_POST,
              OPTIONS(TEXT(OPTION_PROXY_URI, "coap://a.example/old")), NULL);
    old = expect_at(n, 7, "|a.example");
    harness_advance(&n->h, SECOND_US);
    ask_uri(n, 2, 1, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 0, "10.99.0.8");
    out = expect_at(n, 8, "|a.example");
    finish_request(n, 2, &out, "new");
    finish_request(n, 1, &old, "late");
    harness_advance(&n->h, SECOND_US); /* a TTL of 0 holds for a second */
    ask_uri(n, 1, 3, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 10, "10.99.0.7"); /* and back */
    out = expect_at(n, 7, "|a.example");
    finish_request(n, 1, &out, "far");
    no_question(n);
}

/* A name server that lists several addresses in another order each time. */
static void an_address_is_kept_while_it_is_one_of_them(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent out;
    uint16_t port;

    ask_uri(n, 1, 1, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 10, "10.99.0.7 10.99.0.8 10.99.0.9");
    out = expect_at(n, 7, "|a.example");
    port = out.flow.local_port;
    finish_request(n, 1, &out, "far");
    harness_advance(&n->h, 10 * SECOND_US);
    ask_uri(n, 1, 2, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 10, "10.99.0.9 10.99.0.8 10.99.0.7");
    out = expect_at(n, 7, "|a.example");
    assert_int_equal(out.flow.local_port, port);
    unreachable(&n->h, &out); /* then the next one */
    expect_client(&n->h, 1, CODE_GATEWAY_TIMEOUT, &m);
    harness_advance(&n->h, 10 * SECOND_US);
    ask_uri(n, 1, 3, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 10, "10.99.0.7 10.99.0.8 10.99.0.9");
    out = expect_at(n, 8, "|a.example");
    finish_request(n, 1, &out, "far");
}

/* What waited for its turn where the host was goes to where it is. */
static void those_in_the_queue_go_to_the_new_address(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent old, out;

    ask_uri(n, 1, 1, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 1, "10.99.0.7");
    old = expect_at(n, 7, "|a.example");
    ask_uri(n, 2, 1, "coap://a.example/y"); /* NSTART */
    harness_silent(&n->h);
    let_it_end(&n->h, 2 * SECOND_US);
    ask_uri(n, 3, 1, "coap://a.example/z");
    give_answer(n, expect_question(n, "a.example"), 0, 60, "10.99.0.8");
    out = expect_at(n, 8, "|a.example");
    answer_with(&n->h, &out, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 0)), "y");
    out = expect_at(n, 8, "|a.example");
    expect_client(&n->h, 2, CODE_CONTENT, &m);
    assert_payload(&m, "y");
    answer_with(&n->h, &out, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 0)), "z");
    expect_client(&n->h, 3, CODE_CONTENT, &m);
    assert_payload(&m, "z");
    unreachable(&n->h, &old); /* the first one has been where it was */
    expect_client(&n->h, 1, CODE_GATEWAY_TIMEOUT, &m);
    let_it_end(&n->h, 200 * SECOND_US);
}

/* What failed at the old address says nothing about the host at the new one. */
static void a_failure_at_the_old_address_condemns_nobody(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent old, out;

    ask_typed(&n->h, 1, TYPE_NON, 1, CODE_POST,
              OPTIONS(TEXT(OPTION_PROXY_URI, "coap://a.example/x")), NULL);
    give_answer(n, expect_question(n, "a.example"), 0, 1, "10.99.0.7");
    old = expect_at(n, 7, "|a.example");
    harness_advance(&n->h, SECOND_US);
    ask_typed(&n->h, 1, TYPE_NON, 2, CODE_POST,
              OPTIONS(TEXT(OPTION_PROXY_URI, "coap://a.example/x")), NULL);
    give_answer(n, expect_question(n, "a.example"), 0, 60, "10.99.0.8");
    out = expect_at(n, 8, "|a.example");
    unreachable(&n->h, &old);
    expect_client(&n->h, 1, CODE_GATEWAY_TIMEOUT, &m);
    assert_int_equal(COUNTER(&n->h, servers_down), 0);
    finish_request(n, 1, &out, "far");
}

/* An observation is renewed where its host is now. */
static void observations_follow_their_host(void **state)
{
    struct named *n = *state;
    struct flow client = harness_client(&n->h, 1);
    struct message m;
    struct sent out;

    ask_with(&n->h, 1, 1, CODE_GET,
             OPTIONS(UINT(OPTION_OBSERVE, 0), TEXT(OPTION_PROXY_URI, "coap://a.example/x")), NULL);
    give_answer(n, expect_question(n, "a.example"), 0, 10, "10.99.0.7");
    out = expect_at(n, 7, "|a.example");
    answer_with(&n->h, &out, CODE_CONTENT,
                OPTIONS(UINT(OPTION_OBSERVE, 5), UINT(OPTION_MAX_AGE, 5)), "one");
    expect_client(&n->h, 1, CODE_CONTENT, &m);
    assert_true(message_has(&m, SLOT_OBSERVE));
    harness_advance(&n->h, 21 * SECOND_US); /* Max-Age, and 5 to 15 seconds */
    give_answer(n, expect_question(n, "a.example"), 0, 1000, "10.99.0.8");
    out = expect_at(n, 8, "|a.example");
    answer_with(&n->h, &out, CODE_CONTENT,
                OPTIONS(UINT(OPTION_OBSERVE, 1), UINT(OPTION_MAX_AGE, 5000)), "two");
    harness_advance(&n->h, 1000);
    expect_client(&n->h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "two");
    give_empty(&n->h, &client, TYPE_RST, m.mid); /* enough */
    harness_advance(&n->h, 1000);
    out = expect_at(n, 8, "|a.example");
    answer_with(&n->h, &out, CODE_CONTENT, NO_OPTIONS, NULL);
    harness_silent(&n->h);
}

static void late_and_repeated_answers_do_nothing(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent out;
    uint32_t first, second;

    ask_uri(n, 1, 1, "coap://a.example/x");
    first = expect_question(n, "a.example");
    harness_advance(&n->h, 499 * 1000);
    harness_silent(&n->h);
    harness_advance(&n->h, 20 * SECOND_US); /* the upstream's timeout */
    expect_client(&n->h, 1, CODE_EMPTY, &m);
    expect_client(&n->h, 1, CODE_GATEWAY_TIMEOUT, &m);
    let_it_end(&n->h, 100 * SECOND_US);
    ask_uri(n, 1, 2, "coap://a.example/x"); /* still being asked */
    no_question(n);
    give_answer(n, first, 0, 1, "10.99.0.7"); /* late for the first, but not for this one */
    out = expect_at(n, 7, "|a.example");
    give_answer(n, first, 0, 60, "10.99.0.8");
    give_answer(n, first, -ENOENT, 60, "");
    finish_request(n, 1, &out, "far");
    harness_advance(&n->h, SECOND_US);
    ask_uri(n, 1, 3, "coap://a.example/x");
    second = expect_question(n, "a.example");
    assert_int_not_equal(first, second);
    give_answer(n, first, 0, 60, "10.99.0.8"); /* another question's */
    give_answer(n, second ^ 1, 0, 60, "10.99.0.8");
    give_answer(n, UINT32_MAX, 0, 60, "10.99.0.8");
    harness_silent(&n->h);
    give_answer(n, second, 0, 60, "10.99.0.9");
    out = expect_at(n, 9, "|a.example");
    finish_request(n, 1, &out, "far");
}

static void a_resolver_that_cannot_be_asked_is_no_capacity(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent out;

    n->refuses = true;
    ask_uri(n, 1, 1, "coap://a.example/x");
    expect_client(&n->h, 1, CODE_SERVICE_UNAVAILABLE, &m);
    assert_true(message_has(&m, SLOT_MAX_AGE));
    n->refuses = false;
    ask_uri(n, 1, 2, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 60, "10.99.0.7");
    out = expect_at(n, 7, "|a.example");
    finish_request(n, 1, &out, "far");
}

static int setup_without_resolver(void **state)
{
    struct named *n = calloc(1, sizeof(*n));

    harness_start(&n->h, names_yaml);
    *state = n;
    return 0;
}

static void without_a_resolver_names_are_refused(void **state)
{
    struct named *n = *state;
    struct message m;

    ask_uri(n, 1, 1, "coap://a.example/x");
    expect_client(&n->h, 1, CODE_SERVICE_UNAVAILABLE, &m);
    fetch_from(n, 2, "coap://10.99.0.7/", 7, "");
}

/* Two names at one address are two hosts, with their own answers. */
static void names_with_one_address_do_not_mix(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent a, b;

    ask_uri(n, 1, 1, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 600, "10.99.0.7");
    a = expect_at(n, 7, "|a.example");
    ask_uri(n, 1, 2, "coap://b.example/x");
    give_answer(n, expect_question(n, "b.example"), 0, 600, "10.99.0.7");
    b = expect_at(n, 7, "|b.example");
    answer_with(&n->h, &b, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 60)), "b's");
    expect_client(&n->h, 1, CODE_CONTENT, &m);
    answer_with(&n->h, &a, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 60)), "a's");
    expect_client(&n->h, 1, CODE_CONTENT, &m);
    fetch_from(n, 3, "coap://10.99.0.7/x", 7, "");
    ask_uri(n, 2, 1, "coap://a.example/x");
    expect_client(&n->h, 2, CODE_CONTENT, &m);
    assert_payload(&m, "a's");
    ask_uri(n, 2, 2, "coap://B.example/x");
    expect_client(&n->h, 2, CODE_CONTENT, &m);
    assert_payload(&m, "b's");
    ask_uri(n, 2, 3, "coap://a.example:5684/x"); /* another host altogether */
    give_answer(n, expect_question(n, "a.example"), 0, 600, "10.99.0.7");
    a = expect_at(n, 7, "|a.example");
    assert_int_equal(a.flow.peer_port, 5684);
    finish_request(n, 2, &a, "far");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_are_allowed_as_listed),
        TEST(one_question_serves_all_who_wait),
        TEST(failures_are_told_to_all_who_wait),
        TEST(the_first_good_address_is_used),
        TEST(addresses_hold_for_their_ttl),
        TEST(an_address_is_kept_while_it_is_one_of_them),
        TEST(those_in_the_queue_go_to_the_new_address),
        TEST(a_failure_at_the_old_address_condemns_nobody),
        TEST(observations_follow_their_host),
        TEST(late_and_repeated_answers_do_nothing),
        TEST(a_resolver_that_cannot_be_asked_is_no_capacity),
        cmocka_unit_test_setup_teardown(without_a_resolver_names_are_refused,
                                        setup_without_resolver, finish),
        TEST(names_with_one_address_do_not_mix),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
