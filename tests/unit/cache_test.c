/* The cache (RFC 7252 5.6, 5.9, 5.10.5): what is served from it, for how long, to whom, and what
 * ends it. */
#include "tests/unit/proxy_steps.h"

static int setup(void **state)
{
    return start(state, ORIGINS_YAML("{size: 1MiB}", ""));
}

#define A            OPTIONS(PATH("a"))
#define AGE(seconds) OPTIONS(UINT(OPTION_MAX_AGE, seconds))

/* Client 1 asks for something that the cache does not have, and gets an answer of the origin. */
static void expect_miss(struct harness *h, uint16_t mid, const struct opt *request)
{
    fetch_through(h, 1, mid, request, AGE(0), "miss");
}

static void invalidate(struct harness *h, uint16_t mid, uint8_t method, uint8_t code)
{
    struct message m;
    struct sent out;

    ask_with(h, 3, mid, method, A, NULL);
    out = expect_upstream(h, &m);
    answer_with(h, &out, code, NO_OPTIONS, NULL);
    expect_client(h, 3, code, &m);
}

/* ---- time ---- */

static void an_answer_is_served_until_its_max_age(void **state)
{
    struct harness *h = *state;
    struct message m;

    fetch_through(h, 1, 1, A, AGE(30), "one");
    expect_hit(h, 2, 1, A, "one");
    harness_advance(h, 29 * SECOND_US + 999 * 1000);
    ask_with(h, 2, 2, CODE_GET, A, NULL);
    expect_client(h, 2, CODE_CONTENT, &m);
    assert_payload(&m, "one");
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 99), 1); /* 30 less 29 whole seconds */
    harness_advance(h, 1000);
    expect_miss(h, 3, A);
    assert_int_equal(COUNTER(h, cache_hits), 2);
    assert_int_equal(COUNTER(h, cache_misses), 2);
}

static void without_max_age_it_is_a_minute(void **state)
{
    struct harness *h = *state;
    struct message m;

    fetch_through(h, 1, 1, A, NO_OPTIONS, "one");
    harness_advance(h, 45 * SECOND_US);
    ask_with(h, 2, 1, CODE_GET, A, NULL);
    expect_client(h, 2, CODE_CONTENT, &m);
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 99), 15); /* the client must not start anew */
    harness_advance(h, 15 * SECOND_US);
    expect_miss(h, 2, A);
}

static void max_age_zero_is_not_served_again(void **state)
{
    struct harness *h = *state;

    fetch_through(h, 1, 1, A, AGE(0), "one");
    fetch_through(h, 2, 1, A, AGE(0), "two");
}

static void the_longest_max_age_does_not_overflow(void **state)
{
    struct harness *h = *state;
    struct message m;

    fetch_through(h, 1, 1, A, AGE(UINT32_MAX), "one");
    harness_advance(h, 1000 * SECOND_US);
    ask_with(h, 2, 1, CODE_GET, A, NULL);
    expect_client(h, 2, CODE_CONTENT, &m);
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 0), UINT32_MAX - 1000);
}

/* ---- what is kept ---- */

static void errors_are_kept_where_the_rfc_says_so(void **state)
{
    static const struct {
        uint8_t code;
        bool with_age, without_age; /* kept? */
    } cases[] = {
        {CODE_NOT_FOUND, true, true},
        {CODE_BAD_REQUEST, true, true},
        {CODE_FORBIDDEN, true, true},
        {CODE_METHOD_NOT_ALLOWED, true, true},
        {CODE_NOT_ACCEPTABLE, true, true},
        {CODE_UNAUTHORIZED, false, false},
        {CODE_PRECONDITION_FAILED, false, false},
        {CODE_REQUEST_ENTITY_TOO_LARGE, false, false},
        {CODE_TOO_MANY_REQUESTS, false, false},
        {CODE_INTERNAL_SERVER_ERROR, true, false},
        {CODE_SERVICE_UNAVAILABLE, true, false},
        {CODE_HOP_LIMIT_REACHED, false, false},
        {CODE_CHANGED, false, false},
        {CODE_CREATED, false, false},
    };
    struct harness *h = *state;
    struct message m;
    uint16_t mid = 0;

    for (unsigned i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t code = cases[i / 2].code;
        bool with_age = i & 1, kept = with_age ? cases[i / 2].with_age : cases[i / 2].without_age;
        char path[8];
        struct sent out;

        snprintf(path, sizeof(path), "e%u", i);
        get(h, 1, mid++, path);
        out = expect_upstream(h, &m);
        answer_with(h, &out, code, with_age ? AGE(50) : NO_OPTIONS, "why");
        expect_client(h, 1, code, &m);
        get(h, 2, mid++, path);
        if (kept) {
            expect_client(h, 2, code, &m);
            assert_payload(&m, "why");
        } else {
            out = expect_upstream(h, &m);
            answer_with(h, &out, CODE_CONTENT, AGE(0), NULL);
            expect_client(h, 2, CODE_CONTENT, &m);
        }
        harness_silent(h);
    }
}

