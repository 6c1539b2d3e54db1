/* The DTLS client of the tests: its primitives against published vectors, and its records against
 * bytes that were laid out by hand from RFC 6347 4.1 and RFC 9146 4 and 5. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "tests/dtls/peer_parts.h"

#define TEXT_MAX 128

static struct peer_crypto *crypto;

/* Two ends with mirrored keys, as if they had agreed on them. */
struct two {
    struct peer left, right;
    unsigned delivered, alerts;
    size_t length;
    uint8_t last[PEER_CONTENT_MAX];
    size_t sent_length;
    uint8_t sent[PEER_RECORD_MAX];
};

static struct two two;

static size_t from_hex(const char *text, uint8_t *out)
{
    size_t length = 0;
    unsigned value = 0, digits = 0;

    for (; *text; text++) {
        if (*text == ' ')
            continue;
        value = value << 4 | (unsigned)(*text <= '9' ? *text - '0' : *text - 'a' + 10);
        if (++digits % 2 == 0)
            out[length++] = (uint8_t)value;
    }
    return length;
}

static void assert_bytes(const uint8_t *bytes, size_t length, const char *hex)
{
    uint8_t expected[512];

    assert_int_equal(length, from_hex(hex, expected));
    assert_memory_equal(bytes, expected, length);
}

static int group_setup(void **state)
{
    (void)state;
    crypto = peer_crypto_create();
    return crypto ? 0 : -1;
}

static int group_teardown(void **state)
{
    (void)state;
    peer_crypto_destroy(crypto);
    return 0;
}

/* ---- primitives ---- */

/* "TLS 1.2 PRF test vectors" on the IETF's TLS list, for P_SHA256. */
static void prf_vector(void **state)
{
    uint8_t secret[16], seed[16], out[100];

    (void)state;
    from_hex("9bbe436ba940f017b17652849a71db35", secret);
    from_hex("a0ba9f936cda311827a6f796ffd5198c", seed);
    assert_int_equal(peer_prf(crypto, secret, 16, "test label", seed, 16, out, sizeof(out)), 0);
    assert_bytes(out, sizeof(out),
                 "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9"
                 "c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789ba"
                 "a48082d122ee42c5a72e5a5110fff70187347b66");
}

static const struct aead_vector {
    uint16_t suite;
    const char *key, *nonce, *aad, *plain, *sealed;
} aead_vectors[] = {
    /* NIST SP 800-38C, example 3: 12 bytes of nonce, 8 of tag. */
    {PEER_SUITE_CCM8, "404142434445464748494a4b4c4d4e4f", "101112131415161718191a1b",
     "000102030405060708090a0b0c0d0e0f10111213", "202122232425262728292a2b2c2d2e2f3031323334353637",
     "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951"},
    /* McGrew and Viega, "The Galois/Counter Mode of Operation", test case 4. */
    {PEER_SUITE_GCM, "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6"
     "b525b16aedf5aa0de657ba637b39",
     "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84"
     "aa051ba30b396a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47"},
    /* RFC 8439 2.8.2. */
    {PEER_SUITE_CHACHA, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
     "070000004041424344454647", "50515253c0c1c2c3c4c5c6c7",
     "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a2049662049"
     "20636f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c20"
     "73756e73637265656e20776f756c642062652069742e",
     "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92"
     "728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b"
     "4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"},
};

