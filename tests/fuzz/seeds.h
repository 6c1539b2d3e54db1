/* The seeds of the fuzz targets, kept as text: tables of a name, a tab and the bytes in hex; more
 * columns may follow. Lines that begin with '#', and one that begins with "name", are skipped.
 * tests/malformed.tsv is such a table too. */
#ifndef COAPGW_TESTS_FUZZ_SEEDS_H
#define COAPGW_TESTS_FUZZ_SEEDS_H

#include <stddef.h>
#include <stdint.h>

/* Calls `each` for every seed of the table; `bytes` is a block of exactly `length` bytes, valid
 * during the call. Returns their number, or a negative errno after it has said what is wrong. */
int seeds_each(const char *path,
               void (*each)(void *context, const char *name, const uint8_t *bytes, size_t length),
               void *context);

#endif
