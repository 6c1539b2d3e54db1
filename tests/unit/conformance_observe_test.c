/* Observe (RFC 7641) over long times, around the end of the numbers, and beside other traffic. Rows
 * of tests/conformance.tsv that no other test shows. */
#include "tests/unit/observe_harness.h"

#define DAY_US (86400 * SECOND_US)

static const char yaml[] = OBSERVE_YAML
    "limits: {sessions: 1024, exchanges: 64, outbound: 64, queue: 4, remembered: 1024, "
    "message_memory: 256KiB, observations: 8, relations: 1024, amplification: 0}\n";

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

/* All that client 1 gets in a time: confirmed, and each number newer than the one before. Returns
 * the last one. */
static int64_t follow(struct harness *h, uint64_t seconds, int64_t last)
{
    for (uint64_t at = 0; at < seconds; at++) {
        harness_advance(h, SECOND_US);
        while (h->taken < h->count) {
            struct message m;

            client_expect(h, 1, &m);
            assert_true(message_has(&m, SLOT_OBSERVE));
            assert_newer(message_uint(&m, SLOT_OBSERVE, 0), last);
            last = message_uint(&m, SLOT_OBSERVE, 0);
            if (m.type == TYPE_CON)
                client_empty(h, 1, TYPE_ACK, m.mid);
        }
        h->taken = h->count = 0;
    }
    return last;
}

/* RFC 7641 3.4, 4.4: 24 bits, and what is behind the end is newer than what is before it; ten days
 * with a few states each. */
static void numbers_go_around_in_order(void **state)
{
    struct say say = {.observed = true, .number = 1, .max_age = 10000000, .payload = "state"};
    struct harness *h = *state;
    struct registered r;
    unsigned around = 0;
    int64_t last;

    client_observe(h, 1, 1, 1, "t", 0);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    last = expect_state(h, 1, TYPE_ACK, "state", NULL);
    for (unsigned i = 0; i < 50; i++) {
        int64_t number;

        say.number++;
        origin_notify(h, &r, TYPE_NON, (uint16_t)(0x4000 + i), &say);
        number = follow(h, 5 * 3600 - i * 60, last);
        assert_in_range(number, 0, 0xffffff);
        assert_int_not_equal(number, last); /* it has been told */
        around += number < last;
        last = number;
    }
    assert_true(around >= 1);
    client_observe(h, 1, 2, 1, "t", 1);
    origin_cancelled(h, &r);
    h->taken = h->count;
}

/* RFC 7641 3.4: by serial arithmetic, but for what comes later than 128 s. */
static void old_notifications_are_dropped(void **state)
{
    struct harness *h = *state;
    struct registered r;

    observe_begin(h, 1, "t", "one", &r); /* number 1 */
    origin_state(h, &r, 5, "five");
    expect_state(h, 1, TYPE_NON, "five", NULL);
    origin_state(h, &r, 4, "four");
    origin_state(h, &r, 5, "the same");
    origin_state(h, &r, 5 + 0x800001, "more than half around");
    harness_silent(h);
    assert_int_equal(worker_counters(h->worker)->drop_old_notification, 3);
    origin_state(h, &r, 0x7ffff0, "less than half around");
    expect_state(h, 1, TYPE_NON, "less than half around", NULL);
    origin_state(h, &r, 0xffffe0, "at the end");
    expect_state(h, 1, TYPE_NON, "at the end", NULL);
    origin_state(h, &r, 3, "around");
    expect_state(h, 1, TYPE_NON, "around", NULL);
    harness_advance(h, 60 * SECOND_US);
    h->taken = h->count; /* what it does to have "around" confirmed, and asks the origin */
    origin_state(h, &r, 2, "old");
    harness_silent(h);
}

/* RFC 7641 3.6: the origin is to forget what we do not know. */
static void notifications_that_nobody_asked_for_are_reset(void **state)
{
    static const struct say say = {.observed = true, .number = 9, .payload = "what?"};
    struct harness *h = *state;
    struct registered r, other;
    struct message m;

    observe_begin(h, 1, "t", "one", &r);
    other = r;
    other.token[7] ^= 1;
    origin_notify(h, &other, TYPE_CON, 0x4001, &say);
    assert_int_equal(harness_expect(h, &m)->flow.peer_port, 5683);
    assert_int_equal(m.type, TYPE_RST);
    assert_int_equal(m.mid, 0x4001);
    origin_notify(h, &other, TYPE_NON, 0x4002, &say);
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_RST);
    assert_int_equal(m.mid, 0x4002);
    harness_silent(h); /* and our clients hear nothing of it */
    origin_state(h, &r, 2, "two");
    expect_state(h, 1, TYPE_NON, "two", NULL);
}

