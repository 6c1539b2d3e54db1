#include "bench/gun/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>

#define DESCRIPTORS 2048
#define BUFFERS     32767
#define MTU         1500
#define ANSWER_S    5 /* how long the link and the next hop are waited for */
#define STUCK_MS    200

/* ---- DPDK ---- */

/* "memif:/run/x" to what --vdev takes. False: no such kind. */
static bool device_argument(const char *device, char *out, size_t room)
{
    static const struct {
        const char *kind, *before, *behind;
    } kinds[] = {{"memif:", "net_memif0,role=client,socket=", ",socket-abstract=no,rsize=11"},
                 {"tap:", "net_tap0,iface=", ""},
                 {"af_packet:", "net_af_packet0,iface=", ""},
                 {"af_xdp:", "net_af_xdp0,iface=", ""},
                 {"vdev:", "", ""}};

    for (unsigned i = 0; i < RTE_DIM(kinds); i++) {
        size_t length = strlen(kinds[i].kind);

        if (strncmp(device, kinds[i].kind, length) != 0)
            continue;
        snprintf(out, room, "--vdev=%s%s%s", kinds[i].before, device + length, kinds[i].behind);
        return true;
    }
    return false;
}

bool carrier_dpdk_knows(const char *device)
{
    char unused[8];

    return device_argument(device, unused, sizeof(unused));
}

static int start_eal(const struct gun_options *o)
{
    char device[300], cores[32], prefix[32];
    char *list[16];
    int n = 0;

    device_argument(o->device, device, sizeof(device));
    snprintf(cores, sizeof(cores), "--lcores=0@%d", o->core);
    snprintf(prefix, sizeof(prefix), "--file-prefix=gun-%d", (int)getpid());
#define ADD(text) list[n++] = (char *)(uintptr_t)(text)
    ADD("coapgun");
    ADD(cores);
    ADD(prefix);
    ADD(device);
    ADD("--no-pci");
    ADD("--no-telemetry");
    ADD("--log-level=error");
    ADD("-m");
    ADD("256");
    if (o->huge) {
        ADD("--in-memory");
        ADD("--single-file-segments");
    } else {
        ADD("--no-huge");
        ADD("--no-shconf");
    }
#undef ADD
    list[n] = NULL;
    if (rte_eal_init(n, list) < 0)
        return -EIO;
    rmdir(rte_eal_get_runtime_dir()); /* empty, and made for each process */
    return rte_eth_dev_count_avail() ? 0 : -ENODEV;
}

static int start_port(struct device *d)
{
    struct rte_eth_conf conf = {0};
    uint16_t rx = DESCRIPTORS, tx = DESCRIPTORS;
    int err;

    d->pool = rte_pktmbuf_pool_create("gun", BUFFERS, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
                                      (int)rte_socket_id());
    if (!d->pool)
        return -ENOMEM;
    err = rte_eth_dev_configure(d->port, d->queues, d->queues, &conf);
    if (!err)
        err = rte_eth_dev_adjust_nb_rx_tx_desc(d->port, &rx, &tx);
    for (uint16_t q = 0; !err && q < d->queues; q++)
        err = rte_eth_rx_queue_setup(d->port, q, rx, 0, NULL, d->pool);
    for (uint16_t q = 0; !err && q < d->queues; q++)
        err = rte_eth_tx_queue_setup(d->port, q, tx, 0, NULL);
    if (!err)
        err = rte_eth_dev_start(d->port);
    if (err)
        return err;
    /* For the origin's MAC, and the multicast groups of neighbour discovery. */
    rte_eth_promiscuous_enable(d->port);
    return rte_eth_macaddr_get(d->port, &d->mac);
}

/* ---- the carrier ---- */

/* The queues in turn. */
static uint16_t next_queue(const struct device *d, uint16_t *last)
{
    *last = (uint16_t)(*last + 1 < d->queues ? *last + 1 : 0);
    return *last;
}

/* What the device does not take now it takes in a moment: nothing is lost here, unless the other
 * end has gone. */
static unsigned transmit(struct device *d, struct rte_mbuf **packets, unsigned n)
{
    uint16_t queue = next_queue(d, &d->sent_to);
    unsigned sent = rte_eth_tx_burst(d->port, queue, packets, (uint16_t)n);
    uint64_t end = 0;

    while (sent < n) {
        uint16_t more = rte_eth_tx_burst(d->port, queue, packets + sent, (uint16_t)(n - sent));

        sent += more;
        if (more || !end)
            end = rte_rdtsc() + rte_get_tsc_hz() / 1000 * STUCK_MS;
        else if (rte_rdtsc() > end)
            break;
    }
    rte_pktmbuf_free_bulk(packets + sent, n - sent);
    return n - sent;
}

static unsigned receive(struct carrier *c, struct incoming *in)
{
    struct device *d = (struct device *)c;
    struct rte_mbuf *packets[CARRIER_BURST];
    uint16_t queue = next_queue(d, &d->received_from);
    unsigned n = rte_eth_rx_burst(d->port, queue, packets, CARRIER_BURST);

    d->held_count = 0;
    for (unsigned i = 0; i < n; i++) {
        if (i + 1 < n)
            rte_prefetch0(rte_pktmbuf_mtod(packets[i + 1], void *));
        if (frame_read(d, packets[i], &in[d->held_count])) {
            d->held[d->held_count++] = packets[i];
        } else if (neighbour_receive(d, packets[i])) {
            transmit(d, &packets[i], 1);
        } else {
            rte_pktmbuf_free(packets[i]);
        }
    }
    return d->held_count;
}

/* Received buffers are the next ones to be sent: they are in the cache, and the pool is not asked.
 */
