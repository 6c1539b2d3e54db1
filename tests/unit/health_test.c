/* Servers of an upstream: which one a request goes to, which ones are down, and what then happens
 * to what was at them. */
#include "tests/unit/proxy_steps.h"

static const char yaml[] =
    "instance: unit\n"
    "interfaces:\n"
    "  - name: south\n"
    "    device: tap:unit0\n"
    "    addresses: [10.99.0.2/24]\n"
    "listeners: [{uri: coap://10.99.0.2}]\n"
    "upstreams:\n"
    "  - name: hash\n"
    "    servers: [coap://10.99.0.11, coap://10.99.0.12, coap://10.99.0.13]\n"
    "  - name: turn\n"
    "    servers: [coap://10.99.0.21, coap://10.99.0.22, coap://10.99.0.23]\n"
    "    balance: round_robin\n"
    "    revive: 1s\n"
    "  - name: non\n"
    "    servers: [coap://10.99.0.41, coap://10.99.0.42]\n"
    "    balance: round_robin\n"
    "    reliable: false\n"
    "    timeout: 5s\n"
    "  - name: few\n"
    "    servers: [coap://10.99.0.51]\n"
    "    max_outstanding: 2\n"
    "  - name: many\n"
    "    servers: [coap://10.99.0.61, coap://10.99.0.62, coap://10.99.0.63, coap://10.99.0.64]\n"
    "    balance: round_robin\n"
    "    retries: 2\n"
    "  - name: none\n"
    "    servers: [coap://10.99.0.71, coap://10.99.0.72]\n"
    "    retries: 0\n"
    "  - name: pair\n"
    "    servers: [coap://10.99.0.81, coap://10.99.0.82]\n"
    "    balance: round_robin\n"
    "routes:\n"
    "  - {path: /, to: hash}\n"
    "  - {path: /turn, to: turn}\n"
    "  - {path: /non, to: non}\n"
    "  - {path: /few, to: few}\n"
    "  - {path: /many, to: many}\n"
    "  - {path: /none, to: none}\n"
    "  - {path: /pair, to: pair}\n"
    "transmission: {nstart: 16}\n"
    "cache: {size: 0}\n"
    "limits: {sessions: 64, exchanges: 32, outbound: 32, queue: 8, remembered: 1024, "
    "message_memory: 64KiB, assembly_memory: 1MiB, body: 64KiB, amplification: 0}\n";

static int setup(void **state)
{
    return start(state, yaml);
}

static unsigned server_of(const struct sent *s)
{
    return s->flow.peer.bytes[15];
}

static bool is_ping(const struct sent *s)
{
    return s->length == 4 && s->data[0] == 0x40 && s->data[1] == 0;
}

static uint16_t mid_of(const struct sent *s)
{
    return (uint16_t)(s->data[2] << 8 | s->data[3]);
}

/* All servers answer their pings for a while: those that are down come back. */
static void revive_all(struct harness *h)
{
    uint64_t end = h->now + 20 * SECOND_US;

    while (h->now < end) {
        struct sent *s;

        harness_advance(h, 500 * 1000);
        while ((s = harness_take(h)))
            if (is_ping(s))
                give_empty(h, &s->flow, TYPE_RST, mid_of(s));
    }
    harness_advance(h, 20 * SECOND_US);
    harness_silent(h);
}

static int revive_and_finish(void **state)
{
    revive_all(*state);
    return finish(state);
}

/* Client 1 asks, and a server answers: which one? */
static unsigned ask_one(struct harness *h, uint16_t mid, uint8_t method, const char *path)
{
    struct message m;
    struct sent out;

    ask_with(h, 1, mid, method, OPTIONS({OPTION_URI_PATH, path, strlen(path), 0}), NULL);
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CONTENT, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CONTENT, &m);
    harness_silent(h);
    return server_of(&out);
}

/* An ICMP error about a request that is not safe: its server is down, and the client told. Where
 * the hash leads, or whose turn it is. */
static unsigned kill_by(struct harness *h, uint16_t mid, const char *path)
{
    struct message m;
    struct sent out;

    ask_with(h, 2, mid, CODE_POST, OPTIONS({OPTION_URI_PATH, path, strlen(path), 0}), NULL);
    out = expect_upstream(h, &m);
    unreachable(h, &out);
    expect_client(h, 2, CODE_GATEWAY_TIMEOUT, &m);
    harness_advance(h, 1000);
    harness_silent(h);
    return server_of(&out);
}

/* ---- choosing ---- */

#define PATHS 90

static const char *path_of(unsigned i)
{
    static char path[8];

    snprintf(path, sizeof(path), "p%u", i);
    return path;
}

