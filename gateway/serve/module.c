#include "gateway/serve/module.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/memory.h"
#include "gateway/serve/module_parts.h"

void module_leave(struct coapgw_instance *instance, uint64_t begun)
{
    uint64_t cycles = rte_rdtsc() - begun;
    struct module_stats *stats = instance->stats;
    struct counters *counters = instance->host->m->counters;

    stats->calls++;
    stats->cycles += cycles;
    counters->module_calls++;
    if (cycles > stats->longest)
        stats->longest = cycles;
    if (cycles <= instance->host->slow_cycles)
        return;
    stats->slow++;
    counters->module_slow++;
}

/* ---- requests that are kept ---- */

/* Options that belong to one message or one client: two requests that differ in them only see the
 * same. */
static bool is_personal(uint16_t number)
{
    switch (number) {
    case OPTION_ETAG:
    case OPTION_OBSERVE:
    case OPTION_HOP_LIMIT:
    case OPTION_BLOCK1:
    case OPTION_BLOCK2:
    case OPTION_SIZE1:
    case OPTION_SIZE2:
    case OPTION_ECHO:
    case OPTION_NO_RESPONSE:
    case OPTION_REQUEST_TAG:
        return true;
    default:
        return false;
    }
}

static struct option_cursor options_of(const struct call *call)
{
    return (struct option_cursor){.at = call->options, .end = call->options + call->options_length};
}

bool kept_make(struct module_host *host, const struct call *call, bool all,
               struct kept_request *kept)
{
    struct contents *contents = &host->proxy->contents;
    struct option_cursor cursor = options_of(call);
    struct option_view view;
    uint8_t options[MESSAGE_MAX_BYTES];
    struct encoder e = {.data = options, .room = sizeof(options)};

    while (option_next(&cursor, &view))
        if (all || !is_personal(cursor.number))
            encoder_option(&e, cursor.number, view.value, view.length);
    *kept = (struct kept_request){.rope = ROPE_EMPTY,
                                  .options_length = (uint16_t)encoder_end(&e),
                                  .method = call->request.method};
    if (!e.failed && contents_append(contents, &kept->rope, options, kept->options_length) &&
        contents_append(contents, &kept->rope, call->request.payload.data,
                        call->request.payload.length))
        return true;
    kept_free(host, kept);
    return false;
}

void kept_free(struct module_host *host, struct kept_request *kept)
{
    rope_free(&host->proxy->contents.chunks, &kept->rope);
}

/* ---- a call ---- */

/* Path below the route, and query. False when there is more than a module gets. */
static bool find_segments(struct call *call)
{
    struct option_cursor cursor = options_of(call);
    struct option_view view;
    unsigned skip = call->instance->depth;
    struct coapgw_bytes *path = call->segments, *query = call->segments + COAPGW_SEGMENTS_MAX;
    size_t paths = 0, queries = 0;

    while (option_next(&cursor, &view)) {
        struct coapgw_bytes bytes = {view.value, view.length};

        if (cursor.number == OPTION_URI_PATH && skip) {
            skip--;
        } else if (cursor.number == OPTION_URI_PATH) {
            if (paths == COAPGW_SEGMENTS_MAX)
                return false;
            path[paths++] = bytes;
        } else if (cursor.number == OPTION_URI_QUERY) {
            if (queries == COAPGW_SEGMENTS_MAX)
                return false;
            query[queries++] = bytes;
        }
    }
    call->request.path = path;
    call->request.path_count = paths;
    call->request.query = query;
    call->request.query_count = queries;
    return true;
}

static struct call *prepare(struct module_host *host, struct coapgw_instance *instance,
                            enum coapgw_pass pass)
{
    struct call *call = &host->call;
    struct coapgw_response *r = &call->response;

    call->request = (struct coapgw_request){.size = sizeof(call->request), .pass = (uint8_t)pass};
    call->instance = instance;
    call->registered = call->due = NULL;
    call->again = false;
    r->code = 0;
    r->failed = r->observable = false;
    r->format = -1;
    r->max_age_s = -1;
    r->etag.length = 0;
    r->payload = host->payload;
    r->length = r->bytes_used = r->option_count = 0;
    r->room = host->m->config->limits.body;
    return call;
}

