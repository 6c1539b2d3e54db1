/* The forward proxy (RFC 7252 5.7.2): requests that say themselves where they go. Nothing is
 * allowed but what the configuration lists, and never the gateway's own addresses, loopback, or
 * what is local to a link. Names are resolved on the control side; requests wait meanwhile. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <strings.h>

#include "gateway/coap/uri.h"
#include "gateway/hash.h"
#include "gateway/local.h"
#include "gateway/proxy/proxy.h"

#define BY_AGE     offsetof(struct destination, by_age)
#define NAME_BYTES 255 /* Uri-Host */
#define SECOND_US  UINT64_C(1000000)

enum destination_state {
    DESTINATION_UNKNOWN, /* a name whose addresses are not known, or not any more */
    DESTINATION_RESOLVING,
    DESTINATION_READY,
};

/* One host and port. Its server is at the same position behind those of the configuration. */
struct destination {
    struct links by_age;
    uint32_t next; /* in the chain of its hash, index + 1 */
    uint64_t hash;
    uint64_t until_us;      /* READY: how long the address is good */
    struct address address; /* of a literal */
    uint16_t port;
    uint8_t state;
    uint8_t name_length; /* 0: a literal */
    char name[NAME_BYTES];
};

/* What was asked of the resolver about a position: an answer may come when it is another's. */
struct question {
    uint16_t n;
    bool open;
};

struct destinations {
    struct pool pool;
    struct question *questions; /* by position */
    struct list age;            /* least recently used first */
    uint32_t *heads;            /* index + 1 */
    uint32_t mask;
    const char **own_names; /* hosts of routes, sorted */
    unsigned own_count;
};

/* ---- start and end ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int list_own_names(struct destinations *d, const struct config *config)
{
    d->own_names = calloc(config->route_count + 1, sizeof(*d->own_names));
    if (!d->own_names)
        return -ENOMEM;
    for (unsigned i = 0; i < config->route_count; i++)
        if (config->routes[i].host)
            d->own_names[d->own_count++] = config->routes[i].host;
    qsort(d->own_names, d->own_count, sizeof(*d->own_names), compare_names);
    return 0;
}

int forward_init(struct proxy *p)
{
    const struct config *config = p->m->config;
    uint32_t count = config->limits.destinations, heads = 16;
    struct destinations *d;
    int err;

    if (!config->forward.enabled)
        return 0;
    d = p->destinations = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    while (heads < count)
        heads *= 2;
    d->mask = heads - 1;
    d->age = LIST_NONE;
    d->heads = calloc(heads, sizeof(*d->heads));
    d->questions = calloc(count, sizeof(*d->questions));
    err = d->heads && d->questions ? list_own_names(d, config) : -ENOMEM;
    return err ? err : pool_init(&d->pool, sizeof(struct destination), count);
}

void forward_fini(struct proxy *p)
{
    struct destinations *d = p->destinations;

    if (!d)
        return;
    pool_fini(&d->pool);
    free(d->own_names);
    free(d->questions);
    free(d->heads);
    free(d);
    p->destinations = NULL;
}

uint32_t proxy_destinations(const struct proxy *p)
{
    return p->destinations ? pool_used(&p->destinations->pool) : 0;
}

/* ---- what is allowed ---- */

static bool is_own_address(const struct proxy *p, const struct address *a)
{
    for (unsigned i = 0; i < p->m->config->local_count; i++)
        if (address_equal(&p->m->config->locals[i].address, a))
            return true;
    return false;
}

static bool is_listener(const struct proxy *p, const struct address *a, uint16_t port)
{
    for (unsigned i = 0; i < p->m->config->listener_count; i++) {
        const struct config_listener *l = &p->m->config->listeners[i];

        if (l->port == port && address_equal(&p->m->config->locals[l->local].address, a))
            return true;
    }
    return false;
}

/* Where no request may ever go, whatever is listed. */
static bool is_forbidden(const struct proxy *p, const struct address *a)
{
    static const struct address loopback6 = {{[15] = 1}};

    if (address_is_multicast(a) || address_is_link_local(a) || address_is_unspecified(a) ||
        address_equal(a, &loopback6) || is_own_address(p, a))
        return true;
    /* 0/8 and 127/8 are this host, 240/4 is reserved and ends in the broadcast address. */
    return address_is_v4(a) && (a->bytes[12] == 0 || a->bytes[12] == 127 || a->bytes[12] >= 240);
}

