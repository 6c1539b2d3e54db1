/* Pre-shared keys that are asked of Redis. */
#include "tests/unit/store_bench.h"

enum { ASKS_MAX = 8192 };

/* What was answered, by cookie. */
static struct {
    unsigned count, answers[ASKS_MAX];
    int32_t error[ASKS_MAX];
    unsigned worker[ASKS_MAX];
    uint32_t length[ASKS_MAX];
    uint8_t key[ASKS_MAX][STORE_KEY_MAX];
} told;

static void key_told(struct bench *b, unsigned worker, const struct store_head *head,
                     const uint8_t *key, uint32_t length)
{
    const uint64_t cookie = head->cookie;

    (void)b;
    assert_true(cookie > 0 && cookie < ASKS_MAX);
    assert_int_equal(told.answers[cookie]++, 0); /* each is answered once */
    assert_true(head->error <= 0 && (head->error == 0) == (length != 0));
    told.error[cookie] = head->error;
    told.worker[cookie] = worker;
    told.length[cookie] = length;
    memcpy(told.key[cookie], key, length);
    told.count++;
}

static struct bench *start(void)
{
    struct bench *b = bench_make(16383);

    memset(&told, 0, sizeof(told));
    b->key_told = key_told;
    bench_open(b);
    bench_until(b, bench_all_up(b) && bench_all_resumed(b));
    return b;
}

static bool ask(struct bench *b, uint64_t cookie, const void *identity, size_t length)
{
    const struct store_head head = {.cookie = cookie};
    struct parcel *parcel =
        parcel_new(b->parcels, PARCEL_RECORD, STORE_KEY_ASK, (uint32_t)(sizeof(head) + length));

    assert_non_null(parcel);
    assert_true(parcel_write(parcel, 0, &head, sizeof(head)));
    assert_true(parcel_write(parcel, sizeof(head), identity, length));
    if (store_tell(b->store, (unsigned)(cookie % BENCH_WORKERS), parcel))
        return true;
    parcel_free(b->parcels, parcel);
    return false;
}

static void ask_name(struct bench *b, uint64_t cookie, const char *identity)
{
    while (!ask(b, cookie, identity, strlen(identity)))
        bench_turn(b);
}

static int32_t outcome_of(struct bench *b, uint64_t cookie, const char *identity)
{
    ask_name(b, cookie, identity);
    bench_until(b, told.answers[cookie]);
    assert_int_equal(told.worker[cookie], cookie % BENCH_WORKERS);
    return told.error[cookie];
}

static void a_key_is_found(void **state)
{
    static const uint8_t odd[] = {'d', ' ', 0xc3, '"', '\n', 'x', '*'};
    struct bench *b = start();
    uint8_t longest[STORE_IDENTITY_MAX];

    (void)state;
    memset(longest, 'i', sizeof(longest));
    redis_ok(&b->redis, "SET {coapgw}:psk:alice 00FFab");
    redis_ok(&b->redis, "SET {coapgw}:psk:%b 01", odd, sizeof(odd));
    redis_ok(&b->redis, "SET {coapgw}:psk:%b 02", longest, sizeof(longest));
    assert_int_equal(outcome_of(b, 1, "alice"), 0);
    assert_int_equal(told.length[1], 3);
    assert_memory_equal(told.key[1], "\x00\xff\xab", 3);
    assert_true(ask(b, 2, odd, sizeof(odd)));
    assert_true(ask(b, 3, longest, sizeof(longest)));
    bench_until(b, told.count == 3);
    assert_int_equal(told.key[2][0], 1);
    assert_int_equal(told.key[3][0], 2);
    assert_int_equal(outcome_of(b, 4, "Alice"), -ENOENT);
    assert_int_equal(outcome_of(b, 5, "alice "), -ENOENT);
    assert_int_equal(outcome_of(b, 6, "*"), -ENOENT);
    assert_true(ask(b, 7, odd, 0)); /* nobody, and one that is longer than any */
    assert_true(ask(b, 8, TAG TAG TAG TAG TAG TAG TAG TAG, STORE_IDENTITY_MAX + 1));
    bench_until(b, told.count == 8);
    assert_int_equal(told.error[7], -ENOENT);
    assert_int_equal(told.error[8], -ENOENT);
    assert_int_equal(bench_status(b).keys_found, 3);
    assert_int_equal(bench_status(b).keys_unknown, 5);
    bench_end(b);
}

