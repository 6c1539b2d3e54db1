/* One table of edges: (node, segment) -> node. Each host has a root node; the path is walked
 * segment by segment, one look-up each, however many routes there are. */
#include "gateway/serve/router.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/coap/uri.h"
#include "gateway/hash.h"

#define NO_ROUTE (-1)
#define NO_NODE  UINT32_MAX

struct node {
    int here;       /* a route that serves this very path, or NO_ROUTE */
    int below;      /* a route that serves it and everything below, or NO_ROUTE */
    uint64_t marks; /* of the segments that lead on from here */
};

struct edge {
    uint32_t from, to; /* `to` is NO_NODE in a free slot */
    uint32_t length;
    uint8_t *segment;
};

struct router {
    const struct config *config;
    struct node *nodes;
    uint32_t node_count, node_room;
    struct edge *edges; /* open addressing */
    uint32_t edge_mask, edge_count;
    uint32_t any;       /* root of routes without a host */
    uint32_t *of_local; /* root of the host that is a local address's literal, or NO_NODE */
    uint32_t hosts;     /* node whose edges are host names */
};

/* Most segments that lead nowhere are told by this, without a look at the edges. */
static uint64_t mark_of(const uint8_t *segment, uint32_t length)
{
    return length ? UINT64_C(1) << ((segment[0] + 5u * segment[length - 1] + 11 * length) & 63) : 1;
}

static uint32_t edge_slot(const struct router *r, uint32_t from, const uint8_t *segment,
                          uint32_t length)
{
    return (uint32_t)hash_bytes(segment, length, from) & r->edge_mask;
}

/* The slot that holds the edge, or the free one where it would be. */
static struct edge *edge_find(const struct router *r, uint32_t from, const uint8_t *segment,
                              uint32_t length)
{
    uint32_t slot = edge_slot(r, from, segment, length);

    for (;; slot = (slot + 1) & r->edge_mask) {
        struct edge *e = &r->edges[slot];

        if (e->to == NO_NODE || (e->from == from && e->length == length &&
                                 (length == 0 || memcmp(e->segment, segment, length) == 0)))
            return e;
    }
}

static uint32_t step(const struct router *r, uint32_t from, const uint8_t *segment, uint32_t length)
{
    return edge_find(r, from, segment, length)->to;
}

/* ---- building ---- */

static uint32_t node_add(struct router *r)
{
    r->nodes[r->node_count] = (struct node){.here = NO_ROUTE, .below = NO_ROUTE};
    return r->node_count++;
}

/* The node behind an edge, made when it is not there. NO_NODE when memory is short. */
static uint32_t grow(struct router *r, uint32_t from, const uint8_t *segment, uint32_t length)
{
    struct edge *e = edge_find(r, from, segment, length);

    if (e->to != NO_NODE)
        return e->to;
    e->segment = malloc(length + 1);
    if (!e->segment)
        return NO_NODE;
    if (length)
        memcpy(e->segment, segment, length);
    e->from = from;
    e->length = length;
    e->to = node_add(r);
    r->nodes[from].marks |= mark_of(segment, length);
    r->edge_count++;
    return e->to;
}

static uint32_t grow_path(struct router *r, uint32_t node, const char *path)
{
    /* The configuration has normalised it: "/" or "/a/b". */
    while (node != NO_NODE && path[0] == '/' && path[1]) {
        size_t length = strcspn(++path, "/");
        uint8_t *bytes = malloc(length + 1);
        int decoded = bytes ? uri_decode(path, length, bytes) : -ENOMEM;

        node = decoded < 0 ? NO_NODE : grow(r, node, bytes, (uint32_t)decoded);
        free(bytes);
        path += length;
    }
    return node;
}

static int add_route(struct router *r, unsigned index)
{
    const struct config_route *route = &r->config->routes[index];
    uint32_t node = r->any;

    if (route->host)
        node = grow(r, r->hosts, (const uint8_t *)route->host, (uint32_t)strlen(route->host));
    if (node != NO_NODE)
        node = grow_path(r, node, route->path);
    if (node == NO_NODE)
        return -1;
    if (route->kind == CONFIG_ROUTE_RESPOND)
        r->nodes[node].here = (int)index;
    else
        r->nodes[node].below = (int)index;
    return 0;
}

/* An upper bound of nodes: one for each '/' and host, and the two roots. */
static uint32_t count_nodes(const struct config *config)
{
    uint32_t count = 2;

    for (unsigned i = 0; i < config->route_count; i++) {
        count += 2;
        for (const char *p = config->routes[i].path; *p; p++)
            count += *p == '/';
    }
    return count;
}

static void find_local_hosts(struct router *r)
{
    char text[ENDPOINT_TEXT_BYTES];

    for (unsigned i = 0; i < r->config->local_count; i++) {
        address_format(&r->config->locals[i].address, text);
        r->of_local[i] = step(r, r->hosts, (const uint8_t *)text, (uint32_t)strlen(text));
    }
}

