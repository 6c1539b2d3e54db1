#include "bench/worker/load.h"

#include <stdio.h>
#include <string.h>

#define STRIDE        2654435761u /* prime, and more than all clients: visits each once a round */
#define GAP_LEAST_NS  200
#define TARGETS_HIT   1000
#define TARGETS_MISS  65536
#define MIDS          65536
#define PER_SESSION   4096 /* message IDs of one client that are remembered, see dedup.h */
#define LIFETIME_NS   (EXCHANGE_LIFETIME_MS * UINT64_C(1000000))
#define FRESH_S       86400
#define PATIENCE_NS   UINT64_C(400000000) /* below separate_after: all answers are piggybacked */
#define MARGIN(value) ((value) + (value) / 20)

const char *const load_names[LOAD_KINDS] = {"respond", "non",     "ping", "hit", "miss",
                                            "post",    "observe", "ccm8", "gcm"};
const char *const load_texts[LOAD_KINDS] = {
    "CON GET that the gateway answers itself (12 bytes)",
    "the same, NON",
    "Empty CON, answered with a RST",
    "CON GET that the cache answers",
    "CON GET that the origin answers: 4 packets for each",
    "CON POST through to the origin: 4 packets for each",
    "notifications to all clients, every fifth confirmable and acknowledged",
    "as respond, over DTLS with AES-128-CCM-8",
    "as respond, over DTLS with AES-128-GCM",
};

static const char yaml[] =
    "instance: bench\n"
    "interfaces: [{name: s, device: \"tap:bench0\", addresses: [10.0.0.1/8]}]\n"
    "listeners: [{uri: coap://10.0.0.1}%s]\n"
    "upstreams: [{name: o, servers: [coap://10.0.0.2], transmission: {nstart: 4096}}]\n"
    "routes:\n"
    "  - {path: /, to: o}\n"
    "  - path: /hello\n"
    "    respond: {payload: \"hello world!\", content_format: text/plain, max_age: 60s}\n"
    "observe: {confirm_every: 5, confirm_after: 24h}\n"
    "limits: {sessions: %u, session_idle: 1h, remembered: %u, relations: %u, associations: %u, "
    "outbound: 1048576, "
    "message_memory: 512MiB, amplification: 0}\n";

struct load load;

/* ---- what is measured ---- */

void load_measure(void)
{
    if (load.stepping)
        meter_step_begin();
    else if (load.meter)
        meter_start(load.meter);
}

void load_measured(void)
{
    if (load.stepping)
        load.steps += meter_step_end();
    else if (load.meter)
        meter_stop(load.meter);
}

void load_turns(unsigned n)
{
    for (unsigned i = 0; i < n; i += load.o.burst) {
        unsigned count = n - i < load.o.burst ? n - i : load.o.burst;

        load.now_ns += load.gap_ns * count;
        worker_receive(load.worker, load.in + i, count, load.now_ns / 1000);
        worker_advance(load.worker, load.now_ns / 1000);
    }
}

/* ---- what comes out ---- */

uint64_t load_identity(const uint8_t *data)
{
    uint32_t token;

    if ((data[0] & 15) != sizeof(token))
        return harness_mid(data);
    memcpy(&token, data + MESSAGE_HEADER_BYTES, sizeof(token));
    return token;
}

static void keep(const struct flow *flow, const uint8_t *data, uint16_t length)
{
    struct load_packet *up = &load.up[load.up_count];

    if (load.up_count == LOAD_WINDOW_MAX || length > LOAD_PACKET)
        return;
    load.up_count++;
    up->flow = *flow;
    up->length = length;
    memcpy(up->data, data, length);
}

static void sink(const struct flow *flow, const uint8_t *data, uint16_t length)
{
    meter_step_pause(true);
    if (load.connecting) {
        devices_sink(data, length);
    } else if (secure_is(load.kind) || code_is_request(data[1])) {
        keep(flow, data, length);
    } else if (load.kind == LOAD_OBSERVE) {
        observe_sink(flow, data, length);
    } else {
        load.answers++;
        load.wrong += data[1] != load.expected;
        load.sums += load_identity(data);
    }
    meter_step_pause(false);
}

/* ---- requests ---- */

static const char *path_of(uint64_t request, char text[16])
{
    unsigned targets = load.o.targets;

    if (targets == 0)
        targets = load.kind == LOAD_HIT ? TARGETS_HIT : TARGETS_MISS;
    snprintf(text, 16, "%05u", (unsigned)(request % targets));
    return text;
}

