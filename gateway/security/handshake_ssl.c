/* What OpenSSL asks for while it reads and writes messages, and what is read off it afterwards. The
 * callbacks are the context's, the same for all its handshakes; which one it is stands in the SSL
 * object. */
#include "gateway/security/handshake_parts.h"

#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/x509.h>

/* Longer than any handshake lives: OpenSSL looks at the machine's clock, and never finds that
 * anything is due (RFC 6347 4.2.4 is done by the worker's time). */
#define NEVER_US UINT32_C(3600000000)

/* Of a chain of certificates. OpenSSL reserves as much for each message that comes in fragments,
 * and for up to ten that come before their turn. */
#define CHAIN_MAX 16384

static unsigned int wait_for_ever(SSL *ssl, unsigned int before_us)
{
    (void)ssl;
    (void)before_us;
    return NEVER_US;
}

/* Asked again for what hello_verify() has found good. */
static int accept_cookie(SSL *ssl, const unsigned char *cookie, unsigned int length)
{
    (void)ssl;
    (void)cookie;
    (void)length;
    return 1;
}

/* ---- pre-shared keys ---- */

static unsigned int give_server_key(SSL *ssl, const char *identity, unsigned char *key,
                                    unsigned int room)
{
    const struct handshake *h = SSL_get_app_data(ssl);
    const struct exchange *e = &h->exchange;

    /* The key is that of the identity which was looked up. */
    if (h->psk_length > room || !e->identity_length || strlen(identity) != e->identity_length ||
        memcmp(identity, e->bytes + 2, e->identity_length) != 0)
        return 0;
    memcpy(key, h->psk, h->psk_length);
    return h->psk_length;
}

static unsigned int give_client_key(SSL *ssl, const char *hint, char *identity,
                                    unsigned int identity_room, unsigned char *key,
                                    unsigned int key_room)
{
    const struct handshake *h = SSL_get_app_data(ssl);
    uint8_t own[PSK_KEY_MAX];
    const char *name;
    int length = credentials_own_psk(h->side, &name, own);

    (void)hint;
    if (length > 0 && (unsigned)length <= key_room && strlen(name) < identity_room) {
        strcpy(identity, name);
        memcpy(key, own, (size_t)length);
    } else {
        length = 0;
    }
    OPENSSL_cleanse(own, sizeof(own));
    return (unsigned)length;
}

/* ---- Connection IDs: extension 54 (RFC 9146 3) ---- */

static int write_cid(SSL *ssl, unsigned int type, unsigned int where, const unsigned char **out,
                     size_t *length, X509 *certificate, size_t chain_index, int *alert,
                     void *context)
{
    struct handshake *h = SSL_get_app_data(ssl);

    (void)type;
    (void)where;
    (void)certificate;
    (void)chain_index;
    (void)alert;
    (void)context;
    if (!h->cid_wanted || (!h->client && !h->cid_offered))
        return 0;
    h->cid_extension[0] = h->own_cid_length;
    memcpy(h->cid_extension + 1, h->own_cid, h->own_cid_length);
    *out = h->cid_extension;
    *length = 1u + h->own_cid_length;
    h->cid_used = !h->client;
    return 1;
}

static int read_cid(SSL *ssl, unsigned int type, unsigned int where, const unsigned char *in,
                    size_t length, X509 *certificate, size_t chain_index, int *alert, void *context)
{
    struct handshake *h = SSL_get_app_data(ssl);

    (void)type;
    (void)where;
    (void)certificate;
    (void)chain_index;
    (void)context;
    if (length == 0 || in[0] != length - 1) {
        *alert = SSL_AD_DECODE_ERROR;
        return 0;
    }
    if (in[0] > RECORD_CID_MAX) {
        *alert = SSL_AD_ILLEGAL_PARAMETER;
        return !h->client; /* a client's: it is served without (RFC 9146 3 leaves that to us) */
    }
    h->cid_offered = true;
    h->cid_used = h->client;
    h->peer_cid_length = in[0];
    memcpy(h->peer_cid, in + 1, in[0]);
    return 1;
}

/* ---- contexts and objects ---- */

int handshake_prepare(SSL_CTX *context)
{
    if (SSL_CTX_has_client_custom_ext(context, EXTENSION_CID))
        return 0;
    SSL_CTX_set_cookie_verify_cb(context, accept_cookie);
    SSL_CTX_set_psk_server_callback(context, give_server_key);
    SSL_CTX_set_psk_client_callback(context, give_client_key);
    if (SSL_CTX_add_custom_ext(context, EXTENSION_CID,
                               SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_2_SERVER_HELLO, write_cid, NULL,
                               NULL, read_cid, NULL) == 1)
        return 0;
    return -ENOMEM;
}

SSL *handshake_ssl_create(struct handshake *h, SSL_CTX *context)
{
    SSL *ssl = handshake_prepare(context) == 0 ? SSL_new(context) : NULL;
    BIO *bio = ssl ? bio_create(h->all->bio, h) : NULL;

    if (!bio) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_bio(ssl, bio, bio);
    SSL_set_app_data(ssl, h);
    SSL_set_options(ssl, SSL_OP_NO_QUERY_MTU);
    SSL_set_mtu(ssl, h->room);
    SSL_set_max_cert_list(ssl, CHAIN_MAX);
    DTLS_set_timer_cb(ssl, wait_for_ever);
    return ssl;
}

/* ---- who the peer is ---- */

static void name_by_identity(struct handshake *h, const char *identity)
{
    if (identity)
        (void)principal_set(&h->principal, PRINCIPAL_PSK, identity, strlen(identity));
}

static void name_by_certificate(struct handshake *h, const X509 *certificate)
{
    if (SSL_get_verify_result(h->ssl) != X509_V_OK)
        handshake_fail(h, ALERT_BAD_CERTIFICATE, "the certificate was not verified");
    else if (principal_of_certificate(certificate, &h->principal) != 0 && !h->client)
        handshake_fail(h, ALERT_BAD_CERTIFICATE, "the certificate has no name, or too long a one");
}

/* A session that is resumed has the identity or the certificate of the handshake that it is of. */
void handshake_certify(struct handshake *h)
{
    const X509 *certificate = SSL_get0_peer_certificate(h->ssl);
    bool resumed = SSL_session_reused(h->ssl);

    if (h->certified || (!certificate && !resumed))
        return;
    h->certified = true;
    if (certificate)
        name_by_certificate(h, certificate);
    else if (!h->client)
        name_by_identity(h, SSL_get_psk_identity(h->ssl));
    if (h->state == HANDSHAKE_FAILED || h->client || credentials_admit(h->side, &h->principal))
        return;
    handshake_fail(h, certificate ? ALERT_ACCESS_DENIED : ALERT_UNKNOWN_PSK_IDENTITY,
                   "the name is not admitted");
}

void handshake_settle(struct handshake *h)
{
    h->resumed = SSL_session_reused(h->ssl);
    h->extended_master_secret = SSL_get_extms_support(h->ssl) == 1;
    h->last_is_ours = h->client == h->resumed;
    if (!h->certified && !h->client)
        name_by_identity(h, SSL_get_psk_identity(h->ssl));
}
