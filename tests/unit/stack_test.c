/* The network stack on mbufs: ARP and discovery both ways, pings, VLAN, fragments, ICMP errors,
 * steering between two workers, and damaged packets. Two stacks with real workers; what they
 * transmit and hand over is collected. */
#include "tests/unit/worker_harness.h"

#include <rte_arp.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_udp.h>

#include "dpdk/frame.h"
#include "dpdk/icmp.h"
#include "dpdk/neighbour.h"
#include "dpdk/stack.h"

#define POOL   4095
#define OUT    256
#define OUR_IP "10.99.0.2"

static const struct rte_ether_addr our_mac = {{2, 0, 0, 0, 0, 2}};
static const struct rte_ether_addr peer_mac = {{2, 0, 0, 0, 0, 1}};

struct bench {
    struct config *config;
    struct stack_interface interface;
    struct steer *steer;
    struct rte_mempool *pool;
    unsigned workers;
    struct worker *worker[2];
    struct stack *stack[2];
    struct counters counters[2];
    struct rte_mbuf *sent[OUT], *handed[2][OUT];
    unsigned sent_count, handed_count[2];
    uint64_t now;
};

static struct bench *bench; /* of the test that runs */

static void transmit(void *context, uint16_t interface, struct rte_mbuf *mbuf)
{
    (void)context;
    assert_int_equal(interface, 0);
    assert_true(bench->sent_count < OUT);
    bench->sent[bench->sent_count++] = mbuf;
}

static void hand_over(void *context, unsigned worker, struct rte_mbuf *mbuf)
{
    (void)context;
    assert_true(worker < bench->workers && bench->handed_count[worker] < OUT);
    bench->handed[worker][bench->handed_count[worker]++] = mbuf;
}

static void start(struct bench *b, unsigned workers, const char *more)
{
    char yaml[1024];
    struct steer_setup steer = {
        .workers = workers, .port_base = 32768, .port_shift = 12, .reta_size = 128, .seed = {9, 9}};

    memset(b, 0, sizeof(*b));
    bench = b;
    snprintf(yaml, sizeof(yaml),
             "workers: %u\n"
             "interfaces:\n"
             "  - {name: s, device: \"tap:x\", addresses: [10.99.0.2/24, \"fd99::2/64\"], "
             "gateway: 10.99.0.254%s}\n"
             "listeners:\n"
             "  - uri: coap://10.99.0.2\n"
             "  - uri: \"coap://[fd99::2]\"\n"
             "upstreams:\n"
             "  - {name: o, servers: [coap://10.99.0.1:7000]}\n"
             "routes:\n"
             "  - {path: /hello, respond: {payload: hi}}\n"
             "  - {path: /o, to: o}\n"
             "limits: {sessions: 1000}\n",
             workers, more);
    b->config = config_load_text("t", yaml, strlen(yaml), stderr);
    assert_non_null(b->config);
    b->now = SECOND_US;
    b->workers = workers;
    b->interface = (struct stack_interface){
        .mac = our_mac, .mtu = 1500, .vlan = b->config->interfaces[0].vlan};
    b->steer = steer_create(&steer);
    b->pool = rte_pktmbuf_pool_create("stack", POOL, 0, sizeof(struct stack_mark), 2176, 0);
    assert_non_null(b->pool);
    for (unsigned i = 0; i < workers; i++) {
        struct stack_setup ss = {.config = b->config,
                                 .interfaces = &b->interface,
                                 .steer = b->steer,
                                 .index = i,
                                 .count = workers,
                                 .pool = b->pool,
                                 .counters = &b->counters[i],
                                 .transmit = transmit,
                                 .hand_over = hand_over};
        struct worker_setup ws = {.config = b->config, .index = i, .count = workers, .seed = {1}};

        b->stack[i] = stack_create(&ss, b->now);
        ws.io = stack_io(b->stack[i]);
        b->worker[i] = worker_create(&ws, b->now);
        assert_true(b->stack[i] && b->worker[i]);
        stack_attach(b->stack[i], b->worker[i]);
    }
}

static void drop_sent(struct bench *b)
{
    rte_pktmbuf_free_bulk(b->sent, b->sent_count);
    b->sent_count = 0;
}

