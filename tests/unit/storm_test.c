/* Clients and origins that do anything at any time: whatever they send, nothing breaks, nothing is
 * left over, and memory stays within its limits. Made for a build with sanitizers. */
#include "gateway/random.h"
#include "tests/unit/proxy_harness.h"

#define ROUNDS 40
#define STEPS  3000
#define KEPT   64

static const char yaml[] =
    "instance: unit\n"
    "interfaces:\n"
    "  - name: south\n"
    "    device: tap:unit0\n"
    "    addresses: [10.99.0.2/24]\n"
    "listeners:\n"
    "  - uri: coap://10.99.0.2\n"
    "    block_size: 256B\n"
    "upstreams:\n"
    "  - name: one\n"
    "    servers: [coap://10.99.0.1:5683]\n"
    "    transmission: {nstart: 3}\n"
    "    block_size: 64B\n"
    "  - name: three\n"
    "    servers: [coap://10.99.0.4:5683, coap://10.99.0.5:5683, coap://10.99.0.6:5683]\n"
    "    retries: 2\n"
    "    max_outstanding: 20\n"
    "  - name: loose\n"
    "    servers: [coap://10.99.0.7:5683, coap://10.99.0.8:5683]\n"
    "    reliable: false\n"
    "    timeout: 9s\n"
    "routes:\n"
    "  - {path: /, to: one}\n"
    "  - {path: /b, to: three, strip: true}\n"
    "  - {path: /c, to: loose}\n"
    "cache: {size: 64KiB, stale_if_error: 20s}\n"
    "limits: {sessions: 40, exchanges: 48, outbound: 40, queue: 4, remembered: 64, body: 4KiB, "
    "assembly_memory: 64KiB, transfers: 16, transfer_idle: 60s, observations: 16, relations: 24, "
    "client_requests: 6, client_relations: 4, message_memory: 64KiB}\n";

struct storm {
    struct harness h;
    struct random random;
    struct sent kept[2][KEPT]; /* what was sent lately, to clients and to origins */
    unsigned kept_count[2];
    uint8_t body[1200];
};

static uint32_t below(struct storm *s, uint32_t n)
{
    return random_below(&s->random, n);
}

static bool chance(struct storm *s, uint32_t percent)
{
    return below(s, 100) < percent;
}

static void keep(struct storm *s)
{
    struct sent *sent;

    while ((sent = harness_take(&s->h))) {
        bool to_origin = is_to_origin(sent);

        if (sent->data[1] != CODE_EMPTY)
            s->kept[to_origin][s->kept_count[to_origin]++ % KEPT] = *sent;
    }
    s->h.taken = s->h.count = 0;
}

static struct addition odd_block(struct storm *s, uint16_t number)
{
    if (chance(s, 2))
        return addition_uint(number, below(s, 1u << 24));
    return block_option(number, below(s, chance(s, 10) ? 2000 : 5), chance(s, 50),
                        (uint8_t)(chance(s, 80) ? 2 : below(s, 7)));
}

static struct addition odd_etag(struct storm *s)
{
    return addition_bytes(OPTION_ETAG, s->body + below(s, 3), 2);
}

/* A payload that fits a block option often enough. */
static void put_payload(struct storm *s, struct mold *m)
{
    static const uint16_t lengths[] = {0, 5, 16, 64, 64, 64, 64, 128, 256, 1024, 1100};

    m->payload_length = lengths[below(s, sizeof(lengths) / sizeof(lengths[0]))];
    m->payload = s->body;
}

