/* The message layer (RFC 7252 4 and 5.2) seen from both ends of a worker: times, message IDs,
 * NSTART and endpoints. Rows of tests/conformance.tsv that no other test shows. */
#include "tests/unit/worker_harness.h"

/* Without jitter: 3 s is the longest first timeout of the standard's parameters. */
static const char yaml[] =
    "instance: unit\n"
    "interfaces:\n"
    "  - name: south\n"
    "    device: tap:unit0\n"
    "    addresses: [10.99.0.2/24, 10.99.0.3/24]\n"
    "listeners:\n"
    "  - uri: coap://10.99.0.2\n"
    "    transmission: {ack_timeout: 3s, ack_random_factor: 1}\n"
    "  - uri: coap://10.99.0.2:5699\n"
    "    transmission: {ack_timeout: 7s, ack_random_factor: 1, max_retransmit: 2}\n"
    "  - uri: coap://10.99.0.3\n"
    "upstreams:\n"
    "  - name: origin\n"
    "    servers: [coap://10.99.0.1:5683]\n"
    "    transmission: {ack_timeout: 3s, ack_random_factor: 1}\n"
    "  - name: other\n"
    "    servers: [coap://10.99.0.4:5683]\n"
    "    transmission: {ack_timeout: 5s, ack_random_factor: 1, max_retransmit: 1, nstart: 2}\n"
    "routes:\n"
    "  - {path: /, to: origin}\n"
    "  - {path: /other, to: other}\n"
    "  - {path: /hello, respond: {payload: hello}}\n"
    "cache: {size: 0}\n"
    "limits: {sessions: 64, exchanges: 16, outbound: 16, queue: 4, remembered: 64, "
    "message_memory: 64KiB, amplification: 0}\n";

static int setup(void **state)
{
    struct harness *h = malloc(sizeof(*h));

    harness_start(h, yaml);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct harness *h = *state;

    harness_nothing_left(h);
    harness_stop(h);
    free(h);
    return 0;
}

/* Client n at a listener. */
static struct flow client_at(struct harness *h, unsigned listener, unsigned n)
{
    const struct config_listener *l = &h->config->listeners[listener];
    struct flow flow = harness_client(h, n);
    struct endpoint peer = {.address = flow.peer, .port = flow.peer_port};

    return flow_make(l->local, l->port, &peer, TRANSPORT_UDP);
}

static void ask(struct harness *h, const struct flow *client, enum message_type type, uint8_t code,
                uint16_t mid, const char *path)
{
    uint8_t bytes[1500];

    harness_give(h, client, bytes,
                 harness_request(bytes, type, code, mid, (uint8_t)mid, path, NULL));
}

/* The next datagram is a request to a server: a copy. */
static struct sent expect_request(struct harness *h, uint8_t server)
{
    struct message m;
    struct sent *s = harness_expect(h, &m);

    assert_true(code_is_request(m.code));
    assert_int_equal(s->flow.peer.bytes[15], server);
    assert_int_equal(s->flow.peer_port, 5683);
    return *s;
}

static uint16_t mid_of(const struct sent *s)
{
    return (uint16_t)(s->data[2] << 8 | s->data[3]);
}

static void answer(struct harness *h, const struct sent *request, enum message_type type,
                   uint16_t mid, const char *payload)
{
    struct message m;
    uint8_t bytes[1500];

    assert_int_equal(message_parse(request->data, request->length, &m), VERDICT_OK);
    harness_give(h, &request->flow, bytes,
                 harness_message(bytes, type, CODE_CONTENT, type == TYPE_ACK ? m.mid : mid, m.token,
                                 m.token_length, payload));
}

static void give_empty(struct harness *h, const struct flow *flow, enum message_type type,
                       uint16_t mid)
{
    uint8_t bytes[4];

    message_write_empty(bytes, type, mid);
    harness_give(h, flow, bytes, sizeof(bytes));
}

/* A request whose answer comes late: the client has its Empty ACK and the answer in a CON. */
static struct sent separate(struct harness *h, const struct flow *client, uint16_t mid)
{
    struct message m;
    struct sent request, *s;

