/* Resources observed at origins (RFC 7641): what origins say, in which order it counts, renewals,
 * and servers that fail. */
#include "tests/unit/observe_harness.h"

static const char yaml[] = OBSERVE_YAML "observe: {confirm_every: 50, confirm_after: 24h}\n"
                                        "limits: {sessions: 64, exchanges: 16, outbound: 16, "
                                        "queue: 2, remembered: 64, message_memory: 64KiB, "
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

static void expect_empty(struct harness *h, enum message_type type, uint16_t mid)
{
    struct message m;
    const struct sent *s = harness_expect(h, &m);

    assert_int_equal(s->flow.peer_port, 5683);
    assert_int_equal(m.code, CODE_EMPTY);
    assert_int_equal(m.type, type);
    assert_int_equal(m.mid, mid);
}

/* ---- the order of states ---- */

static void old_notifications_are_dropped(void **state)
{
    struct harness *h = *state;
    struct registered r;

    observe_begin(h, 1, "t", "one", &r);
    origin_state(h, &r, 10, "ten");
    expect_state(h, 1, TYPE_NON, "ten", NULL);
    origin_state(h, &r, 9, "nine");
    origin_state(h, &r, 10, "ten again");
    origin_state(h, &r, 10 + 0x800001, "half around");
    harness_silent(h);
    assert_int_equal(worker_counters(h->worker)->drop_old_notification, 3);
    origin_state(h, &r, 10 + 0x7fffff, "ahead");
    expect_state(h, 1, TYPE_NON, "ahead", NULL);
    origin_state(h, &r, 5, "around"); /* 24 bits */
    expect_state(h, 1, TYPE_NON, "around", NULL);
    harness_advance(h, 60 * SECOND_US);
    origin_state(h, &r, 5, "same");
    harness_silent(h);
}

/* RFC 7641 3.4: after 128 s any number is newer. */
static void after_128_s_any_number_is_newer(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 1000, .max_age = 600, .payload = "high"};
    struct registered r;

    observe_begin(h, 1, "t", "one", &r);
    origin_notify(h, &r, TYPE_NON, 5, &say);
    expect_state(h, 1, TYPE_NON, "high", NULL);
    harness_advance(h, 127 * SECOND_US);
    origin_state(h, &r, 3, "low");
    harness_silent(h);
    harness_advance(h, 2 * SECOND_US);
    origin_state(h, &r, 4, "started anew");
    expect_state(h, 1, TYPE_NON, "started anew", NULL);
}

static void our_numbers_wrap(void **state)
{
    struct harness *h = *state;
    struct registered r;
    int64_t number, next;
    bool wrapped = false;

    harness_advance(h, (UINT64_C(1) << 24 << 14) - h->now - 1000 * 1000);
    number = observe_begin(h, 1, "t", "one", &r);
    assert_in_range(number, 0xffff00, 0xffffff);
    for (uint32_t i = 0; i < 100; i++) {
        origin_state(h, &r, 2 + i, "next");
        next = expect_state(h, 1, i % 50 == 49 ? TYPE_CON : TYPE_NON, "next", NULL);
        if (i % 50 == 49)
            client_empty(
                h, 1, TYPE_ACK,
                (uint16_t)(h->sent[h->taken - 1].data[2] << 8 | h->sent[h->taken - 1].data[3]));
        assert_newer(next, number);
        wrapped |= next < number;
        number = next;
    }
    assert_true(wrapped);
}

/* 61 a second at the least. */
static void our_numbers_go_with_the_time(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 2, .max_age = 6000, .payload = "two"};
    struct registered r;
    int64_t first = observe_begin(h, 1, "t", "one", &r), next;

    origin_notify(h, &r, TYPE_NON, 5, &say);
    expect_state(h, 1, TYPE_NON, "two", NULL);
    harness_advance(h, 1000 * SECOND_US);
    origin_state(h, &r, 3, "three");
    next = expect_state(h, 1, TYPE_NON, "three", NULL);
    assert_in_range(next - first, 61000, 62000);
    client_observe(h, 1, 2, 1, "t", 0);
    assert_in_range(expect_state(h, 1, TYPE_ACK, "three", NULL) - next, 1, 2);
    harness_advance(h, 50 * SECOND_US);
    client_observe(h, 1, 3, 1, "t", 0);
    assert_in_range(expect_state(h, 1, TYPE_ACK, "three", NULL) - next, 3050, 3060);
}

