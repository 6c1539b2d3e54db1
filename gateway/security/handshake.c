#include "gateway/security/handshake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include "gateway/security/handshake_parts.h"

#define POOL_MAX  (1u << 20)
#define TRIES     4u  /* of SSL_do_handshake() until it has read what it was given */
#define ASKED_MAX 16u /* times that a peer may have a flight repeated before DONE */
#define SEALED_MAX \
    16u /* records that OpenSSL may have before it is done: it keeps 17 KB for each */

/* Measured: a step without public-key work takes about 30 us, one with a key exchange and a
 * signature about 150, and verifying a client's chain about 700. */
#define WEIGHT_KEYS  5u
#define WEIGHT_CHAIN 24u

/* ---- of a worker ---- */

struct handshakes *handshakes_create(const struct handshakes_setup *setup)
{
    struct handshakes *all = calloc(1, sizeof(*all));

    if (!all)
        return NULL;
    all->ops = setup->ops;
    all->secrets = hello_create(setup->seed);
    all->aead = aead_create(0);
    all->bio = bio_method_create();
    all->nobody = BIO_ADDR_new();
    if (setup->max > POOL_MAX || pool_init(&all->pool, sizeof(struct handshake), setup->max) != 0 ||
        !all->secrets || !all->aead || !all->bio || !all->nobody) {
        handshakes_destroy(all);
        return NULL;
    }
    return all;
}

void handshakes_destroy(struct handshakes *all)
{
    if (!all)
        return;
    pool_fini(&all->pool);
    BIO_ADDR_free(all->nobody);
    BIO_meth_free(all->bio);
    aead_destroy(all->aead);
    hello_destroy(all->secrets);
    OPENSSL_cleanse(all, sizeof(*all));
    free(all);
}

unsigned handshakes_used(const struct handshakes *all)
{
    return pool_used(&all->pool);
}

enum hello_verdict hello_check(struct handshakes *all, const struct flow *wire, const uint8_t *data,
                               size_t length, uint64_t now_us, uint8_t out[HELLO_VERIFY_BYTES],
                               size_t *out_length)
{
    return hello_verify(all->secrets, wire, data, length, now_us, out, out_length);
}

/* ---- ends ---- */

void handshake_fail(struct handshake *h, enum alert alert, const char *why)
{
    if (h->state == HANDSHAKE_FAILED)
        return;
    h->state = HANDSHAKE_FAILED;
    h->due_us = UINT64_MAX;
    h->flight_length = h->flight_sent; /* what has not gone out yet is void */
    snprintf(h->error, sizeof(h->error), "%s", why);
    if (alert)
        flight_alert(h, alert);
}

/* Why OpenSSL gave up. */
static void fail_by_openssl(struct handshake *h)
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    long verified = SSL_get_verify_result(h->ssl);
    char text[HANDSHAKE_ERROR_BYTES];

    if (h->alert < 0)
        snprintf(text, sizeof(text), "alert %d of the peer", -1 - h->alert);
    else if (verified != X509_V_OK)
        snprintf(text, sizeof(text), "certificate: %s", X509_verify_cert_error_string(verified));
    else
        snprintf(text, sizeof(text), "%s", reason ? reason : "ended by the peer");
    ERR_clear_error();
    handshake_fail(h, 0, text);
}

/* OpenSSL is not needed any more: the flight and the keys are here. Not from within its callbacks.
 */
static enum handshake_state release(struct handshake *h)
{
    if (h->ssl && (h->state == HANDSHAKE_DONE || h->state == HANDSHAKE_FAILED)) {
        SSL_free(h->ssl);
        h->ssl = NULL;
        OPENSSL_cleanse(h->psk, sizeof(h->psk));
    }
    return h->state;
}

void handshake_free(struct handshake *h)
{
    struct handshakes *all = h->all;

    SSL_free(h->ssl);
    free(h->flight);
    OPENSSL_cleanse(h, sizeof(*h));
    pool_put(&all->pool, h);
}

/* ---- steps of OpenSSL ---- */

