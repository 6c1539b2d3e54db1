/* Held resources and the store, which is played by hand: two workers. */
#include <rte_mempool.h>

#include "tests/unit/crew_harness.h"

#define WORKERS 2

#define STORE_YAML(store)                                 \
    RESOURCE_YAML_HEAD                                    \
    "limits: {amplification: 0}\n"                        \
    "store: {url: \"redis://127.0.0.1:6379\"" store "}\n" \
    "routes:\n"                                           \
    "  - path: /shared\n"                                 \
    "    resources: {}\n"                                 \
    "  - path: /shared/few\n"                             \
    "    resources: {max: 2}\n"                           \
    "  - {path: /own, host: h.example, resources: {}}\n"

/* A record as the store has it. */
struct kept {
    struct store_head head;
    struct store_resource resource;
    char name[64];
    uint8_t payload[4096];
    unsigned type;
};

static struct kept kept_read(const struct crew *c, struct parcel *parcel)
{
    struct kept k = {.type = parcel->type};
    uint32_t at = sizeof(k.head);

    assert_int_equal(parcel->kind, PARCEL_RECORD);
    assert_true(parcel_read(parcel, 0, &k.head, sizeof(k.head)));
    assert_int_equal(k.head.what, STORE_RESOURCE);
    assert_true(parcel_read(parcel, at, &k.resource, sizeof(k.resource)));
    at += sizeof(k.resource);
    assert_true(k.resource.name_length < sizeof(k.name));
    assert_true(parcel_read(parcel, at, k.name, k.resource.name_length));
    at += k.resource.name_length;
    assert_true(k.resource.payload_length <= sizeof(k.payload));
    assert_true(parcel_read(parcel, at, k.payload, k.resource.payload_length));
    assert_int_equal(parcel->length, at + k.resource.payload_length);
    parcel_free(c->parcels, parcel);
    return k;
}

/* The next parcel to the store. */
static struct kept store_expect(struct crew *c, unsigned worker, unsigned type, const char *path)
{
    struct parcel *parcel = crew_pop(&c->store[worker]);
    struct kept k;

    assert_non_null(parcel);
    k = kept_read(c, parcel);
    assert_int_equal(k.type, type);
    assert_int_equal(k.name[0], '/');
    assert_string_equal(k.name + 1, path);
    return k;
}

#define store_silent(c, worker) assert_int_equal((c)->store[worker].count, 0)

static void store_says(struct crew *c, unsigned worker, enum store_type type,
                       const struct store_head *head, const struct kept *k)
{
    uint32_t at = sizeof(*head);
    uint32_t length =
        k ? (uint32_t)sizeof(k->resource) + k->resource.name_length + k->resource.payload_length
          : 0;
    struct parcel *parcel = parcel_new(c->parcels, PARCEL_RECORD, (uint16_t)type, at + length);

    assert_non_null(parcel);
    assert_true(parcel_write(parcel, 0, head, sizeof(*head)));
    if (k) {
        assert_true(parcel_write(parcel, at, &k->resource, sizeof(k->resource)));
        at += sizeof(k->resource);
        assert_true(parcel_write(parcel, at, k->name, k->resource.name_length));
        at += k->resource.name_length;
        assert_true(parcel_write(parcel, at, k->payload, k->resource.payload_length));
    }
    worker_told(c->h[worker].worker, parcel, c->h[worker].now);
}

static void store_tells_all(struct crew *c, enum store_type type)
{
    const struct store_head head = {.cookie = 0};

    for (unsigned i = 0; i < c->count; i++)
        store_says(c, i, type, &head, NULL);
    crew_advance(c, 2000);
}

static void store_done(struct crew *c, unsigned worker, uint64_t cookie, int error)
{
    const struct store_head head = {.cookie = cookie, .error = error, .what = STORE_RESOURCE};

    assert_true(cookie != 0);
    store_says(c, worker, STORE_DONE, &head, NULL);
}

/* The next parcel to the store is about a relation. */
static void relation_expect(struct crew *c, unsigned worker, unsigned type)
{
    struct parcel *parcel = crew_pop(&c->store[worker]);
    struct store_head head;

    assert_non_null(parcel);
    assert_int_equal(parcel->type, type);
    assert_true(parcel_read(parcel, 0, &head, sizeof(head)));
    assert_int_equal(head.what, STORE_RELATION);
    parcel_free(c->parcels, parcel);
    if (type == STORE_PUT)
        store_says(c, worker, STORE_DONE, &(struct store_head){.cookie = head.cookie}, NULL);
}

