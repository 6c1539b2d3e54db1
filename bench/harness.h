/* One worker in this process, driven from memory: for benchmarks that measure the core without a
 * device.
 *
 * What the worker sends is written into a few buffers that are used in turn, as those of a device
 * are, and shown to the caller's sink during the call that sends it. One thread; one worker at a
 * time. */
#ifndef COAPGW_BENCH_HARNESS_H
#define COAPGW_BENCH_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "gateway/coap/message.h"
#include "gateway/worker.h"

#define HARNESS_BURST    32  /* datagrams of one turn, as the lcore loop receives them */
#define HARNESS_REQUEST  256 /* room for one request of harness_request(), bytes */
#define HARNESS_CLIENTS  4000000
#define HARNESS_START_US UINT64_C(1000000000) /* where the worker's time begins */

/* Called for each datagram that the worker sends; `data` is good during the call only. It must not
 * call the worker. */
typedef void harness_sink(const struct flow *flow, const uint8_t *data, uint16_t length);

/* Starts DPDK with `megabytes` of memory, from huge pages or not, under a name that no other
 * process has. 0, or -1 when it does not start: DPDK has said why. Once in a process. */
int harness_begin(const char *name, unsigned megabytes, bool huge);
void harness_end(void);

/* A worker with this configuration, whose time begins at `now_us`. NULL when that fails; why is on
 * stderr. */
struct worker *harness_worker(const char *yaml, harness_sink *sink, uint64_t now_us);
void harness_worker_end(struct worker *w);

/* The n-th client, n < HARNESS_CLIENTS, at the first listener: 10.1.0.0/16 and what follows. */
struct flow harness_client(unsigned n);
/* Which of them a flow is of; a number above all of them when it is nobody's. */
unsigned harness_client_of(const struct flow *flow);

/* One datagram from `flow`. */
void harness_give(struct worker *w, const struct flow *flow, const uint8_t *data, size_t length,
                  uint64_t now_us);

static inline uint16_t harness_mid(const uint8_t *message)
{
    return (uint16_t)(message[2] << 8 | message[3]);
}

/* What a client asks. */
struct harness_request {
    enum message_type type;
    uint8_t code;
    uint16_t mid;
    uint32_t token; /* 4 bytes of it */
    bool observe;
    const char *path, *path2; /* segments; `path2` may be NULL */
    const void *payload;
    size_t payload_length;
};

/* Encodes it into `out`, HARNESS_REQUEST bytes plus its payload. Returns the length. */
size_t harness_encode(uint8_t *out, const struct harness_request *request);

/* A number from `low` to `high` from the command line; ends the process with code 2 and says what
 * to write when it is none. */
unsigned long harness_number(const char *program, const char *name, const char *text,
                             unsigned long low, unsigned long high);

#endif
