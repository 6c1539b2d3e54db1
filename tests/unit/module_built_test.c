/* The modules that are shipped, and the one that docs/modules.md has, as they were built: opened by
 * the loader, in a worker. */
#include <errno.h>

#include "gateway/control/loader.h"
#include "tests/unit/proxy_harness.h"

#define BUILT_YAML                                                                              \
    "instance: unit\n"                                                                          \
    "interfaces:\n"                                                                             \
    "  - name: south\n"                                                                         \
    "    device: tap:unit0\n"                                                                   \
    "    addresses: [10.99.0.2/24]\n"                                                           \
    "listeners:\n"                                                                              \
    "  - uri: coap://10.99.0.2\n"                                                               \
    "observe: {confirm_every: 1000}\n"                                                          \
    "routes:\n"                                                                                 \
    "  - {path: /time, module: {file: " MODULES_DIR "/time.so}}\n"                              \
    "  - {path: /clock, module: {file: " MODULES_DIR "/time.so, options: settable}}\n"          \
    "  - {path: /async, module: {file: " MODULES_DIR "/async.so}}\n"                            \
    "  - {path: /deep/down/hello, module: {file: " MODULES_DIR "/hello.so, options: \"Hi\"}}\n" \
    "  - {path: /hello, module: {file: " MODULES_DIR "/hello.so}}\n"

/* 2026-02-28T23:59:58.4Z */
#define START_US (UINT64_C(1772323198) * SECOND_US + 400000)

static struct modules *loaded;

static void load(struct worker_setup *setup)
{
    assert_int_equal(loader_open(setup->config, stderr, &loaded), 0);
    assert_non_null(loaded);
    setup->modules = loaded;
    ((struct harness *)setup->io.context)->now = START_US;
}

static int set_up(void **state)
{
    struct harness *h = malloc(sizeof(*h));

    harness_start_prepared(h, BUILT_YAML, NULL, NULL, load);
    *state = h;
    return 0;
}

static int tear_down(void **state)
{
    struct harness *h = *state;

    harness_stop(h);
    loader_close(loaded);
    free(h);
    return 0;
}

static void expect_text(struct harness *h, unsigned client, uint8_t code, const char *text)
{
    struct message m;

    expect_at_client(h, client, code, &m);
    if (text)
        assert_payload(&m, text, strlen(text));
}

static void get(struct harness *h, const char *path, const char *query, uint8_t code,
                const char *text)
{
    CLIENT(h, 1, .code = CODE_GET, .path = path,
           .options = (const struct addition[]){text_option(OPTION_URI_QUERY, query ? query : "")},
           .option_count = query != NULL);
    expect_text(h, 1, code, text);
}

/* ---- time ---- */

static void test_time(void **state)
{
    struct harness *h = *state;
    struct message m;

    get(h, "time", NULL, CODE_CONTENT, "2026-02-28T23:59:58Z");
    get(h, "time", "secs", CODE_CONTENT, "1772323198");
    get(h, "time", "ticks", CODE_CONTENT, "1772323198400");
    get(h, "time", "minutes", CODE_BAD_REQUEST, NULL);
    get(h, "time/zone", NULL, CODE_NOT_FOUND, NULL);
    harness_advance(h, 1700000);
    get(h, "time", NULL, CODE_CONTENT, "2026-03-01T00:00:00Z");
    CLIENT(h, 1, .code = CODE_GET, .path = "time", OPTIONS_OF(addition_uint(OPTION_ACCEPT, 50)));
    expect_text(h, 1, CODE_NOT_ACCEPTABLE, NULL);
    CLIENT(h, 1, .code = CODE_GET, .path = "time");
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(option_of(&m, SLOT_MAX_AGE), 1);
    assert_int_equal(option_of(&m, SLOT_CONTENT_FORMAT), 0);
}

static void put(struct harness *h, const char *path, const char *text, uint8_t code)
{
    CLIENT(h, 1, .code = CODE_PUT, .path = path, .payload = text, .payload_length = strlen(text));
    expect_text(h, 1, code, NULL);
}

static void test_dates(void **state)
{
    static const struct {
        const char *seconds, *date;
    } cases[] = {
        {"0", "1970-01-01T00:00:00Z"},
        {"951782400", "2000-02-29T00:00:00Z"},
        {"951868800", "2000-03-01T00:00:00Z"},
        {"1709251199", "2024-02-29T23:59:59Z"},
        {"1735689599", "2024-12-31T23:59:59Z"},
        {"4107542400", "2100-03-01T00:00:00Z"},
        {"4107542399", "2100-02-28T23:59:59Z"},
        {"68169600", "1972-02-29T00:00:00Z"},
        {"253402300799", "9999-12-31T23:59:59Z"},
    };
    struct harness *h = *state;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put(h, "clock", cases[i].seconds, CODE_CHANGED);
        get(h, "clock", NULL, CODE_CONTENT, cases[i].date);
    }
    put(h, "clock", "253402300800", CODE_BAD_REQUEST);
    put(h, "clock", "99999999999999999999", CODE_BAD_REQUEST);
    put(h, "clock", "-1", CODE_BAD_REQUEST);
    put(h, "clock", "1e3", CODE_BAD_REQUEST);
    put(h, "clock", "", CODE_BAD_REQUEST);
    put(h, "time", "0", CODE_METHOD_NOT_ALLOWED);
    put(h, "clock", "1772323198", CODE_CHANGED);
}

