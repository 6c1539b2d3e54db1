#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_arp.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "bench/gun.h"
#include "gateway/coap/message.h"

#define BURST       64
#define LEAST_BURST 32 /* requests that are waited for, for 20 us at the most */
#define DESCRIPTORS 2048
#define BUFFERS     32767
#define TOKEN_BYTES 8
#define HEADERS \
    (sizeof(struct rte_ether_hdr) + sizeof(struct rte_ipv4_hdr) + sizeof(struct rte_udp_hdr))
#define PACKET_MAX 512
#define TIMEOUT_S  1
#define LOOK_AT    16 /* slots looked at for a timeout in each turn */
#define ANSWER_S   5  /* how long the target and the link are waited for */

/* A place in the window, and what its latest request must be answered with. */
struct slot {
    uint64_t sent_tsc; /* 0: free */
    uint32_t sequence;
    uint32_t given_up; /* sequence of the latest request that timed out; 0: none */
    uint32_t source;
    uint16_t source_port, mid;
};

struct gun {
    const struct gun_options *o;
    struct gun_result *r;
    uint16_t port;
    struct rte_mempool *pool;
    struct rte_ether_addr mac, target_mac;
    bool target_known;
    uint8_t packet[PACKET_MAX]; /* the template: all but what differs by request */
    uint16_t length;
    uint16_t expected;        /* length of o->expect */
    uint32_t ip_sum, udp_sum; /* of the template's fixed words */
    uint32_t source, target;  /* IPv4, host byte order */
    struct slot slots[GUN_WINDOW_MAX];
    uint32_t free_slots[GUN_WINDOW_MAX], free_count;
    uint16_t *mids; /* by endpoint */
    uint32_t next_endpoint, looked_at;
    uint64_t sent;  /* from the start, warm-up included */
    uint32_t least; /* free slots that are worth a burst */
    bool measuring;
    double ns_per_cycle;
    uint16_t out_count;
    struct rte_mbuf *out[BURST];
};

/* ---- histogram ---- */

static unsigned bucket_of(uint64_t value)
{
    unsigned shift = value < 64 ? 0 : (unsigned)(58 - __builtin_clzll(value));
    unsigned bucket = shift * 32 + (unsigned)(value >> shift);

    return bucket < GUN_BUCKETS ? bucket : GUN_BUCKETS - 1;
}

static uint64_t bucket_top(unsigned bucket)
{
    unsigned shift = bucket < 64 ? 0 : bucket / 32 - 1;

    return (((uint64_t)bucket - shift * 32u + 1) << shift) - 1;
}

void gun_histogram_add(struct gun_histogram *h, uint64_t value)
{
    h->count[bucket_of(value)]++;
    h->total++;
    if (value > h->largest)
        h->largest = value;
}

uint64_t gun_histogram_at(const struct gun_histogram *h, double share)
{
    uint64_t wanted = (uint64_t)((double)h->total * share), seen = 0;

    for (unsigned i = 0; i < GUN_BUCKETS; i++) {
        seen += h->count[i];
        if (seen && seen >= wanted)
            return bucket_top(i) < h->largest ? bucket_top(i) : h->largest;
    }
    return h->largest;
}

/* ---- the packet ---- */

static uint32_t sum_words(const uint8_t *bytes, unsigned length)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < length; i++)
        sum += (uint32_t)bytes[i] << (i & 1 ? 0 : 8);
    return sum;
}

static uint16_t fold(uint32_t sum)
{
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)~sum;
}

static size_t write_message(const struct gun_options *o, uint8_t *out, size_t room)
{
    static const uint8_t token[TOKEN_BYTES];
    const char *path = o->path;
    struct encoder e;

    encoder_begin(&e, out, room, o->confirmable ? TYPE_CON : TYPE_NON, CODE_GET, 0, token,
                  TOKEN_BYTES);
    while (*path == '/' && path[1]) {
        size_t length = strcspn(++path, "/");

        encoder_option(&e, OPTION_URI_PATH, path, length);
        path += length;
    }
    return encoder_end(&e);
}

/* Everything but source address, source port, message ID and token; those are zero, and so are the
 * checksums. */
