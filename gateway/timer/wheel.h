/* A hierarchical timing wheel: ticks of 1 ms, four levels of 256 slots, arm, re-arm and cancel in
 * O(1) without allocation.
 *
 * A timer is embedded in what it times and is owned by it; the wheel only links it. A timer that is
 * armed must not move or be freed. Each kind of timer has one handler, registered at start, so that
 * a timer is 24 bytes and carries no function pointer. A handler may arm or cancel any timer, its
 * own included; its own is not armed any more when it is called. It must not call wheel_advance().
 *
 * A deadline is never early: a timer due at `at_us` fires in the first advance whose time, rounded
 * down to a tick, is at or past the deadline rounded up to one. A deadline that is not after the
 * time of the latest advance fires one tick after that time, so that no timer fires twice in one
 * advance. Timers of one tick fire in no particular order; ticks fire in order.
 *
 *   level   a slot spans   holds what is due within
 *     0            1 ms                256 ms
 *     1          256 ms               65.5 s
 *     2         65.5 s                 4.7 h
 *     3          4.7 h                49.7 days
 *
 * When time reaches the start of a slot of level 1 to 3, its timers are placed anew, lower down.
 * A later deadline waits in the slot that is 49.7 days away and is placed anew there, so any 64-bit
 * time works. A timer that is armed already and moves to a later deadline stays in its slot until
 * that is reached: postponing writes to the timer and to nothing else.
 *
 * One worker owns a wheel; no locking. */
#ifndef COAPGW_GATEWAY_TIMER_WHEEL_H
#define COAPGW_GATEWAY_TIMER_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum timer_kind {
    TIMER_SESSION_IDLE,
    TIMER_RETRANSMIT,
    TIMER_SEPARATE,    /* an Empty ACK is due: the answer takes longer */
    TIMER_LEISURE,     /* an answer to a multicast request is due */
    TIMER_FETCH,       /* an origin has not answered in time */
    TIMER_SERVER,      /* a server is to be pinged */
    TIMER_PROBE,       /* a server that does not answer may be asked again */
    TIMER_TRANSFER,    /* a client does not go on with a body in blocks */
    TIMER_OBSERVATION, /* an origin has not notified for long */
    TIMER_RELATION,    /* a notification is to be confirmed */
    TIMER_ASYNC,       /* a module's request is to be answered */
    TIMER_MODULE,      /* one of a module's own */
    TIMER_RESOURCE,    /* the outcome of a write to a held resource has not come */
    TIMER_ASSOCIATION, /* an association may have been idle for too long */
    TIMER_HANDSHAKE,   /* a flight of a handshake is to be repeated */
    TIMER_KEEP,        /* records of associations are to be given to the store again */
    TIMER_KIND_COUNT
};

struct timer {
    struct timer *next;
    struct timer **link; /* the pointer that points here; NULL when not armed */
    uint64_t kind : 8;   /* enum timer_kind */
    uint64_t tick : 56;  /* milliseconds since the origin of time, rounded up */
};
_Static_assert(sizeof(struct timer) == 24, "embedded in every session and exchange");

#define WHEEL_LEVELS    4
#define WHEEL_SLOT_BITS 8
#define WHEEL_SLOTS     (1u << WHEEL_SLOT_BITS)
#define WHEEL_NEVER     UINT64_MAX

typedef void wheel_handler(void *context, struct timer *timer, uint64_t now_us);

struct wheel {
    uint64_t tick;     /* all ticks up to and including this one have fired */
    uint64_t now_tick; /* the latest time seen; ahead of `tick` when a budget was used up */
    uint64_t now_us;
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
    timer->next = NULL;
    timer->link = NULL;
    timer->kind = kind;
    timer->tick = 0;
}

static inline bool timer_armed(const struct timer *timer)
{
    return timer->link != NULL;
}

/* Arms, or moves when armed already. Deadlines in the past: see above. One that no 64-bit time
 * reaches, WHEEL_NEVER for instance, never fires. */
void wheel_arm(struct wheel *wheel, struct timer *timer, uint64_t at_us);

/* Does nothing when not armed. */
void wheel_cancel(struct wheel *wheel, struct timer *timer);

/* Fires what is due at `now_us` and returns how many fired. At most `budget` timers are looked at,
 * those that are only placed anew included; what is left of a tick is kept for the next call, and
 * wheel_next_us() is at or before `now_us` until all is done. Time that goes back is treated as
 * standing still: handlers never see `now_us` decrease. */
unsigned wheel_advance(struct wheel *wheel, uint64_t now_us, unsigned budget);

/* A time in microseconds at or before the earliest deadline, WHEEL_NEVER when nothing is armed: how
 * long the worker may sleep. It may be earlier than the deadline (when timers are to be placed
 * anew), never later. */
uint64_t wheel_next_us(const struct wheel *wheel);

#endif
