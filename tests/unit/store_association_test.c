/* Associations of DTLS in Redis, and the relations over them. */
#include "tests/unit/store_bench.h"

enum { DTLS_PORT = 5684, MAX = 4096 };

/* What came back, by number. */
static struct {
    unsigned associations[MAX], relations[MAX], verified[MAX];
    unsigned worker[MAX], relation_worker[MAX];
    bool disown; /* relations are not wanted: as a worker does without the association */
    bool reject; /* associations cannot be unsealed */
} told;

/* Number n, which worker `by` made, or would have made. */
static void id_of(uint32_t n, uint8_t first, uint8_t id[STORE_ID_BYTES])
{
    const uint8_t bytes[] = {first, 0x55, 0, 0xee, 0, 0, (uint8_t)(n >> 8), (uint8_t)n};

    memcpy(id, bytes, sizeof(bytes));
}

static uint32_t number_of(const uint8_t *id)
{
    return (uint32_t)id[6] << 8 | id[7];
}

static bool tell(struct bench *b, unsigned worker, enum store_type type, uint64_t cookie,
                 const struct record *r)
{
    struct parcel *parcel = bench_parcel(b, type, cookie, r->what, record_bytes(r));

    if (!parcel)
        return false;
    record_to_parcel(r, parcel, sizeof(struct store_head));
    if (store_tell(b->store, worker, parcel))
        return true;
    parcel_free(b->parcels, parcel);
    return false;
}

static struct record an_association(uint32_t n, uint8_t first, bool cid, uint8_t sealed[40])
{
    struct record r = {.what = STORE_ASSOCIATION,
                       .association = {.listen = bench_endpoint("10.99.0.2", DTLS_PORT),
                                       .peer = bench_endpoint("10.99.0.1", (uint16_t)(n + 1)),
                                       .cid = cid,
                                       .sealed_length = 40},
                       .sealed = sealed};

    id_of(n, first, r.association.id);
    memset(sealed, (int)n, 40);
    return r;
}

static struct record a_relation(uint32_t n, uint8_t first, uint8_t packet[11])
{
    struct record r = {.what = STORE_RELATION, .packet = packet};

    r.relation = bench_relation(n, packet);
    r.relation.listen.port = DTLS_PORT;
    r.relation.transport = TRANSPORT_DTLS;
    r.relation.peer = (struct endpoint){.address = {{1}}, .port = STORE_DTLS_PORT};
    id_of(n, first, r.relation.peer.address.bytes + 8);
    return r;
}

static void put(struct bench *b, unsigned worker, uint32_t n, uint8_t first, bool cid)
{
    uint8_t sealed[40];
    const struct record r = an_association(n, first, cid, sealed);
    unsigned before = b->answered;

    assert_true(tell(b, worker, STORE_PUT, n, &r));
    bench_until(b, b->answered == before + 1);
    assert_int_equal(b->done[n], 0);
}

static void put_relation(struct bench *b, unsigned worker, uint32_t n, uint8_t first)
{
    uint8_t packet[11];
    const struct record r = a_relation(n, first, packet);
    unsigned before = b->answered;

    assert_true(tell(b, worker, STORE_PUT, MAX + n, &r));
    bench_until(b, b->answered == before + 1);
    assert_int_equal(b->done[MAX + n], 0);
}

static void record_told(struct bench *b, unsigned worker, const struct store_head *head,
                        const struct record *r)
{
    uint32_t n;

    if (r->what == STORE_ASSOCIATION) {
        n = number_of(r->association.id);
        assert_int_equal(r->association.sealed_length, 40);
        for (unsigned i = 0; i < 40; i++)
            assert_int_equal(r->sealed[i], (uint8_t)n);
        assert_int_equal(r->association.peer.port, n + 1);
        told.associations[n]++;
        told.worker[n] = worker;
        if (told.reject)
            assert_true(tell(b, worker, STORE_REJECT, 0, r));
    } else {
        n = number_of(r->relation.peer.address.bytes + 8);
        assert_int_equal(r->relation.transport, TRANSPORT_DTLS);
        told.relations[n]++;
        told.relation_worker[n] = worker;
        if (told.disown)
            assert_true(tell(b, worker, STORE_DELETE, 0, r));
    }
    told.verified[n] += head->verify;
}

static struct bench *start(void)
{
    struct bench *b = bench_make(4095);

    memset(&told, 0, sizeof(told));
    b->record_told = record_told;
    b->listeners[1] =
        (struct config_listener){.local = 0, .port = DTLS_PORT, .transport = TRANSPORT_DTLS};
    bench_open(b);
    bench_until(b, bench_all_up(b) && bench_all_resumed(b));
    return b;
}

static void restart(struct bench *b)
{
    bench_close(b);
    memset(&told, 0, sizeof(told));
    bench_open(b);
    bench_until(b, bench_all_up(b) && bench_all_resumed(b));
}

