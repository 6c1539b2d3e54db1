/* Handshakes that succeed: all suites, both roles, certificates, tickets, Connection IDs, keys that
 * come later; and that the association's keys and numbers are those of the peer. Losses are in
 * handshake_loss_test.c, refusals in handshake_refuse_test.c. */
#include "tests/unit/handshake_harness.h"

static struct net net;
static struct signer ca, server_own, client_own;

static int setup(void **state)
{
    (void)state;
    ca = make_certificate(NULL, "Test CA", NULL, 400);
    server_own = make_certificate(&ca, "gateway", "DNS:" SERVER_NAME, 400);
    client_own = make_certificate(&ca, "device", "DNS:" NAME ",DNS:second.example.org", 400);
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

static struct credentials_side certificate_side(const char *ciphers, const struct signer *own,
                                                int verify)
{
    return (struct credentials_side){.context = make_context(ciphers, own, &ca, verify)};
}

static void assert_principal(const struct end *e, enum principal_kind kind, const char *text)
{
    assert_int_equal(e->outcome.principal.kind, kind);
    assert_int_equal(e->outcome.principal.length, strlen(text));
    assert_memory_equal(e->outcome.principal.text, text, strlen(text));
}

/* ---- suites ---- */

static const struct {
    const char *name;
    uint16_t number;
    bool psk;
} suites[] = {
    {"PSK-AES128-CCM8", 0xc0a8, true},
    {"PSK-AES128-GCM-SHA256", 0x00a8, true},
    {"PSK-AES128-CCM", 0xc0a4, true},
    {"PSK-CHACHA20-POLY1305", 0xccab, true},
    {"ECDHE-PSK-CHACHA20-POLY1305", 0xccac, true},
    {"PSK-AES256-CCM8", 0xc0a9, true},
    {"PSK-AES256-GCM-SHA384", 0x00a9, true},
    {"ECDHE-ECDSA-AES128-CCM8", 0xc0ae, false},
    {"ECDHE-ECDSA-AES128-CCM", 0xc0ac, false},
    {"ECDHE-ECDSA-AES128-GCM-SHA256", 0xc02b, false},
    {"ECDHE-ECDSA-CHACHA20-POLY1305", 0xcca9, false},
    {"ECDHE-ECDSA-AES256-GCM-SHA384", 0xc02c, false},
};

static void check_suite(unsigned index, bool our_client)
{
    bool psk = suites[index].psk;
    const char *name = suites[index].name;
    char ciphers[96];
    struct credentials_side side;
    SSL_CTX *peer;
    struct end *ours;

    snprintf(ciphers, sizeof(ciphers), "%s:@SECLEVEL=0", name);
    net_begin(&net);
    side = psk ? psk_side(ciphers) : certificate_side(ciphers, our_client ? NULL : &server_own, 0);
    side.expected = our_client && !psk ? SERVER_NAME : NULL;
    peer = psk ? psk_peer(ciphers)
               : make_context(ciphers, our_client ? &server_own : NULL, &ca,
                              our_client ? 0 : SSL_VERIFY_PEER);
    ours = &net.ends[our_client ? CLIENT : SERVER];
    ours->side = &side;
    openssl_end(&net, our_client ? SERVER : CLIENT, peer);
    net_run(&net);
    assert_talked(&net);
    assert_int_equal(ours->outcome.cipher_suite, suites[index].number);
    assert_true(ours->outcome.extended_master_secret);
    assert_false(ours->outcome.resumed || ours->outcome.cid_in || ours->outcome.cid_out);
    assert_int_equal(ours->outcome.next_sequence, our_client ? 1 : 1 + HANDSHAKE_SPARE);
    assert_true(ours->outcome.window.any && ours->outcome.window.top == 0);
    if (!our_client)
        assert_principal(ours, psk ? PRINCIPAL_PSK : PRINCIPAL_NONE, psk ? IDENTITY : "");
    net_end(&net);
    SSL_CTX_free(peer);
    SSL_CTX_free(side.context);
}

static void all_suites_as_server(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
        check_suite(i, false);
}

static void all_suites_as_client(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
        check_suite(i, true);
}

/* ---- who the client is ---- */

static const struct {
    const char *common_name, *names, *principal;
} names[] = {
    {"device", "DNS:" NAME ",DNS:second.example.org", NAME},
    {"device", "URI:urn:dev:ow:10e2073a01080063,DNS:" NAME, NAME},
    {"device", "URI:urn:dev:ow:10e2073a01080063", "urn:dev:ow:10e2073a01080063"},
    {"device", NULL, "device"},
};

static void name_of_a_client_certificate(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct signer own = make_certificate(&ca, names[i].common_name, names[i].names, 400);
        struct credentials_side side = certificate_side(
            CIPHERS_CERT, &server_own, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT);
        SSL_CTX *peer = make_context(CIPHERS_CERT, &own, &ca, SSL_VERIFY_PEER);

        net_begin(&net);
        net.ends[SERVER].side = &side;
        openssl_end(&net, CLIENT, peer);
        net_run(&net);
        assert_talked(&net);
        assert_principal(&net.ends[SERVER], PRINCIPAL_CERTIFICATE, names[i].principal);
        net_end(&net);
        SSL_CTX_free(peer);
        SSL_CTX_free(side.context);
        free_signer(&own);
    }
}

