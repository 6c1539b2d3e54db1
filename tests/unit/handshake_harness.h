/* Handshakes in one process: our end and OpenSSL's, or two of ours, with a network between them
 * that loses, doubles, delays and cuts what it is told to, in a time that goes on when nothing else
 * does. Credentials are what a test says that they are: it needs no files. */
#ifndef COAPGW_TESTS_HANDSHAKE_HARNESS_H
#define COAPGW_TESTS_HANDSHAKE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "gateway/security/handshake.h"

#define CIPHERS_PSK  "PSK-AES128-CCM8:@SECLEVEL=0"
#define CIPHERS_CERT "ECDHE-ECDSA-AES128-GCM-SHA256:@SECLEVEL=0"
#define IDENTITY     "device-17"
#define NAME         "device.example.org"
#define SERVER_NAME  "gateway.example.org"
#define SERVER_CID   UINT64_C(0x0102030405060708)
#define CLIENT_CID   UINT64_C(0xa1a2a3a4a5a6a7a8)
#define NEVER        UINT64_MAX

/* ---- time: OpenSSL's ends ask for it here ---- */

static uint64_t now_us = UINT64_C(1000000000);

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    now->tv_sec = (time_t)(now_us / 1000000);
    now->tv_usec = (suseconds_t)(now_us % 1000000);
    return 0;
}

/* ---- credentials ---- */

struct credentials_side {
    SSL_CTX *context;
    const char *identity; /* whose key is `key`; NULL: there is none */
    uint8_t key[16];
    const char *expected; /* name of the server */
    bool refuses;         /* admits nobody */
};

SSL_CTX *credentials_context(const struct credentials_side *side, unsigned worker)
{
    (void)worker;
    return side->context;
}

int credentials_psk(const struct credentials_side *side, const uint8_t *identity, size_t length,
                    uint8_t key[PSK_KEY_MAX])
{
    if (!side->identity || length != strlen(side->identity) ||
        memcmp(identity, side->identity, length) != 0)
        return -ENOENT;
    memcpy(key, side->key, sizeof(side->key));
    return sizeof(side->key);
}

int credentials_own_psk(const struct credentials_side *side, const char **identity,
                        uint8_t key[PSK_KEY_MAX])
{
    if (!side->identity)
        return -ENOENT;
    *identity = side->identity;
    memcpy(key, side->key, sizeof(side->key));
    return sizeof(side->key);
}

int credentials_expect(const struct credentials_side *side, SSL *ssl, const struct address *server)
{
    (void)server;
    return side->expected && SSL_set1_host(ssl, side->expected) != 1 ? -ENOMEM : 0;
}

bool credentials_admit(const struct credentials_side *side, const struct principal *principal)
{
    (void)principal;
    return !side->refuses;
}

/* ---- certificates ---- */

struct signer {
    X509 *certificate;
    EVP_PKEY *key;
};

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* `by` NULL: a CA. `days`: how long it is valid from now on; negative: it is not, since then. */
static inline struct signer make_certificate(const struct signer *by, const char *common_name,
                                             const char *names, int days)
{
    static long serial;
    struct signer s = {X509_new(), EVP_EC_gen("P-256")};
    X509_NAME *subject = X509_get_subject_name(s.certificate);

    assert_non_null(s.key);
    X509_set_version(s.certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(s.certificate), ++serial);
    X509_time_adj_ex(X509_getm_notBefore(s.certificate), -400, 0, NULL);
    X509_time_adj_ex(X509_getm_notAfter(s.certificate), days, 0, NULL);
    if (common_name)
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const uint8_t *)common_name, -1,
                                   -1, 0);
    X509_set_issuer_name(s.certificate, by ? X509_get_subject_name(by->certificate) : subject);
    X509_set_pubkey(s.certificate, s.key);
    if (!by)
        add_extension(s.certificate, NID_basic_constraints, "critical,CA:TRUE");
    if (names)
        add_extension(s.certificate, NID_subject_alt_name, names);
    assert_true(X509_sign(s.certificate, by ? by->key : s.key, EVP_sha256()) > 0);
    return s;
}

