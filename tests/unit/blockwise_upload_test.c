/* Uploads in blocks through the proxy, with sizes of its own on each leg (RFC 7959; 9175 3). The
 * figures are those of RFC 7959 3.2 and 3.3. */
#include "tests/unit/blockwise_setup.h"

static uint8_t got[BODY_MAX]; /* at the origin */

/* Figure 7: a simple atomic PUT, on the leg to the origin. */
static void figure_7_simple_put(void **state)
{
    static const uint8_t block_0[] = {0xb1, 's', 0x07, 'o',  'p',  't',  'i',  'o',  'n',  's',
                                      0x51, 16,  0xb1, 0x0b, 0xd2, 0x14, 0x01, 0x80, 0xd4, 0xdb};
    struct harness *h = *state;
    struct message m;
    struct sent *s;

    CLIENT(h, 1, .code = CODE_PUT, .path = "s/options", .payload = body, .payload_length = 384);
    s = expect_at_origin(h, &m);
    assert_tail(s, 8, block_0, sizeof(block_0)); /* 1:0/1/128, Size1, and a Request-Tag */
    assert_payload(&m, body, 128);
    ORIGIN(h, s, .code = CODE_CONTINUE, OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 3)));
    s = expect_at_origin(h, &m);
    assert_int_equal(option_of(&m, SLOT_BLOCK1), 0x1b); /* 1:1/1/128 */
    assert_payload(&m, body + 128, 128);
    ORIGIN(h, s, .code = CODE_CONTINUE, OPTIONS_OF(block_option(OPTION_BLOCK1, 1, true, 3)));
    s = expect_at_origin(h, &m);
    assert_int_equal(option_of(&m, SLOT_BLOCK1), 0x23); /* 1:2/0/128 */
    assert_payload(&m, body + 256, 128);
    ORIGIN(h, s, .code = CODE_CHANGED, OPTIONS_OF(block_option(OPTION_BLOCK1, 2, false, 3)));
    expect_at_client(h, 1, CODE_CHANGED, &m);
    assert_false(message_has(&m, SLOT_BLOCK1)); /* the client did not send blocks */
}

/* Figure 8: the origin wants smaller blocks from the second one on: 1:4/1/32 follows 1:0/1/128. */
static void figure_8_negotiated_put(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s;
    size_t length = 128;

    client_uploads(h, 1, CODE_PUT, "s/options", body, 272, 6, 0);
    s = expect_at_origin(h, &m);
    assert_int_equal(option_of(&m, SLOT_BLOCK1), 0x0b);
    memcpy(got, m.payload, 128);
    ORIGIN(h, s, .code = CODE_CONTINUE, OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 1)));
    s = origin_collects(h, 1, got, &length, &m);
    assert_int_equal(option_of(&m, SLOT_BLOCK1), 0x81); /* 1:8/0/32, 16 bytes in it */
    assert_int_equal(length, 272);
    assert_memory_equal(got, body, 272);
    ORIGIN(h, s, .code = CODE_CHANGED, OPTIONS_OF(block_option(OPTION_BLOCK1, 8, false, 1)));
    expect_at_client(h, 1, CODE_CHANGED, &m);
    harness_silent(h);
}

/* Figure 9 and 10: a POST in blocks with an answer in blocks, of a size that the client names. What
 * comes after the last Block1 is not executed again. */
