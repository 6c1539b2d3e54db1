/* What comes back after a restart is what the client registered: through the forward proxy, with a
 * proof of its address, with a long token, with what it asked for last; and origins that are not
 * there yet. The store is played by hand. */
#include <errno.h>

#include "tests/unit/store_harness.h"

static const char yaml[] =
    "instance: unit\n"
    "interfaces: [{name: south, device: tap:unit0, addresses: [10.99.0.2/24]}]\n"
    "listeners: [{uri: coap://10.99.0.2}]\n"
    "upstreams:\n"
    "  - {name: origin, servers: [coap://10.99.0.1], transmission: {nstart: 4}}\n"
    "  - {name: third, servers: [coap://10.99.0.6]}\n"
    "routes:\n"
    "  - {path: /, to: origin}\n"
    "  - {path: /strip, to: third, strip: true}\n"
    "  - {path: /v, host: virtual.example, to: third}\n"
    "forward_proxy: {allow: [10.99.0.0/24, a.example]}\n"
    "observe: {confirm_every: 20, confirm_after: 300s}\n"
    "limits: {sessions: 64, exchanges: 16, outbound: 64, queue: 2, remembered: 64, "
    "message_memory: 64KiB, observations: 8, relations: 16, client_relations: 8, "
    "destinations: 1, amplification: 3}\n"
    "store: {url: \"redis://127.0.0.1:6379/0\", resume_spread: 10s}\n";

static uint32_t question; /* the last one to the resolver */

static bool resolve(void *context, const char *name, size_t length, uint32_t id)
{
    (void)context;
    assert_int_equal(length, strlen("a.example"));
    assert_memory_equal(name, "a.example", length);
    question = id;
    return true;
}

static void answer_question(struct harness *h, const char *address)
{
    struct resolved answer = {.id = question, .ttl_s = 60, .count = 1};

    assert_int_equal(address_parse(address, &answer.addresses[0]), 0);
    worker_resolved(h->worker, &answer, h->now);
}

static struct harness *begin_at(uint64_t now)
{
    struct harness *h = malloc(sizeof(*h));

    assert_non_null(h);
    harness_start_full(h, yaml, resolve, store_parcels());
    if (now) {
        h->now = now;
        worker_advance(h->worker, now);
    }
    store_says(h, STORE_RESUMED);
    store_says(h, STORE_UP);
    return h;
}

static void stop(struct harness *h)
{
    harness_stop(h);
    free(h);
}

/* A registration with any options, in order. */
struct form {
    uint8_t code; /* 0: GET */
    uint16_t mid;
    const struct addition *options;
    unsigned option_count;
    size_t token_length; /* of bytes 'T' */
    const char *payload;
};

#define OPTIONS_OF(...)                                \
    .options = (const struct addition[]){__VA_ARGS__}, \
    .option_count = sizeof((const struct addition[]){__VA_ARGS__}) / sizeof(struct addition)

static struct addition text(uint16_t number, const char *value)
{
    return addition_bytes(number, value, (uint16_t)strlen(value));
}

static void registers(struct harness *h, unsigned n, const struct form *form)
{
    uint8_t bytes[1500], token[64];
    struct flow flow = harness_client(h, n);
    struct encoder e;

    memset(token, 'T', sizeof(token));
    encoder_begin(&e, bytes, 1400, TYPE_CON, form->code ? form->code : CODE_GET, form->mid, token,
                  form->token_length);
    encoder_merge(&e, NULL, 0, form->options, form->option_count);
    if (form->payload)
        encoder_payload(&e, form->payload, strlen(form->payload));
    assert_true(encoder_end(&e) > 0);
    harness_give(h, &flow, bytes, encoder_end(&e));
}

#define REGISTERS(h, n, ...) registers(h, n, &(const struct form){__VA_ARGS__})

static const struct say first = {.observed = true, .number = 1, .payload = "one"};
static const struct say again = {.observed = true, .number = 9, .payload = "three"};

/* Has the registration accepted by the origin at this address, and kept. `m` outlives the harness,
 * until the next call. */
static struct kept keep(struct harness *h, const char *origin, struct message *m)
{
    static uint8_t asked[1500];
    struct kept record;
    struct registered r;
    struct sent *s = origin_registration(h, &r);
    struct endpoint peer;

