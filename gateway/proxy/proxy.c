#include "gateway/proxy/hot.h"
#include "gateway/proxy/local.h"

#include <stddef.h>

/* What is done in one call of proxy_advance(): a plain request waits no longer than this takes. */
#define NOTIFICATIONS_PER_TURN 128
#define HAND_OUTS_PER_TURN     64
#define LOST_PER_TURN          64
#define RECORDS_PER_TURN       64

#define TOKEN_OBSERVATION (UINT32_C(1) << 31)

/* ---- responses ---- */

static bool token_read(const struct proxy *p, const struct message *msg, uint32_t *index,
                       uint32_t *nonce)
{
    if (msg->token_length != TOKEN_BYTES)
        return false;
    memcpy(index, msg->token, sizeof(*index));
    memcpy(nonce, msg->token + sizeof(*index), sizeof(*nonce));
    *index ^= p->token_mask;
    return *nonce != 0;
}

static bool is_bound(const struct proxy *p, const struct observation *o, uint32_t session)
{
    return o->session == session ||
           (o->fetch != POOL_NONE && fetch_at(p, o->fetch)->session == session);
}

bool proxy_response(struct proxy *p, struct session *s, const struct message *msg)
{
    uint32_t index, nonce, session = session_index(&p->m->sessions, s);

    if (!token_read(p, msg, &index, &nonce))
        return false;
    if (index & TOKEN_OBSERVATION) {
        index &= ~TOKEN_OBSERVATION;
        return index < p->observations.capacity && p->observation_nonces[index] == nonce &&
               is_bound(p, observation_at(p, index), session) &&
               observation_response(p, index, session, msg);
    }
    return index < p->fetches.capacity && p->fetch_nonces[index] == nonce &&
           fetch_at(p, index)->session == session && fetch_response(p, index, msg);
}

void proxy_settled(struct proxy *p, enum owner_kind kind, uint32_t owner,
                   enum outbound_outcome outcome)
{
    switch (kind) {
    case OWNER_FETCH:
        fetch_settled(p, owner, outcome);
        break;
    case OWNER_RELATION:
        relation_settled(p, owner, outcome);
        break;
    case OWNER_PING:
    case OWNER_NONE:
        break;
    }
}

bool proxy_reset(struct proxy *p, struct session *s, uint16_t mid, bool unreachable)
{
    return s->role == SESSION_UPSTREAM ? upstreams_pong(&p->upstreams, s, mid, !unreachable)
                                       : relation_reset(p, s, mid);
}

/* ---- what is not true any more ---- */

/* Neither what is stored is good any more, nor what is on its way. */
static void invalidate_target(struct proxy *p, uint32_t index)
{
    struct target *target = target_at(&p->targets, index);

    target->refs++;
    if (target->content != CONTENT_NONE)
        p->m->counters->cache_invalidations++;
    target_forget(&p->targets, index);
    if (target->fetch != POOL_NONE)
        fetch_at(p, target->fetch)->shared = false;
    target->fetch = POOL_NONE;
    if (target->observation != POOL_NONE)
        observation_at(p, target->observation)->doubtful = true;
    target_release(&p->targets, index);
}

/* RFC 7252 5.6: answers to other requests for this URI are not good any more, neither what is
 * stored nor what is on its way. */
void proxy_invalidate(struct proxy *p, uint64_t uri)
{
    uint32_t index = target_of_uri(&p->targets, uri);

    while (index != TARGET_NONE) {
        uint32_t next = target_next_of_uri(&p->targets, index);

        invalidate_target(p, index);
        index = next;
    }
}

void proxy_forget(struct proxy *p)
{
    for (uint32_t index = 0; index < p->targets.pool.fresh; index++)
        if (target_is_open(&p->targets, index))
            invalidate_target(p, index);
}

/* ---- work in portions ---- */

