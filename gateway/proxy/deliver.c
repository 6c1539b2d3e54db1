/* Answers to clients: whole or in blocks (RFC 7959 2.4), with the age taken off (RFC 7252 5.6.1),
 * or just the word that what the client has is valid (5.9.1.3). */
#include "gateway/proxy/proxy.h"

/* ---- to a request or to an exchange ---- */

static bool begin(struct proxy *p, const struct client *to, uint8_t code, struct reply *reply)
{
    return to->rq ? reply_begin(p->m, to->rq, code, reply)
                  : exchange_reply_begin(p->m, to->exchange, code, reply);
}

static bool end(struct proxy *p, const struct client *to, struct reply *reply)
{
    return to->rq ? reply_end(p->m, reply) : exchange_reply_end(p->m, to->exchange, reply);
}

void deliver_code(struct proxy *p, const struct client *to, uint8_t code, const char *diagnostic)
{
    if (to->rq)
        reply_code(p->m, to->rq, code, diagnostic);
    else
        exchange_reply_code(p->m, to->exchange, code, diagnostic);
}

/* ---- encoding ---- */

/* What is left of Max-Age; negative: the option is not sent. */
static int64_t max_age_left(const struct content *content, uint64_t now_us)
{
    uint32_t age_s = content_age_s(content, now_us);

    if (!content->has_max_age && age_s == 0)
        return -1;
    return content->max_age_s > age_s ? content->max_age_s - age_s : 0;
}

static unsigned add_options(struct proxy *p, struct content *content, struct part *part,
                            struct addition out[6])
{
    int64_t max_age = max_age_left(content, p->m->now);
    unsigned n = 0;

    if (part->in_blocks)
        content_tag(&p->contents, content);
    if (content->etag.length)
        out[n++] = addition_bytes(OPTION_ETAG, content->etag.bytes, content->etag.length);
    if (part->number >= 0)
        out[n++] = addition_uint(OPTION_OBSERVE, (uint32_t)part->number);
    if (max_age >= 0)
        out[n++] = addition_uint(OPTION_MAX_AGE, (uint32_t)max_age);
    if (part->in_blocks && !part->valid)
        out[n++] = addition_uint(OPTION_BLOCK2, block_encode(&part->block));
    if (part->block1 >= 0)
        out[n++] = addition_uint(OPTION_BLOCK1, (uint32_t)part->block1);
    if (part->in_blocks && !part->valid && part->block.number == 0)
        out[n++] = addition_uint(OPTION_SIZE2, content->payload_length);
    return n;
}

static void put_payload(struct proxy *p, struct encoder *e, struct content *content, uint32_t from,
                        uint32_t length)
{
    if (length == 0)
        return;
    if (e->failed || e->room - e->length < length + 1) {
        e->failed = true;
        return;
    }
    e->data[e->length++] = MESSAGE_PAYLOAD_START;
    rope_read(&p->contents.chunks, &content->rope, &content->cursor, content->options_length + from,
              e->data + e->length, length);
    e->length += length;
}

void deliver_encode(struct proxy *p, struct encoder *e, struct part *part)
{
    struct content *content = content_at(&p->contents, part->content);
    uint32_t from = 0, length = content->payload_length;
    uint8_t buffer[MESSAGE_MAX_BYTES];
    struct addition additions[6];
    const uint8_t *options;
    unsigned n;

    if (part->in_blocks) {
        from = part->block.number * block_size(&part->block);
        length -= from;
        part->block.more = length > block_size(&part->block);
        if (part->block.more)
            length = block_size(&part->block);
    }
    n = add_options(p, content, part, additions);
    options = rope_view(&p->contents.chunks, &content->rope, 0, content->options_length, buffer);
    encoder_merge(e, options, part->valid ? 0 : content->options_length, additions, n);
    if (!part->valid)
        put_payload(p, e, content, from, length);
}

/* ---- choosing ---- */

struct part deliver_part(const struct proxy *p, const struct session *s, uint32_t content,
                         uint8_t szx)
{
    struct part part = {.content = content, .number = -1, .block1 = -1};
    uint8_t largest = messaging_listener(p->m, s)->block_szx;

    part.block.szx = szx < largest ? szx : largest;
    part.in_blocks = content_at(&p->contents, content)->payload_length > block_size(&part.block);
    return part;
}

static bool knows_it(const struct content *content, const struct wish *wish)
{
    if (content->code != CODE_CONTENT || content->etag.length == 0)
        return false;
    for (unsigned i = 0; i < wish->etag_count; i++)
        if (etag_equal(&content->etag, &wish->etags[i]))
            return true;
    return false;
}

/* ETag, Observe, Max-Age, Block2, Block1, Size2, a longer token's length, and the payload marker.
 */
#define ADDED_OPTIONS_BYTES 36u

/* An unsafe request is not made again for a proof of its client's address: what it gets is cut so
 * that it is no weapon (RFC 9175 2.4). */
static void shrink(const struct proxy *p, const struct client *to, const struct content *content,
                   struct part *part)
{
    const struct session *s = client_session(p, to);
    uint8_t method = to->rq ? to->rq->message->code : to->exchange->code;
    uint32_t token = to->rq ? to->rq->message->token_length : to->exchange->token_length;
    uint32_t longest, rest;

