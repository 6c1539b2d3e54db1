#include "gateway/serve/module_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool modules_wanted(const struct config *config)
{
    for (unsigned i = 0; i < config->route_count; i++)
        if (config->routes[i].kind == CONFIG_ROUTE_MODULE)
            return true;
    return false;
}

/* calloc() for what is aligned to cache lines. */
static void *make_lines(size_t count, size_t bytes)
{
    void *memory = aligned_alloc(64, count * bytes);

    if (memory)
        memset(memory, 0, count * bytes);
    return memory;
}

struct modules *modules_create(const struct config *config)
{
    struct modules *modules = calloc(1, sizeof(*modules));
    size_t routes = config->route_count + 1;

    if (!modules)
        return NULL;
    modules->config = config;
    modules->by_route = calloc(routes, sizeof(const struct coapgw_module *));
    modules->stats = make_lines(routes * config->workers, sizeof(*modules->stats));
    modules->logs = make_lines(config->workers, sizeof(*modules->logs));
    if (modules->by_route && modules->stats && modules->logs)
        return modules;
    modules_destroy(modules);
    return NULL;
}

void modules_destroy(struct modules *modules)
{
    if (!modules)
        return;
    free(modules->by_route);
    free(modules->stats);
    free(modules->logs);
    free(modules);
}

const char *module_is_bad(const struct coapgw_module *module)
{
    if (!module)
        return "coapgw_module_init() returned NULL: it cannot work with this gateway";
    if (module->abi != COAPGW_MODULE_ABI)
        return "it was built for another version of coapgw/module.h (COAPGW_MODULE_ABI); build it "
               "again with this gateway's";
    if (module->size < sizeof(*module))
        return "its struct coapgw_module is smaller than this version's: set `size` to sizeof";
    if (!module->name || !module->start || !module->stop || !module->handle)
        return "it lacks its name, start(), stop() or handle()";
    if (module->events && !module->event)
        return "it wants events and has no event()";
    return NULL;
}

int modules_set(struct modules *modules, unsigned route, const struct coapgw_module *module,
                char *reason)
{
    const char *bad = module_is_bad(module);
    int err = 0;

    reason[0] = 0;
    if (bad) {
        snprintf(reason, COAPGW_REASON_BYTES, "%s", bad);
        return -ENOEXEC;
    }
    if (module->check)
        err = module->check(modules->config->routes[route].module.options, reason);
    reason[COAPGW_REASON_BYTES - 1] = 0;
    if (err) {
        if (!reason[0])
            snprintf(reason, COAPGW_REASON_BYTES, "it does not like its options");
        return err < 0 ? err : -EINVAL;
    }
    modules->by_route[route] = module;
    return 0;
}

/* ---- lines ---- */

bool module_log_write(struct module_log *log, unsigned route, const char *text)
{
    uint32_t at = atomic_load_explicit(&log->written, memory_order_relaxed);
    struct module_line *line = &log->lines[at % MODULE_LOG_LINES];
    size_t length;

    if (at - atomic_load_explicit(&log->read, memory_order_acquire) >= MODULE_LOG_LINES)
        return false;
    line->route = route;
    length = strnlen(text, COAPGW_LOG_BYTES);
    memcpy(line->text, text, length);
    line->text[length] = 0;
    atomic_store_explicit(&log->written, at + 1, memory_order_release);
    return true;
}

bool module_log_read(struct module_log *log, struct module_line *line)
{
    uint32_t at = atomic_load_explicit(&log->read, memory_order_relaxed);

    if (at == atomic_load_explicit(&log->written, memory_order_acquire))
        return false;
    *line = log->lines[at % MODULE_LOG_LINES];
    atomic_store_explicit(&log->read, at + 1, memory_order_release);
    /* Clients may have a say in the text: no control characters on a terminal. */
    for (char *c = line->text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    return true;
}
