/* Block-wise transfers with clients (RFC 7959): bodies that come in blocks, and answers that are
 * being fetched in blocks and must stay the same meanwhile. Each belongs to one session, and is
 * found by the request's key without its payload, Request-Tag included (RFC 9175 3.3). */
#include <stddef.h>

#include "gateway/proxy/proxy.h"

#define BY_SESSION offsetof(struct transfer, by_session)

static void touch(struct proxy *p, struct transfer *t)
{
    wheel_arm(&p->m->wheel, &t->expiry, p->m->now + p->m->config->limits.transfer_idle_us);
}

static struct transfer *find(struct proxy *p, struct session *s, uint64_t name, bool upload)
{
    uint32_t index = s->side.client.transfers;

    while (index != POOL_NONE) {
        struct transfer *t = pool_at(&p->transfers, index);

        if (t->name == name && (t->content == CONTENT_NONE) == upload)
            return t;
        index = t->by_session.next;
    }
    return NULL;
}

static void close_transfer(struct proxy *p, struct transfer *t)
{
    struct session *s = session_at(&p->m->sessions, t->session);

    wheel_cancel(&p->m->wheel, &t->expiry);
    chain_remove(&s->side.client.transfers, &p->transfers, BY_SESSION,
                 pool_index(&p->transfers, t));
    content_unpin(&p->contents, t->content);
    rope_free(&p->contents.chunks, &t->upload);
    pool_put(&p->transfers, t);
}

/* A client's oldest one, when it has as many as it may have: a chain stays short, and nobody takes
 * all. */
static struct transfer *surplus(const struct proxy *p, const struct session *s)
{
    uint32_t index = s->side.client.transfers, n = 0;
    struct transfer *last = NULL;

    for (; index != POOL_NONE; n++) {
        last = pool_at(&p->transfers, index);
        index = last->by_session.next;
    }
    return n >= p->m->config->limits.client_requests ? last : NULL;
}

static struct transfer *open_transfer(struct proxy *p, struct session *s, uint64_t name)
{
    struct transfer *t = surplus(p, s);

    if (t) {
        p->m->counters->transfers_expired++;
        close_transfer(p, t);
    }
    t = pool_get(&p->transfers);
    if (!t)
        return NULL;
    timer_init(&t->expiry, TIMER_TRANSFER);
    t->name = name;
    t->body = 0;
    t->session = session_index(&p->m->sessions, s);
    t->content = CONTENT_NONE;
    t->upload = ROPE_EMPTY;
    t->refused = false;
    chain_push(&s->side.client.transfers, &p->transfers, BY_SESSION, pool_index(&p->transfers, t));
    touch(p, t);
    return t;
}

static void on_expiry(void *context, struct timer *timer, uint64_t now_us)
{
    struct proxy *p = context;

    (void)now_us;
    p->m->counters->transfers_expired++;
    close_transfer(
        p, (struct transfer *)(void *)((uint8_t *)timer - offsetof(struct transfer, expiry)));
}

int transfers_init(struct proxy *p)
{
    wheel_handle(&p->m->wheel, TIMER_TRANSFER, on_expiry, p);
    return pool_init(&p->transfers, sizeof(struct transfer), p->m->config->limits.transfers);
}

void transfers_fini(struct proxy *p)
{
    pool_fini(&p->transfers);
}

/* ---- answers in blocks ---- */

uint32_t transfer_find(struct proxy *p, struct session *s, const struct wish *wish)
{
    struct transfer *t = find(p, s, wish->transfer, false);

    /* A FETCH may leave its payload out when it asks for later blocks. */
    if (!t || (wish->body && t->body && wish->body != t->body))
        return CONTENT_NONE;
    touch(p, t);
    return t->content;
}

void transfer_pin(struct proxy *p, struct session *s, const struct wish *wish, uint32_t content)
{
    struct transfer *t = find(p, s, wish->transfer, false);

    if (!t) {
        t = open_transfer(p, s, wish->transfer);
        if (!t) { /* it may still be in the cache when the next block is asked for */
            p->m->counters->refused_transfers++;
            return;
        }
    }
    if (t->content != content) {
        if (!content_pin(&p->contents, content)) {
            p->m->counters->refused_transfers++;
            close_transfer(p, t);
            return;
        }
        content_unpin(&p->contents, t->content);
    }
    t->content = content;
    t->body = wish->body;
    touch(p, t);
}

void transfer_done(struct proxy *p, struct session *s, const struct wish *wish)
{
    uint64_t span_us = transmission_max_span_ms(s->transmission) * 1000;
    struct transfer *t = find(p, s, wish->transfer, false);

    if (t && span_us < p->m->config->limits.transfer_idle_us)
        wheel_arm(&p->m->wheel, &t->expiry, p->m->now + span_us);
}

void transfer_unpin(struct proxy *p, struct session *s, uint64_t name)
{
    struct transfer *t = find(p, s, name, false);

    if (t)
        close_transfer(p, t);
}

