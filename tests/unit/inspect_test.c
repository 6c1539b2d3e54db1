/* What a worker says of itself, and what it lets itself be told: pages of sessions, relations and
 * servers, parameters of one session, packet loss. */
#include "tests/unit/store_harness.h"

#include <rte_mempool.h>

#include "gateway/inspect.h"
#include "gateway/proxy/proxy.h"

static const char yaml[] =
    OBSERVE_YAML "  - {path: /hello, respond: {payload: hello}}\n"
                 "cache: {size: 1MiB}\n"
                 "limits: {sessions: 512, exchanges: 64, outbound: 64, queue: 8, remembered: 2048, "
                 "message_memory: 256KiB, parameter_sets: 2, amplification: 0}\n";

/* An answer of the worker's, read. */
struct told {
    struct inspect_head head;
    uint32_t length;
    uint8_t rows[INSPECT_BYTES];
};

static int setup(void **state)
{
    *state = store_worker(yaml, 0);
    return 0;
}

static int teardown(void **state)
{
    struct harness *h = *state;

    observe_end(h);
    assert_int_equal(rte_mempool_avail_count(store_parcels()), store_parcels()->size);
    return 0;
}

static struct parcel *question(struct harness *h, enum inspect_type type,
                               const struct inspect_question *q, const void *more, size_t bytes)
{
    struct parcel *parcel =
        parcel_new(h->parcels, PARCEL_INSPECT, (uint16_t)type, (uint32_t)(sizeof(*q) + bytes));

    assert_non_null(parcel);
    parcel->from = PARCEL_CONTROL;
    assert_true(parcel_write(parcel, 0, q, sizeof(*q)));
    assert_true(parcel_write(parcel, sizeof(*q), more, bytes));
    return parcel;
}

/* The answer comes at once, to who asked, and has the question's serial. */
static int32_t ask(struct harness *h, enum inspect_type type, struct inspect_question *q,
                   const void *more, size_t bytes, struct told *told)
{
    struct parcel *answer;

    q->serial = 77;
    worker_told(h->worker, question(h, type, q, more, bytes), h->now);
    assert_int_equal(h->told_count, h->told_taken + 1);
    assert_int_equal(h->told_to[h->told_taken], PARCEL_CONTROL);
    answer = h->told[h->told_taken];
    h->told_count = h->told_taken; /* taken out of the list, so that it is never full */
    assert_int_equal(answer->kind, PARCEL_INSPECT);
    assert_int_equal(answer->type, type);
    assert_true(parcel_read(answer, 0, &told->head, sizeof(told->head)));
    told->length = answer->length - (uint32_t)sizeof(told->head);
    assert_true(told->length <= sizeof(told->rows));
    assert_true(parcel_read(answer, sizeof(told->head), told->rows, told->length));
    parcel_free(h->parcels, answer);
    assert_int_equal(told->head.serial, 77);
    return told->head.error;
}

static struct inspect_session session_row(const struct told *told, unsigned n)
{
    struct inspect_session s;

    assert_true(n < told->head.count);
    memcpy(&s, told->rows + n * sizeof(s), sizeof(s));
    return s;
}

/* The session of client n. */
static struct inspect_session session_of(struct harness *h, unsigned n)
{
    struct flow flow = harness_client(h, n);
    struct inspect_question q = {.match = INSPECT_ENDPOINT, .peer = {flow.peer, flow.peer_port}};
    struct told told;

    assert_int_equal(ask(h, INSPECT_SESSIONS, &q, NULL, 0, &told), 0);
    assert_int_equal(told.head.count, 1);
    assert_int_equal(told.length, sizeof(struct inspect_session));
    return session_row(&told, 0);
}

/* A request: it makes a session or keeps it. */
static void touch(struct harness *h, unsigned n)
{
    client_observe(h, n, (uint16_t)(h->now / 1000), 1, "hello", NO_OBSERVE);
    h->count = h->taken = 0;
}

/* ---- sessions ---- */

