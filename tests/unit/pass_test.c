/* Requests on their shortest way through the proxy, and each event that makes a fetch of one: from
 * outside it must look as if it had been one from the start. */
#include "tests/unit/proxy_steps.h"

static const char yaml[] =
    "instance: unit\n"
    "interfaces:\n"
    "  - name: south\n"
    "    device: tap:unit0\n"
    "    addresses: [10.99.0.2/24]\n"
    "listeners: [{uri: coap://10.99.0.2}]\n"
    "upstreams:\n"
    "  - name: origin\n"
    "    servers: [coap://10.99.0.1]\n"
    "    transmission: {nstart: 20}\n"
    "  - name: pair\n"
    "    servers: [coap://10.99.0.3, coap://10.99.0.4]\n"
    "    balance: round_robin\n"
    "    transmission: {nstart: 20}\n"
    "routes:\n"
    "  - {path: /, to: origin}\n"
    "  - {path: /pair, to: pair}\n"
    "cache: {size: 1MiB}\n"
    "limits: {sessions: 64, exchanges: 24, outbound: 24, queue: 4, remembered: 1024, "
    "message_memory: 64KiB, assembly_memory: 1MiB, body: 64KiB, amplification: 0}\n";

#define STALE OPTIONS(UINT(OPTION_MAX_AGE, 0))
#define FRESH OPTIONS(UINT(OPTION_MAX_AGE, 60))

/* The first request to a server opens its port; those behind it can take the shortest way. */
static int setup(void **state)
{
    int err = start(state, yaml);

    fetch_through(*state, 63, 1, OPTIONS(PATH("first")), FRESH, "first");
    return err;
}

static void assert_passes(const struct harness *h, uint64_t passes, uint64_t unfolded)
{
    assert_int_equal(COUNTER(h, passes), passes);
    assert_int_equal(COUNTER(h, unfolded), unfolded);
}

/* Client 1 asks for /a; what went to the origin. */
static struct sent begin(struct harness *h)
{
    struct message m;
    struct sent out;

    get(h, 1, 1, "a");
    out = expect_upstream(h, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_passes(h, 1, 0);
    return out;
}

static void assert_answered(struct harness *h, enum message_type type, const char *payload)
{
    struct message m;

    expect_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(m.type, type);
    assert_payload(&m, payload);
    harness_silent(h);
}

/* What an origin sends with the token of a request, but not in its ACK. */
static void answer_apart(struct harness *h, const struct sent *request, enum message_type type,
                         uint16_t mid, const char *payload)
{
    uint8_t bytes[1500];
    struct message m;

    assert_int_equal(message_parse(request->data, request->length, &m), VERDICT_OK);
    harness_give(h, &request->flow, bytes,
                 harness_message(bytes, type, CODE_CONTENT, mid, m.token, m.token_length, payload));
}

static uint16_t mid_of(const struct sent *s)
{
    return (uint16_t)(s->data[2] << 8 | s->data[3]);
}

/* ---- the shortest way ---- */

static void goes_there_and_back(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h);
    struct worker_usage usage;

    worker_usage(h->worker, &usage);
    assert_int_equal(usage.exchanges, 1);
    assert_int_equal(usage.forwards, 1);
    assert_int_equal(usage.outbound, 1);
    answer_with(h, &out, CODE_CONTENT, STALE, "body");
    assert_answered(h, TYPE_ACK, "body");
    worker_usage(h->worker, &usage);
    assert_int_equal(usage.exchanges, 0);
    assert_int_equal(usage.forwards, 0);
    assert_int_equal(usage.outbound, 0);
    assert_passes(h, 1, 0);
}

static void a_repeated_request_is_answered_again(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h);

    get(h, 1, 1, "a");
    harness_silent(h);
    answer_with(h, &out, CODE_CONTENT, STALE, "body");
    assert_answered(h, TYPE_ACK, "body");
    get(h, 1, 1, "a");
    assert_answered(h, TYPE_ACK, "body");
    assert_int_equal(COUNTER(h, duplicates), 2);
    assert_passes(h, 1, 0);
}

