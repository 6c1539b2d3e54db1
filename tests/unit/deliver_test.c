/* What clients get of origins' answers: options, prefixes, blocks that fit, No-Response and proofs
 * of address (RFC 7252 5.7, 5.10; 7959 2; 7967; 9175 2). */
#include "tests/unit/deliver_setup.h"

/* ---- options ---- */

static void options_pass_unchanged(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s;
    struct option_cursor c;
    struct option_view view;

    CLIENT(h, 1, .code = CODE_GET, .path = "x",
           OPTIONS_OF(text_option(OPTION_URI_QUERY, "a=b"), addition_uint(OPTION_ACCEPT, 11060),
                      text_option(2048 + 8, "keep")));
    s = expect_at_origin(h, &m);
    assert_int_equal(option_of(&m, SLOT_ACCEPT), 11060);
    c = option_cursor(&m);
    while (option_next(&c, &view))
        ;
    assert_int_equal(c.number, 2056); /* unknown, safe to forward */
    assert_memory_equal(view.value, "keep", 4);
    ORIGIN(h, s, .code = CODE_CONTENT,
           OPTIONS_OF(addition_uint(OPTION_CONTENT_FORMAT, 11542), text_option(2056, "back"),
                      text_option(65001, "crit")),
           .payload = "x", .payload_length = 1);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(option_of(&m, SLOT_CONTENT_FORMAT), 11542);
    assert_int_equal(m.option_count, 3);
    c = option_cursor(&m);
    assert_true(option_next(&c, &view) && option_next(&c, &view));
    assert_int_equal(c.number, 2056);
    assert_memory_equal(view.value, "back", 4);
    assert_true(option_next(&c, &view));
    assert_int_equal(c.number, 65001);
    CLIENT(h, 1, .code = CODE_GET, .path = "y");
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CONTENT, .payload = "x", .payload_length = 1);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(m.option_count, 0); /* what is absent stays absent */
}

static void a_prefix_that_was_stripped_comes_back(void **state)
{
    static const char *const path[] = {"p", "q", "new", "er"};
    struct harness *h = *state;
    struct message m;
    struct sent *s;
    struct option_cursor c;
    struct option_view view;

    CLIENT(h, 1, .code = CODE_POST, .path = "p/q/list", .payload = "x", .payload_length = 1);
    s = expect_at_origin(h, &m);
    c = option_cursor_at(&m, SLOT_URI_PATH);
    assert_true(option_next_same(&c, &view) && view.length == 4);
    assert_false(option_next_same(&c, &view));
    ORIGIN(h, s, .code = CODE_CREATED,
           OPTIONS_OF(text_option(OPTION_ETAG, "e"), text_option(OPTION_LOCATION_PATH, "new"),
                      text_option(OPTION_LOCATION_PATH, "er"),
                      text_option(OPTION_LOCATION_QUERY, "k=v")),
           .payload = "made", .payload_length = 4);
    expect_at_client(h, 1, CODE_CREATED, &m);
    c = option_cursor_at(&m, SLOT_LOCATION_PATH);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(option_next_same(&c, &view));
        assert_int_equal(view.length, strlen(path[i]));
        assert_memory_equal(view.value, path[i], view.length);
    }
    assert_false(option_next_same(&c, &view));
    assert_true(message_has(&m, SLOT_LOCATION_QUERY));
    assert_true(message_has(&m, SLOT_ETAG));
    assert_payload(&m, "made", 4);
    /* One at a time: where the gateway's name goes in front, no prefix does. */
    CLIENT(h, 1, .code = CODE_POST, .path = "p/q/list");
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_HOP_LIMIT_REACHED,
           OPTIONS_OF(text_option(OPTION_LOCATION_PATH, "new"),
                      text_option(OPTION_LOCATION_PATH, "er")),
           .payload = "far", .payload_length = 3);
    expect_at_client(h, 1, CODE_HOP_LIMIT_REACHED, &m);
    assert_payload(&m, "unit far", 8);
    assert_int_equal(m.option_count, 2);
    CLIENT(h, 1, .code = CODE_POST, .path = "list"); /* no prefix here */
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CREATED,
           OPTIONS_OF(text_option(OPTION_LOCATION_PATH, "new")));
    expect_at_client(h, 1, CODE_CREATED, &m);
    assert_int_equal(m.option_count, 1);
}

/* ---- No-Response ---- */

