/* The handshakes of the tests' DTLS client with OpenSSL as the server: all suites, lost, mixed and
 * broken flights, resumption, Connection IDs. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/dtls_server.h"

static int setup(void **state)
{
    struct line *l = calloc(1, sizeof(*l));

    if (!l)
        return -1;
    line_open(l);
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    line_close(*state);
    return 0;
}

/* Both ends are there, have the same secret, and carry data. */
static void assert_works(struct line *l)
{
    uint8_t master[PEER_MASTER_BYTES];
    struct peer_export e;

    assert_int_equal(peer_state(&l->peer), PEER_ESTABLISHED);
    assert_int_equal(l->established, 1);
    assert_null(l->peer.handshake);
    assert_true(SSL_is_init_finished(l->ssl));
    peer_export(&l->peer, &e);
    assert_int_equal(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(l->ssl)), e.suite);
    assert_int_equal(SSL_get_extms_support(l->ssl), e.extended);
    assert_int_equal(SSL_session_reused(l->ssl), e.resumed);
    SSL_SESSION_get_master_key(SSL_get_session(l->ssl), master, sizeof(master));
    assert_memory_equal(master, e.master, sizeof(master));
    l->lose_ups = l->lose_downs = 0;
    l->got_length = 0;
    assert_int_equal(peer_write(&l->peer, "there and back", 14), 0);
    line_run(l);
    assert_int_equal(l->got_length, 14);
    assert_memory_equal(l->got, "there and back", 14);
}

static void shake(struct line *l)
{
    line_begin(l);
    assert_int_equal(peer_start(&l->peer, l->now), 0);
    line_run(l);
}

static void whole(struct line *l)
{
    shake(l);
    assert_works(l);
    line_end(l);
}

static void all_suites(void **state)
{
    static const uint16_t suites[] = {PEER_SUITE_CCM8, PEER_SUITE_GCM, PEER_SUITE_CHACHA};
    struct line *l = *state;

    for (unsigned i = 0; i < 24; i++) {
        l->setup.suites[0] = suites[i % 3];
        l->setup.plain_master = i / 3 & 1;
        l->setup.scsv = i / 6 & 1;
        l->setup.offer_ticket = i / 12 & 1;
        shake(l);
        assert_int_equal(l->peer.suite, suites[i % 3]);
        assert_int_equal(l->ups, 3); /* two hellos and the last flight, each in one datagram */
        assert_works(l);
        line_end(l);
    }
}

static void separate_records(void **state)
{
    struct line *l = *state;

    l->setup.separate = true;
    shake(l);
    assert_int_equal(l->ups, 5);
    assert_works(l);
    line_end(l);
}

static void own_fragments(void **state)
{
    static const uint16_t sizes[] = {1, 2, 7, 16, 50, 100, 1000};
    struct line *l = *state;

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        l->setup.fragment_bytes = sizes[i];
        whole(l);
    }
}

static void fragments_in_any_order(void **state)
{
    static const unsigned sizes[] = {1, 3, 10, 40, 1000};
    struct line *l = *state;

    for (unsigned i = 0; i < 5; i++) {
        l->pieces = sizes[i];
        l->seed = 0;
        whole(l);
        for (unsigned seed = 1; seed <= 40 && sizes[i] > 1; seed++) {
            l->seed = seed;
            l->setup.offer_ticket = seed % 2;
            whole(l);
        }
    }
}

static void records_in_any_order(void **state)
{
    struct line *l = *state;

    for (unsigned seed = 1; seed <= 100; seed++) {
        l->seed = seed;
        l->setup.offer_ticket = seed % 2;
        whole(l);
    }
}

/* Each datagram, and each two neighbours, of each direction. */
static void lost_flights(void **state)
{
    struct line *l = *state;

    l->server_repeats = true;
    for (unsigned i = 0; i < 12; i++)
        for (unsigned kind = 0; kind < 6; kind++) {
            uint64_t lost = (kind % 2 ? 3ull : 1ull) << i;

            l->lose_ups = kind / 2 != 1 ? lost : 0;
            l->lose_downs = kind / 2 != 0 ? lost : 0;
            l->setup.separate = i % 2;
            whole(l);
        }
}