static int make_template(struct gun *g)
{
    struct rte_ether_hdr *ether = (struct rte_ether_hdr *)g->packet;
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(ether + 1);
    struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(ip + 1);
    size_t message = write_message(g->o, (uint8_t *)(udp + 1), PACKET_MAX - HEADERS);
    uint16_t udp_bytes = (uint16_t)(sizeof(*udp) + message);

    if (message == 0) {
        fprintf(stderr, "coapgun: --path %s is too long\n", g->o->path);
        return -EMSGSIZE;
    }
    g->length = (uint16_t)(HEADERS + message);
    ether->src_addr = g->mac;
    ether->dst_addr = g->target_mac;
    ether->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
    ip->version_ihl = RTE_IPV4_VHL_DEF;
    ip->total_length = rte_cpu_to_be_16((uint16_t)(sizeof(*ip) + udp_bytes));
    ip->time_to_live = 64;
    ip->next_proto_id = IPPROTO_UDP;
    ip->dst_addr = rte_cpu_to_be_32(g->target);
    udp->dst_port = rte_cpu_to_be_16(g->o->target.port);
    udp->dgram_len = rte_cpu_to_be_16(udp_bytes);
    g->ip_sum = sum_words((uint8_t *)ip, sizeof(*ip));
    g->udp_sum = sum_words((uint8_t *)&ip->dst_addr, 4) + IPPROTO_UDP + udp_bytes +
                 sum_words((uint8_t *)udp, udp_bytes);
    return 0;
}

static uint32_t halves(uint32_t word)
{
    return (word >> 16) + (word & 0xffff);
}

static void fill(const struct gun *g, uint8_t *packet, uint32_t index, const struct slot *slot)
{
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(packet + sizeof(struct rte_ether_hdr));
    struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(ip + 1);
    uint8_t *message = (uint8_t *)(udp + 1);
    rte_be32_t words[2] = {rte_cpu_to_be_32(index), rte_cpu_to_be_32(slot->sequence)};
    uint16_t sum;

    memcpy(packet, g->packet, g->length);
    ip->src_addr = rte_cpu_to_be_32(slot->source);
    ip->hdr_checksum = rte_cpu_to_be_16(fold(g->ip_sum + halves(slot->source)));
    udp->src_port = rte_cpu_to_be_16(slot->source_port);
    message[2] = (uint8_t)(slot->mid >> 8);
    message[3] = (uint8_t)slot->mid;
    memcpy(message + MESSAGE_HEADER_BYTES, words, sizeof(words));
    sum = fold(g->udp_sum + halves(slot->source) + slot->source_port + slot->mid + halves(index) +
               halves(slot->sequence));
    udp->dgram_cksum = rte_cpu_to_be_16(sum ? sum : 0xffff);
}

/* ---- sending ---- */

static void flush(struct gun *g)
{
    uint16_t sent = 0;

    /* What the device does not take now it takes in a moment: nothing is lost here. */
    while (sent < g->out_count)
        sent = (uint16_t)(sent + rte_eth_tx_burst(g->port, 0, g->out + sent,
                                                  (uint16_t)(g->out_count - sent)));
    g->out_count = 0;
}

static void queue(struct gun *g, struct rte_mbuf *mbuf)
{
    g->out[g->out_count++] = mbuf;
    if (g->out_count == BURST)
        flush(g);
}

static void fire(struct gun *g, uint64_t now)
{
    struct rte_mbuf *batch[BURST];
    unsigned n = g->free_count < BURST ? g->free_count : BURST;

    if (n == 0 || rte_pktmbuf_alloc_bulk(g->pool, batch, n) != 0)
        return;
    for (unsigned i = 0; i < n; i++) {
        uint32_t index = g->free_slots[--g->free_count], endpoint = g->next_endpoint;
        struct slot *slot = &g->slots[index];

        g->next_endpoint = endpoint + 1 == g->o->endpoints ? 0 : endpoint + 1;
        slot->sent_tsc = now;
        slot->sequence++;
        slot->source = g->source + endpoint / GUN_PORTS;
        slot->source_port = (uint16_t)(GUN_PORT_FIRST + endpoint % GUN_PORTS);
        slot->mid = g->mids[endpoint]++;
        fill(g, rte_pktmbuf_mtod(batch[i], uint8_t *), index, slot);
        batch[i]->data_len = g->length;
        batch[i]->pkt_len = g->length;
        queue(g, batch[i]);
    }
    g->sent += n;
    if (g->measuring)
        g->r->sent += n;
}

/* ---- receiving ---- */

