/* A whole worker under hostile datagrams. The input is a list of steps: raw datagrams on a few
 * flows, messages that answer what the worker sent last (so that the paths behind a matching
 * message ID and token are reached), bursts, time, ICMP errors, and what the store says: records
 * that it has or never had, answers to what it was told and to what it was not. What the worker
 * emits must parse and must have a reason: an ACK or RST a message to answer, an answer a request
 * with its token, a request a configured server. Buffers and parcels must come back, and no table
 * may go beyond its limit. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_mempool.h>

#include "config/config.h"
#include "gateway/coap/message.h"
#include "gateway/hash.h"
#include "gateway/parcel.h"
#include "gateway/store/store.h"
#include "gateway/worker.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char yaml[] =
    "interfaces:\n"
    "  - {name: s, device: \"tap:fuzz0\", addresses: [10.99.0.2/24, \"fd99::2/64\"]}\n"
    "listeners:\n"
    "  - {uri: coap://10.99.0.2, block_size: 64B}\n"
    "  - uri: \"coap://[fd99::2]\"\n"
    "upstreams:\n"
    "  - {name: a, servers: [coap://10.99.0.1, coap://10.99.0.3], transmission: {nstart: 2}, "
    "ports: 4, block_size: 32B, revive: 1h}\n"
    "  - {name: b, servers: [\"coap://[fd99::1]\"], reliable: false, timeout: 3s, "
    "balance: round_robin, max_outstanding: 4}\n"
    "routes:\n"
    "  - {path: /, to: a}\n"
    "  - {path: /b, to: b, strip: true}\n"
    "  - {path: /hello, respond: {payload: \"hello world!\", content_format: text/plain}}\n"
    "  - {path: /h, host: example.org, respond: {payload: x}}\n"
    "  - {path: /r, resources: {max: 4, size: 64KiB}}\n"
    "store: {url: \"unix:///nowhere\", resume_spread: 2s}\n"
    "forward_proxy: {allow: [10.99.0.0/24, \"*.x\", n]}\n"
    "cache: {size: 64KiB, stale_if_error: 60s}\n"
    "observe: {confirm_every: 3, confirm_after: 10s}\n"
    "limits: {sessions: 16, exchanges: 16, outbound: 16, queue: 2, remembered: 16, "
    "message_memory: 64KiB, body: 1KiB, assembly_memory: 64KiB, transfers: 16, observations: 4, "
    "relations: 6, client_requests: 8, client_relations: 4, destinations: 2}\n";

static struct config *config;
static struct rte_mempool *parcels;

#define BURST_MAX 16 /* datagrams of one call */

/* Parcels in the pool; cookies that wait for their answer; records that the store remembers. */
#define PARCELS     1023
#define COOKIES_MAX 256
#define RECORDS     4
#define RECORD_MAX  512

/* What was sent lately, to be answered. */
#define LAST 8
struct last {
    struct flow flow;
    uint16_t length;
    uint8_t data[64]; /* header, token and a little more */
};

/* A set of hashes that may forget nothing, but may know what was never put in: what it does not
 * know was not there. */
#define SET_BITS 65536
struct set {
    uint8_t bits[SET_BITS / 8];
};

static struct {
    struct worker *worker;
    uint64_t now;
    uint8_t buffer[1500];
    bool open;   /* a buffer is out */
    bool starve; /* alloc fails */
    struct last last[LAST];
    unsigned sent;
    struct set confirmable, rejectable; /* message IDs that came in */
    struct set tokens;                  /* of requests that came in */
    uint32_t question;                  /* the last one to the resolver */
    uint64_t cookies[COOKIES_MAX];      /* that the store has to answer */
    unsigned cookie_count;
    struct {
        uint32_t length;
        uint8_t what;
        uint8_t bytes[RECORD_MAX];
    } records[RECORDS]; /* that were put last */
    unsigned record_count;
} run;

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "violated: %s\n", what);
    abort();
}

static void set_add(struct set *set, uint64_t hash)
{
    set->bits[hash % SET_BITS / 8] |= (uint8_t)(1u << hash % 8);
}

static bool set_has(const struct set *set, uint64_t hash)
{
    return set->bits[hash % SET_BITS / 8] >> hash % 8 & 1;
}

static uint64_t hash_mid(const struct flow *flow, uint16_t mid)
{
    return hash_bytes(flow, sizeof(*flow), mid);
}

