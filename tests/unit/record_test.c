/* The record layer of DTLS: vectors, records that we make and read again, the table of keyed
 * contexts, the window against replays. What is wrong is in record_damage_test.c. */
#include <errno.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "tests/unit/record_samples.h"

static struct aead *aead;

static int setup(void **state)
{
    (void)state;
    aead = aead_create(16);
    return aead ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    aead_destroy(aead);
    return 0;
}

/* ---- AEAD ---- */

static const struct vector {
    const char *source;
    enum suite suite;
    const char *key, *nonce, *additional, *plain, *sealed;
} vectors[] = {
    {"NIST SP 800-38C, example 3", SUITE_AES_128_CCM_8, "404142434445464748494a4b4c4d4e4f",
     "101112131415161718191a1b", "000102030405060708090a0b0c0d0e0f10111213",
     "202122232425262728292a2b2c2d2e2f3031323334353637",
     "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951"},
    {"McGrew and Viega, GCM, test case 4", SUITE_AES_128_GCM, "feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6"
     "b525b16aedf5aa0de657ba637b39",
     "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84"
     "aa051ba30b396a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47"},
    {"McGrew and Viega, GCM, test case 16", SUITE_AES_256_GCM,
     "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6"
     "b525b16aedf5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b105682"
     "8838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"},
    {"RFC 8439 2.8.2", SUITE_CHACHA20_POLY1305,
     "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "070000004041424344454647",
     "50515253c0c1c2c3c4c5c6c7",
     "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a2049662049"
     "20636f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c20"
     "73756e73637265656e20776f756c642062652069742e",
     "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92"
     "728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b"
     "4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"},
};

static void the_ciphers_are_those_of_their_papers(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        const struct vector *v = &vectors[i];
        struct record_key key = {.suite = (uint8_t)v->suite};
        struct aead_job job = {.slot = AEAD_NO_SLOT, .key = &key};
        uint8_t plain[256], sealed[256], text[256];
        size_t length = unhex(v->plain, plain), whole = unhex(v->sealed, sealed);

        assert_int_equal(unhex(v->key, key.key), suite_key_bytes(v->suite));
        assert_int_equal(unhex(v->nonce, job.nonce), sizeof(job.nonce));
        job.additional_length = (uint8_t)unhex(v->additional, job.additional);
        memcpy(text, plain, length);
        assert_int_equal(aead_seal(aead, &job, text, length), 0);
        assert_int_equal(whole, length + suite_tag_bytes(v->suite));
        assert_memory_equal(text, sealed, whole);
        assert_int_equal(aead_open(aead, &job, text, length, text), 0);
        assert_memory_equal(text, plain, length);
    }
}

/* NIST's vectors for the PRF of TLS 1.2 (SP 800-135, tls.rsp): master secret, both randoms and the
 * key block, of which an AEAD suite takes what it wants from the front. */
static void keys_follow_from_the_master_secret(void **state)
{
    static const char *const secrets[] = {
        "202c88c00f84a17a20027079604787461176455539e705be730890602c289a5001e34eeb3a043e5d52a65e6612"
        "51"
        "88bf",
        "62e1fd91f23f558a605f28478c58cf72637b89784d959df7e946d3f07bd1b616",
        "ae6c806f8ad4d80784549dff28a4b58fd837681a51d928c3e30ee5ff14f39868",
    };
    uint8_t master[48], client_random[32], server_random[32], block[40];
    struct record_key client, server;

    (void)state;
    unhex(secrets[0], master);
    unhex(secrets[1], client_random);
    unhex(secrets[2], server_random);
    unhex("d06139889fffac1e3a71865f504aa5d0d2a2e89506c6f2279b670c3e1b74f531016a2530c51a3a0f",
          block);
    assert_int_equal(
        record_derive(SUITE_AES_128_GCM, master, client_random, server_random, &client, &server),
        0);
    assert_memory_equal(client.key, block, 16);
    assert_memory_equal(server.key, block + 16, 16);
    assert_memory_equal(client.salt, block + 32, 4);
    assert_memory_equal(server.salt, block + 36, 4);
    assert_int_equal(client.suite, SUITE_AES_128_GCM);
    assert_int_equal(server.suite, SUITE_AES_128_GCM);
}

