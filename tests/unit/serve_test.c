/* What the gateway answers itself: routing, fixed responses, discovery, errors, multicast, and the
 * table of malformed datagrams. */
#include "tests/unit/worker_harness.h"

#include "gateway/coap/block.h"

static const char head[] = "instance: unit\n"
                           "interfaces:\n"
                           "  - name: south\n"
                           "    device: tap:unit0\n"
                           "    addresses: [10.99.0.2/24]\n"
                           "listeners:\n"
                           "  - uri: coap://10.99.0.2\n"
                           "upstreams:\n"
                           "  - {name: origin, servers: [coap://10.99.0.1:5683], "
                           "transmission: {nstart: 8}}\n"
                           "transmission: {default_leisure: 2s}\n"
                           "routes:\n";

static void start(struct harness *h, const char *routes)
{
    char yaml[8192];

    snprintf(yaml, sizeof(yaml), "%s%s", head, routes);
    harness_start(h, yaml);
}

static void stop(struct harness *h)
{
    harness_nothing_left(h);
    harness_stop(h);
}

static const char hello[] =
    "  - {path: /hello, respond: {payload: \"hello world!\", content_format: text/plain, "
    "max_age: 30s}}\n";

/* GET with any options: returns the answer. */
struct option_given {
    uint16_t number;
    const char *value;
    size_t length;
};

static struct sent *get(struct harness *h, enum message_type type, uint8_t code,
                        const struct option_given *options, unsigned n, struct message *m)
{
    static uint16_t mid = 100;
    struct flow client = harness_client(h, 1);
    uint8_t bytes[1500];
    struct encoder e;

    encoder_begin(&e, bytes, 1400, type, code, ++mid, (const uint8_t *)"t", 1);
    for (unsigned i = 0; i < n; i++)
        encoder_option(&e, options[i].number, options[i].value, options[i].length);
    assert_true(encoder_end(&e) > 0);
    harness_give(h, &client, bytes, encoder_end(&e));
    return harness_expect(h, m);
}

#define GET(h, m, ...)                                                     \
    get(h, TYPE_CON, CODE_GET, (const struct option_given[]){__VA_ARGS__}, \
        sizeof((const struct option_given[]){__VA_ARGS__}) / sizeof(struct option_given), m)
#define PATH(text)                              \
    {                                           \
        OPTION_URI_PATH, text, sizeof(text) - 1 \
    }
#define HOST(text)                              \
    {                                           \
        OPTION_URI_HOST, text, sizeof(text) - 1 \
    }
#define QUERY(text)                              \
    {                                            \
        OPTION_URI_QUERY, text, sizeof(text) - 1 \
    }

static void a_fixed_response_has_exactly_these_bytes(void **state)
{
    /* ACK 2.05, ID 0x7d34, token 0x20; ETag (4 bytes), Content-Format 0 (empty), Max-Age 30,
     * payload: the layout of RFC 7252 figure 16 with our options. */
    static const uint8_t request[] = {0x41, 0x01, 0x7d, 0x34, 0x20, 0xb5, 'h', 'e', 'l', 'l', 'o'};
    struct harness h;
    struct flow client;
    struct sent *out;

    (void)state;
    start(&h, hello);
    client = harness_client(&h, 1);
    harness_give(&h, &client, request, sizeof(request));
    out = harness_take(&h);
    assert_non_null(out);
    assert_int_equal(out->length, 5 + 5 + 1 + 2 + 1 + 12);
    assert_memory_equal(out->data, ((const uint8_t[]){0x61, 0x45, 0x7d, 0x34, 0x20, 0x44}), 6);
    assert_memory_equal(out->data + 10, ((const uint8_t[]){0x80, 0x21, 30, 0xff}), 4);
    assert_memory_equal(out->data + 14, "hello world!", 12);
    stop(&h);
}

