/* The parts of a struct security: what the files security*.c share, and nobody else. One worker's
 * thread; no locking. */
#ifndef COAPGW_GATEWAY_SECURITY_SECURITY_PARTS_H
#define COAPGW_GATEWAY_SECURITY_SECURITY_PARTS_H

#include "gateway/chunk.h"
#include "gateway/list.h"
#include "gateway/security/credentials.h"
#include "gateway/security/handshake.h"
#include "gateway/security/keep.h"
#include "gateway/security/security.h"

/* Datagrams of one handshake that wait for their turn. */
#define CONTACT_QUEUE 8

/* The longest datagram that is looked at: no MTU of ours is larger. */
#define SECURITY_DATAGRAM_MAX 2048

/* What the records of a burst held, until it is delivered. */
#define SECURITY_ARENA_BYTES (64u * 1024)

/* The last sequences that a key may have, which are left for alerts. */
#define SECURITY_ALERTS_LEFT 16

enum alert_level { ALERT_WARNING = 1, ALERT_FATAL = 2 };

enum alert { /* RFC 5246 7.2 */
             ALERT_CLOSE_NOTIFY = 0,
             ALERT_NO_RENEGOTIATION = 100,
};

/* A handshake, from the first datagram that is kept of it. When it is done it stays for a while
 * beside its association (it lingers): the peer may not have got our last messages, and they are
 * sent again then. */
struct contact {
    struct flow wire;
    uint8_t id[ASSOCIATION_ID_BYTES]; /* of the association that it will be */
    struct credentials *credentials;  /* that it was begun with: a reference */
    struct handshake *handshake;      /* NULL: not one of its datagrams has been worked on */
    uint64_t begun_us, heard_us;      /* the latter: of a client's: when something of it was seen */
    const char
        *server_name;  /* of ours to an origin, until it has begun; NULL: the configured one */
    uint64_t until_us; /* of ours to an origin: how long an answer is waited for */
    uint64_t name;     /* hash of the ClientHello's random: another one is another handshake */
    struct timer timer;
    struct links by_work, by_age;
    uint32_t association; /* POOL_NONE: not done */
    uint32_t serial;      /* with the index it names it where an answer comes later */
    uint16_t place;       /* index of the listener or upstream */
    uint8_t role;         /* enum association_role */
    uint8_t queued;
    bool working; /* it is in the list of those that have something to do */
    bool asking;  /* a key has been asked of the store: nothing goes on before the answer */
    struct {
        uint32_t chunk;
        uint16_t length;
    } queue[CONTACT_QUEUE]; /* oldest first */
};

/* Where an association waits for its record to be given to the store. */
enum keeping { KEEPING_NOT, KEEPING_NOW, KEEPING_LATER };

/* The associations' side of the store. */
struct keeper {
    struct keep *keep;      /* NULL: associations are not kept */
    uint32_t *serials;      /* by index: the generation of an association with a client; 0: none */
    struct list now, later; /* associations */
    struct timer again;     /* when the later ones are due */
    bool up, over;          /* the store is there; another gateway has all that it had */
    uint32_t sweep_at, sweep_end; /* indices: those that are put again, or left to the other one */
    uint8_t (*doomed)[ASSOCIATION_ID_BYTES]; /* whose records could not be deleted yet */
    unsigned doomed_count;
};

struct security {
    struct security_setup setup;
    uint64_t now;
    struct random random; /* of ids, which everybody may see: secrets are not drawn from it */
    struct aead *aead;
    struct credentials *credentials;
    struct handshakes *handshakes;
    struct associations associations;
    struct association *last;      /* that something was sent in; NULL: not known */
    struct association *receiving; /* whose records were looked at last; NULL: it has ended */

    struct pool contacts;
    struct places contacts_by_wire;
    struct list work;          /* contacts with datagrams to be worked on */
    struct list waiting;       /* those of clients that are not done, by when they were heard */
    struct list lingering;     /* those that are done, oldest first */
    uint32_t serial, *serials; /* the last one; of each contact by index, 0: it is not in use */
    struct chunks chunks;      /* their datagrams */

    struct keeper keeper;

    bool draining, farewell, farewell_to_all;
    uint32_t farewell_at; /* slot of the table of ids */

    bool has_origins;     /* there are upstreams with DTLS */
    uint64_t ports[1024]; /* bits of local ports that records may come to */

    struct datagram plain[WORKER_BURST];
    unsigned plain_count;
    size_t arena_used;
    uint8_t arena[SECURITY_ARENA_BYTES];
    uint8_t datagram[SECURITY_DATAGRAM_MAX]; /* of a handshake, while it is worked on */
};

static inline bool security_port_is_ours(const struct security *s, uint16_t port)
{
    return s->ports[port / 64] >> (port % 64) & 1;
}

static inline struct contact *contact_at(const struct security *s, uint32_t index)
{
    return pool_at(&s->contacts, index);
}

/* ---- security.c ---- */

/* The listener with DTLS that a datagram came to, or -1. */
int security_listener_of(const struct security *s, const struct flow *wire);