static void release(struct carrier *c)
{
    struct device *d = (struct device *)c;

    for (unsigned i = 0; i < d->held_count; i++) {
        struct rte_mbuf *mbuf = d->held[i];

        if (d->spare_count < SPARE_BUFFERS && mbuf->nb_segs == 1 && RTE_MBUF_DIRECT(mbuf) &&
            rte_mbuf_refcnt_read(mbuf) == 1) {
            d->spare[d->spare_count] = mbuf;
            d->spare_data[d->spare_count++] = (uint8_t *)mbuf->buf_addr + RTE_PKTMBUF_HEADROOM;
        } else {
            rte_pktmbuf_free(mbuf);
        }
    }
    d->held_count = 0;
}

static unsigned reserve(struct carrier *c, struct outgoing *out, unsigned n)
{
    struct device *d = (struct device *)c;
    struct rte_mbuf *packets[CARRIER_BURST];
    unsigned headers = d->v6 ? HEADERS6 : HEADERS4, spare = d->spare_count < n ? d->spare_count : n;

    if (spare < n && rte_pktmbuf_alloc_bulk(d->pool, packets, n - spare) != 0)
        n = spare;
    for (unsigned i = 0; i < spare; i++) {
        struct rte_mbuf *mbuf = d->spare[--d->spare_count];

        mbuf->data_off = RTE_PKTMBUF_HEADROOM;
        mbuf->ol_flags = 0;
        out[i].buffer = mbuf;
        out[i].data = d->spare_data[d->spare_count] + headers;
    }
    for (unsigned i = spare; i < n; i++) {
        out[i].buffer = packets[i - spare];
        out[i].data = rte_pktmbuf_mtod_offset(packets[i - spare], uint8_t *, headers);
    }
    return n;
}

static unsigned send_burst(struct carrier *c, struct outgoing *out, unsigned n)
{
    struct device *d = (struct device *)c;
    struct rte_mbuf *packets[CARRIER_BURST];
    uint16_t headers = d->v6 ? HEADERS6 : HEADERS4;

    for (unsigned i = 0; i < n; i++) {
        packets[i] = out[i].buffer;
        frame_write(d, &out[i]);
        packets[i]->data_len = (uint16_t)(headers + out[i].length);
        packets[i]->pkt_len = packets[i]->data_len;
    }
    return transmit(d, packets, n);
}

static void stay(struct carrier *c, uint64_t ns)
{
    (void)c;
    (void)ns; /* a poll-mode device is polled */
}

static void close_device(struct carrier *c)
{
    struct device *d = (struct device *)c;

    if (d->pool)
        rte_eth_dev_stop(d->port);
    if (d->started)
        rte_eal_cleanup();
    free(d);
}

/* ---- start ---- */

/* The link of a memif comes up when both ends have met; then the next hop's MAC is asked for. */
static int find_hop(struct device *d)
{
    uint64_t hz = rte_get_tsc_hz(), end = rte_rdtsc() + ANSWER_S * hz, ask_at = 0;
    struct rte_eth_link link = {0};
    struct incoming in[CARRIER_BURST];
    char text[ENDPOINT_TEXT_BYTES];

    while (rte_rdtsc() < end) {
        rte_eth_link_get_nowait(d->port, &link);
        if (link.link_status && d->o->raw) {
            memset(&d->hop_mac, 2, sizeof(d->hop_mac));
            return 0;
        }
        if (link.link_status && rte_rdtsc() >= ask_at) {
            struct rte_mbuf *question = neighbour_ask(d);

            if (question)
                transmit(d, &question, 1);
            ask_at = rte_rdtsc() + hz / 5;
        }
        receive(&d->carrier, in);
        release(&d->carrier);
        if (d->hop_known)
            return 0;
    }
    fprintf(stderr, "coapgun: %s does not answer %s\n",
            link.link_status ? address_format(&d->hop, text) : "the device has no link: its peer",
            d->v6 ? "neighbour solicitations" : "ARP");
    return -ETIMEDOUT;
}

static void set_up(struct device *d, const struct gun_options *o)
{
    d->o = o;
    d->queues = (uint16_t)o->queues;
    d->v6 = !address_is_v4(&o->target.address);
    d->hop = address_is_unspecified(&o->via) ? o->target.address : o->via;
    d->addresses = (o->endpoints - 1) / DEVICE_PORTS + 1;
    d->source = carrier_low(&o->source);
    d->target = carrier_low(&o->target.address);
    d->carrier = (struct carrier){.receive = receive,
                                  .release = release,
                                  .reserve = reserve,
                                  .send = send_burst,
                                  .wait = stay,
                                  .close = close_device,
                                  .uses_tsc = true};
}

static int start(struct device *d)
{
    int err = start_eal(d->o);

    if (err) {
        fprintf(stderr,
                "coapgun: --device %s cannot be opened; DPDK has said why. A memif is opened by "
                "the server first\n",
                d->o->device);
        return err;
    }
    d->started = true;
    err = start_port(d);
    if (err) {
        fprintf(stderr, "coapgun: the device cannot be set up: %s\n", strerror(-err));
        return err;
    }
    d->origin_mac = d->mac;
    d->origin_mac.addr_bytes[0] |= RTE_ETHER_LOCAL_ADMIN_ADDR;
    d->origin_mac.addr_bytes[5] ^= 0x80;
    err = find_hop(d);
    if (!err)
        frame_make_header(d);
    return err;
}

int carrier_dpdk_open(const struct gun_options *o, struct carrier **out)
{
    struct device *d = calloc(1, sizeof(*d));
    int err;

    if (!d)
        return -ENOMEM;
    set_up(d, o);
    err = start(d);
    if (err)
        close_device(&d->carrier);
    else
        *out = &d->carrier;
    return err;
}
