/* ClientHello and cookie: what is none, what a cookie holds for and how long, and that a flood of
 * them leaves nothing. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/crypto.h>

#include "gateway/security/hello.h"

#define HELLO_MAX   512u
#define MESSAGE_AT  13u
#define BODY_AT     25u
#define RANDOM_AT   27u
#define COOKIE_AT   60u /* its length, with an empty session ID */
#define PLAIN_BYTES 80u /* without a cookie */
#define SMALLEST    67u /* no extension, one cipher suite */
#define MESSAGE_SEQ 17u

static unsigned long allocations;

static void *count_malloc(size_t bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    allocations++;
    return malloc(bytes);
}

static void *count_realloc(void *at, size_t bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    allocations++;
    return realloc(at, bytes);
}

static void count_free(void *at, const char *file, int line)
{
    (void)file;
    (void)line;
    free(at);
}

/* ---- a ClientHello (RFC 6347 4.2, RFC 5246 7.4.1.2) ---- */

static const uint8_t plain[PLAIN_BYTES] = {
    /* record: handshake, version 1.0, epoch 0, sequence 5, 67 bytes */
    22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 5, 0, 67,
    /* message: ClientHello of 55 bytes, number 0, all of it */
    1, 0, 0, 55, 0, 0, 0, 0, 0, 0, 0, 55,
    /* version 1.2, random */
    0xfe, 0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
    24, 25, 26, 27, 28, 29, 30, 31, 32,
    /* no session ID, no cookie, two cipher suites, no compression */
    0, 0, 0, 4, 0xc0, 0xa8, 0x00, 0xff, 1, 0,
    /* extensions: an empty Connection ID, and one without content */
    0, 9, 0, 54, 0, 1, 0, 0, 23, 0, 0};

static void put_length(uint8_t *hello, size_t length)
{
    hello[11] = (uint8_t)((length - 13) >> 8);
    hello[12] = (uint8_t)(length - 13);
    hello[15] = hello[23] = (uint8_t)((length - 25) >> 8);
    hello[16] = hello[24] = (uint8_t)(length - 25);
}

/* The second one, with a cookie. */
static size_t with_cookie(uint8_t out[HELLO_MAX], const uint8_t *cookie, size_t length)
{
    memcpy(out, plain, COOKIE_AT);
    out[COOKIE_AT] = (uint8_t)length;
    if (length)
        memcpy(out + COOKIE_AT + 1, cookie, length);
    memcpy(out + COOKIE_AT + 1 + length, plain + COOKIE_AT + 1, PLAIN_BYTES - COOKIE_AT - 1);
    put_length(out, PLAIN_BYTES + length);
    out[MESSAGE_SEQ + 1] = 1;
    return PLAIN_BYTES + length;
}

static enum hello_verdict parse_exactly(const uint8_t *bytes, size_t length)
{
    uint8_t *exact = malloc(length + !length); /* the sanitizer watches its end */
    struct hello hello;
    enum hello_verdict verdict;

    if (length)
        memcpy(exact, bytes, length);
    verdict = hello_parse(exact, length, &hello);
    free(exact);
    return verdict;
}

static void parts_of_a_hello(void **state)
{
    uint8_t bytes[HELLO_MAX], cookie[255];
    struct hello hello;

    (void)state;
    assert_int_equal(hello_parse(plain, sizeof(plain), &hello), HELLO_GOOD);
    assert_int_equal(hello.sequence, 5);
    assert_int_equal(hello.message_sequence, 0);
    assert_int_equal(hello.cookie_length, 0);
    assert_ptr_equal(hello.random, plain + RANDOM_AT);
    assert_ptr_equal(hello.front, plain + BODY_AT);
    assert_int_equal(hello.front_length, 35);
    assert_ptr_equal(hello.back, plain + COOKIE_AT + 1);
    assert_int_equal(hello.back_length, 19);
    memset(cookie, 7, sizeof(cookie));
    for (size_t length = 0; length <= sizeof(cookie); length++) {
        size_t whole = with_cookie(bytes, cookie, length);

        assert_int_equal(hello_parse(bytes, whole, &hello), HELLO_GOOD);
        assert_int_equal(hello.cookie_length, length);
        assert_int_equal(hello.message_sequence, 1);
    }
}

