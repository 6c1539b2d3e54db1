/* Sequence numbers of associations that are kept: a model of Redis, of the process that dies, and
 * of all that can happen between them, played at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/random.h"
#include "gateway/security/keep.h"

enum { RUNS = 100000, STEPS = 60, FLIGHT_MAX = 16 };

struct world {
    struct random random;
    struct keep_reserve reserve;
    bool alive; /* there is an association */
    bool begun; /* the store has been given it */
    /* What is on its way to Redis, in order; and answers on their way back. */
    uint64_t flight[FLIGHT_MAX];
    unsigned flying;
    uint64_t answers[FLIGHT_MAX];
    unsigned answered;
    /* Redis. */
    bool kept;
    uint64_t limit;
    /* The judge's. */
    uint64_t used_end; /* all sequences that were ever used with this key are below it */
    uint64_t used, stalled, kills, restores;
};

static unsigned below(struct world *w, unsigned bound)
{
    return random_below(&w->random, bound);
}

static void use(struct world *w, uint64_t count)
{
    for (; count; count--) {
        if (!keep_reserve_may_use(&w->reserve)) {
            w->stalled++;
            return;
        }
        assert_true(w->reserve.next >= w->used_end); /* never twice */
        assert_true(w->reserve.next <= RECORD_SEQUENCE_LAST);
        w->used_end = w->reserve.next + 1;
        w->reserve.next++;
        w->used++;
    }
}

/* As use(), but not one by one: what lies between is used, too. */
static void use_many(struct world *w, uint64_t count)
{
    uint64_t left = w->reserve.confirmed - w->reserve.next;

    if (left > 1 && count > 1) {
        uint64_t n = count < left ? count - 1 : left - 1;

        assert_true(w->reserve.next >= w->used_end);
        w->reserve.next += n;
        w->used_end = w->reserve.next;
        w->used += n;
    }
    use(w, 2);
}

static void ask(struct world *w)
{
    if (w->flying == FLIGHT_MAX)
        return;
    w->flight[w->flying++] = keep_reserve_ask(&w->reserve);
    w->begun = true;
}

/* Redis takes the first `count` records; their answers are on their way if there is room. */
static void apply(struct world *w, unsigned count, bool answers)
{
    for (unsigned i = 0; i < count; i++) {
        w->kept = true;
        w->limit = w->flight[i];
        if (answers && w->answered < FLIGHT_MAX)
            w->answers[w->answered++] = w->flight[i];
        else if (answers)
            keep_reserve_confirm(&w->reserve, w->flight[i]);
    }
    w->flying -= count;
    memmove(w->flight, w->flight + count, w->flying * sizeof(w->flight[0]));
}

/* Answers come in any order. */
static void answer(struct world *w)
{
    unsigned i;

    if (w->answered == 0)
        return;
    i = below(w, w->answered);
    keep_reserve_confirm(&w->reserve, w->answers[i]);
    w->answers[i] = w->answers[--w->answered];
}

/* The connection goes: some of what is on its way gets through, nobody knows what. */
static void lose(struct world *w)
{
    uint64_t lost[2 * FLIGHT_MAX];
    unsigned count = w->flying, all = 0;

    memcpy(lost, w->flight, count * sizeof(lost[0]));
    memcpy(lost + count, w->answers, w->answered * sizeof(lost[0]));
    all = count + w->answered;
    apply(w, below(w, count + 1), false);
    w->flying = w->answered = 0;
    while (all)
        keep_reserve_lose(&w->reserve, lost[--all]);
}

static void kill_and_restore(struct world *w)
{
    apply(w, below(w, w->flying + 1), false);
    w->flying = w->answered = 0;
    w->kills++;
    w->alive = w->kept;
    if (!w->alive)
        return;
    w->restores++;
    keep_reserve_restore(&w->reserve, w->limit);
    assert_true(w->reserve.next >= w->used_end);
    assert_false(keep_reserve_may_use(&w->reserve)); /* not before Redis has said yes */
    assert_true(keep_reserve_is_due(&w->reserve) || w->limit == KEEP_END);
}

static void step(struct world *w)
{
    switch (below(w, 12)) {
    case 0:
    case 1:
        use(w, below(w, 4));
        break;
    case 2:
        use_many(w, below(w, KEEP_STEP));
        break;
    case 3:
        use_many(w, below(w, 2 * KEEP_STEP));
        break;
    case 4:
        if (w->begun && keep_reserve_is_due(&w->reserve))
            ask(w);
        break;
    case 5:
        ask(w); /* it has moved, or the store is up again */
        break;
    case 6:
    case 7:
        apply(w, below(w, w->flying + 1), true);
        break;
    case 8:
    case 9:
        answer(w);
        break;
    case 10:
        lose(w);
        break;
    default:
        if (below(w, 4) == 0)
            kill_and_restore(w);
        break;
    }
}

