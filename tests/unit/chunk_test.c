#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/chunk.h"
#include "gateway/random.h"

#define GUARD 0xa5

static struct random random_of(uint8_t first)
{
    uint8_t seed[RANDOM_SEED_BYTES] = {first};
    struct random r;

    random_seed(&r, seed);
    return r;
}

static void fill(uint8_t *bytes, size_t length, uint32_t seed)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)((seed + i) * 2654435761u >> 13);
}

static uint32_t chunks_of(size_t length)
{
    return length == 0 ? 1 : (uint32_t)((length + CHUNK_PAYLOAD - 1) / CHUNK_PAYLOAD);
}

static void sizes_at_start(void **state)
{
    struct chunks chunks;

    (void)state;
    assert_int_equal(CHUNK_PAYLOAD, 124);
    assert_int_equal(chunks_init(&chunks, 0), -EINVAL);
    assert_int_equal(chunks_init(&chunks, CHUNK_BYTES - 1), -EINVAL);
    assert_int_equal(chunks_init(&chunks, 3 * CHUNK_BYTES + CHUNK_BYTES / 2), 0);
    assert_int_equal(chunks.pool.capacity, 3);
    assert_int_equal(chunks_room(&chunks), 3 * CHUNK_PAYLOAD);
    chunks_fini(&chunks);
}

/* Every length up to some chunks: what is read is what was written, and not a byte more. */
static void every_length_comes_back(void **state)
{
    enum { LONGEST = 1500 };
    uint8_t in[LONGEST], out[LONGEST + 1];
    struct chunks chunks;

    (void)state;
    assert_int_equal(chunks_init(&chunks, (size_t)64 * CHUNK_BYTES), 0);
    for (size_t length = 0; length <= LONGEST; length++) {
        fill(in, length, (uint32_t)length);
        uint32_t handle = chunks_write(&chunks, in, length);
        assert_int_not_equal(handle, CHUNK_NONE);
        assert_int_equal(pool_used(&chunks.pool), chunks_of(length));
        memset(out, GUARD, sizeof(out));
        chunks_read(&chunks, handle, out, length);
        assert_memory_equal(out, in, length);
        assert_int_equal(out[length], GUARD);
        chunks_free(&chunks, handle);
        assert_int_equal(pool_used(&chunks.pool), 0);
    }
    chunks_fini(&chunks);
}

static void beginning_only(void **state)
{
    uint8_t in[300], out[301];
    struct chunks chunks;

    (void)state;
    assert_int_equal(chunks_init(&chunks, (size_t)8 * CHUNK_BYTES), 0);
    fill(in, sizeof(in), 1);
    uint32_t handle = chunks_write(&chunks, in, sizeof(in));
    for (size_t length = 0; length <= sizeof(in); length++) {
        memset(out, GUARD, sizeof(out));
        chunks_read(&chunks, handle, out, length);
        assert_memory_equal(out, in, length);
        assert_int_equal(out[length], GUARD);
    }
    chunks_free(&chunks, handle);
    chunks_fini(&chunks);
}

static void nothing_is_kept_when_it_does_not_fit(void **state)
{
    uint8_t in[5 * CHUNK_PAYLOAD] = {0};
    struct chunks chunks;

    (void)state;
    assert_int_equal(chunks_init(&chunks, (size_t)4 * CHUNK_BYTES), 0);
    assert_int_equal(chunks_write(&chunks, in, 4 * CHUNK_PAYLOAD + 1), CHUNK_NONE);
    assert_int_equal(chunks_write(&chunks, in, SIZE_MAX), CHUNK_NONE);
    assert_int_equal(pool_used(&chunks.pool), 0);

    uint32_t first = chunks_write(&chunks, in, 3 * CHUNK_PAYLOAD);
    assert_int_not_equal(first, CHUNK_NONE);
    assert_int_equal(chunks_room(&chunks), CHUNK_PAYLOAD);
    assert_int_equal(chunks_write(&chunks, in, CHUNK_PAYLOAD + 1), CHUNK_NONE);
    assert_int_equal(pool_used(&chunks.pool), 3);

    uint32_t second = chunks_write(&chunks, NULL, 0);
    assert_int_not_equal(second, CHUNK_NONE);
    assert_int_equal(chunks_room(&chunks), 0);
    assert_int_equal(chunks_write(&chunks, NULL, 0), CHUNK_NONE);
    assert_int_equal(chunks_write(&chunks, in, 1), CHUNK_NONE);

    chunks_free(&chunks, first);
    chunks_free(&chunks, CHUNK_NONE);
    assert_int_equal(pool_used(&chunks.pool), 1);
    chunks_free(&chunks, second);
    assert_int_equal(pool_used(&chunks.pool), 0);
    first = chunks_write(&chunks, in, 4 * CHUNK_PAYLOAD);
    assert_int_not_equal(first, CHUNK_NONE);
    chunks_free(&chunks, first);
    chunks_fini(&chunks);
}

/* Many chains at once, written and freed in random order in a store that is often full. */
static void chains_do_not_disturb_each_other(void **state)
{
    enum { CHAINS = 64, LONGEST = 700, STEPS = 200000, CAPACITY = 150 };
    static struct {
        uint32_t handle, seed;
        size_t length;
    } chains[CHAINS];
    uint8_t in[LONGEST], out[LONGEST];
    struct random r = random_of(1);
    struct chunks chunks;
    uint32_t used = 0, refused = 0;

    (void)state;
    assert_int_equal(chunks_init(&chunks, (size_t)CAPACITY * CHUNK_BYTES), 0);
    for (int i = 0; i < CHAINS; i++)
        chains[i].handle = CHUNK_NONE;
    for (uint32_t step = 0; step < STEPS; step++) {
        unsigned i = random_below(&r, CHAINS);
        if (chains[i].handle != CHUNK_NONE) {
            fill(in, chains[i].length, chains[i].seed);
            chunks_read(&chunks, chains[i].handle, out, chains[i].length);
            assert_memory_equal(out, in, chains[i].length);
            chunks_free(&chunks, chains[i].handle);
            chains[i].handle = CHUNK_NONE;
            used -= chunks_of(chains[i].length);
        } else {
            chains[i].length = random_below(&r, LONGEST + 1);
            chains[i].seed = step;
            fill(in, chains[i].length, step);
            chains[i].handle = chunks_write(&chunks, in, chains[i].length);
            bool fits = used + chunks_of(chains[i].length) <= CAPACITY;
            assert_int_equal(chains[i].handle != CHUNK_NONE, fits);
            used += fits ? chunks_of(chains[i].length) : 0;
            refused += !fits;
        }
        assert_int_equal(pool_used(&chunks.pool), used);
    }
    assert_true(refused > 100 && refused < STEPS / 2);
    chunks_fini(&chunks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_at_start),
        cmocka_unit_test(every_length_comes_back),
        cmocka_unit_test(beginning_only),
        cmocka_unit_test(nothing_is_kept_when_it_does_not_fit),
        cmocka_unit_test(chains_do_not_disturb_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
