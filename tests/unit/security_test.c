/* Associations of a worker: what is delivered and sent, where their peers are, how they end. */
#include "tests/unit/security_harness.h"

#define HOUR_US (UINT64_C(3600) * 1000000)

static struct flow session_of(const struct association *a)
{
    return association_flow(a);
}

/* ---- tables ---- */

static void finds_by_wire_and_by_id(void **state)
{
    struct associations all;

    (void)state;
    assert_int_equal(associations_init(&all, 2000, 5), 0);
    for (uint32_t n = 0; n < 2000; n++) {
        struct flow wire = bench_wire(n);
        uint8_t id[8] = {1, 2, 3, 4, 5, 6, (uint8_t)(n >> 8), (uint8_t)n};

        assert_non_null(association_add(&all, &wire, id));
    }
    for (uint32_t n = 0; n < 2000; n++) {
        struct flow wire = bench_wire(n);
        uint8_t id[8] = {1, 2, 3, 4, 5, 6, (uint8_t)(n >> 8), (uint8_t)n};
        struct association *a = association_of_wire(&all, &wire, places_hash_flow(&all.key, &wire));

        assert_non_null(a);
        assert_ptr_equal(a, association_of_id(&all, id, places_hash_id(&all.key, id)));
        association_remove(&all, a);
        assert_null(association_of_wire(&all, &wire, places_hash_flow(&all.key, &wire)));
        assert_null(association_of_id(&all, id, places_hash_id(&all.key, id)));
    }
    assert_int_equal(pool_used(&all.pool), 0);
    associations_fini(&all);
}

/* Clients behind a NAT may come to have the same address, one after the other. */
static void several_at_one_address(void **state)
{
    struct bench *b = *state;
    struct association *with[3], *plain;

    for (unsigned i = 0; i < 3; i++) {
        with[i] = bench_add(b, 10 + i, SUITE_AES_128_CCM_8, true);
        bench_say(b, with[i], &with[i]->wire, 1, "here");
    }
    for (unsigned i = 1; i < 3; i++) {
        struct flow wire = with[0]->wire;

        bench_say(b, with[i], &wire, 2, "moved");
        assert_true(flow_equal(&with[i]->wire, &wire));
    }
    assert_int_equal(b->counters.associations_moved, 2);
    assert_int_equal(b->plain_count, 5);
    plain = bench_add(b, 20, SUITE_AES_128_CCM_8, false);
    association_move(&b->security->associations, plain, &with[0]->wire);
    bench_say(b, plain, &plain->wire, 1, "without a CID");
    assert_int_equal(b->plain_count, 6);
    bench_say(b, with[2], &with[0]->wire, 3, "x");
    assert_int_equal(b->plain_count, 7);
}

/* ---- both ways ---- */

static void what_is_not_ours_passes_through(void **state)
{
    struct bench *b = *state;
    struct flow coap = bench_wire(1);

    coap.local_port = 5683;
    bench_receive(b, &coap, (const uint8_t *)"plain", 5);
    assert_int_equal(b->plain_count, 1);
    assert_true(flow_equal(&b->plain[0].flow, &coap));
    assert_true(bench_reply(b, &coap, "answer"));
    assert_int_equal(b->sent[0].length, 6);
    assert_memory_equal(b->sent[0].bytes, "answer", 6);
    coap.local_port = 5684;
    bench_receive(b, &coap, (const uint8_t *)"plain CoAP to a coaps port", 26);
    assert_int_equal(b->plain_count, 1);
    assert_int_equal(b->counters.drop_dtls_malformed, 1);
    assert_int_equal(b->sent_count, 1);
}

/* A burst larger than what is delivered at a time, of several peers and of plain datagrams. */
static void bursts_keep_their_order(void **state)
{
    struct bench *b = *state;
    static uint8_t bytes[WORKER_BURST][BENCH_BYTES];
    struct datagram burst[WORKER_BURST];
    struct association *a[4];
    char text[8];

    for (unsigned i = 0; i < 4; i++)
        a[i] = bench_add(b, i, SUITE_AES_128_GCM, i & 1);
    for (unsigned i = 0; i < WORKER_BURST; i++) {
        struct association *from = a[i % 4];
        int length = snprintf(text, sizeof(text), "%u", i);

        burst[i] = (struct datagram){.data = bytes[i], .flow = from->wire};
        burst[i].length = (uint16_t)bench_seal(b, from, RECORD_APPLICATION_DATA, i, text,
                                               (size_t)length, bytes[i]);
        if (i % 8 == 7) {
            burst[i].flow.local_port = 5683;
            memcpy(bytes[i], text, (size_t)length);
            burst[i].length = (uint16_t)length;
        }
    }
    security_receive(b->security, burst, WORKER_BURST, b->now);
    assert_int_equal(b->plain_count, WORKER_BURST);
    for (unsigned i = 0; i < WORKER_BURST; i++) {
        b->plain[i].bytes[b->plain[i].length] = 0;
        assert_int_equal(atoi((char *)b->plain[i].bytes), i);
    }
}