static void figure_10_post_and_answer(void **state)
{
    struct resource r = {body, 500, .szx = 3, .code = CODE_CHANGED};
    struct harness *h = *state;
    struct message m, asked;
    struct sent *s;
    size_t length = 0;
    uint32_t tag;

    client_uploads(h, 1, CODE_POST, "s/soap", body, 300, 3, 0);
    s = origin_collects(h, 3, got, &length, &m);
    assert_int_equal(length, 300);
    assert_block(&m, SLOT_BLOCK1, 2, false, 3);
    tag = message_uint(&m, SLOT_REQUEST_TAG, 0);
    ORIGIN(h, s, .code = CODE_CHANGED,
           OPTIONS_OF(block_option(OPTION_BLOCK2, 0, true, 3),
                      block_option(OPTION_BLOCK1, 2, false, 3)),
           .payload = body, .payload_length = 128);
    for (uint32_t i = 1; i < 4; i++) {
        s = expect_at_origin(h, &asked);
        assert_int_equal(asked.code, CODE_POST);
        assert_false(message_has(&asked, SLOT_BLOCK1));
        assert_int_equal(asked.payload_length, 0);
        /* RFC 9175 3.3: the same options as the request that it goes on with */
        assert_int_equal(message_uint(&asked, SLOT_REQUEST_TAG, 0), tag);
        resource_answers(h, &r, s, &asked);
    }
    expect_at_client(h, 1, CODE_CHANGED, &m);
    assert_payload(&m, body, 500);
    assert_block(&m, SLOT_BLOCK1, 2, false, 3);
    harness_silent(h);
}

static void later_blocks_of_an_answer_are_not_executed(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s;
    size_t length = 0;
    uint16_t mid;

    mid = client_uploads(h, 1, CODE_POST, "soap", body, 300, 3, 'a');
    s = origin_collects(h, 6, got, &length, &m);
    ORIGIN(h, s, .code = CODE_CHANGED, .payload = body, .payload_length = 500);
    expect_at_client(h, 1, CODE_CHANGED, &m);
    assert_block(&m, SLOT_BLOCK2, 0, true, 3);
    for (uint32_t i = 1; i < 4; i++) {
        CLIENT(h, 1, .code = CODE_POST, .path = "soap",
               OPTIONS_OF(block_option(OPTION_BLOCK2, i, false, 3),
                          text_option(OPTION_REQUEST_TAG, "a")));
        expect_at_client(h, 1, CODE_CHANGED, &m);
        assert_block(&m, SLOT_BLOCK2, i, i < 3, 3);
        assert_payload(&m, body + i * 128, i < 3 ? 128 : 116);
    }
    /* Nor is the last block of the request, when it comes again. */
    {
        struct block last = {.number = 2, .szx = 3};
        struct flow flow = harness_client(h, 1);
        uint8_t bytes[1500], token = 1, raw_tag = 'a';
        const struct addition options[] = {addition_uint(OPTION_BLOCK1, block_encode(&last)),
                                           addition_bytes(OPTION_REQUEST_TAG, &raw_tag, 1)};
        const struct mold again = {.code = CODE_POST,
                                   .mid = mid,
                                   .token = &token,
                                   .token_length = 1,
                                   .path = "soap",
                                   .options = options,
                                   .option_count = 2,
                                   .payload = body + 256,
                                   .payload_length = 44};

        harness_give(h, &flow, bytes, mold_write(&again, bytes));
    }
    expect_at_client(h, 1, CODE_CHANGED, &m);
    assert_block(&m, SLOT_BLOCK2, 0, true, 3);
    harness_silent(h);
    CLIENT(
        h, 1, .code = CODE_POST, .path = "soap",
        OPTIONS_OF(block_option(OPTION_BLOCK2, 4, false, 3), text_option(OPTION_REQUEST_TAG, "a")));
    expect_at_client(h, 1, CODE_BAD_REQUEST, &m);
    /* Another client, and an answer that is not kept any more. */
    CLIENT(h, 2, .code = CODE_POST, .path = "soap",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 1, false, 3)));
    expect_at_client(h, 2, CODE_REQUEST_ENTITY_INCOMPLETE, &m);
    harness_silent(h);
}

/* ---- uploads ---- */

