/* Devices that speak DTLS to the worker of bench/harness.h: real handshakes by the tests' own
 * client, and then records by keys and numbers. Their requests are made and their answers opened
 * with a key set for each record, which costs; that is not to be measured. One thread. */
#ifndef COAPGW_BENCH_DEVICES_H
#define COAPGW_BENCH_DEVICES_H

#include "bench/harness.h"
#include "gateway/security/record.h"
#include "tests/dtls/peer.h"

#define DEVICES_DATAGRAM 1500
#define DEVICES_QUEUE    32
#define DEVICES_PORT     5684

struct device {
    struct record_key write, read;
    uint64_t sequence; /* the next one; 0: no association (a Finished has used that) */
};

struct devices {
    uint16_t number; /* the suite's, of IANA */
    enum suite suite;
    unsigned count;
    struct device *all;
    struct aead *aead;
    struct peer_crypto *crypto;
    char file[64]; /* of the identity and the key, for the configuration */
};

/* Makes the file, in /tmp. 0, or a negative errno that has been said. */
int devices_begin(struct devices *d, uint16_t number, unsigned count);
void devices_end(struct devices *d);

/* The n-th client at the listener for DTLS. */
struct flow devices_flow(unsigned n);

/* What a handshake is to begin with; the owner adds events and context. */
struct peer_setup devices_setup(const struct devices *d);

/* A handshake is done: its keys are the n-th device's. */
void devices_take(struct devices *d, unsigned n, const struct peer *peer);

/* Where a message lies in a packet, and the record around it: returns its length. */
unsigned devices_lead(const struct devices *d);
size_t devices_seal(struct devices *d, unsigned n, uint8_t *packet, size_t length);

/* The message in a record to the n-th device, into `out`: its length, or -EBADMSG. */
int devices_open(struct devices *d, unsigned n, const uint8_t *data, size_t length, uint8_t *out);

/* Does the handshakes of all, one after the other. What the worker sends meanwhile has to be handed
 * to devices_sink(). `*now_ns` goes on. 0, or a negative errno that has been said. */
int devices_connect(struct devices *d, struct worker *w, uint64_t *now_ns);
void devices_sink(const uint8_t *data, uint16_t length);

#endif
