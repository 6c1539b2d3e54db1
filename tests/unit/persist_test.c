/* Observe relations and the store: what waits for a record, what is put again, and what comes back
 * after a restart. The store is played by hand. */
#include <errno.h>

#include "tests/unit/store_harness.h"

#define LIMITS                                                                       \
    "observe: {confirm_every: 20, confirm_after: 300s}\n"                            \
    "limits: {sessions: 64, exchanges: 16, outbound: 16, queue: 2, remembered: 64, " \
    "message_memory: 64KiB, observations: 4, relations: 8, client_relations: 3, "    \
    "amplification: 0}\n"

static const char serving[] = OBSERVE_YAML LIMITS
    "store: {url: \"redis://127.0.0.1:6379/0\", on_failure: serve, resume_spread: 10s}\n";
static const char rejecting[] = OBSERVE_YAML LIMITS
    "store: {url: \"redis://127.0.0.1:6379/0\", on_failure: reject, resume_spread: 10s}\n";

static struct harness *begin(const char *yaml)
{
    struct harness *h = store_worker(yaml, 0);

    store_says(h, STORE_RESUMED);
    store_says(h, STORE_UP);
    return h;
}

/* As when the process ends. */
static void stop(struct harness *h)
{
    harness_stop(h);
    free(h);
}

/* Client n asks, and the origin accepts: the answer waits for the store. The cookie. */
static uint64_t ask(struct harness *h, unsigned n, struct registered *r, struct kept *record)
{
    const struct say say = {.observed = true, .number = 1, .payload = "one"};

    client_observe(h, n, 1, (uint8_t)n, "t", 0);
    origin_answer(h, origin_registration(h, r), TYPE_ACK, 0, &say);
    harness_silent(h);
    return store_expect(h, STORE_PUT, record);
}

/* ---- answers that wait ---- */

static void an_answer_waits_for_its_record(void **state)
{
    struct harness *h = begin(serving);
    struct registered r;
    struct kept record;
    uint64_t cookie = ask(h, 1, &r, &record);

    (void)state;
    store_untold(h);
    store_done(h, cookie, 0);
    assert_true(expect_state(h, 1, TYPE_ACK, "one", NULL) >= 0);
    origin_state(h, &r, 2, "two");
    expect_state(h, 1, TYPE_NON, "two", NULL);
    stop(h);
}

static void a_slow_record_makes_the_answer_separate(void **state)
{
    struct harness *h = begin(serving);
    struct registered r;
    struct message m;
    uint64_t cookie = ask(h, 1, &r, NULL);

    (void)state;
    harness_advance(h, SECOND_US);
    client_expect(h, 1, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.code, CODE_EMPTY);
    origin_state(h, &r, 2, "two"); /* nothing of it before the answer */
    harness_silent(h);
    store_done(h, cookie, 0);
    assert_true(expect_state(h, 1, TYPE_CON, "two", &m) >= 0);
    client_empty(h, 1, TYPE_ACK, m.mid);
    harness_advance(h, 2000);
    harness_silent(h);
    stop(h);
}

static void a_client_that_joins_waits_too(void **state)
{
    struct harness *h = begin(serving);
    struct registered r;
    uint64_t first = ask(h, 1, &r, NULL), second;

    (void)state;
    client_observe(h, 2, 1, 2, "t", 0);
    harness_silent(h);
    second = store_expect(h, STORE_PUT, NULL);
    store_done(h, second, 0);
    expect_state(h, 2, TYPE_ACK, "one", NULL);
    harness_silent(h);
    store_done(h, first, 0);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    stop(h);
}