void call_prepare_kept(struct module_host *host, struct coapgw_instance *instance,
                       const struct kept_request *kept, enum coapgw_pass pass)
{
    struct call *call = prepare(host, instance, pass);

    rope_read(&host->proxy->contents.chunks, &kept->rope, NULL, 0, host->body, kept->rope.length);
    call->options = host->body;
    call->options_length = kept->options_length;
    call->request.method = kept->method;
    call->request.payload = (struct coapgw_bytes){host->body + kept->options_length,
                                                  kept->rope.length - kept->options_length};
    (void)find_segments(call); /* it was possible when it came in */
}

bool call_run(struct module_host *host)
{
    struct call *call = &host->call;
    struct coapgw_instance *instance = call->instance;
    uint64_t begun = module_enter();

    call->active = true;
    instance->module->handle(instance->state, &call->request, &call->response);
    call->active = false;
    module_leave(instance, begun);
    return call->response.code && !call->response.failed;
}

/* ---- answers ---- */

/* Options as they go into a message, in the order of their numbers. */
static uint16_t encode_options(struct coapgw_response *r, uint8_t *out, size_t room)
{
    struct encoder e = {.data = out, .room = (uint32_t)room};

    for (unsigned i = 1; i < r->option_count; i++) { /* few, and mostly in order */
        struct response_option option = r->options[i];
        unsigned at = i;

        for (; at && r->options[at - 1].number > option.number; at--)
            r->options[at] = r->options[at - 1];
        r->options[at] = option;
    }
    for (unsigned i = 0; i < r->option_count; i++)
        encoder_option(&e, r->options[i].number, r->bytes + r->options[i].at, r->options[i].length);
    return (uint16_t)encoder_end(&e);
}

uint32_t call_content(struct module_host *host)
{
    struct coapgw_response *r = &host->call.response;
    uint8_t options[COAPGW_OPTION_BYTES_MAX + RESPONSE_OPTIONS * 5];
    struct local_answer answer = {.code = r->code,
                                  .format = r->format,
                                  .max_age_s = r->max_age_s,
                                  .etag = r->etag,
                                  .options = options};
    uint32_t content;

    answer.options_length = encode_options(r, options, sizeof(options));
    content = local_content(host->proxy, &answer);
    if (content == CONTENT_NONE || r->length == 0 ||
        content_extend(&host->proxy->contents, content, r->payload, r->length))
        return content;
    content_release(&host->proxy->contents, content);
    return CONTENT_NONE;
}

void call_fail(struct module_host *host)
{
    struct coapgw_response *r = &host->call.response;

    host->m->counters->module_failures++;
    r->code = CODE_INTERNAL_SERVER_ERROR;
    r->format = -1;
    r->max_age_s = -1;
    r->etag.length = 0;
    r->option_count = r->length = 0;
}

static void answer_now(struct module_host *host, struct local_request *l)
{
    const struct coapgw_response *r = &host->call.response;
    struct proxy *p = host->proxy;
    uint32_t content = call_content(host), observation = POOL_NONE;

    if (content == CONTENT_NONE) {
        host->m->counters->refused_memory++;
        local_code(p, l, CODE_SERVICE_UNAVAILABLE, MODULE_NO_MEMORY);
        return;
    }
    if (l->resumed && code_class(r->code) != 2) {
        local_code(p, l, r->code, NULL);
        content_release(&p->contents, content);
        return;
    }
    if (l->observes && r->observable && r->code == CODE_CONTENT)
        observation = watch_request(host, content);
    local_deliver(p, l, content, observation);
    content_release(&p->contents, content);
}

/* The handler has registered the request: its exchange is held open. */
static void answer_later(struct module_host *host, struct local_request *l, struct async *async)
{
    async->exchange = local_later(host->proxy, l, &async->wish);
    if (async->exchange) {
        host->m->counters->asyncs++;
        return;
    }
    async_give_up(host, async);
}

/* ---- requests ---- */

