#include "dpdk/plant.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include <rte_errno.h>
#include <rte_ethdev.h>

#include "dpdk/eal.h"
#include "dpdk/host.h"
#include "dpdk/privilege.h"
#include "gateway/serve/module_table.h"

/* Parcels of 2 KiB: for the store thread and the administration, and for each worker's own. */
#define PARCELS_SHARED   4096
#define PARCELS_A_WORKER 2048

#define DRAIN_MS 1000
#define STEP_MS  5

/* The table of NICs with RSS; what has none is steered in software and takes any size. */
#define RETA_DEFAULT 128

/* Largest frame: a whole Ethernet frame with a VLAN tag fits one buffer. */
#define BUFFER_BYTES (RTE_PKTMBUF_HEADROOM + 2048)

static int fail(const char *what, int err)
{
    fprintf(stderr, "coapgw: %s: %s\n", what, rte_strerror(err < 0 ? -err : err));
    return err < 0 ? err : -err;
}

/* The RETA size of the first device that has one: the steer must have the same. */
static uint16_t reta_size(const struct config *config)
{
    for (unsigned i = 0; i < config->interface_count; i++) {
        char name[EAL_DEVICE_NAME_BYTES];
        struct rte_eth_dev_info info;
        uint16_t port;

        eal_device_name(&config->interfaces[i], i, name);
        if (rte_eth_dev_get_port_by_name(name, &port) == 0 &&
            rte_eth_dev_info_get(port, &info) == 0 && info.reta_size >= 64 &&
            info.reta_size <= STEER_RETA_MAX && (info.reta_size & (info.reta_size - 1)) == 0)
            return info.reta_size;
    }
    return RETA_DEFAULT;
}

static int make_steer(struct plant *p, const uint8_t *secret)
{
    struct steer_setup setup = {.workers = p->config->workers,
                                .port_base = p->config->upstream_port_base,
                                .port_shift = p->config->upstream_port_shift,
                                .reta_size = reta_size(p->config)};
    int err = steer_seed(secret, setup.seed);

    if (err)
        return fail("the key of steering", err);
    p->shared.steer = steer_create(&setup);
    return p->shared.steer ? 0 : fail("steering", errno);
}

/* Without huge pages DPDK would start each buffer on a page of its own, because it takes pages for
 * scattered in physical memory. net_af_xdp reads a pool as one dense array and would lose what lies
 * beyond its end. No device sees physical addresses here, so the buffers are packed. */
static struct rte_mempool *packed_pool(unsigned n)
{
    struct rte_pktmbuf_pool_private room = {.mbuf_data_room_size = BUFFER_BYTES,
                                            .mbuf_priv_size = sizeof(struct stack_mark)};
    struct rte_mempool *pool = rte_mempool_create_empty(
        "packets", n, sizeof(struct rte_mbuf) + sizeof(struct stack_mark) + BUFFER_BYTES,
        PORT_BUFFER_CACHE, sizeof(room), (int)rte_socket_id(), RTE_MEMPOOL_F_NO_IOVA_CONTIG);
    int err;

    if (!pool)
        return NULL;
    rte_pktmbuf_pool_init(pool, &room);
    err = rte_mempool_populate_default(pool);
    if (err < 0) {
        rte_mempool_free(pool);
        rte_errno = -err;
        return NULL;
    }
    rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
    return pool;
}

static int make_pool(struct plant *p)
{
    unsigned n = port_buffers_wanted(p->config);

    if (rte_eal_has_hugepages())
        p->shared.pool =
            rte_pktmbuf_pool_create("packets", n, PORT_BUFFER_CACHE, sizeof(struct stack_mark),
                                    BUFFER_BYTES, (int)rte_socket_id());
    else
        p->shared.pool = packed_pool(n);
    if (p->shared.pool)
        return 0;
    fprintf(stderr, "coapgw: %u packet buffers of %u bytes do not fit memory.size\n", n,
            BUFFER_BYTES);
    return fail("packet buffers", rte_errno);
}

static int make_parcels(struct plant *p)
{
    p->shared.parcels =
        parcel_pool_create("parcels", PARCELS_SHARED + PARCELS_A_WORKER * p->config->workers);
    return p->shared.parcels ? 0 : fail("memory for parcels", rte_errno);
}

static int make_ports(struct plant *p)
{
    unsigned n = p->config->interface_count;

    p->shared.ports = calloc(n, sizeof(*p->shared.ports));
    p->shared.interfaces = calloc(n, sizeof(*p->shared.interfaces));
    if (!p->shared.ports || !p->shared.interfaces)
        return fail("interfaces", ENOMEM);
    for (unsigned i = 0; i < n; i++) {
        int err = port_start(&p->shared.ports[i], p->config, i, p->shared.steer, p->shared.pool,
                             &p->shared.interfaces[i]);

        if (!err)
            err = host_setup(&p->config->interfaces[i]);
        if (err)
            return err;
    }
    return 0;
}

