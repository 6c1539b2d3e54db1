/* Packets: headers read and written, with their checksums in software. */
#include "bench/micro/micro.h"

#include <errno.h>
#include <string.h>

#include <rte_mbuf.h>

#include "dpdk/frame_plain.h"

#define LONG       64 /* bytes of a UDP payload */
#define BUFFERS    1023
#define ROOM_BYTES 2176

static struct {
    struct rte_mempool *pool;
    struct rte_mbuf *mbuf;
    struct stack_interface us, them;
    struct frame_template from_us, from_them;
    struct address our_address, peer;
    uint16_t headers; /* length of what is put in front */
    uint64_t wrong;
} f;

static int begin_addresses(const char *ours, const char *theirs)
{
    f.us = (struct stack_interface){.mac = {{2, 0, 0, 0, 0, 2}}, .mtu = 1500};
    f.them = (struct stack_interface){.mac = {{2, 0, 0, 0, 0, 1}}, .mtu = 1500};
    f.wrong = 0;
    if (address_parse(ours, &f.our_address) < 0 || address_parse(theirs, &f.peer) < 0)
        return -EINVAL;
    frame_template_init(&f.from_us, &f.us, &f.our_address);
    frame_template_init(&f.from_them, &f.them, &f.peer);
    f.pool = rte_pktmbuf_pool_create("micro", BUFFERS, 0, sizeof(struct stack_mark), ROOM_BYTES, 0);
    f.mbuf = f.pool ? rte_pktmbuf_alloc(f.pool) : NULL;
    if (!f.mbuf)
        return -ENOMEM;
    memset(rte_pktmbuf_append(f.mbuf, LONG), 'x', LONG);
    f.headers = (uint16_t)(f.from_them.l2_bytes + f.from_them.l3_bytes + 8);
    return 0;
}

/* A packet from the peer is in the buffer. */
static int begin_read(const char *ours, const char *theirs)
{
    int err = begin_addresses(ours, theirs);

    if (err)
        return err;
    frame_write_udp(f.mbuf, &f.from_them, LONG, NULL, &f.our_address, 40000, 5683, 7);
    frame_set_destination(f.mbuf, &f.us.mac);
    return 0;
}

static int begin_read4(uint32_t scale)
{
    (void)scale;
    return begin_read("10.99.0.2", "10.99.1.1");
}

static int begin_read6(uint32_t scale)
{
    (void)scale;
    return begin_read("fd99::2", "fd99::1:1");
}

static int begin_write4(uint32_t scale)
{
    (void)scale;
    return begin_addresses("10.99.0.2", "10.99.1.1");
}

static int begin_write6(uint32_t scale)
{
    (void)scale;
    return begin_addresses("fd99::2", "fd99::1:1");
}

static bool end(void)
{
    rte_pktmbuf_free(f.mbuf);
    rte_mempool_free(f.pool);
    return f.wrong == 0;
}

static uint64_t run_read(unsigned n)
{
    struct frame frame;
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        f.wrong += !frame_read_plain(f.mbuf, &f.us, &frame) &&
                   frame_read(f.mbuf, &f.us, false, &frame) != FRAME_UDP;
        sum += frame.payload_bytes + frame.source_port;
    }
    f.wrong += sum != (uint64_t)n * (LONG + 40000);
    return sum;
}

static uint64_t run_write(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        frame_write_udp(f.mbuf, &f.from_us, LONG, NULL, &f.peer, 5683, 40000, (uint16_t)i);
        sum += f.mbuf->data_len;
        rte_pktmbuf_adj(f.mbuf, f.headers);
    }
    f.wrong += sum != (uint64_t)n * (LONG + f.headers);
    return sum;
}

static uint64_t run_mbuf(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct rte_mbuf *mbuf = rte_pktmbuf_alloc(f.pool);

        if (mbuf)
            rte_pktmbuf_free(mbuf);
        else
            f.wrong++;
    }
    return f.wrong;
}

const struct micro_case micro_frames[] = {
    {.name = "frame: read IPv4 and UDP, 64 bytes",
     .begin = begin_read4,
     .run = run_read,
     .end = end},
    {.name = "frame: read IPv6 and UDP, 64 bytes",
     .begin = begin_read6,
     .run = run_read,
     .end = end},
    {.name = "frame: write IPv4 and UDP, 64 bytes",
     .begin = begin_write4,
     .run = run_write,
     .end = end},
    {.name = "frame: write IPv6 and UDP, 64 bytes",
     .begin = begin_write6,
     .run = run_write,
     .end = end},
    {.name = "buffer: allocate + free", .begin = begin_write4, .run = run_mbuf, .end = end},
    {0},
};