static void a_new_observation_goes_on_with_the_numbers(void **state)
{
    struct harness *h = *state;
    struct registered r;
    int64_t number = 0, next;

    for (uint16_t round = 0; round < 20; round++) {
        const struct say say = {.observed = true, .number = 1, .payload = "one"};

        client_observe(h, 1, 10 + round * 2, 1, "t", 0);
        origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
        next = expect_state(h, 1, TYPE_ACK, "one", NULL);
        if (round)
            assert_newer(next, number);
        number = next;
        for (uint32_t i = 0; i < 10; i++) { /* faster than the clock */
            origin_state(h, &r, 2 + i, "next");
            next = expect_state(h, 1, TYPE_NON, "next", NULL);
            assert_newer(next, number);
            number = next;
        }
        client_observe(h, 1, 11 + round * 2, 1, "t", 1);
        origin_cancelled(h, &r);
        h->taken = h->count;
    }
}

/* ---- what origins say ---- */

static void confirmable_notifications_are_acknowledged(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 2, .payload = "two"};
    struct registered r;

    observe_begin(h, 1, "t", "one", &r);
    origin_notify(h, &r, TYPE_CON, 77, &say);
    expect_empty(h, TYPE_ACK, 77);
    expect_state(h, 1, TYPE_NON, "two", NULL);
    origin_notify(h, &r, TYPE_CON, 77, &say); /* our ACK was lost */
    expect_empty(h, TYPE_ACK, 77);
    harness_silent(h);
}

static void unknown_tokens_are_rejected(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 2, .payload = "evil"};
    struct registered r, wrong;

    observe_begin(h, 1, "t", "one", &r);
    wrong = r;
    wrong.token[6] ^= 1;
    origin_notify(h, &wrong, TYPE_CON, 77, &say);
    expect_empty(h, TYPE_RST, 77);
    origin_notify(h, &wrong, TYPE_NON, 78, &say);
    expect_empty(h, TYPE_RST, 78);
    wrong = r;
    wrong.flow.peer_port = 5684; /* the token alone is not enough */
    origin_notify(h, &wrong, TYPE_NON, 79, &say);
    harness_silent(h);
}

static void a_2_03_says_that_the_state_is_good_for_longer(void **state)
{
    struct harness *h = *state;
    const struct say say = {.observed = true, .number = 1, .etag = "e1", .payload = "one"};
    const struct say valid = {
        .code = CODE_VALID, .observed = true, .number = 2, .etag = "e1", .max_age = 90};
    struct registered r;
    struct message m;

    client_observe(h, 1, 1, 1, "t", 0);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    harness_advance(h, 50 * SECOND_US);
    origin_notify(h, &r, TYPE_NON, 5, &valid);
    expect_state(h, 1, TYPE_NON, "one", &m);
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 0), 90);
    harness_advance(h, 90 * SECOND_US);
    harness_silent(h);
}

/* The origin knows from the registration that we have had e1: it may say 2.03 when that is the
 * state again. What we have last is e2. */
static void a_2_03_for_another_state_is_asked_for(void **state)
{
    struct harness *h = *state;
    const struct say one = {.observed = true, .number = 1, .etag = "e1", .payload = "one"};
    const struct say two = {.observed = true, .number = 2, .etag = "e2", .payload = "two"};
    const struct say valid = {.code = CODE_VALID, .observed = true, .number = 3, .etag = "e1"};
    const struct say again = {.observed = true, .number = 4, .etag = "e1", .payload = "one"};
    struct registered r, renewal;
    struct sent *request;
    struct message m;

    client_observe(h, 1, 1, 1, "t", 0);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &one);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    origin_notify(h, &r, TYPE_NON, 5, &two);
    expect_state(h, 1, TYPE_NON, "two", NULL);
    origin_notify(h, &r, TYPE_NON, 6, &valid);
    harness_advance(h, 300 * 1000);
    request = origin_registration(h, &renewal);
    assert_memory_equal(renewal.token, r.token, 8);
    message_parse(request->data, request->length, &m);
    assert_false(message_has(&m, SLOT_ETAG));
    origin_answer(h, request, TYPE_ACK, 0, &again);
    harness_advance(h, 2000);
    expect_state(h, 1, TYPE_NON, "one", NULL);
    harness_silent(h);
}

