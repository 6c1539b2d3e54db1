#include "gateway/control/resolver.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <ares.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "gateway/control/dns_answer.h"

#define TRIES 2

/* Sockets of a question: one for each server that it has come to, two when an answer was too long
 * for UDP. c-ares tells of so many; for those beyond, the timeout must do. */
#define SOCKETS_MAX ARES_GETSOCK_MAXNUM

/* What a worker asks and what it gets. Records belong to the worker while they are free, to the
 * thread from when they are in the ring of asks until they are in the ring of answers. */
struct ask {
    struct ask *next; /* of those who wait for the same name */
    uint32_t index;   /* in its channel's `asks` */
    uint32_t worker;
    uint32_t id;
    uint8_t length;
    char name[RESOLVER_NAME_MAX];
    struct resolved answer;
};

/* Between a worker and the thread. The rings hold indices of asks, and have room for all of them:
 * neither is ever full. */
struct channel {
    struct rte_ring *asked, *answered;
    struct ask asks[RESOLVER_OPEN_MAX];
    /* The worker's own: the asks that are free, as a stack. */
    unsigned free_count __attribute__((aligned(64)));
    uint32_t free_asks[RESOLVER_OPEN_MAX];
} __attribute__((aligned(64)));

/* A name that is being asked for. A slot for which nobody waits is free. */
struct question {
    struct ask *waiting;
    ares_channel ares; /* NULL: nobody is asked */
    uint64_t deadline_ms;
    bool starting; /* within ares_getaddrinfo() */
    bool done;     /* `answer` is complete, but for its id */
    uint8_t length;
    char name[RESOLVER_NAME_MAX + 1];
    struct resolved answer;
};

struct resolver {
    struct resolver_setup setup;
    struct channel *channels;   /* by worker */
    struct question *questions; /* RESOLVER_UNDER_WAY_MAX slots */
    struct pollfd *polled;      /* [0] is `bell` */
    uint16_t *polled_for;       /* by the index in `polled`: the question */
    unsigned under_way;
    unsigned turn; /* the worker whose question is next */
    int bell;      /* an eventfd, rung by who has put something into a ring */
    pthread_t thread;
    bool running;
    atomic_bool stop;
    atomic_ullong asked, joined, found, absent, failed; /* for resolver_print() */
};

static void count(atomic_ullong *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void ring_bell(struct resolver *r)
{
    const uint64_t one = 1;

    /* It can only fail when the bell has been rung 2^64 - 2 times and not been heard. */
    (void)!write(r->bell, &one, sizeof(one));
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- the worker's side ---- */

bool resolver_ask(struct resolver *r, unsigned worker, const char *name, size_t length, uint32_t id)
{
    struct channel *channel = &r->channels[worker];
    struct ask *ask;

    if (length == 0 || length > RESOLVER_NAME_MAX || channel->free_count == 0)
        return false;
    ask = &channel->asks[channel->free_asks[--channel->free_count]];
    ask->id = id;
    ask->length = (uint8_t)length;
    memcpy(ask->name, name, length);
    rte_ring_sp_enqueue_elem(channel->asked, &ask->index, sizeof(ask->index));
    /* A system call, the only one of a worker that has something to do. A name is asked for when a
     * destination is first used and when its TTL has run out, which is no part of the packet path;
     * the thread can sleep for it without waking up in between. */
    ring_bell(r);
    return true;
}

bool resolver_take(struct resolver *r, unsigned worker, struct resolved *answer)
{
    struct channel *channel = &r->channels[worker];
    uint32_t index;

    if (channel->free_count == RESOLVER_OPEN_MAX ||
        rte_ring_sc_dequeue_elem(channel->answered, &index, sizeof(index)) != 0)
        return false;
    *answer = channel->asks[index].answer;
    channel->free_asks[channel->free_count++] = index;
    return true;
}

/* ---- asking ---- */

static void fail_question(struct question *q, int error)
{
    dns_answer_fail(&q->answer, error);
    q->done = true;
}

/* c-ares calls this exactly once for each question, at the latest in ares_destroy(). */
static void found(void *argument, int status, int timeouts, struct ares_addrinfo *info)
{
    struct question *q = argument;

    (void)timeouts;
    if (!q->done)
        dns_answer_read(&q->answer, status, info, q->starting);
    q->done = true;
    ares_freeaddrinfo(info);
}

/* What host names consist of (RFC 1123 2.1), and "_". All else is refused rather than asked for: to
 * c-ares a zero ends the name and a backslash escapes, so that a name which was allowed could
 * become another one. */
static bool is_host_name(const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        char c = name[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '.' && c != '_')
            return false;
    }
    return true;
}

/* No search domains, no HOSTALIASES: a name stands for itself. */
static int make_channel(const struct resolver_setup *setup, ares_channel *out)
{
    struct ares_options options = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
        .timeout = (int)setup->timeout_ms,
        .tries = TRIES,
        .ndots = 0,
        .ndomains = 0,
        .lookups = (char[]){"fb"},
    };
    int status = ares_init_options(out, &options,
                                   ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
                                       ARES_OPT_NDOTS | ARES_OPT_DOMAINS | ARES_OPT_LOOKUPS);

    if (status != ARES_SUCCESS) {
        *out = NULL;
        return status;
    }
    if (setup->servers)
        status = ares_set_servers_ports_csv(*out, setup->servers);
    if (status != ARES_SUCCESS) {
        ares_destroy(*out);
        *out = NULL;
    }
    return status;
}

