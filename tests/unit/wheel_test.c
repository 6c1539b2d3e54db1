#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <limits.h>
#include <cmocka.h>

#include "gateway/timer/wheel.h"
#include "tests/unit/wheel_check.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MS           UINT64_C(1000)
#define YEAR_US      (UINT64_C(31557600) * 1000000)
#define NO_LIMIT     UINT_MAX
#define TICKS_24     (UINT64_C(1) << 24)
#define TICKS_32     (UINT64_C(1) << 32)

/* What a test knows about its timers, and what the handler does to them. */
struct probe {
    struct wheel wheel;
    unsigned fired[TIMER_KIND_COUNT];
    uint64_t fired_us; /* the latest time that a handler saw */
    void (*action)(struct probe *probe, struct timer *timer, uint64_t now_us);
    struct timer *target;
    unsigned left; /* how often the action is still to be taken */
};

static void probe_fired(void *context, struct timer *timer, uint64_t now_us)
{
    struct probe *probe = context;

    assert_false(timer_armed(timer));
    assert_true(now_us >= probe->fired_us);
    probe->fired[timer->kind]++;
    probe->fired_us = now_us;
    if (probe->action && probe->left > 0) {
        probe->left--;
        probe->action(probe, timer, now_us);
    }
}

static void probe_init(struct probe *probe, uint64_t now_us)
{
    *probe = (struct probe){.action = NULL};
    wheel_init(&probe->wheel, now_us);
    for (unsigned kind = 0; kind < TIMER_KIND_COUNT; kind++)
        wheel_handle(&probe->wheel, kind, probe_fired, probe);
}

static void fires_at_its_tick_and_not_before(void **state)
{
    static const struct {
        uint64_t at_us, fires_us;
    } cases[] = {{1, 1000},    {999, 1000},      {1000, 1000},     {1001, 2000},    {1999, 2000},
                 {2000, 2000}, {255999, 256000}, {256000, 256000}, {256001, 257000}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct probe probe;
        struct timer timer;
        probe_init(&probe, 0);
        timer_init(&timer, TIMER_LEISURE);
        assert_false(timer_armed(&timer));
        wheel_arm(&probe.wheel, &timer, cases[i].at_us);
        assert_true(timer_armed(&timer));
        assert_int_equal(wheel_advance(&probe.wheel, cases[i].fires_us - 1, NO_LIMIT), 0);
        assert_true(timer_armed(&timer));
        assert_int_equal(wheel_advance(&probe.wheel, cases[i].fires_us, NO_LIMIT), 1);
        assert_int_equal(probe.fired[TIMER_LEISURE], 1);
        assert_int_equal(wheel_advance(&probe.wheel, cases[i].fires_us + YEAR_US, NO_LIMIT), 0);
    }
}

/* Origins and distances on both sides of every border between levels; time goes there in one step,
 * or by the steps that wheel_next_us() names. */
