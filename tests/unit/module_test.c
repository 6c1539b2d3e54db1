/* What modules see of requests, and what clients see of their answers; timers, sessions, lines and
 * what calls cost. */
#include "tests/unit/module_harness.h"

#include <rte_cycles.h>

/* ---- requests and answers ---- */

static void see_all(const struct coapgw_request *request, struct coapgw_response *response)
{
    const struct coapgw_api *api = probe.api;
    struct coapgw_bytes value;

    assert_int_equal(request->size, sizeof(*request));
    assert_int_equal(request->method, COAPGW_POST);
    assert_int_equal(request->pass, COAPGW_PASS_REQUEST);
    assert_false(request->observe);
    assert_true(request->session != 0);
    assert_int_equal(request->path_count, 2);
    assert_true(bytes_are(&request->path[0], "a"));
    assert_true(bytes_are(&request->path[1], "b"));
    assert_int_equal(request->query_count, 2);
    assert_true(bytes_are(&request->query[0], "x=1"));
    assert_true(bytes_are(&request->query[1], "y"));
    assert_true(bytes_are(&request->payload, "body"));
    assert_int_equal(request->token.length, 1);
    assert_int_equal(api->option_uint(request, COAPGW_OPTION_CONTENT_FORMAT), 50);
    assert_int_equal(api->option_uint(request, COAPGW_OPTION_ACCEPT), -1);
    assert_int_equal(api->option(request, OPTION_URI_QUERY, 1, &value), 0);
    assert_true(bytes_are(&value, "y"));
    assert_int_equal(api->option(request, OPTION_URI_QUERY, 2, &value), -ENOENT);
    assert_int_equal(api->code(response, COAPGW_CREATED), 0);
    assert_int_equal(api->add_option(response, COAPGW_OPTION_LOCATION_QUERY, "q", 1), 0);
    assert_int_equal(api->add_option(response, COAPGW_OPTION_LOCATION_PATH, "one", 3), 0);
    assert_int_equal(api->add_option(response, COAPGW_OPTION_LOCATION_PATH, "two", 3), 0);
    assert_int_equal(api->add_option(response, COAPGW_OPTION_ETAG, "\0\1", 2), 0);
    assert_int_equal(api->add_uint(response, COAPGW_OPTION_MAX_AGE, 1), 0);
    assert_int_equal(api->add_uint(response, COAPGW_OPTION_MAX_AGE, 300), 0);
    assert_int_equal(api->add_uint(response, COAPGW_OPTION_CONTENT_FORMAT, 60), 0);
    assert_int_equal(api->write(response, "one ", 4), 0);
    assert_int_equal(api->write(response, "two", 3), 0);
}

static void test_a_request_and_its_answer(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML);
    struct option_cursor cursor;
    struct option_view view;
    struct message m;
    uint16_t mid;

    (void)state;
    probe.handle = see_all;
    mid =
        CLIENT(h, 1, .code = CODE_POST, .path = "probe/a/b",
               OPTIONS_OF(addition_uint(OPTION_CONTENT_FORMAT, 50),
                          text_option(OPTION_URI_QUERY, "x=1"), text_option(OPTION_URI_QUERY, "y")),
               .payload = "body", .payload_length = 4);
    expect_at_client(h, 1, CODE_CREATED, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.mid, mid);
    assert_payload(&m, "one two", 7);
    assert_int_equal(option_of(&m, SLOT_CONTENT_FORMAT), 60);
    assert_int_equal(option_of(&m, SLOT_MAX_AGE), 300);
    assert_int_equal(m.first[SLOT_ETAG].length, 2);
    cursor = option_cursor_at(&m, SLOT_LOCATION_PATH);
    assert_true(option_next_same(&cursor, &view));
    assert_memory_equal(view.value, "one", 3);
    assert_true(option_next_same(&cursor, &view));
    assert_memory_equal(view.value, "two", 3);
    assert_int_equal(m.first[SLOT_LOCATION_QUERY].length, 1);
    /* The same message once more: it is not done again. */
    CLIENT(h, 1, .code = CODE_POST, .mid = mid, .path = "probe/a/b");
    expect_at_client(h, 1, CODE_CREATED, &m);
    assert_int_equal(probe.calls, 1);
    harness_nothing_left(h);
    probe_end(h);
}