void transfer_close_all(struct proxy *p, struct session *s)
{
    while (s->side.client.transfers != POOL_NONE)
        close_transfer(p, pool_at(&p->transfers, s->side.client.transfers));
}

/* ---- bodies in blocks ---- */

/* RFC 7959 2.9.3: how large a body may be. */
static void refuse_size(struct proxy *p, const struct request *rq)
{
    struct reply reply;

    if (!reply_begin(p->m, rq, CODE_REQUEST_ENTITY_TOO_LARGE, &reply))
        return;
    encoder_uint(&reply.encoder, OPTION_SIZE1, p->m->config->limits.body);
    (void)reply_end(p->m, &reply);
}

static void ask_for_more(struct proxy *p, const struct request *rq, const struct block *block)
{
    uint8_t largest = messaging_listener(p->m, rq->session)->block_szx;
    struct block answer = *block;
    struct reply reply;

    if (answer.number == 0 && answer.szx > largest) /* smaller ones, please; no later change */
        answer.szx = largest;
    if (!reply_begin(p->m, rq, CODE_CONTINUE, &reply))
        return;
    encoder_uint(&reply.encoder, OPTION_BLOCK1, block_encode(&answer));
    (void)reply_end(p->m, &reply);
}

/* When half of the transfers are taken, only clients that have proven their address may begin one:
 * the first block of a body that never goes on costs an attacker one datagram in another's name. */
static bool must_prove(const struct proxy *p, const struct session *s)
{
    return !s->proven && p->m->config->limits.amplification &&
           pool_used(&p->transfers) >= p->transfers.capacity / 2;
}

/* The first block: begins, or begins anew. NULL when it has been answered. */
static struct transfer *begin_upload(struct proxy *p, const struct request *rq,
                                     const struct wish *wish)
{
    const struct message *msg = rq->message;
    struct transfer *t = find(p, rq->session, wish->transfer, true);
    uint32_t head = (uint32_t)sizeof(struct space) + p->key.options_length;

    if (message_uint(msg, SLOT_SIZE1, 0) > p->m->config->limits.body) {
        refuse_size(p, rq);
        return NULL;
    }
    if (!t && must_prove(p, rq->session)) {
        reply_challenge(p->m, rq);
        return NULL;
    }
    if (!t)
        t = open_transfer(p, rq->session, wish->transfer);
    if (t)
        rope_free(&p->contents.chunks, &t->upload);
    if (t && contents_append(&p->contents, &t->upload, p->key.bytes, head)) {
        t->refused = false;
        t->options_length = p->key.options_length;
        return t;
    }
    if (t)
        close_transfer(p, t);
    p->m->counters->refused_transfers++;
    reply_busy(p->m, rq, "no memory for another transfer");
    return NULL;
}

/* Where the next block has to begin. */
static uint32_t received(const struct transfer *t)
{
    return t->upload.length - (uint32_t)sizeof(struct space) - t->options_length;
}

/* False when the block does not continue the body; it has been answered. */
static bool continues(struct proxy *p, const struct request *rq, const struct transfer *t,
                      const struct block *block)
{
    uint64_t offset = (uint64_t)block->number * block_size(block);

    if (t && offset == received(t))
        return true;
    if (t && block->more && offset + block_size(block) == received(t))
        ask_for_more(p, rq, block); /* the last one again */
    else
        reply_code(p->m, rq, CODE_REQUEST_ENTITY_INCOMPLETE, NULL);
    return false;
}

bool transfer_upload(struct proxy *p, struct request *rq, const struct wish *wish,
                     const struct block *block, struct rope *body)
{
    const struct message *msg = rq->message;
    struct transfer *t;

    if (block->more ? msg->payload_length != block_size(block)
                    : msg->payload_length > block_size(block)) {
        reply_code(p->m, rq, CODE_BAD_REQUEST, "a block of the wrong length");
        return false;
    }
    if (block->number == 0)
        t = begin_upload(p, rq, wish);
    else
        t = find(p, rq->session, wish->transfer, true);
    if (block->number == 0 && !t)
        return false;
    if (t && t->refused) {
        refuse_size(p, rq);
        return false;
    }
    if (!continues(p, rq, t, block))
        return false;
    if (received(t) + (uint64_t)msg->payload_length > p->m->config->limits.body) {
        rope_free(&p->contents.chunks, &t->upload);
        t->refused = true; /* also when this answer is lost and the block comes again */
        refuse_size(p, rq);
        return false;
    }
    if (!contents_append(&p->contents, &t->upload, msg->payload, msg->payload_length)) {
        close_transfer(p, t);
        p->m->counters->refused_transfers++;
        reply_busy(p->m, rq, "no memory for the rest of it");
        return false;
    }
    touch(p, t);
    if (block->more) {
        ask_for_more(p, rq, block);
        return false;
    }
    *body = t->upload;
    t->upload = ROPE_EMPTY;
    close_transfer(p, t);
    return true;
}
