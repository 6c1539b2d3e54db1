#include "bench/ceiling/flows.h"

#include <errno.h>

#include <rte_malloc.h>
#include <rte_random.h>

int flows_make(struct flows *t, uint32_t room)
{
    unsigned bits = 2; /* the shift by 64 - 0 would be none */

    while (((uint64_t)FLOWS_IN_LINE << bits) < 2ull * room)
        bits++;
    t->lines = rte_zmalloc("flows", sizeof(*t->lines) << bits, 64);
    if (!t->lines)
        return -ENOMEM;
    t->multiplier = rte_rand() | 1;
    t->shift = 64 - bits;
    t->mask = (1u << bits) - 1;
    t->room = room;
    t->count = 0;
    t->refused = 0;
    return 0;
}

void flows_release(struct flows *t)
{
    rte_free(t->lines);
    t->lines = NULL;
}
