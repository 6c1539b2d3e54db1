/* A relation lives from the acceptance of a registration to its end, whatever becomes of the
 * gateway's process. Here is what must be of each one, as far as the gateway's edge and the store
 * tell.
 *
 * `open` says that it must be there; `doubtful` that it may be. */
#include <stdlib.h>
#include <string.h>

#include "gateway/hash.h"
#include "tests/sim/restart.h"

#define RELATIONS 4096
#define MIDS      65536
#define LAST_MIDS 64

/* From its first transmission on a CON fails after so long, at the earliest. */
#define FAIL_US (60 * SECOND)

/* So long after something has happened to a relation it is not looked at. */
#define MOVING_US (2 * SECOND)

/* So long after the last trouble every relation has its record. */
#define SWEPT_US (9 * SECOND)

struct relation {
    unsigned device;
    struct flow flow;
    uint8_t token[8], token_length;
    const struct resource *resource;
    bool open, doubtful;
    unsigned asked_life;    /* a registration came in this life; its answer may be due */
    unsigned asks;          /* so many registrations since then that may still be refused */
    uint64_t asked_at;      /* when the last one came */
    uint64_t moved_at;      /* when anything last happened to it */
    unsigned accepted_life; /* it was accepted, or confirmed */
    unsigned ended_life;    /* it was cancelled in this life: nothing may come after it */
    unsigned cancels;       /* answers to cancellations that are due */
    unsigned back_life; /* its record outlived its cancellation: it may come back in this life */
    bool has;           /* the last message with Observe: */
    uint32_t number, state;
    uint64_t number_at;
    bool con_open; /* CONs are not acknowledged since con_at */
    uint64_t con_at;
    uint16_t mids[LAST_MIDS]; /* of this life */
    unsigned mid_count;
    uint16_t last_mid; /* of a notification that was no answer, and the last message */
    bool has_last_mid, last_is_con;
};

struct restart_judge {
    struct restart_world *world;
    struct upstream_judge *upstream;
    struct relation relations[RELATIONS];
    unsigned count;
    uint8_t heard[DEVICES_MAX][MIDS / 8]; /* message IDs of requests, in this life */
    uint8_t acked[DEVICES_MAX][MIDS / 8];
    struct sent {
        uint16_t mid;
        uint64_t at;
    } sent[DEVICES_MAX][256]; /* message IDs of the gateway's, lately */
    unsigned sent_next[DEVICES_MAX];
    bool steady; /* when the process ended */
    bool marked; /* the mark was moved while it lived */
};

struct restart_judge *restart_judge_create(struct restart_world *w)
{
    struct restart_judge *j = calloc(1, sizeof(*j));

    j->world = w;
    j->upstream = upstream_judge_create(&w->base);
    return j;
}

void restart_judge_destroy(struct restart_judge *j)
{
    if (j)
        upstream_judge_destroy(j->upstream);
    free(j);
}

static struct stage *stage_of(const struct restart_judge *j)
{
    return &j->world->base.fleet.stage;
}

static unsigned device_of(const struct flow *flow)
{
    return (flow->peer_port - 40000u) % DEVICES_MAX;
}

/* Sets the bit of a message ID; true when it was set before. */
static bool mark(uint8_t bits[MIDS / 8], uint16_t mid)
{
    bool was = bits[mid / 8] >> mid % 8 & 1;

    bits[mid / 8] |= (uint8_t)(1 << mid % 8);
    return was;
}

/* True when the gateway has sent this message before. */
static bool is_repeated(struct restart_judge *j, unsigned device, uint16_t mid)
{
    uint64_t now = stage_of(j)->now;

    for (unsigned i = 0; i < 256; i++) {
        struct sent *sent = &j->sent[device][i];

        if (sent->at && sent->mid == mid && now - sent->at < LIFETIME)
            return true;
    }
    j->sent[device][j->sent_next[device]++ % 256] = (struct sent){mid, now};
    return false;
}

static struct relation *find(struct restart_judge *j, const struct passing *p)
{
    for (unsigned i = 0; i < j->count; i++) {
        struct relation *r = &j->relations[i];

        if (r->device == device_of(p->flow) && r->token_length == p->m->token_length &&
            memcmp(r->token, p->m->token, r->token_length) == 0)
            return r;
    }
    return NULL;
}

static struct relation *find_or_add(struct restart_judge *j, const struct passing *p)
{
    struct relation *r = find(j, p);

    if (r || p->m->token_length > sizeof(r->token))
        return r;
    if (j->count == RELATIONS) {
        stage_fail(stage_of(j), "too many relations for one run");
        return NULL;
    }
    r = &j->relations[j->count++];
    r->device = device_of(p->flow);
    r->flow = *p->flow;
    r->token_length = (uint8_t)p->m->token_length;
    memcpy(r->token, p->m->token, r->token_length);
    r->resource = observe_find(&j->world->base, p->m);
    return r;
}

