/* The way out: headers in front of a message, the next hop, and asking for its address. */
#include <errno.h>
#include <stdlib.h>

#include <rte_ip.h>

#include "dpdk/icmp.h"
#include "dpdk/stack_parts.h"

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
    if (in_subnet4(&s->departures[local].subnet, peer) ||
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

/* As rte_pktmbuf_alloc() would leave it: what stack_recycle() keeps is a single segment of its own.
 */
static struct rte_mbuf *take_spare(struct stack *s)
{
    struct rte_mbuf *mbuf = s->spare[--s->spare_count];

    rte_pktmbuf_reset(mbuf);
    return mbuf;
}

static bool io_alloc(void *context, const struct flow *flow, struct outgoing *out)
{
    struct stack *s = context;
    struct rte_mbuf *mbuf = s->spare_count ? take_spare(s) : rte_pktmbuf_alloc(s->setup.pool);

    if (!mbuf) {
        s->setup.counters->drop_no_buffer++;
        return false;
    }
    out->buffer = mbuf;
    out->data = rte_pktmbuf_mtod(mbuf, uint8_t *);
    out->room = s->departures[flow->local].room;
    out->summed = false;
    return true;
}

static void io_send(void *context, const struct flow *flow, struct outgoing *out, uint16_t length)
{
    struct stack *s = context;
    const struct departure *from = &s->departures[flow->local];
    struct rte_mbuf *mbuf = out->buffer;
    struct address hop;

    if (!next_hop(s, flow->local, &flow->peer, &hop)) {
        stack_drop(mbuf, &s->setup.counters->drop_no_route);
        return;
    }
    frame_write_udp(mbuf, &from->template, length, out->summed ? &out->sum : NULL, &flow->peer,
                    flow->local_port, flow->peer_port, s->ip_id++);
    neighbour_send(s->neighbours, from->interface, &hop, mbuf, s->now);
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

static bool io_resolve(void *context, const char *name, size_t length, uint32_t id)
{
    struct stack *s = context;

    return s->setup.resolve(s->setup.context, name, length, id);
}

static void io_changed(void *context, uint64_t uri)
{
    struct stack *s = context;

    s->setup.changed(s->setup.context, uri);
}

static bool io_tell(void *context, unsigned to, struct parcel *parcel)
{
    const struct stack *s = context;

    return s->setup.tell(s->setup.context, to, parcel);
}

static unsigned io_room(void *context, unsigned to)
{
    const struct stack *s = context;

    return s->setup.room(s->setup.context, to);
}

struct worker_io stack_io(struct stack *s)
{
    struct worker_io io = {.context = s,
                           .alloc = io_alloc,
                           .send = io_send,
                           .cancel = io_cancel,
                           .upstream_port = io_upstream_port,
                           .resolve = s->setup.resolve ? io_resolve : NULL,
                           .changed = s->setup.changed ? io_changed : NULL,
                           .tell = s->setup.tell ? io_tell : NULL,
                           .room = s->setup.room ? io_room : NULL,
                           .parcels = s->setup.parcels};

    return io;
}

void stack_recycle(struct stack *s, struct rte_mbuf **mbufs, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct rte_mbuf *mbuf = mbufs[i];

        /* Not what somebody else holds, too, nor what lies in a device's own memory. */
        if (s->spare_count == SPARE_MAX || mbuf->pool != s->setup.pool || !RTE_MBUF_DIRECT(mbuf) ||
            rte_mbuf_refcnt_read(mbuf) != 1 || mbuf->nb_segs != 1)
            rte_pktmbuf_free(mbuf);
        else
            s->spare[s->spare_count++] = mbuf;
    }
}

void stack_send(struct stack *s, uint16_t interface, struct rte_mbuf *mbuf)
{
    s->setup.transmit(s->setup.context, interface, mbuf);
}

static void send_on(void *context, uint16_t interface, struct rte_mbuf *mbuf)
{
    stack_send(context, interface, mbuf);
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
        written = arp_ask(mbuf, stack_interface_of(s, interface), sender, target, known);
    else
        written = discovery_ask(mbuf, stack_interface_of(s, interface), sender, target, known);
    if (!written) {
        stack_drop(mbuf, &s->setup.counters->drop_no_buffer);
        return;
    }
    if (v4)
        s->setup.counters->arp_asked++;
    else
        s->setup.counters->nd_asked++;
    stack_send(s, interface, mbuf);
}

/* ---- start and end ---- */

static void init_departure(struct departure *d, const struct stack *s,
                           const struct local_address *local)
{
    frame_template_init(&d->template, stack_interface_of(s, local->interface), &local->address);
    d->subnet = make_subnet4(local);
    d->interface = local->interface;
    d->room = (uint16_t)(local->mtu - d->template.header_bytes + d->template.l2_bytes);
}

int stack_out_init(struct stack *s)
{
    const struct config *c = s->setup.config;
    struct neighbours_setup ns = {
        .counters = s->setup.counters, .context = s, .transmit = send_on, .ask = ask_neighbour};

    s->departures =
        aligned_alloc(_Alignof(struct departure), (c->local_count + 1) * sizeof(*s->departures));
    s->link_local = calloc(c->interface_count, sizeof(*s->link_local));
    s->neighbours = neighbours_create(&ns);
    if (!s->departures || !s->link_local || !s->neighbours)
        return -ENOMEM;
    for (unsigned i = 0; i < c->local_count; i++)
        init_departure(&s->departures[i], s, &c->locals[i]);
    for (unsigned i = 0; i < c->interface_count; i++)
        s->link_local[i] = frame_link_local(&stack_interface_of(s, (uint16_t)i)->mac);
    return 0;
}

void stack_out_fini(struct stack *s)
{
    neighbours_destroy(s->neighbours);
    rte_pktmbuf_free_bulk(s->spare, s->spare_count);
    free(s->link_local);
    free(s->departures);
}
