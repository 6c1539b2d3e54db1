/* PROBING_RATE (RFC 7252 4.7): what is not confirmable and goes to a peer that does not answer. */
#include "tests/unit/life_steps.h"

static const char yaml[] =
    "instance: unit\n"
    "interfaces:\n"
    "  - name: south\n"
    "    device: tap:unit0\n"
    "    addresses: [10.99.0.2/24]\n"
    "listeners:\n"
    "  - uri: coap://10.99.0.2\n"
    "    transmission: {nstart: 2, ack_random_factor: 1}\n"
    "upstreams:\n"
    "  - {name: non, servers: [coap://10.99.0.11], reliable: false, timeout: 1000s, ports: 1,\n"
    "     transmission: {nstart: 100, ack_timeout: 2s, probing_rate: 2.5}}\n"
    "  - {name: slow, servers: [coap://10.99.0.12], reliable: false, timeout: 20s, ports: 1,\n"
    "     transmission: {nstart: 100, probing_rate: 1}}\n"
    "  - {name: con, servers: [coap://10.99.0.13], timeout: 1000s, ports: 1,\n"
    "     transmission: {nstart: 100, ack_random_factor: 1, probing_rate: 0.001}}\n"
    "  - {name: one, servers: [coap://10.99.0.14], reliable: false, timeout: 5s, ports: 1,\n"
    "     transmission: {nstart: 1, probing_rate: 1}}\n"
    "  - {name: pinged, servers: [coap://10.99.0.15], reliable: false, timeout: 1000s, ports: 1,\n"
    "     keepalive: 60s, transmission: {nstart: 100, probing_rate: 0.001}}\n"
    "routes:\n"
    "  - {path: /, to: non}\n"
    "  - {path: /slow, to: slow}\n"
    "  - {path: /con, to: con}\n"
    "  - {path: /one, to: one}\n"
    "  - {path: /pinged, to: pinged}\n"
    "cache: {size: 0}\n"
    "limits: {amplification: 0, sessions: 256, exchanges: 512, outbound: 256, queue: 32, "
    "message_memory: 1MiB}\n";

static int setup(void **state)
{
    observe_start(state, yaml);
    events_begin(*state);
    return 0;
}

static int teardown(void **state)
{
    struct harness *h = *state;

    for (unsigned at = 0; at < 3000; at += 10) { /* pings go on for ever: they find an answer */
        harness_advance(h, 10 * SECOND_US);
        for (struct sent *s; (s = harness_take(h));)
            if (is_ping(s))
                pong(h, s);
        h->count = h->taken = 0;
        heard_events.count = 0;
    }
    assert_int_equal(observe_usage(h).exchanges, 0);
    assert_int_equal(observe_usage(h).forwards, 0);
    assert_int_equal(observe_usage(h).outbound, 0);
    assert_int_equal(observe_usage(h).relations, 0);
    assert_true(observe_usage(h).timers <= 2); /* of the server that is pinged */
    harness_stop(h);
    free(h);
    return 0;
}

static uint64_t counted(struct harness *h, size_t offset)
{
    uint64_t value;

    memcpy(&value, (const uint8_t *)worker_counters(h->worker) + offset, sizeof(value));
    return value;
}
#define COUNTED(h, name) counted(h, offsetof(struct counters, name))

static uint16_t last_mid;

/* Client n posts something, so that no two requests are joined. */
static void ask(struct harness *h, unsigned n, const char *path)
{
    struct flow flow = harness_client(h, n);
    uint8_t bytes[1500];

    harness_give(
        h, &flow, bytes,
        harness_request(bytes, TYPE_NON, CODE_POST, ++last_mid, (uint8_t)n, path, "some payload"));
}

/* The next request to an origin; all else is skipped. NULL: there is none. */
static struct sent *next_to_origin(struct harness *h)
{
    struct sent *s;

    while ((s = harness_take(h)) && (s->flow.peer_port != 5683 || !code_is_request(s->data[1])))
        ;
    return s;
}

static void answer(struct harness *h, const struct sent *request)
{
    struct sent copy = *request;

    origin_answer(h, &copy, TYPE_NON, (uint16_t)(0x5000 + ++last_mid),
                  &(struct say){.code = CODE_CHANGED});
}

