/* Resources that the gateway holds, in one worker: what RFC 7252 says of methods, preconditions and
 * representations. */
#include "tests/unit/resource_harness.h"

#define SMALL_YAML                                               \
    RESOURCE_YAML_HEAD                                           \
    "limits: {amplification: 0, body: 16KiB}\n"                  \
    "routes:\n"                                                  \
    "  - path: /few\n"                                           \
    "    resources: {max: 3}\n"                                  \
    "  - path: /small\n"                                         \
    "    resources: {size: 64KiB}\n"                             \
    "  - path: /fixed\n"                                         \
    "    resources: {create: false}\n"                           \
    "  - path: /text\n"                                          \
    "    resources: {formats: [text/plain, application/json]}\n" \
    "  - {path: /a%20b, host: one.example, resources: {}}\n"     \
    "  - {path: /a%20b, host: two.example, resources: {}}\n"

static int start(void **state)
{
    resource_start(state, RESOURCE_YAML);
    return 0;
}

static int start_small(void **state)
{
    resource_start(state, SMALL_YAML);
    return 0;
}

static int stop(void **state)
{
    resource_end(*state);
    return 0;
}

/* ---- life ---- */

static void a_resource_is_made_replaced_and_removed(void **state)
{
    struct harness *h = *state;
    struct message m;

    gets_code(h, 1, "shared/a", CODE_NOT_FOUND);
    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "one", CODE_CREATED);
    gets_ok(h, 2, "shared/a", "one");
    puts_ok(h, 2, "shared/a", FORMAT_TEXT, "two", CODE_CHANGED);
    gets_ok(h, 1, "shared/a", "two");
    gets_code(h, 1, "shared", CODE_NOT_FOUND);
    gets_code(h, 1, "shared/a/b", CODE_NOT_FOUND);
    assert_int_equal(usage_of(h).resources, 1);
    for (unsigned i = 0; i < 2; i++) { /* RFC 7252 5.8.4: the second time nothing is there */
        client_deletes(h, 1, "shared/a");
        expect_at_client(h, 1, CODE_DELETED, &m);
        assert_int_equal(m.payload_length, 0);
        gets_code(h, 2, "shared/a", CODE_NOT_FOUND);
    }
    assert_int_equal(usage_of(h).resources, 0);
    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "three", CODE_CREATED);
    gets_ok(h, 1, "shared/a", "three");
}

static void the_route_itself_and_an_empty_representation(void **state)
{
    struct harness *h = *state;

    puts_ok(h, 1, "shared", FORMAT_TEXT, "top", CODE_CREATED);
    puts_ok(h, 1, "shared/deep/er", -1, "", CODE_CREATED);
    gets_ok(h, 1, "shared", "top");
    gets_ok(h, 1, "shared/deep/er", "");
    gets_code(h, 1, "shared/deep", CODE_NOT_FOUND);
}

static void what_is_held_does_not_age(void **state)
{
    struct harness *h = *state;
    struct message m;

    puts_ok(h, 1, "shared/a", FORMAT_JSON, "{}", CODE_CREATED);
    puts_ok(h, 1, "shared/b", -1, "raw", CODE_CREATED);
    for (unsigned i = 0; i < 2; i++) {
        client_gets(h, 1, "shared/a");
        expect_at_client(h, 1, CODE_CONTENT, &m);
        assert_int_equal(option_of(&m, SLOT_CONTENT_FORMAT), FORMAT_JSON);
        assert_false(message_has(&m, SLOT_MAX_AGE));
        assert_int_equal(m.first[SLOT_ETAG].length, 8);
        client_gets(h, 1, "shared/b");
        expect_at_client(h, 1, CODE_CONTENT, &m);
        assert_false(message_has(&m, SLOT_CONTENT_FORMAT));
        harness_advance(h, 100 * SECOND_US);
    }
}

