/* The proxy: clients' requests become requests of our own to origin servers, and their answers the
 * clients' (RFC 7252 5.7, 7641 5, 7959 2.10).
 *
 *   asked.c        a client's request: checks and key; request.c: which way it goes
 *   transfer.c     bodies that clients send or fetch in blocks
 *   deliver.c      an answer to one client: validation, blocks, age
 *   target.c       what is asked for: cache, and requests that can be joined
 *   hot.c          answers of the cache that are asked for all the time
 *   fetch.c        one operation at an origin, with all its blocks and retries
 *   upstream.c     servers, their ports and their health
 *   observation.c  resources observed at origins; observation_request.c: what these are asked
 *   relation.c     clients that observe; relation_notify.c: what they are told
 *   part.c         a session that goes, and what hangs on it
 *   persist.c      relations that survive a restart, and what waits for their records
 *                  (persist_record.c)
 *   resume.c       the same relations after the restart
 *   local.c        requests for what the gateway itself holds
 *   forward.c      the forward proxy: where a request goes, and whether it may
 *   destination.c  its destinations, and their names
 *
 * Tokens and message IDs on the far leg are the gateway's own. A token is the index of the fetch or
 * observation and a random number that only one request has, so that a late or forged response
 * finds nothing (RFC 9175 4.2).
 *
 * One worker owns all of this; no locking. */
#ifndef COAPGW_GATEWAY_PROXY_PROXY_H
#define COAPGW_GATEWAY_PROXY_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/coap/block.h"
#include "gateway/coap/uri.h"
#include "gateway/proxy/content.h"
#include "gateway/proxy/target.h"
#include "gateway/proxy/upstream.h"
#include "gateway/session/messaging.h"

#define TOKEN_BYTES    8
#define OPTION_UNKNOWN UINT16_MAX

struct module_host;
struct hot;

/* ---- what a client wants of an answer ---- */

#define WISH_ETAGS 4 /* more of one request are not looked at: it gets the whole answer then */

struct wish {
    struct block block2; /* as asked; 0/0/6 when not */
    bool has_block2, has_block1;
    bool observe;      /* it registers */
    uint32_t block1;   /* value of the option to be sent back */
    uint64_t transfer; /* names its download, see transfer.c */
    uint64_t body;     /* hash of the payload, 0: none */
    uint8_t etag_count;
    struct etag etags[WISH_ETAGS];
    struct rope record; /* `observe`: the registration, on its way to its relation; persist.c */
};

/* A client whose request waits for a fetch. */
struct wait {
    struct exchange *exchange;
    struct links by_fetch;
    struct wish wish;
};

/* Whom an answer goes to: a request at once, or an exchange later. One of them is NULL. */
struct client {
    const struct request *rq;
    struct exchange *exchange;
};

/* Where a request goes. */
struct place {
    const struct config_upstream *config;
    uint32_t first, count; /* servers to choose from */
    uint32_t route;        /* ROUTE_NONE: the forward proxy's */
    uint8_t strip;         /* leading Uri-Path options that the origin does not get */
    struct space space;
};
#define ROUTE_NONE UINT32_MAX

/* How many clients one message of an origin's serves at once; the others are served in portions. */
#define HAND_OUT_AT_ONCE 32

/* ---- operations at origins ---- */

enum fetch_role {
    FETCH_ANSWER,   /* for clients that wait, and for the cache */
    FETCH_REGISTER, /* registers an observation, for clients, too */
    FETCH_REST,     /* the other blocks of a notification */
    FETCH_CANCEL,   /* ends an observation: nobody waits */
};

