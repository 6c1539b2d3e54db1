/* Downloads in blocks through the proxy, with sizes of its own on each leg (RFC 7959). The figures
 * are those of RFC 7959 3.1. */
#include "tests/unit/blockwise_setup.h"

/* ---- the figures of RFC 7959 3, byte by byte ---- */

/* Figure 2: simple block-wise GET, at the same time with two sizes on two legs. */
static void figure_2_simple_get(void **state)
{
    static const uint8_t asked[] = {0xb6, 's', 't', 'a', 't', 'u', 's', 0x51, 16, 0x71, 0x13};
    static const uint8_t block_0[] = {0x44, 'A',  'B',  'C',  'D',  0xd1,
                                      0x06, 0x0b, 0x52, 0x01, 0x80, 0xff};
    static const uint8_t block_1[] = {0x44, 'A', 'B', 'C', 'D', 0xd1, 0x06, 0x1b, 0xff};
    static const uint8_t block_2[] = {0x44, 'A', 'B', 'C', 'D', 0xd1, 0x06, 0x23, 0xff};
    struct resource r = {body, 384, .szx = 3, .code = CODE_CONTENT, .etag = "ABCD"};
    struct harness *h = *state;
    struct message m;
    struct sent *s;

    CLIENT(h, 1, .code = CODE_GET, .path = "status");
    s = expect_at_origin(h, &m);
    assert_tail(s, 8, asked, 9); /* nothing of blocks in the first one */
    resource_answers(h, &r, s, &m);
    s = expect_at_origin(h, &m);
    assert_tail(s, 8, asked, sizeof(asked)); /* 2:1/0/128 */
    resource_answers(h, &r, s, &m);
    s = resource_serves(h, &r, &m);
    assert_int_equal(r.requests, 3);
    assert_tail(s, 1, block_0, sizeof(block_0)); /* 2:0/1/128 and Size2 */
    assert_payload(&m, body, 128);
    CLIENT(h, 1, .code = CODE_GET, .path = "status",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 1, false, 3)));
    s = expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_tail(s, 1, block_1, sizeof(block_1));
    assert_payload(&m, body + 128, 128);
    CLIENT(h, 1, .code = CODE_GET, .path = "status",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 2, false, 3)));
    s = expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_tail(s, 1, block_2, sizeof(block_2)); /* 2:2/0/128 */
    assert_payload(&m, body + 256, 128);
    harness_silent(h);
}

/* Figure 3: the client names its size in the first request. */
static void figure_3_early_negotiation(void **state)
{
    struct resource r = {body, 384, .szx = 6, .code = CODE_CONTENT};
    struct harness *h = *state;
    struct message m;

    CLIENT(h, 1, .code = CODE_GET, .path = "status",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 0, false, 2)));
    resource_serves(h, &r, &m);
    assert_int_equal(r.requests, 1);
    assert_int_equal(option_of(&m, SLOT_BLOCK2), 0x0a); /* 2:0/1/64 */
    assert_int_equal(option_of(&m, SLOT_SIZE2), 384);
    assert_int_equal(client_fetches_rest(h, 1, CODE_GET, "status", body, 384, &m), 6);
    assert_int_equal(option_of(&m, SLOT_BLOCK2), 0x52); /* 2:5/0/64 */
}

/* Figure 4: the client wants smaller ones after the first block; block 2 of 64 follows block 0 of
 * 128. */
static void figure_4_late_negotiation(void **state)
{
    struct resource r = {body, 384, .szx = 6, .code = CODE_CONTENT};
    struct harness *h = *state;
    struct message m;

    CLIENT(h, 1, .code = CODE_GET, .path = "status");
    resource_serves(h, &r, &m);
    assert_int_equal(option_of(&m, SLOT_BLOCK2), 0x0b); /* 2:0/1/128 */
    for (uint32_t i = 2; i < 6; i++) {
        CLIENT(h, 1, .code = CODE_GET, .path = "status",
               OPTIONS_OF(block_option(OPTION_BLOCK2, i, false, 2)));
        expect_at_client(h, 1, CODE_CONTENT, &m);
        assert_block(&m, SLOT_BLOCK2, i, i < 5, 2);
        assert_payload(&m, body + i * 64, 64);
        assert_false(message_has(&m, SLOT_SIZE2));
    }
    harness_silent(h); /* the origin was asked once */
}

