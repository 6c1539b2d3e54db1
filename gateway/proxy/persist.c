/* Observe relations that survive a restart: what the store has of them, and answers that wait for
 * it.
 *
 * A client hears that it observes when the record is confirmed, so that what it has heard is never
 * lost. While the store is away the relations here are the truth: when it is back, all of them are
 * put again, in portions. */
#include <errno.h>

#include "gateway/memory.h"
#include "gateway/proxy/proxy.h"
#include "gateway/serve/module.h"
#include "gateway/store/store.h"

#define BY_OBSERVATION offsetof(struct relation, by_observation)

/* Chunks for each relation: a record takes one or two. */
#define RECORD_CHUNKS 2

/* After a record was refused, the relations without one are tried again. */
#define SWEEP_AGAIN_US 5000000u

/* Deletions that were left for lack of room, and are done before a record is put. */
#define DELETE_FIRST 64

/* A sweep looks at more relations than it puts: many have a record. */
#define SWEEP_LOOKS 8

#define CANNOT_KEEP "the registration cannot be kept"

/* Numbers this close to the mark ask for another one, which is to be so far ahead: they have left
 * the clock behind, and many may be used before the answer comes. */
#define MARK_MARGIN 1024
#define MARK_STEP   16384

/* Of work that goes through a whole table in portions. */
#define NOTHING_LEFT UINT32_MAX

/* A cookie says what is answered: a hold, or a relation that was put again. Bit 63 is for resources
 * (gateway/serve/resource.h). */
#define COOKIE_SWEEP (UINT64_C(1) << 62)
#define SERIAL_MASK  UINT32_C(0x3fffffff)

static uint32_t index_of(const struct proxy *p, const struct relation *r)
{
    return pool_index(&p->relations, r);
}

static struct hold *hold_at(const struct proxy *p, uint32_t index)
{
    return pool_at(&p->persist.holds, index);
}

/* Tells holds, and relations, apart that follow each other in one place. */
static uint32_t next_nonce(struct proxy *p)
{
    if (++p->persist.nonce > SERIAL_MASK)
        p->persist.nonce = 1;
    return p->persist.nonce;
}

void persist_begin(struct proxy *p, struct relation *r)
{
    r->held = POOL_NONE;
    r->record = ROPE_EMPTY;
    r->kept = KEPT_NOT;
    if (p->persist.enabled)
        p->persist.serials[index_of(p, r)] = next_nonce(p);
}

/* ---- deletions that wait for room ---- */

static unsigned delete_some(struct proxy *p, unsigned budget)
{
    struct list *deleting = &p->persist.deleting;
    unsigned n = 0;

    for (; n < budget && deleting->head != POOL_NONE; n++) {
        uint32_t index = deleting->head;
        struct relation *r = relation_at(p, index);

        if (p->persist.up && !persist_tell(p, STORE_DELETE, 0, &r->record))
            break;
        list_remove(deleting, &p->relations, BY_OBSERVATION, index);
        rope_free(&p->persist.records, &r->record);
        pool_put(&p->relations, r);
    }
    return n;
}

/* A record that is put again must not go with its predecessor, which is to be deleted still. False
 * when there is no room for that now. */
static bool put(struct proxy *p, uint64_t cookie, const struct rope *record)
{
    if (p->persist.deleting.head != POOL_NONE)
        (void)delete_some(p, DELETE_FIRST);
    return p->persist.deleting.head == POOL_NONE && persist_tell(p, STORE_PUT, cookie, record);
}

/* ---- answers that wait ---- */

static uint32_t nonce_of(const struct proxy *p, const struct hold *hold)
{
    return p->persist.hold_nonces[pool_index(&p->persist.holds, hold)];
}

static void hold_free(struct proxy *p, struct hold *hold)
{
    p->persist.hold_nonces[pool_index(&p->persist.holds, hold)] = 0;
    pool_put(&p->persist.holds, hold);
}

/* A hold with the exchange of the request. NULL when a table is full. */
static struct hold *hold_open(struct proxy *p, struct relation *r, const struct client *to,
                              const struct wish *wish)
{
    struct hold *hold = pool_get(&p->persist.holds);

    if (!hold)
        return NULL;
    hold->exchange = to->exchange ? to->exchange : exchange_open(p->m, to->rq);
    if (!hold->exchange) {
        pool_put(&p->persist.holds, hold);
        return NULL;
    }
    hold->relation = index_of(p, r);
    hold->wish = *wish;
    hold->wish.record = ROPE_EMPTY;
    hold->next = r->held;
    r->held = pool_index(&p->persist.holds, hold);
    p->persist.hold_nonces[r->held] = next_nonce(p);
    return hold;
}

