/* The engine of the load generator against the origin that it plays itself, in memory and in
 * virtual time: a carrier that takes each message across, or loses, repeats or changes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/gun/engine.h"

#define QUEUE      256
#define TURN_NS    10000u
#define MEASURE_NS (20 * MILLISECOND_NS)

struct wire_message {
    struct carrier_peer peer;
    uint32_t endpoint;
    uint16_t length;
    uint8_t party; /* whom it is for */
    uint8_t bytes[CARRIER_MAX_BYTES];
};

/* What happens to a message on its way; false: it is lost. */
typedef bool (*meddler)(struct wire_message *m);

struct wire {
    struct carrier carrier;
    meddler meddle;
    struct wire_message queue[QUEUE];
    uint32_t head, tail;
    uint8_t out[CARRIER_BURST][CARRIER_MAX_BYTES];
    unsigned taken;
    unsigned to_origin, resets, acks; /* what the devices sent */
};

static struct wire wire;
static struct gun gun;
static struct gun_result result;
static struct gun_options options;

static void put(const struct wire_message *m)
{
    assert_true(wire.tail - wire.head < QUEUE);
    wire.queue[wire.tail++ % QUEUE] = *m;
}

static unsigned wire_receive(struct carrier *c, struct incoming *in)
{
    unsigned n = 0;

    (void)c;
    for (; wire.head + n != wire.tail && n < CARRIER_BURST; n++) {
        const struct wire_message *m = &wire.queue[(wire.head + n) % QUEUE];

        in[n] = (struct incoming){.data = m->bytes,
                                  .length = m->length,
                                  .party = m->party,
                                  .endpoint = m->endpoint,
                                  .peer = &m->peer};
    }
    wire.taken = n;
    return n;
}

static void wire_release(struct carrier *c)
{
    (void)c;
    wire.head += wire.taken;
}

static unsigned wire_reserve(struct carrier *c, struct outgoing *out, unsigned n)
{
    (void)c;
    for (unsigned i = 0; i < n; i++)
        out[i].data = wire.out[&out[i] - gun.out];
    return n;
}

static void carry(const struct outgoing *out)
{
    struct wire_message m = {.length = out->length};
    unsigned type = out->data[0] >> 4 & 3;

    memcpy(m.bytes, out->data, out->length);
    if (out->party == PARTY_DEVICE) {
        m.party = PARTY_ORIGIN;
        m.endpoint = out->endpoint;
        m.peer.port = (uint16_t)out->endpoint;
        wire.to_origin++;
        wire.resets += type == TYPE_RST;
        wire.acks += type == TYPE_ACK;
    } else {
        m.party = PARTY_DEVICE;
        m.endpoint = out->peer->port;
        m.peer = *out->peer;
    }
    if (!wire.meddle || wire.meddle(&m))
        put(&m);
}

static unsigned wire_send(struct carrier *c, struct outgoing *out, unsigned n)
{
    (void)c;
    for (unsigned i = 0; i < n; i++)
        carry(&out[i]);
    return 0;
}

static void start(const char *mix, const char *path)
{
    memset(&wire, 0, sizeof(wire));
    memset(&gun, 0, sizeof(gun));
    memset(&result, 0, sizeof(result));
    memset(&options, 0, sizeof(options));
    wire.carrier = (struct carrier){.receive = wire_receive,
                                    .release = wire_release,
                                    .reserve = wire_reserve,
                                    .send = wire_send};
    options.spread = 50;
    options.con_percent = 100;
    options.block_szx = -1;
    options.endpoints = 10;
    options.window = 16;
    options.timeout_ms = 5;
    options.origin_given = true;
    options.origin_payload_bytes = 40;
    options.mix_given = true;
    assert_int_equal(mix_parse(mix, options.mix), 0);
    assert_int_equal(mix_add_path(&options, path, 1, -1), 0);
    gun.r = &result;
}

static void run_for(uint64_t *now, uint64_t ns)
{
    for (uint64_t end = *now + ns; *now < end; *now += TURN_NS)
        engine_turn(&gun, *now);
}

/* Measures for a while and waits until all is answered or given up. */
static void run(void)
{
    uint64_t now = SECOND_NS;

    assert_int_equal(engine_start(&gun, &options, &wire.carrier), 0);
    while (gun.observers.all && !observers_ready(&gun))
        run_for(&now, TURN_NS);
    gun.firing = options.window != 0;
    gun.begin_ns = now;
    gun.end_ns = now + MEASURE_NS;
    if (gun.open_loop)
        gun.schedule = (struct schedule){.begin_ns = now, .interval_ns = 1e9 / options.rate};
    run_for(&now, MEASURE_NS);
    gun.firing = false;
    run_for(&now, gun.timeout_ns + 10 * MILLISECOND_NS);
    assert_int_equal(engine_open(&gun), 0);
    assert_int_equal(result.sent, result.answered + result.timeouts + result.resets);
}

