#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/pool.h"
#include "gateway/random.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN
#endif
#ifdef UNDER_ASAN
#include <sanitizer/asan_interface.h>
#endif

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct random random_of(uint8_t first)
{
    uint8_t seed[RANDOM_SEED_BYTES] = {first};
    struct random r;

    random_seed(&r, seed);
    return r;
}

static void arguments_are_checked(void **state)
{
    static const struct pool zero;
    struct pool pool;

    (void)state;
    memset(&pool, 0xff, sizeof(pool));
    assert_int_equal(pool_init(&pool, 0, 1), -EINVAL);
    assert_memory_equal(&pool, &zero, sizeof(pool));
    assert_int_equal(pool_init(&pool, 8, 0), -EINVAL);
    assert_int_equal(pool_init(&pool, (size_t)1 << 32, 1), -EINVAL);
    assert_int_equal(pool_init(&pool, SIZE_MAX, 1), -EINVAL);
    assert_int_equal(pool_init(&pool, (size_t)1 << 31, UINT32_MAX), -ENOMEM);
    assert_memory_equal(&pool, &zero, sizeof(pool));
    pool_fini(&pool);
    pool_fini(&pool);
}

static void size_is_rounded_up(void **state)
{
    static const struct {
        size_t asked;
        uint32_t given;
    } cases[] = {{1, 8}, {7, 8}, {8, 8}, {9, 16}, {63, 64}, {64, 64}, {201, 208}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct pool pool;
        assert_int_equal(pool_init(&pool, cases[i].asked, 2), 0);
        assert_int_equal(pool.object_bytes, cases[i].given);
        uint8_t *a = pool_get(&pool), *b = pool_get(&pool);
        assert_int_equal(b - a, cases[i].given);
        assert_int_equal((uintptr_t)a % 4096, 0);
        memset(a, 1, cases[i].given);
        memset(b, 2, cases[i].given);
        assert_int_equal(a[cases[i].given - 1], 1);
        pool_fini(&pool);
    }
}

static void all_objects_and_no_more(void **state)
{
    enum { CAPACITY = 1000 };
    void *objects[CAPACITY];
    struct pool pool;

    (void)state;
    assert_int_equal(pool_init(&pool, 40, CAPACITY), 0);
    for (int round = 0; round < 3; round++) {
        bool seen[CAPACITY] = {false};
        for (uint32_t i = 0; i < CAPACITY; i++) {
            assert_int_equal(pool_used(&pool), i);
            objects[i] = pool_get(&pool);
            assert_non_null(objects[i]);
            uint32_t index = pool_index(&pool, objects[i]);
            assert_true(index < CAPACITY);
            assert_ptr_equal(pool_at(&pool, index), objects[i]);
            assert_false(seen[index]);
            seen[index] = true;
        }
        assert_null(pool_get(&pool));
        assert_int_equal(pool_used(&pool), CAPACITY);
        for (uint32_t i = 0; i < CAPACITY; i++)
            pool_put(&pool, objects[(i * 7) % CAPACITY]);
        assert_int_equal(pool_used(&pool), 0);
    }
    pool_fini(&pool);
}

static void content_is_left_alone(void **state)
{
    static const uint8_t zero[96];
    struct pool pool;

    (void)state;
    assert_int_equal(pool_init(&pool, sizeof(zero), 10), 0);
    uint8_t *first = pool_get(&pool), *second = pool_get(&pool);
    assert_memory_equal(first, zero, sizeof(zero));
    assert_memory_equal(second, zero, sizeof(zero));
    memset(first, 0x11, sizeof(zero));
    memset(second, 0x22, sizeof(zero));
    pool_put(&pool, first);
    pool_put(&pool, second);
    assert_ptr_equal(pool_get(&pool), second);
    assert_ptr_equal(pool_get(&pool), first);
    assert_int_equal(first[0] + first[95], 0x22);
    assert_int_equal(second[0] + second[95], 0x44);
    pool_fini(&pool);
}

/* The multiplication in pool_index() against multiplication the other way, up to the largest pool
 * that can be asked for; the addresses are never touched. */