static void store_gives(struct crew *c, const struct kept *k, bool verify)
{
    const struct store_head head = {.what = STORE_RESOURCE, .verify = verify};

    for (unsigned i = 0; i < c->count; i++)
        store_says(c, i, STORE_RECORD, &head, k);
}

static struct kept record_of(const char *path, uint64_t version, const char *payload)
{
    struct kept k = {.resource = {.version = version, .format = FORMAT_TEXT, .etag_length = 8}};

    k.resource.name_length = (uint32_t)snprintf(k.name, sizeof(k.name), "/%s", path);
    k.resource.payload_length = (uint32_t)strlen(payload);
    memcpy(k.payload, payload, strlen(payload));
    memcpy(k.resource.etag, "ETAGETAG", 8);
    return k;
}

/* ---- start and stop ---- */

static void begin(void **state, const char *yaml, bool up)
{
    struct crew *c = crew_start(yaml, WORKERS, 2047);

    if (up) {
        store_tells_all(c, STORE_UP);
        store_tells_all(c, STORE_RESUMED);
    }
    *state = c;
}

static int start(void **state)
{
    begin(state, STORE_YAML(""), true);
    return 0;
}

static int start_strict(void **state)
{
    begin(state, STORE_YAML(", on_failure: reject"), true);
    return 0;
}

static int start_early(void **state)
{
    begin(state, STORE_YAML(""), false);
    return 0;
}

static int start_early_strict(void **state)
{
    begin(state, STORE_YAML(", on_failure: reject"), false);
    return 0;
}

static int stop(void **state)
{
    crew_stop(*state);
    return 0;
}

/* ---- write-through ---- */

static void the_answer_waits_for_the_record(void **state)
{
    struct crew *c = *state;
    struct message m;

    for (unsigned owner = 0; owner < WORKERS; owner++) { /* of our own client, and of another's */
        const char *path = crew_path(c, owner, 0);
        struct kept k;

        client_puts(&c->h[0], 1, path, FORMAT_TEXT, "one");
        crew_carry(c);
        harness_silent(&c->h[0]);
        k = store_expect(c, owner, STORE_PUT, path);
        assert_int_equal(k.resource.format, FORMAT_TEXT);
        assert_int_equal(k.resource.payload_length, 3);
        assert_memory_equal(k.payload, "one", 3);
        store_done(c, owner, k.head.cookie, 0);
        crew_carry(c);
        expect_at_client(&c->h[0], 1, CODE_CREATED, &m);
        assert_memory_equal(m.first[SLOT_ETAG].value, k.resource.etag, 8);
        for (unsigned i = 0; i < WORKERS; i++)
            gets_ok(&c->h[i], 2, path, "one");

        client_deletes(&c->h[0], 1, path);
        crew_carry(c);
        expect_at_client(&c->h[0], 1, CODE_DELETED, &m);
        (void)store_expect(c, owner, STORE_DELETE, path);
        store_silent(c, 0);
        store_silent(c, 1);
    }
}

static void an_answer_to_nobody_is_ignored(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 0, 0);
    struct message m;
    struct kept k;

    client_puts(&c->h[0], 1, path, FORMAT_TEXT, "one");
    k = store_expect(c, 0, STORE_PUT, path);
    store_done(c, 0, k.head.cookie + (UINT64_C(1) << 32), 0); /* of another time */
    harness_silent(&c->h[0]);
    crew_advance(c, 3 * SECOND_US); /* 2 s, and 500 ms of the store's */
    expect_at_client(&c->h[0], 1, CODE_EMPTY, &m);
    expect_at_client(&c->h[0], 1, CODE_SERVICE_UNAVAILABLE, &m);
    store_done(c, 0, k.head.cookie, 0);
    harness_silent(&c->h[0]);
}