static const struct {
    const char *what;
    unsigned at, count;
    uint8_t bytes[6];
    enum hello_verdict verdict;
} bad[] = {
    {"an alert", 0, 1, {21}, HELLO_NONE},
    {"application data", 0, 1, {23}, HELLO_NONE},
    {"a record with a Connection ID", 0, 1, {25}, HELLO_NONE},
    {"a CoAP message", 0, 1, {0x40}, HELLO_NONE},
    {"a record of TLS", 1, 2, {3, 3}, HELLO_NONE},
    {"another epoch", 3, 2, {0, 1}, HELLO_NONE},
    {"a sequence without any after it", 5, 6, {255, 255, 255, 255, 255, 255}, HELLO_BAD},
    {"a sequence with but few after it", 5, 6, {255, 255, 255, 240, 0, 0}, HELLO_BAD},
    {"an empty record", 11, 2, {0, 0}, HELLO_BAD},
    {"a record longer than the datagram", 11, 2, {0, 68}, HELLO_BAD},
    {"a record shorter than the datagram", 11, 2, {0, 66}, HELLO_BAD},
    {"the longest record", 11, 2, {255, 255}, HELLO_BAD},
    {"a HelloRequest", 13, 1, {0}, HELLO_NONE},
    {"a ServerHello", 13, 1, {2}, HELLO_NONE},
    {"a ClientKeyExchange", 13, 1, {16}, HELLO_NONE},
    {"a message longer than the record", 14, 3, {0, 0, 56}, HELLO_BAD},
    {"a message shorter than the record", 14, 3, {0, 0, 54}, HELLO_BAD},
    {"a message of 16 MB", 14, 3, {255, 255, 255}, HELLO_BAD},
    {"the first fragment", 14, 3, {0, 1, 55}, HELLO_BAD},
    {"a third ClientHello", 17, 2, {0, 2}, HELLO_BAD},
    {"the last message number", 17, 2, {255, 255}, HELLO_BAD},
    {"a later fragment", 19, 3, {0, 0, 1}, HELLO_BAD},
    {"a fragment from far beyond", 19, 3, {255, 255, 255}, HELLO_BAD},
    {"a fragment without content", 22, 3, {0, 0, 0}, HELLO_BAD},
    {"a fragment shorter than the record", 22, 3, {0, 0, 54}, HELLO_BAD},
    {"a fragment longer than the record", 22, 3, {0, 0, 56}, HELLO_BAD},
    {"version 1.2 of TLS", 25, 2, {3, 3}, HELLO_BAD},
    {"a session ID of 33 bytes", 59, 1, {33}, HELLO_BAD},
    {"a session ID beyond the end", 59, 1, {32}, HELLO_BAD},
    {"a cookie beyond the end", 60, 1, {255}, HELLO_BAD},
    {"a cookie up to the end", 60, 1, {19}, HELLO_BAD},
    {"no cipher suite", 61, 2, {0, 0}, HELLO_BAD},
    {"half a cipher suite", 61, 2, {0, 1}, HELLO_BAD},
    {"one and a half cipher suites", 61, 2, {0, 3}, HELLO_BAD},
    {"cipher suites beyond the end", 61, 2, {255, 254}, HELLO_BAD},
    {"cipher suites up to the end", 61, 2, {0, 17}, HELLO_BAD},
    {"no compression method", 67, 1, {0}, HELLO_BAD},
    {"compression methods beyond the end", 67, 1, {255}, HELLO_BAD},
    {"compression that must be used", 68, 1, {1}, HELLO_BAD},
    {"extensions shorter than the rest", 69, 2, {0, 8}, HELLO_BAD},
    {"extensions longer than the rest", 69, 2, {0, 10}, HELLO_BAD},
    {"no extensions, and a rest", 69, 2, {0, 0}, HELLO_BAD},
    {"an extension beyond the end", 73, 2, {0, 8}, HELLO_BAD},
    {"an extension far beyond the end", 73, 2, {255, 255}, HELLO_BAD},
    {"three bytes that are no extension", 73, 2, {0, 2}, HELLO_BAD},
    {"a last extension beyond the end", 78, 2, {0, 1}, HELLO_BAD},
};

