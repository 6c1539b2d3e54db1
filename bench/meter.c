#include "bench/meter.h"

#include <linux/perf_event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <rte_cycles.h>

#define CACHE_EVENT(cache, operation, result) ((cache) | (operation) << 8 | (result) << 16)

static const struct {
    uint32_t type;
    uint64_t config;
} events[METER_EVENTS] = {
    [METER_CYCLES] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
    [METER_INSTRUCTIONS] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
    [METER_L1_MISSES] = {PERF_TYPE_HW_CACHE,
                         CACHE_EVENT(PERF_COUNT_HW_CACHE_L1D, PERF_COUNT_HW_CACHE_OP_READ,
                                     PERF_COUNT_HW_CACHE_RESULT_MISS)},
    [METER_LLC_MISSES] = {PERF_TYPE_HW_CACHE,
                          CACHE_EVENT(PERF_COUNT_HW_CACHE_LL, PERF_COUNT_HW_CACHE_OP_READ,
                                      PERF_COUNT_HW_CACHE_RESULT_MISS)},
};

#define OWN_TRIES 200

static uint64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The shortest of some pieces in which nothing is done. */
static uint64_t own_ns(void)
{
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < OWN_TRIES; i++) {
        uint64_t begun = cpu_ns(), took = cpu_ns() - begun;

        if (took < least)
            least = took;
    }
    return least;
}

void meter_open(struct meter *meter)
{
    memset(meter, 0, sizeof(*meter));
    for (unsigned i = 0; i < METER_EVENTS; i++) {
        struct perf_event_attr attr = {.size = sizeof(attr),
                                       .type = events[i].type,
                                       .config = events[i].config,
                                       .exclude_kernel = 1,
                                       .exclude_hv = 1};

        meter->fds[i] = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    }
    meter->own_ns = own_ns();
}

void meter_close(struct meter *meter)
{
    for (unsigned i = 0; i < METER_EVENTS; i++)
        if (meter->fds[i] >= 0)
            close(meter->fds[i]);
}

void meter_reset(struct meter *meter)
{
    memset(meter->sum, 0, sizeof(meter->sum));
    memset(meter->samples, 0, sizeof(meter->samples));
    meter->ns = meter->marked_ns = 0;
    meter->operations = meter->marks = 0;
}

static uint64_t count_of(int fd)
{
    uint64_t count = 0;

    return fd >= 0 && read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count) ? count : 0;
}

void meter_start(struct meter *meter)
{
    for (unsigned i = 0; i < METER_EVENTS; i++)
        meter->begun[i] = count_of(meter->fds[i]);
    meter->begun_ns = cpu_ns();
}

void meter_stop(struct meter *meter)
{
    uint64_t took = cpu_ns() - meter->begun_ns;

    meter->ns += took > meter->own_ns ? took - meter->own_ns : 0;
    for (unsigned i = 0; i < METER_EVENTS; i++)
        meter->sum[i] += count_of(meter->fds[i]) - meter->begun[i];
}

/* More marks than samples: they are put together, here and there one. */
void meter_mark(struct meter *meter, uint64_t operations)
{
    struct meter_sample *sample = &meter->samples[meter->marks++ % METER_SAMPLES];

    sample->ns += meter->ns - meter->marked_ns;
    sample->operations += operations;
    meter->marked_ns = meter->ns;
    meter->operations += operations;
}

static double cost(const struct meter_sample *sample)
{
    return (double)sample->ns / (double)(sample->operations ? sample->operations : 1);
}

static int compare(const void *a, const void *b)
{
    double x = cost(a), y = cost(b);

    return x < y ? -1 : x > y;
}

double meter_ns_each(struct meter *meter)
{
    uint64_t count = meter->marks < METER_SAMPLES ? meter->marks : METER_SAMPLES;
    struct meter_sample sum = {0};

    qsort(meter->samples, count, sizeof(meter->samples[0]), compare);
    for (uint64_t i = 0; i < count - count / 20; i++) {
        sum.ns += meter->samples[i].ns;
        sum.operations += meter->samples[i].operations;
    }
    return cost(&sum);
}

double meter_ns_to_tsc(double ns)
{
    return ns * (double)rte_get_tsc_hz() / 1e9;
}

/* ---- instructions one by one ---- */

volatile bool meter_step_paused;
static volatile uint64_t steps;

#ifdef __x86_64__

#define TRAP_FLAG 0x100ul /* of the flags register: an exception after each instruction */

/* A string instruction stops after each of its repetitions, with itself as the next one: it counts
 * once, as the processor's counters have it. */
static void on_step(int signal, siginfo_t *info, void *context)
{
    static greg_t last;
    greg_t next = ((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];

    (void)signal;
    (void)info;
    if (!meter_step_paused && next != last)
        steps++;
    last = next;
}

/* The stack below its pointer may be in use (the ABI's red zone): stay clear of it. */
static inline void trap(bool on)
{
    unsigned long flags;

    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\tpopq %0\n\tlea 128(%%rsp), %%rsp"
                     : "=r"(flags)
                     :
                     : "memory");
    flags = on ? flags | TRAP_FLAG : flags & ~TRAP_FLAG;
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushq %0\n\tpopfq\n\tlea 128(%%rsp), %%rsp"
                     :
                     : "r"(flags)
                     : "memory", "cc");
}

bool meter_can_step(void)
{
    return true;
}

void meter_step_begin(void)
{
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};

    sigaction(SIGTRAP, &action, NULL);
    steps = 0;
    meter_step_paused = false;
    trap(true);
}

uint64_t meter_step_end(void)
{
    trap(false);
    return steps;
}

#else

bool meter_can_step(void)
{
    return false;
}

void meter_step_begin(void) {}

uint64_t meter_step_end(void)
{
    return 0;
}

#endif
