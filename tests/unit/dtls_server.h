/* OpenSSL's DTLS as a server in memory, and the line between it and a peer, which loses, breaks up,
 * mixes and repeats datagrams. Time is made up: it goes on when nothing else does. */
#ifndef COAPGW_TESTS_UNIT_DTLS_SERVER_H
#define COAPGW_TESTS_UNIT_DTLS_SERVER_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "tests/dtls/peer_parts.h"

#define LINE_DATAGRAMS  256
#define LINE_BYTES      2048
#define SERVER_TIMER_US 40000
#define SERVER_WAIT_US  26000 /* OpenSSL takes what is due within 15 ms for due */
#define CID_EXTENSION   54
#define SERVER_KEY      "\x01\x02\x03\x04\x05\x06\x07\x08\x09"
#define SERVER_SUITES   "PSK-AES128-CCM8:PSK-AES128-GCM-SHA256:PSK-CHACHA20-POLY1305:@SECLEVEL=0"

struct queue {
    unsigned count;
    struct {
        size_t length;
        uint8_t bytes[LINE_BYTES];
    } datagrams[LINE_DATAGRAMS];
};

struct line {
    struct peer_crypto *crypto;
    struct peer_setup setup;
    struct peer peer;
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out;
    uint64_t now;
    struct queue up, down;
    unsigned ups, downs;           /* how many have gone */
    uint64_t lose_ups, lose_downs; /* which of them get lost: a bit for each */
    unsigned pieces;               /* the server's clear messages in fragments of so many bytes */
    unsigned seed;                 /* not 0: what the server sends is mixed, and some comes twice */
    uint64_t clear_sequence;       /* of records that were made on the way */
    bool server_repeats;           /* its flights; otherwise it is the client alone that does */
    const char *cid;               /* the server's, or NULL */
    unsigned established, alerts, renewed;
    size_t got_length;
    uint8_t got[LINE_BYTES];
};

/* ---- the server ---- */

static unsigned line_psk(SSL *ssl, const char *identity, unsigned char *psk, unsigned room)
{
    (void)ssl;
    if (strcmp(identity, "device") != 0 || room < 9)
        return 0;
    memcpy(psk, SERVER_KEY, 9);
    return 9;
}

static int line_cookie(SSL *ssl, unsigned char *cookie, unsigned *length)
{
    (void)ssl;
    memcpy(cookie, "a cookie", 8);
    *length = 8;
    return 1;
}

static int line_cookie_check(SSL *ssl, const unsigned char *cookie, unsigned length)
{
    (void)ssl;
    return length == 8 && memcmp(cookie, "a cookie", 8) == 0;
}

/* OpenSSL's timers know the real time only: short ones where a test has them run out. */
static unsigned line_timer_short(SSL *ssl, unsigned us)
{
    (void)ssl, (void)us;
    return SERVER_TIMER_US;
}

static int line_cid_add(SSL *ssl, unsigned type, unsigned place, const unsigned char **out,
                        size_t *length, X509 *x, size_t chain, int *alert, void *argument)
{
    static unsigned char cid[1 + PEER_SERVER_CID_MAX];
    const struct line *l = argument;

    (void)ssl, (void)type, (void)place, (void)x, (void)chain, (void)alert;
    cid[0] = (unsigned char)strlen(l->cid);
    memcpy(cid + 1, l->cid, cid[0]);
    *out = cid;
    *length = 1u + cid[0];
    return 1;
}

static int line_cid_parse(SSL *ssl, unsigned type, unsigned place, const unsigned char *in,
                          size_t length, X509 *x, size_t chain, int *alert, void *argument)
{
    const struct line *l = argument;

    (void)ssl, (void)type, (void)place, (void)x, (void)chain, (void)alert;
    return length == 1u + l->setup.cid_length && in[0] == l->setup.cid_length &&
           memcmp(in + 1, l->setup.cid, l->setup.cid_length) == 0;
}

static SSL_CTX *server_context(struct line *l)
{
    SSL_CTX *c = SSL_CTX_new(DTLS_server_method());

    SSL_CTX_set_min_proto_version(c, DTLS1_2_VERSION);
    SSL_CTX_set_cipher_list(c, SERVER_SUITES);
    SSL_CTX_set_psk_server_callback(c, line_psk);
    SSL_CTX_use_psk_identity_hint(c, "a hint for the client");
    SSL_CTX_set_cookie_generate_cb(c, line_cookie);
    SSL_CTX_set_cookie_verify_cb(c, line_cookie_check);
    SSL_CTX_set_options(c, SSL_OP_COOKIE_EXCHANGE | SSL_OP_NO_QUERY_MTU);
    SSL_CTX_set_session_id_context(c, (const unsigned char *)"line", 4);
    SSL_CTX_add_custom_ext(c, CID_EXTENSION, SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_2_SERVER_HELLO,
                           line_cid_add, NULL, l, line_cid_parse, l);
    return c;
}

