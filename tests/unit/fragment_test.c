/* Fragments: put together in any order, given up in time, bounded. On mbufs, through the whole
 * stack. */
#include "tests/unit/stack_harness.h"

#include "dpdk/fragment.h"

#define MESSAGE_BYTES 100
#define PIECES        8 /* the most of one packet: a limit of rte_ip_frag */

/* A request for /hello with a payload that makes it long enough to cut. */
static size_t whole_packet(uint8_t *out, const char *from, uint16_t port, uint16_t bytes)
{
    uint8_t message[4096] = {0x40, 1, 0, 7, 0xb5, 'h', 'e', 'l', 'l', 'o', 0xff};

    assert_true(bytes <= sizeof(message));
    memset(message + 11, 'x', bytes - 11u);
    return udp(out, from, port, strchr(from, ':') ? "fd99::2" : OUR_IP, 5683, message, bytes, 0);
}

/* The `bytes` at `at` of a packet's IP payload, as a fragment. */
static struct rte_mbuf *piece(struct bench *b, const uint8_t *whole, uint32_t id, size_t at,
                              size_t bytes, bool more)
{
    bool v4 = whole[12] == 8 && whole[13] == 0;
    size_t headers = v4 ? 34 : 54;
    struct rte_mbuf *mbuf = packet(b, whole, headers);
    uint8_t *ip = rte_pktmbuf_mtod_offset(mbuf, uint8_t *, 14);

    if (v4) {
        struct rte_ipv4_hdr *h = (struct rte_ipv4_hdr *)ip;

        h->packet_id = rte_cpu_to_be_16((uint16_t)id);
        h->total_length = rte_cpu_to_be_16((uint16_t)(20 + bytes));
        h->fragment_offset =
            rte_cpu_to_be_16((uint16_t)(at / 8 | (more ? RTE_IPV4_HDR_MF_FLAG : 0)));
        h->hdr_checksum = 0;
        h->hdr_checksum = rte_ipv4_cksum(h);
    } else {
        uint8_t header[8] = {ip[6], 0, (uint8_t)(at >> 8), (uint8_t)(at | more)};

        memcpy(header + 4, &id, sizeof(id));
        memcpy(rte_pktmbuf_append(mbuf, 8), header, 8);
        ip[4] = (uint8_t)((bytes + 8) >> 8);
        ip[5] = (uint8_t)(bytes + 8);
        ip[6] = 44;
    }
    memcpy(rte_pktmbuf_append(mbuf, (uint16_t)bytes), whole + headers + at, bytes);
    return mbuf;
}

/* Cuts a packet in three. */
static void cut(struct bench *b, const uint8_t *whole, size_t length, uint32_t id,
                struct rte_mbuf *pieces[3])
{
    size_t data = length - (whole[12] == 8 ? 34 : 54), part = (data / 3 + 7) / 8 * 8;

    assert_true(2 * part < data);
    pieces[0] = piece(b, whole, id, 0, part, true);
    pieces[1] = piece(b, whole, id, part, part, true);
    pieces[2] = piece(b, whole, id, 2 * part, data - 2 * part, false);
}

static uint64_t requests(struct bench *b)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < b->workers; i++)
        sum += worker_counters(b->worker[i])->requests;
    return sum;
}

static void any_order_on_any_queue(void **state)
{
    static const uint8_t orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {0, 2, 1}};
    static const char *const peers[] = {"10.99.0.1", "fd99::1"};
    struct bench b;
    uint8_t whole[512];
    struct rte_mbuf *pieces[3];
    unsigned done = 0;

    (void)state;
    start(&b, 2, "");
    for (unsigned p = 0; p < RTE_DIM(peers); p++)
        for (unsigned i = 0; i < RTE_DIM(orders); i++) {
            cut(&b, whole, whole_packet(whole, peers[p], (uint16_t)(100 + i), MESSAGE_BYTES), 77,
                pieces);
            for (unsigned k = 0; k < 3; k++)
                give_to(&b, (k + i) % 2, pieces[orders[i][k]]);
            exchange(&b);
            done++;
            assert_int_equal(b.counters[0].reassembled + b.counters[1].reassembled, done);
            assert_int_equal(requests(&b), done);
        }
    assert_int_equal(b.counters[0].drop_fragment + b.counters[1].drop_fragment, 0);
    stop(&b);
}