static size_t encode(uint8_t *out, uint64_t k, uint16_t mid)
{
    static const uint8_t payload[LOAD_PAYLOAD_MAX] = {1, 2, 3, 4};
    struct harness_request r = {.type = TYPE_CON, .code = CODE_GET, .mid = mid};
    char text[16];

    r.token = (uint32_t)k;
    switch (load.kind) {
    case LOAD_PING:
        message_write_empty(out, TYPE_CON, mid);
        return MESSAGE_HEADER_BYTES;
    case LOAD_NON:
        r.type = TYPE_NON;
        __attribute__((fallthrough));
    case LOAD_RESPOND:
    case LOAD_CCM8:
    case LOAD_GCM:
        r.path = "hello";
        break;
    case LOAD_POST:
        r.code = CODE_POST;
        r.payload = payload;
        r.payload_length = load.o.payload;
        __attribute__((fallthrough));
    case LOAD_HIT:
    case LOAD_MISS:
        r.path = "sensors";
        r.path2 = path_of(k, text);
        break;
    case LOAD_OBSERVE:
        r.path = "state";
        r.observe = true;
        break;
    case LOAD_KINDS:
        break;
    }
    return harness_encode(out, &r);
}

static void put(unsigned place, const struct flow *flow, size_t length)
{
    load.in[place] = (struct datagram){
        .data = load.packets[place].data, .length = (uint16_t)length, .flow = *flow};
}

/* One request; with DTLS in a record. */
static void prepare_one(unsigned place)
{
    uint64_t k = load.asked++;
    unsigned client = (unsigned)(k * STRIDE % load.o.sessions);
    bool secure = secure_is(load.kind);
    uint8_t *packet = load.packets[place].data,
            *message = packet + (secure ? devices_lead(&load.devices) : 0);
    struct flow flow = secure ? devices_flow(client) : harness_client(client);
    size_t length = encode(message, k, (uint16_t)(k / load.o.sessions));

    load.ids += load_identity(message);
    load.client_of[place] = client;
    if (secure) {
        load.request_bytes = (unsigned)length;
        length = devices_seal(&load.devices, client, packet, length);
    }
    put(place, &flow, length);
}

static void prepare(unsigned n)
{
    load.ids = load.sums = 0;
    load.answers = load.wrong = 0;
    load.up_count = 0;
    for (unsigned i = 0; i < n; i++)
        prepare_one(i);
}

/* The origin's answer to a request of the gateway's. */
static size_t encode_answer(uint8_t *out, const uint8_t *request)
{
    static const uint8_t payload[LOAD_PAYLOAD_MAX] = {5, 6, 7, 8};
    struct encoder e;
    bool post = request[1] == CODE_POST;

    encoder_begin(&e, out, LOAD_PACKET, TYPE_ACK, post ? CODE_CHANGED : CODE_CONTENT,
                  harness_mid(request), request + MESSAGE_HEADER_BYTES, request[0] & 15);
    if (!post) {
        if (load.kind == LOAD_OBSERVE)
            encoder_uint(&e, OPTION_OBSERVE, ++load.number);
        encoder_uint(&e, OPTION_CONTENT_FORMAT, 0);
        encoder_uint(&e, OPTION_MAX_AGE, load.kind == LOAD_MISS ? 0 : FRESH_S);
        encoder_payload(&e, payload, load.o.payload);
    }
    return encoder_end(&e);
}

static unsigned prepare_answers(void)
{
    unsigned n = load.up_count;

    for (unsigned i = 0; i < n; i++)
        put(i, &load.up[i].flow, encode_answer(load.packets[i].data, load.up[i].data));
    if (n)
        load.state = load.up[0];
    load.up_count = 0;
    return n;
}

void load_fail(const char *what, unsigned wanted)
{
    fprintf(stderr, "worker: %s: %u %s were to come, %u came, %u of them with a wrong code%s\n",
            load_names[load.kind], wanted, what, load.answers, load.wrong,
            load.sums == load.ids ? "" : ", not those");
    counters_print(worker_counters(load.worker), "worker:", stderr);
}

static bool check(unsigned n)
{
    if (load.answers == n && load.wrong == 0 && load.sums == load.ids)
        return true;
    load_fail("answers", n);
    return false;
}

bool load_window(unsigned n)
{
    unsigned answers;

    prepare(n);
    load_measure();
    load_turns(n);
    load_measured();
    if (secure_is(load.kind))
        secure_take();
    answers = prepare_answers();
    if (answers) {
        load_measure();
        load_turns(answers);
        load_measured();
    }
    return check(n);
}

