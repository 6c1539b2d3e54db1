/* Secrets: RFC 5246 6.3 and 8.1, RFC 4279 2, RFC 7627 4. */
#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>

#include "tests/dtls/peer_parts.h"

#define KEY_BLOCK_MAX (2 * (PEER_KEY_MAX + PEER_IV_MAX))

int peer_keys_master(struct peer *p)
{
    struct peer_handshake *h = p->handshake;
    struct bytes premaster = {0};
    uint8_t seed[2 * RANDOM_BYTES];
    size_t length = 2 * RANDOM_BYTES;
    int error = 0;

    peer_bytes_put_number(&premaster, p->setup.key_length, 2);
    for (unsigned i = 0; i < p->setup.key_length; i++)
        peer_bytes_put_number(&premaster, 0, 1);
    peer_bytes_put_number(&premaster, p->setup.key_length, 2);
    peer_bytes_put(&premaster, p->setup.key, p->setup.key_length);
    memcpy(seed, h->random, RANDOM_BYTES);
    memcpy(seed + RANDOM_BYTES, h->server_random, RANDOM_BYTES);
    if (p->extended) {
        length = HASH_BYTES;
        error = peer_hash(p->setup.crypto, h->transcript.data, h->transcript.length, seed);
    }
    if (premaster.failed || h->transcript.failed)
        error = -ENOMEM;
    if (error == 0)
        error = peer_prf(p->setup.crypto, premaster.data, premaster.length,
                         p->extended ? "extended master secret" : "master secret", seed, length,
                         p->master, PEER_MASTER_BYTES);
    peer_bytes_free(&premaster);
    return error;
}

static const uint8_t *cut(const uint8_t *from, uint8_t *to, size_t length)
{
    memcpy(to, from, length);
    return from + length;
}

int peer_keys_expand(struct peer *p)
{
    const struct suite *suite = peer_suite_find(p->suite);
    const uint8_t *random = p->handshake->random, *server_random = p->handshake->server_random;
    uint8_t seed[2 * RANDOM_BYTES], block[KEY_BLOCK_MAX];
    const uint8_t *at = block;
    int error;

    memcpy(seed, server_random, RANDOM_BYTES);
    memcpy(seed + RANDOM_BYTES, random, RANDOM_BYTES);
    error = peer_prf(p->setup.crypto, p->master, PEER_MASTER_BYTES, "key expansion", seed,
                     sizeof(seed), block, 2u * (suite->key_bytes + suite->iv_bytes));
    if (error < 0)
        return error;
    at = cut(at, p->write.key, suite->key_bytes);
    at = cut(at, p->read.key, suite->key_bytes);
    at = cut(at, p->write.iv, suite->iv_bytes);
    cut(at, p->read.iv, suite->iv_bytes);
    OPENSSL_cleanse(block, sizeof(block));
    p->ready = true;
    return 0;
}

int peer_keys_finished(struct peer *p, const char *label, uint8_t out[VERIFY_BYTES])
{
    struct bytes *transcript = &p->handshake->transcript;
    uint8_t digest[HASH_BYTES];
    int error;

    if (transcript->failed)
        return -ENOMEM;
    error = peer_hash(p->setup.crypto, transcript->data, transcript->length, digest);
    if (error < 0)
        return error;
    return peer_prf(p->setup.crypto, p->master, PEER_MASTER_BYTES, label, digest, HASH_BYTES, out,
                    VERIFY_BYTES);
}
