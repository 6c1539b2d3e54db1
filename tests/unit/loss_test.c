/* Packet loss for tests: what is a specification, which messages it hits, and that what is lost
 * behaves as sent. */
#include "tests/unit/life_steps.h"

#include <errno.h>

#include "gateway/session/loss.h"

static struct random seeded(void)
{
    struct random r;
    uint8_t seed[RANDOM_SEED_BYTES] = {7};

    random_seed(&r, seed);
    return r;
}

/* ---- specifications ---- */

static void parse(struct loss *loss, const char *text)
{
    const char *why = "untouched";

    assert_int_equal(loss_parse(loss, text, &why), 0);
    assert_string_equal(why, "untouched");
    assert_int_equal(loss->sent, 0);
}

/* Which of the first 32 messages are lost, the first one in bit 0. */
static uint32_t strikes(struct loss *loss)
{
    struct random r = seeded();
    uint32_t bits = 0;

    for (unsigned i = 0; i < 32; i++)
        bits |= (uint32_t)loss_strikes(loss, &r) << i;
    return bits;
}

static void ranges_are_counted_from_one(void **state)
{
    static const struct {
        const char *text;
        uint32_t lost;
    } cases[] = {
        {"1", 0x1},         {"1,5-9,11-20,101", 0x1 | 0x1f0 | 0xffc00},
        {"2-2", 0x2},       {"3,2,1", 0x7},
        {"1-4,3-6", 0x3f},  {"32", 0x80000000},
        {"33", 0},          {"1-999999999999999999", 0xffffffff},
        {"0001-0003", 0x7},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct loss loss;

        parse(&loss, cases[i].text);
        assert_true(loss.active);
        assert_int_equal(strikes(&loss), cases[i].lost);
        assert_int_equal(loss.sent, 32);
    }
}

/* Others drop nothing at "100%", since 65536 does not fit their counter. */
static void a_hundred_percent_is_all_and_zero_is_none(void **state)
{
    struct random r = seeded();
    struct loss loss;

    (void)state;
    parse(&loss, "100%");
    for (unsigned i = 0; i < 100000; i++)
        assert_true(loss_strikes(&loss, &r));
    parse(&loss, "0%");
    assert_false(loss.active);
    for (unsigned i = 0; i < 100000; i++)
        assert_false(loss_strikes(&loss, &r));
    assert_int_equal(loss.sent, 0);
}

static void percents_are_what_they_say(void **state)
{
    static const unsigned percents[] = {1, 20, 40, 50, 99};
    struct random r = seeded();

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        char text[8];
        struct loss loss;
        unsigned lost = 0;

        snprintf(text, sizeof(text), "%u%%", percents[i]);
        parse(&loss, text);
        for (unsigned n = 0; n < 100000; n++)
            lost += loss_strikes(&loss, &r);
        /* four standard deviations at the most are 633 */
        assert_in_range(lost, percents[i] * 1000 - 650, percents[i] * 1000 + 650);
    }
}

/* Others say ten, and take nine. */
static void ten_ranges_are_taken_and_eleven_are_not(void **state)
{
    struct loss loss, before;
    const char *why = NULL;

    (void)state;
    parse(&loss, "1,3,5,7,9,11,13,15,17,19");
    assert_int_equal(strikes(&loss), 0x55555);
    parse(&loss, "1-1,3-3,5-5,7-7,9-9,11-11,13-13,15-15,17-17,19-19");
    assert_int_equal(strikes(&loss), 0x55555);
    before = loss;
    assert_int_equal(loss_parse(&loss, "1,3,5,7,9,11,13,15,17,19,21", &why), -EINVAL);
    assert_non_null(why);
    assert_memory_equal(&loss, &before, sizeof(loss));
}

/* Others leave an earlier list in force. */
static void zero_clears_a_list(void **state)
{
    struct loss loss;

    (void)state;
    parse(&loss, "1-10");
    parse(&loss, "0%");
    assert_int_equal(strikes(&loss), 0);
    parse(&loss, "50%");
    parse(&loss, "2");
    assert_int_equal(strikes(&loss), 0x2);
    parse(&loss, "1-32");
    parse(&loss, "100%");
    assert_int_equal(loss.range_count, 0);
}

