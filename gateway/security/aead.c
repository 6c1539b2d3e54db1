#include "gateway/security/aead.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

/* What OpenSSL has a cipher for. CCM with short and with long tags is one. */
enum kind {
    KIND_AES_128_CCM,
    KIND_AES_128_GCM,
    KIND_AES_256_GCM,
    KIND_AES_256_CCM,
    KIND_CHACHA20_POLY1305,
    KIND_COUNT,
};

static const char *const kind_names[KIND_COUNT] = {
    [KIND_AES_128_CCM] = "AES-128-CCM",
    [KIND_AES_128_GCM] = "AES-128-GCM",
    [KIND_AES_256_GCM] = "AES-256-GCM",
    [KIND_AES_256_CCM] = "AES-256-CCM",
    [KIND_CHACHA20_POLY1305] = "ChaCha20-Poly1305",
};

/* RFC 9147 4.5.3: 2^24.5 records sealed by GCM, rounded down; 2^23 sealed and 2^23.5 refused by
 * CCM, which is said of tags of 16 bytes. Its shorter ones are to go with "additional safeguards":
 * the association's end at the same number is ours. ChaCha20-Poly1305 outlasts the sequence
 * numbers. */
#define CCM_LIMIT   (UINT64_C(1) << 23)
#define GCM_LIMIT   UINT64_C(23726566)
#define NO_LIMIT    (UINT64_C(1) << 48)
#define OTHER_LIMIT (UINT64_C(1) << 36)

static const struct suite_row {
    const char *name, *digest;
    enum kind kind;
    bool ccm;
    uint8_t key_bytes, salt_bytes, explicit_bytes, tag_bytes;
    uint64_t seal_limit, forgery_limit;
} suites[SUITE_COUNT] = {
    [SUITE_AES_128_CCM_8] = {"AES-128-CCM-8", "SHA256", KIND_AES_128_CCM, true, 16, 4, 8, 8,
                             CCM_LIMIT, CCM_LIMIT},
    [SUITE_AES_128_CCM] = {"AES-128-CCM", "SHA256", KIND_AES_128_CCM, true, 16, 4, 8, 16, CCM_LIMIT,
                           CCM_LIMIT},
    [SUITE_AES_128_GCM] = {"AES-128-GCM", "SHA256", KIND_AES_128_GCM, false, 16, 4, 8, 16,
                           GCM_LIMIT, OTHER_LIMIT},
    [SUITE_AES_256_GCM] = {"AES-256-GCM", "SHA384", KIND_AES_256_GCM, false, 32, 4, 8, 16,
                           GCM_LIMIT, OTHER_LIMIT},
    [SUITE_AES_256_CCM_8] = {"AES-256-CCM-8", "SHA256", KIND_AES_256_CCM, true, 32, 4, 8, 8,
                             CCM_LIMIT, CCM_LIMIT},
    [SUITE_AES_256_CCM] = {"AES-256-CCM", "SHA256", KIND_AES_256_CCM, true, 32, 4, 8, 16, CCM_LIMIT,
                           CCM_LIMIT},
    [SUITE_CHACHA20_POLY1305] = {"ChaCha20-Poly1305", "SHA256", KIND_CHACHA20_POLY1305, false, 32,
                                 12, 0, 16, NO_LIMIT, OTHER_LIMIT},
};

/* By IANA's number, in order. OpenSSL 3.0 negotiates all but the four of ECDHE_PSK that begin with
 * 0xD0 (RFC 8442). */
