/* What a configuration that is right turns into: the shipped example, defaults, and every key. What
 * is wrong is in config_errors_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/config.h"

#define EXAMPLE TESTS_DIR "/../config/coapgw.yaml"
#define FULL    TESTS_DIR "/unit/config/full.yaml"
#define MINIMAL                                  \
    "interfaces:\n"                              \
    "  - name: a\n"                              \
    "    device: tap:t0\n"                       \
    "    addresses: [10.9.0.2/24, fd09::2/64]\n" \
    "listeners:\n"                               \
    "  - uri: coap://10.9.0.2\n"

static struct config *load_file(const char *file)
{
    struct config *config = config_load(file, stderr);

    assert_non_null(config);
    return config;
}

static struct config *load_text(const char *text)
{
    struct config *config = config_load_text("text.yaml", text, strlen(text), stderr);

    assert_non_null(config);
    return config;
}

static void assert_address(const struct address *address, const char *expected)
{
    char text[ENDPOINT_TEXT_BYTES];

    assert_string_equal(address_format(address, text), expected);
}

static void assert_local(const struct config *config, unsigned local, const char *expected)
{
    assert_true(local < config->local_count);
    assert_address(&config->locals[local].address, expected);
}

static void assert_transmission(const struct transmission *t, uint32_t ack_timeout_ms,
                                uint32_t factor_milli, uint8_t max_retransmit, uint16_t nstart,
                                uint32_t leisure_ms)
{
    assert_int_equal(t->ack_timeout_ms, ack_timeout_ms);
    assert_int_equal(t->ack_random_factor_milli, factor_milli);
    assert_int_equal(t->max_retransmit, max_retransmit);
    assert_int_equal(t->nstart, nstart);
    assert_int_equal(t->default_leisure_ms, leisure_ms);
}

static void assert_health(const struct config_upstream *upstream, unsigned retries,
                          uint64_t keepalive_us, uint64_t revive_us)
{
    assert_int_equal(upstream->retries, retries);
    assert_int_equal(upstream->keepalive_us, keepalive_us);
    assert_int_equal(upstream->revive_us, revive_us);
}

/* ---- defaults ---- */

static void assert_default_process(const struct config *config)
{
    assert_string_equal(config->instance, "coapgw");
    assert_int_equal(config->workers, 1);
    assert_true(config->cores_auto);
    assert_int_equal(config->idle, CONFIG_IDLE_ADAPTIVE);
    assert_int_equal(config->huge_pages, CONFIG_HUGE_AUTO);
    assert_int_equal(config->memory_bytes, 512u << 20);
    assert_int_equal(config->upstream_port_base, 32768);
    assert_int_equal(config->upstream_port_shift, 12);
    assert_int_equal(config->separate_after_us, 500000);
    assert_transmission(&config->transmission, 2000, 1500, 4, 1, 5000);
    assert_int_equal(config->transmission.probing_rate_milli, 1000);
    assert_int_equal(config->keepalive_us, 0);
}

static void assert_default_proxy(const struct config *config)
{
    assert_int_equal(config->cache.bytes, 64u << 20);
    assert_int_equal(config->cache.stale_if_error_s, 0);
    assert_int_equal(config->observe.confirm_every, 5);
    assert_int_equal(config->observe.confirm_after_us, 60000000);
    assert_int_equal(config->security.idle_us, UINT64_C(86400000000));
    assert_int_equal(config->security.handshake_budget, 1);
    assert_false(config->security.persist);
    for (unsigned i = 0; i < config->listener_count; i++) {
        assert_int_equal(config->listeners[i].block_szx, 6);
        assert_true(config->listeners[i].multicast);
        assert_int_equal(config->listeners[i].keepalive_us, 0);
        assert_int_equal(config->listeners[i].transmission.probing_rate_milli, 1000);
    }
}