static void say_method(const struct coapgw_request *request, struct coapgw_response *response)
{
    char text[16];

    snprintf(text, sizeof(text), "%u %zu", request->method, request->path_count);
    probe_text(response, COAPGW_CONTENT, text);
}

static void test_every_method_and_the_path_itself(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML);
    struct message m;
    char text[16];

    (void)state;
    probe.handle = say_method;
    for (uint8_t method = CODE_GET; method <= CODE_IPATCH; method++) {
        CLIENT(h, 1, .code = method, .path = "probe");
        expect_at_client(h, 1, CODE_CONTENT, &m);
        snprintf(text, sizeof(text), "%u 0", method);
        assert_payload(&m, text, strlen(text));
    }
    CLIENT(h, 1, .code = CODE(0, 8), .path = "probe");
    expect_at_client(h, 1, CODE_METHOD_NOT_ALLOWED, &m);
    CLIENT(h, 1, .code = CODE_GET, .path = "prob");
    expect_at_client(h, 1, CODE_NOT_FOUND, &m);
    assert_int_equal(probe.calls, 7);
    probe_end(h);
}

static void say_nothing(const struct coapgw_request *request, struct coapgw_response *response)
{
    (void)request;
    assert_int_equal(probe.api->write(response, "text", 4), 0);
    assert_int_equal(probe.api->add_uint(response, COAPGW_OPTION_MAX_AGE, 1), 0);
}

static void say_too_much(const struct coapgw_request *request, struct coapgw_response *response)
{
    static const uint8_t part[10000];

    (void)request;
    assert_int_equal(probe.api->code(response, COAPGW_CONTENT), 0);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(probe.api->write(response, part, sizeof(part)), 0);
    assert_int_equal(probe.api->write(response, part, sizeof(part)), -EMSGSIZE);
    assert_int_equal(probe.api->write(response, part, SIZE_MAX), -EMSGSIZE);
}

static void say_many_options(const struct coapgw_request *request, struct coapgw_response *response)
{
    static const uint8_t part[200];
    int err = 0;

    (void)request;
    assert_int_equal(probe.api->code(response, COAPGW_CONTENT), 0);
    for (unsigned i = 0; i < 3 && !err; i++)
        err = probe.api->add_option(response, COAPGW_OPTION_LOCATION_PATH, part, sizeof(part));
    assert_int_equal(err, -ENOSPC);
}

static void test_bad_answers_become_5_00(void **state)
{
    static void (*const handlers[])(const struct coapgw_request *, struct coapgw_response *) = {
        say_nothing, say_too_much, say_many_options};
    struct harness *h = probe_begin(PROBE_YAML);
    struct message m;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        probe.handle = handlers[i];
        CLIENT(h, 1, .code = CODE_GET, .path = "probe");
        expect_at_client(h, 1, CODE_INTERNAL_SERVER_ERROR, &m);
        assert_int_equal(m.options_length, 0);
        assert_int_equal(m.payload_length, 0);
        assert_int_equal(COUNTER(h, module_failures), i + 1);
    }
    harness_nothing_left(h);
    probe_end(h);
}

static void say_what_it_may_not(const struct coapgw_request *request,
                                struct coapgw_response *response)
{
    static const uint16_t own[] = {
        0,           OPTION_OBSERVE, OPTION_BLOCK1, OPTION_BLOCK2, OPTION_SIZE1, OPTION_SIZE2,
        OPTION_ECHO, OPTION_OSCORE};
    const struct coapgw_api *api = probe.api;

    (void)request;
    assert_int_equal(api->code(response, 0), -EINVAL);
    assert_int_equal(api->code(response, COAPGW_GET), -EINVAL);
    assert_int_equal(api->code(response, COAPGW_CODE(2, 3)), -EINVAL);
    assert_int_equal(api->code(response, COAPGW_CODE(2, 31)), -EINVAL);
    assert_int_equal(api->code(response, COAPGW_CODE(3, 0)), -EINVAL);
    assert_int_equal(api->code(response, COAPGW_CODE(7, 1)), -EINVAL);
    for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        assert_int_equal(api->add_uint(response, own[i], 1), -EINVAL);
    assert_int_equal(api->add_option(response, COAPGW_OPTION_ETAG, "123456789", 9), -EINVAL);
    assert_int_equal(api->add_option(response, COAPGW_OPTION_ETAG, "", 0), -EINVAL);
    assert_int_equal(api->add_uint(response, COAPGW_OPTION_CONTENT_FORMAT, 65536), -EINVAL);
    assert_int_equal(api->add_option(response, COAPGW_OPTION_LOCATION_PATH, NULL, 1), -EINVAL);
    assert_int_equal(api->write(response, NULL, 1), -EINVAL);
    probe_text(response, COAPGW_CONTENT, "fine");
}

