#include "dpdk/groups.h"

#include <errno.h>
#include <stdlib.h>

#include "dpdk/frame.h"

static const struct address coap4 = {{[10] = 0xff, [11] = 0xff, 224, 0, 1, 187}};
static const struct address coap6[] = {
    {{0xff, 0x02, [15] = 0xfd}},
    {{0xff, 0x05, [15] = 0xfd}},
};
static const struct address all_nodes4 = {{[10] = 0xff, [11] = 0xff, 224, 0, 0, 1}};
static const struct address all_nodes6 = {{0xff, 0x02, [15] = 0x01}};

static bool listens(const struct config *c, const struct config_listener *l, uint16_t interface,
                    bool v4)
{
    const struct local_address *local = &c->locals[l->local];

    return l->multicast && l->transport == TRANSPORT_UDP && local->interface == interface &&
           address_is_v4(&local->address) == v4;
}

static bool any_listens(const struct config *c, uint16_t interface, bool v4)
{
    for (unsigned i = 0; i < c->listener_count; i++)
        if (listens(c, &c->listeners[i], interface, v4))
            return true;
    return false;
}

static bool has_ipv6(const struct config_interface *interface)
{
    for (unsigned i = 0; i < interface->address_count; i++)
        if (!address_is_v4(&interface->addresses[i].address))
            return true;
    return false;
}

static bool is_listed(const struct groups *g, const struct address *group)
{
    for (unsigned i = 0; i < g->count; i++)
        if (address_equal(&g->addresses[i], group))
            return true;
    return false;
}

static void add(struct groups *g, const struct address *group)
{
    if (!is_listed(g, group)) /* addresses may share their last bytes */
        g->addresses[g->count++] = *group;
}

static void add_solicited(struct groups *g, const struct address *address)
{
    struct address group = frame_solicited_node(address);

    add(g, &group);
}

int groups_init(struct groups *g, const struct config *c, uint16_t interface,
                const struct address *link_local)
{
    const struct config_interface *i = &c->interfaces[interface];

    memset(g, 0, sizeof(*g));
    /* The three of CoAP and one for each address, the link-local one among them. */
    g->addresses = calloc(i->address_count + 4, sizeof(*g->addresses));
    if (!g->addresses)
        return -ENOMEM;
    if (any_listens(c, interface, true))
        add(g, &coap4);
    g->count4 = g->count;
    for (unsigned k = 0; k < 2 && any_listens(c, interface, false); k++)
        add(g, &coap6[k]);
    if (!has_ipv6(i))
        return 0;
    add_solicited(g, link_local);
    for (unsigned k = 0; k < i->address_count; k++)
        if (!address_is_v4(&i->addresses[k].address))
            add_solicited(g, &i->addresses[k].address);
    return 0;
}

void groups_fini(struct groups *g)
{
    free(g->addresses);
}

bool groups_have(const struct groups *g, const struct address *group)
{
    return address_equal(group, &all_nodes4) || address_equal(group, &all_nodes6) ||
           is_listed(g, group);
}

bool groups_is_coap(const struct address *group)
{
    return address_equal(group, &coap4) || address_equal(group, &coap6[0]) ||
           address_equal(group, &coap6[1]);
}

uint16_t groups_listener(const struct config *c, uint16_t interface, const struct address *group,
                         uint16_t port)
{
    bool v4 = address_is_v4(group);

    for (unsigned i = 0; i < c->listener_count; i++)
        if (c->listeners[i].port == port && listens(c, &c->listeners[i], interface, v4))
            return c->listeners[i].local;
    return GROUPS_NO_LOCAL;
}
