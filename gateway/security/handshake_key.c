/* ClientKeyExchange with a pre-shared key's identity. OpenSSL asks for the key in the middle of
 * reading it and cannot wait; so it gets the message when it is whole and the key is known, or when
 * it is known that there is none. */
#include "gateway/security/handshake_parts.h"

#include <string.h>

/* The client's third message: two ClientHellos came before, and with a pre-shared key no
 * certificate (RFC 4279 2, RFC 5489 2). */
#define EXCHANGE_MESSAGE 2u

static bool has_identity(const struct handshake *h)
{
    const SSL_CIPHER *cipher = SSL_get_pending_cipher(h->ssl);

    return cipher && SSL_CIPHER_get_auth_nid(cipher) == NID_auth_psk;
}

bool exchange_takes(const struct handshake *h, const struct record_view *view)
{
    return view->length >= MESSAGE_HEADER_BYTES && view->body[0] == MESSAGE_CLIENT_KEY_EXCHANGE &&
           parts_number(view->body + 4, 2) == EXCHANGE_MESSAGE && has_identity(h);
}

/* UTF-8 (RFC 4279 5.1) without control characters: it will be printed, compared and handed on as
 * text, and OpenSSL ends it at a zero. */
static bool is_text(const uint8_t *at, size_t length)
{
    const uint8_t *end = at + length;

    while (at < end) {
        unsigned more = *at < 0x80 ? 0 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : 3;
        uint32_t point = more ? *at & (0x3fu >> more) : *at;
        static const uint32_t least[] = {0x20, 0xa0, 0x800, 0x10000};

        if ((*at >= 0x80 && *at < 0xc2) || *at > 0xf4 || (size_t)(end - at) <= more)
            return false;
        for (unsigned i = 1; i <= more; i++) {
            if ((at[i] & 0xc0) != 0x80)
                return false;
            point = point << 6 | (at[i] & 0x3f);
        }
        if (point < least[more] || point == 0x7f || point > 0x10ffff || point >> 11 == 0x1b)
            return false;
        at += 1 + more;
    }
    return true;
}

/* Both forms, RFC 4279 2 and RFC 5489 2, begin with the identity. What is wrong with the message is
 * OpenSSL's to find out, and with an identity that cannot be served to say (unknown_psk_identity).
 */
static void find_identity(struct exchange *e)
{
    unsigned length = e->length >= 2 ? parts_number(e->bytes, 2) : 0;

    e->identity_length = 0;
    if (length && length <= PRINCIPAL_MAX && length <= e->length - 2u &&
        is_text(e->bytes + 2, length))
        e->identity_length = (uint8_t)length;
}

static void mark(struct exchange *e, unsigned offset, unsigned length)
{
    for (unsigned i = offset; i < offset + length; i++) {
        uint8_t bit = (uint8_t)(1u << i % 8);

        if (!(e->marks[i / 8] & bit))
            e->have++;
        e->marks[i / 8] |= bit;
    }
}

/* A fragment of the message (RFC 6347 4.2.3). True: the message is whole now. */
static bool collect(struct exchange *e, const struct record_view *view)
{
    uint32_t whole = parts_number(view->body + 1, 3);
    uint32_t offset = parts_number(view->body + 6, 3), length = parts_number(view->body + 9, 3);

    if (length > view->length - MESSAGE_HEADER_BYTES || offset > whole || length > whole - offset)
        return false;
    if (whole == 0 || whole > EXCHANGE_MAX || (e->length && e->length != whole))
        return false;
    e->length = (uint16_t)whole;
    memcpy(e->bytes + offset, view->body + MESSAGE_HEADER_BYTES, length);
    mark(e, offset, length);
    return e->have == e->length;
}

bool exchange_add(struct handshake *h, const struct record_view *view)
{
    struct exchange *e = &h->exchange;
    int length;

    if (e->given)
        return false;
    if (parts_number(view->body + 1, 3) > EXCHANGE_MAX) {
        handshake_fail(h, ALERT_UNKNOWN_PSK_IDENTITY, "an identity beyond what is served");
        return false;
    }
    if (!collect(e, view))
        return false;
    e->sequence = view->sequence;
    find_identity(e);
    if (e->identity_length == 0)
        return true;
    length = credentials_psk(h->side, e->bytes + 2, e->identity_length, h->psk);
    if (length > 0) {
        h->psk_length = (uint8_t)length;
        return true;
    }
    h->state = HANDSHAKE_NEEDS_KEY;
    return false;
}

size_t exchange_record(struct handshake *h)
{
    struct exchange *e = &h->exchange;
    uint8_t *at = h->all->record;

    at = parts_put(at, RECORD_HANDSHAKE, 1);
    at = parts_put(at, RECORD_VERSION_1_2, 2);
    at = parts_put(at, 0, 2);
    at = parts_put(at, e->sequence, 6);
    at = parts_put(at, MESSAGE_HEADER_BYTES + e->length, 2);
    at = parts_put(at, MESSAGE_CLIENT_KEY_EXCHANGE, 1);
    at = parts_put(at, e->length, 3);
    at = parts_put(at, EXCHANGE_MESSAGE, 2);
    at = parts_put(at, 0, 3);
    at = parts_put(at, e->length, 3);
    memcpy(at, e->bytes, e->length);
    e->given = true;
    return RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES + e->length;
}