static void assert_default_operation(const struct config *config, const char *service)
{
    const struct config_store *store = &config->store;

    assert_int_equal(store->kind, CONFIG_STORE_NONE);
    assert_null(store->host);
    assert_null(store->path);
    assert_null(store->username);
    assert_null(store->password);
    assert_string_equal(store->prefix, "coapgw");
    assert_string_equal(store->service, service);
    assert_int_equal(store->timeout_ms, 500);
    assert_false(store->reject);
    assert_int_equal(store->save_freq, 10);
    assert_int_equal(store->resume_spread_us, 10000000);
    assert_true(config->admin.enabled);
    assert_address(&config->admin.listen.address, "127.0.0.1");
    assert_int_equal(config->admin.listen.port, 9683);
    assert_false(config->packet_loss.active);
}

static void assert_default_limits(const struct config_limits *limits)
{
    assert_int_equal(limits->sessions, 1000000);
    assert_int_equal(limits->session_idle_us, 300000000);
    assert_int_equal(limits->exchanges, 65536);
    assert_int_equal(limits->outbound, 65536);
    assert_int_equal(limits->queue, 256);
    assert_int_equal(limits->remembered, 1048576);
    assert_int_equal(limits->message_bytes, 64u << 20);
    assert_int_equal(limits->token, 64);
    assert_int_equal(limits->body, 65536);
    assert_int_equal(limits->assembly_bytes, 64u << 20);
    assert_int_equal(limits->transfers, 16384);
    assert_int_equal(limits->transfer_idle_us, 247000000);
    assert_int_equal(limits->observations, 65536);
    assert_int_equal(limits->relations, 1000000);
    assert_int_equal(limits->client_requests, 64);
    assert_int_equal(limits->client_relations, 1024);
    assert_int_equal(limits->destinations, 1024);
    assert_int_equal(limits->amplification, 3);
    assert_int_equal(limits->parameter_sets, 1024);
    assert_int_equal(limits->async, 16384);
    assert_int_equal(limits->module_slow_us, 1000);
    assert_int_equal(limits->associations, 100000);
    assert_int_equal(limits->handshakes, 1024);
}

static void assert_default_interface(const struct config_interface *interface)
{
    assert_false(interface->mac_set);
    assert_false(interface->has_gateway6);
    assert_int_equal(interface->vlan, 0);
    assert_int_equal(interface->mtu, 1500);
    assert_int_equal(interface->queues, 0);
    assert_int_equal(interface->rx_descriptors, 1024);
    assert_int_equal(interface->tx_descriptors, 1024);
    assert_string_equal(interface->device_options, "");
}

static void test_minimal(void **state)
{
    struct config *config = load_text(MINIMAL);

    (void)state;
    assert_string_equal(config->file, "text.yaml");
    assert_default_process(config);
    assert_default_proxy(config);
    assert_default_limits(&config->limits);
    assert_default_operation(config, "10.9.0.2:5683");
    assert_int_equal(config->interface_count, 1);
    assert_default_interface(&config->interfaces[0]);
    assert_false(config->interfaces[0].has_gateway);
    assert_int_equal(config->interfaces[0].host_address_count, 0);
    assert_int_equal(config->local_count, 2);
    assert_int_equal(config->listeners[0].port, 5683);
    assert_false(config->listeners[0].has_transmission);
    assert_int_equal(config->upstream_count, 0);
    assert_int_equal(config->route_count, 0);
    assert_false(config->forward.enabled);
    config_free(config);
}

static void test_upstream_defaults(void **state)
{
    struct config *config = load_text(MINIMAL "upstreams:\n"
                                              "  - {name: o, servers: [coap://10.9.0.1]}\n"
                                              "transmission: {ack_timeout: 1s, nstart: 3}\n");
    const struct config_upstream *upstream = &config->upstreams[0];

    (void)state;
    assert_int_equal(upstream->balance, CONFIG_BALANCE_HASH);
    assert_true(upstream->reliable);
    assert_int_equal(upstream->ports, 1024);
    assert_int_equal(upstream->block_szx, 6);
    assert_int_equal(upstream->outstanding, 65536);
    assert_health(upstream, 1, 0, 5000000);
    assert_transmission(&upstream->transmission, 1000, 1500, 4, 3, 5000);
    assert_int_equal(upstream->timeout_ms, 46500); /* 1 s * (2^5 - 1) * 1.5 */
    assert_transmission(&config->listeners[0].transmission, 1000, 1500, 4, 3, 5000);
    config_free(config);
}

