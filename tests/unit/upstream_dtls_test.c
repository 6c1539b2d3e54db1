/* Origins over DTLS: when there is a handshake, what waits for it, and what becomes of requests
 * when it fails or an association ends. */
#include "tests/unit/upstream_dtls_setup.h"

#define DTLS "dtls: {identity: gateway, key_file: %s, suites: [TLS_PSK_WITH_AES_128_CCM_8]}"
#define HEAD                                                                                       \
    "instance: unit\n"                                                                             \
    "interfaces:\n"                                                                                \
    "  - name: south\n"                                                                            \
    "    device: tap:unit0\n"                                                                      \
    "    addresses: [10.99.0.2/24]\n"                                                              \
    "listeners: [{uri: coap://10.99.0.2}]\n"                                                       \
    "cache: {size: 0}\n"                                                                           \
    "limits: {sessions: 64, exchanges: 32, outbound: 32, queue: 8, remembered: 1024, handshakes: " \
    "4, "                                                                                          \
    "message_memory: 64KiB, assembly_memory: 1MiB, body: 64KiB, amplification: 0}\n"

static const char one[] = HEAD "upstreams:\n"
                               "  - name: one\n"
                               "    servers: [coaps://10.99.0.11]\n"
                               "    transmission: {nstart: 4}\n"
                               "    " DTLS "\n"
                               "routes: [{path: /, to: one}]\n";

static const char alive[] = HEAD "upstreams:\n"
                                 "  - name: one\n"
                                 "    servers: [coaps://10.99.0.11]\n"
                                 "    keepalive: 30s\n"
                                 "    " DTLS "\n"
                                 "routes: [{path: /, to: one}]\n";

static const char narrow[] = HEAD "upstreams:\n"
                                  "  - name: one\n"
                                  "    ports: 1\n"
                                  "    servers: [coaps://10.99.0.11]\n"
                                  "    " DTLS "\n"
                                  "routes: [{path: /, to: one}]\n";

static const char two[] = HEAD "upstreams:\n"
                               "  - name: two\n"
                               "    servers: [coaps://10.99.0.11, coaps://10.99.0.12]\n"
                               "    balance: round_robin\n"
                               "    transmission: {nstart: 4}\n"
                               "    " DTLS "\n"
                               "routes: [{path: /, to: two}]\n";

static const char forward[] = HEAD "forward_proxy:\n"
                                   "  allow: [10.99.0.0/24, origin.example]\n"
                                   "  " DTLS "\n";

static int setup_forward(void **state)
{
    rig_start(state, forward);
    return 0;
}

static int setup_one(void **state)
{
    rig_start(state, one);
    return 0;
}

static int setup_narrow(void **state)
{
    rig_start(state, narrow);
    return 0;
}

static int setup_alive(void **state)
{
    rig_start(state, alive);
    return 0;
}

static int setup_two(void **state)
{
    rig_start(state, two);
    return 0;
}

static const struct counters *counters(void)
{
    return worker_counters(rig->h.worker);
}

static void expect_code(unsigned client, uint8_t code)
{
    struct message m;

    (void)expect_at_client(&rig->h, client, code, &m);
}

static void ask(unsigned client, uint8_t code)
{
    CLIENT(&rig->h, client, .type = TYPE_CON, .code = code, .path = "r");
}

/* A request and its answer, in whatever association; earlier answers may be repeated until now. */
static void exchange(unsigned client)
{
    struct asked *a;

    rig->h.taken = rig->h.count;
    ask(client, CODE_GET);
    rig_settle();
    a = rig_expect(0, CODE_GET);
    ANSWER(a, .code = CODE_CONTENT);
    expect_code(client, CODE_CONTENT);
}

/* ---- the beginning ---- */

static void an_association_is_made_before_it_is_needed(void **state)
{
    (void)state;
    rig_advance(1000);
    assert_int_equal(rig->origins[0].handshakes, 1);
    assert_null(rig_asked());
    exchange(1);
    assert_int_equal(rig->origins[0].handshakes, 1);
    assert_int_equal(counters()->associations_opened, 1);
}

static void requests_wait_for_the_handshake(void **state)
{
    struct asked *a, *b;

    (void)state;
    ask(1, CODE_GET);
    ask(2, CODE_POST);
    assert_int_equal(rig->origins[0].handshakes, 0);
    rig_settle();
    assert_int_equal(rig->origins[0].handshakes, 1);
    a = rig_expect(0, CODE_GET);
    b = rig_expect(0, CODE_POST);
    assert_null(rig_asked());
    ANSWER(b, .code = CODE_CHANGED);
    expect_code(2, CODE_CHANGED);
    ANSWER(a, .code = CODE_CONTENT);
    expect_code(1, CODE_CONTENT);
}

