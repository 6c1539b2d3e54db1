/* Timers: lists by the time when they are due, in ticks of 4 ms, round and round. */
#include <time.h>

#include "tests/fleet/fleet.h"

#define TICK_SHIFT 12 /* 4.096 ms */
#define SLOTS      16384

static struct timer *slots[SLOTS];
static struct timer *due_now; /* of the tick that is being worked on */
static uint64_t tick;

uint64_t clock_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec / 1000;
}

void clock_start(void)
{
    fleet.now = clock_now();
    tick = fleet.now >> TICK_SHIFT;
}

static void push(struct timer **list, struct timer *t)
{
    t->next = *list;
    if (t->next)
        t->next->back = &t->next;
    t->back = list;
    *list = t;
}

void timer_cancel(struct timer *t)
{
    if (!t->back)
        return;
    *t->back = t->next;
    if (t->next)
        t->next->back = t->back;
    t->back = NULL;
}

void timer_arm(struct timer *t, uint64_t due)
{
    uint64_t at = (due >> TICK_SHIFT) + 1; /* never early */

    timer_cancel(t);
    t->due = due;
    push(&slots[(at > tick ? at : tick + 1) % SLOTS], t);
}

/* Takes the timers of the next tick that has passed; those of a later round go back. */
static bool next_tick(void)
{
    struct timer *t, *next;

    if (tick >= fleet.now >> TICK_SHIFT)
        return false;
    tick++;
    t = slots[tick % SLOTS];
    slots[tick % SLOTS] = NULL;
    for (; t; t = next) {
        next = t->next;
        push(t->due >> TICK_SHIFT < tick ? &due_now : &slots[tick % SLOTS], t);
    }
    return true;
}

struct timer *clock_expired(void)
{
    struct timer *t;

    while (!due_now)
        if (!next_tick())
            return NULL;
    t = due_now;
    timer_cancel(t);
    return t;
}
