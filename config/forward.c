/* The forward proxy: which destinations clients may name, and how those are talked to. */
#include <errno.h>

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

static void report_network(const struct place *at, const char *text, int err,
                           const struct config_address *network)
{
    int most = address_is_v4(&network->address) ? 32 : 128;

    if (err == -ERANGE)
        place_error(at, "\"%.80s\" has a prefix length out of range; write 0 to %d", text, most);
    else
        place_error(at, "\"%.80s\" is not a network; write ADDRESS/LENGTH, such as 10.1.0.0/16",
                    text);
}

/* A longer address would let its reader believe that less is allowed than is. */
static bool is_network(const struct place *at, const char *text,
                       const struct config_address *network)
{
    struct address first = first_address(network);
    char first_text[ENDPOINT_TEXT_BYTES];

    if (address_equal(&first, &network->address))
        return true;
    place_error(at, "\"%.80s\" has bits behind its prefix; write %s/%u", text,
                address_format(&first, first_text), network->prefix);
    return false;
}

static void read_network(const struct place *at, const char *text, struct config_forward *out)
{
    struct config_address *network = &out->networks[out->network_count];
    int err = value_prefix(text, network);

    if (err == -ENOENT) {
        network->prefix = address_is_v4(&network->address) ? 32 : 128;
        err = 0;
    }
    if (err) {
        report_network(at, text, err, network);
        return;
    }
    if (!is_network(at, text, network))
        return;
    for (unsigned i = 0; i < out->network_count; i++) {
        if (out->networks[i].prefix == network->prefix &&
            address_equal(&out->networks[i].address, &network->address)) {
            place_error(at, "\"%.80s\" is there twice; remove one of them", text);
            return;
        }
    }
    out->network_count++;
}

static void read_name(struct loader *l, const struct place *at, const char *text,
                      struct config_forward *out)
{
    char name[2 + VALUE_HOST_BYTES] = "*.";
    bool below = strncmp(text, name, 2) == 0;
    const char *whole = below ? name : name + 2;

    if (value_domain(text + (below ? 2 : 0), name + 2) < 0) {
        place_error(at,
                    "\"%.80s\" is no destination; write ADDRESS, ADDRESS/LENGTH, a host name, or "
                    "*. and a host name for all below it",
                    text);
        return;
    }
    for (unsigned i = 0; i < out->name_count; i++) {
        if (strcmp(out->names[i], whole) == 0) {
            place_error(at, "\"%.80s\" is there twice; remove one of them", text);
            return;
        }
    }
    out->names[out->name_count] = loader_text(l, whole);
    if (out->names[out->name_count])
        out->name_count++;
}

static void read_allow(struct loader *l, const struct place *forward, const struct raw_forward *raw,
                       struct config_forward *out)
{
    struct place list = place_key(forward, "allow");
    struct address address;

    out->networks = loader_array(l, raw->allow_count, sizeof(*out->networks));
    out->names = loader_array(l, raw->allow_count, sizeof(*out->names));
    for (unsigned i = 0; out->networks && out->names && i < raw->allow_count; i++) {
        struct place at = place_entry(&list, i);
        const char *text = raw->allow[i];

        if (strchr(text, '/') || address_parse(text, &address) == 0)
            read_network(&at, text, out);
        else
            read_name(l, &at, text, out);
    }
}

/* ---- name servers ---- */

/* They are asked over the machine's own network, where a loopback address is a good one. */
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
    size_t length = 0, room = (size_t)raw->dns_servers_count * ENDPOINT_TEXT_BYTES;
    char text[ENDPOINT_TEXT_BYTES];

    out->dns_servers = loader_array(l, raw->dns_servers_count, ENDPOINT_TEXT_BYTES);
    for (unsigned i = 0; out->dns_servers && i < raw->dns_servers_count; i++) {
        struct place at = place_entry(&list, i);
        struct endpoint server;

        if (read_dns_server(&at, raw->dns_servers[i], &server))
            length += (size_t)snprintf(out->dns_servers + length, room - length, "%s%s",
                                       length ? "," : "",
                                       endpoint_format(&server.address, server.port, text));
    }
}

/* Of coaps:// destinations. */
static void read_dtls(struct loader *l, const struct place *forward, const struct raw_forward *raw,
                      struct config_upstream *out)
{
    struct place at = place_key(forward, "dtls");

    if (!raw->upstream.dtls)
        return;
    out->dtls = dtls_upstream_read(l, forward, raw->upstream.dtls);
    if (raw->upstream.dtls->name)
        key_error(&at, "name", "a destination's is in the request that names it; remove it");
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
    read_dtls(l, &at, raw, &out->upstream);
    /* There is no other server for a destination. */
    out->upstream.retries = 0;
}
