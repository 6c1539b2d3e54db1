/* A worker between clients and origins over DTLS: these are OpenSSL's servers, in memory, with an
 * association for each port of the gateway's. What origins are asked is kept, and answered by hand.
 * Beside tests/unit/worker_harness.h, whose time and clients these are. */
#ifndef COAPGW_TESTS_UNIT_UPSTREAM_DTLS_SETUP_H
#define COAPGW_TESTS_UNIT_UPSTREAM_DTLS_SETUP_H

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "gateway/security/credentials.h"
#include "tests/unit/proxy_harness.h"

#define COAPS        5684
#define ORIGINS      2
#define SEATS        16
#define WIRE_MAX     256
#define ASKED_MAX    64
#define ORIGIN_SUITE "PSK-AES128-CCM8:@SECLEVEL=0"
#define ORIGIN_KEY   "0123456789abcdef"

/* An association of an origin's. */
struct seat {
    uint16_t port; /* of the gateway's; 0: not taken */
    bool closed;   /* by the gateway's close_notify */
    SSL *ssl;
    BIO *in, *out;
};

struct origin {
    struct address address;
    SSL_CTX *context;
    bool silent;  /* nothing comes, nothing goes */
    bool refuses; /* knows nobody */
    bool mute;    /* its DTLS answers, but not its CoAP */
    struct seat seats[SEATS];
    unsigned handshakes; /* done */
    unsigned pings;
};

/* What an origin got. */
struct asked {
    unsigned origin, seat;
    struct message message;
    size_t length;
    uint8_t bytes[1500];
};

struct wire_datagram {
    struct flow flow;
    size_t length;
    uint8_t bytes[2048];
};

struct rig {
    struct harness h;
    char key_path[32];
    struct origin origins[ORIGINS];
    struct wire_datagram up[WIRE_MAX];
    unsigned up_count, up_taken;
    struct asked asked[ASKED_MAX];
    unsigned asked_count, asked_taken;
    struct flow last;  /* of what went to an origin last */
    uint32_t question; /* the last one to the resolver */
    unsigned questions;
};

static struct rig *rig; /* of the test that runs */

/* ---- an origin ---- */

static unsigned origin_psk(SSL *ssl, const char *identity, unsigned char *psk, unsigned room)
{
    const struct origin *o = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    if (o->refuses || strcmp(identity, "gateway") != 0 || room < strlen(ORIGIN_KEY))
        return 0;
    memcpy(psk, ORIGIN_KEY, strlen(ORIGIN_KEY));
    return (unsigned)strlen(ORIGIN_KEY);
}

static int origin_cookie(SSL *ssl, unsigned char *cookie, unsigned *length)
{
    (void)ssl;
    memcpy(cookie, "cookie", 6);
    *length = 6;
    return 1;
}

static int origin_cookie_check(SSL *ssl, const unsigned char *cookie, unsigned length)
{
    (void)ssl;
    return length == 6 && memcmp(cookie, "cookie", 6) == 0;
}

static void origin_start(struct origin *o, const char *address)
{
    assert_int_equal(address_parse(address, &o->address), 0);
    o->context = SSL_CTX_new(DTLS_server_method());
    assert_non_null(o->context);
    SSL_CTX_set_min_proto_version(o->context, DTLS1_2_VERSION);
    assert_int_equal(SSL_CTX_set_cipher_list(o->context, ORIGIN_SUITE), 1);
    SSL_CTX_set_psk_server_callback(o->context, origin_psk);
    SSL_CTX_set_cookie_generate_cb(o->context, origin_cookie);
    SSL_CTX_set_cookie_verify_cb(o->context, origin_cookie_check);
    SSL_CTX_set_options(o->context, SSL_OP_COOKIE_EXCHANGE | SSL_OP_NO_QUERY_MTU);
    SSL_CTX_set_app_data(o->context, o);
}

static void seat_leave(struct seat *s)
{
    SSL_free(s->ssl);
    memset(s, 0, sizeof(*s));
}

/* Started anew: no association is known any more, and nobody has been told. */
static void origin_restart(struct origin *o)
{
    for (unsigned i = 0; i < SEATS; i++)
        seat_leave(&o->seats[i]);
}

static struct seat *seat_at(struct origin *o, uint16_t port)
{
    struct seat *s = NULL;