struct fetch {
    struct timer deadline;
    struct links by_server;
    uint32_t server;      /* index; POOL_NONE while there is none */
    uint32_t session;     /* POOL_NONE: nothing is under way */
    uint32_t outbound;    /* our request while it is unacknowledged, else POOL_NONE */
    uint32_t target;      /* whose key the request is; TARGET_NONE: `request` */
    uint32_t observation; /* of all roles but FETCH_ANSWER */
    struct list waits;    /* first come, first answered */
    struct rope request;  /* as a key; options from sizeof(struct space) on */
    uint32_t route;       /* of the first client, for Location-Path */
    uint16_t options_length;
    uint16_t last_option; /* as of a key; OPTION_UNKNOWN */
    uint8_t role;         /* enum fetch_role */
    uint8_t method;
    uint8_t hop_limit; /* as the server gets it */
    uint8_t tries;     /* servers that have failed */
    uint8_t restarts;  /* from the first block, since the representation had changed */
    uint8_t szx;       /* of blocks to and from the server */
    bool begun;        /* it has been sent once */
    bool again;      /* it was made anew when the DTLS association had ended that it was sent in */
    bool shared;     /* others may join, and its answer may be stored */
    bool in_blocks;  /* the request's body goes in blocks */
    bool validating; /* the target's ETag was sent: `etag` */
    struct etag etag;
    uint32_t body_sent;        /* bytes of the body that the server has */
    uint32_t answer;           /* content that is being put together, or is handed out */
    const struct message *raw; /* while it is in hand: the answer, where its only client can get it
                                  as it is */
    uint32_t tag;              /* Request-Tag of a body in blocks */
    bool done;                 /* only handing out is left: `answer`, or `code` and `diagnostic` */
    bool observed;             /* clients that asked to observe are taken in */
    bool observe_seen;         /* the answer had Observe */
    bool stale;                /* a stale answer stands in for a failure */
    uint8_t code;
    const char *diagnostic;
    const struct config_upstream *config;
    uint32_t first, count; /* servers to choose from */
    uint64_t uri;          /* as of a key */
    uint64_t begun_us;
};

/* ---- observation ---- */

enum observation_state {
    OBSERVATION_REGISTERING, /* no answer yet */
    OBSERVATION_LIVE,        /* the origin notifies */
    OBSERVATION_ENDING,      /* no client is left: it is being cancelled */
    OBSERVATION_OVER,        /* the origin has ended it: clients are being told */
};

struct observation {
    struct timer timer; /* the origin has been silent for too long */
    struct links by_server;
    struct links by_fanout;
    struct list relations;
    uint32_t relation_count;
    uint32_t target, server, session;
    uint32_t fetch;        /* registration, rest or cancellation under way, else POOL_NONE */
    uint32_t content;      /* the last whole state */
    uint32_t state_n;      /* counts states */
    uint64_t number;       /* the last Observe value that was sent to a client, beyond 24 bits */
    uint32_t cursor, left; /* fan-out: next relation, and how many are to be looked at */
    uint32_t heard_number; /* the last Observe value of the origin's */
    uint64_t heard_us;
    const struct config_upstream *config;
    uint32_t first, count; /* servers to choose from */
    uint8_t hop_limit;
    uint8_t state;       /* enum observation_state */
    uint8_t failures;    /* registrations in a row, */
    uint64_t failing_us; /* the first of them */
    uint32_t holders;    /* fetches that are still handing its first state out */
    uint8_t last_code;   /* OBSERVATION_OVER without a content: what clients get */
    bool heard;
    bool in_fanout;
    bool forsaken; /* OBSERVATION_OVER, and the origin does not know */
    bool missed;   /* a notification came that could not be taken: the origin is to be asked */
    uint8_t
        local_kind; /* enum local_kind: there is no origin; see local.h. `target` is TARGET_NONE */
    uint32_t local; /* the owner's index */
    bool doubtful;  /* the resource was changed through us: its state is not handed out any more */
};

#define RELATION_MIDS 8

/* A client that observes (RFC 7641 4.1): one for each session and token. */
struct relation {
    struct timer confirm;
    struct links by_session, by_observation;
    uint32_t session, observation;
    uint32_t outbound;    /* the notification that waits for its ACK, or POOL_NONE */
    uint32_t token_chunk; /* a token longer than 8 bytes */
    uint32_t state_n;     /* of the state that was last sent */
    uint16_t token_length;
    uint16_t unconfirmed;         /* notifications since the last CON */
    uint16_t mids[RELATION_MIDS]; /* of the last notifications that wait for no ACK (any more) */
    uint8_t mid_count, mid_next;
    uint8_t token[TOKEN_INLINE_BYTES];
    uint64_t transfer; /* names its download, see transfer.c */
    uint8_t szx;
    bool confirmed;     /* the last state that was sent has been acknowledged */
    bool resumed;       /* of before a restart: it waits for its turn to be told the state */
    uint8_t kept;       /* enum relation_kept */
    uint32_t held;      /* answers that wait for the record: the newest hold, or POOL_NONE */
    struct rope record; /* in p->persist.records: what the store has of it */
    uint64_t sent_us;   /* when a state was last sent */
    uint64_t acked_us;  /* when a CON was last acknowledged */
};

