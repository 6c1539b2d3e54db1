/* What clients and origins see of a restart (RFC 7252 4.4, RFC 7641 3 and 4): rows of
 * tests/conformance.tsv that no other test shows. The store is played by hand. */
#include "tests/unit/store_harness.h"

#define TARGETS   20
#define SPREAD_US (10 * SECOND_US)

static const char yaml[] =
    "instance: unit\n"
    "interfaces:\n"
    "  - name: south\n"
    "    device: tap:unit0\n"
    "    addresses: [10.99.0.2/24, 10.99.0.3/24]\n"
    "listeners:\n"
    "  - {uri: coap://10.99.0.2, transmission: {ack_timeout: 3s, ack_random_factor: 1}}\n"
    "  - {uri: coap://10.99.0.3, transmission: {ack_timeout: 3s, ack_random_factor: 1}}\n"
    "upstreams:\n"
    "  - {name: origin, servers: [coap://10.99.0.1], transmission: {nstart: 64}}\n"
    "routes:\n"
    "  - {path: /, to: origin}\n"
    "observe: {confirm_every: 10000, confirm_after: 300s}\n"
    "limits: {sessions: 64, exchanges: 64, outbound: 64, queue: 2, remembered: 64, "
    "message_memory: 64KiB, observations: 32, relations: 64, client_relations: 32, "
    "amplification: 0}\n"
    "store: {url: \"redis://127.0.0.1:6379/0\", on_failure: serve, resume_spread: 10s}\n";

/* ---- lives ---- */

static void same_key(struct worker_setup *setup)
{
    static uint64_t lives;

    setup->mid_key = 42; /* what the store keeps */
    setup->life = ++lives;
}

/* A process that begins at `now`. */
static struct harness *begin(uint64_t now)
{
    struct harness *h = malloc(sizeof(*h));

    assert_non_null(h);
    harness_start_prepared(h, yaml, NULL, store_parcels(), same_key);
    if (now) {
        h->now = now;
        worker_advance(h->worker, now);
    }
    return h;
}

static void is_up(struct harness *h)
{
    store_says(h, STORE_RESUMED);
    store_says(h, STORE_UP);
}

static void end(struct harness *h)
{
    harness_stop(h);
    free(h);
}

/* All that the worker tells the store is confirmed. How many deletions there were. */
static unsigned confirm_all(struct harness *h)
{
    unsigned deletions = 0;

    while (h->told_taken < h->told_count) {
        const struct parcel *next = h->told[h->told_taken];

        if (next->type == STORE_PUT) {
            store_done(h, store_expect(h, STORE_PUT, NULL), 0);
        } else {
            assert_int_equal(next->type, STORE_DELETE);
            store_expect(h, STORE_DELETE, NULL);
            deletions++;
        }
    }
    return deletions;
}

/* Client n registers with a token, the origin accepts where it is asked, and the record is kept. */
static struct kept register_one(struct harness *h, unsigned n, uint8_t token, const char *path,
                                struct registered *r)
{
    const struct say say = {.observed = true, .number = 1, .payload = "one"};
    struct kept record;

    client_observe(h, n, token, token, path, 0);
    if (r)
        origin_answer(h, origin_registration(h, r), TYPE_ACK, 0, &say);
    store_done(h, store_expect(h, STORE_PUT, &record), 0);
    assert_true(expect_state(h, n, TYPE_ACK, "one", NULL) >= 0);
    return record;
}

static struct kept registered_before(void)
{
    struct harness *h = begin(0);
    struct registered r;
    struct kept record;

    is_up(h);
    record = register_one(h, 1, 1, "t", &r);
    end(h);
    return record;
}

