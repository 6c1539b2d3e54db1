/* Checksums: against a sum of 16-bit words taken one by one (RFC 1071), for every length and
 * alignment; and in whole frames, as they are written and as they are read. */
#include "tests/unit/stack_harness.h"

#include "dpdk/checksum.h"

#define LONGEST 2100

/* RFC 1071 4.1, in network order; an odd last byte is padded with zero. */
static uint16_t reference(uint32_t sum, const uint8_t *at, size_t bytes)
{
    for (; bytes > 1; bytes -= 2, at += 2)
        sum += (uint32_t)(at[0] << 8 | at[1]);
    if (bytes)
        sum += (uint32_t)(at[0] << 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static void fill(struct random *random, uint8_t *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)random_u64(random);
}

static void test_lengths(void **state)
{
    static uint8_t bytes[LONGEST + 8];
    struct random random;
    uint8_t seed[RANDOM_SEED_BYTES] = {1};

    (void)state;
    random_seed(&random, seed);
    fill(&random, bytes, sizeof(bytes));
    for (size_t length = 0; length <= LONGEST; length++)
        for (size_t from = 0; from < 8; from++)
            assert_int_equal(checksum_fold(checksum_bytes(0, bytes + from, length)),
                             rte_cpu_to_be_16(reference(0, bytes + from, length)));
}

/* Every carry there can be, and none. */
static void test_extremes(void **state)
{
    static uint8_t bytes[LONGEST];

    (void)state;
    assert_int_equal(checksum_fold(checksum_bytes(0, bytes, sizeof(bytes))), 0);
    assert_int_equal(checksum_fold(UINT64_MAX), 0xffff);
    assert_int_equal(checksum_fold(checksum_add(UINT64_MAX, UINT64_MAX)), 0xffff);
    memset(bytes, 0xff, sizeof(bytes));
    for (size_t length = 2; length <= LONGEST; length += 2)
        assert_int_equal(checksum_fold(checksum_bytes(UINT64_MAX, bytes, length)), 0xffff);
    assert_int_equal(checksum_fold(checksum_bytes(0, bytes, 1)), rte_cpu_to_be_16(0xff00));
}

static void test_parts(void **state)
{
    uint8_t bytes[300], seed[RANDOM_SEED_BYTES] = {2};
    struct random random;

    (void)state;
    random_seed(&random, seed);
    fill(&random, bytes, sizeof(bytes));
    for (size_t cut = 0; cut <= sizeof(bytes); cut += 2) {
        uint64_t sum = checksum_bytes(0, bytes, cut);

        sum = checksum_bytes(sum, bytes + cut, sizeof(bytes) - cut);
        assert_int_equal(checksum_fold(sum), rte_cpu_to_be_16(reference(0, bytes, 300)));
    }
}

/* ---- frames ---- */

struct way {
    struct stack_interface interface;
    struct frame_template template;
    struct address local, peer;
};

static void way_init(struct way *w, const char *local, const char *peer, uint16_t vlan)
{
    w->interface = (struct stack_interface){.mac = our_mac, .mtu = 1500, .vlan = vlan};
    w->local = address_of(local);
    w->peer = address_of(peer);
    frame_template_init(&w->template, &w->interface, &w->local);
}

/* The checksum of a UDP packet, as its receiver adds it up: 0xffff when it is right. */
static uint16_t udp_sum(const struct way *w, const uint8_t *udp, uint16_t bytes)
{
    const struct address *ends[] = {&w->local, &w->peer};
    unsigned from = w->template.v4 ? 12 : 0;
    uint32_t sum = IPPROTO_UDP + bytes;

    for (unsigned i = 0; i < 2; i++)
        sum += reference(0, ends[i]->bytes + from, 16 - from);
    return reference(sum, udp, bytes);
}

/* Writes a datagram and looks at every field of its headers that is not a constant. */
static void check_written(const struct way *w, struct rte_mbuf *mbuf, const uint8_t *payload,
                          uint16_t length)
{
    const struct frame_template *t = &w->template;
    struct stack_interface receiver = w->interface;
    struct rte_ether_hdr *ether;
    uint8_t *udp;
    struct frame f;

    rte_pktmbuf_reset(mbuf);
    memcpy(rte_pktmbuf_mtod(mbuf, uint8_t *), payload, length);
    frame_write_udp(mbuf, t, length, &w->peer, 5683, 40000, 0xfffe);
    assert_int_equal(rte_pktmbuf_pkt_len(mbuf), t->header_bytes + length);
    assert_int_equal(rte_pktmbuf_data_len(mbuf), t->header_bytes + length);
    udp = rte_pktmbuf_mtod_offset(mbuf, uint8_t *, t->header_bytes - 8);
    assert_true(udp[6] || udp[7]); /* 0 would mean that there is none (RFC 768) */
    assert_int_equal(udp_sum(w, udp, (uint16_t)(8 + length)), 0xffff);
    assert_int_equal(checksum_fold(checksum_bytes(0, udp - 20, t->v4 ? 20 : 0)),
                     t->v4 ? 0xffff : 0);
    ether = rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *);
    assert_true(rte_is_same_ether_addr(&ether->src_addr, &our_mac));
    ether->dst_addr = receiver.mac = peer_mac;
    assert_int_equal(frame_read(mbuf, &receiver, false, &f), FRAME_UDP);
    assert_true(address_equal(&f.source, &w->local) && address_equal(&f.destination, &w->peer));
    assert_int_equal(f.source_port, 5683);
    assert_int_equal(f.destination_port, 40000);
    assert_int_equal(f.payload_bytes, length);
    assert_memory_equal(f.payload, payload, length);
    if (length) { /* one bit more, and it is not read */
        f.payload[length - 1] ^= 1;
        assert_int_equal(frame_read(mbuf, &receiver, false, &f), FRAME_UDP_CHECKSUM);
    }
}