    assert_int_equal(address_parse(origin, &peer.address), 0);
    assert_true(address_equal(&s->flow.peer, &peer.address));
    memcpy(asked, s->data, s->length);
    assert_int_equal(message_parse(asked, s->length, m), VERDICT_OK);
    origin_answer(h, s, TYPE_ACK, 0, &first);
    store_done(h, store_expect(h, STORE_PUT, &record), 0);
    assert_true(expect_state(h, 1, TYPE_ACK, "one", NULL) >= 0);
    return record;
}

static void wait_for_one(struct harness *h, unsigned seconds)
{
    for (unsigned i = 0; i < seconds * 1000 && h->taken == h->count; i++)
        harness_advance(h, SECOND_US / 1000);
    assert_int_equal(h->count, h->taken + 1);
}

static void assert_same(const struct message *a, const struct message *b)
{
    assert_int_equal(a->code, b->code);
    assert_int_equal(a->options_length, b->options_length);
    assert_memory_equal(a->options, b->options, a->options_length);
    assert_int_equal(a->payload_length, b->payload_length);
    if (a->payload_length)
        assert_memory_equal(a->payload, b->payload, a->payload_length);
}

/* The process starts anew with this record; the same request goes to the same place, and the client
 * gets the state. */
static struct harness *comes_back(const struct kept *record, const struct message *asked,
                                  const char *origin)
{
    struct harness *h = begin_at(2000 * SECOND_US);
    struct endpoint peer;
    struct message m;
    struct sent *s;

    store_gives(h, record, false);
    assert_int_equal(observe_usage(h).relations, 1);
    wait_for_one(h, 11);
    s = origin_registration(h, NULL);
    assert_int_equal(address_parse(origin, &peer.address), 0);
    assert_true(address_equal(&s->flow.peer, &peer.address));
    assert_int_equal(message_parse(s->data, s->length, &m), VERDICT_OK);
    assert_same(&m, asked);
    origin_answer(h, s, TYPE_ACK, 0, &again);
    wait_for_one(h, 11);
    expect_state(h, 1, TYPE_CON, "three", &m);
    return h;
}

static void what_went_through_the_forward_proxy(void **state)
{
    struct harness *h = begin_at(0);
    struct message asked;
    struct kept record;

    (void)state;
    REGISTERS(h, 1, .mid = 1, .token_length = 2,
              OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0),
                         text(OPTION_PROXY_URI, "coap://10.99.0.9/t?x=1")));
    record = keep(h, "10.99.0.9", &asked);
    stop(h);
    stop(comes_back(&record, &asked, "10.99.0.9"));
}

static void what_went_to_a_name(void **state)
{
    struct harness *h = begin_at(0);
    struct message asked, m;
    struct kept record;
    struct sent *s;

    (void)state;
    REGISTERS(h, 1, .mid = 1, .token_length = 2,
              OPTIONS_OF(text(OPTION_URI_HOST, "a.example"), addition_uint(OPTION_OBSERVE, 0),
                         text(OPTION_URI_PATH, "t"), text(OPTION_PROXY_SCHEME, "coap")));
    answer_question(h, "10.99.0.9");
    record = keep(h, "10.99.0.9", &asked);
    stop(h);

    h = begin_at(2000 * SECOND_US);
    question = 0;
    store_gives(h, &record, false);
    harness_advance(h, 11 * SECOND_US);
    harness_silent(h);
    assert_int_not_equal(question, 0); /* the name is looked up again */
    answer_question(h, "10.99.0.8");
    s = origin_registration(h, NULL);
    assert_int_equal(s->flow.peer.bytes[15], 8);
    assert_int_equal(message_parse(s->data, s->length, &m), VERDICT_OK);
    assert_same(&m, &asked);
    stop(h);
}

