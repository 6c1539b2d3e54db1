#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/random.h"
#include "gateway/session/transmission.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct transmission defaults = TRANSMISSION_DEFAULTS;

static struct random random_of(uint8_t first)
{
    uint8_t seed[RANDOM_SEED_BYTES] = {first};
    struct random r;

    random_seed(&r, seed);
    return r;
}

/* RFC 7252 4.8, table 2. */
static void defaults_are_those_of_the_rfc(void **state)
{
    (void)state;
    assert_int_equal(defaults.ack_timeout_ms, 2000);
    assert_int_equal(defaults.ack_random_factor_milli, 1500);
    assert_int_equal(defaults.max_retransmit, 4);
    assert_int_equal(defaults.nstart, 1);
    assert_int_equal(defaults.default_leisure_ms, 5000);
}

/* RFC 7252 4.8.2, table 3. */
static void derived_values_of_the_rfc(void **state)
{
    (void)state;
    assert_int_equal(transmission_max_span_ms(&defaults), 45000);
    assert_int_equal(transmission_max_wait_ms(&defaults), 93000);
    assert_int_equal(transmission_exchange_lifetime_ms(&defaults), 247000);
    assert_int_equal(transmission_non_lifetime_ms(&defaults), 145000);
    assert_int_equal(EXCHANGE_LIFETIME_MS, 247000);
    assert_int_equal(NON_LIFETIME_MS, 145000);
    assert_int_equal(MAX_LATENCY_MS, 100000);
}

static void derived_values_of_other_sets(void **state)
{
    static const struct {
        uint32_t ack_timeout_ms, factor_milli;
        uint8_t max_retransmit;
        uint64_t span_ms, wait_ms, exchange_ms, non_ms;
    } cases[] = {
        {1, 1000, 0, 0, 1, 200001, 100000},
        {2000, 1500, 0, 0, 3000, 202000, 100000},
        {2000, 1000, 4, 30000, 62000, 232000, 130000},
        {1000, 1500, 2, 4500, 10500, 205500, 104500},
        {1, 1001, 1, 2, 4, 200003, 100002},   /* 1.001 and 3.003, rounded up */
        {3, 1333, 2, 12, 28, 200015, 100012}, /* 11.997 and 27.993 */
        /* The ends of the ranges: 3.6e7 * (2^20 - 1) and 3.6e7 * (2^21 - 1). */
        {3600000, 10000, 20, UINT64_C(37748700000000), UINT64_C(75497436000000),
         UINT64_C(37748703800000), UINT64_C(37748700100000)},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct transmission t = {
            .ack_timeout_ms = cases[i].ack_timeout_ms,
            .ack_random_factor_milli = cases[i].factor_milli,
            .max_retransmit = cases[i].max_retransmit,
            .nstart = 1,
        };
        assert_int_equal(transmission_max_span_ms(&t), cases[i].span_ms);
        assert_int_equal(transmission_max_wait_ms(&t), cases[i].wait_ms);
        assert_int_equal(transmission_exchange_lifetime_ms(&t), cases[i].exchange_ms);
        assert_int_equal(transmission_non_lifetime_ms(&t), cases[i].non_ms);
    }
}

/* RFC 7252 4.2: a uniform draw, both ends included. */
static void initial_timeout_is_uniform(void **state)
{
    enum { MIN = 2000, MAX = 3000, VALUES = MAX - MIN + 1, EXPECTED = 1000 };
    static uint32_t seen[VALUES];
    struct random r = random_of(7);
    double chi_square = 0;

    (void)state;
    for (int i = 0; i < VALUES * EXPECTED; i++) {
        uint32_t timeout_ms = transmission_initial_timeout_ms(&defaults, &r);
        assert_in_range(timeout_ms, MIN, MAX);
        seen[timeout_ms - MIN]++;
    }
    assert_true(seen[0] > 0);
    assert_true(seen[VALUES - 1] > 0);
    for (int i = 0; i < VALUES; i++) {
        double off = (double)seen[i] - EXPECTED;
        chi_square += off * off / EXPECTED;
    }
    /* 1000 degrees of freedom: 1000 +- 44.7; four standard deviations to either side. */
    assert_true(chi_square > 821 && chi_square < 1179);
}

static void initial_timeout_at_the_ends_of_the_ranges(void **state)
{
    struct transmission t = defaults;
    struct random r = random_of(8);
    uint32_t highest = 0;

    (void)state;
    t.ack_random_factor_milli = 1000;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(transmission_initial_timeout_ms(&t, &r), 2000);

    t.ack_timeout_ms = 1;
    t.ack_random_factor_milli = 1999; /* 1.999 ms: 1 is the only whole one */
    for (int i = 0; i < 1000; i++)
        assert_int_equal(transmission_initial_timeout_ms(&t, &r), 1);

    t.ack_timeout_ms = 3600000;
    t.ack_random_factor_milli = 10000;
    for (int i = 0; i < 100000; i++) {
        uint32_t timeout_ms = transmission_initial_timeout_ms(&t, &r);
        assert_in_range(timeout_ms, 3600000, 36000000);
        highest = timeout_ms > highest ? timeout_ms : highest;
    }
    assert_true(highest > 35990000);
}

/* The longest that a sender waits is what 4.8.2 promises, and no draw goes beyond it. */
static void doubling_stays_within_the_longest_wait(void **state)
{
    struct random r = random_of(9);

    (void)state;
    for (int i = 0; i < 10000; i++) {
        struct transmission t = {
            .ack_timeout_ms = 1 + random_below(&r, 3600000),
            .ack_random_factor_milli = 1000 + random_below(&r, 9001),
            .max_retransmit = (uint8_t)random_below(&r, 21),
        };
        uint64_t timeout_ms = transmission_initial_timeout_ms(&t, &r);
        uint64_t elapsed_ms = 0;
        for (unsigned n = 0; n < t.max_retransmit; n++)
            elapsed_ms += timeout_ms << n;
        assert_true(elapsed_ms <= transmission_max_span_ms(&t));
        elapsed_ms += timeout_ms << t.max_retransmit;
        assert_true(elapsed_ms <= transmission_max_wait_ms(&t));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_rfc),
        cmocka_unit_test(derived_values_of_the_rfc),
        cmocka_unit_test(derived_values_of_other_sets),
        cmocka_unit_test(initial_timeout_is_uniform),
        cmocka_unit_test(initial_timeout_at_the_ends_of_the_ranges),
        cmocka_unit_test(doubling_stays_within_the_longest_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
