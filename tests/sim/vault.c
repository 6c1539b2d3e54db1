#include "tests/sim/vault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/coap/message.h"
#include "gateway/hash.h"

#define TAKE_US       200 /* by then the thread has looked into its rings */
#define LOOK_US       SECOND
#define AGAIN_US      SECOND
#define NUMBERS_AHEAD 3662
#define CLOCK_SHIFT   14
#define RETRY_US      1000         /* no parcel was to be had */
#define CLOCK_LATE_US (2 * SECOND) /* the clock that is kept is so much behind, at the most */

enum act { ACT_PUT, ACT_DELETE, ACT_MARK, ACT_CLOCK, ACT_COUNTER };

/* On its way to Redis. */
struct vault_command {
    struct vault_command *next;
    uint64_t id;
    enum act act;
    struct vault_key key;
    uint32_t length;
    uint8_t *bytes;
    unsigned worker;
    uint64_t cookie, number;
    bool waiting; /* somebody waits for the answer */
    bool applied;
    int error;
};

/* A parcel in a ring to the store. */
struct vault_order {
    struct vault_order *next;
    struct parcel *parcel;
};

/* What a worker is to be told. */
struct vault_note {
    struct vault_note *next;
    enum store_type type;
    struct store_head head;
    uint32_t length;
    uint8_t bytes[];
};

static void connect_in(struct vault *v, uint64_t us);
static void issue(struct vault *v, struct vault_command *c);

/* ---- keys and records ---- */

static struct vault_key relation_key(const struct endpoint *listen, const struct endpoint *peer,
                                     const uint8_t *token, uint32_t token_length)
{
    struct vault_key key = {.what = STORE_RELATION};

    memcpy(key.bytes, listen->address.bytes, 16);
    memcpy(key.bytes + 16, &listen->port, 2);
    memcpy(key.bytes + 18, peer->address.bytes, 16);
    memcpy(key.bytes + 34, &peer->port, 2);
    memcpy(key.bytes + 36, token, token_length);
    key.length = 36 + token_length;
    return key;
}

struct vault_key vault_relation_key(const struct stage *s, const struct flow *flow,
                                    const uint8_t *token, uint32_t token_length)
{
    struct endpoint listen = {s->config->locals[flow->local].address, flow->local_port};
    struct endpoint peer = {flow->peer, flow->peer_port};

    return relation_key(&listen, &peer, token, token_length);
}

static bool association_key(const uint8_t *bytes, uint32_t length, struct vault_key *key)
{
    struct store_association association;

    if (length < sizeof(association))
        return false;
    memcpy(&association, bytes, sizeof(association));
    *key = (struct vault_key){.what = STORE_ASSOCIATION, .length = STORE_ID_BYTES};
    memcpy(key->bytes, association.id, STORE_ID_BYTES);
    return length >= sizeof(association) + association.sealed_length;
}

/* False when the record is broken. */
static bool key_of(uint8_t what, const uint8_t *bytes, uint32_t length, struct vault_key *key)
{
    struct store_relation relation;
    struct store_resource resource;
    struct message m;

    if (what == STORE_RESOURCE) {
        if (length < sizeof(resource))
            return false;
        memcpy(&resource, bytes, sizeof(resource));
        *key = (struct vault_key){.what = what, .length = resource.name_length};
        if (resource.name_length > VAULT_KEY_MAX || length < sizeof(resource) + key->length)
            return false;
        memcpy(key->bytes, bytes + sizeof(resource), key->length);
        return true;
    }
    if (what == STORE_ASSOCIATION)
        return association_key(bytes, length, key);
    if (length < sizeof(relation))
        return false;
    memcpy(&relation, bytes, sizeof(relation));
    if (length != sizeof(relation) + relation.packet_length ||
        message_parse(bytes + sizeof(relation), relation.packet_length, &m) != VERDICT_OK ||
        m.token_length > VAULT_KEY_MAX - 36)
        return false;
    *key = relation_key(&relation.listen, &relation.peer, m.token, m.token_length);
    return true;
}

static bool same_key(const struct vault_key *a, const struct vault_key *b)
{
    return a->what == b->what && a->length == b->length &&
           memcmp(a->bytes, b->bytes, a->length) == 0;
}

static struct vault_record **place_of(struct vault *v, const struct vault_key *key)
{
    struct vault_record **at = &v->records;

