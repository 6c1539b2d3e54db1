/* Confirmable notifications (RFC 7641 4.5): when they are sent, what waits for them, how they end a
 * relation, and that the last state always arrives. */
#include "tests/unit/observe_harness.h"

#define LIMITS                                                                       \
    "limits: {sessions: 64, exchanges: 16, outbound: 16, queue: 2, remembered: 64, " \
    "message_memory: 64KiB, client_relations: 8"

static int setup_third(void **state)
{
    observe_start(state, OBSERVE_YAML "observe: {confirm_every: 3, confirm_after: 300s}\n" LIMITS
                                      ", amplification: 0}\n");
    return 0;
}

static int setup_all(void **state)
{
    observe_start(state,
                  OBSERVE_YAML "observe: {confirm_every: 1}\n" LIMITS ", amplification: 0}\n");
    return 0;
}

static int setup_careful(void **state)
{
    observe_start(state, OBSERVE_YAML LIMITS "}\n");
    return 0;
}

static int teardown(void **state)
{
    observe_end(*state);
    return 0;
}

/* A registration whose state is good for days. */
static int64_t begin_for_long(struct harness *h, struct registered *r)
{
    const struct say say = {.observed = true, .number = 1, .max_age = 300000, .payload = "one"};

    client_observe(h, 1, 1, 1, "t", 0);
    origin_answer(h, origin_registration(h, r), TYPE_ACK, 0, &say);
    return expect_state(h, 1, TYPE_ACK, "one", NULL);
}

/* ---- when ---- */

static void every_third_is_confirmable(void **state)
{
    struct harness *h = *state;
    const int types[] = {TYPE_NON, TYPE_NON, TYPE_CON};
    struct registered r;
    struct message m;
    int64_t number = observe_begin(h, 1, "t", "one", &r), next;

    for (unsigned i = 0; i < 9; i++) {
        origin_state(h, &r, 2 + i, "next");
        next = expect_state(h, 1, types[i % 3], "next", &m);
        assert_newer(next, number);
        number = next;
        if (m.type == TYPE_CON)
            client_empty(h, 1, TYPE_ACK, m.mid);
    }
    harness_silent(h);
}

static void an_unconfirmed_state_is_confirmed_after_a_while(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 2, .max_age = 300000, .payload = "two"};
    struct registered r;
    struct message m;
    int64_t number;
    uint64_t sent_us;

    begin_for_long(h, &r);
    origin_notify(h, &r, TYPE_NON, 5, &say);
    number = expect_state(h, 1, TYPE_NON, "two", NULL);
    sent_us = h->now;
    harness_advance(h, 299 * SECOND_US);
    harness_silent(h);
    harness_advance(h, 2 * SECOND_US);
    assert_newer(expect_state(h, 1, TYPE_CON, "two", &m), number);
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 0), 300000 - 300);
    assert_in_range(h->now - sent_us, 300 * SECOND_US, 302 * SECOND_US);
    client_empty(h, 1, TYPE_ACK, m.mid);
    harness_advance(h, 1000 * SECOND_US);
    harness_silent(h);
    client_observe(h, 1, 2, 1, "t", 1);
    origin_cancelled(h, &r);
}

static void silence_is_interrupted_once_a_day(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m;
    int64_t number = begin_for_long(h, &r);

    for (unsigned day = 0; day < 2; day++) {
        harness_advance(h, 86398 * SECOND_US);
        harness_silent(h);
        harness_advance(h, 3 * SECOND_US);
        assert_newer(expect_state(h, 1, TYPE_CON, "one", &m), number);
        number = message_uint(&m, SLOT_OBSERVE, 0);
        client_empty(h, 1, TYPE_ACK, m.mid);
    }
    harness_advance(h, 86401 * SECOND_US);
    expect_state(h, 1, TYPE_CON, "one", NULL);
    h->taken = h->count; /* unanswered this time */
    harness_advance(h, 100 * SECOND_US);
    assert_int_equal(observe_usage(h).relations, 0);
    h->taken = h->count;
}

/* ---- what waits ---- */

