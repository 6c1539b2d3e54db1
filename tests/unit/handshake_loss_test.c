/* Handshakes over a network that loses, doubles, reorders and cuts: each datagram of each flight in
 * turn, in both roles. And what happens when nobody answers. */
#include "tests/unit/handshake_harness.h"

static struct net net;
static struct signer ca, server_own, client_own;

static int setup(void **state)
{
    (void)state;
    ca = make_certificate(NULL, "Test CA", NULL, 400);
    server_own = make_certificate(&ca, "gateway", "DNS:" SERVER_NAME, 400);
    client_own = make_certificate(&ca, "device", "DNS:" NAME, 400);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free_signer(&ca);
    free_signer(&server_own);
    free_signer(&client_own);
    return 0;
}

/* ---- scenes ---- */

static const struct scene {
    const char *ciphers; /* NULL: with certificates on both sides */
    bool our_server, our_client, split, ticket;
    uint16_t room;
    unsigned cut;
    bool stored;
} scenes[] = {
    {CIPHERS_PSK, true, false, false, false, 1200, 0, false},
    {CIPHERS_PSK, true, false, true, false, 1200, 0, false},
    {CIPHERS_PSK, true, false, true, false, 1200, 4, true},
    {"ECDHE-PSK-CHACHA20-POLY1305", true, false, true, false, 1200, 20, true},
    {CIPHERS_PSK, true, false, true, true, 1200, 0, false},
    {NULL, true, false, false, false, 1200, 0, false},
    {NULL, true, false, false, false, HANDSHAKE_ROOM_MIN, 0, false},
    {NULL, true, false, true, false, HANDSHAKE_ROOM_MIN, 0, false},
    {NULL, true, false, true, true, 1200, 0, false},
    {CIPHERS_PSK, false, true, false, false, 1200, 0, false},
    {CIPHERS_PSK, false, true, true, false, 1200, 0, false},
    {NULL, false, true, true, false, HANDSHAKE_ROOM_MIN, 0, false},
    {CIPHERS_PSK, true, true, true, false, 1200, 0, false},
    {NULL, true, true, true, false, HANDSHAKE_ROOM_MIN, 0, false},
};
#define SCENES (sizeof(scenes) / sizeof(scenes[0]))

struct stage {
    const struct scene *scene;
    struct credentials_side sides[2];
    SSL_SESSION *session;
};

static void stage_begin(struct stage *s, const struct scene *scene)
{
    const struct signer *owns[] = {&client_own, &server_own};

    memset(s, 0, sizeof(*s));
    s->scene = scene;
    for (int i = 0; i < 2; i++) {
        struct credentials_side *side = &s->sides[i];

        if (scene->ciphers) {
            *side = psk_side(scene->ciphers);
            SSL_CTX_set_psk_client_callback(side->context, openssl_client_key);
            SSL_CTX_set_psk_server_callback(side->context, openssl_server_key);
        } else {
            side->context = make_context(CIPHERS_CERT, owns[i], &ca, SSL_VERIFY_PEER);
            side->expected = SERVER_NAME;
        }
    }
    if (scene->stored)
        s->sides[SERVER].identity = NULL;
}

static void stage_end(struct stage *s)
{
    for (int i = 0; i < 2; i++)
        SSL_CTX_free(s->sides[i].context);
    SSL_SESSION_free(s->session);
}

/* Ready to run, with nothing that goes wrong. */
static void stage_net(struct stage *s)
{
    const bool ours[] = {s->scene->our_client, s->scene->our_server};

    net_begin(&net);
    net.split = s->scene->split;
    net.room = s->scene->room;
    net.cut = s->scene->cut;
    net.stored_key = shared_key;
    net.key_after_us = 300000;
    for (int i = 0; i < 2; i++) {
        net.ends[i].side = &s->sides[i];
        net.ends[i].cid_wanted = true;
        net.ends[i].cid = i == CLIENT ? CLIENT_CID : SERVER_CID;
        if (!ours[i])
            openssl_end(&net, i, s->sides[i].context);
    }
    if (s->session)
        SSL_set_session(net.ends[CLIENT].ssl, s->session);
}

