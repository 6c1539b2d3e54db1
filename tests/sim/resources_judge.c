/* The order of writes is that of the versions which the owner of a resource gives: they are seen in
 * the parcels between workers. Everything that is said to a device must agree with it. */
#include <stdlib.h>
#include <string.h>

#include "gateway/hash.h"
#include "tests/sim/resources.h"
#include "tests/sim/resources_parcel.h"

#define ASKS_MAX 65536
#define MIDS     65536

/* So long after the last trouble everything is in the store. */
#define SWEPT_US (9 * SECOND)

enum kind { ASK_NONE, ASK_READ, ASK_WRITE, ASK_REMOVE, ASK_OBSERVE };

/* A request as it came. */
struct ask {
    unsigned device, held;
    uint64_t token;
    enum kind kind;
    uint32_t write;        /* ASK_WRITE: its number */
    uint32_t match;        /* If-Match: the write whose state it is about; 0: none */
    bool conditional;      /* it has If-Match or If-None-Match, */
    bool none_match;       /* the latter */
    unsigned change_count; /* of changes when it came, */
    uint64_t version;      /* and the last one's version */
    uint64_t at;
};

struct change {
    uint32_t write; /* 0: a removal */
    uint64_t version;
    bool blind; /* done while nobody knew what is in the store */
};

struct record {
    struct change *changes;
    unsigned count, room;
    unsigned changes_ever;
    int owner;                   /* of this life; -1: not known */
    uint64_t known[WORKERS_MAX]; /* versions that the workers have shown to know */
    uint64_t acked;              /* the last version whose writer was told */
    uint64_t dead[WORKERS_MAX];  /* who asked there was told that up to this version it is gone */
};

struct resources_judge {
    struct resources_world *world;
    struct record records[HELD_MAX];
    struct ask asks[ASKS_MAX];
    unsigned ask_count;
    struct {
        uint64_t etag;
        uint32_t write;
    } etags[WRITES_MAX];
    bool applied[WRITES_MAX]; /* in this life */
    bool doubled[WRITES_MAX]; /* in two lives: it has two ETags */
    uint8_t heard[DEVICES_MAX][MIDS / 8];
    uint8_t acked[DEVICES_MAX][MIDS / 8];
    uint8_t sent[DEVICES_MAX][MIDS / 8];
};

struct resources_judge *resources_judge_create(struct resources_world *w)
{
    struct resources_judge *j = calloc(1, sizeof(*j));

    j->world = w;
    for (unsigned i = 0; i < HELD_MAX; i++)
        j->records[i].owner = -1;
    return j;
}

void resources_judge_destroy(struct resources_judge *j)
{
    for (unsigned i = 0; j && i < HELD_MAX; i++)
        free(j->records[i].changes);
    free(j);
}

static struct stage *stage_of(const struct resources_judge *j)
{
    return &j->world->fleet.stage;
}

static unsigned device_of(const struct flow *flow)
{
    return (flow->peer_port - 40000u) % DEVICES_MAX;
}

/* Sets the bit of a message ID; true when it was set before. */
static bool mark(uint8_t bits[MIDS / 8], uint16_t mid)
{
    bool was = bits[mid / 8] >> mid % 8 & 1;

    bits[mid / 8] |= (uint8_t)(1 << mid % 8);
    return was;
}

/* ---- changes ---- */

static const struct change *last_change(const struct record *r)
{
    return r->count ? &r->changes[r->count - 1] : NULL;
}

static const struct change *change_of(const struct record *r, uint32_t write)
{
    for (unsigned i = r->count; i-- > 0;)
        if (r->changes[i].write == write)
            return &r->changes[i];
    return NULL;
}

uint32_t resources_judge_last(const struct resources_judge *j, const struct held *held)
{
    const struct change *last = last_change(&j->records[held->id]);

    return last ? last->write : 0;
}

/* Records have not been read back, and it is served all the same: what there is may seem not to
 * be. */
static bool is_blind(const struct resources_judge *j)
{
    const struct resources_world *w = j->world;

    return w->stored && !w->reject &&
           !(w->vault.resumed && !w->scarce &&
             stage_of(j)->now > w->vault.resumed_at + 10 * STAGE_TELL_US);
}

static void add_change(struct resources_judge *j, struct record *r, uint32_t write,
                       uint64_t version)
{
    if (r->count == r->room) {
        r->room = r->room ? 2 * r->room : 64;
        r->changes = realloc(r->changes, r->room * sizeof(r->changes[0]));
    }
    r->changes[r->count++] = (struct change){write, version, is_blind(j)};
    r->changes_ever++;
}