/* Many small records, and some that hardly fit, in one burst: more than is delivered at a time. */
static void more_records_than_a_burst_has(void **state)
{
    struct bench *b = *state;
    static uint8_t bytes[WORKER_BURST][BENCH_BYTES], big[1180];
    struct association *a = bench_add(b, 1, SUITE_AES_128_GCM, false);
    struct datagram burst[WORKER_BURST];
    uint64_t sequence = 0;

    for (unsigned i = 0; i < WORKER_BURST; i++) {
        burst[i] = (struct datagram){.data = bytes[i], .flow = a->wire};
        burst[i].length = (uint16_t)bench_seal(b, a, RECORD_APPLICATION_DATA, sequence++, big,
                                               sizeof(big), bytes[i]);
    }
    security_receive(b->security, burst, WORKER_BURST, b->now);
    assert_int_equal(b->plain_count, WORKER_BURST);
    b->plain_count = 0;
    burst[0].length = 0;
    for (unsigned i = 0; i < 40; i++)
        burst[0].length += (uint16_t)bench_seal(b, a, RECORD_APPLICATION_DATA, sequence++, "ab", 2,
                                                bytes[0] + burst[0].length);
    security_receive(b->security, burst, 1, b->now);
    assert_int_equal(b->plain_count, 40);
}

static void room_is_less_than_without(void **state)
{
    struct bench *b = *state;

    for (unsigned suite = 0; suite < SUITE_COUNT; suite++)
        for (unsigned cid = 0; cid < 2; cid++) {
            struct association *a = bench_add(b, 2 * suite + cid, (enum suite)suite, cid);
            struct worker_io io = security_io(b->security);
            struct flow session = session_of(a);
            struct outgoing out;
            char text[BENCH_BYTES];

            assert_true(io.alloc(io.context, &session, &out));
            assert_int_equal(out.room, BENCH_MTU - 28 - security_overhead(b->security, &session));
            assert_int_equal(security_headers(b->security, &session), 28);
            memset(out.data, 'x', out.room);
            io.send(io.context, &session, &out, out.room);
            assert_int_equal(b->sent[0].length, BENCH_MTU - 28);
            assert_int_equal(bench_open(b, a, &b->sent[0], text), RECORD_APPLICATION_DATA);
            b->sent_count = 0;
            assert_true(io.alloc(io.context, &session, &out));
            io.cancel(io.context, &out);
        }
}

static void no_buffer_costs_no_sequence(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    struct flow session = session_of(a);

    b->out_of_buffers = true;
    assert_false(bench_reply(b, &session, "x"));
    security_send_alert(b->security, a, ALERT_WARNING, ALERT_CLOSE_NOTIFY);
    assert_int_equal(a->sequence, 1);
    b->out_of_buffers = false;
    assert_true(bench_reply(b, &session, "x"));
    assert_int_equal(a->sequence, 2);
}

/* ---- addresses ---- */

/* RFC 9146 6: a newer authentic record moves the association, and nothing else does. */
/* What packets are steered by: with this number of workers it names this one, and with another one
 * each of them as often. */
static void ids_are_shared_by_other_numbers_of_workers(void **state)
{
    enum { IDS = 3000, SHARE = IDS / 3 };
    struct bench *b = *state;
    struct flow wire = bench_wire(1);
    unsigned owners[3] = {0};

    for (unsigned i = 0; i < IDS; i++) {
        struct contact *c = security_contact_make(b->security, &wire, 0, ASSOCIATION_SERVER);

        assert_non_null(c);
        assert_int_equal(c->id[0] % 4, 3);
        owners[c->id[0] % 3]++;
        security_contact_end(b->security, c);
    }
    for (unsigned i = 0; i < 3; i++)
        assert_in_range(owners[i], SHARE * 8 / 10, SHARE * 12 / 10);
}

