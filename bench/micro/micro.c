/* What the parts of the gateway cost, one by one. */
#include "bench/micro/micro.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/figures.h"
#include "bench/harness.h"

#define MEGABYTES  512
#define ROUNDS_MAX 31
#define STEPS      64 /* operations whose instructions are counted one by one */

static const char help[] =
    "usage: micro [OPTION...]\n"
    "\n"
    "Runs parts of the gateway alone, many times, and prints what one operation costs: "
    "nanoseconds,\n"
    "cycles and instructions.\n"
    "\n"
    "  --case TEXT      only the cases that have this text in their names (default: all)\n"
    "  --list           the names of all cases\n"
    "  --operations N   in each round, 1 to 1000000000 (default 200000)\n"
    "  --rounds N       rounds, 1 to 31 (default 5); medians are printed\n"
    "  --shrink N       tables and timers are so many times smaller, 1 to 1000000 (default 1)\n"
    "  --no-step        instructions only from the processor's counters, not one by one\n"
    "  --json           the result as JSON\n"
    "  --help           this text\n"
    "\n"
    "Exit code 1: a case went wrong or could not run; 2: a bad command line. That a target is "
    "missed\n"
    "is no failure: it stands beside the figure.\n";

static const struct micro_case *const groups[] = {micro_codec,  micro_wheel,  micro_sessions,
                                                  micro_memory, micro_frames, micro_records};

#define GROUPS (sizeof(groups) / sizeof(groups[0]))

struct options {
    const char *wanted;
    unsigned operations, rounds, shrink;
    bool list, no_step, json;
};

static volatile uint64_t results; /* keeps the compiler from leaving things out */

static void run_round(const struct micro_case *c, unsigned operations, struct meter *meter)
{
    meter_reset(meter);
    for (unsigned done = 0; done < operations; done += MICRO_BATCH) {
        if (c->ready)
            c->ready(MICRO_BATCH);
        meter_start(meter);
        results += c->run(MICRO_BATCH);
        meter_stop(meter);
        meter_mark(meter, MICRO_BATCH);
    }
}

static double step(const struct micro_case *c)
{
    uint64_t n;

    if (!meter_can_step())
        return -1;
    if (c->ready)
        c->ready(STEPS);
    meter_step_begin();
    results += c->run(STEPS);
    n = meter_step_end();
    return (double)n / STEPS;
}

static int measure(const struct options *o, const struct micro_case *c, struct meter *meter,
                   struct figures *figures)
{
    struct figure rounds[ROUNDS_MAX], *row;
    uint32_t scale = c->scale / o->shrink;
    int err = c->begin ? c->begin(scale ? scale : 1) : 0;

    if (err) {
        fprintf(stderr, "micro: %s: %s\n", c->name, strerror(-err));
        return -1;
    }
    run_round(c, MICRO_BATCH, meter); /* warms up */
    for (unsigned i = 0; i < o->rounds; i++) {
        run_round(c, o->operations, meter);
        rounds[i] = figure_of(meter);
        if (c->target_ns > 0)
            rounds[i].target_ns = c->target_ns;
    }
    row = figures_add(figures, c->name, rounds, o->rounds);
    if (!o->no_step && !meter_has(meter, METER_INSTRUCTIONS))
        row->instructions = step(c);
    if (c->end && !c->end()) {
        fprintf(stderr, "micro: %s: it went wrong\n", c->name);
        return -1;
    }
    return 0;
}

static void parse(struct options *o, int argc, char **argv)
{
    enum { CASE, LIST, OPERATIONS, ROUNDS, SHRINK, NO_STEP, JSON, HELP };
    static const struct option options[] = {{"case", 1, NULL, CASE},
                                            {"list", 0, NULL, LIST},
                                            {"rounds", 1, NULL, ROUNDS},
                                            {"operations", 1, NULL, OPERATIONS},
                                            {"shrink", 1, NULL, SHRINK},
                                            {"no-step", 0, NULL, NO_STEP},
                                            {"json", 0, NULL, JSON},
                                            {"help", 0, NULL, HELP},
                                            {0}};
    int which;

    while ((which = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (which) {
        case CASE:
            o->wanted = optarg;
            break;
        case OPERATIONS:
            o->operations =
                (unsigned)harness_number("micro", "--operations", optarg, 1, 1000000000);
            break;
        case ROUNDS:
            o->rounds = (unsigned)harness_number("micro", "--rounds", optarg, 1, ROUNDS_MAX);
            break;
        case SHRINK:
            o->shrink = (unsigned)harness_number("micro", "--shrink", optarg, 1, 1000000);
            break;
        case LIST:
            o->list = true;
            break;
        case NO_STEP:
            o->no_step = true;
            break;
        case JSON:
            o->json = true;
            break;
        case HELP:
            fputs(help, stdout);
            exit(0);
        default:
            exit(2);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "micro: %s: there are only options; try micro --help\n", argv[optind]);
        exit(2);
    }
}

/* Those whose names are wanted; the number of them, or -1 when one failed. */
static int run_all(const struct options *o, struct meter *meter, struct figures *figures)
{
    int ran = 0, failed = 0;

    for (unsigned g = 0; g < GROUPS; g++)
        for (const struct micro_case *c = groups[g]; c->name; c++) {
            if (o->wanted && !strstr(c->name, o->wanted))
                continue;
            ran++;
            if (o->list)
                puts(c->name);
            else
                failed += measure(o, c, meter, figures) < 0;
        }
    return failed ? -1 : ran;
}

int main(int argc, char **argv)
{
    struct options o = {.operations = 200000, .rounds = 5, .shrink = 1};
    static struct figures figures = {.program = "micro", .unit = "one operation"};
    static struct meter meter;
    int ran;

    parse(&o, argc, argv);
    if (!o.list && harness_begin("micro", MEGABYTES, false) < 0)
        return 1;
    meter_open(&meter);
    ran = run_all(&o, &meter, &figures);
    meter_close(&meter);
    if (ran == 0) {
        fprintf(stderr, "micro: --case %s: no case has that in its name; try micro --list\n",
                o.wanted);
        return 2;
    }
    if (!o.list) {
        figures_print(&figures, o.json);
        harness_end();
    }
    return ran > 0 ? 0 : 1;
}
