/* Held resources in several workers: owners, replicas, and what is on the way between them. */
#include <rte_mempool.h>

#include "tests/unit/crew_harness.h"

#define WORKERS 3

static int start(void **state)
{
    *state = crew_start(RESOURCE_YAML, WORKERS, 2047);
    return 0;
}

static int stop(void **state)
{
    crew_stop(*state);
    return 0;
}

static uint64_t refusals(const struct crew *c)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < c->count; i++)
        sum += worker_counters(c->h[i].worker)->resources_refused;
    return sum;
}

/* Puts through a worker, carries, and expects the code. */
static struct etag put_carried(struct crew *c, unsigned worker, unsigned client, const char *path,
                               const char *payload, uint8_t code)
{
    struct etag etag = {0};
    struct message m;

    client_puts(&c->h[worker], client, path, FORMAT_TEXT, payload);
    crew_carry(c);
    expect_at_client(&c->h[worker], client, code, &m);
    assert_int_equal(m.type, TYPE_ACK);
    if (message_has(&m, SLOT_ETAG)) {
        etag.length = (uint8_t)m.first[SLOT_ETAG].length;
        memcpy(etag.bytes, m.first[SLOT_ETAG].value, etag.length);
    }
    return etag;
}

static void what_one_worker_takes_all_give(void **state)
{
    struct crew *c = *state;
    struct message m;

    for (unsigned owner = 0; owner < WORKERS; owner++)
        for (unsigned asked = 0; asked < WORKERS; asked++) {
            const char *path = crew_path(c, owner, asked);

            put_carried(c, asked, 1, path, "one", CODE_CREATED);
            for (unsigned i = 0; i < WORKERS; i++)
                gets_ok(&c->h[i], 2, path, "one");
            put_carried(c, (asked + 1) % WORKERS, 1, path, "two", CODE_CHANGED);
            for (unsigned i = 0; i < WORKERS; i++)
                gets_ok(&c->h[i], 2, path, "two");
            client_deletes(&c->h[(asked + 2) % WORKERS], 1, path);
            crew_carry(c);
            expect_at_client(&c->h[(asked + 2) % WORKERS], 1, CODE_DELETED, &m);
            for (unsigned i = 0; i < WORKERS; i++)
                gets_code(&c->h[i], 2, path, CODE_NOT_FOUND);
        }
    assert_int_equal(refusals(c), 0);
}

/* All workers give the same ETag: a client that comes to another one after a change of its address
 * need not fetch it again. */
static void replicas_agree_on_what_they_have(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    struct etag etag = put_carried(c, 0, 1, path, "one", CODE_CREATED);
    struct message m;

    assert_int_equal(etag.length, 8);
    for (unsigned i = 0; i < WORKERS; i++) {
        CLIENT(&c->h[i], 1, .type = TYPE_CON, .code = CODE_GET, .path = path,
               OPTIONS_OF(addition_bytes(OPTION_ETAG, etag.bytes, 8)));
        expect_at_client(&c->h[i], 1, CODE_VALID, &m);
        client_gets(&c->h[i], 1, path);
        expect_at_client(&c->h[i], 1, CODE_CONTENT, &m);
        assert_int_equal(option_of(&m, SLOT_CONTENT_FORMAT), FORMAT_TEXT);
    }
}

static void who_has_heard_of_its_write_sees_it(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    struct message m;

    client_puts(&c->h[0], 1, path, FORMAT_TEXT, "one");
    harness_silent(&c->h[0]);
    assert_true(crew_carry_one(c, 0, 1)); /* the owner has decided */
    gets_ok(&c->h[1], 2, path, "one");
    gets_code(&c->h[0], 2, path, CODE_NOT_FOUND);
    gets_code(&c->h[2], 2, path, CODE_NOT_FOUND);
    assert_true(crew_carry_one(c, 1, 0)); /* the state comes before the outcome */
    gets_ok(&c->h[0], 2, path, "one");
    assert_true(crew_carry_one(c, 1, 0));
    expect_at_client(&c->h[0], 1, CODE_CREATED, &m);
    crew_carry(c);
    gets_ok(&c->h[2], 2, path, "one");
}

static uint8_t carried_code(struct crew *c, unsigned worker, unsigned client)
{
    struct flow flow = harness_client(&c->h[worker], client);
    struct message m;
    struct sent *s = harness_expect(&c->h[worker], &m);

    assert_true(flow_equal(&s->flow, &flow));
    return m.code;
}

