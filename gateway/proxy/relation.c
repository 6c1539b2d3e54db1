/* Clients that observe (RFC 7641 4): one relation for each session and token, from its registration
 * to its end. */
#include "gateway/proxy/relation.h"

#include <stddef.h>

#include "gateway/serve/module.h"

#define BY_SESSION     offsetof(struct relation, by_session)
#define BY_OBSERVATION offsetof(struct relation, by_observation)

const uint8_t *relation_token(const struct proxy *p, const struct relation *r, uint8_t *buffer)
{
    if (r->token_chunk == CHUNK_NONE)
        return r->token;
    chunks_read(&p->m->chunks, r->token_chunk, buffer, r->token_length);
    return buffer;
}

/* ---- finding, adding, removing ---- */

static struct relation *find(const struct proxy *p, const struct session *s, const uint8_t *token,
                             uint32_t token_length, uint32_t *count)
{
    uint32_t index = s->side.client.relations;

    for (*count = 0; index != POOL_NONE; ++*count) {
        struct relation *r = relation_at(p, index);

        if (relation_has_token(p, r, token, token_length))
            return r;
        index = r->by_session.next;
    }
    return NULL;
}

bool relation_may_add(struct proxy *p, const struct session *s, const struct message *msg)
{
    const struct config_limits *limits = &p->m->config->limits;
    uint32_t count;

    if (limits->relations == 0 || msg->token_length > MESSAGE_MAX_BYTES)
        return false;
    if (find(p, s, msg->token, msg->token_length, &count))
        return true;
    if (count < limits->client_relations && pool_used(&p->relations) < p->relations.capacity)
        return true;
    p->m->counters->refused_relations++;
    return false;
}

bool relation_has_token(const struct proxy *p, const struct relation *r, const uint8_t *token,
                        uint32_t length)
{
    uint8_t buffer[MESSAGE_MAX_BYTES];

    return r->token_length == length &&
           (length == 0 || memcmp(relation_token(p, r, buffer), token, length) == 0);
}

static void tell_modules(struct proxy *p, const struct relation *r)
{
    uint8_t buffer[MESSAGE_MAX_BYTES];

    module_on_relation(p->modules, COAPGW_RELATION_DELETED, relation_session(p, r),
                       relation_token(p, r, buffer), r->token_length, NULL, 0);
}

/* The observation may go with it: observation_left() is the caller's. */
void relation_remove(struct proxy *p, struct relation *r)
{
    struct observation *o = observation_at(p, r->observation);
    uint32_t index = relation_index(p, r);

    if (o->cursor == index)
        o->cursor = r->by_observation.next;
    list_remove(&o->relations, &p->relations, BY_OBSERVATION, index);
    o->relation_count--;
    chain_remove(&relation_session(p, r)->side.client.relations, &p->relations, BY_SESSION, index);
    wheel_cancel(&p->m->wheel, &r->confirm);
    if (r->outbound != POOL_NONE)
        outbound_cancel(p->m, r->outbound);
    if (module_wants(p->modules, COAPGW_RELATION_DELETED))
        tell_modules(p, r);
    chunks_free(&p->m->chunks, r->token_chunk);
    if (persist_end(p, r))
        pool_put(&p->relations, r);
}

void relation_end(struct proxy *p, struct relation *r)
{
    uint32_t observation = r->observation;

    relation_remove(p, r);
    observation_left(p, observation);
}

/* Registrations that are not answered yet count no more. */
static void retract(struct proxy *p, const struct session *s, const uint8_t *token,
                    uint32_t token_length)
{
    uint8_t buffer[MESSAGE_MAX_BYTES];

    for (uint32_t index = s->exchanges; index != POOL_NONE;) {
        struct exchange *x = pool_at(&p->m->exchanges, index);

        if (x->token_length == token_length &&
            (token_length == 0 ||
             memcmp(exchange_token(p->m, x, buffer), token, token_length) == 0))
            x->retracted = true;
        index = x->by_session.next;
    }
}

/* RFC 7641 3.6: the client does not know the token. */
void relation_reject(struct proxy *p, struct relation *r)
{
    uint8_t buffer[MESSAGE_MAX_BYTES];

    retract(p, relation_session(p, r), relation_token(p, r, buffer), r->token_length);
    persist_cancelled(p, relation_session(p, r), relation_token(p, r, buffer), r->token_length);
    relation_end(p, r);
}

