/* The engine: outstanding requests, their answers, observers and the origin. */
#ifndef COAPGW_BENCH_GUN_ENGINE_H
#define COAPGW_BENCH_GUN_ENGINE_H

#include "bench/gun/carrier.h"
#include "bench/gun/clock.h"
#include "bench/gun/schedule.h"
#include "bench/gun/form.h"
#include "bench/gun/secure.h"
#include "gateway/coap/message.h"

#define OBSERVER_BIT      0x80000000u /* in the first word of a token: the rest names an observer */
#define OPEN_SLOTS        (1u << 21)  /* outstanding requests of an open loop */
#define BLOCK_SZX_DEFAULT 6
#define OBSERVERS_ASK     256 /* registrations that wait for their answer at a time */

/* An outstanding request: what each has. Two to a cache line, since a window of them is what the
 * first cache has to hold. */
struct exchange {
    uint64_t sent_ns; /* the latest message; 0: the place is free */
    uint64_t due_ns;  /* when the request should have gone; latency counts from here */
    uint32_t sequence;
    uint32_t endpoint;
    uint16_t mid, form;
    uint8_t type, kind;
    bool measured;
};
_Static_assert(sizeof(struct exchange) == 32, "two exchanges in a cache line");

/* What only some have. */
struct exchange_more {
    uint64_t again_ns; /* when it is retransmitted; 0: never */
    uint32_t given_up; /* sequence of the latest request that timed out here; 0: none */
    uint32_t number;   /* for %u */
    uint32_t offset;   /* of the block that is asked for or sent, in bytes */
    uint32_t etag;     /* a hash of the body's, from its first block */
    uint16_t wait_ms;  /* until the next retransmission */
    uint8_t szx;
    uint8_t tries : 7; /* retransmissions so far */
    bool started : 1;  /* an answer to an earlier message of it has come */
};
_Static_assert(sizeof(struct exchange_more) == 32, "the other half");

enum observer_state { OBSERVER_NEW, OBSERVER_ASKED, OBSERVER_REGISTERED, OBSERVER_FAILED };

struct observer {
    uint64_t seen_ns;  /* its latest notification, or the registration that was sent */
    uint32_t sequence; /* the latest Observe value */
    uint16_t mid;
    uint8_t state, tries;
};

struct observers {
    struct observer *all;
    uint32_t next; /* the first one that has not been asked for */
    uint32_t open; /* that wait for their answer */
    uint32_t looked_at;
    uint32_t asked[OBSERVERS_ASK]; /* who waits */
    uint16_t *paths;               /* that can be observed */
    unsigned path_count;
};

struct origin;

struct gun {
    const struct gun_options *o;
    struct gun_result *r;
    struct carrier *carrier;
    struct secure *secure; /* what is around the carrier; NULL: plain CoAP */
    struct forms forms;
    struct mix_entry plan[MIX_PLAN_ENTRIES];
    uint32_t plan_count; /* 1 when all are the same */
    struct clock clock;

    struct exchange *slots;
    struct exchange_more *more;           /* by the same index */
    uint32_t slot_count, free_count, top; /* `top`: places from here on were never used */
    uint32_t *free_slots;
    uint32_t
        *by_mid; /* the place of a (device, message ID), for empty ACKs and RSTs; may be stale */
    uint32_t mid_mask;
    uint16_t *mids; /* by device: the next one */
    uint32_t next_endpoint, next_plan, next_number, looked_at, random;

    bool firing, open_loop;
    unsigned least; /* free places that are worth a burst */
    uint64_t fire_at_ns, flush_at_ns, look_at_ns;
    struct schedule schedule;
    uint64_t begin_ns, end_ns; /* the measured time; 0: none yet */
    uint64_t mids_used;        /* from the start */
    uint64_t timeout_ns;
    uint16_t expected; /* length of o->expect */