static bool is_listed_address(const struct config_forward *config, const struct address *a)
{
    for (unsigned i = 0; i < config->network_count; i++)
        if (address_in_subnet(a, &config->networks[i].address, config->networks[i].prefix))
            return true;
    return false;
}

static bool is_listed_name(const struct config_forward *config, const char *name, size_t length)
{
    for (unsigned i = 0; i < config->name_count; i++) {
        const char *listed = config->names[i];
        size_t own = strlen(listed);

        if (own == length && memcmp(listed, name, length) == 0)
            return true;
        /* "*.example.org": something in front of ".example.org" */
        if (listed[0] == '*' && length > own - 1 &&
            memcmp(name + length - (own - 1), listed + 1, own - 1) == 0)
            return true;
    }
    return false;
}

static bool is_own_name(const struct destinations *d, const char *name)
{
    return d->own_count &&
           bsearch(&name, d->own_names, d->own_count, sizeof(*d->own_names), compare_names) != NULL;
}

/* ---- reading ---- */

/* Where a request says it goes. */
struct aim {
    char name[NAME_BYTES + 1]; /* lower case, without a dot at the end; "" for a literal */
    size_t name_length;
    bool is_literal;
    struct address address;
    uint16_t port;
    struct uri uri; /* of Proxy-Uri */
    bool has_uri;
};

/* "mailto:", "http://": any scheme but ours is one that is not supported (5.05). */
static bool has_other_scheme(const char *text, size_t length)
{
    size_t n = 0;

    while (n < length && text[n] != ':' && text[n] != '/' && text[n] != '?')
        n++;
    if (n == 0 || n == length || text[n] != ':')
        return false;
    return !(n == 4 && strncasecmp(text, "coap", 4) == 0);
}

static uint8_t aim_at_host(struct aim *aim, const uint8_t *host, size_t length)
{
    char text[ENDPOINT_TEXT_BYTES];

    if (length == 0 || length > NAME_BYTES)
        return CODE_BAD_REQUEST;
    if (length < sizeof(text)) {
        memcpy(text, host, length);
        text[length] = '\0';
        if (text[0] == '[' && text[length - 1] == ']') {
            text[length - 1] = '\0';
            memmove(text, text + 1, length - 1);
        }
        aim->is_literal = address_parse(text, &aim->address) == 0;
    }
    if (aim->is_literal)
        return 0;
    if (length > 1 && host[length - 1] == '.')
        length--;
    for (size_t i = 0; i < length; i++) {
        if (host[i] <= ' ' || host[i] >= 0x7f)
            return CODE_BAD_REQUEST; /* no name that a resolver knows */
        aim->name[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] | 0x20 : host[i]);
    }
    aim->name[length] = '\0';
    aim->name_length = length;
    return 0;
}

static uint8_t aim_by_uri(struct aim *aim, const struct option_view *view)
{
    const char *text = (const char *)view->value;
    uint8_t host[NAME_BYTES];
    int length, err;

    if (has_other_scheme(text, view->length))
        return CODE_PROXYING_NOT_SUPPORTED;
    err = uri_parse(text, view->length, &aim->uri);
    if (err == -EPROTONOSUPPORT)
        return CODE_PROXYING_NOT_SUPPORTED;
    if (err || aim->uri.host_length > sizeof(host))
        return CODE_BAD_REQUEST;
    if (aim->uri.scheme != URI_COAP)
        return CODE_PROXYING_NOT_SUPPORTED;
    aim->has_uri = true;
    aim->port = aim->uri.port;
    if (aim->uri.host_is_address) {
        aim->is_literal = true;
        aim->address = aim->uri.address;
        return 0;
    }
    length = uri_decode(aim->uri.host, aim->uri.host_length, host);
    return length < 0 ? CODE_BAD_REQUEST : aim_at_host(aim, host, (size_t)length);
}

static uint8_t aim_by_scheme(struct aim *aim, const struct message *msg)
{
    const struct option_view *scheme = &msg->first[SLOT_PROXY_SCHEME];
    const struct option_view *host = &msg->first[SLOT_URI_HOST];

    if (scheme->length != 4 || strncasecmp((const char *)scheme->value, "coap", 4) != 0)
        return CODE_PROXYING_NOT_SUPPORTED;
    if (!message_has(msg, SLOT_URI_HOST))
        return CODE_BAD_OPTION;
    aim->port = (uint16_t)message_uint(msg, SLOT_URI_PORT, COAP_PORT);
    if (aim->port == 0)
        return CODE_BAD_REQUEST;
    return aim_at_host(aim, host->value, host->length);
}

