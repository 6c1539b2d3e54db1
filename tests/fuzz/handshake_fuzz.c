/* Handshakes with a peer whose datagrams come damaged, cut, doubled, in other orders, or are made
 * up. The first byte says which handshake it is:
 *
 *   0x03  0: AES-128-CCM-8, 1: ECDHE_PSK, 2: certificates on both sides, 3: a key that is asked for
 *   0x04  we are the client     0x08  the other end is ours, too, and both have Connection IDs
 *   0x10  datagrams are as small as can be
 *
 * and the rest is what is done with the datagrams for us, one after the other: an operation, and
 * what it needs. When it ends they are given as they are. Numbers that are drawn at random follow
 * from the first byte, so that an input does the same each time. */
#define OPENSSL_SUPPRESS_DEPRECATED /* there is no other way to give OpenSSL known randomness */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "gateway/security/handshake_parts.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PACKET_MAX 2048u
#define QUEUE      64u
#define STEPS_MAX  400u
#define IDENTITY   "device-17"

enum operation {
    AS_IT_IS,
    LOSE,
    CHANGE,  /* place (2), what it is mixed with */
    SHORTEN, /* by how much */
    TWICE,
    LATER,    /* behind the next one */
    FRAGMENT, /* bytes of one: what is a handshake message of epoch 0 */
    RAW,      /* length, bytes: a datagram in front of it */
    RECORD,   /* type, epoch, sequence (1), length, bytes: a record of that, in front of it */
    SEALED,   /* type, sequence (1), length, bytes: the same under the peer's keys */
    TIME,     /* seconds (1) go by */
    KEY,      /* 0: there is none */
    ABANDON,
    OPERATIONS,
};

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "violated: %s\n", what);
    abort();
}

/* ---- randomness that is not ---- */

static uint64_t drawn;

static int draw(unsigned char *out, int length)
{
    for (int i = 0; i < length; i++) {
        drawn ^= drawn << 13;
        drawn ^= drawn >> 7;
        drawn ^= drawn << 17;
        out[i] = (unsigned char)(drawn >> 32);
    }
    return 1;
}

static int draw_status(void)
{
    return 1;
}

static const RAND_METHOD known = {.bytes = draw, .pseudorand = draw, .status = draw_status};

/* ---- credentials ---- */

struct credentials_side {
    SSL_CTX *context;
    bool knows; /* the key is in the file */
};

static struct credentials_side sides[2][4]; /* of servers, of clients; by kind */
static SSL_CTX *peers[2][4];
static const uint8_t shared_key[16] = "0123456789abcde";

SSL_CTX *credentials_context(const struct credentials_side *side, unsigned worker)
{
    (void)worker;
    return side->context;
}

int credentials_psk(const struct credentials_side *side, const uint8_t *identity, size_t length,
                    uint8_t key[PSK_KEY_MAX])
{
    require(length >= 1 && length <= PRINCIPAL_MAX && !memchr(identity, 0, length), "a text");
    if (!side->knows || length != strlen(IDENTITY) || memcmp(identity, IDENTITY, length) != 0)
        return -ENOENT;
    memcpy(key, shared_key, sizeof(shared_key));
    return sizeof(shared_key);
}

int credentials_own_psk(const struct credentials_side *side, const char **identity,
                        uint8_t key[PSK_KEY_MAX])
{
    (void)side;
    *identity = IDENTITY;
    memcpy(key, shared_key, sizeof(shared_key));
    return sizeof(shared_key);
}

int credentials_expect(const struct credentials_side *side, SSL *ssl, const struct address *server)
{
    (void)side;
    (void)ssl;
    (void)server;
    return 0;
}

bool credentials_admit(const struct credentials_side *side, const struct principal *principal)
{
    (void)side;
    (void)principal;
    return true;
}

static unsigned int peer_client_key(SSL *ssl, const char *hint, char *identity,
                                    unsigned int identity_room, unsigned char *key,
                                    unsigned int key_room)
{
    (void)ssl;
    (void)hint;
    require(identity_room > strlen(IDENTITY) && key_room >= 16, "room for a key");
    strcpy(identity, IDENTITY);
    memcpy(key, shared_key, 16);
    return 16;
}

static unsigned int peer_server_key(SSL *ssl, const char *identity, unsigned char *key,
                                    unsigned int room)
{
    (void)ssl;
    (void)identity;
    require(room >= 16, "room for a key");
    memcpy(key, shared_key, 16);
    return 16;
}

