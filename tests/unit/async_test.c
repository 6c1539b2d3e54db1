/* Requests that are answered later, without anything around them: when they are due, how they are
 * found, and what becomes of their data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/random.h"
#include "gateway/serve/async.h"

#define MILLI_US UINT64_C(1000)
#define START_US (UINT64_C(1764000000) * 1000000 + 123456)
#define MANY     10000u
#define SESSIONS 64u

struct fixture {
    struct wheel wheel;
    struct chunks chunks;
    struct asyncs asyncs;
    uint64_t now;
    unsigned fired;
    void (*then)(struct fixture *f, struct async *async);
    uint64_t fired_at[MANY]; /* by the number in its data */
};

static unsigned destroyed;

static void count_destroyed(void *data)
{
    (void)data;
    destroyed++;
}

static void on_due(void *context, struct async *async)
{
    struct fixture *f = context;

    f->fired++;
    f->then(f, async);
}

static void set_up(struct fixture *f, uint32_t capacity)
{
    struct asyncs_setup setup = {.wheel = &f->wheel,
                                 .chunks = &f->chunks,
                                 .capacity = capacity,
                                 .sessions = SESSIONS,
                                 .seed = 42,
                                 .due = on_due,
                                 .context = f};

    memset(f, 0, sizeof(*f));
    destroyed = 0;
    f->now = START_US;
    wheel_init(&f->wheel, f->now);
    assert_int_equal(chunks_init(&f->chunks, 64 * CHUNK_BYTES), 0);
    assert_int_equal(asyncs_init(&f->asyncs, &setup), 0);
}

static void tear_down(struct fixture *f)
{
    assert_int_equal(pool_used(&f->asyncs.pool), 0);
    assert_int_equal(pool_used(&f->chunks.pool), 0);
    assert_int_equal(f->wheel.armed, 0);
    asyncs_fini(&f->asyncs);
    chunks_fini(&f->chunks);
}

static struct async *add(struct fixture *f, uint32_t session, const char *token)
{
    struct async *async = NULL;

    assert_int_equal(async_register(&f->asyncs, session, (const uint8_t *)token,
                                    (uint32_t)strlen(token), &async),
                     0);
    return async;
}

/* ---- time ---- */

static void note_and_free(struct fixture *f, struct async *async)
{
    f->fired_at[(uintptr_t)async->data] = f->now;
    async_free(&f->asyncs, async);
}

/* The worker's loop: sleeps until something is due, and looks at the time now and then. */
static void run_until(struct fixture *f, uint64_t end)
{
    while (f->now < end) {
        uint64_t next = wheel_next_us(&f->wheel);

        f->now = next > f->now ? next : f->now + 500;
        if (f->now > end)
            f->now = end;
        while (wheel_advance(&f->wheel, f->now, 512) == 512)
            ;
    }
}

static void test_ten_thousand_fire_within_2_ms(void **state)
{
    static struct fixture f;
    static uint64_t due[MANY];
    uint8_t seed[RANDOM_SEED_BYTES] = {7};
    struct random random;

    (void)state;
    set_up(&f, MANY);
    f.then = note_and_free;
    random_seed(&random, seed);
    for (unsigned i = 0; i < MANY; i++) {
        uint64_t delay_us = 10 * MILLI_US + random_below(&random, 59990 * 1000 + 1);
        uint8_t token[4] = {(uint8_t)i, (uint8_t)(i >> 8), 1, 2};
        struct async *async;

        assert_int_equal(async_register(&f.asyncs, i % SESSIONS, token, sizeof(token), &async), 0);
        async_attach(async, (void *)(uintptr_t)i, NULL);
        due[i] = f.now + delay_us;
        async_set_delay(&f.asyncs, async, f.now, delay_us);
        if (i % 100 == 99) /* they do not all come at once */
            run_until(&f, f.now + 1 * MILLI_US);
    }
    run_until(&f, START_US + 61 * 1000 * MILLI_US);
    assert_int_equal(f.fired, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        assert_true(f.fired_at[i] >= due[i]);
        assert_true(f.fired_at[i] - due[i] <= 2 * MILLI_US);
    }
    tear_down(&f);
}

static void leave(struct fixture *f, struct async *async)
{
    (void)f;
    (void)async;
}

static void test_delays_change(void **state)
{
    static struct fixture f;
    struct async *async;

    (void)state;
    set_up(&f, 4);
    f.then = leave;
    async = add(&f, 1, "a");
    run_until(&f, f.now + 100 * 1000 * MILLI_US);
    assert_int_equal(f.fired, 0); /* not told yet */
    async_set_delay(&f.asyncs, async, f.now, 50 * MILLI_US);
    run_until(&f, f.now + 40 * MILLI_US);
    async_set_delay(&f.asyncs, async, f.now, 50 * MILLI_US);
    run_until(&f, f.now + 40 * MILLI_US);
    assert_int_equal(f.fired, 0);
    run_until(&f, f.now + 12 * MILLI_US);
    assert_int_equal(f.fired, 1);
    run_until(&f, f.now + 1000 * MILLI_US);
    assert_int_equal(f.fired, 1); /* once for each time that it is told */
    async_set_delay(&f.asyncs, async, f.now, 50 * MILLI_US);
    async_set_delay(&f.asyncs, async, f.now, 0);
    run_until(&f, f.now + 1000 * MILLI_US);
    assert_int_equal(f.fired, 1);
    async_trigger(&f.asyncs, async, f.now);
    assert_int_equal(f.fired, 1); /* not from within */
    run_until(&f, f.now + 2 * MILLI_US);
    assert_int_equal(f.fired, 2);
    async_set_delay(&f.asyncs, async, f.now, 50 * MILLI_US);
    async_free(&f.asyncs, async);
    run_until(&f, f.now + 1000 * MILLI_US);
    assert_int_equal(f.fired, 2);
    tear_down(&f);
}

