/* The store between the workers of a gateway, played: what gateway/store/store.h says of it, with a
 * Redis that is slow, stops, refuses, goes away and loses its data.
 *
 * Redis outlives the process. Commands reach it in order; those that are under way when the
 * connection or the process ends are carried out up to any one of them.
 *
 * One thread; all memory is the vault's. */
#ifndef COAPGW_TESTS_SIM_VAULT_H
#define COAPGW_TESTS_SIM_VAULT_H

#include "gateway/store/store.h"
#include "tests/sim/stage.h"

#define VAULT_KEY_MAX 160

/* What names a record: the ends of a relation and its token, the name of a resource, or the id of
 * an association. */
struct vault_key {
    uint8_t what; /* enum store_what */
    uint8_t bytes[VAULT_KEY_MAX];
    uint32_t length;
};

struct vault_record {
    struct vault_record *next;
    struct vault_key key;
    uint32_t length;
    uint8_t *bytes; /* as behind the head of a parcel */
};

struct vault_command;
struct vault_note;
struct vault_order;

struct vault {
    struct stage *stage;

    /* Redis. */
    struct vault_record *records;
    uint64_t redis_mark;  /* 0: none */
    uint64_t redis_clock; /* the workers' time, a look ago */
    uint64_t redis_lives; /* starts so far */
    bool away;            /* it cannot be reached */
    bool failing;         /* it refuses to write */
    uint64_t stalled_until;
    uint64_t lost_at; /* when it lost its data; 0: never */

    /* The process's side. */
    bool running;
    unsigned connection; /* counts attempts; what belongs to an older one is void */
    bool connected;
    uint64_t up, ups; /* as in the store: the STORE_UP that holds, and how many there were */
    uint64_t told_up[WORKERS_MAX];
    uint64_t up_at;      /* since when it has been up */
    uint64_t resumed_at; /* when the workers were told that all has been read back */
    uint64_t trouble_at; /* when something was last refused, late or lost */
    bool floor_known, resumed, mark_moving, dirty, reading;
    uint64_t floor, mark, next_mark, asked, life;
    uint64_t again_at;
    bool marked; /* what asks for the mark to be moved has been heard, and it was moved */
    struct vault_command *first, **last;
    struct vault_order *orders[WORKERS_MAX], **orders_last[WORKERS_MAX];
    unsigned order_count[WORKERS_MAX];
    uint64_t order_at[WORKERS_MAX];
    struct vault_note *notes[WORKERS_MAX], **notes_last[WORKERS_MAX];
    bool flushing[WORKERS_MAX];
    uint64_t *seen; /* hashes of keys */
    unsigned seen_count, seen_room;
    struct vault_key *names; /* that are being read back */
    unsigned name_count, name_at;

    /* How it behaves; drawn by vault_init(), and changed as one likes. */
    uint32_t link_us;   /* to Redis and back, at the most */
    uint32_t read_us;   /* from one record to the next that is read back, at the most */
    unsigned ring_size; /* to the store */
    bool deaf;          /* takes no parcel */
    /* The pre-shared key of an identity: its length, 0: there is none. NULL: of nobody. */
    size_t (*key)(const uint8_t *identity, size_t length, uint8_t key[STORE_KEY_MAX]);
    bool lossy_marks; /* for a check of the judges: the mark is never told */
};

void vault_init(struct vault *v, struct stage *s);
void vault_free(struct vault *v);

/* Before the workers are made: what their clock must not be behind; 0: nothing is known of it. */
uint64_t vault_clock(const struct vault *v);
/* The same for their numbers: the mark that is found, which is moved on at once. */
uint64_t vault_floor(struct vault *v);

/* The number of this start; 0: not known, and the secret neither. `own`: no other start has had it.
 */
uint64_t vault_life(struct vault *v, bool *own);

/* The gateway's configuration has been loaded, and its workers made: connects. */
void vault_start(struct vault *v);
/* The process dies. Before stage_kill(). */
void vault_kill(struct vault *v);
/* It ends in order: what is in the rings is written, if Redis answers. Before stage_kill(). */
void vault_stop(struct vault *v);

/* For the cast. */
bool vault_told(struct vault *v, unsigned worker, struct parcel *parcel);
unsigned vault_room(const struct vault *v, unsigned worker);

/* ---- what happens to Redis ---- */

void vault_go_away(struct vault *v);
void vault_come_back(struct vault *v);
/* Answers nothing for so long. */
void vault_stall(struct vault *v, uint64_t us);
void vault_lose(struct vault *v);
/* The connection breaks, and is made again. */
void vault_cut(struct vault *v);

/* ---- what can be seen of it ---- */

/* The key of a relation. */
struct vault_key vault_relation_key(const struct stage *s, const struct flow *flow,
                                    const uint8_t *token, uint32_t token_length);
const struct vault_record *vault_find(const struct vault *v, const struct vault_key *key);
unsigned vault_count(const struct vault *v);

unsigned vault_count_what(const struct vault *v, enum store_what what);

/* True when it has taken and kept everything since `at`. */
bool vault_is_steady(const struct vault *v, uint64_t at);

#endif
