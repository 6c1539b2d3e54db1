/* The owner of a resource: it decides about writes, orders them and tells all. */
#include <stddef.h>

#include "gateway/serve/module.h"
#include "gateway/serve/resource_parts.h"

static bool is_condition_met(const struct write *w, const struct etag *etag)
{
    for (uint32_t at = 0; at < w->conditions_length;) {
        uint8_t length = w->conditions[at];

        if (length == 0 ||
            (length == etag->length && memcmp(w->conditions + at + 1, etag->bytes, length) == 0))
            return true;
        at += 1u + length;
    }
    return false;
}

/* RFC 7252 5.10.8. */
static bool is_precondition_met(const struct resources *r, const struct write *w, uint32_t index)
{
    if (index == POOL_NONE)
        return w->conditions_length == 0;
    return !w->if_none_match &&
           (w->conditions_length == 0 ||
            is_condition_met(w,
                             &content_at(&r->p->contents, resource_at(r, index)->content)->etag));
}

static enum reason limit_of(const struct resources *r, const struct write *w, uint32_t index)
{
    const struct config_resources *limits = resource_limits(r, w->route);
    const struct resource_use *use = &r->use[w->route];
    uint64_t before = index == POOL_NONE ? 0 : resource_cost(r, index);
    uint64_t after = (uint64_t)r->name_length + w->body.length;

    if (index == POOL_NONE && use->count >= limits->max)
        return REASON_COUNT;
    return after > before && use->bytes - before + after > limits->bytes ? REASON_SIZE
                                                                         : REASON_NONE;
}

/* What a change needs, all of which is there before anything is changed. */
struct change {
    struct resource_state state;
    struct parcel *told[CONFIG_WORKERS_MAX]; /* for the other workers */
    enum resource_saving saving;
    struct parcel *record;
    uint32_t pending;
};

void resource_copy_payload(const struct resources *r, uint32_t index, struct parcel *parcel,
                           uint32_t offset)
{
    const struct content *content = content_at(&r->p->contents, index);
    struct rope_cursor cursor = ROPE_START;
    uint8_t part[PARCEL_DATA_BYTES];

    for (uint32_t at = 0; at < content->payload_length;) {
        uint32_t length = content->payload_length - at;

        if (length > sizeof(part))
            length = sizeof(part);
        rope_read(&r->p->contents.chunks, &content->rope, &cursor, content->options_length + at,
                  part, length);
        (void)parcel_write(parcel, offset + at, part, length);
        at += length;
    }
}

static struct parcel *state_parcel(const struct resources *r, const struct resource_state *state)
{
    const struct content *content =
        state->content == CONTENT_NONE ? NULL : content_at(&r->p->contents, state->content);
    struct resource_state_head head = {.version = state->version,
                                       .route = state->route,
                                       .name_length = r->name_length,
                                       .format = state->format,
                                       .removed = !content};
    struct parcel *parcel;

    if (content) {
        head.payload_length = content->payload_length;
        head.etag = content->etag;
    }
    parcel = parcel_new(r->p->m->io.parcels, PARCEL_RESOURCE, RESOURCE_STATE,
                        (uint32_t)sizeof(head) + r->name_length + head.payload_length);
    if (!parcel)
        return NULL;
    parcel->from = (uint16_t)r->index;
    (void)parcel_write(parcel, 0, &head, sizeof(head));
    (void)parcel_write(parcel, sizeof(head), r->name, r->name_length);
    if (content)
        resource_copy_payload(r, state->content, parcel, (uint32_t)sizeof(head) + r->name_length);
    return parcel;
}

/* A parcel for each other worker, for which there has to be room; with the outcome behind it for
 * the one that asked. */
static bool prepare_states(struct resources *r, struct change *change, const struct asker *asker)
{
    const struct parcel *first = NULL;

    for (unsigned to = 0; to < r->count; to++) {
        if (to == r->index)
            continue;
        if (resource_room(r, to) < (asker->parcel && asker->worker == to ? 2u : 1u))
            return false;
        change->told[to] =
            first ? parcel_copy(r->p->m->io.parcels, first) : state_parcel(r, &change->state);
        if (!change->told[to])
            return false;
        first = change->told[to];
    }
    return true;
}