static void certificate_of_the_server_as_client(void **state)
{
    struct credentials_side side = certificate_side(CIPHERS_CERT, &client_own, 0);
    SSL_CTX *peer = make_context(CIPHERS_CERT, &server_own, &ca,
                                 SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT);

    (void)state;
    net_begin(&net);
    side.expected = SERVER_NAME;
    net.ends[CLIENT].side = &side;
    openssl_end(&net, SERVER, peer);
    net_run(&net);
    assert_talked(&net);
    assert_principal(&net.ends[CLIENT], PRINCIPAL_CERTIFICATE, SERVER_NAME);
    net_end(&net);
    SSL_CTX_free(peer);
    SSL_CTX_free(side.context);
}

/* ---- keys that come later ---- */

static void key_of_the_store(void **state)
{
    const char *const ciphers[] = {CIPHERS_PSK, "ECDHE-PSK-CHACHA20-POLY1305"};

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct credentials_side side = psk_side(ciphers[i % 2]);
        SSL_CTX *peer = psk_peer(ciphers[i % 2]);

        net_begin(&net);
        net.split = i & 2;
        /* At once, or after the client has repeated its flight twice. */
        net.key_after_us = i & 4 ? 3500000 : 0;
        net.stored_key = shared_key;
        side.identity = NULL;
        net.ends[SERVER].side = &side;
        openssl_end(&net, CLIENT, peer);
        net_run(&net);
        assert_talked(&net);
        assert_int_equal(net.asked, 1);
        assert_principal(&net.ends[SERVER], PRINCIPAL_PSK, IDENTITY);
        net_end(&net);
        SSL_CTX_free(peer);
        SSL_CTX_free(side.context);
    }
}

static void longest_identity(void **state)
{
    static char identity[PRINCIPAL_MAX + 1];
    struct credentials_side side = psk_side(CIPHERS_PSK);
    SSL_CTX *peer = psk_peer(CIPHERS_PSK);

    (void)state;
    memset(identity, 'x', PRINCIPAL_MAX);
    memcpy(identity, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9); /* of two, three and four bytes */
    client_identity = side.identity = identity;
    net_begin(&net);
    net.ends[SERVER].side = &side;
    openssl_end(&net, CLIENT, peer);
    net_run(&net);
    client_identity = IDENTITY;
    assert_talked(&net);
    assert_principal(&net.ends[SERVER], PRINCIPAL_PSK, identity);
    net_end(&net);
    SSL_CTX_free(peer);
    SSL_CTX_free(side.context);
}

/* ---- tickets ---- */

/* One association and a second one with the first one's session. */
static void check_ticket(struct credentials_side *side, SSL_CTX *peer, int alert)
{
    struct end *server = &net.ends[SERVER];
    SSL_SESSION *session;

    net_begin(&net);
    server->side = side;
    openssl_end(&net, CLIENT, peer);
    net_run(&net);
    assert_talked(&net);
    assert_false(server->outcome.resumed);
    /* The original goes with an end that is not closed in order. */
    session = SSL_SESSION_dup(SSL_get0_session(net.ends[CLIENT].ssl));
    assert_true(SSL_SESSION_has_ticket(session));
    net_end(&net);

    net_begin(&net);
    side->refuses = alert != 0;
    server->side = side;
    SSL_set_session(openssl_end(&net, CLIENT, peer), session);
    net_run(&net);
    side->refuses = false;
    SSL_SESSION_free(session);
    if (alert) {
        assert_true(server->failed && net.ends[CLIENT].failed);
        assert_int_equal(handshake_alert(server->h), alert);
        return;
    }
    assert_talked(&net);
    assert_true(server->outcome.resumed);
    assert_int_equal(server->outcome.next_sequence, 1);
}

static void ticket_of_a_key(void **state)
{
    struct credentials_side side = psk_side(CIPHERS_PSK);
    SSL_CTX *peer = psk_peer(CIPHERS_PSK);

    (void)state;
    check_ticket(&side, peer, 0);
    assert_principal(&net.ends[SERVER], PRINCIPAL_PSK, IDENTITY);
    assert_true(net.ends[SERVER].outcome.extended_master_secret);
    net_end(&net);
    check_ticket(&side, peer, SSL_AD_UNKNOWN_PSK_IDENTITY); /* not there any more */
    net_end(&net);
    SSL_CTX_free(peer);
    SSL_CTX_free(side.context);
}

