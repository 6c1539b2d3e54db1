#include "gateway/inspect.h"

#include <errno.h>
#include <stddef.h>

#include "gateway/proxy/local.h"
#include "gateway/serve/module.h"
#include "gateway/serve/resource.h"
#include "gateway/session/messaging.h"

/* An answer being written. `work` is what may still be done for it. */
struct page {
    const struct inspected *in;
    struct messaging *m;
    struct proxy *p;
    const struct inspect_question *q;
    struct inspect_head head;
    uint32_t length, work;
    uint8_t bytes[INSPECT_BYTES];
};

/* False when it does not fit any more. Rows keep the alignment of uint64_t. */
static bool add_row(struct page *page, const void *row, size_t bytes)
{
    if (bytes > sizeof(page->bytes) - page->length ||
        (page->q->limit && page->head.count == page->q->limit))
        return false;
    memcpy(page->bytes + page->length, row, bytes);
    page->length += (uint32_t)bytes;
    page->head.count++;
    return true;
}

static void spend(struct page *page, uint32_t work)
{
    page->work -= work < page->work ? work : page->work;
}

static uint64_t since(const struct page *page, uint64_t then_us)
{
    return page->m->now > then_us ? page->m->now - then_us : 0;
}

/* ---- sessions ---- */

static uint32_t check_of(const struct page *page, const struct session *s)
{
    return session_hash(&page->m->sessions, &s->flow);
}

static bool matches(const struct page *page, const struct session *s)
{
    const struct inspect_question *q = page->q;
    struct endpoint peer;

    switch ((enum inspect_match)q->match) {
    case INSPECT_ALL:
        return true;
    case INSPECT_ONE:
        return session_index(&page->m->sessions, s) == q->index && check_of(page, s) == q->check;
    case INSPECT_ENDPOINT:
    case INSPECT_PEER:
        break;
    }
    peer = messaging_peer(page->m, &s->flow);
    return address_equal(&peer.address, &q->peer.address) &&
           (q->match == INSPECT_PEER || peer.port == q->peer.port);
}

/* The session that a question names; NULL when it has gone. */
static struct session *named_session(const struct page *page)
{
    const struct session_table *table = &page->m->sessions;
    struct session *s;

    if (page->q->index >= table->max)
        return NULL;
    s = session_at(table, page->q->index);
    return s->open && check_of(page, s) == page->q->check ? s : NULL;
}

static struct inspect_name name_of(const struct page *page, const struct session *s)
{
    return (struct inspect_name){.index = session_index(&page->m->sessions, s),
                                 .check = check_of(page, s),
                                 .flow = s->flow,
                                 .peer = messaging_peer(page->m, &s->flow)};
}

static uint32_t count_relations(struct page *page, const struct session *s)
{
    uint32_t n = 0, index = s->side.client.relations;

    for (; index != POOL_NONE && n < INSPECT_COUNT; n++)
        index = relation_at(page->p, index)->by_session.next;
    spend(page, n);
    return n;
}

/* The parameters that it would have if they were not its own. */
static const struct transmission *inherited(const struct page *page, const struct session *s)
{
    return s->role == SESSION_CLIENT ? &messaging_listener(page->m, s)->transmission
                                     : s->gate.shared->transmission;
}

/* What its association is, over DTLS. */
static void put_association(const struct page *page, const struct session *s,
                            struct inspect_session *row)
{
    const struct association *a = security_find(page->m->security, &s->flow);

    if (!a)
        return;
    row->secured = 1;
    row->suite = a->suite;
    row->own_cid = a->own_cid;
    row->peer_cid = a->cid_length != 0;
    row->resumed = a->resumed;
    row->principal = a->principal;
}

static bool add_session(struct page *page, const struct session *s)
{
    const bool upstream = s->role == SESSION_UPSTREAM;
    const struct gate *gate = upstream ? &s->gate.shared->gate : &s->gate.own;
    struct inspect_session row = {
        .name = name_of(page, s),
        .silent_us = since(page, s->seen_us),
        .transmission = *s->transmission,
        .upstream = upstream,
        .proven = s->proven,
        .own = s->tuned,
        .exchanges = s->exchange_count,
        .remembered = s->remembered_count,
        .outstanding = gate->outstanding,
        .waiting = gate->waiting,
        .relations = upstream ? 0 : count_relations(page, s),
        .users = upstream ? s->side.upstream.users : 0,
    };

    put_association(page, s, &row);
    return add_row(page, &row, sizeof(row));
}

/* Calls `each` for the sessions of a page, until it says that no more fits. */
static void walk_sessions(struct page *page,
                          bool (*each)(struct page *page, const struct session *))
{
    const struct session_table *table = &page->m->sessions;
    uint32_t i = page->q->match == INSPECT_ONE && page->q->from <= page->q->index ? page->q->index
                                                                                  : page->q->from;

    for (; i < table->max && page->work; i++) {
        const struct session *s = session_at(table, i);

        spend(page, 1);
        if (s->open && matches(page, s) && !each(page, s))
            break;
        if (page->q->match == INSPECT_ONE)
            i = table->max - 1;
    }
    page->head.next = i < table->max ? i : INSPECT_END;
}

