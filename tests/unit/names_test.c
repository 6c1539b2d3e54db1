/* Host names in the forward proxy: what is asked of the resolver, what its answers do, and which
 * destinations are remembered. */
#include <errno.h>

#include "tests/unit/proxy_steps.h"

static const char yaml[] =
    "instance: unit\n"
    "interfaces:\n"
    "  - name: south\n"
    "    device: tap:unit0\n"
    "    addresses: [10.99.0.2/24]\n"
    "listeners: [{uri: coap://10.99.0.2}]\n"
    "upstreams: [{name: origin, servers: [coap://10.99.0.1]}]\n"
    "routes: [{path: /, to: origin}]\n"
    "forward_proxy:\n"
    "  allow: [10.99.0.0/24, a.example, b.example, \"*.fleet.example\"]\n"
    "  timeout: 20s\n"
    "limits: {sessions: 64, exchanges: 64, outbound: 64, queue: 32, remembered: 1024, "
    "message_memory: 64KiB, assembly_memory: 1MiB, body: 64KiB, amplification: 0, "
    "destinations: 20}\n";

#define QUESTIONS_MAX 256

struct named {
    struct harness h; /* first: the harness's context is both */
    struct {
        char name[256];
        uint32_t id;
    } questions[QUESTIONS_MAX];
    unsigned asked, seen;
    bool refuses;
};

static bool resolve(void *context, const char *name, size_t length, uint32_t id)
{
    struct named *n = context;

    assert_true(length > 0 && length < 256 && n->asked < QUESTIONS_MAX);
    if (n->refuses)
        return false;
    memcpy(n->questions[n->asked].name, name, length);
    n->questions[n->asked].name[length] = '\0';
    n->questions[n->asked++].id = id;
    return true;
}

static int setup(void **state)
{
    struct named *n = calloc(1, sizeof(*n));

    harness_start_with(&n->h, yaml, resolve);
    *state = n;
    return 0;
}

/* The next question, which is for this name. */
static uint32_t expect_question(struct named *n, const char *name)
{
    assert_true(n->seen < n->asked);
    assert_string_equal(n->questions[n->seen].name, name);
    return n->questions[n->seen++].id;
}

static void no_question(const struct named *n)
{
    assert_int_equal(n->seen, n->asked);
}

/* An answer with the addresses in `list`, divided by spaces. */
static void give_answer(struct named *n, uint32_t id, int error, uint32_t ttl_s, const char *list)
{
    struct resolved answer = {.id = id, .error = error, .ttl_s = ttl_s};
    char text[64];

    while (*list) {
        size_t length = strcspn(list, " ");

        memcpy(text, list, length);
        text[length] = '\0';
        assert_int_equal(address_parse(text, &answer.addresses[answer.count++]), 0);
        list += length + (list[length] == ' ');
    }
    worker_resolved(n->h.worker, &answer, n->h.now);
}

static void ask_uri(struct named *n, unsigned client, uint16_t mid, const char *uri)
{
    ask_with(&n->h, client, mid, CODE_GET, OPTIONS({OPTION_PROXY_URI, uri, strlen(uri), 0}), NULL);
}

/* The request arrives at 10.99.0.LAST, and its answer at the client. */
static struct sent expect_at(struct named *n, unsigned last, const char *host)
{
    struct message m;
    struct sent out = expect_upstream(&n->h, &m);

    assert_int_equal(out.flow.peer.bytes[15], last);
    assert_string_equal(option_texts(&m, OPTION_URI_HOST), host);
    return out;
}

static void finish_request(struct named *n, unsigned client, const struct sent *out,
                           const char *payload)
{
    struct message m;

    answer_with(&n->h, out, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 0)), payload);
    expect_client(&n->h, client, CODE_CONTENT, &m);
    assert_payload(&m, payload);
    harness_silent(&n->h);
}

static void fetch_from(struct named *n, uint16_t mid, const char *uri, unsigned last,
                       const char *host)
{
    struct sent out;

    ask_uri(n, 1, mid, uri);
    out = expect_at(n, last, host);
    finish_request(n, 1, &out, "far");
}