/* How long `length` bytes take at 2.5 B/s. */
#define GAP_US(length) ((length)*SECOND_US * 10 / 25)

/* ---- servers ---- */

/* An answering peer has no limit, however much is asked of it. */
static void one_that_answers_is_not_limited(void **state)
{
    struct harness *h = *state;

    for (unsigned i = 0; i < 500; i++) {
        struct sent *s;

        ask(h, i % 50, "x");
        s = next_to_origin(h);
        assert_non_null(s);
        assert_int_equal(s->at_us, h->now);
        harness_advance(h, 100000);
        answer(h, s);
    }
    assert_int_equal(COUNTED(h, probing_waits), 0);
    assert_int_equal(COUNTED(h, nstart_waits), 0);
}

/* For ACK_TIMEOUT nobody knows; then exactly as many bytes go out as the rate has it. */
static void one_that_does_not_gets_so_many_bytes(void **state)
{
    struct harness *h = *state;
    uint64_t begun = h->now, last = 0, bytes = 0, first = 0;
    unsigned sent = 0;
    uint32_t length = 0;

    for (unsigned i = 0; i < 10; i++) { /* until 1.8 s */
        struct sent *s;

        ask(h, i, "x");
        s = next_to_origin(h);
        assert_non_null(s);
        assert_int_equal(s->data[0] & 0x30, 0x10); /* NON */
        last = s->at_us;
        length = s->length;
        harness_advance(h, 200000);
    }
    assert_int_equal(h->now, begun + 2 * SECOND_US);
    for (unsigned i = 10; i < 40; i++)
        ask(h, i, "x");
    assert_null(next_to_origin(h));
    assert_int_equal(COUNTED(h, probing_waits), 1); /* the others wait for the first */
    assert_int_equal(COUNTED(h, nstart_waits), 29);
    harness_advance(h, 200 * SECOND_US);
    for (struct sent *s; (s = next_to_origin(h)); sent++) {
        assert_in_range(s->at_us, last + GAP_US(length), last + GAP_US(length) + 2000);
        assert_in_range(s->at_us, begun + 2 * SECOND_US, h->now);
        if (!first)
            first = last;
        bytes += length; /* of what came before: what follows it is its share of time */
        assert_true(bytes * SECOND_US * 10 <= (s->at_us - first) * 25);
        last = s->at_us;
        length = s->length;
    }
    assert_in_range(sent, 200 * 25 / 10 / length - 1, 200 * 25 / 10 / length + 1);
}

static void anything_that_is_received_lifts_it(void **state)
{
    /* an answer, one that matches nothing, a ping, a RST to nothing, a request, and rubbish */
    static const uint8_t others[][6] = {{0},
                                        {0x50, 0x45, 9, 9},
                                        {0x40, 0, 9, 9},
                                        {0x70, 0, 9, 9},
                                        {0x50, 1, 9, 9},
                                        {0x50, 0x45, 9, 9, 0xff}};
    struct harness *h = *state;

    for (unsigned round = 0; round < 6; round++) {
        struct sent first, *s;

        ask(h, 0, "x");
        first = *next_to_origin(h);
        harness_advance(h, 3 * SECOND_US);
        for (unsigned i = 1; i < 9; i++)
            ask(h, i, "x");
        assert_null(next_to_origin(h));
        if (round == 0)
            answer(h, &first);
        else
            harness_give(h, &first.flow, others[round], round == 5 ? 5 : 4);
        for (unsigned i = 1; i < 9; i++) { /* all that wait, at once */
            s = next_to_origin(h);
            assert_non_null(s);
            assert_int_equal(s->at_us, h->now);
            answer(h, s);
        }
        if (round)
            answer(h, &first);
        harness_advance(h, 5 * SECOND_US);
        ask(h, 1, "x");
        s = next_to_origin(h);
        assert_int_equal(s->at_us, h->now);
        answer(h, s);
        h->count = h->taken = 0;
    }
}

