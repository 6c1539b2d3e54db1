/* A DTLS 1.2 client for tests (RFC 6347) with pre-shared keys (RFC 4279) and Connection IDs
 * (RFC 9146). It is written from the RFCs and shares nothing with the gateway, so that both cannot
 * have the same mistake; of OpenSSL it uses the primitives only (libcrypto).
 *
 * A struct peer is one association as a pure state machine: no socket and no clock. The owner hands
 * it datagrams and the time, and is called back with datagrams to send. Between peer_init() and
 * peer_free() it belongs to one thread, as does the struct peer_crypto that many peers share. It
 * takes less than 512 bytes once it is established, and its ticket; what only a handshake needs is
 * allocated for its duration.
 *
 * All times are microseconds of any clock that does not go back. All callbacks come from within a
 * function that the owner called. They may call peer_write() and whatever takes a const peer, and
 * nothing else: a datagram that is answered at once has to wait until the outer call is back. */
#ifndef COAPGW_TESTS_DTLS_PEER_H
#define COAPGW_TESTS_DTLS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As registered (RFC 6655, RFC 5487, RFC 7905). */
#define PEER_SUITE_CCM8   0xc0a8
#define PEER_SUITE_GCM    0x00a8
#define PEER_SUITE_CHACHA 0xccab
#define PEER_SUITES       3

#define PEER_OWN_CID_MAX    16 /* the longest one that we ask the server to write */
#define PEER_SERVER_CID_MAX 64 /* the longest one that is taken from a server */
#define PEER_KEY_MAX        32
#define PEER_IV_MAX         12
#define PEER_MASTER_BYTES   48
#define PEER_SESSION_ID_MAX 32
#define PEER_CONTENT_MAX    16384 /* RFC 6347 4.1 */
/* What n bytes become at most: header, CID, nonce, type, padding, tag. */
#define PEER_RECORD_ROOM(n) ((n) + 13 + 255 + 8 + 1 + 255 + 16)
#define PEER_RECORD_MAX     PEER_RECORD_ROOM(PEER_CONTENT_MAX)

enum peer_type {
    PEER_CHANGE_CIPHER_SPEC = 20,
    PEER_ALERT = 21,
    PEER_HANDSHAKE = 22,
    PEER_APPLICATION = 23,
    PEER_CID = 25, /* tls12_cid: the real type is within (RFC 9146 4) */
};

enum peer_state {
    PEER_IDLE,
    PEER_CONNECTING,
    PEER_ESTABLISHED,
    PEER_CLOSED, /* by a close_notify of either side */
    PEER_FAILED, /* peer_error() says why */
};

/* Why a record was left alone. */
enum peer_refusal {
    PEER_REFUSED_FORM,   /* header: short, overrun, version, type */
    PEER_REFUSED_CID,    /* another CID than agreed, none where one is agreed, or the reverse */
    PEER_REFUSED_EPOCH,  /* an epoch that is over or has no keys yet */
    PEER_REFUSED_REPLAY, /* seen before, or behind the window */
    PEER_REFUSED_TAG,    /* not authentic */
    PEER_REFUSED_STATE,  /* of a type that has no place in this state, or a broken message */
    PEER_REFUSALS
};

/* The AEAD contexts of a thread, which all peers share and key as they need them, and the digest
 * and the KDF: 2 MB at most. NULL when there is no memory or libcrypto lacks an algorithm. */
struct peer_crypto;
struct peer_crypto *peer_crypto_create(void);
void peer_crypto_destroy(struct peer_crypto *crypto);

struct peer_events {
    void (*send)(void *context, const uint8_t *datagram, size_t length);
    void (*deliver)(void *context, const uint8_t *data, size_t length);
    void (*alert)(void *context, uint8_t level, uint8_t description); /* received; may be NULL */
    void (*established)(void *context);                               /* may be NULL */
    void (*random)(void *context, uint8_t *bytes, size_t length);     /* NULL: RAND_bytes() */
};

/* What resumes a session (RFC 5246 7.3, RFC 5077). */
struct peer_session {
    uint16_t suite;
    bool extended; /* its master secret is extended (RFC 7627) */
    uint8_t id_length;
    uint8_t id[PEER_SESSION_ID_MAX];
    uint8_t master[PEER_MASTER_BYTES];
    uint16_t ticket_length;
    const uint8_t *ticket;
};

/* Zero is the usual choice for all but crypto, events, identity and key. peer_init() copies it;
 * identity, key and session have to stay until the peer is established. */
struct peer_setup {
    struct peer_crypto *crypto;
    const struct peer_events *events;
    void *context; /* of the callbacks */
    const uint8_t *identity, *key;
    uint16_t identity_length, key_length; /* bytes; at most 1,024 and 256 */
    uint16_t suites[PEER_SUITES];         /* in order of preference; all zero: all three */
    bool offer_cid;
    uint8_t cid_length; /* of the CID that the server is to write; 0: it shall write none */
    uint8_t cid[PEER_OWN_CID_MAX];
    uint8_t padding;                    /* zeros in each record in CID form */
    bool plain_master;                  /* do not offer the extended master secret */
    bool scsv;                          /* the SCSV in place of renegotiation_info (RFC 5746) */
    bool offer_ticket;                  /* session_ticket, empty or with the session's */
    bool separate;                      /* each record in a datagram of its own */
    uint16_t fragment_bytes;            /* of our handshake messages, each in its own datagram */
    uint16_t datagram_bytes;            /* the longest one of a flight; 0: 1,200 */
    uint32_t retransmit_us;             /* the first timeout; 0: 1 s (RFC 6347 4.2.4.1) */
    uint8_t tries;                      /* how often a flight is sent at most; 0: 6 */
    const struct peer_session *session; /* to resume, or NULL */
};

