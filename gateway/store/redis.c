#include "gateway/store/redis.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define PAUSE_FIRST_MS   100
#define PAUSE_LONGEST_MS 5000

/* A connection that has been ready for so long has been a good one. */
#define LASTING_MS 5000

/* How often an answer of the system's resolver is looked for. */
#define LOOKUP_MS 20

#define WORDS_MAX 8

static void set_error(struct redis *r, const char *text)
{
    snprintf(r->error, sizeof(r->error), "%s", text);
}

/* ---- hiredis' hooks ---- */

static void add_write(void *context)
{
    ((struct redis *)context)->want_write = true;
}

static void del_write(void *context)
{
    ((struct redis *)context)->want_write = false;
}

/* Answers are always read. */
static void no_hook(void *context)
{
    (void)context;
}

/* hiredis is still using the context: what is next is done when it has returned. When the status is
 * not OK, it frees it then. */
static void on_connect(const redisAsyncContext *ac, int status)
{
    struct redis *r = ac->data;

    if (ac != r->ac)
        return;
    r->heard_ms = r->now_ms;
    if (status == REDIS_OK) {
        r->connected = true;
        return;
    }
    set_error(r, ac->c.errstr);
    r->ac = NULL;
    r->broken = true;
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
    struct redis *r = ac->data;

    (void)status;
    if (ac != r->ac)
        return;
    set_error(r, ac->c.err ? ac->c.errstr : "closed");
    r->ac = NULL;
    r->broken = true;
}

static void attach(struct redis *r, redisAsyncContext *ac)
{
    ac->data = ac->ev.data = r;
    ac->ev.addRead = ac->ev.delRead = ac->ev.cleanup = no_hook;
    ac->ev.addWrite = add_write;
    ac->ev.delWrite = del_write;
    r->ac = ac;
    r->connected = r->broken = false;
    redisAsyncSetConnectCallback(ac, on_connect);
    redisAsyncSetDisconnectCallback(ac, on_disconnect);
    (void)fcntl(ac->c.fd, F_SETFD, FD_CLOEXEC);
}

/* In a callback hiredis frees the context later. It must not touch what comes after it. */
static void detach(struct redis *r)
{
    redisAsyncContext *ac = r->ac;

    if (!ac)
        return;
    r->ac = NULL;
    r->want_write = r->connected = false;
    ac->ev.addWrite = ac->ev.delWrite = no_hook;
    redisAsyncFree(ac);
}

/* ---- states ---- */

static void stop(struct redis *r, enum redis_state state, const char *why)
{
    char text[sizeof(r->error)]; /* `why` may be what is freed */

    snprintf(text, sizeof(text), "%s", why);
    detach(r);
    lookup_drop(r->lookup);
    r->lookup = NULL;
    r->broken = false;
    r->state = state;
    set_error(r, text);
}

void redis_fail(struct redis *r, const char *why)
{
    bool lasted = r->state == REDIS_READY && r->now_ms - r->ready_at_ms >= LASTING_MS;
    unsigned quarter;

    if (r->state == REDIS_CLOSED || r->state == REDIS_WAITING)
        return;
    stop(r, REDIS_WAITING, why);
    if (lasted || r->pause_ms == 0)
        r->pause_ms = PAUSE_FIRST_MS;
    quarter = r->pause_ms / 4;
    r->retry_at_ms = r->now_ms + r->pause_ms - quarter + random_below(&r->random, 2 * quarter);
    r->pause_ms = r->pause_ms * 2 < PAUSE_LONGEST_MS ? r->pause_ms * 2 : PAUSE_LONGEST_MS;
    r->setup.lost(r->setup.context);
}

void redis_close(struct redis *r, const char *why)
{
    stop(r, REDIS_CLOSED, why);
}

static redisAsyncContext *open_next(struct redis *r)
{
    const struct config_store *config = r->setup.config;

    if (config->kind == CONFIG_STORE_UNIX)
        return redisAsyncConnectUnix(config->path);
    return redisAsyncConnect(r->found.addresses[r->next_address], config->port);
}

/* The next address of the server; one that fails at once is passed over. */
static void connect_next(struct redis *r)
{
    r->state = REDIS_CONNECTING;
    for (; r->next_address < r->found.count; r->next_address++) {
        redisAsyncContext *ac = open_next(r);

        if (ac && !ac->err) {
            r->next_address++;
            r->heard_ms = r->now_ms;
            attach(r, ac);
            return;
        }
        set_error(r, ac ? ac->c.errstr : "out of memory");
        if (ac)
            redisAsyncFree(ac);
    }
    redis_fail(r, r->error);
}

