/* Checksums: against a sum of 16-bit words taken one by one (RFC 1071), for every length and
 * alignment; and in whole frames, as they are written and as they are read. */
#include "tests/unit/stack_harness.h"

#include "gateway/checksum.h"
#include "dpdk/frame_plain.h"

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
    frame_write_udp(mbuf, t, length, NULL, &w->peer, 5683, 40000, 0xfffe);
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

/* ---- the plain shape ---- */

static void check_agreement(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                            unsigned plain[2])
{
    struct frame quick = {.id = 0}, full = {.id = 0};
    bool is_plain = frame_read_plain(mbuf, interface, &quick);
    enum frame_verdict verdict = frame_read(mbuf, interface, false, &full);

    plain[is_plain]++;
    if (!is_plain)
        return;
    assert_int_equal(verdict, FRAME_UDP);
    assert_true(address_equal(&quick.source, &full.source));
    assert_true(address_equal(&quick.destination, &full.destination));
    assert_int_equal(quick.source_port, full.source_port);
    assert_int_equal(quick.destination_port, full.destination_port);
    assert_int_equal(quick.l2_bytes, full.l2_bytes);
    assert_int_equal(quick.l3_bytes, full.l3_bytes);
    assert_int_equal(quick.hop_limit, full.hop_limit);
    assert_int_equal(quick.protocol, full.protocol);
    assert_ptr_equal(quick.payload, full.payload);
    assert_int_equal(quick.payload_bytes, full.payload_bytes);
    assert_false(full.group || full.link_group || full.router_alert);
}

/* Sums that are right again, so that what was damaged is not found by them alone. */
static void mend_sums(uint8_t *frame)
{
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + 14);
    struct rte_udp_hdr *u = (struct rte_udp_hdr *)(ip + 1);

    ip->hdr_checksum = 0;
    ip->hdr_checksum = rte_ipv4_cksum(ip);
    u->dgram_cksum = 0;
    if (rte_be_to_cpu_16(ip->total_length) >= 28 && rte_be_to_cpu_16(ip->total_length) <= 80)
        u->dgram_cksum = rte_ipv4_udptcp_cksum(ip, u);
}

/* Every byte of the headers with every value, the sums wrong or right, every length, every word of
 * the device's: what is taken for plain is what it is taken for otherwise. */
static void test_plain(void **state)
{
    static const uint64_t flags[] = {
        0,
        RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD,
        RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_BAD,
        RTE_MBUF_F_RX_IP_CKSUM_BAD | RTE_MBUF_F_RX_L4_CKSUM_GOOD,
        RTE_MBUF_F_RX_IP_CKSUM_NONE | RTE_MBUF_F_RX_L4_CKSUM_NONE,
        RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED,
    };
    struct stack_interface interface = {.mac = our_mac, .mtu = 1500};
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);
    uint8_t good[128];
    size_t length = udp(good, "10.99.0.1", 4000, OUR_IP, 5683, "abcdefghijk", 11, 0);
    uint8_t *at = (uint8_t *)rte_pktmbuf_append(mbuf, (uint16_t)length);
    unsigned plain[2] = {0};

    (void)state;
    for (unsigned k = 0; k < sizeof(flags) / sizeof(flags[0]); k++) {
        mbuf->ol_flags = flags[k];
        mbuf->vlan_tci = 3;
        for (unsigned byte = 0; byte < length * 256; byte++)
            for (unsigned mended = 0; mended < 2; mended++) {
                memcpy(at, good, length);
                at[byte / 256] = (uint8_t)byte;
                if (mended)
                    mend_sums(at);
                check_agreement(mbuf, &interface, plain);
            }
        memcpy(at, good, length);
        for (mbuf->data_len = 0; mbuf->data_len < length; mbuf->data_len++)
            check_agreement(mbuf, &interface, plain);
    }
    mbuf->ol_flags = 0;
    memcpy(at, good, length);
    assert_true(frame_read_plain(mbuf, &interface, &(struct frame){.id = 0}));
    interface.vlan = 3;
    assert_false(frame_read_plain(mbuf, &interface, &(struct frame){.id = 0}));
    assert_true(plain[0] > 1000 && plain[1] > 1000);
    mbuf->data_len = (uint16_t)length;
    rte_pktmbuf_free(mbuf);
}

/* Answers whose checksum is put together from parts: with tokens of every length, so that what was
 * summed before begins at even and at odd offsets. */
static void test_answers(void **state)
{
    struct bench b;

    (void)state;
    begin(&b, 1, "");
    for (uint8_t length = 0; length <= 15; length++)
        for (unsigned round = 0; round < 64; round++) {
            uint8_t request[64] = {(uint8_t)(0x40 | (length < 13 ? length : 13)), 1, 0xab,
                                   (uint8_t)(length * 64 + round)};
            uint8_t bytes[256], *at = request + 4;
            size_t frame;

            if (length >= 13)
                *at++ = (uint8_t)(length - 13);
            memset(at, (int)(round * 5 + 1), length);
            at += length;
            memcpy(at, get_hello + 4, sizeof(get_hello) - 4);
            at += sizeof(get_hello) - 4;
            frame = arp(bytes, RTE_ARP_OP_REQUEST, "10.99.0.1", OUR_IP);
            give(&b, bytes, frame);
            drop_sent(&b);
            frame = udp(bytes, "10.99.0.1", (uint16_t)(4000 + round), OUR_IP, 5683, request,
                        (uint16_t)(at - request), 0);
            give(&b, bytes, frame);
            assert_int_equal(b.sent_count, 1);
            struct frame f = sent_frame(&b, 0, FRAME_UDP); /* looks at the checksums */
            assert_int_equal(f.payload[1], CODE_CONTENT);
            assert_memory_equal(f.payload + 2, request + 2, 2);
            assert_memory_equal(f.payload + f.payload_bytes - 2, "hi", 2);
            drop_sent(&b);
        }
    stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths), cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_parts),   cmocka_unit_test(test_frames),
        cmocka_unit_test(test_zero),    cmocka_unit_test(test_plain),
        cmocka_unit_test(test_answers),
    };

    harness_eal();
    pool = rte_pktmbuf_pool_create("checksum", 15, 0, sizeof(struct stack_mark), 2176, 0);
    return pool ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