static const struct {
    uint16_t number;
    uint8_t suite;
} numbers[] = {
    {0x00a8, SUITE_AES_128_GCM},       /* PSK */
    {0x00a9, SUITE_AES_256_GCM},       /* PSK */
    {0x00aa, SUITE_AES_128_GCM},       /* DHE_PSK */
    {0x00ab, SUITE_AES_256_GCM},       /* DHE_PSK */
    {0xc02b, SUITE_AES_128_GCM},       /* ECDHE_ECDSA */
    {0xc02c, SUITE_AES_256_GCM},       /* ECDHE_ECDSA */
    {0xc02f, SUITE_AES_128_GCM},       /* ECDHE_RSA */
    {0xc030, SUITE_AES_256_GCM},       /* ECDHE_RSA */
    {0xc0a4, SUITE_AES_128_CCM},       /* PSK */
    {0xc0a5, SUITE_AES_256_CCM},       /* PSK */
    {0xc0a6, SUITE_AES_128_CCM},       /* DHE_PSK */
    {0xc0a7, SUITE_AES_256_CCM},       /* DHE_PSK */
    {0xc0a8, SUITE_AES_128_CCM_8},     /* PSK */
    {0xc0a9, SUITE_AES_256_CCM_8},     /* PSK */
    {0xc0aa, SUITE_AES_128_CCM_8},     /* DHE_PSK */
    {0xc0ab, SUITE_AES_256_CCM_8},     /* DHE_PSK */
    {0xc0ac, SUITE_AES_128_CCM},       /* ECDHE_ECDSA */
    {0xc0ad, SUITE_AES_256_CCM},       /* ECDHE_ECDSA */
    {0xc0ae, SUITE_AES_128_CCM_8},     /* ECDHE_ECDSA */
    {0xc0af, SUITE_AES_256_CCM_8},     /* ECDHE_ECDSA */
    {0xcca8, SUITE_CHACHA20_POLY1305}, /* ECDHE_RSA */
    {0xcca9, SUITE_CHACHA20_POLY1305}, /* ECDHE_ECDSA */
    {0xccab, SUITE_CHACHA20_POLY1305}, /* PSK */
    {0xccac, SUITE_CHACHA20_POLY1305}, /* ECDHE_PSK */
    {0xccad, SUITE_CHACHA20_POLY1305}, /* DHE_PSK */
    {0xd001, SUITE_AES_128_GCM},       /* ECDHE_PSK */
    {0xd002, SUITE_AES_256_GCM},       /* ECDHE_PSK */
    {0xd003, SUITE_AES_128_CCM_8},     /* ECDHE_PSK */
    {0xd005, SUITE_AES_128_CCM},       /* ECDHE_PSK */
};

/* One context and whose key it has. */
struct place {
    uint64_t slot; /* AEAD_NO_SLOT: nobody's */
    EVP_CIPHER_CTX *context;
    uint8_t suite;
    bool sealing;
};

struct aead {
    uint64_t mask; /* places of a kind, less one */
    unsigned contexts;
    struct place *places[KIND_COUNT]; /* NULL: not prepared */
    struct place spare[KIND_COUNT];   /* for what has no place */
    EVP_CIPHER *ciphers[KIND_COUNT];
};

bool suite_of(uint16_t cipher_suite, enum suite *out)
{
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (numbers[i].number == cipher_suite) {
            *out = numbers[i].suite;
            return true;
        }
    return false;
}

const char *suite_name(enum suite suite)
{
    return suites[suite].name;
}

const char *suite_digest(enum suite suite)
{
    return suites[suite].digest;
}

unsigned suite_key_bytes(enum suite suite)
{
    return suites[suite].key_bytes;
}

unsigned suite_salt_bytes(enum suite suite)
{
    return suites[suite].salt_bytes;
}

unsigned suite_explicit_bytes(enum suite suite)
{
    return suites[suite].explicit_bytes;
}

unsigned suite_tag_bytes(enum suite suite)
{
    return suites[suite].tag_bytes;
}

uint64_t suite_seal_limit(enum suite suite)
{
    return suites[suite].seal_limit;
}

uint64_t suite_forgery_limit(enum suite suite)
{
    return suites[suite].forgery_limit;
}

