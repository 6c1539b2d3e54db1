/* Associations in the store: given when they begin, when their addresses change and when their
 * sequence numbers are used up; taken up again after a start.
 *
 * One record of an association is on its way at a time. What changes meanwhile makes it stale, and
 * it is given again when that one has been answered. What is given when is a matter of keep.h. */
#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>

#include "gateway/memory.h"
#include "gateway/security/security_parts.h"
#include "gateway/store/store.h"

#define BY_KEEP offsetof(struct association, by_keep)

/* Records that are sealed in one turn, which takes some microseconds each. */
#define RECORDS_PER_TURN 16

/* Others, which cost less. */
#define LOOKS_PER_TURN 256

/* After the store has failed, but is there. */
#define AGAIN_US 1000000u

#define DOOMED_MAX 1024u

/* How many of the store's timeouts an association waits for its next sequence numbers. */
#define PATIENCE 10u

/* ---- sequence numbers ---- */

static struct keep_reserve reserve_of(const struct association *a)
{
    return (struct keep_reserve){a->sequence, a->kept ? a->confirmed : KEEP_END, a->reserved};
}

/* The last of those that are confirmed are left for alerts. */
static void set_reserve(struct association *a, const struct keep_reserve *r)
{
    uint64_t last = security_last_sequence(a);

    a->confirmed = r->confirmed;
    a->reserved = r->asked;
    a->limit = r->confirmed > SECURITY_ALERTS_LEFT ? r->confirmed - SECURITY_ALERTS_LEFT : 0;
    if (a->limit > last)
        a->limit = last;
    if (a->sequence < a->limit)
        a->stalled_us = 0;
}

bool security_keep_is_stalled(const struct security *s, const struct association *a)
{
    uint64_t patience_us = UINT64_C(1000) * PATIENCE * s->setup.config->store.timeout_ms;

    return a->stalled_us && s->now >= a->stalled_us + patience_us;
}

/* ---- lists ---- */

static uint32_t index_of(const struct security *s, const struct association *a)
{
    return association_index(&s->associations, a);
}

static struct list *list_of(struct security *s, enum keeping keeping)
{
    return keeping == KEEPING_NOW ? &s->keeper.now : &s->keeper.later;
}

static void set_keeping(struct security *s, struct association *a, enum keeping keeping)
{
    const struct pool *pool = &s->associations.pool;

    if (a->keeping == keeping)
        return;
    if (a->keeping != KEEPING_NOT)
        list_remove(list_of(s, (enum keeping)a->keeping), pool, BY_KEEP, index_of(s, a));
    a->keeping = (uint8_t)keeping;
    if (keeping != KEEPING_NOT)
        list_push_back(list_of(s, keeping), pool, BY_KEEP, index_of(s, a));
}

static bool is_keepable(const struct security *s, const struct association *a)
{
    return s->keeper.keep && !s->keeper.over && a->role == ASSOCIATION_SERVER;
}

static void want(struct security *s, struct association *a)
{
    if (!is_keepable(s, a))
        return;
    a->stale = true;
    if (a->reserved == 0 && a->keeping == KEEPING_NOT)
        set_keeping(s, a, KEEPING_NOW);
}

static void want_later(struct security *s, struct association *a)
{
    struct keeper *k = &s->keeper;

    a->stale = true;
    if (k->later.head == POOL_NONE)
        wheel_arm(s->setup.wheel, &k->again, s->now + AGAIN_US);
    set_keeping(s, a, KEEPING_LATER);
}

void security_on_keep(void *context, struct timer *timer, uint64_t now_us)
{
    struct security *s = context;
    struct keeper *k = &s->keeper;

    if (now_us > s->now)
        s->now = now_us;
    for (unsigned n = 0; n < LOOKS_PER_TURN && k->later.head != POOL_NONE; n++)
        set_keeping(s, pool_at(&s->associations.pool, k->later.head), KEEPING_NOW);
    if (k->later.head != POOL_NONE)
        wheel_arm(s->setup.wheel, timer, s->now + 1000);
}

/* ---- to the store ---- */

static bool tell(const struct security *s, enum store_type type, uint64_t cookie,
                 const struct store_association *clear, const uint8_t *sealed)
{
    const struct worker_io *io = &s->setup.io;
    const struct store_head head = {.cookie = cookie, .what = STORE_ASSOCIATION};
    const uint32_t at = sizeof(head) + sizeof(*clear);
    struct parcel *parcel;

    if (!io->tell)
        return false;
    parcel = parcel_new(io->parcels, PARCEL_RECORD, (uint16_t)type, at + clear->sealed_length);
    if (!parcel)
        return false;
    (void)parcel_write(parcel, 0, &head, sizeof(head));
    (void)parcel_write(parcel, sizeof(head), clear, sizeof(*clear));
    (void)parcel_write(parcel, at, sealed, clear->sealed_length);
    if (io->tell(io->context, PARCEL_STORE, parcel))
        return true;
    parcel_free(io->parcels, parcel);
    return false;
}