static void follows_a_client_with_a_cid(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, true);
    struct flow old = a->wire, fresh = bench_wire(2), elsewhere = bench_wire(3);
    struct flow session = session_of(a);
    struct endpoint peer;
    uint8_t record[BENCH_BYTES];
    size_t length;

    bench_say(b, a, &old, 10, "x");
    length = bench_seal(b, a, RECORD_APPLICATION_DATA, 11, "forged", 6, record);
    record[length - 1] ^= 1;
    bench_receive(b, &elsewhere, record, length);
    assert_true(flow_equal(&a->wire, &old));
    bench_say(b, a, &elsewhere, 10, "a replay");
    assert_true(flow_equal(&a->wire, &old));
    bench_say(b, a, &elsewhere, 9, "late, taken, but it moves nothing");
    assert_true(flow_equal(&a->wire, &old));
    assert_int_equal(b->plain_count, 2);
    bench_say(b, a, &fresh, 12, "moved");
    assert_true(flow_equal(&a->wire, &fresh));
    assert_true(flow_equal(&b->plain[2].flow, &session));
    assert_int_equal(b->counters.associations_moved, 1);
    assert_true(bench_reply(b, &session, "to the new address"));
    assert_true(flow_equal(&b->sent[0].flow, &fresh));
    assert_true(security_peer(b->security, &session, &peer));
    assert_true(address_equal(&peer.address, &fresh.peer));
    bench_say(b, a, &old, 11, "one that was under way");
    assert_true(flow_equal(&a->wire, &fresh));
    assert_int_equal(b->plain_count, 4);
}

static void without_a_cid_the_address_holds(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    struct flow elsewhere = bench_wire(2);

    bench_say(b, a, &elsewhere, 10, "x");
    assert_int_equal(b->plain_count, 0);
    assert_int_equal(b->counters.drop_dtls_unknown, 1);
}

static void icmp_errors_have_to_quote_a_record(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    struct flow session = session_of(a), wire = a->wire, out;
    uint8_t quoted[32];

    assert_true(bench_reply(b, &session, "x"));
    memcpy(quoted, b->sent[0].bytes, sizeof(quoted));
    assert_true(security_unreachable(b->security, &wire, quoted, sizeof(quoted), &out));
    assert_true(flow_equal(&out, &session));
    assert_false(security_unreachable(b->security, &wire, quoted, 0, &out));
    assert_false(security_unreachable(b->security, &wire, quoted, 10, &out));
    quoted[10]++; /* one that we have not sent yet */
    assert_false(security_unreachable(b->security, &wire, quoted, sizeof(quoted), &out));
    quoted[10]--;
    a->sequence += RECORD_WINDOW;
    assert_false(security_unreachable(b->security, &wire, quoted, sizeof(quoted), &out));
    wire.peer_port++;
    assert_false(security_unreachable(b->security, &wire, quoted, sizeof(quoted), &out));
}

/* ---- alerts ---- */

static void say_alert(struct bench *b, struct association *a, uint64_t sequence, uint8_t level,
                      uint8_t alert)
{
    const uint8_t content[2] = {level, alert};
    uint8_t record[BENCH_BYTES];
    struct flow wire = a->wire;
    size_t length = bench_seal(b, a, RECORD_ALERT, sequence, content, 2, record);

    bench_receive(b, &wire, record, length);
}

static void close_notify_is_answered(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, true);
    struct association copy = *a;
    struct flow session = session_of(a);
    char text[BENCH_BYTES];

    say_alert(b, a, 1, ALERT_WARNING, ALERT_CLOSE_NOTIFY);
    assert_int_equal(b->sent_count, 1);
    assert_int_equal(bench_open(b, &copy, &b->sent[0], text), RECORD_ALERT);
    assert_int_equal(text[1], ALERT_CLOSE_NOTIFY);
    assert_int_equal(b->ended_count, 1);
    assert_true(flow_equal(&b->ended[0], &session));
    assert_int_equal(b->counters.associations_closed, 1);
    assert_null(security_find(b->security, &session));
    assert_false(bench_reply(b, &session, "x"));
    assert_int_equal(b->wheel.armed, 0);
}

static void fatal_alerts_end_it_and_warnings_do_not(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, false);

    say_alert(b, a, 1, ALERT_WARNING, 90 /* user_canceled */);
    assert_int_equal(b->ended_count, 0);
    say_alert(b, a, 2, ALERT_FATAL, 20 /* bad_record_mac */);
    assert_int_equal(b->ended_count, 1);
    assert_int_equal(b->sent_count, 0);
    assert_int_equal(b->counters.dtls_alerts_in, 2);
}