static const struct coapgw_request *stale_request;
static struct coapgw_response *stale_response;

static void leave_pointers(const struct coapgw_request *request, struct coapgw_response *response)
{
    stale_request = request;
    stale_response = response;
    probe_text(response, COAPGW_CONTENT, "fine");
}

static void test_misuse_is_refused(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML);
    const struct coapgw_api *api = probe.api;
    struct coapgw_bytes value;
    coapgw_async async;
    struct message m;

    (void)state;
    probe.handle = say_what_it_may_not;
    CLIENT(h, 1, .code = CODE_GET, .path = "probe");
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "fine", 4);
    assert_int_equal(m.options_length, 0);
    probe.handle = leave_pointers;
    CLIENT(h, 1, .code = CODE_GET, .path = "probe");
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(api->code(stale_response, COAPGW_CONTENT), -EINVAL);
    assert_int_equal(api->write(stale_response, "x", 1), -EINVAL);
    assert_int_equal(api->add_uint(stale_response, COAPGW_OPTION_MAX_AGE, 1), -EINVAL);
    assert_int_equal(api->option(stale_request, OPTION_URI_PATH, 0, &value), -EINVAL);
    assert_int_equal(api->option_uint(stale_request, OPTION_ACCEPT), -1);
    assert_int_equal(api->async_register(stale_request, 1000, &async), -EINVAL);
    api->observable(stale_response);
    assert_int_equal(api->async_register(NULL, 0, &async), -EINVAL);
    assert_int_equal(api->code(NULL, COAPGW_CONTENT), -EINVAL);
    assert_int_equal(api->notify(NULL, NULL, 0), -EINVAL);
    harness_nothing_left(h);
    probe_end(h);
}

static void test_too_many_segments(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML);
    char path[8 + 3 * COAPGW_SEGMENTS_MAX] = "probe";
    struct message m;

    (void)state;
    probe.handle = say_method;
    for (unsigned i = 0; i < COAPGW_SEGMENTS_MAX; i++)
        strcat(path, "/s");
    CLIENT(h, 1, .code = CODE_GET, .path = path);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    strcat(path, "/s");
    CLIENT(h, 1, .code = CODE_GET, .path = path);
    expect_at_client(h, 1, CODE_BAD_REQUEST, &m);
    assert_int_equal(probe.calls, 1);
    probe_end(h);
}

/* ---- blocks and validation ---- */

static void echo_body(const struct coapgw_request *request, struct coapgw_response *response)
{
    assert_int_equal(probe.api->code(response, COAPGW_CONTENT), 0);
    assert_int_equal(probe.api->add_option(response, COAPGW_OPTION_ETAG, "tag", 3), 0);
    assert_int_equal(probe.api->write(response, request->payload.data, request->payload.length), 0);
}

static void test_bodies_in_blocks(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML "limits: {amplification: 0}\n");
    static uint8_t body[3000];
    struct message m;

    (void)state;
    probe.handle = echo_body;
    body_fill(body, sizeof(body), 1);
    CLIENT(h, 1, .code = CODE_PUT, .path = "probe",
           OPTIONS_OF(block_option(OPTION_BLOCK1, 0, true, 6)), .payload = body,
           .payload_length = 1024);
    expect_at_client(h, 1, CODE_CONTINUE, &m);
    CLIENT(h, 1, .code = CODE_PUT, .path = "probe",
           OPTIONS_OF(block_option(OPTION_BLOCK1, 1, true, 6)), .payload = body + 1024,
           .payload_length = 1024);
    expect_at_client(h, 1, CODE_CONTINUE, &m);
    assert_int_equal(probe.calls, 0);
    CLIENT(h, 1, .code = CODE_PUT, .path = "probe",
           OPTIONS_OF(block_option(OPTION_BLOCK1, 2, false, 6)), .payload = body + 2048,
           .payload_length = 952);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(probe.calls, 1);
    assert_block(&m, SLOT_BLOCK1, 2, false, 6);
    assert_block(&m, SLOT_BLOCK2, 0, true, 6);
    assert_payload(&m, body, 1024);
    CLIENT(h, 1, .code = CODE_PUT, .path = "probe",
           OPTIONS_OF(block_option(OPTION_BLOCK2, 2, false, 6)));
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, body + 2048, 952);
    assert_int_equal(probe.calls, 1);
    nothing_is_kept(h);
    probe_end(h);
}

