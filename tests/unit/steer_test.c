/* Steering: the hash against published vectors and a bit-by-bit reference, port blocks, and a
 * device's RSS programmed to agree. */
#include "tests/unit/worker_harness.h"

#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_random.h>
#include <rte_thash.h>

#include "dpdk/port.h"
#include "dpdk/steer.h"
#include "gateway/random.h"

/* Toeplitz as its definition has it: for each set bit of the input, the key's 32 bits at that
 * place. */
static uint32_t reference(const uint8_t *key, const uint8_t *input, unsigned bytes)
{
    uint32_t hash = 0;

    for (unsigned bit = 0; bit < bytes * 8; bit++) {
        uint32_t window = 0;

        if (!(input[bit / 8] >> (7 - bit % 8) & 1))
            continue;
        for (unsigned k = bit; k < bit + 32; k++)
            window = window << 1 | (key[k / 8] >> (7 - k % 8) & 1);
        hash ^= window;
    }
    return hash;
}

/* From Microsoft's "Verifying the RSS Hash Calculation": source and destination with ports. */
static void the_published_vectors(void **state)
{
    static const uint8_t key[52] = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
                                    0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
                                    0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
                                    0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};
    static const struct {
        uint8_t input[12];
        uint32_t hash;
    } v4[] = {
        {{66, 9, 149, 187, 161, 142, 100, 80, 2794 >> 8, 2794 & 255, 1766 >> 8, 1766 & 255},
         0x51ccc178},
        {{199, 92, 111, 2, 65, 69, 140, 83, 14230 >> 8, 14230 & 255, 4739 >> 8, 4739 & 255},
         0xc626b0ea},
        {{24, 19, 198, 95, 12, 22, 207, 184, 12898 >> 8, 12898 & 255, 38024 >> 8, 38024 & 255},
         0x5c2b394a},
    };

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        uint32_t words[3];

        assert_int_equal(reference(key, v4[i].input, 12), v4[i].hash);
        for (unsigned w = 0; w < 3; w++)
            words[w] = (uint32_t)v4[i].input[4 * w] << 24 | v4[i].input[4 * w + 1] << 16 |
                       v4[i].input[4 * w + 2] << 8 | v4[i].input[4 * w + 3];
        assert_int_equal(rte_softrss(words, 3, key), v4[i].hash);
    }
}

static struct steer *make(unsigned workers, uint16_t base, uint8_t shift, uint16_t reta)
{
    struct steer_setup setup = {
        .workers = workers, .port_base = base, .port_shift = shift, .reta_size = reta};

    for (unsigned i = 0; i < sizeof(setup.seed); i++)
        setup.seed[i] = (uint8_t)(i * 37 + workers);
    return steer_create(&setup);
}

static struct steer_tuple random_tuple(struct random *r, bool v4)
{
    struct steer_tuple t;

    for (unsigned i = 0; i < 16; i++) {
        t.source.bytes[i] = (uint8_t)random_u64(r);
        t.destination.bytes[i] = (uint8_t)random_u64(r);
    }
    if (v4) {
        t.source = address_from_v4(t.source.bytes);
        t.destination = address_from_v4(t.destination.bytes);
    }
    t.source_port = (uint16_t)random_u64(r);
    t.destination_port = (uint16_t)random_u64(r);
    return t;
}

/* What belongs to a flow is given to its worker after a restart: the same seed, workers and size
 * make the same steer, whatever DPDK has drawn in between, and another secret makes another one. */
static void the_same_secret_makes_the_same_steer(void **state)
{
    static const uint8_t secrets[2][STEER_SECRET_BYTES] = {{1, 2, 3}, {1, 2, 4}};
    struct steer_setup setup = {
        .workers = 3, .port_base = 40000, .port_shift = 8, .reta_size = 128};
    struct steer *first, *again, *other;
    unsigned differ = 0;
    struct random r;

    (void)state;
    random_seed(&r, (uint8_t[RANDOM_SEED_BYTES]){7});
    assert_int_equal(steer_seed(secrets[0], setup.seed), 0);
    first = steer_create(&setup);
    for (unsigned i = 0; i < 1000; i++)
        (void)rte_rand();
    assert_int_equal(steer_seed(secrets[0], setup.seed), 0);
    again = steer_create(&setup);
    assert_int_equal(steer_seed(secrets[1], setup.seed), 0);
    other = steer_create(&setup);
    assert_true(first && again && other);
    assert_memory_equal(steer_key(first), steer_key(again), STEER_KEY_BYTES);
    assert_memory_not_equal(steer_key(first), steer_key(other), STEER_KEY_BYTES);
    for (unsigned i = 0; i < 10000; i++) {
        struct steer_tuple t = random_tuple(&r, i % 2);

        assert_int_equal(steer_worker_of(first, &t), steer_worker_of(again, &t));
        differ += steer_worker_of(first, &t) != steer_worker_of(other, &t);
    }
    assert_true(differ > 3000);
    steer_destroy(first);
    steer_destroy(again);
    steer_destroy(other);
}