static void a_nonconfirmable_one_gets_the_same(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    ask_typed(h, 1, TYPE_NON, 1, CODE_GET, OPTIONS(PATH("a")), NULL);
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CONTENT, STALE, "body");
    assert_answered(h, TYPE_NON, "body");
    assert_passes(h, 1, 0);
}

static void what_can_be_stored_is(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h);

    answer_with(h, &out, CODE_CONTENT, FRESH, "body");
    assert_answered(h, TYPE_ACK, "body");
    expect_hit(h, 2, 1, OPTIONS(PATH("a")), "body");
    assert_passes(h, 1, 0);
}

static void an_unsafe_one_takes_what_is_stored_with_it(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 1, OPTIONS(PATH("a")), FRESH, "old");
    ask_with(h, 1, 2, CODE_PUT, OPTIONS(PATH("a")), "new");
    out = expect_upstream(h, &m);
    assert_int_equal(m.code, CODE_PUT);
    assert_payload(&m, "new");
    answer_with(h, &out, CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CHANGED, &m);
    assert_passes(h, 2, 0);
    assert_int_equal(COUNTER(h, cache_invalidations), 1);
    fetch_through(h, 1, 3, OPTIONS(PATH("a")), FRESH, "new");
}

static void another_answer_than_the_one_is_ignored(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h), forged = out;

    forged.data[2] ^= 1; /* the message ID */
    answer_with(h, &forged, CODE_CONTENT, STALE, "forged");
    harness_silent(h);
    forged = out;
    forged.data[4 + 7] ^= 1; /* the token */
    answer_apart(h, &forged, TYPE_NON, 7, "forged");
    harness_silent(h);
    assert_passes(h, 1, 0);
    answer_with(h, &out, CODE_CONTENT, STALE, "body");
    assert_answered(h, TYPE_ACK, "body");
}

/* ---- limits ---- */

static void they_count_for_all_limits(void **state)
{
    struct harness *h = *state;
    struct sent out[20];
    struct message m;
    char path[8];

    for (unsigned n = 0; n < 20; n++) {
        snprintf(path, sizeof(path), "p%u", n);
        get(h, n, 1, path);
        out[n] = expect_upstream(h, &m);
    }
    for (unsigned n = 20; n < 24; n++) { /* NSTART */
        snprintf(path, sizeof(path), "p%u", n);
        get(h, n, 1, path);
    }
    harness_silent(h);
    assert_passes(h, 20, 0);
    get(h, 24, 1, "p24"); /* limits.exchanges */
    expect_client(h, 24, CODE_SERVICE_UNAVAILABLE, &m);
    for (unsigned n = 0; n < 4; n++) { /* each lets one go that has waited */
        answer_with(h, &out[n], CODE_CONTENT, STALE, "body");
        out[n] = expect_upstream(h, &m);
        expect_client(h, n, CODE_CONTENT, &m);
    }
    for (unsigned n = 0; n < 20; n++)
        answer_with(h, &out[n], CODE_CONTENT, STALE, "body");
    for (unsigned n = 0; n < 20; n++)
        expect_client(h, n < 4 ? n + 20 : n, CODE_CONTENT, &m);
    harness_silent(h);
    assert_passes(h, 20, 0);
}

/* Answers to unsafe requests have to be kept: until nothing is left of the memory. */
static void fill_memory(struct harness *h)
{
    struct message m;
    struct sent out;

    for (uint16_t mid = 100; mid < 100 + 512; mid++) {
        ask_with(h, 5, mid, CODE_POST, OPTIONS(PATH("a")), NULL);
        out = *harness_expect(h, &m);
        if (is_to_client(h, &out))
            break;
        answer_with(h, &out, CODE_CHANGED, NO_OPTIONS, "kept");
        expect_client(h, 5, CODE_CHANGED, &m);
        h->taken = h->count = 0;
    }
}