/* RFC 7641 3.3.1: 5 to 15 seconds after Max-Age, by the same token. */
static void a_silent_origin_is_asked_again(void **state)
{
    static const struct say say = {.observed = true, .number = 1, .max_age = 10, .payload = "one"};
    struct harness *h = *state;
    uint64_t first = UINT64_MAX, last = 0;

    for (unsigned n = 1; n <= 4; n++) { /* each resource has a time of its own */
        char path[] = {(char)('a' + n), '\0'};
        struct registered r;
        struct message m;
        uint64_t heard = h->now, gap;
        struct sent *s;

        client_observe(h, n, 1, (uint8_t)n, path, 0);
        s = origin_registration(h, &r);
        origin_answer(h, s, TYPE_ACK, 0, &say);
        expect_state(h, n, TYPE_ACK, "one", NULL);
        while (h->taken == h->count)
            harness_advance(h, 10000);
        s = origin_registration(h, NULL);
        message_parse(s->data, s->length, &m);
        assert_memory_equal(m.token, r.token, 8);
        gap = s->at_us - heard;
        assert_in_range(gap, 15 * SECOND_US, 25 * SECOND_US + 10000);
        first = gap < first ? gap : first;
        last = gap > last ? gap : last;
        origin_answer(h, s, TYPE_ACK, 0, &(struct say){.code = CODE_NOT_FOUND});
        harness_advance(h, SECOND_US); /* it is over, and the client is told */
        client_expect(h, n, &m);
        assert_int_equal(m.code, CODE_NOT_FOUND);
        client_empty(h, n, TYPE_ACK, m.mid);
        harness_silent(h);
    }
    assert_true(last - first > 100000);
}

/* RFC 7641 4.5: at least every 24 hours, though nothing changes. */
static void a_confirmable_notification_each_day(void **state)
{
    static const struct say say = {
        .observed = true, .number = 1, .max_age = 1000000, .payload = "same"};
    struct harness *h = *state;
    struct registered r;
    struct message m;
    uint64_t confirmed;
    struct sent *s;

    client_observe(h, 1, 1, 1, "t", 0);
    s = origin_registration(h, &r);
    origin_answer(h, s, TYPE_ACK, 0, &say);
    expect_state(h, 1, TYPE_ACK, "same", NULL);
    confirmed = h->now;
    for (unsigned day = 0; day < 3; day++) {
        unsigned before = h->count;

        while (h->count == before && h->now - confirmed <= DAY_US + SECOND_US)
            harness_advance(h, 60 * SECOND_US);
        s = client_expect(h, 1, &m);
        assert_int_equal(m.type, TYPE_CON);
        assert_true(message_has(&m, SLOT_OBSERVE));
        assert_memory_equal(m.payload, "same", 4);
        assert_in_range(s->at_us - confirmed, 0, DAY_US);
        confirmed = s->at_us;
        client_empty(h, 1, TYPE_ACK, m.mid);
        h->taken = h->count; /* it may have been sent more than once */
    }
    client_observe(h, 1, 2, 1, "t", 1);
    while (h->sent[h->taken].flow.peer_port != 5683)
        h->taken++;
    origin_cancelled(h, &r);
    h->taken = h->count;
}

/* RFC 7641 4.3.2: 2.03 is for who has said that it has that representation. */
static void notifications_are_whole(void **state)
{
    static const struct say first = {
        .observed = true, .number = 1, .etag = "A", .max_age = 5, .payload = "one"};
    static const struct say valid = {
        .code = CODE_VALID, .observed = true, .number = 2, .etag = "A", .max_age = 5};
    struct say later = {.observed = true, .number = 3, .etag = "B", .payload = "two"};
    const struct ask knows = {.observe = 0, .etag = "B"};
    struct harness *h = *state;
    struct registered r;
    struct message m;
    struct sent *s;

    client_observe(h, 1, 1, 1, "t", 0);
    s = origin_registration(h, &r);
    origin_answer(h, s, TYPE_ACK, 0, &first);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    client_send(h, 2, TYPE_CON, 1, 2, "t", &knows); /* has B, not A */
    expect_state(h, 2, TYPE_ACK, "one", NULL);

    while (h->taken == h->count) /* the origin is asked again, with A */
        harness_advance(h, SECOND_US);
    s = origin_expect(h, &m);
    assert_memory_equal(m.first[SLOT_ETAG].value, "A", 1);
    origin_answer(h, s, TYPE_ACK, 0, &valid);
    harness_advance(h, SECOND_US);
    while (h->taken < h->count) { /* it may be told that nothing has changed, but not by 2.03 */
        client_expect(h, h->sent[h->taken].flow.peer_port - 20000u, &m);
        assert_int_equal(m.code, CODE_CONTENT);
        assert_memory_equal(m.payload, "one", 3);
    }
    origin_notify(h, &r, TYPE_NON, 0x4001, &later);
    expect_state(h, 1, TYPE_NON, "two", &m);
    assert_memory_equal(m.first[SLOT_ETAG].value, "B", 1);
    client_expect(h, 2, &m); /* has it: either will do */
    assert_true(m.code == CODE_VALID || m.code == CODE_CONTENT);
    later = (struct say){.observed = true, .number = 4, .etag = "A", .payload = "one"};
    origin_notify(h, &r, TYPE_NON, 0x4002, &later);
    expect_state(h, 1, TYPE_NON, "one", NULL);
    expect_state(h, 2, TYPE_NON, "one", NULL);
    harness_silent(h);
}