static bool is_ours(const struct gun *g, uint32_t address)
{
    return address >= g->source && address - g->source <= (g->o->endpoints - 1) / GUN_PORTS;
}

/* Answers for every source address; learns the target's. True when the packet was sent on. */
static bool receive_arp(struct gun *g, struct rte_mbuf *mbuf)
{
    struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *);
    struct rte_arp_hdr *arp = (struct rte_arp_hdr *)(ether + 1);
    uint32_t asked = rte_be_to_cpu_32(arp->arp_data.arp_tip);

    if (rte_pktmbuf_data_len(mbuf) < sizeof(*ether) + sizeof(*arp))
        return false;
    if (rte_be_to_cpu_32(arp->arp_data.arp_sip) == g->target) {
        g->target_mac = arp->arp_data.arp_sha;
        g->target_known = true;
    }
    if (arp->arp_opcode != rte_cpu_to_be_16(RTE_ARP_OP_REQUEST) || !is_ours(g, asked))
        return false;
    ether->dst_addr = ether->src_addr;
    ether->src_addr = g->mac;
    arp->arp_opcode = rte_cpu_to_be_16(RTE_ARP_OP_REPLY);
    arp->arp_data.arp_tha = arp->arp_data.arp_sha;
    arp->arp_data.arp_tip = arp->arp_data.arp_sip;
    arp->arp_data.arp_sha = g->mac;
    arp->arp_data.arp_sip = rte_cpu_to_be_32(asked);
    queue(g, mbuf);
    return true;
}

/* The answer goes where its request came from, and an ACK has its message ID (RFC 7252 4.2). */
static bool is_astray(const struct gun *g, const struct slot *slot, const struct rte_ipv4_hdr *ip,
                      const uint8_t *message)
{
    const struct rte_udp_hdr *udp = (const struct rte_udp_hdr *)(ip + 1);
    unsigned type = message[0] >> 4 & 3, mid = (unsigned)message[2] << 8 | message[3];

    return ip->dst_addr != rte_cpu_to_be_32(slot->source) ||
           ip->src_addr != rte_cpu_to_be_32(g->target) ||
           udp->dst_port != rte_cpu_to_be_16(slot->source_port) ||
           udp->src_port != rte_cpu_to_be_16(g->o->target.port) ||
           (type == TYPE_ACK && mid != slot->mid);
}

/* The code and the end of the message: the payload behind its marker. A whole parse would cost the
 * generator more than the request costs the server. */
static bool is_wrong(const struct gun *g, const uint8_t *message, uint16_t length)
{
    if (code_class(message[1]) != 2)
        return true;
    if (!g->o->expect)
        return false;
    return length < MESSAGE_HEADER_BYTES + TOKEN_BYTES + 1 + g->expected ||
           message[length - g->expected - 1] != MESSAGE_PAYLOAD_START ||
           memcmp(message + length - g->expected, g->o->expect, g->expected) != 0;
}

/* An answer that no request waits for. A slot remembers one request that it gave up; what is older
 * than that has come back twice or more than a second too late, and counts as a duplicate. */
static void receive_stray(struct gun *g, struct slot *slot, uint32_t sequence)
{
    if (!g->measuring)
        return;
    if (sequence == 0 || sequence > slot->sequence)
        g->r->wrong++; /* a token that was never sent */
    else if (sequence == slot->given_up)
        g->r->late++;
    else
        g->r->duplicates++;
    if (sequence == slot->given_up)
        slot->given_up = 0; /* the next one is a duplicate */
}

static void receive_answer(struct gun *g, const struct rte_ipv4_hdr *ip, const uint8_t *message,
                           uint16_t length, uint64_t now)
{
    rte_be32_t words[2];
    uint32_t index, sequence;
    struct slot *slot;

    if (length < MESSAGE_HEADER_BYTES + TOKEN_BYTES || (message[0] & 0x0f) != TOKEN_BYTES) {
        g->r->wrong += g->measuring;
        return;
    }
    memcpy(words, message + MESSAGE_HEADER_BYTES, sizeof(words));
    index = rte_be_to_cpu_32(words[0]);
    sequence = rte_be_to_cpu_32(words[1]);
    if (index >= g->o->window) {
        g->r->wrong += g->measuring;
        return;
    }
    slot = &g->slots[index];
    if (!slot->sent_tsc || slot->sequence != sequence) {
        receive_stray(g, slot, sequence);
        return;
    }
    if (g->measuring) {
        g->r->answered++;
        g->r->by_code[message[1]]++;
        if (!g->o->raw)
            g->r->wrong += is_astray(g, slot, ip, message) || is_wrong(g, message, length);
        gun_histogram_add(&g->r->latency_ns,
                          (uint64_t)((double)(now - slot->sent_tsc) * g->ns_per_cycle));
    }
    slot->sent_tsc = 0;
    g->free_slots[g->free_count++] = index;
}