static void two_answers_wait_for_one_record(void **state)
{
    struct harness *h = begin(serving);
    struct registered r;
    struct message m;
    uint64_t first = ask(h, 1, &r, NULL), second;
    int64_t number;

    (void)state;
    client_observe(h, 1, 2, 1, "t", 0); /* the client asks again meanwhile */
    second = store_expect(h, STORE_PUT, NULL);
    harness_advance(h, SECOND_US);
    for (unsigned i = 0; i < 2; i++) {
        client_expect(h, 1, &m);
        assert_int_equal(m.code, CODE_EMPTY);
    }
    store_done(h, first, 0);
    store_done(h, second, 0);
    number = expect_state(h, 1, TYPE_CON, "one", &m);
    origin_state(h, &r, 2, "two");
    harness_silent(h);
    client_empty(h, 1, TYPE_ACK, m.mid);
    assert_newer(expect_state(h, 1, TYPE_CON, "two", &m), number);
    client_empty(h, 1, TYPE_ACK, m.mid);
    harness_advance(h, 20 * SECOND_US);
    harness_silent(h);
    stop(h);
}

static void a_renewal_needs_no_record(void **state)
{
    struct harness *h = begin(serving);
    struct registered r;
    int64_t first;

    (void)state;
    store_done(h, ask(h, 1, &r, NULL), 0);
    first = expect_state(h, 1, TYPE_ACK, "one", NULL);
    client_observe(h, 1, 2, 1, "t", 0);
    assert_newer(expect_state(h, 1, TYPE_ACK, "one", NULL), first);
    store_untold(h);
    stop(h);
}

static void failures_are_served_or_rejected(void **state)
{
    static const int errors[] = {-ETIMEDOUT, -ENOTCONN, -EIO, -ENOSPC};
    struct message m;

    (void)state;
    for (unsigned i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
        struct harness *h = begin(serving);
        struct registered r;

        store_done(h, ask(h, 1, &r, NULL), errors[i]);
        assert_true(expect_state(h, 1, TYPE_ACK, "one", NULL) >= 0);
        assert_int_equal(observe_usage(h).relations, 1);
        stop(h);

        h = begin(rejecting);
        store_done(h, ask(h, 1, &r, NULL), errors[i]);
        client_expect(h, 1, &m);
        assert_int_equal(m.code, CODE_SERVICE_UNAVAILABLE);
        assert_true(message_has(&m, SLOT_MAX_AGE));
        origin_cancelled(h, &r);
        assert_int_equal(observe_usage(h).relations, 0);
        store_expect(h, STORE_DELETE, NULL); /* the write may have got through all the same */
        stop(h);
    }
}

static void without_the_store_nothing_waits(void **state)
{
    struct harness *h = begin(serving);
    const struct say say = {.observed = true, .number = 1, .payload = "one"};
    struct registered r;
    struct message m;

    (void)state;
    store_says(h, STORE_DOWN);
    client_observe(h, 1, 1, 1, "t", 0);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    store_untold(h);
    stop(h);

    h = begin(rejecting);
    store_says(h, STORE_DOWN);
    client_observe(h, 1, 1, 1, "t", 0);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_SERVICE_UNAVAILABLE);
    origin_cancelled(h, &r);
    stop(h);
}

static void a_full_ring_is_a_failure(void **state)
{
    struct harness *h = begin(serving);
    const struct say say = {.observed = true, .number = 1, .payload = "one"};
    struct registered r;

    (void)state;
    h->deaf = true;
    client_observe(h, 1, 1, 1, "t", 0);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    h->deaf = false;
    assert_in_range(worker_next_us(h->worker), h->now, h->now + 6 * SECOND_US);
    harness_advance(h, 6 * SECOND_US); /* it is tried again */
    store_done(h, store_expect(h, STORE_PUT, NULL), 0);
    harness_advance(h, 60 * SECOND_US);
    store_untold(h);
    stop(h);
}

/* ---- relations that end ---- */

static void what_ends_is_deleted(void **state)
{
    struct harness *h = begin(serving);
    struct kept put, deleted;
    struct registered r;
    struct message m;

    (void)state;
    store_done(h, ask(h, 1, &r, &put), 0);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    client_observe(h, 1, 2, 1, "t", 1);
    origin_cancelled(h, &r);
    client_expect(h, 1, &m);
    store_expect(h, STORE_DELETE, &deleted);
    assert_int_equal(deleted.length, put.length);
    assert_memory_equal(deleted.bytes, put.bytes, put.length);
    stop(h);
}

