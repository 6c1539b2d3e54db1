/* Looking into a worker, and changing what may be changed while it runs: what the control side asks
 * in PARCEL_INSPECT parcels, and what the worker answers within its loop.
 *
 * A question is a struct inspect_question, for some types with a structure behind it; the parcel's
 * type is an enum inspect_type. The answer is a parcel of the same type: a struct inspect_head,
 * then `count` rows. Rows are binary and in memory layout: formatting is the control side's work.
 * Where no parcel is free for an answer, or nobody takes it, there is none; who asked asks again.
 *
 * Tables are read in pages: a question names the position to begin at, the answer the one to go on
 * from, or INSPECT_END. The work for a page is bounded (INSPECT_SCAN positions, INSPECT_BYTES of
 * rows), so that a page may be empty though others follow. What is there from the first page to the
 * last is in exactly one of them; what comes or goes meanwhile may be in or not. Of a session whose
 * relations are in several pages, one that comes meanwhile may make another appear twice.
 *
 * A session is named by its position and a check value that follows from its flow, so that one that
 * has been replaced by another peer's is not taken for it. */
#ifndef COAPGW_GATEWAY_INSPECT_H
#define COAPGW_GATEWAY_INSPECT_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/net.h"
#include "gateway/parcel.h"
#include "gateway/proxy/upstream.h"
#include "gateway/security/principal.h"
#include "gateway/session/loss.h"
#include "gateway/session/transmission.h"
#include "gateway/worker.h"

struct messaging;
struct module_host;
struct proxy;
struct resources;

#define INSPECT_END   UINT32_MAX
#define INSPECT_SCAN  1024 /* positions that are looked at for one page */
#define INSPECT_BYTES 8000 /* of rows in one answer */
#define INSPECT_COUNT 1024 /* relations of a session that are counted */

#define INSPECT_TOKEN_BYTES   64  /* longer tokens are cut */
#define INSPECT_OPTIONS_BYTES 512 /* of a resource's key; longer ones are cut */

enum inspect_type {
    INSPECT_SESSIONS,  /* a page of struct inspect_session, those that match */
    INSPECT_SESSION,   /* one: by position and check, -ENOENT when it has gone */
    INSPECT_RELATIONS, /* a page of struct inspect_relation, those of sessions that match */
    INSPECT_SERVERS,   /* a page of struct inspect_server */
    INSPECT_USAGE,     /* struct worker_usage */
    INSPECT_SET,       /* behind the question a struct inspect_parameters. The answer is the session
                          as it is then. -ENOENT; -ERANGE: a value is out of its range; -ENOSPC: too
                          many sessions have parameters of their own; -EPERM: not a client's */
    INSPECT_LOSS,      /* a struct loss: what is in force */
    INSPECT_SET_LOSS,  /* the same; behind the question the struct loss to be put in force */
};

/* Which sessions are meant. */
enum inspect_match {
    INSPECT_ALL,
    INSPECT_ONE,      /* `index` and `check` */
    INSPECT_PEER,     /* of this address */
    INSPECT_ENDPOINT, /* of this address and port */
};

struct inspect_question {
    uint64_t serial; /* comes back in the answer */
    uint32_t from;   /* where a page begins; 0 at first */
    uint32_t skip;   /* relations: so many of the first session have been told of */
    uint32_t limit;  /* the most rows; 0: as many as fit */
    uint8_t match;   /* enum inspect_match */
    uint8_t zero[3];
    uint32_t index, check;
    struct endpoint peer;
    uint8_t zero2[2];
};

struct inspect_head {
    uint64_t serial;
    int32_t error;  /* 0 or a negative errno: there are no rows then */
    uint32_t count; /* rows */
    uint32_t next;  /* where to go on, INSPECT_END: that was all */
    uint32_t skip;  /* the same for `skip` */
};

/* What a session is: the same for a row of it and for what hangs on it. */
struct inspect_name {
    uint32_t index, check;
    struct flow flow;
    struct endpoint peer; /* the address that it has now: over DTLS the flow does not say it */
    uint8_t zero[6];
};