static void receive(struct gun *g, struct rte_mbuf *mbuf, uint64_t now)
{
    const struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, const struct rte_ether_hdr *);
    const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(ether + 1);
    const struct rte_udp_hdr *udp = (const struct rte_udp_hdr *)(ip + 1);
    uint16_t bytes;

    if (ether->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_ARP)) {
        if (!receive_arp(g, mbuf))
            rte_pktmbuf_free(mbuf);
        return;
    }
    if (rte_pktmbuf_data_len(mbuf) >= HEADERS &&
        ether->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) &&
        ip->version_ihl == RTE_IPV4_VHL_DEF && ip->next_proto_id == IPPROTO_UDP) {
        bytes = rte_be_to_cpu_16(udp->dgram_len);
        if (bytes >= sizeof(*udp) && bytes - sizeof(*udp) <= rte_pktmbuf_data_len(mbuf) - HEADERS)
            receive_answer(g, ip, (const uint8_t *)(udp + 1), (uint16_t)(bytes - sizeof(*udp)),
                           now);
    }
    rte_pktmbuf_free(mbuf);
}

static unsigned poll(struct gun *g, uint64_t now)
{
    struct rte_mbuf *packets[BURST];
    unsigned n = rte_eth_rx_burst(g->port, 0, packets, BURST);

    for (unsigned i = 0; i < n; i++) {
        if (i + 1 < n)
            rte_prefetch0(rte_pktmbuf_mtod(packets[i + 1], void *));
        receive(g, packets[i], now);
    }
    return n;
}

static void find_timeouts(struct gun *g, uint64_t now, uint64_t timeout)
{
    for (unsigned i = 0; i < LOOK_AT; i++) {
        uint32_t index = g->looked_at;
        struct slot *slot = &g->slots[index];

        g->looked_at = index + 1 == g->o->window ? 0 : index + 1;
        if (!slot->sent_tsc || now - slot->sent_tsc < timeout)
            continue;
        g->r->timeouts += g->measuring;
        slot->sent_tsc = 0;
        slot->given_up = slot->sequence;
        g->free_slots[g->free_count++] = index;
    }
}

/* ---- start ---- */

static int start_port(struct gun *g)
{
    struct rte_eth_conf conf = {0};
    uint16_t rx = DESCRIPTORS, tx = DESCRIPTORS;
    int err;

    g->pool = rte_pktmbuf_pool_create("gun", BUFFERS, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
                                      (int)rte_socket_id());
    if (!g->pool)
        return -ENOMEM;
    err = rte_eth_dev_configure(g->port, 1, 1, &conf);
    if (!err)
        err = rte_eth_dev_adjust_nb_rx_tx_desc(g->port, &rx, &tx);
    if (!err)
        err = rte_eth_rx_queue_setup(g->port, 0, rx, 0, NULL, g->pool);
    if (!err)
        err = rte_eth_tx_queue_setup(g->port, 0, tx, 0, NULL);
    if (!err)
        err = rte_eth_dev_start(g->port);
    if (err)
        return err;
    rte_eth_promiscuous_enable(g->port);
    return rte_eth_macaddr_get(g->port, &g->mac);
}

static void ask_for_target(struct gun *g)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(g->pool);
    struct rte_ether_hdr *ether;
    struct rte_arp_hdr *arp;

    if (!mbuf)
        return;
    ether = (struct rte_ether_hdr *)rte_pktmbuf_append(mbuf, sizeof(*ether) + sizeof(*arp));
    arp = (struct rte_arp_hdr *)(ether + 1);
    memset(ether, 0xff, sizeof(ether->dst_addr));
    ether->src_addr = g->mac;
    ether->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_ARP);
    memset(arp, 0, sizeof(*arp));
    arp->arp_hardware = rte_cpu_to_be_16(RTE_ARP_HRD_ETHER);
    arp->arp_protocol = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
    arp->arp_hlen = 6;
    arp->arp_plen = 4;
    arp->arp_opcode = rte_cpu_to_be_16(RTE_ARP_OP_REQUEST);
    arp->arp_data.arp_sha = g->mac;
    arp->arp_data.arp_sip = rte_cpu_to_be_32(g->source);
    arp->arp_data.arp_tip = rte_cpu_to_be_32(g->target);
    queue(g, mbuf);
    flush(g);
}

