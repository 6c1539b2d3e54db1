/* Many clients that observe one resource: their notifications go out in portions, and whatever
 * happens between two of them, everybody ends with the last state. */
#include "tests/unit/observe_harness.h"

#define MANY 500

#define YAML(observe)                                                        \
    OBSERVE_YAML "observe: {" observe "}\n"                                  \
                 "limits: {sessions: 1024, exchanges: 256, outbound: 1024, " \
                 "queue: 2, remembered: 1024, message_memory: 1MiB, "        \
                 "observations: 4, relations: 1000, amplification: 0}\n"

static int setup(void **state)
{
    observe_start(state, YAML("confirm_every: 1000, confirm_after: 24h"));
    return 0;
}

static int setup_fifth(void **state)
{
    observe_start(state, YAML("confirm_every: 5, confirm_after: 24h"));
    return 0;
}

static int setup_all(void **state)
{
    observe_start(state, YAML("confirm_every: 1, confirm_after: 24h"));
    return 0;
}

static int setup_after(void **state)
{
    observe_start(state, YAML("confirm_every: 1000, confirm_after: 10s"));
    return 0;
}

static int teardown(void **state)
{
    observe_end(*state);
    return 0;
}

/* What each client has last heard. */
struct heard {
    char state[16];
    int64_t number;
    unsigned messages;
    bool over;
};

static struct heard heard[MANY + 100];

/* Reads what was sent to clients; what goes to origins is left out. Returns how many there were. */
static unsigned listen(struct harness *h)
{
    unsigned n = 0;

    for (; h->taken < h->count; h->taken++) {
        const struct sent *s = &h->sent[h->taken];
        struct heard *one;
        struct message m;

        assert_int_equal(message_parse(s->data, s->length, &m), VERDICT_OK);
        if (s->flow.peer_port == 5683 || m.code == CODE_EMPTY)
            continue;
        n++;
        assert_true(s->flow.peer_port >= 20000 && s->flow.peer_port < 20000 + MANY + 100);
        one = &heard[s->flow.peer_port - 20000u];
        one->messages++;
        if (!message_has(&m, SLOT_OBSERVE)) {
            one->over = true;
            continue;
        }
        if (one->number >= 0)
            assert_newer(message_uint(&m, SLOT_OBSERVE, 0), one->number);
        one->number = message_uint(&m, SLOT_OBSERVE, 0);
        memcpy(one->state, m.payload, m.payload_length);
        one->state[m.payload_length] = 0;
    }
    return n;
}

/* Clients 1 to `count` observe. */
static void many_observe(struct harness *h, unsigned count, struct registered *r)
{
    memset(heard, 0, sizeof(heard));
    for (unsigned n = 0; n < MANY + 100; n++)
        heard[n].number = -1;
    observe_begin(h, 1, "t", "one", r);
    h->taken = 0;
    listen(h);
    for (unsigned n = 2; n <= count; n++)
        client_observe(h, n, 1, (uint8_t)n, "t", 0);
    assert_int_equal(listen(h), count - 1);
    assert_int_equal(observe_usage(h).relations, count);
}

/* A new state; no turn is taken yet. */
static void state_now(struct harness *h, const struct registered *r, uint32_t number,
                      const char *payload)
{
    const struct say say = {.observed = true, .number = number, .payload = payload};
    uint8_t bytes[1500];

    harness_give(h, &r->flow, bytes,
                 say_encode(bytes, &say, TYPE_NON, (uint16_t)number, r->token, 8));
}

static void all_have(struct harness *h, unsigned from, unsigned to, const char *state)
{
    (void)h;
    for (unsigned n = from; n <= to; n++)
        assert_string_equal(heard[n].state, state);
}

static void a_plain_request_does_not_wait_for_a_fan_out(void **state)
{
    struct harness *h = *state;
    const struct ask plain = {.observe = NO_OBSERVE};
    struct registered r;
    struct message m;
    unsigned turns = 0, told = 0;

    many_observe(h, MANY, &r);
    state_now(h, &r, 2, "two");
    harness_silent(h);
    while (worker_next_us(h->worker) <= h->now) {
        unsigned now;

        assert_true(worker_advance(h->worker, h->now) > 0);
        now = listen(h);
        assert_in_range(now, 1, 128);
        told += now;
        client_send(h, MANY + 50, TYPE_CON, (uint16_t)(100 + turns), 9, "t", &plain);
        expect_state(h, MANY + 50, TYPE_ACK, "two", &m);
        turns++;
    }
    assert_int_equal(told, MANY);
    assert_in_range(turns, 4, 8);
    all_have(h, 1, MANY, "two");
    assert_int_equal(worker_counters(h->worker)->notifications, MANY);
}

/* Confirmable ones among what was sent to clients since last asked, each of which is acknowledged;
 * `first` has when each client got its first one, in states. */
