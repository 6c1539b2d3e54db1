/* Observe relations and the store where it is not there yet, where another gateway has taken it
 * over, where there is no room, and where much is cancelled. The store is played by hand. */
#include <errno.h>

#include "tests/unit/store_harness.h"

#define MANY 3000 /* relations of before the start */

#define BEGINNING OBSERVE_YAML "observe: {confirm_every: 20, confirm_after: 300s}\n"
#define LIMITS                                                                          \
    "limits: {sessions: 64, exchanges: 16, outbound: 16, queue: 4, remembered: 64, "    \
    "message_memory: 64KiB, observations: 4, relations: 3000, client_relations: 3000, " \
    "amplification: 0}\n"
#define STORE(more) \
    "store: {url: \"redis://127.0.0.1:6379/0\", timeout: 300ms, resume_spread: 1s, " more "}\n"

static const char rejecting[] = BEGINNING LIMITS STORE("on_failure: reject");
static const char serving[] = BEGINNING LIMITS STORE("on_failure: serve");
static const char crowded[] =
    BEGINNING "limits: {sessions: 2, exchanges: 16, outbound: 16, queue: 4, remembered: 64, "
              "message_memory: 64KiB, observations: 4, relations: 8, client_relations: 3, "
              "amplification: 0}\n" STORE("on_failure: serve");

static const struct say one = {.observed = true, .number = 1, .payload = "one"};

static void stop(struct harness *h)
{
    harness_stop(h);
    free(h);
}

static struct harness *begin(const char *yaml)
{
    struct harness *h = store_worker(yaml, 0);

    store_says(h, STORE_RESUMED);
    store_says(h, STORE_UP);
    return h;
}

/* Client n registers with a token, and the origin accepts: the answer waits. */
static void ask(struct harness *h, unsigned n, uint16_t mid, uint8_t token, const char *path,
                struct registered *r)
{
    client_observe(h, n, mid, token, path, 0);
    origin_answer(h, origin_registration(h, r), TYPE_ACK, 0, &one);
}

/* The record of client n's registration of "t" with token n, as a process before has put it. */
static struct kept record_of(unsigned n)
{
    struct harness *h = begin(serving);
    struct registered r;
    struct kept record;

    ask(h, n, 1, (uint8_t)n, "t", &r);
    store_done(h, store_expect(h, STORE_PUT, &record), 0);
    expect_state(h, n, TYPE_ACK, "one", NULL);
    stop(h);
    return record;
}

static void expect_code(struct harness *h, unsigned n, uint8_t code)
{
    struct message m;

    client_expect(h, n, &m);
    assert_int_equal(m.code, code);
    assert_false(message_has(&m, SLOT_OBSERVE));
}

/* ---- before the store is there for the first time ---- */

static void who_comes_before_the_store_waits_for_it(void **state)
{
    struct harness *h = store_worker(rejecting, 0);
    struct registered r, other;
    uint64_t first, second;

    (void)state;
    ask(h, 1, 1, 1, "t", &r);
    client_observe(h, 2, 1, 2, "t", 0);
    ask(h, 3, 1, 3, "u", &other);
    harness_silent(h);
    store_untold(h);
    harness_advance(h, 200000);
    store_says(h, STORE_UP);
    first = store_expect(h, STORE_PUT, NULL);
    second = store_expect(h, STORE_PUT, NULL);
    store_done(h, store_expect(h, STORE_PUT, NULL), 0);
    expect_state(h, 3, TYPE_ACK, "one", NULL);
    store_untold(h);
    store_done(h, second, 0);
    expect_state(h, 2, TYPE_ACK, "one", NULL);
    harness_silent(h);
    store_done(h, first, 0);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    stop(h);
}

/* Each of two registrations of a client that has asked again is answered. */
static void two_that_wait_are_answered(void **state)
{
    struct harness *h = store_worker(rejecting, 0);
    struct registered r;
    struct message m;
    uint64_t newer, older;

    (void)state;
    ask(h, 1, 1, 1, "t", &r);
    client_observe(h, 1, 2, 1, "t", 0);
    store_says(h, STORE_UP);
    newer = store_expect(h, STORE_PUT, NULL);
    older = store_expect(h, STORE_PUT, NULL);
    store_untold(h);
    store_done(h, older, 0);
    assert_true(expect_state(h, 1, TYPE_ACK, "one", &m) >= 0);
    assert_int_equal(m.mid, 1);
    store_done(h, newer, 0);
    assert_true(expect_state(h, 1, TYPE_ACK, "one", &m) >= 0);
    assert_int_equal(m.mid, 2);
    assert_int_equal(observe_usage(h).relations, 1);
    stop(h);
}