/* Making a steer does not make DPDK's random numbers known. */
static void the_generator_is_random_afterwards(void **state)
{
    uint64_t drawn[2];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct steer *s = make(2, 40000, 8, 128);

        assert_non_null(s);
        drawn[i] = rte_rand();
        steer_destroy(s);
    }
    assert_true(drawn[0] != drawn[1]);
}

/* The seed is of its own kind: not the beginning of the secret. */
static void the_seed_follows_from_the_secret(void **state)
{
    static const uint8_t secret[STEER_SECRET_BYTES] = {0xaa, 1, 2, 3};
    static const uint8_t first[] = {0x67, 0xf7, 0x3e, 0xa9, 0xef, 0xba, 0xb5, 0x99};
    uint8_t seed[STEER_KEY_BYTES];

    (void)state;
    assert_int_equal(steer_seed(secret, seed), 0);
    assert_memory_equal(seed, first, sizeof(first)); /* must never change: records lie by it */
}

static unsigned wire_bytes(const struct steer_tuple *t, uint8_t out[36])
{
    unsigned n = address_is_v4(&t->source) ? 4 : 16;

    memcpy(out, t->source.bytes + 16 - n, n);
    memcpy(out + n, t->destination.bytes + 16 - n, n);
    out[2 * n] = (uint8_t)(t->source_port >> 8);
    out[2 * n + 1] = (uint8_t)t->source_port;
    out[2 * n + 2] = (uint8_t)(t->destination_port >> 8);
    out[2 * n + 3] = (uint8_t)t->destination_port;
    return 2 * n + 4;
}

static void owners_by_hash_and_by_port(void **state)
{
    uint8_t seed[RANDOM_SEED_BYTES] = {3};
    struct random r;

    (void)state;
    random_seed(&r, seed);
    for (unsigned workers = 1; workers <= 8; workers++) {
        struct steer *s = make(workers, 32768, 12, 128);
        unsigned seen = 0;

        assert_non_null(s);
        for (unsigned i = 0; i < 3000; i++) {
            struct steer_tuple t = random_tuple(&r, i & 1);
            unsigned block = (t.destination_port - 32768u) >> 12, owner = 99;
            uint8_t bytes[36];
            uint32_t hash = reference(steer_key(s), bytes, wire_bytes(&t, bytes));

            assert_int_equal(steer_hash(s, &t), hash);
            if (t.destination_port >= 32768 && block < workers) {
                assert_true(steer_port_owner(s, t.destination_port, &owner));
                assert_int_equal(owner, block);
            } else {
                assert_false(steer_port_owner(s, t.destination_port, &owner));
                owner = workers == 1 ? 0 : steer_reta(s, hash % 128);
            }
            assert_int_equal(steer_worker_of(s, &t), owner);
            assert_int_equal(steer_worker_of_hash(s, t.destination_port, hash), owner);
            seen |= 1u << owner;
        }
        assert_int_equal(seen, (1u << workers) - 1);
        steer_destroy(s);
    }
    assert_null(make(9, 32768, 12, 128)); /* beyond the last port */
    assert_null(make(2, 32768, 12, 100));
    assert_null(make(0, 32768, 12, 128));
}

/* All ports of a block, each once; first those whose reply the NIC brings to the worker. */
static void upstream_ports(void **state)
{
    uint8_t seed[RANDOM_SEED_BYTES] = {5};
    struct random r;

    (void)state;
    random_seed(&r, seed);
    for (unsigned workers = 1; workers <= 6; workers++) {
        struct steer *s = make(workers, 8192, 9, 128);
        struct steer_tuple t = random_tuple(&r, workers & 1);
        struct endpoint server = {t.source, 5683};

        assert_non_null(s);
        for (unsigned w = 0; w < workers; w++) {
            bool used[65536] = {false};
            unsigned own = 0;
            bool first = true;

            for (unsigned n = 0; n < 512; n++) {
                uint16_t port = steer_upstream_port(s, w, &t.destination, &server, n);
                struct steer_tuple reply = {server.address, t.destination, server.port, port};
                bool mine = workers == 1 || steer_reta(s, steer_hash(s, &reply) % 128) == w;

                assert_in_range(port, 8192 + 512 * w, 8192 + 512 * w + 511);
                assert_false(used[port]);
                used[port] = true;
                assert_int_equal(steer_worker_of(s, &reply), w);
                assert_true(first || !mine); /* none of its own after the first foreign one */
                first = mine;
                own += mine;
            }
            assert_true(own >= 512 / workers - 8);
            assert_int_equal(steer_upstream_port(s, w, &t.destination, &server, 512), 0);
            assert_int_equal(steer_upstream_port(s, w, &t.destination, &server, 7),
                             steer_upstream_port(s, w, &t.destination, &server, 7));
        }
        steer_destroy(s);
    }
}

