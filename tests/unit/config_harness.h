/* What the tests of the loader share: pieces of configurations, and loading with what was said
 * about them. To be included once, behind cmocka.h. */
#ifndef COAPGW_TESTS_CONFIG_HARNESS_H
#define COAPGW_TESTS_CONFIG_HARNESS_H

#include "config/config.h"

#define TEXT_BYTES  (1 << 16)
#define ERROR_BYTES (1 << 16)

/* Pieces of a right configuration, of so many lines. */
#define IF4                \
    "interfaces:\n"        \
    "  - name: a\n"        \
    "    device: tap:t0\n" \
    "    addresses: [10.9.0.2/24, fd09::2/64]\n"
#define LISTEN2    \
    "listeners:\n" \
    "  - uri: coap://10.9.0.2\n"
#define UP3         \
    "upstreams:\n"  \
    "  - name: o\n" \
    "    servers: [coap://10.9.0.1]\n"
#define BASE6 IF4 LISTEN2
#define BASE9 IF4 LISTEN2 UP3
#define DEV(device, addresses) \
    "interfaces:\n  - {name: a, device: \"" device "\", addresses: [" addresses "]}\n" LISTEN2
#define X16   "xxxxxxxxxxxxxxxx"
#define X64   X16 X16 X16 X16
#define X256  X64 X64 X64 X64
#define X1024 X256 X256 X256 X256

struct error_case {
    const char *text;
    const char *error; /* behind "t.yaml:", and the only one */
};

static char errors[ERROR_BYTES];

/* The configuration, with what was said about it in `errors`. */
static inline struct config *load(const char *text, size_t length)
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
static inline struct config *load_exact(const char *text, size_t length)
{
    char *copy = malloc(length ? length : 1);
    struct config *config;

    assert_non_null(copy);
    memcpy(copy, text, length);
    config = load(copy, length);
    free(copy);
    return config;
}

/* `before` and a block of FILE that is commented out as a whole, without its marks: from the line
 * `first` on, as far as the comment goes. To be freed. */
static inline char *read_shown(const char *file, const char *first, const char *before)
{
    size_t indent = strspn(first, " ");
    FILE *in = fopen(file, "r");
    char *text = calloc(1, TEXT_BYTES), line[256];
    bool in_block = false;

    assert_non_null(in);
    assert_non_null(text);
    strcpy(text, before);
    while (fgets(line, sizeof(line), in)) {
        in_block = strcmp(line, first) == 0 ||
                   (in_block && strspn(line, " ") == indent && line[indent] == '#');
        if (in_block)
            snprintf(text + strlen(text), TEXT_BYTES - strlen(text), "%.*s%s", (int)indent, line,
                     line + indent + 2);
    }
    fclose(in);
    assert_true(strlen(text) > strlen(before));
    return text;
}

/* Each text is refused with its error and no other. */
static inline void assert_cases(const struct error_case *cases, size_t count)
{
    char expected[4096];
    unsigned failed = 0;

    for (size_t i = 0; i < count; i++) {
        struct config *config = load_exact(cases[i].text, strlen(cases[i].text));

        snprintf(expected, sizeof(expected), "t.yaml:%s\n", cases[i].error);
        if (config || strcmp(errors, expected) != 0) {
            print_error("case %zu:\n%s\nexpected %sgot      %s\n", i, cases[i].text, expected,
                        errors);
            failed++;
        }
        config_free(config);
    }
    assert_int_equal(failed, 0);
}

#endif
