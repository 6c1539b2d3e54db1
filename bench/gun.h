/* coapgun: the parts of the load generator.
 *
 * One lcore does everything: it keeps a window of requests outstanding, each answer letting the
 * next request go from another endpoint. A request's token holds its slot in the window and a
 * sequence number, so that an answer is matched without a search, and late or repeated answers are
 * told apart. */
#ifndef COAPGW_BENCH_GUN_H
#define COAPGW_BENCH_GUN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "gateway/net.h"

#define GUN_WINDOW_MAX    65536
#define GUN_ENDPOINTS_MAX 4000000
#define GUN_PORTS         60000 /* endpoints of one source address: ports from GUN_PORT_FIRST on */
#define GUN_PORT_FIRST    1024

struct gun_options {
    const char *device; /* memif:SOCKET, tap:NAME, af_packet:IF or vdev:ARGS */
    unsigned core;
    bool huge;             /* memory from huge pages */
    struct address source; /* the first endpoint's */
    unsigned source_bits;  /* the subnet that all sources must lie in; 0: not given */
    struct endpoint target;
    const char *path;   /* "/a/b" */
    const char *expect; /* payload that every answer must have, or NULL */
    bool confirmable;
    bool raw; /* whatever comes back with our token is an answer: for reflectors */
    uint32_t endpoints;
    uint32_t window;
    double warmup_s, duration_s;
    const char *json; /* file, or NULL */
};

/* Latencies in buckets whose width grows with the value: 1/32 of it. */
#define GUN_BUCKETS 2048
struct gun_histogram {
    uint64_t count[GUN_BUCKETS];
    uint64_t total, largest;
};

void gun_histogram_add(struct gun_histogram *h, uint64_t value);

/* The value that a share of all are at or below; 0 when there are none. */
uint64_t gun_histogram_at(const struct gun_histogram *h, double share);

struct gun_result {
    uint64_t sent, answered, timeouts, wrong;
    uint64_t late;       /* answers to requests that had been given up */
    uint64_t duplicates; /* answers to requests that had been answered */
    uint64_t by_code[256];
    bool mids_repeated; /* the server may have taken requests for repeated ones */
    double seconds;
    uint64_t cycles; /* TSC cycles of the measured time */
    struct gun_histogram latency_ns;
};

/* Sets the device up and runs the load on the calling lcore. 0, or a negative errno; what is wrong
 * has been said on stderr. */
int gun_run(const struct gun_options *options, uint16_t port, struct gun_result *result);

#endif
