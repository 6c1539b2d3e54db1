/* The forward proxy (RFC 7252 5.7.2, 5.10.2, 6.4): how requests say where they go, what reaches the
 * origin, and where nothing may go. */
#include "tests/unit/proxy_steps.h"

#define FORWARD_YAML(forward)                                                         \
    "instance: unit\n"                                                                \
    "interfaces:\n"                                                                   \
    "  - name: south\n"                                                               \
    "    device: tap:unit0\n"                                                         \
    "    addresses: [10.99.0.2/24, 10.99.0.3/24, \"fd00:99::2/64\"]\n"                \
    "listeners:\n"                                                                    \
    "  - {uri: coap://10.99.0.2}\n"                                                   \
    "  - {uri: \"coap://10.99.0.3:7777\"}\n"                                          \
    "  - {uri: \"coap://[fd00:99::2]\"}\n"                                            \
    "upstreams:\n"                                                                    \
    "  - {name: origin, servers: [coap://10.99.0.1], transmission: {nstart: 16}}\n"   \
    "routes:\n"                                                                       \
    "  - {path: /, to: origin}\n"                                                     \
    "  - {host: own.example, path: /here, respond: {payload: by name}}\n"             \
    "  - {host: 10.99.0.3, path: /here, respond: {payload: third}}\n"                 \
    "  - {host: 10.99.0.2, path: /here, respond: {payload: second}}\n" forward        \
    "limits: {sessions: 64, exchanges: 32, outbound: 32, queue: 8, remembered: 256, " \
    "message_memory: 64KiB, assembly_memory: 1MiB, body: 64KiB, amplification: 0}\n"

static int setup(void **state)
{
    return start(state, FORWARD_YAML("forward_proxy:\n"
                                     "  allow: [10.99.0.0/24, \"fd00:99::/64\", 192.0.2.0/24]\n"));
}

/* Everything is listed: what is still refused is refused whatever is listed. */
static int setup_wide(void **state)
{
    return start(state,
                 FORWARD_YAML("forward_proxy:\n"
                              "  allow: [0.0.0.0/0, \"::/0\", \"*.example\", own.example]\n"));
}

static int setup_off(void **state)
{
    return start(state, FORWARD_YAML(""));
}

/* Asks with a Proxy-Uri. */
static void ask_uri(struct harness *h, uint16_t mid, const char *uri)
{
    ask_with(h, 1, mid, CODE_GET, OPTIONS({OPTION_PROXY_URI, uri, strlen(uri), 0}), NULL);
}

static void expect_refusal(struct harness *h, const char *uri, uint8_t code)
{
    static uint16_t mid = 1000;
    struct message m;

    ask_uri(h, mid++, uri);
    if (h->taken == h->count || !is_to_client(h, &h->sent[h->taken]) ||
        h->sent[h->taken].data[1] != code)
        print_message("%s: not %u.%02u\n", uri, code >> 5, code & 31);
    expect_client(h, 1, code, &m);
    harness_silent(h);
}

/* What the origin gets, and then the client its answer. */
static void expect_request(struct harness *h, uint16_t mid, const char *uri, const char *server,
                           const char *host, const char *path, const char *query)
{
    char text[ENDPOINT_TEXT_BYTES];
    struct message m;
    struct sent out;

    ask_uri(h, mid, uri);
    out = expect_upstream(h, &m);
    assert_string_equal(endpoint_format(&out.flow.peer, out.flow.peer_port, text), server);
    assert_string_equal(option_texts(&m, OPTION_URI_HOST), host);
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), path);
    assert_string_equal(option_texts(&m, OPTION_URI_QUERY), query);
    assert_false(message_has(&m, SLOT_URI_PORT));
    assert_false(message_has(&m, SLOT_PROXY_URI));
    assert_false(message_has(&m, SLOT_PROXY_SCHEME));
    answer_with(h, &out, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 0)), "far");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "far");
    harness_silent(h);
}