static void an_association_is_put_and_deleted(void **state)
{
    const char *key = TAG "association:025500ee00000007";
    struct bench *b = start();
    uint8_t sealed[40];
    struct record r = an_association(7, 2, true, sealed);
    redisReply *reply;

    (void)state;
    put(b, 2, 7, 2, true);
    reply = redis_do(&b->redis, "HMGET %s v listen peer cid sealed", key);
    assert_string_equal(reply->element[0]->str, "1");
    assert_string_equal(reply->element[1]->str, "10.99.0.2:5684");
    assert_string_equal(reply->element[2]->str, "10.99.0.1:8");
    assert_string_equal(reply->element[3]->str, "1");
    assert_int_equal(reply->element[4]->len, 40);
    freeReplyObject(reply);
    r.association.sealed_length = 0;
    assert_true(tell(b, 2, STORE_DELETE, 0, &r));
    bench_until(b, redis_number(&b->redis, "EXISTS %s", key) == 0);
    bench_end(b);
}

/* The worker by the id where there are CIDs, by the addresses where there are none; relations go
 * where their association went, whatever their ids say. */
static void all_go_to_one_worker(void **state)
{
    enum { COUNT = 300 };
    struct bench *b = start();

    (void)state;
    assert_true(bench_put_resource(b, 1, "/shared/a", "x", 1, 1));
    bench_until(b, b->answered == 1);
    b->done[1] = NOT_DONE;
    for (uint32_t n = 1; n <= COUNT; n++) {
        put(b, 1, n, (uint8_t)(n * 7), n % 2);
        put_relation(b, 1, n, (uint8_t)(n * 7));
    }
    restart(b);
    for (uint32_t n = 1; n <= COUNT; n++) {
        assert_int_equal(told.associations[n], 1);
        assert_int_equal(told.relations[n], 1);
        assert_int_equal(told.verified[n], 0);
        assert_int_equal(told.worker[n], (n % 2 ? (uint8_t)(n * 7) : n + 1) % BENCH_WORKERS);
        assert_int_equal(told.relation_worker[n], told.worker[n]);
    }
    for (unsigned i = 0; i < BENCH_WORKERS; i++) {
        assert_int_equal(b->told[i].resources, 1);
        assert_int_equal(b->told[i].associations_before_resources, 0);
        assert_int_equal(b->told[i].relations_before_associations, 0);
    }
    assert_int_equal(bench_status(b).rejected, 0);
    bench_end(b);
}

/* After a start with fewer workers the same formula holds. */
static void fewer_workers_share_them(void **state)
{
    struct bench *b = start();

    (void)state;
    for (uint32_t n = 1; n <= 60; n++) {
        put(b, 0, n, (uint8_t)n, true);
        put_relation(b, 0, n, (uint8_t)n);
    }
    bench_close(b);
    memset(&told, 0, sizeof(told));
    b->config.workers = 2;
    bench_open(b);
    bench_until(b, b->told[0].resumed && b->told[1].resumed);
    for (uint32_t n = 1; n <= 60; n++) {
        assert_int_equal(told.associations[n] + told.relations[n], 2);
        assert_int_equal(told.worker[n], n % 2);
        assert_int_equal(told.relation_worker[n], n % 2);
    }
    b->config.workers = BENCH_WORKERS;
    store_destroy(b->store);
    b->store = NULL;
    bench_end(b);
}

/* It goes to the worker that the id names, which says so, and it is deleted. */
static void a_relation_without_its_association_goes(void **state)
{
    struct bench *b = start();

    (void)state;
    put(b, 0, 1, 0, true);
    put_relation(b, 0, 1, 0);
    put_relation(b, 1, 2, 4);
    bench_close(b);
    redis_ok(&b->redis, "DEL " TAG "association:005500ee00000001");
    memset(&told, 0, sizeof(told));
    told.disown = true;
    bench_open(b);
    bench_until(b, bench_all_resumed(b));
    assert_int_equal(told.relations[1], 1);
    assert_int_equal(told.relation_worker[1], 0);
    assert_int_equal(told.relations[2], 1);
    assert_int_equal(told.relation_worker[2], 4 % BENCH_WORKERS);
    bench_until(b, redis_number(&b->redis, "DBSIZE") == 2); /* owner and counter */
    bench_end(b);
}

/* What this process knows comes back to be verified. */
static void what_is_known_is_to_be_verified(void **state)
{
    struct bench *b = start();

    (void)state;
    put(b, 0, 1, 0, true);
    put_relation(b, 0, 1, 0);
    redis_ok(&b->redis, "DEL " TAG "owner"); /* it has lost its data, as it seems */
    bench_until(b, bench_ups(b) == 2 && told.associations[1] && told.relations[1]);
    assert_int_equal(told.verified[1], told.associations[1] + told.relations[1]);
    bench_end(b);
}

static void put_relations(struct bench *b, unsigned worker, uint32_t count)
{
    uint8_t packet[11];

    for (uint32_t n = 1; n < count; n++) {
        const struct record r = a_relation(n, 0, packet);

        while (!tell(b, worker, STORE_PUT, 0, &r))
            bench_turn(b);
    }
}

/* The records of associations are lost, those of relations are not: they go to the worker that puts
 * them again while they are read, not to the one that the id names. Redis stands still meanwhile;
 * it may have been too fast, and then all is done again. */
