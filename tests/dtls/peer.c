/* The association: its life, what comes in, and application data. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "tests/dtls/peer_parts.h"

#define IDENTITY_MAX   1024
#define SECRET_MAX     256
#define DATAGRAM_LEAST 512
#define TRIES          6
#define LEVEL_WARNING  1
#define LEVEL_FATAL    2

int peer_init(struct peer *p, const struct peer_setup *setup)
{
    if (!setup->crypto || !setup->events || !setup->events->send || !setup->events->deliver)
        return -EINVAL;
    if (setup->identity_length > IDENTITY_MAX || setup->key_length > SECRET_MAX ||
        setup->key_length == 0 || setup->cid_length > PEER_OWN_CID_MAX)
        return -EINVAL;
    if (setup->datagram_bytes &&
        (setup->datagram_bytes < DATAGRAM_LEAST || setup->datagram_bytes > PEER_CONTENT_MAX))
        return -EINVAL;
    if (setup->fragment_bytes > PEER_CONTENT_MAX - MESSAGE_HEADER)
        return -EINVAL;
    for (unsigned i = 0; i < PEER_SUITES; i++)
        if (setup->suites[i] && !peer_suite_find(setup->suites[i]))
            return -EINVAL;
    *p = (struct peer){.setup = *setup, .due_us = UINT64_MAX};
    return 0;
}

void peer_free(struct peer *p)
{
    peer_handshake_free(p);
    free(p->ticket);
    OPENSSL_cleanse(p, sizeof(*p));
}

int peer_start(struct peer *p, uint64_t now_us)
{
    if (p->state != PEER_IDLE)
        return -EALREADY;
    p->state = PEER_CONNECTING;
    return peer_handshake_begin(p, now_us);
}

void peer_random(struct peer *p, uint8_t *out, size_t length)
{
    if (p->setup.events->random)
        p->setup.events->random(p->setup.context, out, length);
    else if (RAND_bytes(out, (int)length) != 1)
        abort();
}

int peer_send(struct peer *p, uint16_t epoch, uint8_t type, const void *content, size_t length)
{
    uint8_t out[PEER_RECORD_MAX];
    struct peer_record record;
    int size;

    if (p->write_sequence[epoch] >= SEQUENCE_LIMIT)
        return -EOVERFLOW;
    peer_record_fill(p, epoch, type, content, length, &record);
    size = peer_seal(p, &record, out, sizeof(out));
    if (size < 0)
        return size;
    p->write_sequence[epoch]++;
    p->setup.events->send(p->setup.context, out, (size_t)size);
    return 0;
}

static void send_alert(struct peer *p, uint8_t level, uint8_t description)
{
    uint8_t alert[2] = {level, description};

    peer_send(p, p->write_epoch, PEER_ALERT, alert, sizeof(alert));
}

void peer_fail(struct peer *p, int error, int alert)
{
    p->error = error;
    p->state = PEER_FAILED;
    peer_handshake_free(p);
    if (alert) {
        p->alert_sent = (uint8_t)alert;
        send_alert(p, LEVEL_FATAL, (uint8_t)alert);
    }
}

static void refuse(struct peer *p, enum peer_refusal why)
{
    p->refused[why]++;
}

static void take_alert(struct peer *p, const uint8_t *content, size_t length)
{
    if (length != 2) {
        refuse(p, PEER_REFUSED_STATE);
        return;
    }
    if (content[1] == ALERT_CLOSE_NOTIFY && p->state == PEER_ESTABLISHED) {
        send_alert(p, LEVEL_WARNING, ALERT_CLOSE_NOTIFY); /* RFC 5246 7.2.1 */
        p->state = PEER_CLOSED;
    } else if (content[0] == LEVEL_FATAL || content[1] == ALERT_CLOSE_NOTIFY) {
        peer_fail(p, -ECONNREFUSED, 0);
    }
    if (p->setup.events->alert)
        p->setup.events->alert(p->setup.context, content[0], content[1]);
}

/* Of epoch 1, once established: the server's Finished again means that it lacks ours. A
 * HelloRequest is ignored (RFC 5246 7.4.1.1). */
static void take_late_handshake(struct peer *p, const uint8_t *content, size_t length)
{
    if (length >= MESSAGE_HEADER && content[0] == FINISHED && p->verify_length)
        peer_flight_last(p);
    else
        refuse(p, PEER_REFUSED_STATE);
}

