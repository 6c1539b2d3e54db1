/* The sets of numbers that tell whether one came twice: against a table of all numbers. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/fleet/spans.h"

#define NUMBERS 512

static void spans_are_whole(const struct spans *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        assert_true(s->list[i].from <= s->list[i].to);
        if (i)
            assert_true(s->list[i - 1].to < s->list[i].from);
    }
}

static void numbers_in_order_are_one_span(void **state)
{
    struct spans s = {0};

    (void)state;
    for (uint64_t i = 0; i < 100; i++)
        assert_true(spans_add(&s, (UINT64_C(1) << 48) + i));
    assert_int_equal(s.count, 1);
    for (uint64_t i = 0; i < 100; i++)
        assert_false(spans_add(&s, (UINT64_C(1) << 48) + i));
    assert_int_equal(s.list[0].to, (UINT64_C(1) << 48) + 99);
    spans_free(&s);
}

static void each_number_is_new_once(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 50; seed++) {
        struct spans s = {0};
        bool seen[NUMBERS] = {0};

        srandom(seed);
        for (unsigned i = 0; i < 2 * NUMBERS; i++) {
            unsigned n = (unsigned)random() % NUMBERS;

            assert_int_equal(spans_add(&s, n), !seen[n]);
            seen[n] = true;
            spans_are_whole(&s);
        }
        for (unsigned n = 0; n < NUMBERS; n++)
            assert_int_equal(spans_add(&s, n), !seen[n]);
        spans_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_in_order_are_one_span),
        cmocka_unit_test(each_number_is_new_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