static void a_challenge_is_for_one_client(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    get(h, 1, 1, "a");
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_NOT_FOUND,
                OPTIONS(UINT(OPTION_MAX_AGE, 60), TEXT(OPTION_ECHO, "prove")), NULL);
    expect_client(h, 1, CODE_NOT_FOUND, &m);
    assert_true(message_has(&m, SLOT_ECHO));
    expect_miss(h, 2, A);
}

static void a_foreign_echo_bypasses_the_cache(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 1, A, AGE(60), "one");
    ask_with(h, 1, 2, CODE_GET, OPTIONS(PATH("a"), TEXT(OPTION_ECHO, "theirs")), NULL);
    out = expect_upstream(h, &m);
    assert_string_equal(option_texts(&m, OPTION_ECHO), "|theirs");
    answer_with(h, &out, CODE_CONTENT, AGE(60), "for one");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "for one");
    expect_hit(h, 2, 1, A, "one"); /* nor is what it got kept */
}

static void conditions_bypass_the_cache(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 1, A, AGE(60), "one");
    for (uint16_t i = 0; i < 2; i++) {
        ask_with(h, 1, (uint16_t)(2 + i), CODE_GET,
                 i ? OPTIONS(TEXT(OPTION_IF_NONE_MATCH, ""), PATH("a"))
                   : OPTIONS(TEXT(OPTION_IF_MATCH, "x"), PATH("a")),
                 NULL);
        out = expect_upstream(h, &m);
        assert_true(message_has(&m, i ? SLOT_IF_NONE_MATCH : SLOT_IF_MATCH));
        answer_with(h, &out, CODE_PRECONDITION_FAILED, NO_OPTIONS, NULL);
        expect_client(h, 1, CODE_PRECONDITION_FAILED, &m);
    }
    expect_hit(h, 2, 1, A, "one");
}

/* ---- keys ---- */

static void every_option_that_counts_is_in_the_key(void **state)
{
    static const struct {
        struct opt options[4];
    } others[] = {
        {{PATH("b")}},
        {{PATH("a"), PATH("")}},
        {{PATH("a"), PATH("a")}},
        {{PATH("A")}},
        {{PATH("a"), TEXT(OPTION_URI_QUERY, "")}},
        {{PATH("a"), TEXT(OPTION_URI_QUERY, "a")}},
        {{TEXT(OPTION_URI_QUERY, "a")}},
        {{PATH("a"), TEXT(OPTION_URI_QUERY, "a"), TEXT(OPTION_URI_QUERY, "b")}},
        {{PATH("a"), TEXT(OPTION_URI_QUERY, "b"), TEXT(OPTION_URI_QUERY, "a")}},
        {{PATH("a"), UINT(OPTION_ACCEPT, 0)}},
        {{PATH("a"), UINT(OPTION_ACCEPT, 60)}},
        {{PATH("a"), UINT(OPTION_CONTENT_FORMAT, 60)}},
        {{PATH("a"), TEXT(64, "")}}, /* unknown, elective, safe, in the key */
        {{PATH("a"), TEXT(64, "x")}},
        {{PATH("a"), TEXT(2049, "x")}}, /* unknown, critical, safe */
        {{PATH("a"), TEXT(2049, "y")}},
        {{{0}}},
    };
    unsigned count = sizeof(others) / sizeof(others[0]);
    struct harness *h = *state;
    char payload[8];

    fetch_through(h, 1, 0, A, AGE(60), "a");
    for (uint16_t i = 0; i < count; i++) {
        snprintf(payload, sizeof(payload), "%u", i);
        fetch_through(h, 1, (uint16_t)(1 + i), others[i].options, AGE(60), payload);
    }
    expect_hit(h, 2, 0, A, "a");
    for (uint16_t i = 0; i < count; i++) {
        snprintf(payload, sizeof(payload), "%u", i);
        expect_hit(h, 2, (uint16_t)(1 + i), others[i].options, payload);
    }
}

