#include "tests/unit/store_bench.h"

static void a_record_is_put_read_and_deleted(void **state)
{
    struct bench *b = bench_start();
    const char *key = TAG "observe:10.99.0.2:5683|10.99.0.1:8|00000007";
    redisReply *reply;

    (void)state;
    bench_put_all(b, 7, 1);
    assert_int_equal(b->done[7], 0);
    reply = redis_do(&b->redis, "HMGET %s v listen peer transport created packet", key);
    assert_string_equal(reply->element[0]->str, "1");
    assert_string_equal(reply->element[1]->str, "10.99.0.2:5683");
    assert_string_equal(reply->element[2]->str, "10.99.0.1:8");
    assert_string_equal(reply->element[3]->str, "udp");
    assert_string_equal(reply->element[4]->str, "1700000000000007");
    assert_int_equal(reply->element[5]->len, 11);
    freeReplyObject(reply);
    assert_true(bench_say(b, STORE_DELETE, 0, 7));
    bench_until(b, redis_number(&b->redis, "EXISTS %s", key) == 0);
    assert_int_equal(bench_status(b).confirmed, 1);
    assert_int_equal(bench_status(b).deletes, 1);
    bench_end(b);
}

static void all_is_read_back_by_its_owner(void **state)
{
    enum { RELATIONS = 20000 };
    struct bench *b = bench_start();
    char name[32];

    (void)state;
    b->seen = calloc(RELATIONS + 1, 1);
    b->seen_verify = calloc(RELATIONS + 1, 1);
    bench_put_all(b, 1, RELATIONS);
    for (unsigned i = 0; i < 20; i++) {
        static uint8_t payload[5000] = {1, 2, 3};

        snprintf(name, sizeof(name), "/shared/%u", i);
        assert_true(bench_put_resource(b, RELATIONS + 1 + i, name, payload, sizeof(payload), i));
    }
    bench_until(b, b->answered == RELATIONS + 20);
    bench_close(b);
    bench_open(b);
    bench_until(b, bench_all_resumed(b));
    for (unsigned i = 1; i <= RELATIONS; i++)
        assert_int_equal(b->seen[i], 1);
    for (unsigned i = 0; i < BENCH_WORKERS; i++) {
        static const uint8_t events[] = {STORE_MARK, STORE_UP, STORE_RESUMED};

        assert_int_equal(b->told[i].resources, 20);
        assert_int_equal(b->told[i].relations_before_resources, 0);
        assert_int_equal(b->told[i].records_while_down, 0);
        assert_int_equal(b->told[i].event_count, sizeof(events));
        assert_memory_equal(b->told[i].events, events, sizeof(events));
    }
    assert_true(bench_status(b).read >= RELATIONS + 20); /* SCAN may give a name twice */
    assert_int_equal(bench_status(b).rejected, 0);
    bench_end(b);
}

/* The pool and the rings are too small for all: what finds no room is read again, and none is lost.
 */
static void a_small_pool_is_enough(void **state)
{
    enum { RELATIONS = 6000 };
    struct bench *b = bench_make(63);

    (void)state;
    b->seen = calloc(RELATIONS + 1, 1);
    b->seen_verify = calloc(RELATIONS + 1, 1);
    bench_open(b);
    bench_until(b, bench_all_up(b));
    bench_put_all(b, 1, RELATIONS);
    bench_close(b);
    bench_open(b);
    b->deaf = true; /* until all parcels are in the rings */
    bench_turns_for(b, 300);
    b->deaf = false;
    bench_until(b, bench_all_resumed(b));
    for (unsigned i = 1; i <= RELATIONS; i++)
        assert_int_equal(b->seen[i], 1);
    bench_end(b);
}

/* A worker that takes nothing fills its ring; its answers wait, and nobody else does. */
static void answers_wait_for_room(void **state)
{
    enum { PUTS = 15000 };
    struct bench *b = bench_start();
    uint32_t n = 1;

    (void)state;
    b->deaf = true;
    for (uint64_t end = bench_clock_ms() + 2000; n <= PUTS && bench_clock_ms() < end;)
        if (bench_say(b, STORE_PUT, n, n))
            n++;
        else
            redis_nap(1);
    assert_int_equal(b->answered, 0);
    b->deaf = false;
    while (n <= PUTS)
        if (bench_say(b, STORE_PUT, n, n))
            n++;
        else
            bench_turn(b);
    bench_until(b, b->answered == PUTS);
    for (unsigned i = 1; i <= PUTS; i++)
        assert_int_equal(b->done[i], 0);
    bench_end(b);
}