static void uploads_with_different_sizes(void **state)
{
    static const struct {
        uint8_t client, origin;
        size_t length;
    } cases[] = {{0, 6, 1000}, {6, 0, 2500}, {2, 5, 30000}, {6, 6, 60000}, {6, 4, 2048}};
    struct harness *h = *state;
    struct message m;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t length = 0;
        struct sent *s;

        client_uploads(h, 1, CODE_PUT, "x", body, cases[i].length, cases[i].client, 0);
        s = origin_collects(h, cases[i].origin, got, &length, &m);
        assert_int_equal(length, cases[i].length);
        assert_memory_equal(got, body, length);
        ORIGIN(h, s, .code = CODE_CHANGED);
        expect_at_client(h, 1, CODE_CHANGED, &m);
        assert_int_equal(usage_of(h).transfers, 0);
        h->taken = h->count = 0;
    }
}

/* RFC 7959 2.9.2, and what the first answer asks for is kept from then on. */
static void the_listener_asks_for_its_own_block_size(void **state)
{
    struct block block = {.number = 0, .more = true, .szx = 5};
    struct harness *h = *state;
    struct message m;
    size_t length = 0;

    client_sends_block(h, 1, CODE_PUT, "x", body, 800, &block, 0);
    expect_at_client(h, 1, CODE_CONTINUE, &m);
    assert_block(&m, SLOT_BLOCK1, 0, true, 3); /* 128 */
    block = (struct block){.number = 4, .more = true, .szx = 3};
    for (; block.number < 6; block.number++) {
        client_sends_block(h, 1, CODE_PUT, "x", body, 800, &block, 0);
        expect_at_client(h, 1, CODE_CONTINUE, &m);
        assert_block(&m, SLOT_BLOCK1, block.number, true, 3);
    }
    block.more = false;
    client_sends_block(h, 1, CODE_PUT, "x", body, 800, &block, 0);
    origin_collects(h, 6, got, &length, &m);
    assert_int_equal(length, 800);
    assert_memory_equal(got, body, 800);
    ORIGIN(h, &h->sent[h->taken - 1], .code = CODE_CHANGED);
    expect_at_client(h, 1, CODE_CHANGED, &m);
}

static void gaps_and_repeated_blocks(void **state)
{
    struct block block = {.number = 1, .more = true, .szx = 4};
    struct harness *h = *state;
    struct message m;
    size_t length = 0;
    struct sent *s;

    client_sends_block(h, 1, CODE_PUT, "x", body, 1000, &block, 0);
    expect_at_client(h, 1, CODE_REQUEST_ENTITY_INCOMPLETE, &m); /* without the first one */
    block.number = 0;
    client_sends_block(h, 1, CODE_PUT, "x", body, 1000, &block, 0);
    expect_at_client(h, 1, CODE_CONTINUE, &m);
    block.number = 2;
    client_sends_block(h, 1, CODE_PUT, "x", body, 1000, &block, 0);
    expect_at_client(h, 1, CODE_REQUEST_ENTITY_INCOMPLETE, &m);
    for (int i = 0; i < 3; i++) { /* the same again: its 2.31 was lost */
        block.number = 1;
        client_sends_block(h, 1, CODE_PUT, "x", body, 1000, &block, 0);
        expect_at_client(h, 1, CODE_CONTINUE, &m);
        assert_block(&m, SLOT_BLOCK1, 1, true, 4);
    }
    block.number = 2;
    client_sends_block(h, 1, CODE_PUT, "x", body, 1000, &block, 0);
    expect_at_client(h, 1, CODE_CONTINUE, &m);
    block = (struct block){.number = 3, .szx = 4};
    client_sends_block(h, 1, CODE_PUT, "x", body, 1000, &block, 0);
    s = origin_collects(h, 6, got, &length, &m);
    assert_int_equal(length, 1000);
    assert_memory_equal(got, body, 1000);
    ORIGIN(h, s, .code = CODE_CHANGED);
    expect_at_client(h, 1, CODE_CHANGED, &m);
    client_sends_block(h, 1, CODE_PUT, "x", body, 1000, &block, 0);
    expect_at_client(h, 1, CODE_REQUEST_ENTITY_INCOMPLETE, &m); /* a new message: not the same */
    harness_silent(h);
}

