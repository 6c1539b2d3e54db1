/* What the store has of the resources, see gateway/store/store.h. The owner of a resource puts and
 * deletes its record; every worker takes in what is read back. */
#include "gateway/serve/resource_parts.h"

/* Cookies that are answered to resources, and not to relations. */
#define COOKIE_RESOURCE (UINT64_C(1) << 63)
#define COOKIE_SWEEP    (UINT64_C(1) << 62)

/* Without a word of the store's for so long after the start, it is taken to be away. */
#define NEWS_WITHIN_US 5000000u

/* After a record could not be kept, those without one are put again. */
#define AGAIN_US 5000000u

/* A sweep looks at more resources than it puts: others own many. */
#define SWEEP_LOOKS 8

bool resource_is_unknown(const struct resources *r)
{
    const struct config_store *config = &r->p->m->config->store;

    if (!r->store.enabled || r->store.all_read)
        return false;
    return r->store.state == STORE_STATE_UP || config->reject ||
           (r->store.state == STORE_STATE_NEW &&
            r->p->m->now - r->store.started_us < NEWS_WITHIN_US);
}

/* ---- writing ---- */

static struct parcel *record_parcel(const struct resources *r, const struct resource_state *state)
{
    struct store_head head = {.what = STORE_RESOURCE};
    struct store_resource record = {
        .name_length = r->name_length, .version = state->version, .format = state->format};
    const struct content *content =
        state->content == CONTENT_NONE ? NULL : content_at(&r->p->contents, state->content);
    uint32_t offset = (uint32_t)(sizeof(head) + sizeof(record)) + r->name_length;
    struct parcel *parcel;

    if (content) {
        record.payload_length = content->payload_length;
        record.etag_length = content->etag.length;
        memcpy(record.etag, content->etag.bytes, sizeof(record.etag));
    }
    parcel = parcel_new(r->p->m->io.parcels, PARCEL_RECORD, content ? STORE_PUT : STORE_DELETE,
                        offset + record.payload_length);
    if (!parcel)
        return NULL;
    parcel->from = (uint16_t)r->index;
    (void)parcel_write(parcel, 0, &head, sizeof(head));
    (void)parcel_write(parcel, sizeof(head), &record, sizeof(record));
    (void)parcel_write(parcel, sizeof(head) + sizeof(record), r->name, r->name_length);
    if (content)
        resource_copy_payload(r, state->content, parcel, offset);
    return parcel;
}

enum resource_saving resource_save_begin(struct resources *r, const struct resource_state *state,
                                         struct parcel **parcel)
{
    if (!r->store.enabled)
        return SAVE_NOT;
    if (r->store.state != STORE_STATE_UP)
        return r->p->m->config->store.reject ? SAVE_REFUSE : SAVE_NOT;
    *parcel = record_parcel(r, state);
    return *parcel ? SAVE : SAVE_REFUSE;
}

uint64_t resource_cookie(uint32_t pending, uint32_t nonce)
{
    return COOKIE_RESOURCE | (uint64_t)nonce << 32 | pending;
}

bool resource_save_end(struct resources *r, struct parcel *parcel, uint64_t cookie)
{
    const struct worker_io *io = &r->p->m->io;
    struct store_head head;

    (void)parcel_read(parcel, 0, &head, sizeof(head));
    head.cookie = cookie;
    (void)parcel_write(parcel, 0, &head, sizeof(head));
    if (!io->tell(io->context, PARCEL_STORE, parcel))
        return false;
    r->p->m->counters->resource_records++;
    return true;
}

/* The same for what may be left undone. */
static bool send(struct resources *r, struct parcel *parcel, uint64_t cookie)
{
    if (parcel && resource_save_end(r, parcel, cookie))
        return true;
    parcel_free(r->p->m->io.parcels, parcel);
    return false;
}

void resource_save_failed(struct resources *r, uint32_t index)
{
    if (r->versions[index])
        resource_at(r, index)->unsaved = true;
    if (r->store.again_at_us == 0)
        r->store.again_at_us = r->p->m->now + AGAIN_US;
}

