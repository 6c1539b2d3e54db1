/* Records as their devices read them. In a header of its own because tests/dtls and the gateway
 * have the same names for different things. */
#ifndef COAPGW_TESTS_SIM_DTLS_RECORD_H
#define COAPGW_TESTS_SIM_DTLS_RECORD_H

#include "tests/dtls/peer.h"

struct record_seen {
    uint8_t type;
    uint16_t epoch;
    uint64_t sequence, nonce;
    const uint8_t *cid;
    size_t length; /* of all of it */
};

/* What can be seen of the record at the front; false: it is none. */
bool record_look(const uint8_t *data, size_t length, uint8_t cid_length, struct record_seen *out);
/* Whether it is under these keys; if so `nonce` is what it was sealed with. */
bool record_is_under(struct peer *keys, const uint8_t *data, size_t length, uint8_t cid_length,
                     struct record_seen *out);

#endif