static void expect_refusal(struct named *n, uint16_t mid, const char *uri, uint8_t code)
{
    struct message m;

    ask_uri(n, 1, mid, uri);
    expect_client(&n->h, 1, code, &m);
    harness_silent(&n->h);
    no_question(n);
}

/* ---- which names ---- */

static void names_are_allowed_as_listed(void **state)
{
    static const char *const good[] = {"coap://A.example/", "coap://a.EXAMPLE./",
                                       "coap://%61.example/", "coap://x.fleet.example/",
                                       "coap://x.y.fleet.example/"};
    static const char *const names[] = {"a.example", "a.example", "a.example", "x.fleet.example",
                                        "x.y.fleet.example"};
    static const char *const bad[] = {"coap://c.example/",         "coap://example/",
                                      "coap://fleet.example/",     "coap://.fleet.example/",
                                      "coap://xfleet.example/",    "coap://a.example.org/",
                                      "coap://x.fleet.example.x/", "coap://aa.example/",
                                      "coap://a.example../",       "coap://*.fleet.example.org/"};
    struct named *n = *state;

    for (uint16_t i = 0; i < 10; i++)
        expect_refusal(n, i, bad[i], CODE_FORBIDDEN);
    for (uint16_t i = 0; i < 5; i++) {
        struct sent out;
        char host[64] = "|";

        ask_uri(n, 1, (uint16_t)(20 + i), good[i]);
        if (i == 0 || i > 2)
            give_answer(n, expect_question(n, names[i]), 0, 600, "10.99.0.7");
        no_question(n);
        strcat(host, names[i]);
        out = expect_at(n, 7, host);
        finish_request(n, 1, &out, "far");
    }
}

/* ---- questions and answers ---- */

