/* The loads that bench/worker puts on its worker: windows of requests that are prepared, handled in
 * bursts, answered by an origin that the benchmark plays, and checked. Only the worker's part of it
 * is measured. One thread. */
#ifndef COAPGW_BENCH_WORKER_LOAD_H
#define COAPGW_BENCH_WORKER_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/devices.h"
#include "bench/harness.h"
#include "bench/meter.h"

#define LOAD_WINDOW_MAX  1024
#define LOAD_PAYLOAD_MAX 1024
#define LOAD_PACKET      (HARNESS_REQUEST + LOAD_PAYLOAD_MAX)

enum load_kind {
    LOAD_RESPOND, /* CON GET of what the gateway answers itself */
    LOAD_NON,     /* the same, NON */
    LOAD_PING,    /* Empty CON */
    LOAD_HIT,     /* CON GET of what is in the cache */
    LOAD_MISS,    /* CON GET of what the origin answers anew each time */
    LOAD_POST,    /* CON POST through to the origin */
    LOAD_OBSERVE, /* notifications to all that observe one resource */
    LOAD_CCM8,    /* LOAD_RESPOND over DTLS, AES-128-CCM-8 */
    LOAD_GCM,     /* the same, AES-128-GCM */
    LOAD_KINDS
};

struct load_options {
    unsigned sessions;   /* clients, each with a session */
    unsigned window;     /* requests that are under way together */
    unsigned burst;      /* datagrams of one turn */
    unsigned payload;    /* bytes, of what the origin has and of a POST */
    unsigned targets;    /* resources asked for in turn; 0: as the case has them */
    unsigned remembered; /* message IDs that the gateway remembers */
    unsigned gap_ns;     /* virtual time between two requests; 0: as short as the case allows */
};

extern const char *const load_names[LOAD_KINDS];
extern const char *const load_texts[LOAD_KINDS];

/* A worker for the load, and its clients not yet known to it. 0 or -1, which has been said. */
int load_begin(const struct load_options *options, enum load_kind kind);
void load_end(void);

/* So many requests that warm up are wanted until the load is steady. */
uint64_t load_warmup(void);

/* Handles `count` requests or notifications at least and adds their cost to `meter`, which may be
 * NULL. The number handled; 0 when an answer was wrong or missing, which has been said. */
uint64_t load_run(uint64_t count, struct meter *meter);

/* The instructions of one request, from a sample of about `count`; negative when an answer was
 * wrong, or where it cannot be done. */
double load_step(unsigned count);

/* ---- between the files of it ---- */

struct load_packet {
    struct flow flow;
    uint16_t length;
    uint8_t data[LOAD_PACKET];
};

struct load {
    struct load_options o;
    enum load_kind kind;
    struct worker *worker;
    uint64_t now_ns, gap_ns;
    uint64_t asked; /* requests so far */
    struct meter *meter;
    bool stepping;
    uint64_t steps;

    uint8_t expected;   /* code of the answers */
    unsigned answers;   /* in this window */
    unsigned wrong;     /* of them, with another code */
    uint64_t ids, sums; /* sums of what tells answers apart, as asked and as answered */

    struct datagram in[LOAD_WINDOW_MAX];
    struct load_packet packets[LOAD_WINDOW_MAX]; /* what `in` points to */
    struct load_packet up[LOAD_WINDOW_MAX];      /* requests to the origin */
    unsigned up_count;
    struct devices devices; /* with DTLS */
    bool connecting;
    unsigned client_of[LOAD_WINDOW_MAX];  /* whose packet is in `in` */
    unsigned request_bytes, answer_bytes; /* of messages, with DTLS: the latest ones */
    struct load_packet state;             /* of observe: the request that observes */
    uint32_t number;                      /* of observe: of the latest notification */
};

extern struct load load;

/* Around what is measured. */
void load_measure(void);
void load_measured(void);

/* Gives the first `n` packets to the worker, a burst a turn. A function of its own, for profilers
 * that can be told to look at it alone. */
__attribute__((noinline)) void load_turns(unsigned n);

/* Says what went wrong, and what the worker has counted. */
void load_fail(const char *what, unsigned wanted);

/* Prepares and handles one window of requests. False when an answer was wrong or missing. */
bool load_window(unsigned n);

/* What tells an answer from others: its token, or the message ID of a RST. */
uint64_t load_identity(const uint8_t *data);

/* secure.c: whether it is over DTLS; opens and checks what came out of the worker. */
bool secure_is(enum load_kind kind);
void secure_take(void);

/* The two operations of OpenSSL that an exchange over DTLS cannot do without: a message as long as
 * a request is opened, and one as long as its answer sealed, with keys that are always the same. Of
 * the load that is under way. alone_begin(): 0 or -1, which has been said; alone_run(): false when
 * OpenSSL fails; alone_step(): instructions, or negative. */
int alone_begin(void);
void alone_end(void);
bool alone_run(uint64_t count, struct meter *meter);
double alone_step(unsigned count);

/* observe.c: registers all clients; as many states to all of them as
 * it takes until one was confirmable. The latter gives the number of
 * notifications, 0 when one was wrong or missing. */
bool observe_register(void);
uint64_t observe_states(void);
void observe_sink(const struct flow *flow, const uint8_t *data, uint16_t length);

#endif