/* For messages. */
static uint32_t name_of(const struct relation *r)
{
    return (uint32_t)r->token[0] << 24 | (uint32_t)r->token[1] << 16 | (uint32_t)r->token[2] << 8 |
           r->token[3];
}

static bool is_kept(const struct restart_judge *j, const struct relation *r)
{
    struct vault_key key = vault_relation_key(stage_of(j), &r->flow, r->token, r->token_length);

    return vault_find(&j->world->vault, &key) != NULL;
}

/* A CON that is not acknowledged for long may have ended it. */
static void settle(const struct restart_judge *j, struct relation *r)
{
    if (r->con_open && stage_of(j)->now - r->con_at >= FAIL_US)
        r->doubtful = true;
}

/* True when nothing has kept the store from taking a record since then. */
static bool was_steady(const struct restart_judge *j, uint64_t since)
{
    return vault_is_steady(&j->world->vault, since) && !j->world->hurried &&
           j->world->trouble_at < since;
}

/* ---- from clients ---- */

/* The gateway may hold it for an answer that waits for nothing more, or know it no more: then the
 * next notification is rejected, too. */
static void on_reset(struct restart_judge *j, const struct passing *p)
{
    for (unsigned i = 0; i < j->count; i++) {
        struct relation *r = &j->relations[i];

        if (r->device != device_of(p->flow))
            continue;
        r->moved_at = stage_of(j)->now;
        if (r->has_last_mid && r->last_mid == p->m->mid && (r->con_open || !r->last_is_con)) {
            r->open = r->con_open = false;
            r->doubtful = p->icmp; /* of before the start, it may be tried once more */
            r->ended_life = p->icmp ? 0 : stage_of(j)->life;
            r->asked_life = 0;
        }
        for (unsigned k = 0; k < LAST_MIDS && k < r->mid_count; k++)
            r->doubtful |= r->mids[k] == p->m->mid;
    }
}

static void on_ack(struct restart_judge *j, const struct passing *p)
{
    for (unsigned i = 0; i < j->count; i++) {
        struct relation *r = &j->relations[i];

        if (r->device != device_of(p->flow) || !r->con_open)
            continue;
        settle(j, r);
        for (unsigned k = 0; k < LAST_MIDS && k < r->mid_count; k++)
            if (r->mids[k] == p->m->mid)
                r->con_open = false;
    }
}

static void on_registration(struct restart_judge *j, const struct passing *p)
{
    struct relation *r = find_or_add(j, p);

    if (!r)
        return;
    settle(j, r);
    r->asks = r->asked_life == stage_of(j)->life ? r->asks + 1 : 1;
    r->asked_life = stage_of(j)->life;
    r->asked_at = r->moved_at = stage_of(j)->now;
    r->ended_life = 0;
    r->has_last_mid = false;
}

static void on_cancellation(struct restart_judge *j, const struct passing *p)
{
    struct relation *r = find_or_add(j, p);

    if (!r)
        return;
    r->open = r->doubtful = r->con_open = false;
    r->asked_life = 0;
    r->ended_life = stage_of(j)->life;
    r->moved_at = stage_of(j)->now;
    r->cancels++;
}

static void delivered(struct fleet *f, const struct passing *p)
{
    struct restart_judge *j = ((struct restart_world *)f)->judge;

    if (p->upstream) {
        upstream_delivered(j->upstream, p);
        return;
    }
    if (p->icmp || p->m->type == TYPE_RST)
        on_reset(j, p);
    else if (p->m->type == TYPE_ACK)
        on_ack(j, p);
    else if (!code_is_request(p->m->code) || mark(j->heard[device_of(p->flow)], p->m->mid))
        return;
    else if (message_uint(p->m, SLOT_OBSERVE, 2) == 0)
        on_registration(j, p);
    else if (message_uint(p->m, SLOT_OBSERVE, 2) == 1)
        on_cancellation(j, p);
}

/* ---- from the gateway ---- */

/* RFC 7641 3.4, turned round: the client must not take it for an old one. */
static bool is_fresh(const struct relation *r, uint32_t number, uint64_t now)
{
    uint32_t v1 = r->number, v2 = number;

    return (v1 < v2 && v2 - v1 < 1u << 23) || (v1 > v2 && v1 - v2 > 1u << 23) ||
           now > r->number_at + 128 * SECOND;
}

static void check_order(struct restart_judge *j, struct relation *r, uint32_t number,
                        uint32_t state)
{
    struct stage *s = stage_of(j);

    if (r->has && !is_fresh(r, number, s->now) && !(number == r->number && state == r->state))
        stage_fail(s, "number %u (state %u) after %u (state %u) of resource %u", number, state,
                   r->number, r->state, r->resource->id);
    if (r->has && state < r->state)
        stage_fail(s, "state %u after %u of resource %u", state, r->state, r->resource->id);
    r->has = true;
    r->number = number;
    r->number_at = s->now;
    r->state = state;
}

