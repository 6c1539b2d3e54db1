#include "gateway/coap/block.h"

#include <errno.h>

int block_decode(uint32_t value, struct block *out)
{
    if ((value & 7) > BLOCK_SZX_MAX || value >> 4 > BLOCK_NUMBER_MAX)
        return -EINVAL;
    out->number = value >> 4;
    out->more = value >> 3 & 1;
    out->szx = value & 7;
    return 0;
}

uint32_t block_encode(const struct block *b)
{
    return b->number << 4 | (b->more ? 8u : 0u) | b->szx;
}