    while (*at && !same_key(&(*at)->key, key))
        at = &(*at)->next;
    return at;
}

const struct vault_record *vault_find(const struct vault *v, const struct vault_key *key)
{
    const struct vault_record *r = v->records;

    while (r && !same_key(&r->key, key))
        r = r->next;
    return r;
}

unsigned vault_count(const struct vault *v)
{
    unsigned n = 0;

    for (const struct vault_record *r = v->records; r; r = r->next)
        n++;
    return n;
}

unsigned vault_count_what(const struct vault *v, enum store_what what)
{
    unsigned n = 0;

    for (const struct vault_record *r = v->records; r; r = r->next)
        n += r->key.what == what;
    return n;
}

static void remove_record(struct vault *v, const struct vault_key *key)
{
    struct vault_record **at = place_of(v, key), *r = *at;

    if (!r)
        return;
    *at = r->next;
    free(r->bytes);
    free(r);
}

static void put_record(struct vault *v, struct vault_command *c)
{
    struct vault_record *r = calloc(1, sizeof(*r));

    remove_record(v, &c->key);
    *r = (struct vault_record){v->records, c->key, c->length, c->bytes};
    v->records = r;
    c->bytes = NULL;
}

static uint64_t hash_of(const struct vault_key *key)
{
    return hash_bytes(key->bytes, key->length, key->what + 1);
}

static bool is_seen(const struct vault *v, const struct vault_key *key)
{
    for (unsigned i = 0; i < v->seen_count; i++)
        if (v->seen[i] == hash_of(key))
            return true;
    return false;
}

static void see(struct vault *v, const struct vault_key *key)
{
    if (v->resumed || is_seen(v, key))
        return;
    if (v->seen_count == v->seen_room) {
        v->seen_room = v->seen_room ? 2 * v->seen_room : 64;
        v->seen = realloc(v->seen, v->seen_room * sizeof(v->seen[0]));
    }
    v->seen[v->seen_count++] = hash_of(key);
}

/* ---- to the workers ---- */

static void flush(struct vault *v, unsigned worker);

static void on_flush(struct stage *s, void *who, uint64_t what)
{
    struct vault *v = who;
    unsigned worker = what % WORKERS_MAX;

    if (what / WORKERS_MAX != s->life || !v->running)
        return;
    v->flushing[worker] = false;
    flush(v, worker);
}

static void flush(struct vault *v, unsigned worker)
{
    struct stage *s = v->stage;

    while (v->notes[worker] && !v->flushing[worker]) {
        struct vault_note *note = v->notes[worker];
        struct parcel *parcel = parcel_new(s->parcels, PARCEL_RECORD, (uint16_t)note->type,
                                           (uint32_t)sizeof(note->head) + note->length);

        if (!parcel) {
            v->flushing[worker] = true;
            stage_at(s, s->now + RETRY_US, on_flush, v, (uint64_t)s->life * WORKERS_MAX + worker);
            return;
        }
        (void)parcel_write(parcel, 0, &note->head, sizeof(note->head));
        (void)parcel_write(parcel, sizeof(note->head), note->bytes, note->length);
        stage_hand(s, PARCEL_STORE, worker, parcel, STAGE_TELL_US);
        v->notes[worker] = note->next;
        if (!note->next)
            v->notes_last[worker] = &v->notes[worker];
        free(note);
    }
}

static void tell(struct vault *v, unsigned worker, enum store_type type,
                 const struct store_head *head, const struct vault_record *record)
{
    uint32_t length = record ? record->length : 0;
    struct vault_note *note = calloc(1, sizeof(*note) + length);

    note->type = type;
    note->head = *head;
    note->length = length;
    if (length)
        memcpy(note->bytes, record->bytes, length);
    *v->notes_last[worker] = note;
    v->notes_last[worker] = &note->next;
    flush(v, worker);
}

static void tell_done(struct vault *v, unsigned worker, uint8_t what, uint64_t cookie, int error)
{
    const struct store_head head = {.cookie = cookie, .error = error, .what = what};

    if (error) {
        v->trouble_at = v->stage->now;
        stage_note(v->stage, "store: worker %u is told of error %d", worker, error);
    }
    tell(v, worker, STORE_DONE, &head, NULL);
}