static void check_vector(const struct aead_vector *v)
{
    const struct suite *suite = peer_suite_find(v->suite);
    uint8_t key[32], aad[64], plain[TEXT_MAX], out[TEXT_MAX + 16], back[TEXT_MAX];
    struct aead_call call = {.key = key, .aad = aad};
    size_t length = from_hex(v->plain, plain), sealed = length + suite->tag_bytes;

    assert_int_equal(from_hex(v->key, key), suite->key_bytes);
    assert_int_equal(from_hex(v->nonce, call.nonce), PEER_IV_MAX);
    call.aad_length = from_hex(v->aad, aad);
    assert_int_equal(peer_aead_seal(crypto, suite, &call, plain, length, out), 0);
    assert_bytes(out, sealed, v->sealed);
    for (size_t i = 0; i < sealed; i++) {
        out[i] ^= 0x10;
        assert_int_equal(peer_aead_open(crypto, suite, &call, out, sealed, back), -EBADMSG);
        out[i] ^= 0x10;
    }
    assert_int_equal(peer_aead_open(crypto, suite, &call, out, sealed, back), 0);
    assert_memory_equal(back, plain, length);
    aad[0] ^= 1;
    assert_int_equal(peer_aead_open(crypto, suite, &call, out, sealed, back), -EBADMSG);
}

static void aead(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 2; round++) /* the contexts are used again */
        for (unsigned i = 0; i < sizeof(aead_vectors) / sizeof(aead_vectors[0]); i++)
            check_vector(&aead_vectors[i]);
}

static void nonces(void **state)
{
    static const uint8_t iv[PEER_IV_MAX] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    uint8_t nonce[PEER_IV_MAX];

    (void)state;
    /* RFC 6655 3 and RFC 5288 3: salt, and epoch with sequence number. */
    peer_nonce_write(peer_suite_find(PEER_SUITE_CCM8), iv, 0x0001a0b0c0d0e0f0, nonce);
    assert_bytes(nonce, PEER_IV_MAX, "01020304 0001a0b0c0d0e0f0");
    /* RFC 7905 2: the IV, mixed with it on the right. */
    peer_nonce_write(peer_suite_find(PEER_SUITE_CHACHA), iv, 0x0001a0b0c0d0e0f0, nonce);
    assert_bytes(nonce, PEER_IV_MAX, "01020304 0507a7b8c9daebfc");
}

static void additional_data(void **state)
{
    struct record_view r = {
        .type = PEER_APPLICATION, .version = DTLS_1_2, .epoch = 1, .sequence = 0x123456789abc};
    uint8_t aad[AAD_MAX];

    (void)state;
    assert_bytes(aad, peer_record_aad(&r, 0x1ff, aad), "0001123456789abc 17 fefd 01ff");
    r.type = PEER_CID;
    r.cid = (const uint8_t *)"\xc1\xd0\xee";
    r.cid_length = 3;
    assert_bytes(aad, peer_record_aad(&r, 0x1ff, aad),
                 "ffffffffffffffff 19 03 19 fefd 0001123456789abc c1d0ee 01ff");
}

/* ---- records between two ends ---- */

static void on_send(void *context, const uint8_t *datagram, size_t length)
{
    (void)context;
    memcpy(two.sent, datagram, length);
    two.sent_length = length;
}

static void on_deliver(void *context, const uint8_t *data, size_t length)
{
    (void)context;
    two.delivered++;
    two.length = length;
    memcpy(two.last, data, length);
}

static void on_alert(void *context, uint8_t level, uint8_t description)
{
    (void)context;
    two.alerts += level == 1 && description == ALERT_CLOSE_NOTIFY;
}

static const struct peer_events events = {
    .send = on_send, .deliver = on_deliver, .alert = on_alert};

/* As a handshake would leave it; the keys are 1, 2, 3... and the IV. */
static void establish(struct peer *p, uint16_t suite, const char *own, const char *other,
                      const uint8_t keys[2])
{
    struct peer_setup setup = {.crypto = crypto,
                               .events = &events,
                               .offer_cid = own != NULL,
                               .key = (const uint8_t *)"k",
                               .key_length = 1};

    if (own)
        setup.cid_length = (uint8_t)from_hex(own, setup.cid);
    assert_int_equal(peer_init(p, &setup), 0);
    p->state = PEER_ESTABLISHED;
    p->suite = suite;
    p->ready = true;
    p->write_epoch = 1;
    p->cid_agreed = own != NULL;
    p->server_cid_length = other ? (uint8_t)from_hex(other, p->server_cid) : 0;
    memset(&p->write, keys[0], sizeof(p->write));
    memset(&p->read, keys[1], sizeof(p->read));
}