    for (unsigned i = 0; i < SEATS; i++)
        if (o->seats[i].port == port)
            return &o->seats[i];
    for (unsigned i = 0; !s && i < SEATS; i++)
        if (!o->seats[i].port)
            s = &o->seats[i];
    assert_non_null(s);
    s->port = port;
    s->ssl = SSL_new(o->context);
    s->in = BIO_new(BIO_s_mem());
    s->out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(s->in, -1);
    BIO_set_mem_eof_return(s->out, -1);
    SSL_set_bio(s->ssl, s->in, s->out);
    SSL_set_mtu(s->ssl, 1200);
    SSL_set_accept_state(s->ssl);
    return s;
}

/* ---- the wire ---- */

/* One datagram for each record, as nothing says where OpenSSL's own end. */
static void seat_flush(const struct origin *o, struct seat *s)
{
    struct endpoint peer = {.address = o->address, .port = COAPS};
    struct flow flow = flow_make(0, s->port, &peer, TRANSPORT_UDP);
    uint8_t bytes[8192];
    int length;

    while ((length = BIO_read(s->out, bytes, sizeof(bytes))) > 0)
        for (size_t at = 0, whole; at < (size_t)length; at += whole) {
            whole = 13u + (size_t)(bytes[at + 11] << 8 | bytes[at + 12]);
            assert_true(at + whole <= (size_t)length);
            if (!o->silent)
                harness_give(&rig->h, &flow, bytes + at, whole);
        }
}

/* Only a ClientHello makes an association; all else from a port without one is not understood. */
static bool is_hello(const uint8_t *bytes, size_t length)
{
    return length > 13 && bytes[0] == 22 && bytes[13] == 1;
}

static void answer_ping(struct origin *o, struct seat *s, uint16_t mid)
{
    uint8_t rst[4];

    o->pings++;
    message_write_empty(rst, TYPE_RST, mid);
    if (!o->mute)
        assert_int_equal(SSL_write(s->ssl, rst, sizeof(rst)), sizeof(rst));
}