    if (code_is_safe(method))
        return; /* it is challenged */
    longest =
        reply_longest(p->m, s, to->rq ? to->rq->message->length : to->exchange->request_length);
    rest = MESSAGE_HEADER_BYTES + token + content->options_length + ADDED_OPTIONS_BYTES;
    if (longest == 0 || content->payload_length + rest <= longest)
        return;
    while (part->block.szx && block_size(&part->block) + rest > longest)
        part->block.szx--;
    part->in_blocks = content->payload_length > block_size(&part->block);
}

/* The block that was asked for, in blocks of the size that it gets: false when there is none. */
static bool find_block(const struct content *content, const struct wish *wish, struct part *part)
{
    uint64_t offset = (uint64_t)wish->block2.number * block_size(&wish->block2);

    bool is_error = code_class(content->code) != 2;

    if (is_error && offset >= content->payload_length)
        return true; /* it is the answer to any block of what is not there */
    part->block.number = (uint32_t)(offset / block_size(&part->block));
    if (wish->has_block2 && content->payload_length && !is_error)
        part->in_blocks = true;
    return offset == 0 || offset < content->payload_length;
}

/* ---- as it is ---- */

/* Options of an answer that mean the same to the client: no age has been taken off Max-Age yet. */
#define END_TO_END (SLOT_BIT(SLOT_CONTENT_FORMAT) | SLOT_BIT(SLOT_ETAG) | SLOT_BIT(SLOT_MAX_AGE))

/* Header, token and its extended length, and what comes behind them in an answer. */
static uint32_t length_with_token(const struct message *msg, uint32_t token_length)
{
    return MESSAGE_HEADER_BYTES + 2 + token_length +
           (uint32_t)(msg->length - (msg->options - msg->data));
}

bool deliver_is_simple(const struct proxy *p, const struct exchange *x, const struct wish *wish,
                       const struct message *msg)
{
    const struct session *s = session_at(&p->m->sessions, x->session);
    struct block largest = {.szx = messaging_listener(p->m, s)->block_szx};

    /* Each of its options is one of those, once. */
    if ((msg->present & ~END_TO_END) || msg->option_count != __builtin_popcount(msg->present))
        return false;
    if (wish->observe || wish->has_block1 || wish->has_block2 || wish->etag_count)
        return false;
    return code_is_safe(x->code) && msg->payload_length <= block_size(&largest) &&
           length_with_token(msg, x->token_length) <= messaging_room(p->m, &s->flow);
}

void deliver_as_it_is(struct proxy *p, struct exchange *x, const struct message *msg)
{
    struct reply reply;

    if (!exchange_reply_begin(p->m, x, msg->code, &reply))
        return;
    encoder_raw(&reply.encoder, msg->options, (size_t)(msg->length - (msg->options - msg->data)));
    if (!exchange_reply_end(p->m, x, &reply)) /* cannot be: it has been measured */
        exchange_abandon(p->m, x);
}

/* ---- delivering ---- */

/* True when the client has got it, and not a challenge or nothing in its place. */
static bool deliver_part_to(struct proxy *p, const struct client *to, struct part *part)
{
    const struct content *content = content_at(&p->contents, part->content);
    struct reply reply;

    for (;;) {
        if (!begin(p, to, part->valid ? CODE_VALID : content->code, &reply))
            return false;
        deliver_encode(p, &reply.encoder, part);
        if (end(p, to, &reply))
            return !reply.suppressed && reply.code == (part->valid ? CODE_VALID : content->code);
        if (part->in_blocks && part->block.szx == 0)
            break;
        /* It does not fit beside a long token: the same bytes in smaller blocks. */
        if (part->in_blocks) {
            part->block.szx--;
            part->block.number *= 2;
        }
        part->in_blocks = true;
    }
    p->m->counters->forward_failures++;
    deliver_code(p, to, CODE_BAD_GATEWAY, "the response is too large for this link");
    return false;
}

bool deliver(struct proxy *p, const struct client *to, uint32_t index, const struct wish *wish,
             struct observation *observation)
{
    struct session *s = client_session(p, to);
    struct content *content = content_at(&p->contents, index);
    struct part part = deliver_part(p, s, index, wish->block2.szx);
    bool delivered;

    content_hold(&p->contents, index); /* what follows may change what is stored */
    shrink(p, to, content, &part);
    if (wish->has_block1)
        part.block1 = wish->block1;
    if (observation)
        part.number = observation_next_number(p, observation);
    part.valid = knows_it(content, wish);
    if (!part.valid && !find_block(content, wish, &part)) {
        deliver_code(p, to, CODE_BAD_REQUEST, "no such block");
        content_release(&p->contents, index);
        return false;
    }
    delivered = deliver_part_to(p, to, &part);
    if (delivered && part.in_blocks && !part.valid) {
        if (part.block.more)
            transfer_pin(p, s, wish, index);
        else
            transfer_done(p, s, wish);
    }
    content_release(&p->contents, index);
    return delivered;
}
