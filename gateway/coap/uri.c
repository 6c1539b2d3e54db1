#include "gateway/coap/uri.h"

#include <errno.h>
#include <strings.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int uri_decode(const char *text, size_t length, uint8_t *out)
{
    size_t n = 0;

    for (size_t i = 0; i < length; i++) {
        int high, low;

        if (text[i] != '%') {
            out[n++] = (uint8_t)text[i];
            continue;
        }
        if (length - i < 3)
            return -EINVAL;
        high = hex_digit(text[i + 1]);
        low = hex_digit(text[i + 2]);
        if (high < 0 || low < 0)
            return -EINVAL;
        out[n++] = (uint8_t)(high << 4 | low);
        i += 2;
    }
    return (int)n;
}

/* Printable ASCII without what RFC 3986 excludes everywhere, and whole %-escapes. */
static bool is_uri_text(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c <= ' ' || c >= 0x7f || strchr("\"<>\\^`{|}", c))
            return false;
        if (c != '%')
            continue;
        if (length - i < 3 || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0)
            return false;
        i += 2;
    }
    return true;
}

/* RFC 3986 3.1: a letter, then letters, digits, '+', '-' and '.'. */
static bool is_scheme(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        bool letter = (text[i] | 0x20) >= 'a' && (text[i] | 0x20) <= 'z';

        if (!letter && (i == 0 || !((text[i] >= '0' && text[i] <= '9') || text[i] == '+' ||
                                    text[i] == '-' || text[i] == '.')))
            return false;
    }
    return length > 0;
}

static int parse_scheme(const char **text, const char *end, struct uri *uri)
{
    static const struct {
        const char *prefix;
        enum uri_scheme scheme;
        uint16_t port;
    } schemes[] = {{"coap://", URI_COAP, COAP_PORT}, {"coaps://", URI_COAPS, COAPS_PORT}};
    const char *colon = memchr(*text, ':', (size_t)(end - *text));

    for (unsigned i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t length = strlen(schemes[i].prefix);

        if ((size_t)(end - *text) < length || strncasecmp(*text, schemes[i].prefix, length) != 0)
            continue;
        uri->scheme = schemes[i].scheme;
        uri->port = schemes[i].port;
        *text += length;
        return 0;
    }
    /* "http://x" is of another scheme, "coap:x" and "x" are broken. */
    if (colon && end - colon >= 3 && memcmp(colon, "://", 3) == 0 &&
        is_scheme(*text, (size_t)(colon - *text)))
        return -EPROTONOSUPPORT;
    return -EINVAL;
}

static int parse_port(const char *text, const char *end, struct uri *uri)
{
    uint32_t port = 0;

    if (text == end) /* "host:" is the default port (RFC 3986 3.2.3) */
        return 0;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        port = port * 10 + (uint32_t)(*text - '0');
        if (port > UINT16_MAX)
            return -EINVAL;
    }
    if (port == 0)
        return -EINVAL;
    uri->port = (uint16_t)port;
    return 0;
}

static int parse_literal(struct uri *uri, bool must)
{
    char text[ENDPOINT_TEXT_BYTES];

    uri->host_is_address = false;
    if (uri->host_length < sizeof(text)) {
        memcpy(text, uri->host, uri->host_length);
        text[uri->host_length] = 0;
        uri->host_is_address = address_parse(text, &uri->address) == 0;
    }
    if (must)
        return uri->host_is_address && memchr(uri->host, ':', uri->host_length) ? 0 : -EINVAL;
    return 0;
}

static int parse_authority(const char *text, const char *end, struct uri *uri)
{
    const char *host_end, *colon;
    bool bracketed;

    if (text >= end)
        return -EINVAL;
    bracketed = *text == '[';
    if (memchr(text, '@', (size_t)(end - text)))
        return -EINVAL;
    if (bracketed) {
        host_end = memchr(text, ']', (size_t)(end - text));
        if (!host_end)
            return -EINVAL;
        uri->host = text + 1;
        uri->host_length = (size_t)(host_end - uri->host);
        colon = host_end + 1;
        if (colon < end && *colon != ':')
            return -EINVAL;
    } else {
        colon = memchr(text, ':', (size_t)(end - text));
        if (!colon)
            colon = end;
        uri->host = text;
        uri->host_length = (size_t)(colon - text);
        if (memchr(uri->host, '[', uri->host_length) || memchr(uri->host, ']', uri->host_length))
            return -EINVAL;
    }
    if (uri->host_length == 0)
        return -EINVAL;
    if (parse_literal(uri, bracketed) < 0)
        return -EINVAL;
    return colon < end ? parse_port(colon + 1, end, uri) : 0;
}

int uri_parse(const char *text, size_t length, struct uri *uri)
{
    const char *end = text + length, *authority_end, *query;
    int err;

    memset(uri, 0, sizeof(*uri));
    err = parse_scheme(&text, end, uri);
    if (err)
        return err;
    if (!is_uri_text(text, (size_t)(end - text)) || memchr(text, '#', (size_t)(end - text)))
        return -EINVAL;
    for (authority_end = text; authority_end < end; authority_end++)
        if (*authority_end == '/' || *authority_end == '?')
            break;
    err = parse_authority(text, authority_end, uri);
    if (err)
        return err;
    text = authority_end;
    /* Square brackets stand around an IP literal and nowhere else (RFC 3986 3.2.2). */
    if (memchr(text, '[', (size_t)(end - text)) || memchr(text, ']', (size_t)(end - text)))
        return -EINVAL;
    query = memchr(text, '?', (size_t)(end - text));
    if (!query)
        query = end;
    if (text < query) {
        uri->path = text + 1;
        uri->path_length = (size_t)(query - uri->path);
    }
    if (query < end) {
        uri->query = query + 1;
        uri->query_length = (size_t)(end - uri->query);
    }
    return 0;
}