/* The queue to a server is as long as its configured limit: what is beyond is refused, the rest
 * goes.
 */
static void the_queue_is_bounded(void **state)
{
    unsigned refused = 0, at_origin = 0;

    (void)state;
    rig->origins[0].silent = true;
    for (unsigned i = 0; i < 12; i++)
        ask(i, CODE_POST);
    rig_settle();
    for (struct sent *s; (s = harness_take(&rig->h));)
        refused += s->data[1] == CODE_SERVICE_UNAVAILABLE;
    assert_int_equal(refused, 12 - 8);
    assert_int_equal(counters()->refused_queue, 4);
    rig->origins[0].silent = false;
    rig_advance(1100000); /* the ClientHello once more */
    for (struct asked *a; (a = rig_asked()); at_origin++)
        ANSWER(a, .code = CODE_CHANGED);
    assert_int_equal(at_origin, 8);
}

/* ---- failures ---- */

static void a_refusal_is_a_bad_gateway(void **state)
{
    unsigned sent;

    (void)state;
    rig->origins[0].refuses = true;
    ask(1, CODE_GET);
    ask(2, CODE_POST);
    rig_settle();
    expect_code(1, CODE_BAD_GATEWAY);
    expect_code(2, CODE_BAD_GATEWAY);
    assert_int_equal(counters()->servers_down, 1);
    assert_int_equal(counters()->dtls_handshakes_failed, 1);
    /* Not every request is a handshake then. */
    ask(3, CODE_GET);
    sent = rig->up_count;
    rig_settle();
    assert_int_equal(sent, 0);
    expect_code(3, CODE_BAD_GATEWAY);
    /* A little later it is. */
    rig->origins[0].refuses = false;
    rig_advance(1100000);
    exchange(4);
    assert_int_equal(counters()->servers_up, 1);
}

static void pauses_between_handshakes_grow_and_end(void **state)
{
    uint64_t failed = 0;

    (void)state;
    rig->origins[0].refuses = true;
    for (unsigned i = 0; i < 60; i++) {
        ask(i % 8, CODE_GET);
        rig_advance(SECOND_US);
    }
    /* At 0, 1, 3, 7, 15, 31 and 47 s. */
    failed = counters()->dtls_handshakes_failed;
    assert_in_range(failed, 6, 7);
    rig->origins[0].refuses = false;
    rig->h.taken = rig->h.count;
    rig_advance(16 * SECOND_US);
    exchange(9);
}

static void silence_is_a_timeout(void **state)
{
    (void)state;
    rig->origins[0].silent = true;
    ask(1, CODE_GET);
    rig_advance(40 * SECOND_US);
    harness_take(&rig->h); /* the empty ACK */
    harness_silent(&rig->h);
    rig_advance(60 * SECOND_US);
    expect_code(1, CODE_GATEWAY_TIMEOUT);
    assert_int_equal(counters()->servers_down, 1);
    rig->origins[0].silent = false;
    rig_advance(20 * SECOND_US);
    exchange(2);
}

static void an_icmp_error_ends_a_handshake(void **state)
{
    uint8_t quoted[13] = {22, 0xfe, 0xfd};

    (void)state;
    rig->origins[0].silent = true;
    ask(1, CODE_GET);
    rig_settle();
    quoted[0] = 23; /* not what was sent */
    worker_unreachable(rig->h.worker, &rig->last, quoted, sizeof(quoted), rig->h.now);
    rig_settle();
    harness_silent(&rig->h);
    quoted[0] = 22;
    worker_unreachable(rig->h.worker, &rig->last, quoted, sizeof(quoted), rig->h.now);
    rig_settle();
    expect_code(1, CODE_GATEWAY_TIMEOUT);
    assert_int_equal(counters()->servers_down, 1);
}

static void another_server_takes_what_was_not_sent(void **state)
{
    (void)state;
    rig->origins[0].refuses = true;
    for (unsigned i = 0; i < 4; i++)
        ask(i, CODE_POST);
    rig_settle();
    for (unsigned i = 0; i < 4; i++)
        ANSWER(rig_expect(1, CODE_POST), .code = CODE_CHANGED);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(harness_take(&rig->h)->data[1], CODE_CHANGED);
    assert_null(rig_asked());
    /* It is asked again, and comes back. */
    rig->origins[0].refuses = false;
    rig_advance(20 * SECOND_US);
    assert_int_equal(counters()->servers_up, 1);
    assert_int_equal(rig->origins[0].handshakes, 1);
}