/* The same message again is no new beginning (RFC 7252 4.5). */
static void a_first_block_that_comes_late_again(void **state)
{
    struct block block = {.more = true, .szx = 4};
    struct harness *h = *state;
    struct flow flow = harness_client(h, 1);
    struct message m;
    struct sent first;
    size_t length = 0;
    uint8_t bytes[1500], token = 1;
    const struct addition option = addition_uint(OPTION_BLOCK1, block_encode(&block));
    const struct mold again = {.code = CODE_PUT,
                               .mid = 0x4242,
                               .token = &token,
                               .token_length = 1,
                               .path = "x",
                               .options = &option,
                               .option_count = 1,
                               .payload = body,
                               .payload_length = 256};

    harness_give(h, &flow, bytes, mold_write(&again, bytes));
    first = *expect_at_client(h, 1, CODE_CONTINUE, &m);
    block.number = 1;
    client_sends_block(h, 1, CODE_PUT, "x", body, 700, &block, 0);
    expect_at_client(h, 1, CODE_CONTINUE, &m);
    harness_give(h, &flow, bytes, mold_write(&again, bytes));
    assert_int_equal(expect_at_client(h, 1, CODE_CONTINUE, &m)->length, first.length);
    assert_memory_equal(m.data, first.data, first.length);
    block = (struct block){.number = 2, .szx = 4};
    client_sends_block(h, 1, CODE_PUT, "x", body, 700, &block, 0);
    ORIGIN(h, origin_collects(h, 6, got, &length, &m), .code = CODE_CHANGED);
    assert_int_equal(length, 700);
    assert_memory_equal(got, body, 700);
    expect_at_client(h, 1, CODE_CHANGED, &m);
    assert_block(&m, SLOT_BLOCK1, 2, false, 4);
}

static void blocks_of_the_wrong_length(void **state)
{
    struct harness *h = *state;
    struct message m;

    CLIENT(h, 1, .code = CODE_PUT, .path = "x", OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 2)),
           .payload = body, .payload_length = 63);
    expect_at_client(h, 1, CODE_BAD_REQUEST, &m);
    assert_int_equal(usage_of(h).transfers, 0);
    CLIENT(h, 1, .code = CODE_PUT, .path = "x", OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 2)),
           .payload = body, .payload_length = 64);
    expect_at_client(h, 1, CODE_CONTINUE, &m);
    CLIENT(h, 1, .code = CODE_PUT, .path = "x", OPTIONS_OF(block_option(OPTION_BLOCK1, 1, true, 2)),
           .payload = body, .payload_length = 80);
    expect_at_client(h, 1, CODE_BAD_REQUEST, &m);
    CLIENT(h, 1, .code = CODE_PUT, .path = "x",
           OPTIONS_OF(block_option(OPTION_BLOCK1, 1, false, 2)), .payload = body,
           .payload_length = 65); /* longer than a block can be */
    expect_at_client(h, 1, CODE_BAD_REQUEST, &m);
    harness_silent(h);
}

static void bodies_that_are_too_large(void **state)
{
    struct block block = {.more = true, .szx = 6};
    struct harness *h = *state;
    struct message m;

    CLIENT(h, 1, .code = CODE_PUT, .path = "x",
           OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 6), addition_uint(OPTION_SIZE1, 65537)),
           .payload = body, .payload_length = 1024);
    expect_at_client(h, 1, CODE_REQUEST_ENTITY_TOO_LARGE, &m);
    assert_int_equal(option_of(&m, SLOT_SIZE1), 65536);
    assert_int_equal(usage_of(h).transfers, 0);
    CLIENT(h, 1, .code = CODE_PUT, .path = "x",
           OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 6), addition_uint(OPTION_SIZE1, 65536)),
           .payload = body, .payload_length = 1024);
    expect_at_client(h, 1, CODE_CONTINUE, &m);
    for (block.number = 0; block.number < 64; block.number++) {
        client_sends_block(h, 1, CODE_PUT, "x", body, sizeof(body), &block, 0);
        expect_at_client(h, 1, CODE_CONTINUE, &m);
    }
    for (int i = 0; i < 2; i++) { /* again: the first answer was lost */
        client_sends_block(h, 1, CODE_PUT, "x", body, sizeof(body), &block, 0);
        expect_at_client(h, 1, CODE_REQUEST_ENTITY_TOO_LARGE, &m);
        assert_int_equal(option_of(&m, SLOT_SIZE1), 65536);
    }
    assert_true(usage_of(h).assembly_bytes == 0);
    block.number = 0; /* and anew */
    client_sends_block(h, 1, CODE_PUT, "x", body, sizeof(body), &block, 0);
    expect_at_client(h, 1, CODE_CONTINUE, &m);
    harness_silent(h);
}

