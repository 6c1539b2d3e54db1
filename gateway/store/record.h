/* Records: between the form in which workers send them and the one that Redis keeps.
 *
 *   observe:LISTEN|PEER|TOKEN   v listen peer transport packet created check
 *   resource:NAME               v format etag payload version check
 *   association:ID              v listen peer cid sealed check
 *
 * `check` is a checksum over the name and all other fields, so that a record which was damaged, or
 * put together by hand, is noticed: CRC-32C, not inverted at the end, over the length (64 bits,
 * little-endian) and the bytes of each, in the order above. All values but packet, payload and
 * sealed are text.
 *
 * Pure functions; what they return points into the caller's memory. Any thread. */
#ifndef COAPGW_GATEWAY_STORE_RECORD_H
#define COAPGW_GATEWAY_STORE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/store/store.h"

#define RECORD_VERSION    "1"
#define RECORD_FIELDS_MAX 7

/* One record. The bytes behind the structure are the caller's. */
struct record {
    enum store_what what;
    union {
        struct store_relation relation;
        struct store_resource resource;
        struct store_association association;
    };
    const uint8_t *packet;  /* of a relation */
    const uint8_t *name;    /* of a resource */
    const uint8_t *payload; /* of a resource; its length may be 0 */
    const uint8_t *sealed;  /* of an association */
};

/* What Redis is given and gives: names of fields and values by turns. */
struct record_form {
    unsigned count; /* of words: twice that of the fields */
    const char *words[2 * RECORD_FIELDS_MAX];
    size_t lengths[2 * RECORD_FIELDS_MAX];
    char listen[ENDPOINT_TEXT_BYTES], peer[ENDPOINT_TEXT_BYTES];
    char numbers[2][24], etag[17], check[9];
};

/* Reads what a worker sent behind struct store_head. `whole` false: only what names the record has
 * to be right. 0, or -EBADMSG. */
int record_from_bytes(struct record *r, uint8_t what, const uint8_t *bytes, size_t length,
                      bool whole);

/* How many bytes the same takes, and these bytes, into a parcel that has room from `offset` on. */
uint32_t record_bytes(const struct record *r);
void record_to_parcel(const struct record *r, struct parcel *parcel, uint32_t offset);

/* Of a relation over DTLS: the id of its association, STORE_ID_BYTES. Of others NULL. */
const uint8_t *record_dtls_id(const struct store_relation *relation);

/* The key, without what all keys of the service begin with. `room` bytes are enough when they are
 * record_name_room(). Returns the length, without a zero behind it. */
size_t record_name_room(const struct record *r);
size_t record_name(const struct record *r, char *name);

/* The fields. `f` points into itself and into what `r` points to. */
void record_form(const struct record *r, const char *name, size_t name_length,
                 struct record_form *f);

/* Reads what Redis has. `words` as in a form, in any order; fields that are not known are passed
 * over. 0, or -EBADMSG: a field is missing or cannot be read, or name or checksum do not fit. */
int record_parse(struct record *r, enum store_what what, const char *name, size_t name_length,
                 const char *const *words, const size_t *lengths, unsigned count);

#endif
