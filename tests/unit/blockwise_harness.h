/* Bodies in blocks between a test's clients and origins. Beside tests/unit/proxy_harness.h. */
#ifndef COAPGW_TESTS_UNIT_BLOCKWISE_HARNESS_H
#define COAPGW_TESTS_UNIT_BLOCKWISE_HARNESS_H

#include "tests/unit/proxy_harness.h"

/* A representation at an origin. */
struct resource {
    const uint8_t *body;
    size_t length;
    uint8_t szx; /* the largest that the origin uses */
    uint8_t code;
    const char *etag; /* NULL: none */
    bool says_size;
    unsigned requests; /* counted */
    uint32_t max_age;  /* 0: not said */
};

/* Answers one request for a part of it. */
static inline void resource_answers(struct harness *h, struct resource *r, const struct sent *s,
                                    const struct message *asked)
{
    struct block block = {.szx = r->szx};
    struct addition options[4];
    struct mold m = {.code = r->code, .options = options};
    size_t from, length;

    r->requests++;
    if (message_has(asked, SLOT_BLOCK2)) {
        assert_int_equal(block_decode(message_uint(asked, SLOT_BLOCK2, 0), &block), 0);
        assert_false(block.more); /* RFC 7959 2.4 */
        if (block.szx > r->szx) {
            block.number <<= block.szx - r->szx;
            block.szx = r->szx;
        }
    }
    from = (size_t)block.number * block_size(&block);
    assert_true(from < r->length || from == 0);
    length = r->length - from;
    block.more = length > block_size(&block);
    if (block.more)
        length = block_size(&block);
    if (r->etag)
        options[m.option_count++] = text_option(OPTION_ETAG, r->etag);
    if (r->max_age)
        options[m.option_count++] = addition_uint(OPTION_MAX_AGE, r->max_age);
    if (block.more || block.number || message_has(asked, SLOT_BLOCK2))
        options[m.option_count++] = addition_uint(OPTION_BLOCK2, block_encode(&block));
    if (r->says_size && block.number == 0)
        options[m.option_count++] = addition_uint(OPTION_SIZE2, (uint32_t)r->length);
    m.payload = r->body + from;
    m.payload_length = length;
    origin_answers(h, s, &m);
}

/* Answers what comes to the origin until something goes elsewhere: that is returned. */
static inline struct sent *resource_serves(struct harness *h, struct resource *r, struct message *m)
{
    for (;;) {
        struct sent *s = harness_expect(h, m);

        if (!is_to_origin(s))
            return s;
        resource_answers(h, r, s, m);
    }
}

/* The client has the first block in `m`: fetches the rest in blocks of its size and checks them.
 * `m` is the last one then. Returns how many blocks there were. */
static inline unsigned client_fetches_rest(struct harness *h, unsigned client, uint8_t method,
                                           const char *path, const uint8_t *body, size_t length,
                                           struct message *m)
{
    struct block block = {0};
    size_t got = m->payload_length;
    uint8_t etag[8], etag_length = 0;
    unsigned n = 1;

    if (message_has(m, SLOT_ETAG)) {
        etag_length = (uint8_t)m->first[SLOT_ETAG].length;
        memcpy(etag, m->first[SLOT_ETAG].value, etag_length);
    }
    assert_memory_equal(m->payload, body, got);
    while (message_has(m, SLOT_BLOCK2)) {
        uint8_t code = m->code;

        assert_int_equal(block_decode(message_uint(m, SLOT_BLOCK2, 0), &block), 0);
        assert_true(etag_length > 0); /* served in blocks: always with an ETag */
        if (!block.more)
            break;
        CLIENT(h, client, .code = method, .path = path,
               OPTIONS_OF(block_option(OPTION_BLOCK2, (uint32_t)(got / block_size(&block)), false,
                                       block.szx)));
        expect_at_client(h, client, code, m);
        assert_block(m, SLOT_BLOCK2, (uint32_t)(got / block_size(&block)),
                     length - got > block_size(&block), block.szx);
        assert_int_equal(m->first[SLOT_ETAG].length, etag_length);
        assert_memory_equal(m->first[SLOT_ETAG].value, etag, etag_length);
        assert_true(got + m->payload_length <= length);
        assert_memory_equal(m->payload, body + got, m->payload_length);
        got += m->payload_length;
        n++;
    }
    assert_int_equal(got, length);
    return n;
}

/* One block of a body; `tag` 0: no Request-Tag. */
static inline uint16_t client_sends_block(struct harness *h, unsigned client, uint8_t method,
                                          const char *path, const uint8_t *body, size_t length,
                                          const struct block *block, char tag)
{
    size_t from = (size_t)block->number * block_size(block);
    size_t part = length - from < block_size(block) ? length - from : block_size(block);
    struct addition options[2] = {addition_uint(OPTION_BLOCK1, block_encode(block)),
                                  addition_bytes(OPTION_REQUEST_TAG, (const uint8_t *)&tag, 1)};

    return CLIENT(h, client, .code = method, .path = path, .options = options,
                  .option_count = tag ? 2 : 1, .payload = body + from, .payload_length = part);
}

/* Sends all blocks but the last, each answered by 2.31, and then the last one, whose message ID is
 * returned. */
static inline uint16_t client_uploads(struct harness *h, unsigned client, uint8_t method,
                                      const char *path, const uint8_t *body, size_t length,
                                      uint8_t szx, char tag)
{
    struct block block = {.szx = szx, .more = true};
    struct message m;

    while ((size_t)(block.number + 1) * block_size(&block) < length) {
        client_sends_block(h, client, method, path, body, length, &block, tag);
        expect_at_client(h, client, CODE_CONTINUE, &m);
        assert_block(&m, SLOT_BLOCK1, block.number, true, szx);
        assert_int_equal(m.payload_length, 0);
        block.number++;
    }
    block.more = false;
    return client_sends_block(h, client, method, path, body, length, &block, tag);
}

/* Takes what comes to the origin until the body is complete: the last request is returned, still to
 * be answered. The origin wants blocks of `szx` at the most; it has `length` bytes already. */
static inline struct sent *origin_collects(struct harness *h, uint8_t szx, uint8_t *body,
                                           size_t *length, struct message *m)
{
    for (;;) {
        struct block block = {0};
        struct sent *s = expect_at_origin(h, m);

        if (message_has(m, SLOT_BLOCK1))
            assert_int_equal(block_decode(message_uint(m, SLOT_BLOCK1, 0), &block), 0);
        assert_int_equal((size_t)block.number * block_size(&block), *length);
        memcpy(body + *length, m->payload, m->payload_length);
        *length += m->payload_length;
        if (!block.more)
            return s;
        assert_int_equal(m->payload_length, block_size(&block));
        if (block.szx > szx)
            block.szx = szx;
        ORIGIN(h, s, .code = CODE_CONTINUE,
               OPTIONS_OF(addition_uint(OPTION_BLOCK1, block_encode(&block))));
    }
}

#endif