/* The default of session_idle grows with EXCHANGE_LIFETIME; 20 s * 15 * 1.5 + 200 s + 20 s. */
static void test_idle_default_follows_lifetime(void **state)
{
    struct config *config = load_text(MINIMAL "transmission: {ack_timeout: 20s}\n");

    (void)state;
    assert_int_equal(config->limits.session_idle_us, 670000000);
    config_free(config);
}

static void assert_block(const char *more, unsigned base, unsigned shift, unsigned ports)
{
    char text[1024];
    struct config *config;

    snprintf(text, sizeof(text), MINIMAL "upstreams: [{name: o, servers: [coap://10.9.0.1]}]\n%s",
             more);
    config = load_text(text);
    assert_int_equal(config->upstream_port_base, base);
    assert_int_equal(config->upstream_port_shift, shift);
    assert_int_equal(config->upstreams[0].ports, ports);
    config_free(config);
}

static void test_port_blocks(void **state)
{
    (void)state;
    assert_block("workers: 8\n", 32768, 12, 1024);
    assert_block("workers: 9\n", 32768, 11, 1024);
    assert_block("workers: 64\n", 32768, 9, 512);
    assert_block("upstream_ports: {base: 61440}\n", 61440, 12, 1024);
    assert_block("upstream_ports: {base: 61440}\nworkers: 2\n", 61440, 11, 1024);
    assert_block("upstream_ports: {base: 1088}\n", 1088, 6, 64);
    assert_block("upstream_ports: {per_worker: 32768}\n", 32768, 15, 1024);
    assert_block("upstream_ports: {per_worker: 64}\n", 32768, 6, 64);
}

/* ---- the shipped example ---- */

static void assert_example_network(const struct config *config)
{
    const struct config_interface *south = &config->interfaces[0];

    assert_int_equal(config->interface_count, 1);
    assert_string_equal(south->name, "south");
    assert_int_equal(south->device, CONFIG_DEVICE_TAP);
    assert_string_equal(south->device_argument, "coapgw0");
    assert_default_interface(south);
    assert_int_equal(south->address_count, 2);
    assert_address(&south->addresses[0].address, "10.99.0.2");
    assert_int_equal(south->addresses[0].prefix, 24);
    assert_address(&south->addresses[1].address, "fd99::2");
    assert_int_equal(south->addresses[1].prefix, 64);
    assert_true(south->has_gateway);
    assert_address(&south->gateway, "10.99.0.1");
    assert_int_equal(south->host_address_count, 2);
    assert_address(&south->host_addresses[0].address, "10.99.0.1");
    assert_address(&south->host_addresses[1].address, "fd99::1");
    assert_int_equal(config->local_count, 2);
    assert_int_equal(config->locals[1].prefix, 64);
    assert_int_equal(config->locals[1].mtu, 1500);
    assert_int_equal(config->listener_count, 2);
    assert_local(config, config->listeners[0].local, "10.99.0.2");
    assert_local(config, config->listeners[1].local, "fd99::2");
    assert_int_equal(config->listeners[1].port, 5683);
}

