/* Handshakes that must fail: with which alert, on both sides, and that nothing is left of them. */
#include "tests/unit/handshake_harness.h"

static struct net net;
static struct signer ca, stranger, server_own;
static int alert_read; /* the last one that OpenSSL's end has got */
static long live;      /* allocations of OpenSSL that were not freed */
static long live_bytes;

/* ---- what OpenSSL allocates ---- */

struct block {
    size_t bytes;
    uint64_t align;
};

static void *count_malloc(size_t bytes, const char *file, int line)
{
    struct block *b = malloc(sizeof(*b) + bytes);

    (void)file;
    (void)line;
    if (!b)
        return NULL;
    b->bytes = bytes;
    live++;
    live_bytes += (long)bytes;
    return b + 1;
}

static void count_free(void *at, const char *file, int line)
{
    struct block *b;

    (void)file;
    (void)line;
    if (!at)
        return;
    b = (struct block *)at - 1;
    live--;
    live_bytes -= (long)b->bytes;
    free(b);
}

static void *count_realloc(void *at, size_t bytes, const char *file, int line)
{
    void *to = count_malloc(bytes, file, line);

    if (at && to) {
        size_t before = ((struct block *)at - 1)->bytes;

        memcpy(to, at, before < bytes ? before : bytes);
        count_free(at, file, line);
    }
    return to;
}

/* ---- */

static int setup(void **state)
{
    (void)state;
    ca = make_certificate(NULL, "Test CA", NULL, 400);
    stranger = make_certificate(NULL, "Another CA", NULL, 400);
    server_own = make_certificate(&ca, "gateway", "DNS:" SERVER_NAME, 400);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free_signer(&ca);
    free_signer(&stranger);
    free_signer(&server_own);
    return 0;
}

static void on_info(const SSL *ssl, int where, int value)
{
    (void)ssl;
    if (where & SSL_CB_READ && where & SSL_CB_ALERT)
        alert_read = value & 0xff;
}

/* Runs what is in `net` now, and expects that both ends fail by an alert of the one that is ours,
 * or of the other one. */
static void assert_refused(int ours, int alert, bool by_us)
{
    struct end *e = &net.ends[ours];

    alert_read = 0;
    SSL_CTX_set_info_callback(SSL_get_SSL_CTX(net.ends[!ours].ssl), on_info);
    net_run(&net);
    assert_true(e->failed && net.ends[!ours].failed);
    assert_false(e->established || e->heard);
    assert_int_equal(handshake_state(e->h), HANDSHAKE_FAILED);
    assert_int_equal(handshake_alert(e->h), by_us ? alert : -1 - alert);
    assert_int_equal(alert_read, by_us ? alert : 0);
    assert_true(strlen(handshake_error(e->h)) > 3);
    assert_true(handshake_due_us(e->h) == UINT64_MAX);
    assert_int_equal(handshake_feed(e->h, (const uint8_t *)"x", 1, now_us), HANDSHAKE_FAILED);
    assert_int_equal(handshake_timeout(e->h, now_us + 1), HANDSHAKE_FAILED);
    assert_int_equal(handshake_outcome(e->h, &e->outcome), -EAGAIN);
}

/* ---- pre-shared keys ---- */

/* What OpenSSL's client presents, against a file that has IDENTITY; `stored`: a store is asked. */
static void check_key(const char *ciphers, const char *identity, const uint8_t *key, int alert,
                      unsigned asked, bool split)
{
    struct credentials_side side = psk_side(ciphers);
    SSL_CTX *peer = psk_peer(ciphers);

    client_identity = identity;
    client_key = key;
    net_begin(&net);
    net.split = split;
    net.ends[SERVER].side = &side;
    openssl_end(&net, CLIENT, peer);
    assert_refused(SERVER, alert, true);
    assert_int_equal(net.asked, asked);
    net_end(&net);
    SSL_CTX_free(peer);
    SSL_CTX_free(side.context);
    client_identity = IDENTITY;
    client_key = shared_key;
}

static const char *const bad_identities[] = {
    "",
    "\x01",
    "device\n17",
    "device\x7f",
    "\xff",
    "\xc3",             /* cut short */
    "\x80",             /* without a beginning */
    "\xc0\x80",         /* zero in two bytes */
    "\xe0\x80\x80",     /* in three */
    "\xed\xa0\x80",     /* a surrogate */
    "\xf4\x90\x80\x80", /* beyond Unicode */
    "\xc2\x85",         /* a control character in two bytes */
    "device\xe2\x82",
};

