/* The wire format of a CoAP message over a datagram (RFC 7252 3, RFC 8974): reading and writing.
 *
 * Reading does not copy: a struct message points into the datagram, lives on the caller's stack and
 * is valid as long as the datagram is. Writing goes through a cursor with a sticky error, so that a
 * caller adds everything and checks once at the end.
 *
 * Pure functions without state; any thread may call them. */
#ifndef COAPGW_GATEWAY_COAP_MESSAGE_H
#define COAPGW_GATEWAY_COAP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "gateway/coap/code.h"
#include "gateway/coap/option.h"
#include "gateway/bytes.h"

enum message_type { TYPE_CON = 0, TYPE_NON = 1, TYPE_ACK = 2, TYPE_RST = 3 };

#define MESSAGE_HEADER_BYTES  4
#define MESSAGE_VERSION       1
#define MESSAGE_PAYLOAD_START 0xff
#define TOKEN_INLINE_BYTES    8     /* the longest token of RFC 7252 */
#define TOKEN_NIBBLE_MAX      12    /* the longest one whose length fits the header */
#define TOKEN_MAX_BYTES       65804 /* the longest token of RFC 8974 */

/* What the parser found. VERDICT_SHORT and VERDICT_VERSION: silently ignored (RFC 7252 3). The rest
 * but VERDICT_OK are message format errors: a CON is rejected with a RST, others are ignored (4.2,
 * 4.3). */
enum message_verdict {
    VERDICT_OK = 0,
    VERDICT_SHORT,          /* fewer than 4 bytes */
    VERDICT_VERSION,        /* not version 1 */
    VERDICT_TOKEN_LENGTH,   /* token length nibble 15, reserved (RFC 8974 2.1) */
    VERDICT_TOKEN_OVERRUN,  /* the token, or its extended length, runs past the end */
    VERDICT_CODE_CLASS,     /* reserved code class 1, 6 or 7 */
    VERDICT_EMPTY_TRAILING, /* an Empty message with a token or anything after the header */
    VERDICT_OPTION_NIBBLE,  /* nibble 15 that is no payload marker */
    VERDICT_OPTION_OVERRUN, /* an option, or its extended delta or length, runs past the end */
    VERDICT_OPTION_NUMBER,  /* a number above 65,535 */
    VERDICT_PAYLOAD_EMPTY,  /* a payload marker with nothing behind it */
    VERDICT_COUNT
};

struct option_view {
    const uint8_t *value;
    uint16_t length;
};

/* A parsed message. `first[slot]` is set only where the bit of `present` is.
 *
 * An option counts as present when it is registered and its length is in its range; of an option
 * that may not repeat, only the first occurrence does. Every other occurrence is unrecognised
 * (RFC 7252 5.4.3, 5.4.5) and goes into `unknown_critical` or `unknown_elective_unsafe`: the number
 * of the first such option, 0 when there is none (0 is reserved and never an option of its own:
 * when it occurs it is elective and safe). */
struct message {
    const uint8_t *data; /* the whole message, as received */
    uint16_t length;
    uint16_t mid;
    uint8_t type; /* enum message_type */
    uint8_t code;
    uint16_t option_count; /* occurrences, repeated ones included */
    uint32_t token_length;
    const uint8_t *token;
    const uint8_t
        *options; /* the first option's first byte; = end of the token when there is none */
    uint16_t options_length;
    uint16_t payload_length;
    const uint8_t *payload;           /* NULL when there is none */
    uint32_t present;                 /* SLOT_BIT of each recognised option */
    uint16_t unknown_critical;        /* first unrecognised critical option, 0 = none */
    uint16_t unknown_critical_unsafe; /* first such that is unsafe to forward, 0 = none */
    uint16_t unknown_elective_unsafe; /* first unrecognised elective one that is unsafe, 0 = none */
    struct option_view first[SLOT_COUNT];
};

/* Parses `length` bytes (at most 65,535). With every verdict but VERDICT_SHORT and VERDICT_VERSION
 * the header fields type, code and mid are set, so that the message can be rejected. With
 * VERDICT_OK all is set. */
enum message_verdict message_parse(const uint8_t *data, size_t length, struct message *m);

/* A name for counters and logs: "option-overrun". */
const char *message_verdict_name(enum message_verdict verdict);

static inline bool message_has(const struct message *m, enum option_slot slot)
{
    return m->present & SLOT_BIT(slot);
}

/* The value of a uint option that is present; otherwise `absent`. */
uint32_t message_uint(const struct message *m, enum option_slot slot, uint32_t absent);

/* Walks the options in order. */
struct option_cursor {
    const uint8_t *at, *end;
    uint16_t number;                 /* of the option that option_next() just returned */
    struct option_view pending;      /* of option_cursor_at(): the first one, not returned yet */
    uint16_t min_length, max_length; /* of option_cursor_at(): what counts as an occurrence */
};

static inline struct option_cursor option_cursor(const struct message *m)
{
    struct option_cursor c = {.at = m->options, .end = m->options + m->options_length};
    return c;
}

/* The same for one whose delta or length takes more than a nibble; not at the end. */
bool option_next_extended(struct option_cursor *c, struct option_view *view);

/* The next option, false at the end. Only for the options of a message with VERDICT_OK. */
static inline bool option_next(struct option_cursor *c, struct option_view *view)
{
    uint32_t delta, length;

    if (c->at >= c->end)
        return false;
    delta = *c->at >> 4;
    length = *c->at & 0x0f;
    if (delta >= 13 || length >= 13)
        return option_next_extended(c, view);
    c->number = (uint16_t)(c->number + delta);
    view->value = c->at + 1;
    view->length = (uint16_t)length;
    c->at += 1 + length;
    return true;
}