static void assembly_memory_is_limited(void **state)
{
    struct block block = {.more = true, .szx = 6};
    struct harness *h = *state;
    struct message m;
    unsigned clients;

    for (clients = 1; clients < 10; clients++) {
        for (block.number = 0; block.number < 60; block.number++) {
            client_sends_block(h, clients, CODE_PUT, "x", body, sizeof(body), &block, 0);
            harness_expect(h, &m);
            if (m.code == CODE_SERVICE_UNAVAILABLE)
                break;
            assert_int_equal(m.code, CODE_CONTINUE);
        }
        if (m.code == CODE_SERVICE_UNAVAILABLE)
            break;
    }
    assert_int_equal(clients, 5); /* 256 KiB hold four of 60 KiB */
    assert_true(message_has(&m, SLOT_MAX_AGE));
    assert_true(usage_of(h).assembly_bytes <= 256 * 1024);
    assert_int_equal(usage_of(h).transfers, 4);
    h->taken = h->count = 0;
    CLIENT(h, 6, .code = CODE_PUT, .path = "x",
           OPTIONS_OF(block_option(OPTION_BLOCK1, 0, false, 6)), .payload = body,
           .payload_length = 100);
    expect_at_origin(h, &m); /* what needs little goes on */
    ORIGIN(h, &h->sent[h->taken - 1], .code = CODE_CHANGED);
    expect_at_client(h, 6, CODE_CHANGED, &m);
    harness_advance(h, 248 * SECOND_US);
    assert_int_equal(usage_of(h).transfers, 0);
    assert_int_equal(usage_of(h).assembly_bytes, 0);
    assert_true(worker_counters(h->worker)->transfers_expired >= 4);
}

/* A long answer needs memory, too, and what it had is given back when there is no more. */
static void no_memory_for_the_rest_of_an_answer(void **state)
{
    struct resource r = {body, 60000, .szx = 6, .code = CODE_CONTENT};
    struct block block = {.more = true, .szx = 6};
    struct harness *h = *state;
    struct message m;
    uint64_t before;

    for (unsigned client = 1; client <= 4; client++)
        for (block.number = 0; block.number < 55; block.number++) {
            client_sends_block(h, client, CODE_PUT, "x", body, sizeof(body), &block, 0);
            expect_at_client(h, client, CODE_CONTINUE, &m);
        }
    h->taken = h->count = 0;
    before = usage_of(h).assembly_bytes;
    CLIENT(h, 5, .code = CODE_GET, .path = "y");
    resource_serves(h, &r, &m);
    assert_int_equal(m.code, CODE_SERVICE_UNAVAILABLE);
    assert_true(message_has(&m, SLOT_MAX_AGE));
    assert_in_range(r.requests, 10, 40);
    assert_int_equal(usage_of(h).assembly_bytes, before);
    assert_int_equal(usage_of(h).forwards, 0);
    harness_silent(h);
}

/* Time counts from the last block. */
static void a_client_may_be_slow(void **state)
{
    struct block block = {.more = true, .szx = 4};
    struct harness *h = *state;
    struct message m;

    for (block.number = 0; block.number < 4; block.number++) {
        client_sends_block(h, 1, CODE_PUT, "x", body, 2000, &block, 0);
        expect_at_client(h, 1, CODE_CONTINUE, &m);
        harness_advance(h, 240 * SECOND_US);
    }
    harness_advance(h, 10 * SECOND_US);
    client_sends_block(h, 1, CODE_PUT, "x", body, 2000, &block, 0);
    expect_at_client(h, 1, CODE_REQUEST_ENTITY_INCOMPLETE, &m);
    assert_int_equal(usage_of(h).assembly_bytes, 0);
}

