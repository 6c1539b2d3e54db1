/* Configurations that are wrong: what is said about them, word for word with line and key. Here are
 * the file, its structure and what concerns the process; the rest is in
 * config_errors_network_test.c and config_errors_proxy_test.c. */
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

#include "config/document.h"
#include "config/schema.h"
#include "tests/unit/config_harness.h"

#define KEYS                                                                             \
    "instance, workers, cores, idle, memory, interfaces, listeners, upstreams, routes, " \
    "forward_proxy, cache, observe, transmission, separate_after, keepalive, store, "    \
    "journal, admin, security, debug, upstream_ports or limits"

static const struct error_case cases[] = {
    /* the file */
    {"", "1: file: is empty; start from the example coapgw.yaml"},
    {"# nothing\n\n", "1: file: is empty; start from the example coapgw.yaml"},
    {"--- x\n", "1: file: is a value; write a mapping with the keys " KEYS},
    {"- a\n", "1: file: is a list; write a mapping with the keys " KEYS},
    {"a: \xff\n", "1: syntax: byte 0xff is not UTF-8; save the file in UTF-8"},
    {"a: b\nc: \xc3", "2: syntax: byte 0xc3 is not UTF-8; save the file in UTF-8"},
    {"a: \xc0\x80\n", "1: syntax: byte 0xc0 is not UTF-8; save the file in UTF-8"},
    {"a: \xed\xa0\x80\n", "1: syntax: byte 0xed is not UTF-8; save the file in UTF-8"},
    {"a: \xf4\x90\x80\x80\n", "1: syntax: byte 0xf4 is not UTF-8; save the file in UTF-8"},
    {"a: b\nc: \x01\n", "2: syntax: control characters are not allowed; check indentation, quotes "
                        "and brackets"},
    {"a: 1\n\tb: 2\n",
     "2: syntax: found a tab character that violates indentation (while scanning a plain scalar "
     "that began on line 1); check indentation, quotes and brackets"},
    {"a: @b\n", "1: syntax: found character that cannot start any token (while scanning for the "
                "next token that began on line 1); check indentation, quotes and brackets"},
    {"a: [1, 2\nb: 3\n",
     "2: syntax: did not find expected ',' or ']' (while parsing a flow sequence "
     "that began on line 1); check indentation, quotes and brackets"},
    {"a: 'b\nc: d\n",
     "3: syntax: found unexpected end of stream (while scanning a quoted scalar that "
     "began on line 1); check indentation, quotes and brackets"},
    {"a: 1\n---\nb: 2\n", "2: syntax: a second document begins; remove it and the line of ---"},
    {"workers: &n 2\ncores: *n\n",
     "1: syntax: anchors (&) are not supported; write the value where it is used"},
    {"workers: *n\n", "1: syntax: aliases (*) are not supported; write the value itself"},
    {"workers: 1\n*n : 2\n", "2: syntax: aliases (*) are not supported; write the value itself"},
    {"interfaces: &n [1]\n",
     "1: syntax: anchors (&) are not supported; write the value where it is used"},
    {"workers: !!int 2\n", "1: syntax: tags (!) are not supported; write the plain value"},
    {"memory: !m {}\n", "1: syntax: tags (!) are not supported; write the plain value"},
    {"instance: \"a\\0b\"\n", "1: syntax: a zero byte is not supported; remove \\0"},
    {"workers: 1\n? [a, b]\n: c\n", "2: syntax: a key must be a single word; write KEY: VALUE"},
    {"a:\n [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
     "2: syntax: lists and mappings are nested too deeply; close some brackets"},
    /* keys */
    {BASE6 "persistence: x\n", "7: persistence: is not a known key; write one of " KEYS},
    {BASE6 "cash: {size: 64MiB}\n", "7: cash: is not a known key; write cache"},
    {BASE6 "cache: {bytes: 64MiB}\n",
     "7: cache.bytes: is not a known key; write one of size or stale_if_error"},
    {BASE6 "forward_proxy:\n  allow: [10.0.0.0/8]\n  dns_server: [10.0.0.1]\n",
     "9: forward_proxy.dns_server: is not a known key; write dns_servers"},
    {BASE6 "routes:\n  - path: /s\n    responds: {payload: x}\n    to: o\n" UP3,
     "9: routes[0].responds: is not a known key; write respond"},
    {BASE6 "routes: [{path: /s, code: x}]\n",
     "7: routes[0].code: is not a known key; write one of host, path, to, strip, respond, "
     "resources, module or allow"},
    {BASE6 "transmission: {max_latency: 1}\n",
     "7: transmission.max_latency: is not a known key; write one of ack_timeout, "
     "ack_random_factor, max_retransmit, nstart, default_leisure or probing_rate"},
    {BASE6 "worker: 2\n", "7: worker: is not a known key; write workers"},
    {BASE6 "limits:\n  sesions: 2\n", "8: limits.sesions: is not a known key; write sessions"},
    {IF4 "    adress: []\n" LISTEN2,
     "5: interfaces[0].adress: is not a known key; write addresses"},
    {BASE6 "workers: 1\nidle: spin\nworkers: 2\n",
     "9: workers: is there twice, first on line 7; remove one of them"},
    {BASE6 "limits: {token: 8,\n  token: 9}\n",
     "8: limits.token: is there twice, first on line 7; remove one of them"},
    {"<<: {}\n" BASE6, "1: <<: is not a known key; write one of " KEYS},
    {"\"a\\nb\": {}\n" BASE6, "1: a\\x0ab: is not a known key; write one of " KEYS},
    {IF4, "1: listeners: is missing; add it"},
    {"\n# x\n" LISTEN2, "3: interfaces: is missing; add it"},
    {"interfaces:\n  - name: a\n    addresses: [10.9.0.2/24]\n" LISTEN2,
     "2: interfaces[0].device: is missing; add it"},
    {BASE6 "  - transmission: {}\n", "7: listeners[1].uri: is missing; add it"},
    {BASE6 "routes:\n  - path: /\n    respond:\n      max_age: 1s\n",
     "9: routes[0].respond.payload: is missing; add it"},
    /* types */
    {BASE6 "workers: [1]\n", "7: workers: is a list; write a single value"},
    {BASE6 "instance: {a: b}\n", "7: instance: is a mapping; write a single value"},
    {BASE6 "workers:\n", "7: workers: has no value; write one or remove the key"},
    {BASE6 "instance: ''\n", "7: instance: is empty; write a value or remove the key"},
    {BASE6 "limits: 3\n",
     "7: limits: is a value; write a mapping with the keys sessions, "
     "session_idle, exchanges, outbound, queue, remembered, message_memory, "
     "token, body, assembly_memory, transfers, transfer_idle, observations, relations, "
     "client_requests, client_relations, destinations, amplification, parameter_sets, async, "
     "module_slow, associations or handshakes"},
    {BASE6 "memory:\nworkers: 1\n",
     "7: memory: is empty; write a mapping with the keys huge_pages or size"},
    {IF4 "listeners: coap://10.9.0.2\n",
     "5: listeners: is a value; write a list, each entry on a line that begins with \"- \""},
    {IF4 "listeners: []\n", "5: listeners: is empty; write at least 1"},
    {IF4 "listeners:\n",
     "5: listeners: is empty; write a list, each entry on a line that begins with \"- \""},
    {IF4 "listeners:\n  - coap://10.9.0.2\n",
     "6: listeners[0]: is a value; write a mapping with the keys uri, block_size, multicast, "
     "keepalive, transmission or dtls"},
    {BASE6 "idle: poll\n", "7: idle: \"poll\" is not known; write adaptive or spin"},
    {BASE6 "memory:\n  huge_pages: yes\n",
     "8: memory.huge_pages: \"yes\" is not known; write auto, never or always"},
    {BASE9 "    balance: random\n",
     "10: upstreams[0].balance: \"random\" is not known; write hash or round_robin"},
    {BASE9 "    reliable: yes\n",
     "10: upstreams[0].reliable: \"yes\" is not known; write true or false"},
    /* the process */
    {BASE6 "instance: a b\n",
     "7: instance: \"a b\" is not a name; write 1 to 32 letters, digits, _ or -"},
    {BASE6 "instance: ../x\n",
     "7: instance: \"../x\" is not a name; write 1 to 32 letters, digits, _ or -"},
    {BASE6 "instance: x" X16 X16 "\n", "7: instance: \"x" X16 X16 "\" is not a name; write 1 to 32 "
                                       "letters, digits, _ or -"},
    {BASE6 "workers: 65\n", "7: workers: \"65\" is out of range; write 1 to 64"},
    {BASE6 "workers: 0\n", "7: workers: \"0\" is out of range; write 1 to 64"},
    {BASE6 "workers: 0x2\n", "7: workers: \"0x2\" is not a number; write decimal digits only"},
    {BASE6 "workers: 99999999999999999999\n",
     "7: workers: \"99999999999999999999\" is out of range; write 1 to 64"},
    {BASE6 "cores: all\n",
     "7: cores: \"all\" is not a list of cores; write auto, or a list such as \"2-5,7\""},
    {BASE6 "cores: 1-2\n",
     "7: cores: \"1-2\" names 2 cores for 1 worker; write one core for each worker"},
    {BASE6 "workers: 3\ncores: 2\n",
     "8: cores: \"2\" names 1 core for 3 workers; write one core for each worker"},
    {BASE6 "workers: 2\ncores: \"2,2\"\n",
     "8: cores: \"2,2\" names a core twice; write each one once"},
    {BASE6 "cores: 1024\n", "7: cores: \"1024\" is out of range; write cores from 0 to 1023"},
    {BASE6 "cores: 0-64\n",
     "7: cores: \"0-64\" names more than 64 cores; write one for each worker"},
    {BASE6 "memory: {size: 64}\n",
     "7: memory.size: \"64\" is not a size; write a number with a unit "
     "(B, KiB, MiB, GiB, kB, MB, GB)"},
    {BASE6 "memory: {size: 1MiB}\n",
     "7: memory.size: \"1MiB\" is out of range; write 64MiB to 1024GiB"},
    {BASE6 "upstream_ports: {per_worker: 100}\n", "7: upstream_ports.per_worker: \"100\" is not a "
                                                  "power of two; write one from 64 to 32768"},
    {BASE6 "upstream_ports: {base: 40000, per_worker: 4096}\n",
     "7: upstream_ports.base: 40000 is not a multiple of per_worker (4096); write 36864"},
    {BASE6 "upstream_ports:\n  base: 61440\n  per_worker: 4096\nworkers: 2\n",
     "9: upstream_ports.per_worker: 2 times 4096 ports from 61440 on pass 65535; write a smaller "
     "base, "
     "per_worker or workers"},
    {BASE6 "upstream_ports:\n  per_worker: 1024\nworkers: 64\n",
     "8: upstream_ports.per_worker: 64 times 1024 ports from 32768 on pass 65535; write a smaller "
     "base, "
     "per_worker or workers"},
    {BASE6 "upstream_ports: {base: 80}\n",
     "7: upstream_ports.base: \"80\" is out of range; write 1024 to 65472"},
    /* transmission and limits */
    {BASE6 "transmission: {ack_timeout: 2}\n",
     "7: transmission.ack_timeout: \"2\" is not a duration in whole milliseconds; write a number "
     "with a unit (ms, s, m, h)"},
    {BASE6 "transmission: {ack_timeout: 1500us}\n",
     "7: transmission.ack_timeout: \"1500us\" is not a duration in whole milliseconds; write a "
     "number with a unit (ms, s, m, h)"},
    {BASE6 "transmission:\n  ack_random_factor: 0.9\n",
     "8: transmission.ack_random_factor: \"0.9\" is out of range; write 1.0 to 10.0"},
    {BASE6 "transmission:\n  ack_random_factor: 1.2345\n",
     "8: transmission.ack_random_factor: \"1.2345\" is not a decimal number; write up to three "
     "places"},
    {BASE6 "transmission: {max_retransmit: 21}\n",
     "7: transmission.max_retransmit: \"21\" is out of range; write 0 to 20"},
    {BASE6 "transmission: {nstart: 0}\n",
     "7: transmission.nstart: \"0\" is out of range; write 1 to 65535"},
    {BASE6 "    transmission: {default_leisure: 61m}\n",
     "7: listeners[0].transmission.default_leisure: \"61m\" is out of range; write 0 to 1h"},
    {BASE6 "transmission: {probing_rate: 0}\n",
     "7: transmission.probing_rate: \"0\" is out of range; write 0.001 to 4000000.0"},
    {BASE6 "transmission: {probing_rate: 4000000.001}\n",
     "7: transmission.probing_rate: \"4000000.001\" is out of range; write 0.001 to 4000000.0"},
    {BASE6 "    transmission: {probing_rate: 0.0005}\n",
     "7: listeners[0].transmission.probing_rate: \"0.0005\" is not a decimal number; write up to "
     "three places"},
    {BASE9 "    transmission: {probing_rate: 1B}\n",
     "10: upstreams[0].transmission.probing_rate: \"1B\" is not a decimal number; write up to "
     "three places"},
    {BASE6 "keepalive: 500ms\n", "7: keepalive: \"500ms\" is out of range; write 0, or 1s to 24h"},
    {BASE6 "keepalive: 30\n", "7: keepalive: \"30\" is not a duration; write a number with a unit "
                              "(us, ms, s, m, h)"},
    {BASE6 "    keepalive: 25h\n",
     "7: listeners[0].keepalive: \"25h\" is out of range; write 0, or 1s to 24h"},
    {BASE6 "transmission: {max_retransmit: 15}\n",
     "7: transmission: MAX_TRANSMIT_WAIT would be 196605s; write a smaller ack_timeout, "
     "ack_random_factor or max_retransmit, so that it is at most 24h"},
    {BASE6 "separate_after: 11s\n", "7: separate_after: \"11s\" is out of range; write 0 to 10s"},
    {BASE6 "separate_after: 0.5\n", "7: separate_after: \"0.5\" is not a duration; write a number "
                                    "with a unit (us, ms, s, m, h)"},
    {BASE6 "limits:\n  session_idle: 246s\n",
     "8: limits.session_idle: 246s is shorter than EXCHANGE_LIFETIME, which is 247s with the "
     "transmission parameters here; write at least that"},
    {BASE6 "    transmission: {ack_timeout: 20s}\nlimits: {session_idle: 5m}\n",
     "8: limits.session_idle: 5m is shorter than EXCHANGE_LIFETIME, which is 670s with the "
     "transmission parameters here; write at least that"},
    {BASE6 "limits: {sessions: 3}\nworkers: 4\n",
     "7: limits.sessions: 3 sessions are fewer than the 4 workers; write at least 4"},
    {BASE6 "limits: {token: 7}\n", "7: limits.token: \"7\" is out of range; write 8 to 1024"},
    {BASE6 "limits: {queue: -1}\n",
     "7: limits.queue: \"-1\" is not a number; write decimal digits only"},
    {BASE6 "limits: {body: 17MiB}\n",
     "7: limits.body: \"17MiB\" is out of range; write 1KiB to 16MiB"},
    {BASE6 "limits: {assembly_memory: 63KiB}\n",
     "7: limits.assembly_memory: \"63KiB\" is out of range; write 64KiB to 256GiB"},
    {BASE6 "limits:\n  body: 2MiB\n  assembly_memory: 2047KiB\n",
     "9: limits.assembly_memory: 2047KiB do not hold one body of limits.body (2MiB); write at "
     "least that"},
    {BASE6 "limits: {transfers: 15}\n",
     "7: limits.transfers: \"15\" is out of range; write 16 to 16777216"},
    {BASE6 "limits: {transfer_idle: 61m}\n",
     "7: limits.transfer_idle: \"61m\" is out of range; write 1s to 1h"},
    {BASE6 "limits: {observations: 16777217}\n",
     "7: limits.observations: \"16777217\" is out of range; write 0 to 16777216"},
    {BASE6 "limits: {relations: all}\n",
     "7: limits.relations: \"all\" is not a number; write decimal digits only"},
    {BASE6 "limits: {client_requests: 0}\n",
     "7: limits.client_requests: \"0\" is out of range; write 1 to 65535"},
    {BASE6 "limits: {client_relations: 65536}\n",
     "7: limits.client_relations: \"65536\" is out of range; write 1 to 65535"},
    {BASE6 "limits: {destinations: 0}\n",
     "7: limits.destinations: \"0\" is out of range; write 1 to 65535"},
    {BASE6 "limits: {amplification: 1001}\n",
     "7: limits.amplification: \"1001\" is out of range; write 0 to 1000"},
    {BASE6 "limits: {parameter_sets: 65537}\n",
     "7: limits.parameter_sets: \"65537\" is out of range; write 0 to 65536"},
    {BASE6 "limits: {async: 0}\n", "7: limits.async: \"0\" is out of range; write 1 to 16777216"},
    {BASE6 "limits: {async: 16777217}\n",
     "7: limits.async: \"16777217\" is out of range; write 1 to 16777216"},
    {BASE6 "limits: {module_slow: 0}\n",
     "7: limits.module_slow: \"0\" is out of range; write 1us to 10s"},
    {BASE6 "limits: {module_slow: 10001ms}\n",
     "7: limits.module_slow: \"10001ms\" is out of range; write 1us to 10s"},
    {BASE6 "limits: {module_slow: 1}\n",
     "7: limits.module_slow: \"1\" is not a duration; write a number with a unit (us, ms, s, m, "
     "h)"},
    {BASE6 "limits: {message_memory: 1KiB}\n",
     "7: limits.message_memory: \"1KiB\" is out of range; write 64KiB to 256GiB"},
};

