/* Block options (RFC 7959 2.2 and the values that its examples show). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/coap/block.h"

static void values_of_the_rfc(void **state)
{
    static const struct {
        uint32_t value, number;
        bool more;
        uint32_t size;
    } cases[] = {
        {33, 2, false, 32},              /* 3: "2:2/0/32" */
        {59, 3, true, 128},              /* 3: "1:3/1/128" */
        {0x0b, 0, true, 128},            /* 3.1, figure 2: 2:0/1/128 */
        {0x13, 1, false, 128},           /* figure 2: 2:1/0/128 */
        {0x02, 0, false, 64},            /* figure 3: 2:0/0/64 */
        {0x42, 4, false, 64},            /* figure 3: 2:4/0/64 */
        {0, 0, false, 16},               /* 2.2: no bytes at all */
        {0x1e, 1, true, 1024},           /* the largest size */
        {0xfffff6, 0xfffff, false, 1024} /* the last block number */
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct block b;

        assert_int_equal(block_decode(cases[i].value, &b), 0);
        assert_int_equal(b.number, cases[i].number);
        assert_int_equal(b.more, cases[i].more);
        assert_int_equal(block_size(&b), cases[i].size);
        assert_int_equal(block_encode(&b), cases[i].value);
    }
}

/* All that three bytes can hold, and what goes beyond. */
static void every_value(void **state)
{
    struct block b;
    uint32_t wrong = 0;

    (void)state;
    for (uint32_t value = 0; value <= 0xffffff; value++) {
        int err = block_decode(value, &b);

        if ((value & 7) == 7) /* reserved */
            wrong += err == 0;
        else
            wrong += err != 0 || block_encode(&b) != value;
    }
    assert_int_equal(wrong, 0);
    assert_true(block_decode(0x1000000, &b) < 0);
    assert_true(block_decode(UINT32_MAX, &b) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_the_rfc),
        cmocka_unit_test(every_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