/* A key is 1 to 64 bytes; what else is there is said once. */
static void bad_values_are_no_keys(void **state)
{
    static const char *const bad[] = {"", "0", "0g", "00 ", "0x00", "00\n", "-1", "000"};
    struct bench *b = start();
    char digits[2 * STORE_KEY_MAX + 3];
    char text[4096];
    FILE *errors = tmpfile();
    int old = dup(STDERR_FILENO);
    const char *line;

    (void)state;
    assert_true(errors && old >= 0 && dup2(fileno(errors), STDERR_FILENO) >= 0);
    for (unsigned i = 0; i < 8; i++) {
        redis_ok(&b->redis, "SET {coapgw}:psk:bad%u %b", i, bad[i], strlen(bad[i]));
        snprintf(text, sizeof(text), "bad%u", i);
        assert_int_equal(outcome_of(b, 1 + i, text), -EBADMSG);
    }
    memset(digits, 'a', sizeof(digits));
    redis_ok(&b->redis, "SET {coapgw}:psk:longest %b", digits, (size_t)2 * STORE_KEY_MAX);
    redis_ok(&b->redis, "SET {coapgw}:psk:longer %b", digits, (size_t)2 * STORE_KEY_MAX + 2);
    redis_ok(&b->redis, "RPUSH {coapgw}:psk:list 00");
    assert_int_equal(outcome_of(b, 20, "longest"), 0);
    assert_int_equal(told.length[20], STORE_KEY_MAX);
    assert_int_equal(outcome_of(b, 21, "longer"), -EBADMSG);
    assert_int_equal(outcome_of(b, 22, "list"), -EBADMSG);
    assert_int_equal(bench_status(b).keys_bad, 10);
    assert_int_equal(bench_status(b).keys_found, 1);
    fflush(stderr);
    assert_true(dup2(old, STDERR_FILENO) >= 0);
    close(old);
    rewind(errors);
    text[fread(text, 1, sizeof(text) - 1, errors)] = 0;
    fclose(errors);
    line = strstr(text, "the pre-shared key of \"bad0\"");
    assert_non_null(line);
    assert_null(strstr(line + 1, "the pre-shared key of"));
    assert_null(strstr(text, "0x00")); /* never a value */
    bench_end(b);
}

static void nobody_is_asked_without_redis(void **state)
{
    struct bench *b = start();

    (void)state;
    redis_kill(&b->redis);
    bench_until(b, bench_all_down(b));
    assert_int_equal(outcome_of(b, 1, "alice"), -ENOTCONN);
    redis_run(&b->redis);
    redis_ok(&b->redis, "SET {coapgw}:psk:alice 00");
    bench_until(b, bench_all_up(b));
    assert_int_equal(outcome_of(b, 2, "alice"), 0);
    assert_int_equal(bench_status(b).keys_failed, 1);
    bench_end(b);
}

/* Redis stands still: each is told in time. What it says when it goes on is for nobody. */
static void late_answers_do_not_count(void **state)
{
    struct bench *b = start();

    (void)state;
    bench_close(b);
    b->config.store.timeout_ms = 300;
    bench_open(b);
    bench_until(b, bench_all_up(b) && bench_all_resumed(b));
    redis_ok(&b->redis, "SET {coapgw}:psk:alice 00");
    kill(b->redis.pid, SIGSTOP);
    for (unsigned i = 1; i <= 10; i++)
        ask_name(b, i, "alice");
    bench_until(b, told.count == 10);
    for (unsigned i = 1; i <= 10; i++)
        assert_int_equal(told.error[i], -ETIMEDOUT);
    kill(b->redis.pid, SIGCONT);
    bench_turns_for(b, 200);
    assert_int_equal(told.count, 10);
    assert_int_equal(outcome_of(b, 11, "alice"), 0);
    bench_end(b);
}

/* So many at a time, and each is answered; the same when the connection goes under them. */
static void questions_are_bounded(void **state)
{
    enum { ASKS = 3000 };
    struct bench *b = start();
    unsigned refused = 0, lost = 0;

    (void)state;
    redis_ok(&b->redis, "SET {coapgw}:psk:alice 00");
    kill(b->redis.pid, SIGSTOP);
    for (unsigned i = 1; i <= ASKS; i++)
        ask_name(b, i, "alice");
    bench_until(b, told.count >= ASKS - 1024);
    bench_turns_for(b, 100);
    assert_int_equal(told.count, ASKS - 1024);
    redis_kill(&b->redis);
    bench_until(b, told.count == ASKS);
    for (unsigned i = 1; i <= ASKS; i++) {
        refused += told.error[i] == -ENOSPC;
        lost += told.error[i] == -ENOTCONN;
    }
    assert_int_equal(refused, ASKS - 1024);
    assert_int_equal(lost, 1024);
    redis_run(&b->redis);
    bench_until(b, bench_all_up(b));
    assert_int_equal(outcome_of(b, ASKS + 1, "alice"), 0);
    bench_end(b);
}

/* A Redis that takes no records has keys all the same; nothing is lost when the end comes. */
static void keys_need_no_records(void **state)
{
    struct bench *b = start();

    (void)state;
    redis_ok(&b->redis, "SET {coapgw}:psk:alice 00");
    redis_ok(&b->redis, "CONFIG SET maxmemory 1");
    assert_true(bench_say(b, STORE_PUT, 1, 1));
    bench_until(b, b->answered == 1);
    assert_int_equal(b->done[1], -EIO);
    assert_int_equal(outcome_of(b, 1, "alice"), 0);
    kill(b->redis.pid, SIGSTOP);
    for (unsigned i = 2; i <= 50; i++)
        ask_name(b, i, "alice");
    bench_turns_for(b, 100);
    bench_close(b); /* looks whether all parcels are back */
    kill(b->redis.pid, SIGCONT);
    bench_end(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_found),
        cmocka_unit_test(bad_values_are_no_keys),
        cmocka_unit_test(nobody_is_asked_without_redis),
        cmocka_unit_test(late_answers_do_not_count),
        cmocka_unit_test(questions_are_bounded),
        cmocka_unit_test(keys_need_no_records),
    };

    return cmocka_run_group_tests(tests, bench_set_up, NULL);
}
