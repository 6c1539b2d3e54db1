/* A worker with a module whose functions the test supplies: what they got, and what the gateway
 * made of it. */
#ifndef COAPGW_TESTS_UNIT_MODULE_HARNESS_H
#define COAPGW_TESTS_UNIT_MODULE_HARNESS_H

#include <errno.h>

#include "gateway/serve/module_table.h"
#include "tests/unit/proxy_harness.h"

#define MODULE_YAML                   \
    "instance: unit\n"                \
    "interfaces:\n"                   \
    "  - name: south\n"               \
    "    device: tap:unit0\n"         \
    "    addresses: [10.99.0.2/24]\n" \
    "listeners:\n"                    \
    "  - uri: coap://10.99.0.2\n"

#define PROBE_YAML          \
    MODULE_YAML "routes:\n" \
                "  - {path: /probe, module: {file: /unit/probe.so, options: \"some text\"}}\n"

#define EVENTS_MAX 64

/* The module, and what is known of its calls. */
struct probe {
    const struct coapgw_api *api;
    struct coapgw_instance *instance;
    struct harness *h;
    unsigned starts, stops, calls, timers;
    uint64_t argument; /* of the last timer */
    struct coapgw_event events[EVENTS_MAX];
    unsigned event_count;
    int start_error;
    const char *start_reason;
    void (*handle)(const struct coapgw_request *request, struct coapgw_response *response);
    void (*on_timer)(coapgw_timer timer, uint64_t argument);
    void (*on_event)(const struct coapgw_event *event);
};

static struct probe probe;
static struct modules *probe_modules;

static inline int probe_start(const struct coapgw_start *start, void **state)
{
    assert_non_null(strstr(start->path, "/"));
    assert_string_equal(start->options, "some text");
    assert_int_equal(start->worker, 0);
    assert_int_equal(start->workers, 1);
    probe.starts++;
    probe.instance = start->instance;
    *state = &probe;
    if (probe.start_reason)
        snprintf(start->reason, COAPGW_REASON_BYTES, "%s", probe.start_reason);
    return probe.start_error;
}

static inline void probe_stop(void *state)
{
    assert_ptr_equal(state, &probe);
    probe.stops++;
}

static inline void probe_handle(void *state, const struct coapgw_request *request,
                                struct coapgw_response *response)
{
    assert_ptr_equal(state, &probe);
    probe.calls++;
    probe.handle(request, response);
}

static inline void probe_timer(void *state, coapgw_timer timer, uint64_t argument)
{
    assert_ptr_equal(state, &probe);
    probe.timers++;
    probe.argument = argument;
    if (probe.on_timer)
        probe.on_timer(timer, argument);
}

static inline void probe_event(void *state, const struct coapgw_event *event)
{
    assert_ptr_equal(state, &probe);
    assert_true(probe.event_count < EVENTS_MAX);
    probe.events[probe.event_count++] = *event;
    if (probe.on_event)
        probe.on_event(event);
}

static const struct coapgw_module probe_module = {
    .abi = COAPGW_MODULE_ABI,
    .size = sizeof(probe_module),
    .name = "probe",
    .events = UINT32_MAX,
    .start = probe_start,
    .stop = probe_stop,
    .handle = probe_handle,
    .timer = probe_timer,
    .event = probe_event,
};

static inline void probe_load(struct worker_setup *setup)
{
    char reason[COAPGW_REASON_BYTES];

    probe_modules = modules_create(setup->config);
    assert_non_null(probe_modules);
    for (unsigned i = 0; i < setup->config->route_count; i++)
        if (setup->config->routes[i].kind == CONFIG_ROUTE_MODULE)
            assert_int_equal(modules_set(probe_modules, i, &probe_module, reason), 0);
    setup->modules = probe_modules;
}

static inline struct harness *probe_begin(const char *yaml)
{
    struct harness *h = malloc(sizeof(*h));

    assert_non_null(h);
    memset(&probe, 0, sizeof(probe));
    probe.api = &module_api;
    probe.h = h;
    harness_start_prepared(h, yaml, NULL, NULL, probe_load);
    assert_int_equal(probe.starts, 1);
    return h;
}

static inline void probe_end(struct harness *h)
{
    harness_stop(h);
    assert_int_equal(probe.stops, 1);
    modules_destroy(probe_modules);
    free(h);
}

/* What most handlers answer. */
static inline void probe_text(struct coapgw_response *response, uint8_t code, const char *text)
{
    assert_int_equal(probe.api->code(response, code), 0);
    assert_int_equal(probe.api->write(response, text, strlen(text)), 0);
}

static inline uint64_t probe_counter(const struct harness *h, size_t offset)
{
    uint64_t value;

    memcpy(&value, (const uint8_t *)worker_counters(h->worker) + offset, sizeof(value));
    return value;
}

#define COUNTER(h, name) probe_counter(h, offsetof(struct counters, name))

/* The last event of a kind, NULL when there was none. */
static inline const struct coapgw_event *probe_last(enum coapgw_event_kind kind)
{
    for (unsigned i = probe.event_count; i--;)
        if (probe.events[i].kind == (uint32_t)kind)
            return &probe.events[i];
    return NULL;
}

static inline bool bytes_are(const struct coapgw_bytes *bytes, const char *text)
{
    return bytes->length == strlen(text) && memcmp(bytes->data, text, bytes->length) == 0;
}

/* A client acknowledges what it got. */
static inline void client_acks(struct harness *h, unsigned client, uint16_t mid)
{
    CLIENT(h, client, .type = TYPE_ACK, .mid = mid, .token = (const uint8_t *)"");
}

#endif