static void transfers_are_limited(void **state)
{
    struct block block = {.more = true, .szx = 0};
    struct harness *h = *state;
    struct message m;

    for (unsigned client = 1; client <= 32; client++)
        for (unsigned i = 0; i < 2; i++) {
            client_sends_block(h, client, CODE_PUT, "x", body, 100, &block, (char)('a' + i));
            expect_at_client(h, client, CODE_CONTINUE, &m);
        }
    client_sends_block(h, 33, CODE_PUT, "x", body, 100, &block, 0);
    expect_at_client(h, 33, CODE_SERVICE_UNAVAILABLE, &m);
    assert_true(message_has(&m, SLOT_MAX_AGE));
    assert_int_equal(worker_counters(h->worker)->refused_transfers, 1);
}

/* RFC 9175 3: bodies are told apart by client and Request-Tag, which is this hop's. */
static void concurrent_uploads(void **state)
{
    static uint8_t bodies[4][300];
    static const struct {
        unsigned client;
        char tag;
    } who[4] = {{1, 'a'}, {1, 'b'}, {2, 'a'}, {1, 0}};
    struct block block = {.more = true, .szx = 3};
    struct harness *h = *state;
    uint32_t tags[4];
    struct sent requests[4];
    struct message m;

    for (unsigned i = 0; i < 4; i++)
        body_fill(bodies[i], 300, 10 + i);
    for (block.number = 0; block.number < 2; block.number++)
        for (unsigned i = 0; i < 4; i++) {
            client_sends_block(h, who[i].client, CODE_PUT, "s", bodies[i], 300, &block, who[i].tag);
            expect_at_client(h, who[i].client, CODE_CONTINUE, &m);
        }
    assert_int_equal(usage_of(h).transfers, 4);
    block.more = false;
    for (unsigned i = 0; i < 4; i++) {
        client_sends_block(h, who[i].client, CODE_PUT, "s", bodies[i], 300, &block, who[i].tag);
        requests[i] = *expect_at_origin(h, &m);
        tags[i] = message_uint(&m, SLOT_REQUEST_TAG, 0);
        for (unsigned k = 0; k < i; k++)
            assert_int_not_equal(tags[i], tags[k]);
    }
    for (uint32_t n = 0; n < 3; n++)
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(message_parse(requests[i].data, requests[i].length, &m), VERDICT_OK);
            assert_block(&m, SLOT_BLOCK1, n, n < 2, 3);
            assert_payload(&m, bodies[i] + n * 128, n < 2 ? 128 : 44);
            assert_int_equal(message_uint(&m, SLOT_REQUEST_TAG, 0), tags[i]);
            ORIGIN(h, &requests[i], .code = n < 2 ? CODE_CONTINUE : CODE_CHANGED,
                   OPTIONS_OF(block_option(OPTION_BLOCK1, n, n < 2, 3)));
            if (n < 2)
                requests[i] = *expect_at_origin(h, &m);
            else
                expect_at_client(h, who[i].client, CODE_CHANGED, &m);
        }
    assert_int_equal(usage_of(h).transfers, 0);
    harness_silent(h);
}

static void one_client_cannot_take_all_transfers(void **state)
{
    struct block block = {.more = true, .szx = 0};
    struct harness *h = *state;
    struct message m;

    for (unsigned i = 0; i < 200; i++) {
        uint8_t raw[2] = {(uint8_t)(i >> 8), (uint8_t)i};

        CLIENT(h, 1, .code = CODE_PUT, .path = "x",
               OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 0),
                          addition_bytes(OPTION_REQUEST_TAG, raw, 2)),
               .payload = body, .payload_length = 16);
        expect_at_client(h, 1, CODE_CONTINUE, &m);
        assert_true(usage_of(h).transfers <= 8);
    }
    client_sends_block(h, 2, CODE_PUT, "x", body, 100, &block, 0);
    expect_at_client(h, 2, CODE_CONTINUE, &m);
}

