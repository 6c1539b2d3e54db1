#include "dpdk/stack.h"

#include <errno.h>
#include <stdlib.h>

#include <rte_ip.h>

#include "dpdk/fragment.h"
#include "dpdk/frame.h"
#include "dpdk/icmp.h"
#include "dpdk/neighbour.h"
#include "gateway/hash.h"

/* Replies to pings: a token for each, refilled at this rate. */
#define ECHO_PER_SECOND 1000
#define ECHO_BURST      100

/* A packet is handed over as a fragment and as a whole. */
#define HANDED_MAX 2

#define PREFETCH_AHEAD 4

#define NO_LOCAL UINT16_MAX

/* The subnet of a local address, for a quick look at IPv4 peers. */
struct subnet4 {
    uint32_t net, mask; /* network order; mask 0 and net 1: no IPv4 */
};

struct stack {
    struct stack_setup setup;
    struct worker *worker;
    struct frame_template *templates; /* by local address */
    struct subnet4 *subnets;          /* by local address */
    struct address *link_local;       /* by interface */
    struct neighbours *neighbours;
    struct fragments *fragments;
    uint64_t fragment_seed; /* the same for all workers */
    uint64_t now;
    uint64_t echo_refilled_us;
    uint32_t echo_tokens;
    uint16_t ip_id;

    /* Datagrams that have been collected for the worker, and the packets that they are in. */
    struct datagram burst[WORKER_BURST];
    struct rte_mbuf *held[WORKER_BURST];
    unsigned held_count;
};

static const struct stack_interface *interface_of(const struct stack *s, uint16_t index)
{
    return &s->setup.interfaces[index];
}

static struct stack_mark *mark_of(struct rte_mbuf *mbuf)
{
    return rte_mbuf_to_priv(mbuf);
}

static void drop(struct rte_mbuf *mbuf, uint64_t *counter)
{
    (*counter)++;
    rte_pktmbuf_free(mbuf);
}

/* ---- out ---- */

static bool in_subnet4(const struct subnet4 *subnet, const struct address *peer)
{
    uint32_t word;

    memcpy(&word, peer->bytes + 12, sizeof(word));
    return (word & subnet->mask) == subnet->net;
}

static struct subnet4 make_subnet4(const struct local_address *local)
{
    struct subnet4 subnet = {.net = 1};

    if (!address_is_v4(&local->address) || local->prefix == 0)
        return subnet;
    subnet.mask = rte_cpu_to_be_32(UINT32_MAX << (32 - local->prefix));
    memcpy(&subnet.net, local->address.bytes + 12, sizeof(subnet.net));
    subnet.net &= subnet.mask;
    return subnet;
}

/* The next hop towards an address from a local one: itself, or the gateway of its interface. False:
 * there is none. */
static bool next_hop(const struct stack *s, uint16_t local, const struct address *peer,
                     struct address *hop)
{
    const struct config *c = s->setup.config;
    const struct local_address *from = &c->locals[local];
    const struct config_interface *i = &c->interfaces[from->interface];

    *hop = *peer;
    if (in_subnet4(&s->subnets[local], peer) ||
        address_in_subnet(peer, &from->address, from->prefix) || address_is_link_local(peer))
        return true;
    for (unsigned k = 0; k < i->address_count; k++)
        if (address_in_subnet(peer, &i->addresses[k].address, i->addresses[k].prefix))
            return true;
    if (address_is_v4(peer)) {
        *hop = i->gateway;
        return i->has_gateway;
    }
    *hop = i->gateway6;
    return i->has_gateway6;
}

static bool io_alloc(void *context, const struct flow *flow, struct outgoing *out)
{
    struct stack *s = context;
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(s->setup.pool);
    uint16_t headers = address_is_v4(&flow->peer) ? 28 : 48;

    if (!mbuf) {
        s->setup.counters->drop_no_buffer++;
        return false;
    }
    out->buffer = mbuf;
    out->data = rte_pktmbuf_mtod(mbuf, uint8_t *);
    out->room = (uint16_t)(s->setup.config->locals[flow->local].mtu - headers);
    return true;
}

