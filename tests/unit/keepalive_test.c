/* Pings to servers that have been silent: when they are sent, what counts as a sign of life, and
 * what their failure does. */
#include "tests/unit/proxy_steps.h"

static const char yaml[] =
    "instance: unit\n"
    "interfaces:\n"
    "  - name: south\n"
    "    device: tap:unit0\n"
    "    addresses: [10.99.0.2/24]\n"
    "listeners: [{uri: coap://10.99.0.2}]\n"
    "upstreams:\n"
    "  - name: one\n"
    "    servers: [coap://10.99.0.11]\n"
    "    keepalive: 60s\n"
    "    revive: 10s\n"
    "    transmission: {ack_random_factor: 1}\n"
    "  - name: pair\n"
    "    servers: [coap://10.99.0.21, coap://10.99.0.22]\n"
    "    balance: round_robin\n"
    "routes:\n"
    "  - {path: /, to: one}\n"
    "  - {path: /pair, to: pair}\n"
    "cache: {size: 0}\n"
    "limits: {sessions: 64, exchanges: 32, outbound: 32, queue: 8, remembered: 64, "
    "message_memory: 64KiB, amplification: 0}\n";

static int setup(void **state)
{
    return start(state, yaml);
}

/* Pings go on for ever, and so do the sessions that they use: nothing else is left. */
static int teardown(void **state)
{
    struct harness *h = *state;
    struct worker_usage usage;

    let_it_end(h, 600 * SECOND_US);
    worker_usage(h->worker, &usage);
    assert_int_equal(usage.exchanges, 0);
    assert_int_equal(usage.forwards, 0);
    assert_int_equal(usage.outbound, 0);
    assert_int_equal(usage.remembered, 0);
    assert_true(usage.sessions <= 1);
    assert_true(usage.timers <= 2); /* the server's and its session's */
    harness_stop(h);
    free(h);
    return 0;
}

static uint16_t mid_of(const struct sent *s)
{
    return (uint16_t)(s->data[2] << 8 | s->data[3]);
}

static struct sent expect_ping(struct harness *h, uint64_t at_us)
{
    struct sent *s = harness_take(h);

    assert_non_null(s);
    assert_int_equal(s->length, 4);
    assert_int_equal(s->data[0], 0x40);
    assert_int_equal(s->data[1], 0);
    assert_int_equal(s->flow.peer.bytes[15], 11);
    assert_in_range(s->at_us, at_us, at_us + 2000);
    return *s;
}

static void pong(struct harness *h, const struct sent *ping)
{
    give_empty(h, &ping->flow, TYPE_RST, mid_of(ping));
}

static void a_silent_server_is_pinged(void **state)
{
    struct harness *h = *state;
    uint64_t since = h->now;
    struct sent ping;

    for (unsigned i = 0; i < 5; i++) {
        harness_advance(h, since + 60 * SECOND_US + 2000 - h->now);
        ping = expect_ping(h, since + 60 * SECOND_US);
        harness_silent(h);
        harness_advance(h, 300 * 1000);
        pong(h, &ping);
        since = h->now;
    }
    assert_int_equal(COUNTER(h, server_pings), 5);
    assert_int_equal(COUNTER(h, servers_down), 0);
}

static void traffic_makes_pings_needless(void **state)
{
    struct harness *h = *state;
    struct message m;
    uint64_t since = 0;

    for (uint16_t i = 0; i < 10; i++) {
        struct sent out;

        harness_advance(h, 50 * SECOND_US);
        get(h, 1, i, "x");
        out = expect_upstream(h, &m);
        answer_with(h, &out, CODE_CONTENT, NO_OPTIONS, NULL);
        expect_client(h, 1, CODE_CONTENT, &m);
        since = h->now;
    }
    assert_int_equal(COUNTER(h, server_pings), 0);
    harness_advance(h, 61 * SECOND_US);
    expect_ping(h, since + 60 * SECOND_US);
}

