/* That no text whatsoever makes the loader crash, leak, take long or say something without a place:
 * the example with each line, value and byte changed, and texts that are as bad as a file may be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/config.h"

#define EXAMPLE     TESTS_DIR "/../config/coapgw.yaml"
#define TEXT_BYTES  (1 << 16)
#define ERROR_BYTES (1 << 16)

#define BASE9                                    \
    "interfaces:\n"                              \
    "  - name: a\n"                              \
    "    device: tap:t0\n"                       \
    "    addresses: [10.9.0.2/24, fd09::2/64]\n" \
    "listeners:\n"                               \
    "  - uri: coap://10.9.0.2\n"                 \
    "upstreams:\n"                               \
    "  - name: o\n"                              \
    "    servers: [coap://10.9.0.1]\n"

static char errors[ERROR_BYTES];

/* The configuration, with what was said about it in `errors`. */
static struct config *load(const char *text, size_t length)
{
    FILE *out = fmemopen(errors, sizeof(errors), "w");
    struct config *config;

    assert_non_null(out);
    memset(errors, 0, sizeof(errors));
    config = config_load_text("t.yaml", text, length, out);
    fclose(out);
    return config;
}

/* Loads from memory of exactly this length, so that ASan sees a read past its end. */
static struct config *load_exact(const char *text, size_t length)
{
    char *copy = malloc(length ? length : 1);
    struct config *config;

    assert_non_null(copy);
    memcpy(copy, text, length);
    config = load(copy, length);
    free(copy);
    return config;
}

/* What holds of any text: a configuration whose references are all good, or errors of which each is
 * a line with a place, what is wrong and what to write. */
static void assert_sound(const char *text, size_t length)
{
    struct config *config = load_exact(text, length);

    if (!config) {
        assert_true(errors[0] != '\0');
        for (char *line = errors; *line; line = strchr(line, '\n') + 1) {
            char *end = strchr(line, '\n');

            assert_non_null(end);
            *end = '\0';
            assert_memory_equal(line, "t.yaml:", 7);
            assert_non_null(strstr(line, "; "));
            *end = '\n';
        }
        return;
    }
    assert_int_equal(errors[0], 0);
    assert_true(config->interface_count > 0 && config->listener_count > 0);
    for (unsigned i = 0; i < config->listener_count; i++)
        assert_true(config->listeners[i].local < config->local_count && config->listeners[i].port);
    for (unsigned i = 0; i < config->upstream_count; i++)
        for (unsigned j = 0; j < config->upstreams[i].server_count; j++)
            assert_true(config->upstreams[i].servers[j].local < config->local_count);
    for (unsigned i = 0; i < config->route_count; i++)
        assert_true(config->routes[i].path &&
                    (config->routes[i].kind == CONFIG_ROUTE_RESPOND ||
                     config->routes[i].upstream < config->upstream_count));
    config_free(config);
}

/* The example without the lines that are only comments. */
static char *read_example(size_t *length)
{
    FILE *file = fopen(EXAMPLE, "r");
    char *text = calloc(1, TEXT_BYTES);

    assert_non_null(file);
    assert_non_null(text);
    *length = 0;
    while (fgets(text + *length, TEXT_BYTES - (int)*length, file)) {
        const char *line = text + *length;

        if (line[strspn(line, " ")] != '#' && line[0] != '\n')
            *length += strlen(line);
    }
    text[*length] = '\0';
    fclose(file);
    assert_true(*length > 500 && *length < TEXT_BYTES / 2);
    return text;
}

/* `text` with `replacement` in the place of [at, at + length). */
static void try_edit(const char *text, size_t at, size_t length, const char *replacement,
                     size_t replacement_length)
{
    size_t rest = strlen(text) - at - length;
    char *edited = malloc(TEXT_BYTES);

    assert_non_null(edited);
    memcpy(edited, text, at);
    memcpy(edited + at, replacement, replacement_length);
    memcpy(edited + at + replacement_length, text + at + length, rest);
    assert_sound(edited, at + replacement_length + rest);
    free(edited);
}

