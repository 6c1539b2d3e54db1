/* Modules that answer later. */
#include "tests/unit/module_harness.h"

#define LATER_YAML PROBE_YAML "limits: {client_requests: 1000, async: 8}\nstore: none\n"

/* ---- answers that come later ---- */

static struct {
    uint32_t delay_ms;
    int result; /* of the last registration */
    coapgw_async async;
    unsigned second; /* passes */
    void (*then)(const struct coapgw_request *request, struct coapgw_response *response);
} later;

static unsigned destroyed;

static void count_destroyed(void *data)
{
    assert_ptr_equal(data, &later);
    destroyed++;
}

static void answer_done(const struct coapgw_request *request, struct coapgw_response *response)
{
    assert_true(bytes_are(&request->path[0], "x"));
    assert_int_equal(request->path_count, 1);
    assert_true(bytes_are(&request->query[0], "q"));
    probe_text(response, COAPGW_CONTENT, "done");
}

static void take_time(const struct coapgw_request *request, struct coapgw_response *response)
{
    const struct coapgw_api *api = probe.api;

    if (request->pass == COAPGW_PASS_ASYNC) {
        later.second++;
        assert_true(request->async != 0);
        later.then(request, response);
        return;
    }
    assert_int_equal(request->async, 0);
    later.result = api->async_register(request, later.delay_ms, &later.async);
    if (later.result)
        probe_text(response, COAPGW_UNAVAILABLE, "not now");
    else
        assert_int_equal(api->async_attach(probe.instance, later.async, &later, count_destroyed),
                         0);
}

static struct harness *later_begin(uint32_t delay_ms)
{
    struct harness *h = probe_begin(LATER_YAML);

    memset(&later, 0, sizeof(later));
    later.delay_ms = delay_ms;
    later.then = answer_done;
    destroyed = 0;
    probe.handle = take_time;
    return h;
}

static uint16_t ask(struct harness *h, unsigned client, enum message_type type, const char *token)
{
    return CLIENT(h, client, .type = type, .code = CODE_GET, .path = "probe/x",
                  .token = (const uint8_t *)token, .token_length = strlen(token),
                  OPTIONS_OF(text_option(OPTION_URI_QUERY, "q")));
}

/* The answer of the second pass, which is a CON of its own. */
static void expect_separate(struct harness *h, unsigned client, uint8_t code, const char *token)
{
    struct message m;

    expect_at_client(h, client, code, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.token_length, strlen(token));
    assert_memory_equal(m.token, token, m.token_length);
    client_acks(h, client, m.mid);
}

static void later_end(struct harness *h)
{
    harness_nothing_left(h);
    assert_int_equal(usage_of(h).assembly_bytes, 0);
    probe_end(h);
}

static void test_con_is_acknowledged_and_answered_apart(void **state)
{
    struct harness *h = later_begin(3000);
    struct message m;
    uint64_t begun = h->now;
    uint16_t mid;
    struct sent *sent;

    (void)state;
    mid = ask(h, 1, TYPE_CON, "tok");
    assert_int_equal(later.result, 0);
    harness_silent(h);
    harness_advance(h, 600000);
    sent = harness_expect(h, &m); /* separate_after: 500 ms */
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.code, CODE_EMPTY);
    assert_int_equal(m.mid, mid);
    assert_true(sent->at_us - begun >= 500000 && sent->at_us - begun <= 502000);
    /* The duplicate finds the exchange, not the module. */
    CLIENT(h, 1, .type = TYPE_CON, .code = CODE_GET, .mid = mid, .path = "probe/x",
           .token = (const uint8_t *)"tok", .token_length = 3);
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.code, CODE_EMPTY);
    assert_int_equal(probe.calls, 1);
    harness_advance(h, 2399000);
    assert_int_equal(later.second, 0);
    harness_advance(h, 3000);
    assert_int_equal(later.second, 1);
    assert_int_equal(probe.calls, 2);
    expect_separate(h, 1, CODE_CONTENT, "tok");
    assert_int_equal(destroyed, 1);
    assert_int_equal(COUNTER(h, asyncs), 1);
    later_end(h);
}

static void test_a_short_delay_is_piggybacked(void **state)
{
    struct harness *h = later_begin(100);
    struct message m;
    uint16_t mid;

    (void)state;
    mid = ask(h, 1, TYPE_CON, "tok");
    harness_advance(h, 103000);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.mid, mid);
    assert_payload(&m, "done", 4);
    ask(h, 1, TYPE_NON, "tok");
    harness_advance(h, 103000);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(m.type, TYPE_NON);
    later_end(h);
}