static void client_does(struct storm *s)
{
    static const uint8_t codes[] = {CODE_GET, CODE_GET,    CODE_GET,   CODE_POST,
                                    CODE_PUT, CODE_DELETE, CODE_FETCH, CODE_IPATCH};
    static const char *const paths[] = {"a", "a/b", "b/x", "b/y", "c", "c/d"};
    struct addition options[8];
    struct mold m = {.code = codes[below(s, sizeof(codes))],
                     .type = chance(s, 70) ? TYPE_CON : TYPE_NON,
                     .path = paths[below(s, 6)],
                     .options = options};
    uint8_t token[80] = {(uint8_t)below(s, 4)};

    m.token = token;
    m.token_length = chance(s, 5) ? 80 : 1;
    if (m.token_length > 64)
        m.token_length = 60;
    if (chance(s, 15))
        options[m.option_count++] = odd_etag(s);
    if (chance(s, 20))
        options[m.option_count++] = addition_uint(OPTION_OBSERVE, below(s, 2));
    if (chance(s, 30))
        options[m.option_count++] = odd_block(s, OPTION_BLOCK2);
    if (chance(s, m.code == CODE_GET ? 3 : 50))
        options[m.option_count++] = odd_block(s, OPTION_BLOCK1);
    if (chance(s, 5))
        options[m.option_count++] = addition_uint(OPTION_SIZE1, below(s, 10000));
    if (chance(s, 5))
        options[m.option_count++] = addition_uint(OPTION_NO_RESPONSE, below(s, 32));
    if (chance(s, 10))
        options[m.option_count++] = addition_bytes(OPTION_REQUEST_TAG, s->body + below(s, 2), 1);
    if (m.code != CODE_GET || chance(s, 5))
        put_payload(s, &m);
    if (chance(s, 10))
        m.mid = (uint16_t)(1 + below(s, 30));
    client_sends(&s->h, below(s, 12), &m);
}

static void client_reacts(struct storm *s, const struct sent *to)
{
    uint8_t bytes[4];

    message_write_empty(bytes, chance(s, 80) ? TYPE_ACK : TYPE_RST,
                        (uint16_t)(to->data[2] << 8 | to->data[3]));
    harness_give(&s->h, &to->flow, bytes, 4);
}

/* The block that was asked for or acknowledged, mostly. */
static void put_fitting_blocks(struct storm *s, struct mold *m, struct addition *options,
                               const struct message *asked)
{
    struct block block = {.szx = 2};

    if (message_has(asked, SLOT_BLOCK2))
        (void)block_decode(message_uint(asked, SLOT_BLOCK2, 0), &block);
    if (message_has(asked, SLOT_BLOCK2) || chance(s, 30)) {
        block.more = chance(s, 60);
        options[m->option_count++] = addition_uint(OPTION_BLOCK2, block_encode(&block));
        m->payload_length = block_size(&block);
    }
    if (message_has(asked, SLOT_BLOCK1)) {
        options[m->option_count++] =
            addition_uint(OPTION_BLOCK1, message_uint(asked, SLOT_BLOCK1, 0));
        if (message_uint(asked, SLOT_BLOCK1, 0) & 8)
            m->code = CODE_CONTINUE;
    }
}

static void origin_does(struct storm *s, const struct sent *request)
{
    static const uint8_t codes[] = {CODE_CONTENT,
                                    CODE_CONTENT,
                                    CODE_CONTENT,
                                    CODE_CONTENT,
                                    CODE_CHANGED,
                                    CODE_CREATED,
                                    CODE_VALID,
                                    CODE_CONTINUE,
                                    CODE_NOT_FOUND,
                                    CODE_REQUEST_ENTITY_INCOMPLETE,
                                    CODE_REQUEST_ENTITY_TOO_LARGE,
                                    CODE_SERVICE_UNAVAILABLE,
                                    CODE(3, 3)};
    struct addition options[10];
    struct mold m = {.code = codes[below(s, sizeof(codes))], .options = options};
    struct message asked;

    assert_int_equal(message_parse(request->data, request->length, &asked), VERDICT_OK);
    put_payload(s, &m);
    if (chance(s, 40))
        options[m.option_count++] = odd_etag(s);
    if (message_has(&asked, SLOT_OBSERVE) && chance(s, 80))
        options[m.option_count++] = addition_uint(OPTION_OBSERVE, below(s, 100));
    if (chance(s, 10))
        options[m.option_count++] = text_option(OPTION_LOCATION_PATH, "new");
    if (chance(s, 50))
        options[m.option_count++] = addition_uint(OPTION_MAX_AGE, below(s, 30));
    if (chance(s, 70)) {
        put_fitting_blocks(s, &m, options, &asked);
    } else if (chance(s, 50)) {
        options[m.option_count++] = odd_block(s, OPTION_BLOCK2);
        options[m.option_count++] = odd_block(s, OPTION_BLOCK1);
    }
    if (chance(s, 40)) {
        m.type = chance(s, 50) ? TYPE_CON : TYPE_NON;
        m.mid = (uint16_t)(1 + below(s, 5000));
    }
    origin_answers(&s->h, request, &m);
}

