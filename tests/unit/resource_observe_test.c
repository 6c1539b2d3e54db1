/* Held resources that are observed, and those that take blocks; .well-known/core. One worker. */
#include "tests/unit/resource_harness.h"

static int start(void **state)
{
    resource_start(state, RESOURCE_YAML);
    return 0;
}

static int stop(void **state)
{
    resource_end(*state);
    return 0;
}

/* ---- observing ---- */

static void turn(struct harness *h)
{
    harness_advance(h, 2000);
}

/* Its Observe number; the message is acknowledged when it wants to be. */
static int64_t expect_notification(struct harness *h, unsigned n, const char *payload)
{
    struct flow flow = harness_client(h, n);
    struct message m;
    uint8_t ack[4];

    expect_at_client(h, n, CODE_CONTENT, &m);
    assert_payload(&m, payload, strlen(payload));
    assert_true(message_has(&m, SLOT_OBSERVE));
    assert_false(message_has(&m, SLOT_MAX_AGE));
    assert_int_equal(m.first[SLOT_ETAG].length, 8);
    if (m.type == TYPE_CON) {
        message_write_empty(ack, TYPE_ACK, m.mid);
        harness_give(h, &flow, ack, sizeof(ack));
    }
    return message_uint(&m, SLOT_OBSERVE, 0);
}

static void each_change_is_notified(void **state)
{
    struct harness *h = *state;
    int64_t numbers[12];
    char payload[8];

    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "0", CODE_CREATED);
    client_watches(h, 2, "shared/a");
    numbers[0] = expect_notification(h, 2, "0");
    client_watches(h, 3, "shared/a");
    (void)expect_notification(h, 3, "0");
    assert_int_equal(usage_of(h).observations, 1);
    assert_int_equal(usage_of(h).relations, 2);
    for (unsigned i = 1; i < 12; i++) {
        snprintf(payload, sizeof(payload), "%u", i);
        puts_ok(h, 1, "shared/a", FORMAT_TEXT, payload, CODE_CHANGED);
        turn(h);
        numbers[i] = expect_notification(h, 2, payload);
        assert_in_range((numbers[i] - numbers[i - 1]) & 0xffffff, 1, 0x7fffff);
        (void)expect_notification(h, 3, payload);
    }
    puts_ok(h, 1, "shared/b", FORMAT_TEXT, "other", CODE_CREATED);
    turn(h);
    harness_silent(h);
}

static void removal_is_the_last_word(void **state)
{
    struct harness *h = *state;
    struct message m;

    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "one", CODE_CREATED);
    for (unsigned n = 2; n < 5; n++) {
        client_watches(h, n, "shared/a");
        (void)expect_notification(h, n, "one");
    }
    client_deletes(h, 1, "shared/a");
    expect_at_client(h, 1, CODE_DELETED, &m);
    turn(h);
    for (unsigned n = 2; n < 5; n++) {
        expect_at_client(h, n, CODE_NOT_FOUND, &m);
        assert_int_equal(m.type, TYPE_CON);
        assert_false(message_has(&m, SLOT_OBSERVE));
    }
    assert_int_equal(usage_of(h).relations, 0);
    assert_int_equal(usage_of(h).observations, 0);
    /* What is made anew is another one: nobody observes it. */
    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "two", CODE_CREATED);
    turn(h);
    harness_silent(h);
}

static void made_again_at_once(void **state)
{
    struct harness *h = *state;
    struct message m;
    int64_t before, after;

    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "one", CODE_CREATED);
    client_watches(h, 2, "shared/a");
    before = expect_notification(h, 2, "one");
    client_deletes(h, 1, "shared/a");
    expect_at_client(h, 1, CODE_DELETED, &m);
    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "two", CODE_CREATED); /* nobody has been told yet */
    client_watches(h, 3, "shared/a");
    (void)expect_notification(h, 3, "two");
    turn(h);
    expect_at_client(h, 2, CODE_NOT_FOUND, &m);
    client_watches(h, 2, "shared/a");
    after = expect_notification(h, 2, "two");
    assert_in_range((after - before) & 0xffffff, 1, 0x7fffff); /* RFC 7641 4.4 */
    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "three", CODE_CHANGED);
    turn(h);
    (void)expect_notification(h, 3, "three");
    (void)expect_notification(h, 2, "three");
}

