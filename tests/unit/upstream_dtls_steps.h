/* Configurations with origins over DTLS, and steps of their tests. */
#ifndef COAPGW_TESTS_UNIT_UPSTREAM_DTLS_STEPS_H
#define COAPGW_TESTS_UNIT_UPSTREAM_DTLS_STEPS_H

#include "tests/unit/upstream_dtls_setup.h"

#define DTLS "dtls: {identity: gateway, key_file: %s, suites: [TLS_PSK_WITH_AES_128_CCM_8]}"
#define HEAD                                                                                       \
    "instance: unit\n"                                                                             \
    "interfaces:\n"                                                                                \
    "  - name: south\n"                                                                            \
    "    device: tap:unit0\n"                                                                      \
    "    addresses: [10.99.0.2/24]\n"                                                              \
    "listeners: [{uri: coap://10.99.0.2}]\n"                                                       \
    "cache: {size: 0}\n"                                                                           \
    "limits: {sessions: 64, exchanges: 32, outbound: 32, queue: 8, remembered: 1024, handshakes: " \
    "4, "                                                                                          \
    "message_memory: 64KiB, assembly_memory: 1MiB, body: 64KiB, amplification: 0}\n"

static const char one_yaml[] = HEAD "upstreams:\n"
                                    "  - name: one\n"
                                    "    servers: [coaps://10.99.0.11]\n"
                                    "    transmission: {nstart: 4}\n"
                                    "    " DTLS "\n"
                                    "routes: [{path: /, to: one}]\n";

static const char alive_yaml[] = HEAD "upstreams:\n"
                                      "  - name: one\n"
                                      "    servers: [coaps://10.99.0.11]\n"
                                      "    keepalive: 30s\n"
                                      "    " DTLS "\n"
                                      "routes: [{path: /, to: one}]\n";

static const char narrow_yaml[] = HEAD "upstreams:\n"
                                       "  - name: one\n"
                                       "    ports: 1\n"
                                       "    servers: [coaps://10.99.0.11]\n"
                                       "    " DTLS "\n"
                                       "routes: [{path: /, to: one}]\n";

static const char two_yaml[] = HEAD "upstreams:\n"
                                    "  - name: two\n"
                                    "    servers: [coaps://10.99.0.11, coaps://10.99.0.12]\n"
                                    "    balance: round_robin\n"
                                    "    transmission: {nstart: 4}\n"
                                    "    " DTLS "\n"
                                    "routes: [{path: /, to: two}]\n";

static const char forward_yaml[] = HEAD "forward_proxy:\n"
                                        "  allow: [10.99.0.0/24, origin.example, other.example]\n"
                                        "  " DTLS "\n";

static inline int setup_forward(void **state)
{
    rig_start(state, forward_yaml);
    return 0;
}

static inline int setup_one(void **state)
{
    rig_start(state, one_yaml);
    return 0;
}

static inline int setup_narrow(void **state)
{
    rig_start(state, narrow_yaml);
    return 0;
}

static inline int setup_alive(void **state)
{
    rig_start(state, alive_yaml);
    return 0;
}

static inline int setup_two(void **state)
{
    rig_start(state, two_yaml);
    return 0;
}

static inline const struct counters *counters(void)
{
    return worker_counters(rig->h.worker);
}

static inline void expect_code(unsigned client, uint8_t code)
{
    struct message m;

    (void)expect_at_client(&rig->h, client, code, &m);
}

static inline void ask(unsigned client, uint8_t code)
{
    CLIENT(&rig->h, client, .type = TYPE_CON, .code = code, .path = "r");
}

/* A request and its answer, in whatever association; earlier answers may be repeated until now. */
static inline void exchange(unsigned client)
{
    struct asked *a;

    rig->h.taken = rig->h.count;
    ask(client, CODE_GET);
    rig_settle();
    a = rig_expect(0, CODE_GET);
    ANSWER(a, .code = CODE_CONTENT);
    expect_code(client, CODE_CONTENT);
}

#define ONE(f)     cmocka_unit_test_setup_teardown(f, setup_one, rig_stop)
#define ALIVE(f)   cmocka_unit_test_setup_teardown(f, setup_alive, rig_stop)
#define FORWARD(f) cmocka_unit_test_setup_teardown(f, setup_forward, rig_stop)
#define NARROW(f)  cmocka_unit_test_setup_teardown(f, setup_narrow, rig_stop)
#define TWO(f)     cmocka_unit_test_setup_teardown(f, setup_two, rig_stop)

#endif
