/* Packets to groups: those that the interface is in, those that it is not, and which listener
 * answers; and how often workers tell each other of neighbours. */
#include "tests/unit/stack_harness.h"

static const uint8_t non_hello[] = {0x50, 1, 0, 7, 0xb5, 'h', 'e', 'l', 'l', 'o'};

/* A packet to a group in a frame to the group's MAC address. */
static void give_to_group(struct bench *b, const char *from, const char *group, uint16_t port)
{
    uint8_t bytes[256];
    struct address to = address_of(group);
    struct rte_ether_addr mac = frame_group_mac(&to);
    size_t length = udp(bytes, from, 9, group, port, non_hello, sizeof(non_hello), 0);

    memcpy(bytes, &mac, 6);
    give(b, bytes, length);
}

static void meet(struct bench *b, const char *neighbour)
{
    uint8_t bytes[64];
    struct address them = address_of(neighbour), us = address_of("fd99::2");
    struct stack_interface peer = {.mac = peer_mac};
    struct rte_mbuf *mbuf;

    if (address_is_v4(&them)) {
        give(b, bytes, arp(bytes, 1, neighbour, OUR_IP));
    } else {
        mbuf = rte_pktmbuf_alloc(b->pool);
        assert_true(discovery_ask(mbuf, &peer, &them, &us, NULL));
        give_to(b, 0, mbuf);
    }
    drop_sent(b);
}

/* ---- tests ---- */

/* RFC 5227 2.3, RFC 4861 7.2.6: another machine may have had the addresses until now. */
static void our_addresses_are_announced(void **state)
{
    struct bench b;

    (void)state;
    start(&b, 1, "");
    stack_announce(b.stack[0]);
    for (unsigned round = 0; round < 3; round++) {
        const struct rte_ether_hdr *ether;
        struct discovery_message here;
        struct arp arp_here;
        struct frame f;

        advance(&b, round ? SECOND_US : 10000);
        assert_int_equal(b.sent_count, 2);
        f = sent_frame(&b, 0, FRAME_ARP);
        ether = rte_pktmbuf_mtod(b.sent[0], struct rte_ether_hdr *);
        assert_true(rte_is_broadcast_ether_addr(&ether->dst_addr));
        assert_true(arp_read(&f, &arp_here) && arp_here.request);
        assert_memory_equal(arp_here.sender.bytes, address_of(OUR_IP).bytes, 16);
        assert_memory_equal(arp_here.target.bytes, address_of(OUR_IP).bytes, 16);
        assert_true(rte_is_same_ether_addr(&arp_here.sender_mac, &our_mac));
        f = sent_frame(&b, 1, FRAME_ICMP6);
        assert_memory_equal(f.source.bytes, address_of("fd99::2").bytes, 16);
        assert_memory_equal(f.destination.bytes, address_of("ff02::1").bytes, 16);
        assert_true(discovery_read(&f, &here) && !here.solicitation && here.has_mac);
        assert_memory_equal(here.target.bytes, address_of("fd99::2").bytes, 16);
        assert_int_equal(f.payload[4], 0x20); /* override, and nobody has asked */
        drop_sent(&b);
    }
    advance(&b, 5 * SECOND_US);
    assert_int_equal(b.sent_count, 0);
    assert_int_equal(b.counters[0].announced, 6);
    stop(&b);
}

static void requests_are_answered_from_our_own_address(void **state)
{
    static const struct {
        const char *from, *group, *own;
    } cases[] = {
        {"10.99.0.1", "224.0.1.187", OUR_IP},
        {"fd99::1", "ff02::fd", "fd99::2"},
        {"fd99::1", "ff05::fd", "fd99::2"},
        {"fe80::1", "ff02::fd", "fd99::2"},
    };
    struct bench b;

    (void)state;
    start(&b, 1, "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct frame f;

        meet(&b, cases[i].from);
        give_to_group(&b, cases[i].from, cases[i].group, 5683);
        advance(&b, 5 * SECOND_US); /* default_leisure */
        assert_int_equal(b.sent_count, 1);
        f = sent_frame(&b, 0, FRAME_UDP);
        assert_memory_equal(f.source.bytes, address_of(cases[i].own).bytes, 16);
        assert_memory_equal(f.destination.bytes, address_of(cases[i].from).bytes, 16);
        assert_int_equal(f.source_port, 5683);
        assert_int_equal(f.payload[1], CODE_CONTENT);
        drop_sent(&b);
        advance(&b, 200 * SECOND_US); /* the message ID is free again */
    }
    stop(&b);
}

