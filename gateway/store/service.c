/* What belongs to the service as a whole: who its owner is, the mark of Observe numbers, the
 * secret; and what the workers are told of it.
 *
 * Set-up of a connection, each step when the one before is confirmed:
 *
 *   owner      the first connection of the process: written. Later ones: looked at; another name
 *              there means that another gateway has taken over, and nothing is written any more
 *   secret     written where there is none
 *   counter    read, moved on and written
 *   up         the workers are told, records are read back
 *
 * The same again when Redis turns out to have lost its data, or has refused to write. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>

#include "gateway/store/store_parts.h"

#define LOOK_MS 1000

/* The mark is so many numbers ahead: a minute of the clock. */
#define NUMBERS_AHEAD 3662

/* The pauses before all is put again: the first one, and the longest, if it has to be done often.
 */
#define AGAIN_FIRST_MS   1000
#define AGAIN_LONGEST_MS 60000

static void owner_is_ours(struct store *s);

/* ---- telling the workers ---- */

struct parcel *service_parcel(struct store *s, enum store_type type, const struct store_head *head)
{
    struct parcel *parcel =
        parcel_new(s->setup.parcels, PARCEL_RECORD, (uint16_t)type, sizeof(*head));

    if (parcel) {
        parcel->from = PARCEL_STORE;
        (void)parcel_write(parcel, 0, head, sizeof(*head));
    }
    return parcel;
}

static bool tell(struct store *s, struct channel *channel, enum store_type type)
{
    const struct store_head head = {
        .cookie = type == STORE_MARK ? s->service.floor : 0,
        .mark = type == STORE_MARK ? s->service.mark : 0,
    };
    struct parcel *parcel = channel_has_room(channel, 1) ? service_parcel(s, type, &head) : NULL;

    if (parcel)
        channel_post(channel, parcel);
    return parcel != NULL;
}

/* In this order, and each only when all before it have gone into the ring. */
static bool tell_worker(struct store *s, unsigned worker)
{
    struct channel *channel = &s->channels[worker];
    const struct service *v = &s->service;

    if (!channel_flush(channel) || writes_are_owed(s, worker))
        return false;
    if (channel->told_up && channel->told_up != v->up) {
        if (!tell(s, channel, STORE_DOWN))
            return false;
        channel->told_up = 0;
    }
    if (!channel->told_over && !atomic_load(&s->owner))
        channel->told_over = tell(s, channel, STORE_OVER);
    if (!v->up)
        return channel->told_over || atomic_load(&s->owner);
    if (channel->told_mark != v->mark) {
        if (!tell(s, channel, STORE_MARK))
            return false;
        channel->told_mark = v->mark;
    }
    if (channel->told_up != v->up) {
        if (!tell(s, channel, STORE_UP))
            return false;
        channel->told_up = v->up;
    }
    if (!channel->told_resumed && atomic_load(&s->resumed))
        channel->told_resumed = tell(s, channel, STORE_RESUMED);
    return channel->told_resumed || !atomic_load(&s->resumed);
}

bool service_tell(struct store *s)
{
    bool all = true;

    for (unsigned i = 0; i < s->workers; i++)
        all &= tell_worker(s, i);
    return all;
}

/* ---- up and down ---- */

static void go_down(struct store *s)
{
    s->service.up = 0;
    s->service.round++;
    s->service.claiming = s->service.asking = s->service.mark_moving = false;
    atomic_store(&s->connected, false);
    reading_stop(s);
}

static void go_up(struct store *s)
{
    struct service *v = &s->service;

    v->claiming = false;
    v->up = ++v->ups;
    v->dirty = v->writable = false;
    v->look_at_ms = s->now_ms + LOOK_MS;
    v->said[0] = 0;
    store_set_error(s, "");
    atomic_store(&s->connected, true);
    if (v->announce)
        fprintf(stderr, "coapgw: store: connected to %s\n", s->redis.where);
    v->announce = false;
    reading_start(s);
}

