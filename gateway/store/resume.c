/* Records out of Redis: names with SCAN, then each with HGETALL, a bounded number at a time; first
 * all resources, then all associations, then all relations.
 *
 * A record goes to the worker that owns its flow; a resource to every worker. A relation over DTLS
 * has no flow of its own: it goes where its association went. When there is no room
 * in a worker's ring, or no parcel, the record is asked for again a little later: what is waiting
 * are names only. Names of one answer to SCAN are worked off before the next one is asked for. */
#include <stdlib.h>

#include <rte_mempool.h>

#include "gateway/store/store_parts.h"

/* Records that are asked for and not answered; and names that are known, before more are. */
#define FLYING_MAX 256
#define NAMES_LOW  256

#define SCAN_COUNT "512"

/* Before what found no room is tried again. */
#define PAUSE_MS 2

/* Words of a record: fields of later versions may come on top. */
#define WORDS_MAX ((size_t)4 * RECORD_FIELDS_MAX)

struct entry {
    STAILQ_ENTRY(entry) link;
    unsigned generation;
    unsigned worker; /* a resource: the next one to be given it */
    size_t length;
    char name[]; /* the whole key */
};

/* ---- names ---- */

static bool add_name(struct reading *r, const char *name, size_t length)
{
    struct entry *e = malloc(sizeof(*e) + length);

    if (!e)
        return false;
    e->generation = r->generation;
    e->worker = 0;
    e->length = length;
    memcpy(e->name, name, length);
    STAILQ_INSERT_TAIL(&r->names, e, link);
    r->names_count++;
    return true;
}

/* Whoever is behind the pattern: nothing else is touched. */
static bool is_ours(const struct store *s, const redisReply *name)
{
    return name->type == REDIS_REPLY_STRING && name->len > s->service.tag_length &&
           memcmp(name->str, s->service.tag, s->service.tag_length) == 0;
}

static void scanned(redisAsyncContext *ac, void *answer, void *argument)
{
    struct store *s = redis_answered(ac);
    struct reading *r = &s->reading;
    const redisReply *reply = answer, *names;

    if (!reply || (unsigned)(uintptr_t)argument != r->generation || !r->on)
        return;
    r->scanning = false;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        reply->element[0]->type != REDIS_REPLY_STRING ||
        reply->element[1]->type != REDIS_REPLY_ARRAY) {
        redis_fail(&s->redis, redis_reply_text(reply));
        return;
    }
    names = reply->element[1];
    for (size_t i = 0; i < names->elements; i++)
        if (is_ours(s, names->element[i]) &&
            !add_name(r, names->element[i]->str, names->element[i]->len)) {
            redis_fail(&s->redis, "out of memory"); /* to begin anew later */
            return;
        }
    snprintf(r->cursor, sizeof(r->cursor), "%s", reply->element[0]->str);
    r->scanned = strcmp(r->cursor, "0") == 0;
}

static void scan(struct store *s)
{
    struct reading *r = &s->reading;

    r->scanning = redis_say(&s->redis, scanned, (void *)(uintptr_t)r->generation, "SCAN", r->cursor,
                            "MATCH", s->service.patterns[r->phase], "COUNT", SCAN_COUNT);
}

/* ---- one record ---- */

static void set_aside_done(redisAsyncContext *ac, void *answer, void *argument)
{
    (void)answer;
    (void)argument;
    (void)redis_answered(ac);
}

/* Under another name, for who wants to know what it was. */
void reading_set_aside(struct store *s, const char *name, size_t length)
{
    static const char mark[] = "rejected:";
    const size_t tag = s->service.tag_length;
    const size_t room = length + strlen(mark);
    char *aside = malloc(room);

    store_count(&s->counts.rejected);
    s->reading.rejected++;
    if (!aside)
        return;
    s->reading.renamed = true;
    memcpy(aside, name, tag);
    memcpy(aside + tag, mark, strlen(mark));
    memcpy(aside + tag + strlen(mark), name + tag, length - tag);
    (void)redis_command(&s->redis, set_aside_done, NULL, 3,
                        (const char *const[]){"RENAME", name, aside},
                        (const size_t[]){strlen("RENAME"), length, room});
    free(aside);
}

static bool parse(const struct store *s, const struct entry *e, const redisReply *reply,
                  struct record *record)
{
    const size_t tag = s->service.tag_length;
    const char *words[WORDS_MAX];
    size_t lengths[WORDS_MAX];

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements > WORDS_MAX || e->length <= tag)
        return false;
    for (size_t i = 0; i < reply->elements; i++) {
        if (reply->element[i]->type != REDIS_REPLY_STRING)
            return false;
        words[i] = reply->element[i]->str;
        lengths[i] = reply->element[i]->len;
    }
    return record_parse(record, s->reading.phase, e->name + tag, e->length - tag, words, lengths,
                        (unsigned)reply->elements) == 0;
}

