/* URIs (RFC 7252 6). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/coap/uri.h"

static int parse(const char *text, struct uri *uri)
{
    return uri_parse(text, strlen(text), uri);
}

static void good_ones(void **state)
{
    struct uri u;
    char text[ENDPOINT_TEXT_BYTES];

    (void)state;
    assert_int_equal(parse("coap://example.com:61616/a/b?x=1&y", &u), 0);
    assert_int_equal(u.scheme, URI_COAP);
    assert_int_equal(u.port, 61616);
    assert_false(u.host_is_address);
    assert_memory_equal(u.host, "example.com", u.host_length);
    assert_int_equal(u.path_length, 3);
    assert_memory_equal(u.path, "a/b", 3);
    assert_memory_equal(u.query, "x=1&y", u.query_length);
    assert_int_equal(parse("coaps://[2001:db8::1]", &u), 0);
    assert_int_equal(u.port, COAPS_PORT);
    assert_true(u.host_is_address);
    assert_string_equal(address_format(&u.address, text), "2001:db8::1");
    assert_string_equal(endpoint_format(&u.address, u.port, text), "[2001:db8::1]:5684");
    assert_int_equal(parse("COAP://10.0.0.1:/", &u), 0);
    assert_int_equal(u.port, COAP_PORT);
    assert_true(u.host_is_address);
    assert_int_equal(u.path_length, 0);
    assert_string_equal(endpoint_format(&u.address, 1, text), "10.0.0.1:1");
    assert_int_equal(parse("coap://h?q", &u), 0);
    assert_int_equal(u.query_length, 1);
}

static void bad_ones(void **state)
{
    static const char *const bad[] = {
        "",
        "coap:",
        "coap:/x",
        "coap://",
        "coap:///x",
        "coap://:1",
        "coap://u@h",
        "coap://h:0",
        "coap://h:65536",
        "coap://h:1x",
        "coap://h#f",
        "coap://[::1",
        "coap://[::1]x",
        "coap://[10.0.0.1]",
        "coap://[zz]",
        "coap://h/%",
        "coap://h/%4",
        "coap://h/%zz",
        "coap://h/a b",
        "coap://h/\x80",
        "coap://a]b",
        "coap://h/{x}",
        "example.com",
        "//h/x",
        "a/b://h",
        "1a://h",
        "://h",
        "coap://h/[",
        "coap://h/a]",
        "coap://h?[x]",
        "coap://[::1]]",
        "coap://[fe80::1%25eth0]",
        "coap://h:99999999999999999999",
        "coap://h:-1",
        "coap://h\\x",
    };
    struct uri u;

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (parse(bad[i], &u) != -EINVAL)
            fail_msg("\"%s\" was taken", bad[i]);
    assert_int_equal(parse("http://h/", &u), -EPROTONOSUPPORT);
    assert_int_equal(parse("coap+tcp://h/", &u), -EPROTONOSUPPORT);
    assert_int_equal(uri_parse("coap://h/\0x", 11, &u), -EINVAL);
}

/* RFC 7252 6.3: three spellings of one URI; the path of the second is the same once decoded. */
static void equivalent_ones(void **state)
{
    static const char *const same[] = {"coap://example.com:5683/~sensors/temp.xml",
                                       "coap://EXAMPLE.com/%7Esensors/temp.xml",
                                       "coap://EXAMPLE.com:/%7esensors/temp.xml"};
    uint8_t out[64];
    struct uri u;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        int length;

        assert_int_equal(parse(same[i], &u), 0);
        assert_int_equal(u.port, COAP_PORT);
        assert_int_equal(u.host_length, 11);
        length = uri_decode(u.path, u.path_length, out);
        assert_int_equal(length, 17);
        assert_memory_equal(out, "~sensors/temp.xml", 17);
    }
}

/* The text is not terminated: nothing behind its end is read. */
static void every_length_of_a_uri(void **state)
{
    static const char whole[] = "coap://[2001:db8::1]:61616/a%20b/c?x=%41&y";
    struct uri u;

    (void)state;
    for (size_t length = 0; length < sizeof(whole); length++) {
        char *copy = malloc(length + !length);

        memcpy(copy, whole, length);
        if (uri_parse(copy, length, &u) == 0) {
            assert_true(length > 19);
            assert_true(u.path_length + u.query_length < length);
        }
        free(copy);
    }
}

static void escapes(void **state)
{
    uint8_t out[16];

    (void)state;
    assert_int_equal(uri_decode("a%20%C3%a4", 10, out), 4);
    assert_memory_equal(out, "a \xc3\xa4", 4);
    assert_int_equal(uri_decode("%2", 2, out), -EINVAL);
    assert_int_equal(uri_decode("%g0", 3, out), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones),       cmocka_unit_test(bad_ones),
        cmocka_unit_test(equivalent_ones), cmocka_unit_test(every_length_of_a_uri),
        cmocka_unit_test(escapes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
