/* The wire codec: bytes from the RFCs, and what was written read again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/message_samples.h"

#define BYTES(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})
static void check_text(const char *source, const char *want, const uint8_t *got, size_t length)
{
    if (length != (want ? strlen(want) : 0) || (want && memcmp(got, want, length) != 0))
        fail_msg("%s: \"%.*s\"", source, (int)length, got ? (const char *)got : "");
}

static void check_vector(const struct vector *v)
{
    struct message m = parsed((const uint8_t *)v->bytes, v->length);
    uint32_t present = v->path ? SLOT_BIT(SLOT_URI_PATH) : 0;
    struct option_view path = {NULL, 0};

    assert_int_equal(m.type, v->type);
    assert_int_equal(m.code, v->code);
    assert_int_equal(m.mid, v->mid);
    assert_int_equal(m.length, v->length);
    assert_ptr_equal(m.data, v->bytes);
    check_text(v->source, v->token, m.token, m.token_length);
    check_text(v->source, v->payload, m.payload, m.payload_length);
    for (unsigned i = 0; i < 2 && v->slot[i]; i++) {
        present |= SLOT_BIT(v->slot[i]);
        assert_int_equal(message_uint(&m, v->slot[i], 77), v->value[i]);
    }
    assert_int_equal(m.present, present);
    if (v->path)
        path = m.first[SLOT_URI_PATH];
    check_text(v->source, v->path, path.value, path.length);
    assert_int_equal(m.option_count, (unsigned)__builtin_popcount(present));
    assert_int_equal(m.unknown_critical | m.unknown_elective_unsafe, 0);
}

static void examples_of_the_rfcs(void **state)
{
    (void)state;
    for (unsigned i = 0; i < VECTORS; i++)
        check_vector(&vectors[i]);
}

/* A token, and RFC 7252 3.1's extended delta: Max-Age 14 is a delta of 13 + 1. */
static void tokens_and_extended_deltas(void **state)
{
    struct message m = parsed(BYTES(0x61, 0x45, 0x7d, 0x35, 0x20, 0xd1, 0x01, 30, 0xff, 'x'));

    (void)state;
    assert_int_equal(m.token_length, 1);
    assert_int_equal(m.token[0], 0x20);
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 60), 30);
    assert_int_equal(message_uint(&m, SLOT_SIZE2, 60), 60);
    /* Size1 (60): delta 13 + 47. Request-Tag (292): delta 269 + 23 in two bytes. */
    m = parsed(BYTES(0x40, 0x01, 0, 1, 0xd1, 47, 0xff, 0xd1, 219, 7));
    assert_int_equal(message_uint(&m, SLOT_SIZE1, 0), 255);
    assert_true(message_has(&m, SLOT_REQUEST_TAG));
    m = parsed(BYTES(0x40, 0x01, 0, 1, 0xe1, 0, 23, 7));
    assert_true(message_has(&m, SLOT_REQUEST_TAG));
}

static void extended_tokens(void **state)
{
    static const size_t lengths[] = {0, 1, 8, 9, 12, 13, 14, 268, 269, 270, 1000, 65535, 65804};
    static uint8_t token[TOKEN_MAX_BYTES + 1], out[TOKEN_MAX_BYTES + 16];
    struct encoder e;
    struct message m;

    (void)state;
    memset(token, 0x5a, sizeof(token));
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        encoder_begin(&e, out, sizeof(out), TYPE_CON, CODE_GET, 1, token, lengths[i]);
        assert_true(encoder_end(&e) > lengths[i]);
        if (encoder_end(&e) > UINT16_MAX) /* no datagram is that long */
            continue;
        m = parsed(out, encoder_end(&e));
        assert_int_equal(m.token_length, lengths[i]);
        if (lengths[i])
            assert_memory_equal(m.token, token, lengths[i]);
    }
    encoder_begin(&e, out, sizeof(out), TYPE_CON, CODE_GET, 1, token, TOKEN_MAX_BYTES + 1);
    assert_int_equal(encoder_end(&e), 0);
}

