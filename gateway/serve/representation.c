#include "gateway/serve/representation.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/checksum.h"
#include "gateway/coap/block.h"
#include "gateway/hash.h"
#include "gateway/session/unsupported.h"

#define UNDERSTOOD                                                                      \
    (SLOT_BIT(SLOT_IF_MATCH) | SLOT_BIT(SLOT_URI_HOST) | SLOT_BIT(SLOT_IF_NONE_MATCH) | \
     SLOT_BIT(SLOT_URI_PORT) | SLOT_BIT(SLOT_URI_PATH) | SLOT_BIT(SLOT_URI_QUERY) |     \
     SLOT_BIT(SLOT_ACCEPT) | SLOT_BIT(SLOT_BLOCK2))

/* With no more than these, a GET asks for nothing but the representation. */
#define PLAIN                                                                      \
    (SLOT_BIT(SLOT_URI_HOST) | SLOT_BIT(SLOT_URI_PORT) | SLOT_BIT(SLOT_URI_PATH) | \
     SLOT_BIT(SLOT_URI_QUERY))

static void put_options(struct encoder *e, const struct representation *r)
{
    encoder_option(e, OPTION_ETAG, r->etag, sizeof(r->etag));
    if (r->has_content_format)
        encoder_uint(e, OPTION_CONTENT_FORMAT, r->content_format);
    if (r->has_max_age)
        encoder_uint(e, OPTION_MAX_AGE, r->max_age_s);
}

void representation_tag(struct representation *r)
{
    uint32_t seed = r->has_content_format ? 1u + r->content_format : 0;
    uint64_t hash = hash_bytes(r->payload, r->length, seed);

    memcpy(r->etag, &hash, sizeof(r->etag));
}

int representation_prepare(struct representation *r)
{
    uint8_t bytes[MESSAGE_HEADER_BYTES + REPRESENTATION_WHOLE_BYTES + 32];
    struct encoder e;
    uint8_t *tail;
    size_t length;

    representation_tag(r);
    r->tail = (struct tail){.bytes = NULL};
    if (r->length > REPRESENTATION_WHOLE_BYTES)
        return 0;
    encoder_begin(&e, bytes, sizeof(bytes), TYPE_ACK, CODE_CONTENT, 0, NULL, 0);
    put_options(&e, r);
    encoder_payload(&e, r->payload, r->length);
    length = encoder_end(&e);
    if (length < MESSAGE_HEADER_BYTES || length > sizeof(bytes))
        return -EMSGSIZE; /* cannot be: the options take less */
    length -= MESSAGE_HEADER_BYTES;
    tail = malloc(length);
    if (!tail)
        return -ENOMEM;
    memcpy(tail, bytes + MESSAGE_HEADER_BYTES, length);
    r->tail = (struct tail){tail, (uint16_t)length, checksum_bytes(0, tail, length)};
    return 0;
}

void representation_release(struct representation *r)
{
    free((void *)(uintptr_t)r->tail.bytes);
    r->tail.bytes = NULL;
}

static bool etag_among(const struct message *msg, enum option_slot slot,
                       const struct representation *r)
{
    struct option_cursor cursor = option_cursor_at(msg, slot);
    struct option_view view;

    while (option_next_same(&cursor, &view))
        if (view.length == sizeof(r->etag) && memcmp(view.value, r->etag, sizeof(r->etag)) == 0)
            return true;
    return false;
}

static bool has_empty(const struct message *msg, enum option_slot slot)
{
    struct option_cursor cursor = option_cursor_at(msg, slot);
    struct option_view view;

    while (option_next_same(&cursor, &view))
        if (view.length == 0)
            return true;
    return false;
}

bool representation_bad_option(struct messaging *m, const struct request *rq)
{
    uint16_t number = unsupported_option(rq->message, UNDERSTOOD);

    if (number)
        unsupported_refuse(m, rq, number);
    return number;
}