static void a_session_is_described(void **state)
{
    struct harness *h = *state;
    struct flow flow = harness_client(h, 5);
    struct inspect_session s;

    touch(h, 5);
    touch(h, 6);
    harness_advance(h, 3 * SECOND_US);
    s = session_of(h, 5);
    assert_true(flow_equal(&s.name.flow, &flow));
    assert_int_equal(s.silent_us, 3 * SECOND_US);
    assert_int_equal(s.upstream, 0);
    assert_int_equal(s.own, 0);
    assert_int_equal(s.transmission.ack_timeout_ms, 2000);
    assert_int_equal(s.transmission.ack_random_factor_milli, 1500);
    assert_int_equal(s.transmission.nstart, 1);
    assert_int_equal(s.transmission.max_retransmit, 4);
    assert_int_equal(s.relations, 0);
}

static void sessions_are_chosen_by_peer(void **state)
{
    struct harness *h = *state;
    struct inspect_question q = {0};
    struct registered r;
    struct told told;

    touch(h, 1);
    observe_begin(h, 2, "x", "0", &r); /* and a session to the origin, 10.99.0.1 */
    assert_int_equal(ask(h, INSPECT_SESSIONS, &q, NULL, 0, &told), 0);
    assert_int_equal(told.head.count, 3);
    assert_int_equal(told.head.next, INSPECT_END);
    q.match = INSPECT_PEER;
    q.peer.address = harness_client(h, 1).peer;
    ask(h, INSPECT_SESSIONS, &q, NULL, 0, &told);
    assert_int_equal(told.head.count, 2);
    q.peer.address = r.flow.peer;
    ask(h, INSPECT_SESSIONS, &q, NULL, 0, &told);
    assert_int_equal(told.head.count, 1);
    assert_int_equal(session_row(&told, 0).upstream, 1);
    assert_int_equal(session_row(&told, 0).users, 1); /* the observation */
    q.peer.address.bytes[15] = 200;
    ask(h, INSPECT_SESSIONS, &q, NULL, 0, &told);
    assert_int_equal(told.head.count, 0);
}

static void a_name_holds_for_one_session_only(void **state)
{
    struct harness *h = *state;
    struct inspect_question q = {0};
    struct inspect_session s;
    struct told told;

    touch(h, 1);
    s = session_of(h, 1);
    q.index = s.name.index;
    q.check = s.name.check;
    assert_int_equal(ask(h, INSPECT_SESSION, &q, NULL, 0, &told), 0);
    assert_int_equal(session_row(&told, 0).name.flow.peer_port, s.name.flow.peer_port);
    q.check ^= 1;
    assert_int_equal(ask(h, INSPECT_SESSION, &q, NULL, 0, &told), -ENOENT);
    assert_int_equal(told.length, 0);
    q.check ^= 1;
    q.index = UINT32_MAX;
    assert_int_equal(ask(h, INSPECT_SESSION, &q, NULL, 0, &told), -ENOENT);
    q.index = s.name.index;
    observe_skip(h, 1000);
    assert_int_equal(ask(h, INSPECT_SESSION, &q, NULL, 0, &told), -ENOENT);
    /* Who comes then, and gets the place, is another one. */
    for (unsigned n = 2; n < 400; n++)
        touch(h, n);
    assert_int_equal(ask(h, INSPECT_SESSION, &q, NULL, 0, &told), -ENOENT);
}

/* Clients below 100 stay; of the others some have gone and some have come before the last page. */
static void pages_have_each_that_stays_once(void **state)
{
    struct harness *h = *state;
    struct inspect_question q = {.limit = 7};
    unsigned seen[100] = {0}, pages = 0, others = 0;
    struct told told;

    for (unsigned n = 0; n < 200; n++)
        touch(h, n);
    do {
        assert_int_equal(ask(h, INSPECT_SESSIONS, &q, NULL, 0, &told), 0);
        for (unsigned i = 0; i < told.head.count; i++) {
            unsigned n = session_row(&told, i).name.flow.peer_port - harness_client(h, 0).peer_port;

            if (n < 100)
                seen[n]++;
            else
                others++;
        }
        assert_true(told.head.count <= 7);
        q.from = told.head.next;
        observe_skip(h, 40);
        for (unsigned n = 0; n < 100; n++)
            touch(h, n);
        touch(h, 300 + pages % 100);
    } while (q.from != INSPECT_END && ++pages < 500);
    assert_int_equal(q.from, INSPECT_END);
    assert_true(pages >= 100 / 7);
    assert_true(others > 0);
    for (unsigned n = 0; n < 100; n++)
        assert_int_equal(seen[n], 1);
}