/* ---- what was removed ---- */

void resource_note_removed(struct resources *r, uint64_t hash, uint64_t version)
{
    unsigned next = r->store.removed_next;

    if (!r->store.enabled || r->store.all_read)
        return;
    r->store.removed[next].hash = hash;
    r->store.removed[next].version = version;
    r->store.removed_next = (next + 1) % RESOURCE_REMOVED;
}

static bool was_removed(const struct resources *r, uint64_t hash, uint64_t version)
{
    for (unsigned i = 0; i < RESOURCE_REMOVED; i++)
        if (r->store.removed[i].hash == hash && r->store.removed[i].version >= version)
            return true;
    return false;
}

/* ---- reading back ---- */

/* The route that the name lies below: the one with the longest path. -1: none of today's. */
static int route_of(const struct resources *r)
{
    const struct config *config = r->p->m->config;
    const char *path = r->name;
    size_t host_length = 0, longest = 0;
    int found = -1;

    if (r->name_length > 1 && path[1] == '/') {
        path += 2;
        host_length = strcspn(path, "/");
        path += host_length;
    }
    for (unsigned i = 0; i < config->route_count; i++) {
        const struct config_route *route = &config->routes[i];
        size_t length = strlen(route->path);

        if (route->kind != CONFIG_ROUTE_RESOURCES ||
            (route->host ? strlen(route->host) : 0) != host_length ||
            (host_length && memcmp(route->host, path - host_length, host_length) != 0))
            continue;
        if (length == 1)
            length = 0; /* "/" is above everything */
        if (strncmp(path, route->path, length) != 0 || (path[length] && path[length] != '/') ||
            (found >= 0 && length <= longest))
            continue;
        found = (int)i;
        longest = length;
    }
    return found;
}

/* Our limits may have become smaller. */
static bool has_room(const struct resources *r, uint32_t route, uint32_t index, uint64_t bytes)
{
    const struct config_resources *limits = resource_limits(r, route);
    const struct resource_use *use = &r->use[route];
    uint64_t before = index == POOL_NONE ? 0 : resource_cost(r, index);

    return (index != POOL_NONE || use->count < limits->max) &&
           use->bytes - before + bytes <= limits->bytes;
}

static void take_in(struct resources *r, const struct parcel *parcel, uint32_t offset,
                    const struct store_resource *record, uint64_t hash)
{
    int route = route_of(r);
    struct body body = {.parcel = parcel, .offset = offset, .length = record->payload_length};
    struct etag etag = {.length = record->etag_length};
    struct resource_state state = {.route = (uint32_t)route,
                                   .format = record->format,
                                   .hash = hash,
                                   .version = record->version};

    if (route >= 0 &&
        has_room(r, state.route, resource_find(r, hash), (uint64_t)r->name_length + body.length)) {
        memcpy(etag.bytes, record->etag, sizeof(etag.bytes));
        state.content =
            resource_content(r, &body, record->format, record->version, etag.length ? &etag : NULL);
        if (state.content != CONTENT_NONE && resource_put(r, &state)) {
            r->p->m->counters->resources_restored++;
            return;
        }
        content_release(&r->p->contents, state.content);
    }
    r->p->m->counters->resource_records_unusable++;
}

/* The store has the record of what is not there. */
static void disown(struct resources *r, uint64_t version)
{
    const struct resource_state state = {.content = CONTENT_NONE, .format = -1, .version = version};

    (void)send(r, record_parcel(r, &state), 0); /* it is asked again at the next connection */
}

/* After an outage: what the owner has is the truth. */
static void verify(struct resources *r, const struct store_resource *record, uint32_t index)
{
    if (index != POOL_NONE && r->versions[index] != record->version)
        resource_save_failed(r, index);
    else if (index == POOL_NONE && route_of(r) >= 0) /* else another configuration's */
        disown(r, record->version);
}