/* ---- what reaches the origin ---- */

static void uris_become_options(void **state)
{
    static const struct {
        const char *uri, *server, *path, *query;
    } cases[] = {
        {"coap://10.99.0.7", "10.99.0.7:5683", "", ""},
        {"coap://10.99.0.7/", "10.99.0.7:5683", "", ""},
        {"coap://10.99.0.7:", "10.99.0.7:5683", "", ""},
        {"COAP://10.99.0.7:61616/a", "10.99.0.7:61616", "|a", ""},
        {"coap://10.99.0.7/a/b/c", "10.99.0.7:5683", "|a|b|c", ""},
        {"coap://10.99.0.7//", "10.99.0.7:5683", "||", ""},
        {"coap://10.99.0.7/a//b/", "10.99.0.7:5683", "|a||b|", ""},
        {"coap://10.99.0.7/A%2fB/%41%zz", NULL, NULL, NULL},
        {"coap://10.99.0.7/A%2fB/%41", "10.99.0.7:5683", "|A/B|A", ""},
        {"coap://10.99.0.7/%C3%A4/%7E", "10.99.0.7:5683", "|\xc3\xa4|~", ""},
        {"coap://10.99.0.7?", "10.99.0.7:5683", "", "|"},
        {"coap://10.99.0.7/?a=1", "10.99.0.7:5683", "", "|a=1"},
        {"coap://10.99.0.7?a=1&b=%26&&c", "10.99.0.7:5683", "", "|a=1|b=&||c"},
        {"coap://10.99.0.7/x?a/b?c", "10.99.0.7:5683", "|x", "|a/b?c"}, /* RFC 7252 6.5's */
        {"coap://10.99.0.7/?//?//&?%26", "10.99.0.7:5683", "", "|//?//|?&"},
        {"coap://[fd00:99::7]", "[fd00:99::7]:5683", "", ""},
        {"coap://[FD00:99:0::0007]:99/a", "[fd00:99::7]:99", "|a", ""},
        {"coap://[::ffff:10.99.0.7]/a", "10.99.0.7:5683", "|a", ""},
        {"coap://%31%30.99.0.7/a", "10.99.0.7:5683", "|a", ""},
        {"coap://10.99.0.7./a", "10.99.0.7:5683", "|a", ""},
    };
    struct harness *h = *state;

    for (uint16_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (cases[i].server)
            expect_request(h, i, cases[i].uri, cases[i].server, "", cases[i].path, cases[i].query);
        else
            expect_refusal(h, cases[i].uri, CODE_BAD_REQUEST);
    }
}

static void malformed_uris_are_bad_requests(void **state)
{
    static const char *const uris[] = {
        "coap:",
        "coap:10.99.0.7",
        "coap:/10.99.0.7/",
        "coap://",
        "coap:///a",
        "coap://:5683/a",
        "coap://?a",
        "coap://user@10.99.0.7/a",
        "coap://10.99.0.7/a#b",
        "coap://10.99.0.7#",
        "coap://10.99.0.7:0/",
        "coap://10.99.0.7:65536/",
        "coap://10.99.0.7:5a/",
        "coap://10.99.0.7:-1/",
        "coap://10.99.0.7/%4",
        "coap://10.99.0.7/%",
        "coap://10.99.0.7/a b",
        "coap://10.99.0.7/\xc3\xa4",
        "coap://10.99.0.7/[x]",
        "coap://[fd00:99::7",
        "coap://[fd00:99::7]x",
        "coap://[fd00:99::7%25eth0]/",
        "coap://[10.99.0.7]/",
        "coap://[]/",
        "coap://fd00:99::7/",
        "coap://10.99.0.7%00.example/",
        "coap://%20/",
        "/a",
        "//10.99.0.7/a",
        "a",
        "://a",
        "[x:y]",
        "1x://a",
    };
    struct harness *h = *state;

    for (unsigned i = 0; i < sizeof(uris) / sizeof(uris[0]); i++)
        expect_refusal(h, uris[i], CODE_BAD_REQUEST);
}

