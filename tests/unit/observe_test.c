/* Clients that observe through the proxy (RFC 7641): how a relation begins, and every way in which
 * it ends. */
#include "tests/unit/observe_harness.h"

static const char yaml[] =
    OBSERVE_YAML "observe: {confirm_every: 20, confirm_after: 300s}\n"
                 "limits: {sessions: 64, exchanges: 16, outbound: 16, queue: 2, remembered: 64, "
                 "message_memory: 64KiB, observations: 4, relations: 8, client_relations: 3, "
                 "amplification: 0}\n";

static int setup(void **state)
{
    observe_start(state, yaml);
    return 0;
}

static int teardown(void **state)
{
    observe_end(*state);
    return 0;
}

/* ---- registering ---- */

static void a_registration_is_answered_with_a_number(void **state)
{
    struct harness *h = *state;
    struct registered r;
    int64_t first = observe_begin(h, 1, "t", "one", &r), second, third;

    assert_true(first >= 0);
    harness_silent(h);
    origin_state(h, &r, 2, "two");
    second = expect_state(h, 1, TYPE_NON, "two", NULL);
    assert_newer(second, first);
    origin_state(h, &r, 3, "three");
    third = expect_state(h, 1, TYPE_NON, "three", NULL);
    assert_newer(third, second);
    harness_silent(h);
    assert_int_equal(observe_usage(h).relations, 1);
}

static void one_observation_serves_many_clients(void **state)
{
    struct harness *h = *state;
    struct registered r;
    int64_t first[5];

    first[1] = observe_begin(h, 1, "t", "one", &r);
    for (unsigned n = 2; n <= 4; n++) {
        first[n] = observe_join(h, n, "t", "one"); /* nothing goes to the origin */
        assert_newer(first[n], first[n - 1]);
    }
    assert_int_equal(observe_usage(h).observations, 1);
    assert_int_equal(observe_usage(h).relations, 4);
    origin_state(h, &r, 2, "two");
    for (unsigned n = 1; n <= 4; n++)
        assert_newer(expect_state(h, n, TYPE_NON, "two", NULL), first[n]);
    harness_silent(h);
}

static void who_asks_while_a_registration_is_under_way_is_taken_in(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 7, .payload = "one"};
    struct registered r;
    struct sent *request;

    client_observe(h, 1, 1, 1, "t", 0);
    request = origin_registration(h, &r);
    client_observe(h, 2, 1, 2, "t", 0);
    client_observe(h, 3, 1, 3, "t", NO_OBSERVE); /* gets the same answer, and no more */
    harness_silent(h);
    origin_answer(h, request, TYPE_ACK, 0, &say);
    assert_true(expect_state(h, 1, TYPE_ACK, "one", NULL) >= 0);
    assert_true(expect_state(h, 2, TYPE_ACK, "one", NULL) >= 0);
    assert_true(expect_state(h, 3, TYPE_ACK, "one", NULL) < 0);
    assert_int_equal(observe_usage(h).relations, 2);
    origin_state(h, &r, 8, "two");
    expect_state(h, 1, TYPE_NON, "two", NULL);
    expect_state(h, 2, TYPE_NON, "two", NULL);
    harness_silent(h);
}

static void the_same_token_again_is_the_same_relation(void **state)
{
    struct harness *h = *state;
    struct registered r;
    int64_t first = observe_begin(h, 1, "t", "one", &r), again;

    client_observe(h, 1, 2, 1, "t", 0);
    again = expect_state(h, 1, TYPE_ACK, "one", NULL);
    assert_newer(again, first);
    assert_int_equal(observe_usage(h).relations, 1);
    origin_state(h, &r, 2, "two");
    assert_newer(expect_state(h, 1, TYPE_NON, "two", NULL), again);
    harness_silent(h);
}

static void a_token_observes_one_resource_at_a_time(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 1, .payload = "b"};
    struct registered a, b;
    struct sent *request;

    observe_begin(h, 1, "a", "a", &a);
    client_observe(h, 1, 2, 1, "b", 0);
    request = origin_registration(h, &b);
    origin_answer(h, request, TYPE_ACK, 0, &say);
    origin_cancelled(h, &a);
    expect_state(h, 1, TYPE_ACK, "b", NULL);
    assert_int_equal(observe_usage(h).relations, 1);
    assert_int_equal(observe_usage(h).observations, 1);
    origin_state(h, &a, 2, "a2"); /* its token is not known any more */
    request = harness_take(h);
    assert_non_null(request);
    assert_int_equal(request->data[0] >> 4 & 3, TYPE_RST);
    origin_state(h, &b, 2, "b2");
    expect_state(h, 1, TYPE_NON, "b2", NULL);
    harness_silent(h);
}