static void only_what_a_dead_server_had_moves(void **state)
{
    struct harness *h = *state;
    unsigned had[PATHS], share[3] = {0}, moved[3] = {0}, dead;
    uint16_t mid = 0;

    for (unsigned i = 0; i < PATHS; i++) {
        had[i] = ask_one(h, mid++, CODE_GET, path_of(i));
        assert_in_range(had[i], 11, 13);
        share[had[i] - 11]++;
    }
    for (unsigned k = 0; k < 3; k++)
        assert_in_range(share[k], PATHS / 6, PATHS / 2);
    for (unsigned i = 0; i < PATHS; i++) /* the method and the client do not matter */
        assert_int_equal(ask_one(h, mid++, i & 1 ? CODE_PUT : CODE_GET, path_of(i)), had[i]);
    dead = kill_by(h, 0, path_of(0));
    assert_int_equal(dead, had[0]);
    for (unsigned i = 0; i < PATHS; i++) {
        unsigned now = ask_one(h, mid++, CODE_GET, path_of(i));

        if (had[i] == dead)
            moved[now - 11]++;
        else
            assert_int_equal(now, had[i]);
    }
    assert_int_equal(moved[dead - 11], 0);
    for (unsigned k = 0; k < 3; k++) /* to both others */
        assert_true(k == dead - 11 || moved[k] > 3);
    revive_all(h);
    for (unsigned i = 0; i < PATHS; i++)
        assert_int_equal(ask_one(h, mid++, CODE_GET, path_of(i)), had[i]);
}

static void turns_leave_the_dead_out(void **state)
{
    struct harness *h = *state;
    unsigned seen[3] = {0}, dead = kill_by(h, 0, "turn");
    uint16_t mid = 0;

    for (unsigned i = 0; i < 12; i++)
        seen[ask_one(h, mid++, CODE_POST, "turn") - 21]++;
    assert_int_equal(seen[dead - 21], 0);
    for (unsigned k = 0; k < 3; k++)
        assert_true(k == dead - 21 || seen[k] >= 4);
    revive_all(h);
    memset(seen, 0, sizeof(seen));
    for (unsigned i = 0; i < 12; i++)
        seen[ask_one(h, mid++, CODE_POST, "turn") - 21]++;
    for (unsigned k = 0; k < 3; k++)
        assert_int_equal(seen[k], 4);
}

/* ---- down ---- */

static void a_server_that_does_not_acknowledge_is_down(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;
    unsigned dead, transmissions = 1, pings = 0, answers = 0;
    uint64_t asked = h->now, last = 0;

    ask_typed(h, 1, TYPE_NON, 1, CODE_POST, OPTIONS(PATH("turn")), NULL);
    out = expect_upstream(h, &m);
    dead = server_of(&out);
    harness_advance(h, 100 * SECOND_US);
    while (h->taken < h->count) {
        struct sent *s = harness_take(h);

        if (is_to_client(h, s)) {
            assert_int_equal(message_parse(s->data, s->length, &m), VERDICT_OK);
            assert_int_equal(m.code, CODE_GATEWAY_TIMEOUT);
            assert_in_range(s->at_us - asked, 62 * SECOND_US, 93 * SECOND_US + 40000);
            last = s->at_us;
            answers++;
        } else if (is_ping(s)) {
            assert_int_equal(server_of(s), dead);
            assert_in_range(s->at_us - last, SECOND_US, SECOND_US + 2000); /* revive */
            last = s->at_us;
            pings++;
        } else {
            assert_int_equal(answers, 0);
            transmissions++;
        }
    }
    assert_int_equal(transmissions, 5);
    assert_int_equal(answers, 1);
    assert_in_range(pings, 6, 38);
    assert_int_equal(COUNTER(h, servers_down), 1);
    assert_int_equal(COUNTER(h, server_pings), pings);
}

static void expect_up(struct harness *h, unsigned server)
{
    unsigned seen = 0;

    for (uint16_t i = 0; i < 6; i++)
        seen += ask_one(h, (uint16_t)(900 + i), CODE_POST, "turn") == server;
    assert_int_equal(seen, 2);
    assert_int_equal(COUNTER(h, servers_up), 1);
    harness_advance(h, 30 * SECOND_US);
    harness_silent(h); /* no more pings */
}