static void test_every_line(void **state)
{
    static const char *const garbage[] = {
        "",           "  ",    ":\n",      "- \n",      "? x\n",     "x\n",         "    x: [\n",
        "\t\n",       "...\n", "---\n",    "%YAML 9\n", "\"\n",      "  - - - -\n", "&a *a\n",
        "\xff\xfe\n", "\\0\n", "{a: b}\n", "|\n",       "  x: !<\n", "#\n",         "}]}]\n",
    };
    size_t length, at = 0;
    char *text = read_example(&length);

    (void)state;
    while (at < length) {
        size_t line = strcspn(text + at, "\n") + 1;

        try_edit(text, at, line, "", 0);        /* deleted */
        try_edit(text, at, 0, text + at, line); /* twice */
        for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
            size_t bytes = strlen(garbage[i]);

            try_edit(text, at, line, garbage[i], bytes);
            try_edit(text, at, 0, garbage[i], bytes);
            try_edit(text, at + line - 1, 0, garbage[i], bytes);
        }
        at += line;
    }
    free(text);
}

static void test_every_value(void **state)
{
    static const char *const values[] = {"",
                                         "~",
                                         "[]",
                                         "{}",
                                         "-1",
                                         "0",
                                         "99999999999999999999",
                                         "1s",
                                         "a b",
                                         "\"\\x01\"",
                                         "[[a]]",
                                         "{a: {b: c}}",
                                         "%s%n",
                                         "*x",
                                         "'",
                                         "18446744073709551615h",
                                         "coap://[",
                                         "::/0"};
    size_t length;
    char *text = read_example(&length);

    (void)state;
    for (char *colon = strchr(text, ':'); colon; colon = strchr(colon + 1, ':')) {
        size_t at = (size_t)(colon + 1 - text);

        for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
            char value[64];
            int bytes = snprintf(value, sizeof(value), " %s", values[i]);

            try_edit(text, at, strcspn(text + at, "\n,}"), value, (size_t)bytes);
        }
    }
    free(text);
}

static void test_every_byte(void **state)
{
    static const char bytes[] = "\0\n:-[{}]\"'#&*!|%@\xc3\x80 9";
    size_t length;
    char *text = read_example(&length);

    (void)state;
    for (size_t at = 0; at < length; at++) {
        try_edit(text, at, 1, "", 0);
        try_edit(text, at, 1, bytes + at % (sizeof(bytes) - 1), 1);
        assert_sound(text, at);
    }
    free(text);
}

/* ---- what could take long ---- */

/* Enough routes that comparing each with each other would be felt: they are sorted. */
static void test_many_routes(void **state)
{
    char *text = malloc(1 << 20);
    size_t length;
    struct config *config;
    unsigned count = 5000;

    (void)state;
    assert_non_null(text);
    length = (size_t)sprintf(text, BASE9 "routes:\n");
    for (unsigned i = 0; i < count; i++)
        length += (size_t)sprintf(text + length, " - {path: /%u, to: o}\n", i);
    config = load(text, length);
    assert_non_null(config);
    assert_int_equal(config->route_count, count);
    config_free(config);
    length += (size_t)sprintf(text + length, " - {path: /7, to: o}\n");
    assert_null(load(text, length));
    assert_string_equal(errors, "t.yaml:5011: routes[5000].path: \"/7\" with this host is also "
                                "routes[7]; remove one of them\n");
    free(text);
}

/* One megabyte of the same bracket: refused at the depth that is allowed, not at its end. */
static void test_deep_nesting(void **state)
{
    static const char starts[] = {'[', '{', '-', '?'};
    char *text = malloc(1 << 20);

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < sizeof(starts); i++) {
        memset(text, starts[i], 1 << 20);
        for (size_t j = 1; (starts[i] == '-' || starts[i] == '?') && j < 1 << 20; j += 2)
            text[j] = ' ';
        assert_null(load(text, 1 << 20));
        assert_true(errors[0] != '\0');
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_line),   cmocka_unit_test(test_every_value),
        cmocka_unit_test(test_every_byte),   cmocka_unit_test(test_many_routes),
        cmocka_unit_test(test_deep_nesting),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
