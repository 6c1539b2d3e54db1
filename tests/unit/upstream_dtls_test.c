/* Origins over DTLS: when there is a handshake, what waits for it, and what becomes of requests
 * when it fails; over which ports; and destinations of the forward proxy. */
#include "tests/unit/upstream_dtls_steps.h"

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

/* A handshake that was begun for another host at the same address is none for this one: it asks for
 * the other one's certificate. */
static void a_handshake_is_for_the_host_that_was_named(void **state)
{
    const struct seat *seats = rig->origins[0].seats;

    (void)state;
    rig->origins[0].silent = true;
    ask_uri(1, "coaps://origin.example/r");
    rig_resolved(0, 1);
    rig_advance(1500000);
    ask_uri(2, "coaps://origin.example/s");
    rig_resolved(1, 600);
    rig->origins[0].silent = false;
    ask_uri(3, "coaps://other.example/t");
    rig_resolved(0, 600);
    rig_advance(5 * SECOND_US);
    assert_int_equal(rig->origins[0].handshakes, 1);
    assert_int_equal(rig_seats(&rig->origins[0]), 1);
    assert_string_equal(SSL_get_servername(seats[0].ssl, TLSEXT_NAMETYPE_host_name),
                        "other.example");
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
        FORWARD(a_coaps_uri_goes_over_dtls),
        FORWARD(a_proxy_scheme_may_be_coaps),
        FORWARD(a_host_that_moves_gets_another_association),
        FORWARD(a_handshake_is_for_the_host_that_was_named),
        ONE(the_next_port_is_ready_before_it_is_needed),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
