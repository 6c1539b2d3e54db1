/* Resources of modules that clients observe, and what modules hear of it. */
#include "tests/unit/module_harness.h"

static struct {
    unsigned calls, notified; /* passes */
    unsigned version;
    uint8_t code; /* of new states */
    bool closed;  /* not observable */
    bool nested;  /* notify() from within handle() */
} seen;

static void show_version(const struct coapgw_request *request, struct coapgw_response *response)
{
    char text[32];

    seen.calls++;
    if (request->pass == COAPGW_PASS_NOTIFY) {
        seen.notified++;
        assert_int_equal(request->session, 0);
        assert_int_equal(request->token.length, 0);
        assert_true(request->observe);
        assert_int_equal(probe.api->async_register(request, 1000, NULL), -EINVAL);
        if (seen.code) {
            assert_int_equal(probe.api->code(response, seen.code), 0);
            return;
        }
    }
    if (seen.nested) {
        seen.nested = false;
        seen.version++;
        assert_int_equal(probe.api->notify(probe.instance, NULL, 0), 0);
    }
    snprintf(text, sizeof(text), "%.*s %u", request->path_count ? (int)request->path[0].length : 0,
             request->path_count ? (const char *)request->path[0].data : "", seen.version);
    probe_text(response, COAPGW_CONTENT, text);
    if (!seen.closed)
        probe.api->observable(response);
}

static struct harness *observe_begin(void)
{
    struct harness *h = probe_begin(PROBE_YAML "observe: {confirm_every: 1000}\n");

    memset(&seen, 0, sizeof(seen));
    probe.handle = show_version;
    return h;
}

/* True when the client observes now. */
static bool observe(struct harness *h, unsigned client, const char *path, uint32_t option)
{
    struct message m;

    CLIENT(h, client, .type = TYPE_NON, .code = CODE_GET, .path = path,
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, option)));
    expect_at_client(h, client, CODE_CONTENT, &m);
    return message_has(&m, SLOT_OBSERVE);
}

static void expect_notification(struct harness *h, unsigned client, const char *text)
{
    struct flow flow = harness_client(h, client);
    struct message m;

    for (unsigned i = h->taken; i < h->count; i++) { /* in any order of the clients */
        struct sent *s = &h->sent[i];

        if (!flow_equal(&s->flow, &flow))
            continue;
        assert_int_equal(message_parse(s->data, s->length, &m), VERDICT_OK);
        assert_int_equal(m.code, CODE_CONTENT);
        assert_true(message_has(&m, SLOT_OBSERVE));
        assert_payload(&m, text, strlen(text));
        h->sent[i] = h->sent[h->taken];
        h->taken++;
        return;
    }
    fail_msg("client %u got no notification", client);
}

static void tell(const char *segment)
{
    struct coapgw_bytes path = {(const uint8_t *)segment, segment ? strlen(segment) : 0};

    assert_int_equal(probe.api->notify(probe.instance, segment ? &path : NULL, 1), 0);
}

static void test_one_call_for_all_who_observe_the_same(void **state)
{
    struct harness *h = observe_begin();

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        assert_true(observe(h, i, "probe/a", 0));
    assert_true(observe(h, 5, "probe/b", 0));
    assert_int_equal(usage_of(h).observations, 2);
    seen.calls = 0;
    seen.version = 7;
    tell("a");
    tell("a"); /* joined */
    assert_int_equal(seen.calls, 0);
    harness_advance(h, 2000);
    assert_int_equal(seen.calls, 1);
    for (unsigned i = 0; i < 5; i++)
        expect_notification(h, i, "a 7");
    harness_silent(h);
    seen.version = 8;
    tell(NULL);
    harness_advance(h, 2000);
    assert_int_equal(seen.notified, 3);
    assert_int_equal(COUNTER(h, module_states), 3);
    for (unsigned i = 0; i < 5; i++)
        expect_notification(h, i, "a 8");
    expect_notification(h, 5, "b 8");
    tell("c");
    tell("");
    harness_advance(h, 2000);
    assert_int_equal(seen.notified, 3);
    for (unsigned i = 0; i < 6; i++)
        assert_false(observe(h, i, i < 5 ? "probe/a" : "probe/b", 1));
    assert_int_equal(usage_of(h).observations, 0);
    tell(NULL);
    harness_advance(h, 2000);
    assert_int_equal(seen.notified, 3);
    nothing_is_kept(h);
    probe_end(h);
}