static void io_send(void *context, const struct flow *flow, struct outgoing *out, uint16_t length)
{
    struct stack *s = context;
    struct rte_mbuf *mbuf = out->buffer;
    struct address hop;

    mbuf->data_len = length;
    mbuf->pkt_len = length;
    if (!next_hop(s, flow->local, &flow->peer, &hop)) {
        drop(mbuf, &s->setup.counters->drop_no_route);
        return;
    }
    frame_write_udp(mbuf, &s->templates[flow->local], &flow->peer, flow->local_port,
                    flow->peer_port, s->ip_id++);
    neighbour_send(s->neighbours, s->setup.config->locals[flow->local].interface, &hop, mbuf,
                   s->now);
}

static void io_cancel(void *context, struct outgoing *out)
{
    (void)context;
    rte_pktmbuf_free(out->buffer);
}

static uint16_t io_upstream_port(void *context, uint16_t local, const struct endpoint *server,
                                 unsigned n)
{
    struct stack *s = context;

    return steer_upstream_port(s->setup.steer, s->setup.index,
                               &s->setup.config->locals[local].address, server, n);
}

struct worker_io stack_io(struct stack *s)
{
    struct worker_io io = {.context = s,
                           .alloc = io_alloc,
                           .send = io_send,
                           .cancel = io_cancel,
                           .upstream_port = io_upstream_port};

    return io;
}

static void send_on(void *context, uint16_t interface, struct rte_mbuf *mbuf)
{
    struct stack *s = context;

    s->setup.transmit(s->setup.context, interface, mbuf);
}

/* The address to ask from: of the subnet, or any of the family; IPv6 has its link-local one. */
static const struct address *asking_address(const struct stack *s, uint16_t interface,
                                            const struct address *target)
{
    const struct config_interface *c = &s->setup.config->interfaces[interface];
    const struct address *any = address_is_v4(target) ? NULL : &s->link_local[interface];

    for (unsigned i = 0; i < c->address_count; i++) {
        const struct config_address *a = &c->addresses[i];

        if (address_in_subnet(target, &a->address, a->prefix))
            return &a->address;
        if (!any && address_is_v4(&a->address))
            any = &a->address;
    }
    return any;
}

static void ask_neighbour(void *context, uint16_t interface, const struct address *target,
                          const struct rte_ether_addr *known)
{
    struct stack *s = context;
    const struct address *sender = asking_address(s, interface, target);
    struct rte_mbuf *mbuf = sender ? rte_pktmbuf_alloc(s->setup.pool) : NULL;
    bool v4 = address_is_v4(target), written;

    if (!mbuf) {
        s->setup.counters->drop_no_buffer++; /* asked again in a second */
        return;
    }
    if (v4)
        written = arp_ask(mbuf, interface_of(s, interface), sender, target, known);
    else
        written = discovery_ask(mbuf, interface_of(s, interface), sender, target, known);
    if (!written) {
        drop(mbuf, &s->setup.counters->drop_no_buffer);
        return;
    }
    if (v4)
        s->setup.counters->arp_asked++;
    else
        s->setup.counters->nd_asked++;
    send_on(s, interface, mbuf);
}

/* ---- whose it is ---- */

/* The index of a local address of the interface, or NO_LOCAL. */
static uint16_t find_local(const struct stack *s, uint16_t interface, const struct address *a)
{
    const struct config *c = s->setup.config;

    for (unsigned i = 0; i < c->local_count; i++)
        if (c->locals[i].interface == interface && address_equal(&c->locals[i].address, a))
            return (uint16_t)i;
    return NO_LOCAL;
}

/* All CoAP nodes: 224.0.1.187, ff02::fd and ff05::fd (RFC 7252 12.8). */
static bool is_coap_group(const struct address *a)
{
    static const uint8_t group4[4] = {224, 0, 1, 187};

    if (address_is_v4(a))
        return memcmp(a->bytes + 12, group4, 4) == 0;
    if (a->bytes[0] != 0xff || (a->bytes[1] != 0x02 && a->bytes[1] != 0x05) || a->bytes[15] != 0xfd)
        return false;
    for (unsigned i = 2; i < 15; i++)
        if (a->bytes[i])
            return false;
    return true;
}

/* The first address of a family: what answers to a group come from. */
static uint16_t first_local(const struct stack *s, uint16_t interface, bool v4)
{
    const struct config *c = s->setup.config;

    for (unsigned i = 0; i < c->local_count; i++)
        if (c->locals[i].interface == interface && address_is_v4(&c->locals[i].address) == v4)
            return (uint16_t)i;
    return NO_LOCAL;
}

