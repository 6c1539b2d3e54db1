/* The store: what survives a restart. One thread of the control side owns the connection to Redis;
 * workers write through it and never wait.
 *
 *   worker -- STORE_PUT, STORE_DELETE --> ring --> thread --> Redis
 *   worker <-- STORE_DONE, STORE_RECORD, ... <-- ring <-- thread
 *
 * What is kept are records: observe relations, gateway-held resources and associations of DTLS. The
 * worker that owns a relation, an association or the resource has the truth; Redis has a copy that
 * is brought up to date at once. So
 * an outage needs no backlog: while Redis is away nothing is kept for it, and when it is back every
 * worker puts all it has again (STORE_UP), and is asked about each record that Redis still has
 * (STORE_RECORD with `verify`), so that what was deleted meanwhile goes there, too. Memory is
 * bounded by the workers' own limits.
 *
 * Keys (readable with redis-cli; {...} is a hash tag, so that they lie in one slot of a cluster):
 *
 *   {PREFIX:SERVICE}:observe:LISTEN|PEER|TOKEN   hash: v listen peer transport packet created check
 *   {PREFIX:SERVICE}:resource:NAME               hash: v format etag payload version check
 *   {PREFIX:SERVICE}:association:ID              hash: v listen peer cid sealed check
 *   {PREFIX:SERVICE}:counter                     hash: observe (see STORE_MARK),
 *                                                clock (the workers' time, each second),
 *                                                lives (starts so far)
 *   {PREFIX:SERVICE}:secret                      string: 32 hexadecimal digits
 *   {PREFIX:SERVICE}:owner                       string: who writes, see below
 *   {PREFIX:SERVICE}:rejected:...                records that could not be understood, renamed
 *   {PREFIX}:psk:IDENTITY                        string: a pre-shared key, hexadecimal; only read
 *
 * LISTEN and PEER are ADDRESS:PORT, TOKEN and ID are hexadecimal; the PEER of a relation over DTLS
 * is dtls-ID. IDENTITY is the identity byte by byte. A gateway that starts writes itself into
 * `owner`; one that finds another one there stops writing: the newest owns the service address.
 *
 * What a worker may rely on, of what is said to it:
 * - At first the store is down. Before each STORE_UP comes a STORE_MARK, unless it has not changed;
 *   before each STORE_UP but the first comes a STORE_DOWN.
 * - Each STORE_PUT with a cookie is answered with one STORE_DONE; while the store is down with
 *   -ENOTCONN at once. One with 0 that comes after a STORE_UP is about a record that was written
 *   since. Answers come in no certain order.
 * - Commands of one worker reach Redis in the order in which they were given. A STORE_DELETE that
 *   is given while the store is down is dropped: see `verify`.
 * - What is refused with another error than -ENOTCONN may be put again by the worker, and need not:
 *   STORE_DOWN and STORE_UP follow, once Redis writes again. The same for a STORE_DELETE.
 * - STORE_RECORD come after STORE_UP, a resource to every worker, all resources before the first
 *   association and all of those before the first relation; the same one may come twice. After each
 *   STORE_UP all records are read. STORE_RESUMED comes once, behind the last record of the first
 *   reading that was complete. Until then `verify` is set for what this process has put, deleted or
 *   been given already, afterwards for all.
 * - An association whose records carry our Connection ID goes to the worker that its first byte
 *   names, modulo the number of workers; any other one to the worker that owns the flow from its
 *   peer. A relation over DTLS goes to the worker that its association went to, or was put by,
 *   since the last STORE_UP. Where there was none, that is the worker that the first byte of the ID
 *   names: it has no such association, and answers with STORE_DELETE.
 * - Each STORE_KEY_ASK is answered with one STORE_KEY, also while the store is down, within the
 *   timeout of the configuration; one that finds the ring full of records may take that twice.
 *
 * Parcels of kind PARCEL_RECORD begin with one of the structures below, in memory layout. */
#ifndef COAPGW_GATEWAY_STORE_STORE_H
#define COAPGW_GATEWAY_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "config/config.h"
#include "gateway/net.h"
#include "gateway/parcel.h"

enum store_type {
    /* Worker to store. */
    STORE_PUT,      /* struct store_head and a record. Answered with STORE_DONE when cookie != 0 */
    STORE_DELETE,   /* the same; of the record only what names it counts: of a relation's packet
                       the header and the token. No answer */
    STORE_REJECT,   /* the same as STORE_DELETE for an association that was given and cannot be
                       unsealed: its record is renamed */
    STORE_MARK_ASK, /* struct store_head: numbers near the mark are in use: it is to be moved on */
    STORE_KEY_ASK,  /* struct store_head with a cookie, and an identity of 1 to STORE_IDENTITY_MAX
                       bytes: its pre-shared key is wanted */
    /* Store to worker. */
    STORE_DONE,    /* struct store_head: the record with this cookie is kept, or why not */
    STORE_RECORD,  /* struct store_head and a record that was read back */
    STORE_RESUMED, /* struct store_head: that was the last one */
    STORE_UP,   /* struct store_head: records can be kept from now on. What has not been confirmed
                   since the last STORE_UP is to be put again */
    STORE_DOWN, /* struct store_head: they cannot */
    STORE_KEY,  /* struct store_head with the cookie, and where its error is 0 the key: 1 to
                   STORE_KEY_MAX bytes. Who has read it wipes them */
    STORE_OVER, /* struct store_head: another gateway has taken the service over. Comes once, behind
                   the last STORE_DOWN: nothing is kept any more, and the other one notifies */
    STORE_MARK, /* struct store_head: `mark`, and in `cookie` the floor: the mark that was found
                   when the service was first looked at. Numbers of before the start are not above
                   it */
};

