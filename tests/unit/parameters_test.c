/* Transmission parameters by name and at run time, for one session: what is taken, when it takes
 * effect, and that the memory for it is bounded. */
#include <errno.h>

#include "tests/unit/life_steps.h"

static const struct transmission defaults = TRANSMISSION_DEFAULTS;

/* ---- by number ---- */

static void each_one_can_be_set_and_read(void **state)
{
    static const struct {
        enum transmission_parameter which;
        const char *name;
        uint64_t is, lowest, highest, beyond;
    } rows[] = {
        {TRANSMISSION_ACK_TIMEOUT, "ack_timeout", 2000, 1, 3600000, 3600001},
        {TRANSMISSION_ACK_RANDOM_FACTOR, "ack_random_factor", 1500, 1000, 10000, 10001},
        {TRANSMISSION_MAX_RETRANSMIT, "max_retransmit", 4000, 0, 20000, 21000},
        {TRANSMISSION_NSTART, "nstart", 1000, 1000, 65535000, 65536000},
        {TRANSMISSION_DEFAULT_LEISURE, "default_leisure", 5000, 0, 3600000, 3600001},
        {TRANSMISSION_PROBING_RATE, "probing_rate", 1000, 1, 4000000000, 4000000001},
    };

    (void)state;
    for (unsigned i = 0; i < TRANSMISSION_PARAMETERS; i++) {
        struct transmission t = defaults, before;

        assert_int_equal(rows[i].which, i);
        assert_string_equal(transmission_ranges[i].name, rows[i].name);
        assert_int_equal(transmission_get(&t, rows[i].which), rows[i].is);
        assert_int_equal(transmission_set(&t, rows[i].which, rows[i].lowest), 0);
        assert_int_equal(transmission_get(&t, rows[i].which), rows[i].lowest);
        assert_null(transmission_check(&t));
        assert_int_equal(transmission_set(&t, rows[i].which, rows[i].highest), 0);
        assert_int_equal(transmission_get(&t, rows[i].which), rows[i].highest);
        assert_null(transmission_check(&t));
        before = t;
        assert_int_equal(transmission_set(&t, rows[i].which, rows[i].beyond), -ERANGE);
        assert_int_equal(transmission_set(&t, rows[i].which, UINT64_MAX), -ERANGE);
        assert_int_equal(transmission_set(&t, rows[i].which, (UINT64_C(1) << 32) + rows[i].is),
                         -ERANGE);
        if (rows[i].lowest)
            assert_int_equal(transmission_set(&t, rows[i].which, rows[i].lowest - 1), -ERANGE);
        assert_memory_equal(&t, &before, sizeof(t));
    }
    assert_int_equal(rows[5].which, TRANSMISSION_PARAMETERS - 1);
}

static void whole_numbers_are_whole(void **state)
{
    struct transmission t = defaults;

    (void)state;
    assert_int_equal(transmission_set(&t, TRANSMISSION_NSTART, 1500), -ERANGE);
    assert_int_equal(transmission_set(&t, TRANSMISSION_MAX_RETRANSMIT, 1), -ERANGE);
    assert_int_equal(transmission_set(&t, TRANSMISSION_ACK_TIMEOUT, 1234), 0);
    assert_int_equal(t.ack_timeout_ms, 1234);
    assert_int_equal(transmission_set(&t, TRANSMISSION_PARAMETERS, 1), -EINVAL);
    assert_int_equal(transmission_get(&t, TRANSMISSION_PARAMETERS), 0);
}

static void a_check_names_the_first_that_is_wrong(void **state)
{
    struct transmission t = defaults;

    (void)state;
    assert_null(transmission_check(&t));
    t.probing_rate_milli = 0;
    assert_string_equal(transmission_check(&t)->name, "probing_rate");
    t.nstart = 0;
    assert_string_equal(transmission_check(&t)->name, "nstart");
    t.max_retransmit = 21;
    assert_string_equal(transmission_check(&t)->name, "max_retransmit");
    t.ack_random_factor_milli = 999;
    assert_string_equal(transmission_check(&t)->name, "ack_random_factor");
    t.ack_timeout_ms = 0;
    assert_string_equal(transmission_check(&t)->name, "ack_timeout");
    assert_int_equal(transmission_check(&t)->lowest_milli, 1);
    t = defaults;
    t.default_leisure_ms = 3600001;
    assert_string_equal(transmission_check(&t)->name, "default_leisure");
}

/* ---- of a session ---- */

