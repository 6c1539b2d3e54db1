/* Configurations with a wrong upstream, route, forward proxy, cache or observation: what is said
 * about them, word for word with line and key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/config_harness.h"

#define FORWARD_KEYS                                                                              \
    "allow, dns_servers, reliable, timeout, ports, block_size, max_outstanding, transmission or " \
    "dtls"
#define FORWARD(entry) BASE6 "forward_proxy:\n  allow: [ok.example,\n    '" entry "']\n"
#define DNS(entry)     BASE6 "forward_proxy:\n  allow: [a]\n  dns_servers: [127.0.0.53, '" entry "']\n"
#define NO_DESTINATION                                                                          \
    "is no destination; write ADDRESS, ADDRESS/LENGTH, a host name, or *. and a host name for " \
    "all below it"
#define ONE_DEED "a route has only one of to, respond, resources and module; remove the others"
#define NO_MODULE                                                                   \
    "is not the absolute path of a file; write one of at most 4095 bytes, such as " \
    "/usr/lib/coapgw/modules/time.so"
#define NO_NAME_SERVER \
    "is not a name server; write ADDRESS or ADDRESS:PORT, an IPv6 address in brackets"

static const struct error_case cases[] = {
    /* upstreams */
    {BASE6 "upstreams:\n  - name: o o\n    servers: [coap://10.9.0.1]\n",
     "8: upstreams[0].name: \"o o\" is not a name; write 1 to 64 letters, digits, _, - or ."},
    {BASE9 "  - name: o\n    servers: [coap://10.9.0.3]\n",
     "10: upstreams[1].name: \"o\" is also the name of upstreams[0]; write another one"},
    {BASE6 "upstreams: [{name: o, servers: []}]\n",
     "7: upstreams[0].servers: is empty; write at least 1"},
    {BASE6
     "upstreams:\n  - name: o\n    servers:\n      - coap://10.9.0.1\n      - coap://nohost\n",
     "11: upstreams[0].servers[1]: \"coap://nohost\" has no IP address; write "
     "coap://ADDRESS[:PORT]"},
    {BASE6 "upstreams: [{name: o, servers: [coap://10.9.0.1, 'coap://10.9.0.1:5683']}]\n",
     "7: upstreams[0].servers[1]: \"coap://10.9.0.1:5683\" is there twice; remove one of them"},
    {BASE6 "upstreams: [{name: o, servers: ['coap://10.9.0.2:9']}]\n",
     "7: upstreams[0].servers[0]: \"coap://10.9.0.2:9\" is this gateway itself; write the address "
     "of "
     "an origin server"},
    {BASE6 "upstreams: [{name: o, servers: [coap://10.8.0.1]}]\n",
     "7: upstreams[0].servers[0]: \"coap://10.8.0.1\" is in no interface's subnet, and no "
     "interface "
     "with an IPv4 address has a gateway; write an address that can be reached, or add a gateway"},
    {IF4 "    gateway: 10.9.0.1\n" LISTEN2
         "upstreams: [{name: o, servers: ['coap://[fd08::1]']}]\n",
     "8: upstreams[0].servers[0]: \"coap://[fd08::1]\" is in no interface's subnet, and no "
     "interface "
     "with an IPv6 address has a gateway6; write an address that can be reached, or add a gateway"},
    {IF4 "    gateway6: \"fd09::1\"\n" LISTEN2
         "upstreams: [{name: o, servers: ['coap://[fe80::1]']}]\n",
     "8: upstreams[0].servers[0]: \"coap://[fe80::1]\" is in no interface's subnet, and no "
     "interface "
     "with an IPv6 address has a gateway6; write an address that can be reached, or add a gateway"},
    {BASE6 "upstreams: [{name: o, servers: [coap://224.0.1.187]}]\n",
     "7: upstreams[0].servers[0]: \"coap://224.0.1.187\" is a multicast address; write a unicast "
     "address"},
    {BASE9 "    timeout: 25h\n",
     "10: upstreams[0].timeout: \"25h\" is out of range; write 1ms to 24h"},
    {BASE9 "    ports: 4097\n",
     "10: upstreams[0].ports: \"4097\" is out of range; write 1 to 4096"},
    {BASE9 "    transmission: {nstart: many}\n",
     "10: upstreams[0].transmission.nstart: \"many\" is not a number; write decimal digits only"},
    {BASE9 "    block_size: 2MiB\n",
     "10: upstreams[0].block_size: \"2MiB\" is out of range; write 16B to 1KiB"},
    {BASE9 "    retries: 9\n", "10: upstreams[0].retries: \"9\" is out of range; write 0 to 8"},
    {BASE9 "    max_outstanding: 0\n",
     "10: upstreams[0].max_outstanding: \"0\" is out of range; write 1 to 16777216"},
    {BASE9 "    keepalive: 999ms\n",
     "10: upstreams[0].keepalive: \"999ms\" is out of range; write 0, or 1s to 24h"},
    {BASE9 "    keepalive: never\n", "10: upstreams[0].keepalive: \"never\" is not a duration; "
                                     "write a number with a unit (us, ms, s, m, h)"},
    {BASE9 "    revive: 0s\n",
     "10: upstreams[0].revive: \"0s\" is out of range; write 100ms to 1h"},
    /* routes */
    {BASE9 "routes:\n  - path: /\n",
     "11: routes[0]: has none of to, respond, resources and module; add one of them"},
    {BASE9 "routes:\n  - path: /\n    to: o\n    respond: {payload: x}\n",
     "13: routes[0].respond: " ONE_DEED},
    {BASE9 "routes:\n  - path: /\n    resources: {}\n    to: o\n",
     "12: routes[0].resources: " ONE_DEED},
    {BASE9 "routes:\n  - path: /\n    module: {file: /m.so}\n    resources: {}\n"
           "    respond: {payload: x}\n    to: o\n",
     "12: routes[0].module: " ONE_DEED},
    {BASE9 "routes:\n  - path: /\n    to: p\n",
     "12: routes[0].to: no upstream is named \"p\"; write the name of one, such as o"},
    {BASE6 "routes:\n  - path: /\n    to: p\n",
     "9: routes[0].to: no upstream is named \"p\"; add it under upstreams"},
    {BASE9 "routes: [{path: a, to: o}]\n",
     "10: routes[0].path: \"a\" does not start with a slash; write /..."},
    {BASE9 "routes: [{path: /a%2, to: o}]\n",
     "10: routes[0].path: \"/a%2\" has a % without two hexadecimal digits; write %25 for a percent "
     "sign"},
    {BASE9 "routes: [{path: '/a?b', to: o}]\n",
     "10: routes[0].path: \"/a?b\" has a character that a path cannot have; write it as % and two "
     "hexadecimal digits"},
    {BASE9 "routes: [{path: /a//b, to: o}]\n",
     "10: routes[0].path: \"/a//b\" has two slashes in a row; write one"},
    {BASE9 "routes: [{path: /a/../b, to: o}]\n",
     "10: routes[0].path: \"/a/../b\" has a segment . or ..; write the path without it"},
    {BASE9 "routes:\n  - {path: /a/b, to: o}\n  - {path: /, to: o}\n  - {path: /%61/b/, to: o}\n",
     "13: routes[2].path: \"/a/b\" with this host is also routes[0]; remove one of them"},
    {BASE9 "routes:\n  - {host: A.b, path: /, to: o}\n  - {host: a.B, path: /, to: o}\n",
     "12: routes[1].path: \"/\" with this host is also routes[0]; remove one of them"},
    {BASE9 "routes: [{path: /, host: 'a:5683', to: o}]\n",
     "10: routes[0].host: \"a:5683\" is not a host; write a name or an IP address, without a port"},
    {BASE6 "routes: [{path: /.well-known/core, respond: {payload: x}}]\n",
     "7: routes[0].path: the gateway itself answers /.well-known/core; write another path"},
    {BASE6
     "routes:\n  - path: /x\n    respond:\n      payload: x\n      content_format: text/html\n",
     "11: routes[0].respond.content_format: \"text/html\" is no registered media type; write one "
     "such as text/plain, or its number"},
    {BASE6 "routes: [{path: /x, respond: {payload: x, content_format: 65536}}]\n",
     "7: routes[0].respond.content_format: \"65536\" is out of range; write 0 to 65535"},
    {BASE6 "routes: [{path: /x, respond: {payload: x, max_age: 1500ms}}]\n",
     "7: routes[0].respond.max_age: \"1500ms\" is not a duration in whole seconds; write a number "
     "with a unit (s, m, h)"},
    {BASE6 "routes: [{path: /x, respond: {payload: x, max_age: 4294967296s}}]\n",
     "7: routes[0].respond.max_age: \"4294967296s\" is out of range; write 0 to 4294967295s"},
    {BASE6 "limits: {body: 1KiB}\nroutes:\n  - path: /x\n    respond:\n      payload: " X1024 "x\n",
     "11: routes[0].respond.payload: has 1025 bytes; write at most 1024, or a larger limits.body"},
    {BASE9 "routes: [{path: /a, to: o, strip: 1}]\n",
     "10: routes[0].strip: \"1\" is not known; write true or false"},
    {BASE6 "routes:\n  - path: /a\n    strip: true\n    respond: {payload: x}\n",
     "9: routes[0].strip: only a route with to has it; remove it"},
    {BASE6 "routes:\n  - path: /a\n    resources: {}\n    strip: true\n",
     "10: routes[0].strip: only a route with to has it; remove it"},
    {BASE6 "routes:\n  - path: /a\n    module: {file: /m.so}\n    strip: false\n",
     "10: routes[0].strip: only a route with to has it; remove it"},
    /* what the gateway holds, and modules */
    {BASE6 "routes: [{path: /.well-known/core, resources: {}}]\n",
     "7: routes[0].path: the gateway itself answers /.well-known/core; write another path"},
    {BASE6 "routes: [{path: /.well-known/core/, module: {file: /m.so}}]\n",
     "7: routes[0].path: the gateway itself answers /.well-known/core; write another path"},
    {BASE6 "routes:\n  - path: /a\n    resources:\n",
     "9: routes[0].resources: is empty; write a mapping with the keys create, max, size or "
     "formats"},
    {BASE6 "routes: [{path: /a, resources: {limit: 3}}]\n",
     "7: routes[0].resources.limit: is not a known key; write one of create, max, size or "
     "formats"},
    {BASE6 "routes: [{path: /a, resources: {create: yes}}]\n",
     "7: routes[0].resources.create: \"yes\" is not known; write true or false"},
    {BASE6 "routes: [{path: /a, resources: {max: 0}}]\n",
     "7: routes[0].resources.max: \"0\" is out of range; write 1 to 16777216"},
    {BASE6 "routes: [{path: /a, resources: {max: 16777217}}]\n",
     "7: routes[0].resources.max: \"16777217\" is out of range; write 1 to 16777216"},
    {BASE6 "routes: [{path: /a, resources: {max: some}}]\n",
     "7: routes[0].resources.max: \"some\" is not a number; write decimal digits only"},
    {BASE6 "routes: [{path: /a, resources: {size: 65535B}}]\n",
     "7: routes[0].resources.size: \"65535B\" is out of range; write 64KiB to 256GiB"},
    {BASE6 "routes: [{path: /a, resources: {size: 257GiB}}]\n",
     "7: routes[0].resources.size: \"257GiB\" is out of range; write 64KiB to 256GiB"},
    {BASE6 "routes: [{path: /a, resources: {size: 16M}}]\n",
     "7: routes[0].resources.size: \"16M\" is not a size; write a number with a unit (B, KiB, MiB, "
     "GiB, kB, MB, GB)"},
    {BASE6 "routes: [{path: /a, resources: {formats: []}}]\n",
     "7: routes[0].resources.formats: is empty; write at least 1"},
    {BASE6 "routes: [{path: /a, resources: {formats: text/plain}}]\n",
     "7: routes[0].resources.formats: is a value; write a list, each entry on a line that begins "
     "with \"- \""},
    {BASE6 "routes:\n  - path: /a\n    resources:\n      formats:\n        - 60\n        - x/y\n",
     "12: routes[0].resources.formats[1]: \"x/y\" is no registered media type; write one such as "
     "text/plain, or its number"},
    {BASE6 "routes: [{path: /a, resources: {formats: [65536]}}]\n",
     "7: routes[0].resources.formats[0]: \"65536\" is out of range; write 0 to 65535"},
    {BASE6 "routes: [{path: /a, resources: {formats: [0, 60, text/plain]}}]\n",
     "7: routes[0].resources.formats[2]: \"text/plain\" is there twice; remove one of them"},
    {BASE6 "routes: [{path: /a, module: /m.so}]\n",
     "7: routes[0].module: is a value; write a mapping with the keys file or options"},
    {BASE6 "routes: [{path: /a, module: {options: x}}]\n",
     "7: routes[0].module.file: is missing; add it"},
    {BASE6 "routes: [{path: /a, module: {file: m.so}}]\n",
     "7: routes[0].module.file: \"m.so\" " NO_MODULE},
    {BASE6 "routes: [{path: /a, module: {file: /lib/}}]\n",
     "7: routes[0].module.file: \"/lib/\" " NO_MODULE},
    {BASE6 "routes: [{path: /a, module: {file: /m.so, option: x}}]\n",
     "7: routes[0].module.option: is not a known key; write options"},
    {BASE6 "routes:\n  - path: /a\n    module:\n      file: /m.so\n      options: " X1024 "x\n",
     "11: routes[0].module.options: has 1025 bytes; write at most 1024"},
    /* the forward proxy */
    {BASE6 "forward_proxy:\n",
     "7: forward_proxy: is empty; write a mapping with the keys " FORWARD_KEYS},
    {BASE6 "forward_proxy: true\n",
     "7: forward_proxy: is a value; write a mapping with the keys " FORWARD_KEYS},
    {BASE6 "forward_proxy: {}\n", "7: forward_proxy.allow: is missing; add it"},
    {BASE6 "forward_proxy: {allow: []}\n", "7: forward_proxy.allow: is empty; write at least 1"},
    {BASE6 "forward_proxy: {allow: [a.example], retries: 1}\n",
     "7: forward_proxy.retries: is not a known key; write one of " FORWARD_KEYS},
    {FORWARD("10.1.0.0/33"),
     "9: forward_proxy.allow[1]: \"10.1.0.0/33\" has a prefix length out of range; write 0 to 32"},
    {FORWARD("fd00::/129"),
     "9: forward_proxy.allow[1]: \"fd00::/129\" has a prefix length out of range; write 0 to 128"},
    {FORWARD("10.1.0.0/"), "9: forward_proxy.allow[1]: \"10.1.0.0/\" is not a network; write "
                           "ADDRESS/LENGTH, such as 10.1.0.0/16"},
    {FORWARD("a.example/24"), "9: forward_proxy.allow[1]: \"a.example/24\" is not a network; write "
                              "ADDRESS/LENGTH, such as 10.1.0.0/16"},
    {FORWARD("10.1.2.3/15"),
     "9: forward_proxy.allow[1]: \"10.1.2.3/15\" has bits behind its prefix; write 10.0.0.0/15"},
    {FORWARD("10.1.2.3/0"),
     "9: forward_proxy.allow[1]: \"10.1.2.3/0\" has bits behind its prefix; write 0.0.0.0/0"},
    {FORWARD("fd00:1:2:3::/33"), "9: forward_proxy.allow[1]: \"fd00:1:2:3::/33\" has bits behind "
                                 "its prefix; write fd00:1::/33"},
    {FORWARD("*"), "9: forward_proxy.allow[1]: \"*\" " NO_DESTINATION},
    {FORWARD("*."), "9: forward_proxy.allow[1]: \"*.\" " NO_DESTINATION},
    {FORWARD("a.*.example"), "9: forward_proxy.allow[1]: \"a.*.example\" " NO_DESTINATION},
    {FORWARD("a..example"), "9: forward_proxy.allow[1]: \"a..example\" " NO_DESTINATION},
    {FORWARD("a.example."), "9: forward_proxy.allow[1]: \"a.example.\" " NO_DESTINATION},
    {FORWARD("a.example:5683"), "9: forward_proxy.allow[1]: \"a.example:5683\" " NO_DESTINATION},
    {FORWARD("[fd00::1]"), "9: forward_proxy.allow[1]: \"[fd00::1]\" " NO_DESTINATION},
    {FORWARD("10.1.2"), "9: forward_proxy.allow[1]: \"10.1.2\" " NO_DESTINATION},
    {FORWARD("10.1.2.300"), "9: forward_proxy.allow[1]: \"10.1.2.300\" " NO_DESTINATION},
    {FORWARD("*.10.1.2.3"), "9: forward_proxy.allow[1]: \"*.10.1.2.3\" " NO_DESTINATION},
    {FORWARD(X64 ".example"), "9: forward_proxy.allow[1]: \"" X64 ".example\" " NO_DESTINATION},
    {FORWARD("OK.example"),
     "9: forward_proxy.allow[1]: \"OK.example\" is there twice; remove one of them"},
    {BASE6 "forward_proxy:\n  allow: [10.1.2.3, 10.1.2.3/32]\n",
     "8: forward_proxy.allow[1]: \"10.1.2.3/32\" is there twice; remove one of them"},
    {BASE6 "forward_proxy:\n  allow: ['*.a.example', '*.A.example']\n",
     "8: forward_proxy.allow[1]: \"*.A.example\" is there twice; remove one of them"},
    {BASE6 "forward_proxy:\n  allow: [a]\n  dns_servers: []\n",
     "9: forward_proxy.dns_servers: is empty; write at least 1"},
    {DNS("dns.example"), "9: forward_proxy.dns_servers[1]: \"dns.example\" " NO_NAME_SERVER},
    {DNS("10.9.0.1:0"), "9: forward_proxy.dns_servers[1]: \"10.9.0.1:0\" " NO_NAME_SERVER},
    {DNS("10.9.0.1:65536"), "9: forward_proxy.dns_servers[1]: \"10.9.0.1:65536\" " NO_NAME_SERVER},
    {DNS("10.9.0.1:"), "9: forward_proxy.dns_servers[1]: \"10.9.0.1:\" " NO_NAME_SERVER},
    {DNS("[fd09::1"), "9: forward_proxy.dns_servers[1]: \"[fd09::1\" " NO_NAME_SERVER},
    {DNS("[10.9.0.1]:53"), "9: forward_proxy.dns_servers[1]: \"[10.9.0.1]:53\" " NO_NAME_SERVER},
    {DNS("[fd09::1]x"), "9: forward_proxy.dns_servers[1]: \"[fd09::1]x\" " NO_NAME_SERVER},
    {DNS("0.0.0.0"),
     "9: forward_proxy.dns_servers[1]: \"0.0.0.0\" is no host's address; write a unicast address"},
    {DNS("[ff02::1]:53"), "9: forward_proxy.dns_servers[1]: \"[ff02::1]:53\" is no host's address; "
                          "write a unicast address"},
    {BASE6 "forward_proxy: {allow: [a], ports: 65}\nupstream_ports: {per_worker: 64}\n",
     "7: forward_proxy.ports: \"65\" is out of range; write 1 to 64"},
    {BASE6 "forward_proxy: {allow: [a], timeout: 0}\n",
     "7: forward_proxy.timeout: \"0\" is out of range; write 1ms to 24h"},
    {BASE6 "forward_proxy: {allow: [a], block_size: 100B}\n",
     "7: forward_proxy.block_size: \"100B\" is not a power of two; write one from 16B to 1KiB"},
    {BASE6 "forward_proxy:\n  allow: [a]\n  transmission:\n    nstart: 0\n",
     "10: forward_proxy.transmission.nstart: \"0\" is out of range; write 1 to 65535"},
    {BASE6
     "forward_proxy: {allow: [a], transmission: {ack_timeout: 20s}}\nlimits: {session_idle: 5m}\n",
     "8: limits.session_idle: 5m is shorter than EXCHANGE_LIFETIME, which is 670s with the "
     "transmission parameters here; write at least that"},
    /* cache and observations */
    {BASE6 "cache: {size: 1KiB}\n",
     "7: cache.size: \"1KiB\" is out of range; write 0, or 64KiB to 256GiB"},
    {BASE6 "cache: {size: none}\n", "7: cache.size: \"none\" is not a size; write a number with a "
                                    "unit (B, KiB, MiB, GiB, kB, MB, GB)"},
    {BASE6 "cache: {stale_if_error: 169h}\n",
     "7: cache.stale_if_error: \"169h\" is out of range; write 0 to 168h"},
    {BASE6 "cache: {stale_if_error: 1.5s}\n",
     "7: cache.stale_if_error: \"1.5s\" is not a duration in whole seconds; write a number with a "
     "unit (s, m, h)"},
    {BASE6 "observe: {confirm_every: 0}\n",
     "7: observe.confirm_every: \"0\" is out of range; write 1 to 65535"},
    {BASE6 "observe: {confirm_after: 25h}\n",
     "7: observe.confirm_after: \"25h\" is out of range; write 1s to 24h"},
};

static void test_table(void **state)
{
    (void)state;
    assert_cases(cases, sizeof(cases) / sizeof(cases[0]));
}

/* So many segments fit into what is counted; one more does not. */
static void test_strip_segments(void **state)
{
    char text[1024] = BASE9 "routes:\n  - strip: true\n    to: o\n    path: ";
    size_t start = strlen(text);
    struct config *config;

    (void)state;
    for (unsigned i = 0; i < 255; i++)
        memcpy(text + start + 2 * i, "/a", 3);
    strcat(text, "\n");
    config = load(text, strlen(text));
    assert_non_null(config);
    assert_int_equal(config->routes[0].strip_segments, 255);
    config_free(config);
    memcpy(text + start + 510, "/a\n", 4);
    assert_null(load(text, strlen(text)));
    assert_string_equal(errors, "t.yaml:11: routes[0].strip: the path has 256 segments; write one "
                                "of at most 255, or false\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_strip_segments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