static void assert_example_service(const struct config *config)
{
    const struct config_upstream *origin = &config->upstreams[0];
    const struct config_route *hello = &config->routes[1];

    assert_int_equal(config->upstream_count, 1);
    assert_string_equal(origin->name, "origin");
    assert_int_equal(origin->server_count, 1);
    assert_address(&origin->servers[0].endpoint.address, "10.99.0.1");
    assert_int_equal(origin->servers[0].endpoint.port, 5683);
    assert_local(config, origin->servers[0].local, "10.99.0.2");
    assert_int_equal(origin->timeout_ms, 93000);
    assert_int_equal(origin->ports, 1024);
    assert_int_equal(origin->balance, CONFIG_BALANCE_HASH);
    assert_true(origin->reliable);
    assert_int_equal(origin->block_szx, 6);
    assert_int_equal(origin->outstanding, 65536);
    assert_health(origin, 1, 0, 5000000);
    assert_transmission(&origin->transmission, 2000, 1500, 4, 64, 5000);
    assert_int_equal(config->route_count, 2);
    assert_string_equal(config->routes[0].path, "/");
    assert_null(config->routes[0].host);
    assert_int_equal(config->routes[0].kind, CONFIG_ROUTE_UPSTREAM);
    assert_int_equal(config->routes[0].upstream, 0);
    assert_int_equal(config->routes[0].strip_segments, 0);
    assert_string_equal(hello->path, "/hello");
    assert_int_equal(hello->kind, CONFIG_ROUTE_RESPOND);
    assert_int_equal(hello->respond.payload_length, 12);
    assert_memory_equal(hello->respond.payload, "hello world!", 12);
    assert_true(hello->respond.has_content_format);
    assert_int_equal(hello->respond.content_format, 0);
    assert_true(hello->respond.has_max_age);
    assert_int_equal(hello->respond.max_age_s, 60);
}

static void test_example(void **state)
{
    struct config *config = load_file(EXAMPLE);

    (void)state;
    assert_string_equal(config->file, EXAMPLE);
    assert_default_process(config);
    assert_default_proxy(config);
    assert_default_limits(&config->limits);
    assert_default_operation(config, "10.99.0.2:5683");
    assert_example_network(config);
    assert_example_service(config);
    config_free(config);
}

/* What the example shows as a comment of the form "# key: value" must load when the mark is taken
 * away, and must be the default, but for these, which have none. */
static bool shows_default(const char *key)
{
    static const char *const others[] = {"vlan:", "transmission:", "host:", "gateway6:"};

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (strncmp(key, others[i], strlen(others[i])) == 0)
            return false;
    return true;
}

/* Takes the mark off such lines of `text`; returns how many. */
static unsigned uncomment(char *text, bool defaults_only)
{
    unsigned changed = 0;

    for (char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        char *mark = line + strspn(line, " ");
        size_t word = mark[0] == '#' && mark[1] == ' '
                          ? strspn(mark + 2, "abcdefghijklmnopqrstuvwxyz_0123456789")
                          : 0;

        if (word == 0 || strncmp(mark + 2 + word, ": ", 2) != 0 || mark == line)
            continue;
        if (defaults_only && !shows_default(mark + 2))
            continue;
        if (strncmp(mark + 2, "persist_key_file:", word + 1) == 0) /* has to be there */
            continue;
        memmove(mark, mark + 2, strlen(mark + 2) + 1);
        changed++;
    }
    return changed;
}

static char *read_file(const char *name)
{
    FILE *file = fopen(name, "r");
    char *text = calloc(1, 1 << 16);

    assert_non_null(file);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 16) - 1, file) > 0);
    fclose(file);
    return text;
}

static void test_example_comments_are_defaults(void **state)
{
    char *text = read_file(EXAMPLE);
    struct config *config;

    (void)state;
    assert_int_equal(uncomment(text, true), 17);
    config = load_text(text);
    assert_default_process(config);
    assert_default_proxy(config);
    assert_default_limits(&config->limits);
    assert_default_operation(config, "10.99.0.2:5683");
    assert_example_network(config);
    assert_example_service(config);
    config_free(config);
    free(text);
}

static void test_example_comments_load(void **state)
{
    char *text = read_file(EXAMPLE);
    struct config *config;

    (void)state;
    assert_int_equal(uncomment(text, false), 21);
    config = load_text(text);
    assert_int_equal(config->interfaces[0].vlan, 100);
    assert_address(&config->interfaces[0].gateway6, "fd99::1");
    assert_int_equal(config->listeners[0].transmission.ack_timeout_ms, 4000);
    assert_string_equal(config->routes[0].host, "gateway.example");
    config_free(config);
    free(text);
}