struct peer_keys {
    uint8_t key[PEER_KEY_MAX];
    uint8_t iv[PEER_IV_MAX];
};

struct peer_window {
    uint64_t top, seen; /* bit i: top - i was seen */
};

struct peer_handshake;

/* For peer.c and its like; read it through the functions. */
struct peer {
    struct peer_setup setup;
    struct peer_handshake *handshake; /* while there is one */
    uint8_t *ticket;
    uint64_t write_sequence[2]; /* next one of epochs 0 and 1 */
    struct peer_window windows[2];
    uint64_t due_us; /* when the flight is repeated; UINT64_MAX: never */
    int error;
    uint32_t refused[PEER_REFUSALS];
    struct peer_keys write, read;
    uint16_t suite;
    uint16_t ticket_length;
    uint16_t finished_sequence; /* of our Finished, where it was the last message */
    uint8_t state;
    uint8_t write_epoch;
    bool extended, resumed, cid_agreed;
    bool ready;            /* the keys of epoch 1 are there */
    uint8_t verify_length; /* of `finished`; 0: the last message was the server's */
    uint8_t alert_sent;    /* description of the fatal one */
    uint8_t session_id_length, server_cid_length;
    uint8_t session_id[PEER_SESSION_ID_MAX];
    uint8_t master[PEER_MASTER_BYTES];
    uint8_t finished[12];
    uint8_t server_cid[PEER_SERVER_CID_MAX]; /* what we write */
};
_Static_assert(sizeof(struct peer) <= 512, "100,000 of them fit 50 MB");

/* 0, or -EINVAL for a setup that is not usable. */
int peer_init(struct peer *p, const struct peer_setup *setup);
void peer_free(struct peer *p);

/* Sends the ClientHello. 0; -EALREADY when it was called before; -ENOMEM. */
int peer_start(struct peer *p, uint64_t now_us);

/* One datagram from the server. What is wrong with it is counted and left alone. */
void peer_receive(struct peer *p, const uint8_t *datagram, size_t length, uint64_t now_us);

/* Repeats a flight that is due. Call it at peer_next_us() (UINT64_MAX: not at all), or whenever. */
void peer_advance(struct peer *p, uint64_t now_us);
uint64_t peer_next_us(const struct peer *p);

/* Sends application data. 0; -ENOTCONN when the peer is not established; -EMSGSIZE above
 * PEER_CONTENT_MAX; -EOVERFLOW once all sequence numbers are used. */
int peer_write(struct peer *p, const void *data, size_t length);

/* Sends a close_notify (RFC 5246 7.2.1); does nothing unless established. */
void peer_close(struct peer *p);

enum peer_state peer_state(const struct peer *p);
/* 0; of a failed peer -ETIMEDOUT (no answer), -ECONNREFUSED (a fatal alert came), -EPROTO (the
 * server broke the protocol; alert_sent tells how) or -ENOMEM. */
int peer_error(const struct peer *p);
uint32_t peer_refused(const struct peer *p); /* all reasons together */
const char *peer_suite_name(uint16_t suite); /* "ccm8", "gcm", "chacha"; NULL: unknown */

/* The session for a later peer_setup; the ticket points into this peer. False without one. */
bool peer_session_get(const struct peer *p, struct peer_session *session);

/* ---- for tests that look inside, and clients that misbehave ---- */

struct peer_export {
    uint16_t suite;
    bool extended, resumed, cid_agreed;
    uint8_t key_bytes, iv_bytes;
    struct peer_keys write, read;
    uint8_t master[PEER_MASTER_BYTES];
    uint64_t write_sequence[2]; /* the next ones */
    uint64_t read_top;          /* the newest one of epoch 1 that was taken */
    uint8_t server_cid_length;
    uint8_t server_cid[PEER_SERVER_CID_MAX];
};

void peer_export(const struct peer *p, struct peer_export *out);

/* A record, right or wrong. peer_record() fills in what peer_write() would send next; a test then
 * changes what it likes. */
struct peer_record {
    uint8_t type;       /* the real one; in CID form it is within */
    uint8_t outer_type; /* in the header: PEER_CID makes it one in CID form */
    bool protect;       /* false: in the clear */
    uint16_t version;   /* 0xfefd */
    uint16_t epoch;
    uint64_t sequence; /* 48 bits */
    uint64_t nonce;    /* the explicit part, or what the IV is mixed with: epoch and sequence */
    uint8_t cid_length;
    uint8_t cid[255];
    uint8_t padding;   /* zeros behind the real type, in CID form */
    uint8_t tag_bytes; /* fewer: the tag is cut */
    int length_error;  /* is added to the length in the header */
    struct peer_keys keys;
    const uint8_t *content;
    size_t length;
};

void peer_record(const struct peer *p, uint8_t type, const void *content, size_t length,
                 struct peer_record *record);

/* Writes a record that is not sent, and uses no sequence number up. The number of bytes; -EMSGSIZE
 * when it does not fit; -EINVAL when the peer has no suite yet and the record is to be protected.
 */
int peer_seal(const struct peer *p, const struct peer_record *record, uint8_t *out, size_t room);

/* The sequence numbers of peer_write() go on by so many. */
void peer_skip(struct peer *p, uint64_t count);

#endif