/* RFC 7252 5.4: what is recognised, and what an unrecognised number means. */
static void options_by_class(void **state)
{
    struct message m;

    (void)state;
    m = parsed(BYTES(0x40, 0x01, 0, 1, 0xe0, 0xfc, 0xdc)); /* 65001: critical, safe */
    assert_int_equal(m.unknown_critical, 65001);
    assert_int_equal(m.unknown_critical_unsafe, 0);
    m = parsed(BYTES(0x40, 0x01, 0, 1, 0xe0, 0xfc, 0xde)); /* 65003: critical, unsafe */
    assert_int_equal(m.unknown_critical, 65003);
    assert_int_equal(m.unknown_critical_unsafe, 65003);
    m = parsed(BYTES(0x40, 0x01, 0, 1, 0xe0, 0xfc, 0xdd)); /* 65002: elective, unsafe */
    assert_int_equal(m.unknown_critical, 0);
    assert_int_equal(m.unknown_elective_unsafe, 65002);
    m = parsed(BYTES(0x40, 0x01, 0, 1, 0xe0, 0xfc, 0xdb)); /* 65000: elective, safe */
    assert_int_equal(m.unknown_critical | m.unknown_elective_unsafe, 0);
    m = parsed(BYTES(0x40, 0x01, 0, 1, 0x31, 'a', 0x01, 'b')); /* Uri-Host twice: the second */
    assert_int_equal(m.unknown_critical_unsafe, OPTION_URI_HOST);
    assert_int_equal(m.first[SLOT_URI_HOST].value[0], 'a');
    m = parsed(BYTES(0x40, 0x01, 0, 1, 0x30)); /* Uri-Host of length 0 */
    assert_int_equal(m.unknown_critical, OPTION_URI_HOST);
    assert_false(message_has(&m, SLOT_URI_HOST));
    m = parsed(BYTES(0x40, 0x45, 0, 1, 0xd1, 1, 1, 0x01, 2)); /* Max-Age twice: elective, unsafe */
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 0), 1);
    assert_int_equal(m.unknown_elective_unsafe, OPTION_MAX_AGE);
}

static void repeated_options_are_walked(void **state)
{
    struct message m = parsed(BYTES(0x40, 0x01, 0, 1, 0x31, 'h', 0x81, 'a', 0x00, 0x01, 'c', 0x41,
                                    'q', 0x01, 'r', 0xff, 'p'));
    struct option_cursor c = option_cursor_at(&m, SLOT_URI_PATH);
    struct option_view v;

    (void)state;
    assert_true(option_next_same(&c, &v) && v.length == 1 && v.value[0] == 'a');
    assert_true(option_next_same(&c, &v) && v.length == 0);
    assert_true(option_next_same(&c, &v) && v.length == 1 && v.value[0] == 'c');
    assert_false(option_next_same(&c, &v));
    c = option_cursor_at(&m, SLOT_URI_QUERY);
    assert_true(option_next_same(&c, &v) && v.value[0] == 'q');
    assert_true(option_next_same(&c, &v) && v.value[0] == 'r');
    assert_false(option_next_same(&c, &v));
    c = option_cursor_at(&m, SLOT_ETAG);
    assert_false(option_next_same(&c, &v));
    /* ETags of a bad length between good ones count for nothing. */
    m = parsed(BYTES(0x40, 0x01, 0, 1, 0x41, 1, 0x00, 0x09, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x01, 2));
    c = option_cursor_at(&m, SLOT_ETAG);
    assert_true(option_next_same(&c, &v) && v.value[0] == 1);
    assert_true(option_next_same(&c, &v) && v.length == 1 && v.value[0] == 2);
    assert_false(option_next_same(&c, &v));
}

/* ---- round trips ---- */
static void what_is_written_is_read(void **state)
{
    struct random r;
    uint8_t seed[RANDOM_SEED_BYTES] = {7}, out[8192], again[8192];

    (void)state;
    random_seed(&r, seed);
    for (unsigned i = 0; i < 20000; i++) {
        size_t length = random_message(&r, out, sizeof(out));
        struct message m = parsed(out, length);

        assert_int_equal(rewrite(&m, again, sizeof(again)), length);
        assert_memory_equal(out, again, length);
    }
}

static void examples_are_written_as_they_were(void **state)
{
    uint8_t again[64];

    (void)state;
    for (unsigned i = 0; i < VECTORS; i++) {
        struct message m = parsed((const uint8_t *)vectors[i].bytes, vectors[i].length);

        assert_int_equal(rewrite(&m, again, sizeof(again)), vectors[i].length);
        assert_memory_equal(again, vectors[i].bytes, vectors[i].length);
    }
}

