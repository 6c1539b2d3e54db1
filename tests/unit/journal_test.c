/* The journal of unsafe requests: what a process finds of the ones before it, and what workers make
 * of it (RFC 7252 4.5). The memory of a "process" here is what would be its file. */
#include <errno.h>

#include "tests/unit/proxy_steps.h"

#include "gateway/coap/block.h"
#include "gateway/session/journal.h"

#define CON_US  (247 * SECOND_US)
#define NON_US  (145 * SECOND_US)
#define ENTRIES 256 /* limits.remembered of ORIGINS_YAML */
#define KEY     0x1234567890abcdefu

struct memory {
    struct journal journal;
    void *bytes;
    size_t size;
};

static struct journal_setup setup_of(unsigned workers, uint32_t entries, uint64_t now_us)
{
    return (struct journal_setup){.workers = workers,
                                  .entries = entries,
                                  .con_us = CON_US,
                                  .non_us = NON_US,
                                  .now_us = now_us,
                                  .then_us = now_us,
                                  .key = KEY};
}

/* Returns how many former requests were left out. */
static uint64_t make(struct memory *m, const struct journal_setup *setup)
{
    m->size = journal_bytes(setup);
    m->bytes = aligned_alloc(64, (m->size + 63) / 64 * 64);
    assert_non_null(m->bytes);
    memset(m->bytes, 0, m->size);
    return journal_create(&m->journal, m->bytes, setup);
}

/* The process after that of `before`, which is gone then. `setup` may have been changed. */
static uint64_t follow(struct memory *m, struct journal_setup *setup)
{
    struct memory before = *m;
    struct journal old;
    uint64_t left_out;

    assert_int_equal(journal_view(&old, before.bytes, before.size), 0);
    setup->old = &old;
    left_out = make(m, setup);
    free(before.bytes);
    return left_out;
}

static void follow_at(struct memory *m, unsigned workers, uint64_t now_us)
{
    struct journal_setup setup = setup_of(workers, ENTRIES, now_us);

    assert_int_equal(follow(m, &setup), 0);
}

static void note(struct memory *m, unsigned worker, unsigned index, uint64_t flow, uint16_t mid,
                 enum journal_kind kind, uint64_t at_us)
{
    journal_note(&journal_noted(&m->journal, worker)[index], flow, journal_stamp(at_us, mid, kind));
}

static void fresh(struct memory *m)
{
    struct journal_setup setup = setup_of(1, ENTRIES, 0);

    assert_int_equal(make(m, &setup), 0);
}

/* ---- the journal itself ---- */

static void what_one_process_notes_the_next_one_knows(void **state)
{
    const uint64_t now = 5000 * SECOND_US;
    struct memory m;

    (void)state;
    fresh(&m);
    note(&m, 0, 0, 1, 10, JOURNAL_CON, now);
    note(&m, 0, ENTRIES - 1, 2, 20, JOURNAL_NON, now);
    assert_false(journal_knows(&m.journal, 1, 10, now)); /* nobody asks for its own */
    follow_at(&m, 1, now + SECOND_US);
    assert_int_equal(m.journal.former_count, 2);
    assert_true(journal_knows(&m.journal, 1, 10, now + SECOND_US));
    assert_true(journal_knows(&m.journal, 2, 20, now + SECOND_US));
    assert_false(journal_knows(&m.journal, 1, 20, now + SECOND_US));
    assert_false(journal_knows(&m.journal, 2, 10, now + SECOND_US));
    assert_false(journal_knows(&m.journal, 3, 10, now + SECOND_US));
    free(m.bytes);
}

static void each_kind_has_its_lifetime(void **state)
{
    const uint64_t now = 5000 * SECOND_US, later = now + 100 * SECOND_US;
    struct memory m;

    (void)state;
    fresh(&m);
    note(&m, 0, 0, 1, 1, JOURNAL_CON, now);
    note(&m, 0, 1, 1, 2, JOURNAL_NON, now);
    note(&m, 0, 2, 1, 3, JOURNAL_CON, later - CON_US - SECOND_US); /* over at the start */
    follow_at(&m, 1, later);
    assert_int_equal(m.journal.former_count, 2);
    assert_true(journal_knows(&m.journal, 1, 2, now + NON_US - 1));
    assert_false(journal_knows(&m.journal, 1, 2, now + NON_US + 3 * JOURNAL_UNIT_US));
    assert_true(journal_knows(&m.journal, 1, 1, now + CON_US - 1));
    assert_false(journal_knows(&m.journal, 1, 1, now + CON_US + 3 * JOURNAL_UNIT_US));
    assert_true(m.journal.former_end_us <= now + CON_US + 3 * JOURNAL_UNIT_US);
    free(m.bytes);
}