/* An answer that waits for the record: of a client of ours it is an exchange. */
static bool prepare_pending(struct resources *r, struct change *change, struct asker *asker)
{
    if (change->saving != SAVE || change->state.content == CONTENT_NONE)
        return true;
    change->pending = resource_pending_open(r);
    if (change->pending == POOL_NONE)
        return false;
    if (asker->l)
        asker->exchange = exchange_open(r->p->m, asker->l->rq);
    if (!asker->parcel && !asker->exchange) {
        resource_pending_close(r, change->pending);
        change->pending = POOL_NONE;
        return false;
    }
    return true;
}

static void abandon(struct resources *r, const struct change *change)
{
    for (unsigned to = 0; to < r->count; to++)
        parcel_free(r->p->m->io.parcels, change->told[to]);
    parcel_free(r->p->m->io.parcels, change->record);
    if (change->pending != POOL_NONE)
        resource_pending_close(r, change->pending);
    content_release(&r->p->contents, change->state.content);
}

/* Everything is ready, or nothing has happened. */
static enum reason prepare(struct resources *r, struct write *w, struct asker *asker,
                           struct change *change)
{
    enum reason reason = REASON_NONE;
    uint64_t version = r->version + 1 > r->p->m->now ? r->version + 1 : r->p->m->now;

    *change = (struct change){
        .state = {.route = w->route,
                  .content = CONTENT_NONE,
                  .format = w->format,
                  .hash = w->hash,
                  .version = version},
        .pending = POOL_NONE,
    };
    if (!w->removal) {
        change->state.content = resource_content(r, &w->body, w->format, version, NULL);
        if (change->state.content == CONTENT_NONE)
            return REASON_SIZE;
    }
    change->saving = resource_save_begin(r, &change->state, &change->record);
    if (change->saving == SAVE_REFUSE)
        reason = REASON_STORE;
    else if (!prepare_states(r, change, asker) || !prepare_pending(r, change, asker))
        reason = REASON_BUSY;
    if (reason)
        abandon(r, change);
    return reason;
}

/* The record goes first: it is what may still be refused. */
static bool send_record(struct resources *r, struct change *change)
{
    uint64_t cookie = 0;

    if (!change->record)
        return true;
    if (change->pending != POOL_NONE)
        cookie = resource_cookie(change->pending, r->nonces[change->pending]);
    if (!resource_save_end(r, change->record, cookie))
        return false;
    change->record = NULL;
    return true;
}

/* The outcome at once, or when the record is kept. */
static void finish(struct resources *r, struct change *change, const struct asker *asker,
                   const struct outcome *outcome)
{
    struct pending *pending;

    if (change->pending == POOL_NONE) {
        resource_conclude(r, asker, outcome);
        return;
    }
    pending = resource_pending(r, change->pending);
    pending->resource = resource_find(r, change->state.hash);
    pending->version = change->state.version;
    pending->code = outcome->code;
    pending->etag = outcome->etag;
    if (asker->exchange) {
        pending->exchange = asker->exchange;
        pending->wish = asker->l->wish;
    } else {
        resource_make_outcome(r, asker->parcel, asker->cookie, outcome);
        pending->outcome = asker->parcel;
        pending->asker = asker->worker;
    }
}

static void tell_others(struct resources *r, struct change *change)
{
    const struct worker_io *io = &r->p->m->io;

    for (unsigned to = 0; to < r->count; to++)
        if (change->told[to] && !io->tell(io->context, to, change->told[to])) {
            parcel_free(io->parcels, change->told[to]); /* it had said that there was room */
            r->p->m->counters->drop_resource_state++;
        }
}

/* Changes the resource. False when there is no place for it, which the limits leave. */
static bool apply(struct resources *r, struct change *change, uint32_t index)
{
    if (change->state.content == CONTENT_NONE) {
        resource_note_removed(r, change->state.hash, change->state.version);
        if (index != POOL_NONE)
            resource_remove(r, index);
        r->version = change->state.version;
        return true;
    }
    return resource_put(r, &change->state);
}