static void test_table(void **state)
{
    (void)state;
    assert_cases(cases, sizeof(cases) / sizeof(cases[0]));
}

/* ---- several at once ---- */

static void assert_errors(const char *text, const char *expected)
{
    assert_null(load_exact(text, strlen(text)));
    assert_string_equal(errors, expected);
}

static void test_all_structural_errors(void **state)
{
    (void)state;
    assert_errors("interfaces:\n"
                  "  - name: a\n"
                  "    devise: tap:x\n"
                  "    addresses: 10.0.0.1\n"
                  "idle: [spin]\n"
                  "idler: x\n",
                  "t.yaml:3: interfaces[0].devise: is not a known key; write device\n"
                  "t.yaml:4: interfaces[0].addresses: is a value; write a list, each entry on a "
                  "line that begins with \"- \"\n"
                  "t.yaml:2: interfaces[0].device: is missing; add it\n"
                  "t.yaml:5: idle: is a list; write a single value\n"
                  "t.yaml:6: idler: is not a known key; write idle\n"
                  "t.yaml:1: listeners: is missing; add it\n");
}

static void test_all_semantic_errors(void **state)
{
    (void)state;
    assert_errors(IF4 "    mtu: 1\n" LISTEN2 "  - uri: coap://10.9.0.7\n" UP3 "    timeout: soon\n"
                      "routes: [{path: x, to: y}]\n"
                      "workers: 0\n",
                  "t.yaml:14: workers: \"0\" is out of range; write 1 to 64\n"
                  "t.yaml:5: interfaces[0].mtu: \"1\" is out of range; write 1280 to 1500\n"
                  "t.yaml:8: listeners[1].uri: no interface has the address of "
                  "\"coap://10.9.0.7\"; write 10.9.0.2, fd09::2\n"
                  "t.yaml:12: upstreams[0].timeout: \"soon\" is not a duration in whole "
                  "milliseconds; write a number with a unit (ms, s, m, h)\n"
                  "t.yaml:13: routes[0].path: \"x\" does not start with a slash; write /...\n"
                  "t.yaml:13: routes[0].to: no upstream is named \"y\"; write the name of one, "
                  "such as o\n");
}