static void borders_between_levels(void **state)
{
    static const uint64_t origins[] = {0,
                                       1,
                                       254,
                                       255,
                                       256,
                                       257,
                                       65534,
                                       65535,
                                       65536,
                                       TICKS_24 - 2,
                                       TICKS_24 - 1,
                                       TICKS_24,
                                       TICKS_32 - 257,
                                       TICKS_32 - 2,
                                       TICKS_32 - 1,
                                       TICKS_32,
                                       3 * TICKS_32 + TICKS_24 + 65535};
    static const uint64_t distances[] = {1,
                                         2,
                                         254,
                                         255,
                                         256,
                                         257,
                                         258,
                                         511,
                                         512,
                                         65279,
                                         65535,
                                         65536,
                                         65537,
                                         65792,
                                         TICKS_24 - 1,
                                         TICKS_24,
                                         TICKS_24 + 1,
                                         TICKS_32 - TICKS_24,
                                         TICKS_32 - 1,
                                         TICKS_32,
                                         TICKS_32 + 1,
                                         TICKS_32 + 2,
                                         2 * TICKS_32,
                                         5 * TICKS_32 + 77};

    (void)state;
    for (size_t i = 0; i < COUNT(origins) * COUNT(distances); i++) {
        uint64_t origin_us = origins[i % COUNT(origins)] * MS;
        uint64_t at_us = origin_us + distances[i / COUNT(origins)] * MS;
        struct probe probe;
        struct timer timer;

        probe_init(&probe, origin_us);
        timer_init(&timer, TIMER_FETCH);
        wheel_arm(&probe.wheel, &timer, at_us);
        check_structure(&probe.wheel);
        assert_int_equal(wheel_advance(&probe.wheel, at_us - 1, NO_LIMIT), 0);
        assert_int_equal(wheel_next_us(&probe.wheel), at_us);
        assert_int_equal(wheel_advance(&probe.wheel, at_us, NO_LIMIT), 1);
        assert_int_equal(wheel_next_us(&probe.wheel), WHEEL_NEVER);

        probe_init(&probe, origin_us);
        wheel_arm(&probe.wheel, &timer, at_us);
        unsigned steps = 0;
        uint64_t next_us;
        while ((next_us = wheel_next_us(&probe.wheel)) < at_us) {
            assert_int_equal(wheel_advance(&probe.wheel, next_us, NO_LIMIT), 0);
            check_structure(&probe.wheel);
            steps++;
        }
        assert_int_equal(next_us, at_us);
        assert_int_equal(wheel_advance(&probe.wheel, next_us, NO_LIMIT), 1);
        assert_true(steps <= WHEEL_LEVELS + 5); /* 5: rounds of the top level */
    }
}

static void arming_in_the_past(void **state)
{
    struct probe probe;
    struct timer timer;

    (void)state;
    probe_init(&probe, 5500);
    timer_init(&timer, TIMER_SEPARATE);
    for (uint64_t at_us = 0; at_us <= 5000; at_us += 2500) {
        uint64_t tick = probe.wheel.now_tick;
        wheel_arm(&probe.wheel, &timer, at_us);
        assert_int_equal(wheel_next_us(&probe.wheel), (tick + 1) * MS);
        assert_int_equal(wheel_advance(&probe.wheel, (tick + 1) * MS - 1, NO_LIMIT), 0);
        assert_int_equal(wheel_advance(&probe.wheel, (tick + 1) * MS, NO_LIMIT), 1);
    }
}

static void arm_in_the_past(struct probe *probe, struct timer *timer, uint64_t now_us)
{
    wheel_arm(&probe->wheel, timer, now_us / 2);
}

/* A handler that arms its own timer in the past gets one turn for each advance, not for each tick
 * that the advance covers. */
static void rearming_in_the_past_does_not_loop(void **state)
{
    struct probe probe;
    struct timer timer;

    (void)state;
    probe_init(&probe, 0);
    timer_init(&timer, TIMER_RETRANSMIT);
    probe.action = arm_in_the_past;
    probe.left = NO_LIMIT;
    wheel_arm(&probe.wheel, &timer, 10 * MS);
    for (uint64_t now_us = 1000 * MS; now_us < 2000 * MS; now_us += 100 * MS) {
        assert_int_equal(wheel_advance(&probe.wheel, now_us, NO_LIMIT), 1);
        assert_true(timer_armed(&timer));
        assert_int_equal(wheel_advance(&probe.wheel, now_us, NO_LIMIT), 0);
        assert_int_equal(wheel_advance(&probe.wheel, now_us + MS - 1, NO_LIMIT), 0);
    }
}

static void arm_after_7_ms(struct probe *probe, struct timer *timer, uint64_t now_us)
{
    wheel_arm(&probe->wheel, timer, now_us + 7 * MS);
}