static void what_belongs_to_one_hop_is_not_in_the_key(void **state)
{
    struct harness *h = *state;

    fetch_through(h, 1, 0, A, AGE(60), "a");
    expect_hit(h, 1, 1, OPTIONS(TEXT(OPTION_ETAG, "other"), PATH("a")), "a");
    expect_hit(h, 1, 2, OPTIONS(PATH("a"), UINT(OPTION_HOP_LIMIT, 9)), "a");
    expect_hit(h, 1, 3, OPTIONS(PATH("a"), UINT(OPTION_BLOCK2, 6)), "a");
    expect_hit(h, 1, 4, OPTIONS(PATH("a"), UINT(OPTION_SIZE2, 0)), "a");
    expect_hit(h, 1, 5, OPTIONS(UINT(OPTION_URI_PORT, 5683), PATH("a")), "a");
    expect_hit(h, 1, 6, OPTIONS(TEXT(OPTION_URI_HOST, "x.example"), PATH("a")), "a");
    expect_hit(h, 1, 7, OPTIONS(PATH("a"), UINT(OPTION_NO_RESPONSE, 0)), "a");
    expect_hit(h, 1, 8, OPTIONS(PATH("a"), TEXT(OPTION_REQUEST_TAG, "tag")), "a");
    expect_hit(h, 1, 9, OPTIONS(PATH("s"), PATH("t"), PATH("a")), "a"); /* stripped: the same */
}

/* RFC 7252 5.6: no match is needed for NoCacheKey options; they go to the origin with a miss. */
static void options_that_are_no_cache_key_do_not_matter(void **state)
{
    const struct opt *marked = OPTIONS(PATH("a"), TEXT(92, "mark")),
                     *other = OPTIONS(PATH("b"), TEXT(92, "mark"));
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 0, A, AGE(60), "a");
    expect_hit(h, 1, 1, marked, "a");
    ask_with(h, 1, 2, CODE_GET, other, NULL);
    out = expect_upstream(h, &m);
    assert_string_equal(option_texts(&m, 92), "|mark");
    answer_with(h, &out, CODE_CONTENT, AGE(60), "b");
    expect_client(h, 1, CODE_CONTENT, &m);
}

static void methods_and_payloads_are_in_the_key(void **state)
{
    static const char *const bodies[] = {"", "q", "r", "qr"};
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 0, A, AGE(60), "by get");
    for (unsigned round = 0; round < 2; round++)
        for (uint16_t i = 0; i < 4; i++) {
            ask_with(h, 1, (uint16_t)(1 + 4 * round + i), CODE_FETCH, A, i ? bodies[i] : NULL);
            if (round == 0) {
                out = expect_upstream(h, &m);
                assert_int_equal(m.code, CODE_FETCH);
                assert_payload(&m, bodies[i]);
                answer_with(h, &out, CODE_CONTENT, AGE(60), bodies[3 - i][0] ? bodies[3 - i] : "e");
            }
            expect_client(h, 1, CODE_CONTENT, &m);
            assert_payload(&m, bodies[3 - i][0] ? bodies[3 - i] : "e");
        }
    expect_hit(h, 2, 1, A, "by get");
    harness_silent(h);
}

/* A payload that looks like options must not make a request the same as one that has them. */
static void a_payload_is_never_taken_for_options(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    ask_with(h, 1, 1, CODE_FETCH, A,
             "\x01"
             "b"); /* Uri-Path "b", as it would follow */
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CONTENT, AGE(60), "of a");
    expect_client(h, 1, CODE_CONTENT, &m);
    ask_with(h, 1, 2, CODE_FETCH, OPTIONS(PATH("a"), PATH("b")), NULL);
    out = expect_upstream(h, &m);
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), "|a|b");
    answer_with(h, &out, CODE_CONTENT, AGE(60), "of a/b");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "of a/b");
}

static void upstreams_do_not_mix(void **state)
{
    struct harness *h = *state;

    fetch_through(h, 1, 1, OPTIONS(PATH("other")), AGE(60), "other's"); /* to 10.99.0.3 */
    fetch_through(h, 1, 2, OPTIONS(PATH("s"), PATH("t"), PATH("other")), AGE(60), "origin's");
    expect_hit(h, 2, 1, OPTIONS(PATH("other")), "other's");
}

/* ---- validation ---- */