static void one_question_serves_all_who_wait(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent out[3];
    uint32_t id;

    ask_uri(n, 1, 1, "coap://a.example/x");
    id = expect_question(n, "a.example");
    ask_uri(n, 2, 1, "coap://a.example/x"); /* joined */
    ask_uri(n, 3, 1, "coap://a.example/y");
    ask_with(&n->h, 4, 1, CODE_POST, OPTIONS(TEXT(OPTION_PROXY_URI, "coap://a.example/x")), "p");
    no_question(n);
    harness_silent(&n->h);
    give_answer(n, id, 0, 60, "10.99.0.7");
    /* NSTART is 1: one after the other. */
    out[0] = expect_at(n, 7, "|a.example");
    answer_with(&n->h, &out[0], CODE_CONTENT, NO_OPTIONS, "x");
    out[1] = expect_at(n, 7, "|a.example");
    expect_client(&n->h, 1, CODE_CONTENT, &m);
    expect_client(&n->h, 2, CODE_CONTENT, &m);
    answer_with(&n->h, &out[1], CODE_CONTENT, NO_OPTIONS, "y");
    out[2] = expect_at(n, 7, "|a.example");
    expect_client(&n->h, 3, CODE_CONTENT, &m);
    answer_with(&n->h, &out[2], CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(&n->h, 4, CODE_CHANGED, &m);
    harness_silent(&n->h);
    assert_int_equal(COUNTER(&n->h, names_asked), 1);
}

static void failures_are_told_to_all_who_wait(void **state)
{
    static const struct {
        int error;
        const char *addresses;
        uint8_t code;
    } cases[] = {
        {-ENOENT, "", CODE_BAD_GATEWAY},
        {-EIO, "", CODE_BAD_GATEWAY},
        {-ETIMEDOUT, "", CODE_GATEWAY_TIMEOUT},
        {0, "", CODE_BAD_GATEWAY},
        {0, "127.0.0.1", CODE_FORBIDDEN},
        {0, "10.99.0.2", CODE_FORBIDDEN},
        {0, "::1 fe80::1 224.0.1.187 ::ffff:127.0.0.1 0.0.0.0 255.255.255.255", CODE_FORBIDDEN},
        {0, "192.0.2.1", CODE_GATEWAY_TIMEOUT}, /* no way there */
        {0, "127.0.0.1 2001:db8::1", CODE_GATEWAY_TIMEOUT},
    };
    struct named *n = *state;
    struct message m;

    for (uint16_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t id;

        ask_uri(n, 1, i, "coap://a.example/x");
        id = expect_question(n, "a.example"); /* a failure is not remembered */
        ask_uri(n, 2, i, "coap://a.example/y");
        give_answer(n, id, cases[i].error, 60, cases[i].addresses);
        expect_client(&n->h, 1, cases[i].code, &m);
        expect_client(&n->h, 2, cases[i].code, &m);
        harness_silent(&n->h);
        no_question(n);
    }
    assert_int_equal(COUNTER(&n->h, names_failed), sizeof(cases) / sizeof(cases[0]));
}

static void the_first_good_address_is_used(void **state)
{
    struct named *n = *state;
    struct sent out;

    ask_uri(n, 1, 1, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 60,
                "127.0.0.1 2001:db8::1 10.99.0.2 10.99.0.9 10.99.0.8");
    out = expect_at(n, 9, "|a.example");
    finish_request(n, 1, &out, "far");
}

static void addresses_hold_for_their_ttl(void **state)
{
    struct named *n = *state;
    struct sent out, old;

    ask_uri(n, 1, 1, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 10, "10.99.0.7");
    out = expect_at(n, 7, "|a.example");
    finish_request(n, 1, &out, "far");
    harness_advance(&n->h, 9 * SECOND_US);
    /* Still at the old address when that changes. */
    ask_typed(&n->h, 1, TYPE_NON, 2, CODE_POST,
              OPTIONS(TEXT(OPTION_PROXY_URI, "coap://a.example/old")), NULL);
    old = expect_at(n, 7, "|a.example");
    harness_advance(&n->h, SECOND_US);
    ask_uri(n, 2, 1, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 0, "10.99.0.8");
    out = expect_at(n, 8, "|a.example");
    finish_request(n, 2, &out, "new");
    finish_request(n, 1, &old, "late");
    harness_advance(&n->h, SECOND_US); /* a TTL of 0 holds for a second */
    ask_uri(n, 1, 3, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 10, "10.99.0.7"); /* and back */
    out = expect_at(n, 7, "|a.example");
    finish_request(n, 1, &out, "far");
    no_question(n);
}

/* A name server that lists several addresses in another order each time. */
static void an_address_is_kept_while_it_is_one_of_them(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent out;
    uint16_t port;

    ask_uri(n, 1, 1, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 10, "10.99.0.7 10.99.0.8 10.99.0.9");
    out = expect_at(n, 7, "|a.example");
    port = out.flow.local_port;
    finish_request(n, 1, &out, "far");
    harness_advance(&n->h, 10 * SECOND_US);
    ask_uri(n, 1, 2, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 10, "10.99.0.9 10.99.0.8 10.99.0.7");
    out = expect_at(n, 7, "|a.example");
    assert_int_equal(out.flow.local_port, port);
    unreachable(&n->h, &out); /* then the next one */
    expect_client(&n->h, 1, CODE_GATEWAY_TIMEOUT, &m);
    harness_advance(&n->h, 10 * SECOND_US);
    ask_uri(n, 1, 3, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 10, "10.99.0.7 10.99.0.8 10.99.0.9");
    out = expect_at(n, 8, "|a.example");
    finish_request(n, 1, &out, "far");
}

/* What waited for its turn where the host was goes to where it is. */
static void those_in_the_queue_go_to_the_new_address(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent old, out;

    ask_uri(n, 1, 1, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 1, "10.99.0.7");
    old = expect_at(n, 7, "|a.example");
    ask_uri(n, 2, 1, "coap://a.example/y"); /* NSTART */
    harness_silent(&n->h);
    let_it_end(&n->h, 2 * SECOND_US);
    ask_uri(n, 3, 1, "coap://a.example/z");
    give_answer(n, expect_question(n, "a.example"), 0, 60, "10.99.0.8");
    out = expect_at(n, 8, "|a.example");
    answer_with(&n->h, &out, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 0)), "y");
    out = expect_at(n, 8, "|a.example");
    expect_client(&n->h, 2, CODE_CONTENT, &m);
    assert_payload(&m, "y");
    answer_with(&n->h, &out, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 0)), "z");
    expect_client(&n->h, 3, CODE_CONTENT, &m);
    assert_payload(&m, "z");
    unreachable(&n->h, &old); /* the first one has been where it was */
    expect_client(&n->h, 1, CODE_GATEWAY_TIMEOUT, &m);
    let_it_end(&n->h, 200 * SECOND_US);
}

