#include "gateway/proxy/destination.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "gateway/hash.h"
#include "gateway/local.h"

#define BY_AGE    offsetof(struct destination, by_age)
#define SECOND_US UINT64_C(1000000)

/* How many are looked at for one that can go. Those that cannot are the last to be looked at again.
 */
#define EVICT_PROBES 64

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
    bool secure;         /* coaps */
    char name[HOST_NAME_BYTES + 1];
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
};

/* ---- start and end ---- */

int destinations_init(struct proxy *p)
{
    uint32_t count = p->m->config->limits.destinations, heads = 16;
    struct destinations *d = p->destinations = calloc(1, sizeof(*d));

    if (!d)
        return -ENOMEM;
    while (heads < count)
        heads *= 2;
    d->mask = heads - 1;
    d->age = LIST_NONE;
    d->heads = calloc(heads, sizeof(*d->heads));
    d->questions = calloc(count, sizeof(*d->questions));
    if (!d->heads || !d->questions)
        return -ENOMEM;
    return pool_init(&d->pool, sizeof(struct destination), count);
}

void destinations_fini(struct proxy *p)
{
    struct destinations *d = p->destinations;

    if (!d)
        return;
    pool_fini(&d->pool);
    free(d->questions);
    free(d->heads);
    free(d);
    p->destinations = NULL;
}

uint32_t proxy_destinations(const struct proxy *p)
{
    return p->destinations ? pool_used(&p->destinations->pool) : 0;
}

/* ---- addresses ---- */

static bool is_own_address(const struct proxy *p, const struct address *a)
{
    for (unsigned i = 0; i < p->m->config->local_count; i++)
        if (address_equal(&p->m->config->locals[i].address, a))
            return true;
    return false;
}

bool destination_is_forbidden(const struct proxy *p, const struct address *a)
{
    static const struct address zero = {{0}};

    if (address_is_multicast(a) || address_is_link_local(a) || is_own_address(p, a))
        return true;
    /* 0/8 and 127/8 are this host, 240/4 is reserved and ends in the broadcast address. */
    if (address_is_v4(a))
        return a->bytes[12] == 0 || a->bytes[12] == 127 || a->bytes[12] >= 240;
    /* ::, ::1, and IPv4 addresses in a form that was given up (RFC 4291 2.5.5.1). */
    return address_in_subnet(a, &zero, 96);
}

bool destination_has_route(const struct proxy *p, const struct address *a)
{
    return local_for(p->m->config, a) >= 0;
}

/* ---- the table ---- */

static uint32_t server_of(const struct proxy *p, uint32_t index)
{
    return p->upstreams.server_count + index;
}

static uint64_t hash_of(const struct proxy *p, const struct host *host)
{
    uint64_t hash = p->hash_seed + ((uint64_t)host->secure << 16 | host->port);

    return host->is_literal ? hash_bytes(&host->address, sizeof(host->address), hash)
                            : hash_bytes(host->name, host->name_length, hash);
}

static bool matches(const struct destination *d, const struct host *host, uint64_t hash)
{
    return d->hash == hash && d->port == host->port && d->secure == host->secure &&
           d->name_length == host->name_length &&
           memcmp(d->name, host->name, host->name_length) == 0 &&
           (!host->is_literal || address_equal(&d->address, &host->address));
}

static void touch(struct destinations *all, uint32_t index)
{
    list_remove(&all->age, &all->pool, BY_AGE, index);
    list_push_back(&all->age, &all->pool, BY_AGE, index);
}

static void drop(struct proxy *p, uint32_t index)
{
    struct destinations *all = p->destinations;
    struct destination *d = pool_at(&all->pool, index);
    uint32_t *link = &all->heads[d->hash & all->mask];

    while (*link != index + 1)
        link = &((struct destination *)pool_at(&all->pool, *link - 1))->next;
    *link = d->next;
    list_remove(&all->age, &all->pool, BY_AGE, index);
    upstreams_move(&p->upstreams, server_of(p, index),
                   &p->upstreams.servers[server_of(p, index)].place);
    all->questions[index].open = false;
    pool_put(&all->pool, d);
}

/* Gives the one up that was not used for longest, of those that nothing needs. */
static bool evict(struct proxy *p)
{
    struct destinations *all = p->destinations;

    for (unsigned probe = 0; all->age.head != POOL_NONE && probe < EVICT_PROBES; probe++) {
        uint32_t index = all->age.head;
        const struct server *server = &p->upstreams.servers[server_of(p, index)];

        if (server->fetch_count == 0 && server->observation_count == 0) {
            drop(p, index);
            return true;
        }
        touch(all, index);
    }
    return false;
}

static struct destination *create(struct proxy *p, const struct host *host, uint64_t hash)
{
    struct destinations *all = p->destinations;
    struct destination *d = pool_get(&all->pool);
    uint32_t index, *head = &all->heads[hash & all->mask];

    if (!d && evict(p))
        d = pool_get(&all->pool);
    if (!d)
        return NULL;
    index = pool_index(&all->pool, d);
    if (!p->upstreams.servers[server_of(p, index)].sessions)
        upstreams_add(&p->upstreams, server_of(p, index), &p->m->config->forward.upstream,
                      (uint16_t)p->m->config->upstream_count);
    d->hash = hash;
    d->port = host->port;
    d->name_length = (uint8_t)host->name_length;
    d->secure = host->secure;
    memcpy(d->name, host->name, host->name_length);
    d->name[host->name_length] = '\0';
    p->upstreams.servers[server_of(p, index)].dtls.name = d->name_length ? d->name : NULL;
    d->address = host->address;
    d->state = DESTINATION_UNKNOWN;
    d->next = *head;
    *head = index + 1;
    list_push_back(&all->age, &all->pool, BY_AGE, index);
    return d;
}

