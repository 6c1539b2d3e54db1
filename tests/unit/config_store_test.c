/* The store's keys: what URLs of Redis turn into, where user and password come from, what is wrong
 * with them, and that a password is never shown. */
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

#include "tests/unit/config_harness.h"

#define EXAMPLE TESTS_DIR "/../config/coapgw.yaml"
#define FULL    TESTS_DIR "/unit/config/full.yaml"

#define URL_SHOWN   "redis://[USER:PASSWORD@]HOST[:PORT][/DB]"
#define STORE(url)  BASE6 "store:\n  url: '" url "'\n"
#define NOT_A_PLACE "8: store.url: is no URL of Redis; write " URL_SHOWN " or unix:///PATH[?db=N]"
#define NO_HOST                                                                              \
    "8: store.url: has no host name or IP address; write " URL_SHOWN ", an IPv6 address in " \
    "brackets"
#define NO_PORT "8: store.url: has no port from 1 to 65535 behind its host; write " URL_SHOWN
#define NO_DATABASE \
    "8: store.url: has no database number where one should be; write 0 to 2147483647"
#define NO_QUERY "8: store.url: has a query or a fragment; write " URL_SHOWN
#define BROKEN   "8: store.url: has a % without two hexadecimal digits; write %25 for a percent sign"
#define UNESCAPED \
    "8: store.url: has a /, ? or # in its user or password; write %2F, %3F or %23 for it"
#define NO_PASSWORD "there is a user without a password; add password_file"
#define NO_SOCKET   "8: store.url: has no path of a socket; write one of at most 107 bytes"
#define NOT_ABSOLUTE \
    "8: store.url: has no absolute path; write unix:///PATH[?db=N] with three slashes"
#define OTHER_QUERY                                                                              \
    "8: store.url: has another query than db; write unix:///PATH[?db=N], and user and password " \
    "as username and password_file"
#define SECRET "Tr0ub4dor"

static struct config *load_right(const char *text)
{
    struct config *config = load_exact(text, strlen(text));

    assert_string_equal(errors, "");
    assert_non_null(config);
    return config;
}

static struct config *load_url(const char *url)
{
    char text[1024];

    snprintf(text, sizeof(text), BASE6 "store: {url: '%s'}\n", url);
    return load_right(text);
}

static void assert_text(const char *text, const char *expected)
{
    if (!expected)
        assert_null(text);
    else
        assert_true(text && strcmp(text, expected) == 0);
}

/* ---- URLs ---- */

static void assert_tcp(const char *url, const char *host, unsigned port, unsigned database,
                       const char *user, const char *password)
{
    struct config *config = load_url(url);
    const struct config_store *store = &config->store;

    assert_int_equal(store->kind, CONFIG_STORE_TCP);
    assert_text(store->host, host);
    assert_int_equal(store->port, port);
    assert_int_equal(store->database, database);
    assert_text(store->username, user);
    assert_text(store->password, password);
    assert_null(store->path);
    config_free(config);
}

static void test_tcp(void **state)
{
    (void)state;
    assert_tcp("redis://localhost", "localhost", 6379, 0, NULL, NULL);
    assert_tcp("REDIS://Redis-1.Example:6380/", "redis-1.example", 6380, 0, NULL, NULL);
    assert_tcp("redis://10.0.0.7/15", "10.0.0.7", 6379, 15, NULL, NULL);
    assert_tcp("redis://127.0.0.1:65535/2147483647", "127.0.0.1", 65535, 2147483647, NULL, NULL);
    assert_tcp("redis://[FD00:0::7]", "fd00::7", 6379, 0, NULL, NULL);
    assert_tcp("redis://[::1]:1/7", "::1", 1, 7, NULL, NULL);
    assert_tcp("redis://u:p@h", "h", 6379, 0, "u", "p");
    assert_tcp("redis://:p@h:9/1", "h", 9, 1, NULL, "p");
    assert_tcp("redis://@h", "h", 6379, 0, NULL, NULL);
    assert_tcp("redis://:@h", "h", 6379, 0, NULL, NULL);
    assert_tcp("redis://u:p:q@r@h", "h", 6379, 0, "u", "p:q@r");
    assert_tcp("redis://a%3ab%40:%25%2f%3F%23%20%c3%A4@[::1]:5/2", "::1", 5, 2, "a:b@",
               "%/?# \xc3\xa4");
}