/* RFC 7641 4.5.1, and that a crowd does not keep others waiting. */
static void fan_out_comes_in_portions(void **state)
{
    static const struct say say = {.observed = true, .number = 2, .payload = "two"};
    enum { CROWD = 600 };
    struct harness *h = *state;
    struct registered r;
    uint8_t bytes[1500];
    struct message m;
    unsigned told = 0, turns = 0, most = 0;

    observe_begin(h, 1, "t", "one", &r);
    for (unsigned n = 2; n <= CROWD; n++)
        observe_join(h, n, "t", "one");
    harness_give(h, &r.flow, bytes, say_encode(bytes, &say, TYPE_NON, 0x4001, r.token, 8));
    while (told < CROWD) {
        unsigned before = h->count;
        struct flow other = harness_client(h, 1000);

        assert_in_range(++turns, 1, CROWD);
        worker_advance(h->worker, h->now);
        for (; h->taken < h->count; told++)
            expect_state(h, h->sent[h->taken].flow.peer_port - 20000u, TYPE_NON, "two", NULL);
        if (h->count - before > most)
            most = h->count - before;
        /* A request in between is answered before the rest. */
        harness_give(h, &other, bytes,
                     harness_request(bytes, TYPE_CON, CODE_GET, (uint16_t)turns, 1, "t", NULL));
        client_expect(h, 1000, &m);
        assert_memory_equal(m.payload, "two", 3);
        harness_silent(h);
    }
    assert_in_range(most, 1, 256);
    assert_int_equal(told, CROWD);
    harness_advance(h, SECOND_US);
    harness_silent(h);
}

/* RFC 7641 2, RFC 8132 2.4: GET and FETCH alone. */
static void only_safe_requests_observe(void **state)
{
    static const struct say say = {.observed = true, .number = 1, .payload = "done"};
    struct harness *h = *state;
    struct flow flow = harness_client(h, 1);
    uint8_t bytes[1500];
    struct message m;
    struct encoder e;
    struct sent *s;

    encoder_begin(&e, bytes, sizeof(bytes), TYPE_CON, CODE_POST, 1, (const uint8_t *)"t", 1);
    encoder_uint(&e, OPTION_OBSERVE, 0);
    encoder_option(&e, OPTION_URI_PATH, "t", 1);
    harness_give(h, &flow, bytes, encoder_end(&e));
    s = origin_expect(h, &m);
    assert_int_equal(m.code, CODE_POST);
    assert_false(message_has(&m, SLOT_OBSERVE));
    origin_answer(h, s, TYPE_ACK, 0, &say);
    client_expect(h, 1, &m);
    assert_memory_equal(m.payload, "done", 4);
    assert_false(message_has(&m, SLOT_OBSERVE));
    assert_int_equal(observe_usage(h).relations, 0);
    assert_int_equal(observe_usage(h).observations, 0);
}

/* RFC 7641 3.3.1, RFC 7252 5.6.1: Max-Age of the last notification, and not that of the first
 * answer, says how long others are served from it. */
static void a_notification_is_as_fresh_as_it_says(void **state)
{
    static const struct say first = {
        .observed = true, .number = 1, .max_age = 600, .payload = "one"};
    static const struct say second = {
        .observed = true, .number = 2, .max_age = 4, .payload = "two"};
    struct harness *h = *state;
    struct registered r;
    struct message m;
    struct sent *s;

    client_observe(h, 1, 1, 1, "t", 0);
    s = origin_registration(h, &r);
    origin_answer(h, s, TYPE_ACK, 0, &first);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    origin_notify(h, &r, TYPE_NON, 0x4001, &second);
    expect_state(h, 1, TYPE_NON, "two", NULL);
    harness_advance(h, 3 * SECOND_US);
    client_observe(h, 2, 1, 2, "t", NO_OBSERVE);
    expect_state(h, 2, TYPE_ACK, "two", &m);
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 0), 1);
    harness_silent(h);
    harness_advance(h, 3 * SECOND_US / 2);
    client_observe(h, 2, 2, 2, "t", NO_OBSERVE); /* it is over: the origin is asked */
    s = origin_expect(h, &m);
    assert_int_equal(m.code, CODE_GET);
    origin_answer(h, s, TYPE_ACK, 0, &first);
    expect_state(h, 2, TYPE_ACK, "one", NULL);
}

