#include "dpdk/port.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_ethdev.h>

#include "dpdk/diagnose.h"
#include "dpdk/eal.h"
#include "dpdk/neighbour.h"

#define RSS_TYPES    (RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV6_UDP)
#define TX_CHECKSUMS (RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM)
#define RX_CHECKSUMS (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM)

static void say(const struct port *port, const char *text)
{
    fprintf(stderr, "coapgw: interface %s: %s\n", port->interface->name, text);
}

static int fail(const struct port *port, const char *what, int err)
{
    fprintf(stderr, "coapgw: interface %s (device %s): %s: %s\n", port->interface->name,
            port->interface->device_argument, what, rte_strerror(-err));
    return err;
}

static int fail_diagnosed(const struct port *port, const char *what, int err)
{
    char text[DIAGNOSE_BYTES];

    fprintf(stderr, "coapgw: interface %s (device %s): %s: %s\n", port->interface->name,
            port->interface->device_argument, what, diagnose_device(port->interface, text));
    return err;
}

unsigned port_buffers_wanted(const struct config *config)
{
    /* Bursts, rings and what waits for a neighbour. */
    unsigned per_worker = 1024 + NEIGHBOUR_WAITING_TOTAL + NEIGHBOUR_BEYOND;
    unsigned total = 0, n = 1;

    for (unsigned i = 0; i < config->interface_count; i++) {
        const struct config_interface *c = &config->interfaces[i];

        total += (c->rx_descriptors + c->tx_descriptors) * config->workers;
    }
    total += config->workers * (per_worker + PORT_BUFFER_CACHE * 3 / 2);
    while (n < total + 1)
        n *= 2;
    return n - 1; /* 2^k - 1 uses the pool's ring best */
}

/* ---- capabilities ---- */

static uint16_t least(unsigned a, unsigned b)
{
    return (uint16_t)(a < b ? a : b);
}

static void choose_queues(struct port *port, const struct config *config,
                          const struct rte_eth_dev_info *info)
{
    unsigned wanted = config->workers;

    if (port->interface->queues && port->interface->queues < wanted)
        wanted = port->interface->queues;
    port->rx_queues = least(wanted, info->max_rx_queues);
    port->tx_queues = least(wanted, info->max_tx_queues);
    if (port->rx_queues < config->workers)
        fprintf(
            stderr,
            "coapgw: interface %s: %u workers share %u receive queues: packets are handed over\n",
            port->interface->name, config->workers, port->rx_queues);
}

/* A device that does not say how long its key is has the usual 40 bytes (rte_eth_dev_info). */
static uint8_t key_length(const struct rte_eth_dev_info *info)
{
    return info->hash_key_size ? info->hash_key_size : 40;
}

/* RSS serves when key, table and UDP hashing can all be set: half of it would only look right. */
static bool rss_offered(const struct rte_eth_dev_info *info, const struct steer *steer,
                        uint16_t queues)
{
    return queues > 1 && info->reta_size >= 64 && info->reta_size <= STEER_RETA_MAX &&
           info->reta_size == steer_reta_size(steer) && key_length(info) >= 40 &&
           key_length(info) <= STEER_KEY_BYTES &&
           (info->flow_type_rss_offloads & RSS_TYPES) == RSS_TYPES;
}

static void choose_offloads(struct rte_eth_conf *conf, const struct rte_eth_dev_info *info,
                            bool software, struct stack_interface *out)
{
    uint64_t tx = info->tx_offload_capa & TX_CHECKSUMS, rx = info->rx_offload_capa & RX_CHECKSUMS;

    if (software)
        tx = rx = 0;
    conf->txmode.offloads |= tx;
    conf->rxmode.offloads |= rx;
    out->tx_ip_cksum = tx & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
    out->tx_udp_cksum = tx & RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
    out->rx_cksum = rx == RX_CHECKSUMS;
}

/* ---- RSS ---- */

static int program_reta(const struct port *port, const struct steer *steer)
{
    struct rte_eth_rss_reta_entry64 reta[STEER_RETA_MAX / RTE_ETH_RETA_GROUP_SIZE] = {0};
    uint16_t size = steer_reta_size(steer);
    int err;

    for (uint16_t i = 0; i < size; i++) {
        reta[i / RTE_ETH_RETA_GROUP_SIZE].mask = UINT64_MAX;
        reta[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] =
            (uint16_t)(steer_reta(steer, i) % port->rx_queues);
    }
    err = rte_eth_dev_rss_reta_update(port->id, reta, size);
    if (err)
        return err;
    for (unsigned g = 0; g < RTE_DIM(reta); g++) {
        memset(reta[g].reta, 0xff, sizeof(reta[g].reta));
        reta[g].mask = UINT64_MAX;
    }
    err = rte_eth_dev_rss_reta_query(port->id, reta, size);
    for (uint16_t i = 0; !err && i < size; i++)
        if (reta[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] !=
            steer_reta(steer, i) % port->rx_queues)
            err = -EIO;
    return err;
}

/* Some drivers take the key when they are configured, some later only: said again, and read back.
 */
