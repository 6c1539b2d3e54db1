/* Observations at origins over time (RFC 7641 3.3.1): renewals, origins that fall silent, servers
 * that go down, changes through us. */
#include "tests/unit/observe_harness.h"

static const char yaml[] = OBSERVE_YAML "observe: {confirm_every: 50, confirm_after: 24h}\n"
                                        "limits: {sessions: 64, exchanges: 16, outbound: 16, "
                                        "queue: 4, remembered: 64, message_memory: 64KiB, "
                                        "observations: 4, relations: 8, amplification: 0}\n";

static int setup(void **state)
{
    observe_start(state, yaml);
    return 0;
}

static int teardown(void **state)
{
    observe_end(*state);
    return 0;
}

/* Servers that are down are pinged for ever: their sessions stay. */
static int teardown_pinging(void **state)
{
    struct harness *h = *state;

    observe_skip(h, 4000);
    assert_int_equal(observe_usage(h).relations, 0);
    assert_int_equal(observe_usage(h).observations, 0);
    assert_int_equal(observe_usage(h).forwards, 0);
    assert_int_equal(observe_usage(h).outbound, 0);
    harness_stop(h);
    free(h);
    return 0;
}

/* Lets time go on until a registration goes out. */
static struct sent *await_registration(struct harness *h, unsigned seconds, struct registered *r)
{
    for (unsigned i = 0; i < seconds * 10 && h->taken == h->count; i++)
        harness_advance(h, SECOND_US / 10);
    return origin_registration(h, r);
}

static void it_is_renewed_when_max_age_has_passed(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 2, .max_age = 30, .payload = "two"};
    const struct say next = {.observed = true, .number = 3, .max_age = 30, .payload = "three"};
    struct registered r, renewal;
    struct sent *request;
    int64_t number = observe_begin(h, 1, "t", "one", &r);
    uint64_t heard_us;

    origin_notify(h, &r, TYPE_NON, 5, &say);
    heard_us = h->now - 2000;
    assert_newer(expect_state(h, 1, TYPE_NON, "two", NULL), number);
    for (uint32_t i = 0; i < 5; i++) {
        request = await_registration(h, 60, &renewal);
        assert_in_range(request->at_us - heard_us, 35 * SECOND_US, 45100 * 1000);
        assert_memory_equal(renewal.token, r.token, 8);
        assert_true(flow_equal(&renewal.flow, &r.flow));
        origin_answer(h, request, TYPE_ACK, 0, &next);
        heard_us = h->now;
        harness_advance(h, 2000);
        expect_state(h, 1, TYPE_NON, "three", NULL); /* its Max-Age counts anew */
        harness_silent(h);
    }
    assert_int_equal(worker_counters(h->worker)->registrations, 6);
    assert_int_equal(worker_counters(h->worker)->observations, 1);
}

static void renewals_are_spread(void **state)
{
    struct harness *h = *state;
    struct registered r;
    const char *paths[] = {"a", "b", "c", "d"};
    uint64_t first = UINT64_MAX, last = 0;

    for (unsigned i = 0; i < 4; i++)
        observe_begin(h, 1 + i, paths[i], "one", &r);
    for (unsigned i = 0; i < 4; i++) {
        const struct say say = {.observed = true, .number = 3, .max_age = 3000, .payload = "x"};
        struct sent *request = await_registration(h, 80, &r);

        first = request->at_us < first ? request->at_us : first;
        last = request->at_us > last ? request->at_us : last;
        origin_answer(h, request, TYPE_ACK, 0, &say);
        harness_advance(h, 2000);
        client_expect(h, h->sent[h->taken].flow.peer_port - 20000u, &(struct message){0});
    }
    assert_true(last - first > SECOND_US / 2);
}

static void who_registers_with_a_stale_state_renews(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 2, .payload = "two"};
    struct registered r, renewal;
    struct sent *request;

    observe_begin(h, 1, "t", "one", &r);
    harness_advance(h, 61 * SECOND_US);
    client_observe(h, 2, 1, 2, "t", 0);
    request = origin_registration(h, &renewal);
    assert_memory_equal(renewal.token, r.token, 8);
    harness_advance(h, 100 * 1000);
    origin_answer(h, request, TYPE_ACK, 0, &say);
    assert_true(expect_state(h, 2, TYPE_ACK, "two", NULL) >= 0);
    harness_advance(h, 2000);
    expect_state(h, 1, TYPE_NON, "two", NULL);
    harness_silent(h);
}

