/* The handshake from the client's side: full (RFC 4279 2) and abbreviated (RFC 5246 7.3). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "tests/dtls/peer_parts.h"

static void hello_send(struct peer *p, uint64_t now_us)
{
    struct peer_handshake *h = p->handshake;
    struct bytes body = {0};

    peer_bytes_clear(
        &h->transcript); /* neither hello before the cookie is part of it (RFC 6347 4.2.1) */
    peer_flight_clear(p);
    peer_hello_write(p, &body);
    peer_flight_add(p, CLIENT_HELLO, &body);
    peer_bytes_free(&body);
    if (h->flight.failed)
        peer_fail(p, -ENOMEM, 0);
    else
        peer_flight_begin(p, now_us);
}

int peer_handshake_begin(struct peer *p, uint64_t now_us)
{
    const struct peer_session *session = p->setup.session;

    p->handshake = calloc(1, sizeof(*p->handshake));
    if (!p->handshake)
        return -ENOMEM;
    peer_random(p, p->handshake->random, RANDOM_BYTES);
    if (session && session->id_length) {
        p->session_id_length = session->id_length;
        memcpy(p->session_id, session->id, session->id_length);
    } else if (session && session->ticket_length) {
        p->session_id_length = PEER_SESSION_ID_MAX;
        peer_random(p, p->session_id, PEER_SESSION_ID_MAX);
    }
    hello_send(p, now_us);
    return p->state == PEER_FAILED ? p->error : 0;
}

void peer_handshake_free(struct peer *p)
{
    if (!p->handshake)
        return;
    peer_reassembly_free(p->handshake);
    peer_bytes_free(&p->handshake->transcript);
    peer_bytes_free(&p->handshake->flight);
    OPENSSL_cleanse(p->handshake, sizeof(*p->handshake));
    free(p->handshake);
    p->handshake = NULL;
    p->due_us = UINT64_MAX;
}

/* Our Finished, behind a ChangeCipherSpec. */
static int finished_add(struct peer *p)
{
    struct bytes body = {0};
    int error = peer_keys_finished(p, "client finished", p->finished);

    if (error < 0)
        return error;
    peer_bytes_put(&body, p->finished, VERIFY_BYTES);
    peer_flight_change(p);
    p->finished_sequence = p->handshake->next_out;
    peer_flight_add(p, FINISHED, &body);
    peer_bytes_free(&body);
    return p->handshake->flight.failed || p->handshake->transcript.failed ? -ENOMEM : 0;
}

/* ServerHelloDone: identity, ChangeCipherSpec and Finished go out. */
static int answer_done(struct peer *p, uint64_t now_us)
{
    struct bytes body = {0};
    int error;

    peer_bytes_put_number(&body, p->setup.identity_length, 2);
    peer_bytes_put(&body, p->setup.identity, p->setup.identity_length);
    peer_flight_clear(p);
    peer_flight_add(p, CLIENT_KEY_EXCHANGE, &body);
    peer_bytes_free(&body);
    error = peer_keys_master(p);
    if (error == 0)
        error = peer_keys_expand(p);
    if (error == 0)
        error = finished_add(p);
    if (error < 0)
        return ALERT_INTERNAL_ERROR;
    p->handshake->step = STEP_FINISH;
    peer_flight_begin(p, now_us);
    return 0;
}

static int keep_ticket(struct peer *p, const uint8_t *ticket, size_t length)
{
    uint8_t *copy = malloc(length);

    if (!copy)
        return ALERT_INTERNAL_ERROR;
    memcpy(copy, ticket, length);
    free(p->ticket);
    p->ticket = copy;
    p->ticket_length = (uint16_t)length;
    return 0;
}

static int take_ticket(struct peer *p, struct reader body)
{
    struct reader ticket;

    peer_reader_number(&body, 4); /* how long it lasts */
    ticket = peer_reader_vector(&body, 2);
    if (body.failed || reader_left(&body))
        return ALERT_DECODE_ERROR;
    if (!p->handshake->ticket_promised)
        return ALERT_UNEXPECTED_MESSAGE;
    p->handshake->ticket_promised = false;
    if (reader_left(&ticket) == 0)
        return 0; /* it has changed its mind (RFC 5077 3.3) */
    return keep_ticket(p, ticket.at, reader_left(&ticket));
}

