/* Deduplication at its limits (RFC 7252 4.5): what is given up, in which order, and what never is.
 */
#include "tests/unit/worker_harness.h"

#include "gateway/session/dedup.h"

#define CON_US (247 * SECOND_US)
#define NON_US (145 * SECOND_US)

struct fixture {
    struct session_table table;
    struct chunks chunks;
    struct dedup dedup;
    struct session *a, *b;
};

static struct session *open_session(struct session_table *table, uint16_t port)
{
    struct endpoint peer = {.address = address_from_v4((const uint8_t[]){10, 0, 0, 1}),
                            .port = port};
    struct flow flow = flow_make(0, 5683, &peer, TRANSPORT_UDP);

    return session_add(table, &flow, session_hash(table, &flow));
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_int_equal(session_table_init(&f->table, 8, 1), 0);
    assert_int_equal(chunks_init(&f->chunks, 4 * CHUNK_BYTES), 0);
    assert_int_equal(dedup_init(&f->dedup, 4, CON_US, NON_US, &f->chunks, &f->table), 0);
    f->a = open_session(&f->table, 1);
    f->b = open_session(&f->table, 2);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    dedup_forget(&f->dedup, f->a);
    dedup_forget(&f->dedup, f->b);
    assert_int_equal(pool_used(&f->dedup.pool), 0);
    assert_int_equal(pool_used(&f->chunks.pool), 0);
    assert_int_equal(f->a->remembered_count, 0);
    assert_int_equal(f->a->remembered_unsafe, 0);
    dedup_fini(&f->dedup);
    chunks_fini(&f->chunks);
    session_table_fini(&f->table);
    free(f);
    return 0;
}

static void entries_live_exactly_their_lifetime(void **state)
{
    struct fixture *f = *state;

    assert_non_null(dedup_add(&f->dedup, f->a, 1, true, true, 100));
    assert_non_null(dedup_add(&f->dedup, f->a, 2, false, true, 100));
    assert_non_null(dedup_find(&f->dedup, f->a, 1, 100 + CON_US - 1));
    assert_non_null(dedup_find(&f->dedup, f->a, 2, 100 + NON_US - 1));
    assert_null(dedup_find(&f->dedup, f->b, 1, 100)); /* of another peer */
    assert_int_equal(dedup_next_us(&f->dedup), 100 + NON_US);
    assert_null(dedup_find(&f->dedup, f->a, 2, 100 + NON_US));
    assert_int_equal(dedup_expire(&f->dedup, 100 + CON_US, 10), 1);
    assert_int_equal(dedup_next_us(&f->dedup), UINT64_MAX);
}

static void safe_ones_make_room_oldest_first(void **state)
{
    struct fixture *f = *state;

    for (uint16_t mid = 1; mid <= 4; mid++)
        assert_non_null(dedup_add(&f->dedup, f->a, mid, true, true, mid));
    assert_non_null(dedup_add(&f->dedup, f->a, 5, true, false, 5));
    assert_null(dedup_find(&f->dedup, f->a, 1, 5));
    assert_non_null(dedup_find(&f->dedup, f->a, 2, 5));
    assert_non_null(dedup_find(&f->dedup, f->a, 5, 5));
}

static void unsafe_ones_are_never_given_up(void **state)
{
    struct fixture *f = *state;

    for (uint16_t mid = 1; mid <= 4; mid++)
        assert_non_null(dedup_add(&f->dedup, f->a, mid, true, false, mid));
    assert_null(dedup_add(&f->dedup, f->b, 5, true, true, 5));
    assert_null(dedup_add(&f->dedup, f->b, 6, true, false, 5));
    for (uint16_t mid = 1; mid <= 4; mid++)
        assert_non_null(dedup_find(&f->dedup, f->a, mid, 5));
    assert_false(session_is_evictable(f->a));
    assert_true(session_is_evictable(f->b));
}

static void busy_ones_stay_and_outlive_their_lifetime(void **state)
{
    struct fixture *f = *state;
    struct dedup_entry *busy = dedup_add(&f->dedup, f->a, 1, true, true, 0);

    busy->busy = true;
    for (uint16_t mid = 2; mid <= 9; mid++)
        assert_non_null(dedup_add(&f->dedup, f->a, mid, true, true, mid));
    assert_ptr_equal(dedup_find(&f->dedup, f->a, 1, 9), busy);
    dedup_expire(&f->dedup, 2 * CON_US, 100);
    assert_ptr_equal(dedup_find(&f->dedup, f->a, 1, 2 * CON_US), busy);
    assert_int_equal(pool_used(&f->dedup.pool), 1);
    busy->busy = false;
    assert_null(dedup_find(&f->dedup, f->a, 1, 3 * CON_US));
}

