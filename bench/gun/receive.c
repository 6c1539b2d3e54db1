#include "bench/gun/engine.h"

#include <string.h>

#include <rte_byteorder.h>

/* Kept out of the loop over a burst, which has to fit the processor's smallest cache of code. */
#define RARE __attribute__((noinline, cold))

static void free_slot(struct gun *g, uint32_t index)
{
    g->slots[index].sent_ns = 0;
    g->free_slots[g->free_count++] = index;
}

RARE void receive_timeout(struct gun *g, uint32_t index)
{
    struct exchange *x = &g->slots[index];

    if (x->measured) {
        g->r->timeouts++;
        /* Who had no answer waited at least so long: leaving them out would make the latency of a
         * server look better the more it loses. */
        histogram_add(&g->r->latency_ns, g->timeout_ns);
    }
    g->more[index].given_up = x->sequence;
    free_slot(g, index);
}

static void finish(struct gun *g, uint32_t index, uint8_t code, uint64_t now)
{
    struct exchange *x = &g->slots[index];

    g->received++;
    if (x->measured) {
        g->r->answered++;
        g->r->by_code[code]++;
        histogram_add(&g->r->latency_ns, now - x->due_ns);
    }
    free_slot(g, index);
}

/* An answer that no request waits for. A place remembers one request that it gave up; what is older
 * than that has come back twice or far too late, and counts as a duplicate. */
RARE static void receive_stray(struct gun *g, uint32_t index, uint32_t sequence, uint64_t now)
{
    const struct exchange *x = &g->slots[index];
    uint32_t *given_up = &g->more[index].given_up;

    if (sequence == 0 || sequence > x->sequence)
        g->r->wrong += engine_measures(g, now); /* a token that was never sent */
    else if (sequence == *given_up)
        g->r->late++;
    else
        g->r->duplicates++;
    if (sequence == *given_up)
        *given_up = 0; /* the next one is a duplicate */
}

/* The answer goes where its request came from, and an ACK has its message ID (RFC 7252 4.2). */
static bool is_astray(const struct exchange *x, const struct incoming *in)
{
    unsigned type = in->data[0] >> 4 & 3, mid = (unsigned)in->data[2] << 8 | in->data[3];

    return in->astray || in->endpoint != x->endpoint || type == TYPE_RST ||
           (type == TYPE_ACK && mid != x->mid);
}

/* The code and the end of the message: the payload behind its marker. A whole parse would cost the
 * generator more than the request costs the server. */
static bool is_wrong(const struct gun *g, unsigned kind, const uint8_t *data, uint16_t length)
{
    if (code_class(data[1]) != 2)
        return true;
    if (!g->o->expect || kind != GUN_GET)
        return false;
    return length < FORM_HEAD_BYTES + 1 + g->expected ||
           data[length - g->expected - 1] != MESSAGE_PAYLOAD_START ||
           memcmp(data + length - g->expected, g->o->expect, g->expected) != 0;
}

/* A request of several messages goes on, or ends. */
RARE static enum exchange_step move_on(struct gun *g, uint32_t index, const struct incoming *in)
{
    struct message m;

    if (message_parse(in->data, in->length, &m) != VERDICT_OK || code_class(m.code) != 2)
        return STEP_WRONG;
    return exchange_continue(g, index, &m);
}

static void receive_answer(struct gun *g, uint32_t index, const struct incoming *in, uint64_t now)
{
    struct exchange *x = &g->slots[index];
    const struct form *t = &g->forms.all[x->form];
    enum exchange_step step = STEP_DONE;

    if (!g->o->raw) {
        if (is_astray(x, in) || is_wrong(g, t->kind, in->data, in->length))
            step = STEP_WRONG;
        else if (t->appended || t->kind == GUN_OBSERVE)
            step = move_on(g, index, in);
        if ((in->data[0] >> 4 & 3) == TYPE_CON)
            engine_send_empty(g, in->endpoint, TYPE_ACK,
                              (uint16_t)(in->data[2] << 8 | in->data[3]));
    }
    if (step == STEP_WAIT)
        return;
    if (step == STEP_NEXT) {
        if (!exchange_send(g, index, now, false))
            receive_timeout(g, index);
        return;
    }
    g->r->wrong += x->measured && step == STEP_WRONG;
    finish(g, index, in->data[1], now);
}

