/* What the files of the DTLS client share; for nobody else but its unit test. */
#ifndef COAPGW_TESTS_DTLS_PEER_PARTS_H
#define COAPGW_TESTS_DTLS_PEER_PARTS_H

#include "tests/dtls/peer.h"

#define DTLS_1_0          0xfeff
#define DTLS_1_2          0xfefd
#define RANDOM_BYTES      32
#define HASH_BYTES        32
#define VERIFY_BYTES      12
#define COOKIE_MAX        255
#define RECORD_HEADER     13
#define MESSAGE_HEADER    12
#define MESSAGE_MAX       8192 /* a server's handshake message */
#define MESSAGES_AHEAD    8
#define SEQUENCE_LIMIT    (1ull << 48)
#define AAD_MAX           (8 + 1 + 1 + 1 + 2 + 8 + 255 + 2)
#define RETRANSMIT_MAX_US 60000000u /* RFC 6347 4.2.4.1 */
#define NO_CHANGE         0xff

enum message_kind {
    HELLO_REQUEST = 0,
    CLIENT_HELLO = 1,
    SERVER_HELLO = 2,
    HELLO_VERIFY_REQUEST = 3,
    NEW_SESSION_TICKET = 4,
    SERVER_KEY_EXCHANGE = 12,
    SERVER_HELLO_DONE = 14,
    CLIENT_KEY_EXCHANGE = 16,
    FINISHED = 20,
};

enum alert_description {
    ALERT_CLOSE_NOTIFY = 0,
    ALERT_UNEXPECTED_MESSAGE = 10,
    ALERT_HANDSHAKE_FAILURE = 40,
    ALERT_ILLEGAL_PARAMETER = 47,
    ALERT_DECODE_ERROR = 50,
    ALERT_DECRYPT_ERROR = 51,
    ALERT_PROTOCOL_VERSION = 70,
    ALERT_INTERNAL_ERROR = 80,
    ALERT_UNSUPPORTED_EXTENSION = 110,
};

/* ---- bytes ---- */

/* Grows; once memory is out, `failed` stays set and nothing is added. */
struct bytes {
    uint8_t *data;
    size_t length, room;
    bool failed;
};

void peer_bytes_put(struct bytes *b, const void *data, size_t length);
void peer_bytes_put_number(struct bytes *b, uint64_t value, unsigned width); /* big endian */
void peer_bytes_clear(struct bytes *b);                                      /* keeps the memory */
void peer_bytes_free(struct bytes *b);

void peer_number_write(uint8_t *at, uint64_t value, unsigned width);
uint64_t peer_number_read(const uint8_t *at, unsigned width);

/* A cursor with a sticky error. */
struct reader {
    const uint8_t *at, *end;
    bool failed;
};

const uint8_t *peer_reader_take(struct reader *r, size_t length); /* NULL when it runs over */
uint64_t peer_reader_number(struct reader *r, unsigned width);
/* What follows its own length of `width` bytes. */
struct reader peer_reader_vector(struct reader *r, unsigned width);
static inline size_t reader_left(const struct reader *r)
{
    return (size_t)(r->end - r->at);
}

/* ---- peer_crypto.c ---- */

struct suite {
    uint16_t id;
    uint8_t index, key_bytes, iv_bytes, explicit_bytes, tag_bytes;
    const char *name;
};

const struct suite *peer_suite_find(uint16_t id); /* NULL: unknown */

struct aead_call {
    const uint8_t *key;
    uint8_t nonce[PEER_IV_MAX];
    const uint8_t *aad;
    size_t aad_length;
};

/* `out` gets `length` bytes and the whole tag. 0 or -EIO. */
int peer_aead_seal(struct peer_crypto *crypto, const struct suite *suite,
                   const struct aead_call *call, const uint8_t *plain, size_t length, uint8_t *out);
/* `length` counts the tag; the plaintext is shorter by it. 0 or -EBADMSG. */
int peer_aead_open(struct peer_crypto *crypto, const struct suite *suite,
                   const struct aead_call *call, const uint8_t *sealed, size_t length,
                   uint8_t *out);

/* PRF of TLS 1.2 with SHA-256 (RFC 5246 5). 0 or -EIO. */
int peer_prf(struct peer_crypto *crypto, const uint8_t *secret, size_t secret_length,
             const char *label, const uint8_t *seed, size_t seed_length, uint8_t *out,
             size_t length);
int peer_hash(struct peer_crypto *crypto, const uint8_t *data, size_t length,
              uint8_t out[HASH_BYTES]);

/* Salt and explicit part, or the IV mixed with the number (RFC 7905 2). */
void peer_nonce_write(const struct suite *suite, const uint8_t *iv, uint64_t number,
                      uint8_t nonce[PEER_IV_MAX]);

/* ---- peer_record.c ---- */