static void suites_are_known_by_their_numbers(void **state)
{
    static const struct {
        uint16_t number;
        enum suite suite;
    } known[] = {
        {0xc0a8, SUITE_AES_128_CCM_8},     {0xc0a4, SUITE_AES_128_CCM},
        {0x00a8, SUITE_AES_128_GCM},       {0xccab, SUITE_CHACHA20_POLY1305},
        {0xccac, SUITE_CHACHA20_POLY1305}, {0xd001, SUITE_AES_128_GCM},
        {0xd003, SUITE_AES_128_CCM_8},     {0xd005, SUITE_AES_128_CCM},
        {0xc0ae, SUITE_AES_128_CCM_8},     {0xc0ac, SUITE_AES_128_CCM},
        {0xc02b, SUITE_AES_128_GCM},       {0xc02c, SUITE_AES_256_GCM},
        {0xcca9, SUITE_CHACHA20_POLY1305}, {0xc02f, SUITE_AES_128_GCM},
        {0xc030, SUITE_AES_256_GCM},       {0xcca8, SUITE_CHACHA20_POLY1305},
        {0xc0a9, SUITE_AES_256_CCM_8},     {0xc0a5, SUITE_AES_256_CCM},
    };
    /* CBC, TLS 1.3, none at all, RC4, ARIA */
    static const uint16_t others[] = {0xc037, 0x1301, 0x0000, 0x008a, 0xc06a, 0xffff};
    enum suite suite;

    (void)state;
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        suite = SUITE_COUNT;
        assert_true(suite_of(known[i].number, &suite));
        assert_int_equal(suite, known[i].suite);
    }
    for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_false(suite_of(others[i], &suite));
    assert_string_equal(suite_digest(SUITE_AES_256_GCM), "SHA384");
    assert_string_equal(suite_digest(SUITE_AES_256_CCM), "SHA256");
    assert_string_equal(suite_name(SUITE_AES_128_CCM_8), "AES-128-CCM-8");
    assert_true(suite_seal_limit(SUITE_AES_128_CCM_8) <= 1u << 23);
    assert_true(suite_forgery_limit(SUITE_AES_128_CCM_8) <= 1u << 23);
    assert_true(suite_seal_limit(SUITE_AES_128_GCM) < 1u << 25);
    assert_true(suite_forgery_limit(SUITE_AES_128_GCM) == UINT64_C(1) << 36);
}

/* ---- records ---- */

/* RFC 9146 5.3, byte by byte, and not as the layer puts it together. */
static void a_record_with_a_connection_id_authenticates_what_it_should(void **state)
{
    static const uint8_t cid[3] = {0xaa, 0xbb, 0xcc};
    struct record_key key, other;
    struct record_mark mark = {.type = RECORD_APPLICATION_DATA,
                               .epoch = 0x0102,
                               .sequence = 0x030405060708,
                               .cid = cid,
                               .cid_length = sizeof(cid)};
    struct aead_job job = {.slot = AEAD_NO_SLOT, .key = &key, .additional_length = 26};
    uint8_t record[64], text[16];

    (void)state;
    sample_keys(SUITE_AES_128_CCM_8, &key, &other);
    assert_int_equal(record_lead(key.suite, sizeof(cid)), 13 + 3 + 8);
    assert_int_equal(record_trail(key.suite, sizeof(cid)), 1 + 8);
    assert_int_equal(sample_seal(aead, 1, &key, &mark, record, "abcde", 5), 13 + 3 + 8 + 5 + 1 + 8);
    assert_memory_equal(record,
                        "\x19\xfe\xfd\x01\x02\x03\x04\x05\x06\x07\x08\xaa\xbb\xcc\x00\x16"
                        "\x01\x02\x03\x04\x05\x06\x07\x08",
                        24);
    memcpy(job.nonce, key.salt, 4);
    memcpy(job.nonce + 4, record + 16, 8);
    unhex("ffffffffffffffff190319fefd0102030405060708aabbcc0006", job.additional);
    assert_int_equal(aead_open(aead, &job, record + 24, 6, text), 0);
    assert_memory_equal(text, "abcde\x17", 6);
}

