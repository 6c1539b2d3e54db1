/* The generator of one worker: xoshiro256**, seeded from the kernel at start or from the
 * simulator's seed, so that a run can be replayed. Not for keys: those come from OpenSSL.
 * Owned by one worker; no locking. */
#ifndef COAPGW_GATEWAY_RANDOM_H
#define COAPGW_GATEWAY_RANDOM_H

#include <stdint.h>
#include <string.h>

#define RANDOM_SEED_BYTES 32

struct random {
    uint64_t state[4];
};

static inline uint64_t random_rotate(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

static inline uint64_t random_u64(struct random *r)
{
    uint64_t *s = r->state;
    uint64_t result = random_rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = random_rotate(s[3], 45);
    return result;
}

static inline void random_seed(struct random *r, const uint8_t seed[RANDOM_SEED_BYTES])
{
    memcpy(r->state, seed, sizeof(r->state));
    r->state[0] |= 1; /* the state must not be all zero */
    for (int i = 0; i < 16; i++)
        (void)random_u64(r);
}

/* Uniform in [0, bound); bound > 0. Lemire's multiplication: the bias is below 2^-32 for any bound
 * that fits 32 bits. */
static inline uint32_t random_below(struct random *r, uint32_t bound)
{
    return (uint32_t)(((unsigned __int128)random_u64(r) * bound) >> 64);
}

#endif
