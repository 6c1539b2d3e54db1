#include "gateway/coap/option.h"

#define ONCE false
#define MANY true

/* X(id, name, shortest, longest, format, repeatable). RFC 7252 5.10; 7641 2; 7959 2.1, 4; 7967 2;
 * 8613 2; 8768 3; 9175 2.2.1, 3.2; 9177 4.1; 9668 3.1. */
#define OPTIONS_LOW(X)                                        \
    X(IF_MATCH, "If-Match", 0, 8, OPAQUE, MANY)               \
    X(URI_HOST, "Uri-Host", 1, 255, STRING, ONCE)             \
    X(ETAG, "ETag", 1, 8, OPAQUE, MANY)                       \
    X(IF_NONE_MATCH, "If-None-Match", 0, 0, EMPTY, ONCE)      \
    X(OBSERVE, "Observe", 0, 3, UINT, ONCE)                   \
    X(URI_PORT, "Uri-Port", 0, 2, UINT, ONCE)                 \
    X(LOCATION_PATH, "Location-Path", 0, 255, STRING, MANY)   \
    X(OSCORE, "OSCORE", 0, 255, OPAQUE, ONCE)                 \
    X(URI_PATH, "Uri-Path", 0, 255, STRING, MANY)             \
    X(CONTENT_FORMAT, "Content-Format", 0, 2, UINT, ONCE)     \
    X(MAX_AGE, "Max-Age", 0, 4, UINT, ONCE)                   \
    X(URI_QUERY, "Uri-Query", 0, 255, STRING, MANY)           \
    X(HOP_LIMIT, "Hop-Limit", 1, 1, UINT, ONCE)               \
    X(ACCEPT, "Accept", 0, 2, UINT, ONCE)                     \
    X(Q_BLOCK1, "Q-Block1", 0, 3, UINT, ONCE)                 \
    X(LOCATION_QUERY, "Location-Query", 0, 255, STRING, MANY) \
    X(EDHOC, "EDHOC", 0, 0, EMPTY, ONCE)                      \
    X(BLOCK2, "Block2", 0, 3, UINT, ONCE)                     \
    X(BLOCK1, "Block1", 0, 3, UINT, ONCE)                     \
    X(SIZE2, "Size2", 0, 4, UINT, ONCE)                       \
    X(Q_BLOCK2, "Q-Block2", 0, 3, UINT, MANY)                 \
    X(PROXY_URI, "Proxy-Uri", 1, 1034, STRING, ONCE)          \
    X(PROXY_SCHEME, "Proxy-Scheme", 1, 255, STRING, ONCE)     \
    X(SIZE1, "Size1", 0, 4, UINT, ONCE)

/* The numbers from 64 on. */
#define OPTIONS_HIGH(X)                             \
    X(ECHO, "Echo", 1, 40, OPAQUE, ONCE)            \
    X(NO_RESPONSE, "No-Response", 0, 1, UINT, ONCE) \
    X(REQUEST_TAG, "Request-Tag", 0, 8, OPAQUE, MANY)

#define OPTIONS(X) OPTIONS_LOW(X) OPTIONS_HIGH(X)

const struct option_info option_table[SLOT_COUNT] = {
#define X(id, text, shortest, longest, format, many) \
    [SLOT_##id] = {text, OPTION_##id, shortest, longest, FORMAT_##format, many},
    OPTIONS(X)
#undef X
};

const uint32_t option_critical_slots =
#define X(id, text, shortest, longest, format, many) (OPTION_##id & 1 ? SLOT_BIT(SLOT_##id) : 0) |
    OPTIONS(X)
#undef X
        0;

enum option_slot option_slot(uint16_t number)
{
    /* All but three numbers are below 64: the packet path reads one byte. */
    static const uint8_t low[64] = {
#define X(id, text, shortest, longest, format, many) [OPTION_##id] = SLOT_##id,
        OPTIONS_LOW(X)
#undef X
    };

    if (number < 64)
        return low[number];
    switch (number) {
#define X(id, text, shortest, longest, format, many) \
    case OPTION_##id:                                \
        return SLOT_##id;
        OPTIONS_HIGH(X)
#undef X
    default:
        return SLOT_UNKNOWN;
    }
}
