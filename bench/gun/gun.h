/* coapgun: what is asked of it, and what comes of it.
 *
 * One thread does everything. Many simulated devices, each with an address, a port and message IDs
 * of its own, send requests; a token holds the place of its request in the table of outstanding
 * ones and a sequence number, so that an answer is matched without a search, and late or repeated
 * answers are told apart.
 *
 *   options -> plan (which request comes next) -> engine (outstanding requests, answers, observers,
 *   the origin) -> carrier (a DPDK device, or the kernel's sockets) -> report */
#ifndef COAPGW_BENCH_GUN_H
#define COAPGW_BENCH_GUN_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/gun/histogram.h"
#include "gateway/net.h"

#define GUN_WINDOW_MAX     65536
#define GUN_ENDPOINTS_MAX  4000000
#define GUN_OBSERVERS_MAX  4000000
#define GUN_PATHS_MAX      1024
#define GUN_PAYLOAD_MAX    65536
#define GUN_STEPS_MAX      64
#define GUN_HANDSHAKES_MAX 65536
#define GUN_KEY_MAX        64
#define GUN_FAULT          200

/* What a request is for. GUN_OBSERVE registers and cancels again; GUN_BLOCK is a GET whose answer
 * is fetched block by block. */
enum gun_kind { GUN_GET, GUN_POST, GUN_PUT, GUN_DELETE, GUN_OBSERVE, GUN_BLOCK, GUN_KINDS };

extern const char *const gun_kind_names[GUN_KINDS];

/* A path and what it is used for. */
struct gun_path {
    char *text; /* "/a/b?c", with at most one %u */
    uint32_t weight;
    int8_t kind; /* enum gun_kind, or -1 for each that the mix has */
};

enum gun_mode { GUN_CLOSED, GUN_OPEN, GUN_RAMP };

struct gun_options {
    const char *device; /* memif:SOCKET, tap:NAME, af_packet:IF, af_xdp:IF or vdev:ARGS ... */
    bool kernel;        /* ... or else the kernel's sockets */
    int core;           /* -1: any */
    uint32_t queues;    /* of the device, that are used in turn */
    bool huge;          /* memory from huge pages */
    bool source_given;
    struct address source; /* the first endpoint's */
    unsigned source_bits;  /* the subnet that all sources must lie in; 0: not given */
    struct endpoint target;
    struct address via; /* the next hop; unspecified: the target itself */
    struct gun_path *paths;
    unsigned path_count;
    const char *paths_file;
    uint32_t spread;         /* numbers for %u are below it */
    uint32_t mix[GUN_KINDS]; /* shares */
    bool mix_given;          /* otherwise the paths say it */
    unsigned con_percent;    /* of the requests */
    uint32_t payload_bytes;  /* of POST and PUT */
    int block_szx;           /* -1: not given */
    const char *expect;      /* payload that every answer to a GET must have, or NULL */
    bool raw;                /* whatever comes back with our token is an answer: for reflectors */
    bool retransmit;         /* with the timing of RFC 7252 4.2 */
    uint32_t endpoints;
    uint32_t observers;
    enum gun_mode mode;
    uint32_t window;           /* GUN_CLOSED; 0: no requests */
    double rate;               /* GUN_OPEN, requests/s */
    double ramp_from, ramp_to; /* GUN_RAMP */
    unsigned ramp_steps;       /* of the bisection */
    double loss_percent;       /* that a step of the ramp may have */
    double warmup_s, duration_s;
    uint32_t timeout_ms;
    bool origin_given;
    struct endpoint origin;
    uint32_t origin_payload_bytes, origin_max_age_s;
    double notify_rate; /* states/s of each path that is observed at the origin */
    const char *target_text;
    char *identity; /* DTLS with a pre-shared key; may hold one %u; NULL: plain CoAP */
    uint8_t key[GUN_KEY_MAX];
    uint8_t key_length;
    uint16_t suite;        /* by its IANA number */
    bool cid;              /* a Connection ID is offered ... */
    uint8_t cid_length;    /* ... of so many bytes for what comes to us */
    bool secure_given;     /* an option that is for DTLS alone */
    uint32_t handshakes;   /* that go on at a time */
    double handshake_rate; /* begun in a second at most; 0: no limit */
    const char *json;      /* file, or NULL */
    bool progress;
    char *command; /* the whole command line */
};

/* What came of DTLS: the handshakes before all else, and the records of the whole run. */
struct gun_security {
    uint64_t done, failed;
    double seconds;              /* all of them together */
    double bytes_each;           /* memory that associations take, of what is resident */
    char fault[GUN_FAULT];       /* the first one that failed, and why */
    struct histogram latency_ns; /* from the first ClientHello */
    uint64_t refused;            /* records that were not authentic, came twice, or had no place */
    uint64_t closed;             /* associations that the target ended */
};

/* What was counted of the requests that were due in the measured time, whenever their answers came;
 * sent = answered + timeouts + resets. */
struct gun_result {
    double offered;    /* requests/s of an open loop; 0 in a closed one */
    double seconds;    /* the measured time */
    uint64_t cycles;   /* TSC cycles of it */
    uint64_t received; /* answers that came within it: the rate */
    uint64_t sent, answered, timeouts, resets;
    uint64_t unsent;     /* were due, and could not be sent in time */
    uint64_t wrong;      /* answers and other messages that should not be */
    uint64_t late;       /* answers to requests that had been given up */
    uint64_t duplicates; /* answers to requests that had been answered */
    uint64_t unexpected; /* messages that belong to nothing: they were reset */
    uint64_t declined;   /* registrations that were answered without Observe */
    uint64_t messages;   /* that were sent for these requests; more than one for block-wise ones */
    uint64_t retransmits, pings;
    uint64_t body_bytes; /* of block-wise transfers that were complete */
    uint64_t by_kind[GUN_KINDS];
    uint64_t by_code[256];
    uint64_t behind_ns;          /* the longest that a request of an open loop was sent late */
    bool mids_repeated;          /* the server may have taken requests for repeated ones */
    struct histogram latency_ns; /* unanswered ones with the whole timeout */

    uint64_t registered, refused;  /* observers, from the start */
    uint64_t notifications, stale; /* in the measured time */
    struct histogram notify_ns;    /* from the state at the origin (--origin) */
    uint64_t origin_requests, origin_notifications, origin_registrations; /* measured time */
    const struct gun_security *security;                                  /* NULL without DTLS */
};

/* One step of a ramp. */
struct gun_step {
    double offered, reached, loss; /* requests/s, answers/s, share */
    uint64_t p50_ns, p99_ns;
    bool good;
};

struct gun_ramp {
    unsigned count;
    struct gun_step steps[GUN_STEPS_MAX];
};

/* The share of the requests that were due and got no answer. */
double gun_loss(const struct gun_result *r);
double gun_rate(const struct gun_result *r);

#endif