static void rearming_in_the_handler(void **state)
{
    struct probe probe;
    struct timer timer;

    (void)state;
    probe_init(&probe, 0);
    timer_init(&timer, TIMER_RETRANSMIT);
    probe.action = arm_after_7_ms;
    probe.left = 9999;
    wheel_arm(&probe.wheel, &timer, 7 * MS);
    for (uint64_t now_us = 0; now_us < 80000 * MS; now_us += 500) {
        bool due = now_us > 0 && now_us <= 70000 * MS && now_us % (7 * MS) == 0;
        assert_int_equal(wheel_advance(&probe.wheel, now_us, NO_LIMIT), due);
    }
    assert_int_equal(probe.fired[TIMER_RETRANSMIT], 10000);
}

static void cancel_target(struct probe *probe, struct timer *timer, uint64_t now_us)
{
    (void)now_us;
    wheel_cancel(&probe->wheel, probe->target);
    if (timer == probe->target)
        probe->target = NULL; /* it has fired itself */
}

/* Whichever of a slot fires first cancels any other of it: before it, after it, next to it or not.
 */
static void cancelling_a_neighbour_in_the_handler(void **state)
{
    enum { TIMERS = 7 };
    static const uint64_t ats_ms[] = {100, 256, 300,
                                      512}; /* on level 0; on 1, at its border or not */
    unsigned own = 0;

    (void)state;
    for (unsigned i = 0; i < COUNT(ats_ms) * TIMERS; i++) {
        uint64_t at_us = ats_ms[i / TIMERS] * MS;
        struct timer timers[TIMERS];
        struct probe probe;
        probe_init(&probe, 0);
        probe.action = cancel_target;
        probe.left = 1;
        probe.target = &timers[i % TIMERS];
        for (unsigned j = 0; j < TIMERS; j++) {
            timer_init(&timers[j], TIMER_LEISURE);
            wheel_arm(&probe.wheel, &timers[j], at_us);
        }
        unsigned fired = 0;
        while (fired == 0)
            fired = wheel_advance(&probe.wheel, at_us, 1);
        check_structure(&probe.wheel);
        bool itself = probe.target == NULL;
        own += itself;
        assert_int_equal(probe.wheel.armed, itself ? TIMERS - 1 : TIMERS - 2);
        fired += wheel_advance(&probe.wheel, at_us, NO_LIMIT);
        assert_int_equal(fired, itself ? TIMERS : TIMERS - 1);
        for (unsigned j = 0; j < TIMERS; j++)
            assert_false(timer_armed(&timers[j]));
        check_structure(&probe.wheel);
    }
    assert_int_equal(own, COUNT(ats_ms)); /* one of them fires first each time */
}

static void arm_target_at_once(struct probe *probe, struct timer *timer, uint64_t now_us)
{
    (void)timer;
    wheel_arm(&probe->wheel, probe->target, now_us);
}

/* A timer of the slot under way that is armed by another of it goes to the next tick. */
static void arming_a_neighbour_in_the_handler(void **state)
{
    struct timer timers[3];
    struct probe probe;

    (void)state;
    probe_init(&probe, 0);
    probe.action = arm_target_at_once;
    probe.left = 1;
    probe.target = &timers[0]; /* fires last: timers are put at the head of a slot */
    for (unsigned i = 0; i < COUNT(timers); i++) {
        timer_init(&timers[i], TIMER_LEISURE);
        wheel_arm(&probe.wheel, &timers[i], 20 * MS);
    }
    assert_int_equal(wheel_advance(&probe.wheel, 20 * MS, NO_LIMIT), 2);
    assert_true(timer_armed(&timers[0]));
    assert_int_equal(wheel_advance(&probe.wheel, 21 * MS, NO_LIMIT), 1);
}