/* RFC 9175 2.4: what an address has not asked for itself is not sent to it, now or later. */
static void an_unproven_client_is_no_observer(void **state)
{
    static const char wary[] = OBSERVE_YAML "limits: {observations: 8, relations: 8, "
                                            "sessions: 64, amplification: 3}\n";
    struct say say = {.observed = true, .number = 1, .length = 300};
    char body[300];
    struct harness *h;
    struct registered r;
    struct message m;
    struct sent *s;

    (void)state;
    observe_start((void **)&h, wary);
    memset(body, 'x', sizeof(body));
    say.payload = body;
    client_observe(h, 1, 1, 1, "t", 0);
    s = origin_registration(h, &r);
    origin_answer(h, s, TYPE_ACK, 0, &say);
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_UNAUTHORIZED);
    assert_true(message_has(&m, SLOT_ECHO));
    assert_false(message_has(&m, SLOT_OBSERVE));
    say.number = 2;
    origin_notify(h, &r, TYPE_NON, 0x4001, &say);
    while (h->taken < h->count) /* the origin may be told to stop */
        assert_int_equal(harness_expect(h, &m)->flow.peer_port, 5683);
    assert_int_equal(observe_usage(h).relations, 0);
    observe_end(h);
}

/* RFC 7252 4.2, RFC 7641 3.6: a client that has cancelled gets no more of what was on its way. */
static void who_cancels_gets_nothing_more(void **state)
{
    struct harness *h = *state;
    struct registered r;
    struct message m;

    observe_begin(h, 1, "t", "one", &r);
    for (uint32_t i = 2; i <= 6; i++)
        origin_state(h, &r, i, "more");
    for (unsigned i = 0; i < 5; i++) /* the fifth is confirmable */
        client_expect(h, 1, &m);
    assert_int_equal(m.type, TYPE_CON);
    client_observe(h, 1, 2, 1, "t", 1);
    origin_cancelled(h, &r);
    assert_int_equal(expect_state(h, 1, TYPE_ACK, "more", NULL), -1);
    assert_int_equal(observe_usage(h).outbound, 0);
    harness_advance(h, 100 * SECOND_US);
    harness_silent(h);
    assert_int_equal(worker_counters(h->worker)->retransmissions, 0);
}

/* RFC 7967 2.1: who does not want to hear of a state does not observe it, and the origin is told.
 */
static void who_wants_no_answer_does_not_observe(void **state)
{
    static const struct say one = {.observed = true, .number = 1, .payload = "one"};
    struct harness *h = *state;
    struct flow flow = harness_client(h, 1);
    struct registered r;
    uint8_t bytes[100];
    struct encoder e;
    struct message m;

    encoder_begin(&e, bytes, sizeof(bytes), TYPE_CON, CODE_GET, 1, (const uint8_t *)"\1", 1);
    encoder_uint(&e, OPTION_OBSERVE, 0);
    encoder_option(&e, OPTION_URI_PATH, "t", 1);
    encoder_uint(&e, OPTION_NO_RESPONSE, 2);
    harness_give(h, &flow, bytes, encoder_end(&e));
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &one);
    client_expect(h, 1, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.code, CODE_EMPTY);
    origin_cancelled(h, &r);
    assert_int_equal(observe_usage(h).relations, 0);
    harness_advance(h, 10 * SECOND_US);
    harness_silent(h);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(numbers_go_around_in_order),
        TEST(old_notifications_are_dropped),
        TEST(notifications_that_nobody_asked_for_are_reset),
        TEST(a_silent_origin_is_asked_again),
        TEST(a_confirmable_notification_each_day),
        TEST(notifications_are_whole),
        TEST(fan_out_comes_in_portions),
        TEST(only_safe_requests_observe),
        TEST(a_notification_is_as_fresh_as_it_says),
        TEST(who_cancels_gets_nothing_more),
        TEST(who_wants_no_answer_does_not_observe),
        cmocka_unit_test(an_unproven_client_is_no_observer),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
