/* The wire codec: bytes from the RFCs, every truncation, every flipped byte, and what was written
 * read again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/coap/block.h"
#include "gateway/coap/message.h"
#include "gateway/random.h"

#define BYTES(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

static struct message parsed(const uint8_t *data, size_t length)
{
    struct message m;

    assert_int_equal(message_parse(data, length, &m), VERDICT_OK);
    return m;
}

/* RFC 7252 appendix A, figure 16: CON GET "temperature", answered by a piggybacked "22.3 C". */
static void figure_16(void **state)
{
    struct message m = parsed(
        BYTES(0x40, 0x01, 0x7d, 0x34, 0xbb, 't', 'e', 'm', 'p', 'e', 'r', 'a', 't', 'u', 'r', 'e'));

    (void)state;
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, CODE_GET);
    assert_int_equal(m.mid, 0x7d34);
    assert_int_equal(m.token_length, 0);
    assert_int_equal(m.option_count, 1);
    assert_true(message_has(&m, SLOT_URI_PATH));
    assert_int_equal(m.first[SLOT_URI_PATH].length, 11);
    assert_memory_equal(m.first[SLOT_URI_PATH].value, "temperature", 11);
    assert_null(m.payload);

    m = parsed(BYTES(0x60, 0x45, 0x7d, 0x34, 0xff, '2', '2', '.', '3', ' ', 'C'));
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_int_equal(m.payload_length, 6);
    assert_memory_equal(m.payload, "22.3 C", 6);
}

/* Figure 17: the same with a token; 3.1's extended delta: Max-Age 14 is a delta of 13 + 1. */
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

static void the_table_says_what_the_rfcs_say(void **state)
{
    (void)state;
    for (unsigned slot = 1; slot < SLOT_COUNT; slot++) {
        const struct option_info *info = &option_table[slot];

        assert_non_null(info->name);
        assert_int_equal(option_slot(info->number), slot);
        assert_true(info->min_length <= info->max_length);
        assert_int_equal(!!(option_critical_slots & SLOT_BIT(slot)), info->number & 1);
    }
    assert_int_equal(option_slot(0), SLOT_UNKNOWN);
    assert_int_equal(option_slot(2), SLOT_UNKNOWN);
    assert_int_equal(option_slot(65535), SLOT_UNKNOWN);
    /* RFC 7252 table 4 and 5.4.6. */
    assert_true(option_is_critical(OPTION_URI_PATH) && option_is_unsafe(OPTION_URI_PATH));
    assert_true(!option_is_critical(OPTION_MAX_AGE) && option_is_unsafe(OPTION_MAX_AGE));
    assert_true(option_is_critical(OPTION_ACCEPT) && !option_is_unsafe(OPTION_ACCEPT));
    assert_true(option_is_no_cache_key(OPTION_SIZE1) && !option_is_no_cache_key(OPTION_ETAG));
}

/* ---- round trips ---- */

static size_t random_message(struct random *r, uint8_t *out, size_t room)
{
    uint8_t bytes[600];
    struct encoder e;
    uint32_t number = 0;

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)random_u64(r);
    encoder_begin(&e, out, room, random_below(r, 4), CODE(random_below(r, 2) ? 2 : 0, 5),
                  (uint16_t)random_u64(r), bytes, random_below(r, 30));
    for (unsigned n = random_below(r, 8); n > 0; n--) {
        number += random_below(r, random_below(r, 2) ? 20 : 9000);
        encoder_option(&e, (uint16_t)number, bytes, random_below(r, random_below(r, 2) ? 12 : 400));
    }
    encoder_payload(&e, bytes, random_below(r, 3) ? random_below(r, 500) : 0);
    return encoder_end(&e);
}

/* Writes again what was read. */
static size_t rewrite(const struct message *m, uint8_t *out, size_t room)
{
    struct option_cursor c = option_cursor(m);
    struct option_view v;
    struct encoder e;

    encoder_begin(&e, out, room, m->type, m->code, m->mid, m->token, m->token_length);
    while (option_next(&c, &v))
        encoder_option(&e, c.number, v.value, v.length);
    encoder_payload(&e, m->payload, m->payload_length);
    return encoder_end(&e);
}

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

/* ---- damage ---- */