static void wrong_keys(void **state)
{
    static const uint8_t wrong[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17};
    const char *const ciphers[] = {CIPHERS_PSK, "ECDHE-PSK-CHACHA20-POLY1305"};
    static char longer[PRINCIPAL_MAX + 2], longest[256];

    (void)state;
    memset(longer, 'x', sizeof(longer) - 1);
    memset(longest, 'x', sizeof(longest) - 1);
    for (unsigned i = 0; i < 4; i++) {
        const char *c = ciphers[i % 2];

        check_key(c, IDENTITY, wrong, SSL_AD_BAD_RECORD_MAC, 0, i / 2);
        check_key(c, "device-18", shared_key, SSL_AD_UNKNOWN_PSK_IDENTITY, 1, i / 2);
        check_key(c, "device-1", shared_key, SSL_AD_UNKNOWN_PSK_IDENTITY, 1, i / 2);
        check_key(c, longer, shared_key, SSL_AD_UNKNOWN_PSK_IDENTITY, 0, i / 2);
        check_key(c, longest, shared_key, SSL_AD_UNKNOWN_PSK_IDENTITY, 0, i / 2);
        for (unsigned j = 0; j < sizeof(bad_identities) / sizeof(bad_identities[0]); j++)
            check_key(c, bad_identities[j], shared_key, SSL_AD_UNKNOWN_PSK_IDENTITY, 0, i / 2);
    }
}

/* As a client: the server does not know us, or has another key. */
static void wrong_keys_as_client(void **state)
{
    struct credentials_side side = psk_side(CIPHERS_PSK);
    SSL_CTX *peer = psk_peer(CIPHERS_PSK);

    (void)state;
    side.identity = "nobody";
    net_begin(&net);
    net.ends[CLIENT].side = &side;
    openssl_end(&net, SERVER, peer);
    assert_refused(CLIENT, SSL_AD_UNKNOWN_PSK_IDENTITY, false);
    net_end(&net);

    /* OpenSSL's server says nothing to a Finished that does not open. */
    side.identity = IDENTITY;
    side.key[0] ^= 1;
    net_begin(&net);
    net.ends[CLIENT].side = &side;
    openssl_end(&net, SERVER, peer);
    net_run(&net);
    assert_true(net.ends[CLIENT].failed);
    assert_string_equal(handshake_error(net.ends[CLIENT].h), "no answer to Finished: another key?");
    net_end(&net);
    SSL_CTX_free(peer);
    SSL_CTX_free(side.context);
}

/* ---- certificates ---- */

static void check_client_certificate(const struct signer *own, bool refuses, int alert)
{
    struct credentials_side side = {
        .context = make_context(CIPHERS_CERT, &server_own, &ca,
                                SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT),
        .refuses = refuses,
    };
    SSL_CTX *peer = make_context(CIPHERS_CERT, own, &ca, SSL_VERIFY_PEER);

    net_begin(&net);
    net.ends[SERVER].side = &side;
    openssl_end(&net, CLIENT, peer);
    assert_refused(SERVER, alert, true);
    net_end(&net);
    SSL_CTX_free(peer);
    SSL_CTX_free(side.context);
}

static void client_certificates(void **state)
{
    static char long_name[4 + PRINCIPAL_MAX + 2] = "URI:";
    struct signer own[6];

    (void)state;
    memset(long_name + 4, 'x', PRINCIPAL_MAX + 1);
    own[0] = make_certificate(&ca, "device", "DNS:" NAME, -1);
    own[1] = make_certificate(&stranger, "device", "DNS:" NAME, 400);
    own[2] = make_certificate(&ca, NULL, "IP:192.0.2.1", 400);
    own[3] = make_certificate(&ca, "device", long_name, 400);
    own[4] = make_certificate(&ca, "device", "DNS:" NAME, 400);
    check_client_certificate(&own[0], false, SSL_AD_CERTIFICATE_EXPIRED);
    check_client_certificate(&own[1], false, SSL_AD_UNKNOWN_CA);
    check_client_certificate(&own[2], false, SSL_AD_BAD_CERTIFICATE);
    check_client_certificate(&own[3], false, SSL_AD_BAD_CERTIFICATE);
    check_client_certificate(&own[4], true, SSL_AD_ACCESS_DENIED);
    check_client_certificate(NULL, false, SSL_AD_HANDSHAKE_FAILURE);
    for (unsigned i = 0; i < 5; i++)
        free_signer(&own[i]);
}

static void check_server_certificate(const struct signer *own, const struct signer *trusted,
                                     const char *expected, int alert)
{
    struct credentials_side side = {
        /* Even where the context does not ask for it. */
        .context = make_context(CIPHERS_CERT, NULL, trusted, SSL_VERIFY_NONE),
        .expected = expected,
    };
    SSL_CTX *peer = make_context(CIPHERS_CERT, own, &ca, SSL_VERIFY_NONE);

    net_begin(&net);
    net.ends[CLIENT].side = &side;
    openssl_end(&net, SERVER, peer);
    assert_refused(CLIENT, alert, true);
    net_end(&net);
    SSL_CTX_free(peer);
    SSL_CTX_free(side.context);
}