/* An alert that is not authentic ends nothing: neither one without keys, nor one of wrong form. */
static void plain_alerts_end_nothing(void **state)
{
    static const uint8_t alert[] = {21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 0};
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    uint8_t record[BENCH_BYTES];
    struct flow wire = a->wire;

    bench_receive(b, &wire, alert, sizeof(alert));
    assert_int_equal(b->counters.drop_dtls_unknown, 1);
    bench_receive(b, &wire, record, bench_seal(b, a, RECORD_ALERT, 1, "\2\0\0", 3, record));
    assert_int_equal(b->counters.drop_dtls_malformed, 1);
    assert_int_equal(b->ended_count, 0);
}

/* RFC 5746 4.4: HelloRequest or ClientHello under keys. */
static void renegotiation_is_refused(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    uint8_t record[BENCH_BYTES], hello[60] = {1};
    struct flow wire = a->wire;
    char text[BENCH_BYTES];

    bench_receive(b, &wire, record,
                  bench_seal(b, a, RECORD_HANDSHAKE, 1, hello, sizeof(hello), record));
    assert_int_equal(b->ended_count, 0);
    assert_int_equal(b->sent_count, 1);
    assert_int_equal(bench_open(b, a, &b->sent[0], text), RECORD_ALERT);
    assert_int_equal(text[0], ALERT_WARNING);
    assert_int_equal(text[1], ALERT_NO_RENEGOTIATION);
}

/* What came before close_notify is answered before the association ends. */
static void messages_before_the_end_are_delivered(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    uint8_t all[BENCH_BYTES];
    struct flow wire = a->wire;
    size_t length = bench_seal(b, a, RECORD_APPLICATION_DATA, 1, "first", 5, all);

    length += bench_seal(b, a, RECORD_ALERT, 2, "\1\0", 2, all + length);
    length += bench_seal(b, a, RECORD_APPLICATION_DATA, 3, "late", 4, all + length);
    bench_receive(b, &wire, all, length);
    assert_int_equal(b->plain_count, 1);
    assert_int_equal(b->ended_count, 1);
}

static void close_on_delivery(void *context, const struct datagram *burst, unsigned n)
{
    struct bench *b = context;
    struct association *a = pool_at(&b->security->associations.pool, 0);
    struct flow session;

    bench_deliver(context, burst, n);
    if (pool_used(&b->security->associations.pool) == 0)
        return;
    session = session_of(a);
    security_close(b->security, &session, true);
}

/* What is delivered may end the association whose records are being looked at. */
static void delivering_may_end_it(void **state)
{
    struct bench *b = *state;
    static uint8_t records[BENCH_BYTES];
    struct datagram burst[WORKER_BURST];

    b->security->setup.ops.deliver = close_on_delivery;
    for (unsigned kind = 0; kind < 5; kind++) {
        struct association *a = bench_add(b, 1, SUITE_AES_128_GCM, false);
        unsigned plain = kind == 0 ? WORKER_BURST - 1 : 1;
        uint8_t type = kind == 1 ? RECORD_ALERT : RECORD_APPLICATION_DATA;
        struct flow wire = a->wire;
        size_t length = 0;

        for (uint64_t i = 1; i < 4; i++)
            length += bench_seal(b, a, type, i, "\2\50", 2, records + length);
        if (kind == 2) { /* one forged too many */
            records[length - 1] ^= 1;
            records[20] ^= 1;
            a->failures = suite_forgery_limit(SUITE_AES_128_GCM) - 1;
        }
        a->unproven = kind == 3;
        if (kind == 4)
            b->security->arena_used = SECURITY_ARENA_BYTES;
        for (unsigned i = 0; i < plain; i++) {
            burst[i] =
                (struct datagram){.data = (const uint8_t *)"x", .length = 1, .flow = bench_wire(9)};
            burst[i].flow.local_port = 5683;
        }
        burst[plain] = (struct datagram){.data = records, .length = (uint16_t)length, .flow = wire};
        security_receive(b->security, burst, plain + 1, b->now);
        assert_int_equal(b->ended_count, kind + 1);
        assert_int_equal(pool_used(&b->security->associations.pool), 0);
        assert_int_equal(b->plain_count, kind == 0 ? WORKER_BURST : plain);
        b->plain_count = b->sent_count = 0;
    }
}

/* ---- after a restart ---- */

