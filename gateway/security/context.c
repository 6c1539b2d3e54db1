#include "gateway/security/context.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "gateway/security/cipher_suite.h"
#include "gateway/net.h"

#define SUITE_NAMES_BYTES 1024
#define STRENGTH_BITS     112 /* of keys, groups and digests: RSA 2048, P-224, SHA-224 and better */
#define STRENGTH_LEVEL    2   /* OpenSSL's name for that, where it verifies certificates */
#define VERIFY_DEPTH      8
#define CA_NAMES_MAX      8

/* ---- strength ---- */

/* OpenSSL counts AES-CCM with a tag of 8 bytes as 64 bits, which only level 0 allows; and that
 * would allow anything else, too. CoAP is made of CCM_8 (RFC 7252 9), so ciphers are as they were
 * configured, and all the rest as level 2 has it. */
static int is_strong(const SSL *ssl, const SSL_CTX *context, int operation, int bits, int nid,
                     void *other, void *unused)
{
    (void)ssl;
    (void)context;
    (void)nid;
    (void)other;
    (void)unused;
    switch (operation) {
    case SSL_SECOP_CIPHER_SUPPORTED:
    case SSL_SECOP_CIPHER_SHARED:
    case SSL_SECOP_CIPHER_CHECK:
    case SSL_SECOP_VERSION: /* DTLS 1.2 is the least and the most that the context has */
    case SSL_SECOP_TICKET:
        return 1;
    case SSL_SECOP_COMPRESSION:
        return 0;
    default:
        return bits >= STRENGTH_BITS;
    }
}

/* ---- suites ---- */

static bool set_suites(SSL_CTX *context, const struct config_suites *suites)
{
    char names[SUITE_NAMES_BYTES] = "";
    size_t length = 0;

    for (unsigned i = 0; i < suites->count; i++) {
        const char *name = OPENSSL_cipher_name(cipher_suite_name(suites->numbers[i]));

        length +=
            (size_t)snprintf(names + length, sizeof(names) - length, "%s%s", i ? ":" : "", name);
        if (length >= sizeof(names))
            return false;
    }
    return SSL_CTX_set_cipher_list(context, names) > 0;
}

static bool has_suite_for(const struct config_suites *suites, const char *part)
{
    for (unsigned i = 0; i < suites->count; i++)
        if (strstr(cipher_suite_name(suites->numbers[i]), part))
            return true;
    return false;
}

/* ---- certificates ---- */

/* The own one, and those between it and the root. */
static bool set_chain(SSL_CTX *context, STACK_OF(X509) * chain)
{
    if (SSL_CTX_use_certificate(context, sk_X509_value(chain, 0)) <= 0)
        return false;
    for (int i = 1; i < sk_X509_num(chain); i++)
        if (SSL_CTX_add1_chain_cert(context, sk_X509_value(chain, i)) <= 0)
            return false;
    return true;
}

static void set_own(SSL_CTX *context, const struct material *m, struct complaints *c)
{
    STACK_OF(X509) *chain = m->certificate.text ? pem_certificates(&m->certificate, c) : NULL;
    EVP_PKEY *key = chain && m->key.text ? pem_private_key(&m->key, c) : NULL;

    ERR_clear_error();
    if (key && !set_chain(context, chain))
        complain(
            c, m->certificate.file, m->certificate.key, 0,
            "cannot be used (%s); write a certificate with a key of at least %d bits strength, "
            "such as P-256 or RSA 2048",
            ERR_reason_error_string(ERR_peek_last_error()), STRENGTH_BITS);
    else if (key && SSL_CTX_use_PrivateKey(context, key) <= 0)
        complain(c, m->key.file, m->key.key, 0,
                 "is not the key of the certificate; write that one");
    ERR_clear_error();
    EVP_PKEY_free(key);
    sk_X509_pop_free(chain, X509_free);
}

static bool add_authorities(SSL_CTX *context, const struct material *m, STACK_OF(X509) * list)
{
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    bool tell = m->server && sk_X509_num(list) <= CA_NAMES_MAX;

    for (int i = 0; i < sk_X509_num(list); i++) {
        X509 *certificate = sk_X509_value(list, i);

        if (X509_STORE_add_cert(store, certificate) <= 0 ||
            (tell && SSL_CTX_add_client_CA(context, certificate) <= 0))
            return false;
    }
    return true;
}

static bool add_crls(SSL_CTX *context, STACK_OF(X509_CRL) * list)
{
    X509_STORE *store = SSL_CTX_get_cert_store(context);

    for (int i = 0; i < sk_X509_CRL_num(list); i++)
        if (X509_STORE_add_crl(store, sk_X509_CRL_value(list, i)) <= 0)
            return false;
    return true;
}

/* Whom to trust. Each authority of a chain needs its CRL, when there are any. */
static void set_trust(SSL_CTX *context, const struct material *m, struct complaints *c)
{
    STACK_OF(X509) *authorities = m->ca.text ? pem_certificates(&m->ca, c) : NULL;
    STACK_OF(X509_CRL) *crls = m->crl.text ? pem_crls(&m->crl, c) : NULL;
    X509_VERIFY_PARAM *parameters = SSL_CTX_get0_param(context);
    unsigned long flags = X509_V_FLAG_PARTIAL_CHAIN; /* an authority need not be a root */

    if (m->crl.text)
        flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
    X509_VERIFY_PARAM_set_flags(parameters, flags);
    if (authorities && !add_authorities(context, m, authorities))
        complain(c, m->ca.file, m->ca.key, 0, "cannot be used (no memory); free some");
    if (crls && !add_crls(context, crls))
        complain(c, m->crl.file, m->crl.key, 0, "cannot be used (no memory); free some");
    sk_X509_pop_free(authorities, X509_free);
    sk_X509_CRL_pop_free(crls, X509_CRL_free);
}

