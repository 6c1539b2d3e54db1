/* What origins say to the blocks of a body, and what becomes of it (RFC 7959 2.3, 2.5, 2.9). */
#include "tests/unit/blockwise_setup.h"

static uint8_t got[BODY_MAX]; /* at the origin */

static struct sent *begin_upload(struct harness *h, struct message *m)
{
    CLIENT(h, 1, .code = CODE_PUT, .path = "s", .payload = body, .payload_length = 384);
    return expect_at_origin(h, m);
}

/* A server that does not put bodies together answers each block (RFC 7959 2.9.1 does without). */
static void a_success_for_each_block(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s = begin_upload(h, &m);

    for (uint32_t i = 0; i < 3; i++) {
        assert_block(&m, SLOT_BLOCK1, i, i < 2, 3);
        ORIGIN(h, s, .code = CODE_CHANGED, OPTIONS_OF(block_option(OPTION_BLOCK1, i, false, 3)));
        s = harness_expect(h, &m);
    }
    assert_int_equal(m.code, CODE_CHANGED);
    assert_false(is_to_origin(s));
}

static void expect_cached(struct harness *h, bool cached)
{
    struct message m;

    CLIENT(h, 2, .code = CODE_GET, .path = "s");
    if (!cached)
        ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CONTENT, .payload = "y",
               .payload_length = 1);
    expect_at_client(h, 2, CODE_CONTENT, &m);
}

/* RFC 7252 5.6: what was stored is not good any more from the first success on, and not before. */
static void what_is_stored_goes_with_the_first_success(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s;
    struct sent kept;

    expect_cached(h, false);
    s = begin_upload(h, &m);
    ORIGIN(h, s, .code = CODE_CONTINUE, OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 3)));
    kept = *expect_at_origin(h, &m);
    expect_cached(h, true);
    ORIGIN(h, &kept, .code = CODE_CHANGED, OPTIONS_OF(block_option(OPTION_BLOCK1, 1, false, 3)));
    kept = *expect_at_origin(h, &m);
    expect_cached(h, false);
    expect_cached(h, true);
    ORIGIN(h, &kept, .code = CODE_CHANGED, OPTIONS_OF(block_option(OPTION_BLOCK1, 2, false, 3)));
    expect_at_client(h, 1, CODE_CHANGED, &m);
    expect_cached(h, false);
}

static void an_origin_that_wants_smaller_blocks_at_once(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s;
    size_t length = 0;

    CLIENT(h, 1, .code = CODE_PUT, .path = "x", .payload = body, .payload_length = 1000);
    s = expect_at_origin(h, &m);
    assert_false(message_has(&m, SLOT_BLOCK1));
    ORIGIN(h, s, .code = CODE_REQUEST_ENTITY_TOO_LARGE,
           OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 2)));
    s = origin_collects(h, 2, got, &length, &m);
    assert_int_equal(length, 1000);
    assert_memory_equal(got, body, 1000);
    ORIGIN(h, s, .code = CODE_CHANGED, OPTIONS_OF(block_option(OPTION_BLOCK1, 15, false, 2)));
    expect_at_client(h, 1, CODE_CHANGED, &m);

    s = begin_upload(h, &m); /* in blocks already, and still too large; then no size will do */
    ORIGIN(h, s, .code = CODE_REQUEST_ENTITY_TOO_LARGE,
           OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 1)));
    s = expect_at_origin(h, &m);
    assert_block(&m, SLOT_BLOCK1, 0, true, 1);
    ORIGIN(h, s, .code = CODE_REQUEST_ENTITY_TOO_LARGE,
           OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 1), addition_uint(OPTION_SIZE1, 200)));
    expect_at_client(h, 1, CODE_REQUEST_ENTITY_TOO_LARGE, &m);
    assert_int_equal(option_of(&m, SLOT_SIZE1), 200); /* the client may know what to do */
}

