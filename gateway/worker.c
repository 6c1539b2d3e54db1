#include "gateway/worker.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/inspect.h"
#include "gateway/memory.h"
#include "gateway/proxy/part.h"
#include "gateway/proxy/proxy.h"
#include "gateway/security/credentials.h"
#include "gateway/security/security.h"
#include "gateway/serve/access.h"
#include "gateway/serve/discovery.h"
#include "gateway/serve/module.h"
#include "gateway/serve/representation.h"
#include "gateway/serve/resource.h"
#include "gateway/serve/router.h"
#include "gateway/session/messaging.h"
#include "gateway/store/store.h"

/* Flows spread over the workers by a hash: a worker's share of the sessions has a margin, so that
 * the configured number is reached before one worker is full. */
#define SHARE_MARGIN_PERCENT 112

/* How long a worker that is to end goes on before it takes leave of its peers over DTLS, whatever
 * is open. */
#define FAREWELL_AFTER_US 500000

/* Functions of modules that are called in one turn for new states. */
#define MODULE_CALLS_PER_TURN 32

/* Outcomes of writes that waited, and records of resources that are put again, in one turn. */
#define RESOURCES_PER_TURN 64

/* How many datagrams ahead what one of them needs is fetched into the processor's cache. */
#define EXPECT_AHEAD 3

struct worker {
    struct messaging messaging;
    struct proxy proxy;
    struct resources *resources;
    struct router *router;
    struct router_memory routes;
    struct discovery *discovery;
    struct representation *fixed; /* by route; prepared for `respond` routes */
    struct module_host *modules;  /* NULL: no route is a module's */
    struct security *security;    /* NULL: there is no DTLS */
    uint64_t farewell_us;         /* draining: when peers are told at the latest; 0: not yet */
    const struct config *config;
    bool has_messaging, has_proxy;
    struct counters counters;
};

/* ---- dispatch ---- */

static void answer_plain(struct worker *w, struct request *rq, uint8_t code, const char *text);

/* True when the client may not use the route: it has been answered. */
static bool is_refused(struct worker *w, struct request *rq, const struct config_route *r)
{
    uint8_t code = access_refusal(r, security_principal(w->security, &rq->session->flow));

    if (code)
        answer_plain(w, rq, code, NULL);
    return code != 0;
}

static void serve(struct worker *w, struct request *rq, int route)
{
    const struct config_route *r = &w->config->routes[route];

    if (r->allow_count && is_refused(w, rq, r))
        return;
    switch (r->kind) {
    case CONFIG_ROUTE_UPSTREAM:
        proxy_request(&w->proxy, rq, (unsigned)route);
        return;
    case CONFIG_ROUTE_RESPOND:
        representation_serve(&w->messaging, rq, &w->fixed[route]);
        return;
    case CONFIG_ROUTE_RESOURCES:
        resources_request(w->resources, rq, (unsigned)route);
        return;
    case CONFIG_ROUTE_MODULE:
        module_request(w->modules, rq, (unsigned)route);
        return;
    }
}

static bool known_method(uint8_t code)
{
    return code >= CODE_GET && code <= CODE_IPATCH;
}

/* Answers that need no resource: what is left when nothing serves the request. */
static void answer_plain(struct worker *w, struct request *rq, uint8_t code, const char *text)
{
    if (request_admit(&w->messaging, rq, true))
        reply_code(&w->messaging, rq, code, text);
}

static void on_request(void *context, struct request *rq)
{
    struct worker *w = context;
    const struct message *msg = rq->message;
    struct message local;
    int route;

    if (hot_serve(&w->proxy, rq))
        return;
    if (!known_method(msg->code)) { /* RFC 7252 5.8 */
        answer_plain(w, rq, CODE_METHOD_NOT_ALLOWED, NULL);
        return;
    }
    if (msg->present & (SLOT_BIT(SLOT_PROXY_URI) | SLOT_BIT(SLOT_PROXY_SCHEME))) {
        if (!proxy_forward(&w->proxy, rq, &local))
            return;
        rq->message = msg = &local;
    }
    if (discovery_matches(msg)) {
        discovery_serve(w->discovery, &w->proxy, w->resources, rq);
        return;
    }
    if (msg == &local)
        route = router_find(w->router, msg, rq->session->flow.local);
    else
        route = router_recall(w->router, &w->routes, msg, rq->session->flow.local);
    if (route >= 0) {
        serve(w, rq, route);
        return;
    }
    if (!representation_bad_option(&w->messaging, rq))
        answer_plain(w, rq, CODE_NOT_FOUND, NULL);
}

