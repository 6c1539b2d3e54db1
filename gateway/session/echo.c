#include "gateway/session/echo.h"

#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#define KEY_BYTES  16
#define MAC_BYTES  8
#define TIME_BYTES (ECHO_BYTES - MAC_BYTES)

struct echo {
    EVP_MAC_CTX *context; /* SipHash with an output of 8 bytes */
    uint8_t key[KEY_BYTES];
};

struct echo *echo_create(struct random *random)
{
    struct echo *echo = calloc(1, sizeof(*echo));
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);

    if (echo && mac)
        echo->context = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);
    if (!echo || !echo->context) {
        echo_destroy(echo);
        return NULL;
    }
    for (unsigned i = 0; i < KEY_BYTES; i += 8) {
        uint64_t word = random_u64(random);

        memcpy(echo->key + i, &word, 8);
    }
    return echo;
}

void echo_destroy(struct echo *echo)
{
    if (!echo)
        return;
    EVP_MAC_CTX_free(echo->context);
    OPENSSL_cleanse(echo->key, sizeof(echo->key));
    free(echo);
}

/* False when OpenSSL fails. */
static bool write_mac(struct echo *echo, const struct flow *flow, const uint8_t time[TIME_BYTES],
                      uint8_t out[MAC_BYTES])
{
    size_t size = MAC_BYTES, length;
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
        OSSL_PARAM_construct_end(),
    };

    return EVP_MAC_init(echo->context, echo->key, KEY_BYTES, parameters) == 1 &&
           EVP_MAC_update(echo->context, (const uint8_t *)flow, sizeof(*flow)) == 1 &&
           EVP_MAC_update(echo->context, time, TIME_BYTES) == 1 &&
           EVP_MAC_final(echo->context, out, &length, MAC_BYTES) == 1 && length == MAC_BYTES;
}

void echo_make(struct echo *echo, const struct flow *flow, uint64_t now_us, uint8_t out[ECHO_BYTES])
{
    uint32_t now_s = (uint32_t)(now_us / 1000000);

    for (unsigned i = 0; i < TIME_BYTES; i++)
        out[i] = (uint8_t)(now_s >> (24 - 8 * i));
    if (!write_mac(echo, flow, out, out + TIME_BYTES))
        memset(out + TIME_BYTES, 0, MAC_BYTES); /* it will prove nothing */
}

enum echo_verdict echo_verify(struct echo *echo, const struct flow *flow, uint64_t now_us,
                              const uint8_t *value, size_t length)
{
    uint32_t now_s = (uint32_t)(now_us / 1000000), then_s = 0;
    uint8_t mac[MAC_BYTES];

    if (length != ECHO_BYTES || !write_mac(echo, flow, value, mac) ||
        CRYPTO_memcmp(mac, value + TIME_BYTES, MAC_BYTES) != 0)
        return ECHO_FOREIGN;
    for (unsigned i = 0; i < TIME_BYTES; i++)
        then_s = then_s << 8 | value[i];
    return now_s - then_s > ECHO_LIFETIME_S ? ECHO_STALE : ECHO_PROOF;
}
