/* Clients that have been silent are pinged: when, what counts as a sign of life, and what goes with
 * a client that does not answer. */
#include "tests/unit/life_steps.h"

#define INTERVAL_US (30 * SECOND_US)
#define JITTER_US   (3 * SECOND_US + 2000)

#define YAML(outbound)                                                               \
    "instance: unit\n"                                                               \
    "interfaces:\n"                                                                  \
    "  - name: south\n"                                                              \
    "    device: tap:unit0\n"                                                        \
    "    addresses: [10.99.0.2/24]\n"                                                \
    "keepalive: 30s\n"                                                               \
    "listeners:\n"                                                                   \
    "  - uri: coap://10.99.0.2\n"                                                    \
    "    transmission: {ack_timeout: 3s, ack_random_factor: 1}\n"                    \
    "  - {uri: \"coap://10.99.0.2:5700\", keepalive: 0s}\n"                          \
    "upstreams:\n"                                                                   \
    "  - {name: origin, servers: [coap://10.99.0.1], keepalive: 0s, timeout: 30m,\n" \
    "     transmission: {nstart: 16}}\n"                                             \
    "routes:\n"                                                                      \
    "  - {path: /, to: origin}\n"                                                    \
    "  - {path: /fixed, respond: {payload: here}}\n"                                 \
    "cache: {size: 0}\n"                                                             \
    "limits: {amplification: 0, sessions: 2048, session_idle: 300s, " outbound ", "  \
    "message_memory: 1MiB}\n"

static const char yaml[] = YAML("outbound: 4096");
static const char small_yaml[] = YAML("outbound: 16");

static int setup(void **state)
{
    observe_start(state, yaml);
    events_begin(*state);
    return 0;
}

static int setup_small(void **state)
{
    observe_start(state, small_yaml);
    events_begin(*state);
    return 0;
}

/* Clients are silent, and all has to go. */
static int teardown(void **state)
{
    struct harness *h = *state;

    observe_skip(h, 3000);
    heard_events.count = heard_events.taken = 0;
    harness_nothing_left(h);
    assert_int_equal(messaging_of(h)->pings, 0);
    harness_stop(h);
    free(h);
    return 0;
}

static uint64_t counted(struct harness *h, size_t offset)
{
    uint64_t value;

    memcpy(&value, (const uint8_t *)worker_counters(h->worker) + offset, sizeof(value));
    return value;
}
#define COUNTED(h, name) counted(h, offsetof(struct counters, name))

static void ask(struct harness *h, unsigned n, uint16_t mid, enum message_type type, uint8_t code,
                const char *path)
{
    struct flow flow = harness_client(h, n);
    uint8_t bytes[1500];

    harness_give(h, &flow, bytes, harness_request(bytes, type, code, mid, (uint8_t)n, path, NULL));
}

/* Client n asks for what is answered at once. */
static void visit(struct harness *h, unsigned n, uint16_t mid)
{
    struct message m;

    ask(h, n, mid, TYPE_CON, CODE_GET, "fixed");
    client_expect(h, n, &m);
    assert_int_equal(m.code, CODE_CONTENT);
}

static struct sent next_ping(struct harness *h, unsigned n, uint64_t since_us)
{
    harness_advance(h, since_us + INTERVAL_US + JITTER_US - h->now);
    return expect_ping(h, n, since_us + INTERVAL_US, since_us + INTERVAL_US + JITTER_US);
}

/* ---- when ---- */

static void a_silent_client_is_pinged(void **state)
{
    struct harness *h = *state;
    uint64_t since = h->now;
    struct sent ping;
    uint16_t last = 0;

    visit(h, 1, 1);
    expect_event(h, 1, SESSION_OPENED);
    for (unsigned i = 0; i < 5; i++) {
        ping = next_ping(h, 1, since);
        harness_silent(h);
        expect_no_event();
        pong(h, &ping);
        assert_int_equal(expect_event(h, 1, SESSION_PONG), mid_of(&ping));
        if (i)
            assert_true((uint16_t)(mid_of(&ping) - last - 1) < 0x8000); /* a later one */
        last = mid_of(&ping);
        since = h->now;
    }
    assert_int_equal(COUNTED(h, keepalive_pings), 5);
    assert_int_equal(COUNTED(h, keepalive_pongs), 5);
    assert_int_equal(COUNTED(h, retransmissions), 0);
}

