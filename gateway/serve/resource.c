/* The table of the resources that this worker knows, which are all of them, and reading them. */
#include "gateway/serve/resource.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "gateway/hash.h"
#include "gateway/memory.h"
#include "gateway/serve/resource_parts.h"

#define BY_AGE offsetof(struct resource, by_age)

/* ---- names ---- */

/* pchar of RFC 3986 3.3: as the paths of routes are written, so that equal paths are equal texts.
 */
static bool is_plain(uint8_t c)
{
    return c < 0x80 && c != 0 && (isalnum(c) || strchr("-._~!$&'()*+,;=:@", c));
}

static bool add_text(struct resources *r, const char *text, size_t length)
{
    if (length > RESOURCE_NAME_BYTES - r->name_length)
        return false;
    memcpy(r->name + r->name_length, text, length);
    r->name_length += (uint32_t)length;
    return true;
}

static bool add_segment(struct resources *r, const struct option_view *segment)
{
    static const char digits[] = "0123456789ABCDEF";
    bool fits = add_text(r, "/", 1);

    for (unsigned i = 0; i < segment->length && fits; i++) {
        uint8_t c = segment->value[i];
        const char escaped[3] = {'%', digits[c >> 4], digits[c & 15]};
        const char plain = (char)c;

        fits = is_plain(c) ? add_text(r, &plain, 1) : add_text(r, escaped, 3);
    }
    return fits;
}

/* The name of what a request is for into r->name. False when it is too long. */
static bool name_request(struct resources *r, const struct message *msg, uint32_t route)
{
    const char *host = r->p->m->config->routes[route].host;
    struct option_cursor cursor = option_cursor_at(msg, SLOT_URI_PATH);
    struct option_view segment;

    r->name_length = 0;
    if (host && (!add_text(r, "//", 2) || !add_text(r, host, strlen(host))))
        return false;
    if (!message_has(msg, SLOT_URI_PATH))
        return add_text(r, "/", 1);
    while (option_next_same(&cursor, &segment))
        if (!add_segment(r, &segment))
            return false;
    return true;
}

bool resource_read_name(struct resources *r, const struct parcel *parcel, uint32_t offset,
                        uint32_t length)
{
    r->name_length = length;
    return length && length <= RESOURCE_NAME_BYTES && parcel_read(parcel, offset, r->name, length);
}

uint64_t resource_hash(const struct resources *r)
{
    return hash_bytes(r->name, r->name_length, r->p->m->shared_key);
}

/* ---- the table ---- */

/* Heads are index + 1, so that fresh zero pages mean empty. */
static uint32_t *head_of(const struct resources *r, uint64_t hash)
{
    return &r->heads[(hash >> 20) & r->mask]; /* the low bits choose the owner */
}

uint32_t resource_find(const struct resources *r, uint64_t hash)
{
    uint32_t index = r->heads ? *head_of(r, hash) - 1 : POOL_NONE;

    while (index != POOL_NONE) {
        const struct resource *res = resource_at(r, index);

        if (res->hash == hash &&
            rope_equal(&r->p->contents.chunks, &res->name, r->name, r->name_length))
            return index;
        index = res->next - 1;
    }
    return POOL_NONE;
}

static void leave_chain(struct resources *r, uint32_t index)
{
    uint32_t *link = head_of(r, resource_at(r, index)->hash);

    while (*link - 1 != index)
        link = &resource_at(r, *link - 1)->next;
    *link = resource_at(r, index)->next;
}

uint64_t resource_cost(const struct resources *r, uint32_t index)
{
    const struct resource *res = resource_at(r, index);

    return (uint64_t)res->name.length + content_at(&r->p->contents, res->content)->payload_length;
}

static void drop_content(struct resources *r, struct resource *res)
{
    content_let_go(&r->p->contents, res->content);
    content_release(&r->p->contents, res->content);
}

static struct resource *add(struct resources *r, const struct resource_state *state)
{
    struct resource *res = r->pool.capacity ? pool_get(&r->pool) : NULL;
    uint32_t *head = head_of(r, state->hash);

    if (!res)
        return NULL;
    r->versions[pool_index(&r->pool, res)] = state->version;
    *res = (struct resource){.hash = state->hash,
                             .name = ROPE_EMPTY,
                             .route = state->route,
                             .content = CONTENT_NONE,
                             .observation = POOL_NONE};
    if (!contents_append_held(&r->p->contents, &res->name, r->name, r->name_length)) {
        r->versions[pool_index(&r->pool, res)] = 0;
        pool_put(&r->pool, res);
        return NULL;
    }
    res->next = *head;
    *head = pool_index(&r->pool, res) + 1;
    list_push_back(&r->all, &r->pool, BY_AGE, pool_index(&r->pool, res));
    r->use[state->route].count++;
    return res;
}