static unsigned owner_of(const struct stack *s, const struct rte_mbuf *mbuf, const struct frame *f,
                         uint16_t local, bool hashed)
{
    struct steer_tuple tuple = {.source = f->source,
                                .destination = f->destination,
                                .source_port = f->source_port,
                                .destination_port = f->destination_port};

    if (s->setup.count == 1)
        return 0;
    if (address_is_multicast(&f->destination)) /* its session is that of our own address */
        tuple.destination = s->setup.config->locals[local].address;
    else if (hashed && (mbuf->ol_flags & RTE_MBUF_F_RX_RSS_HASH))
        return steer_worker_of_hash(s->setup.steer, f->destination_port, mbuf->hash.rss);
    return steer_worker_of(s->setup.steer, &tuple);
}

/* Gives a packet to its owner. */
static void hand_to(struct stack *s, uint16_t interface, unsigned owner, struct rte_mbuf *mbuf)
{
    struct stack_mark *mark = mark_of(mbuf);

    if (mark->handed >= HANDED_MAX) {
        drop(mbuf, &s->setup.counters->drop_steer_loop);
        return;
    }
    mark->interface = interface;
    mark->reason = STACK_PACKET;
    mark->handed++;
    s->setup.hand_over(s->setup.context, owner, mbuf);
}

/* ---- UDP ---- */

static void flush_burst(struct stack *s)
{
    unsigned n = s->held_count;

    if (n == 0)
        return;
    s->held_count = 0;
    worker_receive(s->worker, s->burst, n, s->now);
    rte_pktmbuf_free_bulk(s->held, n);
}

static void receive_udp(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                        const struct frame *f, bool fresh)
{
    bool group = address_is_multicast(&f->destination);
    uint16_t local = group ? NO_LOCAL : find_local(s, interface, &f->destination);
    struct endpoint peer = {.address = f->source, .port = f->source_port};
    struct datagram *d;
    unsigned owner;

    if (group && is_coap_group(&f->destination))
        local = first_local(s, interface, address_is_v4(&f->destination));
    if (local == NO_LOCAL) {
        drop(mbuf, &s->setup.counters->drop_not_ours);
        return;
    }
    owner = owner_of(s, mbuf, f, local, fresh && interface_of(s, interface)->rx_hash);
    if (owner != s->setup.index) {
        hand_to(s, interface, owner, mbuf);
        return;
    }
    d = &s->burst[s->held_count];
    d->data = f->payload;
    d->length = f->payload_bytes;
    d->multicast = group;
    d->flow = flow_make(local, f->destination_port, &peer, TRANSPORT_UDP);
    s->held[s->held_count++] = mbuf;
    if (s->held_count == WORKER_BURST)
        flush_burst(s);
}

/* ---- ARP and discovery ---- */

/* Tells the other workers, each with a copy of the packet that said it. */
static void spread(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf)
{
    for (unsigned i = 0; i < s->setup.count; i++) {
        struct rte_mbuf *copy;

        if (i == s->setup.index)
            continue;
        copy = rte_pktmbuf_copy(mbuf, s->setup.pool, 0, UINT32_MAX);
        if (!copy) {
            s->setup.counters->drop_no_buffer++;
            continue;
        }
        *mark_of(copy) = (struct stack_mark){.interface = interface, .reason = STACK_LEARN};
        s->setup.hand_over(s->setup.context, i, copy);
    }
}

/* Who asks for us will be answered soon: HEARD_REQUEST makes an entry. An answer comes to any queue
 * and may be for a worker that asked while this one did not, or that forgot: all get HEARD_ANSWER.
 * What nobody asked for is no reason for an entry. */
enum heard { HEARD_REQUEST, HEARD_ANSWER, HEARD_OTHER };

static void learn(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                  const struct address *address, const struct rte_ether_addr *mac, enum heard heard,
                  bool first_hand)
{
    bool news =
        neighbour_learn(s->neighbours, interface, address, mac, heard == HEARD_REQUEST, s->now);

    if (news)
        s->setup.counters->arp_learned++;
    if ((news || heard == HEARD_ANSWER) && first_hand && s->setup.count > 1)
        spread(s, interface, mbuf);
}

