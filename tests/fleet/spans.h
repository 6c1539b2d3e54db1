/* A set of numbers that mostly come in order: sorted spans without gaps. It is exact, and takes
 * memory by the gaps. The owner of the struct owns the memory; any thread, one at a time. */
#ifndef COAPGW_TESTS_FLEET_SPANS_H
#define COAPGW_TESTS_FLEET_SPANS_H

#include <stdbool.h>
#include <stdint.h>

struct span {
    uint64_t from, to; /* both are in it */
};

/* All zero is the empty set. */
struct spans {
    struct span *list;
    uint32_t count, room;
};

/* False when the number, at most UINT64_MAX - 1, was in it before. Ends the process without memory.
 */
bool spans_add(struct spans *s, uint64_t number);
void spans_free(struct spans *s);

#endif