/* Late negotiation on the far leg: the origin answers with 128 first and with 64 from then on. */
static void the_origin_goes_over_to_smaller_blocks(void **state)
{
    struct resource r = {body, 384, .szx = 3, .code = CODE_CONTENT, .etag = "e"};
    struct harness *h = *state;
    struct message m;
    struct sent *s;

    CLIENT(h, 1, .code = CODE_GET, .path = "status");
    s = expect_at_origin(h, &m);
    resource_answers(h, &r, s, &m);
    s = expect_at_origin(h, &m);
    assert_block(&m, SLOT_BLOCK2, 1, false, 3);
    r.szx = 2;
    resource_answers(h, &r, s, &m); /* 2:2/1/64 */
    s = expect_at_origin(h, &m);
    assert_block(&m, SLOT_BLOCK2, 3, false, 2);
    resource_answers(h, &r, s, &m);
    resource_serves(h, &r, &m);
    assert_payload(&m, body, 384);
    assert_int_equal(r.requests, 5);
}

/* ---- downloads ---- */

static void sizes_differ_on_the_legs(void **state)
{
    static const struct {
        uint8_t client, origin;
        size_t length;
    } cases[] = {{0, 6, 3000},  {6, 0, 3000}, {2, 5, 60000},
                 {6, 6, 60000}, {5, 3, 4096}, {3, 3, 129}};
    struct harness *h = *state;
    struct message m;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct resource r = {body, cases[i].length, .szx = cases[i].origin, .code = CODE_CONTENT,
                             .etag = i % 2 ? "v1" : NULL};
        size_t size = 16u << cases[i].origin;
        char path[8];

        snprintf(path, sizeof(path), "d%u", i);
        CLIENT(h, 1, .code = CODE_GET, .path = path,
               OPTIONS_OF(block_option(OPTION_BLOCK2, 0, false, cases[i].client)));
        resource_serves(h, &r, &m);
        assert_int_equal(r.requests, (r.length + size - 1) / size);
        assert_int_equal(client_fetches_rest(h, 1, CODE_GET, path, body, r.length, &m),
                         (r.length + (16u << cases[i].client) - 1) / (16u << cases[i].client));
        harness_silent(h);
        h->taken = h->count = 0;
    }
}

static void a_download_stays_the_same_while_the_resource_changes(void **state)
{
    struct resource r = {body, 3000, .szx = 6, .code = CODE_CONTENT, .max_age = 1};
    static uint8_t other[3000];
    struct harness *h = *state;
    struct message m, m2;

    body_fill(other, sizeof(other), 2);
    CLIENT(h, 1, .code = CODE_GET, .path = "x");
    resource_serves(h, &r, &m);
    harness_advance(h, 2 * SECOND_US);
    r.body = other;
    CLIENT(h, 2, .code = CODE_GET, .path = "x");
    resource_serves(h, &r, &m2);
    assert_payload(&m2, other, 1024);
    client_fetches_rest(h, 1, CODE_GET, "x", body, 3000, &m); /* 2 s old, and still whole */
    assert_int_equal(option_of(&m, SLOT_MAX_AGE), 0);
    client_fetches_rest(h, 2, CODE_GET, "x", other, 3000, &m2);
    assert_int_equal(usage_of(h).transfers, 2);
}