    ask(h, client, TYPE_CON, CODE_GET, mid, "slow");
    request = expect_request(h, 1);
    give_empty(h, &request.flow, TYPE_ACK, mid_of(&request));
    harness_advance(h, SECOND_US);
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_ACK);
    answer(h, &request, TYPE_NON, 1, "late");
    s = harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_true(flow_equal(&s->flow, client));
    return *s;
}

/* The datagram is sent again at these seconds after its first time, and nothing else is. */
static void expect_again(struct harness *h, const struct sent *first, const unsigned *seconds,
                         unsigned count)
{
    struct message m;

    for (unsigned i = 0; i < count; i++) {
        struct sent *again = harness_expect(h, &m);

        assert_int_equal(again->length, first->length);
        assert_memory_equal(again->data, first->data, first->length);
        assert_in_range(again->at_us - first->at_us, seconds[i] * SECOND_US,
                        seconds[i] * SECOND_US + 20000);
    }
}

/* ---- times ---- */

/* RFC 7252 4.8.2: MAX_TRANSMIT_SPAN is 45 s, MAX_TRANSMIT_WAIT 93 s. */
static void the_longest_schedule(void **state)
{
    static const unsigned seconds[] = {3, 9, 21, 45};
    struct harness *h = *state;
    struct flow client = client_at(h, 0, 1);
    struct message m;
    struct sent first, *s;

    ask(h, &client, TYPE_NON, CODE_GET, 1, "x");
    first = expect_request(h, 1);
    harness_advance(h, 92 * SECOND_US);
    expect_again(h, &first, seconds, 4);
    harness_silent(h);
    harness_advance(h, 2 * SECOND_US);
    s = harness_expect(h, &m);
    assert_int_equal(m.code, CODE_GATEWAY_TIMEOUT);
    assert_in_range(s->at_us - first.at_us, 93 * SECOND_US, 93 * SECOND_US + 20000);
    assert_int_equal(worker_counters(h->worker)->give_ups, 1);
    assert_int_equal(worker_counters(h->worker)->retransmissions, 4);
}

static void each_upstream_has_its_own_timeouts(void **state)
{
    static const unsigned seconds[] = {5};
    struct harness *h = *state;
    struct flow client = client_at(h, 0, 1);
    struct message m;
    struct sent first, *s;

    ask(h, &client, TYPE_NON, CODE_GET, 1, "other");
    first = expect_request(h, 4);
    harness_advance(h, 60 * SECOND_US);
    expect_again(h, &first, seconds, 1);
    s = harness_expect(h, &m);
    assert_int_equal(m.code, CODE_GATEWAY_TIMEOUT);
    assert_in_range(s->at_us - first.at_us, 15 * SECOND_US, 15 * SECOND_US + 20000);
    harness_silent(h);
}

static void each_listener_has_its_own_timeouts(void **state)
{
    static const unsigned longer[] = {7, 21}, shorter[] = {3, 9, 21, 45};
    struct harness *h = *state;
    struct flow client = client_at(h, 1, 1);
    struct sent first = separate(h, &client, 1);

    harness_advance(h, 100 * SECOND_US);
    expect_again(h, &first, longer, 2);
    harness_silent(h);
    client = client_at(h, 0, 1);
    first = separate(h, &client, 1);
    harness_advance(h, 100 * SECOND_US);
    expect_again(h, &first, shorter, 4);
    harness_silent(h);
}

static void a_separate_response_that_nobody_wants(void **state)
{
    static const unsigned seconds[] = {3, 9, 21, 45};
    struct harness *h = *state;
    struct flow client = client_at(h, 0, 1);
    struct sent first = separate(h, &client, 1);
    struct worker_usage usage;

    harness_advance(h, 93 * SECOND_US + 20000);
    expect_again(h, &first, seconds, 4);
    harness_advance(h, 100 * SECOND_US);
    harness_silent(h);
    worker_usage(h->worker, &usage);
    assert_int_equal(usage.outbound, 0);
    assert_int_equal(usage.exchanges, 0);
}

