/* A slot is a singly linked list whose members know the pointer that points to them: unlinking
 * needs no search, and a slot costs 8 bytes. One bit for each slot says whether it holds anything,
 * so that time crosses an empty gap of any length with a few word operations for each level.
 *
 * The place of a timer follows from its distance to the next tick to fire (`tick` + 1), not from
 * that tick's own digits: a level holds the next 256 slots whatever the position in its round. What
 * makes that sound: a timer on level n > 0 is at least 256^n ticks away when it is placed, so it
 * never goes to the slot that begins at the next tick, and that slot can be emptied piece by piece.
 */
#include "gateway/timer/wheel.h"

#include <assert.h>
#include <string.h>

#define TICK_US    1000u
#define SLOT_MASK  (WHEEL_SLOTS - 1)
#define TICKS_MAX  ((UINT64_C(1) << (WHEEL_LEVELS * WHEEL_SLOT_BITS)) - 1)
#define WORDS      (WHEEL_SLOTS / 64)
#define TICK_NEVER UINT64_MAX

/* Written so that no 64-bit time overflows. */
static uint64_t tick_at_or_after(uint64_t us)
{
    return us / TICK_US + (us % TICK_US != 0);
}

void wheel_init(struct wheel *wheel, uint64_t now_us)
{
    memset(wheel, 0, sizeof(*wheel));
    wheel->tick = now_us / TICK_US;
    wheel->now_tick = wheel->tick;
    wheel->now_us = now_us;
}

void wheel_handle(struct wheel *wheel, enum timer_kind kind, wheel_handler *handler, void *context)
{
    wheel->kinds[kind].handler = handler;
    wheel->kinds[kind].context = context;
}

/* Links a timer by its tick, which must be after `wheel->tick`. */
static void wheel_link(struct wheel *wheel, struct timer *timer)
{
    uint64_t base = wheel->tick + 1;
    uint64_t distance = timer->tick - base;

    if (distance > TICKS_MAX)
        distance = TICKS_MAX;
    unsigned level = (unsigned)(63 - __builtin_clzll(distance | 1)) / WHEEL_SLOT_BITS;
    unsigned slot = (unsigned)((base + distance) >> (level * WHEEL_SLOT_BITS)) & SLOT_MASK;
    struct timer **head = &wheel->slots[level][slot];

    timer->next = *head;
    timer->link = head;
    if (timer->next)
        timer->next->link = &timer->next;
    *head = timer;
    wheel->occupied[level][slot / 64] |= UINT64_C(1) << (slot % 64);
}

static void wheel_unlink(struct wheel *wheel, struct timer *timer)
{
    struct timer **link = timer->link;

    *link = timer->next;
    timer->link = NULL;
    if (timer->next) {
        timer->next->link = link;
        return;
    }
    /* The last of its list; alone in it when the pointer is the head of a slot. */
    uintptr_t offset = (uintptr_t)link - (uintptr_t)wheel->slots;
    if (offset < sizeof(wheel->slots)) {
        size_t slot = (size_t)(link - wheel->slots[0]);
        wheel->occupied[slot / WHEEL_SLOTS][slot % WHEEL_SLOTS / 64] &=
            ~(UINT64_C(1) << (slot % 64));
    }
}

void wheel_arm(struct wheel *wheel, struct timer *timer, uint64_t at_us)
{
    uint64_t tick = tick_at_or_after(at_us);

    assert(wheel->kinds[timer->kind].handler);
    if (tick <= wheel->now_tick)
        tick = wheel->now_tick + 1;
    if (timer->link) {
        bool later = tick >= timer->tick;
        timer->tick = tick;
        if (later)
            return; /* its slot comes first, and finds it not due yet */
        wheel_unlink(wheel, timer);
    } else {
        timer->tick = tick;
        wheel->armed++;
    }
    wheel_link(wheel, timer);
}

