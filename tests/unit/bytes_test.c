/* Short copies and comparisons: every length, and not a byte beside it. */
#include "tests/unit/worker_harness.h"

#include "gateway/bytes.h"

#define LONGEST 130
#define GUARD   16

static void copies_what_it_is_told(void **state)
{
    uint8_t from[LONGEST], to[GUARD + LONGEST + GUARD];

    (void)state;
    for (unsigned i = 0; i < LONGEST; i++)
        from[i] = (uint8_t)(i * 7 + 1);
    for (unsigned length = 0; length <= LONGEST; length++) {
        /* On the heap, so that a sanitizer sees a byte read beyond. */
        uint8_t *exact = malloc(length + 1);

        assert_non_null(exact);
        memcpy(exact, from, length);
        exact = realloc(exact, length ? length : 1);
        assert_non_null(exact);
        memset(to, 0xee, sizeof(to));
        bytes_copy(to + GUARD, exact, length);
        assert_memory_equal(to + GUARD, from, length);
        for (unsigned i = 0; i < GUARD; i++) {
            assert_int_equal(to[i], 0xee);
            assert_int_equal(to[GUARD + length + i], 0xee);
        }
        free(exact);
    }
}

static void compares_every_bit(void **state)
{
    (void)state;
    for (size_t length = 0; length <= 40; length++) {
        uint8_t *a = malloc(length ? length : 1), *b = malloc(length ? length : 1);

        assert_true(a && b);
        memset(a, 0x5a, length);
        memset(b, 0x5a, length);
        assert_true(bytes_equal(a, b, length));
        for (size_t bit = 0; bit < length * 8; bit++) {
            b[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_false(bytes_equal(a, b, length));
            b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        free(a);
        free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies_what_it_is_told),
                                       cmocka_unit_test(compares_every_bit)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