static void unlink_hold(struct proxy *p, struct relation *r, uint32_t index)
{
    uint32_t *link = &r->held;

    while (*link != index)
        link = &hold_at(p, *link)->next;
    *link = hold_at(p, index)->next;
}

/* After a start a store that is there is connected in some ms: answers wait for that, up to
 * config.store.timeout from the first one on. */
static bool is_early(struct proxy *p)
{
    struct persist *ps = &p->persist;

    if (ps->settled)
        return false;
    if (ps->patient_us == 0)
        ps->patient_us = p->m->now + p->m->config->store.timeout_ms * UINT64_C(1000);
    return p->m->now < ps->patient_us;
}

/* What waits for the store without having been put is to be answered as without it. */
static void refuse_early(struct proxy *p)
{
    p->persist.settled = true;
    p->persist.patient_us = 0;
    p->persist.refusing = 0;
}

/* Without a record the answer goes as the configuration says. */
static enum persist_verdict without_record(struct proxy *p, struct relation *r)
{
    p->m->counters->records_failed++;
    r->kept = KEPT_NOT;
    if (p->m->config->store.reject)
        return PERSIST_REFUSED;
    if (p->persist.up && p->persist.sweep_at_us == 0)
        p->persist.sweep_at_us = p->m->now + SWEEP_AGAIN_US;
    return PERSIST_ANSWER;
}

enum persist_verdict persist_keep(struct proxy *p, struct relation *r, const struct client *to,
                                  const struct wish *wish)
{
    struct hold *hold;

    if (!p->persist.enabled || r->kept == KEPT)
        return PERSIST_ANSWER;
    if (r->record.length == 0 || (!p->persist.up && !is_early(p)))
        return without_record(p, r);
    hold = hold_open(p, r, to, wish);
    if (!hold)
        return without_record(p, r);
    if (!p->persist.up)
        return PERSIST_HELD;
    r->kept = KEPT_ASKED;
    if (!put(p, (uint64_t)nonce_of(p, hold) << 32 | r->held, &r->record)) {
        /* The exchange is there already: the answer goes through it, as if the store had failed. */
        struct client later = {.exchange = hold->exchange};
        struct wish mine = hold->wish;
        uint32_t index = r->held;

        unlink_hold(p, r, index);
        hold_free(p, hold);
        if (without_record(p, r) == PERSIST_ANSWER) {
            relation_confirm(p, index_of(p, r), &later, &mine);
        } else {
            deliver_code(p, &later, CODE_SERVICE_UNAVAILABLE, CANNOT_KEEP);
            relation_drop(p, index_of(p, r));
        }
        return PERSIST_HELD;
    }
    p->m->counters->records_put++;
    return PERSIST_HELD;
}

static void answer_hold(struct proxy *p, uint32_t index, int32_t error)
{
    struct hold *hold = hold_at(p, index);
    struct relation *r = relation_at(p, hold->relation);
    struct client to = {.exchange = hold->exchange};
    struct wish wish = hold->wish;

    unlink_hold(p, r, index);
    hold_free(p, hold);
    if (error == 0) {
        r->kept = KEPT;
    } else if (without_record(p, r) == PERSIST_REFUSED) {
        deliver_code(p, &to, CODE_SERVICE_UNAVAILABLE, CANNOT_KEEP);
        relation_drop(p, index_of(p, r));
        return;
    }
    relation_confirm(p, index_of(p, r), &to, &wish);
}

void persist_close_holds(struct proxy *p, struct relation *r)
{
    while (r->held != POOL_NONE) {
        struct hold *hold = hold_at(p, r->held);

        r->held = hold->next;
        exchange_acknowledge(p->m, hold->exchange);
        exchange_close(p->m, hold->exchange);
        hold_free(p, hold);
    }
}

/* The client has cancelled before it was answered: it gets what it would have got without Observe.
 */
static void answer_without(struct proxy *p, const struct relation *r, struct hold *hold)
{
    const struct observation *o = observation_at(p, r->observation);
    struct client to = {.exchange = hold->exchange};
    struct wish wish = hold->wish;

    hold_free(p, hold);
    if (o->content != CONTENT_NONE)
        (void)deliver(p, &to, o->content, &wish, NULL);
    else
        deliver_code(p, &to, o->last_code ? o->last_code : CODE_SERVICE_UNAVAILABLE, NULL);
}

/* ---- relations that go ---- */

bool persist_end(struct proxy *p, struct relation *r)
{
    while (r->held != POOL_NONE) {
        struct hold *hold = hold_at(p, r->held);

        r->held = hold->next;
        answer_without(p, r, hold);
    }
    if (p->persist.enabled)
        p->persist.serials[index_of(p, r)] = 0;
    if (r->record.length == 0)
        return true;
    if (p->persist.up && !persist_tell(p, STORE_DELETE, 0, &r->record)) {
        list_push_back(&p->persist.deleting, &p->relations, BY_OBSERVATION, index_of(p, r));
        return false;
    }
    /* While the store is away nothing is told: it asks about each record when it is back. */
    rope_free(&p->persist.records, &r->record);
    return true;
}