static void they_are_served_without_it(void **state)
{
    struct harness *h = store_worker(serving, 0);
    struct registered r;

    (void)state;
    ask(h, 1, 1, 1, "t", &r);
    harness_advance(h, 290000);
    harness_silent(h);
    harness_advance(h, 20000);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    client_observe(h, 2, 1, 2, "t", 0);
    expect_state(h, 2, TYPE_ACK, "one", NULL);
    store_says(h, STORE_UP);
    store_expect(h, STORE_PUT, NULL);
    store_expect(h, STORE_PUT, NULL);
    stop(h);
}

static void they_do_not_wait_for_ever(void **state)
{
    struct harness *h = store_worker(rejecting, 0);
    struct registered r;

    (void)state;
    ask(h, 1, 1, 1, "t", &r);
    client_observe(h, 2, 1, 2, "t", 0);
    harness_advance(h, 290000);
    harness_silent(h);
    harness_advance(h, 20000);
    expect_code(h, 1, CODE_SERVICE_UNAVAILABLE);
    expect_code(h, 2, CODE_SERVICE_UNAVAILABLE);
    origin_cancelled(h, &r);
    ask(h, 1, 2, 1, "t", &r); /* and those who come now do not wait at all */
    expect_code(h, 1, CODE_SERVICE_UNAVAILABLE);
    assert_int_equal(observe_usage(h).relations, 0);
    stop(h);
}

/* It was there for a moment, and took no record of theirs. */
static void a_store_that_goes_at_once_is_not_waited_for(void **state)
{
    struct harness *h = store_worker(rejecting, 0);
    struct registered r;

    (void)state;
    ask(h, 1, 1, 1, "t", &r);
    h->deaf = true;
    store_says(h, STORE_UP);
    store_untold(h);
    store_says(h, STORE_DOWN);
    h->deaf = false;
    harness_advance(h, 10000);
    expect_code(h, 1, CODE_SERVICE_UNAVAILABLE);
    assert_int_equal(observe_usage(h).relations, 0);
    stop(h);
}

/* ---- another gateway has taken over ---- */

static void what_is_kept_is_left_to_the_other(void **state)
{
    struct harness *h = begin(serving);
    struct registered r;

    (void)state;
    ask(h, 1, 1, 1, "t", &r);
    store_done(h, store_expect(h, STORE_PUT, NULL), 0);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    store_says(h, STORE_DOWN);
    client_observe(h, 2, 1, 2, "t", 0); /* of which the other one does not know */
    expect_state(h, 2, TYPE_ACK, "one", NULL);
    origin_state(h, &r, 2, "two"); /* Redis is away: they are told as ever */
    expect_state(h, 1, TYPE_NON, "two", NULL);
    expect_state(h, 2, TYPE_NON, "two", NULL);
    store_says(h, STORE_OVER);
    origin_state(h, &r, 3, "three");
    expect_state(h, 2, TYPE_NON, "three", NULL);
    harness_silent(h);
    store_untold(h); /* its record is the other one's */
    assert_int_equal(observe_usage(h).relations, 1);
    assert_int_equal(worker_counters(h->worker)->relations_left, 1);
    client_observe(h, 1, 7, 1, "t", 0); /* requests are served on */
    expect_state(h, 1, TYPE_ACK, "three", NULL);
    stop(h);
}

/* ---- no room ---- */

static void a_record_without_a_session_is_said_to_the_device(void **state)
{
    struct kept record = record_of(7), deleted;
    struct harness *h = begin(crowded);
    struct registered r;
    struct message m;

    (void)state;
    client_observe(h, 1, 1, 1, "t", 0); /* sessions with it and with the origin, which is silent */
    (void)origin_registration(h, &r);
    store_gives(h, &record, false);
    client_expect(h, 7, &m);
    assert_int_equal(m.type, TYPE_NON);
    assert_int_equal(m.code, CODE_SERVICE_UNAVAILABLE);
    assert_int_equal(m.token_length, 1);
    assert_int_equal(m.token[0], 7);
    store_expect(h, STORE_DELETE, &deleted);
    assert_memory_equal(deleted.bytes, record.bytes, record.length);
    assert_int_equal(worker_counters(h->worker)->records_unusable, 1);
    stop(h);
}