/* The number of the write that made a representation; 0: it is broken. */
static uint32_t write_of(const struct held *held, const uint8_t *body, size_t length)
{
    uint32_t write;

    return body_check(body, length, held->id, &write) && write < WRITES_MAX ? write : 0;
}

static void changed(struct resources_judge *j, unsigned from, const struct held *held,
                    uint32_t write, uint64_t version)
{
    struct stage *s = stage_of(j);
    struct record *r = &j->records[held->id];
    const struct change *last = last_change(r);

    if (r->owner >= 0 && r->owner != (int)from)
        stage_fail(s, "workers %d and %u both own %s", r->owner, from, held->path);
    r->owner = (int)from;
    if (last && version == last->version) {
        if (write != last->write)
            stage_fail(s, "two states of %s have the same version", held->path);
        return; /* for another worker */
    }
    if (last && version < last->version)
        stage_fail(s, "the version of %s goes back", held->path);
    if (write && j->applied[write])
        stage_fail(s, "write %u of %s is done twice", write, held->path);
    if (write) {
        j->doubled[write] |= change_of(r, write) != NULL;
        j->applied[write] = true;
        j->etags[write].etag = 0;
    }
    stage_note(s, "%s is of write %u", held->path, write);
    add_change(j, r, write, version);
}

void resources_judge_handed(struct fleet *f, unsigned from, const struct parcel *parcel)
{
    struct resources_world *w = (struct resources_world *)f;
    struct told_state state;
    struct held *held;
    uint32_t write = 0;

    if (!told_state_read(parcel, &state))
        return;
    held = resources_find(w, state.name);
    if (held && !state.removed)
        write = write_of(held, state.body, state.length);
    if (!held || (!state.removed && !write))
        stage_fail(&f->stage, "a state that nobody has written");
    else
        changed(w->judge, from, held, write, state.version);
}

/* ---- ETags ---- */

static uint64_t etag_number(const struct message *m, enum option_slot slot)
{
    uint64_t etag = 0;

    if (message_has(m, slot) && m->first[slot].length == sizeof(etag))
        memcpy(&etag, m->first[slot].value, sizeof(etag));
    return etag;
}

static void learn_etag(struct resources_judge *j, const struct message *m, uint32_t write)
{
    uint64_t etag = etag_number(m, SLOT_ETAG);

    if (!etag)
        stage_fail(stage_of(j), "the state of write %u has no ETag", write);
    else if (j->etags[write].etag && j->etags[write].etag != etag && !j->doubled[write])
        stage_fail(stage_of(j), "the state of write %u has two ETags", write);
    j->etags[write].etag = etag;
    j->etags[write].write = write;
}

static uint32_t write_of_etag(const struct resources_judge *j, uint64_t etag)
{
    for (uint32_t i = j->world->last_write; etag && i > 0; i--)
        if (j->etags[i].etag == etag)
            return i;
    return 0;
}

/* ---- from devices ---- */

static struct ask *find(struct resources_judge *j, const struct passing *p)
{
    uint64_t token = hash_bytes(p->m->token, p->m->token_length, 7);

    for (unsigned i = j->ask_count; i-- > 0;)
        if (j->asks[i].token == token && j->asks[i].device == device_of(p->flow))
            return &j->asks[i];
    return NULL;
}

static void delivered(struct fleet *f, const struct passing *p)
{
    struct resources_world *w = (struct resources_world *)f;
    struct resources_judge *j = w->judge;
    struct held *held;
    char path[32];
    struct ask *a;

    if (p->icmp || !code_is_request(p->m->code) || mark(j->heard[device_of(p->flow)], p->m->mid))
        return;
    message_path(p->m, path, sizeof(path));
    held = resources_find(w, path);
    if (!held || j->ask_count == ASKS_MAX) {
        stage_fail(&f->stage, "too many requests, or one that nobody made");
        return;
    }
    a = &j->asks[j->ask_count++];
    *a = (struct ask){.device = device_of(p->flow),
                      .held = held->id,
                      .token = hash_bytes(p->m->token, p->m->token_length, 7),
                      .change_count = j->records[held->id].changes_ever,
                      .at = f->stage.now};
    if (last_change(&j->records[held->id]))
        a->version = last_change(&j->records[held->id])->version;
    a->kind = p->m->code == CODE_PUT            ? ASK_WRITE
              : p->m->code == CODE_DELETE       ? ASK_REMOVE
              : message_has(p->m, SLOT_OBSERVE) ? ASK_OBSERVE
                                                : ASK_READ;
    if (a->kind == ASK_WRITE)
        a->write = write_of(held, p->m->payload, p->m->payload_length);
    a->match = write_of_etag(j, etag_number(p->m, SLOT_IF_MATCH));
    a->none_match = message_has(p->m, SLOT_IF_NONE_MATCH);
    a->conditional = a->none_match || message_has(p->m, SLOT_IF_MATCH);
}