/* ---- rewriting ---- */

static void put_segments(struct encoder *e, uint16_t number, const char *text, size_t length,
                         char separator)
{
    const char *end = text + length;

    while (text <= end) {
        const char *next = memchr(text, separator, (size_t)(end - text));
        uint8_t bytes[1034];
        int decoded;

        if (!next)
            next = end;
        decoded = uri_decode(text, (size_t)(next - text), bytes);
        if (decoded < 0 || decoded > 255)
            e->failed = true;
        else
            encoder_option(e, number, bytes, (size_t)decoded);
        text = next + 1;
    }
}

/* Options of the URI up to `number`, each once. */
static void put_uri_up_to(struct encoder *e, const struct aim *aim, unsigned *done, uint32_t number)
{
    if (!(*done & 1) && number >= OPTION_URI_HOST) {
        *done |= 1;
        if (!aim->is_literal)
            encoder_option(e, OPTION_URI_HOST, aim->name, aim->name_length);
    }
    if (!aim->has_uri)
        return;
    if (!(*done & 2) && number >= OPTION_URI_PATH) {
        *done |= 2;
        if (aim->uri.path_length)
            put_segments(e, OPTION_URI_PATH, aim->uri.path, aim->uri.path_length, '/');
    }
    if (!(*done & 4) && number >= OPTION_URI_QUERY) {
        *done |= 4;
        if (aim->uri.query_length)
            put_segments(e, OPTION_URI_QUERY, aim->uri.query, aim->uri.query_length, '&');
    }
}

/* Proxy-Uri takes precedence over all Uri-* options (RFC 7252 5.10.2). */
static bool is_replaced(const struct aim *aim, uint16_t number)
{
    switch (number) {
    case OPTION_URI_HOST:
    case OPTION_URI_PORT:
    case OPTION_PROXY_URI:
    case OPTION_PROXY_SCHEME:
        return true;
    case OPTION_URI_PATH:
    case OPTION_URI_QUERY:
        return aim->has_uri;
    default:
        return false;
    }
}

/* The request as one to the host itself. A code when it cannot be made. */
static uint8_t rewrite(struct proxy *p, const struct message *msg, const struct aim *aim,
                       struct message *out)
{
    struct option_cursor cursor = option_cursor(msg);
    struct option_view view;
    struct encoder e;
    unsigned done = 0;

    encoder_begin(&e, p->rewritten, sizeof(p->rewritten), msg->type, msg->code, msg->mid,
                  msg->token, msg->token_length);
    while (option_next(&cursor, &view)) {
        put_uri_up_to(&e, aim, &done, cursor.number);
        if (!is_replaced(aim, cursor.number))
            encoder_option(&e, cursor.number, view.value, view.length);
    }
    put_uri_up_to(&e, aim, &done, UINT16_MAX);
    encoder_payload(&e, msg->payload, msg->payload_length);
    if (encoder_end(&e) == 0 || message_parse(p->rewritten, encoder_end(&e), out) != VERDICT_OK)
        return CODE_BAD_REQUEST;
    out->length = msg->length; /* what the client paid for the answer */
    return 0;
}

/* ---- destinations ---- */

static uint32_t server_of(const struct proxy *p, uint32_t index)
{
    return p->upstreams.server_count + index;
}

static uint64_t hash_aim(const struct proxy *p, const struct aim *aim)
{
    uint64_t hash = p->hash_seed + aim->port;

    return aim->is_literal ? hash_bytes(&aim->address, sizeof(aim->address), hash)
                           : hash_bytes(aim->name, aim->name_length, hash);
}

static bool matches(const struct destination *d, const struct aim *aim, uint64_t hash)
{
    return d->hash == hash && d->port == aim->port && d->name_length == aim->name_length &&
           memcmp(d->name, aim->name, aim->name_length) == 0 &&
           (!aim->is_literal || address_equal(&d->address, &aim->address));
}

static void unlink_destination(struct destinations *all, uint32_t index)
{
    struct destination *d = pool_at(&all->pool, index);
    uint32_t *link = &all->heads[d->hash & all->mask];

    while (*link != index + 1)
        link = &((struct destination *)pool_at(&all->pool, *link - 1))->next;
    *link = d->next;
    list_remove(&all->age, &all->pool, BY_AGE, index);
}

