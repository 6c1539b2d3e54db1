/* Reading and writing messages, and finding options in them. */
#include "bench/micro/micro.h"

#include <errno.h>

#include "bench/harness.h"

static struct {
    uint8_t bytes[HARNESS_REQUEST + 64];
    size_t length;
    struct message message; /* of the same bytes */
} shape;

static int encode_shape(struct harness_request r)
{
    r.token = 0x01020304;
    r.mid = 77;
    shape.length = harness_encode(shape.bytes, &r);
    if (shape.length == 0 || message_parse(shape.bytes, shape.length, &shape.message) != VERDICT_OK)
        return -EINVAL;
    return 0;
}

static int begin_get(uint32_t scale)
{
    (void)scale;
    return encode_shape(
        (struct harness_request){.type = TYPE_CON, .code = CODE_GET, .path = "hello"});
}

static int begin_two(uint32_t scale)
{
    (void)scale;
    return encode_shape((struct harness_request){
        .type = TYPE_CON, .code = CODE_GET, .path = "sensors", .path2 = "12345", .observe = true});
}

static int begin_post(uint32_t scale)
{
    static const uint8_t payload[64];

    (void)scale;
    return encode_shape((struct harness_request){.type = TYPE_CON,
                                                 .code = CODE_POST,
                                                 .path = "sensors",
                                                 .path2 = "12345",
                                                 .payload = payload,
                                                 .payload_length = sizeof(payload)});
}

/* The answer that a cache hit or an origin gives: ETag, Content-Format, Max-Age, 64 bytes. */
static const struct answer {
    uint8_t token[4], etag[4], payload[64];
    size_t token_length, etag_length, payload_length;
    uint32_t format, max_age;
} sample = {{1, 2, 3, 4}, {5, 6, 7, 8}, {9}, 4, 4, 64, 60, 300};

static size_t write_answer(uint8_t *out, size_t room, uint16_t mid, const struct answer *a)
{
    struct encoder e;

    encoder_begin(&e, out, room, TYPE_ACK, CODE_CONTENT, mid, a->token, a->token_length);
    encoder_option(&e, OPTION_ETAG, a->etag, a->etag_length);
    encoder_uint(&e, OPTION_CONTENT_FORMAT, a->format);
    encoder_uint(&e, OPTION_MAX_AGE, a->max_age);
    encoder_payload(&e, a->payload, a->payload_length);
    return encoder_end(&e);
}

static int begin_answer(uint32_t scale)
{
    (void)scale;
    shape.length = write_answer(shape.bytes, sizeof(shape.bytes), 77, &sample);
    return message_parse(shape.bytes, shape.length, &shape.message) == VERDICT_OK ? 0 : -EINVAL;
}

static uint64_t run_parse(unsigned n)
{
    struct message m;
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        const uint8_t *bytes = shape.bytes;
        struct message *wanted = &m;

        MICRO_HIDE(bytes);
        sum += message_parse(bytes, shape.length, wanted);
        MICRO_HIDE(wanted); /* all of it */
        sum += wanted->mid;
    }
    return sum;
}

static uint64_t run_encode(unsigned n)
{
    uint8_t bytes[256];
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        const struct answer *answer = &sample;
        uint8_t *out = bytes;

        MICRO_HIDE(answer);
        sum += write_answer(out, sizeof(bytes), (uint16_t)i, answer);
        MICRO_HIDE(out);
        sum += out[0];
    }
    return sum;
}

static uint64_t run_slot(unsigned n)
{
    static const uint16_t numbers[] = {11, 11, 6, 12, 14, 17, 23, 4, 15, 3, 258, 35, 60, 252, 9, 2};
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        uint16_t number = numbers[i % 16];

        MICRO_HIDE(number);
        sum += option_slot(number);
    }
    return sum;
}

static uint64_t run_find(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        const struct message *m = &shape.message;

        MICRO_HIDE(m);
        sum += message_uint(m, SLOT_MAX_AGE, 60);
        sum += message_has(m, SLOT_BLOCK2);
    }
    return sum;
}

static uint64_t run_walk(unsigned n)
{
    struct option_view view;
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        const struct message *m = &shape.message;
        struct option_cursor cursor;

        MICRO_HIDE(m);
        cursor = option_cursor(m);
        while (option_next(&cursor, &view))
            sum += cursor.number + view.length;
    }
    return sum;
}

const struct micro_case micro_codec[] = {
    {.name = "codec: parse GET, a path segment", .begin = begin_get, .run = run_parse},
    {.name = "codec: parse GET, Observe, 2 segments", .begin = begin_two, .run = run_parse},
    {.name = "codec: parse POST, 64 bytes", .begin = begin_post, .run = run_parse},
    {.name = "codec: parse 2.05, 3 options, 64 bytes", .begin = begin_answer, .run = run_parse},
    {.name = "codec: encode 2.05, 3 options, 64 bytes", .run = run_encode},
    {.name = "option: number to slot", .run = run_slot},
    {.name = "option: a value and an absence", .begin = begin_answer, .run = run_find},
    {.name = "option: walk over 3", .begin = begin_answer, .run = run_walk},
    {0},
};