static void a_non_registration_is_answered_by_a_non(void **state)
{
    struct harness *h = *state;
    const struct ask ask = {.observe = 0};
    struct registered r;
    int64_t first, second;

    observe_begin(h, 1, "t", "one", &r);
    client_send(h, 2, TYPE_NON, 9, 2, "t", &ask);
    first = expect_state(h, 2, TYPE_NON, "one", NULL);
    origin_state(h, &r, 2, "two");
    expect_state(h, 1, TYPE_NON, "two", NULL);
    second = expect_state(h, 2, TYPE_NON, "two", NULL);
    assert_newer(second, first);
}

static void long_tokens_observe_too(void **state)
{
    struct harness *h = *state;
    const struct ask ask = {.observe = 0, .token_length = 20},
                     leave = {.observe = 1, .token_length = 20};
    const struct say say = {.observed = true, .number = 1, .payload = "one"};
    struct registered r;
    struct message m;

    client_send(h, 1, TYPE_CON, 1, 'T', "t", &ask);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    origin_state(h, &r, 2, "two");
    expect_state(h, 1, TYPE_NON, "two", &m);
    assert_int_equal(m.token_length, 20);
    assert_memory_equal(m.token, "TTTTTTTTTTTTTTTTTTTT", 20);
    client_send(h, 1, TYPE_CON, 2, 'T', "t", &leave);
    origin_cancelled(h, &r);
    expect_state(h, 1, TYPE_ACK, "two", NULL);
}

static void an_etag_that_matches_gets_2_03_and_a_relation(void **state)
{
    struct harness *h = *state;
    const struct ask ask = {.observe = 0, .etag = "e1"};
    const struct say say = {.observed = true, .number = 1, .etag = "e1", .payload = "one"};
    const struct say next = {.observed = true, .number = 2, .etag = "e2", .payload = "two"};
    struct registered r;
    struct message m;

    client_observe(h, 1, 1, 1, "t", 0);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    client_send(h, 2, TYPE_CON, 1, 2, "t", &ask);
    client_expect(h, 2, &m);
    assert_int_equal(m.code, CODE_VALID);
    assert_true(message_has(&m, SLOT_OBSERVE));
    assert_int_equal(m.payload_length, 0);
    origin_notify(h, &r, TYPE_NON, 77, &next);
    expect_state(h, 1, TYPE_NON, "two", NULL);
    expect_state(h, 2, TYPE_NON, "two", NULL);
}

static void an_origin_that_does_not_accept_has_no_observers(void **state)
{
    struct harness *h = *state;
    const struct say say = {.payload = "plain"}, none = {.code = CODE_NOT_FOUND};
    struct message m;

    client_observe(h, 1, 1, 1, "t", 0);
    origin_answer(h, origin_registration(h, NULL), TYPE_ACK, 0, &say);
    assert_true(expect_state(h, 1, TYPE_ACK, "plain", NULL) < 0);
    assert_int_equal(observe_usage(h).observations, 0);
    assert_int_equal(observe_usage(h).relations, 0);
    client_observe(h, 1, 2, 1, "none", 0);
    origin_answer(h, origin_registration(h, NULL), TYPE_ACK, 0, &none);
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_NOT_FOUND);
    assert_false(message_has(&m, SLOT_OBSERVE));
    assert_int_equal(observe_usage(h).observations, 0);
    harness_silent(h);
}

static void a_later_block_cannot_be_observed(void **state)
{
    struct harness *h = *state;
    const struct ask ask = {.in_blocks = true, .block = {.number = 1, .szx = 2}};
    struct message m;

    client_send(h, 1, TYPE_CON, 1, 1, "t", &ask);
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_BAD_REQUEST);
    assert_int_equal(observe_usage(h).observations, 0);
}