static struct relation *create(struct proxy *p, struct session *s, const uint8_t *token,
                               uint32_t token_length, struct observation *o)
{
    struct relation *r = pool_get(&p->relations);

    if (!r)
        return NULL;
    memset(r, 0, sizeof(*r));
    timer_init(&r->confirm, TIMER_RELATION);
    r->token_chunk = CHUNK_NONE;
    if (token_length > TOKEN_INLINE_BYTES) {
        r->token_chunk = chunks_write(&p->m->chunks, token, token_length);
        if (r->token_chunk == CHUNK_NONE) {
            pool_put(&p->relations, r);
            return NULL;
        }
    } else if (token_length) {
        memcpy(r->token, token, token_length);
    }
    r->token_length = (uint16_t)token_length;
    r->session = session_index(&p->m->sessions, s);
    r->observation = pool_index(&p->observations, o);
    r->outbound = POOL_NONE;
    persist_begin(p, r);
    chain_push(&s->side.client.relations, &p->relations, BY_SESSION, relation_index(p, r));
    list_push_back(&o->relations, &p->relations, BY_OBSERVATION, relation_index(p, r));
    o->relation_count++;
    if (o->in_fanout) /* it is in the way that the cursor goes */
        o->left++;
    p->m->counters->relations++;
    return r;
}

uint32_t relation_add(struct proxy *p, struct session *s, const uint8_t *token,
                      uint32_t token_length, uint32_t observation, const struct wish *wish)
{
    struct observation *o = observation_at(p, observation);
    uint32_t count;
    struct relation *r = find(p, s, token, token_length, &count);

    if (r && r->observation != observation) { /* the token observes something else now */
        relation_end(p, r);
        r = NULL;
    }
    if (!r && count >= p->m->config->limits.client_relations)
        return POOL_NONE;
    if (!r)
        r = create(p, s, token, token_length, o);
    if (!r)
        return POOL_NONE;
    outbound_forget(p->m, s, token, token_length);
    relation_leave_outbound(p, r); /* the answer to this registration is newer */
    observation_keep_up(p, o);     /* its answer gets the next number */
    r->state_n = o->state_n;
    r->szx = wish->block2.szx;
    r->transfer = wish->transfer;
    r->confirmed = true; /* the client asks again when the answer is lost */
    r->resumed = false;  /* and needs not be told of a restart any more */
    r->sent_us = r->acked_us = p->m->now;
    relation_arm(p, r);
    return relation_index(p, r);
}

void relation_drop(struct proxy *p, uint32_t index)
{
    relation_end(p, relation_at(p, index));
}

void relation_cancel(struct proxy *p, struct session *s, const uint8_t *token,
                     uint32_t token_length)
{
    uint32_t count;
    struct relation *r = find(p, s, token, token_length, &count);

    if (r)
        relation_end(p, r);
}

void relation_deregister(struct proxy *p, struct session *s, const uint8_t *token,
                         uint32_t token_length)
{
    retract(p, s, token, token_length);
    persist_cancelled(p, s, token, token_length);
    relation_cancel(p, s, token, token_length);
}

/* RFC 7641 3.6: a RST to a notification that waits for no ACK. */
bool relation_reset(struct proxy *p, struct session *s, uint16_t mid)
{
    uint32_t index = s->side.client.relations;

    while (index != POOL_NONE) {
        struct relation *r = relation_at(p, index);
        bool recent = p->m->now - r->sent_us <= EXCHANGE_LIFETIME_MS * UINT64_C(1000);

        for (unsigned i = 0; recent && i < r->mid_count; i++)
            if (r->mids[i] == mid) {
                p->m->counters->relations_lost++;
                relation_reject(p, r);
                return true;
            }
        index = r->by_session.next;
    }
    return false;
}

/* ---- start and end ---- */

int relations_init(struct proxy *p)
{
    wheel_handle(&p->m->wheel, TIMER_RELATION, relation_on_confirm, p);
    if (p->m->config->limits.relations == 0)
        return 0;
    return pool_init(&p->relations, sizeof(struct relation), p->m->config->limits.relations);
}

void relations_fini(struct proxy *p)
{
    pool_fini(&p->relations);
}