/* And the one without, by RFC 5246 6.2.3.3. */
static void a_record_without_one_authenticates_what_it_should(void **state)
{
    struct record_key key, other;
    struct record_mark mark = {.type = RECORD_ALERT, .epoch = 1, .sequence = 0x0a0b0c0d0e0f};
    struct aead_job job = {.slot = AEAD_NO_SLOT, .key = &key, .additional_length = 13};
    uint8_t record[64], text[16];

    (void)state;
    sample_keys(SUITE_CHACHA20_POLY1305, &key, &other);
    assert_int_equal(record_lead(key.suite, 0), 13);
    assert_int_equal(record_trail(key.suite, 0), 16);
    assert_int_equal(sample_seal(aead, 1, &key, &mark, record, "\1\0", 2), 13 + 2 + 16);
    assert_memory_equal(record, "\x15\xfe\xfd\x00\x01\x0a\x0b\x0c\x0d\x0e\x0f\x00\x12", 13);
    memcpy(job.nonce, key.salt, 12);
    for (unsigned i = 0; i < 8; i++)
        job.nonce[4 + i] ^= record[3 + i];
    unhex("00010a0b0c0d0e0f15fefd0002", job.additional);
    assert_int_equal(aead_open(aead, &job, record + 13, 2, text), 0);
    assert_memory_equal(text, "\1\0", 2);
}

/* Every suite, with and without a Connection ID, of several lengths, into another place and where
 * it lies. */
static void what_is_sealed_can_be_opened(void **state)
{
    static const size_t lengths[] = {0, 1, 15, 16, 17, 64, 1200, RECORD_PLAIN_MAX};
    static uint8_t plain[RECORD_PLAIN_MAX], record[RECORD_PLAIN_MAX + 256], out[1 << 15];
    uint8_t cid[RECORD_CID_MAX] = {9, 8, 7}, type;

    (void)state;
    for (unsigned i = 0; i < sizeof(plain); i++)
        plain[i] = (uint8_t)(i * 7);
    for (unsigned n = 0; n < SUITE_COUNT * 3 * 8; n++) {
        enum suite suite = n / 24;
        uint8_t cid_length = (uint8_t[]){0, 8, RECORD_CID_MAX}[n / 8 % 3];
        size_t length = lengths[n % 8];
        struct record_mark mark = {.type = RECORD_APPLICATION_DATA,
                                   .epoch = 1,
                                   .sequence = n,
                                   .cid = cid,
                                   .cid_length = cid_length};
        struct record_key key, other;
        struct record_view view;
        int sealed;

        sample_keys(suite, &key, &other);
        other = key;
        other.key[5] ^= 1;
        assert_int_equal(aead_prepare(aead, suite), 0);
        sealed = sample_seal(aead, 2 * suite, &key, &mark, record, plain, length);
        assert_int_equal(sealed,
                         record_lead(suite, cid_length) + length + record_trail(suite, cid_length));
        assert_int_equal(record_next(record, (size_t)sealed, cid_length, &view), sealed);
        assert_int_equal(view.sequence, n);
        assert_int_equal(view.epoch, 1);
        assert_int_equal(view.type, cid_length ? RECORD_CID : RECORD_APPLICATION_DATA);
        assert_int_equal(record_open(aead, 2 * suite + 1, &key, &view, out, &type), length);
        assert_memory_equal(out, plain, length);
        assert_int_equal(type, RECORD_APPLICATION_DATA);
        assert_int_equal(record_open(aead, 2 * suite + 1, &other, &view, out, &type),
                         length); /* a slot is one key for ever */
        assert_int_equal(record_open(aead, AEAD_NO_SLOT, &other, &view, out, &type), -EBADMSG);
        assert_int_equal(record_open(aead, 2 * suite + 1, &key, &view,
                                     (uint8_t *)(uintptr_t)record_plain(&view, suite), &type),
                         length);
        assert_memory_equal(record_plain(&view, suite), plain, length);
    }
}

