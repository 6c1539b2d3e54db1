/* What the keys of the proxy turn into where one value follows from others: the forward proxy, the
 * segments that a route strips, and the own address from which a destination is reached. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/local.h"
#include "tests/unit/config_harness.h"

#define EXAMPLE TESTS_DIR "/../config/coapgw.yaml"
#define FULL    TESTS_DIR "/unit/config/full.yaml"

static struct config *load_right(const char *text)
{
    struct config *config = load_exact(text, strlen(text));

    assert_string_equal(errors, "");
    assert_non_null(config);
    return config;
}

static void assert_network(const struct config_forward *forward, unsigned index,
                           const char *address, unsigned prefix)
{
    char text[ENDPOINT_TEXT_BYTES];

    assert_true(index < forward->network_count);
    assert_string_equal(address_format(&forward->networks[index].address, text), address);
    assert_int_equal(forward->networks[index].prefix, prefix);
}

/* ---- the forward proxy ---- */

static void test_forward_destinations(void **state)
{
    struct config *config = config_load(FULL, stderr);
    const struct config_forward *forward;

    (void)state;
    assert_non_null(config);
    forward = &config->forward;
    assert_true(forward->enabled);
    assert_int_equal(forward->network_count, 6);
    assert_network(forward, 0, "10.1.0.0", 16);
    assert_network(forward, 1, "fd00:1::", 64);
    assert_network(forward, 2, "192.0.2.7", 32);
    assert_network(forward, 3, "0.0.0.0", 0);
    assert_network(forward, 4, "::", 0);
    assert_network(forward, 5, "fd00::7", 128);
    assert_int_equal(forward->name_count, 2);
    assert_string_equal(forward->names[0], "*.fleet.example");
    assert_string_equal(forward->names[1], "origin.example");
    assert_string_equal(forward->dns_servers, "10.0.0.53:53,10.0.0.54:5353,[fd00::53]:53,"
                                              "[fd00::54]:53,[fd00::55]:65535");
    config_free(config);
}

static void test_forward_manner(void **state)
{
    struct config *config = config_load(FULL, stderr);
    const struct config_upstream *upstream;

    (void)state;
    assert_non_null(config);
    upstream = &config->forward.upstream;
    assert_string_equal(upstream->name, "forward");
    assert_null(upstream->servers);
    assert_int_equal(upstream->server_count, 0);
    assert_false(upstream->reliable);
    assert_int_equal(upstream->timeout_ms, 7000);
    assert_int_equal(upstream->ports, 33);
    assert_int_equal(upstream->block_szx, 5);
    assert_int_equal(upstream->outstanding, 99);
    assert_int_equal(upstream->retries, 0);
    assert_int_equal(upstream->keepalive_us, 45000000); /* of the one for all */
    assert_int_equal(upstream->transmission.ack_timeout_ms, 3000);
    assert_int_equal(upstream->transmission.max_retransmit, 3); /* of the one for all */
    config_free(config);
}

static void assert_forward_defaults(const struct config_forward *forward)
{
    assert_null(forward->dns_servers);
    assert_string_equal(forward->upstream.name, "forward");
    assert_true(forward->upstream.reliable);
    assert_int_equal(forward->upstream.timeout_ms, 93000);
    assert_int_equal(forward->upstream.ports, 1024);
    assert_int_equal(forward->upstream.block_szx, 6);
    assert_int_equal(forward->upstream.outstanding, 500);
    assert_int_equal(forward->upstream.retries, 0);
    assert_int_equal(forward->upstream.keepalive_us, 0);
}

static void test_forward_defaults(void **state)
{
    struct config *on = load_right(BASE6 "limits: {exchanges: 500}\n"
                                         "forward_proxy: {allow: [a-b_c.example]}\n");
    struct config *off = load_right(BASE6 "limits: {exchanges: 500}\n");

    (void)state;
    assert_true(on->forward.enabled);
    assert_int_equal(on->forward.network_count, 0);
    assert_string_equal(on->forward.names[0], "a-b_c.example");
    assert_forward_defaults(&on->forward);
    assert_false(off->forward.enabled);
    assert_int_equal(off->forward.network_count + off->forward.name_count, 0);
    assert_forward_defaults(&off->forward);
    config_free(on);
    config_free(off);
}

/* 20 s * 15 * 1.5 + 200 s + 20 s. */
static void test_forward_prolongs_sessions(void **state)
{
    struct config *config =
        load_right(BASE6 "forward_proxy: {allow: [a], transmission: {ack_timeout: 20s}}\n");

    (void)state;
    assert_int_equal(config->limits.session_idle_us, 670000000);
    config_free(config);
}