static void other_methods_are_not_allowed(void **state)
{
    static const uint8_t codes[] = {CODE_POST, CODE_FETCH, CODE_PATCH, CODE_IPATCH};
    struct harness *h = *state;
    struct message m;

    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "one", CODE_CREATED);
    for (unsigned i = 0; i < sizeof(codes); i++) {
        CLIENT(h, 1, .type = TYPE_CON, .code = codes[i], .path = "shared/a", .payload = "x",
               .payload_length = 1);
        expect_at_client(h, 1, CODE_METHOD_NOT_ALLOWED, &m);
        /* Nor is the first block of a long one asked for more. */
        CLIENT(h, 1, .type = TYPE_CON, .code = codes[i], .path = "shared/a",
               OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 0)), .payload = "0123456789abcdef",
               .payload_length = 16);
        expect_at_client(h, 1, CODE_METHOD_NOT_ALLOWED, &m);
    }
    gets_ok(h, 1, "shared/a", "one");
}

static void critical_options_are_understood_or_refused(void **state)
{
    static const uint8_t codes[] = {CODE_GET, CODE_PUT, CODE_DELETE, CODE_POST};
    struct harness *h = *state;
    struct message m;

    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "one", CODE_CREATED);
    for (unsigned i = 0; i < sizeof(codes); i++) {
        CLIENT(h, 1, .type = TYPE_CON, .code = codes[i], .path = "shared/a",
               OPTIONS_OF(text_option(65001, "x")));
        expect_at_client(h, 1, CODE_BAD_OPTION, &m);
        assert_payload(&m, "option 65001 not supported", 26);
        CLIENT(h, 1, .type = TYPE_NON, .code = codes[i], .path = "shared/a",
               OPTIONS_OF(text_option(65001, "x")));
        expect_at_client(h, 1, CODE_EMPTY, &m);
        assert_int_equal(m.type, TYPE_RST);
    }
    gets_ok(h, 1, "shared/a", "one");
    /* A query names no other resource; an elective option does no harm. */
    CLIENT(h, 1, .type = TYPE_CON, .code = CODE_GET, .path = "shared/a",
           OPTIONS_OF(text_option(OPTION_URI_QUERY, "x=1"), addition_uint(OPTION_HOP_LIMIT, 1),
                      text_option(65000, "x")));
    expect_at_client(h, 1, CODE_CONTENT, &m);
}

/* ---- validation and preconditions ---- */

static uint8_t code_of(struct harness *h, uint8_t method, const char *path,
                       const struct addition *options, unsigned count)
{
    struct message m;

    CLIENT(h, 1, .type = TYPE_CON, .code = method, .path = path, .options = options,
           .option_count = count, .payload = method == CODE_PUT ? "new" : NULL,
           .payload_length = method == CODE_PUT ? 3 : 0);
    harness_expect(h, &m);
    harness_silent(h);
    return m.code;
}

static void a_client_that_has_it_hears_that_it_is_valid(void **state)
{
    struct harness *h = *state;
    struct etag first, second, again;
    struct message m;

    first = puts_ok(h, 1, "shared/a", FORMAT_TEXT, "one", CODE_CREATED);
    second = puts_ok(h, 1, "shared/a", FORMAT_TEXT, "two", CODE_CHANGED);
    again = puts_ok(h, 1, "shared/a", FORMAT_TEXT, "one", CODE_CHANGED);
    /* Equal bytes of another time: between the two it has been something else. */
    assert_false(etag_equal(&first, &again));
    assert_false(etag_equal(&second, &again));
    CLIENT(h, 1, .type = TYPE_CON, .code = CODE_GET, .path = "shared/a",
           OPTIONS_OF(addition_bytes(OPTION_ETAG, first.bytes, 8),
                      addition_bytes(OPTION_ETAG, again.bytes, 8)));
    expect_at_client(h, 1, CODE_VALID, &m);
    assert_int_equal(m.payload_length, 0);
    assert_memory_equal(m.first[SLOT_ETAG].value, again.bytes, 8);
    CLIENT(h, 1, .type = TYPE_CON, .code = CODE_GET, .path = "shared/a",
           OPTIONS_OF(addition_bytes(OPTION_ETAG, first.bytes, 8)));
    expect_at_client(h, 1, CODE_CONTENT, &m);
}