static void assert_unix(const char *url, const char *path, unsigned database)
{
    struct config *config = load_url(url);
    const struct config_store *store = &config->store;

    assert_int_equal(store->kind, CONFIG_STORE_UNIX);
    assert_text(store->path, path);
    assert_int_equal(store->database, database);
    assert_null(store->host);
    assert_null(store->username);
    assert_null(store->password);
    config_free(config);
}

static void test_unix(void **state)
{
    (void)state;
    assert_unix("unix:///run/redis/redis.sock", "/run/redis/redis.sock", 0);
    assert_unix("Unix:///a%20b%3f?db=3", "/a b?", 3);
    assert_unix("unix:///" X64 X16 X16 "xxxxxxxxxx", "/" X64 X16 X16 "xxxxxxxxxx", 0);
}

static void test_nothing(void **state)
{
    struct config *config = load_right(BASE6 "store: none\n");

    (void)state;
    assert_int_equal(config->store.kind, CONFIG_STORE_NONE);
    assert_string_equal(config->store.prefix, "coapgw");
    assert_string_equal(config->store.service, "10.9.0.2:5683");
    assert_int_equal(config->store.timeout_ms, 500);
    config_free(config);
}

static void test_defaults(void **state)
{
    struct config *config = load_right("store: {url: 'redis://h'}\n" IF4
                                       "listeners: [{uri: 'coap://[fd09::2]:5700'}]\n");

    (void)state;
    assert_string_equal(config->store.prefix, "coapgw");
    assert_string_equal(config->store.service, "[fd09::2]:5700");
    assert_int_equal(config->store.timeout_ms, 500);
    assert_false(config->store.reject);
    assert_int_equal(config->store.save_freq, 10);
    assert_int_equal(config->store.resume_spread_us, 10000000);
    config_free(config);
}

static void test_full(void **state)
{
    struct config *config = config_load(FULL, stderr);
    const struct config_store *store;

    (void)state;
    assert_non_null(config);
    store = &config->store;
    assert_int_equal(store->kind, CONFIG_STORE_TCP);
    assert_text(store->host, "fd00::7");
    assert_int_equal(store->port, 6380);
    assert_int_equal(store->database, 3);
    assert_text(store->username, "edge");
    assert_text(store->password, "S3cret@/");
    assert_text(store->prefix, "Site-1.a:b");
    assert_text(store->service, "[fd01::2]:61616");
    assert_int_equal(store->timeout_ms, 1500);
    assert_true(store->reject);
    assert_int_equal(store->save_freq, 1000000);
    assert_int_equal(store->resume_spread_us, 0);
    config_free(config);
}

/* But for url and service, what the example shows is the default; user and password stay comments.
 */
static void test_shown(void **state)
{
    char *text = read_shown(EXAMPLE, "# store:\n", BASE6);
    struct config *config = load_right(text);
    const struct config_store *store = &config->store;

    (void)state;
    assert_int_equal(store->kind, CONFIG_STORE_TCP);
    assert_text(store->host, "127.0.0.1");
    assert_int_equal(store->port, 6379);
    assert_int_equal(store->database, 0);
    assert_text(store->prefix, "coapgw");
    assert_text(store->service, "10.99.0.2:5683");
    assert_int_equal(store->timeout_ms, 500);
    assert_false(store->reject);
    assert_int_equal(store->save_freq, 10);
    assert_int_equal(store->resume_spread_us, 10000000);
    config_free(config);
    free(text);
}

/* Whatever spelling: gateways that share a service find the same keys. */
static void test_service_spelling(void **state)
{
    static const char *const given[][2] = {{"10.9.0.2", "10.9.0.2:5683"},
                                           {"192.0.2.1:1", "192.0.2.1:1"},
                                           {"[FD09:0::2]:5683", "[fd09::2]:5683"},
                                           {"fd09:0:0::2", "[fd09::2]:5683"}};
    char text[512];

    (void)state;
    for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
        struct config *config;

        snprintf(text, sizeof(text), BASE6 "store: {url: 'redis://h', service: '%s'}\n",
                 given[i][0]);
        config = load_right(text);
        assert_string_equal(config->store.service, given[i][1]);
        config_free(config);
    }
}

/* ---- what is wrong ---- */

