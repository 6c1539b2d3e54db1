/* Credentials by what they do: handshakes of OpenSSL with clients and servers that have the right
 * keys and certificates, and with those that have not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/credentials_bench.h"

/* ---- suites ---- */

static const struct {
    const char *name;
    uint16_t number;
} suites[] = {
    {"PSK-AES128-CCM8", 0xc0a8},
    {"ECDHE-ECDSA-AES128-CCM8", 0xc0ae},
    {"PSK-AES128-GCM-SHA256", 0x00a8},
    {"ECDHE-ECDSA-AES128-GCM-SHA256", 0xc02b},
    {"PSK-AES128-CCM", 0xc0a4},
    {"ECDHE-ECDSA-AES128-CCM", 0xc0ac},
    {"PSK-CHACHA20-POLY1305", 0xccab},
    {"ECDHE-ECDSA-CHACHA20-POLY1305", 0xcca9},
    {"ECDHE-PSK-CHACHA20-POLY1305", 0xccac},
};

static void test_suites(void **state)
{
    struct bench b = open_bench(PSK ", " OWN);

    (void)state;
    for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
        assert_shaken(try_client(&b, suites[i].name, NULL), suites[i].number);
    assert_shaken(try_client(&b, ALL_SUITES, NULL), 0xc0a8); /* the gateway's order */
    assert_refused(try_client(&b, "PSK-AES128-CBC-SHA", NULL), HANDSHAKE_FAILURE);
    assert_refused(try_client(&b, "AES128-SHA", NULL), HANDSHAKE_FAILURE);
    close_bench(&b);
}

static void test_suites_configured(void **state)
{
    struct bench b = open_bench(PSK ", " OWN ", suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "
                                    "TLS_PSK_WITH_AES_128_CCM_8]");

    (void)state;
    assert_shaken(try_client(&b, ALL_SUITES, NULL), 0xc02b);
    assert_shaken(try_client(&b, "PSK-AES128-CCM8", NULL), 0xc0a8);
    assert_refused(try_client(&b, "PSK-AES128-GCM-SHA256", NULL), HANDSHAKE_FAILURE);
    close_bench(&b);
}

static void test_rsa(void **state)
{
    struct bench b = open_bench("certificate: @/rsa.pem, key: @/rsa.key");

    (void)state;
    assert_shaken(try_client(&b, ALL_SUITES, NULL), 0xc02f);
    assert_shaken(try_client(&b, "ECDHE-RSA-CHACHA20-POLY1305", NULL), 0xcca8);
    assert_refused(try_client(&b, ECDSA, NULL), HANDSHAKE_FAILURE);
    close_bench(&b);
}

static void test_versions(void **state)
{
    struct bench b = open_bench(PSK);
    SSL_CTX *client = client_make(ALL_SUITES, NULL, NULL);

    (void)state;
    SSL_CTX_set_min_proto_version(client, DTLS1_VERSION);
    SSL_CTX_set_max_proto_version(client, DTLS1_VERSION);
    assert_refused(shake(b.side, 0, client, NULL), PROTOCOL_VERSION);
    SSL_CTX_free(client);
    close_bench(&b);
}

/* A context for each worker, all of them ready. */
static void test_workers(void **state)
{
    struct bench b = open_bench(PSK ", " OWN);
    SSL_CTX *client = client_make(ECDSA, NULL, &root);

    (void)state;
    assert_ptr_not_equal(credentials_context(b.side, 0), credentials_context(b.side, 1));
    assert_null(credentials_context(b.side, 2));
    for (unsigned worker = 0; worker < 2; worker++) {
        SSL_CTX *own = credentials_context(b.side, worker);
        struct shaken out = shake(b.side, worker, client, NULL);

        assert_shaken(out, 0xc0ae);
        SSL_SESSION_free(out.session);
        assert_true(SSL_CTX_get_options(own) & SSL_OP_NO_RENEGOTIATION);
        assert_true(SSL_CTX_get_options(own) & SSL_OP_NO_QUERY_MTU);
        assert_int_equal(SSL_CTX_get_session_cache_mode(own), SSL_SESS_CACHE_OFF);
    }
    SSL_CTX_free(client);
    close_bench(&b);
}

