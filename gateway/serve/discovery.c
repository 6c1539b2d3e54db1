#include "gateway/serve/discovery.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "gateway/serve/access.h"
#include "gateway/serve/representation.h"

#define FORMAT_LINK_FORMAT 40 /* application/link-format */

/* Held resources that are looked at for one answer; one that is asked for by its whole path is
 * always found. */
#define RESOURCES_LOOKED_AT 4096

/* A list costs much more than its request: so many links are looked at in a second, and as many
 * more at once when it has been quiet. Beyond that the answer is 5.03. */
#define LOOKS_PER_SECOND 200000u
#define LOOKS_AT_ONCE    40000u

/* A list of so many links is longer than what a client gets that has not proven its address. */
#define LINKS_OF_THE_PROVEN 64

struct link {
    const struct config_route *route;
    const char *host; /* of the configuration; NULL: any */
    const char *path;
    bool holds; /* what lies there is held by the gateway: it may be listed as itself */
    bool obs;
    char ct[8]; /* "" when there is no content format */
    char *text; /* "</path>;ct=0"; NULL: it is put together when it is listed */
    size_t text_length;
};

/* One list for each worker: `filtered` is where an answer is put together. */
struct discovery {
    struct link *links;
    unsigned count;
    char *filtered; /* room for all links */
    uint64_t looks; /* left, in units of a second's share */
    uint64_t looks_us;
};

static int make_link(struct link *link, const struct config_route *route)
{
    int length;

    link->route = route;
    link->host = route->host;
    link->path = route->path;
    link->holds = route->kind == CONFIG_ROUTE_RESOURCES;
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
    struct option_cursor cursor;
    struct option_view view;
    unsigned n = 0;

    if (!message_has(request, SLOT_URI_PATH) || request->first[SLOT_URI_PATH].length != 11)
        return false; /* every request comes by here: most leave at once */
    cursor = option_cursor_at(request, SLOT_URI_PATH);
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
    if (name == 3 && memcmp(text, "obs", 3) == 0)
        return link->obs && !equals; /* RFC 7641 6: it has no value */
    return false;                    /* an attribute that no link of ours has */
}

static bool host_matches(const struct link *link, const struct message *msg)
{
    const struct option_view *host = &msg->first[SLOT_URI_HOST];

    if (!link->host)
        return true;
    return message_has(msg, SLOT_URI_HOST) && strlen(link->host) == host->length &&
           strncasecmp(link->host, (const char *)host->value, host->length) == 0;
}

/* What the client may not use it does not see. */
static bool is_listed(const struct link *link, const struct message *msg,
                      const struct principal *client)
{
    struct option_cursor cursor = option_cursor_at(msg, SLOT_URI_QUERY);
    struct option_view query;

    if (!host_matches(link, msg) ||
        (link->route->allow_count && access_refusal(link->route, client)))
        return false;
    while (option_next_same(&cursor, &query))
        if (query.length && !passes(link, &query))
            return false;
    return true;
}

/* ---- routes alone: fixed texts ---- */

