#include "gateway/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

const char *transport_name(enum transport transport)
{
    static const char *const names[TRANSPORT_COUNT] = {
        [TRANSPORT_UDP] = "udp", [TRANSPORT_DTLS] = "dtls"};

    return names[transport];
}

bool address_is_multicast(const struct address *a)
{
    return address_is_v4(a) ? (a->bytes[12] & 0xf0) == 0xe0 : a->bytes[0] == 0xff;
}

bool address_is_link_local(const struct address *a)
{
    if (address_is_v4(a))
        return a->bytes[12] == 169 && a->bytes[13] == 254;
    return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

bool address_is_unspecified(const struct address *a)
{
    static const struct address any6 = {{0}};
    static const uint8_t any4[4] = {0};

    if (address_is_v4(a))
        return memcmp(a->bytes + 12, any4, 4) == 0;
    return address_equal(a, &any6);
}

bool address_in_subnet(const struct address *a, const struct address *subnet, unsigned prefix)
{
    bool v4 = address_is_v4(a);
    unsigned whole, rest;

    if (v4 != address_is_v4(subnet))
        return false;
    if (v4)
        prefix += 96;
    whole = prefix / 8;
    rest = prefix % 8;
    if (memcmp(a->bytes, subnet->bytes, whole) != 0)
        return false;
    return rest == 0 || ((a->bytes[whole] ^ subnet->bytes[whole]) >> (8 - rest)) == 0;
}

int address_parse(const char *text, struct address *out)
{
    uint8_t v4[4];

    if (inet_pton(AF_INET, text, v4) == 1) {
        *out = address_from_v4(v4);
        return 0;
    }
    return inet_pton(AF_INET6, text, out->bytes) == 1 ? 0 : -EINVAL;
}

const char *address_format(const struct address *a, char text[ENDPOINT_TEXT_BYTES])
{
    if (address_is_v4(a))
        inet_ntop(AF_INET, a->bytes + 12, text, ENDPOINT_TEXT_BYTES);
    else
        inet_ntop(AF_INET6, a->bytes, text, ENDPOINT_TEXT_BYTES);
    return text;
}

const char *endpoint_format(const struct address *a, uint16_t port, char text[ENDPOINT_TEXT_BYTES])
{
    char host[ENDPOINT_TEXT_BYTES];

    address_format(a, host);
    snprintf(text, ENDPOINT_TEXT_BYTES, address_is_v4(a) ? "%.45s:%u" : "[%.45s]:%u", host, port);
    return text;
}
