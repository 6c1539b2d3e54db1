#include "gateway/security/security.h"

#include <errno.h>
#include <string.h>

#include <openssl/rand.h>

#include "gateway/memory.h"
#include "gateway/security/security_parts.h"

/* Contexts for each kind of cipher: two for each association that talks at a time. */
#define CONTEXTS_MAX 4096u

/* Around a message in the longest record: header, Connection ID, nonce, inner type, tag. */
#define OVERHEAD_MAX (13u + RECORD_CID_MAX + 8u + 1u + 16u)

#define IP4_UDP_BYTES 28
#define IP6_UDP_BYTES 48

/* ---- what the configuration has ---- */

bool security_wanted(const struct config *config)
{
    return credentials_wanted(config);
}

int security_listener_of(const struct security *s, const struct flow *wire)
{
    const struct config *config = s->setup.config;

    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];

        if (l->dtls && l->port == wire->local_port && l->local == wire->local)
            return (int)i;
    }
    return -1;
}

static void mark_port(struct security *s, uint16_t port)
{
    s->ports[port / 64] |= UINT64_C(1) << (port % 64);
}

static void mark_ports(struct security *s)
{
    const struct config *config = s->setup.config;
    unsigned first = config->upstream_port_base;

    for (unsigned i = 0; i < config->listener_count; i++)
        if (config->listeners[i].dtls)
            mark_port(s, config->listeners[i].port);
    for (unsigned i = 0; i < config->upstream_count; i++)
        s->has_origins |= config->upstreams[i].dtls != NULL;
    s->has_origins |= config->forward.upstream.dtls != NULL;
    for (unsigned i = 0; s->has_origins && i < config->workers << config->upstream_port_shift; i++)
        mark_port(s, (uint16_t)(first + i));
}

/* ---- start and end ---- */

static int prepare(struct security *s, const struct config_suites *suites)
{
    int err = 0;

    for (unsigned i = 0; i < suites->count && !err; i++) {
        enum suite suite;

        if (suite_of(suites->numbers[i], &suite))
            err = aead_prepare(s->aead, suite);
    }
    return err;
}

/* All that may be agreed on: to make the contexts of one takes longer than a packet may wait. */
static int prepare_all(struct security *s)
{
    const struct config *config = s->setup.config;
    int err = 0;

    for (unsigned i = 0; i < config->listener_count && !err; i++)
        if (config->listeners[i].dtls)
            err = prepare(s, &config->listeners[i].dtls->suites);
    for (unsigned i = 0; i < config->upstream_count && !err; i++)
        if (config->upstreams[i].dtls)
            err = prepare(s, &config->upstreams[i].dtls->suites);
    return err;
}

static int init(struct security *s, const struct security_setup *setup)
{
    unsigned contexts =
        setup->associations < CONTEXTS_MAX / 2 ? 2 * setup->associations : CONTEXTS_MAX;
    uint64_t secret;
    int err;

    random_seed(&s->random, setup->seed);
    mark_ports(s);
    s->aead = aead_create(contexts);
    if (!s->aead)
        return -ENOMEM;
    if ((err = prepare_all(s)))
        return err;
    if (RAND_bytes((uint8_t *)&secret, sizeof(secret)) != 1)
        return -EIO;
    err = associations_init(&s->associations, setup->associations, secret);
    if (!err)
        err = security_contacts_init(s);
    if (!err)
        err = security_keep_init(s);
    if (err)
        return err;
    wheel_handle(setup->wheel, TIMER_ASSOCIATION, security_on_idle, s);
    wheel_handle(setup->wheel, TIMER_HANDSHAKE, security_on_handshake, s);
    wheel_handle(setup->wheel, TIMER_KEEP, security_on_keep, s);
    return 0;
}

struct security *security_create(const struct security_setup *setup)
{
    struct security *s = memory_reserve(sizeof(*s));
    int err;

    if (!s) {
        credentials_drop(setup->credentials);
        return NULL;
    }
    s->setup = *setup;
    s->setup.seed = NULL; /* the caller's, for this call only */
    s->credentials = setup->credentials;
    s->now = setup->now;
    err = init(s, setup);
    if (err) {
        security_destroy(s);
        errno = -err;
        return NULL;
    }
    return s;
}

/* The wheel goes with the worker: what is armed in it is not looked at any more. */
void security_destroy(struct security *s)
{
    if (!s)
        return;
    security_contacts_fini(s);
    security_keep_fini(s);
    associations_fini(&s->associations);
    aead_destroy(s->aead);
    credentials_drop(s->credentials);
    memory_release(s, sizeof(*s));
}

void security_renew(struct security *s, struct credentials *credentials)
{
    credentials_drop(s->credentials);
    s->credentials = credentials;
}

/* ---- driving ---- */

unsigned security_advance(struct security *s, uint64_t now)
{
    unsigned done;

    if (now > s->now)
        s->now = now;
    done = security_work(s) + security_keep_work(s);
    return s->farewell ? done + security_say_farewell(s) : done;
}

bool security_has_work(const struct security *s)
{
    return s->work.head != POOL_NONE || s->farewell || security_keep_has_work(s);
}

void security_drain(struct security *s, bool farewell)
{
    if (s->draining)
        return;
    s->draining = true;
    s->farewell = farewell || s->has_origins; /* what is with these is never kept */
    s->farewell_to_all = farewell;
}