static void bad_hellos(void **state)
{
    struct flow wire;
    uint8_t seed[HELLO_SEED_BYTES] = {1}, bytes[PLAIN_BYTES], out[HELLO_VERIFY_BYTES];
    struct hello_secrets *secrets = hello_create(seed);
    size_t length;

    (void)state;
    memset(&wire, 0, sizeof(wire));
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memcpy(bytes, plain, sizeof(plain));
        memcpy(bytes + bad[i].at, bad[i].bytes, bad[i].count);
        if (parse_exactly(bytes, sizeof(bytes)) != bad[i].verdict)
            fail_msg("%s", bad[i].what);
        assert_int_equal(hello_verify(secrets, &wire, bytes, sizeof(bytes), 0, out, &length),
                         bad[i].verdict);
    }
    hello_destroy(secrets);
}

/* The last flight of a client may come as one datagram of three records: it is no ClientHello. */
static void a_flight_in_one_datagram(void **state)
{
    uint8_t bytes[PLAIN_BYTES + 14];

    (void)state;
    memcpy(bytes, plain, sizeof(plain));
    memcpy(bytes + PLAIN_BYTES, "\x14\xfe\xfd\0\0\0\0\0\0\0\6\0\1\1", 14);
    assert_int_equal(parse_exactly(bytes, sizeof(bytes)), HELLO_BAD); /* behind a ClientHello */
    bytes[MESSAGE_AT] = 16;
    assert_int_equal(parse_exactly(bytes, sizeof(bytes)), HELLO_NONE);
}

/* Too short or too long by anything, and with any byte changed: never read beyond its end. */
static void damaged_hellos(void **state)
{
    uint8_t bytes[HELLO_MAX] = {0};

    (void)state;
    for (size_t length = 0; length < sizeof(plain); length++) {
        enum hello_verdict verdict = parse_exactly(plain, length);

        assert_true(verdict == HELLO_NONE || verdict == HELLO_BAD);
        /* The same where the lengths of record and message say that it ends there. Without
         * extensions it is whole. */
        if (length > BODY_AT) {
            memcpy(bytes, plain, length);
            put_length(bytes, length);
            assert_int_equal(parse_exactly(bytes, length), length == 69 ? HELLO_GOOD : HELLO_BAD);
        }
    }
    memcpy(bytes, plain, sizeof(plain));
    for (size_t length = sizeof(plain) + 1; length < HELLO_MAX; length++)
        assert_int_equal(parse_exactly(bytes, length), HELLO_BAD);
    for (size_t at = 0; at < sizeof(plain); at++)
        for (unsigned value = 0; value < 256; value++) {
            bytes[at] = (uint8_t)value;
            (void)parse_exactly(bytes, sizeof(plain));
            bytes[at] = plain[at];
        }
}

/* ---- cookies ---- */

struct scene {
    struct hello_secrets *secrets;
    struct flow wire;
    uint8_t seed[HELLO_SEED_BYTES];
    uint8_t answer[HELLO_VERIFY_BYTES], cookie[HELLO_COOKIE_BYTES];
    uint8_t hello[HELLO_MAX]; /* with the cookie */
    size_t length;
};

static const uint64_t then_us = 7 * HELLO_TURN_US + 12345;

static void scene_begin(struct scene *s)
{
    size_t length = 0;

    memset(s, 0, sizeof(*s));
    s->seed[3] = 9;
    s->secrets = hello_create(s->seed);
    assert_non_null(s->secrets);
    s->wire.peer = address_from_v4((const uint8_t[]){192, 0, 2, 1});
    s->wire.peer_port = 40000;
    s->wire.local_port = 5684;
    assert_int_equal(
        hello_verify(s->secrets, &s->wire, plain, sizeof(plain), then_us, s->answer, &length),
        HELLO_VERIFY);
    assert_int_equal(length, HELLO_VERIFY_BYTES);
    memcpy(s->cookie, s->answer + HELLO_VERIFY_BYTES - HELLO_COOKIE_BYTES, HELLO_COOKIE_BYTES);
    s->length = with_cookie(s->hello, s->cookie, HELLO_COOKIE_BYTES);
}

