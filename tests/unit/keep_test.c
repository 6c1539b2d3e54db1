#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "gateway/security/keep.h"

static const uint8_t key[KEEP_KEY_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8};
static const char service[] = "coapgw:10.99.0.2:5683";

static struct endpoint endpoint_of(const char *text, uint16_t port)
{
    struct endpoint e = {.port = port};

    assert_int_equal(address_parse(text, &e.address), 0);
    return e;
}

static struct store_association a_clear(void)
{
    return (struct store_association){.id = {3, 0xab, 1, 2, 3, 4, 5, 0xff},
                                      .listen = endpoint_of("10.99.0.2", 5684),
                                      .peer = endpoint_of("10.99.0.1", 40000),
                                      .cid = 1};
}

static struct keep_state a_state(enum suite suite)
{
    struct keep_state s = {.read = {.suite = (uint8_t)suite},
                           .write = {.suite = (uint8_t)suite},
                           .limit = 0x123456789a,
                           .top = 0xfedcba98765,
                           .any = true,
                           .own_cid = true,
                           .cid_length = 3,
                           .cid = {7, 8, 9},
                           .epoch = 1,
                           .created_us = 1700000000123456};

    for (unsigned i = 0; i < suite_key_bytes(suite); i++) {
        s.read.key[i] = (uint8_t)(0x10 + i);
        s.write.key[i] = (uint8_t)(0x80 + i);
    }
    for (unsigned i = 0; i < suite_salt_bytes(suite); i++) {
        s.read.salt[i] = (uint8_t)(0xc0 + i);
        s.write.salt[i] = (uint8_t)(0xd0 + i);
    }
    assert_int_equal(principal_set(&s.principal, PRINCIPAL_PSK, "alice", 5), 0);
    return s;
}

static struct keep *make(void)
{
    struct keep *k = keep_create(key, service);

    assert_non_null(k);
    return k;
}

static void assert_same(const struct keep_state *a, const struct keep_state *b)
{
    assert_int_equal(a->read.suite, b->read.suite);
    assert_int_equal(a->write.suite, b->write.suite);
    assert_memory_equal(a->read.key, b->read.key, sizeof(a->read.key));
    assert_memory_equal(a->read.salt, b->read.salt, sizeof(a->read.salt));
    assert_memory_equal(a->write.key, b->write.key, sizeof(a->write.key));
    assert_memory_equal(a->write.salt, b->write.salt, sizeof(a->write.salt));
    assert_true(a->limit == b->limit && a->top == b->top && a->any == b->any);
    assert_true(a->own_cid == b->own_cid && a->epoch == b->epoch);
    assert_int_equal(a->cid_length, b->cid_length);
    assert_memory_equal(a->cid, b->cid, sizeof(a->cid));
    assert_true(a->created_us == b->created_us);
    assert_int_equal(a->principal.kind, b->principal.kind);
    assert_int_equal(a->principal.length, b->principal.length);
    assert_memory_equal(a->principal.text, b->principal.text, a->principal.length);
}

/* Sealed and opened; in memory of exactly the right size, so that the sanitizer sees what reads or
 * writes beyond. */
static int there_and_back(struct keep *k, const struct store_association *clear,
                          const struct keep_state *s, struct keep_state *back)
{
    uint8_t sealed[STORE_SEALED_MAX], *copy;
    int length = keep_seal(k, clear, s, sealed), err;

    if (length < 0)
        return length;
    assert_true(length <= STORE_SEALED_MAX);
    copy = malloc((size_t)length);
    assert_non_null(copy);
    memcpy(copy, sealed, (size_t)length);
    err = keep_open(k, clear, copy, (size_t)length, back);
    free(copy);
    return err;
}

static void all_suites_come_back(void **state)
{
    const struct store_association clear = a_clear();
    struct keep *k = make();

    (void)state;
    for (unsigned suite = 0; suite < SUITE_COUNT; suite++) {
        const struct keep_state s = a_state((enum suite)suite);
        struct keep_state back;

        assert_int_equal(there_and_back(k, &clear, &s, &back), 0);
        assert_same(&s, &back);
    }
    keep_destroy(k);
}