static void a_notification_is_as_good_as_the_answer_to_a_renewal(void **state)
{
    struct harness *h = *state;
    const struct say late = {.observed = true, .number = 2, .payload = "late"};
    struct registered r, renewal;
    struct sent *request;

    observe_begin(h, 1, "t", "one", &r);
    request = await_registration(h, 80, &renewal);
    origin_state(h, &r, 3, "three");
    expect_state(h, 1, TYPE_NON, "three", NULL);
    origin_answer(h, request, TYPE_ACK, 0, &late); /* overtaken on its way */
    harness_advance(h, 10 * SECOND_US);
    harness_silent(h);
    origin_state(h, &r, 4, "four");
    expect_state(h, 1, TYPE_NON, "four", NULL);
}

static void an_origin_that_falls_silent_is_given_up(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m;
    unsigned requests = 0, cancellations = 0;
    bool told = false;

    observe_begin(h, 1, "t", "one", &r);
    for (unsigned i = 0; i < 600 && !told; i++) {
        harness_advance(h, SECOND_US);
        while (h->taken < h->count && !told) {
            harness_expect(h, &m);
            if (code_is_request(m.code)) {
                requests++;
                continue;
            }
            assert_int_equal(m.type, TYPE_CON);
            assert_int_equal(m.code, CODE_GATEWAY_TIMEOUT);
            client_empty(h, 1, TYPE_ACK, m.mid);
            told = true;
        }
    }
    assert_true(told);
    assert_int_equal(requests, 3 * 5); /* three renewals with their retransmissions */
    assert_int_equal(observe_usage(h).relations, 0);
    while (h->taken < h->count) {
        harness_expect(h, &m);
        cancellations += message_uint(&m, SLOT_OBSERVE, 9) == 1;
    }
    assert_int_equal(cancellations, 1); /* it may still hear */
}

static void what_is_renewed_may_be_refused(void **state)
{
    struct harness *h = *state;
    const struct say gone = {.code = CODE_NOT_FOUND};
    struct registered r;
    struct message m;

    observe_begin(h, 1, "t", "one", &r);
    origin_answer(h, await_registration(h, 80, &r), TYPE_ACK, 0, &gone);
    harness_advance(h, 2000);
    client_expect(h, 1, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, CODE_NOT_FOUND);
    client_empty(h, 1, TYPE_ACK, m.mid);
    assert_int_equal(observe_usage(h).observations, 0);
    harness_silent(h);
}

static void the_last_client_may_leave_during_a_renewal(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 3, .payload = "three"};
    struct registered r, renewal;
    struct sent *request;
    struct message m;

    observe_begin(h, 1, "t", "one", &r);
    request = await_registration(h, 80, &renewal);
    client_observe(h, 1, 2, 1, "t", 1);
    origin_answer(h, request, TYPE_ACK, 0, &say);
    while (h->sent[h->taken].flow.peer_port != 5683)
        client_expect(h, 1, &m);
    origin_cancelled(h, &r);
    h->taken = h->count;
    assert_int_equal(observe_usage(h).relations, 0);
}

/* ---- servers ---- */

