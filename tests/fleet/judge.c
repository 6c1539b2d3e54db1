/* What must not happen, whatever else does. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fleet/fleet.h"

#define EXCHANGE_LIFETIME (247 * SECOND) /* RFC 7252 4.8.2 */
#define NUMBER_LIFETIME   (128 * SECOND) /* RFC 7641 3.4 */
#define RESETS_MAX        3              /* that may be lost in a row */
#define MEMORY_FIRST      (1u << 16)

void judge_complain(const struct device *d, enum violation what, const char *why, ...)
{
    static const char *const names[] = {
#define X(name) #name,
        FLEET_VIOLATIONS(X)
#undef X
    };
    char *text = fleet.complaints[fleet.complaint_count], who[32];
    size_t size = sizeof(fleet.complaints[0]);
    va_list arguments;
    int n;

    fleet.violations[what]++;
    if (fleet.complaint_count == COMPLAINTS)
        return;
    fleet.complaint_count++;
    link_name(d, who);
    n = snprintf(text, size, "%s at %.3f: device %s: ", names[what], (double)fleet.now / 1e6, who);
    va_start(arguments, why);
    vsnprintf(text + n, size - (size_t)n, why, arguments);
    va_end(arguments);
}

/* ---- message IDs ---- */

struct memory {
    uint64_t key; /* device and message ID; 0: free */
    uint64_t at;
    uint64_t contents; /* a hash */
    bool reset;
};

static struct memory *memories;
static size_t memory_size, memory_used;

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

static uint64_t hash(const uint8_t *data, size_t length)
{
    uint64_t h = length;

    for (size_t i = 0; i < length; i++)
        h = mix(h + data[i]);
    return h;
}

/* The place of a key, or the free one where it belongs. */
static struct memory *memory_at(uint64_t key)
{
    size_t i = mix(key) & (memory_size - 1);

    while (memories[i].key && memories[i].key != key)
        i = (i + 1) & (memory_size - 1);
    return &memories[i];
}

/* Room for more; what is too old to matter is left behind. */
static void memory_renew(void)
{
    struct memory *old = memories;
    size_t size = memory_size, fresh = 0;

    for (size_t i = 0; i < size; i++)
        fresh += old[i].key && fleet.now - old[i].at < EXCHANGE_LIFETIME;
    memory_size = MEMORY_FIRST;
    while (memory_size < 4 * fresh)
        memory_size *= 2;
    memories = calloc(memory_size, sizeof(*memories));
    if (!memories)
        abort();
    memory_used = fresh;
    for (size_t i = 0; i < size; i++)
        if (old[i].key && fleet.now - old[i].at < EXCHANGE_LIFETIME)
            *memory_at(old[i].key) = old[i];
    free(old);
}

static struct memory *memory_of(const struct device *d, uint16_t mid)
{
    if (memory_used * 2 >= memory_size)
        memory_renew();
    return memory_at(((uint64_t)d->index << 16 | mid) + 1);
}

enum judge_seen judge_mid(const struct device *d, const struct message *m)
{
    struct memory *known = memory_of(d, m->mid);
    uint64_t contents = hash(m->data, m->length), age = fleet.now - known->at;

    if (known->key && age < EXCHANGE_LIFETIME && known->contents == contents) {
        if (m->type == TYPE_NON)
            judge_complain(d, VIOLATION_non_repeated, "message ID %u after %.3f s", m->mid,
                           (double)age / 1e6);
        fleet.retransmissions += m->type == TYPE_CON;
        return known->reset ? SEEN_AGAIN_RESET : SEEN_AGAIN;
    }
    if (known->key && age < EXCHANGE_LIFETIME)
        judge_complain(d, VIOLATION_mid_reused, "message ID %u after %.3f s, code %02x", m->mid,
                       (double)age / 1e6, m->code);
    memory_used += !known->key;
    *known = (struct memory){((uint64_t)d->index << 16 | m->mid) + 1, fleet.now, contents, false};
    return SEEN_NEW;
}

void judge_mid_reset(const struct device *d, uint16_t mid)
{
    memory_of(d, mid)->reset = true;
}

/* ---- numbers and states ---- */

/* RFC 7641 3.4 */
static bool is_above(uint32_t v1, uint32_t v2)
{
    return (v1 < v2 && v2 - v1 < 1u << 23) || (v1 > v2 && v1 - v2 > 1u << 23);
}

static bool is_newer(const struct watch *w, uint32_t v2)
{
    return is_above(w->number, v2) || fleet.now > w->number_at + NUMBER_LIFETIME;
}

/* With a number that is not above the last. */
static bool is_old_repetition(const struct message *m, uint32_t last)
{
    return secure_is_used() && m->type == TYPE_CON && message_has(m, SLOT_OBSERVE) &&
           !is_above(last, message_uint(m, SLOT_OBSERVE, 0));
}

bool judge_is_late(const struct watch *w, const struct message *m)
{
    uint32_t number = message_uint(m, SLOT_OBSERVE, 0);

    return w->has_number && number != w->number && is_old_repetition(m, w->number) &&
           (!w->has_floor || is_above(w->floor, number));
}