static void a_separate_response_that_is_reset(void **state)
{
    static const unsigned seconds[] = {3};
    struct harness *h = *state;
    struct flow client = client_at(h, 0, 1);
    struct sent first = separate(h, &client, 1);

    harness_advance(h, 4 * SECOND_US);
    expect_again(h, &first, seconds, 1);
    give_empty(h, &client, TYPE_RST, mid_of(&first));
    harness_advance(h, 100 * SECOND_US);
    harness_silent(h);
}

/* ---- message IDs ---- */

static void duplicates_of_non_requests_are_dropped(void **state)
{
    struct harness *h = *state;
    struct flow client = client_at(h, 0, 1);
    struct message m;
    struct sent request;

    ask(h, &client, TYPE_NON, CODE_POST, 7, "x");
    request = expect_request(h, 1);
    ask(h, &client, TYPE_NON, CODE_POST, 7, "x"); /* while the origin works on it */
    harness_silent(h);
    answer(h, &request, TYPE_ACK, 0, "done");
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_NON);
    harness_advance(h, 144 * SECOND_US);
    ask(h, &client, TYPE_NON, CODE_POST, 7, "x");
    harness_silent(h);
    assert_int_equal(worker_counters(h->worker)->drop_duplicate, 2);
    harness_advance(h, 2 * SECOND_US); /* NON_LIFETIME is over */
    ask(h, &client, TYPE_NON, CODE_POST, 7, "x");
    request = expect_request(h, 1);
    answer(h, &request, TYPE_ACK, 0, "again");
    harness_expect(h, &m);
    harness_silent(h);
}

static void message_ids_belong_to_their_endpoint(void **state)
{
    struct harness *h = *state;
    struct flow clients[] = {client_at(h, 0, 1), client_at(h, 0, 2), client_at(h, 1, 1),
                             client_at(h, 2, 1)};
    struct message m;

    for (unsigned i = 0; i < 4; i++) {
        struct sent request, *s;

        ask(h, &clients[i], TYPE_CON, CODE_POST, 7, "x");
        request = expect_request(h, 1);
        answer(h, &request, TYPE_ACK, 0, "done");
        s = harness_expect(h, &m);
        assert_true(flow_equal(&s->flow, &clients[i]));
        assert_int_equal(m.mid, 7);
    }
    assert_int_equal(worker_counters(h->worker)->duplicates, 0);
}

/* ---- NSTART ---- */

static void nothing_stray_frees_a_place(void **state)
{
    struct harness *h = *state;
    struct flow client = client_at(h, 0, 1);
    struct message m;
    struct sent first, second, elsewhere;

    ask(h, &client, TYPE_NON, CODE_POST, 1, "other"); /* gives a flow to another server */
    elsewhere = expect_request(h, 4);
    ask(h, &client, TYPE_NON, CODE_POST, 2, "x");
    first = expect_request(h, 1);
    ask(h, &client, TYPE_NON, CODE_POST, 3, "x"); /* NSTART is 1: these wait */
    ask(h, &client, TYPE_NON, CODE_POST, 4, "x");
    give_empty(h, &first.flow, TYPE_RST, (uint16_t)(mid_of(&first) + 1));
    give_empty(h, &first.flow, TYPE_ACK, (uint16_t)(mid_of(&first) + 1));
    if (mid_of(&elsewhere) != mid_of(&first)) {
        give_empty(h, &elsewhere.flow, TYPE_ACK, mid_of(&first));
        give_empty(h, &elsewhere.flow, TYPE_RST, mid_of(&first));
    }
    harness_silent(h);
    give_empty(h, &first.flow, TYPE_ACK, mid_of(&first));
    second = expect_request(h, 1);
    give_empty(h, &first.flow, TYPE_ACK, mid_of(&first)); /* the same ACK again */
    give_empty(h, &first.flow, TYPE_RST, mid_of(&first));
    harness_silent(h);
    answer(h, &second, TYPE_ACK, 0, "2");
    expect_request(h, 1);
    harness_expect(h, &m);
    harness_silent(h);
    harness_advance(h, 400 * SECOND_US);
    h->taken = h->count;
}

