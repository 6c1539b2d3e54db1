/* The ones' complement sum of RFC 1071, by 64-bit words as they lie in memory.
 *
 * Sums of 16-bit words may be taken in words of any length and folded at the end (RFC 1071 2 B, C):
 * what the carry drops at the top comes in again at the bottom. Most packets are some dozens of
 * bytes long, so a loop that needs a dozen instructions to begin and end costs more than it saves;
 * long ones are summed in halves, four words at a time, without a chain of carries.
 *
 * Pure functions; any thread. */
#ifndef COAPGW_GATEWAY_CHECKSUM_H
#define COAPGW_GATEWAY_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* From here on a block of 32 bytes at a time pays. */
#define CHECKSUM_LONG_BYTES 96

static inline uint64_t checksum_load64(const uint8_t *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

static inline uint32_t checksum_load32(const uint8_t *at)
{
    uint32_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

static inline uint64_t checksum_add(uint64_t sum, uint64_t word)
{
    sum += word;
    return sum + (sum < word);
}

/* Up to 7 bytes; an odd last one stands at the lower address of its word. */
static inline uint64_t checksum_tail(const uint8_t *at, size_t bytes)
{
    uint64_t word = 0;

    if (bytes & 4) {
        word = checksum_load32(at);
        at += 4;
    }
    if (bytes & 2) {
        uint16_t pair;

        memcpy(&pair, at, sizeof(pair));
        word += (uint64_t)pair << 32;
        at += 2;
    }
    if (bytes & 1) {
        uint8_t padded[2] = {*at, 0};
        uint16_t pair;

        memcpy(&pair, padded, sizeof(pair));
        word += (uint64_t)pair << 48;
    }
    return word;
}

/* The last 1 to 7 of 8 bytes or more, as checksum_tail() has them, without a branch. */
static inline uint64_t checksum_last(const uint8_t *end, size_t bytes)
{
    uint64_t word = checksum_load64(end - 8);
    unsigned others = 64 - 8 * (unsigned)bytes;

    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? word >> others : word << others;
}

/* Whole blocks of 32 bytes. */
static inline uint64_t checksum_blocks(const uint8_t *at, size_t blocks)
{
    uint64_t low = 0, high = 0;

    for (; blocks; blocks--, at += 32) {
        uint64_t a = checksum_load64(at), b = checksum_load64(at + 8);
        uint64_t c = checksum_load64(at + 16), d = checksum_load64(at + 24);

        low += (uint64_t)(uint32_t)a + (uint32_t)b + (uint32_t)c + (uint32_t)d;
        high += (a >> 32) + (b >> 32) + (c >> 32) + (d >> 32);
    }
    return checksum_add(low, high);
}

/* Adds `bytes` bytes, which begin at an even offset of what is summed, to `sum`. */
static inline uint64_t checksum_bytes(uint64_t sum, const void *data, size_t bytes)
{
    const uint8_t *at = data;

    if (bytes >= CHECKSUM_LONG_BYTES) {
        sum = checksum_add(sum, checksum_blocks(at, bytes / 32));
        at += bytes & ~(size_t)31;
        bytes &= 31;
        if (bytes < 8)
            return bytes ? checksum_add(sum, checksum_last(at + bytes, bytes)) : sum;
    }
    if (bytes < 8)
        return bytes ? checksum_add(sum, checksum_tail(at, bytes)) : sum;
    do {
        sum = checksum_add(sum, checksum_load64(at));
        bytes -= 8;
        at += 8;
    } while (bytes >= 8);
    return bytes ? checksum_add(sum, checksum_last(at + bytes, bytes)) : sum;
}

/* The sum of bytes that begin at an odd offset, from their sum as if it was an even one (RFC 1071 2
 * B). */
static inline uint64_t checksum_at_odd(uint64_t sum)
{
    return sum << 8 | sum >> 56;
}

/* To 16 bits: 0xffff where what was summed holds its own checksum. 0 only if all of it was 0. */
static inline uint16_t checksum_fold(uint64_t sum)
{
    uint32_t high = (uint32_t)(sum >> 32), half = (uint32_t)sum + high;
    uint16_t upper, quarter;

    half += half < high;
    upper = (uint16_t)(half >> 16);
    quarter = (uint16_t)(half + upper);
    return (uint16_t)(quarter + (quarter < upper));
}

#endif
