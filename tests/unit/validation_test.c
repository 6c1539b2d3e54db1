/* Stored answers: validation on both legs, and what their age takes off (RFC
 * 7252 5.6, 5.9.1.3, 5.10.5, 5.10.6). */
#include "tests/unit/deliver_setup.h"

/* A GET that the origin answers with this. */
static void fetched(struct harness *h, unsigned client, const char *path, const struct mold *answer)
{
    struct message m;

    CLIENT(h, client, .code = CODE_GET, .path = path);
    origin_answers(h, expect_at_origin(h, &m), answer);
    expect_at_client(h, client, answer->code, &m);
}

/* ---- validation ---- */

static void a_client_that_has_it_gets_2_03(void **state)
{
    struct harness *h = *state;
    struct message m;

    fetched(h, 1, "x",
            &(const struct mold){.code = CODE_CONTENT,
                                 OPTIONS_OF(addition_bytes(OPTION_ETAG, "\0\1", 2),
                                            addition_uint(OPTION_CONTENT_FORMAT, 50),
                                            addition_uint(OPTION_MAX_AGE, 40)),
                                 .payload = "body",
                                 .payload_length = 4});
    harness_advance(h, 15 * SECOND_US);
    CLIENT(h, 2, .code = CODE_GET, .path = "x",
           OPTIONS_OF(text_option(OPTION_ETAG, "other"), addition_bytes(OPTION_ETAG, "\0\1", 2)));
    expect_at_client(h, 2, CODE_VALID, &m);
    assert_int_equal(m.payload_length, 0);
    assert_int_equal(m.first[SLOT_ETAG].length, 2);
    assert_int_equal(option_of(&m, SLOT_MAX_AGE), 25);
    assert_false(message_has(&m, SLOT_CONTENT_FORMAT));
    assert_int_equal(m.option_count, 2);
    CLIENT(h, 2, .code = CODE_GET, .path = "x", OPTIONS_OF(addition_bytes(OPTION_ETAG, "\1", 1)));
    expect_at_client(h, 2, CODE_CONTENT, &m); /* a leading zero counts */
    assert_payload(&m, "body", 4);
    assert_int_equal(option_of(&m, SLOT_CONTENT_FORMAT), 50);
    harness_silent(h);
}

static void a_clients_etag_does_not_go_to_the_origin(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *s;

    CLIENT(h, 1, .code = CODE_GET, .path = "x", OPTIONS_OF(text_option(OPTION_ETAG, "e")));
    s = expect_at_origin(h, &m);
    assert_false(message_has(&m, SLOT_ETAG));
    ORIGIN(h, s, .code = CODE_CONTENT, OPTIONS_OF(text_option(OPTION_ETAG, "e")), .payload = "body",
           .payload_length = 4);
    expect_at_client(h, 1, CODE_VALID, &m);
    assert_false(message_has(&m, SLOT_MAX_AGE)); /* the default is true */
    /* An error has no ETag that could be matched. */
    CLIENT(h, 1, .code = CODE_GET, .path = "y", OPTIONS_OF(text_option(OPTION_ETAG, "e")));
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_NOT_FOUND,
           OPTIONS_OF(text_option(OPTION_ETAG, "e")));
    expect_at_client(h, 1, CODE_NOT_FOUND, &m);
}

static void a_stale_answer_is_revalidated(void **state)
{
    const struct mold content = {
        .code = CODE_CONTENT,
        OPTIONS_OF(text_option(OPTION_ETAG, "v1"), addition_uint(OPTION_MAX_AGE, 10)),
        .payload = "one",
        .payload_length = 3};
    struct harness *h = *state;
    struct message m;
    struct sent *s;

    fetched(h, 1, "x", &content);
    harness_advance(h, 11 * SECOND_US);
    CLIENT(h, 1, .code = CODE_GET, .path = "x");
    s = expect_at_origin(h, &m);
    assert_memory_equal(m.first[SLOT_ETAG].value, "v1", 2);
    ORIGIN(h, s, .code = CODE_VALID,
           OPTIONS_OF(text_option(OPTION_ETAG, "v1"), addition_uint(OPTION_MAX_AGE, 5)));
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "one", 3);
    assert_int_equal(option_of(&m, SLOT_MAX_AGE), 5);
    harness_advance(h, 3 * SECOND_US);
    CLIENT(h, 2, .code = CODE_GET, .path = "x"); /* good again */
    expect_at_client(h, 2, CODE_CONTENT, &m);
    assert_int_equal(option_of(&m, SLOT_MAX_AGE), 2);
    harness_advance(h, 3 * SECOND_US);
    CLIENT(h, 2, .code = CODE_GET, .path = "x"); /* and another one now */
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CONTENT,
           OPTIONS_OF(text_option(OPTION_ETAG, "v2")), .payload = "two", .payload_length = 3);
    expect_at_client(h, 2, CODE_CONTENT, &m);
    assert_payload(&m, "two", 3);
}