static void what_is_not_wanted_is_not_sent(void **state)
{
    struct harness *h = *state;
    struct message m;
    uint16_t mid;

    mid = CLIENT(h, 1, .code = CODE_PUT, .path = "x",
                 OPTIONS_OF(addition_uint(OPTION_NO_RESPONSE, 2)));
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CHANGED);
    expect_at_client(h, 1, CODE_EMPTY, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.mid, mid);
    CLIENT(h, 1, .type = TYPE_NON, .code = CODE_PUT, .path = "x",
           OPTIONS_OF(addition_uint(OPTION_NO_RESPONSE, 2)));
    expect_at_origin(h, &m);
    assert_false(message_has(&m, SLOT_NO_RESPONSE)); /* its answer is the gateway's business */
    ORIGIN(h, &h->sent[h->taken - 1], .code = CODE_CHANGED);
    harness_silent(h);
    CLIENT(h, 1, .code = CODE_PUT, .path = "x", OPTIONS_OF(addition_uint(OPTION_NO_RESPONSE, 2)));
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_FORBIDDEN); /* another class */
    expect_at_client(h, 1, CODE_FORBIDDEN, &m);
    CLIENT(h, 1, .code = CODE_GET, .path = "big",
           OPTIONS_OF(addition_uint(OPTION_NO_RESPONSE, 26)));
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CONTENT, .payload = body,
           .payload_length = 1200);
    expect_at_client(h, 1, CODE_EMPTY, &m);
    assert_int_equal(usage_of(h).transfers, 0); /* nobody fetches the rest of it */
    CLIENT(h, 1, .code = CODE_PUT, .path = "slow",
           OPTIONS_OF(addition_uint(OPTION_NO_RESPONSE, 26)));
    expect_at_origin(h, &m);
    {
        struct sent asked = h->sent[h->taken - 1];

        ORIGIN(h, &asked, .type = TYPE_ACK,
               .mid = m.mid); /* dropped: an Empty message has no token */
        harness_advance(h, 600 * 1000);
        expect_at_client(h, 1, CODE_EMPTY, &m); /* the Empty ACK of a separate response */
        ORIGIN(h, &asked, .code = CODE_CHANGED);
    }
    harness_advance(h, 10 * SECOND_US);
    harness_silent(h);
    assert_true(worker_counters(h->worker)->suppressed_responses >= 4);
}

/* ---- proofs of address ---- */

static void a_long_answer_wants_a_proof(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct addition echo;
    uint8_t value[40];

    CLIENT(h, 1, .code = CODE_GET, .path = "x");
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CONTENT, .payload = body,
           .payload_length = 1300);
    expect_at_client(h, 1, CODE_UNAUTHORIZED, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_true(message_has(&m, SLOT_ECHO));
    assert_int_equal(m.payload_length, 0);
    assert_int_equal(usage_of(h).transfers,
                     0); /* nothing is kept for an address that is unproven */
    echo = addition_bytes(OPTION_ECHO, value, m.first[SLOT_ECHO].length);
    memcpy(value, m.first[SLOT_ECHO].value, echo.length);
    CLIENT(h, 2, .code = CODE_GET, .path = "x", OPTIONS_OF(echo)); /* another's: not ours */
    expect_at_origin(h, &m);
    assert_true(message_has(&m, SLOT_ECHO));
    ORIGIN(h, &h->sent[h->taken - 1], .code = CODE_CONTENT, .payload = "short",
           .payload_length = 5);
    expect_at_client(h, 2, CODE_CONTENT, &m);
    CLIENT(h, 1, .code = CODE_GET, .path = "x", OPTIONS_OF(echo));
    expect_at_client(h, 1, CODE_CONTENT, &m); /* out of the cache */
    assert_payload(&m, body, 1024);
    assert_false(message_has(&m, SLOT_ECHO));
    assert_int_equal(usage_of(h).transfers, 1);
    CLIENT(h, 1, .code = CODE_GET, .path = "x"); /* proven from now on */
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(worker_counters(h->worker)->challenges, 1);
    harness_silent(h);
}