/* Our side of an abbreviated handshake, which ends with it. */
static int answer_finished(struct peer *p, const struct incoming *m)
{
    const struct peer_session *session = p->setup.session;

    peer_bytes_put(&p->handshake->transcript, m->body, MESSAGE_HEADER + m->length);
    peer_flight_clear(p);
    if (finished_add(p) < 0)
        return ALERT_INTERNAL_ERROR;
    if (!p->ticket && session->ticket_length && /* not renewed: the old one is still good */
        keep_ticket(p, session->ticket, session->ticket_length))
        return ALERT_INTERNAL_ERROR;
    p->verify_length = VERIFY_BYTES;
    peer_flight_repeat(p);
    return 0;
}

static int take_finished(struct peer *p, const struct incoming *m)
{
    uint8_t expected[VERIFY_BYTES];

    if (m->length != VERIFY_BYTES)
        return ALERT_DECODE_ERROR;
    if (p->handshake->ticket_promised)
        return ALERT_UNEXPECTED_MESSAGE;
    if (peer_keys_finished(p, "server finished", expected) < 0)
        return ALERT_INTERNAL_ERROR;
    if (CRYPTO_memcmp(expected, m->body + MESSAGE_HEADER, VERIFY_BYTES) != 0)
        return ALERT_DECRYPT_ERROR;
    if (p->resumed && answer_finished(p, m))
        return ALERT_INTERNAL_ERROR;
    peer_handshake_free(p);
    p->state = PEER_ESTABLISHED;
    if (p->setup.events->established)
        p->setup.events->established(p->setup.context);
    return 0;
}

static int take_hello(struct peer *p, struct reader body)
{
    int alert = peer_hello_read(p, body);

    if (alert)
        return alert;
    p->handshake->step = p->resumed ? STEP_FINISH : STEP_DONE;
    return p->resumed && peer_keys_expand(p) < 0 ? ALERT_INTERNAL_ERROR : 0;
}

static int take_verify(struct peer *p, struct reader body, uint64_t now_us)
{
    int alert = peer_hello_verify(p, body);

    if (alert)
        return alert;
    /* A server without state may count its records from the start again. */
    p->windows[0] = (struct peer_window){0};
    hello_send(p, now_us);
    return 0;
}

static int take_hint(struct reader body)
{
    peer_reader_vector(&body, 2);
    return body.failed || reader_left(&body) ? ALERT_DECODE_ERROR : 0;
}

/* One message that is whole and in order. 0 or an alert. */
static int take_message(struct peer *p, const struct incoming *m, uint64_t now_us)
{
    struct peer_handshake *h = p->handshake;
    struct reader body = {.at = m->body + MESSAGE_HEADER,
                          .end = m->body + MESSAGE_HEADER + m->length};

    if (m->epoch != (m->kind == FINISHED))
        return ALERT_UNEXPECTED_MESSAGE;
    if (m->kind == HELLO_VERIFY_REQUEST && h->step == STEP_HELLO)
        return take_verify(p, body, now_us);
    if (m->kind == FINISHED && h->step == STEP_FINISH)
        return take_finished(p, m);
    peer_bytes_put(&h->transcript, m->body, MESSAGE_HEADER + m->length);
    if (m->kind == SERVER_HELLO && h->step == STEP_HELLO)
        return take_hello(p, body);
    if (m->kind == SERVER_KEY_EXCHANGE && h->step == STEP_DONE)
        return take_hint(body);
    if (m->kind == SERVER_HELLO_DONE && h->step == STEP_DONE)
        return m->length ? ALERT_DECODE_ERROR : answer_done(p, now_us);
    if (m->kind == NEW_SESSION_TICKET && h->step == STEP_FINISH)
        return take_ticket(p, body);
    return ALERT_UNEXPECTED_MESSAGE;
}

static void take_messages(struct peer *p, uint64_t now_us)
{
    const struct incoming *m;
    int alert;

    while (p->handshake && (m = peer_reassembly_next(p->handshake))) {
        if (m->kind == FINISHED && !p->handshake->changed)
            return; /* overtook the ChangeCipherSpec, or is without one */
        alert = take_message(p, m, now_us);
        if (alert)
            peer_fail(p, -EPROTO, alert);
        else if (p->handshake)
            peer_reassembly_drop(p->handshake);
    }
}

void peer_handshake_take(struct peer *p, const uint8_t *data, size_t length, uint8_t epoch,
                         uint64_t now_us)
{
    int old;

    if (!peer_reassembly_take(p->handshake, data, length, epoch, &old))
        p->refused[PEER_REFUSED_STATE]++;
    /* The server sends its flight once more: it lacks ours (RFC 6347 4.2.4). */
    if (old == SERVER_HELLO_DONE && p->handshake->step == STEP_FINISH)
        peer_flight_repeat(p);
    take_messages(p, now_us);
}

void peer_handshake_change(struct peer *p, uint64_t now_us)
{
    p->handshake->changed = true;
    take_messages(p, now_us);
}