static void garbage_is_set_aside(void **state)
{
    struct bench *b = bench_start();
    redisReply *reply;

    (void)state;
    bench_put_all(b, 1, 10);
    assert_true(bench_put_resource(b, 11, "/shared/a", "x", 1, 1));
    assert_true(bench_put_resource(b, 12, "/shared/b", "y", 1, 1));
    bench_until(b, b->answered == 12);
    bench_close(b);
    redis_ok(&b->redis, "SET " TAG "observe:text hello");
    redis_ok(&b->redis, "HSET " TAG "observe:empty v 1");
    redis_ok(&b->redis, "RPUSH " TAG "resource:/list a b c");
    redis_ok(&b->redis, "HSET " TAG "observe:10.99.0.2:5683|10.99.0.1:4|00000003 peer 10.99.0.1:5");
    redis_ok(&b->redis, "HSET " TAG "resource:/shared/b payload z");
    redis_ok(&b->redis, "HSET {coapgw:10.99.0.9:5683}:observe:x v 1"); /* another service's */
    bench_open(b);
    bench_until(b, bench_all_resumed(b));
    assert_int_equal(bench_relations(b), 9);
    assert_int_equal(b->told[0].resources, 1);
    assert_int_equal(bench_status(b).rejected, 5);
    bench_until(b,
                redis_number(&b->redis, "EXISTS " TAG "rejected:observe:text " TAG
                                        "rejected:observe:empty " TAG "rejected:resource:/list " TAG
                                        "rejected:observe:10.99.0.2:5683|10.99.0.1:4|00000003 " TAG
                                        "rejected:resource:/shared/b") == 5);
    assert_int_equal(redis_number(&b->redis, "EXISTS " TAG "observe:text"), 0);
    reply = redis_do(&b->redis, "GET " TAG "rejected:observe:text");
    assert_string_equal(reply->str, "hello");
    freeReplyObject(reply);
    assert_int_equal(redis_number(&b->redis, "EXISTS {coapgw:10.99.0.9:5683}:observe:x"), 1);
    bench_end(b);
}

static void other_listeners_are_left_alone(void **state)
{
    struct bench *b = bench_start();

    (void)state;
    bench_put_all(b, 1, 10);
    bench_close(b);
    b->listeners[0].port = 5685;
    bench_open(b);
    bench_until(b, bench_all_resumed(b));
    assert_int_equal(bench_relations(b), 0);
    assert_int_equal(bench_status(b).foreign, 10);
    assert_int_equal(bench_status(b).rejected, 0);
    bench_close(b);
    b->listeners[0].port = 5683;
    bench_open(b);
    bench_until(b, bench_all_resumed(b));
    assert_int_equal(bench_relations(b), 10);
    bench_end(b);
}

/* In Redis is always more than what workers have been told. */
static void the_mark_is_ahead(void **state)
{
    struct bench *b = bench_start();
    const uint64_t clock = b->now_us >> 14;
    struct parcel *parcel;
    struct store_head ask;
    uint64_t mark = b->told[0].mark;

    (void)state;
    assert_int_equal(b->told[0].floor, 0);
    assert_true(mark > clock + 3000 && mark < clock + 10000);
    assert_true((uint64_t)redis_number(&b->redis, "HGET " TAG "counter observe") >= mark);
    ask = (struct store_head){.mark = mark - 100};
    parcel = parcel_new(b->parcels, PARCEL_RECORD, STORE_MARK_ASK, sizeof(ask));
    assert_non_null(parcel);
    assert_true(parcel_write(parcel, 0, &ask, sizeof(ask)));
    assert_true(store_tell(b->store, 1, parcel));
    bench_until(b, b->told[0].mark > mark && b->told[1].mark > mark && b->told[2].mark > mark);
    assert_true(b->told[2].mark >= ask.mark + 3000);
    assert_true((uint64_t)redis_number(&b->redis, "HGET " TAG "counter observe") >=
                b->told[0].mark);
    mark = b->told[0].mark;
    bench_close(b);
    b->config.store.save_freq = 1000000;
    bench_open(b);
    bench_until(b, bench_all_up(b));
    assert_int_equal(b->told[0].floor, mark);
    assert_true(b->told[0].mark >= clock + 1000000);
    bench_end(b);
}