static void newer_states_wait_and_the_last_one_arrives(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m;
    int64_t number;

    observe_begin(h, 1, "t", "one", &r);
    origin_state(h, &r, 2, "two");
    number = expect_state(h, 1, TYPE_CON, "two", &m);
    origin_state(h, &r, 3, "three");
    origin_state(h, &r, 4, "four");
    harness_silent(h);
    client_empty(h, 1, TYPE_ACK, m.mid);
    assert_newer(expect_state(h, 1, TYPE_CON, "four", &m), number);
    client_empty(h, 1, TYPE_ACK, m.mid);
    harness_advance(h, 50 * SECOND_US);
    harness_silent(h);
}

static void a_retransmission_carries_the_newest_state(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m, first;
    const struct sent *sent;
    int64_t number, next;
    uint64_t gap;

    observe_begin(h, 1, "t", "one", &r);
    origin_state(h, &r, 2, "two");
    number = expect_state(h, 1, TYPE_CON, "two", &first);
    gap = h->now;
    harness_advance(h, 1 * SECOND_US);
    origin_state(h, &r, 3, "three");
    harness_silent(h);
    harness_advance(h, 2100 * 1000);
    next = expect_state(h, 1, TYPE_CON, "three", &m);
    assert_newer(next, number);
    assert_int_not_equal(m.mid, first.mid);
    gap = h->sent[h->taken - 1].at_us - (gap - 2000);
    assert_in_range(gap, 2 * SECOND_US, 3002 * 1000);

    client_empty(h, 1, TYPE_ACK, first.mid); /* too late: that one is not waited for any more */
    harness_advance(h, 2 * gap + 10 * 1000);
    sent = &h->sent[h->taken];
    assert_int_equal(expect_state(h, 1, TYPE_CON, "three", &m), next); /* as it was */
    assert_in_range(sent->at_us - h->sent[h->taken - 2].at_us, 2 * gap - 10000, 2 * gap + 10000);
    client_empty(h, 1, TYPE_ACK, m.mid);
    harness_advance(h, 55 * SECOND_US);
    harness_silent(h);
    assert_int_equal(observe_usage(h).relations, 1);
    assert_int_equal(worker_counters(h->worker)->notifications, 1);
}

static void what_has_waited_has_aged(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 3, .max_age = 50, .payload = "three"};
    struct registered r;
    struct message m;

    observe_begin(h, 1, "t", "one", &r);
    observe_join(h, 2, "t", "one");
    origin_state(h, &r, 2, "two");
    expect_state(h, 1, TYPE_CON, "two", &m);
    expect_state(h, 2, TYPE_CON, "two", NULL);
    client_empty(h, 1, TYPE_ACK, m.mid);
    m.mid = h->sent[h->taken - 1].data[2] << 8 | h->sent[h->taken - 1].data[3];
    origin_notify(h, &r, TYPE_NON, 9, &say);
    harness_advance(h, 1500 * 1000);
    client_empty(h, 2, TYPE_ACK, m.mid);
    expect_state(h, 1, TYPE_CON, "three", &m);
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 0), 50);
    expect_state(h, 2, TYPE_CON, "three", &m);
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 0), 49);
}

/* NSTART is 1: of many relations of one client one is told at a time, each of its last state. */
static void relations_of_one_client_take_turns(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m;
    unsigned seen = 0;

    observe_begin(h, 1, "t", "one", &r);
    client_observe(h, 1, 2, 2, "t", 0);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    origin_state(h, &r, 2, "two");
    expect_state(h, 1, TYPE_CON, "two", &m);
    seen |= 1u << m.token[0];
    harness_silent(h);
    origin_state(h, &r, 3, "three"); /* those that wait are brought up to date */
    harness_silent(h);
    for (unsigned i = 0; i < 2; i++) {
        client_empty(h, 1, TYPE_ACK, m.mid);
        expect_state(h, 1, TYPE_CON, "three", &m);
        seen |= 1u << m.token[0] << 8;
        harness_silent(h);
    }
    client_empty(h, 1, TYPE_ACK, m.mid);
    harness_silent(h);
    assert_true(seen == 0x602 || seen == 0x604); /* both have the last state */
    assert_int_equal(observe_usage(h).outbound, 0);
}