/* An answer of the set-up that is not what was expected. */
static void refuse(struct store *s, const redisReply *reply)
{
    redis_fail(&s->redis, redis_reply_text(reply));
}

static bool is_text(const redisReply *reply, const char *text)
{
    return reply->type == REDIS_REPLY_STRING && strcmp(reply->str, text) == 0;
}

static bool is_status(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STATUS;
}

static void taken_over(struct store *s, const char *by)
{
    char text[160];

    snprintf(text, sizeof(text), "another gateway has taken the service over: %.64s", by);
    for (char *c = text; *c; c++)
        if (*c < ' ' || *c > '~') /* who knows what was found there */
            *c = '?';
    fprintf(stderr, "coapgw: store: %s; nothing is written any more\n", text);
    atomic_store(&s->owner, false);
    go_down(s);
    redis_close(&s->redis, text);
    store_set_error(s, text);
}

/* ---- the mark ---- */

static uint64_t in_use(const struct store *s)
{
    uint64_t clock = s->setup.now_us(s->setup.context) >> NUMBER_CLOCK_SHIFT;

    if (clock < s->service.floor) /* numbers have gone on from there */
        clock = s->service.floor;
    return s->service.asked > clock ? s->service.asked : clock;
}

uint64_t service_numbers_ahead(const struct store *s)
{
    const uint32_t save_freq = s->config->store.save_freq;

    return save_freq > NUMBERS_AHEAD ? save_freq : NUMBERS_AHEAD;
}

static void mark_written(redisAsyncContext *ac, void *answer, void *argument)
{
    struct store *s = redis_answered(ac);
    struct service *v = &s->service;
    const redisReply *reply = answer;

    if (!reply || (unsigned)(uintptr_t)argument != v->round)
        return;
    v->mark_moving = false;
    if (reply->type == REDIS_REPLY_INTEGER) {
        v->mark = v->next_mark;
        v->writable = true;
        if (v->claiming)
            go_up(s);
        else if (!v->dirty)
            store_set_error(s, "");
    } else if (v->claiming) {
        refuse(s, reply);
    } else { /* tried again with the next look */
        store_set_error(s, redis_reply_text(reply));
    }
}

static void move_mark(struct store *s)
{
    struct service *v = &s->service;
    uint64_t mark = in_use(s) + service_numbers_ahead(s);
    char number[24];

    v->next_mark = mark > v->mark ? mark : v->mark;
    snprintf(number, sizeof(number), "%" PRIu64, v->next_mark);
    v->mark_moving = redis_say(&s->redis, mark_written, (void *)(uintptr_t)v->round, "HSET",
                               v->counter_key, "observe", number);
}

/* What the counter says is beyond all that was sent. Text that is no number is as good as none. */
static void counter_read(redisAsyncContext *ac, void *answer, void *argument)
{
    struct store *s = redis_answered(ac);
    struct service *v = &s->service;
    const redisReply *reply = answer;
    uint64_t mark = 0;

    (void)argument;
    if (!reply)
        return;
    if (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_NIL) {
        refuse(s, reply);
        return;
    }
    if (reply->type == REDIS_REPLY_STRING)
        mark = strtoull(reply->str, NULL, 10);
    if (mark > MARK_MAX)
        mark = 0;
    if (!v->floor_known)
        v->floor = mark;
    v->floor_known = true;
    if (mark > v->mark)
        v->mark = mark;
    move_mark(s);
}

/* ---- the owner ---- */

static void secret_kept(redisAsyncContext *ac, void *answer, void *argument)
{
    (void)answer;
    (void)argument;
    (void)redis_answered(ac);
}

static void owner_written(redisAsyncContext *ac, void *answer, void *argument)
{
    struct store *s = redis_answered(ac);

    (void)argument;
    if (!answer)
        return;
    if (is_status(answer))
        owner_is_ours(s);
    else
        refuse(s, answer);
}

static void write_owner(struct store *s)
{
    (void)redis_say(&s->redis, owner_written, NULL, "SET", s->service.owner_key,
                    s->service.identity);
}