static void other_schemes_are_not_supported(void **state)
{
    static const char *const uris[] = {
        "coaps://10.99.0.7/", "coap+tcp://10.99.0.7/", "http://10.99.0.7/",
        "mailto:a@b",         "urn:dev:os:1",          "CoAPs://10.99.0.7",
    };
    struct harness *h = *state;

    for (unsigned i = 0; i < sizeof(uris) / sizeof(uris[0]); i++)
        expect_refusal(h, uris[i], CODE_PROXYING_NOT_SUPPORTED);
}

/* A Uri-Path is 255 bytes at the most, a Proxy-Uri 1,034. */
static void long_uris_go_as_they_are(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;
    char uri[1100], expected[1100];
    size_t n = (size_t)sprintf(uri, "coap://10.99.0.7"), count;

    for (count = 0; n + 4 <= 1034; count++) {
        n += (size_t)sprintf(uri + n, "/%03zu", count);
        sprintf(expected + 4 * count, "|%03zu", count);
    }
    while (n < 1034) { /* the last one is longer */
        strcat(uri, "x");
        strcat(expected, "x");
        n++;
    }
    ask_uri(h, 1, uri);
    out = expect_upstream(h, &m);
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), expected);
    answer_with(h, &out, CODE_CONTENT, NO_OPTIONS, "far");
    expect_client(h, 1, CODE_CONTENT, &m);

    memset(uri, '/', 1034); /* the most options */
    memcpy(uri, "coap://10.99.0.7", 16);
    uri[1034] = '\0';
    ask_uri(h, 2, uri);
    out = expect_upstream(h, &m);
    assert_int_equal(strlen(option_texts(&m, OPTION_URI_PATH)), 1034 - 16);
    answer_with(h, &out, CODE_CONTENT, NO_OPTIONS, "far");
    expect_client(h, 1, CODE_CONTENT, &m);

    n = (size_t)sprintf(uri, "coap://10.99.0.7/");
    memset(uri + n, 'a', 256);
    uri[n + 255] = '\0';
    ask_uri(h, 3, uri);
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CONTENT, NO_OPTIONS, "far");
    expect_client(h, 1, CODE_CONTENT, &m);
    uri[n + 255] = 'a';
    uri[n + 256] = '\0';
    expect_refusal(h, uri, CODE_BAD_REQUEST);

    memset(uri, 'a', 1035); /* too long for the option: not understood */
    memcpy(uri, "coap://10.99.0.7/", 17);
    uri[1035] = '\0';
    expect_refusal(h, uri, CODE_BAD_OPTION);
}

static void a_proxy_uri_goes_before_the_other_options(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    ask_with(h, 1, 1, CODE_FETCH,
             OPTIONS(TEXT(OPTION_IF_MATCH, "e"), TEXT(OPTION_URI_HOST, "10.99.0.8"),
                     UINT(OPTION_URI_PORT, 9), PATH("wrong"), UINT(OPTION_CONTENT_FORMAT, 60),
                     TEXT(OPTION_URI_QUERY, "wrong"), UINT(OPTION_ACCEPT, 60),
                     TEXT(OPTION_PROXY_URI, "coap://10.99.0.7/right?q"),
                     TEXT(OPTION_PROXY_SCHEME, "http"), TEXT(2049, "safe")),
             "body");
    out = expect_upstream(h, &m);
    assert_int_equal(out.flow.peer.bytes[15], 7);
    assert_int_equal(m.code, CODE_FETCH);
    assert_string_equal(option_texts(&m, OPTION_IF_MATCH), "|e");
    assert_string_equal(option_texts(&m, OPTION_URI_HOST), "");
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), "|right");
    assert_string_equal(option_texts(&m, OPTION_URI_QUERY), "|q");
    assert_int_equal(message_uint(&m, SLOT_CONTENT_FORMAT, 0), 60);
    assert_int_equal(message_uint(&m, SLOT_ACCEPT, 0), 60);
    assert_int_equal(message_uint(&m, SLOT_HOP_LIMIT, 0), 16);
    assert_string_equal(option_texts(&m, 2049), "|safe");
    assert_payload(&m, "body");
    answer_with(h, &out, CODE_CONTENT, NO_OPTIONS, "far");
    expect_client(h, 1, CODE_CONTENT, &m);
}