static void finish(struct handshake *h)
{
    handshake_settle(h);
    if (!handshake_key(h)) {
        handshake_fail(h, ALERT_HANDSHAKE_FAILURE, "no keys");
        return;
    }
    h->state = HANDSHAKE_DONE;
    h->sequence_limit = UINT64_MAX;
    flight_send(h);
    h->sequence_limit = h->sequences[1] + (h->last_is_ours ? HANDSHAKE_SPARE : 0);
    h->due_us = h->last_is_ours ? h->now_us + HANDSHAKE_LINGER_US : UINT64_MAX;
}

/* Sends what OpenSSL has written, and waits for the answer. */
static void send_flight(struct handshake *h)
{
    if (h->flight_sent == h->flight_length)
        return;
    flight_send(h);
    h->due_us = h->now_us + h->interval_us;
}

/* Lets OpenSSL go on, with the record h->in if there is one. */
static void step(struct handshake *h)
{
    int result, error = SSL_ERROR_NONE;

    for (unsigned i = 0; i < TRIES; i++) {
        ERR_clear_error();
        result = SSL_do_handshake(h->ssl);
        error = result == 1 ? SSL_ERROR_NONE : SSL_get_error(h->ssl, result);
        if (error != SSL_ERROR_WANT_READ || !h->in)
            break;
    }
    h->in = NULL;
    if (h->state == HANDSHAKE_FAILED)
        return;
    if (error != SSL_ERROR_NONE && error != SSL_ERROR_WANT_READ) {
        fail_by_openssl(h);
        return;
    }
    handshake_certify(h);
    if (h->state == HANDSHAKE_FAILED)
        return;
    if (error == SSL_ERROR_NONE) {
        finish(h);
        return;
    }
    send_flight(h);
    SSL_free_buffers(h->ssl); /* 33 KB that the next record gets again */
}

static void step_with(struct handshake *h, const uint8_t *record, size_t length)
{
    h->in = record;
    h->in_length = length;
    step(h);
}

/* ---- making ---- */

static struct handshake *create(struct handshakes *all, const struct handshake_setup *setup,
                                bool client, uint64_t now_us, int *error)
{
    struct handshake *h = NULL;

    *error = -EMSGSIZE;
    if (setup->room < HANDSHAKE_ROOM_MIN)
        return NULL;
    *error = -ENOBUFS;
    h = pool_get(&all->pool);
    if (!h)
        return NULL;
    *h = (struct handshake){
        .all = all,
        .side = setup->side,
        .owner = setup->owner,
        .now_us = now_us,
        .began_us = now_us,
        .due_us = now_us + HANDSHAKE_FIRST_US,
        .interval_us = HANDSHAKE_FIRST_US,
        .room = setup->room < HANDSHAKE_ROOM_MAX ? setup->room : HANDSHAKE_ROOM_MAX,
        .client = client,
        .cid_wanted = setup->cid_wanted,
        .own_cid_length = setup->own_cid ? HANDSHAKE_CID_BYTES : 0,
    };
    parts_put(h->own_cid, setup->own_cid, HANDSHAKE_CID_BYTES);
    *error = -ENOMEM;
    h->ssl = handshake_ssl_create(h, credentials_context(setup->side, setup->worker));
    if (h->ssl)
        return h;
    handshake_free(h);
    return NULL;
}

struct handshake *handshake_accept(struct handshakes *all, const struct handshake_setup *setup,
                                   uint64_t now_us, int *error)
{
    struct handshake *h = create(all, setup, false, now_us, error);

    if (h)
        SSL_set_accept_state(h->ssl);
    return h;
}

/* A domain name of this server alone, instead of what is expected of all. */
static bool expect_name(SSL *ssl, const char *name)
{
    X509_VERIFY_PARAM_set1_ip(SSL_get0_param(ssl), NULL, 0);
    return SSL_set1_host(ssl, name) > 0 && SSL_set_tlsext_host_name(ssl, name) > 0;
}

struct handshake *handshake_connect(struct handshakes *all, const struct handshake_setup *setup,
                                    const struct address *server, uint64_t now_us, int *error)
{
    struct handshake *h = create(all, setup, true, now_us, error);

    if (!h)
        return NULL;
    SSL_set_connect_state(h->ssl);
    if (SSL_get_verify_mode(h->ssl) == SSL_VERIFY_NONE)
        SSL_set_verify(h->ssl, SSL_VERIFY_PEER, NULL);
    if (credentials_expect(h->side, h->ssl, server) != 0 ||
        (setup->server_name && !expect_name(h->ssl, setup->server_name))) {
        handshake_free(h);
        return NULL;
    }
    h->begun = true;
    step(h);
    (void)release(h);
    return h;
}