static void preconditions_hold_or_nothing_happens(void **state)
{
    struct harness *h = *state;
    struct addition none = addition_bytes(OPTION_IF_NONE_MATCH, "", 0);
    struct addition any = addition_bytes(OPTION_IF_MATCH, "", 0);
    struct addition other = addition_bytes(OPTION_IF_MATCH, "12345678", 8);
    struct addition shorter, match[2];
    struct etag etag;

    assert_int_equal(code_of(h, CODE_PUT, "shared/a", &any, 1), CODE_PRECONDITION_FAILED);
    assert_int_equal(code_of(h, CODE_PUT, "shared/a", &other, 1), CODE_PRECONDITION_FAILED);
    assert_int_equal(code_of(h, CODE_DELETE, "shared/a", &any, 1), CODE_PRECONDITION_FAILED);
    gets_code(h, 1, "shared/a", CODE_NOT_FOUND);
    assert_int_equal(code_of(h, CODE_PUT, "shared/a", &none, 1), CODE_CREATED);
    assert_int_equal(code_of(h, CODE_PUT, "shared/a", &none, 1), CODE_PRECONDITION_FAILED);
    assert_int_equal(code_of(h, CODE_DELETE, "shared/a", &none, 1), CODE_PRECONDITION_FAILED);
    assert_int_equal(code_of(h, CODE_PUT, "shared/a", &any, 1), CODE_CHANGED);

    etag = puts_ok(h, 1, "shared/a", -1, "old", CODE_CHANGED);
    match[0] = other;
    match[1] = addition_bytes(OPTION_IF_MATCH, etag.bytes, 8);
    shorter = addition_bytes(OPTION_IF_MATCH, etag.bytes, 7);
    assert_int_equal(code_of(h, CODE_PUT, "shared/a", &other, 1), CODE_PRECONDITION_FAILED);
    assert_int_equal(code_of(h, CODE_PUT, "shared/a", &shorter, 1), CODE_PRECONDITION_FAILED);
    assert_int_equal(code_of(h, CODE_DELETE, "shared/a", &other, 1), CODE_PRECONDITION_FAILED);
    gets_ok(h, 1, "shared/a", "old");
    assert_int_equal(code_of(h, CODE_PUT, "shared/a", match, 2), CODE_CHANGED);
    gets_ok(h, 1, "shared/a", "new");
    /* The state that it was about has gone. */
    assert_int_equal(code_of(h, CODE_DELETE, "shared/a", match, 2), CODE_PRECONDITION_FAILED);
    assert_int_equal(code_of(h, CODE_GET, "shared/a", match, 2), CODE_PRECONDITION_FAILED);
    assert_int_equal(code_of(h, CODE_GET, "shared/a", &any, 1), CODE_CONTENT);
    assert_int_equal(code_of(h, CODE_DELETE, "shared/a", &any, 1), CODE_DELETED);
}

static void a_client_gets_what_it_accepts(void **state)
{
    struct harness *h = *state;
    struct addition text = addition_uint(OPTION_ACCEPT, FORMAT_TEXT);
    struct addition json = addition_uint(OPTION_ACCEPT, FORMAT_JSON);

    puts_ok(h, 1, "shared/a", FORMAT_JSON, "{}", CODE_CREATED);
    puts_ok(h, 1, "shared/b", -1, "raw", CODE_CREATED);
    assert_int_equal(code_of(h, CODE_GET, "shared/a", &json, 1), CODE_CONTENT);
    assert_int_equal(code_of(h, CODE_GET, "shared/a", &text, 1), CODE_NOT_ACCEPTABLE);
    assert_int_equal(code_of(h, CODE_GET, "shared/b", &text, 1), CODE_NOT_ACCEPTABLE);
}