/* ---- finding ---- */

static void test_session_and_token_name_it(void **state)
{
    static const char long_token[] = "a token that is longer than eight bytes";
    static struct fixture f;
    struct async *a, *b, *c, *d, *refused;

    (void)state;
    set_up(&f, 4);
    a = add(&f, 1, "tok");
    b = add(&f, 2, "tok");
    c = add(&f, 1, "");
    d = add(&f, 1, long_token);
    assert_ptr_equal(async_find(&f.asyncs, 1, (const uint8_t *)"tok", 3), a);
    assert_ptr_equal(async_find(&f.asyncs, 2, (const uint8_t *)"tok", 3), b);
    assert_ptr_equal(async_find(&f.asyncs, 1, NULL, 0), c);
    assert_ptr_equal(async_find(&f.asyncs, 1, (const uint8_t *)long_token, sizeof(long_token) - 1),
                     d);
    assert_null(async_find(&f.asyncs, 1, (const uint8_t *)"to", 2));
    assert_null(async_find(&f.asyncs, 3, (const uint8_t *)"tok", 3));
    assert_int_equal(async_register(&f.asyncs, 1, (const uint8_t *)"tok", 3, &refused), -EEXIST);
    assert_int_equal(
        async_register(&f.asyncs, 1, (const uint8_t *)long_token, sizeof(long_token) - 1, &refused),
        -EEXIST);
    assert_int_equal(async_register(&f.asyncs, 3, (const uint8_t *)"tok", 3, &refused), -ENOSPC);
    async_free(&f.asyncs, a);
    assert_null(async_find(&f.asyncs, 1, (const uint8_t *)"tok", 3));
    a = add(&f, 1, "tok");
    while ((refused = async_first(&f.asyncs, 1)) != NULL)
        async_free(&f.asyncs, refused);
    assert_ptr_equal(async_first(&f.asyncs, 2), b);
    async_free(&f.asyncs, b);
    tear_down(&f);
}

/* Tokens that the message memory has no room for. */
static void test_memory_for_tokens_is_bounded(void **state)
{
    static struct fixture f;
    struct async *async, *last = NULL;
    uint8_t token[200];
    unsigned n = 0;

    (void)state;
    set_up(&f, 1000);
    for (;; n++) {
        memset(token, (int)n, sizeof(token));
        int err = async_register(&f.asyncs, 1, token, sizeof(token), &async);

        if (err) {
            assert_int_equal(err, -ENOMEM);
            break;
        }
        last = async;
    }
    assert_int_equal(n, 32); /* two chunks each */
    async_free(&f.asyncs, last);
    assert_int_equal(async_register(&f.asyncs, 1, token, sizeof(token), &async), 0);
    while ((async = async_first(&f.asyncs, 1)) != NULL)
        async_free(&f.asyncs, async);
    tear_down(&f);
}

/* ---- handles and data ---- */

static void test_handles_of_what_has_gone(void **state)
{
    static struct fixture f;
    struct async *a, *b;
    uint64_t first, second;

    (void)state;
    set_up(&f, 1);
    a = add(&f, 1, "a");
    first = async_handle(&f.asyncs, a);
    assert_true(first != 0);
    assert_true(async_handle(&f.asyncs, a) == first);
    assert_ptr_equal(async_at(&f.asyncs, first), a);
    async_free(&f.asyncs, a);
    assert_null(async_at(&f.asyncs, first));
    b = add(&f, 1, "a");
    assert_ptr_equal(b, a); /* the same place */
    assert_null(async_at(&f.asyncs, first));
    second = async_handle(&f.asyncs, b);
    assert_true(second != first);
    assert_ptr_equal(async_at(&f.asyncs, second), b);
    assert_null(async_at(&f.asyncs, 0));
    assert_null(async_at(&f.asyncs, UINT64_MAX));
    assert_null(async_at(&f.asyncs, second | 0xffff));
    async_free(&f.asyncs, b);
    tear_down(&f);
}

static void test_data_is_destroyed_once(void **state)
{
    static struct fixture f;
    struct async *async;
    int one, two;

    (void)state;
    set_up(&f, 2);
    async = add(&f, 1, "a");
    async_attach(async, &one, count_destroyed);
    assert_ptr_equal(async->data, &one);
    assert_int_equal(destroyed, 0);
    async_attach(async, &two, count_destroyed);
    assert_int_equal(destroyed, 1);
    async_free(&f.asyncs, async);
    assert_int_equal(destroyed, 2);
    async = add(&f, 1, "a");
    async_free(&f.asyncs, async);
    assert_int_equal(destroyed, 2);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ten_thousand_fire_within_2_ms),
        cmocka_unit_test(test_delays_change),
        cmocka_unit_test(test_session_and_token_name_it),
        cmocka_unit_test(test_memory_for_tokens_is_bounded),
        cmocka_unit_test(test_handles_of_what_has_gone),
        cmocka_unit_test(test_data_is_destroyed_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