void wheel_cancel(struct wheel *wheel, struct timer *timer)
{
    if (!timer->link)
        return;
    wheel_unlink(wheel, timer);
    wheel->armed--;
}

/* How many slots from `from` on, round the level, to the first that holds a timer; WHEEL_SLOTS when
 * none does. */
static unsigned occupied_after(const uint64_t words[WORDS], unsigned from)
{
    unsigned at = from / 64;
    uint64_t below = (UINT64_C(1) << (from % 64)) - 1;
    uint64_t word = words[at] & ~below;

    for (unsigned i = 0; i < WORDS; i++) {
        if (word)
            return (at * 64 + (unsigned)__builtin_ctzll(word) - from) & SLOT_MASK;
        at = (at + 1) % WORDS;
        word = words[at];
    }
    word &= below; /* the first word again, now the part before `from` */
    if (!word)
        return WHEEL_SLOTS;
    return (at * 64 + (unsigned)__builtin_ctzll(word) - from) & SLOT_MASK;
}

/* The earliest tick at which a slot that holds a timer begins. */
static uint64_t wheel_next_tick(const struct wheel *wheel)
{
    uint64_t base = wheel->tick + 1;
    uint64_t earliest = TICK_NEVER;

    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        unsigned shift = level * WHEEL_SLOT_BITS;
        uint64_t first = (base + (UINT64_C(1) << shift) - 1) >> shift;
        unsigned away = occupied_after(wheel->occupied[level], (unsigned)first & SLOT_MASK);
        uint64_t begins = (first + away) << shift;
        if (away < WHEEL_SLOTS && begins < earliest)
            earliest = begins;
    }
    return earliest;
}

struct drain {
    unsigned budget;
    unsigned fired;
};

/* Empties one slot whose time has come: fires what is due at the tick that begins, places the rest
 * anew. False when the budget does not reach. */
static bool wheel_drain_slot(struct wheel *wheel, struct timer *const *slot, struct drain *drain)
{
    struct timer *timer;

    while ((timer = *slot) != NULL) {
        if (drain->budget == 0)
            return false;
        drain->budget--;
        wheel_unlink(wheel, timer);
        if (timer->tick > wheel->tick + 1) {
            wheel_link(wheel, timer);
            continue;
        }
        wheel->armed--;
        drain->fired++;
        wheel->kinds[timer->kind].handler(wheel->kinds[timer->kind].context, timer, wheel->now_us);
    }
    return true;
}

/* All slots that begin at the tick after `wheel->tick`: one of level 0, and one of each level whose
 * border it is. */
static bool wheel_drain_tick(struct wheel *wheel, struct drain *drain)
{
    uint64_t tick = wheel->tick + 1;

    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        unsigned shift = level * WHEEL_SLOT_BITS;
        if (tick & ((UINT64_C(1) << shift) - 1))
            break;
        if (!wheel_drain_slot(wheel, &wheel->slots[level][(tick >> shift) & SLOT_MASK], drain))
            return false;
    }
    return true;
}

unsigned wheel_advance(struct wheel *wheel, uint64_t now_us, unsigned budget)
{
    struct drain drain = {.budget = budget};

    if (now_us > wheel->now_us) {
        wheel->now_us = now_us;
        wheel->now_tick = now_us / TICK_US;
    }
    while (wheel->tick < wheel->now_tick) {
        uint64_t next = wheel_next_tick(wheel);
        if (next > wheel->now_tick) {
            wheel->tick = wheel->now_tick;
            break;
        }
        wheel->tick = next - 1;
        if (!wheel_drain_tick(wheel, &drain))
            break;
        wheel->tick = next;
    }
    return drain.fired;
}

uint64_t wheel_next_us(const struct wheel *wheel)
{
    uint64_t tick = wheel_next_tick(wheel);

    return tick > UINT64_MAX / TICK_US ? WHEEL_NEVER : tick * TICK_US;
}
