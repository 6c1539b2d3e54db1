/* The worker as a proxy, one datagram at a time: RFC 7252 4.2, 4.5, 4.7, 5.2 and 5.7 on both legs.
 */
#include "tests/unit/worker_harness.h"

static const char yaml[] =
    "instance: unit\n"
    "interfaces:\n"
    "  - name: south\n"
    "    device: tap:unit0\n"
    "    addresses: [10.99.0.2/24]\n"
    "listeners:\n"
    "  - uri: coap://10.99.0.2\n"
    "upstreams:\n"
    "  - name: origin\n"
    "    servers: [coap://10.99.0.1:5683]\n"
    "    transmission: {nstart: 2}\n"
    "  - name: fast\n"
    "    servers: [coap://10.99.0.3:5683]\n"
    "    reliable: false\n"
    "    timeout: 7s\n"
    "  - name: pair\n"
    "    servers: [coap://10.99.0.4:5683, coap://10.99.0.5:5683]\n"
    "    balance: round_robin\n"
    "routes:\n"
    "  - {path: /, to: origin}\n"
    "  - {path: /fast, to: fast}\n"
    "  - {path: /pair, to: pair}\n"
    "limits: {sessions: 64, exchanges: 16, outbound: 16, queue: 2, remembered: 16, "
    "message_memory: 64KiB}\n";

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

/* Sends a request from client n and returns what went to the origin. */
static struct sent *ask(struct harness *h, unsigned client, enum message_type type, uint8_t code,
                        uint16_t mid, const char *path, struct message *to_origin)
{
    uint8_t bytes[1500];
    struct flow flow = harness_client(h, client);

    harness_give(h, &flow, bytes,
                 harness_request(bytes, type, code, mid, (uint8_t)client, path, NULL));
    return harness_expect(h, to_origin);
}

static void answer(struct harness *h, const struct sent *request, enum message_type type,
                   uint8_t code, uint16_t mid, const char *payload)
{
    struct message m;
    uint8_t bytes[1500];

    assert_int_equal(message_parse(request->data, request->length, &m), VERDICT_OK);
    harness_give(h, &request->flow, bytes,
                 harness_message(bytes, type, code, mid, m.token, m.token_length, payload));
}

static void forwards_and_answers(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *out = ask(h, 1, TYPE_CON, CODE_GET, 0x1234, "a/b", &m);
    struct flow client = harness_client(h, 1);
    struct option_cursor path = option_cursor_at(&m, SLOT_URI_PATH);
    struct option_view view;

    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, CODE_GET);
    assert_int_equal(m.token_length, 8);
    assert_int_equal(out->flow.peer_port, 5683);
    assert_true(option_next_same(&path, &view) && view.length == 1 && view.value[0] == 'a');
    assert_true(option_next_same(&path, &view) && view.length == 1 && view.value[0] == 'b');
    assert_false(option_next_same(&path, &view));
    answer(h, out, TYPE_ACK, CODE_CONTENT, m.mid, "22.3 C");
    out = harness_expect(h, &m);
    assert_true(flow_equal(&out->flow, &client));
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_int_equal(m.mid, 0x1234);
    assert_int_equal(m.token_length, 1);
    assert_int_equal(m.token[0], 1);
    assert_memory_equal(m.payload, "22.3 C", 6);
    harness_silent(h);
}

static void a_duplicate_gets_the_same_bytes(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *out = ask(h, 1, TYPE_CON, CODE_POST, 7, "x", &m), *first, *second;
    struct flow client = harness_client(h, 1);
    uint8_t bytes[1500];
    size_t length = harness_request(bytes, TYPE_CON, CODE_POST, 7, 1, "x", NULL);

    harness_give(h, &client, bytes, length); /* still at the origin */
    harness_silent(h);
    answer(h, out, TYPE_ACK, CODE_CHANGED, m.mid, "done");
    first = harness_expect(h, &m);
    harness_advance(h, 246 * SECOND_US);
    harness_give(h, &client, bytes, length);
    second = harness_expect(h, &m);
    assert_int_equal(first->length, second->length);
    assert_memory_equal(first->data, second->data, first->length);
    harness_silent(h);
    harness_advance(h, 2 * SECOND_US); /* EXCHANGE_LIFETIME is over: a new request */
    harness_give(h, &client, bytes, length);
    out = harness_expect(h, &m);
    assert_int_equal(out->flow.peer_port, 5683);
    answer(h, out, TYPE_ACK, CODE_CHANGED, m.mid, NULL);
    harness_expect(h, &m);
}