/* What the answer may depend on makes requests different; a token or an ETag does not. */
static void test_different_requests_have_their_own_states(void **state)
{
    struct harness *h = observe_begin();
    struct message m;

    (void)state;
    assert_true(observe(h, 1, "probe/a", 0));
    CLIENT(h, 2, .type = TYPE_NON, .code = CODE_GET, .path = "probe/a",
           OPTIONS_OF(text_option(OPTION_ETAG, "old"), addition_uint(OPTION_OBSERVE, 0)));
    expect_at_client(h, 2, CODE_CONTENT, &m);
    assert_int_equal(usage_of(h).observations, 1);
    CLIENT(h, 3, .type = TYPE_NON, .code = CODE_GET, .path = "probe/a",
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text_option(OPTION_URI_QUERY, "q")));
    expect_at_client(h, 3, CODE_CONTENT, &m);
    assert_int_equal(usage_of(h).observations, 2);
    CLIENT(h, 4, .type = TYPE_NON, .code = CODE_FETCH, .path = "probe/a",
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0)), .payload = "1", .payload_length = 1);
    expect_at_client(h, 4, CODE_CONTENT, &m);
    CLIENT(h, 5, .type = TYPE_NON, .code = CODE_FETCH, .path = "probe/a",
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0)), .payload = "2", .payload_length = 1);
    expect_at_client(h, 5, CODE_CONTENT, &m);
    assert_int_equal(usage_of(h).observations, 4);
    seen.calls = 0;
    tell("a");
    harness_advance(h, 2000);
    assert_int_equal(seen.calls, 4);
    for (unsigned i = 1; i <= 5; i++)
        expect_notification(h, i, "a 0");
    probe_end(h);
}

/* A request without any option but Observe, to the root. */
static void test_a_module_at_the_root(void **state)
{
    struct harness *h = probe_begin(MODULE_YAML "observe: {confirm_every: 1000}\n"
                                                "routes:\n"
                                                "  - {path: /, module: {file: /unit/probe.so, "
                                                "options: \"some text\"}}\n");

    (void)state;
    memset(&seen, 0, sizeof(seen));
    probe.handle = show_version;
    assert_true(observe(h, 1, NULL, 0));
    assert_true(observe(h, 2, "a", 0));
    assert_int_equal(usage_of(h).observations, 2);
    seen.version = 3;
    assert_int_equal(probe.api->notify(probe.instance, &(struct coapgw_bytes){NULL, 0}, 0), 0);
    harness_advance(h, 2000);
    expect_notification(h, 1, " 3");
    harness_silent(h);
    tell("a");
    harness_advance(h, 2000);
    expect_notification(h, 2, "a 3");
    harness_silent(h);
    probe_end(h);
}

static void test_notify_within_a_call(void **state)
{
    struct harness *h = observe_begin();

    (void)state;
    seen.nested = true;
    assert_true(observe(h, 1, "probe/a", 0));
    harness_advance(h, 2000);
    assert_int_equal(seen.notified, 0); /* nobody had observed when it was told */
    tell("a");
    seen.nested = true; /* and once more from within the new state's call */
    harness_advance(h, 5000);
    assert_int_equal(seen.notified, 2);
    expect_notification(h, 1, "a 2");
    expect_notification(h, 1, "a 2");
    harness_silent(h);
    probe_end(h);
}

static void test_an_error_is_the_last_word(void **state)
{
    struct harness *h = observe_begin();
    struct message m;

    (void)state;
    assert_true(observe(h, 1, "probe/a", 0));
    assert_true(observe(h, 2, "probe/a", 0));
    seen.code = COAPGW_NOT_FOUND;
    tell("a");
    harness_advance(h, 2000);
    for (unsigned i = 1; i <= 2; i++) {
        expect_at_client(h, i, CODE_NOT_FOUND, &m);
        assert_false(message_has(&m, SLOT_OBSERVE));
        if (m.type == TYPE_CON)
            client_acks(h, i, m.mid);
    }
    harness_advance(h, 5 * SECOND_US);
    assert_int_equal(usage_of(h).observations, 0);
    assert_int_equal(usage_of(h).relations, 0);
    seen.code = 0;
    seen.closed = true;
    assert_false(observe(h, 1, "probe/a", 0));
    assert_int_equal(usage_of(h).observations, 0);
    nothing_is_kept(h);
    probe_end(h);
}

