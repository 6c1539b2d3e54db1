#include "gateway/proxy/part.h"

void part_session(struct proxy *p, struct session *s)
{
    if (s->role == SESSION_UPSTREAM) {
        upstreams_closed(&p->upstreams, s);
        return;
    }
    while (s->side.client.relations != POOL_NONE) {
        p->m->counters->relations_lost++;
        relation_drop(p, s->side.client.relations);
    }
    transfer_close_all(p, s);
}