static void a_scheme_goes_with_the_other_options(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    ask_with(h, 1, 1, CODE_PUT,
             OPTIONS(TEXT(OPTION_URI_HOST, "10.99.0.7"), UINT(OPTION_URI_PORT, 9), PATH("a"),
                     PATH("b"), TEXT(OPTION_URI_QUERY, "q"), TEXT(OPTION_PROXY_SCHEME, "CoAP")),
             "body");
    out = expect_upstream(h, &m);
    assert_int_equal(out.flow.peer_port, 9);
    assert_int_equal(m.code, CODE_PUT);
    assert_string_equal(option_texts(&m, OPTION_URI_HOST), "");
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), "|a|b");
    assert_string_equal(option_texts(&m, OPTION_URI_QUERY), "|q");
    assert_false(message_has(&m, SLOT_URI_PORT));
    answer_with(h, &out, CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CHANGED, &m);

    static const struct {
        struct opt options[5];
        uint8_t code; /* 0: goes to fd00:99::7 */
    } cases[] = {
        {{PATH("a"), TEXT(OPTION_PROXY_SCHEME, "coap")}, CODE_BAD_OPTION},
        {{TEXT(OPTION_URI_HOST, "10.99.0.7"), TEXT(OPTION_PROXY_SCHEME, "coaps")},
         CODE_PROXYING_NOT_SUPPORTED},
        {{TEXT(OPTION_URI_HOST, "10.99.0.7"), TEXT(OPTION_PROXY_SCHEME, "coa")},
         CODE_PROXYING_NOT_SUPPORTED},
        {{TEXT(OPTION_URI_HOST, "10.99.0.7"), UINT(OPTION_URI_PORT, 0),
          TEXT(OPTION_PROXY_SCHEME, "coap")},
         CODE_BAD_REQUEST},
        {{TEXT(OPTION_URI_HOST, "10.99.0.7\0.example"), TEXT(OPTION_PROXY_SCHEME, "coap")},
         CODE_BAD_REQUEST},
        {{TEXT(OPTION_URI_HOST, "a\x80"), TEXT(OPTION_PROXY_SCHEME, "coap")}, CODE_BAD_REQUEST},
        {{TEXT(OPTION_URI_HOST, "[]"), TEXT(OPTION_PROXY_SCHEME, "coap")}, CODE_FORBIDDEN},
        {{TEXT(OPTION_URI_HOST, "["), TEXT(OPTION_PROXY_SCHEME, "coap")}, CODE_FORBIDDEN},
        {{TEXT(OPTION_URI_HOST, "."), TEXT(OPTION_PROXY_SCHEME, "coap")}, CODE_FORBIDDEN},
        {{TEXT(OPTION_URI_HOST, "fe80::1%eth0"), TEXT(OPTION_PROXY_SCHEME, "coap")},
         CODE_FORBIDDEN},
        {{TEXT(OPTION_URI_HOST, "fd00:99::7"), TEXT(OPTION_PROXY_SCHEME, "coap")}, 0},
        {{TEXT(OPTION_URI_HOST, "[fd00:99::7]"), TEXT(OPTION_PROXY_SCHEME, "coap")}, 0},
        {{TEXT(OPTION_URI_HOST, "[FD00:99:0:0:0:0:0:7]"), TEXT(OPTION_PROXY_SCHEME, "coap")}, 0},
    };
    for (uint16_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ask_with(h, 1, (uint16_t)(2 + i), CODE_PUT, cases[i].options, NULL);
        if (!cases[i].code) {
            out = expect_upstream(h, &m);
            assert_int_equal(out.flow.peer.bytes[15], 7);
            assert_int_equal(out.flow.peer.bytes[0], 0xfd);
            answer_with(h, &out, CODE_CHANGED, NO_OPTIONS, NULL);
        }
        expect_client(h, 1, cases[i].code ? cases[i].code : CODE_CHANGED, &m);
        harness_silent(h);
    }
}

