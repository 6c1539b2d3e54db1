/* The table of options against the RFCs' own tables, written down here a second time; and what the
 * parser makes of lengths at and beyond the limits, of repetition, and of unknown numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/coap/message.h"

struct expected {
    uint16_t number;
    const char *name, *flags; /* C critical, U unsafe, N no cache key, R repeatable */
    char format;              /* e empty, o opaque, u uint, s string */
    uint16_t min_length, max_length;
};

static const struct expected registered[] = {
    /* RFC 7252 5.10, table 4 */
    {1, "If-Match", "CR", 'o', 0, 8},      {3, "Uri-Host", "CU", 's', 1, 255},
    {4, "ETag", "R", 'o', 1, 8},           {5, "If-None-Match", "C", 'e', 0, 0},
    {7, "Uri-Port", "CU", 'u', 0, 2},      {8, "Location-Path", "R", 's', 0, 255},
    {11, "Uri-Path", "CUR", 's', 0, 255},  {12, "Content-Format", "", 'u', 0, 2},
    {14, "Max-Age", "U", 'u', 0, 4},       {15, "Uri-Query", "CUR", 's', 0, 255},
    {17, "Accept", "C", 'u', 0, 2},        {20, "Location-Query", "R", 's', 0, 255},
    {35, "Proxy-Uri", "CU", 's', 1, 1034}, {39, "Proxy-Scheme", "CU", 's', 1, 255},
    {60, "Size1", "N", 'u', 0, 4},         {6, "Observe", "U", 'u', 0, 3}, /* RFC 7641 2, table 1 */
    {23, "Block2", "CU", 'u', 0, 3},      /* RFC 7959 2.1, table 1 */
    {27, "Block1", "CU", 'u', 0, 3},      /* the same */
    {28, "Size2", "N", 'u', 0, 4},        /* RFC 7959 4, table 2 */
    {258, "No-Response", "U", 'u', 0, 1}, /* RFC 7967 2, table 1 */
    {9, "OSCORE", "C", 'o', 0, 255},      /* RFC 8613 2, figure 1 */
    {16, "Hop-Limit", "", 'u', 1, 1},     /* RFC 8768 3, table 1 */
    {252, "Echo", "N", 'o', 1, 40},       /* RFC 9175 2.2.1, table 1 */
    {292, "Request-Tag", "R", 'o', 0, 8}, /* RFC 9175 3.2.1, table 2 */
    {19, "Q-Block1", "CU", 'u', 0, 3},    /* RFC 9177 4.1, table 1 */
    {31, "Q-Block2", "CUR", 'u', 0, 3},   /* the same */
    {21, "EDHOC", "C", 'e', 0, 0},        /* RFC 9668 3.1, table 1 */
};

#define REGISTERED (sizeof(registered) / sizeof(registered[0]))

static bool flagged(const struct expected *e, char flag)
{
    return strchr(e->flags, flag) != NULL;
}

static void the_table_is_that_of_the_rfcs(void **state)
{
    uint32_t critical = 0;

    (void)state;
    assert_int_equal(REGISTERED, SLOT_COUNT - 1);
    for (unsigned i = 0; i < REGISTERED; i++) {
        const struct expected *e = &registered[i];
        enum option_slot slot = option_slot(e->number);
        const struct option_info *info = &option_table[slot];

        assert_int_not_equal(slot, SLOT_UNKNOWN);
        assert_string_equal(info->name, e->name);
        assert_int_equal(info->number, e->number);
        assert_int_equal(info->min_length, e->min_length);
        assert_int_equal(info->max_length, e->max_length);
        assert_int_equal("eous"[info->format], e -> format);
        assert_int_equal(info->repeatable, flagged(e, 'R'));
        assert_int_equal(option_is_critical(e->number), flagged(e, 'C'));
        assert_int_equal(option_is_unsafe(e->number), flagged(e, 'U'));
        assert_int_equal(option_is_no_cache_key(e->number), flagged(e, 'N'));
        if (flagged(e, 'C'))
            critical |= SLOT_BIT(slot);
    }
    assert_int_equal(option_critical_slots, critical);
}

static void no_other_number_has_a_slot(void **state)
{
    unsigned found = 0;

    (void)state;
    for (uint32_t number = 0; number <= UINT16_MAX; number++) {
        enum option_slot slot = option_slot((uint16_t)number);

        found += slot != SLOT_UNKNOWN;
        if (slot != SLOT_UNKNOWN)
            assert_int_equal(option_table[slot].number, number);
    }
    assert_int_equal(found, REGISTERED);
    assert_null(option_table[SLOT_UNKNOWN].name);
}

/* ---- what the parser makes of them ---- */

/* A request with `count` options of one number and the given lengths, parsed. The bytes stay valid
 * until the next call. */
static struct message request_with(uint16_t number, const uint16_t *lengths, unsigned count)
{
    static uint8_t out[4096], value[1100];
    struct encoder e;
    struct message m;

    encoder_begin(&e, out, sizeof(out), TYPE_CON, CODE_GET, 1, NULL, 0);
    for (unsigned i = 0; i < count; i++) {
        memset(value, (int)i + 1, sizeof(value));
        encoder_option(&e, number, value, lengths[i]);
    }
    assert_int_equal(message_parse(out, encoder_end(&e), &m), VERDICT_OK);
    assert_int_equal(m.option_count, count);
    return m;
}

