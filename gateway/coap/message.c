#include "gateway/coap/message.h"

#include "gateway/bytes.h"

/* Reads the extension of a nibble (RFC 7252 3.1, RFC 8974 2.1): 13 takes one byte more, 14 two. */
static inline bool read_extended(const uint8_t **at, const uint8_t *end, uint32_t *value)
{
    if (*value < 13)
        return true;
    if (*value == 13) {
        if (end - *at < 1)
            return false;
        *value = 13u + (*at)[0];
        *at += 1;
        return true;
    }
    if (end - *at < 2)
        return false;
    *value = 269u + ((uint32_t)(*at)[0] << 8 | (*at)[1]);
    *at += 2;
    return true;
}

/* RFC 7252 5.4.1, 5.4.3, 5.4.5. */
static inline void note_option(struct message *m, uint16_t number, const uint8_t *value,
                               uint32_t length)
{
    enum option_slot slot = option_slot(number);
    const struct option_info *info = &option_table[slot];
    bool seen = message_has(m, slot);

    if (slot != SLOT_UNKNOWN && length >= info->min_length && length <= info->max_length &&
        (!seen || info->repeatable)) {
        if (!seen) {
            m->present |= SLOT_BIT(slot);
            m->first[slot] = (struct option_view){value, (uint16_t)length};
        }
        return;
    }
    if (option_is_critical(number)) {
        if (!m->unknown_critical)
            m->unknown_critical = number;
        if (option_is_unsafe(number) && !m->unknown_critical_unsafe)
            m->unknown_critical_unsafe = number;
    } else if (option_is_unsafe(number) && !m->unknown_elective_unsafe) {
        m->unknown_elective_unsafe = number;
    }
}

static enum message_verdict parse_options(const uint8_t *at, const uint8_t *end, struct message *m)
{
    uint32_t number = 0;

    m->options = at;
    while (at < end && *at != MESSAGE_PAYLOAD_START) {
        uint32_t delta = *at >> 4, length = *at & 0x0f;

        at++;
        if (delta >= 13 || length >= 13) { /* most are short */
            if (delta == 15 || length == 15)
                return VERDICT_OPTION_NIBBLE;
            if (!read_extended(&at, end, &delta) || !read_extended(&at, end, &length))
                return VERDICT_OPTION_OVERRUN;
        }
        if ((size_t)(end - at) < length)
            return VERDICT_OPTION_OVERRUN;
        number += delta;
        if (number > UINT16_MAX)
            return VERDICT_OPTION_NUMBER;
        m->option_count++;
        note_option(m, (uint16_t)number, at, length);
        at += length;
    }
    m->options_length = (uint16_t)(at - m->options);
    if (at == end)
        return VERDICT_OK;
    if (++at == end)
        return VERDICT_PAYLOAD_EMPTY;
    m->payload = at;
    m->payload_length = (uint16_t)(end - at);
    return VERDICT_OK;
}

enum message_verdict message_parse(const uint8_t *data, size_t length, struct message *m)
{
    const uint8_t *at, *end;
    unsigned class;

    if (length < MESSAGE_HEADER_BYTES)
        return VERDICT_SHORT;
    if (data[0] >> 6 != MESSAGE_VERSION)
        return VERDICT_VERSION;
    at = data + MESSAGE_HEADER_BYTES;
    end = data + length;
    m->data = data;
    m->length = (uint16_t)length;
    m->mid = (uint16_t)(data[2] << 8 | data[3]);
    m->type = data[0] >> 4 & 3;
    m->code = data[1];
    m->option_count = 0;
    m->token_length = data[0] & 0x0f;
    m->options_length = m->payload_length = 0;
    m->payload = NULL;
    m->present = 0;
    m->unknown_critical = m->unknown_critical_unsafe = m->unknown_elective_unsafe = 0;
    class = code_class(m->code);
    if (class == 1 || class >= 6)
        return VERDICT_CODE_CLASS;
    if (m->code == CODE_EMPTY && (m->token_length != 0 || length > MESSAGE_HEADER_BYTES))
        return VERDICT_EMPTY_TRAILING;
    if (m->token_length == 15)
        return VERDICT_TOKEN_LENGTH;
    if (!read_extended(&at, end, &m->token_length) || (size_t)(end - at) < m->token_length)
        return VERDICT_TOKEN_OVERRUN;
    m->token = at;
    return parse_options(at + m->token_length, end, m);
}