/* ---- the end of an association ---- */

static void a_safe_request_is_made_again_when_the_origin_closes(void **state)
{
    struct asked *a;
    uint16_t port;

    (void)state;
    ask(1, CODE_GET);
    rig_settle();
    a = rig_expect(0, CODE_GET);
    port = rig->last.local_port;
    rig_close(a);
    a = rig_expect(0, CODE_GET);
    assert_int_not_equal(rig->last.local_port, port);
    assert_int_equal(rig->origins[0].handshakes, 2);
    ANSWER(a, .code = CODE_CONTENT);
    expect_code(1, CODE_CONTENT);
    assert_int_equal(counters()->servers_down, 0);
}

static void but_only_once(void **state)
{
    (void)state;
    ask(1, CODE_GET);
    rig_settle();
    rig_close(rig_expect(0, CODE_GET));
    rig_close(rig_expect(0, CODE_GET));
    assert_null(rig_asked());
    expect_code(1, CODE_BAD_GATEWAY);
    exchange(2);
}

static void an_unsafe_request_is_not_made_again(void **state)
{
    (void)state;
    ask(1, CODE_POST);
    rig_settle();
    rig_close(rig_expect(0, CODE_POST));
    expect_code(1, CODE_BAD_GATEWAY);
    rig_advance(200 * SECOND_US);
    assert_null(rig_asked());
}

/* An acknowledged one whose answer was to come separately, and those that NSTART held back. */
static void what_was_not_sent_waits_for_the_next_association(void **state)
{
    struct asked *first = NULL, *a;
    uint8_t ack[4];

    (void)state;
    for (unsigned i = 0; i < 6; i++)
        ask(i, CODE_POST);
    rig_settle();
    for (unsigned i = 0; i < 4; i++) {
        a = rig_expect(0, CODE_POST);
        first = first ? first : a;
    }
    assert_null(rig_asked());
    message_write_empty(ack, TYPE_ACK, first->message.mid);
    rig_say(first, ack, sizeof(ack));
    (void)rig_expect(0, CODE_POST); /* the fifth */
    rig_close(first);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(harness_take(&rig->h)->data[1], CODE_BAD_GATEWAY);
    harness_silent(&rig->h);
    ANSWER(rig_expect(0, CODE_POST), .code = CODE_CHANGED);
    assert_null(rig_asked());
    expect_code(5, CODE_CHANGED);
}

static void an_idle_association_that_ends_is_made_when_it_is_needed(void **state)
{
    (void)state;
    exchange(1);
    rig_close(&rig->asked[0]);
    rig_advance(10 * SECOND_US);
    assert_int_equal(rig->origins[0].handshakes, 1);
    exchange(2);
    assert_int_equal(rig->origins[0].handshakes, 2);
    assert_int_equal(counters()->servers_down, 0);
}

/* ---- a server that was started anew ---- */

static void a_restart_is_noticed_by_a_request(void **state)
{
    struct asked *a;

    (void)state;
    exchange(1);
    origin_restart(&rig->origins[0]);
    ask(2, CODE_GET);
    ask(3, CODE_POST);
    rig_advance(12 * SECOND_US); /* the second retransmission is after 9 s at the latest */
    assert_int_equal(rig->origins[0].handshakes, 2);
    assert_int_equal(counters()->servers_down, 0);
    a = rig_expect(0, CODE_GET);
    (void)harness_take(&rig->h); /* empty ACKs */
    (void)harness_take(&rig->h);
    expect_code(3, CODE_GATEWAY_TIMEOUT);
    rig->h.taken = rig->h.count;
    ANSWER(a, .code = CODE_CONTENT);
    expect_code(2, CODE_CONTENT);
    while ((a = rig_asked()))
        assert_int_equal(a->message.code, CODE_GET); /* once more, until it was answered */
    exchange(4);
    assert_int_equal(rig->origins[0].handshakes, 2);
    assert_int_equal(usage_of(&rig->h).associations, 1);
}