/* A server went down, or an association with it has ended: what waits for it is told, each once. */
static unsigned tell_some(struct proxy *p, struct server *server, unsigned budget)
{
    unsigned n = 0;

    for (; n < budget && server->lost_fetches && server->fetch_count; n++) {
        uint32_t index = server->fetches.head;

        server->lost_fetches--;
        list_remove(&server->fetches, &p->fetches, offsetof(struct fetch, by_server), index);
        list_push_back(&server->fetches, &p->fetches, offsetof(struct fetch, by_server), index);
        fetch_server_lost(p, index);
    }
    if (server->fetch_count == 0)
        server->lost_fetches = 0;
    for (; n < budget && server->lost_observations && server->observation_count; n++) {
        uint32_t index = server->observations.head;
        size_t offset = offsetof(struct observation, by_server);

        server->lost_observations--;
        list_remove(&server->observations, &p->observations, offset, index);
        list_push_back(&server->observations, &p->observations, offset, index);
        observation_server_lost(p, index);
    }
    if (server->observation_count == 0)
        server->lost_observations = 0;
    return n;
}

static unsigned tell_lost(struct proxy *p, unsigned budget)
{
    unsigned done = 0;

    for (unsigned i = 0; p->upstreams.lost && i < p->upstreams.total && done < budget; i++) {
        struct server *server = &p->upstreams.servers[i];

        if (!server->telling)
            continue;
        done += tell_some(p, server, budget - done);
        upstreams_count_lost(&p->upstreams, server);
        if (!server->lost_fetches && server->gate.held)
            outbound_release(p->m, &server->gate);
        if (!server->lost_fetches && server_is_secure(server))
            upstreams_go_on(&p->upstreams, server);
    }
    return done;
}

unsigned proxy_advance(struct proxy *p)
{
    unsigned done = 0;

    p->confirms = CONFIRMS_PER_TURN;
    if (p->upstreams.lost)
        done += tell_lost(p, LOST_PER_TURN);
    if (p->handouts.head != POOL_NONE)
        done += fetch_hand_out(p, HAND_OUTS_PER_TURN);
    if (p->fanout.head != POOL_NONE)
        done += relation_advance(p, NOTIFICATIONS_PER_TURN);
    if (persist_has_work(p))
        done += persist_advance(p, RECORDS_PER_TURN);
    return done;
}

bool proxy_has_work(const struct proxy *p)
{
    return p->upstreams.lost || p->handouts.head != POOL_NONE || p->fanout.head != POOL_NONE ||
           persist_has_work(p);
}

/* ---- start and end ---- */

/* Answers that can be kept: as many as the cache has room for of the shortest, those that are under
 * way, and what the gateway itself holds. */
static uint32_t content_count(const struct config *config, uint64_t held)
{
    uint64_t count = config->cache.bytes / CHUNK_BYTES + config->limits.transfers +
                     config->limits.exchanges + config->limits.observations + held;

    return count < UINT32_MAX / 2 ? (uint32_t)count : UINT32_MAX / 2;
}

static int init_parts(struct proxy *p)
{
    const struct config *config = p->m->config;
    uint64_t held, held_chunks;
    int err;

    local_limits(p->m, &held, &held_chunks);
    if ((err = contents_init(&p->contents, content_count(config, held), config->cache.bytes,
                             config->limits.assembly_bytes, held_chunks)))
        return err;
    if ((err = targets_init(&p->targets, &p->contents, content_count(config, 0),
                            config->cache.bytes, &p->m->counters->cache_evictions)))
        return err;
    if ((err = hot_init(p)))
        return err;
    if ((err = upstreams_init(&p->upstreams, p->m,
                              config->forward.enabled ? config->limits.destinations : 0)))
        return err;
    if ((err = fetches_init(p)) || (err = transfers_init(p)) || (err = observations_init(p)) ||
        (err = relations_init(p)) || (err = persist_init(p)))
        return err;
    return forward_init(p);
}

int proxy_init(struct proxy *p, struct messaging *m)
{
    int err;

    memset(p, 0, sizeof(*p));
    p->m = m;
    p->token_mask = (uint32_t)random_u64(&m->random);
    p->hash_seed = m->shared_key;
    err = init_parts(p);
    if (err)
        proxy_fini(p);
    return err;
}

void proxy_fini(struct proxy *p)
{
    forward_fini(p);
    persist_fini(p);
    relations_fini(p);
    observations_fini(p);
    transfers_fini(p);
    fetches_fini(p);
    upstreams_fini(&p->upstreams);
    hot_fini(p);
    targets_fini(&p->targets);
    contents_fini(&p->contents);
}
