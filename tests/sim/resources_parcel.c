#include "tests/sim/resources_parcel.h"

#include "gateway/serve/resource_parts.h"

bool told_state_read(const struct parcel *parcel, struct told_state *state)
{
    struct resource_state_head head;

    *state = (struct told_state){.name = ""};
    if (parcel->kind != PARCEL_RESOURCE || parcel->type != RESOURCE_STATE ||
        !parcel_read(parcel, 0, &head, sizeof(head)))
        return false;
    state->removed = head.removed;
    state->version = head.version;
    if (head.name_length >= sizeof(state->name) || head.payload_length > sizeof(state->body))
        return true; /* nobody's */
    state->length = head.payload_length;
    (void)parcel_read(parcel, sizeof(head), state->name, head.name_length);
    (void)parcel_read(parcel, (uint32_t)sizeof(head) + head.name_length, state->body,
                      state->length);
    return true;
}
