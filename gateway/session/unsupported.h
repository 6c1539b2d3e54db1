/* Critical options that a request has and its resource does not understand (RFC 7252 5.4.1). */
#ifndef COAPGW_GATEWAY_SESSION_UNSUPPORTED_H
#define COAPGW_GATEWAY_SESSION_UNSUPPORTED_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/session/messaging.h"

/* The number of the first such option, 0 when there is none. `understood` has the SLOT_BIT of each
 * registered option that is understood. */
uint16_t unsupported_option(const struct message *msg, uint32_t understood);

/* Answers a request that has one: 4.02, or a RST to a NON. */
void unsupported_refuse(struct messaging *m, const struct request *rq, uint16_t number);

#endif
