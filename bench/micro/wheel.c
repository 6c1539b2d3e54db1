/* The timing wheel with ten million live timers. */
#include "bench/micro/micro.h"

#include <errno.h>
#include <string.h>

#include "gateway/memory.h"
#include "gateway/timer/wheel.h"

#define LIVE        10000000
#define NOW_US      UINT64_C(1000000000)
#define SPREAD_US   UINT64_C(300000000) /* deadlines lie within: as idle timers of sessions do */
#define RETRANS_US  2000000             /* and those of retransmissions */
#define TICK_US     1000
#define OWNER_BYTES 128 /* a timer is embedded in what it times: a session, an exchange */

static struct {
    struct wheel wheel;
    uint8_t *owners; /* of `count` timers */
    size_t bytes;
    uint32_t count;
    uint64_t random, now_us, fired;
    struct timer *chosen[MICRO_BATCH]; /* of the next operations */
    uint64_t at_us[MICRO_BATCH];
    struct timer fresh[MICRO_BATCH];
} w;

static void on_timer(void *context, struct timer *timer, uint64_t now_us)
{
    (void)context;
    w.fired++;
    wheel_arm(&w.wheel, timer, now_us + SPREAD_US);
}

static struct timer *timer_at(uint32_t i)
{
    return (struct timer *)(void *)(w.owners + (size_t)i * OWNER_BYTES);
}

/* All timers live, over the whole spread. */
static int begin(uint32_t count)
{
    w.count = count;
    w.bytes = (size_t)count * OWNER_BYTES;
    w.owners = memory_reserve(w.bytes);
    if (!w.owners)
        return -ENOMEM;
    w.random = 1;
    w.fired = 0;
    w.now_us = NOW_US;
    wheel_init(&w.wheel, NOW_US);
    wheel_handle(&w.wheel, TIMER_SESSION_IDLE, on_timer, NULL);
    for (uint32_t i = 0; i < count; i++) {
        timer_init(timer_at(i), TIMER_SESSION_IDLE);
        wheel_arm(&w.wheel, timer_at(i), NOW_US + 1 + micro_random(&w.random) % SPREAD_US);
    }
    for (unsigned i = 0; i < MICRO_BATCH; i++)
        timer_init(&w.fresh[i], TIMER_SESSION_IDLE);
    return 0;
}

static bool end(void)
{
    bool right = w.wheel.armed == w.count;

    memory_release(w.owners, w.bytes);
    return right;
}

/* ---- a timer of an exchange, beside all others ---- */

static void ready_fresh(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        w.at_us[i] = w.now_us + RETRANS_US + micro_random(&w.random) % (RETRANS_US / 2);
}

static uint64_t run_fresh(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        wheel_arm(&w.wheel, &w.fresh[i % 64], w.at_us[i]);
        wheel_cancel(&w.wheel, &w.fresh[i % 64]);
    }
    return w.wheel.armed;
}

/* Many under way at a time: armed all, then cancelled in another order. */
static uint64_t run_many(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        wheel_arm(&w.wheel, &w.fresh[i], w.at_us[i]);
    for (unsigned i = 0; i < n; i++)
        wheel_cancel(&w.wheel, &w.fresh[(i ^ 21) % n]);
    return w.wheel.armed;
}

/* ---- any of the live ones ---- */

static void ready_any(unsigned n)
{
    ready_fresh(n);
    for (unsigned i = 0; i < n; i++) {
        w.chosen[i] = timer_at((uint32_t)(micro_random(&w.random) % w.count));
        w.at_us[i] = w.now_us + 1 + micro_random(&w.random) % SPREAD_US;
    }
}

static uint64_t run_any(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        wheel_cancel(&w.wheel, w.chosen[i]);
        wheel_arm(&w.wheel, w.chosen[i], w.at_us[i]);
    }
    return w.wheel.armed;
}

/* ---- time goes by ---- */

static uint64_t run_advance(unsigned n)
{
    uint64_t fired = w.fired;

    while (w.fired - fired < n) {
        w.now_us += TICK_US;
        (void)wheel_advance(&w.wheel, w.now_us, UINT32_MAX);
    }
    return w.fired;
}

static int begin_empty(uint32_t count)
{
    (void)count;
    return begin(1);
}

static uint64_t run_idle(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        w.now_us += 7; /* turns of a busy worker */
        (void)wheel_advance(&w.wheel, w.now_us, UINT32_MAX);
    }
    return w.fired;
}

const struct micro_case micro_wheel[] = {
    {"wheel: arm + cancel, 10 M others live", 40, LIVE, begin, run_fresh, ready_fresh, end},
    {"wheel: the same, 1,024 under way", 40, LIVE, begin, run_many, ready_fresh, end},
    {"wheel: cancel + arm any of 10 M", 40, LIVE, begin, run_any, ready_any, end},
    {"wheel: a timer that fires, of 10 M", 0, LIVE, begin, run_advance, NULL, end},
    {"wheel: advance by 7 us, nothing due", 0, 1, begin_empty, run_idle, NULL, end},
    {0},
};
