/* Credentials of handshakes in tests: they are what a test says that they are, without a file.
 * Certificates are made when they are needed. */
#ifndef COAPGW_TESTS_HANDSHAKE_CREDENTIALS_H
#define COAPGW_TESTS_HANDSHAKE_CREDENTIALS_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/x509v3.h>

#include "gateway/security/credentials.h"

#define CIPHERS_PSK  "PSK-AES128-CCM8:@SECLEVEL=0"
#define CIPHERS_CERT "ECDHE-ECDSA-AES128-GCM-SHA256:@SECLEVEL=0"
#define IDENTITY     "device-17"
#define NAME         "device.example.org"
#define SERVER_NAME  "gateway.example.org"

/* ---- credentials ---- */

struct credentials_side {
    SSL_CTX *context;
    const char *identity; /* whose key is `key`; NULL: there is none */
    uint8_t key[16];
    const char *expected; /* name of the server */
    bool refuses;         /* admits nobody */
};

SSL_CTX *credentials_context(const struct credentials_side *side, unsigned worker)
{
    (void)worker;
    return side->context;
}

int credentials_psk(const struct credentials_side *side, const uint8_t *identity, size_t length,
                    uint8_t key[PSK_KEY_MAX])
{
    if (!side->identity || length != strlen(side->identity) ||
        memcmp(identity, side->identity, length) != 0)
        return -ENOENT;
    memcpy(key, side->key, sizeof(side->key));
    return sizeof(side->key);
}

int credentials_own_psk(const struct credentials_side *side, const char **identity,
                        uint8_t key[PSK_KEY_MAX])
{
    if (!side->identity)
        return -ENOENT;
    *identity = side->identity;
    memcpy(key, side->key, sizeof(side->key));
    return sizeof(side->key);
}

int credentials_expect(const struct credentials_side *side, SSL *ssl, const struct address *server)
{
    (void)server;
    return side->expected && SSL_set1_host(ssl, side->expected) != 1 ? -ENOMEM : 0;
}

bool credentials_admit(const struct credentials_side *side, const struct principal *principal)
{
    (void)principal;
    return !side->refuses;
}

/* ---- certificates ---- */

struct signer {
    X509 *certificate;
    EVP_PKEY *key;
};

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* `by` NULL: a CA. `days`: how long it is valid from now on; negative: it is not, since then. */
static inline struct signer make_certificate(const struct signer *by, const char *common_name,
                                             const char *names, int days)
{
    static long serial;
    struct signer s = {X509_new(), EVP_EC_gen("P-256")};
    X509_NAME *subject = X509_get_subject_name(s.certificate);

    assert_non_null(s.key);
    X509_set_version(s.certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(s.certificate), ++serial);
    X509_time_adj_ex(X509_getm_notBefore(s.certificate), -400, 0, NULL);
    X509_time_adj_ex(X509_getm_notAfter(s.certificate), days, 0, NULL);
    if (common_name)
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const uint8_t *)common_name, -1,
                                   -1, 0);
    X509_set_issuer_name(s.certificate, by ? X509_get_subject_name(by->certificate) : subject);
    X509_set_pubkey(s.certificate, s.key);
    if (!by)
        add_extension(s.certificate, NID_basic_constraints, "critical,CA:TRUE");
    if (names)
        add_extension(s.certificate, NID_subject_alt_name, names);
    assert_true(X509_sign(s.certificate, by ? by->key : s.key, EVP_sha256()) > 0);
    return s;
}

static inline void free_signer(struct signer *s)
{
    X509_free(s->certificate);
    EVP_PKEY_free(s->key);
    memset(s, 0, sizeof(*s));
}

static SSL_CTX *make_context(const char *ciphers, const struct signer *own, const struct signer *ca,
                             int verify)
{
    SSL_CTX *context = SSL_CTX_new(DTLS_method());

    SSL_CTX_set_min_proto_version(context, DTLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(context, DTLS1_2_VERSION);
    assert_int_equal(SSL_CTX_set_cipher_list(context, ciphers), 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_session_id_context(context, (const uint8_t *)"x", 1);
    if (own) {
        assert_int_equal(SSL_CTX_use_certificate(context, own->certificate), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(context, own->key), 1);
    }
    if (ca)
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), ca->certificate);
    SSL_CTX_set_verify(context, verify, NULL);
    return context;
}

/* ---- what a client with OpenSSL has ---- */

static const uint8_t shared_key[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static const char *client_identity = IDENTITY;
static const uint8_t *client_key = shared_key;

static unsigned int openssl_client_key(SSL *ssl, const char *hint, char *identity,
                                       unsigned int identity_room, unsigned char *key,
                                       unsigned int key_room)
{
    (void)ssl;
    (void)hint;
    assert_true(strlen(client_identity) < identity_room && key_room >= 16);
    strcpy(identity, client_identity);
    memcpy(key, client_key, 16);
    return 16;
}

static unsigned int openssl_server_key(SSL *ssl, const char *identity, unsigned char *key,
                                       unsigned int room)
{
    (void)ssl;
    if (strcmp(identity, IDENTITY) != 0 || room < 16)
        return 0;
    memcpy(key, shared_key, 16);
    return 16;
}

/* ---- sides and peers ---- */

static inline struct credentials_side psk_side(const char *ciphers)
{
    struct credentials_side side = {.context = make_context(ciphers, NULL, NULL, 0),
                                    .identity = IDENTITY};

    memcpy(side.key, shared_key, sizeof(side.key));
    return side;
}

static inline SSL_CTX *psk_peer(const char *ciphers)
{
    SSL_CTX *context = make_context(ciphers, NULL, NULL, 0);

    SSL_CTX_set_psk_client_callback(context, openssl_client_key);
    SSL_CTX_set_psk_server_callback(context, openssl_server_key);
    return context;
}

#endif