static const struct error_case cases[] = {
    {BASE6 "store:\n",
     "7: store: is empty; write none, or a mapping with the keys url, username, password_file, "
     "prefix, service, timeout, on_failure, save_freq or resume_spread"},
    {BASE6 "store: None\n",
     "7: store: is a value; write none, or a mapping with the keys url, username, password_file, "
     "prefix, service, timeout, on_failure, save_freq or resume_spread"},
    {BASE6 "store: redis://u:" SECRET "@h\n",
     "7: store: is a value; write none, or a mapping with the keys url, username, password_file, "
     "prefix, service, timeout, on_failure, save_freq or resume_spread"},
    {BASE6 "store: [none]\n",
     "7: store: is a list; write none, or a mapping with the keys url, username, password_file, "
     "prefix, service, timeout, on_failure, save_freq or resume_spread"},
    {BASE6 "store: {}\n", "7: store.url: is missing; add it"},
    {BASE6 "store: {url: 'redis://h', password: " SECRET "}\n",
     "7: store.password: is not a known key; write one of url, username, password_file, prefix, "
     "service, timeout, on_failure, save_freq or resume_spread"},
    {BASE6 "store: {url: 'redis://h', redis://u:" SECRET "@h}\n",
     "7: store.redis://***: is not a known key; write one of url, username, password_file, prefix, "
     "service, timeout, on_failure, save_freq or resume_spread"},
    /* URLs */
    {STORE("localhost"), NOT_A_PLACE},
    {STORE("valkey://u:" SECRET "@h"), NOT_A_PLACE},
    {STORE("redis:/h"), NOT_A_PLACE},
    {STORE("unix:/run/redis.sock"), NOT_A_PLACE},
    {STORE("rediss://u:" SECRET "@h"),
     "8: store.url: asks for TLS, and this hiredis has no TLS; write " URL_SHOWN
     " with the address "
     "of a tunnel, such as stunnel, that speaks TLS to the server"},
    {STORE("redis://"), NO_HOST},
    {STORE("redis:///3"), NO_HOST},
    {STORE("redis://u:" SECRET "@"), NO_HOST},
    {STORE("redis://u:" SECRET "@:6379"), NO_HOST},
    {STORE("redis://a b"), NO_HOST},
    {STORE("redis://10.0.0.300"), NO_HOST},
    {STORE("redis://[10.0.0.3]"), NO_HOST},
    {STORE("redis://[fd00::1"), NO_HOST},
    {STORE("redis://[fd00::1]x"), NO_HOST},
    {STORE("redis://" X256 "x"), NO_HOST},
    {STORE("redis://fd00::1"), NO_PORT},
    {STORE("redis://h:"), NO_PORT},
    {STORE("redis://h:0"), NO_PORT},
    {STORE("redis://h:65536"), NO_PORT},
    {STORE("redis://h:18446744073709551617"), NO_PORT},
    {STORE("redis://u:" SECRET), NO_PORT},
    {STORE("redis://0.0.0.0"),
     "8: store.url: has an address that is no host's; write a unicast address"},
    {STORE("redis://[ff02::1]"),
     "8: store.url: has an address that is no host's; write a unicast address"},
    {STORE("redis://h/one"), NO_DATABASE},
    {STORE("redis://h/-1"), NO_DATABASE},
    {STORE("redis://h/1/2"), NO_DATABASE},
    {STORE("redis://h/2147483648"), NO_DATABASE},
    {STORE("redis://h/" X256), NO_DATABASE},
    {STORE("redis://h?db=1"), NO_QUERY},
    {STORE("redis://h/1?x"), NO_QUERY},
    {STORE("redis://h/#1"), NO_QUERY},
    {STORE("redis://u:" SECRET "/x@h"), UNESCAPED},
    {STORE("redis://u:" SECRET "?@h"), UNESCAPED},
    {STORE("redis://u#:" SECRET "@h"), UNESCAPED},
    {STORE("redis://u:" SECRET "%2@h"), BROKEN},
    {STORE("redis://%zz:" SECRET "@h"), BROKEN},
    {STORE("redis://u:" SECRET "%00@h"), "8: store.url: has a zero byte; remove %00"},
    {STORE("redis://u:" X1024 "x@h"),
     "8: store.url: has a user or password of more than 1024 bytes; write a shorter one"},
    {STORE("redis://" X1024 "x:p@h"),
     "8: store.url: has a user or password of more than 1024 bytes; write a shorter one"},
    {STORE("redis://" SECRET "@h"), "8: store.url: " NO_PASSWORD},
    {STORE("redis://u:@h"), "8: store.url: " NO_PASSWORD},
    {STORE("unix://run/redis.sock"), NOT_ABSOLUTE},
    {STORE("unix://u:" SECRET "@/run/redis.sock"), NOT_ABSOLUTE},
    {STORE("unix://"), NOT_ABSOLUTE},
    {STORE("unix:///"), NO_SOCKET},
    {STORE("unix:///run/"), NO_SOCKET},
    {STORE("unix:///" X64 X16 X16 "xxxxxxxxxxx"), NO_SOCKET},
    {STORE("unix:///a%2"), BROKEN},
    {STORE("unix:///a%00b"), "8: store.url: has a zero byte; remove %00"},
    {STORE("unix:///a?password=" SECRET), OTHER_QUERY},
    {STORE("unix:///a?db=1&password=" SECRET), NO_DATABASE},
    {STORE("unix:///a?db="), NO_DATABASE},
    /* user and password */
    {STORE("redis://u:p@h") "  username: v\n",
     "9: store.username: the url has a user, too; remove one of them"},
    {STORE("redis://h") "  username: v\n", "9: store.username: " NO_PASSWORD},
    {STORE("redis://:p@h") "  username: " X1024 "x\n",
     "9: store.username: has 1025 bytes; write at most 1024"},
    {STORE("redis://:p@h") "  password_file: /etc/hostname\n",
     "9: store.password_file: the url has a password, too; remove one of them"},
    {STORE("redis://h") "  password_file: " SECRET "\n",
     "9: store.password_file: is not an absolute path; write the path of a file whose first line "
     "is the password"},
    {STORE("redis://h") "  password_file: /" SECRET "/is/the/password\n",
     "9: store.password_file: cannot be opened (No such file or directory); name a file that can "
     "be read"},
    {STORE("redis://h") "  password_file: /dev/null\n",
     "9: store.password_file: is not a regular file; name one"},
    {STORE("redis://h") "  password_file: /\n",
     "9: store.password_file: is not a regular file; name one"},
    /* the rest */
    {STORE("redis://h") "  prefix: 'a b'\n",
     "9: store.prefix: \"a b\" is no prefix; write 1 to 64 letters, digits, _, -, . or :"},
    {STORE("redis://h") "  prefix: '{a}'\n",
     "9: store.prefix: \"{a}\" is no prefix; write 1 to 64 letters, digits, _, -, . or :"},
    {STORE("redis://h") "  prefix: " X64 "x\n",
     "9: store.prefix: \"" X64 "x\" is no prefix; write 1 to 64 letters, digits, _, -, . or :"},
    {STORE("redis://h") "  service: gateway:5683\n",
     "9: store.service: \"gateway:5683\" is not an address and port; write ADDRESS:PORT, an IPv6 "
     "address in brackets"},
    {STORE("redis://h") "  service: '10.9.0.2:0'\n",
     "9: store.service: \"10.9.0.2:0\" is not an address and port; write ADDRESS:PORT, an IPv6 "
     "address in brackets"},
    {STORE("redis://h") "  service: '0.0.0.0:5683'\n",
     "9: store.service: \"0.0.0.0:5683\" is the unspecified address; write a unicast address"},
    {STORE("redis://h") "  timeout: 9ms\n",
     "9: store.timeout: \"9ms\" is out of range; write 10ms to 10s"},
    {STORE("redis://h") "  timeout: 10001ms\n",
     "9: store.timeout: \"10001ms\" is out of range; write 10ms to 10s"},
    {STORE("redis://h") "  timeout: 500\n",
     "9: store.timeout: \"500\" is not a duration in whole milliseconds; write a number with a "
     "unit (ms, s, m, h)"},
    {STORE("redis://h") "  on_failure: wait\n",
     "9: store.on_failure: \"wait\" is not known; write serve or reject"},
    {STORE("redis://h") "  save_freq: 0\n",
     "9: store.save_freq: \"0\" is out of range; write 1 to 1000000"},
    {STORE("redis://h") "  save_freq: 1000001\n",
     "9: store.save_freq: \"1000001\" is out of range; write 1 to 1000000"},
    {STORE("redis://h") "  resume_spread: 61m\n",
     "9: store.resume_spread: \"61m\" is out of range; write 0 to 1h"},
    {STORE("redis://h") "  resume_spread: 10\n",
     "9: store.resume_spread: \"10\" is not a duration; write a number with a unit (us, ms, s, m, "
     "h)"},
    /* a URL in the wrong place */
    {STORE("redis://h") "  service: 'redis://u:" SECRET "@h'\n",
     "9: store.service: \"redis://***\" is not an address and port; write ADDRESS:PORT, an IPv6 "
     "address in brackets"},
    {BASE6 "instance: 'RedisS://u:" X64 X16 SECRET "@h'\n",
     "7: instance: \"RedisS://***\" is not a name; write 1 to 32 letters, digits, _ or -"},
    {BASE6 "instance: 'see redis://u:a\"" SECRET "\"@h'\n",
     "7: instance: \"see redis://***\" is not a name; write 1 to 32 letters, digits, _ or -"},
};

