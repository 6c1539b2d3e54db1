/* The simulator: whole workers, clients and origins in virtual time, over a network that loses,
 * repeats, delays and reorders. Everything follows from a seed, so that a failing run can be
 * replayed.
 *
 *   stage.c    time, the network, the workers, which can be killed and started again
 *   post.c     what workers tell each other
 *   vault.c    the store that they write through
 *   watch.c    looks at every datagram that the gateway emits
 *   world.c    the scenario "messages"; client.c and origin.c are in it
 *   dtls*.c    the scenario "dtls"
 *   fleet*.c   devices and servers of the other scenarios, one file and more for each of those
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rte_eal.h>

#include "tests/sim/fleet.h"
#include "tests/sim/sim.h"

#define JOBS_MAX 16

/* 0, or 1 with the violation on stderr. */
typedef int scenario_run(uint64_t seed, bool trace);

static const struct scenario {
    const char *name;
    scenario_run *run;
} scenarios[] = {
    {"messages", world_run},      {"observe", observe_run}, {"blockwise", blockwise_run},
    {"cache", cache_run},         {"balance", balance_run}, {"restart", restart_run},
    {"resources", resources_run}, {"once", once_run},       {"twice", twice_run},
    {"dtls", dtls_run},
};

static const char usage[] =
    "usage: sim [--scenario NAME] [--seeds FIRST-LAST] [--jobs N] | --seed N [--trace]\n";

static int start_eal(void)
{
    static char text[][32] = {"sim",           "--no-huge",      "-m",
                              "256",           "--no-shconf",    "--no-pci",
                              "--log-level=3", "--no-telemetry", ""};
    char *list[10] = {0};

    snprintf(text[8], sizeof(text[8]), "--file-prefix=sim-%d", (int)getpid());
    for (unsigned i = 0; i < 9; i++)
        list[i] = text[i];
    if (rte_eal_init(9, list) < 0)
        return -1;
    rmdir(rte_eal_get_runtime_dir()); /* empty, and made for each process */
    return 0;
}

/* Every `jobs`-th seed. Returns the number of failures. */
static unsigned run_share(scenario_run *run, uint64_t first, uint64_t last, unsigned jobs,
                          bool tracing)
{
    unsigned failures = 0;

    if (start_eal() < 0) {
        fputs("sim: DPDK does not start\n", stderr);
        return 1;
    }
    for (uint64_t seed = first; seed <= last; seed += jobs)
        failures += (unsigned)run(seed, tracing);
    rte_eal_cleanup();
    return failures;
}

static unsigned run_jobs(scenario_run *run, uint64_t first, uint64_t last, unsigned jobs)
{
    pid_t children[JOBS_MAX];
    unsigned failures = 0;
    unsigned *shared = mmap(NULL, sizeof(*shared) * JOBS_MAX, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (shared == MAP_FAILED)
        return 1;

    for (unsigned i = 0; i < jobs; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            shared[i] = run_share(run, first + i, last, jobs, false);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < jobs; i++) {
        int status = 0;

        if (children[i] < 0 || waitpid(children[i], &status, 0) < 0 || status != 0) {
            fprintf(stderr, "sim: a share of the seeds crashed\n");
            failures++;
        } else {
            failures += shared[i];
        }
    }
    return failures;
}

static scenario_run *find(const char *name)
{
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return scenarios[i].run;
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"scenario", 1, NULL, 'c'}, {"seeds", 1, NULL, 's'},
                                            {"seed", 1, NULL, 'n'},     {"jobs", 1, NULL, 'j'},
                                            {"trace", 0, NULL, 't'},    {NULL, 0, NULL, 0}};
    unsigned long long first = 1, last = 100;
    scenario_run *run = world_run;
    unsigned jobs = 1, failures;
    bool tracing = false;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'c' && (run = find(optarg)) != NULL)
            continue;
        if (option == 's' && sscanf(optarg, "%llu-%llu", &first, &last) == 2 && first <= last)
            continue;
        if (option == 'n' && sscanf(optarg, "%llu", &first) == 1) {
            last = first;
            continue;
        }
        if (option == 'j' && sscanf(optarg, "%u", &jobs) == 1 && jobs >= 1 && jobs <= JOBS_MAX)
            continue;
        if (option == 't') {
            tracing = true;
            continue;
        }
        fputs(usage, stderr);
        return 2;
    }
    failures =
        jobs > 1 ? run_jobs(run, first, last, jobs) : run_share(run, first, last, 1, tracing);
    printf("%llu passed, %u failed\n", last - first + 1 - failures, failures);
    return failures != 0;
}
