/* What the files of secure.h share. */
#ifndef COAPGW_BENCH_GUN_SECURE_PARTS_H
#define COAPGW_BENCH_GUN_SECURE_PARTS_H

#include "bench/gun/secure.h"
#include "gateway/security/record.h"
#include "tests/dtls/peer.h"

#define SECURE_IDENTITY_MAX 256

enum association_state {
    ASSOCIATION_NONE,
    ASSOCIATION_CONNECTING,
    ASSOCIATION_OPEN,
    ASSOCIATION_CLOSED, /* by the target: what we send is for nothing, but goes */
    ASSOCIATION_FAILED,
};

struct association {
    struct record_key write, read;
    uint8_t state;
    bool cid_in;        /* records to us have our Connection ID */
    uint8_t cid_length; /* of the target's */
    uint64_t sequence;  /* the next one that we send; CONNECTING: index of the attempt */
    struct record_window window;
    uint8_t cid[RECORD_CID_MAX];
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct association) == 192, "three cache lines");

/* A handshake. */
struct attempt {
    struct secure *secure;
    uint32_t endpoint;
    bool used;
    uint8_t alert; /* the last one that came */
    uint64_t begun_ns;
    char identity[SECURE_IDENTITY_MAX];
    struct peer peer;
};

struct secure {
    struct carrier carrier;
    struct carrier *inner;
    const struct gun_options *o;
    enum suite suite;
    struct aead *aead;
    struct association *all; /* by endpoint */
    unsigned lead;           /* room that is left in front of a message */
    struct gun_security result;
    struct incoming in[CARRIER_BURST]; /* what the carrier had */

    struct peer_crypto *crypto;
    struct attempt *attempts; /* o->handshakes of them */
    uint32_t *free;           /* indices of those that nobody uses */
    uint32_t free_count, looked_at, next;
    uint64_t begun_ns, resident; /* `resident`: bytes at secure_open() */
    unsigned out_count;
    struct outgoing out[CARRIER_BURST];
};

/* secure_connect.c */
int secure_attempts_make(struct secure *s);
void secure_attempts_free(struct secure *s);
uint64_t secure_resident(void); /* bytes of this process */

#endif