/* ---- what waits ---- */

static void keep(struct handshake *h, const struct record_view *view)
{
    size_t length = (size_t)view->header_length + view->length;

    if (length > KEPT_MAX - h->kept_length)
        return; /* the peer sends it again */
    memcpy(h->kept + h->kept_length, view->header, length);
    h->kept_length = (uint16_t)(h->kept_length + length);
}

/* ---- records of the peer ---- */

static void note_alert(struct handshake *h, const uint8_t *content, size_t length)
{
    if (length == 2 && content[0] == ALERT_FATAL && h->alert == 0)
        h->alert = (int16_t)(-1 - content[1]);
}

/* What we sent last may have been lost (RFC 6347 4.2.4). */
static void repeat_asked(struct handshake *h)
{
    if (h->asked == ASKED_MAX)
        return;
    h->asked++;
    flight_repeat(h);
    if (h->state == HANDSHAKE_GOING)
        h->due_us = h->now_us + h->interval_us;
}

static bool is_same_hello(const struct handshake *h, const uint8_t *data, size_t length)
{
    struct hello hello;

    return h->begun && !h->client && hello_parse(data, length, &hello) == HELLO_GOOD &&
           hello.message_sequence == 1 &&
           memcmp(hello.random, h->hello_random, HELLO_RANDOM_BYTES) == 0;
}

/* OpenSSL goes on behind a cookie exchange that it has not seen: DTLSv1_listen() is for that, where
 * it finds the cookie to be good. */
static void begin(struct handshake *h, const struct record_view *view)
{
    size_t length = (size_t)view->header_length + view->length;
    struct hello hello;

    if (hello_parse(view->header, length, &hello) != HELLO_GOOD || hello.message_sequence != 1)
        return;
    memcpy(h->hello_random, hello.random, HELLO_RANDOM_BYTES);
    h->sequences[0] = hello.sequence;
    h->begun = true;
    h->in = view->header;
    h->in_length = length;
    ERR_clear_error();
    if (DTLSv1_listen(h->ssl, h->all->nobody) != 1) {
        fail_by_openssl(h);
        return;
    }
    step(h);
}

/* A handshake message that says that ours was not received. */
static bool is_repeated(const struct handshake *h, const struct record_view *view)
{
    if (!h->client)
        return is_same_hello(h, view->header, (size_t)view->header_length + view->length);
    return view->length >= MESSAGE_HEADER_BYTES && view->body[0] == MESSAGE_SERVER_HELLO &&
           h->sequences[1] > 0;
}

static void feed_message(struct handshake *h, const struct record_view *view)
{
    if (is_repeated(h, view)) {
        repeat_asked(h);
    } else if (h->client || !exchange_takes(h, view)) {
        step_with(h, view->header, (size_t)view->header_length + view->length);
    } else if (exchange_add(h, view)) {
        size_t length = exchange_record(h);

        step_with(h, h->all->record, length);
    }
}

static void feed_plain(struct handshake *h, const struct record_view *view)
{
    bool message = view->type == RECORD_HANDSHAKE;

    if (h->state == HANDSHAKE_DONE || view->type == RECORD_APPLICATION_DATA ||
        view->type == RECORD_CID)
        return;
    if (!h->begun) {
        begin(h, view);
    } else if (h->state == HANDSHAKE_NEEDS_KEY) {
        if (!message)
            keep(h, view);
    } else if (message) {
        feed_message(h, view);
    } else {
        if (view->type == RECORD_ALERT)
            note_alert(h, view->body, view->length);
        step_with(h, view->header, (size_t)view->header_length + view->length);
    }
}

/* Whether the record is in the form that was negotiated (RFC 9146 3). */
static bool has_our_cid(const struct handshake *h, const struct record_view *view)
{
    if (!h->cid_used || !h->own_cid_length)
        return view->type != RECORD_CID;
    return view->type == RECORD_CID && view->cid_length == h->own_cid_length &&
           memcmp(view->cid, h->own_cid, h->own_cid_length) == 0;
}