/* Nothing may be left in any table: all buffers are back. */
static void stop(struct bench *b)
{
    drop_sent(b);
    for (unsigned i = 0; i < b->workers; i++) {
        rte_pktmbuf_free_bulk(b->handed[i], b->handed_count[i]);
        worker_destroy(b->worker[i]);
        stack_destroy(b->stack[i]);
    }
    assert_int_equal(rte_mempool_avail_count(b->pool), POOL);
    rte_mempool_free(b->pool);
    steer_destroy(b->steer);
    config_free(b->config);
}

static struct rte_mbuf *packet(struct bench *b, const void *bytes, size_t length)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(b->pool);

    assert_non_null(mbuf);
    memcpy(rte_pktmbuf_append(mbuf, (uint16_t)length), bytes, length);
    return mbuf;
}

static void give_to(struct bench *b, unsigned worker, struct rte_mbuf *mbuf)
{
    stack_receive(b->stack[worker], 0, &mbuf, 1, b->now);
}

static void give(struct bench *b, const void *bytes, size_t length)
{
    give_to(b, 0, packet(b, bytes, length));
}

/* Lets the workers take what was handed to them until nothing is left. */
static void exchange(struct bench *b)
{
    for (bool more = true; more;) {
        more = false;
        for (unsigned i = 0; i < b->workers; i++) {
            struct rte_mbuf *taken[OUT];
            unsigned n = b->handed_count[i];

            if (n == 0)
                continue;
            memcpy(taken, b->handed[i], n * sizeof(taken[0]));
            b->handed_count[i] = 0;
            stack_take_over(b->stack[i], taken, n, b->now);
            more = true;
        }
    }
}

static void advance(struct bench *b, uint64_t us)
{
    for (uint64_t end = b->now + us; b->now < end;) {
        b->now += 10000;
        for (unsigned i = 0; i < b->workers; i++) {
            stack_advance(b->stack[i], b->now);
            worker_advance(b->worker[i], b->now);
        }
    }
}

/* ---- packets of the peer's ---- */

static struct address address_of(const char *text)
{
    struct address a;

    assert_int_equal(address_parse(text, &a), 0);
    return a;
}

/* A UDP packet from `from`; returns its length. `vlan`: tag, 0 for none. */
static size_t udp(uint8_t *out, const char *from, uint16_t from_port, const char *to,
                  uint16_t to_port, const void *payload, uint16_t length, uint16_t vlan)
{
    struct address source = address_of(from), destination = address_of(to);
    bool v4 = address_is_v4(&source);
    struct rte_ether_hdr *ether = (struct rte_ether_hdr *)out;
    uint16_t type = v4 ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6;
    uint8_t *ip = out + sizeof(*ether) + (vlan ? 4 : 0);
    struct rte_udp_hdr *u = (struct rte_udp_hdr *)(ip + (v4 ? 20 : 40));

    memset(out, 0, 100);
    ether->src_addr = peer_mac;
    ether->dst_addr = our_mac;
    ether->ether_type = rte_cpu_to_be_16(vlan ? RTE_ETHER_TYPE_VLAN : type);
    if (vlan) {
        out[14] = (uint8_t)(vlan >> 8);
        out[15] = (uint8_t)vlan;
        out[16] = (uint8_t)(type >> 8);
        out[17] = (uint8_t)type;
    }
    u->src_port = rte_cpu_to_be_16(from_port);
    u->dst_port = rte_cpu_to_be_16(to_port);
    u->dgram_len = rte_cpu_to_be_16((uint16_t)(8 + length));
    memcpy(u + 1, payload, length);
    if (v4) {
        struct rte_ipv4_hdr *h = (struct rte_ipv4_hdr *)ip;

        h->version_ihl = 0x45;
        h->total_length = rte_cpu_to_be_16((uint16_t)(28 + length));
        h->time_to_live = 9;
        h->next_proto_id = IPPROTO_UDP;
        memcpy(&h->src_addr, source.bytes + 12, 4);
        memcpy(&h->dst_addr, destination.bytes + 12, 4);
        h->hdr_checksum = rte_ipv4_cksum(h);
        u->dgram_cksum = rte_ipv4_udptcp_cksum(h, u);
    } else {
        struct rte_ipv6_hdr *h = (struct rte_ipv6_hdr *)ip;

        h->vtc_flow = rte_cpu_to_be_32(0x60000000);
        h->payload_len = u->dgram_len;
        h->proto = IPPROTO_UDP;
        h->hop_limits = 9;
        memcpy(h->src_addr, source.bytes, 16);
        memcpy(h->dst_addr, destination.bytes, 16);
        u->dgram_cksum = rte_ipv6_udptcp_cksum(h, u);
    }
    return (size_t)((uint8_t *)(u + 1) - out) + length;
}

