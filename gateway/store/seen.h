/* Which records this process has touched, as hashes of their names: a record that is read back and
 * is not among them is one of before the start. Needed until all have been read back once.
 *
 * Holds up to SEEN_MAX names and forgets what comes after them. One thread. */
#ifndef COAPGW_GATEWAY_STORE_SEEN_H
#define COAPGW_GATEWAY_STORE_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEEN_MAX (1u << 21)

struct seen {
    uint64_t *slots; /* open addressing; 0 is free */
    size_t count, size;
    uint64_t seed; /* secret: names are the clients' choice */
};

void seen_add(struct seen *seen, const char *name, size_t length);
bool seen_has(const struct seen *seen, const char *name, size_t length);

/* Frees all; it is empty afterwards. */
void seen_clear(struct seen *seen);

#endif