/* ---- pre-shared keys ---- */

static void test_psk(void **state)
{
    struct bench b = open_bench(PSK);
    struct shaken out = try_client(&b, ALL_SUITES, NULL);
    uint8_t key[PSK_KEY_MAX];

    (void)state;
    assert_true(out.good);
    assert_int_equal(out.principal.kind, PRINCIPAL_PSK);
    assert_memory_equal(out.principal.text, "one", 3);
    assert_int_equal(credentials_psk(b.side, (const uint8_t *)"two", 3, key), 17);
    assert_true(credentials_psk(b.side, (const uint8_t *)"three", 5, key) < 0);
    assert_int_equal(credentials_count(b.credentials).identities, 2);
    shaken_identity = "two"; /* has another key */
    assert_false(try_client(&b, ALL_SUITES, NULL).good);
    shaken_identity = "three";
    assert_refused(try_client(&b, ALL_SUITES, NULL), 115); /* unknown_psk_identity */
    shaken_identity = "one";
    close_bench(&b);
}

static void test_psk_hint(void **state)
{
    struct bench b = open_bench("psk: {file: @/psk, hint: gw}");

    (void)state;
    assert_string_equal(credentials_listener_config(b.side)->psk_hint, "gw");
    assert_true(try_client(&b, ALL_SUITES, NULL).good);
    assert_string_equal(shaken_hint, "gw");
    assert_null(credentials_upstream_config(b.side));
    close_bench(&b);
}

/* Two listeners with one file have it once. */
static void test_psk_shared(void **state)
{
    struct config *config = make_config(PSK, NULL, 2);
    struct credentials *credentials = load_right(config);
    uint8_t key[PSK_KEY_MAX];

    (void)state;
    assert_int_equal(credentials_count(credentials).identities, 2);
    for (unsigned i = 1; i <= 2; i++)
        assert_int_equal(
            credentials_psk(credentials_listener(credentials, i), (const uint8_t *)"one", 3, key),
            16);
    assert_null(credentials_listener(credentials, 0));
    assert_null(credentials_listener(credentials, 3));
    assert_null(credentials_upstream(credentials, 0));
    assert_true(credentials_take(credentials) == credentials);
    credentials_drop(credentials);
    assert_int_equal(credentials_count(credentials).identities, 2);
    credentials_drop(credentials);
    config_free(config);
}

/* ---- certificates of clients ---- */

static void test_clients_none(void **state)
{
    struct bench b = open_bench(OWN);
    struct shaken out = try_client(&b, ECDSA, "device");

    (void)state;
    assert_shaken(out, 0xc0ae);
    assert_int_equal(out.principal.kind, PRINCIPAL_NONE); /* it was not asked */
    close_bench(&b);
}

static void test_clients_optional(void **state)
{
    struct bench b = open_bench(ASKS("optional"));
    struct shaken out = try_client(&b, ECDSA, "device");

    (void)state;
    assert_shaken(out, 0xc0ae);
    assert_int_equal(out.principal.kind, PRINCIPAL_CERTIFICATE);
    assert_memory_equal(out.principal.text, "device-1.example", 16);
    assert_true(try_client(&b, ECDSA, NULL).good);
    assert_refused(try_client(&b, ECDSA, "foreign"), UNKNOWN_CA);
    close_bench(&b);
}

static void test_clients_required(void **state)
{
    struct bench b = open_bench(PSK ", " ASKS("required"));

    (void)state;
    assert_shaken(try_client(&b, ECDSA, "device"), 0xc0ae);
    assert_shaken(try_client(&b, ECDSA, "chained"), 0xc0ae); /* with the one between */
    assert_refused(try_client(&b, ECDSA, NULL), HANDSHAKE_FAILURE);
    assert_refused(try_client(&b, ECDSA, "foreign"), UNKNOWN_CA);
    assert_refused(try_client(&b, ECDSA, "unchained"), UNKNOWN_CA);
    assert_refused(try_client(&b, ECDSA, "expired"), CERTIFICATE_EXPIRED);
    assert_refused(try_client(&b, ECDSA, "early"), BAD_CERTIFICATE);
    assert_refused(try_client(&b, ECDSA, "weak"), BAD_CERTIFICATE);
    assert_shaken(try_client(&b, "PSK-AES128-CCM8", NULL), 0xc0a8); /* has no certificate */
    close_bench(&b);
}

