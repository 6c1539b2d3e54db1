/* Millions of random operations on a wheel against a model that is too simple to be wrong. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/random.h"
#include "gateway/timer/wheel.h"
#include "tests/unit/wheel_check.h"

static struct random random_of(uint8_t first)
{
    uint8_t seed[RANDOM_SEED_BYTES] = {first};
    struct random r;

    random_seed(&r, seed);
    return r;
}

/* Of any size between 0 and 2^bits, small ones as likely as large ones. */
static uint64_t random_size(struct random *r, unsigned bits)
{
    return random_u64(r) >> (63 - random_below(r, bits));
}

/* The reference: which timers are armed, sorted by the tick at which each must fire. */
enum { MODEL_TIMERS = 200, MODEL_STEPS = 500000 };

struct model {
    struct wheel wheel;
    struct timer timers[MODEL_TIMERS];
    struct random random;
    uint64_t ticks[MODEL_TIMERS]; /* sorted */
    unsigned ids[MODEL_TIMERS];   /* whose they are */
    unsigned armed;
    uint64_t now_us; /* the latest time that the wheel was told */
    uint64_t fired;
};

static void model_remove(struct model *model, unsigned id)
{
    unsigned at = 0;

    while (at < model->armed && model->ids[at] != id)
        at++;
    if (at == model->armed)
        return;
    model->armed--;
    for (; at < model->armed; at++) {
        model->ids[at] = model->ids[at + 1];
        model->ticks[at] = model->ticks[at + 1];
    }
}

static void model_arm(struct model *model, unsigned id, uint64_t at_us)
{
    uint64_t soonest = model->now_us / 1000 + 1;
    uint64_t tick = (at_us + 999) / 1000;
    unsigned at;

    wheel_arm(&model->wheel, &model->timers[id], at_us);
    model_remove(model, id);
    tick = tick < soonest ? soonest : tick;
    for (at = model->armed++; at > 0 && model->ticks[at - 1] > tick; at--) {
        model->ids[at] = model->ids[at - 1];
        model->ticks[at] = model->ticks[at - 1];
    }
    model->ids[at] = id;
    model->ticks[at] = tick;
}

static void model_cancel(struct model *model, unsigned id)
{
    wheel_cancel(&model->wheel, &model->timers[id]);
    model_remove(model, id);
}

/* Arms or cancels any timer; a deadline is up to 200 days ahead, or a little in the past. */
static void model_change(struct model *model)
{
    unsigned id = random_below(&model->random, MODEL_TIMERS);

    if (random_below(&model->random, 4) == 0) {
        model_cancel(model, id);
        return;
    }
    uint64_t at_us = model->now_us + random_size(&model->random, 44);
    if (random_below(&model->random, 8) == 0)
        at_us -= model->now_us < 5000 ? model->now_us : 5000;
    model_arm(model, id, at_us);
}

/* Fires in the order of ticks and misses none: the tick must be the first that the model has. */
static void model_fired(void *context, struct timer *timer, uint64_t now_us)
{
    struct model *model = context;
    unsigned id = (unsigned)(timer - model->timers);
    unsigned at = 0;

    assert_int_equal(now_us, model->now_us);
    assert_false(timer_armed(timer));
    assert_true(model->armed > 0);
    while (at < model->armed && model->ids[at] != id)
        at++;
    assert_true(at < model->armed);
    assert_int_equal(model->ticks[at], model->ticks[0]);
    assert_true(model->ticks[at] <= now_us / 1000);
    model_remove(model, id);
    model->fired++;
    for (uint32_t changes = random_below(&model->random, 3); changes > 0; changes--)
        model_change(model);
}

static void model_advance(struct model *model)
{
    struct random *r = &model->random;
    uint64_t now_us = model->now_us;

    if (random_below(r, 16) == 0)
        now_us -= random_below(r, 2000) % (now_us + 1);
    else if (random_below(r, 4) == 0 && model->armed > 0)
        now_us = model->ticks[0] * 1000 - random_below(r, 2); /* on the spot, or 1 us before */
    else
        now_us += random_size(r, random_below(r, 64) == 0 ? 43 : 24);
    if (now_us > model->now_us)
        model->now_us = now_us;
    unsigned budget = random_below(r, 3) == 0 ? random_below(r, 8) : UINT_MAX;
    uint64_t fired = model->fired;
    unsigned returned = wheel_advance(&model->wheel, now_us, budget);
    assert_int_equal(returned, model->fired - fired);
    assert_true(returned <= budget);
    if (budget == UINT_MAX)
        assert_true(model->armed == 0 || model->ticks[0] > model->now_us / 1000);
}

static void model_check(const struct model *model)
{
    uint64_t next_us = wheel_next_us(&model->wheel);

    assert_int_equal(model->wheel.armed, model->armed);
    if (model->armed == 0)
        assert_int_equal(next_us, WHEEL_NEVER);
    else
        assert_true(next_us <= model->ticks[0] * 1000);
}

/* As many are armed as the model says (model_check), and these are the ones. */
static void model_check_ids(const struct model *model)
{
    for (unsigned i = 0; i < model->armed; i++)
        assert_true(timer_armed(&model->timers[model->ids[i]]));
}

static void model_run(uint8_t seed)
{
    static struct model model;

    model = (struct model){.random = random_of(seed)};
    model.now_us = random_size(&model.random, 50);
    wheel_init(&model.wheel, model.now_us);
    wheel_handle(&model.wheel, TIMER_RETRANSMIT, model_fired, &model);
    for (unsigned i = 0; i < MODEL_TIMERS; i++)
        timer_init(&model.timers[i], TIMER_RETRANSMIT);
    for (unsigned step = 0; step < MODEL_STEPS; step++) {
        if (random_below(&model.random, 3) == 0)
            model_advance(&model);
        else
            model_change(&model);
        model_check(&model);
        if (step % 1024 == 0) {
            model_check_ids(&model);
            check_structure(&model.wheel);
        }
    }
    assert_true(model.fired > MODEL_STEPS / 50);
}

static void random_use_against_a_model(void **state)
{
    (void)state;
    for (uint8_t seed = 1; seed <= 8; seed++)
        model_run(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_use_against_a_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
