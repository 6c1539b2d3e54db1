/* The store while Redis is killed, stopped, emptied, full, or somebody else's. */
#include "tests/unit/store_bench.h"

/* Puts relation after relation for some time, each with its number as its cookie. */
static uint32_t put_for(struct bench *b, uint32_t next, unsigned ms)
{
    for (uint64_t end = bench_clock_ms() + ms; bench_clock_ms() < end;) {
        for (unsigned i = 0; i < 32 && next < BENCH_COOKIES; i++)
            if (bench_say(b, STORE_PUT, next, next))
                next++;
        bench_turn(b);
    }
    return next;
}

static unsigned count_done(const struct bench *b, uint32_t first, uint32_t end, int32_t error)
{
    unsigned n = 0;

    for (uint32_t i = first; i < end; i++)
        n += b->done[i] == error;
    return n;
}

static void redis_comes_back_and_all_is_verified(void **state)
{
    enum { RELATIONS = 500 };
    struct bench *b = bench_start();

    (void)state;
    b->seen = calloc(RELATIONS + 1, 1);
    b->seen_verify = calloc(RELATIONS + 1, 1);
    bench_put_all(b, 1, RELATIONS);
    redis_kill(&b->redis);
    bench_until(b, bench_all_down(b));
    assert_false(bench_status(b).connected);
    assert_true(bench_status(b).error[0]);
    assert_true(bench_say(b, STORE_PUT, RELATIONS + 1, RELATIONS + 1));
    assert_true(bench_say(b, STORE_DELETE, 0, 1)); /* is dropped */
    bench_until(b, b->done[RELATIONS + 1] != NOT_DONE);
    assert_int_equal(b->done[RELATIONS + 1], -ENOTCONN);
    b->delete_unknown = true; /* what it is asked for it does not have any more */
    redis_run(&b->redis);
    bench_until(b, bench_ups(b) == 2);
    bench_until(b, bench_relations(b) >= RELATIONS);
    bench_until(b, redis_number(&b->redis, "DBSIZE") == 2);
    for (unsigned i = 1; i <= RELATIONS; i++)
        assert_true(b->seen[i] == 0 && b->seen_verify[i] >= 1);
    for (unsigned i = 0; i < BENCH_WORKERS; i++) {
        assert_int_equal(b->told[i].downs, 1);
        assert_int_equal(b->told[i].resumed, 1);
    }
    assert_true(bench_status(b).connected && bench_status(b).connects == 2);
    bench_end(b);
}

/* kill -9 while records are being put: each is answered, and what was confirmed is there. */
static void killed_in_mid_stream(void **state)
{
    struct bench *b = bench_start();
    uint32_t next = 1;

    (void)state;
    for (unsigned round = 0; round < 5; round++) {
        next = put_for(b, next, 200);
        redis_kill(&b->redis);
        next = put_for(b, next, 50);
        redis_run(&b->redis);
        bench_until(b, bench_ups(b) == round + 2);
    }
    bench_until(b, b->answered == next - 1);
    assert_int_equal(count_done(b, 1, next, 0) + count_done(b, 1, next, -ENOTCONN), next - 1);
    assert_true(count_done(b, 1, next, 0) > 0 && count_done(b, 1, next, -ENOTCONN) > 0);
    for (uint32_t n = 1; n < next; n++) {
        uint8_t packet[11];
        const struct store_relation relation = bench_relation(n, packet);

        if (b->done[n] == 0)
            assert_int_equal(redis_number(&b->redis,
                                          "EXISTS " TAG "observe:10.99.0.2:5683|10.99.0.1:%u|%08x",
                                          relation.peer.port, n),
                             1);
    }
    bench_end(b);
}

/* The connection is lost while all is read back for the first time: what was not read is resumed
 * later, what was read is verified; what was put meanwhile is verified, too. */
static void a_reading_is_interrupted(void **state)
{
    enum { RELATIONS = 40000 };
    struct bench *b = bench_start();
    int resumed;

    (void)state;
    b->seen = calloc(BENCH_COOKIES, 1);
    b->seen_verify = calloc(BENCH_COOKIES, 1);
    bench_put_all(b, 1, RELATIONS);
    bench_close(b);
    bench_open(b);
    bench_until(b, bench_all_up(b));
    bench_put_all(b, RELATIONS + 1, 1);
    b->deaf = true; /* so that the rings stop the reading */
    bench_turns_for(b, 200);
    b->deaf = false;
    bench_until(b, bench_relations(b) > 1000);
    assert_false(bench_status(b).resumed);
    redis_kill(&b->redis);
    bench_until(b, bench_all_down(b));
    resumed = (int)bench_relations(b);
    assert_true(resumed < RELATIONS);
    redis_run(&b->redis);
    bench_until(b, bench_all_resumed(b));
    for (uint32_t n = 1; n <= RELATIONS; n++)
        assert_int_equal(b->seen[n], 1);
    for (uint32_t n = 1; n <= RELATIONS; n++)
        resumed -= b->seen_verify[n];
    assert_true(resumed <= 1); /* the one that was put meanwhile */
    assert_int_equal(b->seen[RELATIONS + 1], 0);
    assert_true(b->seen_verify[RELATIONS + 1] >= 1);
    bench_end(b);
}

