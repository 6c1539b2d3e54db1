/* Routes: which path of which host goes to which upstream, or is answered here. */
#include <errno.h>
#include <limits.h>
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
    if (!raw->to)
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

static bool is_content_format(const struct place *at, const char *text, uint16_t *out)
{
    int err = value_content_format(text, out);

    if (err == -ERANGE)
        place_error(at, "\"%.80s\" is out of range; write 0 to 65535", text);
    else if (err)
        place_error(at,
                    "\"%.80s\" is no registered media type; write one such as text/plain, or its "
                    "number",
                    text);
    return !err;
}

/* Nothing that such a route has there would ever be asked. */
static void check_discovery(const struct place *route, const struct config_route *out)
{
    if (out->path && strcmp(out->path, DISCOVERY_PATH) == 0)
        key_error(route, "path",
                  "the gateway itself answers " DISCOVERY_PATH "; write another path");
}

static void read_respond(struct loader *l, const struct place *route, const struct raw_respond *raw,
                         struct config_route *out)
{
    static const struct quantity max_age = {"max_age", QUANTITY_TIME_S, 0, UINT32_MAX, 0};
    struct place at = place_key(route, "respond"), format = place_key(&at, "content_format");
    struct config_respond *respond = &out->respond;
    size_t length = strlen(raw->payload);

    out->kind = CONFIG_ROUTE_RESPOND;
    if (length > l->config->limits.body)
        key_error(&at, "payload", "has %zu bytes; write at most %u, or a larger limits.body",
                  length, l->config->limits.body);
    respond->payload = (uint8_t *)loader_text(l, raw->payload);
    respond->payload_length = respond->payload ? (uint32_t)length : 0;
    respond->has_content_format =
        raw->content_format &&
        is_content_format(&format, raw->content_format, &respond->content_format);
    respond->has_max_age = raw->max_age != NULL;
    respond->max_age_s = (uint32_t)quantity_read(&at, &max_age, raw->max_age);
    check_discovery(route, out);
}

static void read_formats(struct loader *l, const struct place *resources,
                         const struct raw_resources *raw, struct config_resources *out)
{
    struct place list = place_key(resources, "formats");

    out->formats = loader_array(l, raw->formats_count, sizeof(*out->formats));
    for (unsigned i = 0; out->formats && i < raw->formats_count; i++) {
        struct place at = place_entry(&list, i);
        uint16_t format;

        if (!is_content_format(&at, raw->formats[i], &format))
            continue;
        for (unsigned j = 0; j < out->format_count; j++)
            if (out->formats[j] == format)
                place_error(&at, "\"%.80s\" is there twice; remove one of them", raw->formats[i]);
        out->formats[out->format_count++] = format;
    }
}

static void read_resources(struct loader *l, const struct place *route,
                           const struct raw_resources *raw, struct config_route *out)
{
    static const struct quantity max = {"max", QUANTITY_COUNT, 1, 16777216, 10000};
    static const struct quantity size = {"size", QUANTITY_SIZE, UINT64_C(64) << 10,
                                         UINT64_C(256) << 30, UINT64_C(16) << 20};
    struct place at = place_key(route, "resources");
    struct config_resources *resources = &out->resources;

    out->kind = CONFIG_ROUTE_RESOURCES;
    resources->create = raw->create ? *raw->create : true;
    resources->max = (uint32_t)quantity_read(&at, &max, raw->max);
    resources->bytes = quantity_read(&at, &size, raw->size);
    read_formats(l, &at, raw, resources);
    check_discovery(route, out);
}

/* Whether the file is there is for the machine to say that runs it: dlopen() does. */
static void read_module(struct loader *l, const struct place *route, const struct raw_module *raw,
                        struct config_route *out)
{
    struct place at = place_key(route, "module");
    size_t length = strlen(raw->file);

    out->kind = CONFIG_ROUTE_MODULE;
    if (raw->file[0] != '/' || raw->file[length - 1] == '/' || length >= PATH_MAX)
        key_error(&at, "file",
                  "\"%.80s\" is not the absolute path of a file; write one of at most %d bytes, "
                  "such as /usr/lib/coapgw/modules/time.so",
                  raw->file, PATH_MAX - 1);
    out->module.file = loader_text(l, raw->file);
    out->module.options = loader_text(l, raw->options);
    check_discovery(route, out);
}

/* The one of its four keys that says what a route does, or the last of several; NULL: none. */
static const char *find_deed(const struct raw_route *raw, unsigned *count)
{
    const struct {
        const void *value;
        const char *key;
    } deeds[] = {{raw->to, "to"},
                 {raw->respond, "respond"},
                 {raw->resources, "resources"},
                 {raw->module, "module"}};
    const char *found = NULL;

    *count = 0;
    for (size_t i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++) {
        if (deeds[i].value) {
            found = deeds[i].key;
            ++*count;
        }
    }
    return found;
}

static void read_route(struct loader *l, const struct place *at, unsigned index)
{
    const struct raw_route *raw = &l->raw->routes[index];
    struct config_route *out = &l->config->routes[index];
    unsigned count;
    const char *deed = find_deed(raw, &count);

    read_host(l, at, raw->host, out);
    read_path(l, at, raw->path, out);
    if (!deed)
        place_error(at, "has none of to, respond, resources and module; add one of them");
    else if (count > 1)
        key_error(at, deed,
                  "a route has only one of to, respond, resources and module; remove the others");
    else if (raw->to)
        read_target(l, at, raw->to, out);
    else if (raw->respond)
        read_respond(l, at, raw->respond, out);
    else if (raw->resources)
        read_resources(l, at, raw->resources, out);
    else
        read_module(l, at, raw->module, out);
    if (deed)
        read_strip(at, raw, out);
    allow_read(l, at, raw, out);
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
