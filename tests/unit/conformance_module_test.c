/* What modules hear of messages that ask for nothing (RFC 7252 4.2, 4.3): pings, pongs, and
 * confirmable messages that came to nothing. Rows of tests/conformance.tsv that no other test
 * shows. */
#include "tests/unit/module_harness.h"

static const char yaml[] =
    MODULE_YAML "    keepalive: 30s\n"
                "    transmission: {ack_timeout: 2s, ack_random_factor: 1, max_retransmit: 1}\n"
                "routes:\n"
                "  - {path: /probe, module: {file: /unit/probe.so, options: \"some text\"}}\n";

static coapgw_async waiting;

/* Answers later, when it is told. */
static void take_time(const struct coapgw_request *request, struct coapgw_response *response)
{
    if (request->pass == COAPGW_PASS_ASYNC)
        probe_text(response, COAPGW_CONTENT, "late");
    else
        assert_int_equal(probe.api->async_register(request, 0, &waiting), 0);
}

static void take_no_time(const struct coapgw_request *request, struct coapgw_response *response)
{
    (void)request;
    probe_text(response, COAPGW_CONTENT, "soon");
}

static struct sent expect_to_client(struct harness *h, enum message_type type, uint8_t code)
{
    struct message m;
    struct sent *s = harness_expect(h, &m);

    assert_int_equal(m.type, type);
    assert_int_equal(m.code, code);
    return *s;
}

static uint16_t mid_of(const struct sent *s)
{
    return (uint16_t)(s->data[2] << 8 | s->data[3]);
}

/* Client n has its Empty ACK and, in a CON, its answer. */
static struct sent separate(struct harness *h, unsigned n)
{
    h->taken = h->count; /* what has been sent again */
    probe.handle = take_time;
    CLIENT(h, n, .code = CODE_GET, .path = "probe");
    harness_advance(h, SECOND_US);
    expect_to_client(h, TYPE_ACK, CODE_EMPTY);
    assert_int_equal(probe.api->async_trigger(probe.instance, waiting), 0);
    harness_advance(h, 5000);
    return expect_to_client(h, TYPE_CON, CODE_CONTENT);
}

static void expect_nack(const struct sent *con, enum coapgw_nack reason)
{
    const struct coapgw_event *event = probe_last(COAPGW_NACK);

    assert_non_null(event);
    assert_int_equal(event->reason, reason);
    assert_int_equal(event->mid, mid_of(con));
    assert_true(event->session == probe_last(COAPGW_SESSION_OPENED)->session);
    probe.event_count = 0;
}

static void a_pong_is_told(void **state)
{
    struct harness *h = probe_begin(yaml);
    struct sent ping;

    (void)state;
    probe.handle = take_no_time;
    CLIENT(h, 1, .code = CODE_GET, .path = "probe");
    expect_to_client(h, TYPE_ACK, CODE_CONTENT);
    harness_advance(h, 34 * SECOND_US);
    ping = expect_to_client(h, TYPE_CON, CODE_EMPTY);
    assert_null(probe_last(COAPGW_PONG));
    CLIENT(h, 1, .type = TYPE_RST, .mid = (uint16_t)(mid_of(&ping) + 1),
           .token = (const uint8_t *)"");
    assert_null(probe_last(COAPGW_PONG)); /* that answers nothing */
    CLIENT(h, 1, .type = TYPE_RST, .mid = mid_of(&ping), .token = (const uint8_t *)"");
    assert_non_null(probe_last(COAPGW_PONG));
    assert_int_equal(probe_last(COAPGW_PONG)->mid, mid_of(&ping));
    assert_null(probe_last(COAPGW_NACK));
    assert_int_equal(COUNTER(h, keepalive_pings), 1);
    assert_int_equal(COUNTER(h, keepalive_pongs), 1);
    harness_nothing_left(h);
    probe_end(h);
}

static void what_came_to_nothing_is_told(void **state)
{
    struct harness *h = probe_begin(yaml);
    struct sent con;

    (void)state;
    con = separate(h, 1);
    assert_null(probe_last(COAPGW_NACK));
    CLIENT(h, 1, .type = TYPE_RST, .mid = mid_of(&con), .token = (const uint8_t *)"");
    expect_nack(&con, COAPGW_NACK_RESET);
    con = separate(h, 2);
    worker_unreachable(h->worker, &con.flow, con.data, con.length, h->now);
    expect_nack(&con, COAPGW_NACK_UNREACHABLE);
    con = separate(h, 3);
    harness_advance(h, con.at_us + 6 * SECOND_US - 5000 - h->now);
    assert_null(probe_last(COAPGW_NACK));
    harness_advance(h, 10000);
    expect_nack(&con, COAPGW_NACK_TIMEOUT);
    con = separate(h, 4);
    client_acks(h, 4, mid_of(&con));
    h->taken = h->count;
    assert_null(probe_last(COAPGW_NACK));
    probe_end(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pong_is_told),
        cmocka_unit_test(what_came_to_nothing_is_told),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
