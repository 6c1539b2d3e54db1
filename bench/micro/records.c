/* Records of DTLS, 64 bytes of text: one operation is sealing one and opening it again, as a
 * gateway does for each answer and its request. "bare" is what OpenSSL takes alone with a key that
 * is set: what lies above it is ours. */
#include "bench/micro/micro.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "gateway/security/record.h"

#define TEXT     64
#define CONTEXTS 4096 /* of a worker, for each kind of cipher */
#define FEW      1000 /* associations: all have their contexts */
#define MANY     100000
#define CID      8
#define ROOM     128

static struct {
    struct aead *aead;
    struct record_key *keys;
    EVP_CIPHER_CTX *seal, *open; /* bare */
    uint32_t count, next;
    uint64_t sequence, wrong;
    uint8_t record[ROOM], out[ROOM], cid[CID];
} r;

static int begin(enum suite suite, uint32_t count, unsigned contexts)
{
    memset(&r, 0, sizeof(r));
    r.count = count;
    r.keys = calloc(count, sizeof(*r.keys));
    r.aead = aead_create(contexts);
    if (!r.keys || !r.aead || aead_prepare(r.aead, suite) < 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        r.keys[i].suite = (uint8_t)suite;
        memcpy(r.keys[i].key, &i, sizeof(i));
    }
    return 0;
}

static bool end(void)
{
    EVP_CIPHER_CTX_free(r.seal);
    EVP_CIPHER_CTX_free(r.open);
    aead_destroy(r.aead);
    free(r.keys);
    return r.wrong == 0;
}

/* ---- the record layer ---- */

static uint64_t run(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        uint64_t slot = (uint64_t)r.next << 1;
        const struct record_key *key = &r.keys[r.next];
        struct record_mark mark = {.type = RECORD_APPLICATION_DATA,
                                   .epoch = 1,
                                   .sequence = r.sequence++,
                                   .cid = r.cid,
                                   .cid_length = CID};
        struct record_view view;
        uint8_t type;
        int length = record_seal(r.aead, slot, key, &mark, r.record, TEXT);

        record_next(r.record, (size_t)length, CID, &view);
        length = record_open(r.aead, slot | 1, key, &view, r.out, &type);
        r.wrong += length != TEXT;
        sum += r.out[i % TEXT];
        r.next = r.next + 1 == r.count ? 0 : r.next + 1;
    }
    return sum;
}

/* ---- OpenSSL alone ---- */

static EVP_CIPHER_CTX *bare_context(const char *name, int tag, bool sealing)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    static const uint8_t key[AEAD_KEY_MAX];

    if (cipher && context && EVP_CipherInit_ex(context, cipher, NULL, NULL, NULL, sealing) == 1 &&
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, AEAD_NONCE_BYTES, NULL) == 1 &&
        (tag != 8 || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, tag, NULL) == 1))
        EVP_CipherInit_ex(context, NULL, NULL, key, NULL, -1);
    EVP_CIPHER_free(cipher);
    return context;
}

/* The additional data is as long as that of a record with our Connection ID. */
static bool bare(EVP_CIPHER_CTX *context, bool ccm, bool sealing, uint8_t *tag)
{
    static const uint8_t additional[31];
    uint8_t nonce[AEAD_NONCE_BYTES] = {0}, nothing[16];
    int taken, bytes = ccm ? 8 : 16;

    memcpy(nonce, &r.sequence, sizeof(r.sequence));
    return (sealing || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, bytes, tag) == 1) &&
           EVP_CipherInit_ex(context, NULL, NULL, NULL, nonce, -1) == 1 &&
           (!ccm || EVP_CipherUpdate(context, NULL, &taken, NULL, TEXT + 1) == 1) &&
           EVP_CipherUpdate(context, NULL, &taken, additional, sizeof(additional)) == 1 &&
           EVP_CipherUpdate(context, sealing ? r.record : r.out, &taken, r.record, TEXT + 1) == 1 &&
           (ccm || EVP_CipherFinal_ex(context, nothing, &taken) == 1) &&
           (!sealing || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, bytes, tag) == 1);
}

static inline uint64_t run_bare(unsigned n, bool ccm)
{
    uint64_t sum = 0;
    uint8_t tag[AEAD_TAG_MAX];

    for (unsigned i = 0; i < n; i++) {
        r.wrong += !bare(r.seal, ccm, true, tag);
        r.wrong += !bare(r.open, ccm, false, tag);
        r.sequence++;
        sum += r.out[i % TEXT];
    }
    return sum;
}

static uint64_t run_bare_ccm(unsigned n)
{
    return run_bare(n, true);
}

static uint64_t run_bare_other(unsigned n)
{
    return run_bare(n, false);
}

static int begin_bare(const char *name, int tag)
{
    memset(&r, 0, sizeof(r));
    r.seal = bare_context(name, tag, true);
    r.open = bare_context(name, tag, false);
    return r.seal && r.open ? 0 : -ENOMEM;
}

/* ---- cases ---- */

#define BEGIN(function, call)           \
    static int function(uint32_t scale) \
    {                                   \
        (void)scale;                    \
        return call;                    \
    }

BEGIN(bare_ccm, begin_bare("AES-128-CCM", 8))
BEGIN(bare_gcm, begin_bare("AES-128-GCM", 16))
BEGIN(bare_chacha, begin_bare("ChaCha20-Poly1305", 16))
BEGIN(kept_ccm, begin(SUITE_AES_128_CCM_8, scale, CONTEXTS))
BEGIN(kept_gcm, begin(SUITE_AES_128_GCM, scale, CONTEXTS))
BEGIN(kept_chacha, begin(SUITE_CHACHA20_POLY1305, scale, CONTEXTS))
BEGIN(once_ccm, begin(SUITE_AES_128_CCM_8, scale, 0))
BEGIN(once_gcm, begin(SUITE_AES_128_GCM, scale, 0))
BEGIN(once_chacha, begin(SUITE_CHACHA20_POLY1305, scale, 0))

#define CASE(what, how_many, before, what_runs)                                               \
    {                                                                                         \
        .name = "records: " what, .scale = (how_many), .begin = (before), .run = (what_runs), \
        .end = end                                                                            \
    }

const struct micro_case micro_records[] = {
    CASE("CCM-8 bare", 1, bare_ccm, run_bare_ccm),
    CASE("CCM-8, 1,000 kept", FEW, kept_ccm, run),
    CASE("CCM-8, 1,000, none kept", FEW, once_ccm, run),
    CASE("CCM-8, 100,000", MANY, kept_ccm, run),
    CASE("GCM bare", 1, bare_gcm, run_bare_other),
    CASE("GCM, 1,000 kept", FEW, kept_gcm, run),
    CASE("GCM, 1,000, none kept", FEW, once_gcm, run),
    CASE("GCM, 100,000", MANY, kept_gcm, run),
    CASE("ChaCha20 bare", 1, bare_chacha, run_bare_other),
    CASE("ChaCha20, 1,000 kept", FEW, kept_chacha, run),
    CASE("ChaCha20, 1,000, none kept", FEW, once_chacha, run),
    CASE("ChaCha20, 100,000", MANY, kept_chacha, run),
    {0},
};