/* ---- the client ---- */

static void queue_put(struct queue *q, const uint8_t *bytes, size_t length)
{
    if (q->count == LINE_DATAGRAMS || length > LINE_BYTES)
        abort();
    memcpy(q->datagrams[q->count].bytes, bytes, length);
    q->datagrams[q->count++].length = length;
}

static void line_on_send(void *context, const uint8_t *datagram, size_t length)
{
    struct line *l = context;

    if (l->ups >= 64 || !(l->lose_ups >> l->ups & 1))
        queue_put(&l->up, datagram, length);
    l->ups++;
}

static void line_on_deliver(void *context, const uint8_t *data, size_t length)
{
    struct line *l = context;

    memcpy(l->got, data, length);
    l->got_length = length;
}

static void line_on_alert(void *context, uint8_t level, uint8_t description)
{
    struct line *l = context;

    (void)level, (void)description;
    l->alerts++;
}

static void line_on_established(void *context)
{
    struct line *l = context;

    l->established++;
}

static void line_on_random(void *context, uint8_t *bytes, size_t length)
{
    (void)context;
    memset(bytes, 0x5a, length);
}

static const struct peer_events line_events = {line_on_send, line_on_deliver, line_on_alert,
                                               line_on_established, line_on_random};

/* ---- on the way ---- */

/* The peer's keys from the server's side. */
static struct peer mirror(const struct line *l)
{
    struct peer m = l->peer;

    m.read = l->peer.write;
    m.write = l->peer.read;
    return m;
}

/* A record in CID form as an ordinary one, and the reverse: OpenSSL knows no Connection ID. */
static size_t translate(struct line *l, const struct record_view *r, uint8_t *out, bool up)
{
    static uint8_t content[PEER_RECORD_MAX], sealed[PEER_RECORD_MAX];
    struct peer m = up ? mirror(l) : l->peer;
    struct peer_record record;
    uint8_t type;
    int length = peer_record_open(&m, r, content, &type);

    if (length < 0)
        return 0;
    m.write = m.read;
    m.server_cid_length = up ? 0 : l->setup.cid_length;
    memcpy(m.server_cid, l->setup.cid, m.server_cid_length);
    m.write_sequence[1] = r->sequence;
    peer_record_fill(&m, 1, type, content, (size_t)length, &record);
    record.nonce = (uint64_t)r->epoch << 48 | r->sequence;
    length = peer_seal(&m, &record, sealed, sizeof(sealed));
    memcpy(out, sealed, (size_t)length);
    return (size_t)length;
}

static size_t clear_record(struct line *l, uint8_t type, const uint8_t *content, size_t length,
                           uint8_t *out)
{
    out[0] = type;
    peer_number_write(out + 1, DTLS_1_2, 2);
    peer_number_write(out + 3, 0, 2);
    peer_number_write(out + 5, l->clear_sequence++, 6);
    peer_number_write(out + 11, length, 2);
    memcpy(out + RECORD_HEADER, content, length);
    return RECORD_HEADER + length;
}

/* A handshake message in pieces, each a datagram; they get their record numbers later. */
static void break_up(struct line *l, const uint8_t *message)
{
    size_t whole = peer_number_read(message + 1, 3), at = 0, part;
    uint8_t piece[LINE_BYTES], out[LINE_BYTES];

    do {
        part = whole - at < l->pieces ? whole - at : l->pieces;
        memcpy(piece, message, MESSAGE_HEADER);
        peer_number_write(piece + 6, at, 3);
        peer_number_write(piece + 9, part, 3);
        memcpy(piece + MESSAGE_HEADER, message + MESSAGE_HEADER + at, part);
        queue_put(&l->down, out,
                  clear_record(l, PEER_HANDSHAKE, piece, MESSAGE_HEADER + part, out));
        at += part;
    } while (at < whole);
}

static void down_record(struct line *l, const struct record_view *r, const uint8_t *whole)
{
    uint8_t out[LINE_BYTES];
    size_t length = RECORD_HEADER + r->length;

    if (l->downs++ < 64 && l->lose_downs >> (l->downs - 1) & 1)
        return;
    memcpy(out, whole, length);
    if (r->epoch == 1 && l->cid && l->setup.cid_length)
        length = translate(l, r, out, false);
    else if (r->epoch == 0 && l->pieces && r->type == PEER_HANDSHAKE) {
        break_up(l, r->fragment);
        return;
    } else if (r->epoch == 0 && l->pieces) {
        length = clear_record(l, r->type, r->fragment, r->length, out);
    }
    queue_put(&l->down, out, length);
}

/* What the server has written: a record at a time. */
static void server_flush(struct line *l)
{
    uint8_t all[16384];
    int length = BIO_read(l->out, all, sizeof(all));
    struct reader r = {.at = all, .end = all + (length > 0 ? length : 0)};
    struct record_view view;
    const uint8_t *begin = r.at;

    while (peer_record_next(&r, 0, &view)) {
        down_record(l, &view, begin);
        begin = r.at;
    }
}