static void without_a_place_in_the_queue_a_non_goes_first(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m, non = {0};
    unsigned cons = 0;

    observe_begin(h, 1, "t", "one", &r);
    for (uint8_t token = 2; token <= 4; token++) {
        client_observe(h, 1, token, token, "t", 0);
        expect_state(h, 1, TYPE_ACK, "one", NULL);
    }
    origin_state(h, &r, 2, "two"); /* one is sent, two wait, and one finds no place */
    for (unsigned i = 0; i < 2; i++) {
        client_expect(h, 1, &m);
        if (m.type == TYPE_NON)
            non = m;
        else
            cons = m.mid;
    }
    assert_non_null(non.data);
    harness_silent(h);
    harness_advance(h, 11 * SECOND_US); /* still none: the NON is not repeated */
    for (; h->taken < h->count; h->taken++) {
        message_parse(h->sent[h->taken].data, h->sent[h->taken].length, &m);
        assert_int_equal(m.mid, cons);
    }
    for (unsigned i = 0; i < 3; i++) {
        client_empty(h, 1, TYPE_ACK, (uint16_t)cons);
        if (i < 2) {
            expect_state(h, 1, TYPE_CON, "two", &m);
            cons = m.mid;
        }
    }
    harness_silent(h);
    harness_advance(h, 5 * SECOND_US);
    expect_state(h, 1, TYPE_CON, "two", &m); /* made up for */
    assert_int_equal(m.token[0], non.token[0]);
    client_empty(h, 1, TYPE_ACK, m.mid);
    harness_advance(h, 40 * SECOND_US);
    harness_silent(h);
}

/* A CON was due and could not be kept: the next state is one, whatever the count. */
static void a_con_that_is_owed_is_not_forgotten(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m;
    unsigned cons = 0;

    observe_begin(h, 1, "t", "one", &r);
    for (uint8_t token = 2; token <= 4; token++) {
        client_observe(h, 1, token, token, "t", 0);
        expect_state(h, 1, TYPE_ACK, "one", NULL);
    }
    for (uint32_t i = 0; i < 2; i++) {
        origin_state(h, &r, 2 + i, "next");
        for (unsigned n = 0; n < 4; n++)
            expect_state(h, 1, TYPE_NON, "next", NULL);
    }
    origin_state(h, &r, 4, "four"); /* all are to be CONs: one goes, two wait, one is a NON */
    for (unsigned i = 0; i < 2; i++) {
        client_expect(h, 1, &m);
        cons += m.type == TYPE_CON;
        if (m.type == TYPE_CON)
            client_empty(h, 1, TYPE_ACK, m.mid);
    }
    assert_int_equal(cons, 1);
    for (unsigned i = 0; i < 2; i++) {
        expect_state(h, 1, TYPE_CON, "four", &m);
        client_empty(h, 1, TYPE_ACK, m.mid);
    }
    harness_silent(h);
    origin_state(h, &r, 5, "five");
    cons = 0;
    for (unsigned n = 0; n < 4; n++) {
        client_expect(h, 1, &m);
        cons += m.type == TYPE_CON;
        if (m.type == TYPE_CON)
            client_empty(h, 1, TYPE_ACK, m.mid);
    }
    assert_int_equal(cons, 1);
}

/* ---- how it ends ---- */

static void a_rst_to_a_con_ends_it(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m;

    observe_begin(h, 1, "t", "one", &r);
    origin_state(h, &r, 2, "two");
    expect_state(h, 1, TYPE_CON, "two", &m);
    client_empty(h, 1, TYPE_RST, m.mid);
    assert_int_equal(observe_usage(h).relations, 0);
    assert_int_equal(observe_usage(h).outbound, 1); /* the cancellation */
    origin_cancelled(h, &r);
    assert_int_equal(worker_counters(h->worker)->relations_lost, 1);
}

