#include "bench/gun/write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_BURST 32     /* requests that are waited for in a closed loop ... */
#define PATIENCE_NS 20000u /* ... for so long at the most */
#define LOOK_AT     16     /* places looked at for a timeout, with each burst ... */
#define LOOK_NS     5000   /* ... and when nothing is sent: an empty turn must be short */

/* ---- sending ---- */

void engine_flush(struct gun *g)
{
    if (g->out_count)
        g->carrier->send(g->carrier, g->out, g->out_count);
    g->out_count = 0;
}

struct outgoing *engine_take(struct gun *g)
{
    struct outgoing *out;

    if (g->out_count == CARRIER_BURST)
        engine_flush(g);
    out = &g->out[g->out_count];
    if (g->carrier->reserve(g->carrier, out, 1) == 0)
        return NULL;
    g->out_count++;
    out->party = PARTY_DEVICE;
    out->summed = false;
    return out;
}

void engine_send_empty(struct gun *g, uint32_t endpoint, enum message_type type, uint16_t mid)
{
    struct outgoing *out = engine_take(g);

    if (!out)
        return;
    message_write_empty(out->data, type, mid);
    out->length = MESSAGE_HEADER_BYTES;
    out->endpoint = endpoint;
}

/* ---- requests ---- */

/* Places for requests, the last ones that became free: they are still in the cache. */
static void take_slots(struct gun *g, uint32_t *places, unsigned n)
{
    unsigned used = g->free_count < n ? g->free_count : n;

    g->free_count -= used;
    memcpy(places, g->free_slots + g->free_count, sizeof(*places) * used);
    while (used < n)
        places[used++] = g->top++;
}

static uint32_t slots_left(const struct gun *g)
{
    return g->free_count + (g->slot_count - g->top);
}

/* What a request needs that is more than one message, or has a number in its path. */
__attribute__((noinline)) static void begin_more(struct gun *g, const struct mix_entry *entry,
                                                 struct exchange *x, struct exchange_more *more)
{
    more->number = g->next_number;
    g->next_number = more->number + 1 == g->o->spread ? 0 : more->number + 1;
    x->form = forms_find(&g->forms, entry->path, entry->kind, more->number);
    more->szx = (uint8_t)(g->o->block_szx < 0 ? BLOCK_SZX_DEFAULT : g->o->block_szx);
    more->offset = 0;
    more->tries = 0;
    more->started = false;
}

static const struct mix_entry *next_entry(struct gun *g)
{
    const struct mix_entry *entry = &g->plan[g->next_plan];

    if (g->plan_count > 1)
        g->next_plan = (g->next_plan + 1) % MIX_PLAN_ENTRIES;
    return entry;
}

/* The next request of the plan. */
static inline void begin_request(struct gun *g, uint32_t index, uint32_t endpoint, uint64_t now)
{
    const struct mix_entry *entry = next_entry(g);
    struct exchange *x = &g->slots[index];

    x->sent_ns = now;
    x->due_ns = now;
    x->sequence++;
    x->endpoint = endpoint;
    x->mid = engine_mid(g, endpoint);
    x->type = entry->type;
    x->form = entry->form;
    x->kind = entry->kind;
    if (!entry->simple)
        begin_more(g, entry, x, &g->more[index]);
}

/* When the next request of an open loop was due, and that it has gone. */
static uint64_t next_due(struct gun *g, uint64_t now)
{
    uint64_t due = schedule_due(&g->schedule, g->schedule.sent++);

    if (now - due > g->r->behind_ns && engine_measures(g, due))
        g->r->behind_ns = now - due;
    return due;
}

/* Whether they count, which hangs on when they were due. Returns how many do. */
static unsigned mark(struct gun *g, const uint32_t *places, unsigned n, uint64_t now)
{
    bool in_time = engine_measures(g, now);
    unsigned measured = 0;

    for (unsigned i = 0; i < n; i++) {
        struct exchange *x = &g->slots[places[i]];

        if (g->open_loop) {
            x->due_ns = next_due(g, now);
            in_time = engine_measures(g, x->due_ns);
        }
        x->measured = in_time;
        g->r->by_kind[x->kind] += in_time;
        measured += in_time;
    }
    return measured;
}

/* Up to a burst of requests. */
static void fire(struct gun *g, uint64_t now, unsigned n)
{
    uint32_t places[CARRIER_BURST], endpoint = g->next_endpoint, endpoints = g->o->endpoints;
    unsigned measured;

    if (n > CARRIER_BURST - g->out_count)
        engine_flush(g);
    n = g->carrier->reserve(g->carrier, g->out + g->out_count, n);
    take_slots(g, places, n);
    for (unsigned i = 0; i < n; i++) {
        begin_request(g, places[i], endpoint, now);
        endpoint = endpoint + 1 == endpoints ? 0 : endpoint + 1;
        exchange_write(g, places[i], &g->out[g->out_count + i]);
    }
    for (unsigned i = 0; i < n && g->o->retransmit; i++)
        exchange_patience(g, places[i], now);
    measured = mark(g, places, n, now);
    g->next_endpoint = endpoint;
    g->out_count += n;
    g->mids_used += n;
    g->r->sent += measured;
    g->r->messages += measured;
}

static unsigned fire_due(struct gun *g, uint64_t now)
{
    uint32_t left = slots_left(g);
    unsigned n = left < CARRIER_BURST ? left : CARRIER_BURST;

    if (g->open_loop) {
        /* What was due before the end still goes after it: a debt is never forgotten. */
        uint64_t last = g->end_ns && now >= g->end_ns ? g->end_ns - 1 : now;

        n = schedule_waiting(&g->schedule, last, n);
    } else if (left < g->least && now < g->fire_at_ns) {
        /* In bursts, as a NIC would deliver them: a packet at a time makes the two sides fight for
         * the cache line of the ring. */
        return 0;
    } else {
        g->fire_at_ns = now + PATIENCE_NS;
    }
    if (n)
        fire(g, now, n);
    return n;
}