static void test_the_same_token_is_refused(void **state)
{
    static const char long_token[] = "a token of more than eight bytes";
    struct harness *h = later_begin(10000);
    struct message m;

    (void)state;
    ask(h, 1, TYPE_NON, "tok");
    ask(h, 1, TYPE_NON, "tok");
    assert_int_equal(later.result, -EEXIST);
    expect_at_client(h, 1, CODE_SERVICE_UNAVAILABLE, &m);
    ask(h, 2, TYPE_NON, "tok"); /* another session */
    assert_int_equal(later.result, 0);
    ask(h, 1, TYPE_NON, "tik");
    assert_int_equal(later.result, 0);
    ask(h, 1, TYPE_NON, long_token);
    assert_int_equal(later.result, 0);
    ask(h, 1, TYPE_NON, long_token);
    assert_int_equal(later.result, -EEXIST);
    expect_at_client(h, 1, CODE_SERVICE_UNAVAILABLE, &m);
    harness_advance(h, 11 * SECOND_US);
    assert_int_equal(later.second, 4);
    for (unsigned i = 0; i < 4; i++) {
        harness_expect(h, &m);
        assert_int_equal(m.code, CODE_CONTENT);
    }
    ask(h, 1, TYPE_NON, "tok"); /* it is over: the token is free */
    assert_int_equal(later.result, 0);
    later_end(h);
}

static void test_the_limit(void **state)
{
    struct harness *h = later_begin(10000);
    struct worker_usage usage;
    struct message m;

    (void)state;
    worker_usage(h->worker, &usage);
    assert_int_equal(usage.async, 0);
    assert_int_equal(usage.async_max, 8);
    for (unsigned i = 0; i < 8; i++) {
        ask(h, i, TYPE_NON, "tok");
        assert_int_equal(later.result, 0);
    }
    ask(h, 8, TYPE_NON, "tok");
    assert_int_equal(later.result, -ENOSPC);
    expect_at_client(h, 8, CODE_SERVICE_UNAVAILABLE, &m);
    assert_int_equal(COUNTER(h, refused_asyncs), 1);
    worker_usage(h->worker, &usage);
    assert_int_equal(usage.async, 8);
    later.delay_ms = COAPGW_DELAY_MS_MAX + 1;
    ask(h, 8, TYPE_NON, "tok");
    assert_int_equal(later.result, -EINVAL);
    later_end(h);
}

/* Told from outside: by a timer, or whoever else. */
static void test_until_told(void **state)
{
    struct harness *h = later_begin(0);
    const struct coapgw_api *api = probe.api;
    coapgw_async found = 0;
    uint64_t told;

    (void)state;
    ask(h, 1, TYPE_CON, "tok");
    harness_advance(h, 3600 * SECOND_US);
    assert_int_equal(later.second, 0);
    h->taken = h->count;
    assert_ptr_equal(api->async_data(probe.instance, later.async), &later);
    assert_int_equal(api->async_find(probe.instance, probe_last(COAPGW_SESSION_OPENED)->session,
                                     "tok", 3, &found),
                     0);
    assert_true(found == later.async);
    assert_int_equal(api->async_find(probe.instance, probe_last(COAPGW_SESSION_OPENED)->session,
                                     "to", 2, &found),
                     -ENOENT);
    assert_int_equal(api->async_find(probe.instance, 12345, "tok", 3, &found), -ENOENT);
    assert_int_equal(api->async_set_delay(probe.instance, found, COAPGW_DELAY_MS_MAX + 1), -EINVAL);
    assert_int_equal(api->async_set_delay(probe.instance, found, 5000), 0);
    harness_advance(h, 4 * SECOND_US);
    assert_int_equal(later.second, 0);
    told = h->now;
    assert_int_equal(api->async_trigger(probe.instance, found), 0);
    assert_int_equal(later.second, 0); /* not from within */
    harness_advance(h, 2000);
    assert_int_equal(later.second, 1);
    assert_true(h->sent[h->taken].at_us - told <= 2000);
    expect_separate(h, 1, CODE_CONTENT, "tok");
    assert_int_equal(api->async_trigger(probe.instance, found), -ENOENT);
    assert_int_equal(api->async_set_delay(probe.instance, found, 1), -ENOENT);
    assert_int_equal(api->async_free(probe.instance, found), -ENOENT);
    assert_int_equal(api->async_attach(probe.instance, found, NULL, NULL), -ENOENT);
    assert_null(api->async_data(probe.instance, found));
    later_end(h);
}