static void test_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_null(strstr(cases[i].error, SECRET));
    assert_cases(cases, sizeof(cases) / sizeof(cases[0]));
}

/* ---- the file of the password ---- */

static void assert_file(const char *bytes, size_t length, const char *password, const char *error)
{
    char name[] = "/tmp/config_store_XXXXXX", text[512], expected[512] = "";
    struct config *config;
    int fd = mkstemp(name);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), (ssize_t)length);
    close(fd);
    snprintf(text, sizeof(text), STORE("redis://u@h") "  password_file: %s\n", name);
    config = load(text, strlen(text));
    unlink(name);
    if (error)
        snprintf(expected, sizeof(expected), "t.yaml:9: store.password_file: %s\n", error);
    assert_string_equal(errors, expected);
    assert_int_equal(config != NULL, error == NULL);
    if (config) {
        assert_text(config->store.username, "u");
        assert_text(config->store.password, password);
    }
    config_free(config);
}

#define EMPTY_LINE "has an empty first line; write the password there"
#define LONG_LINE  "has a first line of more than 1024 bytes; write a shorter password"
#define ZERO_BYTE  "has a zero byte in its first line; write the password as text"

static void test_password_file(void **state)
{
    (void)state;
    assert_file("p", 1, "p", NULL);
    assert_file(" p%41#w \nsecond line\n", 21, " p%41#w ", NULL);
    assert_file("p\r\n", 3, "p", NULL);
    assert_file("\xff\x01\n\0", 4, "\xff\x01", NULL);
    assert_file(X1024, 1024, X1024, NULL);
    assert_file(X1024 "\n" X1024, 2049, X1024, NULL);
    assert_file(X1024 "\r\n" X1024, 2050, X1024, NULL);
    assert_file("", 0, NULL, EMPTY_LINE);
    assert_file("\n" SECRET "\n", 2 + strlen(SECRET), NULL, EMPTY_LINE);
    assert_file("\r\n", 2, NULL, EMPTY_LINE);
    assert_file(X1024 "x", 1025, NULL, LONG_LINE);
    assert_file(X1024 X1024, 2048, NULL, LONG_LINE);
    assert_file("a\0" SECRET "\n", 3 + strlen(SECRET), NULL, ZERO_BYTE);
    assert_file("\0", 1, NULL, ZERO_BYTE);
}