/* Literals need no resolver. */
static void begin(struct redis *r)
{
    const struct config_store *config = r->setup.config;
    struct address literal;

    memset(&r->found, 0, sizeof(r->found));
    r->next_address = 0;
    if (config->kind == CONFIG_STORE_UNIX || address_parse(config->host, &literal) == 0) {
        r->found.count = 1;
        if (config->kind == CONFIG_STORE_TCP)
            snprintf(r->found.addresses[0], sizeof(r->found.addresses[0]), "%s", config->host);
        connect_next(r);
        return;
    }
    r->state = REDIS_LOOKING_UP;
    r->lookup = lookup_start(config->host);
    if (!r->lookup)
        redis_fail(r, strerror(errno));
}

static void look_up(struct redis *r)
{
    if (!lookup_take(r->lookup, &r->found))
        return;
    lookup_drop(r->lookup);
    r->lookup = NULL;
    if (r->found.count) {
        connect_next(r);
    } else {
        char why[sizeof(r->error)];

        snprintf(why, sizeof(why), "host name: %s", r->found.error);
        redis_fail(r, why);
    }
}

/* ---- logging in ---- */

static void become_ready(struct redis *r)
{
    r->state = REDIS_READY;
    r->ready_at_ms = r->now_ms;
    r->error[0] = 0;
    r->setup.ready(r->setup.context);
}

const char *redis_reply_text(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ERROR || reply->type == REDIS_REPLY_STATUS
               ? reply->str
               : "an answer of an unexpected type";
}

static bool is_ok(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "OK") == 0;
}

/* Where AUTH has been renamed, Redis quotes its arguments, perhaps not to their ends. */
static void refuse_login(struct redis *r, const redisReply *reply)
{
    const char *text = redis_reply_text(reply);

    redis_fail(r, strstr(text, "unknown command") ? "it knows no AUTH" : text);
}

static void selected(redisAsyncContext *ac, void *answer, void *argument)
{
    struct redis *r = ac->data;

    (void)argument;
    (void)redis_answered(ac);
    if (!answer || ac != r->ac)
        return;
    if (is_ok(answer))
        become_ready(r);
    else
        redis_fail(r, redis_reply_text(answer));
}

static void select_database(struct redis *r)
{
    char number[16];

    if (r->setup.config->database == 0) {
        become_ready(r);
        return;
    }
    snprintf(number, sizeof(number), "%u", r->setup.config->database);
    (void)redis_say(r, selected, NULL, "SELECT", number);
}

static void authenticated(redisAsyncContext *ac, void *answer, void *argument)
{
    struct redis *r = ac->data;

    (void)argument;
    (void)redis_answered(ac);
    if (!answer || ac != r->ac)
        return;
    if (is_ok(answer))
        select_database(r);
    else
        refuse_login(r, answer);
}

static void log_in(struct redis *r)
{
    const struct config_store *config = r->setup.config;

    r->state = REDIS_LOGGING_IN;
    if (!config->password)
        select_database(r);
    else if (config->username)
        (void)redis_say(r, authenticated, NULL, "AUTH", config->username, config->password);
    else
        (void)redis_say(r, authenticated, NULL, "AUTH", config->password);
}

/* ---- commands ---- */

bool redis_command(struct redis *r, redisCallbackFn *fn, void *argument, int argc,
                   const char *const *argv, const size_t *lengths)
{
    /* hiredis does not write to them. */
    if (!r->ac ||
        redisAsyncCommandArgv(r->ac, fn, argument, argc, (const char **)(uintptr_t)argv, lengths))
        return false;
    if (atomic_fetch_add_explicit(&r->under_way, 1, memory_order_relaxed) == 0)
        r->heard_ms = r->now_ms; /* silence begins to count */
    return true;
}

bool redis_say_words(struct redis *r, redisCallbackFn *fn, void *argument, const char *const *words)
{
    size_t lengths[WORDS_MAX];
    int count = 0;

    for (; count < WORDS_MAX && words[count]; count++)
        lengths[count] = strlen(words[count]);
    return redis_command(r, fn, argument, count, words, lengths);
}

void *redis_answered(const redisAsyncContext *ac)
{
    struct redis *r = ac->data;

    atomic_fetch_sub_explicit(&r->under_way, 1, memory_order_relaxed);
    r->heard_ms = r->now_ms;
    return r->setup.context;
}