static void relations_follow_who_puts(void **state)
{
    enum { COUNT = 3000 };
    struct bench *b = start();
    unsigned followed = 0;

    (void)state;
    put_relations(b, 2, COUNT);
    bench_until(b, bench_status(b).confirmed == COUNT - 1);
    for (unsigned i = 0; followed == 0; i++) {
        assert_true(i < 20);
        memset(&told, 0, sizeof(told));
        redis_ok(&b->redis, "DEL " TAG "owner");
        bench_until(b, bench_ups(b) == 2 + i);
        kill(b->redis.pid, SIGSTOP);
        put_relations(b, 2, COUNT);
        kill(b->redis.pid, SIGCONT);
        bench_until(b, bench_status(b).confirmed == (uint64_t)(COUNT - 1) * (2 + i));
        bench_turns_for(b, 200);
        for (uint32_t n = 1; n < COUNT; n++)
            followed += told.relations[n] && told.relation_worker[n] == 2;
    }
    bench_end(b);
}

static void damage_is_set_aside(void **state)
{
    struct bench *b = start();

    (void)state;
    for (uint32_t n = 1; n <= 3; n++)
        put(b, 0, n, 0, true);
    bench_close(b);
    redis_ok(&b->redis, "HSET " TAG "association:005500ee00000001 sealed x");
    redis_ok(&b->redis, "HSET " TAG "association:005500ee00000002 peer 10.99.0.7:1");
    redis_ok(&b->redis, "SET " TAG "association:text hello");
    memset(&told, 0, sizeof(told));
    told.reject = true; /* and the third one cannot be unsealed */
    bench_open(b);
    bench_until(b, bench_all_resumed(b));
    assert_int_equal(told.associations[1] + told.associations[2], 0);
    assert_int_equal(told.associations[3], 1);
    bench_until(b,
                redis_number(&b->redis, "EXISTS " TAG "rejected:association:005500ee00000001 " TAG
                                        "rejected:association:005500ee00000002 " TAG
                                        "rejected:association:005500ee00000003 " TAG
                                        "rejected:association:text") == 4);
    assert_int_equal(bench_status(b).rejected, 4);
    restart(b);
    assert_int_equal(told.associations[3], 0);
    bench_end(b);
}

/* Where the listener is another's, or not for DTLS, nothing is touched. */
static void other_listeners_are_left_alone(void **state)
{
    struct bench *b = start();

    (void)state;
    put(b, 0, 1, 0, true);
    put_relation(b, 0, 1, 0);
    bench_close(b);
    b->listeners[1].transport = TRANSPORT_UDP;
    memset(&told, 0, sizeof(told));
    bench_open(b);
    bench_until(b, bench_all_resumed(b));
    assert_int_equal(told.associations[1] + told.relations[1], 0);
    assert_int_equal(bench_status(b).foreign, 2);
    assert_int_equal(redis_number(&b->redis, "DBSIZE"), 4);
    bench_end(b);
}

/* More than fit into the rings and the pool at once. */
static void many_are_read_back(void **state)
{
    enum { COUNT = 4000 };
    struct bench *b = bench_make(63);
    uint8_t sealed[40], packet[11];

    (void)state;
    memset(&told, 0, sizeof(told));
    b->record_told = record_told;
    b->listeners[1] =
        (struct config_listener){.local = 0, .port = DTLS_PORT, .transport = TRANSPORT_DTLS};
    bench_open(b);
    bench_until(b, bench_all_up(b));
    for (uint32_t n = 1; n < COUNT; n++) {
        const struct record a = an_association(n, (uint8_t)n, n & 1, sealed);
        const struct record r = a_relation(n, (uint8_t)n, packet);

        while (!tell(b, 0, STORE_PUT, n, &a))
            bench_turn(b);
        while (!tell(b, 0, STORE_PUT, MAX + n, &r))
            bench_turn(b);
    }
    bench_until(b, b->answered == 2 * (COUNT - 1));
    bench_close(b);
    memset(&told, 0, sizeof(told));
    bench_open(b);
    b->deaf = true;
    bench_turns_for(b, 200);
    b->deaf = false;
    bench_until(b, bench_all_resumed(b));
    for (uint32_t n = 1; n < COUNT; n++) {
        assert_int_equal(told.associations[n], 1);
        assert_int_equal(told.relations[n], 1);
        assert_int_equal(told.relation_worker[n], told.worker[n]);
    }
    bench_end(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_association_is_put_and_deleted),
        cmocka_unit_test(all_go_to_one_worker),
        cmocka_unit_test(fewer_workers_share_them),
        cmocka_unit_test(a_relation_without_its_association_goes),
        cmocka_unit_test(what_is_known_is_to_be_verified),
        cmocka_unit_test(relations_follow_who_puts),
        cmocka_unit_test(damage_is_set_aside),
        cmocka_unit_test(other_listeners_are_left_alone),
        cmocka_unit_test(many_are_read_back),
    };

    return cmocka_run_group_tests(tests, bench_set_up, NULL);
}
