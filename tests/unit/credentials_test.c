/* Credentials by what they do: handshakes of OpenSSL with clients and servers that have the right
 * keys and certificates, and with those that have not; tickets; and files that are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/security/ticket.h"
#include "tests/unit/credentials_harness.h"

#define ALL_SUITES "ALL:@SECLEVEL=0"
#define ECDSA      "ECDHE-ECDSA-AES128-CCM8"

/* Alerts (RFC 5246 7.2). */
enum {
    HANDSHAKE_FAILURE = 40,
    BAD_CERTIFICATE = 42,
    CERTIFICATE_REVOKED = 44,
    CERTIFICATE_EXPIRED = 45,
    UNKNOWN_CA = 48,
    PROTOCOL_VERSION = 70,
};

static struct identity root, middle, stranger, gateway, device;

static char errors[1 << 14];

/* ---- configurations ---- */

static struct config *configure(const char *text)
{
    FILE *out = fmemopen(errors, sizeof(errors), "w");
    struct config *config;

    assert_non_null(out);
    memset(errors, 0, sizeof(errors));
    config = config_load_text("t.yaml", text, strlen(text), out);
    fclose(out);
    assert_string_equal(errors, "");
    assert_non_null(config);
    return config;
}

/* `listener` and `upstream` go behind dtls:, with @ for the folder. Either may be NULL. */
static struct config *make_config(const char *listener, const char *upstream, unsigned listeners)
{
    static char text[8192];
    char raw[8192], *to = text;
    size_t n;

    n = (size_t)snprintf(raw, sizeof(raw),
                         "workers: 2\ninterfaces:\n  - {name: a, device: 'tap:t', addresses: "
                         "[10.9.0.2/24]}\nlisteners:\n  - {uri: 'coap://10.9.0.2'}\n");
    for (unsigned i = 0; listener && i < listeners; i++)
        n += (size_t)snprintf(raw + n, sizeof(raw) - n,
                              "  - {uri: 'coaps://10.9.0.2:%u', dtls: {%s}}\n", 5684 + i, listener);
    if (upstream)
        snprintf(raw + n, sizeof(raw) - n,
                 "upstreams:\n  - {name: o, servers: [coaps://10.9.0.1], dtls: {%s}}\n", upstream);
    for (const char *from = raw; *from; from++)
        if (*from == '@')
            to += sprintf(to, "%s", folder);
        else
            *to++ = *from;
    *to = '\0';
    return configure(text);
}

static const uint8_t secret[CREDENTIALS_SECRET_BYTES] = "a secret of ours";

static struct credentials *load_with(const struct config *config, const uint8_t *key)
{
    FILE *out = fmemopen(errors, sizeof(errors), "w");
    struct credentials *credentials;

    assert_non_null(out);
    memset(errors, 0, sizeof(errors));
    credentials = credentials_load(config, key, out);
    fclose(out);
    return credentials;
}

static struct credentials *load_right(const struct config *config)
{
    struct credentials *credentials = load_with(config, secret);

    assert_string_equal(errors, "");
    assert_non_null(credentials);
    return credentials;
}

/* One coaps listener, which is listeners[1]. */
struct bench {
    struct config *config;
    struct credentials *credentials;
    const struct credentials_side *side;
};

static struct bench open_bench(const char *dtls)
{
    struct bench b;

    b.config = make_config(dtls, NULL, 1);
    b.credentials = load_right(b.config);
    b.side = credentials_listener(b.credentials, 1);
    assert_non_null(b.side);
    return b;
}

static void close_bench(struct bench *b)
{
    credentials_drop(b->credentials);
    config_free(b->config);
}

/* One handshake of a client with these suites and files. */
static struct shaken try_client(const struct bench *b, const char *suites, const char *identity)
{
    SSL_CTX *client = client_make(suites, identity, &root);
    struct shaken out = shake(b->side, 0, client, NULL);

    SSL_SESSION_free(out.session);
    out.session = NULL;
    SSL_CTX_free(client);
    return out;
}

static void assert_shaken(struct shaken out, uint16_t suite)
{
    assert_true(out.good);
    assert_int_equal(out.alert, 0);
    assert_int_equal(out.suite, suite);
}