static void fetches_with_other_payloads_are_other_resources(void **state)
{
    struct harness *h = *state;
    const struct ask x = {.payload = "x"}, y = {.payload = "y"};
    const struct say say = {.observed = true, .number = 1, .payload = "one"};
    struct registered rx, ry;

    client_send(h, 1, TYPE_CON, 1, 1, "t", &x);
    origin_answer(h, origin_registration(h, &rx), TYPE_ACK, 0, &say);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    client_send(h, 2, TYPE_CON, 1, 2, "t", &y);
    origin_answer(h, origin_registration(h, &ry), TYPE_ACK, 0, &say);
    expect_state(h, 2, TYPE_ACK, "one", NULL);
    client_send(h, 3, TYPE_CON, 1, 3, "t", &x); /* the same as the first */
    expect_state(h, 3, TYPE_ACK, "one", NULL);
    assert_int_equal(observe_usage(h).observations, 2);
    origin_state(h, &rx, 2, "x2");
    expect_state(h, 1, TYPE_NON, "x2", NULL);
    expect_state(h, 3, TYPE_NON, "x2", NULL);
    origin_state(h, &ry, 2, "y2");
    expect_state(h, 2, TYPE_NON, "y2", NULL);
    harness_silent(h);
}

/* ---- leaving ---- */

static void a_client_deregisters(void **state)
{
    struct harness *h = *state;
    struct registered r;

    observe_begin(h, 1, "t", "one", &r);
    observe_join(h, 2, "t", "one");
    client_observe(h, 1, 2, 9, "t", 1); /* a token that observes nothing */
    assert_true(expect_state(h, 1, TYPE_ACK, "one", NULL) < 0);
    assert_int_equal(observe_usage(h).relations, 2);
    client_observe(h, 1, 3, 1, "t", 1);
    assert_true(expect_state(h, 1, TYPE_ACK, "one", NULL) < 0);
    assert_int_equal(observe_usage(h).relations, 1);
    origin_state(h, &r, 2, "two");
    expect_state(h, 2, TYPE_NON, "two", NULL);
    harness_silent(h);
    client_observe(h, 2, 2, 2, "t", 1); /* the last one */
    origin_cancelled(h, &r);
    assert_true(expect_state(h, 2, TYPE_ACK, "two", NULL) < 0);
    assert_int_equal(observe_usage(h).relations, 0);
    harness_silent(h);
}

/* It left, and has begun again: what was meant for the time before does not count any more. */
static void a_late_duplicate_of_a_deregistration_does_nothing(void **state)
{
    struct harness *h = *state;
    struct registered r;

    observe_begin(h, 2, "t", "one", &r);
    observe_join(h, 1, "t", "one");
    client_observe(h, 1, 3, 1, "t", 1);
    assert_true(expect_state(h, 1, TYPE_ACK, "one", NULL) < 0);
    client_observe(h, 1, 4, 1, "t", 0);
    assert_true(expect_state(h, 1, TYPE_ACK, "one", NULL) >= 0);
    client_observe(h, 1, 3, 1, "t", 1);
    assert_true(expect_state(h, 1, TYPE_ACK, "one", NULL) < 0); /* the same answer again */
    assert_int_equal(observe_usage(h).relations, 2);
    origin_state(h, &r, 2, "two");
    expect_state(h, 2, TYPE_NON, "two", NULL);
    expect_state(h, 1, TYPE_NON, "two", NULL);
}

static void who_leaves_before_the_answer_is_not_taken_in(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 1, .payload = "one"};
    struct registered r;
    struct sent *request;

    client_observe(h, 1, 1, 1, "t", 0);
    request = origin_registration(h, &r);
    client_observe(h, 2, 1, 2, "t", 0);
    client_observe(h, 1, 2, 1, "t", 1);
    origin_answer(h, request, TYPE_ACK, 0, &say);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    assert_true(expect_state(h, 2, TYPE_ACK, "one", NULL) >= 0);
    assert_true(expect_state(h, 1, TYPE_ACK, "one", NULL) < 0);
    assert_int_equal(observe_usage(h).relations, 1);
}