static void a_client_with_the_etag_gets_valid(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    ask_with(h, 1, 1, CODE_GET, OPTIONS(TEXT(OPTION_ETAG, "v1"), PATH("a")), NULL);
    out = expect_upstream(h, &m);
    assert_false(message_has(&m, SLOT_ETAG)); /* the client's never goes on */
    answer_with(h, &out, CODE_CONTENT, OPTIONS(TEXT(OPTION_ETAG, "v1"), UINT(OPTION_MAX_AGE, 40)),
                "body");
    expect_client(h, 1, CODE_VALID, &m);
    assert_int_equal(m.payload_length, 0);
    assert_string_equal(option_texts(&m, OPTION_ETAG), "|v1");
    harness_advance(h, 10 * SECOND_US);
    ask_with(h, 2, 1, CODE_GET,
             OPTIONS(TEXT(OPTION_ETAG, "v0"), TEXT(OPTION_ETAG, "v1"), PATH("a")), NULL);
    expect_client(h, 2, CODE_VALID, &m);
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 0), 30);
    expect_hit(h, 2, 2, OPTIONS(TEXT(OPTION_ETAG, "v"), PATH("a")), "body");
}

static void a_stale_answer_is_revalidated(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 1, A, OPTIONS(TEXT(OPTION_ETAG, "v1"), UINT(OPTION_MAX_AGE, 10)), "body");
    harness_advance(h, 11 * SECOND_US);
    get(h, 1, 2, "a");
    out = expect_upstream(h, &m);
    assert_string_equal(option_texts(&m, OPTION_ETAG), "|v1");
    answer_with(h, &out, CODE_VALID, OPTIONS(TEXT(OPTION_ETAG, "v1"), UINT(OPTION_MAX_AGE, 20)),
                NULL);
    expect_client(h, 1, CODE_CONTENT, &m); /* it did not ask with an ETag */
    assert_payload(&m, "body");
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 0), 20);
    harness_advance(h, 19 * SECOND_US);
    expect_hit(h, 2, 1, A, "body");
    harness_advance(h, 2 * SECOND_US);
    get(h, 1, 3, "a"); /* now it has changed */
    out = expect_upstream(h, &m);
    assert_true(message_has(&m, SLOT_ETAG));
    answer_with(h, &out, CODE_CONTENT, OPTIONS(TEXT(OPTION_ETAG, "v2"), UINT(OPTION_MAX_AGE, 20)),
                "new");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "new");
    expect_hit(h, 2, 2, A, "new");
    assert_int_equal(COUNTER(h, cache_validated), 1);
}

static void an_answer_with_etag_but_no_age_is_always_asked_about(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 1, A, OPTIONS(TEXT(OPTION_ETAG, "v1"), UINT(OPTION_MAX_AGE, 0)), "body");
    for (uint16_t mid = 2; mid < 5; mid++) {
        get(h, 1, mid, "a");
        out = expect_upstream(h, &m);
        assert_string_equal(option_texts(&m, OPTION_ETAG), "|v1");
        answer_with(h, &out, CODE_VALID, OPTIONS(UINT(OPTION_MAX_AGE, 0)), NULL);
        expect_client(h, 1, CODE_CONTENT, &m);
        assert_payload(&m, "body");
    }
}

static void a_valid_that_was_not_asked_for_is_an_error(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    get(h, 1, 1, "a");
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_VALID, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_BAD_GATEWAY, &m);
}

/* It was changed while the origin was asked about it: the 2.03 says nothing about what is gone. */
static void a_validated_answer_may_have_gone_meanwhile(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out, again;

    fetch_through(h, 1, 1, A, OPTIONS(TEXT(OPTION_ETAG, "v1"), UINT(OPTION_MAX_AGE, 10)), "body");
    harness_advance(h, 11 * SECOND_US);
    get(h, 1, 2, "a");
    out = expect_upstream(h, &m);
    assert_true(message_has(&m, SLOT_ETAG));
    invalidate(h, 1, CODE_PUT, CODE_CHANGED);
    answer_with(h, &out, CODE_VALID, OPTIONS(UINT(OPTION_MAX_AGE, 60)), NULL);
    again = expect_upstream(h, &m);
    assert_false(message_has(&m, SLOT_ETAG));
    answer_with(h, &again, CODE_CONTENT, AGE(60), "new");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "new");
    expect_miss(h, 3, A); /* it began before the change */
}

/* ---- invalidation ---- */