static void assert_refused(struct shaken out, int alert)
{
    assert_false(out.good);
    assert_int_equal(out.alert, alert);
}

#define PSK        "psk: {file: @/psk}"
#define OWN        "certificate: @/gateway.pem, key: @/gateway.key"
#define ASKS(what) OWN ", client_certificates: " what ", ca: @/root.pem"

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

/* ---- tickets ---- */

/* A session of a client with a certificate, or with a key where it has none. */
static SSL_SESSION *get_session(const struct bench *b, SSL_CTX *client)
{
    struct shaken out = shake(b->side, 0, client, NULL);

    assert_true(out.good && !out.resumed);
    return out.session;
}

/* Whether the session is resumed there; it is good in any case. */
static bool is_resumed(const struct bench *b, unsigned worker, SSL_CTX *client,
                       SSL_SESSION *session)
{
    struct shaken out = shake(b->side, worker, client, session);

    assert_true(out.good);
    SSL_SESSION_free(out.session);
    return out.resumed;
}

static void test_resume(void **state)
{
    static const char *const dtls[] = {PSK, ASKS("required")};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct bench b = open_bench(dtls[i]), again = open_bench(dtls[i]);
        SSL_CTX *client = client_make(i ? ECDSA : "PSK-AES128-CCM8", "device", &root);
        SSL_SESSION *session = get_session(&b, client);
        struct shaken out;

        assert_true(is_resumed(&b, 0, client, session));
        assert_true(is_resumed(&b, 1, client, session));     /* another worker */
        assert_true(is_resumed(&again, 0, client, session)); /* after a restart */
        out = shake(again.side, 1, client, session);
        assert_true(out.resumed);
        assert_int_equal(out.principal.kind, i ? PRINCIPAL_CERTIFICATE : PRINCIPAL_PSK);
        SSL_SESSION_free(out.session);
        SSL_SESSION_free(session);
        SSL_CTX_free(client);
        close_bench(&b);
        close_bench(&again);
    }
}

static void test_no_tickets(void **state)
{
    struct bench b = open_bench(PSK ", tickets: false");
    SSL_CTX *client = client_make("PSK-AES128-CCM8", NULL, NULL);
    SSL_SESSION *session = get_session(&b, client);

    (void)state;
    assert_false(SSL_SESSION_has_ticket(session));
    assert_false(is_resumed(&b, 0, client, session));
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    close_bench(&b);
}

/* The session that `dtls` gave is not resumed by what it has become since. */
static void assert_not_resumed_by(const struct bench *b, SSL_CTX *client, SSL_SESSION *session,
                                  const char *dtls)
{
    struct bench other = open_bench(dtls);

    assert_true(is_resumed(b, 0, client, session));
    assert_false(is_resumed(&other, 0, client, session));
    close_bench(&other);
}

static void test_tickets_of_others(void **state)
{
    const struct identity *both[] = {&root, &middle, NULL};
    struct bench b = open_bench(ASKS("required") ", crl: @/none.crl"), other;
    SSL_CTX *client = client_make(ECDSA, "device", &root);
    SSL_SESSION *session = get_session(&b, client);

    (void)state;
    file_crls("new.crl", both, &middle, 30);
    assert_not_resumed_by(&b, client, session, ASKS("required") ", crl: @/new.crl");
    assert_not_resumed_by(&b, client, session, ASKS("required"));
    assert_not_resumed_by(&b, client, session,
                          OWN ", client_certificates: required, "
                              "ca: @/both.pem, crl: @/none.crl");
    other = (struct bench){.config = make_config(ASKS("required") ", crl: @/none.crl", NULL, 2)};
    other.credentials = load_with(other.config, secret);
    other.side = credentials_listener(other.credentials, 1);
    assert_true(is_resumed(&other, 0, client, session));
    other.side = credentials_listener(other.credentials, 2); /* another port */
    assert_false(is_resumed(&other, 0, client, session));
    close_bench(&other);
    other.config = make_config(ASKS("required") ", crl: @/none.crl", NULL, 1);
    other.credentials = load_with(other.config, NULL); /* a random secret */
    other.side = credentials_listener(other.credentials, 1);
    assert_false(is_resumed(&other, 0, client, session));
    close_bench(&other);
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    close_bench(&b);
}

