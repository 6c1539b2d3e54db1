#include "gateway/control/admin_http.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gateway/net.h"

typedef void handler(struct ask *ask);

struct resource {
    const char *path; /* with a '/' at its end: and one segment behind it */
    handler *get, *put, *patch;
    const char *allow, *accepts; /* the media type of a body */
};

static const struct resource resources[] = {
    {"/metrics", admin_get_metrics, NULL, NULL, "GET, HEAD", NULL},
    {"/healthz", admin_get_health, NULL, NULL, "GET, HEAD", NULL},
    {"/readyz", admin_get_ready, NULL, NULL, "GET, HEAD", NULL},
    {"/sessions", admin_get_sessions, NULL, NULL, "GET, HEAD", NULL},
    {"/sessions/", admin_get_session, NULL, admin_patch_session, "GET, HEAD, PATCH",
     "application/json"},
    {"/relations", admin_get_relations, NULL, NULL, "GET, HEAD", NULL},
    {"/upstreams", admin_get_upstreams, NULL, NULL, "GET, HEAD", NULL},
    {"/store", admin_get_store, NULL, NULL, "GET, HEAD", NULL},
    {"/debug/packet-loss", admin_get_loss, admin_put_loss, NULL, "GET, HEAD, PUT", "text/plain"},
};

/* ---- replies ---- */

void ask_reply(struct ask *ask, unsigned status, const char *type, char *text, size_t length)
{
    free(ask->reply);
    ask->status = text ? status : MHD_HTTP_INTERNAL_SERVER_ERROR;
    ask->type = text ? type : "text/plain";
    ask->reply = text;
    ask->reply_length = text ? length : 0;
}

void ask_reply_json(struct ask *ask, unsigned status, json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL, *line;
    size_t length = text ? strlen(text) : 0;

    json_decref(value);
    line = text ? realloc(text, length + 2) : NULL;
    if (!line) {
        free(text);
        ask_reply(ask, status, NULL, NULL, 0);
        return;
    }
    memcpy(line + length, "\n", 2);
    ask_reply(ask, status, "application/json", line, length + 1);
}

char *ask_plain(char *text)
{
    for (char *c = text; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return text;
}

void ask_fail(struct ask *ask, unsigned status, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    ask_reply_json(ask, status, json_pack("{s:s}", "error", ask_plain(text)));
}

void ask_fail_worker(struct ask *ask, unsigned worker, int error)
{
    if (error == -ETIMEDOUT)
        ask_fail(ask, MHD_HTTP_GATEWAY_TIMEOUT, "worker %u does not answer", worker);
    else
        ask_fail(ask, MHD_HTTP_INTERNAL_SERVER_ERROR, "worker %u: %s", worker, strerror(-error));
}

/* ---- parameters ---- */

const char *ask_parameter(const struct ask *ask, const char *name)
{
    return MHD_lookup_connection_value(ask->connection, MHD_GET_ARGUMENT_KIND, name);
}

struct known {
    struct ask *ask;
    const char *const *names;
};

static enum MHD_Result check_parameter(void *context, enum MHD_ValueKind kind, const char *name,
                                       const char *value)
{
    const struct known *known = context;

    (void)kind;
    for (const char *const *n = known->names; *n; n++)
        if (strcmp(*n, name) == 0 && value && *value)
            return MHD_YES;
    ask_fail(known->ask, MHD_HTTP_BAD_REQUEST, "%.64s is no parameter here, or it has no value",
             name);
    return MHD_NO;
}

bool ask_knows(struct ask *ask, const char *const *names)
{
    struct known known = {ask, names};

    MHD_get_connection_values(ask->connection, MHD_GET_ARGUMENT_KIND, check_parameter, &known);
    return ask->status == 0;
}

bool ask_number(const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
    uint64_t value = 0;

    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > most / 10)
            return false;
        value = value * 10 + (uint64_t)(*text - '0');
    }
    *number = value;
    return value >= least && value <= most;
}

/* ---- checks ---- */

bool admin_host_is_local(const char *host)
{
    char name[ENDPOINT_TEXT_BYTES];
    const bool bracket = host[0] == '[';
    const size_t length = strcspn(host + bracket, bracket ? "]" : ":");
    const char *rest = host + bracket + length + (bracket && host[1 + length]);
    struct address address;
    uint64_t port;

    if (length == 0 || length >= sizeof(name) || (*rest && *rest != ':') ||
        (*rest && !ask_number(rest + 1, 1, UINT16_MAX, &port)))
        return false;
    memcpy(name, host + bracket, length);
    name[length] = 0;
    return (!bracket && strcasecmp(name, "localhost") == 0) || address_parse(name, &address) == 0;
}

static const char *header(const struct ask *ask, const char *name)
{
    return MHD_lookup_connection_value(ask->connection, MHD_HEADER_KIND, name);
}

/* Only on loopback: elsewhere the names that lead here are not known. */
static bool check_host(struct ask *ask)
{
    const char *host = header(ask, MHD_HTTP_HEADER_HOST);

    if (!ask->admin->loopback || !host || admin_host_is_local(host))
        return true;
    ask_fail(ask, MHD_HTTP_FORBIDDEN,
             "the Host header names another host; use localhost or an address");
    return false;
}