static void limits_come_back(void **state)
{
    struct keep_state s = a_state(SUITE_AES_256_GCM), back;
    struct store_association clear = a_clear();
    char longest[PRINCIPAL_MAX];
    struct keep *k = make();

    (void)state;
    memset(longest, 'n', sizeof(longest));
    assert_int_equal(principal_set(&s.principal, PRINCIPAL_CERTIFICATE, longest, PRINCIPAL_MAX), 0);
    s.cid_length = RECORD_CID_MAX;
    memset(s.cid, 0xff, sizeof(s.cid));
    s.limit = KEEP_END;
    s.top = RECORD_SEQUENCE_LAST;
    s.epoch = UINT16_MAX;
    s.created_us = UINT64_MAX;
    assert_int_equal(there_and_back(k, &clear, &s, &back), 0);
    assert_same(&s, &back);
    s = a_state(SUITE_CHACHA20_POLY1305);
    memset(&s.principal, 0, sizeof(s.principal));
    memset(s.cid, 0, sizeof(s.cid));
    s.cid_length = 0;
    s.limit = s.top = s.created_us = 0;
    s.any = s.own_cid = false;
    clear.cid = 0;
    assert_int_equal(there_and_back(k, &clear, &s, &back), 0);
    assert_same(&s, &back);
    keep_destroy(k);
}

static void values_out_of_range_are_not_sealed(void **state)
{
    const struct keep_state good = a_state(SUITE_AES_128_CCM_8);
    struct store_association clear = a_clear();
    uint8_t sealed[STORE_SEALED_MAX];
    struct keep *k = make();
    struct keep_state s;

    (void)state;
#define refused(change)                                              \
    do {                                                             \
        s = good;                                                    \
        change;                                                      \
        assert_int_equal(keep_seal(k, &clear, &s, sealed), -EINVAL); \
    } while (0)
    assert_true(keep_seal(k, &clear, &good, sealed) > 0);
    refused(s.read.suite = s.write.suite = SUITE_COUNT);
    refused(s.write.suite = SUITE_AES_256_GCM);
    refused(s.limit = KEEP_END + 1);
    refused(s.top = RECORD_SEQUENCE_LAST + 1);
    refused(s.any = false);
    refused(s.cid_length = RECORD_CID_MAX + 1);
    refused(s.epoch = 0);
    refused(s.own_cid = false);
    refused(s.principal.kind = PRINCIPAL_NONE);
    refused(s.principal.kind = 3);
    refused(s.principal.length = 0);
    refused(s.principal.length = PRINCIPAL_MAX + 1);
    refused(s.principal.text[2] = 0);
    clear.cid = 0;
    refused((void)0);
#undef refused
    keep_destroy(k);
}