static void cancel_and_arm_again(void **state)
{
    struct probe probe;
    struct timer timer;

    (void)state;
    probe_init(&probe, 0);
    timer_init(&timer, TIMER_SESSION_IDLE);
    wheel_cancel(&probe.wheel, &timer); /* not armed: nothing happens */
    assert_int_equal(wheel_next_us(&probe.wheel), WHEEL_NEVER);
    wheel_arm(&probe.wheel, &timer, 50 * MS);
    wheel_cancel(&probe.wheel, &timer);
    wheel_cancel(&probe.wheel, &timer);
    assert_int_equal(probe.wheel.armed, 0);
    assert_int_equal(wheel_next_us(&probe.wheel), WHEEL_NEVER);
    check_structure(&probe.wheel);
    assert_int_equal(wheel_advance(&probe.wheel, 100 * MS, NO_LIMIT), 0);
    wheel_arm(&probe.wheel, &timer, 150 * MS);
    assert_int_equal(wheel_advance(&probe.wheel, 150 * MS, NO_LIMIT), 1);
}

static void moving_an_armed_timer(void **state)
{
    static const uint64_t moves_ms[][3] = {
        {10, 20, 15},          {10, 20, 300},           {300, 10, 70000},
        {70000, 80000, 70001}, {10, TICKS_32 + 9, 266}, {TICKS_32 * 2, 5, TICKS_32 * 3},
        {100, 100, 100},       {256, 512, 511},         {65536, 65537, 256},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(moves_ms); i++) {
        struct probe probe;
        struct timer timer;
        probe_init(&probe, 0);
        timer_init(&timer, TIMER_SESSION_IDLE);
        for (unsigned move = 0; move < 3; move++) {
            wheel_arm(&probe.wheel, &timer, moves_ms[i][move] * MS);
            assert_int_equal(probe.wheel.armed, 1);
            assert_true(wheel_next_us(&probe.wheel) <= moves_ms[i][move] * MS);
        }
        assert_int_equal(wheel_advance(&probe.wheel, moves_ms[i][2] * MS - 1, NO_LIMIT), 0);
        assert_int_equal(wheel_next_us(&probe.wheel), moves_ms[i][2] * MS);
        assert_int_equal(wheel_advance(&probe.wheel, moves_ms[i][2] * MS, NO_LIMIT), 1);
    }
}

static void budget_is_kept_within_a_tick(void **state)
{
    enum { TIMERS = 1000, BUDGET = 300 };
    static struct timer timers[TIMERS];
    struct probe probe;
    struct timer late;

    (void)state;
    probe_init(&probe, 0);
    for (unsigned i = 0; i < TIMERS; i++) {
        timer_init(&timers[i], TIMER_FETCH);
        wheel_arm(&probe.wheel, &timers[i], 100 * MS);
    }
    timer_init(&late, TIMER_LEISURE);
    wheel_arm(&probe.wheel, &late, 101 * MS);

    assert_int_equal(wheel_advance(&probe.wheel, 200 * MS, 0), 0);
    assert_int_equal(wheel_advance(&probe.wheel, 200 * MS, BUDGET), BUDGET);
    assert_true(wheel_next_us(&probe.wheel) <= 200 * MS);
    assert_true(probe.wheel.tick < 100);
    check_structure(&probe.wheel);

    /* Between two calls: one of the rest is cancelled, one that fired is armed in the past. */
    wheel_cancel(&probe.wheel, &timers[0]);
    wheel_arm(&probe.wheel, &timers[TIMERS - 1], 100 * MS);
    assert_int_equal(wheel_advance(&probe.wheel, 200 * MS, BUDGET), BUDGET);
    assert_int_equal(wheel_advance(&probe.wheel, 200 * MS, BUDGET), BUDGET);
    assert_int_equal(probe.fired[TIMER_LEISURE], 0);
    assert_int_equal(wheel_advance(&probe.wheel, 200 * MS, BUDGET), TIMERS - 3 * BUDGET - 1 + 1);
    assert_int_equal(probe.fired[TIMER_LEISURE], 1);
    assert_int_equal(probe.wheel.tick, 200);
    assert_int_equal(wheel_next_us(&probe.wheel), 201 * MS);
    assert_int_equal(wheel_advance(&probe.wheel, 201 * MS, BUDGET), 1);
    assert_int_equal(probe.wheel.armed, 0);
}