/* 400 sessions do not fit one answer, and the answer says where to go on. */
static void a_page_ends_where_its_room_does(void **state)
{
    struct harness *h = *state;
    struct inspect_question q = {0};
    unsigned total = 0;
    struct told told;

    for (unsigned n = 0; n < 400; n++)
        touch(h, n);
    do {
        assert_int_equal(ask(h, INSPECT_SESSIONS, &q, NULL, 0, &told), 0);
        assert_in_range(told.head.count, 1, INSPECT_BYTES / sizeof(struct inspect_session));
        total += told.head.count;
        q.from = told.head.next;
    } while (q.from != INSPECT_END);
    assert_int_equal(total, 400);
}

/* ---- relations ---- */

static struct inspect_relation relation_row(const struct told *told, uint32_t *at,
                                            const uint8_t **tail)
{
    struct inspect_relation r;

    assert_true(*at + sizeof(r) <= told->length);
    memcpy(&r, told->rows + *at, sizeof(r));
    *tail = told->rows + *at + sizeof(r);
    *at += r.bytes;
    assert_true(*at <= told->length);
    assert_int_equal(*at % 8, 0);
    return r;
}

static void a_relation_is_described(void **state)
{
    static const uint8_t path[] = {0xb1, 'a', 0x01, 'b'};
    struct harness *h = *state;
    struct inspect_question q = {0};
    struct inspect_relation r;
    struct registered reg;
    const uint8_t *tail;
    struct told told;
    uint32_t at = 0;

    observe_begin(h, 3, "a/b", "0", &reg);
    origin_state(h, &reg, 2, "1");
    assert_int_equal(ask(h, INSPECT_RELATIONS, &q, NULL, 0, &told), 0);
    assert_int_equal(told.head.count, 1);
    assert_int_equal(told.head.next, INSPECT_END);
    r = relation_row(&told, &at, &tail);
    assert_int_equal(r.session.flow.peer_port, harness_client(h, 3).peer_port);
    assert_int_equal(r.session.index, session_of(h, 3).name.index);
    assert_int_equal(r.token_length, 1);
    assert_int_equal(tail[0], 3);
    assert_int_equal(r.options_length, sizeof(path));
    assert_memory_equal(tail + 1, path, sizeof(path));
    assert_int_equal(r.method, CODE_GET);
    assert_int_equal(r.upstream, 0);
    assert_int_equal(r.observers, 1);
    assert_int_equal(r.observed_state, OBSERVATION_LIVE);
    assert_int_equal(r.outstanding + r.unconfirmed,
                     1); /* a notification, of the one kind or other */
    assert_int_equal(r.token_cut | r.options_cut, 0);
    assert_int_equal(session_of(h, 3).relations, 1);
    h->count = h->taken = 0;
}

/* 12 relations of one client and 3 of others, one to a page: each is there once. */
static void relations_of_one_session_may_take_pages(void **state)
{
    struct harness *h = *state;
    struct inspect_question q = {.limit = 1};
    unsigned seen[16] = {0}, pages = 0;
    struct registered reg;
    struct told told;

    observe_begin(h, 1, "x", "0", &reg);
    for (uint8_t token = 2; token <= 12; token++)
        client_observe(h, 1, token, token, "x", 0);
    for (unsigned n = 13; n <= 15; n++)
        client_observe(h, n, 1, (uint8_t)n, "x", 0);
    h->count = h->taken = 0;
    while (q.from != INSPECT_END && pages < 100) {
        const uint8_t *tail;
        uint32_t at = 0;

        assert_int_equal(ask(h, INSPECT_RELATIONS, &q, NULL, 0, &told), 0);
        if (told.head.count) {
            assert_int_equal(relation_row(&told, &at, &tail).observers, 15);
            assert_in_range(tail[0], 1, 15);
            seen[tail[0]]++;
        }
        assert_in_range(told.head.count, 0, 1);
        q.from = told.head.next;
        q.skip = told.head.skip;
        pages++;
    }
    for (unsigned i = 1; i <= 15; i++)
        assert_int_equal(seen[i], 1);
    q = (struct inspect_question){.match = INSPECT_ONE};
    q.index = q.from = session_of(h, 1).name.index;
    q.check = session_of(h, 1).name.check;
    assert_int_equal(ask(h, INSPECT_RELATIONS, &q, NULL, 0, &told), 0);
    assert_int_equal(told.head.count, 12);
    assert_int_equal(told.head.next, INSPECT_END);
}

