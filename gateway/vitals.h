/* What the machinery around the workers says of itself: for metrics and health. dpdk/ fills it in;
 * gateway/control/ reads it, and so need not know dpdk/. */
#ifndef COAPGW_GATEWAY_VITALS_H
#define COAPGW_GATEWAY_VITALS_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/counters.h"

/* How the loop of a worker's core spends its time. */
struct worker_load {
    uint64_t turns, busy_turns, sleeps;
    uint64_t busy_us;     /* in turns that did something */
    uint64_t idle_us;     /* in turns that did not, sleep included */
    uint64_t longest_us;  /* the longest turn that did something */
    uint64_t turn_age_us; /* since the turn under way began: it grows where a loop stands still */
};

/* What a device counts. */
struct port_figures {
    uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
    uint64_t rx_missed, rx_errors, tx_errors, rx_no_buffer;
};

/* Any thread may ask, at any time while the workers exist; nobody waits for a worker. */
struct vitals {
    const void *context;
    /* Adds what a worker and its core have counted to `sum`. */
    void (*counters)(const void *context, unsigned worker, struct counters *sum);
    void (*load)(const void *context, unsigned worker, struct worker_load *load);
    /* False when the device of this interface has no figures. */
    bool (*port)(const void *context, unsigned interface, struct port_figures *figures);
};

#endif
