#include "bench/gun/write.h"

#include <string.h>

#include "gateway/coap/block.h"

/* RFC 7252 4.8 */
#define ACK_TIMEOUT_MS 2000u
#define MAX_RETRANSMIT 4

/* ---- writing ---- */

static uint32_t block_value(const struct exchange_more *x, bool more)
{
    struct block block = {.number = x->offset >> (x->szx + 4), .szx = x->szx, .more = more};

    return block_encode(&block);
}

/* The Block option and, in a request with a body, its part (RFC 7959 2.2, 4). */
static void append_block(const struct gun *g, const struct form *t, const struct exchange_more *x,
                         struct outgoing *out)
{
    struct encoder e = {.data = out->data,
                        .room = CARRIER_MAX_BYTES,
                        .length = t->length,
                        .last_option = t->last_option};
    uint32_t left = g->o->payload_bytes - x->offset, size = 16u << x->szx;

    if (t->kind == GUN_BLOCK) {
        encoder_uint(&e, OPTION_BLOCK2, block_value(x, false));
    } else {
        encoder_uint(&e, OPTION_BLOCK1, block_value(x, left > size));
        if (x->offset == 0)
            encoder_uint(&e, OPTION_SIZE1, g->o->payload_bytes);
        encoder_payload(&e, g->forms.body + x->offset, left > size ? size : left);
    }
    out->length = (uint16_t)encoder_end(&e);
}

void exchange_finish(const struct gun *g, uint32_t index, struct outgoing *out)
{
    const struct form *t = &g->forms.all[g->slots[index].form];

    if (t->digits)
        form_put_number(out->data + t->number_at, t->digits, g->more[index].number);
    if (t->appended)
        append_block(g, t, &g->more[index], out);
}

/* ---- sending again ---- */

static uint32_t next_random(struct gun *g)
{
    g->random = g->random * 1664525u + 1013904223u;
    return g->random >> 8;
}

void exchange_patience(struct gun *g, uint32_t index, uint64_t now)
{
    const struct exchange *x = &g->slots[index];
    struct exchange_more *more = &g->more[index];

    g->by_mid[engine_mid_place(g, x->endpoint, x->mid)] = index;
    more->again_ns = 0;
    if (x->type != TYPE_CON || more->tries >= MAX_RETRANSMIT)
        return;
    /* Between ACK_TIMEOUT and ACK_TIMEOUT * ACK_RANDOM_FACTOR, doubled each time (4.2). */
    if (more->tries == 0)
        more->wait_ms = (uint16_t)(ACK_TIMEOUT_MS + next_random(g) % (ACK_TIMEOUT_MS / 2 + 1));
    else
        more->wait_ms = (uint16_t)(more->wait_ms * 2);
    more->again_ns = now + more->wait_ms * MILLISECOND_NS;
}

bool exchange_send(struct gun *g, uint32_t index, uint64_t now, bool again)
{
    struct exchange *x = &g->slots[index];
    struct outgoing *out = engine_take(g);

    if (!out)
        return false;
    if (again) {
        g->more[index].tries++;
        g->r->retransmits += x->measured;
    } else {
        x->mid = engine_mid(g, x->endpoint);
        g->mids_used++;
        x->sent_ns = now;
        g->more[index].tries = 0;
    }
    g->r->messages += x->measured;
    exchange_write(g, index, out);
    if (g->o->retransmit)
        exchange_patience(g, index, now);
    return true;
}

/* ---- requests of several messages ---- */

static uint32_t hash_of(const struct option_view *view)
{
    uint32_t hash = 2166136261u;

    for (unsigned i = 0; i < view->length; i++)
        hash = (hash ^ view->value[i]) * 16777619u;
    return hash;
}

/* The next block of a body, which must be the body that the first block was of (RFC 7959 2.4). */
static enum exchange_step continue_download(struct gun *g, uint32_t index, const struct message *m)
{
    struct exchange_more *x = &g->more[index];
    struct block block = {.number = 0, .szx = x->szx};
    uint32_t etag = message_has(m, SLOT_ETAG) ? hash_of(&m->first[SLOT_ETAG]) : 0;

    if (message_has(m, SLOT_BLOCK2) && block_decode(message_uint(m, SLOT_BLOCK2, 0), &block) != 0)
        return STEP_WRONG;
    if (block.szx > x->szx || block.number << (block.szx + 4) != x->offset ||
        (x->started && etag != x->etag) || (block.more && m->payload_length != block_size(&block)))
        return STEP_WRONG;
    x->etag = etag;
    x->szx = block.szx;
    x->offset += m->payload_length;
    if (block.more && x->offset < block_size(&block) << 20)
        return STEP_NEXT;
    g->r->body_bytes += g->slots[index].measured ? x->offset : 0;
    return STEP_DONE;
}

/* 2.31 says that the block has come; the last one gets the answer to it all (RFC 7959 2.5). A
 * server may ask for smaller blocks. */
static enum exchange_step continue_upload(struct gun *g, uint32_t index, const struct message *m)
{
    struct exchange_more *x = &g->more[index];
    struct block block;
    uint32_t size = 16u << x->szx;
    bool last = g->o->payload_bytes - x->offset <= size;

    if (m->code != CODE_CONTINUE) {
        if (!last)
            return STEP_WRONG;
        g->r->body_bytes += g->slots[index].measured ? g->o->payload_bytes : 0;
        return STEP_DONE;
    }
    if (last || !message_has(m, SLOT_BLOCK1) ||
        block_decode(message_uint(m, SLOT_BLOCK1, 0), &block) != 0 || block.szx > x->szx)
        return STEP_WRONG;
    x->offset += size;
    x->szx = block.szx;
    return STEP_NEXT;
}

/* Registered, then cancelled with the same token (RFC 7641 3.6). */
static enum exchange_step continue_observe(struct gun *g, uint32_t index, const struct message *m)
{
    struct exchange *x = &g->slots[index];

    if (!g->more[index].started) {
        if (!message_has(m, SLOT_OBSERVE)) {
            g->r->declined += x->measured;
            return STEP_WRONG;
        }
        x->form++; /* the cancellation */
        return STEP_NEXT;
    }
    /* A notification that crossed the cancellation is not its answer. */
    return message_has(m, SLOT_OBSERVE) && !(m->type == TYPE_ACK && m->mid == x->mid) ? STEP_WAIT
                                                                                      : STEP_DONE;
}

enum exchange_step exchange_continue(struct gun *g, uint32_t index, const struct message *m)
{
    unsigned kind = g->forms.all[g->slots[index].form].kind;
    enum exchange_step step;

    if (kind == GUN_OBSERVE)
        step = continue_observe(g, index, m);
    else if (kind == GUN_BLOCK)
        step = continue_download(g, index, m);
    else
        step = continue_upload(g, index, m);
    if (step == STEP_NEXT) {
        g->more[index].started = true;
        /* A token of its own for each block, so that a repeated answer is not taken for the next.
         */
        if (kind != GUN_OBSERVE)
            g->slots[index].sequence++;
    }
    return step;
}
