/* GET /.well-known/core (RFC 6690): the routes as a list of links, filtered by the query.
 *
 * Made once from the configuration; read-only afterwards. */
#ifndef COAPGW_GATEWAY_SERVE_DISCOVERY_H
#define COAPGW_GATEWAY_SERVE_DISCOVERY_H

#include <stdbool.h>

#include "config/config.h"
#include "gateway/session/messaging.h"

#define DISCOVERY_QUERY_BYTES 255 /* an option's longest value */

struct discovery;

/* NULL when memory is short. */
struct discovery *discovery_create(const struct config *config);
void discovery_destroy(struct discovery *discovery);

/* True when the request's path is /.well-known/core. */
bool discovery_matches(const struct message *request);

/* Answers it. Links with a host are listed for requests to that host only. */
void discovery_serve(struct discovery *discovery, struct messaging *m, struct request *rq);

#endif
