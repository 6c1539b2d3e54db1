/* Requests by which clients observe what modules have (RFC 7641): each different one is kept once,
 * with its observation, so that a new state is asked for once, however many observe. */
#include <errno.h>
#include <string.h>

#include "gateway/hash.h"
#include "gateway/memory.h"
#include "gateway/serve/module_parts.h"

#define BY_INSTANCE offsetof(struct watch, by_instance)
#define BY_DIRTY    offsetof(struct watch, by_dirty)
#define BY_PATH     offsetof(struct watch, by_path)

/* When memory for a new state was short: states are asked for again after this. */
#define PAUSE_US 100000u

/* One state is asked for once in this time: a module that notifies from within handle() would keep
 * the worker busy with nothing else. */
#define GAP_US 1000u

static struct watch *watch_at(const struct module_host *host, uint32_t index)
{
    return pool_at(&host->watches, index);
}

/* ---- the index ---- */

static uint64_t hash_path(const struct module_host *host, uint32_t instance,
                          const struct coapgw_bytes *path, size_t count)
{
    uint64_t hash = hash_mix(host->seed, instance);

    for (size_t i = 0; i < count; i++)
        hash = hash_bytes(path[i].data, path[i].length, hash);
    return hash;
}

static uint64_t hash_kept(struct module_host *host, uint32_t instance,
                          const struct kept_request *kept)
{
    uint64_t hash = hash_mix(host->seed, (uint64_t)kept->method << 32 | instance);

    rope_read(&host->proxy->contents.chunks, &kept->rope, NULL, 0, host->body, kept->rope.length);
    hash = hash_mix(hash, kept->options_length);
    return hash_bytes(host->body, kept->rope.length, hash);
}

/* The watch of the same request, whose bytes are in host->body. */
static uint32_t find(const struct module_host *host, uint32_t instance, uint64_t hash,
                     const struct kept_request *kept)
{
    for (uint32_t at = host->by_key[hash & host->bucket_mask]; at;) {
        const struct watch *w = watch_at(host, at - 1);

        if (w->key_hash == hash && w->instance == instance && w->request.method == kept->method &&
            w->request.options_length == kept->options_length &&
            rope_equal(&host->proxy->contents.chunks, &w->request.rope, host->body,
                       kept->rope.length))
            return at - 1;
        at = w->next_key;
    }
    return POOL_NONE;
}

static void index_add(struct module_host *host, struct watch *w)
{
    uint32_t index = pool_index(&host->watches, w);
    uint32_t *key = &host->by_key[w->key_hash & host->bucket_mask];
    uint32_t *path = &host->by_path[w->path_hash & host->bucket_mask];
    uint32_t head = *path - 1; /* 0 becomes POOL_NONE */

    w->next_key = *key;
    *key = index + 1;
    chain_push(&head, &host->watches, BY_PATH, index);
    *path = head + 1;
    list_push_back(&host->watched[w->instance], &host->watches, BY_INSTANCE, index);
}

static void index_remove(struct module_host *host, const struct watch *w)
{
    uint32_t index = pool_index(&host->watches, w);
    uint32_t *link = &host->by_key[w->key_hash & host->bucket_mask];
    uint32_t *path = &host->by_path[w->path_hash & host->bucket_mask];
    uint32_t head = *path - 1;

    while (*link != index + 1)
        link = &watch_at(host, *link - 1)->next_key;
    *link = w->next_key;
    /* Clients may observe one path in very many ways. */
    chain_remove(&head, &host->watches, BY_PATH, index);
    *path = head + 1;
    list_remove(&host->watched[w->instance], &host->watches, BY_INSTANCE, index);
}

/* ---- life ---- */

/* The last client has left, or the module has ended it. */
const struct rope *module_watched(const struct module_host *host, uint32_t index, uint8_t *method,
                                  uint16_t *options_length)
{
    const struct kept_request *request = &watch_at(host, index)->request;

    *method = request->method;
    *options_length = request->options_length;
    return &request->rope;
}

static void on_gone(void *context, uint32_t index)
{
    struct module_host *host = context;
    struct watch *w = watch_at(host, index);

    if (w->dirty)
        list_remove(&host->dirty, &host->watches, BY_DIRTY, index);
    index_remove(host, w);
    kept_free(host, &w->request);
    pool_put(&host->watches, w);
}

static uint32_t add(struct module_host *host, uint64_t hash, struct kept_request *kept,
                    uint32_t content)
{
    const struct call *call = &host->call;
    struct watch *w = pool_get(&host->watches);
    uint32_t number = call->instance->number;

    if (!w)
        return POOL_NONE;
    w->observation =
        local_observe(host->proxy, LOCAL_MODULE, pool_index(&host->watches, w), content);
    if (w->observation == POOL_NONE) {
        pool_put(&host->watches, w);
        return POOL_NONE;
    }
    w->instance = number;
    w->asked_us = 0;
    w->key_hash = hash;
    w->path_hash = hash_path(host, number, call->request.path, call->request.path_count);
    w->request = *kept;
    w->dirty = false;
    index_add(host, w);
    return w->observation;
}

