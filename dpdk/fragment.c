#include "dpdk/fragment.h"

#include <stdlib.h>

#include <rte_ip.h>
#include <rte_ip_frag.h>
#include <rte_lcore.h>

#define BUCKETS        128 /* twice as many in fact, of two hashes */
#define BUCKET_ENTRIES 4
#define PREFETCH       3

struct fragments {
    struct rte_ip_frag_tbl *table;
    struct counters *counters;
    uint32_t held; /* buffers in the table */
    struct rte_ip_frag_death_row dead;
};

struct fragments *fragments_create(struct counters *counters)
{
    struct fragments *f = calloc(1, sizeof(*f));

    if (!f)
        return NULL;
    /* The table's clock is whatever it is given: microseconds. */
    f->table = rte_ip_frag_table_create(BUCKETS, BUCKET_ENTRIES, FRAGMENT_PACKETS,
                                        FRAGMENT_TIMEOUT_US, (int)rte_socket_id());
    f->counters = counters;
    if (!f->table) {
        free(f);
        return NULL;
    }
    return f;
}

/* Frees what the library has given up. It adds to the row without a look at its length, and a
 * single fragment can add two whole packets: so this follows each call of it. */
static void bury(struct fragments *f)
{
    if (f->dead.cnt == 0)
        return;
    f->held -= f->dead.cnt;
    f->counters->drop_fragment += f->dead.cnt;
    rte_ip_frag_free_death_row(&f->dead, PREFETCH);
}

void fragments_advance(struct fragments *f, uint64_t now)
{
    if (f->held == 0)
        return;
    rte_ip_frag_table_del_expired_entries(f->table, &f->dead, now);
    bury(f);
}

void fragments_destroy(struct fragments *f)
{
    if (!f)
        return;
    rte_ip_frag_table_destroy(f->table);
    free(f);
}

static struct rte_mbuf *add4(struct fragments *f, struct rte_mbuf *mbuf, const struct frame *frame,
                             uint64_t now)
{
    struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(mbuf, struct rte_ipv4_hdr *, frame->l2_bytes);

    mbuf->l2_len = frame->l2_bytes;
    mbuf->l3_len = frame->l3_bytes;
    return rte_ipv4_frag_reassemble_packet(f->table, &f->dead, mbuf, now, ip);
}

static struct rte_mbuf *add6(struct fragments *f, struct rte_mbuf *mbuf, const struct frame *frame,
                             uint64_t now)
{
    struct rte_ipv6_hdr *ip = rte_pktmbuf_mtod_offset(mbuf, struct rte_ipv6_hdr *, frame->l2_bytes);
    struct rte_ipv6_fragment_ext *header = (struct rte_ipv6_fragment_ext *)(ip + 1);

    mbuf->l2_len = frame->l2_bytes;
    mbuf->l3_len = sizeof(*ip) + sizeof(*header);
    return rte_ipv6_frag_reassemble_packet(f->table, &f->dead, mbuf, now, ip, header);
}

/* Ethernet padding behind a short fragment would become data. */
static void trim_padding(struct rte_mbuf *mbuf, const struct frame *frame)
{
    const uint8_t *ip = rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, frame->l2_bytes);
    uint32_t length;

    if (address_is_v4(&frame->source))
        length = (uint32_t)(ip[2] << 8 | ip[3]);
    else
        length = (uint32_t)(ip[4] << 8 | ip[5]) + sizeof(struct rte_ipv6_hdr);
    length += frame->l2_bytes;
    if (rte_pktmbuf_data_len(mbuf) > length)
        rte_pktmbuf_trim(mbuf, (uint16_t)(rte_pktmbuf_data_len(mbuf) - length));
}

/* rte_ip_frag wants an IPv6 fragment header right behind the fixed header. */
static bool is_usable(const struct fragments *f, const struct rte_mbuf *mbuf,
                      const struct frame *frame)
{
    return f->held < FRAGMENT_BUFFERS && mbuf->nb_segs == 1 &&
           (address_is_v4(&frame->source) || frame->l3_bytes == sizeof(struct rte_ipv6_hdr));
}

/* Makes one segment of it. NULL, freed and counted, when it is larger than a buffer. */
static struct rte_mbuf *make_one(struct fragments *f, struct rte_mbuf *whole)
{
    uint16_t pieces = whole->nb_segs;

    f->held -= pieces;
    if (rte_pktmbuf_linearize(whole) != 0) {
        f->counters->drop_fragment += pieces;
        rte_pktmbuf_free(whole);
        return NULL;
    }
    f->counters->reassembled++;
    return whole;
}

struct rte_mbuf *fragment_add(struct fragments *f, struct rte_mbuf *mbuf, const struct frame *frame,
                              uint64_t now)
{
    struct rte_mbuf *whole;

    if (!is_usable(f, mbuf, frame)) {
        f->counters->drop_fragment++;
        rte_pktmbuf_free(mbuf);
        return NULL;
    }
    trim_padding(mbuf, frame);
    f->held++;
    if (address_is_v4(&frame->source))
        whole = add4(f, mbuf, frame, now);
    else
        whole = add6(f, mbuf, frame, now);
    bury(f);
    return whole ? make_one(f, whole) : NULL;
}