static void tell_key(struct vault *v, unsigned worker, uint64_t cookie, const uint8_t *identity,
                     size_t length)
{
    uint8_t key[STORE_KEY_MAX];
    struct store_head head = {.cookie = cookie, .error = -ENOTCONN};
    struct vault_record record = {.bytes = key};

    if (v->connected && v->stalled_until > v->stage->now)
        head.error = -ETIMEDOUT;
    else if (v->connected && v->key && (record.length = (uint32_t)v->key(identity, length, key)))
        head.error = 0;
    else if (v->connected)
        head.error = -ENOENT; /* Redis knows nobody */
    tell(v, worker, STORE_KEY, &head, head.error ? NULL : &record);
}

static void tell_all(struct vault *v, enum store_type type)
{
    const struct store_head head = {.cookie = type == STORE_MARK ? v->floor : 0,
                                    .mark = type == STORE_MARK ? v->mark : 0};

    if (type == STORE_MARK && v->lossy_marks)
        return;
    for (unsigned i = 0; i < v->stage->worker_count; i++)
        tell(v, i, type, &head, NULL);
}

/* ---- up and down ---- */

static uint64_t in_use(const struct vault *v)
{
    uint64_t clock = stage_clock(v->stage) >> CLOCK_SHIFT;
    uint64_t most = v->floor > clock ? v->floor : clock;

    return v->asked > most ? v->asked : most;
}

static uint64_t numbers_ahead(const struct vault *v)
{
    uint32_t save_freq = v->stage->config->store.save_freq;

    return save_freq > NUMBERS_AHEAD ? save_freq : NUMBERS_AHEAD;
}

static void move_mark(struct vault *v)
{
    struct vault_command *c = calloc(1, sizeof(*c));
    uint64_t mark = in_use(v) + numbers_ahead(v);

    v->next_mark = mark > v->mark ? mark : v->mark;
    v->mark_moving = true;
    c->act = ACT_MARK;
    c->number = v->next_mark;
    issue(v, c);
}

static void keep_clock(struct vault *v)
{
    struct vault_command *c = calloc(1, sizeof(*c));

    c->act = ACT_CLOCK;
    c->number = stage_clock(v->stage);
    issue(v, c);
}

static void read_counter(struct vault *v)
{
    struct vault_command *c = calloc(1, sizeof(*c));

    c->act = ACT_COUNTER;
    issue(v, c);
}

static void go_down(struct vault *v)
{
    if (v->up && v->running)
        tell_all(v, STORE_DOWN);
    v->up = 0;
    v->mark_moving = v->reading = v->marked = false;
    memset(v->told_up, 0, sizeof(v->told_up));
    v->trouble_at = v->stage->now;
}

static void read_next(struct vault *v);

static void start_reading(struct vault *v)
{
    static const enum store_what order[] = {STORE_RESOURCE, STORE_ASSOCIATION, STORE_RELATION};
    unsigned at = 0;

    free(v->names);
    v->name_count = vault_count(v);
    v->names = calloc(v->name_count + 1, sizeof(v->names[0]));
    for (unsigned i = 0; i < STORE_WHAT_COUNT; i++)
        for (const struct vault_record *r = v->records; r; r = r->next)
            if (r->key.what == order[i])
                v->names[at++] = r->key;
    v->name_at = 0;
    v->reading = true;
    read_next(v);
}

static void go_up(struct vault *v)
{
    if (v->up)
        go_down(v);
    v->up = ++v->ups;
    v->dirty = false;
    v->up_at = v->stage->now;
    keep_clock(v);
    stage_note(v->stage, "store: up, mark %llu, floor %llu, %u records",
               (unsigned long long)v->mark, (unsigned long long)v->floor, vault_count(v));
    tell_all(v, STORE_MARK);
    tell_all(v, STORE_UP);
    for (unsigned i = 0; i < v->stage->worker_count; i++)
        v->told_up[i] = v->up;
    start_reading(v);
}

/* ---- records that are read back ---- */

static struct flow flow_of(const struct stage *s, const struct store_relation *relation)
{
    (void)s; /* there is one listener */
    return flow_make(0, relation->listen.port, &relation->peer,
                     (enum transport)relation->transport);
}

