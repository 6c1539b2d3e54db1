/* Keys of operation and of what the gateway serves itself: the admin endpoint, packet loss,
 * keepalive and probing rate with what inherits them, held resources and modules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/config_harness.h"

#define EXAMPLE     TESTS_DIR "/../config/coapgw.yaml"
#define FULL        TESTS_DIR "/unit/config/full.yaml"
#define LOSS(text)  BASE6 "debug: {packet_loss: '" text "'}\n"
#define NO_LOSS     "write a percentage such as 20%, or up to 10 ranges of messages such as 1,5-9"
#define NO_ADDRESS  "is not an address and port; write ADDRESS:PORT, an IPv6 address in brackets"
#define ADMIN(text) BASE6 "admin: {listen: '" text "'}\n"

static struct config *load_right(const char *text)
{
    struct config *config = load_exact(text, strlen(text));

    assert_string_equal(errors, "");
    assert_non_null(config);
    return config;
}

/* ---- the admin endpoint ---- */

static void assert_admin(const char *more, bool enabled, const char *address, unsigned port)
{
    char text[512], formatted[ENDPOINT_TEXT_BYTES];
    struct config *config;

    snprintf(text, sizeof(text), BASE6 "%s", more);
    config = load_right(text);
    assert_int_equal(config->admin.enabled, enabled);
    assert_string_equal(address_format(&config->admin.listen.address, formatted), address);
    assert_int_equal(config->admin.listen.port, port);
    config_free(config);
}

static void test_admin(void **state)
{
    (void)state;
    assert_admin("", true, "127.0.0.1", 9683);
    assert_admin("admin: none\n", false, "127.0.0.1", 9683);
    assert_admin("admin: 'none'\nstore: none\n", false, "127.0.0.1", 9683);
    assert_admin("admin: {}\n", true, "127.0.0.1", 9683);
    assert_admin("admin: {listen: '[::1]:9683'}\n", true, "::1", 9683);
    assert_admin("admin: {listen: '::1'}\n", true, "::1", 9683);
    assert_admin("admin: {listen: 127.0.0.2}\n", true, "127.0.0.2", 9683);
    assert_admin("admin: {listen: '127.0.0.1:1'}\n", true, "127.0.0.1", 1);
    assert_admin("admin: {listen: '0.0.0.0:65535'}\n", true, "0.0.0.0", 65535);
    assert_admin("admin: {listen: '10.0.0.1:80'}\n", true, "10.0.0.1", 80);
}

/* ---- packet loss ---- */

static void test_packet_loss(void **state)
{
    struct config *off = load_right(BASE6 "debug: {}\n");
    struct config *percent = load_right(BASE6 "debug: {packet_loss: 20%}\n");
    struct config *ranges = load_right(LOSS("1,5-9"));

    (void)state;
    assert_false(off->packet_loss.active);
    assert_true(percent->packet_loss.active);
    assert_int_equal(percent->packet_loss.percent, 20);
    assert_int_equal(percent->packet_loss.range_count, 0);
    assert_true(ranges->packet_loss.active);
    assert_int_equal(ranges->packet_loss.range_count, 2);
    assert_int_equal(ranges->packet_loss.ranges[1].first, 5);
    assert_int_equal(ranges->packet_loss.ranges[1].last, 9);
    config_free(off);
    config_free(percent);
    config_free(ranges);
}

/* ---- what is inherited ---- */

static void test_keepalive(void **state)
{
    struct config *config =
        load_right(IF4 "listeners:\n"
                       "  - uri: coap://10.9.0.2\n"
                       "  - {uri: 'coap://10.9.0.2:5700', keepalive: 0}\n"
                       "  - {uri: 'coap://10.9.0.2:5701', keepalive: 24h}\n"
                       "upstreams:\n"
                       "  - {name: a, servers: [coap://10.9.0.1]}\n"
                       "  - {name: b, servers: [coap://10.9.0.1], keepalive: 0s}\n"
                       "  - {name: c, servers: [coap://10.9.0.1], keepalive: 1s}\n"
                       "keepalive: 30s\n");

    (void)state;
    assert_int_equal(config->keepalive_us, 30000000);
    assert_int_equal(config->listeners[0].keepalive_us, 30000000);
    assert_int_equal(config->listeners[1].keepalive_us, 0);
    assert_int_equal(config->listeners[2].keepalive_us, 86400000000);
    assert_int_equal(config->upstreams[0].keepalive_us, 30000000);
    assert_int_equal(config->upstreams[1].keepalive_us, 0);
    assert_int_equal(config->upstreams[2].keepalive_us, 1000000);
    assert_int_equal(config->forward.upstream.keepalive_us, 30000000);
    config_free(config);
}