/* An authority that is no root is enough, too. */
static void test_clients_of_middle(void **state)
{
    struct bench b = open_bench(OWN ", client_certificates: required, ca: @/middle.pem");

    (void)state;
    assert_true(try_client(&b, ECDSA, "unchained").good);
    assert_refused(try_client(&b, ECDSA, "device"), UNKNOWN_CA);
    close_bench(&b);
}

static void test_revoked(void **state)
{
    const struct identity *both[] = {&root, &middle, NULL}, *one[] = {&root, NULL};
    struct bench b;

    (void)state;
    file_crls("some.crl", both, NULL, 30);
    b = open_bench(ASKS("required") ", crl: @/some.crl");
    assert_true(try_client(&b, ECDSA, "device").good);
    assert_true(try_client(&b, ECDSA, "chained").good);
    close_bench(&b);
    file_crls("some.crl", both, &device, 30);
    b = open_bench(ASKS("required") ", crl: @/some.crl");
    assert_refused(try_client(&b, ECDSA, "device"), CERTIFICATE_REVOKED);
    assert_true(try_client(&b, ECDSA, "chained").good);
    close_bench(&b);
    file_crls("some.crl", both, &middle, 30);
    b = open_bench(ASKS("required") ", crl: @/some.crl");
    assert_true(try_client(&b, ECDSA, "device").good);
    assert_refused(try_client(&b, ECDSA, "chained"), CERTIFICATE_REVOKED);
    close_bench(&b);
    file_crls("some.crl", one, NULL, 30); /* what the one between has revoked is not known */
    b = open_bench(ASKS("required") ", crl: @/some.crl");
    assert_true(try_client(&b, ECDSA, "device").good);
    assert_refused(try_client(&b, ECDSA, "chained"), UNKNOWN_CA);
    close_bench(&b);
}

/* ---- who is admitted ---- */

static void test_admit(void **state)
{
    struct bench b = open_bench(PSK ", " ASKS("optional") ", names: ['*.one.example', 'urn:*']");
    struct principal p;

    (void)state;
    principal_set(&p, PRINCIPAL_CERTIFICATE, "a.one.example", 13);
    assert_true(credentials_admit(b.side, &p));
    principal_set(&p, PRINCIPAL_CERTIFICATE, "a.two.example", 13);
    assert_false(credentials_admit(b.side, &p));
    principal_set(&p, PRINCIPAL_CERTIFICATE, "urn:x", 5);
    assert_true(credentials_admit(b.side, &p));
    principal_set(&p, PRINCIPAL_PSK, "one", 3);
    assert_true(credentials_admit(b.side, &p));
    principal_set(&p, PRINCIPAL_PSK, "gone", 4);
    assert_false(credentials_admit(b.side, &p));
    p.kind = PRINCIPAL_NONE;
    assert_true(credentials_admit(b.side, &p)); /* certificates are optional */
    close_bench(&b);
    b = open_bench(ASKS("optional"));
    principal_set(&p, PRINCIPAL_CERTIFICATE, "any", 3);
    assert_true(credentials_admit(b.side, &p));
    close_bench(&b);
}

/* ---- upstreams ---- */

static struct shaken try_server(const char *dtls, const char *identity, const char *address)
{
    struct config *config = make_config(NULL, dtls, 0);
    struct credentials *credentials = load_right(config);
    const struct credentials_side *side = credentials_upstream(credentials, 0);
    SSL_CTX *server = SSL_CTX_new(DTLS_server_method());
    char certificate[64], key[64];
    struct address at;
    struct shaken out;
    SSL *client;