static const struct resource *find_resource(const char *path)
{
    for (size_t i = 0; i < sizeof(resources) / sizeof(resources[0]); i++) {
        const char *p = resources[i].path;
        const size_t length = strlen(p);

        if (strcmp(p, path) == 0 && p[length - 1] != '/')
            return &resources[i];
        if (p[length - 1] == '/' && strncmp(p, path, length) == 0 && path[length] &&
            !strchr(path + length, '/'))
            return &resources[i];
    }
    return NULL;
}

/* NULL: there is none. */
static handler *find_handler(const struct resource *r, const char *method)
{
    if (strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0)
        return r->get;
    if (strcmp(method, MHD_HTTP_METHOD_PUT) == 0)
        return r->put;
    if (strcmp(method, MHD_HTTP_METHOD_PATCH) == 0)
        return r->patch;
    return NULL;
}

/* True when a body is of the media type that is wanted, whatever its parameters, or says nothing.
 */
static bool check_type(struct ask *ask, const struct resource *r)
{
    const char *type = header(ask, MHD_HTTP_HEADER_CONTENT_TYPE);
    size_t length = type ? strcspn(type, "; \t") : 0;

    if (!type || (length == strlen(r->accepts) && strncasecmp(type, r->accepts, length) == 0))
        return true;
    ask_fail(ask, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "the body has to be %s", r->accepts);
    return false;
}

static void dispatch(struct ask *ask)
{
    const struct resource *r = find_resource(ask->path);
    handler *handle = r ? find_handler(r, ask->method) : NULL;

    if (!check_host(ask))
        return;
    if (!r) {
        ask_fail(ask, MHD_HTTP_NOT_FOUND, "there is no such resource");
        return;
    }
    if (!handle) {
        ask->allow = r->allow;
        ask_fail(ask, MHD_HTTP_METHOD_NOT_ALLOWED, "allowed here: %s", r->allow);
        return;
    }
    if (ask->body_length > ADMIN_BODY_BYTES) {
        ask_fail(ask, MHD_HTTP_CONTENT_TOO_LARGE, "a body may have %d bytes", ADMIN_BODY_BYTES);
        return;
    }
    if (handle != r->get && !check_type(ask, r))
        return;
    ask->deadline_us = mail_now_us() + ADMIN_PATIENCE_US;
    handle(ask);
}

/* ---- libmicrohttpd ---- */

static enum MHD_Result send_reply(struct ask *ask)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(ask->reply_length, ask->reply, MHD_RESPMEM_MUST_FREE);
    enum MHD_Result result;

    if (!response)
        return MHD_NO;
    ask->reply = NULL; /* the response's now */
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, ask->type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (ask->allow)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, ask->allow);
    result = MHD_queue_response(ask->connection, ask->status, response);
    MHD_destroy_response(response);
    return result;
}

/* The announced length of the body, where it is so long that it is not even read. */
static bool is_far_too_long(const struct ask *ask)
{
    const char *length = header(ask, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t n;

    return length && !ask_number(length, 0, ADMIN_DRAIN_BYTES, &n);
}

static enum MHD_Result take_body(struct ask *ask, const char *bytes, size_t length)
{
    if (ask->body_length + length > ADMIN_DRAIN_BYTES)
        return MHD_NO; /* closes the connection */
    if (ask->body_length + length <= ADMIN_BODY_BYTES)
        memcpy(ask->body + ask->body_length, bytes, length);
    ask->body_length += length;
    return MHD_YES;
}

static enum MHD_Result begin(struct admin *admin, struct MHD_Connection *connection,
                             const char *url, const char *method, void **state)
{
    struct ask *ask = calloc(1, sizeof(*ask));

    if (!ask)
        return MHD_NO;
    *state = ask;
    ask->admin = admin;
    ask->connection = connection;
    ask->path = url;
    ask->method = method;
    if (!is_far_too_long(ask))
        return MHD_YES;
    ask->body_length = ADMIN_DRAIN_BYTES;
    dispatch(ask);
    return send_reply(ask);
}

enum MHD_Result admin_handle(void *context, struct MHD_Connection *connection, const char *url,
                             const char *method, const char *version, const char *upload,
                             size_t *upload_bytes, void **state)
{
    struct ask *ask = *state;
    enum MHD_Result result;

    (void)version;
    if (!ask)
        return begin(context, connection, url, method, state);
    if (*upload_bytes) {
        result = take_body(ask, upload, *upload_bytes);
        *upload_bytes = 0;
        return result;
    }
    ask->path = url;
    ask->method = method;
    dispatch(ask);
    return send_reply(ask);
}

void admin_completed(void *context, struct MHD_Connection *connection, void **state,
                     enum MHD_RequestTerminationCode why)
{
    struct ask *ask = *state;

    (void)context;
    (void)connection;
    (void)why;
    if (!ask)
        return;
    free(ask->reply);
    free(ask);
    *state = NULL;
}
