/* The network stack on mbufs: ARP and discovery both ways, pings, VLAN, ICMP errors, steering
 * between two workers, and damaged packets. */
#include "tests/unit/stack_harness.h"

/* ---- tests ---- */

static void arp_is_answered(void **state)
{
    struct bench b;
    uint8_t bytes[64];
    struct frame f;
    struct arp reply;

    (void)state;
    start(&b, 1, "");
    give(&b, bytes, arp(bytes, 1, "10.99.0.1", OUR_IP));
    assert_int_equal(b.sent_count, 1);
    f = sent_frame(&b, 0, FRAME_ARP);
    assert_true(arp_read(&f, &reply));
    assert_false(reply.request);
    assert_true(rte_is_same_ether_addr(&reply.sender_mac, &our_mac));
    assert_int_equal(reply.sender.bytes[15], 2);
    assert_int_equal(reply.target.bytes[15], 1);
    drop_sent(&b);
    give_get(&b, "10.99.0.1", 4000); /* who asked for us is known now: answered at once */
    assert_int_equal(b.sent_count, 1);
    sent_frame(&b, 0, FRAME_UDP);
    drop_sent(&b);
    give(&b, bytes, arp(bytes, 1, "10.99.0.1", "10.99.0.77"));
    give(&b, bytes, arp(bytes, 2, "10.99.0.9", OUR_IP)); /* nobody asked */
    assert_int_equal(b.sent_count, 0);
    stop(&b);
}

static void packets_wait_for_their_neighbour(void **state)
{
    struct bench b;
    uint8_t bytes[64];
    struct frame f;
    struct arp question;
    const unsigned all = NEIGHBOUR_WAITING + NEIGHBOUR_BEYOND;

    (void)state;
    start(&b, 1, "");
    for (uint16_t port = 1; port <= all + 1; port++)
        give_get(&b, "10.99.0.1", port);
    assert_int_equal(b.sent_count, 1); /* one question for all */
    f = sent_frame(&b, 0, FRAME_ARP);
    assert_true(arp_read(&f, &question) && question.request);
    assert_int_equal(question.target.bytes[15], 1);
    assert_int_equal(question.sender.bytes[15], 2);
    assert_int_equal(b.counters[0].drop_neighbour_queue, 1); /* the oldest made room */
    drop_sent(&b);
    give(&b, bytes, arp(bytes, 2, "10.99.0.1", OUR_IP));
    assert_int_equal(b.sent_count, all);
    for (unsigned i = 0; i < all; i++) {
        f = sent_frame(&b, i, FRAME_UDP);
        assert_int_equal(f.destination_port, i + 2); /* in order */
        assert_int_equal(f.source_port, 5683);
        assert_true(rte_is_same_ether_addr(
            &rte_pktmbuf_mtod(b.sent[i], struct rte_ether_hdr *)->dst_addr, &peer_mac));
    }
    stop(&b);
}

static void a_silent_neighbour_is_asked_three_times(void **state)
{
    struct bench b;

    (void)state;
    start(&b, 1, "");
    give_get(&b, "10.99.0.1", 1);
    advance(&b, 2500000);
    assert_int_equal(b.counters[0].arp_asked, 3);
    assert_int_equal(b.counters[0].drop_neighbour_silent, 0);
    advance(&b, 1000000);
    assert_int_equal(b.counters[0].arp_asked, 3);
    assert_int_equal(b.counters[0].drop_neighbour_silent, 1);
    give_get(&b, "10.99.0.1", 2); /* for a while not even asked for */
    assert_int_equal(b.counters[0].drop_neighbour_silent, 2);
    advance(&b, 4000000);
    give_get(&b, "10.99.0.1", 3);
    assert_int_equal(b.counters[0].arp_asked, 4);
    stop(&b);
}

static void a_known_neighbour_is_confirmed(void **state)
{
    struct bench b;
    uint8_t bytes[64];

    (void)state;
    start(&b, 1, "");
    give(&b, bytes, arp(bytes, 1, "10.99.0.1", OUR_IP));
    advance(&b, 61 * SECOND_US);
    drop_sent(&b);
    give_get(&b, "10.99.0.1", 1);
    assert_int_equal(b.sent_count, 2); /* the question, by unicast, and the answer all the same */
    assert_true(rte_is_same_ether_addr(
        &rte_pktmbuf_mtod(b.sent[0], struct rte_ether_hdr *)->dst_addr, &peer_mac));
    give(&b, bytes, arp(bytes, 2, "10.99.0.1", OUR_IP));
    advance(&b, 5 * SECOND_US);
    assert_int_equal(b.counters[0].arp_asked, 1);
    stop(&b);
}