static void what_nobody_fetches_on_is_given_back(void **state)
{
    struct resource r = {body, 3000, .szx = 6, .code = CODE_CONTENT, .max_age = 1};
    struct harness *h = *state;
    struct message m;

    CLIENT(h, 1, .code = CODE_POST, .path = "x");
    r.code = CODE_CHANGED;
    resource_serves(h, &r, &m);
    assert_int_equal(usage_of(h).transfers, 1);
    assert_true(usage_of(h).assembly_bytes >= 3000);
    harness_advance(h, 246 * SECOND_US);
    assert_int_equal(usage_of(h).transfers, 1);
    harness_advance(h, 2 * SECOND_US);
    assert_int_equal(usage_of(h).transfers, 0);
    assert_int_equal(usage_of(h).assembly_bytes, 0);
    CLIENT(h, 1, .code = CODE_POST, .path = "x",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 1, false, 6)));
    expect_at_client(h, 1, CODE_REQUEST_ENTITY_INCOMPLETE, &m);
}

/* Once the last block has gone, only a repeated request for it is to be expected. */
static void what_was_fetched_is_given_back_soon(void **state)
{
    struct resource r = {body, 3000, .szx = 6, .code = CODE_CHANGED};
    struct harness *h = *state;
    struct message m;

    CLIENT(h, 1, .code = CODE_POST, .path = "x");
    resource_serves(h, &r, &m);
    client_fetches_rest(h, 1, CODE_POST, "x", body, 3000, &m);
    harness_advance(h, 44 * SECOND_US); /* MAX_TRANSMIT_SPAN is 45 s */
    CLIENT(h, 1, .code = CODE_POST, .path = "x",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 2, false, 6)));
    expect_at_client(h, 1, CODE_CHANGED, &m);
    harness_advance(h, 46 * SECOND_US);
    assert_int_equal(usage_of(h).transfers, 0);
    assert_int_equal(usage_of(h).assembly_bytes, 0);
}

static void blocks_that_are_not_there(void **state)
{
    struct resource r = {body, 384, .szx = 6, .code = CODE_CONTENT, .max_age = 100};
    struct harness *h = *state;
    struct message m;

    CLIENT(h, 1, .code = CODE_GET, .path = "x",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 0, false, 2)));
    resource_serves(h, &r, &m);
    CLIENT(h, 1, .code = CODE_GET, .path = "x",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 6, false, 2)));
    expect_at_client(h, 1, CODE_BAD_REQUEST, &m); /* pinned for this client */
    CLIENT(h, 2, .code = CODE_GET, .path = "x",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 6, false, 2)));
    expect_at_client(h, 2, CODE_BAD_REQUEST, &m); /* in the cache */
    CLIENT(h, 2, .code = CODE_GET, .path = "x",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 5, false, 2)));
    expect_at_client(h, 2, CODE_CONTENT, &m); /* the last one is */
    assert_payload(&m, body + 320, 64);
    CLIENT(h, 1, .code = CODE_GET, .path = "x", OPTIONS_OF(addition_uint(OPTION_BLOCK2, 0x07)));
    expect_at_client(h, 1, CODE_BAD_REQUEST, &m); /* SZX 7 */
    CLIENT(h, 1, .code = CODE_PUT, .path = "x", OPTIONS_OF(addition_uint(OPTION_BLOCK1, 0x0f)),
           .payload = body, .payload_length = 1024);
    expect_at_client(h, 1, CODE_BAD_REQUEST, &m);
    CLIENT(h, 1, .code = CODE_GET, .path = "x",
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), block_option(OPTION_BLOCK2, 1, false, 2)));
    expect_at_client(h, 1, CODE_BAD_REQUEST, &m);
    harness_silent(h);
}

static void what_fills_a_block_is_not_cut(void **state)
{
    struct harness *h = *state;
    struct message m;

    CLIENT(h, 1, .code = CODE_GET, .path = "x");
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CONTENT, .payload = body,
           .payload_length = 1024);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, body, 1024);
    assert_int_equal(m.option_count, 0);
}