static void a_rst_to_a_con_that_was_replaced_ends_it_too(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message first, m;

    observe_begin(h, 1, "t", "one", &r);
    origin_state(h, &r, 2, "two");
    expect_state(h, 1, TYPE_CON, "two", &first);
    origin_state(h, &r, 3, "three");
    harness_advance(h, 3010 * 1000);
    expect_state(h, 1, TYPE_CON, "three", &m);
    client_empty(h, 1, TYPE_RST, first.mid);
    assert_int_equal(observe_usage(h).relations, 0);
    origin_cancelled(h, &r);
    harness_advance(h, 10 * SECOND_US);
    harness_silent(h);
}

static void a_con_without_an_ack_ends_it(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 2, .max_age = 3000, .payload = "two"};
    struct registered r;
    struct message m;

    observe_begin(h, 1, "t", "one", &r);
    origin_notify(h, &r, TYPE_NON, 5, &say);
    for (unsigned i = 0; i < 5; i++) {
        expect_state(h, 1, TYPE_CON, "two", &m);
        assert_int_equal(observe_usage(h).relations, 1);
        harness_advance(h, (3u << i) * SECOND_US);
    }
    harness_advance(h, 1 * SECOND_US);
    assert_int_equal(observe_usage(h).relations, 0);
    origin_cancelled(h, &r);
}

static void an_icmp_error_ends_it(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct sent sent;

    observe_begin(h, 1, "t", "one", &r);
    origin_state(h, &r, 2, "two");
    sent = h->sent[h->taken];
    expect_state(h, 1, TYPE_CON, "two", NULL);
    worker_unreachable(h->worker, &sent.flow, sent.data, sent.length, h->now);
    assert_int_equal(observe_usage(h).relations, 0);
    origin_cancelled(h, &r);
}

/* An error without a payload is the shortest message there is. */
static void the_last_word_takes_the_place_of_an_open_con(void **state)
{
    struct harness *h = *state;
    const struct say gone = {.code = CODE_NOT_FOUND};
    struct registered r;
    struct message m, first;

    observe_begin(h, 1, "t", "one", &r);
    origin_state(h, &r, 2, "two");
    expect_state(h, 1, TYPE_CON, "two", &first);
    origin_notify(h, &r, TYPE_NON, 9, &gone);
    harness_silent(h); /* NSTART */
    assert_int_equal(observe_usage(h).relations, 0);
    harness_advance(h, 3010 * 1000);
    client_expect(h, 1, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, CODE_NOT_FOUND);
    assert_int_not_equal(m.mid, first.mid);
    client_empty(h, 1, TYPE_ACK, m.mid);
    harness_advance(h, 100 * SECOND_US);
    harness_silent(h);
}

/* The ACK comes between the origin's word and the turn in which clients are told. */
static void the_last_word_is_said_once(void **state)
{
    struct harness *h = *state;
    const struct say gone = {.code = CODE_NOT_FOUND};
    struct registered r;
    struct message m;
    uint8_t bytes[1500];

    observe_begin(h, 1, "t", "one", &r);
    origin_state(h, &r, 2, "two");
    expect_state(h, 1, TYPE_CON, "two", &m);
    harness_give(h, &r.flow, bytes, say_encode(bytes, &gone, TYPE_NON, 9, r.token, 8));
    client_empty(h, 1, TYPE_ACK, m.mid);
    harness_advance(h, 2000);
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_NOT_FOUND);
    client_empty(h, 1, TYPE_ACK, m.mid);
    harness_advance(h, 20 * SECOND_US);
    harness_silent(h);
}

/* ---- separate answers to registrations ---- */

/* Registers at an origin that takes longer; the answer comes as a message of its own. */
static int64_t begin_slowly(struct harness *h, struct registered *r, struct message *m)
{
    const struct say say = {.observed = true, .number = 1, .payload = "one"};
    const struct sent *request;
    struct message ack;
    uint8_t bytes[4];

    client_observe(h, 1, 1, 1, "t", 0);
    request = origin_registration(h, r);
    message_write_empty(bytes, TYPE_ACK, r->mid);
    harness_give(h, &r->flow, bytes, 4);
    harness_advance(h, 1 * SECOND_US);
    client_expect(h, 1, &ack);
    assert_int_equal(ack.code, CODE_EMPTY);
    origin_answer(h, request, TYPE_CON, 900, &say);
    return expect_state(h, 1, TYPE_CON, "one", m);
}