bool resource_put(struct resources *r, const struct resource_state *state)
{
    uint32_t index = resource_find(r, state->hash);
    struct resource *res = index == POOL_NONE ? add(r, state) : resource_at(r, index);

    if (!res)
        return false;
    index = pool_index(&r->pool, res);
    if (res->content != CONTENT_NONE) {
        r->use[res->route].bytes -= resource_cost(r, index);
        drop_content(r, res);
    }
    res->content = state->content;
    res->format = state->format;
    r->versions[index] = state->version;
    res->unsaved = false;
    r->use[res->route].bytes += resource_cost(r, index);
    if (r->version < state->version)
        r->version = state->version;
    if (res->observation != POOL_NONE)
        local_state(r->p, res->observation, content_hold(&r->p->contents, res->content));
    return true;
}

void resource_remove(struct resources *r, uint32_t index)
{
    struct resource *res = resource_at(r, index);

    if (res->observation != POOL_NONE)
        local_end(r->p, res->observation, CODE_NOT_FOUND);
    if (r->store.cursor == index)
        r->store.cursor = res->by_age.next;
    leave_chain(r, index);
    list_remove(&r->all, &r->pool, BY_AGE, index);
    r->use[res->route].bytes -= resource_cost(r, index);
    r->use[res->route].count--;
    drop_content(r, res);
    contents_free_held(&r->p->contents, &res->name);
    r->versions[index] = 0;
    pool_put(&r->pool, res);
}

/* Nobody observes it here any more. */
static void on_gone(void *context, uint32_t index)
{
    struct resources *r = context;

    resource_at(r, index)->observation = POOL_NONE;
}

/* ---- representations ---- */

void body_read(const struct resources *r, struct body *body, uint32_t at, void *out,
               uint32_t length)
{
    if (body->rope)
        rope_read(&r->p->contents.chunks, body->rope, &body->cursor, body->offset + at, out,
                  length);
    else if (body->parcel)
        (void)parcel_read(body->parcel, body->offset + at, out, length);
    else
        memcpy(out, body->bytes + body->offset + at, length);
}

uint32_t resource_content(struct resources *r, struct body *body, int32_t format, uint64_t version,
                          const struct etag *etag)
{
    struct contents *contents = &r->p->contents;
    struct local_answer answer = {.code = CODE_CONTENT, .format = format, .max_age_s = -1};
    uint32_t content = local_held_content(r->p, &answer);
    uint64_t hash = hash_mix(version, (uint64_t)(int64_t)format);
    uint8_t part[1024];

    for (uint32_t at = 0; at < body->length && content != CONTENT_NONE;) {
        uint32_t length = body->length - at < sizeof(part) ? body->length - at : sizeof(part);

        body_read(r, body, at, part, length);
        hash = hash_bytes(part, length, hash);
        at += length;
        if (!content_extend(contents, content, part, length)) {
            content_release(contents, content);
            return CONTENT_NONE;
        }
    }
    if (content == CONTENT_NONE)
        return CONTENT_NONE;
    if (etag) {
        content_at(contents, content)->etag = *etag;
    } else {
        content_at(contents, content)->etag.length = sizeof(hash);
        memcpy(content_at(contents, content)->etag.bytes, &hash, sizeof(hash));
    }
    return content;
}

/* ---- requests ---- */

static void get(struct resources *r, struct local_request *l, uint32_t index)
{
    struct resource *res = resource_at(r, index);
    uint8_t refusal = local_refusal(l->rq->message, res->format,
                                    &content_at(&r->p->contents, res->content)->etag);

    if (refusal) {
        local_code(r->p, l, refusal, NULL);
        return;
    }
    if (l->observes && res->observation == POOL_NONE)
        res->observation = local_observe(r->p, LOCAL_RESOURCE, index, res->content);
    local_deliver(r->p, l, res->content, l->observes ? res->observation : POOL_NONE);
}

static void serve(struct resources *r, struct local_request *l)
{
    bool named = name_request(r, l->rq->message, l->route);
    uint64_t hash = resource_hash(r);
    uint32_t index;

    if (l->rq->message->code != CODE_GET) {
        if (named)
            resource_write(r, l, hash);
        else
            local_code(r->p, l, CODE_BAD_REQUEST, "the path is too long");
        return;
    }
    index = named ? resource_find(r, hash) : POOL_NONE;
    if (index != POOL_NONE)
        get(r, l, index);
    else if (resource_is_unknown(r) && !l->resumed)
        local_code(r->p, l, CODE_SERVICE_UNAVAILABLE, "records are being read back");
    else
        local_code(r->p, l, CODE_NOT_FOUND, NULL);
}

