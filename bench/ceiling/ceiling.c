/* ceiling: the smallest CoAP responder that can be, on one core and one DPDK device: what a real
 * server can be compared with. It knows the flows that it has seen, answers confirmable GETs in
 * place, answers ARP, and drops all else.
 *
 * Exit codes: 0 ended by SIGTERM or SIGINT; 1 it could not run; 2 a bad command line. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_arp.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "bench/ceiling/answer.h"
#include "bench/ceiling/flows.h"

#define BURST        64
#define DESCRIPTORS  2048
#define BUFFERS      8191
#define BUFFER_CACHE 256
#define SESSIONS_MAX (1u << 24)

static const char help[] =
    "usage: ceiling --device DEVICE [OPTION...]\n"
    "\n"
    "  --device DEVICE   memif:SOCKET (this is the server's end), tap:NAME, af_packet:IF, "
    "af_xdp:IF\n"
    "                    or vdev:ARGS as DPDK's --vdev takes them\n"
    "  --address ADDR    own IPv4 address (default 10.99.0.2)\n"
    "  --port N          own port (default 5683)\n"
    "  --sessions N      flows that are remembered, 1 to 16777216 (default 1000000)\n"
    "  --payload N       bytes of each answer, 1 to 1024 (default 12: \"hello world!\")\n"
    "  --core N          the CPU to run on (default 0)\n"
    "  --huge            memory from huge pages\n"
    "  --help            this text\n"
    "\n"
    "It answers every confirmable GET in its own packet, and runs until SIGTERM.\n";

struct options {
    const char *device;
    struct in_addr address;
    uint32_t port, sessions, payload, core;
    bool huge;
};

struct ceiling {
    uint16_t port;
    struct rte_mempool *pool;
    struct rte_ether_addr mac;
    struct answer answer;
    struct flows flows;
    uint64_t received, answered, unsent;
};

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

/* ---- the command line ---- */

static void bad(const char *option, const char *value, const char *wanted)
{
    fprintf(stderr, "ceiling: %s %s: write %s; try ceiling --help\n", option, value, wanted);
    exit(2);
}

static uint32_t number(const char *option, const char *text, uint32_t low, uint32_t high)
{
    char *end, wanted[64];
    unsigned long long value = strtoull(text, &end, 10);

    snprintf(wanted, sizeof(wanted), "a number from %u to %u", low, high);
    if (*text < '0' || *text > '9' || *end || value < low || value > high)
        bad(option, text, wanted);
    return (uint32_t)value;
}