/* RFC 7959 2.4: the block that was asked for, or the first when the whole is too long. */
static void serve_block(struct messaging *m, const struct request *rq,
                        const struct representation *r, const struct block *asked)
{
    struct block block = *asked;
    uint64_t offset = (uint64_t)block.number * block_size(&block);
    uint32_t length = block_size(&block);
    struct reply reply;

    if (offset >= r->length && (block.number || r->length)) {
        reply_code(m, rq, CODE_BAD_REQUEST, "no such block");
        return;
    }
    if (length > r->length - offset)
        length = (uint32_t)(r->length - offset);
    block.more = offset + length < r->length;
    if (!reply_begin(m, rq, CODE_CONTENT, &reply))
        return;
    put_options(&reply.encoder, r);
    encoder_uint(&reply.encoder, OPTION_BLOCK2, block_encode(&block));
    if (block.number == 0)
        encoder_uint(&reply.encoder, OPTION_SIZE2, r->length);
    encoder_payload(&reply.encoder, r->payload + offset, length);
    if (reply_end(m, &reply))
        return;
    if (block.szx == 0) { /* not even 16 bytes fit beside the token */
        reply_code(m, rq, CODE_INTERNAL_SERVER_ERROR, NULL);
        return;
    }
    /* Does not fit beside a long token: the same bytes in smaller blocks. */
    block.szx--;
    block.number *= 2;
    serve_block(m, rq, r, &block);
}

static void serve_whole(struct messaging *m, const struct request *rq,
                        const struct representation *r)
{
    struct reply reply;
    bool fits;

    if (r->tail.bytes) {
        fits = reply_whole(m, rq, CODE_CONTENT, &r->tail);
    } else {
        if (!reply_begin(m, rq, CODE_CONTENT, &reply))
            return;
        put_options(&reply.encoder, r);
        encoder_payload(&reply.encoder, r->payload, r->length);
        fits = reply_end(m, &reply);
    }
    if (!fits)
        serve_block(m, rq, r, &(struct block){.szx = BLOCK_SZX_MAX});
}

static void serve_valid(struct messaging *m, const struct request *rq,
                        const struct representation *r)
{
    struct reply reply;

    if (!reply_begin(m, rq, CODE_VALID, &reply))
        return;
    encoder_option(&reply.encoder, OPTION_ETAG, r->etag, sizeof(r->etag));
    if (r->has_max_age)
        encoder_uint(&reply.encoder, OPTION_MAX_AGE, r->max_age_s);
    (void)reply_end(m, &reply);
}

/* The checks that end in an error, in the order of RFC 7252 5.8 and 5.10. True when one did. */
static bool refused(struct messaging *m, const struct request *rq, const struct representation *r)
{
    const struct message *msg = rq->message;

    if (representation_bad_option(m, rq))
        return true;
    if (msg->code != CODE_GET) {
        reply_code(m, rq, CODE_METHOD_NOT_ALLOWED, NULL);
        return true;
    }
    if (message_has(msg, SLOT_IF_NONE_MATCH) ||
        (message_has(msg, SLOT_IF_MATCH) && !has_empty(msg, SLOT_IF_MATCH) &&
         !etag_among(msg, SLOT_IF_MATCH, r))) {
        reply_code(m, rq, CODE_PRECONDITION_FAILED, NULL);
        return true;
    }
    if (message_has(msg, SLOT_ACCEPT) &&
        (!r->has_content_format || message_uint(msg, SLOT_ACCEPT, 0) != r->content_format)) {
        reply_code(m, rq, CODE_NOT_ACCEPTABLE, NULL);
        return true;
    }
    return false;
}

void representation_serve(struct messaging *m, struct request *rq, const struct representation *r)
{
    const struct message *msg = rq->message;
    struct block block = {.szx = BLOCK_SZX_MAX};

    if (!request_admit(m, rq, true))
        return;
    if (r->tail.bytes && msg->code == CODE_GET && !(msg->present & ~PLAIN) &&
        !msg->unknown_critical) {
        serve_whole(m, rq, r);
        return;
    }
    if (refused(m, rq, r))
        return;
    if (etag_among(msg, SLOT_ETAG, r)) {
        serve_valid(m, rq, r);
        return;
    }
    if (!message_has(msg, SLOT_BLOCK2)) {
        if (r->length <= REPRESENTATION_WHOLE_BYTES)
            serve_whole(m, rq, r);
        else
            serve_block(m, rq, r, &block);
        return;
    }
    if (block_decode(message_uint(msg, SLOT_BLOCK2, 0), &block) < 0)
        reply_code(m, rq, CODE_BAD_REQUEST, "reserved block size");
    else
        serve_block(m, rq, r, &block);
}