/* How many datagrams it takes when all goes well; a ticket for later, if the scene wants one. */
static unsigned stage_count(struct stage *s)
{
    unsigned sent;

    if (s->scene->ticket) {
        stage_net(s);
        net_run(&net);
        assert_talked(&net);
        s->session = SSL_SESSION_dup(SSL_get0_session(net.ends[CLIENT].ssl));
        net_end(&net);
    }
    stage_net(s);
    net_run(&net);
    assert_talked(&net);
    if (s->session)
        assert_true(net.ends[SERVER].outcome.resumed);
    sent = net.sent;
    net_end(&net);
    assert_in_range(sent, 6, 60);
    return sent;
}

static void run_scene(struct stage *s, uint64_t lose, long twice, long late)
{
    stage_net(s);
    net.lose = lose;
    net.twice = twice;
    net.late = late;
    net_run(&net);
    if (!net.ends[0].heard || !net.ends[1].heard)
        print_error("scene %u, lost %llx, twice %ld, late %ld\n", (unsigned)(s->scene - scenes),
                    (unsigned long long)lose, twice, late);
    assert_talked(&net);
    net_end(&net);
}

static void each_datagram(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SCENES; i++) {
        struct stage s;
        unsigned count;

        stage_begin(&s, &scenes[i]);
        count = stage_count(&s);
        for (unsigned k = 0; k < count; k++) {
            run_scene(&s, UINT64_C(1) << k, -1, -1);
            run_scene(&s, 0, k, -1);
            run_scene(&s, 0, -1, k);
        }
        stage_end(&s);
    }
}

/* A whole stretch of datagrams, as when a network is away for a moment. */
static void stretches(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SCENES; i++) {
        struct stage s;
        unsigned count;

        stage_begin(&s, &scenes[i]);
        count = stage_count(&s);
        for (unsigned k = 0; k < count; k++) {
            run_scene(&s, UINT64_C(3) << k, -1, -1);
            run_scene(&s, UINT64_C(5) << k, -1, -1);
            run_scene(&s, UINT64_C(0x1f) << k, -1, -1);
        }
        stage_end(&s);
    }
}

/* ---- the last flight ---- */

/* The client has not got our last flight, and says its own again and again: we repeat ours, but not
 * for ever, and never with a number that was used. */
static void last_flight(void **state)
{
    struct stage s;
    struct packet finished = {0};
    unsigned before;

    (void)state;
    stage_begin(&s, &scenes[1]);
    stage_net(&s);
    openssl_work(&net.ends[CLIENT]);
    while (!net.ends[SERVER].established) {
        finished = net.packets[net.head % PACKETS];
        net_step(&net);
    }
    assert_int_equal(finished.bytes[0], RECORD_HANDSHAKE);
    assert_int_equal(finished.bytes[4], 1);
    assert_int_equal(net.ends[SERVER].outcome.next_sequence, 1 + HANDSHAKE_SPARE);
    before = net.ends[SERVER].lingered;
    net.tail = net.head;
    for (unsigned i = 0; i < 3 * HANDSHAKE_SPARE; i++) {
        assert_int_equal(
            handshake_feed(net.ends[SERVER].h, finished.bytes, finished.length, now_us),
            HANDSHAKE_DONE);
        for (; net.head != net.tail; net.head++) {
            const struct packet *p = &net.packets[net.head % PACKETS];

            if (p->bytes[4] == 1)
                assert_int_equal(record_sequence(p->bytes), i + 1);
        }
    }
    assert_int_equal(net.ends[SERVER].lingered - before, HANDSHAKE_SPARE);
    assert_int_equal(handshake_due_us(net.ends[SERVER].h), now_us + HANDSHAKE_LINGER_US);
    assert_int_equal(handshake_timeout(net.ends[SERVER].h, now_us + HANDSHAKE_LINGER_US),
                     HANDSHAKE_DONE);
    assert_true(handshake_due_us(net.ends[SERVER].h) == UINT64_MAX);
    net_end(&net);
    stage_end(&s);
}

