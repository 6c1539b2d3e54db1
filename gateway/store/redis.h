/* One connection to Redis: found, made, logged in, watched, and made again when it is lost. hiredis
 * parses and formats; this file is its event loop.
 *
 *   waiting -> looking up -> connecting -> logging in -> ready
 *      ^                                                   |
 *      +------------------ lost, after a pause ------------+
 *
 * The pause is 100 ms and doubles up to 5 s, a quarter more or less at random; it starts from the
 * beginning after a connection that lasted. A connection on which nothing is heard for 5 s while an
 * answer is due is given up: who uses it sends something now and then.
 *
 * One thread. SIGPIPE has to be ignored. */
#ifndef COAPGW_GATEWAY_STORE_REDIS_H
#define COAPGW_GATEWAY_STORE_REDIS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <hiredis/async.h>

#include "config/config.h"
#include "gateway/random.h"
#include "gateway/store/lookup.h"

#define REDIS_SILENCE_MS 5000

/* Bytes that are waiting to be written: beyond this no more commands should be given. hiredis moves
 * what is left after each write, so the buffer must stay small. */
#define REDIS_OUTPUT_BYTES (4u << 20)

enum redis_state {
    REDIS_WAITING,
    REDIS_LOOKING_UP,
    REDIS_CONNECTING,
    REDIS_LOGGING_IN,
    REDIS_READY,
    REDIS_CLOSED, /* for good */
};

struct redis_setup {
    const struct config_store *config;
    void *context;
    void (*ready)(void *context);
    /* A connection, or an attempt to have one, has failed; redis.error says why. Callbacks of
     * commands without an answer are called with NULL before, or soon after. */
    void (*lost)(void *context);
};

struct redis {
    struct redis_setup setup;
    enum redis_state state;
    redisAsyncContext *ac; /* NULL unless connecting, logging in or ready */
    bool want_write, connected, broken;
    uint64_t now_ms, heard_ms, retry_at_ms, ready_at_ms;
    unsigned pause_ms;
    atomic_uint under_way; /* commands without an answer */
    struct lookup *lookup;
    struct lookup_result found;
    unsigned next_address; /* in `found` */
    struct random random;
    char where[160]; /* for messages: "127.0.0.1:6379" */
    char error[128]; /* why it is not ready; never with a password */
};

/* `config` must outlive it. Connects with the next redis_advance(). */
void redis_init(struct redis *r, const struct redis_setup *setup, uint64_t now_ms);
void redis_fini(struct redis *r);

/* Does what is due at this time. */
void redis_advance(struct redis *r, uint64_t now_ms);

/* When redis_advance() has something to do; UINT64_MAX for never. */
uint64_t redis_due_ms(const struct redis *r);

/* Writes what has been given, waits for an answer, `bell` or the time, and handles what has come.
 * True when the bell was rung: it is still to be read. */
bool redis_wait(struct redis *r, int bell, uint64_t timeout_us);

/* Gives a command; only between ready() and lost(), or from ready(). `fn` is called exactly once,
 * with NULL when there is no answer, and calls redis_answered() first. `argument` is given to it.
 * False: it is not connected; `fn` is not called. */
bool redis_command(struct redis *r, redisCallbackFn *fn, void *argument, int argc,
                   const char *const *argv, const size_t *lengths);

/* The same with words that are text. */
#define redis_say(r, fn, argument, ...) \
    redis_say_words(r, fn, argument, (const char *const[]){__VA_ARGS__, NULL})
bool redis_say_words(struct redis *r, redisCallbackFn *fn, void *argument,
                     const char *const *words);

/* The context of the setup. */
void *redis_answered(const redisAsyncContext *ac);

/* Bytes that are still to be written. */
size_t redis_output(const struct redis *r);

/* Gives the connection up and makes another one, or none. May be called in a callback. */
void redis_fail(struct redis *r, const char *why);
void redis_close(struct redis *r, const char *why);

/* The text of an answer that is an error or not what was expected. */
const char *redis_reply_text(const redisReply *reply);

#endif