/* The silence counts from the first request that found no answer, not from the last answer. */
static void silence_begins_with_the_first_unanswered_request(void **state)
{
    struct harness *h = *state;

    ask(h, 0, "x");
    answer(h, next_to_origin(h));
    harness_advance(h, 100 * SECOND_US);
    ask(h, 1, "x");
    assert_non_null(next_to_origin(h));
    harness_advance(h, 2 * SECOND_US - 1000);
    ask(h, 2, "x");
    assert_non_null(next_to_origin(h));
    harness_advance(h, 2000);
    ask(h, 3, "x");
    assert_null(next_to_origin(h));
    assert_int_equal(COUNTED(h, probing_waits), 1);
}

/* A single request long after one that was lost goes at once: its share of time has passed. */
static void now_and_then_is_below_the_rate(void **state)
{
    struct harness *h = *state;

    for (unsigned i = 0; i < 5; i++) {
        ask(h, i, "x");
        assert_non_null(next_to_origin(h));
        harness_advance(h, 60 * SECOND_US);
        assert_null(next_to_origin(h));
    }
    assert_int_equal(COUNTED(h, probing_waits), 0);
}

/* Those who wait are as many as the queue has room for, and not longer than the upstream's timeout.
 */
static void those_who_wait_are_bounded(void **state)
{
    struct harness *h = *state;
    unsigned refused = 0, timeouts = 0;
    struct sent *s;

    ask(h, 0, "slow");
    assert_non_null(next_to_origin(h));
    harness_advance(h, 3 * SECOND_US);
    h->taken = h->count;
    for (unsigned i = 1; i < 41; i++)
        ask(h, i, "slow");
    while ((s = harness_take(h))) {
        assert_int_equal(s->data[1], CODE_SERVICE_UNAVAILABLE);
        refused++;
    }
    assert_int_equal(refused, 40 - 32);
    assert_int_equal(COUNTED(h, refused_queue), 8);
    harness_advance(h, 21 * SECOND_US);
    while ((s = harness_take(h)))
        timeouts += s->data[1] == CODE_GATEWAY_TIMEOUT;
    assert_int_equal(timeouts, 33);
    assert_int_equal(observe_usage(h).outbound, 0);
}

/* NSTART holds as well: one at a time, until its time is over, and then the rate. */
static void nstart_holds_too(void **state)
{
    struct harness *h = *state;
    uint64_t begun = h->now;
    struct sent *s;
    uint32_t length;

    ask(h, 0, "one");
    s = next_to_origin(h);
    length = s->length; /* takes longer than the timeout at 1 B/s */
    assert_true(length > 20);
    for (unsigned i = 1; i < 4; i++) {
        harness_advance(h, SECOND_US);
        ask(h, i, "one");
    }
    harness_advance(h, begun + length * SECOND_US - 1000 - h->now);
    assert_null(next_to_origin(h));
    ask(h, 5, "one");
    harness_advance(h, 3000);
    s = next_to_origin(h);
    assert_non_null(s);
    assert_in_range(s->at_us, begun + length * SECOND_US, begun + length * SECOND_US + 2000);
}

/* Confirmable requests have their retransmissions and NSTART, and this does not concern them. */
static void confirmable_requests_are_not_concerned(void **state)
{
    struct harness *h = *state;

    for (unsigned i = 0; i < 50; i++) {
        ask(h, i, "con");
        assert_non_null(next_to_origin(h));
        harness_advance(h, 10000);
    }
    harness_advance(h, 10 * SECOND_US);
    ask(h, 50, "con");
    while (harness_take(h))
        ;
    assert_int_equal(COUNTED(h, probing_waits), 0);
    assert_int_equal(COUNTED(h, nstart_waits), 0);
}

/* At a rate of 0.001 B/s a request would be a matter of hours; a pong shows that it may go. */
static void a_pong_lifts_it(void **state)
{
    struct harness *h = *state;
    struct sent *s, ping = {0};

    ask(h, 0, "pinged");
    assert_non_null(next_to_origin(h));
    harness_advance(h, 3 * SECOND_US);
    ask(h, 1, "pinged");
    assert_null(next_to_origin(h));
    harness_advance(h, 59 * SECOND_US);
    while ((s = harness_take(h)))
        ping = *s;
    assert_true(is_ping(&ping));
    pong(h, &ping);
    s = next_to_origin(h);
    assert_non_null(s);
    assert_int_equal(s->at_us, h->now);
    assert_true(s->length > 4);
}