static void ticket_of_a_certificate(void **state)
{
    struct credentials_side side = certificate_side(
        CIPHERS_CERT, &server_own, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT);
    SSL_CTX *peer = make_context(CIPHERS_CERT, &client_own, &ca, SSL_VERIFY_PEER);

    (void)state;
    check_ticket(&side, peer, 0);
    assert_principal(&net.ends[SERVER], PRINCIPAL_CERTIFICATE, NAME);
    net_end(&net);
    check_ticket(&side, peer, SSL_AD_ACCESS_DENIED);
    net_end(&net);
    SSL_CTX_free(peer);
    SSL_CTX_free(side.context);
}

/* The client's Finished and its first message in one datagram: what is left of it when the
 * handshake is done is the association's. */
static void first_message_behind_finished(void **state)
{
    struct credentials_side side = psk_side(CIPHERS_PSK);
    SSL_CTX *peer = psk_peer(CIPHERS_PSK);
    struct end *client = &net.ends[CLIENT], *server = &net.ends[SERVER];
    SSL_SESSION *session;
    struct packet whole, *second;

    (void)state;
    check_ticket(&side, peer, 0);
    session = SSL_SESSION_dup(SSL_get0_session(client->ssl));
    net_end(&net);
    net_begin(&net);
    server->side = &side;
    SSL_set_session(openssl_end(&net, CLIENT, peer), session);
    openssl_work(client);
    while (!client->established)
        net_step(&net);
    assert_int_equal(net.tail - net.head, 2); /* both are on their way */
    whole = net.packets[net.head++ % PACKETS];
    second = &net.packets[net.head++ % PACKETS];
    memcpy(whole.bytes + whole.length, second->bytes, second->length);
    whole.length += second->length;
    assert_false(server->established);
    ours_work(server, &whole);
    assert_true(server->established && server->heard);
    assert_int_equal(handshake_left(server->h), second->length);
    net_end(&net);
    SSL_SESSION_free(session);
    SSL_CTX_free(peer);
    SSL_CTX_free(side.context);
}

/* ---- Connection IDs: both ends are ours, OpenSSL knows none ---- */

static const struct {
    uint64_t client, server;
    bool client_wants, server_wants;
} cids[] = {
    {CLIENT_CID, SERVER_CID, true, true},  {0, SERVER_CID, true, true},
    {CLIENT_CID, 0, true, true},           {0, 0, true, true},
    {CLIENT_CID, SERVER_CID, true, false}, {CLIENT_CID, SERVER_CID, false, true},
};

static void check_cid(unsigned index, const char *ciphers, bool split)
{
    struct credentials_side client = psk_side(ciphers), server = psk_side(ciphers);
    const struct handshake_outcome *c, *s;
    bool used = cids[index].client_wants && cids[index].server_wants;

    net_begin(&net);
    net.split = split;
    net.ends[CLIENT].side = &client;
    net.ends[CLIENT].cid = cids[index].client;
    net.ends[CLIENT].cid_wanted = cids[index].client_wants;
    net.ends[SERVER].side = &server;
    net.ends[SERVER].cid = cids[index].server;
    net.ends[SERVER].cid_wanted = cids[index].server_wants;
    net_run(&net);
    assert_talked(&net);
    c = &net.ends[CLIENT].outcome;
    s = &net.ends[SERVER].outcome;
    assert_int_equal(c->cid_in, used && cids[index].client);
    assert_int_equal(s->cid_in, used && cids[index].server);
    assert_int_equal(c->cid_out, s->cid_in);
    assert_int_equal(s->cid_out, c->cid_in);
    if (s->cid_in)
        assert_memory_equal(c->peer_cid, ((uint8_t[]){1, 2, 3, 4, 5, 6, 7, 8}), 8);
    assert_memory_equal(c->in.key, s->out.key, AEAD_KEY_MAX);
    net_end(&net);
    SSL_CTX_free(client.context);
    SSL_CTX_free(server.context);
}

static void connection_ids(void **state)
{
    const char *const ciphers[] = {CIPHERS_PSK, "PSK-CHACHA20-POLY1305",
                                   "ECDHE-PSK-CHACHA20-POLY1305", "PSK-AES256-GCM-SHA384"};

    (void)state;
    for (unsigned i = 0; i < sizeof(cids) / sizeof(cids[0]); i++)
        for (unsigned j = 0; j < 8; j++)
            check_cid(i, ciphers[j / 2], j % 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_suites_as_server),
        cmocka_unit_test(all_suites_as_client),
        cmocka_unit_test(name_of_a_client_certificate),
        cmocka_unit_test(certificate_of_the_server_as_client),
        cmocka_unit_test(key_of_the_store),
        cmocka_unit_test(longest_identity),
        cmocka_unit_test(ticket_of_a_key),
        cmocka_unit_test(ticket_of_a_certificate),
        cmocka_unit_test(first_message_behind_finished),
        cmocka_unit_test(connection_ids),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