/* ---- every key ---- */

static void test_full_process(void **state)
{
    struct config *config = load_file(FULL);
    const struct config_limits *limits = &config->limits;

    (void)state;
    assert_string_equal(config->instance, "Edge_2-b");
    assert_int_equal(config->workers, 3);
    assert_false(config->cores_auto);
    assert_int_equal(config->cores[0], 4);
    assert_int_equal(config->cores[1], 5);
    assert_int_equal(config->cores[2], 2);
    assert_int_equal(config->idle, CONFIG_IDLE_SPIN);
    assert_int_equal(config->huge_pages, CONFIG_HUGE_NEVER);
    assert_int_equal(config->memory_bytes, 1u << 30);
    assert_int_equal(config->upstream_port_base, 40960);
    assert_int_equal(config->upstream_port_shift, 9);
    assert_int_equal(config->separate_after_us, 1500);
    assert_transmission(&config->transmission, 2500, 1125, 3, 5, 750);
    assert_int_equal(config->transmission.probing_rate_milli, 12345);
    assert_int_equal(config->keepalive_us, 45000000);
    assert_int_equal(limits->sessions, 5000);
    assert_int_equal(limits->session_idle_us, 7200000000);
    assert_int_equal(limits->exchanges, 1000);
    assert_int_equal(limits->outbound, 2000);
    assert_int_equal(limits->queue, 0);
    assert_int_equal(limits->remembered, 3000);
    assert_int_equal(limits->message_bytes, 2000000);
    assert_int_equal(limits->token, 16);
    assert_int_equal(limits->body, 3072);
    assert_int_equal(limits->parameter_sets, 0);
    assert_int_equal(limits->async, 1);
    assert_int_equal(limits->module_slow_us, 250);
    config_free(config);
}

static void test_full_proxy(void **state)
{
    struct config *config = load_file(FULL);
    const struct config_limits *limits = &config->limits;

    (void)state;
    assert_int_equal(config->cache.bytes, UINT64_C(3) << 30);
    assert_int_equal(config->cache.stale_if_error_s, 86400);
    assert_int_equal(config->observe.confirm_every, 1);
    assert_int_equal(config->observe.confirm_after_us, 90000000);
    assert_int_equal(limits->assembly_bytes, 1u << 20);
    assert_int_equal(limits->transfers, 17);
    assert_int_equal(limits->transfer_idle_us, 30000000);
    assert_int_equal(limits->observations, 0);
    assert_int_equal(limits->relations, 16777216);
    assert_int_equal(limits->client_requests, 1);
    assert_int_equal(limits->client_relations, 2);
    assert_int_equal(limits->destinations, 3);
    assert_int_equal(limits->amplification, 0);
    config_free(config);
}

static void assert_device(const struct config_interface *interface, const char *name,
                          enum config_device device, const char *argument, const char *options)
{
    assert_string_equal(interface->name, name);
    assert_int_equal(interface->device, device);
    assert_string_equal(interface->device_argument, argument);
    assert_string_equal(interface->device_options, options);
}