/* A FIFO is refused, not waited for. */
static void test_password_fifo(void **state)
{
    char directory[] = "/tmp/config_store_XXXXXX", name[64], text[512];

    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(name, sizeof(name), "%s/x", directory);
    assert_int_equal(mkfifo(name, 0600), 0);
    snprintf(text, sizeof(text), STORE("redis://h") "  password_file: %s\n", name);
    assert_null(load(text, strlen(text)));
    assert_string_equal(errors, "t.yaml:9: store.password_file: is not a regular file; name one\n");
    unlink(name);
    rmdir(directory);
}

/* Also without a user, and with the user of the key. */
static void test_password_file_users(void **state)
{
    char name[] = "/tmp/config_store_XXXXXX", text[512];
    struct config *config;
    int fd = mkstemp(name);

    (void)state;
    assert_int_equal(write(fd, "pw\n", 3), 3);
    close(fd);
    snprintf(text, sizeof(text), STORE("unix:///s") "  password_file: %s\n", name);
    config = load_right(text);
    assert_null(config->store.username);
    assert_text(config->store.password, "pw");
    config_free(config);
    snprintf(text, sizeof(text), STORE("unix:///s") "  username: 'a:b%%41'\n  password_file: %s\n",
             name);
    config = load_right(text);
    assert_text(config->store.username, "a:b%41");
    assert_text(config->store.password, "pw");
    config_free(config);
    unlink(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_shown),
        cmocka_unit_test(test_service_spelling),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_password_file),
        cmocka_unit_test(test_password_fifo),
        cmocka_unit_test(test_password_file_users),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
