/* What the tests of credentials share: certificates that are made on the spot, files of them in a
 * folder of the test's own, and handshakes between two contexts of OpenSSL. To be included once,
 * behind cmocka.h. */
#ifndef COAPGW_TESTS_CREDENTIALS_HARNESS_H
#define COAPGW_TESTS_CREDENTIALS_HARNESS_H

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "gateway/security/credentials.h"

#define DAY_S 86400L
#define KEY   "00112233445566778899aabbccddeeff"

/* ---- certificates ---- */

struct identity {
    X509 *certificate;
    EVP_PKEY *key;
};

struct issue {
    const char *name;          /* the common name */
    const char *alternative;   /* such as "DNS:a.example"; NULL: none */
    const struct identity *by; /* NULL: itself */
    bool authority;
    unsigned rsa_bits; /* 0: P-256 */
    long from_day, to_day;
};

static inline void add_extension(X509 *to, X509 *by, int nid, const char *value)
{
    X509_EXTENSION *extension;
    X509V3_CTX context;

    X509V3_set_ctx(&context, by, to, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    X509_add_ext(to, extension, -1);
    X509_EXTENSION_free(extension);
}

static inline struct identity identity_make(const struct issue *issue)
{
    static long serial = 1;
    struct identity made = {X509_new(),
                            issue->rsa_bits ? EVP_RSA_gen(issue->rsa_bits) : EVP_EC_gen("P-256")};
    const struct identity *by = issue->by ? issue->by : &made;
    long to = issue->to_day ? issue->to_day : 100;

    assert_true(made.certificate && made.key);
    X509_set_version(made.certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made.certificate),
                    (issue->from_day ? issue->from_day : -400) * DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(made.certificate), to * DAY_S);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made.certificate), "CN", MBSTRING_UTF8,
                               (const unsigned char *)issue->name, -1, -1, 0);
    X509_set_issuer_name(made.certificate, X509_get_subject_name(by->certificate));
    X509_set_pubkey(made.certificate, made.key);
    add_extension(made.certificate, by->certificate, NID_basic_constraints,
                  issue->authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (issue->alternative)
        add_extension(made.certificate, by->certificate, NID_subject_alt_name, issue->alternative);
    assert_true(X509_sign(made.certificate, by->key, EVP_sha256()) > 0);
    return made;
}

static inline void identity_free(struct identity *identity)
{
    X509_free(identity->certificate);
    EVP_PKEY_free(identity->key);
}

/* ---- files ---- */

static char folder[] = "/tmp/coapgw-credentials-XXXXXX";

static inline const char *file_at(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static inline FILE *file_make(const char *name, mode_t mode)
{
    const char *path = file_at(name);
    FILE *out;

    unlink(path);
    out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fchmod(fileno(out), mode), 0);
    return out;
}

static inline void file_text(const char *name, mode_t mode, const char *text)
{
    FILE *out = file_make(name, mode);

    fputs(text, out);
    fclose(out);
}

/* Certificates one behind the other, up to NULL. */
static inline void file_certificates(const char *name, const struct identity *const *list)
{
    FILE *out = file_make(name, 0644);

    for (; *list; list++)
        assert_int_equal(PEM_write_X509(out, (*list)->certificate), 1);
    fclose(out);
}

static inline void file_key(const char *name, mode_t mode, const struct identity *identity)
{
    FILE *out = file_make(name, mode);

    assert_int_equal(PEM_write_PKCS8PrivateKey(out, identity->key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(out);
}

/* NAME.pem and NAME.key. */
static inline void file_identity(const char *name, const struct identity *identity)
{
    char file[64];

    snprintf(file, sizeof(file), "%s.pem", name);
    file_certificates(file, (const struct identity *const[]){identity, NULL});
    snprintf(file, sizeof(file), "%s.key", name);
    file_key(file, 0600, identity);
}

/* Of two authorities, one of which may be NULL; `revoked` is the first one's. */
static inline void file_crls(const char *name, const struct identity *const *authorities,
                             const struct identity *revoked, long to_day)
{
    FILE *out = file_make(name, 0644);

    for (; *authorities; authorities++) {
        X509_CRL *crl = X509_CRL_new();
        ASN1_TIME *last = X509_gmtime_adj(NULL, -30 * DAY_S);
        ASN1_TIME *next = X509_gmtime_adj(NULL, to_day * DAY_S);

        X509_CRL_set_version(crl, 1);
        X509_CRL_set_issuer_name(crl, X509_get_subject_name((*authorities)->certificate));
        X509_CRL_set1_lastUpdate(crl, last);
        X509_CRL_set1_nextUpdate(crl, next);
        if (revoked) {
            X509_REVOKED *entry = X509_REVOKED_new();

            X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked->certificate));
            X509_REVOKED_set_revocationDate(entry, last);
            X509_CRL_add0_revoked(crl, entry);
            revoked = NULL;
        }
        assert_true(X509_CRL_sign(crl, (*authorities)->key, EVP_sha256()) > 0);
        assert_int_equal(PEM_write_X509_CRL(out, crl), 1);
        ASN1_TIME_free(last);
        ASN1_TIME_free(next);
        X509_CRL_free(crl);
    }
    fclose(out);
}

