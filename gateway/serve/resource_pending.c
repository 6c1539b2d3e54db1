/* Writes that are not answered yet, and their outcomes. */
#include <errno.h>
#include <stddef.h>

#include "gateway/memory.h"
#include "gateway/serve/resource_parts.h"

#define BY_TURN offsetof(struct pending, by_turn)

/* An outcome that has not come by then does not come any more; the store has its own time. */
#define OUTCOME_WAIT_US 2000000u

/* Nonces that fit into a cookie of the store's, whose top bits are in use. */
#define NONCE_MASK UINT32_C(0x3fffffff)

static const char *const reasons[REASONS] = {
    [REASON_BUSY] = "too much is under way",
    [REASON_COUNT] = "there are as many resources as there may be",
    [REASON_SIZE] = "there is no room for the representation",
    [REASON_STORE] = "the resource cannot be kept",
    [REASON_READING] = "records are being read back",
    [REASON_LOST] = "no outcome in time",
};

unsigned resource_room(const struct resources *r, unsigned to)
{
    const struct worker_io *io = &r->p->m->io;

    return io->room ? io->room(io->context, to) : 0;
}

/* ---- what is pending ---- */

struct pending *resource_pending(const struct resources *r, uint32_t index)
{
    return pool_at(&r->pending, index);
}

uint32_t resource_pending_open(struct resources *r)
{
    uint64_t wait_us = OUTCOME_WAIT_US;
    struct pending *pending = pool_get(&r->pending);
    uint32_t index;

    if (!pending)
        return POOL_NONE;
    index = pool_index(&r->pending, pending);
    *pending = (struct pending){.resource = POOL_NONE};
    r->serial = (r->serial + 1) & NONCE_MASK;
    if (r->serial == 0)
        r->serial = 1;
    r->nonces[index] = r->serial;
    if (r->store.enabled)
        wait_us += r->p->m->config->store.timeout_ms * UINT64_C(1000);
    timer_init(&pending->timer, TIMER_RESOURCE);
    wheel_arm(&r->p->m->wheel, &pending->timer, r->p->m->now + wait_us);
    return index;
}

void resource_pending_close(struct resources *r, uint32_t index)
{
    struct pending *pending = resource_pending(r, index);

    wheel_cancel(&r->p->m->wheel, &pending->timer);
    if (pending->late)
        list_remove(&r->late, &r->pending, BY_TURN, index);
    r->nonces[index] = 0;
    pool_put(&r->pending, pending);
}

/* NULL when it is over already. */
static struct pending *pending_find(const struct resources *r, uint32_t index, uint32_t nonce)
{
    return nonce && index < r->pending.capacity && r->nonces[index] == nonce
               ? resource_pending(r, index)
               : NULL;
}

/* ---- outcomes ---- */

/* The answer to a write that has been done, CONTENT_NONE when it needs none of its own. */
static uint32_t answer_of(struct resources *r, const struct outcome *outcome)
{
    const struct local_answer answer = {
        .code = outcome->code, .format = -1, .max_age_s = -1, .etag = outcome->etag};

    return outcome->etag.length ? local_content(r->p, &answer) : CONTENT_NONE;
}

static void answer_now(struct resources *r, struct local_request *l, const struct outcome *outcome)
{
    uint32_t content = answer_of(r, outcome);

    if (content == CONTENT_NONE)
        local_code(r->p, l, outcome->code, reasons[outcome->reason]);
    else
        local_deliver(r->p, l, content, POOL_NONE);
    content_release(&r->p->contents, content);
}

static void answer_later(struct resources *r, struct exchange *x, const struct wish *wish,
                         const struct outcome *outcome)
{
    uint32_t content = answer_of(r, outcome);

    if (content == CONTENT_NONE)
        local_code_later(r->p, x, wish, outcome->code, reasons[outcome->reason]);
    else
        local_deliver_later(r->p, x, wish, content);
    content_release(&r->p->contents, content);
}

/* The parcel of a write becomes its outcome: so there is always one. */
void resource_make_outcome(struct resources *r, struct parcel *parcel, uint64_t cookie,
                           const struct outcome *outcome)
{
    const struct resource_outcome_head head = {.cookie = cookie,
                                               .code = outcome->code,
                                               .reason = (uint8_t)outcome->reason,
                                               .etag = outcome->etag};

    parcel_free(r->p->m->io.parcels, parcel->next);
    parcel->next = NULL;
    parcel->length = sizeof(head);
    parcel->type = RESOURCE_OUTCOME;
    parcel->from = (uint16_t)r->index;
    (void)parcel_write(parcel, 0, &head, sizeof(head));
}

/* Where the ring is full it waits its turn. Where even that is not possible the asker gives up. */
static void send_outcome(struct resources *r, struct parcel *parcel, uint16_t to)
{
    const struct worker_io *io = &r->p->m->io;
    uint32_t index;

    if (r->late.head == POOL_NONE && io->tell(io->context, to, parcel))
        return;
    index = resource_pending_open(r);
    if (index == POOL_NONE) {
        parcel_free(io->parcels, parcel);
        return;
    }
    resource_pending(r, index)->outcome = parcel;
    resource_pending(r, index)->asker = to;
    resource_pending(r, index)->late = true;
    list_push_back(&r->late, &r->pending, BY_TURN, index);
}