static void the_owner_orders_what_races(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 0, 0);
    struct etag etag = put_carried(c, 0, 9, path, "zero", CODE_CREATED);

    /* Both have seen the same state; one of them comes first. */
    for (unsigned i = 1; i < WORKERS; i++)
        CLIENT(&c->h[i], i, .type = TYPE_CON, .code = CODE_PUT, .path = path,
               OPTIONS_OF(addition_bytes(OPTION_IF_MATCH, etag.bytes, 8)),
               .payload = i == 1 ? "one" : "two", .payload_length = 3);
    assert_true(crew_carry_one(c, 2, 0));
    crew_carry(c);
    assert_int_equal(carried_code(c, 2, 2), CODE_CHANGED);
    assert_int_equal(carried_code(c, 1, 1), CODE_PRECONDITION_FAILED);
    for (unsigned i = 0; i < WORKERS; i++)
        gets_ok(&c->h[i], 3, path, "two");

    /* And two that want to be the first. */
    path = crew_path(c, 0, 1);
    for (unsigned i = 1; i < WORKERS; i++)
        CLIENT(&c->h[i], i, .type = TYPE_CON, .code = CODE_PUT, .path = path,
               OPTIONS_OF(addition_bytes(OPTION_IF_NONE_MATCH, "", 0)),
               .payload = i == 1 ? "one" : "two", .payload_length = 3);
    crew_carry(c);
    assert_int_equal(carried_code(c, 1, 1), CODE_CREATED);
    assert_int_equal(carried_code(c, 2, 2), CODE_PRECONDITION_FAILED);
    for (unsigned i = 0; i < WORKERS; i++)
        gets_ok(&c->h[i], 3, path, "one");
}

static void long_bodies_cross(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 2, 0);
    static uint8_t body[20000];
    struct message m;

    body_fill(body, sizeof(body), 5);
    for (uint32_t at = 0; at < sizeof(body); at += 1024) {
        bool more = at + 1024 < sizeof(body);

        CLIENT(&c->h[0], 1, .type = TYPE_CON, .code = CODE_PUT, .path = path,
               OPTIONS_OF(block_option(OPTION_BLOCK1, at / 1024, more, 6)), .payload = body + at,
               .payload_length = more ? 1024 : sizeof(body) - at);
        crew_carry(c);
        expect_at_client(&c->h[0], 1, more ? CODE_CONTINUE : CODE_CREATED, &m);
        assert_block(&m, SLOT_BLOCK1, at / 1024, more, 6);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        for (uint32_t at = 0; at < sizeof(body); at += 1024) {
            CLIENT(&c->h[i], 2, .type = TYPE_CON, .code = CODE_GET, .path = path,
                   OPTIONS_OF(block_option(OPTION_BLOCK2, at / 1024, false, 6)));
            expect_at_client(&c->h[i], 2, CODE_CONTENT, &m);
            assert_payload(&m, body + at, sizeof(body) - at < 1024 ? sizeof(body) - at : 1024);
        }
}

static void observers_on_all_workers_hear(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    int64_t numbers[WORKERS];
    struct message m;

    put_carried(c, 2, 9, path, "zero", CODE_CREATED);
    for (unsigned i = 0; i < WORKERS; i++) {
        client_watches(&c->h[i], 10 + i, path);
        expect_at_client(&c->h[i], 10 + i, CODE_CONTENT, &m);
        numbers[i] = message_uint(&m, SLOT_OBSERVE, 0);
    }
    for (unsigned turn = 0; turn < 3; turn++) { /* through the owner and through others */
        char payload[8];

        snprintf(payload, sizeof(payload), "%u", turn);
        client_puts(&c->h[turn], 9, path, FORMAT_TEXT, payload);
        crew_carry(c);
        for (unsigned i = 0; i < WORKERS; i++) {
            if (i == turn)
                expect_at_client(&c->h[i], 9, CODE_CHANGED, &m);
            expect_at_client(&c->h[i], 10 + i, CODE_CONTENT, &m);
            assert_payload(&m, payload, strlen(payload));
            assert_in_range((message_uint(&m, SLOT_OBSERVE, 0) - numbers[i]) & 0xffffff, 1,
                            0x7fffff);
            numbers[i] = message_uint(&m, SLOT_OBSERVE, 0);
            harness_silent(&c->h[i]);
        }
    }
    client_deletes(&c->h[0], 9, path);
    crew_carry(c);
    expect_at_client(&c->h[0], 9, CODE_DELETED, &m);
    for (unsigned i = 0; i < WORKERS; i++) {
        expect_at_client(&c->h[i], 10 + i, CODE_NOT_FOUND, &m);
        assert_int_equal(m.type, TYPE_CON);
        assert_int_equal(usage_of(&c->h[i]).relations, 0);
        assert_int_equal(usage_of(&c->h[i]).observations, 0);
    }
}