static void index_is_exact(void **state)
{
    static const size_t sizes[] = {8,
                                   16,
                                   24,
                                   40,
                                   56,
                                   64,
                                   72,
                                   120,
                                   128,
                                   200,
                                   248,
                                   256,
                                   4096,
                                   4104,
                                   6400,
                                   9000,
                                   65528,
                                   131080,
                                   999992,
                                   1 << 30,
                                   ((size_t)1 << 31) - 8,
                                   (size_t)1 << 31};
    struct random r = random_of(3);

    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct pool pool;
        assert_int_equal(pool_init(&pool, sizes[i], 1), 0);
        for (uint32_t k = 0; k < 10000; k++) {
            uint32_t at[] = {k, UINT32_MAX - 1 - k, random_below(&r, UINT32_MAX)};
            for (size_t j = 0; j < COUNT(at); j++)
                if (pool_index(&pool, pool_at(&pool, at[j])) != at[j])
                    fail_msg("size %zu, index %u", sizes[i], at[j]);
        }
        pool_fini(&pool);
    }
}

static void random_use_against_a_model(void **state)
{
    enum { CAPACITY = 500, STEPS = 500000 };
    static uint64_t *held[CAPACITY];
    static uint64_t marks[CAPACITY];
    struct random r = random_of(4);
    struct pool pool;
    uint32_t count = 0, refused = 0;

    (void)state;
    assert_int_equal(pool_init(&pool, 24, CAPACITY), 0);
    for (uint64_t step = 0; step < STEPS; step++) {
        bool filling = (step / 2000) % 2 == 0;
        if (random_below(&r, 10) < (filling ? 6u : 4u)) {
            uint64_t *object = pool_get(&pool);
            assert_int_equal(object == NULL, count == CAPACITY);
            refused += !object;
            if (object) {
                *object = marks[count] = step;
                held[count++] = object;
            }
        } else if (count > 0) {
            uint32_t i = random_below(&r, count);
            assert_int_equal(*held[i], marks[i]);
            pool_put(&pool, held[i]);
            held[i] = held[--count];
            marks[i] = marks[count];
        }
        assert_int_equal(pool_used(&pool), count);
    }
    assert_true(refused > 0);
    pool_fini(&pool);
}

static size_t number_in(const char *path, unsigned column)
{
    FILE *file = fopen(path, "r");
    size_t value = 0;

    assert_non_null(file);
    for (unsigned i = 0; i <= column; i++)
        assert_int_equal(fscanf(file, "%zu", &value), 1);
    fclose(file);
    return value;
}

static size_t resident_bytes(void)
{
    return number_in("/proc/self/statm", 1) * (size_t)sysconf(_SC_PAGESIZE);
}

/* 64 GiB are asked for, and a few pages of it used. */
static void memory_is_touched_on_use_only(void **state)
{
    const uint32_t capacity = UINT32_C(1) << 28;
    struct pool pool;

    (void)state;
    if (number_in("/proc/sys/vm/overcommit_memory", 0) == 2)
        skip(); /* this kernel was told to count address space as memory */
    size_t before = resident_bytes();
    assert_int_equal(pool_init(&pool, 256, capacity), 0);
    for (int i = 0; i < 100; i++) {
        uint8_t *object = pool_get(&pool);
        object[255] = 1;
    }
    pool_put(&pool, pool_at(&pool, 50));
    assert_true(resident_bytes() < before + ((size_t)64 << 20));
    pool_fini(&pool);
}

static void what_is_free_is_poisoned(void **state)
{
    (void)state;
#ifdef UNDER_ASAN
    struct pool pool;

    assert_int_equal(pool_init(&pool, 64, 8), 0);
    uint8_t *start = pool.memory;
    assert_true(__asan_address_is_poisoned(start));
    uint8_t *object = pool_get(&pool);
    assert_ptr_equal(object, start);
    assert_null(__asan_region_is_poisoned(object, 64));
    assert_true(__asan_address_is_poisoned(object + 64));
    pool_put(&pool, object);
    assert_true(__asan_address_is_poisoned(object));
    assert_true(__asan_address_is_poisoned(object + 63));
    assert_ptr_equal(pool_get(&pool), object);
    assert_null(__asan_region_is_poisoned(object, 64));
    pool_fini(&pool);
    assert_null(__asan_region_is_poisoned(start, 8 * 64));
#else
    skip(); /* only AddressSanitizer has poison */
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(size_is_rounded_up),
        cmocka_unit_test(all_objects_and_no_more),
        cmocka_unit_test(content_is_left_alone),
        cmocka_unit_test(index_is_exact),
        cmocka_unit_test(random_use_against_a_model),
        cmocka_unit_test(memory_is_touched_on_use_only),
        cmocka_unit_test(what_is_free_is_poisoned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