static void methods_preconditions_and_negotiation(void **state)
{
    struct harness h;
    struct message m;
    char etag[4];

    (void)state;
    start(&h, hello);
    GET(&h, &m, PATH("hello"));
    assert_int_equal(m.code, CODE_CONTENT);
    memcpy(etag, m.first[SLOT_ETAG].value, 4);
    GET(&h, &m, {OPTION_ETAG, etag, 4}, PATH("hello"));
    assert_int_equal(m.code, CODE_VALID);
    assert_int_equal(m.payload_length, 0);
    assert_true(message_has(&m, SLOT_ETAG) && message_has(&m, SLOT_MAX_AGE));
    GET(&h, &m, {OPTION_ETAG, "\0\0\0", 3}, PATH("hello"));
    assert_int_equal(m.code, CODE_CONTENT);
    GET(&h, &m, {OPTION_IF_MATCH, "\1\2", 2}, PATH("hello"));
    assert_int_equal(m.code, CODE_PRECONDITION_FAILED);
    GET(&h, &m, {OPTION_IF_MATCH, "", 0}, PATH("hello"));
    assert_int_equal(m.code, CODE_CONTENT);
    GET(&h, &m, {OPTION_IF_NONE_MATCH, "", 0}, PATH("hello"));
    assert_int_equal(m.code, CODE_PRECONDITION_FAILED);
    GET(&h, &m, PATH("hello"), {OPTION_ACCEPT, "", 0});
    assert_int_equal(m.code, CODE_CONTENT);
    GET(&h, &m, PATH("hello"), {OPTION_ACCEPT, "\x32", 1});
    assert_int_equal(m.code, CODE_NOT_ACCEPTABLE);
    GET(&h, &m, PATH("hello"), PATH("below"));
    assert_int_equal(m.code, CODE_NOT_FOUND);
    GET(&h, &m, PATH("hello"), {OPTION_PROXY_SCHEME, "coap", 4});
    assert_int_equal(m.code, CODE_PROXYING_NOT_SUPPORTED);
    get(&h, TYPE_CON, CODE_DELETE, (const struct option_given[]){PATH("hello")}, 1, &m);
    assert_int_equal(m.code, CODE_METHOD_NOT_ALLOWED);
    stop(&h);
}

static void long_representations_come_in_blocks(void **state)
{
    struct harness h;
    struct message m;
    struct block block;
    char routes[4096], body[3001], got[3001];
    uint32_t number = 0;
    size_t length = 0;

    (void)state;
    for (unsigned i = 0; i < 3000; i++)
        body[i] = (char)('a' + i * 7 % 26);
    body[3000] = 0;
    snprintf(routes, sizeof(routes),
             "  - {path: /big, respond: {payload: \"%s\"}}\nlimits: {amplification: 0}\n", body);
    start(&h, routes);
    GET(&h, &m, PATH("big"));
    assert_int_equal(message_uint(&m, SLOT_SIZE2, 0), 3000);
    assert_int_equal(m.payload_length, 1024);
    do { /* the rest in smaller ones (RFC 7959 2.4) */
        uint8_t value[3];
        uint32_t asked = block_encode(&(struct block){.number = number, .szx = 4});

        value[0] = (uint8_t)(asked >> 16);
        value[1] = (uint8_t)(asked >> 8);
        value[2] = (uint8_t)asked;
        GET(&h, &m, PATH("big"), {OPTION_BLOCK2, (const char *)value, 3});
        assert_int_equal(m.code, CODE_CONTENT);
        assert_int_equal(block_decode(message_uint(&m, SLOT_BLOCK2, 0), &block), 0);
        assert_int_equal(block.number, number);
        assert_int_equal(block.szx, 4);
        memcpy(got + length, m.payload, m.payload_length);
        length += m.payload_length;
        number++;
    } while (block.more);
    assert_int_equal(length, 3000);
    assert_memory_equal(got, body, 3000);
    GET(&h, &m, PATH("big"), {OPTION_BLOCK2, "\x01\x04", 2}); /* number 16, 256 bytes: past it */
    assert_int_equal(m.code, CODE_BAD_REQUEST);
    GET(&h, &m, PATH("big"), {OPTION_BLOCK2, "\x07", 1});
    assert_int_equal(m.code, CODE_BAD_REQUEST);
    stop(&h);
}

static void routes_go_by_host_then_longest_prefix(void **state)
{
    struct harness h;
    struct message m;

    (void)state;
    start(&h, "  - {path: /, respond: {payload: root}}\n"
              "  - {path: /a, to: origin}\n"
              "  - {path: /a/b, respond: {payload: ab}}\n"
              "  - {path: /%61/b/c%2fd, respond: {payload: slash}}\n"
              "  - {path: /a, host: example.org, respond: {payload: hosted}}\n"
              "  - {path: /ip, host: 10.99.0.2, respond: {payload: literal}}\n");
#define ANSWERED(text)                                          \
    do {                                                        \
        assert_int_equal(m.code, CODE_CONTENT);                 \
        assert_int_equal(m.payload_length, sizeof(text) - 1);   \
        assert_memory_equal(m.payload, text, sizeof(text) - 1); \
    } while (0)
#define FORWARDED() assert_int_equal(m.token_length, 8)
    GET(&h, &m, HOST("x"));
    ANSWERED("root");
    GET(&h, &m, PATH("a"), PATH("b"));
    ANSWERED("ab");
    GET(&h, &m, PATH("a"), PATH("b"), PATH("c"));
    FORWARDED();
    GET(&h, &m, PATH("a"), PATH("b"), PATH("c/d"));
    ANSWERED("slash");
    GET(&h, &m, PATH("a"), PATH("bb"));
    FORWARDED();
    GET(&h, &m, PATH("ab"));
    assert_int_equal(m.code, CODE_NOT_FOUND);
    GET(&h, &m, HOST("Example.ORG"), PATH("a"));
    ANSWERED("hosted");
    GET(&h, &m, HOST("example.org"), PATH("a"), PATH("b")); /* nothing of the host's own */
    ANSWERED("ab");
    GET(&h, &m, PATH("ip")); /* Uri-Host absent: the address that it was sent to */
    ANSWERED("literal");
    GET(&h, &m, HOST("example.org"), PATH("ip"));
    assert_int_equal(m.code, CODE_NOT_FOUND);
    harness_advance(&h, 400 * SECOND_US);
    h.taken = h.count;
    stop(&h);
}

