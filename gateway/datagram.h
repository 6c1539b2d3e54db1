/* What goes into a worker and comes out of it: UDP payloads with the flow that they belong to.
 *
 * This is all that the core knows of devices. The lcore loop implements it with mbufs, the
 * simulator with plain memory. */
#ifndef COAPGW_GATEWAY_DATAGRAM_H
#define COAPGW_GATEWAY_DATAGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/net.h"
#include "gateway/parcel.h"

#define WORKER_BURST 64 /* the most datagrams of one call */

/* A UDP payload that came in. The caller owns it; the worker reads `data` during the call only and
 * keeps no pointer into it. */
struct datagram {
    const uint8_t *data;
    uint16_t length;
    bool multicast;   /* was sent to a group; flow.local is the address to answer from */
    struct flow flow; /* as of the local end: `peer` is the sender */
};

/* An outgoing buffer: room for one UDP payload of at least the MTU less the IP and UDP headers. */
struct outgoing {
    uint8_t *data;
    uint16_t room;
    bool summed;  /* `sum` holds checksum_bytes() of the message; alloc() says false */
    uint64_t sum; /* spares the emitter reading what was just written, where it is known */
    void *buffer; /* the emitter's; never NULL */
};

/* How a worker emits. Calls come from the worker's own thread, from within worker_*() only. */
struct worker_io {
    void *context;

    /* A buffer for one datagram of `flow`, or false when none is free. What is allocated is either
     * sent or cancelled before the worker_*() call returns. */
    bool (*alloc)(void *context, const struct flow *flow, struct outgoing *out);
    void (*send)(void *context, const struct flow *flow, struct outgoing *out, uint16_t length);
    void (*cancel)(void *context, struct outgoing *out);

    /* The n-th upstream port (n from 0) that belongs to this worker for replies from `server` to
     * local address `local`; 0 when there is no n-th one. The same n gives the same port. Replies
     * to it must reach this worker, on whatever queue they arrive. */
    uint16_t (*upstream_port)(void *context, uint16_t local, const struct endpoint *server,
                              unsigned n);

    /* Asks for the addresses of a host name, which is not a literal: `length` bytes, up to 255,
     * lower case. The answer comes through worker_resolved() with the same `id`, at any later time.
     * False when it cannot be asked now. NULL: there is no resolver. */
    bool (*resolve)(void *context, const char *name, size_t length, uint32_t id);

    /* Tells all other workers that a resource has been changed through this one, so that none gives
     * out what it has stored of it: they get `uri` by worker_changed(), soon. NULL: there are none.
     */
    void (*changed)(void *context, uint64_t uri);

    /* Gives a parcel to another worker, by its index, or to PARCEL_STORE or PARCEL_CONTROL. It gets
     * there by its worker_told(), soon, and in order. False when that ring is full, or nobody is
     * there: the parcel is the caller's still. room() is how many more another worker would
     * take now; 0 for the others. NULL, and `parcels` NULL: there is nobody but this worker. */
    bool (*tell)(void *context, unsigned to, struct parcel *parcel);
    unsigned (*room)(void *context, unsigned to);
    struct rte_mempool *parcels;
};

/* What a resolver found. */
#define RESOLVED_MAX 8
struct resolved {
    uint32_t id;
    int error; /* 0; -ENOENT: there is no such name; -ETIMEDOUT; -EIO: any other failure */
    uint32_t ttl_s;
    unsigned count;
    struct address addresses[RESOLVED_MAX];
};

#endif
