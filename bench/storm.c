/* A storm of handshakes, and a flood of spoofed ClientHellos, on one worker that is driven from
 * memory, while clients that are connected go on asking.
 *
 * The world's clock is the worker's own: what it spends on a turn (its thread's time) passes, and
 * where it has nothing to do time goes on to the next request. What the benchmark does, above all
 * the other side's cryptography, takes no time, as if it were on other machines. A turn gets the
 * requests that have come by then, and as many other datagrams as fit a burst: they never run out,
 * so the worker is always busy. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <getopt.h>
#include <time.h>

#include "bench/devices.h"
#include "bench/gun/histogram.h"

#define OUT_MAX   1024
#define QUEUE_MAX 8192
#define DUE_MAX   65536
#define FIRST_BIT 0x80000000u /* in a token: of the first request of a new device */
#define MEGABYTES 1024
#define SECOND_NS UINT64_C(1000000000)

struct packet {
    struct flow flow;
    uint16_t length;
    uint8_t data[DEVICES_DATAGRAM];
};

struct attempt {
    unsigned device;
    bool used;
    struct peer peer;
};

static struct options {
    unsigned established, handshakes, flight, seconds;
    unsigned long rate, hellos;
    uint16_t suite;
} o = {.established = 1000,
       .handshakes = 100000,
       .flight = 256,
       .seconds = 2,
       .rate = 50000,
       .hellos = 1000000,
       .suite = PEER_SUITE_CCM8};

static struct storm {
    struct worker *worker;
    struct devices devices; /* the established ones first */
    uint64_t now_ns;        /* of the world */
    uint64_t busy_ns;       /* of the worker in the phase that goes on */

    struct packet out[OUT_MAX]; /* what the worker sent in this turn */
    unsigned out_count;
    struct packet queue[QUEUE_MAX]; /* of new devices to the worker */
    unsigned head, tail;
    struct packet burst[HARNESS_BURST];

    struct attempt *attempts;
    uint32_t *attempt_of; /* by device; UINT32_MAX: none */
    unsigned begun, done, failed, looked_at;
    unsigned first_answers;

    uint64_t asked, answered, wrong, due_ns[DUE_MAX], next_due_ns;
    bool asking;
    struct histogram latency_ns;
    unsigned long hellos_left, hellos;
    uint8_t hello[256]; /* a ClientHello without a cookie */
    size_t hello_length;
} s;