static void server_certificates(void **state)
{
    struct signer expired = make_certificate(&ca, "gateway", "DNS:" SERVER_NAME, -1);

    (void)state;
    check_server_certificate(&expired, &ca, SERVER_NAME, SSL_AD_CERTIFICATE_EXPIRED);
    check_server_certificate(&server_own, &stranger, SERVER_NAME, SSL_AD_UNKNOWN_CA);
    check_server_certificate(&server_own, &ca, "other.example.org", SSL_AD_BAD_CERTIFICATE);
    free_signer(&expired);
}

static void nothing_in_common(void **state)
{
    struct credentials_side side = psk_side(CIPHERS_PSK);
    SSL_CTX *peer = psk_peer("PSK-AES128-GCM-SHA256");

    (void)state;
    net_begin(&net);
    net.ends[SERVER].side = &side;
    openssl_end(&net, CLIENT, peer);
    assert_refused(SERVER, SSL_AD_HANDSHAKE_FAILURE, true);
    assert_string_equal(handshake_error(net.ends[SERVER].h), "no shared cipher");
    net_end(&net);
    SSL_CTX_free(peer);
    SSL_CTX_free(side.context);
}

/* ---- limits ---- */

static void too_many(void **state)
{
    struct credentials_side side = psk_side(CIPHERS_PSK);
    struct handshake_setup setup = {.side = &side, .room = 1200};
    struct handshake *all[8];
    int error = 0;

    (void)state;
    net_begin(&net);
    for (unsigned i = 0; i < 8; i++) {
        all[i] = handshake_accept(net.all, &setup, now_us, &error);
        assert_non_null(all[i]);
    }
    assert_int_equal(handshakes_used(net.all), 8);
    assert_null(handshake_accept(net.all, &setup, now_us, &error));
    assert_int_equal(error, -ENOBUFS);
    handshake_free(all[3]);
    setup.room = HANDSHAKE_ROOM_MIN - 1;
    assert_null(handshake_accept(net.all, &setup, now_us, &error));
    assert_int_equal(error, -EMSGSIZE);
    setup.room = HANDSHAKE_ROOM_MIN;
    all[3] = handshake_accept(net.all, &setup, now_us, &error);
    assert_non_null(all[3]);
    for (unsigned i = 0; i < 8; i++)
        handshake_free(all[i]);
    net_end(&net);
    SSL_CTX_free(side.context);
}

/* A key that never comes: the handshake ends all the same. */
static void key_never_comes(void **state)
{
    struct credentials_side side = psk_side(CIPHERS_PSK);
    SSL_CTX *peer = psk_peer(CIPHERS_PSK);
    struct end *e = &net.ends[SERVER];
    uint64_t began_us = now_us;
    enum handshake_state got;
    size_t length;

    (void)state;
    side.identity = NULL;
    net_begin(&net);
    e->side = &side;
    openssl_end(&net, CLIENT, peer);
    openssl_work(&net.ends[CLIENT]);
    while (net.head != net.tail)
        net_step(&net);
    assert_int_equal(handshake_state(e->h), HANDSHAKE_NEEDS_KEY);
    assert_memory_equal(handshake_identity(e->h, &length), IDENTITY, strlen(IDENTITY));
    assert_int_equal(length, strlen(IDENTITY));
    do {
        assert_int_not_equal(handshake_due_us(e->h), UINT64_MAX);
        now_us = handshake_due_us(e->h);
        got = handshake_timeout(e->h, now_us);
        assert_int_equal(net.head, net.tail); /* nothing is said meanwhile */
    } while (got == HANDSHAKE_NEEDS_KEY);
    assert_int_equal(got, HANDSHAKE_FAILED);
    assert_true(now_us - began_us <= HANDSHAKE_LIFE_US);
    assert_int_equal(handshake_give_key(e->h, shared_key, 16, now_us), HANDSHAKE_FAILED);
    net_end(&net);
    SSL_CTX_free(peer);
    SSL_CTX_free(side.context);
}

/* ---- what it may take ---- */

#define LARGEST   16384u         /* of a message */
#define KEPT_MOST (256u * 1024u) /* by OpenSSL, for one handshake: what coapgw.yaml says */

/* The first byte of a client's message, as a fragment (RFC 6347 4.2.3). */
static void write_fragment(struct packet *p, uint8_t type, unsigned number, unsigned whole)
{
    uint8_t bytes[26] = {22, 0xfe, 0xfd};

    bytes[9] = 1; /* the record's number, and its length */
    bytes[10] = bytes[18] = (uint8_t)number;
    bytes[12] = 13;
    bytes[13] = type;
    bytes[15] = (uint8_t)(whole >> 8);
    bytes[16] = (uint8_t)whole;
    bytes[24] = 1;
    p->to = SERVER;
    p->length = sizeof(bytes);
    memcpy(p->bytes, bytes, sizeof(bytes));
}