/* What a client hears is in the store: always where that is asked for, else when nothing was in the
 * way. */
static void check_kept(struct restart_judge *j, const struct relation *r)
{
    const struct restart_world *w = j->world;
    bool promised = w->reject ? w->vault.lost_at == 0 : was_steady(j, r->asked_at);

    if (promised && !is_kept(j, r))
        stage_fail(stage_of(j), "an acceptance for resource %u without a record: %08x",
                   r->resource->id, name_of(r));
}

static void check_reason(struct restart_judge *j, const struct relation *r)
{
    struct stage *s = stage_of(j);

    if (r->ended_life == s->life)
        stage_fail(s, "a notification of resource %u after the relation's end: %08x",
                   r->resource->id, name_of(r));
    else if (!r->open && !r->doubtful && r->asked_life != s->life && r->back_life != s->life)
        stage_fail(s, "a notification of resource %u for nobody", r->resource->id);
}

static void note_mid(struct restart_judge *j, struct relation *r, const struct message *m,
                     bool answer)
{
    if (m->type == TYPE_ACK)
        return;
    r->mids[r->mid_count++ % LAST_MIDS] = m->mid;
    r->last_mid = m->mid;
    r->has_last_mid = !answer;
    r->last_is_con = m->type == TYPE_CON;
    if (m->type != TYPE_CON)
        return;
    settle(j, r);
    if (!r->con_open)
        r->con_at = stage_of(j)->now;
    r->con_open = true;
}

static void on_observe(struct restart_judge *j, struct relation *r, const struct passing *p)
{
    struct stage *s = stage_of(j);
    bool answer = r->asked_life == s->life;
    uint32_t who, state;

    check_reason(j, r);
    if (code_class(p->m->code) != 2 || p->m->payload_length < BODY_LINE) {
        stage_fail(s, "a notification that is no representation");
        return;
    }
    memcpy(&who, p->m->payload, 4);
    memcpy(&state, p->m->payload + 4, 4);
    if (who != r->resource->id)
        stage_fail(s, "a notification of resource %u for %u", who, r->resource->id);
    check_order(j, r, message_uint(p->m, SLOT_OBSERVE, 0), state);
    check_kept(j, r);
    settle(j, r);
    note_mid(j, r, p->m, answer);
    r->open = true;
    r->doubtful = false;
    r->accepted_life = s->life;
    if (p->m->type == TYPE_ACK || s->now - r->asked_at > 100 * SECOND)
        r->asked_life = 0;
}

/* An error is the end of it, but for one that says that the gateway is stopping. */
static void on_refusal(struct restart_judge *j, struct relation *r, const struct message *m)
{
    const struct restart_world *w = j->world;

    if (code_class(m->code) == 2)
        return; /* the registration was cancelled before it was answered, or could not be kept */
    if (w->draining) {
        if (r->open && r->asked_life != stage_of(j)->life)
            stage_fail(stage_of(j), "an observer is told %u.%02u as the gateway stops",
                       code_class(m->code), code_detail(m->code));
        r->asked_life = 0;
        return;
    }
    if (r->open && !w->lossy && !w->reject)
        stage_fail(stage_of(j), "a relation with resource %u ends with %u.%02u", r->resource->id,
                   code_class(m->code), code_detail(m->code));
    r->open = r->con_open = false;
    r->doubtful = r->asks > 1; /* it may be for a registration before the last */
    r->has_last_mid = false;
}

static void emitted(struct fleet *f, const struct passing *p)
{
    struct restart_judge *j = ((struct restart_world *)f)->judge;
    unsigned device = device_of(p->flow);
    struct relation *r;

    if (p->upstream) {
        upstream_emitted(j->upstream, p);
        return;
    }
    if (!code_is_response(p->m->code))
        return;
    r = find(j, p);
    if (r)
        r->moved_at = stage_of(j)->now;
    if (!r || (p->m->type == TYPE_ACK ? mark(j->acked[device], p->m->mid)
                                      : is_repeated(j, device, p->m->mid)))
        return;
    if (message_has(p->m, SLOT_OBSERVE))
        on_observe(j, r, p);
    else if (r->cancels)
        r->cancels--;
    else
        on_refusal(j, r, p->m);
}

const struct judge restart_judging = {emitted, delivered};

/* ---- the end of a process, and the next one ---- */

