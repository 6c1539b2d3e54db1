/* Bytes into the parser; what it takes is written and read again, and must be the same message. */
#include <stdlib.h>
#include <string.h>

#include "gateway/coap/block.h"
#include "gateway/coap/message.h"
#include "gateway/coap/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void compare(const struct message *a, const struct message *b)
{
    struct option_cursor ca = option_cursor(a), cb = option_cursor(b);
    struct option_view va, vb;

    require(a->type == b->type && a->code == b->code && a->mid == b->mid);
    require(a->token_length == b->token_length);
    require(a->token_length == 0 || memcmp(a->token, b->token, a->token_length) == 0);
    while (option_next(&ca, &va)) {
        require(option_next(&cb, &vb) && ca.number == cb.number && va.length == vb.length);
        require(va.length == 0 || memcmp(va.value, vb.value, va.length) == 0);
    }
    require(!option_next(&cb, &vb));
    require(a->payload_length == b->payload_length);
    require(!a->payload_length || memcmp(a->payload, b->payload, a->payload_length) == 0);
    require(a->present == b->present && a->unknown_critical == b->unknown_critical);
    require(a->unknown_critical_unsafe == b->unknown_critical_unsafe &&
            a->unknown_elective_unsafe == b->unknown_elective_unsafe);
}

/* `present`, `first` and the unknown ones once more, by the words of the header instead of in one
 * pass. */
static void check_slots(const struct message *m)
{
    uint16_t critical = 0, critical_unsafe = 0, elective_unsafe = 0, count = 0;
    uint32_t present = 0;
    struct option_cursor c = option_cursor(m);
    struct option_view v;

    for (; option_next(&c, &v); count++) {
        enum option_slot slot = option_slot(c.number);
        const struct option_info *info = &option_table[slot];
        bool taken = present & SLOT_BIT(slot);

        if (slot && v.length >= info->min_length && v.length <= info->max_length &&
            (info->repeatable || !taken)) {
            require(taken ||
                    (m->first[slot].value == v.value && m->first[slot].length == v.length));
            present |= SLOT_BIT(slot);
        } else if (c.number & 1) {
            critical = critical ? critical : c.number;
            if (c.number & 2)
                critical_unsafe = critical_unsafe ? critical_unsafe : c.number;
        } else if (c.number & 2) {
            elective_unsafe = elective_unsafe ? elective_unsafe : c.number;
        }
    }
    require(m->present == present && m->option_count == count);
    require(m->unknown_critical == critical && m->unknown_critical_unsafe == critical_unsafe);
    require(m->unknown_elective_unsafe == elective_unsafe);
}

/* Options and payload as they are, behind a header of our own. */
static void check_raw(const struct message *m, uint8_t *out, size_t room)
{
    const uint8_t *end = m->data + m->length;
    struct message again;
    struct encoder e;

    encoder_begin(&e, out, room, m->type, m->code, m->mid, m->token, m->token_length);
    encoder_raw(&e, m->options, (size_t)(end - m->options));
    require(message_parse(out, encoder_end(&e), &again) == VERDICT_OK);
    compare(m, &again);
}

static void check_message(const uint8_t *data, size_t size)
{
    static uint8_t out[UINT16_MAX];
    struct message m, again;
    struct option_cursor c;
    struct option_view view;
    struct encoder e;

    if (message_parse(data, size, &m) != VERDICT_OK)
        return;
    encoder_begin(&e, out, sizeof(out), m.type, m.code, m.mid, m.token, m.token_length);
    c = option_cursor(&m);
    while (option_next(&c, &view))
        encoder_option(&e, c.number, view.value, view.length);
    encoder_payload(&e, m.payload, m.payload_length);
    require(encoder_end(&e) > 0 && encoder_end(&e) <= size); /* never longer than what was read */
    require(message_parse(out, encoder_end(&e), &again) == VERDICT_OK);
    compare(&m, &again);
    check_slots(&m);
    check_raw(&m, out, sizeof(out));
    for (unsigned slot = 1; slot < SLOT_COUNT; slot++) {
        unsigned n = 0;

        c = option_cursor_at(&m, slot);
        while (option_next_same(&c, &view))
            n++;
        require((n > 0) == message_has(&m, slot));
        (void)message_uint(&m, slot, 0);
    }
}

static void check_uri(const uint8_t *data, size_t size)
{
    struct uri uri;
    uint8_t *out;

    if (uri_parse((const char *)data, size, &uri) != 0)
        return;
    require(uri.port != 0 && uri.host_length > 0);
    out = malloc(size + 1);
    require(uri_decode(uri.host, uri.host_length, out) >= 0);
    require(!uri.path_length || uri_decode(uri.path, uri.path_length, out) >= 0);
    require(!uri.query_length || uri_decode(uri.query, uri.query_length, out) >= 0);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct block block;
    uint32_t value = 0;

    if (size > UINT16_MAX)
        return 0;
    check_message(data, size);
    check_uri(data, size);
    memcpy(&value, data, size < sizeof(value) ? size : sizeof(value));
    if (block_decode(value, &block) == 0)
        require(block_encode(&block) == value);
    return 0;
}
