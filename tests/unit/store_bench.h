/* The store with workers played by the test, and a Redis of its own. */
#ifndef COAPGW_TESTS_UNIT_STORE_BENCH_H
#define COAPGW_TESTS_UNIT_STORE_BENCH_H

#include "tests/unit/worker_harness.h"

#include <rte_mempool.h>

#include "gateway/store/record.h"
#include "gateway/store/store.h"
#include "tests/unit/redis_server.h"

#define BENCH_WORKERS 3
#define BENCH_COOKIES 70000
#define BENCH_EVENTS  256
#define TAG           "{coapgw:10.99.0.2:5683}:"

#define NOT_DONE INT32_MIN
#define NEVER    UINT32_MAX

/* What one worker has been told. */
struct told {
    unsigned ups, downs, overs, resumed, marks, dones, resources, relations, verifies;
    uint64_t mark, floor;
    unsigned relations_before_resources, records_while_down, marks_missing;
    unsigned associations, relations_before_associations, associations_before_resources;
    bool up, marked;
    uint8_t events[BENCH_EVENTS]; /* all but STORE_DONE and STORE_RECORD */
    unsigned event_count;
};

struct bench {
    struct config config;
    struct config_listener listeners[2];
    struct local_address locals[2];
    struct rte_mempool *parcels;
    struct store *store;
    struct redis_server redis;
    struct told told[BENCH_WORKERS];
    int32_t done[BENCH_COOKIES]; /* by cookie */
    unsigned answered;
    uint8_t *seen; /* by relation: how often it came back, with `verify` or without */
    uint8_t *seen_verify;
    bool delete_unknown; /* as a worker does that has nothing */
    uint8_t *secret;     /* where it is to be read into; NULL: it is not */
    bool deaf;           /* workers take nothing */
    uint64_t now_us;
    /* For associations and what is over them, and for keys; each may be NULL. */
    void (*record_told)(struct bench *b, unsigned worker, const struct store_head *head,
                        const struct record *record);
    void (*key_told)(struct bench *b, unsigned worker, const struct store_head *head,
                     const uint8_t *key, uint32_t length);
};

static inline uint64_t bench_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline unsigned bench_worker_of(void *context, const struct flow *flow)
{
    (void)context;
    return flow->peer_port % BENCH_WORKERS;
}

static inline uint64_t bench_now(void *context)
{
    return ((struct bench *)context)->now_us;
}

static inline struct endpoint bench_endpoint(const char *text, uint16_t port)
{
    struct endpoint e = {.port = port};

    assert_int_equal(address_parse(text, &e.address), 0);
    return e;
}

/* ---- records ---- */

/* GET coap://.../a with Observe 0, and a token that says which one it is. */
static inline uint32_t bench_packet(uint32_t n, uint8_t packet[11])
{
    const uint8_t bytes[] = {
        0x44,       1,    0x12, 0x34, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
        (uint8_t)n, 0x60, 0x51, 'a'};

    memcpy(packet, bytes, sizeof(bytes));
    return sizeof(bytes);
}

static inline struct store_relation bench_relation(uint32_t n, uint8_t packet[11])
{
    return (struct store_relation){
        .listen = bench_endpoint("10.99.0.2", 5683),
        .peer = bench_endpoint("10.99.0.1", (uint16_t)(n % 60000 + 1)),
        .packet_length = bench_packet(n, packet),
        .created_us = 1700000000000000 + n,
    };
}

static inline unsigned bench_owner(uint32_t n)
{
    return (n % 60000 + 1) % BENCH_WORKERS;
}

static inline struct parcel *bench_parcel(struct bench *b, enum store_type type, uint64_t cookie,
                                          enum store_what what, uint32_t length)
{
    const struct store_head head = {.cookie = cookie, .what = (uint8_t)what};
    struct parcel *parcel =
        parcel_new(b->parcels, PARCEL_RECORD, (uint16_t)type, (uint32_t)sizeof(head) + length);

    if (parcel)
        assert_true(parcel_write(parcel, 0, &head, sizeof(head)));
    return parcel;
}