static uint64_t hash_token(const struct flow *flow, const struct message *m)
{
    uint64_t hash = hash_bytes(flow, sizeof(*flow), m->token_length);

    return m->token_length ? hash_bytes(m->token, m->token_length, hash) : hash;
}

static void note_input(const struct flow *flow, const uint8_t *data, size_t length)
{
    struct message m;
    enum message_verdict verdict = message_parse(data, length, &m);

    if (verdict == VERDICT_SHORT || verdict == VERDICT_VERSION)
        return;
    if (m.type == TYPE_CON)
        set_add(&run.confirmable, hash_mid(flow, m.mid));
    if (m.type <= TYPE_NON)
        set_add(&run.rejectable, hash_mid(flow, m.mid));
    if (verdict == VERDICT_OK && code_is_request(m.code))
        set_add(&run.tokens, hash_token(flow, &m));
}

static bool is_server(const struct flow *flow)
{
    for (unsigned u = 0; u < config->upstream_count; u++) {
        for (unsigned i = 0; i < config->upstreams[u].server_count; i++) {
            const struct endpoint *e = &config->upstreams[u].servers[i].endpoint;

            if (e->port == flow->peer_port && address_equal(&e->address, &flow->peer))
                return true;
        }
    }
    for (unsigned i = 0; i < config->forward.network_count; i++)
        if (address_in_subnet(&flow->peer, &config->forward.networks[i].address,
                              config->forward.networks[i].prefix))
            return true;
    return false;
}

/* What is sent has a reason (RFC 7252 4.2, 5.2, 5.3.2). */
static void check_output(const struct flow *flow, const struct message *m)
{
    if (m->type == TYPE_ACK)
        require(set_has(&run.confirmable, hash_mid(flow, m->mid)), "an ACK answers a CON");
    if (m->type == TYPE_RST)
        require(set_has(&run.rejectable, hash_mid(flow, m->mid)), "a RST answers a CON or NON");
    if (code_is_request(m->code)) {
        require(is_server(flow), "a request goes to a server of the configuration");
        require(flow->local_port >= config->upstream_port_base, "from an upstream port");
    } else if (m->code != CODE_EMPTY) {
        require(set_has(&run.tokens, hash_token(flow, m)), "an answer has its request's token");
    } else {
        require(m->type >= TYPE_ACK || (m->type == TYPE_CON && is_server(flow)),
                "an Empty message is an ACK, a RST, or a ping to a server");
    }
}

static bool alloc(void *context, const struct flow *flow, struct outgoing *out)
{
    (void)context;
    require(!run.open, "one buffer at a time");
    if (run.starve)
        return false;
    run.open = true;
    out->data = run.buffer;
    out->room = address_is_v4(&flow->peer) ? 1472 : 1452;
    out->buffer = &run;
    return true;
}

static void send_out(void *context, const struct flow *flow, struct outgoing *out, uint16_t length)
{
    struct last *last = &run.last[run.sent++ % LAST];
    struct message m;

    (void)context;
    require(run.open, "sent what was allocated");
    run.open = false;
    require(length <= out->room, "within the room");
    require(message_parse(out->data, length, &m) == VERDICT_OK, "what is sent parses");
    check_output(flow, &m);
    last->flow = *flow;
    last->length = length < sizeof(last->data) ? length : sizeof(last->data);
    memcpy(last->data, out->data, last->length);
}

static void cancel(void *context, struct outgoing *out)
{
    (void)context;
    (void)out;
    require(run.open, "cancelled what was allocated");
    run.open = false;
}

static uint16_t upstream_port(void *context, uint16_t local, const struct endpoint *server,
                              unsigned n)
{
    (void)context;
    (void)local;
    (void)server;
    return (uint16_t)(config->upstream_port_base + n);
}

static bool resolve(void *context, const char *name, size_t length, uint32_t id)
{
    (void)context;
    require(length > 0 && length <= 255 && memchr(name, 0, length) == NULL, "a name");
    run.question = id;
    return !run.starve;
}

/* ---- the store ---- */