/* ---- the store ---- */

static void done(struct proxy *p, const struct store_head *head)
{
    uint32_t index = (uint32_t)head->cookie, nonce = (uint32_t)(head->cookie >> 32) & SERIAL_MASK;

    if (nonce == 0) /* as of places that are free */
        return;
    if (head->cookie & COOKIE_SWEEP) {
        if (index < p->relations.fresh && p->persist.serials[index] == nonce &&
            relation_at(p, index)->kept == KEPT_ASKED)
            relation_at(p, index)->kept = head->error ? KEPT_NOT : KEPT;
        if (head->error && p->persist.up && p->persist.sweep_at_us == 0)
            p->persist.sweep_at_us = p->m->now + SWEEP_AGAIN_US;
    } else if (index < p->persist.holds.fresh && p->persist.hold_nonces[index] == nonce) {
        answer_hold(p, index, head->error);
    }
}

static void sweep(struct proxy *p, bool all)
{
    p->persist.cursor = 0;
    p->persist.sweep_end = p->relations.fresh;
    p->persist.sweep_all = all;
    p->persist.sweep_at_us = 0;
}

/* Asks for another mark where that is needed. */
static void ask_for_mark(struct proxy *p)
{
    struct persist *ps = &p->persist;
    const struct worker_io *io = &p->m->io;
    struct store_head head = {.mark = ps->number + MARK_STEP};
    struct parcel *parcel;

    if (!ps->up || ps->number + MARK_MARGIN < ps->mark || ps->mark_asked >= ps->mark)
        return;
    parcel = parcel_new(io->parcels, PARCEL_RECORD, STORE_MARK_ASK, sizeof(head));
    if (!parcel)
        return;
    (void)parcel_write(parcel, 0, &head, sizeof(head));
    if (io->tell(io->context, PARCEL_STORE, parcel))
        ps->mark_asked = ps->mark;
    else
        parcel_free(io->parcels, parcel);
}

void persist_number(struct proxy *p, uint64_t number)
{
    module_on_number(p->modules, number);
    if (number <= p->persist.number)
        return;
    p->persist.number = number;
    ask_for_mark(p);
}

void persist_told(struct proxy *p, const struct parcel *parcel)
{
    struct persist *ps = &p->persist;
    struct store_head head;

    if (!ps->enabled || !parcel_read(parcel, 0, &head, sizeof(head)))
        return;
    switch ((enum store_type)parcel->type) {
    case STORE_DONE:
        done(p, &head);
        break;
    case STORE_UP:
        ps->up = ps->settled = true;
        ps->patient_us = 0;
        sweep(p, true);
        ask_for_mark(p); /* what was used meanwhile */
        break;
    case STORE_DOWN:
        ps->up = false;
        ps->cursor = ps->sweep_end = 0;
        ps->sweep_at_us = 0; /* all is put again when it is up */
        refuse_early(p);
        break;
    case STORE_OVER:
        ps->over = true;
        ps->leaving = 0;
        break;
    case STORE_RESUMED:
        ps->resumed = true;
        break;
    case STORE_MARK:
        if (ps->mark == 0 && ps->floor < head.cookie)
            ps->floor = head.cookie;
        ps->mark = head.mark;
        break;
    default:
        break;
    }
}

/* ---- work in portions ---- */

/* Registrations of before the store was there, each with its own answer. */
static bool put_held(struct proxy *p, struct relation *r)
{
    for (uint32_t index = r->held; index != POOL_NONE; index = hold_at(p, index)->next) {
        if (!put(p, (uint64_t)nonce_of(p, hold_at(p, index)) << 32 | index, &r->record))
            return false;
        p->m->counters->records_put++;
    }
    r->kept = KEPT_ASKED;
    return true;
}

/* Of holds that were not put; those that were have their answer from the store. */
static unsigned refuse_some(struct proxy *p, unsigned budget)
{
    struct persist *ps = &p->persist;
    unsigned n = 0;

    if (ps->refusing == NOTHING_LEFT)
        return 0;
    for (; n < budget && ps->refusing < ps->holds.fresh; n++, ps->refusing++)
        if (ps->hold_nonces[ps->refusing] &&
            relation_at(p, hold_at(p, ps->refusing)->relation)->kept == KEPT_NOT)
            answer_hold(p, ps->refusing, -ENOTCONN);
    if (ps->refusing >= ps->holds.fresh)
        ps->refusing = NOTHING_LEFT;
    return n;
}

/* The other gateway has them from the store, and goes on with their numbers: devices would get
 * older ones between. They are not told. */