static void a_pong_brings_it_back(void **state)
{
    struct harness *h = *state;
    unsigned dead = kill_by(h, 0, "turn");
    struct sent *s;

    harness_advance(h, 1100 * 1000);
    s = harness_take(h);
    assert_non_null(s);
    assert_true(is_ping(s));
    give_empty(h, &s->flow, TYPE_RST, (uint16_t)(mid_of(s) + 1)); /* another's */
    give_empty(h, &s->flow, TYPE_ACK, mid_of(s));                 /* no answer to a ping */
    assert_int_equal(COUNTER(h, servers_up), 0);
    give_empty(h, &s->flow, TYPE_RST, mid_of(s));
    assert_int_equal(COUNTER(h, servers_up), 1);
    expect_up(h, dead);
}

/* The way there and back may take longer than the time between two pings. */
static void a_late_pong_brings_it_back(void **state)
{
    struct harness *h = *state;
    unsigned dead = kill_by(h, 0, "turn");
    struct sent first, *s;

    harness_advance(h, 1100 * 1000);
    first = *harness_take(h);
    assert_true(is_ping(&first));
    harness_advance(h, 2000 * 1000);
    while ((s = harness_take(h)))
        assert_true(is_ping(s));
    give_empty(h, &first.flow, TYPE_RST, mid_of(&first));
    expect_up(h, dead);
}

/* Pings do not go on with one message ID for ever. */
static void pings_of_a_long_absence_are_new_messages(void **state)
{
    struct harness *h = *state;
    unsigned pings = 0, changes = 0, dead = kill_by(h, 0, "turn");
    uint16_t mid = 0;
    struct sent *s, last = {0};

    harness_advance(h, 400 * SECOND_US); /* longer than the session lasts */
    while ((s = harness_take(h))) {
        assert_true(is_ping(s));
        assert_int_equal(server_of(s), dead);
        changes += pings++ == 0 || mid_of(s) != mid;
        mid = mid_of(s);
        last = *s;
    }
    assert_in_range(pings, 395, 400);
    assert_in_range(changes, 5, 20);
    give_empty(h, &last.flow, TYPE_RST, mid);
    expect_up(h, dead);
}

static void an_answer_brings_it_back(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent slow = {0}, out;
    unsigned dead;

    /* Two requests at one server; the one fails, the other is answered later. */
    for (uint16_t i = 0; i < 3; i++) {
        ask_typed(h, 1, TYPE_NON, i, CODE_POST, OPTIONS(PATH("turn")), NULL);
        out = expect_upstream(h, &m);
        if (i == 0)
            slow = out;
    }
    ask_typed(h, 1, TYPE_NON, 3, CODE_POST, OPTIONS(PATH("turn")), NULL);
    out = expect_upstream(h, &m);
    dead = server_of(&slow);
    assert_int_equal(server_of(&out), dead);
    unreachable(h, &out);
    expect_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
    assert_int_equal(COUNTER(h, servers_down), 1);
    harness_advance(h, 1000);
    harness_silent(h); /* what is not safe stays where it is */
    answer_with(h, &slow, CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CHANGED, &m);
    assert_int_equal(COUNTER(h, servers_up), 1);
    let_it_end(h, 100 * SECOND_US); /* the other two */
}

/* ---- what was at a server that goes down ---- */

static void safe_requests_move_at_once(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out[4], moved[2];
    unsigned dead;

    for (uint16_t i = 0; i < 2; i++) { /* the turns: 1 GET, 1 POST, twice over two servers */
        ask_with(h, 1, (uint16_t)(2 * i), CODE_GET,
                 OPTIONS(PATH("pair"), PATH("g"), UINT(OPTION_URI_QUERY, i + 1)), NULL);
        out[2 * i] = expect_upstream(h, &m);
        ask_with(h, 1, (uint16_t)(2 * i + 1), CODE_GET,
                 OPTIONS(PATH("pair"), UINT(OPTION_URI_QUERY, i + 1)), NULL);
        out[2 * i + 1] = expect_upstream(h, &m);
    }
    dead = server_of(&out[0]);
    assert_int_equal(server_of(&out[2]), dead);
    ask_with(h, 2, 1, CODE_POST, OPTIONS(PATH("pair")), NULL);
    struct sent post = expect_upstream(h, &m);
    assert_int_equal(server_of(&post), dead);
    unreachable(h, &out[0]);
    harness_advance(h, 1000);
    for (unsigned i = 0; i < 2; i++) { /* both, not the POST */
        moved[i] = expect_upstream(h, &m);
        assert_int_equal(server_of(&moved[i]), dead ^ 81 ^ 82);
        assert_int_equal(m.code, CODE_GET);
    }
    harness_silent(h);
    assert_int_equal(COUNTER(h, retries), 2);
    answer_with(h, &out[2], CODE_CONTENT, NO_OPTIONS, "late"); /* the old token means nothing now */
    harness_silent(h);
    for (unsigned i = 0; i < 2; i++) {
        answer_with(h, &moved[i], CODE_CONTENT, NO_OPTIONS, "moved");
        expect_client(h, 1, CODE_CONTENT, &m);
        assert_payload(&m, "moved");
    }
    answer_with(h, &out[1], CODE_CONTENT, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CONTENT, &m);
    answer_with(h, &out[3], CODE_CONTENT, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CONTENT, &m);
    answer_with(h, &post, CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 2, CODE_CHANGED, &m);
    assert_int_equal(COUNTER(h, servers_up), 1);
}