/* An identity that got another key, or has gone, begins anew. */
static void test_tickets_of_old_keys(void **state)
{
    struct bench b = open_bench("psk: {file: @/psk2}"), other;
    SSL_CTX *client = client_make("PSK-AES128-CCM8", NULL, NULL);
    SSL_SESSION *session = get_session(&b, client);

    (void)state;
    assert_true(is_resumed(&b, 0, client, session));
    file_text("psk2", 0600, "one:" KEY "\nnew:" KEY "\n");
    other = open_bench("psk: {file: @/psk2}");
    assert_false(is_resumed(&other, 0, client, session));
    close_bench(&other);
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    close_bench(&b);
}

static void test_ticket_periods(void **state)
{
    struct bench b = open_bench(PSK);
    SSL_CTX *client = client_make("PSK-AES128-CCM8", NULL, NULL);
    uint64_t start = (uint64_t)time(NULL) / TICKET_PERIOD_S * TICKET_PERIOD_S;
    SSL_SESSION *session;

    (void)state;
    credentials_set_time(b.credentials, start);
    session = get_session(&b, client);
    for (unsigned i = 0; i <= 2; i++) {
        credentials_set_time(b.credentials, start + i * TICKET_PERIOD_S);
        assert_true(is_resumed(&b, 0, client, session));
        credentials_set_time(b.credentials, start + (i + 1) * TICKET_PERIOD_S - 1);
        assert_true(is_resumed(&b, 1, client, session));
    }
    credentials_set_time(b.credentials, start + 3 * TICKET_PERIOD_S);
    assert_false(is_resumed(&b, 0, client, session));
    credentials_set_time(b.credentials, start - 1); /* of a time to come */
    assert_false(is_resumed(&b, 0, client, session));
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    close_bench(&b);
}

/* A ticket of before is changed for one of now. */
static void test_ticket_renewal(void **state)
{
    struct bench b = open_bench(PSK);
    SSL_CTX *client = client_make("PSK-AES128-CCM8", NULL, NULL);
    uint64_t start = (uint64_t)time(NULL) / TICKET_PERIOD_S * TICKET_PERIOD_S;
    struct shaken out;
    SSL_SESSION *session;

    (void)state;
    credentials_set_time(b.credentials, start);
    session = get_session(&b, client);
    credentials_set_time(b.credentials, start + 2 * TICKET_PERIOD_S);
    out = shake(b.side, 0, client, session);
    assert_true(out.good && out.resumed);
    credentials_set_time(b.credentials, start + 3 * TICKET_PERIOD_S);
    assert_true(is_resumed(&b, 0, client, out.session));
    SSL_SESSION_free(out.session);
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    close_bench(&b);
}