/* Keeps what can be given back, and the cookie, which has to be answered once. */
static bool tell(void *context, unsigned to, struct parcel *parcel)
{
    struct store_head head;

    (void)context;
    require(to == PARCEL_STORE && parcel->kind == PARCEL_RECORD, "there is only the store");
    require(parcel_read(parcel, 0, &head, sizeof(head)), "a head");
    if (run.starve || run.cookie_count == COOKIES_MAX)
        return false;
    if (parcel->type == STORE_PUT) {
        uint32_t length = parcel->length - (uint32_t)sizeof(head);
        unsigned at = run.record_count % RECORDS;

        if (head.cookie)
            run.cookies[run.cookie_count++] = head.cookie;
        if (length <= RECORD_MAX) {
            run.records[at].length = length;
            run.records[at].what = head.what;
            require(parcel_read(parcel, sizeof(head), run.records[at].bytes, length), "a record");
            run.record_count++;
        }
    } else {
        require(parcel->type == STORE_DELETE || parcel->type == STORE_MARK_ASK, "a store's parcel");
    }
    parcel_free(parcels, parcel);
    return true;
}

static unsigned room(void *context, unsigned to)
{
    (void)context;
    (void)to;
    return 0;
}

static void say(enum store_type type, const struct store_head *head, const uint8_t *bytes,
                uint32_t length)
{
    struct parcel *parcel =
        parcel_new(parcels, PARCEL_RECORD, (uint16_t)type, (uint32_t)sizeof(*head) + length);

    require(parcel, "no parcel is lost");
    parcel->from = PARCEL_STORE;
    (void)parcel_write(parcel, 0, head, sizeof(*head));
    if (length)
        (void)parcel_write(parcel, sizeof(*head), bytes, length);
    worker_told(run.worker, parcel, run.now);
}

static void say_done(unsigned at, int error)
{
    const struct store_head head = {.cookie = run.cookies[at], .error = error};

    run.cookies[at] = run.cookies[--run.cookie_count];
    say(STORE_DONE, &head, NULL, 0);
}

/* The token of a registration that comes back is one that may be answered. */
static void note_record(const uint8_t *bytes, uint32_t length)
{
    struct store_relation r;
    struct message m;

    if (length < sizeof(r))
        return;
    memcpy(&r, bytes, sizeof(r));
    if (r.packet_length <= length - sizeof(r) &&
        message_parse(bytes + sizeof(r), r.packet_length, &m) == VERDICT_OK)
        for (unsigned i = 0; i < config->listener_count; i++) {
            const struct config_listener *l = &config->listeners[i];
            struct flow flow = flow_make(l->local, l->port, &r.peer, TRANSPORT_UDP);

            set_add(&run.tokens, hash_token(&flow, &m));
        }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static char arguments[][32] = {"fuzz",          "--no-huge",      "-m",
                                   "128",           "--no-shconf",    "--no-pci",
                                   "--log-level=3", "--no-telemetry", ""};
    char *list[10] = {0};

    (void)argc;
    (void)argv;
    snprintf(arguments[8], sizeof(arguments[8]), "--file-prefix=f%d", (int)getpid());
    for (unsigned i = 0; i < 9; i++)
        list[i] = arguments[i];
    require(rte_eal_init(9, list) >= 0, "EAL");
    rmdir(rte_eal_get_runtime_dir()); /* empty, and made for each process */
    config = config_load_text("fuzz.yaml", yaml, strlen(yaml), stderr);
    require(config, "configuration");
    parcels = parcel_pool_create("fuzz", PARCELS);
    require(parcels, "parcels");
    return 0;
}

/* ---- steps ---- */

struct input {
    const uint8_t *at, *end;
};

