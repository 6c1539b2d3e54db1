/* New credentials while workers run: what they get, what becomes of those that nobody took, and
 * that nothing changes when the new ones are wrong. */
#include <pthread.h>
#include <stdatomic.h>

#include <sys/stat.h>

#include <rte_mempool.h>
#include <rte_pause.h>

#include "gateway/control/renewal.h"
#include "tests/unit/worker_harness.h"

#define SEGMENTS 15
#define KEY      "00112233445566778899aabbccddeeff"

static const uint8_t secret[CREDENTIALS_SECRET_BYTES] = {1};

static struct rte_mempool *pool;
static char path[] = "/tmp/coapgw-renewal-XXXXXX";
static char said[4096];

/* Identities named "0" to "count - 1". */
static void write_keys(unsigned count)
{
    FILE *out;

    unlink(path);
    out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(chmod(path, 0600), 0);
    for (unsigned i = 0; i < count; i++)
        fprintf(out, "%u:" KEY "\n", i);
    fclose(out);
}

static struct config *make_config(bool secure)
{
    char text[1024];
    struct config *config;

    snprintf(text, sizeof(text),
             "workers: 2\ninterfaces:\n  - {name: a, device: 'tap:t', addresses: [10.9.0.2/24]}\n"
             "listeners:\n  - {uri: '%s://10.9.0.2'%s%s%s}\n",
             secure ? "coaps" : "coap", secure ? ", dtls: {psk: {file: " : "", secure ? path : "",
             secure ? "}}" : "");
    config = config_load_text("t.yaml", text, strlen(text), stderr);
    assert_non_null(config);
    return config;
}

static FILE *listen_to(void)
{
    FILE *out = fmemopen(said, sizeof(said), "w");

    assert_non_null(out);
    memset(said, 0, sizeof(said));
    return out;
}

static struct renewal *create(const struct config *config)
{
    FILE *out = listen_to();
    struct renewal *r = renewal_create(config, secret, out);

    fclose(out);
    return r;
}

static int run(struct renewal *r)
{
    FILE *out = listen_to();
    int err = renewal_run(r, out);

    fclose(out);
    return err;
}

/* What a worker does with a parcel: the reference is its own. */
static struct credentials *taken(struct renewal *r, unsigned worker)
{
    struct parcel *parcel = renewal_take(r, worker);
    struct credentials *credentials = NULL;

    if (!parcel)
        return NULL;
    assert_int_equal(parcel->kind, PARCEL_CREDENTIALS);
    assert_int_equal(parcel->from, PARCEL_CONTROL);
    assert_true(parcel_read(parcel, 0, &credentials, sizeof(credentials)));
    parcel_free(pool, parcel);
    return credentials;
}

static uint64_t count_taken(struct renewal *r, unsigned worker)
{
    struct credentials *credentials = taken(r, worker);
    uint64_t count;

    assert_non_null(credentials);
    count = credentials_count(credentials).identities;
    credentials_drop(credentials);
    return count;
}

static void test_run(void **state)
{
    struct config *config = make_config(true);
    struct renewal *r;

    (void)state;
    write_keys(3);
    r = create(config);
    assert_non_null(r);
    assert_int_equal(credentials_count(renewal_credentials(r)).identities, 3);
    renewal_start(r, pool);
    assert_null(taken(r, 0));
    write_keys(5);
    assert_int_equal(run(r), 0);
    assert_string_equal(said, "coapgw: the credentials have been read again: 5 identities, 0 "
                              "certificates; other changes of the configuration need a restart\n");
    for (unsigned worker = 0; worker < 2; worker++) {
        assert_int_equal(count_taken(r, worker), 5);
        assert_null(taken(r, worker));
    }
    renewal_destroy(r);
    assert_int_equal(rte_mempool_avail_count(pool), SEGMENTS);
    config_free(config);
}

/* It takes a while to free them: no worker does that. */
static void test_freed_here(void **state)
{
    struct config *config = make_config(true);
    struct credentials *old;
    struct renewal *r;

    (void)state;
    write_keys(3);
    r = create(config);
    renewal_start(r, pool);
    for (unsigned i = 0; i < 12; i++) {
        old = credentials_take(renewal_credentials(r)); /* a worker's */
        assert_int_equal(run(r), 0);
        renewal_tick(r, 1000 + i);
        assert_false(credentials_is_last(old));
        credentials_drop(old);
        assert_true(credentials_is_last(old)); /* it is there still */
        (void)count_taken(r, 0);
        (void)count_taken(r, 1);
    }
    renewal_destroy(r);
    config_free(config);
}