static void both(uint16_t suite, const char *left_cid, const char *right_cid)
{
    static const uint8_t keys[2] = {0x11, 0x22}, mirrored[2] = {0x22, 0x11};

    memset(&two, 0, sizeof(two));
    establish(&two.left, suite, left_cid, right_cid, keys);
    establish(&two.right, suite, right_cid, left_cid, mirrored);
}

/* Application data from left to right. */
static void carry(const void *text, size_t length)
{
    unsigned before = two.delivered;

    assert_int_equal(peer_write(&two.left, text, length), 0);
    peer_receive(&two.right, two.sent, two.sent_length, 0);
    assert_int_equal(two.delivered, before + 1);
    assert_int_equal(two.length, length);
    assert_memory_equal(two.last, text, length);
}

static void all_lengths(void **state)
{
    static const char *const cids[] = {NULL, "", "a1", "00010203040506070809101112131415"};
    static const uint16_t suites[] = {PEER_SUITE_CCM8, PEER_SUITE_GCM, PEER_SUITE_CHACHA};
    static uint8_t text[PEER_CONTENT_MAX + 1];

    (void)state;
    memset(text, 'x', sizeof(text));
    for (unsigned s = 0; s < 3; s++)
        for (unsigned c = 0; c < 4; c++) {
            both(suites[s], cids[c], cids[c]);
            for (size_t length = 0; length < 70; length++) {
                two.left.setup.padding = (uint8_t)(length % 5);
                carry(text, length);
            }
            carry(text, PEER_CONTENT_MAX);
            assert_int_equal(peer_write(&two.left, text, PEER_CONTENT_MAX + 1), -EMSGSIZE);
            assert_int_equal(peer_refused(&two.right), 0);
            assert_int_equal(two.left.write_sequence[1], 71);
        }
}

/* Contexts are shared: associations whose keys share a context, or have one each, in turns, with
 * records in between that are not authentic. */
static void many_keys(void **state)
{
    static struct peer left[9], right[9];
    static const uint16_t suites[] = {PEER_SUITE_CCM8, PEER_SUITE_GCM, PEER_SUITE_CHACHA};

    (void)state;
    memset(&two, 0, sizeof(two));
    for (unsigned i = 0; i < 9; i++) {
        uint8_t keys[2] = {(uint8_t)(i / 3), (uint8_t)(i / 3)};

        establish(&left[i], suites[i % 3], NULL, NULL, keys);
        establish(&right[i], suites[i % 3], NULL, NULL, keys);
        left[i].write.key[5] = right[i].read.key[5] = (uint8_t)(i / 6);
    }
    left[8].write.key[0] = right[8].read.key[0] = 1;
    for (unsigned round = 0; round < 50; round++)
        for (unsigned i = 0; i < 9; i++) {
            unsigned which = (round * i) % 9, before = two.delivered;

            assert_int_equal(peer_write(&left[which], "round and round", 15), 0);
            two.sent[two.sent_length - 1] ^= 1;
            peer_receive(&right[which], two.sent, two.sent_length, 0);
            assert_int_equal(two.delivered, before);
            two.sent[two.sent_length - 1] ^= 1;
            peer_receive(&right[which], two.sent, two.sent_length, 0);
            assert_int_equal(two.delivered, before + 1);
        }
}