static enum heard heard_in(const struct arp *arp, bool ours)
{
    if (!ours)
        return HEARD_OTHER;
    return arp->request ? HEARD_REQUEST : HEARD_ANSWER;
}

static void receive_arp(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                        const struct frame *f, bool first_hand)
{
    struct arp arp;
    bool ours;

    if (!arp_read(f, &arp)) {
        drop(mbuf, &s->setup.counters->drop_arp);
        return;
    }
    ours = find_local(s, interface, &arp.target) != NO_LOCAL;
    if (!address_is_unspecified(&arp.sender))
        learn(s, interface, mbuf, &arp.sender, &arp.sender_mac, heard_in(&arp, ours), first_hand);
    if (!first_hand || !ours || !arp.request) {
        rte_pktmbuf_free(mbuf);
        return;
    }
    arp_answer(mbuf, f, &interface_of(s, interface)->mac);
    mbuf->ol_flags = 0;
    s->setup.counters->arp_answered++;
    send_on(s, interface, mbuf);
}

static void receive_discovery(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                              const struct frame *f, bool first_hand)
{
    struct discovery_message m;
    bool ours;

    if (!discovery_read(f, &m)) {
        drop(mbuf, &s->setup.counters->drop_icmp);
        return;
    }
    ours = address_equal(&m.target, &s->link_local[interface]) ||
           find_local(s, interface, &m.target) != NO_LOCAL;
    if (m.has_mac && (!m.solicitation || ours))
        learn(s, interface, mbuf, m.solicitation ? &f->source : &m.target, &m.mac,
              m.solicitation ? HEARD_REQUEST : HEARD_ANSWER, first_hand);
    if (!first_hand || !m.solicitation || !ours) {
        rte_pktmbuf_free(mbuf);
        return;
    }
    discovery_answer(mbuf, f, &m, &interface_of(s, interface)->mac);
    mbuf->ol_flags = 0;
    s->setup.counters->nd_answered++;
    send_on(s, interface, mbuf);
}

/* ---- ICMP ---- */

static bool echo_allowed(struct stack *s)
{
    uint64_t refill = (s->now - s->echo_refilled_us) * ECHO_PER_SECOND / 1000000;

    if (refill) {
        s->echo_tokens =
            refill + s->echo_tokens > ECHO_BURST ? ECHO_BURST : s->echo_tokens + (uint32_t)refill;
        s->echo_refilled_us = s->now;
    }
    if (s->echo_tokens == 0)
        return false;
    s->echo_tokens--;
    return true;
}

/* The address that a ping to `destination` is answered from; NULL: it is not for us. */
static const struct address *echo_address(const struct stack *s, uint16_t interface,
                                          const struct address *destination)
{
    uint16_t local = find_local(s, interface, destination);

    if (local == NO_LOCAL && address_is_multicast(destination)) {
        if (!address_is_v4(destination))
            return &s->link_local[interface];
        local = first_local(s, interface, true);
    }
    if (address_equal(destination, &s->link_local[interface]))
        return &s->link_local[interface];
    return local == NO_LOCAL ? NULL : &s->setup.config->locals[local].address;
}

static void answer_echo(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                        const struct frame *f)
{
    const struct address *from = echo_address(s, interface, &f->destination);

    if (!from || address_is_unspecified(&f->source)) {
        drop(mbuf, &s->setup.counters->drop_not_ours);
        return;
    }
    if (f->l3_bytes + f->payload_bytes > interface_of(s, interface)->mtu) {
        drop(mbuf, &s->setup.counters->drop_icmp); /* it came in fragments */
        return;
    }
    if (!echo_allowed(s)) {
        drop(mbuf, &s->setup.counters->drop_icmp_rate);
        return;
    }
    icmp_answer_echo(mbuf, f, from, &interface_of(s, interface)->mac);
    mbuf->ol_flags = 0;
    s->setup.counters->echo_answered++;
    send_on(s, interface, mbuf);
}

