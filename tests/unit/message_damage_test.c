/* The wire codec on damaged messages: every truncation, every changed byte, and the table of
 * malformed datagrams. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/message_samples.h"

/* A message that was damaged: it is refused, or it is a message that can be written and read again.
 * Not with the same bytes where an option was written longer than it had to be. */
static enum message_verdict check_damaged(const uint8_t *bytes, size_t length)
{
    static uint8_t again[8192];
    uint8_t *copy = malloc(length + !length); /* the sanitizer watches its end */
    enum message_verdict verdict;
    struct message m, second;

    memcpy(copy, bytes, length);
    verdict = message_parse(copy, length, &m);
    if (verdict == VERDICT_OK) {
        second = parsed(again, rewrite(&m, again, sizeof(again)));
        assert_int_equal(second.present, m.present);
        assert_int_equal(second.option_count, m.option_count);
        assert_int_equal(second.payload_length, m.payload_length);
        assert_int_equal(second.token_length, m.token_length);
        assert_int_equal(second.unknown_critical, m.unknown_critical);
    } else if (verdict != VERDICT_SHORT && verdict != VERDICT_VERSION) {
        assert_int_equal(m.type, copy[0] >> 4 & 3); /* what a RST is made from */
        assert_int_equal(m.code, copy[1]);
        assert_int_equal(m.mid, copy[2] << 8 | copy[3]);
    }
    free(copy);
    return verdict;
}

/* Each byte of each example with each other value; and each length short of the whole. */
static void examples_with_every_byte_changed(void **state)
{
    uint8_t copy[64];
    uint64_t verdicts = 0;

    (void)state;
    for (unsigned i = 0; i < VECTORS; i++) {
        size_t length = vectors[i].length;

        assert_true(length <= sizeof(copy));
        memcpy(copy, vectors[i].bytes, length);
        for (size_t cut = 0; cut < length; cut++)
            verdicts |= 1ull << check_damaged(copy, cut);
        for (size_t at = 0; at < length; at++)
            for (unsigned change = 1; change < 256; change++) {
                copy[at] ^= (uint8_t)change;
                verdicts |= 1ull << check_damaged(copy, length);
                copy[at] ^= (uint8_t)change;
            }
    }
    /* One changed byte is enough for each kind of damage but a number beyond 65,535. */
    assert_int_equal(verdicts, ((1ull << VERDICT_COUNT) - 1) & ~(1ull << VERDICT_OPTION_NUMBER));
}

static void every_truncation_and_every_flip(void **state)
{
    struct random r;
    uint8_t seed[RANDOM_SEED_BYTES] = {11}, whole[8192];

    (void)state;
    random_seed(&r, seed);
    for (unsigned i = 0; i < 60; i++) {
        size_t length = random_message(&r, whole, sizeof(whole));

        for (size_t cut = 0; cut < length; cut++)
            check_damaged(whole, cut);
        for (size_t at = 0; at < length; at++) {
            uint8_t change = (uint8_t)(1 + random_below(&r, 255));

            whole[at] ^= change;
            check_damaged(whole, length);
            whole[at] ^= change;
        }
    }
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
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_with_every_byte_changed),
        cmocka_unit_test(every_truncation_and_every_flip),
        cmocka_unit_test(the_malformed_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