/* A context that has all but a key. */
static bool place_make(struct place *place, EVP_CIPHER *cipher)
{
    *place = (struct place){.slot = AEAD_NO_SLOT, .suite = SUITE_COUNT};
    place->context = EVP_CIPHER_CTX_new();
    return place->context &&
           EVP_CipherInit_ex(place->context, cipher, NULL, NULL, NULL, true) == 1 &&
           EVP_CIPHER_CTX_ctrl(place->context, EVP_CTRL_AEAD_SET_IVLEN, AEAD_NONCE_BYTES, NULL) ==
               1;
}

static void places_free(struct place *places, unsigned count)
{
    for (unsigned i = 0; places && i < count; i++)
        EVP_CIPHER_CTX_free(places[i].context); /* which wipes the key */
    free(places);
}

struct aead *aead_create(unsigned contexts)
{
    struct aead *aead = calloc(1, sizeof(*aead));

    if (!aead)
        return NULL;
    if (contexts)
        for (aead->contexts = 1; aead->contexts < contexts && aead->contexts < 1u << 31;)
            aead->contexts <<= 1;
    aead->mask = aead->contexts - (uint64_t)1;
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        aead->ciphers[kind] = EVP_CIPHER_fetch(NULL, kind_names[kind], NULL);
        if (!aead->ciphers[kind] || !place_make(&aead->spare[kind], aead->ciphers[kind])) {
            ERR_clear_error();
            aead_destroy(aead);
            return NULL;
        }
    }
    return aead;
}

void aead_destroy(struct aead *aead)
{
    if (!aead)
        return;
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        places_free(aead->places[kind], aead->contexts);
        EVP_CIPHER_CTX_free(aead->spare[kind].context);
        EVP_CIPHER_free(aead->ciphers[kind]);
    }
    free(aead);
}

/* Keys a context, and begins a job with it: `nonce` NULL for none yet. CCM asks for the tag's
 * length before the key: its first block says it (RFC 3610 2.2). */
static bool place_key(struct place *place, enum suite suite, const uint8_t *key,
                      const uint8_t *nonce, bool sealing)
{
    const struct suite_row *row = &suites[suite];
    bool known = place->suite == suite;

    place->slot = AEAD_NO_SLOT;
    place->suite = (uint8_t)suite;
    place->sealing = sealing;
    return (!row->ccm || known ||
            EVP_CIPHER_CTX_ctrl(place->context, EVP_CTRL_AEAD_SET_TAG, row->tag_bytes, NULL) ==
                1) &&
           EVP_CipherInit_ex(place->context, NULL, NULL, key, nonce, sealing) == 1;
}

/* Another key over the one that is there. */
static void place_wipe(struct place *place, enum suite suite)
{
    static const uint8_t zeros[AEAD_KEY_MAX];

    place_key(place, suite, zeros, NULL, true);
}

int aead_prepare(struct aead *aead, enum suite suite)
{
    enum kind kind = suites[suite].kind;
    struct place *places;

    if (!aead->contexts || aead->places[kind])
        return 0;
    places = calloc(aead->contexts, sizeof(*places));
    if (!places)
        return -ENOMEM;
    for (unsigned i = 0; i < aead->contexts; i++)
        if (!place_make(&places[i], aead->ciphers[kind])) {
            ERR_clear_error();
            places_free(places, aead->contexts);
            return -ENOMEM;
        }
    aead->places[kind] = places;
    place_wipe(&aead->spare[kind], suite); /* which served every slot until now */
    return 0;
}

static struct place *place_of(struct aead *aead, uint64_t slot, enum kind kind)
{
    if (slot == AEAD_NO_SLOT || !aead->places[kind])
        return &aead->spare[kind];
    return &aead->places[kind][slot & aead->mask];
}

void aead_forget(struct aead *aead, uint64_t slot, enum suite suite)
{
    struct place *place = place_of(aead, slot, suites[suite].kind);

    if (slot != AEAD_NO_SLOT && place->slot == slot)
        place_wipe(place, suite);
}

