/* Sessions: one for each flow that talks CoAP with us, client or origin, and the table that finds
 * them.
 *
 * The table is open addressing over slots of eight bytes, the hash of a flow and the index of its
 * session, which is stable while the session lives. The key is the flow in the session itself: with
 * millions of sessions a look-up costs two lines of memory that are not in the cache, one for the
 * slot and one for what is needed anyway. At least half of the slots are free, so that a search
 * ends soon; a removal moves up what came after it, so that none grows longer with time. The hash
 * is keyed: who does not know the key cannot choose flows that meet.
 *
 * One worker owns a table; no locking. */
#ifndef COAPGW_GATEWAY_SESSION_SESSION_H
#define COAPGW_GATEWAY_SESSION_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/net.h"
#include "gateway/pool.h"
#include "gateway/session/transmission.h"
#include "gateway/timer/wheel.h"

/* NSTART (RFC 7252 4.7): how many messages towards one peer are outstanding, and those that wait. A
 * client's session has its own; all sessions to one origin server share that of the server. */
struct gate {
    uint32_t head, tail; /* waiting outbound messages, oldest first */
    uint16_t outstanding, waiting;
    uint32_t ticks; /* of a client's session: when a message ID of ours was last taken */
};

/* What all sessions to one server share. */
struct gate_shared {
    struct gate gate;
    bool held;         /* nothing is let go: those who wait may go elsewhere */
    uint64_t heard_us; /* when something of the server's last matched something of ours */

    /* PROBING_RATE (RFC 7252 4.7): NON requests to a server that says nothing. */
    uint64_t unanswered_us; /* when the first one after the last sign of life was sent, 0: none */
    uint64_t probed_us;     /* when the last one was sent */
    uint32_t probed_bytes;  /* its length */
    struct timer probe;     /* armed: those who wait do so for the rate */

    uint64_t keepalive_us; /* caps what is between two transmissions of a CON; 0: no cap */
    const struct transmission *transmission;
};

enum session_role { SESSION_CLIENT, SESSION_UPSTREAM };

struct session {
    /* First line: what every packet reads and writes. */
    struct flow flow;
    uint64_t seen_us;  /* when something was last received, or an own request sent; the answer to
                          a ping of ours does not count */
    struct timer idle; /* looks at seen_us when it fires; not re-armed by packets */

    /* Second line: what only messages with state need. */
    const struct transmission *transmission;
    union {
        struct gate own;            /* SESSION_CLIENT */
        struct gate_shared *shared; /* SESSION_UPSTREAM: the server's */
    } gate;
    uint32_t mid_left_s[2]; /* when each half of the message ID space was last used up, 0: never */
    uint32_t outbound;      /* chain of confirmable messages, POOL_NONE when there is none */
    uint32_t exchanges;     /* chain of requests that are being worked on */
    uint32_t remembered;    /* chain of remembered message IDs */
    uint16_t remembered_count, remembered_unsafe;
    union {
        struct {                /* SESSION_CLIENT */
            uint32_t relations; /* chain of its observe relations */
            uint32_t transfers; /* chain of its block-wise transfers */
        } client;
        struct {             /* SESSION_UPSTREAM */
            uint32_t server; /* index */
            uint32_t users;  /* requests and observations that need it: it must not expire */
        } upstream;
    } side;
    uint16_t
        place; /* SESSION_CLIENT: index of the listener; SESSION_UPSTREAM: number of the port */
    uint16_t next_mid;
    uint16_t exchange_count; /* in the chain `exchanges` */
    uint8_t role;            /* enum session_role */
    bool open : 1;           /* false: the slot is free */
    bool proven : 1;         /* the peer receives what is sent to its address (RFC 9175 2.3) */
    bool pinged : 1;         /* a ping of ours waits for its answer */
    bool tuned : 1;          /* `transmission` is its own, see messaging_set_transmission() */
    bool closing : 1;        /* gone but for what ends silently or must not be done twice */
    bool unsecured : 1;      /* SESSION_UPSTREAM over DTLS: without an association, so that nothing
                                can be sent */
};
_Static_assert(sizeof(struct session) == 128, "two cache lines for each of millions");

/* What the message IDs of a gateway follow from, the same for all of its workers. */
struct mid_origin {
    uint64_t key;  /* secret, kept over restarts where that can be */
    uint64_t life; /* grows with each start; 0: nothing is known of those before */
};

/* The clock of message IDs, in IDs a second: half of them in a little more than EXCHANGE_LIFETIME,
 * so that a half has had its rest when the clock comes to it again, also for a session that follows
 * it some seconds behind. */
#define MID_RATE 128

/* How far beyond the clock a session may have been at the end of a life. */
#define MID_LEAD 512

struct session_slot {
    uint32_t hash;
    uint32_t place; /* index of the session + 1; 0: free, as fresh pages are */
};