static void a_failed_record_is_served_and_tried_again(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0), *other = crew_path(c, 1, 1);
    struct message m;
    struct kept k;

    client_puts(&c->h[1], 1, other, FORMAT_TEXT, "kept");
    store_done(c, 1, store_expect(c, 1, STORE_PUT, other).head.cookie, 0);
    expect_at_client(&c->h[1], 1, CODE_CREATED, &m);
    client_puts(&c->h[0], 1, path, FORMAT_TEXT, "one");
    crew_carry(c);
    store_done(c, 1, store_expect(c, 1, STORE_PUT, path).head.cookie, -ENOSPC);
    crew_carry(c);
    expect_at_client(&c->h[0], 1, CODE_CREATED, &m);
    store_silent(c, 1);
    crew_advance(c, 6 * SECOND_US);
    k = store_expect(c, 1, STORE_PUT, path); /* that one alone */
    assert_memory_equal(k.payload, "one", 3);
    store_done(c, 1, k.head.cookie, -EIO);
    crew_advance(c, 6 * SECOND_US);
    k = store_expect(c, 1, STORE_PUT, path);
    store_done(c, 1, k.head.cookie, 0);
    crew_advance(c, 20 * SECOND_US);
    store_silent(c, 0);
    store_silent(c, 1);
}

static void a_failed_record_is_refused(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    struct message m;

    client_puts(&c->h[0], 1, path, FORMAT_TEXT, "one");
    crew_carry(c);
    store_done(c, 1, store_expect(c, 1, STORE_PUT, path).head.cookie, -ETIMEDOUT);
    crew_carry(c);
    expect_at_client(&c->h[0], 1, CODE_SERVICE_UNAVAILABLE, &m);
    store_tells_all(c, STORE_DOWN);
    for (unsigned i = 0; i < WORKERS; i++) { /* nothing is changed any more */
        client_puts(&c->h[i], 1, path, FORMAT_TEXT, "two");
        crew_carry(c);
        expect_at_client(&c->h[i], 1, CODE_SERVICE_UNAVAILABLE, &m);
        client_deletes(&c->h[i], 1, path);
        crew_carry(c);
        expect_at_client(&c->h[i], 1, CODE_SERVICE_UNAVAILABLE, &m);
        gets_ok(&c->h[i], 2, path, "one");
    }
    store_silent(c, 1);
}

static void a_full_ring_to_the_store_refuses(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    struct message m;

    c->store[1].capacity = 0;
    client_puts(&c->h[0], 1, path, FORMAT_TEXT, "one");
    crew_carry(c);
    expect_at_client(&c->h[0], 1, CODE_SERVICE_UNAVAILABLE, &m);
    for (unsigned i = 0; i < WORKERS; i++)
        gets_code(&c->h[i], 2, path, CODE_NOT_FOUND);
}

static void an_outage_is_made_good(void **state)
{
    struct crew *c = *state;
    const char *mine = crew_path(c, 0, 0), *others = crew_path(c, 1, 0);
    struct message m;
    struct kept k, gone;

    client_puts(&c->h[0], 1, mine, FORMAT_TEXT, "before");
    k = store_expect(c, 0, STORE_PUT, mine);
    store_done(c, 0, k.head.cookie, 0);
    expect_at_client(&c->h[0], 1, CODE_CREATED, &m);
    store_tells_all(c, STORE_DOWN);
    client_puts(&c->h[0], 1, others, FORMAT_TEXT, "during");
    crew_carry(c);
    expect_at_client(&c->h[0], 1, CODE_CREATED, &m);
    store_silent(c, 0);
    store_silent(c, 1);
    store_tells_all(c, STORE_UP); /* each owner puts what it owns, all of it */
    (void)store_expect(c, 0, STORE_PUT, mine);
    (void)store_expect(c, 1, STORE_PUT, others);
    store_silent(c, 0);
    store_silent(c, 1);
    /* Asked about a record that was deleted meanwhile, the owner says so, and nobody else. */
    gone = record_of(crew_path(c, 1, 1), 5, "old");
    store_gives(c, &gone, true);
    store_silent(c, 0);
    (void)store_expect(c, 1, STORE_DELETE, gone.name + 1);
    gets_code(&c->h[0], 1, gone.name + 1, CODE_NOT_FOUND);
    store_gives(c, &k, true); /* it is as it should be */
    crew_advance(c, 10 * SECOND_US);
    store_silent(c, 0);
    store_silent(c, 1);
    k.resource.version--; /* it is not */
    store_gives(c, &k, true);
    crew_advance(c, 10 * SECOND_US);
    (void)store_expect(c, 0, STORE_PUT, mine);
}