static const struct {
    const char *local, *peer;
    uint16_t vlan;
} ways[] = {{"10.99.0.2", "10.99.1.1", 0},
            {"10.99.0.2", "192.168.255.255", 7},
            {"fd99::2", "fd99::ffff:ffff", 0},
            {"fd99::2", "2001:db8::1", 4094}};

static struct rte_mempool *pool;

static void test_frames(void **state)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);
    uint8_t payload[1472], seed[RANDOM_SEED_BYTES] = {3};
    struct random random;

    (void)state;
    random_seed(&random, seed);
    for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct way w;

        way_init(&w, ways[i].local, ways[i].peer, ways[i].vlan);
        for (uint16_t length = 0; length <= 1452; length++) {
            fill(&random, payload, length);
            check_written(&w, mbuf, payload, length);
        }
    }
    rte_pktmbuf_free(mbuf);
}

/* A payload that adds up to a checksum of 0, which goes out as 0xffff; and its neighbours. */
static void test_zero(void **state)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);

    (void)state;
    for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        unsigned found = 0;
        struct way w;

        way_init(&w, ways[i].local, ways[i].peer, ways[i].vlan);
        for (unsigned word = 0; word < 0x10000; word++) {
            uint8_t payload[3] = {(uint8_t)(word >> 8), (uint8_t)word, 0xa5};
            const uint8_t *udp;

            check_written(&w, mbuf, payload, sizeof(payload));
            udp = rte_pktmbuf_mtod_offset(mbuf, uint8_t *, w.template.header_bytes - 8);
            found += udp[6] == 0xff && udp[7] == 0xff;
        }
        assert_in_range(found, 1, 2); /* two where it takes 0: 0x0000 and 0xffff are one sum */
    }
    rte_pktmbuf_free(mbuf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths), cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_parts),   cmocka_unit_test(test_frames),
        cmocka_unit_test(test_zero),
    };

    harness_eal();
    pool = rte_pktmbuf_pool_create("checksum", 15, 0, sizeof(struct stack_mark), 2176, 0);
    return pool ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
