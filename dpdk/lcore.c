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
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_pause.h>

#include "dpdk/eal.h"

#define TSC_SHIFT 32

/* Packets that wait in a ring between two workers. */
#define RING_PACKETS 4096

/* Changed resources that a worker has been told of and has not looked at yet. */
#define RING_NEWS 4096

/* Parcels between two workers. */
#define RING_MAIL 1024

/* Parcels of one source that are looked at in one turn: some of them send. */
#define MAIL_PER_TURN 64

/* Idle turns that only pause, before the first sleep; then sleeps grow to the longest. The first
 * packet after a silence waits that long at the most. A worker that hands a packet over wakes the
 * taker, so that it does not wait twice. */
#define IDLE_SPINS       2000
#define SLEEP_FIRST_US   20
#define SLEEP_LONGEST_US 750

/* Outgoing packets of one port that have been collected in this turn. */
struct outbox {
    uint16_t count;
    struct rte_mbuf *packets[WORKER_BURST];
};

/* Packets for another worker that have been collected in this turn. */
struct handbox {
    uint16_t count;
    struct rte_mbuf *packets[WORKER_BURST];
};

struct lcore {
    struct lcore_shared *shared;
    unsigned index, workers, ports;
    struct stack *stack;
    struct worker *worker;
    struct outbox *outboxes;   /* by port */
    struct handbox *handboxes; /* by worker */
    uint64_t now;
    unsigned idle_turns;
    bool drained;
    atomic_bool quiet;
    struct lcore_load load;
    struct counters device; /* of the stack and of this loop; the worker has its own */
} __attribute__((aligned(64)));

/* ---- time ---- */

static uint64_t tsc_to_us(const struct lcore_shared *shared, uint64_t tsc)
{
    return (uint64_t)(((unsigned __int128)tsc * shared->us_per_tsc) >> TSC_SHIFT);
}

static uint64_t time_at(const struct lcore_shared *shared, uint64_t tsc)
{
    return shared->origin_us + tsc_to_us(shared, tsc - shared->origin_tsc);
}

uint64_t lcore_now_us(const struct lcore_shared *shared)
{
    return time_at(shared, rte_rdtsc());
}

static uint64_t wall_clock_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- shared ---- */

static struct rte_ring *make_ring(const char *kind, unsigned from, unsigned to, unsigned count)
{
    char name[RTE_RING_NAMESIZE];

    snprintf(name, sizeof(name), "%s-%u-%u", kind, from, to);
    return rte_ring_create(name, count, (int)rte_socket_id(), RING_F_SP_ENQ | RING_F_SC_DEQ);
}

int lcore_shared_init(struct lcore_shared *shared)
{
    unsigned n = shared->config->workers;

    shared->origin_us = wall_clock_us();
    if (shared->origin_us <= shared->clock_us) /* the clock has been set back meanwhile */
        shared->origin_us = shared->clock_us + 1;
    shared->origin_tsc = rte_rdtsc();
    if (getrandom(&shared->shared_key, sizeof(shared->shared_key), 0) !=
        (ssize_t)sizeof(shared->shared_key))
        return -EIO;
    shared->us_per_tsc = (uint64_t)(((unsigned __int128)1000000 << TSC_SHIFT) / rte_get_tsc_hz());
    for (unsigned from = 0; from < n; from++)
        for (unsigned to = 0; to < n; to++) {
            if (from == to)
                continue;
            shared->rings[from][to] = make_ring("hand", from, to, RING_PACKETS);
            shared->news[from][to] = make_ring("news", from, to, RING_NEWS);
            shared->mail[from][to] = make_ring("mail", from, to, RING_MAIL);
            if (!shared->rings[from][to] || !shared->news[from][to] || !shared->mail[from][to]) {
                int err = rte_errno ? rte_errno : ENOMEM;

                lcore_shared_fini(shared);
                return -err;
            }
        }
    return 0;
}