static SSL_CTX *make_context(unsigned kind, X509 *certificate, EVP_PKEY *key)
{
    static const char *const ciphers[] = {
        "PSK-AES128-CCM8:@SECLEVEL=0", "ECDHE-PSK-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-GCM-SHA256", "PSK-AES128-GCM-SHA256:PSK-AES128-CCM8:@SECLEVEL=0"};
    SSL_CTX *context = SSL_CTX_new(DTLS_method());

    SSL_CTX_set_min_proto_version(context, DTLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(context, DTLS1_2_VERSION);
    SSL_CTX_set_session_id_context(context, (const uint8_t *)"x", 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    require(SSL_CTX_set_cipher_list(context, ciphers[kind]) == 1, "cipher suites");
    if (kind != 2)
        return context;
    SSL_CTX_use_certificate(context, certificate);
    SSL_CTX_use_PrivateKey(context, key);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return context;
}

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);

    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -86400);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"fuzz", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_set_pubkey(certificate, key);
    require(X509_sign(certificate, key, EVP_sha256()) > 0, "a certificate");
    return certificate;
}

/* ---- the network ---- */

struct packet {
    size_t length;
    uint8_t bytes[PACKET_MAX];
};

struct queue {
    struct packet packets[QUEUE];
    unsigned head, tail;
};

struct run {
    const uint8_t *data;
    size_t left;
    uint64_t now_us;
    uint16_t room;
    bool we_connect;
    struct credentials_side *side, *other_side;
    struct flow wire;
    struct handshake *ours, *others; /* `others`: the other end is ours, too */
    SSL *ssl;                        /* else */
    struct queue in, back;           /* for us, and for the other end */
    const struct packet *reads;
};

static struct handshakes *all;
static BIO_METHOD *method;
static struct run run;

static void queue_put(struct queue *q, const uint8_t *bytes, size_t length)
{
    struct packet *p = &q->packets[q->tail % QUEUE];

    if (q->tail - q->head == QUEUE || length > PACKET_MAX)
        return;
    q->tail++;
    p->length = length;
    memcpy(p->bytes, bytes, length);
}

static struct packet *queue_take(struct queue *q)
{
    return q->head == q->tail ? NULL : &q->packets[q->head++ % QUEUE];
}

static void on_send(void *context, struct handshake *h, const uint8_t *datagram, size_t length)
{
    (void)context;
    require(length > 0 && length <= run.room, "a datagram that fits");
    queue_put(handshake_owner(h) == &run.ours ? &run.back : &run.in, datagram, length);
}

static int peer_read(BIO *bio, char *out, int room)
{
    size_t length;

    BIO_clear_retry_flags(bio);
    if (!run.reads) {
        BIO_set_retry_read(bio);
        return -1;
    }
    length = run.reads->length < (size_t)room ? run.reads->length : (size_t)room;
    memcpy(out, run.reads->bytes, length);
    run.reads = NULL;
    return (int)length;
}

static int peer_write(BIO *bio, const char *bytes, int length)
{
    (void)bio;
    queue_put(&run.in, (const uint8_t *)bytes, (size_t)length);
    return length;
}

static long peer_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_DGRAM_GET_MTU_OVERHEAD ? 28 : command == BIO_CTRL_FLUSH;
}

static int peer_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct handshakes_setup setup = {.max = 4, .ops = {.send = on_send}, .seed = {7}};
    EVP_PKEY *key;
    X509 *certificate;

    (void)argc;
    (void)argv;
    drawn = 1;
    RAND_set_rand_method(&known);
    key = EVP_EC_gen("P-256");
    certificate = make_certificate(key);
    for (unsigned kind = 0; kind < 4; kind++)
        for (unsigned client = 0; client < 2; client++) {
            sides[client][kind].context = make_context(kind, certificate, key);
            sides[client][kind].knows = kind != 3;
            peers[client][kind] = make_context(kind, certificate, key);
            SSL_CTX_set_psk_client_callback(peers[client][kind], peer_client_key);
            SSL_CTX_set_psk_server_callback(peers[client][kind], peer_server_key);
        }
    all = handshakes_create(&setup);
    method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "fuzz");
    BIO_meth_set_create(method, peer_create);
    BIO_meth_set_read(method, peer_read);
    BIO_meth_set_write(method, peer_write);
    BIO_meth_set_ctrl(method, peer_control);
    return 0;
}

/* ---- both ends ---- */

static struct handshake *begin(bool client, void *owner, const struct credentials_side *side,
                               uint64_t cid)
{
    struct handshake_setup setup = {
        .side = side, .own_cid = cid, .cid_wanted = true, .room = run.room, .owner = owner};
    struct address server;
    int error;

    memset(&server, 0, sizeof(server));
    return client ? handshake_connect(all, &setup, &server, run.now_us, &error)
                  : handshake_accept(all, &setup, run.now_us, &error);
}