/* ---- much is cancelled ---- */

static void cancel(struct harness *h, uint16_t token)
{
    uint8_t bytes[64];
    struct encoder e;
    struct flow flow = harness_client(h, 1);

    encoder_begin(&e, bytes, sizeof(bytes), TYPE_NON, CODE_GET, token, (const uint8_t *)&token, 2);
    encoder_uint(&e, OPTION_OBSERVE, 1);
    encoder_option(&e, OPTION_URI_PATH, "hello", 5);
    harness_give(h, &flow, bytes, encoder_end(&e));
    h->taken = h->count = 0;
}

/* Another token for a record of client 1's. */
static struct kept with_token(const struct kept *record, uint16_t token)
{
    struct kept other = *record;
    struct store_relation head;
    uint8_t *packet = other.bytes + sizeof(struct store_relation);
    uint32_t rest = other.length - (uint32_t)sizeof(struct store_relation) - 5;

    memmove(packet + 6, packet + 5, rest); /* after header and one byte of token */
    packet[0] = (uint8_t)((packet[0] & 0xf0) | 2);
    memcpy(packet + 4, &token, 2);
    other.length++;
    memcpy(&head, other.bytes, sizeof(head));
    head.packet_length++;
    memcpy(other.bytes, &head, sizeof(head));
    return other;
}

static void all_that_was_cancelled_stays_cancelled(void **state)
{
    struct kept record = record_of(1);
    struct harness *h = store_worker(serving, 0);

    (void)state;
    for (uint16_t token = 0; token < MANY; token++)
        cancel(h, token);
    store_says(h, STORE_UP);
    for (uint16_t token = 0; token < MANY; token++) {
        struct kept one_of_them = with_token(&record, token);

        store_gives(h, &one_of_them, false);
        store_expect(h, STORE_DELETE, NULL);
        h->told_taken = h->told_count = 0;
    }
    assert_int_equal(observe_usage(h).relations, 0);
    stop(h);
}

/* ---- answers that come late ---- */

/* A refusal waits for the acknowledgement of something else, while the client asks again. */
static void an_old_refusal_does_not_end_a_new_relation(void **state)
{
    struct harness *h = begin(rejecting);
    struct registered t, u;
    struct message con, m;
    uint64_t slow, lost;

    (void)state;
    ask(h, 2, 1, 2, "t", &t);
    store_done(h, store_expect(h, STORE_PUT, NULL), 0);
    expect_state(h, 2, TYPE_ACK, "one", NULL);
    ask(h, 1, 1, 9, "u", &u);
    slow = store_expect(h, STORE_PUT, NULL);
    client_observe(h, 1, 2, 1, "t", 0);
    lost = store_expect(h, STORE_PUT, NULL);
    harness_advance(h, SECOND_US);
    for (unsigned i = 0; i < 2; i++) {
        client_expect(h, 1, &m);
        assert_int_equal(m.code, CODE_EMPTY);
    }
    store_done(h, slow, 0);
    assert_true(expect_state(h, 1, TYPE_CON, "one", &con) >= 0);
    store_done(h, lost, -EIO); /* 5.03, behind that one */
    harness_silent(h);
    store_expect(h, STORE_DELETE, NULL);
    client_observe(h, 1, 3, 1, "t", 0);
    store_done(h, store_expect(h, STORE_PUT, NULL), 0);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    client_empty(h, 1, TYPE_ACK, con.mid);
    harness_advance(h, 10000);
    harness_silent(h);
    origin_state(h, &t, 2, "two");
    expect_state(h, 2, TYPE_NON, "two", NULL);
    expect_state(h, 1, TYPE_NON, "two", NULL);
    stop(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_comes_before_the_store_waits_for_it),
        cmocka_unit_test(two_that_wait_are_answered),
        cmocka_unit_test(they_are_served_without_it),
        cmocka_unit_test(they_do_not_wait_for_ever),
        cmocka_unit_test(a_store_that_goes_at_once_is_not_waited_for),
        cmocka_unit_test(what_is_kept_is_left_to_the_other),
        cmocka_unit_test(a_record_without_a_session_is_said_to_the_device),
        cmocka_unit_test(all_that_was_cancelled_stays_cancelled),
        cmocka_unit_test(an_old_refusal_does_not_end_a_new_relation),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