/* Placing anew is work too: a slot of a higher level is spread over as many calls as it takes. */
static void budget_bounds_what_is_placed_anew(void **state)
{
    enum { TIMERS = 1000, BUDGET = 64 };
    static struct timer timers[TIMERS];
    struct probe probe;

    (void)state;
    probe_init(&probe, 0);
    for (unsigned i = 0; i < TIMERS; i++) {
        timer_init(&timers[i], TIMER_FETCH);
        wheel_arm(&probe.wheel, &timers[i], (3 * TICKS_24 + 1 + i) * MS);
    }
    uint64_t now_us = 3 * TICKS_24 * MS;
    unsigned calls = 0;
    while (wheel_next_us(&probe.wheel) <= now_us) {
        assert_int_equal(wheel_advance(&probe.wheel, now_us, BUDGET), 0);
        check_structure(&probe.wheel);
        calls++;
    }
    assert_int_equal(calls, (TIMERS + BUDGET - 1) / BUDGET);
    for (unsigned i = 1; i <= TIMERS; i++) {
        unsigned fired = 0;
        now_us += MS;
        do
            fired += wheel_advance(&probe.wheel, now_us, BUDGET);
        while (wheel_next_us(&probe.wheel) <= now_us);
        assert_int_equal(fired, 1);
    }
    assert_int_equal(probe.wheel.armed, 0);
}

static void time_that_goes_back_stands_still(void **state)
{
    struct timer timers[4];
    struct probe probe;

    (void)state;
    probe_init(&probe, 1000 * MS);
    for (unsigned i = 0; i < COUNT(timers); i++)
        timer_init(&timers[i], TIMER_SEPARATE);
    wheel_arm(&probe.wheel, &timers[0], 2000 * MS);
    assert_int_equal(wheel_advance(&probe.wheel, 1500 * MS, NO_LIMIT), 0);
    assert_int_equal(wheel_advance(&probe.wheel, 10 * MS, NO_LIMIT), 0);
    assert_int_equal(wheel_advance(&probe.wheel, 0, NO_LIMIT), 0);
    wheel_arm(&probe.wheel, &timers[1], 20 * MS); /* the past, by the time that was seen */
    assert_int_equal(wheel_advance(&probe.wheel, 1400 * MS, NO_LIMIT), 0);
    assert_int_equal(wheel_advance(&probe.wheel, 1501 * MS, NO_LIMIT), 1);
    wheel_arm(&probe.wheel, &timers[2], 1600 * MS);
    wheel_arm(&probe.wheel, &timers[3], 1600 * MS);
    assert_int_equal(wheel_advance(&probe.wheel, 1600 * MS, 1), 1);
    /* What is overdue goes on, at the time that was seen. */
    assert_int_equal(wheel_advance(&probe.wheel, 3 * MS, 1), 1);
    assert_int_equal(probe.fired_us, 1600 * MS);
    assert_int_equal(wheel_advance(&probe.wheel, 2000 * MS, NO_LIMIT), 1);
}

/* At a tick a step this would not end: 500 years are 1.6e13 ticks. */
static void long_gaps_are_crossed(void **state)
{
    struct timer timers[4];
    struct probe probe;
    uint64_t far_us[] = {YEAR_US / 12, 10 * YEAR_US, 499 * YEAR_US + 123 * MS, WHEEL_NEVER};

    (void)state;
    probe_init(&probe, 0);
    assert_int_equal(wheel_advance(&probe.wheel, 500 * YEAR_US, NO_LIMIT), 0);

    probe_init(&probe, 777 * MS);
    for (unsigned i = 0; i < COUNT(timers); i++) {
        timer_init(&timers[i], TIMER_SESSION_IDLE);
        wheel_arm(&probe.wheel, &timers[i], far_us[i]);
    }
    assert_int_equal(wheel_advance(&probe.wheel, 9 * YEAR_US, NO_LIMIT), 1);
    assert_int_equal(wheel_advance(&probe.wheel, far_us[2] - 1, NO_LIMIT), 1);
    assert_true(timer_armed(&timers[2]));
    assert_int_equal(wheel_advance(&probe.wheel, 500 * YEAR_US, NO_LIMIT), 1);
    assert_true(timer_armed(&timers[3]));
    assert_int_equal(probe.wheel.armed, 1);
}

