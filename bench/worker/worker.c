/* What one worker spends on a request, without a device: it is driven from memory, in bursts as the
 * lcore loop drives it, in virtual time, so that the work is the same in each run. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/figures.h"
#include "bench/worker/load.h"

#define MEGABYTES  1024 /* for the session tables */
#define ROUNDS_MAX 31
#define OF_OPENSSL 0.6 /* what part of a request over DTLS OpenSSL's part of it is to be */

static const char help[] =
    "usage: worker [OPTION...]\n"
    "\n"
    "Drives one worker from memory and prints what a request costs: nanoseconds, cycles and\n"
    "instructions. Only the worker's own part is measured: what the benchmark does to make "
    "requests,\n"
    "to play the origin and to check answers is not.\n"
    "\n"
    "  --case NAME[,...]  what is measured (default: all)\n";

static const char help_options[] =
    "  --sessions N       clients, each with a session, 128 to 4000000 (default 1000)\n"
    "  --requests N       in each round, 1 to 1000000000 (default 200000)\n"
    "  --rounds N         rounds, 1 to 31 (default 5); medians are printed\n"
    "  --warmup N         requests before the first round (default: until all clients and all of\n"
    "                     what the gateway remembers are in place)\n"
    "  --window N         requests that are under way together, 1 to 1024 (default 512)\n"
    "  --burst N          datagrams of one turn, 1 to 64 (default 32)\n"
    "  --payload N        bytes of what the origin has, and of a POST, 1 to 1024 (default 64)\n"
    "  --targets N        resources that are asked for in turn, 1 to 99999 (default: hit 1000,\n"
    "                     miss and post 65536)\n"
    "  --remembered N     message IDs that the gateway remembers, 1024 to 16777216 (default\n"
    "                     1048576)\n"
    "  --gap NS           virtual time between two requests (default: as short as message IDs "
    "allow,\n"
    "                     which must not come again within EXCHANGE_LIFETIME)\n"
    "  --step N           requests of which the instructions are counted one by one, 0 to 1024\n"
    "                     (default 64, and 0 where the processor's counters can be read)\n"
    "  --huge             DPDK's memory from huge pages\n"
    "  --json             the result as JSON\n"
    "  --help             this text\n"
    "\n"
    "`instructions` come from the processor's counters where the kernel gives them to us. Where "
    "it\n"
    "does not, they are counted by running some requests one instruction at a time: exactly, and\n"
    "without what the benchmark does for itself.\n"
    "\n"
    "Exit code 1: an answer was wrong or missing, or it could not run; 2: a bad command line.\n";

struct options {
    struct load_options load;
    bool wanted[LOAD_KINDS];
    uint64_t requests, warmup;
    bool has_warmup;
    unsigned rounds;
    long step; /* -1: as the counters are */
    bool huge, json;
};

static void print_help(void)
{
    fputs(help, stdout);
    for (unsigned i = 0; i < LOAD_KINDS; i++)
        printf("                       %-8s %s\n", load_names[i], load_texts[i]);
    fputs(help_options, stdout);
}

static void want(struct options *o, const char *names)
{
    char text[128], *rest = text, *name;

    snprintf(text, sizeof(text), "%s", names);
    while ((name = strsep(&rest, ",")) != NULL) {
        unsigned i = 0;

        while (i < LOAD_KINDS && strcmp(name, load_names[i]) != 0)
            i++;
        if (i == LOAD_KINDS) {
            fprintf(stderr, "worker: --case %s: there is no case \"%s\"; try worker --help\n",
                    names, name);
            exit(2);
        }
        o->wanted[i] = true;
    }
}

enum {
    CASE,
    SESSIONS,
    REQUESTS,
    ROUNDS,
    WARMUP,
    WINDOW,
    BURST,
    PAYLOAD,
    TARGETS,
    REMEMBERED,
    GAP,
    STEP,
    HUGE_PAGES,
    JSON,
    HELP
};

static const struct option options[] = {
    [CASE] = {"case", 1, NULL, CASE},
    [SESSIONS] = {"sessions", 1, NULL, SESSIONS},
    [REQUESTS] = {"requests", 1, NULL, REQUESTS},
    [ROUNDS] = {"rounds", 1, NULL, ROUNDS},
    [WARMUP] = {"warmup", 1, NULL, WARMUP},
    [WINDOW] = {"window", 1, NULL, WINDOW},
    [BURST] = {"burst", 1, NULL, BURST},
    [PAYLOAD] = {"payload", 1, NULL, PAYLOAD},
    [TARGETS] = {"targets", 1, NULL, TARGETS},
    [REMEMBERED] = {"remembered", 1, NULL, REMEMBERED},
    [GAP] = {"gap", 1, NULL, GAP},
    [STEP] = {"step", 1, NULL, STEP},
    [HUGE_PAGES] = {"huge", 0, NULL, HUGE_PAGES},
    [JSON] = {"json", 0, NULL, JSON},
    [HELP] = {"help", 0, NULL, HELP},
    {0},
};