static unsigned leave_some(struct proxy *p, unsigned budget)
{
    struct persist *ps = &p->persist;
    unsigned n = 0;

    if (ps->leaving == NOTHING_LEFT)
        return 0;
    for (; n < budget && ps->leaving < p->relations.fresh; n++, ps->leaving++) {
        if (ps->serials[ps->leaving] == 0 || relation_at(p, ps->leaving)->kept == KEPT_NOT)
            continue;
        p->m->counters->relations_left++;
        relation_drop(p, ps->leaving);
    }
    if (ps->leaving >= p->relations.fresh)
        ps->leaving = NOTHING_LEFT;
    return n;
}

/* False when the store takes no more now. */
static bool put_again(struct proxy *p, uint32_t index)
{
    struct relation *r = relation_at(p, index);
    uint64_t cookie = COOKIE_SWEEP | (uint64_t)p->persist.serials[index] << 32 | index;

    if (p->persist.serials[index] == 0 || r->record.length == 0 ||
        (r->kept == KEPT && !p->persist.sweep_all))
        return true;
    if (r->held != POOL_NONE)
        return r->kept != KEPT_NOT || put_held(p, r);
    if (!put(p, cookie, &r->record))
        return false;
    r->kept = r->kept == KEPT ? KEPT : KEPT_ASKED;
    p->m->counters->records_put++;
    return true;
}

/* Not before one that is under way has come to its end: that may be one of all. */
static bool is_sweep_due(const struct proxy *p)
{
    const struct persist *ps = &p->persist;

    return ps->sweep_at_us && p->m->now >= ps->sweep_at_us && ps->cursor >= ps->sweep_end;
}

unsigned persist_advance(struct proxy *p, unsigned budget)
{
    struct persist *ps = &p->persist;
    unsigned done = 0;

    if (ps->patient_us && p->m->now >= ps->patient_us)
        refuse_early(p);
    done += refuse_some(p, budget);
    done += leave_some(p, budget);
    if (is_sweep_due(p))
        sweep(p, false);
    if (ps->deleting.head != POOL_NONE)
        done += delete_some(p, budget);
    for (unsigned looks = budget * SWEEP_LOOKS; looks && ps->cursor < ps->sweep_end; looks--) {
        if (!put_again(p, ps->cursor))
            break;
        ps->cursor++;
        done++;
    }
    return done;
}

bool persist_has_work(const struct proxy *p)
{
    const struct persist *ps = &p->persist;

    return ps->cursor < ps->sweep_end || ps->deleting.head != POOL_NONE || is_sweep_due(p) ||
           (ps->patient_us && p->m->now >= ps->patient_us) || ps->refusing != NOTHING_LEFT ||
           ps->leaving != NOTHING_LEFT;
}

uint64_t persist_next_us(const struct proxy *p)
{
    uint64_t again = p->persist.sweep_at_us ? p->persist.sweep_at_us : UINT64_MAX;
    uint64_t patient = p->persist.patient_us ? p->persist.patient_us : UINT64_MAX;

    return again < patient ? again : patient;
}

/* ---- start and end ---- */

static size_t nonces_bytes(uint32_t count)
{
    return (size_t)count * sizeof(uint32_t);
}

int persist_init(struct proxy *p)
{
    const struct config *config = p->m->config;
    int err;

    p->persist.deleting = LIST_NONE;
    p->persist.refusing = p->persist.leaving = NOTHING_LEFT;
    p->persist.enabled =
        config->store.kind != CONFIG_STORE_NONE && p->m->io.tell && config->limits.relations;
    /* Without a store, a record is for modules, and goes when they have seen it. */
    if (!p->persist.enabled && (!modules_wanted(config) || config->limits.relations == 0))
        return 0;
    err = chunks_init(&p->persist.records,
                      (size_t)config->limits.relations * RECORD_CHUNKS * CHUNK_BYTES);
    if (err || !p->persist.enabled)
        return err;
    err = pool_init(&p->persist.holds, sizeof(struct hold), config->limits.exchanges);
    p->persist.hold_nonces = memory_reserve(nonces_bytes(config->limits.exchanges));
    p->persist.serials = memory_reserve(nonces_bytes(config->limits.relations));
    if (err || (err = persist_init_resume(p)))
        return err;
    return p->persist.hold_nonces && p->persist.serials ? 0 : -ENOMEM;
}

void persist_fini(struct proxy *p)
{
    chunks_fini(&p->persist.records);
    if (!p->persist.enabled)
        return;
    persist_fini_resume(p);
    memory_release(p->persist.serials, nonces_bytes(p->m->config->limits.relations));
    memory_release(p->persist.hold_nonces, nonces_bytes(p->m->config->limits.exchanges));
    pool_fini(&p->persist.holds);
}
