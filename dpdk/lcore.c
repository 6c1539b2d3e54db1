#include "dpdk/lcore.h"

#include <errno.h>
#include <stdlib.h>
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_pause.h>

#include "dpdk/eal.h"
#include "dpdk/lcore_parts.h"
#include "gateway/security/credentials.h"

/* Idle turns that only pause, before the first sleep; then sleeps grow to the longest. The first
 * packet after a silence waits that long at the most. A worker that hands a packet over wakes the
 * taker, so that it does not wait twice. */
#define IDLE_SPINS       2000
#define SLEEP_FIRST_US   20
#define SLEEP_LONGEST_US 750

/* ---- sending ---- */

static void flush_outbox(struct lcore *l, unsigned port)
{
    struct outbox *box = &l->outboxes[port];
    const struct port *p = &l->shared->ports[port];
    uint16_t sent;

    if (box->count == 0)
        return;
    sent = rte_eth_tx_burst(p->id, (uint16_t)l->index, box->packets, box->count);
    if (sent < box->count) {
        l->device.drop_tx_full += box->count - sent;
        rte_pktmbuf_free_bulk(box->packets + sent, box->count - sent);
    }
    box->count = 0;
}

static long futex(_Atomic uint32_t *word, int operation, uint32_t value,
                  const struct timespec *timeout)
{
    return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

void lcore_wake(struct lcore_shared *shared, unsigned worker)
{
    _Atomic uint32_t *asleep = &shared->asleep[worker].word;

    if (atomic_load(asleep) && atomic_exchange(asleep, 0))
        futex(asleep, FUTEX_WAKE, 1, NULL);
}

static void flush_handbox(struct lcore *l, unsigned to)
{
    struct handbox *box = &l->handboxes[to];
    unsigned given;

    if (box->count == 0)
        return;
    given = rte_ring_enqueue_burst(l->shared->rings[l->index][to], (void **)box->packets,
                                   box->count, NULL);
    l->device.steered_out += given;
    if (given < box->count) {
        l->device.drop_steer_full += box->count - given;
        rte_pktmbuf_free_bulk(box->packets + given, box->count - given);
    }
    box->count = 0;
    lcore_wake(l->shared, to);
}

static void hand_over(void *context, unsigned worker, struct rte_mbuf *mbuf)
{
    struct lcore *l = context;
    struct handbox *box = &l->handboxes[worker];

    box->packets[box->count++] = mbuf;
    if (box->count == WORKER_BURST)
        flush_handbox(l, worker);
}

/* A port with fewer transmit queues than workers is sent to by those that have one. */
static void transmit(void *context, uint16_t interface, struct rte_mbuf *mbuf)
{
    struct lcore *l = context;
    const struct port *p = &l->shared->ports[interface];
    struct outbox *box = &l->outboxes[interface];

    if (l->index >= p->tx_queues) {
        struct stack_mark *mark = rte_mbuf_to_priv(mbuf);

        mark->interface = interface;
        mark->reason = STACK_TRANSMIT;
        hand_over(l, l->index % p->tx_queues, mbuf);
        return;
    }
    l->device.tx_packets++;
    l->device.tx_bytes += rte_pktmbuf_pkt_len(mbuf);
    box->packets[box->count++] = mbuf;
    if (box->count == WORKER_BURST)
        flush_outbox(l, interface);
}

/* ---- receiving ---- */

static unsigned poll_ports(struct lcore *l)
{
    struct rte_mbuf *packets[WORKER_BURST];
    unsigned total = 0;

    for (unsigned i = 0; i < l->ports; i++) {
        const struct port *p = &l->shared->ports[i];
        uint16_t n;

        if (l->index >= p->rx_queues)
            continue;
        n = rte_eth_rx_burst(p->id, (uint16_t)l->index, packets, WORKER_BURST);
        if (n == 0)
            continue;
        stack_receive(l->stack, (uint16_t)i, packets, n, l->now);
        total += n;
    }
    return total;
}

/* Sorts what was handed over: packets to be sent from packets to be handled. */
static void take_over(struct lcore *l, struct rte_mbuf **packets, unsigned n)
{
    struct rte_mbuf *mine[WORKER_BURST];
    unsigned count = 0;

    for (unsigned i = 0; i < n; i++) {
        const struct stack_mark *mark = rte_mbuf_to_priv(packets[i]);

        if (mark->reason == STACK_TRANSMIT)
            transmit(l, mark->interface, packets[i]);
        else
            mine[count++] = packets[i];
    }
    l->device.steered_in += n;
    if (count)
        stack_take_over(l->stack, mine, count, l->now);
}

static unsigned poll_rings(struct lcore *l)
{
    struct rte_mbuf *packets[WORKER_BURST];
    unsigned total = 0;

    for (unsigned from = 0; from < l->workers; from++) {
        unsigned n;

        if (from == l->index)
            continue;
        n = rte_ring_dequeue_burst(l->shared->rings[from][l->index], (void **)packets, WORKER_BURST,
                                   NULL);
        if (n == 0)
            continue;
        take_over(l, packets, n);
        total += n;
    }
    return total;
}

static void flush(struct lcore *l)
{
    for (unsigned i = 0; i < l->ports; i++)
        flush_outbox(l, i);
    for (unsigned i = 0; i < l->workers; i++)
        flush_handbox(l, i);
}

/* ---- idling ---- */

static uint64_t next_due_us(const struct lcore *l)
{
    uint64_t worker = worker_next_us(l->worker), stack = stack_next_us(l->stack);

    return worker < stack ? worker : stack;
}

static bool rings_are_empty(const struct lcore *l)
{
    for (unsigned from = 0; from < l->workers; from++)
        if (from != l->index && (!rte_ring_empty(l->shared->rings[from][l->index]) ||
                                 !rte_ring_empty(l->shared->news[from][l->index]) ||
                                 !rte_ring_empty(l->shared->mail[from][l->index])))
            return false;
    return true;
}

static void sleep_for(struct lcore *l, uint64_t us)
{
    struct timespec pause = {.tv_nsec = (long)us * 1000};
    _Atomic uint32_t *asleep = &l->shared->asleep[l->index].word;

    /* Said first and looked after: who hands over between the two sees the word and wakes. */
    atomic_store(asleep, 1);
    if (rings_are_empty(l)) {
        l->load.sleeps++;
        futex(asleep, FUTEX_WAIT, 1, &pause);
    }
    atomic_store(asleep, 0);
}

static void idle(struct lcore *l)
{
    uint64_t us, due;

    l->idle_turns++;
    if (l->shared->config->idle == CONFIG_IDLE_SPIN || l->idle_turns < IDLE_SPINS) {
        rte_pause();
        return;
    }
    us = (uint64_t)SLEEP_FIRST_US * (l->idle_turns - IDLE_SPINS + 1);
    if (us > SLEEP_LONGEST_US)
        us = SLEEP_LONGEST_US;
    due = next_due_us(l);
    if (due <= l->now)
        return;
    if (due - l->now < us)
        us = due - l->now;
    sleep_for(l, us);
}

/* ---- the loop ---- */

static void account(struct lcore *l, uint64_t begin, uint64_t end, unsigned done)
{
    uint64_t us;

    l->load.turns++;
    if (!done) {
        l->load.idle_cycles += end - begin;
        return;
    }
    l->load.busy_turns++;
    l->load.busy_cycles += end - begin;
    us = lcore_tsc_to_us(l->shared, end - begin);
    if (us > l->load.longest_us)
        l->load.longest_us = us;
}

static void obey_flags(struct lcore *l)
{
    if (!atomic_load_explicit(&l->shared->drain, memory_order_relaxed))
        return;
    if (!l->drained) {
        worker_drain(l->worker);
        stack_leave(l->stack);
    }
    l->drained = true;
    atomic_store_explicit(&l->quiet, worker_is_quiet(l->worker), memory_order_relaxed);
}

static int run(void *argument)
{
    struct lcore *l = argument;
    struct lcore_shared *shared = l->shared;
    uint64_t tsc = rte_rdtsc(), begin = tsc;
    unsigned done;

    prctl(PR_SET_TIMERSLACK, 1000); /* ns: sleeps of microseconds are meant */
    if (l->index == 0)
        stack_announce(l->stack);
    atomic_fetch_add(&shared->running, 1);
    while (!atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
        l->now = lcore_time_at(shared, tsc);
        done = poll_ports(l);
        done += poll_rings(l);
        done += lcore_poll_resolver(l);
        done += lcore_poll_news(l);
        done += lcore_poll_mail(l);
        stack_advance(l->stack, l->now);
        done += worker_advance(l->worker, l->now);
        flush(l);
        obey_flags(l);
        if (done)
            l->idle_turns = 0;
        else
            idle(l);
        tsc = rte_rdtsc();
        account(l, begin, tsc, done);
        begin = tsc;
    }
    flush(l);
    atomic_fetch_sub(&shared->running, 1);
    return 0;
}

/* ---- start and end ---- */

static int make_parts(struct lcore *l)
{
    struct lcore_shared *shared = l->shared;
    struct worker_setup ws = {.config = shared->config,
                              .modules = shared->modules,
                              .credentials = credentials_take(shared->credentials),
                              .index = l->index,
                              .count = shared->config->workers,
                              .shared_key = shared->shared_key,
                              .mid_key = shared->mid_key,
                              .life = shared->life,
                              .number_floor = shared->number_floor,
                              .journal = shared->journal};
    struct stack_setup ss = {.config = shared->config,
                             .interfaces = shared->interfaces,
                             .steer = shared->steer,
                             .index = l->index,
                             .count = shared->config->workers,
                             .pool = shared->pool,
                             .counters = &l->device,
                             .transmit = transmit,
                             .hand_over = hand_over,
                             .resolve = shared->resolver.ask ? lcore_resolve : NULL,
                             .changed = l->workers > 1 ? lcore_changed : NULL,
                             .tell = lcore_tell,
                             .room = lcore_room,
                             .parcels = shared->parcels,
                             .context = l};

    l->outboxes = calloc(l->ports, sizeof(*l->outboxes));
    l->handboxes = calloc(l->workers, sizeof(*l->handboxes));
    if (!l->outboxes || !l->handboxes)
        return -ENOMEM;
    if (getrandom(ws.seed, sizeof(ws.seed), 0) != (ssize_t)sizeof(ws.seed))
        return -EIO;
    l->stack = stack_create(&ss, l->now);
    if (!l->stack)
        return -errno;
    ws.io = stack_io(l->stack);
    l->worker = worker_create(&ws, l->now);
    if (!l->worker)
        return -errno;
    stack_attach(l->stack, l->worker);
    return 0;
}

struct lcore *lcore_create(struct lcore_shared *shared, unsigned index)
{
    struct lcore *l = aligned_alloc(64, sizeof(*l));
    int err;

    if (!l)
        return NULL;
    memset(l, 0, sizeof(*l));
    l->shared = shared;
    l->index = index;
    l->workers = shared->config->workers;
    l->ports = shared->config->interface_count;
    l->now = lcore_now_us(shared);
    err = make_parts(l);
    if (err) {
        lcore_destroy(l);
        errno = -err;
        return NULL;
    }
    return l;
}

void lcore_destroy(struct lcore *l)
{
    if (!l)
        return;
    worker_destroy(l->worker);
    stack_destroy(l->stack);
    free(l->handboxes);
    free(l->outboxes);
    free(l);
}

int lcore_launch(struct lcore *l)
{
    return rte_eal_remote_launch(run, l, EAL_WORKER_LCORE(l->index));
}

void lcore_join(struct lcore *l)
{
    rte_eal_wait_lcore(EAL_WORKER_LCORE(l->index));
}

bool lcore_is_quiet(const struct lcore *l)
{
    return atomic_load_explicit(&l->quiet, memory_order_relaxed);
}
