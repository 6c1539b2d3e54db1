/* What is asked for all the time (gateway/proxy/hot.h): the same answers as before, as long as the
 * cache would give them and no longer. From the third time on an answer comes from there. */
#include "tests/unit/proxy_steps.h"

#define TIMES 4

#define A            OPTIONS(PATH("a"))
#define AGE(seconds) OPTIONS(UINT(OPTION_MAX_AGE, seconds))

static uint16_t next_mid;

static int begin(void **state)
{
    next_mid = 100;
    return start(state, ORIGINS_YAML("{size: 1MiB}", ""));
}

static void expect_hot(struct harness *h, const struct opt *request, const char *payload)
{
    for (unsigned i = 0; i < TIMES; i++)
        expect_hit(h, 2 + i % 2, next_mid++, request, payload);
}

static uint32_t age_at_client(struct harness *h)
{
    struct message m;

    ask_with(h, 2, next_mid++, CODE_GET, A, NULL);
    expect_client(h, 2, CODE_CONTENT, &m);
    return message_uint(&m, SLOT_MAX_AGE, 99);
}

static void max_age_counts_down(void **state)
{
    struct harness *h = *state;

    fetch_through(h, 1, 1, A, AGE(5), "one");
    for (uint32_t left = 5; left; left--) {
        for (unsigned i = 0; i < TIMES; i++) {
            assert_int_equal(age_at_client(h), left);
            harness_advance(h, SECOND_US / TIMES);
        }
    }
    fetch_through(h, 1, 2, A, AGE(5), "two");
    assert_int_equal(COUNTER(h, cache_hits), 5 * TIMES);
}

static void without_max_age_none_is_sent_in_the_first_second(void **state)
{
    struct harness *h = *state;

    fetch_through(h, 1, 1, A, NO_OPTIONS, "one");
    for (unsigned i = 0; i < TIMES; i++)
        assert_int_equal(age_at_client(h), 99);
    harness_advance(h, SECOND_US);
    for (unsigned i = 0; i < TIMES; i++)
        assert_int_equal(age_at_client(h), 59);
}

static void a_change_ends_it(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 1, A, AGE(60), "one");
    expect_hot(h, A, "one");
    ask_with(h, 3, next_mid++, CODE_PUT, A, "two");
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 3, CODE_CHANGED, &m);
    fetch_through(h, 1, 2, A, AGE(60), "two");
    expect_hot(h, A, "two");
}

static void what_is_validated_is_given_anew(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 1, A, OPTIONS(TEXT(OPTION_ETAG, "1"), UINT(OPTION_MAX_AGE, 1)), "one");
    expect_hot(h, A, "one");
    harness_advance(h, SECOND_US);
    ask_with(h, 1, 2, CODE_GET, A, NULL);
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_VALID, OPTIONS(TEXT(OPTION_ETAG, "1"), UINT(OPTION_MAX_AGE, 30)),
                NULL);
    expect_client(h, 1, CODE_CONTENT, &m);
    expect_hot(h, A, "one");
    assert_int_equal(age_at_client(h), 30);
}

static void requests_that_differ_have_their_own(void **state)
{
    struct harness *h = *state;
    struct message m;

    fetch_through(h, 1, 1, A, AGE(60), "one");
    expect_hot(h, A, "one");
    fetch_through(h, 1, 2, OPTIONS(PATH("a"), UINT(OPTION_ACCEPT, 50)), AGE(60), "json");
    fetch_through(h, 1, 3, OPTIONS(PATH("a"), TEXT(OPTION_URI_QUERY, "q")), AGE(60), "query");
    expect_hot(h, OPTIONS(PATH("a"), UINT(OPTION_ACCEPT, 50)), "json");
    expect_hot(h, OPTIONS(PATH("a"), TEXT(OPTION_URI_QUERY, "q")), "query");
    expect_hot(h, A, "one");
    /* What has more in it than the name of a resource goes the long way. */
    ask_with(h, 2, next_mid++, CODE_GET, OPTIONS(PATH("a"), UINT(OPTION_BLOCK2, 0)), NULL);
    expect_client(h, 2, CODE_CONTENT, &m);
    assert_true(message_has(&m, SLOT_BLOCK2));
    ask_with(h, 2, next_mid++, CODE_FETCH, A, "x");
    expect_upstream(h, &m);
    assert_int_equal(m.code, CODE_FETCH);
}

static void a_long_answer_is_not_cut(void **state)
{
    static char text[300];
    struct harness *h = *state;

    memset(text, 'x', sizeof(text) - 1);
    fetch_through(h, 1, 1, A, AGE(60), text);
    expect_hot(h, A, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(max_age_counts_down, begin, finish),
        cmocka_unit_test_setup_teardown(without_max_age_none_is_sent_in_the_first_second, begin,
                                        finish),
        cmocka_unit_test_setup_teardown(a_change_ends_it, begin, finish),
        cmocka_unit_test_setup_teardown(what_is_validated_is_given_anew, begin, finish),
        cmocka_unit_test_setup_teardown(requests_that_differ_have_their_own, begin, finish),
        cmocka_unit_test_setup_teardown(a_long_answer_is_not_cut, begin, finish),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