/* However often it is restarted: what is old is not made young by it. */
static void it_is_handed_on_until_it_is_over(void **state)
{
    const uint64_t begun = 5000 * SECOND_US;
    uint64_t now = begun;
    struct memory m;

    (void)state;
    fresh(&m);
    note(&m, 0, 7, 1, 1, JOURNAL_CON, now);
    for (; now < begun + CON_US - SECOND_US; now += SECOND_US) {
        follow_at(&m, 1, now);
        assert_true(journal_knows(&m.journal, 1, 1, now));
    }
    now = begun + CON_US + 250 * JOURNAL_UNIT_US;
    follow_at(&m, 1, now);
    assert_int_equal(m.journal.former_count, 0);
    assert_int_equal(m.journal.former_end_us, 0);
    free(m.bytes);
}

static void the_number_of_workers_may_change(void **state)
{
    static const unsigned numbers[] = {1, 4, 2, 1, 3};
    const uint64_t now = 5000 * SECOND_US;
    struct memory m;

    (void)state;
    fresh(&m);
    for (unsigned i = 0; i < 5; i++) {
        if (i)
            follow_at(&m, numbers[i], now + i);
        for (unsigned w = 0; w < numbers[i]; w++)
            note(&m, w, 0, w, (uint16_t)i, JOURNAL_CON, now + i);
    }
    follow_at(&m, 1, now + 5);
    assert_int_equal(m.journal.former_count, 1 + 4 + 2 + 1 + 3);
    for (unsigned i = 0; i < 5; i++)
        for (unsigned w = 0; w < 5; w++)
            assert_int_equal(journal_knows(&m.journal, w, (uint16_t)i, now + 6), w < numbers[i]);
    free(m.bytes);
}

/* What the next process sees when this one ended behind any of the stores. */
static void a_half_written_entry_is_none(void **state)
{
    const uint64_t now = 5000 * SECOND_US;
    struct journal_entry *entry;
    struct memory m;

    (void)state;
    for (unsigned stores = 0; stores < 4; stores++) {
        fresh(&m);
        note(&m, 0, 0, 1, 1, JOURNAL_CON, now);
        entry = journal_noted(&m.journal, 0);
        if (stores > 0)
            entry->stamp = 0;
        if (stores > 1)
            entry->flow = 2;
        if (stores > 2)
            entry->stamp = journal_stamp(now, 2, JOURNAL_CON);
        follow_at(&m, 1, now);
        assert_int_equal(journal_knows(&m.journal, 1, 1, now), stores == 0);
        assert_int_equal(journal_knows(&m.journal, 2, 2, now), stores == 3);
        assert_false(journal_knows(&m.journal, 1, 2, now));
        assert_false(journal_knows(&m.journal, 2, 1, now));
        free(m.bytes);
    }
}

static void an_entry_is_written_over_by_the_next_at_its_place(void **state)
{
    const uint64_t now = 5000 * SECOND_US;
    struct memory m;

    (void)state;
    fresh(&m);
    for (uint16_t i = 0; i < 3 * ENTRIES; i++)
        note(&m, 0, i % ENTRIES, 1, i, JOURNAL_CON, now);
    follow_at(&m, 1, now);
    assert_int_equal(m.journal.former_count, ENTRIES);
    for (uint16_t i = 0; i < 3 * ENTRIES; i++)
        assert_int_equal(journal_knows(&m.journal, 1, i, now), i >= 2 * ENTRIES);
    free(m.bytes);
}