void lcore_shared_fini(struct lcore_shared *shared)
{
    for (unsigned from = 0; from < CONFIG_WORKERS_MAX; from++)
        for (unsigned to = 0; to < CONFIG_WORKERS_MAX; to++) {
            struct rte_ring *ring = shared->rings[from][to];
            void *packet, *parcel;

            while (ring && rte_ring_dequeue(ring, &packet) == 0)
                rte_pktmbuf_free(packet);
            rte_ring_free(ring);
            rte_ring_free(shared->news[from][to]);
            ring = shared->mail[from][to];
            while (ring && rte_ring_dequeue(ring, &parcel) == 0)
                parcel_free(shared->parcels, parcel);
            rte_ring_free(ring);
            shared->rings[from][to] = shared->news[from][to] = shared->mail[from][to] = NULL;
        }
}

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

/* Only a worker that has been idle for long sleeps: under load this reads one line and does
 * nothing. */
static void wake(struct lcore_shared *shared, unsigned worker)
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
    wake(l->shared, to);
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

static bool resolve(void *context, const char *name, size_t length, uint32_t id)
{
    const struct lcore *l = context;
    const struct lcore_resolver *r = &l->shared->resolver;

    return r->ask(r->resolver, l->index, name, length, id);
}

/* A resource was changed through this worker: rare beside packets, so each is passed on at once. */
static void changed(void *context, uint64_t uri)
{
    struct lcore *l = context;

    for (unsigned to = 0; to < l->workers; to++) {
        if (to == l->index)
            continue;
        if (rte_ring_enqueue(l->shared->news[l->index][to], (void *)(uintptr_t)uri) != 0)
            atomic_store(&l->shared->news_lost[to], true);
        wake(l->shared, to);
    }
}

static unsigned poll_news(struct lcore *l)
{
    void *got[WORKER_BURST];
    uint64_t uris[WORKER_BURST];
    unsigned total = 0;

    if (l->workers == 1)
        return 0;
    for (unsigned from = 0; from < l->workers; from++) {
        unsigned n;

        if (from == l->index)
            continue;
        n = rte_ring_dequeue_burst(l->shared->news[from][l->index], got, WORKER_BURST, NULL);
        if (n == 0)
            continue;
        for (unsigned i = 0; i < n; i++)
            uris[i] = (uintptr_t)got[i];
        worker_changed(l->worker, uris, n, l->now);
        total += n;
    }
    if (atomic_load_explicit(&l->shared->news_lost[l->index], memory_order_relaxed) &&
        atomic_exchange(&l->shared->news_lost[l->index], false))
        worker_forget(l->worker, l->now);
    return total;
}

/* ---- parcels ---- */

static bool tell_office(const struct lcore_office *office, unsigned worker, struct parcel *parcel)
{
    return office->tell && office->tell(office->context, worker, parcel);
}

static bool tell(void *context, unsigned to, struct parcel *parcel)
{
    struct lcore *l = context;

    parcel->from = (uint16_t)l->index;
    if (to == PARCEL_STORE)
        return tell_office(&l->shared->store, l->index, parcel);
    if (to == PARCEL_CONTROL)
        return tell_office(&l->shared->control, l->index, parcel);
    if (to >= l->workers || to == l->index ||
        rte_ring_enqueue(l->shared->mail[l->index][to], parcel) != 0)
        return false;
    wake(l->shared, to);
    return true;
}

static unsigned room(void *context, unsigned to)
{
    const struct lcore *l = context;

    return to < l->workers && to != l->index ? rte_ring_free_count(l->shared->mail[l->index][to])
                                             : 0;
}

static unsigned poll_office(struct lcore *l, const struct lcore_office *office)
{
    struct parcel *parcel;
    unsigned n = 0;

    while (office->take && n < MAIL_PER_TURN &&
           (parcel = office->take(office->context, l->index)) != NULL) {
        worker_told(l->worker, parcel, l->now);
        n++;
    }
    return n;
}