/* Its destination is held until it has registered there: no other one gets its place. */
static void a_destination_waits_for_its_registration(void **state)
{
    struct harness *h = begin_at(0);
    const struct say bye = {.payload = "bye"};
    struct message asked, m;
    struct kept record;
    struct sent *s;

    (void)state;
    REGISTERS(
        h, 1, .mid = 1, .token_length = 2,
        OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text(OPTION_PROXY_URI, "coap://10.99.0.9/t")));
    record = keep(h, "10.99.0.9", &asked);
    stop(h);

    h = begin_at(2000 * SECOND_US);
    store_gives(h, &record, false);
    REGISTERS(h, 2, .mid = 1, .token_length = 2,
              OPTIONS_OF(text(OPTION_PROXY_URI, "coap://10.99.0.8/other")));
    client_expect(h, 2, &m);
    assert_int_equal(m.code, CODE_SERVICE_UNAVAILABLE);
    wait_for_one(h, 11);
    s = origin_registration(h, NULL);
    assert_int_equal(s->flow.peer.bytes[15], 9);
    origin_answer(h, s, TYPE_ACK, 0, &again);
    wait_for_one(h, 11);
    expect_state(h, 1, TYPE_CON, "three", &m);
    client_empty(h, 1, TYPE_RST, m.mid); /* and is let go then */
    s = origin_expect(h, &m);
    assert_int_equal(message_uint(&m, SLOT_OBSERVE, 9), 1);
    origin_answer(h, s, TYPE_ACK, 0, &bye);
    REGISTERS(h, 2, .mid = 2, .token_length = 2,
              OPTIONS_OF(text(OPTION_PROXY_URI, "coap://10.99.0.8/other")));
    s = origin_expect(h, &m);
    assert_int_equal(s->flow.peer.bytes[15], 8);
    stop(h);
}

/* Through the forward proxy to the gateway itself. */
static void what_is_the_gateways_own(void **state)
{
    struct harness *h = begin_at(0);
    struct message asked;
    struct kept record;

    (void)state;
    REGISTERS(
        h, 1, .mid = 1, .token_length = 2,
        OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text(OPTION_PROXY_URI, "coap://10.99.0.2/t")));
    record = keep(h, "10.99.0.1", &asked);
    stop(h);
    h = comes_back(&record, &asked, "10.99.0.1");
    store_untold(h); /* its record stays */
    stop(h);
}

/* The client was challenged before it got its answer (RFC 9175): its registration has the Echo. */
static void what_was_registered_with_an_echo(void **state)
{
    struct harness *h = begin_at(0);
    const struct say large = {
        .observed = true,
        .number = 1,
        .payload =
            "0123456789 123456789 "
            "123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 "
            "123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 "};
    struct message m;
    struct kept record;
    uint8_t echo[40];
    uint16_t length;

    (void)state;
    REGISTERS(h, 1, .mid = 1, .token_length = 2,
              OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text(OPTION_URI_PATH, "t")));
    origin_answer(h, origin_registration(h, NULL), TYPE_ACK, 0, &large);
    store_done(h, store_expect(h, STORE_PUT, NULL), 0);
    client_expect(h, 1, &m);
    assert_int_equal(m.code, CODE_UNAUTHORIZED);
    length = (uint16_t)m.first[SLOT_ECHO].length;
    memcpy(echo, m.first[SLOT_ECHO].value, length);
    store_expect(h, STORE_DELETE, NULL);
    origin_answer(h, origin_expect(h, &m), TYPE_ACK, 0, &large); /* nobody observed */
    REGISTERS(h, 1, .mid = 2, .token_length = 2,
              OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text(OPTION_URI_PATH, "t"),
                         addition_bytes(OPTION_ECHO, echo, length)));
    origin_answer(h, origin_registration(h, NULL), TYPE_ACK, 0, &large);
    store_done(h, store_expect(h, STORE_PUT, &record), 0);
    client_expect(h, 1, &m);
    assert_true(message_has(&m, SLOT_OBSERVE));
    stop(h);

    h = begin_at(2000 * SECOND_US);
    store_gives(h, &record, false);
    assert_int_equal(observe_usage(h).relations, 1);
    wait_for_one(h, 11);
    origin_answer(h, origin_registration(h, NULL), TYPE_ACK, 0, &again);
    wait_for_one(h, 11);
    expect_state(h, 1, TYPE_CON, "three", NULL);
    stop(h);
}

static void a_route_by_host_and_a_long_token(void **state)
{
    struct harness *h = begin_at(0);
    struct message asked;
    struct kept record;

    (void)state;
    REGISTERS(h, 1, .mid = 1, .token_length = 64,
              OPTIONS_OF(text(OPTION_URI_HOST, "virtual.example"), addition_uint(OPTION_OBSERVE, 0),
                         text(OPTION_URI_PATH, "v")));
    record = keep(h, "10.99.0.6", &asked);
    stop(h);
    stop(comes_back(&record, &asked, "10.99.0.6"));
}