static void what_cannot_be_sealed_is_refused(void **state)
{
    static uint8_t record[RECORD_PLAIN_MAX + 256];
    struct record_mark good = {.type = RECORD_APPLICATION_DATA, .epoch = 1}, mark;
    struct record_key key, other;

    (void)state;
    sample_keys(SUITE_AES_128_GCM, &key, &other);
    assert_int_equal(record_seal(aead, 1, &key, &good, record, RECORD_PLAIN_MAX + 1), -EMSGSIZE);
    mark = good;
    mark.sequence = RECORD_SEQUENCE_LAST + 1;
    assert_int_equal(record_seal(aead, 1, &key, &mark, record, 1), -EOVERFLOW);
    mark.sequence--;
    assert_int_equal(record_seal(aead, 1, &key, &mark, record, 1), 13 + 8 + 1 + 16);
    mark = good;
    mark.epoch = 0;
    assert_int_equal(record_seal(aead, 1, &key, &mark, record, 1), -EINVAL);
    mark = good;
    mark.type = RECORD_CID;
    assert_int_equal(record_seal(aead, 1, &key, &mark, record, 1), -EINVAL);
    mark = good;
    mark.cid_length = RECORD_CID_MAX + 1;
    assert_int_equal(record_seal(aead, 1, &key, &mark, record, 1), -EINVAL);
}

/* What OpenSSL makes of a handshake comes in records like these, and is read the same way. */
static void records_of_a_handshake_are_read(void **state)
{
    static const uint8_t datagram[] = {22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2,
                                       20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1};
    struct record_view view;

    (void)state;
    assert_int_equal(record_next(datagram, sizeof(datagram), 8, &view), 15);
    assert_int_equal(view.type, RECORD_HANDSHAKE);
    assert_int_equal(view.version, RECORD_VERSION_1_0);
    assert_int_equal(view.epoch, 0);
    assert_int_equal(view.cid_length, 0);
    assert_ptr_equal(view.header, datagram);
    assert_ptr_equal(view.body, datagram + 13);
    assert_int_equal(view.length, 2);
    assert_int_equal(record_next(datagram + 15, sizeof(datagram) - 15, 8, &view), 14);
    assert_int_equal(view.type, RECORD_CHANGE_CIPHER_SPEC);
    assert_int_equal(view.sequence, 1);
}

/* ---- contexts ---- */

/* Seals with key `i` of `keys` and reads it with a context that has nobody's key. */
static void check_slot(uint64_t slot, const struct record_key *key)
{
    struct record_mark mark = {.type = RECORD_APPLICATION_DATA, .epoch = 1, .sequence = slot};
    uint8_t record[64], out[64], type;
    int length = sample_seal(aead, slot, key, &mark, record, "text", 4);

    assert_int_equal(sample_open(aead, AEAD_NO_SLOT, key, record, length, 0, out, &type), 4);
    assert_int_equal(sample_open(aead, slot, key, record, length, 0, out, &type), 4);
    record[RECORD_HEADER_BYTES] ^= 1;
    assert_int_equal(sample_open(aead, slot, key, record, length, 0, out, &type), -EBADMSG);
}

/* More slots than places, of all suites by turns, forwards and back, prepared and not. */
static void contexts_are_never_mixed_up(void **state)
{
    struct record_key keys[64], other;

    (void)state;
    for (unsigned i = 0; i < 64; i++) {
        sample_keys(i % SUITE_COUNT, &keys[i], &other);
        keys[i].key[3] = (uint8_t)i;
    }
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < 64; i++)
            check_slot(i, &keys[i]);
        for (unsigned i = 64; i-- > 0;)
            check_slot(i, &keys[i]);
        for (unsigned i = 0; i < 8; i++) { /* another's key where the first one's was */
            aead_forget(aead, i, keys[i].suite);
            check_slot((uint64_t)(round + 1) << 32 | i, &keys[63 - i]);
        }
        assert_int_equal(aead_prepare(aead, round), 0);
    }
}