static void start_question(struct resolver *r, struct question *q)
{
    /* Sorting would order by this host's own routes, which are not the gateway's. */
    static const struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT,
                                                     .ai_family = AF_UNSPEC};
    int status;

    count(&r->asked);
    if (!is_host_name(q->name, q->length)) {
        fail_question(q, -ENOENT);
        return;
    }
    status = make_channel(&r->setup, &q->ares);
    if (status != ARES_SUCCESS) {
        fail_question(q, dns_answer_error(status));
        return;
    }
    q->starting = true;
    ares_getaddrinfo(q->ares, q->name, NULL, &hints, found, q);
    q->starting = false;
}

/* The question for the same name, or a free slot. */
static struct question *question_of(struct resolver *r, const struct ask *ask)
{
    struct question *unused = NULL;

    for (unsigned i = 0; i < RESOLVER_UNDER_WAY_MAX; i++) {
        struct question *q = &r->questions[i];

        if (!q->waiting)
            unused = q;
        else if (q->length == ask->length && memcmp(q->name, ask->name, ask->length) == 0)
            return q;
    }
    return unused;
}

/* A slot is free when this is called. */
static void take_ask(struct resolver *r, struct ask *ask)
{
    struct question *q = question_of(r, ask);

    if (q->waiting) {
        count(&r->joined);
        ask->next = q->waiting;
        q->waiting = ask;
        return;
    }
    memset(q, 0, sizeof(*q));
    q->length = ask->length;
    memcpy(q->name, ask->name, ask->length);
    q->deadline_ms = now_ms() + RESOLVER_PATIENCE_MS;
    ask->next = NULL;
    q->waiting = ask;
    r->under_way++;
    start_question(r, q);
}

/* One of each worker by turns, until there is no more or no slot is free. */
static void take_asks(struct resolver *r)
{
    unsigned empty = 0;

    while (empty < r->setup.workers && r->under_way < RESOLVER_UNDER_WAY_MAX) {
        struct channel *channel = &r->channels[r->turn];
        uint32_t index;

        r->turn = (r->turn + 1) % r->setup.workers;
        if (rte_ring_sc_dequeue_elem(channel->asked, &index, sizeof(index)) == 0) {
            take_ask(r, &channel->asks[index]);
            empty = 0;
        } else {
            empty++;
        }
    }
}

/* ---- answering ---- */

static void give_answer(struct resolver *r, struct question *q)
{
    count(q->answer.error == 0 ? &r->found : q->answer.error == -ENOENT ? &r->absent : &r->failed);
    while (q->waiting) {
        struct ask *ask = q->waiting;

        q->waiting = ask->next;
        ask->answer = q->answer;
        ask->answer.id = ask->id;
        rte_ring_sp_enqueue_elem(r->channels[ask->worker].answered, &ask->index,
                                 sizeof(ask->index));
    }
}

static void drop_question(struct resolver *r, struct question *q)
{
    q->done = true; /* what found() is still told does not matter */
    ares_destroy(q->ares);
    q->ares = NULL;
    q->waiting = NULL;
    r->under_way--;
}

/* Not from within c-ares' call of found(): a channel must not be destroyed there. True when slots
 * have become free. */
