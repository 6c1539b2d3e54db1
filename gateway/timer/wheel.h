/* A hierarchical timing wheel: ticks of 1 ms, four levels of 256 slots, arm, re-arm and cancel in O(1)
 * without allocation.
 *
 * A timer is embedded in what it times and is owned by it; the wheel only links it. A timer that is
 * armed must not move or be freed. Each kind of timer has one handler, registered at start, so that
 * a timer is 24 bytes and carries no function pointer. A handler may arm or cancel any timer, its own
 * included.
 *
 * A deadline is never early: a timer due at `at_us` fires in the first advance whose time, rounded
 * down to a tick, is at or past the deadline rounded up to one. Deadlines beyond the range
 * (2^32 ms = 49 days) are kept in the last slot of the top level and placed anew when reached, so any 64-bit
 * time works. Timers of one tick fire in no particular order; ticks fire in order.
 *
 * One worker owns a wheel; no locking. */
#ifndef COAPGW_GATEWAY_TIMER_WHEEL_H
#define COAPGW_GATEWAY_TIMER_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

enum timer_kind {
    TIMER_SESSION_IDLE,
    TIMER_RETRANSMIT,
    TIMER_SEPARATE, /* an Empty ACK is due: the answer takes longer */
    TIMER_LEISURE,  /* an answer to a multicast request is due */
    TIMER_FORWARD,  /* an origin has not answered in time */
    TIMER_KIND_COUNT
};

struct timer {
    struct timer *next;
    struct timer **link;  /* the pointer that points here; NULL when not armed */
    uint64_t kind : 8;    /* enum timer_kind */
    uint64_t tick : 56;   /* milliseconds since the origin of time, rounded up */
};
_Static_assert(sizeof(struct timer) == 24, "embedded in every session and exchange");

#define WHEEL_LEVELS     4
#define WHEEL_SLOT_BITS  8
#define WHEEL_SLOTS      (1u << WHEEL_SLOT_BITS)
#define WHEEL_NEVER      UINT64_MAX

typedef void wheel_handler(void *context, struct timer *timer, uint64_t now_us);

struct wheel {
    uint64_t tick;  /* all ticks up to and including this one have fired */
    uint64_t armed; /* number of armed timers */
    uint64_t occupied[WHEEL_LEVELS][WHEEL_SLOTS / 64];
    struct timer *slots[WHEEL_LEVELS][WHEEL_SLOTS];
    struct {
        wheel_handler *handler;
        void *context;
    } kinds[TIMER_KIND_COUNT];
};

void wheel_init(struct wheel *wheel, uint64_t now_us);

/* The handler of a kind; must be set before a timer of the kind is armed. */
void wheel_handle(struct wheel *wheel, enum timer_kind kind, wheel_handler *handler, void *context);

static inline void timer_init(struct timer *timer, enum timer_kind kind)
{
    timer->next = 0;
    timer->link = 0;
    timer->kind = kind;
    timer->tick = 0;
}

static inline bool timer_armed(const struct timer *timer)
{
    return timer->link != 0;
}

/* Arms, or moves when armed already. A deadline in the past fires at the next advance that reaches a
 * new tick. */
void wheel_arm(struct wheel *wheel, struct timer *timer, uint64_t at_us);

/* Does nothing when not armed. */
void wheel_cancel(struct wheel *wheel, struct timer *timer);

/* Fires what is due at `now_us`, at most about `budget` timers (the slot under way is kept for the
 * next call). Returns how many fired. Time that goes back is treated as standing still. */
unsigned wheel_advance(struct wheel *wheel, uint64_t now_us, unsigned budget);

/* A time in microseconds at or before the earliest deadline, WHEEL_NEVER when nothing is armed: how
 * long the worker may sleep. It may be earlier than the deadline (the border at which a slot of a
 * higher level is spread), never later. */
uint64_t wheel_next_us(const struct wheel *wheel);

#endif