static void a_deletion_waits_for_room(void **state)
{
    struct harness *h = begin(serving);
    struct registered r;
    struct message m;

    (void)state;
    store_done(h, ask(h, 1, &r, NULL), 0);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    h->deaf = true;
    client_observe(h, 1, 2, 1, "t", 1);
    origin_cancelled(h, &r);
    client_expect(h, 1, &m);
    harness_advance(h, 10000);
    store_untold(h);
    h->deaf = false;
    harness_advance(h, 10000);
    store_expect(h, STORE_DELETE, NULL);
    assert_int_equal(observe_usage(h).relations, 0);
    stop(h);
}

static void a_late_deletion_hits_no_other_record(void **state)
{
    struct harness *h = begin(serving);
    struct kept record, deleted, put;
    struct registered r;
    struct message m;

    (void)state;
    store_done(h, ask(h, 1, &r, &record), 0);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    client_observe(h, 2, 1, 2, "t", 0); /* the observation goes on */
    store_done(h, store_expect(h, STORE_PUT, NULL), 0);
    expect_state(h, 2, TYPE_ACK, "one", NULL);
    h->deaf = true;
    client_observe(h, 1, 2, 1, "t", 1);
    client_expect(h, 1, &m);
    store_untold(h);
    store_gives(h, &record, false); /* is read back just now: its end is still to be told */
    assert_int_equal(observe_usage(h).relations, 2);
    h->deaf = false;
    client_observe(h, 1, 3, 1, "t", 0);
    store_expect(h, STORE_DELETE, &deleted);
    store_done(h, store_expect(h, STORE_PUT, &put), 0);
    assert_int_equal(deleted.length, record.length);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    harness_advance(h, 10000);
    store_untold(h);
    assert_int_equal(observe_usage(h).relations, 2);
    stop(h);
}

static void a_cancellation_overtakes_the_record(void **state)
{
    struct harness *h = begin(serving);
    struct registered r;
    struct message m;
    uint64_t cookie = ask(h, 1, &r, NULL);

    (void)state;
    client_observe(h, 1, 2, 1, "t", 1);
    /* The registration is answered as a plain request, and so is the cancellation. */
    assert_int_equal(expect_state(h, 1, TYPE_ACK, "one", NULL), -1);
    store_expect(h, STORE_DELETE, NULL);
    origin_cancelled(h, &r);
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_false(message_has(&m, SLOT_OBSERVE));
    store_done(h, cookie, 0); /* nobody waits any more */
    harness_silent(h);
    assert_int_equal(observe_usage(h).relations, 0);
    stop(h);
}

static void the_end_of_an_observation_answers_what_waits(void **state)
{
    struct harness *h = begin(serving);
    const struct say gone = {.code = CODE_NOT_FOUND, .payload = "gone"};
    struct registered r;
    struct message m;
    uint64_t cookie = ask(h, 1, &r, NULL);

    (void)state;
    origin_notify(h, &r, TYPE_NON, 77, &gone);
    client_expect(h, 1, &m); /* the last word, with the token, and the ACK */
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, CODE_NOT_FOUND);
    client_expect(h, 1, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.code, CODE_EMPTY);
    store_expect(h, STORE_DELETE, NULL);
    store_done(h, cookie, 0);
    harness_silent(h);
    stop(h);
}

/* ---- the store comes back ---- */

static void all_is_put_again(void **state)
{
    struct harness *h = begin(serving);
    const struct say say = {.observed = true, .number = 1, .payload = "one"};
    struct kept first, again, other;
    struct registered r;

    (void)state;
    store_done(h, ask(h, 1, &r, &first), 0);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    store_says(h, STORE_DOWN);
    client_observe(h, 2, 1, 2, "t", 0);
    expect_state(h, 2, TYPE_ACK, "one", NULL);
    (void)say;
    store_untold(h);
    store_says(h, STORE_UP);
    store_done(h, store_expect(h, STORE_PUT, &again), 0);
    store_done(h, store_expect(h, STORE_PUT, &other), 0);
    store_untold(h);
    assert_int_equal(again.length, first.length);
    assert_memory_equal(again.bytes, first.bytes, first.length);
    client_observe(h, 2, 2, 2, "t", 0); /* it has a record now */
    expect_state(h, 2, TYPE_ACK, "one", NULL);
    store_untold(h);
    stop(h);
}