static void test_full_interfaces(void **state)
{
    static const uint8_t mac[6] = {0x02, 0xab, 0, 0, 0, 1};
    struct config *config = load_file(FULL);
    const struct config_interface *south = &config->interfaces[0];

    (void)state;
    assert_int_equal(config->interface_count, 6);
    assert_device(south, "south.1", CONFIG_DEVICE_TAP, "gw0", "persist");
    assert_device(&config->interfaces[1], "north", CONFIG_DEVICE_MEMIF, "/run/north.sock",
                  "zero-copy=yes,bsize=2048");
    assert_device(&config->interfaces[2], "card", CONFIG_DEVICE_PCI, "0000:03:00.1", "");
    assert_device(&config->interfaces[3], "null", CONFIG_DEVICE_VDEV, "net_null0,size=64,copy=1",
                  "");
    assert_device(&config->interfaces[4], "packet", CONFIG_DEVICE_AF_PACKET, "veth0", "");
    assert_device(&config->interfaces[5], "xdp", CONFIG_DEVICE_AF_XDP, "veth1", "busy_budget=0");
    assert_true(south->mac_set);
    assert_memory_equal(south->mac, mac, sizeof(mac));
    assert_true(south->has_gateway && south->has_gateway6);
    assert_address(&south->gateway, "10.1.0.1");
    assert_address(&south->gateway6, "fe80::1");
    assert_int_equal(south->host_address_count, 1);
    assert_address(&south->host_addresses[0].address, "10.1.0.3");
    assert_int_equal(south->host_addresses[0].prefix, 16);
    assert_int_equal(south->vlan, 7);
    assert_int_equal(south->mtu, 1400);
    assert_int_equal(south->queues, 2);
    assert_int_equal(south->rx_descriptors, 256);
    assert_int_equal(south->tx_descriptors, 512);
    config_free(config);
}

static void test_full_locals(void **state)
{
    static const struct {
        const char *address;
        uint16_t interface, mtu;
        uint8_t prefix;
    } expected[] = {{"10.1.0.2", 0, 1400, 16},     {"fd01::2", 0, 1400, 64},
                    {"192.0.2.9", 1, 1500, 30},    {"198.51.100.1", 2, 1500, 32},
                    {"2001:db8::1", 3, 1500, 128}, {"203.0.113.1", 4, 1500, 24},
                    {"203.0.112.1", 5, 1500, 24}};
    struct config *config = load_file(FULL);

    (void)state;
    assert_int_equal(config->local_count, sizeof(expected) / sizeof(expected[0]));
    for (unsigned i = 0; i < config->local_count; i++) {
        assert_local(config, i, expected[i].address);
        assert_int_equal(config->locals[i].interface, expected[i].interface);
        assert_int_equal(config->locals[i].mtu, expected[i].mtu);
        assert_int_equal(config->locals[i].prefix, expected[i].prefix);
    }
    config_free(config);
}

static void test_full_listeners(void **state)
{
    struct config *config = load_file(FULL);
    const struct config_listener *listeners = config->listeners;

    (void)state;
    assert_int_equal(config->listener_count, 5);
    assert_int_equal(listeners[0].port, 5683);
    assert_false(listeners[0].has_transmission);
    assert_transmission(&listeners[0].transmission, 2500, 1125, 3, 5, 750);
    assert_local(config, listeners[1].local, "fd01::2");
    assert_int_equal(listeners[1].port, 61616);
    assert_int_equal(listeners[1].block_szx, 4);
    assert_false(listeners[1].multicast);
    assert_int_equal(listeners[2].block_szx, 6);
    assert_true(listeners[2].multicast);
    assert_true(listeners[1].has_transmission);
    assert_transmission(&listeners[1].transmission, 1000, 1125, 3, 9, 750);
    assert_local(config, listeners[2].local, "192.0.2.9");
    assert_int_equal(listeners[2].port, 5700);
    assert_int_equal(listeners[0].keepalive_us, 45000000); /* the one for all */
    assert_int_equal(listeners[1].keepalive_us, 30000000);
    assert_int_equal(listeners[2].keepalive_us, 0);
    assert_int_equal(listeners[0].transmission.probing_rate_milli, 12345);
    assert_int_equal(listeners[1].transmission.probing_rate_milli, 1);
    config_free(config);
}

