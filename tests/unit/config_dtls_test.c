/* The keys of DTLS: what they turn into, their defaults, and what is wrong with them. */
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

#include "gateway/security/cipher_suite.h"
#include "tests/unit/config_harness.h"

#define EXAMPLE TESTS_DIR "/../config/coapgw.yaml"
#define SECURE  TESTS_DIR "/../config/dtls.yaml"
#define FULL    TESTS_DIR "/unit/config/full.yaml"

/* A coaps listener on line 6 or an upstream on line 8 with this behind `dtls:`. */
#define LISTEN(dtls) IF4 "listeners:\n  - {uri: coaps://10.9.0.2, dtls: {" dtls "}}\n"
#define PSK          "psk: {file: /p}"
#define CERT         "certificate: /c, key: /k"
#define UP(dtls)     BASE6 "upstreams:\n  - {name: o, servers: [coaps://10.9.0.1], dtls: {" dtls "}}\n"
#define ROUTE(allow) \
    LISTEN(PSK) "routes:\n  - {path: /a, respond: {payload: x}, allow: " allow "}\n"
#define TELL(tell) BASE9 "    tell_client: " tell "\n"
#define OR_NAMES   "; write psk:IDENTITY or cert:NAME"
#define NOT_A_FILE " is not the absolute path of a file; write one of at most 4095 bytes"

static struct config *load_right(const char *text)
{
    struct config *config = load_exact(text, strlen(text));

    assert_string_equal(errors, "");
    assert_non_null(config);
    return config;
}

static struct config *load_right_file(const char *name)
{
    FILE *out = fmemopen(errors, sizeof(errors), "w");
    struct config *config;

    assert_non_null(out);
    memset(errors, 0, sizeof(errors));
    config = config_load(name, out);
    fclose(out);
    assert_string_equal(errors, "");
    assert_non_null(config);
    return config;
}

/* ---- listeners ---- */

static void test_full_listener(void **state)
{
    struct config *config = load_right_file(FULL);
    const struct config_listener *l = &config->listeners[3];
    const struct config_dtls_listener *d = l->dtls;

    (void)state;
    assert_int_equal(l->transport, TRANSPORT_DTLS);
    assert_int_equal(l->port, 5684);
    assert_false(l->multicast);
    assert_true(d->psk && d->psk_store);
    assert_string_equal(d->psk_file.path, "/etc/x/psk");
    assert_int_equal(d->psk_file.line, d->line + 1);
    assert_string_equal(d->psk_hint, "which one");
    assert_string_equal(d->certificate.path, "/etc/x/own.pem");
    assert_string_equal(d->key.path, "/etc/x/own.key");
    assert_int_equal(d->key.line, d->line + 3);
    assert_int_equal(d->clients, CONFIG_CLIENTS_OPTIONAL);
    assert_string_equal(d->ca.path, "/etc/x/ca.pem");
    assert_string_equal(d->crl.path, "/etc/x/ca.crl");
    assert_int_equal(d->name_count, 3);
    assert_string_equal(d->names[1], "*.two.example");
    assert_int_equal(d->suites.count, 2);
    assert_int_equal(d->suites.numbers[0], 0xc02f);
    assert_int_equal(d->suites.numbers[1], 0xc0a4);
    assert_false(d->tickets || d->connection_id);
    assert_int_equal(config->listeners[4].port, 6000);
    assert_null(config->listeners[0].dtls);
    config_free(config);
}

static void test_listener_defaults(void **state)
{
    struct config *config = load_right(LISTEN(PSK));
    const struct config_dtls_listener *d = config->listeners[0].dtls;

    (void)state;
    assert_false(config->listeners[0].multicast);
    assert_true(d->psk && !d->psk_store && d->tickets && d->connection_id);
    assert_string_equal(d->psk_hint, "");
    assert_null(d->certificate.path);
    assert_int_equal(d->clients, CONFIG_CLIENTS_NONE);
    assert_int_equal(d->name_count, 0);
    for (unsigned i = 0; i < d->suites.count; i++)
        assert_true(cipher_suite_is_psk(d->suites.numbers[i]));
    assert_int_equal(d->suites.numbers[0], 0xc0a8);
    assert_int_equal(d->suites.count, 5);
    config_free(config);
    config = load_right(LISTEN(CERT));
    d = config->listeners[0].dtls;
    assert_false(d->psk);
    for (unsigned i = 0; i < d->suites.count; i++)
        assert_false(cipher_suite_is_psk(d->suites.numbers[i]));
    assert_int_equal(d->suites.numbers[0], 0xc0ae);
    assert_int_equal(d->suites.count, 6);
    config_free(config);
}