struct session_table {
    struct session_slot *slots;
    struct session *sessions; /* by index */
    uint64_t key[4];          /* of the hash */
    uint32_t mask;            /* number of slots - 1 */
    bool changed;             /* a session was added since the caller last cleared this */
    uint32_t count, max;
    uint32_t fresh; /* indices from here on have never been used */
    uint32_t free;  /* chain of those that are free again, in mid_left_s[0]: index + 1, 0 ends it */
    uint32_t hand;  /* of the clock that looks for a session to evict */
    size_t slots_bytes, sessions_bytes;
};

/* Room for `max` sessions, from 1 on: their indices are below that. 0, or -ENOMEM. */
int session_table_init(struct session_table *table, uint32_t max, uint64_t seed);
void session_table_fini(struct session_table *table);

uint32_t session_hash(const struct session_table *table, const struct flow *flow);

/* NULL when there is none. */
struct session *session_find(const struct session_table *table, const struct flow *flow,
                             uint32_t hash);

/* Looks `n` flows up at once, and begins to fetch their sessions: found[i] is one with the same
 * hash. Whether the flow is its own is left to the caller, who gets to it when the session is there
 * and what came before in the burst has been handled. NULL: there is none. */
void session_find_burst(const struct session_table *table, const struct flow *const *flows,
                        uint32_t *hashes, unsigned n, struct session **found);

/* A new session, zeroed but for the flow, its chains and `open`; NULL when the table is at its
 * limit. The flow must have none. */
struct session *session_add(struct session_table *table, const struct flow *flow, uint32_t hash);

/* Takes it out of the table. Everything that hangs on it must be gone. */
void session_remove(struct session_table *table, struct session *session);

static inline uint32_t session_index(const struct session_table *table, const struct session *s)
{
    return (uint32_t)(s - table->sessions);
}

static inline struct session *session_at(const struct session_table *table, uint32_t index)
{
    return &table->sessions[index];
}

/* Nothing of ours waits for the peer, unless it is just a ping: that is no use of a session. */
static inline bool session_is_settled(const struct session *s)
{
    return s->outbound == POOL_NONE ||
           (s->pinged && s->gate.own.outstanding == 1 && s->gate.own.head == POOL_NONE);
}

/* Nothing waits for it or on it: it may expire when it has been silent for long. */
static inline bool session_is_unused(const struct session *s)
{
    if (!session_is_settled(s) || s->exchanges != POOL_NONE)
        return false;
    if (s->role == SESSION_UPSTREAM)
        return s->side.upstream.users == 0;
    return s->side.client.relations == POOL_NONE && s->side.client.transfers == POOL_NONE;
}

/* The same, and forgetting it now breaks no promise: it has no unsafe request that a duplicate
 * could repeat (RFC 7252 4.5). */
static inline bool session_is_evictable(const struct session *s)
{
    return s->open && (s->role == SESSION_CLIENT || s->side.upstream.server == POOL_NONE) &&
           s->remembered_unsafe == 0 && session_is_unused(s);
}

/* The longest idle evictable session of the next ones under the clock's hand, NULL when none of
 * them can go. Bounded work: an approximation of the least recently used, as exact order would cost
 * every packet a list operation. A session whose message IDs are still ahead of what
 * session_first_mid() gives now stays: it would use them again if it came back at once. */
struct session *session_victim(struct session_table *table, const struct mid_origin *origin,
                               uint64_t now_us);

/* The first message ID of a session: a keyed hash of the flow, moved on with the time at MID_RATE,
 * and by MID_LEAD with each life. A session that is forgotten and comes back begins ahead of the
 * IDs it used before, as long as it used fewer than the clock passes; over a restart it may have
 * used MID_LEAD more (RFC 7252 4.4). The circle is closed by 64 restarts within EXCHANGE_LIFETIME.
 */
uint16_t session_first_mid(const struct flow *flow, const struct mid_origin *origin,
                           uint64_t now_us);

/* Microseconds in units of 1.024 ms, which go around in 50 days. */
static inline uint32_t session_ticks(uint64_t now_us)
{
    return (uint32_t)(now_us >> 10);
}

/* How long ago a message ID of ours was taken, at most: rounded down. */
static inline uint64_t session_quiet_us(const struct session *s, uint64_t now_us)
{
    uint32_t ticks = session_ticks(now_us) - s->gate.own.ticks;

    return ticks ? (uint64_t)(ticks - 1) << 10 : 0;
}

/* For a session to a client, sometimes: lets its next message ID catch up with the clock, as far as
 * the IDs there have had their rest. One that sends seldom would otherwise stay behind until, after
 * a restart, the clock meets the IDs that it used last. */
void session_follow_clock(struct session *s, const struct mid_origin *origin, uint64_t now_us);

/* True when that has not been done for some seconds, as far as the session itself knows. */
static inline bool session_may_be_behind(const struct session *s, uint64_t now_us)
{
    return (session_ticks(now_us) ^ s->gate.own.ticks) >> 12 != 0;
}

/* The next message ID in `mid`. False when all have been used within EXCHANGE_LIFETIME, which the
 * session's own transmission parameters give: the space is counted in halves, and a half is entered
 * again only when its last use is that long ago. */
bool session_take_mid(struct session *s, uint64_t now_us, uint16_t *mid);

#endif