static void an_observer_may_leave(void **state)
{
    struct harness *h = *state;
    struct flow flow = harness_client(h, 3);
    uint8_t bytes[4];
    struct message m;

    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "one", CODE_CREATED);
    client_watches(h, 2, "shared/a");
    (void)expect_notification(h, 2, "one");
    client_watches(h, 3, "shared/a");
    (void)expect_notification(h, 3, "one");
    CLIENT(h, 2, .type = TYPE_CON, .code = CODE_GET, .path = "shared/a",
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 1)));
    expect_at_client(h, 2, CODE_CONTENT, &m);
    assert_false(message_has(&m, SLOT_OBSERVE));
    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "two", CODE_CHANGED);
    turn(h);
    expect_at_client(h, 3, CODE_CONTENT, &m);
    message_write_empty(bytes, TYPE_RST, m.mid);
    harness_give(h, &flow, bytes, sizeof(bytes));
    assert_int_equal(usage_of(h).relations, 0);
    assert_int_equal(usage_of(h).observations, 0);
    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "three", CODE_CHANGED);
    turn(h);
    harness_silent(h);
    client_watches(h, 3, "shared/a");
    (void)expect_notification(h, 3, "three");
}

static void what_is_not_there_cannot_be_observed(void **state)
{
    struct harness *h = *state;
    struct message m;

    client_watches(h, 2, "shared/a");
    expect_at_client(h, 2, CODE_NOT_FOUND, &m);
    puts_ok(h, 1, "shared/a", FORMAT_JSON, "{}", CODE_CREATED);
    CLIENT(h, 2, .type = TYPE_CON, .code = CODE_GET, .path = "shared/a",
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), addition_uint(OPTION_ACCEPT, FORMAT_TEXT)));
    expect_at_client(h, 2, CODE_NOT_ACCEPTABLE, &m);
    assert_int_equal(usage_of(h).relations, 0);
    assert_int_equal(usage_of(h).observations, 0);
    turn(h);
    harness_silent(h);
}

static void an_error_ends_what_the_token_observed(void **state)
{
    struct harness *h = *state;
    struct message m;

    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "one", CODE_CREATED);
    client_watches(h, 2, "shared/a");
    (void)expect_notification(h, 2, "one");
    client_watches(h, 2, "shared/b"); /* the same token */
    expect_at_client(h, 2, CODE_NOT_FOUND, &m);
    assert_int_equal(usage_of(h).observations, 0);
    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "two", CODE_CHANGED);
    turn(h);
    harness_silent(h);
}

static void limited_start(void **state, const char *limits)
{
    char yaml[1024];

    snprintf(yaml, sizeof(yaml),
             RESOURCE_YAML_HEAD "limits: {amplification: 0, %s}\n"
                                "routes:\n  - {path: /shared, resources: {}}\n",
             limits);
    resource_start(state, yaml);
}

static int start_few(void **state)
{
    limited_start(state, "observations: 1, relations: 2");
    return 0;
}

static void beyond_a_limit_the_answer_is_without_observe(void **state)
{
    struct harness *h = *state;
    struct message m;

    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "one", CODE_CREATED);
    puts_ok(h, 1, "shared/b", FORMAT_TEXT, "bee", CODE_CREATED);
    client_watches(h, 2, "shared/a");
    (void)expect_notification(h, 2, "one");
    client_watches(h, 3, "shared/b"); /* no observation is left */
    expect_at_client(h, 3, CODE_CONTENT, &m);
    assert_false(message_has(&m, SLOT_OBSERVE));
    client_watches(h, 4, "shared/a");
    (void)expect_notification(h, 4, "one");
    client_watches(h, 5, "shared/a"); /* no relation is left */
    expect_at_client(h, 5, CODE_CONTENT, &m);
    assert_false(message_has(&m, SLOT_OBSERVE));
    client_deletes(h, 1, "shared/a");
    expect_at_client(h, 1, CODE_DELETED, &m);
    turn(h);
    expect_at_client(h, 2, CODE_NOT_FOUND, &m);
    expect_at_client(h, 4, CODE_NOT_FOUND, &m);
    harness_silent(h);
    client_watches(h, 3, "shared/b");
    (void)expect_notification(h, 3, "bee");
}

/* ---- blocks ---- */

static void put_blocks(struct harness *h, unsigned n, const char *path, const uint8_t *body,
                       size_t length, uint8_t szx, uint8_t code)
{
    uint32_t size = 16u << szx;
    struct message m;

    for (uint32_t at = 0; at < length; at += size) {
        bool more = at + size < length;

        CLIENT(h, n, .type = TYPE_CON, .code = CODE_PUT, .path = path,
               OPTIONS_OF(block_option(OPTION_BLOCK1, at / size, more, szx)), .payload = body + at,
               .payload_length = more ? size : length - at);
        expect_at_client(h, n, more ? CODE_CONTINUE : code, &m);
        assert_block(&m, SLOT_BLOCK1, at / size, more, szx);
    }
}