/* Nothing that is critical is lost on the way. */
static void options_that_are_not_understood_are_refused(void **state)
{
    static const struct {
        struct opt options[5];
    } cases[] = {
        {{TEXT(OPTION_PROXY_URI, "coap://10.99.0.7/"),
          TEXT(OPTION_PROXY_URI, "coap://10.99.0.8/")}},
        {{TEXT(OPTION_URI_HOST, "10.99.0.7"), TEXT(OPTION_URI_HOST, "10.99.0.8"),
          TEXT(OPTION_PROXY_SCHEME, "coap")}},
        {{TEXT(OPTION_URI_HOST, "10.99.0.7"), UINT(OPTION_URI_PORT, 9), UINT(OPTION_URI_PORT, 8),
          TEXT(OPTION_PROXY_SCHEME, "coap")}},
        {{TEXT(OPTION_URI_HOST, "10.99.0.7"), UINT(OPTION_URI_PORT, 0x10000),
          TEXT(OPTION_PROXY_SCHEME, "coap")}},
        {{TEXT(OPTION_URI_HOST, "10.99.0.7"), TEXT(OPTION_PROXY_SCHEME, "coap"),
          TEXT(OPTION_PROXY_SCHEME, "http")}},
        {{TEXT(OPTION_URI_HOST, "10.99.0.7"), TEXT(OPTION_PROXY_URI, ""),
          TEXT(OPTION_PROXY_SCHEME, "coap")}},
        {{TEXT(OPTION_PROXY_URI, "coap://10.99.0.7/"), TEXT(65003, "?")}},
        {{TEXT(OPTION_PROXY_URI, "coap://10.99.0.7/"), TEXT(65002, "?")}},
        {{UINT(OPTION_Q_BLOCK2, 0), TEXT(OPTION_PROXY_URI, "coap://10.99.0.7/")}},
    };
    struct harness *h = *state;
    struct message m;

    for (uint16_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ask_with(h, 1, i, CODE_GET, cases[i].options, NULL);
        expect_client(h, 1, CODE_BAD_OPTION, &m);
        harness_silent(h);
    }
}

/* ---- where nothing goes ---- */

static void what_is_not_listed_is_forbidden(void **state)
{
    static const char *const uris[] = {
        "coap://10.98.0.7/", "coap://10.100.0.7/",        "coap://[fd00:98::7]/",
        "coap://a.example/", "coap://[::ffff:10.98.0.1]", "coap://example/",
        "coap://127.1/",     "coap://0x0a630007/",        "coap://174260231/",
    };
    struct harness *h = *state;

    for (unsigned i = 0; i < sizeof(uris) / sizeof(uris[0]); i++)
        expect_refusal(h, uris[i], CODE_FORBIDDEN);
    assert_int_equal(COUNTER(h, forward_forbidden), sizeof(uris) / sizeof(uris[0]));
}