static void a_rst_to_any_of_the_last_8_ends_it(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m;
    uint16_t mids[10];

    observe_begin(h, 1, "t", "one", &r);
    for (unsigned i = 0; i < 10; i++) {
        origin_state(h, &r, 2 + i, "next");
        expect_state(h, 1, TYPE_NON, "next", &m);
        mids[i] = m.mid;
    }
    client_empty(h, 2, TYPE_RST, mids[9]); /* another client's */
    client_empty(h, 1, TYPE_RST, mids[1]); /* too old */
    assert_int_equal(observe_usage(h).relations, 1);
    client_empty(h, 1, TYPE_RST, mids[2]);
    assert_int_equal(observe_usage(h).relations, 0);
    origin_cancelled(h, &r);
    client_empty(h, 1, TYPE_RST, mids[9]); /* nothing is left to be ended */
    harness_silent(h);
}

static void registering_while_it_is_being_cancelled_makes_a_new_one(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 1, .payload = "again"}, gone = {0};
    struct registered r, again;
    struct message m;
    struct sent *cancel, *request;
    int64_t number = observe_begin(h, 1, "t", "one", &r);

    origin_state(h, &r, 2, "two"); /* ahead of the clock */
    expect_state(h, 1, TYPE_NON, "two", NULL);
    for (uint16_t mid = 2; mid < 20; mid++) {
        client_observe(h, 1, mid, 1, "t", 0);
        number = expect_state(h, 1, TYPE_ACK, "two", NULL);
    }
    client_observe(h, 1, 20, 1, "t", 1);
    cancel = origin_expect(h, &m);
    assert_int_equal(message_uint(&m, SLOT_OBSERVE, 9), 1);
    h->taken = h->count;
    client_observe(h, 1, 21, 1, "t", 0);
    /* Its state was fresh, but nobody would tell of a change. */
    request = origin_registration(h, &again);
    assert_memory_not_equal(again.token, r.token, 8);
    origin_answer(h, request, TYPE_ACK, 0, &say);
    assert_newer(expect_state(h, 1, TYPE_ACK, "again", NULL), number);
    origin_answer(h, cancel, TYPE_ACK, 0, &gone);
    assert_int_equal(observe_usage(h).observations, 1);
    origin_state(h, &again, 2, "two");
    expect_state(h, 1, TYPE_NON, "two", NULL);
    harness_silent(h);
}

static void a_cancellation_without_an_answer_ends_too(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m;

    observe_begin(h, 1, "t", "one", &r);
    client_observe(h, 1, 2, 1, "t", 1);
    origin_expect(h, &m);
    h->taken = h->count;
    origin_state(h, &r, 2, "late"); /* on its way when we cancelled: no RST, no notification */
    harness_silent(h);
    observe_skip(h, 120);
    assert_int_equal(observe_usage(h).observations, 0);
}

/* ---- the origin ends it ---- */

static void expect_last_word(struct harness *h, unsigned n, uint8_t code)
{
    struct message m;

    client_expect(h, n, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, code);
    assert_int_equal(m.token[0], n);
    assert_false(message_has(&m, SLOT_OBSERVE));
    client_empty(h, n, TYPE_ACK, m.mid);
}

static void an_error_notification_ends_it(void **state)
{
    struct harness *h = *state;
    const struct say say = {.code = CODE_NOT_FOUND, .payload = "gone"};
    struct registered r;
    struct sent *rst;

    observe_begin(h, 1, "t", "one", &r);
    observe_join(h, 2, "t", "one");
    origin_notify(h, &r, TYPE_NON, 5, &say);
    expect_last_word(h, 1, CODE_NOT_FOUND);
    expect_last_word(h, 2, CODE_NOT_FOUND);
    assert_int_equal(observe_usage(h).relations, 0);
    assert_int_equal(observe_usage(h).observations, 0);
    harness_silent(h); /* there is nothing to be cancelled */
    origin_state(h, &r, 9, "again");
    rst = harness_take(h);
    assert_non_null(rst);
    assert_int_equal(rst->data[0] >> 4 & 3, TYPE_RST);
}

static void a_notification_without_observe_ends_it(void **state)
{
    struct harness *h = *state;
    const struct say say = {.payload = "last"};
    struct registered r;
    struct message m;

    observe_begin(h, 1, "t", "one", &r);
    origin_notify(h, &r, TYPE_NON, 5, &say);
    assert_true(expect_state(h, 1, TYPE_CON, "last", &m) < 0);
    client_empty(h, 1, TYPE_ACK, m.mid);
    assert_int_equal(observe_usage(h).observations, 0);
    harness_silent(h);
    client_observe(h, 1, 2, 1, "t", 0); /* from the beginning */
    origin_registration(h, &r);
}

