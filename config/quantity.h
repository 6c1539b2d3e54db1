/* Numbers with a unit, a range and a default: one row each drives reading, checking and what an
 * error says. One thread at a time for each report. */
#ifndef COAPGW_CONFIG_QUANTITY_H
#define COAPGW_CONFIG_QUANTITY_H

#include <stdint.h>

#include "config/place.h"

enum quantity_kind {
    QUANTITY_COUNT,
    QUANTITY_POWER_OF_TWO,
    QUANTITY_MILLI, /* a decimal, kept in thousandths */
    QUANTITY_SIZE,  /* kept in bytes */
    QUANTITY_SIZE_POWER_OF_TWO,
    QUANTITY_TIME_US, /* a duration, kept in the unit of the name */
    QUANTITY_TIME_MS,
    QUANTITY_TIME_S,
};

struct quantity {
    const char *key;
    enum quantity_kind kind;
    uint64_t min, max, fallback; /* in the unit that it is kept in */
};

#define QUANTITY_TEXT_BYTES 32

/* The value of `text`, which stands at the key of the mapping at `parent`; the fallback when it is
 * NULL or, with an error reported, when it is wrong. */
uint64_t quantity_read(const struct place *parent, const struct quantity *q, const char *text);

/* The same for what 0 turns off: it is right although it is below `min`. */
uint64_t quantity_read_or_zero(const struct place *parent, const struct quantity *q,
                               const char *text);

/* Writes `value` as one would in the file, in the largest unit that it is a multiple of. Returns
 * `text`. */
const char *quantity_format(enum quantity_kind kind, uint64_t value,
                            char text[QUANTITY_TEXT_BYTES]);

#endif