static void nstart_holds_for_a_client(void **state)
{
    struct harness *h = *state;
    struct flow client = client_at(h, 0, 1);
    struct message m;
    struct sent requests[2], *s;
    uint16_t mid;

    for (uint16_t i = 0; i < 2; i++) {
        ask(h, &client, TYPE_CON, CODE_POST, (uint16_t)(i + 1), "other");
        requests[i] = expect_request(h, 4);
        give_empty(h, &requests[i].flow, TYPE_ACK, mid_of(&requests[i]));
    }
    harness_advance(h, SECOND_US);
    harness_expect(h, &m);
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_EMPTY);
    answer(h, &requests[0], TYPE_NON, 1, "one");
    answer(h, &requests[1], TYPE_NON, 2, "two");
    harness_expect(h, &m);
    assert_memory_equal(m.payload, "one", 3);
    mid = m.mid;
    harness_advance(h, 2 * SECOND_US);
    harness_silent(h); /* the second one waits for the first one's ACK */
    give_empty(h, &client, TYPE_RST, (uint16_t)(mid + 5));
    harness_silent(h);
    give_empty(h, &client, TYPE_ACK, mid);
    s = harness_expect(h, &m);
    assert_memory_equal(m.payload, "two", 3);
    give_empty(h, &client, TYPE_ACK, mid_of(s));
    harness_advance(h, 100 * SECOND_US);
    harness_silent(h);
}

/* ---- endpoints ---- */

static void answers_leave_from_where_the_request_came_to(void **state)
{
    struct harness *h = *state;
    struct message m;

    for (unsigned listener = 0; listener < 3; listener++) {
        struct flow client = client_at(h, listener, 1);
        struct sent late;

        ask(h, &client, TYPE_CON, CODE_GET, 1, "hello");
        assert_true(flow_equal(&harness_expect(h, &m)->flow, &client));
        ask(h, &client, TYPE_NON, CODE_PUT, 2, "hello");
        assert_true(flow_equal(&harness_expect(h, &m)->flow, &client));
        assert_int_equal(m.code, CODE_METHOD_NOT_ALLOWED);
        give_empty(h, &client, TYPE_CON, 3);
        assert_true(flow_equal(&harness_expect(h, &m)->flow, &client));
        assert_int_equal(m.type, TYPE_RST);
        late = separate(h, &client, 4);
        give_empty(h, &client, TYPE_ACK, mid_of(&late));
    }
    harness_silent(h);
}

/* RFC 7252 5.3.2: the token alone is not enough. */
static void an_answer_from_elsewhere_is_none(void **state)
{
    struct harness *h = *state;
    struct flow client = client_at(h, 0, 1);
    struct message m;
    struct sent elsewhere, request, forged;

    ask(h, &client, TYPE_NON, CODE_POST, 1, "other");
    elsewhere = expect_request(h, 4);
    ask(h, &client, TYPE_NON, CODE_POST, 2, "x");
    request = expect_request(h, 1);
    forged = request;
    forged.flow = elsewhere.flow; /* the other server knows the token */
    answer(h, &forged, TYPE_NON, 77, "evil");
    harness_silent(h);
    answer(h, &forged, TYPE_CON, 78, "evil");
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_RST);
    assert_int_equal(m.mid, 78);
    forged.flow = request.flow;
    forged.flow.peer_port++; /* the same host, another port */
    answer(h, &forged, TYPE_NON, 79, "evil");
    harness_silent(h);
    answer(h, &request, TYPE_ACK, 0, "good");
    harness_expect(h, &m);
    assert_memory_equal(m.payload, "good", 4);
    harness_advance(h, 100 * SECOND_US);
    h->taken = h->count;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_longest_schedule),
        TEST(each_upstream_has_its_own_timeouts),
        TEST(each_listener_has_its_own_timeouts),
        TEST(a_separate_response_that_nobody_wants),
        TEST(a_separate_response_that_is_reset),
        TEST(duplicates_of_non_requests_are_dropped),
        TEST(message_ids_belong_to_their_endpoint),
        TEST(nothing_stray_frees_a_place),
        TEST(nstart_holds_for_a_client),
        TEST(answers_leave_from_where_the_request_came_to),
        TEST(an_answer_from_elsewhere_is_none),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