static void an_answer_without_body_is_replayed_from_its_code(void **state)
{
    struct harness *h = *state;
    struct worker_usage usage;
    struct message m;
    struct sent *out = ask(h, 1, TYPE_CON, CODE_PUT, 7, "x", &m), *first, *second;
    struct flow client = harness_client(h, 1);
    uint8_t bytes[1500];

    answer(h, out, TYPE_ACK, CODE_CHANGED, m.mid, NULL);
    first = harness_expect(h, &m);
    worker_usage(h->worker, &usage);
    assert_int_equal(usage.chunks, 0);
    harness_give(h, &client, bytes, harness_request(bytes, TYPE_CON, CODE_PUT, 7, 1, "x", NULL));
    second = harness_expect(h, &m);
    assert_int_equal(first->length, second->length);
    assert_memory_equal(first->data, second->data, first->length);
}

static void a_slow_origin_means_a_separate_response(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent *out = ask(h, 1, TYPE_CON, CODE_GET, 7, "slow", &m), *first;
    struct flow client = harness_client(h, 1);
    struct sent request = *out;
    uint8_t bytes[1500];
    uint64_t asked = h->now;
    uint16_t mid;

    harness_give(h, &request.flow, bytes,
                 harness_message(bytes, TYPE_ACK, CODE_EMPTY, m.mid, NULL, 0, NULL));
    harness_advance(h, 499 * 1000);
    harness_silent(h);
    harness_advance(h, 2 * 1000);
    out = harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.code, CODE_EMPTY);
    assert_int_equal(m.mid, 7);
    assert_in_range(out->at_us - asked, 500000, 501000);
    harness_advance(h, 3 * SECOND_US);
    harness_silent(h); /* the origin has acknowledged: no retransmission */

    /* A lost Empty ACK is sent again. */
    harness_give(h, &client, bytes, harness_request(bytes, TYPE_CON, CODE_GET, 7, 1, "slow", NULL));
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.code, CODE_EMPTY);

    answer(h, &request, TYPE_CON, CODE_CONTENT, 0x4242, "late");
    first = harness_expect(h, &m); /* to the client: CON, an ID of ours, the token */
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.token[0], 1);
    mid = m.mid;
    out = harness_expect(h, &m); /* to the origin: its CON is acknowledged */
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.mid, 0x4242);
    answer(h, &request, TYPE_CON, CODE_CONTENT, 0x4242, "late"); /* our ACK was lost */
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.mid, 0x4242);
    harness_silent(h);

    harness_advance(h, 3001 * 1000); /* the client has not acknowledged */
    out = harness_expect(h, &m);
    assert_int_equal(out->length, first->length);
    assert_memory_equal(out->data, first->data, first->length);
    harness_give(h, &client, bytes,
                 harness_message(bytes, TYPE_ACK, CODE_EMPTY, mid, NULL, 0, NULL));
    harness_advance(h, 100 * SECOND_US);
    harness_silent(h);
}

/* Expects the retransmissions of RFC 7252 4.2 and returns when the last message was sent. */
static uint64_t expect_schedule(struct harness *h, const struct sent *first)
{
    uint64_t before = first->at_us, gap = 0;
    struct message m;

    for (int i = 0; i < 4; i++) {
        struct sent *again = harness_expect(h, &m);

        assert_int_equal(again->length, first->length);
        assert_memory_equal(again->data, first->data, first->length);
        if (i == 0) {
            gap = again->at_us - before;
            assert_in_range(gap, 2000000, 3001000);
        } else {
            gap *= 2;
            assert_in_range(again->at_us - before, gap - 20000, gap + 20000);
        }
        before = again->at_us;
    }
    return before + gap * 2;
}

