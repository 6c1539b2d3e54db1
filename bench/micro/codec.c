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
static size_t write_answer(uint8_t *out, size_t room, uint16_t mid)
{
    static const uint8_t token[4] = {1, 2, 3, 4}, etag[4] = {5, 6, 7, 8}, payload[64];
    struct encoder e;

    encoder_begin(&e, out, room, TYPE_ACK, CODE_CONTENT, mid, token, sizeof(token));
    encoder_option(&e, OPTION_ETAG, etag, sizeof(etag));
    encoder_uint(&e, OPTION_CONTENT_FORMAT, 60);
    encoder_uint(&e, OPTION_MAX_AGE, 300);
    encoder_payload(&e, payload, sizeof(payload));
    return encoder_end(&e);
}

static int begin_answer(uint32_t scale)
{
    (void)scale;
    shape.length = write_answer(shape.bytes, sizeof(shape.bytes), 77);
    return message_parse(shape.bytes, shape.length, &shape.message) == VERDICT_OK ? 0 : -EINVAL;
}

static uint64_t run_parse(unsigned n)
{
    struct message m;
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        sum += message_parse(shape.bytes, shape.length, &m);
        sum += m.present + m.mid;
        __asm__ volatile("" ::"r"(&m) : "memory"); /* all of it is wanted */
    }
    return sum;
}

static uint64_t run_encode(unsigned n)
{
    uint8_t out[256];
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        sum += write_answer(out, sizeof(out), (uint16_t)i);
        __asm__ volatile("" ::"r"(out) : "memory");
    }
    return sum;
}

static uint64_t run_slot(unsigned n)
{
    static const uint16_t numbers[] = {11, 11, 6, 12, 14, 17, 23, 4, 15, 3, 258, 35, 60, 252, 9, 2};
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += option_slot(numbers[i % 16]);
    return sum;
}

static uint64_t run_find(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        sum += message_uint(&shape.message, SLOT_MAX_AGE, 60);
        sum += message_has(&shape.message, SLOT_BLOCK2);
        __asm__ volatile("" ::: "memory");
    }
    return sum;
}

static uint64_t run_walk(unsigned n)
{
    struct option_view view;
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        struct option_cursor cursor = option_cursor(&shape.message);

        while (option_next(&cursor, &view))
            sum += cursor.number + view.length;
        __asm__ volatile("" ::: "memory");
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