/* Some acknowledge what should be rejected: alive all the same. */
static void an_ack_is_an_answer_too(void **state)
{
    struct harness *h = *state;
    uint64_t since = h->now;
    struct sent ping;

    visit(h, 1, 1);
    ping = next_ping(h, 1, since);
    client_empty(h, 1, TYPE_ACK, mid_of(&ping));
    assert_int_equal(COUNTED(h, keepalive_pongs), 1);
    next_ping(h, 1, h->now);
}

static void what_a_client_says_begins_it_anew(void **state)
{
    struct harness *h = *state;
    uint64_t since = 0;
    struct sent *rst;

    for (uint16_t i = 0; i < 10; i++) {
        visit(h, 1, i);
        since = h->now;
        harness_advance(h, 29 * SECOND_US);
        harness_silent(h);
    }
    client_empty(h, 1, TYPE_CON, 77); /* a ping of its own */
    rst = harness_take(h);
    assert_int_equal(rst->data[0], 0x70);
    since = h->now;
    expect_event(h, 1, SESSION_OPENED);
    assert_int_equal(expect_event(h, 1, SESSION_PINGED), 77);
    next_ping(h, 1, since);
}

static void what_is_sent_to_a_client_begins_it_anew(void **state)
{
    struct harness *h = *state;
    struct registered at;
    uint64_t since = 0;

    observe_begin(h, 1, "x", "s0", &at);
    for (uint32_t i = 2; i < 5; i++) {
        harness_advance(h, 25 * SECOND_US);
        origin_state(h, &at, i, "s");
        expect_state(h, 1, TYPE_NON, "s", NULL);
        since = h->now;
    }
    next_ping(h, 1, since - 2000);
}

/* Pings of sessions that began in the same moment are spread over a tenth of the interval. */
static void pings_are_spread(void **state)
{
    struct harness *h = *state;
    uint64_t since = h->now;
    unsigned slots[30] = {0};
    struct sent *s;

    for (unsigned n = 0; n < 600; n++)
        visit(h, n, 1);
    h->count = h->taken = 0;
    harness_advance(h, INTERVAL_US - 1000);
    harness_silent(h);
    harness_advance(h, JITTER_US + 1000);
    for (unsigned n = 0; n < 600; n++) {
        s = harness_take(h);
        assert_non_null(s);
        assert_true(is_ping(s));
        assert_in_range(s->at_us, since + INTERVAL_US, since + INTERVAL_US + JITTER_US);
        slots[(s->at_us - since - INTERVAL_US) / 100000 % 30]++;
    }
    harness_silent(h);
    for (unsigned i = 0; i < 30; i++) /* 20 on average */
        assert_in_range(slots[i], 5, 45);
    h->count = h->taken = 0;
    heard_events.count = heard_events.taken = 0;
}

static void another_listener_does_without(void **state)
{
    struct harness *h = *state;
    struct flow flow = harness_client(h, 1);
    uint8_t bytes[1500];

    flow.local_port = 5700;
    harness_give(h, &flow, bytes, harness_request(bytes, TYPE_CON, CODE_GET, 1, 1, "fixed", NULL));
    assert_non_null(harness_take(h));
    harness_advance(h, 299 * SECOND_US);
    harness_silent(h);
    assert_int_equal(observe_usage(h).sessions, 1);
    harness_advance(h, 2 * SECOND_US);
    assert_int_equal(observe_usage(h).sessions, 0);
}

/* ---- no answer ---- */

