/* The network stack on mbufs, for unit tests: one or two stacks with real workers; what they
 * transmit and hand over is collected, and at the end every buffer must be back. */
#ifndef COAPGW_TESTS_UNIT_STACK_HARNESS_H
#define COAPGW_TESTS_UNIT_STACK_HARNESS_H

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

#define POOL   8191
#define OUT    4096
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

static inline void transmit(void *context, uint16_t interface, struct rte_mbuf *mbuf)
{
    (void)context;
    assert_int_equal(interface, 0);
    assert_true(bench->sent_count < OUT);
    bench->sent[bench->sent_count++] = mbuf;
}

static inline void hand_over(void *context, unsigned worker, struct rte_mbuf *mbuf)
{
    (void)context;
    assert_true(worker < bench->workers && bench->handed_count[worker] < OUT);
    bench->handed[worker][bench->handed_count[worker]++] = mbuf;
}

/* A bench with a configuration of the test's own, whose only interface is "s". */
static inline void begin_with(struct bench *b, unsigned workers, const char *yaml)
{
    static unsigned pools;
    char pool[32];
    struct steer_setup steer = {
        .workers = workers, .port_base = 32768, .port_shift = 12, .reta_size = 128, .seed = {9, 9}};

    memset(b, 0, sizeof(*b));
    bench = b;
    b->config = config_load_text("t", yaml, strlen(yaml), stderr);
    assert_non_null(b->config);
    b->now = SECOND_US;
    b->workers = workers;
    b->interface = (struct stack_interface){
        .mac = our_mac, .mtu = 1500, .vlan = b->config->interfaces[0].vlan};
    b->steer = steer_create(&steer);
    snprintf(pool, sizeof(pool), "stack%u", pools++); /* a test that failed has left its own */
    b->pool = rte_pktmbuf_pool_create(pool, POOL, 0, sizeof(struct stack_mark), 2176, 0);
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

/* `more`: keys of the interface, behind a comma. */
static inline void begin(struct bench *b, unsigned workers, const char *more)
{
    char yaml[1024];

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
    begin_with(b, workers, yaml);
}

static inline void drop_sent(struct bench *b)
{
    rte_pktmbuf_free_bulk(b->sent, b->sent_count);
    b->sent_count = 0;
}

/* Nothing may be left in any table: all buffers are back. */
static inline void stop(struct bench *b)
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

static inline struct rte_mbuf *packet(struct bench *b, const void *bytes, size_t length)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(b->pool);

    assert_non_null(mbuf);
    memcpy(rte_pktmbuf_append(mbuf, (uint16_t)length), bytes, length);
    return mbuf;
}

static inline void give_to(struct bench *b, unsigned worker, struct rte_mbuf *mbuf)
{
    stack_receive(b->stack[worker], 0, &mbuf, 1, b->now);
}

static inline void give(struct bench *b, const void *bytes, size_t length)
{
    give_to(b, 0, packet(b, bytes, length));
}

/* Lets the workers take what was handed to them until nothing is left. */
static inline void exchange(struct bench *b)
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

static inline void advance(struct bench *b, uint64_t us)
{
    for (uint64_t end = b->now + us; b->now < end;) {
        b->now += 10000;
        for (unsigned i = 0; i < b->workers; i++) {
            stack_advance(b->stack[i], b->now);
            worker_advance(b->worker[i], b->now);
        }
    }
}

/* A bench whose stacks have said what they say at their start. */
static inline void start(struct bench *b, unsigned workers, const char *more)
{
    begin(b, workers, more);
    advance(b, 2 * SECOND_US);
    drop_sent(b);
}

/* ---- packets of the peer's ---- */

static inline struct address address_of(const char *text)
{
    struct address a;

    assert_int_equal(address_parse(text, &a), 0);
    return a;
}

/* A UDP packet from `from`; returns its length. `vlan`: tag, 0 for none. */
static inline size_t udp(uint8_t *out, const char *from, uint16_t from_port, const char *to,
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

static inline size_t arp(uint8_t *out, uint16_t opcode, const char *sender, const char *target)
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

static inline void give_get(struct bench *b, const char *from, uint16_t port)
{
    uint8_t bytes[256];

    give(b, bytes,
         udp(bytes, from, port, strchr(from, ':') ? "fd99::2" : OUR_IP, 5683, get_hello,
             sizeof(get_hello), 0));
}

/* The frame of a packet that was sent, as its receiver reads it. */
static inline struct frame sent_frame(struct bench *b, unsigned i, enum frame_verdict expected)
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

/* A ping from the peer; returns its length. */
static inline size_t echo(uint8_t *out, const char *from, const char *to)
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

#endif