/* Takes what is sent until a message goes to a client, and lets the origin answer meanwhile. */
static struct sent to_client(struct harness *h, const struct say *say, struct registered *r)
{
    for (unsigned i = 0; i < 400; i++) {
        struct sent *s = harness_take(h);

        if (!s) {
            harness_advance(h, SECOND_US / 10);
        } else if (s->flow.peer_port != 5683) {
            return *s;
        } else {
            h->taken--;
            origin_answer(h, origin_registration(h, r), TYPE_ACK, 0, say);
        }
    }
    fail_msg("nothing is sent to a client");
    return (struct sent){.length = 0};
}

/* ---- resuming ---- */

static const struct say three = {
    .observed = true, .number = 9, .max_age = 100000, .payload = "three"};

/* 20 resources that two clients observe each: their records. */
static void register_many(struct harness *h, struct kept records[2 * TARGETS])
{
    for (unsigned i = 0; i < 2 * TARGETS; i++) {
        struct registered r;
        char path[8];

        snprintf(path, sizeof(path), "t%u", i % TARGETS);
        records[i] = register_one(h, i % 2 + 2 * (i / TARGETS), (uint8_t)(1 + i % TARGETS), path,
                                  i < TARGETS ? &r : NULL);
    }
}

struct resumed {
    unsigned registrations, told;
    unsigned at_second[11]; /* registrations, by the second in which they were sent */
};

/* Origins and clients answer what they get. */
static void answer_all(struct harness *h, uint64_t begun, struct resumed *seen)
{
    while (h->taken < h->count) {
        struct sent s = h->sent[h->taken];
        struct message m;

        if (s.flow.peer_port == 5683) {
            assert_true(s.at_us <= begun + SPREAD_US + 10000);
            seen->at_second[(s.at_us - begun) / SECOND_US]++;
            seen->registrations++;
            origin_answer(h, origin_registration(h, NULL), TYPE_ACK, 0, &three);
            continue;
        }
        expect_state(h, s.flow.peer_port - 20000u, TYPE_CON, "three", &m);
        client_empty(h, s.flow.peer_port - 20000u, TYPE_ACK, m.mid);
        seen->told++;
    }
}

/* RFC 7641 5, 7: an origin is asked for each resource once, and not for all of them at once; each
 * client is told of each once, when there is something to tell. */
static void origins_are_asked_once_and_bit_by_bit(void **state)
{
    struct kept records[2 * TARGETS];
    struct resumed seen = {.told = 0};
    struct harness *h = begin(0);
    unsigned seconds = 0;
    uint64_t begun;

    (void)state;
    is_up(h);
    register_many(h, records);
    begun = h->now + 60 * SECOND_US;
    end(h);
    h = begin(begun);
    for (unsigned i = 0; i < 2 * TARGETS; i++)
        store_gives(h, &records[i], false);
    is_up(h);
    assert_int_equal(observe_usage(h).relations, 2 * TARGETS);
    assert_int_equal(observe_usage(h).observations, TARGETS);
    while (h->now < begun + 40 * SECOND_US) {
        answer_all(h, begun, &seen);
        assert_int_equal(confirm_all(h), 0);
        harness_advance(h, 10000);
    }
    assert_int_equal(seen.registrations, TARGETS);
    assert_int_equal(seen.told, 2 * TARGETS);
    for (unsigned i = 0; i < 11; i++)
        seconds += seen.at_second[i] > 0;
    assert_true(seconds >= 5);
    end(h);
}

/* RFC 7641 4.5: who was not there when the first notification came has all of its retransmissions
 * to come back; then the relation is over, and so are its record and the observation. */