/* Only what the server says counts, not what is said to it. */
static void requests_without_an_answer_do_not_count(void **state)
{
    struct harness *h = *state;
    struct message m;
    uint64_t since = h->now;
    struct sent ping = {0}, *s;

    harness_advance(h, 59 * SECOND_US);
    get(h, 1, 1, "x");
    expect_upstream(h, &m);
    harness_advance(h, 1100 * 1000);
    while ((s = harness_take(h)))
        if (s->length == 4 && !is_to_client(h, s))
            ping = *s;
    assert_in_range(ping.at_us, since + 60 * SECOND_US, since + 60 * SECOND_US + 2000);
    pong(h, &ping);
    let_it_end(h, 300 * SECOND_US);
}

/* A ping is sent again as a CON is; then the server is down, and is pinged every `revive`. */
static void a_server_that_answers_no_ping_is_down(void **state)
{
    static const unsigned waits[] = {60, 2, 4, 8, 16, 32 + 10, 10, 10};
    struct harness *h = *state;
    uint64_t at = h->now;
    uint16_t mid = 0;

    harness_advance(h, 160 * SECOND_US);
    for (unsigned i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        struct sent ping;

        at += waits[i] * SECOND_US;
        ping = expect_ping(h, at);
        at = ping.at_us;
        if (i == 0)
            mid = mid_of(&ping);
        if (i < 5)
            assert_int_equal(mid_of(&ping), mid);
        else
            assert_int_not_equal(mid_of(&ping), mid);
        if (i == 7)
            pong(h, &ping);
    }
    assert_int_equal(COUNTER(h, servers_down), 1);
    assert_int_equal(COUNTER(h, servers_up), 1);
    harness_silent(h);
    at = h->now;
    harness_advance(h, 60 * SECOND_US + 2000);
    expect_ping(h, at + 60 * SECOND_US);
}

static void any_repetition_may_be_answered(void **state)
{
    struct harness *h = *state;
    uint64_t at = h->now;
    struct sent first;

    harness_advance(h, 63 * SECOND_US);
    first = expect_ping(h, at + 60 * SECOND_US);
    expect_ping(h, at + 62 * SECOND_US);
    pong(h, &first);
    at = h->now;
    harness_advance(h, 60 * SECOND_US + 2000);
    expect_ping(h, at + 60 * SECOND_US);
}

static void an_icmp_error_about_a_ping_ends_the_wait(void **state)
{
    struct harness *h = *state;
    uint64_t at = h->now;
    struct sent ping;

    harness_advance(h, 61 * SECOND_US);
    ping = expect_ping(h, at + 60 * SECOND_US);
    unreachable(h, &ping);
    assert_int_equal(COUNTER(h, servers_down), 1);
    unreachable(h, &ping); /* nothing waits any more */
    assert_int_equal(COUNTER(h, servers_down), 1);
    at = h->now;
    harness_advance(h, 10 * SECOND_US + 2000);
    ping = expect_ping(h, at + 10 * SECOND_US);
    pong(h, &ping);
    assert_int_equal(COUNTER(h, servers_up), 1);
}

/* One that is down gets requests all the same, as there is no other; the answer revives it. */
static void a_lone_server_is_still_asked(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;
    uint64_t since;

    get(h, 1, 1, "x");
    out = expect_upstream(h, &m);
    unreachable(h, &out);
    expect_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
    assert_int_equal(COUNTER(h, servers_down), 1);
    get(h, 1, 2, "x");
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CONTENT, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(COUNTER(h, servers_up), 1);
    since = h->now;
    harness_advance(h, 60 * SECOND_US + 2000);
    expect_ping(h, since + 60 * SECOND_US);
}

/* Without `keepalive` a server that has never failed gets no pings. */
static void others_are_not_pinged(void **state)
{
    struct harness *h = *state;
    struct sent *s;

    harness_advance(h, 1000 * SECOND_US);
    while ((s = harness_take(h)))
        assert_int_equal(s->flow.peer.bytes[15], 11);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_silent_server_is_pinged),
        TEST(traffic_makes_pings_needless),
        TEST(requests_without_an_answer_do_not_count),
        TEST(a_server_that_answers_no_ping_is_down),
        TEST(any_repetition_may_be_answered),
        TEST(an_icmp_error_about_a_ping_ends_the_wait),
        TEST(a_lone_server_is_still_asked),
        TEST(others_are_not_pinged),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
