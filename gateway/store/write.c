/* Records to Redis: out of the rings into the pipeline, and the answers back.
 *
 * Nobody waits longer than the configured timeout: a record that is not confirmed by then is
 * answered so, and its command goes on. What Redis cannot take at once stays in the rings; when it
 * has said nothing for half of the timeout, or is too late with its answers, it is refused. */
#include <errno.h>
#include <stdlib.h>

#include "gateway/store/store_parts.h"

/* Parcels of one worker that are taken in a row. */
#define TAKE_MAX 64

/* A command on its way, or its answer. */
struct write {
    TAILQ_ENTRY(write) link; /* in `waiting` or in `owed` */
    uint64_t cookie;
    uint64_t deadline_ms;
    int error;
    uint16_t worker;
    uint8_t what;
    bool put;     /* not a deletion */
    bool flying;  /* Redis has not answered */
    bool waiting; /* in the list of this name */
    bool owed;
};

/* What to do with a parcel. */
enum verdict { TAKE_WRITE, TAKE_NOT, TAKE_ABSENT, TAKE_FULL };

/* ---- answers ---- */

/* The parcel itself becomes the answer: no other one is needed. */
static void answer_at_once(struct store *s, unsigned worker, struct parcel *parcel, int error)
{
    struct store_head head;

    (void)parcel_read(parcel, 0, &head, sizeof(head));
    if (parcel->type != STORE_PUT || head.cookie == 0) {
        parcel_free(s->setup.parcels, parcel);
        return;
    }
    parcel_free(s->setup.parcels, parcel->next);
    head = (struct store_head){.cookie = head.cookie, .error = error, .what = head.what};
    parcel->length = sizeof(head);
    parcel->type = STORE_DONE;
    parcel->from = PARCEL_STORE;
    (void)parcel_write(parcel, 0, &head, sizeof(head));
    channel_post(&s->channels[worker], parcel);
}

static void release(struct store *s, struct write *w)
{
    if (!w->flying && !w->owed)
        pool_put(&s->writes.pool, w);
}

/* False when there is no room in the ring, or no parcel. */
static bool give_answer(struct store *s, const struct write *w)
{
    const struct store_head head = {.cookie = w->cookie, .error = w->error, .what = w->what};
    struct channel *channel = &s->channels[w->worker];
    struct parcel *parcel;

    if (!channel_has_room(channel, 1))
        return false;
    parcel = service_parcel(s, STORE_DONE, &head);
    if (parcel)
        channel_post(channel, parcel);
    return parcel != NULL;
}

static void answer(struct store *s, struct write *w, int error)
{
    struct write_list *owed = &s->writes.owed[w->worker];

    TAILQ_REMOVE(&s->writes.waiting, w, link);
    w->waiting = false;
    w->error = error;
    if (!TAILQ_EMPTY(owed) || !give_answer(s, w)) {
        w->owed = true;
        TAILQ_INSERT_TAIL(owed, w, link);
    }
}

static void give_owed(struct store *s, unsigned worker)
{
    struct write_list *owed = &s->writes.owed[worker];
    struct write *w;

    while ((w = TAILQ_FIRST(owed)) != NULL && give_answer(s, w)) {
        TAILQ_REMOVE(owed, w, link);
        w->owed = false;
        release(s, w);
    }
}

/* ---- what Redis says ---- */

/* A server that has become a replica: another one is behind the name now, or will be. */
static bool is_readonly(const redisReply *reply)
{
    return strncmp(reply->str, "READONLY", strlen("READONLY")) == 0;
}

static int outcome(struct store *s, const struct write *w, const redisReply *reply)
{
    if (!reply) {
        store_count(&s->counts.failed);
        return -ENOTCONN;
    }
    if (reply->type == REDIS_REPLY_INTEGER) {
        if (w->put)
            store_count(&s->counts.confirmed);
        return 0;
    }
    store_count(&s->counts.failed);
    service_dirty(s, redis_reply_text(reply));
    if (reply->type == REDIS_REPLY_ERROR && is_readonly(reply))
        redis_fail(&s->redis, reply->str);
    return -EIO;
}

static void written(redisAsyncContext *ac, void *reply, void *argument)
{
    struct store *s = redis_answered(ac);
    struct write *w = argument;
    int error = outcome(s, w, reply);

    w->flying = false;
    if (w->waiting)
        answer(s, w, error);
    release(s, w);
}

/* ---- commands ---- */

static bool make_room(void **buffer, size_t *room, size_t need)
{
    void *larger;

    if (need <= *room)
        return true;
    larger = realloc(*buffer, need * 2);
    if (!larger)
        return false;
    *buffer = larger;
    *room = need * 2;
    return true;
}

