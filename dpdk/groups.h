/* The groups that an interface is in: what it accepts packets to, and what it announces.
 *
 *   - the all-CoAP-nodes groups 224.0.1.187, ff02::fd and ff05::fd (RFC 7252 12.8), each when a
 *     listener of its family on the interface has `multicast`;
 *   - the solicited-node groups of the interface's IPv6 addresses (RFC 4291 2.7.1), when it has
 * any;
 *   - all nodes, 224.0.0.1 and ff02::1, which are never announced.
 *
 * Made from the configuration at start and not changed after; any thread may read them. */
#ifndef COAPGW_DPDK_GROUPS_H
#define COAPGW_DPDK_GROUPS_H

#include "config/config.h"

#define GROUPS_NO_LOCAL UINT16_MAX

struct groups {
    struct address *addresses; /* all that are announced: of IPv4 first */
    unsigned count, count4;
};

/* `link_local`: the interface's own. 0 or -ENOMEM. */
int groups_init(struct groups *groups, const struct config *config, uint16_t interface,
                const struct address *link_local);
void groups_fini(struct groups *groups);

/* True when the interface is in the group, all nodes among them. */
bool groups_have(const struct groups *groups, const struct address *group);

/* True for the all-CoAP-nodes groups. */
bool groups_is_coap(const struct address *group);

/* The listener that answers a packet to an all-CoAP-nodes group and this port on an interface: the
 * index of its local address, which the answer comes from, or GROUPS_NO_LOCAL. Of several the
 * first, so that a request is answered once. */
uint16_t groups_listener(const struct config *config, uint16_t interface,
                         const struct address *group, uint16_t port);

#endif