/* After two seconds without the rest, and without any other packet, all buffers are back. */
static void what_is_incomplete_is_given_up(void **state)
{
    struct bench b;
    uint8_t whole[512];
    struct rte_mbuf *pieces[3];

    (void)state;
    start(&b, 1, "");
    cut(&b, whole, whole_packet(whole, "10.99.0.1", 9, MESSAGE_BYTES), 77, pieces);
    give_to(&b, 0, pieces[0]);
    give_to(&b, 0, pieces[2]);
    advance(&b, FRAGMENT_TIMEOUT_US - 100000);
    assert_int_equal(b.counters[0].drop_fragment, 0);
    assert_int_equal(rte_mempool_avail_count(b.pool), POOL - 3);
    advance(&b, 200000);
    assert_int_equal(b.counters[0].drop_fragment, 2);
    assert_int_equal(rte_mempool_avail_count(b.pool), POOL - 1);
    give_to(&b, 0, pieces[1]); /* too late: it waits in vain */
    assert_int_equal(requests(&b), 0);
    advance(&b, FRAGMENT_TIMEOUT_US + 100000);
    assert_int_equal(b.counters[0].drop_fragment, 3);
    stop(&b);
}

/* Each packet of one burst makes a whole set of fragments invalid: more buffers to free than there
 * are packets in the burst, and more than rte_ip_frag's death row is meant for. */
static void a_burst_that_kills_many(void **state)
{
    struct bench b;
    uint8_t whole[512];
    struct rte_mbuf *burst[WORKER_BURST];

    (void)state;
    start(&b, 1, "");
    whole_packet(whole, "10.99.0.1", 9, 200);
    for (unsigned id = 0; id < WORKER_BURST; id++) {
        for (unsigned k = 0; k < PIECES - 1; k++) /* the last but one stays away */
            burst[k] = piece(&b, whole, id, 8 * k, 8, true);
        stack_receive(b.stack[0], 0, burst, PIECES - 1, b.now);
    }
    assert_int_equal(b.counters[0].drop_fragment, 0);
    for (unsigned id = 0; id < WORKER_BURST; id++)
        burst[id] = piece(&b, whole, id, 0, 8, true); /* the first one again */
    stack_receive(b.stack[0], 0, burst, WORKER_BURST, b.now);
    advance(&b, 10000);
    assert_int_equal(b.counters[0].drop_fragment, WORKER_BURST * PIECES);
    assert_int_equal(rte_mempool_avail_count(b.pool), POOL);
    stop(&b);
}

static void a_flood_is_bounded(void **state)
{
    struct bench b;
    uint8_t whole[512];
    struct rte_mbuf *pieces[3];

    (void)state;
    start(&b, 1, "");
    whole_packet(whole, "10.99.0.1", 9, 200);
    for (unsigned id = 0; id < 3000; id++)
        give_to(&b, 0, piece(&b, whole, id, 0, 8, true));
    assert_true(rte_mempool_avail_count(b.pool) >= POOL - FRAGMENT_BUFFERS);
    assert_int_equal(b.counters[0].drop_fragment, 3000 - (POOL - rte_mempool_avail_count(b.pool)));
    advance(&b, FRAGMENT_TIMEOUT_US + 100000);
    assert_int_equal(b.counters[0].drop_fragment, 3000);
    assert_int_equal(rte_mempool_avail_count(b.pool), POOL);
    cut(&b, whole, whole_packet(whole, "10.99.0.1", 9, MESSAGE_BYTES), 9999, pieces);
    for (unsigned k = 0; k < 3; k++)
        give_to(&b, 0, pieces[k]);
    assert_int_equal(requests(&b), 1); /* served again */
    stop(&b);
}