static void the_secret_stays(void **state)
{
    struct bench *b = bench_make(1023);
    uint8_t first[16], second[16];

    (void)state;
    b->store = store_create(&b->config);
    assert_int_equal(store_secret(b->store, first), 0);
    assert_int_equal(redis_number(&b->redis, "STRLEN " TAG "secret"), 32);
    assert_int_equal(redis_number(&b->redis, "EXISTS " TAG "owner"), 0);
    store_destroy(b->store);
    b->store = store_create(&b->config);
    assert_int_equal(store_secret(b->store, second), 0);
    assert_memory_equal(first, second, 16);
    store_destroy(b->store);
    redis_ok(&b->redis, "DEL " TAG "secret");
    b->store = store_create(&b->config);
    assert_int_equal(store_secret(b->store, second), 0);
    assert_memory_not_equal(first, second, 16);
    bench_end(b);
}

/* What time it was, and how far numbers had come: message IDs and Observe numbers have to go on
 * behind that, whatever the clock says now. */
static void the_past_is_known_at_the_start(void **state)
{
    struct bench *b = bench_start();
    struct store_past past;
    uint8_t secret[16];

    (void)state;
    bench_until(b, bench_all_up(b));
    assert_int_equal(store_past(b->store).clock_us, 0); /* it is the first start */
    assert_int_equal(store_past(b->store).floor, 0);
    bench_until(b, redis_number(&b->redis, "HGET " TAG "counter clock") == (long long)b->now_us);
    store_destroy(b->store);
    b->store = store_create(&b->config);
    assert_int_equal(store_secret(b->store, secret), 0);
    past = store_past(b->store);
    assert_int_equal(past.clock_us, b->now_us + 1100000);
    assert_true(redis_number(&b->redis, "HGET " TAG "counter clock") > (long long)past.clock_us);
    assert_true(past.floor > b->now_us >> 14);
    assert_int_equal(past.life, 1);
    assert_int_equal(redis_number(&b->redis, "HGET " TAG "counter lives"), 1);
    /* Numbers go on behind the floor, and the mark is ahead of them before the first is sent. */
    assert_true(redis_number(&b->redis, "HGET " TAG "counter observe") >=
                (long long)past.floor + 3662);
    redis_ok(&b->redis, "HSET " TAG "counter clock 99999999999999999999 observe -7 lives many");
    store_destroy(b->store);
    b->store = store_create(&b->config);
    assert_int_equal(store_secret(b->store, secret), 0);
    past = store_past(b->store);
    assert_int_equal(past.clock_us, 0);
    assert_int_equal(past.floor, 0);
    assert_int_equal(past.life, 1);
    assert_int_equal(redis_number(&b->redis, "HGET " TAG "counter lives"), 1);
    bench_end(b);
}

/* Without Redis it is random, and soon there; with Redis stopped, too. */
static void the_secret_does_not_wait_for_ever(void **state)
{
    struct bench *b = bench_make(1023);
    uint8_t first[16], second[16];
    uint64_t start;

    (void)state;
    b->config.store.timeout_ms = 300;
    kill(b->redis.pid, SIGSTOP);
    b->store = store_create(&b->config);
    start = bench_clock_ms();
    assert_int_equal(store_secret(b->store, first), 0);
    assert_true(bench_clock_ms() - start >= 300);
    redis_kill(&b->redis);
    assert_int_equal(store_secret(b->store, second), 0);
    assert_true(bench_clock_ms() - start < REDIS_GIVE_UP_MS);
    assert_memory_not_equal(first, second, 16);
    bench_end(b);
}

static void without_a_store_nothing_happens(void **state)
{
    struct config config = {.workers = 2, .store = {.kind = CONFIG_STORE_NONE}};
    struct store *store = store_create(&config);
    const struct store_setup setup = {.config = &config};
    struct rte_mempool *pool = parcel_pool_create("none", 15);
    struct parcel *parcel = parcel_new(pool, PARCEL_RECORD, STORE_PUT, 10);
    struct store_status status;
    uint8_t secret[16] = {0}, zero[16] = {0};

    (void)state;
    assert_non_null(store);
    assert_int_equal(store_secret(store, secret), 0);
    assert_memory_not_equal(secret, zero, 16);
    assert_int_equal(store_start(store, &setup), 0);
    assert_false(store_tell(store, 1, parcel));
    assert_null(store_take(store, 1));
    store_status(store, &status);
    assert_false(status.enabled);
    store_destroy(store);
    store_destroy(NULL);
    parcel_free(pool, parcel);
    parcel_pool_destroy(pool);
}

