/* The forward proxy: which destinations clients may name, and how those are talked to. */
#include <errno.h>
#include <stdlib.h>

#include "config/loader.h"
#include "config/value.h"

#define DNS_PORT 53

/* ---- destinations that are allowed ---- */

/* The first address of the network. */
static struct address first_address(const struct config_address *network)
{
    unsigned prefix = network->prefix + (address_is_v4(&network->address) ? 96u : 0u);
    struct address first = network->address;

    for (unsigned bit = prefix; bit < 128; bit++)
        first.bytes[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
    return first;
}

static bool read_network(const struct place *at, const char *text, struct config_address *out)
{
    char first_text[ENDPOINT_TEXT_BYTES];
    struct address first;
    int err = value_prefix(text, out);

    if (err == -ENOENT) {
        out->prefix = address_is_v4(&out->address) ? 32 : 128;
        return true;
    }
    if (err == -ERANGE) {
        place_error(at, "\"%.80s\" has a prefix length out of range; write 0 to %d", text,
                    address_is_v4(&out->address) ? 32 : 128);
        return false;
    }
    if (err) {
        place_error(at, "\"%.80s\" is not a network; write ADDRESS/LENGTH, such as 10.1.0.0/16",
                    text);
        return false;
    }
    first = first_address(out);
    if (!address_equal(&first, &out->address)) {
        place_error(at, "\"%.80s\" is an address inside of a network; write the network, %s/%u",
                    text, address_format(&first, first_text), out->prefix);
        return false;
    }
    return true;
}

static bool read_name(struct loader *l, const struct place *at, const char *text, char **out)
{
    char name[2 + VALUE_HOST_BYTES] = "*.";
    bool below = strncmp(text, name, 2) == 0;

    if (value_domain(text + (below ? 2 : 0), name + 2) < 0) {
        place_error(at,
                    "\"%.80s\" is no destination; write ADDRESS, ADDRESS/LENGTH, a host name, or "
                    "*. and a name for all below it",
                    text);
        return false;
    }
    *out = loader_text(l, below ? name : name + 2);
    return *out != NULL;
}

static void read_destination(struct loader *l, const struct place *at, const char *text,
                             struct config_forward *out)
{
    struct address address;

    if (strchr(text, '/') || address_parse(text, &address) == 0)
        out->network_count += read_network(at, text, &out->networks[out->network_count]);
    else
        out->name_count += read_name(l, at, text, &out->names[out->name_count]);
}

static void read_allow(struct loader *l, const struct place *forward, const struct raw_forward *raw,
                       struct config_forward *out)
{
    struct place list = place_key(forward, "allow");

    out->networks = loader_array(l, raw->allow_count, sizeof(*out->networks));
    out->names = loader_array(l, raw->allow_count, sizeof(*out->names));
    for (unsigned i = 0; out->networks && out->names && i < raw->allow_count; i++) {
        struct place at = place_entry(&list, i);

        read_destination(l, &at, raw->allow[i], out);
    }
}

/* ---- name servers ---- */

/* They are asked by way of the host's own network: loopback addresses are good. */
static bool read_dns_server(const struct place *at, const char *text, struct endpoint *out)
{
    out->port = DNS_PORT;
    if (value_endpoint(text, out) < 0)
        place_error(at,
                    "\"%.80s\" is not a name server; write ADDRESS or ADDRESS:PORT, an IPv6 "
                    "address in brackets",
                    text);
    else if (address_is_unspecified(&out->address) || address_is_multicast(&out->address))
        place_error(at, "\"%.80s\" is no host's address; write a unicast address", text);
    else
        return true;
    return false;
}

static void read_dns_servers(struct loader *l, const struct place *forward,
                             const struct raw_forward *raw, struct config_forward *out)
{
    struct place list = place_key(forward, "dns_servers");
    char text[ENDPOINT_TEXT_BYTES];
    size_t length = 0;

    if (!raw->dns_servers_count)
        return;
    out->dns_servers = loader_array(l, raw->dns_servers_count, ENDPOINT_TEXT_BYTES);
    for (unsigned i = 0; out->dns_servers && i < raw->dns_servers_count; i++) {
        struct place at = place_entry(&list, i);
        struct endpoint server;

        if (read_dns_server(&at, raw->dns_servers[i], &server))
            length += (size_t)sprintf(out->dns_servers + length, "%s%s", length ? "," : "",
                                      endpoint_format(&server.address, server.port, text));
    }
}

void load_forward(struct loader *l)
{
    static const struct raw_forward absent;
    const struct raw_forward *raw = l->raw->forward_proxy;
    struct place at = place_key(&l->root, "forward_proxy");
    struct config_forward *out = &l->config->forward;

    out->enabled = raw != NULL;
    if (!raw)
        raw = &absent;
    read_allow(l, &at, raw, out);
    read_dns_servers(l, &at, raw, out);
    out->upstream.name = loader_text(l, "forward");
    upstream_read(l, &at, &raw->upstream, &out->upstream);
    /* There is no other server for a destination, and none that is watched. */
    out->upstream.retries = 0;
}
