/* What the tests of the record layer have in common: the keys of the association that
 * tests/records.tsv is about, and bytes from hex. */
#ifndef COAPGW_TESTS_UNIT_RECORD_SAMPLES_H
#define COAPGW_TESTS_UNIT_RECORD_SAMPLES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/security/record.h"

static inline size_t unhex(const char *hex, uint8_t *out)
{
    size_t length = 0;
    unsigned byte;

    for (; hex[0] && sscanf(hex, "%2x", &byte) == 1; hex += 2)
        out[length++] = (uint8_t)byte;
    return length;
}

static inline void sample_keys(enum suite suite, struct record_key *client,
                               struct record_key *server)
{
    uint8_t master[RECORD_MASTER_BYTES], first[RECORD_RANDOM_BYTES], second[RECORD_RANDOM_BYTES];

    for (uint8_t i = 0; i < sizeof(master); i++)
        master[i] = i;
    for (uint8_t i = 0; i < sizeof(first); i++) {
        first[i] = (uint8_t)(0x40 + i);
        second[i] = (uint8_t)(0x80 + i);
    }
    assert_int_equal(record_derive(suite, master, first, second, client, server), 0);
}

/* `plain` sealed at `record`, which has room; the record's length. */
static inline int sample_seal(struct aead *aead, uint64_t slot, const struct record_key *key,
                              const struct record_mark *mark, uint8_t *record, const void *plain,
                              size_t length)
{
    memcpy(record + record_lead(key->suite, mark->cid_length), plain, length);
    return record_seal(aead, slot, key, mark, record, length);
}

/* Parses and opens the one record of a datagram. */
static inline int sample_open(struct aead *aead, uint64_t slot, const struct record_key *key,
                              const uint8_t *record, int length, uint8_t cid_length, uint8_t *out,
                              uint8_t *type)
{
    struct record_view view;

    if (length < 0 || record_next(record, (size_t)length, cid_length, &view) != length)
        return -EBADMSG;
    return record_open(aead, slot, key, &view, out, type);
}

#endif