/* It was only slow: what it has been asked is answered where it was asked. */
static void a_slow_server_is_not_one_that_was_started_anew(void **state)
{
    struct asked *a;

    (void)state;
    exchange(1);
    ask(2, CODE_POST);
    rig_settle();
    a = rig_expect(0, CODE_POST);
    rig->origins[0].silent = true;
    rig_advance(12 * SECOND_US); /* its handshake is on the way */
    assert_int_equal(rig->origins[0].handshakes, 1);
    rig->origins[0].silent = false;
    (void)harness_take(&rig->h); /* the empty ACK */
    ANSWER(a, .code = CODE_CHANGED);
    expect_code(2, CODE_CHANGED);
    rig_advance(5 * SECOND_US);
    assert_int_equal(rig->origins[0].handshakes, 2);
    rig->asked_taken = rig->asked_count; /* retransmissions */
    exchange(3);
    assert_int_equal(usage_of(&rig->h).associations, 2);
    assert_int_equal(counters()->associations_closed, 0);
}

/* Without a port to spare the request itself has to fail first. */
static void with_one_port_a_restart_is_noticed_later(void **state)
{
    (void)state;
    exchange(1);
    origin_restart(&rig->origins[0]);
    ask(2, CODE_GET);
    rig_advance(100 * SECOND_US);
    (void)harness_take(&rig->h); /* the empty ACK */
    expect_code(2, CODE_GATEWAY_TIMEOUT);
    assert_int_equal(rig->origins[0].handshakes, 2);
    assert_int_equal(counters()->servers_down, 0);
    exchange(3);
}

static void a_restart_is_noticed_by_keepalive(void **state)
{
    (void)state;
    exchange(1);
    rig_advance(35 * SECOND_US);
    assert_int_equal(rig->origins[0].pings, 1);
    origin_restart(&rig->origins[0]);
    rig_advance(150 * SECOND_US);
    assert_int_equal(rig->origins[0].handshakes, 2);
    assert_in_range(rig->origins[0].pings, 4, 6);
    assert_int_equal(counters()->servers_down, 0);
    exchange(2);
}

/* A handshake shows that DTLS is there, no more. */
static void a_server_that_only_shakes_hands_is_down(void **state)
{
    (void)state;
    rig_advance(SECOND_US);
    rig->origins[0].mute = true;
    rig_advance(200 * SECOND_US);
    assert_int_equal(counters()->servers_down, 1);
    assert_int_equal(counters()->servers_up, 0);
    rig->origins[0].mute = false;
    rig_advance(20 * SECOND_US);
    assert_int_equal(counters()->servers_up, 1);
    exchange(1);
}

static void a_silent_server_is_down_when_the_handshake_has_failed(void **state)
{
    (void)state;
    exchange(1);
    rig->origins[0].silent = true;
    rig_advance(400 * SECOND_US);
    assert_int_equal(counters()->servers_down, 1);
    rig->origins[0].silent = false;
    origin_restart(&rig->origins[0]);
    rig_advance(60 * SECOND_US);
    assert_int_equal(counters()->servers_up, 1);
    exchange(2);
}

/* ---- observations ---- */

static void an_observation_is_registered_anew(void **state)
{
    struct asked *a;
    struct message m;

    (void)state;
    CLIENT(&rig->h, 1, .type = TYPE_CON, .code = CODE_GET,
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0)), .path = NULL);
    rig_settle();
    a = rig_expect(0, CODE_GET);
    assert_int_equal(option_of(&a->message, SLOT_OBSERVE), 0);
    ANSWER(a, .code = CODE_CONTENT, OPTIONS_OF(addition_uint(OPTION_OBSERVE, 5)), .payload = "1",
           .payload_length = 1);
    expect_code(1, CODE_CONTENT);
    rig_close(a);
    rig_advance(3 * SECOND_US);
    a = rig_expect(0, CODE_GET);
    assert_int_equal(option_of(&a->message, SLOT_OBSERVE), 0);
    assert_int_equal(rig->origins[0].handshakes, 2);
    ANSWER(a, .code = CODE_CONTENT, OPTIONS_OF(addition_uint(OPTION_OBSERVE, 1)), .payload = "2",
           .payload_length = 1);
    (void)expect_at_client(&rig->h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "2", 1);
    assert_true(message_has(&m, SLOT_OBSERVE));
}

/* ---- the end ---- */

static void origins_are_told_when_a_session_expires(void **state)
{
    (void)state;
    exchange(1);
    assert_int_equal(rig_seats(&rig->origins[0]), 1);
    rig_advance(400 * SECOND_US);
    assert_int_equal(rig_seats(&rig->origins[0]), 0);
    assert_int_equal(usage_of(&rig->h).associations, 0);
    exchange(2);
}

