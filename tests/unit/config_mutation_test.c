/* That no text whatsoever makes the loader crash, leak, take long or say something without a place:
 * the example, and a file with every key, with each line, value and byte changed, and texts that
 * are as bad as a file may be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/security/cipher_suite.h"
#include "tests/unit/config_harness.h"

#define EXAMPLE TESTS_DIR "/../config/coapgw.yaml"
#define FULL    TESTS_DIR "/unit/config/full.yaml"
#define SECRET  "S3cr" /* what the password there begins with: no error may show it */

static void assert_forward_sound(const struct config_forward *forward)
{
    assert_int_equal(forward->enabled, forward->network_count + forward->name_count > 0);
    for (unsigned i = 0; i < forward->name_count; i++)
        assert_non_null(forward->names[i]);
    assert_true(forward->upstream.name && forward->upstream.ports &&
                forward->upstream.outstanding && forward->upstream.block_szx <= 6);
}

static void assert_store_sound(const struct config_store *store)
{
    assert_true(store->kind == CONFIG_STORE_TCP    ? store->host && store->port && !store->path
                : store->kind == CONFIG_STORE_UNIX ? store->path && store->path[0] == '/'
                                                   : !store->host && !store->path);
    assert_true(!store->username || store->password);
    assert_true(store->prefix && store->service && store->timeout_ms >= 10 && store->save_freq);
}

static void assert_suites_sound(const struct config_suites *suites)
{
    assert_true(suites->count > 0 && suites->count <= CIPHER_SUITES_MAX);
    for (unsigned i = 0; i < suites->count; i++)
        assert_non_null(cipher_suite_name(suites->numbers[i]));
}

/* Whoever has coaps:// has what it takes, and nobody else has it. */
static void assert_security_sound(const struct config *config)
{
    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];

        assert_int_equal(l->transport == TRANSPORT_DTLS, l->dtls != NULL);
        if (!l->dtls)
            continue;
        assert_true(l->dtls->psk || l->dtls->certificate.path);
        assert_true(!l->dtls->certificate.path == !l->dtls->key.path && l->dtls->psk_hint);
        assert_true(l->dtls->clients == CONFIG_CLIENTS_NONE || l->dtls->ca.path);
        assert_suites_sound(&l->dtls->suites);
    }
    for (unsigned i = 0; i < config->upstream_count; i++) {
        const struct config_upstream *u = &config->upstreams[i];

        for (unsigned j = 0; j < u->server_count; j++)
            assert_int_equal(u->servers[j].transport == TRANSPORT_DTLS, u->dtls != NULL);
        if (u->dtls) {
            assert_true(u->dtls->identity || u->dtls->ca.path);
            assert_suites_sound(&u->dtls->suites);
        }
        assert_true(u->tell_client != CONFIG_TELL_QUERY || u->tell_query);
        assert_true(u->tell_client != CONFIG_TELL_OPTION || u->tell_option >= 256);
    }
    for (unsigned i = 0; i < config->route_count; i++)
        for (unsigned j = 0; j < config->routes[i].allow_count; j++)
            assert_non_null(config->routes[i].allow[j]);
}

/* What holds of any text: a configuration whose references are all good, or errors of which each is
 * a line with a place, what is wrong and what to write. */
static void assert_sound(const char *text, size_t length)
{
    struct config *config = load_exact(text, length);

    if (!config) {
        assert_true(errors[0] != '\0');
        assert_null(strcasestr(errors, SECRET));
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
                    (config->routes[i].kind != CONFIG_ROUTE_UPSTREAM ||
                     config->routes[i].upstream < config->upstream_count));
    assert_store_sound(&config->store);
    assert_true(config->limits.assembly_bytes >= config->limits.body);
    assert_forward_sound(&config->forward);
    assert_security_sound(config);
    config_free(config);
}

/* A file without the lines that are only comments. */
static char *read_keys(const char *name, size_t *length)
{
    FILE *file = fopen(name, "r");
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

static void change_every_line(const char *name)
{
    static const char *const garbage[] = {
        "",           "  ",    ":\n",      "- \n",      "? x\n",     "x\n",         "    x: [\n",
        "\t\n",       "...\n", "---\n",    "%YAML 9\n", "\"\n",      "  - - - -\n", "&a *a\n",
        "\xff\xfe\n", "\\0\n", "{a: b}\n", "|\n",       "  x: !<\n", "#\n",         "}]}]\n",
    };
    size_t length, at = 0;
    char *text = read_keys(name, &length);

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

static void test_every_line(void **state)
{
    (void)state;
    change_every_line(EXAMPLE);
    change_every_line(FULL);
}

static void change_every_value(const char *name)
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
    char *text = read_keys(name, &length);

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

static void test_every_value(void **state)
{
    (void)state;
    change_every_value(EXAMPLE);
    change_every_value(FULL);
}

static void change_every_byte(const char *name)
{
    static const char bytes[] = "\0\n:-[{}]\"'#&*!|%@\xc3\x80 9";
    size_t length;
    char *text = read_keys(name, &length);

    for (size_t at = 0; at < length; at++) {
        try_edit(text, at, 1, "", 0);
        try_edit(text, at, 1, bytes + at % (sizeof(bytes) - 1), 1);
        assert_sound(text, at);
    }
    free(text);
}

static void test_every_byte(void **state)
{
    (void)state;
    change_every_byte(EXAMPLE);
    change_every_byte(FULL);
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