static void stop(void)
{
    engine_stop(&gun);
    mix_free_paths(&options);
}

static void check_right(void)
{
    assert_true(result.answered > 100);
    assert_int_equal(result.answered, result.sent);
    assert_int_equal(result.wrong, 0);
    assert_int_equal(result.unexpected, 0);
    assert_int_equal(result.duplicates, 0);
    assert_int_equal(histogram_total(&result.latency_ns), result.answered);
}

/* ---- what must be right ---- */

static void test_gets(void **state)
{
    (void)state;
    start("get=1", "/a/%u");
    options.expect = "abcdefghijklmnopqrstuvwxyzabcdefghijklmn";
    run();
    check_right();
    assert_int_equal(result.by_code[CODE_CONTENT], result.answered);
    assert_true(result.received <= result.answered);
    stop();
}

static void test_all_kinds(void **state)
{
    (void)state;
    start("get=4,post=2,put=2,delete=2,observe=2,block=2", "/a");
    options.con_percent = 50;
    options.payload_bytes = 3000;
    options.origin_payload_bytes = 5000;
    options.block_szx = 4;
    run();
    check_right();
    for (unsigned kind = 0; kind < GUN_KINDS; kind++)
        assert_true(result.by_kind[kind] > 0);
    assert_int_equal(result.by_code[CODE_DELETED], result.by_kind[GUN_DELETE]);
    assert_int_equal(result.by_code[CODE_CHANGED],
                     result.by_kind[GUN_POST] + result.by_kind[GUN_PUT]);
    assert_int_equal(result.body_bytes,
                     result.by_code[CODE_CHANGED] * 3000 + result.by_kind[GUN_BLOCK] * 5000);
    /* 12 blocks of 256 bytes up, 20 down, and an observation that is cancelled. */
    assert_int_equal(result.messages, result.by_kind[GUN_GET] + result.by_kind[GUN_DELETE] +
                                          12 * result.by_code[CODE_CHANGED] +
                                          20 * result.by_kind[GUN_BLOCK] +
                                          2 * result.by_kind[GUN_OBSERVE]);
    stop();
}

static void test_observers_count_each_notification(void **state)
{
    (void)state;
    start("get=1", "/a");
    options.window = 0;
    options.observers = 10;
    options.notify_rate = 1000;
    run();
    assert_int_equal(result.registered, 10);
    assert_int_equal(result.refused, 0);
    /* 20 states, 10 observers; one state may be on its way at either end. */
    assert_in_range(result.origin_notifications, 190, 210);
    assert_in_range(result.notifications, result.origin_notifications - 10,
                    result.origin_notifications + 10);
    assert_int_equal(result.stale, 0);
    assert_int_equal(histogram_total(&result.notify_ns), result.notifications);
    assert_true(wire.acks > 0 && wire.resets == 0);
    stop();
}

static void test_an_open_loop_sends_what_is_due(void **state)
{
    (void)state;
    start("get=1", "/a");
    options.mode = GUN_OPEN;
    options.rate = 100000;
    run();
    check_right();
    assert_int_equal(result.sent, 2000); /* 20 ms of them */
    stop();
}

/* ---- what goes wrong on the way ---- */

static bool lose_each_tenth(struct wire_message *m)
{
    static unsigned n;

    return m->party == PARTY_DEVICE || ++n % 10 != 0;
}

static void test_lost_requests_time_out(void **state)
{
    (void)state;
    start("get=1", "/a");
    wire.meddle = lose_each_tenth;
    run();
    assert_in_range(result.timeouts, result.sent / 20, result.sent / 5);
    assert_int_equal(result.wrong, 0);
    /* Those without an answer are in the percentiles. */
    assert_int_equal(histogram_total(&result.latency_ns), result.sent);
    assert_true(histogram_at(&result.latency_ns, 1) >= 5 * MILLISECOND_NS);
    stop();
}

static void test_lost_requests_are_sent_again(void **state)
{
    (void)state;
    start("get=1", "/a");
    wire.meddle = lose_each_tenth;
    options.retransmit = true;
    options.timeout_ms = 93000;
    run();
    assert_int_equal(result.timeouts, 0);
    assert_int_equal(result.answered, result.sent);
    assert_true(result.retransmits > 0);
    assert_in_range(histogram_at(&result.latency_ns, 1), 2 * SECOND_NS, 30 * SECOND_NS);
    stop();
}

static bool repeat_answers(struct wire_message *m)
{
    if (m->party == PARTY_DEVICE)
        put(m);
    return true;
}

