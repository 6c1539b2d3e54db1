/* Requests over DTLS, and what OpenSSL takes for them alone. */
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "bench/worker/load.h"

#define AAD_BYTES   13
#define NONCE_BYTES 12
#define WINDOW      256

bool secure_is(enum load_kind kind)
{
    return kind == LOAD_CCM8 || kind == LOAD_GCM;
}

/* What came out of the worker in this window, in the order of what went in. */
void secure_take(void)
{
    uint8_t message[LOAD_PACKET];

    for (unsigned i = 0; i < load.up_count; i++) {
        const struct load_packet *p = &load.up[i];
        int length = -1;

        if (flow_equal(&p->flow, &load.in[i].flow))
            length = devices_open(&load.devices, load.client_of[i], p->data, p->length, message);
        load.answers++;
        if (length < MESSAGE_HEADER_BYTES + 4 || message[1] != load.expected) {
            load.wrong++;
            continue;
        }
        load.answer_bytes = (unsigned)length;
        load.sums += load_identity(message);
    }
    load.up_count = 0;
}

/* ---- OpenSSL alone ---- */

static struct {
    EVP_CIPHER_CTX *seal, *open;
    bool ccm;
    unsigned tag_bytes, request_bytes, answer_bytes;
    uint8_t aad[AAD_BYTES], nonce[NONCE_BYTES], tag[16];
    uint8_t request[LOAD_PACKET], answer[LOAD_PACKET]; /* `request` as it is sealed */
    uint8_t out[LOAD_PACKET];
    bool failed;
} alone;

static EVP_CIPHER_CTX *make_context(bool sealing)
{
    static const uint8_t key[16] = {1, 2, 3};
    const EVP_CIPHER *cipher = alone.ccm ? EVP_aes_128_ccm() : EVP_aes_128_gcm();
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    bool made = c && EVP_CipherInit_ex(c, cipher, NULL, NULL, NULL, sealing) == 1 &&
                EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_IVLEN, NONCE_BYTES, NULL) == 1 &&
                (!alone.ccm ||
                 EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, (int)alone.tag_bytes, NULL) == 1) &&
                EVP_CipherInit_ex(c, NULL, NULL, key, NULL, sealing) == 1;

    if (made)
        return c;
    EVP_CIPHER_CTX_free(c);
    return NULL;
}

static bool begin_text(EVP_CIPHER_CTX *c, unsigned length)
{
    int taken;

    return EVP_CipherInit_ex(c, NULL, NULL, NULL, alone.nonce, -1) == 1 &&
           (!alone.ccm || EVP_CipherUpdate(c, NULL, &taken, NULL, (int)length) == 1) &&
           EVP_CipherUpdate(c, NULL, &taken, alone.aad, AAD_BYTES) == 1;
}

static bool seal_text(const uint8_t *text, unsigned length, uint8_t *out, uint8_t *tag)
{
    int taken;

    alone.nonce[NONCE_BYTES - 1]++;
    return begin_text(alone.seal, length) &&
           EVP_CipherUpdate(alone.seal, out, &taken, text, (int)length) == 1 &&
           (alone.ccm || EVP_CipherFinal_ex(alone.seal, out + length, &taken) == 1) &&
           EVP_CIPHER_CTX_ctrl(alone.seal, EVP_CTRL_AEAD_GET_TAG, (int)alone.tag_bytes, tag) == 1;
}

static bool open_request(void)
{
    int taken;

    alone.nonce[NONCE_BYTES - 1] = 1; /* that it was sealed with */
    return EVP_CIPHER_CTX_ctrl(alone.open, EVP_CTRL_AEAD_SET_TAG, (int)alone.tag_bytes,
                               alone.tag) == 1 &&
           begin_text(alone.open, alone.request_bytes) &&
           EVP_CipherUpdate(alone.open, alone.out, &taken, alone.request,
                            (int)alone.request_bytes) == 1 &&
           (alone.ccm ||
            EVP_CipherFinal_ex(alone.open, alone.out + alone.request_bytes, &taken) == 1);
}

int alone_begin(void)
{
    uint8_t text[LOAD_PACKET] = {0};

    memset(&alone, 0, sizeof(alone));
    alone.ccm = load.kind == LOAD_CCM8;
    alone.tag_bytes = suite_tag_bytes(load.devices.suite);
    alone.request_bytes = load.request_bytes;
    alone.answer_bytes = load.answer_bytes;
    alone.seal = make_context(true);
    alone.open = make_context(false);
    if (alone.seal && alone.open &&
        seal_text(text, alone.request_bytes, alone.request, alone.tag) && open_request())
        return 0;
    fprintf(stderr, "worker: %s: OpenSSL fails\n", load_names[load.kind]);
    alone_end();
    return -1;
}

void alone_end(void)
{
    EVP_CIPHER_CTX_free(alone.seal);
    EVP_CIPHER_CTX_free(alone.open);
    alone.seal = alone.open = NULL;
}

__attribute__((noinline)) static void run_pairs(unsigned n)
{
    uint8_t tag[16];

    for (unsigned i = 0; i < n; i++) {
        alone.failed |= !open_request();
        alone.failed |= !seal_text(alone.answer, alone.answer_bytes, alone.out, tag);
    }
}

bool alone_run(uint64_t count, struct meter *meter)
{
    for (uint64_t done = 0; done < count; done += WINDOW) {
        meter_start(meter);
        run_pairs(WINDOW);
        meter_stop(meter);
        meter_mark(meter, WINDOW);
    }
    return !alone.failed;
}

double alone_step(unsigned count)
{
    if (!meter_can_step())
        return -1;
    meter_step_begin();
    run_pairs(count);
    return (double)meter_step_end() / count;
}