#define YAML(limits)                                                                      \
    "instance: unit\n"                                                                    \
    "interfaces:\n"                                                                       \
    "  - name: south\n"                                                                   \
    "    device: tap:unit0\n"                                                             \
    "    addresses: [10.99.0.2/24]\n"                                                     \
    "listeners:\n"                                                                        \
    "  - {uri: coap://10.99.0.2, multicast: true, transmission: {ack_random_factor: 1,\n" \
    "     default_leisure: 3s}}\n"                                                        \
    "upstreams:\n"                                                                        \
    "  - name: origin\n"                                                                  \
    "    servers: [coap://10.99.0.1]\n"                                                   \
    "    timeout: 1000s\n"                                                                \
    "    transmission: {ack_timeout: 2s, ack_random_factor: 1}\n"                         \
    "routes:\n"                                                                           \
    "  - {path: /, to: origin}\n"                                                         \
    "  - {path: /fixed, respond: {payload: here}}\n"                                      \
    "observe: {confirm_every: 1}\n"                                                       \
    "cache: {size: 0}\n"                                                                  \
    "limits: {amplification: 0, sessions: 64, " limits "}\n"

static int setup(void **state)
{
    observe_start(state, YAML("parameter_sets: 3"));
    return 0;
}

static int setup_none(void **state)
{
    observe_start(state, YAML("parameter_sets: 0"));
    return 0;
}

static int teardown(void **state)
{
    struct harness *h = *state;

    observe_skip(h, 2000);
    assert_int_equal(
        messaging_of(h)->parameters.capacity ? pool_used(&messaging_of(h)->parameters) : 0, 0);
    observe_end(h);
    return 0;
}

static struct session *visit(struct harness *h, unsigned n)
{
    struct flow flow = harness_client(h, n);
    uint8_t bytes[1500];
    struct message m;

    harness_give(h, &flow, bytes,
                 harness_request(bytes, TYPE_CON, CODE_GET, 900, (uint8_t)n, "fixed", NULL));
    client_expect(h, n, &m);
    return client_session_of(h, n);
}

static int set(struct harness *h, struct session *s, enum transmission_parameter which,
               uint64_t value_milli)
{
    struct transmission t = *s->transmission;

    assert_int_equal(transmission_set(&t, which, value_milli), 0);
    return messaging_set_transmission(messaging_of(h), s, &t);
}

static void a_session_has_its_listeners_until_it_has_its_own(void **state)
{
    struct harness *h = *state;
    struct messaging *m = messaging_of(h);
    const struct transmission *listener = &h->config->listeners[0].transmission;
    struct session *one = visit(h, 1), *two = visit(h, 2);

    assert_ptr_equal(one->transmission, listener);
    assert_int_equal(set(h, one, TRANSMISSION_ACK_TIMEOUT, 5000), 0);
    assert_int_equal(one->transmission->ack_timeout_ms, 5000);
    assert_int_equal(one->transmission->default_leisure_ms, 3000); /* the rest as it was */
    assert_ptr_equal(two->transmission, listener);
    assert_int_equal(listener->ack_timeout_ms, 2000);
    assert_int_equal(set(h, one, TRANSMISSION_NSTART, 7000), 0); /* in its place */
    assert_int_equal(pool_used(&m->parameters), 1);
    assert_int_equal(one->transmission->nstart, 7);
    assert_int_equal(one->transmission->ack_timeout_ms, 5000);
    assert_int_equal(messaging_set_transmission(m, one, NULL), 0);
    assert_ptr_equal(one->transmission, listener);
    assert_int_equal(pool_used(&m->parameters), 0);
    assert_int_equal(messaging_set_transmission(m, one, NULL), 0);
}

static void what_is_out_of_range_changes_nothing(void **state)
{
    struct harness *h = *state;
    struct session *s = visit(h, 1);
    struct transmission t = *s->transmission;

    t.nstart = 0;
    assert_int_equal(messaging_set_transmission(messaging_of(h), s, &t), -ERANGE);
    assert_ptr_equal(s->transmission, &h->config->listeners[0].transmission);
    assert_int_equal(set(h, s, TRANSMISSION_ACK_TIMEOUT, 9000), 0);
    t = *s->transmission;
    t.ack_timeout_ms = 0;
    assert_int_equal(messaging_set_transmission(messaging_of(h), s, &t), -ERANGE);
    assert_int_equal(s->transmission->ack_timeout_ms, 9000);
}