static bool prepare_request(struct module_host *host, struct coapgw_instance *instance,
                            const struct local_request *l)
{
    struct call *call = prepare(host, instance, COAPGW_PASS_REQUEST);
    const struct message *msg = l->rq->message;
    uint32_t session = session_index(&host->m->sessions, l->rq->session);

    call->options = msg->options;
    call->options_length = msg->options_length;
    call->request.method = msg->code;
    call->request.observe = l->observes;
    call->request.resumed = l->resumed;
    call->request.session = handle_of(&host->sessions, session);
    call->request.token = (struct coapgw_bytes){msg->token, msg->token_length};
    call->request.payload = (struct coapgw_bytes){msg->payload, msg->payload_length};
    if (l->body.length) {
        local_body(host->proxy, l, 0, host->body, l->body_length);
        call->request.payload = (struct coapgw_bytes){host->body, l->body_length};
    }
    return find_segments(call);
}

void module_request(struct module_host *host, struct request *rq, unsigned route)
{
    struct call *call = &host->call;
    struct local_request l;
    bool good;

    if (!local_begin(host->proxy, rq, route, &l))
        return;
    if (!prepare_request(host, host->by_route[route], &l)) {
        local_code(host->proxy, &l, CODE_BAD_REQUEST, "too many path segments or query options");
        local_release(host->proxy, &l);
        return;
    }
    good = call_run(host);
    if (call->registered && call->response.code == 0 && !call->response.failed) {
        answer_later(host, &l, call->registered);
    } else {
        if (call->registered) /* answered at once all the same */
            async_give_up(host, call->registered);
        if (!good)
            call_fail(host);
        answer_now(host, &l);
    }
    local_release(host->proxy, &l);
}

/* ---- timers ---- */

static void on_timer(void *context, struct timer *timer, uint64_t now_us)
{
    struct module_host *host = context;
    struct module_timer *t =
        (struct module_timer *)(void *)((uint8_t *)timer - offsetof(struct module_timer, timer));
    struct coapgw_instance *instance;
    uint32_t place;
    uint64_t handle, argument = t->argument, begun;

    (void)now_us;
    if (t->instance == TIMER_OF_HOST)
        return; /* watch_has_work() looks at whether it runs */
    instance = &host->instances[t->instance];
    place = pool_index(&host->timers, t);
    handle = handle_of(&host->timer_handles, place);
    handle_close(&host->timer_handles, place);
    pool_put(&host->timers, t);
    instance->timers--;
    begun = module_enter();
    instance->module->timer(instance->state, handle, argument);
    module_leave(instance, begun);
}

unsigned module_advance(struct module_host *host, unsigned budget)
{
    return host ? watch_advance(host, budget) : 0;
}

bool module_has_work(const struct module_host *host)
{
    return host && watch_has_work(host);
}

/* ---- start and end ---- */

static unsigned path_depth(const char *path)
{
    unsigned depth = 0;

    if (path[1] == 0)
        return 0;
    for (; *path; path++)
        depth += *path == '/';
    return depth;
}

static int start_instance(struct module_host *host, unsigned route)
{
    const struct config_route *r = &host->m->config->routes[route];
    struct coapgw_instance *instance = &host->instances[host->instance_count];
    char reason[COAPGW_REASON_BYTES] = "";
    struct coapgw_start start = {.size = sizeof(start),
                                 .instance = instance,
                                 .options = r->module.options,
                                 .path = r->path,
                                 .worker = host->worker,
                                 .workers = host->workers,
                                 .reason = reason};
    int err;

    *instance = (struct coapgw_instance){
        .host = host,
        .module = host->modules->by_route[route],
        .stats = modules_stats(host->modules, route, host->worker),
        .route = route,
        .number = host->instance_count,
        .depth = path_depth(r->path),
        .log_since_us = host->m->now,
        .session_data = memory_reserve(host->m->sessions.max * sizeof(void *)),
    };
    if (!instance->session_data)
        return -ENOMEM;
    host->by_route[route] = instance;
    host->instance_count++;
    err = instance->module->start(&start, &instance->state);
    if (err) {
        reason[sizeof(reason) - 1] = 0;
        snprintf(host->modules->failure, sizeof(host->modules->failure),
                 "%.200s: route %.60s: worker %u: start(): %s", r->module.file, r->path,
                 host->worker, reason[0] ? reason : strerror(err < 0 ? -err : err));
        return -ECANCELED;
    }
    instance->started = true;
    host->events |= instance->module->events;
    return 0;
}

