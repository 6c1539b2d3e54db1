#include "gateway/security/hello.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "gateway/security/record.h"

#define MESSAGE_HEADER  12u
#define CLIENT_HELLO    1u
#define VERIFY_REQUEST  3u
#define SESSION_ID_MAX  32u
#define COMPRESSION_NO  0u
#define MESSAGE_SEQ_MAX 1u

/* Records follow with sequences beyond that of the ClientHello (RFC 6347 4.2.1): where it leaves no
 * room for them it is no client's. */
#define SEQUENCE_MAX (RECORD_SEQUENCE_LAST - (1u << 20))

/* ---- reading ---- */

/* What is left of a message. Taking too much leaves it bad, and everything that is taken is empty
 * from then on. */
struct cursor {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static const uint8_t *cursor_take(struct cursor *c, size_t length)
{
    const uint8_t *at = c->at;

    if (c->bad || length > c->left) {
        c->bad = true;
        c->left = 0;
        return at;
    }
    c->at += length;
    c->left -= length;
    return at;
}

/* A number of `width` bytes. */
static uint64_t cursor_number(struct cursor *c, unsigned width)
{
    const uint8_t *at = cursor_take(c, width);
    uint64_t number = 0;

    if (c->bad)
        return 0;
    for (unsigned i = 0; i < width; i++)
        number = number << 8 | at[i];
    return number;
}

/* A string with its length in `width` bytes before it, of at least `least` and at most `most`. */
static struct cursor cursor_string(struct cursor *c, unsigned width, size_t least, size_t most)
{
    size_t length = cursor_number(c, width);
    const uint8_t *at = cursor_take(c, length);

    if (length < least || length > most)
        c->bad = true;
    return (struct cursor){.at = at, .left = c->bad ? 0 : length, .bad = c->bad};
}

/* Cipher suites, compression methods, extensions (RFC 5246 7.4.1.2), to the very end. */
static bool read_back(struct cursor *c)
{
    struct cursor suites = cursor_string(c, 2, 2, UINT16_MAX - 1);
    struct cursor methods = cursor_string(c, 1, 1, UINT8_MAX);

    if (c->bad || suites.left % 2 || !memchr(methods.at, COMPRESSION_NO, methods.left))
        return false;
    if (c->left) {
        struct cursor extensions = cursor_string(c, 2, 0, UINT16_MAX);

        while (extensions.left) {
            (void)cursor_number(&extensions, 2);
            (void)cursor_string(&extensions, 2, 0, UINT16_MAX);
        }
        c->bad |= extensions.bad;
    }
    return !c->bad && c->left == 0;
}

static bool read_body(struct cursor *c, struct hello *out)
{
    struct cursor cookie;
    uint64_t version;

    out->front = c->at;
    version = cursor_number(c, 2);
    out->random = cursor_take(c, HELLO_RANDOM_BYTES);
    (void)cursor_string(c, 1, 0, SESSION_ID_MAX);
    out->front_length = (uint16_t)(c->at - out->front);
    cookie = cursor_string(c, 1, 0, UINT8_MAX);
    out->cookie = cookie.at;
    out->cookie_length = (uint8_t)cookie.left;
    out->back = c->at;
    out->back_length = (uint16_t)c->left;
    return !c->bad && version >> 8 == 0xfe && read_back(c);
}

/* One message in one record in one datagram. A client whose first ClientHello does not fit is not
 * served: its fragments would have to be kept for anyone (RFC 6347 4.2.1 would allow to). */
enum hello_verdict hello_parse(const uint8_t *data, size_t length, struct hello *out)
{
    struct cursor c = {.at = data, .left = length};
    uint64_t type = cursor_number(&c, 1), version = cursor_number(&c, 2);
    uint64_t epoch = cursor_number(&c, 2);
    uint64_t record, whole, offset, part;

    if (c.bad || type != RECORD_HANDSHAKE || version >> 8 != 0xfe || epoch != 0)
        return HELLO_NONE;
    out->sequence = cursor_number(&c, 6);
    record = cursor_number(&c, 2);
    if (cursor_number(&c, 1) != CLIENT_HELLO) /* more records may follow others */
        return c.bad ? HELLO_BAD : HELLO_NONE;
    if (record != c.left + 1 || out->sequence > SEQUENCE_MAX)
        return HELLO_BAD;
    whole = cursor_number(&c, 3);
    out->message_sequence = (uint16_t)cursor_number(&c, 2);
    offset = cursor_number(&c, 3);
    part = cursor_number(&c, 3);
    if (c.bad || offset != 0 || part != whole || whole != c.left ||
        out->message_sequence > MESSAGE_SEQ_MAX)
        return HELLO_BAD;
    return read_body(&c, out) ? HELLO_GOOD : HELLO_BAD;
}

/* ---- secrets ---- */

/* SipHash-2-4 with 128 bits, as a MAC. Not HMAC, which RFC 6347 names as an example: OpenSSL 3.0
 * allocates for each digest that it begins, and this is done for anyone who sends a packet. */
#define KEY_BYTES 16u
_Static_assert(HELLO_COOKIE_BYTES == KEY_BYTES, "a secret is a MAC, too");
_Static_assert(HELLO_SEED_BYTES == 2 * KEY_BYTES, "one half is the key of secrets");

struct hello_secrets {
    EVP_MAC_CTX *context;
    uint8_t seed[HELLO_SEED_BYTES];
    uint64_t turn;                /* number of `secret[0]` */
    uint8_t secret[2][KEY_BYTES]; /* the present one, and the one before */
};

struct part {
    const void *at;
    size_t length;
};

/* False when OpenSSL fails. */
static bool write_mac(struct hello_secrets *s, const uint8_t key[KEY_BYTES],
                      const struct part *parts, unsigned count, uint8_t out[HELLO_COOKIE_BYTES])
{
    bool done = EVP_MAC_init(s->context, key, KEY_BYTES, NULL) == 1;
    size_t length = 0;

    for (unsigned i = 0; i < count; i++)
        done = done && EVP_MAC_update(s->context, parts[i].at, parts[i].length) == 1;
    return done && EVP_MAC_final(s->context, out, &length, HELLO_COOKIE_BYTES) == 1 &&
           length == HELLO_COOKIE_BYTES;
}

/* The secret of a turn. */
static bool write_secret(struct hello_secrets *s, uint64_t turn, uint8_t out[KEY_BYTES])
{
    const struct part parts[] = {{s->seed + KEY_BYTES, KEY_BYTES}, {&turn, sizeof(turn)}};

    return write_mac(s, s->seed, parts, 2, out);
}

/* The present secret and the one before it, whenever that was last asked. */
static bool turn_to(struct hello_secrets *s, uint64_t turn)
{
    if (turn == s->turn)
        return true;
    if (!write_secret(s, turn, s->secret[0]) || !write_secret(s, turn - 1, s->secret[1]))
        return false;
    s->turn = turn;
    return true;
}

struct hello_secrets *hello_create(const uint8_t seed[HELLO_SEED_BYTES])
{
    struct hello_secrets *s = calloc(1, sizeof(*s));
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);