static void what_is_no_specification_changes_nothing(void **state)
{
    static const char *const texts[] = {
        "",
        "%",
        "0",
        "-1",
        "1-",
        "5-3",
        "50%junk",
        "0.5%",
        "1;2",
        "101%",
        "150%",
        "1,",
        ",1",
        "1,,2",
        "1 ",
        " 1",
        "1, 2",
        "+1",
        "1--2",
        "-",
        "1-2-3",
        "0-5",
        "1,0",
        "50%%",
        "50%,1",
        "1,50%",
        "0x10",
        "1e3",
        "abc",
        "1\n",
        "50 %",
        "1-0",
        "0%0",
        "65536%",
        "4294967396%",
        "100%\n",
        "1000000000000000000",
        "1-1000000000000000000",
        "18446744073709551617",
        "18446744073709551716%",
    };
    struct loss loss, before;

    (void)state;
    parse(&loss, "2-3,7");
    (void)strikes(&loss);
    before = loss;
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const char *why = NULL;

        assert_int_equal(loss_parse(&loss, texts[i], &why), -EINVAL);
        assert_non_null(why);
        assert_true(strlen(why) > 0);
        assert_int_equal(loss_parse(&loss, texts[i], NULL), -EINVAL);
        assert_memory_equal(&loss, &before, sizeof(loss));
    }
}

static void a_text_is_as_long_as_it_may_be(void **state)
{
    char text[LOSS_TEXT_BYTES + 1];
    struct loss loss;

    (void)state;
    memset(text, '0', sizeof(text));
    text[LOSS_TEXT_BYTES - 2] = '1';
    text[LOSS_TEXT_BYTES - 1] = 0;
    parse(&loss, text);
    assert_int_equal(strikes(&loss), 1);
    text[LOSS_TEXT_BYTES - 1] = '1';
    text[LOSS_TEXT_BYTES] = 0;
    assert_int_equal(loss_parse(&loss, text, NULL), -EINVAL);
}

/* ---- in a worker ---- */

#define YAML(more)                                                            \
    "instance: unit\n"                                                        \
    "interfaces:\n"                                                           \
    "  - name: south\n"                                                       \
    "    device: tap:unit0\n"                                                 \
    "    addresses: [10.99.0.2/24]\n"                                         \
    "listeners:\n"                                                            \
    "  - uri: coap://10.99.0.2\n"                                             \
    "upstreams:\n"                                                            \
    "  - name: origin\n"                                                      \
    "    servers: [coap://10.99.0.1]\n"                                       \
    "    transmission: {nstart: 16, ack_timeout: 2s, ack_random_factor: 1}\n" \
    "routes:\n"                                                               \
    "  - {path: /, to: origin}\n"                                             \
    "  - {path: /fixed, respond: {payload: here}}\n"                          \
    "cache: {size: 0}\n"                                                      \
    "limits: {amplification: 0}\n" more