/* The store takes a few at a time, and what is next goes meanwhile. */
static void what_goes_while_all_are_put_again_is_left_out(void **state)
{
    struct crew *c = *state;
    struct message m;

    store_tells_all(c, STORE_DOWN);
    for (unsigned n = 0; n < 6; n++) {
        client_puts(&c->h[0], 1, crew_path(c, 0, n), FORMAT_TEXT, "x");
        expect_at_client(&c->h[0], 1, CODE_CREATED, &m);
    }
    c->store[0].capacity = 2;
    store_tells_all(c, STORE_UP);
    (void)store_expect(c, 0, STORE_PUT, crew_path(c, 0, 0));
    (void)store_expect(c, 0, STORE_PUT, crew_path(c, 0, 1));
    client_deletes(&c->h[0], 1, crew_path(c, 0, 2)); /* where it stands */
    expect_at_client(&c->h[0], 1, CODE_DELETED, &m);
    (void)store_expect(c, 0, STORE_DELETE, crew_path(c, 0, 2));
    c->store[0].capacity = CREW_RING_MAX;
    crew_advance(c, 5000);
    for (unsigned n = 3; n < 6; n++)
        (void)store_expect(c, 0, STORE_PUT, crew_path(c, 0, n));
    store_silent(c, 0);
}

/* ---- reading back ---- */

static void records_come_back_everywhere(void **state)
{
    struct crew *c = *state;
    struct kept k = record_of("shared/a", 7, "kept"), own = record_of("/h.example/own/x", 8, "own"),
                nobody = record_of("gone/a", 9, "nobody's");
    struct message m;

    gets_code(&c->h[0], 1, "shared/a", CODE_SERVICE_UNAVAILABLE); /* it may be there */
    client_puts(&c->h[0], 1, "shared/a", FORMAT_TEXT, "new");
    crew_carry(c);
    expect_at_client(&c->h[0], 1, CODE_SERVICE_UNAVAILABLE, &m);
    store_tells_all(c, STORE_UP);
    store_gives(c, &k, false);
    store_gives(c, &own, false);
    store_gives(c, &nobody, false);
    for (unsigned i = 0; i < WORKERS; i++) {
        client_gets(&c->h[i], 1, "shared/a");
        expect_at_client(&c->h[i], 1, CODE_CONTENT, &m);
        assert_payload(&m, "kept", 4);
        assert_int_equal(option_of(&m, SLOT_CONTENT_FORMAT), FORMAT_TEXT);
        assert_memory_equal(m.first[SLOT_ETAG].value, "ETAGETAG", 8);
        CLIENT(&c->h[i], 1, .type = TYPE_CON, .code = CODE_GET, .path = "own/x",
               OPTIONS_OF(text_option(OPTION_URI_HOST, "h.example")));
        expect_at_client(&c->h[i], 1, CODE_CONTENT, &m);
        assert_payload(&m, "own", 3);
        gets_code(&c->h[i], 1, "shared/b", CODE_SERVICE_UNAVAILABLE);
    }
    store_tells_all(c, STORE_RESUMED);
    gets_code(&c->h[0], 1, "shared/b", CODE_NOT_FOUND);
    assert_int_equal(worker_counters(c->h[0].worker)->resource_records_unusable, 1);
    store_gives(c, &nobody, true); /* of another configuration: it is left alone */
    store_silent(c, 0);
    store_silent(c, 1);
}

