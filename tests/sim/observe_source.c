#include <stdlib.h>
#include <string.h>

#include "tests/sim/observe.h"

#define NUMBER_MASK 0xffffffu

static struct observe_world *world_of(const struct node *n)
{
    return observe_world_of(n->stage);
}

size_t resource_body(const struct observe_world *w, const struct resource *r, uint32_t state,
                     uint8_t out[BODY_MAX])
{
    size_t length = body_length(w->fleet.stage.seed, r->id, state, r->min_length, r->max_length);

    body_write(out, length, r->id, state);
    return length;
}

unsigned resource_subscribers(const struct resource *r)
{
    unsigned count = 0;

    for (unsigned i = 0; i < SUBSCRIBERS_MAX; i++)
        count += r->subscribers[i].used;
    return count;
}

static struct subscriber *find(struct resource *r, const struct flow *flow, const struct message *m)
{
    for (unsigned i = 0; i < SUBSCRIBERS_MAX; i++) {
        struct subscriber *u = &r->subscribers[i];

        if (u->used && u->token_length == m->token_length && flow_equal(&u->flow, flow) &&
            memcmp(u->token, m->token, m->token_length) == 0)
            return u;
    }
    return NULL;
}

static struct subscriber *add(struct observe_world *w, struct resource *r, const struct flow *flow,
                              const struct message *m, uint8_t szx)
{
    struct subscriber *u = find(r, flow, m);

    for (unsigned i = 0; !u && i < SUBSCRIBERS_MAX; i++)
        if (!r->subscribers[i].used)
            u = &r->subscribers[i];
    if (!u) {
        stage_fail(&w->fleet.stage, "resource %u has %u observations", r->id, SUBSCRIBERS_MAX);
        return NULL;
    }
    *u = (struct subscriber){.used = true, .flow = *flow, .szx = szx};
    u->token_length = (uint8_t)m->token_length;
    memcpy(u->token, m->token, m->token_length);
    return u;
}

/* The current state, or the part of it that `block` names. */
static struct response represent(const struct observe_world *w, const struct resource *r,
                                 struct block block, uint8_t body[BODY_MAX])
{
    struct response answer = response_make(r->gone ? CODE_NOT_FOUND : CODE_CONTENT);
    size_t length;

    if (r->gone)
        return answer;
    length = resource_body(w, r, r->state, body);
    answer.max_age = r->max_age;
    answer.payload = body;
    answer.payload_length = length;
    if (r->etag)
        answer.etag = body_etag(r->id, r->state);
    if (length > block_size(&block) || block.number)
        response_cut(&answer, body, length, block);
    return answer;
}

/* ---- notifications ---- */

static void notify(struct observe_world *w, struct resource *r, struct subscriber *u)
{
    struct source *source = &w->sources[r->server];
    uint8_t body[BODY_MAX], bytes[MESSAGE_BYTES];
    struct response answer = represent(w, r, (struct block){.szx = u->szx}, body);
    bool con = r->gone || (u->nons + 1) % source->confirm_every == 0;
    uint16_t mid = node_mid(&source->node);
    size_t length;

    if (u->con) {
        u->dirty = true;
        return;
    }
    if (!r->gone)
        answer.observe = source->number;
    length = response_write(&answer, bytes, sizeof(bytes), con ? TYPE_CON : TYPE_NON, mid, u->token,
                            u->token_length);
    if (con)
        u->con = ++source->next_cookie;
    else
        u->last_non[u->nons % LAST_NON] = mid;
    u->nons++;
    u->dirty = false;
    node_send(&source->node, &u->flow, bytes, length, con ? u->con : 0);
    if (r->gone)
        u->used = false;
}

static void notify_all(struct observe_world *w, struct resource *r)
{
    struct source *source = &w->sources[r->server];

    source->number = (source->number + 1) & NUMBER_MASK;
    for (unsigned i = 0; i < SUBSCRIBERS_MAX && !source->node.down; i++)
        if (r->subscribers[i].used)
            notify(w, r, &r->subscribers[i]);
}

void source_change(struct observe_world *w, struct resource *r)
{
    if (r->gone)
        return;
    r->state++;
    stage_note(&w->fleet.stage, "resource %u is in state %u", r->id, r->state);
    notify_all(w, r);
}

void source_remove(struct observe_world *w, struct resource *r)
{
    r->gone = true;
    stage_note(&w->fleet.stage, "resource %u is gone", r->id);
    for (unsigned i = 0; i < SUBSCRIBERS_MAX; i++)
        r->subscribers[i].con = 0; /* the end does not wait */
    notify_all(w, r);
}