static void records_of_what_has_ended_are_deleted(void **state)
{
    struct harness *h = begin(serving);
    struct registered r;
    struct kept record, asked;
    struct message m;

    (void)state;
    store_done(h, ask(h, 1, &r, &record), 0);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    store_gives(h, &record, true); /* it is there */
    store_untold(h);
    store_says(h, STORE_DOWN);
    client_observe(h, 1, 2, 1, "t", 1);
    origin_cancelled(h, &r);
    client_expect(h, 1, &m);
    store_untold(h);
    store_says(h, STORE_UP);
    store_gives(h, &record, true);
    store_expect(h, STORE_DELETE, &asked);
    assert_memory_equal(asked.bytes, record.bytes, record.length);
    harness_silent(h);
    assert_int_equal(observe_usage(h).relations, 0);
    stop(h);
}

/* ---- after a restart ---- */

/* A worker in which client 1 has registered, and what the store has then. */
static struct kept registered_before(uint64_t *now, int64_t *number)
{
    struct harness *h = begin(serving);
    struct registered r;
    struct kept record;

    store_done(h, ask(h, 1, &r, &record), 0);
    *number = expect_state(h, 1, TYPE_ACK, "one", NULL);
    origin_state(h, &r, 2, "two");
    *number = expect_state(h, 1, TYPE_NON, "two", NULL);
    *now = h->now + SECOND_US;
    stop(h);
    return record;
}

/* Goes on until something is sent. */
static void wait_for_one(struct harness *h)
{
    for (unsigned i = 0; i < 12000 && h->taken == h->count; i++)
        harness_advance(h, SECOND_US / 1000); /* or the next one may come in the same step */
    assert_int_equal(h->count, h->taken + 1);
}

static void a_relation_comes_back(void **state)
{
    const struct say say = {.observed = true, .number = 9, .payload = "three"};
    struct registered r;
    struct message m;
    struct harness *h;
    struct kept record;
    int64_t number;
    uint64_t now;

    (void)state;
    record = registered_before(&now, &number);
    h = store_worker(serving, now);
    store_gives(h, &record, false);
    store_says(h, STORE_RESUMED);
    store_says(h, STORE_UP);
    store_done(h, store_expect(h, STORE_PUT, NULL), 0);
    assert_int_equal(observe_usage(h).relations, 1);
    harness_advance(h, 10 * SECOND_US); /* resume_spread */
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    wait_for_one(h);
    assert_newer(expect_state(h, 1, TYPE_CON, "three", &m), number);
    client_empty(h, 1, TYPE_ACK, m.mid);
    origin_state(h, &r, 10, "four");
    expect_state(h, 1, TYPE_NON, "four", NULL);
    harness_silent(h);
    stop(h);
}

static void a_device_that_is_gone_is_removed(void **state)
{
    const struct say say = {.observed = true, .number = 9, .payload = "three"};
    struct registered r;
    struct message m;
    struct harness *h;
    struct kept record;
    int64_t number;
    uint64_t now;

    (void)state;
    record = registered_before(&now, &number);
    h = store_worker(serving, now);
    store_gives(h, &record, false);
    store_says(h, STORE_RESUMED);
    store_says(h, STORE_UP);
    store_expect(h, STORE_PUT, NULL);
    harness_advance(h, 10 * SECOND_US);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    wait_for_one(h);
    expect_state(h, 1, TYPE_CON, "three", &m);
    client_empty(h, 1, TYPE_RST, m.mid);
    store_expect(h, STORE_DELETE, NULL);
    origin_cancelled(h, &r);
    assert_int_equal(observe_usage(h).relations, 0);
    stop(h);
}

