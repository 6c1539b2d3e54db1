/* Destinations of the forward proxy: one for each host and port that requests go to, with a server
 * of its own behind those of the configuration. The addresses of names are asked for on the control
 * side, used for as long as they hold, and asked for again. When there are too many, those that
 * were not used for longest and have nothing under way are given up.
 *
 * One worker owns them; no locking. */
#ifndef COAPGW_GATEWAY_PROXY_DESTINATION_H
#define COAPGW_GATEWAY_PROXY_DESTINATION_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/proxy/proxy.h"

#define HOST_NAME_BYTES 255 /* Uri-Host */

/* A host as a request names it. All of it is zero that is not said here. */
struct host {
    char name[HOST_NAME_BYTES + 1]; /* lower case, without a dot at the end; "" for a literal */
    size_t name_length;             /* 0 for a literal */
    bool is_literal;
    struct address address; /* of a literal */
    uint16_t port;
    bool secure; /* coaps */
};

/* 0 or a negative errno. `limits.destinations` of them. */
int destinations_init(struct proxy *p);
void destinations_fini(struct proxy *p);

/* The server of a host, and it has been used. SERVER_NONE when there are too many with something
 * under way. */
uint32_t destination_find(struct proxy *p, const struct host *host);

/* True when one of our addresses leads there. */
bool destination_has_route(const struct proxy *p, const struct address *a);

/* Where no request may ever go, whatever is listed: ourselves, loopback, what is local to a link,
 * groups, and what is no address of a host. */
bool destination_is_forbidden(const struct proxy *p, const struct address *a);

#endif