/* What failed at the old address says nothing about the host at the new one. */
static void a_failure_at_the_old_address_condemns_nobody(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent old, out;

    ask_typed(&n->h, 1, TYPE_NON, 1, CODE_POST,
              OPTIONS(TEXT(OPTION_PROXY_URI, "coap://a.example/x")), NULL);
    give_answer(n, expect_question(n, "a.example"), 0, 1, "10.99.0.7");
    old = expect_at(n, 7, "|a.example");
    harness_advance(&n->h, SECOND_US);
    ask_typed(&n->h, 1, TYPE_NON, 2, CODE_POST,
              OPTIONS(TEXT(OPTION_PROXY_URI, "coap://a.example/x")), NULL);
    give_answer(n, expect_question(n, "a.example"), 0, 60, "10.99.0.8");
    out = expect_at(n, 8, "|a.example");
    unreachable(&n->h, &old);
    expect_client(&n->h, 1, CODE_GATEWAY_TIMEOUT, &m);
    assert_int_equal(COUNTER(&n->h, servers_down), 0);
    finish_request(n, 1, &out, "far");
}

/* An observation is renewed where its host is now. */
static void observations_follow_their_host(void **state)
{
    struct named *n = *state;
    struct flow client = harness_client(&n->h, 1);
    struct message m;
    struct sent out;

    ask_with(&n->h, 1, 1, CODE_GET,
             OPTIONS(UINT(OPTION_OBSERVE, 0), TEXT(OPTION_PROXY_URI, "coap://a.example/x")), NULL);
    give_answer(n, expect_question(n, "a.example"), 0, 10, "10.99.0.7");
    out = expect_at(n, 7, "|a.example");
    answer_with(&n->h, &out, CODE_CONTENT,
                OPTIONS(UINT(OPTION_OBSERVE, 5), UINT(OPTION_MAX_AGE, 5)), "one");
    expect_client(&n->h, 1, CODE_CONTENT, &m);
    assert_true(message_has(&m, SLOT_OBSERVE));
    harness_advance(&n->h, 21 * SECOND_US); /* Max-Age, and 5 to 15 seconds */
    give_answer(n, expect_question(n, "a.example"), 0, 1000, "10.99.0.8");
    out = expect_at(n, 8, "|a.example");
    answer_with(&n->h, &out, CODE_CONTENT,
                OPTIONS(UINT(OPTION_OBSERVE, 1), UINT(OPTION_MAX_AGE, 5000)), "two");
    harness_advance(&n->h, 1000);
    expect_client(&n->h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "two");
    give_empty(&n->h, &client, TYPE_RST, m.mid); /* enough */
    harness_advance(&n->h, 1000);
    out = expect_at(n, 8, "|a.example");
    answer_with(&n->h, &out, CODE_CONTENT, NO_OPTIONS, NULL);
    harness_silent(&n->h);
}