static void without_memory_the_client_is_told(void **state)
{
    struct harness *h = *state;
    struct worker_usage usage;
    struct message m;
    struct sent out;

    fill_memory(h);
    worker_usage(h->worker, &usage);
    assert_int_equal(usage.chunks, usage.chunks_max);
    get(h, 1, 1, "b");
    out = expect_upstream(h, &m);
    get(h, 1, 1, "b"); /* it could not be remembered */
    harness_silent(h);
    assert_int_equal(COUNTER(h, unfolded), 0);
    give_empty(h, &out.flow, TYPE_ACK, mid_of(&out));
    expect_client(h, 1, CODE_SERVICE_UNAVAILABLE, &m);
    assert_int_equal(COUNTER(h, unfolded), 1);
    assert_int_equal(COUNTER(h, refused_memory), 1);
    answer_apart(h, &out, TYPE_CON, 9, "late");
    out = *harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_RST);
    harness_silent(h);
}

/* ---- what makes more of it ---- */

static void time_goes_by(void **state)
{
    struct harness *h = *state;
    uint64_t begun = h->now;
    struct sent out = begin(h), again;
    struct message m;

    harness_advance(h, 300000);
    assert_passes(h, 1, 1);
    harness_silent(h);
    harness_advance(h, 198000);
    harness_silent(h);
    harness_advance(h, 3000); /* separate_after: 500 ms */
    expect_client(h, 1, CODE_EMPTY, &m);
    assert_int_equal(m.type, TYPE_ACK);
    harness_advance(h, begun + 1999000 - h->now);
    harness_silent(h);
    harness_advance(h, 1002000); /* ACK_TIMEOUT to 1.5 times that */
    again = expect_upstream(h, &m);
    assert_int_equal(again.length, out.length);
    assert_memory_equal(again.data, out.data, out.length);
    harness_silent(h);
    answer_with(h, &again, CODE_CONTENT, FRESH, "body");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(m.type, TYPE_CON);
    expect_hit(h, 2, 1, OPTIONS(PATH("a")), "body");
}

static void the_origin_is_silent(void **state)
{
    struct harness *h = *state;
    uint64_t begun = h->now;
    struct sent out = begin(h);
    struct message m;

    harness_advance(h, begun + h->config->upstreams[0].timeout_ms * UINT64_C(1000) + 2000 - h->now);
    expect_client(h, 1, CODE_EMPTY, &m);
    do
        out = *harness_expect(h, &m);
    while (!is_to_client(h, &out));
    assert_int_equal(m.code, CODE_GATEWAY_TIMEOUT);
    assert_int_equal(COUNTER(h, forward_timeouts), 1);
    h->taken = h->count;
}

static void the_answer_comes_separately(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h);
    struct message m;

    give_empty(h, &out.flow, TYPE_ACK, mid_of(&out));
    assert_passes(h, 1, 1);
    harness_silent(h);
    answer_apart(h, &out, TYPE_CON, 77, "body");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_payload(&m, "body");
    (void)harness_expect(h, &m);
    assert_int_equal(m.type, TYPE_ACK);
    assert_int_equal(m.mid, 77);
    harness_silent(h);
}

static void the_answer_overtakes_its_ack(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h);

    answer_apart(h, &out, TYPE_NON, 77, "body");
    assert_answered(h, TYPE_ACK, "body");
    assert_passes(h, 1, 1);
    give_empty(h, &out.flow, TYPE_ACK, mid_of(&out));
    harness_silent(h);
}

static void the_origin_rejects_it(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h);
    struct message m;

    give_empty(h, &out.flow, TYPE_RST, mid_of(&out));
    expect_client(h, 1, CODE_BAD_GATEWAY, &m);
    assert_passes(h, 1, 1);
}

static void the_origin_is_unreachable(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h);
    struct message m;

    unreachable(h, &out);
    expect_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
    assert_passes(h, 1, 1);
}

static void its_ack_is_malformed(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h);
    uint8_t bytes[] = {0x68, CODE_CONTENT, out.data[2], out.data[3], 1};
    struct message m;

    harness_give(h, &out.flow, bytes, sizeof(bytes));
    expect_client(h, 1, CODE_BAD_GATEWAY, &m);
    assert_passes(h, 1, 1);
}