static void origin_says_little(struct storm *s, const struct sent *request)
{
    uint8_t bytes[4];

    if (chance(s, 40)) {
        worker_unreachable(s->h.worker, &request->flow, request->data,
                           chance(s, 80) ? request->length : 0, s->h.now);
        return;
    }
    message_write_empty(bytes, chance(s, 70) ? TYPE_ACK : TYPE_RST,
                        (uint16_t)(request->data[2] << 8 | request->data[3]));
    if (chance(s, 5))
        bytes[0] |= 0x0f; /* malformed */
    harness_give(&s->h, &request->flow, bytes, 4);
}

/* Mostly about what was sent last. */
static void peer_does(struct storm *s)
{
    bool to_origin = chance(s, 80);
    unsigned count = s->kept_count[to_origin], n = count < KEPT ? count : KEPT;
    const struct sent *sent;

    if (n == 0)
        return;
    if (chance(s, 80) && n > 4)
        n = 4;
    sent = &s->kept[to_origin][(count - 1 - below(s, n)) % KEPT];
    if (!to_origin)
        client_reacts(s, sent);
    else if (chance(s, 90))
        origin_does(s, sent);
    else
        origin_says_little(s, sent);
}

static void step(struct storm *s)
{
    struct worker_usage u;
    uint32_t what = below(s, 100);

    s->h.no_buffers = chance(s, 2);
    if (what < 30)
        client_does(s);
    else if (what < 90)
        peer_does(s);
    else if (what < 99)
        harness_advance(&s->h, below(s, 300000));
    else
        harness_advance(&s->h, below(s, 30) * SECOND_US);
    s->h.no_buffers = false;
    keep(s);
    u = usage_of(&s->h);
    assert_true(u.exchanges <= u.exchanges_max && u.forwards <= u.forwards_max);
    assert_true(u.cache_bytes <= u.cache_bytes_max);
    assert_true(u.transfers <= 16 && u.relations <= 24 && u.observations <= 16);
}

/* All servers answer their pings, and nothing else: then all must end. */
static void calm(struct storm *s)
{
    struct harness *h = &s->h;

    for (unsigned i = 0; i < 400; i++) {
        struct sent *sent;

        harness_advance(h, 5 * SECOND_US);
        while ((sent = harness_take(h))) {
            uint8_t bytes[4];
            struct flow flow = sent->flow;

            if (!is_to_origin(sent) || sent->data[1] != CODE_EMPTY || (sent->data[0] >> 4 & 3))
                continue;
            message_write_empty(bytes, TYPE_RST, (uint16_t)(sent->data[2] << 8 | sent->data[3]));
            harness_give(h, &flow, bytes, 4);
        }
        h->taken = h->count = 0;
    }
}

/* STORM_FIRST and STORM_COUNT in the environment choose other ones than the first ROUNDS. */
static unsigned long setting(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 10) : otherwise;
}

static void storms_leave_nothing(void **state)
{
    unsigned long first = setting("STORM_FIRST", 0), count = setting("STORM_COUNT", ROUNDS);

    (void)state;
    for (unsigned long round = first; round < first + count; round++) {
        struct storm *s = calloc(1, sizeof(*s));
        uint8_t seed[RANDOM_SEED_BYTES] = {7};

        memcpy(seed + 8, &round, sizeof(round));
        random_seed(&s->random, seed);
        body_fill(s->body, sizeof(s->body), (unsigned)round);
        harness_start(&s->h, yaml);
        for (unsigned i = 0; i < STEPS; i++)
            step(s);
        calm(s);
        nothing_is_kept(&s->h);
        harness_stop(&s->h);
        free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(storms_leave_nothing)};

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
