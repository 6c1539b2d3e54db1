/* Origins over DTLS: what becomes of requests and observations when an association ends, and how a
 * server is found that was started anew. */
#include "tests/unit/upstream_dtls_steps.h"

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

/* There are two servers, and two associations with the one that is observed. */
static void an_association_that_ends_concerns_its_own_observations_only(void **state)
{
    struct asked *a, *b = NULL;

    (void)state;
    rig->origins[1].refuses = true; /* so that all is at the first one */
    rig_advance(100000);
    CLIENT(&rig->h, 1, .type = TYPE_CON, .code = CODE_GET,
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0)));
    rig_settle();
    a = rig_expect(0, CODE_GET);
    ANSWER(a, .code = CODE_CONTENT, OPTIONS_OF(addition_uint(OPTION_OBSERVE, 5)));
    expect_code(1, CODE_CONTENT);
    /* Another association, as it is slow for some time. */
    ask(2, CODE_POST);
    rig_settle();
    b = rig_expect(0, CODE_POST);
    rig->origins[0].silent = true;
    rig_advance(12 * SECOND_US);
    rig->origins[0].silent = false;
    ANSWER(b, .code = CODE_CHANGED);
    rig_advance(9 * SECOND_US);
    assert_int_equal(rig_seats(&rig->origins[0]), 2);
    rig->asked_taken = rig->asked_count; /* retransmissions */
    (void)SSL_shutdown(rig->origins[0].seats[1 - a->seat].ssl);
    seat_flush(&rig->origins[0], &rig->origins[0].seats[1 - a->seat]);
    rig_advance(5 * SECOND_US);
    assert_int_equal(rig_seats(&rig->origins[0]), 1);
    assert_null(rig_asked());
    assert_int_equal(counters()->registrations, 1);
    rig_close(a);
    rig_advance(5 * SECOND_US);
    (void)rig_expect(0, CODE_GET);
    assert_int_equal(counters()->registrations, 2);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
        TWO(an_association_that_ends_concerns_its_own_observations_only),
        ONE(a_client_leaves_when_the_association_has_just_ended),
        ONE(origins_are_told_when_a_session_expires),
        ONE(origins_are_told_when_the_gateway_stops),
        ONE(nothing_is_left),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