void restart_judge_killed(struct restart_judge *j)
{
    struct stage *s = stage_of(j);
    uint64_t since = s->now > SWEPT_US ? s->now - SWEPT_US : 0;
    bool promised = j->world->reject ? j->world->vault.lost_at == 0 || was_steady(j, since)
                                     : was_steady(j, since);

    for (unsigned i = 0; i < j->count; i++) {
        struct relation *r = &j->relations[i];

        settle(j, r);
        if (promised && r->open && !r->doubtful && !is_kept(j, r))
            stage_fail(s,
                       "the relation of the device at port %u with resource %u is not kept: %08x",
                       r->flow.peer_port, r->resource->id, name_of(r));
    }
    j->steady = was_steady(j, since);
    j->marked = j->world->vault.marked;
    upstream_killed(j->upstream);
}

void restart_judge_stopped(struct restart_judge *j)
{
    for (unsigned i = 0; j->steady && i < j->count; i++) {
        const struct relation *r = &j->relations[i];

        if (!r->open && !r->doubtful && r->asked_life != stage_of(j)->life && is_kept(j, r))
            stage_fail(stage_of(j),
                       "the record of a relation of the device at port %u has "
                       "survived it",
                       r->flow.peer_port);
    }
}

void restart_judge_born(struct restart_judge *j)
{
    struct stage *s = stage_of(j);

    memset(j->heard, 0, sizeof(j->heard));
    memset(j->acked, 0, sizeof(j->acked));
    for (unsigned i = 0; i < j->count; i++) {
        struct relation *r = &j->relations[i];
        bool kept = is_kept(j, r);

        if (kept && !r->open)
            r->back_life = s->life;
        /* Without the store nobody knows how far numbers had run ahead of the clock. */
        r->has &= s->number_floor != 0 && j->marked;
        r->open = kept;
        r->doubtful = r->con_open = r->has_last_mid = false;
        r->mid_count = r->cancels = 0;
    }
}

void restart_judge_lost(struct restart_judge *j)
{
    for (unsigned i = 0; i < j->count; i++)
        j->relations[i].doubtful |= j->relations[i].accepted_life != stage_of(j)->life;
}

/* ---- when all is quiet ---- */

static const struct interest *interest_of(const struct restart_judge *j, const struct relation *r)
{
    const struct watcher *o = &j->world->watchers[r->device];

    for (unsigned i = 0; i < o->count; i++) {
        const struct caller *c = &o->interests[i].registration;

        if (c->token_length == r->token_length && memcmp(c->token, r->token, r->token_length) == 0)
            return &o->interests[i];
    }
    return NULL;
}

static void check_state(struct restart_judge *j, const struct relation *r)
{
    struct stage *s = stage_of(j);
    const struct interest *g = interest_of(j, r);

    if (!g || !g->wanted || g->device->node.down)
        return; /* it rejects the next notification, or lets it fail */
    if (!g->registered || g->state != r->resource->state)
        stage_fail(s,
                   "the device at port %u has state %u of resource %u, which is in state %u: %08x",
                   r->flow.peer_port, g->has_state ? g->state : 0, r->resource->id,
                   r->resource->state, name_of(r));
}

static void check_worker(struct restart_judge *j, unsigned worker)
{
    struct stage *s = stage_of(j);
    unsigned least = 0, most = 0;
    struct worker_usage u;

    for (unsigned i = 0; i < j->count; i++) {
        const struct relation *r = &j->relations[i];

        if (stage_owner(s, &r->flow) != worker)
            continue;
        least += r->open && !r->doubtful;
        most += r->open || r->doubtful;
    }
    worker_usage(s->workers[worker], &u);
    if (u.relations < least || u.relations > most)
        stage_fail(s, "worker %u has %u relations, and should have %u to %u", worker, u.relations,
                   least, most);
}

void restart_judge_settled(struct restart_judge *j)
{
    struct stage *s = stage_of(j);
    unsigned kept = 0;

    for (unsigned i = 0; !s->failed && i < j->count; i++) {
        struct relation *r = &j->relations[i];

        settle(j, r);
        kept += is_kept(j, r);
        if (s->now - r->moved_at < MOVING_US)
            continue;
        if (r->open && !r->doubtful && !is_kept(j, r))
            stage_fail(s, "a relation with resource %u has no record: %08x", r->resource->id,
                       name_of(r));
        else if (!r->open && !r->doubtful && is_kept(j, r))
            stage_fail(s, "the record of a relation of the device at port %u is left: %08x",
                       r->flow.peer_port, name_of(r));
        else if (r->open && !r->doubtful)
            check_state(j, r);
    }
    if (!s->failed && kept != vault_count(&j->world->vault))
        stage_fail(s, "%u records are of nobody", vault_count(&j->world->vault) - kept);
    for (unsigned i = 0; !s->failed && i < s->worker_count; i++)
        check_worker(j, i);
}

void restart_judge_end(struct restart_judge *j)
{
    if (vault_count(&j->world->vault))
        stage_fail(stage_of(j), "%u records are left", vault_count(&j->world->vault));
    upstream_check_cancelled(j->upstream);
}
