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
    if (length <= 0 || (unsigned)length > key_room || strlen(name) >= identity_room)
        return 0;
    strcpy(identity, name);
    memcpy(key, own, (size_t)length);
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

/* ---- tickets: who the client is goes with them ---- */

static void peer_of(const struct handshake *h, struct principal *out)
{
    const struct exchange *e = &h->exchange;

    if (h->principal.kind != PRINCIPAL_NONE)
        *out = h->principal;
    else if (!e->given || principal_set(out, PRINCIPAL_PSK, e->bytes + 2, e->identity_length) != 0)
        memset(out, 0, sizeof(*out));
}

static int write_ticket(SSL *ssl, void *context)
{
    const struct handshake *h = SSL_get_app_data(ssl);
    struct principal peer;

    (void)context;
    peer_of(h, &peer);
    return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), &peer, sizeof(peer));
}

/* Who is not admitted any more goes through a whole handshake, and gets the alert that belongs to
 * it. */
static bool ticket_admits(struct handshake *h, SSL_SESSION *session)
{
    struct principal peer;
    size_t length;
    void *data;

    if (SSL_SESSION_get0_ticket_appdata(session, &data, &length) != 1 || length != sizeof(peer))
        return false;
    memcpy(&peer, data, sizeof(peer));
    if (peer.kind != PRINCIPAL_NONE && !credentials_admit(h->side, &peer))
        return false;
    h->principal = peer;
    return true;
}

static SSL_TICKET_RETURN read_ticket(SSL *ssl, SSL_SESSION *session, const unsigned char *key_name,
                                     size_t key_name_length, SSL_TICKET_STATUS status,
                                     void *context)
{
    struct handshake *h = SSL_get_app_data(ssl);

    (void)key_name;
    (void)key_name_length;
    (void)context;
    if ((status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW) ||
        !ticket_admits(h, session))
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

/* ---- contexts and objects ---- */

int handshake_prepare(SSL_CTX *context)
{
    if (SSL_CTX_has_client_custom_ext(context, EXTENSION_CID))
        return 0;
    SSL_CTX_set_cookie_verify_cb(context, accept_cookie);
    SSL_CTX_set_psk_server_callback(context, give_server_key);
    SSL_CTX_set_psk_client_callback(context, give_client_key);
    if (SSL_CTX_set_session_ticket_cb(context, write_ticket, read_ticket, NULL) == 1 &&
        SSL_CTX_add_custom_ext(context, EXTENSION_CID,
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
    DTLS_set_timer_cb(ssl, wait_for_ever);
    return ssl;
}

void handshake_certify(struct handshake *h)
{
    const X509 *certificate = h->client || h->certified ? NULL : SSL_get0_peer_certificate(h->ssl);

    if (!certificate || SSL_session_reused(h->ssl))
        return;
    h->certified = true;
    if (SSL_get_verify_result(h->ssl) != X509_V_OK)
        handshake_fail(h, ALERT_BAD_CERTIFICATE, "the certificate was not verified");
    else if (principal_of_certificate(certificate, &h->principal) != 0)
        handshake_fail(h, ALERT_BAD_CERTIFICATE, "the certificate has no name, or too long a one");
    else if (!credentials_admit(h->side, &h->principal))
        handshake_fail(h, ALERT_ACCESS_DENIED, "the certificate's name is not admitted");
}

/* A client that was shown a certificate has verified it, whatever the context says. */
static void settle_server(struct handshake *h)
{
    const X509 *certificate = SSL_get0_peer_certificate(h->ssl);

    memset(&h->principal, 0, sizeof(h->principal));
    if (!certificate)
        return;
    if (SSL_get_verify_result(h->ssl) != X509_V_OK)
        handshake_fail(h, ALERT_BAD_CERTIFICATE, "the server's certificate was not verified");
    else
        (void)principal_of_certificate(certificate, &h->principal);
}

void handshake_settle(struct handshake *h)
{
    h->resumed = SSL_session_reused(h->ssl);
    h->extended_master_secret = SSL_get_extms_support(h->ssl) == 1;
    h->last_is_ours = h->client == h->resumed;
    if (!h->resumed && !h->certified)
        memset(&h->principal, 0, sizeof(h->principal)); /* of a ticket that was not used */
    if (h->client)
        settle_server(h);
    else if (!h->resumed)
        peer_of(h, &h->principal);
}