static void a_silent_origin_is_a_gateway_timeout(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent first = *ask(h, 1, TYPE_CON, CODE_GET, 7, "dead", &m), *out;
    uint64_t end;
    unsigned at = h->taken;

    harness_advance(h, 94 * SECOND_US);
    out = harness_expect(h, &m);
    assert_int_equal(m.code, CODE_EMPTY); /* separate_after comes before the first retransmission */
    end = expect_schedule(h, &first);
    out = harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, CODE_GATEWAY_TIMEOUT);
    assert_in_range(out->at_us, end - 40000, end + 40000);
    assert_true(h->taken > at);
    harness_advance(h, 100 * SECOND_US); /* its retransmissions: nobody acknowledges */
    h->taken = h->count;
}

static void icmp_ends_an_exchange_at_once(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent request = *ask(h, 1, TYPE_CON, CODE_GET, 7, "dead", &m);
    uint8_t other[4] = {0x40, 0, (uint8_t)((m.mid + 1) >> 8), (uint8_t)(m.mid + 1)};

    worker_unreachable(h->worker, &request.flow, other, sizeof(other), h->now);
    harness_silent(h); /* quotes another message */
    worker_unreachable(h->worker, &request.flow, request.data, request.length, h->now);
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.code, CODE_GATEWAY_TIMEOUT);
    request = *ask(h, 1, TYPE_CON, CODE_GET, 8, "dead", &m);
    worker_unreachable(h->worker, &request.flow, NULL, 0, h->now); /* nothing quoted */
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_GATEWAY_TIMEOUT);
}

static void rejections_and_broken_answers_are_bad_gateway(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent request = *ask(h, 1, TYPE_CON, CODE_GET, 7, "x", &m);
    uint8_t bytes[1500];
    struct encoder e;

    harness_give(h, &request.flow, bytes,
                 harness_message(bytes, TYPE_RST, CODE_EMPTY, m.mid, NULL, 0, NULL));
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_BAD_GATEWAY);

    request = *ask(h, 1, TYPE_CON, CODE_GET, 8, "x", &m); /* a format error in the ACK */
    bytes[0] = 0x6f;
    bytes[1] = CODE_CONTENT;
    bytes[2] = (uint8_t)(m.mid >> 8);
    bytes[3] = (uint8_t)m.mid;
    harness_give(h, &request.flow, bytes, 4);
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_BAD_GATEWAY);

    request = *ask(h, 1, TYPE_CON, CODE_GET, 11, "x", &m); /* a class that has no codes */
    answer(h, &request, TYPE_ACK, CODE(3, 1), m.mid, NULL);
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_BAD_GATEWAY);

    request = *ask(h, 1, TYPE_CON, CODE_GET, 9, "x", &m); /* unknown, unsafe to forward */
    encoder_begin(&e, bytes, 1400, TYPE_ACK, CODE_CONTENT, m.mid, m.token, 8);
    encoder_option(&e, 65003, "?", 1);
    harness_give(h, &request.flow, bytes, encoder_end(&e));
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_BAD_GATEWAY);

    request = *ask(h, 1, TYPE_CON, CODE_GET, 10, "x", &m); /* unknown, safe: passed on */
    encoder_begin(&e, bytes, 1400, TYPE_ACK, CODE_CONTENT, m.mid, m.token, 8);
    encoder_option(&e, 65001, "!", 1);
    harness_give(h, &request.flow, bytes, encoder_end(&e));
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_int_equal(m.unknown_critical, 65001);
}

/* A datagram of fragments can bring more options than any that is kept. */
static void options_beyond_measure_are_a_broken_answer(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent request = *ask(h, 1, TYPE_CON, CODE_GET, 7, "x", &m);
    uint8_t bytes[4000], value[200] = {0};
    struct encoder e;

    encoder_begin(&e, bytes, sizeof(bytes), TYPE_ACK, CODE_CONTENT, m.mid, m.token, 8);
    for (unsigned i = 0; i < 12; i++) /* elective and safe to forward */
        encoder_option(&e, 2048, value, sizeof(value));
    encoder_payload(&e, "x", 1);
    harness_give(h, &request.flow, bytes, encoder_end(&e));
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_BAD_GATEWAY);
    assert_int_equal(m.option_count, 0);
}

