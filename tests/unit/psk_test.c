/* The file of pre-shared keys: what its lines mean, which ones are refused, and a large one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/security/psk.h"

#define X16  "xxxxxxxxxxxxxxxx"
#define X128 X16 X16 X16 X16 X16 X16 X16 X16
#define K16  "00112233445566778899aabbccddeeff"
#define K64  K16 K16 K16 K16

static char path[] = "/tmp/coapgw-psk-XXXXXX";
static char errors[1 << 16];

static void write_file(const char *text, size_t length, mode_t mode)
{
    FILE *out;

    unlink(path); /* some file systems write what is truncated and written again at once */
    out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, length, out), length);
    fclose(out);
    assert_int_equal(chmod(path, mode), 0);
}

static struct psk_table *load(void)
{
    FILE *out = fmemopen(errors, sizeof(errors), "w");
    struct psk_table *table;

    assert_non_null(out);
    memset(errors, 0, sizeof(errors));
    table = psk_load(path, out);
    fclose(out);
    return table;
}

static struct psk_table *load_text(const char *text)
{
    write_file(text, strlen(text), 0600);
    return load();
}

static struct psk_table *load_right(const char *text)
{
    struct psk_table *table = load_text(text);

    assert_string_equal(errors, "");
    assert_non_null(table);
    return table;
}

static int find(const struct psk_table *table, const char *identity, uint8_t key[PSK_KEY_MAX])
{
    return psk_find(table, (const uint8_t *)identity, strlen(identity), key);
}

/* ---- what is right ---- */

static void test_lines(void **state)
{
    struct psk_table *table = load_right("# devices\n"
                                         "\n"
                                         "one:" K16 "\n"
                                         "  two words : and colons :" K16 "00  \r\n"
                                         "\"#3 \\\"quoted\\\" \\\\ \":" K16 "01\n"
                                         "\"hex:00\":" K16 "02\n"
                                         "hex:01fFa0:" K16 "03\n"
                                         "\t# indented\n" X128 ":" K64 "\n"
                                         "last:" K16 "FE");
    uint8_t key[PSK_KEY_MAX];

    (void)state;
    assert_int_equal(psk_count(table), 7);
    assert_int_equal(find(table, "one", key), 16);
    assert_memory_equal(key, "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff",
                        16);
    assert_int_equal(find(table, "two words : and colons ", key), 17);
    assert_int_equal(find(table, "#3 \"quoted\" \\ ", key), 17);
    assert_int_equal(key[16], 1);
    assert_int_equal(find(table, "hex:00", key), 17);
    assert_int_equal(key[16], 2);
    assert_int_equal(find(table, "\x01\xff\xa0", key), 17);
    assert_int_equal(key[16], 3);
    assert_int_equal(find(table, X128, key), 64);
    assert_int_equal(key[63], 0xff);
    assert_int_equal(find(table, "last", key), 17);
    assert_int_equal(key[16], 0xfe);
    psk_free(table);
}