static void prove_by_echo(void *context, const struct datagram *burst, unsigned n)
{
    struct bench *b = context;

    for (unsigned i = 0; i < n; i++)
        if (burst[i].length == 4 && memcmp(burst[i].data, "echo", 4) == 0)
            security_prove(b->security, &burst[i].flow);
    bench_deliver(context, burst, n);
}

/* What was received before the restart may be sent again by anybody who has heard it; the window of
 * a restored association does not know it. With the proof it is too old, in the same burst, too. */
static void what_is_older_than_the_proof_is_refused(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    uint8_t records[4][BENCH_BYTES];
    static const struct {
        uint64_t sequence;
        const char *text;
    } said[] = {{21, "challenged"}, {22, "echo"}, {15, "recorded"}, {23, "new"}};
    struct datagram burst[4];

    b->security->setup.ops.deliver = prove_by_echo;
    a->window = (struct record_window){.top = 10, .mask = UINT64_MAX, .any = true};
    a->unproven = true;
    for (unsigned i = 0; i < 4; i++) {
        burst[i] = (struct datagram){.data = records[i], .flow = a->wire};
        burst[i].length = (uint16_t)bench_seal(b, a, RECORD_APPLICATION_DATA, said[i].sequence,
                                               said[i].text, strlen(said[i].text), records[i]);
    }
    security_receive(b->security, burst, 4, b->now);
    assert_false(a->unproven);
    assert_int_equal(b->plain_count, 3);
    assert_memory_equal(b->plain[2].bytes, "new", 3);
    bench_say(b, a, &burst[0].flow, 16, "recorded, too");
    assert_int_equal(b->plain_count, 3);
    assert_int_equal(b->counters.drop_dtls_replay, 2);
    bench_say(b, a, &burst[0].flow, 25, "later");
    bench_say(b, a, &burst[0].flow, 24, "reordered");
    assert_int_equal(b->plain_count, 5);
}

/* ---- the end ---- */

static void idle_ones_end(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    struct association *other = bench_add(b, 2, SUITE_AES_128_CCM_8, false);

    bench_advance(b, HOUR_US / 2);
    bench_say(b, a, &a->wire, 1, "x");
    bench_advance(b, HOUR_US / 2 + 2000);
    assert_int_equal(b->counters.associations_expired, 1);
    assert_true(a->open);
    assert_int_equal(b->sent_count, 1);
    bench_advance(b, HOUR_US);
    assert_int_equal(b->counters.associations_expired, 2);
    assert_int_equal(b->wheel.armed, 0);
    (void)other;
}

/* Forged records do not keep it alive. */
static void noise_keeps_nothing_alive(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    uint8_t record[BENCH_BYTES];
    size_t length = bench_seal(b, a, RECORD_APPLICATION_DATA, 5, "x", 1, record);
    struct flow wire = a->wire;

    record[length - 1] ^= 1;
    for (unsigned i = 0; i < 4; i++) {
        bench_advance(b, HOUR_US / 4 + 1000);
        bench_receive(b, &wire, record, length);
    }
    assert_int_equal(b->counters.associations_expired, 1);
}

static void the_longest_idle_one_makes_room(void **state)
{
    struct bench *b = *state;
    struct association *a[4], *fifth;

    for (unsigned i = 0; i < 4; i++)
        a[i] = bench_add(b, i, SUITE_AES_128_CCM_8, false);
    for (unsigned i = 0; i < 4; i++) {
        b->now += 1000;
        if (i != 2)
            bench_say(b, a[i], &a[i]->wire, 1, "x");
    }
    fifth = bench_add(b, 5, SUITE_AES_128_CCM_8, false);
    assert_int_equal(b->counters.associations_evicted, 1);
    assert_int_equal(b->ended_count, 1);
    assert_int_equal(b->sent_count, 1); /* it is told */
    assert_int_equal(b->ended[0].peer.bytes[14], 2);
    b->busy = true; /* all of them have something to lose: one has to go */
    assert_non_null(bench_add(b, 6, SUITE_AES_128_CCM_8, false));
    assert_int_equal(b->counters.associations_evicted, 2);
    (void)fifth;
}