static void some_addresses_are_never_allowed(void **state)
{
    static const char *const uris[] = {
        "coap://127.0.0.1/",
        "coap://127.255.1.1/",
        "coap://[::1]/",
        "coap://0.0.0.0/",
        "coap://0.1.2.3/",
        "coap://[::]/",
        "coap://169.254.1.1/",
        "coap://[fe80::1]/",
        "coap://[febf::1]/",
        "coap://224.0.1.187/",
        "coap://239.1.2.3/",
        "coap://[ff02::fd]/",
        "coap://[ff05::fd]/",
        "coap://240.0.0.1/",
        "coap://255.255.255.255/",
        "coap://[::ffff:127.0.0.1]/",
        "coap://[::ffff:224.0.1.187]/",
        "coap://[::127.0.0.1]/",
        "coap://[::10.99.0.2]/",
        "coap://10.99.0.2:5684/",
        "coap://10.99.0.3/",
        "coap://[fd00:99::2]:1/",
        "coap://[::ffff:10.99.0.2]:1/",
        "coap://%31%32%37.0.0.1/",
        "coap://127.0.0.1./",
    };
    struct harness *h = *state;

    for (unsigned i = 0; i < sizeof(uris) / sizeof(uris[0]); i++)
        expect_refusal(h, uris[i], CODE_FORBIDDEN);
}

static void without_a_route_it_is_a_gateway_timeout(void **state)
{
    struct harness *h = *state;
    struct worker_usage usage;

    expect_refusal(h, "coap://192.0.2.7/", CODE_GATEWAY_TIMEOUT);
    worker_usage(h->worker, &usage);
    assert_int_equal(usage.exchanges, 0);
}

static void switched_off_it_does_nothing(void **state)
{
    struct harness *h = *state;
    struct message m;

    expect_refusal(h, "coap://10.99.0.7/", CODE_PROXYING_NOT_SUPPORTED);
    expect_refusal(h, "coap://10.99.0.2/here", CODE_PROXYING_NOT_SUPPORTED);
    expect_refusal(h, "rubbish", CODE_PROXYING_NOT_SUPPORTED);
    ask_with(h, 1, 1, CODE_GET,
             OPTIONS(TEXT(OPTION_URI_HOST, "10.99.0.7"), TEXT(OPTION_PROXY_SCHEME, "coap")), NULL);
    expect_client(h, 1, CODE_PROXYING_NOT_SUPPORTED, &m);
}

/* ---- this gateway ---- */

static void expect_local(struct harness *h, const char *uri, const char *payload)
{
    static uint16_t mid = 2000;
    struct message m;

    ask_uri(h, mid++, uri);
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, payload);
    harness_silent(h);
}

static void requests_for_this_gateway_are_served_here(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    expect_local(h, "coap://10.99.0.2/here", "second");
    expect_local(h, "coap://10.99.0.2:5683/here", "second");
    expect_local(h, "coap://[::ffff:10.99.0.2]/here", "second");
    expect_local(h, "coap://own.example/here", "by name");
    expect_local(h, "coap://OWN.example./here", "by name");
    expect_local(h, "coap://10.99.0.3:7777/here", "third"); /* another one's than it came to */
    expect_refusal(h, "coap://10.99.0.3:5683/here", CODE_FORBIDDEN);
    ask_with(h, 1, 1, CODE_GET,
             OPTIONS(TEXT(OPTION_URI_HOST, "10.99.0.3"), UINT(OPTION_URI_PORT, 7777), PATH("here"),
                     TEXT(OPTION_PROXY_SCHEME, "coap")),
             NULL);
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "third");

    /* By a route to the origin, as any request for it. */
    ask_uri(h, 2, "coap://10.99.0.2/a?b");
    out = expect_upstream(h, &m);
    assert_int_equal(out.flow.peer.bytes[15], 1);
    assert_string_equal(option_texts(&m, OPTION_URI_HOST), "");
    assert_string_equal(option_texts(&m, OPTION_URI_PATH), "|a");
    assert_string_equal(option_texts(&m, OPTION_URI_QUERY), "|b");
    assert_false(message_has(&m, SLOT_PROXY_URI));
    answer_with(h, &out, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 60)), "shared");
    expect_client(h, 1, CODE_CONTENT, &m);
    expect_hit(h, 2, 1, OPTIONS(PATH("a"), TEXT(OPTION_URI_QUERY, "b")), "shared");
    expect_local(h, "coap://[fd00:99::2]/a?b", "shared");
    ask_uri(h, 3, "coap://10.99.0.2/.well-known/core");
    expect_client(h, 1, CODE_CONTENT, &m);
}

