/* ceiling: the flows seen, in the cheapest table that serves: open addressing by cache line.
 *
 * A flow is an IPv4 address and port. Four flows share a cache line, and a look-up touches one line
 * nearly always; at least half of the places stay free. Flows are never forgotten. One thread. */
#ifndef COAPGW_BENCH_CEILING_FLOWS_H
#define COAPGW_BENCH_CEILING_FLOWS_H

#include <stdint.h>

#include <rte_prefetch.h>

#define FLOWS_IN_LINE 4

struct flow {
    uint64_t key;
    uint64_t seen; /* TSC with the latest message ID in its low 16 bits */
};

struct flow_line {
    struct flow flow[FLOWS_IN_LINE];
} __attribute__((aligned(64)));

struct flows {
    struct flow_line *lines; /* from DPDK's memory */
    uint64_t multiplier;     /* odd and random */
    unsigned shift;
    uint32_t mask, count, room;
    uint64_t refused; /* look-ups of flows for which there was no room */
};

/* Room for `room` flows, 1 to 2^24. 0 or -ENOMEM. */
int flows_make(struct flows *t, uint32_t room);
void flows_release(struct flows *t);

/* Address and port as they stand in the packet; the lowest bit tells from a free place. */
static inline uint64_t flows_key(uint32_t address, uint16_t port)
{
    return (uint64_t)address << 32 | (uint32_t)port << 16 | 1;
}

static inline uint32_t flows_line(const struct flows *t, uint64_t key)
{
    return (uint32_t)(key * t->multiplier >> t->shift);
}

static inline void flows_prefetch(const struct flows *t, uint32_t line)
{
    rte_prefetch0(&t->lines[line]);
}

/* Finds the flow or adds it, and stamps it. */
static inline void flows_touch(struct flows *t, uint64_t key, uint32_t line, uint64_t seen)
{
    for (;; line = (line + 1) & t->mask) {
        struct flow *flow = t->lines[line].flow;

        for (unsigned i = 0; i < FLOWS_IN_LINE; i++) {
            if (flow[i].key != key) {
                if (flow[i].key)
                    continue;
                if (t->count == t->room) {
                    t->refused++;
                    return;
                }
                t->count++;
                flow[i].key = key;
            }
            flow[i].seen = seen;
            return;
        }
    }
}

#endif