/* The answer to an unsafe request cannot be asked for again: it goes in blocks that are small. */
static void an_unproven_client_gets_small_blocks_of_an_unsafe_answer(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct block block;
    struct sent *s;
    size_t request, got;

    CLIENT(h, 1, .code = CODE_POST, .path = "x", .payload = body, .payload_length = 50);
    request = 4 + 1 + 2 + 1 + 50;
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CHANGED, .payload = body,
           .payload_length = 600);
    s = expect_at_client(h, 1, CODE_CHANGED, &m);
    assert_true(s->length + 28u <= 3 * (request + 28));
    assert_int_equal(block_decode(message_uint(&m, SLOT_BLOCK2, 0), &block), 0);
    assert_int_equal(block.szx, 3);
    got = m.payload_length;
    while (block.more) { /* a shorter request gets less */
        CLIENT(h, 1, .code = CODE_POST, .path = "x",
               OPTIONS_OF(block_option(OPTION_BLOCK2, (uint32_t)(got / block_size(&block)), false,
                                       block.szx)));
        s = expect_at_client(h, 1, CODE_CHANGED, &m);
        assert_true(s->length + 28u <= 3 * (10 + 28));
        assert_int_equal(block_decode(message_uint(&m, SLOT_BLOCK2, 0), &block), 0);
        assert_int_equal(block.number * block_size(&block), got);
        assert_memory_equal(m.payload, body + got, m.payload_length);
        got += m.payload_length;
    }
    assert_int_equal(got, 600);
    CLIENT(h, 1, .code = CODE_POST, .path = "x", .payload = body, .payload_length = 50);
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CHANGED, .payload = body,
           .payload_length = 100);
    expect_at_client(h, 1, CODE_CHANGED, &m);
    assert_payload(&m, body, 100); /* this is little enough */
    for (size_t length = 100; length < 300; length++) {
        CLIENT(h, 2, .code = CODE_POST, .path = "x", .payload = body, .payload_length = 50);
        ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CHANGED, .payload = body,
               .payload_length = length);
        s = expect_at_client(h, 2, CODE_CHANGED, &m);
        assert_true(s->length + 28u <= 3 * (58 + 28));
    }
}

static void an_origins_challenge_is_for_one_client(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s;

    CLIENT(h, 1, .code = CODE_GET, .path = "x");
    s = expect_at_origin(h, &m);
    CLIENT(h, 2, .code = CODE_GET, .path = "x"); /* waits for the same */
    ORIGIN(h, s, .code = CODE_UNAUTHORIZED, OPTIONS_OF(text_option(OPTION_ECHO, "origin")));
    for (unsigned i = 1; i <= 2; i++) {
        expect_at_client(h, i, CODE_UNAUTHORIZED, &m);
        assert_memory_equal(m.first[SLOT_ECHO].value, "origin", 6);
    }
    CLIENT(h, 1, .code = CODE_GET, .path = "x", OPTIONS_OF(text_option(OPTION_ECHO, "origin")));
    s = expect_at_origin(h, &m);
    assert_memory_equal(m.first[SLOT_ECHO].value, "origin", 6);
    ORIGIN(h, s, .code = CODE_CONTENT, .payload = "x", .payload_length = 1);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    CLIENT(h, 3, .code = CODE_GET, .path = "x"); /* the challenge was not stored */
    harness_expect(h, &m);
    assert_int_not_equal(m.code, CODE_UNAUTHORIZED);
    if (m.code == CODE_GET) {
        ORIGIN(h, &h->sent[h->taken - 1], .code = CODE_CONTENT, .payload = "x",
               .payload_length = 1);
        expect_at_client(h, 3, CODE_CONTENT, &m);
    }
}

/* ---- what does not fit ---- */

/* RFC 8974: a long token takes its room in each message. */
static void long_tokens_make_blocks_smaller(void **state)
{
    static uint8_t token[900];
    struct harness *h = *state;
    struct message m;
    struct block block;

    memset(token, 't', sizeof(token));
    for (unsigned separate = 0; separate < 2; separate++) {
        struct sent asked;
        size_t got = 0;

        CLIENT(h, 1, .code = CODE_POST, .path = "x", .token = token, .token_length = 900);
        expect_at_origin(h, &m);
        asked = h->sent[h->taken - 1];
        if (separate) {
            harness_advance(h, 600 * 1000);
            expect_at_client(h, 1, CODE_EMPTY, &m);
        }
        ORIGIN(h, &asked, .code = CODE_CHANGED, .payload = body, .payload_length = 1000);
        expect_at_client(h, 1, CODE_CHANGED, &m);
        assert_int_equal(m.type, separate ? TYPE_CON : TYPE_ACK);
        assert_int_equal(m.token_length, 900);
        while (message_has(&m, SLOT_BLOCK2)) {
            assert_int_equal(block_decode(message_uint(&m, SLOT_BLOCK2, 0), &block), 0);
            assert_int_equal(block.szx, 5); /* 512: 900 and 1000 are too much for 1472 */
            assert_int_equal(block.number * 512, got);
            assert_memory_equal(m.payload, body + got, m.payload_length);
            got += m.payload_length;
            if (!block.more)
                break;
            CLIENT(h, 1, .code = CODE_POST, .path = "x", .token = token, .token_length = 900,
                   OPTIONS_OF(block_option(OPTION_BLOCK2, block.number + 1, false, 5)));
            expect_at_client(h, 1, CODE_CHANGED, &m);
        }
        assert_int_equal(got, 1000);
    }
    harness_advance(h, 100 * SECOND_US);
    h->taken = h->count;
}