/* Begins a revalidation of what the origin calls "v1". */
static struct sent begin_validation(struct harness *h, const char *path)
{
    const struct mold content = {
        .code = CODE_CONTENT,
        OPTIONS_OF(text_option(OPTION_ETAG, "v1"), addition_uint(OPTION_MAX_AGE, 10)),
        .payload = "one",
        .payload_length = 3};
    struct message m;

    fetched(h, 1, path, &content);
    harness_advance(h, 11 * SECOND_US);
    CLIENT(h, 1, .code = CODE_GET, .path = path);
    expect_at_origin(h, &m);
    assert_true(message_has(&m, SLOT_ETAG));
    return h->sent[h->taken - 1];
}

static void a_2_03_speaks_of_one_answer_only(void **state)
{
    struct harness *h = *state;
    struct sent asked = begin_validation(h, "x");
    struct message m;
    struct sent *s;

    ORIGIN(h, &asked, .code = CODE_VALID, OPTIONS_OF(text_option(OPTION_ETAG, "v2")));
    s = expect_at_origin(h, &m); /* not what was asked about: the whole */
    assert_false(message_has(&m, SLOT_ETAG));
    ORIGIN(h, s, .code = CODE_CONTENT, OPTIONS_OF(text_option(OPTION_ETAG, "v2")), .payload = "two",
           .payload_length = 3);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "two", 3);
}

/* The whole that comes instead of a 2.03 is asked for without a condition. */
static void a_revalidation_that_brings_another_body_in_blocks(void **state)
{
    struct resource r = {body, 300, .szx = 3, .code = CODE_CONTENT, .etag = "v2"};
    struct harness *h = *state;
    struct sent asked = begin_validation(h, "x");
    struct message m;
    struct sent *s;

    assert_int_equal(message_parse(asked.data, asked.length, &m), VERDICT_OK);
    resource_answers(h, &r, &asked, &m);
    for (unsigned i = 0; i < 2; i++) {
        s = expect_at_origin(h, &m);
        assert_false(message_has(&m, SLOT_ETAG));
        resource_answers(h, &r, s, &m);
    }
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, body, 300);
}

static void what_was_invalidated_is_not_revalidated(void **state)
{
    struct harness *h = *state;
    struct sent asked = begin_validation(h, "x");
    struct message m;
    struct sent *s;

    CLIENT(h, 2, .code = CODE_PUT, .path = "x", .payload = "new", .payload_length = 3);
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_CHANGED);
    expect_at_client(h, 2, CODE_CHANGED, &m);
    ORIGIN(h, &asked, .code = CODE_VALID, OPTIONS_OF(text_option(OPTION_ETAG, "v1")));
    s = expect_at_origin(h, &m);
    assert_false(message_has(&m, SLOT_ETAG));
    ORIGIN(h, s, .code = CODE_CONTENT, .payload = "new", .payload_length = 3);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "new", 3);
}

/* The stored answer goes while it is being asked about, and the server that was asked does too. */
static void a_revalidation_moves_to_another_server(void **state)
{
    struct harness *h = *state;
    struct sent asked = begin_validation(h, "pair");
    struct message m;
    struct sent *s;

    CLIENT(h, 2, .code = CODE_DELETE, .path = "pair");
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_DELETED);
    expect_at_client(h, 2, CODE_DELETED, &m);
    worker_unreachable(h->worker, &asked.flow, asked.data, asked.length, h->now);
    s = expect_at_origin(h, &m);
    assert_int_not_equal(s->flow.peer.bytes[15], asked.flow.peer.bytes[15]);
    ORIGIN(h, s, .code = CODE_NOT_FOUND);
    expect_at_client(h, 1, CODE_NOT_FOUND, &m);
    come_back(h);
}

/* ---- age ---- */

static void max_age_gets_shorter(void **state)
{
    static const struct {
        const char *path;
        uint8_t code;
        uint32_t max_age; /* NO_OPTION: none */
        uint32_t first, later;
    } cases[] = {
        {"a", CODE_CONTENT, 100, 100, 88},
        {"b", CODE_CONTENT, NO_OPTION, NO_OPTION, 48},
        {"c", CODE_NOT_FOUND, NO_OPTION, NO_OPTION, 48},
        {"d", CODE_NOT_FOUND, 20, 20, 8},
        {"e", CODE_INTERNAL_SERVER_ERROR, 30, 30, 18},
    };
    struct harness *h = *state;
    struct message m;

    for (unsigned i = 0; i < 5; i++) {
        const struct addition age = addition_uint(OPTION_MAX_AGE, cases[i].max_age);

        CLIENT(h, 1, .code = CODE_GET, .path = cases[i].path);
        ORIGIN(h, expect_at_origin(h, &m), .code = cases[i].code, .options = &age,
               .option_count = cases[i].max_age != NO_OPTION);
        expect_at_client(h, 1, cases[i].code, &m);
        assert_int_equal(option_of(&m, SLOT_MAX_AGE), cases[i].first);
    }
    harness_advance(h, 12 * SECOND_US);
    for (unsigned i = 0; i < 5; i++) {
        CLIENT(h, 2, .code = CODE_GET, .path = cases[i].path);
        expect_at_client(h, 2, cases[i].code, &m);
        assert_int_equal(option_of(&m, SLOT_MAX_AGE), cases[i].later);
    }
    harness_silent(h);
}