static unsigned confirm(struct harness *h, unsigned at_state, unsigned *first)
{
    unsigned n = 0, from = h->taken;

    for (unsigned i = from; i < h->count; i++) {
        const struct sent *s = &h->sent[i];
        struct message m;

        assert_int_equal(message_parse(s->data, s->length, &m), VERDICT_OK);
        if (s->flow.peer_port == 5683 || m.type != TYPE_CON)
            continue;
        n++;
        if (!first[s->flow.peer_port - 20000u])
            first[s->flow.peer_port - 20000u] = at_state;
        client_empty(h, s->flow.peer_port - 20000u, TYPE_ACK, m.mid);
    }
    listen(h);
    h->count = h->taken = 0;
    return n;
}

/* All of them are due for a CON at the same state: no turn calls for more ACKs than a turn takes,
 * all are told of each state all the same, and each is asked within two cycles. */
static void confirmations_are_spread(void **state)
{
    struct harness *h = *state;
    unsigned first[MANY + 100] = {0};
    struct registered r;
    char text[16];

    many_observe(h, MANY, &r);
    for (unsigned n = 2; n <= 11; n++) {
        unsigned confirmable = 0;

        snprintf(text, sizeof(text), "%u", n);
        state_now(h, &r, n, text);
        harness_silent(h);
        while (worker_next_us(h->worker) <= h->now) {
            unsigned now;

            assert_true(worker_advance(h->worker, h->now) > 0);
            now = confirm(h, n, first);
            assert_in_range(now, 0, 32);
            confirmable += now;
        }
        all_have(h, 1, MANY, text);
        assert_true(n >= 6 || confirmable == 0);
    }
    for (unsigned n = 1; n <= MANY; n++)
        assert_in_range(first[n], 6, 11);
}

/* Where all are to be confirmable, they are: in smaller portions. */
static void all_confirmable_ones_go_in_portions(void **state)
{
    struct harness *h = *state;
    unsigned first[MANY + 100] = {0}, all = 0;
    struct registered r;

    many_observe(h, MANY, &r);
    state_now(h, &r, 2, "two");
    harness_silent(h);
    while (worker_next_us(h->worker) <= h->now) {
        unsigned now;

        assert_true(worker_advance(h->worker, h->now) > 0);
        now = confirm(h, 2, first);
        assert_in_range(now, 1, 32);
        all += now;
    }
    assert_int_equal(all, MANY);
    all_have(h, 1, MANY, "two");
}

/* The same for a last state that has to be confirmed because no newer one comes. */
static void timers_ask_in_portions(void **state)
{
    struct harness *h = *state;
    unsigned first[MANY + 100] = {0}, all = 0;
    struct registered r;

    many_observe(h, MANY, &r);
    state_now(h, &r, 2, "two");
    while (worker_next_us(h->worker) <= h->now)
        worker_advance(h->worker, h->now);
    listen(h);
    for (unsigned ms = 0; ms < 12000; ms++) {
        unsigned now;

        h->now += 1000;
        worker_advance(h->worker, h->now);
        now = confirm(h, 2, first);
        assert_in_range(now, 0, 32);
        all += now;
    }
    assert_int_equal(all, MANY);
}

static void clients_that_leave_take_nobody_along(void **state)
{
    struct harness *h = *state;
    struct registered r;

    many_observe(h, MANY, &r);
    state_now(h, &r, 2, "two");
    worker_advance(h->worker, h->now);
    listen(h);
    /* Of those who have been told, of those who have not, the very next one, the last one. */
    for (unsigned n = 1; n <= MANY; n++)
        if (n % 7 == 0 || n == 129 || n == 130 || n == MANY)
            client_observe(h, n, 2, (uint8_t)n, "t", 1);
    listen(h);
    harness_advance(h, 20 * 1000);
    listen(h);
    for (unsigned n = 1; n <= MANY; n++)
        if (!heard[n].over)
            assert_string_equal(heard[n].state, "two");
    heard[7].messages = 0;
    state_now(h, &r, 3, "three");
    harness_advance(h, 20 * 1000);
    listen(h);
    for (unsigned n = 1; n <= MANY; n++)
        assert_int_equal(strcmp(heard[n].state, "three") == 0, !heard[n].over);
    assert_int_equal(heard[7].messages, 0);
}

/* The fan-out begins where the one before was interrupted, and those who come meanwhile stand at
 * the end: all the same nobody is passed over. */
static void clients_that_come_put_nobody_out(void **state)
{
    struct harness *h = *state;
    struct registered r;

    many_observe(h, 300, &r);
    state_now(h, &r, 2, "two");
    worker_advance(h->worker, h->now);
    listen(h);
    state_now(h, &r, 3, "three"); /* from the middle on, around */
    for (unsigned n = 301; n <= 400; n++)
        client_observe(h, n, 1, (uint8_t)n, "t", 0);
    listen(h);
    all_have(h, 301, 400, "three");
    harness_advance(h, 20 * 1000);
    listen(h);
    all_have(h, 1, 400, "three");
    for (unsigned n = 301; n <= 400; n++)
        assert_int_equal(heard[n].messages, 1);
}