/* ---- keys ---- */

static void destinations_do_not_share_answers(void **state)
{
    static const char *const uris[] = {
        "coap://10.99.0.7/a",    "coap://10.99.0.8/a",   "coap://10.99.0.7:5684/a",
        "coap://[fd00:99::7]/a", "coap://10.99.0.7/a?a", "coap://10.99.0.2/a", /* the origin's */
    };
    struct harness *h = *state;
    struct message m;

    for (unsigned round = 0; round < 2; round++)
        for (uint16_t i = 0; i < 6; i++) {
            char payload[4] = {(char)('0' + i), '\0'};

            ask_uri(h, (uint16_t)(10 * round + i), uris[i]);
            if (round == 0) {
                struct sent out = expect_upstream(h, &m);

                answer_with(h, &out, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 60)), payload);
            }
            expect_client(h, 1, CODE_CONTENT, &m);
            assert_payload(&m, payload);
            harness_silent(h);
        }
    expect_local(h, "coap://[::ffff:10.99.0.7]/a", "0"); /* the same, written differently */
    expect_local(h, "coap://10.99.0.7:/a", "0");
    expect_local(h, "coap://10.99.0.7/%61", "0");
}

/* However often it is asked for: the rest of a Proxy-Uri does not say whose resource it is. */
static void what_is_asked_for_often_is_not_taken_for_the_origin_s(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    ask_uri(h, 1, "coap://10.99.0.7/a");
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 60)), "far");
    expect_client(h, 1, CODE_CONTENT, &m);
    for (uint16_t i = 0; i < 5; i++)
        expect_local(h, "coap://10.99.0.7/a", "far");
    fetch_through(h, 2, 1, OPTIONS(PATH("a")), OPTIONS(UINT(OPTION_MAX_AGE, 60)), "near");
    for (uint16_t i = 0; i < 5; i++) {
        expect_hit(h, 2, (uint16_t)(2 + i), OPTIONS(PATH("a")), "near");
        expect_local(h, "coap://10.99.0.7/a", "far");
    }
}

static void an_unsafe_request_invalidates_its_destination_only(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    for (uint16_t i = 7; i < 9; i++) {
        ask_uri(h, i, i == 7 ? "coap://10.99.0.7/a" : "coap://10.99.0.8/a");
        out = expect_upstream(h, &m);
        answer_with(h, &out, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 60)), "old");
        expect_client(h, 1, CODE_CONTENT, &m);
    }
    ask_with(h, 2, 1, CODE_PUT, OPTIONS(TEXT(OPTION_PROXY_URI, "coap://10.99.0.7/a")), "new");
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 2, CODE_CHANGED, &m);
    expect_local(h, "coap://10.99.0.8/a", "old");
    expect_request(h, 20, "coap://10.99.0.7/a", "10.99.0.7:5683", "", "|a", "");
}

#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(uris_become_options, setup),
        TEST(malformed_uris_are_bad_requests, setup),
        TEST(other_schemes_are_not_supported, setup),
        TEST(long_uris_go_as_they_are, setup),
        TEST(a_proxy_uri_goes_before_the_other_options, setup),
        TEST(a_scheme_goes_with_the_other_options, setup),
        TEST(options_that_are_not_understood_are_refused, setup),
        TEST(what_is_not_listed_is_forbidden, setup),
        TEST(some_addresses_are_never_allowed, setup_wide),
        TEST(without_a_route_it_is_a_gateway_timeout, setup),
        TEST(switched_off_it_does_nothing, setup_off),
        TEST(requests_for_this_gateway_are_served_here, setup),
        TEST(destinations_do_not_share_answers, setup),
        TEST(what_is_asked_for_often_is_not_taken_for_the_origin_s, setup),
        TEST(an_unsafe_request_invalidates_its_destination_only, setup),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