    snprintf(certificate, sizeof(certificate), "%s.pem", identity);
    snprintf(key, sizeof(key), "%s.key", identity);
    SSL_CTX_set_security_level(server, 0);
    SSL_CTX_set_cipher_list(server, "ALL");
    SSL_CTX_use_certificate_chain_file(server, file_at(certificate));
    SSL_CTX_use_PrivateKey_file(server, file_at(key), SSL_FILETYPE_PEM);
    SSL_CTX_set_verify(server, SSL_VERIFY_PEER, NULL);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(server), root.certificate);
    assert_int_equal(address_parse(address, &at), 0);
    client = SSL_new(credentials_context(side, 1));
    assert_int_equal(credentials_expect(side, client, &at), 0);
    out = shake_ssl(SSL_new(server), client, NULL);
    SSL_SESSION_free(out.session);
    SSL_CTX_free(server);
    credentials_drop(credentials);
    config_free(config);
    return out;
}

static void test_server_names(void **state)
{
    (void)state;
    assert_true(try_server("ca: @/root.pem, name: origin.example", "origin", "10.9.0.1").good);
    assert_true(try_server("ca: @/root.pem, name: 10.9.0.1", "origin", "10.9.0.7").good);
    assert_true(try_server("ca: @/root.pem", "origin", "10.9.0.1").good);
    assert_true(try_server("ca: @/root.pem", "origin", "fd00::1").good);
    assert_refused(try_server("ca: @/root.pem", "origin", "10.9.0.7"), BAD_CERTIFICATE);
    assert_refused(try_server("ca: @/root.pem", "origin", "fd00::2"), BAD_CERTIFICATE);
    assert_refused(try_server("ca: @/root.pem, name: other.example", "origin", "10.9.0.1"),
                   BAD_CERTIFICATE);
    assert_refused(try_server("ca: @/middle.pem, name: origin.example", "origin", "10.9.0.1"),
                   UNKNOWN_CA);
    assert_refused(try_server("ca: @/root.pem, name: device-1.example", "expired", "10.9.0.1"),
                   CERTIFICATE_EXPIRED);
}

static void test_own_certificate(void **state)
{
    struct shaken out = try_server("ca: @/root.pem, certificate: @/device.pem, key: @/device.key",
                                   "origin", "10.9.0.1");

    (void)state;
    assert_true(out.good);
    assert_int_equal(out.principal.kind, PRINCIPAL_CERTIFICATE);
    assert_memory_equal(out.principal.text, "device-1.example", 16);
}

static void test_own_key(void **state)
{
    struct config *config = make_config(NULL, "identity: gw, key_file: @/own.psk", 0);
    struct credentials *credentials = load_right(config);
    const struct credentials_side *side = credentials_upstream(credentials, 0);
    const char *identity;
    uint8_t key[PSK_KEY_MAX];

    (void)state;
    assert_int_equal(credentials_own_psk(side, &identity, key), 16);
    assert_string_equal(identity, "gw");
    assert_int_equal(key[15], 0xff);
    assert_string_equal(credentials_upstream_config(side)->identity, "gw");
    credentials_drop(credentials);
    config_free(config);
    config = make_config(NULL, "ca: @/root.pem", 0);
    credentials = load_right(config);
    assert_true(credentials_own_psk(credentials_upstream(credentials, 0), &identity, key) < 0);
    credentials_drop(credentials);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suites),
        cmocka_unit_test(test_suites_configured),
        cmocka_unit_test(test_rsa),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_workers),
        cmocka_unit_test(test_psk),
        cmocka_unit_test(test_psk_hint),
        cmocka_unit_test(test_psk_shared),
        cmocka_unit_test(test_clients_none),
        cmocka_unit_test(test_clients_optional),
        cmocka_unit_test(test_clients_required),
        cmocka_unit_test(test_clients_of_middle),
        cmocka_unit_test(test_revoked),
        cmocka_unit_test(test_admit),
        cmocka_unit_test(test_server_names),
        cmocka_unit_test(test_own_certificate),
        cmocka_unit_test(test_own_key),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