/* So many sessions have their own, and no more; what one gives back another can have. */
static void there_are_so_many(void **state)
{
    struct harness *h = *state;
    struct messaging *m = messaging_of(h);
    struct session *s[5];

    for (unsigned i = 0; i < 5; i++)
        s[i] = visit(h, i);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(set(h, s[i], TRANSMISSION_ACK_TIMEOUT, 1000 + i), 0);
    assert_int_equal(set(h, s[3], TRANSMISSION_ACK_TIMEOUT, 1), -ENOSPC);
    assert_ptr_equal(s[3]->transmission, &h->config->listeners[0].transmission);
    assert_int_equal(set(h, s[1], TRANSMISSION_ACK_TIMEOUT, 77), 0);
    assert_int_equal(messaging_set_transmission(m, s[0], NULL), 0);
    assert_int_equal(set(h, s[3], TRANSMISSION_ACK_TIMEOUT, 4000), 0);
    assert_int_equal(s[1]->transmission->ack_timeout_ms, 77);
    assert_int_equal(s[2]->transmission->ack_timeout_ms, 1002);
    assert_int_equal(s[3]->transmission->ack_timeout_ms, 4000);
    messaging_drop_session(m, s[1]);
    assert_int_equal(pool_used(&m->parameters), 2);
    assert_int_equal(set(h, s[4], TRANSMISSION_ACK_TIMEOUT, 5000), 0);
    observe_skip(h, 400); /* all expire */
    assert_int_equal(observe_usage(h).sessions, 0);
    assert_int_equal(pool_used(&m->parameters), 0);
}

static void an_evicted_session_gives_its_set_back(void **state)
{
    struct harness *h = *state;
    struct messaging *m = messaging_of(h);

    m->sessions.max = 1;
    for (unsigned i = 0; i < 10; i++) {
        m->sessions.hand = 0;
        assert_int_equal(set(h, visit(h, i), TRANSMISSION_ACK_TIMEOUT, 1000 + i), 0);
        assert_int_equal(pool_used(&m->parameters), 1);
    }
}

static void there_may_be_none(void **state)
{
    struct harness *h = *state;
    struct session *s = visit(h, 1);

    assert_int_equal(set(h, s, TRANSMISSION_ACK_TIMEOUT, 1000), -ENOSPC);
    assert_int_equal(messaging_set_transmission(messaging_of(h), s, NULL), 0);
}

static void upstream_sessions_can_have_their_own(void **state)
{
    struct harness *h = *state;
    struct registered at;
    struct session *s;
    struct sent *sent;
    struct message m;

    observe_begin(h, 1, "x", "s0", &at);
    s = session_of(h, &at.flow);
    assert_ptr_equal(s->transmission, &h->config->upstreams[0].transmission);
    assert_int_equal(set(h, s, TRANSMISSION_ACK_TIMEOUT, 7000), 0);
    client_observe(h, 1, 2, 2, "y", 0);
    sent = origin_expect(h, &m);
    assert_int_equal(sent->at_us, h->now);
    harness_advance(h, 7 * SECOND_US - 1000);
    while ((sent = harness_take(h)))
        assert_int_equal(sent->length, 4); /* the Empty ACK to the client */
    harness_advance(h, 3000);
    origin_expect(h, &m);
    assert_int_equal(messaging_set_transmission(messaging_of(h), s, NULL), 0);
    assert_ptr_equal(s->transmission, &h->config->upstreams[0].transmission);
}

/* ---- when they take effect ---- */

/* Client 1 observes x; its next notification, a CON, is out. */
static struct sent notified(struct harness *h, struct registered *at)
{
    struct message m;
    struct sent con;

    observe_begin(h, 1, "x", "s0", at);
    origin_state(h, at, 2, "s1");
    con = *client_expect(h, 1, &m);
    assert_int_equal(m.type, TYPE_CON);
    return con;
}

static void expect_repetitions(struct harness *h, uint64_t at, const unsigned *gaps_ms, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct sent *s;

        harness_advance(h, at + gaps_ms[i] * UINT64_C(1000) + 3000 - h->now);
        while ((s = harness_take(h)) && s->flow.peer_port == 5683)
            ;
        assert_non_null(s);
        assert_in_range(s->at_us, at + gaps_ms[i] * 1000, at + gaps_ms[i] * 1000 + 2000);
        at = s->at_us;
    }
}

static void what_has_been_sent_keeps_to_the_old_ones(void **state)
{
    static const unsigned old[] = {2000, 4000, 8000, 16000};
    struct harness *h = *state;
    struct registered at;
    struct sent con = notified(h, &at);
    struct session *s = client_session_of(h, 1);

    assert_int_equal(set(h, s, TRANSMISSION_MAX_RETRANSMIT, 1000), 0);
    assert_int_equal(set(h, s, TRANSMISSION_ACK_TIMEOUT, 100), 0);
    expect_repetitions(h, con.at_us, old, 4);
    assert_int_equal(observe_usage(h).relations, 1);
}