static void nonsense_ends_it_here_and_there(void **state)
{
    struct harness *h = *state;
    struct say later = {.observed = true, .number = 2, .in_blocks = true, .payload = "?"};
    struct registered r;
    struct message m;

    later.block.number = 1;
    observe_begin(h, 1, "t", "one", &r);
    origin_notify(h, &r, TYPE_NON, 5, &later); /* a notification begins with block 0 */
    client_expect(h, 1, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, CODE_BAD_GATEWAY);
    client_empty(h, 1, TYPE_ACK, m.mid);
    origin_cancelled(h, &r);
}

/* ---- large states ---- */

static char body_a[2500], body_b[2500];

static struct say block_of(const char *body, const char *etag, uint32_t number, uint32_t observe)
{
    struct say say = {.observed = observe != 0, .number = observe, .etag = etag, .in_blocks = true};

    say.block = (struct block){.number = number, .szx = 6, .more = number < 2};
    say.payload = body + 1024 * number;
    say.length = number < 2 ? 1024 : 2500 - 2048;
    return say;
}

/* The next message asks for a block of it, in a GET of its own (RFC 7959 3.4). */
static struct sent *expect_block_request(struct harness *h, const struct registered *r,
                                         uint32_t number)
{
    struct message m;
    struct block block;
    struct sent *s = origin_expect(h, &m);

    assert_false(message_has(&m, SLOT_OBSERVE));
    assert_true(message_has(&m, SLOT_BLOCK2));
    assert_int_equal(block_decode(message_uint(&m, SLOT_BLOCK2, 0), &block), 0);
    assert_int_equal(block.number, number);
    assert_memory_not_equal(m.token, r->token, 8);
    return s;
}

static void give_rest(struct harness *h, const struct registered *r, const char *body,
                      const char *etag, uint32_t from)
{
    for (uint32_t n = from; n < 3; n++) {
        struct sent *request = expect_block_request(h, r, n);
        struct say say = block_of(body, etag, n, 0);

        origin_answer(h, request, TYPE_ACK, 0, &say);
    }
    harness_advance(h, 2000);
}

static void expect_block_0(struct harness *h, int type, const char *body, const char *etag)
{
    struct message m;
    struct block block;

    client_expect(h, 1, &m);
    assert_int_equal(m.type, type);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_true(message_has(&m, SLOT_OBSERVE));
    assert_memory_equal(m.first[SLOT_ETAG].value, etag, 2);
    assert_int_equal(block_decode(message_uint(&m, SLOT_BLOCK2, 0), &block), 0);
    assert_true(block.number == 0 && block.more && block.szx == 6);
    assert_int_equal(m.payload_length, 1024);
    assert_memory_equal(m.payload, body, 1024);
}

static void expect_later_block(struct harness *h, uint16_t mid, uint32_t number, const char *body)
{
    const struct ask ask = {
        .observe = NO_OBSERVE, .in_blocks = true, .block = {.number = number, .szx = 6}};
    struct message m;

    client_send(h, 1, TYPE_CON, mid, 99, "t", &ask);
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_memory_equal(m.payload, body + 1024 * number, m.payload_length);
    assert_int_equal(m.payload_length, number < 2 ? 1024 : 2500 - 2048);
}

static void register_large(struct harness *h, struct registered *r)
{
    struct say say = block_of(body_a, "ea", 0, 1);

    memset(body_a, 'a', sizeof(body_a));
    memset(body_b, 'b', sizeof(body_b));
    client_observe(h, 1, 1, 1, "t", 0);
    origin_answer(h, origin_registration(h, r), TYPE_ACK, 0, &say);
}