static void test_suites(void **state)
{
    uint16_t all[CIPHER_SUITES_MAX];
    unsigned count = cipher_suites_default(all);

    (void)state;
    assert_int_equal(count, 11);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(cipher_suite_number(cipher_suite_name(all[i])), all[i]);
    assert_null(cipher_suite_name(0x1301));
    assert_false(cipher_suite_is_psk(0x1301));
    assert_true(cipher_suite_number("TLS_NULL_WITH_NULL_NULL") < 0);
}

/* ---- upstreams and routes ---- */

static void test_full_upstream(void **state)
{
    struct config *config = load_right_file(FULL);
    const struct config_upstream *u = &config->upstreams[3];
    const struct config_dtls_upstream *d = u->dtls;

    (void)state;
    assert_int_equal(u->servers[0].endpoint.port, 5684);
    assert_int_equal(u->servers[1].endpoint.port, 7000);
    assert_int_equal(u->servers[1].transport, TRANSPORT_DTLS);
    assert_string_equal(d->identity, "gate way");
    assert_string_equal(d->key_file.path, "/etc/x/key");
    assert_string_equal(d->certificate.path, "/etc/x/own.pem");
    assert_string_equal(d->key.path, "/etc/x/own.key");
    assert_string_equal(d->ca.path, "/etc/x/ca.pem");
    assert_string_equal(d->crl.path, "/etc/x/ca.crl");
    assert_string_equal(d->name, "origin.example");
    assert_int_equal(d->suites.count, 1);
    assert_int_equal(d->suites.numbers[0], 0xccab);
    assert_false(d->connection_id);
    assert_int_equal(u->tell_client, CONFIG_TELL_QUERY);
    assert_string_equal(u->tell_query, "who");
    u++;
    assert_null(u->dtls->identity);
    assert_string_equal(u->dtls->name, "fd01::9");
    assert_true(u->dtls->connection_id);
    assert_int_equal(u->tell_client, CONFIG_TELL_OPTION);
    assert_int_equal(u->tell_option, 65000);
    assert_null(config->upstreams[0].dtls);
    assert_int_equal(config->upstreams[0].tell_client, CONFIG_TELL_NONE);
    config_free(config);
}

static void test_full_rest(void **state)
{
    struct config *config = load_right_file(FULL);
    const struct config_route *route = &config->routes[config->route_count - 1];

    (void)state;
    assert_int_equal(route->allow_count, 4);
    assert_string_equal(route->allow[0], "psk:keeper");
    assert_string_equal(route->allow[3], "cert:*");
    assert_int_equal(config->routes[0].allow_count, 0);
    assert_int_equal(config->security.idle_us, 90000000);
    assert_int_equal(config->security.handshake_budget, 3);
    assert_int_equal(config->limits.associations, 77);
    assert_int_equal(config->limits.handshakes, 5);
    config_free(config);
}

/* ---- examples ---- */

static void test_example(void **state)
{
    struct config *config = load_right_file(SECURE);

    (void)state;
    assert_int_equal(config->listeners[1].transport, TRANSPORT_DTLS);
    assert_int_equal(config->listeners[1].dtls->clients, CONFIG_CLIENTS_REQUIRED);
    assert_int_equal(config->upstreams[0].tell_client, CONFIG_TELL_QUERY);
    assert_int_equal(config->routes[1].allow_count, 2);
    config_free(config);
}

/* All suites are shown, in the order of the default. */
static void test_shown_listener(void **state)
{
    char *text = read_shown(EXAMPLE, "  # - uri: coaps://10.99.0.2\n",
                            "interfaces:\n  - {name: a, device: 'tap:t', addresses: "
                            "[10.99.0.2/24]}\nlisteners:\n");
    struct config *config = load_right(text);
    const struct config_dtls_listener *d = config->listeners[0].dtls;
    uint16_t all[CIPHER_SUITES_MAX];

    (void)state;
    assert_int_equal(d->suites.count, cipher_suites_default(all));
    assert_memory_equal(d->suites.numbers, all, d->suites.count * sizeof(all[0]));
    assert_true(d->tickets && d->connection_id && !d->psk_store);
    config_free(config);
    free(text);
}

static void test_shown_upstream(void **state)
{
    char *text = read_shown(EXAMPLE, "  # - name: secure\n",
                            "interfaces:\n  - {name: a, device: 'tap:t', addresses: "
                            "[10.99.0.2/24]}\nlisteners:\n  - uri: coap://10.99.0.2\nupstreams:\n");
    struct config *config = load_right(text);

    (void)state;
    assert_string_equal(config->upstreams[0].dtls->name, "origin.example");
    assert_string_equal(config->upstreams[0].tell_query, "client");
    config_free(config);
    free(text);
}