static void serve_fixed(struct discovery *d, struct messaging *m, struct request *rq)
{
    struct representation r = {.has_content_format = true, .content_format = FORMAT_LINK_FORMAT};
    const struct principal *client = security_principal(m->security, &rq->session->flow);
    char *at = d->filtered;

    for (unsigned i = 0; i < d->count; i++) {
        if (!is_listed(&d->links[i], rq->message, client))
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

/* ---- with what the gateway holds ---- */

/* An answer that is being put together. */
struct listing {
    struct proxy *p;
    struct resources *resources;
    const struct message *msg;
    const struct principal *client;
    uint32_t content;
    bool full; /* the rest is left out */
};

/* All of a link or nothing: then the list ends. */
static void add_text(struct listing *l, const char *text, size_t length)
{
    const struct content *content = content_at(&l->p->contents, l->content);
    size_t comma = content->payload_length ? 1 : 0;

    if (l->full || content->payload_length + comma + length > l->p->m->config->limits.body ||
        !content_extend(&l->p->contents, l->content, ",", comma) ||
        !content_extend(&l->p->contents, l->content, text, length))
        l->full = true;
}

static void add_link(struct listing *l, const struct link *link)
{
    char text[RESOURCE_NAME_BYTES + 32], *at = text;

    if (link->text) {
        add_text(l, link->text, link->text_length);
        return;
    }
    *at++ = '<';
    at = mempcpy(at, link->path, strlen(link->path));
    *at++ = '>';
    if (link->obs)
        at = mempcpy(at, ";obs", 4);
    if (link->ct[0]) {
        at = mempcpy(at, ";ct=", 4);
        at = mempcpy(at, link->ct, strlen(link->ct));
    }
    add_text(l, text, (size_t)(at - text));
}

/* Without formatted printing: this is the packet path. */
static void write_number(char *out, int32_t number)
{
    char digits[12];
    unsigned n = 0;

    if (number >= 0)
        do
            digits[n++] = (char)('0' + number % 10);
        while (number /= 10);
    while (n)
        *out++ = digits[--n];
    *out = '\0';
}

static void add_resource(struct listing *l, const struct resource_link *from)
{
    struct link link = {.route = &l->p->m->config->routes[from->route],
                        .host = from->host,
                        .path = from->path,
                        .obs = true};

    write_number(link.ct, from->format);
    if (is_listed(&link, l->msg, l->client))
        add_link(l, &link);
}

static void add_routes(struct listing *l, const struct discovery *d)
{
    struct resource_link held;

    for (unsigned i = 0; i < d->count && !l->full; i++) {
        const struct link *link = &d->links[i];

        if (is_listed(link, l->msg, l->client) &&
            !(link->holds &&
              resources_lookup(l->resources, link->host, link->path, strlen(link->path), &held)))
            add_link(l, link);
    }
}

/* The path that a query asks for, false when there is none or it is only the beginning of one. */
static bool find_whole_path(const struct message *msg, struct option_view *path)
{
    struct option_cursor cursor = option_cursor_at(msg, SLOT_URI_QUERY);
    struct option_view query;

    while (option_next_same(&cursor, &query))
        if (query.length > 5 && memcmp(query.value, "href=", 5) == 0 &&
            query.value[query.length - 1] != '*') {
            path->value = query.value + 5;
            path->length = query.length - 5;
            return true;
        }
    return false;
}

/* False when too many links have been looked at lately. */
static bool take_looks(struct discovery *d, uint64_t now_us, uint32_t count)
{
    const uint64_t each = 1000000, most = LOOKS_AT_ONCE * each;
    uint64_t quiet_us = now_us - d->looks_us;

    if (quiet_us < most / LOOKS_PER_SECOND)
        d->looks += quiet_us * LOOKS_PER_SECOND;
    if (quiet_us >= most / LOOKS_PER_SECOND || d->looks > most)
        d->looks = most;
    d->looks_us = now_us;
    if (d->looks < count * each)
        return false;
    d->looks -= count * each;
    return true;
}

static void add_resources(struct listing *l)
{
    const struct option_view *host = &l->msg->first[SLOT_URI_HOST];
    uint32_t at = POOL_NONE, n = 0;
    struct resource_link link;
    struct option_view path;
    char lower[256] = "";

    if (!find_whole_path(l->msg, &path)) {
        while (!l->full && n++ < RESOURCES_LOOKED_AT && resources_next(l->resources, &at, &link))
            add_resource(l, &link);
        return;
    }
    if (resources_lookup(l->resources, NULL, (const char *)path.value, path.length, &link))
        add_resource(l, &link);
    if (!message_has(l->msg, SLOT_URI_HOST))
        return;
    for (unsigned i = 0; i < host->length; i++)
        lower[i] = (char)tolower(host->value[i]);
    if (resources_lookup(l->resources, lower, (const char *)path.value, path.length, &link))
        add_resource(l, &link);
}

static void answer(struct listing *l, struct local_request *rq)
{
    struct content *content = content_at(&l->p->contents, l->content);
    uint8_t refusal;

    content_tag(&l->p->contents, content);
    refusal = local_refusal(l->msg, FORMAT_LINK_FORMAT, &content->etag);
    if (refusal)
        local_code(l->p, rq, refusal, NULL);
    else if (rq->rq->multicast && content->payload_length == 0)
        l->p->m->counters->drop_multicast_error++;
    else
        local_deliver(l->p, rq, l->content, POOL_NONE);
}

static void list(struct discovery *d, struct listing *l, struct local_request *rq)
{
    const struct local_answer head = {
        .code = CODE_CONTENT, .format = FORMAT_LINK_FORMAT, .max_age_s = -1};

    l->content = local_content(l->p, &head);
    if (l->content == CONTENT_NONE) {
        local_code(l->p, rq, CODE_SERVICE_UNAVAILABLE, NULL);
        return;
    }
    add_routes(l, d);
    add_resources(l);
    answer(l, rq);
    content_release(&l->p->contents, l->content);
}

/* The list is made for this request, and kept for as long as the client fetches its blocks. */
static void serve_all(struct discovery *d, struct proxy *p, struct resources *r, struct request *rq)
{
    struct listing l = {.p = p,
                        .resources = r,
                        .msg = rq->message,
                        .client = security_principal(p->m->security, &rq->session->flow)};
    uint32_t looks = resources_count(r);
    struct local_request local;
    struct option_view path;

    if (looks > RESOURCES_LOOKED_AT)
        looks = RESOURCES_LOOKED_AT;
    if (find_whole_path(rq->message, &path))
        looks = 1;
    if (rq->message->code != CODE_GET) {
        local_not_allowed(p, rq);
        return;
    }
    if (!local_begin(p, rq, ROUTE_NONE, &local))
        return;
    local.observes = false;
    if (looks > LINKS_OF_THE_PROVEN && !rq->multicast &&
        reply_longest(p->m, rq->session, rq->message->length))
        reply_challenge(p->m, rq);
    else if (take_looks(d, p->m->now, looks))
        list(d, &l, &local);
    else
        local_code(p, &local, CODE_SERVICE_UNAVAILABLE, "too many lists at a time");
    local_release(p, &local);
}

void discovery_serve(struct discovery *d, struct proxy *p, struct resources *r, struct request *rq)
{
    if (resources_count(r))
        serve_all(d, p, r, rq);
    else
        serve_fixed(d, p->m, rq);
}