/* 3, 6, 12, 24 s, and 30 s in the place of 48: the gap is capped, the count is not. */
static void a_ping_is_sent_again_as_any_con(void **state)
{
    static const unsigned gaps[] = {3, 6, 12, 24};
    struct harness *h = *state;
    struct sent first;
    uint64_t at;

    visit(h, 1, 1);
    first = next_ping(h, 1, h->now);
    at = first.at_us;
    expect_event(h, 1, SESSION_OPENED);
    harness_advance(h, at + 45 * SECOND_US + 4000 - h->now);
    for (unsigned i = 0; i < 4; i++) {
        struct sent again;

        at += gaps[i] * SECOND_US;
        again = expect_ping(h, 1, at, at + 1000);
        assert_int_equal(mid_of(&again), mid_of(&first));
        at = again.at_us;
    }
    harness_advance(h, at + 30 * SECOND_US - 1000 - h->now);
    assert_int_equal(observe_usage(h).sessions, 1);
    expect_no_event();
    harness_advance(h, 3000);
    harness_silent(h);
    assert_int_equal(expect_event(h, 1, SESSION_NACK_TIMED_OUT), mid_of(&first));
    assert_int_equal(expect_event(h, 1, SESSION_KEEPALIVE_FAILED), mid_of(&first));
    expect_event(h, 1, SESSION_CLOSED);
    expect_no_event();
    assert_int_equal(observe_usage(h).sessions, 0);
    assert_int_equal(observe_usage(h).timers, 0);
    assert_int_equal(COUNTED(h, keepalive_failed), 1);
    assert_int_equal(COUNTED(h, keepalive_pings), 1);
    assert_int_equal(COUNTED(h, sessions_expired), 0);
}

static void a_late_answer_counts(void **state)
{
    struct harness *h = *state;
    struct sent first;

    visit(h, 1, 1);
    first = next_ping(h, 1, h->now);
    harness_advance(h, first.at_us + 70 * SECOND_US - h->now);
    for (unsigned i = 0; i < 4; i++)
        assert_true(is_ping(harness_take(h)));
    pong(h, &first);
    assert_int_equal(COUNTED(h, keepalive_pongs), 1);
    next_ping(h, 1, h->now);
}

static void an_icmp_error_ends_it_at_once(void **state)
{
    struct harness *h = *state;
    struct sent ping;

    visit(h, 1, 1);
    ping = next_ping(h, 1, h->now);
    expect_event(h, 1, SESSION_OPENED);
    worker_unreachable(h->worker, &ping.flow, ping.data, ping.length, h->now);
    expect_event(h, 1, SESSION_NACK_UNREACHABLE);
    expect_event(h, 1, SESSION_KEEPALIVE_FAILED);
    expect_event(h, 1, SESSION_CLOSED);
    assert_int_equal(observe_usage(h).sessions, 0);
    assert_int_equal(observe_usage(h).outbound, 0);
    assert_int_equal(COUNTED(h, unreachables), 1);
    worker_unreachable(h->worker, &ping.flow, ping.data, ping.length, h->now);
    worker_unreachable(h->worker, &ping.flow, NULL, 0, h->now);
    assert_int_equal(COUNTED(h, drop_stray_icmp), 2);
}

/* The same where the error does not say about which message it is. */
static void an_icmp_error_without_a_quotation_ends_it_too(void **state)
{
    struct harness *h = *state;
    struct sent ping;

    visit(h, 1, 1);
    ping = next_ping(h, 1, h->now);
    worker_unreachable(h->worker, &ping.flow, NULL, 0, h->now);
    assert_int_equal(observe_usage(h).sessions, 0);
}

static void what_hangs_on_it_goes_too(void **state)
{
    struct harness *h = *state;
    struct registered x, y;
    struct message m;
    uint64_t since;
    struct sent ping;

    observe_begin(h, 1, "x", "s0", &x);
    client_observe(h, 1, 2, 9, "y", 0);
    origin_answer(h, origin_registration(h, &y), TYPE_ACK, 0,
                  &(struct say){.observed = true, .number = 1, .payload = "t0"});
    client_expect(h, 1, &m);
    since = h->now;
    observe_join(h, 2, "x", "s0");
    assert_int_equal(observe_usage(h).relations, 3);
    harness_advance(h, since + INTERVAL_US + JITTER_US - h->now);
    for (struct sent *s; (s = harness_take(h));) /* the second one answers */
        if (s->flow.peer_port == harness_client(h, 2).peer_port)
            pong(h, s);
        else
            ping = *s;
    worker_unreachable(h->worker, &ping.flow, ping.data, ping.length, h->now);
    assert_int_equal(observe_usage(h).relations, 1);
    assert_int_equal(COUNTED(h, relations_lost), 2);
    origin_cancelled(h, &y); /* nobody is left there */
    origin_state(h, &x, 2, "s1");
    expect_state(h, 2, TYPE_NON, "s1", NULL);
    harness_silent(h);
    assert_null(client_session_of(h, 1));
}