/* RFC 6347 4.2.4.1: 1 s, twice as long each time. */
static void nobody_answers(void **state)
{
    struct line *l = *state;
    uint64_t before;

    line_begin(l);
    l->lose_ups = UINT64_MAX;
    l->now = 5000000;
    assert_int_equal(peer_start(&l->peer, l->now), 0);
    assert_int_equal(peer_start(&l->peer, l->now), -EALREADY);
    for (unsigned i = 0; i < 6; i++) {
        before = l->now;
        assert_int_equal(l->ups, i + 1);
        peer_advance(&l->peer, peer_next_us(&l->peer) - 1);
        assert_int_equal(l->ups, i + 1);
        l->now = peer_next_us(&l->peer);
        assert_int_equal(l->now - before, 1000000u << i);
        peer_advance(&l->peer, l->now);
    }
    assert_int_equal(peer_state(&l->peer), PEER_FAILED);
    assert_int_equal(peer_error(&l->peer), -ETIMEDOUT);
    assert_int_equal(peer_next_us(&l->peer), UINT64_MAX);
    assert_int_equal(peer_write(&l->peer, "x", 1), -ENOTCONN);
    line_end(l);
}

static void wrong_key(void **state)
{
    struct line *l = *state;

    l->setup.key = (const uint8_t *)"another one";
    l->setup.tries = 3;
    shake(l);
    assert_int_equal(peer_state(&l->peer), PEER_FAILED);
    assert_false(SSL_is_init_finished(l->ssl));
    line_end(l);
}

static void unknown_identity(void **state)
{
    struct line *l = *state;

    l->setup.identity = (const uint8_t *)"nobody";
    shake(l);
    assert_int_equal(peer_state(&l->peer), PEER_FAILED);
    assert_int_equal(peer_error(&l->peer), -ECONNREFUSED);
    assert_int_equal(l->alerts, 1);
    line_end(l);
}

static void resume(struct line *l, bool ticket)
{
    struct peer_session session;
    struct peer first;

    l->setup.offer_ticket = ticket;
    shake(l);
    assert_works(l);
    assert_true(peer_session_get(&l->peer, &session));
    assert_int_equal(session.ticket_length > 0, ticket);
    peer_close(&l->peer);
    line_run(l);
    assert_int_equal(SSL_get_shutdown(l->ssl), SSL_RECEIVED_SHUTDOWN);
    first = l->peer; /* it has the ticket */
    line_end_server(l);
    l->setup.session = &session;
    l->server_repeats = true;
    for (unsigned lost = 0; lost <= 16; lost++) {
        /* Of the server's, but none of the application data that end the handshake. */
        l->lose_downs = lost <= 8 ? 1ull << lost >> 1 : 0;
        l->lose_ups = lost > 8 ? 1ull << (lost - 9) : 0;
        shake(l);
        assert_true(l->peer.resumed);
        assert_works(l);
        line_end(l);
    }
    l->setup.plain_master = true; /* RFC 7627 5.3: then there is no resumption */
    l->setup.tries = 2;
    shake(l);
    assert_false(l->peer.resumed);
    line_end(l);
    peer_free(&first);
}

static void resumption_by_ticket(void **state)
{
    resume(*state, true);
}

static void resumption_by_id(void **state)
{
    struct line *l = *state;

    SSL_CTX_set_options(l->context, SSL_OP_NO_TICKET);
    resume(l, false);
}

static void connection_ids(void **state)
{
    struct line *l = *state;

    l->server_repeats = true;
    l->setup.offer_cid = true;
    memcpy(l->setup.cid, "0123456789abcdef", PEER_OWN_CID_MAX);
    for (unsigned i = 0; i < 48; i++) {
        static const char *const cids[] = {"", "s", "the server's"};

        l->cid = cids[i % 3];
        l->setup.cid_length = (uint8_t[]){0, 1, 8, 16}[i / 3 % 4];
        l->setup.padding = (uint8_t)(i / 12 * 5);
        l->setup.session = NULL;
        l->lose_ups = i >= 24 ? 4 : 0;
        l->lose_downs = i >= 36 ? 1ull << 5 : 0;
        shake(l);
        assert_true(l->peer.cid_agreed);
        assert_int_equal(l->peer.server_cid_length, strlen(l->cid));
        assert_memory_equal(l->peer.server_cid, l->cid, strlen(l->cid));
        assert_int_equal(l->peer.refused[PEER_REFUSED_CID], 0);
        assert_works(l);
        line_end(l);
    }
}

