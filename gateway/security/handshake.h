/* Handshakes of DTLS 1.2 by OpenSSL, without its sockets, its clock and its record layer.
 *
 * OpenSSL makes and reads the messages. What lies between it and the wire is done here: records are
 * given to it one at a time; what it writes is kept as plaintext, numbered here, cut into
 * datagrams, and repeated by the worker's time (RFC 6347 4.2.4); records with a Connection ID (RFC
 * 9146) are translated both ways. So OpenSSL is needed until the handshake is done, and no longer.
 *
 * A struct handshakes belongs to one worker, and so does what is made of it; no locking. OpenSSL
 * allocates: no part of the packet path, but for hello_verify(). Nothing calls back but ops.send().
 *
 * A server's association begins so:
 *
 *   hello_check()       HELLO_VERIFY: send what it wrote, keep nothing. HELLO_GOOD: unless it is
 *                       handshake_began_with() of one that goes on for this flow,
 *   handshake_accept()  and give it the same datagram:
 *   handshake_feed()    each datagram, until DONE or FAILED; handshake_timeout() when it is due
 *   handshake_outcome() the keys. Keep the handshake until the client has sent a record that opens
 *                       with them, or for HANDSHAKE_LINGER_US: it repeats its last flight when the
 *                       client repeats its own, if it is given what has the type "handshake" still.
 *   handshake_free() */
#ifndef COAPGW_GATEWAY_SECURITY_HANDSHAKE_H
#define COAPGW_GATEWAY_SECURITY_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "gateway/net.h"
#include "gateway/security/credentials.h"
#include "gateway/security/hello.h"
#include "gateway/security/principal.h"
#include "gateway/security/record.h"

#define HANDSHAKE_ROOM_MIN    228u  /* of a datagram: the smallest that OpenSSL makes flights for */
#define HANDSHAKE_ROOM_MAX    2048u /* more is not used */
#define HANDSHAKE_FIRST_US    (UINT64_C(1) * 1000000) /* RFC 6347 4.2.4.1 */
#define HANDSHAKE_LAST_US     (UINT64_C(60) * 1000000)
#define HANDSHAKE_REPEATS     6u /* of a flight by time, before it is given up */
#define HANDSHAKE_LIFE_US     (UINT64_C(180) * 1000000) /* whatever happens */
#define HANDSHAKE_LINGER_US   (2 * HANDSHAKE_LAST_US)
#define HANDSHAKE_CID_BYTES   8u
#define HANDSHAKE_SPARE       16u /* sequences kept back for repeating the last flight */
#define HANDSHAKE_ERROR_BYTES 96u

struct handshake;
struct handshakes; /* of a worker */

struct handshake_ops {
    void *context;
    /* A datagram to the peer, at most as long as the handshake's `room`. Must not free it. */
    void (*send)(void *context, struct handshake *h, const uint8_t *datagram, size_t length);
};

struct handshakes_setup {
    unsigned max; /* at once, 1 to 2^20 */
    struct handshake_ops ops;
    uint8_t seed[HELLO_SEED_BYTES]; /* of the cookies */
};

/* NULL when memory is short. All handshakes must have been freed before it is destroyed. */
struct handshakes *handshakes_create(const struct handshakes_setup *setup);
void handshakes_destroy(struct handshakes *all);
unsigned handshakes_used(const struct handshakes *all);

/* hello_verify() with the worker's secrets. */
enum hello_verdict hello_check(struct handshakes *all, const struct flow *wire, const uint8_t *data,
                               size_t length, uint64_t now_us, uint8_t out[HELLO_VERIFY_BYTES],
                               size_t *out_length);

/* Sets what a context needs for handshakes here: credentials_context() has set the rest. Once is
 * enough; accept and connect see to it. 0 or -ENOMEM. */
int handshake_prepare(SSL_CTX *context);

struct handshake_setup {
    const struct credentials_side *side; /* must outlive the handshake */
    unsigned worker;
    uint64_t own_cid;        /* in network order on the wire; 0: the peer is told to send none */
    bool cid_wanted;         /* Connection IDs are negotiated when the peer wants them, too */
    uint16_t room;           /* bytes of a datagram */
    const char *server_name; /* a client's: whom the certificate must name, and what the server is
                                told to choose one by (RFC 6066 3); NULL: what the side expects */
    void *owner;             /* handshake_owner() */
};