static void discovery_lists_and_filters(void **state)
{
    struct harness h;
    struct message m;

    (void)state;
    start(&h, "  - {path: /, to: origin}\n"
              "  - {path: /hello, respond: {payload: x, content_format: text/plain}}\n"
              "  - {path: /help, respond: {payload: y, content_format: application/json}}\n"
              "  - {path: /own, host: example.org, respond: {payload: z}}\n");
#define CORE PATH(".well-known"), PATH("core")
    GET(&h, &m, CORE);
    assert_int_equal(message_uint(&m, SLOT_CONTENT_FORMAT, 0), 40);
    ANSWERED("</>,</hello>;ct=0,</help>;ct=50");
    GET(&h, &m, HOST("example.org"), CORE);
    ANSWERED("</>,</hello>;ct=0,</help>;ct=50,</own>");
    GET(&h, &m, CORE, QUERY("href=/hel*"));
    ANSWERED("</hello>;ct=0,</help>;ct=50");
    GET(&h, &m, CORE, QUERY("href=/hello"));
    ANSWERED("</hello>;ct=0");
    GET(&h, &m, CORE, QUERY("ct=50"));
    ANSWERED("</help>;ct=50");
    GET(&h, &m, CORE, QUERY("rt=sensor"));
    assert_int_equal(m.code, CODE_CONTENT);
    assert_int_equal(m.payload_length, 0);
    GET(&h, &m, CORE, QUERY("href"));
    assert_int_equal(m.code, CODE_CONTENT);
    assert_int_equal(m.payload_length, 0);
    stop(&h);
}

static void give_multicast(struct harness *h, const uint8_t *data, size_t length)
{
    struct datagram d = {
        .data = data, .length = (uint16_t)length, .multicast = true, .flow = harness_client(h, 1)};

    worker_receive(h->worker, &d, 1, h->now);
}

static void multicast_is_answered_at_leisure_and_never_with_errors(void **state)
{
    struct harness h;
    struct message m;
    uint8_t bytes[1500];
    uint64_t asked, spread = 0;

    (void)state;
    start(&h, hello);
    for (uint16_t mid = 1; mid <= 40; mid++) {
        asked = h.now;
        give_multicast(&h, bytes,
                       harness_request(bytes, TYPE_NON, CODE_GET, mid, 1, "hello", NULL));
        harness_silent(&h);
        harness_advance(&h, 2001 * 1000);
        struct sent *out = harness_expect(&h, &m);
        assert_int_equal(m.type, TYPE_NON);
        assert_int_equal(m.code, CODE_CONTENT);
        assert_in_range(out->at_us - asked, 0, 2001000);
        spread |= 1ull << ((out->at_us - asked) / 500000);
        harness_silent(&h);
    }
    assert_int_equal(spread & 0xf, 0xf); /* all quarters of the leisure were drawn */
    give_multicast(&h, bytes, harness_request(bytes, TYPE_NON, CODE_GET, 50, 1, "none", NULL));
    give_multicast(&h, bytes, harness_request(bytes, TYPE_NON, CODE_PUT, 51, 1, "hello", "x"));
    give_multicast(&h, bytes, harness_request(bytes, TYPE_CON, CODE_GET, 52, 1, "hello", NULL));
    give_multicast(&h, bytes, harness_message(bytes, TYPE_CON, CODE_EMPTY, 53, NULL, 0, NULL));
    give_multicast(&h, (const uint8_t *)"\x4f\x01\x00\x01", 4);
    harness_advance(&h, 5 * SECOND_US);
    harness_silent(&h);
    stop(&h);
}