static inline void free_signer(struct signer *s)
{
    X509_free(s->certificate);
    EVP_PKEY_free(s->key);
    memset(s, 0, sizeof(*s));
}

static SSL_CTX *make_context(const char *ciphers, const struct signer *own, const struct signer *ca,
                             int verify)
{
    SSL_CTX *context = SSL_CTX_new(DTLS_method());

    SSL_CTX_set_min_proto_version(context, DTLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(context, DTLS1_2_VERSION);
    assert_int_equal(SSL_CTX_set_cipher_list(context, ciphers), 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_session_id_context(context, (const uint8_t *)"x", 1);
    if (own) {
        assert_int_equal(SSL_CTX_use_certificate(context, own->certificate), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(context, own->key), 1);
    }
    if (ca)
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), ca->certificate);
    SSL_CTX_set_verify(context, verify, NULL);
    return context;
}

/* ---- the network ---- */

enum { CLIENT, SERVER };

#define PACKET_MAX  2048
#define PACKETS     1024
#define WAIT_MAX_US (UINT64_C(400) * 1000000)

struct packet {
    int to;
    size_t length;
    uint8_t bytes[PACKET_MAX];
};

struct end;

/* An end that is neither ours nor OpenSSL's. */
struct other {
    void (*begin)(struct end *);
    void (*work)(struct end *, const struct packet *);
    uint64_t (*due_us)(const struct end *);
    void (*fire)(struct end *);
};

/* One end; `side` and `cid` are of ours alone, `ssl` and `in` of OpenSSL's. */
struct end {
    const struct other *other;
    struct net *net;
    int self;
    bool established, failed;
    bool heard;       /* what the other one said in the association */
    uint64_t said_us; /* when it is said again */
    SSL *ssl;
    const struct packet *in;
    struct credentials_side *side;
    uint64_t cid;
    bool cid_wanted;
    struct handshake *h;
    struct handshake_outcome outcome;
    struct record_window window;
    uint64_t next;
    unsigned lingered; /* datagrams after it was done */
};

struct net {
    struct handshakes *all;
    struct aead *aead;
    BIO_METHOD *bio;
    struct end ends[2];
    struct packet packets[PACKETS];
    unsigned head, tail;
    unsigned sent;    /* datagrams, lost ones too */
    unsigned from[2]; /* of them by their sender */
    size_t largest;   /* of ours */
    bool split;       /* each record goes alone */
    uint64_t lose;    /* which datagrams: a bit for each of the first 64 */
    long twice, late; /* which datagram; -1: none */
    unsigned cut;     /* bytes of a fragment of a ClientKeyExchange; 0: as it comes */
    struct packet held;
    uint16_t room;
    uint64_t key_after_us; /* how long a key takes that was asked for; NEVER: there is none */
    uint64_t key_at_us;
    const uint8_t *stored_key;
    unsigned asked;
    uint8_t wire_tail; /* last byte of the client's address */
};

static void put_packet(struct net *n, const struct packet *p)
{
    assert_true(n->tail - n->head < PACKETS);
    n->packets[n->tail++ % PACKETS] = *p;
}

static void put_bytes(struct net *n, int to, const uint8_t *bytes, size_t length)
{
    struct packet p = {.to = to, .length = length};
    long index = n->sent++;

    assert_true(length <= PACKET_MAX);
    memcpy(p.bytes, bytes, length);
    n->from[!to]++;
    if (index < 64 && n->lose >> index & 1)
        return;
    if (index == n->late) {
        n->held = p;
        return;
    }
    put_packet(n, &p);
    if (index == n->twice)
        put_packet(n, &p);
    if (n->held.length) {
        put_packet(n, &n->held);
        n->held.length = 0;
    }
}

/* Records of epoch 0 from the client are numbered anew, with room for fragments in between. */
#define CUTS 64u

static uint64_t record_sequence(const uint8_t *record)
{
    uint64_t sequence = 0;

    for (unsigned i = 5; i < 11; i++)
        sequence = sequence << 8 | record[i];
    return sequence;
}