/* ---- transfers in blocks with clients ---- */

struct transfer {
    struct timer expiry;
    struct links by_session;
    uint64_t name; /* hash of the request's key without its payload */
    uint64_t body; /* download: hash of the request's payload, 0: none */
    uint32_t session;
    uint32_t content;        /* download; CONTENT_NONE: it is an upload */
    struct rope upload;      /* space and options, then what has come of the body */
    uint16_t options_length; /* upload */
    bool refused;            /* upload: it was too large */
};

/* ---- relations that survive a restart ---- */

enum relation_kept {
    KEPT_NOT,   /* the store does not have its record */
    KEPT_ASKED, /* it has been told to */
    KEPT,       /* it has said that it has */
};

/* An answer to a registration that waits until the record is confirmed. */
struct hold {
    struct exchange *exchange;
    uint32_t relation;
    uint32_t next; /* an older one of the same relation */
    struct wish wish;
};

struct persist {
    bool enabled;
    bool up;      /* the store takes records */
    bool settled; /* it did once, or has not done so in time: nothing waits for the first time */
    bool over;    /* another gateway has taken the service over */
    bool resumed; /* all records of before the start have been read back */
    uint32_t nonce;
    uint32_t *hold_nonces, *serials; /* of holds and relations by index; 0: the place is free */
    struct chunks records;           /* of relations, as the store gets them */
    struct pool holds;
    struct list deleting;       /* relations that have gone; the store is still to be told */
    uint32_t cursor, sweep_end; /* relations from `cursor` on are still to be put again */
    bool sweep_all;             /* those that the store is thought to have, too */
    uint64_t sweep_at_us;       /* when those without a record are tried again, 0: never */
    uint64_t patient_us;        /* what waits for the first time waits no longer, 0: nothing does */
    uint32_t refusing;          /* holds from here on waited in vain; UINT32_MAX: none */
    uint32_t leaving;           /* relations from here on are still to be left to that gateway */
    uint64_t floor;             /* Observe numbers of before the start were not above this */
    uint64_t number;            /* the highest Observe number in use */
    uint64_t mark, mark_asked;  /* see STORE_MARK */
    /* Names of registrations that were cancelled while records were still being read back, so that
     * their records do not bring them back: a table that is never more than half full. */
    uint64_t *cancelled; /* 0: free */
    uint32_t cancelled_mask, cancelled_count;
    uint16_t refused; /* answers to records without a session: their message IDs differ */
};

/* ---- observations of what the gateway itself holds ---- */

/* Who is told that one is gone: local_handle(). */
struct local_owner {
    void (*gone)(void *context, uint32_t index);
    void *context;
};
#define LOCAL_OWNERS 3 /* enum local_kind */

/* ---- all of it ---- */

/* Notifications of one turn that may be confirmable, by the fan-out and by timers: each brings an
 * ACK, and what a turn calls for has to be what a turn takes in (WORKER_BURST from a device), or
 * the device's queue overflows and the clients whose ACKs are lost hear nothing for seconds. */
#define CONFIRMS_PER_TURN 32