static int program_key(const struct port *port, const struct steer *steer, uint8_t length)
{
    uint8_t key[STEER_KEY_BYTES];
    struct rte_eth_rss_conf conf = {.rss_key = key, .rss_key_len = length, .rss_hf = RSS_TYPES};
    int err;

    memcpy(key, steer_key(steer), sizeof(key));
    err = rte_eth_dev_rss_hash_update(port->id, &conf);
    if (err && err != -ENOTSUP)
        return err;
    memset(key, 0, sizeof(key));
    conf.rss_hf = 0;
    err = rte_eth_dev_rss_hash_conf_get(port->id, &conf);
    if (err)
        return err;
    return memcmp(key, steer_key(steer), length) == 0 && (conf.rss_hf & RSS_TYPES) == RSS_TYPES
               ? 0
               : -EIO;
}

/* ---- start ---- */

static int configure(struct port *port, const struct steer *steer,
                     const struct rte_eth_dev_info *info, struct stack_interface *out)
{
    struct rte_eth_conf conf = {.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE};

    port->rss = rss_offered(info, steer, port->rx_queues);
    if (port->rss) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_key = (uint8_t *)(uintptr_t)steer_key(steer);
        conf.rx_adv_conf.rss_conf.rss_key_len = key_length(info);
        conf.rx_adv_conf.rss_conf.rss_hf = RSS_TYPES;
        if (info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_RSS_HASH)
            conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_RSS_HASH;
    }
    /* A TAP's driver computes checksums in software as we do, and copies packets for it. */
    choose_offloads(&conf, info, port->interface->device == CONFIG_DEVICE_TAP, out);
    return rte_eth_dev_configure(port->id, port->rx_queues, port->tx_queues, &conf);
}

static int setup_queues(const struct port *port, struct rte_mempool *pool)
{
    uint16_t rx = port->interface->rx_descriptors, tx = port->interface->tx_descriptors;
    int socket = rte_eth_dev_socket_id(port->id);
    int err = rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &rx, &tx);

    for (uint16_t q = 0; !err && q < port->rx_queues; q++)
        err = rte_eth_rx_queue_setup(port->id, q, rx, (unsigned)socket, NULL, pool);
    for (uint16_t q = 0; !err && q < port->tx_queues; q++)
        err = rte_eth_tx_queue_setup(port->id, q, tx, (unsigned)socket, NULL);
    return err;
}

static bool of_the_kernel(const struct port *port)
{
    return port->interface->device == CONFIG_DEVICE_AF_PACKET ||
           port->interface->device == CONFIG_DEVICE_AF_XDP;
}

/* A packet socket sends short frames on an interface of any larger MTU, which is the operator's.
 * XDP is limited to a page on many interfaces, so there the MTU is set as elsewhere. */
static void set_mtu(const struct port *port)
{
    uint16_t now = 0;
    int err;

    if (port->interface->device == CONFIG_DEVICE_AF_PACKET &&
        diagnose_mtu(port->interface) >= port->interface->mtu)
        return;
    err = rte_eth_dev_set_mtu(port->id, port->interface->mtu);
    if (err == 0 || (rte_eth_dev_get_mtu(port->id, &now) == 0 && now >= port->interface->mtu))
        return;
    fprintf(stderr, "coapgw: interface %s: the device keeps its MTU of %u instead of %u\n",
            port->interface->name, now, port->interface->mtu);
}

/* The address that we answer to: the configured one, or the device's. A TAP's device address is
 * that of the kernel's end, which is another host to us: we take one of our own there, and the TAP
 * gives us all frames whatever they are addressed to. */
static void choose_mac(const struct port *port, struct rte_ether_addr *mac)
{
    if (port->interface->mac_set)
        memcpy(mac->addr_bytes, port->interface->mac, sizeof(mac->addr_bytes));
    else if (port->interface->device == CONFIG_DEVICE_TAP)
        rte_eth_random_addr(mac->addr_bytes);
    else
        rte_eth_macaddr_get(port->id, mac);
}

/* Before the start: not every driver changes its address later. False when the device goes on with
 * another one. An interface of the kernel does, since its own address is the operator's. */
static bool take_mac(const struct port *port, struct rte_ether_addr *mac)
{
    if (!port->interface->mac_set || port->interface->device == CONFIG_DEVICE_TAP)
        return true;
    return !of_the_kernel(port) && rte_eth_dev_default_mac_addr_set(port->id, mac) == 0;
}

/* An interface of the kernel is asked to show more by a socket that stays open as long as the port:
 * the kernel takes it back when the socket goes, however the process ends. DPDK's drivers would set
 * the interface's flags, and leave them set. 0 or a negative errno. */
static int join(struct port *port, unsigned short type)
{
    struct packet_mreq request = {.mr_type = type};

    request.mr_ifindex = (int)if_nametoindex(port->interface->device_argument);
    port->membership = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (port->membership < 0 || setsockopt(port->membership, SOL_PACKET, PACKET_ADD_MEMBERSHIP,
                                           &request, sizeof(request)) != 0)
        return -errno;
    return 0;
}