static void beyond_the_subnet_is_the_gateway(void **state)
{
    struct bench b;
    struct frame f;
    struct arp question;

    (void)state;
    start(&b, 1, "");
    give_get(&b, "172.16.5.5", 1);
    f = sent_frame(&b, 0, FRAME_ARP);
    assert_true(arp_read(&f, &question));
    assert_int_equal(question.target.bytes[15], 254);
    give_get(&b, "2001:db8::5", 1); /* no gateway6 */
    assert_int_equal(b.counters[0].drop_no_route, 1);
    stop(&b);
}

static void discovery_both_ways(void **state)
{
    struct bench b;
    struct frame f;
    struct discovery_message m;
    struct stack_interface peer = {.mac = peer_mac};
    struct address us = address_of("fd99::2"), them = address_of("fd99::1");
    struct rte_mbuf *mbuf;

    (void)state;
    start(&b, 1, "");
    give_get(&b, "fd99::1", 4000);
    f = sent_frame(&b, 0, FRAME_ICMP6);
    assert_true(discovery_read(&f, &m) && m.solicitation && m.has_mac);
    assert_true(address_equal(&m.target, &them));
    assert_memory_equal(f.destination.bytes, address_of("ff02::1:ff00:1").bytes, 16);
    assert_memory_equal(rte_pktmbuf_mtod(b.sent[0], uint8_t *), "\x33\x33\xff\x00\x00\x01", 6);
    /* The peer's own code is ours: its answer. */
    discovery_answer(b.sent[0], &f, &m, &peer_mac);
    mbuf = b.sent[0];
    b.sent_count = 0;
    give_to(&b, 0, mbuf);
    assert_int_equal(b.sent_count, 1);
    sent_frame(&b, 0, FRAME_UDP);
    drop_sent(&b);
    /* It asks for us. */
    mbuf = rte_pktmbuf_alloc(b.pool);
    assert_true(discovery_ask(mbuf, &peer, &them, &us, NULL));
    give_to(&b, 0, mbuf);
    f = sent_frame(&b, 0, FRAME_ICMP6);
    assert_true(discovery_read(&f, &m) && !m.solicitation && m.has_mac);
    assert_true(rte_is_same_ether_addr(&m.mac, &our_mac));
    assert_int_equal(f.payload[4], 0x60); /* solicited, override (RFC 4861 4.4) */
    drop_sent(&b);
    /* A hop limit below 255 has come from elsewhere (RFC 4861 7.1.1). */
    mbuf = rte_pktmbuf_alloc(b.pool);
    assert_true(discovery_ask(mbuf, &peer, &them, &us, NULL));
    rte_pktmbuf_mtod(mbuf, uint8_t *)[14 + 7] = 254;
    give_to(&b, 0, mbuf);
    assert_int_equal(b.sent_count, 0);
    assert_int_equal(b.counters[0].drop_icmp, 1);
    stop(&b);
}

static void pings(void **state)
{
    struct bench b;
    uint8_t bytes[128];
    struct frame f;

    (void)state;
    start(&b, 1, "");
    give(&b, bytes, echo(bytes, "10.99.0.1", OUR_IP));
    f = sent_frame(&b, 0, FRAME_ICMP4);
    assert_int_equal(f.payload[0], 0);
    assert_int_equal(rte_raw_cksum(f.payload, f.payload_bytes), 0xffff);
    give(&b, bytes, echo(bytes, "fd99::1", "fd99::2"));
    f = sent_frame(&b, 1, FRAME_ICMP6);
    assert_int_equal(f.payload[0], 129);
    assert_int_equal(frame_icmp6_checksum(&f.source, &f.destination, f.payload, f.payload_bytes),
                     0);
    give(&b, bytes, echo(bytes, "10.99.0.1", "10.99.0.3"));
    assert_int_equal(b.counters[0].drop_not_ours, 1);
    drop_sent(&b);
    for (unsigned i = 0; i < 150; i++)
        give(&b, bytes, echo(bytes, "10.99.0.1", OUR_IP));
    assert_true(b.sent_count < 110);
    assert_true(b.counters[0].drop_icmp_rate > 40);
    stop(&b);
}