/* What has been told to leave stays when there is nowhere to go. */
static void nothing_moves_from_a_live_server_to_a_dead_one(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent slow, bad, good;
    unsigned dead = kill_by(h, 0, "pair");

    ask_with(h, 1, 0, CODE_GET, OPTIONS(PATH("pair"), PATH("slow")), NULL);
    slow = expect_upstream(h, &m);
    assert_int_not_equal(server_of(&slow), dead);
    ask_with(h, 1, 1, CODE_POST, OPTIONS(PATH("pair")), NULL);
    bad = expect_upstream(h, &m);
    ask_with(h, 1, 2, CODE_POST, OPTIONS(PATH("pair")), NULL);
    good = expect_upstream(h, &m);
    unreachable(h, &bad); /* it is down */
    expect_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
    answer_with(h, &good, CODE_CHANGED, NO_OPTIONS, NULL); /* and up again, in one burst */
    expect_client(h, 1, CODE_CHANGED, &m);
    harness_advance(h, 1000);
    harness_silent(h);
    answer_with(h, &slow, CODE_CONTENT, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CONTENT, &m);
}

/* How many servers a safe request is given to. */
static unsigned tries(struct harness *h, uint16_t mid, const char *path)
{
    struct message m;
    bool seen[256] = {false};
    unsigned n = 0;

    get(h, 1, mid, path);
    while (h->taken < h->count && !is_to_client(h, &h->sent[h->taken])) {
        struct sent out = expect_upstream(h, &m);

        if (is_ping(&out))
            continue;
        n++;
        assert_false(seen[server_of(&out)]);
        seen[server_of(&out)] = true;
        unreachable(h, &out);
        harness_advance(h, 1000);
    }
    expect_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
    return n;
}

static void retries_have_a_limit(void **state)
{
    struct harness *h = *state;

    assert_int_equal(tries(h, 1, "none"), 1);
    assert_int_equal(tries(h, 2, "x"), 2);
    assert_int_equal(tries(h, 3, "many"), 3);
    revive_all(h);
    assert_int_equal(tries(h, 4, "x"), 2);
    /* All but one are down: it is tried, and then there is none. */
    assert_int_equal(tries(h, 5, "x"), 1);
    /* All are down: one of them is tried all the same. */
    assert_int_equal(tries(h, 6, "x"), 1);
    ask_one(h, 7, CODE_GET, "x"); /* and has come back */
    ask_one(h, 8, CODE_GET, "y");
}

static void each_server_has_the_whole_timeout(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out, *s = NULL;
    uint64_t asked = h->now;

    ask_typed(h, 1, TYPE_NON, 1, CODE_GET, OPTIONS(PATH("x")), NULL);
    out = expect_upstream(h, &m);
    harness_advance(h, 50 * SECOND_US);
    h->taken = h->count;
    unreachable(h, &out);
    out = expect_upstream(h, &m);
    give_empty(h, &out.flow, TYPE_ACK, m.mid); /* and then silence */
    harness_advance(h, 94 * SECOND_US);
    while ((s = harness_take(h)) && !is_to_client(h, s))
        ;
    assert_non_null(s);
    assert_int_equal(s->data[1], CODE_GATEWAY_TIMEOUT);
    assert_in_range(s->at_us - asked, 143 * SECOND_US, 143 * SECOND_US + 4000);
    assert_int_equal(COUNTER(h, servers_down), 1); /* an ACK is a sign of life */
}

/* ---- NON ---- */

static void a_silent_server_that_gets_non_requests_is_down(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;
    unsigned dead;

    harness_advance(h, 1000);
    ask_typed(h, 1, TYPE_NON, 1, CODE_POST, OPTIONS(PATH("non")), NULL);
    out = expect_upstream(h, &m);
    assert_int_equal(m.type, TYPE_NON);
    dead = server_of(&out);
    harness_advance(h, 5 * SECOND_US + 2000);
    expect_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
    assert_int_equal(COUNTER(h, servers_down), 1);
    for (uint16_t i = 2; i < 6; i++) {
        ask_typed(h, 1, TYPE_NON, i, CODE_POST, OPTIONS(PATH("non")), NULL);
        out = expect_upstream(h, &m);
        assert_int_not_equal(server_of(&out), dead);
        answer_with(h, &out, CODE_CHANGED, NO_OPTIONS, NULL);
        expect_client(h, 1, CODE_CHANGED, &m);
    }
}