static void a_duplicate_is_not_done_again(void **state)
{
    struct harness *h = *state;
    struct message first, again;

    for (unsigned i = 0; i < 2; i++)
        CLIENT(h, 1, .type = TYPE_CON, .code = CODE_PUT, .mid = 7, .path = "shared/a",
               OPTIONS_OF(addition_bytes(OPTION_IF_NONE_MATCH, "", 0)), .payload = "one",
               .payload_length = 3);
    expect_at_client(h, 1, CODE_CREATED, &first);
    expect_at_client(h, 1, CODE_CREATED, &again);
    assert_int_equal(first.length, again.length);
    assert_memory_equal(first.data, again.data, first.length);
    puts_ok(h, 2, "shared/a", -1, "two", CODE_CHANGED);
    CLIENT(h, 1, .type = TYPE_CON, .code = CODE_PUT, .mid = 7, .path = "shared/a",
           OPTIONS_OF(addition_bytes(OPTION_IF_NONE_MATCH, "", 0)), .payload = "one",
           .payload_length = 3);
    expect_at_client(h, 1, CODE_CREATED, &again);
    gets_ok(h, 2, "shared/a", "two");
    assert_int_equal(worker_counters(h->worker)->resource_writes, 2);
}

/* ---- limits ---- */

static void there_are_as_many_as_there_may_be(void **state)
{
    struct harness *h = *state;
    struct message m;
    char path[16];

    for (unsigned i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "few/%u", i);
        puts_ok(h, 1, path, -1, "x", CODE_CREATED);
    }
    client_puts(h, 1, "few/3", -1, "x");
    expect_at_client(h, 1, CODE_SERVICE_UNAVAILABLE, &m);
    assert_true(message_has(&m, SLOT_MAX_AGE));
    gets_code(h, 1, "few/3", CODE_NOT_FOUND);
    puts_ok(h, 1, "few/2", -1, "y", CODE_CHANGED);
    puts_ok(h, 1, "small/1", -1, "x", CODE_CREATED); /* another route's */
    client_deletes(h, 1, "few/0");
    expect_at_client(h, 1, CODE_DELETED, &m);
    puts_ok(h, 1, "few/3", -1, "x", CODE_CREATED);
    assert_int_equal(worker_counters(h->worker)->resources_refused, 1);
}

/* Sends a body in blocks of 1 KiB and returns the code of the last answer. */
static uint8_t put_long(struct harness *h, const char *path, const uint8_t *body, size_t length,
                        struct message *m)
{
    for (uint32_t at = 0; at < length; at += 1024) {
        bool more = at + 1024 < length;

        CLIENT(h, 1, .type = TYPE_CON, .code = CODE_PUT, .path = path,
               OPTIONS_OF(block_option(OPTION_BLOCK1, at / 1024, more, 6)), .payload = body + at,
               .payload_length = more ? 1024 : length - at);
        harness_expect(h, m);
        if (m->code == CODE_REQUEST_ENTITY_TOO_LARGE)
            break;
        assert_true(!more || m->code == CODE_CONTINUE);
        assert_block(m, SLOT_BLOCK1, at / 1024, more, 6);
    }
    harness_silent(h);
    return m->code;
}

