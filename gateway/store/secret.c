/* The service's secret, read or made before the workers are, and how far time and numbers had come
 * before the start: with a connection of its own, by the main thread. */
#include <errno.h>
#include <inttypes.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "gateway/store/store_parts.h"

/* On top of the configured timeout. */
#define GRACE_MS 100

#define DIGITS 32

/* The stored time may be so old: it is written each second. */
#define CLOCK_SLACK_US UINT64_C(1100000)

/* Later times are no times: the year 2500. */
#define CLOCK_MAX_US UINT64_C(16725225600000000)

/* Beyond this it is not the number of starts: Redis counts no further than 2^63. */
#define LIVES_MAX (UINT64_C(1) << 56)

struct task {
    struct redis redis;
    const char *key, *counter_key;
    struct store_past past;
    uint64_t ahead; /* of the numbers in use is the mark */
    bool counted;   /* Redis has counted this start itself */
    char digits[DIGITS + 1];
    char refused[96]; /* why it was not written; "" */
    bool done;
};

static bool is_secret(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING && reply->len == DIGITS &&
           strspn(reply->str, "0123456789abcdef") == DIGITS;
}

/* Where there is one already, that does not matter: GET says what counts. */
static void made(redisAsyncContext *ac, void *answer, void *argument)
{
    struct task *t = redis_answered(ac);
    const redisReply *reply = answer;

    (void)argument;
    if (reply && reply->type == REDIS_REPLY_ERROR)
        snprintf(t->refused, sizeof(t->refused), "%s", reply->str);
}

static uint64_t number_in(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING ? strtoull(reply->str, NULL, 10) : 0;
}

static void written(redisAsyncContext *ac, void *answer, void *argument)
{
    struct task *t = redis_answered(ac);

    (void)argument;
    t->done = answer != NULL;
}

/* When this start begins, and how far its first numbers may go: one that follows before the first
 * second is over must not begin with the same. */
static void write_start(struct task *t)
{
    struct timespec now;
    uint64_t us, mark;
    char clock[24], observe[24], lives[24];

    clock_gettime(CLOCK_REALTIME, &now);
    us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    if (us < t->past.clock_us)
        us = t->past.clock_us;
    mark = us >> NUMBER_CLOCK_SHIFT;
    if (mark < t->past.floor)
        mark = t->past.floor;
    snprintf(clock, sizeof(clock), "%" PRIu64, us);
    snprintf(observe, sizeof(observe), "%" PRIu64, mark + t->ahead);
    snprintf(lives, sizeof(lives), "%" PRIu64, t->past.life);
    (void)redis_say(&t->redis, written, NULL, "HSET", t->counter_key, "clock", clock, "observe",
                    observe, t->counted ? NULL : "lives", lives, NULL);
}

/* Each start gets a number of its own, two that come at once, too. What is no number cannot be
 * counted up: it is replaced by one. */
static void counted(redisAsyncContext *ac, void *answer, void *argument)
{
    struct task *t = redis_answered(ac);
    const redisReply *reply = answer;

    (void)argument;
    t->counted = reply && reply->type == REDIS_REPLY_INTEGER && reply->integer > 0;
    if (t->counted)
        t->past.life = (uint64_t)reply->integer;
}

/* What is no number is as good as none. */
static void recalled(redisAsyncContext *ac, void *answer, void *argument)
{
    struct task *t = redis_answered(ac);
    const redisReply *reply = answer;

    (void)argument;
    if (!reply)
        return;
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3) {
        t->past.floor = number_in(reply->element[0]);
        t->past.clock_us = number_in(reply->element[1]);
        if (!t->counted)
            t->past.life = number_in(reply->element[2]) % LIVES_MAX + 1;
    }
    if (t->past.floor > MARK_MAX)
        t->past.floor = 0;
    if (t->past.clock_us > CLOCK_MAX_US)
        t->past.clock_us = 0;
    if (t->past.clock_us)
        t->past.clock_us += CLOCK_SLACK_US;
    write_start(t);
}

static void got(redisAsyncContext *ac, void *answer, void *argument)
{
    struct task *t = redis_answered(ac);
    const redisReply *reply = answer;

    (void)argument;
    if (!reply)
        return;
    if (is_secret(reply)) {
        memcpy(t->digits, reply->str, DIGITS);
        (void)redis_say(&t->redis, counted, NULL, "HINCRBY", t->counter_key, "lives", "1", NULL);
        (void)redis_say(&t->redis, recalled, NULL, "HMGET", t->counter_key, "observe", "clock",
                        "lives", NULL);
    } else {
        redis_fail(&t->redis,
                   reply->type == REDIS_REPLY_STRING ? "it is damaged" : redis_reply_text(reply));
    }
}

static void ask(void *context)
{
    struct task *t = context;

    (void)redis_say(&t->redis, made, NULL, "SET", t->key, t->digits, "NX");
    (void)redis_say(&t->redis, got, NULL, "GET", t->key);
}

static void lost(void *context)
{
    (void)context; /* it is tried again until there is no time left */
}

static void run(struct task *t, uint64_t deadline_ms)
{
    uint64_t now = store_clock_ms();

    while (!t->done && now < deadline_ms) {
        uint64_t due;

        redis_advance(&t->redis, now);
        due = redis_due_ms(&t->redis);
        if (due > deadline_ms)
            due = deadline_ms;
        (void)redis_wait(&t->redis, -1, due > now ? (due - now) * 1000 : 0);
        now = store_clock_ms();
    }
}

static void to_hex(char digits[DIGITS + 1], const uint8_t secret[16])
{
    for (unsigned i = 0; i < 16; i++)
        sprintf(digits + (size_t)2 * i, "%02x", secret[i]);
}

static void from_hex(uint8_t secret[16], const char *digits)
{
    for (unsigned i = 0; i < 16; i++) {
        unsigned byte = 0;

        (void)sscanf(digits + (size_t)2 * i, "%2x", &byte);
        secret[i] = (uint8_t)byte;
    }
}

int store_secret(struct store *s, uint8_t secret[16])
{
    struct task t = {.done = false};
    const struct redis_setup setup = {&s->config->store, &t, ask, lost};

    if (getrandom(secret, 16, 0) != 16)
        return -EIO;
    if (!s->enabled)
        return 0;
    t.key = s->service.secret_key;
    t.counter_key = s->service.counter_key;
    t.ahead = service_numbers_ahead(s);
    to_hex(t.digits, secret);
    redis_init(&t.redis, &setup, store_clock_ms());
    run(&t, store_clock_ms() + s->config->store.timeout_ms + GRACE_MS);
    if (t.done) {
        from_hex(secret, t.digits);
        s->service.past = t.past;
        s->service.floor = t.past.floor;
        s->service.floor_known = true;
    } else {
        fprintf(stderr,
                "coapgw: store: no secret from %s: %s; a random one is used: for some minutes "
                "clients may take messages for ones of before the start\n",
                t.redis.where, t.redis.error[0] ? t.redis.error : "no answer in time");
    }
    to_hex(s->service.secret, secret);
    redis_fini(&t.redis);
    return 0;
}

struct store_past store_past(const struct store *s)
{
    return s->service.past;
}