static void a_separate_answer_is_the_first_notification(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m, ack;
    int64_t number = begin_slowly(h, &r, &m);

    harness_expect(h, &ack); /* to the origin */
    assert_true(number >= 0);
    origin_state(h, &r, 2, "two");
    origin_state(h, &r, 3, "three");
    harness_silent(h);
    client_empty(h, 1, TYPE_ACK, m.mid);
    assert_newer(expect_state(h, 1, TYPE_CON, "three", &m), number);
    client_empty(h, 1, TYPE_ACK, m.mid);
}

static void a_separate_answer_can_be_rejected(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m, ack;

    begin_slowly(h, &r, &m);
    harness_expect(h, &ack);
    client_empty(h, 1, TYPE_RST, m.mid);
    assert_int_equal(observe_usage(h).relations, 0);
    origin_cancelled(h, &r);
}

/* The client registers again before it has acknowledged: another answer waits its turn. What it
 * rejects is the relation, and nothing more is said. */
static void a_rejected_answer_takes_the_next_one_along(void **state)
{
    struct harness *h = *state;
    const struct ask again = {.observe = 0};
    struct registered r;
    struct message m, ack;

    begin_slowly(h, &r, &m);
    harness_expect(h, &ack);
    client_send(h, 1, TYPE_CON, 2, 1, "t", &again);
    expect_state(h, 1, TYPE_ACK, "one", &ack);
    origin_state(h, &r, 2, "two"); /* behind what is not acknowledged */
    harness_silent(h);
    client_empty(h, 1, TYPE_RST, m.mid);
    assert_int_equal(observe_usage(h).relations, 0);
    origin_cancelled(h, &r);
    harness_silent(h);
}

/* ---- amplification ---- */

static void a_challenge_leaves_no_relation(void **state)
{
    struct harness *h = *state;
    static char body[600];
    const struct say say = {.observed = true, .number = 1, .payload = body};
    struct registered r;
    struct message m;

    memset(body, 'b', sizeof(body) - 1);
    client_observe(h, 1, 1, 1, "t", 0);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_UNAUTHORIZED);
    assert_true(message_has(&m, SLOT_ECHO));
    assert_int_equal(observe_usage(h).relations, 0);
    origin_cancelled(h, &r);
    origin_state(h, &r, 2, body);
    harness_expect(h, &m); /* to the origin: nobody wants it */
    assert_int_equal(m.type, TYPE_RST);
    harness_silent(h);
}

#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_third_is_confirmable, setup_third),
        TEST(an_unconfirmed_state_is_confirmed_after_a_while, setup_third),
        TEST(silence_is_interrupted_once_a_day, setup_third),
        TEST(newer_states_wait_and_the_last_one_arrives, setup_all),
        TEST(a_retransmission_carries_the_newest_state, setup_all),
        TEST(what_has_waited_has_aged, setup_all),
        TEST(relations_of_one_client_take_turns, setup_all),
        TEST(without_a_place_in_the_queue_a_non_goes_first, setup_all),
        TEST(a_con_that_is_owed_is_not_forgotten, setup_third),
        TEST(a_rst_to_a_con_ends_it, setup_all),
        TEST(a_rst_to_a_con_that_was_replaced_ends_it_too, setup_all),
        TEST(a_con_without_an_ack_ends_it, setup_all),
        TEST(an_icmp_error_ends_it, setup_all),
        TEST(the_last_word_takes_the_place_of_an_open_con, setup_all),
        TEST(the_last_word_is_said_once, setup_all),
        TEST(a_separate_answer_is_the_first_notification, setup_all),
        TEST(a_separate_answer_can_be_rejected, setup_all),
        TEST(a_rejected_answer_takes_the_next_one_along, setup_all),
        TEST(a_challenge_leaves_no_relation, setup_careful),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