static void origin_receive(struct origin *o, const struct wire_datagram *d)
{
    struct seat *s = NULL;
    struct asked *a;
    int length;

    for (unsigned i = 0; !s && i < SEATS; i++)
        if (o->seats[i].port == d->flow.local_port)
            s = &o->seats[i];
    if (o->silent || (!s && !is_hello(d->bytes, d->length)))
        return;
    s = seat_at(o, d->flow.local_port);
    BIO_write(s->in, d->bytes, (int)d->length);
    if (!SSL_is_init_finished(s->ssl)) {
        ERR_clear_error();
        if (SSL_do_handshake(s->ssl) == 1)
            o->handshakes++;
    }
    for (;;) {
        assert_true(rig->asked_count < ASKED_MAX);
        a = &rig->asked[rig->asked_count];
        ERR_clear_error();
        length = SSL_read(s->ssl, a->bytes, sizeof(a->bytes));
        if (length <= 0)
            break;
        assert_int_equal(message_parse(a->bytes, (size_t)length, &a->message), VERDICT_OK);
        if (a->message.code == CODE_EMPTY && a->message.type == TYPE_CON) {
            answer_ping(o, s, a->message.mid);
            continue;
        }
        a->length = (size_t)length;
        a->origin = (unsigned)(o - rig->origins);
        a->seat = (unsigned)(s - o->seats);
        rig->asked_count++;
    }
    s->closed = (SSL_get_shutdown(s->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
    seat_flush(o, s);
    if (s->closed || (!SSL_is_init_finished(s->ssl) && ERR_peek_error()))
        seat_leave(s);
}

static void rig_send(void *context, const struct flow *flow, struct outgoing *out, uint16_t length)
{
    struct wire_datagram *d = &rig->up[rig->up_count];

    if (flow->peer_port != COAPS) {
        harness_send(context, flow, out, length);
        return;
    }
    assert_true(rig->up_count < WIRE_MAX);
    rig->h.open_buffers--;
    assert_int_equal(flow->transport, TRANSPORT_UDP);
    assert_in_range(out->data[0], 20, 25); /* a record: nothing goes there in clear */
    rig->up_count++;
    d->flow = rig->last = *flow;
    d->length = length;
    memcpy(d->bytes, out->data, length);
}

/* All that can happen without time going on does. */
static void rig_settle(void)
{
    struct harness *h = &rig->h;

    do {
        while (worker_next_us(h->worker) <= h->now && worker_advance(h->worker, h->now))
            ;
        while (rig->up_taken < rig->up_count) {
            struct wire_datagram d = rig->up[rig->up_taken++];

            for (unsigned i = 0; i < ORIGINS; i++)
                if (address_equal(&rig->origins[i].address, &d.flow.peer))
                    origin_receive(&rig->origins[i], &d);
        }
        rig->up_count = rig->up_taken = 0;
    } while (worker_next_us(h->worker) <= h->now);
}

/* Time goes on, and what goes to the origins gets there. */
static inline void rig_advance(uint64_t us)
{
    struct harness *h = &rig->h;
    uint64_t end = h->now + us;

    for (rig_settle(); h->now < end; rig_settle()) {
        uint64_t next = worker_next_us(h->worker);

        h->now = next < end ? next : end;
        worker_advance(h->worker, h->now);
    }
}

/* ---- start and end ---- */

static bool rig_resolve(void *context, const char *name, size_t length, uint32_t id)
{
    (void)context;
    (void)name;
    (void)length;
    rig->question = id;
    rig->questions++;
    return true;
}

static void rig_prepare(struct worker_setup *setup)
{
    setup->io.resolve = rig_resolve;
    setup->io.send = rig_send;
    setup->credentials = credentials_load(setup->config, NULL, stderr);
    assert_non_null(setup->credentials);
}

/* `yaml` has one %s, for the file of the key; a second server may be at 10.99.0.12. */
static void rig_start(void **state, const char *yaml)
{
    static const char *const addresses[ORIGINS] = {"10.99.0.11", "10.99.0.12"};
    char text[8192];
    int fd;

    rig = calloc(1, sizeof(*rig));
    strcpy(rig->key_path, "/tmp/upstream_dtls_XXXXXX");
    fd = mkstemp(rig->key_path);
    assert_true(fd >= 0);
    for (unsigned i = 0; i < strlen(ORIGIN_KEY); i++)
        dprintf(fd, "%02x", ORIGIN_KEY[i]);
    dprintf(fd, "\n");
    close(fd);
    for (unsigned i = 0; i < ORIGINS; i++)
        origin_start(&rig->origins[i], addresses[i]);
    snprintf(text, sizeof(text), yaml, rig->key_path);
    harness_start_prepared(&rig->h, text, NULL, NULL, rig_prepare);
    *state = rig;
}

static int rig_stop(void **state)
{
    (void)state;
    harness_stop(&rig->h);
    for (unsigned i = 0; i < ORIGINS; i++) {
        origin_restart(&rig->origins[i]);
        SSL_CTX_free(rig->origins[i].context);
    }
    unlink(rig->key_path);
    free(rig);
    return 0;
}

/* ---- steps ---- */

/* What an origin got next; NULL: nothing. */
static inline struct asked *rig_asked(void)
{
    return rig->asked_taken < rig->asked_count ? &rig->asked[rig->asked_taken++] : NULL;
}

static inline struct asked *rig_expect(unsigned origin, uint8_t code)
{
    struct asked *a = rig_asked();

    assert_non_null(a);
    assert_int_equal(a->origin, origin);
    assert_int_equal(a->message.code, code);
    return a;
}

/* The origin says something in an association. */
static inline void rig_say(const struct asked *to, const uint8_t *bytes, size_t length)
{
    struct origin *o = &rig->origins[to->origin];
    struct seat *s = &o->seats[to->seat];

    assert_non_null(s->ssl);
    assert_int_equal(SSL_write(s->ssl, bytes, (int)length), (int)length);
    seat_flush(o, s);
    rig_settle();
}

/* An answer to what it was asked, piggybacked unless the message has an ID. */
static inline void rig_answers(const struct asked *to, const struct mold *mold)
{
    struct mold m = *mold;
    uint8_t bytes[1500];

    if (!m.mid) {
        m.type = TYPE_ACK;
        m.mid = to->message.mid;
    }
    m.token = to->message.token;
    m.token_length = to->message.token_length;
    rig_say(to, bytes, mold_write(&m, bytes));
}

#define ANSWER(to, ...) rig_answers(to, &(const struct mold){__VA_ARGS__})

/* The origin takes leave of an association. */
static inline void rig_close(const struct asked *in)
{
    struct origin *o = &rig->origins[in->origin];
    struct seat *s = &o->seats[in->seat];

    (void)SSL_shutdown(s->ssl);
    seat_flush(o, s);
    rig_settle();
}

/* The last question's answer is the address of an origin. */
static inline void rig_resolved(unsigned origin, uint32_t ttl_s)
{
    struct resolved answer = {.id = rig->question, .ttl_s = ttl_s, .count = 1};

    answer.addresses[0] = rig->origins[origin].address;
    worker_resolved(rig->h.worker, &answer, rig->h.now);
    rig_settle();
}

static inline unsigned rig_seats(const struct origin *o)
{
    unsigned n = 0;

    for (unsigned i = 0; i < SEATS; i++)
        n += o->seats[i].port != 0;
    return n;
}

#endif