static void test_full_upstreams(void **state)
{
    struct config *config = load_file(FULL);
    const struct config_upstream *near = &config->upstreams[0], *far = &config->upstreams[1];

    (void)state;
    assert_int_equal(config->upstream_count, 5);
    assert_health(&config->upstreams[2], 1, 45000000, 5000000);
    assert_int_equal(near->transmission.probing_rate_milli, 12345);
    assert_string_equal(near->name, "near");
    assert_int_equal(near->balance, CONFIG_BALANCE_ROUND_ROBIN);
    assert_false(near->reliable);
    assert_int_equal(near->timeout_ms, 1250);
    assert_int_equal(near->ports, 17);
    assert_transmission(&near->transmission, 2500, 1125, 2, 5, 750);
    assert_int_equal(near->block_szx, 0);
    assert_int_equal(near->outstanding, 77);
    assert_health(near, 8, 86400000000, 100000);
    assert_int_equal(near->server_count, 2);
    assert_local(config, near->servers[0].local, "192.0.2.9");
    assert_local(config, near->servers[1].local, "fd01::2");
    assert_int_equal(near->servers[1].endpoint.port, 7000);
    assert_true(far->reliable);
    assert_int_equal(far->ports, 512);
    assert_int_equal(far->outstanding, 1000); /* limits.exchanges */
    assert_health(far, 0, 1000000, 5000000);
    assert_local(config, far->servers[0].local, "10.1.0.2");
    assert_local(config, far->servers[1].local, "fd01::2");
    config_free(config);
}

static void test_full_routes(void **state)
{
    struct config *config = load_file(FULL);
    const struct config_route *routes = config->routes;

    (void)state;
    assert_int_equal(config->route_count, 7);
    assert_string_equal(routes[0].host, "gateway.example");
    assert_string_equal(routes[0].path, "/a%2Fb/c");
    assert_int_equal(routes[0].upstream, 1);
    assert_int_equal(routes[0].strip_segments, 2);
    assert_int_equal(routes[1].strip_segments, 0);
    assert_string_equal(routes[1].host, "fd01::2");
    assert_string_equal(routes[1].path, "/");
    assert_int_equal(routes[1].upstream, 0);
    assert_int_equal(routes[2].kind, CONFIG_ROUTE_RESPOND);
    assert_int_equal(routes[2].respond.payload_length, 10);
    assert_memory_equal(routes[2].respond.payload, "two\nlines\n", 10);
    assert_int_equal(routes[2].respond.content_format, 112);
    assert_int_equal(routes[2].respond.max_age_s, 120);
    assert_int_equal(routes[3].respond.payload_length, 0);
    assert_int_equal(routes[3].respond.content_format, 65000);
    assert_false(routes[3].respond.has_max_age);
    config_free(config);
}

/* The longest prefix decides from where a server is reached, not the order of interfaces. */
static void test_nearest_interface(void **state)
{
    struct config *config =
        load_text("interfaces:\n"
                  "  - {name: a, device: 'tap:a', addresses: [10.0.0.2/8], gateway: 10.0.0.1}\n"
                  "  - {name: b, device: 'tap:b', addresses: [10.7.0.2/16]}\n"
                  "listeners: [{uri: coap://10.0.0.2}]\n"
                  "upstreams: [{name: o, servers: [coap://10.7.0.1, coap://10.8.0.1, "
                  "coap://192.0.2.1]}]\n");

    (void)state;
    assert_int_equal(config->upstreams[0].servers[0].local, 1);
    assert_int_equal(config->upstreams[0].servers[1].local, 0);
    assert_int_equal(config->upstreams[0].servers[2].local, 0);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_minimal),
        cmocka_unit_test(test_upstream_defaults),
        cmocka_unit_test(test_idle_default_follows_lifetime),
        cmocka_unit_test(test_port_blocks),
        cmocka_unit_test(test_example),
        cmocka_unit_test(test_example_comments_are_defaults),
        cmocka_unit_test(test_example_comments_load),
        cmocka_unit_test(test_full_process),
        cmocka_unit_test(test_full_proxy),
        cmocka_unit_test(test_full_interfaces),
        cmocka_unit_test(test_full_locals),
        cmocka_unit_test(test_full_listeners),
        cmocka_unit_test(test_full_upstreams),
        cmocka_unit_test(test_full_routes),
        cmocka_unit_test(test_nearest_interface),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
