/* Parcels: bytes across segments, copies, and a pool that runs dry. */
#include <rte_mempool.h>

#include "gateway/parcel.h"
#include "tests/unit/worker_harness.h"

#define SEGMENTS 15

static struct rte_mempool *pool;

static void all_are_back(void)
{
    assert_int_equal(rte_mempool_avail_count(pool), SEGMENTS);
}

static void bytes_go_in_and_out(void **state)
{
    static uint8_t in[5 * PARCEL_DATA_BYTES], out[sizeof(in)];
    static const uint32_t lengths[] = {0,
                                       1,
                                       PARCEL_DATA_BYTES - 1,
                                       PARCEL_DATA_BYTES,
                                       PARCEL_DATA_BYTES + 1,
                                       3 * PARCEL_DATA_BYTES,
                                       sizeof(in)};

    (void)state;
    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)(i * 31 + (i >> 8));
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        uint32_t length = lengths[i];
        struct parcel *parcel = parcel_new(pool, PARCEL_RESOURCE, 7, length);

        assert_non_null(parcel);
        assert_int_equal(parcel->kind, PARCEL_RESOURCE);
        assert_int_equal(parcel->type, 7);
        assert_int_equal(parcel->length, length);
        for (uint32_t at = 0; at < length; at += 777) /* across the ends of segments */
            assert_true(parcel_write(parcel, at, in + at, length - at < 777 ? length - at : 777));
        memset(out, 0, sizeof(out));
        assert_true(parcel_read(parcel, 0, out, length));
        assert_memory_equal(in, out, length);
        parcel_free(pool, parcel);
    }
    all_are_back();
}

static void nothing_goes_beyond_the_end(void **state)
{
    struct parcel *parcel = parcel_new(pool, PARCEL_RECORD, 0, PARCEL_DATA_BYTES + 10);
    uint8_t bytes[16] = {0};

    (void)state;
    assert_true(parcel_read(parcel, PARCEL_DATA_BYTES + 10, bytes, 0));
    assert_false(parcel_read(parcel, PARCEL_DATA_BYTES + 10, bytes, 1));
    assert_false(parcel_read(parcel, PARCEL_DATA_BYTES, bytes, 11));
    assert_false(parcel_write(parcel, PARCEL_DATA_BYTES, bytes, 11));
    assert_false(parcel_read(parcel, UINT32_MAX, bytes, 1));
    assert_false(parcel_read(parcel, 1, bytes, SIZE_MAX));
    parcel_free(pool, parcel);
    all_are_back();
}

static void spans_cover_all(void **state)
{
    struct parcel *parcel = parcel_new(pool, PARCEL_RECORD, 0, 2 * PARCEL_DATA_BYTES + 5);
    uint32_t length, at = 3;

    (void)state;
    assert_ptr_equal(parcel_span(parcel, at, &length), parcel->data + 3);
    assert_int_equal(length, PARCEL_DATA_BYTES - 3);
    at += length;
    assert_ptr_equal(parcel_span(parcel, at, &length), parcel->next->data);
    assert_int_equal(length, PARCEL_DATA_BYTES);
    at += length;
    assert_ptr_equal(parcel_span(parcel, at, &length), parcel->next->next->data);
    assert_int_equal(length, 5);
    (void)parcel_span(parcel, at + length, &length);
    assert_int_equal(length, 0);
    parcel_free(pool, parcel);
    all_are_back();
}

static void a_copy_says_the_same(void **state)
{
    uint8_t in[3000], out[3000];
    struct parcel *parcel = parcel_new(pool, PARCEL_INSPECT, 9, sizeof(in)), *copy;

    (void)state;
    memset(in, 0x5a, sizeof(in));
    assert_true(parcel_write(parcel, 0, in, sizeof(in)));
    parcel->from = 3;
    copy = parcel_copy(pool, parcel);
    assert_int_equal(copy->kind, PARCEL_INSPECT);
    assert_int_equal(copy->type, 9);
    assert_int_equal(copy->from, 3);
    assert_int_equal(copy->length, sizeof(in));
    parcel_free(pool, parcel);
    assert_true(parcel_read(copy, 0, out, sizeof(out)));
    assert_memory_equal(in, out, sizeof(in));
    parcel_free(pool, copy);
    all_are_back();
}

static void a_pool_that_runs_dry_gives_nothing_in_part(void **state)
{
    struct parcel *most = parcel_new(pool, PARCEL_RECORD, 0, (SEGMENTS - 2) * PARCEL_DATA_BYTES);

    (void)state;
    assert_non_null(most);
    assert_null(parcel_new(pool, PARCEL_RECORD, 0, 3 * PARCEL_DATA_BYTES));
    assert_null(parcel_copy(pool, most));
    assert_int_equal(rte_mempool_avail_count(pool), 2);
    parcel_free(pool, most);
    parcel_free(pool, NULL);
    assert_null(parcel_new(NULL, PARCEL_RECORD, 0, 1));
    all_are_back();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_in_and_out),
        cmocka_unit_test(nothing_goes_beyond_the_end),
        cmocka_unit_test(spans_cover_all),
        cmocka_unit_test(a_copy_says_the_same),
        cmocka_unit_test(a_pool_that_runs_dry_gives_nothing_in_part),
    };
    int failed;

    harness_eal();
    pool = parcel_pool_create("parcels", SEGMENTS);
    if (!pool)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    parcel_pool_destroy(pool);
    return failed;
}