static void number(uint8_t *record, uint64_t sequence)
{
    for (unsigned i = 0; i < 6; i++)
        record[5 + i] = (uint8_t)(sequence >> 8 * (5 - i));
}

/* One record of the client, in fragments when it is a ClientKeyExchange (RFC 6347 4.2.3). */
static void put_cut(struct net *n, const uint8_t *record, size_t length)
{
    uint8_t bytes[PACKET_MAX];
    uint64_t sequence = record_sequence(record) * CUTS;
    size_t whole = length - 25, part;

    memcpy(bytes, record, length);
    if (record[4] == 0)
        number(bytes, sequence);
    if (record[0] != RECORD_HANDSHAKE || record[4] != 0 || record[13] != 16) {
        put_bytes(n, SERVER, bytes, length);
        return;
    }
    for (size_t at = 0; at < whole; at += part) {
        part = whole - at < n->cut ? whole - at : n->cut;
        number(bytes, sequence++);
        bytes[11] = 0;
        bytes[12] = (uint8_t)(12 + part);
        bytes[20] = (uint8_t)(at >> 8);
        bytes[21] = (uint8_t)at;
        bytes[23] = 0;
        bytes[24] = (uint8_t)part;
        memcpy(bytes + 25, record + 25 + at, part);
        put_bytes(n, SERVER, bytes, 25 + part);
    }
}

static void send_bytes(struct net *n, int to, const uint8_t *bytes, size_t length)
{
    if (!n->split) {
        put_bytes(n, to, bytes, length);
        return;
    }
    for (size_t whole; length; bytes += whole, length -= whole) {
        unsigned cid = bytes[0] == RECORD_CID
                           ? n->ends[to].outcome.cid_in || n->ends[to].cid ? HANDSHAKE_CID_BYTES : 0
                           : 0;

        whole = 13u + cid + (size_t)(bytes[11 + cid] << 8 | bytes[12 + cid]);
        assert_true(whole <= length);
        if (n->cut && to == SERVER)
            put_cut(n, bytes, whole);
        else
            put_bytes(n, to, bytes, whole);
    }
}

/* ---- OpenSSL's end ---- */

static int end_read(BIO *bio, char *out, int room)
{
    struct end *e = BIO_get_data(bio);
    size_t length;

    BIO_clear_retry_flags(bio);
    if (!e->in) {
        BIO_set_retry_read(bio);
        return -1;
    }
    length = e->in->length;
    assert_true(length <= (size_t)room);
    memcpy(out, e->in->bytes, length);
    e->in = NULL;
    return (int)length;
}

static int end_write(BIO *bio, const char *bytes, int length)
{
    struct end *e = BIO_get_data(bio);

    send_bytes(e->net, !e->self, (const uint8_t *)bytes, (size_t)length);
    return length;
}

static long end_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_DGRAM_GET_MTU_OVERHEAD)
        return 28;
    return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DGRAM_SET_NEXT_TIMEOUT;
}

static int end_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static void say(struct end *e, const char *text);

static void openssl_work(struct end *e)
{
    char text[64];
    int result;

    ERR_clear_error();
    if (!e->established) {
        result = SSL_do_handshake(e->ssl);
        if (result != 1) {
            e->failed |= SSL_get_error(e->ssl, result) != SSL_ERROR_WANT_READ;
            return;
        }
        e->established = true;
        if (e->self == CLIENT)
            say(e, "ping");
    }
    result = SSL_read(e->ssl, text, sizeof(text));
    if (result > 0) {
        assert_int_equal(result, 4);
        assert_memory_equal(text, e->self == CLIENT ? "pong" : "ping", 4);
        e->heard = true;
        if (e->self == SERVER)
            say(e, "pong");
    } else {
        e->failed |= SSL_get_error(e->ssl, result) != SSL_ERROR_WANT_READ;
    }
}

