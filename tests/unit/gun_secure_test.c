/* DTLS of the load generator: around a carrier in memory, at whose other end is OpenSSL. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/ssl.h>

#include "bench/gun/clock.h"
#include "bench/gun/secure.h"
#include "tests/dtls/peer.h"

#define ENDPOINTS 3
#define QUEUE     64
#define KEY       "\x01\x02\x03\x04\x05\x06\x07\x08"

struct wire_datagram {
    uint32_t endpoint;
    uint16_t length;
    uint8_t party;
    uint8_t bytes[CARRIER_MAX_BYTES];
};

/* What the generator's end of the wire and the servers behind it have. */
static struct world {
    struct carrier carrier;
    SSL_CTX *context;
    SSL *servers[ENDPOINTS];
    struct wire_datagram queue[QUEUE]; /* to the generator */
    unsigned queued, closed;
    struct wire_datagram sent; /* the last datagram to a server */
    struct wire_datagram origin;
    uint8_t out[CARRIER_BURST][2 * CARRIER_MAX_BYTES];
    uint64_t now_ns;
} world;

static struct gun_options options;
static struct secure *secure;

/* ---- the servers ---- */

static unsigned give_key(SSL *ssl, const char *identity, unsigned char *psk, unsigned room)
{
    char wanted[16];

    snprintf(wanted, sizeof(wanted), "device-%d",
             (int)(intptr_t)SSL_get_ex_data(ssl, 0)); /* each has its own */
    if (strcmp(identity, wanted) != 0 || room < sizeof(KEY) - 1)
        return 0;
    memcpy(psk, KEY, sizeof(KEY) - 1);
    return sizeof(KEY) - 1;
}

static void put(uint32_t endpoint, uint8_t party, const uint8_t *bytes, size_t length)
{
    struct wire_datagram *d = &world.queue[world.queued++];

    assert_true(world.queued <= QUEUE && length <= sizeof(d->bytes));
    d->endpoint = endpoint;
    d->party = party;
    d->length = (uint16_t)length;
    memcpy(d->bytes, bytes, length);
}

static void flush_server(uint32_t endpoint)
{
    uint8_t all[CARRIER_MAX_BYTES];
    int length = BIO_read(SSL_get_wbio(world.servers[endpoint]), all, sizeof(all));

    if (length > 0)
        put(endpoint, PARTY_DEVICE, all, (size_t)length);
}

/* Application data comes back as it was. */
static void give_server(uint32_t endpoint, const uint8_t *bytes, size_t length)
{
    SSL *ssl = world.servers[endpoint];
    uint8_t data[CARRIER_MAX_BYTES];
    int n;

    BIO_write(SSL_get_rbio(ssl), bytes, (int)length);
    n = SSL_read(ssl, data, sizeof(data));
    if (n > 0)
        SSL_write(ssl, data, n);
    flush_server(endpoint);
}

static void make_server(uint32_t endpoint)
{
    SSL *ssl = SSL_new(world.context);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

    BIO_set_mem_eof_return(in, -1);
    BIO_set_mem_eof_return(out, -1);
    SSL_set_bio(ssl, in, out);
    SSL_set_ex_data(ssl, 0, (void *)(intptr_t)endpoint);
    SSL_set_accept_state(ssl);
    SSL_set_mtu(ssl, 1400);
    world.servers[endpoint] = ssl;
}

/* ---- the carrier ---- */

static unsigned wire_receive(struct carrier *c, struct incoming *in)
{
    static struct wire_datagram held[QUEUE];
    unsigned n = world.queued;

    (void)c;
    memcpy(held, world.queue, sizeof(held));
    for (unsigned i = 0; i < n; i++)
        in[i] = (struct incoming){.data = held[i].bytes,
                                  .length = held[i].length,
                                  .party = held[i].party,
                                  .endpoint = held[i].endpoint};
    world.queued = 0;
    return n;
}

static void wire_release(struct carrier *c)
{
    (void)c;
}

static unsigned wire_reserve(struct carrier *c, struct outgoing *out, unsigned n)
{
    static unsigned next;

    (void)c;
    for (unsigned i = 0; i < n; i++)
        out[i].data = world.out[next++ % CARRIER_BURST];
    return n;
}

static unsigned wire_send(struct carrier *c, struct outgoing *out, unsigned n)
{
    (void)c;
    for (unsigned i = 0; i < n; i++) {
        struct wire_datagram *d = out[i].party == PARTY_ORIGIN ? &world.origin : &world.sent;

        d->endpoint = out[i].endpoint;
        d->length = out[i].length;
        memcpy(d->bytes, out[i].data, out[i].length);
        if (out[i].party == PARTY_DEVICE && world.context)
            give_server(out[i].endpoint, out[i].data, out[i].length);
    }
    return 0;
}

static void wire_wait(struct carrier *c, uint64_t ns)
{
    (void)c;
    (void)ns;
}

static void wire_close(struct carrier *c)
{
    (void)c;
    world.closed++;
}

/* ---- set-up ---- */