/* A token beyond 64 bytes, and a query beyond 512. */
static void what_is_too_long_is_cut(void **state)
{
    struct harness *h = *state;
    const struct ask wish = {.observe = 0, .token_length = 64};
    struct inspect_question q = {0};
    const struct say say = {.observed = true, .number = 1, .payload = "0"};
    char path[600];
    struct inspect_relation r;
    const uint8_t *tail;
    struct told told;
    uint32_t at = 0;

    memset(path, 'p', sizeof(path));
    for (unsigned i = 0; i < sizeof(path); i += 101)
        path[i] = '/';
    path[599] = 0;
    client_send(h, 1, TYPE_CON, 1, 0x55, path + 1, &wish);
    origin_answer(h, origin_registration(h, NULL), TYPE_ACK, 0, &say);
    h->count = h->taken = 0;
    assert_int_equal(ask(h, INSPECT_RELATIONS, &q, NULL, 0, &told), 0);
    assert_int_equal(told.head.count, 1);
    r = relation_row(&told, &at, &tail);
    assert_int_equal(r.token_length, INSPECT_TOKEN_BYTES);
    assert_int_equal(r.token_cut, 0);
    assert_int_equal(tail[63], 0x55);
    assert_int_equal(r.options_length, INSPECT_OPTIONS_BYTES);
    assert_int_equal(r.options_cut, 1);
}

/* ---- servers, usage ---- */

static void servers_are_told_with_their_health(void **state)
{
    struct harness *h = *state;
    struct inspect_question q = {0};
    struct inspect_server s[3];
    struct told told;

    client_observe(h, 1, 1, 1, "x", NO_OBSERVE);
    assert_int_equal(ask(h, INSPECT_SERVERS, &q, NULL, 0, &told), 0);
    assert_int_equal(told.head.count, 3);
    assert_int_equal(told.length, sizeof(s));
    memcpy(s, told.rows, sizeof(s));
    assert_int_equal(s[0].upstream, 0);
    assert_int_equal(s[0].endpoint.address.bytes[15], 1);
    assert_int_equal(s[0].endpoint.port, 5683);
    assert_int_equal(s[0].requests, 1);
    assert_int_equal(s[0].outstanding, 1);
    assert_int_equal(s[0].down, 0);
    assert_int_equal(s[1].upstream, 1);
    assert_int_equal(s[1].number, 0);
    assert_int_equal(s[2].number, 1);
    assert_int_equal(s[2].endpoint.address.bytes[15], 5);
    observe_skip(h, 100); /* the origin does not answer */
    q.from = 0;
    q.limit = 1;
    assert_int_equal(ask(h, INSPECT_SERVERS, &q, NULL, 0, &told), 0);
    assert_int_equal(told.head.count, 1);
    assert_int_equal(told.head.next, 1);
    memcpy(s, told.rows, sizeof(s[0]));
    assert_int_equal(s[0].down, 1);
    assert_int_equal(s[0].requests, 0);
    assert_true(s[0].down_us > 0 && s[0].heard_us > s[0].down_us);
}

static void usage_is_told(void **state)
{
    struct harness *h = *state;
    struct inspect_question q = {0};
    struct worker_usage usage, other;
    struct told told;

    touch(h, 1);
    touch(h, 2);
    assert_int_equal(ask(h, INSPECT_USAGE, &q, NULL, 0, &told), 0);
    assert_int_equal(told.length, sizeof(usage));
    memcpy(&usage, told.rows, sizeof(usage));
    worker_usage(h->worker, &other);
    assert_memory_equal(&usage, &other, sizeof(usage));
    assert_int_equal(usage.sessions, 2);
}

/* ---- parameters ---- */

static int32_t set(struct harness *h, unsigned n, const struct inspect_parameters *change,
                   struct inspect_session *after)
{
    struct inspect_session s = session_of(h, n);
    struct inspect_question q = {.index = s.name.index, .check = s.name.check};
    struct told told;
    int32_t error = ask(h, INSPECT_SET, &q, change, sizeof(*change), &told);

