/* The order of commands across connections: what an old one still holds does not come after what
 * the next one has written. */
#include "tests/unit/store_bench.h"

enum { RELATIONS = 20000 };

static void say_one(struct bench *b, enum store_type type, uint32_t n)
{
    while (!bench_say(b, type, type == STORE_PUT ? n : 0, n))
        bench_turn(b);
}

static void use_tcp(struct bench *b)
{
    redis_stop(&b->redis);
    redis_start(&b->redis, true, NULL);
    b->config.store.kind = CONFIG_STORE_TCP;
    b->config.store.path = NULL;
    b->config.store.port = (uint16_t)atoi(b->redis.port);
}

/* Redis stands still with deletions in its buffers. When it goes on, it has a new connection, on
 * which the same records are put. The old one ends with the first answer that nobody takes, before
 * the set-up of the new one is through. */
static void old_commands_do_not_come_late(void **state)
{
    char host[] = "127.0.0.1";
    struct bench *b = bench_make(16383);

    (void)state;
    use_tcp(b);
    b->config.store.host = host;
    bench_open(b);
    bench_until(b, bench_all_up(b) && bench_all_resumed(b));
    bench_put_all(b, 1, RELATIONS);
    assert_int_equal(redis_number(&b->redis, "DBSIZE"), RELATIONS + 2);
    bench_forget(b);
    for (unsigned i = 0; i < BENCH_WORKERS; i++)
        b->told[i].up = true;
    kill(b->redis.pid, SIGSTOP);
    for (uint32_t n = 1; n <= RELATIONS; n++)
        say_one(b, STORE_DELETE, n);
    bench_until(b, bench_all_down(b));
    bench_turns_for(b, 500); /* it has got the next connection, too */
    kill(b->redis.pid, SIGCONT);
    bench_until(b, bench_all_up(b));
    for (uint32_t n = RELATIONS; n; n--) /* the last one that was deleted is put first */
        say_one(b, STORE_PUT, n);
    bench_until(b, b->answered == RELATIONS);
    bench_turns_for(b, 1000);
    for (uint32_t n = 1; n <= RELATIONS; n++)
        assert_int_equal(b->done[n], 0);
    assert_int_equal(redis_number(&b->redis, "DBSIZE"), RELATIONS + 2);
    bench_end(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_commands_do_not_come_late),
    };

    return cmocka_run_group_tests(tests, bench_set_up, NULL);
}