static void get_block(struct harness *h, unsigned n, const char *path, uint32_t number, uint8_t szx,
                      const uint8_t *body, size_t length)
{
    uint32_t size = 16u << szx, at = number * size;
    struct message m;

    CLIENT(h, n, .type = TYPE_CON, .code = CODE_GET, .path = path,
           OPTIONS_OF(block_option(OPTION_BLOCK2, number, false, szx)));
    expect_at_client(h, n, CODE_CONTENT, &m);
    assert_block(&m, SLOT_BLOCK2, number, at + size < length, szx);
    assert_payload(&m, body + at, length - at < size ? length - at : size);
    assert_int_equal(m.first[SLOT_ETAG].length, 8);
}

static void bodies_go_in_blocks_both_ways(void **state)
{
    struct harness *h = *state;
    static uint8_t first[3000], second[2500];
    struct message m;

    body_fill(first, sizeof(first), 1);
    body_fill(second, sizeof(second), 2);
    put_blocks(h, 1, "shared/a", first, sizeof(first), 5, CODE_CREATED);
    client_gets(h, 2, "shared/a");
    expect_at_client(h, 2, CODE_CONTENT, &m);
    assert_block(&m, SLOT_BLOCK2, 0, true, 6);
    assert_int_equal(option_of(&m, SLOT_SIZE2), sizeof(first));
    get_block(h, 2, "shared/a", 1, 6, first, sizeof(first));
    /* It changes meanwhile: who has begun gets the rest of what it was, others what it is. */
    put_blocks(h, 1, "shared/a", second, sizeof(second), 6, CODE_CHANGED);
    get_block(h, 2, "shared/a", 2, 6, first, sizeof(first));
    assert_true(usage_of(h).assembly_bytes > 0);
    for (uint32_t i = 0; i < 5; i++)
        get_block(h, 3, "shared/a", i, 5, second, sizeof(second));
    harness_silent(h);
}

static void half_a_body_changes_nothing(void **state)
{
    struct harness *h = *state;
    static const uint8_t block[1024];
    struct message m;

    puts_ok(h, 1, "shared/a", -1, "whole", CODE_CREATED);
    CLIENT(h, 1, .type = TYPE_CON, .code = CODE_PUT, .path = "shared/a",
           OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 6)), .payload = block,
           .payload_length = 1024);
    expect_at_client(h, 1, CODE_CONTINUE, &m);
    gets_ok(h, 2, "shared/a", "whole");
    CLIENT(h, 1, .type = TYPE_CON, .code = CODE_PUT, .path = "shared/a",
           OPTIONS_OF(block_option(OPTION_BLOCK1, 2, false, 6)), .payload = block,
           .payload_length = 10);
    expect_at_client(h, 1, CODE_REQUEST_ENTITY_INCOMPLETE, &m);
    gets_ok(h, 2, "shared/a", "whole");
}

static void a_notification_has_the_first_block(void **state)
{
    struct harness *h = *state;
    static uint8_t body[3000];
    struct message m;

    puts_ok(h, 1, "shared/a", -1, "short", CODE_CREATED);
    client_watches(h, 2, "shared/a");
    (void)expect_notification(h, 2, "short");
    body_fill(body, sizeof(body), 3);
    put_blocks(h, 1, "shared/a", body, sizeof(body), 6, CODE_CHANGED);
    turn(h);
    expect_at_client(h, 2, CODE_CONTENT, &m);
    assert_true(message_has(&m, SLOT_OBSERVE));
    assert_block(&m, SLOT_BLOCK2, 0, true, 6);
    get_block(h, 2, "shared/a", 1, 6, body, sizeof(body));
    get_block(h, 2, "shared/a", 2, 6, body, sizeof(body));
}

static int start_tight(void **state)
{
    limited_start(state, "body: 16KiB, assembly_memory: 64KiB, transfers: 256");
    return 0;
}

/* What clients are fetching when it is replaced or removed counts as what is put together; where
 * there is no room for that, they get what there is now. What is held is not touched. */