static inline SSL *openssl_end(struct net *n, int self, SSL_CTX *context)
{
    struct end *e = &n->ends[self];
    BIO *bio = BIO_new(n->bio);

    e->ssl = SSL_new(context);
    BIO_set_data(bio, e);
    SSL_set_bio(e->ssl, bio, bio);
    SSL_set_options(e->ssl, SSL_OP_NO_QUERY_MTU);
    SSL_set_mtu(e->ssl, n->room);
    if (self == CLIENT)
        SSL_set_connect_state(e->ssl);
    else
        SSL_set_accept_state(e->ssl);
    return e->ssl;
}

/* ---- our end ---- */

static void ours_sends(void *context, struct handshake *h, const uint8_t *datagram, size_t length)
{
    struct net *n = context;
    struct end *e = handshake_owner(h);

    assert_true(length <= n->room);
    if (length > n->largest)
        n->largest = length;
    e->lingered += e->established;
    send_bytes(n, !e->self, datagram, length);
}

static void say(struct end *e, const char *text)
{
    e->said_us = now_us + 1000000;

    struct record_mark mark = {.type = RECORD_APPLICATION_DATA, .epoch = 1};
    uint8_t record[256];
    int length;

    if (e->ssl) {
        assert_int_equal(SSL_write(e->ssl, text, (int)strlen(text)), (int)strlen(text));
        return;
    }
    mark.sequence = e->next++;
    mark.cid = e->outcome.peer_cid;
    mark.cid_length = e->outcome.peer_cid_length;
    memcpy(record + record_lead(e->outcome.suite, mark.cid_length), text, strlen(text));
    length = record_seal(e->net->aead, AEAD_NO_SLOT, &e->outcome.out, &mark, record, strlen(text));
    assert_true(length > 0);
    send_bytes(e->net, !e->self, record, (size_t)length);
}

static void ours_opened(struct end *e, const struct packet *p, uint8_t type, const uint8_t *content,
                        int length)
{
    if (type == RECORD_HANDSHAKE) {
        (void)handshake_feed(e->h, p->bytes, p->length, now_us);
    } else if (type == RECORD_APPLICATION_DATA) {
        assert_int_equal(length, 4);
        assert_memory_equal(content, e->self == CLIENT ? "pong" : "ping", 4);
        e->heard = true;
        if (e->self == SERVER)
            say(e, "pong");
    }
}

/* The association, in short. */
static void ours_records(struct end *e, const struct packet *p, size_t from)
{
    unsigned cid = e->outcome.cid_in ? HANDSHAKE_CID_BYTES : 0;
    uint8_t content[PACKET_MAX], type;
    struct record_view view;
    int taken, length;

    for (; from < p->length; from += (size_t)taken) {
        taken = record_next(p->bytes + from, p->length - from, (uint8_t)cid, &view);
        if (taken < 0)
            return;
        if (view.epoch != 1 || (view.type == RECORD_CID) != e->outcome.cid_in ||
            !window_is_fresh(&e->window, view.sequence))
            continue;
        length = record_open(e->net->aead, AEAD_NO_SLOT, &e->outcome.in, &view, content, &type);
        if (length < 0)
            continue;
        window_mark(&e->window, view.sequence);
        ours_opened(e, p, type, content, length);
    }
}

static void ours_settle(struct end *e, const struct packet *p, enum handshake_state state)
{
    struct net *n = e->net;

    if (state == HANDSHAKE_FAILED) {
        e->failed = true;
    } else if (state == HANDSHAKE_NEEDS_KEY && n->key_at_us == NEVER) {
        n->asked++;
        n->key_at_us = n->key_after_us == NEVER ? now_us : now_us + n->key_after_us;
    } else if (state == HANDSHAKE_DONE && !e->established) {
        e->established = true;
        assert_int_equal(handshake_outcome(e->h, &e->outcome), 0);
        e->window = e->outcome.window;
        e->next = e->outcome.next_sequence;
        if (e->self == CLIENT)
            say(e, "ping");
        if (p && handshake_left(e->h))
            ours_records(e, p, p->length - handshake_left(e->h));
    }
}

static struct flow wire_of(const struct net *n)
{
    struct flow wire;

    memset(&wire, 0, sizeof(wire));
    wire.peer = address_from_v4((const uint8_t[]){192, 0, 2, n->wire_tail});
    wire.peer_port = 40000;
    wire.local_port = 5684;
    return wire;
}

