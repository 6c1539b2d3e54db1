/* Handshakes with a client that was written from the RFCs and shares nothing with ours: Connection
 * IDs of all lengths, with tickets and without, and losses of each datagram. */
#include "tests/dtls/peer.h"
#include "tests/unit/handshake_harness.h"

static struct net net;
static struct peer peer;
static struct peer_setup want;
static struct peer_crypto *crypto;

static int setup(void **state)
{
    (void)state;
    crypto = peer_crypto_create();
    return crypto ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    peer_crypto_destroy(crypto);
    return 0;
}

/* ---- the client as an end ---- */

static void peer_sends(void *context, const uint8_t *datagram, size_t length)
{
    struct end *e = context;

    put_bytes(e->net, SERVER, datagram, length);
}

static void peer_delivers(void *context, const uint8_t *data, size_t length)
{
    struct end *e = context;

    assert_int_equal(length, 4);
    assert_memory_equal(data, "pong", 4);
    e->heard = true;
}

static void ask(struct end *e)
{
    e->said_us = now_us + 1000000;
    assert_int_equal(peer_write(&peer, "ping", 4), 0);
}

static void look(struct end *e)
{
    e->failed = peer_state(&peer) == PEER_FAILED;
    if (!e->established && peer_state(&peer) == PEER_ESTABLISHED) {
        e->established = true;
        ask(e);
    }
}

static void peer_begins(struct end *e)
{
    assert_int_equal(peer_start(&peer, now_us), 0);
    look(e);
}

static void peer_works(struct end *e, const struct packet *p)
{
    peer_receive(&peer, p->bytes, p->length, now_us);
    look(e);
}

static uint64_t peer_due_us(const struct end *e)
{
    uint64_t due_us = peer_next_us(&peer);

    return e->established && !e->heard && e->said_us < due_us ? e->said_us : due_us;
}

static void peer_fires(struct end *e)
{
    peer_advance(&peer, now_us);
    look(e);
    if (e->established && !e->heard && e->said_us <= now_us)
        ask(e);
}

static const struct other other = {peer_begins, peer_works, peer_due_us, peer_fires};

/* ---- runs ---- */

static void begin(struct credentials_side *side)
{
    static const struct peer_events events = {.send = peer_sends, .deliver = peer_delivers};

    net_begin(&net);
    net.ends[CLIENT].other = &other;
    net.ends[SERVER].side = side;
    net.ends[SERVER].cid = SERVER_CID;
    net.ends[SERVER].cid_wanted = true;
    want.crypto = crypto;
    want.events = &events;
    want.context = &net.ends[CLIENT];
    want.identity = (const uint8_t *)IDENTITY;
    want.identity_length = (uint16_t)strlen(IDENTITY);
    want.key = shared_key;
    want.key_length = sizeof(shared_key);
    assert_int_equal(peer_init(&peer, &want), 0);
}

static void end(void)
{
    peer_free(&peer);
    net_end(&net);
}

/* What both ends know of each other. */
static void assert_agreed(bool cid)
{
    const struct handshake_outcome *o = &net.ends[SERVER].outcome;
    struct peer_export e;

    assert_talked(&net);
    peer_export(&peer, &e);
    assert_int_equal(o->cipher_suite, e.suite);
    assert_int_equal(o->resumed, e.resumed);
    assert_int_equal(o->extended_master_secret, e.extended);
    assert_memory_equal(o->in.key, e.write.key, e.key_bytes);
    assert_memory_equal(o->out.key, e.read.key, e.key_bytes);
    assert_int_equal(e.cid_agreed, cid);
    assert_int_equal(o->cid_in, cid);
    assert_int_equal(o->cid_out, cid && want.cid_length);
    assert_int_equal(o->peer_cid_length, cid ? want.cid_length : 0);
    assert_memory_equal(o->peer_cid, want.cid, o->peer_cid_length);
    assert_int_equal(o->principal.kind, PRINCIPAL_PSK);
    if (cid)
        assert_memory_equal(e.server_cid, ((uint8_t[]){1, 2, 3, 4, 5, 6, 7, 8}), 8);
}

#define ALL_CIPHERS "PSK-AES128-CCM8:PSK-AES128-GCM-SHA256:PSK-CHACHA20-POLY1305:@SECLEVEL=0"

