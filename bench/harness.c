#include "bench/harness.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>

#include "gateway/memory.h"
#include "gateway/security/credentials.h"
#include "gateway/session/journal.h"
#include "gateway/session/messaging.h"

#define BUFFERS      256
#define BUFFER_BYTES 2048
#define BUFFER_ROOM  1472  /* of a UDP payload on Ethernet */
#define PER_HOST     50000 /* ports of one simulated host */
#define PORT_FIRST   10000

static struct {
    uint8_t buffers[BUFFERS][BUFFER_BYTES] __attribute__((aligned(64)));
    unsigned next;
    harness_sink *sink;
    struct config *config;
    struct journal journal;
    void *journal_memory;
    size_t journal_bytes;
} harness;

/* ---- the worker's way out ---- */

static bool io_alloc(void *context, const struct flow *flow, struct outgoing *out)
{
    uint8_t *buffer = harness.buffers[harness.next++ % BUFFERS];

    (void)context;
    (void)flow;
    *out = (struct outgoing){.data = buffer, .room = BUFFER_ROOM, .buffer = buffer};
    return true;
}

static void io_send(void *context, const struct flow *flow, struct outgoing *out, uint16_t length)
{
    (void)context;
    harness.sink(flow, out->data, length);
}

static void io_cancel(void *context, struct outgoing *out)
{
    (void)context;
    (void)out;
}

static uint16_t io_port(void *context, uint16_t local, const struct endpoint *server, unsigned n)
{
    (void)context;
    (void)local;
    (void)server;
    if (n >= 1u << harness.config->upstream_port_shift)
        return 0;
    return (uint16_t)(harness.config->upstream_port_base + n);
}

/* ---- start and end ---- */

int harness_begin(const char *name, unsigned megabytes, bool huge)
{
    static char text[10][40];
    char *arguments[11] = {0};
    int count = 0;

    snprintf(text[count++], sizeof(text[0]), "%s", name);
    snprintf(text[count++], sizeof(text[0]), "--file-prefix=%s%d", name, (int)getpid());
    snprintf(text[count++], sizeof(text[0]), huge ? "--in-memory" : "--no-huge");
    snprintf(text[count++], sizeof(text[0]), "-m");
    snprintf(text[count++], sizeof(text[0]), "%u", megabytes);
    snprintf(text[count++], sizeof(text[0]), "--no-shconf");
    snprintf(text[count++], sizeof(text[0]), "--no-pci");
    snprintf(text[count++], sizeof(text[0]), "--no-telemetry");
    snprintf(text[count++], sizeof(text[0]), "--log-level=3");
    for (int i = 0; i < count; i++)
        arguments[i] = text[i];
    if (rte_eal_init(count, arguments) < 0) {
        fprintf(stderr, "%s: DPDK does not start: %s\n", name, rte_strerror(rte_errno));
        return -1;
    }
    rmdir(rte_eal_get_runtime_dir()); /* empty, and made for each process */
    return 0;
}

void harness_end(void)
{
    rte_eal_cleanup();
}

/* As the gateway has one, in memory: it is written to by what is not safe to repeat. */
static int make_journal(uint64_t now_us)
{
    struct journal_setup setup = {
        .workers = 1, .entries = harness.config->limits.remembered, .key = 1, .now_us = now_us};

    messaging_lifetimes(harness.config, &setup.con_us, &setup.non_us);
    harness.journal_bytes = journal_bytes(&setup);
    harness.journal_memory = memory_reserve(harness.journal_bytes);
    if (!harness.journal_memory)
        return -1;
    (void)journal_create(&harness.journal, harness.journal_memory, &setup);
    return 0;
}

/* The reference is the worker's, which also gives it up when it cannot be created. */
static int make_credentials(struct worker_setup *setup)
{
    if (!credentials_wanted(harness.config))
        return 0;
    setup->credentials = credentials_load(harness.config, NULL, stderr);
    return setup->credentials ? 0 : -1;
}

static void release(void)
{
    config_free(harness.config);
    memory_release(harness.journal_memory, harness.journal_bytes);
    harness.config = NULL;
    harness.journal_memory = NULL;
}

struct worker *harness_worker(const char *yaml, harness_sink *sink, uint64_t now_us)
{
    struct worker_setup setup = {
        .count = 1,
        .seed = {1},
        .io = {.alloc = io_alloc, .send = io_send, .cancel = io_cancel, .upstream_port = io_port}};
    struct worker *w = NULL;

    harness.sink = sink;
    harness.config = config_load_text("bench.yaml", yaml, strlen(yaml), stderr);
    if (!harness.config)
        return NULL;
    setup.config = harness.config;
    setup.journal = &harness.journal;
    if (make_journal(now_us) == 0 && make_credentials(&setup) == 0)
        w = worker_create(&setup, now_us);
    if (!w) {
        perror("worker");
        release();
    }
    return w;
}

void harness_worker_end(struct worker *w)
{
    worker_destroy(w);
    release();
}

/* ---- clients ---- */

struct flow harness_client(unsigned n)
{
    unsigned host = n / PER_HOST + 1;
    struct endpoint peer = {.port = (uint16_t)(PORT_FIRST + n % PER_HOST)};
    uint8_t bytes[4] = {10, 1, (uint8_t)(host >> 8), (uint8_t)host};

    peer.address = address_from_v4(bytes);
    return flow_make(0, 5683, &peer, TRANSPORT_UDP);
}

unsigned harness_client_of(const struct flow *flow)
{
    const uint8_t *bytes = flow->peer.bytes + 12;
    unsigned host = (unsigned)bytes[2] << 8 | bytes[3];

    if (bytes[0] != 10 || bytes[1] != 1 || host == 0 || flow->peer_port < PORT_FIRST)
        return UINT_MAX;
    return (host - 1) * PER_HOST + flow->peer_port - PORT_FIRST;
}

void harness_give(struct worker *w, const struct flow *flow, const uint8_t *data, size_t length,
                  uint64_t now_us)
{
    struct datagram d = {.data = data, .length = (uint16_t)length, .flow = *flow};

    worker_receive(w, &d, 1, now_us);
}

size_t harness_encode(uint8_t *out, const struct harness_request *request)
{
    struct encoder e;

    encoder_begin(&e, out, HARNESS_REQUEST + request->payload_length, request->type, request->code,
                  request->mid, (const uint8_t *)&request->token, sizeof(request->token));
    if (request->observe)
        encoder_uint(&e, OPTION_OBSERVE, 0);
    encoder_option(&e, OPTION_URI_PATH, request->path, strlen(request->path));
    if (request->path2)
        encoder_option(&e, OPTION_URI_PATH, request->path2, strlen(request->path2));
    encoder_payload(&e, request->payload, request->payload_length);
    return encoder_end(&e);
}

/* ---- command line ---- */

unsigned long harness_number(const char *program, const char *name, const char *text,
                             unsigned long low, unsigned long high)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    if (*text < '0' || *text > '9' || *end || value < low || value > high) {
        fprintf(stderr, "%s: %s %s: write a number from %lu to %lu; try %s --help\n", program, name,
                text, low, high, program);
        exit(2);
    }
    return (unsigned long)value;
}
