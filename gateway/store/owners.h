/* Which worker has an association of DTLS: learnt while records are read back, for the relations
 * that come behind.
 *
 * Holds up to OWNERS_MAX ids and forgets what comes after them. One thread. */
#ifndef COAPGW_GATEWAY_STORE_OWNERS_H
#define COAPGW_GATEWAY_STORE_OWNERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/store/store.h"

#define OWNERS_MAX (1u << 21)

struct owner {
    uint8_t id[STORE_ID_BYTES]; /* zero: the slot is free */
    uint32_t worker;
};

struct owners {
    struct owner *slots; /* open addressing */
    size_t count, size;
    uint64_t seed;
};

/* The newest counts. The id is not zero. */
void owners_set(struct owners *owners, const uint8_t id[STORE_ID_BYTES], unsigned worker);

/* False: it is not known. */
bool owners_find(const struct owners *owners, const uint8_t id[STORE_ID_BYTES], unsigned *worker);

/* Frees all; it is empty afterwards. */
void owners_clear(struct owners *owners);

#endif
