/* Looks at every datagram on the gateway's wires: RFC 7252 4.2, 4.4, 4.7 and 5.2.2, RFC 7641 4.5.2.
 *
 * What holds for any gateway and any traffic; what a scenario knows better it checks itself. */
#ifndef COAPGW_TESTS_SIM_WATCH_H
#define COAPGW_TESTS_SIM_WATCH_H

#include "gateway/coap/message.h"
#include "gateway/session/transmission.h"
#include "tests/sim/stage.h"

struct watch_rules {
    /* Whether the other end of a flow is a server. */
    bool (*upstream)(struct stage *s, const struct flow *flow);
    const struct transmission *servers, *clients;
    /* From when on the gateway may have given up a request at a server. NULL: NSTART towards
     * servers is not looked at. */
    uint64_t (*until)(struct stage *s, const struct message *request);
};

struct watch;
struct watch *watch_create(struct stage *s, const struct watch_rules *rules);
void watch_destroy(struct watch *watch);

/* The gateway has died: it owes nothing any more, but its message IDs are not to be used again. */
void watch_killed(struct watch *watch);

/* From the cast's functions of the same names. */
void watch_emitted(struct watch *watch, unsigned worker, const struct flow *flow,
                   const uint8_t *data, size_t length);
void watch_delivered(struct watch *watch, unsigned worker, const struct flow *flow,
                     const uint8_t *data, size_t length, bool icmp);

#endif
