/* Cipher suites of DTLS 1.2 by what the record layer needs of them, and OpenSSL's contexts for
 * them.
 *
 * A worker keeps a table of keyed contexts for each kind of cipher that is in use, direct-mapped by
 * slot, of a size that is given once. Why: 64 bytes sealed and opened again, as bench/micro has it
 * ("records", ns on the development machine, OpenSSL 3.0), took
 *
 *                                              CCM-8   GCM   ChaCha20   bytes of a context
 *   OpenSSL alone, keys that are set             629   516       1673
 *   1,000 associations, 4,096 contexts           671   590       1924    CCM 624
 *   1,000 associations, keyed for each record    930   935       2079    GCM 1168
 *   100,000 by turns, 4,096 contexts             909   970       2137    ChaCha20 1056
 *   100,000 by turns, 262,144 contexts           730   788       1957
 *
 * The three rows of keys that are set for a record are from when key and nonce were two calls; they
 * are one now. In instructions CCM-8 takes 6433 alone, 7063 with a context that is kept, 8561
 * without.
 *
 * So a table that has all who are busy costs within 1.15 of what OpenSSL takes alone, and one that
 * has them not costs what it would without. Contexts for all of 100,000 would be another 1.2 to 2.3
 * KB for each association, to be a fifth faster: they are not kept. 4,096 contexts are 2.6 to 4.8
 * MB.
 *
 * The suites are constant tables: any thread. A struct aead belongs to one worker, which owns its
 * memory; no locking. Nothing is allocated but by aead_create() and aead_prepare(). */
#ifndef COAPGW_GATEWAY_SECURITY_AEAD_H
#define COAPGW_GATEWAY_SECURITY_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* AEAD and PRF of a cipher suite, whatever its key exchange. The numbers are part of what is
 * persisted: new ones go to the end. */
enum suite {
    SUITE_AES_128_CCM_8,     /* RFC 6655; mandatory for CoAP (RFC 7252 9.1.3) */
    SUITE_AES_128_CCM,       /* RFC 6655 */
    SUITE_AES_128_GCM,       /* RFC 5288 */
    SUITE_AES_256_GCM,       /* RFC 5288, with SHA-384 */
    SUITE_AES_256_CCM_8,     /* RFC 6655 */
    SUITE_AES_256_CCM,       /* RFC 6655 */
    SUITE_CHACHA20_POLY1305, /* RFC 7905 */
    SUITE_COUNT,
};

#define AEAD_KEY_MAX     32
#define AEAD_NONCE_BYTES 12
#define AEAD_TAG_MAX     16

/* One direction. Who drops it wipes it with OPENSSL_cleanse(). */
struct record_key {
    uint8_t suite;                  /* enum suite */
    uint8_t key[AEAD_KEY_MAX];      /* suite_key_bytes() of them */
    uint8_t salt[AEAD_NONCE_BYTES]; /* 4 bytes; 12 for ChaCha20-Poly1305 */
};

/* By the IANA number of a cipher suite, for example 0xC0A8. False: not one of ours. */
bool suite_of(uint16_t cipher_suite, enum suite *out);

const char *suite_name(enum suite suite);        /* "AES-128-CCM-8" */
const char *suite_digest(enum suite suite);      /* of the PRF: "SHA256" or "SHA384" */
unsigned suite_key_bytes(enum suite suite);      /* 16 or 32 */
unsigned suite_salt_bytes(enum suite suite);     /* 4 or 12: the part of the nonce that is secret */
unsigned suite_explicit_bytes(enum suite suite); /* 8 or 0: the part that a record carries */
unsigned suite_tag_bytes(enum suite suite);      /* 8 or 16 */

/* How many records one key may seal, and how many forged ones it may refuse (RFC 9147 4.5.3). */
uint64_t suite_seal_limit(enum suite suite);
uint64_t suite_forgery_limit(enum suite suite);

struct aead;

/* `contexts` for each kind of cipher that is prepared, rounded up to a power of two; two of them
 * serve an association. 0: every record keys a context for itself. NULL when memory is short or
 * OpenSSL has not one of the ciphers. */
struct aead *aead_create(unsigned contexts);
void aead_destroy(struct aead *aead);

/* Makes the contexts for a suite, once; costs nothing later. To be called when an association is
 * made, and not on the packet path. Without it a suite works, but each record keys a context. 0, or
 * -ENOMEM: as without. */
int aead_prepare(struct aead *aead, enum suite suite);

/* A slot is what the caller numbers his keys by: the low bits (association's index << 1 |
 * direction) choose the place in the table, those above are a generation, so that a key which takes
 * another's place has another slot. A slot means one key for ever. With AEAD_NO_SLOT the key is
 * used once and wiped from the context. */
#define AEAD_NO_SLOT UINT64_MAX

/* Wipes the key of a slot, whose use has ended. */
void aead_forget(struct aead *aead, uint64_t slot, enum suite suite);

struct aead_job {
    uint64_t slot;
    const struct record_key *key;
    uint8_t nonce[AEAD_NONCE_BYTES];
    uint8_t additional_length; /* at most 64 */
    uint8_t additional[64];
};

/* Seals `text` where it lies; the tag goes behind it. 0, or -EIO: OpenSSL fails. */
int aead_seal(struct aead *aead, const struct aead_job *job, uint8_t *text, size_t length);

/* Opens `length` bytes behind which the tag lies. `out` is `text` itself or does not overlap it;
 * what it holds is indefinite unless 0 is returned. -EBADMSG: not authentic. */
int aead_open(struct aead *aead, const struct aead_job *job, const uint8_t *text, size_t length,
              uint8_t *out);

#endif