/* An error goes to the owner of the flow that it quotes, as an answer in that flow would. */
static void receive_error(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                          const struct frame *f)
{
    struct icmp_error e;
    struct steer_tuple reply;
    struct flow flow;
    struct endpoint peer;
    uint16_t local;
    unsigned owner;

    if (!icmp_read_error(f, &e)) {
        drop(mbuf, &s->setup.counters->drop_icmp);
        return;
    }
    local = find_local(s, interface, &e.local);
    if (local == NO_LOCAL) {
        drop(mbuf, &s->setup.counters->drop_not_ours);
        return;
    }
    reply = (struct steer_tuple){e.peer, e.local, e.peer_port, e.local_port};
    owner = s->setup.count == 1 ? 0 : steer_worker_of(s->setup.steer, &reply);
    if (owner != s->setup.index) {
        hand_to(s, interface, owner, mbuf);
        return;
    }
    peer = (struct endpoint){e.peer, e.peer_port};
    flow = flow_make(local, e.local_port, &peer, TRANSPORT_UDP);
    s->setup.counters->icmp_errors++;
    worker_unreachable(s->worker, &flow, e.quoted, e.quoted_bytes, s->now);
    rte_pktmbuf_free(mbuf);
}

static bool is_discovery(const struct frame *f)
{
    return f->payload_bytes && f->payload[0] >= 133 && f->payload[0] <= 137;
}

static void receive_icmp(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                         const struct frame *f, bool first_hand)
{
    if (!address_is_v4(&f->source) && is_discovery(f)) {
        receive_discovery(s, interface, mbuf, f, first_hand);
        return;
    }
    if (icmp_is_echo(f))
        answer_echo(s, interface, mbuf, f);
    else
        receive_error(s, interface, mbuf, f);
}

/* ---- dispatch ---- */

static void handle(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf, bool fresh,
                   bool trusted);

/* All fragments of a packet meet at one worker; the whole goes to the owner of its flow. */
static void receive_fragment(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                             const struct frame *f)
{
    uint64_t hash = hash_bytes(f->source.bytes, 16, s->fragment_seed + f->id);
    unsigned owner =
        (unsigned)(hash_bytes(f->destination.bytes, 16, hash + f->protocol) % s->setup.count);
    struct rte_mbuf *whole;

    if (find_local(s, interface, &f->destination) == NO_LOCAL) {
        drop(mbuf, &s->setup.counters->drop_not_ours);
        return;
    }
    if (owner != s->setup.index) {
        hand_to(s, interface, owner, mbuf);
        return;
    }
    whole = fragment_add(s->fragments, mbuf, f, s->now);
    if (whole) {
        /* What the device said of a fragment's checksums holds no more: that of UDP is to be
         * computed, the IP header was checked with the fragments. */
        whole->ol_flags &= RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
        whole->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_GOOD;
        handle(s, interface, whole, false, true);
    }
}

static void count_drop(struct counters *c, enum frame_verdict verdict)
{
    switch (verdict) {
    case FRAME_RUNT:
        c->drop_runt++;
        return;
    case FRAME_MAC:
        c->drop_mac++;
        return;
    case FRAME_VLAN:
        c->drop_vlan++;
        return;
    case FRAME_ETHERTYPE:
        c->drop_ethertype++;
        return;
    case FRAME_IP_HEADER:
        c->drop_ip_header++;
        return;
    case FRAME_IP_CHECKSUM:
        c->drop_ip_checksum++;
        return;
    case FRAME_SOURCE:
        c->drop_source++;
        return;
    case FRAME_UDP_HEADER:
        c->drop_udp_header++;
        return;
    case FRAME_UDP_CHECKSUM:
        c->drop_udp_checksum++;
        return;
    default:
        c->drop_protocol++;
        return;
    }
}

static void handle(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf, bool fresh,
                   bool trusted)
{
    const struct stack_interface *i = interface_of(s, interface);
    struct frame f;
    enum frame_verdict verdict;

    if (mbuf->nb_segs != 1 && rte_pktmbuf_linearize(mbuf) != 0)
        verdict = FRAME_IP_HEADER; /* longer than the MTU that was set */
    else
        verdict = frame_read(mbuf, i, trusted, &f);
    switch (verdict) {
    case FRAME_UDP:
        receive_udp(s, interface, mbuf, &f, fresh);
        return;
    case FRAME_FRAGMENT:
        receive_fragment(s, interface, mbuf, &f);
        return;
    case FRAME_ICMP4:
    case FRAME_ICMP6:
        receive_icmp(s, interface, mbuf, &f, true);
        return;
    case FRAME_ARP:
        receive_arp(s, interface, mbuf, &f, true);
        return;
    default:
        count_drop(s->setup.counters, verdict);
        rte_pktmbuf_free(mbuf);
        return;
    }
}