/* An error has no blocks of the resource: it is the answer to any of them. */
static void an_error_answers_a_later_block(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s;

    CLIENT(h, 1, .code = CODE_GET, .path = "gone",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 4, false, 6)));
    s = expect_at_origin(h, &m);
    assert_false(message_has(&m, SLOT_BLOCK2)); /* the whole is asked for */
    ORIGIN(h, s, .code = CODE_NOT_FOUND, .payload = "gone", .payload_length = 4);
    expect_at_client(h, 1, CODE_NOT_FOUND, &m);
    assert_payload(&m, "gone", 4);
    assert_false(message_has(&m, SLOT_BLOCK2));
    CLIENT(h, 1, .code = CODE_GET, .path = "long"); /* one that is long has blocks of its own */
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_NOT_FOUND, .payload = body,
           .payload_length = 1300);
    expect_at_client(h, 1, CODE_NOT_FOUND, &m);
    client_fetches_rest(h, 1, CODE_GET, "long", body, 1300, &m);
    CLIENT(h, 1, .code = CODE_POST, .path = "x",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 0, false, 6)));
    s = expect_at_origin(h, &m);
    ORIGIN(h, s, .code = CODE_CHANGED); /* nothing to cut */
    expect_at_client(h, 1, CODE_CHANGED, &m);
    assert_false(message_has(&m, SLOT_BLOCK2));
    assert_false(message_has(&m, SLOT_ETAG));
    assert_false(message_has(&m, SLOT_SIZE2));
}

static void a_later_block_that_is_not_kept_is_cut_from_the_whole(void **state)
{
    struct resource r = {body, 3000, .szx = 6, .code = CODE_CONTENT, .etag = "v"};
    struct harness *h = *state;
    struct message m;

    CLIENT(h, 1, .code = CODE_GET, .path = "x",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 10, false, 4)));
    resource_serves(h, &r, &m);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_block(&m, SLOT_BLOCK2, 10, true, 4);
    assert_payload(&m, body + 2560, 256);
    assert_false(message_has(&m, SLOT_SIZE2));
}

/* ---- answers of origins that do not fit together ---- */

static struct sent *begin_download(struct harness *h, const char *path, const char *etag)
{
    struct resource r = {body, 300, .szx = 3, .code = CODE_CONTENT, .etag = etag};
    struct message m;
    struct sent *s;

    CLIENT(h, 1, .code = CODE_GET, .path = path);
    s = expect_at_origin(h, &m);
    resource_answers(h, &r, s, &m);
    s = expect_at_origin(h, &m);
    assert_block(&m, SLOT_BLOCK2, 1, false, 3);
    return s;
}

static void a_changed_representation_is_fetched_anew(void **state)
{
    static uint8_t other[3000];
    struct resource r = {other, 300, .szx = 3, .code = CODE_CONTENT, .etag = "new"};
    struct harness *h = *state;
    struct message m;
    struct sent *s = begin_download(h, "x", "old");

    body_fill(other, sizeof(other), 2);
    assert_int_equal(message_parse(s->data, s->length, &m), VERDICT_OK);
    resource_answers(h, &r, s, &m);
    s = expect_at_origin(h, &m);
    assert_false(message_has(&m, SLOT_BLOCK2) && message_uint(&m, SLOT_BLOCK2, 0) >> 4);
    resource_answers(h, &r, s, &m);
    resource_serves(h, &r, &m);
    assert_payload(&m, other, 300);
    assert_memory_equal(m.first[SLOT_ETAG].value, "new", 3);
}

static void a_representation_that_changes_all_the_time_is_bad_gateway(void **state)
{
    struct resource r = {body, 300, .szx = 3, .code = CODE_CONTENT};
    struct harness *h = *state;
    struct message m;
    struct sent *s;
    char etag[4] = "a";

    CLIENT(h, 1, .code = CODE_GET, .path = "x");
    for (r.etag = etag;; etag[0]++) {
        s = harness_expect(h, &m);
        if (!is_to_origin(s))
            break;
        resource_answers(h, &r, s, &m);
    }
    assert_int_equal(m.code, CODE_BAD_GATEWAY);
    assert_int_equal(r.requests, 6); /* begun three times */
}

