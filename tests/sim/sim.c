/* usage: sim [--seeds FIRST-LAST] [--jobs N] | --seed N [--trace] */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rte_eal.h>

#include "tests/sim/sim.h"

#define JOBS_MAX 16

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
static unsigned run_share(uint64_t first, uint64_t last, unsigned jobs, bool tracing)
{
    unsigned failures = 0;

    if (start_eal() < 0) {
        fputs("sim: DPDK does not start\n", stderr);
        return 1;
    }
    for (uint64_t seed = first; seed <= last; seed += jobs)
        failures += (unsigned)world_run(seed, tracing);
    rte_eal_cleanup();
    return failures;
}

static unsigned run_jobs(uint64_t first, uint64_t last, unsigned jobs)
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
            shared[i] = run_share(first + i, last, jobs, false);
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

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seeds", 1, NULL, 's'},
                                            {"seed", 1, NULL, 'n'},
                                            {"jobs", 1, NULL, 'j'},
                                            {"trace", 0, NULL, 't'},
                                            {NULL, 0, NULL, 0}};
    unsigned long long first = 1, last = 100;
    unsigned jobs = 1, failures;
    bool tracing = false;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
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
        fputs("usage: sim [--seeds FIRST-LAST] [--jobs N] | --seed N [--trace]\n", stderr);
        return 2;
    }
    failures = jobs > 1 ? run_jobs(first, last, jobs) : run_share(first, last, 1, tracing);
    printf("%llu passed, %u failed\n", last - first + 1 - failures, failures);
    return failures != 0;
}