    if (!error && after)
        *after = session_row(&told, 0);
    return error;
}

static struct inspect_parameters change_of(enum transmission_parameter which, uint64_t milli)
{
    struct inspect_parameters change = {.set = 1u << which};

    change.milli[which] = milli;
    return change;
}

/* The answer to client n comes late, so it is a confirmable message of its own. */
static uint64_t late_answer(struct harness *h, unsigned n, uint16_t mid)
{
    const struct say say = {.payload = "late", .max_age = 1};
    struct sent *request;
    struct message m;
    char path[8];

    snprintf(path, sizeof(path), "l%u", mid);
    client_observe(h, n, mid, (uint8_t)n, path, NO_OBSERVE);
    request = origin_expect(h, &m);
    harness_advance(h, 1500 * 1000);
    client_expect(h, n, &m);
    assert_int_equal(m.code, 0);
    origin_answer(h, request, TYPE_ACK, 0, &say);
    client_expect(h, n, &m);
    assert_int_equal(m.type, TYPE_CON);
    return h->now;
}

static void parameters_hold_for_the_next_message(void **state)
{
    struct harness *h = *state;
    struct inspect_parameters change = change_of(TRANSMISSION_ACK_TIMEOUT, 500);
    struct inspect_session after;
    struct message m;
    uint64_t at;

    touch(h, 1);
    change.set |= 1u << TRANSMISSION_ACK_RANDOM_FACTOR | 1u << TRANSMISSION_MAX_RETRANSMIT;
    change.milli[TRANSMISSION_ACK_RANDOM_FACTOR] = 1000;
    change.milli[TRANSMISSION_MAX_RETRANSMIT] = 2000;
    assert_int_equal(set(h, 1, &change, &after), 0);
    assert_int_equal(after.own, 1);
    assert_int_equal(after.transmission.ack_timeout_ms, 500);
    assert_int_equal(after.transmission.ack_random_factor_milli, 1000);
    assert_int_equal(after.transmission.max_retransmit, 2);
    assert_int_equal(after.transmission.nstart, 1); /* as it was */
    assert_int_equal(session_of(h, 1).own, 1);

    at = late_answer(h, 1, 100);
    harness_advance(h, 60 * SECOND_US);
    assert_in_range(client_expect(h, 1, &m)->at_us, at + 500 * 1000, at + 502 * 1000);
    assert_in_range(client_expect(h, 1, &m)->at_us, at + 1500 * 1000, at + 1504 * 1000);
    harness_silent(h);
    /* Others are as they were. */
    touch(h, 2);
    assert_int_equal(session_of(h, 2).own, 0);
    at = late_answer(h, 2, 200);
    harness_advance(h, 60 * SECOND_US);
    assert_in_range(client_expect(h, 2, &m)->at_us, at + 2 * SECOND_US, at + 3 * SECOND_US + 2000);
    h->count = h->taken = 0;
}

static void parameters_are_given_back(void **state)
{
    struct harness *h = *state;
    struct inspect_parameters change = change_of(TRANSMISSION_ACK_TIMEOUT, 500);
    struct inspect_session after;

    touch(h, 1);
    change.set |= 1u << TRANSMISSION_NSTART;
    change.milli[TRANSMISSION_NSTART] = 3000;
    assert_int_equal(set(h, 1, &change, &after), 0);
    change = (struct inspect_parameters){.reset = 1u << TRANSMISSION_ACK_TIMEOUT};
    assert_int_equal(set(h, 1, &change, &after), 0);
    assert_int_equal(after.transmission.ack_timeout_ms, 2000);
    assert_int_equal(after.transmission.nstart, 3);
    assert_int_equal(after.own, 1);
    change.reset = 1u << TRANSMISSION_NSTART;
    assert_int_equal(set(h, 1, &change, &after), 0);
    assert_int_equal(after.transmission.nstart, 1);
    assert_int_equal(after.own, 0);
}