static void what_is_newer_stays(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    struct kept first = record_of(path, 7, "old"), second = record_of(path, 8, "newer");
    struct message m;
    struct kept k;

    store_tells_all(c, STORE_UP);
    store_gives(c, &second, false);
    store_gives(c, &first, false); /* read twice, and it changed in between */
    gets_ok(&c->h[0], 1, path, "newer");
    client_watches(&c->h[0], 5, path);
    harness_silent(&c->h[0]);
    relation_expect(c, 0, STORE_PUT);
    expect_at_client(&c->h[0], 5, CODE_CONTENT, &m);
    assert_true(message_has(&m, SLOT_OBSERVE));
    client_deletes(&c->h[0], 1, path);
    crew_carry(c);
    expect_at_client(&c->h[0], 1, CODE_DELETED, &m);
    expect_at_client(&c->h[0], 5, CODE_NOT_FOUND, &m);
    relation_expect(c, 0, STORE_DELETE);
    (void)store_expect(c, 1, STORE_DELETE, path);
    store_gives(c, &second, false); /* it was on its way */
    for (unsigned i = 0; i < WORKERS; i++)
        gets_code(&c->h[i], 1, path, CODE_SERVICE_UNAVAILABLE);
    (void)store_expect(c, 1, STORE_DELETE, path);
    store_tells_all(c, STORE_RESUMED);
    client_puts(&c->h[0], 1, path, FORMAT_TEXT, "newest");
    crew_carry(c);
    k = store_expect(c, 1, STORE_PUT, path);
    assert_true(k.resource.version > second.resource.version);
    store_done(c, 1, k.head.cookie, 0);
    crew_carry(c);
    expect_at_client(&c->h[0], 1, CODE_CREATED, &m);
}

static void what_was_removed_unseen_stays_away(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0);
    struct kept k = record_of(path, 7, "old");
    struct message m;

    store_tells_all(c, STORE_DOWN);
    client_deletes(&c->h[0], 1, path);
    crew_carry(c);
    expect_at_client(&c->h[0], 1, CODE_DELETED, &m);
    store_tells_all(c, STORE_UP);
    store_gives(c, &k, false);
    (void)store_expect(c, 1, STORE_DELETE, path);
    store_silent(c, 0);
    store_tells_all(c, STORE_RESUMED);
    for (unsigned i = 0; i < WORKERS; i++)
        gets_code(&c->h[i], 1, path, CODE_NOT_FOUND);
}

/* Gives the record of a registration: client 5's, with this path. */
static void store_gives_relation(struct crew *c, unsigned worker, const char *path)
{
    struct harness *h = &c->h[worker];
    struct flow flow = harness_client(h, 5);
    const struct addition observe = addition_uint(OPTION_OBSERVE, 0);
    const struct mold mold = {.type = TYPE_CON,
                              .code = CODE_GET,
                              .mid = 1,
                              .token = (const uint8_t *)"T",
                              .token_length = 1,
                              .path = path,
                              .options = &observe,
                              .option_count = 1};
    const struct store_head head = {.what = STORE_RELATION};
    struct store_relation record = {
        .listen = {h->config->locals[flow.local].address, flow.local_port},
        .peer = {flow.peer, flow.peer_port},
        .transport = TRANSPORT_UDP};
    uint8_t packet[1500];
    struct parcel *parcel;

    record.packet_length = (uint32_t)mold_write(&mold, packet);
    parcel = parcel_new(c->parcels, PARCEL_RECORD, STORE_RECORD,
                        sizeof(head) + sizeof(record) + record.packet_length);
    assert_non_null(parcel);
    assert_true(parcel_write(parcel, 0, &head, sizeof(head)));
    assert_true(parcel_write(parcel, sizeof(head), &record, sizeof(record)));
    assert_true(parcel_write(parcel, sizeof(head) + sizeof(record), packet, record.packet_length));
    worker_told(h->worker, parcel, h->now);
}

static void observers_come_back_behind_their_resources(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 1, 0), *missing = crew_path(c, 1, 1);
    struct kept k = record_of(path, 7, "kept");
    struct message m;

    store_tells_all(c, STORE_UP);
    store_gives(c, &k, false);
    store_gives_relation(c, 0, path);
    assert_int_equal(usage_of(&c->h[0]).relations, 1);
    crew_advance(c, 11 * SECOND_US); /* resume_spread */
    expect_at_client(&c->h[0], 5, CODE_CONTENT, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_true(message_has(&m, SLOT_OBSERVE));
    assert_payload(&m, "kept", 4);
    store_silent(c, 0);
    /* One of a resource that is gone hears so, and its record goes, too. */
    store_gives_relation(c, 1, missing);
    expect_at_client(&c->h[1], 5, CODE_NOT_FOUND, &m);
    assert_int_equal(m.type, TYPE_CON);
    assert_memory_equal(m.token, "T", 1);
    relation_expect(c, 1, STORE_DELETE);
    assert_int_equal(usage_of(&c->h[1]).relations, 0);
    gets_code(&c->h[1], 1, missing, CODE_NOT_FOUND); /* resources come before all relations */
}