struct proxy {
    struct messaging *m;
    struct module_host *modules; /* who hears of relations; NULL: nobody */
    struct upstreams upstreams;
    struct contents contents;
    struct targets targets;
    struct pool fetches, waits, observations, relations, transfers;
    uint32_t *fetch_nonces, *observation_nonces; /* second half of the token; 0: it is not open */
    size_t fetch_nonces_bytes, observation_nonces_bytes;
    uint32_t token_mask;  /* hides the indices */
    uint64_t hash_seed;   /* the same for all workers: they tell each other of `uri` hashes */
    struct list fanout;   /* observations with relations to be notified */
    unsigned confirms;    /* notifications that may still be confirmable in this turn */
    struct list handouts; /* fetches that are done, with clients still to be answered */
    uint64_t number_top;  /* no observation that was given up had a higher number */
    bool draining;        /* new requests are refused */
    struct persist persist;
    struct local_owner locals[LOCAL_OWNERS];
    struct destinations *destinations; /* of the forward proxy, NULL when it is off */
    const char **own_names;            /* hosts of routes, sorted */
    unsigned own_name_count;
    uint32_t expecting;     /* so often proxy_expect() is worth its time, see there */
    uint64_t expected_base; /* of the key of the last one that was */
    struct hot *hot;        /* see hot.h */
    uint32_t *hot_tags;
    bool hot_used;                /* there has been something in it */
    struct key key;               /* of the request in hand */
    uint8_t rewritten[KEY_BYTES]; /* the request in hand, without Proxy-Uri */
    struct fanout_tail {
        uint32_t observation, state_n, age_s;
        uint64_t number;
        uint8_t szx, code;
        bool built, in_blocks;
        uint16_t length; /* 0: neither options nor payload */
        uint8_t bytes[MESSAGE_MAX_BYTES];
    } tail;
};

/* 0 or a negative errno. Registers the handlers of its timers. */
int proxy_init(struct proxy *p, struct messaging *m);
void proxy_fini(struct proxy *p);

/* A client's request that a route leads to an upstream. */
void proxy_request(struct proxy *p, struct request *rq, unsigned route);

/* A datagram of a client's whose turn comes a little later in the burst: what will be looked up for
 * it is fetched into the processor's cache, if it is a GET to where the last one went that had to
 * be asked of an origin. Each of those makes it worth its time for a few more. */
void proxy_expect(const struct proxy *p, const struct datagram *d);
#define EXPECTING_EACH 4
#define EXPECTING_MAX  64

/* The same for any request, where the answer is at hand (hot.h). False: it is not, and nothing has
 * been done. */
bool hot_serve(struct proxy *p, struct request *rq);

/* A request with Proxy-Uri or Proxy-Scheme. True when it is one for this gateway itself: it is in
 * `local` then, without these options, valid until the next call. */
bool proxy_forward(struct proxy *p, struct request *rq, struct message *local);

/* How many destinations of the forward proxy are remembered. */
uint32_t proxy_destinations(const struct proxy *p);

/* See worker_resolved(). */
void proxy_resolved(struct proxy *p, const struct resolved *answer);

/* RFC 7252 5.6: the resource with this hash of place, path and query has been changed. */
void proxy_invalidate(struct proxy *p, uint64_t uri);

/* Any resource may have been changed: nothing that is stored is given out any more. */
void proxy_forget(struct proxy *p);

/* For messaging_ops. */
bool proxy_response(struct proxy *p, struct session *s, const struct message *response);
void proxy_settled(struct proxy *p, enum owner_kind kind, uint32_t owner,
                   enum outbound_outcome outcome);
bool proxy_reset(struct proxy *p, struct session *s, uint16_t mid, bool unreachable);

/* Work that is done in portions: fan-out, and fetches of servers that went down. Returns how much
 * was done. */
unsigned proxy_advance(struct proxy *p);

/* True when proxy_advance() has something to do now. */
bool proxy_has_work(const struct proxy *p);

/* ---- between the files of this layer ---- */

static inline struct fetch *fetch_at(const struct proxy *p, uint32_t index)
{
    return pool_at(&p->fetches, index);
}

static inline struct observation *observation_at(const struct proxy *p, uint32_t index)
{
    return pool_at(&p->observations, index);
}

static inline struct relation *relation_at(const struct proxy *p, uint32_t index)
{
    return pool_at(&p->relations, index);
}

static inline struct session *client_session(const struct proxy *p, const struct client *c)
{
    return c->rq ? c->rq->session : session_at(&p->m->sessions, c->exchange->session);
}

/* request.c */
/* A request that is to go to a place. */
void proxy_pass(struct proxy *p, struct request *rq, const struct place *place);

/* deliver.c */
/* An answer, whole or the block that is wanted. `observation` is that of a relation that has just
 * been made or refreshed, or NULL. False when something else was sent, a challenge for one. */
bool deliver(struct proxy *p, const struct client *to, uint32_t content, const struct wish *wish,
             struct observation *observation);