static void the_answer_has_more_blocks(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h);
    struct message m;

    answer_with(h, &out, CODE_CONTENT, OPTIONS(UINT(OPTION_BLOCK2, 8)), "0123456789abcdef");
    assert_passes(h, 1, 1);
    out = expect_upstream(h, &m);
    assert_int_equal(message_uint(&m, SLOT_BLOCK2, 0), 16);
    answer_with(h, &out, CODE_CONTENT, OPTIONS(UINT(OPTION_BLOCK2, 16)), "+++");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "0123456789abcdef+++");
}

static void the_answer_is_an_error_of_the_origin(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h);
    struct message m;

    answer_with(h, &out, CODE_INTERNAL_SERVER_ERROR, NO_OPTIONS, "broken");
    expect_client(h, 1, CODE_INTERNAL_SERVER_ERROR, &m);
    assert_payload(&m, "broken");
    assert_passes(h, 1, 1);
}

static void another_asks_for_the_same(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h);
    struct message m;

    get(h, 2, 1, "a");
    harness_silent(h);
    assert_int_equal(COUNTER(h, joined), 1);
    assert_passes(h, 1, 1);
    answer_with(h, &out, CODE_CONTENT, STALE, "body");
    expect_client(h, 1, CODE_CONTENT, &m);
    expect_client(h, 2, CODE_CONTENT, &m);
    assert_payload(&m, "body");
}

static void another_observes_the_same(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h), registration;
    struct message m;

    ask_with(h, 2, 1, CODE_GET, OPTIONS(UINT(OPTION_OBSERVE, 0), PATH("a")), NULL);
    registration = expect_upstream(h, &m);
    assert_int_equal(message_uint(&m, SLOT_OBSERVE, 9), 0);
    assert_passes(h, 1, 1);
    answer_with(h, &out, CODE_CONTENT, STALE, "plain");
    expect_client(h, 1, CODE_CONTENT, &m);
    answer_with(h, &registration, CODE_NOT_FOUND, NO_OPTIONS, NULL);
    expect_client(h, 2, CODE_NOT_FOUND, &m);
}

/* What is on its way when the resource is changed is good for those only who asked before. */
static void the_resource_is_changed_meanwhile(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h), put;
    struct message m;

    ask_with(h, 2, 1, CODE_PUT, OPTIONS(PATH("a")), "new");
    put = expect_upstream(h, &m);
    answer_with(h, &put, CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 2, CODE_CHANGED, &m);
    get(h, 3, 1, "a");
    put = expect_upstream(h, &m); /* it has not joined */
    answer_with(h, &out, CODE_CONTENT, FRESH, "old");
    assert_answered(h, TYPE_ACK, "old");
    get(h, 4, 1, "a"); /* it has not been stored */
    harness_silent(h);
    answer_with(h, &put, CODE_CONTENT, FRESH, "new");
    expect_client(h, 3, CODE_CONTENT, &m);
    expect_client(h, 4, CODE_CONTENT, &m);
    assert_payload(&m, "new");
}

/* Anything may have been changed. */
static void all_is_forgotten_meanwhile(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h), anew;
    struct message m;

    worker_forget(h->worker, h->now);
    get(h, 2, 1, "a");
    anew = expect_upstream(h, &m); /* it has not joined */
    answer_with(h, &out, CODE_CONTENT, FRESH, "old");
    assert_answered(h, TYPE_ACK, "old");
    assert_passes(h, 2, 0);
    answer_with(h, &anew, CODE_CONTENT, FRESH, "new");
    expect_client(h, 2, CODE_CONTENT, &m);
    expect_hit(h, 3, 1, OPTIONS(PATH("a")), "new");
}

/* The same for one that becomes a fetch after that. */
static void a_changed_one_needs_time(void **state)
{
    struct harness *h = *state;
    struct sent out = begin(h), put;
    struct message m;

    ask_with(h, 2, 1, CODE_PUT, OPTIONS(PATH("a")), "new");
    put = expect_upstream(h, &m);
    answer_with(h, &put, CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 2, CODE_CHANGED, &m);
    give_empty(h, &out.flow, TYPE_ACK, mid_of(&out));
    assert_int_equal(COUNTER(h, unfolded), 1);
    answer_apart(h, &out, TYPE_NON, 8, "old");
    assert_answered(h, TYPE_ACK, "old");
    get(h, 3, 1, "a");
    (void)expect_upstream(h, &m);
}