static void late_and_repeated_answers_do_nothing(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent out;
    uint32_t first, second;

    ask_uri(n, 1, 1, "coap://a.example/x");
    first = expect_question(n, "a.example");
    harness_advance(&n->h, 499 * 1000);
    harness_silent(&n->h);
    harness_advance(&n->h, 20 * SECOND_US); /* the upstream's timeout */
    expect_client(&n->h, 1, CODE_EMPTY, &m);
    expect_client(&n->h, 1, CODE_GATEWAY_TIMEOUT, &m);
    let_it_end(&n->h, 100 * SECOND_US);
    ask_uri(n, 1, 2, "coap://a.example/x"); /* still being asked */
    no_question(n);
    give_answer(n, first, 0, 1, "10.99.0.7"); /* late for the first, but not for this one */
    out = expect_at(n, 7, "|a.example");
    give_answer(n, first, 0, 60, "10.99.0.8");
    give_answer(n, first, -ENOENT, 60, "");
    finish_request(n, 1, &out, "far");
    harness_advance(&n->h, SECOND_US);
    ask_uri(n, 1, 3, "coap://a.example/x");
    second = expect_question(n, "a.example");
    assert_int_not_equal(first, second);
    give_answer(n, first, 0, 60, "10.99.0.8"); /* another question's */
    give_answer(n, second ^ 1, 0, 60, "10.99.0.8");
    give_answer(n, UINT32_MAX, 0, 60, "10.99.0.8");
    harness_silent(&n->h);
    give_answer(n, second, 0, 60, "10.99.0.9");
    out = expect_at(n, 9, "|a.example");
    finish_request(n, 1, &out, "far");
}

static void a_resolver_that_cannot_be_asked_is_no_capacity(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent out;

    n->refuses = true;
    ask_uri(n, 1, 1, "coap://a.example/x");
    expect_client(&n->h, 1, CODE_SERVICE_UNAVAILABLE, &m);
    assert_true(message_has(&m, SLOT_MAX_AGE));
    n->refuses = false;
    ask_uri(n, 1, 2, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 60, "10.99.0.7");
    out = expect_at(n, 7, "|a.example");
    finish_request(n, 1, &out, "far");
}

static int setup_without_resolver(void **state)
{
    struct named *n = calloc(1, sizeof(*n));

    harness_start(&n->h, yaml);
    *state = n;
    return 0;
}

static void without_a_resolver_names_are_refused(void **state)
{
    struct named *n = *state;
    struct message m;

    ask_uri(n, 1, 1, "coap://a.example/x");
    expect_client(&n->h, 1, CODE_SERVICE_UNAVAILABLE, &m);
    fetch_from(n, 2, "coap://10.99.0.7/", 7, "");
}

/* Two names at one address are two hosts, with their own answers. */
static void names_with_one_address_do_not_mix(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent a, b;

    ask_uri(n, 1, 1, "coap://a.example/x");
    give_answer(n, expect_question(n, "a.example"), 0, 600, "10.99.0.7");
    a = expect_at(n, 7, "|a.example");
    ask_uri(n, 1, 2, "coap://b.example/x");
    give_answer(n, expect_question(n, "b.example"), 0, 600, "10.99.0.7");
    b = expect_at(n, 7, "|b.example");
    answer_with(&n->h, &b, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 60)), "b's");
    expect_client(&n->h, 1, CODE_CONTENT, &m);
    answer_with(&n->h, &a, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 60)), "a's");
    expect_client(&n->h, 1, CODE_CONTENT, &m);
    fetch_from(n, 3, "coap://10.99.0.7/x", 7, "");
    ask_uri(n, 2, 1, "coap://a.example/x");
    expect_client(&n->h, 2, CODE_CONTENT, &m);
    assert_payload(&m, "a's");
    ask_uri(n, 2, 2, "coap://B.example/x");
    expect_client(&n->h, 2, CODE_CONTENT, &m);
    assert_payload(&m, "b's");
    ask_uri(n, 2, 3, "coap://a.example:5684/x"); /* another host altogether */
    give_answer(n, expect_question(n, "a.example"), 0, 600, "10.99.0.7");
    a = expect_at(n, 7, "|a.example");
    assert_int_equal(a.flow.peer_port, 5684);
    finish_request(n, 2, &a, "far");
}