/* Nothing that depends on an address which could not be read is held against it. */
static void test_no_follow_on_for_gateway(void **state)
{
    (void)state;
    assert_errors("interfaces:\n"
                  "  - {name: a, device: 'tap:t', addresses: [10.9.0.2/24, 10.8.0.2], "
                  "gateway: 10.8.0.1}\n" LISTEN2,
                  "t.yaml:2: interfaces[0].addresses[1]: \"10.8.0.2\" has no prefix length; write "
                  "ADDRESS/LENGTH, such as 10.8.0.2/24\n");
}

static void test_errors_are_bounded(void **state)
{
    char *text = calloc(1, TEXT_BYTES);
    unsigned lines = 0;

    (void)state;
    assert_non_null(text);
    for (unsigned i = 0; i < 1000; i++)
        snprintf(text + strlen(text), TEXT_BYTES - strlen(text), "z%u: 1\n", i);
    assert_null(load(text, strlen(text)));
    for (const char *p = errors; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, REPORT_MAX + 1);
    assert_non_null(strstr(errors, "\nt.yaml: more errors are not shown; correct these first\n"));
    free(text);
}

/* ---- files ---- */

static void assert_file_error(const char *name, const char *message)
{
    char expected[512];
    FILE *out = fmemopen(errors, sizeof(errors), "w");

    assert_non_null(out);
    memset(errors, 0, sizeof(errors));
    assert_null(config_load(name, out));
    fclose(out);
    snprintf(expected, sizeof(expected), "%s: file: %s\n", name, message);
    assert_string_equal(errors, expected);
}