static bool set_name(SSL_CTX *context, const char *name)
{
    X509_VERIFY_PARAM *parameters = SSL_CTX_get0_param(context);
    struct address address;

    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (!name)
        return true;
    if (address_parse(name, &address) == 0)
        return X509_VERIFY_PARAM_set1_ip_asc(parameters, name) > 0;
    return X509_VERIFY_PARAM_set1_host(parameters, name, 0) > 0;
}

/* ---- a context ---- */

static bool set_hint(SSL_CTX *context, const char *hint)
{
    return !hint || !hint[0] || SSL_CTX_use_psk_identity_hint(context, hint) > 0;
}

static bool set_rules(SSL_CTX *context, const struct material *m)
{
    static const unsigned char prefix[] = "coapgw";
    int verify = m->server ? SSL_VERIFY_NONE : SSL_VERIFY_PEER;

    if (m->server && m->clients != CONFIG_CLIENTS_NONE)
        verify = SSL_VERIFY_PEER;
    if (m->server && m->clients == CONFIG_CLIENTS_REQUIRED)
        verify |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(context, verify, NULL);
    SSL_CTX_set_verify_depth(context, VERIFY_DEPTH);
    SSL_CTX_set_security_level(context, STRENGTH_LEVEL);
    SSL_CTX_set_security_callback(context, is_strong);
    SSL_CTX_set_options(context, SSL_OP_NO_QUERY_MTU | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                     SSL_OP_NO_TICKET); /* tickets_attach() comes after this */
    SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return SSL_CTX_set_min_proto_version(context, DTLS1_2_VERSION) > 0 &&
           SSL_CTX_set_max_proto_version(context, DTLS1_2_VERSION) > 0 &&
           SSL_CTX_set_session_id_context(context, prefix, sizeof(prefix) - 1) > 0 &&
           SSL_CTX_set1_groups_list(context, "P-256:X25519:P-384") > 0 &&
           set_suites(context, m->suites) && set_hint(context, m->hint) &&
           set_name(context, m->name);
}

SSL_CTX *context_create(const struct material *m, struct complaints *c)
{
    SSL_CTX *context = SSL_CTX_new(m->server ? DTLS_server_method() : DTLS_client_method());
    unsigned before = c->wrong;

    if (!context || !set_rules(context, m)) {
        fprintf(c->out, "%s: %s[%u].dtls: OpenSSL: %s; free memory, or write other suites\n",
                c->config->file, c->list, c->index, ERR_reason_error_string(ERR_peek_last_error()));
        c->wrong++;
        ERR_clear_error();
    } else {
        set_own(context, m, c);
        set_trust(context, m, c);
    }
    if (c->wrong == before)
        return context;
    SSL_CTX_free(context);
    return NULL;
}

/* ---- what is doubtful ---- */

static void check_dates(const struct pem *pem, const STACK_OF(X509) * list, struct complaints *c,
                        time_t now)
{
    for (int i = 0; i < sk_X509_num(list); i++) {
        X509 *certificate = sk_X509_value(list, i);

        if (X509_cmp_time(X509_get0_notAfter(certificate), &now) < 0)
            complain_softly(c, pem->file, pem->key, 0,
                            "certificate %d of it has expired; write a newer one", i + 1);
        else if (X509_cmp_time(X509_get0_notBefore(certificate), &now) > 0)
            complain_softly(c, pem->file, pem->key, 0,
                            "certificate %d of it is not valid yet; look at the clock", i + 1);
    }
}

static void check_crl_dates(const struct pem *pem, struct complaints *c, time_t now)
{
    struct complaints silent = {.out = c->out, .config = c->config};
    STACK_OF(X509_CRL) *list = pem_crls(pem, &silent);

    for (int i = 0; list && i < sk_X509_CRL_num(list); i++) {
        const ASN1_TIME *next = X509_CRL_get0_nextUpdate(sk_X509_CRL_value(list, i));

        if (next && X509_cmp_time(next, &now) < 0)
            complain_softly(c, pem->file, pem->key, 0,
                            "CRL %d of it is out of date, and all of its certificates are refused; "
                            "write a newer one",
                            i + 1);
    }
    sk_X509_CRL_pop_free(list, X509_CRL_free);
}

/* Of a server: there has to be a suite for its key. */
static void check_key_kind(const struct material *m, X509 *own, struct complaints *c)
{
    int kind = EVP_PKEY_get_base_id(X509_get0_pubkey(own));
    const char *part = kind == EVP_PKEY_RSA || kind == EVP_PKEY_RSA_PSS ? "_RSA_" : "_ECDSA_";

    if (m->server && !has_suite_for(m->suites, part))
        complain(c, m->certificate.file, m->certificate.key, 0,
                 "no suite is for its kind of key; add one with %.*s in its name",
                 (int)strlen(part) - 2, part + 1);
}

unsigned material_check(const struct material *m, struct complaints *c, int64_t now)
{
    STACK_OF(X509) *own = m->certificate.text ? pem_certificates(&m->certificate, c) : NULL;
    STACK_OF(X509) *ca = m->ca.text ? pem_certificates(&m->ca, c) : NULL;
    unsigned count = (unsigned)((own ? sk_X509_num(own) : 0) + (ca ? sk_X509_num(ca) : 0));

    if (own) {
        check_dates(&m->certificate, own, c, (time_t)now);
        check_key_kind(m, sk_X509_value(own, 0), c);
    }
    if (ca)
        check_dates(&m->ca, ca, c, (time_t)now);
    if (m->crl.text)
        check_crl_dates(&m->crl, c, (time_t)now);
    sk_X509_pop_free(own, X509_free);
    sk_X509_pop_free(ca, X509_free);
    return count;
}