static struct handshake_setup ours_setup(struct end *e)
{
    return (struct handshake_setup){
        .side = e->side,
        .own_cid = e->cid,
        .cid_wanted = e->cid_wanted,
        .room = e->net->room,
        .owner = e,
    };
}

static void ours_first(struct end *e, const struct packet *p)
{
    struct flow wire = wire_of(e->net);
    struct handshake_setup setup = ours_setup(e);
    uint8_t out[HELLO_VERIFY_BYTES];
    size_t length;
    int error;

    switch (hello_check(e->net->all, &wire, p->bytes, p->length, now_us, out, &length)) {
    case HELLO_VERIFY:
        assert_true(length <= p->length);
        send_bytes(e->net, CLIENT, out, length);
        break;
    case HELLO_GOOD:
        e->h = handshake_accept(e->net->all, &setup, now_us, &error);
        assert_non_null(e->h);
        ours_settle(e, p, handshake_feed(e->h, p->bytes, p->length, now_us));
        break;
    default:
        break;
    }
}

static void ours_work(struct end *e, const struct packet *p)
{
    if (!e->h && e->self == SERVER)
        ours_first(e, p);
    else if (e->h && !e->established)
        ours_settle(e, p, handshake_feed(e->h, p->bytes, p->length, now_us));
    else if (e->h)
        ours_records(e, p, 0);
}

static void ours_connect(struct net *n)
{
    struct end *e = &n->ends[CLIENT];
    struct handshake_setup setup = ours_setup(e);
    struct address server = address_from_v4((const uint8_t[]){192, 0, 2, 200});
    int error;

    e->h = handshake_connect(n->all, &setup, &server, now_us, &error);
    assert_non_null(e->h);
    ours_settle(e, NULL, handshake_state(e->h));
}

/* ---- both ---- */

static void net_begin(struct net *n)
{
    struct handshakes_setup setup = {
        .max = 8, .ops = {.context = n, .send = ours_sends}, .seed = {1, 2, 3}};

    memset(n, 0, sizeof(*n));
    n->all = handshakes_create(&setup);
    n->aead = aead_create(0);
    n->bio = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "test");
    BIO_meth_set_create(n->bio, end_create);
    BIO_meth_set_read(n->bio, end_read);
    BIO_meth_set_write(n->bio, end_write);
    BIO_meth_set_ctrl(n->bio, end_control);
    n->twice = n->late = -1;
    n->room = 1200;
    n->key_at_us = NEVER;
    n->key_after_us = NEVER;
    n->wire_tail = 17;
    for (int i = 0; i < 2; i++) {
        n->ends[i].net = n;
        n->ends[i].self = i;
    }
}

static void net_end(struct net *n)
{
    for (int i = 0; i < 2; i++) {
        SSL_free(n->ends[i].ssl);
        if (n->ends[i].h)
            handshake_free(n->ends[i].h);
    }
    assert_int_equal(handshakes_used(n->all), 0);
    handshakes_destroy(n->all);
    aead_destroy(n->aead);
    BIO_meth_free(n->bio);
}

static uint64_t end_due_us(const struct end *e)
{
    struct timeval left;

    if (e->failed)
        return NEVER;
    if (e->other)
        return e->other->due_us(e);
    if (e->established && e->self == CLIENT && !e->heard)
        return e->said_us;
    if (e->h)
        return e->established ? NEVER : handshake_due_us(e->h);
    if (!e->ssl || DTLSv1_get_timeout(e->ssl, &left) != 1)
        return NEVER;
    return now_us + (uint64_t)left.tv_sec * 1000000 + (uint64_t)left.tv_usec;
}

static void end_fire(struct end *e)
{
    if (e->failed)
        return;
    if (e->other)
        e->other->fire(e);
    else if (e->established && e->self == CLIENT && !e->heard)
        say(e, "ping");
    else if (e->h && !e->established)
        ours_settle(e, NULL, handshake_timeout(e->h, now_us));
    else if (e->ssl && DTLSv1_handle_timeout(e->ssl) < 0)
        e->failed = true;
}

