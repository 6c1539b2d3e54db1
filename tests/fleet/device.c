/* What devices do, each by its own whims. */
#include <stdlib.h>
#include <string.h>

#include "tests/fleet/fleet.h"

struct fleet fleet;

/* ---- chance ---- */

static uint64_t random_u64(void)
{
    uint64_t x = fleet.random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint32_t random_below(uint32_t limit)
{
    return (uint32_t)((random_u64() >> 32) * limit >> 32);
}

static void arm_whim(struct watch *w)
{
    timer_arm(&w->timer, fleet.now + 1 + random_below((uint32_t)(2 * fleet.options.mean_us)));
}

/* ---- the relation ---- */

static struct device *device_of(const struct watch *w)
{
    return &fleet.devices[w->device];
}

static void set_state(struct watch *w, enum watch_state state)
{
    fleet.active -= w->state == WATCH_ACTIVE;
    fleet.active += state == WATCH_ACTIVE;
    fleet.cancelling -= w->state == WATCH_CANCELLING;
    fleet.cancelling += state == WATCH_CANCELLING;
    w->state = (uint8_t)state;
    if (state != WATCH_ACTIVE && w->owed) {
        w->owed = false;
        fleet.owed--;
    }
}

/* A token says whose it is, and is never used twice: slot, generation, and chance. */
static void new_token(struct watch *w)
{
    uint64_t chance = random_u64();

    w->generation++;
    w->token_length = (uint8_t)(4 + random_below(TOKEN_BYTES - 3));
    w->token[0] = w->slot;
    w->token[1] = (uint8_t)w->generation;
    w->token[2] = (uint8_t)(w->generation >> 8);
    memcpy(w->token + 3, &chance, TOKEN_BYTES - 3);
    w->path = random_below(fleet.options.paths);
    w->has_number = w->has_floor = w->has_content = w->reset_next = false;
}

/* Until the next registration it is over, and only remembered. */
static void end_relation(struct watch *w, enum past_how how)
{
    struct past *p = &w->past[w->past_count++ % PAST_COUNT];

    *p = (struct past){.token_length = w->token_length,
                       .how = (uint8_t)how,
                       .has_number = w->has_number,
                       .number = w->number,
                       .at = fleet.now,
                       .reset_at = how == PAST_RESET ? fleet.now : 0};
    memcpy(p->token, w->token, TOKEN_BYTES);
    set_state(w, WATCH_IDLE);
}

/* ---- requests ---- */

static size_t write_request(const struct device *d, uint8_t data[REQUEST_MAX])
{
    static const uint8_t touch[] = {TOUCH_SLOT, 0, 0, 0};
    const struct watch *w = d->request == REQUEST_TOUCH ? NULL : &d->watches[d->slot];
    struct encoder e;
    char path[16];

    encoder_begin(&e, data, REQUEST_MAX, TYPE_CON, CODE_GET, d->mid, w ? w->token : touch,
                  w ? w->token_length : sizeof(touch));
    if (w)
        encoder_uint(&e, OPTION_OBSERVE, d->request == REQUEST_CANCEL);
    encoder_option(&e, OPTION_URI_PATH, fleet.options.prefix, strlen(fleet.options.prefix));
    snprintf(path, sizeof(path), "%u", w ? w->path : 0);
    encoder_option(&e, OPTION_URI_PATH, path, strlen(path));
    return encoder_end(&e);
}

static void transmit(struct device *d)
{
    uint8_t data[REQUEST_MAX];

    secure_send(d, data, write_request(d, data));
    d->sends++;
    timer_arm(&d->timer, fleet.now + d->wait_us);
    d->wait_us *= 2;
}

static void ask(struct device *d, enum request_kind kind, unsigned slot)
{
    uint32_t timeout = (uint32_t)fleet.options.ack_timeout_us;

    fleet.under_way += d->request == REQUEST_NONE;
    fleet.requests++;
    d->request = (uint8_t)kind;
    d->slot = (uint8_t)slot;
    d->mid = d->next_mid++;
    d->acknowledged = false;
    d->sends = 0;
    d->wait_us = timeout + random_below(timeout / 2); /* ACK_RANDOM_FACTOR 1.5 */
    d->asked_at = fleet.now;
    transmit(d);
}

static void request_done(struct device *d)
{
    fleet.under_way -= d->request != REQUEST_NONE;
    d->request = REQUEST_NONE;
    timer_cancel(&d->timer);
}

bool watch_open(struct watch *w)
{
    struct device *d = device_of(w);

    if (d->request || w->state != WATCH_IDLE)
        return w->state != WATCH_IDLE;
    new_token(w);
    set_state(w, WATCH_REGISTERING);
    ask(d, REQUEST_REGISTER, w->slot);
    return true;
}

bool device_touch(struct device *d)
{
    if (d->request)
        return false;
    ask(d, REQUEST_TOUCH, 0);
    return true;
}

/* Nobody answers, or not what can be used. A cancellation is tried again later, until somebody
 * knows of it, and who has moved goes on until it is found. */
static void request_failed(struct device *d)
{
    struct watch *w = &d->watches[d->slot];
    enum request_kind kind = d->request;

    request_done(d);
    if (kind == REQUEST_REGISTER && w->state == WATCH_REGISTERING)
        end_relation(w, PAST_DROPPED);
    else if (kind == REQUEST_CANCEL)
        arm_whim(w);
    if (!secure_is_found(d))
        device_touch(d);
}

static void request_expired(struct device *d)
{
    if (d->acknowledged) {
        fleet.reissued++;
        ask(d, d->request, d->slot);
    } else if (d->sends <= fleet.options.max_retransmit) {
        fleet.repeated++;
        transmit(d);
    } else {
        fleet.gave_up++;
        request_failed(d);
    }
}

/* ---- whims ---- */

static void whim(struct watch *w)
{
    struct device *d = device_of(w);
    uint32_t chance = random_below(100);

    if (!fleet.running && w->state != WATCH_CANCELLING)
        return;
    arm_whim(w);
    if (d->request || d->mute || w->owed)
        return;
    if (w->state == WATCH_IDLE) {
        watch_open(w);
    } else if (w->state == WATCH_CANCELLING) {
        ask(d, REQUEST_CANCEL, w->slot); /* the one before has failed */
    } else if (w->state == WATCH_ACTIVE && chance < 40) {
        ask(d, REQUEST_REGISTER, w->slot);
    } else if (w->state == WATCH_ACTIVE && chance < 70) {
        set_state(w, WATCH_CANCELLING);
        ask(d, REQUEST_CANCEL, w->slot);
    } else if (w->state == WATCH_ACTIVE && chance < 90) {
        w->reset_next = true;
    }
}

void devices_run(bool run)
{
    fleet.running = run;
    for (size_t i = 0; i < (size_t)fleet.options.devices * fleet.options.slots; i++) {
        struct watch *w = &fleet.watches[i];

        w->reset_next = false;
        if (run || w->state == WATCH_CANCELLING)
            arm_whim(w);
        else
            timer_cancel(&w->timer);
    }
}

void devices_expire(struct timer *t)
{
    struct device *d = (struct device *)t;
    struct watch *w = (struct watch *)t;

    if (secure_expire(t))
        return;
    if (d >= fleet.devices && d < fleet.devices + fleet.options.devices)
        request_expired(d);
    else
        whim(w);
}

/* ---- answers ---- */

static void on_registered(struct device *d, struct watch *w, const struct message *m)
{
    unsigned sends = d->sends;
    bool newest;

    if (m->code != CODE_CONTENT || !message_has(m, SLOT_OBSERVE)) {
        fleet.refused += code_class(m->code) == 2;
        request_failed(d);
        if (w->state == WATCH_ACTIVE) /* until the Reset of the next notification */
            end_relation(w, PAST_DROPPED);
        return;
    }
    request_done(d);
    if (w->state == WATCH_REGISTERING) {
        fleet.accepted++;
        w->accepted_at = fleet.now;
        set_state(w, WATCH_ACTIVE);
    } else {
        fleet.refreshed++;
    }
    newest =
        judge_number(d, w, message_uint(m, SLOT_OBSERVE, 0), true, m->type == TYPE_ACK ? sends : 1);
    judge_content(d, w, m, newest);
}

static void on_answer(struct device *d, const struct message *m)
{
    struct watch *w = &d->watches[d->slot];

    fleet.codes[m->code]++;
    if (d->request == REQUEST_TOUCH) {
        fleet.touched += m->code == CODE_CONTENT;
        request_done(d);
    } else if (d->request == REQUEST_REGISTER) {
        on_registered(d, w, m);
    } else if (code_class(m->code) == 2) {
        fleet.cancelled++;
        request_done(d);
        end_relation(w, PAST_CANCELLED);
    } else {
        request_failed(d);
    }
}

static bool has_token(const struct watch *w, const struct message *m)
{
    return m->token_length == w->token_length && memcmp(m->token, w->token, w->token_length) == 0;
}

static void on_ack(struct device *d, const struct message *m)
{
    if (!d->request || m->mid != d->mid) {
        fleet.strays++;
    } else if (m->code == CODE_EMPTY) {
        d->acknowledged = true;
        timer_arm(&d->timer, fleet.now + fleet.options.patience_us);
    } else if (d->request != REQUEST_TOUCH && !has_token(&d->watches[d->slot], m)) {
        judge_complain(d, VIOLATION_unknown_token, "ACK %u to a request with another token",
                       m->mid);
    } else {
        on_answer(d, m);
    }
}

static void on_reset(struct device *d, const struct message *m)
{
    fleet.resets++;
    if (d->request && m->mid == d->mid)
        request_failed(d);
}

/* ---- notifications, and answers that come by themselves ---- */

static void send_empty(const struct device *d, enum message_type type, uint16_t mid)
{
    uint8_t data[MESSAGE_HEADER_BYTES];

    message_write_empty(data, type, mid);
    secure_send(d, data, sizeof(data));
}

static void reject(const struct device *d, const struct message *m)
{
    send_empty(d, TYPE_RST, m->mid);
    judge_mid_reset(d, m->mid);
    fleet.rejected++;
}

static void settle_debt(struct watch *w, const struct message *m)
{
    if (!w->owed)
        return;
    w->owed = false;
    fleet.owed--;
    fleet.checked++;
    fleet.checked_non += m->type == TYPE_NON;
    if (!fleet.owed)
        fleet.owed_done_at = fleet.now;
}

static void on_notification(struct device *d, struct watch *w, const struct message *m)
{
    fleet.notifications++;
    fleet.confirmable += m->type == TYPE_CON;
    fleet.last_heard = fleet.now;
    if (judge_is_late(w, m))
        fleet.late++;
    else
        judge_content(d, w, m, judge_number(d, w, message_uint(m, SLOT_OBSERVE, 0), false, 1));
    settle_debt(w, m);
    if (w->reset_next && w->state == WATCH_ACTIVE && !d->request) {
        reject(d, m);
        end_relation(w, PAST_RESET);
    } else if (m->type == TYPE_CON) {
        send_empty(d, TYPE_ACK, m->mid);
    }
}

/* A message with the token of a relation that there is, or that was asked for. */
static void on_watch(struct device *d, struct watch *w, const struct message *m)
{
    bool asked = d->request && d->request != REQUEST_TOUCH && d->slot == w->slot;
    bool observe = message_has(m, SLOT_OBSERVE);
    bool first = w->state == WATCH_REGISTERING; /* then all is the answer (RFC 7252 5.2.2) */

    if (asked && (first || (d->acknowledged && observe == (d->request == REQUEST_REGISTER)) ||
                  (d->request == REQUEST_CANCEL && !observe))) {
        if (m->type == TYPE_CON)
            send_empty(d, TYPE_ACK, m->mid);
        on_answer(d, m);
    } else if (observe && code_class(m->code) == 2) {
        on_notification(d, w, m);
    } else {
        if (m->type == TYPE_CON)
            send_empty(d, TYPE_ACK, m->mid);
        fleet.codes[m->code]++;
        if (code_class(m->code) == 2) {
            judge_complain(d, VIOLATION_unexpected, "code %02x without Observe, unasked", m->code);
        } else {
            fleet.ended++;
            end_relation(w, PAST_DROPPED);
        }
    }
}

static void on_touch(struct device *d, const struct message *m)
{
    if (m->type == TYPE_CON)
        send_empty(d, TYPE_ACK, m->mid);
    if (d->request == REQUEST_TOUCH)
        on_answer(d, m);
    else
        fleet.strays++;
}

static void on_message(struct device *d, const struct message *m)
{
    struct watch *w;

    if (m->code == CODE_EMPTY && m->type == TYPE_CON) {
        fleet.pings++;
        send_empty(d, TYPE_RST, m->mid);
    } else if (!code_is_response(m->code) || m->token_length < 4) {
        judge_complain(d, VIOLATION_unexpected, "code %02x, token of %u bytes", m->code,
                       m->token_length);
    } else if (m->token[0] == TOUCH_SLOT) {
        on_touch(d, m);
    } else if (m->token[0] >= fleet.options.slots) {
        judge_complain(d, VIOLATION_unknown_token, "slot %u", m->token[0]);
    } else {
        w = &d->watches[m->token[0]];
        if (w->state != WATCH_IDLE && has_token(w, m)) {
            on_watch(d, w, m);
            return;
        }
        judge_past(d, w, m);
        reject(d, m);
    }
}

void device_receive(struct device *d, const uint8_t *data, size_t length)
{
    struct message m;
    enum message_verdict verdict = message_parse(data, length, &m);

    trace(d, "<-", data, length);
    if (verdict != VERDICT_OK) {
        judge_complain(d, VIOLATION_malformed, "%s", message_verdict_name(verdict));
        return;
    }
    if (m.type == TYPE_ACK || m.type == TYPE_RST) {
        (m.type == TYPE_ACK ? on_ack : on_reset)(d, &m);
        return;
    }
    switch (judge_mid(d, &m)) {
    case SEEN_NEW:
        on_message(d, &m);
        break;
    case SEEN_AGAIN:
        if (m.type == TYPE_CON)
            send_empty(d, m.code == CODE_EMPTY ? TYPE_RST : TYPE_ACK, m.mid);
        break;
    case SEEN_AGAIN_RESET:
        send_empty(d, TYPE_RST, m.mid);
        break;
    }
}

/* ---- all of them ---- */

void devices_create(void)
{
    const struct options *o = &fleet.options;

    fleet.random = o->seed;
    fleet.devices = calloc(o->devices, sizeof(*fleet.devices));
    fleet.watches = calloc((size_t)o->devices * o->slots + 1, sizeof(*fleet.watches));
    if (!fleet.devices || !fleet.watches) {
        fputs("coapgw-fleet: no memory\n", stderr);
        exit(1);
    }
    for (unsigned i = 0; i < o->devices; i++) {
        struct device *d = &fleet.devices[i];

        d->index = i;
        d->next_mid = (uint16_t)random_u64();
        d->watches = &fleet.watches[(size_t)i * o->slots];
        for (unsigned k = 0; k < o->slots; k++) {
            d->watches[k].device = i;
            d->watches[k].slot = (uint8_t)k;
        }
    }
}