static unsigned count_routes(const struct module_host *host)
{
    unsigned n = 0;

    for (unsigned i = 0; i < host->m->config->route_count; i++)
        n += host->modules->by_route[i] != NULL;
    return n;
}

static int init_buffers(struct module_host *host, unsigned instances)
{
    const struct config *config = host->m->config;

    host->instances = calloc(instances, sizeof(*host->instances));
    host->by_route = calloc(config->route_count, sizeof(struct coapgw_instance *));
    host->payload_bytes = config->limits.body;
    /* Options and payload of one message, or options and a body in blocks. */
    host->body_bytes = (size_t)config->limits.body + 2 * MESSAGE_MAX_BYTES;
    host->body = memory_reserve(host->body_bytes);
    host->payload = memory_reserve(host->payload_bytes);
    return host->instances && host->by_route && host->body && host->payload ? 0 : -ENOMEM;
}

static int init_parts(struct module_host *host)
{
    struct messaging *m = host->m;
    struct asyncs_setup asyncs = {.wheel = &m->wheel,
                                  .chunks = &m->chunks,
                                  .capacity = m->config->limits.async,
                                  .sessions = m->sessions.max,
                                  .seed = host->seed,
                                  .due = module_async_due,
                                  .context = host};
    unsigned instances = count_routes(host);
    int err = init_buffers(host, instances);

    if (!err)
        err = asyncs_init(&host->asyncs, &asyncs);
    if (!err)
        err = handles_init(&host->sessions, m->sessions.max);
    if (!err)
        err = pool_init(&host->timers, sizeof(struct module_timer), COAPGW_TIMERS_MAX * instances);
    if (!err)
        err = handles_init(&host->timer_handles, COAPGW_TIMERS_MAX * instances);
    if (!err)
        err = watches_init(host);
    wheel_handle(&m->wheel, TIMER_MODULE, on_timer, host);
    return err;
}

int module_host_create(const struct module_host_setup *setup, struct module_host **out)
{
    struct module_host *host = calloc(1, sizeof(*host));
    int err;

    if (!host)
        return -ENOMEM;
    host->modules = setup->modules;
    host->proxy = setup->proxy;
    host->m = setup->proxy->m;
    host->worker = setup->worker;
    host->workers = setup->workers;
    host->seed = random_u64(&host->m->random);
    host->slow_cycles = host->m->config->limits.module_slow_us * (rte_get_tsc_hz() / 1000000);
    err = init_parts(host);
    for (unsigned i = 0; !err && i < host->m->config->route_count; i++)
        if (host->modules->by_route[i])
            err = start_instance(host, i);
    if (err) {
        module_host_destroy(host);
        return err;
    }
    host->proxy->modules = host;
    *out = host;
    return 0;
}

static void stop_instances(struct module_host *host)
{
    const struct session_table *table = &host->m->sessions;

    for (uint32_t i = 0; host->asyncs.heads && i < table->max; i++)
        for (struct async *async; (async = async_first(&host->asyncs, i)) != NULL;)
            async_free(&host->asyncs, async);
    for (uint32_t i = 0; i < host->timers.fresh; i++)
        if (host->timer_handles.nonces[i])
            wheel_cancel(&host->m->wheel,
                         &((struct module_timer *)pool_at(&host->timers, i))->timer);
    wheel_cancel(&host->m->wheel, &host->pause.timer);
    for (unsigned i = 0; i < host->instance_count; i++) {
        struct coapgw_instance *instance = &host->instances[i];

        if (instance->started) {
            module_close_sessions(instance);
            instance->module->stop(instance->state);
        }
        memory_release(instance->session_data, table->max * sizeof(void *));
    }
}

void module_host_destroy(struct module_host *host)
{
    if (!host)
        return;
    host->proxy->modules = NULL;
    stop_instances(host);
    watches_fini(host);
    handles_fini(&host->timer_handles);
    pool_fini(&host->timers);
    handles_fini(&host->sessions);
    asyncs_fini(&host->asyncs);
    memory_release(host->body, host->body_bytes);
    memory_release(host->payload, host->payload_bytes);
    free(host->by_route);
    free(host->instances);
    free(host);
}