/* ---- the table ---- */

static const char *uri_of(unsigned i)
{
    static char uri[64];

    snprintf(uri, sizeof(uri), "coap://n%u.fleet.example/", i);
    return uri;
}

static uint32_t question_of(struct named *n, unsigned i)
{
    char name[64];

    snprintf(name, sizeof(name), "n%u.fleet.example", i);
    return expect_question(n, name);
}

static void fetch_from_new(struct named *n, uint16_t mid, unsigned i)
{
    struct sent out;
    char host[64], address[16];

    snprintf(host, sizeof(host), "|n%u.fleet.example", i);
    snprintf(address, sizeof(address), "10.99.0.%u", 100 + i);
    ask_uri(n, 1, mid, uri_of(i));
    give_answer(n, question_of(n, i), 0, 6000, address);
    out = expect_at(n, 100 + i, host);
    finish_request(n, 1, &out, "far");
}

static uint32_t destinations(const struct named *n)
{
    struct worker_usage usage;

    worker_usage(n->h.worker, &usage);
    return usage.destinations;
}

static void the_destination_not_used_for_longest_goes(void **state)
{
    struct named *n = *state;

    for (unsigned i = 0; i < 20; i++)
        fetch_from_new(n, (uint16_t)i, i);
    assert_int_equal(destinations(n), 20);
    fetch_from(n, 20, uri_of(0), 100, "|n0.fleet.example"); /* known */
    fetch_from_new(n, 21, 20);
    assert_int_equal(destinations(n), 20);
    fetch_from(n, 22, uri_of(0), 100, "|n0.fleet.example");
    fetch_from_new(n, 23, 1); /* had to be asked for again */
    for (unsigned i = 3; i <= 20; i++) {
        char host[64];

        snprintf(host, sizeof(host), "|n%u.fleet.example", i);
        fetch_from(n, (uint16_t)(30 + i), uri_of(i), 100 + i, host);
    }
}

/* The client takes all that is sent to it. */
static void acknowledge_all(struct named *n, unsigned client)
{
    struct flow flow = harness_client(&n->h, client);
    struct sent *s;

    for (unsigned i = 0; i < 100; i++) {
        harness_advance(&n->h, SECOND_US);
        while ((s = harness_take(&n->h)))
            if (s->data[0] >> 4 == 4 && flow_equal(&s->flow, &flow)) /* a CON */
                give_empty(&n->h, &flow, TYPE_ACK, (uint16_t)(s->data[2] << 8 | s->data[3]));
    }
}

/* However many of the oldest are in use for long. */
static void busy_destinations_stay_and_hinder_nobody(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent out[19];

    for (unsigned i = 0; i < 19; i++) { /* observed for good */
        ask_with(
            &n->h, 2, (uint16_t)i, CODE_GET,
            OPTIONS(UINT(OPTION_OBSERVE, 0), {OPTION_PROXY_URI, uri_of(i), strlen(uri_of(i)), 0}),
            NULL);
        give_answer(n, question_of(n, i), 0, 60000, "10.99.0.7");
        out[i] = expect_upstream(&n->h, &m);
        answer_with(&n->h, &out[i], CODE_CONTENT,
                    OPTIONS(UINT(OPTION_OBSERVE, 5), UINT(OPTION_MAX_AGE, 3000)), "state");
        expect_client(&n->h, 2, CODE_CONTENT, &m);
        assert_true(message_has(&m, SLOT_OBSERVE));
    }
    for (unsigned i = 19; i < 60; i++)
        fetch_from_new(n, (uint16_t)(100 + i), i);
    assert_int_equal(destinations(n), 20);
    ask_uri(n, 1, 1, "coap://10.99.0.50/"); /* the last one is in use: no place for another */
    expect_upstream(&n->h, &m);
    expect_refusal(n, 2, "coap://10.99.0.51/", CODE_SERVICE_UNAVAILABLE);
    let_it_end(&n->h, 200 * SECOND_US);
    for (unsigned i = 0; i < 19; i++) { /* the origins have nothing more to say */
        uint8_t bytes[1500];

        harness_give(&n->h, &out[i].flow, bytes,
                     harness_message(bytes, TYPE_NON, CODE_NOT_FOUND, (uint16_t)(0x7000 + i),
                                     out[i].data + 4, 8, NULL));
    }
    acknowledge_all(n, 2);
    for (unsigned i = 0; i < 19; i++) /* and all have gone, so that there is room */
        fetch_from_new(n, (uint16_t)(700 + i), 70 + i);
}