static void a_stripped_prefix_and_an_empty_token(void **state)
{
    struct harness *h = begin_at(0);
    struct message asked;
    struct kept record;

    (void)state;
    REGISTERS(h, 1, .mid = 1, .token_length = 0,
              OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text(OPTION_URI_PATH, "strip"),
                         text(OPTION_URI_PATH, "t")));
    record = keep(h, "10.99.0.6", &asked);
    assert_int_equal(asked.first[SLOT_URI_PATH].length, 1);
    stop(h);
    stop(comes_back(&record, &asked, "10.99.0.6"));
}

static void a_question_with_a_payload(void **state)
{
    struct harness *h = begin_at(0);
    struct message asked;
    struct kept record;

    (void)state;
    REGISTERS(h, 1, .code = CODE_FETCH, .mid = 1, .token_length = 8, .payload = "select",
              OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text(OPTION_URI_PATH, "t"),
                         addition_uint(OPTION_CONTENT_FORMAT, 60)));
    record = keep(h, "10.99.0.1", &asked);
    stop(h);
    stop(comes_back(&record, &asked, "10.99.0.1"));
}

/* What cannot be observed any more: there is no request of now that could be acknowledged. */
static void what_is_not_observed_is_answered_separately(void **state)
{
    struct harness *h = begin_at(0);
    struct message asked, m;
    struct store_relation head;
    struct kept record;
    struct encoder e;
    struct sent *s;

    (void)state;
    REGISTERS(h, 1, .mid = 1, .token_length = 2,
              OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text(OPTION_URI_PATH, "t")));
    record = keep(h, "10.99.0.1", &asked);
    stop(h);
    memcpy(&head, record.bytes, sizeof(head));
    encoder_begin(&e, record.bytes + sizeof(head), 900, TYPE_CON, CODE_GET, 1,
                  (const uint8_t *)"TT", 2);
    encoder_uint(&e, OPTION_OBSERVE, 0);
    encoder_option(&e, OPTION_URI_PATH, "t", 1);
    encoder_option(&e, 0x11c, "x", 1); /* no cache key: for this client alone */
    head.packet_length = (uint32_t)encoder_end(&e);
    memcpy(record.bytes, &head, sizeof(head));
    record.length = (uint32_t)sizeof(head) + head.packet_length;

    h = begin_at(2000 * SECOND_US);
    store_gives(h, &record, false);
    store_expect(h, STORE_DELETE, NULL);
    s = origin_expect(h, &m);
    harness_advance(h, SECOND_US);
    harness_silent(h);
    origin_answer(h, s, TYPE_ACK, 0, &first);
    assert_int_equal(expect_state(h, 1, TYPE_CON, "one", NULL), -1);
    stop(h);
}

/* ---- what was registered last ---- */

static void the_last_registration_counts(void **state)
{
    struct harness *h = begin_at(0);
    struct message asked, m;
    struct kept before, after;

    (void)state;
    REGISTERS(h, 1, .mid = 1, .token_length = 2,
              OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text(OPTION_URI_PATH, "t")));
    before = keep(h, "10.99.0.1", &asked);
    REGISTERS(h, 1, .mid = 2, .token_length = 2,
              OPTIONS_OF(text(OPTION_ETAG, "known"), addition_uint(OPTION_OBSERVE, 0),
                         text(OPTION_URI_PATH, "t")));
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    store_untold(h); /* that asks for nothing else */
    REGISTERS(h, 1, .mid = 3, .token_length = 2,
              OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text(OPTION_URI_PATH, "t"),
                         addition_uint(OPTION_BLOCK2, 1)));
    harness_silent(h);
    store_done(h, store_expect(h, STORE_PUT, &after), 0);
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    assert_true(after.length > before.length);
    assert_int_equal(message_parse(after.bytes + sizeof(struct store_relation),
                                   after.length - sizeof(struct store_relation), &m),
                     VERDICT_OK);
    assert_int_equal(message_uint(&m, SLOT_BLOCK2, 0), 1);
    stop(h);
}

/* ---- sweeps ---- */

static void join(struct harness *h, unsigned n)
{
    REGISTERS(h, n, .mid = 1, .token_length = 2,
              OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text(OPTION_URI_PATH, "t")));
}