void resources_request(struct resources *r, struct request *rq, unsigned route)
{
    uint8_t code = rq->message->code;
    struct local_request l;

    if (code != CODE_GET &&
        !((code == CODE_PUT || code == CODE_DELETE) && resource_limits(r, route)->create)) {
        local_not_allowed(r->p, rq);
        return;
    }
    if (!local_begin(r->p, rq, route, &l))
        return;
    serve(r, &l);
    local_release(r->p, &l);
}

const struct rope *resources_name(const struct resources *r, uint32_t index)
{
    return &resource_at(r, index)->name;
}

/* ---- for discovery ---- */

static void fill_link(struct resources *r, uint32_t index, struct resource_link *link)
{
    const struct resource *res = resource_at(r, index);
    const char *host = r->p->m->config->routes[res->route].host;

    rope_read(&r->p->contents.chunks, &res->name, NULL, 0, r->listed, res->name.length);
    r->listed[res->name.length] = '\0';
    link->host = host;
    link->route = res->route;
    link->path = r->listed + (host ? 2 + strlen(host) : 0);
    link->format = res->format;
}

bool resources_next(struct resources *r, uint32_t *at, struct resource_link *link)
{
    *at = *at == POOL_NONE ? r->all.head : resource_at(r, *at)->by_age.next;
    if (*at == POOL_NONE)
        return false;
    fill_link(r, *at, link);
    return true;
}

bool resources_lookup(struct resources *r, const char *host, const char *path, size_t length,
                      struct resource_link *link)
{
    uint32_t index;

    r->name_length = 0;
    if ((host && (!add_text(r, "//", 2) || !add_text(r, host, strlen(host)))) ||
        !add_text(r, path, length))
        return false;
    index = resource_find(r, resource_hash(r));
    if (index == POOL_NONE)
        return false;
    fill_link(r, index, link);
    return true;
}

uint32_t resources_count(const struct resources *r)
{
    return pool_used(&r->pool);
}

uint32_t resources_max(const struct resources *r)
{
    const struct config *config = r->p->m->config;
    uint64_t max = 0;

    for (unsigned i = 0; i < config->route_count; i++)
        if (config->routes[i].kind == CONFIG_ROUTE_RESOURCES)
            max += config->routes[i].resources.max;
    return max < UINT32_MAX ? (uint32_t)max : UINT32_MAX;
}

/* ---- work in portions ---- */

unsigned resources_advance(struct resources *r, unsigned budget)
{
    unsigned done = 0;

    if (r->late.head != POOL_NONE)
        done += resource_send_late(r, budget);
    if (resource_sweep_is_due(r))
        done += resource_sweep(r, budget);
    return done;
}

bool resources_has_work(const struct resources *r)
{
    return r->late.head != POOL_NONE || resource_sweep_is_due(r);
}

/* ---- start and end ---- */

static int init(struct resources *r)
{
    uint64_t count, chunks;
    uint32_t heads = 16;
    int err;

    local_limits(r->p->m, &count, &chunks);
    if (count == 0)
        return 0;
    if (count > UINT32_MAX / 4)
        count = UINT32_MAX / 4;
    while (heads < count)
        heads *= 2;
    r->mask = heads - 1;
    r->heads_bytes = heads * sizeof(*r->heads);
    r->heads = memory_reserve(r->heads_bytes);
    r->versions_bytes = count * sizeof(*r->versions);
    r->versions = memory_reserve(r->versions_bytes);
    r->use = calloc(r->p->m->config->route_count, sizeof(*r->use));
    if (!r->heads || !r->versions || !r->use)
        return -ENOMEM;
    err = pool_init(&r->pool, sizeof(struct resource), (uint32_t)count);
    return err ? err : resource_pending_init(r);
}

struct resources *resources_create(const struct resources_setup *setup)
{
    struct resources *r = memory_reserve(sizeof(*r));
    int err;

    if (!r)
        return NULL;
    r->p = setup->proxy;
    r->index = setup->index;
    r->count = setup->count ? setup->count : 1;
    r->all = r->late = LIST_NONE;
    r->store.cursor = POOL_NONE;
    r->store.enabled = r->p->m->config->store.kind != CONFIG_STORE_NONE && r->p->m->io.tell;
    r->store.started_us = r->p->m->now;
    err = init(r);
    if (err) {
        resources_destroy(r);
        errno = -err;
        return NULL;
    }
    local_handle(r->p, LOCAL_RESOURCE, on_gone, r);
    return r;
}

void resources_destroy(struct resources *r)
{
    if (!r)
        return;
    resource_pending_fini(r);
    pool_fini(&r->pool);
    free(r->use);
    memory_release(r->versions, r->versions_bytes);
    memory_release(r->heads, r->heads_bytes);
    memory_release(r, sizeof(*r));
}