static void a_silent_client_has_all_retransmissions(void **state)
{
    static const unsigned seconds[] = {3, 9, 21, 45};
    struct kept record = registered_before();
    struct harness *h = begin(2000 * SECOND_US);
    struct registered r;
    struct sent con;

    (void)state;
    store_gives(h, &record, false);
    is_up(h);
    assert_int_equal(confirm_all(h), 0);
    con = to_client(h, &three, &r);
    for (unsigned i = 0; i < 4; i++) {
        struct message m;
        struct sent *again;

        harness_advance(h, con.at_us + seconds[i] * SECOND_US + 20000 - h->now);
        again = client_expect(h, 1, &m);
        assert_int_equal(again->length, con.length);
        assert_memory_equal(again->data, con.data, con.length);
    }
    harness_advance(h, con.at_us + 93 * SECOND_US - 10000 - h->now);
    assert_int_equal(observe_usage(h).relations, 1);
    assert_int_equal(confirm_all(h), 0);
    harness_advance(h, 30000);
    assert_int_equal(observe_usage(h).relations, 0);
    assert_int_equal(confirm_all(h), 1);
    while (h->taken < h->count && h->sent[h->taken].flow.peer_port != 5683)
        h->taken++;
    origin_cancelled(h, &r);
    end(h);
}

/* RFC 7641 4.2: what is not there any more is the last word, and the record goes. */
static void an_origin_that_refuses_ends_it(void **state)
{
    const struct say gone = {.code = CODE_NOT_FOUND, .payload = "gone"};
    struct kept record = registered_before();
    struct harness *h = begin(2000 * SECOND_US);
    struct registered r;
    struct message m;
    struct sent last;

    (void)state;
    store_gives(h, &record, false);
    is_up(h);
    assert_int_equal(confirm_all(h), 0);
    last = to_client(h, &gone, &r);
    assert_int_equal(message_parse(last.data, last.length, &m), VERDICT_OK);
    assert_int_equal(m.type, TYPE_CON);
    assert_int_equal(m.code, CODE_NOT_FOUND);
    assert_int_equal(m.token_length, 1);
    assert_int_equal(m.token[0], 1);
    assert_false(message_has(&m, SLOT_OBSERVE));
    assert_int_equal(confirm_all(h), 1);
    assert_int_equal(observe_usage(h).relations, 0);
    end(h);
}

/* ---- clients that were restarted, too ---- */

/* A client that has forgotten its token and registers with another one has two relations until it
 * rejects what comes with the old one: then the newest is left. Whichever of them is here first. */
static void a_forgotten_token_is_rejected(void **state)
{
    struct kept record = registered_before();

    (void)state;
    for (unsigned order = 0; order < 2; order++) {
        struct harness *h = begin(2000 * SECOND_US);
        struct registered r;
        struct message m;
        struct sent con;

        if (order == 0)
            store_gives(h, &record, false);
        is_up(h);
        assert_int_equal(confirm_all(h), 0);
        client_observe(h, 1, 5, 2, "t", 0);
        origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &three);
        assert_int_equal(confirm_all(h), 0);
        assert_true(expect_state(h, 1, TYPE_ACK, "three", &m) >= 0);
        assert_int_equal(m.token[0], 2);
        if (order == 1)
            store_gives(h, &record, false);
        assert_int_equal(observe_usage(h).relations, 2);
        con = to_client(h, &three, &r);
        assert_int_equal(message_parse(con.data, con.length, &m), VERDICT_OK);
        assert_int_equal(m.type, TYPE_CON);
        assert_int_equal(m.token[0], 1);
        client_empty(h, 1, TYPE_RST, m.mid);
        assert_int_equal(confirm_all(h), 1);
        assert_int_equal(observe_usage(h).relations, 1);
        origin_state(h, &r, 10, "four");
        assert_true(expect_state(h, 1, TYPE_NON, "four", &m) >= 0);
        assert_int_equal(m.token[0], 2);
        harness_silent(h);
        end(h);
    }
}

/* ---- messages ---- */