static size_t arp(uint8_t *out, uint16_t opcode, const char *sender, const char *target)
{
    struct rte_ether_hdr *ether = (struct rte_ether_hdr *)out;
    struct rte_arp_hdr *h = (struct rte_arp_hdr *)(ether + 1);
    struct address s = address_of(sender), t = address_of(target);

    memset(out, 0, 60);
    ether->src_addr = peer_mac;
    memset(&ether->dst_addr, 0xff, 6);
    ether->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_ARP);
    h->arp_hardware = rte_cpu_to_be_16(1);
    h->arp_protocol = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
    h->arp_hlen = 6;
    h->arp_plen = 4;
    h->arp_opcode = rte_cpu_to_be_16(opcode);
    h->arp_data.arp_sha = peer_mac;
    memcpy(&h->arp_data.arp_sip, s.bytes + 12, 4);
    memcpy(&h->arp_data.arp_tip, t.bytes + 12, 4);
    return 60; /* padded, as on the wire */
}

static const uint8_t get_hello[] = {0x40, 1, 0, 7, 0xb5, 'h', 'e', 'l', 'l', 'o'};
static const uint8_t get_o[] = {0x40, 1, 0, 8, 0xb1, 'o'};

static void give_get(struct bench *b, const char *from, uint16_t port)
{
    uint8_t bytes[256];

    give(b, bytes,
         udp(bytes, from, port, strchr(from, ':') ? "fd99::2" : OUR_IP, 5683, get_hello,
             sizeof(get_hello), 0));
}

/* The frame of a packet that was sent, as its receiver reads it. */
static struct frame sent_frame(struct bench *b, unsigned i, enum frame_verdict expected)
{
    struct stack_interface receiver = b->interface;
    struct frame f;