/* The record of a parcel, and its key in `writes.name`. Its length, 0 when it is not right. */
static size_t read_parcel(struct store *s, const struct parcel *parcel, struct record *record)
{
    struct writes *ws = &s->writes;
    const size_t length = parcel->length - sizeof(struct store_head);
    struct store_head head;
    const size_t tag = s->service.tag_length;

    if (!make_room((void **)&ws->bytes, &ws->bytes_room, length))
        return 0;
    (void)parcel_read(parcel, 0, &head, sizeof(head));
    (void)parcel_read(parcel, sizeof(head), ws->bytes, length);
    if (record_from_bytes(record, head.what, ws->bytes, length, parcel->type == STORE_PUT) != 0 ||
        !make_room((void **)&ws->name, &ws->name_room, tag + record_name_room(record)))
        return 0;
    memcpy(ws->name, s->service.tag, tag);
    return tag + record_name(record, ws->name + tag);
}

static bool say_put(struct store *s, struct write *w, const struct record *record, size_t length)
{
    const char *words[2 + 2 * RECORD_FIELDS_MAX] = {"HSET", s->writes.name};
    size_t lengths[2 + 2 * RECORD_FIELDS_MAX] = {strlen("HSET"), length};
    const size_t tag = s->service.tag_length;
    struct record_form form;

    record_form(record, s->writes.name + tag, length - tag, &form);
    memcpy(words + 2, form.words, form.count * sizeof(*words));
    memcpy(lengths + 2, form.lengths, form.count * sizeof(*lengths));
    return redis_command(&s->redis, written, w, 2 + (int)form.count, words, lengths);
}

static bool say_delete(struct store *s, struct write *w, size_t length)
{
    const char *words[] = {"DEL", s->writes.name};
    const size_t lengths[] = {strlen("DEL"), length};

    return redis_command(&s->redis, written, w, 2, words, lengths);
}

/* The answer is given when Redis has given one, or when it is due. */
static bool say(struct store *s, unsigned worker, const struct parcel *parcel,
                const struct record *record, size_t length)
{
    struct write *w = pool_get(&s->writes.pool);
    struct store_head head;

    (void)parcel_read(parcel, 0, &head, sizeof(head));
    *w = (struct write){.worker = (uint16_t)worker,
                        .what = head.what,
                        .put = parcel->type == STORE_PUT,
                        .deadline_ms = s->now_ms + s->config->store.timeout_ms};
    if (w->put)
        w->cookie = head.cookie;
    if (!(w->put ? say_put(s, w, record, length) : say_delete(s, w, length))) {
        pool_put(&s->writes.pool, w);
        return false;
    }
    w->flying = true;
    if (w->cookie) {
        w->waiting = true;
        TAILQ_INSERT_TAIL(&s->writes.waiting, w, link);
    }
    store_count(w->put ? &s->counts.puts : &s->counts.deletes);
    return true;
}

/* ---- out of the rings ---- */

static void take_record(struct store *s, unsigned worker, struct parcel *parcel,
                        enum verdict verdict)
{
    const size_t tag = s->service.tag_length;
    struct record record;
    size_t length = read_parcel(s, parcel, &record);

    if (length == 0) {
        store_count(&s->counts.failed);
        answer_at_once(s, worker, parcel, -EIO);
        return;
    }
    /* Until all has been read back: what is touched here is not of before the start. */
    if (!atomic_load_explicit(&s->resumed, memory_order_relaxed))
        seen_add(&s->seen, s->writes.name + tag, length - tag);
    if (parcel->type == STORE_PUT)
        reading_learn(s, worker, &record);
    if (verdict == TAKE_WRITE && say(s, worker, parcel, &record, length)) {
        parcel_free(s->setup.parcels, parcel);
        return;
    }
    if (verdict == TAKE_FULL) {
        store_count(&s->counts.failed);
        service_dirty(s, "too many commands are under way");
    }
    answer_at_once(s, worker, parcel, verdict == TAKE_FULL ? -ENOSPC : -ENOTCONN);
}

/* No more than a deletion is done about one that finds the store down: it comes again. */
static void reject_record(struct store *s, struct parcel *parcel, enum verdict verdict)
{
    struct record record;
    size_t length = verdict == TAKE_WRITE ? read_parcel(s, parcel, &record) : 0;

    if (length)
        reading_set_aside(s, s->writes.name, length);
    parcel_free(s->setup.parcels, parcel);
}

static void take_parcel(struct store *s, unsigned worker, struct parcel *parcel,
                        enum verdict verdict)
{
    struct store_head head;