/* RFC 9146 4: a record that is made here, with nothing but EVP; "hi", type 23, two zeros. */
static void cid_record_by_hand(void **state)
{
    uint8_t datagram[64], nonce[12], aad[64], plain[] = {'h', 'i', 23, 0, 0}, key[16];
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    size_t aad_length =
        from_hex("ffffffffffffffff 19 04 19 fefd 0001000000000007 0a0b0c0d 0005", aad);
    size_t length = from_hex("19 fefd 0001 000000000007 0a0b0c0d 001d 0001000000000007", datagram);
    int n;

    (void)state;
    both(PEER_SUITE_GCM, "e0e1", "0a0b0c0d");
    memset(key, 0x11, sizeof(key));
    from_hex("11111111 0001000000000007", nonce);
    assert_int_equal(EVP_EncryptInit_ex(context, EVP_aes_128_gcm(), NULL, key, nonce), 1);
    assert_int_equal(EVP_EncryptUpdate(context, NULL, &n, aad, (int)aad_length), 1);
    assert_int_equal(EVP_EncryptUpdate(context, datagram + length, &n, plain, sizeof(plain)), 1);
    assert_int_equal(EVP_EncryptFinal_ex(context, datagram + length + 5, &n), 1);
    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, datagram + length + 5);
    EVP_CIPHER_CTX_free(context);
    length += sizeof(plain) + 16;
    peer_receive(&two.right, datagram, length, 0);
    assert_int_equal(two.delivered, 1);
    assert_int_equal(two.length, 2);
    assert_memory_equal(two.last, "hi", 2);
    peer_skip(&two.left, 7); /* and what we write is the same */
    two.left.setup.padding = 2;
    assert_int_equal(peer_write(&two.left, "hi", 2), 0);
    assert_int_equal(two.sent_length, length);
    assert_memory_equal(two.sent, datagram, length);
}

/* ---- records that are wrong ---- */

static void take(const struct peer_record *r, enum peer_refusal why, bool good)
{
    static uint8_t out[PEER_RECORD_MAX + 1024];
    int size = peer_seal(&two.left, r, out, sizeof(out));
    unsigned before = two.delivered;
    uint32_t refused = two.right.refused[why], all = peer_refused(&two.right);

    assert_true(size > 0);
    peer_receive(&two.right, out, (size_t)size, 0);
    assert_int_equal(two.delivered - before, good);
    assert_int_equal(two.right.refused[why] - refused, !good);
    assert_int_equal(peer_refused(&two.right) - all, !good);
    assert_int_equal(peer_state(&two.right), PEER_ESTABLISHED);
}

#define REFUSED(why, change)                                      \
    do {                                                          \
        peer_record(&two.left, PEER_APPLICATION, "hello", 5, &r); \
        change;                                                   \
        take(&r, PEER_REFUSED_##why, false);                      \
    } while (0)

static void wrong_records(void **state)
{
    struct peer_record r;
    uint8_t whole[PEER_CONTENT_MAX + 1] = {0};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        both(PEER_SUITE_CCM8, i ? "a1a2" : NULL, i ? "b1b2b3" : NULL);
        peer_skip(&two.left, 100);
        carry("first", 5);
        REFUSED(TAG, r.keys.key[0] ^= 1);
        REFUSED(TAG, r.keys.iv[0] ^= 1);
        REFUSED(TAG, r.tag_bytes--);
        REFUSED(TAG, r.tag_bytes = 0);
        REFUSED(TAG, r.protect = false);
        REFUSED(FORM, r.length_error = 1);
        REFUSED(FORM, r.version = 0xfeff);
        REFUSED(FORM, r.version = 0x0303);
        REFUSED(EPOCH, r.epoch = 2);
        REFUSED(EPOCH, r.outer_type = r.type; r.epoch = 0; r.protect = false);
        REFUSED(CID, r.outer_type = i ? PEER_APPLICATION : PEER_CID);
        REFUSED(REPLAY, r.sequence = 100);
        REFUSED(REPLAY, r.sequence = 100 - 64);
        REFUSED(STATE, r.type = PEER_CHANGE_CIPHER_SPEC; if (!i) r.outer_type = r.type);
        REFUSED(STATE, r.type = 77; if (!i) r.outer_type = r.type; r.sequence += 10);
        REFUSED(FORM, r.sequence += 20; r.content = whole; r.length = sizeof(whole));
        if (i)
            REFUSED(CID, r.cid[2] ^= 1);
        peer_record(&two.left, PEER_APPLICATION, "hello", 5, &r);
        r.sequence = 100 - 40; /* within the window */
        r.nonce = 1ull << 48 | r.sequence;
        take(&r, PEER_REFUSED_FORM, true);
        take(&r, PEER_REFUSED_REPLAY, false);
        r.sequence++; /* the explicit nonce may be another number (RFC 6655 3) */
        take(&r, PEER_REFUSED_FORM, true);
    }
}

