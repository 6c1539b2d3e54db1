/* The parsers of single values, each on its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/quantity.h"
#include "config/value.h"

static void test_durations(void **state)
{
    static const struct {
        const char *text;
        int err;
        uint64_t us;
    } cases[] = {
        {"0", 0, 0},
        {"0s", 0, 0},
        {"1us", 0, 1},
        {"500ms", 0, 500000},
        {"2s", 0, 2000000},
        {"1.5s", 0, 1500000},
        {"1.500000s", 0, 1500000},
        {"0.000001s", 0, 1},
        {"1.25m", 0, 75000000},
        {"0.0001h", 0, 360000},
        {"24h", 0, 86400000000},
        {"5124095577h", -ERANGE, 0},
        {"99999999999999999999s", -ERANGE, 0},
        {"0.0000001s", -EINVAL, 0},
        {"0.0000000025h", -EINVAL, 0},
        {"1.5us", -EINVAL, 0},
        {"2", -EINVAL, 0},
        {"s", -EINVAL, 0},
        {"", -EINVAL, 0},
        {".5s", -EINVAL, 0},
        {"1.s", -EINVAL, 0},
        {"1..5s", -EINVAL, 0},
        {"1.5.5s", -EINVAL, 0},
        {"2 s", -EINVAL, 0},
        {" 2s", -EINVAL, 0},
        {"2S", -EINVAL, 0},
        {"-2s", -EINVAL, 0},
        {"+2s", -EINVAL, 0},
        {"1e3s", -EINVAL, 0},
        {"2sec", -EINVAL, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t us = 0;

        assert_int_equal(value_duration(cases[i].text, &us), cases[i].err);
        if (!cases[i].err)
            assert_int_equal(us, cases[i].us);
    }
}

static void test_sizes(void **state)
{
    uint64_t bytes;

    (void)state;
    assert_int_equal(value_size("1.5KiB", &bytes), 0);
    assert_int_equal(bytes, 1536);
    assert_int_equal(value_size("3GB", &bytes), 0);
    assert_int_equal(bytes, 3000000000);
    assert_int_equal(value_size("2kB", &bytes), 0);
    assert_int_equal(bytes, 2000);
    assert_int_equal(value_size("7B", &bytes), 0);
    assert_int_equal(bytes, 7);
    assert_int_equal(value_size("0.3KiB", &bytes), -EINVAL); /* not a whole byte */
    assert_int_equal(value_size("64", &bytes), -EINVAL);
    assert_int_equal(value_size("64mib", &bytes), -EINVAL);
    assert_int_equal(value_size("17179869184GiB", &bytes), -ERANGE);
}

static void test_millis(void **state)
{
    uint64_t milli;

    (void)state;
    assert_int_equal(value_milli("1", &milli), 0);
    assert_int_equal(milli, 1000);
    assert_int_equal(value_milli("1.005", &milli), 0);
    assert_int_equal(milli, 1005);
    assert_int_equal(value_milli("1.5000", &milli), 0);
    assert_int_equal(milli, 1500);
    assert_int_equal(value_milli("1.0005", &milli), -EINVAL);
    assert_int_equal(value_milli("1,5", &milli), -EINVAL);
    assert_int_equal(value_milli("1.5s", &milli), -EINVAL);
}

static void test_cores(void **state)
{
    uint16_t cores[4];
    unsigned count;

    (void)state;
    assert_int_equal(value_cores("7,2-3", 1023, cores, 4, &count), 0);
    assert_int_equal(count, 3);
    assert_int_equal(cores[0], 7);
    assert_int_equal(cores[2], 3);
    assert_int_equal(value_cores("1023", 1023, cores, 4, &count), 0);
    assert_int_equal(value_cores("1024", 1023, cores, 4, &count), -ERANGE);
    assert_int_equal(value_cores("0-99999999999", 1023, cores, 4, &count), -ERANGE);
    assert_int_equal(value_cores("0-4", 1023, cores, 4, &count), -E2BIG);
    assert_int_equal(value_cores("1,0-2", 1023, cores, 4, &count), -EEXIST);
    assert_int_equal(value_cores("3-2", 1023, cores, 4, &count), -EINVAL);
    assert_int_equal(value_cores("", 1023, cores, 4, &count), -EINVAL);
    assert_int_equal(value_cores("1,", 1023, cores, 4, &count), -EINVAL);
    assert_int_equal(value_cores("1-", 1023, cores, 4, &count), -EINVAL);
    assert_int_equal(value_cores("1 2", 1023, cores, 4, &count), -EINVAL);
}

