/* What we have to say: records that OpenSSL wrote are opened where they are sealed, and kept as
 * type, epoch, length and content. They are numbered when they are sent, so that one that is sent
 * again has a new number (RFC 6347 4.2.4), a ServerHello that of its ClientHello (4.2.1), and what
 * the client asked for in Connection IDs is put in. */
#include "gateway/security/handshake_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#define ENTRY_HEADER 4u /* type, epoch, length (2) */
#define ALERT_BYTES  2u

/* ---- keys ---- */

static const SSL_CIPHER *cipher_of(const struct handshake *h)
{
    const SSL_CIPHER *cipher = SSL_get_pending_cipher(h->ssl);

    return cipher ? cipher : SSL_get_current_cipher(h->ssl);
}

bool handshake_key(struct handshake *h)
{
    uint8_t master[RECORD_MASTER_BYTES], client[RECORD_RANDOM_BYTES], server[RECORD_RANDOM_BYTES];
    const SSL_SESSION *session = h->ssl ? SSL_get_session(h->ssl) : NULL;
    const SSL_CIPHER *cipher;
    bool derived;

    if (h->keyed)
        return true;
    if (!session || !(cipher = cipher_of(h)) ||
        SSL_SESSION_get_master_key(session, master, sizeof(master)) != sizeof(master))
        return false;
    SSL_get_client_random(h->ssl, client, sizeof(client));
    SSL_get_server_random(h->ssl, server, sizeof(server));
    h->cipher_suite = SSL_CIPHER_get_protocol_id(cipher);
    derived = suite_of(h->cipher_suite, &h->suite) &&
              record_derive(h->suite, master, client, server, h->client ? &h->key_out : &h->key_in,
                            h->client ? &h->key_in : &h->key_out) == 0;
    OPENSSL_cleanse(master, sizeof(master));
    if (!derived) {
        handshake_fail(h, ALERT_HANDSHAKE_FAILURE, "a cipher suite that is not served");
        return false;
    }
    (void)aead_prepare(h->all->aead, h->suite); /* without it records take longer */
    h->keyed = true;
    return true;
}

/* ---- sending ---- */

struct packer {
    struct handshake *h;
    size_t used; /* of all->datagram */
};

static void packer_flush(struct packer *p)
{
    const struct handshakes *all = p->h->all;

    if (p->used)
        all->ops.send(all->ops.context, p->h, all->datagram, p->used);
    p->used = 0;
}

static uint8_t cid_out(const struct handshake *h)
{
    return h->cid_used ? h->peer_cid_length : 0;
}

/* How long a record with so much content will be. */
static size_t record_bytes(const struct handshake *h, unsigned epoch, size_t length)
{
    if (epoch == 0)
        return RECORD_HEADER_BYTES + length;
    return record_lead(h->suite, cid_out(h)) + length + record_trail(h->suite, cid_out(h));
}

/* At `at`, where there is room. */
static int write_record(struct handshake *h, uint8_t *at, uint8_t type, unsigned epoch,
                        const uint8_t *content, size_t length)
{
    const struct record_mark mark = {
        .type = type,
        .epoch = (uint16_t)epoch,
        .sequence = h->sequences[epoch]++,
        .cid = h->peer_cid,
        .cid_length = cid_out(h),
    };

    if (epoch) {
        memcpy(at + record_lead(h->suite, mark.cid_length), content, length);
        return record_seal(h->all->aead, AEAD_NO_SLOT, &h->key_out, &mark, at, length);
    }
    at = parts_put(at, type, 1);
    at = parts_put(at, RECORD_VERSION_1_2, 2);
    at = parts_put(at, 0, 2);
    at = parts_put(at, mark.sequence, 6);
    at = parts_put(at, length, 2);
    memcpy(at, content, length);
    return (int)(RECORD_HEADER_BYTES + length);
}

static void packer_add(struct packer *p, uint8_t type, unsigned epoch, const uint8_t *content,
                       size_t length)
{
    struct handshake *h = p->h;
    size_t whole = record_bytes(h, epoch, length);
    int written;

    if (whole > h->room)
        return; /* never: OpenSSL has been told the room, and what is sealed is small */
    if (p->used + whole > h->room)
        packer_flush(p);
    written = write_record(h, h->all->datagram + p->used, type, epoch, content, length);
    if (written > 0)
        p->used += (size_t)written;
}