/* Each bit, each shorter length, each byte more. */
static void every_damage_is_noticed(void **state)
{
    const struct keep_state s = a_state(SUITE_AES_128_CCM_8);
    const struct store_association clear = a_clear();
    uint8_t sealed[STORE_SEALED_MAX], *bad;
    struct keep *k = make();
    int length = keep_seal(k, &clear, &s, sealed);
    struct keep_state back;
    static const struct keep_state none;

    (void)state;
    assert_true(length > 0);
    for (int bit = 0; bit < length * 8; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(keep_open(k, &clear, sealed, (size_t)length, &back), -EBADMSG);
        assert_memory_equal(&back, &none, sizeof(back)); /* nothing of it is left there */
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (int less = 0; less < length; less++) {
        bad = malloc((size_t)less + !less);
        assert_non_null(bad);
        memcpy(bad, sealed, (size_t)less);
        assert_int_equal(keep_open(k, &clear, bad, (size_t)less, &back), -EBADMSG);
        free(bad);
    }
    for (size_t more = (size_t)length + 1; more <= STORE_SEALED_MAX; more++)
        assert_int_equal(keep_open(k, &clear, sealed, more, &back), -EBADMSG);
    assert_int_equal(keep_open(k, &clear, sealed, (size_t)length, &back), 0);
    keep_destroy(k);
}

/* Another key, another service, another record, or anything else in clear beside it. */
static void only_its_own_place_opens_it(void **state)
{
    const struct keep_state s = a_state(SUITE_AES_128_GCM);
    const struct store_association clear = a_clear();
    uint8_t sealed[STORE_SEALED_MAX], other_key[KEEP_KEY_BYTES];
    struct keep *k = make(), *other;
    size_t length = (size_t)keep_seal(k, &clear, &s, sealed);
    struct store_association moved;
    struct keep_state back;

    (void)state;
    for (unsigned bit = 0; bit < 8 * KEEP_KEY_BYTES; bit += 37) {
        memcpy(other_key, key, sizeof(key));
        other_key[bit / 8] ^= (uint8_t)(1 << bit % 8);
        other = keep_create(other_key, service);
        assert_int_equal(keep_open(other, &clear, sealed, length, &back), -EBADMSG);
        keep_destroy(other);
    }
    other = keep_create(key, "coapgw:10.99.0.2:5684");
    assert_int_equal(keep_open(other, &clear, sealed, length, &back), -EBADMSG);
    keep_destroy(other);
    other = keep_create(key, service); /* as after a restart */
    assert_int_equal(keep_open(other, &clear, sealed, length, &back), 0);
    keep_destroy(other);
#define misplaced(change)                                                        \
    do {                                                                         \
        moved = clear;                                                           \
        change;                                                                  \
        assert_int_equal(keep_open(k, &moved, sealed, length, &back), -EBADMSG); \
    } while (0)
    misplaced(moved.id[0] ^= 1);
    misplaced(moved.id[7] ^= 0x80);
    misplaced(moved.cid = 0);
    misplaced(moved.listen.port++);
    misplaced(moved.listen.address.bytes[15]++);
    misplaced(moved.peer.port--);
    misplaced(moved.peer.address.bytes[0] = 1);
    misplaced(moved.peer = clear.listen; moved.listen = clear.peer);
#undef misplaced
    moved = clear;
    moved.sealed_length = 99; /* which does not count */
    assert_int_equal(keep_open(k, &moved, sealed, length, &back), 0);
    keep_destroy(k);
}

static void swapped_records_are_not_opened(void **state)
{
    const struct keep_state s = a_state(SUITE_AES_128_GCM);
    struct store_association a = a_clear(), b = a_clear();
    uint8_t first[STORE_SEALED_MAX], second[STORE_SEALED_MAX];
    struct keep *k = make();
    struct keep_state back;
    int length;

    (void)state;
    b.id[3]++;
    length = keep_seal(k, &a, &s, first);
    assert_int_equal(keep_seal(k, &b, &s, second), length);
    assert_int_equal(keep_open(k, &a, second, (size_t)length, &back), -EBADMSG);
    assert_int_equal(keep_open(k, &b, first, (size_t)length, &back), -EBADMSG);
    assert_int_equal(keep_seal(k, &a, &s, second), length); /* no nonce twice */
    assert_memory_not_equal(first, second, 12);
    assert_memory_not_equal(first + 12, second + 12, (size_t)length - 12);
    keep_destroy(k);
}

/* ---- the format, written again ---- */

/* As the header says: the key of an association, and what is authenticated. */
static size_t seal_bytes(const struct store_association *a, uint8_t version, const uint8_t *plain,
                         size_t length, uint8_t *out)
{
    static const char label[] = "coapgw association 1";
    uint8_t own[32], material[sizeof(label) + 8], beside[256], *at = beside;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    unsigned n = 0;
    int m;

    memcpy(material, label, sizeof(label));
    memcpy(material + sizeof(label), a->id, 8);
    assert_non_null(HMAC(EVP_sha256(), key, sizeof(key), material, sizeof(material), own, &n));
    *at++ = version;
    *at++ = 0;
    *at++ = sizeof(service) - 1;
    memcpy(at, service, sizeof(service) - 1);
    at += sizeof(service) - 1;
    memcpy(at, a->id, 8);
    at += 8;
    *at++ = a->cid;
    for (unsigned i = 0; i < 2; i++) {
        const struct endpoint *e = i ? &a->peer : &a->listen;

        memcpy(at, e->address.bytes, 16);
        at += 16;
        *at++ = (uint8_t)(e->port >> 8);
        *at++ = (uint8_t)e->port;
    }
    memset(out, 0x5a, 12);
    assert_int_equal(EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, own, out), 1);
    assert_int_equal(EVP_EncryptUpdate(c, NULL, &m, beside, (int)(at - beside)), 1);
    assert_int_equal(EVP_EncryptUpdate(c, out + 12, &m, plain, (int)length), 1);
    assert_int_equal(EVP_EncryptFinal_ex(c, out + 12 + length, &m), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, out + 12 + length), 1);
    EVP_CIPHER_CTX_free(c);
    return 12 + length + 16;
}

/* What a_state(SUITE_AES_128_CCM_8) is in Redis, whatever the machine: it must never change without
 * another version. */