static unsigned association_owner(const struct vault *v, const struct vault_record *r)
{
    struct store_association a;
    struct flow flow;

    memcpy(&a, r->bytes, sizeof(a));
    flow = flow_make(0, a.listen.port, &a.peer, TRANSPORT_UDP);
    return a.cid ? a.id[0] % v->stage->worker_count : stage_owner(v->stage, &flow);
}

static unsigned relation_owner(const struct vault *v, const struct vault_record *r)
{
    struct vault_key key = {.what = STORE_ASSOCIATION, .length = STORE_ID_BYTES};
    const struct vault_record *association;
    struct store_relation relation;
    struct flow flow;

    memcpy(&relation, r->bytes, sizeof(relation));
    if (relation.transport != TRANSPORT_DTLS) {
        flow = flow_of(v->stage, &relation);
        return stage_owner(v->stage, &flow);
    }
    memcpy(key.bytes, relation.peer.address.bytes + 8, STORE_ID_BYTES);
    association = vault_find(v, &key);
    return association ? association_owner(v, association) : key.bytes[0] % v->stage->worker_count;
}

static void give(struct vault *v, const struct vault_record *r)
{
    const struct store_head head = {.what = r->key.what,
                                    .verify = v->resumed || is_seen(v, &r->key)};

    see(v, &r->key);
    stage_note(v->stage, "store: gives %02x%02x%02x%02x%s", r->key.bytes[36], r->key.bytes[37],
               r->key.bytes[38], r->key.bytes[39], head.verify ? " to be verified" : "");
    if (r->key.what == STORE_RESOURCE) {
        for (unsigned i = 0; i < v->stage->worker_count; i++)
            tell(v, i, STORE_RECORD, &head, r);
        return;
    }
    tell(v, r->key.what == STORE_RELATION ? relation_owner(v, r) : association_owner(v, r),
         STORE_RECORD, &head, r);
}

static void on_read(struct stage *s, void *who, uint64_t ups)
{
    struct vault *v = who;
    const struct vault_record *r;

    if (!v->running || !v->reading || v->up != (ups & 0xffffffff) || ups >> 32 != s->life)
        return;
    if (v->stalled_until > s->now) {
        stage_at(s, v->stalled_until + 1, on_read, v, ups);
        return;
    }
    if (v->name_at < v->name_count) {
        r = vault_find(v, &v->names[v->name_at++]);
        if (r)
            give(v, r);
        read_next(v);
        return;
    }
    v->reading = false;
    if (!v->resumed) {
        v->resumed_at = s->now;
        tell_all(v, STORE_RESUMED);
    }
    v->resumed = true;
}

static void read_next(struct vault *v)
{
    stage_at(v->stage, v->stage->now + 1 + stage_below(v->stage, v->read_us), on_read, v,
             (uint64_t)v->stage->life << 32 | v->up);
}

/* ---- commands ---- */

static void drop_command(struct vault_command *c)
{
    free(c->bytes);
    free(c);
}

/* Redis carries it out. */
static void apply(struct vault *v, struct vault_command *c)
{
    c->applied = true;
    if (v->failing && c->act != ACT_COUNTER) {
        c->error = -EIO;
        return;
    }
    if (c->act == ACT_PUT || c->act == ACT_DELETE)
        stage_note(v->stage, "store: %s %02x%02x%02x%02x", c->act == ACT_PUT ? "keeps" : "deletes",
                   c->key.bytes[36], c->key.bytes[37], c->key.bytes[38], c->key.bytes[39]);
    switch (c->act) {
    case ACT_PUT:
        put_record(v, c);
        break;
    case ACT_DELETE:
        remove_record(v, &c->key);
        break;
    case ACT_MARK:
        v->redis_mark = c->number;
        break;
    case ACT_CLOCK:
        v->redis_clock = c->number;
        break;
    case ACT_COUNTER:
        c->number = v->redis_mark;
        if (!v->redis_lives) /* it goes there with the secret */
            v->redis_lives = v->life;
        break;
    }
}

static void mark_written(struct vault *v, const struct vault_command *c)
{
    v->mark_moving = false;
    if (c->error) {
        v->trouble_at = v->stage->now;
        v->marked = false;
        if (!v->up)
            vault_cut(v);
        return;
    }
    v->mark = c->number;
    v->marked = true;
    stage_note(v->stage, "store: the mark is %llu", (unsigned long long)v->mark);
    if (!v->up || (v->dirty && v->stage->now >= v->again_at))
        go_up(v);
    else
        tell_all(v, STORE_MARK);
}