static void vlan_tags(void **state)
{
    struct bench b;
    uint8_t bytes[256];
    size_t length;

    (void)state;
    start(&b, 1, ", vlan: 77");
    length = udp(bytes, "10.99.0.1", 9, OUR_IP, 5683, get_hello, sizeof(get_hello), 77);
    give(&b, bytes, length);
    assert_int_equal(b.sent_count, 1); /* an ARP request with the tag */
    assert_memory_equal(rte_pktmbuf_mtod(b.sent[0], uint8_t *) + 12, "\x81\x00\x00\x4d\x08\x06", 6);
    bytes[15] = 78;
    give(&b, bytes, length);
    length = udp(bytes, "10.99.0.1", 9, OUR_IP, 5683, get_hello, sizeof(get_hello), 0);
    give(&b, bytes, length);
    assert_int_equal(b.counters[0].drop_vlan, 2);
    stop(&b);
    start(&b, 1, "");
    length = udp(bytes, "10.99.0.1", 9, OUR_IP, 5683, get_hello, sizeof(get_hello), 77);
    give(&b, bytes, length);
    assert_int_equal(b.counters[0].drop_vlan, 1);
    stop(&b);
}

static void checksums(void **state)
{
    struct bench b;
    uint8_t bytes[256];
    size_t length;

    (void)state;
    start(&b, 1, "");
    length = udp(bytes, "10.99.0.1", 9, OUR_IP, 5683, get_hello, sizeof(get_hello), 0);
    bytes[length - 1] ^= 1;
    give(&b, bytes, length);
    assert_int_equal(b.counters[0].drop_udp_checksum, 1);
    length = udp(bytes, "10.99.0.1", 9, OUR_IP, 5683, get_hello, sizeof(get_hello), 0);
    bytes[14 + 8] ^= 1; /* TTL */
    give(&b, bytes, length);
    assert_int_equal(b.counters[0].drop_ip_checksum, 1);
    length = udp(bytes, "10.99.0.1", 9, OUR_IP, 5683, get_hello, sizeof(get_hello), 0);
    bytes[14 + 20 + 6] = bytes[14 + 20 + 7] = 0; /* none: legal on IPv4 */
    give(&b, bytes, length);
    assert_int_equal(b.sent_count, 1);
    length = udp(bytes, "fd99::1", 9, "fd99::2", 5683, get_hello, sizeof(get_hello), 0);
    bytes[14 + 40 + 6] = bytes[14 + 40 + 7] = 0; /* not on IPv6 (RFC 8200 8.1) */
    give(&b, bytes, length);
    assert_int_equal(b.counters[0].drop_udp_checksum, 2);
    stop(&b);
}

static void icmp_errors_reach_their_exchange(void **state)
{
    struct bench b;
    uint8_t bytes[512], error[512];
    struct frame f;
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(error + 14);
    uint16_t sum = 0, quoted;

    (void)state;
    start(&b, 1, "");
    give(&b, bytes, arp(bytes, 1, "10.99.0.1", OUR_IP));
    drop_sent(&b);
    give(&b, bytes, udp(bytes, "10.99.0.1", 9, OUR_IP, 5683, get_o, sizeof(get_o), 0));
    f = sent_frame(&b, 0, FRAME_UDP);
    assert_int_equal(f.destination_port, 7000);
    quoted = (uint16_t)(rte_pktmbuf_data_len(b.sent[0]) - 14);
    udp(error, "10.99.0.1", 1, OUR_IP, 2, bytes, (uint16_t)quoted, 0);
    memset(error + 34, 0, 8);
    error[34] = 3; /* destination unreachable */
    error[35] = 3; /* port */
    memcpy(error + 42, rte_pktmbuf_mtod(b.sent[0], uint8_t *) + 14, quoted);
    sum = (uint16_t)~rte_raw_cksum(error + 34, 8u + quoted);
    memcpy(error + 36, &sum, 2);
    ip->next_proto_id = IPPROTO_ICMP;
    ip->total_length = rte_cpu_to_be_16((uint16_t)(28 + quoted));
    ip->hdr_checksum = 0;
    ip->hdr_checksum = rte_ipv4_cksum(ip);
    drop_sent(&b);
    error[35] =
        4; /* fragmentation needed says nothing of the exchange; its checksum is wrong, too */
    give(&b, error, 42u + quoted);
    assert_int_equal(b.sent_count, 0);
    error[35] = 3;
    give(&b, error, 42u + quoted);
    assert_int_equal(b.counters[0].icmp_errors, 1);
    f = sent_frame(&b, 0, FRAME_UDP);
    assert_int_equal(f.payload[1], CODE_GATEWAY_TIMEOUT);
    stop(&b);
}

