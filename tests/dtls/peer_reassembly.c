/* Messages from the server, whose fragments come in any order and more than once (RFC 6347 4.2.3).
 */
#include <stdlib.h>
#include <string.h>

#include "tests/dtls/peer_parts.h"

struct fragment {
    uint8_t kind;
    uint16_t sequence;
    uint32_t whole, offset, length;
    const uint8_t *data;
};

static bool fragment_read(struct reader *r, struct fragment *f)
{
    f->kind = (uint8_t)peer_reader_number(r, 1);
    f->whole = (uint32_t)peer_reader_number(r, 3);
    f->sequence = (uint16_t)peer_reader_number(r, 2);
    f->offset = (uint32_t)peer_reader_number(r, 3);
    f->length = (uint32_t)peer_reader_number(r, 3);
    f->data = peer_reader_take(r, f->length);
    return !r->failed && f->whole <= MESSAGE_MAX && f->offset + f->length <= f->whole;
}

static void incoming_free(struct incoming *m)
{
    free(m->body);
    *m = (struct incoming){0};
}

static bool incoming_begin(struct incoming *m, const struct fragment *f, uint8_t epoch)
{
    m->body = calloc(1, MESSAGE_HEADER + f->whole + f->whole / 8 + 1);
    if (!m->body)
        return false;
    m->map = m->body + MESSAGE_HEADER + f->whole;
    m->length = f->whole;
    m->kind = f->kind;
    m->epoch = epoch;
    m->body[0] = f->kind; /* as if it had come in one piece (RFC 6347 4.2.6) */
    peer_number_write(m->body + 1, f->whole, 3);
    peer_number_write(m->body + 4, f->sequence, 2);
    peer_number_write(m->body + 9, f->whole, 3);
    return true;
}

static void incoming_add(struct incoming *m, const struct fragment *f)
{
    memcpy(m->body + MESSAGE_HEADER + f->offset, f->data, f->length);
    for (uint32_t i = f->offset; i < f->offset + f->length; i++) {
        m->have += !(m->map[i / 8] >> i % 8 & 1);
        m->map[i / 8] |= (uint8_t)(1u << i % 8);
    }
}

/* False for one that contradicts what came before. */
static bool fragment_take(struct peer_handshake *h, const struct fragment *f, uint8_t epoch)
{
    struct incoming *m = &h->incoming[f->sequence % MESSAGES_AHEAD];

    if (f->sequence >= h->next_in + MESSAGES_AHEAD)
        return false;
    if (!m->body && !incoming_begin(m, f, epoch))
        return false;
    if (m->length != f->whole || m->kind != f->kind || m->epoch != epoch)
        return false;
    incoming_add(m, f);
    return true;
}

bool peer_reassembly_take(struct peer_handshake *h, const uint8_t *data, size_t length,
                          uint8_t epoch, int *old)
{
    struct reader r = {.at = data, .end = data + length};
    struct fragment f;

    *old = -1;
    while (reader_left(&r)) {
        if (!fragment_read(&r, &f))
            return false;
        if (f.sequence < h->next_in)
            *old = f.kind;
        else if (!fragment_take(h, &f, epoch))
            return false;
    }
    return true;
}

struct incoming *peer_reassembly_next(struct peer_handshake *h)
{
    struct incoming *m = &h->incoming[h->next_in % MESSAGES_AHEAD];

    return m->body && m->have == m->length ? m : NULL;
}

void peer_reassembly_drop(struct peer_handshake *h)
{
    incoming_free(&h->incoming[h->next_in % MESSAGES_AHEAD]);
    h->next_in++;
}

void peer_reassembly_free(struct peer_handshake *h)
{
    for (unsigned i = 0; i < MESSAGES_AHEAD; i++)
        incoming_free(&h->incoming[i]);
}