/* The answer to a question about one that has been given up is not for the one in its place. */
static void an_answer_for_a_place_that_was_given_up_does_nothing(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent out;
    uint32_t ids[20], other;

    for (unsigned i = 0; i < 20; i++) { /* none is answered in time */
        ask_typed(&n->h, 1, TYPE_NON, (uint16_t)i, CODE_GET,
                  OPTIONS({OPTION_PROXY_URI, uri_of(i), strlen(uri_of(i)), 0}), NULL);
        ids[i] = question_of(n, i);
    }
    harness_advance(&n->h, 21 * SECOND_US);
    for (unsigned i = 0; i < 20; i++)
        expect_client(&n->h, 1, CODE_GATEWAY_TIMEOUT, &m);
    ask_uri(n, 1, 100, "coap://a.example/"); /* in the place of n0 */
    other = expect_question(n, "a.example");
    assert_int_equal(other & 0xffff, ids[0] & 0xffff);
    give_answer(n, ids[0], 0, 60, "10.99.0.66");
    harness_silent(&n->h);
    give_answer(n, other, 0, 60, "10.99.0.7");
    out = expect_at(n, 7, "|a.example");
    finish_request(n, 1, &out, "far");
    give_answer(n, ids[0], 0, 60, "10.99.0.66");
    fetch_from(n, 101, "coap://a.example/", 7, "|a.example");
    /* A literal in the place of a name that is being asked for. */
    fetch_from(n, 102, "coap://10.99.0.9/", 9, "");
    give_answer(n, ids[1], 0, 60, "10.99.0.66");
    fetch_from(n, 103, "coap://10.99.0.9/", 9, "");
    for (unsigned i = 2; i < 20; i++)
        give_answer(n, ids[i], 0, 60, "10.99.0.66");
    fetch_from(n, 104, uri_of(5), 66, "|n5.fleet.example"); /* late, but still the right one */
}

/* The same in the place of another: its sessions are the old one's no more. */
static void a_place_that_is_used_again_goes_to_the_new_host(void **state)
{
    struct named *n = *state;

    for (unsigned round = 0; round < 5; round++)
        for (unsigned i = 0; i < 22; i++) {
            char uri[64];

            snprintf(uri, sizeof(uri), "coap://10.99.0.%u/", 100 + i);
            fetch_from(n, (uint16_t)(round * 22 + i), uri, 100 + i, "");
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_are_allowed_as_listed),
        TEST(one_question_serves_all_who_wait),
        TEST(failures_are_told_to_all_who_wait),
        TEST(the_first_good_address_is_used),
        TEST(addresses_hold_for_their_ttl),
        TEST(an_address_is_kept_while_it_is_one_of_them),
        TEST(those_in_the_queue_go_to_the_new_address),
        TEST(a_failure_at_the_old_address_condemns_nobody),
        TEST(observations_follow_their_host),
        TEST(late_and_repeated_answers_do_nothing),
        TEST(a_resolver_that_cannot_be_asked_is_no_capacity),
        cmocka_unit_test_setup_teardown(without_a_resolver_names_are_refused,
                                        setup_without_resolver, finish),
        TEST(names_with_one_address_do_not_mix),
        TEST(the_destination_not_used_for_longest_goes),
        TEST(busy_destinations_stay_and_hinder_nobody),
        TEST(an_answer_for_a_place_that_was_given_up_does_nothing),
        TEST(a_place_that_is_used_again_goes_to_the_new_host),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