/* What is in the rings when it ends is written all the same. */
static void the_end_writes_what_is_there(void **state)
{
    struct bench *b = bench_start();

    (void)state;
    for (uint32_t n = 1; n <= 500; n++)
        assert_true(bench_say(b, STORE_PUT, n, n));
    bench_close(b);
    assert_int_equal(redis_number(&b->redis, "DBSIZE"), 500 + 2); /* and owner and counter */
    bench_end(b);
}

/* ---- TCP, and logging in ---- */

static struct bench *make_tcp(const char *host, const char *password)
{
    struct bench *b = calloc(1, sizeof(*b));

    assert_non_null(b);
    b->parcels = parcel_pool_create("parcels", 1023);
    assert_non_null(b->parcels);
    redis_start(&b->redis, true, password);
    bench_configure(b);
    b->config.store.kind = CONFIG_STORE_TCP;
    b->config.store.path = NULL;
    b->config.store.host = (char *)(uintptr_t)host;
    b->config.store.port = (uint16_t)atoi(b->redis.port);
    b->config.store.password = (char *)(uintptr_t)password;
    return b;
}

static void passwords_and_databases(void **state)
{
    struct bench *b = make_tcp("127.0.0.1", "s3cret word");

    (void)state;
    b->config.store.database = 3;
    bench_open(b);
    bench_until(b, bench_all_up(b));
    bench_put_all(b, 1, 5);
    redis_ok(&b->redis, "SELECT 3");
    assert_int_equal(redis_number(&b->redis, "DBSIZE"), 5 + 2);
    bench_close(b);
    redis_ok(&b->redis, "ACL SETUSER gateway on >other ~* +@all");
    b->config.store.username = (char[]){"gateway"};
    b->config.store.password = (char[]){"other"};
    bench_open(b);
    bench_until(b, bench_all_resumed(b));
    assert_int_equal(bench_relations(b), 5);
    bench_end(b);
}

static void a_wrong_password_is_told(void **state)
{
    struct bench *b = make_tcp("127.0.0.1", "right");

    (void)state;
    b->config.store.password = (char[]){"wrong"};
    bench_open(b);
    bench_until(b, strstr(bench_status(b).error, "WRONGPASS") != NULL);
    assert_null(strstr(bench_status(b).error, "wrong"));
    assert_false(bench_status(b).connected);
    assert_true(bench_say(b, STORE_PUT, 1, 1));
    bench_until(b, b->answered == 1);
    assert_int_equal(b->done[1], -ENOTCONN);
    redis_ok(&b->redis, "CONFIG SET requirepass wrong");
    bench_until(b, bench_all_up(b));
    assert_string_equal(bench_status(b).error, "");
    bench_end(b);
}

/* A host name, of which one address may not answer; and a server that comes later. */
static void names_are_looked_up(void **state)
{
    struct bench *b = make_tcp("localhost", NULL);

    (void)state;
    redis_kill(&b->redis);
    bench_open(b);
    bench_until(b, strstr(bench_status(b).error, "refused") != NULL);
    redis_run(&b->redis);
    bench_until(b, bench_all_up(b));
    bench_end(b);
}

static void names_that_are_none(void **state)
{
    /* A label of more than 63 bytes (RFC 1035 2.3.4): nobody is asked for it. */
    struct bench *b = make_tcp(
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL);

    (void)state;
    bench_open(b);
    bench_until(b, strstr(bench_status(b).error, "host name: ") != NULL);
    bench_end(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_put_read_and_deleted),
        cmocka_unit_test(all_is_read_back_by_its_owner),
        cmocka_unit_test(a_small_pool_is_enough),
        cmocka_unit_test(answers_wait_for_room),
        cmocka_unit_test(garbage_is_set_aside),
        cmocka_unit_test(other_listeners_are_left_alone),
        cmocka_unit_test(the_mark_is_ahead),
        cmocka_unit_test(the_secret_stays),
        cmocka_unit_test(the_past_is_known_at_the_start),
        cmocka_unit_test(the_secret_does_not_wait_for_ever),
        cmocka_unit_test(without_a_store_nothing_happens),
        cmocka_unit_test(the_end_writes_what_is_there),
        cmocka_unit_test(passwords_and_databases),
        cmocka_unit_test(a_wrong_password_is_told),
        cmocka_unit_test(names_are_looked_up),
        cmocka_unit_test(names_that_are_none),
    };

    return cmocka_run_group_tests(tests, bench_set_up, NULL);
}