    unsigned received; /* answers of this burst */
    unsigned out_count;
    struct outgoing out[CARRIER_BURST];
    struct carrier_peer out_peers[CARRIER_BURST];
    struct incoming in[CARRIER_BURST];
    struct observers observers;
    struct origin *origin;
};

/* ---- engine.c ---- */

/* Takes the carrier's use, not its ownership. 0, or a negative errno that has been said. */
int engine_start(struct gun *g, struct gun_options *o, struct carrier *carrier);
void engine_stop(struct gun *g);

/* One turn: receives, sends what is due, looks for what has waited too long. Returns how many
 * messages it handled. */
unsigned engine_turn(struct gun *g, uint64_t now);

void engine_flush(struct gun *g);

/* A buffer for one message; NULL when there is none now. */
struct outgoing *engine_take(struct gun *g);

void engine_send_empty(struct gun *g, uint32_t endpoint, enum message_type type, uint16_t mid);

/* Outstanding requests that count. */
static inline uint64_t engine_open(const struct gun *g)
{
    return g->r->sent - g->r->answered - g->r->timeouts - g->r->resets;
}

/* Where the message IDs of each device, and those of the origin, begin. */
uint16_t engine_first_mid(void);

static inline bool engine_measures(const struct gun *g, uint64_t now)
{
    return now >= g->begin_ns && now < g->end_ns;
}

static inline uint32_t engine_mid_place(const struct gun *g, uint32_t endpoint, uint16_t mid)
{
    return (((endpoint * 0x9e3779b1u) >> 8) + mid) & g->mid_mask;
}

/* The outstanding request with this message ID; UINT32_MAX when there is none. */
uint32_t engine_find(const struct gun *g, uint32_t endpoint, uint16_t mid);

static inline uint16_t engine_mid(struct gun *g, uint32_t endpoint)
{
    return g->mids[endpoint]++;
}

/* ---- exchange.c ---- */

/* Adds what write.h leaves open: a number, or a block. */
void exchange_finish(const struct gun *g, uint32_t index, struct outgoing *out);

/* Sends it with a new message ID, or, when `again`, as a retransmission. False: no buffer. */
bool exchange_send(struct gun *g, uint32_t index, uint64_t now, bool again);

/* Sets when it is sent again, for one that is confirmable. */
void exchange_patience(struct gun *g, uint32_t index, uint64_t now);

enum exchange_step { STEP_DONE, STEP_WRONG, STEP_NEXT, STEP_WAIT };

/* What an answer of class 2 to a request of several messages means; moves the exchange on. */
enum exchange_step exchange_continue(struct gun *g, uint32_t index, const struct message *m);

/* ---- receive.c ---- */

unsigned receive_burst(struct gun *g, uint64_t now);
void receive_timeout(struct gun *g, uint32_t index);

/* ---- observe.c ---- */

int observers_start(struct gun *g);
void observers_stop(struct gun *g);
/* Registers those that are not, a few at a time. */
void observers_turn(struct gun *g, uint64_t now);
bool observers_ready(const struct gun *g);
void observers_receive(struct gun *g, const struct incoming *in, uint32_t index, uint64_t now);
/* A RST or an empty ACK cannot name an observer: what is refused so times out. */

/* What the options and the payload of an answer tell, without all of a parse. */
struct glance {
    int64_t observe; /* -1: none */
    const uint8_t *payload;
    uint16_t payload_length;
};
/* False: malformed. `data` has a header and a token of 8 bytes. */
bool observers_glance(const uint8_t *data, uint16_t length, struct glance *out);

/* ---- origin.c ---- */

#define ORIGIN_STAMP_BYTES 16 /* the payload of a notified state begins with its time */

int origin_start(struct gun *g);
void origin_stop(struct gun *g);
void origin_receive(struct gun *g, const struct incoming *in, uint64_t now);
unsigned origin_turn(struct gun *g, uint64_t now);
/* The time that a payload was stamped with, or 0. */
uint64_t origin_stamp(const uint8_t *payload, uint16_t length);

#endif
