/* Who clients are: the name that a certificate gives, patterns, and how they are shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/credentials_harness.h"

#define X16  "xxxxxxxxxxxxxxxx"
#define X64  X16 X16 X16 X16
#define X128 X64 X64

static struct principal make(enum principal_kind kind, const char *text)
{
    struct principal p;

    assert_int_equal(principal_set(&p, kind, text, strlen(text)), 0);
    return p;
}

static void test_set(void **state)
{
    struct principal p;

    (void)state;
    assert_int_equal(principal_set(&p, PRINCIPAL_PSK, X128, 128), 0);
    assert_int_equal(p.length, 128);
    assert_true(principal_set(&p, PRINCIPAL_PSK, X128 "x", 129) < 0);
    assert_int_equal(p.kind, PRINCIPAL_NONE);
    assert_true(principal_set(&p, PRINCIPAL_PSK, "", 0) < 0);
    assert_true(principal_set(&p, PRINCIPAL_CERTIFICATE, "a\0b", 3) < 0);
    assert_int_equal(p.kind, PRINCIPAL_NONE);
}

static void test_format(void **state)
{
    struct principal p = make(PRINCIPAL_PSK, "a b\\\n\xc3\xa9");
    char text[PRINCIPAL_TEXT_BYTES], all[PRINCIPAL_MAX + 1];

    (void)state;
    assert_string_equal(principal_format(&p, text), "psk:a b\\x5c\\x0a\\xc3\\xa9");
    p = make(PRINCIPAL_CERTIFICATE, "a.example");
    assert_string_equal(principal_format(&p, text), "cert:a.example");
    p.kind = PRINCIPAL_NONE;
    assert_string_equal(principal_format(&p, text), "");
    memset(all, 1, PRINCIPAL_MAX);
    all[PRINCIPAL_MAX] = '\0';
    p = make(PRINCIPAL_CERTIFICATE, all);
    assert_int_equal(strlen(principal_format(&p, text)), PRINCIPAL_TEXT_BYTES - 1);
}

static const struct {
    enum principal_kind kind;
    const char *text, *pattern;
    bool matches;
} patterns[] = {
    {PRINCIPAL_PSK, "keeper", "psk:keeper", true},
    {PRINCIPAL_PSK, "Keeper", "psk:keeper", false},
    {PRINCIPAL_PSK, "keeper2", "psk:keeper", false},
    {PRINCIPAL_PSK, "keepe", "psk:keeper", false},
    {PRINCIPAL_PSK, "keeper2", "psk:keeper*", true},
    {PRINCIPAL_PSK, "keeper", "psk:keeper*", true},
    {PRINCIPAL_PSK, "keepe", "psk:keeper*", false},
    {PRINCIPAL_PSK, "keeper", "psk:*", true},
    {PRINCIPAL_PSK, "keeper", "cert:*", false},
    {PRINCIPAL_PSK, "keeper", "cert:keeper", false},
    {PRINCIPAL_PSK, "a.b", "psk:*.b", false}, /* nothing in front of an identity */
    {PRINCIPAL_CERTIFICATE, "a.example", "cert:a.example", true},
    {PRINCIPAL_CERTIFICATE, "A.exAmple", "cert:a.Example", true},
    {PRINCIPAL_CERTIFICATE, "a.example", "psk:a.example", false},
    {PRINCIPAL_CERTIFICATE, "a.example", "psk:*", false},
    {PRINCIPAL_CERTIFICATE, "a.example", "cert:*", true},
    {PRINCIPAL_CERTIFICATE, "a.example", "cert:*.example", true},
    {PRINCIPAL_CERTIFICATE, "a.b.EXAMPLE", "cert:*.example", true},
    {PRINCIPAL_CERTIFICATE, "example", "cert:*.example", false},
    {PRINCIPAL_CERTIFICATE, ".example", "cert:*.example", false},
    {PRINCIPAL_CERTIFICATE, "a.bexample", "cert:*.example", false},
    {PRINCIPAL_CERTIFICATE, "a.example.org", "cert:*.example", false},
    {PRINCIPAL_CERTIFICATE, "urn:dev:ow:1", "cert:urn:dev:*", true},
    {PRINCIPAL_CERTIFICATE, "urn:de", "cert:urn:dev:*", false},
    {PRINCIPAL_CERTIFICATE, "a.example", "a.example", false},
    {PRINCIPAL_NONE, "", "psk:*", false},
    {PRINCIPAL_NONE, "", "cert:*", false},
};

static void test_patterns(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        struct principal p = {.kind = PRINCIPAL_NONE};

        if (patterns[i].kind != PRINCIPAL_NONE)
            p = make(patterns[i].kind, patterns[i].text);
        if (principal_matches(&p, patterns[i].pattern) != patterns[i].matches)
            fail_msg("%s and %s", patterns[i].text, patterns[i].pattern);
    }
}

static const struct {
    const char *name, *alternative, *expected; /* NULL: refused */
} names[] = {
    {"common", NULL, "common"},
    {"common", "DNS:a.example", "a.example"},
    {"common", "DNS:a.example,DNS:b.example", "a.example"},
    {"common", "URI:urn:dev:1,DNS:b.example", "b.example"},
    {"common", "URI:urn:dev:1,email:x@y", "urn:dev:1"},
    {"common", "email:x@y", "common"},
    {"common", "IP:10.0.0.1", "common"},
    {X64, "URI:urn:" X64 X64, NULL},
    {X64, "DNS:" X64 X64 "x", NULL},
};

static void test_certificates(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct issue issue = {.name = names[i].name, .alternative = names[i].alternative};
        struct identity made = identity_make(&issue);
        struct principal p;
        int err = principal_of_certificate(made.certificate, &p);

        assert_int_equal(err == 0, names[i].expected != NULL);
        assert_int_equal(p.kind, err ? PRINCIPAL_NONE : PRINCIPAL_CERTIFICATE);
        if (!err) {
            assert_int_equal(p.length, strlen(names[i].expected));
            assert_memory_equal(p.text, names[i].expected, p.length);
        }
        identity_free(&made);
    }
}

/* The last of several common names counts; none is an error. */
static void test_subjects(void **state)
{
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_get_subject_name(certificate);
    struct principal p;

    (void)state;
    assert_true(principal_of_certificate(certificate, &p) < 0);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)"one", -1, -1,
                               0);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)"two", -1, -1,
                               0);
    assert_int_equal(principal_of_certificate(certificate, &p), 0);
    assert_memory_equal(p.text, "two", 3);
    X509_free(certificate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),      cmocka_unit_test(test_format),
        cmocka_unit_test(test_patterns), cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_subjects),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