static void begin(uint16_t suite, bool answered)
{
    memset(&world, 0, sizeof(world));
    world.carrier = (struct carrier){.receive = wire_receive,
                                     .release = wire_release,
                                     .reserve = wire_reserve,
                                     .send = wire_send,
                                     .wait = wire_wait,
                                     .close = wire_close};
    world.now_ns = SECOND_NS;
    if (answered) {
        world.context = SSL_CTX_new(DTLS_server_method());
        SSL_CTX_set_cipher_list(world.context, "PSK-AES128-CCM8:PSK-AES128-GCM-SHA256:"
                                               "PSK-CHACHA20-POLY1305:@SECLEVEL=0");
        SSL_CTX_set_psk_server_callback(world.context, give_key);
        SSL_CTX_set_options(world.context, SSL_OP_NO_QUERY_MTU);
    }
    for (uint32_t i = 0; answered && i < ENDPOINTS; i++)
        make_server(i);
    options = (struct gun_options){.endpoints = ENDPOINTS,
                                   .identity = "device-%u",
                                   .key_length = sizeof(KEY) - 1,
                                   .suite = suite,
                                   .handshakes = 2};
    memcpy(options.key, KEY, sizeof(KEY) - 1);
}

/* Until all have ended, a second each time that nothing happens. */
static const struct gun_security *connect_all(void)
{
    assert_int_equal(secure_open(&options, &world.carrier, &secure), 0);
    secure_begin(secure, world.now_ns);
    for (unsigned i = 0; i < 10000 && secure_is_busy(secure); i++)
        if (secure_turn(secure, world.now_ns) == 0)
            world.now_ns += SECOND_NS;
    assert_false(secure_is_busy(secure));
    secure_end(secure, world.now_ns);
    return secure_result(secure);
}

static void end(void)
{
    secure_carrier(secure)->close(secure_carrier(secure));
    assert_int_equal(world.closed, 1);
    for (uint32_t i = 0; i < ENDPOINTS; i++)
        SSL_free(world.servers[i]);
    SSL_CTX_free(world.context);
}

static void send_text(uint32_t endpoint, uint8_t party, const char *text)
{
    struct carrier *c = secure_carrier(secure);
    struct outgoing out = {0};

    assert_int_equal(c->reserve(c, &out, 1), 1);
    out.endpoint = endpoint;
    out.party = party;
    out.length = (uint16_t)strlen(text);
    memcpy(out.data, text, out.length);
    assert_int_equal(c->send(c, &out, 1), 0);
}

static unsigned receive(struct incoming *in)
{
    struct carrier *c = secure_carrier(secure);
    unsigned n = c->receive(c, in);

    c->release(c);
    return n;
}

static void assert_message(const struct incoming *in, uint32_t endpoint, const char *text)
{
    assert_int_equal(in->endpoint, endpoint);
    assert_int_equal(in->length, strlen(text));
    assert_memory_equal(in->data, text, in->length);
}

/* ---- tests ---- */

static void messages_go_both_ways_in_each_suite(void **state)
{
    static const uint16_t suites[] = {PEER_SUITE_CCM8, PEER_SUITE_GCM, PEER_SUITE_CHACHA};
    struct incoming in[CARRIER_BURST];

    (void)state;
    for (unsigned s = 0; s < 3; s++) {
        const struct gun_security *result;

        begin(suites[s], true);
        result = connect_all();
        assert_int_equal(result->done, ENDPOINTS);
        assert_int_equal(result->failed, 0);
        assert_int_equal(histogram_total(&result->latency_ns), ENDPOINTS);
        for (unsigned round = 0; round < 3; round++)
            for (uint32_t i = 0; i < ENDPOINTS; i++) {
                send_text(i, PARTY_DEVICE, "a message");
                assert_null(memmem(world.sent.bytes, world.sent.length, "a message", 9));
                assert_int_equal(receive(in), 1);
                assert_message(in, i, "a message");
            }
        assert_int_equal(result->refused + result->closed, 0);
        end();
    }
}

static void the_origin_is_left_alone(void **state)
{
    struct incoming in[CARRIER_BURST];

    (void)state;
    begin(PEER_SUITE_GCM, true);
    connect_all();
    send_text(0, PARTY_ORIGIN, "in the clear");
    assert_int_equal(world.origin.length, 12);
    assert_memory_equal(world.origin.bytes, "in the clear", 12);
    put(0, PARTY_ORIGIN, (const uint8_t *)"asked", 5);
    assert_int_equal(receive(in), 1);
    assert_message(in, 0, "asked");
    assert_int_equal(in[0].party, PARTY_ORIGIN);
    end();
}