/* ---- from the gateway ---- */

static void know(struct resources_judge *j, unsigned worker, const struct held *held,
                 uint64_t version)
{
    uint64_t *known = &j->records[held->id].known[worker];

    if (version <= j->records[held->id].dead[worker])
        stage_fail(stage_of(j), "worker %u shows a state of %s that was removed through it", worker,
                   held->path);
    if (version < *known)
        stage_fail(stage_of(j),
                   "worker %u shows a state of %s that is older than what it has shown", worker,
                   held->path);
    *known = version;
}

/* A representation, as an answer or a notification. */
static void on_content(struct resources_judge *j, const struct held *held, const struct passing *p)
{
    uint32_t write = write_of(held, p->m->payload, p->m->payload_length);
    const struct change *change = write ? change_of(&j->records[held->id], write) : NULL;

    if (!change) {
        stage_fail(stage_of(j), "a representation of %s (write %u) that there is not", held->path,
                   write);
        return;
    }
    learn_etag(j, p->m, write);
    if (!j->doubled[write]) /* else nobody knows which of the two it is */
        know(j, p->worker, held, change->version);
}

/* 4.04: there must have been a removal since what the worker has shown. */
static void on_absent(struct resources_judge *j, const struct held *held, const struct passing *p)
{
    const struct record *r = &j->records[held->id];
    uint64_t known = r->known[p->worker];

    for (unsigned i = r->count; i-- > 0 && r->changes[i].version >= known;)
        if (!r->changes[i].write)
            return;
    if (known && !is_blind(j))
        stage_fail(stage_of(j), "worker %u does not have %s, which it has shown", p->worker,
                   held->path);
}

/* The change before that of a write; NULL: there was none. */
static const struct change *before(const struct record *r, const struct change *change)
{
    return change > r->changes ? change - 1 : NULL;
}

static const struct vault_record *kept(const struct resources_judge *j, const struct held *held)
{
    struct vault_key key = {.what = STORE_RESOURCE, .length = (uint32_t)strlen(held->path)};

    memcpy(key.bytes, held->path, key.length);
    return vault_find(&j->world->vault, &key);
}

static uint64_t kept_version(const struct vault_record *record)
{
    struct store_resource resource = {.version = 0};

    if (record)
        memcpy(&resource, record->bytes, sizeof(resource));
    return resource.version;
}

static bool was_removed_since(const struct record *r, uint64_t version)
{
    for (unsigned i = r->count; i-- > 0 && r->changes[i].version > version;)
        if (!r->changes[i].write)
            return true;
    return false;
}

/* What its writer hears of is in the store: always where that is asked for, else when nothing was
 * in the way. */
static void check_kept(struct resources_judge *j, const struct ask *a, uint64_t version)
{
    const struct resources_world *w = j->world;
    const struct held *held = &w->held[a->held];

    if (!w->stored || (!w->reject && (w->scarce || !vault_is_steady(&w->vault, a->at))))
        return;
    if (kept_version(kept(j, held)) < version && !was_removed_since(&j->records[a->held], version))
        stage_fail(stage_of(j), "write %u of %s is answered before it is kept", a->write,
                   held->path);
}

static void check_order(struct resources_judge *j, const struct ask *a, const struct change *change,
                        uint8_t code)
{
    struct stage *s = stage_of(j);
    const struct held *held = &j->world->held[a->held];
    const struct change *earlier = before(&j->records[a->held], change);
    bool existed = earlier && earlier->write;

    if (!change->blind && existed != (code == CODE_CHANGED))
        stage_fail(s, "write %u of %s is answered with %u.%02u", a->write, held->path,
                   code_class(code), code_detail(code));
    if (!change->blind && a->none_match && existed)
        stage_fail(s, "write %u of %s was to be the first", a->write, held->path);
    if (a->match && (!earlier || earlier->write != a->match))
        stage_fail(s, "write %u of %s was to follow write %u: an update is lost", a->write,
                   held->path, a->match);
}

static void on_written(struct resources_judge *j, struct ask *a, const struct passing *p)
{
    const struct held *held = &j->world->held[a->held];
    struct record *r = &j->records[a->held];
    const struct change *change = change_of(r, a->write);

    if (!change) {
        stage_fail(stage_of(j), "write %u of %s is answered, and was not done", a->write,
                   held->path);
        return;
    }
    check_order(j, a, change, p->m->code);
    check_kept(j, a, change->version);
    learn_etag(j, p->m, a->write);
    if (r->known[p->worker] < change->version)
        r->known[p->worker] = change->version;
    if (r->acked < change->version)
        r->acked = change->version;
}