static void answers_make_room_for_answers(void **state)
{
    struct fixture *f = *state;
    uint8_t answer[2 * CHUNK_PAYLOAD], back[sizeof(answer)];
    struct dedup_entry *e;

    memset(answer, 7, sizeof(answer));
    for (uint16_t mid = 1; mid <= 3; mid++) {
        e = dedup_add(&f->dedup, f->a, mid, true, mid < 3, mid);
        dedup_store(&f->dedup, e, CODE_CONTENT, answer, sizeof(answer));
    }
    assert_null(dedup_find(&f->dedup, f->a, 1, 3)); /* gave its bytes to the third */
    assert_int_equal(e->state, DEDUP_ANSWERED);
    chunks_read(&f->chunks, e->chunk, back, sizeof(back));
    assert_memory_equal(answer, back, sizeof(back));

    /* Unsafe ones keep theirs; then the code alone must do. */
    dedup_expire(&f->dedup, 3, 100);
    e = dedup_add(&f->dedup, f->a, 4, true, false, 4);
    dedup_store(&f->dedup, e, CODE_CHANGED, answer, sizeof(answer));
    e = dedup_add(&f->dedup, f->a, 5, true, false, 5);
    dedup_store(&f->dedup, e, CODE_DELETED, answer, sizeof(answer));
    assert_int_equal(e->chunk, CHUNK_NONE);
    assert_int_equal(e->code, CODE_DELETED);
    assert_int_equal(e->state, DEDUP_ANSWERED);
}

/* When safe requests come faster than they can be remembered for as long as their clients take to
 * repeat them, some of them are, for long enough. Unsafe ones push them out all the same. */
static void a_safe_one_is_not_given_up_young_for_another(void **state)
{
    struct fixture *f = *state;
    uint64_t now = 10 * SECOND_US;

    f->dedup.young_us = 3 * SECOND_US;
    for (uint16_t mid = 1; mid <= 4; mid++)
        assert_non_null(dedup_add(&f->dedup, f->a, mid, true, true, now + mid));
    assert_null(dedup_add(&f->dedup, f->b, 9, true, true, now + 3 * SECOND_US));
    for (uint16_t mid = 1; mid <= 4; mid++)
        assert_non_null(dedup_find(&f->dedup, f->a, mid, now + 3 * SECOND_US));
    assert_non_null(dedup_add(&f->dedup, f->b, 10, true, true, now + 3 * SECOND_US + 1));
    assert_null(dedup_find(&f->dedup, f->a, 1, now + 3 * SECOND_US + 1));
    assert_non_null(dedup_add(&f->dedup, f->b, 11, true, false, now + 3 * SECOND_US + 1));
    assert_null(dedup_find(&f->dedup, f->a, 2, now + 3 * SECOND_US + 1));
    assert_non_null(dedup_find(&f->dedup, f->a, 3, now + 3 * SECOND_US + 1));
}

/* The same for the memory of the answers: the last of it is for what must be kept. */
static void the_last_message_memory_is_not_for_safe_ones(void **state)
{
    struct fixture *f = *state;
    uint64_t now = 10 * SECOND_US;
    uint8_t answer[2 * CHUNK_BYTES] = {0};
    struct dedup_entry *entry;

    f->dedup.young_us = 3 * SECOND_US;
    chunks_fini(&f->chunks);
    assert_int_equal(chunks_init(&f->chunks, 24 * CHUNK_BYTES), 0);
    entry = dedup_add(&f->dedup, f->a, 1, true, true, now);
    dedup_store(&f->dedup, entry, CODE_CONTENT, answer, 200);
    assert_non_null(dedup_add(&f->dedup, f->a, 2, true, true, now)); /* there is memory */
    assert_int_not_equal(chunks_write(&f->chunks, NULL, 0), CHUNK_NONE);
    while (pool_used(&f->chunks.pool) < 22)
        assert_int_not_equal(chunks_write(&f->chunks, NULL, 0), CHUNK_NONE);
    assert_null(dedup_add(&f->dedup, f->b, 3, true, true, now));
    assert_non_null(dedup_add(&f->dedup, f->b, 3, true, false, now));
    assert_non_null(dedup_add(&f->dedup, f->b, 4, true, true, now + 3 * SECOND_US));
    for (uint32_t index = 2; index < 22; index++) /* those that are not the answer's */
        chunks_free(&f->chunks, index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(entries_live_exactly_their_lifetime, setup, teardown),
        cmocka_unit_test_setup_teardown(safe_ones_make_room_oldest_first, setup, teardown),
        cmocka_unit_test_setup_teardown(unsafe_ones_are_never_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(busy_ones_stay_and_outlive_their_lifetime, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_make_room_for_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_safe_one_is_not_given_up_young_for_another, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_last_message_memory_is_not_for_safe_ones, setup,
                                        teardown),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