static void duplicates_are_known_while_it_is_on_its_way(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    struct message m;

    for (unsigned i = 0; i < 3; i++)
        CLIENT(&c->h[0], 1, .type = TYPE_CON, .code = CODE_PUT, .mid = 9, .path = path,
               .payload = "x", .payload_length = 1);
    assert_int_equal(c->rings[0][1].count, 1);
    crew_carry(c);
    expect_at_client(&c->h[0], 1, CODE_CREATED, &m);
    harness_silent(&c->h[0]);
    CLIENT(&c->h[0], 1, .type = TYPE_CON, .code = CODE_PUT, .mid = 9, .path = path, .payload = "x",
           .payload_length = 1);
    expect_at_client(&c->h[0], 1, CODE_CREATED, &m);
    assert_int_equal(c->rings[0][1].count, 0);
}

/* ---- what is full ---- */

static void a_full_ring_to_the_owner_refuses(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    struct message m;

    c->rings[0][1].capacity = 0;
    client_puts(&c->h[0], 1, path, FORMAT_TEXT, "x");
    expect_at_client(&c->h[0], 1, CODE_SERVICE_UNAVAILABLE, &m);
    assert_true(message_has(&m, SLOT_MAX_AGE));
    c->rings[0][1].capacity = CREW_RING_MAX;
    crew_carry(c);
    gets_code(&c->h[1], 2, path, CODE_NOT_FOUND);
    put_carried(c, 0, 1, path, "x", CODE_CREATED);
}

static void what_cannot_be_told_to_all_is_not_done(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    struct message m;

    put_carried(c, 1, 1, path, "before", CODE_CREATED);
    client_watches(&c->h[1], 5, path);
    expect_at_client(&c->h[1], 5, CODE_CONTENT, &m);
    c->rings[1][2].capacity = 0; /* worker 2 takes nothing from the owner */
    put_carried(c, 0, 1, path, "after", CODE_SERVICE_UNAVAILABLE);
    put_carried(c, 1, 1, path, "after", CODE_SERVICE_UNAVAILABLE);
    client_deletes(&c->h[0], 1, path);
    crew_carry(c);
    expect_at_client(&c->h[0], 1, CODE_SERVICE_UNAVAILABLE, &m);
    for (unsigned i = 0; i < WORKERS; i++) {
        gets_ok(&c->h[i], 2, path, "before");
        harness_silent(&c->h[i]);
    }
    c->rings[1][2].capacity = CREW_RING_MAX;
    c->rings[1][0].capacity = 1; /* the state fits, but not the outcome behind it */
    put_carried(c, 0, 1, path, "after", CODE_SERVICE_UNAVAILABLE);
    gets_ok(&c->h[0], 2, path, "before");
    gets_ok(&c->h[1], 2, path, "before");
    c->rings[1][0].capacity = CREW_RING_MAX;
    put_carried(c, 0, 1, path, "after", CODE_CHANGED);
    assert_int_equal(refusals(c), 4);
}

static int start_small_pool(void **state)
{
    *state = crew_start(RESOURCE_YAML, WORKERS, 31);
    return 0;
}

static void without_parcels_nothing_is_done(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    struct parcel *taken[31];
    struct message m;
    unsigned n = 0;

    while (n < 31 && (taken[n] = parcel_new(c->parcels, PARCEL_RESOURCE, 0, 1)))
        n++;
    for (unsigned left = 0; left < 3; left++) {
        client_puts(&c->h[0], 1, path, FORMAT_TEXT, "x");
        crew_carry(c);
        expect_at_client(&c->h[0], 1, CODE_SERVICE_UNAVAILABLE, &m);
        client_puts(&c->h[1], 1, path, FORMAT_TEXT, "x");
        if (left == 2) { /* enough for two states */
            expect_at_client(&c->h[1], 1, CODE_CREATED, &m);
            break;
        }
        expect_at_client(&c->h[1], 1, CODE_SERVICE_UNAVAILABLE, &m);
        for (unsigned i = 0; i < WORKERS; i++)
            gets_code(&c->h[i], 2, path, CODE_NOT_FOUND);
        parcel_free(c->parcels, taken[--n]);
    }
    crew_carry(c);
    while (n)
        parcel_free(c->parcels, taken[--n]);
    for (unsigned i = 0; i < WORKERS; i++)
        gets_ok(&c->h[i], 2, path, "x");
    put_carried(c, 0, 1, path, "y", CODE_CHANGED);
}

/* ---- time ---- */

