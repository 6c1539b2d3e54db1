/* Routes: which path of which host goes to which upstream, or is answered here. */
#include <errno.h>
#include <stdlib.h>

#include "config/loader.h"
#include "config/quantity.h"
#include "config/value.h"

#define DISCOVERY_PATH "/.well-known/core"

static const char *const path_hints[] = {
    [PATH_NO_SLASH] = "does not start with a slash; write /...",
    [PATH_ESCAPE] = "has a % without two hexadecimal digits; write %25 for a percent sign",
    [PATH_CHARACTER] =
        "has a character that a path cannot have; write it as % and two hexadecimal digits",
    [PATH_EMPTY_SEGMENT] = "has two slashes in a row; write one",
    [PATH_DOT_SEGMENT] = "has a segment . or ..; write the path without it",
    [PATH_LONG_SEGMENT] = "has a segment of more than 255 bytes; write a shorter one",
};

/* ---- host and path ---- */

static void read_host(struct loader *l, const struct place *at, const char *text,
                      struct config_route *out)
{
    char host[VALUE_HOST_BYTES];

    if (!text)
        return;
    if (value_host(text, host) < 0)
        key_error(at, "host",
                  "\"%.80s\" is not a host; write a name or an IP address, without a port", text);
    else
        out->host = loader_text(l, host);
}

static void read_path(struct loader *l, const struct place *at, const char *text,
                      struct config_route *out)
{
    enum path_verdict verdict;
    char *path = loader_array(l, strlen(text) + 1, 1);

    if (!path)
        return;
    verdict = value_path(text, path);
    if (verdict == PATH_OK) {
        out->path = path;
        return;
    }
    key_error(at, "path", "\"%.80s\" %s", text, path_hints[verdict]);
    free(path);
}

/* ---- what a route does ---- */

/* Each segment begins with a slash; the root has none. */
static unsigned count_segments(const char *path)
{
    unsigned count = 0;

    for (const char *p = path; *p; p++)
        count += p[0] == '/' && p[1] != '\0';
    return count;
}

static void read_strip(const struct place *at, const struct raw_route *raw,
                       struct config_route *out)
{
    unsigned segments = out->path ? count_segments(out->path) : 0;

    if (!raw->strip)
        return;
    if (raw->respond && !raw->to)
        key_error(at, "strip", "only a route with to has it; remove it");
    else if (*raw->strip && segments > UINT8_MAX)
        key_error(at, "strip", "the path has %u segments; write one of at most %d, or false",
                  segments, UINT8_MAX);
    else if (*raw->strip)
        out->strip_segments = (uint8_t)segments;
}

static void read_target(struct loader *l, const struct place *at, const char *name,
                        struct config_route *out)
{
    out->kind = CONFIG_ROUTE_UPSTREAM;
    for (unsigned i = 0; i < l->raw->upstreams_count; i++) {
        if (strcmp(l->raw->upstreams[i].name, name) == 0) {
            out->upstream = i;
            return;
        }
    }
    if (l->raw->upstreams_count)
        key_error(at, "to", "no upstream is named \"%.80s\"; write the name of one, such as %.64s",
                  name, l->raw->upstreams[0].name);
    else
        key_error(at, "to", "no upstream is named \"%.80s\"; add it under upstreams", name);
}

static void read_content_format(const struct place *at, const char *text,
                                struct config_respond *out)
{
    int err = text ? value_content_format(text, &out->content_format) : -ENOENT;

    out->has_content_format = !err;
    if (err == -ERANGE)
        key_error(at, "content_format", "\"%.80s\" is out of range; write 0 to 65535", text);
    else if (err == -EINVAL)
        key_error(at, "content_format",
                  "\"%.80s\" is no registered media type; write one such as text/plain, or its "
                  "number",
                  text);
}

static void read_respond(struct loader *l, const struct place *route, const struct raw_respond *raw,
                         struct config_route *out)
{
    static const struct quantity max_age = {"max_age", QUANTITY_TIME_S, 0, UINT32_MAX, 0};
    struct place at = place_key(route, "respond");
    struct config_respond *respond = &out->respond;
    size_t length = strlen(raw->payload);

    out->kind = CONFIG_ROUTE_RESPOND;
    if (length > l->config->limits.body)
        key_error(&at, "payload", "has %zu bytes; write at most %u, or a larger limits.body",
                  length, l->config->limits.body);
    respond->payload = (uint8_t *)loader_text(l, raw->payload);
    respond->payload_length = respond->payload ? (uint32_t)length : 0;
    read_content_format(&at, raw->content_format, respond);
    respond->has_max_age = raw->max_age != NULL;
    respond->max_age_s = (uint32_t)quantity_read(&at, &max_age, raw->max_age);
    if (out->path && strcmp(out->path, DISCOVERY_PATH) == 0)
        key_error(route, "path",
                  "the gateway itself answers " DISCOVERY_PATH "; write another path");
}

static void read_route(struct loader *l, const struct place *at, unsigned index)
{
    const struct raw_route *raw = &l->raw->routes[index];
    struct config_route *out = &l->config->routes[index];

    read_host(l, at, raw->host, out);
    read_path(l, at, raw->path, out);
    if (raw->to && raw->respond)
        key_error(at, "respond", "a route has to or respond, not both; remove one of them");
    else if (raw->to)
        read_target(l, at, raw->to, out);
    else if (raw->respond)
        read_respond(l, at, raw->respond, out);
    else
        place_error(at, "has neither to nor respond; add one of them");
    read_strip(at, raw, out);
}

/* ---- duplicates ---- */

static int compare_text(const char *a, const char *b)
{
    return !a || !b ? (a != NULL) - (b != NULL) : strcmp(a, b);
}

/* By host and path; then by where they stand, so that the later one is the duplicate. */
static int compare_routes(const void *a, const void *b)
{
    const struct config_route *left = *(const struct config_route *const *)a;
    const struct config_route *right = *(const struct config_route *const *)b;
    int order = compare_text(left->host, right->host);

    if (order == 0)
        order = compare_text(left->path, right->path);
    return order ? order : left < right ? -1 : left > right;
}

static bool is_duplicate(const struct config_route *a, const struct config_route *b)
{
    return a->path && b->path && compare_text(a->host, b->host) == 0 &&
           strcmp(a->path, b->path) == 0;
}

/* Sorted, because there may be tens of thousands. */
static void check_duplicates(struct loader *l, const struct place *list)
{
    unsigned count = l->config->route_count;
    const struct config_route **sorted = loader_array(l, count, sizeof(void *));

    if (!sorted)
        return;
    for (unsigned i = 0; i < count; i++)
        sorted[i] = &l->config->routes[i];
    qsort(sorted, count, sizeof(void *), compare_routes);
    for (unsigned i = 1; i < count; i++) {
        struct place at = place_entry(list, (unsigned)(sorted[i] - l->config->routes));

        if (is_duplicate(sorted[i - 1], sorted[i]))
            key_error(&at, "path",
                      "\"%.80s\" with this host is also routes[%u]; remove one of them",
                      sorted[i]->path, (unsigned)(sorted[i - 1] - l->config->routes));
    }
    free(sorted);
}

void load_routes(struct loader *l)
{
    struct config *config = l->config;
    struct place list = place_key(&l->root, "routes");

    config->routes = loader_array(l, l->raw->routes_count, sizeof(*config->routes));
    if (!config->routes)
        return;
    config->route_count = l->raw->routes_count;
    for (unsigned i = 0; i < config->route_count; i++) {
        struct place at = place_entry(&list, i);

        read_route(l, &at, i);
    }
    check_duplicates(l, &list);
}
