/* Flights of messages to the server: fragments, records, datagrams (RFC 6347 4.2.3, 4.2.4). */
#include <string.h>

#include "tests/dtls/peer_parts.h"

#define RECORD_OVERHEAD 96 /* header, nonce, CID, type and tag, at most; padding comes on top */
#define DATAGRAM_BYTES  1200

/* A datagram that records are put into. */
struct datagram {
    struct peer *peer;
    size_t length;
    uint8_t bytes[PEER_RECORD_MAX];
};

/* Not the bytes: they are many. */
static void datagram_begin(struct datagram *d, struct peer *p)
{
    d->peer = p;
    d->length = 0;
}

static void datagram_end(struct datagram *d)
{
    if (d->length)
        d->peer->setup.events->send(d->peer->setup.context, d->bytes, d->length);
    d->length = 0;
}

static size_t datagram_limit(const struct peer *p)
{
    return p->setup.datagram_bytes ? p->setup.datagram_bytes : DATAGRAM_BYTES;
}

static void datagram_put(struct datagram *d, uint16_t epoch, uint8_t type, const void *content,
                         size_t length)
{
    struct peer *p = d->peer;
    uint8_t sealed[PEER_RECORD_MAX];
    struct peer_record record;
    int size;

    peer_record_fill(p, epoch, type, content, length, &record);
    size = peer_seal(p, &record, sealed, sizeof(sealed));
    if (size < 0)
        return;
    p->write_sequence[epoch]++;
    if (d->length + (size_t)size > datagram_limit(p))
        datagram_end(d);
    memcpy(d->bytes + d->length, sealed, (size_t)size);
    d->length += (size_t)size;
    if (p->setup.separate || p->setup.fragment_bytes)
        datagram_end(d);
}

/* One message, in as many fragments as it takes. `message` has the header of one fragment. */
static void message_put(struct datagram *d, uint16_t epoch, const uint8_t *message, size_t length)
{
    size_t body = length - MESSAGE_HEADER, offset = 0, most, part;
    uint8_t fragment[PEER_CONTENT_MAX];

    most = d->peer->setup.fragment_bytes;
    if (most == 0)
        most = datagram_limit(d->peer) - RECORD_OVERHEAD - MESSAGE_HEADER - d->peer->setup.padding;
    do {
        part = body - offset < most ? body - offset : most;
        memcpy(fragment, message, MESSAGE_HEADER);
        peer_number_write(fragment + 6, offset, 3);
        peer_number_write(fragment + 9, part, 3);
        memcpy(fragment + MESSAGE_HEADER, message + MESSAGE_HEADER + offset, part);
        datagram_put(d, epoch, PEER_HANDSHAKE, fragment, MESSAGE_HEADER + part);
        offset += part;
    } while (offset < body);
}

void peer_flight_clear(struct peer *p)
{
    peer_bytes_clear(&p->handshake->flight);
    p->handshake->change_before = NO_CHANGE;
    p->handshake->flight_count = 0;
    p->handshake->sent = 0;
}

void peer_flight_add(struct peer *p, enum message_kind kind, const struct bytes *body)
{
    struct peer_handshake *h = p->handshake;
    struct bytes *flight = &h->flight;
    size_t begin = flight->length;

    peer_bytes_put_number(flight, kind, 1);
    peer_bytes_put_number(flight, body->length, 3);
    peer_bytes_put_number(flight, h->next_out++, 2);
    peer_bytes_put_number(flight, 0, 3);
    peer_bytes_put_number(flight, body->length, 3);
    peer_bytes_put(flight, body->data, body->length);
    flight->failed |= body->failed;
    h->flight_count++;
    if (!flight->failed)
        peer_bytes_put(&h->transcript, flight->data + begin, flight->length - begin);
}

void peer_flight_change(struct peer *p)
{
    p->handshake->change_before = p->handshake->flight_count;
}

void peer_flight_repeat(struct peer *p)
{
    struct peer_handshake *h = p->handshake;
    struct datagram d;
    uint16_t epoch = 0;
    unsigned number = 0;
    size_t length;

    datagram_begin(&d, p);
    for (size_t at = 0; at < h->flight.length; at += length, number++) {
        if (number == h->change_before) {
            datagram_put(&d, 0, PEER_CHANGE_CIPHER_SPEC, "\x01", 1);
            epoch = p->write_epoch = 1;
        }
        length = MESSAGE_HEADER + peer_number_read(h->flight.data + at + 1, 3);
        message_put(&d, epoch, h->flight.data + at, length);
    }
    datagram_end(&d);
    h->sent++;
}

void peer_flight_begin(struct peer *p, uint64_t now_us)
{
    struct peer_handshake *h = p->handshake;

    h->timeout_us = p->setup.retransmit_us ? p->setup.retransmit_us : 1000000;
    p->due_us = now_us + h->timeout_us;
    peer_flight_repeat(p);
}

void peer_flight_last(struct peer *p)
{
    struct datagram d;
    uint8_t message[MESSAGE_HEADER + VERIFY_BYTES] = {FINISHED};

    datagram_begin(&d, p);
    peer_number_write(message + 1, VERIFY_BYTES, 3);
    peer_number_write(message + 4, p->finished_sequence, 2);
    peer_number_write(message + 9, VERIFY_BYTES, 3);
    memcpy(message + MESSAGE_HEADER, p->finished, VERIFY_BYTES);
    datagram_put(&d, 0, PEER_CHANGE_CIPHER_SPEC, "\x01", 1);
    message_put(&d, 1, message, sizeof(message));
    datagram_end(&d);
}
