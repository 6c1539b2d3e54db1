/* Observers that are held for the whole run: each registers once, then counts what it is told. */
#include "bench/gun/engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_byteorder.h>

#define PATIENCE_NS      (2 * SECOND_NS) /* a registration is repeated after it, or the timeout */
#define TRIES_MAX        5
#define FRESH_NS         (128 * SECOND_NS) /* RFC 7641 3.4 */
#define NOBODY           UINT32_MAX
#define OBSERVER_TYPE(g) ((g)->o->con_percent ? TYPE_CON : TYPE_NON)

/* ---- start ---- */

static int find_paths(struct gun *g)
{
    struct observers *s = &g->observers;

    s->paths = malloc(sizeof(*s->paths) * (g->o->path_count + 1));
    if (!s->paths)
        return -ENOMEM;
    for (unsigned i = 0; i < g->o->path_count; i++)
        if (mix_path_is_for(g->o, i, GUN_OBSERVE))
            s->paths[s->path_count++] = (uint16_t)i;
    if (s->path_count == 0) {
        fputs("coapgun: --observe: no path is for OBSERVE\n", stderr);
        return -EINVAL;
    }
    /* One relation for each device and path, as a server has it (RFC 7641 4.1). */
    if (g->o->observers > (uint64_t)g->o->endpoints * s->path_count) {
        fprintf(stderr,
                "coapgun: --observe %u: %u devices hold one relation each with %u paths; give more "
                "--endpoints\n",
                g->o->observers, g->o->endpoints, s->path_count);
        return -EINVAL;
    }
    return 0;
}

int observers_start(struct gun *g)
{
    struct observers *s = &g->observers;

    if (!g->o->observers)
        return 0;
    for (unsigned i = 0; i < OBSERVERS_ASK; i++)
        s->asked[i] = NOBODY;
    s->all = calloc(g->o->observers, sizeof(*s->all));
    return s->all ? find_paths(g) : -ENOMEM;
}

void observers_stop(struct gun *g)
{
    free(g->observers.all);
    free(g->observers.paths);
}

bool observers_ready(const struct gun *g)
{
    return g->observers.next == g->o->observers && g->observers.open == 0;
}

/* ---- registration ---- */

static void write_registration(struct gun *g, uint32_t index, struct outgoing *out)
{
    const struct observers *s = &g->observers;
    unsigned path = s->paths[index / g->o->endpoints];
    uint32_t number = index % g->o->spread;
    const struct form *f = &g->forms.all[forms_find(&g->forms, path, GUN_OBSERVE, number)];
    rte_be32_t head[3] = {
        rte_cpu_to_be_32((uint32_t)(0x40 | OBSERVER_TYPE(g) << 4 | FORM_TOKEN_BYTES) << 24 |
                         (uint32_t)f->code << 16 | s->all[index].mid),
        rte_cpu_to_be_32(index | OBSERVER_BIT), 0};

    memcpy(out->data, f->bytes, f->length);
    memcpy(out->data, head, sizeof(head));
    if (f->digits)
        form_put_number(out->data + f->number_at, f->digits, number);
    out->length = f->length;
    out->endpoint = index % g->o->endpoints;
}

static bool ask(struct gun *g, uint32_t index, uint64_t now)
{
    struct observer *who = &g->observers.all[index];
    struct outgoing *out = engine_take(g);

    if (!out)
        return false;
    who->state = OBSERVER_ASKED;
    who->seen_ns = now;
    /* A repetition has the message ID and the token of the first, as a retransmission has. */
    if (who->tries++ == 0) {
        who->mid = engine_mid(g, index % g->o->endpoints);
        g->mids_used++;
    }
    write_registration(g, index, out);
    return true;
}

/* One of those that wait: has it been answered, or must it be asked again? */
static void look_at(struct gun *g, uint32_t *place, uint64_t now)
{
    struct observers *s = &g->observers;
    uint64_t patience = g->timeout_ns < PATIENCE_NS ? g->timeout_ns : PATIENCE_NS;
    struct observer *who;

    if (*place == NOBODY) {
        if (s->next < g->o->observers && ask(g, s->next, now)) {
            *place = s->next++;
            s->open++;
        }
        return;
    }
    who = &s->all[*place];
    if (who->state == OBSERVER_ASKED && now - who->seen_ns >= patience) {
        if (who->tries < TRIES_MAX) {
            ask(g, *place, now);
            return;
        }
        who->state = OBSERVER_FAILED;
        g->r->refused++;
    }
    if (who->state != OBSERVER_ASKED) {
        *place = NOBODY;
        s->open--;
    }
}

