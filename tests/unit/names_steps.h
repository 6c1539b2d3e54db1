/* The forward proxy with a resolver that the test plays: questions that were asked, and answers. */
#ifndef COAPGW_TESTS_UNIT_NAMES_STEPS_H
#define COAPGW_TESTS_UNIT_NAMES_STEPS_H

#include "tests/unit/proxy_steps.h"

static const char names_yaml[] =
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

static inline bool resolve(void *context, const char *name, size_t length, uint32_t id)
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

static inline int setup(void **state)
{
    struct named *n = calloc(1, sizeof(*n));

    harness_start_with(&n->h, names_yaml, resolve);
    *state = n;
    return 0;
}

/* The next question, which is for this name. */
static inline uint32_t expect_question(struct named *n, const char *name)
{
    assert_true(n->seen < n->asked);
    assert_string_equal(n->questions[n->seen].name, name);
    return n->questions[n->seen++].id;
}

static inline void no_question(const struct named *n)
{
    assert_int_equal(n->seen, n->asked);
}

/* An answer with the addresses in `list`, divided by spaces. */
static inline void give_answer(struct named *n, uint32_t id, int error, uint32_t ttl_s,
                               const char *list)
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

static inline void ask_uri(struct named *n, unsigned client, uint16_t mid, const char *uri)
{
    ask_with(&n->h, client, mid, CODE_GET, OPTIONS({OPTION_PROXY_URI, uri, strlen(uri), 0}), NULL);
}

/* The request arrives at 10.99.0.LAST, and its answer at the client. */
static inline struct sent expect_at(struct named *n, unsigned last, const char *host)
{
    struct message m;
    struct sent out = expect_upstream(&n->h, &m);

    assert_int_equal(out.flow.peer.bytes[15], last);
    assert_string_equal(option_texts(&m, OPTION_URI_HOST), host);
    return out;
}

static inline void finish_request(struct named *n, unsigned client, const struct sent *out,
                                  const char *payload)
{
    struct message m;

    answer_with(&n->h, out, CODE_CONTENT, OPTIONS(UINT(OPTION_MAX_AGE, 0)), payload);
    expect_client(&n->h, client, CODE_CONTENT, &m);
    assert_payload(&m, payload);
    harness_silent(&n->h);
}

static inline void fetch_from(struct named *n, uint16_t mid, const char *uri, unsigned last,
                              const char *host)
{
    struct sent out;

    ask_uri(n, 1, mid, uri);
    out = expect_at(n, last, host);
    finish_request(n, 1, &out, "far");
}

static inline void expect_refusal(struct named *n, uint16_t mid, const char *uri, uint8_t code)
{
    struct message m;

    ask_uri(n, 1, mid, uri);
    expect_client(&n->h, 1, code, &m);
    harness_silent(&n->h);
    no_question(n);
}

#endif