static void a_safe_non_request_goes_to_another_after_its_time(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent first, second;

    harness_advance(h, 1000);
    ask_typed(h, 1, TYPE_NON, 1, CODE_GET, OPTIONS(PATH("non")), NULL);
    first = expect_upstream(h, &m);
    harness_advance(h, 5 * SECOND_US + 2000);
    second = expect_upstream(h, &m);
    assert_int_not_equal(server_of(&first), server_of(&second));
    answer_with(h, &first, CODE_CONTENT, NO_OPTIONS, "late");
    harness_silent(h);
    answer_with(h, &second, CODE_CONTENT, NO_OPTIONS, "good");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "good");
}

static void a_non_request_that_is_lost_does_not_condemn_a_server(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent lost, other;

    ask_typed(h, 1, TYPE_NON, 1, CODE_POST, OPTIONS(PATH("non")), NULL);
    lost = expect_upstream(h, &m);
    harness_advance(h, SECOND_US);
    do {
        static uint16_t mid = 2;

        ask_typed(h, 1, TYPE_NON, mid++, CODE_POST, OPTIONS(PATH("non")), NULL);
        other = expect_upstream(h, &m);
        answer_with(h, &other, CODE_CHANGED, NO_OPTIONS, NULL);
        expect_client(h, 1, CODE_CHANGED, &m);
    } while (server_of(&other) != server_of(&lost));
    harness_advance(h, 5 * SECOND_US);
    expect_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
    assert_int_equal(COUNTER(h, servers_down), 0);
    harness_silent(h);
}

/* ---- limits ---- */

static void requests_at_an_origin_are_limited(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out[2];

    get(h, 1, 1, "few");
    out[0] = expect_upstream(h, &m);
    ask_with(h, 2, 1, CODE_POST, OPTIONS(PATH("few")), NULL);
    out[1] = expect_upstream(h, &m);
    ask_with(h, 3, 1, CODE_POST, OPTIONS(PATH("few")), NULL);
    expect_client(h, 3, CODE_SERVICE_UNAVAILABLE, &m);
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 0), 5);
    ask_with(h, 3, 2, CODE_GET, OPTIONS(PATH("few"), PATH("x")), NULL);
    expect_client(h, 3, CODE_SERVICE_UNAVAILABLE, &m);
    ask_with(h, 3, 3, CODE_GET, OPTIONS(UINT(OPTION_OBSERVE, 0), PATH("few"), PATH("x")), NULL);
    expect_client(h, 3, CODE_SERVICE_UNAVAILABLE, &m);
    get(h, 3, 4, "few"); /* one that is there already costs the origin nothing */
    harness_silent(h);
    ask_one(h, 5, CODE_GET, "elsewhere");
    answer_with(h, &out[1], CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 2, CODE_CHANGED, &m);
    ask_with(h, 3, 5, CODE_POST, OPTIONS(PATH("few")), NULL);
    out[1] = expect_upstream(h, &m);
    answer_with(h, &out[0], CODE_CONTENT, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CONTENT, &m);
    expect_client(h, 3, CODE_CONTENT, &m);
    unreachable(h, &out[1]);
    expect_client(h, 3, CODE_GATEWAY_TIMEOUT, &m);
    ask_one(h, 6, CODE_POST, "few"); /* the only server is tried although it is down */
    ask_one(h, 7, CODE_POST, "few");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, revive_and_finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_what_a_dead_server_had_moves),
        TEST(turns_leave_the_dead_out),
        TEST(a_server_that_does_not_acknowledge_is_down),
        TEST(a_pong_brings_it_back),
        TEST(a_late_pong_brings_it_back),
        TEST(pings_of_a_long_absence_are_new_messages),
        TEST(an_answer_brings_it_back),
        TEST(safe_requests_move_at_once),
        TEST(nothing_moves_from_a_live_server_to_a_dead_one),
        TEST(retries_have_a_limit),
        TEST(each_server_has_the_whole_timeout),
        TEST(a_silent_server_that_gets_non_requests_is_down),
        TEST(a_safe_non_request_goes_to_another_after_its_time),
        TEST(a_non_request_that_is_lost_does_not_condemn_a_server),
        TEST(requests_at_an_origin_are_limited),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