static void an_origin_that_lost_blocks_gets_them_again(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s = begin_upload(h, &m);
    unsigned begun = 0;
    uint8_t code;

    for (unsigned with_block = 0; with_block < 2; with_block++) {
        for (begun = 0;; begun++) {
            assert_block(&m, SLOT_BLOCK1, 0, true, 3);
            ORIGIN(h, s, .code = CODE_CONTINUE,
                   OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 3)));
            s = expect_at_origin(h, &m);
            assert_block(&m, SLOT_BLOCK1, 1, true, 3);
            code = CODE_REQUEST_ENTITY_INCOMPLETE;
            if (with_block)
                ORIGIN(h, s, .code = code, OPTIONS_OF(block_option(OPTION_BLOCK1, 1, true, 3)));
            else
                ORIGIN(h, s, .code = code);
            s = harness_expect(h, &m);
            if (!is_to_origin(s))
                break;
        }
        assert_int_equal(m.code, code); /* it does not help */
        assert_int_equal(begun, 2);
        if (!with_block)
            s = begin_upload(h, &m);
    }
}

static void odd_answers_to_blocks(void **state)
{
    struct harness *h = *state;
    struct message m;
    const struct mold odd[] = {
        {.code = CODE_CONTINUE,
         OPTIONS_OF(block_option(OPTION_BLOCK1, 1, true, 3))}, /* another one */
        {.code = CODE_CONTINUE},                               /* none at all */
        {.code = CODE_CHANGED},                                /* the body has only begun */
        {.code = CODE_CONTINUE, OPTIONS_OF(addition_uint(OPTION_BLOCK1, 0x0f))}, /* SZX 7 */
        {.code = CODE_VALID},
    };

    for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        struct sent *s = begin_upload(h, &m);

        origin_answers(h, s, &odd[i]);
        expect_at_client(h, 1, CODE_BAD_GATEWAY, &m);
    }
    /* An error at any block is the answer. */
    for (unsigned with_block = 0; with_block < 2; with_block++) {
        ORIGIN(h, begin_upload(h, &m), .code = CODE_FORBIDDEN, .payload = "no", .payload_length = 2,
               .options = (const struct addition[]){block_option(OPTION_BLOCK1, 0, true, 3)},
               .option_count = with_block);
        expect_at_client(h, 1, CODE_FORBIDDEN, &m);
        assert_payload(&m, "no", 2);
    }
    harness_silent(h);
}

/* What fills a datagram with options leaves no room for the largest block. */
static void blocks_shrink_where_the_link_has_no_room(void **state)
{
    static char query[2][256];
    struct harness *h = *state;
    struct message m;
    struct sent *s;
    size_t length = 0;

    for (unsigned i = 0; i < 2; i++)
        memset(query[i], 'a' + (int)i, 216);
    CLIENT(h, 1, .code = CODE_PUT, .path = "x",
           OPTIONS_OF(text_option(OPTION_URI_QUERY, query[0]),
                      text_option(OPTION_URI_QUERY, query[1])),
           .payload = body, .payload_length = 1024);
    s = origin_collects(h, 6, got, &length, &m);
    assert_int_equal(length, 1024);
    assert_memory_equal(got, body, 1024);
    ORIGIN(h, s, .code = CODE_CHANGED);
    expect_at_client(h, 1, CODE_CHANGED, &m);
}

/* ---- loss ---- */

static void lost_blocks_are_sent_again(void **state)
{
    struct harness *h = *state;
    struct message m, again;
    struct sent *s, *second;

    s = begin_upload(h, &m);
    for (uint32_t i = 0; i < 3; i++) {
        harness_advance(h, 3001 * 1000);
        do
            second = harness_expect(h, &again);
        while (!is_to_origin(second)); /* the client's Empty ACK */
        assert_int_equal(second->length, s->length);
        assert_memory_equal(second->data, s->data, s->length);
        ORIGIN(h, s, .code = i < 2 ? CODE_CONTINUE : CODE_CHANGED,
               OPTIONS_OF(block_option(OPTION_BLOCK1, i, i < 2, 3)));
        ORIGIN(h, s, .code = i < 2 ? CODE_CONTINUE : CODE_CHANGED, /* the answer twice */
               OPTIONS_OF(block_option(OPTION_BLOCK1, i, i < 2, 3)));
        s = harness_expect(h, &m);
    }
    assert_int_equal(m.code, CODE_CHANGED);
    assert_int_equal(m.type, TYPE_CON);
    harness_silent(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_success_for_each_block),
        TEST(what_is_stored_goes_with_the_first_success),
        TEST(an_origin_that_wants_smaller_blocks_at_once),
        TEST(an_origin_that_lost_blocks_gets_them_again),
        TEST(odd_answers_to_blocks),
        TEST(blocks_shrink_where_the_link_has_no_room),
        TEST(lost_blocks_are_sent_again),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