static void on_end(struct node *n, const struct flow *flow, uint64_t cookie, enum node_end how)
{
    struct observe_world *w = world_of(n);
    struct source *source = n->owner;

    (void)flow;
    for (unsigned k = 0; cookie && k < w->resource_count; k++)
        for (unsigned i = 0; i < SUBSCRIBERS_MAX; i++) {
            struct resource *r = &w->resources[k];
            struct subscriber *u = &r->subscribers[i];

            if (r->server != source->index || !u->used || u->con != cookie)
                continue;
            u->con = 0;
            if (how != NODE_ACKED)
                u->used = false;
            else if (u->dirty)
                notify(w, r, u);
            return;
        }
}

static void on_reset(struct node *n, const struct flow *flow, uint16_t mid)
{
    struct observe_world *w = world_of(n);
    struct source *source = n->owner;

    for (unsigned k = 0; k < w->resource_count; k++)
        for (unsigned i = 0; i < SUBSCRIBERS_MAX; i++) {
            struct subscriber *u = &w->resources[k].subscribers[i];

            if (!u->used || w->resources[k].server != source->index || !flow_equal(&u->flow, flow))
                continue;
            for (unsigned m = 0; m < LAST_NON && m < u->nons; m++)
                if (u->last_non[m] == mid)
                    u->used = false;
        }
}

/* ---- requests ---- */

static void check_request(struct observe_world *w, const struct message *m)
{
    uint32_t hops = message_uint(m, SLOT_HOP_LIMIT, 0);

    if (m->code != CODE_GET)
        stage_fail(&w->fleet.stage, "a request that nobody made");
    if (m->token_length != 8)
        stage_fail(&w->fleet.stage, "a token of %u bytes", m->token_length);
    if (hops != 16)
        stage_fail(&w->fleet.stage, "a Hop-Limit of %u", hops);
    if (message_has(m, SLOT_URI_HOST) || message_has(m, SLOT_ECHO) ||
        message_has(m, SLOT_REQUEST_TAG))
        stage_fail(&w->fleet.stage, "an option that is not for the server");
}

static void on_request(struct node *n, const struct flow *flow, const struct message *m)
{
    struct observe_world *w = world_of(n);
    struct source *source = n->owner;
    struct resource *r = observe_find(w, m);
    struct block block = {.szx = source->szx}, asked;
    uint8_t body[BODY_MAX];
    struct response answer;
    uint32_t observe = message_uint(m, SLOT_OBSERVE, 2);
    struct etag etag;

    check_request(w, m);
    if (!r || r->server != source->index) {
        stage_fail(n->stage, "a request for nothing that there is");
        return;
    }
    if (message_block(m, SLOT_BLOCK2, &asked)) {
        block.szx = asked.szx < source->szx ? asked.szx : source->szx;
        block.number = asked.number << (asked.szx - block.szx);
    }
    if (observe == 0 && block.number)
        stage_fail(n->stage, "an observation of block %u", block.number);
    answer = represent(w, r, block, body);
    if (observe == 0 && r->observable && !r->gone && add(w, r, flow, m, block.szx)) {
        source->number = (source->number + 1) & NUMBER_MASK;
        answer.observe = source->number;
    } else if (observe == 1 && find(r, flow, m)) {
        find(r, flow, m)->used = false;
    }
    etag = body_etag(r->id, r->state);
    if (!r->gone && r->etag && (observe == 2 || r->id % 2) && message_is_etag(m, &etag)) {
        answer.code = CODE_VALID;
        answer.payload_length = 0;
        answer.has_block2 = false;
    }
    node_respond(n, flow, m, &answer, 3 * SECOND);
}

static const struct node_handler handler = {
    .request = on_request, .ended = on_end, .reset = on_reset};

/* ---- life ---- */

void source_init(struct observe_world *w, unsigned index)
{
    static const uint8_t sizes[] = {2, 4, 6};
    static const unsigned every[] = {1, 1, 3, SOURCE_CONFIRM_MAX};
    struct source *source = &w->sources[index];
    struct stage *s = &w->fleet.stage;

    node_init(&source->node, s, &handler, source);
    source->index = index;
    source->szx = sizes[stage_below(s, 3)];
    source->confirm_every = every[stage_below(s, 4)];
    source->number = stage_below(s, 2) ? NUMBER_MASK - stage_below(s, 30) : stage_below(s, 1000);
    fleet_add_server(&w->fleet, &source->node);
}

void source_crash(struct observe_world *w, unsigned index)
{
    node_crash(&w->sources[index].node, false);
    stage_note(&w->fleet.stage, "server %u is down", index);
    for (unsigned k = 0; k < w->resource_count; k++)
        if (w->resources[k].server == index)
            memset(w->resources[k].subscribers, 0, sizeof(w->resources[k].subscribers));
}

void source_restart(struct observe_world *w, unsigned index)
{
    w->sources[index].node.down = false;
    stage_note(&w->fleet.stage, "server %u is up", index);
}
