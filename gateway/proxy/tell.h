/* Telling an origin which client a request is from (tell_client): as a query parameter or as an
 * option, in the place of whatever the client has written there itself. It is part of the request
 * from then on, and so of its cache key: no client gets what was made for another one.
 *
 * Pure, but for what it is given. One worker. */
#ifndef COAPGW_GATEWAY_PROXY_TELL_H
#define COAPGW_GATEWAY_PROXY_TELL_H

#include "config/config.h"
#include "gateway/security/principal.h"
#include "gateway/session/messaging.h"

/* A request that says who it is from. */
struct told {
    struct message message;
    uint8_t bytes[MESSAGE_MAX_BYTES];
};

/* Makes it of `request`. A client without a name is not told of, and cannot say that it has one. 0;
 * -EMSGSIZE: it is too long. */
int tell_write(struct told *told, const struct message *request,
               const struct config_upstream *upstream, const struct principal *client);

#endif