static void test_forward_shown(void **state)
{
    char *text = read_shown(EXAMPLE, "# forward_proxy:\n", BASE6);
    struct config *config = load_right(text);
    const struct config_forward *forward = &config->forward;

    (void)state;
    assert_true(forward->enabled);
    assert_int_equal(forward->network_count, 3);
    assert_int_equal(forward->name_count, 2);
    assert_string_equal(forward->dns_servers, "10.0.0.53:53,10.0.0.54:5353,[fd00::53]:53");
    assert_true(forward->upstream.reliable);
    assert_int_equal(forward->upstream.timeout_ms, 93000);
    assert_int_equal(forward->upstream.ports, 1024);
    assert_int_equal(forward->upstream.block_szx, 6);
    assert_int_equal(forward->upstream.outstanding, 65536);
    assert_int_equal(forward->upstream.transmission.nstart, 4);
    config_free(config);
    free(text);
}

/* ---- what may be zero ---- */

static void test_zeros(void **state)
{
    struct config *config =
        load_right(BASE9 "    keepalive: 0\n"
                         "cache: {size: 0}\n"
                         "limits: {observations: 0, relations: 0, amplification: 0}\n");

    (void)state;
    assert_int_equal(config->upstreams[0].keepalive_us, 0);
    assert_int_equal(config->cache.bytes, 0);
    assert_int_equal(config->limits.observations, 0);
    assert_int_equal(config->limits.relations, 0);
    assert_int_equal(config->limits.amplification, 0);
    config_free(config);
}

static void test_block_sizes(void **state)
{
    static const char *const sizes[] = {"16B", "32B", "64B", "128B", "256B", "512B", "1KiB"};
    char text[512];

    (void)state;
    for (unsigned szx = 0; szx <= 6; szx++) {
        struct config *config;

        snprintf(text, sizeof(text), BASE9 "    block_size: %s\n", sizes[szx]);
        config = load_right(text);
        assert_int_equal(config->upstreams[0].block_szx, szx);
        assert_int_equal(config->listeners[0].block_szx, 6);
        config_free(config);
    }
}

/* ---- routes ---- */

static void assert_strip(const char *path, const char *strip, unsigned segments)
{
    char text[512];
    struct config *config;

    snprintf(text, sizeof(text), BASE9 "routes: [{path: '%s', to: o, strip: %s}]\n", path, strip);
    config = load_right(text);
    assert_int_equal(config->routes[0].strip_segments, segments);
    config_free(config);
}

static void test_strip(void **state)
{
    (void)state;
    assert_strip("/a", "true", 1);
    assert_strip("/a/", "true", 1);
    assert_strip("/a/b%2Fc/d", "true", 3);
    assert_strip("/", "true", 0);
    assert_strip("/a/b", "false", 0);
}

/* ---- from where a destination is reached ---- */

static void assert_local_for(const struct config *config, const char *destination, int local)
{
    struct address address;

    assert_int_equal(address_parse(destination, &address), 0);
    assert_int_equal(local_for(config, &address), local);
}

static void test_local_for(void **state)
{
    struct config *config = load_right(
        "interfaces:\n"
        "  - {name: a, device: 'tap:a', addresses: [10.0.0.2/8, 'fe80::2/64', 'fd01::2/64'],\n"
        "     gateway: 10.0.0.1}\n"
        "  - {name: b, device: 'tap:b', addresses: [10.7.0.2/16, 'fd02::2/64'],\n"
        "     gateway6: 'fe80::1'}\n"
        "listeners: [{uri: coap://10.0.0.2}]\n");

    (void)state;
    assert_local_for(config, "10.7.0.9", 3); /* the longest prefix */
    assert_local_for(config, "10.8.0.9", 0); /* on the link */
    assert_local_for(config, "8.8.8.8", 0);  /* by the gateway */
    assert_local_for(config, "fd01::9", 2);
    assert_local_for(config, "2001:db8::9", 4);
    assert_local_for(config, "fe80::9", 1);
    assert_local_for(config, "fe80:1::9", -1); /* of a link, but of none of ours */
    config_free(config);
}

static void test_no_local(void **state)
{
    struct config *config = load_right(BASE6);

    (void)state;
    assert_local_for(config, "10.9.0.77", 0);
    assert_local_for(config, "10.10.0.1", -1);
    assert_local_for(config, "fd10::1", -1);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_destinations),
        cmocka_unit_test(test_forward_manner),
        cmocka_unit_test(test_forward_defaults),
        cmocka_unit_test(test_forward_prolongs_sessions),
        cmocka_unit_test(test_forward_shown),
        cmocka_unit_test(test_zeros),
        cmocka_unit_test(test_block_sizes),
        cmocka_unit_test(test_strip),
        cmocka_unit_test(test_local_for),
        cmocka_unit_test(test_no_local),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
