/* What an idle session costs in memory, all counted: what the process has more with so many of them
 * than before there was a worker. No device: the worker is driven from memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/harness.h"
#include "gateway/session/session.h"

#define SESSIONS_DEFAULT 1000000
#define SESSIONS_MAX     2000000 /* twice as many clients are played */
#define MEGABYTES        2048    /* that DPDK may take; it takes what the tables need */
#define IDLE_US          UINT64_C(300000000)
#define TURN_US          1000
#define PER_TURN         1000

static const char help[] =
    "usage: memory [SESSIONS [MOST]]\n"
    "\n"
    "Drives one worker from memory. Each client asks once. Then all sessions expire, and as many "
    "other\n"
    "clients come: by then every place of the tables has been used. Prints what the process has "
    "in\n"
    "memory for each session, everything counted.\n"
    "\n"
    "  SESSIONS   1000 to 2000000 (default 1000000)\n"
    "  MOST       bytes that a session may take, 1 to 100000 (default: not checked)\n"
    "\n"
    "Exit code 1: a session takes more than MOST, or it could not run; 2: a bad command line.\n";

static const char yaml[] =
    "instance: memory\n"
    "interfaces: [{name: s, device: \"tap:memory0\", addresses: [10.0.0.1/8]}]\n"
    "listeners: [{uri: coap://10.0.0.1}]\n"
    "routes: [{path: /plain, respond: {payload: \"hello world!\"}}]\n"
    "limits: {sessions: %u, session_idle: 300s}\n";

static struct {
    struct worker *worker;
    uint64_t now, answers;
} run = {.now = HARNESS_START_US};

static void sink(const struct flow *flow, const uint8_t *data, uint16_t length)
{
    (void)flow;
    (void)length;
    run.answers += data[1] == CODE_CONTENT;
}

/* Resident bytes of the process, to the page. 0 when the kernel does not say. */
static uint64_t resident(void)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    unsigned long kib = 0;
    char line[256];

    if (!file)
        return 0;
    while (fgets(line, sizeof(line), file) && sscanf(line, "Rss: %lu kB", &kib) != 1)
        ;
    fclose(file);
    return (uint64_t)kib * 1024;
}

static bool ask_all(unsigned first, unsigned count)
{
    run.answers = 0;
    for (unsigned i = 0; i < count; i++) {
        uint8_t bytes[HARNESS_REQUEST];
        struct harness_request r = {
            .type = TYPE_CON, .code = CODE_GET, .mid = 1, .token = i, .path = "plain"};
        struct flow flow = harness_client(first + i);

        harness_give(run.worker, &flow, bytes, harness_encode(bytes, &r), run.now);
        if (i % PER_TURN == 0) {
            run.now += TURN_US;
            worker_advance(run.worker, run.now);
        }
    }
    return run.answers == count;
}

/* Until no session is left: each looks at its own time, a bounded number a turn. */
static bool all_expire(void)
{
    struct worker_usage usage;

    for (uint64_t end = run.now + 3 * IDLE_US; run.now < end; run.now += TURN_US)
        worker_advance(run.worker, run.now);
    worker_usage(run.worker, &usage);
    return usage.sessions == 0;
}

static double report(const char *when, uint64_t before, unsigned sessions)
{
    double each = (double)(resident() - before) / sessions;

    printf("%-34s %6.1f bytes a session, %.0f MiB in all\n", when, each,
           each * sessions / (1 << 20));
    return each;
}

int main(int argc, char **argv)
{
    unsigned sessions = SESSIONS_DEFAULT, most = 0;
    uint64_t before;
    char text[512];
    double each;

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return 0;
    }
    if (argc > 3) {
        fputs("memory: at most two numbers; try memory --help\n", stderr);
        return 2;
    }
    if (argc > 1)
        sessions = (unsigned)harness_number("memory", "SESSIONS", argv[1], 1000, SESSIONS_MAX);
    if (argc > 2)
        most = (unsigned)harness_number("memory", "MOST", argv[2], 1, 100000);
    if (harness_begin("memory", MEGABYTES, false) < 0)
        return 1;
    before = resident();
    snprintf(text, sizeof(text), yaml, sessions);
    run.worker = harness_worker(text, sink, run.now);
    if (!run.worker || before == 0)
        return 1;
    report("a worker without sessions:", before, sessions);
    if (!ask_all(0, sessions)) {
        fputs("memory: an answer is missing\n", stderr);
        return 1;
    }
    report("with all of them:", before, sessions);
    if (!all_expire() || !ask_all(sessions, sessions)) {
        fputs("memory: a session or an answer is missing\n", stderr);
        return 1;
    }
    each = report("after others have taken their place:", before, sessions);
    printf("%zu of these bytes are the session itself; 256 in all are the target\n",
           sizeof(struct session));
    harness_worker_end(run.worker);
    harness_end();
    return most && each > most ? 1 : 0;
}