/* Its address is known: requests can go. False when there is no way to it. */
static bool settle(struct proxy *p, struct destination *d, const struct address *address,
                   uint64_t until_us)
{
    uint32_t server = server_of(p, pool_index(&p->destinations->pool, d));
    int local = local_for(p->m->config, address);
    struct config_server place = {.endpoint = {.address = *address, .port = d->port},
                                  .transport = d->secure ? TRANSPORT_DTLS : TRANSPORT_UDP,
                                  .local = (uint16_t)local};
    const struct config_server *now = &p->upstreams.servers[server].place;

    if (local < 0)
        return false;
    if (!address_equal(&now->endpoint.address, address) || now->endpoint.port != d->port ||
        now->transport != place.transport)
        upstreams_move(&p->upstreams, server, &place);
    d->state = DESTINATION_READY;
    d->until_us = until_us;
    return true;
}

uint32_t destination_find(struct proxy *p, const struct host *host)
{
    struct destinations *all = p->destinations;
    uint64_t hash = hash_of(p, host);
    uint32_t at = all->heads[hash & all->mask];
    struct destination *d;

    while (at) {
        d = pool_at(&all->pool, at - 1);
        if (matches(d, host, hash)) {
            touch(all, at - 1);
            return server_of(p, at - 1);
        }
        at = d->next;
    }
    d = create(p, host, hash);
    if (!d)
        return SERVER_NONE;
    if (host->is_literal)
        (void)settle(p, d, &host->address, UINT64_MAX);
    return server_of(p, pool_index(&all->pool, d));
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

/* What those get who wait for a name. */
struct verdict {
    uint8_t code; /* 0: the request goes */
    const char *why;
};

static unsigned find_address(const struct resolved *answer, const struct address *a)
{
    unsigned i = 0;

    while (i < answer->count && !address_equal(&answer->addresses[i], a))
        i++;
    return i;
}

/* The address that is in use, if it is still one of them: a name with several does not change its
 * server with each answer. But when that one is down, the next. */
static struct verdict use_address(struct proxy *p, struct destination *d,
                                  const struct resolved *answer)
{
    const struct server *server =
        &p->upstreams.servers[server_of(p, pool_index(&p->destinations->pool, d))];
    uint64_t until_us = p->m->now + (answer->ttl_s ? answer->ttl_s : 1) * SECOND_US;
    unsigned first = find_address(answer, &server->place.endpoint.address) + server->down;
    struct verdict verdict = {CODE_BAD_GATEWAY, "the host has no address"};

    for (unsigned i = 0; i < answer->count; i++) {
        const struct address *a = &answer->addresses[(first + i) % answer->count];

        if (destination_is_forbidden(p, a)) {
            if (verdict.code == CODE_BAD_GATEWAY)
                verdict = (struct verdict){CODE_FORBIDDEN, "the host's address is not allowed"};
        } else if (settle(p, d, a, until_us)) {
            return (struct verdict){0};
        } else {
            verdict = (struct verdict){CODE_GATEWAY_TIMEOUT, "no route to the host"};
        }
    }
    return verdict;
}

static struct verdict judge(struct proxy *p, struct destination *d, const struct resolved *answer)
{
    if (answer->error == 0)
        return use_address(p, d, answer);
    return answer->error == -ETIMEDOUT
               ? (struct verdict){CODE_GATEWAY_TIMEOUT, "the name server is silent"}
               : (struct verdict){CODE_BAD_GATEWAY, "the host's name is not known"};
}

/* It waits to be sent to where its host was before. */
static bool is_left_behind(const struct proxy *p, const struct fetch *f)
{
    return f->session != POOL_NONE && f->outbound != POOL_NONE &&
           session_at(&p->m->sessions, f->session)->side.upstream.server == SERVER_NONE &&
           !outbound_was_sent(p->m, f->outbound);
}

static void go_on(struct proxy *p, uint32_t server, const struct verdict *verdict)
{
    uint32_t index = p->upstreams.servers[server].fetches.head;

    while (index != POOL_NONE) {
        const struct fetch *f = fetch_at(p, index);
        uint32_t next = f->by_server.next;
        bool waits = f->begun && f->session == POOL_NONE;

        if (verdict->code && waits)
            fetch_fail(p, index, verdict->code, verdict->why);
        else if (!verdict->code && (waits || is_left_behind(p, f)))
            fetch_start(p, index);
        index = next;
    }
}

void proxy_resolved(struct proxy *p, const struct resolved *answer)
{
    uint32_t index = answer->id & 0xffff;
    struct question *question;
    struct destination *d;
    struct verdict verdict;

    if (!p->destinations || index >= p->destinations->pool.capacity)
        return;
    question = &p->destinations->questions[index];
    if (!question->open || question->n != answer->id >> 16)
        return;
    d = pool_at(&p->destinations->pool, index);
    question->open = false;
    d->state = DESTINATION_UNKNOWN;
    verdict = judge(p, d, answer);
    if (verdict.code)
        p->m->counters->names_failed++;
    go_on(p, server_of(p, index), &verdict);
}