static void what_is_no_kind_of_entry_is_left_out(void **state)
{
    const uint64_t now = 5000 * SECOND_US;
    struct memory m;

    (void)state;
    fresh(&m);
    for (unsigned i = 0; i < 256; i++)
        journal_noted(&m.journal, 0)[i] =
            (struct journal_entry){i, journal_stamp(now, 1, (enum journal_kind)i)};
    follow_at(&m, 1, now);
    assert_int_equal(m.journal.former_count, 2);
    assert_true(journal_knows(&m.journal, JOURNAL_CON, 1, now));
    assert_true(journal_knows(&m.journal, JOURNAL_NON, 1, now));
    free(m.bytes);
}

/* Set back or forth, it is the time since then that counts, as far as that is known. */
static void the_clock_may_be_set(void **state)
{
    const uint64_t noted = 5000 * SECOND_US, seconds = SECOND_US;
    const struct {
        uint64_t then, now; /* the two processes' time at the start of the second */
        uint64_t left;      /* until it is forgotten */
    } cases[] = {
        {noted + 10 * seconds, noted + 10 * seconds, CON_US - 10 * seconds},
        {noted - 3600 * seconds, noted - 3600 * seconds, CON_US}, /* counts as one of now */
        {noted + 10 * seconds, noted + 7200 * seconds, CON_US - 10 * seconds},
        {noted + 10 * seconds, noted - 4000 * seconds, CON_US - 10 * seconds},
        {noted + 10 * seconds, 5 * seconds, CON_US - 5 * seconds}, /* there is no earlier time */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct journal_setup setup = setup_of(1, ENTRIES, cases[i].now);
        uint64_t end = cases[i].now + cases[i].left;
        struct memory m;

        fresh(&m);
        note(&m, 0, 0, 1, 1, JOURNAL_CON, noted);
        setup.then_us = cases[i].then;
        assert_int_equal(follow(&m, &setup), 0);
        assert_true(journal_knows(&m.journal, 1, 1, cases[i].now));
        assert_true(journal_knows(&m.journal, 1, 1, end - 1));
        if (i != 4)
            assert_false(journal_knows(&m.journal, 1, 1, end + 3 * JOURNAL_UNIT_US));
        free(m.bytes);
    }
}

/* A client that has used a message ID again: the later one counts. */
static void the_later_of_two_counts(void **state)
{
    const uint64_t now = 5000 * SECOND_US;
    struct memory m;

    (void)state;
    for (unsigned order = 0; order < 2; order++) {
        fresh(&m);
        note(&m, 0, order, 1, 1, JOURNAL_CON, now - 240 * SECOND_US);
        note(&m, 0, !order, 1, 1, JOURNAL_CON, now);
        follow_at(&m, 1, now);
        assert_int_equal(m.journal.former_count, 1);
        assert_true(journal_knows(&m.journal, 1, 1, now + CON_US - SECOND_US));
        free(m.bytes);
    }
}

/* Full of young ones, life after life: a bounded number is handed on, the youngest. */
static void the_oldest_of_too_many_are_left_out(void **state)
{
    uint64_t now = 5000 * SECOND_US, left_out = 0;
    struct memory m;

    (void)state;
    fresh(&m);
    for (unsigned life = 0; life < 10; life++, now += 10 * SECOND_US) {
        struct journal_setup setup = setup_of(1, ENTRIES, now);

        left_out += follow(&m, &setup);
        assert_true(m.journal.former_count <= JOURNAL_FORMER_TIMES * ENTRIES);
        for (uint16_t i = 0; i < ENTRIES; i++)
            note(&m, 0, i, life, i, JOURNAL_CON, now);
    }
    now -= 10 * SECOND_US;
    assert_true(left_out > 0);
    for (uint16_t i = 0; i < ENTRIES; i++) {
        assert_true(journal_knows(&m.journal, 8, i, now));
        assert_true(journal_knows(&m.journal, 6, i, now));
        assert_false(journal_knows(&m.journal, 0, i, now));
    }
    free(m.bytes);
}