static bool on_response(void *context, struct session *s, const struct message *response)
{
    struct worker *w = context;

    return proxy_response(&w->proxy, s, response);
}

static void on_settled(void *context, enum owner_kind kind, uint32_t owner,
                       enum outbound_outcome outcome)
{
    struct worker *w = context;

    proxy_settled(&w->proxy, kind, owner, outcome);
}

static bool on_reset(void *context, struct session *s, uint16_t mid, bool unreachable)
{
    struct worker *w = context;

    return proxy_reset(&w->proxy, s, mid, unreachable);
}

static void on_renew(void *context, uint32_t owner, uint32_t outbound)
{
    struct worker *w = context;

    relation_renew(&w->proxy, owner, outbound);
}

static void on_session_closed(void *context, struct session *s)
{
    struct worker *w = context;

    if (w->modules && s->role == SESSION_CLIENT)
        module_session_ends(w->modules, s);
    part_session(&w->proxy, s);
}

static void on_doubted(void *context, struct session *s)
{
    struct worker *w = context;

    upstreams_doubt(&w->proxy.upstreams, s->side.upstream.server);
}

static void on_event(void *context, struct session *s, enum session_event event)
{
    struct worker *w = context;

    module_on_session(w->modules, s, event, w->messaging.event_mid);
}

/* ---- what happens to associations ---- */

static void receive(struct worker *w, const struct datagram *burst, unsigned n);

static void on_plain(void *context, const struct datagram *burst, unsigned n)
{
    receive(context, burst, n);
}

static struct session *session_of(const struct worker *w, const struct flow *flow)
{
    const struct session_table *sessions = &w->messaging.sessions;

    return session_find(sessions, flow, session_hash(sessions, flow));
}

/* Nothing can be sent in its session any more. */
static void on_association_ended(void *context, const struct flow *flow)
{
    struct worker *w = context;
    struct session *s = session_of(w, flow);

    if (s && s->role == SESSION_UPSTREAM)
        upstreams_disconnected(&w->proxy.upstreams, s);
    else if (s)
        messaging_drop_session(&w->messaging, s);
}

/* One with an origin is there, or cannot be had. */
static void on_connected(void *context, const struct flow *flow, int error, const char *why)
{
    struct worker *w = context;
    struct session *s = session_of(w, flow);

    if (s && s->role == SESSION_UPSTREAM)
        upstreams_connected(&w->proxy.upstreams, s, error, why);
    else if (!error)
        security_close(w->security, flow, true);
}

static bool on_is_busy(void *context, const struct flow *flow)
{
    const struct session *s = session_of(context, flow);

    return s && !session_is_unused(s);
}

/* ---- start and end ---- */