/* The certificate of the client lasts a day, and the ticket a little longer. */
static void test_ticket_of_expired(void **state)
{
    struct bench b = open_bench(ASKS("required"));
    SSL_CTX *client = client_make(ECDSA, "brief", &root);
    uint64_t now = (uint64_t)time(NULL);
    SSL_SESSION *session = get_session(&b, client);

    (void)state;
    credentials_set_time(b.credentials, now + 10 * 3600);
    assert_true(is_resumed(&b, 0, client, session));
    credentials_set_time(b.credentials, now + DAY_S + 3600);
    assert_false(is_resumed(&b, 0, client, session));
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
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

/* ---- what is wrong ---- */

static const struct {
    const char *listener, *upstream; /* one of the two */
    const char *error;               /* somewhere in what is said */
    bool is_warning;
} wrong[] = {
    {"psk: {file: @/nowhere}", NULL,
     "/nowhere: cannot be opened (No such file or directory); name a file that can be read", false},
    {"psk: {file: @/bad.psk}", NULL, "/bad.psk:2: there is no colon; write IDENTITY:HEXKEY", false},
    {"certificate: @/nowhere, key: @/gateway.key", NULL,
     "t.yaml:6: listeners[1].dtls.certificate: @/nowhere: cannot be opened (No such file or "
     "directory); name a file that can be read",
     false},
    {"certificate: @/empty, key: @/gateway.key", NULL,
     "dtls.certificate: @/empty: has no certificate; write one in PEM", false},
    {"certificate: @/gateway.key, key: @/gateway.key", NULL,
     "dtls.certificate: @/gateway.key: has no certificate; write one in PEM", false},
    {"certificate: @/damaged.pem, key: @/gateway.key", NULL,
     "dtls.certificate: @/damaged.pem: line 3: is not a certificate in PEM (", false},
    {"certificate: @/gateway.pem, key: @/own.psk", NULL,
     "dtls.key: @/own.psk: has no private key; write one in PEM", false},
    {"certificate: @/gateway.pem, key: @/device.key", NULL,
     "dtls.key: @/device.key: is not the key of the certificate; write that one", false},
    {"certificate: @/gateway.pem, key: @/locked.key", NULL,
     "dtls.key: @/locked.key: line 1: is encrypted; write the key without a passphrase", false},
    {"certificate: @/gateway.pem, key: @/open.key", NULL,
     "dtls.key: @/open.key: is open to everybody on this machine; take that away with chmod o=",
     false},
    {"certificate: @/weak.pem, key: @/weak.key", NULL,
     "dtls.certificate: @/weak.pem: cannot be used (ee key too small); write a certificate with a "
     "key of at least 112 bits strength",
     false},
    {"certificate: @/rsa.pem, key: @/rsa.key, suites: [TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8]", NULL,
     "dtls.certificate: @/rsa.pem: no suite is for its kind of key; add one with RSA in its name",
     false},
    {OWN ", client_certificates: required, ca: @/empty", NULL,
     "dtls.ca: @/empty: has no certificate; write one in PEM", false},
    {ASKS("required") ", crl: @/root.pem", NULL,
     "dtls.crl: @/root.pem: has no CRL; write one in PEM", false},
    {"certificate: @/expired.pem, key: @/expired.key", NULL,
     "dtls.certificate: warning: @/expired.pem: certificate 1 of it has expired; write a newer one",
     true},
    {"certificate: @/early.pem, key: @/early.key", NULL,
     "dtls.certificate: warning: @/early.pem: certificate 1 of it is not valid yet; look at the "
     "clock",
     true},
    {ASKS("required") ", crl: @/old.crl", NULL,
     "dtls.crl: warning: @/old.crl: CRL 1 of it is out of date, and all of its certificates are "
     "refused; write a newer one",
     true},
    {NULL, "identity: a, key_file: @/empty",
     "t.yaml:7: upstreams[0].dtls.key_file: @/empty: line 1: is not a key; write 1 to 64 bytes as "
     "pairs of hexadecimal digits",
     false},
    {NULL, "identity: a, key_file: @/open.key", "dtls.key_file: @/open.key: is open to everybody",
     false},
    {NULL, "identity: a, key_file: @/short.psk",
     "dtls.key_file: warning: @/short.psk: line 1: the key has only 2 bytes; write at least 16",
     true},
};

/* The folder stands for @. */
static void expand(const char *from, char *to, size_t room)
{
    size_t n = 0;

    for (; *from && n + sizeof(folder) < room; from++)
        n += *from == '@' ? (size_t)sprintf(to + n, "%s", folder) : (to[n] = *from, (size_t)1);
    to[n] = '\0';
}

static void test_wrong_files(void **state)
{
    char expected[1024];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct config *config;
        struct credentials *credentials;

        config = make_config(wrong[i].listener, wrong[i].upstream, 1);
        credentials = load_with(config, secret);
        expand(wrong[i].error, expected, sizeof(expected));
        if (!strstr(errors, expected) || (credentials != NULL) != wrong[i].is_warning)
            fail_msg("expected %s\ngot %s", expected, errors);
        credentials_drop(credentials);
        config_free(config);
    }
}

/* All that is wrong is said in one go, once and not for each worker. */
static void test_all_errors(void **state)
{
    struct config *config =
        make_config("certificate: @/empty, key: @/nowhere, psk: {file: @/bad.psk}",
                    "identity: a, key_file: @/nowhere", 2);
    unsigned lines = 0;

    (void)state;
    assert_null(load_with(config, secret));
    for (const char *at = errors; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, 5);
    config_free(config);
}

