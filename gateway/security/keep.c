#include "gateway/security/keep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#define VERSION     1
#define NONCE_BYTES 12
#define TAG_BYTES   16

#define FLAG_CID 1u /* own_cid */
#define FLAG_ANY 2u

/* Version, suite, flags, epoch, limit, top, time; length and CID; kind, length and name; both keys
 * with their salts. */
#define STATE_MAX \
    (3 + 2 + 3 * 8 + 1 + RECORD_CID_MAX + 2 + PRINCIPAL_MAX + 2 * (AEAD_KEY_MAX + AEAD_NONCE_BYTES))
_Static_assert(NONCE_BYTES + STATE_MAX + TAG_BYTES <= STORE_SEALED_MAX, "the store takes it");

/* What is authenticated: version, service, id, cid, both ends. */
#define SERVICE_MAX    256
#define ENDPOINT_BYTES 18
#define CLEAR_MAX      (1 + 2 + SERVICE_MAX + STORE_ID_BYTES + 1 + 2 * ENDPOINT_BYTES)

struct keep {
    uint8_t key[KEEP_KEY_BYTES];
    char service[SERVICE_MAX];
    size_t service_length;
    EVP_CIPHER *cipher;
    EVP_CIPHER_CTX *context;
    EVP_MAC *mac;
    EVP_MAC_CTX *mac_context;
};

/* ---- bytes ---- */

/* A place in a buffer; what does not fit, or is not there, is noticed at the end. */
struct cursor {
    uint8_t *at, *end;
    bool failed;
};

static uint8_t *take(struct cursor *c, size_t length)
{
    uint8_t *at = c->at;

    if (c->failed || (size_t)(c->end - at) < length) {
        c->failed = true;
        return NULL;
    }
    c->at += length;
    return at;
}