/* RFC 7252 5.4.1: an unrecognised option is reported by its class. */
static void assert_unrecognised(const struct message *m, uint16_t number)
{
    bool critical = number & 1, is_unsafe = number & 2;

    assert_int_equal(m->unknown_critical, critical ? number : 0);
    assert_int_equal(m->unknown_critical_unsafe, critical && is_unsafe ? number : 0);
    assert_int_equal(m->unknown_elective_unsafe, !critical && is_unsafe ? number : 0);
}

static void assert_all_recognised(const struct message *m)
{
    assert_int_equal(m->unknown_critical, 0);
    assert_int_equal(m->unknown_critical_unsafe, 0);
    assert_int_equal(m->unknown_elective_unsafe, 0);
}

/* RFC 7252 5.4.3: a length outside the range makes the option an unrecognised one. */
static void lengths_at_and_beyond_the_limits(void **state)
{
    (void)state;
    for (unsigned i = 0; i < REGISTERED; i++) {
        const struct expected *e = &registered[i];
        enum option_slot slot = option_slot(e->number);
        uint16_t good[] = {e->min_length, e->max_length};
        uint16_t bad[] = {(uint16_t)(e->max_length + 1), (uint16_t)(e->min_length - 1)};

        for (unsigned k = 0; k < 2; k++) {
            struct message m = request_with(e->number, &good[k], 1);

            assert_int_equal(m.present, SLOT_BIT(slot));
            assert_int_equal(m.first[slot].length, good[k]);
            assert_all_recognised(&m);
        }
        for (unsigned k = 0; k < (e->min_length ? 2u : 1u); k++) {
            struct message m = request_with(e->number, &bad[k], 1);

            assert_int_equal(m.present, 0);
            assert_unrecognised(&m, e->number);
        }
    }
}

/* RFC 7252 5.4.5: each occurrence after the first of an option that may not repeat is unrecognised;
 * one of a bad length does not use up the place of the first. */
static void repetition(void **state)
{
    (void)state;
    for (unsigned i = 0; i < REGISTERED; i++) {
        const struct expected *e = &registered[i];
        enum option_slot slot = option_slot(e->number);
        uint16_t twice[] = {e->max_length, e->min_length};
        uint16_t late[] = {(uint16_t)(e->max_length + 1), e->max_length};
        struct message m = request_with(e->number, twice, 2);

        assert_int_equal(m.present, SLOT_BIT(slot));
        assert_int_equal(m.first[slot].length, e->max_length);
        if (e->max_length)
            assert_int_equal(m.first[slot].value[0], 1);
        if (flagged(e, 'R'))
            assert_all_recognised(&m);
        else
            assert_unrecognised(&m, e->number);

        m = request_with(e->number, late, 2);
        assert_int_equal(m.present, SLOT_BIT(slot));
        assert_int_equal(m.first[slot].length, e->max_length);
        if (e->max_length)
            assert_int_equal(m.first[slot].value[0], 2);
        assert_unrecognised(&m, e->number);
    }
}

/* Walking a repeatable option returns every good occurrence in order, and nothing else. */
static void walking_skips_bad_lengths(void **state)
{
    (void)state;
    for (unsigned i = 0; i < REGISTERED; i++) {
        const struct expected *e = &registered[i];
        uint16_t over = (uint16_t)(e->max_length + 1);
        uint16_t lengths[] = {over, e->min_length, over, e->max_length, over};
        struct option_cursor c;
        struct option_view v;
        struct message m;

        if (!flagged(e, 'R'))
            continue;
        m = request_with(e->number, lengths, 5);
        c = option_cursor_at(&m, option_slot(e->number));
        assert_true(option_next_same(&c, &v));
        assert_int_equal(v.length, e->min_length);
        assert_true(option_next_same(&c, &v));
        assert_int_equal(v.length, e->max_length);
        assert_int_equal(v.value[0], 4);
        assert_false(option_next_same(&c, &v));
        assert_false(option_next_same(&c, &v));
    }
}

static void unknown_numbers_of_each_class(void **state)
{
    static const uint16_t numbers[] = {2,   10,  13,  18,   22,    24,    25,    26,    29,
                                       30,  33,  37,  61,   62,    63,    64,    65,    66,
                                       67,  128, 251, 253,  254,   255,   256,   257,   259,
                                       291, 293, 300, 9999, 65000, 65001, 65002, 65003, 65535};
    static const uint16_t length = 3;

    (void)state;
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct message m = request_with(numbers[i], &length, 1);

        assert_int_equal(m.present, 0);
        assert_unrecognised(&m, numbers[i]);
    }
}

/* Of several unrecognised options, each field names the first of its class. */
static void the_first_of_each_class_is_reported(void **state)
{
    static const uint16_t numbers[] = {0, 2, 10, 13, 25, 29, 67, 71};
    uint8_t out[64];
    struct encoder e;
    struct message m;

    (void)state;
    encoder_begin(&e, out, sizeof(out), TYPE_CON, CODE_GET, 1, NULL, 0);
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        encoder_option(&e, numbers[i], "x", 1);
    assert_int_equal(message_parse(out, encoder_end(&e), &m), VERDICT_OK);
    assert_int_equal(m.option_count, 8);
    assert_int_equal(m.unknown_elective_unsafe, 2);
    assert_int_equal(m.unknown_critical, 13);
    assert_int_equal(m.unknown_critical_unsafe, 67);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_that_of_the_rfcs),
        cmocka_unit_test(no_other_number_has_a_slot),
        cmocka_unit_test(lengths_at_and_beyond_the_limits),
        cmocka_unit_test(repetition),
        cmocka_unit_test(walking_skips_bad_lengths),
        cmocka_unit_test(unknown_numbers_of_each_class),
        cmocka_unit_test(the_first_of_each_class_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