static void set_number(struct options *o, int which, const char *value)
{
    static const struct {
        unsigned long low, high;
    } ranges[] = {
        [SESSIONS] = {128, HARNESS_CLIENTS}, [REQUESTS] = {1, 1000000000},
        [ROUNDS] = {1, ROUNDS_MAX},          [WARMUP] = {0, 1000000000},
        [WINDOW] = {1, LOAD_WINDOW_MAX},     [BURST] = {1, WORKER_BURST},
        [PAYLOAD] = {1, LOAD_PAYLOAD_MAX},   [TARGETS] = {1, 99999},
        [REMEMBERED] = {1024, 16777216},     [GAP] = {1, 1000000000},
        [STEP] = {0, LOAD_WINDOW_MAX},
    };
    char name[32];
    unsigned long n;

    snprintf(name, sizeof(name), "--%s", options[which].name);
    n = harness_number("worker", name, value, ranges[which].low, ranges[which].high);
    switch (which) {
    case SESSIONS:
        o->load.sessions = (unsigned)n;
        break;
    case REQUESTS:
        o->requests = n;
        break;
    case ROUNDS:
        o->rounds = (unsigned)n;
        break;
    case WARMUP:
        o->warmup = n;
        o->has_warmup = true;
        break;
    case WINDOW:
        o->load.window = (unsigned)n;
        break;
    case BURST:
        o->load.burst = (unsigned)n;
        break;
    case PAYLOAD:
        o->load.payload = (unsigned)n;
        break;
    case TARGETS:
        o->load.targets = (unsigned)n;
        break;
    case REMEMBERED:
        o->load.remembered = (unsigned)n;
        break;
    case GAP:
        o->load.gap_ns = (unsigned)n;
        break;
    case STEP:
        o->step = (long)n;
        break;
    default:
        break;
    }
}

static void parse(struct options *o, int argc, char **argv)
{
    bool some = false;
    int which;

    while ((which = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (which) {
        case CASE:
            want(o, optarg);
            some = true;
            break;
        case HUGE_PAGES:
            o->huge = true;
            break;
        case JSON:
            o->json = true;
            break;
        case HELP:
            print_help();
            exit(0);
        case '?':
            exit(2);
        default:
            set_number(o, which, optarg);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "worker: %s: there are only options; try worker --help\n", argv[optind]);
        exit(2);
    }
    for (unsigned i = 0; !some && i < LOAD_KINDS; i++)
        o->wanted[i] = true;
}

static unsigned steps_of(const struct options *o, const struct meter *meter)
{
    if (o->step >= 0)
        return (unsigned)o->step;
    return meter_has(meter, METER_INSTRUCTIONS) ? 0 : 64;
}

/* OpenSSL alone, as a row of its own behind that of the load, whose target follows from it. */
static int measure_alone(const struct options *o, enum load_kind kind, struct meter *meter,
                         struct figures *figures, unsigned steps)
{
    struct figure rounds[ROUNDS_MAX], *row, *load_row = &figures->rows[figures->count - 1];
    char name[FIGURES_NAME];
    bool right = true;

    if (alone_begin() < 0)
        return -1;
    for (unsigned i = 0; i < o->rounds; i++) {
        meter_reset(meter);
        right &= alone_run(o->requests, meter);
        rounds[i] = figure_of(meter);
    }
    snprintf(name, sizeof(name), "%s: open and seal by OpenSSL alone", load_names[kind]);
    row = figures_add(figures, name, rounds, o->rounds);
    if (steps)
        row->instructions = alone_step(steps);
    load_row->target_ns = row->ns / OF_OPENSSL;
    alone_end();
    return right ? 0 : -1;
}

static int measure(const struct options *o, enum load_kind kind, struct meter *meter,
                   struct figures *figures)
{
    struct figure rounds[ROUNDS_MAX], *row;
    unsigned steps = steps_of(o, meter);

    if (load_run(o->has_warmup ? o->warmup : load_warmup(), NULL) == 0 && o->warmup)
        return -1;
    for (unsigned i = 0; i < o->rounds; i++) {
        meter_reset(meter);
        if (load_run(o->requests, meter) == 0)
            return -1;
        rounds[i] = figure_of(meter);
    }
    row = figures_add(figures, load_names[kind], rounds, o->rounds);
    if (steps)
        row->instructions = load_step(steps);
    return secure_is(kind) ? measure_alone(o, kind, meter, figures, steps) : 0;
}

int main(int argc, char **argv)
{
    struct options o = {.load = {.sessions = 1000,
                                 .window = 512,
                                 .burst = HARNESS_BURST,
                                 .payload = 64,
                                 .remembered = 1048576},
                        .requests = 200000,
                        .rounds = 5,
                        .step = -1};
    static struct figures figures = {.program = "worker", .unit = "one request"};
    static struct meter meter;
    int status = 0;

    parse(&o, argc, argv);
    if (harness_begin("worker", MEGABYTES, o.huge) < 0)
        return 1;
    meter_open(&meter);
    for (unsigned kind = 0; kind < LOAD_KINDS; kind++) {
        if (!o.wanted[kind])
            continue;
        if (load_begin(&o.load, kind) < 0) {
            status = 1;
            continue;
        }
        if (measure(&o, kind, &meter, &figures) < 0)
            status = 1;
        load_end();
    }
    figures_print(&figures, o.json);
    meter_close(&meter);
    harness_end();
    return status;
}