static void take_content(struct peer *p, uint8_t type, uint8_t epoch, const uint8_t *content,
                         size_t length, uint64_t now_us)
{
    if (type == PEER_ALERT)
        take_alert(p, content, length);
    else if (type == PEER_HANDSHAKE && p->state == PEER_CONNECTING)
        peer_handshake_take(p, content, length, epoch, now_us);
    else if (type == PEER_HANDSHAKE)
        take_late_handshake(p, content, length);
    else if (type == PEER_CHANGE_CIPHER_SPEC && epoch == 0 && length == 1 && content[0] == 1)
        peer_handshake_change(p, now_us);
    else if (type == PEER_APPLICATION && p->state == PEER_ESTABLISHED)
        p->setup.events->deliver(p->setup.context, content, length);
    else
        refuse(p, PEER_REFUSED_STATE);
}

static void take_clear(struct peer *p, const struct record_view *r, uint64_t now_us)
{
    if (r->type == PEER_CID) {
        refuse(p, PEER_REFUSED_CID);
    } else if (p->state == PEER_ESTABLISHED) {
        refuse(p, PEER_REFUSED_EPOCH);
    } else if (!peer_window_is_new(&p->windows[0], r->sequence)) {
        refuse(p, PEER_REFUSED_REPLAY);
    } else {
        peer_window_mark(&p->windows[0], r->sequence);
        take_content(p, r->type, 0, r->fragment, r->length, now_us);
    }
}

/* Whether a record of epoch 1 has the CID, or none, as agreed (RFC 9146 3 and 6). */
static bool cid_is_right(const struct peer *p, const struct record_view *r)
{
    if (!p->cid_agreed || p->setup.cid_length == 0)
        return r->type != PEER_CID;
    return r->type == PEER_CID && memcmp(r->cid, p->setup.cid, p->setup.cid_length) == 0;
}

static void take_protected(struct peer *p, const struct record_view *r, uint64_t now_us)
{
    uint8_t content[PEER_RECORD_MAX], type;
    int length;

    if (r->epoch != 1 || !p->ready) {
        refuse(p, PEER_REFUSED_EPOCH);
    } else if (r->version != DTLS_1_2) {
        refuse(p, PEER_REFUSED_FORM);
    } else if (!cid_is_right(p, r)) {
        refuse(p, PEER_REFUSED_CID);
    } else if (!peer_window_is_new(&p->windows[1], r->sequence)) {
        refuse(p, PEER_REFUSED_REPLAY);
    } else if ((length = peer_record_open(p, r, content, &type)) < 0) {
        refuse(p, PEER_REFUSED_TAG);
    } else {
        peer_window_mark(&p->windows[1], r->sequence);
        if (length > PEER_CONTENT_MAX)
            refuse(p, PEER_REFUSED_FORM);
        else
            take_content(p, type, 1, content, (size_t)length, now_us);
    }
}

void peer_receive(struct peer *p, const uint8_t *datagram, size_t length, uint64_t now_us)
{
    struct reader all = {.at = datagram, .end = datagram + length};
    struct record_view r;

    while ((p->state == PEER_CONNECTING || p->state == PEER_ESTABLISHED) &&
           peer_record_next(&all, p->setup.cid_length, &r)) {
        if (r.version >> 8 != DTLS_1_2 >> 8)
            refuse(p, PEER_REFUSED_FORM);
        else if (r.epoch == 0)
            take_clear(p, &r, now_us);
        else
            take_protected(p, &r, now_us);
    }
    if (all.failed)
        refuse(p, PEER_REFUSED_FORM);
}

void peer_advance(struct peer *p, uint64_t now_us)
{
    struct peer_handshake *h = p->handshake;

    if (!h || now_us < p->due_us)
        return;
    if (h->sent >= (p->setup.tries ? p->setup.tries : TRIES)) {
        peer_fail(p, -ETIMEDOUT, 0);
        return;
    }
    h->timeout_us = h->timeout_us < RETRANSMIT_MAX_US / 2 ? 2 * h->timeout_us : RETRANSMIT_MAX_US;
    p->due_us = now_us + h->timeout_us;
    peer_flight_repeat(p);
}

uint64_t peer_next_us(const struct peer *p)
{
    return p->due_us;
}

int peer_write(struct peer *p, const void *data, size_t length)
{
    if (p->state != PEER_ESTABLISHED)
        return -ENOTCONN;
    if (length > PEER_CONTENT_MAX)
        return -EMSGSIZE;
    return peer_send(p, 1, PEER_APPLICATION, data, length);
}

void peer_close(struct peer *p)
{
    if (p->state != PEER_ESTABLISHED)
        return;
    send_alert(p, LEVEL_WARNING, ALERT_CLOSE_NOTIFY);
    p->state = PEER_CLOSED;
}

void peer_skip(struct peer *p, uint64_t count)
{
    p->write_sequence[p->write_epoch] += count;
}