static void give_key(struct net *n)
{
    struct end *e = &n->ends[SERVER];
    const uint8_t *key = n->key_after_us == NEVER ? NULL : n->stored_key;

    n->key_at_us = NEVER;
    ours_settle(e, NULL, handshake_give_key(e->h, key, key ? 16 : 0, now_us));
}

/* False: nothing will ever happen again. */
static bool net_wait(struct net *n)
{
    uint64_t due = n->key_at_us;

    for (int i = 0; i < 2; i++)
        if (end_due_us(&n->ends[i]) < due)
            due = end_due_us(&n->ends[i]);
    if (due == NEVER)
        return false;
    now_us = due > now_us ? due : now_us;
    if (n->key_at_us <= now_us)
        give_key(n);
    else
        for (int i = 0; i < 2; i++)
            if (end_due_us(&n->ends[i]) <= now_us)
                end_fire(&n->ends[i]);
    return true;
}

static bool net_is_over(const struct net *n)
{
    const struct end *e = n->ends;

    return (e[0].heard || e[0].failed) && (e[1].heard || e[1].failed);
}

static void net_step(struct net *n)
{
    struct packet p = n->packets[n->head++ % PACKETS];
    struct end *e = &n->ends[p.to];

    if (e->other) {
        e->other->work(e, &p);
    } else if (e->ssl) {
        e->in = &p;
        if (!e->failed)
            openssl_work(e);
        e->in = NULL;
    } else {
        ours_work(e, &p);
    }
}

/* Until both have heard each other, or failed, or nothing happens any more. */
static inline void net_run(struct net *n)
{
    uint64_t end_us = now_us + WAIT_MAX_US;

    if (n->ends[CLIENT].other)
        n->ends[CLIENT].other->begin(&n->ends[CLIENT]);
    else if (n->ends[CLIENT].ssl)
        openssl_work(&n->ends[CLIENT]);
    else
        ours_connect(n);
    for (;;) {
        while (n->head != n->tail)
            net_step(n);
        if (n->held.length) {
            put_packet(n, &n->held);
            n->held.length = 0;
        } else if (net_is_over(n) || now_us > end_us || !net_wait(n)) {
            break;
        }
    }
}

static inline void assert_talked(const struct net *n)
{
    if (n->ends[SERVER].h && n->ends[SERVER].failed)
        print_error("%s\n", handshake_error(n->ends[SERVER].h));
    for (int i = 0; i < 2; i++) {
        assert_false(n->ends[i].failed);
        assert_true(n->ends[i].established && n->ends[i].heard);
    }
}

/* ---- what a client with OpenSSL has ---- */

static const uint8_t shared_key[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static const char *client_identity = IDENTITY;
static const uint8_t *client_key = shared_key;

static unsigned int openssl_client_key(SSL *ssl, const char *hint, char *identity,
                                       unsigned int identity_room, unsigned char *key,
                                       unsigned int key_room)
{
    (void)ssl;
    (void)hint;
    assert_true(strlen(client_identity) < identity_room && key_room >= 16);
    strcpy(identity, client_identity);
    memcpy(key, client_key, 16);
    return 16;
}

static unsigned int openssl_server_key(SSL *ssl, const char *identity, unsigned char *key,
                                       unsigned int room)
{
    (void)ssl;
    if (strcmp(identity, IDENTITY) != 0 || room < 16)
        return 0;
    memcpy(key, shared_key, 16);
    return 16;
}

/* ---- sides and peers ---- */

static inline struct credentials_side psk_side(const char *ciphers)
{
    struct credentials_side side = {.context = make_context(ciphers, NULL, NULL, 0),
                                    .identity = IDENTITY};

    memcpy(side.key, shared_key, sizeof(side.key));
    return side;
}

static inline SSL_CTX *psk_peer(const char *ciphers)
{
    SSL_CTX *context = make_context(ciphers, NULL, NULL, 0);

    SSL_CTX_set_psk_client_callback(context, openssl_client_key);
    SSL_CTX_set_psk_server_callback(context, openssl_server_key);
    return context;
}

#endif
