/* RFC 7641 as the gateway's clients see it: numbers, states, confirmable ones among them, and the
 * end of a relation. */
#include <stdlib.h>
#include <string.h>

#include "gateway/hash.h"
#include "tests/sim/observe.h"

#define RELATIONS 2048
#define MIDS      65536
#define PATIENCE  (1000 * SECOND) /* by then every registration has its answer */

struct relation {
    unsigned device, worker;
    uint64_t token;
    const struct resource *resource;
    bool open;
    bool pending;        /* nothing has been said since the registration */
    bool doubtful;       /* a CON that was lost may or may not have ended it */
    unsigned cancels[2]; /* cancellations without an answer, by their type */
    unsigned owed;       /* errors that may be on their way: for registrations and the relation */
    uint64_t con_until, non_until; /* a CON or NON may be the answer to a registration */
    bool has;
    uint32_t number, state; /* of the last message */
    unsigned nons;          /* notifications since the last CON */
    uint16_t non_mids[LAST_NON];
    unsigned non_count;
    bool con_open, con_answers; /* not acknowledged; perhaps the answer to a registration */
    uint16_t con_mid;
    uint32_t con_state;
    uint64_t con_at, con_gap;
    unsigned con_sends;
    uint16_t
        con_mids[LAST_NON]; /* lately; one before the last may still be repeated, and rejected */
    unsigned con_count;
};

struct observe_judge {
    struct observe_world *world;
    struct upstream_judge *upstream;
    struct relation relations[RELATIONS];
    unsigned count;
    uint32_t newest[WORKERS_MAX][RESOURCES_MAX];
    uint8_t heard[DEVICES_MAX][MIDS / 8]; /* message IDs of requests */
    uint8_t acked[DEVICES_MAX][MIDS / 8]; /* and of ACKs to them */
    uint32_t sent_s[DEVICES_MAX][MIDS];   /* when one of the gateway's was first used, lately */
};

struct observe_judge *observe_judge_create(struct observe_world *w)
{
    struct observe_judge *j = calloc(1, sizeof(*j));

    j->world = w;
    j->upstream = upstream_judge_create(w);
    return j;
}

void observe_judge_destroy(struct observe_judge *j)
{
    if (j)
        upstream_judge_destroy(j->upstream);
    free(j);
}

static struct stage *stage_of(const struct observe_judge *j)
{
    return &j->world->fleet.stage;
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

/* The same for those of the gateway's own messages, which may be used again after a rest. */
static bool is_sent_again(struct observe_judge *j, unsigned device, uint16_t mid)
{
    uint32_t now_s = (uint32_t)(stage_of(j)->now / SECOND) + 1, *first = &j->sent_s[device][mid];

    if (*first && now_s - *first <= EXCHANGE_LIFETIME_MS / 1000)
        return true;
    *first = now_s;
    return false;
}

static struct relation *find(struct observe_judge *j, const struct passing *p)
{
    uint64_t token = hash_bytes(p->m->token, p->m->token_length, 7);

    for (unsigned i = 0; i < j->count; i++)
        if (j->relations[i].token == token && j->relations[i].device == device_of(p->flow))
            return &j->relations[i];
    return NULL;
}

/* A CON that was not acknowledged after all retransmissions ends a relation (RFC 7641 4.5). */
static void settle(const struct observe_judge *j, struct relation *r)
{
    const struct transmission *t = &stage_of(j)->config->listeners[0].transmission;

    if (!r->con_open || r->con_sends <= t->max_retransmit ||
        stage_of(j)->now < r->con_at + 2 * r->con_gap + 4000)
        return;
    r->con_open = false;
    if (r->con_answers)
        r->doubtful = true;
    else
        r->open = false;
}

void observe_judge_count(struct observe_judge *j, unsigned worker, unsigned *least, unsigned *most)
{
    *least = *most = 0;
    for (unsigned i = 0; i < j->count; i++) {
        struct relation *r = &j->relations[i];

        settle(j, r);
        if (!r->open || r->worker != worker)
            continue;
        *least += !r->doubtful && !r->pending;
        ++*most;
        stage_note(stage_of(j), "worker %u: relation of the device at port %u with resource %u%s",
                   worker, 40000 + r->device, r->resource->id,
                   r->doubtful || r->pending ? ", perhaps" : "");
    }
}

/* ---- from clients ---- */

static void on_reset(struct observe_judge *j, const struct passing *p)
{
    for (unsigned i = 0; i < j->count; i++) {
        struct relation *r = &j->relations[i];

        if (r->device != device_of(p->flow))
            continue;
        if (r->con_open && r->con_mid == p->m->mid)
            r->con_open = r->open = false;
        for (unsigned k = 0; k < LAST_NON && k < r->con_count; k++)
            r->doubtful |= r->con_mids[k] == p->m->mid; /* it may have been dropped before */
        for (unsigned k = 0; k < LAST_NON && k < r->non_count; k++)
            if (r->non_mids[k] == p->m->mid)
                r->open = false;
    }
}

static void on_ack(struct observe_judge *j, const struct passing *p)
{
    for (unsigned i = 0; i < j->count; i++)
        if (j->relations[i].device == device_of(p->flow) && j->relations[i].con_mid == p->m->mid)
            j->relations[i].con_open = j->relations[i].doubtful = false;
}

/* NULL when there are too many. */
static struct relation *find_or_add(struct observe_judge *j, const struct passing *p)
{
    struct relation *r = find(j, p);