static void read_record(struct resources *r, const struct parcel *parcel,
                        const struct store_head *head)
{
    struct store_resource record;
    uint32_t offset = sizeof(*head), index;
    uint64_t hash;
    bool is_ours;

    if (!r->heads || !parcel_read(parcel, offset, &record, sizeof(record)) ||
        record.etag_length > ETAG_MAX ||
        !resource_read_name(r, parcel, offset + (uint32_t)sizeof(record), record.name_length) ||
        record.payload_length != parcel->length - offset - sizeof(record) - record.name_length) {
        r->p->m->counters->resource_records_unusable++;
        return;
    }
    r->name[r->name_length] = '\0';
    hash = resource_hash(r);
    is_ours = resource_owner(r, hash) == r->index;
    index = resource_find(r, hash);
    if (r->version < record.version)
        r->version = record.version;
    if (head->verify) {
        if (is_ours)
            verify(r, &record, index);
    } else if (was_removed(r, hash, record.version)) {
        if (is_ours)
            disown(r, record.version);
    } else if (index == POOL_NONE || r->versions[index] < record.version) {
        take_in(r, parcel, offset + (uint32_t)sizeof(record) + record.name_length, &record, hash);
    }
}

/* ---- records that are put again ---- */

static void sweep(struct resources *r, bool all)
{
    r->store.cursor = r->all.head;
    r->store.sweep_all = all;
    r->store.again_at_us = 0;
}

bool resource_sweep_is_due(const struct resources *r)
{
    return r->store.state == STORE_STATE_UP &&
           (r->store.cursor != POOL_NONE ||
            (r->store.again_at_us && r->p->m->now >= r->store.again_at_us));
}

/* False when the store takes no more now. */
static bool put_again(struct resources *r, uint32_t index)
{
    struct resource *res = resource_at(r, index);
    const struct resource_state state = {
        .content = res->content, .format = res->format, .version = r->versions[index]};

    if (resource_owner(r, res->hash) != r->index || (!r->store.sweep_all && !res->unsaved))
        return true;
    r->name_length = res->name.length;
    rope_read(&r->p->contents.chunks, &res->name, NULL, 0, r->name, r->name_length);
    return send(r, record_parcel(r, &state), COOKIE_RESOURCE | COOKIE_SWEEP | index);
}

unsigned resource_sweep(struct resources *r, unsigned budget)
{
    unsigned done = 0;

    if (r->store.cursor == POOL_NONE)
        sweep(r, false);
    for (unsigned looks = budget * SWEEP_LOOKS; looks && r->store.cursor != POOL_NONE; looks--) {
        if (!put_again(r, r->store.cursor))
            break;
        r->store.cursor = resource_at(r, r->store.cursor)->by_age.next;
        done++;
    }
    return done;
}

/* ---- the store's parcels ---- */

static void done(struct resources *r, const struct store_head *head)
{
    uint32_t index = (uint32_t)head->cookie;
    uint32_t nonce = (uint32_t)(head->cookie >> 32) & UINT32_C(0x3fffffff);

    if (!(head->cookie & COOKIE_SWEEP)) {
        resource_release(r, index, nonce, head->error);
    } else if (index < r->pool.capacity && r->versions[index]) {
        if (head->error)
            resource_save_failed(r, index);
        else
            resource_at(r, index)->unsaved = false;
    }
}

bool resources_stored(struct resources *r, const struct parcel *parcel)
{
    struct store_head head;

    if (!parcel_read(parcel, 0, &head, sizeof(head)))
        return false;
    switch ((enum store_type)parcel->type) {
    case STORE_RECORD:
        if (head.what == STORE_RESOURCE) {
            read_record(r, parcel, &head);
            return true;
        }
        r->store.all_read = r->store.all_read || !head.verify; /* resources come first */
        return false;
    case STORE_DONE:
        if (head.cookie & COOKIE_RESOURCE)
            done(r, &head);
        return head.cookie & COOKIE_RESOURCE;
    case STORE_UP:
        r->store.state = STORE_STATE_UP;
        sweep(r, true);
        return false;
    case STORE_DOWN:
        r->store.state = STORE_STATE_DOWN;
        r->store.cursor = POOL_NONE;
        return false;
    case STORE_RESUMED:
        r->store.all_read = true;
        return false;
    default:
        return false;
    }
}