/* Near the largest time that 64 bits hold, nothing wraps round. */
static void end_of_time(void **state)
{
    const uint64_t last_tick = UINT64_MAX / MS;
    struct timer timers[3];
    struct probe probe;

    (void)state;
    probe_init(&probe, UINT64_MAX - 3000 * MS);
    for (unsigned i = 0; i < COUNT(timers); i++)
        timer_init(&timers[i], TIMER_SESSION_IDLE);
    wheel_arm(&probe.wheel, &timers[0], last_tick * MS);
    wheel_arm(&probe.wheel, &timers[1], last_tick * MS + 1);
    wheel_arm(&probe.wheel, &timers[2], WHEEL_NEVER);
    assert_int_equal(wheel_advance(&probe.wheel, last_tick * MS - 1, NO_LIMIT), 0);
    assert_int_equal(wheel_next_us(&probe.wheel), last_tick * MS);
    assert_int_equal(wheel_advance(&probe.wheel, UINT64_MAX, NO_LIMIT), 1);
    assert_false(timer_armed(&timers[0]));
    assert_int_equal(wheel_next_us(&probe.wheel), WHEEL_NEVER);
    assert_int_equal(wheel_advance(&probe.wheel, UINT64_MAX, NO_LIMIT), 0);
    check_structure(&probe.wheel);
}

static void count_kind(void *context, struct timer *timer, uint64_t now_us)
{
    unsigned *count = context;

    (void)timer;
    (void)now_us;
    (*count)++;
}

static void each_kind_has_its_handler(void **state)
{
    struct timer timers[TIMER_KIND_COUNT];
    unsigned counts[TIMER_KIND_COUNT] = {0};
    struct wheel wheel;

    (void)state;
    wheel_init(&wheel, 0);
    for (unsigned kind = 0; kind < TIMER_KIND_COUNT; kind++) {
        wheel_handle(&wheel, kind, count_kind, &counts[kind]);
        timer_init(&timers[kind], kind);
    }
    for (unsigned kind = 0; kind < TIMER_KIND_COUNT; kind++) {
        wheel_arm(&wheel, &timers[kind], (kind + 1) * MS);
        assert_int_equal(wheel_advance(&wheel, (kind + 1) * MS, NO_LIMIT), 1);
        for (unsigned other = 0; other < TIMER_KIND_COUNT; other++)
            assert_int_equal(counts[other], other <= kind);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fires_at_its_tick_and_not_before),
        cmocka_unit_test(borders_between_levels),
        cmocka_unit_test(arming_in_the_past),
        cmocka_unit_test(rearming_in_the_past_does_not_loop),
        cmocka_unit_test(rearming_in_the_handler),
        cmocka_unit_test(cancelling_a_neighbour_in_the_handler),
        cmocka_unit_test(arming_a_neighbour_in_the_handler),
        cmocka_unit_test(cancel_and_arm_again),
        cmocka_unit_test(moving_an_armed_timer),
        cmocka_unit_test(budget_is_kept_within_a_tick),
        cmocka_unit_test(budget_bounds_what_is_placed_anew),
        cmocka_unit_test(time_that_goes_back_stands_still),
        cmocka_unit_test(long_gaps_are_crossed),
        cmocka_unit_test(end_of_time),
        cmocka_unit_test(each_kind_has_its_handler),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