/* The link of a memif comes up when both ends have met; then the target's MAC address is asked for.
 */
static int find_target(struct gun *g)
{
    uint64_t hz = rte_get_tsc_hz(), end = rte_rdtsc() + ANSWER_S * hz, ask_at = 0;
    struct rte_eth_link link = {0};

    while (rte_rdtsc() < end) {
        rte_eth_link_get_nowait(g->port, &link);
        if (link.link_status && g->o->raw) {
            memset(&g->target_mac, 2, sizeof(g->target_mac));
            return 0;
        }
        if (link.link_status && rte_rdtsc() >= ask_at) {
            ask_for_target(g);
            ask_at = rte_rdtsc() + hz / 5;
        }
        poll(g, rte_rdtsc());
        flush(g);
        if (g->target_known)
            return 0;
    }
    fprintf(stderr, "coapgun: %s\n",
            link.link_status ? "the target does not answer ARP" : "the device has no link");
    return -ETIMEDOUT;
}

static void run_for(struct gun *g, double seconds)
{
    uint64_t hz = rte_get_tsc_hz(), now = rte_rdtsc(), fire_at = now;
    uint64_t end = now + (uint64_t)(seconds * (double)hz);

    while (now < end) {
        poll(g, now);
        /* In bursts, as a NIC would deliver them: a packet at a time makes the two sides fight for
         * the cache line of the ring. */
        if (g->free_count >= g->least || now >= fire_at) {
            find_timeouts(g, now, TIMEOUT_S * hz);
            fire(g, now);
            flush(g);
            fire_at = now + hz / 50000;
        }
        now = rte_rdtsc();
    }
}

static void measure(struct gun *g)
{
    uint64_t begin;

    for (uint32_t i = g->o->window; i-- > 0;)
        g->free_slots[g->free_count++] = i;
    run_for(g, g->o->warmup_s);
    g->measuring = true;
    begin = rte_rdtsc();
    run_for(g, g->o->duration_s);
    g->r->cycles = rte_rdtsc() - begin;
    g->r->seconds = (double)g->r->cycles / (double)rte_get_tsc_hz();
    /* A server remembers a message ID for EXCHANGE_LIFETIME, 247 s (RFC 7252 4.8.2). */
    g->r->mids_repeated = g->sent > (uint64_t)g->o->endpoints << 16;
}

static int run(struct gun *g)
{
    int err = start_port(g);

    if (err) {
        fprintf(stderr, "coapgun: the device cannot be set up: %s\n", strerror(-err));
        return err;
    }
    err = find_target(g);
    if (!err)
        err = make_template(g);
    if (!err)
        measure(g);
    rte_eth_dev_stop(g->port);
    return err;
}

int gun_run(const struct gun_options *options, uint16_t port, struct gun_result *result)
{
    struct gun *g = calloc(1, sizeof(*g));
    const uint8_t *s = options->source.bytes + 12, *t = options->target.address.bytes + 12;
    int err;

    if (!g)
        return -ENOMEM;
    g->o = options;
    g->r = result;
    g->port = port;
    g->least = options->window < 2 * LEAST_BURST ? 1 : LEAST_BURST;
    g->source = (uint32_t)s[0] << 24 | (uint32_t)s[1] << 16 | (uint32_t)s[2] << 8 | s[3];
    g->target = (uint32_t)t[0] << 24 | (uint32_t)t[1] << 16 | (uint32_t)t[2] << 8 | t[3];
    g->ns_per_cycle = 1e9 / (double)rte_get_tsc_hz();
    g->expected = options->expect ? (uint16_t)strlen(options->expect) : 0;
    g->mids = malloc(sizeof(*g->mids) * options->endpoints);
    for (uint32_t i = 0; g->mids && i < options->endpoints; i++)
        g->mids[i] = (uint16_t)rand();
    err = g->mids ? run(g) : -ENOMEM;
    free(g->mids);
    free(g);
    return err;
}
