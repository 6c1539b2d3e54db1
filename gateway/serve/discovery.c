#include "gateway/serve/discovery.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "gateway/serve/representation.h"

#define FORMAT_LINK 40 /* application/link-format */

struct link {
    const char *host; /* of the configuration; NULL: any */
    const char *path;
    char ct[8]; /* "" when there is no content format */
    char *text; /* "</path>;ct=0" */
    size_t text_length;
};

/* One list for each worker: `filtered` is where an answer is put together. */
struct discovery {
    struct link *links;
    unsigned count;
    char *filtered; /* room for all links */
};

static int make_link(struct link *link, const struct config_route *route)
{
    int length;

    link->host = route->host;
    link->path = route->path;
    if (route->kind == CONFIG_ROUTE_RESPOND && route->respond.has_content_format)
        snprintf(link->ct, sizeof(link->ct), "%u", route->respond.content_format);
    length = asprintf(&link->text, "<%s>%s%s", route->path, link->ct[0] ? ";ct=" : "", link->ct);
    if (length < 0) {
        link->text = NULL;
        return -1;
    }
    link->text_length = (size_t)length;
    return 0;
}

struct discovery *discovery_create(const struct config *config)
{
    struct discovery *d = calloc(1, sizeof(*d));
    size_t total = 1;

    if (!d)
        return NULL;
    d->links = calloc(config->route_count + 1, sizeof(*d->links));
    if (!d->links)
        goto fail;
    for (unsigned i = 0; i < config->route_count; i++) {
        if (make_link(&d->links[i], &config->routes[i]) < 0)
            goto fail;
        d->count++;
        total += d->links[i].text_length + 1;
    }
    d->filtered = malloc(total);
    if (!d->filtered)
        goto fail;
    return d;
fail:
    discovery_destroy(d);
    return NULL;
}

void discovery_destroy(struct discovery *d)
{
    if (!d)
        return;
    for (unsigned i = 0; i < d->count; i++)
        free(d->links[i].text);
    free(d->links);
    free(d->filtered);
    free(d);
}

bool discovery_matches(const struct message *request)
{
    static const char *const segments[] = {".well-known", "core"};
    struct option_cursor cursor = option_cursor_at(request, SLOT_URI_PATH);
    struct option_view view;
    unsigned n = 0;

    if (!message_has(request, SLOT_URI_PATH) || request->first[SLOT_URI_PATH].length != 11)
        return false; /* every request comes by here: most leave at once */
    for (; option_next_same(&cursor, &view); n++)
        if (n >= 2 || view.length != strlen(segments[n]) ||
            memcmp(view.value, segments[n], view.length) != 0)
            return false;
    return n == 2;
}

/* RFC 6690 4.1: "name=value" or "name=prefix*". */
static bool value_matches(const char *value, const char *pattern, size_t length)
{
    size_t have = strlen(value);

    if (length && pattern[length - 1] == '*')
        return have >= length - 1 && memcmp(value, pattern, length - 1) == 0;
    return have == length && memcmp(value, pattern, length) == 0;
}

static bool passes(const struct link *link, const struct option_view *query)
{
    const char *text = (const char *)query->value;
    const char *equals = memchr(text, '=', query->length);
    size_t name = equals ? (size_t)(equals - text) : query->length;
    const char *pattern = equals ? equals + 1 : text + query->length;
    size_t length = query->length - (size_t)(pattern - text);

    if (name == 4 && memcmp(text, "href", 4) == 0)
        return value_matches(link->path, pattern, length);
    if (name == 2 && memcmp(text, "ct", 2) == 0)
        return link->ct[0] && value_matches(link->ct, pattern, length);
    return false; /* an attribute that no link of ours has */
}

static bool host_matches(const struct link *link, const struct message *msg)
{
    const struct option_view *host = &msg->first[SLOT_URI_HOST];

    if (!link->host)
        return true;
    return message_has(msg, SLOT_URI_HOST) && strlen(link->host) == host->length &&
           strncasecmp(link->host, (const char *)host->value, host->length) == 0;
}

static bool is_listed(const struct link *link, const struct message *msg)
{
    struct option_cursor cursor = option_cursor_at(msg, SLOT_URI_QUERY);
    struct option_view query;

    if (!host_matches(link, msg))
        return false;
    while (option_next_same(&cursor, &query))
        if (query.length && !passes(link, &query))
            return false;
    return true;
}

void discovery_serve(struct discovery *d, struct messaging *m, struct request *rq)
{
    struct representation r = {.has_content_format = true, .content_format = FORMAT_LINK};
    char *at = d->filtered;

    for (unsigned i = 0; i < d->count; i++) {
        if (!is_listed(&d->links[i], rq->message))
            continue;
        if (at != d->filtered)
            *at++ = ',';
        memcpy(at, d->links[i].text, d->links[i].text_length);
        at += d->links[i].text_length;
    }
    if (rq->multicast && at == d->filtered) { /* only who has something answers (RFC 7252 8.2) */
        m->counters->drop_multicast_error++;
        return;
    }
    r.payload = (const uint8_t *)d->filtered;
    r.length = (uint32_t)(at - d->filtered);
    representation_tag(&r);
    representation_serve(m, rq, &r);
}