static void test_wrong(void **state)
{
    struct config *config = make_config(true);
    struct renewal *r;
    FILE *out;

    (void)state;
    write_keys(3);
    r = create(config);
    renewal_start(r, pool);
    out = fopen(path, "a");
    fputs("broken\n", out);
    fclose(out);
    assert_true(run(r) < 0);
    assert_non_null(strstr(said, ":4: there is no colon; write IDENTITY:HEXKEY\n"));
    assert_non_null(strstr(said, "coapgw: the credentials stay as they were\n"));
    assert_int_equal(credentials_count(renewal_credentials(r)).identities, 3);
    assert_null(taken(r, 0));
    write_keys(4);
    assert_int_equal(run(r), 0);
    assert_int_equal(count_taken(r, 1), 4);
    renewal_destroy(r); /* with a parcel on its way */
    assert_int_equal(rte_mempool_avail_count(pool), SEGMENTS);
    config_free(config);
}

/* One that was not taken gives way to the newest. */
static void test_slow_worker(void **state)
{
    struct config *config = make_config(true);
    struct renewal *r;

    (void)state;
    write_keys(1);
    r = create(config);
    renewal_start(r, pool);
    for (unsigned i = 2; i < 6; i++) {
        write_keys(i);
        assert_int_equal(run(r), 0);
        assert_int_equal(count_taken(r, 0), i);
    }
    assert_int_equal(rte_mempool_avail_count(pool), SEGMENTS - 1);
    assert_int_equal(count_taken(r, 1), 5);
    renewal_destroy(r);
    config_free(config);
}

/* Before the workers run there is nobody to hand it to; without a free parcel it comes later. */
static void test_later(void **state)
{
    struct config *config = make_config(true);
    struct parcel *all;
    struct renewal *r;

    (void)state;
    write_keys(1);
    r = create(config);
    write_keys(2);
    assert_int_equal(run(r), 0);
    renewal_start(r, pool);
    renewal_tick(r, 1000);
    assert_null(taken(r, 0));
    all = parcel_new(pool, PARCEL_RESOURCE, 0, SEGMENTS * PARCEL_DATA_BYTES);
    assert_non_null(all);
    write_keys(3);
    assert_int_equal(run(r), 0);
    renewal_tick(r, 1001);
    assert_null(taken(r, 0));
    parcel_free(pool, all);
    renewal_tick(r, 1002);
    assert_int_equal(count_taken(r, 0), 3);
    assert_int_equal(count_taken(r, 1), 3);
    renewal_tick(r, 1003);
    assert_null(taken(r, 0));
    renewal_destroy(r);
    config_free(config);
}

static void test_nothing(void **state)
{
    struct config *config = make_config(false);

    (void)state;
    assert_null(create(config));
    assert_int_equal(errno, 0);
    assert_null(renewal_credentials(NULL));
    renewal_tick(NULL, 1);
    renewal_destroy(NULL);
    assert_null(renewal_take(NULL, 0));
    config_free(config);
    config = make_config(true);
    unlink(path);
    assert_null(create(config));
    assert_int_equal(errno, EINVAL);
    assert_non_null(strstr(said, "cannot be opened"));
    config_free(config);
}

/* ---- two threads ---- */

struct reader {
    struct renewal *renewal;
    atomic_bool stop;
    uint64_t last; /* identities */
    unsigned count;
};

static void *read_on(void *argument)
{
    struct reader *reader = argument;

    for (;;) {
        bool last = atomic_load(&reader->stop);
        struct parcel *parcel = renewal_take(reader->renewal, 0);
        struct credentials *credentials;

        if (parcel && parcel_read(parcel, 0, &credentials, sizeof(credentials))) {
            reader->last = credentials_count(credentials).identities;
            reader->count++;
            credentials_drop(credentials);
            parcel_free(pool, parcel);
        } else if (last) {
            return NULL;
        }
        rte_pause();
    }
}

#define RELOADS 60u

static void test_threads(void **state)
{
    struct config *config = make_config(true);
    struct reader reader = {0};
    pthread_t thread;

    (void)state;
    write_keys(1);
    reader.renewal = create(config);
    renewal_start(reader.renewal, pool);
    assert_int_equal(pthread_create(&thread, NULL, read_on, &reader), 0);
    for (unsigned i = 2; i < 2 + RELOADS; i++) {
        write_keys(i);
        assert_int_equal(run(reader.renewal), 0);
    }
    atomic_store(&reader.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(reader.last, 1 + RELOADS); /* the newest, always */
    assert_true(reader.count >= 1 && reader.count <= RELOADS);
    renewal_destroy(reader.renewal);
    assert_int_equal(rte_mempool_avail_count(pool), SEGMENTS);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run),        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_freed_here), cmocka_unit_test(test_slow_worker),
        cmocka_unit_test(test_later),      cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_threads),
    };
    int failed, fd = mkstemp(path);

    if (fd < 0)
        return 1;
    close(fd);
    harness_eal();
    pool = parcel_pool_create("parcels", SEGMENTS);
    if (!pool)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    parcel_pool_destroy(pool);
    unlink(path);
    return failed;
}
