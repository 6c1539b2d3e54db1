/* The value of Block1 and Block2 (RFC 7959 2.2). Pure. */
#ifndef COAPGW_GATEWAY_COAP_BLOCK_H
#define COAPGW_GATEWAY_COAP_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct block {
    uint32_t number; /* 0 to 2^20 - 1 */
    uint8_t szx;     /* 0 to 6: 16 << szx bytes */
    bool more;
};

#define BLOCK_SZX_MAX    6
#define BLOCK_NUMBER_MAX 0xfffffu

static inline uint32_t block_size(const struct block *b)
{
    return 16u << b->szx;
}

/* 0, or -EINVAL for the reserved SZX 7 (BERT exists over TCP only, RFC 8323 6). */
int block_decode(uint32_t value, struct block *out);

uint32_t block_encode(const struct block *b);

#endif