static void test_relations_are_told(void **state)
{
    struct harness *h = observe_begin();
    const struct coapgw_event *event;

    (void)state;
    assert_true(observe(h, 1, "probe/a", 0));
    event = probe_last(COAPGW_RELATION_ADDED);
    assert_non_null(event);
    assert_true(event->session == probe_last(COAPGW_SESSION_OPENED)->session);
    assert_int_equal(event->name.length, 1);
    assert_null(probe_last(COAPGW_RELATION_DELETED));
    assert_false(observe(h, 1, "probe/a", 1));
    assert_non_null(probe_last(COAPGW_RELATION_DELETED));
    probe_end(h);
}

static uint8_t kept[64];
static size_t kept_length;

static void keep_data(const struct coapgw_event *event)
{
    if (event->kind != COAPGW_RELATION_ADDED && event->kind != COAPGW_RESOURCE_ADDED)
        return;
    assert_true(event->data.length <= sizeof(kept));
    kept_length = event->data.length;
    memcpy(kept, event->data.data, kept_length);
}

/* What a module needs to keep relations in its own way: there is no store. */
static void test_a_registration_as_it_came(void **state)
{
    struct harness *h = observe_begin();
    struct message m;

    (void)state;
    probe.on_event = keep_data;
    assert_true(observe(h, 1, "probe/a", 0));
    assert_int_equal(message_parse(kept, kept_length, &m), VERDICT_OK);
    assert_int_equal(m.code, CODE_GET);
    assert_int_equal(option_of(&m, SLOT_OBSERVE), 0);
    assert_int_equal(m.token_length, 1);
    assert_false(observe(h, 1, "probe/a", 1));
    nothing_is_kept(h);
    probe_end(h);
}

/* The Observe option of the last message. */
static uint32_t last_number(struct harness *h)
{
    struct message m;
    const struct sent *s = &h->sent[h->count - 1];

    assert_int_equal(message_parse(s->data, s->length, &m), VERDICT_OK);
    return option_of(&m, SLOT_OBSERVE);
}

static void test_numbers_are_told_ahead(void **state)
{
    struct harness *h = observe_begin();
    unsigned told = 0;

    (void)state;
    assert_true(observe(h, 1, "probe/a", 0));
    for (unsigned i = 0; i < 300; i++) {
        const struct coapgw_event *event;

        seen.version++;
        tell("a");
        harness_advance(h, SECOND_US);
        event = probe_last(COAPGW_COUNTER);
        assert_non_null(event);
        assert_true(((event->number - last_number(h)) & 0xffffff) < 0x10000);
        h->taken = h->count = 0;
    }
    for (unsigned i = 0; i < probe.event_count; i++)
        told += probe.events[i].kind == COAPGW_COUNTER;
    assert_in_range(told, 4, 10); /* not each of 300 */
    probe_end(h);
}

static void test_held_resources_are_told(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML "  - {path: /held, resources: {create: true}}\n");
    const struct coapgw_event *event;
    struct message m;
    uint64_t version;

    (void)state;
    probe.on_event = keep_data;
    CLIENT(h, 1, .code = CODE_PUT, .path = "held/x",
           OPTIONS_OF(addition_uint(OPTION_CONTENT_FORMAT, 50)), .payload = "state",
           .payload_length = 5);
    expect_at_client(h, 1, CODE_CREATED, &m);
    event = probe_last(COAPGW_RESOURCE_ADDED);
    assert_non_null(event);
    assert_int_equal(event->format, 50);
    assert_int_equal(event->name.length, strlen("/held/x"));
    assert_int_equal(kept_length, 5);
    assert_memory_equal(kept, "state", 5);
    version = event->number;
    CLIENT(h, 1, .code = CODE_DELETE, .path = "held/x");
    expect_at_client(h, 1, CODE_DELETED, &m);
    event = probe_last(COAPGW_RESOURCE_DELETED);
    assert_non_null(event);
    assert_true(event->number > version);
    assert_int_equal(event->name.length, strlen("/held/x"));
    probe_end(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_call_for_all_who_observe_the_same),
        cmocka_unit_test(test_different_requests_have_their_own_states),
        cmocka_unit_test(test_a_module_at_the_root),
        cmocka_unit_test(test_notify_within_a_call),
        cmocka_unit_test(test_an_error_is_the_last_word),
        cmocka_unit_test(test_relations_are_told),
        cmocka_unit_test(test_a_registration_as_it_came),
        cmocka_unit_test(test_numbers_are_told_ahead),
        cmocka_unit_test(test_held_resources_are_told),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