/* OpenSSL knows no Connection IDs: the same content, in the form that it does know. */
static void feed_opened(struct handshake *h, const struct record_view *view, uint8_t type,
                        size_t length)
{
    const struct record_mark mark = {
        .type = type,
        .epoch = view->epoch,
        .sequence = view->sequence,
    };
    uint8_t *record = h->all->record;
    int sealed;

    if (view->type != RECORD_CID) {
        step_with(h, view->header, (size_t)view->header_length + view->length);
        return;
    }
    memcpy(record + record_lead(h->suite, 0), h->all->plain, length);
    sealed = record_seal(h->all->aead, AEAD_NO_SLOT, &h->key_in, &mark, record, length);
    if (sealed > 0)
        step_with(h, record, (size_t)sealed);
}

/* Where the peer's Finished does not open, it has other keys: most likely another pre-shared one.
 * It is told (RFC 6347 4.1.2.7), since it would wait for nothing otherwise. */
static void feed_forged(struct handshake *h, const struct record_view *view)
{
    if (h->state != HANDSHAKE_DONE && view->type != RECORD_APPLICATION_DATA &&
        view->type != RECORD_ALERT)
        handshake_fail(h, ALERT_BAD_RECORD_MAC, "the peer's Finished does not open: another key?");
}

static void feed_sealed(struct handshake *h, const struct record_view *view)
{
    bool done = h->state == HANDSHAKE_DONE;
    uint8_t type;
    int length;

    if (h->state == HANDSHAKE_NEEDS_KEY || !handshake_key(h)) {
        if (h->begun && h->state != HANDSHAKE_FAILED)
            keep(h, view);
        return;
    }
    if (!has_our_cid(h, view) || (!done && !window_is_fresh(&h->window, view->sequence)))
        return;
    length = record_open(h->all->aead, AEAD_NO_SLOT, &h->key_in, view, h->all->plain, &type);
    if (length < 0) {
        feed_forged(h, view);
    } else if (done) {
        if (h->last_is_ours && type == RECORD_HANDSHAKE && h->all->plain[0] == MESSAGE_FINISHED &&
            h->due_us != UINT64_MAX)
            flight_repeat(h);
    } else if (type != RECORD_APPLICATION_DATA && h->sealed < SEALED_MAX) {
        h->sealed++;
        window_mark(&h->window, view->sequence);
        if (type == RECORD_ALERT)
            note_alert(h, h->all->plain, (size_t)length);
        feed_opened(h, view, type, (size_t)length);
    }
}

static void feed_record(struct handshake *h, const struct record_view *view)
{
    if (view->epoch == 0)
        feed_plain(h, view);
    else if (view->epoch == 1)
        feed_sealed(h, view);
}

/* Record by record, until it ends. Returns how many bytes are left then. */
static size_t feed_records(struct handshake *h, const uint8_t *data, size_t length)
{
    bool done = h->state == HANDSHAKE_DONE;
    struct record_view view;

    for (int taken; length; data += taken, length -= (size_t)taken) {
        taken = record_next(data, length, h->cid_used ? h->own_cid_length : 0, &view);
        if (taken < 0)
            return 0;
        if (h->state == HANDSHAKE_FAILED || (!done && h->state == HANDSHAKE_DONE))
            return length;
        feed_record(h, &view);
    }
    return 0;
}

/* What had to wait, when it need not any more. */
static void feed_kept(struct handshake *h)
{
    uint8_t records[KEPT_MAX];
    size_t length = h->kept_length;

    if (length == 0 || h->state != HANDSHAKE_GOING || !handshake_key(h))
        return;
    memcpy(records, h->kept, length);
    h->kept_length = 0;
    (void)feed_records(h, records, length);
}

enum handshake_state handshake_feed(struct handshake *h, const uint8_t *data, size_t length,
                                    uint64_t now_us)
{
    h->now_us = now_us;
    h->left = 0;
    if (h->state == HANDSHAKE_FAILED)
        return HANDSHAKE_FAILED;
    h->left = feed_records(h, data, length);
    feed_kept(h);
    return release(h);
}

