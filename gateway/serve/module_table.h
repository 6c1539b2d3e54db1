/* The modules of a process, by route, and what each tells of itself: what its functions cost, and
 * the lines that it logs.
 *
 * Made by the main thread before the workers, destroyed after them. The loader fills it in; tests
 * may do so with modules that are linked into them. While workers run, each writes its own figures
 * and its own ring of lines; one other thread reads both. */
#ifndef COAPGW_GATEWAY_SERVE_MODULE_TABLE_H
#define COAPGW_GATEWAY_SERVE_MODULE_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "gateway/module.h"

/* Written by one worker; others read single values, which may be a moment old. */
struct module_stats {
    uint64_t calls;   /* of any of its functions */
    uint64_t cycles;  /* all of them together, of the TSC */
    uint64_t longest; /* cycles of the longest */
    uint64_t slow;    /* longer than limits.module_slow */
} __attribute__((aligned(64)));

#define MODULE_LOG_LINES 256 /* that wait to be printed, for each worker */

struct module_line {
    uint32_t route;
    char text[COAPGW_LOG_BYTES + 1];
};

/* One writer, one reader. */
struct module_log {
    _Atomic uint32_t written __attribute__((aligned(64)));
    _Atomic uint32_t read __attribute__((aligned(64)));
    struct module_line lines[MODULE_LOG_LINES];
};

struct modules {
    const struct config *config;
    const struct coapgw_module **by_route; /* NULL where the route is not a module's */
    struct module_stats *stats;            /* by route, then by worker */
    struct module_log *logs;               /* by worker */
    char failure[512]; /* why no worker could be made with them; "" when it was not their fault */
};

/* The functions that modules get. */
extern const struct coapgw_api module_api;

/* Nothing loaded yet. NULL when memory is short. */
struct modules *modules_create(const struct config *config);
void modules_destroy(struct modules *modules);

/* True when a route is a module's. */
bool modules_wanted(const struct config *config);

/* Gives a route its module, and lets that check the route's options. 0, or a negative errno with
 * the reason in words (COAPGW_REASON_BYTES). */
int modules_set(struct modules *modules, unsigned route, const struct coapgw_module *module,
                char *reason);

/* All sizes and functions that a module may not lack. The reason, or NULL: it is good. */
const char *module_is_bad(const struct coapgw_module *module);

static inline struct module_stats *modules_stats(const struct modules *modules, unsigned route,
                                                 unsigned worker)
{
    return &modules->stats[(size_t)route * modules->config->workers + worker];
}

/* Worker's thread. False when the ring is full. */
bool module_log_write(struct module_log *log, unsigned route, const char *text);

/* Reader's thread. False when there is none. What is not printable is a '?' in it. */
bool module_log_read(struct module_log *log, struct module_line *line);

#endif