void deliver_code(struct proxy *p, const struct client *to, uint8_t code, const char *diagnostic);
/* True when a client that waits can get an answer of an origin's as it is: it has nothing in it
 * that is between us and the origin, and the client wants nothing that is between it and us. */
bool deliver_is_simple(const struct proxy *p, const struct exchange *x, const struct wish *wish,
                       const struct message *msg);
/* Such an answer. */
void deliver_as_it_is(struct proxy *p, struct exchange *x, const struct message *msg);
/* What an answer is made of besides header and token. */
struct part {
    uint32_t content;
    bool valid; /* 2.03: no payload */
    bool in_blocks;
    struct block block; /* `more` is computed */
    int64_t number;     /* Observe; negative: none */
    int64_t block1;     /* value of the option; negative: none */
};
/* Writes it behind header and token. */
void deliver_encode(struct proxy *p, struct encoder *e, struct part *part);
/* Which part of a content a client gets: `szx` is the largest block that it takes. */
struct part deliver_part(const struct proxy *p, const struct session *s, uint32_t content,
                         uint8_t szx);

/* transfer.c */
int transfers_init(struct proxy *p);
void transfers_fini(struct proxy *p);
/* A request with Block1. True when its body is complete: it is in `body` then, with space and
 * options in front, and the request is still to be answered; otherwise it has been answered. */
bool transfer_upload(struct proxy *p, struct request *rq, const struct wish *wish,
                     const struct block *block, struct rope *body);
/* The content that the client is fetching in blocks, CONTENT_NONE: none. */
uint32_t transfer_find(struct proxy *p, struct session *s, const struct wish *wish);
/* The client has got the last block: it is kept while that may be repeated. */
void transfer_done(struct proxy *p, struct session *s, const struct wish *wish);
/* It is not what the client will fetch more blocks of: it has been told of a newer one. */
void transfer_unpin(struct proxy *p, struct session *s, uint64_t name);
/* The client has gone, and what it had begun with it. */
void transfer_close_all(struct proxy *p, struct session *s);
/* The client will fetch more blocks of it: it is kept. */
void transfer_pin(struct proxy *p, struct session *s, const struct wish *wish, uint32_t content);

/* fetch.c */
int fetches_init(struct proxy *p);
void fetches_fini(struct proxy *p);
struct fetch_setup {
    enum fetch_role role;
    const struct place *place;
    uint32_t server;     /* this one; SERVER_NONE: to be chosen */
    uint32_t target;     /* TARGET_NONE: `request` */
    struct rope request; /* taken over: space, options, payload */
    uint16_t options_length;
    uint16_t last_option; /* as of a key; OPTION_UNKNOWN */
    uint32_t observation; /* POOL_NONE: none */
    uint64_t uri;
    uint8_t hop_limit;
    bool shared;
};
/* Prepares an operation. POOL_NONE at the limit: nothing is taken over then. */
uint32_t fetch_open(struct proxy *p, const struct fetch_setup *setup);
/* The request goes out now; it may fail at once, and is gone then. */
void fetch_start(struct proxy *p, uint32_t fetch);
/* False when memory is short. */
bool fetch_join(struct proxy *p, uint32_t fetch, struct exchange *x, const struct wish *wish);
/* Ends it without a word to its observation. Nobody may wait for it. */
void fetch_abort(struct proxy *p, uint32_t fetch);
bool fetch_response(struct proxy *p, uint32_t fetch, const struct message *msg);
/* The same when the blocks of an older answer are being fetched, which are given up. False when
 * that has been going on for too long. */
bool fetch_overtake(struct proxy *p, uint32_t fetch, const struct message *msg);
void fetch_settled(struct proxy *p, uint32_t fetch, enum outbound_outcome outcome);
/* The answer's first block has come with a notification: fetches the rest. */
void fetch_continue(struct proxy *p, uint32_t fetch, const struct message *first);
/* RFC 7252 5.9: true when an answer may be kept for others. */
bool fetch_is_cacheable(const struct content *content);
/* Answers go to those who wait, at most `budget` of them. Returns how many. */
unsigned fetch_hand_out(struct proxy *p, unsigned budget);
void fetch_fail(struct proxy *p, uint32_t fetch, uint8_t code, const char *diagnostic);
/* A server is down, or its address is known now. */
void fetch_server_lost(struct proxy *p, uint32_t fetch);

