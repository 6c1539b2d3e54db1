/* GET /.well-known/core (RFC 6690): the routes and what the gateway holds as a list of links,
 * filtered by the query. It is cut at limits.body, and at some thousands of held resources; what is
 * asked for by its whole path (href=/shared/a) is always found.
 *
 * Made once from the configuration; one for each worker. */
#ifndef COAPGW_GATEWAY_SERVE_DISCOVERY_H
#define COAPGW_GATEWAY_SERVE_DISCOVERY_H

#include <stdbool.h>

#include "config/config.h"
#include "gateway/serve/resource.h"

#define DISCOVERY_QUERY_BYTES 255 /* an option's longest value */

struct discovery;

/* NULL when memory is short. */
struct discovery *discovery_create(const struct config *config);
void discovery_destroy(struct discovery *discovery);

/* True when the request's path is /.well-known/core. */
bool discovery_matches(const struct message *request);

/* Answers it. Links with a host are listed for requests to that host only. */
void discovery_serve(struct discovery *discovery, struct proxy *p, struct resources *r,
                     struct request *rq);

#endif