/* The place that has key and nonce of a job now; NULL when OpenSSL fails. */
static struct place *place_take(struct aead *aead, const struct aead_job *job, bool sealing)
{
    enum suite suite = job->key->suite;
    struct place *place = place_of(aead, job->slot, suites[suite].kind);

    if (place->slot == job->slot && place->sealing == sealing && place->suite == suite &&
        job->slot != AEAD_NO_SLOT)
        return EVP_CipherInit_ex(place->context, NULL, NULL, NULL, job->nonce, -1) == 1 ? place
                                                                                        : NULL;
    if (!place_key(place, suite, job->key->key, job->nonce, sealing))
        return NULL;
    place->slot = job->slot;
    return place;
}

/* Behind each use. Nothing stays on OpenSSL's queue of errors, where a handshake would find it. */
static bool place_leave(struct place *place, const struct aead_job *job, bool done)
{
    if (place && job->slot == AEAD_NO_SLOT)
        place_wipe(place, job->key->suite);
    if (!done)
        ERR_clear_error();
    return done;
}

/* Additional data. CCM has to know the length of the text before all else. */
static bool job_begin(const struct aead_job *job, bool ccm, EVP_CIPHER_CTX *context, size_t length)
{
    int taken;

    return (!ccm || EVP_CipherUpdate(context, NULL, &taken, NULL, (int)length) == 1) &&
           EVP_CipherUpdate(context, NULL, &taken, job->additional, job->additional_length) == 1;
}

int aead_seal(struct aead *aead, const struct aead_job *job, uint8_t *text, size_t length)
{
    const struct suite_row *suite = &suites[job->key->suite];
    struct place *place = place_take(aead, job, true);
    int taken;
    bool done = place && job_begin(job, suite->ccm, place->context, length) &&
                EVP_CipherUpdate(place->context, text, &taken, text, (int)length) == 1 &&
                (suite->ccm || EVP_CipherFinal_ex(place->context, text + length, &taken) == 1) &&
                EVP_CIPHER_CTX_ctrl(place->context, EVP_CTRL_AEAD_GET_TAG, suite->tag_bytes,
                                    text + length) == 1;

    return place_leave(place, job, done) ? 0 : -EIO;
}

/* EVP_CipherUpdate() would say on the queue of errors, in allocated words, that a CCM tag is wrong:
 * whoever sends forged records would have us do that for each. EVP_Cipher() just returns. */
static bool open_ccm(EVP_CIPHER_CTX *context, const uint8_t *text, size_t length, uint8_t *out)
{
    return EVP_Cipher(context, out, text, (unsigned)length) >= 0;
}

static bool open_other(EVP_CIPHER_CTX *context, const uint8_t *text, size_t length, uint8_t *out)
{
    uint8_t nothing[EVP_MAX_BLOCK_LENGTH];
    int taken;

    return EVP_CipherUpdate(context, out, &taken, text, (int)length) == 1 &&
           EVP_CipherFinal_ex(context, nothing, &taken) == 1;
}

int aead_open(struct aead *aead, const struct aead_job *job, const uint8_t *text, size_t length,
              uint8_t *out)
{
    const struct suite_row *suite = &suites[job->key->suite];
    struct place *place = place_take(aead, job, false);
    uint8_t tag[AEAD_TAG_MAX];
    bool done;

    memcpy(tag, text + length, suite->tag_bytes); /* which OpenSSL does not take as const */
    done = place &&
           EVP_CIPHER_CTX_ctrl(place->context, EVP_CTRL_AEAD_SET_TAG, suite->tag_bytes, tag) == 1 &&
           job_begin(job, suite->ccm, place->context, length) &&
           (suite->ccm ? open_ccm(place->context, text, length, out)
                       : open_other(place->context, text, length, out));
    return place_leave(place, job, done) ? 0 : -EBADMSG;
}
