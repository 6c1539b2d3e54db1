#include "dpdk/host.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <net/if.h>

#include <netlink/addr.h>
#include <netlink/errno.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/socket.h>

/* What libnl says, as an errno and a line on stderr. */
static int fail(const struct config_interface *interface, const char *what, int nl_error)
{
    fprintf(stderr, "coapgw: interface %s: host end %s: %s: %s\n", interface->name,
            interface->device_argument, what, nl_geterror(nl_error));
    return nl_error == -NLE_PERM ? -EPERM : -EIO;
}

static int link_up(struct nl_sock *socket, int index)
{
    struct rtnl_link *change = rtnl_link_alloc(), *link = rtnl_link_alloc();
    int err = -NLE_NOMEM;

    if (change && link) {
        rtnl_link_set_ifindex(link, index);
        rtnl_link_set_flags(change, IFF_UP);
        err = rtnl_link_change(socket, link, change, 0);
    }
    if (change)
        rtnl_link_put(change);
    if (link)
        rtnl_link_put(link);
    return err;
}

static int add_address(struct nl_sock *socket, int index, const struct config_address *address)
{
    bool v4 = address_is_v4(&address->address);
    const uint8_t *bytes = address->address.bytes + (v4 ? 12 : 0);
    struct nl_addr *local = nl_addr_build(v4 ? AF_INET : AF_INET6, bytes, v4 ? 4 : 16);
    struct rtnl_addr *entry = rtnl_addr_alloc();
    int err = -NLE_NOMEM;

    if (local && entry) {
        nl_addr_set_prefixlen(local, address->prefix);
        rtnl_addr_set_ifindex(entry, index);
        rtnl_addr_set_local(entry, local);
        if (!v4)
            rtnl_addr_set_flags(entry, IFA_F_NODAD);
        err = rtnl_addr_add(socket, entry, 0);
        if (err == -NLE_EXIST) /* a TAP that outlived its maker */
            err = 0;
    }
    if (local)
        nl_addr_put(local);
    if (entry)
        rtnl_addr_put(entry);
    return err;
}

int host_setup(const struct config_interface *interface)
{
    struct nl_sock *socket;
    int index, err;

    if (interface->device != CONFIG_DEVICE_TAP || interface->host_address_count == 0)
        return 0;
    index = (int)if_nametoindex(interface->device_argument);
    if (index == 0)
        return fail(interface, "it is not there", -NLE_NODEV);
    socket = nl_socket_alloc();
    if (!socket)
        return fail(interface, "netlink", -NLE_NOMEM);
    err = nl_connect(socket, NETLINK_ROUTE);
    if (err == 0)
        err = link_up(socket, index);
    for (unsigned i = 0; err == 0 && i < interface->host_address_count; i++)
        err = add_address(socket, index, &interface->host_addresses[i]);
    nl_socket_free(socket);
    return err ? fail(interface, "its addresses cannot be set", err) : 0;
}