static void redis_stands_still(void **state)
{
    struct bench *b = bench_make(16383);
    uint64_t start;
    uint32_t next;

    (void)state;
    b->config.store.timeout_ms = 300;
    bench_open(b);
    bench_until(b, bench_all_up(b) && bench_all_resumed(b));
    bench_put_all(b, 1, 10);
    kill(b->redis.pid, SIGSTOP);
    start = bench_clock_ms();
    assert_true(bench_say(b, STORE_PUT, 11, 11));
    assert_true(bench_say(b, STORE_DELETE, 0, 1));
    bench_until(b, b->done[11] != NOT_DONE);
    assert_int_equal(b->done[11], -ETIMEDOUT);
    assert_true(bench_clock_ms() - start >= 300);
    next = put_for(b, 12, 1000);
    assert_true(bench_status(b).connected);
    kill(b->redis.pid, SIGCONT);
    bench_until(b, b->answered == next - 1);
    assert_int_equal(count_done(b, 11, next, -EIO), 0);
    assert_true(bench_status(b).timeouts > 0);
    bench_until(b, bench_all_up(b));
    bench_until(b, redis_number(&b->redis,
                                "EXISTS " TAG "observe:10.99.0.2:5683|10.99.0.1:12|0000000b") == 1);
    bench_until(b, redis_number(&b->redis,
                                "EXISTS " TAG "observe:10.99.0.2:5683|10.99.0.1:2|00000001") == 0);
    bench_end(b);
}

/* More than the pipeline takes: the rest is refused in time, and all is put again later. */
static void too_much_is_refused(void **state)
{
    struct bench *b = bench_make(16383);
    static uint8_t payload[64000];

    (void)state;
    b->config.store.timeout_ms = 1000;
    bench_open(b);
    bench_until(b, bench_all_up(b) && bench_all_resumed(b));
    kill(b->redis.pid, SIGSTOP);
    for (unsigned n = 1; n <= 100; n++)
        while (!bench_put_resource(b, n, "/shared/a", payload, sizeof(payload), n))
            bench_turn(b);
    bench_until(b, b->answered == 100);
    assert_true(count_done(b, 1, 101, -ENOSPC) > 0);
    assert_int_equal(count_done(b, 1, 101, -ENOSPC) + count_done(b, 1, 101, -ETIMEDOUT), 100);
    assert_string_equal(bench_status(b).error, "too many commands are under way");
    kill(b->redis.pid, SIGCONT);
    bench_until(b, bench_ups(b) == 2);
    assert_string_equal(bench_status(b).error, "");
    bench_end(b);
}

/* Nothing is heard for 5 s: the connection is given up, and made again. */
static void silence_ends_the_connection(void **state)
{
    struct bench *b = bench_start();

    (void)state;
    kill(b->redis.pid, SIGSTOP);
    assert_true(bench_say(b, STORE_PUT, 1, 1));
    bench_until(b, bench_all_down(b));
    assert_false(bench_status(b).connected);
    assert_int_equal(bench_status(b).under_way, 0);
    assert_string_equal(bench_status(b).error, "no answer for 5 s");
    assert_int_equal(b->done[1], -ENOTCONN);
    kill(b->redis.pid, SIGCONT);
    bench_until(b, bench_all_up(b));
    bench_put_all(b, 2, 10);
    assert_int_equal(count_done(b, 2, 12, 0), 10);
    bench_end(b);
}

static void another_gateway_takes_over(void **state)
{
    struct bench *b = bench_start();
    redisReply *reply;

    (void)state;
    bench_put_all(b, 1, 10);
    redis_ok(&b->redis, "SET " TAG "owner other");
    bench_until(b, bench_all_down(b));
    assert_false(bench_status(b).owner);
    assert_false(bench_status(b).connected);
    assert_non_null(strstr(bench_status(b).error, "other"));
    assert_true(bench_say(b, STORE_PUT, 11, 11));
    bench_until(b, b->answered == 11);
    assert_int_equal(b->done[11], -ENOTCONN);
    bench_turns_for(b, 1500);
    for (unsigned i = 0; i < BENCH_WORKERS; i++)
        assert_int_equal(b->told[i].overs, 1);
    reply = redis_do(&b->redis, "GET " TAG "owner");
    assert_string_equal(reply->str, "other");
    freeReplyObject(reply);
    assert_int_equal(redis_number(&b->redis, "DBSIZE"), 10 + 2);
    bench_close(b);
    bench_open(b); /* the newest one owns it */
    bench_until(b, bench_all_resumed(b));
    assert_int_equal(bench_relations(b), 10);
    assert_true(bench_status(b).owner);
    bench_end(b);
}