static void origins_are_told_when_the_gateway_stops(void **state)
{
    (void)state;
    exchange(1);
    worker_drain(rig->h.worker);
    rig_advance(SECOND_US);
    assert_true(worker_is_quiet(rig->h.worker));
    assert_int_equal(rig_seats(&rig->origins[0]), 0);
}

static void nothing_is_left(void **state)
{
    (void)state;
    rig->origins[0].refuses = true;
    ask(1, CODE_GET);
    rig_advance(SECOND_US);
    rig->origins[0].refuses = false;
    rig_advance(SECOND_US);
    rig->h.taken = rig->h.count;
    exchange(2);
    ask(3, CODE_GET);
    rig_settle();
    rig_close(rig_expect(0, CODE_GET));
    rig->origins[0].silent = true;
    rig_advance(3000 * SECOND_US);
    harness_nothing_left(&rig->h);
    assert_int_equal(usage_of(&rig->h).associations, 0);
    assert_int_equal(usage_of(&rig->h).handshakes, 0);
}

/* A CON that is to end a relation that has just ended with its association: it was to be sent in
 * that one, and goes nowhere now. */
static void a_client_leaves_when_the_association_has_just_ended(void **state)
{
    struct asked *a;

    (void)state;
    CLIENT(&rig->h, 1, .type = TYPE_CON, .code = CODE_GET,
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0)));
    rig_settle();
    a = rig_expect(0, CODE_GET);
    ANSWER(a, .code = CODE_CONTENT, OPTIONS_OF(addition_uint(OPTION_OBSERVE, 5)));
    expect_code(1, CODE_CONTENT);
    (void)SSL_shutdown(rig->origins[0].seats[a->seat].ssl);
    seat_flush(&rig->origins[0], &rig->origins[0].seats[a->seat]);
    /* Before anybody at the server has been told. */
    CLIENT(&rig->h, 1, .type = TYPE_CON, .code = CODE_GET,
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 1)));
    rig_settle();
    for (unsigned i = 0; i < 2 && (a = rig_asked()); i++)
        ANSWER(a, .code = CODE_CONTENT);
    rig->h.taken = rig->h.count;
    rig_advance(100 * SECOND_US);
    assert_int_equal(usage_of(&rig->h).observations, 0);
    assert_int_equal(usage_of(&rig->h).forwards, 0);
}

/* ---- destinations of the forward proxy ---- */

static void ask_uri(unsigned client, const char *uri)
{
    CLIENT(&rig->h, client, .type = TYPE_CON, .code = CODE_GET,
           OPTIONS_OF(text_option(OPTION_PROXY_URI, uri)));
    rig_settle();
}

static void a_coaps_uri_goes_over_dtls(void **state)
{
    struct asked *a;
    struct message m;

    (void)state;
    ask_uri(1, "coaps://10.99.0.11/r");
    assert_int_equal(rig->origins[0].handshakes, 1);
    a = rig_expect(0, CODE_GET);
    assert_int_equal(a->message.first[SLOT_URI_PATH].length, 1);
    ANSWER(a, .code = CODE_CONTENT, .payload = "safe", .payload_length = 4);
    (void)expect_at_client(&rig->h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "safe", 4);
    /* The same host without DTLS is another one. */
    ask_uri(2, "coap://10.99.0.11/r");
    assert_null(rig_asked());
    (void)expect_at_origin(&rig->h, &m);
}

static void a_proxy_scheme_may_be_coaps(void **state)
{
    (void)state;
    CLIENT(&rig->h, 1, .type = TYPE_CON, .code = CODE_GET,
           OPTIONS_OF(text_option(OPTION_URI_HOST, "10.99.0.12"),
                      text_option(OPTION_PROXY_SCHEME, "coaps")));
    rig_settle();
    ANSWER(rig_expect(1, CODE_GET), .code = CODE_CONTENT);
    expect_code(1, CODE_CONTENT);
    CLIENT(&rig->h, 2, .type = TYPE_CON, .code = CODE_GET,
           OPTIONS_OF(text_option(OPTION_URI_HOST, "10.99.0.12"),
                      text_option(OPTION_PROXY_SCHEME, "coapx")));
    rig_settle();
    expect_code(2, CODE_PROXYING_NOT_SUPPORTED);
}