static void memory_that_is_no_journal_is_noticed(void **state)
{
    struct journal_setup setup = setup_of(2, 16, 0);
    struct journal j;
    struct memory m;

    (void)state;
    make(&m, &setup);
    assert_int_equal(journal_view(&j, m.bytes, m.size), 0);
    for (size_t size = 0; size < m.size; size++)
        assert_int_equal(journal_view(&j, m.bytes, size), -EINVAL);
    for (size_t bit = 0; bit < offsetof(struct journal_head, skew_us) * 8; bit++) {
        ((uint8_t *)m.bytes)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(journal_view(&j, m.bytes, m.size), -EINVAL);
        ((uint8_t *)m.bytes)[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(journal_view(&j, m.bytes, m.size), 0);
    free(m.bytes);
}

/* The key stays as long as there are entries that were made with it. Own addresses are told apart
 * by what they are, not by where they stand in the table. */
static void flows_are_called_the_same_in_the_next_life(void **state)
{
    const struct address own = address_from_v4((const uint8_t[]){10, 99, 0, 2}),
                         other = address_from_v4((const uint8_t[]){10, 99, 0, 3});
    struct endpoint peer = {.address = address_from_v4((const uint8_t[]){10, 99, 0, 7}),
                            .port = 40000};
    struct flow flow = flow_make(0, 5683, &peer, TRANSPORT_UDP), moved = flow, second = flow;
    struct journal_setup setup = setup_of(1, ENTRIES, 0);
    struct memory m, foreign;
    uint64_t name;

    (void)state;
    moved.local = 3;
    second.peer_port = 40001;
    fresh(&m);
    name = journal_flow(&m.journal, &flow, &own);
    setup.key = ~KEY;
    follow(&m, &setup);
    assert_true(journal_flow(&m.journal, &flow, &own) == name);
    assert_true(journal_flow(&m.journal, &moved, &own) == name);
    assert_true(journal_flow(&m.journal, &flow, &other) != name);
    assert_true(journal_flow(&m.journal, &second, &own) != name);
    setup.old = NULL;
    make(&foreign, &setup);
    assert_true(journal_flow(&foreign.journal, &flow, &own) != name);
    free(foreign.bytes);
    free(m.bytes);
}

/* ---- workers ---- */

static struct memory lives;

static void with_journal(struct worker_setup *setup)
{
    setup->journal = &lives.journal;
    setup->mid_key = 42;
}

static struct harness *begin(uint64_t now_us)
{
    struct harness *h = malloc(sizeof(*h));
    struct journal_setup setup = setup_of(1, ENTRIES, now_us);

    assert_non_null(h);
    if (lives.bytes)
        follow(&lives, &setup);
    else
        make(&lives, &setup);
    harness_start_prepared(h, ORIGINS_YAML("{size: 0}", ""), NULL, NULL, with_journal);
    h->now = now_us;
    worker_advance(h->worker, now_us);
    return h;
}

static uint64_t kill_it(struct harness *h)
{
    uint64_t now = h->now;

    harness_stop(h);
    free(h);
    return now;
}

static int forget(void **state)
{
    (void)state;
    free(lives.bytes);
    lives.bytes = NULL;
    return 0;
}

static const struct opt *const x = OPTIONS(PATH("x"));

static void assert_refused(struct harness *h, unsigned n, uint16_t mid)
{
    static const char text[] =
        "the gateway was restarted: it is not known whether this was carried out";
    struct message m;

    expect_client(h, n, CODE_GATEWAY_TIMEOUT, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.mid, mid);
    assert_payload(&m, text);
}

/* RFC 7252 4.5: the case that it is for. */
static void a_request_of_before_the_kill_is_not_forwarded_again(void **state)
{
    static const uint8_t methods[] = {CODE_POST, CODE_PATCH};
    struct harness *h = begin(1000 * SECOND_US);
    struct message m;

    (void)state;
    for (uint16_t i = 0; i < 2; i++) {
        ask_with(h, 1, 7 + i, methods[i], x, "1");
        expect_upstream(h, &m);
    }
    h = begin(kill_it(h) + SECOND_US);
    for (uint16_t i = 0; i < 2; i++)
        for (unsigned again = 0; again < 3; again++) {
            ask_with(h, 1, 7 + i, methods[i], x, "1");
            assert_refused(h, 1, 7 + i);
        }
    assert_int_equal(worker_counters(h->worker)->refused_former, 2);
    assert_int_equal(worker_counters(h->worker)->duplicates_replayed, 4);
    assert_int_equal(worker_counters(h->worker)->requests, 0);
    ask_with(h, 1, 9, CODE_POST, x, "2"); /* another one */
    expect_upstream(h, &m);
    ask_with(h, 2, 7, CODE_POST, x, "3"); /* another client's */
    expect_upstream(h, &m);
    harness_silent(h);
    kill_it(h);
}

/* The second kill comes before anything else. */
static void nor_after_two_kills(void **state)
{
    struct harness *h = begin(1000 * SECOND_US);
    struct message m;

    (void)state;
    ask_with(h, 1, 7, CODE_POST, x, "1");
    expect_upstream(h, &m);
    h = begin(kill_it(h) + SECOND_US);
    h = begin(kill_it(h) + SECOND_US);
    ask_with(h, 1, 7, CODE_POST, x, "1");
    assert_refused(h, 1, 7);
    h = begin(kill_it(h) + SECOND_US);
    ask_with(h, 1, 7, CODE_POST, x, "1");
    assert_refused(h, 1, 7);
    harness_silent(h);
    kill_it(h);
}

/* RFC 7252 4.3 */
static void a_non_is_ignored(void **state)
{
    struct harness *h = begin(1000 * SECOND_US);
    struct message m;

    (void)state;
    ask_typed(h, 1, TYPE_NON, 7, CODE_POST, x, "1");
    expect_upstream(h, &m);
    h = begin(kill_it(h) + SECOND_US);
    ask_typed(h, 1, TYPE_NON, 7, CODE_POST, x, "1");
    harness_silent(h);
    assert_int_equal(worker_counters(h->worker)->drop_former, 1);
    ask_typed(h, 1, TYPE_NON, 7, CODE_POST, x, "1");
    harness_silent(h);
    assert_int_equal(worker_counters(h->worker)->drop_former, 1);
    assert_int_equal(worker_counters(h->worker)->drop_duplicate, 1);
    kill_it(h);
}

/* RFC 7252 5.1, RFC 8132 2 and 3: safe, or idempotent. */
static void what_may_be_done_twice_is(void **state)
{
    static const uint8_t methods[] = {CODE_GET, CODE_PUT, CODE_DELETE, CODE_FETCH, CODE_IPATCH};
    struct harness *h = begin(1000 * SECOND_US);
    struct message m;

    (void)state;
    for (unsigned life = 0; life < 2; life++) {
        for (uint16_t i = 0; i < sizeof(methods); i++) {
            ask_with(h, 1, 7 + i, methods[i], x, methods[i] > CODE_POST ? "1" : NULL);
            expect_upstream(h, &m);
            assert_int_equal(m.code, methods[i]);
        }
        if (life == 0)
            h = begin(kill_it(h) + SECOND_US);
    }
    assert_int_equal(lives.journal.former_count, 0);
    kill_it(h);
}

static void give_block(struct harness *h, uint16_t mid, uint32_t number, bool more)
{
    const struct block block = {.number = number, .more = more, .szx = 0};
    const struct opt options[] = {
        PATH("x"), UINT(OPTION_BLOCK1, block_encode(&block)), {0, NULL, 0, 0}};

    ask_with(h, 1, mid, CODE_POST, options, "0123456789abcdef");
}

/* RFC 7959 2.5, 2.9.2: what is executed is the whole body, with its last block. */
static void an_upload_may_begin_anew(void **state)
{
    struct harness *h = begin(1000 * SECOND_US);
    struct message m;

    (void)state;
    give_block(h, 7, 0, true);
    expect_client(h, 1, CODE_CONTINUE, &m);
    give_block(h, 8, 1, true);
    expect_client(h, 1, CODE_CONTINUE, &m);
    h = begin(kill_it(h) + SECOND_US);
    give_block(h, 8, 1, true);
    expect_client(h, 1, CODE_REQUEST_ENTITY_INCOMPLETE, &m);
    give_block(h, 7, 0, true);
    expect_client(h, 1, CODE_CONTINUE, &m);
    give_block(h, 9, 1, false);
    expect_upstream(h, &m);
    assert_int_equal(m.payload_length, 32);
    h = begin(kill_it(h) + SECOND_US);
    give_block(h, 9, 1, false);
    assert_refused(h, 1, 9);
    harness_silent(h);
    kill_it(h);
}

/* RFC 7252 4.4: the client may use the message ID for another one. */
static void after_its_lifetime_it_is_a_new_one(void **state)
{
    struct harness *h = begin(1000 * SECOND_US);
    struct message m;
    uint64_t begun = h->now;

    (void)state;
    ask_with(h, 1, 7, CODE_POST, x, "1");
    expect_upstream(h, &m);
    h = begin(kill_it(h) + SECOND_US);
    harness_advance(h, begun + CON_US - SECOND_US - h->now);
    ask_with(h, 1, 7, CODE_POST, x, "1");
    assert_refused(h, 1, 7);
    h = begin(kill_it(h) + 2 * SECOND_US);
    ask_with(h, 1, 7, CODE_POST, x, "2");
    expect_upstream(h, &m);
    kill_it(h);
}

/* What is known of a request is known as long as its entry in the table is: more requests are
 * refused then, and none is forgotten. */
static void a_full_table_loses_nothing(void **state)
{
    struct harness *h = begin(1000 * SECOND_US);
    uint16_t taken = 0;
    struct message m;

    (void)state;
    for (uint16_t i = 0; i < 2 * ENTRIES; i++) {
        ask_with(h, 1 + i % 7, i, CODE_POST, OPTIONS(PATH("nowhere"), PATH("x")), "1");
        while (h->taken < h->count)
            if (!is_to_client(h, harness_expect(h, &m)))
                taken++;
        harness_advance(h, SECOND_US / 10);
    }
    assert_true(taken > 0);
    h = begin(kill_it(h) + SECOND_US);
    assert_int_equal(lives.journal.former_count, ENTRIES);
    for (uint16_t i = 0; i < ENTRIES; i++) {
        ask_with(h, 1 + i % 7, i, CODE_POST, OPTIONS(PATH("nowhere"), PATH("x")), "1");
        assert_refused(h, 1 + i % 7, i);
    }
    kill_it(h);
}

/* Without a journal all is as before. */
static void without_a_journal_it_is_forwarded(void **state)
{
    struct harness *h = malloc(sizeof(*h));
    struct message m;

    (void)state;
    assert_non_null(h);
    harness_start(h, ORIGINS_YAML("{size: 0}", ""));
    ask_with(h, 1, 7, CODE_POST, x, "1");
    expect_upstream(h, &m);
    ask_with(h, 1, 7, CODE_POST, x, "1");
    harness_silent(h);
    harness_stop(h);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_process_notes_the_next_one_knows),
        cmocka_unit_test(each_kind_has_its_lifetime),
        cmocka_unit_test(it_is_handed_on_until_it_is_over),
        cmocka_unit_test(the_number_of_workers_may_change),
        cmocka_unit_test(a_half_written_entry_is_none),
        cmocka_unit_test(an_entry_is_written_over_by_the_next_at_its_place),
        cmocka_unit_test(what_is_no_kind_of_entry_is_left_out),
        cmocka_unit_test(the_clock_may_be_set),
        cmocka_unit_test(the_later_of_two_counts),
        cmocka_unit_test(the_oldest_of_too_many_are_left_out),
        cmocka_unit_test(memory_that_is_no_journal_is_noticed),
        cmocka_unit_test(flows_are_called_the_same_in_the_next_life),
        cmocka_unit_test_teardown(a_request_of_before_the_kill_is_not_forwarded_again, forget),
        cmocka_unit_test_teardown(nor_after_two_kills, forget),
        cmocka_unit_test_teardown(a_non_is_ignored, forget),
        cmocka_unit_test_teardown(what_may_be_done_twice_is, forget),
        cmocka_unit_test_teardown(an_upload_may_begin_anew, forget),
        cmocka_unit_test_teardown(after_its_lifetime_it_is_a_new_one, forget),
        cmocka_unit_test_teardown(a_full_table_loses_nothing, forget),
        cmocka_unit_test(without_a_journal_it_is_forwarded),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