/* ---- errors ---- */

static const struct error_case cases[] = {
    {IF4 "listeners:\n  - uri: coaps://10.9.0.2\n",
     "6: listeners[0].dtls: is missing; add it with psk or certificate and key"},
    {IF4 "listeners:\n  - {uri: coap://10.9.0.2, dtls: {" PSK "}}\n",
     "6: listeners[0].dtls: only a coaps:// listener has it; remove it, or write coaps:// in uri"},
    {IF4 "listeners:\n  - {uri: coaps://10.9.0.2, multicast: true, dtls: {" PSK "}}\n",
     "6: listeners[0].multicast: a coaps:// listener has none; write false or remove it"},
    {IF4 "listeners:\n  - {uri: 'coaps://10.9.0.2:x', dtls: {" PSK "}}\n",
     "6: listeners[0].uri: \"coaps://10.9.0.2:x\" is not a CoAP URI; write "
     "coaps://ADDRESS[:PORT], an IPv6 address in brackets"},
    {IF4 "listeners:\n  - {uri: coaps://10.9.0.2/x, dtls: {" PSK "}}\n",
     "6: listeners[0].uri: \"coaps://10.9.0.2/x\" has a path or a query; write "
     "coaps://ADDRESS[:PORT] alone"},
    {IF4 "listeners:\n  - uri: coap://10.9.0.2:7\n"
         "  - {uri: 'coaps://10.9.0.2:7', dtls: {" PSK "}}\n",
     "7: listeners[1].uri: \"coaps://10.9.0.2:7\" is also listeners[0]; remove one of them"},
    {LISTEN(""), "6: listeners[0].dtls: has neither psk nor certificate; add one of them"},
    {LISTEN("psk: {}"),
     "6: listeners[0].dtls.psk: has neither file nor store; add file, or store: true"},
    {LISTEN("psk: {store: true}"),
     "6: listeners[0].dtls.psk.store: there is no store; add one with the key store, or write "
     "false"},
    {LISTEN("psk: {file: p}"), "6: listeners[0].dtls.psk.file: \"p\"" NOT_A_FILE},
    {LISTEN("psk: {file: /p/}"), "6: listeners[0].dtls.psk.file: \"/p/\"" NOT_A_FILE},
    {LISTEN("psk: {file: /p, hint: " X64 X64 "x}"),
     "6: listeners[0].dtls.psk.hint: has 129 bytes; write at most 128"},
    {LISTEN("certificate: /c"),
     "6: listeners[0].dtls.key: is missing, and there is certificate; add it"},
    {LISTEN(PSK ", key: /k"),
     "6: listeners[0].dtls.certificate: is missing, and there is key; add it"},
    {LISTEN("certificate: c, key: /k"), "6: listeners[0].dtls.certificate: \"c\"" NOT_A_FILE},
    {LISTEN(CERT ", client_certificates: yes"),
     "6: listeners[0].dtls.client_certificates: \"yes\" is not known; write none, optional or "
     "required"},
    {LISTEN(CERT ", client_certificates: required"),
     "6: listeners[0].dtls.ca: is missing, and clients' certificates are to be checked; add it"},
    {LISTEN(PSK ", client_certificates: optional, ca: /a"),
     "6: listeners[0].dtls.client_certificates: clients have them only where the gateway has one; "
     "add certificate and key"},
    {LISTEN(CERT ", ca: /a"),
     "6: listeners[0].dtls.ca: is for clients' certificates; remove it, or write "
     "client_certificates: required or optional"},
    {LISTEN(CERT ", names: [a.example]"),
     "6: listeners[0].dtls.names: is for clients' certificates; remove it, or write "
     "client_certificates: required or optional"},
    {LISTEN(CERT ", client_certificates: required, ca: /a, names: [\"a*b\"]"),
     "6: listeners[0].dtls.names[0]: \"a*b\" has a * in the middle; write one at the end, or one "
     "label *. in front"},
    {LISTEN(PSK ", suites: [TLS_AES_128_GCM_SHA256]"),
     "6: listeners[0].dtls.suites[0]: \"TLS_AES_128_GCM_SHA256\" is not a cipher suite that is "
     "supported; write one such as TLS_PSK_WITH_AES_128_CCM_8"},
    {LISTEN(PSK ", suites: [TLS_PSK_WITH_AES_128_CCM_8, TLS_PSK_WITH_AES_128_CCM_8]"),
     "6: listeners[0].dtls.suites[1]: \"TLS_PSK_WITH_AES_128_CCM_8\" is there twice; remove one "
     "of them"},
    {LISTEN(PSK ", suites: [TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8]"),
     "6: listeners[0].dtls.suites[0]: \"TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8\" needs certificate, "
     "which is missing; add that, or remove the suite"},
    {LISTEN(CERT ", suites: [TLS_PSK_WITH_AES_128_CCM_8]"),
     "6: listeners[0].dtls.suites[0]: \"TLS_PSK_WITH_AES_128_CCM_8\" needs psk, which is missing; "
     "add that, or remove the suite"},
    {LISTEN(PSK ", suites: []"), "6: listeners[0].dtls.suites: is empty; write at least 1"},
    /* upstreams */
    {BASE6 "upstreams:\n  - {name: o, servers: [coaps://10.9.0.1]}\n",
     "8: upstreams[0].dtls: is missing; add it with identity and key_file, or with ca"},
    {BASE6 "upstreams:\n  - {name: o, servers: [coap://10.9.0.1], dtls: {ca: /a}}\n",
     "8: upstreams[0].dtls: only coaps:// servers have it; remove it, or write coaps:// in "
     "servers"},
    {BASE6 "upstreams:\n  - {name: o, servers: [coaps://10.9.0.1, coap://10.9.0.3], dtls: {ca: "
           "/a}}\n",
     "8: upstreams[0].servers[1]: \"coap://10.9.0.3\" has another scheme than servers[0]; write "
     "all of an upstream with coap:// or all with coaps://"},
    {BASE6 "forward_proxy: {allow: [10.9.0.1], dtls: {}}\n",
     "7: forward_proxy.dtls: has neither identity and key_file nor ca; add one of them"},
    {BASE6 "forward_proxy: {allow: [10.9.0.1], dtls: {ca: /a, name: a.example}}\n",
     "7: forward_proxy.dtls.name: a destination's is in the request that names it; remove it"},
    {UP(""), "8: upstreams[0].dtls: has neither identity and key_file nor ca; add one of them"},
    {UP("identity: i"), "8: upstreams[0].dtls.key_file: is missing, and there is identity; add it"},
    {UP("key_file: /k"),
     "8: upstreams[0].dtls.identity: is missing, and there is key_file; add it"},
    {UP("identity: " X64 X64 "x, key_file: /k"),
     "8: upstreams[0].dtls.identity: has 129 bytes; write at most 128"},
    {UP("ca: /a, certificate: /c"),
     "8: upstreams[0].dtls.key: is missing, and there is certificate; add it"},
    {UP("identity: i, key_file: /k, name: a.example"),
     "8: upstreams[0].dtls.name: is for servers with a certificate, which ca is to check; add ca, "
     "or remove it"},
    {UP("ca: /a, name: a..b"),
     "8: upstreams[0].dtls.name: \"a..b\" is not a host; write a name or an IP address"},
    {UP("ca: /a, suites: [TLS_PSK_WITH_AES_128_CCM]"),
     "8: upstreams[0].dtls.suites[0]: \"TLS_PSK_WITH_AES_128_CCM\" needs identity, which is "
     "missing; add that, or remove the suite"},
    {TELL("{}"), "10: upstreams[0].tell_client: has none of query and option; write one of them"},
    {TELL("{query: a, option: 65000}"),
     "10: upstreams[0].tell_client: has both of query and option; write one of them"},
    {TELL("{query: a=b}"), "10: upstreams[0].tell_client.query: \"a=b\" is not a name; write 1 to "
                           "64 letters, digits, _, - or ."},
    {TELL("{option: 11}"),
     "10: upstreams[0].tell_client.option: \"11\" is out of range; write 256 to 65535"},
    {TELL("{option: 258}"), "10: upstreams[0].tell_client.option: 258 is an option of CoAP; write "
                            "another number, such as 65000"},
    /* routes */
    {BASE6 "routes:\n  - {path: /a, respond: {payload: x}, allow: [\"psk:*\"]}\n",
     "8: routes[0].allow: nobody could use the route, because no listener is a coaps:// one; add "
     "one, or remove it"},
    {ROUTE("[]"), "8: routes[0].allow: is empty; write at least 1"},
    {ROUTE("[keeper]"), "8: routes[0].allow[0]: \"keeper\" is no client" OR_NAMES},
    {ROUTE("['psk:']"), "8: routes[0].allow[0]: \"psk:\" has no name; write one, or * for any"},
    {ROUTE("['psk:*a']"),
     "8: routes[0].allow[0]: \"psk:*a\" has a * in the middle; write one at the end"},
    {ROUTE("['cert:*.*.b']"), "8: routes[0].allow[0]: \"cert:*.*.b\" has a * in the middle; write "
                              "one at the end, or one label *. in front"},
    {ROUTE("['psk:" X64 X64 "x']"),
     "8: routes[0].allow[0]: has a name of 129 bytes; write at most 128"},
    /* security and limits */
    {BASE6 "security: {idle: 59s}\n", "7: security.idle: \"59s\" is out of range; write 1m to "
                                      "8760h"},
    {BASE6 "security: {handshake_budget: 0}\n",
     "7: security.handshake_budget: \"0\" is out of range; write 1 to 1000000"},
    {BASE6 "limits: {associations: 0}\n",
     "7: limits.associations: \"0\" is out of range; write 1 to 100000000"},
    {BASE6 "workers: 2\nlimits: {associations: 1}\n",
     "8: limits.associations: 1 associations are fewer than the 2 workers; write at least 2"},
    {BASE6 "limits: {handshakes: 65537}\n",
     "7: limits.handshakes: \"65537\" is out of range; write 1 to 65536"},
};