/* A message that waits for its ACK is as good as a ping, and so is what becomes of it. */
static void a_con_is_the_probe(void **state)
{
    struct harness *h = *state;
    struct registered x, y;
    struct message m;
    struct sent con;
    unsigned sent = 0;

    observe_begin(h, 1, "x", "s0", &x);
    client_observe(h, 1, 2, 9, "y", 0);
    origin_answer(h, origin_registration(h, &y), TYPE_ACK, 0,
                  &(struct say){.observed = true, .number = 1, .payload = "t0"});
    client_expect(h, 1, &m);
    for (uint32_t i = 2; i < 7; i++) { /* the fifth is confirmable */
        origin_state(h, &x, i, "s");
        con = *harness_expect(h, &m);
    }
    assert_int_equal(m.type, TYPE_CON);
    /* 3, 6, 12, 24 s and then 30 instead of 48 */
    harness_advance(h, con.at_us + 75 * SECOND_US - 1000 - h->now);
    for (struct sent *s; (s = harness_take(h));) {
        if (s->flow.peer_port == 5683)
            continue; /* the origin is asked again */
        assert_int_equal(mid_of(s), mid_of(&con));
        assert_true(s->length > 4);
        sent++;
    }
    assert_int_equal(sent, 4);
    assert_int_equal(observe_usage(h).relations, 2);
    harness_advance(h, 3000);
    assert_int_equal(observe_usage(h).relations, 0);
    assert_null(client_session_of(h, 1));
    assert_int_equal(COUNTED(h, keepalive_failed), 1);
    assert_int_equal(COUNTED(h, keepalive_pings), 0);
    h->taken = h->count; /* the origin's cancellations */
}

/* One that does not answer pings but is heard all the time is there. */
static void who_talks_is_there(void **state)
{
    struct harness *h = *state;

    visit(h, 1, 1);
    next_ping(h, 1, h->now);
    for (uint16_t i = 2; i < 12; i++) {
        harness_advance(h, 20 * SECOND_US);
        h->taken = h->count;
        visit(h, 1, i);
    }
    assert_int_equal(observe_usage(h).sessions, 1);
    assert_int_equal(COUNTED(h, keepalive_failed), 0);
    assert_int_equal(COUNTED(h, give_ups), 1);
    next_ping(h, 1, h->now);
}

/* ---- what is not held up by pings ---- */

static void pongs_do_not_keep_an_unused_session(void **state)
{
    struct harness *h = *state;

    visit(h, 1, 1);
    h->count = h->taken = 0;
    assert_in_range(answer_pings(h, 299 * SECOND_US), 8, 9);
    assert_int_equal(observe_usage(h).sessions, 1);
    answer_pings(h, 2 * SECOND_US);
    assert_int_equal(observe_usage(h).sessions, 0);
    assert_int_equal(COUNTED(h, sessions_expired), 1);
    assert_int_equal(answer_pings(h, 100 * SECOND_US), 0);
}

/* A ping that is sent again is answered twice; the second RST is about nothing that is known. */
static void late_pongs_do_not_either(void **state)
{
    struct harness *h = *state;
    uint64_t end = h->now + 301 * SECOND_US;

    visit(h, 1, 1);
    while (h->now < end) {
        struct sent *s;

        harness_advance(h, 100000);
        while ((s = harness_take(h)) && is_ping(s)) {
            pong(h, s);
            pong(h, s);
        }
    }
    assert_int_equal(observe_usage(h).sessions, 0);
    assert_int_equal(COUNTED(h, drop_unmatched_rst), COUNTED(h, keepalive_pongs));
}