static int prepare_fixed(struct worker *w)
{
    w->fixed = calloc(w->config->route_count + 1, sizeof(*w->fixed));
    if (!w->fixed)
        return -ENOMEM;
    for (unsigned i = 0; i < w->config->route_count; i++) {
        const struct config_respond *from = &w->config->routes[i].respond;
        struct representation *r = &w->fixed[i];

        if (w->config->routes[i].kind != CONFIG_ROUTE_RESPOND)
            continue;
        r->payload = from->payload;
        r->length = from->payload_length;
        r->has_content_format = from->has_content_format;
        r->content_format = from->content_format;
        r->has_max_age = from->has_max_age;
        r->max_age_s = from->max_age_s;
        if (representation_prepare(r) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int start_modules(struct worker *w, const struct worker_setup *setup)
{
    struct module_host_setup ms = {.modules = setup->modules,
                                   .proxy = &w->proxy,
                                   .worker = setup->index,
                                   .workers = setup->count};

    if (!modules_wanted(setup->config))
        return 0;
    return setup->modules ? module_host_create(&ms, &w->modules) : -EINVAL;
}

/* A worker's part of a limit that holds for all of them together. */
static uint32_t share_of(const struct worker_setup *setup, uint64_t total)
{
    uint64_t share;

    if (setup->count <= 1)
        return (uint32_t)total;
    share = (total + setup->count - 1) / setup->count * SHARE_MARGIN_PERCENT / 100 + 1;
    return (uint32_t)(share < total ? share : total);
}

static int start_security(struct worker *w, const struct worker_setup *setup, uint64_t now)
{
    struct messaging *m = &w->messaging;
    uint8_t seed[RANDOM_SEED_BYTES];
    struct security_setup ss = {
        .config = setup->config,
        .io = setup->io,
        .ops = {.context = w,
                .deliver = on_plain,
                .ended = on_association_ended,
                .is_busy = on_is_busy,
                .connected = on_connected},
        .credentials = setup->credentials,
        .counters = &w->counters,
        .wheel = &m->wheel,
        .index = setup->index,
        .count = setup->count,
        .associations = share_of(setup, setup->config->limits.associations),
        .now = now,
        .seed = seed,
    };

    if (!security_wanted(setup->config))
        return 0;
    if (!setup->credentials)
        return -EINVAL;
    for (unsigned i = 0; i < sizeof(seed); i += 8) {
        uint64_t word = random_u64(&m->random);

        memcpy(seed + i, &word, 8);
    }
    w->security = security_create(&ss);
    if (!w->security)
        return -errno;
    m->security = w->security;
    m->io = security_io(w->security);
    return 0;
}

static int worker_init(struct worker *w, const struct worker_setup *setup, uint64_t now)
{
    struct messaging_setup ms = {
        .config = setup->config,
        .io = setup->io,
        .ops = {.context = w,
                .request = on_request,
                .response = on_response,
                .settled = on_settled,
                .reset = on_reset,
                .renew = on_renew,
                .session_closed = on_session_closed,
                .doubted = on_doubted,
                .event = on_event},
        .counters = &w->counters,
        .sessions = share_of(setup, setup->config->limits.sessions),
        .seed = setup->seed,
        .shared_key = setup->shared_key,
        .mids = {.key = setup->mid_key, .life = setup->life},
        .journal = setup->journal,
        .index = setup->index,
    };
    int err;

    w->config = setup->config;
    if ((err = messaging_init(&w->messaging, &ms, now)))
        return err;
    w->has_messaging = true;
    if ((err = start_security(w, setup, now)))
        return err;
    if ((err = proxy_init(&w->proxy, &w->messaging)))
        return err;
    w->has_proxy = true;
    w->proxy.persist.floor = setup->number_floor;
    w->resources = resources_create(&(struct resources_setup){
        .proxy = &w->proxy, .index = setup->index, .count = setup->count});
    if (!w->resources)
        return -errno;
    w->router = router_create(setup->config);
    w->discovery = discovery_create(setup->config);
    if (!w->router || !w->discovery)
        return -ENOMEM;
    if ((err = prepare_fixed(w)))
        return err;
    return start_modules(w, setup);
}

struct worker *worker_create(const struct worker_setup *setup, uint64_t now)
{
    struct worker *w = memory_reserve(sizeof(*w));
    int err;

    if (!w)
        return NULL;
    err = worker_init(w, setup, now);
    if (err) {
        worker_destroy(w);
        errno = -err;
        return NULL;
    }
    return w;
}

void worker_destroy(struct worker *w)
{
    if (!w)
        return;
    for (unsigned i = 0; w->fixed && i < w->config->route_count; i++)
        representation_release(&w->fixed[i]);
    free(w->fixed);
    module_host_destroy(w->modules);
    discovery_destroy(w->discovery);
    router_destroy(w->router);
    resources_destroy(w->resources);
    if (w->has_proxy)
        proxy_fini(&w->proxy);
    security_destroy(w->security);
    if (w->has_messaging)
        messaging_fini(&w->messaging);
    memory_release(w, sizeof(*w));
}

/* ---- driving ---- */

static void set_now(struct worker *w, uint64_t now)
{
    if (now > w->messaging.now)
        w->messaging.now = now;
}

/* Requests that go to origins touch what no other has touched for long. */
static void expect(struct worker *w, const struct datagram *d, const struct session *s)
{
    if (!s || s->role != SESSION_CLIENT || d->length < MESSAGE_HEADER_BYTES)
        return;
    w->proxy.expecting--;
    mid_index_expect(&w->messaging.dedup.index, session_index(&w->messaging.sessions, s),
                     (uint16_t)(d->data[2] << 8 | d->data[3]));
    proxy_expect(&w->proxy, d);
}

static void receive(struct worker *w, const struct datagram *burst, unsigned n)
{
    struct messaging *m = &w->messaging;
    const struct flow *flows[WORKER_BURST];
    struct session *found[WORKER_BURST];
    uint32_t hashes[WORKER_BURST];

    if (n == 0)
        return;
    for (unsigned i = 0; i < n; i++)
        flows[i] = &burst[i].flow;
    session_find_burst(&m->sessions, flows, hashes, n, found);
    m->sessions.changed = false;
    for (unsigned i = 0; i < n; i++) {
        if (w->proxy.expecting && i + EXPECT_AHEAD < n)
            expect(w, &burst[i + EXPECT_AHEAD], found[i + EXPECT_AHEAD]);
        messaging_receive(m, &burst[i], found[i], hashes[i]);
    }
}

static bool messaging_is_quiet(const struct worker *w)
{
    const struct messaging *m = &w->messaging;

    return pool_used(&m->exchanges) == 0 && pool_used(&m->outbound) == m->pings &&
           pool_used(&m->leisure) == 0;
}

unsigned worker_receive(struct worker *w, const struct datagram *burst, unsigned n, uint64_t now)
{
    set_now(w, now);
    if (w->security)
        security_receive(w->security, burst, n, w->messaging.now);
    else
        receive(w, burst, n);
    return n;
}

/* Handshakes, and leave of those who are there when the worker is to end: once what was in flight
 * has its answers. */
static unsigned advance_security(struct worker *w)
{
    struct messaging *m = &w->messaging;

    if (!w->security)
        return 0;
    if (w->farewell_us && (messaging_is_quiet(w) || m->now >= w->farewell_us)) {
        w->farewell_us = 0;
        security_drain(w->security,
                       !w->config->security.persist || w->config->store.kind == CONFIG_STORE_NONE);
    }
    return security_advance(w->security, m->now);
}

unsigned worker_advance(struct worker *w, uint64_t now)
{
    set_now(w, now);
    return advance_security(w) + messaging_advance(&w->messaging) +
           module_advance(w->modules, MODULE_CALLS_PER_TURN) + proxy_advance(&w->proxy) +
           resources_advance(w->resources, RESOURCES_PER_TURN);
}

uint64_t worker_next_us(const struct worker *w)
{
    uint64_t timer = messaging_next_us(&w->messaging), sweep = persist_next_us(&w->proxy);

    if (proxy_has_work(&w->proxy) || resources_has_work(w->resources) ||
        module_has_work(w->modules) || (w->security && security_has_work(w->security)))
        return w->messaging.now;
    return timer < sweep ? timer : sweep;
}

void worker_resolved(struct worker *w, const struct resolved *answer, uint64_t now)
{
    set_now(w, now);
    proxy_resolved(&w->proxy, answer);
}

void worker_unreachable(struct worker *w, const struct flow *flow, const uint8_t *quoted,
                        size_t length, uint64_t now)
{
    struct flow session;

    set_now(w, now);
    if (w->security && security_connect_unreachable(w->security, flow, quoted, length))
        return;
    if (w->security && security_unreachable(w->security, flow, quoted, length, &session))
        messaging_unreachable(&w->messaging, &session, NULL, 0); /* what it quotes is sealed */
    else
        messaging_unreachable(&w->messaging, flow, quoted, length);
}

void worker_changed(struct worker *w, const uint64_t *uris, unsigned n, uint64_t now)
{
    set_now(w, now);
    for (unsigned i = 0; i < n; i++)
        proxy_invalidate(&w->proxy, uris[i]);
}

/* The store's: a relation of before a restart is taken up as a request. */
static void told_record(struct worker *w, struct parcel *parcel)
{
    uint8_t buffer[MESSAGE_MAX_BYTES];
    struct message message;
    struct request rq;

    if ((w->security && security_told(w->security, parcel)) ||
        resources_stored(w->resources, parcel))
        return;
    if (parcel->type != STORE_RECORD) {
        persist_told(&w->proxy, parcel);
    } else if (!w->proxy.draining && persist_read(&w->proxy, parcel, &rq, &message, buffer)) {
        on_request(w, &rq); /* which may have put another message into it */
        persist_handled(&w->proxy, parcel, rq.session, &message);
    }
}

/* What handshakes are made with from now on. */
static void told_credentials(struct worker *w, const struct parcel *parcel)
{
    struct credentials *credentials;

    if (!parcel_read(parcel, 0, &credentials, sizeof(credentials)))
        return;
    if (w->security)
        security_renew(w->security, credentials);
    else
        credentials_drop(credentials);
}

void worker_told(struct worker *w, struct parcel *parcel, uint64_t now)
{
    set_now(w, now);
    switch ((enum parcel_kind)parcel->kind) {
    case PARCEL_RECORD:
        told_record(w, parcel);
        break;
    case PARCEL_INSPECT:
        inspect_told(&(struct inspected){w, &w->messaging, &w->proxy, w->resources, w->modules},
                     parcel);
        break;
    case PARCEL_RESOURCE:
        resources_told(w->resources, parcel); /* takes it over */
        return;
    case PARCEL_CREDENTIALS:
        told_credentials(w, parcel);
        break;
    case PARCEL_KIND_COUNT:
        break;
    }
    parcel_free(w->messaging.io.parcels, parcel);
}

void worker_forget(struct worker *w, uint64_t now)
{
    set_now(w, now);
    proxy_forget(&w->proxy);
}

void worker_drain(struct worker *w)
{
    w->proxy.draining = true;
    module_drain(w->modules);
    if (w->security)
        w->farewell_us = w->messaging.now + FAREWELL_AFTER_US;
}

bool worker_is_quiet(const struct worker *w)
{
    return messaging_is_quiet(w) && w->farewell_us == 0 &&
           (!w->security || security_is_quiet(w->security));
}

const struct counters *worker_counters(const struct worker *w)
{
    return &w->counters;
}

struct counters *worker_counters_mutable(struct worker *w)
{
    return &w->counters;
}

static void use_security(const struct security *security, struct worker_usage *usage)
{
    struct security_usage own;

    security_usage(security, &own);
    usage->associations = own.associations;
    usage->associations_max = own.associations_max;
    usage->handshakes = own.handshakes;
    usage->handshakes_max = own.handshakes_max;
}

void worker_usage(const struct worker *w, struct worker_usage *usage)
{
    const struct messaging *m = &w->messaging;

    *usage = (struct worker_usage){
        .sessions = m->sessions.count,
        .sessions_max = m->sessions.max,
        .exchanges = pool_used(&m->exchanges),
        .exchanges_max = m->exchanges.capacity,
        .forwards = pool_used(&w->proxy.fetches),
        .forwards_max = w->proxy.fetches.capacity,
        .outbound = pool_used(&m->outbound),
        .outbound_max = m->outbound.capacity,
        .remembered = pool_used(&m->dedup.pool),
        .remembered_max = m->dedup.pool.capacity,
        .chunks = pool_used(&m->chunks.pool),
        .chunks_max = m->chunks.pool.capacity,
        .observations = pool_used(&w->proxy.observations),
        .observations_max = w->proxy.observations.capacity,
        .relations = pool_used(&w->proxy.relations),
        .relations_max = w->proxy.relations.capacity,
        .resources = resources_count(w->resources),
        .resources_max = resources_max(w->resources),
        .transfers = pool_used(&w->proxy.transfers),
        .transfers_max = w->proxy.transfers.capacity,
        .cache_bytes = (uint64_t)w->proxy.contents.cached * CHUNK_BYTES,
        .cache_bytes_max = m->config->cache.bytes,
        .assembly_bytes = (uint64_t)contents_assembling(&w->proxy.contents) * CHUNK_BYTES,
        .assembly_bytes_max = m->config->limits.assembly_bytes,
        .destinations = proxy_destinations(&w->proxy),
        .destinations_max = m->config->limits.destinations,
        .async = w->modules ? module_asyncs(w->modules) : 0,
        .async_max = m->config->limits.async,
        .timers = m->wheel.armed,
    };
    if (w->security)
        use_security(w->security, usage);
}