static void odd_blocks_of_an_answer_are_bad_gateway(void **state)
{
    const struct {
        struct addition options[2];
        size_t length;
        bool restarts; /* it may have changed: asked for anew, twice */
        uint8_t code;
    } odd[] = {
        {{text_option(OPTION_ETAG, "e"), block_option(OPTION_BLOCK2, 2, false, 3)},
         44,
         true,
         CODE_CONTENT},
        {{text_option(OPTION_ETAG, "e"), block_option(OPTION_BLOCK2, 0, true, 3)},
         128,
         true,
         CODE_CONTENT},
        {{text_option(OPTION_ETAG, "e"), text_option(OPTION_SIZE2, "a")}, 12, true, CODE_CONTENT},
        {{text_option(OPTION_ETAG, "e"), block_option(OPTION_BLOCK2, 1, false, 3)},
         44,
         true,
         CODE_CHANGED},
        {{text_option(OPTION_ETAG, "e"), block_option(OPTION_BLOCK2, 1, true, 3)},
         100,
         false,
         CODE_CONTENT},
        {{text_option(OPTION_ETAG, "e"), block_option(OPTION_BLOCK2, 1, false, 3)},
         129,
         false,
         CODE_CONTENT},
        {{text_option(OPTION_ETAG, "e"), addition_uint(OPTION_BLOCK2, 0x17)},
         44,
         false,
         CODE_CONTENT},
    };
    struct harness *h = *state;
    struct message m;

    for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        struct sent *s = begin_download(h, "x", "e");
        unsigned begun = 1;

        for (;;) {
            ORIGIN(h, s, .code = odd[i].code, .options = odd[i].options, .option_count = 2,
                   .payload = body, .payload_length = odd[i].length);
            s = harness_expect(h, &m);
            if (!is_to_origin(s))
                break;
            begun++;
            ORIGIN(
                h, s, .code = CODE_CONTENT,
                OPTIONS_OF(text_option(OPTION_ETAG, "e"), block_option(OPTION_BLOCK2, 0, true, 3)),
                .payload = body, .payload_length = 128);
            s = expect_at_origin(h, &m);
        }
        assert_int_equal(m.code, CODE_BAD_GATEWAY);
        assert_int_equal(begun, odd[i].restarts ? 3 : 1);
    }
    harness_silent(h);
}

static void odd_first_answers_are_bad_gateway(void **state)
{
    const struct mold odd[] = {
        {.code = CODE_CONTENT,
         OPTIONS_OF(block_option(OPTION_BLOCK2, 1, false, 3)),
         .payload = "x",
         .payload_length = 1},
        {.code = CODE_CONTENT,
         OPTIONS_OF(addition_uint(OPTION_BLOCK2, 0x0f)),
         .payload = body,
         .payload_length = 1024},
        {.code = CODE_CONTENT,
         OPTIONS_OF(block_option(OPTION_BLOCK2, 0, true, 3)),
         .payload = body,
         .payload_length = 127},
        {.code = CODE_CONTENT,
         OPTIONS_OF(block_option(OPTION_BLOCK2, 0, false, 0)),
         .payload = body,
         .payload_length = 17},
        {.code = CODE_CONTENT,
         OPTIONS_OF(block_option(OPTION_BLOCK2, 0, true, 3), addition_uint(OPTION_SIZE2, 65537)),
         .payload = body,
         .payload_length = 128},
        {.code = CODE_CONTINUE, OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 3))},
        {.code = CODE_CONTINUE},
        {.code = CODE_VALID},
    };
    struct harness *h = *state;
    struct message m;

    for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        CLIENT(h, 1, .code = CODE_GET, .path = "x");
        origin_answers(h, expect_at_origin(h, &m), &odd[i]);
        expect_at_client(h, 1, CODE_BAD_GATEWAY, &m);
    }
    harness_silent(h);
}

