/* What must hold of a wheel at any time; for its tests, which include cmocka first. */
#ifndef COAPGW_TESTS_UNIT_WHEEL_CHECK_H
#define COAPGW_TESTS_UNIT_WHEEL_CHECK_H

#include "gateway/timer/wheel.h"

/* Every list is linked both ways, every bit says what its slot holds, and the count is right. */
static inline void check_structure(const struct wheel *wheel)
{
    uint64_t found = 0;

    for (unsigned level = 0; level < WHEEL_LEVELS; level++)
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) {
            struct timer *const *link = &wheel->slots[level][slot];
            uint64_t bit = wheel->occupied[level][slot / 64] >> (slot % 64) & 1;
            assert_int_equal(bit, *link != NULL);
            for (; *link; link = &(*link)->next, found++) {
                assert_ptr_equal((*link)->link, link);
                assert_true((*link)->tick > wheel->tick);
            }
        }
    assert_int_equal(found, wheel->armed);
}

#endif