static void world_begin(struct world *w, uint64_t seed)
{
    uint8_t bytes[RANDOM_SEED_BYTES] = {0};

    memset(w, 0, sizeof(*w));
    memcpy(bytes, &seed, sizeof(seed));
    random_seed(&w->random, bytes);
    /* Some near the end of all numbers. */
    keep_reserve_begin(&w->reserve,
                       below(w, 10) ? 1 + below(w, 4) : KEEP_END - below(w, 4 * KEEP_STEP) - 1);
    w->used_end = w->reserve.next;
    w->alive = true;
}

static void no_sequence_is_used_twice(void **state)
{
    uint64_t used = 0, kills = 0, restores = 0, stalled = 0, asked = 0;
    struct world w;

    (void)state;
    for (uint64_t run = 0; run < RUNS; run++) {
        world_begin(&w, run);
        for (unsigned i = 0; i < STEPS && w.alive; i++)
            step(&w);
        used += w.used;
        kills += w.kills;
        restores += w.restores;
        stalled += w.stalled;
        asked += w.begun;
    }
    /* It has all happened, often. */
    assert_true(used > RUNS && kills > RUNS / 10 && restores > RUNS / 20 && stalled > RUNS / 20);
    assert_true(asked > RUNS / 2);
}

/* Records are given when they are due, and only then. As long as each is confirmed before half a
 * step of others is sent, no message waits; after a restart the first ones do, until the first
 * record is confirmed. */
static void a_healthy_store_never_stalls(void **state)
{
    struct world w;

    (void)state;
    for (uint64_t run = 0; run < 200; run++) {
        uint64_t confirmed_at = UINT64_MAX;
        unsigned asks = 1;

        world_begin(&w, run);
        keep_reserve_begin(&w.reserve, 1);
        w.used_end = 1;
        ask(&w);
        apply(&w, 1, true);
        confirmed_at = w.reserve.next + below(&w, KEEP_STEP / 2);
        for (unsigned i = 0; i < 4 * KEEP_STEP; i++) {
            use(&w, 1);
            if (w.answered && w.reserve.next >= confirmed_at)
                answer(&w);
            if (keep_reserve_is_due(&w.reserve)) {
                ask(&w);
                apply(&w, 1, true);
                confirmed_at = w.reserve.next + below(&w, KEEP_STEP / 2);
                asks++;
            }
        }
        assert_int_equal(w.stalled, 0);
        assert_int_equal(w.used, 4 * KEEP_STEP);
        assert_true(asks >= 4 && asks <= 10);
        kill_and_restore(&w);
        ask(&w);
        apply(&w, 1, true);
        use(&w, 1);
        assert_int_equal(w.stalled, 1);
        answer(&w);
        use(&w, KEEP_STEP / 2);
        assert_int_equal(w.stalled, 1);
    }
}

/* While the store has been given nothing, nothing limits; then the first record does, lost or not.
 */
static void the_first_record_limits(void **state)
{
    struct keep_reserve r;
    uint64_t limit;

    (void)state;
    keep_reserve_begin(&r, 2);
    assert_true(keep_reserve_may_use(&r) && !keep_reserve_is_due(&r));
    r.next = 10 * KEEP_STEP;
    assert_true(keep_reserve_may_use(&r) && !keep_reserve_is_due(&r));
    limit = keep_reserve_ask(&r);
    assert_int_equal(limit, 11 * KEEP_STEP);
    keep_reserve_lose(&r, limit);
    assert_true(keep_reserve_may_use(&r) && !keep_reserve_is_due(&r));
    r.next = limit - KEEP_STEP / 2 - 1;
    assert_false(keep_reserve_is_due(&r));
    r.next++;
    assert_true(keep_reserve_is_due(&r) && keep_reserve_may_use(&r));
    r.next = limit;
    assert_false(keep_reserve_may_use(&r));
    limit = keep_reserve_ask(&r);
    assert_false(keep_reserve_may_use(&r) || keep_reserve_is_due(&r));
    keep_reserve_confirm(&r, limit);
    assert_true(keep_reserve_may_use(&r) && !keep_reserve_is_due(&r));
}

static void numbers_end(void **state)
{
    struct keep_reserve r;

    (void)state;
    keep_reserve_restore(&r, KEEP_END - 1);
    assert_true(keep_reserve_ask(&r) == KEEP_END);
    keep_reserve_confirm(&r, KEEP_END);
    assert_true(keep_reserve_may_use(&r));
    r.next++;
    assert_false(keep_reserve_may_use(&r) || keep_reserve_is_due(&r));
    keep_reserve_begin(&r, KEEP_END);
    assert_false(keep_reserve_may_use(&r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_sequence_is_used_twice),
        cmocka_unit_test(a_healthy_store_never_stalls),
        cmocka_unit_test(the_first_record_limits),
        cmocka_unit_test(numbers_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