static void other_groups_are_dropped(void **state)
{
    static const char *const groups4[] = {"224.0.1.186", "224.0.0.22", "239.1.1.1",
                                          "255.255.255.255"};
    static const char *const groups6[] = {"ff02::fe", "ff05::fc",         "ff03::fd",
                                          "ff08::fd", "ff02::1:ff00:3",   "ff02::2",
                                          "ff02::16", "ff02::1:0:0:0:fd", "ff02::1:fd"};
    struct bench b;
    uint64_t drops = 0;

    (void)state;
    start(&b, 1, "");
    for (size_t i = 0; i < sizeof(groups4) / sizeof(groups4[0]); i++) {
        give_to_group(&b, "10.99.0.1", groups4[i], 5683);
        assert_int_equal(b.counters[0].drop_not_ours, ++drops);
    }
    for (size_t i = 0; i < sizeof(groups6) / sizeof(groups6[0]); i++) {
        give_to_group(&b, "fd99::1", groups6[i], 5683);
        assert_int_equal(b.counters[0].drop_not_ours, ++drops);
    }
    give_to_group(&b, "10.99.0.1", "224.0.0.1", 5683); /* we are in it, but it is not for CoAP */
    assert_int_equal(b.counters[0].drop_not_ours, ++drops);
    give_to_group(&b, "fd99::1", "ff02::1", 5683);
    assert_int_equal(b.counters[0].drop_not_ours, ++drops);
    give_to_group(&b, "10.99.0.1", "224.0.1.187", 5684);
    give_to_group(&b, "fd99::1", "ff02::fd", 5684);
    assert_int_equal(b.counters[0].drop_no_listener, 2);
    assert_int_equal(worker_counters(b.worker[0])->rx_verdict[VERDICT_OK], 0);
    stop(&b);
}

/* RFC 1122 3.3.6: a frame to all is not the way to reach one. */
static void frames_to_all_are_for_groups(void **state)
{
    struct bench b;
    uint8_t bytes[256];
    size_t length;

    (void)state;
    start(&b, 1, "");
    meet(&b, "10.99.0.1");
    length = udp(bytes, "10.99.0.1", 9, OUR_IP, 5683, get_hello, sizeof(get_hello), 0);
    memset(bytes, 0xff, 6);
    give(&b, bytes, length);
    assert_int_equal(b.counters[0].drop_not_ours, 1);
    length = echo(bytes, "fd99::1", "fd99::2");
    memcpy(bytes, "\x33\x33\x00\x00\x00\x01", 6);
    give(&b, bytes, length);
    assert_int_equal(b.counters[0].drop_not_ours, 2);
    assert_int_equal(b.sent_count, 0);
    stop(&b);
}

static void pings_and_solicitations_to_groups(void **state)
{
    struct bench b;
    uint8_t bytes[256];
    struct address them = address_of("fd99::1"), us = address_of("fd99::2");
    struct stack_interface peer = {.mac = peer_mac};
    struct rte_mbuf *mbuf;

    (void)state;
    start(&b, 1, "");
    give(&b, bytes, echo(bytes, "fd99::1", "ff02::1"));
    give(&b, bytes, echo(bytes, "fd99::1", "ff02::fd"));
    give(&b, bytes, echo(bytes, "10.99.0.1", "224.0.1.187"));
    assert_int_equal(b.sent_count, 3);
    give(&b, bytes, echo(bytes, "fd99::1", "ff02::1:ff12:3456"));
    give(&b, bytes, echo(bytes, "10.99.0.1", "224.0.0.251"));
    assert_int_equal(b.counters[0].drop_not_ours, 2);
    assert_int_equal(b.sent_count, 3);
    drop_sent(&b);
    mbuf = rte_pktmbuf_alloc(b.pool);
    them = address_of("fd99::1");
    us.bytes[13] = 1; /* another's group */
    assert_true(discovery_ask(mbuf, &peer, &them, &us, NULL));
    give_to(&b, 0, mbuf);
    assert_int_equal(b.counters[0].drop_not_ours, 3);
    us = address_of("fd99::1:0:0:2"); /* our group, but not we */
    mbuf = rte_pktmbuf_alloc(b.pool);
    assert_true(discovery_ask(mbuf, &peer, &them, &us, NULL));
    give_to(&b, 0, mbuf);
    assert_int_equal(b.counters[0].drop_icmp, 1);
    assert_int_equal(b.sent_count, 0);
    stop(&b);
}

static const char two_addresses[] =
    "interfaces:\n"
    "  - {name: s, device: \"tap:x\", addresses: [10.99.0.2/24, 10.99.0.3/24, 10.99.0.4/24]}\n"
    "listeners:\n"
    "  - {uri: coap://10.99.0.2, multicast: false}\n"
    "  - {uri: coap://10.99.0.3}\n"
    "  - {uri: coap://10.99.0.4}\n"
    "routes:\n"
    "  - {path: /hello, respond: {payload: hi}}\n"
    "limits: {sessions: 1000}\n";