/* ---- limits ---- */

static void beyond_the_limits_answers_have_no_observe(void **state)
{
    struct harness *h = *state;
    const char *paths[] = {"a", "b", "c", "d", "e"};
    const struct say plain = {.payload = "p"};
    struct registered r;
    struct message m;
    struct sent *request;

    for (unsigned i = 0; i < 3; i++)
        observe_begin(h, 10 + i, paths[i], "p", &r);
    for (unsigned i = 0; i < 2; i++) { /* client 10 has 3 relations then */
        client_observe(h, 10, (uint16_t)(20 + i), (uint8_t)(50 + i), paths[1 + i], 0);
        assert_true(expect_state(h, 10, TYPE_ACK, "p", NULL) >= 0);
    }
    client_observe(h, 10, 30, 60, "d", 0); /* client_relations */
    request = origin_expect(h, &m);
    assert_false(message_has(&m, SLOT_OBSERVE));
    origin_answer(h, request, TYPE_ACK, 0, &plain);
    assert_true(expect_state(h, 10, TYPE_ACK, "p", NULL) < 0);
    client_observe(h, 10, 31, 50, "b", 0); /* what it has it may refresh */
    assert_true(expect_state(h, 10, TYPE_ACK, "p", NULL) >= 0);

    observe_begin(h, 13, "d2", "p", &r);
    client_observe(h, 14, 1, 14, "e", 0); /* observations */
    request = origin_expect(h, &m);
    assert_false(message_has(&m, SLOT_OBSERVE));
    origin_answer(h, request, TYPE_ACK, 0, &plain);
    assert_true(expect_state(h, 14, TYPE_ACK, "p", NULL) < 0);

    observe_join(h, 15, "a", "p");
    observe_join(h, 16, "a", "p");
    assert_int_equal(observe_usage(h).relations, 8);
    client_observe(h, 17, 1, 17, "a", 0); /* relations: the cache answers */
    assert_true(expect_state(h, 17, TYPE_ACK, "p", NULL) < 0);
    assert_int_equal(worker_counters(h->worker)->refused_observations, 1);
    assert_int_equal(worker_counters(h->worker)->refused_relations, 2);
    harness_silent(h);
}

static void a_drained_worker_goes_on_notifying(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m;

    observe_begin(h, 1, "t", "one", &r);
    worker_drain(h->worker);
    client_observe(h, 2, 1, 2, "t", 0);
    client_expect(h, 2, &m);
    assert_int_equal(m.code, CODE_SERVICE_UNAVAILABLE);
    origin_state(h, &r, 2, "two");
    expect_state(h, 1, TYPE_NON, "two", NULL);
    assert_true(worker_is_quiet(h->worker));
    client_observe(h, 1, 2, 1, "t", 1);
    origin_cancelled(h, &r);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_registration_is_answered_with_a_number),
        TEST(one_observation_serves_many_clients),
        TEST(who_asks_while_a_registration_is_under_way_is_taken_in),
        TEST(the_same_token_again_is_the_same_relation),
        TEST(a_token_observes_one_resource_at_a_time),
        TEST(a_non_registration_is_answered_by_a_non),
        TEST(long_tokens_observe_too),
        TEST(an_etag_that_matches_gets_2_03_and_a_relation),
        TEST(an_origin_that_does_not_accept_has_no_observers),
        TEST(a_later_block_cannot_be_observed),
        TEST(fetches_with_other_payloads_are_other_resources),
        TEST(a_client_deregisters),
        TEST(a_late_duplicate_of_a_deregistration_does_nothing),
        TEST(who_leaves_before_the_answer_is_not_taken_in),
        TEST(a_rst_to_any_of_the_last_8_ends_it),
        TEST(registering_while_it_is_being_cancelled_makes_a_new_one),
        TEST(a_cancellation_without_an_answer_ends_too),
        TEST(an_error_notification_ends_it),
        TEST(a_notification_without_observe_ends_it),
        TEST(beyond_the_limits_answers_have_no_observe),
        TEST(a_drained_worker_goes_on_notifying),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
