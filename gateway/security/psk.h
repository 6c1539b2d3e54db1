/* Pre-shared keys by identity, from a text file: one IDENTITY:HEXKEY a line.
 *
 *   # a comment
 *   device-17:00112233445566778899aabbccddeeff
 *   "a name with \" or # in it":00112233445566778899aabbccddeeff
 *   hex:01a0ff:00112233445566778899aabbccddeeff
 *
 * Blanks around a line are nothing, and so is an empty line. What stands between the last colon and
 * the end is the key. An identity has 1 to 128 bytes, none of them zero (OpenSSL has it as a text).
 *
 * A table is never changed after it was loaded: any number of threads may look things up. Its
 * memory is about the identities' and the keys' own bytes and 10 to 18 for each; it is wiped when
 * it is freed. */
#ifndef COAPGW_GATEWAY_SECURITY_PSK_H
#define COAPGW_GATEWAY_SECURITY_PSK_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PSK_IDENTITY_MAX 128
#define PSK_KEY_MAX      64
#define PSK_KEY_SHORT    16 /* bytes; one with fewer is used, with a warning */

struct psk_table;

/* NULL when anything is wrong with the file: it cannot be read, everyone can read it, or lines are
 * wrong; each one is a line "FILE:LINE: what is wrong; what to write instead" on `errors`, where
 * keys are never shown. Blocks. */
struct psk_table *psk_load(const char *file, FILE *errors);
void psk_free(struct psk_table *table);

uint32_t psk_count(const struct psk_table *table);
size_t psk_bytes(const struct psk_table *table); /* of memory */

/* Of all that the table says: two tables with the same identities and keys in the same order have
 * the same. */
void psk_digest(const struct psk_table *table, uint8_t digest[32]);

/* The key's length in bytes, or -ENOENT. */
int psk_find(const struct psk_table *table, const uint8_t *identity, size_t length,
             uint8_t key[PSK_KEY_MAX]);

/* A key of 1 to PSK_KEY_MAX bytes from hexadecimal digits: its length, or -EINVAL. */
int psk_parse_key(const char *hex, size_t length, uint8_t key[PSK_KEY_MAX]);

#endif