static int setup(void **state)
{
    observe_start(state, YAML("debug: {packet_loss: \"2,4-5\"}\n"));
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

static void set_loss(struct harness *h, const char *text)
{
    struct loss loss;

    parse(&loss, text);
    loss.sent = 3; /* the count begins anew whatever it was */
    messaging_set_loss(messaging_of(h), &loss);
}

static bool is_answered(struct harness *h, uint16_t mid)
{
    struct flow flow = harness_client(h, 1);
    uint8_t bytes[1500];
    struct message m;

    harness_give(h, &flow, bytes,
                 harness_request(bytes, TYPE_CON, CODE_GET, mid, 1, "fixed", NULL));
    if (h->taken == h->count)
        return false;
    client_expect(h, 1, &m);
    assert_int_equal(m.mid, mid);
    return true;
}

static void the_configuration_loses_what_it_says(void **state)
{
    struct harness *h = *state;
    const struct counters *c = worker_counters(h->worker);

    for (uint16_t i = 1; i <= 10; i++)
        assert_int_equal(is_answered(h, i), i != 2 && i != 4 && i != 5);
    assert_int_equal(c->lost_on_purpose, 3);
    assert_int_equal(c->tx_type[TYPE_ACK], 10); /* as if sent */
    assert_int_equal(c->tx_code[CODE_CONTENT], 10);
}

static void it_can_be_set_at_run_time(void **state)
{
    struct harness *h = *state;

    set_loss(h, "3");
    for (uint16_t i = 1; i <= 5; i++)
        assert_int_equal(is_answered(h, i), i != 3);
    set_loss(h, "100%");
    for (uint16_t i = 6; i <= 10; i++)
        assert_false(is_answered(h, i));
    set_loss(h, "0%");
    for (uint16_t i = 11; i <= 20; i++)
        assert_true(is_answered(h, i));
    set_loss(h, "1"); /* and the count begins anew each time */
    assert_false(is_answered(h, 21));
    assert_true(is_answered(h, 22));
    set_loss(h, "1");
    assert_false(is_answered(h, 23));
    assert_int_equal(worker_counters(h->worker)->lost_on_purpose, 8);
}

/* A CON that is lost is sent again when it would have been, up to the last time. */
static void a_con_that_is_lost_keeps_to_its_schedule(void **state)
{
    struct harness *h = *state;
    struct flow flow = harness_client(h, 1);
    uint64_t begun = h->now;
    struct message m;
    uint8_t bytes[1500];
    struct sent *s;

    set_loss(h, "1,3,5"); /* the request, the Empty ACK is the second, the first two repetitions */
    harness_give(h, &flow, bytes, harness_request(bytes, TYPE_CON, CODE_GET, 1, 1, "x", NULL));
    harness_silent(h);
    harness_advance(h, 61 * SECOND_US);
    client_expect(h, 1, &m); /* the second one that is sent, after 500 ms */
    assert_int_equal(m.code, CODE_EMPTY);
    /* after 2 s the third: lost; 6 s the fourth; 14 s the fifth: lost; 30 s */
    s = origin_expect(h, &m);
    assert_in_range(s->at_us, begun + 6 * SECOND_US, begun + 6 * SECOND_US + 3000);
    s = origin_expect(h, &m);
    assert_in_range(s->at_us, begun + 30 * SECOND_US, begun + 30 * SECOND_US + 5000);
    harness_silent(h);
    harness_advance(h, 2 * SECOND_US); /* 62 s: given up */
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_GATEWAY_TIMEOUT);
    assert_int_equal(worker_counters(h->worker)->retransmissions, 4);
    client_empty(h, 1, TYPE_ACK, m.mid);
}

static void everything_may_be_lost(void **state)
{
    struct harness *h = *state;
    struct flow flow = harness_client(h, 1);
    uint8_t bytes[1500];

    set_loss(h, "100%");
    for (uint16_t i = 0; i < 8; i++)
        harness_give(h, &flow, bytes,
                     harness_request(bytes, TYPE_CON, CODE_PUT, i, (uint8_t)i, "x", "v"));
    client_empty(h, 1, TYPE_CON, 99);
    harness_advance(h, 500 * SECOND_US);
    harness_silent(h);
    assert_true(worker_counters(h->worker)->lost_on_purpose > 8 * 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_counted_from_one),
        cmocka_unit_test(a_hundred_percent_is_all_and_zero_is_none),
        cmocka_unit_test(percents_are_what_they_say),
        cmocka_unit_test(ten_ranges_are_taken_and_eleven_are_not),
        cmocka_unit_test(zero_clears_a_list),
        cmocka_unit_test(what_is_no_specification_changes_nothing),
        cmocka_unit_test(a_text_is_as_long_as_it_may_be),
        TEST(the_configuration_loses_what_it_says),
        TEST(it_can_be_set_at_run_time),
        TEST(a_con_that_is_lost_keeps_to_its_schedule),
        TEST(everything_may_be_lost),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