    if (parcel->kind == PARCEL_RECORD && parcel_read(parcel, 0, &head, sizeof(head))) {
        if (parcel->type == STORE_PUT || parcel->type == STORE_DELETE) {
            take_record(s, worker, parcel, verdict);
            return;
        }
        if (parcel->type == STORE_KEY_ASK) {
            keys_take(s, worker, parcel, verdict == TAKE_FULL);
            return;
        }
        if (parcel->type == STORE_REJECT) {
            reject_record(s, parcel, verdict);
            return;
        }
        if (parcel->type == STORE_MARK_ASK && head.mark > s->service.asked) {
            s->service.asked = head.mark;
            s->service.asked_anew = true;
        }
    }
    parcel_free(s->setup.parcels, parcel);
}

/* Redis says nothing, or says it too late: to wait for room would be in vain. */
static bool is_behind(const struct store *s)
{
    const uint32_t timeout_ms = s->config->store.timeout_ms;

    return s->now_ms - s->redis.heard_ms >= timeout_ms / 2 ||
           (s->writes.late_ms && s->now_ms - s->writes.late_ms < timeout_ms);
}

static enum verdict verdict_of(const struct store *s, unsigned worker)
{
    if (!service_is_up(s, worker))
        return TAKE_ABSENT;
    if (redis_output(&s->redis) < REDIS_OUTPUT_BYTES && pool_used(&s->writes.pool) < WRITES_MAX)
        return TAKE_WRITE;
    return is_behind(s) ? TAKE_FULL : TAKE_NOT;
}

static unsigned take_some(struct store *s, unsigned worker)
{
    struct channel *channel = &s->channels[worker];
    unsigned n = 0;

    for (; n < TAKE_MAX; n++) {
        enum verdict verdict = verdict_of(s, worker);
        void *parcel;

        if (verdict == TAKE_NOT || rte_ring_sc_dequeue(channel->to_store, &parcel) != 0)
            break;
        take_parcel(s, worker, parcel, verdict);
    }
    return n;
}

bool writes_take(struct store *s)
{
    unsigned n = 0;

    for (unsigned i = 0; i < s->workers; i++)
        n += take_some(s, (s->writes.turn + i) % s->workers);
    if (++s->writes.turn >= s->workers)
        s->writes.turn = 0;
    return n != 0;
}

bool writes_are_there(const struct store *s)
{
    for (unsigned i = 0; i < s->workers; i++)
        if (!rte_ring_empty(s->channels[i].to_store) && verdict_of(s, i) != TAKE_NOT)
            return true;
    return false;
}

/* ---- time ---- */

void writes_advance(struct store *s)
{
    struct write *w;

    for (unsigned i = 0; i < s->workers; i++)
        give_owed(s, i);
    while ((w = TAILQ_FIRST(&s->writes.waiting)) != NULL && s->now_ms >= w->deadline_ms) {
        store_count(&s->counts.timeouts);
        s->writes.late_ms = s->now_ms;
        answer(s, w, -ETIMEDOUT);
    }
}

uint64_t writes_due_ms(const struct store *s)
{
    const struct write *w = TAILQ_FIRST(&s->writes.waiting);
    uint64_t due = w ? w->deadline_ms : UINT64_MAX;

    for (unsigned i = 0; i < s->workers; i++) {
        const struct channel *channel = &s->channels[i];

        if (channel->first || writes_are_owed(s, i))
            return s->now_ms + 1;
        if (due > s->now_ms + 1 && !rte_ring_empty(channel->to_store) && service_is_up(s, i))
            due = s->now_ms + 1; /* left there for lack of room */
    }
    return due;
}

bool writes_are_owed(const struct store *s, unsigned worker)
{
    return !TAILQ_EMPTY(&s->writes.owed[worker]);
}

bool writes_are_flying(const struct store *s)
{
    return pool_used(&s->writes.pool) != 0;
}

/* ---- start and end ---- */

int writes_init(struct store *s)
{
    struct writes *ws = &s->writes;

    TAILQ_INIT(&ws->waiting);
    ws->owed = calloc(s->workers, sizeof(*ws->owed));
    if (!ws->owed)
        return -ENOMEM;
    for (unsigned i = 0; i < s->workers; i++)
        TAILQ_INIT(&ws->owed[i]);
    return pool_init(&ws->pool, sizeof(struct write), WRITES_MAX);
}

void writes_fini(struct store *s)
{
    free(s->writes.owed);
    free(s->writes.bytes);
    free(s->writes.name);
    pool_fini(&s->writes.pool);
}
