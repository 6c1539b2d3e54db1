/* What the store keeps of an association: its state as bytes that do not depend on the machine,
 * sealed with AES-256-GCM under a key from the configuration; and which sequence numbers of our
 * records may be used, so that none is used twice though the process may be killed at any time.
 *
 * The key of the file is never used itself: each association is sealed under
 *
 *     HMAC-SHA256(key of the file, "coapgw association 1" 0x00 id)
 *
 * with random nonces of 96 bits, so that no number of associations comes near what one key of GCM
 * may be used for. What stands beside it in clear, and whose record it is, is authenticated with
 * it: a record that was moved to another id, service, listener or peer is not opened. One that was
 * replaced by an older one of the same association is: who may write to Redis is trusted so far.
 *
 * A struct keep belongs to one worker, which owns its memory; no locking. To seal and to open takes
 * some microseconds, OpenSSL allocates a little for it, and asks the kernel for new entropy now and
 * then: that is for the beginning of an association and for each half of a step, not for each
 * packet. The rest is plain values and pure functions. */
#ifndef COAPGW_GATEWAY_SECURITY_KEEP_H
#define COAPGW_GATEWAY_SECURITY_KEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/security/principal.h"
#include "gateway/security/record.h"
#include "gateway/store/store.h"

#define KEEP_KEY_BYTES 32

/* ---- the state ---- */

struct keep_state {
    struct record_key read, write; /* of one suite */
    uint64_t limit;                /* all sequences that were used for writing are below it */
    uint64_t top;                  /* of the window: the newest record that was read by then */
    bool any;                      /* false: none was */
    bool own_cid;                  /* the peer's records carry our CID, which is the id */
    uint8_t cid_length;            /* of the peer's CID, which ours carry; 0: none */
    uint8_t cid[RECORD_CID_MAX];
    uint16_t epoch;      /* not 0 */
    uint64_t created_us; /* when the handshake ended, wall clock */
    struct principal principal;
};

struct keep;

/* `service` names the service that the records belong to. NULL with errno set. */
struct keep *keep_create(const uint8_t key[KEEP_KEY_BYTES], const char *service);
void keep_destroy(struct keep *keep);

/* Seals for a record with these values in clear (of which sealed_length does not count). Returns
 * the length, at most STORE_SEALED_MAX; -EINVAL when a value of the state or its cid flag is out of
 * range, -EIO when OpenSSL fails. */
int keep_seal(struct keep *keep, const struct store_association *clear,
              const struct keep_state *state, uint8_t sealed[STORE_SEALED_MAX]);

/* 0; -EBADMSG when it is not what keep_seal() made for this record, or of another version; -EIO
 * when OpenSSL fails. Who drops the state wipes it with OPENSSL_cleanse(). */
int keep_open(struct keep *keep, const struct store_association *clear, const uint8_t *sealed,
              size_t length, struct keep_state *state);

/* ---- sequence numbers ----
 *
 * The rule: each record that Redis may have has a limit that no sequence in use has reached. So a
 * restored association begins at its limit and cannot meet a number again.
 *
 *   - While the store has been given nothing, there is nothing to restore: all numbers are free.
 *   - The first record is given with a limit that is KEEP_STEP ahead. From then on numbers below it
 *     may be used, whether it is confirmed or lost: there is that one or none.
 *   - When half of the step is used up, a record with a higher limit is given. Numbers beyond the
 *     old one are used when it is confirmed, for then the old record is gone: commands reach Redis
 *     in order. One that may have been lost may also be there, which does no harm.
 *
 * Redis may lose the last records that it has confirmed (a replica that lags and takes over, a file
 * that is not yet written). If the gateway dies at the same time, an older limit is read back. That
 * is below a number in use only if more than half a step of records were sent in what was lost. */
#define KEEP_STEP 65536u

/* One more than the last sequence number. */
#define KEEP_END (RECORD_SEQUENCE_LAST + 1)

struct keep_reserve {
    uint64_t next;      /* the sequence of the next record */
    uint64_t confirmed; /* those from here on must not be used */
    uint64_t asked;     /* the limit of the newest record that is on its way; 0: none */
};

/* Of a new association. */
void keep_reserve_begin(struct keep_reserve *r, uint64_t next);

/* Of one that was read back with this limit: it has to ask before it may send. */
void keep_reserve_restore(struct keep_reserve *r, uint64_t limit);

/* Whether `next` may be used; who uses it counts it up. */
static inline bool keep_reserve_may_use(const struct keep_reserve *r)
{
    return r->next < r->confirmed;
}

/* True when a record should be given for the sake of the numbers: half of the step is used up, and
 * none is on its way. Never before the first keep_reserve_ask(). After a loss it is true again at
 * once: the caller waits for STORE_UP, or some time. */
static inline bool keep_reserve_is_due(const struct keep_reserve *r)
{
    return r->asked == 0 && r->confirmed < KEEP_END && r->next + KEEP_STEP / 2 >= r->confirmed;
}

/* A record is given now, whatever for. Returns the limit that it has to have. */
uint64_t keep_reserve_ask(struct keep_reserve *r);

/* The answer about the record with this limit: Redis has it, or has it perhaps. The caller has to
 * know which record was answered: either there is one on its way at a time, or its cookie says. */
void keep_reserve_confirm(struct keep_reserve *r, uint64_t limit);
void keep_reserve_lose(struct keep_reserve *r, uint64_t limit);

#endif