static void test_errors(void **state)
{
    (void)state;
    assert_cases(cases, sizeof(cases) / sizeof(cases[0]));
}

/* ---- the key of what is persisted ---- */

#define DIGITS16 "0123456789abcDEF"
#define DIGITS64 DIGITS16 DIGITS16 DIGITS16 DIGITS16

/* `content` in a file of this mode: NULL is right, otherwise what is said. */
static void try_key(const char *content, mode_t mode, const char *error)
{
    char name[] = "/tmp/coapgw-persist-XXXXXX", text[1024], expected[512] = "";
    int fd = mkstemp(name);
    struct config *config;

    assert_true(fd >= 0 && write(fd, content, strlen(content)) == (ssize_t)strlen(content));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    snprintf(text, sizeof(text),
             BASE6 "store: {url: 'redis://h'}\nsecurity: {persist_key_file: %s}\n", name);
    config = load_exact(text, strlen(text));
    if (error)
        snprintf(expected, sizeof(expected), "t.yaml:8: security.persist_key_file: %s\n", error);
    assert_string_equal(errors, expected);
    assert_int_equal(config != NULL, error == NULL);
    if (config) {
        assert_true(config->security.persist);
        assert_int_equal(config->security.persist_key[0], 0x01);
        assert_int_equal(config->security.persist_key[31], 0xef);
        assert_string_equal(config->security.persist_key_file.path, name);
    }
    config_free(config);
    unlink(name);
}