void observers_turn(struct gun *g, uint64_t now)
{
    struct observers *s = &g->observers;

    if (observers_ready(g))
        return;
    for (unsigned i = 0; i < 16; i++)
        look_at(g, &s->asked[s->looked_at++ % OBSERVERS_ASK], now);
}

/* ---- notifications ---- */

static bool parse(const uint8_t *data, uint16_t length, struct glance *out)
{
    struct message m;

    if (message_parse(data, length, &m) != VERDICT_OK)
        return false;
    out->observe = message_has(&m, SLOT_OBSERVE) ? (int64_t)message_uint(&m, SLOT_OBSERVE, 0) : -1;
    out->payload = m.payload;
    out->payload_length = m.payload_length;
    return true;
}

bool observers_glance(const uint8_t *data, uint16_t length, struct glance *out)
{
    const uint8_t *at = data + FORM_HEAD_BYTES, *end = data + length;
    unsigned number = 0;

    out->observe = -1;
    out->payload = NULL;
    out->payload_length = 0;
    while (at < end && *at != MESSAGE_PAYLOAD_START) {
        unsigned delta = *at >> 4, size = *at & 15;

        if (delta > 12 || size > 12)
            return parse(data, length, out);
        number += delta;
        if (++at + size > end)
            return false;
        if (number == OPTION_OBSERVE) {
            out->observe = 0;
            for (unsigned i = 0; i < size; i++)
                out->observe = out->observe << 8 | at[i];
        }
        at += size;
    }
    if (at < end) {
        out->payload = at + 1;
        out->payload_length = (uint16_t)(end - at - 1);
    }
    return true;
}

/* RFC 7641 3.4 */
static bool is_newer(const struct observer *who, uint32_t value, uint64_t now)
{
    uint32_t ahead = (value - who->sequence) & 0xffffff;

    return (ahead != 0 && ahead < 1u << 23) || now > who->seen_ns + FRESH_NS;
}

static void registered(struct gun *g, struct observer *who, const struct glance *seen, bool ok)
{
    if (ok && seen->observe >= 0) {
        who->state = OBSERVER_REGISTERED;
        who->sequence = (uint32_t)seen->observe;
        g->r->registered++;
        return;
    }
    who->state = OBSERVER_FAILED;
    g->r->refused++;
}

static void notified(struct gun *g, struct observer *who, const struct glance *seen, bool ok,
                     uint64_t now)
{
    bool counts = engine_measures(g, now);
    uint64_t stamp = g->origin ? origin_stamp(seen->payload, seen->payload_length) : 0;

    if (!ok || seen->observe < 0) { /* the server has ended it (RFC 7641 4.2) */
        who->state = OBSERVER_FAILED;
        g->r->wrong += counts;
        return;
    }
    if (counts) {
        g->r->notifications++;
        if (stamp && stamp <= now)
            histogram_add(&g->r->notify_ns, now - stamp);
    }
    if (!is_newer(who, (uint32_t)seen->observe, now)) {
        g->r->stale += counts;
        return;
    }
    who->sequence = (uint32_t)seen->observe;
    who->seen_ns = now;
}

void observers_receive(struct gun *g, const struct incoming *in, uint32_t index, uint64_t now)
{
    unsigned type = in->data[0] >> 4 & 3;
    uint16_t mid = (uint16_t)(in->data[2] << 8 | in->data[3]);
    struct observer *who;
    struct glance seen;

    if (index >= g->o->observers || in->endpoint != index % g->o->endpoints || in->astray ||
        g->observers.all[index].state == OBSERVER_NEW ||
        g->observers.all[index].state == OBSERVER_FAILED) {
        g->r->unexpected += engine_measures(g, now);
        if (type == TYPE_CON || type == TYPE_NON)
            engine_send_empty(g, in->endpoint, TYPE_RST, mid);
        return;
    }
    who = &g->observers.all[index];
    if (!observers_glance(in->data, in->length, &seen)) {
        g->r->wrong += engine_measures(g, now);
        return;
    }
    if (who->state == OBSERVER_ASKED)
        registered(g, who, &seen, code_class(in->data[1]) == 2);
    else if (type != TYPE_ACK) /* a second answer to a repeated registration says nothing new */
        notified(g, who, &seen, code_class(in->data[1]) == 2, now);
    if (type == TYPE_CON)
        engine_send_empty(g, in->endpoint, TYPE_ACK, mid);
}