static void send_from(struct handshake *h, uint32_t begin)
{
    struct packer p = {.h = h};

    for (uint32_t at = begin, length; at < h->flight_length; at += ENTRY_HEADER + length) {
        const uint8_t *entry = h->flight + at;

        length = parts_number(entry + 2, 2);
        packer_add(&p, entry[0], entry[1], entry + ENTRY_HEADER, length);
    }
    packer_flush(&p);
    h->flight_sent = h->flight_length;
}

void flight_send(struct handshake *h)
{
    if (h->flight_sent < h->flight_length)
        send_from(h, h->flight_sent);
}

/* How many sequences of epoch 1 it takes to send all again. */
static unsigned sealed_count(const struct handshake *h)
{
    unsigned count = 0;

    for (uint32_t at = 0; at < h->flight_length;
         at += ENTRY_HEADER + parts_number(h->flight + at + 2, 2))
        count += h->flight[at + 1];
    return count;
}

void flight_repeat(struct handshake *h)
{
    if (h->state == HANDSHAKE_DONE && h->sequences[1] + sealed_count(h) > h->sequence_limit)
        return;
    send_from(h, 0);
}

static void send_alert(struct handshake *h, unsigned epoch, const uint8_t content[ALERT_BYTES])
{
    struct packer p = {.h = h};

    packer_add(&p, RECORD_ALERT, epoch, content, ALERT_BYTES);
    packer_flush(&p);
    if (content[0] == ALERT_FATAL && h->alert == 0)
        h->alert = content[1];
}

void flight_alert(struct handshake *h, enum alert alert)
{
    const uint8_t content[ALERT_BYTES] = {ALERT_FATAL, (uint8_t)alert};

    send_alert(h, h->sequences[1] > 0, content);
}

/* ---- keeping ---- */

static int flight_append(struct handshake *h, uint8_t type, unsigned epoch, const uint8_t *content,
                         size_t length)
{
    size_t need = h->flight_length + ENTRY_HEADER + length;
    uint8_t *at;

    if (need > FLIGHT_MAX)
        return -EMSGSIZE;
    if (need > h->flight_room) {
        size_t room = need < 512 ? 512 : 2 * need;

        at = realloc(h->flight, room);
        if (!at)
            return -ENOMEM;
        h->flight = at;
        h->flight_room = (uint32_t)room;
    }
    at = h->flight + h->flight_length;
    at = parts_put(at, type, 1);
    at = parts_put(at, epoch, 1);
    at = parts_put(at, length, 2);
    memcpy(at, content, length);
    h->flight_length = (uint32_t)need;
    return 0;
}

static int add_record(struct handshake *h, const struct record_view *view)
{
    const uint8_t *content = view->body;
    uint8_t type = view->type;
    int length = view->length;

    if (view->epoch > 1)
        return -EBADMSG;
    if (view->epoch) {
        if (!handshake_key(h))
            return -EBADMSG;
        content = h->all->plain;
        length = record_open(h->all->aead, AEAD_NO_SLOT, &h->key_out, view, h->all->plain, &type);
        if (length < 0)
            return length;
    }
    if (type == RECORD_ALERT && length == ALERT_BYTES) {
        flight_send(h);
        send_alert(h, view->epoch, content);
        return 0;
    }
    if (h->answered) {
        h->answered = false;
        h->flight_length = h->flight_sent = 0;
        h->repeats = 0;
        h->interval_us = HANDSHAKE_FIRST_US;
    }
    return flight_append(h, type, view->epoch, content, (size_t)length);
}

int flight_add(struct handshake *h, const uint8_t *records, size_t length)
{
    struct record_view view;

    for (int taken, error; length; records += taken, length -= (size_t)taken) {
        taken = record_next(records, length, 0, &view);
        if (taken < 0)
            return taken;
        error = add_record(h, &view);
        if (error)
            return error;
    }
    return 0;
}