static void without_a_store_nobody_waits_for_long(void **state)
{
    struct crew *c = *state;
    const char *path = crew_path(c, 0, 0);
    struct message m;
    struct kept k;

    gets_code(&c->h[0], 1, path, CODE_SERVICE_UNAVAILABLE);
    store_tells_all(c, STORE_DOWN); /* it is known that it is away */
    gets_code(&c->h[0], 1, path, CODE_NOT_FOUND);
    client_puts(&c->h[0], 1, path, FORMAT_TEXT, "one");
    crew_carry(c);
    expect_at_client(&c->h[0], 1, CODE_CREATED, &m);
    store_tells_all(c, STORE_UP);
    k = store_expect(c, 0, STORE_PUT, path);
    store_done(c, 0, k.head.cookie, 0);
    k = record_of(path, 7, "older");
    store_gives(c, &k, false);
    gets_ok(&c->h[0], 1, path, "one");
    gets_ok(&c->h[1], 1, path, "one");
}

static void nor_without_a_word_of_it(void **state)
{
    struct crew *c = *state;

    gets_code(&c->h[0], 1, "shared/a", CODE_SERVICE_UNAVAILABLE);
    crew_advance(c, 6 * SECOND_US);
    gets_code(&c->h[0], 1, "shared/a", CODE_NOT_FOUND);
}

static void who_wants_records_waits_for_them(void **state)
{
    struct crew *c = *state;

    store_tells_all(c, STORE_DOWN);
    crew_advance(c, 60 * SECOND_US);
    gets_code(&c->h[0], 1, "shared/a", CODE_SERVICE_UNAVAILABLE);
}

static void broken_and_surplus_records_are_left_out(void **state)
{
    struct crew *c = *state;
    struct kept k = record_of("shared/a", 7, "kept");
    char path[32];

    store_tells_all(c, STORE_UP);
    k.resource.name_length = 2000; /* beyond the parcel, and any name */
    for (unsigned i = 0; i < WORKERS; i++) {
        struct parcel *parcel = parcel_new(c->parcels, PARCEL_RECORD, STORE_RECORD,
                                           sizeof(k.head) + sizeof(k.resource) + 10);
        const struct store_head head = {.what = STORE_RESOURCE};

        assert_non_null(parcel);
        assert_true(parcel_write(parcel, 0, &head, sizeof(head)));
        assert_true(parcel_write(parcel, sizeof(head), &k.resource, sizeof(k.resource)));
        worker_told(c->h[i].worker, parcel, c->h[i].now);
    }
    k = record_of("shared/a", 7, "kept");
    k.resource.etag_length = 9;
    store_gives(c, &k, false);
    for (unsigned n = 0; n < 3; n++) { /* max: 2 */
        snprintf(path, sizeof(path), "shared/few/%u", n);
        k = record_of(path, 10 + n, "x");
        store_gives(c, &k, false);
    }
    store_tells_all(c, STORE_RESUMED);
    gets_code(&c->h[0], 1, "shared/a", CODE_NOT_FOUND);
    gets_ok(&c->h[0], 1, "shared/few/1", "x");
    gets_code(&c->h[0], 1, "shared/few/2", CODE_NOT_FOUND);
    assert_int_equal(worker_counters(c->h[0].worker)->resource_records_unusable, 3);
}

#define TEST(name, how) cmocka_unit_test_setup_teardown(name, how, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_answer_waits_for_the_record, start),
        TEST(an_answer_to_nobody_is_ignored, start),
        TEST(a_failed_record_is_served_and_tried_again, start),
        TEST(a_failed_record_is_refused, start_strict),
        TEST(a_full_ring_to_the_store_refuses, start),
        TEST(an_outage_is_made_good, start),
        TEST(what_goes_while_all_are_put_again_is_left_out, start),
        TEST(records_come_back_everywhere, start_early),
        TEST(what_is_newer_stays, start_early),
        TEST(what_was_removed_unseen_stays_away, start_early),
        TEST(observers_come_back_behind_their_resources, start_early),
        TEST(without_a_store_nobody_waits_for_long, start_early),
        TEST(nor_without_a_word_of_it, start_early),
        TEST(who_wants_records_waits_for_them, start_early_strict),
        TEST(broken_and_surplus_records_are_left_out, start_early),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