static void who_registers_again_meanwhile_is_there_once(void **state)
{
    const struct say say = {.observed = true, .number = 9, .payload = "three"};
    struct registered r;
    struct message m;
    struct harness *h;
    struct kept record;
    int64_t number;
    uint64_t now;

    (void)state;
    record = registered_before(&now, &number);
    /* Before its record comes. */
    h = store_worker(serving, now);
    store_says(h, STORE_DOWN); /* nothing waits for it any more */
    client_observe(h, 1, 5, 1, "t", 0);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    assert_newer(expect_state(h, 1, TYPE_ACK, "three", NULL), number);
    store_gives(h, &record, false);
    assert_int_equal(observe_usage(h).relations, 1);
    harness_advance(h, 30 * SECOND_US);
    harness_silent(h);
    stop(h);
    /* After it. */
    h = store_worker(serving, now);
    store_says(h, STORE_DOWN);
    store_gives(h, &record, false);
    client_observe(h, 1, 5, 1, "t", 0);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    assert_newer(expect_state(h, 1, TYPE_ACK, "three", &m), number);
    assert_int_equal(observe_usage(h).relations, 1);
    harness_advance(h, 30 * SECOND_US);
    harness_silent(h);
    origin_state(h, &r, 10, "four");
    expect_state(h, 1, TYPE_CON, "four", NULL);
    stop(h);
}

static void what_was_cancelled_meanwhile_stays_cancelled(void **state)
{
    const struct say say = {.payload = "three"};
    struct message m;
    struct harness *h;
    struct kept record;
    int64_t number;
    uint64_t now;

    (void)state;
    record = registered_before(&now, &number);
    h = store_worker(serving, now);
    client_observe(h, 1, 5, 1, "t", 1);
    origin_answer(h, origin_expect(h, &m), TYPE_ACK, 0, &say);
    client_expect(h, 1, &m);
    store_gives(h, &record, false);
    store_expect(h, STORE_DELETE, NULL);
    assert_int_equal(observe_usage(h).relations, 0);
    stop(h);
}

static void what_is_not_wanted_goes_when_there_is_room(void **state)
{
    const struct say say = {.payload = "three"};
    struct kept record, deleted;
    struct message m;
    struct harness *h;
    int64_t number;
    uint64_t now;

    (void)state;
    record = registered_before(&now, &number);
    h = store_worker(serving, now);
    store_says(h, STORE_UP);
    client_observe(h, 1, 5, 1, "t", 1);
    origin_answer(h, origin_expect(h, &m), TYPE_ACK, 0, &say);
    client_expect(h, 1, &m);
    h->deaf = true;
    store_gives(h, &record, false);
    harness_advance(h, 10000);
    store_untold(h);
    h->deaf = false;
    harness_advance(h, 10000);
    store_expect(h, STORE_DELETE, &deleted);
    assert_int_equal(deleted.length, record.length);
    assert_memory_equal(deleted.bytes, record.bytes, record.length);
    assert_int_equal(observe_usage(h).relations, 0);
    stop(h);
}

static void what_was_rejected_meanwhile_stays_away(void **state)
{
    const struct say say = {.observed = true, .number = 9, .payload = "three"};
    struct registered r;
    struct message m;
    struct harness *h;
    struct kept record;
    int64_t number;
    uint64_t now;

    (void)state;
    record = registered_before(&now, &number);
    h = store_worker(serving, now);
    store_says(h, STORE_DOWN); /* it is not there, and nothing waits for it */
    client_observe(h, 1, 5, 1, "t", 0);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    expect_state(h, 1, TYPE_ACK, "three", NULL);
    origin_state(h, &r, 10, "four");
    expect_state(h, 1, TYPE_NON, "four", &m);
    client_empty(h, 1, TYPE_RST, m.mid);
    origin_cancelled(h, &r);
    store_says(h, STORE_UP);
    store_gives(h, &record, false);
    store_expect(h, STORE_DELETE, NULL);
    assert_int_equal(observe_usage(h).relations, 0);
    stop(h);
}

