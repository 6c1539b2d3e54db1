/* The parts of the store: what its files share. Private to gateway/store.
 *
 *   store.c     life, the thread's loop, status
 *   write.c     records to Redis, and the answers
 *   service.c   what belongs to the service: owner, mark, secret; up and down
 *   resume.c    records from Redis
 *   keys.c      pre-shared keys from Redis
 *   redis.c     the connection      channel.c   rings      record.c   forms of records
 *
 * But for the rings and the atomics, all is the thread's own once it runs. */
#ifndef COAPGW_GATEWAY_STORE_STORE_PARTS_H
#define COAPGW_GATEWAY_STORE_STORE_PARTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "gateway/pool.h"
#include "gateway/store/channel.h"
#include "gateway/store/owners.h"
#include "gateway/store/record.h"
#include "gateway/store/redis.h"
#include "gateway/store/seen.h"
#include "gateway/store/store.h"

/* Records on their way to Redis. */
#define WRITES_MAX 65536

struct write;
TAILQ_HEAD(write_list, write);

struct writes {
    struct pool pool;          /* of struct write */
    struct write_list waiting; /* with a cookie and not answered, the oldest deadline first */
    struct write_list *owed;   /* by worker: to be answered when there is room */
    unsigned turn;             /* the worker that is served first */
    uint64_t late_ms;          /* when one was not confirmed in time; 0: never */
    uint8_t *bytes;            /* a parcel in one piece */
    size_t bytes_room;
    char *name; /* a key */
    size_t name_room;
};

struct question;
TAILQ_HEAD(question_list, question);

struct keys {
    struct pool pool;             /* of struct question */
    struct question_list waiting; /* not answered, the oldest deadline first */
    char *name;                   /* a key: the tag, and room for an identity */
    size_t tag_length;            /* of "{PREFIX}:psk:" */
    bool said;                    /* that a value was no key */
};

struct entry; /* a record that is being read back */
STAILQ_HEAD(entry_list, entry);

struct reading {
    bool on;
    enum store_what phase; /* resources first, then associations, then relations */
    bool scanning, scanned;
    unsigned generation; /* answers to an earlier reading's questions do not count */
    char cursor[24];
    struct entry_list names; /* that have been found and not asked for */
    unsigned names_count, flying;
    uint64_t pause_until_ms;
    uint64_t counts[STORE_WHAT_COUNT], foreign, rejected; /* of this reading */
    struct owners owners;                                 /* while it is on */
    bool renamed;
    uint64_t puts_before;
};

/* Observe numbers follow the wall clock: one for 2^14 microseconds, about 61 a second. */
#define NUMBER_CLOCK_SHIFT 14

/* A counter beyond this is none: the clock does not get there in a million years. */
#define MARK_MAX (UINT64_C(1) << 56)

struct service {
    char *tag; /* "{PREFIX:SERVICE}:", what all keys begin with */
    size_t tag_length;
    char *patterns[STORE_WHAT_COUNT]; /* for SCAN */
    char *owner_key, *counter_key, *secret_key;
    char identity[128]; /* in `owner`: the instance and a random number */
    char secret[33];    /* hexadecimal; "" when it is not known */
    bool claimed;       /* it has written itself into `owner` once */
    bool claiming;      /* the steps of a set-up are under way */
    bool asking;        /* whether it is the owner still */
    bool floor_known, mark_moving;
    unsigned round;       /* of set-ups: what was written before one does not count in it */
    uint64_t up;          /* the number of the STORE_UP that holds; 0: down */
    uint64_t ups;         /* how many there have been */
    uint64_t floor, mark; /* see STORE_MARK */
    struct store_past past;
    uint64_t asked; /* by workers */
    bool asked_anew;
    uint64_t next_mark;   /* what is being written */
    uint64_t look_at_ms;  /* when to look at owner and mark again */
    bool dirty;           /* records have not been written, or not been deleted */
    bool refused;         /* and that was said */
    bool writable;        /* the mark has been written since */
    uint64_t again_at_ms; /* when all is put again then */
    unsigned again_ms;
    char said[128]; /* why there is no connection, as it was said last */
    bool announce;  /* that there is one now */
};