static void change_it(struct resources *r, struct write *w, struct asker *asker, uint32_t index)
{
    struct outcome outcome = {.code = CODE_DELETED};
    struct change change;
    enum reason reason = prepare(r, w, asker, &change);

    if (reason) {
        resource_refuse(r, asker, reason);
        return;
    }
    if (!w->removal) {
        outcome.code = index == POOL_NONE ? CODE_CREATED : CODE_CHANGED;
        outcome.etag = content_at(&r->p->contents, change.state.content)->etag;
    }
    if (!send_record(r, &change) || !apply(r, &change, index)) {
        abandon(r, &change);
        resource_refuse(r, asker, REASON_STORE);
        return;
    }
    r->p->m->counters->resource_writes++;
    module_on_resource(r->p->modules, r->name, r->name_length, change.state.content,
                       change.state.version);
    tell_others(r, &change);
    finish(r, &change, asker, &outcome);
}

/* What is not there may have a record that is read back later. All workers would take it in: they
 * are told that it was removed. */
static bool may_come_back(const struct resources *r)
{
    return r->store.enabled && !r->store.all_read;
}

void resource_decide(struct resources *r, struct write *w, struct asker *asker)
{
    static const struct outcome failed = {.code = CODE_PRECONDITION_FAILED},
                                removed = {.code = CODE_DELETED};
    uint32_t index = resource_find(r, w->hash);
    enum reason reason = w->removal ? REASON_NONE : limit_of(r, w, index);

    if (index == POOL_NONE && resource_is_unknown(r)) {
        resource_refuse(r, asker, REASON_READING);
    } else if (!is_precondition_met(r, w, index)) {
        resource_conclude(r, asker, &failed);
    } else if (reason) {
        resource_refuse(r, asker, reason);
    } else if (w->removal && index == POOL_NONE && !may_come_back(r)) { /* RFC 7252 5.8.4 */
        resource_conclude(r, asker, &removed);
    } else {
        change_it(r, w, asker, index);
    }
}

void resource_told_write(struct resources *r, struct parcel *parcel)
{
    struct asker asker = {.parcel = parcel, .worker = parcel->from};
    struct resource_write_head head;
    uint32_t offset = sizeof(head);
    struct write w;

    if (!parcel_read(parcel, 0, &head, sizeof(head)) ||
        head.route >= r->p->m->config->route_count ||
        !resource_read_name(r, parcel, offset, head.name_length) ||
        head.conditions_length > sizeof(r->conditions) ||
        !parcel_read(parcel, offset + head.name_length, r->conditions, head.conditions_length)) {
        parcel_free(r->p->m->io.parcels, parcel);
        return;
    }
    asker.cookie = head.cookie;
    offset += head.name_length + head.conditions_length;
    w = (struct write){
        .hash = resource_hash(r),
        .route = head.route,
        .removal = head.method == CODE_DELETE,
        .if_none_match = head.if_none_match,
        .conditions = r->conditions,
        .conditions_length = head.conditions_length,
        .format = head.format,
        .body = {.parcel = parcel, .offset = offset, .length = head.payload_length},
    };
    resource_decide(r, &w, &asker);
}

/* ---- the others ---- */

void resource_told_state(struct resources *r, const struct parcel *parcel)
{
    struct resource_state_head head;
    struct resource_state state;
    struct body body;
    uint32_t index;

    if (!parcel_read(parcel, 0, &head, sizeof(head)) ||
        head.route >= r->p->m->config->route_count ||
        !resource_read_name(r, parcel, sizeof(head), head.name_length))
        return;
    r->p->m->counters->resource_states++;
    state = (struct resource_state){.route = head.route,
                                    .format = head.format,
                                    .hash = resource_hash(r),
                                    .version = head.version};
    index = resource_find(r, state.hash);
    if (r->version < head.version)
        r->version = head.version;
    if (head.removed) {
        resource_note_removed(r, state.hash, head.version);
        if (index != POOL_NONE)
            resource_remove(r, index);
        return;
    }
    body = (struct body){.parcel = parcel,
                         .offset = (uint32_t)sizeof(head) + head.name_length,
                         .length = head.payload_length};
    state.content = resource_content(r, &body, head.format, head.version, &head.etag);
    if (state.content != CONTENT_NONE && resource_put(r, &state))
        return;
    r->p->m->counters->drop_resource_state++;
    content_release(&r->p->contents, state.content);
}