static void connection_ids(void **state)
{
    static const uint16_t suites[] = {PEER_SUITE_CCM8, PEER_SUITE_GCM, PEER_SUITE_CHACHA};
    struct credentials_side side = psk_side(ALL_CIPHERS);

    (void)state;
    for (unsigned i = 0; i < 3 * (PEER_OWN_CID_MAX + 1); i++) {
        memset(&want, 0, sizeof(want));
        want.suites[0] = suites[i % 3];
        want.offer_cid = true;
        want.cid_length = (uint8_t)(i / 3);
        want.padding = (uint8_t)(i % 5);
        memset(want.cid, (int)i, sizeof(want.cid));
        begin(&side);
        net_run(&net);
        assert_agreed(true);
        assert_int_equal(peer_refused(&peer), 0);
        end();
    }
    memset(&want, 0, sizeof(want));
    begin(&side);
    net_run(&net);
    assert_agreed(false);
    end();
    memset(&want, 0, sizeof(want));
    want.offer_cid = true;
    begin(&side);
    net.ends[SERVER].cid_wanted = false; /* offered, and not taken */
    net_run(&net);
    assert_agreed(false);
    end();
    SSL_CTX_free(side.context);
}

/* ---- losses ---- */

static const struct {
    bool cid, separate, ticket, plain_master;
} scenes[] = {
    {true, false, false, false}, {true, true, false, false}, {true, true, true, false},
    {true, false, true, true},   {false, true, true, true},
};
#define SCENES (sizeof(scenes) / sizeof(scenes[0]))

static void scene(unsigned i, struct credentials_side *side, const struct peer_session *session)
{
    memset(&want, 0, sizeof(want));
    want.offer_cid = scenes[i].cid;
    want.cid_length = 5;
    memcpy(want.cid, "\x19\x18\x17\x16\x15", 5);
    want.separate = scenes[i].separate;
    want.offer_ticket = scenes[i].ticket;
    want.plain_master = scenes[i].plain_master;
    want.session = session;
    begin(side);
}

static void check_scene(unsigned i, struct credentials_side *side,
                        const struct peer_session *session)
{
    unsigned count;

    scene(i, side, session);
    net_run(&net);
    assert_agreed(scenes[i].cid);
    assert_int_equal(net.ends[SERVER].outcome.resumed, session != NULL);
    count = net.sent;
    end();
    for (unsigned k = 0; k < 4 * count; k++) {
        scene(i, side, session);
        net.lose = k < count ? UINT64_C(1) << k : 0;
        net.twice = (long)k - count;
        net.late = (long)k - 2 * count;
        if (k >= 3 * count)
            net.lose = UINT64_C(7) << (k - 3 * count);
        net_run(&net);
        assert_agreed(scenes[i].cid);
        end();
    }
}

static void losses(void **state)
{
    struct credentials_side side = psk_side(ALL_CIPHERS);

    (void)state;
    for (unsigned i = 0; i < SCENES; i++) {
        struct peer_session session;
        uint8_t ticket[1024];

        check_scene(i, &side, NULL);
        if (!scenes[i].ticket)
            continue;
        scene(i, &side, NULL);
        net_run(&net);
        assert_true(peer_session_get(&peer, &session));
        assert_in_range(session.ticket_length, 1, sizeof(ticket));
        memcpy(ticket, session.ticket, session.ticket_length);
        session.ticket = ticket;
        end();
        check_scene(i, &side, &session);
    }
    SSL_CTX_free(side.context);
}

/* A key that the store gives only after the client has said all, record by record. */
static void key_of_the_store(void **state)
{
    struct credentials_side side = psk_side(ALL_CIPHERS);

    (void)state;
    side.identity = NULL;
    for (unsigned i = 0; i < SCENES; i++) {
        scene(i, &side, NULL);
        net.stored_key = shared_key;
        net.key_after_us = 2500000;
        net_run(&net);
        assert_agreed(scenes[i].cid);
        assert_int_equal(net.asked, 1);
        end();
    }
    SSL_CTX_free(side.context);
}

static void wrong_key(void **state)
{
    struct credentials_side side = psk_side(ALL_CIPHERS);

    (void)state;
    side.key[3] ^= 1;
    scene(0, &side, NULL);
    net_run(&net);
    assert_true(net.ends[SERVER].failed && net.ends[CLIENT].failed);
    assert_int_equal(handshake_alert(net.ends[SERVER].h), SSL_AD_BAD_RECORD_MAC);
    assert_int_equal(peer_error(&peer), -ECONNREFUSED);
    end();
    SSL_CTX_free(side.context);
}

/* A ClientHello that comes in pieces is refused, and nothing is kept of it. */
static void hello_in_fragments(void **state)
{
    struct credentials_side side = psk_side(ALL_CIPHERS);

    (void)state;
    memset(&want, 0, sizeof(want));
    want.fragment_bytes = 40;
    begin(&side);
    net_run(&net);
    assert_true(net.ends[CLIENT].failed);
    assert_null(net.ends[SERVER].h);
    assert_int_equal(net.from[SERVER], 0);
    assert_int_equal(handshakes_used(net.all), 0);
    end();
    SSL_CTX_free(side.context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connection_ids),     cmocka_unit_test(losses),
        cmocka_unit_test(key_of_the_store),   cmocka_unit_test(wrong_key),
        cmocka_unit_test(hello_in_fragments),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