static void test_repeated_answers_are_told(void **state)
{
    (void)state;
    start("get=1", "/a");
    wire.meddle = repeat_answers;
    run();
    assert_int_equal(result.answered, result.sent);
    assert_true(result.duplicates > 100);
    assert_int_equal(result.wrong, 0);
    stop();
}

static bool damage(struct wire_message *m)
{
    if (m->party == PARTY_DEVICE)
        m->bytes[m->length - 1] ^= 1;
    return true;
}

static void test_a_wrong_payload_is_told(void **state)
{
    (void)state;
    start("get=1", "/a");
    options.expect = "mn";
    wire.meddle = damage;
    run();
    assert_true(result.answered > 100);
    assert_int_equal(result.wrong, result.answered);
    stop();
}

static bool go_astray(struct wire_message *m)
{
    if (m->party == PARTY_DEVICE)
        m->endpoint = (m->endpoint + 1) % 10;
    return true;
}

static void test_an_answer_at_another_device_is_wrong(void **state)
{
    (void)state;
    start("get=1", "/a");
    wire.meddle = go_astray;
    run();
    assert_true(result.wrong > 100);
    assert_int_equal(result.wrong, result.answered);
    stop();
}

static bool reset(struct wire_message *m)
{
    if (m->party == PARTY_DEVICE) {
        message_write_empty(m->bytes, TYPE_RST, (uint16_t)(m->bytes[2] << 8 | m->bytes[3]));
        m->length = MESSAGE_HEADER_BYTES;
    }
    return true;
}

static void test_a_reset_ends_a_request(void **state)
{
    (void)state;
    start("get=1", "/a");
    wire.meddle = reset;
    run();
    assert_true(result.resets > 100);
    assert_int_equal(result.resets, result.sent);
    stop();
}

/* A separate response: first the empty ACK, then a CON of the server's own (RFC 7252 5.2.2). */
static bool separate(struct wire_message *m)
{
    struct wire_message ack = *m;

    if (m->party != PARTY_DEVICE || (m->bytes[0] >> 4 & 3) != TYPE_ACK)
        return true;
    message_write_empty(ack.bytes, TYPE_ACK, (uint16_t)(m->bytes[2] << 8 | m->bytes[3]));
    ack.length = MESSAGE_HEADER_BYTES;
    put(&ack);
    message_set_type(m->bytes, TYPE_CON);
    m->bytes[2] ^= 0x55;
    return true;
}

static void test_separate_responses_are_acknowledged(void **state)
{
    (void)state;
    start("get=1", "/a");
    options.retransmit = true;
    options.timeout_ms = 93000;
    wire.meddle = separate;
    run();
    check_right();
    assert_int_equal(result.retransmits, 0);
    assert_true(wire.acks >= result.answered);
    stop();
}

/* ---- what a server begins ---- */

static void send_to_device(enum message_type type, uint8_t code, const char *token)
{
    struct wire_message m = {.party = PARTY_DEVICE, .endpoint = 3};
    struct encoder e;

    encoder_begin(&e, m.bytes, sizeof(m.bytes), type, code, 0x1234, (const uint8_t *)token,
                  strlen(token));
    m.length = (uint16_t)encoder_end(&e);
    put(&m);
}

static void test_pings_and_unknown_messages_are_reset(void **state)
{
    uint64_t now = SECOND_NS;

    (void)state;
    start("get=1", "/a");
    assert_int_equal(engine_start(&gun, &options, &wire.carrier), 0);
    gun.begin_ns = now;
    gun.end_ns = now + MEASURE_NS;
    send_to_device(TYPE_CON, CODE_EMPTY, "");           /* a ping */
    send_to_device(TYPE_NON, CODE_CONTENT, "strange!"); /* a notification of nothing */
    send_to_device(TYPE_CON, CODE_CONTENT, "odd");
    send_to_device(TYPE_CON, CODE_CONTENT, "\xff\x01\x01\x01zzzz"); /* no such observer */
    run_for(&now, MEASURE_NS);
    assert_int_equal(wire.resets, 4);
    assert_int_equal(result.pings, 1);
    assert_int_equal(result.unexpected, 3);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gets),
        cmocka_unit_test(test_all_kinds),
        cmocka_unit_test(test_observers_count_each_notification),
        cmocka_unit_test(test_an_open_loop_sends_what_is_due),
        cmocka_unit_test(test_lost_requests_time_out),
        cmocka_unit_test(test_lost_requests_are_sent_again),
        cmocka_unit_test(test_repeated_answers_are_told),
        cmocka_unit_test(test_a_wrong_payload_is_told),
        cmocka_unit_test(test_an_answer_at_another_device_is_wrong),
        cmocka_unit_test(test_a_reset_ends_a_request),
        cmocka_unit_test(test_separate_responses_are_acknowledged),
        cmocka_unit_test(test_pings_and_unknown_messages_are_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