/* The rate at run time. */
static void a_session_has_its_own_rate(void **state)
{
    struct harness *h = *state;
    struct transmission t;
    struct session *session;
    uint64_t at;
    struct sent *s;

    ask(h, 0, "x");
    s = next_to_origin(h);
    at = s->at_us;
    session = session_of(h, &s->flow);
    t = *session->transmission;
    assert_int_equal(transmission_set(&t, TRANSMISSION_PROBING_RATE, 100000), 0);
    assert_int_equal(messaging_set_transmission(messaging_of(h), session, &t), 0);
    harness_advance(h, 2 * SECOND_US);
    ask(h, 1, "x"); /* its time is over already: some 30 bytes at 100 B/s */
    ask(h, 2, "x");
    s = next_to_origin(h);
    assert_int_equal(s->at_us, at + 2 * SECOND_US);
    at = s->at_us + s->length * 10000;
    harness_advance(h, SECOND_US);
    s = next_to_origin(h);
    assert_in_range(s->at_us, at, at + 2000);
}

/* ---- clients ---- */

/* Notifications to a client that leaves a CON unanswered are CONs, which NSTART limits, and the
 * newest takes the place of what waits. */
static void a_silent_client_gets_no_more_non_notifications(void **state)
{
    struct harness *h = *state;
    struct registered x, y;
    struct message m;
    unsigned non = 0;
    struct sent con;

    observe_begin(h, 1, "con/x", "s0", &x);
    client_observe(h, 1, 2, 9, "con/y", 0);
    origin_answer(h, origin_registration(h, &y), TYPE_ACK, 0,
                  &(struct say){.observed = true, .number = 1, .payload = "t0"});
    client_expect(h, 1, &m);
    for (uint32_t i = 2; i < 7; i++) { /* the fifth one is confirmable */
        origin_state(h, &x, i, "s");
        con = *harness_expect(h, &m);
    }
    assert_int_equal(m.type, TYPE_CON);
    origin_state(h, &y, 2, "t1"); /* not known to be silent yet */
    expect_state(h, 1, TYPE_NON, "t1", NULL);
    harness_advance(h, 2 * SECOND_US);
    assert_int_equal(mid_of(harness_take(h)), mid_of(&con)); /* sent again: it is */
    origin_state(h, &y, 3, "t2");
    expect_state(h, 1, TYPE_CON, "t2", NULL); /* NSTART is 2 */
    for (uint32_t i = 4; i < 20; i++) {
        origin_state(h, &y, i, i == 19 ? "last" : "t");
        harness_advance(h, 100000);
    }
    for (struct sent *s; (s = harness_take(h));)
        non += s->flow.peer_port != 5683 && (s->data[0] & 0x30) == 0x10;
    assert_int_equal(non, 0);
    client_empty(h, 1, TYPE_ACK, mid_of(&con)); /* it is back */
    for (struct sent *s; (s = harness_take(h));)
        assert_int_equal(s->data[0] & 0x30, 0);
    harness_advance(h, 100 * SECOND_US);
    for (struct sent *s; (s = harness_take(h));) {
        if (s->flow.peer_port == 5683)
            continue;
        assert_int_equal(message_parse(s->data, s->length, &m), VERDICT_OK);
        con = *s;
    }
    assert_int_equal(message_parse(con.data, con.length, &m), VERDICT_OK);
    assert_memory_equal(m.payload, "last", 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_that_answers_is_not_limited),
        TEST(one_that_does_not_gets_so_many_bytes),
        TEST(anything_that_is_received_lifts_it),
        TEST(silence_begins_with_the_first_unanswered_request),
        TEST(now_and_then_is_below_the_rate),
        TEST(those_who_wait_are_bounded),
        TEST(nstart_holds_too),
        TEST(confirmable_requests_are_not_concerned),
        TEST(a_pong_lifts_it),
        TEST(a_session_has_its_own_rate),
        TEST(a_silent_client_gets_no_more_non_notifications),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