/* Only where there is none: what another start has derived from it must go on. */
static void owner_is_ours(struct store *s)
{
    struct service *v = &s->service;

    v->claimed = true;
    if (v->secret[0])
        (void)redis_say(&s->redis, secret_kept, NULL, "SET", v->secret_key, v->secret, "NX");
    if (v->past.life) {
        char lives[24];

        snprintf(lives, sizeof(lives), "%" PRIu64, v->past.life);
        (void)redis_say(&s->redis, secret_kept, NULL, "HSETNX", v->counter_key, "lives", lives);
    }
    (void)redis_say(&s->redis, counter_read, NULL, "HGET", v->counter_key, "observe");
}

/* A connection that is not the first one. */
static void owner_read(redisAsyncContext *ac, void *answer, void *argument)
{
    struct store *s = redis_answered(ac);
    const redisReply *reply = answer;

    (void)argument;
    if (!reply)
        return;
    if (reply->type == REDIS_REPLY_NIL)
        write_owner(s);
    else if (is_text(reply, s->service.identity))
        owner_is_ours(s);
    else if (reply->type == REDIS_REPLY_STRING)
        taken_over(s, reply->str);
    else
        refuse(s, reply);
}

static void claim(struct store *s)
{
    struct service *v = &s->service;

    go_down(s);
    v->claiming = true;
    if (v->claimed)
        (void)redis_say(&s->redis, owner_read, NULL, "GET", v->owner_key);
    else
        write_owner(s);
}

/* ---- the connection ---- */

void service_ready(void *context)
{
    struct store *s = context;

    s->service.announce = true;
    store_count(&s->counts.connects);
    claim(s);
}

/* A reason is said once, until another one comes up. */
void service_lost(void *context)
{
    struct store *s = context;
    struct service *v = &s->service;
    const struct redis *r = &s->redis;
    bool was_up = atomic_load(&s->connected);

    go_down(s);
    store_set_error(s, r->error);
    if (!was_up && strcmp(v->said, r->error) == 0)
        return;
    snprintf(v->said, sizeof(v->said), "%s", r->error);
    fprintf(stderr, "coapgw: store: %s %s: %s\n",
            was_up ? "lost the connection to" : "no connection to", r->where, r->error);
}

/* ---- each second ---- */

static void owner_checked(redisAsyncContext *ac, void *answer, void *argument)
{
    struct store *s = redis_answered(ac);
    const redisReply *reply = answer;

    (void)argument;
    s->service.asking = false;
    if (!reply || !s->service.up || is_text(reply, s->service.identity))
        return;
    if (reply->type == REDIS_REPLY_STRING) {
        taken_over(s, reply->str);
    } else if (reply->type == REDIS_REPLY_NIL) {
        fputs("coapgw: store: Redis has lost its data; all is put again\n", stderr);
        claim(s);
    } else {
        refuse(s, reply);
    }
}

void service_dirty(struct store *s, const char *why)
{
    struct service *v = &s->service;

    if (why)
        store_set_error(s, why);
    v->writable = false;
    if (v->dirty)
        return;
    v->dirty = true;
    if (v->again_ms == 0 || s->now_ms > v->again_at_ms + AGAIN_LONGEST_MS)
        v->again_ms = AGAIN_FIRST_MS;
    else
        v->again_ms = v->again_ms * 2 < AGAIN_LONGEST_MS ? v->again_ms * 2 : AGAIN_LONGEST_MS;
    v->again_at_ms = s->now_ms + v->again_ms;
    v->refused = why != NULL;
    if (why)
        fprintf(stderr, "coapgw: store: records are not written: %s\n", why);
}

/* The mark that is written tells whether Redis writes again. */
static void look_at_mark(struct store *s)
{
    const struct service *v = &s->service;

    if (!v->mark_moving && (v->dirty || v->mark < in_use(s) + service_numbers_ahead(s) / 2))
        move_mark(s);
}

