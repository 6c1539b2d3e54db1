/* PUT and DELETE at the worker that is asked: on their way to the owner. */
#include "gateway/serve/resource_parts.h"

/* RFC 7959 2.9.3: how large it may be. */
static void refuse_size(struct resources *r, struct local_request *l, uint64_t largest)
{
    uint8_t options[16];
    struct encoder e = {.data = options, .room = sizeof(options)};
    struct local_answer answer = {
        .code = CODE_REQUEST_ENTITY_TOO_LARGE, .format = -1, .max_age_s = -1, .options = options};
    uint32_t content;

    encoder_uint(&e, OPTION_SIZE1, (uint32_t)largest);
    answer.options_length = (uint16_t)encoder_end(&e);
    content = local_content(r->p, &answer);
    if (content == CONTENT_NONE)
        local_code(r->p, l, answer.code, NULL);
    else
        local_deliver(r->p, l, content, POOL_NONE);
    content_release(&r->p->contents, content);
}

static bool is_format_allowed(const struct config_resources *limits, int32_t format)
{
    for (unsigned i = 0; i < limits->format_count; i++)
        if (limits->formats[i] == format)
            return true;
    return limits->format_count == 0;
}

/* What any worker can see. True when the write has been refused. */
static bool is_refused(struct resources *r, struct local_request *l, const struct write *w)
{
    const struct config_resources *limits = resource_limits(r, w->route);
    uint64_t largest = limits->bytes > r->name_length ? limits->bytes - r->name_length : 0;

    if (w->removal)
        return false;
    if (largest > r->p->m->config->limits.body)
        largest = r->p->m->config->limits.body;
    if (w->body.length > largest)
        refuse_size(r, l, largest);
    else if (!is_format_allowed(limits, w->format))
        local_code(r->p, l, CODE_UNSUPPORTED_CONTENT_FORMAT, NULL);
    else
        return false;
    return true;
}

static uint32_t read_conditions(struct resources *r, const struct message *msg)
{
    struct option_cursor cursor = option_cursor_at(msg, SLOT_IF_MATCH);
    struct option_view view;
    uint32_t at = 0;

    while (option_next_same(&cursor, &view)) { /* no longer than they were in the message */
        r->conditions[at++] = (uint8_t)view.length;
        if (view.length)
            memcpy(r->conditions + at, view.value, view.length);
        at += view.length;
    }
    return at;
}

static struct write read_write(struct resources *r, struct local_request *l, uint64_t hash)
{
    const struct message *msg = l->rq->message;
    bool removal = msg->code == CODE_DELETE;

    return (struct write){
        .hash = hash,
        .route = l->route,
        .removal = removal,
        .if_none_match = message_has(msg, SLOT_IF_NONE_MATCH),
        .conditions = r->conditions,
        .conditions_length = read_conditions(r, msg),
        .format = message_has(msg, SLOT_CONTENT_FORMAT)
                      ? (int32_t)message_uint(msg, SLOT_CONTENT_FORMAT, 0)
                      : -1,
        .body = {.rope = l->body.length ? &l->body : NULL,
                 .bytes = msg->payload,
                 .offset = l->body_offset,
                 .length = removal ? 0 : l->body_length,
                 .cursor = ROPE_START},
    };
}

static struct parcel *write_parcel(struct resources *r, struct write *w, uint64_t cookie)
{
    const struct resource_write_head head = {
        .cookie = cookie,
        .route = w->route,
        .name_length = r->name_length,
        .conditions_length = w->conditions_length,
        .payload_length = w->body.length,
        .format = w->format,
        .method = w->removal ? CODE_DELETE : CODE_PUT,
        .if_none_match = w->if_none_match,
    };
    uint32_t offset = (uint32_t)sizeof(head) + r->name_length;
    struct parcel *parcel = parcel_new(r->p->m->io.parcels, PARCEL_RESOURCE, RESOURCE_WRITE,
                                       offset + head.conditions_length + head.payload_length);
    uint8_t part[PARCEL_DATA_BYTES];

    if (!parcel)
        return NULL;
    parcel->from = (uint16_t)r->index;
    (void)parcel_write(parcel, 0, &head, sizeof(head));
    (void)parcel_write(parcel, sizeof(head), r->name, r->name_length);
    (void)parcel_write(parcel, offset, w->conditions, w->conditions_length);
    offset += w->conditions_length;
    for (uint32_t at = 0; at < w->body.length;) {
        uint32_t length = w->body.length - at < sizeof(part) ? w->body.length - at : sizeof(part);

        body_read(r, &w->body, at, part, length);
        (void)parcel_write(parcel, offset + at, part, length);
        at += length;
    }
    return parcel;
}

/* Hands it to the owner. False when something is full: nothing has happened. */
static bool pass(struct resources *r, struct local_request *l, struct write *w)
{
    const struct worker_io *io = &r->p->m->io;
    unsigned owner = resource_owner(r, w->hash);
    uint32_t index = resource_room(r, owner) ? resource_pending_open(r) : POOL_NONE;
    struct parcel *parcel;
    struct pending *pending;

    if (index == POOL_NONE)
        return false;
    pending = resource_pending(r, index);
    parcel = write_parcel(r, w, (uint64_t)r->nonces[index] << 32 | index);
    if (parcel)
        pending->exchange = exchange_open(r->p->m, l->rq);
    if (!parcel || !pending->exchange) {
        parcel_free(io->parcels, parcel);
        resource_pending_close(r, index);
        return false;
    }
    pending->wish = l->wish;
    if (!io->tell(io->context, owner, parcel)) { /* it had said that there was room */
        const struct asker asker = {.l = l, .exchange = pending->exchange};

        parcel_free(io->parcels, parcel);
        resource_pending_close(r, index);
        resource_refuse(r, &asker, REASON_BUSY);
    }
    return true;
}

void resource_write(struct resources *r, struct local_request *l, uint64_t hash)
{
    struct write w = read_write(r, l, hash);
    struct asker asker = {.l = l};

    if (is_refused(r, l, &w))
        return;
    if (resource_owner(r, hash) == r->index)
        resource_decide(r, &w, &asker);
    else if (!pass(r, l, &w))
        resource_refuse(r, &asker, REASON_BUSY);
}

/* ---- parcels ---- */

void resources_told(struct resources *r, struct parcel *parcel)
{
    switch ((enum resource_type)parcel->type) {
    case RESOURCE_WRITE: /* it becomes the outcome */
        resource_told_write(r, parcel);
        return;
    case RESOURCE_STATE:
        resource_told_state(r, parcel);
        break;
    case RESOURCE_OUTCOME:
        resource_told_outcome(r, parcel);
        break;
    }
    parcel_free(r->p->m->io.parcels, parcel);
}