static void wait_once_more(const struct coapgw_request *request, struct coapgw_response *response)
{
    if (later.second == 1)
        assert_int_equal(probe.api->async_set_delay(probe.instance, request->async, 1000), 0);
    else
        answer_done(request, response);
}

static void test_waiting_once_more(void **state)
{
    struct harness *h = later_begin(1000);
    struct message m;

    (void)state;
    later.then = wait_once_more;
    ask(h, 1, TYPE_NON, "tok");
    harness_advance(h, 1500000);
    assert_int_equal(later.second, 1);
    assert_int_equal(destroyed, 0);
    harness_silent(h);
    harness_advance(h, 600000);
    assert_int_equal(later.second, 2);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    later_end(h);
}

static void say_nothing(const struct coapgw_request *request, struct coapgw_response *response)
{
    (void)request;
    (void)response;
}

static void register_again(const struct coapgw_request *request, struct coapgw_response *response)
{
    assert_int_equal(probe.api->async_register(request, 1000, NULL), -EINVAL);
    (void)response;
}

/* One second pass only; without an answer it is an error. */
static void test_a_second_pass_without_an_answer(void **state)
{
    struct harness *h = later_begin(100);
    struct message m;

    (void)state;
    later.then = say_nothing;
    ask(h, 1, TYPE_NON, "tok");
    harness_advance(h, SECOND_US);
    expect_at_client(h, 1, CODE_INTERNAL_SERVER_ERROR, &m);
    later.then = register_again;
    ask(h, 1, TYPE_NON, "tok");
    harness_advance(h, SECOND_US);
    expect_at_client(h, 1, CODE_INTERNAL_SERVER_ERROR, &m);
    assert_int_equal(later.second, 2);
    assert_int_equal(COUNTER(h, module_failures), 2);
    assert_int_equal(destroyed, 2);
    later_end(h);
}

/* ---- freeing ---- */

static void free_it(const struct coapgw_request *request, struct coapgw_response *response)
{
    (void)response;
    assert_int_equal(probe.api->async_free(probe.instance, request->async), 0);
    assert_int_equal(destroyed, 1);
    assert_int_equal(probe.api->async_free(probe.instance, request->async), -ENOENT);
    assert_int_equal(probe.api->async_set_delay(probe.instance, request->async, 5), -ENOENT);
}

static void free_and_answer(const struct coapgw_request *request, struct coapgw_response *response)
{
    free_it(request, response);
    answer_done(request, response);
}

static void test_freeing_within_the_second_pass(void **state)
{
    struct harness *h = later_begin(100);
    struct message m;

    (void)state;
    later.then = free_it;
    ask(h, 1, TYPE_NON, "tok");
    harness_advance(h, SECOND_US);
    expect_at_client(h, 1, CODE_SERVICE_UNAVAILABLE, &m);
    assert_int_equal(COUNTER(h, asyncs_dropped), 1);
    destroyed = 0;
    later.then = free_and_answer;
    ask(h, 1, TYPE_NON, "tok");
    harness_advance(h, SECOND_US);
    expect_at_client(h, 1, CODE_CONTENT, &m);
    harness_advance(h, SECOND_US);
    harness_silent(h);
    assert_int_equal(COUNTER(h, asyncs_dropped), 1);
    assert_int_equal(later.second, 2);
    later_end(h);
}

static void free_in_first_pass(const struct coapgw_request *request,
                               struct coapgw_response *response)
{
    (void)response;
    assert_int_equal(probe.api->async_register(request, 1000, &later.async), 0);
    assert_int_equal(probe.api->async_attach(probe.instance, later.async, &later, count_destroyed),
                     0);
    assert_int_equal(probe.api->async_free(probe.instance, later.async), 0);
    assert_int_equal(destroyed, 1);
}

static void register_and_answer(const struct coapgw_request *request,
                                struct coapgw_response *response)
{
    assert_int_equal(probe.api->async_register(request, 1000, &later.async), 0);
    probe_text(response, COAPGW_CONTENT, "at once");
}

