/* How fast one worker tells its observers, and how long others wait meanwhile. No device: the
 * worker is driven from memory, with the real clock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_random.h>

#include "bench/harness.h"

#define OBSERVERS_DEFAULT 100000
#define OBSERVERS_MAX     1000000
#define ROUNDS_DEFAULT    20
#define ACKS_MAX          4096
#define WAITS_MAX         1000000
#define PLAIN_GAP_US      50 /* mean time between plain requests */

static const char help[] =
    "usage: fanout [OBSERVERS [ROUNDS]]\n"
    "\n"
    "Drives one worker from memory. Each round the origin notifies once, and the worker's turns go "
    "on\n"
    "until all observers have been told, while plain requests of another client come in at random\n"
    "moments. Observers acknowledge at the end of a turn what was confirmable in it. Prints\n"
    "notifications per second, their cost in cycles of the time stamp counter, and how long the "
    "plain\n"
    "requests waited.\n"
    "\n"
    "  OBSERVERS   1 to 1000000 (default 100000)\n"
    "  ROUNDS      1 to 1000 (default 20)\n"
    "\n"
    "Exit code 1: it could not run; 2: a bad command line.\n";

static const char yaml[] =
    "instance: fanout\n"
    "interfaces: [{name: s, device: \"tap:fanout0\", addresses: [10.0.0.1/8]}]\n"
    "listeners: [{uri: coap://10.0.0.1}]\n"
    "upstreams: [{name: o, servers: [coap://10.0.0.2], transmission: {nstart: 64}}]\n"
    "routes:\n"
    "  - {path: /, to: o}\n"
    "  - {path: /plain, respond: {payload: \"hello world!\"}}\n"
    "observe: {confirm_every: 5, confirm_after: 24h}\n"
    "limits: {sessions: 1100000, relations: 1000000, exchanges: 65536, outbound: 1048576, "
    "message_memory: 512MiB, remembered: 1048576}\n";

static struct {
    struct worker *worker;
    uint64_t origin_tsc;
    uint64_t notifications, confirmable;
    struct flow origin; /* of the observation */
    uint8_t token[8];
    uint16_t mid;
    uint32_t number;
    struct {
        struct flow flow;
        uint16_t mid;
    } acks[ACKS_MAX];
    unsigned ack_count;
    struct flow plain;
    uint64_t plain_answers;
} run;

static uint64_t now_us(void)
{
    return HARNESS_START_US + (rte_rdtsc() - run.origin_tsc) * 1000000 / rte_get_tsc_hz();
}

static void sink(const struct flow *flow, const uint8_t *data, uint16_t length)
{
    uint8_t type = data[0] >> 4 & 3;

    (void)length;
    if (code_is_request(data[1])) { /* to the origin */
        run.origin = *flow;
        run.mid = harness_mid(data);
        memcpy(run.token, data + MESSAGE_HEADER_BYTES, sizeof(run.token));
    } else if (flow_equal(flow, &run.plain)) {
        run.plain_answers++;
    } else if (type == TYPE_NON || type == TYPE_CON) {
        run.notifications++;
        if (type == TYPE_CON && run.ack_count < ACKS_MAX) {
            run.confirmable++;
            run.acks[run.ack_count].flow = *flow;
            run.acks[run.ack_count++].mid = harness_mid(data);
        }
    }
}

/* ---- what comes in ---- */

static void give(const struct flow *flow, const uint8_t *data, size_t length)
{
    harness_give(run.worker, flow, data, length, now_us());
}

static void ask(const struct flow *flow, uint16_t mid, uint32_t token, bool observe,
                const char *path)
{
    uint8_t bytes[HARNESS_REQUEST];
    struct harness_request r = {.type = TYPE_CON,
                                .code = CODE_GET,
                                .mid = mid,
                                .token = token,
                                .observe = observe,
                                .path = path};

    give(flow, bytes, harness_encode(bytes, &r));
}

static void notify(enum message_type type, uint16_t mid)
{
    uint8_t bytes[200], payload[64];
    struct encoder e;

    memset(payload, 'a' + (int)(run.number % 26), sizeof(payload));
    encoder_begin(&e, bytes, sizeof(bytes), type, CODE_CONTENT, mid, run.token, sizeof(run.token));
    encoder_uint(&e, OPTION_OBSERVE, ++run.number);
    encoder_uint(&e, OPTION_MAX_AGE, 86400);
    encoder_payload(&e, payload, sizeof(payload));
    give(&run.origin, bytes, encoder_end(&e));
}