/* It ends in the middle of a ping. */
static void an_unused_session_expires_while_it_is_pinged(void **state)
{
    struct harness *h = *state;
    uint64_t since = h->now;

    visit(h, 1, 1);
    h->count = h->taken = 0;
    answer_pings(h, 250 * SECOND_US);
    harness_advance(h, since + 299 * SECOND_US - h->now);
    assert_int_equal(observe_usage(h).sessions, 1);
    assert_int_equal(observe_usage(h).outbound, 1);
    harness_advance(h, 2 * SECOND_US);
    assert_int_equal(observe_usage(h).sessions, 0);
    assert_int_equal(observe_usage(h).outbound, 0);
    assert_int_equal(observe_usage(h).timers, 0);
    assert_int_equal(COUNTED(h, keepalive_failed), 0);
    assert_int_equal(COUNTED(h, sessions_expired), 1);
}

/* An observer has nothing to say for as long as it likes, if it answers. */
static void a_relation_keeps_its_session(void **state)
{
    struct harness *h = *state;
    struct registered at;
    uint64_t end;

    observe_begin(h, 1, "x", "s0", &at);
    for (end = h->now + 2000 * SECOND_US; h->now < end;) {
        struct sent *s;

        harness_advance(h, 500000);
        while ((s = harness_take(h))) {
            struct sent copy = *s;
            struct message m;

            assert_int_equal(message_parse(copy.data, copy.length, &m), VERDICT_OK);
            if (is_ping(&copy))
                pong(h, &copy);
            else if (copy.flow.peer_port == 5683) /* Max-Age is over: it is asked again */
                origin_answer(h, &copy, TYPE_ACK, 0,
                              &(struct say){.observed = true, .number = 2, .payload = "s0"});
            else if (m.type == TYPE_CON)
                client_empty(h, 1, TYPE_ACK, m.mid);
        }
        h->count = h->taken = 0;
    }
    assert_int_equal(observe_usage(h).sessions, 2);
    assert_int_equal(observe_usage(h).relations, 1);
    assert_int_equal(COUNTED(h, keepalive_failed), 0);
    assert_true(COUNTED(h, keepalive_pongs) > 20);
}

/* Who has asked for something is evicted last: answers to pings do not count. */
static void pongs_do_not_keep_a_session_from_being_evicted(void **state)
{
    struct harness *h = *state;
    struct messaging *m = messaging_of(h);
    uint64_t since = h->now;
    struct sent ping;

    m->sessions.max = 2;
    visit(h, 1, 1);
    harness_advance(h, SECOND_US);
    visit(h, 2, 1);
    harness_advance(h, since + INTERVAL_US + JITTER_US + SECOND_US - h->now);
    for (struct sent *s; (s = harness_take(h));) { /* only the first one answers */
        ping = *s;
        if (ping.flow.peer_port == harness_client(h, 1).peer_port)
            pong(h, &ping);
    }
    heard_events.taken = heard_events.count;
    m->sessions.hand = 0; /* the search is bounded, and all are at the beginning */
    visit(h, 3, 1);
    expect_event(h, 1, SESSION_CLOSED);
    expect_event(h, 3, SESSION_OPENED);
    assert_null(client_session_of(h, 1));
    assert_int_equal(m->pings, 1);
    m->sessions.hand = 0;
    visit(h, 4, 1); /* the second one goes although it is being pinged */
    expect_event(h, 2, SESSION_CLOSED);
    assert_int_equal(m->pings, 0);
    assert_int_equal(observe_usage(h).outbound, 0);
    assert_int_equal(observe_usage(h).sessions, 2);
}

static void a_worker_that_only_pings_is_quiet(void **state)
{
    struct harness *h = *state;

    visit(h, 1, 1);
    next_ping(h, 1, h->now);
    assert_true(worker_is_quiet(h->worker));
    assert_int_equal(observe_usage(h).outbound, 1);
}

