/* CoAP codes (RFC 7252 3 and 12.1; RFC 8132; RFC 7959; RFC 8516; RFC 8768): class in the upper
 * three bits, detail in the lower five. */
#ifndef COAPGW_GATEWAY_COAP_CODE_H
#define COAPGW_GATEWAY_COAP_CODE_H

#include <stdbool.h>
#include <stdint.h>

#define CODE(class, detail) ((uint8_t)((class) << 5 | (detail)))

enum code {
    CODE_EMPTY = CODE(0, 0),
    CODE_GET = CODE(0, 1),
    CODE_POST = CODE(0, 2),
    CODE_PUT = CODE(0, 3),
    CODE_DELETE = CODE(0, 4),
    CODE_FETCH = CODE(0, 5),
    CODE_PATCH = CODE(0, 6),
    CODE_IPATCH = CODE(0, 7),
    CODE_CREATED = CODE(2, 1),
    CODE_DELETED = CODE(2, 2),
    CODE_VALID = CODE(2, 3),
    CODE_CHANGED = CODE(2, 4),
    CODE_CONTENT = CODE(2, 5),
    CODE_CONTINUE = CODE(2, 31),
    CODE_BAD_REQUEST = CODE(4, 0),
    CODE_UNAUTHORIZED = CODE(4, 1),
    CODE_BAD_OPTION = CODE(4, 2),
    CODE_FORBIDDEN = CODE(4, 3),
    CODE_NOT_FOUND = CODE(4, 4),
    CODE_METHOD_NOT_ALLOWED = CODE(4, 5),
    CODE_NOT_ACCEPTABLE = CODE(4, 6),
    CODE_REQUEST_ENTITY_INCOMPLETE = CODE(4, 8),
    CODE_CONFLICT = CODE(4, 9),
    CODE_PRECONDITION_FAILED = CODE(4, 12),
    CODE_REQUEST_ENTITY_TOO_LARGE = CODE(4, 13),
    CODE_UNSUPPORTED_CONTENT_FORMAT = CODE(4, 15),
    CODE_UNPROCESSABLE_ENTITY = CODE(4, 22),
    CODE_TOO_MANY_REQUESTS = CODE(4, 29),
    CODE_INTERNAL_SERVER_ERROR = CODE(5, 0),
    CODE_NOT_IMPLEMENTED = CODE(5, 1),
    CODE_BAD_GATEWAY = CODE(5, 2),
    CODE_SERVICE_UNAVAILABLE = CODE(5, 3),
    CODE_GATEWAY_TIMEOUT = CODE(5, 4),
    CODE_PROXYING_NOT_SUPPORTED = CODE(5, 5),
    CODE_HOP_LIMIT_REACHED = CODE(5, 8),
};

static inline unsigned code_class(uint8_t code)
{
    return code >> 5;
}

static inline unsigned code_detail(uint8_t code)
{
    return code & 0x1f;
}

static inline bool code_is_request(uint8_t code)
{
    return code_class(code) == 0 && code != CODE_EMPTY;
}

/* Classes 2, 4 and 5; 1, 6 and 7 are reserved (RFC 7252 3), 7 is signalling over TCP only. */
static inline bool code_is_response(uint8_t code)
{
    unsigned class = code_class(code);
    return class == 2 || class == 4 || class == 5;
}

/* GET and FETCH: no state is changed, so that a second execution does no harm (RFC 7252 5.1). */
static inline bool code_is_safe(uint8_t code)
{
    return code == CODE_GET || code == CODE_FETCH;
}

#endif