static enum hello_verdict ask(struct scene *s, uint64_t now_us)
{
    uint8_t out[HELLO_VERIFY_BYTES];
    size_t length = 0;
    enum hello_verdict verdict =
        hello_verify(s->secrets, &s->wire, s->hello, s->length, now_us, out, &length);

    assert_int_equal(length, verdict == HELLO_VERIFY ? HELLO_VERIFY_BYTES : 0);
    return verdict;
}

/* RFC 6347 4.2.1: the sequence of the ClientHello's record; version 1.0; message number 0. */
static void verify_request(void **state)
{
    static const uint8_t head[] = {22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 5,  0,    31,   3,
                                   0,  0,    19,   0, 0, 0, 0, 0, 0, 0, 19, 0xfe, 0xff, 16};
    uint8_t small[SMALLEST], out[HELLO_VERIFY_BYTES];
    struct scene s;
    size_t length;

    (void)state;
    scene_begin(&s);
    assert_memory_equal(s.answer, head, sizeof(head));
    assert_int_equal(sizeof(head) + HELLO_COOKIE_BYTES, HELLO_VERIFY_BYTES);
    memcpy(small, plain, SMALLEST);
    small[62] = 2; /* one cipher suite */
    small[65] = 1; /* one compression method: none */
    small[66] = 0;
    put_length(small, SMALLEST);
    assert_int_equal(hello_verify(s.secrets, &s.wire, small, SMALLEST, 0, out, &length),
                     HELLO_VERIFY);
    assert_true(length < SMALLEST);
    hello_destroy(s.secrets);
}

static void good_cookie(void **state)
{
    struct hello_secrets *first;
    struct scene s;

    (void)state;
    scene_begin(&s);
    assert_int_equal(ask(&s, then_us), HELLO_GOOD);
    assert_int_equal(ask(&s, then_us + HELLO_TURN_US), HELLO_GOOD);
    assert_int_equal(ask(&s, then_us + 2 * HELLO_TURN_US), HELLO_VERIFY);
    assert_int_equal(ask(&s, then_us + 1000 * HELLO_TURN_US), HELLO_VERIFY);
    /* Another one with the same seed, as after a restart, whatever it was asked before. */
    first = s.secrets;
    s.secrets = hello_create(s.seed);
    assert_int_equal(ask(&s, then_us + 5 * HELLO_TURN_US), HELLO_VERIFY);
    assert_int_equal(ask(&s, then_us), HELLO_GOOD);
    hello_destroy(s.secrets);
    s.seed[0] ^= 1;
    s.secrets = hello_create(s.seed);
    assert_int_equal(ask(&s, then_us), HELLO_VERIFY);
    hello_destroy(s.secrets);
    hello_destroy(first);
}

static void cookie_of_another_flow(void **state)
{
    struct flow wire;
    struct scene s;

    (void)state;
    scene_begin(&s);
    wire = s.wire;
    s.wire.peer_port++;
    assert_int_equal(ask(&s, then_us), HELLO_VERIFY);
    s.wire = wire;
    s.wire.peer.bytes[15]++;
    assert_int_equal(ask(&s, then_us), HELLO_VERIFY);
    s.wire = wire;
    s.wire.local_port++;
    assert_int_equal(ask(&s, then_us), HELLO_VERIFY);
    s.wire = wire;
    s.wire.local++;
    assert_int_equal(ask(&s, then_us), HELLO_VERIFY);
    s.wire = wire;
    assert_int_equal(ask(&s, then_us), HELLO_GOOD);
    hello_destroy(s.secrets);
}

