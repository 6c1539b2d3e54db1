/* The steps between what stands in the file and struct config, in the order in which they run.
 *
 * Each step fills its part of the configuration, checks it and reports what is wrong; it goes on
 * with a default, so that one run finds as many errors as there are. A step may use what the steps
 * before it have filled in, also when they found errors: entries that could not be read are zero.
 * All is reachable from the config at any time, so that config_free() is enough after a failure. */
#ifndef COAPGW_CONFIG_LOADER_H
#define COAPGW_CONFIG_LOADER_H

#include "config/schema.h"

struct loader {
    const struct raw_config *raw;
    struct config *config;
    struct report *report;
    struct place root;
};

void load_transmission(struct loader *l); /* what listeners and upstreams inherit */
void load_process(struct loader *l); /* instance, workers, cores, idle, memory, upstream_ports */
void load_limits(struct loader *l);
void load_cache(struct loader *l);
void load_observe(struct loader *l);
void load_interfaces(struct loader *l); /* and the table of local addresses */
void load_listeners(struct loader *l);
void load_upstreams(struct loader *l);
void load_forward(struct loader *l);
void load_routes(struct loader *l);
void load_store(struct loader *l);
void load_journal(struct loader *l);
void load_admin(struct loader *l);
void load_security(struct loader *l); /* after the store */
void load_debug(struct loader *l);
void load_lifetimes(struct loader *l); /* limits.session_idle against all transmission parameters */

/* `base` with what the mapping at `parent` (a key "transmission", or absent) says otherwise. */
struct transmission transmission_read(const struct place *parent,
                                      const struct raw_transmission *raw,
                                      const struct transmission *base);

/* The key keepalive of the mapping at `parent` in microseconds; 0: never. */
uint64_t keepalive_read(const struct place *parent, const char *text, uint64_t fallback_us);

/* Zeroed memory for `count` things of `bytes` each, or NULL: reported, unless count is 0. */
void *loader_array(struct loader *l, size_t count, size_t bytes);

/* A copy of `text` ("" for NULL), or NULL: reported. */
char *loader_text(struct loader *l, const char *text);

/* The index of an own address in config.locals, -1 when it is not one. */
int loader_local(const struct loader *l, const struct address *address);

/* True when the text is an address that a host can have; otherwise false with an error reported. */
bool address_is_usable(const struct place *at, const char *text, const struct address *address);

/* What an upstream has beside its name and servers: how any server of it is talked to. */
void upstream_read(struct loader *l, const struct place *at, const struct raw_upstream *raw,
                   struct config_upstream *out);

/* The key block_size of the mapping at `parent` as the SZX of a Block option, 0 to 6. */
uint8_t block_szx_read(const struct place *parent, const char *text);

/* Splits "KIND:ARGUMENT[,OPTIONS]" into the interface's device. */
void device_read(struct loader *l, const struct place *interface, const char *text,
                 struct config_interface *out);

/* Parses a coap: or coaps: URI that names an address and a port and nothing else. False: reported.
 */
bool endpoint_read(const struct place *at, const char *text, struct endpoint *out,
                   enum transport *transport);

/* The key dtls of a listener or an upstream; NULL: reported. */
struct config_dtls_listener *dtls_listener_read(struct loader *l, const struct place *listener,
                                                const struct raw_dtls_listener *raw);
struct config_dtls_upstream *dtls_upstream_read(struct loader *l, const struct place *upstream,
                                                const struct raw_dtls_upstream *raw);
void dtls_listener_free(struct config_dtls_listener *dtls);
void dtls_upstream_free(struct config_dtls_upstream *dtls);

/* True when `text` is a pattern of names in certificates; `kinds`: of clients, "psk:" or "cert:"
 * in front. False: reported. */
bool pattern_is_good(const struct place *at, const char *text, bool kinds);

/* The key allow of a route. */
void allow_read(struct loader *l, const struct place *route, const struct raw_route *raw,
                struct config_route *out);

/* The key tell_client of an upstream. */
void tell_read(struct loader *l, const struct place *upstream, const struct raw_tell *raw,
               struct config_upstream *out);

#endif