/* A slot that was forgotten is keyed anew: by what it is given then. */
static void a_forgotten_key_is_gone(void **state)
{
    struct record_mark mark = {.type = RECORD_APPLICATION_DATA, .epoch = 1};
    struct record_key key, other;
    uint8_t record[64], out[64], type;
    int length;

    (void)state;
    for (enum suite suite = 0; suite < SUITE_COUNT; suite++) {
        sample_keys(suite, &key, &other);
        other = key;
        other.key[5] ^= 1;
        assert_int_equal(aead_prepare(aead, suite), 0);
        length = sample_seal(aead, 4, &key, &mark, record, "text", 4);
        assert_int_equal(sample_open(aead, 5, &key, record, length, 0, out, &type), 4);
        assert_int_equal(sample_open(aead, 5, &other, record, length, 0, out, &type), 4);
        aead_forget(aead, 5 + 16, suite); /* another one's place: nothing happens */
        assert_int_equal(sample_open(aead, 5, &other, record, length, 0, out, &type), 4);
        aead_forget(aead, 5, suite);
        assert_int_equal(sample_open(aead, 5, &other, record, length, 0, out, &type), -EBADMSG);
        aead_forget(aead, 5, suite);
        aead_forget(aead, AEAD_NO_SLOT, suite);
        assert_int_equal(sample_open(aead, 5, &key, record, length, 0, out, &type), 4);
    }
}

static void without_a_table_each_record_keys_a_context(void **state)
{
    struct aead *kept = aead;
    struct record_key key, other;

    (void)state;
    aead = aead_create(0);
    assert_non_null(aead);
    for (enum suite suite = 0; suite < SUITE_COUNT; suite++) {
        sample_keys(suite, &key, &other);
        assert_int_equal(aead_prepare(aead, suite), 0);
        for (uint64_t slot = 0; slot < 4; slot++)
            check_slot(slot, slot % 2 ? &key : &other);
    }
    aead_destroy(aead);
    aead_destroy(NULL);
    aead = kept;
}

static unsigned allocations; /* of OpenSSL */

static void *count_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    allocations++;
    return malloc(size);
}

static void *count_realloc(void *old, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    allocations++;
    return realloc(old, size);
}

static void count_free(void *old, const char *file, int line)
{
    (void)file;
    (void)line;
    free(old);
}

/* Forged records: nothing stays on OpenSSL's queue of errors, where the next handshake would take
 * it for its own, and nothing is allocated. Neither is it by keys that take turns. */
static void the_packet_path_leaves_nothing_behind(void **state)
{
    struct record_mark mark = {.type = RECORD_APPLICATION_DATA, .epoch = 1};
    uint8_t record[64], forged[64], scratch[64], out[64], type;
    struct record_key key, other;
    unsigned before;
    int length;

    (void)state;
    for (enum suite suite = 0; suite < SUITE_COUNT; suite++) {
        sample_keys(suite, &key, &other);
        before = allocations;
        assert_int_equal(aead_prepare(aead, suite), 0);
        /* AES-128-CCM and AES-256-CCM are there already, by their suites with short tags */
        assert_true((allocations > before) ==
                    (suite != SUITE_AES_128_CCM && suite != SUITE_AES_256_CCM));
        length = sample_seal(aead, 6, &key, &mark, record, "text", 4);
        memcpy(forged, record, sizeof(forged));
        forged[RECORD_HEADER_BYTES] ^= 1;
        before = allocations;
        for (unsigned i = 0; i < 64; i++) {
            uint64_t slot = i % 3 ? i : AEAD_NO_SLOT;

            assert_int_equal(sample_open(aead, slot, &key, forged, length, 0, out, &type),
                             -EBADMSG);
            assert_int_equal(ERR_peek_error(), 0);
            assert_int_equal(sample_open(aead, slot, &key, record, length, 0, out, &type), 4);
            assert_true(sample_seal(aead, slot, &other, &mark, scratch, "", 0) > 0);
        }
        assert_int_equal(allocations, before);
    }
}

/* ---- the window ---- */

static bool arrive(struct record_window *window, uint64_t sequence)
{
    bool fresh = window_is_fresh(window, sequence);

    if (fresh)
        window_mark(window, sequence);
    assert_false(window_is_fresh(window, sequence));
    return fresh;
}