static void test_etags_are_compared(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML);
    struct message m;

    (void)state;
    probe.handle = echo_body;
    CLIENT(h, 1, .code = CODE_GET, .path = "probe", OPTIONS_OF(text_option(OPTION_ETAG, "tag")));
    expect_at_client(h, 1, CODE_VALID, &m);
    CLIENT(h, 1, .code = CODE_GET, .path = "probe", OPTIONS_OF(text_option(OPTION_ETAG, "tog")));
    expect_at_client(h, 1, CODE_CONTENT, &m);
    /* RFC 7252 5.4.1 */
    CLIENT(h, 1, .code = CODE_GET, .path = "probe", OPTIONS_OF(text_option(9999, "?")));
    expect_at_client(h, 1, CODE_BAD_OPTION, &m);
    probe_end(h);
}

/* ---- timers ---- */

static coapgw_timer last_timer;

static void start_again(coapgw_timer timer, uint64_t argument)
{
    assert_true(timer == last_timer);
    assert_int_equal(probe.api->timer_cancel(probe.instance, timer), -ENOENT);
    if (argument)
        assert_int_equal(probe.api->timer_start(probe.instance, 100, argument - 1, &last_timer), 0);
}

static void test_timers(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML);
    const struct coapgw_api *api = probe.api;
    coapgw_timer timer, other;
    uint64_t begun = h->now;

    (void)state;
    assert_true(api->now_us(probe.instance) == h->now);
    probe.on_timer = start_again;
    assert_int_equal(api->timer_start(probe.instance, 0, 3, &last_timer), 0);
    assert_int_equal(probe.timers, 0); /* never from within */
    harness_advance(h, 250000);
    assert_int_equal(probe.timers, 3);
    harness_advance(h, SECOND_US);
    assert_int_equal(probe.timers, 4);
    assert_true(h->now - begun == 1250000);
    probe.on_timer = NULL;
    assert_int_equal(api->timer_start(probe.instance, COAPGW_DELAY_MS_MAX + 1, 0, NULL), -EINVAL);
    for (unsigned i = 0; i < COAPGW_TIMERS_MAX; i++)
        assert_int_equal(api->timer_start(probe.instance, 1000, i, &timer), 0);
    assert_int_equal(api->timer_start(probe.instance, 1000, 0, &other), -ENOSPC);
    assert_int_equal(api->timer_cancel(probe.instance, timer), 0);
    assert_int_equal(api->timer_cancel(probe.instance, timer), -ENOENT);
    assert_int_equal(api->timer_cancel(probe.instance, 0), -ENOENT);
    assert_int_equal(api->timer_start(probe.instance, 1000, 77, &other), 0);
    assert_true(other != timer);
    harness_advance(h, 2 * SECOND_US);
    assert_int_equal(probe.timers, 4 + COAPGW_TIMERS_MAX);
    harness_nothing_left(h);
    probe_end(h);
}

/* ---- sessions ---- */

static coapgw_session met;
static int app_data;

static void meet(const struct coapgw_request *request, struct coapgw_response *response)
{
    met = request->session;
    assert_int_equal(probe.api->session_set_data(probe.instance, met, &app_data), 0);
    probe_text(response, COAPGW_CONTENT, "hello");
}

static const struct {
    uint64_t before, good, bad, too_much;
} parameter_cases[COAPGW_PARAMETER_COUNT] = {
    [COAPGW_ACK_TIMEOUT] = {2000, 2500, 0, 3600001},
    [COAPGW_ACK_RANDOM_FACTOR] = {1500, 1001, 999, 10001},
    [COAPGW_MAX_RETRANSMIT] = {4000, 0, 1500, 21000},
    [COAPGW_NSTART] = {1000, 3000, 0, 65536000},
    [COAPGW_DEFAULT_LEISURE] = {5000, 1, 3600001, UINT64_MAX},
    [COAPGW_PROBING_RATE] = {1000, 1, 0, 4000000001},
};