static void sessions_at_the_limit(void **state)
{
    struct harness h;
    struct message m;
    uint8_t bytes[1500];

    (void)state;
    start(&h, "  - {path: /, to: origin}\n"
              "  - {path: /hello, respond: {payload: x}}\n"
              "limits: {amplification: 0, sessions: 4}\n");
    for (unsigned n = 0; n < 40; n++) { /* idle ones make room */
        struct flow client = harness_client(&h, n);

        h.now += 1000;
        harness_give(&h, &client, bytes,
                     harness_request(bytes, TYPE_CON, CODE_GET, 1, 1, "hello", NULL));
        harness_expect(&h, &m);
        assert_int_equal(m.code, CODE_CONTENT);
    }
    assert_int_equal(worker_counters(h.worker)->sessions_evicted, 36);
    for (unsigned n = 0; n < 3; n++) { /* three at work, and the session to the origin */
        struct flow client = harness_client(&h, 100 + n);

        harness_give(&h, &client, bytes,
                     harness_request(bytes, TYPE_CON, CODE_POST, 1, 1, "x", NULL));
    }
    h.taken = h.count;
    for (unsigned n = 0; n < 2; n++) {
        struct flow client = harness_client(&h, 200 + n);

        harness_give(&h, &client, bytes,
                     harness_request(bytes, TYPE_CON, CODE_GET, 9, 5, "hello", NULL));
        harness_expect(&h, &m);
        assert_int_equal(m.code, CODE_SERVICE_UNAVAILABLE);
        assert_int_equal(m.mid, 9);
        assert_int_equal(m.token[0], 5);
        assert_true(message_has(&m, SLOT_MAX_AGE));
    }
    harness_advance(&h, 400 * SECOND_US);
    h.taken = h.count;
    stop(&h);
}

/* ---- tests/malformed.tsv ---- */

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = 0;

    for (unsigned byte; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        out[n++] = (uint8_t)byte;
    return n;
}

static void check_reaction(struct harness *h, const char *name, const char *reaction,
                           const uint8_t *sent, size_t length)
{
    static const char *const types[] = {"con", "non", "ack", "rst"};
    struct sent *out = harness_take(h);
    unsigned class, detail;
    char type[8];
    struct message m;

    if (strcmp(reaction, "silence") == 0) {
        if (out)
            fail_msg("%s: something was sent", name);
        return;
    }
    if (!out)
        fail_msg("%s: nothing was sent", name);
    message_parse(out->data, out->length, &m);
    if (strcmp(reaction, "rst") == 0) {
        if (m.type != TYPE_RST || m.code != CODE_EMPTY || length < 4 ||
            m.mid != (sent[2] << 8 | sent[3]))
            fail_msg("%s: no RST", name);
        return;
    }
    if (sscanf(reaction, "%u.%u/%7s", &class, &detail, type) != 3)
        fail_msg("%s: reaction %s", name, reaction);
    if (m.code != CODE(class, detail) || strcmp(types[m.type], type) != 0)
        fail_msg("%s: %u.%02u/%s instead of %s", name, code_class(m.code), code_detail(m.code),
                 types[m.type], reaction);
}

static void malformed_datagrams_get_what_the_rfc_says(void **state)
{
    FILE *table = fopen(TESTS_DIR "/malformed.tsv", "r");
    char *line = NULL;
    size_t room = 0;
    unsigned rows = 0;
    struct harness h;

    (void)state;
    assert_non_null(table);
    start(&h, hello);
    while (getline(&line, &room, table) > 0) {
        char *rest = line, *name, *hex, *reaction;
        struct flow client = harness_client(&h, 1000 + rows);
        uint8_t bytes[2048];
        size_t length;

        if (line[0] == '#' || strncmp(line, "name\t", 5) == 0)
            continue;
        line[strcspn(line, "\n")] = 0;
        name = strsep(&rest, "\t");
        hex = strsep(&rest, "\t");
        strsep(&rest, "\t");
        reaction = strsep(&rest, "\t");
        assert_non_null(reaction);
        length = unhex(hex, bytes);
        harness_give(&h, &client, bytes, length);
        check_reaction(&h, name, reaction, bytes, length);
        harness_silent(&h);
        rows++;
    }
    free(line);
    fclose(table);
    assert_true(rows >= 60);
    stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fixed_response_has_exactly_these_bytes),
        cmocka_unit_test(methods_preconditions_and_negotiation),
        cmocka_unit_test(long_representations_come_in_blocks),
        cmocka_unit_test(routes_go_by_host_then_longest_prefix),
        cmocka_unit_test(discovery_lists_and_filters),
        cmocka_unit_test(multicast_is_answered_at_leisure_and_never_with_errors),
        cmocka_unit_test(sessions_at_the_limit),
        cmocka_unit_test(malformed_datagrams_get_what_the_rfc_says),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