static void test_not_there(void **state)
{
    struct psk_table *table = load_right("one:" K16 "\none2:" K16 "\n");
    static const char *const others[] = {"", "on", "one3", "One", "one\n", X128, X128 "x"};
    uint8_t key[PSK_KEY_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_true(find(table, others[i], key) < 0);
    assert_true(psk_find(table, (const uint8_t *)"one", 4, key) < 0); /* with its zero */
    assert_true(psk_find(NULL, (const uint8_t *)"one", 3, key) < 0);
    psk_free(table);
}

static void test_empty(void **state)
{
    static const char *const texts[] = {"", "\n", "# nothing", "   \n\n#\n"};
    uint8_t key[PSK_KEY_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct psk_table *table = load_right(texts[i]);

        assert_int_equal(psk_count(table), 0);
        assert_true(find(table, "one", key) < 0);
        psk_free(table);
    }
}

static void test_short_keys(void **state)
{
    struct psk_table *table = load_text("a:00\nb:" K16 "\n");
    uint8_t key[PSK_KEY_MAX];

    (void)state;
    assert_non_null(table);
    assert_non_null(strstr(errors, ":1: warning: the key has only 1 bytes; write at least 16\n"));
    assert_null(strstr(errors, ":2:"));
    assert_int_equal(find(table, "a", key), 1);
    psk_free(table);
}

static void test_digest(void **state)
{
    struct psk_table *one = load_right("a:" K16 "\n"), *same = load_right("# x\n\n\"a\":" K16);
    struct psk_table *other = load_right("a:" K16 "00\n"), *name = load_right("b:" K16 "\n");
    uint8_t d[4][32];

    (void)state;
    psk_digest(one, d[0]);
    psk_digest(same, d[1]);
    psk_digest(other, d[2]);
    psk_digest(name, d[3]);
    assert_memory_equal(d[0], d[1], 32);
    assert_memory_not_equal(d[0], d[2], 32);
    assert_memory_not_equal(d[0], d[3], 32);
    psk_free(one);
    psk_free(same);
    psk_free(other);
    psk_free(name);
}

/* ---- what is wrong ---- */

static const struct {
    const char *text, *error; /* behind the file's name */
} wrong[] = {
    {"abc\n", ":1: there is no colon; write IDENTITY:HEXKEY"},
    {"\n\nabc\n", ":3: there is no colon; write IDENTITY:HEXKEY"},
    {":" K16 "\n", ":1: the identity is empty; write IDENTITY:HEXKEY"},
    {"\"\":" K16 "\n", ":1: the identity is empty; write IDENTITY:HEXKEY"},
    {"a:\n", ":1: what follows the last colon is no key; write 1 to 64 bytes as pairs of "
             "hexadecimal digits"},
    {"a:0\n", ":1: what follows the last colon is no key; write 1 to 64 bytes as pairs of "
              "hexadecimal digits"},
    {"a:0x00\n", ":1: what follows the last colon is no key; write 1 to 64 bytes as pairs of "
                 "hexadecimal digits"},
    {"a:" K16 " " K16 "\n", ":1: what follows the last colon is no key; write 1 to 64 bytes as "
                            "pairs of hexadecimal digits"},
    {"a:" K64 "00\n", ":1: what follows the last colon is no key; write 1 to 64 bytes as pairs of "
                      "hexadecimal digits"},
    {X128 "x:" K16 "\n", ":1: the identity has more than 128 bytes; write a shorter one"},
    {"\"" X128 "x\":" K16 "\n", ":1: the identity has more than 128 bytes; write a shorter one"},
    {"hex:" K64 K64 "00:" K16 "\n", ":1: the identity has more than 128 bytes; write a shorter "
                                    "one"},
    {"hex:0g:" K16 "\n", ":1: the identity is not hexadecimal; write pairs of digits behind hex:, "
                         "or put it in quotes"},
    {"hex::" K16 "\n", ":1: the identity is not hexadecimal; write pairs of digits behind hex:, or "
                       "put it in quotes"},
    {"hex:0100:" K16 "\n", ":1: the identity has a zero byte, which OpenSSL cannot have; write "
                           "another one"},
    {"\"a:" K16 "\n", ":1: the identity is not one text in quotes; write \"...\" with \\\" and "
                      "\\\\ for quotes and backslashes in it"},
    {"\"a\"b:" K16 "\n", ":1: the identity is not one text in quotes; write \"...\" with \\\" and "
                         "\\\\ for quotes and backslashes in it"},
    {"\"a\\n\":" K16 "\n", ":1: the identity is not one text in quotes; write \"...\" with \\\" "
                           "and \\\\ for quotes and backslashes in it"},
    {"\"a\\:" K16 "\n", ":1: the identity is not one text in quotes; write \"...\" with \\\" and "
                        "\\\\ for quotes and backslashes in it"},
    {"a:" K16 "\nb:" K16 "\n#\na:" K16 "\n", ":4: this identity is also on line 1; remove one of "
                                             "them"},
    {"hex:61:" K16 "\n\"a\":" K16 "\n", ":2: this identity is also on line 1; remove one of them"},
    {"a:" K64 K64 K64 K64 K64 K64 K64 K64 "\n", ":1: has more than 1024 bytes; write "
                                                "IDENTITY:HEXKEY"},
};

static void test_wrong_lines(void **state)
{
    char expected[512];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_null(load_text(wrong[i].text));
        snprintf(expected, sizeof(expected), "%s%s\n", path, wrong[i].error);
        assert_string_equal(errors, expected);
    }
}