/* A server's, for a ClientHello that was HELLO_GOOD; nothing happens before it is fed. NULL: the
 * pool is empty (-ENOBUFS in `error`), memory is short (-ENOMEM), or the room is below the least
 * (-EMSGSIZE). */
struct handshake *handshake_accept(struct handshakes *all, const struct handshake_setup *setup,
                                   uint64_t now_us, int *error);

/* A client's, towards `server`, whose certificate must name what the side expects; the first
 * flight goes at once. The same errors. */
struct handshake *handshake_connect(struct handshakes *all, const struct handshake_setup *setup,
                                    const struct address *server, uint64_t now_us, int *error);

void *handshake_owner(const struct handshake *h);
void handshake_set_owner(struct handshake *h, void *owner);
const struct credentials_side *handshake_side(const struct handshake *h);

enum handshake_state {
    HANDSHAKE_GOING,
    HANDSHAKE_NEEDS_KEY, /* of handshake_identity(); handshake_give_key() goes on */
    HANDSHAKE_DONE,
    HANDSHAKE_FAILED, /* the alert has gone out, if there is one; to be freed */
};
enum handshake_state handshake_state(const struct handshake *h);

/* One datagram of the peer, in wire form: its records one after the other. What is not authentic,
 * out of turn or nothing is dropped. Records of an association that exist beside are none of it.
 * While a key is awaited records are kept, up to a small limit. Application data is left alone:
 * when it ends DONE, handshake_left() says what of this very datagram is the association's. */
enum handshake_state handshake_feed(struct handshake *h, const uint8_t *data, size_t length,
                                    uint64_t now_us);
size_t handshake_left(const struct handshake *h);

/* When it is due, UINT64_MAX: never. At that time handshake_timeout() repeats the flight, or gives
 * up. DONE: at the end of HANDSHAKE_LINGER_US nothing is repeated any more, and it is to be freed
 * (the due time tells it from DONE before: it is UINT64_MAX then). */
uint64_t handshake_due_us(const struct handshake *h);
enum handshake_state handshake_timeout(struct handshake *h, uint64_t now_us);

/* The client's identity, a text of 1 to PRINCIPAL_MAX bytes, while its key is awaited: it is not in
 * the listener's file. */
const uint8_t *handshake_identity(const struct handshake *h, size_t *length);

/* The key, 1 to PSK_KEY_MAX bytes, which is copied; length 0: there is none, which the client is
 * told by an alert. */
enum handshake_state handshake_give_key(struct handshake *h, const uint8_t *key, size_t length,
                                        uint64_t now_us);

/* How heavy the next step is likely to be, in units of a step without public-key work: 1 with
 * pre-shared keys, more with certificates or ECDHE. */
unsigned handshake_weight(const struct handshake *h);

/* `data` is the ClientHello that this one began with, again. */
bool handshake_began_with(const struct handshake *h, const uint8_t *data, size_t length);

struct handshake_outcome {
    uint16_t cipher_suite; /* IANA number */
    uint8_t suite;         /* enum suite */
    bool resumed;
    bool extended_master_secret; /* RFC 7627 */
    struct record_key in, out;   /* epoch 1; to be wiped by who gets them */
    uint64_t next_sequence;      /* of what we send; above all that the handshake will use */
    struct record_window window; /* of what was received */
    bool cid_in;                 /* the peer's records carry our Connection ID */
    bool cid_out;                /* ours carry the peer's */
    uint8_t peer_cid_length;     /* 1 to RECORD_CID_MAX with cid_out */
    uint8_t peer_cid[RECORD_CID_MAX];
    struct principal principal; /* of the peer */
};

/* 0, or -EAGAIN unless DONE. */
int handshake_outcome(const struct handshake *h, struct handshake_outcome *out);

/* Why it failed, without secrets; "" unless FAILED. handshake_alert(): the alert that ended it,
 * negative when it is the peer's (-1 - number), 0: none. */
const char *handshake_error(const struct handshake *h);
int handshake_alert(const struct handshake *h);

/* At any time but from within ops.send(). Wipes the keys; sends nothing. */
void handshake_free(struct handshake *h);

#endif