/* What the header of a received record says. */
struct record_view {
    uint8_t type;
    uint16_t version, epoch;
    uint64_t sequence;
    const uint8_t *cid;
    uint8_t cid_length;
    const uint8_t *fragment;
    size_t length;
};

/* Additional data of the AEAD: RFC 5246 6.2.3.3, or RFC 9146 5.3 for type PEER_CID. Its length. */
size_t peer_record_aad(const struct record_view *r, size_t plain_length, uint8_t aad[AAD_MAX]);

/* Takes one record off a datagram; false at its end or where it is no record. */
bool peer_record_next(struct reader *datagram, uint8_t cid_length, struct record_view *r);

/* The content of a record of epoch 1: its length, and its real type; -EBADMSG. */
int peer_record_open(struct peer *p, const struct record_view *r, uint8_t *out, uint8_t *type);

/* Sends a record of its own under the next sequence number of an epoch; its bytes for peer_seal().
 */
void peer_record_fill(const struct peer *p, uint16_t epoch, uint8_t type, const void *content,
                      size_t length, struct peer_record *record);

/* Whether a sequence number is new, and that it has been seen (RFC 6347 4.1.2.6). */
bool peer_window_is_new(const struct peer_window *w, uint64_t sequence);
void peer_window_mark(struct peer_window *w, uint64_t sequence);

/* ---- the handshake ---- */

enum step { STEP_HELLO, STEP_DONE, STEP_FINISH };

/* A message of the server's that is put together from fragments. */
struct incoming {
    uint8_t *body; /* header of one whole fragment, and the body; NULL: nothing has come */
    uint8_t *map;  /* a bit for each byte that is there; behind the body */
    uint32_t length, have;
    uint8_t kind, epoch;
};

struct peer_handshake {
    enum step step;
    uint8_t random[RANDOM_BYTES], server_random[RANDOM_BYTES];
    uint8_t cookie[COOKIE_MAX];
    uint8_t cookie_length;
    bool changed;         /* the server's ChangeCipherSpec has come */
    bool ticket_promised; /* session_ticket in the ServerHello */
    uint16_t next_out, next_in;
    struct incoming incoming[MESSAGES_AHEAD]; /* by message sequence, modulo */
    struct bytes transcript;
    struct bytes flight;   /* the messages that we sent last */
    uint8_t flight_count;  /* how many they are */
    uint8_t change_before; /* the message that a ChangeCipherSpec goes before, or NO_CHANGE */
    uint8_t sent;          /* how often */
    uint32_t timeout_us;
};

/* peer_hello.c: ClientHello out; ServerHello and HelloVerifyRequest in. 0 or an alert to send. */
void peer_hello_write(struct peer *p, struct bytes *body);
int peer_hello_verify(struct peer *p, struct reader body);
int peer_hello_read(struct peer *p, struct reader body);

/* peer_keys.c. */
int peer_keys_master(struct peer *p); /* of a full handshake, with the ClientKeyExchange in it */
int peer_keys_expand(struct peer *p);
int peer_keys_finished(struct peer *p, const char *label, uint8_t out[VERIFY_BYTES]);

/* peer_flight.c */
void peer_flight_clear(struct peer *p);
/* Adds a message to the flight and, but for what the server forgets, to the transcript. */
void peer_flight_add(struct peer *p, enum message_kind kind, const struct bytes *body);
void peer_flight_change(struct peer *p); /* what is added later goes under epoch 1 */
void peer_flight_begin(struct peer *p, uint64_t now_us);
void peer_flight_repeat(struct peer *p);
/* Our ChangeCipherSpec and Finished once more, after the handshake. */
void peer_flight_last(struct peer *p);

/* peer_reassembly.c: takes what is in a handshake record. False when it is malformed. `old` is set
 * to the kind of a message that came again, else to -1. */
bool peer_reassembly_take(struct peer_handshake *h, const uint8_t *data, size_t length,
                          uint8_t epoch, int *old);
/* The next message in order, when it is whole; peer_reassembly_drop() then goes on behind it. */
struct incoming *peer_reassembly_next(struct peer_handshake *h);
void peer_reassembly_drop(struct peer_handshake *h);
void peer_reassembly_free(struct peer_handshake *h);

/* peer_handshake.c */
int peer_handshake_begin(struct peer *p, uint64_t now_us);
void peer_handshake_free(struct peer *p);
/* What has come: a record of type handshake, or the ChangeCipherSpec. */
void peer_handshake_take(struct peer *p, const uint8_t *data, size_t length, uint8_t epoch,
                         uint64_t now_us);
void peer_handshake_change(struct peer *p, uint64_t now_us);

/* peer.c */
void peer_fail(struct peer *p, int error, int alert); /* alert 0: none is sent */
void peer_random(struct peer *p, uint8_t *out, size_t length);
int peer_send(struct peer *p, uint16_t epoch, uint8_t type, const void *content, size_t length);

#endif