/* Every bit of what the cookie holds for, and of the cookie; what it does not hold for. */
static void cookie_of_another_hello(void **state)
{
    struct scene s;

    (void)state;
    scene_begin(&s);
    for (unsigned at = BODY_AT; at < s.length; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            s.hello[at] ^= (uint8_t)(1u << bit);
            assert_int_not_equal(ask(&s, then_us), HELLO_GOOD);
            s.hello[at] ^= (uint8_t)(1u << bit);
        }
    s.hello[10] ^= 3; /* the record's sequence */
    s.hello[2] = 0xfd;
    assert_int_equal(ask(&s, then_us), HELLO_GOOD);
    s.hello[MESSAGE_SEQ + 1] = 0; /* not the second message */
    assert_int_equal(ask(&s, then_us), HELLO_VERIFY);
    /* A cookie with more, or less, than ours. */
    for (size_t length = 0; length < 40; length++) {
        uint8_t cookie[40] = {0};

        memcpy(cookie, s.cookie, HELLO_COOKIE_BYTES);
        s.length = with_cookie(s.hello, cookie, length);
        assert_int_equal(ask(&s, then_us),
                         length == HELLO_COOKIE_BYTES ? HELLO_GOOD : HELLO_VERIFY);
    }
    hello_destroy(s.secrets);
}

/* Bytes moved across a border inside the ClientHello are another ClientHello: the session ID's last
 * byte must not be taken for the first one of what follows. */
static void cookie_does_not_slide(void **state)
{
    uint8_t a[HELLO_MAX] = {0}, out[HELLO_VERIFY_BYTES];
    struct scene s;
    size_t length;

    (void)state;
    scene_begin(&s);
    memcpy(a, plain, 59);
    a[59] = 4; /* session ID 0 4 c0 a8, then the cookie */
    memcpy(a + 60, (const uint8_t[]){0, 4, 0xc0, 0xa8, 0}, 5);
    memcpy(a + 65, plain + COOKIE_AT + 1, PLAIN_BYTES - COOKIE_AT - 1);
    put_length(a, PLAIN_BYTES + 4);
    assert_int_equal(hello_verify(s.secrets, &s.wire, a, PLAIN_BYTES + 4, then_us, out, &length),
                     HELLO_VERIFY);
    assert_memory_not_equal(out + HELLO_VERIFY_BYTES - HELLO_COOKIE_BYTES, s.cookie,
                            HELLO_COOKIE_BYTES);
    hello_destroy(s.secrets);
}

/* ---- a flood ---- */

static void flood_of_spoofed_hellos(void **state)
{
    uint8_t hello[PLAIN_BYTES], second[HELLO_MAX], out[HELLO_VERIFY_BYTES];
    size_t second_length, length, before;
    unsigned long counted;
    struct scene s;

    (void)state;
    scene_begin(&s);
    memcpy(hello, plain, sizeof(plain));
    second_length = with_cookie(second, s.cookie, HELLO_COOKIE_BYTES);
    counted = allocations;
    assert_true(counted > 0);
    before = mallinfo2().uordblks;
    for (unsigned i = 0; i < 1000000; i++) {
        struct flow wire = s.wire;
        bool has_cookie = i % 2;

        memcpy(wire.peer.bytes + 12, &i, sizeof(i));
        memcpy((has_cookie ? second : hello) + RANDOM_AT, &i, sizeof(i));
        assert_int_equal(hello_verify(s.secrets, &wire, has_cookie ? second : hello,
                                      has_cookie ? second_length : sizeof(hello),
                                      then_us + (uint64_t)i * 1000, out, &length),
                         HELLO_VERIFY);
    }
    assert_int_equal(allocations, counted);
    assert_int_equal(mallinfo2().uordblks, before);
    hello_destroy(s.secrets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_of_a_hello),         cmocka_unit_test(bad_hellos),
        cmocka_unit_test(a_flight_in_one_datagram), cmocka_unit_test(damaged_hellos),
        cmocka_unit_test(verify_request),           cmocka_unit_test(good_cookie),
        cmocka_unit_test(cookie_of_another_flow),   cmocka_unit_test(cookie_of_another_hello),
        cmocka_unit_test(cookie_does_not_slide),    cmocka_unit_test(flood_of_spoofed_hellos),
    };

    /* Before OpenSSL has allocated anything. */
    if (CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) != 1)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