static void every_truncation_and_every_flip(void **state)
{
    struct random r;
    uint8_t seed[RANDOM_SEED_BYTES] = {11}, whole[8192];
    uint64_t verdicts = 0;

    (void)state;
    random_seed(&r, seed);
    for (unsigned i = 0; i < 60; i++) {
        size_t length = random_message(&r, whole, sizeof(whole));
        struct message m;

        for (size_t cut = 0; cut < length; cut++) {
            uint8_t *part = malloc(cut + !cut);

            memcpy(part, whole, cut);
            verdicts |= 1ull << message_parse(part, cut, &m);
            free(part);
        }
        for (size_t at = 0; at < length; at++) {
            uint8_t *copy = malloc(length), again[8192];

            memcpy(copy, whole, length);
            copy[at] ^= (uint8_t)(1 + random_below(&r, 255));
            if (message_parse(copy, length, &m) == VERDICT_OK) {
                struct message second;
                size_t n = rewrite(&m, again, sizeof(again));

                /* Not the same bytes where an option was written longer than it had to be, but the
                 * same message. */
                second = parsed(again, n);
                assert_int_equal(second.present, m.present);
                assert_int_equal(second.payload_length, m.payload_length);
                assert_int_equal(second.option_count, m.option_count);
            }
            free(copy);
        }
    }
    assert_true(verdicts & 1ull << VERDICT_SHORT);
    assert_true(verdicts & 1ull << VERDICT_TOKEN_OVERRUN);
    assert_true(verdicts & 1ull << VERDICT_OPTION_OVERRUN);
    assert_true(verdicts & 1ull << VERDICT_PAYLOAD_EMPTY);
}

static enum message_verdict verdict_of(const char *name)
{
    for (unsigned v = 0; v < VERDICT_COUNT; v++)
        if (strcmp(message_verdict_name(v), name) == 0)
            return v;
    fail_msg("no verdict \"%s\"", name);
    return VERDICT_COUNT;
}

static void the_malformed_table(void **state)
{
    FILE *table = fopen(TESTS_DIR "/malformed.tsv", "r");
    char *line = NULL;
    size_t room = 0;
    unsigned rows = 0;

    (void)state;
    assert_non_null(table);
    while (getline(&line, &room, table) > 0) {
        char *rest = line, *name = strsep(&rest, "\t"), *hex = strsep(&rest, "\t");
        uint8_t *bytes;
        size_t n = 0;
        struct message m;

        if (line[0] == '#' || !rest || strcmp(name, "name") == 0)
            continue;
        bytes = malloc(strlen(hex) / 2);
        for (unsigned byte; sscanf(hex, "%2x", &byte) == 1; hex += 2)
            bytes[n++] = (uint8_t)byte;
        if (message_parse(bytes, n, &m) != verdict_of(strsep(&rest, "\t")))
            fail_msg("%s: verdict %s", name, message_verdict_name(message_parse(bytes, n, &m)));
        free(bytes);
        rows++;
    }
    free(line);
    fclose(table);
    assert_true(rows >= 60);
}

/* RFC 7959 2.2. */
static void blocks(void **state)
{
    struct block b;

    (void)state;
    assert_int_equal(block_decode(0x1e, &b), 0); /* 1/1/1024 */
    assert_int_equal(b.number, 1);
    assert_true(b.more);
    assert_int_equal(block_size(&b), 1024);
    assert_int_equal(block_encode(&b), 0x1e);
    assert_int_equal(block_decode(0, &b), 0);
    assert_int_equal(block_size(&b), 16);
    assert_int_equal(block_decode(0xffffff & ~1u, &b), 0);
    assert_int_equal(b.number, BLOCK_NUMBER_MAX);
    assert_true(block_decode(7, &b) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figure_16),
        cmocka_unit_test(tokens_and_extended_deltas),
        cmocka_unit_test(extended_tokens),
        cmocka_unit_test(options_by_class),
        cmocka_unit_test(repeated_options_are_walked),
        cmocka_unit_test(the_table_says_what_the_rfcs_say),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(nothing_is_written_past_the_room),
        cmocka_unit_test(options_come_in_order),
        cmocka_unit_test(uints_are_short),
        cmocka_unit_test(every_truncation_and_every_flip),
        cmocka_unit_test(the_malformed_table),
        cmocka_unit_test(blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
