/* Devices over DTLS (RFC 6347, RFC 9146), which move, begin anew, fall silent and come back; an
 * attacker who has seen all that they sent; limits that are reached; a gateway that is killed and
 * started again, with a store or without.
 *
 *   dtls.c          the world, its phases, the gateway and its store
 *   dtls_device.c   devices: an association each (tests/dtls), and CoAP above it
 *   dtls_judge.c    every record that the gateway sends, and what became of those that it got
 *   dtls_record.c   records as their devices read them
 *   dtls_attack.c   what somebody sends who has no key
 *
 * OpenSSL draws its random numbers from a generator that follows from the seed, as all else does.
 * Only tickets hold the machine's time of day; nothing here looks into them. */
#ifndef COAPGW_TESTS_SIM_DTLS_H
#define COAPGW_TESTS_SIM_DTLS_H

#include "tests/dtls/peer.h"
#include "tests/sim/dtls_record.h"
#include "tests/sim/fleet.h"

#define THINGS_MAX  14
#define ASKED_MAX   30000
#define TRACKS_MAX  4096
#define SIGHTS_MAX  512 /* datagrams that the attacker remembers */
#define SIGHT_BYTES 400
#define COAPS_PORT  5684
#define THING_PORT  40000 /* and up, by index */
#define OWN_CID_MAX PEER_OWN_CID_MAX
#define CALLS       2 /* requests of one device at a time */

enum key_kind { KEY_FILE, KEY_STORE, KEY_UNKNOWN, KEY_WRONG };

struct thing;

/* An association as its device knows it. It is remembered when the device is through with it. */
struct track {
    struct thing *thing;
    struct peer keys;                     /* the copy of one that reads: no handshake hangs on it */
    uint8_t cid_length, cid[OWN_CID_MAX]; /* that the gateway's records carry */
    uint64_t *used;                       /* nonces of the gateway's records, over all lives */
    unsigned used_count, used_room;
    uint64_t top;     /* of these */
    bool heard;       /* a record of the device's has been opened in this life: */
    uint64_t newest;  /* the newest one, */
    struct flow from; /* and where it came from */
};

/* A datagram of a device's. */
struct sight {
    struct flow flow;
    struct track *track; /* NULL: not under the keys of epoch 1 */
    uint64_t sequence;
    uint16_t length; /* 0: nothing here */
    bool hello;
    unsigned opened; /* the life in which it was opened; 0: in none */
    uint8_t bytes[SIGHT_BYTES];
};

struct call {
    struct caller caller;
    struct thing *thing;
    uint8_t payload[32];
    unsigned id, life; /* of the gateway, when it was asked */
};

struct thing {
    struct device device;
    struct call calls[CALLS];
    struct caller watcher; /* observes another one's value */
    unsigned index, target;
    enum key_kind kind;
    char identity[16];
    uint8_t key[16];
    struct flow wire;
    struct peer peer;
    bool has_peer;
    struct peer_setup setup;
    struct track *track;
    uint16_t fragment_bytes;
    uint64_t timer; /* of the peer; an older one is void */
    struct peer_session session;
    uint8_t ticket[2048];
    uint32_t version, seen_version; /* own value; the target's */
    unsigned served, failures;
    uint64_t silent_until;
};

/* What each request became. */
struct asked {
    uint8_t thing, method;
    uint8_t life;     /* in which it was executed last */
    uint8_t executed; /* times */
    bool underway;    /* the life before may have sent it: it was on its way to the server */
};

struct dtls_world {
    struct fleet fleet; /* the first member */
    struct vault vault;
    struct node server;
    struct thing things[THINGS_MAX];
    unsigned thing_count;
    struct asked asked[ASKED_MAX];
    unsigned asked_count;
    struct track *tracks[TRACKS_MAX];
    unsigned track_count;
    struct sight sights[SIGHTS_MAX];
    unsigned sight_at;
    struct flow abandoned[64];
    unsigned abandoned_count, addresses;
    struct peer_crypto *crypto;
    unsigned workers, associations, handshakes, idle_s, memory_kib, budget;
    unsigned lives_left, pause_us;
    bool stored, kept, store_keys, cids, tickets; /* of the configuration */
    bool calm, leaving, storming;
    unsigned arriving; /* length of what is being received, */
    struct flow arriving_from;
    struct sight *arriving_sight; /* which a device has sent; NULL: none has */
    uint64_t records_before;
    uint64_t started_us; /* when the present life began */
    int psk_fd, keep_fd;
    uint64_t secret;
};

static inline struct dtls_world *dtls_world_of(struct stage *s)
{
    return (struct dtls_world *)s;
}

static inline struct stage *dtls_stage(struct dtls_world *w)
{
    return &w->fleet.stage;
}

/* ---- dtls_device.c ---- */

void thing_init(struct dtls_world *w, unsigned index);
void thing_free(struct thing *t);
/* A datagram to where it is. */
void thing_receive(struct thing *t, const uint8_t *data, size_t length);
/* The key of an identity, when it is one that the store has. */
size_t thing_stored_key(const uint8_t *identity, size_t length, uint8_t *key);
void thing_key(unsigned index, uint8_t key[16]);
/* So many pings of a device that has an association, one after the other, in no time. */
void thing_storm(struct thing *t, unsigned count);
bool thing_is_honest(const struct thing *t);
bool thing_may_know(const struct thing *t); /* what only some clients are allowed to read */

/* ---- dtls_judge.c ---- */

void judge_track(struct dtls_world *w, struct thing *t);
void judge_sent(struct dtls_world *w, struct thing *t, const uint8_t *data, size_t length);
void judge_emitted(struct stage *s, unsigned worker, const struct flow *flow, const uint8_t *data,
                   size_t length);
void judge_delivered(struct stage *s, unsigned worker, const struct flow *flow, const uint8_t *data,
                     size_t length, bool icmp);
void judge_consumed(struct stage *s, unsigned worker, const struct flow *flow, const uint8_t *data,
                    size_t length);
void judge_born(struct dtls_world *w);
void judge_limits(struct dtls_world *w);
/* A request has come to the server. */
void judge_executed(struct dtls_world *w, unsigned id, uint8_t method, const char *query);
void judge_free(struct dtls_world *w);

/* ---- dtls_attack.c ---- */

void attack_begin(struct dtls_world *w);

#endif