static void nothing_is_written_past_the_room(void **state)
{
    struct random r;
    uint8_t seed[RANDOM_SEED_BYTES] = {9}, whole[8192];

    (void)state;
    random_seed(&r, seed);
    for (unsigned i = 0; i < 300; i++) {
        size_t length = random_message(&r, whole, sizeof(whole));
        struct message m = parsed(whole, length);
        uint8_t *exact = malloc(length); /* the sanitizer watches its end */

        assert_int_equal(rewrite(&m, exact, length), length);
        for (size_t room = 0; room < length; room += 1 + length / 50)
            assert_int_equal(rewrite(&m, exact, room), 0);
        free(exact);
    }
}

static void options_come_in_order(void **state)
{
    uint8_t out[64];
    struct encoder e;

    (void)state;
    encoder_begin(&e, out, sizeof(out), TYPE_CON, CODE_GET, 1, NULL, 0);
    encoder_option(&e, OPTION_URI_QUERY, "a", 1);
    encoder_option(&e, OPTION_URI_PATH, "b", 1);
    encoder_payload(&e, "x", 1);
    assert_int_equal(encoder_end(&e), 0);
}

/* RFC 7252 3.2: as few bytes as the value needs. */
static void uints_are_short(void **state)
{
    static const struct {
        uint32_t value;
        size_t length;
    } cases[] = {{0, 0},     {1, 1},     {255, 1},      {256, 2},
                 {65535, 2}, {65536, 3}, {16777215, 3}, {16777216, 4}};
    uint8_t out[64];

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct encoder e;
        struct message m;

        encoder_begin(&e, out, sizeof(out), TYPE_CON, CODE_GET, 1, NULL, 0);
        encoder_uint(&e, OPTION_SIZE1, cases[i].value);
        m = parsed(out, encoder_end(&e));
        assert_int_equal(m.first[SLOT_SIZE1].length, cases[i].length);
        assert_int_equal(message_uint(&m, SLOT_SIZE1, 99), cases[i].value);
    }
}

/* What was encoded before, behind a new header; and a change of type afterwards. */
static void raw_bytes_and_a_change_of_type(void **state)
{
    static const uint8_t rest[] = {0xb1, 'a', 0xff, 'x'};
    static const uint8_t token[] = {1, 2};
    uint8_t out[10];
    struct encoder e;
    struct message m;

    (void)state;
    encoder_begin(&e, out, sizeof(out), TYPE_CON, CODE_POST, 0x0102, token, sizeof(token));
    encoder_raw(&e, rest, sizeof(rest));
    m = parsed(out, encoder_end(&e));
    assert_int_equal(m.type, TYPE_CON);
    assert_true(message_has(&m, SLOT_URI_PATH));
    assert_int_equal(m.payload_length, 1);
    for (unsigned type = 0; type < 4; type++) {
        message_set_type(out, type);
        m = parsed(out, sizeof(out));
        assert_int_equal(m.type, type);
        assert_int_equal(m.token_length, 2);
        assert_int_equal(m.code, CODE_POST);
    }
    encoder_begin(&e, out, sizeof(out) - 1, TYPE_CON, CODE_POST, 0x0102, token, sizeof(token));
    encoder_raw(&e, rest, sizeof(rest));
    assert_int_equal(encoder_end(&e), 0);
}

static void empty_messages(void **state)
{
    uint8_t out[MESSAGE_HEADER_BYTES];

    (void)state;
    for (unsigned type = 0; type < 4; type++) {
        struct message m;

        message_write_empty(out, type, 0xfedc);
        m = parsed(out, sizeof(out));
        assert_int_equal(m.type, type);
        assert_int_equal(m.code, CODE_EMPTY);
        assert_int_equal(m.mid, 0xfedc);
        assert_int_equal(m.option_count | m.present | m.options_length | m.payload_length, 0);
    }
}

/* RFC 7252 4.2 has classes 1, 6 and 7 rejected. Any other code is taken, known or not; those of
 * class 3 are responses by 12.1. */
static void codes(void **state)
{
    (void)state;
    for (unsigned code = 1; code < 256; code++) {
        const uint8_t bytes[] = {0x40, (uint8_t)code, 0, 1};
        bool reserved = code >> 5 == 1 || code >> 5 >= 6;
        struct message m;

        assert_int_equal(message_parse(bytes, sizeof(bytes), &m),
                         reserved ? VERDICT_CODE_CLASS : VERDICT_OK);
        assert_int_equal(m.code, code);
    }
}

