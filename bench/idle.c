/* What silent clients cost that are pinged (keepalive). No device: the worker is driven from
 * memory, in virtual time, and all of its turns are measured. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>

#include "bench/harness.h"

#define SESSIONS_DEFAULT 1000000
#define SESSIONS_MAX     4000000
#define INTERVAL_DEFAULT 30
#define SECONDS_DEFAULT  60
#define PONGS_MAX        65536
#define TURN_US          1000 /* a worker that has nothing to do looks up so often */

static const char help[] =
    "usage: idle [SESSIONS [INTERVAL [SECONDS]]]\n"
    "\n"
    "Drives one worker from memory, in virtual time. Each client asks once, at a moment of its "
    "own, and\n"
    "then only answers its pings, in the turn after the one that sent them. Prints what share of "
    "a\n"
    "core that takes.\n"
    "\n"
    "  SESSIONS   1 to 4000000 (default 1000000)\n"
    "  INTERVAL   seconds of silence after which a client is pinged, 1 to 3600 (default 30)\n"
    "  SECONDS    of virtual time that are measured, 1 to 3600 (default 60)\n"
    "\n"
    "Exit code 1: clients were given up, or it could not run; 2: a bad command line.\n";

static const char yaml[] =
    "instance: idle\n"
    "interfaces: [{name: s, device: \"tap:idle0\", addresses: [10.0.0.1/8]}]\n"
    "listeners: [{uri: coap://10.0.0.1, keepalive: %us}]\n"
    "routes: [{path: /plain, respond: {payload: \"hello world!\"}}]\n"
    "limits: {sessions: %u, session_idle: 24h, exchanges: 65536, "
    "outbound: 1048576, message_memory: 512MiB, remembered: 1048576}\n";

static struct {
    struct worker *worker;
    uint64_t now; /* virtual, in microseconds */
    uint64_t pings;
    struct {
        struct flow flow;
        uint8_t data[MESSAGE_HEADER_BYTES];
    } pongs[PONGS_MAX];
    unsigned pong_count;
} run = {.now = HARNESS_START_US};

static void sink(const struct flow *flow, const uint8_t *data, uint16_t length)
{
    (void)length;
    if (data[1] != CODE_EMPTY || run.pong_count == PONGS_MAX)
        return;
    run.pings++;
    run.pongs[run.pong_count].flow = *flow;
    message_write_empty(run.pongs[run.pong_count++].data, TYPE_RST, harness_mid(data));
}

/* ---- what comes in ---- */

static void ask(unsigned n)
{
    uint8_t bytes[HARNESS_REQUEST];
    struct harness_request r = {
        .type = TYPE_NON, .code = CODE_GET, .mid = 1, .token = n, .path = "plain"};
    struct flow flow = harness_client(n);

    harness_give(run.worker, &flow, bytes, harness_encode(bytes, &r), run.now);
}

/* What was sent in the turn before is answered, in bursts as they come from a device. */
static void answer(void)
{
    struct datagram burst[HARNESS_BURST];
    unsigned count = run.pong_count;

    run.pong_count = 0;
    for (unsigned i = 0; i < count;) {
        unsigned n = 0;

        for (; n < HARNESS_BURST && i < count; n++, i++)
            burst[n] = (struct datagram){.data = run.pongs[i].data,
                                         .length = MESSAGE_HEADER_BYTES,
                                         .flow = run.pongs[i].flow};
        worker_receive(run.worker, burst, n, run.now);
    }
}

/* ---- measuring ---- */

/* The cycles of a turn. */
static uint64_t turn(void)
{
    uint64_t begin = rte_rdtsc();

    run.now += TURN_US;
    answer();
    worker_advance(run.worker, run.now);
    return rte_rdtsc() - begin;
}

/* All ask once, over one interval; then one more in which all are pinged. */
static void settle(unsigned sessions, unsigned interval_s)
{
    unsigned turns = interval_s * 1000, asked = 0;

    for (unsigned i = 1; i <= turns; i++) {
        for (; asked < (uint64_t)sessions * i / turns; asked++)
            ask(asked);
        (void)turn();
    }
    for (unsigned i = 0; i < 2 * turns; i++)
        (void)turn();
}

static int start(unsigned sessions, unsigned interval_s)
{
    char text[1024];

    if (harness_begin("idle", 1024, false) < 0)
        return -1;
    snprintf(text, sizeof(text), yaml, interval_s, sessions + sessions / 10 + 100);
    run.worker = harness_worker(text, sink, run.now);
    return run.worker ? 0 : -1;
}

int main(int argc, char **argv)
{
    unsigned sessions = SESSIONS_DEFAULT, interval = INTERVAL_DEFAULT, seconds = SECONDS_DEFAULT;
    uint64_t cycles = 0, pings;
    double share;

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return 0;
    }
    if (argc > 4) {
        fputs("idle: at most three numbers; try idle --help\n", stderr);
        return 2;
    }
    if (argc > 1)
        sessions = (unsigned)harness_number("idle", "SESSIONS", argv[1], 1, SESSIONS_MAX);
    if (argc > 2)
        interval = (unsigned)harness_number("idle", "INTERVAL", argv[2], 1, 3600);
    if (argc > 3)
        seconds = (unsigned)harness_number("idle", "SECONDS", argv[3], 1, 3600);
    if (start(sessions, interval) < 0) {
        fputs("idle: cannot start\n", stderr);
        return 1;
    }
    settle(sessions, interval);
    pings = run.pings;
    for (unsigned i = 0; i < seconds * 1000; i++)
        cycles += turn();
    pings = run.pings - pings;
    share = (double)cycles / (seconds * (double)rte_get_tsc_hz());
    printf("%u sessions, pinged after %u s: %.0f pings/s, %.2f %% of a core, %.0f cycles for a "
           "ping and its answer\n",
           sessions, interval, (double)pings / seconds, 100 * share,
           pings ? (double)cycles / (double)pings : 0);
    harness_worker_end(run.worker);
    harness_end();
    /* Fewer would mean that clients were given up. */
    return pings >= (uint64_t)sessions * seconds / interval * 8 / 10 ? 0 : 1;
}