static void an_answer_without_end_is_bad_gateway(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s;
    uint32_t n = 0;

    CLIENT(h, 1, .code = CODE_GET, .path = "x");
    for (;; n++) {
        s = harness_expect(h, &m);
        if (!is_to_origin(s))
            break;
        ORIGIN(h, s, .code = CODE_CONTENT, OPTIONS_OF(block_option(OPTION_BLOCK2, n, true, 6)),
               .payload = body, .payload_length = 1024);
    }
    assert_int_equal(m.code, CODE_BAD_GATEWAY);
    assert_int_equal(n, 65); /* limits.body is 64 KiB */
    assert_int_equal(usage_of(h).assembly_bytes, 0);
}

/* RFC 7959 2.4: an answer's blocks are of the size that was asked for, or smaller. What is larger
 * all the same is taken, but not asked for. */
static void larger_blocks_than_configured_are_not_asked_for(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s;

    CLIENT(h, 1, .code = CODE_GET, .path = "s");
    s = expect_at_origin(h, &m);
    assert_block(&m, SLOT_BLOCK2, 0, false, 3); /* early negotiation: it is below the largest */
    ORIGIN(h, s, .code = CODE_CONTENT, OPTIONS_OF(block_option(OPTION_BLOCK2, 0, true, 5)),
           .payload = body, .payload_length = 512);
    s = expect_at_origin(h, &m);
    assert_block(&m, SLOT_BLOCK2, 4, false, 3);
    ORIGIN(h, s, .code = CODE_CONTENT, OPTIONS_OF(block_option(OPTION_BLOCK2, 4, false, 3)),
           .payload = body + 512, .payload_length = 100);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, body, 612);
}

/* Each block has its own time: a long body over a slow link is no silent origin. */
static void a_slow_transfer_is_not_given_up(void **state)
{
    struct resource r = {body, 2000, .szx = 3, .code = CODE_CONTENT};
    struct harness *h = *state;
    struct message m;
    struct sent *s;

    CLIENT(h, 1, .code = CODE_GET, .path = "x");
    for (int i = 0; i < 16; i++) {
        struct sent request;

        do
            s = harness_expect(h, &m);
        while (!is_to_origin(s));
        request = *s;
        harness_advance(h, 20 * SECOND_US); /* retransmissions, 5 minutes in all */
        h->taken = h->count;
        assert_int_equal(message_parse(request.data, request.length, &m), VERDICT_OK);
        resource_answers(h, &r, &request, &m);
    }
    assert_int_equal(r.requests, 16);
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_payload(&m, body, 1024);
    h->taken = h->count;
    CLIENT(h, 1, .code = CODE_GET, .path = "y"); /* one that says nothing more has no more time */
    resource_answers(h, &r, expect_at_origin(h, &m), &m);
    s = expect_at_origin(h, &m);
    harness_advance(h, 94 * SECOND_US);
    while ((s = harness_take(h)) && (is_to_origin(s) || s->data[1] != CODE_GATEWAY_TIMEOUT))
        ;
    assert_non_null(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_128(figure_2_simple_get),
        TEST_128(figure_3_early_negotiation),
        TEST_128(figure_4_late_negotiation),
        TEST(the_origin_goes_over_to_smaller_blocks),
        TEST(sizes_differ_on_the_legs),
        TEST(a_download_stays_the_same_while_the_resource_changes),
        TEST(what_nobody_fetches_on_is_given_back),
        TEST(what_was_fetched_is_given_back_soon),
        TEST(blocks_that_are_not_there),
        TEST(what_fills_a_block_is_not_cut),
        TEST(an_error_answers_a_later_block),
        TEST(a_later_block_that_is_not_kept_is_cut_from_the_whole),
        TEST(a_changed_representation_is_fetched_anew),
        TEST(a_representation_that_changes_all_the_time_is_bad_gateway),
        TEST(odd_blocks_of_an_answer_are_bad_gateway),
        TEST(odd_first_answers_are_bad_gateway),
        TEST(an_answer_without_end_is_bad_gateway),
        TEST(larger_blocks_than_configured_are_not_asked_for),
        TEST(a_slow_transfer_is_not_given_up),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
