#include <stdio.h>
#include <string.h>

#include "gateway/hash.h"
#include "tests/sim/fleet.h"

struct request request_make(uint8_t method, uint8_t type, const char *path)
{
    struct request r = {.method = method, .type = type, .observe = -1, .accept = -1, .size1 = -1};

    snprintf(r.path, sizeof(r.path), "%s", path);
    return r;
}

struct response response_make(uint8_t code)
{
    return (struct response){
        .code = code, .observe = -1, .max_age = -1, .size1 = -1, .size2 = -1, .format = -1};
}

static void write_path(struct encoder *e, const char *path)
{
    while (*path == '/') {
        size_t length = strcspn(++path, "/");

        encoder_option(e, OPTION_URI_PATH, path, length);
        path += length;
    }
}

static void write_number(struct encoder *e, uint16_t number, int64_t value)
{
    if (value >= 0)
        encoder_uint(e, number, (uint32_t)value);
}

static void write_block(struct encoder *e, uint16_t number, bool has, const struct block *b)
{
    if (has)
        encoder_uint(e, number, block_encode(b));
}

size_t request_write(const struct request *r, uint8_t *out, size_t room, uint16_t mid,
                     const uint8_t *token, size_t token_length)
{
    struct encoder e;

    encoder_begin(&e, out, room, r->type, r->method, mid, token, token_length);
    if (r->if_match.length)
        encoder_option(&e, OPTION_IF_MATCH, r->if_match.value, r->if_match.length);
    for (unsigned i = 0; i < r->etag_count; i++)
        encoder_option(&e, OPTION_ETAG, r->etags[i].value, r->etags[i].length);
    if (r->if_none_match)
        encoder_option(&e, OPTION_IF_NONE_MATCH, NULL, 0);
    write_number(&e, OPTION_OBSERVE, r->observe);
    write_path(&e, r->path);
    if (r->query[0])
        encoder_option(&e, OPTION_URI_QUERY, r->query, strlen(r->query));
    write_number(&e, OPTION_ACCEPT, r->accept);
    write_block(&e, OPTION_BLOCK2, r->has_block2, &r->block2);
    write_block(&e, OPTION_BLOCK1, r->has_block1, &r->block1);
    write_number(&e, OPTION_SIZE1, r->size1);
    if (r->echo_length)
        encoder_option(&e, OPTION_ECHO, r->echo, r->echo_length);
    if (r->tag_length)
        encoder_option(&e, OPTION_REQUEST_TAG, r->tag, r->tag_length);
    if (r->safe)
        encoder_uint(&e, OPTION_SAFE, r->safe);
    if (r->unkeyed)
        encoder_uint(&e, OPTION_UNKEYED, r->unkeyed);
    encoder_payload(&e, r->payload, r->payload_length);
    return encoder_end(&e);
}

size_t response_write(const struct response *r, uint8_t *out, size_t room, uint8_t type,
                      uint16_t mid, const uint8_t *token, size_t token_length)
{
    struct encoder e;

    encoder_begin(&e, out, room, type, r->code, mid, token, token_length);
    if (r->etag.length)
        encoder_option(&e, OPTION_ETAG, r->etag.value, r->etag.length);
    write_number(&e, OPTION_OBSERVE, r->observe);
    write_number(&e, OPTION_CONTENT_FORMAT, r->format);
    write_number(&e, OPTION_MAX_AGE, r->max_age);
    write_block(&e, OPTION_BLOCK2, r->has_block2, &r->block2);
    write_block(&e, OPTION_BLOCK1, r->has_block1, &r->block1);
    write_number(&e, OPTION_SIZE2, r->size2);
    write_number(&e, OPTION_SIZE1, r->size1);
    encoder_payload(&e, r->payload, r->payload_length);
    return encoder_end(&e);
}

void response_cut(struct response *r, const uint8_t *body, size_t length, struct block block)
{
    size_t size = block_size(&block), at = block.number * size;

    r->has_block2 = true;
    r->block2 = block;
    r->block2.more = at + size < length;
    r->payload = body + (at < length ? at : length);
    r->payload_length = at + size < length ? size : length - (at < length ? at : length);
}

static void join(const struct message *m, enum option_slot slot, char before, char *out,
                 size_t room)
{
    struct option_cursor c = option_cursor_at(m, slot);
    struct option_view view;
    size_t at = 0;

    while (option_next_same(&c, &view) && at + view.length + 2 <= room) {
        out[at++] = before;
        memcpy(out + at, view.value, view.length);
        at += view.length;
    }
    out[at] = '\0';
}

void message_path(const struct message *m, char *out, size_t room)
{
    join(m, SLOT_URI_PATH, '/', out, room);
}

void message_query(const struct message *m, char *out, size_t room)
{
    join(m, SLOT_URI_QUERY, '&', out, room);
    if (out[0]) /* without the '&' before the first */
        memmove(out, out + 1, strlen(out));
}

bool message_block(const struct message *m, enum option_slot slot, struct block *out)
{
    return message_has(m, slot) && block_decode(message_uint(m, slot, 0), out) == 0;
}

struct etag message_etag(const struct message *m)
{
    struct etag etag = {0};

    if (message_has(m, SLOT_ETAG)) {
        etag.length = (uint8_t)m->first[SLOT_ETAG].length;
        memcpy(etag.value, m->first[SLOT_ETAG].value, etag.length);
    }
    return etag;
}

bool message_is_etag(const struct message *m, const struct etag *etag)
{
    struct etag is = message_etag(m);

    return is.length == etag->length && memcmp(is.value, etag->value, is.length) == 0;
}

/* ---- bodies ---- */

void body_write(uint8_t *out, size_t length, uint32_t who, uint32_t version)
{
    for (size_t at = 0; at < length; at += BODY_LINE) {
        uint32_t line[BODY_LINE / 4] = {who, version, (uint32_t)(at / BODY_LINE)};

        line[3] = (uint32_t)hash_bytes(line, 12, 11);
        memcpy(out + at, line, length - at < BODY_LINE ? length - at : BODY_LINE);
    }
}

bool body_check(const uint8_t *body, size_t length, uint32_t who, uint32_t *version)
{
    if (length < BODY_LINE)
        return false;
    memcpy(version, body + 4, 4);
    for (size_t at = 0; at < length; at += BODY_LINE) {
        uint32_t line[BODY_LINE / 4] = {who, *version, (uint32_t)(at / BODY_LINE)};

        line[3] = (uint32_t)hash_bytes(line, 12, 11);
        if (memcmp(body + at, line, length - at < BODY_LINE ? length - at : BODY_LINE) != 0)
            return false;
    }
    return true;
}

size_t body_length(uint64_t seed, uint32_t who, uint32_t version, size_t min, size_t max)
{
    uint32_t both[2] = {who, version};

    return min + hash_bytes(both, sizeof(both), seed) % (max - min + 1);
}

struct etag body_etag(uint32_t who, uint32_t version)
{
    struct etag etag = {.length = 8};

    memcpy(etag.value, &who, 4);
    memcpy(etag.value + 4, &version, 4);
    return etag;
}
