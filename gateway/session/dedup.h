/* Deduplication (RFC 7252 4.2, 4.3, 4.5): the message IDs that a peer has used lately, each with
 * the answer that it got, so that a repeated message gets the same answer again without being
 * executed again.
 *
 * Memory is bounded three ways: entries, bytes of kept answers, and entries of one session. At a
 * limit, what protects a safe request (GET, FETCH) is given up, oldest first: a second execution
 * does no harm; but not before its peer has had the time to repeat it, so that when they come in
 * too fast for that, some of them are remembered long enough instead of all of them too short. What
 * protects an unsafe one is kept until its lifetime is over; when there is room
 * for no more, the caller refuses the new request instead of risking to run it twice.
 *
 * Entries expire in the order in which they were made, because each list has one lifetime. One
 * worker; no locking. */
#ifndef COAPGW_GATEWAY_SESSION_DEDUP_H
#define COAPGW_GATEWAY_SESSION_DEDUP_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/chunk.h"
#include "gateway/list.h"
#include "gateway/session/mid_index.h"
#include "gateway/session/session.h"

/* The most entries of one session. */
#define DEDUP_SESSION_MAX 4096

/* What a duplicate gets. */
enum dedup_state {
    DEDUP_PENDING,  /* nothing yet: the answer is on its way */
    DEDUP_ACKED,    /* an Empty ACK: the response comes or came separately */
    DEDUP_ANSWERED, /* the stored bytes; none stored: an ACK with the code alone */
    DEDUP_SILENT,   /* nothing: it was a NON */
    DEDUP_REJECTED, /* a RST: a response that was not understood */
};

enum dedup_list { DEDUP_CON_SAFE, DEDUP_CON_UNSAFE, DEDUP_NON_SAFE, DEDUP_NON_UNSAFE, DEDUP_LISTS };

struct dedup_entry {
    struct mid_key key;
    uint8_t state; /* enum dedup_state */
    uint8_t list;  /* enum dedup_list */
    uint8_t code;  /* of the answer */
    bool busy;     /* an exchange is under way: neither expires nor is evicted */
    uint16_t length;
    uint32_t chunk; /* the stored answer, CHUNK_NONE: none */
    uint64_t expires_us;
    struct links by_age, by_session;
};

struct dedup {
    struct pool pool;
    struct mid_index index;
    struct list lists[DEDUP_LISTS]; /* oldest first */
    uint64_t lifetime_us[DEDUP_LISTS];
    uint64_t young_us; /* a safe message is not forgotten earlier for another; 0: there is no such
                          time */
    struct chunks *chunks;
    const struct session_table *sessions;
};

/* Lifetimes in microseconds for CON and NON. 0 or a negative errno. */
int dedup_init(struct dedup *dedup, uint32_t entries, uint64_t con_us, uint64_t non_us,
               struct chunks *chunks, const struct session_table *sessions);
void dedup_fini(struct dedup *dedup);

/* The entry of a message that was seen before and has not expired, or NULL. */
struct dedup_entry *dedup_find(struct dedup *dedup, const struct session *session, uint16_t mid,
                               uint64_t now_us);

/* Remembers a message that dedup_find() does not know, in state DEDUP_SILENT for a NON and
 * DEDUP_PENDING for a CON. NULL when there is no room: only a safe message may be handled then. Of
 * safe ones that come faster than they can be remembered for dedup.young_us, only some are. */
struct dedup_entry *dedup_add(struct dedup *dedup, struct session *session, uint16_t mid,
                              bool confirmable, bool safe, uint64_t now_us);

/* Keeps the answer to a CON: `length` bytes, the whole message. Where they do not fit even after
 * giving up older safe ones, the code alone is kept of an unsafe one, and a safe one is forgotten
 * as soon as it is not busy. */
void dedup_store(struct dedup *dedup, struct dedup_entry *entry, uint8_t code, const void *answer,
                 uint16_t length);

/* Forgets all entries of a session that goes away. */
void dedup_forget(struct dedup *dedup, struct session *session);

/* Forgets what has expired, at most `budget` entries. Returns how many. */
unsigned dedup_expire(struct dedup *dedup, uint64_t now_us, unsigned budget);

/* When the next entry expires, UINT64_MAX: none. */
uint64_t dedup_next_us(const struct dedup *dedup);

/* Gives up the oldest stored safe answer to make room in the message memory. False when there is
 * none. */
bool dedup_yield(struct dedup *dedup);

static inline uint32_t dedup_index_of(const struct dedup *dedup, const struct dedup_entry *entry)
{
    return pool_index(&dedup->pool, entry);
}

static inline struct dedup_entry *dedup_at(const struct dedup *dedup, uint32_t index)
{
    return pool_at(&dedup->pool, index);
}

#endif
