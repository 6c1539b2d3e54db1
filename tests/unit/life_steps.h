/* Steps of tests that look at sessions from within: events, pings, parameters, and what is not sent
 * on purpose. */
#ifndef COAPGW_TESTS_UNIT_LIFE_STEPS_H
#define COAPGW_TESTS_UNIT_LIFE_STEPS_H

#include "gateway/session/messaging.h"
#include "tests/unit/observe_harness.h"

/* The first member of a worker. */
static inline struct messaging *messaging_of(struct harness *h)
{
    return (struct messaging *)(void *)h->worker;
}

static inline struct session *session_of(struct harness *h, const struct flow *flow)
{
    const struct session_table *table = &messaging_of(h)->sessions;

    return session_find(table, flow, session_hash(table, flow));
}

static inline struct session *client_session_of(struct harness *h, unsigned n)
{
    struct flow flow = harness_client(h, n);

    return session_of(h, &flow);
}

/* ---- events ---- */

#define EVENTS_MAX 4096

static struct {
    struct {
        enum session_event event;
        uint16_t mid;
        struct flow flow;
    } list[EVENTS_MAX];
    unsigned count, taken;
    struct messaging *m;
} heard_events;

static inline void record_event(void *context, struct session *s, enum session_event event)
{
    (void)context;
    assert_true(heard_events.count < EVENTS_MAX);
    assert_true(s->open);
    heard_events.list[heard_events.count].event = event;
    heard_events.list[heard_events.count].mid = heard_events.m->event_mid;
    heard_events.list[heard_events.count++].flow = s->flow;
}

/* From here on events of clients and servers are noted instead of handled. */
static inline void events_begin(struct harness *h)
{
    heard_events.m = messaging_of(h);
    heard_events.count = heard_events.taken = 0;
    heard_events.m->ops.event = record_event;
}

/* The next event is this one, of client n; returns its message ID. */
static inline uint16_t expect_event(struct harness *h, unsigned n, enum session_event event)
{
    struct flow flow = harness_client(h, n);

    assert_true(heard_events.taken < heard_events.count);
    assert_int_equal(heard_events.list[heard_events.taken].event, event);
    assert_true(flow_equal(&heard_events.list[heard_events.taken].flow, &flow));
    return heard_events.list[heard_events.taken++].mid;
}

#define expect_no_event() assert_int_equal(heard_events.taken, heard_events.count)

/* ---- pings ---- */

static inline uint16_t mid_of(const struct sent *s)
{
    return (uint16_t)(s->data[2] << 8 | s->data[3]);
}

static inline bool is_ping(const struct sent *s)
{
    return s->length == 4 && s->data[0] == 0x40 && s->data[1] == 0;
}

/* The next datagram is a ping to client n, sent in [from_us, to_us]. */
static inline struct sent expect_ping(struct harness *h, unsigned n, uint64_t from_us,
                                      uint64_t to_us)
{
    struct flow flow = harness_client(h, n);
    struct sent *s = harness_take(h);

    assert_non_null(s);
    assert_true(is_ping(s));
    assert_true(flow_equal(&s->flow, &flow));
    assert_in_range(s->at_us, from_us, to_us);
    return *s;
}

static inline void pong(struct harness *h, const struct sent *ping)
{
    uint8_t bytes[4];

    message_write_empty(bytes, TYPE_RST, mid_of(ping));
    harness_give(h, &ping->flow, bytes, sizeof(bytes));
}

/* All clients answer their pings for a while; there is nothing else to be sent. */
static inline unsigned answer_pings(struct harness *h, uint64_t us)
{
    uint64_t end = h->now + us;
    unsigned pings = 0;

    while (h->now < end) {
        struct sent *s;

        harness_advance(h, end - h->now < 100000 ? end - h->now : 100000);
        while ((s = harness_take(h))) {
            struct sent ping = *s;

            assert_true(is_ping(&ping));
            pong(h, &ping);
            pings++;
        }
        h->count = h->taken = 0;
    }
    return pings;
}

#endif