static void check(const struct handshake *h)
{
    struct handshake_outcome outcome;

    if (handshake_state(h) == HANDSHAKE_DONE) {
        require(handshake_outcome(h, &outcome) == 0, "keys");
        require(outcome.suite < SUITE_COUNT, "a suite");
        require(h->sequences[1] <= outcome.next_sequence, "numbers that are free");
        require(!h->ssl, "OpenSSL has gone");
    } else if (handshake_state(h) == HANDSHAKE_FAILED) {
        require(*handshake_error(h), "a reason");
        require(!h->ssl, "OpenSSL has gone");
    }
    require(handshake_weight(h) > 0, "a weight");
}

/* A datagram for one of ours that is there, or will be if it is a ClientHello. */
static void give(struct handshake **h, void *owner, const struct credentials_side *side,
                 uint64_t cid, bool client, const struct packet *p, struct queue *back)
{
    uint8_t out[HELLO_VERIFY_BYTES];
    uint8_t *exact = malloc(p->length + !p->length); /* the sanitizer watches its end */
    size_t length = 0;
    enum hello_verdict verdict;

    memcpy(exact, p->bytes, p->length);
    verdict = hello_check(all, &run.wire, exact, p->length, run.now_us, out, &length);
    if (!*h && !client && verdict == HELLO_VERIFY)
        queue_put(back, out, length);
    if (!*h && !client && verdict == HELLO_GOOD)
        *h = begin(false, owner, side, cid);
    if (*h) {
        (void)handshake_feed(*h, exact, p->length, run.now_us);
        require(handshake_left(*h) <= p->length, "no more is left than came");
        check(*h);
    }
    free(exact);
}

static void ours_gets(const struct packet *p)
{
    give(&run.ours, &run.ours, run.side, UINT64_C(0x0102030405060708), run.we_connect, p,
         &run.back);
}

/* All that there is for the other end. */
static void others_work(void)
{
    const struct packet *p;

    while ((p = queue_take(&run.back))) {
        if (run.ssl) {
            run.reads = p;
            if (SSL_is_init_finished(run.ssl))
                run.reads = NULL;
            else
                (void)SSL_do_handshake(run.ssl);
        } else {
            give(&run.others, &run.others, run.other_side, UINT64_C(0x1112131415161718),
                 !run.we_connect, p, &run.in);
            if (run.others && handshake_state(run.others) == HANDSHAKE_NEEDS_KEY)
                (void)handshake_give_key(run.others, shared_key, 16, run.now_us);
        }
    }
}

/* ---- operations ---- */

static uint8_t next(void)
{
    if (!run.left)
        return 0;
    run.left--;
    return *run.data++;
}

/* So many bytes of the input behind what is there. */
static void take(struct packet *p, size_t length)
{
    length = length < run.left ? length : run.left;
    memcpy(p->bytes + p->length, run.data, length);
    p->length += length;
    run.data += length;
    run.left -= length;
}

static void change(struct packet *p)
{
    size_t at = (size_t)next() << 8;

    at |= next();
    if (p->length)
        p->bytes[at % p->length] ^= next();
}

/* Records of other messages go as they are. */
static void fragment(const struct packet *p, unsigned bytes)
{
    struct packet out;
    size_t whole = p->length - 25u, part;

    bytes += !bytes;
    if (p->length <= 25 || p->bytes[0] != RECORD_HANDSHAKE || p->bytes[4] ||
        parts_number(p->bytes + 11, 2) != p->length - 13) {
        ours_gets(p);
        return;
    }
    for (size_t at = 0; at < whole; at += part) {
        part = whole - at < bytes ? whole - at : bytes;
        memcpy(out.bytes, p->bytes, 25);
        memcpy(out.bytes + 25, p->bytes + 25 + at, part);
        out.bytes[9] = (uint8_t)(at >> 8);
        out.bytes[10] = (uint8_t)at; /* its number */
        parts_put(out.bytes + 11, 12 + part, 2);
        parts_put(out.bytes + 19, at, 3);
        parts_put(out.bytes + 22, part, 3);
        out.length = 25 + part;
        ours_gets(&out);
    }
}

static void make_record(void)
{
    struct packet p = {.length = 0};
    uint8_t *at = parts_put(p.bytes, next(), 1);

    at = parts_put(at, RECORD_VERSION_1_2, 2);
    at = parts_put(at, next(), 2);
    at = parts_put(at, next(), 6);
    p.length = RECORD_HEADER_BYTES;
    take(&p, next());
    parts_put(at, p.length - RECORD_HEADER_BYTES, 2);
    ours_gets(&p);
}