static void test_zero_bytes(void **state)
{
    static const char text[] = "a\0b:" K16 "\n";
    char expected[512];

    (void)state;
    write_file(text, sizeof(text) - 1, 0600);
    assert_null(load());
    snprintf(expected, sizeof(expected), "%s:1: there is a zero byte; write a text file\n", path);
    assert_string_equal(errors, expected);
}

/* Many are counted; keys are never shown. */
static void test_many_wrong_lines(void **state)
{
    char text[4096] = "";

    (void)state;
    for (int i = 0; i < 30; i++)
        strcat(text, "name:deadbeefdeadbeefx\n");
    assert_null(load_text(text));
    assert_non_null(strstr(errors, ":20: "));
    assert_null(strstr(errors, ":21: "));
    assert_non_null(strstr(errors, ": 10 more lines are wrong\n"));
    assert_null(strstr(errors, "deadbeef"));
}

static void assert_refused(const char *why)
{
    struct psk_table *table = load();

    assert_null(table);
    assert_non_null(strstr(errors, why));
}

static void test_files(void **state)
{
    char kept[sizeof(path)];

    (void)state;
    write_file("a:" K16 "\n", 3 + 32, 0604);
    assert_refused("is open to everybody on this machine; take that away with chmod o=");
    chmod(path, 0602);
    assert_refused("is open to everybody on this machine; take that away with chmod o=");
    chmod(path, 0640);
    psk_free(load());
    assert_string_equal(errors, "");
    strcpy(kept, path);
    strcpy(path, "/tmp/coapgw-nowhere");
    assert_refused("cannot be opened (No such file or directory); name a file that can be read");
    strcpy(path, "/tmp");
    assert_refused("is not a regular file; name one");
    strcpy(path, "/dev/null");
    assert_refused("is not a regular file; name one");
    strcpy(path, kept);
}

/* No byte that is changed and no cut makes it read what is not there. */
static void test_damage(void **state)
{
    static const char text[] = "# c\none:" K16 "\n\"t\\\"o\":" K16 "\nhex:7a61:" K16 "\n";
    char damaged[sizeof(text)];

    (void)state;
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        for (unsigned byte = 0; byte < 256; byte += 3) {
            memcpy(damaged, text, sizeof(text));
            damaged[i] = (char)byte;
            write_file(damaged, sizeof(text) - 1, 0600);
            psk_free(load());
        }
        write_file(text, i, 0600);
        psk_free(load());
    }
}

/* ---- many ---- */

#define MANY 1000000u

static void test_million(void **state)
{
    FILE *out = fopen(path, "w");
    struct psk_table *table;
    uint8_t key[PSK_KEY_MAX];
    char identity[32];

    (void)state;
    assert_non_null(out);
    for (unsigned i = 0; i < MANY; i++)
        fprintf(out, "device-%u:%032x\n", (unsigned)(i * UINT64_C(7919) % MANY),
                (unsigned)(i * UINT64_C(7919) % MANY));
    fclose(out);
    table = load();
    assert_string_equal(errors, "");
    assert_non_null(table);
    assert_int_equal(psk_count(table), MANY);
    for (unsigned i = 0; i < MANY; i += 13) {
        snprintf(identity, sizeof(identity), "device-%u", i);
        assert_int_equal(find(table, identity, key), 16);
        assert_int_equal(key[15] | key[14] << 8 | key[13] << 16, i);
    }
    assert_true(find(table, "device-1000000", key) < 0);
    print_message("%u identities: %.1f bytes each\n", MANY, (double)psk_bytes(table) / MANY);
    assert_true(psk_bytes(table) < 48u * MANY);
    psk_free(table);
}

static int set_up(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    if (fd >= 0)
        close(fd);
    return fd >= 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),      cmocka_unit_test(test_not_there),
        cmocka_unit_test(test_empty),      cmocka_unit_test(test_short_keys),
        cmocka_unit_test(test_digest),     cmocka_unit_test(test_wrong_lines),
        cmocka_unit_test(test_zero_bytes), cmocka_unit_test(test_many_wrong_lines),
        cmocka_unit_test(test_files),      cmocka_unit_test(test_damage),
        cmocka_unit_test(test_million),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