static void overlaps_and_holes_are_refused(void **state)
{
    struct bench b;
    uint8_t whole[512];
    size_t data;

    (void)state;
    start(&b, 1, "");
    data = whole_packet(whole, "10.99.0.1", 9, MESSAGE_BYTES) - 34;
    assert_int_equal(data, 108);
    give_to(&b, 0, piece(&b, whole, 1, 0, 64, true));
    give_to(&b, 0, piece(&b, whole, 1, 48, data - 48, false)); /* 16 bytes twice */
    give_to(&b, 0, piece(&b, whole, 2, 0, 48, true));
    give_to(&b, 0, piece(&b, whole, 2, 24, 16, true)); /* fills the hole by number only */
    give_to(&b, 0, piece(&b, whole, 2, 64, data - 64, false));
    advance(&b, FRAGMENT_TIMEOUT_US + 100000);
    assert_int_equal(requests(&b), 0);
    assert_int_equal(b.counters[0].reassembled, 0);
    assert_int_equal(b.counters[0].drop_fragment, 5);
    assert_int_equal(rte_mempool_avail_count(b.pool), POOL);
    stop(&b);
}

static void what_exceeds_a_buffer_is_dropped(void **state)
{
    struct bench b;
    uint8_t whole[4200];
    struct rte_mbuf *pieces[3];

    (void)state;
    start(&b, 1, "");
    cut(&b, whole, whole_packet(whole, "10.99.0.1", 9, 4000), 5, pieces);
    for (unsigned k = 0; k < 3; k++)
        give_to(&b, 0, pieces[k]);
    assert_int_equal(b.counters[0].drop_fragment, 3);
    assert_int_equal(b.counters[0].reassembled, 0);
    stop(&b);
}

/* A device that takes the tag off says so in each buffer. */
static void a_stripped_tag_stays_known(void **state)
{
    struct bench b;
    uint8_t whole[512];
    struct rte_mbuf *pieces[3];

    (void)state;
    start(&b, 1, ", vlan: 77");
    cut(&b, whole, whole_packet(whole, "10.99.0.1", 9, MESSAGE_BYTES), 5, pieces);
    for (unsigned k = 0; k < 3; k++) {
        pieces[k]->ol_flags = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
        pieces[k]->vlan_tci = 77;
        give_to(&b, 0, pieces[k]);
    }
    assert_int_equal(b.counters[0].drop_vlan, 0);
    assert_int_equal(requests(&b), 1);
    stop(&b);
}

/* The answer to a ping that came in fragments would not fit a packet. */
static void a_long_ping_is_not_answered(void **state)
{
    struct bench b;
    uint8_t whole[2048], data[1600] = {0};
    uint16_t sum;

    (void)state;
    start(&b, 1, "");
    udp(whole, "10.99.0.1", 0, OUR_IP, 0, data, sizeof(data), 0);
    memset(whole + 34, 0, 1608);
    whole[14 + 9] = IPPROTO_ICMP;
    whole[34] = 8;
    sum = (uint16_t)~rte_raw_cksum(whole + 34, 1608);
    memcpy(whole + 36, &sum, 2);
    give_to(&b, 0, piece(&b, whole, 1, 0, 1000, true));
    give_to(&b, 0, piece(&b, whole, 1, 1000, 608, false));
    assert_int_equal(b.counters[0].reassembled, 1);
    assert_int_equal(b.counters[0].echo_answered, 0);
    assert_int_equal(b.counters[0].drop_icmp, 1);
    assert_int_equal(b.sent_count, 0);
    stop(&b);
}

/* A fragment header on a whole packet (RFC 6946): no other part is waited for. */
static void atomic_fragments_are_whole(void **state)
{
    struct bench b;
    uint8_t whole[512];
    size_t data;

    (void)state;
    start(&b, 2, "");
    data = whole_packet(whole, "fd99::1", 9, MESSAGE_BYTES) - 54;
    give_to(&b, 0, piece(&b, whole, 1, 0, data, false));
    exchange(&b);
    assert_int_equal(requests(&b), 1);
    assert_int_equal(b.counters[0].reassembled + b.counters[1].reassembled, 0);
    stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_on_any_queue),
        cmocka_unit_test(what_is_incomplete_is_given_up),
        cmocka_unit_test(a_burst_that_kills_many),
        cmocka_unit_test(a_flood_is_bounded),
        cmocka_unit_test(overlaps_and_holes_are_refused),
        cmocka_unit_test(what_exceeds_a_buffer_is_dropped),
        cmocka_unit_test(a_stripped_tag_stays_known),
        cmocka_unit_test(a_long_ping_is_not_answered),
        cmocka_unit_test(atomic_fragments_are_whole),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