/* ---- the way in ---- */

static bool remembers(enum load_kind kind)
{
    return kind == LOAD_NON || kind == LOAD_MISS || kind == LOAD_POST;
}

static uint8_t code_wanted(enum load_kind kind)
{
    if (kind == LOAD_PING)
        return CODE_EMPTY;
    return kind == LOAD_POST ? CODE_CHANGED : CODE_CONTENT;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* No message ID comes twice within EXCHANGE_LIFETIME (RFC 7252 4.4), and no more of them than the
 * gateway can remember. */
static uint64_t gap_ns(const struct load_options *o, enum load_kind kind)
{
    uint64_t each = remembers(kind) ? PER_SESSION : MIDS, gap;

    if (o->gap_ns)
        return o->gap_ns;
    gap = larger(GAP_LEAST_NS, MARGIN(LIFETIME_NS) / (o->sessions * each) + 1);
    return remembers(kind) ? larger(gap, MARGIN(LIFETIME_NS) / o->remembered + 1) : gap;
}

static int make_worker(void)
{
    unsigned sessions = load.o.sessions;
    char text[2048], listener[160] = "";

    if (secure_is(load.kind)) {
        if (devices_begin(&load.devices, load.kind == LOAD_CCM8 ? PEER_SUITE_CCM8 : PEER_SUITE_GCM,
                          sessions) < 0)
            return -1;
        snprintf(listener, sizeof(listener), ", {uri: coaps://10.0.0.1, dtls: {psk: {file: %s}}}",
                 load.devices.file);
    }
    snprintf(text, sizeof(text), yaml, listener, sessions + 1024, load.o.remembered,
             load.kind == LOAD_OBSERVE ? sessions : 1, sessions + 1024);
    load.worker = harness_worker(text, sink, HARNESS_START_US);
    return load.worker ? 0 : -1;
}

/* What the load needs before its first request. */
static bool make_ready(void)
{
    bool ready;

    if (load.kind == LOAD_OBSERVE)
        return observe_register();
    if (!secure_is(load.kind))
        return true;
    load.connecting = true;
    ready = devices_connect(&load.devices, load.worker, &load.now_ns) == 0;
    load.connecting = false;
    return ready;
}

int load_begin(const struct load_options *options, enum load_kind kind)
{
    memset(&load, 0, sizeof(load));
    load.o = *options;
    load.kind = kind;
    load.expected = code_wanted(kind);
    load.gap_ns = gap_ns(options, kind);
    load.now_ns = HARNESS_START_US * 1000;
    if (load.gap_ns * options->window > PATIENCE_NS) {
        fprintf(stderr,
                "worker: %s: %u requests at a time take %.0f ms of virtual time: write a smaller "
                "--window, or a larger --remembered\n",
                load_names[kind], options->window, (double)load.gap_ns * options->window / 1e6);
        return -1;
    }
    if (make_worker() == 0 && make_ready())
        return 0;
    load_end();
    return -1;
}

void load_end(void)
{
    if (load.worker)
        harness_worker_end(load.worker);
    devices_end(&load.devices);
    load.worker = NULL;
}

uint64_t load_warmup(void)
{
    uint64_t all = load.o.sessions + load.o.sessions / 10;

    if (load.kind == LOAD_HIT)
        all = larger(all, TARGETS_HIT + load.o.targets);
    return remembers(load.kind) ? larger(all, MARGIN((uint64_t)load.o.remembered)) : all;
}

uint64_t load_run(uint64_t count, struct meter *meter)
{
    uint64_t done = 0;

    load.meter = meter;
    while (done < count) {
        uint64_t n;

        if (load.kind == LOAD_OBSERVE)
            n = observe_states();
        else
            n = load_window(load.o.window) ? load.o.window : 0;
        if (n == 0)
            return 0;
        if (meter)
            meter_mark(meter, n);
        done += n;
    }
    return done;
}

double load_step(unsigned count)
{
    uint64_t n;

    if (!meter_can_step())
        return -1;
    load.meter = NULL;
    load.stepping = true;
    load.steps = 0;
    if (load.kind == LOAD_OBSERVE)
        n = observe_states();
    else
        n = load_window(count < load.o.window ? count : load.o.window) ? count : 0;
    load.stepping = false;
    return n ? (double)load.steps / (double)n : -1;
}