/* ---- nobody answers ---- */

static void check_silence(struct end *e, unsigned first)
{
    uint64_t began_us = now_us, wait_us = HANDSHAKE_FIRST_US;
    unsigned sent = e->net->from[e->self];

    assert_true(sent >= first);
    for (unsigned i = 0; i <= HANDSHAKE_REPEATS; i++) {
        assert_true(handshake_due_us(e->h) == now_us + wait_us);
        assert_int_equal(handshake_timeout(e->h, now_us + wait_us - 1), HANDSHAKE_GOING);
        assert_int_equal(e->net->from[e->self], sent);
        now_us += wait_us;
        wait_us = 2 * wait_us < HANDSHAKE_LAST_US ? 2 * wait_us : HANDSHAKE_LAST_US;
        assert_int_equal(handshake_timeout(e->h, now_us),
                         i < HANDSHAKE_REPEATS ? HANDSHAKE_GOING : HANDSHAKE_FAILED);
        assert_int_equal(e->net->from[e->self], i < HANDSHAKE_REPEATS ? sent + first : sent);
        sent = e->net->from[e->self];
    }
    assert_true(now_us - began_us < HANDSHAKE_LIFE_US);
    assert_string_equal(handshake_error(e->h), "no answer");
    assert_int_equal(handshake_alert(e->h), 0);
}

static void nobody_answers(void **state)
{
    struct stage s;

    (void)state;
    stage_begin(&s, &scenes[9]);
    stage_net(&s);
    ours_connect(&net);
    check_silence(&net.ends[CLIENT], 1);
    net_end(&net);
    stage_end(&s);

    stage_begin(&s, &scenes[0]);
    stage_net(&s);
    openssl_work(&net.ends[CLIENT]);
    while (!net.ends[SERVER].h)
        net_step(&net);
    net.from[SERVER]--; /* HelloVerifyRequest */
    check_silence(&net.ends[SERVER], 1);
    net_end(&net);
    stage_end(&s);
}

/* A client that repeats its ClientHello has our flight again, and cannot have it for ever. */
static void hello_again(void **state)
{
    struct stage s;
    struct packet hello = {0};
    unsigned before;

    (void)state;
    stage_begin(&s, &scenes[5]);
    stage_net(&s);
    openssl_work(&net.ends[CLIENT]);
    while (!net.ends[SERVER].h) {
        hello = net.packets[net.head % PACKETS];
        net_step(&net);
    }
    before = net.from[SERVER];
    assert_true(handshake_began_with(net.ends[SERVER].h, hello.bytes, hello.length));
    now_us += 500000;
    assert_int_equal(handshake_feed(net.ends[SERVER].h, hello.bytes, hello.length, now_us),
                     HANDSHAKE_GOING);
    assert_true(net.from[SERVER] > before);
    assert_true(handshake_due_us(net.ends[SERVER].h) == now_us + HANDSHAKE_FIRST_US);
    for (unsigned i = 0; i < 100; i++) {
        net.head = net.tail;
        (void)handshake_feed(net.ends[SERVER].h, hello.bytes, hello.length, now_us);
    }
    assert_in_range(net.from[SERVER], before + 2, before + 40);
    hello.bytes[13 + 12 + 2 + 5] ^= 1; /* of its random: another client's */
    assert_false(handshake_began_with(net.ends[SERVER].h, hello.bytes, hello.length));
    net_end(&net);
    stage_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_datagram), cmocka_unit_test(stretches),
        cmocka_unit_test(last_flight),   cmocka_unit_test(nobody_answers),
        cmocka_unit_test(hello_again),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