static void a_fetch_with_its_body_in_blocks(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s;
    size_t length = 0;

    client_uploads(h, 1, CODE_FETCH, "s", body, 300, 3, 'q');
    s = origin_collects(h, 6, got, &length, &m);
    assert_int_equal(m.code, CODE_FETCH);
    assert_int_equal(length, 300);
    assert_memory_equal(got, body, 300);
    ORIGIN(h, s, .code = CODE_CONTENT, OPTIONS_OF(block_option(OPTION_BLOCK2, 0, true, 3)),
           .payload = body, .payload_length = 128);
    s = expect_at_origin(h, &m); /* the body is not sent again */
    assert_int_equal(m.payload_length, 0);
    assert_block(&m, SLOT_BLOCK2, 1, false, 3);
    ORIGIN(h, s, .code = CODE_CONTENT, OPTIONS_OF(block_option(OPTION_BLOCK2, 1, false, 3)),
           .payload = body + 128, .payload_length = 22);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_block(&m, SLOT_BLOCK1, 2, false, 3);
    assert_payload(&m, body, 150);
}

/* A FETCH whose body is short has it in each request for a block (RFC 8132 2.2). */
static void a_fetch_with_its_answer_in_blocks(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s;

    CLIENT(h, 1, .code = CODE_FETCH, .path = "s",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 0, false, 2)), .payload = "query",
           .payload_length = 5);
    s = expect_at_origin(h, &m);
    ORIGIN(h, s, .code = CODE_CONTENT, OPTIONS_OF(block_option(OPTION_BLOCK2, 0, true, 3)),
           .payload = body, .payload_length = 128);
    s = expect_at_origin(h, &m);
    assert_payload(&m, "query", 5);
    ORIGIN(h, s, .code = CODE_CONTENT, OPTIONS_OF(block_option(OPTION_BLOCK2, 1, false, 3)),
           .payload = body + 128, .payload_length = 22);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_block(&m, SLOT_BLOCK2, 0, true, 2);
    /* With the body and without it; another body is another thing. */
    CLIENT(h, 1, .code = CODE_FETCH, .path = "s",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 1, false, 2)), .payload = "query",
           .payload_length = 5);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, body + 64, 64);
    CLIENT(h, 1, .code = CODE_FETCH, .path = "s",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 2, false, 2)));
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, body + 128, 22);
    CLIENT(h, 1, .code = CODE_FETCH, .path = "s",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 1, false, 2)), .payload = "other",
           .payload_length = 5);
    s = expect_at_origin(h, &m);
    assert_payload(&m, "other", 5);
    ORIGIN(h, s, .code = CODE_NOT_FOUND);
    expect_at_client(h, 1, CODE_NOT_FOUND, &m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(figure_7_simple_put),
        TEST(figure_8_negotiated_put),
        TEST(figure_10_post_and_answer),
        TEST_128(later_blocks_of_an_answer_are_not_executed),
        TEST(uploads_with_different_sizes),
        TEST_128(the_listener_asks_for_its_own_block_size),
        TEST(gaps_and_repeated_blocks),
        TEST(a_first_block_that_comes_late_again),
        TEST(blocks_of_the_wrong_length),
        TEST(bodies_that_are_too_large),
        TEST(assembly_memory_is_limited),
        TEST(a_client_may_be_slow),
        TEST(no_memory_for_the_rest_of_an_answer),
        TEST(transfers_are_limited),
        TEST(concurrent_uploads),
        TEST(one_client_cannot_take_all_transfers),
        TEST(a_fetch_with_its_body_in_blocks),
        TEST(a_fetch_with_its_answer_in_blocks),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