static void set_option(struct options *o, int option, const char *value)
{
    switch (option) {
    case 'd':
        o->device = value;
        break;
    case 'a':
        if (inet_pton(AF_INET, value, &o->address) != 1)
            bad("--address", value, "an IPv4 address");
        break;
    case 'p':
        o->port = number("--port", value, 1, 65535);
        break;
    case 's':
        o->sessions = number("--sessions", value, 1, SESSIONS_MAX);
        break;
    case 'l':
        o->payload = number("--payload", value, 1, ANSWER_PAYLOAD_MAX);
        break;
    case 'c':
        o->core = number("--core", value, 0, 1023);
        break;
    case 'H':
        o->huge = true;
        break;
    case 'h':
        fputs(help, stdout);
        exit(0);
    default:
        fputs("ceiling: try ceiling --help\n", stderr);
        exit(2);
    }
}

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {
        {"device", 1, NULL, 'd'},   {"address", 1, NULL, 'a'}, {"port", 1, NULL, 'p'},
        {"sessions", 1, NULL, 's'}, {"payload", 1, NULL, 'l'}, {"core", 1, NULL, 'c'},
        {"huge", 0, NULL, 'H'},     {"help", 0, NULL, 'h'},    {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        set_option(o, option, optarg);
    if (optind < argc)
        bad("argument", argv[optind], "options only");
    if (!o->device)
        bad("--device", "", "what is served, for example memif:/run/ceiling.sock");
}

/* ---- start ---- */

/* "memif:/run/x" to what --vdev takes. */
static void device_argument(const char *device, char *out, size_t room)
{
    static const struct {
        const char *kind, *format;
    } kinds[] = {
        {"memif:", "--vdev=net_memif0,role=server,socket=%s,socket-abstract=no,rsize=11"},
        {"tap:", "--vdev=net_tap0,iface=%s"},
        {"af_packet:", "--vdev=net_af_packet0,iface=%s"},
        {"af_xdp:", "--vdev=net_af_xdp0,iface=%s"},
        {"vdev:", "--vdev=%s"},
    };

    for (unsigned i = 0; i < RTE_DIM(kinds); i++) {
        size_t length = strlen(kinds[i].kind);

        if (strncmp(device, kinds[i].kind, length) == 0 && device[length]) {
            const char *split = strstr(kinds[i].format, "%s");

            snprintf(out, room, "%.*s%s%s", (int)(split - kinds[i].format), kinds[i].format,
                     device + length, split + 2);
            return;
        }
    }
    bad("--device", device, "memif:SOCKET, tap:NAME, af_packet:IF, af_xdp:IF or vdev:ARGS");
}

static int start_eal(const struct options *o)
{
    static char name[] = "ceiling", no_pci[] = "--no-pci", no_telemetry[] = "--no-telemetry",
                quiet[] = "--log-level=error", in_memory[] = "--in-memory", no_huge[] = "--no-huge",
                no_shconf[] = "--no-shconf";
    char *const fixed[] = {name, no_pci, no_telemetry, quiet};
    char device[256], cores[32], prefix[32], memory[16];
    char *list[16];
    int n = 0;

    device_argument(o->device, device, sizeof(device));
    snprintf(cores, sizeof(cores), "--lcores=0@%u", o->core);
    snprintf(prefix, sizeof(prefix), "--file-prefix=ceiling-%d", (int)getpid());
    /* At most 64 bytes for a flow, and the buffers. */
    snprintf(memory, sizeof(memory), "-m%u", 96 + (o->sessions >> 14));
    for (unsigned i = 0; i < RTE_DIM(fixed); i++)
        list[n++] = fixed[i];
    list[n++] = cores;
    list[n++] = prefix;
    list[n++] = device;
    list[n++] = memory;
    list[n++] = o->huge ? in_memory : no_huge;
    if (!o->huge)
        list[n++] = no_shconf; /* which --in-memory means, too; those two exclude each other */
    list[n] = NULL;
    if (rte_eal_init(n, list) < 0 || rte_eth_dev_count_avail() == 0)
        return -EIO;
    rmdir(rte_eal_get_runtime_dir()); /* empty, and made for each process */
    return 0;
}

static int start_port(struct ceiling *c)
{
    struct rte_eth_conf conf = {0};
    uint16_t rx = DESCRIPTORS, tx = DESCRIPTORS;
    int err;

    c->pool = rte_pktmbuf_pool_create("ceiling", BUFFERS, BUFFER_CACHE, 0,
                                      RTE_MBUF_DEFAULT_BUF_SIZE, (int)rte_socket_id());
    if (!c->pool)
        return -ENOMEM;
    err = rte_eth_dev_configure(c->port, 1, 1, &conf);
    if (!err)
        err = rte_eth_dev_adjust_nb_rx_tx_desc(c->port, &rx, &tx);
    if (!err)
        err = rte_eth_rx_queue_setup(c->port, 0, rx, 0, NULL, c->pool);
    if (!err)
        err = rte_eth_tx_queue_setup(c->port, 0, tx, 0, NULL);
    if (!err)
        err = rte_eth_dev_start(c->port);
    if (!err)
        err = rte_eth_macaddr_get(c->port, &c->mac);
    return err;
}

/* ---- the loop ---- */

/* True when the packet has become a reply. */
static bool answer_arp(const struct ceiling *c, struct rte_mbuf *mbuf)
{
    struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *);
    struct rte_arp_hdr *arp = (struct rte_arp_hdr *)(ether + 1);

    if (rte_pktmbuf_data_len(mbuf) < sizeof(*ether) + sizeof(*arp) ||
        ether->ether_type != RTE_BE16(RTE_ETHER_TYPE_ARP) ||
        arp->arp_opcode != RTE_BE16(RTE_ARP_OP_REQUEST) ||
        arp->arp_data.arp_tip != c->answer.address)
        return false;
    ether->dst_addr = ether->src_addr;
    ether->src_addr = c->mac;
    arp->arp_opcode = RTE_BE16(RTE_ARP_OP_REPLY);
    arp->arp_data.arp_tha = arp->arp_data.arp_sha;
    arp->arp_data.arp_tip = arp->arp_data.arp_sip;
    arp->arp_data.arp_sha = c->mac;
    arp->arp_data.arp_sip = c->answer.address;
    return true;
}