static bool give_answers(struct resolver *r)
{
    bool any = false;

    for (unsigned i = 0; i < RESOLVER_UNDER_WAY_MAX; i++) {
        struct question *q = &r->questions[i];

        if (!q->waiting || !q->done)
            continue;
        give_answer(r, q);
        drop_question(r, q);
        any = true;
    }
    return any;
}

/* ---- waiting ---- */

static nfds_t poll_question(struct resolver *r, unsigned index, nfds_t n)
{
    ares_socket_t sockets[SOCKETS_MAX];
    unsigned bits = (unsigned)ares_getsock(r->questions[index].ares, sockets, SOCKETS_MAX);

    for (unsigned i = 0; i < SOCKETS_MAX; i++) {
        short events = 0;

        if (ARES_GETSOCK_READABLE(bits, i))
            events |= POLLIN;
        if (ARES_GETSOCK_WRITABLE(bits, i))
            events |= POLLOUT;
        if (!events)
            break;
        r->polled[n] = (struct pollfd){.fd = sockets[i], .events = events};
        r->polled_for[n++] = (uint16_t)index;
    }
    return n;
}

/* How long the question may sleep: until c-ares' next try or the deadline. */
static uint64_t sleep_ms(const struct question *q, uint64_t now)
{
    uint64_t left = q->deadline_ms > now ? q->deadline_ms - now : 0;
    struct timeval most = {.tv_sec = (time_t)(left / 1000),
                           .tv_usec = (suseconds_t)(left % 1000 * 1000)};
    struct timeval buffer, *time = ares_timeout(q->ares, &most, &buffer);

    /* Rounded up: a poll() that ends a moment too early would spin. */
    return (uint64_t)time->tv_sec * 1000 + (uint64_t)time->tv_usec / 1000 + 1;
}

static nfds_t sleep_until_due(struct resolver *r, bool at_once)
{
    uint64_t now = now_ms(), left = UINT64_MAX, rung;
    nfds_t n = 1;

    r->polled[0] = (struct pollfd){.fd = r->bell, .events = POLLIN};
    for (unsigned i = 0; i < RESOLVER_UNDER_WAY_MAX; i++) {
        const struct question *q = &r->questions[i];
        uint64_t ms;

        if (!q->waiting) /* none is done: give_answers() comes before */
            continue;
        n = poll_question(r, i, n);
        ms = sleep_ms(q, now);
        if (ms < left)
            left = ms;
    }
    if (poll(r->polled, n, at_once ? 0 : left == UINT64_MAX ? -1 : (int)left) <= 0)
        return 0;
    /* Heard before the rings are looked at: who puts something in later rings again. */
    if (r->polled[0].revents)
        (void)!read(r->bell, &rung, sizeof(rung));
    return n;
}

/* Gives c-ares the sockets that are ready and the time. A descriptor that has been closed
 * meanwhile, and even opened anew for another question, does no harm: c-ares asks each channel for
 * its own sockets, and none of them blocks. */
