/* What workers tell each other of a resource's new state. Apart from the rest, as the gateway's own
 * names are not those of the fleet. */
#ifndef COAPGW_TESTS_SIM_RESOURCES_PARCEL_H
#define COAPGW_TESTS_SIM_RESOURCES_PARCEL_H

#include "gateway/parcel.h"

struct told_state {
    char name[32];
    bool removed;
    uint64_t version;
    uint32_t length;
    uint8_t body[256];
};

/* False when the parcel is none of these. */
bool told_state_read(const struct parcel *parcel, struct told_state *state);

#endif
