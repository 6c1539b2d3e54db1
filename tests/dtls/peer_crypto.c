/* The primitives: AEAD, PRF and digest of libcrypto. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "tests/dtls/peer_parts.h"

static const struct suite suites[PEER_SUITES] = {
    {PEER_SUITE_CCM8, 0, 16, 4, 8, 8, "ccm8"},
    {PEER_SUITE_GCM, 1, 16, 4, 8, 16, "gcm"},
    {PEER_SUITE_CHACHA, 2, 32, 12, 0, 16, "chacha"},
};

enum direction { OPEN, SEAL, DIRECTIONS };

/* A context and the key that it was last used with: a new key takes as long as a short record does,
 * so that a few hundred associations do without. */
struct keyed {
    EVP_CIPHER_CTX *context;
    bool has_key;
    uint8_t key[PEER_KEY_MAX];
};

#define PLACES 256

struct peer_crypto {
    struct keyed aead[PEER_SUITES][DIRECTIONS][PLACES];
    EVP_KDF_CTX *kdf;
    EVP_MD *digest;
};

const struct suite *peer_suite_find(uint16_t id)
{
    for (unsigned i = 0; i < PEER_SUITES; i++)
        if (suites[i].id == id)
            return &suites[i];
    return NULL;
}

const char *peer_suite_name(uint16_t suite)
{
    const struct suite *found = peer_suite_find(suite);

    return found ? found->name : NULL;
}

static bool aead_create(struct keyed *k, unsigned suite, enum direction direction)
{
    const EVP_CIPHER *ciphers[PEER_SUITES] = {EVP_aes_128_ccm(), EVP_aes_128_gcm(),
                                              EVP_chacha20_poly1305()};
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

    if (context && EVP_CipherInit_ex(context, ciphers[suite], NULL, NULL, NULL, direction) == 1 &&
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, PEER_IV_MAX, NULL) == 1) {
        k->context = context;
        return true;
    }
    EVP_CIPHER_CTX_free(context);
    return false;
}

struct peer_crypto *peer_crypto_create(void)
{
    struct peer_crypto *crypto = calloc(1, sizeof(*crypto));
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
    bool whole;

    if (!crypto || !kdf) {
        EVP_KDF_free(kdf);
        free(crypto);
        return NULL;
    }
    crypto->kdf = EVP_KDF_CTX_new(kdf);
    EVP_KDF_free(kdf);
    crypto->digest = EVP_MD_fetch(NULL, "SHA256", NULL);
    whole = crypto->kdf && crypto->digest;
    for (unsigned i = 0; whole && i < PEER_SUITES; i++)
        for (unsigned d = 0; whole && d < DIRECTIONS; d++)
            whole = aead_create(&crypto->aead[i][d][0], i, (enum direction)d);
    if (whole)
        return crypto;
    peer_crypto_destroy(crypto);
    return NULL;
}

void peer_crypto_destroy(struct peer_crypto *crypto)
{
    if (!crypto)
        return;
    for (unsigned i = 0; i < PEER_SUITES; i++)
        for (unsigned d = 0; d < DIRECTIONS; d++)
            for (unsigned j = 0; j < PLACES; j++)
                EVP_CIPHER_CTX_free(crypto->aead[i][d][j].context);
    EVP_KDF_CTX_free(crypto->kdf);
    EVP_MD_free(crypto->digest);
    OPENSSL_cleanse(crypto, sizeof(*crypto));
    free(crypto);
}

/* The place of a key; keys are as good as random. The first one of all is there from the start, and
 * stands in where there is no memory for another. */
static struct keyed *aead_place(struct peer_crypto *crypto, const struct suite *suite,
                                enum direction direction, const uint8_t *key)
{
    struct keyed *places = crypto->aead[suite->index][direction];
    struct keyed *k = &places[key[0] % PLACES];

    return k->context || aead_create(k, suite->index, direction) ? k : places;
}

/* Key, nonce, tag and additional data; CCM wants the lengths before the data. `tag` is NULL when
 * sealing. */