struct router *router_create(const struct config *config)
{
    struct router *r = calloc(1, sizeof(*r));
    uint32_t edges = 16;

    if (!r)
        return NULL;
    r->config = config;
    r->node_room = count_nodes(config);
    while (edges < r->node_room * 2)
        edges *= 2;
    r->edge_mask = edges - 1;
    r->nodes = calloc(r->node_room, sizeof(*r->nodes));
    r->edges = calloc(edges, sizeof(*r->edges));
    r->of_local = calloc(config->local_count + 1, sizeof(*r->of_local));
    if (!r->nodes || !r->edges || !r->of_local)
        goto fail;
    for (uint32_t i = 0; i < edges; i++)
        r->edges[i].to = NO_NODE;
    r->hosts = node_add(r);
    r->any = node_add(r);
    for (unsigned i = 0; i < config->route_count; i++)
        if (add_route(r, i) < 0)
            goto fail;
    find_local_hosts(r);
    return r;
fail:
    router_destroy(r);
    return NULL;
}

void router_destroy(struct router *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; r->edges && i <= r->edge_mask; i++)
        free(r->edges[i].segment);
    free(r->edges);
    free(r->nodes);
    free(r->of_local);
    free(r);
}

/* ---- finding ---- */

static int walk(const struct router *r, uint32_t node, const struct message *request)
{
    struct option_cursor cursor = option_cursor_at(request, SLOT_URI_PATH);
    struct option_view segment;
    int best = NO_ROUTE;

    for (;;) {
        if (r->nodes[node].below != NO_ROUTE)
            best = r->nodes[node].below;
        if (!option_next_same(&cursor, &segment))
            break;
        if (!(r->nodes[node].marks & mark_of(segment.value, segment.length)))
            return best;
        node = step(r, node, segment.value, segment.length);
        if (node == NO_NODE)
            return best;
    }
    return r->nodes[node].here != NO_ROUTE ? r->nodes[node].here : best;
}

static uint32_t host_root(const struct router *r, const struct message *request, uint16_t local)
{
    const struct option_view *host = &request->first[SLOT_URI_HOST];
    uint8_t lower[255];

    if (!message_has(request, SLOT_URI_HOST))
        return r->of_local[local];
    for (unsigned i = 0; i < host->length; i++) {
        uint8_t c = host->value[i];

        lower[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
    }
    return step(r, r->hosts, lower, host->length);
}

int router_find(const struct router *r, const struct message *request, uint16_t local)
{
    uint32_t root = host_root(r, request, local);
    int route = root == NO_NODE ? NO_ROUTE : walk(r, root, request);

    return route == NO_ROUTE ? walk(r, r->any, request) : route;
}

/* ---- remembering ---- */

/* Unequal bytes give unequal words, for one length: hash_tail() loses nothing. */
static void pack_options(const struct message *request, uint64_t words[ROUTER_MEMORY_BYTES / 8])
{
    const uint8_t *at = request->options;
    size_t left = request->options_length;

    for (unsigned i = 0; i < ROUTER_MEMORY_BYTES / 8; i++) {
        words[i] = 0;
        if (left >= 8) {
            memcpy(&words[i], at, 8);
            left -= 8;
            at += 8;
        } else if (left) {
            words[i] = hash_tail(at, left);
            left = 0;
        }
    }
}

/* True when no segment leads on from the root: what serves all is the route, without a search. */
static bool is_at_root(const struct router *r, const struct message *request, uint16_t local)
{
    const struct option_view *first = &request->first[SLOT_URI_PATH];

    return message_has(request, SLOT_URI_PATH) && !message_has(request, SLOT_URI_HOST) &&
           r->of_local[local] == NO_NODE &&
           !(r->nodes[r->any].marks & mark_of(first->value, first->length));
}

int router_recall(const struct router *r, struct router_memory *memory,
                  const struct message *request, uint16_t local)
{
    uint16_t length = request->options_length;
    struct router_memory_entry *e;
    uint64_t words[ROUTER_MEMORY_BYTES / 8];

    if (length == 0 || length > ROUTER_MEMORY_BYTES)
        return router_find(r, request, local);
    pack_options(request, words);
    e = &memory
             ->entries[hash_mix(words[0] ^ local, words[1] + 3 * words[2]) % ROUTER_MEMORY_ENTRIES];
    if (((e->options[0] ^ words[0]) | (e->options[1] ^ words[1]) | (e->options[2] ^ words[2])) ||
        e->length != length || e->local != local) {
        if (is_at_root(r, request, local)) /* as cheap to find again: it takes no place */
            return r->nodes[r->any].below;
        memcpy(e->options, words, sizeof(words));
        e->length = length;
        e->local = local;
        e->route = router_find(r, request, local);
    }
    return e->route;
}
