/* Pings to servers and requests to them: sent again by the same schedule, with gaps that keepalive
 * caps. */
#include "tests/unit/life_steps.h"

#define YAML(keepalive, factor)                                                                 \
    "instance: unit\n"                                                                          \
    "interfaces:\n"                                                                             \
    "  - name: south\n"                                                                         \
    "    device: tap:unit0\n"                                                                   \
    "    addresses: [10.99.0.2/24]\n"                                                           \
    "listeners: [{uri: coap://10.99.0.2, keepalive: 0s}]\n"                                     \
    "upstreams:\n"                                                                              \
    "  - {name: origin, servers: [coap://10.99.0.1], timeout: 1000s, revive: 100s,\n"           \
    "     keepalive: " keepalive ", transmission: {ack_timeout: 3s, ack_random_factor: " factor \
    ", max_retransmit: 3}}\n"                                                                   \
    "routes:\n"                                                                                 \
    "  - {path: /, to: origin}\n"                                                               \
    "cache: {size: 0}\n"                                                                        \
    "limits: {amplification: 0, sessions: 64}\n"

static struct harness *begin(const char *yaml)
{
    void *state;

    observe_start(&state, yaml);
    events_begin(state);
    return state;
}

static void end(struct harness *h)
{
    harness_stop(h);
    free(h);
}

static uint64_t downs(struct harness *h)
{
    return worker_counters(h->worker)->servers_down;
}

/* The next ping, within 2 ms of a time. Its message ID. */
static uint16_t ping_at(struct harness *h, uint64_t at_us)
{
    struct sent *s;

    harness_advance(h, at_us + 2000 - h->now);
    s = harness_take(h);
    assert_non_null(s);
    assert_true(is_ping(s));
    assert_int_equal(s->flow.peer_port, 5683);
    assert_in_range(s->at_us, at_us, at_us + 2000);
    harness_silent(h);
    return mid_of(s);
}

/* Each gap begins with the ping before it. */
static void expect_round(struct harness *h, uint64_t first_s, const unsigned *gaps_s, unsigned n)
{
    uint64_t at = h->now + first_s * SECOND_US;
    uint16_t mid = ping_at(h, at);

    for (unsigned i = 0; i < n; i++) {
        at = h->sent[h->taken - 1].at_us + gaps_s[i] * SECOND_US;
        assert_int_equal(ping_at(h, at), mid);
    }
}

static void three_six_twelve(void **state)
{
    static const unsigned gaps[] = {3, 6, 12};
    struct harness *h = begin(YAML("60s", "1"));

    (void)state;
    expect_round(h, 60, gaps, 3);
    harness_advance(h, 24 * SECOND_US - 3000);
    assert_int_equal(downs(h), 0);
    assert_int_equal(heard_events.count, 1); /* the session was opened */
    harness_advance(h, 5000);
    assert_int_equal(downs(h), 1);
    assert_int_equal(heard_events.count, 2);
    assert_int_equal(heard_events.list[1].event, SESSION_KEEPALIVE_FAILED);
    harness_silent(h);
    end(h);
}

/* Not more than the interval, and as many as without it. */
static void gaps_are_capped(void **state)
{
    static const unsigned gaps[] = {3, 5, 5};
    struct harness *h = begin(YAML("5s", "1"));

    (void)state;
    expect_round(h, 5, gaps, 3);
    harness_advance(h, 5 * SECOND_US - 3000);
    assert_int_equal(downs(h), 0);
    harness_advance(h, 5000);
    assert_int_equal(downs(h), 1);
    end(h);
}

/* The first timeout as well. */
static void so_is_the_first(void **state)
{
    static const unsigned gaps[] = {2, 2, 2};
    struct harness *h = begin(YAML("2s", "1"));

    (void)state;
    expect_round(h, 2, gaps, 3);
    harness_advance(h, 2 * SECOND_US + 3000);
    assert_int_equal(downs(h), 1);
    end(h);
}