static void verdicts_have_names_of_their_own(void **state)
{
    (void)state;
    for (unsigned a = 0; a < VERDICT_COUNT; a++)
        for (unsigned b = 0; b < a; b++)
            assert_string_not_equal(message_verdict_name(a), message_verdict_name(b));
    assert_string_equal(message_verdict_name(VERDICT_COUNT), "unknown");
}
/* ---- merging ---- */

#define MERGED_MAX 8

/* Options of any numbers and lengths, in order: encoded in `out`, and as a list. */
static size_t random_options(struct random *random, struct addition list[MERGED_MAX],
                             unsigned *count, uint8_t *out, size_t room)
{
    static const uint8_t value[300] = {1, 2, 3};
    struct encoder e = {.data = out, .room = (uint32_t)room};
    uint16_t number = 0;

    *count = random_below(random, MERGED_MAX + 1);
    for (unsigned i = 0; i < *count; i++) {
        uint32_t step = random_below(random, 4) ? random_below(random, 6) : 290;
        uint16_t length = (uint16_t)random_below(random, random_below(random, 6) ? 20 : 300);

        number = (uint16_t)(number + step);
        list[i] = addition_bytes(number, value, length);
        encoder_option(&e, number, value, length);
    }
    assert_false(e.failed);
    return e.length;
}

/* All of both in order, those of `base` that have a number of an addition left out. */
static size_t merge_slowly(const struct addition *base, unsigned base_count,
                           const struct addition *added, unsigned added_count, uint8_t *out,
                           size_t room)
{
    struct encoder e = {.data = out, .room = (uint32_t)room};
    unsigned next = 0;

    for (unsigned i = 0; i < base_count; i++) {
        bool replaced = false;

        for (; next < added_count && added[next].number <= base[i].number; next++)
            encoder_option(&e, added[next].number, added[next].value, added[next].length);
        for (unsigned k = 0; k < added_count; k++)
            replaced = replaced || added[k].number == base[i].number;
        if (!replaced)
            encoder_option(&e, base[i].number, base[i].value, base[i].length);
    }
    for (; next < added_count; next++)
        encoder_option(&e, added[next].number, added[next].value, added[next].length);
    return encoder_end(&e);
}

static void merged_options_are_the_same_as_one_by_one(void **state)
{
    static const uint8_t seed[RANDOM_SEED_BYTES] = {3};
    struct random random;

    (void)state;
    random_seed(&random, seed);
    for (unsigned i = 0; i < 20000; i++) {
        struct addition base[MERGED_MAX], added[MERGED_MAX];
        unsigned base_count, added_count;
        uint8_t bytes[4096], other[4096], expected[8192], merged[8192];
        size_t length = random_options(&random, base, &base_count, bytes, sizeof(bytes));
        struct encoder e = {.data = merged, .room = sizeof(merged)};

        random_options(&random, added, &added_count, other, sizeof(other));
        encoder_merge(&e, bytes, length, added, added_count);
        assert_int_equal(encoder_end(&e), merge_slowly(base, base_count, added, added_count,
                                                       expected, sizeof(expected)));
        assert_memory_equal(merged, expected, e.length);
        /* One byte less than it takes is too little. */
        if (e.length) {
            struct encoder small = {.data = merged, .room = e.length - 1};

            encoder_merge(&small, bytes, length, added, added_count);
            assert_int_equal(encoder_end(&small), 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_of_the_rfcs),
        cmocka_unit_test(tokens_and_extended_deltas),
        cmocka_unit_test(extended_tokens),
        cmocka_unit_test(options_by_class),
        cmocka_unit_test(repeated_options_are_walked),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(examples_are_written_as_they_were),
        cmocka_unit_test(nothing_is_written_past_the_room),
        cmocka_unit_test(options_come_in_order),
        cmocka_unit_test(uints_are_short),
        cmocka_unit_test(raw_bytes_and_a_change_of_type),
        cmocka_unit_test(empty_messages),
        cmocka_unit_test(codes),
        cmocka_unit_test(verdicts_have_names_of_their_own),
        cmocka_unit_test(merged_options_are_the_same_as_one_by_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