/* The listener of a record; NULL when it is another gateway's. */
static const struct config_listener *listener_of(const struct config *config,
                                                 const struct endpoint *listen,
                                                 enum transport transport)
{
    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];

        if (l->port == listen->port && l->transport == transport &&
            address_equal(&config->locals[l->local].address, &listen->address))
            return l;
    }
    return NULL;
}

static unsigned owner_of(const struct store *s, const struct config_listener *l,
                         const struct endpoint *peer)
{
    const struct flow flow = flow_make(l->local, l->port, peer, TRANSPORT_UDP);

    return s->setup.worker_of(s->setup.context, &flow);
}

/* The worker of an association: packets with its Connection ID are steered by the first byte of
 * that, others by their addresses. */
static unsigned association_owner(const struct store *s, const struct config_listener *l,
                                  const struct store_association *a)
{
    return a->cid ? a->id[0] % s->workers : owner_of(s, l, &a->peer);
}

static unsigned relation_owner(const struct store *s, const struct config_listener *l,
                               const struct store_relation *relation)
{
    const uint8_t *id = record_dtls_id(relation);
    unsigned worker;

    if (!id)
        return owner_of(s, l, &relation->peer);
    return owners_find(&s->reading.owners, id, &worker) ? worker : id[0] % s->workers;
}

void reading_learn(struct store *s, unsigned worker, const struct record *record)
{
    const uint8_t *id = NULL;

    if (record->what == STORE_ASSOCIATION)
        id = record->association.id;
    else if (record->what == STORE_RELATION)
        id = record_dtls_id(&record->relation);
    if (id && s->reading.on)
        owners_set(&s->reading.owners, id, worker);
}

static bool give(struct store *s, unsigned worker, const struct record *record, bool verify)
{
    struct channel *channel = &s->channels[worker];
    const struct store_head head = {.what = (uint8_t)record->what, .verify = verify};
    struct parcel *parcel;

    if (!service_is_up(s, worker) || writes_are_owed(s, worker) ||
        !channel_has_room(channel, CHANNEL_RESERVE))
        return false;
    parcel = parcel_new(s->setup.parcels, PARCEL_RECORD, STORE_RECORD,
                        (uint32_t)sizeof(head) + record_bytes(record));
    if (!parcel)
        return false;
    parcel->from = PARCEL_STORE;
    (void)parcel_write(parcel, 0, &head, sizeof(head));
    record_to_parcel(record, parcel, sizeof(head));
    if (channel_give(channel, parcel))
        return true;
    parcel_free(s->setup.parcels, parcel);
    return false;
}

static bool set_foreign(struct store *s)
{
    store_count(&s->counts.foreign);
    s->reading.foreign++;
    return true;
}

static bool set_given(struct store *s, const struct record *record)
{
    store_count(&s->counts.read);
    s->reading.counts[record->what]++;
    return true;
}

/* False, here and below: there is no room now. */
static bool give_relation(struct store *s, const struct record *record, bool verify)
{
    const struct store_relation *relation = &record->relation;
    const struct config_listener *l =
        listener_of(s->config, &relation->listen, (enum transport)relation->transport);

    if (!l)
        return set_foreign(s);
    return give(s, relation_owner(s, l, relation), record, verify) && set_given(s, record);
}

static bool give_association(struct store *s, const struct record *record, bool verify)
{
    const struct store_association *a = &record->association;
    const struct config_listener *l = listener_of(s->config, &a->listen, TRANSPORT_DTLS);
    unsigned worker;

    if (!l)
        return set_foreign(s);
    worker = association_owner(s, l, a);
    if (!give(s, worker, record, verify))
        return false;
    owners_set(&s->reading.owners, a->id, worker);
    return set_given(s, record);
}

static bool give_resource(struct store *s, struct entry *e, const struct record *record,
                          bool verify)
{
    for (; e->worker < s->workers; e->worker++)
        if (!give(s, e->worker, record, verify))
            return false;
    return set_given(s, record);
}

static bool give_record(struct store *s, struct entry *e, const struct record *record, bool verify)
{
    switch (record->what) {
    case STORE_RELATION:
        return give_relation(s, record, verify);
    case STORE_RESOURCE:
        return give_resource(s, e, record, verify);
    default:
        return give_association(s, record, verify);
    }
}

/* One that does not fit into the whole pool would be tried for ever. */
static bool is_too_long(const struct store *s, const struct record *record)
{
    return (uint64_t)sizeof(struct store_head) + record_bytes(record) >
           (uint64_t)s->setup.parcels->size / 2 * PARCEL_DATA_BYTES;
}

/* True when the record has been dealt with. */
static bool use(struct store *s, struct entry *e, const redisReply *reply)
{
    const size_t tag = s->service.tag_length;
    struct record record;
    bool verify;

    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 0)
        return true; /* deleted meanwhile */
    if (!parse(s, e, reply, &record)) {
        reading_set_aside(s, e->name, e->length);
        return true;
    }
    if (is_too_long(s, &record)) {
        store_count(&s->counts.rejected);
        s->reading.rejected++;
        return true;
    }
    /* What this process knows of, or was given before, it may have ended since. */
    verify = atomic_load(&s->resumed) || seen_has(&s->seen, e->name + tag, e->length - tag);
    if (!give_record(s, e, &record, verify))
        return false;
    if (!verify)
        seen_add(&s->seen, e->name + tag, e->length - tag);
    return true;
}

