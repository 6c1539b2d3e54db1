/* The URL of Redis, taken apart. What is wrong is said without a word of it: there may be a
 * password anywhere in what could not be understood. */
#include "config/store_url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/place.h"
#include "config/value.h"
#include "gateway/coap/uri.h"

#define REDIS_PORT      6379
#define DATABASE_MAX    2147483647 /* what Redis itself can be configured for */
#define SOCKET_PATH_MAX 107        /* sizeof(sun_path) - 1 */

#define UNIX_URL_SHOWN "unix:///PATH[?db=N]"

static const char out_of_memory[] = "cannot be loaded: out of memory; free some";

/* ---- pieces ---- */

/* Decodes the escapes of `length` bytes into a new text; NULL stays NULL when there are none. A
 * text ends with a zero byte, so it cannot hold one. */
static const char *take_part(const char *text, size_t length, char **out)
{
    char *decoded;
    int bytes;

    if (length == 0)
        return NULL;
    decoded = calloc(1, length + 1);
    if (!decoded)
        return out_of_memory;
    *out = decoded; /* freed with the configuration */
    bytes = uri_decode(text, length, (uint8_t *)decoded);
    if (bytes < 0)
        return "has a % without two hexadecimal digits; write %25 for a percent sign";
    decoded[bytes] = '\0';
    if (memchr(decoded, 0, (size_t)bytes))
        return "has a zero byte; remove %00";
    return NULL;
}

static const char *take_database(const char *text, size_t length, unsigned *out)
{
    char digits[16] = "";
    uint64_t number;

    if (length < sizeof(digits))
        memcpy(digits, text, length);
    if (value_count(digits, &number) < 0 || number > DATABASE_MAX)
        return "has no database number where one should be; write 0 to 2147483647";
    *out = (unsigned)number;
    return NULL;
}

/* ---- redis:// ---- */

static const char *take_user(const char *text, size_t length, struct config_store *out)
{
    const char *colon = memchr(text, ':', length);
    size_t user = colon ? (size_t)(colon - text) : length;
    const char *wrong = take_part(text, user, &out->username);

    if (!wrong && colon)
        wrong = take_part(colon + 1, length - user - 1, &out->password);
    if (!wrong && ((out->username && strlen(out->username) > STORE_CREDENTIAL_MAX) ||
                   (out->password && strlen(out->password) > STORE_CREDENTIAL_MAX)))
        wrong = "has a user or password of more than 1024 bytes; write a shorter one";
    return wrong;
}

static const char *take_host(const char *text, size_t length, struct config_store *out)
{
    static const char wrong[] =
        "has no host name or IP address; write " REDIS_URL_SHOWN ", an IPv6 address in brackets";
    char given[VALUE_HOST_BYTES], host[VALUE_HOST_BYTES];
    struct address address;

    if (length >= sizeof(given))
        return wrong;
    memcpy(given, text, length);
    given[length] = '\0';
    if (given[0] == '[' || address_parse(given, &address) == 0) {
        if (value_host(given, host) < 0 || address_parse(host, &address) < 0)
            return wrong;
        if (address_is_unspecified(&address) || address_is_multicast(&address))
            return "has an address that is no host's; write a unicast address";
    } else if (value_domain(given, host) < 0) {
        return wrong;
    }
    out->host = strdup(host);
    return out->host ? NULL : out_of_memory;
}

static const char *take_port(const char *text, size_t length, uint16_t *out)
{
    char digits[8] = "";
    uint64_t port;

    if (length < sizeof(digits))
        memcpy(digits, text, length);
    if (value_count(digits, &port) < 0 || port < 1 || port > UINT16_MAX)
        return "has no port from 1 to 65535 behind its host; write " REDIS_URL_SHOWN;
    *out = (uint16_t)port;
    return NULL;
}

/* "[USER:PASSWORD@]HOST[:PORT]" */
static const char *take_authority(const char *text, size_t length, struct config_store *out)
{
    const char *at = memrchr(text, '@', length), *end = text + length, *colon;
    const char *wrong = at ? take_user(text, (size_t)(at - text), out) : NULL;
    size_t host;

    if (wrong)
        return wrong;
    text = at ? at + 1 : text;
    colon = text[0] == '[' ? memchr(text, ']', (size_t)(end - text)) : text;
    colon = colon ? memchr(colon, ':', (size_t)(end - colon)) : NULL;
    host = (size_t)((colon ? colon : end) - text);
    out->port = REDIS_PORT;
    wrong = take_host(text, host, out);
    return wrong || !colon ? wrong : take_port(colon + 1, (size_t)(end - colon - 1), &out->port);
}

static const char *take_tcp(const char *text, struct config_store *out)
{
    size_t authority = strcspn(text, "/?#");
    const char *tail = text + authority, *wrong;

    out->kind = CONFIG_STORE_TCP;
    if (strchr(tail, '@'))
        return "has a /, ? or # in its user or password; write %2F, %3F or %23 for it";
    wrong = take_authority(text, authority, out);
    if (wrong || tail[0] == '\0')
        return wrong;
    if (tail[0] != '/' || strpbrk(tail, "?#"))
        return "has a query or a fragment; write " REDIS_URL_SHOWN;
    return tail[1] ? take_database(tail + 1, strlen(tail + 1), &out->database) : NULL;
}

/* ---- unix:// ---- */

static const char *take_unix(const char *text, struct config_store *out)
{
    size_t path = strcspn(text, "?");
    const char *wrong;

    out->kind = CONFIG_STORE_UNIX;
    if (text[0] != '/')
        return "has no absolute path; write " UNIX_URL_SHOWN " with three slashes";
    wrong = take_part(text, path, &out->path);
    if (wrong)
        return wrong;
    if (strlen(out->path) > SOCKET_PATH_MAX || text[path - 1] == '/')
        return "has no path of a socket; write one of at most 107 bytes";
    if (text[path] == '\0')
        return NULL;
    if (strncmp(text + path, "?db=", 4) != 0)
        return "has another query than db; write " UNIX_URL_SHOWN
               ", and user and password as username and password_file";
    return take_database(text + path + 4, strlen(text + path + 4), &out->database);
}

const char *store_url_take(const char *url, struct config_store *out)
{
    if (strncasecmp(url, "redis://", 8) == 0)
        return take_tcp(url + 8, out);
    if (strncasecmp(url, "unix://", 7) == 0)
        return take_unix(url + 7, out);
    if (strncasecmp(url, "rediss://", 9) == 0)
        return "asks for TLS, and this hiredis has no TLS; write " REDIS_URL_SHOWN
               " with the address of a tunnel, such as stunnel, that speaks TLS to the server";
    return "is no URL of Redis; write " REDIS_URL_SHOWN " or " UNIX_URL_SHOWN;
}