/* To the byte: 1,472 are what a link of 1,500 takes. */
static void the_largest_that_fits(void **state)
{
    static uint8_t token[500];
    struct harness *h = *state;
    struct message m;
    bool whole = true;

    CLIENT(h, 1, .code = CODE_GET, .path = "x");
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CONTENT, .payload = body,
           .payload_length = 1000);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    for (size_t length = 450; length < 480; length++) {
        struct sent *s;

        CLIENT(h, 1, .code = CODE_GET, .path = "x", .token = token, .token_length = length);
        s = expect_at_client(h, 1, CODE_CONTENT, &m);
        assert_true(s->length <= 1472);
        assert_int_equal(!message_has(&m, SLOT_BLOCK2), 4 + 2 + length + 1 + 1000 <= 1472);
        whole = whole && !message_has(&m, SLOT_BLOCK2);
    }
    assert_false(whole);
}

static void what_fits_in_no_way_is_bad_gateway(void **state)
{
    static char text[4][256];
    static uint8_t token[900];
    struct harness *h = *state;
    struct message m;

    memset(token, 't', sizeof(token));
    for (unsigned i = 0; i < 4; i++)
        memset(text[i], 'a', 250);
    CLIENT(h, 1, .code = CODE_POST, .path = "x", .token = token, .token_length = 900);
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CREATED,
           OPTIONS_OF(text_option(OPTION_LOCATION_PATH, text[0]),
                      text_option(OPTION_LOCATION_PATH, text[1]),
                      text_option(OPTION_LOCATION_PATH, text[2])));
    expect_at_client(h, 1, CODE_BAD_GATEWAY, &m);
    assert_int_equal(usage_of(h).transfers, 0);
    harness_silent(h);
}

/* ---- many, and failures at odd times ---- */

static void many_get_their_answer_in_portions(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent asked, *s;
    bool answered[151];

    for (unsigned outcome = 0; outcome < 3; outcome++) {
        char path[4];

        memset(answered, 0, sizeof(answered));
        snprintf(path, sizeof(path), "m%u", outcome);
        for (unsigned i = 1; i <= 150; i++) {
            CLIENT(h, i, .code = CODE_GET, .path = path);
            if (i == 1)
                asked = *expect_at_origin(h, &m);
        }
        harness_silent(h);
        if (outcome == 0)
            ORIGIN(h, &asked, .code = CODE_CONTENT, .payload = "x", .payload_length = 1);
        else if (outcome == 1)
            worker_unreachable(h->worker, &asked.flow, asked.data, asked.length, h->now);
        else
            ORIGIN(h, &asked, .code = CODE_CONTENT, OPTIONS_OF(addition_uint(OPTION_MAX_AGE, 0)),
                   .payload = body, .payload_length = 1300);
        assert_int_equal(h->count - h->taken, 32);
        assert_int_equal(usage_of(h).forwards, 1);
        CLIENT(h, 160, .code = CODE_GET, .path = path); /* too late for that one */
        if (outcome) {
            s = &h->sent[h->count - 1];
            assert_true(is_to_origin(s));
            h->count--;
            ORIGIN(h, s, .code = CODE_NOT_FOUND);
        }
        h->count--;
        harness_advance(h, 5000);
        assert_int_equal(usage_of(h).forwards, 0);
        assert_int_equal(h->count - h->taken, 150);
        while ((s = harness_take(h))) {
            assert_int_equal(message_parse(s->data, s->length, &m), VERDICT_OK);
            assert_false(answered[s->flow.peer_port - 20000]);
            answered[s->flow.peer_port - 20000] = true;
            assert_int_equal(m.code, outcome == 1 ? CODE_GATEWAY_TIMEOUT : CODE_CONTENT);
            assert_int_equal(m.token[0], s->flow.peer_port - 20000);
        }
        h->taken = h->count = 0;
    }
}

