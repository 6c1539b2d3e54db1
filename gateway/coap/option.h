/* The table of all registered options: the one place that knows their numbers, formats, lengths and
 * whether they repeat (RFC 7252 5.10, 7641, 7959, 7967, 8516, 8613, 8768, 9175, 9177).
 *
 * Pure; any thread may call it. */
#ifndef COAPGW_GATEWAY_COAP_OPTION_H
#define COAPGW_GATEWAY_COAP_OPTION_H

#include <stdbool.h>
#include <stdint.h>

enum option_number {
    OPTION_IF_MATCH = 1,
    OPTION_URI_HOST = 3,
    OPTION_ETAG = 4,
    OPTION_IF_NONE_MATCH = 5,
    OPTION_OBSERVE = 6,
    OPTION_URI_PORT = 7,
    OPTION_LOCATION_PATH = 8,
    OPTION_OSCORE = 9,
    OPTION_URI_PATH = 11,
    OPTION_CONTENT_FORMAT = 12,
    OPTION_MAX_AGE = 14,
    OPTION_URI_QUERY = 15,
    OPTION_HOP_LIMIT = 16,
    OPTION_ACCEPT = 17,
    OPTION_Q_BLOCK1 = 19,
    OPTION_LOCATION_QUERY = 20,
    OPTION_EDHOC = 21,
    OPTION_BLOCK2 = 23,
    OPTION_BLOCK1 = 27,
    OPTION_SIZE2 = 28,
    OPTION_Q_BLOCK2 = 31,
    OPTION_PROXY_URI = 35,
    OPTION_PROXY_SCHEME = 39,
    OPTION_SIZE1 = 60,
    OPTION_ECHO = 252,
    OPTION_NO_RESPONSE = 258,
    OPTION_REQUEST_TAG = 292,
};

/* A dense index for each registered option: the bit of a message's `present` mask and the index of
 * its `first` table. Slot 0 stands for "not registered". */
enum option_slot {
    SLOT_UNKNOWN = 0,
    SLOT_IF_MATCH,
    SLOT_URI_HOST,
    SLOT_ETAG,
    SLOT_IF_NONE_MATCH,
    SLOT_OBSERVE,
    SLOT_URI_PORT,
    SLOT_LOCATION_PATH,
    SLOT_OSCORE,
    SLOT_URI_PATH,
    SLOT_CONTENT_FORMAT,
    SLOT_MAX_AGE,
    SLOT_URI_QUERY,
    SLOT_HOP_LIMIT,
    SLOT_ACCEPT,
    SLOT_Q_BLOCK1,
    SLOT_LOCATION_QUERY,
    SLOT_EDHOC,
    SLOT_BLOCK2,
    SLOT_BLOCK1,
    SLOT_SIZE2,
    SLOT_Q_BLOCK2,
    SLOT_PROXY_URI,
    SLOT_PROXY_SCHEME,
    SLOT_SIZE1,
    SLOT_ECHO,
    SLOT_NO_RESPONSE,
    SLOT_REQUEST_TAG,
    SLOT_COUNT
};
_Static_assert(SLOT_COUNT <= 32, "a mask of slots fits 32 bits");

#define SLOT_BIT(slot) (1u << (slot))

enum option_format { FORMAT_EMPTY, FORMAT_OPAQUE, FORMAT_UINT, FORMAT_STRING };

struct option_info {
    const char *name; /* as registered: "Uri-Path" */
    uint16_t number;
    uint16_t min_length, max_length; /* bytes */
    uint8_t format;                  /* enum option_format */
    bool repeatable;
};

/* Indexed by slot; entry 0 is all zero. */
extern const struct option_info option_table[SLOT_COUNT];

/* The slot of a number, SLOT_UNKNOWN when it is not registered. */
enum option_slot option_slot(uint16_t number);

/* RFC 7252 5.4.6: what the number itself says. */
static inline bool option_is_critical(uint16_t number)
{
    return number & 1;
}

static inline bool option_is_unsafe(uint16_t number)
{
    return number & 2;
}

static inline bool option_is_no_cache_key(uint16_t number)
{
    return (number & 0x1e) == 0x1c;
}

/* The slots whose numbers are critical. */
extern const uint32_t option_critical_slots;

#endif
