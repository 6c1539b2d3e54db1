/* Who may use a route: its `allow:`. Pure; any thread. */
#ifndef COAPGW_GATEWAY_SERVE_ACCESS_H
#define COAPGW_GATEWAY_SERVE_ACCESS_H

#include "config/config.h"
#include "gateway/coap/code.h"
#include "gateway/security/principal.h"

/* 0: the client may. CODE_UNAUTHORIZED: it has not said who it is; CODE_FORBIDDEN: it is another
 * one (RFC 7252 5.9.2). */
static inline uint8_t access_refusal(const struct config_route *route,
                                     const struct principal *client)
{
    if (client->kind == PRINCIPAL_NONE)
        return CODE_UNAUTHORIZED;
    for (unsigned i = 0; i < route->allow_count; i++)
        if (principal_matches(client, route->allow[i]))
            return 0;
    return CODE_FORBIDDEN;
}

#endif