static void test_time_changes_each_second(void **state)
{
    struct harness *h = *state;
    struct message m;

    CLIENT(h, 1, .type = TYPE_NON, .code = CODE_GET, .path = "time",
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text_option(OPTION_URI_QUERY, "secs")));
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_true(message_has(&m, SLOT_OBSERVE));
    for (unsigned i = 1; i <= 10; i++) {
        uint64_t at = (h->now / SECOND_US + 1) * SECOND_US;
        struct sent *sent;
        char text[16];

        harness_advance(h, SECOND_US);
        sent = expect_at_client(h, 1, CODE_CONTENT, &m);
        assert_true(sent->at_us >= at && sent->at_us - at <= 2000);
        snprintf(text, sizeof(text), "%llu", (unsigned long long)(at / SECOND_US));
        assert_payload(&m, text, strlen(text));
        harness_silent(h);
    }
}

/* ---- async ---- */

static void test_async(void **state)
{
    static const char *const refused[] = {"0", "3601", "99999", "5s", "-1", "", "a", "5=5"};
    struct harness *h = *state;
    struct message m;
    uint64_t begun = h->now;
    struct sent *sent;

    for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        get(h, "async", refused[i], CODE_BAD_REQUEST, NULL);
    put(h, "async", "5", CODE_METHOD_NOT_ALLOWED);
    CLIENT(h, 2, .type = TYPE_NON, .code = CODE_GET, .path = "async");
    CLIENT(h, 3, .type = TYPE_NON, .code = CODE_GET, .path = "async",
           OPTIONS_OF(text_option(OPTION_URI_QUERY, "2")));
    CLIENT(h, 4, .type = TYPE_NON, .code = CODE_GET, .path = "async",
           OPTIONS_OF(text_option(OPTION_URI_QUERY, "3600")));
    CLIENT(h, 3, .type = TYPE_NON, .code = CODE_GET, .path = "async");
    expect_text(h, 3, CODE_BAD_REQUEST, "a request with this token is waiting already");
    harness_silent(h);
    harness_advance(h, 6 * SECOND_US);
    sent = expect_at_client(h, 3, CODE_CONTENT, &m);
    assert_true(sent->at_us - begun >= 2 * SECOND_US && sent->at_us - begun <= 2002000);
    assert_payload(&m, "done after 2 s", 14);
    sent = expect_at_client(h, 2, CODE_CONTENT, &m);
    assert_true(sent->at_us - begun >= 5 * SECOND_US && sent->at_us - begun <= 5002000);
    harness_advance(h, 3595 * SECOND_US);
    expect_text(h, 4, CODE_CONTENT, "done after 3600 s");
}

/* Ten thousand requests with delays up to a minute: all of them at their time. */
static void test_ten_thousand(void **state)
{
    enum { CLIENTS = 250, EACH = 40 };
    struct harness *h = *state;
    uint64_t begun = h->now;
    unsigned got = 0;

    for (unsigned i = 0; i < CLIENTS * EACH; i++) {
        char delay[4];
        uint8_t token[2] = {(uint8_t)(i / CLIENTS), 7};

        snprintf(delay, sizeof(delay), "%u", 1 + i % 60);
        CLIENT(h, i % CLIENTS, .type = TYPE_NON, .code = CODE_GET, .path = "async", .token = token,
               .token_length = 2, OPTIONS_OF(text_option(OPTION_URI_QUERY, delay)));
        if (i % 100 == 99)
            harness_advance(h, 1000);
    }
    assert_int_equal(h->count, h->taken); /* nobody was refused */
    while (h->now < begun + 62 * SECOND_US) {
        harness_advance(h, 100000);
        for (; h->taken < h->count; got++) {
            struct message m;
            struct sent *sent = harness_expect(h, &m);
            unsigned delay_s, i;

            assert_int_equal(m.code, CODE_CONTENT);
            assert_int_equal(sscanf((const char *)m.payload, "done after %u s", &delay_s), 1);
            /* Which one it was, and so when it came in. */
            i = m.token[0] * CLIENTS + (sent->flow.peer_port - 20000u);
            assert_int_equal(delay_s, 1 + i % 60);
            assert_in_range(sent->at_us, begun + i / 100 * 1000 + delay_s * SECOND_US,
                            begun + i / 100 * 1000 + delay_s * SECOND_US + 2000);
        }
        h->count = h->taken = 0;
    }
    assert_int_equal(got, CLIENTS * EACH);
}

/* ---- the example ---- */

static void test_the_example(void **state)
{
    struct harness *h = *state;

    get(h, "deep/down/hello", NULL, CODE_CONTENT, "Hi, world");
    get(h, "hello", NULL, CODE_CONTENT, "Hello, world");
    CLIENT(h, 2, .type = TYPE_NON, .code = CODE_GET, .path = "hello",
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0)));
    expect_text(h, 2, CODE_CONTENT, "Hello, world");
    put(h, "hello", "moon", CODE_CHANGED);
    harness_advance(h, 5000);
    expect_text(h, 2, CODE_CONTENT, "Hello, moon");
    get(h, "deep/down/hello", NULL, CODE_CONTENT, "Hi, world"); /* an instance for each route */
    get(h, "hello/there", NULL, CODE_NOT_FOUND, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_time_changes_each_second, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_async, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ten_thousand, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_example, set_up, tear_down),
        /* The last: the time that is set stays, as the module does. */
        cmocka_unit_test_setup_teardown(test_dates, set_up, tear_down),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