static void put_number(struct cursor *c, uint64_t value, unsigned bytes)
{
    uint8_t *at = take(c, bytes);

    for (unsigned i = 0; at && i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static void put_bytes(struct cursor *c, const void *bytes, size_t length)
{
    uint8_t *at = take(c, length);

    if (at && length)
        memcpy(at, bytes, length);
}

static uint64_t get_number(struct cursor *c, unsigned bytes)
{
    const uint8_t *at = take(c, bytes);
    uint64_t value = 0;

    for (unsigned i = 0; at && i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

static void get_bytes(struct cursor *c, void *bytes, size_t length)
{
    const uint8_t *at = take(c, length);

    if (at && length)
        memcpy(bytes, at, length);
}

/* ---- the state as bytes ---- */

static bool is_named(const struct principal *p)
{
    struct principal same;

    if (p->kind == PRINCIPAL_NONE)
        return p->length == 0;
    return p->kind <= PRINCIPAL_CERTIFICATE && p->length <= PRINCIPAL_MAX &&
           principal_set(&same, (enum principal_kind)p->kind, p->text, p->length) == 0;
}

static bool state_is_right(const struct keep_state *s, const struct store_association *clear)
{
    return s->read.suite < SUITE_COUNT && s->write.suite == s->read.suite && s->epoch != 0 &&
           s->limit <= KEEP_END && s->top <= RECORD_SEQUENCE_LAST && (s->any || s->top == 0) &&
           s->cid_length <= RECORD_CID_MAX && s->own_cid == (clear->cid != 0) &&
           is_named(&s->principal);
}

static void put_key(struct cursor *c, const struct record_key *key)
{
    put_bytes(c, key->key, suite_key_bytes((enum suite)key->suite));
    put_bytes(c, key->salt, suite_salt_bytes((enum suite)key->suite));
}

static void get_key(struct cursor *c, uint8_t suite, struct record_key *key)
{
    key->suite = suite;
    get_bytes(c, key->key, suite_key_bytes((enum suite)suite));
    get_bytes(c, key->salt, suite_salt_bytes((enum suite)suite));
}

/* Returns the length. */
static size_t write_state(const struct keep_state *s, uint8_t out[STATE_MAX])
{
    struct cursor c = {.at = out, .end = out + STATE_MAX};

    put_number(&c, VERSION, 1);
    put_number(&c, s->read.suite, 1);
    put_number(&c, (s->own_cid ? FLAG_CID : 0) | (s->any ? FLAG_ANY : 0), 1);
    put_number(&c, s->epoch, 2);
    put_number(&c, s->limit, 8);
    put_number(&c, s->top, 8);
    put_number(&c, s->created_us, 8);
    put_number(&c, s->cid_length, 1);
    put_bytes(&c, s->cid, s->cid_length);
    put_number(&c, s->principal.kind, 1);
    put_number(&c, s->principal.length, 1);
    put_bytes(&c, s->principal.text, s->principal.length);
    put_key(&c, &s->read);
    put_key(&c, &s->write);
    return (size_t)(c.at - out);
}

/* Lengths are looked at before what they are of: the arrays end. */
static bool get_length(struct cursor *c, uint8_t *length, size_t max)
{
    *length = (uint8_t)get_number(c, 1);
    return *length <= max;
}

static bool read_state(struct cursor *c, struct keep_state *s)
{
    uint8_t suite, flags;

    if (get_number(c, 1) != VERSION)
        return false;
    suite = (uint8_t)get_number(c, 1);
    flags = (uint8_t)get_number(c, 1);
    if (suite >= SUITE_COUNT || flags & ~(FLAG_CID | FLAG_ANY))
        return false;
    s->own_cid = flags & FLAG_CID;
    s->any = flags & FLAG_ANY;
    s->epoch = (uint16_t)get_number(c, 2);
    s->limit = get_number(c, 8);
    s->top = get_number(c, 8);
    s->created_us = get_number(c, 8);
    if (!get_length(c, &s->cid_length, sizeof(s->cid)))
        return false;
    get_bytes(c, s->cid, s->cid_length);
    s->principal.kind = (uint8_t)get_number(c, 1);
    if (!get_length(c, &s->principal.length, sizeof(s->principal.text)))
        return false;
    get_bytes(c, s->principal.text, s->principal.length);
    get_key(c, suite, &s->read);
    get_key(c, suite, &s->write);
    return !c->failed && c->at == c->end;
}

/* ---- keys and what is authenticated ---- */

static void put_endpoint(struct cursor *c, const struct endpoint *e)
{
    put_bytes(c, e->address.bytes, sizeof(e->address.bytes));
    put_number(c, e->port, 2);
}

static size_t write_clear(const struct keep *k, const struct store_association *a,
                          uint8_t out[CLEAR_MAX])
{
    struct cursor c = {.at = out, .end = out + CLEAR_MAX};

    put_number(&c, VERSION, 1);
    put_number(&c, k->service_length, 2);
    put_bytes(&c, k->service, k->service_length);
    put_bytes(&c, a->id, sizeof(a->id));
    put_number(&c, a->cid, 1);
    put_endpoint(&c, &a->listen);
    put_endpoint(&c, &a->peer);
    return (size_t)(c.at - out);
}

static bool derive(struct keep *k, const uint8_t id[STORE_ID_BYTES], uint8_t key[KEEP_KEY_BYTES])
{
    static const char label[] = "coapgw association 1"; /* its zero counts */
    size_t length;

    return EVP_MAC_init(k->mac_context, k->key, sizeof(k->key), NULL) == 1 &&
           EVP_MAC_update(k->mac_context, (const uint8_t *)label, sizeof(label)) == 1 &&
           EVP_MAC_update(k->mac_context, id, STORE_ID_BYTES) == 1 &&
           EVP_MAC_final(k->mac_context, key, &length, KEEP_KEY_BYTES) == 1 &&
           length == KEEP_KEY_BYTES;
}

/* The context, keyed and with all that is authenticated in it. */
static bool prepare(struct keep *k, const struct store_association *clear, const uint8_t *nonce,
                    bool seal)
{
    uint8_t key[KEEP_KEY_BYTES], bytes[CLEAR_MAX];
    int length = (int)write_clear(k, clear, bytes), n;
    bool good = derive(k, clear->id, key) &&
                EVP_CipherInit_ex2(k->context, k->cipher, key, nonce, seal, NULL) == 1 &&
                EVP_CipherUpdate(k->context, NULL, &n, bytes, length) == 1;

    OPENSSL_cleanse(key, sizeof(key));
    return good;
}

/* ---- sealing ---- */

int keep_seal(struct keep *k, const struct store_association *clear, const struct keep_state *state,
              uint8_t sealed[STORE_SEALED_MAX])
{
    uint8_t plain[STATE_MAX], *text = sealed + NONCE_BYTES;
    int length, n;
    bool good;

    if (!state_is_right(state, clear))
        return -EINVAL;
    length = (int)write_state(state, plain);
    good = RAND_bytes(sealed, NONCE_BYTES) == 1 && prepare(k, clear, sealed, true) &&
           EVP_CipherUpdate(k->context, text, &n, plain, length) == 1 && n == length &&
           EVP_CipherFinal_ex(k->context, text + length, &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(k->context, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, text + length) == 1;
    OPENSSL_cleanse(plain, sizeof(plain));
    return good ? NONCE_BYTES + length + TAG_BYTES : -EIO;
}

/* -EBADMSG: it is not authentic. */
static int decrypt(struct keep *k, const struct store_association *clear, const uint8_t *sealed,
                   size_t length, uint8_t plain[STATE_MAX])
{
    const uint8_t *text = sealed + NONCE_BYTES;
    uint8_t tag[TAG_BYTES];
    int n;

    memcpy(tag, text + length, sizeof(tag));
    if (!prepare(k, clear, sealed, false) ||
        EVP_CipherUpdate(k->context, plain, &n, text, (int)length) != 1 ||
        EVP_CIPHER_CTX_ctrl(k->context, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) != 1)
        return -EIO;
    return EVP_CipherFinal_ex(k->context, plain + length, &n) == 1 ? 0 : -EBADMSG;
}

int keep_open(struct keep *k, const struct store_association *clear, const uint8_t *sealed,
              size_t length, struct keep_state *state)
{
    uint8_t plain[STATE_MAX];
    struct cursor c;
    int err;

    memset(state, 0, sizeof(*state));
    if (length <= NONCE_BYTES + TAG_BYTES || length > NONCE_BYTES + STATE_MAX + TAG_BYTES)
        return -EBADMSG;
    length -= NONCE_BYTES + TAG_BYTES;
    err = decrypt(k, clear, sealed, length, plain);
    c = (struct cursor){.at = plain, .end = plain + length};
    if (!err && !(read_state(&c, state) && state_is_right(state, clear)))
        err = -EBADMSG;
    if (err)
        OPENSSL_cleanse(state, sizeof(*state));
    OPENSSL_cleanse(plain, sizeof(plain));
    return err;
}

/* ---- start and end ---- */

static bool make_contexts(struct keep *k)
{
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };

    k->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    k->context = EVP_CIPHER_CTX_new();
    k->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    k->mac_context = k->mac ? EVP_MAC_CTX_new(k->mac) : NULL;
    return k->cipher && k->context && k->mac_context &&
           EVP_MAC_CTX_set_params(k->mac_context, parameters) == 1;
}

struct keep *keep_create(const uint8_t key[KEEP_KEY_BYTES], const char *service)
{
    size_t length = strlen(service);
    struct keep *k;

    if (length > SERVICE_MAX) {
        errno = EINVAL;
        return NULL;
    }
    k = calloc(1, sizeof(*k));
    if (!k)
        return NULL;
    memcpy(k->key, key, sizeof(k->key));
    memcpy(k->service, service, length);
    k->service_length = length;
    if (make_contexts(k))
        return k;
    keep_destroy(k);
    errno = ENOMEM;
    return NULL;
}

void keep_destroy(struct keep *k)
{
    if (!k)
        return;
    EVP_CIPHER_CTX_free(k->context);
    EVP_CIPHER_free(k->cipher);
    EVP_MAC_CTX_free(k->mac_context);
    EVP_MAC_free(k->mac);
    OPENSSL_cleanse(k, sizeof(*k));
    free(k);
}

/* ---- sequence numbers ---- */

void keep_reserve_begin(struct keep_reserve *r, uint64_t next)
{
    *r = (struct keep_reserve){.next = next, .confirmed = KEEP_END};
}

void keep_reserve_restore(struct keep_reserve *r, uint64_t limit)
{
    *r = (struct keep_reserve){.next = limit, .confirmed = limit};
}

uint64_t keep_reserve_ask(struct keep_reserve *r)
{
    r->asked = r->next + KEEP_STEP < KEEP_END ? r->next + KEEP_STEP : KEEP_END;
    if (r->confirmed > r->asked) /* the first one */
        r->confirmed = r->asked;
    return r->asked;
}

void keep_reserve_confirm(struct keep_reserve *r, uint64_t limit)
{
    if (limit > r->confirmed)
        r->confirmed = limit;
    keep_reserve_lose(r, limit);
}

void keep_reserve_lose(struct keep_reserve *r, uint64_t limit)
{
    if (r->asked == limit)
        r->asked = 0;
}