unsigned resource_send_late(struct resources *r, unsigned budget)
{
    const struct worker_io *io = &r->p->m->io;
    unsigned n = 0;

    for (; n < budget && r->late.head != POOL_NONE; n++) {
        uint32_t index = r->late.head;
        struct pending *pending = resource_pending(r, index);

        if (!io->tell(io->context, pending->asker, pending->outcome))
            break;
        resource_pending_close(r, index);
    }
    return n;
}

void resource_conclude(struct resources *r, const struct asker *asker,
                       const struct outcome *outcome)
{
    if (asker->parcel) {
        resource_make_outcome(r, asker->parcel, asker->cookie, outcome);
        send_outcome(r, asker->parcel, asker->worker);
    } else if (asker->exchange) {
        answer_later(r, asker->exchange, &asker->l->wish, outcome);
    } else {
        answer_now(r, asker->l, outcome);
    }
}

void resource_refuse(struct resources *r, const struct asker *asker, enum reason reason)
{
    const struct outcome outcome = {.code = CODE_SERVICE_UNAVAILABLE, .reason = reason};

    r->p->m->counters->resources_refused++;
    resource_conclude(r, asker, &outcome);
}

void resource_release(struct resources *r, uint32_t index, uint32_t nonce, int error)
{
    struct pending *found = pending_find(r, index, nonce), pending;
    struct outcome outcome;

    if (!found)
        return;
    pending = *found;
    outcome = (struct outcome){.code = pending.code, .etag = pending.etag};
    resource_pending_close(r, index);
    if (error && r->versions[pending.resource] == pending.version)
        resource_save_failed(r, pending.resource);
    if (error && r->p->m->config->store.reject)
        outcome = (struct outcome){.code = CODE_SERVICE_UNAVAILABLE, .reason = REASON_STORE};
    if (pending.exchange) {
        answer_later(r, pending.exchange, &pending.wish, &outcome);
    } else {
        struct resource_outcome_head head;

        (void)parcel_read(pending.outcome, 0, &head, sizeof(head));
        resource_make_outcome(r, pending.outcome, head.cookie, &outcome);
        send_outcome(r, pending.outcome, pending.asker);
    }
}

static void on_timer(void *context, struct timer *timer, uint64_t now_us)
{
    static const struct outcome lost = {.code = CODE_SERVICE_UNAVAILABLE, .reason = REASON_LOST};
    struct resources *r = context;
    struct pending *found =
        (struct pending *)(void *)((uint8_t *)timer - offsetof(struct pending, timer));
    struct pending pending = *found;

    (void)now_us;
    resource_pending_close(r, pool_index(&r->pending, found));
    r->p->m->counters->resource_timeouts++;
    if (pending.exchange)
        answer_later(r, pending.exchange, &pending.wish, &lost);
    else /* the asker has given up, too */
        parcel_free(r->p->m->io.parcels, pending.outcome);
}

void resource_told_outcome(struct resources *r, const struct parcel *parcel)
{
    struct resource_outcome_head head;
    struct pending *found, pending;
    struct outcome outcome;

    if (!parcel_read(parcel, 0, &head, sizeof(head)))
        return;
    found = pending_find(r, (uint32_t)head.cookie, (uint32_t)(head.cookie >> 32));
    if (!found || !found->exchange)
        return; /* it was given up */
    pending = *found;
    resource_pending_close(r, (uint32_t)head.cookie);
    outcome =
        (struct outcome){.code = head.code,
                         .reason = head.reason < REASONS ? (enum reason)head.reason : REASON_NONE,
                         .etag = head.etag};
    answer_later(r, pending.exchange, &pending.wish, &outcome);
}

/* ---- start and end ---- */

/* Writes of our own clients, and those of others whose records are not kept yet. */
int resource_pending_init(struct resources *r)
{
    uint32_t count = r->p->m->config->limits.exchanges;

    count = count < UINT32_MAX / 2 ? 2 * count : count;
    r->nonces_bytes = count * sizeof(*r->nonces);
    r->nonces = memory_reserve(r->nonces_bytes);
    if (!r->nonces)
        return -ENOMEM;
    wheel_handle(&r->p->m->wheel, TIMER_RESOURCE, on_timer, r);
    return pool_init(&r->pending, sizeof(struct pending), count);
}

void resource_pending_fini(struct resources *r)
{
    for (uint32_t i = 0; r->nonces && i < r->pending.fresh; i++)
        if (r->nonces[i])
            parcel_free(r->p->m->io.parcels, resource_pending(r, i)->outcome);
    pool_fini(&r->pending);
    memory_release(r->nonces, r->nonces_bytes);
}