static void test_persist_key(void **state)
{
    static const char no_key[] = "has no key in its first line; write 64 hexadecimal digits there";

    (void)state;
    try_key(DIGITS64 "\n", 0600, NULL);
    try_key(DIGITS64, 0640, NULL);
    try_key(DIGITS64 "\n", 0604,
            "is open to everybody on this machine; take that away with chmod o=");
    try_key(DIGITS64 "\n", 0602,
            "is open to everybody on this machine; take that away with chmod o=");
    try_key(DIGITS64 "00", 0600, no_key);
    try_key(DIGITS16, 0600, no_key);
    try_key("x" DIGITS64, 0600, no_key);
    try_key("\n", 0600, "has an empty first line; write the key there");
}

static void test_persist_key_places(void **state)
{
    static const struct error_case wrong[] = {
        {BASE6 "store: {url: 'redis://h'}\nsecurity: {persist_key_file: key}\n",
         "8: security.persist_key_file: is not an absolute path; write the path of a file whose "
         "first line is the key"},
        {BASE6 "store: {url: 'redis://h'}\nsecurity: {persist_key_file: /nowhere/key}\n",
         "8: security.persist_key_file: cannot be opened (No such file or directory); name a file "
         "that can be read"},
    };

    (void)state;
    assert_cases(wrong, 2);
    assert_null(load_exact(BASE6 "security: {persist_key_file: /nowhere/key}\n",
                           strlen(BASE6 "security: {persist_key_file: /nowhere/key}\n")));
    assert_non_null(strstr(errors, "t.yaml:7: security.persist_key_file: there is no store; add "
                                   "one with the key store, or remove it\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_listener),
        cmocka_unit_test(test_listener_defaults),
        cmocka_unit_test(test_suites),
        cmocka_unit_test(test_full_upstream),
        cmocka_unit_test(test_full_rest),
        cmocka_unit_test(test_example),
        cmocka_unit_test(test_shown_listener),
        cmocka_unit_test(test_shown_upstream),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_persist_key),
        cmocka_unit_test(test_persist_key_places),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