bool security_is_quiet(const struct security *s)
{
    return !s->farewell;
}

/* What an ICMP error quotes shows whether its sender has seen a record of ours: one of the latest.
 * Others are not believed, as anybody could send them. */
static bool is_recent(const struct association *a, const uint8_t *quoted, size_t length)
{
    struct record_view v;
    uint64_t sequence = 0;

    if (length < RECORD_CID_AT ||
        quoted[0] != (a->cid_length ? RECORD_CID : RECORD_APPLICATION_DATA))
        return false;
    v.epoch = (uint16_t)(quoted[3] << 8 | quoted[4]);
    for (unsigned i = 5; i < RECORD_CID_AT; i++)
        sequence = sequence << 8 | quoted[i];
    return v.epoch == ASSOCIATION_EPOCH && sequence < a->sequence &&
           a->sequence - sequence <= RECORD_WINDOW;
}

bool security_unreachable(const struct security *s, const struct flow *wire, const uint8_t *quoted,
                          size_t length, struct flow *out)
{
    uint32_t hash = places_hash_flow(&s->associations.key, wire);
    const struct association *a = association_at_wire(&s->associations, wire, hash, NULL);

    while (a && !is_recent(a, quoted, length))
        a = association_at_wire(&s->associations, wire, hash, a);
    if (!a)
        return false;
    *out = association_flow(a);
    return true;
}

/* ---- what a session is ---- */

static struct association *lookup(const struct security *s, const struct flow *session)
{
    const struct associations *all = &s->associations;
    const uint8_t *id = association_flow_id(session);
    struct association *a;
    struct flow wire;
    uint32_t hash;

    if (id)
        return association_of_id(all, id, places_hash_id(&all->key, id));
    wire = *session;
    wire.transport = TRANSPORT_UDP;
    hash = places_hash_flow(&all->key, &wire);
    for (a = association_at_wire(all, &wire, hash, NULL); a && a->role != ASSOCIATION_CLIENT;)
        a = association_at_wire(all, &wire, hash, a);
    return a;
}

/* A message is allocated and sent in two calls, and an answer follows what it answers. */
struct association *security_lookup(struct security *s, const struct flow *session)
{
    const uint8_t *id = association_flow_id(session);
    struct association *a = s->last;

    if (a && id && a->role == ASSOCIATION_SERVER && net_word(a->id) == net_word(id))
        return a;
    if (a && !id && a->role == ASSOCIATION_CLIENT) {
        struct flow flow = association_flow(a);

        if (flow_equal(&flow, session))
            return a;
    }
    a = lookup(s, session);
    s->last = a;
    return a;
}

const struct association *security_find(const struct security *s, const struct flow *session)
{
    return s && session->transport == TRANSPORT_DTLS ? lookup(s, session) : NULL;
}

const struct principal *security_principal(const struct security *s, const struct flow *session)
{
    static const struct principal nobody = {.kind = PRINCIPAL_NONE};
    const struct association *a = security_find(s, session);

    return a ? &a->principal : &nobody;
}

bool security_peer(const struct security *s, const struct flow *session, struct endpoint *out)
{
    const struct association *a = security_find(s, session);

    if (a)
        *out = (struct endpoint){a->wire.peer, a->wire.peer_port};
    return a != NULL;
}

uint16_t security_overhead(const struct security *s, const struct flow *session)
{
    const struct association *a = security_find(s, session);

    return a ? (uint16_t)(record_lead((enum suite)a->suite, a->cid_length) +
                          record_trail((enum suite)a->suite, a->cid_length))
             : OVERHEAD_MAX;
}

static uint16_t headers_of(const struct flow *wire)
{
    return address_is_v4(&wire->peer) ? IP4_UDP_BYTES : IP6_UDP_BYTES;
}

uint16_t security_headers(const struct security *s, const struct flow *session)
{
    const struct association *a = security_find(s, session);

    return headers_of(a ? &a->wire : session);
}

uint16_t security_wire_room(const struct security *s, const struct flow *wire)
{
    return (uint16_t)(s->setup.config->locals[wire->local].mtu - headers_of(wire));
}

bool security_is_unproven(const struct security *s, const struct flow *session)
{
    const struct association *a = security_find(s, session);

    return a && a->unproven;
}

void security_prove(struct security *s, const struct flow *session)
{
    struct association *a = lookup(s, session);

    if (!a || !a->unproven)
        return;
    a->unproven = false;
    a->window.mask = UINT64_MAX; /* what is older may have been received before the restart */
}

void security_close(struct security *s, const struct flow *session, bool notify)
{
    struct association *a = lookup(s, session);

    if (a)
        security_end(s, a, notify, &s->setup.counters->associations_closed);
    else
        security_disconnect(s, session);
}

void security_usage(const struct security *s, struct security_usage *usage)
{
    *usage = (struct security_usage){
        .associations = pool_used(&s->associations.pool),
        .associations_max = s->associations.pool.capacity,
        .handshakes = pool_used(&s->contacts),
        .handshakes_max = s->contacts.capacity,
        .chunks = pool_used(&s->chunks.pool),
        .chunks_max = s->chunks.pool.capacity,
    };
}