/* ---- requests that are being worked on ---- */

/* Client 1 has asked, was told to wait, and does not answer the ping. Gone, but for its request. */
static struct sent leave_in_the_middle(struct harness *h, uint8_t code)
{
    struct message m;
    struct sent request, ping;
    uint64_t since = h->now;

    ask(h, 1, 1, TYPE_CON, code, "slow");
    request = *origin_expect(h, &m);
    harness_give(h, &request.flow, (const uint8_t[]){0x60, 0, request.data[2], request.data[3]}, 4);
    harness_advance(h, SECOND_US);
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_EMPTY);
    ping = next_ping(h, 1, since);
    heard_events.taken = heard_events.count;
    worker_unreachable(h->worker, &ping.flow, ping.data, ping.length, h->now);
    expect_event(h, 1, SESSION_NACK_UNREACHABLE);
    expect_event(h, 1, SESSION_KEEPALIVE_FAILED);
    expect_event(h, 1, SESSION_CLOSED);
    return request;
}

static void a_request_under_way_ends_silently(void **state)
{
    struct harness *h = *state;
    struct sent request = leave_in_the_middle(h, CODE_GET);

    assert_int_equal(observe_usage(h).exchanges, 1);
    harness_advance(h, 200 * SECOND_US); /* neither pings nor expires */
    harness_silent(h);
    origin_answer(h, &request, TYPE_NON, 0x7000, &(struct say){.payload = "late"});
    harness_advance(h, 2000);
    harness_silent(h);
    expect_no_event();
    assert_int_equal(observe_usage(h).exchanges, 0);
    assert_int_equal(observe_usage(h).forwards, 0);
    assert_null(client_session_of(h, 1));
}

static void a_client_that_comes_back_in_the_middle_is_served(void **state)
{
    struct harness *h = *state;
    struct sent request = leave_in_the_middle(h, CODE_GET);
    struct message m;

    harness_advance(h, 10 * SECOND_US);
    visit(h, 1, 2);
    expect_event(h, 1, SESSION_OPENED);
    origin_answer(h, &request, TYPE_NON, 0x7000, &(struct say){.payload = "late"});
    client_expect(h, 1, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, CODE_CONTENT);
    client_empty(h, 1, TYPE_ACK, m.mid);
    assert_int_equal(observe_usage(h).exchanges, 0);
    next_ping(h, 1, h->now);
    expect_no_event();
}

/* It would observe from now on, but it is not there: nobody does. */
static void a_registration_under_way_makes_no_relation(void **state)
{
    struct harness *h = *state;
    struct registered at;
    struct message m;
    uint64_t since = h->now;
    struct sent request, ping;

    client_observe(h, 1, 1, 1, "x", 0);
    request = *origin_registration(h, &at);
    harness_give(h, &request.flow, (const uint8_t[]){0x60, 0, request.data[2], request.data[3]}, 4);
    harness_advance(h, SECOND_US);
    client_expect(h, 1, &m);
    ping = next_ping(h, 1, since);
    worker_unreachable(h->worker, &ping.flow, ping.data, ping.length, h->now);
    origin_answer(h, &request, TYPE_NON, 0x7000,
                  &(struct say){.observed = true, .number = 1, .payload = "s0"});
    harness_advance(h, 2000);
    origin_cancelled(h, &at);
    harness_silent(h);
    assert_int_equal(observe_usage(h).relations, 0);
    assert_null(client_session_of(h, 1));
}

