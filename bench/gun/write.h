/* The first message of a request, which is what the generator does most: in line. */
#ifndef COAPGW_BENCH_GUN_WRITE_H
#define COAPGW_BENCH_GUN_WRITE_H

#include <rte_byteorder.h>

#include "bench/gun/engine.h"

/* Most requests are short: two vector moves, or four, that overlap. No byte more is touched than
 * must be, since the next cache line of the packet may be cold. */
static inline void write_copy(uint8_t *to, const uint8_t *from, size_t length)
{
    if (length <= 16) {
        memcpy(to, from, 16);
    } else if (length <= 32) {
        memcpy(to, from, 16);
        memcpy(to + length - 16, from + length - 16, 16);
    } else if (length <= 64) {
        memcpy(to, from, 32);
        memcpy(to + length - 32, from + length - 32, 32);
    } else {
        memcpy(to, from, length);
    }
}

/* Writes the message that an exchange has come to. */
static inline void exchange_write(const struct gun *g, uint32_t index, struct outgoing *out)
{
    const struct exchange *x = &g->slots[index];
    const struct form *t = &g->forms.all[x->form];
    rte_be32_t head[3] = {
        rte_cpu_to_be_32((uint32_t)(0x40 | x->type << 4 | FORM_TOKEN_BYTES) << 24 |
                         (uint32_t)t->code << 16 | x->mid),
        rte_cpu_to_be_32(index), rte_cpu_to_be_32(x->sequence)};

    uint8_t *data = out->data;

    out->length = t->length;
    out->endpoint = x->endpoint;
    out->party = PARTY_DEVICE;
    out->summed = !t->digits && !t->appended;
    out->sum = (uint64_t)t->rest_sum + head[0] + head[1] + head[2];
    write_copy(data, t->bytes, t->length);
    /* Word by word: twelve bytes at once would be loaded from where they were just stored in parts,
     * and wait for that. */
    for (unsigned i = 0; i < 3; i++)
        memcpy(data + 4 * i, &head[i], sizeof(head[i]));
    if (!out->summed)
        exchange_finish(g, index, out);
}

#endif