void stack_receive(struct stack *s, uint16_t interface, struct rte_mbuf **mbufs, unsigned n,
                   uint64_t now)
{
    uint64_t bytes = 0;

    s->now = now;
    for (unsigned i = 0; i < n && i < PREFETCH_AHEAD; i++)
        rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
    for (unsigned i = 0; i < n; i++) {
        if (i + PREFETCH_AHEAD < n)
            rte_prefetch0(rte_pktmbuf_mtod(mbufs[i + PREFETCH_AHEAD], void *));
        bytes += rte_pktmbuf_pkt_len(mbufs[i]);
        mark_of(mbufs[i])->handed = 0;
        handle(s, interface, mbufs[i], true, false);
    }
    s->setup.counters->rx_packets += n;
    s->setup.counters->rx_bytes += bytes;
    flush_burst(s);
}

/* A copy of what another worker has received: it was answered there. */
static void learn_from(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf)
{
    struct frame f;
    enum frame_verdict verdict = frame_read(mbuf, interface_of(s, interface), false, &f);

    if (verdict == FRAME_ARP)
        receive_arp(s, interface, mbuf, &f, false);
    else if (verdict == FRAME_ICMP6 && is_discovery(&f))
        receive_discovery(s, interface, mbuf, &f, false);
    else
        rte_pktmbuf_free(mbuf);
}

void stack_take_over(struct stack *s, struct rte_mbuf **mbufs, unsigned n, uint64_t now)
{
    s->now = now;
    for (unsigned i = 0; i < n; i++) {
        struct stack_mark mark = *mark_of(mbufs[i]);

        if (mark.reason == STACK_LEARN)
            learn_from(s, mark.interface, mbufs[i]);
        else /* the sender checked the IP header; the flags of the device still hold */
            handle(s, mark.interface, mbufs[i], false, false);
    }
    flush_burst(s);
}

void stack_advance(struct stack *s, uint64_t now)
{
    s->now = now;
    neighbours_advance(s->neighbours, now);
    fragments_advance(s->fragments, now);
}

uint64_t stack_next_us(const struct stack *s)
{
    return neighbours_next_us(s->neighbours);
}

/* ---- start and end ---- */

static int init_tables(struct stack *s)
{
    const struct config *c = s->setup.config;
    struct neighbours_setup ns = {
        .counters = s->setup.counters, .context = s, .transmit = send_on, .ask = ask_neighbour};

    s->templates = calloc(c->local_count, sizeof(*s->templates));
    s->subnets = calloc(c->local_count, sizeof(*s->subnets));
    s->link_local = calloc(c->interface_count, sizeof(*s->link_local));
    s->neighbours = neighbours_create(&ns);
    s->fragments = fragments_create(s->setup.counters);
    if (!s->templates || !s->subnets || !s->link_local || !s->neighbours || !s->fragments)
        return -ENOMEM;
    for (unsigned i = 0; i < c->local_count; i++)
        frame_template_init(&s->templates[i], interface_of(s, c->locals[i].interface),
                            &c->locals[i].address);
    for (unsigned i = 0; i < c->local_count; i++)
        s->subnets[i] = make_subnet4(&c->locals[i]);
    for (unsigned i = 0; i < c->interface_count; i++)
        s->link_local[i] = frame_link_local(&interface_of(s, (uint16_t)i)->mac);
    return 0;
}

struct stack *stack_create(const struct stack_setup *setup, uint64_t now)
{
    struct stack *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->setup = *setup;
    s->now = s->echo_refilled_us = now;
    s->echo_tokens = ECHO_BURST;
    memcpy(&s->fragment_seed, steer_key(setup->steer), sizeof(s->fragment_seed));
    if (init_tables(s) != 0) {
        stack_destroy(s);
        errno = ENOMEM;
        return NULL;
    }
    return s;
}

void stack_attach(struct stack *s, struct worker *worker)
{
    s->worker = worker;
}

void stack_destroy(struct stack *s)
{
    if (!s)
        return;
    fragments_destroy(s->fragments);
    neighbours_destroy(s->neighbours);
    free(s->link_local);
    free(s->subnets);
    free(s->templates);
    free(s);
}