static void counter_read(struct vault *v, const struct vault_command *c)
{
    if (!v->floor_known)
        v->floor = c->number;
    v->floor_known = true;
    if (c->number > v->mark)
        v->mark = c->number;
    move_mark(v);
}

static void answered(struct vault *v, struct vault_command *c)
{
    if (c->waiting)
        tell_done(v, c->worker, c->key.what, c->cookie, c->error);
    if (c->act == ACT_MARK) {
        mark_written(v, c);
    } else if (c->act == ACT_COUNTER) {
        counter_read(v, c);
    } else if (c->error && c->act != ACT_CLOCK) {
        v->trouble_at = v->stage->now;
        v->dirty = true;
        v->again_at = v->stage->now + AGAIN_US;
    }
}

static bool is_of_now(const struct vault *v, uint64_t what)
{
    return v->running && v->connected && (what & 0xffffffff) == v->connection &&
           what >> 32 == v->stage->life;
}

static uint64_t token_of(const struct vault *v)
{
    return (uint64_t)v->stage->life << 32 | v->connection;
}

static void on_answer(struct stage *s, void *who, uint64_t what)
{
    struct vault *v = who;
    struct vault_command *c = v->first;

    (void)s;
    if (!is_of_now(v, what))
        return;
    v->first = c->next;
    if (!v->first)
        v->last = &v->first;
    answered(v, c);
    drop_command(c);
}

/* The first one that has not been carried out yet, whichever this was meant for. */
static void on_apply(struct stage *s, void *who, uint64_t what)
{
    struct vault *v = who;
    struct vault_command *c = v->first;

    if (!is_of_now(v, what))
        return;
    if (s->now < v->stalled_until) {
        stage_at(s, v->stalled_until, on_apply, v, what);
        return;
    }
    while (c->applied)
        c = c->next;
    apply(v, c);
    stage_at(s, s->now + stage_below(s, v->link_us / 2 + 1), on_answer, v, what);
}

static void on_deadline(struct stage *s, void *who, uint64_t id)
{
    struct vault *v = who;

    (void)s;
    for (struct vault_command *c = v->first; c; c = c->next)
        if (c->id == id && c->waiting) {
            c->waiting = false;
            tell_done(v, c->worker, c->key.what, c->cookie, -ETIMEDOUT);
        }
}

static void issue(struct vault *v, struct vault_command *c)
{
    static uint64_t ids;
    struct stage *s = v->stage;

    c->id = ++ids;
    c->waiting = c->cookie != 0;
    *v->last = c;
    v->last = &c->next;
    stage_at(s, s->now + stage_below(s, v->link_us / 2 + 1), on_apply, v, token_of(v));
    if (c->waiting)
        stage_at(s, s->now + s->config->store.timeout_ms * 1000ull, on_deadline, v, c->id);
}

/* The connection is over: some of what is under way gets through. */
static void end_commands(struct vault *v, bool all)
{
    unsigned count = 0, through;

    for (struct vault_command *c = v->first; c; c = c->next)
        count += !c->applied;
    through = all ? count : stage_below(v->stage, count + 1);
    while (v->first) {
        struct vault_command *c = v->first;

        v->first = c->next;
        if (!c->applied && through) {
            through--;
            apply(v, c);
        }
        if (c->waiting && v->running)
            tell_done(v, c->worker, c->key.what, c->cookie, -ENOTCONN);
        drop_command(c);
    }
    v->last = &v->first;
}

/* ---- out of the rings ---- */

static void take_record(struct vault *v, unsigned worker, enum store_type type,
                        const struct store_head *head, uint8_t *bytes, uint32_t length)
{
    struct vault_command *c = calloc(1, sizeof(*c));

    *c = (struct vault_command){.act = type == STORE_PUT ? ACT_PUT : ACT_DELETE,
                                .length = length,
                                .bytes = bytes,
                                .worker = worker,
                                .cookie = type == STORE_PUT ? head->cookie : 0};
    if (!key_of(head->what, bytes, length, &c->key)) {
        stage_fail(v->stage, "a broken record for the store");
        drop_command(c);
        return;
    }
    see(v, &c->key);
    if (v->connected && v->up && v->told_up[worker] == v->up) {
        issue(v, c);
        return;
    }
    if (c->cookie)
        tell_done(v, worker, c->key.what, c->cookie, -ENOTCONN);
    v->trouble_at = v->stage->now;
    drop_command(c);
}