/* One of what has no record does not take the place of one of all. */
static void a_sweep_is_not_cut_short(void **state)
{
    struct harness *h = begin_at(0);
    struct message m;

    (void)state;
    join(h, 1);
    (void)keep(h, "10.99.0.1", &m);
    join(h, 2);
    store_done(h, store_expect(h, STORE_PUT, NULL), 0);
    expect_state(h, 2, TYPE_ACK, "one", NULL);
    h->deaf = true;
    store_says(h, STORE_DOWN);
    store_says(h, STORE_UP);
    join(h, 3);
    expect_state(h, 3, TYPE_ACK, "one", NULL);
    harness_advance(h, 10 * SECOND_US);
    h->deaf = false;
    harness_advance(h, 10000);
    for (unsigned i = 0; i < 3; i++)
        store_expect(h, STORE_PUT, NULL);
    stop(h);
}

static void nothing_is_put_while_the_store_is_away(void **state)
{
    struct harness *h = begin_at(0);
    struct message m;

    (void)state;
    join(h, 1);
    (void)keep(h, "10.99.0.1", &m);
    join(h, 2);
    store_done(h, store_expect(h, STORE_PUT, NULL), -ETIMEDOUT);
    expect_state(h, 2, TYPE_ACK, "one", NULL);
    store_says(h, STORE_DOWN);
    harness_advance(h, 60 * SECOND_US);
    store_untold(h);
    store_says(h, STORE_UP);
    store_expect(h, STORE_PUT, NULL);
    store_expect(h, STORE_PUT, NULL);
    store_untold(h);
    stop(h);
}

static void answers_to_nothing_do_nothing(void **state)
{
    struct harness *h = begin_at(0);
    struct message m;

    (void)state;
    join(h, 1);
    (void)keep(h, "10.99.0.1", &m);
    for (uint64_t index = 0; index < 3; index++) {
        store_done(h, index, 0); /* a hold that was there */
        store_done(h, UINT64_C(1) << 62 | index, -EIO);
        store_done(h, UINT64_MAX >> 1, 0);
    }
    harness_silent(h);
    stop(h);
}

/* ---- numbers ---- */

static void mark_is(struct harness *h, uint64_t mark)
{
    const struct store_head head = {.mark = mark};

    store_says_head(h, STORE_MARK, &head, NULL);
}

/* Which mark is asked for; 0: none. */
static uint64_t asked_mark(struct harness *h)
{
    struct store_head head;

    if (h->told_taken == h->told_count)
        return 0;
    assert_int_equal(h->told[h->told_taken]->type, STORE_MARK_ASK);
    assert_true(parcel_read(h->told[h->told_taken], 0, &head, sizeof(head)));
    parcel_free(h->parcels, h->told[h->told_taken++]);
    return head.mark;
}

static uint64_t renew(struct harness *h, uint16_t mid)
{
    REGISTERS(h, 1, .mid = mid, .token_length = 2,
              OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text(OPTION_URI_PATH, "t")));
    expect_state(h, 1, TYPE_ACK, "one", NULL);
    return asked_mark(h);
}

/* Each answer to a registration has one of its own: they may leave the clock behind without a new
 * state. */
static void every_number_counts_towards_the_mark(void **state)
{
    struct harness *h = begin_at(0);
    struct message m;
    uint64_t clock = h->now >> 14, asked = 0;
    unsigned n = 0;

    (void)state;
    (void)asked_mark(h);
    mark_is(h, clock + 1200);
    join(h, 1);
    (void)keep(h, "10.99.0.1", &m);
    for (; n < 300 && !asked; n++)
        asked = renew(h, (uint16_t)(2 + n));
    assert_in_range(n, 100, 200);
    assert_true(asked > clock + 1200);
    /* What was used while the store was away, is told when it is back. */
    store_says(h, STORE_DOWN);
    mark_is(h, clock + 1500);
    for (unsigned end = n + 400; n < end; n++)
        assert_int_equal(renew(h, (uint16_t)(2 + n)), 0);
    store_says(h, STORE_UP);
    assert_true(asked_mark(h) > clock + 1500);
    stop(h);
}

/* ---- origins that are not there yet ---- */