    if (s && mac)
        s->context = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);
    if (!s || !s->context) {
        hello_destroy(s);
        return NULL;
    }
    s->turn = UINT64_MAX;
    memcpy(s->seed, seed, sizeof(s->seed));
    if (!turn_to(s, 0)) {
        hello_destroy(s);
        return NULL;
    }
    return s;
}

void hello_destroy(struct hello_secrets *s)
{
    if (!s)
        return;
    EVP_MAC_CTX_free(s->context);
    OPENSSL_cleanse(s, sizeof(*s));
    free(s);
}

/* ---- cookies ---- */

/* Each part says where it ends but the last one, so that two different ClientHellos never are the
 * same string. */
static bool write_cookie(struct hello_secrets *s, unsigned which, const struct flow *wire,
                         const struct hello *hello, uint8_t out[HELLO_COOKIE_BYTES])
{
    const struct part parts[] = {
        {wire, sizeof(*wire)},
        {hello->front, hello->front_length},
        {hello->back, hello->back_length},
    };

    return write_mac(s, s->secret[which], parts, 3, out);
}

static bool is_ours(struct hello_secrets *s, const struct flow *wire, const struct hello *hello)
{
    uint8_t cookie[HELLO_COOKIE_BYTES];

    if (hello->cookie_length != HELLO_COOKIE_BYTES)
        return false;
    for (unsigned i = 0; i < 2; i++)
        if (write_cookie(s, i, wire, hello, cookie) &&
            CRYPTO_memcmp(cookie, hello->cookie, sizeof(cookie)) == 0)
            return true;
    return false;
}

static uint8_t *put(uint8_t *to, uint64_t number, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        to[i] = (uint8_t)(number >> 8 * (width - 1 - i));
    return to + width;
}

/* With the record's sequence of the ClientHello (RFC 6347 4.2.1), and version 1.0 as all servers
 * that do not know the client's yet: it says nothing about what will be negotiated. */
static size_t write_request(const struct hello *hello, const uint8_t cookie[HELLO_COOKIE_BYTES],
                            uint8_t out[HELLO_VERIFY_BYTES])
{
    const unsigned body = 2 + 1 + HELLO_COOKIE_BYTES;
    uint8_t *at = out;

    at = put(at, RECORD_HANDSHAKE, 1);
    at = put(at, RECORD_VERSION_1_0, 2);
    at = put(at, 0, 2);
    at = put(at, hello->sequence, 6);
    at = put(at, MESSAGE_HEADER + body, 2);
    at = put(at, VERIFY_REQUEST, 1);
    at = put(at, body, 3);
    at = put(at, 0, 2); /* the first message, and whole */
    at = put(at, 0, 3);
    at = put(at, body, 3);
    at = put(at, RECORD_VERSION_1_0, 2);
    at = put(at, HELLO_COOKIE_BYTES, 1);
    memcpy(at, cookie, HELLO_COOKIE_BYTES);
    return HELLO_VERIFY_BYTES;
}

enum hello_verdict hello_verify(struct hello_secrets *s, const struct flow *wire,
                                const uint8_t *data, size_t length, uint64_t now_us,
                                uint8_t out[HELLO_VERIFY_BYTES], size_t *out_length)
{
    uint8_t cookie[HELLO_COOKIE_BYTES];
    struct hello hello;
    enum hello_verdict verdict = hello_parse(data, length, &hello);

    if (verdict != HELLO_GOOD)
        return verdict;
    if (!turn_to(s, now_us / HELLO_TURN_US))
        return HELLO_BAD;
    /* One that a server of DTLS has asked for is the second message of its client. */
    if (hello.message_sequence == 1 && is_ours(s, wire, &hello))
        return HELLO_GOOD;
    if (!write_cookie(s, 0, wire, &hello, cookie))
        return HELLO_BAD;
    *out_length = write_request(&hello, cookie, out);
    return HELLO_VERIFY;
}