static void take(struct vault *v, unsigned worker, struct parcel *parcel)
{
    uint32_t length = parcel->length - (uint32_t)sizeof(struct store_head);
    struct store_head head;
    uint8_t *bytes;

    if (!parcel_read(parcel, 0, &head, sizeof(head))) {
        stage_fail(v->stage, "a parcel for the store without a head");
        return;
    }
    if (parcel->type == STORE_MARK_ASK) {
        stage_note(v->stage, "store: worker %u is at number %llu", worker,
                   (unsigned long long)head.mark);
        if (head.mark > v->asked)
            v->asked = head.mark;
        if (v->up && !v->mark_moving && v->asked + numbers_ahead(v) / 2 > v->mark)
            move_mark(v);
        return;
    }
    bytes = malloc(length + 1);
    (void)parcel_read(parcel, sizeof(head), bytes, length);
    if (parcel->type == STORE_KEY_ASK) {
        tell_key(v, worker, head.cookie, bytes, length);
        free(bytes);
        return;
    }
    take_record(v, worker, (enum store_type)parcel->type, &head, bytes, length);
}

static void take_first(struct vault *v, unsigned worker)
{
    struct vault_order *order = v->orders[worker];

    v->orders[worker] = order->next;
    if (!order->next)
        v->orders_last[worker] = &v->orders[worker];
    v->order_count[worker]--;
    take(v, worker, order->parcel);
    parcel_free(v->stage->parcels, order->parcel);
    free(order);
}

static void on_take(struct stage *s, void *who, uint64_t what)
{
    struct vault *v = who;

    if (v->running && what / WORKERS_MAX == s->life)
        take_first(v, what % WORKERS_MAX);
}

bool vault_told(struct vault *v, unsigned worker, struct parcel *parcel)
{
    struct stage *s = v->stage;
    struct vault_order *order;
    uint64_t at = s->now + stage_below(s, TAKE_US);

    if (!v->running || vault_room(v, worker) == 0) {
        v->trouble_at = s->now;
        v->marked &= parcel->type != STORE_MARK_ASK;
        return false;
    }
    order = calloc(1, sizeof(*order));
    order->parcel = parcel;
    *v->orders_last[worker] = order;
    v->orders_last[worker] = &order->next;
    v->order_count[worker]++;
    if (at < v->order_at[worker])
        at = v->order_at[worker];
    v->order_at[worker] = at;
    stage_at(s, at, on_take, v, (uint64_t)s->life * WORKERS_MAX + worker);
    return true;
}

unsigned vault_room(const struct vault *v, unsigned worker)
{
    unsigned count = v->order_count[worker];

    return !v->deaf && count < v->ring_size ? v->ring_size - count : 0;
}

/* ---- the connection ---- */

static void on_connect(struct stage *s, void *who, uint64_t what)
{
    struct vault *v = who;

    if (!v->running || v->connected || what != token_of(v))
        return;
    if (v->away || s->now < v->stalled_until) {
        connect_in(v, 100000 + stage_below(s, 2 * SECOND));
        return;
    }
    v->connected = true;
    read_counter(v);
}

static void connect_in(struct vault *v, uint64_t us)
{
    v->connection++;
    stage_at(v->stage, v->stage->now + us, on_connect, v, token_of(v));
}

static void on_look(struct stage *s, void *who, uint64_t life)
{
    struct vault *v = who;

    if (!v->running || life != s->life)
        return;
    if (v->up && !v->mark_moving && (v->dirty || v->mark < in_use(v) + numbers_ahead(v) / 2))
        move_mark(v);
    if (v->up)
        keep_clock(v);
    stage_at(s, s->now + LOOK_US, on_look, v, life);
}

void vault_cut(struct vault *v)
{
    if (!v->connected)
        return;
    stage_note(v->stage, "store: the connection is lost");
    v->connected = false;
    end_commands(v, false);
    go_down(v);
    connect_in(v, 100000 + stage_below(v->stage, 200000));
}