static void an_unsafe_one_needs_time(void **state)
{
    struct harness *h = *state;
    struct sent out, again;
    struct message m;

    ask_with(h, 1, 1, CODE_POST, OPTIONS(PATH("a")), "payload");
    out = expect_upstream(h, &m);
    assert_passes(h, 1, 0);
    harness_advance(h, 501000);
    assert_passes(h, 1, 1);
    expect_client(h, 1, CODE_EMPTY, &m);
    harness_advance(h, 2501000);
    again = expect_upstream(h, &m);
    assert_int_equal(again.length, out.length);
    assert_memory_equal(again.data, out.data, out.length);
    answer_with(h, &again, CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CHANGED, &m);
}

/* A safe one goes to the server that is left, without waiting for its own time. */
static void its_server_goes_down(void **state)
{
    struct harness *h = *state;
    const struct opt *one = OPTIONS(PATH("pair"), PATH("1")),
                     *two = OPTIONS(PATH("pair"), PATH("2"));
    struct sent first, second, moved;
    struct message m;

    fetch_through(h, 1, 1, OPTIONS(PATH("pair"), PATH("x")), STALE, "x");
    fetch_through(h, 1, 2, OPTIONS(PATH("pair"), PATH("y")), STALE, "y");
    ask_with(h, 1, 3, CODE_GET, one, NULL);
    first = expect_upstream(h, &m);
    ask_with(h, 2, 3, CODE_GET, two, NULL);
    second = expect_upstream(h, &m);
    assert_false(flow_equal(&first.flow, &second.flow)); /* in turn */
    ask_with(h, 3, 3, CODE_GET, OPTIONS(PATH("pair"), PATH("3")), NULL);
    moved = expect_upstream(h, &m);
    assert_true(flow_equal(&first.flow, &moved.flow));
    assert_passes(h, 3, 0);
    unreachable(h, &first);
    assert_passes(h, 3, 2);
    first = expect_upstream(h, &m);
    assert_true(flow_equal(&first.flow, &second.flow));
    harness_advance(h, 2000);
    moved = expect_upstream(h, &m);
    assert_true(flow_equal(&moved.flow, &second.flow));
    harness_silent(h);
    answer_with(h, &first, CODE_CONTENT, STALE, "1");
    expect_client(h, 1, CODE_CONTENT, &m);
    answer_with(h, &second, CODE_CONTENT, STALE, "2");
    expect_client(h, 2, CODE_CONTENT, &m);
    answer_with(h, &moved, CODE_CONTENT, STALE, "3");
    expect_client(h, 3, CODE_CONTENT, &m);
    harness_advance(h, h->config->upstreams[1].revive_us); /* it is back: it answers a ping */
    first = expect_upstream(h, &m);
    assert_int_equal(m.code, CODE_EMPTY);
    give_empty(h, &first.flow, TYPE_RST, m.mid);
    h->taken = h->count;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(goes_there_and_back),
        TEST(a_repeated_request_is_answered_again),
        TEST(a_nonconfirmable_one_gets_the_same),
        TEST(what_can_be_stored_is),
        TEST(an_unsafe_one_takes_what_is_stored_with_it),
        TEST(another_answer_than_the_one_is_ignored),
        TEST(they_count_for_all_limits),
        TEST(without_memory_the_client_is_told),
        TEST(time_goes_by),
        TEST(the_origin_is_silent),
        TEST(the_answer_comes_separately),
        TEST(the_answer_overtakes_its_ack),
        TEST(the_origin_rejects_it),
        TEST(the_origin_is_unreachable),
        TEST(its_ack_is_malformed),
        TEST(the_answer_has_more_blocks),
        TEST(the_answer_is_an_error_of_the_origin),
        TEST(another_asks_for_the_same),
        TEST(another_observes_the_same),
        TEST(the_resource_is_changed_meanwhile),
        TEST(all_is_forgotten_meanwhile),
        TEST(a_changed_one_needs_time),
        TEST(an_unsafe_one_needs_time),
        TEST(its_server_goes_down),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
