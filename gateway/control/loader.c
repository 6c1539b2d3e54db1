#include "gateway/control/loader.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_cycles.h>

/* How often lines are looked for, and how often one module may be named as slow. */
#define LOOK_MS 200
#define SLOW_MS 60000

/* ---- opening ---- */

/* The gateway's functions are given to a module, which needs none of its symbols: nothing of the
 * module's can take the place of the gateway's own, and a symbol that is missing is found now. */
static const struct coapgw_module *open_file(const char *file, char *reason)
{
    typedef const struct coapgw_module *init_function(const struct coapgw_api *);
    const struct coapgw_module *module = NULL;
    void *object = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    init_function *init = NULL;
    const char *bad;

    if (!object) {
        const char *why = dlerror();
        size_t length = strlen(file);

        /* "FILE: what is wrong": the file is named already. */
        if (strncmp(why, file, length) == 0 && strncmp(why + length, ": ", 2) == 0)
            why += length + 2;
        snprintf(reason, COAPGW_REASON_BYTES, "it cannot be loaded: %s", why);
        return NULL;
    }
    *(void **)&init = dlsym(object, "coapgw_module_init");
    if (!init) {
        snprintf(reason, COAPGW_REASON_BYTES,
                 "it is not a module: it has no coapgw_module_init() (see coapgw/module.h)");
        dlclose(object);
        return NULL;
    }
    module = init(&module_api);
    bad = module_is_bad(module);
    if (!bad)
        return module;
    snprintf(reason, COAPGW_REASON_BYTES, "%s", bad);
    dlclose(object);
    return NULL;
}

static int open_route(struct modules *modules, unsigned route, FILE *errors)
{
    const struct config *config = modules->config;
    const struct config_route *r = &config->routes[route];
    char reason[COAPGW_REASON_BYTES] = "";
    const struct coapgw_module *module = open_file(r->module.file, reason);
    int err = module ? modules_set(modules, route, module, reason) : -ENOEXEC;

    if (err)
        fprintf(errors, "%s: routes: %s: module %s: %s\n", config->file, r->path, r->module.file,
                reason);
    return err;
}

int loader_open(const struct config *config, FILE *errors, struct modules **out)
{
    struct modules *modules;
    int err = 0;

    *out = NULL;
    if (!modules_wanted(config))
        return 0;
    modules = modules_create(config);
    if (!modules) {
        fprintf(errors, "%s: routes: no memory for modules\n", config->file);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < config->route_count; i++) {
        int bad =
            config->routes[i].kind == CONFIG_ROUTE_MODULE ? open_route(modules, i, errors) : 0;

        if (!err)
            err = bad;
    }
    if (err) {
        loader_close(modules);
        return err;
    }
    *out = modules;
    return 0;
}

/* Objects stay mapped: threads or exit handlers of theirs may still be about, and a leak checker
 * can name their functions. */
void loader_close(struct modules *modules)
{
    modules_destroy(modules);
}

/* ---- watching ---- */

struct loader_thread {
    struct modules *modules;
    FILE *out;
    struct watched {
        uint64_t slow; /* as last named */
        uint64_t named_ms;
        bool named;
    } * watched; /* by route */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t bell;
    bool stop;
};

static const struct config_route *route_of(const struct modules *modules, unsigned route)
{
    return &modules->config->routes[route];
}

static void print_lines(struct loader_thread *l)
{
    struct module_line line;

    for (unsigned worker = 0; worker < l->modules->config->workers; worker++)
        while (module_log_read(&l->modules->logs[worker], &line))
            fprintf(l->out, "coapgw: module %s: %s\n", route_of(l->modules, line.route)->path,
                    line.text);
}

static uint64_t read_figure(const uint64_t *figure)
{
    return __atomic_load_n(figure, __ATOMIC_RELAXED);
}

static uint64_t to_us(uint64_t cycles)
{
    uint64_t hz = rte_get_tsc_hz();

    return hz < 1000000 ? 0 : cycles / (hz / 1000000);
}

static void name_slow(struct loader_thread *l, unsigned route, uint64_t now_ms)
{
    struct watched *watched = &l->watched[route];
    uint64_t slow = 0, longest = 0;

    for (unsigned worker = 0; worker < l->modules->config->workers; worker++) {
        const struct module_stats *stats = modules_stats(l->modules, route, worker);
        uint64_t cycles = read_figure(&stats->longest);

        slow += read_figure(&stats->slow);
        if (cycles > longest)
            longest = cycles;
    }
    if (slow == watched->slow || (watched->named && now_ms - watched->named_ms < SLOW_MS))
        return;
    fprintf(
        l->out,
        "coapgw: module %s (%s): calls that took longer than limits.module_slow: %llu more, the "
        "longest so far %llu us; all clients of a worker wait meanwhile\n",
        route_of(l->modules, route)->path, route_of(l->modules, route)->module.file,
        (unsigned long long)(slow - watched->slow), (unsigned long long)to_us(longest));
    watched->slow = slow;
    watched->named_ms = now_ms;
    watched->named = true;
}

static uint64_t monotonic_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void look(struct loader_thread *l)
{
    uint64_t now_ms = monotonic_ms();

    print_lines(l);
    for (unsigned i = 0; i < l->modules->config->route_count; i++)
        if (l->modules->by_route[i])
            name_slow(l, i, now_ms);
    fflush(l->out);
}

static void *run(void *argument)
{
    struct loader_thread *l = argument;
    struct timespec until;

    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        pthread_mutex_unlock(&l->lock);
        look(l);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += LOOK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&l->lock);
        while (!l->stop && pthread_cond_timedwait(&l->bell, &l->lock, &until) != ETIMEDOUT)
            ;
    }
    pthread_mutex_unlock(&l->lock);
    look(l);
    return NULL;
}

static void free_thread(struct loader_thread *l)
{
    pthread_cond_destroy(&l->bell);
    pthread_mutex_destroy(&l->lock);
    free(l->watched);
    free(l);
}

struct loader_thread *loader_watch(struct modules *modules, FILE *out)
{
    struct loader_thread *l = calloc(1, sizeof(*l));
    pthread_condattr_t attributes;
    int err;

    if (!l)
        return NULL;
    l->modules = modules;
    l->out = out;
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&l->bell, &attributes);
    pthread_condattr_destroy(&attributes);
    l->watched = calloc(modules->config->route_count + 1, sizeof(*l->watched));
    err = l->watched ? pthread_create(&l->thread, NULL, run, l) : ENOMEM;
    if (err) {
        free_thread(l);
        errno = err;
        return NULL;
    }
    return l;
}

void loader_unwatch(struct loader_thread *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_signal(&l->bell);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    free_thread(l);
}

void loader_print(const struct modules *modules, FILE *out)
{
    for (unsigned i = 0; i < modules->config->route_count; i++) {
        if (!modules->by_route[i])
            continue;
        for (unsigned worker = 0; worker < modules->config->workers; worker++) {
            const struct module_stats *stats = modules_stats(modules, i, worker);

            fprintf(out,
                    "module %s worker %u: %llu calls, %llu us in all, longest %llu us, %llu slow\n",
                    route_of(modules, i)->path, worker,
                    (unsigned long long)read_figure(&stats->calls),
                    (unsigned long long)to_us(read_figure(&stats->cycles)),
                    (unsigned long long)to_us(read_figure(&stats->longest)),
                    (unsigned long long)read_figure(&stats->slow));
        }
    }
}