static void an_answer_needs_its_own_token(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent request = *ask(h, 1, TYPE_CON, CODE_GET, 7, "x", &m);
    uint8_t bytes[1500], wrong[8];

    memcpy(wrong, m.token, 8);
    wrong[7] ^= 1;
    harness_give(h, &request.flow, bytes,
                 harness_message(bytes, TYPE_CON, CODE_CONTENT, 1, wrong, 8, "evil"));
    harness_expect(h, &m); /* not for the client */
    assert_int_equal(m.type, TYPE_RST);
    assert_int_equal(m.mid, 1);
    harness_give(h, &request.flow, bytes,
                 harness_message(bytes, TYPE_NON, CODE_CONTENT, 2, wrong, 8, "evil"));
    harness_silent(h);
    answer(h, &request, TYPE_NON, CODE_CONTENT, 3, "good"); /* also acknowledges (RFC 7252 5.2.2) */
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_memory_equal(m.payload, "good", 4);
    harness_advance(h, 60 * SECOND_US);
    harness_silent(h);
    answer(h, &request, TYPE_CON, CODE_CONTENT, 4, "again"); /* the token is used up */
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_RST);
}

static void nstart_holds_for_the_server(void **state)
{
    struct harness *h = *state;
    struct message m, m2;
    struct sent first = *ask(h, 1, TYPE_CON, CODE_POST, 1, "x", &m);
    struct sent second = *ask(h, 2, TYPE_CON, CODE_POST, 1, "x", &m2), *third;
    uint8_t bytes[1500];
    struct flow flow = harness_client(h, 3);

    for (uint8_t client = 3; client <= 4; client++) {
        flow = harness_client(h, client);
        harness_give(h, &flow, bytes,
                     harness_request(bytes, TYPE_CON, CODE_POST, 1, client, "x", NULL));
    }
    harness_silent(h); /* two wait */
    flow = harness_client(h, 5);
    harness_give(h, &flow, bytes, harness_request(bytes, TYPE_CON, CODE_POST, 1, 5, "x", NULL));
    harness_expect(h, &m); /* and a third may not */
    assert_int_equal(m.code, CODE_SERVICE_UNAVAILABLE);
    assert_true(message_has(&m, SLOT_MAX_AGE));

    answer(h, &first, TYPE_RST, CODE_EMPTY, 0x7777, NULL); /* a stray RST frees nothing */
    harness_silent(h);
    answer(h, &second, TYPE_ACK, CODE_CONTENT, (uint16_t)(second.data[2] << 8 | second.data[3]),
           "2");
    third = harness_expect(h, &m); /* room for one: it goes first */
    assert_int_equal(third->flow.peer_port, 5683);
    first = *third;
    third = harness_expect(h, &m);
    assert_int_equal(m.token[0], 2);
    answer(h, &first, TYPE_ACK, CODE_CONTENT, (uint16_t)(first.data[2] << 8 | first.data[3]), "3");
    third = harness_expect(h, &m);
    assert_int_equal(third->flow.peer_port, 5683);
    harness_expect(h, &m);
    assert_int_equal(m.token[0], 3);
    harness_advance(h, 200 * SECOND_US);
    h->taken = h->count;
}

static void non_requests_stay_non(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out = *ask(h, 1, TYPE_NON, CODE_GET, 1, "fast", &m);
    uint64_t asked = h->now;

    assert_int_equal(m.type, TYPE_NON);
    answer(h, &out, TYPE_NON, CODE_CONTENT, 99, "f");
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_NON);
    assert_int_equal(m.token[0], 1);
    out = *ask(h, 1, TYPE_NON, CODE_GET, 2, "fast/2", &m);
    harness_advance(h, 8 * SECOND_US);
    out = *harness_expect(h, &m); /* the upstream's own timeout */
    assert_int_equal(m.type, TYPE_NON);
    assert_int_equal(m.code, CODE_GATEWAY_TIMEOUT);
    assert_in_range(out.at_us - asked, 7000000, 7001000);
    harness_silent(h);
}

static void round_robin_takes_turns(void **state)
{
    struct harness *h = *state;
    struct message m;
    unsigned seen[2] = {0};

    for (uint16_t i = 0; i < 6; i++) {
        struct sent out = *ask(h, 1, TYPE_CON, CODE_POST, i, "pair", &m);

        seen[out.flow.peer.bytes[15] - 4]++;
        answer(h, &out, TYPE_ACK, CODE_CONTENT, m.mid, "p");
        harness_expect(h, &m);
    }
    assert_int_equal(seen[0], 3);
    assert_int_equal(seen[1], 3);
}

