/* What the store has of an association. The first byte says what the rest is:
 *
 *   even  sealed bytes, as Redis may give them
 *   odd   a state, which is sealed here, so that what is behind the tag is reached; bit 1 is the
 *         flag in clear beside it
 *
 * What is opened can be sealed again, and opens as the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "gateway/security/keep.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NONCE 12u
#define TAG   16u

static const uint8_t key[KEEP_KEY_BYTES] = {0xaa, 1, 2, 3};
static const char service[] = "p:s";

static struct keep *keep;
static EVP_CIPHER_CTX *context;
static uint8_t own_key[32];

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "violated: %s\n", what);
    abort();
}

static struct store_association a_clear(bool cid)
{
    return (struct store_association){.id = {1, 2, 3, 4, 5, 6, 7, 8},
                                      .listen = {{{1}}, 0x0203},
                                      .peer = {{{4}}, 0x0506},
                                      .cid = cid};
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const uint8_t material[] = "coapgw association 1\0\1\2\3\4\5\6\7\10";
    unsigned length;

    (void)argc;
    (void)argv;
    keep = keep_create(key, service);
    context = EVP_CIPHER_CTX_new();
    require(keep && context, "OpenSSL");
    require(HMAC(EVP_sha256(), key, sizeof(key), material, sizeof(material) - 1, own_key, &length),
            "a key");
    return 0;
}

static size_t seal(const struct store_association *a, const uint8_t *plain, size_t length,
                   uint8_t *out)
{
    uint8_t beside[] = {1, 0, 3, 'p',    ':', 's',      1, 2, 3,        4, 5,
                        6, 7, 8, a->cid, 1,   [31] = 2, 3, 4, [49] = 5, 6};
    int n;

    memset(out, 0, NONCE);
    require(EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, own_key, out) == 1 &&
                EVP_EncryptUpdate(context, NULL, &n, beside, sizeof(beside)) == 1 &&
                EVP_EncryptUpdate(context, out + NONCE, &n, plain, (int)length) == 1 &&
                EVP_EncryptFinal_ex(context, out + NONCE + length, &n) == 1 &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, out + NONCE + length) == 1,
            "sealing");
    return NONCE + length + TAG;
}

static void check(const struct keep_state *s, const struct store_association *clear)
{
    require(s->read.suite < SUITE_COUNT && s->write.suite == s->read.suite, "a suite");
    require(s->limit <= KEEP_END && s->top < KEEP_END && s->epoch, "sequences");
    require(s->cid_length <= RECORD_CID_MAX && s->own_cid == clear->cid, "a CID");
    require(s->principal.length <= PRINCIPAL_MAX, "a name");
}

static void open_again(const struct store_association *clear, const struct keep_state *s)
{
    uint8_t sealed[STORE_SEALED_MAX];
    struct keep_state back;
    int length = keep_seal(keep, clear, s, sealed);

    require(length > 0 && length <= STORE_SEALED_MAX, "what was opened is sealed");
    require(keep_open(keep, clear, sealed, (size_t)length, &back) == 0, "and opened");
    require(memcmp(&back, s, sizeof(back)) == 0, "and the same"); /* both were zero before */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct store_association clear = a_clear(size && *data & 2);
    uint8_t *sealed;
    struct keep_state state;
    size_t length;

    if (size == 0 || size > 2048)
        return 0;
    sealed = malloc(size + NONCE + TAG);
    if (*data & 1) {
        length = seal(&clear, data + 1, size - 1, sealed);
    } else {
        length = size - 1;
        memcpy(sealed, data + 1, length);
    }
    sealed = realloc(sealed, length + !length); /* so that what reads beyond is seen */
    if (keep_open(keep, &clear, sealed, length, &state) == 0) {
        check(&state, &clear);
        open_again(&clear, &state);
    }
    free(sealed);
    return 0;
}