/* Each single byte of a record, and each length of it. */
static void damage(void **state)
{
    uint8_t copy[64];

    (void)state;
    both(PEER_SUITE_GCM, "a1a2", "b1b2b3");
    assert_int_equal(peer_write(&two.left, "x", 1), 0);
    assert_true(two.sent_length <= sizeof(copy));
    for (size_t i = 0; i < two.sent_length; i++) {
        memcpy(copy, two.sent, two.sent_length);
        copy[i] ^= 0x40;
        peer_receive(&two.right, copy, two.sent_length, 0);
        peer_receive(&two.right, two.sent, i, 0);
        assert_int_equal(two.delivered, 0);
        assert_int_equal(peer_state(&two.right), PEER_ESTABLISHED);
    }
    peer_receive(&two.right, two.sent, two.sent_length, 0);
    assert_int_equal(two.delivered, 1);
}

static void window(void **state)
{
    struct peer_window w = {0};

    (void)state;
    assert_true(peer_window_is_new(&w, 0));
    peer_window_mark(&w, 0);
    assert_false(peer_window_is_new(&w, 0));
    peer_window_mark(&w, 63);
    assert_false(peer_window_is_new(&w, 0));
    assert_true(peer_window_is_new(&w, 1));
    peer_window_mark(&w, 1);
    assert_false(peer_window_is_new(&w, 1));
    peer_window_mark(&w, 64);
    assert_false(peer_window_is_new(&w, 0)); /* behind it */
    assert_false(peer_window_is_new(&w, 1));
    assert_true(peer_window_is_new(&w, 2));
    peer_window_mark(&w, 1ull << 40);
    assert_true(peer_window_is_new(&w, (1ull << 40) - 63));
    assert_false(peer_window_is_new(&w, (1ull << 40) - 64));
}

/* RFC 5246 7.2.1: a close_notify is answered, and ends it. */
static void closing(void **state)
{
    struct peer_export e;

    (void)state;
    both(PEER_SUITE_CHACHA, "", "b1");
    peer_close(&two.left);
    assert_int_equal(peer_state(&two.left), PEER_CLOSED);
    assert_int_equal(two.sent[0], PEER_CID);
    peer_receive(&two.right, two.sent, two.sent_length, 0);
    assert_int_equal(two.alerts, 1);
    assert_int_equal(peer_state(&two.right), PEER_CLOSED);
    assert_int_equal(two.sent[0], PEER_ALERT); /* left asked for no CID */
    assert_int_equal(peer_write(&two.right, "x", 1), -ENOTCONN);
    peer_export(&two.right, &e);
    assert_int_equal(e.write_sequence[1], 1);
    assert_int_equal(e.key_bytes, 32);
    two.left.state = PEER_ESTABLISHED;
    peer_skip(&two.left, SEQUENCE_LIMIT);
    assert_int_equal(peer_write(&two.left, "x", 1), -EOVERFLOW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prf_vector),
        cmocka_unit_test(aead),
        cmocka_unit_test(nonces),
        cmocka_unit_test(additional_data),
        cmocka_unit_test(all_lengths),
        cmocka_unit_test(many_keys),
        cmocka_unit_test(cid_record_by_hand),
        cmocka_unit_test(wrong_records),
        cmocka_unit_test(damage),
        cmocka_unit_test(window),
        cmocka_unit_test(closing),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