struct counts {
    atomic_ullong puts, deletes, confirmed, failed, timeouts, read, rejected, foreign, connects;
    atomic_ullong keys_found, keys_unknown, keys_bad, keys_failed;
};

struct store {
    const struct config *config;
    struct store_setup setup;
    bool enabled;
    unsigned workers;
    struct channel *channels; /* by worker */
    struct redis redis;
    struct service service;
    struct writes writes;
    struct keys keys;
    struct reading reading;
    struct seen seen;
    uint64_t now_ms;       /* CLOCK_MONOTONIC */
    uint64_t nap_until_ms; /* work has come in a moment ago */
    uint64_t end_ms;       /* of the last writes; 0: it is not to stop */
    int bell;              /* an eventfd */
    pthread_t thread;
    bool running;
    atomic_bool stop, connected, owner, resumed;
    struct counts counts;
    pthread_mutex_t error_lock; /* of `error`, which other threads read */
    char error[128];
};

static inline void store_count(atomic_ullong *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- store.c ---- */

uint64_t store_clock_ms(void);

/* What status.error says; "" for nothing. */
void store_set_error(struct store *s, const char *text);

/* ---- write.c ---- */

int writes_init(struct store *s);
void writes_fini(struct store *s);

/* Takes from the rings what can be taken now. True when anything was. */
bool writes_take(struct store *s);

/* True when there is something in the rings that writes_take() would take. */
bool writes_are_there(const struct store *s);

/* Answers what has not been confirmed in time, and what is owed. */
void writes_advance(struct store *s);
uint64_t writes_due_ms(const struct store *s);

/* True while answers of a worker are waiting. */
bool writes_are_owed(const struct store *s, unsigned worker);
bool writes_are_flying(const struct store *s);

/* ---- service.c ---- */

int service_init(struct store *s);
void service_fini(struct store *s);

/* For struct redis_setup; the context is the store. */
void service_ready(void *context);
void service_lost(void *context);

/* How far the mark is ahead of the numbers in use. */
uint64_t service_numbers_ahead(const struct store *s);
/* Asks who the owner is, moves the mark on, puts all again when that is due. */
void service_advance(struct store *s);
uint64_t service_due_ms(const struct store *s);

/* Tells the workers what they do not know yet. True when all know all. */
bool service_tell(struct store *s);

/* A record has not been written: all is put again once that is possible. `why` is said, unless it
 * is NULL. */
void service_dirty(struct store *s, const char *why);

/* A parcel of one structure; NULL when the pool is empty. */
struct parcel *service_parcel(struct store *s, enum store_type type, const struct store_head *head);

/* The worker has been told that records can be kept. */
static inline bool service_is_up(const struct store *s, unsigned worker)
{
    return s->service.up && s->channels[worker].told_up == s->service.up;
}

/* ---- resume.c ---- */

void reading_init(struct store *s);
void reading_start(struct store *s);
void reading_stop(struct store *s);
void reading_advance(struct store *s);
uint64_t reading_due_ms(const struct store *s);

/* A worker puts this record: the relations of its association belong there. */
void reading_learn(struct store *s, unsigned worker, const struct record *record);

/* Renames a record that cannot be understood. `name` is the whole key. */
void reading_set_aside(struct store *s, const char *name, size_t length);

/* ---- keys.c ---- */

int keys_init(struct store *s);
void keys_fini(struct store *s);

/* Takes over a STORE_KEY_ASK, with a head. `full`: no more can be said to Redis now. */
void keys_take(struct store *s, unsigned worker, struct parcel *parcel, bool full);

/* Answers what Redis has not answered in time. */
void keys_advance(struct store *s);
uint64_t keys_due_ms(const struct store *s);

#endif