static struct store_association clear_of(const struct security *s, const struct association *a)
{
    struct store_association clear = {
        .listen = {s->setup.config->locals[a->wire.local].address, a->wire.local_port},
        .peer = {a->wire.peer, a->wire.peer_port},
        .cid = a->own_cid};

    memcpy(clear.id, a->id, sizeof(clear.id));
    return clear;
}

static void state_of(const struct association *a, uint64_t limit, struct keep_state *state)
{
    *state = (struct keep_state){.read = a->read,
                                 .write = a->write,
                                 .limit = limit,
                                 .top = a->window.any ? a->window.top : 0,
                                 .any = a->window.any,
                                 .own_cid = a->own_cid,
                                 .cid_length = a->cid_length,
                                 .epoch = ASSOCIATION_EPOCH,
                                 .created_us = a->opened_us,
                                 .principal = a->principal};
    memcpy(state->cid, a->cid, a->cid_length);
}

/* False when the store takes no more now. */
static bool give(struct security *s, struct association *a)
{
    struct store_association clear = clear_of(s, a);
    struct keep_reserve r = reserve_of(a);
    uint8_t sealed[STORE_SEALED_MAX];
    struct keep_state state;
    uint64_t cookie = (uint64_t)a->generation << 32 | index_of(s, a);
    int length;

    state_of(a, keep_reserve_ask(&r), &state);
    length = keep_seal(s->keeper.keep, &clear, &state, sealed);
    OPENSSL_cleanse(&state, sizeof(state));
    if (length < 0) { /* OpenSSL fails: it may do better */
        want_later(s, a);
        return true;
    }
    clear.sealed_length = (uint32_t)length;
    if (!tell(s, STORE_PUT, cookie, &clear, sealed))
        return false;
    set_reserve(a, &r);
    a->kept = true;
    a->stale = false;
    set_keeping(s, a, KEEPING_NOT);
    s->setup.counters->associations_kept++;
    return true;
}

static bool delete_record(const struct security *s, const uint8_t id[ASSOCIATION_ID_BYTES])
{
    struct store_association clear = {.cid = 0};

    memcpy(clear.id, id, sizeof(clear.id));
    return tell(s, STORE_DELETE, 0, &clear, NULL);
}

/* At the limit it is forgotten: the store asks about it when it is connected the next time. */
static void doom(struct security *s, const uint8_t id[ASSOCIATION_ID_BYTES])
{
    struct keeper *k = &s->keeper;

    if (k->doomed_count || !delete_record(s, id))
        if (k->doomed && k->doomed_count < DOOMED_MAX)
            memcpy(k->doomed[k->doomed_count++], id, ASSOCIATION_ID_BYTES);
}

/* ---- the life of an association ---- */

void security_keep_begin(struct security *s, struct association *a)
{
    if (!is_keepable(s, a))
        return;
    s->keeper.serials[index_of(s, a)] = a->generation;
    want(s, a);
}

void security_keep_changed(struct security *s, struct association *a)
{
    want(s, a);
}

void security_keep_due(struct security *s, struct association *a)
{
    struct keep_reserve r = reserve_of(a);

    if (!a->kept)
        return;
    if (a->sequence >= a->limit && a->limit < security_last_sequence(a) && a->stalled_us == 0)
        a->stalled_us = s->now;
    r.confirmed -= r.confirmed > SECURITY_ALERTS_LEFT ? SECURITY_ALERTS_LEFT : 0;
    if (keep_reserve_is_due(&r))
        want(s, a);
}

void security_keep_end(struct security *s, struct association *a)
{
    struct keeper *k = &s->keeper;

    if (!k->keep)
        return;
    set_keeping(s, a, KEEPING_NOT);
    if (k->later.head == POOL_NONE)
        wheel_cancel(s->setup.wheel, &k->again);
    k->serials[index_of(s, a)] = 0;
    if (a->kept && k->up)
        doom(s, a->id);
}

/* ---- in turns ---- */

/* The other gateway has them, and goes on with their sequence numbers. */
static unsigned leave_some(struct security *s)
{
    struct keeper *k = &s->keeper;
    unsigned n = 0;

    for (; n < LOOKS_PER_TURN && k->sweep_at < k->sweep_end; n++, k->sweep_at++) {
        struct association *a = pool_at(&s->associations.pool, k->sweep_at);

        if (k->serials[k->sweep_at] && a->kept)
            security_end(s, a, false, &s->setup.counters->associations_left);
    }
    return n;
}