/* False: it has to be asked for again. */
static bool take_answer(struct store *s, struct entry *e, const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR &&
        strncmp(reply->str, "WRONGTYPE", strlen("WRONGTYPE")) != 0) {
        redis_fail(&s->redis, reply->str);
        return true;
    }
    return use(s, e, reply);
}

static void fetched(redisAsyncContext *ac, void *answer, void *argument)
{
    struct store *s = redis_answered(ac);
    struct reading *r = &s->reading;
    struct entry *e = argument;
    const redisReply *reply = answer;

    r->flying--;
    if (reply && r->on && e->generation == r->generation && !take_answer(s, e, reply)) {
        STAILQ_INSERT_HEAD(&r->names, e, link);
        r->names_count++;
        r->pause_until_ms = s->now_ms + PAUSE_MS;
        return;
    }
    free(e);
}

static bool fetch(struct store *s)
{
    struct reading *r = &s->reading;
    struct entry *e = STAILQ_FIRST(&r->names);

    if (!redis_command(&s->redis, fetched, e, 2, (const char *const[]){"HGETALL", e->name},
                       (const size_t[]){strlen("HGETALL"), e->length}))
        return false;
    STAILQ_REMOVE_HEAD(&r->names, link);
    r->names_count--;
    r->flying++;
    return true;
}

/* ---- all records ---- */

static void say_resumed(const struct reading *r)
{
    fprintf(stderr,
            "coapgw: store: read back: %llu observe relations, %llu resources, %llu associations; "
            "%llu records of other listeners, %llu set aside\n",
            (unsigned long long)r->counts[STORE_RELATION],
            (unsigned long long)r->counts[STORE_RESOURCE],
            (unsigned long long)r->counts[STORE_ASSOCIATION], (unsigned long long)r->foreign,
            (unsigned long long)r->rejected);
}

static void end_reading(struct store *s)
{
    struct reading *r = &s->reading;
    bool first = !atomic_load(&s->resumed);

    r->on = false;
    owners_clear(&r->owners);
    if (first) {
        say_resumed(r);
        atomic_store(&s->resumed, true);
        seen_clear(&s->seen);
    }
    /* A record that was put while its damaged predecessor was set aside may have gone with it. */
    if (r->renamed && atomic_load(&s->counts.puts) != r->puts_before)
        service_dirty(s, NULL);
}

static void begin_phase(struct reading *r, enum store_what phase)
{
    r->phase = phase;
    r->scanning = r->scanned = false;
    snprintf(r->cursor, sizeof(r->cursor), "0");
}

void reading_start(struct store *s)
{
    struct reading *r = &s->reading;

    reading_stop(s);
    r->on = true;
    r->pause_until_ms = 0;
    memset(r->counts, 0, sizeof(r->counts));
    r->foreign = r->rejected = 0;
    r->renamed = false;
    r->puts_before = atomic_load(&s->counts.puts);
    begin_phase(r, STORE_RESOURCE);
}

void reading_stop(struct store *s)
{
    struct reading *r = &s->reading;
    struct entry *e;

    r->on = false;
    r->generation++;
    owners_clear(&r->owners);
    while ((e = STAILQ_FIRST(&r->names)) != NULL) {
        STAILQ_REMOVE_HEAD(&r->names, link);
        free(e);
    }
    r->names_count = 0;
}

void reading_init(struct store *s)
{
    STAILQ_INIT(&s->reading.names);
}

void reading_advance(struct store *s)
{
    struct reading *r = &s->reading;

    if (!r->on || !s->service.up || s->now_ms < r->pause_until_ms)
        return;
    while (r->names_count && r->flying < FLYING_MAX && redis_output(&s->redis) < REDIS_OUTPUT_BYTES)
        if (!fetch(s))
            return;
    if (r->scanning)
        return;
    if (!r->scanned) {
        if (r->names_count < NAMES_LOW)
            scan(s);
    } else if (r->names_count == 0 && r->flying == 0) {
        if (r->phase == STORE_RESOURCE)
            begin_phase(r, STORE_ASSOCIATION);
        else if (r->phase == STORE_ASSOCIATION)
            begin_phase(r, STORE_RELATION);
        else
            end_reading(s);
    }
}

/* Answers of Redis wake the thread. What is not waiting for one, waits for room. */
uint64_t reading_due_ms(const struct store *s)
{
    const struct reading *r = &s->reading;

    if (!r->on || !s->service.up)
        return UINT64_MAX;
    if (s->now_ms < r->pause_until_ms)
        return r->pause_until_ms;
    if (r->flying || r->scanning)
        return UINT64_MAX;
    return s->now_ms + (redis_output(&s->redis) < REDIS_OUTPUT_BYTES ? 0 : 1);
}