struct inspect_session {
    struct inspect_name name;
    uint64_t silent_us; /* since something was last received, or an own request sent */
    struct transmission transmission;
    uint8_t upstream;     /* 1: of ours to an origin; 0: a client's */
    uint8_t proven;       /* the peer receives what is sent to its address */
    uint8_t own;          /* the parameters are its own, not those of its listener */
    uint8_t secured;      /* 1: over DTLS, and there is an association: */
    uint16_t exchanges;   /* requests that are being worked on */
    uint16_t remembered;  /* message IDs remembered for deduplication */
    uint16_t outstanding; /* messages of ours that wait for their end; upstream: of the server */
    uint16_t waiting;     /* the same that wait for NSTART */
    uint32_t relations;   /* INSPECT_COUNT at the most */
    uint32_t users;       /* upstream: requests and observations that need it */
    uint8_t suite;        /* enum suite */
    uint8_t own_cid;      /* 1: the peer's records carry our Connection ID */
    uint8_t peer_cid;     /* 1: ours carry the peer's */
    uint8_t resumed;      /* 1: by a session ticket */
    struct principal principal;
    uint8_t zero[2];
};

/* Followed by `token_length` bytes of the token and `options_length` bytes of the options that the
 * origin or module gets, encoded, or of the name of a held resource; each cut at its limit. Then
 * zeros up to a multiple of 8. */
struct inspect_relation {
    struct inspect_name session;
    uint32_t bytes; /* of the row in all */
    uint32_t state_n;
    uint64_t sent_us;  /* since a state was last sent, or it was made */
    uint64_t acked_us; /* since a CON was last acknowledged, or it was made */
    uint32_t observation;
    uint32_t observers;   /* of that observation, on this worker */
    uint16_t unconfirmed; /* notifications since the last confirmable one */
    uint16_t token_length;
    uint16_t options_length;
    uint16_t upstream;      /* index of it; INSPECT_FORWARD, INSPECT_LOCAL */
    uint8_t token_cut;      /* 1: the token is longer */
    uint8_t options_cut;    /* 1: the options are longer */
    uint8_t outstanding;    /* 1: a confirmable notification waits for its ACK */
    uint8_t confirmed;      /* 1: the last state that was sent has been acknowledged */
    uint8_t kept;           /* enum relation_kept: what the store has of it */
    uint8_t method;         /* GET or FETCH */
    uint8_t observed_state; /* enum observation_state */
    uint8_t local_kind;     /* enum local_kind; LOCAL_RESOURCE: a name stands for the options */
};

#define INSPECT_FORWARD 0xffff /* the forward proxy's */
#define INSPECT_LOCAL   0xfffe /* held by the gateway */

struct inspect_server {
    struct endpoint endpoint;
    uint16_t upstream; /* index of it; INSPECT_FORWARD */
    uint16_t number;   /* which of its servers; of the forward proxy, which destination */
    uint8_t down;
    uint8_t pings;         /* unanswered, in a row */
    uint8_t transport;     /* enum transport; over DTLS: */
    uint8_t association;   /* enum server_association */
    uint16_t associations; /* with this worker */
    uint16_t zero;
    uint32_t requests, observations; /* that are at it */
    uint16_t outstanding, waiting;   /* messages, as of a session */
    uint64_t heard_us;               /* since something was heard of it, or we have known it */
    uint64_t down_us;                /* since it is down */
    uint64_t failed_us;              /* since the last handshake that failed, */
    char why[SERVER_WHY_BYTES];      /* and why it did; "": none has */
};

/* Bits of `set` and `reset` are 1 << enum transmission_parameter; of a parameter in neither nothing
 * changes. */
struct inspect_parameters {
    uint32_t set;                            /* to `milli` */
    uint32_t reset;                          /* to what the listener or upstream has */
    uint64_t milli[TRANSMISSION_PARAMETERS]; /* as transmission_set() takes them */
};

/* The parts of a worker that are looked into. */
struct inspected {
    const struct worker *worker;
    struct messaging *messaging;
    struct proxy *proxy;
    const struct resources *resources;
    const struct module_host *modules;
};

/* Answers a question through the worker's tell(); does not consume it. Worker's thread. */
void inspect_told(const struct inspected *in, const struct parcel *question);

#endif