/* RFC 7641 4.5, RFC 7252 5.3.2: notifications go on from where the registration was sent to. */
static void notifications_leave_from_the_same_address(void **state)
{
    const struct say one = {.observed = true, .number = 1, .payload = "one"};
    struct harness *h = begin(0);
    struct endpoint peer = {.port = 40000};
    struct registered r;
    struct kept record;
    struct flow flow;
    uint8_t bytes[100];
    struct encoder e;
    struct sent con;

    (void)state;
    is_up(h);
    assert_int_equal(address_parse("10.99.0.77", &peer.address), 0);
    flow = flow_make(h->config->listeners[1].local, 5683, &peer, TRANSPORT_UDP);
    encoder_begin(&e, bytes, sizeof(bytes), TYPE_CON, CODE_GET, 1, (const uint8_t *)"\1", 1);
    encoder_uint(&e, OPTION_OBSERVE, 0);
    encoder_option(&e, OPTION_URI_PATH, "t", 1);
    harness_give(h, &flow, bytes, encoder_end(&e));
    origin_answer(h, origin_registration(h, &r), TYPE_ACK, 0, &one);
    store_done(h, store_expect(h, STORE_PUT, &record), 0);
    end(h);
    h = begin(2000 * SECOND_US);
    store_gives(h, &record, false);
    is_up(h);
    con = to_client(h, &three, &r);
    assert_true(flow_equal(&con.flow, &flow));
    end(h);
}

/* The message IDs of what the gateway sends to client 1 (or to the origin) itself. */
static unsigned note_mids(struct harness *h, uint8_t used[65536], bool upstream)
{
    unsigned repeated = 0;

    for (; h->taken < h->count; h->taken++) {
        const struct sent *s = &h->sent[h->taken];
        uint16_t mid = (uint16_t)(s->data[2] << 8 | s->data[3]);

        if ((s->flow.peer_port == 5683) != upstream || (s->data[0] & 0x20))
            continue; /* ACK and RST have the other side's */
        repeated += used[mid];
        used[mid] = 1;
    }
    return repeated;
}

/* RFC 7252 4.4: a client or origin that has heard a message ID lately takes another message with it
 * for a duplicate. Each life is 500 ahead of the clock, and the next one begins 10 ms after its
 * end.
 */
static void message_ids_are_not_repeated(void **state)
{
    static uint8_t clients[65536], origins[65536];
    struct kept record = registered_before();
    uint64_t now = 2000 * SECOND_US;

    (void)state;
    memset(clients, 0, sizeof(clients));
    memset(origins, 0, sizeof(origins));
    for (unsigned life = 0; life < 20; life++) {
        struct harness *h = begin(now);
        struct registered r;
        struct message m;
        struct sent con;

        store_gives(h, &record, false);
        is_up(h);
        con = to_client(h, &three, &r);
        h->taken = 0;
        assert_int_equal(note_mids(h, origins, true), 0);
        h->taken = 0;
        assert_int_equal(note_mids(h, clients, false), 0);
        assert_int_equal(message_parse(con.data, con.length, &m), VERDICT_OK);
        client_empty(h, 1, TYPE_ACK, m.mid);
        for (uint32_t i = 0; i < 500 + 128 * (uint32_t)((h->now - now) / SECOND_US); i++)
            origin_state(h, &r, 10 + i, "state");
        assert_int_equal(note_mids(h, clients, false), 0);
        now = h->now + 10000;
        end(h);
    }
}

/* ---- the end of a life ---- */

/* A worker that is about to stop says nothing to those who observe, and takes no record away. */
static void a_stop_says_nothing(void **state)
{
    struct harness *h = begin(0);
    struct registered r;

    (void)state;
    is_up(h);
    register_one(h, 1, 1, "t", &r);
    worker_drain(h->worker);
    assert_true(worker_is_quiet(h->worker));
    harness_advance(h, 20 * SECOND_US);
    harness_silent(h);
    store_untold(h);
    assert_int_equal(observe_usage(h).relations, 1);
    end(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(origins_are_asked_once_and_bit_by_bit),
        cmocka_unit_test(a_silent_client_has_all_retransmissions),
        cmocka_unit_test(an_origin_that_refuses_ends_it),
        cmocka_unit_test(a_forgotten_token_is_rejected),
        cmocka_unit_test(notifications_leave_from_the_same_address),
        cmocka_unit_test(message_ids_are_not_repeated),
        cmocka_unit_test(a_stop_says_nothing),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
