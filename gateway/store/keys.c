/* Pre-shared keys out of Redis, for handshakes that wait for them.
 *
 * The parcel of a question becomes its answer, so that there is always room for one. It is asked as
 * soon as Redis is connected, whoever owns the service, for nothing is written. */
#include <errno.h>
#include <stdlib.h>

#include "gateway/store/store_parts.h"

/* Questions on their way: each holds a parcel. */
#define KEYS_MAX 1024

struct question {
    TAILQ_ENTRY(question) link;
    struct parcel *parcel; /* NULL: it was answered without Redis, which was too late */
    uint64_t deadline_ms;
    unsigned worker;
};

/* ---- answers ---- */

static void answer(struct store *s, unsigned worker, struct parcel *parcel, int error,
                   const uint8_t *key, size_t length)
{
    struct store_head head = {.error = error};

    (void)parcel_read(parcel, offsetof(struct store_head, cookie), &head.cookie,
                      sizeof(head.cookie));
    parcel_free(s->setup.parcels, parcel->next);
    parcel->next = NULL;
    parcel->length = (uint32_t)(sizeof(head) + length);
    parcel->type = STORE_KEY;
    parcel->from = PARCEL_STORE;
    (void)parcel_write(parcel, 0, &head, sizeof(head));
    (void)parcel_write(parcel, sizeof(head), key, length);
    channel_post(&s->channels[worker], parcel);
}

static void refuse(struct store *s, unsigned worker, struct parcel *parcel, int error)
{
    store_count(error == -ENOENT ? &s->counts.keys_unknown : &s->counts.keys_failed);
    answer(s, worker, parcel, error, NULL, 0);
}

/* ---- what Redis says ---- */

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The length of the key, or -EBADMSG. */
static int parse_key(const char *text, size_t length, uint8_t key[STORE_KEY_MAX])
{
    if (length == 0 || length % 2 || length / 2 > STORE_KEY_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < length / 2; i++) {
        int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return -EBADMSG;
        key[i] = (uint8_t)(high << 4 | low);
    }
    return (int)(length / 2);
}

static int read_key(const redisReply *reply, uint8_t key[STORE_KEY_MAX])
{
    if (!reply)
        return -ENOTCONN;
    if (reply->type == REDIS_REPLY_NIL)
        return -ENOENT;
    if (reply->type == REDIS_REPLY_STRING)
        return parse_key(reply->str, reply->len, key);
    if (reply->type == REDIS_REPLY_ERROR &&
        strncmp(reply->str, "WRONGTYPE", strlen("WRONGTYPE")) == 0)
        return -EBADMSG;
    return -EIO;
}

/* Once: there may be a fleet of them. */
static void say_bad(struct store *s, const struct parcel *parcel)
{
    char name[STORE_IDENTITY_MAX + 1] = "";
    const size_t length = parcel->length - sizeof(struct store_head);

    if (s->keys.said)
        return;
    s->keys.said = true;
    (void)parcel_read(parcel, sizeof(struct store_head), name, length);
    for (size_t i = 0; i < length; i++)
        if (name[i] < ' ' || name[i] > '~')
            name[i] = '?';
    fprintf(stderr,
            "coapgw: store: the pre-shared key of \"%s\" is not 2 to %d hexadecimal digits; "
            "further ones are counted only\n",
            name, 2 * STORE_KEY_MAX);
}

static void count(struct store *s, int outcome, const struct parcel *parcel)
{
    if (outcome > 0) {
        store_count(&s->counts.keys_found);
    } else if (outcome == -ENOENT) {
        store_count(&s->counts.keys_unknown);
    } else if (outcome == -EBADMSG) {
        store_count(&s->counts.keys_bad);
        say_bad(s, parcel);
    } else {
        store_count(&s->counts.keys_failed);
    }
}

static void got(redisAsyncContext *ac, void *reply, void *argument)
{
    struct store *s = redis_answered(ac);
    struct question *q = argument;
    uint8_t key[STORE_KEY_MAX];

    if (q->parcel) {
        int outcome = read_key(reply, key);

        TAILQ_REMOVE(&s->keys.waiting, q, link);
        count(s, outcome, q->parcel);
        answer(s, q->worker, q->parcel, outcome < 0 ? outcome : 0, key,
               outcome < 0 ? 0 : (size_t)outcome);
        explicit_bzero(key, sizeof(key));
    }
    pool_put(&s->keys.pool, q);
}

/* ---- questions ---- */

/* 0, or why it cannot be asked. */
static int ask(struct store *s, unsigned worker, struct parcel *parcel)
{
    struct keys *k = &s->keys;
    const size_t head = sizeof(struct store_head), length = parcel->length - head;
    struct question *q;

    if (length == 0 || length > STORE_IDENTITY_MAX)
        return -ENOENT;
    if (s->redis.state != REDIS_READY)
        return -ENOTCONN;
    q = pool_get(&k->pool);
    if (!q)
        return -ENOSPC;
    *q = (struct question){
        .parcel = parcel, .deadline_ms = s->now_ms + s->config->store.timeout_ms, .worker = worker};
    (void)parcel_read(parcel, (uint32_t)head, k->name + k->tag_length, length);
    if (!redis_command(&s->redis, got, q, 2, (const char *const[]){"GET", k->name},
                       (const size_t[]){strlen("GET"), k->tag_length + length})) {
        pool_put(&k->pool, q);
        return -ENOTCONN;
    }
    TAILQ_INSERT_TAIL(&k->waiting, q, link);
    return 0;
}

void keys_take(struct store *s, unsigned worker, struct parcel *parcel, bool full)
{
    int err = full ? -ENOSPC : ask(s, worker, parcel);

    if (err)
        refuse(s, worker, parcel, err);
}

void keys_advance(struct store *s)
{
    struct question *q;

    while ((q = TAILQ_FIRST(&s->keys.waiting)) != NULL && s->now_ms >= q->deadline_ms) {
        TAILQ_REMOVE(&s->keys.waiting, q, link);
        refuse(s, q->worker, q->parcel, -ETIMEDOUT);
        q->parcel = NULL;
    }
}

uint64_t keys_due_ms(const struct store *s)
{
    const struct question *q = TAILQ_FIRST(&s->keys.waiting);

    return q ? q->deadline_ms : UINT64_MAX;
}

/* ---- start and end ---- */

int keys_init(struct store *s)
{
    struct keys *k = &s->keys;
    int length;

    TAILQ_INIT(&k->waiting);
    length = asprintf(&k->name, "{%s}:psk:%*s", s->config->store.prefix, STORE_IDENTITY_MAX, "");
    if (length < 0) {
        k->name = NULL;
        return -ENOMEM;
    }
    k->tag_length = (size_t)length - STORE_IDENTITY_MAX;
    return pool_init(&k->pool, sizeof(struct question), KEYS_MAX);
}

void keys_fini(struct store *s)
{
    struct question *q;

    TAILQ_FOREACH (q, &s->keys.waiting, link)
        parcel_free(s->setup.parcels, q->parcel);
    free(s->keys.name);
    pool_fini(&s->keys.pool);
}
