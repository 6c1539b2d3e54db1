/* Modules in one worker: their instances, requests on their way in and answers on their way out,
 * and what they are told of. The other side of gateway/module.h.
 *
 *   module.c         instances; a request, an answer, and the calls between
 *   module_api.c     the functions that modules call
 *   module_watch.c   requests by which clients observe, and their new states
 *   module_event.c   sessions, and what happens to them
 *   module_async.c   requests that are answered later: exchanges, and how they end
 *   module_table.c   which modules there are; figures and lines for another thread
 *   async.c          requests that are answered later: time, session and token
 *
 * One worker; no locking. Where a host is NULL, there are no modules: nothing is done. */
#ifndef COAPGW_GATEWAY_SERVE_MODULE_H
#define COAPGW_GATEWAY_SERVE_MODULE_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/proxy/proxy.h"
#include "gateway/serve/module_table.h"

struct module_host;

struct module_host_setup {
    struct modules *modules; /* shared by all workers */
    struct proxy *proxy;
    unsigned worker, workers;
};

/* Starts an instance for each of the routes. 0 or a negative errno; -ECANCELED when a module does
 * not start: modules->failure says why. Main thread. */
int module_host_create(const struct module_host_setup *setup, struct module_host **host);

/* Stops them. Before the proxy and its messaging layer go. */
void module_host_destroy(struct module_host *host);

/* A request that a route leads to a module. */
void module_request(struct module_host *host, struct request *rq, unsigned route);

/* New states are asked for in portions, `budget` calls at the most. Returns how many. */
unsigned module_advance(struct module_host *host, unsigned budget);

/* True when module_advance() has something to do now. */
bool module_has_work(const struct module_host *host);

/* The request that a module's observation stands for, by what local_observe() got: its options, of
 * `*options_length` bytes, are at the start; in the proxy's contents.chunks. */
const struct rope *module_watched(const struct module_host *host, uint32_t index, uint8_t *method,
                                  uint16_t *options_length);

/* The gateway is stopping: who waits for an answer gets 5.03. */
void module_drain(struct module_host *host);

/* Asynchronous requests that wait. */
uint32_t module_asyncs(const struct module_host *host);

/* ---- what modules hear of ---- */

/* See messaging_ops.event(). Upstream sessions are no business of theirs. `mid`: of a ping, pong or
 * nack. */
void module_on_session(struct module_host *host, const struct session *s, enum session_event what,
                       uint16_t mid);

/* A client's session is about to go: requests that wait are given up, and their exchanges. `host`
 * is not NULL. See messaging_ops.session_closed(). */
void module_session_ends(struct module_host *host, const struct session *s);

/* A relation has been made: `record` is its registration in `length` bytes, or NULL. Or it goes. */
void module_on_relation(struct module_host *host, enum coapgw_event_kind kind,
                        const struct session *s, const void *token, uint32_t token_length,
                        const void *record, uint32_t length);

/* An Observe number is in use, before it is cut to 24 bits. */
void module_on_number(struct module_host *host, uint64_t number);

/* At its owner: a resource that the gateway holds has this state; CONTENT_NONE: it was removed. */
void module_on_resource(struct module_host *host, const void *name, uint32_t name_length,
                        uint32_t content, uint64_t version);

/* True when a module wants events of this kind: what is costly to put together need not be. */
bool module_wants(const struct module_host *host, enum coapgw_event_kind kind);

#endif