uint32_t watch_request(struct module_host *host, uint32_t content)
{
    const struct call *call = &host->call;
    uint32_t found, number = call->instance->number, observation;
    struct kept_request kept;
    uint64_t hash;

    if (host->watches.capacity == 0)
        return POOL_NONE;
    if (!kept_make(host, call, false, &kept)) {
        host->m->counters->refused_observations++;
        return POOL_NONE;
    }
    /* A body that came in blocks is in host->body, too: it has been read. */
    hash = hash_kept(host, number, &kept);
    found = find(host, number, hash, &kept);
    if (found != POOL_NONE) {
        kept_free(host, &kept);
        return watch_at(host, found)->observation;
    }
    observation = add(host, hash, &kept, content);
    if (observation == POOL_NONE) {
        kept_free(host, &kept);
        host->m->counters->refused_observations++;
    }
    return observation;
}

/* ---- new states ---- */

static void mark(struct module_host *host, uint32_t index)
{
    struct watch *w = watch_at(host, index);

    if (w->dirty)
        return;
    w->dirty = true;
    list_push_back(&host->dirty, &host->watches, BY_DIRTY, index);
}

int watch_notify(struct coapgw_instance *instance, const struct coapgw_bytes *path, size_t count)
{
    struct module_host *host = instance->host;
    uint64_t hash;

    if (count > COAPGW_SEGMENTS_MAX)
        return -EINVAL;
    if (host->watches.capacity == 0)
        return 0;
    if (!path) {
        for (uint32_t at = host->watched[instance->number].head; at != POOL_NONE;
             at = watch_at(host, at)->by_instance.next)
            mark(host, at);
        return 0;
    }
    /* Two paths with one hash: the module is asked for a state that has not changed. */
    hash = hash_path(host, instance->number, path, count);
    for (uint32_t at = host->by_path[hash & host->bucket_mask] - 1; at != POOL_NONE;
         at = watch_at(host, at)->by_path.next)
        if (watch_at(host, at)->path_hash == hash &&
            watch_at(host, at)->instance == instance->number)
            mark(host, at);
    return 0;
}

static void wait_until(struct module_host *host, uint64_t at_us)
{
    wheel_arm(&host->m->wheel, &host->pause.timer, at_us);
}

static void renew(struct module_host *host, uint32_t index)
{
    struct watch *w = watch_at(host, index);
    struct counters *counters = host->m->counters;
    uint8_t code;
    uint32_t content;

    call_prepare_kept(host, &host->instances[w->instance], &w->request, COAPGW_PASS_NOTIFY);
    host->call.request.observe = true;
    counters->module_states++;
    if (!call_run(host)) {
        counters->module_failures++;
        local_end(host->proxy, w->observation, CODE_INTERNAL_SERVER_ERROR);
        return;
    }
    code = host->call.response.code;
    if (code != CODE_CONTENT) {
        local_end(host->proxy, w->observation,
                  code_class(code) == 2 ? CODE_INTERNAL_SERVER_ERROR : code);
        return;
    }
    content = call_content(host);
    if (content != CONTENT_NONE) {
        local_state(host->proxy, w->observation, content);
        return;
    }
    counters->refused_memory++;
    mark(host, index);
    wait_until(host, host->m->now + PAUSE_US);
}

unsigned watch_advance(struct module_host *host, unsigned budget)
{
    unsigned done = 0;

    while (done < budget && watch_has_work(host)) {
        uint32_t index = host->dirty.head;
        struct watch *w = watch_at(host, index);

        if (host->m->now - w->asked_us < GAP_US) {
            wait_until(host, w->asked_us + GAP_US);
            break;
        }
        list_remove(&host->dirty, &host->watches, BY_DIRTY, index);
        w->dirty = false; /* it may be notified while it is asked */
        w->asked_us = host->m->now;
        renew(host, index);
        done++;
    }
    return done;
}

bool watch_has_work(const struct module_host *host)
{
    return host->dirty.head != POOL_NONE && !timer_armed(&host->pause.timer);
}

/* ---- start and end ---- */

int watches_init(struct module_host *host)
{
    uint32_t capacity = host->m->config->limits.observations, buckets = 16;
    int err;

    host->dirty = LIST_NONE;
    timer_init(&host->pause.timer, TIMER_MODULE);
    host->pause.instance = TIMER_OF_HOST;
    if (capacity == 0)
        return 0;
    while (buckets < capacity)
        buckets *= 2;
    host->bucket_mask = buckets - 1;
    host->by_key = memory_reserve((size_t)buckets * sizeof(*host->by_key));
    host->by_path = memory_reserve((size_t)buckets * sizeof(*host->by_path));
    host->watched = memory_reserve(host->m->config->route_count * sizeof(*host->watched));
    if (!host->by_key || !host->by_path || !host->watched)
        return -ENOMEM;
    for (unsigned i = 0; i < host->m->config->route_count; i++)
        host->watched[i] = LIST_NONE;
    err = pool_init(&host->watches, sizeof(struct watch), capacity);
    if (!err)
        local_handle(host->proxy, LOCAL_MODULE, on_gone, host);
    return err;
}

void watches_fini(struct module_host *host)
{
    size_t bytes = ((size_t)host->bucket_mask + 1) * sizeof(*host->by_key);

    if (host->watches.capacity)
        local_handle(host->proxy, LOCAL_MODULE, NULL, NULL);
    pool_fini(&host->watches);
    memory_release(host->by_key, bytes);
    memory_release(host->by_path, bytes);
    memory_release(host->watched, host->m->config->route_count * sizeof(*host->watched));
}
