/* What the files of the module interface share. See module.h. */
#ifndef COAPGW_GATEWAY_SERVE_MODULE_PARTS_H
#define COAPGW_GATEWAY_SERVE_MODULE_PARTS_H

#include <rte_cycles.h>

#include "gateway/proxy/local.h"
#include "gateway/serve/async.h"
#include "gateway/serve/handle.h"
#include "gateway/serve/module.h"

#define RESPONSE_OPTIONS 64

#define MODULE_NO_MEMORY "no memory for the answer"

/* An answer in the making. Payloads are collected in the host's buffer. */
struct coapgw_response {
    uint8_t code; /* 0: none yet */
    bool failed;  /* something did not fit */
    bool observable;
    int32_t format;    /* -1: none */
    int64_t max_age_s; /* -1: not said */
    struct etag etag;
    uint8_t *payload; /* room for `room` bytes */
    uint32_t length, room;
    unsigned option_count;
    uint32_t bytes_used;
    struct response_option {
        uint16_t number, length, at;
    } options[RESPONSE_OPTIONS];
    uint8_t bytes[COAPGW_OPTION_BYTES_MAX];
};

/* A call of handle(): there is one at a time. */
struct call {
    struct coapgw_request request; /* the first member: it is what the module has */
    struct coapgw_instance *instance;
    bool active;            /* handle() has not returned */
    const uint8_t *options; /* as in a message */
    uint32_t options_length;
    struct async *registered; /* in this call */
    struct async *due;        /* COAPGW_PASS_ASYNC */
    bool again;               /* it waits once more */
    struct coapgw_bytes segments[2 * COAPGW_SEGMENTS_MAX];
    struct coapgw_response response;
};

struct coapgw_instance {
    struct module_host *host;
    const struct coapgw_module *module;
    void *state;
    struct module_stats *stats;
    unsigned route;
    uint32_t number;     /* in the host */
    unsigned depth;      /* segments of the route's path */
    unsigned timers;     /* that are running */
    void **session_data; /* by the session's place */
    uint64_t log_since_us;
    unsigned log_lines; /* since then */
    bool started;
};

#define TIMER_OF_HOST UINT32_MAX

struct module_timer {
    struct timer timer;
    uint32_t instance; /* TIMER_OF_HOST: see struct module_host.pause */
    uint64_t argument;
};

/* A request by which clients observe. */
struct watch {
    struct links by_instance, by_dirty, by_path;
    uint32_t next_key; /* of its bucket, plus one */
    uint64_t key_hash, path_hash;
    uint32_t instance, observation;
    struct kept_request request;
    uint64_t asked_us; /* when its state was last asked for */
    bool dirty;        /* the module is to be asked for its state */
};

struct module_host {
    struct modules *modules;
    struct proxy *proxy;
    struct messaging *m;
    unsigned worker, workers;
    uint32_t events;      /* that any instance wants */
    uint64_t slow_cycles; /* limits.module_slow */
    uint64_t number_told; /* Observe numbers below may be used without a word */
    struct coapgw_instance *instances;
    unsigned instance_count;
    struct coapgw_instance **by_route;
    struct asyncs asyncs;
    struct handles sessions;
    struct pool timers;
    struct handles timer_handles;
    /* module_watch.c */
    struct pool watches;        /* capacity 0: nothing can be observed */
    uint32_t *by_key, *by_path; /* the first of each bucket, plus one */
    uint32_t bucket_mask;
    struct list *watched; /* by instance */
    struct list dirty;
    struct module_timer pause; /* armed: memory was short; states are asked for later */
    uint64_t seed;
    uint8_t *body, *payload; /* of the request and of the answer in hand */
    size_t body_bytes, payload_bytes;
    bool telling; /* a module's event() is running */
    struct call call;
};

/* Every call of a module's function is between these two. */
static inline uint64_t module_enter(void)
{
    return rte_rdtsc();
}

void module_leave(struct coapgw_instance *instance, uint64_t begun);

/* ---- module.c ---- */

/* Begins a call without a message. Options and payload are `kept`'s. */
void call_prepare_kept(struct module_host *host, struct coapgw_instance *instance,
                       const struct kept_request *kept, enum coapgw_pass pass);
/* Runs it. False when the answer is none that can be sent: 5.00 is to be. */
bool call_run(struct module_host *host);
/* The answer is not one: the client gets 5.00, and nothing of what was begun. */
void call_fail(struct module_host *host);
/* The answer as a content with one reference; CONTENT_NONE when memory is short. */
uint32_t call_content(struct module_host *host);

/* The request in hand, to be kept. `all`: every option; otherwise only those that say what the
 * client wants to see. False when memory is short. */
bool kept_make(struct module_host *host, const struct call *call, bool all,
               struct kept_request *kept);
void kept_free(struct module_host *host, struct kept_request *kept);

/* ---- module_async.c ---- */

/* For struct asyncs_setup: the second pass, with a copy of the request. */
void module_async_due(void *context, struct async *async);
/* The module does not want it any more. Its client is told a little later: nothing is sent from
 * within what modules call. */
void async_give_up(struct module_host *host, struct async *async);

/* ---- module_watch.c ---- */

int watches_init(struct module_host *host);
void watches_fini(struct module_host *host);
/* The observation of the request in hand, made with this state when there is none. POOL_NONE at a
 * limit. */
uint32_t watch_request(struct module_host *host, uint32_t content);
int watch_notify(struct coapgw_instance *instance, const struct coapgw_bytes *path, size_t count);
unsigned watch_advance(struct module_host *host, unsigned budget);
bool watch_has_work(const struct module_host *host);

/* ---- module_event.c ---- */

/* The session of a handle, NULL when it has gone. */
struct session *module_session(const struct module_host *host, coapgw_session handle);
/* The end has come for an instance: it is told of the sessions that have data of its own. */
void module_close_sessions(struct coapgw_instance *instance);

#endif
