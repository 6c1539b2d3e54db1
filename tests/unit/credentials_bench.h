/* Credentials to try: an authority with its certificates, files of all of them that are right or
 * wrong, and listeners that are loaded from these. To be included once, behind cmocka.h. */
#ifndef COAPGW_TESTS_CREDENTIALS_BENCH_H
#define COAPGW_TESTS_CREDENTIALS_BENCH_H

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

static inline struct config *configure(const char *text)
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
static inline struct config *make_config(const char *listener, const char *upstream,
                                         unsigned listeners)
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

static inline struct credentials *load_with(const struct config *config, const uint8_t *key)
{
    FILE *out = fmemopen(errors, sizeof(errors), "w");
    struct credentials *credentials;

    assert_non_null(out);
    memset(errors, 0, sizeof(errors));
    credentials = credentials_load(config, key, out);
    fclose(out);
    return credentials;
}

static inline struct credentials *load_right(const struct config *config)
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

static inline struct bench open_bench(const char *dtls)
{
    struct bench b;

    b.config = make_config(dtls, NULL, 1);
    b.credentials = load_right(b.config);
    b.side = credentials_listener(b.credentials, 1);
    assert_non_null(b.side);
    return b;
}

static inline void close_bench(struct bench *b)
{
    credentials_drop(b->credentials);
    config_free(b->config);
}

/* One handshake of a client with these suites and files. */
static inline struct shaken try_client(const struct bench *b, const char *suites,
                                       const char *identity)
{
    SSL_CTX *client = client_make(suites, identity, &root);
    struct shaken out = shake(b->side, 0, client, NULL);

    SSL_SESSION_free(out.session);
    out.session = NULL;
    SSL_CTX_free(client);
    return out;
}

static inline void assert_shaken(struct shaken out, uint16_t suite)
{
    assert_true(out.good);
    assert_int_equal(out.alert, 0);
    assert_int_equal(out.suite, suite);
}

static inline void assert_refused(struct shaken out, int alert)
{
    assert_false(out.good);
    assert_int_equal(out.alert, alert);
}

#define PSK        "psk: {file: @/psk}"
#define OWN        "certificate: @/gateway.pem, key: @/gateway.key"
#define ASKS(what) OWN ", client_certificates: " what ", ca: @/root.pem"

/* ---- files ---- */

static inline void make_identity(const char *name, const struct issue *issue)
{
    struct identity made = identity_make(issue);

    file_identity(name, &made);
    identity_free(&made);
}

static inline void make_chained(void)
{
    struct identity made =
        identity_make(&(struct issue){.name = "c", .alternative = "DNS:c.example", .by = &middle});

    file_identity("unchained", &made);
    file_identity("chained", &made);
    file_certificates("chained.pem", (const struct identity *const[]){&made, &middle, NULL});
    identity_free(&made);
}

static inline void make_odd_files(void)
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

static inline int set_up(void **state)
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

static inline int tear_down(void **state)
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

#endif