static void names_and_representations_have_a_size(void **state)
{
    struct harness *h = *state;
    const uint32_t each = 16 * 1024 - 8; /* of the name, "/small/N", 8 bytes */
    static uint8_t body[17 * 1024];
    struct message m;
    char path[16];

    for (unsigned i = 0; i < 4; i++) { /* all of it, to the byte */
        snprintf(path, sizeof(path), "small/%u", i);
        assert_int_equal(put_long(h, path, body, each, &m), CODE_CREATED);
    }
    assert_true(usage_of(h).assembly_bytes == 0);
    client_puts(h, 1, "small/9", -1, "");
    expect_at_client(h, 1, CODE_SERVICE_UNAVAILABLE, &m);
    assert_int_equal(put_long(h, "small/3", body, each + 1, &m), CODE_SERVICE_UNAVAILABLE);
    assert_int_equal(put_long(h, "small/3", body, each - 9, &m), CODE_CHANGED);
    assert_int_equal(put_long(h, "small/3", body, each, &m), CODE_CHANGED); /* it grows again */
    assert_int_equal(put_long(h, "small/3", body, each - 8, &m), CODE_CHANGED);
    client_puts(h, 1, "small/9", -1, "x");
    expect_at_client(h, 1, CODE_SERVICE_UNAVAILABLE, &m);
    puts_ok(h, 1, "small/9", -1, "", CODE_CREATED);
    client_puts(h, 1, "small/9", -1, "x");
    expect_at_client(h, 1, CODE_SERVICE_UNAVAILABLE, &m);
    client_deletes(h, 1, "small/0");
    expect_at_client(h, 1, CODE_DELETED, &m);
    puts_ok(h, 1, "small/9", -1, "x", CODE_CHANGED);
}

static void a_body_beyond_the_limit_is_too_large(void **state)
{
    struct harness *h = *state;
    static uint8_t body[17 * 1024];
    struct message m;

    assert_int_equal(put_long(h, "few/a", body, 16 * 1024 + 1, &m), CODE_REQUEST_ENTITY_TOO_LARGE);
    assert_int_equal(option_of(&m, SLOT_SIZE1), 16 * 1024);
    gets_code(h, 1, "few/a", CODE_NOT_FOUND);
    assert_int_equal(put_long(h, "few/a", body, 16 * 1024, &m), CODE_CREATED);
}

static void nothing_is_made_where_nothing_may_be(void **state)
{
    struct harness *h = *state;
    struct message m;

    client_puts(h, 1, "fixed/a", -1, "x");
    expect_at_client(h, 1, CODE_METHOD_NOT_ALLOWED, &m);
    client_deletes(h, 1, "fixed/a");
    expect_at_client(h, 1, CODE_METHOD_NOT_ALLOWED, &m);
    gets_code(h, 1, "fixed/a", CODE_NOT_FOUND);
}

static void a_route_may_want_certain_formats(void **state)
{
    struct harness *h = *state;
    struct message m;

    client_puts(h, 1, "text/a", -1, "x");
    expect_at_client(h, 1, CODE_UNSUPPORTED_CONTENT_FORMAT, &m);
    client_puts(h, 1, "text/a", 42, "x");
    expect_at_client(h, 1, CODE_UNSUPPORTED_CONTENT_FORMAT, &m);
    gets_code(h, 1, "text/a", CODE_NOT_FOUND);
    puts_ok(h, 1, "text/a", FORMAT_TEXT, "x", CODE_CREATED);
    puts_ok(h, 1, "text/a", FORMAT_JSON, "{}", CODE_CHANGED);
}

/* ---- names ---- */

static uint8_t at_host(struct harness *h, uint8_t method, const char *host, const char *path,
                       const char *payload, struct message *m)
{
    CLIENT(h, 1, .type = TYPE_CON, .code = method, .path = path,
           OPTIONS_OF(text_option(OPTION_URI_HOST, host)), .payload = payload,
           .payload_length = payload ? strlen(payload) : 0);
    harness_expect(h, m);
    return m->code;
}

static void hosts_have_resources_of_their_own(void **state)
{
    struct harness *h = *state;
    struct message m;

    assert_int_equal(at_host(h, CODE_PUT, "one.example", "a b/x", "1", &m), CODE_CREATED);
    assert_int_equal(at_host(h, CODE_GET, "two.example", "a b/x", NULL, &m), CODE_NOT_FOUND);
    assert_int_equal(at_host(h, CODE_PUT, "TWO.example", "a b/x", "2", &m), CODE_CREATED);
    assert_int_equal(at_host(h, CODE_GET, "One.Example", "a b/x", NULL, &m), CODE_CONTENT);
    assert_payload(&m, "1", 1);
    gets_code(h, 1, "a b/x", CODE_NOT_FOUND);
}