bool judge_number(const struct device *d, struct watch *w, uint32_t number, bool answer,
                  unsigned sends)
{
    double age = (double)(fleet.now - w->number_at) / 1e6;

    if (w->has_number && !is_newer(w, number)) {
        if (answer && number == w->number) {
            fleet.equal_answers++;
        } else if (answer && sends > 1) {
            fleet.replayed_answers++; /* the answer from before, once more (RFC 7252 4.5) */
        } else if (number == w->number) {
            judge_complain(d, VIOLATION_number_same, "path %u: %u after %.3f s", w->path, number,
                           age);
        } else {
            judge_complain(d, VIOLATION_number_back, "path %u: %u after %u, %.3f s%s", w->path,
                           number, w->number, age, answer ? ", in an answer" : "");
        }
        return false;
    }
    w->has_number = true;
    w->number = number;
    w->number_at = fleet.now;
    return true;
}

void judge_content(const struct device *d, struct watch *w, const struct message *m, bool newest)
{
    char text[32] = "";
    unsigned path, content;

    if (m->payload_length < sizeof(text))
        memcpy(text, m->payload, m->payload_length);
    if (sscanf(text, "%u %u", &path, &content) != 2 || path != w->path) {
        judge_complain(d, VIOLATION_content_wrong, "path %u: \"%s\"", w->path, text);
        return;
    }
    if (w->has_content && content < w->content && newest)
        judge_complain(d, VIOLATION_content_back, "path %u: state %u after %u", w->path, content,
                       w->content);
    if (w->has_content && content < w->content)
        return;
    w->has_content = true;
    w->content = content;
}

/* ---- what is over ---- */

/* Cancellations in these times need not have reached the store. */
static struct {
    uint64_t from, to;
} excuses[KILLS_MAX];
static unsigned excuse_count;
static bool store_down;
static uint64_t store_down_at, store_up_at;

static bool is_excused(uint64_t at)
{
    for (unsigned i = excuse_count; i-- > 0;)
        if (at >= excuses[i].from && at <= excuses[i].to)
            return true;
    return false;
}

bool judge_is_over(const struct past *p)
{
    return p->token_length && p->how == PAST_CANCELLED && !p->reset_at &&
           fleet.now - p->at > fleet.options.grace_us && !is_excused(p->at);
}

void judge_store(bool up)
{
    if (up && store_down)
        store_up_at = fleet.now;
    else if (!up && !store_down && fleet.now - store_up_at > fleet.options.grace_us)
        store_down_at = fleet.now;
    store_down = !up;
}

void judge_gateway_down(void)
{
    uint64_t from = fleet.now - fleet.options.grace_us;
    bool away = store_down || (store_up_at && fleet.now - store_up_at < fleet.options.grace_us);

    if (away && store_down_at - fleet.options.grace_us < from)
        from = store_down_at - fleet.options.grace_us;
    if (excuse_count < KILLS_MAX) {
        excuses[excuse_count].from = from;
        excuses[excuse_count++].to = fleet.now;
    }
    fleet.owed_done_at = 0;
    fleet.killed = true;
    for (size_t i = 0; i < (size_t)fleet.options.devices * fleet.options.slots; i++) {
        struct watch *w = &fleet.watches[i];
        const struct device *d = &fleet.devices[w->device];

        w->has_floor = w->has_number;
        w->floor = w->number;
        /* Some go on with what they do, and meet the restart in the midst of it. The answer to who
         * asks tells the state as well as a notification. */
        if (w->state != WATCH_ACTIVE || w->owed || d->mute || (d->request && d->slot == w->slot) ||
            (fleet.running && random_below(4) == 0))
            continue;
        w->owed = true;
        fleet.owed++;
    }
    secure_gateway_down(from);
}

static struct past *past_of(struct watch *w, const struct message *m)
{
    for (unsigned i = 0; i < PAST_COUNT; i++)
        if (w->past[i].token_length == m->token_length &&
            memcmp(w->past[i].token, m->token, m->token_length) == 0)
            return &w->past[i];
    return NULL;
}

void judge_past(const struct device *d, struct watch *w, const struct message *m)
{
    struct past *p = past_of(w, m);
    uint16_t generation = (uint16_t)(m->token[1] | m->token[2] << 8);

    if (!p) {
        judge_complain(
            d, generation <= w->generation ? VIOLATION_cancelled_notified : VIOLATION_unknown_token,
            "generation %u, now %u", generation, w->generation);
        return;
    }
    if (p->how == PAST_CANCELLED && !p->reset_at && fleet.now - p->at > fleet.options.grace_us) {
        if (p->has_number && is_old_repetition(m, p->number))
            fleet.late++;
        else if (is_excused(p->at))
            fleet.excused++;
        else
            judge_complain(d, VIOLATION_cancelled_notified,
                           "path %u, type %u, %.3f s after the cancellation", w->path, m->type,
                           (double)(fleet.now - p->at) / 1e6);
    }
    if (p->reset_at && fleet.now - p->reset_at > fleet.options.grace_us &&
        !is_excused(p->reset_at) && ++p->ignored > RESETS_MAX)
        judge_complain(d, VIOLATION_reset_ignored, "type %u, %.3f s after the Reset before",
                       m->type, (double)(fleet.now - p->reset_at) / 1e6);
    p->reset_at = fleet.now;
}