static void flows_go_to_their_owner(void **state)
{
    struct bench b;
    uint8_t bytes[256];
    uint64_t handled[2];

    (void)state;
    start(&b, 2, "");
    give(&b, bytes, arp(bytes, 1, "10.99.0.1", OUR_IP)); /* the other worker learns it, too */
    exchange(&b);
    assert_int_equal(b.sent_count, 1);
    drop_sent(&b);
    for (uint16_t port = 1000; port < 1100; port++) {
        size_t n = udp(bytes, "10.99.0.1", port, OUR_IP, 5683, get_hello, sizeof(get_hello), 0);
        struct steer_tuple t = {address_of("10.99.0.1"), address_of(OUR_IP), port, 5683};
        unsigned owner = steer_worker_of(b.steer, &t);
        uint64_t before = worker_counters(b.worker[owner])->requests;

        give_to(&b, port & 1, packet(&b, bytes, n));
        exchange(&b);
        assert_int_equal(worker_counters(b.worker[owner])->requests, before + 1);
    }
    handled[0] = worker_counters(b.worker[0])->requests;
    handled[1] = worker_counters(b.worker[1])->requests;
    assert_int_equal(handled[0] + handled[1], 100);
    assert_true(handled[0] > 20 && handled[1] > 20);
    assert_int_equal(b.sent_count, 100); /* all answered, none waits for a neighbour */
    stop(&b);
}

static void multicast(void **state)
{
    struct bench b;
    uint8_t bytes[256], non[sizeof(get_hello)];
    size_t length;

    (void)state;
    start(&b, 1, "");
    memcpy(non, get_hello, sizeof(non));
    non[0] = 0x50;
    give(&b, bytes, arp(bytes, 1, "10.99.0.1", OUR_IP));
    drop_sent(&b);
    length = udp(bytes, "10.99.0.1", 9, "224.0.1.187", 5683, non, sizeof(non), 0);
    memcpy(bytes, "\x01\x00\x5e\x00\x01\xbb", 6);
    give(&b, bytes, length);
    assert_int_equal(b.sent_count, 0);
    advance(&b, 6 * SECOND_US); /* default_leisure */
    assert_int_equal(b.sent_count, 1);
    length = udp(bytes, "10.99.0.1", 9, "224.0.0.99", 5683, non, sizeof(non), 0);
    give(&b, bytes, length);
    assert_int_equal(b.counters[0].drop_not_ours, 1);
    stop(&b);
}

static uint64_t ends(const struct counters *c)
{
    return c->drop_runt + c->drop_mac + c->drop_vlan + c->drop_ethertype + c->drop_ip_header +
           c->drop_ip_checksum + c->drop_not_ours + c->drop_protocol + c->drop_udp_header +
           c->drop_udp_checksum + c->drop_icmp + c->drop_arp;
}

/* Every truncation and many flips of good packets: each ends in one counter, or goes on. */
static void damaged_packets(void **state)
{
    struct bench b;
    uint8_t good[5][256];
    size_t length[5];
    uint8_t seed[RANDOM_SEED_BYTES] = {1};
    struct random r;

    (void)state;
    start(&b, 1, "");
    random_seed(&r, seed);
    length[0] = udp(good[0], "10.99.0.1", 9, OUR_IP, 5683, get_hello, sizeof(get_hello), 0);
    length[1] = udp(good[1], "fd99::1", 9, "fd99::2", 5683, get_hello, sizeof(get_hello), 0);
    length[2] = arp(good[2], 1, "10.99.0.1", OUR_IP);
    length[3] = echo(good[3], "10.99.0.1", OUR_IP);
    length[4] = echo(good[4], "fd99::1", "fd99::2");
    for (unsigned i = 0; i < 5; i++) {
        size_t shortest = i == 2 ? 42 : length[i];

        for (size_t cut_at = 0; cut_at < shortest; cut_at++) {
            uint64_t before = ends(&b.counters[0]);

            give(&b, good[i], cut_at);
            assert_int_equal(ends(&b.counters[0]), before + 1);
        }
        for (unsigned n = 0; n < 4000; n++) {
            uint8_t bytes[256];

            memcpy(bytes, good[i], length[i]);
            for (unsigned flips = 1 + random_below(&r, 3); flips > 0; flips--)
                bytes[random_below(&r, (uint32_t)length[i])] ^= (uint8_t)random_u64(&r);
            give(&b, bytes, length[i]);
            drop_sent(&b);
        }
    }
    stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arp_is_answered),
        cmocka_unit_test(packets_wait_for_their_neighbour),
        cmocka_unit_test(a_silent_neighbour_is_asked_three_times),
        cmocka_unit_test(a_known_neighbour_is_confirmed),
        cmocka_unit_test(beyond_the_subnet_is_the_gateway),
        cmocka_unit_test(discovery_both_ways),
        cmocka_unit_test(pings),
        cmocka_unit_test(vlan_tags),
        cmocka_unit_test(checksums),
        cmocka_unit_test(icmp_errors_reach_their_exchange),
        cmocka_unit_test(flows_go_to_their_owner),
        cmocka_unit_test(multicast),
        cmocka_unit_test(damaged_packets),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
