#include "gateway/proxy/content.h"

#include <errno.h>

#include "gateway/hash.h"

int contents_init(struct contents *c, uint32_t count, uint64_t cache_bytes, uint64_t assembly_bytes)
{
    int err = pool_init(&c->pool, sizeof(struct content), count);

    c->cached = 0;
    c->assembly_max = (uint32_t)(assembly_bytes / CHUNK_BYTES);
    return err ? err : chunks_init(&c->chunks, cache_bytes + assembly_bytes);
}

void contents_fini(struct contents *c)
{
    chunks_fini(&c->chunks);
    pool_fini(&c->pool);
}

bool contents_append(struct contents *c, struct rope *rope, const void *data, size_t length)
{
    uint32_t growth = rope_growth(rope, length);

    return contents_assembling(c) + growth <= c->assembly_max &&
           rope_append(&c->chunks, rope, data, length);
}

/* Options that are not kept: they belong to one exchange, or are told anew. */
static bool is_kept(uint16_t number, uint8_t code)
{
    switch (number) {
    case OPTION_SIZE1: /* how much the origin would have taken (RFC 7959 2.9.3) */
        return code == CODE_REQUEST_ENTITY_TOO_LARGE;
    case OPTION_ETAG:
    case OPTION_OBSERVE:
    case OPTION_MAX_AGE:
    case OPTION_BLOCK1:
    case OPTION_BLOCK2:
    case OPTION_SIZE2:
        return false;
    default:
        return true;
    }
}

static size_t keep_options(const struct message *response, uint8_t *out, size_t room)
{
    struct encoder e = {.data = out, .room = (uint32_t)room};
    struct option_cursor cursor = option_cursor(response);
    struct option_view view;

    while (option_next(&cursor, &view))
        if (is_kept(cursor.number, response->code))
            encoder_option(&e, cursor.number, view.value, view.length);
    return encoder_end(&e);
}

static void read_freshness(struct content *content, const struct message *response, uint64_t now_us)
{
    content->has_max_age = message_has(response, SLOT_MAX_AGE);
    content->max_age_s = message_uint(response, SLOT_MAX_AGE, MAX_AGE_DEFAULT_S);
    content->received_us = now_us;
}

uint32_t content_create(struct contents *c, const struct message *response, uint64_t now_us)
{
    struct content *content = pool_get(&c->pool);
    uint8_t options[CONTENT_OPTIONS_MAX + 64]; /* without some, others take a byte or two more */
    size_t length;

    if (!content)
        return CONTENT_NONE;
    length = keep_options(response, options, sizeof(options));
    content->rope = ROPE_EMPTY;
    content->refs = 1;
    content->options_length = (uint16_t)length;
    content->payload_length = response->payload_length;
    content->code = response->code;
    content->own_etag = false;
    content->cursor = ROPE_START;
    content->etag.length = 0;
    if (message_has(response, SLOT_ETAG)) {
        content->etag.length = (uint8_t)response->first[SLOT_ETAG].length;
        memcpy(content->etag.bytes, response->first[SLOT_ETAG].value, content->etag.length);
    }
    read_freshness(content, response, now_us);
    if (contents_append(c, &content->rope, options, length) &&
        contents_append(c, &content->rope, response->payload, response->payload_length))
        return pool_index(&c->pool, content);
    rope_free(&c->chunks, &content->rope);
    pool_put(&c->pool, content);
    return CONTENT_NONE;
}

bool content_extend(struct contents *c, uint32_t index, const void *payload, size_t length)
{
    struct content *content = content_at(c, index);

    if (!contents_append(c, &content->rope, payload, length))
        return false;
    content->payload_length += (uint32_t)length;
    return true;
}

void content_release(struct contents *c, uint32_t index)
{
    struct content *content;

    if (index == CONTENT_NONE)
        return;
    content = content_at(c, index);
    if (--content->refs)
        return;
    rope_free(&c->chunks, &content->rope);
    pool_put(&c->pool, content);
}

void content_tag(struct contents *c, struct content *content)
{
    uint8_t part[1024];
    struct rope_cursor cursor = ROPE_START;
    uint64_t hash = content->code;

    if (content->etag.length)
        return;
    for (uint32_t at = 0; at < content->rope.length;) {
        uint32_t length = content->rope.length - at;

        if (length > sizeof(part))
            length = sizeof(part);
        rope_read(&c->chunks, &content->rope, &cursor, at, part, length);
        hash = hash_bytes(part, length, hash);
        at += length;
    }
    memcpy(content->etag.bytes, &hash, 4);
    content->etag.length = 4;
    content->own_etag = true;
}

void content_refresh(struct content *content, const struct message *valid, uint64_t now_us)
{
    read_freshness(content, valid, now_us);
}