static void a_route_that_is_gone_is_said_to_the_device(void **state)
{
    static const char other[] =
        "instance: unit\n"
        "interfaces: [{name: south, device: tap:unit0, addresses: [10.99.0.2/24]}]\n"
        "listeners: [{uri: coap://10.99.0.2}]\n"
        "store: {url: \"redis://127.0.0.1:6379/0\"}\n";
    struct message m;
    struct harness *h;
    struct kept record;
    int64_t number;
    uint64_t now;

    (void)state;
    record = registered_before(&now, &number);
    h = store_worker(other, now);
    store_gives(h, &record, false);
    client_expect(h, 1, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, CODE_NOT_FOUND);
    assert_int_equal(m.token_length, 1);
    assert_int_equal(m.token[0], 1);
    stop(h);
}

static void records_that_cannot_be_used_are_counted(void **state)
{
    struct harness *h;
    struct kept record, bad;
    int64_t number;
    uint64_t now;

    (void)state;
    record = registered_before(&now, &number);
    h = store_worker(serving, now);
    for (uint32_t length = 0; length < record.length; length++) {
        bad = record;
        bad.length = length;
        store_gives(h, &bad, false);
    }
    bad = record;
    bad.bytes[17] ^= 1; /* another listener's port */
    store_gives(h, &bad, false);
    assert_int_equal(worker_counters(h->worker)->records_unusable, record.length + 1);
    assert_int_equal(observe_usage(h).relations, 0);
    harness_silent(h);
    store_untold(h);
    stop(h);
}

static void numbers_go_on_when_the_clock_goes_back(void **state)
{
    const struct say say = {.observed = true, .number = 9, .payload = "three"};
    struct store_head mark = {.cookie = 5000000, .mark = 5010000};
    struct registered r;
    struct message m;
    struct harness *h;
    struct kept record;
    int64_t number;
    uint64_t now;

    (void)state;
    record = registered_before(&now, &number);
    h = store_worker(serving, 0);
    store_says_head(h, STORE_MARK, &mark, NULL);
    store_gives(h, &record, false);
    harness_advance(h, 10 * SECOND_US);
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &say);
    wait_for_one(h);
    assert_newer(expect_state(h, 1, TYPE_CON, "three", &m), 5000000);
    stop(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_waits_for_its_record),
        cmocka_unit_test(a_slow_record_makes_the_answer_separate),
        cmocka_unit_test(a_client_that_joins_waits_too),
        cmocka_unit_test(two_answers_wait_for_one_record),
        cmocka_unit_test(a_renewal_needs_no_record),
        cmocka_unit_test(failures_are_served_or_rejected),
        cmocka_unit_test(without_the_store_nothing_waits),
        cmocka_unit_test(a_full_ring_is_a_failure),
        cmocka_unit_test(what_ends_is_deleted),
        cmocka_unit_test(a_deletion_waits_for_room),
        cmocka_unit_test(a_late_deletion_hits_no_other_record),
        cmocka_unit_test(a_cancellation_overtakes_the_record),
        cmocka_unit_test(the_end_of_an_observation_answers_what_waits),
        cmocka_unit_test(all_is_put_again),
        cmocka_unit_test(records_of_what_has_ended_are_deleted),
        cmocka_unit_test(a_relation_comes_back),
        cmocka_unit_test(a_device_that_is_gone_is_removed),
        cmocka_unit_test(who_registers_again_meanwhile_is_there_once),
        cmocka_unit_test(what_was_cancelled_meanwhile_stays_cancelled),
        cmocka_unit_test(what_is_not_wanted_goes_when_there_is_room),
        cmocka_unit_test(what_was_rejected_meanwhile_stays_away),
        cmocka_unit_test(a_route_that_is_gone_is_said_to_the_device),
        cmocka_unit_test(records_that_cannot_be_used_are_counted),
        cmocka_unit_test(numbers_go_on_when_the_clock_goes_back),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