static uint8_t take(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static const uint8_t *take_bytes(struct input *in, size_t *length)
{
    const uint8_t *bytes = in->at;

    if (*length > (size_t)(in->end - in->at))
        *length = (size_t)(in->end - in->at);
    in->at += *length;
    return bytes;
}

/* Clients on both families, origins, and strangers to an upstream port. */
static struct flow pick_flow(uint8_t choice)
{
    struct endpoint peer = {.port = (uint16_t)(5683 + (choice >> 4))};
    unsigned kind = choice & 3;

    address_parse(kind == 1 ? "fd99::1" : kind == 2 ? "10.99.0.3" : "10.99.0.1", &peer.address);
    return flow_make(kind == 1, choice & 8 ? 5683 : config->upstream_port_base, &peer,
                     TRANSPORT_UDP);
}

static void give(const struct flow *flow, const uint8_t *data, size_t length, bool multicast)
{
    /* A copy of its own, so that the sanitizer sees a read past its end. */
    uint8_t *copy = malloc(length + !length);
    struct datagram d = {
        .data = copy, .length = (uint16_t)length, .multicast = multicast, .flow = *flow};

    if (length)
        memcpy(copy, data, length);
    note_input(flow, copy, length);
    worker_receive(run.worker, &d, 1, run.now);
    free(copy);
}

/* Several at once: what the look-up of the whole burst found may be gone when its turn comes. */
static void give_burst(struct input *in, unsigned n)
{
    struct datagram burst[BURST_MAX];
    uint8_t *copies[BURST_MAX];

    for (unsigned i = 0; i < n; i++) {
        struct flow flow = pick_flow(take(in));
        size_t length = take(in);
        const uint8_t *bytes = take_bytes(in, &length);

        copies[i] = malloc(length + !length);
        if (length)
            memcpy(copies[i], bytes, length);
        note_input(&flow, copies[i], length);
        burst[i] = (struct datagram){.data = copies[i], .length = (uint16_t)length, .flow = flow};
    }
    worker_receive(run.worker, burst, n, run.now);
    for (unsigned i = 0; i < n; i++)
        free(copies[i]);
}

/* A message with the ID and token of one that was sent, and the rest as the input has it. */
static void answer(struct input *in)
{
    const struct last *last = &run.last[take(in) % LAST];
    uint8_t message[600];
    uint8_t type = take(in), code = take(in);
    size_t rest = take(in), token = last->length ? last->data[0] & 0x0f : 0;
    const uint8_t *bytes = take_bytes(in, &rest);

    if (last->length < MESSAGE_HEADER_BYTES || token > 8)
        return;
    message[0] = (uint8_t)(0x40 | (type & 3) << 4 | (code ? token : 0));
    message[1] = code;
    message[2] = last->data[2];
    message[3] = (uint8_t)(last->data[3] + (type & 4 ? 1 : 0));
    memcpy(message + 4, last->data + 4, token);
    memcpy(message + 4 + token, bytes, rest);
    give(&last->flow, message, code ? 4 + token + rest : 4, false);
}

/* What the resolver says: to the last question, or to one that nobody asked. */
static void give_resolved(struct input *in)
{
    static const char *const addresses[] = {"10.99.0.9", "127.0.0.1", "10.99.0.2", "fd99::9",
                                            "fe80::1",   "192.0.2.1", "10.99.0.1", "::1"};
    uint8_t how = take(in);
    struct resolved answer = {.id = run.question + (how >> 7), .ttl_s = how & 0x3f};

    answer.error = how & 0x40 ? -ENOENT : 0;
    answer.count = take(in) % (RESOLVED_MAX + 1);
    for (unsigned i = 0; i < answer.count; i++)
        address_parse(addresses[take(in) & 7], &answer.addresses[i]);
    worker_resolved(run.worker, &answer, run.now);
}

/* A record that was put, with some bytes changed, or any bytes. */
static void give_record(struct input *in)
{
    static const struct store_head none;
    struct store_head head = none;
    uint8_t how = take(in), bytes[RECORD_MAX];
    unsigned at = how % RECORDS;
    size_t length;

    head.verify = how & 8;
    head.what = how & 16 ? STORE_RESOURCE : STORE_RELATION;
    if (how & 32) {
        const uint8_t *given;

        length = (size_t)take(in) << 1;
        given = take_bytes(in, &length);
        if (length)
            memcpy(bytes, given, length);
        if (how & 64)
            head.what = STORE_ASSOCIATION;
    } else {
        length = run.records[at].length;
        head.what = run.records[at].what;
        memcpy(bytes, run.records[at].bytes, length);
        for (unsigned n = how >> 6; n && length; n--) {
            size_t where = take(in);

            bytes[where % length] = take(in);
        }
    }
    note_record(bytes, (uint32_t)length);
    say(STORE_RECORD, &head, bytes, (uint32_t)length);
}

static void give_store(struct input *in)
{
    static const int errors[] = {0, -ENOTCONN, -ETIMEDOUT, -EIO, 0, -ENOSPC, 0, 1};
    uint8_t how = take(in);
    struct store_head head = {.error = errors[how >> 5]};

    switch (how & 7) {
    case 0:
    case 1:
        if (run.cookie_count)
            say_done(take(in) % run.cookie_count, head.error);
        break;
    case 2: /* nobody has asked */
        for (unsigned i = 0; i < sizeof(head.cookie); i++)
            head.cookie = head.cookie << 8 | take(in);
        say(STORE_DONE, &head, NULL, 0);
        break;
    case 3:
        say(how & 8 ? STORE_UP : STORE_DOWN, &head, NULL, 0);
        break;
    case 4:
        head.mark = (uint64_t)take(in) << 40 | (uint64_t)take(in) << 8;
        head.cookie = (uint64_t)take(in) << 40 | take(in);
        say(STORE_MARK, &head, NULL, 0);
        break;
    case 5:
        say(how & 8 ? STORE_RESUMED : (enum store_type)take(in), &head, NULL, 0);
        break;
    default:
        give_record(in);
        break;
    }
}

static void step(struct input *in)
{
    uint8_t op = take(in);
    struct flow flow;
    size_t length;
    const uint8_t *bytes;

    switch (op & 7) {
    case 0:
    case 1:
        flow = pick_flow(take(in));
        length = take(in);
        bytes = take_bytes(in, &length);
        give(&flow, bytes, length, op & 8);
        break;
    case 2:
    case 3:
        answer(in);
        break;
    case 4: /* up to a quarter of a second, or up to some minutes */
        run.now += op & 8 ? take(in) * 2000000ull : take(in) * 1000ull;
        worker_advance(run.worker, run.now);
        break;
    case 5: /* an ICMP error about one that was sent, or about nothing */
        length = take(in) & 15;
        bytes = run.last[op >> 4 & 7].data;
        worker_unreachable(run.worker, &run.last[op >> 4 & 7].flow, bytes, length, run.now);
        break;
    case 6:
        run.starve = op & 8;
        break;
    default:
        length = take(in);
        if (length == 0x77)
            worker_drain(run.worker);
        else if (length == 0x66)
            give_resolved(in);
        else if (length >= 0xc0)
            give_store(in);
        else
            give_burst(in, 2 + length % (BURST_MAX - 1));
        break;
    }
}

static void check_usage(void)
{
    struct worker_usage u;

    worker_usage(run.worker, &u);
    require(u.sessions <= u.sessions_max, "sessions within the limit");
    require(u.exchanges <= u.exchanges_max && u.forwards <= u.forwards_max, "exchanges");
    require(u.outbound <= u.outbound_max && u.remembered <= u.remembered_max, "outbound");
    require(u.chunks <= u.chunks_max, "message memory");
    require(u.observations <= u.observations_max && u.relations <= u.relations_max, "observers");
    require(u.cache_bytes <= u.cache_bytes_max, "the cache");
    require(u.assembly_bytes <= u.assembly_bytes_max, "bodies");
    require(!run.open, "a buffer is sent or cancelled before the call returns");
}

/* A server that is down is pinged for ever: a session and a timer for each. */
static bool nothing_is_left(void)
{
    const struct counters *c = worker_counters(run.worker);
    uint64_t down = c->servers_down - c->servers_up;
    struct worker_usage u;

    worker_usage(run.worker, &u);
    return !u.exchanges && !u.forwards && !u.outbound && !u.remembered && !u.chunks &&
           !u.observations && !u.relations && !u.transfers && u.sessions <= down &&
           u.timers <= 2 * down;
}

/* Everything ends by itself when nothing comes any more; what is in the cache stays. */
static void check_end(void)
{
    struct worker_usage u;

    run.starve = false;
    while (run.cookie_count)
        say_done(0, -ENOTCONN);
    for (unsigned i = 0; i < 100000 && !nothing_is_left(); i++) {
        uint64_t next = worker_next_us(run.worker);

        run.now = next > run.now ? next : run.now + 1000;
        worker_advance(run.worker, run.now);
        while (run.cookie_count)
            say_done(0, -ENOTCONN);
    }
    require(nothing_is_left(), "nothing is left");
    worker_usage(run.worker, &u);
    require(u.assembly_bytes == 0, "no body is left");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct worker_setup setup = {.config = config,
                                 .io = {.alloc = alloc,
                                        .send = send_out,
                                        .cancel = cancel,
                                        .upstream_port = upstream_port,
                                        .resolve = resolve,
                                        .tell = tell,
                                        .room = room,
                                        .parcels = parcels},
                                 .count = 1,
                                 .seed = {1, 2, 3}};
    struct input in = {data, data + size};

    memset(&run, 0, sizeof(run));
    run.now = 1000000000;
    run.worker = worker_create(&setup, run.now);
    require(run.worker, "a worker");
    while (in.at < in.end) {
        step(&in);
        check_usage();
    }
    check_end();
    worker_destroy(run.worker);
    require(rte_mempool_avail_count(parcels) == PARCELS, "no parcel is left");
    return 0;
}