static void find_timeouts(struct gun *g, uint64_t now)
{
    unsigned n = g->top < LOOK_AT ? g->top : LOOK_AT;

    g->look_at_ns = now + LOOK_NS;
    while (n-- > 0) {
        uint32_t index = g->looked_at;
        struct exchange *x = &g->slots[index];

        g->looked_at = index + 1 >= g->top ? 0 : index + 1;
        if (!x->sent_ns)
            continue;
        if (now - x->sent_ns >= g->timeout_ns)
            receive_timeout(g, index);
        else if (g->o->retransmit && g->more[index].again_ns && now >= g->more[index].again_ns)
            exchange_send(g, index, now, true);
    }
}

/* ---- a turn ---- */

/* What was queued waits for company, but not long. */
static void flush_due(struct gun *g, uint64_t now, bool fired)
{
    if (g->out_count == 0) {
        g->flush_at_ns = 0;
        return;
    }
    if (!g->flush_at_ns)
        g->flush_at_ns = now + (g->open_loop ? 0 : PATIENCE_NS / 4);
    if (fired || g->out_count >= LEAST_BURST || now >= g->flush_at_ns) {
        engine_flush(g);
        g->flush_at_ns = 0;
    }
}

unsigned engine_turn(struct gun *g, uint64_t now)
{
    unsigned received = receive_burst(g, now), fired = g->firing ? fire_due(g, now) : 0;

    if (g->origin)
        received += origin_turn(g, now);
    if (g->observers.all)
        observers_turn(g, now);
    if (fired || now >= g->look_at_ns)
        find_timeouts(g, now);
    flush_due(g, now, fired != 0);
    return received + fired;
}

uint32_t engine_find(const struct gun *g, uint32_t endpoint, uint16_t mid)
{
    uint32_t index = g->by_mid ? g->by_mid[engine_mid_place(g, endpoint, mid)] : 0;
    uint32_t end = g->by_mid ? index + 1 : g->top;

    /* Without the table all are looked through: who rejects requests is not measured for long. */
    for (; index < end && index < g->top; index++) {
        const struct exchange *x = &g->slots[index];

        if (x->sent_ns && x->endpoint == endpoint && x->mid == mid)
            return index;
    }
    return UINT32_MAX;
}

/* ---- start ---- */

/* So many requests of an open loop can be outstanding before all of them have timed out. */
static uint32_t count_slots(const struct gun_options *o)
{
    return o->mode == GUN_CLOSED ? o->window : OPEN_SLOTS;
}

/* A server remembers a message ID for 247 s (RFC 7252 4.8.2), and the run before this one used the
 * same devices. Beginning at the time of day, 65,536 / 247 further each second, a run meets nothing
 * of what an earlier one used, where that was no more for a device and second. */
uint16_t engine_first_mid(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (uint16_t)(((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000) * 265 / 1000);
}

static int take_memory(struct gun *g)
{
    uint32_t places = 4096;
    uint16_t first = engine_first_mid();

    g->slot_count = count_slots(g->o);
    while (places < 4 * g->slot_count)
        places *= 2;
    g->mid_mask = places - 1;
    g->slots = calloc(g->slot_count + 1, sizeof(*g->slots));
    g->more = calloc(g->slot_count + 1, sizeof(*g->more));
    g->free_slots = malloc(sizeof(*g->free_slots) * (g->slot_count + 1));
    g->by_mid = g->o->retransmit ? calloc(places, sizeof(*g->by_mid)) : NULL;
    g->mids = malloc(sizeof(*g->mids) * g->o->endpoints);
    if (!g->slots || !g->more || !g->free_slots || (g->o->retransmit && !g->by_mid) || !g->mids) {
        fputs("coapgun: memory is short\n", stderr);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < g->o->endpoints; i++)
        g->mids[i] = first;
    return 0;
}

/* Finds the forms of the plan. */
static void finish_plan(struct gun *g)
{
    g->plan_count = 1;
    for (unsigned i = 0; i < MIX_PLAN_ENTRIES; i++) {
        struct mix_entry *entry = &g->plan[i];
        const struct form *form;

        entry->form = forms_find(&g->forms, entry->path, entry->kind, 0);
        form = &g->forms.all[entry->form];
        entry->simple = !form->digits && !form->appended && entry->kind != GUN_OBSERVE;
        if (memcmp(entry, &g->plan[0], sizeof(*entry)) != 0)
            g->plan_count = MIX_PLAN_ENTRIES;
    }
}

int engine_start(struct gun *g, struct gun_options *o, struct carrier *carrier)
{
    int err = mix_plan(o, g->plan);

    g->o = o;
    g->carrier = carrier;
    g->open_loop = o->mode != GUN_CLOSED;
    g->least = o->window < 2 * LEAST_BURST ? 1 : LEAST_BURST;
    g->timeout_ns = o->timeout_ms * MILLISECOND_NS;
    g->expected = o->expect ? (uint16_t)strlen(o->expect) : 0;
    g->random = 1;
    clock_start(&g->clock, carrier->uses_tsc);
    if (!err)
        err = forms_make(&g->forms, o);
    if (!err) {
        finish_plan(g);
        err = take_memory(g);
    }
    if (!err)
        err = observers_start(g);
    if (!err && o->origin_given)
        err = origin_start(g);
    return err;
}

void engine_stop(struct gun *g)
{
    origin_stop(g);
    observers_stop(g);
    forms_free(&g->forms);
    free(g->slots);
    free(g->more);
    free(g->free_slots);
    free(g->by_mid);
    free(g->mids);
}
