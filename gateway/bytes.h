/* Copies and comparisons of a few bytes whose number is not known when the program is built. Most
 * of what a message is made of is short, and a call of memcpy() costs more than such a copy. Pure;
 * any thread. */
#ifndef COAPGW_GATEWAY_BYTES_H
#define COAPGW_GATEWAY_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* From `width` to twice as many: two copies that overlap. All is read before anything is written.
 */
#define BYTES_TWICE(width)                              \
    do {                                                \
        uint8_t head[width], tail[width];               \
                                                        \
        memcpy(head, from, (width));                    \
        memcpy(tail, from + length - (width), (width)); \
        memcpy(to, head, (width));                      \
        memcpy(to + length - (width), tail, (width));   \
    } while (0)

/* As memcpy(); nothing is touched for length 0, so that both may be NULL then. */
static inline void bytes_copy(uint8_t *to, const uint8_t *from, size_t length)
{
    if (length > 64)
        memcpy(to, from, length);
    else if (length >= 32)
        BYTES_TWICE(32);
    else if (length >= 16)
        BYTES_TWICE(16);
    else if (length >= 8)
        BYTES_TWICE(8);
    else if (length >= 4)
        BYTES_TWICE(4);
    else
        for (size_t i = 0; i < length; i++)
            to[i] = from[i];
}

#undef BYTES_TWICE

/* As memcmp() == 0. */
static inline bool bytes_equal(const uint8_t *a, const uint8_t *b, size_t length)
{
    uint64_t x, y, different = 0;
    size_t i;

    if (length < sizeof(x)) {
        for (i = 0; i < length; i++)
            different |= (uint64_t)(a[i] ^ b[i]);
        return different == 0;
    }
    for (i = 0; i < length - sizeof(x); i += sizeof(x)) {
        memcpy(&x, a + i, sizeof(x));
        memcpy(&y, b + i, sizeof(y));
        different |= x ^ y;
    }
    memcpy(&x, a + length - sizeof(x), sizeof(x)); /* the last eight, some of them again */
    memcpy(&y, b + length - sizeof(y), sizeof(y));
    return (different | (x ^ y)) == 0;
}

#endif