/* A key is not used for more than it may be; the last records are alerts. */
static void keys_have_their_day(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    struct association copy;
    struct flow session = session_of(a);
    char text[BENCH_BYTES];

    a->sequence = a->limit - 1;
    copy = *a;
    assert_true(bench_reply(b, &session, "the last one"));
    assert_int_equal(b->sent_count, 1);
    bench_reply(b, &session, "one too many");
    assert_int_equal(b->sent_count, 1);
    assert_int_equal(b->counters.drop_dtls_limit, 1);
    bench_advance(b, 2000);
    assert_int_equal(b->counters.associations_exhausted, 1);
    assert_int_equal(b->sent_count, 2);
    assert_int_equal(bench_open(b, &copy, &b->sent[1], text), RECORD_ALERT);
    assert_int_equal(text[1], ALERT_CLOSE_NOTIFY);
}

static void a_new_association_takes_the_place_of_the_old_one(void **state)
{
    struct bench *b = *state;
    struct association *old = bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    struct association *with = bench_add(b, 2, SUITE_AES_128_CCM_8, true), *fresh;
    uint8_t id[8] = {3, 9, 9, 9};
    struct flow wire = old->wire;

    assert_int_equal(principal_set(&with->principal, PRINCIPAL_PSK, "another", 7), 0);
    bench_say(b, with, &wire, 1, "at the same address");
    fresh = security_make(b->security, &wire, id);
    fresh->suite = SUITE_AES_128_CCM_8;
    assert_int_equal(principal_set(&fresh->principal, PRINCIPAL_PSK, "this one", 8), 0);
    security_replace(b->security, fresh);
    assert_int_equal(b->counters.associations_replaced, 1);
    assert_int_equal(b->ended[0].peer.bytes[14], 1);
    assert_true(with->open); /* another client, behind the same NAT */
    with->principal = fresh->principal;
    security_replace(b->security, fresh);
    assert_int_equal(b->counters.associations_replaced, 2);
}

static void all_are_told_at_the_end(void **state)
{
    struct bench *b = *state;

    for (unsigned i = 0; i < 4; i++)
        bench_add(b, i, SUITE_AES_128_CCM_8, false);
    assert_true(security_is_quiet(b->security));
    security_drain(b->security, true);
    assert_false(security_is_quiet(b->security));
    assert_true(security_has_work(b->security));
    for (unsigned i = 0; i < 100 && !security_is_quiet(b->security); i++)
        security_advance(b->security, b->now);
    assert_true(security_is_quiet(b->security));
    assert_int_equal(b->sent_count, 4);
    security_advance(b->security, b->now);
    assert_int_equal(b->sent_count, 4);
}

static void what_the_store_keeps_is_not_told(void **state)
{
    struct bench *b = *state;

    bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    security_drain(b->security, false);
    assert_true(security_is_quiet(b->security));
    security_advance(b->security, b->now);
    assert_int_equal(b->sent_count, 0);
}

/* With its session's a client takes less than 1 KiB. */
static void an_association_is_small(void **state)
{
    size_t slots = 2 * 4 * sizeof(struct places_slot); /* at the most four a table and object */

    (void)state;
    assert_true(sizeof(struct association) + slots <= 512);
}

static int begin(void **state)
{
    return bench_begin(state, 4);
}

static int begin_large(void **state)
{
    return bench_begin(state, 100);
}

#define SMALL(test) cmocka_unit_test_setup_teardown(test, begin, bench_end)
#define LARGE(test) cmocka_unit_test_setup_teardown(test, begin_large, bench_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_by_wire_and_by_id),
        LARGE(several_at_one_address),
        SMALL(what_is_not_ours_passes_through),
        SMALL(bursts_keep_their_order),
        SMALL(more_records_than_a_burst_has),
        LARGE(room_is_less_than_without),
        SMALL(no_buffer_costs_no_sequence),
        SMALL(ids_are_shared_by_other_numbers_of_workers),
        SMALL(follows_a_client_with_a_cid),
        SMALL(without_a_cid_the_address_holds),
        SMALL(icmp_errors_have_to_quote_a_record),
        SMALL(close_notify_is_answered),
        SMALL(fatal_alerts_end_it_and_warnings_do_not),
        SMALL(plain_alerts_end_nothing),
        SMALL(renegotiation_is_refused),
        SMALL(messages_before_the_end_are_delivered),
        SMALL(delivering_may_end_it),
        SMALL(what_is_older_than_the_proof_is_refused),
        SMALL(idle_ones_end),
        SMALL(noise_keeps_nothing_alive),
        SMALL(the_longest_idle_one_makes_room),
        SMALL(keys_have_their_day),
        SMALL(a_new_association_takes_the_place_of_the_old_one),
        SMALL(all_are_told_at_the_end),
        SMALL(what_the_store_keeps_is_not_told),
        cmocka_unit_test(an_association_is_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