static int become_promiscuous(struct port *port)
{
    int err = rte_eth_promiscuous_enable(port->id);

    port->promiscuous = err == 0;
    return err;
}

/* Frames to our own address and to groups must reach us; IPv6 neighbour discovery is multicast. */
static void choose_frames(struct port *port, bool mac_taken)
{
    int err;

    if (of_the_kernel(port))
        err = join(port, mac_taken ? PACKET_MR_ALLMULTI : PACKET_MR_PROMISC);
    else if (!mac_taken) /* then the device must show us what others get */
        err = become_promiscuous(port);
    else if (rte_eth_allmulticast_enable(port->id) == 0)
        err = 0;
    else
        err = become_promiscuous(port);
    if (err)
        say(port, mac_taken ? "the device receives no multicast: IPv6 neighbour discovery needs it"
                            : "the device takes neither the MAC address nor promiscuous mode");
}

static void warn_if_down(const struct port *port)
{
    const char *name = port->interface->device_argument;

    if (diagnose_is_down(port->interface))
        fprintf(stderr,
                "coapgw: interface %s: the kernel's %s is down, no packet passes: ip link set %s "
                "up\n",
                port->interface->name, name, name);
}

static int program_rss(struct port *port, const struct steer *steer,
                       const struct rte_eth_dev_info *info)
{
    int err;

    if (!port->rss) {
        if (port->rx_queues > 1)
            say(port, "no RSS that can be programmed: packets are steered in software");
        return 0;
    }
    err = program_key(port, steer, key_length(info));
    if (!err)
        err = program_reta(port, steer);
    if (err) { /* it still works, only slower: every packet's owner is computed */
        port->rss = false;
        say(port, "the device does not keep RSS key and table: packets are steered in software");
    }
    return 0;
}

int port_start(struct port *port, const struct config *config, unsigned index, struct steer *steer,
               struct rte_mempool *pool, struct stack_interface *out)
{
    const struct config_interface *interface = &config->interfaces[index];
    char name[EAL_DEVICE_NAME_BYTES];
    struct rte_eth_dev_info info;
    bool mac_taken;
    int err;

    memset(port, 0, sizeof(*port));
    port->interface = interface;
    port->membership = -1;
    err = rte_eth_dev_get_port_by_name(eal_device_name(interface, index, name), &port->id);
    if (err)
        return fail_diagnosed(port, "DPDK cannot make it", -ENODEV);
    port->opened = true;
    err = rte_eth_dev_info_get(port->id, &info);
    if (err)
        return fail(port, "it does not say what it can do", err);
    choose_queues(port, config, &info);
    err = configure(port, steer, &info, out);
    if (err)
        return fail(port, "it cannot be configured", err);
    set_mtu(port);
    err = setup_queues(port, pool);
    if (err)
        return interface->device == CONFIG_DEVICE_AF_XDP /* here is where it needs privileges */
                   ? fail_diagnosed(port, "its queues cannot be set up", err)
                   : fail(port, "its queues cannot be set up", err);
    choose_mac(port, &out->mac);
    mac_taken = take_mac(port, &out->mac);
    err = rte_eth_dev_start(port->id);
    if (err)
        return fail(port, "it does not start", err);
    port->started = true;
    choose_frames(port, mac_taken);
    warn_if_down(port);
    err = program_rss(port, steer, &info);
    out->port_id = port->id;
    out->rx_hash = port->rss;
    out->vlan = interface->vlan;
    out->mtu = interface->mtu;
    return err;
}

void port_stop(struct port *port)
{
    if (!port->opened)
        return;
    if (port->promiscuous) /* some drivers set it on an interface that outlives them */
        rte_eth_promiscuous_disable(port->id);
    if (port->started)
        rte_eth_dev_stop(port->id);
    rte_eth_dev_close(port->id);
    if (port->membership >= 0)
        close(port->membership);
    port->opened = false;
}

bool port_figures(const struct port *port, struct port_figures *figures)
{
    struct rte_eth_stats s;

    if (rte_eth_stats_get(port->id, &s) != 0)
        return false;
    *figures = (struct port_figures){
        .rx_packets = s.ipackets,
        .rx_bytes = s.ibytes,
        .tx_packets = s.opackets,
        .tx_bytes = s.obytes,
        .rx_missed = s.imissed,
        .rx_errors = s.ierrors,
        .tx_errors = s.oerrors,
        .rx_no_buffer = s.rx_nombuf,
    };
    return true;
}

void port_print(const struct port *port, FILE *out)
{
    struct port_figures f;

    if (!port_figures(port, &f))
        return;
    fprintf(out,
            "interface %s received %llu packets %llu bytes, sent %llu packets %llu bytes, missed "
            "%llu, errors %llu in %llu out, no buffer %llu\n",
            port->interface->name, (unsigned long long)f.rx_packets, (unsigned long long)f.rx_bytes,
            (unsigned long long)f.tx_packets, (unsigned long long)f.tx_bytes,
            (unsigned long long)f.rx_missed, (unsigned long long)f.rx_errors,
            (unsigned long long)f.tx_errors, (unsigned long long)f.rx_no_buffer);
}
