/* Ropes and contents: chains that grow at their end, their readers, and what may be assembled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gateway/coap/message.h"
#include "gateway/proxy/content.h"

#define CHUNKS    64u
#define LONGEST   (CHUNKS * CHUNK_PAYLOAD)
#define CACHE_MAX ((size_t)16 * CHUNK_BYTES)

static uint8_t bytes[LONGEST + 1], out[LONGEST + 1];

static int setup(void **state)
{
    struct contents *c = calloc(1, sizeof(*c));

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 11 + i / CHUNK_PAYLOAD);
    assert_int_equal(contents_init(c, 8, CACHE_MAX, CHUNKS * CHUNK_BYTES - CACHE_MAX, 0), 0);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct contents *c = *state;

    assert_int_equal(pool_used(&c->chunks.pool), 0);
    assert_int_equal(pool_used(&c->pool), 0);
    contents_fini(c);
    free(c);
    return 0;
}

static uint32_t used(const struct contents *c)
{
    return pool_used(&c->chunks.pool);
}

static void assert_holds(const struct contents *c, const struct rope *rope, size_t length)
{
    assert_int_equal(rope->length, length);
    assert_int_equal(used(c), (length + CHUNK_PAYLOAD - 1) / CHUNK_PAYLOAD);
    assert_int_equal(rope_chunks(rope), used(c));
    rope_read(&c->chunks, rope, NULL, 0, out, length);
    assert_memory_equal(out, bytes, length);
    assert_true(rope_equal(&c->chunks, rope, bytes, length));
}

static void pieces_of_every_length(void **state)
{
    struct contents *c = *state;

    for (size_t piece = 1; piece <= 2 * CHUNK_PAYLOAD + 1; piece++) {
        struct rope rope = ROPE_EMPTY;
        size_t length = 0;

        for (int i = 0; i < 5; i++) {
            uint32_t before = used(c), growth = rope_growth(&rope, piece);

            assert_true(rope_append(&c->chunks, &rope, bytes + length, piece));
            assert_int_equal(used(c) - before, growth);
            length += piece;
            assert_holds(c, &rope, length);
        }
        rope_free(&c->chunks, &rope);
        assert_int_equal(used(c), 0);
        assert_int_equal(rope.length, 0);
        assert_int_equal(rope.head, CHUNK_NONE);
    }
}

static void nothing_is_nothing(void **state)
{
    struct contents *c = *state;
    struct rope rope = ROPE_EMPTY;

    assert_true(rope_append(&c->chunks, &rope, NULL, 0));
    assert_int_equal(used(c), 0);
    assert_true(rope_equal(&c->chunks, &rope, NULL, 0));
    assert_false(rope_equal(&c->chunks, &rope, bytes, 1));
    rope_read(&c->chunks, &rope, NULL, 0, NULL, 0);
    rope_free(&c->chunks, &rope);
    assert_true(rope_append(&c->chunks, &rope, bytes, CHUNK_PAYLOAD));
    assert_true(rope_append(&c->chunks, &rope, NULL, 0)); /* behind a chunk that is full */
    assert_holds(c, &rope, CHUNK_PAYLOAD);
    rope_free(&c->chunks, &rope);
}

static void equal_means_every_byte(void **state)
{
    struct contents *c = *state;
    struct rope rope = ROPE_EMPTY;

    assert_true(rope_append(&c->chunks, &rope, bytes, 300));
    for (size_t i = 0; i < 300; i++) {
        bytes[i] ^= 1;
        assert_false(rope_equal(&c->chunks, &rope, bytes, 300));
        bytes[i] ^= 1;
    }
    assert_false(rope_equal(&c->chunks, &rope, bytes, 299));
    assert_false(rope_equal(&c->chunks, &rope, bytes, 301));
    rope_free(&c->chunks, &rope);
}

static void what_does_not_fit_changes_nothing(void **state)
{
    struct contents *c = *state;
    struct rope rope = ROPE_EMPTY, other = ROPE_EMPTY;

    assert_false(rope_append(&c->chunks, &rope, bytes, LONGEST + 1));
    assert_int_equal(used(c), 0);
    assert_true(rope_append(&c->chunks, &rope, bytes, LONGEST - 1));
    assert_false(rope_append(&c->chunks, &rope, bytes, 2));
    assert_false(rope_append(&c->chunks, &other, bytes, 1));
    assert_int_equal(other.head, CHUNK_NONE);
    assert_true(rope_append(&c->chunks, &rope, bytes + LONGEST - 1, 1)); /* into the last chunk */
    assert_holds(c, &rope, LONGEST);
    rope_free(&c->chunks, &rope);
}