static int make_lcores(struct plant *p)
{
    int err = lcore_shared_init(&p->shared);

    if (err)
        return fail("rings between workers", err);
    for (unsigned i = 0; i < p->config->workers; i++) {
        p->lcores[i] = lcore_create(&p->shared, i);
        if (!p->lcores[i] && errno == ECANCELED && p->shared.modules) {
            fprintf(stderr, "coapgw: %s\n", p->shared.modules->failure);
            return -ECANCELED;
        }
        if (!p->lcores[i]) {
            fprintf(stderr,
                    "coapgw: worker %u: its tables do not fit: lower limits or raise "
                    "memory.size\n",
                    i);
            return fail("worker", errno);
        }
    }
    return 0;
}

static int launch(struct plant *p)
{
    for (; p->launched < p->config->workers; p->launched++) {
        int err = lcore_launch(p->lcores[p->launched]);

        if (err)
            return fail("a worker's core does not start", err);
    }
    return 0;
}

static void join(struct plant *p)
{
    atomic_store(&p->shared.stop, true);
    for (unsigned i = 0; i < p->launched; i++)
        lcore_join(p->lcores[i]);
    if (p->launched)
        plant_print(p, stderr);
    p->launched = 0;
}

static void take_down(struct plant *p)
{
    join(p);
    for (unsigned i = 0; i < p->config->workers; i++)
        lcore_destroy(p->lcores[i]);
    for (unsigned i = 0; p->shared.ports && i < p->config->interface_count; i++)
        port_stop(&p->shared.ports[i]);
    lcore_shared_fini(&p->shared);
    parcel_pool_destroy(p->shared.parcels);
    rte_mempool_free(p->shared.pool);
    steer_destroy(p->shared.steer);
    free(p->shared.ports);
    free(p->shared.interfaces);
    eal_stop();
}

struct rte_mempool *plant_parcels(const struct plant *p)
{
    return p->shared.parcels;
}

unsigned plant_worker_of(const struct plant *p, const struct flow *flow)
{
    struct steer_tuple tuple = {.source = flow->peer,
                                .destination = p->config->locals[flow->local].address,
                                .source_port = flow->peer_port,
                                .destination_port = flow->local_port};

    return steer_worker_of(p->shared.steer, &tuple);
}

int plant_start(struct plant *p, const struct config *config, const struct plant_links *links)
{
    int err;

    memset(p, 0, sizeof(*p));
    p->config = p->shared.config = config;
    p->shared.resolver = links->resolver;
    p->shared.store = links->store;
    p->shared.control = links->control;
    p->shared.modules = links->modules;
    p->shared.credentials = links->credentials;
    p->shared.mid_key = links->mid_key;
    p->shared.life = links->life;
    p->shared.journal = links->journal;
    p->shared.number_floor = links->number_floor;
    p->shared.clock_us = links->clock_us;
    err = eal_start(config);
    if (err)
        return err;
    err = make_steer(p, links->secret);
    if (!err)
        err = make_pool(p);
    if (!err)
        err = make_parcels(p);
    if (!err)
        err = make_ports(p);
    if (!err)
        err = make_lcores(p);
    if (!err) {
        privilege_drop(config); /* says when it cannot; the gateway works all the same */
        err = launch(p);
    }
    if (err)
        take_down(p);
    return err;
}

static bool all_quiet(const struct plant *p)
{
    for (unsigned i = 0; i < p->launched; i++)
        if (!lcore_is_quiet(p->lcores[i]))
            return false;
    return true;
}

void plant_halt(struct plant *p)
{
    const struct timespec step = {.tv_nsec = STEP_MS * 1000000L};

    atomic_store(&p->shared.drain, true);
    for (unsigned ms = 0; ms < DRAIN_MS; ms += STEP_MS) {
        nanosleep(&step, NULL); /* first: the lcores have to see the flag */
        if (all_quiet(p))
            break;
    }
    join(p);
}

void plant_stop(struct plant *p)
{
    take_down(p);
}

static void vitals_counters(const void *context, unsigned worker, struct counters *sum)
{
    const struct plant *p = context;

    lcore_counters(p->lcores[worker], sum);
}

static void vitals_load(const void *context, unsigned worker, struct worker_load *load)
{
    const struct plant *p = context;

    lcore_load(p->lcores[worker], load);
}

static bool vitals_port(const void *context, unsigned interface, struct port_figures *figures)
{
    const struct plant *p = context;

    return port_figures(&p->shared.ports[interface], figures);
}

struct vitals plant_vitals(const struct plant *p)
{
    return (struct vitals){p, vitals_counters, vitals_load, vitals_port};
}

void plant_print(const struct plant *p, FILE *out)
{
    struct counters sum = {0};

    for (unsigned i = 0; i < p->config->workers; i++) {
        lcore_print(p->lcores[i], out);
        lcore_counters(p->lcores[i], &sum);
    }
    if (p->config->workers > 1)
        counters_print(&sum, "all", out);
    for (unsigned i = 0; i < p->config->interface_count; i++)
        port_print(&p->shared.ports[i], out);
    fflush(out);
}