/* False when there is no room. */
static inline bool bench_say(struct bench *b, enum store_type type, uint64_t cookie, uint32_t n)
{
    uint8_t packet[11];
    const struct store_relation relation = bench_relation(n, packet);
    struct parcel *parcel = bench_parcel(b, type, cookie, STORE_RELATION,
                                         (uint32_t)(sizeof(relation) + sizeof(packet)));

    if (!parcel)
        return false;
    assert_true(parcel_write(parcel, sizeof(struct store_head), &relation, sizeof(relation)));
    assert_true(
        parcel_write(parcel, sizeof(struct store_head) + sizeof(relation), packet, sizeof(packet)));
    if (store_tell(b->store, bench_owner(n), parcel))
        return true;
    parcel_free(b->parcels, parcel);
    return false;
}

static inline bool bench_put_resource(struct bench *b, uint64_t cookie, const char *name,
                                      const void *payload, uint32_t length, uint64_t version)
{
    const struct store_resource resource = {.name_length = (uint32_t)strlen(name),
                                            .payload_length = length,
                                            .version = version,
                                            .format = 50,
                                            .etag_length = 3,
                                            .etag = {1, 2, 0xff}};
    struct parcel *parcel =
        bench_parcel(b, STORE_PUT, cookie, STORE_RESOURCE,
                     (uint32_t)sizeof(resource) + resource.name_length + length);
    uint32_t at = sizeof(struct store_head);

    assert_non_null(parcel);
    assert_true(parcel_write(parcel, at, &resource, sizeof(resource)));
    at += (uint32_t)sizeof(resource);
    assert_true(parcel_write(parcel, at, name, resource.name_length));
    assert_true(parcel_write(parcel, at + resource.name_length, payload, length));
    if (store_tell(b->store, 0, parcel))
        return true;
    parcel_free(b->parcels, parcel);
    return false;
}

/* ---- what the workers are told ---- */

static inline void bench_relation_told(struct bench *b, unsigned worker,
                                       const struct store_head *head, const struct parcel *parcel)
{
    uint8_t bytes[256];
    uint32_t length = parcel->length - (uint32_t)sizeof(*head), n;
    struct record record;

    assert_true(length <= sizeof(bytes));
    assert_true(parcel_read(parcel, sizeof(*head), bytes, length));
    assert_int_equal(record_from_bytes(&record, head->what, bytes, length, true), 0);
    n = (uint32_t)record.packet[4] << 24 | (uint32_t)record.packet[5] << 16 |
        (uint32_t)record.packet[6] << 8 | record.packet[7];
    assert_int_equal(bench_owner(n), worker);
    assert_int_equal(record.relation.created_us, 1700000000000000 + n);
    if (b->seen) {
        uint8_t *seen = head->verify ? b->seen_verify : b->seen;

        seen[n]++;
    }
    if (head->verify && b->delete_unknown)
        assert_true(bench_say(b, STORE_DELETE, 0, n));
}

static inline void bench_hooked_told(struct bench *b, unsigned worker,
                                     const struct store_head *head, const struct parcel *parcel)
{
    uint8_t bytes[sizeof(struct store_association) + STORE_SEALED_MAX];
    uint32_t length = parcel->length - (uint32_t)sizeof(*head);
    struct record record;

    assert_true(length <= sizeof(bytes));
    assert_true(parcel_read(parcel, sizeof(*head), bytes, length));
    assert_int_equal(record_from_bytes(&record, head->what, bytes, length, true), 0);
    b->record_told(b, worker, head, &record);
}

static inline void bench_record_told(struct bench *b, unsigned worker,
                                     const struct store_head *head, const struct parcel *parcel)
{
    struct told *t = &b->told[worker];

    t->records_while_down += !t->up;
    t->verifies += head->verify;
    if (head->what == STORE_RESOURCE) {
        t->resources++;
        t->relations_before_resources += t->relations;
        t->associations_before_resources += t->associations;
        return;
    }
    if (head->what == STORE_ASSOCIATION) {
        t->associations++;
        t->relations_before_associations += t->relations;
    } else {
        t->relations++;
    }
    if (b->record_told)
        bench_hooked_told(b, worker, head, parcel);
    else
        bench_relation_told(b, worker, head, parcel);
}