/* Messages that belong to nothing are rejected (RFC 7252 4.2, 4.3). */
RARE static void reject(struct gun *g, const struct incoming *in, uint64_t now)
{
    unsigned type = in->data[0] >> 4 & 3;

    g->r->unexpected += engine_measures(g, now);
    if (type == TYPE_CON || type == TYPE_NON)
        engine_send_empty(g, in->endpoint, TYPE_RST, (uint16_t)(in->data[2] << 8 | in->data[3]));
}

/* A RST to a request: it will not be answered (RFC 7252 4.2). */
RARE static void receive_reset(struct gun *g, uint32_t index, uint64_t now)
{
    struct exchange *x = &g->slots[index];

    if (x->measured) {
        g->r->resets++;
        histogram_add(&g->r->latency_ns, now - x->due_ns);
    }
    free_slot(g, index);
}

/* Empty messages: a ping, or what a server has to say about one of ours without a token. */
RARE static void receive_empty(struct gun *g, const struct incoming *in, uint64_t now)
{
    uint16_t mid = (uint16_t)(in->data[2] << 8 | in->data[3]);
    unsigned type = in->data[0] >> 4 & 3;
    uint32_t index;

    if (type == TYPE_CON) {
        g->r->pings += engine_measures(g, now);
        engine_send_empty(g, in->endpoint, TYPE_RST, mid);
    } else if (type == TYPE_RST || g->o->retransmit) {
        index = engine_find(g, in->endpoint, mid);
        if (index == UINT32_MAX)
            return;
        if (type == TYPE_RST)
            receive_reset(g, index, now);
        else
            g->more[index].again_ns = 0; /* the answer comes by itself (5.2.2) */
    }
}

/* An answer with a token of ours that came too late is still acknowledged: a device would. */
RARE static void receive_late(struct gun *g, uint32_t index, const struct incoming *in,
                              uint32_t sequence, uint64_t now)
{
    receive_stray(g, index, sequence, now);
    if ((in->data[0] >> 4 & 3) == TYPE_CON)
        engine_send_empty(g, in->endpoint,
                          sequence <= g->slots[index].sequence ? TYPE_ACK : TYPE_RST,
                          (uint16_t)(in->data[2] << 8 | in->data[3]));
}

static void receive_one(struct gun *g, const struct incoming *in, uint64_t now)
{
    rte_be32_t words[2];
    uint32_t index, sequence;

    if (in->length < MESSAGE_HEADER_BYTES || in->data[0] >> 6 != MESSAGE_VERSION) {
        g->r->wrong += engine_measures(g, now);
        return;
    }
    if (in->data[1] == CODE_EMPTY) {
        receive_empty(g, in, now);
        return;
    }
    if (in->length < FORM_HEAD_BYTES || (in->data[0] & 0x0f) != FORM_TOKEN_BYTES) {
        g->r->wrong += engine_measures(g, now);
        reject(g, in, now);
        return;
    }
    memcpy(words, in->data + MESSAGE_HEADER_BYTES, sizeof(words));
    index = rte_be_to_cpu_32(words[0]);
    sequence = rte_be_to_cpu_32(words[1]);
    if (index & OBSERVER_BIT)
        observers_receive(g, in, index & ~OBSERVER_BIT, now);
    else if (index >= g->top)
        reject(g, in, now);
    else if (g->slots[index].sent_ns && g->slots[index].sequence == sequence)
        receive_answer(g, index, in, now);
    else
        receive_late(g, index, in, sequence, now);
}

unsigned receive_burst(struct gun *g, uint64_t now)
{
    unsigned n = g->carrier->receive(g->carrier, g->in);

    g->received = 0;
    for (unsigned i = 0; i < n; i++) {
        if (g->in[i].party == PARTY_ORIGIN)
            origin_receive(g, &g->in[i], now);
        else
            receive_one(g, &g->in[i], now);
    }
    g->carrier->release(g->carrier);
    if (engine_measures(g, now))
        g->r->received += g->received;
    return n;
}