static void without_an_outcome_the_client_hears_in_time(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    struct message m;

    client_puts(&c->h[0], 1, path, FORMAT_TEXT, "x");
    harness_advance(&c->h[0], SECOND_US);
    expect_at_client(&c->h[0], 1, CODE_EMPTY, &m); /* the ACK */
    harness_silent(&c->h[0]);
    harness_advance(&c->h[0], SECOND_US + 10000);
    expect_at_client(&c->h[0], 1, CODE_SERVICE_UNAVAILABLE, &m);
    assert_int_equal(worker_counters(c->h[0].worker)->resource_timeouts, 1);
    client_puts(&c->h[0], 2, path, FORMAT_TEXT, "y"); /* takes the place of the first */
    crew_carry(c);
    /* The outcome of the first comes too late, and is not taken for that of the second. */
    expect_at_client(&c->h[0], 2, CODE_CHANGED, &m);
    harness_silent(&c->h[0]);
    gets_ok(&c->h[2], 3, path, "y");
}

static void an_outcome_that_finds_the_ring_full_waits(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    struct addition any = addition_bytes(OPTION_IF_MATCH, "", 0);
    struct message m;

    c->rings[1][0].capacity = 0;
    CLIENT(&c->h[0], 1, .type = TYPE_CON, .code = CODE_PUT, .path = path, .options = &any,
           .option_count = 1, .payload = "x", .payload_length = 1);
    crew_carry(c);
    harness_silent(&c->h[0]);
    c->rings[1][0].capacity = CREW_RING_MAX;
    crew_advance(c, 2000);
    crew_carry(c);
    expect_at_client(&c->h[0], 1, CODE_PRECONDITION_FAILED, &m);
}

/* ---- limits of all workers together ---- */

#define LIMITED_YAML               \
    RESOURCE_YAML_HEAD             \
    "limits: {amplification: 0}\n" \
    "routes:\n"                    \
    "  - path: /shared\n"          \
    "    resources: {max: 20}\n"

static int start_limited(void **state)
{
    *state = crew_start(LIMITED_YAML, WORKERS, 2047);
    return 0;
}

static void the_limit_is_reached_and_kept(void **state)
{
    struct crew *c = *state;
    unsigned created = 0;
    char path[32];

    for (unsigned i = 0; i < 40; i++) {
        struct message m;
        unsigned worker = i % WORKERS;

        snprintf(path, sizeof(path), "shared/x%u", i);
        client_puts(&c->h[worker], 1, path, FORMAT_TEXT, "x");
        crew_carry(c);
        harness_expect(&c->h[worker], &m);
        assert_int_equal(m.code, i < 20 ? CODE_CREATED : CODE_SERVICE_UNAVAILABLE);
        created += m.code == CODE_CREATED;
    }
    assert_int_equal(created, 20);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(usage_of(&c->h[i]).resources, 20);
}

/* What has not arrived is not counted: each owner may go up to the limit by itself. Nothing is lost
 * all the same, and afterwards the limit holds. */
static void what_is_on_the_way_may_exceed_it(void **state)
{
    struct crew *c = *state;
    struct message m;
    uint32_t count;

    for (unsigned owner = 0; owner < WORKERS; owner++)
        for (unsigned n = 0; n < 25; n++)
            client_puts(&c->h[owner], 1 + n, crew_path(c, owner, n), FORMAT_TEXT, "x");
    crew_carry(c);
    count = usage_of(&c->h[0]).resources;
    assert_int_equal(count, 20 * WORKERS);
    for (unsigned i = 1; i < WORKERS; i++)
        assert_int_equal(usage_of(&c->h[i]).resources, count);
    for (unsigned i = 0; i < WORKERS; i++)
        c->h[i].count = c->h[i].taken = 0;
    client_puts(&c->h[0], 90, crew_path(c, 0, 30), FORMAT_TEXT, "x");
    expect_at_client(&c->h[0], 90, CODE_SERVICE_UNAVAILABLE, &m);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_one_worker_takes_all_give),
        TEST(replicas_agree_on_what_they_have),
        TEST(who_has_heard_of_its_write_sees_it),
        TEST(the_owner_orders_what_races),
        TEST(long_bodies_cross),
        TEST(observers_on_all_workers_hear),
        TEST(duplicates_are_known_while_it_is_on_its_way),
        TEST(a_full_ring_to_the_owner_refuses),
        TEST(what_cannot_be_told_to_all_is_not_done),
        cmocka_unit_test_setup_teardown(without_parcels_nothing_is_done, start_small_pool, stop),
        TEST(without_an_outcome_the_client_hears_in_time),
        TEST(an_outcome_that_finds_the_ring_full_waits),
        cmocka_unit_test_setup_teardown(the_limit_is_reached_and_kept, start_limited, stop),
        cmocka_unit_test_setup_teardown(what_is_on_the_way_may_exceed_it, start_limited, stop),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