static void test_session_parameters(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML);
    const struct coapgw_api *api = probe.api;
    struct message m;
    uint64_t value;

    (void)state;
    probe.handle = meet;
    CLIENT(h, 1, .code = CODE_GET, .path = "probe");
    expect_at_client(h, 1, CODE_CONTENT, &m);
    for (unsigned i = 0; i < COAPGW_PARAMETER_COUNT; i++) {
        assert_int_equal(api->session_get(probe.instance, met, i, &value), 0);
        assert_int_equal(value, parameter_cases[i].before);
        assert_int_equal(api->session_set(probe.instance, met, i, parameter_cases[i].bad), -ERANGE);
        assert_int_equal(api->session_set(probe.instance, met, i, parameter_cases[i].too_much),
                         -ERANGE);
        assert_int_equal(api->session_set(probe.instance, met, i, parameter_cases[i].good), 0);
    }
    for (unsigned i = 0; i < COAPGW_PARAMETER_COUNT; i++) {
        assert_int_equal(api->session_get(probe.instance, met, i, &value), 0);
        assert_int_equal(value, parameter_cases[i].good);
    }
    assert_int_equal(api->session_get(probe.instance, met, COAPGW_PARAMETER_COUNT, &value),
                     -EINVAL);
    assert_int_equal(api->session_set(probe.instance, met, COAPGW_PARAMETER_COUNT, 1), -EINVAL);
    assert_int_equal(api->session_get(probe.instance, met + 1, 0, &value), -ENOENT);
    probe_end(h);
}

static int set_result;

static void tune(const struct coapgw_event *event)
{
    if (event->kind == COAPGW_SESSION_OPENED)
        set_result =
            probe.api->session_set(probe.instance, event->session, COAPGW_ACK_TIMEOUT, 12345);
}

/* When a client comes, before its first request is seen. */
static void test_parameters_from_the_beginning(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML);
    struct message m;
    uint64_t value;

    (void)state;
    set_result = -1;
    probe.on_event = tune;
    probe.handle = meet;
    CLIENT(h, 1, .code = CODE_GET, .path = "probe");
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(set_result, 0);
    assert_int_equal(probe.api->session_get(probe.instance, met, COAPGW_ACK_TIMEOUT, &value), 0);
    assert_int_equal(value, 12345);
    harness_nothing_left(h);
    probe_end(h);
}

static void *data_at_close;

static void note_close(const struct coapgw_event *event)
{
    if (event->kind == COAPGW_SESSION_CLOSED)
        data_at_close = probe.api->session_data(probe.instance, event->session);
}

static void test_sessions_come_and_go(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML);
    const struct coapgw_api *api = probe.api;
    char text[COAPGW_ADDRESS_BYTES];
    coapgw_session first;
    struct message m;

    (void)state;
    probe.handle = meet;
    probe.on_event = note_close;
    CLIENT(h, 1, .code = CODE_GET, .path = "probe");
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(probe.event_count, 1);
    assert_non_null(probe_last(COAPGW_SESSION_OPENED));
    first = met;
    assert_true(probe.events[0].session == first);
    assert_int_equal(api->session_address(probe.instance, met, text, sizeof(text)), 0);
    assert_string_equal(text, "10.99.0.77:20001");
    assert_int_equal(api->session_address(probe.instance, met, text, 16), -ENOSPC);
    assert_ptr_equal(api->session_data(probe.instance, met), &app_data);
    CLIENT(h, 1, .type = TYPE_CON, .code = CODE_EMPTY, .mid = 0x77, .token = (const uint8_t *)"");
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_RST);
    assert_non_null(probe_last(COAPGW_PING));
    assert_true(probe_last(COAPGW_PING)->session == first);
    assert_int_equal(probe_last(COAPGW_PING)->mid, 0x77);
    harness_nothing_left(h);
    assert_non_null(probe_last(COAPGW_SESSION_CLOSED));
    assert_true(probe_last(COAPGW_SESSION_CLOSED)->session == first);
    assert_ptr_equal(data_at_close, &app_data);
    assert_int_equal(api->session_address(probe.instance, first, text, sizeof(text)), -ENOENT);
    assert_null(api->session_data(probe.instance, first));
    assert_int_equal(api->session_set_data(probe.instance, first, NULL), -ENOENT);
    CLIENT(h, 1, .code = CODE_GET, .path = "probe");
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_true(met != first);
    data_at_close = NULL;
    probe_end(h); /* with a session that has data */
    assert_ptr_equal(data_at_close, &app_data);
}

