#include "gateway/security/ticket.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

/* ---- keys ---- */

/* HKDF-SHA256, the period as its info. */
static int derive(const uint8_t secret[TICKET_SECRET_BYTES], uint64_t period,
                  struct ticket_key *out)
{
    static char salt[] = "coapgw session tickets", digest[] = "SHA256";
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    uint8_t info[8];
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret,
                                          TICKET_SECRET_BYTES),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, sizeof(salt) - 1),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof(info)),
        OSSL_PARAM_construct_end(),
    };
    int good;

    for (unsigned i = 0; i < sizeof(info); i++)
        info[i] = (uint8_t)(period >> (56 - 8 * i));
    good = context && EVP_KDF_derive(context, (uint8_t *)out, sizeof(*out), parameters) > 0;
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return good ? 0 : -ENOMEM;
}
_Static_assert(sizeof(struct ticket_key) == 80, "derived as bytes");

/* Those of now and of the periods before. */
static int turn_over(struct tickets *t)
{
    uint64_t period = atomic_load_explicit(t->now_s, memory_order_relaxed) / TICKET_PERIOD_S + 1;
    int err = 0;

    if (period == t->period)
        return 0;
    for (unsigned i = 0; i < TICKET_PERIODS && !err; i++)
        err = derive(t->secret, period - i, &t->keys[i]);
    t->period = err ? 0 : period;
    return err;
}

/* ---- OpenSSL's callbacks ---- */

static int context_index;

static void make_index(void)
{
    context_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static int set_mac(EVP_MAC_CTX *mac, struct ticket_key *key)
{
    static char digest[] = "SHA256";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_MAC_CTX_set_params(mac, parameters);
}

static int seal(struct ticket_key *key, uint8_t *name, uint8_t *iv, EVP_CIPHER_CTX *cipher,
                EVP_MAC_CTX *mac)
{
    memcpy(name, key->name, sizeof(key->name));
    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) <= 0 ||
        EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv) <= 0 ||
        set_mac(mac, key) <= 0)
        return -1;
    return 1;
}

/* 0: no key of ours; 1; 2: one of before, so that the client gets a new ticket. */
static int open_ticket(struct tickets *t, const uint8_t *name, const uint8_t *iv,
                       EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    for (unsigned i = 0; i < TICKET_PERIODS; i++) {
        struct ticket_key *key = &t->keys[i];

        if (memcmp(name, key->name, sizeof(key->name)) != 0)
            continue;
        if (EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv) <= 0 ||
            set_mac(mac, key) <= 0)
            return -1;
        return i == 0 ? 1 : 2;
    }
    return 0;
}

static int on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                         EVP_MAC_CTX *mac, int sealing)
{
    struct tickets *t = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_index);

    if (turn_over(t) < 0)
        return sealing ? -1 : 0;
    return sealing ? seal(&t->keys[0], name, iv, cipher, mac)
                   : open_ticket(t, name, iv, cipher, mac);
}

/* A certificate that has expired since is not let in by a ticket; one that has been revoked is not,
 * because the keys follow from the CRL, too. */
static SSL_TICKET_RETURN on_ticket(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                   size_t length, SSL_TICKET_STATUS status, void *argument)
{
    struct tickets *t = argument;
    X509 *peer = session ? SSL_SESSION_get0_peer(session) : NULL;
    time_t now = (time_t)atomic_load_explicit(t->now_s, memory_order_relaxed);

    (void)ssl;
    (void)name;
    (void)length;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (peer && X509_cmp_time(X509_get0_notAfter(peer), &now) < 0)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

int tickets_attach(struct tickets *tickets, SSL_CTX *context)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_index);
    if (turn_over(tickets) < 0 || !SSL_CTX_set_ex_data(context, context_index, tickets) ||
        !SSL_CTX_set_tlsext_ticket_key_evp_cb(context, on_ticket_key) ||
        !SSL_CTX_set_session_ticket_cb(context, NULL, on_ticket, tickets))
        return -ENOMEM;
    SSL_CTX_set_timeout(context, TICKET_LIFE_S);
    return 0;
}