    assert_true(i < b->sent_count);
    receiver.mac = rte_pktmbuf_mtod(b->sent[i], struct rte_ether_hdr *)->dst_addr;
    assert_true(rte_is_same_ether_addr(
        &rte_pktmbuf_mtod(b->sent[i], struct rte_ether_hdr *)->src_addr, &our_mac));
    assert_int_equal(frame_read(b->sent[i], &receiver, false, &f), expected);
    return f;
}

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

    (void)state;
    start(&b, 1, "");
    for (uint16_t port = 1; port <= 17; port++)
        give_get(&b, "10.99.0.1", port);
    assert_int_equal(b.sent_count, 1); /* one question for all */
    f = sent_frame(&b, 0, FRAME_ARP);
    assert_true(arp_read(&f, &question) && question.request);
    assert_int_equal(question.target.bytes[15], 1);
    assert_int_equal(question.sender.bytes[15], 2);
    assert_int_equal(b.counters[0].drop_neighbour_queue, 1); /* the oldest made room */
    drop_sent(&b);
    give(&b, bytes, arp(bytes, 2, "10.99.0.1", OUR_IP));
    assert_int_equal(b.sent_count, NEIGHBOUR_WAITING);
    for (unsigned i = 0; i < NEIGHBOUR_WAITING; i++) {
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

/* Turns a packet of ours into one that the peer might have sent: an echo of `type`. */
static size_t echo(uint8_t *out, const char *from, const char *to)
{
    struct address source = address_of(from), destination = address_of(to);
    bool v4 = address_is_v4(&source);
    size_t length = udp(out, from, 1, to, 2, "0123456789", 10, 0);
    uint8_t *icmp = out + 14 + (v4 ? 20 : 40);
    uint16_t sum = 0;

    memset(icmp, 0, 8);
    icmp[0] = v4 ? 8 : 128;
    if (v4) {
        struct rte_ipv4_hdr *h = (struct rte_ipv4_hdr *)(out + 14);

        h->next_proto_id = IPPROTO_ICMP;
        h->hdr_checksum = 0;
        h->hdr_checksum = rte_ipv4_cksum(h);
        sum = (uint16_t)~rte_raw_cksum(icmp, 18);
    } else {
        out[14 + 6] = IPPROTO_ICMPV6;
        sum = frame_icmp6_checksum(&source, &destination, icmp, 18);
    }
    memcpy(icmp + 2, &sum, 2);
    return length;
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

/* Cuts a packet in three; the pieces' lengths are multiples of 8 but for the last. */
static unsigned cut(struct bench *b, const uint8_t *whole, size_t length, struct rte_mbuf **pieces)
{
    size_t data = length - 34, part = (data / 3 + 7) / 8 * 8, at = 0;
    unsigned n = 0;

    for (; at < data; at += part, n++) {
        size_t bytes = data - at < part ? data - at : part;
        struct rte_ipv4_hdr *h;

        pieces[n] = packet(b, whole, 34);
        memcpy(rte_pktmbuf_append(pieces[n], (uint16_t)bytes), whole + 34 + at, bytes);
        h = rte_pktmbuf_mtod_offset(pieces[n], struct rte_ipv4_hdr *, 14);
        h->packet_id = rte_cpu_to_be_16(77);
        h->total_length = rte_cpu_to_be_16((uint16_t)(20 + bytes));
        h->fragment_offset =
            rte_cpu_to_be_16((uint16_t)(at / 8 | (at + bytes < data ? RTE_IPV4_HDR_MF_FLAG : 0)));
        h->hdr_checksum = 0;
        h->hdr_checksum = rte_ipv4_cksum(h);
    }
    return n;
}

static void fragments(void **state)
{
    static const uint8_t orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}};
    struct bench b;
    uint8_t whole[512], message[100] = {0x40, 1, 0, 7, 0xb5, 'h', 'e', 'l', 'l', 'o', 0xff};
    struct rte_mbuf *pieces[4];

    (void)state;
    start(&b, 2, "");
    memset(message + 11, 'x', sizeof(message) - 11);
    for (unsigned i = 0; i < 3; i++) {
        size_t length =
            udp(whole, "10.99.0.1", (uint16_t)(100 + i), OUR_IP, 5683, message, sizeof(message), 0);

        assert_int_equal(cut(&b, whole, length, pieces), 3);
        for (unsigned k = 0; k < 3; k++) /* whatever queues they come in on */
            give_to(&b, (k + i) % 2, pieces[orders[i][k]]);
        exchange(&b);
        assert_int_equal(b.counters[0].reassembled + b.counters[1].reassembled, i + 1);
    }
    assert_int_equal(
        worker_counters(b.worker[0])->requests + worker_counters(b.worker[1])->requests, 3);
    /* One missing: gone after two seconds, and counted. */
    cut(&b, whole, udp(whole, "10.99.0.1", 9, OUR_IP, 5683, message, sizeof(message), 0), pieces);
    give_to(&b, 0, pieces[0]);
    give_to(&b, 0, pieces[2]);
    rte_pktmbuf_free(pieces[1]);
    exchange(&b);
    b.now += 3 * SECOND_US;
    cut(&b, whole, udp(whole, "10.99.0.1", 10, OUR_IP, 5683, message, sizeof(message), 0), pieces);
    give_to(&b, 0, pieces[0]); /* the same identification: the old ones make room */
    rte_pktmbuf_free(pieces[1]);
    rte_pktmbuf_free(pieces[2]);
    exchange(&b);
    advance(&b, 20000);
    assert_int_equal(b.counters[0].drop_fragment + b.counters[1].drop_fragment, 2);
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
        cmocka_unit_test(fragments),
        cmocka_unit_test(icmp_errors_reach_their_exchange),
        cmocka_unit_test(flows_go_to_their_owner),
        cmocka_unit_test(multicast),
        cmocka_unit_test(damaged_packets),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