/* What only who has the keys can send. */
static void make_sealed(void)
{
    struct packet p = {.length = 0};
    struct record_mark mark = {.type = next(), .epoch = 1, .sequence = next()};
    unsigned lead;
    int length;

    if (!run.ours || !run.ours->keyed)
        return;
    if (run.ours->cid_used) {
        mark.cid = run.ours->own_cid;
        mark.cid_length = run.ours->own_cid_length;
    }
    lead = record_lead(run.ours->suite, mark.cid_length);
    p.length = lead;
    take(&p, next());
    length =
        record_seal(all->aead, AEAD_NO_SLOT, &run.ours->key_in, &mark, p.bytes, p.length - lead);
    if (length < 0)
        return;
    p.length = (size_t)length;
    ours_gets(&p);
}

static void pass_time(void)
{
    run.now_us += (uint64_t)next() * 1000000;
    if (run.ours) {
        (void)handshake_timeout(run.ours, run.now_us);
        check(run.ours);
    }
    if (run.others)
        (void)handshake_timeout(run.others, run.now_us);
}

static void key(uint8_t there)
{
    if (!run.ours)
        return;
    (void)handshake_give_key(run.ours, there ? shared_key : NULL, there ? 16 : 0, run.now_us);
    check(run.ours);
}

/* False: it is over. */
static bool operate(struct packet *p)
{
    struct packet *other;
    uint8_t operation = next() % OPERATIONS;

    switch ((enum operation)operation) {
    case LOSE:
        return true;
    case CHANGE:
        change(p);
        break;
    case SHORTEN:
        p->length -= next() % (p->length + 1);
        break;
    case TWICE:
        ours_gets(p);
        break;
    case LATER:
        other = queue_take(&run.in);
        if (other)
            ours_gets(other);
        break;
    case FRAGMENT:
        fragment(p, next());
        return true;
    case RAW: {
        struct packet raw = {.length = 0};

        take(&raw, next());
        ours_gets(&raw);
        break;
    }
    case RECORD:
        make_record();
        break;
    case SEALED:
        make_sealed();
        break;
    case TIME:
        pass_time();
        break;
    case KEY:
        key(next());
        break;
    case ABANDON:
        return false;
    case AS_IT_IS:
    case OPERATIONS:
        break;
    }
    ours_gets(p);
    return true;
}

/* ---- one input ---- */

static void start(uint8_t first)
{
    unsigned kind = first & 3;

    run.in.head = run.in.tail = run.back.head = run.back.tail = 0;
    run.now_us = 1000000;
    run.we_connect = first & 4;
    run.room = first & 16 ? HANDSHAKE_ROOM_MIN : 1200;
    run.side = &sides[run.we_connect][kind];
    run.other_side = &sides[!run.we_connect][kind];
    run.ours = run.others = NULL;
    run.ssl = NULL;
    run.reads = NULL;
    drawn = UINT64_C(0x9e3779b97f4a7c15) + first;
    if (!(first & 8)) {
        BIO *bio = BIO_new(method);

        run.ssl = SSL_new(peers[!run.we_connect][kind]);
        SSL_set_bio(run.ssl, bio, bio);
        SSL_set_options(run.ssl, SSL_OP_NO_QUERY_MTU);
        SSL_set_mtu(run.ssl, run.room);
        if (run.we_connect)
            SSL_set_accept_state(run.ssl);
        else
            SSL_set_connect_state(run.ssl);
    }
    if (run.we_connect)
        run.ours = begin(true, &run.ours, run.side, UINT64_C(0x0102030405060708));
    else if (run.ssl)
        (void)SSL_do_handshake(run.ssl);
    else
        run.others = begin(true, &run.others, run.other_side, UINT64_C(0x1112131415161718));
}

static void stop(void)
{
    SSL_free(run.ssl);
    if (run.ours)
        handshake_free(run.ours);
    if (run.others)
        handshake_free(run.others);
    require(handshakes_used(all) == 0, "all was given back");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct packet *p;

    if (size == 0 || size > PACKET_MAX / 2)
        return 0;
    run.data = data + 1;
    run.left = size - 1;
    start(data[0]);
    for (unsigned i = 0; i < STEPS_MAX; i++) {
        others_work();
        p = queue_take(&run.in);
        if (p ? !operate(p) : !run.left)
            break;
        if (!p) {
            struct packet nothing = {.length = 0};

            if (!operate(&nothing))
                break;
        }
    }
    stop();
    return 0;
}
