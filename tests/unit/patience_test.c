/* What must outlast the memory for it: an origin that takes longer than a session may be idle, and
 * answers for which there was no room. */
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
    "  - {name: patient, servers: [coap://10.99.0.1], timeout: 30m, transmission: {nstart: 512}}\n"
    "routes:\n"
    "  - {path: /, to: patient}\n"
    "cache: {size: 0}\n"
    "limits: {amplification: 0, sessions: 64, session_idle: 300s, message_memory: 64KiB}\n";

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

static void give_message(struct harness *h, const struct flow *flow, enum message_type type,
                         uint8_t code, uint16_t mid, const struct message *request,
                         const char *payload)
{
    uint8_t bytes[1500];

    harness_give(h, flow, bytes,
                 harness_message(bytes, type, code, mid, request ? request->token : NULL,
                                 request ? request->token_length : 0, payload));
}

static struct sent ask(struct harness *h, uint8_t code, uint16_t mid, struct message *to_origin)
{
    struct flow client = harness_client(h, 1);
    uint8_t bytes[1500];

    harness_give(h, &client, bytes, harness_request(bytes, TYPE_CON, code, mid, 7, "x", NULL));
    struct sent *sent = harness_expect(h, to_origin);
    assert_int_equal(sent->flow.peer_port, 5683);
    return *sent;
}

/* The answer comes long after both sessions would have been forgotten. */
static void an_origin_may_take_longer_than_a_session_may_be_idle(void **state)
{
    struct harness *h = *state;
    struct message request, m;
    struct sent out = ask(h, CODE_GET, 7, &request);

    assert_int_equal(message_parse(out.data, out.length, &request), VERDICT_OK);
    give_message(h, &out.flow, TYPE_ACK, CODE_EMPTY, request.mid, NULL, NULL);
    harness_advance(h, 1000 * SECOND_US);
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_EMPTY); /* to the client; nothing more so far */
    harness_silent(h);

    give_message(h, &out.flow, TYPE_CON, CODE_CONTENT, 99, &request, "at last");
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_int_equal(m.token[0], 7);
    assert_memory_equal(m.payload, "at last", 7);
    give_message(h, &h->sent[h->taken - 1].flow, TYPE_ACK, CODE_EMPTY, m.mid, NULL, NULL);
    harness_expect(h, &m); /* the origin's CON is acknowledged */
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.mid, 99);
}

/* Fills the message memory with answers that may not be given up. */
static void fill_memory(struct harness *h, uint16_t mid)
{
    static char payload[1001];
    struct message request, m;

    memset(payload, 'p', sizeof(payload) - 1);
    for (unsigned i = 0; i < 80; i++) {
        struct sent out = ask(h, CODE_POST, mid++, &request);

        message_parse(out.data, out.length, &request);
        give_message(h, &out.flow, TYPE_ACK, CODE_CHANGED, request.mid, &request, payload);
        harness_expect(h, &m);
        assert_int_equal(m.code, CODE_CHANGED);
    }
}

/* A 2.05 without its payload would be another answer. */
static void a_safe_request_whose_answer_was_not_kept_is_executed_again(void **state)
{
    struct harness *h = *state;
    struct message request, m;
    struct sent out;

    fill_memory(h, 1000);
    for (unsigned i = 0; i < 3; i++) {
        char payload[1001] = {0};

        memset(payload, '0' + (char)i, 1000);
        out = ask(h, CODE_GET, 7, &request);
        message_parse(out.data, out.length, &request);
        give_message(h, &out.flow, TYPE_ACK, CODE_CONTENT, request.mid, &request, payload);
        harness_expect(h, &m);
        assert_int_equal(m.type, TYPE_ACK);
        assert_int_equal(m.code, CODE_CONTENT);
        assert_int_equal(m.payload_length, 1000);
        assert_memory_equal(m.payload, payload, 1000);
        harness_silent(h);
    }
}

/* Of an unsafe one at least the code is known, and it is not executed again. */
static void an_unsafe_request_whose_answer_was_not_kept_is_not(void **state)
{
    struct harness *h = *state;
    struct flow client = harness_client(h, 1);
    uint8_t bytes[1500];
    struct message m;

    fill_memory(h, 1000);
    harness_give(h, &client, bytes,
                 harness_request(bytes, TYPE_CON, CODE_POST, 1079, 7, "x", NULL));
    harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.mid, 1079);
    assert_int_equal(m.code, CODE_CHANGED);
    assert_int_equal(m.payload_length, 0);
    harness_silent(h);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_origin_may_take_longer_than_a_session_may_be_idle),
        TEST(a_safe_request_whose_answer_was_not_kept_is_executed_again),
        TEST(an_unsafe_request_whose_answer_was_not_kept_is_not),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