/* Traps: what is remembered of unsafe requests is never given up for new ones. */
static void unsafe_requests_are_refused_when_memory_is_full(void **state)
{
    struct harness *h = *state;
    struct message m;
    uint8_t bytes[1500];
    struct flow client = harness_client(h, 1);

    for (uint16_t mid = 0; mid < 16; mid++) {
        struct sent out = *ask(h, 1, TYPE_CON, CODE_POST, mid, "x", &m);

        answer(h, &out, TYPE_ACK, CODE_CHANGED, m.mid, NULL);
        harness_expect(h, &m);
    }
    harness_give(h, &client, bytes, harness_request(bytes, TYPE_CON, CODE_POST, 16, 1, "x", NULL));
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_SERVICE_UNAVAILABLE);
    harness_give(h, &client, bytes, harness_request(bytes, TYPE_CON, CODE_POST, 3, 1, "x", NULL));
    harness_expect(h, &m); /* the old ones are still known */
    assert_int_equal(m.code, CODE_CHANGED);
    ask(h, 1, TYPE_CON, CODE_GET, 17, "x", &m); /* a safe one may go unremembered */
    assert_int_equal(m.code, CODE_GET);
    harness_advance(h, 300 * SECOND_US);
    h->taken = h->count;
    ask(h, 1, TYPE_CON, CODE_POST, 18, "x", &m);
    assert_int_equal(m.code, CODE_POST);
    harness_advance(h, 200 * SECOND_US);
    h->taken = h->count;
}

static void a_drained_worker_takes_no_new_work(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out = *ask(h, 1, TYPE_CON, CODE_GET, 1, "x", &m);
    struct flow client = harness_client(h, 1);
    uint8_t bytes[1500];

    worker_drain(h->worker);
    assert_false(worker_is_quiet(h->worker));
    harness_give(h, &client, bytes, harness_request(bytes, TYPE_CON, CODE_GET, 2, 1, "x", NULL));
    struct sent *refused = harness_expect(h, &m);
    assert_int_equal(m.code, CODE_SERVICE_UNAVAILABLE);
    assert_true(flow_equal(&refused->flow, &client));
    message_parse(out.data, out.length, &m);
    answer(h, &out, TYPE_ACK, CODE_CONTENT, m.mid, "x");
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_true(worker_is_quiet(h->worker));
}

static void without_buffers_nothing_breaks(void **state)
{
    struct harness *h = *state;
    struct flow client = harness_client(h, 1);
    uint8_t bytes[1500];
    struct message m;

    h->no_buffers = true;
    harness_give(h, &client, bytes, harness_request(bytes, TYPE_CON, CODE_GET, 1, 1, "x", NULL));
    harness_advance(h, 1 * SECOND_US);
    assert_true(worker_counters(h->worker)->drop_reply_buffer >= 2);
    h->no_buffers = false;
    harness_advance(h, 2100 * 1000); /* the retransmission makes up for it */
    struct sent out = *harness_expect(h, &m);
    assert_int_equal(out.flow.peer_port, 5683);
    answer(h, &out, TYPE_ACK, CODE_CONTENT, m.mid, "x");
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_CON);
    harness_advance(h, 200 * SECOND_US);
    h->taken = h->count;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(forwards_and_answers),
        TEST(a_duplicate_gets_the_same_bytes),
        TEST(an_answer_without_body_is_replayed_from_its_code),
        TEST(a_slow_origin_means_a_separate_response),
        TEST(a_silent_origin_is_a_gateway_timeout),
        TEST(icmp_ends_an_exchange_at_once),
        TEST(rejections_and_broken_answers_are_bad_gateway),
        TEST(options_beyond_measure_are_a_broken_answer),
        TEST(an_answer_needs_its_own_token),
        TEST(nstart_holds_for_the_server),
        TEST(non_requests_stay_non),
        TEST(round_robin_takes_turns),
        TEST(unsafe_requests_are_refused_when_memory_is_full),
        TEST(a_drained_worker_takes_no_new_work),
        TEST(without_buffers_nothing_breaks),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