static void acknowledge(void)
{
    for (unsigned i = 0; i < run.ack_count; i++) {
        uint8_t ack[4];

        message_write_empty(ack, TYPE_ACK, run.acks[i].mid);
        give(&run.acks[i].flow, ack, sizeof(ack));
    }
    run.ack_count = 0;
}

static void register_all(unsigned observers)
{
    for (unsigned i = 0; i < observers; i++) {
        struct flow flow = harness_client(i);

        ask(&flow, 1, i, true, "r");
        if (i == 0)
            notify(TYPE_ACK, run.mid); /* the answer to the registration */
        worker_advance(run.worker, now_us());
    }
}

/* ---- measuring ---- */

static uint64_t waits[WAITS_MAX]; /* in TSC cycles */
static unsigned wait_count;

/* Plain requests that came in since the last turn: each waited from its moment on. */
static uint64_t take_plain(uint64_t due)
{
    while (due <= rte_rdtsc()) {
        uint64_t arrived = due;

        ask(&run.plain, (uint16_t)wait_count, 7, false, "plain");
        if (wait_count < WAITS_MAX)
            waits[wait_count++] = rte_rdtsc() - arrived;
        due = arrived + 1 +
              rte_rand_max(2 * PLAIN_GAP_US * (rte_get_tsc_hz() / 1000000)); /* mean: the gap */
    }
    return due;
}

/* One state to all. Returns the cycles that it took. */
static uint64_t round_trip(unsigned observers)
{
    uint64_t begin = rte_rdtsc(), due = begin, target = run.notifications + observers;

    notify(TYPE_NON, (uint16_t)run.number);
    while (run.notifications < target) {
        due = take_plain(due);
        worker_advance(run.worker, now_us());
        acknowledge();
    }
    return rte_rdtsc() - begin;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static double wait_us(double share)
{
    if (wait_count == 0)
        return 0;
    return (double)waits[(unsigned)(share * (wait_count - 1))] * 1e6 / (double)rte_get_tsc_hz();
}

static int start(void)
{
    if (harness_begin("fanout", 1024, false) < 0)
        return -1;
    run.origin_tsc = rte_rdtsc();
    run.worker = harness_worker(yaml, sink, now_us());
    run.plain = harness_client(OBSERVERS_MAX);
    return run.worker ? 0 : -1;
}

int main(int argc, char **argv)
{
    unsigned observers = OBSERVERS_DEFAULT, rounds = ROUNDS_DEFAULT;
    uint64_t cycles = 0;
    double seconds;

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return 0;
    }
    if (argc > 3) {
        fputs("fanout: at most two numbers; try fanout --help\n", stderr);
        return 2;
    }
    if (argc > 1)
        observers = (unsigned)harness_number("fanout", "OBSERVERS", argv[1], 1, OBSERVERS_MAX);
    if (argc > 2)
        rounds = (unsigned)harness_number("fanout", "ROUNDS", argv[2], 1, 1000);
    if (start() < 0) {
        fputs("fanout: cannot start\n", stderr);
        return 1;
    }
    register_all(observers);
    run.notifications = 0;
    for (unsigned i = 0; i < rounds; i++)
        cycles += round_trip(observers);
    seconds = (double)cycles / (double)rte_get_tsc_hz();
    qsort(waits, wait_count, sizeof(waits[0]), compare);
    printf("%u observers, %u states: %.0f notifications/s, %.0f cycles each, %.0f %% of them "
           "confirmable\n",
           observers, rounds, (double)run.notifications / seconds,
           (double)cycles / (double)run.notifications,
           100.0 * (double)run.confirmable / (double)run.notifications);
    printf("%u plain requests meanwhile: waited %.1f us (median), %.1f us (99 %%), %.1f us "
           "(longest)\n",
           wait_count, wait_us(0.5), wait_us(0.99), wait_us(1));
    harness_worker_end(run.worker);
    harness_end();
    return 0;
}
