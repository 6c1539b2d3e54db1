#include <string.h>

#include "tests/sim/fleet.h"

/* A caller's token tells to whom a response belongs; a notification has its registration's. */
static struct caller *find_token(struct device *d, const struct message *m)
{
    for (unsigned i = 0; i < d->caller_count; i++) {
        struct caller *c = d->callers[i];

        if (c->waiting && m->token_length == c->token_length &&
            memcmp(m->token, c->token, c->token_length) == 0)
            return c;
    }
    return NULL;
}

static void stop(struct caller *c)
{
    c->waiting = false;
    node_stop(&c->device->node, c->cookie);
}

/* RFC 9175 2.3: the same again, with what the gateway wants to hear. */
static void repeat_with_echo(struct caller *c, const struct message *m)
{
    const struct option_view *echo = &m->first[SLOT_ECHO];

    c->request.echo_length = (uint8_t)echo->length;
    memcpy(c->request.echo, echo->value, echo->length);
    caller_ask(c);
}

static bool on_response(struct node *n, const struct flow *flow, const struct message *m)
{
    struct device *d = n->owner;
    struct caller *c = find_token(d, m);

    (void)flow;
    /* A notification that was under way when its relation was cancelled is not the answer. */
    if (!c || (c->request.observe == 1 && message_has(m, SLOT_OBSERVE)))
        return d->unasked && d->unasked(d, m);
    stop(c);
    if (m->code == CODE_UNAUTHORIZED && message_has(m, SLOT_ECHO) && !c->request.echo_length)
        repeat_with_echo(c, m);
    else
        c->answered(c, m);
    return true;
}

static void on_end(struct node *n, const struct flow *flow, uint64_t cookie, enum node_end how)
{
    struct device *d = n->owner;

    (void)flow;
    for (unsigned i = 0; how != NODE_ACKED && i < d->caller_count; i++)
        if (d->callers[i]->waiting && d->callers[i]->cookie == cookie) {
            d->callers[i]->waiting = false;
            d->callers[i]->answered(d->callers[i], NULL);
            return;
        }
}

static void on_transmit(struct node *n, const struct flow *flow, const uint8_t *data, size_t length)
{
    struct device *d = n->owner;

    if (d->transmit)
        d->transmit(n, flow, data, length);
    else
        stage_send(n->stage, 0, flow, data, length);
}

static const struct node_handler handler = {
    .response = on_response, .ended = on_end, .transmit = on_transmit};

void device_init(struct device *d, struct fleet *f, void *owner)
{
    unsigned index = f->device_count++;
    uint8_t ip[4] = {10, 1, (uint8_t)(index / 8), (uint8_t)(1 + index % 8)};
    struct endpoint peer = {address_from_v4(ip), (uint16_t)(40000 + index)};

    memset(d, 0, sizeof(*d));
    f->devices[index] = d;
    node_init(&d->node, &f->stage, &handler, d);
    d->flow = flow_make(0, 5683, &peer, TRANSPORT_UDP);
    d->owner = owner;
}

void caller_init(struct caller *c, struct device *d, void *owner,
                 void (*answered)(struct caller *c, const struct message *m))
{
    memset(c, 0, sizeof(*c));
    c->device = d;
    c->owner = owner;
    c->answered = answered;
    c->patience_us = 200 * SECOND;
    d->callers[d->caller_count++] = c;
    caller_new_token(c);
}

/* 4 to 8 bytes: long enough that no two are the same by chance. */
void caller_new_token(struct caller *c)
{
    uint64_t token = random_u64(&c->device->node.stage->random);

    memcpy(c->token, &token, sizeof(c->token));
    c->token_length = (uint8_t)(4 + token % 5);
}

static void on_patience(struct stage *s, void *who, uint64_t cookie)
{
    struct caller *c = who;

    (void)s;
    if (!c->waiting || c->cookie != cookie)
        return;
    stop(c);
    c->answered(c, NULL);
}

void caller_ask(struct caller *c)
{
    struct device *d = c->device;
    struct stage *s = d->node.stage;
    uint8_t bytes[MESSAGE_BYTES];
    size_t length = request_write(&c->request, bytes, sizeof(bytes), node_mid(&d->node), c->token,
                                  c->token_length);

    c->cookie = ++d->next_cookie;
    c->waiting = true;
    c->begun_at = s->now;
    node_send(&d->node, &d->flow, bytes, length, c->cookie);
    stage_at(s, s->now + c->patience_us, on_patience, c, c->cookie);
}

void caller_give_up(struct caller *c)
{
    if (c->waiting)
        stop(c);
}