static void records_that_are_repeated_forged_or_broken_are_refused(void **state)
{
    struct incoming in[CARRIER_BURST];
    struct wire_datagram answer;
    const struct gun_security *result;

    (void)state;
    begin(PEER_SUITE_CCM8, true);
    result = connect_all();
    send_text(1, PARTY_DEVICE, "once");
    answer = world.queue[0];
    assert_int_equal(receive(in), 1);
    put(1, PARTY_DEVICE, answer.bytes, answer.length);
    assert_int_equal(receive(in), 0);
    assert_int_equal(result->refused, 1);
    answer.bytes[10] ^= 1; /* another sequence, so another nonce */
    put(1, PARTY_DEVICE, answer.bytes, answer.length);
    put(2, PARTY_DEVICE, answer.bytes, answer.length); /* another device's */
    put(1, PARTY_DEVICE, answer.bytes, answer.length - 1u);
    put(1, PARTY_DEVICE, answer.bytes, 5);
    assert_int_equal(receive(in), 0);
    assert_int_equal(result->refused, 5);
    send_text(1, PARTY_DEVICE, "again");
    assert_int_equal(receive(in), 1);
    assert_message(in, 1, "again");
    end();
}

static void several_records_of_a_datagram_are_several_messages(void **state)
{
    struct incoming in[CARRIER_BURST];
    struct wire_datagram two;

    (void)state;
    begin(PEER_SUITE_GCM, true);
    connect_all();
    send_text(0, PARTY_DEVICE, "one");
    send_text(0, PARTY_DEVICE, "two!");
    assert_int_equal(world.queued, 2);
    two = world.queue[0];
    memcpy(two.bytes + two.length, world.queue[1].bytes, world.queue[1].length);
    two.length = (uint16_t)(two.length + world.queue[1].length);
    world.queued = 0;
    put(0, PARTY_DEVICE, two.bytes, two.length);
    assert_int_equal(receive(in), 2);
    assert_message(&in[0], 0, "one");
    assert_message(&in[1], 0, "two!");
    end();
}

static void an_end_by_the_target_is_counted(void **state)
{
    struct incoming in[CARRIER_BURST];
    const struct gun_security *result;

    (void)state;
    begin(PEER_SUITE_CCM8, true);
    result = connect_all();
    SSL_shutdown(world.servers[2]);
    flush_server(2);
    assert_int_equal(receive(in), 0);
    assert_int_equal(result->closed, 1);
    assert_int_equal(result->refused, 0);
    end();
}

static void the_target_is_told_of_the_end(void **state)
{
    (void)state;
    begin(PEER_SUITE_CHACHA, true);
    connect_all();
    secure_carrier(secure)->close(secure_carrier(secure));
    assert_int_equal(world.closed, 1);
    for (uint32_t i = 0; i < ENDPOINTS; i++) {
        assert_int_equal(SSL_get_shutdown(world.servers[i]) & SSL_RECEIVED_SHUTDOWN,
                         SSL_RECEIVED_SHUTDOWN);
        SSL_free(world.servers[i]);
    }
    SSL_CTX_free(world.context);
}

static void an_identity_that_is_unknown_fails(void **state)
{
    const struct gun_security *result;

    (void)state;
    begin(PEER_SUITE_CCM8, true);
    options.identity = "nobody-%u";
    result = connect_all();
    assert_int_equal(result->done, 0);
    assert_int_equal(result->failed, ENDPOINTS);
    assert_non_null(strstr(result->fault, "endpoint"));
    assert_non_null(strstr(result->fault, "as nobody-"));
    assert_non_null(strstr(result->fault, "the target sent alert"));
    end();
}

static void without_an_answer_all_fail_in_the_end(void **state)
{
    const struct gun_security *result;

    (void)state;
    begin(PEER_SUITE_GCM, false);
    result = connect_all();
    assert_int_equal(result->failed, ENDPOINTS);
    assert_non_null(strstr(result->fault, "no answer"));
    end();
}

static void handshakes_are_begun_no_faster_than_asked_for(void **state)
{
    (void)state;
    begin(PEER_SUITE_CCM8, true);
    options.handshake_rate = 0.5;
    assert_int_equal(connect_all()->done, ENDPOINTS);
    assert_true(secure_result(secure)->seconds >= 4); /* at 0, 2 and 4 s */
    end();
}

static void identities_have_the_number_of_their_device(void **state)
{
    char text[12];

    (void)state;
    assert_int_equal(secure_identity("a%ub", 1234, text, sizeof(text)), 6);
    assert_string_equal(text, "a1234b");
    assert_int_equal(secure_identity("100%", 1, text, sizeof(text)), 4);
    assert_string_equal(text, "100%");
    assert_int_equal(secure_identity("twelve bytes", 1, text, sizeof(text)), -ENAMETOOLONG);
    assert_int_equal(secure_identity("%utwelve", 4000000, text, sizeof(text)), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_go_both_ways_in_each_suite),
        cmocka_unit_test(the_origin_is_left_alone),
        cmocka_unit_test(records_that_are_repeated_forged_or_broken_are_refused),
        cmocka_unit_test(several_records_of_a_datagram_are_several_messages),
        cmocka_unit_test(an_end_by_the_target_is_counted),
        cmocka_unit_test(the_target_is_told_of_the_end),
        cmocka_unit_test(an_identity_that_is_unknown_fails),
        cmocka_unit_test(without_an_answer_all_fail_in_the_end),
        cmocka_unit_test(handshakes_are_begun_no_faster_than_asked_for),
        cmocka_unit_test(identities_have_the_number_of_their_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