static unsigned poll_mail(struct lcore *l)
{
    void *got[MAIL_PER_TURN];
    unsigned total = poll_office(l, &l->shared->store) + poll_office(l, &l->shared->control);

    for (unsigned from = 0; from < l->workers; from++) {
        unsigned n;

        if (from == l->index)
            continue;
        n = rte_ring_dequeue_burst(l->shared->mail[from][l->index], got, MAIL_PER_TURN, NULL);
        for (unsigned i = 0; i < n; i++)
            worker_told(l->worker, got[i], l->now);
        total += n;
    }
    return total;
}

static unsigned poll_resolver(struct lcore *l)
{
    const struct lcore_resolver *r = &l->shared->resolver;
    struct resolved answer;
    unsigned n = 0;

    while (r->take && n < WORKER_BURST && r->take(r->resolver, l->index, &answer)) {
        worker_resolved(l->worker, &answer, l->now);
        n++;
    }
    return n;
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
    us = tsc_to_us(l->shared, end - begin);
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
        l->now = time_at(shared, tsc);
        done = poll_ports(l);
        done += poll_rings(l);
        done += poll_resolver(l);
        done += poll_news(l);
        done += poll_mail(l);
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
                              .index = l->index,
                              .count = shared->config->workers,
                              .shared_key = shared->shared_key,
                              .mid_key = shared->mid_key,
                              .number_floor = shared->number_floor};
    struct stack_setup ss = {.config = shared->config,
                             .interfaces = shared->interfaces,
                             .steer = shared->steer,
                             .index = l->index,
                             .count = shared->config->workers,
                             .pool = shared->pool,
                             .counters = &l->device,
                             .transmit = transmit,
                             .hand_over = hand_over,
                             .resolve = shared->resolver.ask ? resolve : NULL,
                             .changed = l->workers > 1 ? changed : NULL,
                             .tell = tell,
                             .room = room,
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

/* ---- what it says of itself ---- */

void lcore_counters(const struct lcore *l, struct counters *sum)
{
    counters_add(sum, &l->device);
    counters_add(sum, worker_counters(l->worker));
}

static uint64_t peek(const uint64_t *value)
{
    return __atomic_load_n(value, __ATOMIC_RELAXED);
}

void lcore_load(const struct lcore *l, struct worker_load *load)
{
    uint64_t begun = peek(&l->now), now = lcore_now_us(l->shared);

    *load = (struct worker_load){
        .turns = peek(&l->load.turns),
        .busy_turns = peek(&l->load.busy_turns),
        .sleeps = peek(&l->load.sleeps),
        .busy_us = tsc_to_us(l->shared, peek(&l->load.busy_cycles)),
        .idle_us = tsc_to_us(l->shared, peek(&l->load.idle_cycles)),
        .longest_us = peek(&l->load.longest_us),
        .turn_age_us = now > begun ? now - begun : 0,
    };
}

void lcore_print(const struct lcore *l, FILE *out)
{
    const struct lcore_load *load = &l->load;
    struct counters sum = {0};
    struct worker_usage use;
    char prefix[32];
    uint64_t cycles = load->busy_cycles + load->idle_cycles;

    snprintf(prefix, sizeof(prefix), "worker %u", l->index);
    lcore_counters(l, &sum);
    counters_print(&sum, prefix, out);
    worker_usage(l->worker, &use);
    fprintf(
        out,
        "%s in use: sessions %u of %u, exchanges %u of %u, forwards %u of %u, outbound %u of %u, "
        "remembered %u of %u, chunks %u of %u, timers %llu\n",
        prefix, use.sessions, use.sessions_max, use.exchanges, use.exchanges_max, use.forwards,
        use.forwards_max, use.outbound, use.outbound_max, use.remembered, use.remembered_max,
        use.chunks, use.chunks_max, (unsigned long long)use.timers);
    fprintf(out, "%s busy %.1f %% of its time, %llu turns, %llu sleeps, longest turn %llu us\n",
            prefix, cycles ? 100.0 * (double)load->busy_cycles / (double)cycles : 0.0,
            (unsigned long long)load->turns, (unsigned long long)load->sleeps,
            (unsigned long long)load->longest_us);
}
