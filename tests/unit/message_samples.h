/* Messages to test the codec with, and what its tests do with them; include cmocka first. */
#ifndef COAPGW_TESTS_UNIT_MESSAGE_SAMPLES_H
#define COAPGW_TESTS_UNIT_MESSAGE_SAMPLES_H

#include "gateway/coap/message.h"
#include "gateway/random.h"

static inline struct message parsed(const uint8_t *data, size_t length)
{
    struct message m;

    assert_int_equal(message_parse(data, length, &m), VERDICT_OK);
    return m;
}
/* Examples of the RFCs as bytes. Where an RFC shows fields only, the bytes are these fields in the
 * shortest encoding. */
static const struct vector {
    const char *source;
    const char *bytes;
    size_t length;
    uint8_t type, code;
    uint16_t mid;
    const char *token, *path, *payload; /* NULL: none */
    enum option_slot slot[2];           /* uint options that are present, besides the path */
    uint32_t value[2];
} vectors[] = {
#define WIRE(bytes) bytes, sizeof(bytes) - 1
#define TEMPERATURE "\xbbtemperature"
    {"RFC 7252 A, figure 16, request",
     WIRE("\x40\x01\x7d\x34" TEMPERATURE),
     TYPE_CON,
     CODE_GET,
     0x7d34,
     NULL,
     "temperature",
     NULL,
     {0},
     {0}},
    {"RFC 7252 A, figure 16, response",
     WIRE("\x60\x45\x7d\x34\xff"
          "22.3 C"),
     TYPE_ACK,
     CODE_CONTENT,
     0x7d34,
     NULL,
     NULL,
     "22.3 C",
     {0},
     {0}},
    {"RFC 7252 A, figure 17, request",
     WIRE("\x41\x01\x7d\x35\x20" TEMPERATURE),
     TYPE_CON,
     CODE_GET,
     0x7d35,
     "\x20",
     "temperature",
     NULL,
     {0},
     {0}},
    {"RFC 7252 A, figure 17, response",
     WIRE("\x61\x45\x7d\x35\x20\xff"
          "22.3 C"),
     TYPE_ACK,
     CODE_CONTENT,
     0x7d35,
     "\x20",
     NULL,
     "22.3 C",
     {0},
     {0}},
    {"RFC 7252 A, figure 20, request",
     WIRE("\x41\x01\x7d\x38\x53" TEMPERATURE),
     TYPE_CON,
     CODE_GET,
     0x7d38,
     "\x53",
     "temperature",
     NULL,
     {0},
     {0}},
    {"RFC 7252 A, figure 20, Empty ACK",
     WIRE("\x60\x00\x7d\x38"),
     TYPE_ACK,
     CODE_EMPTY,
     0x7d38,
     NULL,
     NULL,
     NULL,
     {0},
     {0}},
    {"RFC 7252 A, figure 20, response",
     WIRE("\x41\x45\xad\x7b\x53\xff"
          "22.3 C"),
     TYPE_CON,
     CODE_CONTENT,
     0xad7b,
     "\x53",
     NULL,
     "22.3 C",
     {0},
     {0}},
    {"RFC 7252 A, figure 20, ACK",
     WIRE("\x60\x00\xad\x7b"),
     TYPE_ACK,
     CODE_EMPTY,
     0xad7b,
     NULL,
     NULL,
     NULL,
     {0},
     {0}},
    {"RFC 7252 A, figure 21, RST",
     WIRE("\x70\x00\xad\x7c"),
     TYPE_RST,
     CODE_EMPTY,
     0xad7c,
     NULL,
     NULL,
     NULL,
     {0},
     {0}},
    {"RFC 7641 A.1, registration",
     WIRE("\x41\x01\x16\x33\x4a\x60\x5btemperature"),
     TYPE_CON,
     CODE_GET,
     0x1633,
     "\x4a",
     "temperature",
     NULL,
     {SLOT_OBSERVE},
     {0}},
    {"RFC 7641 A.1, response",
     WIRE("\x61\x45\x16\x33\x4a\x61\x09\x81\x0f\xff"
          "18.5 Cel"),
     TYPE_ACK,
     CODE_CONTENT,
     0x1633,
     "\x4a",
     NULL,
     "18.5 Cel",
     {SLOT_OBSERVE, SLOT_MAX_AGE},
     {9, 15}},
    {"RFC 7641 A.1, notification",
     WIRE("\x51\x45\x7b\x50\x4a\x61\x10\x81\x0f\xff"
          "19.2 Cel"),
     TYPE_NON,
     CODE_CONTENT,
     0x7b50,
     "\x4a",
     NULL,
     "19.2 Cel",
     {SLOT_OBSERVE, SLOT_MAX_AGE},
     {16, 15}},
    {"RFC 7959 3.1, figure 2, first request",
     WIRE("\x40\x01\x04\xd2\xb6status"),
     TYPE_CON,
     CODE_GET,
     1234,
     NULL,
     "status",
     NULL,
     {0},
     {0}},
    {"RFC 7959 3.1, figure 2, second request",
     WIRE("\x40\x01\x04\xd3\xb6status\xc1\x13"),
     TYPE_CON,
     CODE_GET,
     1235,
     NULL,
     "status",
     NULL,
     {SLOT_BLOCK2},
     {0x13}},
    {"RFC 7959 3.1, figure 3, proposal",
     WIRE("\x40\x01\x04\xd2\xb6status\xc1\x02"),
     TYPE_CON,
     CODE_GET,
     1234,
     NULL,
     "status",
     NULL,
     {SLOT_BLOCK2},
     {2}},
#undef TEMPERATURE
#undef WIRE
};

#define VECTORS (sizeof(vectors) / sizeof(vectors[0]))
static inline size_t random_message(struct random *r, uint8_t *out, size_t room)
{
    uint8_t bytes[600];
    struct encoder e;
    uint32_t number = 0;

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)random_u64(r);
    encoder_begin(&e, out, room, random_below(r, 4), CODE(random_below(r, 2) ? 2 : 0, 5),
                  (uint16_t)random_u64(r), bytes, random_below(r, 30));
    for (unsigned n = random_below(r, 8); n > 0; n--) {
        number += random_below(r, random_below(r, 2) ? 20 : 9000);
        encoder_option(&e, (uint16_t)number, bytes, random_below(r, random_below(r, 2) ? 12 : 400));
    }
    encoder_payload(&e, bytes, random_below(r, 3) ? random_below(r, 500) : 0);
    return encoder_end(&e);
}
/* Writes again what was read. */
static inline size_t rewrite(const struct message *m, uint8_t *out, size_t room)
{
    struct option_cursor c = option_cursor(m);
    struct option_view v;
    struct encoder e;

    encoder_begin(&e, out, room, m->type, m->code, m->mid, m->token, m->token_length);
    while (option_next(&c, &v))
        encoder_option(&e, c.number, v.value, v.length);
    encoder_payload(&e, m->payload, m->payload_length);
    return encoder_end(&e);
}
#endif
