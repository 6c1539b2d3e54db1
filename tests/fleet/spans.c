#include "tests/fleet/spans.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 4

static void insert(struct spans *s, uint32_t at, uint64_t number)
{
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : FIRST_ROOM;
        s->list = reallocarray(s->list, s->room, sizeof(*s->list));
        if (!s->list)
            abort();
    }
    memmove(s->list + at + 1, s->list + at, (s->count - at) * sizeof(*s->list));
    s->list[at] = (struct span){number, number};
    s->count++;
}

/* The first span that does not end before the number. */
static uint32_t place_of(const struct spans *s, uint64_t number)
{
    uint32_t low = 0, high = s->count;

    if (high && s->list[high - 1].to < number)
        return high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (s->list[middle].to < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool spans_add(struct spans *s, uint64_t number)
{
    uint32_t at = place_of(s, number);

    if (at < s->count && s->list[at].from <= number)
        return false;
    if (at > 0 && s->list[at - 1].to + 1 == number)
        s->list[at - 1].to = number;
    else if (at < s->count && s->list[at].from == number + 1)
        s->list[at].from = number;
    else
        insert(s, at, number);
    return true;
}

void spans_free(struct spans *s)
{
    free(s->list);
    *s = (struct spans){0};
}