static void test_files(void **state)
{
    char directory[] = "/tmp/config_errors_XXXXXX";
    char name[64];

    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_file_error(directory, "is not a regular file; name one");
    snprintf(name, sizeof(name), "%s/x", directory);
    assert_file_error(name, "cannot be opened (No such file or directory); name a file that can be "
                            "read");
    assert_int_equal(mkfifo(name, 0600), 0);
    assert_file_error(name, "is not a regular file; name one");
    unlink(name);
    assert_int_equal(close(mkstemp(strcpy(name, "/tmp/config_errors_XXXXXX"))), 0);
    assert_int_equal(truncate(name, (1 << 20) + 1), 0);
    assert_file_error(name, "has more than 1048576 bytes; write a smaller one");
    assert_int_equal(chmod(name, 0), 0);
    if (geteuid() != 0)
        assert_file_error(name, "cannot be opened (Permission denied); name a file that can be "
                                "read");
    unlink(name);
    rmdir(directory);
}

/* ---- libcyaml on its own ---- */

/* schema_check() finds all this first; what libcyaml says is passed on all the same, should the two
 * ever differ. */
static void assert_complaint(const char *text, const char *expected)
{
    FILE *out = fmemopen(errors, sizeof(errors), "w");
    struct report report = {.out = out, .file = "t.yaml"};
    const struct node root = {.kind = NODE_MAPPING};

    assert_non_null(out);
    memset(errors, 0, sizeof(errors));
    assert_null(schema_load(text, strlen(text), &root, &report));
    fclose(out);
    assert_int_equal(report.errors, 1);
    assert_memory_equal(errors, expected, strlen(expected));
    assert_ptr_equal(strchr(errors, '\n'), errors + strlen(errors) - 1);
}

static void test_complaints_of_libcyaml(void **state)
{
    (void)state;
    assert_complaint("interfaces:\n  - name: a\n    foo: x\n",
                     "t.yaml:2: file: Load: Unexpected key: foo (Invalid key); ");
    assert_complaint("workers: [",
                     "t.yaml:1: file: Load: Expecting STRING, got event: SEQUENCE_START (");
    assert_complaint("", "t.yaml: file: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_all_structural_errors),
        cmocka_unit_test(test_all_semantic_errors),
        cmocka_unit_test(test_no_follow_on_for_gateway),
        cmocka_unit_test(test_errors_are_bounded),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_complaints_of_libcyaml),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