static inline void bench_done_told(struct bench *b, const struct store_head *head)
{
    assert_true(head->cookie > 0 && head->cookie < BENCH_COOKIES);
    assert_int_equal(b->done[head->cookie], NOT_DONE); /* each is answered once */
    b->done[head->cookie] = head->error;
    b->answered++;
}

static inline void bench_key_told(struct bench *b, unsigned worker, const struct store_head *head,
                                  const struct parcel *parcel)
{
    uint8_t key[STORE_KEY_MAX];
    uint32_t length = parcel->length - (uint32_t)sizeof(*head);

    assert_non_null(b->key_told);
    assert_true(length <= sizeof(key));
    assert_true(parcel_read(parcel, sizeof(*head), key, length));
    b->key_told(b, worker, head, key, length);
}

static inline void bench_state_told(struct told *t, enum store_type type,
                                    const struct store_head *head)
{
    if (t->event_count < BENCH_EVENTS)
        t->events[t->event_count++] = (uint8_t)type;
    switch (type) {
    case STORE_UP:
        assert_false(t->up || t->overs);
        t->up = true;
        t->ups++;
        t->marks_missing += t->marks == 0;
        break;
    case STORE_DOWN:
        assert_true(t->up);
        t->up = false;
        t->downs++;
        break;
    case STORE_MARK:
        assert_true(head->mark > t->mark);
        t->mark = head->mark;
        t->floor = head->cookie;
        t->marks++;
        break;
    case STORE_RESUMED:
        t->resumed++;
        break;
    case STORE_OVER:
        assert_false(t->up);
        t->overs++;
        break;
    default:
        fail_msg("a parcel of type %d", type);
    }
}

static inline unsigned bench_take(struct bench *b, unsigned worker)
{
    struct store_head head;
    struct parcel *parcel;
    unsigned n = 0;

    for (; n < 64 && (parcel = store_take(b->store, worker)) != NULL; n++) {
        assert_int_equal(parcel->kind, PARCEL_RECORD);
        assert_int_equal(parcel->from, PARCEL_STORE);
        assert_true(parcel_read(parcel, 0, &head, sizeof(head)));
        if (parcel->type == STORE_DONE)
            bench_done_told(b, &head);
        else if (parcel->type == STORE_RECORD)
            bench_record_told(b, worker, &head, parcel);
        else if (parcel->type == STORE_KEY)
            bench_key_told(b, worker, &head, parcel);
        else
            bench_state_told(&b->told[worker], (enum store_type)parcel->type, &head);
        parcel_free(b->parcels, parcel);
    }
    return n;
}

static inline void bench_turn(struct bench *b)
{
    unsigned n = 0;

    for (unsigned i = 0; i < b->config.workers && !b->deaf; i++)
        n += bench_take(b, i);
    if (n == 0)
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

static inline void bench_turns_for(struct bench *b, unsigned ms)
{
    for (uint64_t end = bench_clock_ms() + ms; bench_clock_ms() < end;)
        bench_turn(b);
}

/* Runs until the condition holds. */
#define bench_until(b, condition)                                                 \
    do {                                                                          \
        for (uint64_t end = bench_clock_ms() + REDIS_GIVE_UP_MS; !(condition);) { \
            assert_true(bench_clock_ms() < end);                                  \
            bench_turn(b);                                                        \
        }                                                                         \
    } while (0)

static inline bool bench_all_up(const struct bench *b)
{
    for (unsigned i = 0; i < BENCH_WORKERS; i++)
        if (!b->told[i].up)
            return false;
    return true;
}

static inline bool bench_all_down(const struct bench *b)
{
    for (unsigned i = 0; i < BENCH_WORKERS; i++)
        if (b->told[i].up)
            return false;
    return true;
}

static inline bool bench_all_resumed(const struct bench *b)
{
    for (unsigned i = 0; i < BENCH_WORKERS; i++)
        if (!b->told[i].resumed)
            return false;
    return true;
}

static inline unsigned bench_ups(const struct bench *b)
{
    unsigned least = UINT32_MAX;

    for (unsigned i = 0; i < BENCH_WORKERS; i++)
        least = b->told[i].ups < least ? b->told[i].ups : least;
    return least;
}

static inline unsigned bench_relations(const struct bench *b)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < BENCH_WORKERS; i++)
        sum += b->told[i].relations;
    return sum;
}