/* Two bodies at a time, which differ in nothing but the host. */
static void bodies_for_different_hosts_are_not_mixed(void **state)
{
    static const char *const hosts[] = {"one.example", "two.example"};
    struct harness *h = *state;
    struct message m;

    for (uint32_t number = 0; number < 3; number++)
        for (unsigned i = 0; i < 2; i++) {
            CLIENT(h, 1, .type = TYPE_CON, .code = CODE_PUT, .path = "a b/x",
                   OPTIONS_OF(text_option(OPTION_URI_HOST, hosts[i]),
                              block_option(OPTION_BLOCK1, number, number < 2, 0)),
                   .payload = i ? "2222222222222222" : "1111111111111111", .payload_length = 16);
            expect_at_client(h, 1, number < 2 ? CODE_CONTINUE : CODE_CREATED, &m);
        }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(at_host(h, CODE_GET, hosts[i], "a b/x", NULL, &m), CODE_CONTENT);
        assert_int_equal(m.payload_length, 48);
        assert_int_equal(m.payload[0], i ? '2' : '1');
        assert_int_equal(m.payload[47], i ? '2' : '1');
    }
}

static void segments_are_told_apart(void **state)
{
    struct harness *h = *state;
    char path[600];
    struct message m;

    puts_ok(h, 1, "shared/a%2Fb", -1, "escape", CODE_CREATED); /* a percent sign in the segment */
    gets_code(h, 1, "shared/a/b", CODE_NOT_FOUND);
    CLIENT(h, 1, .type = TYPE_CON, .code = CODE_PUT,
           OPTIONS_OF(text_option(OPTION_URI_PATH, "shared"), text_option(OPTION_URI_PATH, "a/b")),
           .payload = "slash", .payload_length = 5);
    expect_at_client(h, 1, CODE_CREATED, &m);
    puts_ok(h, 1, "shared/a/b", -1, "two", CODE_CREATED);
    gets_ok(h, 1, "shared/a%2Fb", "escape");
    gets_ok(h, 1, "shared/a/b", "two");
    gets_code(h, 1, "shared/A/b", CODE_NOT_FOUND);
    /* As long as its escapes: more than a name may have. */
    snprintf(path, sizeof(path), "shared/%0200d/%0200d", 0, 0);
    puts_ok(h, 1, path, -1, "long", CODE_CREATED);
    gets_ok(h, 1, path, "long");
    memset(path + 7, '\x01', 200);
    memset(path + 208, '\x01', 200);
    client_puts(h, 1, path, -1, "x");
    expect_at_client(h, 1, CODE_BAD_REQUEST, &m);
    gets_code(h, 1, path, CODE_NOT_FOUND);
}

#define TEST(name)  cmocka_unit_test_setup_teardown(name, start, stop)
#define SMALL(name) cmocka_unit_test_setup_teardown(name, start_small, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_resource_is_made_replaced_and_removed),
        TEST(the_route_itself_and_an_empty_representation),
        TEST(what_is_held_does_not_age),
        TEST(other_methods_are_not_allowed),
        TEST(critical_options_are_understood_or_refused),
        TEST(a_client_that_has_it_hears_that_it_is_valid),
        TEST(preconditions_hold_or_nothing_happens),
        TEST(a_client_gets_what_it_accepts),
        TEST(a_duplicate_is_not_done_again),
        SMALL(there_are_as_many_as_there_may_be),
        SMALL(names_and_representations_have_a_size),
        SMALL(a_body_beyond_the_limit_is_too_large),
        SMALL(nothing_is_made_where_nothing_may_be),
        SMALL(a_route_may_want_certain_formats),
        SMALL(hosts_have_resources_of_their_own),
        SMALL(bodies_for_different_hosts_are_not_mixed),
        TEST(segments_are_told_apart),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