static void a_server_is_lost_while_its_answer_is_handed_out(void **state)
{
    struct harness *h = *state;
    struct sent asked;
    struct message m;

    for (unsigned i = 1; i <= 100; i++) {
        CLIENT(h, i, .code = CODE_GET, .path = "pair");
        if (i == 1)
            asked = *expect_at_origin(h, &m);
    }
    ORIGIN(h, &asked, .code = CODE_CONTENT, .payload = "x", .payload_length = 1);
    /* The server is lost while its answer is still being handed out. */
    CLIENT(h, 101, .code = CODE_POST, .path = "pair");
    asked = h->sent[h->count - 1];
    worker_unreachable(h->worker, &asked.flow, asked.data, asked.length, h->now);
    harness_advance(h, 5000);
    assert_int_equal(h->count - h->taken, 102);
    assert_int_equal(usage_of(h).forwards, 0);
    come_back(h);
}

/* The next block cannot go out: the queue to the origin has no room. The fetch ends inside of the
 * call that takes its answer. */
static void no_room_for_the_next_block(void **state)
{
    struct resource r = {body, 300, .szx = 3, .code = CODE_CONTENT, .etag = "e"};
    struct harness *h = *state;
    struct message m;
    struct sent first, *s;
    uint8_t bytes[1500];

    for (unsigned upload = 0; upload < 2; upload++) {
        if (upload)
            CLIENT(h, 1, .code = CODE_PUT, .path = "narrow", .payload = body,
                   .payload_length = 300);
        else
            CLIENT(h, 1, .code = CODE_GET, .path = "narrow");
        first = *expect_at_origin(h, &m);
        harness_give(h, &first.flow, bytes,
                     harness_message(bytes, TYPE_ACK, CODE_EMPTY, m.mid, NULL, 0, NULL));
        CLIENT(h, 2, .code = CODE_POST, .path = "narrow/y"); /* takes the place */
        s = expect_at_origin(h, &m);
        if (upload) {
            ORIGIN(h, &first, .type = TYPE_CON, .mid = 0x7001, .code = CODE_CONTINUE,
                   OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 3)));
        } else {
            const struct addition options[] = {text_option(OPTION_ETAG, "e"),
                                               block_option(OPTION_BLOCK2, 0, true, 3)};

            ORIGIN(h, &first, .type = TYPE_CON, .mid = 0x7000, .code = CODE_CONTENT,
                   .options = options, .option_count = 2, .payload = r.body, .payload_length = 128);
        }
        expect_at_client(h, 1, CODE_SERVICE_UNAVAILABLE, &m);
        assert_true(message_has(&m, SLOT_MAX_AGE));
        expect_at_origin(h, &m); /* its CON is acknowledged */
        assert_int_equal(m.type, TYPE_ACK);
        assert_int_equal(usage_of(h).forwards, 1);
        ORIGIN(h, s, .code = CODE_CHANGED);
        expect_at_client(h, 2, CODE_CHANGED, &m);
    }
    /* And the first one cannot. */
    CLIENT(h, 1, .code = CODE_GET, .path = "narrow");
    s = expect_at_origin(h, &m);
    CLIENT(h, 2, .code = CODE_GET, .path = "narrow/z");
    expect_at_client(h, 2, CODE_SERVICE_UNAVAILABLE, &m);
    resource_answers(h, &r, s, &(struct message){0});
    resource_serves(h, &r, &m);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_int_equal(usage_of(h).forwards, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(options_pass_unchanged, setup),
        TEST(a_prefix_that_was_stripped_comes_back, setup),
        TEST(what_is_not_wanted_is_not_sent, setup),
        TEST(a_long_answer_wants_a_proof, setup_careful),
        TEST(an_unproven_client_gets_small_blocks_of_an_unsafe_answer, setup_careful),
        TEST(an_origins_challenge_is_for_one_client, setup_careful),
        TEST(long_tokens_make_blocks_smaller, setup),
        TEST(the_largest_that_fits, setup),
        TEST(what_fits_in_no_way_is_bad_gateway, setup),
        TEST(many_get_their_answer_in_portions, setup),
        TEST(a_server_is_lost_while_its_answer_is_handed_out, setup),
        TEST(no_room_for_the_next_block, setup_no_queue),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