static void unsafe_methods_end_what_is_stored(void **state)
{
    static const uint8_t methods[] = {CODE_PUT, CODE_POST, CODE_DELETE, CODE_PATCH, CODE_IPATCH};
    static const uint8_t codes[] = {CODE_CHANGED, CODE_CREATED, CODE_DELETED, CODE_CHANGED,
                                    CODE_CHANGED};
    const struct opt *cbor = OPTIONS(PATH("a"), UINT(OPTION_ACCEPT, 60));
    struct harness *h = *state;
    struct message m;
    struct sent out;
    uint16_t mid = 0;

    for (unsigned i = 0; i < 5; i++) {
        fetch_through(h, 1, mid++, A, AGE(60), "plain");
        fetch_through(h, 1, mid++, cbor, AGE(60), "cbor");
        ask_with(h, 1, mid++, CODE_FETCH, A, "body");
        out = expect_upstream(h, &m);
        answer_with(h, &out, CODE_CONTENT, AGE(60), "part");
        expect_client(h, 1, CODE_CONTENT, &m);

        invalidate(h, mid++, methods[i], CODE_NOT_FOUND); /* it failed: nothing has changed */
        expect_hit(h, 1, mid++, A, "plain");
        invalidate(h, mid++, methods[i], codes[i]);
        expect_miss(h, mid++, A);
        expect_miss(h, mid++, cbor);
        ask_with(h, 1, mid++, CODE_FETCH, A, "body");
        out = expect_upstream(h, &m);
        answer_with(h, &out, CODE_CONTENT, AGE(0), "part");
        expect_client(h, 1, CODE_CONTENT, &m);
    }
    assert_int_equal(COUNTER(h, cache_invalidations), 15);
}

static void other_resources_stay(void **state)
{
    struct harness *h = *state;

    fetch_through(h, 1, 1, OPTIONS(PATH("a"), PATH("b")), AGE(60), "below");
    fetch_through(h, 1, 2, OPTIONS(PATH("a"), TEXT(OPTION_URI_QUERY, "q")), AGE(60), "query");
    fetch_through(h, 1, 3, NO_OPTIONS, AGE(60), "above");
    invalidate(h, 1, CODE_PUT, CODE_CHANGED);
    expect_hit(h, 2, 1, OPTIONS(PATH("a"), PATH("b")), "below");
    expect_hit(h, 2, 2, OPTIONS(PATH("a"), TEXT(OPTION_URI_QUERY, "q")), "query");
    expect_hit(h, 2, 3, NO_OPTIONS, "above");
}

static void a_change_through_a_stripped_route_is_the_same_resource(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 1, A, AGE(60), "one");
    ask_with(h, 1, 2, CODE_PUT, OPTIONS(PATH("s"), PATH("t"), PATH("a")), NULL);
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CHANGED, &m);
    expect_miss(h, 3, A);
}

static void what_was_on_its_way_when_it_changed_is_not_kept(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out, late;

    get(h, 1, 1, "a");
    late = expect_upstream(h, &m);
    invalidate(h, 1, CODE_PUT, CODE_CHANGED);
    get(h, 2, 1, "a"); /* it must not get what may be from before */
    out = expect_upstream(h, &m);
    answer_with(h, &late, CODE_CONTENT, AGE(60), "old");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "old"); /* it had asked before */
    get(h, 4, 1, "a");
    harness_silent(h); /* joined with client 2 */
    answer_with(h, &out, CODE_CONTENT, AGE(60), "new");
    expect_client(h, 2, CODE_CONTENT, &m);
    assert_payload(&m, "new");
    expect_client(h, 4, CODE_CONTENT, &m);
    assert_payload(&m, "new");
    expect_hit(h, 1, 2, A, "new");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_is_served_until_its_max_age),
        TEST(without_max_age_it_is_a_minute),
        TEST(max_age_zero_is_not_served_again),
        TEST(the_longest_max_age_does_not_overflow),
        TEST(errors_are_kept_where_the_rfc_says_so),
        TEST(a_challenge_is_for_one_client),
        TEST(a_foreign_echo_bypasses_the_cache),
        TEST(conditions_bypass_the_cache),
        TEST(every_option_that_counts_is_in_the_key),
        TEST(what_belongs_to_one_hop_is_not_in_the_key),
        TEST(options_that_are_no_cache_key_do_not_matter),
        TEST(methods_and_payloads_are_in_the_key),
        TEST(a_payload_is_never_taken_for_options),
        TEST(upstreams_do_not_mix),
        TEST(a_client_with_the_etag_gets_valid),
        TEST(a_stale_answer_is_revalidated),
        TEST(an_answer_with_etag_but_no_age_is_always_asked_about),
        TEST(a_valid_that_was_not_asked_for_is_an_error),
        TEST(a_validated_answer_may_have_gone_meanwhile),
        TEST(unsafe_methods_end_what_is_stored),
        TEST(other_resources_stay),
        TEST(a_change_through_a_stripped_route_is_the_same_resource),
        TEST(what_was_on_its_way_when_it_changed_is_not_kept),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