/* ---- handshakes ---- */

struct shaken {
    bool good;    /* both are done */
    int alert;    /* the first fatal one that was sent, 0: none */
    bool resumed; /* what the server says */
    uint16_t suite;
    SSL_SESSION *session;       /* the client's, with the wish for it */
    struct principal principal; /* of the client, by its certificate or its identity */
};

static int shaken_alert;
static const char *shaken_identity = "one";    /* of the client */
static char shaken_hint[PSK_IDENTITY_MAX + 1]; /* that it got */

static void on_info(const SSL *ssl, int where, int value)
{
    (void)ssl;
    if ((where & SSL_CB_WRITE_ALERT) == SSL_CB_WRITE_ALERT && value >> 8 == SSL3_AL_FATAL &&
        !shaken_alert)
        shaken_alert = value & 0xff;
}

static unsigned client_key(SSL *ssl, const char *hint, char *identity, unsigned room,
                           unsigned char *key, unsigned key_room)
{
    (void)ssl;
    (void)key_room;
    snprintf(shaken_hint, sizeof(shaken_hint), "%s", hint ? hint : "");
    snprintf(identity, room, "%s", shaken_identity);
    return (unsigned)psk_parse_key(KEY, 32, key);
}

static const struct credentials_side *shaken_side; /* the server's */

static unsigned server_key(SSL *ssl, const char *identity, unsigned char *key, unsigned room)
{
    int length;

    (void)ssl;
    (void)room;
    length = credentials_psk(shaken_side, (const uint8_t *)identity, strlen(identity), key);
    return length < 0 ? 0 : (unsigned)length;
}

static inline void join(SSL *server, SSL *client)
{
    BIO *up = BIO_new(BIO_s_mem()), *down = BIO_new(BIO_s_mem());

    BIO_set_mem_eof_return(up, -1);
    BIO_set_mem_eof_return(down, -1);
    BIO_up_ref(up);
    BIO_up_ref(down);
    SSL_set_bio(server, up, down);
    SSL_set_bio(client, down, up);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    for (int i = 0; i < 2; i++) {
        SSL_set_options(i ? server : client, SSL_OP_NO_QUERY_MTU);
        SSL_set_mtu(i ? server : client, 1400);
        SSL_set_info_callback(i ? server : client, on_info);
    }
}

static inline void name_client(SSL *server, struct principal *out)
{
    const char *identity = SSL_get_psk_identity(server);
    X509 *peer = SSL_get0_peer_certificate(server);

    memset(out, 0, sizeof(*out));
    if (peer)
        principal_of_certificate(peer, out);
    else if (identity)
        principal_set(out, PRINCIPAL_PSK, identity, strlen(identity));
}

/* With `session` the client tries to resume it. */
static inline struct shaken shake_ssl(SSL *server, SSL *client, SSL_SESSION *session)
{
    struct shaken out = {0};
    int a = 0, b = 0;

    shaken_alert = 0;
    if (session)
        SSL_set_session(client, session);
    join(server, client);
    for (int i = 0; i < 20 && (a <= 0 || b <= 0); i++) {
        b = b > 0 ? b : SSL_do_handshake(client);
        a = a > 0 ? a : SSL_do_handshake(server);
    }
    out.good = a > 0 && b > 0;
    out.alert = shaken_alert;
    out.resumed = SSL_session_reused(server);
    if (out.good) {
        out.suite = (uint16_t)SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(server));
        out.session = SSL_get1_session(client);
        name_client(server, &out.principal);
        SSL_set_quiet_shutdown(client, 1); /* a session is resumed after an end in order only */
        SSL_shutdown(client);
    }
    ERR_clear_error();
    SSL_free(server);
    SSL_free(client);
    return out;
}

static inline struct shaken shake(const struct credentials_side *side, unsigned worker,
                                  SSL_CTX *client, SSL_SESSION *session)
{
    SSL_CTX *server = credentials_context(side, worker);

    shaken_side = side;
    if (credentials_listener_config(side)->psk)
        SSL_CTX_set_psk_server_callback(server, server_key);
    return shake_ssl(SSL_new(server), SSL_new(client), session);
}

static inline SSL_CTX *client_make(const char *suites, const char *identity,
                                   const struct identity *trusted)
{
    SSL_CTX *client = SSL_CTX_new(DTLS_client_method());
    char certificate[64], key[64];

    SSL_CTX_set_security_level(client, 0);
    assert_int_equal(SSL_CTX_set_cipher_list(client, suites), 1);
    SSL_CTX_set_psk_client_callback(client, client_key);
    if (identity) {
        snprintf(certificate, sizeof(certificate), "%s.pem", identity);
        snprintf(key, sizeof(key), "%s.key", identity);
        assert_int_equal(SSL_CTX_use_certificate_chain_file(client, file_at(certificate)), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(client, file_at(key), SSL_FILETYPE_PEM), 1);
    }
    if (trusted) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(client), trusted->certificate);
        SSL_CTX_set_verify(client, SSL_VERIFY_PEER, NULL);
    }
    return client;
}

#endif