static void large_states_are_fetched_and_handed_on(void **state)
{
    struct harness *h = *state;
    struct say say = block_of(body_b, "eb", 0, 2);
    struct registered r;

    register_large(h, &r);
    give_rest(h, &r, body_a, "ea", 1);
    expect_block_0(h, TYPE_ACK, body_a, "ea");
    expect_later_block(h, 2, 1, body_a);
    origin_notify(h, &r, TYPE_NON, 5, &say);
    give_rest(h, &r, body_b, "eb", 1);
    expect_block_0(h, TYPE_NON, body_b, "eb");
    expect_later_block(h, 3, 1, body_b); /* of the new state, although the old was pinned */
    expect_later_block(h, 4, 2, body_b);
    say = block_of(body_b, "eb", 0, 3); /* the same state: nothing has to be fetched */
    origin_notify(h, &r, TYPE_NON, 6, &say);
    expect_block_0(h, TYPE_NON, body_b, "eb");
    harness_silent(h);
}

static void a_newer_state_ends_the_fetch_of_the_rest(void **state)
{
    struct harness *h = *state;
    struct say say = block_of(body_a, "ea", 0, 2), late;
    struct registered r;
    struct sent *request;

    memset(body_a, 'a', sizeof(body_a));
    observe_begin(h, 1, "t", "one", &r);
    origin_notify(h, &r, TYPE_NON, 5, &say);
    request = expect_block_request(h, &r, 1);
    origin_state(h, &r, 3, "three");
    expect_state(h, 1, TYPE_NON, "three", NULL);
    late = block_of(body_a, "ea", 1, 0);
    origin_answer(h, request, TYPE_ACK, 0, &late);
    harness_advance(h, 20 * SECOND_US);
    harness_silent(h);
}

static void a_newer_state_is_the_answer_to_a_registration_in_blocks(void **state)
{
    struct harness *h = *state;
    struct say say = block_of(body_b, "eb", 0, 2), stale = block_of(body_a, "ea", 0, 1);
    struct registered r;

    register_large(h, &r);
    expect_block_request(h, &r, 1);
    origin_notify(h, &r, TYPE_NON, 5, &say);
    origin_notify(h, &r, TYPE_NON, 6, &stale);
    give_rest(h, &r, body_b, "eb", 1);
    expect_block_0(h, TYPE_ACK, body_b, "eb");
    harness_silent(h);
    assert_int_equal(observe_usage(h).relations, 1);
}

static void a_rest_that_does_not_fit_is_asked_for_again(void **state)
{
    struct harness *h = *state;
    struct say say = block_of(body_a, "ea", 0, 2), other = block_of(body_b, "eb", 1, 0);
    const struct say small = {.observed = true, .number = 3, .payload = "small"};
    struct registered r, renewal;
    struct sent *request;

    observe_begin(h, 1, "t", "one", &r);
    origin_notify(h, &r, TYPE_NON, 5, &say);
    request = expect_block_request(h, &r, 1);
    origin_answer(h, request, TYPE_ACK, 0, &other);
    harness_silent(h);
    harness_advance(h, 300 * 1000);
    origin_answer(h, origin_registration(h, &renewal), TYPE_ACK, 0, &small);
    assert_memory_equal(renewal.token, r.token, 8);
    harness_advance(h, 2000);
    expect_state(h, 1, TYPE_NON, "small", NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(old_notifications_are_dropped),
        TEST(after_128_s_any_number_is_newer),
        TEST(our_numbers_wrap),
        TEST(our_numbers_go_with_the_time),
        TEST(a_new_observation_goes_on_with_the_numbers),
        TEST(confirmable_notifications_are_acknowledged),
        TEST(unknown_tokens_are_rejected),
        TEST(a_2_03_says_that_the_state_is_good_for_longer),
        TEST(a_2_03_for_another_state_is_asked_for),
        TEST(nonsense_ends_it_here_and_there),
        TEST(large_states_are_fetched_and_handed_on),
        TEST(a_newer_state_ends_the_fetch_of_the_rest),
        TEST(a_newer_state_is_the_answer_to_a_registration_in_blocks),
        TEST(a_rest_that_does_not_fit_is_asked_for_again),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