static void test_keepalive_of_one(void **state)
{
    struct config *config = load_right(BASE6 "    keepalive: 1.5s\n" UP3 "    keepalive: 2s\n");

    (void)state;
    assert_int_equal(config->keepalive_us, 0);
    assert_int_equal(config->listeners[0].keepalive_us, 1500000);
    assert_int_equal(config->upstreams[0].keepalive_us, 2000000);
    assert_int_equal(config->forward.upstream.keepalive_us, 0);
    config_free(config);
}

static void test_probing_rate(void **state)
{
    struct config *config = load_right(
        IF4 "listeners:\n"
            "  - uri: coap://10.9.0.2\n"
            "  - {uri: 'coap://10.9.0.2:5700', transmission: {probing_rate: 4000000}}\n"
            "upstreams:\n"
            "  - {name: a, servers: [coap://10.9.0.1], transmission: {probing_rate: 0.001}}\n"
            "  - {name: b, servers: [coap://10.9.0.1], transmission: {nstart: 2}}\n"
            "forward_proxy: {allow: [a], transmission: {probing_rate: 2.5}}\n"
            "transmission: {probing_rate: 1000.125}\n");

    (void)state;
    assert_int_equal(config->transmission.probing_rate_milli, 1000125);
    assert_int_equal(config->listeners[0].transmission.probing_rate_milli, 1000125);
    assert_int_equal(config->listeners[1].transmission.probing_rate_milli, 4000000000);
    assert_int_equal(config->upstreams[0].transmission.probing_rate_milli, 1);
    assert_int_equal(config->upstreams[1].transmission.probing_rate_milli, 1000125);
    assert_int_equal(config->forward.upstream.transmission.probing_rate_milli, 2500);
    config_free(config);
}

/* ---- limits ---- */

static void test_limits(void **state)
{
    struct config *config =
        load_right(BASE6 "limits: {parameter_sets: 65536, async: 16777216, module_slow: 10s}\n");

    (void)state;
    assert_int_equal(config->limits.parameter_sets, 65536);
    assert_int_equal(config->limits.async, 16777216);
    assert_int_equal(config->limits.module_slow_us, 10000000);
    config_free(config);
}

/* ---- held resources and modules ---- */

static void test_resources(void **state)
{
    struct config *config =
        load_right(BASE6 "routes:\n"
                         "  - {path: /, resources: {}}\n"
                         "  - {host: H, path: /, resources: {create: true, max: 16777216, "
                         "size: 256GiB, formats: [65535]}}\n");
    const struct config_route *route = &config->routes[0];

    (void)state;
    assert_int_equal(route->kind, CONFIG_ROUTE_RESOURCES);
    assert_true(route->resources.create);
    assert_int_equal(route->resources.max, 10000);
    assert_int_equal(route->resources.bytes, 16u << 20);
    assert_int_equal(route->resources.format_count, 0);
    assert_null(route->resources.formats);
    route++;
    assert_string_equal(route->host, "h");
    assert_true(route->resources.create);
    assert_int_equal(route->resources.max, 16777216);
    assert_int_equal(route->resources.bytes, UINT64_C(256) << 30);
    assert_int_equal(route->resources.format_count, 1);
    assert_int_equal(route->resources.formats[0], 65535);
    config_free(config);
}

static void test_modules(void **state)
{
    struct config *config = load_right(BASE6 "routes:\n"
                                             "  - {path: /t, module: {file: /lib/t.so}}\n"
                                             "  - path: /u\n"
                                             "    module:\n"
                                             "      file: /lib/t.so\n"
                                             "      options: " X1024 "\n"
                                             "  - path: /v\n"
                                             "    module: {file: /lib/v, options: ''}\n");

    (void)state;
    assert_int_equal(config->routes[0].kind, CONFIG_ROUTE_MODULE);
    assert_string_equal(config->routes[0].module.file, "/lib/t.so");
    assert_string_equal(config->routes[0].module.options, "");
    assert_string_equal(config->routes[1].module.options, X1024);
    assert_string_equal(config->routes[2].module.options, "");
    assert_int_equal(config->routes[2].strip_segments, 0);
    config_free(config);
}

static void test_full(void **state)
{
    struct config *config = config_load(FULL, stderr);
    const struct config_route *held, *code;
    char text[ENDPOINT_TEXT_BYTES];

    (void)state;
    assert_non_null(config);
    held = &config->routes[4];
    code = &config->routes[5];
    assert_int_equal(held->kind, CONFIG_ROUTE_RESOURCES);
    assert_string_equal(held->path, "/held");
    assert_false(held->resources.create);
    assert_int_equal(held->resources.max, 7);
    assert_int_equal(held->resources.bytes, 65536);
    assert_int_equal(held->resources.format_count, 3);
    assert_int_equal(held->resources.formats[0], 0);
    assert_int_equal(held->resources.formats[1], 60);
    assert_int_equal(held->resources.formats[2], 18);
    assert_int_equal(code->kind, CONFIG_ROUTE_MODULE);
    assert_string_equal(code->module.file, "/opt/lib/code.so");
    assert_string_equal(code->module.options, "step=2, label='x'");
    assert_true(config->admin.enabled);
    assert_string_equal(address_format(&config->admin.listen.address, text), "::1");
    assert_int_equal(config->admin.listen.port, 9000);
    assert_string_equal(config->journal.directory, "/dev/shm/gateways");
    assert_true(config->packet_loss.active);
    assert_int_equal(config->packet_loss.range_count, 3);
    config_free(config);
}