/* observation.c, observation_request.c */
int observations_init(struct proxy *p);
void observations_fini(struct proxy *p);
/* One without a target, or NULL at the limit. */
struct observation *observation_new(struct proxy *p);
/* The observation of a target, made when there is none. POOL_NONE at the limit. */
uint32_t observation_get(struct proxy *p, uint32_t target);
/* A new state goes to all clients. The reference is taken over. */
void observation_set(struct proxy *p, struct observation *o, uint32_t content);
/* Clients get a last answer: the content (the reference is taken over), or the code. */
void observation_over(struct proxy *p, struct observation *o, uint32_t content, uint8_t code);
/* A message with the observation's token. */
bool observation_response(struct proxy *p, uint32_t observation, uint32_t session,
                          const struct message *msg);
/* A fetch of an observation is over: with a content, which the observation holds for itself when it
 * wants it, or with the code that clients get. `observed`: the answer had Observe. True when
 * clients that asked to observe may be taken in. */
bool observation_fetched(struct proxy *p, struct fetch *f);
/* The registration's answer has begun to come in. */
void observation_answered(struct proxy *p, struct fetch *f, const struct message *msg);
/* A relation has gone: without clients the observation ends. */
void observation_left(struct proxy *p, uint32_t observation);
/* Gives it up; nothing needs it any more. */
void observation_free(struct proxy *p, uint32_t observation);
/* A fetch has handed its state out to the last who waited. */
void observation_released(struct proxy *p, uint32_t observation);
/* Prepares a registration; it takes the place of the rest of a notification. False when memory is
 * short. */
bool observation_register(struct proxy *p, uint32_t observation, const struct place *place,
                          uint8_t hop_limit);
/* True when a client can be answered from its state. */
bool observation_is_fresh(const struct proxy *p, const struct observation *o);
/* Numbers of one observation grow, and are not behind the clock after observation_keep_up(). */
uint32_t observation_next_number(struct proxy *p, struct observation *o);
uint32_t observation_number(const struct observation *o);
void observation_keep_up(const struct proxy *p, struct observation *o);
void observation_server_lost(struct proxy *p, uint32_t observation);
/* Registers at the origin later, unless that is under way: `place` and `hop_limit` as for
 * observation_register(). */
void observation_defer(struct proxy *p, uint32_t observation, const struct place *place,
                       uint8_t hop_limit, uint64_t delay_us);
/* The place that its requests go to. */
struct place observation_place(const struct proxy *p, const struct observation *o);

/* local.c */
/* An observation of what the gateway itself holds has no relation (any more). */
void local_left(struct proxy *p, uint32_t observation);

/* relation.c, relation_notify.c */
int relations_init(struct proxy *p);
void relations_fini(struct proxy *p);
/* True when the client may observe one thing more, or has this relation already. */
bool relation_may_add(struct proxy *p, const struct session *s, const struct message *msg);
/* Makes or refreshes the relation of a client with the token of its request. POOL_NONE when memory
 * is short. */
uint32_t relation_add(struct proxy *p, struct session *s, const uint8_t *token,
                      uint32_t token_length, uint32_t observation, const struct wish *wish);
/* An answer to its registration that comes apart from the ACK is the first notification: it waits
 * its turn, is brought up to date, and ends the relation as they do. True when this has been done,
 * and the exchange is gone; false when it is to be answered as any request. */
bool relation_answer(struct proxy *p, uint32_t relation, const struct client *to);
/* The client has not got what it asked for, and knows of no relation. */
void relation_drop(struct proxy *p, uint32_t relation);
/* Its token, in the relation or in `buffer`, which has room for MESSAGE_MAX_BYTES. */
const uint8_t *relation_token(const struct proxy *p, const struct relation *r, uint8_t *buffer);
/* Ends the one with this token, if there is one. */
void relation_cancel(struct proxy *p, struct session *s, const uint8_t *token,
                     uint32_t token_length);
/* The same by the client's wish, which holds for registrations that are not answered yet, too. */
void relation_deregister(struct proxy *p, struct session *s, const uint8_t *token,
                         uint32_t token_length);