enum store_what { STORE_RELATION, STORE_RESOURCE, STORE_ASSOCIATION, STORE_WHAT_COUNT };

#define STORE_IDENTITY_MAX 128
#define STORE_KEY_MAX      64

/* Bytes of an association that are sealed. */
#define STORE_SEALED_MAX 1024

#define STORE_ID_BYTES 8

struct store_head {
    uint64_t cookie; /* the worker's own; 0: no answer is wanted */
    uint64_t mark;   /* STORE_MARK, STORE_MARK_ASK: Observe numbers, before they are cut to 24 bits.
                        In the store is always a number at or beyond all that have been sent. */
    int32_t error;   /* STORE_DONE: 0; -ETIMEDOUT, -ENOTCONN, -EIO, -ENOSPC. STORE_KEY: these, and
                        -ENOENT (Redis has no such identity), -EBADMSG (what it has is no key) */
    uint8_t what;    /* enum store_what, of a record; of STORE_DONE that of what was put */
    bool verify;     /* STORE_RECORD: the worker may have ended it while Redis was away: where it
                        does not have it, it answers with STORE_DELETE; of a resource that is for
                        its owner to do */
    uint8_t zero[2];
};

/* An observe relation. Behind it `packet_length` bytes: the registration as it came. With
 * TRANSPORT_DTLS the peer is that of the session's flow: 100:: and the id of the association, port
 * STORE_DTLS_PORT (see gateway/security/association.h). */
#define STORE_DTLS_PORT 1

struct store_relation {
    struct endpoint listen, peer;
    uint8_t transport; /* enum transport */
    uint8_t zero[3];
    uint32_t packet_length;
    uint64_t created_us; /* wall clock */
};

/* A gateway-held resource. Behind it the name and the payload. The name is the path as in a URI,
 * with the host in front where its route has one: "/shared/a", "//example.org/shared/a". */
struct store_resource {
    uint32_t name_length, payload_length;
    uint64_t version; /* grows with each change */
    int32_t format;   /* Content-Format; -1: none */
    uint8_t etag_length, etag[8];
    uint8_t zero[3];
};

/* An association of DTLS with a client of a listener. Behind it `sealed_length` bytes, 1 to
 * STORE_SEALED_MAX, which are the worker's own business (gateway/security/keep.h). */
struct store_association {
    uint8_t id[STORE_ID_BYTES];   /* not all zero */
    struct endpoint listen, peer; /* peer: where its records come from now */
    uint8_t cid;                  /* 1: they carry our Connection ID, which is the id; or 0 */
    uint8_t zero[3];
    uint32_t sealed_length;
};

struct store;

struct store_setup {
    const struct config *config; /* config->store, workers, instance; must outlive the store */
    struct rte_mempool *parcels;
    /* The worker that owns a client's flow. */
    unsigned (*worker_of)(void *context, const struct flow *flow);
    void *context;
    uint64_t (*now_us)(void *context); /* the workers' time, which follows the wall clock */
};

/* Reserves everything; connects to nobody. NULL with errno set. Main thread. */
struct store *store_create(const struct config *config);

/* Before the workers are made: reads the service's secret, which message IDs and names are derived
 * from so that they go on after a restart, or makes one. Waits for Redis up to
 * config->store.timeout and a little; where it cannot be had, the secret is random, and that is
 * said. SIGPIPE has to be ignored. 0, or a negative errno. Main thread. */
int store_secret(struct store *store, uint8_t secret[16]);

/* What store_secret() found beside it; zero where there was nothing. */
struct store_past {
    uint64_t clock_us; /* the workers' time of before the start was not beyond this */
    uint64_t floor;    /* nor were their Observe numbers beyond this */
    uint64_t life;     /* starts of the service, this one included, whichever gateway it was; 0:
                          not known */
};
struct store_past store_past(const struct store *store);

/* Starts the thread. The parcels have to be there until store_destroy() is through. 0 or a negative
 * errno. Main thread. */
int store_start(struct store *store, const struct store_setup *setup);

/* Writes what is in the rings and on the way, up to a second, ends the thread and frees all. No
 * worker may be running. NULL is nothing. Main thread. */
void store_destroy(struct store *store);

/* A worker's side: see worker_io.tell() and worker_told(). False when the ring is full; the parcel
 * is the caller's still. Worker's thread. */
bool store_tell(struct store *store, unsigned worker, struct parcel *parcel);
struct parcel *store_take(struct store *store, unsigned worker);

/* For health and metrics; any thread. */
struct store_status {
    bool enabled;   /* false: store: none */
    bool connected; /* and set up */
    bool owner;     /* false: another gateway has taken the service address over */
    bool resumed;   /* all records have been read back once */
    uint64_t puts, deletes, confirmed, failed, timeouts; /* records written, by outcome */
    uint64_t read, rejected, foreign; /* records read back; not understood; of other listeners */
    uint64_t keys_found, keys_unknown, keys_bad; /* pre-shared keys that were asked for, by outcome:
                                                    bad is a value that is no key */
    uint64_t keys_failed;                        /* no answer, or none in time */
    uint64_t connects;
    uint32_t under_way; /* commands at Redis without a reply */
    char error[128];    /* why it is not connected, or why Redis does not write; "" */
};
void store_status(const struct store *store, struct store_status *status);

/* The same as lines, as the counters are printed. */
void store_print(const struct store *store, FILE *out);

#endif