/* Starts at the first occurrence of a repeatable option and stops after its last:
 *     struct option_cursor c = option_cursor_at(m, SLOT_URI_PATH);
 *     while (option_next_same(&c, &view)) ...
 * Returns nothing at all when the option is not present. */
struct option_cursor option_cursor_at(const struct message *m, enum option_slot slot);
bool option_next_same(struct option_cursor *c, struct option_view *view);

/* ---- writing ---- */

/* A cursor over a buffer of the caller's. Once something does not fit, or an option comes out of
 * order, `failed` is set and all further calls do nothing. */
struct encoder {
    uint8_t *data;
    uint32_t room;
    uint32_t length;
    uint16_t last_option;
    bool failed;
};

/* The rest of encoder_begin() where the token is longer than 12 bytes, or does not fit. */
void encoder_begin_long(struct encoder *e, const uint8_t *token, size_t token_length);

/* Starts a message: header and token. Up to 12 bytes the length stands in the nibble; longer tokens
 * take the extended length of RFC 8974 2.1. */
static inline void encoder_begin(struct encoder *e, uint8_t *data, size_t room,
                                 enum message_type type, uint8_t code, uint16_t mid,
                                 const uint8_t *token, size_t token_length)
{
    bool inlined = token_length <= TOKEN_NIBBLE_MAX;

    e->data = data;
    e->room = (uint32_t)room;
    e->length = 0;
    e->last_option = 0;
    e->failed = room < MESSAGE_HEADER_BYTES;
    if (e->failed)
        return;
    data[0] = (uint8_t)(MESSAGE_VERSION << 6 | type << 4 | (inlined ? token_length : 0));
    data[1] = code;
    data[2] = (uint8_t)(mid >> 8);
    data[3] = (uint8_t)mid;
    e->length = MESSAGE_HEADER_BYTES;
    if (!inlined || room - MESSAGE_HEADER_BYTES < token_length) {
        encoder_begin_long(e, token, token_length);
        return;
    }
    bytes_copy(data + MESSAGE_HEADER_BYTES, token, token_length);
    e->length += (uint32_t)token_length;
}

/* Options in ascending order of number; equal numbers repeat. */
void encoder_option(struct encoder *e, uint16_t number, const void *value, size_t length);

/* With the fewest bytes: 0 is an empty value (RFC 7252 3.2). */
void encoder_uint(struct encoder *e, uint16_t number, uint32_t value);

/* The payload marker and the payload; nothing at all for length 0. The last call. */
void encoder_payload(struct encoder *e, const void *payload, size_t length);

/* Bytes that were encoded before: options and payload of a message, whose first option's delta
 * counts from 0. Right behind encoder_begin(); nothing but a payload, where there is none in
 * `bytes`, and encoder_end() may follow. */
static inline void encoder_raw(struct encoder *e, const uint8_t *bytes, size_t length)
{
    if (e->failed || e->room - e->length < length) {
        e->failed = true;
        return;
    }
    bytes_copy(e->data + e->length, bytes, length);
    e->length += (uint32_t)length;
}

/* Takes encoded options over, each as they are walked through: kept or dropped. Those that stay
 * together are copied together, as they are encoded; only the first one behind a gap has another
 * delta than before.
 *     struct option_copy copy = option_copy(&e, msg->options);
 *     while (option_next(&cursor, &view))
 *         option_copy_keep(&copy, &cursor, &view), or option_copy_drop(&copy, &cursor);
 *     option_copy_end(&copy); */
struct option_copy {
    struct encoder *encoder;
    const uint8_t *run, *at; /* what is kept and has not been written yet */
    uint16_t last;           /* the number of the last one of it */
    bool moved;              /* the next one follows another one than before */
};

static inline struct option_copy option_copy(struct encoder *e, const uint8_t *options)
{
    return (struct option_copy){
        .encoder = e, .run = options, .at = options, .moved = e->last_option != 0};
}

void option_copy_moved(struct option_copy *c, const struct option_cursor *cursor,
                       const struct option_view *view);

static inline void option_copy_keep(struct option_copy *c, const struct option_cursor *cursor,
                                    const struct option_view *view)
{
    if (c->moved)
        option_copy_moved(c, cursor, view);
    c->at = cursor->at;
    c->last = cursor->number;
}

void option_copy_drop(struct option_copy *c, const struct option_cursor *cursor);
void option_copy_end(struct option_copy *c);

/* An option that encoder_merge() adds. */
struct addition {
    uint16_t number, length;
    const uint8_t *value; /* NULL: `small` holds it */
    uint8_t small[4];
};

/* A uint option with the fewest bytes. */
struct addition addition_uint(uint16_t number, uint32_t value);
struct addition addition_bytes(uint16_t number, const void *value, uint16_t length);

/* All options in `length` encoded bytes, with the additions in their places; an option with the
 * number of an addition is left out. Additions are in ascending order; several of one number stay
 * together. */
void encoder_merge(struct encoder *e, const uint8_t *options, size_t length,
                   const struct addition *additions, unsigned count);

/* Bytes written, or 0 when anything failed. */
static inline size_t encoder_end(const struct encoder *e)
{
    return e->failed ? 0 : e->length;
}

/* Turns a message that has been written into one of another type. */
static inline void message_set_type(uint8_t *data, enum message_type type)
{
    data[0] = (uint8_t)((data[0] & 0xcf) | type << 4);
}

/* An Empty message (ACK, RST or ping): always 4 bytes. */
void message_write_empty(uint8_t out[MESSAGE_HEADER_BYTES], enum message_type type, uint16_t mid);

#endif
