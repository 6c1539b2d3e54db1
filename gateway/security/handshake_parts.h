/* What the files of handshakes share; nobody else's business. See handshake.h.
 *
 *   bio.c              between OpenSSL and here: one record in, datagrams out
 *   handshake_flight.c what OpenSSL wrote, as plaintext: numbered, sealed, sent, sent again
 *   handshake_ssl.c    what OpenSSL asks for: keys by identity, extension 54; who the peer is
 *   handshake_key.c    a client's ClientKeyExchange, before OpenSSL gets it
 *   handshake.c        life, records of the peer, time */
#ifndef COAPGW_GATEWAY_SECURITY_HANDSHAKE_PARTS_H
#define COAPGW_GATEWAY_SECURITY_HANDSHAKE_PARTS_H

#include <openssl/bio.h>

#include "gateway/pool.h"
#include "gateway/security/handshake.h"

#define MESSAGE_HEADER_BYTES 12u
#define EXTENSION_CID        54 /* RFC 9146 */

enum message_type {
    MESSAGE_CLIENT_HELLO = 1,
    MESSAGE_SERVER_HELLO = 2,
    MESSAGE_CLIENT_KEY_EXCHANGE = 16,
    MESSAGE_FINISHED = 20,
};

enum alert {
    ALERT_BAD_RECORD_MAC = 20,
    ALERT_HANDSHAKE_FAILURE = 40,
    ALERT_BAD_CERTIFICATE = 42,
    ALERT_ACCESS_DENIED = 49,
    ALERT_UNKNOWN_PSK_IDENTITY = 115,
};
#define ALERT_FATAL 2

/* A longer ClientKeyExchange has an identity beyond what is served: it is refused unread. */
#define EXCHANGE_MAX 512u
#define KEPT_MAX     512u
#define FLIGHT_MAX   (32u << 10)

struct handshakes {
    struct handshake_ops ops;
    struct pool pool;
    struct hello_secrets *secrets;
    struct aead *aead;
    BIO_METHOD *bio;
    BIO_ADDR *nobody; /* DTLSv1_listen() wants one */
    uint8_t datagram[HANDSHAKE_ROOM_MAX];
    uint8_t record[RECORD_HEADER_BYTES + RECORD_BODY_MAX]; /* on its way to OpenSSL */
    uint8_t plain[RECORD_BODY_MAX];
};

/* A ClientKeyExchange with a pre-shared key's identity, put together from its fragments. */
struct exchange {
    uint64_t sequence; /* of the record that completed it */
    uint16_t length;   /* of the message; 0: nothing has come yet */
    uint16_t have;     /* bytes of it */
    uint16_t message_sequence;
    uint8_t identity_length; /* 0: none that could be served */
    bool given;              /* OpenSSL has it */
    uint8_t marks[EXCHANGE_MAX / 8];
    uint8_t bytes[EXCHANGE_MAX];
};

struct handshake {
    struct handshakes *all;
    const struct credentials_side *side;
    void *owner;
    SSL *ssl; /* until DONE or FAILED */
    uint64_t now_us, began_us;
    uint64_t due_us, interval_us;
    unsigned repeats; /* of this flight, by time */
    unsigned asked;   /* times that the peer has had a flight repeated */
    unsigned sealed;  /* records of epoch 1 that OpenSSL has been given */
    uint16_t room;
    uint8_t state; /* enum handshake_state */
    bool client;
    bool begun;        /* OpenSSL has the ClientHello */
    bool last_is_ours; /* DONE: the last flight */
    bool certified;    /* the certificate's name has been looked at */
    int16_t alert;     /* as handshake_alert() */
    uint8_t hello_random[HELLO_RANDOM_BYTES];
    char error[HANDSHAKE_ERROR_BYTES];
    size_t left;

    /* The record that OpenSSL may read. */
    const uint8_t *in;
    size_t in_length;
    bool peek;

    /* What we wrote since the peer's last word: `flight_sent` bytes of it have gone out. */
    uint8_t *flight;
    uint32_t flight_length, flight_room, flight_sent;
    bool answered;           /* the peer has spoken since: the next write begins another flight */
    uint64_t sequences[2];   /* next ones, by epoch */
    uint64_t sequence_limit; /* of epoch 1, once DONE */

    /* Epoch 1. */
    bool keyed;
    enum suite suite;
    struct record_key key_in, key_out;
    struct record_window window;

    bool cid_wanted, cid_offered, cid_used;
    uint8_t own_cid_length, peer_cid_length;
    uint8_t own_cid[HANDSHAKE_CID_BYTES], peer_cid[RECORD_CID_MAX];
    uint8_t cid_extension[1 + HANDSHAKE_CID_BYTES];

    struct exchange exchange;
    uint8_t psk[PSK_KEY_MAX];
    uint8_t psk_length;
    uint16_t kept_length;
    uint8_t kept[KEPT_MAX]; /* whole records that have to wait */

    uint16_t cipher_suite;
    bool resumed, extended_master_secret;
    struct principal principal;
};

static inline uint32_t parts_number(const uint8_t *at, unsigned width)
{
    uint32_t number = 0;

    for (unsigned i = 0; i < width; i++)
        number = number << 8 | at[i];
    return number;
}

static inline uint8_t *parts_put(uint8_t *to, uint64_t number, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        to[i] = (uint8_t)(number >> 8 * (width - 1 - i));
    return to + width;
}

/* ---- bio.c ---- */

BIO_METHOD *bio_method_create(void);
/* For one handshake; NULL when memory is short. */
BIO *bio_create(const BIO_METHOD *method, struct handshake *h);

/* ---- handshake_flight.c ---- */

/* Keys of epoch 1, as soon as there is a master secret. False: there is none yet, or (with state
 * FAILED) none that can be used. */
bool handshake_key(struct handshake *h);
/* Records that OpenSSL wrote. 0 or a negative errno. */
int flight_add(struct handshake *h, const uint8_t *records, size_t length);
/* Sends what has not gone out; from `begin` again with flight_repeat(). */
void flight_send(struct handshake *h);
void flight_repeat(struct handshake *h);
/* An alert of our own, in the epoch that we write in. */
void flight_alert(struct handshake *h, enum alert alert);

/* ---- handshake_ssl.c ---- */

/* A new SSL object. NULL when memory is short. */
SSL *handshake_ssl_create(struct handshake *h, SSL_CTX *context);
/* Who the peer is, as soon as its certificate or its ticket says it, and whether it may go on. */
void handshake_certify(struct handshake *h);
/* Reads off all that handshake_outcome() tells. */
void handshake_settle(struct handshake *h);

/* ---- handshake_key.c ---- */

/* A record of epoch 0 with a ClientKeyExchange that has an identity: taken from the way to OpenSSL.
 */
bool exchange_takes(const struct handshake *h, const struct record_view *view);
/* Takes a part of it. True: it is whole, and the key is there, or there will be none. */
bool exchange_add(struct handshake *h, const struct record_view *view);
/* Writes it as one record into all->record: its length. */
size_t exchange_record(struct handshake *h);

/* ---- handshake.c ---- */

/* Ends it; with `alert`, if it is not 0, to the peer. The first reason stays. */
void handshake_fail(struct handshake *h, enum alert alert, const char *why);

#endif