const char *message_verdict_name(enum message_verdict verdict)
{
    static const char *const names[VERDICT_COUNT] = {
        [VERDICT_OK] = "ok",
        [VERDICT_SHORT] = "short",
        [VERDICT_VERSION] = "version",
        [VERDICT_TOKEN_LENGTH] = "token-length",
        [VERDICT_TOKEN_OVERRUN] = "token-overrun",
        [VERDICT_CODE_CLASS] = "code-class",
        [VERDICT_EMPTY_TRAILING] = "empty-trailing",
        [VERDICT_OPTION_NIBBLE] = "option-nibble",
        [VERDICT_OPTION_OVERRUN] = "option-overrun",
        [VERDICT_OPTION_NUMBER] = "option-number",
        [VERDICT_PAYLOAD_EMPTY] = "payload-empty",
    };

    return (unsigned)verdict < VERDICT_COUNT ? names[verdict] : "unknown";
}

uint32_t message_uint(const struct message *m, enum option_slot slot, uint32_t absent)
{
    uint32_t value = 0;

    if (!message_has(m, slot))
        return absent;
    for (unsigned i = 0; i < m->first[slot].length; i++)
        value = value << 8 | m->first[slot].value[i];
    return value;
}

bool option_next_extended(struct option_cursor *c, struct option_view *view)
{
    uint32_t delta = *c->at >> 4, length = *c->at & 0x0f;

    c->at++;
    read_extended(&c->at, c->end, &delta);
    read_extended(&c->at, c->end, &length);
    c->number = (uint16_t)(c->number + delta);
    view->value = c->at;
    view->length = (uint16_t)length;
    c->at += length;
    return true;
}

struct option_cursor option_cursor_at(const struct message *m, enum option_slot slot)
{
    const struct option_info *info = &option_table[slot];
    struct option_cursor c = {.end = m->options + m->options_length,
                              .number = info->number,
                              .min_length = info->min_length,
                              .max_length = info->max_length};

    if (message_has(m, slot)) {
        c.pending = m->first[slot];
        c.at = c.pending.value + c.pending.length;
    } else {
        c.at = c.end;
    }
    return c;
}

bool option_next_same(struct option_cursor *c, struct option_view *view)
{
    if (c->pending.value) {
        *view = c->pending;
        c->pending.value = NULL;
        return true;
    }
    while (c->at < c->end && *c->at >> 4 == 0) { /* a delta of 0: the same number again */
        option_next(c, view);
        if (view->length >= c->min_length && view->length <= c->max_length)
            return true; /* one with a bad length is unrecognised and counts for nothing */
    }
    return false;
}

/* ---- writing ---- */

static bool has_room(struct encoder *e, size_t length)
{
    if (!e->failed && e->room - e->length >= length)
        return true;
    e->failed = true;
    return false;
}

/* The nibble for a value, and the bytes that extend it. */
static unsigned split(uint32_t value, uint8_t extension[2], unsigned *extension_length)
{
    if (value < 13) {
        *extension_length = 0;
        return value;
    }
    if (value < 269) {
        extension[0] = (uint8_t)(value - 13);
        *extension_length = 1;
        return 13;
    }
    extension[0] = (uint8_t)((value - 269) >> 8);
    extension[1] = (uint8_t)(value - 269);
    *extension_length = 2;
    return 14;
}

static inline void put(struct encoder *e, const void *bytes, size_t length)
{
    bytes_copy(e->data + e->length, bytes, length);
    e->length += (uint32_t)length;
}

void encoder_begin_long(struct encoder *e, const uint8_t *token, size_t token_length)
{
    uint8_t extension[2];
    unsigned extension_length, nibble;

    if (token_length > TOKEN_MAX_BYTES)
        e->failed = true;
    nibble = split((uint32_t)token_length, extension, &extension_length);
    if (!has_room(e, extension_length + token_length)) {
        e->length = 0;
        return;
    }
    e->data[0] = (uint8_t)(e->data[0] | nibble);
    put(e, extension, extension_length);
    put(e, token, token_length);
}

/* An option whose delta or length does not fit a nibble. */
static void option_extended(struct encoder *e, uint16_t number, const void *value, size_t length)
{
    uint8_t delta_extension[2], length_extension[2];
    unsigned delta_bytes, length_bytes, delta, nibble;

    if (number < e->last_option || length > UINT16_MAX)
        e->failed = true;
    if (e->failed)
        return;
    delta = split((uint32_t)number - e->last_option, delta_extension, &delta_bytes);
    nibble = split((uint32_t)length, length_extension, &length_bytes);
    if (!has_room(e, 1 + delta_bytes + length_bytes + length))
        return;
    e->data[e->length++] = (uint8_t)(delta << 4 | nibble);
    put(e, delta_extension, delta_bytes);
    put(e, length_extension, length_bytes);
    put(e, value, length);
    e->last_option = number;
}