/* The one that was not used for longest, if nothing needs it. */
static bool evict(struct proxy *p)
{
    struct destinations *all = p->destinations;
    uint32_t index = all->age.head;

    for (unsigned probe = 0; index != POOL_NONE && probe < 16; probe++) {
        struct destination *d = pool_at(&all->pool, index);
        struct server *server = &p->upstreams.servers[server_of(p, index)];

        if (server->fetch_count == 0 && server->observation_count == 0) {
            unlink_destination(all, index);
            upstreams_move(&p->upstreams, server_of(p, index), &server->place);
            all->questions[index].open = false;
            pool_put(&all->pool, d);
            return true;
        }
        index = d->by_age.next;
    }
    return false;
}

static struct destination *create(struct proxy *p, const struct aim *aim, uint64_t hash)
{
    struct destinations *all = p->destinations;
    struct destination *d = pool_get(&all->pool);
    uint32_t index, *head = &all->heads[hash & all->mask];
    struct server *server;

    if (!d && evict(p))
        d = pool_get(&all->pool);
    if (!d)
        return NULL;
    index = pool_index(&all->pool, d);
    server = &p->upstreams.servers[server_of(p, index)];
    if (!server->sessions &&
        upstreams_add(&p->upstreams, server_of(p, index), &p->m->config->forward.upstream,
                      (uint16_t)p->m->config->upstream_count) < 0) {
        pool_put(&all->pool, d);
        return NULL;
    }
    d->hash = hash;
    d->port = aim->port;
    d->name_length = (uint8_t)aim->name_length;
    memcpy(d->name, aim->name, aim->name_length);
    d->address = aim->address;
    d->state = DESTINATION_UNKNOWN;
    d->next = *head;
    *head = index + 1;
    list_push_back(&all->age, &all->pool, BY_AGE, index);
    return d;
}

/* Its address is known: requests can go. */
static bool settle(struct proxy *p, struct destination *d, const struct address *address,
                   uint64_t until_us)
{
    uint32_t server = server_of(p, pool_index(&p->destinations->pool, d));
    int local = local_for(p->m->config, address);
    struct config_server place = {.endpoint = {.address = *address, .port = d->port},
                                  .transport = TRANSPORT_UDP,
                                  .local = (uint16_t)local};
    const struct endpoint *now = &p->upstreams.servers[server].place.endpoint;

    if (local < 0)
        return false;
    if (!address_equal(&now->address, address) || now->port != d->port)
        upstreams_move(&p->upstreams, server, &place);
    d->state = DESTINATION_READY;
    d->until_us = until_us;
    return true;
}

static struct destination *find(struct proxy *p, const struct aim *aim)
{
    struct destinations *all = p->destinations;
    uint64_t hash = hash_aim(p, aim);
    uint32_t at = all->heads[hash & all->mask];

    while (at) {
        struct destination *d = pool_at(&all->pool, at - 1);

        if (matches(d, aim, hash)) {
            list_remove(&all->age, &all->pool, BY_AGE, at - 1);
            list_push_back(&all->age, &all->pool, BY_AGE, at - 1);
            return d;
        }
        at = d->next;
    }
    return create(p, aim, hash);
}

/* ---- names ---- */

bool forward_is_ready(struct proxy *p, uint32_t fetch)
{
    struct messaging *m = p->m;
    uint32_t server = fetch_at(p, fetch)->server, index;
    struct question *question;
    struct destination *d;

    if (server < p->upstreams.server_count)
        return true;
    index = server - p->upstreams.server_count;
    d = pool_at(&p->destinations->pool, index);
    if (d->state == DESTINATION_READY && d->until_us > m->now)
        return true;
    if (d->state == DESTINATION_RESOLVING)
        return false;
    question = &p->destinations->questions[index];
    question->n++;
    if (m->io.resolve && m->io.resolve(m->io.context, d->name, d->name_length,
                                       (uint32_t)question->n << 16 | index)) {
        question->open = true;
        d->state = DESTINATION_RESOLVING;
        m->counters->names_asked++;
        return false;
    }
    m->counters->refused_queue++;
    fetch_fail(p, fetch, CODE_SERVICE_UNAVAILABLE, "too many names are being resolved");
    return false;
}

/* The first address that may be used. False when there is none. */
static bool use_address(struct proxy *p, struct destination *d, const struct resolved *answer)
{
    uint64_t ttl_us = (answer->ttl_s ? answer->ttl_s : 1) * SECOND_US;

    for (unsigned i = 0; i < answer->count && i < RESOLVED_MAX; i++)
        if (!is_forbidden(p, &answer->addresses[i]) &&
            settle(p, d, &answer->addresses[i], p->m->now + ttl_us))
            return true;
    return false;
}