/* net_null keeps RSS keys and tables as a NIC does: what was programmed sends each flow to the
 * queue of the worker that steer_worker_of() names. */
static void a_nic_agrees(void **state)
{
    static const char yaml[] = "workers: 4\n"
                               "interfaces:\n"
                               "  - {name: nic, device: \"vdev:net_null0\", "
                               "addresses: [10.1.0.1/24], rx_descriptors: 64, tx_descriptors: 64}\n"
                               "listeners:\n"
                               "  - uri: coap://10.1.0.1\n";
    struct config *config = config_load_text("t", yaml, strlen(yaml), stderr);
    struct rte_mempool *pool;
    struct stack_interface out;
    struct port port;
    struct steer *s;
    uint8_t seed[RANDOM_SEED_BYTES] = {8}, key[52];
    struct rte_eth_rss_conf conf = {.rss_key = key, .rss_key_len = 40};
    struct rte_eth_rss_reta_entry64 reta[2] = {{.mask = UINT64_MAX}, {.mask = UINT64_MAX}};
    struct random r;

    (void)state;
    assert_non_null(config);
    assert_int_equal(rte_eal_hotplug_add("vdev", "net_null0", ""), 0);
    pool = rte_pktmbuf_pool_create("nic", 2047, 0, sizeof(struct stack_mark), 2176, 0);
    s = make(4, 32768, 12, 128);
    assert_int_equal(port_start(&port, config, 0, s, pool, &out), 0);
    assert_true(port.rss);
    assert_int_equal(port.rx_queues, 4);
    assert_int_equal(rte_eth_dev_rss_hash_conf_get(port.id, &conf), 0);
    assert_int_equal(rte_eth_dev_rss_reta_query(port.id, reta, 128), 0);
    random_seed(&r, seed);
    for (unsigned i = 0; i < 10000; i++) {
        struct steer_tuple t = random_tuple(&r, i & 1);
        uint8_t bytes[36];
        uint32_t hash;

        t.destination_port = 5683;
        hash = reference(key, bytes, wire_bytes(&t, bytes)) % 128;
        assert_int_equal(reta[hash / 64].reta[hash % 64], steer_worker_of(s, &t));
    }
    port_stop(&port);
    steer_destroy(s);
    rte_mempool_free(pool);
    config_free(config);
}

/* Without RSS, and with fewer queues than workers, it says so and goes on. */
static void a_device_with_less(void **state)
{
    static const char yaml[] = "workers: 3\n"
                               "interfaces:\n"
                               "  - {name: nic, device: \"vdev:net_null1\", queues: 1, "
                               "addresses: [10.1.0.1/24], rx_descriptors: 64, tx_descriptors: 64}\n"
                               "listeners:\n"
                               "  - uri: coap://10.1.0.1\n";
    struct config *config = config_load_text("t", yaml, strlen(yaml), stderr);
    struct rte_mempool *pool;
    struct stack_interface out;
    struct port port;
    struct steer *s;

    (void)state;
    assert_non_null(config);
    assert_int_equal(rte_eal_hotplug_add("vdev", "net_null1", ""), 0);
    pool = rte_pktmbuf_pool_create("less", 2047, 0, sizeof(struct stack_mark), 2176, 0);
    s = make(3, 32768, 12, 128);
    assert_int_equal(port_start(&port, config, 0, s, pool, &out), 0);
    assert_false(port.rss);
    assert_int_equal(port.rx_queues, 1);
    port_stop(&port);
    steer_destroy(s);
    rte_mempool_free(pool);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_vectors),
        cmocka_unit_test(the_same_secret_makes_the_same_steer),
        cmocka_unit_test(the_generator_is_random_afterwards),
        cmocka_unit_test(the_seed_follows_from_the_secret),
        cmocka_unit_test(owners_by_hash_and_by_port),
        cmocka_unit_test(upstream_ports),
        cmocka_unit_test(a_nic_agrees),
        cmocka_unit_test(a_device_with_less),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
