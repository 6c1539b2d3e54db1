/* The record layer of DTLS 1.2 (RFC 6347 4.1), with Connection IDs (RFC 9146): the records of a
 * datagram one after the other, sealing, opening, keys from a master secret, the window against
 * replays.
 *
 * Functions on bytes: what a view points to is the caller's datagram. Any thread, but for what
 * takes a struct aead, which is its worker's. No clock, no allocation (but in record_derive()). */
#ifndef COAPGW_GATEWAY_SECURITY_RECORD_H
#define COAPGW_GATEWAY_SECURITY_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/security/aead.h"

/* Types of content. 25 is that of a record with a Connection ID, never of content. */
enum record_type {
    RECORD_CHANGE_CIPHER_SPEC = 20,
    RECORD_ALERT = 21,
    RECORD_HANDSHAKE = 22,
    RECORD_APPLICATION_DATA = 23,
    RECORD_CID = 25,
};

#define RECORD_VERSION_1_0   0xfeffu /* that of a first ClientHello may be it */
#define RECORD_VERSION_1_2   0xfefdu
#define RECORD_HEADER_BYTES  13u /* without a Connection ID */
#define RECORD_CID_AT        11u /* where a Connection ID begins in a header */
#define RECORD_CID_MAX       32u /* as long as we use them */
#define RECORD_PLAIN_MAX     (1u << 14)
#define RECORD_BODY_MAX      (RECORD_PLAIN_MAX + 256u)
#define RECORD_SEQUENCE_LAST ((UINT64_C(1) << 48) - 1)
#define RECORD_MASTER_BYTES  48
#define RECORD_RANDOM_BYTES  32

/* One record as it lies in a datagram. */
struct record_view {
    uint8_t type; /* of the header: 20 to 23, or 25 */
    uint16_t version, epoch;
    uint64_t sequence; /* without the epoch */
    const uint8_t *cid;
    uint8_t cid_length; /* 0 unless the type is 25 */
    uint8_t header_length;
    const uint8_t *header;
    const uint8_t *body;
    uint16_t length; /* of the body, explicit nonce and tag included; at least 1 */
};

/* The first record of `data`. `cid_length` is that of our own Connection IDs, 0 to RECORD_CID_MAX,
 * where 0 says that a record with one is refused. Returns how many bytes the record takes, or
 * -EBADMSG: its type, its version or its length cannot be, and the rest of the datagram, whose
 * borders are unknown, is to be dropped with it. Version 1.0 is let through in epoch 0. */
int record_next(const uint8_t *data, size_t length, uint8_t cid_length, struct record_view *out);

/* Bytes in front of the plaintext of a record, and behind it (with a Connection ID its type lies
 * there, too). */
unsigned record_lead(enum suite suite, uint8_t cid_length);
unsigned record_trail(enum suite suite, uint8_t cid_length);

/* What the header of a record says that we send. */
struct record_mark {
    uint8_t type; /* of the content: 20 to 23 */
    uint16_t epoch;
    uint64_t sequence;
    const uint8_t *cid; /* the peer's */
    uint8_t cid_length; /* 0: a record without one */
};

/* Makes a record at `record`, whose plaintext lies at record + record_lead() already; there has to
 * be room for record_trail() behind it. The caller sees to it that no sequence is used twice with
 * one key. Returns the record's length, or a negative errno, with the plaintext as it was:
 * -EMSGSIZE (more than RECORD_PLAIN_MAX), -EINVAL (type, epoch 0, Connection ID too long),
 * -EOVERFLOW (sequence beyond RECORD_SEQUENCE_LAST); with -EIO, when OpenSSL fails, it is lost. */
int record_seal(struct aead *aead, uint64_t slot, const struct record_key *key,
                const struct record_mark *mark, uint8_t *record, size_t plain_length);

/* Opens a record into `out`, which has room for view->length bytes and may be the body itself
 * (record_plain() of the view), else must not overlap it. Returns the length of the content, which
 * can be 0 for application data alone, and its type; or -EBADMSG, and `out` is indefinite. Epoch
 * and Connection ID are authentic then; whether they are those that the key is for, and whether the
 * sequence is fresh, is the caller's to ask, before and after. */
int record_open(struct aead *aead, uint64_t slot, const struct record_key *key,
                const struct record_view *view, uint8_t *out, uint8_t *type);

/* Where the body's plaintext begins when the record is opened where it lies. */
static inline const uint8_t *record_plain(const struct record_view *view, enum suite suite)
{
    return view->body + suite_explicit_bytes(suite);
}

/* Both keys of an association (RFC 5246 6.3). 0, or -EIO: OpenSSL fails. */
int record_derive(enum suite suite, const uint8_t master[RECORD_MASTER_BYTES],
                  const uint8_t client_random[RECORD_RANDOM_BYTES],
                  const uint8_t server_random[RECORD_RANDOM_BYTES], struct record_key *client,
                  struct record_key *server);

/* Which sequences of an epoch have been received (RFC 6347 4.1.2.6): the last one, `top`, and the
 * 64 up to it, of which bit 0 of `mask` is `top` itself. Zeros are an empty window. */
#define RECORD_WINDOW 64u

struct record_window {
    uint64_t top, mask;
    bool any;
};

/* Neither marked nor too old. */
bool window_is_fresh(const struct record_window *window, uint64_t sequence);

/* Of a record that was authentic, and fresh. */
void window_mark(struct record_window *window, uint64_t sequence);

#endif