static inline void put_option(struct encoder *e, uint16_t number, const void *value, size_t length)
{
    uint32_t delta = (uint32_t)number - e->last_option; /* out of order: a large one */

    if (delta >= 13 || length >= 13 || e->failed || e->room - e->length < 1 + length) {
        option_extended(e, number, value, length);
        return;
    }
    e->data[e->length++] = (uint8_t)(delta << 4 | length);
    put(e, value, length);
    e->last_option = number;
}

void encoder_option(struct encoder *e, uint16_t number, const void *value, size_t length)
{
    put_option(e, number, value, length);
}

void encoder_uint(struct encoder *e, uint16_t number, uint32_t value)
{
    uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                        (uint8_t)value};
    unsigned skip = value ? (unsigned)__builtin_clz(value) / 8 : 4;

    encoder_option(e, number, bytes + skip, 4 - skip);
}

struct addition addition_uint(uint16_t number, uint32_t value)
{
    struct addition a = {.number = number};
    unsigned skip = value ? (unsigned)__builtin_clz(value) / 8 : 4;
    uint32_t ordered = __builtin_bswap32(value << (8 * (skip & 3)));

    a.length = (uint16_t)(4 - skip);
    memcpy(a.small, &ordered, sizeof(a.small));
    return a;
}

struct addition addition_bytes(uint16_t number, const void *value, uint16_t length)
{
    return (struct addition){.number = number, .length = length, .value = value};
}

/* Writes the additions up to `number`. Returns the first one that was not written. */
static unsigned put_additions(struct encoder *e, const struct addition *additions, unsigned next,
                              unsigned count, uint16_t number)
{
    for (; next < count && additions[next].number <= number; next++) {
        const struct addition *a = &additions[next];

        put_option(e, a->number, a->value ? a->value : a->small, a->length);
    }
    return next;
}

/* ---- taking options over ---- */

static inline void copy_flush(struct option_copy *c)
{
    if (c->run == c->at)
        return;
    encoder_raw(c->encoder, c->run, (size_t)(c->at - c->run));
    c->encoder->last_option = c->last;
    c->run = c->at;
}

void option_copy_moved(struct option_copy *c, const struct option_cursor *cursor,
                       const struct option_view *view)
{
    put_option(c->encoder, cursor->number, view->value, view->length);
    c->run = cursor->at;
    c->moved = false;
}

void option_copy_drop(struct option_copy *c, const struct option_cursor *cursor)
{
    copy_flush(c);
    c->run = c->at = cursor->at;
    c->moved = true;
}

void option_copy_end(struct option_copy *c)
{
    copy_flush(c);
}

void encoder_merge(struct encoder *e, const uint8_t *options, size_t length,
                   const struct addition *additions, unsigned count)
{
    struct option_cursor cursor = {.at = options, .end = length ? options + length : options};
    struct option_copy copy = option_copy(e, options);
    struct option_view view;
    unsigned next = 0;

    while (option_next(&cursor, &view)) {
        if (next < count && additions[next].number <= cursor.number) {
            copy_flush(&copy);
            next = put_additions(e, additions, next, count, cursor.number);
            copy.moved = true;
        }
        if (next && additions[next - 1].number == cursor.number)
            option_copy_drop(&copy, &cursor);
        else
            option_copy_keep(&copy, &cursor, &view);
    }
    copy_flush(&copy);
    put_additions(e, additions, next, count, UINT16_MAX);
}

void encoder_payload(struct encoder *e, const void *payload, size_t length)
{
    if (length == 0 || !has_room(e, 1 + length))
        return;
    e->data[e->length++] = MESSAGE_PAYLOAD_START;
    put(e, payload, length);
}

void message_write_empty(uint8_t out[MESSAGE_HEADER_BYTES], enum message_type type, uint16_t mid)
{
    out[0] = (uint8_t)(MESSAGE_VERSION << 6 | type << 4);
    out[1] = CODE_EMPTY;
    out[2] = (uint8_t)(mid >> 8);
    out[3] = (uint8_t)mid;
}