static void test_content_formats(void **state)
{
    uint16_t format;

    (void)state;
    assert_int_equal(value_content_format("text/plain; charset=utf-8", &format), 0);
    assert_int_equal(format, 0);
    assert_int_equal(value_content_format("Application/JSON", &format), 0);
    assert_int_equal(format, 50);
    assert_int_equal(value_content_format("application/link-format", &format), 0);
    assert_int_equal(format, 40);
    assert_int_equal(value_content_format("65535", &format), 0);
    assert_int_equal(format, 65535);
    assert_int_equal(value_content_format("65536", &format), -ERANGE);
    assert_int_equal(value_content_format("text/html", &format), -EINVAL);
    assert_int_equal(value_content_format("application/jso", &format), -EINVAL);
}

static void assert_path(const char *text, enum path_verdict verdict, const char *expected)
{
    char *path = calloc(1, strlen(text) + 1); /* exactly the room that is promised to be enough */

    assert_non_null(path);
    assert_int_equal(value_path(text, path), verdict);
    if (verdict == PATH_OK)
        assert_string_equal(path, expected);
    free(path);
}

static void test_paths(void **state)
{
    char segment[260];

    (void)state;
    assert_path("/", PATH_OK, "/");
    assert_path("/a", PATH_OK, "/a");
    assert_path("/a/b/", PATH_OK, "/a/b");
    assert_path("/%61%2f%7e%C3%a9/%2C", PATH_OK, "/a%2F~%C3%A9/,");
    assert_path("/a:@!$&'()*+,;=-._~", PATH_OK, "/a:@!$&'()*+,;=-._~");
    assert_path("/...", PATH_OK, "/...");
    assert_path("/.a/..b", PATH_OK, "/.a/..b");
    assert_path("", PATH_NO_SLASH, NULL);
    assert_path("a/", PATH_NO_SLASH, NULL);
    assert_path("//", PATH_EMPTY_SEGMENT, NULL);
    assert_path("/a//b", PATH_EMPTY_SEGMENT, NULL);
    assert_path("/a//", PATH_EMPTY_SEGMENT, NULL);
    assert_path("/.", PATH_DOT_SEGMENT, NULL);
    assert_path("/a/%2e%2E/b", PATH_DOT_SEGMENT, NULL);
    assert_path("/%", PATH_ESCAPE, NULL);
    assert_path("/%4", PATH_ESCAPE, NULL);
    assert_path("/%4g", PATH_ESCAPE, NULL);
    assert_path("/a?b", PATH_CHARACTER, NULL);
    assert_path("/a b", PATH_CHARACTER, NULL);
    assert_path("/caf\xc3\xa9", PATH_CHARACTER, NULL);
    memset(segment, 'x', sizeof(segment));
    segment[0] = '/';
    segment[256] = '\0';
    assert_path(segment, PATH_OK, segment);
    segment[256] = 'x';
    segment[257] = '\0';
    assert_path(segment, PATH_LONG_SEGMENT, NULL);
}

static void assert_host(const char *text, const char *expected)
{
    char host[VALUE_HOST_BYTES];

    assert_int_equal(value_host(text, host), expected ? 0 : -EINVAL);
    if (expected)
        assert_string_equal(host, expected);
}

static void test_hosts(void **state)
{
    char text[VALUE_HOST_BYTES + 1];

    (void)state;
    assert_host("Example.ORG", "example.org");
    assert_host("10.0.0.1", "10.0.0.1");
    assert_host("[2001:DB8:0:0::1]", "2001:db8::1");
    assert_host("2001:db8::0:1", "2001:db8::1");
    assert_host("", NULL);
    assert_host("a b", NULL);
    assert_host("a:5683", NULL);
    assert_host("[10.0.0.1]", NULL);
    assert_host("[::1", NULL);
    assert_host("[", NULL);
    memset(text, 'a', sizeof(text));
    text[VALUE_HOST_BYTES] = '\0';
    assert_host(text, NULL);
    text[VALUE_HOST_BYTES - 1] = '\0';
    assert_host(text, text);
}

static void assert_prefix(const char *text, int err, unsigned prefix)
{
    struct config_address address;

    assert_int_equal(value_prefix(text, &address), err);
    if (!err)
        assert_int_equal(address.prefix, prefix);
}

static void test_prefixes(void **state)
{
    (void)state;
    assert_prefix("10.99.0.2/24", 0, 24);
    assert_prefix("10.99.0.2/32", 0, 32);
    assert_prefix("10.99.0.2/33", -ERANGE, 0);
    assert_prefix("0.0.0.0/0", 0, 0);
    assert_prefix("::/0", 0, 0);
    assert_prefix("fd99::2/128", 0, 128);
    assert_prefix("fd99::2/129", -ERANGE, 0);
    assert_prefix("10.99.0.2", -ENOENT, 0);
    assert_prefix("10.99.0.2/", -EINVAL, 0);
    assert_prefix("10.99.0.2/-1", -EINVAL, 0);
    assert_prefix("10.99.0/24", -EINVAL, 0);
}