/* Its association ends, and what was asked there is asked where the host is now. */
static void a_host_that_moves_gets_another_association(void **state)
{
    struct asked *a;

    (void)state;
    ask_uri(1, "coaps://origin.example/r");
    assert_int_equal(rig->questions, 1);
    rig_resolved(0, 1);
    (void)rig_expect(0, CODE_GET);
    rig_advance(1500000);
    rig->asked_taken = rig->asked_count; /* retransmissions */
    ask_uri(2, "coaps://origin.example/s");
    assert_int_equal(rig->questions, 2);
    rig_resolved(1, 600);
    rig_advance(SECOND_US);
    assert_int_equal(rig_seats(&rig->origins[0]), 0);
    assert_int_equal(rig->origins[1].handshakes, 1);
    rig->h.taken = rig->h.count;
    a = rig_expect(1, CODE_GET);
    ANSWER(a, .code = CODE_CONTENT);
    ANSWER(rig_expect(1, CODE_GET), .code = CODE_CONTENT);
    assert_null(rig_asked());
    assert_int_equal(harness_take(&rig->h)->data[1], CODE_CONTENT);
    assert_int_equal(harness_take(&rig->h)->data[1], CODE_CONTENT);
    rig_advance(3000 * SECOND_US);
    harness_nothing_left(&rig->h);
}

/* ---- message IDs ---- */

/* A port's IDs last for 65,536 messages: before they are used up the next port has its association.
 */
static void the_next_port_is_ready_before_it_is_needed(void **state)
{
    uint16_t first = 0;
    unsigned on_first = 0;
    struct asked *a;

    (void)state;
    rig_advance(2000);
    for (unsigned i = 0; i < 70000; i++) {
        CLIENT(&rig->h, i % 50, .type = TYPE_NON, .code = CODE_GET, .path = "r");
        rig_settle();
        a = rig_expect(0, CODE_GET);
        if (i == 0)
            first = rig->last.local_port;
        on_first += rig->origins[0].seats[a->seat].port == first;
        ANSWER(a, .code = CODE_CONTENT);
        rig->asked_count = rig->asked_taken = 0;
        rig->h.count = rig->h.taken = 0;
        if (i % 500 == 0)
            rig_advance(SECOND_US);
    }
    assert_in_range(on_first, 32768, 65536);
    assert_int_equal(rig->origins[0].handshakes, 2);
    assert_int_equal(counters()->nstart_waits, 0);
}

#define ONE(f)     cmocka_unit_test_setup_teardown(f, setup_one, rig_stop)
#define ALIVE(f)   cmocka_unit_test_setup_teardown(f, setup_alive, rig_stop)
#define FORWARD(f) cmocka_unit_test_setup_teardown(f, setup_forward, rig_stop)
#define NARROW(f)  cmocka_unit_test_setup_teardown(f, setup_narrow, rig_stop)
#define TWO(f)     cmocka_unit_test_setup_teardown(f, setup_two, rig_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(an_association_is_made_before_it_is_needed),
        ONE(requests_wait_for_the_handshake),
        ONE(the_queue_is_bounded),
        ONE(a_refusal_is_a_bad_gateway),
        ONE(pauses_between_handshakes_grow_and_end),
        ONE(silence_is_a_timeout),
        ONE(an_icmp_error_ends_a_handshake),
        TWO(another_server_takes_what_was_not_sent),
        ONE(a_safe_request_is_made_again_when_the_origin_closes),
        ONE(but_only_once),
        ONE(an_unsafe_request_is_not_made_again),
        ONE(what_was_not_sent_waits_for_the_next_association),
        ONE(an_idle_association_that_ends_is_made_when_it_is_needed),
        ONE(a_restart_is_noticed_by_a_request),
        ONE(a_slow_server_is_not_one_that_was_started_anew),
        NARROW(with_one_port_a_restart_is_noticed_later),
        ALIVE(a_restart_is_noticed_by_keepalive),
        ALIVE(a_server_that_only_shakes_hands_is_down),
        ALIVE(a_silent_server_is_down_when_the_handshake_has_failed),
        ONE(an_observation_is_registered_anew),
        ONE(a_client_leaves_when_the_association_has_just_ended),
        FORWARD(a_coaps_uri_goes_over_dtls),
        FORWARD(a_proxy_scheme_may_be_coaps),
        FORWARD(a_host_that_moves_gets_another_association),
        ONE(origins_are_told_when_a_session_expires),
        ONE(origins_are_told_when_the_gateway_stops),
        ONE(nothing_is_left),
        ONE(the_next_port_is_ready_before_it_is_needed),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
