#include "dpdk/frame_plain.h"
#include "dpdk/stack_parts.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/hash.h"

/* A packet is handed over as a fragment and as a whole. */
#define HANDED_MAX 2

#define PREFETCH_AHEAD 4

/* ---- whose it is ---- */

uint16_t stack_find_local(const struct stack *s, uint16_t interface, const struct address *a)
{
    const struct config *c = s->setup.config;

    for (unsigned i = 0; i < c->local_count; i++)
        if (c->locals[i].interface == interface && address_equal(&c->locals[i].address, a))
            return (uint16_t)i;
    return NO_LOCAL;
}

uint16_t stack_first_local(const struct stack *s, uint16_t interface, bool v4)
{
    const struct config *c = s->setup.config;

    for (unsigned i = 0; i < c->local_count; i++)
        if (c->locals[i].interface == interface && address_is_v4(&c->locals[i].address) == v4)
            return (uint16_t)i;
    return NO_LOCAL;
}

/* A record with a Connection ID (RFC 9146) says itself whose it is, wherever it comes from: the
 * first byte of ours is the worker's index, modulo their number. False: it is none. */
static bool owner_by_cid(const struct stack *s, const struct frame *f, unsigned *owner)
{
    enum { TYPE_CID = 25, CID_AT = 11 };

    if (!s->coaps[f->destination_port] || f->group || f->payload_bytes <= CID_AT ||
        f->payload[0] != TYPE_CID)
        return false;
    *owner = f->payload[CID_AT] % s->setup.count;
    return true;
}

static unsigned owner_of(const struct stack *s, const struct rte_mbuf *mbuf, const struct frame *f,
                         uint16_t local, bool hashed)
{
    struct steer_tuple tuple;
    unsigned owner;

    if (s->setup.count == 1)
        return 0;
    if (s->coaps && owner_by_cid(s, f, &owner))
        return owner;
    tuple = (struct steer_tuple){.source = f->source,
                                 .destination = f->destination,
                                 .source_port = f->source_port,
                                 .destination_port = f->destination_port};
    if (f->group) /* its session is that of our own address */
        tuple.destination = s->setup.config->locals[local].address;
    else if (hashed && (mbuf->ol_flags & RTE_MBUF_F_RX_RSS_HASH))
        return steer_worker_of_hash(s->setup.steer, f->destination_port, mbuf->hash.rss);
    return steer_worker_of(s->setup.steer, &tuple);
}