/* A client that begins as many and as large messages as it can, and ends none. */
static void what_a_peer_can_have_kept_is_bounded(void **state)
{
    struct credentials_side sides[] = {
        psk_side(CIPHERS_PSK),
        {.context = make_context(CIPHERS_CERT, &server_own, &ca, SSL_VERIFY_PEER)},
    };
    SSL_CTX *peers[] = {psk_peer(CIPHERS_PSK),
                        make_context(CIPHERS_CERT, &server_own, &ca, SSL_VERIFY_PEER)};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct end *server = &net.ends[SERVER];
        struct packet p;
        long kept;

        net_begin(&net);
        openssl_end(&net, CLIENT, peers[i]);
        server->side = &sides[i];
        openssl_work(&net.ends[CLIENT]);
        for (unsigned n = 0; n < 3 && net.head != net.tail; n++) /* ClientHello, twice */
            net_step(&net);
        for (unsigned number = i ? 2 : 3; number < 40; number++) {
            write_fragment(&p, number == 2 ? 11 : 16, number, LARGEST);
            ours_work(server, &p);
        }
        assert_int_equal(handshake_state(server->h), HANDSHAKE_GOING);
        kept = live_bytes;
        handshake_free(server->h);
        server->h = NULL;
        kept -= live_bytes;
        assert_in_range(kept, 10 * LARGEST, KEPT_MOST);
        net_end(&net);
    }
    for (unsigned i = 0; i < 2; i++) {
        SSL_CTX_free(peers[i]);
        SSL_CTX_free(sides[i].context);
    }
}

/* ---- nothing is left ---- */

/* One handshake that is left alone after so many datagrams, or fails. */
static void abandon(struct credentials_side *side, SSL_CTX *peer, unsigned after)
{
    struct end *ends = net.ends;

    openssl_end(&net, CLIENT, peer);
    ends[SERVER].side = side;
    openssl_work(&ends[CLIENT]);
    for (unsigned i = 0; i < after && net.head != net.tail; i++)
        net_step(&net);
    net.head = net.tail;
    SSL_free(ends[CLIENT].ssl);
    if (ends[SERVER].h)
        handshake_free(ends[SERVER].h);
    for (int i = 0; i < 2; i++) {
        memset(&ends[i], 0, sizeof(ends[i]));
        ends[i].net = &net;
        ends[i].self = i;
    }
    net.key_at_us = NEVER;
}

static void nothing_is_left(void **state)
{
    struct signer expired = make_certificate(&ca, "device", "DNS:" NAME, -1);
    struct credentials_side sides[3] = {
        psk_side(CIPHERS_PSK),
        psk_side(CIPHERS_PSK),
        {.context = make_context(CIPHERS_CERT, &server_own, &ca, SSL_VERIFY_PEER)},
    };
    SSL_CTX *peers[3] = {psk_peer(CIPHERS_PSK), psk_peer(CIPHERS_PSK),
                         make_context(CIPHERS_CERT, &expired, &ca, SSL_VERIFY_PEER)};
    long before = 0, before_bytes = 0;

    (void)state;
    sides[1].key[0] ^= 1;
    net_begin(&net);
    net.split = true;
    /* Failed ones run to their end, the others up to any datagram; the first few make what OpenSSL
     * keeps for good. */
    for (unsigned i = 0; i < 2060; i++) {
        if (i == 60) {
            before = live;
            before_bytes = live_bytes;
        }
        if (i % 2)
            abandon(&sides[1 + i / 2 % 2], peers[1 + i / 2 % 2], PACKETS);
        else
            abandon(&sides[i / 2 % 3], peers[i / 2 % 3], i / 6 % 16);
    }
    assert_int_equal(live, before);
    assert_int_equal(live_bytes, before_bytes);
    assert_int_equal(handshakes_used(net.all), 0);
    net_end(&net);
    for (unsigned i = 0; i < 3; i++) {
        SSL_CTX_free(peers[i]);
        SSL_CTX_free(sides[i].context);
    }
    free_signer(&expired);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_keys),
        cmocka_unit_test(wrong_keys_as_client),
        cmocka_unit_test(client_certificates),
        cmocka_unit_test(server_certificates),
        cmocka_unit_test(nothing_in_common),
        cmocka_unit_test(too_many),
        cmocka_unit_test(key_never_comes),
        cmocka_unit_test(nothing_is_left),
        cmocka_unit_test(what_a_peer_can_have_kept_is_bounded),
    };

    /* Before OpenSSL has allocated anything. */
    if (CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) != 1)
        return 1;
    return cmocka_run_group_tests(tests, setup, teardown);
}