static void what_is_sent_from_then_on_has_the_new_ones(void **state)
{
    static const unsigned gaps[] = {250, 500};
    struct harness *h = *state;
    struct registered at;
    struct sent con = notified(h, &at);
    struct session *s = client_session_of(h, 1);
    struct message m;

    client_empty(h, 1, TYPE_ACK, mid_of(&con));
    assert_int_equal(set(h, s, TRANSMISSION_MAX_RETRANSMIT, 2000), 0);
    assert_int_equal(set(h, s, TRANSMISSION_ACK_TIMEOUT, 250), 0);
    origin_state(h, &at, 3, "s2");
    con = *client_expect(h, 1, &m);
    expect_repetitions(h, con.at_us, gaps, 2);
    assert_int_equal(observe_usage(h).relations, 1);
    harness_advance(h, SECOND_US + 2000);
    assert_int_equal(observe_usage(h).relations, 0);
}

/* More may go at once from then on: what waits goes. */
static void nstart_lets_go_what_waits(void **state)
{
    struct harness *h = *state;
    struct registered x, y;
    struct message m;
    struct sent con = notified(h, &x);

    client_observe(h, 1, 2, 9, "y", 0);
    origin_answer(h, origin_registration(h, &y), TYPE_ACK, 0,
                  &(struct say){.observed = true, .number = 1, .payload = "t0"});
    client_expect(h, 1, &m);
    origin_state(h, &y, 2, "t1");
    harness_silent(h);
    assert_int_equal(set(h, client_session_of(h, 1), TRANSMISSION_NSTART, 2000), 0);
    client_expect(h, 1, &m);
    assert_memory_equal(m.payload, "t1", 2);
    client_empty(h, 1, TYPE_ACK, mid_of(&con));
    client_empty(h, 1, TYPE_ACK, m.mid);
    assert_int_equal(set(h, client_session_of(h, 1), TRANSMISSION_NSTART, 1000), 0);
    origin_state(h, &x, 3, "s2");
    origin_state(h, &y, 3, "t2");
    client_expect(h, 1, &m);
    assert_memory_equal(m.payload, "s2", 2);
    harness_silent(h);
}

/* ---- default_leisure ---- */

static uint64_t leisure_of_one(struct harness *h, unsigned n, uint16_t mid)
{
    struct flow flow = harness_client(h, n);
    uint8_t bytes[1500];
    struct datagram d = {
        .data = bytes,
        .length = (uint16_t)harness_request(bytes, TYPE_NON, CODE_GET, mid, 5, "fixed", NULL),
        .multicast = true,
        .flow = flow};
    uint64_t begun = h->now;
    struct sent *s;

    worker_receive(h->worker, &d, 1, h->now);
    harness_silent(h);
    for (unsigned i = 0; i < 5000 && h->count == h->taken; i++)
        harness_advance(h, 1000);
    s = harness_take(h);
    assert_non_null(s);
    assert_int_equal(s->data[1], CODE_CONTENT);
    h->count = h->taken = 0;
    return h->now - begun;
}

static void leisure_is_the_listeners(void **state)
{
    struct harness *h = *state;
    uint64_t lowest = UINT64_MAX, highest = 0, sum = 0;

    for (uint16_t i = 0; i < 600; i++) {
        uint64_t us = leisure_of_one(h, 1, i);

        assert_true(us <= 3 * SECOND_US + 2000);
        lowest = us < lowest ? us : lowest;
        highest = us > highest ? us : highest;
        sum += us;
    }
    assert_true(lowest < 50000);
    assert_true(highest > 2950000);
    assert_in_range(sum / 600, 1400000, 1600000);
}

static void leisure_is_the_sessions_where_it_has_its_own(void **state)
{
    struct harness *h = *state;
    struct session *s = visit(h, 1);

    assert_int_equal(set(h, s, TRANSMISSION_DEFAULT_LEISURE, 0), 0);
    for (uint16_t i = 0; i < 20; i++)
        assert_true(leisure_of_one(h, 1, i) <= 2000);
    assert_int_equal(set(h, s, TRANSMISSION_DEFAULT_LEISURE, 10), 0);
    for (uint16_t i = 20; i < 60; i++)
        assert_true(leisure_of_one(h, 1, i) <= 12000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_one_can_be_set_and_read),
        cmocka_unit_test(whole_numbers_are_whole),
        cmocka_unit_test(a_check_names_the_first_that_is_wrong),
        TEST(a_session_has_its_listeners_until_it_has_its_own),
        TEST(what_is_out_of_range_changes_nothing),
        TEST(there_are_so_many),
        TEST(an_evicted_session_gives_its_set_back),
        cmocka_unit_test_setup_teardown(there_may_be_none, setup_none, teardown),
        TEST(upstream_sessions_can_have_their_own),
        TEST(what_has_been_sent_keeps_to_the_old_ones),
        TEST(what_is_sent_from_then_on_has_the_new_ones),
        TEST(nstart_lets_go_what_waits),
        TEST(leisure_is_the_listeners),
        TEST(leisure_is_the_sessions_where_it_has_its_own),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