static void the_first_listener_for_groups_answers(void **state)
{
    struct bench b;
    struct frame f;

    (void)state;
    begin_with(&b, 1, two_addresses);
    advance(&b, 2 * SECOND_US);
    assert_int_equal(b.sent_count, 2); /* no IPv6: IGMP only */
    drop_sent(&b);
    meet(&b, "10.99.0.1");
    give_to_group(&b, "10.99.0.1", "224.0.1.187", 5683);
    advance(&b, 5 * SECOND_US);
    assert_int_equal(b.sent_count, 1);
    f = sent_frame(&b, 0, FRAME_UDP);
    assert_int_equal(f.source.bytes[15], 3);
    stop(&b);
}

static void listeners_that_are_not_for_groups(void **state)
{
    struct bench b;
    char yaml[sizeof(two_addresses) + 64];
    const char *rest = strstr(two_addresses, "  - {uri: coap://10.99.0.3}");

    (void)state;
    snprintf(yaml, sizeof(yaml), "%.*s%s", (int)(rest - two_addresses), two_addresses,
             strstr(two_addresses, "routes:"));
    begin_with(&b, 1, yaml);
    advance(&b, 2 * SECOND_US);
    assert_int_equal(b.sent_count, 0);
    assert_int_equal(stack_next_us(b.stack[0]), UINT64_MAX);
    give_to_group(&b, "10.99.0.1", "224.0.1.187", 5683);
    assert_int_equal(b.counters[0].drop_not_ours, 1);
    stop(&b);
}

/* The session of a multicast request is that of our own address: its owner answers. */
static void the_owner_of_the_unicast_flow_answers(void **state)
{
    struct bench b;
    uint64_t handled[2];

    (void)state;
    start(&b, 2, "");
    meet(&b, "10.99.0.1");
    exchange(&b);
    for (uint16_t port = 1000; port < 1050; port++) {
        struct steer_tuple t = {address_of("10.99.0.1"), address_of(OUR_IP), port, 5683};
        unsigned owner = steer_worker_of(b.steer, &t);
        uint64_t before = worker_counters(b.worker[owner])->rx_type[TYPE_NON];
        uint8_t bytes[256];

        give_to(&b, port & 1,
                packet(&b, bytes,
                       udp(bytes, "10.99.0.1", port, "224.0.1.187", 5683, non_hello,
                           sizeof(non_hello), 0)));
        exchange(&b);
        assert_int_equal(worker_counters(b.worker[owner])->rx_type[TYPE_NON], before + 1);
    }
    advance(&b, 5 * SECOND_US);
    handled[0] = worker_counters(b.worker[0])->requests;
    handled[1] = worker_counters(b.worker[1])->requests;
    assert_int_equal(handled[0] + handled[1], 50);
    assert_true(handled[0] && handled[1]);
    assert_int_equal(b.sent_count, 50);
    stop(&b);
}

/* Every answer to us is news to workers that asked, but a flood of them is told of in part. */
static void telling_of_neighbours_has_a_limit(void **state)
{
    struct bench b;
    uint8_t bytes[64];
    uint64_t told = 0, limited;

    (void)state;
    start(&b, 2, "");
    for (unsigned i = 0; i < 1000; i++) {
        give(&b, bytes, arp(bytes, 2, "10.99.0.1", OUR_IP));
        told += b.handed_count[1];
        exchange(&b);
    }
    limited = b.counters[0].learn_limited;
    assert_int_equal(told + limited, 1000);
    assert_true(told >= 200 && told <= 300);
    advance(&b, 100000); /* a tenth of a second later there is room again */
    give(&b, bytes, arp(bytes, 2, "10.99.0.1", OUR_IP));
    assert_int_equal(b.handed_count[1], 1);
    assert_int_equal(b.counters[0].learn_limited, limited);
    stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(our_addresses_are_announced),
        cmocka_unit_test(requests_are_answered_from_our_own_address),
        cmocka_unit_test(other_groups_are_dropped),
        cmocka_unit_test(frames_to_all_are_for_groups),
        cmocka_unit_test(pings_and_solicitations_to_groups),
        cmocka_unit_test(the_first_listener_for_groups_answers),
        cmocka_unit_test(listeners_that_are_not_for_groups),
        cmocka_unit_test(the_owner_of_the_unicast_flow_answers),
        cmocka_unit_test(telling_of_neighbours_has_a_limit),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