void stack_hand_to(struct stack *s, uint16_t interface, unsigned owner, struct rte_mbuf *mbuf)
{
    struct stack_mark *mark = stack_mark_of(mbuf);

    if (mark->handed >= HANDED_MAX) {
        stack_drop(mbuf, &s->setup.counters->drop_steer_loop);
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
    stack_recycle(s, s->held, n);
}

static inline __attribute__((always_inline)) void receive_udp(struct stack *s, uint16_t interface,
                                                              struct rte_mbuf *mbuf,
                                                              const struct frame *f, bool fresh)
{
    uint16_t local = f->group ? NO_LOCAL : stack_find_local(s, interface, &f->destination);
    struct datagram *d;
    unsigned owner;

    if (f->group && groups_is_coap(&f->destination)) {
        local = groups_listener(s->setup.config, interface, &f->destination, f->destination_port);
        if (local == GROUPS_NO_LOCAL) {
            stack_drop(mbuf, &s->setup.counters->drop_no_listener);
            return;
        }
    }
    if (local == NO_LOCAL) {
        stack_drop(mbuf, &s->setup.counters->drop_not_ours);
        return;
    }
    owner = owner_of(s, mbuf, f, local, fresh && stack_interface_of(s, interface)->rx_hash);
    if (owner != s->setup.index) {
        if (fresh)
            stack_mark_of(mbuf)->handed = 0;
        stack_hand_to(s, interface, owner, mbuf);
        return;
    }
    d = &s->burst[s->held_count];
    d->data = f->payload;
    d->length = f->payload_bytes;
    d->multicast = f->group;
    flow_set(&d->flow, local, f->destination_port, &f->source, f->source_port, TRANSPORT_UDP);
    s->held[s->held_count++] = mbuf;
    if (s->held_count == WORKER_BURST)
        flush_burst(s);
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

    if (stack_find_local(s, interface, &f->destination) == NO_LOCAL) {
        stack_drop(mbuf, &s->setup.counters->drop_not_ours);
        return;
    }
    if (owner != s->setup.index) {
        stack_hand_to(s, interface, owner, mbuf);
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

/* IP packets to groups that we are in, and to single hosts: the latter not in frames to all (RFC
 * 1122 3.3.6). Whether the host is us is looked at later. */
static bool is_wanted(const struct stack *s, uint16_t interface, const struct frame *f)
{
    return f->group ? groups_have(&s->groups[interface], &f->destination) : !f->link_group;
}

static __attribute__((noinline)) void handle(struct stack *s, uint16_t interface,
                                             struct rte_mbuf *mbuf, bool fresh, bool trusted)
{
    const struct stack_interface *i = stack_interface_of(s, interface);
    struct frame f;
    enum frame_verdict verdict;

    if (mbuf->nb_segs != 1 && rte_pktmbuf_linearize(mbuf) != 0)
        verdict = FRAME_IP_HEADER; /* longer than the MTU that was set */
    else
        verdict = frame_read(mbuf, i, trusted, &f);
    if (verdict < FRAME_ARP && !is_wanted(s, interface, &f)) {
        stack_drop(mbuf, &s->setup.counters->drop_not_ours);
        return;
    }
    switch (verdict) {
    case FRAME_UDP:
        receive_udp(s, interface, mbuf, &f, fresh);
        return;
    case FRAME_FRAGMENT:
        receive_fragment(s, interface, mbuf, &f);
        return;
    case FRAME_ICMP4:
    case FRAME_ICMP6:
        stack_receive_icmp(s, interface, mbuf, &f);
        return;
    case FRAME_IGMP:
        stack_receive_membership(s, interface, mbuf, &f);
        return;
    case FRAME_ARP:
        stack_receive_arp(s, interface, mbuf, &f);
        return;
    default:
        count_drop(s->setup.counters, verdict);
        rte_pktmbuf_free(mbuf);
        return;
    }
}

/* What has the shape of nearly all packets does not come by the rest. */
static inline bool handle_plain(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf)
{
    struct frame f;

    if (mbuf->nb_segs != 1 || !frame_read_plain(mbuf, stack_interface_of(s, interface), &f))
        return false;
    receive_udp(s, interface, mbuf, &f, true);
    return true;
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
        if (handle_plain(s, interface, mbufs[i]))
            continue; /* its mark, on a line of its own, is not needed unless it is handed over */
        stack_mark_of(mbufs[i])->handed = 0;
        handle(s, interface, mbufs[i], true, false);
    }
    s->setup.counters->rx_packets += n;
    s->setup.counters->rx_bytes += bytes;
    flush_burst(s);
}

void stack_take_over(struct stack *s, struct rte_mbuf **mbufs, unsigned n, uint64_t now)
{
    s->now = now;
    for (unsigned i = 0; i < n; i++) {
        struct stack_mark mark = *stack_mark_of(mbufs[i]);

        if (mark.reason == STACK_LEARN)
            stack_learn_from(s, mark.interface, mbufs[i]);
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
    if (s->membership)
        membership_advance(s->membership, now);
    if (now >= s->announce_us)
        stack_announce_due(s);
}

uint64_t stack_next_us(const struct stack *s)
{
    uint64_t neighbours = neighbours_next_us(s->neighbours);
    uint64_t groups = s->membership ? membership_next_us(s->membership) : UINT64_MAX;

    if (groups > s->announce_us)
        groups = s->announce_us;
    return neighbours < groups ? neighbours : groups;
}

void stack_leave(struct stack *s)
{
    if (s->membership)
        membership_leave(s->membership, s->now);
}

/* ---- start and end ---- */

static void transmit_report(void *context, uint16_t interface, struct rte_mbuf *mbuf)
{
    stack_send(context, interface, mbuf);
}

static int init_membership(struct stack *s)
{
    struct membership_setup ms = {.config = s->setup.config,
                                  .interfaces = s->setup.interfaces,
                                  .groups = s->groups,
                                  .link_local = s->link_local,
                                  .pool = s->setup.pool,
                                  .counters = s->setup.counters,
                                  .context = s,
                                  .transmit = transmit_report};

    memcpy(ms.seed, steer_key(s->setup.steer), sizeof(ms.seed)); /* secret */
    s->membership = membership_create(&ms, s->now);
    return s->membership ? 0 : -ENOMEM;
}

static int init_groups(struct stack *s)
{
    const struct config *c = s->setup.config;

    s->groups = calloc(c->interface_count, sizeof(*s->groups));
    if (!s->groups)
        return -ENOMEM;
    for (unsigned i = 0; i < c->interface_count; i++)
        if (groups_init(&s->groups[i], c, (uint16_t)i, &s->link_local[i]) != 0)
            return -ENOMEM;
    return s->setup.index == MEMBERSHIP_WORKER ? init_membership(s) : 0;
}

static int init_coaps(struct stack *s)
{
    const struct config *c = s->setup.config;

    for (unsigned i = 0; s->setup.count > 1 && i < c->listener_count; i++) {
        if (c->listeners[i].transport != TRANSPORT_DTLS)
            continue;
        if (!s->coaps)
            s->coaps = calloc(UINT16_MAX + 1, sizeof(*s->coaps));
        if (!s->coaps)
            return -ENOMEM;
        s->coaps[c->listeners[i].port] = true;
    }
    return 0;
}

struct stack *stack_create(const struct stack_setup *setup, uint64_t now)
{
    struct stack *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->setup = *setup;
    s->now = now;
    s->announce_us = UINT64_MAX;
    memcpy(&s->fragment_seed, steer_key(setup->steer), sizeof(s->fragment_seed));
    s->fragments = fragments_create(s->setup.counters);
    if (!s->fragments || stack_out_init(s) != 0 || init_groups(s) != 0 || init_coaps(s) != 0) {
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
    membership_destroy(s->membership);
    for (unsigned i = 0; s->groups && i < s->setup.config->interface_count; i++)
        groups_fini(&s->groups[i]);
    free(s->groups);
    free(s->coaps);
    fragments_destroy(s->fragments);
    stack_out_fini(s);
    free(s);
}
