/* What is the network's own business: ARP, neighbour discovery, pings, ICMP errors, groups. */
#include "dpdk/icmp.h"
#include "dpdk/stack_parts.h"

#define ECHO_PER_SECOND 1000
#define ECHO_BURST      100

/* Far above what a link of thousands of neighbours needs, when all of them are asked for anew. */
#define SPREAD_PER_SECOND 10000
#define SPREAD_BURST      256

/* RFC 5227 1.1 has two announcements, RFC 4861 10 up to three: one may be lost while a link comes
 * up. */
#define ANNOUNCEMENTS 3
#define ANNOUNCE_US   1000000u

/* True, and a token less, when there is one. A bucket is empty at first. */
static bool take(struct bucket *b, uint32_t per_second, uint32_t burst, uint64_t now)
{
    uint64_t refill = (now - b->refilled_us) * per_second / 1000000;

    if (refill) {
        b->tokens = refill + b->tokens > burst ? burst : b->tokens + (uint32_t)refill;
        b->refilled_us = now;
    }
    if (b->tokens == 0)
        return false;
    b->tokens--;
    return true;
}

/* ---- ARP and discovery ---- */

/* Tells the other workers, each with a copy of the packet that said it. */
static void spread(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf)
{
    if (!take(&s->spreads, SPREAD_PER_SECOND, SPREAD_BURST, s->now)) {
        s->setup.counters->learn_limited++;
        return;
    }
    for (unsigned i = 0; i < s->setup.count; i++) {
        struct rte_mbuf *copy;

        if (i == s->setup.index)
            continue;
        copy = rte_pktmbuf_copy(mbuf, s->setup.pool, 0, UINT32_MAX);
        if (!copy) {
            s->setup.counters->drop_no_buffer++;
            continue;
        }
        *stack_mark_of(copy) = (struct stack_mark){.interface = interface, .reason = STACK_LEARN};
        s->setup.hand_over(s->setup.context, i, copy);
    }
}

void stack_announce(struct stack *s)
{
    s->announce_us = s->now;
}

/* One address; one that no buffer is free for is announced the next time. */
static void announce(struct stack *s, const struct local_address *local)
{
    const struct stack_interface *interface = stack_interface_of(s, local->interface);
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(s->setup.pool);
    bool written;

    if (!mbuf) {
        s->setup.counters->drop_no_buffer++;
        return;
    }
    if (address_is_v4(&local->address))
        written = arp_ask(mbuf, interface, &local->address, &local->address, NULL);
    else
        written = discovery_announce(mbuf, interface, &local->address);
    if (!written) {
        rte_pktmbuf_free(mbuf);
        return;
    }
    s->setup.counters->announced++;
    stack_send(s, local->interface, mbuf);
}

void stack_announce_due(struct stack *s)
{
    for (unsigned i = 0; i < s->setup.config->local_count; i++)
        announce(s, &s->setup.config->locals[i]);
    s->announce_us = ++s->announced < ANNOUNCEMENTS ? s->now + ANNOUNCE_US : UINT64_MAX;
}

/* Who asks for us will be answered soon: HEARD_REQUEST makes an entry. An answer comes to any queue
 * and may be for a worker that asked while this one did not, or that forgot: all get HEARD_ANSWER.
 * What nobody asked for is no reason for an entry. */
enum heard { HEARD_REQUEST, HEARD_ANSWER, HEARD_OTHER };

/* True when it was of use to somebody. */
static bool learn(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                  const struct address *address, const struct rte_ether_addr *mac, enum heard heard,
                  bool first_hand)
{
    bool news =
        neighbour_learn(s->neighbours, interface, address, mac, heard == HEARD_REQUEST, s->now);

    if (news)
        s->setup.counters->arp_learned++;
    if ((news || heard == HEARD_ANSWER) && first_hand && s->setup.count > 1)
        spread(s, interface, mbuf);
    return news || heard == HEARD_ANSWER;
}

/* The end of a packet that nobody is answered for. A copy was counted where it came in. */
static void finish(struct rte_mbuf *mbuf, bool of_use, uint64_t *counter)
{
    if (!of_use)
        (*counter)++;
    rte_pktmbuf_free(mbuf);
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
    bool ours, of_use = !first_hand;

    if (!arp_read(f, &arp)) {
        stack_drop(mbuf, &s->setup.counters->drop_arp);
        return;
    }
    ours = stack_find_local(s, interface, &arp.target) != NO_LOCAL;
    if (!address_is_unspecified(&arp.sender))
        of_use |= learn(s, interface, mbuf, &arp.sender, &arp.sender_mac, heard_in(&arp, ours),
                        first_hand);
    if (!first_hand || !ours || !arp.request) {
        finish(mbuf, of_use, &s->setup.counters->drop_arp);
        return;
    }
    arp_answer(mbuf, f, &stack_interface_of(s, interface)->mac);
    mbuf->ol_flags = 0;
    s->setup.counters->arp_answered++;
    stack_send(s, interface, mbuf);
}