static void when_its_server_goes_down_another_is_asked(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 1, .payload = "one"};
    const struct say moved = {.observed = true, .number = 0, .payload = "moved"};
    struct registered r, other;
    struct sent *request;
    struct message m;

    client_observe(h, 1, 1, 1, "pair/t", 0);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    client_observe(h, 2, 1, 2, "pair/t", 0);
    expect_state(h, 2, TYPE_ACK, "one", NULL);

    /* Something else finds it down. */
    do {
        static uint16_t mid = 100;
        const struct ask ask = {.observe = NO_OBSERVE};
        char path[16];

        snprintf(path, sizeof(path), "pair/%u", mid);
        client_send(h, 3, TYPE_CON, mid++, 3, path, &ask);
        request = origin_expect(h, &m);
        if (!address_equal(&request->flow.peer, &r.flow.peer)) {
            origin_answer(h, request, TYPE_ACK, 0, &say);
            client_expect(h, 3, &m);
        }
    } while (!address_equal(&request->flow.peer, &r.flow.peer));
    worker_unreachable(h->worker, &request->flow, request->data, request->length, h->now);
    client_expect(h, 3, &m);
    harness_advance(h, 3 * SECOND_US);
    request = origin_registration(h, &other);
    assert_false(address_equal(&other.flow.peer, &r.flow.peer));

    origin_state(h, &r, 2, "late"); /* the old server is no answer to that */
    origin_answer(h, request, TYPE_ACK, 0, &moved);
    harness_advance(h, 2000);
    expect_state(h, 1, TYPE_NON, "moved", NULL); /* whatever its number */
    expect_state(h, 2, TYPE_NON, "moved", NULL);
    origin_state(h, &other, 1, "on");
    expect_state(h, 1, TYPE_NON, "on", NULL);
    expect_state(h, 2, TYPE_NON, "on", NULL);
    assert_int_equal(observe_usage(h).observations, 1);
    h->taken = h->count;
}

/* ---- changes through us ---- */

static void what_was_changed_through_us_is_not_handed_out(void **state)
{
    struct harness *h = *state;
    const struct say changed = {.code = CODE_CHANGED};
    const struct say say = {.observed = true, .number = 2, .payload = "two"};
    struct registered r, renewal;
    struct flow flow = harness_client(h, 2);
    struct message m;
    uint8_t bytes[1500];

    observe_begin(h, 1, "t", "one", &r);
    harness_give(h, &flow, bytes, harness_request(bytes, TYPE_CON, CODE_PUT, 5, 2, "t", "two"));
    origin_answer(h, origin_expect(h, &m), TYPE_ACK, 0, &changed);
    client_expect(h, 2, &m);
    client_observe(h, 3, 1, 3, "t", 0);
    origin_answer(h, origin_registration(h, &renewal), TYPE_ACK, 0, &say);
    assert_memory_equal(renewal.token, r.token, 8);
    expect_state(h, 3, TYPE_ACK, "two", NULL);
    harness_advance(h, 2000);
    expect_state(h, 1, TYPE_NON, "two", NULL);
    harness_silent(h);
}

/* A large state is on its way when somebody registers, and the old one is stale: the registration
 * takes its place. */
static void a_registration_takes_the_place_of_a_rest(void **state)
{
    struct harness *h = *state;
    static char body[1024];
    const struct say large = {.observed = true,
                              .number = 2,
                              .in_blocks = true,
                              .block = {.szx = 6, .more = true},
                              .payload = body,
                              .length = sizeof(body)};
    const struct say say = {.observed = true, .number = 3, .payload = "three"};
    struct registered r, renewal;
    struct message m;

    observe_begin(h, 1, "t", "one", &r);
    harness_advance(h, 61 * SECOND_US);
    origin_notify(h, &r, TYPE_NON, 5, &large);
    origin_expect(h, &m);
    client_observe(h, 2, 1, 2, "t", 0);
    origin_answer(h, origin_registration(h, &renewal), TYPE_ACK, 0, &say);
    assert_true(expect_state(h, 2, TYPE_ACK, "three", NULL) >= 0);
    harness_advance(h, 2000);
    expect_state(h, 1, TYPE_NON, "three", NULL);
    harness_silent(h);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_is_renewed_when_max_age_has_passed),
        TEST(renewals_are_spread),
        TEST(who_registers_with_a_stale_state_renews),
        TEST(a_notification_is_as_good_as_the_answer_to_a_renewal),
        TEST(an_origin_that_falls_silent_is_given_up),
        TEST(what_is_renewed_may_be_refused),
        TEST(the_last_client_may_leave_during_a_renewal),
        cmocka_unit_test_setup_teardown(when_its_server_goes_down_another_is_asked, setup,
                                        teardown_pinging),
        TEST(what_was_changed_through_us_is_not_handed_out),
        TEST(a_registration_takes_the_place_of_a_rest),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