static void one_session(struct page *page)
{
    const struct session *s = named_session(page);

    if (s)
        add_session(page, s);
    else
        page->head.error = -ENOENT;
}

/* ---- relations ---- */

/* A relation as it goes into the answer, with room for what follows it. */
struct relation_row {
    struct inspect_relation fixed;
    uint8_t tail[INSPECT_TOKEN_BYTES + INSPECT_OPTIONS_BYTES + 8];
};

static void put_token(const struct page *page, const struct relation *r, struct relation_row *row)
{
    const uint32_t length =
        r->token_length < INSPECT_TOKEN_BYTES ? r->token_length : INSPECT_TOKEN_BYTES;

    if (r->token_chunk == CHUNK_NONE)
        memcpy(row->tail, r->token, length);
    else
        chunks_read(&page->m->chunks, r->token_chunk, row->tail, length);
    row->fixed.token_length = (uint16_t)length;
    row->fixed.token_cut = length < r->token_length;
}

/* The first `length` bytes of a rope from `offset` on, as far as there is room. */
static void put_bytes(const struct page *page, const struct rope *rope, uint32_t offset,
                      uint32_t length, struct relation_row *row)
{
    const uint32_t some = length < INSPECT_OPTIONS_BYTES ? length : INSPECT_OPTIONS_BYTES;

    rope_read(&page->p->contents.chunks, rope, NULL, offset, row->tail + row->fixed.token_length,
              some);
    row->fixed.options_length = (uint16_t)some;
    row->fixed.options_cut = some < length;
}

/* What is observed, as the origin is asked for it. */
static void put_key(const struct page *page, const struct target *target, struct relation_row *row)
{
    struct space space;

    rope_read(&page->p->contents.chunks, &target->key, NULL, 0, &space, sizeof(space));
    row->fixed.method = space.method;
    row->fixed.upstream = space.forward ? INSPECT_FORWARD : space.upstream;
    put_bytes(page, &target->key, sizeof(space), target->options_length, row);
}

/* Of one that is over, the owner has nothing any more. */
static void put_local(const struct page *page, const struct observation *o,
                      struct relation_row *row)
{
    const struct rope *rope;
    uint16_t length;

    if (o->state == OBSERVATION_OVER)
        return;
    if (o->local_kind == LOCAL_RESOURCE) {
        rope = resources_name(page->in->resources, o->local);
        put_bytes(page, rope, 0, rope->length, row);
    } else if (o->local_kind == LOCAL_MODULE) {
        rope = module_watched(page->in->modules, o->local, &row->fixed.method, &length);
        put_bytes(page, rope, 0, length, row);
    }
}

static bool add_relation(struct page *page, const struct session *s, const struct relation *r)
{
    const struct observation *o = observation_at(page->p, r->observation);
    struct relation_row row = {
        .fixed = {.session = name_of(page, s),
                  .state_n = r->state_n,
                  .sent_us = since(page, r->sent_us),
                  .acked_us = since(page, r->acked_us),
                  .observation = r->observation,
                  .observers = o->relation_count,
                  .unconfirmed = r->unconfirmed,
                  .upstream = INSPECT_LOCAL,
                  .outstanding = r->outbound != POOL_NONE,
                  .confirmed = r->confirmed,
                  .kept = r->kept,
                  .method = CODE_GET,
                  .observed_state = o->state,
                  .local_kind = o->local_kind},
    };

    put_token(page, r, &row);
    if (o->target != TARGET_NONE)
        put_key(page, target_at(&page->p->targets, o->target), &row);
    else
        put_local(page, o, &row);
    row.fixed.bytes =
        (uint32_t)(sizeof(row.fixed) + row.fixed.token_length + row.fixed.options_length + 7) / 8 *
        8;
    return add_row(page, &row, row.fixed.bytes);
}

/* Where the page ends within a session, the next one begins behind what has been told of it. */
static bool add_relations(struct page *page, const struct session *s)
{
    const bool first = session_index(&page->m->sessions, s) == page->q->from;
    uint32_t index, n = 0;

    if (s->role != SESSION_CLIENT)
        return true;
    for (index = s->side.client.relations; index != POOL_NONE; n++) {
        const struct relation *r = relation_at(page->p, index);

        if ((!first || n >= page->q->skip) && !add_relation(page, s, r)) {
            page->head.skip = n;
            return false;
        }
        index = r->by_session.next;
    }
    spend(page, n);
    return true;
}

/* ---- servers ---- */

static void fill_server(const struct page *page, uint32_t index, struct inspect_server *row)
{
    const struct upstreams *u = &page->p->upstreams;
    const struct server *server = &u->servers[index];
    const bool configured = index < u->server_count;

    *row = (struct inspect_server){
        .endpoint = server->place.endpoint,
        .upstream = configured ? server->group : INSPECT_FORWARD,
        .number = (uint16_t)(index - (configured ? u->first[server->group] : u->server_count)),
        .down = server->down,
        .pings = server->pings,
        .requests = server->fetch_count,
        .observations = server->observation_count,
        .outstanding = server->gate.gate.outstanding,
        .waiting = server->gate.gate.waiting,
        .heard_us = since(page, server->gate.heard_us),
        .down_us = server->down ? since(page, server->down_us) : 0,
        .transport = (uint8_t)server->place.transport,
    };
    if (!server_is_secure(server))
        return;
    row->association = (uint8_t)upstreams_association(u, server);
    row->associations = server->dtls.associations;
    row->failed_us = server->dtls.why[0] ? since(page, server->dtls.failed_us) : 0;
    memcpy(row->why, server->dtls.why, sizeof(row->why));
}