static void parameters_are_refused(void **state)
{
    struct harness *h = *state;
    struct inspect_parameters change = change_of(TRANSMISSION_ACK_TIMEOUT, 0);
    struct inspect_question q = {.index = 7, .check = 7};
    struct told told;

    for (unsigned n = 1; n <= 3; n++)
        touch(h, n);
    assert_int_equal(set(h, 1, &change, NULL), -ERANGE);
    change = change_of(TRANSMISSION_NSTART, 1500);
    assert_int_equal(set(h, 1, &change, NULL), -ERANGE);
    assert_int_equal(session_of(h, 1).own, 0);
    change = change_of(TRANSMISSION_NSTART, 2000);
    assert_int_equal(ask(h, INSPECT_SET, &q, &change, sizeof(change), &told), -ENOENT);
    assert_int_equal(ask(h, INSPECT_SET, &q, &change, 3, &told), -ENOENT);
    assert_int_equal(set(h, 1, &change, NULL), 0);
    assert_int_equal(set(h, 2, &change, NULL), 0);
    assert_int_equal(set(h, 3, &change, NULL), -ENOSPC); /* limits.parameter_sets: 2 */
    assert_int_equal(set(h, 2, &change, NULL), 0);
}

/* ---- packet loss ---- */

static void loss_is_set_and_told(void **state)
{
    struct harness *h = *state;
    struct inspect_question q = {0};
    struct loss loss, told_loss;
    struct told told;

    assert_int_equal(loss_parse(&loss, "100%", NULL), 0);
    assert_int_equal(ask(h, INSPECT_SET_LOSS, &q, &loss, sizeof(loss), &told), 0);
    for (uint16_t mid = 1; mid <= 3; mid++)
        client_empty(h, 1, TYPE_CON, mid);
    assert_int_equal(h->count, 0);
    assert_int_equal(ask(h, INSPECT_LOSS, &q, NULL, 0, &told), 0);
    assert_int_equal(told.length, sizeof(told_loss));
    memcpy(&told_loss, told.rows, sizeof(told_loss));
    assert_int_equal(told_loss.percent, 100);
    assert_int_equal(told_loss.sent, 3);
    assert_int_equal(loss_parse(&loss, "0%", NULL), 0);
    assert_int_equal(ask(h, INSPECT_SET_LOSS, &q, &loss, sizeof(loss), &told), 0);
    client_empty(h, 1, TYPE_CON, 4);
    assert_int_equal(h->count, 1);
    h->count = 0;
}

/* ---- what goes wrong ---- */

static void nobody_hears(void **state)
{
    struct harness *h = *state;
    struct inspect_question q = {0};
    struct parcel *parcel = parcel_new(h->parcels, PARCEL_INSPECT, INSPECT_SESSIONS, 5), *asked;
    struct parcel *all[4096];
    unsigned n = 0;
    struct told told;

    touch(h, 1);
    worker_told(h->worker, parcel, h->now); /* too short */
    assert_int_equal(h->told_count, h->told_taken);
    h->deaf = true;
    worker_told(h->worker, question(h, INSPECT_SESSIONS, &q, NULL, 0), h->now);
    h->deaf = false;
    /* The question is the last parcel that there is, and an answer of several has no room. */
    for (unsigned i = 0; i < 200; i++)
        touch(h, i);
    asked = question(h, INSPECT_SESSIONS, &q, NULL, 0);
    while (n < 4096 && (all[n] = parcel_new(h->parcels, PARCEL_INSPECT, 0, 0)))
        n++;
    worker_told(h->worker, asked, h->now);
    assert_int_equal(h->told_count, h->told_taken);
    while (n)
        parcel_free(h->parcels, all[--n]);
    assert_int_equal(ask(h, (enum inspect_type)999, &q, NULL, 0, &told), -ENOTSUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_session_is_described, setup, teardown),
        cmocka_unit_test_setup_teardown(sessions_are_chosen_by_peer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_holds_for_one_session_only, setup, teardown),
        cmocka_unit_test_setup_teardown(pages_have_each_that_stays_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_page_ends_where_its_room_does, setup, teardown),
        cmocka_unit_test_setup_teardown(a_relation_is_described, setup, teardown),
        cmocka_unit_test_setup_teardown(relations_of_one_session_may_take_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_too_long_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(servers_are_told_with_their_health, setup, teardown),
        cmocka_unit_test_setup_teardown(usage_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(parameters_hold_for_the_next_message, setup, teardown),
        cmocka_unit_test_setup_teardown(parameters_are_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(parameters_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(loss_is_set_and_told, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_hears, setup, teardown),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