static size_t write_plain(uint8_t *out)
{
    static const uint8_t written[] = {
        1,    0,    3,    0,    1,                      /* version, suite, flags, epoch */
        0,    0,    0,    0x12, 0x34, 0x56, 0x78, 0x9a, /* limit */
        0,    0,    0x0f, 0xed, 0xcb, 0xa9, 0x87, 0x65, /* top */
        0,    6,    0x0a, 0x24, 0x18, 0x20, 0x22, 0x40, /* time */
        3,    7,    8,    9,                            /* CID */
        1,    5,    'a',  'l',  'i',  'c',  'e',        /* name */
        0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19,
        0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0xc0, 0xc1, 0xc2, 0xc3, /* to read */
        0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
        0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0xd0, 0xd1, 0xd2, 0xd3, /* to write */
    };

    memcpy(out, written, sizeof(written));
    return sizeof(written);
}

static int open_plain(struct keep *k, uint8_t version, const uint8_t *plain, size_t length,
                      struct keep_state *back)
{
    const struct store_association clear = a_clear();
    uint8_t sealed[STORE_SEALED_MAX];
    size_t n = seal_bytes(&clear, version, plain, length, sealed);

    return keep_open(k, &clear, sealed, n, back);
}

static void the_format_is_fixed(void **state)
{
    const struct keep_state s = a_state(SUITE_AES_128_CCM_8);
    struct keep *k = make();
    struct keep_state back;
    uint8_t plain[512];
    size_t length = write_plain(plain);

    (void)state;
    assert_int_equal(open_plain(k, 1, plain, length, &back), 0);
    assert_same(&s, &back);
    keep_destroy(k);
}

/* Authentic, and not what this version can have written. */
static void strange_states_are_refused(void **state)
{
    static const struct {
        unsigned at;
        uint8_t value;
    } wrong[] = {
        {0, 0},
        {0, 2}, /* version */
        {1, 99},
        {1, SUITE_COUNT},       /* suite */
        {1, SUITE_AES_256_GCM}, /* whose keys are longer */
        {2, 2},                 /* no CID, beside one in clear */
        {2, 1},                 /* no record, and one that was the newest */
        {2, 7},
        {2, 0x83}, /* unknown flags */
        {4, 0},    /* epoch 0 */
        {5, 1},
        {6, 2}, /* limit */
        {13, 1},
        {14, 1}, /* top */
        {29, 33},
        {29, 255}, /* length of the CID */
        {29, 2},
        {29, 4}, /* all moves */
        {33, 0},
        {33, 3}, /* kind of name */
        {34, 0},
        {34, 129}, /* its length */
        {34, 4},
        {34, 6}, /* all moves */
        {36, 0}, /* a zero in it */
    };
    struct keep *k = make();
    struct keep_state back;
    uint8_t plain[512], bad[512];
    size_t length = write_plain(plain);

    (void)state;
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        memcpy(bad, plain, length);
        bad[wrong[i].at] = wrong[i].value;
        assert_int_equal(open_plain(k, 1, bad, length, &back), -EBADMSG);
    }
    assert_int_equal(open_plain(k, 2, plain, length, &back), -EBADMSG);
    for (size_t less = 1; less < length; less++)
        assert_int_equal(open_plain(k, 1, plain, less, &back), -EBADMSG);
    plain[length] = 0;
    assert_int_equal(open_plain(k, 1, plain, length + 1, &back), -EBADMSG);
    keep_destroy(k);
}

static void the_longest_service(void **state)
{
    char name[300];
    struct keep *k;

    (void)state;
    memset(name, 's', sizeof(name));
    name[256] = 0;
    k = keep_create(key, name);
    assert_non_null(k);
    keep_destroy(k);
    name[256] = 's';
    name[257] = 0;
    assert_null(keep_create(key, name));
    assert_int_equal(errno, EINVAL);
    keep_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_suites_come_back),
        cmocka_unit_test(limits_come_back),
        cmocka_unit_test(values_out_of_range_are_not_sealed),
        cmocka_unit_test(every_damage_is_noticed),
        cmocka_unit_test(only_its_own_place_opens_it),
        cmocka_unit_test(swapped_records_are_not_opened),
        cmocka_unit_test(the_format_is_fixed),
        cmocka_unit_test(strange_states_are_refused),
        cmocka_unit_test(the_longest_service),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