/* ---- lines, loss, and what calls cost ---- */

static void test_lines_are_limited(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML);
    char text[COAPGW_LOG_BYTES + 100];
    struct module_line line;

    (void)state;
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = 0;
    probe.api->log(probe.instance, "a\nb\033[2J");
    for (unsigned i = 0; i < COAPGW_LOG_LINES; i++)
        probe.api->log(probe.instance, text);
    assert_int_equal(COUNTER(h, module_log_lost), 1);
    assert_true(module_log_read(&probe_modules->logs[0], &line));
    assert_string_equal(line.text, "a?b?[2J");
    for (unsigned i = 1; i < COAPGW_LOG_LINES; i++)
        assert_true(module_log_read(&probe_modules->logs[0], &line));
    assert_int_equal(strlen(line.text), COAPGW_LOG_BYTES);
    assert_false(module_log_read(&probe_modules->logs[0], &line));
    /* Nobody reads them any more. */
    for (unsigned i = 0; i < MODULE_LOG_LINES; i++) {
        if (i % COAPGW_LOG_LINES == 0)
            harness_advance(h, 1100000);
        probe.api->log(probe.instance, "line");
    }
    assert_int_equal(COUNTER(h, module_log_lost), 1);
    harness_advance(h, 1100000);
    probe.api->log(probe.instance, "one more");
    assert_int_equal(COUNTER(h, module_log_lost), 2);
    probe_end(h);
}

static void dawdle(const struct coapgw_request *request, struct coapgw_response *response)
{
    uint64_t begun = rte_rdtsc();

    (void)request;
    while (rte_rdtsc() - begun < rte_get_tsc_hz() / 1000)
        ;
    probe_text(response, COAPGW_CONTENT, "at last");
}

static void test_slow_calls_are_counted(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML "limits: {module_slow: 500us}\n");
    const struct module_stats *stats = modules_stats(probe_modules, 0, 0);
    struct message m;
    uint64_t calls;

    (void)state;
    probe.handle = dawdle;
    CLIENT(h, 1, .code = CODE_GET, .path = "probe");
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(COUNTER(h, module_slow), 1);
    assert_int_equal(stats->slow, 1);
    assert_true(stats->longest >= rte_get_tsc_hz() / 1000);
    assert_true(stats->cycles >= stats->longest);
    calls = stats->calls;
    assert_int_equal(COUNTER(h, module_calls), calls);
    assert_true(calls >= 2); /* a session's opening is told, too */
    probe_end(h);
}

static void test_packet_loss(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML);
    struct message m;

    (void)state;
    probe.handle = say_method;
    assert_int_equal(probe.api->packet_loss(probe.instance, "nonsense"), -EINVAL);
    assert_int_equal(probe.api->packet_loss(probe.instance, NULL), -EINVAL);
    assert_int_equal(probe.api->packet_loss(probe.instance, "2"), 0);
    for (unsigned i = 0; i < 3; i++)
        CLIENT(h, 1, .code = CODE_GET, .path = "probe");
    expect_at_client(h, 1, CODE_CONTENT, &m);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    harness_silent(h);
    assert_int_equal(probe.calls, 3);
    probe_end(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_request_and_its_answer),
        cmocka_unit_test(test_every_method_and_the_path_itself),
        cmocka_unit_test(test_bad_answers_become_5_00),
        cmocka_unit_test(test_misuse_is_refused),
        cmocka_unit_test(test_too_many_segments),
        cmocka_unit_test(test_bodies_in_blocks),
        cmocka_unit_test(test_etags_are_compared),
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_session_parameters),
        cmocka_unit_test(test_parameters_from_the_beginning),
        cmocka_unit_test(test_sessions_come_and_go),
        cmocka_unit_test(test_lines_are_limited),
        cmocka_unit_test(test_slow_calls_are_counted),
        cmocka_unit_test(test_packet_loss),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