/* ---- what the example shows ---- */

static void test_shown_routes(void **state)
{
    char *text = read_shown(EXAMPLE, "  # - path: /shared\n", BASE6 "routes:\n");
    struct config *config = load_right(text);
    const struct config_route *routes = config->routes;

    (void)state;
    assert_int_equal(config->route_count, 2);
    assert_int_equal(routes[0].kind, CONFIG_ROUTE_RESOURCES);
    assert_true(routes[0].resources.create);
    assert_int_equal(routes[0].resources.max, 10000);
    assert_int_equal(routes[0].resources.bytes, 16u << 20);
    assert_int_equal(routes[0].resources.format_count, 2);
    assert_int_equal(routes[1].kind, CONFIG_ROUTE_MODULE);
    assert_string_equal(routes[1].module.file, "/usr/lib/coapgw/modules/time.so");
    assert_string_equal(routes[1].module.options, "");
    config_free(config);
    free(text);
}

static void test_shown_debug(void **state)
{
    char *text = read_shown(EXAMPLE, "# debug:\n", BASE6);
    struct config *config = load_right(text);

    (void)state;
    assert_false(config->packet_loss.active);
    config_free(config);
    free(text);
}

/* ---- what is wrong ---- */

static const struct error_case cases[] = {
    {BASE6 "admin:\n", "7: admin: is empty; write none, or a mapping with the key listen"},
    {BASE6 "admin: off\n", "7: admin: is a value; write none, or a mapping with the key listen"},
    {BASE6 "admin: [none]\n", "7: admin: is a list; write none, or a mapping with the key listen"},
    {BASE6 "admin: {port: 1}\n", "7: admin.port: is not a known key; write listen"},
    {BASE6 "admin:\n  listen:\n", "8: admin.listen: has no value; write one or remove the key"},
    {ADMIN("localhost:9683"), "7: admin.listen: \"localhost:9683\" " NO_ADDRESS},
    {ADMIN("9683"), "7: admin.listen: \"9683\" " NO_ADDRESS},
    {ADMIN("127.0.0.1:0"), "7: admin.listen: \"127.0.0.1:0\" " NO_ADDRESS},
    {ADMIN("127.0.0.1:65536"), "7: admin.listen: \"127.0.0.1:65536\" " NO_ADDRESS},
    {ADMIN("[127.0.0.1]:9683"), "7: admin.listen: \"[127.0.0.1]:9683\" " NO_ADDRESS},
    {ADMIN("http://127.0.0.1:9683"), "7: admin.listen: \"http://127.0.0.1:9683\" " NO_ADDRESS},
    {ADMIN("224.0.0.1:9683"), "7: admin.listen: \"224.0.0.1:9683\" is a multicast address; write "
                              "one such as 127.0.0.1:9683"},
    {BASE6 "debug: none\n", "7: debug: is a value; write a mapping with the key packet_loss"},
    {BASE6 "debug: {loss: 1%}\n", "7: debug.loss: is not a known key; write packet_loss"},
    {LOSS("101%"), "7: debug.packet_loss: \"101%\" is no specification of loss (more than 100 "
                   "percent); " NO_LOSS},
    {LOSS("20 %"), "7: debug.packet_loss: \"20 %\" is no specification of loss (ranges are parted "
                   "by commas); " NO_LOSS},
    {LOSS("9-5"), "7: debug.packet_loss: \"9-5\" is no specification of loss (messages are counted "
                  "from 1, and a range goes upwards); " NO_LOSS},
    {LOSS("1,2,3,4,5,6,7,8,9,10,11"),
     "7: debug.packet_loss: \"1,2,3,4,5,6,7,8,9,10,11\" is no specification of loss (more than 10 "
     "ranges); " NO_LOSS},
    {LOSS("half"),
     "7: debug.packet_loss: \"half\" is no specification of loss (a range is N or N-M); " NO_LOSS},
};

static void test_errors(void **state)
{
    (void)state;
    assert_cases(cases, sizeof(cases) / sizeof(cases[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_admin),        cmocka_unit_test(test_packet_loss),
        cmocka_unit_test(test_keepalive),    cmocka_unit_test(test_keepalive_of_one),
        cmocka_unit_test(test_probing_rate), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_resources),    cmocka_unit_test(test_modules),
        cmocka_unit_test(test_full),         cmocka_unit_test(test_shown_routes),
        cmocka_unit_test(test_shown_debug),  cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
