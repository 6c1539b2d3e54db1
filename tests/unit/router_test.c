/* What a worker remembers of routes is what it would find anew. */
#include "tests/unit/worker_harness.h"

#include "gateway/serve/router.h"

static const char yaml[] =
    "interfaces:\n"
    "  - {name: s, device: \"tap:x\", addresses: [10.99.0.2/24, 10.99.0.3/24]}\n"
    "listeners: [{uri: coap://10.99.0.2}, {uri: coap://10.99.0.3}]\n"
    "upstreams:\n"
    "  - {name: o, servers: [coap://10.99.0.1:7000]}\n"
    "routes:\n"
    "  - {path: /, to: o}\n"
    "  - {path: /a, respond: {payload: a}}\n"
    "  - {path: /a/b, to: o}\n"
    "  - {path: /abcdefgh, respond: {payload: h}}\n"
    "  - {path: /bb/a, respond: {payload: b}}\n"
    "  - {host: other.example, path: /a, respond: {payload: o}}\n"
    "  - {host: 10.99.0.3, path: /a, respond: {payload: l}}\n";

/* A request for a few segments of few letters, now and then with a host, a query or Accept: some
 * options are longer than what is remembered, many are alike but for a byte. */
static size_t random_request(struct random *random, uint8_t *out, size_t room)
{
    static const char *const segments[] = {"a", "b", "bb", "", "abcdefgh", "abcdefgi", "abcdefgha"};
    struct encoder e;

    encoder_begin(&e, out, room, TYPE_CON, CODE_GET, 1, NULL, 0);
    if (random_below(random, 4) == 0) {
        const char *host = random_below(random, 2) ? "other.example" : "Other.Example";

        encoder_option(&e, OPTION_URI_HOST, host, strlen(host));
    }
    for (unsigned n = random_below(random, 4); n; n--) {
        const char *segment = segments[random_below(random, 7)];

        encoder_option(&e, OPTION_URI_PATH, segment, strlen(segment));
    }
    if (random_below(random, 4) == 0)
        encoder_option(&e, OPTION_URI_QUERY, "a=b", random_below(random, 4));
    if (random_below(random, 4) == 0)
        encoder_uint(&e, OPTION_ACCEPT, random_below(random, 300));
    if (random_below(random, 4) == 0)
        encoder_payload(&e, "payload", 7);
    return encoder_end(&e);
}

static void recalls_what_it_finds(void **state)
{
    static struct router_memory memory;
    struct config *config = config_load_text("t", yaml, strlen(yaml), stderr);
    uint8_t seed[RANDOM_SEED_BYTES] = {4};
    unsigned of_route[8] = {0};
    struct router *router;
    struct random random;

    (void)state;
    assert_non_null(config);
    router = router_create(config);
    assert_non_null(router);
    random_seed(&random, seed);
    for (unsigned i = 0; i < 200000; i++) {
        uint16_t local = (uint16_t)random_below(&random, 2);
        uint8_t bytes[128], *exact;
        struct message request;
        size_t length = random_request(&random, bytes, sizeof(bytes));
        int route;

        assert_true(length > 0);
        exact = malloc(length); /* so that a sanitizer sees a byte read beyond */
        assert_non_null(exact);
        memcpy(exact, bytes, length);
        assert_int_equal(message_parse(exact, length, &request), VERDICT_OK);
        route = router_find(router, &request, local);
        assert_int_equal(router_recall(router, &memory, &request, local), route);
        assert_int_equal(router_recall(router, &memory, &request, local), route);
        of_route[route + 1]++;
        free(exact);
    }
    for (unsigned i = 1; i < 8; i++)
        assert_true(of_route[i] > 100); /* each route was found */
    router_destroy(router);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(recalls_what_it_finds)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