static void test_first_passes_that_do_not_wait(void **state)
{
    struct harness *h = later_begin(0);
    struct message m;

    (void)state;
    probe.handle = free_in_first_pass;
    ask(h, 1, TYPE_CON, "tok");
    expect_at_client(h, 1, CODE_INTERNAL_SERVER_ERROR, &m);
    probe.handle = register_and_answer;
    ask(h, 1, TYPE_CON, "tok");
    expect_at_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "at once", 7);
    assert_null(probe.api->async_data(probe.instance, later.async));
    ask(h, 1, TYPE_CON, "tok");
    expect_at_client(h, 1, CODE_CONTENT, &m);
    harness_advance(h, 5 * SECOND_US);
    harness_silent(h);
    assert_int_equal(COUNTER(h, asyncs), 0);
    later_end(h);
}

static void test_freeing_from_outside(void **state)
{
    struct harness *h = later_begin(0);

    (void)state;
    ask(h, 1, TYPE_CON, "tok");
    harness_advance(h, 5 * SECOND_US);
    h->taken = h->count;
    assert_int_equal(probe.api->async_free(probe.instance, later.async), 0);
    assert_int_equal(destroyed, 1);
    harness_silent(h); /* nothing is sent from within */
    harness_advance(h, 5000);
    expect_separate(h, 1, CODE_SERVICE_UNAVAILABLE, "tok");
    assert_int_equal(later.second, 0);
    later_end(h);
}

/* ---- sessions that end ---- */

/* The client does not answer pings: its session goes, and its requests with it. */
static void test_a_session_takes_its_requests_along(void **state)
{
    struct harness *h = probe_begin(MODULE_YAML "    keepalive: 30s\n"
                                                "routes:\n"
                                                "  - {path: /probe, module: {file: /unit/probe.so, "
                                                "options: \"some text\"}}\n");
    const struct coapgw_api *api = probe.api;

    (void)state;
    memset(&later, 0, sizeof(later));
    later.then = answer_done;
    destroyed = 0;
    probe.handle = take_time;
    ask(h, 1, TYPE_NON, "tok");
    ask(h, 1, TYPE_NON, "tik");
    assert_int_equal(later.result, 0);
    harness_advance(h, 400 * SECOND_US);
    assert_non_null(probe_last(COAPGW_KEEPALIVE_FAILED));
    assert_non_null(probe_last(COAPGW_NACK));
    assert_int_equal(probe_last(COAPGW_NACK)->reason, COAPGW_NACK_TIMEOUT);
    assert_non_null(probe_last(COAPGW_SESSION_CLOSED));
    assert_int_equal(destroyed, 2);
    assert_int_equal(later.second, 0);
    assert_int_equal(COUNTER(h, asyncs_dropped), 2);
    assert_int_equal(usage_of(h).exchanges, 0);
    assert_int_equal(api->async_trigger(probe.instance, later.async), -ENOENT);
    later_end(h);
}

static void test_a_stop_is_told_to_those_who_wait(void **state)
{
    struct harness *h = later_begin(0);
    struct message m;

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        ask(h, i, TYPE_NON, "tok");
    worker_drain(h->worker);
    assert_int_equal(destroyed, 5);
    harness_advance(h, 5000);
    for (unsigned i = 0; i < 5; i++) {
        harness_expect(h, &m);
        assert_int_equal(m.code, CODE_SERVICE_UNAVAILABLE);
    }
    assert_true(worker_is_quiet(h->worker));
    probe_end(h);
}

static void test_the_end_takes_all_along(void **state)
{
    struct harness *h = later_begin(0);

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        ask(h, i, TYPE_NON, "tok");
    assert_int_equal(probe.api->timer_start(probe.instance, 1000, 0, NULL), 0);
    probe_end(h);
    assert_int_equal(destroyed, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_con_is_acknowledged_and_answered_apart),
        cmocka_unit_test(test_a_short_delay_is_piggybacked),
        cmocka_unit_test(test_the_same_token_is_refused),
        cmocka_unit_test(test_the_limit),
        cmocka_unit_test(test_until_told),
        cmocka_unit_test(test_waiting_once_more),
        cmocka_unit_test(test_a_second_pass_without_an_answer),
        cmocka_unit_test(test_freeing_within_the_second_pass),
        cmocka_unit_test(test_first_passes_that_do_not_wait),
        cmocka_unit_test(test_freeing_from_outside),
        cmocka_unit_test(test_a_session_takes_its_requests_along),
        cmocka_unit_test(test_a_stop_is_told_to_those_who_wait),
        cmocka_unit_test(test_the_end_takes_all_along),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