static void old_states_take_no_more_than_they_may(void **state)
{
    struct harness *h = *state;
    uint8_t body[1000];
    struct message m;
    unsigned i = 0;

    for (; i < 100; i++) {
        body_fill(body, sizeof(body), i);
        CLIENT(h, 1, .type = TYPE_CON, .code = CODE_PUT, .path = "shared/a", .payload = body,
               .payload_length = sizeof(body));
        expect_at_client(h, 1, i ? CODE_CHANGED : CODE_CREATED, &m);
        get_block(h, 100 + i, "shared/a", 0, 4, body, sizeof(body));
        assert_true(usage_of(h).assembly_bytes <= 64 * 1024);
        if (worker_counters(h->worker)->refused_transfers)
            break;
        get_block(h, 100 + i, "shared/a", 1, 4, body, sizeof(body));
    }
    assert_in_range(i, 40, 60);                                  /* 64 KiB of them */
    get_block(h, 100 + i, "shared/a", 1, 4, body, sizeof(body)); /* it is still there */
    body_fill(body, sizeof(body), 0);
    get_block(h, 100, "shared/a", 2, 4, body, sizeof(body)); /* the first one's, too */
    client_deletes(h, 1, "shared/a");
    expect_at_client(h, 1, CODE_DELETED, &m);
    get_block(h, 100, "shared/a", 3, 4, body, sizeof(body));
    assert_true(usage_of(h).assembly_bytes <= 64 * 1024);
}

static int start_wary(void **state)
{
    resource_start(state, RESOURCE_YAML_HEAD "routes:\n  - {path: /shared, resources: {}}\n");
    return 0;
}

static void an_unproven_client_is_challenged(void **state)
{
    struct harness *h = *state;
    static uint8_t body[1000];
    struct message m;

    CLIENT(h, 1, .type = TYPE_CON, .code = CODE_PUT, .path = "shared/a", .payload = body,
           .payload_length = sizeof(body));
    expect_at_client(h, 1, CODE_CREATED, &m);
    client_watches(h, 2, "shared/a");
    expect_at_client(h, 2, CODE_UNAUTHORIZED, &m);
    assert_true(message_has(&m, SLOT_ECHO));
    assert_int_equal(usage_of(h).relations, 0);
    assert_int_equal(usage_of(h).observations, 0);
    CLIENT(h, 2, .type = TYPE_CON, .code = CODE_GET, .path = "shared/a",
           OPTIONS_OF(
               addition_uint(OPTION_OBSERVE, 0),
               addition_bytes(OPTION_ECHO, m.first[SLOT_ECHO].value, m.first[SLOT_ECHO].length)));
    expect_at_client(h, 2, CODE_CONTENT, &m);
    assert_true(message_has(&m, SLOT_OBSERVE));
    assert_int_equal(usage_of(h).relations, 1);
}

/* ---- discovery ---- */

static void discovers(struct harness *h, const char *query, const char *links)
{
    struct addition option = text_option(OPTION_URI_QUERY, query);
    struct message m;

    CLIENT(h, 9, .type = TYPE_CON, .code = CODE_GET, .path = ".well-known/core", .options = &option,
           .option_count = query[0] != '\0');
    expect_at_client(h, 9, CODE_CONTENT, &m);
    assert_int_equal(option_of(&m, SLOT_CONTENT_FORMAT), 40);
    assert_payload(&m, links, strlen(links));
}

static void what_there_is_can_be_found(void **state)
{
    struct harness *h = *state;
    struct message m;

    discovers(h, "", "</shared>");
    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "x", CODE_CREATED);
    puts_ok(h, 1, "shared/b c", FORMAT_JSON, "{}", CODE_CREATED);
    puts_ok(h, 1, "shared/d", -1, "", CODE_CREATED);
    discovers(h, "", "</shared>,</shared/a>;obs;ct=0,</shared/b%20c>;obs;ct=50,</shared/d>;obs");
    discovers(h, "obs", "</shared/a>;obs;ct=0,</shared/b%20c>;obs;ct=50,</shared/d>;obs");
    discovers(h, "ct=50", "</shared/b%20c>;obs;ct=50");
    discovers(h, "ct=5*", "</shared/b%20c>;obs;ct=50");
    discovers(h, "href=/shared/d", "</shared/d>;obs");
    discovers(h, "href=/shared", "</shared>");
    discovers(h, "href=/shared/*",
              "</shared/a>;obs;ct=0,</shared/b%20c>;obs;ct=50,</shared/d>;obs");
    discovers(h, "rt=x", "");
    puts_ok(h, 1, "shared", FORMAT_TEXT, "top", CODE_CREATED);
    discovers(h, "href=/shared", "</shared>;obs;ct=0");
    client_deletes(h, 1, "shared/b c");
    expect_at_client(h, 1, CODE_DELETED, &m);
    discovers(h, "href=/shared/b%20c", "");
    CLIENT(h, 9, .type = TYPE_CON, .code = CODE_GET, .path = ".well-known/core",
           OPTIONS_OF(addition_uint(OPTION_ACCEPT, 0)));
    expect_at_client(h, 9, CODE_NOT_ACCEPTABLE, &m);
    CLIENT(h, 9, .type = TYPE_CON, .code = CODE_POST, .path = ".well-known/core");
    expect_at_client(h, 9, CODE_METHOD_NOT_ALLOWED, &m);
}