static void go_on(struct proxy *p, uint32_t server, int error, bool usable)
{
    uint32_t index = p->upstreams.servers[server].fetches.head;

    while (index != POOL_NONE) {
        const struct fetch *f = fetch_at(p, index);
        uint32_t next = f->by_server.next;

        if (f->session != POOL_NONE || !f->begun) /* not one that waits for the name */
            ;
        else if (usable)
            fetch_start(p, index);
        else if (error == -ETIMEDOUT)
            fetch_fail(p, index, CODE_GATEWAY_TIMEOUT, "the name server is silent");
        else if (error)
            fetch_fail(p, index, CODE_BAD_GATEWAY, "the host's name is not known");
        else
            fetch_fail(p, index, CODE_FORBIDDEN, "the host's address is not allowed");
        index = next;
    }
}

void proxy_resolved(struct proxy *p, const struct resolved *answer)
{
    uint32_t index = answer->id & 0xffff;
    struct question *question;
    struct destination *d;
    bool usable;

    if (!p->destinations || index >= p->destinations->pool.capacity)
        return;
    question = &p->destinations->questions[index];
    if (!question->open || question->n != answer->id >> 16)
        return;
    d = pool_at(&p->destinations->pool, index);
    question->open = false;
    d->state = DESTINATION_UNKNOWN;
    usable = answer->error == 0 && use_address(p, d, answer);
    if (!usable)
        p->m->counters->names_failed++;
    go_on(p, server_of(p, index), answer->error, usable);
}

/* ---- the way in ---- */

static void refuse(struct proxy *p, struct request *rq, uint8_t code)
{
    if (rq->multicast) {
        p->m->counters->drop_multicast++;
        return;
    }
    if (code == CODE_FORBIDDEN)
        p->m->counters->forward_forbidden++;
    if (request_admit(p->m, rq, true))
        reply_code(p->m, rq, code, NULL);
}

static bool is_allowed(const struct proxy *p, const struct aim *aim)
{
    const struct config_forward *config = &p->m->config->forward;

    return aim->is_literal
               ? !is_forbidden(p, &aim->address) && is_listed_address(config, &aim->address)
               : is_listed_name(config, aim->name, aim->name_length);
}

static void send_on(struct proxy *p, struct request *rq, const struct aim *aim)
{
    struct destination *d = find(p, aim);
    struct place place = {.config = &p->m->config->forward.upstream,
                          .count = 1,
                          .route = ROUTE_NONE,
                          .space = {.method = rq->message->code, .forward = 1}};

    if (!d) {
        p->m->counters->refused_memory++;
        if (request_admit(p->m, rq, true))
            reply_busy(p->m, rq, "too many destinations");
        return;
    }
    if (aim->is_literal && !settle(p, d, &aim->address, UINT64_MAX)) {
        if (request_admit(p->m, rq, true))
            reply_code(p->m, rq, CODE_GATEWAY_TIMEOUT, "no route to the host");
        return;
    }
    place.first = server_of(p, pool_index(&p->destinations->pool, d));
    place.space.upstream = aim->port;
    if (aim->is_literal)
        memcpy(place.space.address, aim->address.bytes, sizeof(place.space.address));
    proxy_pass(p, rq, &place);
}

bool proxy_forward(struct proxy *p, struct request *rq, struct message *local)
{
    const struct message *msg = rq->message;
    struct aim aim = {0};
    uint8_t code;

    if (!p->destinations || rq->multicast) {
        refuse(p, rq, CODE_PROXYING_NOT_SUPPORTED);
        return false;
    }
    code = message_has(msg, SLOT_PROXY_URI) ? aim_by_uri(&aim, &msg->first[SLOT_PROXY_URI])
                                            : aim_by_scheme(&aim, msg);
    if (!code)
        code = rewrite(p, msg, &aim, local);
    if (code) {
        refuse(p, rq, code);
        return false;
    }
    if (aim.is_literal ? is_listener(p, &aim.address, aim.port)
                       : is_own_name(p->destinations, aim.name))
        return true;
    if (!is_allowed(p, &aim)) {
        refuse(p, rq, CODE_FORBIDDEN);
        return false;
    }
    rq->message = local;
    send_on(p, rq, &aim);
    return false;
}