static void the_window_has_64_entries(void **state)
{
    struct record_window window = {0};

    (void)state;
    assert_true(window_is_fresh(&window, 0));
    assert_true(arrive(&window, 100));
    assert_false(window_is_fresh(&window, 36));
    assert_true(window_is_fresh(&window, 37));
    for (uint64_t i = 37; i < 100; i++)
        assert_true(arrive(&window, i));
    for (uint64_t i = 0; i <= 100; i++)
        assert_false(window_is_fresh(&window, i));
    assert_true(window.mask == UINT64_MAX);
    assert_true(arrive(&window, 101));
    assert_false(window_is_fresh(&window, 37));
    assert_int_equal(window.top, 101);
}

static void the_window_takes_records_out_of_order(void **state)
{
    struct record_window window = {0};

    (void)state;
    assert_true(arrive(&window, 0));
    assert_false(arrive(&window, 0));
    assert_true(arrive(&window, 3));
    assert_true(arrive(&window, 1));
    assert_true(arrive(&window, 2));
    assert_true(arrive(&window, 66)); /* 63 ahead: 3 is the last entry */
    assert_false(window_is_fresh(&window, 3));
    assert_true(window_is_fresh(&window, 4));
    assert_true(arrive(&window, 66 + 64)); /* 64 ahead: all that was known is too old */
    assert_true(window.mask == 1);
    assert_false(window_is_fresh(&window, 66));
    assert_true(window_is_fresh(&window, 67));
    assert_true(arrive(&window, 1000000));
    assert_true(window.mask == 1);
    assert_true(window_is_fresh(&window, 1000000 - 63));
    assert_false(window_is_fresh(&window, 1000000 - 64));
}

static void the_window_ends_at_the_last_sequence(void **state)
{
    struct record_window window = {0};

    (void)state;
    assert_true(arrive(&window, RECORD_SEQUENCE_LAST - 1));
    assert_true(arrive(&window, RECORD_SEQUENCE_LAST));
    assert_false(arrive(&window, RECORD_SEQUENCE_LAST));
    assert_false(window_is_fresh(&window, 0)); /* nothing begins again */
    assert_true(window_is_fresh(&window, RECORD_SEQUENCE_LAST - 63));
    assert_int_equal(window.mask, 3);
}

/* Against a list of all that has arrived. */
static void the_window_agrees_with_a_list(void **state)
{
    static bool seen[5000];
    struct record_window window = {0};
    uint64_t random = 1, top = 0;

    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t sequence;
        bool fresh;

        random = random * 6364136223846793005u + 1442695040888963407u;
        sequence = (random >> 33) % 160 + i / 50;
        fresh = !seen[sequence] && (sequence > top || top - sequence < RECORD_WINDOW);
        assert_true(window_is_fresh(&window, sequence) == fresh);
        if (!fresh)
            continue;
        window_mark(&window, sequence);
        seen[sequence] = true;
        top = sequence > top ? sequence : top;
        assert_int_equal(window.top, top);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_ciphers_are_those_of_their_papers, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_follow_from_the_master_secret, setup, teardown),
        cmocka_unit_test_setup_teardown(suites_are_known_by_their_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_record_with_a_connection_id_authenticates_what_it_should,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_record_without_one_authenticates_what_it_should, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_sealed_can_be_opened, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_sealed_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(records_of_a_handshake_are_read, setup, teardown),
        cmocka_unit_test_setup_teardown(contexts_are_never_mixed_up, setup, teardown),
        cmocka_unit_test_setup_teardown(a_forgotten_key_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_table_each_record_keys_a_context, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_packet_path_leaves_nothing_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(the_window_has_64_entries, setup, teardown),
        cmocka_unit_test_setup_teardown(the_window_takes_records_out_of_order, setup, teardown),
        cmocka_unit_test_setup_teardown(the_window_ends_at_the_last_sequence, setup, teardown),
        cmocka_unit_test_setup_teardown(the_window_agrees_with_a_list, setup, teardown),
    };

    if (CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) != 1)
        return 1; /* OpenSSL has allocated already */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
