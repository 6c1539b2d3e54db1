/* CoAP URIs (RFC 7252 6): the parts of coap://host:port/path?query, and URIs decomposed into
 * options.
 *
 * Pure functions; any thread may call them. */
#ifndef COAPGW_GATEWAY_COAP_URI_H
#define COAPGW_GATEWAY_COAP_URI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/net.h"

#define COAP_PORT  5683
#define COAPS_PORT 5684

enum uri_scheme { URI_COAP, URI_COAPS };

/* Points into the text that was parsed. */
struct uri {
    enum uri_scheme scheme;
    const char *host; /* without brackets, lower or upper case as written, still %-encoded */
    size_t host_length;
    bool host_is_address; /* an IP literal: `address` is set */
    struct address address;
    uint16_t port;    /* the scheme's default when absent */
    const char *path; /* behind the first '/', still %-encoded; length 0 when there is none */
    size_t path_length;
    const char *query; /* behind '?', length 0 when there is none */
    size_t query_length;
};

/* Parses an absolute coap or coaps URI of `length` bytes.
 * 0; -EPROTONOSUPPORT for another scheme; -EINVAL for anything malformed: no authority, userinfo,
 * an empty host, a fragment, a port out of range, a broken %-escape or IP literal. */
int uri_parse(const char *text, size_t length, struct uri *uri);

/* Decodes one path segment or query item. `out` has room for `length` bytes. Returns the number of
 * bytes, or -EINVAL for a broken escape. */
int uri_decode(const char *text, size_t length, uint8_t *out);

#endif
