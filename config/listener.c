/* Listeners, and the endpoints that they and the servers of upstreams are given as. */
#include <errno.h>
#include <strings.h>

#include "config/loader.h"
#include "config/quantity.h"
#include "gateway/coap/uri.h"

#define LISTED_BYTES 256

static bool is_plain(const struct place *at, const char *text, const struct uri *uri)
{
    const char *scheme = uri->scheme == URI_COAPS ? "coaps" : "coap";

    if (!uri->host_is_address)
        place_error(at, "\"%.80s\" has no IP address; write %s://ADDRESS[:PORT]", text, scheme);
    else if (uri->path_length || uri->query_length || strchr(text, '?'))
        place_error(at, "\"%.80s\" has a path or a query; write %s://ADDRESS[:PORT] alone", text,
                    scheme);
    else if (uri->port == 0)
        place_error(at, "\"%.80s\" has port 0; write a port from 1 to 65535", text);
    else
        return address_is_usable(at, text, &uri->address);
    return false;
}

bool endpoint_read(const struct place *at, const char *text, struct endpoint *out,
                   enum transport *transport)
{
    struct uri uri;
    int err = uri_parse(text, strlen(text), &uri);

    if (err == -EPROTONOSUPPORT) {
        place_error(at,
                    "\"%.80s\" has a scheme that is not supported; write coap://ADDRESS[:PORT] or "
                    "coaps://ADDRESS[:PORT]",
                    text);
        return false;
    }
    if (err) {
        place_error(at,
                    "\"%.80s\" is not a CoAP URI; write %s://ADDRESS[:PORT], an IPv6 address in "
                    "brackets",
                    text, strncasecmp(text, "coaps:", 6) == 0 ? "coaps" : "coap");
        return false;
    }
    *transport = uri.scheme == URI_COAPS ? TRANSPORT_DTLS : TRANSPORT_UDP;
    if (!is_plain(at, text, &uri))
        return false;
    out->address = uri.address;
    out->port = uri.port;
    return true;
}

uint8_t block_szx_read(const struct place *parent, const char *text)
{
    static const struct quantity size = {"block_size", QUANTITY_SIZE_POWER_OF_TWO, 16, 1024, 1024};

    /* RFC 7959 2.2: the size is 2 ** (SZX + 4). */
    return (uint8_t)(__builtin_ctzll(quantity_read(parent, &size, text)) - 4);
}

static const char *list_locals(const struct config *config, char list[LISTED_BYTES])
{
    char text[ENDPOINT_TEXT_BYTES];
    size_t length = 0;

    snprintf(list, LISTED_BYTES, "one of an interface");
    for (unsigned i = 0; i < config->local_count && length < LISTED_BYTES; i++)
        length += (size_t)snprintf(list + length, LISTED_BYTES - length, "%s%s", i ? ", " : "",
                                   address_format(&config->locals[i].address, text));
    return list;
}

static void check_port(const struct loader *l, const struct place *at, const char *text,
                       uint16_t port)
{
    const struct config *config = l->config;
    unsigned first = config->upstream_port_base;
    unsigned end = first + (config->workers << config->upstream_port_shift);

    if (port >= first && port < end)
        place_error(at,
                    "\"%.80s\" has one of the upstream ports %u to %u; write another port, or "
                    "another upstream_ports.base",
                    text, first, end - 1);
}

static void check_duplicate(const struct loader *l, const struct place *at, const char *text,
                            unsigned index)
{
    const struct config_listener *own = &l->config->listeners[index];

    for (unsigned i = 0; i < index; i++) {
        const struct config_listener *other = &l->config->listeners[i];

        if (other->port == own->port && other->local == own->local) {
            place_error(at, "\"%.80s\" is also listeners[%u]; remove one of them", text, i);
            return;
        }
    }
}

/* Multicast is never secured by DTLS (RFC 7252 9.1). */
static void read_dtls(struct loader *l, const struct place *listener,
                      const struct raw_listener *raw, struct config_listener *out)
{
    bool secure = out->transport == TRANSPORT_DTLS;

    if (secure && raw->dtls)
        out->dtls = dtls_listener_read(l, listener, raw->dtls);
    else if (secure)
        key_error(listener, "dtls", "is missing; add it with psk or certificate and key");
    else if (raw->dtls)
        key_error(listener, "dtls",
                  "only a coaps:// listener has it; remove it, or write "
                  "coaps:// in uri");
    if (secure && raw->multicast && *raw->multicast)
        key_error(listener, "multicast", "a coaps:// listener has none; write false or remove it");
    out->multicast = out->multicast && !secure;
}

static void read_listener(struct loader *l, const struct place *listener, unsigned index)
{
    const struct raw_listener *raw = &l->raw->listeners[index];
    struct config_listener *out = &l->config->listeners[index];
    struct place at = place_key(listener, "uri");
    struct endpoint endpoint;
    char list[LISTED_BYTES];
    int local;

    out->block_szx = block_szx_read(listener, raw->block_size);
    out->multicast = raw->multicast ? *raw->multicast : true;
    out->keepalive_us = keepalive_read(listener, raw->keepalive, l->config->keepalive_us);
    out->has_transmission = raw->transmission != NULL;
    out->transmission = transmission_read(listener, raw->transmission, &l->config->transmission);
    if (!endpoint_read(&at, raw->uri, &endpoint, &out->transport))
        return;
    read_dtls(l, listener, raw, out);
    check_port(l, &at, raw->uri, endpoint.port);
    local = loader_local(l, &endpoint.address);
    if (local < 0) {
        place_error(&at, "no interface has the address of \"%.80s\"; write %s", raw->uri,
                    list_locals(l->config, list));
        return;
    }
    out->local = (uint16_t)local;
    out->port = endpoint.port;
    check_duplicate(l, &at, raw->uri, index);
}

void load_listeners(struct loader *l)
{
    struct config *config = l->config;
    struct place list = place_key(&l->root, "listeners");

    config->listeners = loader_array(l, l->raw->listeners_count, sizeof(*config->listeners));
    if (!config->listeners)
        return;
    config->listener_count = l->raw->listeners_count;
    for (unsigned i = 0; i < config->listener_count; i++) {
        struct place at = place_entry(&list, i);

        read_listener(l, &at, i);
    }
}