/* One datagram, a record at a time; application data comes back as it is. */
static void server_take(struct line *l, const uint8_t *datagram, size_t length)
{
    struct reader r = {.at = datagram, .end = datagram + length};
    uint8_t record[LINE_BYTES], data[LINE_BYTES];
    struct record_view view;
    const uint8_t *begin = datagram;
    int n;

    while (peer_record_next(&r, l->cid ? (uint8_t)strlen(l->cid) : 0, &view)) {
        size_t size = (size_t)(r.at - begin);

        memcpy(record, begin, size);
        if (view.type == PEER_CID)
            size = translate(l, &view, record, true);
        begin = r.at;
        BIO_write(l->in, record, (int)size);
        n = SSL_read(l->ssl, data, sizeof(data));
        if (n > 0)
            SSL_write(l->ssl, data, n);
    }
    server_flush(l);
}

static void mix(struct line *l)
{
    struct queue *q = &l->down;
    unsigned once = q->count;

    for (unsigned i = 0; i < once && q->count < LINE_DATAGRAMS; i += 3)
        queue_put(q, q->datagrams[i].bytes, q->datagrams[i].length);
    for (unsigned i = q->count; i > 1; i--) {
        unsigned j = (unsigned)rand_r(&l->seed) % i;
        struct queue *swap = malloc(sizeof(*swap));

        swap->datagrams[0] = q->datagrams[j];
        q->datagrams[j] = q->datagrams[i - 1];
        q->datagrams[i - 1] = swap->datagrams[0];
        free(swap);
    }
    for (unsigned i = 0; i < q->count; i++) /* repeated pieces in records of their own */
        if (l->pieces && peer_number_read(q->datagrams[i].bytes + 3, 2) == 0)
            peer_number_write(q->datagrams[i].bytes + 5, l->clear_sequence++, 6);
}

/* ---- the whole of it ---- */

static void line_open(struct line *l)
{
    l->crypto = peer_crypto_create();
    l->setup = (struct peer_setup){.crypto = l->crypto,
                                   .events = &line_events,
                                   .context = l,
                                   .identity = (const uint8_t *)"device",
                                   .identity_length = 6,
                                   .key = (const uint8_t *)SERVER_KEY,
                                   .key_length = 9};
    l->context = server_context(l);
}

/* A new association; the context, and so the sessions, stay. */
static void line_begin(struct line *l)
{
    l->ssl = SSL_new(l->context);
    l->in = BIO_new(BIO_s_mem());
    l->out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(l->in, -1);
    BIO_set_mem_eof_return(l->out, -1);
    SSL_set_bio(l->ssl, l->in, l->out);
    SSL_set_accept_state(l->ssl);
    SSL_set_mtu(l->ssl, 1400);
    if (l->server_repeats)
        DTLS_set_timer_cb(l->ssl, line_timer_short);
    l->up.count = l->down.count = 0;
    l->ups = l->downs = l->established = l->alerts = 0;
    l->clear_sequence = 1000;
    if (peer_init(&l->peer, &l->setup) < 0)
        abort();
}

static void line_end_server(struct line *l)
{
    SSL_set_shutdown(l->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* keeps the session */
    SSL_free(l->ssl);
}

static void line_end(struct line *l)
{
    peer_free(&l->peer);
    line_end_server(l);
}

static void line_close(struct line *l)
{
    SSL_CTX_free(l->context);
    peer_crypto_destroy(l->crypto);
    free(l);
}

/* Carries what there is in both directions; false when there was nothing. */
static bool line_turn(struct line *l)
{
    static struct queue now;
    bool moved = l->up.count || l->down.count;

    now = l->up;
    l->up.count = 0;
    for (unsigned i = 0; i < now.count; i++)
        server_take(l, now.datagrams[i].bytes, now.datagrams[i].length);
    if (l->seed && l->down.count)
        mix(l);
    now = l->down;
    l->down.count = 0;
    for (unsigned i = 0; i < now.count; i++)
        peer_receive(&l->peer, now.datagrams[i].bytes, now.datagrams[i].length, l->now);
    return moved;
}

/* Until nothing is left to do; time goes on as the timers want. */
static void line_run(struct line *l)
{
    for (unsigned turns = 0; turns < 200; turns++) {
        if (line_turn(l))
            continue;
        if (l->server_repeats && !SSL_is_init_finished(l->ssl)) {
            usleep(SERVER_WAIT_US);
            if (DTLSv1_handle_timeout(l->ssl) > 0)
                server_flush(l);
        }
        if (l->down.count)
            continue;
        if (peer_next_us(&l->peer) == UINT64_MAX)
            return;
        l->now = peer_next_us(&l->peer);
        peer_advance(&l->peer, l->now);
    }
}

#endif