size_t redis_output(const struct redis *r)
{
    return r->ac ? sdslen(r->ac->c.obuf) : 0;
}

/* ---- time ---- */

static bool is_listening(const struct redis *r)
{
    return r->state == REDIS_CONNECTING || r->state == REDIS_LOGGING_IN ||
           (r->state == REDIS_READY && atomic_load_explicit(&r->under_way, memory_order_relaxed));
}

void redis_advance(struct redis *r, uint64_t now_ms)
{
    r->now_ms = now_ms;
    if (r->state == REDIS_WAITING && now_ms >= r->retry_at_ms)
        begin(r);
    else if (r->state == REDIS_LOOKING_UP)
        look_up(r);
    else if (is_listening(r) && now_ms - r->heard_ms >= REDIS_SILENCE_MS)
        redis_fail(r, r->connected ? "no answer for 5 s" : "connecting takes longer than 5 s");
}

uint64_t redis_due_ms(const struct redis *r)
{
    if (r->state == REDIS_WAITING)
        return r->retry_at_ms;
    if (r->state == REDIS_LOOKING_UP)
        return r->now_ms + LOOKUP_MS;
    return is_listening(r) ? r->heard_ms + REDIS_SILENCE_MS : UINT64_MAX;
}

/* ---- input and output ---- */

/* What hiredis has found out while it was at work. */
static void see_changes(struct redis *r)
{
    if (r->broken) {
        r->broken = r->connected = r->want_write = false;
        if (r->state == REDIS_CONNECTING)
            connect_next(r);
        else
            redis_fail(r, r->error);
    } else if (r->connected && r->state == REDIS_CONNECTING) {
        log_in(r);
    }
}

static void handle(struct redis *r, short events)
{
    if (!r->connected) { /* hiredis takes any event for the end of the connecting */
        if (events)
            redisAsyncHandleWrite(r->ac);
        see_changes(r);
        return;
    }
    if (events & ~POLLOUT) {
        redisAsyncHandleRead(r->ac);
        see_changes(r);
    }
    if (r->ac && r->connected && r->want_write && events & POLLOUT) {
        redisAsyncHandleWrite(r->ac);
        see_changes(r);
    }
}

/* Without asking whether the socket has room: mostly it has. */
static void flush(struct redis *r)
{
    if (r->ac && r->connected && r->want_write) {
        redisAsyncHandleWrite(r->ac);
        see_changes(r);
    }
}

bool redis_wait(struct redis *r, int bell, uint64_t timeout_us)
{
    struct pollfd polled[2] = {{.fd = bell, .events = POLLIN}, {.fd = -1}};
    struct timespec timeout = {.tv_sec = (time_t)(timeout_us / 1000000),
                               .tv_nsec = (long)(timeout_us % 1000000 * 1000)};
    const enum redis_state before = r->state;
    const redisAsyncContext *ac;

    flush(r);
    if (r->state != before) /* there is something to be said about it */
        timeout = (struct timespec){0};
    ac = r->ac;
    if (ac) {
        polled[1].fd = ac->c.fd;
        polled[1].events = (short)((r->connected ? POLLIN : 0) | (r->want_write ? POLLOUT : 0));
    }
    if (ppoll(polled, 2, &timeout, NULL) <= 0)
        return false;
    if (ac && polled[1].revents)
        handle(r, polled[1].revents);
    return polled[0].revents != 0;
}

/* ---- start and end ---- */

static void describe(struct redis *r)
{
    const struct config_store *config = r->setup.config;

    if (config->kind == CONFIG_STORE_UNIX)
        snprintf(r->where, sizeof(r->where), "%s", config->path);
    else
        snprintf(r->where, sizeof(r->where),
                 strchr(config->host, ':') ? "[%.140s]:%u" : "%.140s:%u", config->host,
                 config->port);
}

void redis_init(struct redis *r, const struct redis_setup *setup, uint64_t now_ms)
{
    uint8_t seed[RANDOM_SEED_BYTES] = {0};

    memset(r, 0, sizeof(*r));
    r->setup = *setup;
    r->now_ms = r->retry_at_ms = now_ms;
    /* Only jitter depends on it. */
    (void)!getrandom(seed, sizeof(seed), GRND_NONBLOCK);
    random_seed(&r->random, seed);
    describe(r);
    set_error(r, "not connected yet");
}

void redis_fini(struct redis *r)
{
    redis_close(r, "closed");
}