/* False when the store takes no more now. */
static bool delete_some(struct security *s)
{
    struct keeper *k = &s->keeper;
    unsigned n = 0;

    for (; n < LOOKS_PER_TURN && k->doomed_count; n++) {
        if (!delete_record(s, k->doomed[k->doomed_count - 1]))
            return false;
        k->doomed_count--;
    }
    return true;
}

/* All of them, after the store has come up: those that wait, too. False when it takes no more now.
 */
static bool put_some(struct security *s, unsigned *given)
{
    struct keeper *k = &s->keeper;

    for (unsigned n = 0; n < LOOKS_PER_TURN && k->sweep_at < k->sweep_end; n++, k->sweep_at++) {
        struct association *a = pool_at(&s->associations.pool, k->sweep_at);

        if (*given == RECORDS_PER_TURN)
            return false;
        if (!k->serials[k->sweep_at] || a->reserved) /* what is on its way will be answered */
            continue;
        if (!give(s, a))
            return false;
        ++*given;
    }
    return k->sweep_at >= k->sweep_end;
}

unsigned security_keep_work(struct security *s)
{
    struct keeper *k = &s->keeper;
    unsigned given = 0;

    if (k->over)
        return leave_some(s);
    if (!k->up || !delete_some(s) || !put_some(s, &given))
        return given;
    for (; given < RECORDS_PER_TURN && k->now.head != POOL_NONE; given++)
        if (!give(s, pool_at(&s->associations.pool, k->now.head)))
            break;
    return given;
}

bool security_keep_has_work(const struct security *s)
{
    const struct keeper *k = &s->keeper;

    if (k->over)
        return k->sweep_at < k->sweep_end;
    return k->up && (k->now.head != POOL_NONE || k->sweep_at < k->sweep_end || k->doomed_count);
}

/* ---- from the store ---- */

static void answered(struct security *s, const struct store_head *head)
{
    const uint32_t index = (uint32_t)head->cookie, serial = (uint32_t)(head->cookie >> 32);
    struct keep_reserve r;
    struct association *a;

    if (!s->keeper.keep || index >= s->associations.pool.capacity || serial == 0 ||
        s->keeper.serials[index] != serial)
        return; /* it has ended */
    a = pool_at(&s->associations.pool, index);
    r = reserve_of(a);
    if (r.asked == 0)
        return;
    if (head->error)
        keep_reserve_lose(&r, r.asked);
    else
        keep_reserve_confirm(&r, r.asked);
    set_reserve(a, &r);
    if (head->error)
        want_later(s, a);
    else if (a->stale)
        want(s, a);
    else
        security_keep_due(s, a);
}

/* Without a CID there is one association at an address: the newest. False: it is another one. */
static bool is_newest(struct security *s, const struct flow *wire, const struct keep_state *state)
{
    uint32_t hash = places_hash_flow(&s->associations.key, wire);
    struct association *a =
        state->own_cid ? NULL : association_of_wire(&s->associations, wire, hash);

    if (!a)
        return true;
    if (a->opened_us >= state->created_us)
        return false;
    security_end(s, a, false, &s->setup.counters->associations_replaced);
    return true;
}

static void fill(struct association *a, const struct keep_state *state)
{
    const struct keep_reserve r = {state->limit, state->limit, 0};

    a->role = ASSOCIATION_SERVER;
    a->suite = state->read.suite;
    a->read = state->read;
    a->write = state->write;
    a->own_cid = state->own_cid;
    a->cid_length = state->cid_length;
    memcpy(a->cid, state->cid, sizeof(a->cid));
    a->principal = state->principal;
    a->opened_us = state->created_us;
    /* What was received since that was written may come again: therefore it is not proven. */
    a->window = (struct record_window){.top = state->top, .mask = UINT64_MAX, .any = state->any};
    a->unproven = true;
    a->kept = true;
    a->sequence = state->limit;
    set_reserve(a, &r);
}

/* A restart ends what a key or a name was let in by that is not there any more. */
static bool is_admitted(const struct security *s, const struct config_listener *l,
                        const struct principal *client)
{
    unsigned index = (unsigned)(l - s->setup.config->listeners);

    return !s->credentials ||
           credentials_admit(credentials_listener(s->credentials, index), client);
}

/* False: there is no place for it, or its client is not let in any more. */
static bool restore(struct security *s, const struct store_association *clear,
                    const struct config_listener *l, const struct keep_state *state)
{
    const struct flow wire = flow_make(l->local, l->port, &clear->peer, TRANSPORT_UDP);
    struct association *a;

    if (state->epoch != ASSOCIATION_EPOCH || !is_admitted(s, l, &state->principal) ||
        !is_newest(s, &wire, state) || !(a = association_add(&s->associations, &wire, clear->id)))
        return false;
    fill(a, state);
    a->place = (uint16_t)(l - s->setup.config->listeners);
    a->seen_us = s->now;
    (void)aead_prepare(s->aead, (enum suite)a->suite);
    wheel_arm(s->setup.wheel, &a->idle, s->now + s->setup.config->security.idle_us);
    security_keep_begin(s, a);
    s->setup.counters->associations_restored++;
    return true;
}