void vault_go_away(struct vault *v)
{
    v->away = true;
    vault_cut(v);
}

void vault_come_back(struct vault *v)
{
    v->away = false;
}

void vault_stall(struct vault *v, uint64_t us)
{
    stage_note(v->stage, "store: silent for %llu us", (unsigned long long)us);
    v->stalled_until = v->stage->now + us;
    v->marked = false;
    v->trouble_at = v->stalled_until;
}

static void forget(struct vault *v)
{
    while (v->records) {
        struct vault_record *r = v->records;

        v->records = r->next;
        free(r->bytes);
        free(r);
    }
}

void vault_lose(struct vault *v)
{
    vault_cut(v);
    stage_note(v->stage, "store: all data are lost");
    forget(v);
    v->redis_mark = v->redis_clock = v->redis_lives = 0;
    v->lost_at = v->stage->now;
}

bool vault_is_steady(const struct vault *v, uint64_t at)
{
    return v->up && v->up_at + 2 * STAGE_TELL_US < at && v->trouble_at < at;
}

/* ---- the process ---- */

void vault_init(struct vault *v, struct stage *s)
{
    static const uint32_t links[] = {400, 4000, 100000}, reads[] = {20, 2000, 200000};

    *v = (struct vault){.stage = s, .ring_size = 4096};
    v->last = &v->first;
    v->link_us = links[stage_below(s, 3)];
    v->read_us = reads[stage_below(s, 3)];
}

static bool answers(const struct vault *v)
{
    return !v->away && v->stalled_until <= v->stage->now;
}

uint64_t vault_clock(const struct vault *v)
{
    return answers(v) && v->redis_clock ? v->redis_clock + CLOCK_LATE_US : 0;
}

uint64_t vault_floor(struct vault *v)
{
    uint64_t clock = stage_clock(v->stage) >> CLOCK_SHIFT;

    v->floor = answers(v) ? v->redis_mark : 0;
    v->floor_known = answers(v);
    v->marked = v->floor_known && !v->failing;
    if (v->marked)
        v->redis_mark = (v->floor > clock ? v->floor : clock) + NUMBERS_AHEAD;
    return v->floor;
}

uint64_t vault_life(struct vault *v, bool *own)
{
    *own = answers(v) && !v->failing;
    v->life = answers(v) ? v->redis_lives + 1 : 0;
    if (*own)
        v->redis_lives = v->life;
    return v->life;
}

void vault_start(struct vault *v)
{
    struct stage *s = v->stage;

    v->running = true;
    v->connected = v->resumed = v->mark_moving = v->dirty = v->reading = false;
    v->up = v->ups = v->asked = v->mark = 0;
    v->trouble_at = s->now;
    memset(v->told_up, 0, sizeof(v->told_up));
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        v->orders_last[i] = &v->orders[i];
        v->notes_last[i] = &v->notes[i];
        v->order_at[i] = 0;
    }
    connect_in(v, 300 + stage_below(s, stage_below(s, 3) ? 3000 : 3 * SECOND));
    stage_at(s, s->now + LOOK_US, on_look, v, s->life);
}

/* What is in the rings and on the way to workers goes with the process. */
static void end_process(struct vault *v)
{
    v->running = v->connected = false;
    v->up = 0;
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        while (v->orders[i]) {
            struct vault_order *order = v->orders[i];

            v->orders[i] = order->next;
            parcel_free(v->stage->parcels, order->parcel);
            free(order);
        }
        while (v->notes[i]) {
            struct vault_note *note = v->notes[i];

            v->notes[i] = note->next;
            free(note);
        }
        v->order_count[i] = 0;
        v->flushing[i] = false;
    }
    v->seen_count = 0;
}

void vault_kill(struct vault *v)
{
    v->running = false;
    end_commands(v, false);
    end_process(v);
}

void vault_stop(struct vault *v)
{
    bool writes = v->connected && v->stalled_until <= v->stage->now + SECOND;

    for (unsigned i = 0; i < WORKERS_MAX; i++)
        while (writes && v->order_count[i])
            take_first(v, i);
    v->running = false;
    end_commands(v, writes);
    end_process(v);
}

void vault_free(struct vault *v)
{
    v->running = false;
    end_commands(v, true);
    end_process(v);
    forget(v);
    free(v->names);
    free(v->seen);
}