void stack_receive_arp(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                       const struct frame *f)
{
    receive_arp(s, interface, mbuf, f, true);
}

static void receive_discovery(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                              const struct frame *f, bool first_hand)
{
    struct discovery_message m;
    bool ours, of_use = !first_hand;

    if (!discovery_read(f, &m)) {
        stack_drop(mbuf, &s->setup.counters->drop_icmp);
        return;
    }
    ours = address_equal(&m.target, &s->link_local[interface]) ||
           stack_find_local(s, interface, &m.target) != NO_LOCAL;
    if (m.has_mac && (!m.solicitation || ours))
        of_use |= learn(s, interface, mbuf, m.solicitation ? &f->source : &m.target, &m.mac,
                        m.solicitation ? HEARD_REQUEST : HEARD_ANSWER, first_hand);
    if (!first_hand || !m.solicitation || !ours) {
        finish(mbuf, of_use, &s->setup.counters->drop_icmp);
        return;
    }
    discovery_answer(mbuf, f, &m, &stack_interface_of(s, interface)->mac);
    mbuf->ol_flags = 0;
    s->setup.counters->nd_answered++;
    stack_send(s, interface, mbuf);
}

/* ---- ICMP ---- */

/* The address that a ping to `destination` is answered from; NULL: it is not for us. */
static const struct address *echo_address(const struct stack *s, uint16_t interface,
                                          const struct address *destination)
{
    uint16_t local = stack_find_local(s, interface, destination);

    if (local == NO_LOCAL && address_is_multicast(destination)) { /* one that we are in */
        if (!address_is_v4(destination))
            return &s->link_local[interface];
        local = stack_first_local(s, interface, true);
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
        stack_drop(mbuf, &s->setup.counters->drop_not_ours);
        return;
    }
    if (f->l3_bytes + f->payload_bytes > stack_interface_of(s, interface)->mtu) {
        stack_drop(mbuf, &s->setup.counters->drop_icmp); /* it came in fragments */
        return;
    }
    if (!take(&s->echoes, ECHO_PER_SECOND, ECHO_BURST, s->now)) {
        stack_drop(mbuf, &s->setup.counters->drop_icmp_rate);
        return;
    }
    icmp_answer_echo(mbuf, f, from, &stack_interface_of(s, interface)->mac);
    mbuf->ol_flags = 0;
    s->setup.counters->echo_answered++;
    stack_send(s, interface, mbuf);
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
        stack_drop(mbuf, &s->setup.counters->drop_icmp);
        return;
    }
    local = stack_find_local(s, interface, &e.local);
    if (local == NO_LOCAL) {
        stack_drop(mbuf, &s->setup.counters->drop_not_ours);
        return;
    }
    reply = (struct steer_tuple){e.peer, e.local, e.peer_port, e.local_port};
    owner = s->setup.count == 1 ? 0 : steer_worker_of(s->setup.steer, &reply);
    if (owner != s->setup.index) {
        stack_hand_to(s, interface, owner, mbuf);
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

void stack_receive_icmp(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                        const struct frame *f)
{
    if (!address_is_v4(&f->source) && is_discovery(f)) {
        receive_discovery(s, interface, mbuf, f, true);
        return;
    }
    if (!address_is_v4(&f->source) && membership_is_mld(f)) {
        stack_receive_membership(s, interface, mbuf, f);
        return;
    }
    if (icmp_is_echo(f))
        answer_echo(s, interface, mbuf, f);
    else
        receive_error(s, interface, mbuf, f);
}

/* ---- groups ---- */

void stack_receive_membership(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf,
                              const struct frame *f)
{
    struct membership_message m = membership_read(f);

    if (m.kind != MEMBERSHIP_QUERY && m.kind != MEMBERSHIP_REPORT) {
        stack_drop(mbuf, &s->setup.counters->drop_membership);
        return;
    }
    if (!s->membership) {
        stack_hand_to(s, interface, MEMBERSHIP_WORKER, mbuf);
        return;
    }
    if (membership_hear(s->membership, interface, address_is_v4(&f->destination), &m, s->now))
        s->setup.counters->membership_heard++;
    else
        s->setup.counters->drop_membership++;
    rte_pktmbuf_free(mbuf);
}

void stack_learn_from(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf)
{
    struct frame f;
    enum frame_verdict verdict = frame_read(mbuf, stack_interface_of(s, interface), false, &f);

    if (verdict == FRAME_ARP)
        receive_arp(s, interface, mbuf, &f, false);
    else if (verdict == FRAME_ICMP6 && is_discovery(&f))
        receive_discovery(s, interface, mbuf, &f, false);
    else
        rte_pktmbuf_free(mbuf);
}