static uint64_t thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static uint64_t resident(void)
{
    unsigned long long all, pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (!file || fscanf(file, "%llu %llu", &all, &pages) != 2)
        pages = 0;
    if (file)
        fclose(file);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- between the worker and the devices ---- */

static void sink(const struct flow *flow, const uint8_t *data, uint16_t length)
{
    struct packet *p = &s.out[s.out_count];

    if (s.out_count == OUT_MAX || length > sizeof(p->data))
        return;
    s.out_count++;
    p->flow = *flow;
    p->length = length;
    memcpy(p->data, data, length);
}

static struct packet *queue_put(unsigned device)
{
    struct packet *p = &s.queue[s.tail % QUEUE_MAX];

    if (s.tail - s.head == QUEUE_MAX)
        return NULL; /* lost */
    s.tail++;
    p->flow = devices_flow(device);
    return p;
}

static size_t encode(uint8_t *out, uint32_t token, uint16_t mid)
{
    struct harness_request r = {
        .type = TYPE_CON, .code = CODE_GET, .mid = mid, .token = token, .path = "hello"};

    return harness_encode(out, &r);
}

static void make_request(struct packet *p, unsigned device, uint32_t token, uint16_t mid)
{
    size_t length = encode(p->data + devices_lead(&s.devices), token, mid);

    p->flow = devices_flow(device);
    p->length = (uint16_t)devices_seal(&s.devices, device, p->data, length);
}

/* ---- handshakes ---- */

static void on_send(void *context, const uint8_t *datagram, size_t length)
{
    const struct attempt *a = context;
    struct packet *p = length <= DEVICES_DATAGRAM ? queue_put(a->device) : NULL;

    if (!p)
        return;
    p->length = (uint16_t)length;
    memcpy(p->data, datagram, length);
}

static void on_deliver(void *context, const uint8_t *data, size_t length)
{
    (void)context; /* nothing has been asked */
    (void)data;
    (void)length;
}

static const struct peer_events events = {.send = on_send, .deliver = on_deliver};

static void begin_one(struct attempt *a, unsigned device)
{
    struct peer_setup setup = devices_setup(&s.devices);

    setup.events = &events;
    setup.context = a;
    a->device = device;
    a->used = true;
    s.attempt_of[device] = (uint32_t)(a - s.attempts);
    if (peer_init(&a->peer, &setup) < 0 || peer_start(&a->peer, s.now_ns / 1000) < 0)
        abort();
}

/* Who is connected asks for something at once. */
static void settle(struct attempt *a)
{
    enum peer_state state = peer_state(&a->peer);
    struct packet *p;

    if (state == PEER_CONNECTING)
        return;
    if (state == PEER_ESTABLISHED) {
        devices_take(&s.devices, a->device, &a->peer);
        s.done++;
        p = queue_put(a->device);
        if (p)
            make_request(p, a->device, FIRST_BIT | a->device, 1);
    } else {
        s.failed++;
    }
    s.attempt_of[a->device] = UINT32_MAX;
    peer_free(&a->peer);
    a->used = false;
}

/* Keeps as many under way as are wanted, up to device `end`; one of them may have to repeat
 * something. */
static void go_on(unsigned end)
{
    struct attempt *a = &s.attempts[s.looked_at];

    s.looked_at = (s.looked_at + 1) % o.flight;
    if (a->used) {
        peer_advance(&a->peer, s.now_ns / 1000);
        settle(a);
    }
    for (unsigned i = 0; i < o.flight && s.begun < end; i++)
        if (!s.attempts[i].used)
            begin_one(&s.attempts[i], s.begun++);
}

/* ---- what comes back ---- */

static void take_answer(const struct packet *p, unsigned device)
{
    uint8_t message[DEVICES_DATAGRAM];
    int length = devices_open(&s.devices, device, p->data, p->length, message);
    uint32_t token;

    if (length < MESSAGE_HEADER_BYTES + 4 || message[1] != CODE_CONTENT) {
        s.wrong++;
        return;
    }
    memcpy(&token, message + MESSAGE_HEADER_BYTES, sizeof(token));
    if (token & FIRST_BIT) {
        s.first_answers++;
        return;
    }
    s.answered++;
    histogram_add(&s.latency_ns, s.now_ns - s.due_ns[token % DUE_MAX]);
}

static void take_all(void)
{
    for (unsigned i = 0; i < s.out_count; i++) {
        const struct packet *p = &s.out[i];
        unsigned device = harness_client_of(&p->flow);

        if (device >= s.devices.count)
            continue; /* to a spoofed address */
        if (s.attempt_of[device] != UINT32_MAX) {
            struct attempt *a = &s.attempts[s.attempt_of[device]];

            peer_receive(&a->peer, p->data, p->length, s.now_ns / 1000);
            settle(a);
        } else if (s.devices.all[device].sequence) {
            take_answer(p, device);
        }
    }
    s.out_count = 0;
}

/* ---- a turn ---- */

/* Requests that have come by now. */
static unsigned add_requests(unsigned n)
{
    while (s.asking && n < HARNESS_BURST && s.next_due_ns <= s.now_ns) {
        unsigned device = (unsigned)(s.asked % o.established);

        make_request(&s.burst[n++], device, (uint32_t)(s.asked & ~FIRST_BIT),
                     (uint16_t)(s.asked / o.established + 2));
        s.due_ns[s.asked++ % DUE_MAX] = s.next_due_ns;
        s.next_due_ns += SECOND_NS / o.rate;
    }
    return n;
}

static unsigned add_others(unsigned n)
{
    for (; n < HARNESS_BURST && s.head != s.tail; s.head++)
        s.burst[n++] = s.queue[s.head % QUEUE_MAX];
    for (; n < HARNESS_BURST && s.hellos_left; s.hellos_left--) {
        struct packet *p = &s.burst[n++];
        uint32_t number = (uint32_t)s.hellos++;

        p->flow = devices_flow(s.devices.count + number % 1000000);
        p->length = (uint16_t)s.hello_length;
        memcpy(p->data, s.hello, s.hello_length);
        memcpy(p->data + 27, &number, sizeof(number)); /* its random */
    }
    return n;
}

static void turn(void)
{
    struct datagram in[HARNESS_BURST];
    unsigned n = add_others(add_requests(0));
    uint64_t begin;

    for (unsigned i = 0; i < n; i++)
        in[i] = (struct datagram){
            .data = s.burst[i].data, .length = s.burst[i].length, .flow = s.burst[i].flow};
    begin = thread_ns();
    worker_receive(s.worker, in, n, HARNESS_START_US + s.now_ns / 1000);
    worker_advance(s.worker, HARNESS_START_US + s.now_ns / 1000);
    begin = thread_ns() - begin;
    s.now_ns += begin;
    s.busy_ns += begin;
    take_all();
    if (n == 0 && s.out_count == 0 && s.asking && s.now_ns < s.next_due_ns)
        s.now_ns = s.next_due_ns;
}

/* ---- phases ---- */

static void begin_phase(bool asking)
{
    memset(&s.latency_ns, 0, sizeof(s.latency_ns));
    s.asking = asking;
    s.asked = s.answered = 0;
    s.busy_ns = 0;
    s.next_due_ns = s.now_ns;
}

static double us(double share)
{
    return (double)histogram_at(&s.latency_ns, share) / 1000;
}

/* Those that are on their way are waited for. */
static bool end_phase(const char *name)
{
    s.asking = false;
    for (unsigned i = 0; i < 10000 && s.answered < s.asked; i++)
        turn();
    printf("%-34s %10llu requests, latency p50 %7.1f  p99 %7.1f  p99.9 %7.1f  max %8.1f us\n", name,
           (unsigned long long)s.asked, us(0.5), us(0.99), us(0.999),
           (double)s.latency_ns.largest / 1000);
    if (s.answered == s.asked && s.wrong == 0 && s.failed == 0)
        return true;
    fprintf(stderr, "storm: %s: %llu of %llu answered, %llu wrong, %u handshakes failed\n", name,
            (unsigned long long)s.answered, (unsigned long long)s.asked,
            (unsigned long long)s.wrong, s.failed);
    counters_print(worker_counters(s.worker), "worker:", stderr);
    return false;
}

/* All devices up to `end` connect. */
static bool connect_until(unsigned end)
{
    uint64_t turns = 0;

    while (s.done + s.failed < end && turns++ < UINT64_C(1000) * end + 1000000) {
        go_on(end);
        turn();
    }
    for (unsigned i = 0; i < 1000 && s.first_answers < s.done; i++)
        turn();
    return s.done == end && s.first_answers == end;
}

static bool quiet(const char *name)
{
    uint64_t end = s.now_ns + o.seconds * SECOND_NS;

    begin_phase(true);
    while (s.now_ns < end)
        turn();
    return end_phase(name);
}

static bool handshakes(void)
{
    uint64_t begin = s.now_ns;
    bool whole;

    begin_phase(true);
    whole = connect_until(o.established + o.handshakes);
    printf("%-34s %10.0f handshakes/s, %u in %.2f s, %u at a time\n", "storm",
           o.handshakes * 1e9 / (double)(s.now_ns - begin), o.handshakes,
           (double)(s.now_ns - begin) / 1e9, o.flight);
    return end_phase("requests in the storm") && whole;
}

/* The cost of one is that of the phase, without what its requests would cost alone. */
static bool flood(double request_ns)
{
    const struct counters *counters = worker_counters(s.worker);
    uint64_t before = resident(), begin = s.now_ns, done = s.hellos;
    uint64_t asked_for_cookies = counters->dtls_hello_verify;

    begin_phase(true);
    s.hellos_left = o.hellos;
    while (s.hellos_left)
        turn();
    done = s.hellos - done;
    asked_for_cookies = counters->dtls_hello_verify - asked_for_cookies;
    printf("%-34s %10.0f ClientHellos/s, %.0f ns each, %lld KiB more resident\n", "flood",
           (double)done * 1e9 / (double)(s.now_ns - begin),
           ((double)s.busy_ns - request_ns * (double)s.asked) / (double)done,
           ((long long)resident() - (long long)before) / 1024);
    if (asked_for_cookies != done)
        fprintf(stderr, "storm: only %llu of them were asked for a cookie\n",
                (unsigned long long)asked_for_cookies);
    return end_phase("requests in the flood") && asked_for_cookies == done;
}

/* ---- life ---- */

static const char yaml[] =
    "instance: bench\n"
    "interfaces: [{name: s, device: \"tap:bench0\", addresses: [10.0.0.1/8]}]\n"
    "listeners: [{uri: coaps://10.0.0.1, dtls: {psk: {file: %s}}}]\n"
    "routes:\n"
    "  - path: /hello\n"
    "    respond: {payload: \"hello world!\", content_format: text/plain, max_age: 60s}\n"
    "limits: {sessions: %u, session_idle: 1h, associations: %u, amplification: 0}\n";

/* A ClientHello as a device begins with: taken off one that is never sent. */
static void keep_hello(void)
{
    s.begun = 0;
    begin_one(&s.attempts[0], 0);
    s.hello_length = s.queue[s.head % QUEUE_MAX].length;
    memcpy(s.hello, s.queue[s.head % QUEUE_MAX].data, s.hello_length);
    peer_free(&s.attempts[0].peer);
    s.attempts[0].used = false;
    s.attempt_of[0] = UINT32_MAX;
    s.head = s.tail;
}

static bool make(void)
{
    unsigned count = o.established + o.handshakes;
    char text[1024];

    if (devices_begin(&s.devices, o.suite, count) < 0)
        return false;
    s.attempts = calloc(o.flight, sizeof(*s.attempts));
    s.attempt_of = malloc(count * sizeof(*s.attempt_of));
    if (!s.attempts || !s.attempt_of)
        return false;
    memset(s.attempt_of, 0xff, count * sizeof(*s.attempt_of));
    memset(s.attempts, 0, o.flight * sizeof(*s.attempts));
    for (unsigned i = 0; i < count; i++)
        s.devices.all[i].sequence = 0; /* so that its pages are there */
    snprintf(text, sizeof(text), yaml, s.devices.file, count + 1024, count + 1024);
    keep_hello();
    s.worker = harness_worker(text, sink, HARNESS_START_US);
    return s.worker != NULL;
}

static bool run(void)
{
    unsigned count = o.established + o.handshakes;
    uint64_t empty, fixed;
    bool right;

    memset(s.out, 1, sizeof(s.out));
    memset(s.queue, 1, sizeof(s.queue));
    empty = resident();
    if (!make())
        return false;
    fixed = resident();
    right = connect_until(o.established) && quiet("requests alone");
    if (right && o.handshakes) {
        right = handshakes();
        printf("%-34s %10.0f bytes for each of %u associations with its session, beside %.1f MiB\n",
               "resident", ((double)resident() - (double)fixed) / count, count,
               ((double)fixed - (double)empty) / 1048576);
        right = quiet("requests alone, after it") && right;
    }
    if (right && o.hellos)
        right = flood((double)s.busy_ns / (double)(s.asked ? s.asked : 1));
    if (!right)
        fputs("storm: not all went well\n", stderr);
    return right;
}

/* ---- command line ---- */

static const char help[] =
    "usage: storm [OPTION...]\n"
    "\n"
    "One worker, driven from memory: clients with associations ask at a fixed rate, alone, then\n"
    "while others do their handshakes as fast as the worker takes them, and while it is flooded\n"
    "with ClientHellos of spoofed addresses. Time is the worker's own.\n"
    "\n"
    "  --established N  clients that ask, 1 to 100000 (default 1000)\n"
    "  --rate R         their requests a second, all together, 1 to 10000000 (default 50000)\n"
    "  --handshakes N   of others, 0 to 1000000 (default 100000)\n"
    "  --flight N       that are under way together, 1 to 1024 (default 256)\n"
    "  --hellos N       spoofed ClientHellos, 0 to 100000000 (default 1000000)\n"
    "  --seconds N      of the phases without others, 1 to 60 (default 2)\n"
    "  --gcm            AES-128-GCM, not AES-128-CCM-8\n"
    "  --help           this text\n"
    "\n"
    "Exit code 1: a handshake failed, or an answer was wrong or missing; 2: a bad command line.\n";

static void parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"established", 1, NULL, 'e'}, {"rate", 1, NULL, 'r'},   {"handshakes", 1, NULL, 'n'},
        {"flight", 1, NULL, 'f'},      {"hellos", 1, NULL, 'c'}, {"seconds", 1, NULL, 's'},
        {"gcm", 0, NULL, 'g'},         {"help", 0, NULL, 'h'},   {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (option == 'e')
            o.established = (unsigned)harness_number("storm", "--established", optarg, 1, 100000);
        else if (option == 'r')
            o.rate = harness_number("storm", "--rate", optarg, 1, 10000000);
        else if (option == 'n')
            o.handshakes = (unsigned)harness_number("storm", "--handshakes", optarg, 0, 1000000);
        else if (option == 'f')
            o.flight = (unsigned)harness_number("storm", "--flight", optarg, 1, 1024);
        else if (option == 'c')
            o.hellos = harness_number("storm", "--hellos", optarg, 0, 100000000);
        else if (option == 's')
            o.seconds = (unsigned)harness_number("storm", "--seconds", optarg, 1, 60);
        else if (option == 'g')
            o.suite = PEER_SUITE_GCM;
        else if (option == 'h')
            exit(fputs(help, stdout) < 0);
        else
            exit(2);
    }
    if (optind < argc)
        exit(fputs("storm: there are only options; try storm --help\n", stderr) < 0 ? 1 : 2);
}

int main(int argc, char **argv)
{
    bool right;

    parse(argc, argv);
    if (harness_begin("storm", MEGABYTES, false) < 0)
        return 1;
    right = run();
    for (unsigned i = 0; s.attempts && i < o.flight; i++)
        if (s.attempts[i].used)
            peer_free(&s.attempts[i].peer);
    if (s.worker)
        harness_worker_end(s.worker);
    devices_end(&s.devices);
    free(s.attempts);
    free(s.attempt_of);
    harness_end();
    return right ? 0 : 1;
}
