/* The primitives: AEAD, PRF and digest of libcrypto. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "tests/dtls/peer_parts.h"

static const struct suite suites[PEER_SUITES] = {
    {PEER_SUITE_CCM8, 0, 16, 4, 8, 8, "ccm8"},
    {PEER_SUITE_GCM, 1, 16, 4, 8, 16, "gcm"},
    {PEER_SUITE_CHACHA, 2, 32, 12, 0, 16, "chacha"},
};

enum direction { OPEN, SEAL, DIRECTIONS };

struct peer_crypto {
    EVP_CIPHER_CTX *aead[PEER_SUITES][DIRECTIONS];
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

static EVP_CIPHER_CTX *aead_create(const EVP_CIPHER *cipher, enum direction direction)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

    if (context && EVP_CipherInit_ex(context, cipher, NULL, NULL, NULL, direction) == 1 &&
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, PEER_IV_MAX, NULL) == 1)
        return context;
    EVP_CIPHER_CTX_free(context);
    return NULL;
}

struct peer_crypto *peer_crypto_create(void)
{
    const EVP_CIPHER *ciphers[PEER_SUITES] = {EVP_aes_128_ccm(), EVP_aes_128_gcm(),
                                              EVP_chacha20_poly1305()};
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
    for (unsigned i = 0; i < PEER_SUITES; i++)
        for (unsigned d = 0; d < DIRECTIONS; d++) {
            crypto->aead[i][d] = aead_create(ciphers[i], (enum direction)d);
            whole &= crypto->aead[i][d] != NULL;
        }
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
            EVP_CIPHER_CTX_free(crypto->aead[i][d]);
    EVP_KDF_CTX_free(crypto->kdf);
    EVP_MD_free(crypto->digest);
    free(crypto);
}

/* Key, nonce, tag and additional data; CCM wants the lengths before the data. `tag` is NULL when
 * sealing. */
static bool aead_begin(EVP_CIPHER_CTX *context, const struct suite *suite,
                       const struct aead_call *call, const uint8_t *tag, size_t length)
{
    bool ccm = suite->id == PEER_SUITE_CCM8;
    int n;

    if ((ccm || tag) && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, suite->tag_bytes,
                                            (void *)(uintptr_t)tag) != 1)
        return false;
    if (EVP_CipherInit_ex(context, NULL, NULL, call->key, call->nonce, -1) != 1)
        return false;
    if (ccm && EVP_CipherUpdate(context, NULL, &n, NULL, (int)length) != 1)
        return false;
    return EVP_CipherUpdate(context, NULL, &n, call->aad, (int)call->aad_length) == 1;
}

int peer_aead_seal(struct peer_crypto *crypto, const struct suite *suite,
                   const struct aead_call *call, const uint8_t *plain, size_t length, uint8_t *out)
{
    EVP_CIPHER_CTX *context = crypto->aead[suite->index][SEAL];
    uint8_t none[1] = {0};
    int n;

    if (!aead_begin(context, suite, call, NULL, length) ||
        EVP_CipherUpdate(context, out, &n, length ? plain : none, (int)length) != 1 ||
        EVP_CipherFinal_ex(context, out + length, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, suite->tag_bytes, out + length) != 1)
        return -EIO;
    return 0;
}

int peer_aead_open(struct peer_crypto *crypto, const struct suite *suite,
                   const struct aead_call *call, const uint8_t *sealed, size_t length, uint8_t *out)
{
    EVP_CIPHER_CTX *context = crypto->aead[suite->index][OPEN];
    size_t plain;
    int n;

    if (length < suite->tag_bytes)
        return -EBADMSG;
    plain = length - suite->tag_bytes;
    if (!aead_begin(context, suite, call, sealed + plain, plain) ||
        EVP_CipherUpdate(context, out, &n, sealed, (int)plain) != 1)
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
