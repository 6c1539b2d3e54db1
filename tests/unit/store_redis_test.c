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
        assert_true(b->seen[i] == 1 && b->seen_verify[i] == 0);
    for (unsigned i = 0; i < BENCH_WORKERS; i++) {
        static const uint8_t events[] = {STORE_MARK, STORE_UP, STORE_RESUMED};

        assert_int_equal(b->told[i].resources, 20);
        assert_int_equal(b->told[i].relations_before_resources, 0);
        assert_int_equal(b->told[i].records_while_down, 0);
        assert_int_equal(b->told[i].verifies, 0);
        assert_int_equal(b->told[i].event_count, sizeof(events));
        assert_memory_equal(b->told[i].events, events, sizeof(events));
    }
    assert_int_equal(bench_status(b).read, RELATIONS + 20);
    assert_int_equal(bench_status(b).rejected, 0);
    bench_end(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_put_read_and_deleted),
        cmocka_unit_test(all_is_read_back_by_its_owner),
    };

    return cmocka_run_group_tests(tests, bench_set_up, NULL);
}