static void ropes_grow_side_by_side(void **state)
{
    struct contents *c = *state;
    struct rope ropes[3] = {ROPE_EMPTY, ROPE_EMPTY, ROPE_EMPTY};

    for (unsigned i = 0; i < 30; i++)
        for (unsigned k = 0; k < 3; k++)
            assert_true(rope_append(&c->chunks, &ropes[k], bytes + i * 50 + k, 50));
    for (unsigned k = 0; k < 3; k++) {
        rope_read(&c->chunks, &ropes[k], NULL, 0, out, 1500);
        for (unsigned i = 0; i < 30; i++)
            assert_memory_equal(out + (size_t)i * 50, bytes + i * 50 + k, 50);
        rope_free(&c->chunks, &ropes[k]);
    }
}

/* Forward, backward, across, while it grows: a cursor only saves the way. */
static void cursors_find_every_place(void **state)
{
    struct contents *c = *state;
    struct rope_cursor cursor = ROPE_START;
    struct rope rope = ROPE_EMPTY;
    uint32_t seed = 1;

    assert_true(rope_append(&c->chunks, &rope, bytes, 1000));
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t offset, length;

        seed = seed * 1664525 + 1013904223;
        offset = (seed >> 8) % rope.length;
        length = (seed >> 3) % (rope.length - offset + 1);
        rope_read(&c->chunks, &rope, &cursor, offset, out, length);
        assert_memory_equal(out, bytes + offset, length);
        if (i % 5 == 0 && rope.length + 40 < LONGEST)
            assert_true(rope_append(&c->chunks, &rope, bytes + rope.length, 40));
    }
    cursor = ROPE_START;
    for (uint32_t at = 0; at + 64 <= rope.length; at += 64) { /* as blocks are read */
        uint32_t before = cursor.index;

        rope_read(&c->chunks, &rope, &cursor, at, out, 64);
        assert_memory_equal(out, bytes + at, 64);
        assert_true(cursor.index - before <= 1);
    }
    rope_free(&c->chunks, &rope);
}

/* ---- contents ---- */

/* A response with all that is kept and all that is not. */
static struct message response(uint8_t buffer[1400], uint8_t code, size_t length)
{
    struct encoder e;
    struct message m;

    encoder_begin(&e, buffer, 1400, TYPE_ACK, code, 1, NULL, 0);
    encoder_option(&e, OPTION_ETAG, "\0tag", 4);
    encoder_uint(&e, OPTION_OBSERVE, 5);
    encoder_uint(&e, OPTION_CONTENT_FORMAT, 50);
    encoder_uint(&e, OPTION_MAX_AGE, 30);
    encoder_uint(&e, OPTION_BLOCK2, 0x0e);
    encoder_uint(&e, OPTION_BLOCK1, 0x06);
    encoder_uint(&e, OPTION_SIZE2, 2000);
    encoder_uint(&e, OPTION_SIZE1, 4000);
    encoder_option(&e, 2056, "x", 1);
    encoder_payload(&e, bytes, length);
    assert_int_equal(message_parse(buffer, encoder_end(&e), &m), VERDICT_OK);
    return m;
}

static void contents_keep_what_every_client_gets(void **state)
{
    static const uint8_t kept[] = {0xc1, 50, 0xe1, 0x06, 0xef, 'x'};
    static const uint8_t with_size[] = {0xc1, 50, 0xd2, 35, 0x0f, 0xa0, 0xe1, 0x06, 0xbf, 'x'};
    struct contents *c = *state;
    uint8_t buffer[1400];
    struct message m = response(buffer, CODE_CONTENT, 1000);
    uint32_t index = content_create(c, &m, 7000000);
    const struct content *content = content_at(c, index);

    assert_int_equal(content->options_length, sizeof(kept));
    rope_read(&c->chunks, &content->rope, NULL, 0, out, content->rope.length);
    assert_memory_equal(out, kept, sizeof(kept));
    assert_memory_equal(out + sizeof(kept), bytes, 1000);
    assert_int_equal(content->etag.length, 4);
    assert_memory_equal(content->etag.bytes, "\0tag", 4);
    assert_false(content->own_etag);
    assert_true(content->has_max_age);
    assert_int_equal(content->max_age_s, 30);
    assert_int_equal(content_age_s(content, 9999999), 2);
    assert_true(content_is_fresh(content, 36999999));
    assert_false(content_is_fresh(content, 37000000));
    assert_true(content_extend(c, index, bytes + 1000, 500));
    assert_int_equal(content->payload_length, 1500);
    content_hold(c, index);
    content_release(c, index);
    assert_int_equal(content->payload_length, 1500);
    content_release(c, index);
    content_release(c, CONTENT_NONE);
    assert_int_equal(used(c), 0);

    /* RFC 7959 2.9.3: a 4.13 says how much would have been taken. */
    m = response(buffer, CODE_REQUEST_ENTITY_TOO_LARGE, 0);
    index = content_create(c, &m, 0);
    content = content_at(c, index);
    assert_int_equal(content->options_length, sizeof(with_size));
    rope_read(&c->chunks, &content->rope, NULL, 0, out, content->rope.length);
    assert_memory_equal(out, with_size, sizeof(with_size));
    content_release(c, index);
}

