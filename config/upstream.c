/* Upstreams: their servers, and the own address that each server is reached from. */
#include "config/loader.h"
#include "config/quantity.h"
#include "config/value.h"
#include "gateway/local.h"

#define TIMEOUT_MAX     UINT64_C(86400000) /* 24 h in milliseconds */
#define PORTS_DEFAULT   1024
#define OUTSTANDING_MAX 16777216
#define SECOND_US       UINT64_C(1000000)
#define HOUR_US         (3600 * SECOND_US)

/* ---- servers ---- */

static void read_server(struct loader *l, const struct place *at, const char *text,
                        struct config_server *out)
{
    int local;

    if (!endpoint_read(at, text, &out->endpoint, &out->transport))
        return;
    if (loader_local(l, &out->endpoint.address) >= 0) {
        place_error(at, "\"%.80s\" is this gateway itself; write the address of an origin server",
                    text);
        return;
    }
    local = local_for(l->config, &out->endpoint.address);
    if (local < 0) {
        place_error(at,
                    "\"%.80s\" is in no interface's subnet, and no interface with an IPv%d address "
                    "has a %s; write an address that can be reached, or add a gateway",
                    text, address_is_v4(&out->endpoint.address) ? 4 : 6,
                    address_is_v4(&out->endpoint.address) ? "gateway" : "gateway6");
        return;
    }
    out->local = (uint16_t)local;
}

static bool same_server(const struct config_server *a, const struct config_server *b)
{
    return a->endpoint.port != 0 && a->endpoint.port == b->endpoint.port &&
           address_equal(&a->endpoint.address, &b->endpoint.address);
}

static void read_servers(struct loader *l, const struct place *upstream,
                         const struct raw_upstream *raw, struct config_upstream *out)
{
    struct place list = place_key(upstream, "servers");

    out->servers = loader_array(l, raw->servers_count, sizeof(*out->servers));
    if (!out->servers)
        return;
    out->server_count = raw->servers_count;
    for (unsigned i = 0; i < out->server_count; i++) {
        struct place at = place_entry(&list, i);

        read_server(l, &at, raw->servers[i], &out->servers[i]);
        for (unsigned j = 0; j < i; j++)
            if (same_server(&out->servers[i], &out->servers[j]))
                place_error(&at, "\"%.80s\" is there twice; remove one of them", raw->servers[i]);
    }
}

/* ---- DTLS ---- */

/* One handshake's credentials are for all of them, and a request must not travel in the clear
 * because the server that it is meant for is down. */
static bool have_one_scheme(const struct place *upstream, const struct raw_upstream *raw,
                            const struct config_upstream *out)
{
    struct place list = place_key(upstream, "servers");

    for (unsigned i = 1; i < out->server_count; i++) {
        struct place at = place_entry(&list, i);

        if (out->servers[i].transport == out->servers[0].transport)
            continue;
        place_error(&at,
                    "\"%.80s\" has another scheme than servers[0]; write all of an upstream with "
                    "coap:// or all with coaps://",
                    raw->servers[i]);
        return false;
    }
    return out->server_count > 0;
}

static void read_dtls(struct loader *l, const struct place *upstream,
                      const struct raw_upstream *raw, struct config_upstream *out)
{
    bool secure;

    if (!have_one_scheme(upstream, raw, out))
        return;
    secure = out->servers[0].transport == TRANSPORT_DTLS;
    if (secure && raw->dtls)
        out->dtls = dtls_upstream_read(l, upstream, raw->dtls);
    else if (secure)
        key_error(upstream, "dtls", "is missing; add it with identity and key_file, or with ca");
    else if (raw->dtls)
        key_error(upstream, "dtls",
                  "only coaps:// servers have it; remove it, or write coaps:// "
                  "in servers");
}

/* ---- upstreams ---- */

static void read_name(struct loader *l, const struct place *at, unsigned index)
{
    const char *name = l->raw->upstreams[index].name;

    if (!value_is_word(name, ".", 64))
        key_error(at, "name", "\"%.80s\" is not a name; write 1 to 64 letters, digits, _, - or .",
                  name);
    for (unsigned i = 0; i < index; i++)
        if (strcmp(l->raw->upstreams[i].name, name) == 0)
            key_error(at, "name", "\"%.80s\" is also the name of upstreams[%u]; write another one",
                      name, i);
    l->config->upstreams[index].name = loader_text(l, name);
}

static void read_health(struct loader *l, const struct place *at, const struct raw_upstream *raw,
                        struct config_upstream *out)
{
    static const struct quantity retries = {"retries", QUANTITY_COUNT, 0, 8, 1};
    static const struct quantity revive = {"revive", QUANTITY_TIME_US, SECOND_US / 10, HOUR_US,
                                           5 * SECOND_US};

    out->retries = (uint8_t)quantity_read(at, &retries, raw->retries);
    out->keepalive_us = keepalive_read(at, raw->keepalive, l->config->keepalive_us);
    out->revive_us = quantity_read(at, &revive, raw->revive);
}

void upstream_read(struct loader *l, const struct place *at, const struct raw_upstream *raw,
                   struct config_upstream *out)
{
    const struct quantity outstanding = {"max_outstanding", QUANTITY_COUNT, 1, OUTSTANDING_MAX,
                                         l->config->limits.exchanges};
    uint64_t block = UINT64_C(1) << l->config->upstream_port_shift;
    const struct quantity ports = {"ports", QUANTITY_COUNT, 1, block,
                                   block < PORTS_DEFAULT ? block : PORTS_DEFAULT};
    struct quantity timeout = {"timeout", QUANTITY_TIME_MS, 1, TIMEOUT_MAX, 0};

    out->balance = raw->balance;
    out->reliable = raw->reliable ? *raw->reliable : true;
    out->transmission = transmission_read(at, raw->transmission, &l->config->transmission);
    timeout.fallback = transmission_max_wait_ms(&out->transmission);
    out->timeout_ms = (uint32_t)quantity_read(at, &timeout, raw->timeout);
    out->ports = (uint16_t)quantity_read(at, &ports, raw->ports);
    out->block_szx = block_szx_read(at, raw->block_size);
    out->outstanding = (uint32_t)quantity_read(at, &outstanding, raw->max_outstanding);
    read_health(l, at, raw, out);
}

void load_upstreams(struct loader *l)
{
    struct config *config = l->config;
    struct place list = place_key(&l->root, "upstreams");

    config->upstreams = loader_array(l, l->raw->upstreams_count, sizeof(*config->upstreams));
    if (!config->upstreams)
        return;
    config->upstream_count = l->raw->upstreams_count;
    for (unsigned i = 0; i < config->upstream_count; i++) {
        struct place at = place_entry(&list, i);

        read_name(l, &at, i);
        upstream_read(l, &at, &l->raw->upstreams[i], &config->upstreams[i]);
        read_servers(l, &at, &l->raw->upstreams[i], &config->upstreams[i]);
        read_dtls(l, &at, &l->raw->upstreams[i], &config->upstreams[i]);
        tell_read(l, &at, l->raw->upstreams[i].tell_client, &config->upstreams[i]);
    }
}