/* What is to be answered stays in `in`, in order; the rest goes, or to the end of `out`. Returns
 * how many stay. */
static unsigned sort_out(struct ceiling *c, struct rte_mbuf **in, unsigned n, uint64_t *keys,
                         uint32_t *lines, struct rte_mbuf **other, uint16_t *others)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++) {
        struct rte_mbuf *mbuf = in[i];
        const uint8_t *packet = rte_pktmbuf_mtod(mbuf, const uint8_t *);

        if (likely(mbuf->nb_segs == 1 &&
                   answer_wanted(&c->answer, packet, rte_pktmbuf_data_len(mbuf)))) {
            const struct rte_ipv4_hdr *ip =
                (const struct rte_ipv4_hdr *)(packet + sizeof(struct rte_ether_hdr));
            const struct rte_udp_hdr *udp = (const struct rte_udp_hdr *)(ip + 1);

            keys[kept] = flows_key(ip->src_addr, udp->src_port);
            lines[kept] = flows_line(&c->flows, keys[kept]);
            flows_prefetch(&c->flows, lines[kept]);
            in[kept++] = mbuf;
        } else if (answer_arp(c, mbuf)) {
            other[(*others)++] = mbuf;
        } else {
            rte_pktmbuf_free(mbuf);
        }
    }
    return kept;
}

static void send_all(struct ceiling *c, struct rte_mbuf **mbufs, uint16_t n)
{
    uint16_t sent = rte_eth_tx_burst(c->port, 0, mbufs, n);

    c->unsent += (unsigned)(n - sent);
    if (sent < n)
        rte_pktmbuf_free_bulk(mbufs + sent, (unsigned)(n - sent));
}

static void turn(struct ceiling *c)
{
    struct rte_mbuf *in[BURST], *other[BURST];
    uint64_t keys[BURST], now;
    uint32_t lines[BURST];
    uint16_t others = 0, n = rte_eth_rx_burst(c->port, 0, in, BURST);
    unsigned kept;

    if (n == 0)
        return;
    now = rte_rdtsc() << 16;
    c->received += n;
    kept = sort_out(c, in, n, keys, lines, other, &others);
    for (unsigned i = 0; i < kept; i++) {
        uint8_t *packet = rte_pktmbuf_mtod(in[i], uint8_t *);
        uint16_t length, mid;

        memcpy(&mid, packet + ANSWER_MID_AT, sizeof(mid));
        flows_touch(&c->flows, keys[i], lines[i], now | mid);
        length = answer_in_place(&c->answer, packet);
        in[i]->data_len = length;
        in[i]->pkt_len = length;
    }
    c->answered += kept;
    if (kept)
        send_all(c, in, (uint16_t)kept);
    if (others)
        send_all(c, other, others);
}

static int run(struct ceiling *c, const struct options *o)
{
    int err =
        answer_make(&c->answer, o->address.s_addr, htons((uint16_t)o->port), (uint16_t)o->payload);

    if (!err)
        err = flows_make(&c->flows, o->sessions);
    if (!err)
        err = start_port(c);
    if (err) {
        fprintf(stderr, "ceiling: it cannot be set up: %s\n", strerror(-err));
        return 1;
    }
    while (!stopped)
        turn(c);
    printf("ceiling: %llu received, %llu answered, %llu could not be sent, %u flows",
           (unsigned long long)c->received, (unsigned long long)c->answered,
           (unsigned long long)c->unsent, c->flows.count);
    if (c->flows.refused)
        printf(", %llu packets of flows for which there was no room",
               (unsigned long long)c->flows.refused);
    putchar('\n');
    rte_eth_dev_stop(c->port);
    return 0;
}

int main(int argc, char **argv)
{
    static struct ceiling ceiling;
    struct options o = {.port = 5683, .sessions = 1000000, .payload = 12};
    struct sigaction action = {.sa_handler = stop};
    int status = 1;

    inet_pton(AF_INET, "10.99.0.2", &o.address);
    parse(argc, argv, &o);
    if (start_eal(&o) != 0) {
        fputs("ceiling: the device cannot be opened\n", stderr);
    } else {
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGINT, &action, NULL);
        status = run(&ceiling, &o);
        flows_release(&ceiling.flows);
    }
    rte_eal_cleanup();
    return status;
}