/* An origin that was started with the gateway and takes minutes does not cost its observers. */
static void an_origin_may_take_longer(void **state)
{
    struct harness *h = begin_at(0);
    struct message m;
    struct kept record;
    struct sent *s = NULL;

    (void)state;
    join(h, 1);
    record = keep(h, "10.99.0.1", &m);
    stop(h);
    h = begin_at(2000 * SECOND_US);
    store_gives(h, &record, false);
    for (unsigned i = 0; i < 240; i++) {
        harness_advance(h, SECOND_US);
        while ((s = harness_take(h)) != NULL) {
            assert_int_equal(s->flow.peer_port, 5683);
            worker_unreachable(h->worker, &s->flow, s->data, s->length, h->now);
        }
    }
    assert_int_equal(observe_usage(h).relations, 1);
    wait_for_one(h, 60);
    origin_answer(h, origin_registration(h, NULL), TYPE_ACK, 0, &again);
    wait_for_one(h, 11);
    expect_state(h, 1, TYPE_CON, "three", NULL);
    stop(h);
}

/* But not for ever. */
static void an_origin_that_stays_away_is_told(void **state)
{
    struct harness *h = begin_at(0);
    struct message m;
    struct kept record;
    struct sent *s = NULL;
    bool told = false;

    (void)state;
    join(h, 1);
    record = keep(h, "10.99.0.1", &m);
    stop(h);
    h = begin_at(2000 * SECOND_US);
    store_gives(h, &record, false);
    for (unsigned i = 0; i < 600 && !told; i++) {
        harness_advance(h, SECOND_US);
        while ((s = harness_take(h)) != NULL && !told) {
            told = s->flow.peer_port != 5683;
            if (!told)
                worker_unreachable(h->worker, &s->flow, s->data, s->length, h->now);
        }
    }
    assert_true(told);
    store_expect(h, STORE_DELETE, NULL);
    assert_int_equal(observe_usage(h).relations, 0);
    stop(h);
}

/* More than the queue to an origin holds come back at once: they go when there is room. */
static void a_full_queue_is_no_failure(void **state)
{
    static const char *const paths[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct harness *h = begin_at(0);
    struct kept records[8];
    struct message m;
    struct sent *s;
    unsigned told = 0;

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        REGISTERS(h, 1, .mid = (uint16_t)(1 + i), .token_length = 1 + i,
                  OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0), text(OPTION_URI_PATH, paths[i])));
        records[i] = keep(h, "10.99.0.1", &m);
    }
    stop(h);
    h = begin_at(2000 * SECOND_US);
    for (unsigned i = 0; i < 8; i++)
        store_gives(h, &records[i], false);
    harness_advance(h, 60 * SECOND_US); /* it is slow */
    assert_int_equal(observe_usage(h).relations, 8);
    for (unsigned i = 0; i < 600 && told < 8; i++) {
        harness_advance(h, SECOND_US / 10);
        while ((s = harness_take(h)) != NULL) {
            assert_int_equal(message_parse(s->data, s->length, &m), VERDICT_OK);
            if (s->flow.peer_port == 5683) {
                origin_answer(h, s, TYPE_ACK, 0, &again);
                continue;
            }
            assert_int_equal(m.code, CODE_CONTENT);
            told++;
            client_empty(h, 1, TYPE_ACK, m.mid);
        }
    }
    assert_int_equal(told, 8);
    assert_int_equal(observe_usage(h).relations, 8);
    stop(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_went_through_the_forward_proxy),
        cmocka_unit_test(what_went_to_a_name),
        cmocka_unit_test(a_destination_waits_for_its_registration),
        cmocka_unit_test(what_is_the_gateways_own),
        cmocka_unit_test(what_was_registered_with_an_echo),
        cmocka_unit_test(a_route_by_host_and_a_long_token),
        cmocka_unit_test(a_stripped_prefix_and_an_empty_token),
        cmocka_unit_test(a_question_with_a_payload),
        cmocka_unit_test(what_is_not_observed_is_answered_separately),
        cmocka_unit_test(the_last_registration_counts),
        cmocka_unit_test(a_sweep_is_not_cut_short),
        cmocka_unit_test(nothing_is_put_while_the_store_is_away),
        cmocka_unit_test(answers_to_nothing_do_nothing),
        cmocka_unit_test(every_number_counts_towards_the_mark),
        cmocka_unit_test(an_origin_may_take_longer),
        cmocka_unit_test(an_origin_that_stays_away_is_told),
        cmocka_unit_test(a_full_queue_is_no_failure),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