/* All relations get the new state, in portions; of an observation that is over, the last word. */
void relation_fan_out(struct proxy *p, struct observation *o);
void relation_settled(struct proxy *p, uint32_t relation, enum outbound_outcome outcome);
void relation_renew(struct proxy *p, uint32_t relation, uint32_t outbound);
bool relation_reset(struct proxy *p, struct session *s, uint16_t mid);
unsigned relation_advance(struct proxy *p, unsigned budget);

bool relation_has_token(const struct proxy *p, const struct relation *r, const uint8_t *token,
                        uint32_t length);
/* Answers a registration whose observation has a state: the relation has been made. The answer may
 * wait for the store. */
void relation_accept(struct proxy *p, uint32_t relation, const struct client *to,
                     const struct wish *wish);
/* The same when there is nothing more to wait for. */
void relation_confirm(struct proxy *p, uint32_t relation, const struct client *to,
                      const struct wish *wish);
/* A registration of before a restart: the client is told the state within
 * config.store.resume_spread from when it is known. */
void relation_resume(struct proxy *p, uint32_t relation);

/* True when another gateway notifies the client of this relation. */
static inline bool relation_is_left(const struct proxy *p, const struct relation *r)
{
    return p->persist.over && r->kept != KEPT_NOT;
}

/* persist.c, persist_record.c */
int persist_init(struct proxy *p);
void persist_fini(struct proxy *p);
/* The record of a registration; empty where none is kept, or memory is short. */
struct rope persist_record(struct proxy *p, const struct request *rq);
void persist_drop_record(struct proxy *p, struct rope *record);
/* Gives the relation the record of its registration, which is taken over. */
void persist_attach(struct proxy *p, struct relation *r, struct rope record);
/* What is to become of the answer to a registration. */
enum persist_verdict {
    PERSIST_ANSWER,  /* it can go */
    PERSIST_HELD,    /* it goes when the record is confirmed; the exchange has been taken over */
    PERSIST_REFUSED, /* 5.03: no record, no registration */
};
enum persist_verdict persist_keep(struct proxy *p, struct relation *r, const struct client *to,
                                  const struct wish *wish);
/* The last word has been sent to the client: it is the answer to what is held. */
void persist_close_holds(struct proxy *p, struct relation *r);
/* The relation goes; it is out of all chains. True when its place can be given back; otherwise that
 * is done later. */
bool persist_end(struct proxy *p, struct relation *r);
/* A new relation, without a record. */
void persist_begin(struct proxy *p, struct relation *r);
/* A parcel of the store's about a relation, or about the store itself; not consumed. */
void persist_told(struct proxy *p, const struct parcel *parcel);
/* An Observe number is in use. */
void persist_number(struct proxy *p, uint64_t number);
unsigned persist_advance(struct proxy *p, unsigned budget);
bool persist_has_work(const struct proxy *p);
/* When it has something to do next, unless it has now; UINT64_MAX for never. */
uint64_t persist_next_us(const struct proxy *p);

/* Tells the store of a record; `type` is an enum store_type. False when it cannot be told now. */
bool persist_tell(struct proxy *p, unsigned type, uint64_t cookie, const struct rope *record);

/* resume.c */
int persist_init_resume(struct proxy *p);
void persist_fini_resume(struct proxy *p);
/* The client has cancelled what it may have registered before a restart. */
void persist_cancelled(struct proxy *p, const struct session *s, const uint8_t *token,
                       uint32_t token_length);
/* A record that was read back. True when it is to be handled as a request, which is in `rq` then,
 * and its message in `msg` and `buffer`. */
bool persist_read(struct proxy *p, const struct parcel *parcel, struct request *rq,
                  struct message *msg, uint8_t buffer[MESSAGE_MAX_BYTES]);
/* That has been done, with this session and message. Where no relation came of it, its client has
 * been told, and the record goes. */
void persist_handled(struct proxy *p, const struct parcel *parcel, const struct session *s,
                     const struct message *msg);
/* forward.c */
int forward_init(struct proxy *p);
void forward_fini(struct proxy *p);

/* destination.c */
/* True when a request can go to a server: always to one of the configuration. Otherwise its name is
 * being resolved, and what waits is started later, or has been failed: false. */
bool forward_is_ready(struct proxy *p, uint32_t fetch);

#endif
