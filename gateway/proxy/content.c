#include "gateway/proxy/content.h"

#include <errno.h>

#include "gateway/hash.h"

int contents_init(struct contents *c, uint32_t count, uint64_t cache_bytes, uint64_t assembly_bytes,
                  uint64_t held_chunks)
{
    int err = pool_init(&c->pool, sizeof(struct content), count);

    c->cached = c->held = c->reserved = 0;
    c->assembly_max = (uint32_t)(assembly_bytes / CHUNK_BYTES);
    return err ? err
               : chunks_init(&c->chunks, cache_bytes + assembly_bytes + held_chunks * CHUNK_BYTES);
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

bool contents_append_held(struct contents *c, struct rope *rope, const void *data, size_t length)
{
    uint32_t growth = rope_growth(rope, length);

    if (!rope_append(&c->chunks, rope, data, length))
        return false;
    c->held += growth;
    return true;
}

void contents_free_held(struct contents *c, struct rope *rope)
{
    c->held -= rope_chunks(rope);
    rope_free(&c->chunks, rope);
}

static bool append(struct contents *c, struct content *content, const void *bytes, size_t length)
{
    return content->held ? contents_append_held(c, &content->rope, bytes, length)
                         : contents_append(c, &content->rope, bytes, length);
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

static struct content *content_new(struct contents *c, uint8_t code)
{
    struct content *content = pool_get(&c->pool);

    if (!content)
        return NULL;
    content->rope = ROPE_EMPTY;
    content->refs = 1;
    content->options_length = 0;
    content->payload_length = 0;
    content->code = code;
    content->own_etag = content->own = content->held = false;
    content->pins = 0;
    content->cursor = ROPE_START;
    content->etag.length = 0;
    return content;
}

uint32_t content_create(struct contents *c, const struct message *response, uint64_t now_us)
{
    struct content *content = content_new(c, response->code);
    uint8_t options[CONTENT_OPTIONS_MAX + 64]; /* without some, others take a byte or two more */
    size_t length;

    if (!content)
        return CONTENT_NONE;
    length = keep_options(response, options, sizeof(options));
    content->options_length = (uint16_t)length;
    content->payload_length = response->payload_length;
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

uint32_t content_own(struct contents *c, uint8_t code, const uint8_t *options, uint16_t length,
                     bool held)
{
    struct content *content = content_new(c, code);

    if (!content)
        return CONTENT_NONE;
    content->own = true;
    content->held = held;
    content->has_max_age = false;
    content->max_age_s = MAX_AGE_DEFAULT_S;
    content->received_us = 0;
    content->options_length = length;
    if (append(c, content, options, length))
        return pool_index(&c->pool, content);
    pool_put(&c->pool, content);
    return CONTENT_NONE;
}

bool content_extend(struct contents *c, uint32_t index, const void *payload, size_t length)
{
    struct content *content = content_at(c, index);

    if (!append(c, content, payload, length))
        return false;
    content->payload_length += (uint32_t)length;
    return true;
}

void content_let_go(struct contents *c, uint32_t index)
{
    struct content *content = content_at(c, index);
    uint32_t chunks = rope_chunks(&content->rope);

    if (!content->held)
        return;
    content->held = false;
    c->held -= chunks;
    if (content->pins)
        c->reserved -= chunks;
}

bool content_pin(struct contents *c, uint32_t index)
{
    struct content *content = content_at(c, index);
    uint32_t chunks = rope_chunks(&content->rope);

    if (content->held && content->pins == 0) {
        if (contents_assembling(c) + chunks > c->assembly_max)
            return false;
        c->reserved += chunks;
    }
    content->pins++;
    content->refs++;
    return true;
}

void content_unpin(struct contents *c, uint32_t index)
{
    struct content *content;

    if (index == CONTENT_NONE)
        return;
    content = content_at(c, index);
    if (--content->pins == 0 && content->held)
        c->reserved -= rope_chunks(&content->rope);
    content_release(c, index);
}

void content_release(struct contents *c, uint32_t index)
{
    struct content *content;

    if (index == CONTENT_NONE)
        return;
    content = content_at(c, index);
    if (--content->refs)
        return;
    content_let_go(c, index);
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