static void clock_written(redisAsyncContext *ac, void *answer, void *argument)
{
    (void)redis_answered(ac);
    (void)answer; /* written again in a second */
    (void)argument;
}

/* Message IDs follow the workers' time, which a start takes from the wall clock: if that is set
 * back meanwhile, time has to go on behind this (RFC 7252 4.4). */
static void write_clock(struct store *s)
{
    char number[24];

    snprintf(number, sizeof(number), "%" PRIu64, s->setup.now_us(s->setup.context));
    (void)redis_say(&s->redis, clock_written, NULL, "HSET", s->service.counter_key, "clock", number,
                    NULL);
}

void service_advance(struct store *s)
{
    struct service *v = &s->service;

    if (!v->up)
        return;
    if (v->dirty && v->writable && s->now_ms >= v->again_at_ms &&
        redis_output(&s->redis) < REDIS_OUTPUT_BYTES) {
        if (v->refused)
            fputs("coapgw: store: records are written again\n", stderr);
        claim(s);
        return;
    }
    if (v->asked_anew && !v->mark_moving) {
        v->asked_anew = false;
        if (v->asked + service_numbers_ahead(s) / 2 > v->mark)
            move_mark(s);
    }
    if (s->now_ms < v->look_at_ms)
        return;
    v->look_at_ms = s->now_ms + LOOK_MS;
    look_at_mark(s);
    write_clock(s);
    if (!v->asking)
        v->asking = redis_say(&s->redis, owner_checked, NULL, "GET", v->owner_key);
}

uint64_t service_due_ms(const struct store *s)
{
    return s->service.up ? s->service.look_at_ms : UINT64_MAX;
}

/* ---- start and end ---- */

/* What has a meaning in a pattern of Redis gets a backslash: an IPv6 address has brackets. */
static char *make_pattern(const char *tag, const char *kind)
{
    char *pattern = malloc(2 * strlen(tag) + strlen(kind) + 2), *to = pattern;

    if (!pattern)
        return NULL;
    for (; *tag; tag++) {
        if (strchr("*?[]\\", *tag))
            *to++ = '\\';
        *to++ = *tag;
    }
    memcpy(to, kind, strlen(kind));
    memcpy(to + strlen(kind), "*", sizeof("*"));
    return pattern;
}

static char *make_key(const char *tag, const char *name)
{
    char *key = NULL;

    return asprintf(&key, "%s%s", tag, name) < 0 ? NULL : key;
}

int service_init(struct store *s)
{
    struct service *v = &s->service;
    uint64_t number;

    if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number) ||
        getrandom(&s->seen.seed, sizeof(s->seen.seed), 0) != (ssize_t)sizeof(s->seen.seed))
        return -EIO;
    s->reading.owners.seed = s->seen.seed;
    snprintf(v->identity, sizeof(v->identity), "%.64s %016" PRIx64, s->config->instance, number);
    if (asprintf(&v->tag, "{%s:%s}:", s->config->store.prefix, s->config->store.service) < 0) {
        v->tag = NULL;
        return -ENOMEM;
    }
    v->tag_length = strlen(v->tag);
    v->owner_key = make_key(v->tag, "owner");
    v->counter_key = make_key(v->tag, "counter");
    v->secret_key = make_key(v->tag, "secret");
    v->patterns[STORE_RELATION] = make_pattern(v->tag, "observe:");
    v->patterns[STORE_RESOURCE] = make_pattern(v->tag, "resource:");
    v->patterns[STORE_ASSOCIATION] = make_pattern(v->tag, "association:");
    for (unsigned i = 0; i < STORE_WHAT_COUNT; i++)
        if (!v->patterns[i])
            return -ENOMEM;
    return v->owner_key && v->counter_key && v->secret_key ? 0 : -ENOMEM;
}

void service_fini(struct store *s)
{
    struct service *v = &s->service;

    free(v->tag);
    free(v->owner_key);
    free(v->counter_key);
    free(v->secret_key);
    for (unsigned i = 0; i < STORE_WHAT_COUNT; i++)
        free(v->patterns[i]);
}