    if (r)
        return r;
    if (j->count == RELATIONS) {
        stage_fail(stage_of(j), "too many relations for one run");
        return NULL;
    }
    r = &j->relations[j->count++];
    r->device = device_of(p->flow);
    r->worker = p->worker;
    r->token = hash_bytes(p->m->token, p->m->token_length, 7);
    r->resource = observe_find(j->world, p->m);
    return r;
}

static void on_registration(struct observe_judge *j, const struct passing *p)
{
    struct relation *r = find_or_add(j, p);

    if (!r)
        return;
    settle(j, r);
    r->owed += r->open && !r->pending ? 2 : 1;
    r->open = r->pending = true;
    r->doubtful = r->con_open; /* it may be repeated, and fail, all the same */
    r->nons = 0;
    r->con_open = false;
    *(p->m->type == TYPE_CON ? &r->con_until : &r->non_until) = stage_of(j)->now + PATIENCE;
}

/* It may overtake the registration. */
static void on_cancellation(struct observe_judge *j, const struct passing *p)
{
    struct relation *r = find_or_add(j, p);

    if (!r)
        return;
    r->open = r->con_open = false;
    r->cancels[p->m->type]++;
}

static void delivered(struct fleet *f, const struct passing *p)
{
    struct observe_judge *j = ((struct observe_world *)f)->judge;

    if (p->upstream) {
        upstream_delivered(j->upstream, p);
        return;
    }
    if (p->m->type == TYPE_RST)
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

static bool is_after(uint32_t number, uint32_t before)
{
    uint32_t ahead = (number - before) & 0xffffff;

    return ahead > 0 && ahead < 1u << 23;
}

/* Whether it may be the answer to a registration: a CON is answered by an ACK or a CON, a NON by a
 * NON. A notification may come before. */
static bool answers(const struct observe_judge *j, struct relation *r, uint8_t type)
{
    if (type == TYPE_ACK) {
        r->con_until = 0;
        return true;
    }
    return stage_of(j)->now < (type == TYPE_NON ? r->non_until : r->con_until);
}

static void check_order(struct observe_judge *j, struct relation *r, uint32_t number,
                        uint32_t state)
{
    struct stage *s = stage_of(j);

    if (r->has && !is_after(number, r->number) && !(number == r->number && state == r->state))
        stage_fail(s, "number %u (state %u) after %u (state %u) of resource %u", number, state,
                   r->number, r->state, r->resource->id);
    if (r->has && state < r->state)
        stage_fail(s, "state %u after %u of resource %u", state, r->state, r->resource->id);
    r->has = true;
    r->number = number;
    r->state = state;
}

/* While a CON is not acknowledged the newest state waits until it is due again. */
static bool is_due(const struct observe_judge *j, const struct relation *r)
{
    const struct transmission *t = &stage_of(j)->config->listeners[0].transmission;
    uint64_t gap = stage_of(j)->now - r->con_at, low = t->ack_timeout_ms * 1000ull;

    if (r->con_gap)
        return gap + 4000 >= 2 * r->con_gap && gap <= 2 * r->con_gap + 4000;
    return gap >= low && gap <= low * t->ack_random_factor_milli / 1000 + 2000;
}

static void check_type(struct observe_judge *j, struct relation *r, const struct message *m,
                       bool answer)
{
    struct stage *s = stage_of(j);

    if (m->type == TYPE_NON && !answer) {
        if (r->con_open && !r->con_answers)
            stage_fail(s, "a NON notification while a CON is not acknowledged");
        if (++r->nons >= j->world->confirm_every)
            stage_fail(s, "%u NON notifications in a row, confirm_every is %u", r->nons,
                       j->world->confirm_every);
    }
    if (answer && r->con_open && !(m->type == TYPE_CON && is_due(j, r))) {
        r->doubtful = true; /* the CON may be dropped for the answer */
        r->con_open = false;
    }
    if (m->type == TYPE_NON)
        r->non_mids[r->non_count++ % LAST_NON] = m->mid;
    if (m->type != TYPE_CON)
        return;
    if (r->con_open && !is_due(j, r)) {
        r->doubtful = true; /* as only one of the two is watched */
        if (!r->con_answers && !answer)
            stage_fail(s, "a CON notification while another is not acknowledged");
    }
    r->nons = 0;
    r->con_sends = r->con_open && is_due(j, r) ? r->con_sends + 1 : 1;
    r->con_gap = r->con_sends > 1 ? s->now - r->con_at : 0;
    r->con_answers = answer;
    r->con_open = true;
    r->con_mid = m->mid;
    r->con_mids[r->con_count++ % LAST_NON] = m->mid;
    r->con_state = r->state;
    r->con_at = s->now;
}

static void on_observe(struct observe_judge *j, struct relation *r, const struct passing *p)
{
    bool answer = answers(j, r, p->m->type);
    uint32_t *newest = &j->newest[r->worker][r->resource->id], who, state;

    if (!r->open)
        stage_fail(stage_of(j), "a notification of resource %u after the relation's end",
                   r->resource->id);
    if (code_class(p->m->code) != 2 || p->m->payload_length < BODY_LINE) {
        stage_fail(stage_of(j), "a notification that is no representation");
        return;
    }
    memcpy(&who, p->m->payload, 4);
    memcpy(&state, p->m->payload + 4, 4);
    if (who != r->resource->id)
        stage_fail(stage_of(j), "a notification of resource %u for %u", who, r->resource->id);
    r->pending = false;
    if (p->m->type == TYPE_ACK)
        r->owed -= r->owed > 0;
    check_order(j, r, message_uint(p->m, SLOT_OBSERVE, 0), state);
    check_type(j, r, p->m, answer);
    if (state > *newest)
        *newest = state;
}

/* The same message ID again (RFC 7641 4.5.2). */
static void on_repetition(struct observe_judge *j, struct relation *r)
{
    r->con_gap = stage_of(j)->now - r->con_at;
    r->con_at = stage_of(j)->now;
    r->con_sends++;
    if (!r->con_answers && r->con_state < j->newest[r->worker][r->resource->id])
        stage_fail(stage_of(j), "state %u of resource %u is repeated, %u is known", r->con_state,
                   r->resource->id, j->newest[r->worker][r->resource->id]);
}

/* The end, unless it is for a registration before the last. */
static void on_refusal(struct relation *r)
{
    r->owed -= r->owed > 0;
    r->doubtful = r->owed > 0;
    r->open &= r->doubtful;
    r->con_open = false;
}

static void emitted(struct fleet *f, const struct passing *p)
{
    struct observe_judge *j = ((struct observe_world *)f)->judge;
    unsigned device = device_of(p->flow);
    struct relation *r;

    if (p->upstream) {
        upstream_emitted(j->upstream, p);
        return;
    }
    if (!code_is_response(p->m->code))
        return;
    r = find(j, p);
    if (!r)
        return;
    settle(j, r);
    if (p->m->type == TYPE_ACK ? mark(j->acked[device], p->m->mid)
                               : is_sent_again(j, device, p->m->mid)) {
        if (p->m->type == TYPE_CON && r->con_open && r->con_mid == p->m->mid)
            on_repetition(j, r);
        return;
    }
    if (message_has(p->m, SLOT_OBSERVE)) {
        on_observe(j, r, p);
    } else if (r->cancels[p->m->type == TYPE_NON]) {
        r->cancels[p->m->type == TYPE_NON]--;
    } else if (answers(j, r, p->m->type) || code_class(p->m->code) != 2) {
        on_refusal(r);
    }
}

const struct judge observe_judging = {emitted, delivered};

void observe_judge_end(struct observe_judge *j)
{
    upstream_check_cancelled(j->upstream);
}