static void tags_tell_contents_apart(void **state)
{
    struct contents *c = *state;
    uint8_t message[1400] = {0x60, CODE_CONTENT, 0, 1, 0xff, 'a', 'b', 'c'};
    struct etag tags[3];
    struct message m;
    uint32_t index;

    for (unsigned i = 0; i < 3; i++) {
        message[6] = i == 2 ? 'x' : 'b';
        assert_int_equal(message_parse(message, 8, &m), VERDICT_OK);
        index = content_create(c, &m, i);
        assert_int_equal(content_at(c, index)->etag.length, 0);
        content_tag(c, content_at(c, index));
        tags[i] = content_at(c, index)->etag;
        assert_true(content_at(c, index)->own_etag);
        content_tag(c, content_at(c, index));
        assert_true(etag_equal(&tags[i], &content_at(c, index)->etag));
        content_release(c, index);
    }
    assert_true(etag_equal(&tags[0], &tags[1])); /* the same again is the same */
    assert_false(etag_equal(&tags[0], &tags[2]));
}

static void assembly_leaves_the_cache_its_room(void **state)
{
    struct contents *c = *state;
    struct rope rope = ROPE_EMPTY, cached = ROPE_EMPTY;
    size_t allowance = (CHUNKS - 16) * CHUNK_PAYLOAD;

    assert_true(contents_append(c, &rope, bytes, allowance));
    assert_false(contents_append(c, &rope, bytes, 1));
    assert_int_equal(rope.length, allowance);
    /* What goes into the cache makes room for more. */
    c->cached = 10;
    assert_true(contents_append(c, &cached, bytes, 10 * CHUNK_PAYLOAD));
    assert_false(contents_append(c, &cached, bytes, 1));
    assert_int_equal(contents_assembling(c), CHUNKS - 16);
    c->cached = 0;
    rope_free(&c->chunks, &rope);
    rope_free(&c->chunks, &cached);
}

static void contents_without_memory_leave_nothing(void **state)
{
    struct contents *c = *state;
    struct rope rope = ROPE_EMPTY;
    uint32_t indices[8];
    uint8_t buffer[1400];
    struct message m = response(buffer, CODE_CONTENT, 1000);

    assert_true(contents_append(c, &rope, bytes, (CHUNKS - 16 - 5) * CHUNK_PAYLOAD));
    assert_int_equal(content_create(c, &m, 0), CONTENT_NONE); /* its options fit, not its payload */
    assert_int_equal(used(c), CHUNKS - 16 - 5);
    assert_int_equal(pool_used(&c->pool), 0);
    rope_free(&c->chunks, &rope);
    m = response(buffer, CODE_CONTENT, 1);
    for (unsigned i = 0; i < 8; i++)
        assert_int_not_equal(indices[i] = content_create(c, &m, 0), CONTENT_NONE);
    assert_int_equal(content_create(c, &m, 0), CONTENT_NONE);
    assert_int_equal(used(c), 8);
    for (unsigned i = 0; i < 8; i++)
        content_release(c, indices[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pieces_of_every_length),
        TEST(nothing_is_nothing),
        TEST(equal_means_every_byte),
        TEST(what_does_not_fit_changes_nothing),
        TEST(ropes_grow_side_by_side),
        TEST(cursors_find_every_place),
        TEST(contents_keep_what_every_client_gets),
        TEST(tags_tell_contents_apart),
        TEST(assembly_leaves_the_cache_its_room),
        TEST(contents_without_memory_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
