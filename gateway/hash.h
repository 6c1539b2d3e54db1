/* A hash of bytes of any length, for tables and tags: reads not one byte more than it is given,
 * which matters where the bytes are the end of a packet. Not for adversaries without a secret seed.
 */
#ifndef COAPGW_GATEWAY_HASH_H
#define COAPGW_GATEWAY_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t hash_mix(uint64_t h, uint64_t word)
{
    unsigned __int128 product =
        (unsigned __int128)(h ^ word) * 0x9e3779b97f4a7c15u + 0xd1b54a32d192ed03u;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Up to 7 bytes in one word, without a copy of variable length: that would be a call. */
static inline uint64_t hash_tail(const uint8_t *at, size_t length)
{
    uint32_t first, last;

    if (length < 4)
        return at[0] | (uint64_t)at[length / 2] << 8 | (uint64_t)at[length - 1] << 16;
    memcpy(&first, at, sizeof(first));
    memcpy(&last, at + length - sizeof(last), sizeof(last));
    return first | (uint64_t)last << 32;
}

static inline uint64_t hash_bytes(const void *bytes, size_t length, uint64_t seed)
{
    const uint8_t *at = bytes;
    uint64_t h = hash_mix(seed, length), word;

    for (; length >= sizeof(word); length -= sizeof(word), at += sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        h = hash_mix(h, word);
    }
    if (length)
        h = hash_mix(h, hash_tail(at, length));
    return hash_mix(h, seed);
}

/* One more string of a sequence, with what it is: the strings of two different sequences are not
 * taken for each other where they are cut in other places. */
static inline uint64_t hash_part(uint64_t h, uint32_t kind, const uint8_t *bytes, uint32_t length)
{
    uint64_t word;

    h = hash_mix(h, (uint64_t)kind << 32 | length);
    for (; length >= sizeof(word); length -= sizeof(word), bytes += sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
        h = hash_mix(h, word);
    }
    return length ? hash_mix(h, hash_tail(bytes, length)) : h;
}

#endif