/* Offered, and not wanted by the server. */
static void connection_id_declined(void **state)
{
    struct line *l = *state;

    SSL_CTX_free(l->context);
    l->context = SSL_CTX_new(DTLS_server_method());
    SSL_CTX_set_cipher_list(l->context, SERVER_SUITES);
    SSL_CTX_set_psk_server_callback(l->context, line_psk);
    SSL_CTX_set_options(l->context, SSL_OP_NO_QUERY_MTU);
    l->setup.offer_cid = true;
    l->setup.cid_length = 4;
    shake(l);
    assert_false(l->peer.cid_agreed);
    assert_int_equal(l->ups, 2); /* no cookie was asked for, nor a hint given */
    assert_works(l);
    line_end(l);
}

/* The server's flight again, with each bit of it wrong and at each length: the handshake goes on,
 * waits or fails, and nothing is written or read where it should not. */
static void damaged_flights(void **state)
{
    static struct queue flights[2];
    struct line *l = *state;
    uint8_t copy[LINE_BYTES];

    line_begin(l);
    peer_start(&l->peer, 0);
    for (unsigned i = 0; i < 2; i++) {
        server_take(l, l->up.datagrams[0].bytes, l->up.datagrams[0].length);
        flights[i] = l->down;
        l->up.count = l->down.count = 0;
        for (unsigned j = 0; j < flights[i].count; j++)
            peer_receive(&l->peer, flights[i].datagrams[j].bytes, flights[i].datagrams[j].length,
                         0);
    }
    assert_true(l->peer.ready);
    assert_int_equal(flights[1].count, 3);
    line_end(l);
    for (unsigned at = 0; at < 4; at++) {
        size_t length = at ? flights[1].datagrams[at - 1].length : flights[0].datagrams[0].length;

        for (size_t bit = 0; bit < 9 * length; bit++) {
            line_begin(l);
            peer_start(&l->peer, 0);
            for (unsigned j = 0; j < 4; j++) {
                struct queue *q = &flights[j > 0];
                unsigned n = j ? j - 1 : 0;
                size_t size = q->datagrams[n].length;

                memcpy(copy, q->datagrams[n].bytes, size);
                if (j == at && bit < 8 * length)
                    copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
                else if (j == at)
                    size = bit - 8 * length;
                peer_receive(&l->peer, copy, size, 0);
            }
            assert_int_equal(l->established, 0);
            line_end(l);
        }
    }
}

/* What a client sees that comes from elsewhere: an alert in the clear ends a handshake, but no
 * association. */
static void alerts_in_the_clear(void **state)
{
    static const uint8_t alert[] = {21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 9, 9, 0, 2, 2, 40};
    struct line *l = *state;

    shake(l);
    peer_receive(&l->peer, alert, sizeof(alert), l->now);
    assert_int_equal(l->alerts, 0);
    assert_int_equal(l->peer.refused[PEER_REFUSED_EPOCH], 1);
    assert_works(l);
    line_end(l);
    line_begin(l);
    peer_start(&l->peer, l->now);
    peer_receive(&l->peer, alert, sizeof(alert), l->now);
    assert_int_equal(peer_error(&l->peer), -ECONNREFUSED);
    assert_int_equal(l->alerts, 1);
    line_end(l);
}

#define WITH_LINE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_LINE(all_suites),
        WITH_LINE(separate_records),
        WITH_LINE(own_fragments),
        WITH_LINE(fragments_in_any_order),
        WITH_LINE(records_in_any_order),
        WITH_LINE(lost_flights),
        WITH_LINE(nobody_answers),
        WITH_LINE(wrong_key),
        WITH_LINE(unknown_identity),
        WITH_LINE(resumption_by_ticket),
        WITH_LINE(resumption_by_id),
        WITH_LINE(connection_ids),
        WITH_LINE(connection_id_declined),
        WITH_LINE(damaged_flights),
        WITH_LINE(alerts_in_the_clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