static const struct config_listener *listener_of(const struct security *s,
                                                 const struct endpoint *listen)
{
    const struct config *config = s->setup.config;

    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];

        if (l->dtls && l->port == listen->port &&
            address_equal(&config->locals[l->local].address, &listen->address))
            return l;
    }
    return NULL;
}

static bool parse(const struct parcel *parcel, struct store_association *clear,
                  uint8_t sealed[STORE_SEALED_MAX])
{
    const uint32_t at = sizeof(struct store_head);
    static const uint8_t none[ASSOCIATION_ID_BYTES];

    return parcel_read(parcel, at, clear, sizeof(*clear)) &&
           memcmp(clear->id, none, sizeof(none)) != 0 && clear->cid <= 1 &&
           clear->sealed_length <= STORE_SEALED_MAX &&
           parcel_read(parcel, at + sizeof(*clear), sealed, clear->sealed_length);
}

static void read_record(struct security *s, const struct store_head *head,
                        const struct parcel *parcel)
{
    const struct associations *all = &s->associations;
    const struct config_listener *l;
    struct store_association clear;
    uint8_t sealed[STORE_SEALED_MAX];
    struct keep_state state;

    if (!parse(parcel, &clear, sealed) || !(l = listener_of(s, &clear.listen))) {
        s->setup.counters->associations_unusable++;
        return;
    }
    if (s->draining || association_of_id(all, clear.id, places_hash_id(&all->key, clear.id)))
        return;
    if (!s->keeper.keep || head->verify) {
        doom(s, clear.id);
        return;
    }
    if (keep_open(s->keeper.keep, &clear, sealed, clear.sealed_length, &state) != 0) {
        s->setup.counters->associations_unusable++;
        clear.sealed_length = 0;
        (void)tell(s, STORE_REJECT, 0, &clear, NULL); /* or the next time */
        return;
    }
    if (!restore(s, &clear, l, &state)) {
        s->setup.counters->associations_unusable++;
        doom(s, clear.id);
    }
    OPENSSL_cleanse(&state, sizeof(state));
}

static void sweep(struct keeper *k, uint32_t end)
{
    k->sweep_at = 0;
    k->sweep_end = k->keep ? end : 0;
}

bool security_keep_told(struct security *s, const struct parcel *parcel)
{
    struct keeper *k = &s->keeper;
    struct store_head head;

    if (!parcel_read(parcel, 0, &head, sizeof(head)))
        return false;
    switch ((enum store_type)parcel->type) {
    case STORE_RECORD:
        if (head.what == STORE_ASSOCIATION)
            read_record(s, &head, parcel);
        return head.what == STORE_ASSOCIATION;
    case STORE_DONE:
        if (head.what == STORE_ASSOCIATION)
            answered(s, &head);
        return head.what == STORE_ASSOCIATION;
    case STORE_UP:
        k->up = true;
        sweep(k, s->associations.pool.fresh);
        return false;
    case STORE_DOWN:
        k->up = false;
        k->doomed_count = 0; /* the store asks about them */
        sweep(k, 0);
        return false;
    case STORE_OVER:
        k->over = true;
        sweep(k, s->associations.pool.fresh);
        return false;
    default:
        return false;
    }
}

/* ---- start and end ---- */

static size_t serials_bytes(const struct security *s)
{
    return s->setup.associations * sizeof(*s->keeper.serials);
}

int security_keep_init(struct security *s)
{
    const struct config *config = s->setup.config;
    struct keeper *k = &s->keeper;
    char service[256];

    k->now = k->later = LIST_NONE;
    timer_init(&k->again, TIMER_KEEP);
    if (!config->security.persist || config->store.kind == CONFIG_STORE_NONE || !s->setup.io.tell)
        return 0;
    snprintf(service, sizeof(service), "%s:%s", config->store.prefix, config->store.service);
    k->keep = keep_create(config->security.persist_key, service);
    k->serials = memory_reserve(serials_bytes(s));
    k->doomed = memory_reserve(DOOMED_MAX * sizeof(*k->doomed));
    return k->keep && k->serials && k->doomed ? 0 : -ENOMEM;
}

void security_keep_fini(struct security *s)
{
    struct keeper *k = &s->keeper;

    keep_destroy(k->keep);
    memory_release(k->serials, serials_bytes(s));
    memory_release(k->doomed, DOOMED_MAX * sizeof(*k->doomed));
}