/* The largest datagram to a wire flow. */
uint16_t security_wire_room(const struct security *s, const struct flow *wire);

/* The association of a session's flow; NULL. */
struct association *security_lookup(struct security *s, const struct flow *session);

/* ---- security_receive.c ---- */

/* One datagram. What it holds is collected. */
void security_receive_datagram(struct security *s, const struct datagram *d, uint32_t hash);
/* The same for one that has waited, or for the rest of one. */
void security_receive_own(struct security *s, const struct flow *wire, const uint8_t *data,
                          size_t length);
/* Delivers what has been collected. */
void security_flush(struct security *s);

/* ---- security_send.c ---- */

/* Sends bytes as they are. False when there is no buffer for them. */
bool security_send_raw(struct security *s, const struct flow *wire, const uint8_t *bytes,
                       size_t length);
void security_send_alert(struct security *s, struct association *a, enum alert_level level,
                         enum alert alert);

/* ---- security_life.c ---- */

/* A new one, at the cost of another one if need be. NULL: there is no room. */
struct association *security_make(struct security *s, const struct flow *wire,
                                  const uint8_t id[ASSOCIATION_ID_BYTES]);

/* It goes, and `*counter` says why. With `notify` the peer is told. */
void security_end(struct security *s, struct association *a, bool notify, uint64_t *counter);

/* Those that a new association from the same address takes the place of (RFC 6347 4.2.8). */
void security_replace(struct security *s, const struct association *fresh);

/* How far its sequences go when nothing else limits them. */
uint64_t security_last_sequence(const struct association *a);

void security_on_idle(void *context, struct timer *timer, uint64_t now_us);
/* Tells some of the peers that this is the end. Returns how many. */
unsigned security_say_farewell(struct security *s);

/* ---- security_contact.c ---- */

int security_contacts_init(struct security *s);
void security_contacts_fini(struct security *s);

/* NULL when all are in use, and none of them is done, or silent for long. */
struct contact *security_contact_make(struct security *s, const struct flow *wire, uint16_t place,
                                      enum association_role role);

/* NULL: there is none. */
struct contact *security_contact_of(const struct security *s, const struct flow *wire,
                                    uint32_t hash);
/* Lets a datagram wait for its turn. */
void security_queue(struct security *s, struct contact *c, const uint8_t *data, size_t length);
void security_contact_end(struct security *s, struct contact *c);
/* Something of it is seen. */
void security_contact_heard(struct security *s, struct contact *c);
/* It is done: it lingers. */
void security_contact_done(struct security *s, struct contact *c, uint32_t association);
/* The oldest datagram that waits, into s->datagram. Its length. */
uint16_t security_unqueue(struct security *s, struct contact *c);
/* Takes it out of the list of those that have something to do. */
void security_contact_rest(struct security *s, struct contact *c);

/* ---- security_handshake.c ---- */

/* A datagram that begins with a record of epoch 0: true when it was a ClientHello, which is dealt
 * with then. */
bool security_receive_hello(struct security *s, const struct datagram *d, uint32_t hash);
unsigned security_work(struct security *s);
/* Makes its OpenSSL side. 0 or a negative errno. */
int security_begin(struct security *s, struct contact *c);
/* What the last call made of it. It may be gone after this. */
void security_settle(struct security *s, struct contact *c, enum handshake_state state);
/* Nothing comes of it. `why`, where the handshake itself does not say it. */
void security_fail(struct security *s, struct contact *c, int error, const char *why);
/* The answer to a question for a pre-shared key. */
void security_take_key(struct security *s, uint64_t cookie, int error, const uint8_t *key,
                       size_t length);
void security_on_handshake(void *context, struct timer *timer, uint64_t now_us);

/* ---- security_connect.c ---- */

/* A handshake with an origin ends, and nobody hears of it. */
void security_disconnect(struct security *s, const struct flow *session);
void security_tell_failure(struct security *s, const struct flow *wire, int error, const char *why);

/* ---- security_store.c ---- */

/* Asks the store for the key that a handshake needs. False: it cannot be asked now. */
bool security_ask_key(struct security *s, const struct contact *c);

/* ---- security_keep.c ---- */

int security_keep_init(struct security *s);
void security_keep_fini(struct security *s);

/* A handshake has ended well. */
void security_keep_begin(struct security *s, struct association *a);
/* It has moved. */
void security_keep_changed(struct security *s, struct association *a);
/* It ends. */
void security_keep_end(struct security *s, struct association *a);
/* Half of what it may use is used up, or all. */
void security_keep_due(struct security *s, struct association *a);
/* It has had to wait so long for the store that it ends. */
bool security_keep_is_stalled(const struct security *s, const struct association *a);

/* Gives records to the store. Returns how many. */
unsigned security_keep_work(struct security *s);
bool security_keep_has_work(const struct security *s);
void security_on_keep(void *context, struct timer *timer, uint64_t now_us);

/* True when the parcel was about associations alone. */
bool security_keep_told(struct security *s, const struct parcel *parcel);

#endif