/* Many wait for the same registration: they are answered in portions, too. */
static void many_wait(struct harness *h, unsigned count, struct registered *r)
{
    const struct say say = {.observed = true, .number = 1, .payload = "one"};
    struct sent *request;

    memset(heard, 0, sizeof(heard));
    for (unsigned n = 0; n < MANY + 100; n++)
        heard[n].number = -1;
    client_observe(h, 1, 1, 1, "t", 0);
    request = origin_registration(h, r);
    for (unsigned n = 2; n <= count; n++)
        client_observe(h, n, 1, (uint8_t)n, "t", 0);
    harness_silent(h);
    origin_answer(h, request, TYPE_ACK, 0, &say);
    assert_in_range(listen(h), 1, 64);
    assert_true(observe_usage(h).relations < count);
}

static void who_is_answered_late_gets_the_newest_state(void **state)
{
    struct harness *h = *state;
    struct registered r;

    many_wait(h, 200, &r);
    state_now(h, &r, 2, "two");
    harness_advance(h, 20 * 1000);
    listen(h);
    all_have(h, 1, 200, "two");
    assert_int_equal(observe_usage(h).relations, 200);
    state_now(h, &r, 3, "three");
    harness_advance(h, 20 * 1000);
    listen(h);
    all_have(h, 1, 200, "three");
}

static void it_may_end_before_all_are_answered(void **state)
{
    struct harness *h = *state;
    const struct say gone = {.code = CODE_NOT_FOUND};
    struct registered r;
    unsigned relations;

    many_wait(h, 200, &r);
    relations = observe_usage(h).relations;
    assert_in_range(relations, 1, 100);
    origin_notify(h, &r, TYPE_NON, 7, &gone);
    harness_advance(h, 20 * 1000);
    listen(h);
    for (unsigned n = 1; n <= 200; n++)
        assert_true(heard[n].over); /* by the last word, or by an answer without Observe */
    assert_int_equal(observe_usage(h).relations, 0);
    assert_int_equal(observe_usage(h).observations, 0);
    assert_int_equal(worker_counters(h->worker)->relations_ended, relations);
}

static void all_may_leave_before_all_are_answered(void **state)
{
    struct harness *h = *state;
    struct registered r;

    many_wait(h, 200, &r);
    for (unsigned n = 1; n <= 200; n++)
        client_observe(h, n, 2, (uint8_t)n, "t", 1);
    listen(h);
    assert_int_equal(observe_usage(h).relations, 0);
    assert_int_equal(observe_usage(h).observations, 1); /* it still hands out */
    harness_advance(h, 100 * 1000);
    assert_int_equal(observe_usage(h).relations, 0);
    while (h->sent[h->taken].flow.peer_port != 5683)
        h->taken++;
    origin_cancelled(h, &r);
    listen(h);
}

static void the_last_word_goes_to_all(void **state)
{
    struct harness *h = *state;
    const struct say gone = {.code = CODE_NOT_FOUND};
    struct registered r, again;
    struct message m;

    many_observe(h, MANY, &r);
    state_now(h, &r, 2, "two");
    worker_advance(h->worker, h->now);
    listen(h);
    origin_notify(h, &r, TYPE_NON, 7, &gone);
    client_observe(h, 3, 9, 200, "t", 0); /* a new one begins from the beginning */
    for (unsigned i = 0; i < 20 && observe_usage(h).relations; i++)
        harness_advance(h, 1000);
    assert_int_equal(observe_usage(h).relations, 0);
    assert_int_equal(worker_counters(h->worker)->relations_ended, MANY);
    for (unsigned i = h->taken; i < h->count; i++) {
        const struct sent *s = &h->sent[i];

        if (s->flow.peer_port == 5683) {
            h->taken = i;
            origin_registration(h, &again);
            assert_memory_not_equal(again.token, r.token, 8);
            continue;
        }
        message_parse(s->data, s->length, &m);
        if (m.code == CODE_NOT_FOUND)
            heard[s->flow.peer_port - 20000u].over = true;
    }
    for (unsigned n = 1; n <= MANY; n++)
        assert_true(heard[n].over);
    assert_int_equal(observe_usage(h).observations, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_plain_request_does_not_wait_for_a_fan_out),
        cmocka_unit_test_setup_teardown(confirmations_are_spread, setup_fifth, teardown),
        cmocka_unit_test_setup_teardown(all_confirmable_ones_go_in_portions, setup_all, teardown),
        cmocka_unit_test_setup_teardown(timers_ask_in_portions, setup_after, teardown),
        TEST(clients_that_leave_take_nobody_along),
        TEST(clients_that_come_put_nobody_out),
        TEST(who_is_answered_late_gets_the_newest_state),
        TEST(it_may_end_before_all_are_answered),
        TEST(all_may_leave_before_all_are_answered),
        TEST(the_last_word_goes_to_all),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