/* The same while the connection was lost. */
static void another_gateway_took_over_meanwhile(void **state)
{
    struct bench *b = bench_start();

    (void)state;
    redis_ok(&b->redis, "MULTI");
    redis_ok(&b->redis, "SET " TAG "owner other");
    redis_ok(&b->redis, "CLIENT KILL TYPE normal SKIPME yes");
    redis_ok(&b->redis, "EXEC");
    bench_until(b, bench_all_down(b));
    bench_until(b, !bench_status(b).owner);
    bench_turns_for(b, 300);
    assert_true(bench_all_down(b));
    for (unsigned i = 0; i < BENCH_WORKERS; i++)
        assert_int_equal(b->told[i].overs, 1);
    bench_end(b);
}

static void data_is_lost(void **state)
{
    struct bench *b = bench_make(1023);
    uint8_t secret[16];
    uint64_t mark;

    (void)state;
    b->secret = secret;
    bench_open(b);
    bench_until(b, bench_all_up(b) && bench_all_resumed(b));
    mark = b->told[0].mark;
    redis_ok(&b->redis, "FLUSHALL");
    bench_until(b, bench_ups(b) == 2);
    for (unsigned i = 0; i < BENCH_WORKERS; i++) {
        assert_int_equal(b->told[i].downs, 1);
        assert_int_equal(b->told[i].resumed, 1);
    }
    assert_true((uint64_t)redis_number(&b->redis, "HGET " TAG "counter observe") >= mark);
    assert_int_equal(redis_number(&b->redis, "STRLEN " TAG "secret"), 32);
    assert_int_equal(redis_number(&b->redis, "HGET " TAG "counter lives"), 1);
    assert_int_equal(redis_number(&b->redis, "EXISTS " TAG "owner"), 1);
    bench_end(b);
}

/* Redis refuses to write: said, and all is put again afterwards. */
static void redis_is_full(void **state)
{
    struct bench *b = bench_start();

    (void)state;
    redis_ok(&b->redis, "CONFIG SET maxmemory 1");
    bench_put_all(b, 1, 5);
    assert_int_equal(count_done(b, 1, 6, -EIO), 5);
    assert_int_equal(bench_status(b).failed, 5);
    assert_non_null(strstr(bench_status(b).error, "OOM"));
    assert_true(bench_status(b).connected);
    bench_turns_for(b, 2500);
    assert_int_equal(bench_ups(b), 1);
    redis_ok(&b->redis, "CONFIG SET maxmemory 0");
    bench_until(b, bench_ups(b) == 2);
    assert_string_equal(bench_status(b).error, "");
    bench_put_all(b, 6, 5);
    assert_int_equal(count_done(b, 6, 11, 0), 5);
    bench_end(b);
}

/* A server that has become a replica is left, since another one may be behind its name. */
static void redis_becomes_a_replica(void **state)
{
    struct bench *b = bench_start();

    (void)state;
    redis_ok(&b->redis, "REPLICAOF 127.0.0.1 1");
    bench_put_all(b, 1, 1);
    assert_int_equal(b->done[1], -EIO);
    bench_until(b, bench_all_down(b));
    assert_non_null(strstr(bench_status(b).error, "READONLY"));
    redis_ok(&b->redis, "REPLICAOF NO ONE");
    bench_until(b, bench_all_up(b));
    bench_end(b);
}

/* At the start there is no Redis: what is put and deleted then is not of before. */
static void redis_comes_late(void **state)
{
    struct bench *b = bench_start();

    (void)state;
    b->seen = calloc(BENCH_COOKIES, 1);
    b->seen_verify = calloc(BENCH_COOKIES, 1);
    bench_put_all(b, 1, 100);
    bench_close(b);
    redis_kill(&b->redis);
    bench_open(b);
    assert_true(bench_say(b, STORE_PUT, 1, 1));
    assert_true(bench_say(b, STORE_DELETE, 0, 2));
    bench_until(b, b->answered == 1);
    assert_int_equal(b->done[1], -ENOTCONN);
    bench_turns_for(b, 100);
    redis_run(&b->redis);
    bench_until(b, bench_all_resumed(b));
    assert_true(b->seen[1] == 0 && b->seen_verify[1] >= 1);
    assert_true(b->seen[2] == 0 && b->seen_verify[2] >= 1);
    for (uint32_t n = 3; n <= 100; n++)
        assert_int_equal(b->seen[n], 1);
    bench_end(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(redis_comes_back_and_all_is_verified),
        cmocka_unit_test(killed_in_mid_stream),
        cmocka_unit_test(a_reading_is_interrupted),
        cmocka_unit_test(redis_stands_still),
        cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(silence_ends_the_connection),
        cmocka_unit_test(another_gateway_takes_over),
        cmocka_unit_test(another_gateway_took_over_meanwhile),
        cmocka_unit_test(data_is_lost),
        cmocka_unit_test(redis_is_full),
        cmocka_unit_test(redis_becomes_a_replica),
        cmocka_unit_test(redis_comes_late),
    };

    return cmocka_run_group_tests(tests, bench_set_up, NULL);
}