static void test_plain(void **state)
{
    struct config *config = make_config(NULL, NULL, 0);
    struct credentials *credentials = load_right(config);

    (void)state;
    assert_false(credentials_wanted(config));
    assert_null(credentials_listener(credentials, 0));
    credentials_drop(credentials);
    credentials_drop(NULL);
    credentials_set_time(NULL, 1);
    assert_null(credentials_take(NULL));
    config_free(config);
    config = make_config(NULL, "ca: @/root.pem", 0);
    assert_true(credentials_wanted(config));
    config_free(config);
}

/* ---- files ---- */

static void make_identity(const char *name, const struct issue *issue)
{
    struct identity made = identity_make(issue);

    file_identity(name, &made);
    identity_free(&made);
}

static void make_chained(void)
{
    struct identity made =
        identity_make(&(struct issue){.name = "c", .alternative = "DNS:c.example", .by = &middle});

    file_identity("unchained", &made);
    file_identity("chained", &made);
    file_certificates("chained.pem", (const struct identity *const[]){&made, &middle, NULL});
    identity_free(&made);
}

static void make_odd_files(void)
{
    FILE *out = file_make("locked.key", 0600);
    char text[] = "#\n#\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    PEM_write_PKCS8PrivateKey(out, gateway.key, EVP_aes_128_cbc(), "pass", 4, NULL, NULL);
    fclose(out);
    file_key("open.key", 0644, &gateway);
    file_text("damaged.pem", 0644, text);
    file_text("empty", 0600, "");
    file_text("psk", 0640, "one:" KEY "\ntwo:" KEY "00\n");
    file_text("psk2", 0600, "one:" KEY "\n");
    file_text("bad.psk", 0600, "one:" KEY "\ntwo\n");
    file_text("own.psk", 0600, KEY "\n");
    file_text("short.psk", 0600, "0011\n");
    file_crls("none.crl", (const struct identity *const[]){&root, &middle, NULL}, NULL, 30);
    file_crls("old.crl", (const struct identity *const[]){&root, NULL}, NULL, -1);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    root = identity_make(&(struct issue){.name = "Root", .authority = true});
    middle = identity_make(&(struct issue){.name = "Middle", .authority = true, .by = &root});
    stranger = identity_make(&(struct issue){.name = "Stranger", .authority = true});
    gateway = identity_make(&(struct issue){.name = "gateway", .by = &root});
    device = identity_make(
        &(struct issue){.name = "d", .alternative = "DNS:device-1.example", .by = &root});
    file_identity("root", &root);
    file_identity("middle", &middle);
    file_identity("gateway", &gateway);
    file_identity("device", &device);
    file_certificates("both.pem", (const struct identity *const[]){&root, &stranger, NULL});
    make_identity("foreign", &(struct issue){.name = "f", .by = &stranger});
    make_identity("expired", &(struct issue){.name = "e",
                                             .alternative = "DNS:device-1.example",
                                             .by = &root,
                                             .to_day = -1});
    make_identity("early", &(struct issue){.name = "e", .by = &root, .from_day = 1});
    make_identity("brief", &(struct issue){.name = "b", .by = &root, .to_day = 1});
    make_identity("weak", &(struct issue){.name = "w", .by = &root, .rsa_bits = 1024});
    make_identity("rsa", &(struct issue){.name = "r", .by = &root, .rsa_bits = 2048});
    make_identity("origin",
                  &(struct issue){.name = "o",
                                  .alternative = "DNS:origin.example,IP:10.9.0.1,IP:fd00::1",
                                  .by = &root});
    make_chained();
    make_odd_files();
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    identity_free(&root);
    identity_free(&middle);
    identity_free(&stranger);
    identity_free(&gateway);
    identity_free(&device);
    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    return system(command);
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
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_no_tickets),
        cmocka_unit_test(test_tickets_of_others),
        cmocka_unit_test(test_tickets_of_old_keys),
        cmocka_unit_test(test_ticket_periods),
        cmocka_unit_test(test_ticket_renewal),
        cmocka_unit_test(test_ticket_of_expired),
        cmocka_unit_test(test_server_names),
        cmocka_unit_test(test_own_certificate),
        cmocka_unit_test(test_own_key),
        cmocka_unit_test(test_wrong_files),
        cmocka_unit_test(test_all_errors),
        cmocka_unit_test(test_plain),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