/* The first gap is drawn, the others are twice the one before (RFC 7252 4.2). */
static void the_first_gap_is_drawn(void **state)
{
    struct harness *h = begin(YAML("1h", "1.5"));
    uint64_t shortest = UINT64_MAX, longest = 0;

    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        uint64_t at[4];

        harness_advance(h, 3600 * SECOND_US + 40 * SECOND_US);
        for (unsigned i = 0; i < 4; i++) {
            struct sent *s = harness_take(h);

            assert_non_null(s);
            at[i] = s->at_us;
        }
        harness_silent(h);
        assert_in_range(at[1] - at[0], 3 * SECOND_US, 4500000 + 2000);
        assert_in_range(at[2] - at[1], 2 * (at[1] - at[0]) - 4000, 2 * (at[1] - at[0]) + 4000);
        assert_in_range(at[3] - at[2], 4 * (at[1] - at[0]) - 8000, 4 * (at[1] - at[0]) + 8000);
        shortest = at[1] - at[0] < shortest ? at[1] - at[0] : shortest;
        longest = at[1] - at[0] > longest ? at[1] - at[0] : longest;
        pong(h, &h->sent[h->taken - 1]);
        h->count = h->taken = 0;
    }
    assert_true(longest - shortest > SECOND_US);
    assert_int_equal(downs(h), 0);
    end(h);
}

static void an_answer_is_told(void **state)
{
    struct harness *h = begin(YAML("60s", "1"));
    uint16_t mid = ping_at(h, h->now + 60 * SECOND_US);

    (void)state;
    pong(h, &h->sent[h->taken - 1]);
    assert_int_equal(heard_events.count, 2);
    assert_int_equal(heard_events.list[1].event, SESSION_PONG);
    assert_int_equal(heard_events.list[1].mid, mid);
    assert_int_not_equal(ping_at(h, h->now + 60 * SECOND_US), mid); /* a new one */
    worker_unreachable(h->worker, &h->sent[h->taken - 1].flow, h->sent[h->taken - 1].data, 4,
                       h->now);
    assert_int_equal(heard_events.list[2].event, SESSION_KEEPALIVE_FAILED);
    assert_int_equal(downs(h), 1);
    end(h);
}

/* Without a session a ping cannot be sent: that says nothing about the server. */
static void a_ping_that_cannot_be_sent_condemns_nobody(void **state)
{
    struct harness *h = begin(YAML("5s", "1"));
    struct messaging *m = messaging_of(h);
    uint32_t max = m->sessions.max;

    (void)state;
    m->sessions.max = 0;
    harness_advance(h, 200 * SECOND_US);
    harness_silent(h);
    assert_int_equal(downs(h), 0);
    m->sessions.max = max;
    harness_advance(h, 5 * SECOND_US);
    assert_true(is_ping(harness_take(h)));
    end(h);
}

/* Requests to a server with keepalive are sent again no later than the interval, as often as ever;
 * those to one without double on. */
static void requests_are_capped_too(void **state)
{
    static const unsigned with[] = {3, 4, 4}, without[] = {3, 6, 12};
    struct flow flow;
    uint8_t bytes[1500];

    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        struct harness *h = begin(round ? YAML("0s", "1") : YAML("4s", "1"));
        struct message m;
        uint64_t at;

        flow = harness_client(h, 1);
        harness_give(h, &flow, bytes, harness_request(bytes, TYPE_NON, CODE_POST, 1, 1, "x", NULL));
        at = origin_expect(h, &m)->at_us;
        for (unsigned i = 0; i < 3; i++) {
            struct sent *s;

            at += (round ? without : with)[i] * SECOND_US;
            harness_advance(h, at + 3000 - h->now);
            while ((s = harness_take(h)) && is_ping(s))
                ;
            assert_non_null(s);
            assert_in_range(s->at_us, at, at + 2000);
            at = s->at_us;
        }
        assert_int_equal(worker_counters(h->worker)->give_ups, 0);
        harness_advance(h, (round ? 24 : 4) * SECOND_US + 3000);
        assert_int_equal(worker_counters(h->worker)->give_ups, 1);
        assert_int_equal(worker_counters(h->worker)->retransmissions, 3);
        end(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_six_twelve),
        cmocka_unit_test(gaps_are_capped),
        cmocka_unit_test(so_is_the_first),
        cmocka_unit_test(the_first_gap_is_drawn),
        cmocka_unit_test(an_answer_is_told),
        cmocka_unit_test(a_ping_that_cannot_be_sent_condemns_nobody),
        cmocka_unit_test(requests_are_capped_too),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
