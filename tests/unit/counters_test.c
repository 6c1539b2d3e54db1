/* Counters: every one is visited with its value, and docs/counters.md lists each with its meaning.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/counters.h"

static void every_counter_is_documented(void **state)
{
    static const char *const rows[] = {
#define X(name, meaning) "| `" #name "` | " meaning " |\n",
        COUNTERS_DEVICE(X) COUNTERS_CORE(X)
#undef X
    };
    FILE *file = fopen(TESTS_DIR "/../docs/counters.md", "r");
    char *text = calloc(1, 1 << 16);

    (void)state;
    assert_non_null(file);
    assert_true(fread(text, 1, (1 << 16) - 1, file) > 0);
    fclose(file);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (!strstr(text, rows[i]))
            fail_msg("docs/counters.md lacks the line: %s", rows[i]);
    free(text);
}

struct sum {
    uint64_t total;
    unsigned named;
};

static void add(void *context, const char *name, const char *meaning, uint64_t value)
{
    struct sum *sum = context;

    assert_non_null(meaning);
    sum->total += value;
    if (strcmp(name, "rx_verdict_option_overrun") == 0 && value == 1)
        sum->named++;
    if (strcmp(name, "tx_code_2.05") == 0 && value == 1)
        sum->named++;
    if (strcmp(name, "rx_con") == 0 && value == 1)
        sum->named++;
}

static void all_are_visited_and_added(void **state)
{
    struct counters c, twice = {0};
    uint64_t *values = (uint64_t *)(void *)&c;
    unsigned n = offsetof(struct counters, rx_code) / sizeof(uint64_t) + 512;
    struct sum sum = {0};

    (void)state;
    memset(&c, 0, sizeof(c));
    for (unsigned i = 0; i < n; i++)
        values[i] = 1;
    counters_visit(&c, add, &sum);
    assert_int_equal(sum.total, n);
    assert_int_equal(sum.named, 3);
    counters_add(&twice, &c);
    counters_add(&twice, &c);
    assert_int_equal(twice.rx_packets, 2);
    assert_int_equal(twice.tx_code[255], 2);
}

/* Names, for the one that is checked against the rest. */
struct names {
    char (*list)[64];
    size_t count;
};

static void collect(void *context, const char *name, const char *meaning, uint64_t value)
{
    struct names *names = context;

    (void)value;
    assert_true(meaning[0] != 0);
    assert_true(strlen(name) < sizeof(names->list[0]));
    assert_int_equal(name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.")], 0);
    strcpy(names->list[names->count++], name);
}

static int order(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* A metric that two counters share would hide one of them. */
static void names_are_unique(void **state)
{
    struct counters c = {0};
    struct names names = {.list = calloc(sizeof(c) / sizeof(uint64_t), sizeof(names.list[0]))};

    (void)state;
    counters_visit(&c, collect, &names);
    qsort(names.list, names.count, sizeof(names.list[0]), order);
    for (size_t i = 1; i < names.count; i++)
        assert_string_not_equal(names.list[i - 1], names.list[i]);
    free(names.list);
}

static void what_is_zero_is_not_printed(void **state)
{
    struct counters c = {.requests = 7};
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);

    (void)state;
    counters_print(&c, "worker 3", out);
    fclose(out);
    assert_string_equal(text, "worker 3 requests 7\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_counter_is_documented),
        cmocka_unit_test(all_are_visited_and_added),
        cmocka_unit_test(names_are_unique),
        cmocka_unit_test(what_is_zero_is_not_printed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