/* What speaks of one client or one request is nobody else's answer. */
static void what_is_stored_and_what_is_not(void **state)
{
    static const struct {
        uint8_t code;
        uint32_t max_age;
        bool stored;
    } cases[] = {
        {CODE_CONTENT, 10, true},
        {CODE_CONTENT, 0, false},
        {CODE_BAD_REQUEST, 10, true},
        {CODE_FORBIDDEN, 10, true},
        {CODE_FORBIDDEN, 0, false},
        {CODE_NOT_ACCEPTABLE, 10, true},
        {CODE_UNAUTHORIZED, 10, false},
        {CODE_REQUEST_ENTITY_INCOMPLETE, 10, false},
        {CODE_PRECONDITION_FAILED, 10, false},
        {CODE_REQUEST_ENTITY_TOO_LARGE, 10, false},
        {CODE_TOO_MANY_REQUESTS, 10, false},
        {CODE_HOP_LIMIT_REACHED, 10, false},
        {CODE_CHANGED, 10, false},
        {CODE_INTERNAL_SERVER_ERROR, 10, true},
        {CODE_INTERNAL_SERVER_ERROR, NO_OPTION, false},
        {CODE_SERVICE_UNAVAILABLE, 0, false},
    };
    struct harness *h = *state;
    struct message m;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct addition age = addition_uint(OPTION_MAX_AGE, cases[i].max_age);
        char path[8];

        snprintf(path, sizeof(path), "s%u", i);
        for (unsigned client = 1; client <= 2; client++) {
            CLIENT(h, client, .code = CODE_GET, .path = path);
            if (client == 1 || !cases[i].stored)
                ORIGIN(h, expect_at_origin(h, &m), .code = cases[i].code, .options = &age,
                       .option_count = cases[i].max_age != NO_OPTION);
            expect_at_client(h, client, cases[i].code, &m);
        }
    }
    harness_silent(h);
}

static void a_stale_answer_stands_in(void **state)
{
    const struct mold content = {.code = CODE_CONTENT,
                                 OPTIONS_OF(addition_uint(OPTION_MAX_AGE, 10)),
                                 .payload = "one",
                                 .payload_length = 3};
    struct harness *h = *state;
    struct message m;
    struct sent *s;

    fetched(h, 1, "x", &content);
    harness_advance(h, 20 * SECOND_US);
    CLIENT(h, 1, .code = CODE_GET, .path = "x");
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_INTERNAL_SERVER_ERROR);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "one", 3);
    assert_int_equal(option_of(&m, SLOT_MAX_AGE), 0);
    CLIENT(h, 1, .code = CODE_GET, .path = "x");
    s = expect_at_origin(h, &m);
    worker_unreachable(h->worker, &s->flow, s->data, s->length, h->now);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    /* Not for a request that changes something, nor for a word about the request. */
    CLIENT(h, 1, .code = CODE_POST, .path = "x");
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_INTERNAL_SERVER_ERROR);
    expect_at_client(h, 1, CODE_INTERNAL_SERVER_ERROR, &m);
    CLIENT(h, 1, .code = CODE_GET, .path = "x");
    ORIGIN(h, expect_at_origin(h, &m), .code = CODE_NOT_FOUND);
    expect_at_client(h, 1, CODE_NOT_FOUND, &m);
    fetched(h, 1, "y", &content);
    harness_advance(h, 41 * SECOND_US); /* 10 and 30 are over */
    CLIENT(h, 1, .code = CODE_GET, .path = "y");
    s = expect_at_origin(h, &m);
    worker_unreachable(h->worker, &s->flow, s->data, s->length, h->now);
    expect_at_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
    assert_int_equal(worker_counters(h->worker)->cache_stale, 2);
    assert_int_equal(worker_counters(h->worker)->forward_timeouts, 2);
    assert_int_equal(worker_counters(h->worker)->forward_failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_client_that_has_it_gets_2_03, setup),
        TEST(a_clients_etag_does_not_go_to_the_origin, setup),
        TEST(a_stale_answer_is_revalidated, setup),
        TEST(a_2_03_speaks_of_one_answer_only, setup),
        TEST(a_revalidation_that_brings_another_body_in_blocks, setup),
        TEST(what_was_invalidated_is_not_revalidated, setup),
        TEST(a_revalidation_moves_to_another_server, setup),
        TEST(max_age_gets_shorter, setup),
        TEST(what_is_stored_and_what_is_not, setup),
        TEST(a_stale_answer_stands_in, setup_lenient),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