static void a_long_list_stays_the_same_while_it_is_fetched(void **state)
{
    struct harness *h = *state;
    static uint8_t all[70000];
    struct message m;
    size_t length = 0;
    char path[64];
    uint32_t number = 0;

    for (unsigned i = 0; i < 3000; i++) {
        snprintf(path, sizeof(path), "shared/%05u", i);
        puts_ok(h, 1 + i % 16, path, FORMAT_TEXT, "x", CODE_CREATED);
        h->count = h->taken = 0;
    }
    do {
        CLIENT(h, 9, .type = TYPE_CON, .code = CODE_GET, .path = ".well-known/core",
               OPTIONS_OF(block_option(OPTION_BLOCK2, number, false, 6)));
        expect_at_client(h, 9, CODE_CONTENT, &m);
        assert_true(length + m.payload_length < sizeof(all));
        memcpy(all + length, m.payload, m.payload_length);
        length += m.payload_length;
        snprintf(path, sizeof(path), "shared/%05u", number); /* it goes while the list is fetched */
        client_deletes(h, 1, path);
        expect_at_client(h, 1, CODE_DELETED, &m);
        number++;
    } while (length == number * 1024);
    all[length] = '\0';
    /* As many whole links as the longest body holds. */
    assert_in_range(length, 64 * 1024 - 32, 64 * 1024);
    assert_non_null(strstr((char *)all, "</shared/00000>;obs;ct=0,"));
    assert_non_null(strstr((char *)all, "</shared/00063>;obs;ct=0,"));
    assert_string_equal((char *)all + length - 5, ";ct=0");
    discovers(h, "href=/shared/02999", "</shared/02999>;obs;ct=0"); /* beyond the end of the list */
}

/* Lists are dear: they are made for clients that have proven their address, and so many a second.
 */
static void lists_do_not_take_all_time(void **state)
{
    struct harness *h = *state;
    unsigned served = 0, refused = 0;
    uint8_t echo[64];
    uint16_t echo_length;
    char path[64];
    struct message m;

    for (unsigned i = 0; i < 5000; i++) {
        snprintf(path, sizeof(path), "shared/%05u", i);
        puts_ok(h, 1 + i % 16, path, FORMAT_TEXT, "x", CODE_CREATED);
        h->count = h->taken = 0;
    }
    CLIENT(h, 9, .type = TYPE_CON, .code = CODE_GET, .path = ".well-known/core");
    expect_at_client(h, 9, CODE_UNAUTHORIZED, &m);
    echo_length = m.first[SLOT_ECHO].length;
    memcpy(echo, m.first[SLOT_ECHO].value, echo_length);
    for (unsigned i = 0; i < 200; i++) {
        CLIENT(h, 9, .type = TYPE_CON, .code = CODE_GET, .path = ".well-known/core",
               OPTIONS_OF(text_option(OPTION_URI_QUERY, "ct=7"),
                          addition_bytes(OPTION_ECHO, echo, echo_length)));
        harness_expect(h, &m);
        served += m.code == CODE_CONTENT;
        refused += m.code == CODE_SERVICE_UNAVAILABLE;
        harness_advance(h, 10000);
    }
    assert_int_equal(served + refused, 200);
    assert_in_range(served, 50, 120); /* of 4,096 links each, in two seconds */
    /* What names its resource is not refused for that. */
    discovers(h, "href=/shared/04999", "</shared/04999>;obs;ct=0");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_change_is_notified),
        TEST(removal_is_the_last_word),
        TEST(made_again_at_once),
        TEST(an_observer_may_leave),
        TEST(what_is_not_there_cannot_be_observed),
        TEST(an_error_ends_what_the_token_observed),
        cmocka_unit_test_setup_teardown(beyond_a_limit_the_answer_is_without_observe, start_few,
                                        stop),
        TEST(bodies_go_in_blocks_both_ways),
        TEST(half_a_body_changes_nothing),
        TEST(a_notification_has_the_first_block),
        cmocka_unit_test_setup_teardown(old_states_take_no_more_than_they_may, start_tight, stop),
        cmocka_unit_test_setup_teardown(an_unproven_client_is_challenged, start_wary, stop),
        TEST(what_there_is_can_be_found),
        TEST(a_long_list_stays_the_same_while_it_is_fetched),
        cmocka_unit_test_setup_teardown(lists_do_not_take_all_time, start_wary, stop),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