/* Behind the configured ones are places for destinations: those without an address are not used. */
static void walk_servers(struct page *page)
{
    const struct upstreams *u = &page->p->upstreams;
    struct inspect_server row;
    uint32_t i;

    for (i = page->q->from; i < u->total && page->work; i++) {
        spend(page, 1);
        if (!u->servers[i].upstream || !u->servers[i].place.endpoint.port)
            continue;
        fill_server(page, i, &row);
        if (!add_row(page, &row, sizeof(row)))
            break;
    }
    page->head.next = i < u->total ? i : INSPECT_END;
}

static void tell_usage(struct page *page)
{
    struct worker_usage usage;

    worker_usage(page->in->worker, &usage);
    add_row(page, &usage, sizeof(usage));
}

/* ---- changing ---- */

static bool same(const struct transmission *a, const struct transmission *b)
{
    for (unsigned i = 0; i < TRANSMISSION_PARAMETERS; i++)
        if (transmission_get(a, i) != transmission_get(b, i))
            return false;
    return true;
}

/* Sets what is to be set in `t`. 0 or -ERANGE. */
static int merge(struct transmission *t, const struct transmission *inherited_set,
                 const struct inspect_parameters *change)
{
    for (unsigned i = 0; i < TRANSMISSION_PARAMETERS; i++) {
        uint64_t milli = change->milli[i];

        if (!((change->set | change->reset) >> i & 1))
            continue;
        if (change->reset >> i & 1)
            milli = transmission_get(inherited_set, i);
        if (transmission_set(t, i, milli) != 0)
            return -ERANGE;
    }
    return 0;
}

/* A session that has nothing of its own any more needs no place for it. */
static int set_parameters(struct page *page, const struct parcel *question)
{
    struct session *s = named_session(page);
    struct inspect_parameters change;
    struct transmission t, other;
    int err;

    if (!s)
        return -ENOENT;
    if (!parcel_read(question, sizeof(*page->q), &change, sizeof(change)))
        return -EINVAL;
    t = *s->transmission;
    other = *inherited(page, s);
    err = merge(&t, &other, &change);
    if (!err)
        err = messaging_set_transmission(page->m, s, same(&t, &other) ? NULL : &t);
    if (!err)
        add_session(page, s);
    return err;
}

static int set_loss(struct page *page, const struct parcel *question)
{
    struct loss loss;

    if (!parcel_read(question, sizeof(*page->q), &loss, sizeof(loss)))
        return -EINVAL;
    messaging_set_loss(page->m, &loss);
    return 0;
}

/* ---- answering ---- */

static void answer(struct page *page, const struct parcel *question)
{
    switch ((enum inspect_type)question->type) {
    case INSPECT_SESSIONS:
        walk_sessions(page, add_session);
        return;
    case INSPECT_SESSION:
        one_session(page);
        return;
    case INSPECT_RELATIONS:
        walk_sessions(page, add_relations);
        return;
    case INSPECT_SERVERS:
        walk_servers(page);
        return;
    case INSPECT_USAGE:
        tell_usage(page);
        return;
    case INSPECT_SET:
        page->head.error = set_parameters(page, question);
        return;
    case INSPECT_SET_LOSS:
        page->head.error = set_loss(page, question);
        break;
    case INSPECT_LOSS:
        break;
    default:
        page->head.error = -ENOTSUP;
        return;
    }
    add_row(page, &page->m->loss, sizeof(page->m->loss));
}

static void send(const struct page *page, uint16_t type)
{
    const struct worker_io *io = &page->m->io;
    const uint32_t rows = page->head.error ? 0 : page->length;
    struct parcel *parcel =
        parcel_new(io->parcels, PARCEL_INSPECT, type, (uint32_t)sizeof(page->head) + rows);

    if (!parcel)
        return;
    parcel_write(parcel, 0, &page->head, sizeof(page->head));
    parcel_write(parcel, sizeof(page->head), page->bytes, rows);
    if (!io->tell(io->context, PARCEL_CONTROL, parcel))
        parcel_free(io->parcels, parcel);
}

void inspect_told(const struct inspected *in, const struct parcel *question)
{
    struct inspect_question q;
    struct page page;

    if (!in->messaging->io.tell || !parcel_read(question, 0, &q, sizeof(q)))
        return;
    page.in = in;
    page.m = in->messaging;
    page.p = in->proxy;
    page.q = &q;
    page.head = (struct inspect_head){.serial = q.serial, .next = INSPECT_END};
    page.length = 0;
    page.work = INSPECT_SCAN;
    answer(&page, question);
    send(&page, question->type);
}