static EVP_CIPHER_CTX *aead_begin(struct peer_crypto *crypto, const struct suite *suite,
                                  const struct aead_call *call, const uint8_t *tag, size_t length)
{
    struct keyed *k = aead_place(crypto, suite, tag ? OPEN : SEAL, call->key);
    bool ccm = suite->id == PEER_SUITE_CCM8;
    bool same = k->has_key && memcmp(k->key, call->key, suite->key_bytes) == 0;
    int n;

    k->has_key = false; /* should anything fail */
    if (((ccm && !same) || tag) &&
        EVP_CIPHER_CTX_ctrl(k->context, EVP_CTRL_AEAD_SET_TAG, suite->tag_bytes,
                            (void *)(uintptr_t)tag) != 1)
        return NULL;
    if (EVP_CipherInit_ex(k->context, NULL, NULL, same ? NULL : call->key, call->nonce, -1) != 1)
        return NULL;
    if (ccm && EVP_CipherUpdate(k->context, NULL, &n, NULL, (int)length) != 1)
        return NULL;
    if (EVP_CipherUpdate(k->context, NULL, &n, call->aad, (int)call->aad_length) != 1)
        return NULL;
    if (!same)
        memcpy(k->key, call->key, suite->key_bytes);
    k->has_key = true;
    return k->context;
}

int peer_aead_seal(struct peer_crypto *crypto, const struct suite *suite,
                   const struct aead_call *call, const uint8_t *plain, size_t length, uint8_t *out)
{
    EVP_CIPHER_CTX *context = aead_begin(crypto, suite, call, NULL, length);
    uint8_t none[1] = {0};
    int n;

    if (!context || EVP_CipherUpdate(context, out, &n, length ? plain : none, (int)length) != 1 ||
        EVP_CipherFinal_ex(context, out + length, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, suite->tag_bytes, out + length) != 1)
        return -EIO;
    return 0;
}

int peer_aead_open(struct peer_crypto *crypto, const struct suite *suite,
                   const struct aead_call *call, const uint8_t *sealed, size_t length, uint8_t *out)
{
    EVP_CIPHER_CTX *context;
    size_t plain;
    int n;

    if (length < suite->tag_bytes)
        return -EBADMSG;
    plain = length - suite->tag_bytes;
    context = aead_begin(crypto, suite, call, sealed + plain, plain);
    if (!context || EVP_CipherUpdate(context, out, &n, sealed, (int)plain) != 1)
        return -EBADMSG;
    /* CCM has checked the tag by now, and knows no end. */
    if (suite->id != PEER_SUITE_CCM8 && EVP_CipherFinal_ex(context, out + plain, &n) != 1)
        return -EBADMSG;
    return 0;
}

int peer_prf(struct peer_crypto *crypto, const uint8_t *secret, size_t secret_length,
             const char *label, const uint8_t *seed, size_t seed_length, uint8_t *out,
             size_t length)
{
    char digest[] = "SHA256";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, (void *)(uintptr_t)secret,
                                          secret_length),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, (void *)(uintptr_t)label,
                                          strlen(label)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, (void *)(uintptr_t)seed,
                                          seed_length),
        OSSL_PARAM_construct_end(),
    };

    EVP_KDF_CTX_reset(crypto->kdf);
    return EVP_KDF_derive(crypto->kdf, out, length, parameters) == 1 ? 0 : -EIO;
}

int peer_hash(struct peer_crypto *crypto, const uint8_t *data, size_t length,
              uint8_t out[HASH_BYTES])
{
    return EVP_Digest(data, length, out, NULL, crypto->digest, NULL) == 1 ? 0 : -EIO;
}

void peer_nonce_write(const struct suite *suite, const uint8_t *iv, uint64_t number,
                      uint8_t nonce[PEER_IV_MAX])
{
    memset(nonce, 0, PEER_IV_MAX);
    memcpy(nonce, iv, suite->iv_bytes);
    for (unsigned i = 0; i < 8; i++)
        nonce[4 + i] ^= (uint8_t)(number >> 8 * (7 - i));
}