static void make_progress(struct resolver *r, nfds_t polled)
{
    uint64_t now;

    for (nfds_t i = 1; i < polled; i++) {
        const struct pollfd *p = &r->polled[i];

        if (p->revents)
            ares_process_fd(r->questions[r->polled_for[i]].ares,
                            p->revents & ~POLLOUT ? p->fd : ARES_SOCKET_BAD,
                            p->revents & POLLOUT ? p->fd : ARES_SOCKET_BAD);
    }
    now = now_ms();
    for (unsigned i = 0; i < RESOLVER_UNDER_WAY_MAX; i++) {
        struct question *q = &r->questions[i];

        if (!q->waiting || q->done)
            continue;
        ares_process_fd(q->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
        if (!q->done && now >= q->deadline_ms)
            fail_question(q, -ETIMEDOUT);
    }
}

static void *run(void *argument)
{
    struct resolver *r = argument;
    bool freed;

    pthread_setname_np(pthread_self(), "resolver");
    while (!atomic_load(&r->stop)) {
        take_asks(r);
        freed = give_answers(r);
        make_progress(r, sleep_until_due(r, freed));
    }
    for (unsigned i = 0; i < RESOLVER_UNDER_WAY_MAX; i++)
        if (r->questions[i].waiting)
            drop_question(r, &r->questions[i]);
    return NULL;
}

/* ---- start and end ---- */

/* Plain memory, not the EAL's: the resolver is made before it. */
static struct rte_ring *make_ring(const char *name)
{
    const unsigned size = rte_align32pow2(RESOLVER_OPEN_MAX + 1);
    ssize_t bytes = rte_ring_get_memsize_elem(sizeof(uint32_t), size);
    struct rte_ring *ring = NULL;

    if (bytes > 0)
        ring = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN((size_t)bytes, RTE_CACHE_LINE_SIZE));
    if (ring && rte_ring_init(ring, name, size, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
        free(ring);
        ring = NULL;
    }
    return ring;
}

static int make_channels(struct resolver *r)
{
    const size_t bytes = r->setup.workers * sizeof(*r->channels);

    r->channels = aligned_alloc(64, bytes);
    if (!r->channels)
        return -ENOMEM;
    memset(r->channels, 0, bytes);
    for (unsigned worker = 0; worker < r->setup.workers; worker++) {
        struct channel *channel = &r->channels[worker];

        for (uint32_t i = 0; i < RESOLVER_OPEN_MAX; i++) {
            channel->asks[i].index = channel->free_asks[i] = i;
            channel->asks[i].worker = worker;
        }
        channel->free_count = RESOLVER_OPEN_MAX;
        channel->asked = make_ring("asked");
        channel->answered = make_ring("answered");
        if (!channel->asked || !channel->answered)
            return -ENOMEM;
    }
    return 0;
}

/* A channel for trial, so that a bad list of servers is known at start. */
static int try_servers(const struct resolver *r)
{
    ares_channel ares;
    int status = make_channel(&r->setup, &ares);

    if (status == ARES_SUCCESS)
        ares_destroy(ares);
    return status == ARES_SUCCESS ? 0 : status == ARES_ENOMEM ? -ENOMEM : -EINVAL;
}

static int make_parts(struct resolver *r)
{
    const unsigned sockets = 1 + RESOLVER_UNDER_WAY_MAX * SOCKETS_MAX;

    r->questions = calloc(RESOLVER_UNDER_WAY_MAX, sizeof(*r->questions));
    r->polled = calloc(sockets, sizeof(*r->polled));
    r->polled_for = calloc(sockets, sizeof(*r->polled_for));
    if (!r->questions || !r->polled || !r->polled_for)
        return -ENOMEM;
    r->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->bell < 0)
        return -errno;
    return make_channels(r);
}

struct resolver *resolver_create(const struct resolver_setup *setup)
{
    struct resolver *r;
    int err;

    if (setup->workers == 0) {
        errno = EINVAL;
        return NULL;
    }
    r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->setup = *setup;
    r->bell = -1;
    if (r->setup.timeout_ms == 0)
        r->setup.timeout_ms = RESOLVER_TIMEOUT_MS;
    err = ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS ? try_servers(r) : -EIO;
    if (!err)
        err = make_parts(r);
    if (err) {
        resolver_destroy(r);
        errno = -err;
        return NULL;
    }
    return r;
}

int resolver_start(struct resolver *r)
{
    int err = pthread_create(&r->thread, NULL, run, r);

    r->running = err == 0;
    return -err;
}

void resolver_destroy(struct resolver *r)
{
    if (!r)
        return;
    if (r->running) {
        atomic_store(&r->stop, true);
        ring_bell(r);
        pthread_join(r->thread, NULL);
    }
    for (unsigned i = 0; r->channels && i < r->setup.workers; i++) {
        free(r->channels[i].asked);
        free(r->channels[i].answered);
    }
    if (r->bell >= 0)
        close(r->bell);
    free(r->channels);
    free(r->questions);
    free(r->polled);
    free(r->polled_for);
    free(r);
    ares_library_cleanup();
}

void resolver_status(const struct resolver *r, struct resolver_status *status)
{
    *status = (struct resolver_status){
        .asked = atomic_load(&r->asked),
        .joined = atomic_load(&r->joined),
        .found = atomic_load(&r->found),
        .absent = atomic_load(&r->absent),
        .failed = atomic_load(&r->failed),
    };
}

void resolver_print(const struct resolver *r, FILE *out)
{
    struct resolver_status s;

    resolver_status(r, &s);
    fprintf(
        out,
        "resolver: %llu names asked for, %llu more joined; %llu found, %llu absent, %llu failed\n",
        (unsigned long long)s.asked, (unsigned long long)s.joined, (unsigned long long)s.found,
        (unsigned long long)s.absent, (unsigned long long)s.failed);
}