static inline struct store_status bench_status(const struct bench *b)
{
    struct store_status status;

    store_status(b->store, &status);
    return status;
}

/* Puts relations first..first+count-1 with these as cookies, and waits for all answers. */
static inline void bench_put_all(struct bench *b, uint32_t first, uint32_t count)
{
    unsigned before = b->answered;

    for (uint32_t n = first; n < first + count; n++)
        while (!bench_say(b, STORE_PUT, n, n))
            bench_turn(b);
    bench_until(b, b->answered == before + count);
}

static inline void bench_forget(struct bench *b)
{
    memset(b->told, 0, sizeof(b->told));
    for (unsigned i = 0; i < BENCH_COOKIES; i++)
        b->done[i] = NOT_DONE;
    b->answered = 0;
}

/* ---- start and end ---- */

static inline void bench_configure(struct bench *b)
{
    static char prefix[] = "coapgw", service[] = "10.99.0.2:5683", instance[] = "unit";

    b->locals[0].address = bench_endpoint("10.99.0.2", 0).address;
    b->locals[1].address = bench_endpoint("fd99::2", 0).address;
    b->listeners[0] = (struct config_listener){.local = 0, .port = 5683};
    b->listeners[1] = (struct config_listener){.local = 1, .port = 5683};
    b->config.instance = instance;
    b->config.workers = BENCH_WORKERS;
    b->config.locals = b->locals;
    b->config.local_count = 2;
    b->config.listeners = b->listeners;
    b->config.listener_count = 2;
    b->config.store = (struct config_store){.kind = CONFIG_STORE_UNIX,
                                            .path = b->redis.socket,
                                            .prefix = prefix,
                                            .service = service,
                                            .timeout_ms = 20000,
                                            .save_freq = 10};
    b->now_us = 1700000000000000;
}

static inline void bench_open(struct bench *b)
{
    const struct store_setup setup = {.config = &b->config,
                                      .parcels = b->parcels,
                                      .worker_of = bench_worker_of,
                                      .context = b,
                                      .now_us = bench_now};

    bench_forget(b);
    b->store = store_create(&b->config);
    assert_non_null(b->store);
    if (b->secret)
        assert_int_equal(store_secret(b->store, b->secret), 0);
    assert_int_equal(store_start(b->store, &setup), 0);
}

static inline void bench_close(struct bench *b)
{
    store_destroy(b->store);
    b->store = NULL;
    assert_int_equal(rte_mempool_avail_count(b->parcels), b->parcels->size); /* none is lost */
}

/* With Redis running and the store to be opened. */
static inline struct bench *bench_make(unsigned parcels)
{
    struct bench *b = calloc(1, sizeof(*b));

    assert_non_null(b);
    b->parcels = parcel_pool_create("parcels", parcels);
    assert_non_null(b->parcels);
    redis_start(&b->redis, false, NULL);
    bench_configure(b);
    return b;
}

/* The same with the store connected. */
static inline struct bench *bench_start(void)
{
    struct bench *b = bench_make(16383);

    bench_open(b);
    bench_until(b, bench_all_up(b) && bench_all_resumed(b));
    return b;
}

static inline void bench_end(struct bench *b)
{
    if (b->store)
        bench_close(b);
    redis_stop(&b->redis);
    parcel_pool_destroy(b->parcels);
    free(b->seen);
    free(b->seen_verify);
    free(b);
}

static inline int bench_set_up(void **state)
{
    (void)state;
    harness_eal();
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

#endif