static void on_removed(struct resources_judge *j, const struct ask *a, const struct passing *p)
{
    uint64_t *dead = &j->records[a->held].dead[p->worker];

    if (*dead < a->version)
        *dead = a->version;
}

/* 4.12, when nothing has changed since the request came. */
static void on_unmet(struct resources_judge *j, const struct ask *a)
{
    const struct held *held = &j->world->held[a->held];
    const struct record *r = &j->records[a->held];
    uint32_t last = resources_judge_last(j, held);

    if (r->changes_ever != a->change_count || is_blind(j))
        return;
    if ((a->none_match && !last) || (a->match && a->match == last))
        stage_fail(stage_of(j), "a condition on %s was met, and is said not to be", held->path);
}

static void on_answer(struct resources_judge *j, struct ask *a, const struct passing *p)
{
    const struct held *held = &j->world->held[a->held];
    const struct resources_world *w = j->world;
    uint8_t code = p->m->code;

    if (code == CODE_CONTENT)
        on_content(j, held, p);
    else if (code == CODE_NOT_FOUND && a->kind == ASK_OBSERVE && p->m->type != TYPE_ACK)
        return; /* an end that has waited for its turn */
    else if (code == CODE_NOT_FOUND && a->kind != ASK_WRITE)
        on_absent(j, held, p);
    else if ((code == CODE_CREATED || code == CODE_CHANGED) && a->kind == ASK_WRITE)
        on_written(j, a, p);
    else if (code == CODE_PRECONDITION_FAILED && a->conditional)
        on_unmet(j, a);
    else if (code == CODE_DELETED && a->kind == ASK_REMOVE)
        on_removed(j, a, p);
    else if (!(code == CODE_SERVICE_UNAVAILABLE && (w->scarce || w->stored)) &&
             !(code == CODE_UNAUTHORIZED && message_has(p->m, SLOT_ECHO)))
        stage_fail(stage_of(j), "a request for %s is answered with %u.%02u", held->path,
                   code_class(code), code_detail(code));
}

static void emitted(struct fleet *f, const struct passing *p)
{
    struct resources_judge *j = ((struct resources_world *)f)->judge;
    unsigned device = device_of(p->flow);
    struct ask *a;

    if (!code_is_response(p->m->code) ||
        (p->m->type == TYPE_ACK ? mark(j->acked[device], p->m->mid)
                                : mark(j->sent[device], p->m->mid)))
        return;
    a = find(j, p);
    if (!a)
        stage_fail(&f->stage, "a response to nothing that was asked");
    else
        on_answer(j, a, p);
}

const struct judge resources_judging = {emitted, delivered};

/* ---- over restarts ---- */

void resources_judge_killed(struct resources_judge *j)
{
    struct stage *s = stage_of(j);
    const struct resources_world *w = j->world;
    bool steady = vault_is_steady(&w->vault, s->now > SWEPT_US ? s->now - SWEPT_US : 0);

    for (unsigned i = 0; i < w->held_count; i++) {
        const struct record *r = &j->records[i];

        if ((w->reject || steady) && !w->scarce && kept_version(kept(j, &w->held[i])) < r->acked &&
            !was_removed_since(r, r->acked))
            stage_fail(s, "a state of %s whose writer was told is not kept", w->held[i].path);
    }
}

void resources_judge_born(struct resources_judge *j)
{
    memset(j->heard, 0, sizeof(j->heard));
    memset(j->acked, 0, sizeof(j->acked));
    memset(j->sent, 0, sizeof(j->sent));
    memset(j->applied, 0, sizeof(j->applied));
    for (unsigned i = 0; i < j->world->held_count; i++) {
        const struct vault_record *record = kept(j, &j->world->held[i]);
        struct record *r = &j->records[i];
        struct store_resource head;
        uint32_t write = 0;

        r->count = 0;
        r->owner = -1;
        r->acked = 0;
        memset(r->known, 0, sizeof(r->known));
        memset(r->dead, 0, sizeof(r->dead));
        if (!record)
            continue;
        memcpy(&head, record->bytes, sizeof(head));
        write = write_of(&j->world->held[i], record->bytes + sizeof(head) + head.name_length,
                         head.payload_length);
        add_change(j, r, write, head.version);
        r->acked = head.version;
        for (unsigned k = 0; k < WORKERS_MAX; k++)
            r->known[k] = head.version;
    }
}