enum handshake_state handshake_give_key(struct handshake *h, const uint8_t *key, size_t length,
                                        uint64_t now_us)
{
    if (h->state != HANDSHAKE_NEEDS_KEY)
        return h->state;
    h->now_us = now_us;
    h->state = HANDSHAKE_GOING;
    h->psk_length = length <= PSK_KEY_MAX ? (uint8_t)length : 0;
    if (h->psk_length)
        memcpy(h->psk, key, h->psk_length);
    length = exchange_record(h);
    step_with(h, h->all->record, length);
    feed_kept(h);
    return release(h);
}

/* ---- time ---- */

enum handshake_state handshake_timeout(struct handshake *h, uint64_t now_us)
{
    h->now_us = now_us;
    if (h->state == HANDSHAKE_FAILED || now_us < h->due_us)
        return h->state;
    if (h->state == HANDSHAKE_DONE) {
        h->due_us = UINT64_MAX;
        return HANDSHAKE_DONE;
    }
    if (h->repeats == HANDSHAKE_REPEATS || now_us - h->began_us >= HANDSHAKE_LIFE_US) {
        handshake_fail(h, 0, h->sequences[1] ? "no answer to Finished: another key?" : "no answer");
        return release(h);
    }
    h->repeats++;
    h->interval_us *= 2;
    if (h->interval_us > HANDSHAKE_LAST_US)
        h->interval_us = HANDSHAKE_LAST_US;
    h->due_us = now_us + h->interval_us;
    if (h->state == HANDSHAKE_GOING)
        flight_repeat(h);
    return h->state;
}

uint64_t handshake_due_us(const struct handshake *h)
{
    return h->due_us;
}

/* ---- questions ---- */

void *handshake_owner(const struct handshake *h)
{
    return h->owner;
}

void handshake_set_owner(struct handshake *h, void *owner)
{
    h->owner = owner;
}

const struct credentials_side *handshake_side(const struct handshake *h)
{
    return h->side;
}

enum handshake_state handshake_state(const struct handshake *h)
{
    return h->state;
}

size_t handshake_left(const struct handshake *h)
{
    return h->left;
}

const uint8_t *handshake_identity(const struct handshake *h, size_t *length)
{
    *length = h->exchange.identity_length;
    return h->exchange.bytes + 2;
}

bool handshake_began_with(const struct handshake *h, const uint8_t *data, size_t length)
{
    return is_same_hello(h, data, length);
}

unsigned handshake_weight(const struct handshake *h)
{
    const SSL_CIPHER *cipher = h->ssl ? SSL_get_pending_cipher(h->ssl) : NULL;

    if (!h->ssl || (h->client && !cipher))
        return 1;
    if (!cipher)
        return SSL_get_certificate(h->ssl) ? WEIGHT_KEYS : 1;
    if (SSL_CIPHER_get_kx_nid(cipher) == NID_kx_psk)
        return 1;
    return SSL_CIPHER_get_auth_nid(cipher) != NID_auth_psk &&
                   SSL_get_verify_mode(h->ssl) != SSL_VERIFY_NONE
               ? WEIGHT_CHAIN
               : WEIGHT_KEYS;
}

int handshake_outcome(const struct handshake *h, struct handshake_outcome *out)
{
    if (h->state != HANDSHAKE_DONE)
        return -EAGAIN;
    *out = (struct handshake_outcome){
        .cipher_suite = h->cipher_suite,
        .suite = (uint8_t)h->suite,
        .resumed = h->resumed,
        .extended_master_secret = h->extended_master_secret,
        .in = h->key_in,
        .out = h->key_out,
        .next_sequence = h->sequence_limit,
        .window = h->window,
        .cid_in = h->cid_used && h->own_cid_length,
        .cid_out = h->cid_used && h->peer_cid_length,
        .principal = h->principal,
    };
    if (out->cid_out) {
        out->peer_cid_length = h->peer_cid_length;
        memcpy(out->peer_cid, h->peer_cid, h->peer_cid_length);
    }
    return 0;
}

const char *handshake_error(const struct handshake *h)
{
    return h->error;
}

int handshake_alert(const struct handshake *h)
{
    return h->alert;
}