/* RFC 7252 4.5: what was executed is not executed again, whatever has become of the session. */
static void an_unsafe_request_is_remembered_all_the_same(void **state)
{
    struct harness *h = *state;
    uint64_t since = h->now;
    struct message m;
    struct sent ping;

    ask(h, 1, 1, TYPE_CON, CODE_POST, "x");
    origin_answer(h, origin_expect(h, &m), TYPE_ACK, 0, &(struct say){.code = CODE_CHANGED});
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_CHANGED);
    ping = next_ping(h, 1, since);
    worker_unreachable(h->worker, &ping.flow, ping.data, ping.length, h->now);
    heard_events.taken = heard_events.count;
    harness_advance(h, 60 * SECOND_US);
    harness_silent(h); /* it is not pinged */
    ask(h, 1, 1, TYPE_CON, CODE_POST, "x");
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_CHANGED);
    assert_int_equal(m.type, TYPE_ACK);
    harness_silent(h); /* the origin has heard of it once */
    expect_event(h, 1, SESSION_OPENED);
    assert_int_equal(COUNTED(h, duplicates), 1);
}

static void what_lingers_for_that_goes_when_it_may(void **state)
{
    struct harness *h = *state;
    uint64_t since = h->now;
    struct message m;
    struct sent ping;

    ask(h, 1, 1, TYPE_CON, CODE_POST, "x");
    origin_answer(h, origin_expect(h, &m), TYPE_ACK, 0, &(struct say){.code = CODE_CHANGED});
    client_expect(h, 1, &m);
    ping = next_ping(h, 1, since);
    worker_unreachable(h->worker, &ping.flow, ping.data, ping.length, h->now);
    harness_advance(h, since + 299 * SECOND_US - h->now);
    assert_non_null(client_session_of(h, 1));
    harness_advance(h, 2 * SECOND_US);
    assert_null(client_session_of(h, 1));
    assert_int_equal(observe_usage(h).remembered, 0);
}

/* ---- bounds ---- */

/* Pings take half of the room for messages of ours at the most; the others come a little later. */
static void pings_without_room_are_put_off(void **state)
{
    struct harness *h = *state;
    uint64_t since = h->now;
    bool pinged[24] = {false};
    unsigned got = 0;

    for (unsigned n = 0; n < 24; n++)
        visit(h, n, 1);
    h->count = h->taken = 0;
    harness_advance(h, INTERVAL_US + JITTER_US);
    assert_int_equal(observe_usage(h).outbound, 8);
    assert_int_equal(COUNTED(h, keepalive_pings), 8);
    assert_true(COUNTED(h, keepalive_postponed) >= 16);
    while (got < 24 && h->now < since + 50 * SECOND_US) {
        for (struct sent *s; (s = harness_take(h));) {
            struct sent ping = *s;
            unsigned n = ping.flow.peer_port - harness_client(h, 0).peer_port;

            got += !pinged[n];
            pinged[n] = true;
            pong(h, &ping);
        }
        harness_advance(h, 100000);
        assert_in_range(observe_usage(h).outbound, 0, 8);
    }
    assert_int_equal(got, 24);
    assert_int_equal(COUNTED(h, keepalive_failed), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_silent_client_is_pinged),
        TEST(an_ack_is_an_answer_too),
        TEST(what_a_client_says_begins_it_anew),
        TEST(what_is_sent_to_a_client_begins_it_anew),
        TEST(pings_are_spread),
        TEST(another_listener_does_without),
        TEST(a_ping_is_sent_again_as_any_con),
        TEST(a_late_answer_counts),
        TEST(an_icmp_error_ends_it_at_once),
        TEST(an_icmp_error_without_a_quotation_ends_it_too),
        TEST(what_hangs_on_it_goes_too),
        TEST(a_con_is_the_probe),
        TEST(who_talks_is_there),
        TEST(pongs_do_not_keep_an_unused_session),
        TEST(late_pongs_do_not_either),
        TEST(an_unused_session_expires_while_it_is_pinged),
        TEST(a_relation_keeps_its_session),
        TEST(pongs_do_not_keep_a_session_from_being_evicted),
        TEST(a_worker_that_only_pings_is_quiet),
        TEST(a_request_under_way_ends_silently),
        TEST(a_client_that_comes_back_in_the_middle_is_served),
        TEST(a_registration_under_way_makes_no_relation),
        TEST(an_unsafe_request_is_remembered_all_the_same),
        TEST(what_lingers_for_that_goes_when_it_may),
        cmocka_unit_test_setup_teardown(pings_without_room_are_put_off, setup_small, teardown),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
