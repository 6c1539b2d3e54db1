/* One upstream of several servers that crash and come back.
 *
 *   balance.c         the world: servers, devices, who is up when
 *   balance_judge.c   who is asked, and who is not */
#ifndef COAPGW_TESTS_SIM_BALANCE_H
#define COAPGW_TESTS_SIM_BALANCE_H

#include "tests/sim/fleet.h"

#define IDS_MAX     16384
#define REVIVE_US   (5 * SECOND)
#define EPOCH_US    (120 * SECOND)
#define EPOCHS      5
#define OVERLAP_US  (60 * SECOND) /* longer than any request takes to find a server that is up */
#define ACK_TIMEOUT 1             /* seconds, towards the servers */
#define RETRANSMITS 2

struct balance_judge;

struct balance_world {
    struct fleet fleet; /* the first member */
    bool strict;        /* nothing is lost, so that a safe request cannot fail */
    bool round_robin;
    uint64_t keepalive_us;
    struct node servers[SERVERS_MAX];
    unsigned server_count;
    uint8_t rocks[EPOCHS + 2]; /* the server that stays up in an epoch */
    struct requester *requesters;
    unsigned requester_count;
    uint32_t next_id;
    uint8_t executed[IDS_MAX]; /* by the id of the request */
    struct balance_judge *judge;
};

static inline struct balance_world *balance_world_of(struct stage *s)
{
    return (struct balance_world *)s;
}

struct balance_judge *balance_judge_create(struct balance_world *w);
void balance_judge_destroy(struct balance_judge *j);
/* From time to time: what should have happened by now. */
void balance_judge_look(struct balance_judge *j);
extern const struct judge balance_judging;

#endif
