/* Buffers that grow, and a cursor that does not run over. */
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "tests/dtls/peer_parts.h"

static bool make_room(struct bytes *b, size_t more)
{
    size_t room = b->room ? b->room : 256;
    uint8_t *data;

    if (b->failed)
        return false;
    while (room < b->length + more)
        room *= 2;
    if (room == b->room)
        return true;
    data = realloc(b->data, room);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->room = room;
    return true;
}

void peer_bytes_put(struct bytes *b, const void *data, size_t length)
{
    if (!make_room(b, length) || length == 0)
        return;
    memcpy(b->data + b->length, data, length);
    b->length += length;
}

void peer_bytes_put_number(struct bytes *b, uint64_t value, unsigned width)
{
    uint8_t number[8];

    peer_number_write(number, value, width);
    peer_bytes_put(b, number, width);
}

void peer_bytes_clear(struct bytes *b)
{
    b->length = 0;
}

void peer_bytes_free(struct bytes *b)
{
    if (b->data)
        OPENSSL_cleanse(b->data, b->room);
    free(b->data);
    *b = (struct bytes){0};
}

void peer_number_write(uint8_t *at, uint64_t value, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        at[i] = (uint8_t)(value >> 8 * (width - 1 - i));
}

uint64_t peer_number_read(const uint8_t *at, unsigned width)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < width; i++)
        value = value << 8 | at[i];
    return value;
}

const uint8_t *peer_reader_take(struct reader *r, size_t length)
{
    const uint8_t *at = r->at;

    if (r->failed || reader_left(r) < length) {
        r->failed = true;
        return NULL;
    }
    r->at += length;
    return at;
}

uint64_t peer_reader_number(struct reader *r, unsigned width)
{
    const uint8_t *at = peer_reader_take(r, width);

    return at ? peer_number_read(at, width) : 0;
}

struct reader peer_reader_vector(struct reader *r, unsigned width)
{
    size_t length = peer_reader_number(r, width);
    const uint8_t *at = peer_reader_take(r, length);

    if (!at)
        return (struct reader){.failed = true};
    return (struct reader){.at = at, .end = at + length};
}