static void assert_domain(const char *text, const char *expected)
{
    char name[VALUE_HOST_BYTES];

    assert_int_equal(value_domain(text, name), expected ? 0 : -EINVAL);
    if (expected)
        assert_string_equal(name, expected);
}

/* RFC 1035 2.3.4: labels of at most 63 bytes, and 253 characters in all without the last dot. */
static void test_domains(void **state)
{
    char text[256];

    (void)state;
    assert_domain("Example", "example");
    assert_domain("a-1.B_2.3c", "a-1.b_2.3c");
    assert_domain("10.example", "10.example");
    assert_domain("10.0.0.1", NULL);
    assert_domain("example.7", NULL);
    assert_domain("", NULL);
    assert_domain(".", NULL);
    assert_domain(".a", NULL);
    assert_domain("a.", NULL);
    assert_domain("a..b", NULL);
    assert_domain("a b", NULL);
    assert_domain("a:1", NULL);
    assert_domain("caf\xc3\xa9", NULL);
    memset(text, 'a', sizeof(text));
    text[63] = text[127] = text[191] = '.';
    text[253] = '\0';
    assert_domain(text, text);
    text[253] = 'a';
    text[254] = '\0';
    assert_domain(text, NULL);
    text[63] = '\0';
    assert_domain(text, text);
    text[63] = 'a';
    text[64] = '\0';
    assert_domain(text, NULL);
}

static void assert_endpoint(const char *text, const char *expected)
{
    struct endpoint endpoint = {.port = 9};
    char out[ENDPOINT_TEXT_BYTES];

    assert_int_equal(value_endpoint(text, &endpoint), expected ? 0 : -EINVAL);
    if (expected)
        assert_string_equal(endpoint_format(&endpoint.address, endpoint.port, out), expected);
}

static void test_endpoints(void **state)
{
    (void)state;
    assert_endpoint("10.0.0.53", "10.0.0.53:9");
    assert_endpoint("10.0.0.53:1", "10.0.0.53:1");
    assert_endpoint("fd00::53", "[fd00::53]:9");
    assert_endpoint("[fd00::53]", "[fd00::53]:9");
    assert_endpoint("[fd00::53]:65535", "[fd00::53]:65535");
    assert_endpoint("", NULL);
    assert_endpoint(":53", NULL);
    assert_endpoint("[", NULL);
    assert_endpoint("[]", NULL);
    assert_endpoint("[]:53", NULL);
    assert_endpoint("[fd00::53", NULL);
    assert_endpoint("fd00::53]", NULL);
    assert_endpoint("[fd00::53]53", NULL);
    assert_endpoint("[fd00::53]:", NULL);
    assert_endpoint("[10.0.0.53]", NULL);
    assert_endpoint("10.0.0.53:0", NULL);
    assert_endpoint("10.0.0.53:65536", NULL);
    assert_endpoint("10.0.0.53:99999999999999999999", NULL);
    assert_endpoint("10.0.0.53:53 ", NULL);
    assert_endpoint("dns.example:53", NULL);
}

static void assert_format(enum quantity_kind kind, uint64_t value, const char *expected)
{
    char text[QUANTITY_TEXT_BYTES];

    assert_string_equal(quantity_format(kind, value, text), expected);
}

static void test_formats(void **state)
{
    (void)state;
    assert_format(QUANTITY_COUNT, 65536, "65536");
    assert_format(QUANTITY_MILLI, 1500, "1.5");
    assert_format(QUANTITY_MILLI, 10000, "10.0");
    assert_format(QUANTITY_MILLI, 1005, "1.005");
    assert_format(QUANTITY_SIZE, 0, "0B");
    assert_format(QUANTITY_SIZE, 65536, "64KiB");
    assert_format(QUANTITY_SIZE, 1000, "1000B");
    assert_format(QUANTITY_TIME_US, 1500, "1500us");
    assert_format(QUANTITY_TIME_US, 300000000, "5m");
    assert_format(QUANTITY_TIME_MS, 247000, "247s");
    assert_format(QUANTITY_TIME_S, 7200, "2h");
    assert_format(QUANTITY_TIME_S, 0, "0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations),       cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_millis),          cmocka_unit_test(test_cores),
        cmocka_unit_test(test_content_formats), cmocka_unit_test(test_paths),
        cmocka_unit_test(test_hosts),           cmocka_unit_test(test_formats),
        cmocka_unit_test(test_prefixes),        cmocka_unit_test(test_domains),
        cmocka_unit_test(test_endpoints),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
