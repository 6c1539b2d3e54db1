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
        stack_drop(mbuf, &s->setup.counters->drop_no_route);
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

int stack_out_init(struct stack *s)
{
    const struct config *c = s->setup.config;
    struct neighbours_setup ns = {
        .counters = s->setup.counters, .context = s, .transmit = send_on, .ask = ask_neighbour};

    s->templates = calloc(c->local_count, sizeof(*s->templates));
    s->subnets = calloc(c->local_count, sizeof(*s->subnets));
    s->link_local = calloc(c->interface_count, sizeof(*s->link_local));
    s->neighbours = neighbours_create(&ns);
    if (!s->templates || !s->subnets || !s->link_local || !s->neighbours)
        return -ENOMEM;
    for (unsigned i = 0; i < c->local_count; i++) {
        frame_template_init(&s->templates[i], stack_interface_of(s, c->locals[i].interface),
                            &c->locals[i].address);
        s->subnets[i] = make_subnet4(&c->locals[i]);
    }
    for (unsigned i = 0; i < c->interface_count; i++)
        s->link_local[i] = frame_link_local(&stack_interface_of(s, (uint16_t)i)->mac);
    return 0;
}

void stack_out_fini(struct stack *s)
{
    neighbours_destroy(s->neighbours);
    free(s->link_local);
    free(s->subnets);
    free(s->templates);
}
