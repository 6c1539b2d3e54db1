#include "dpdk/fragment.h"

#include <stdlib.h>

#include <rte_ip.h>
#include <rte_ip_frag.h>
#include <rte_lcore.h>

#define BUCKET_ENTRIES 4
#define PREFETCH       3

struct fragments {
    struct rte_ip_frag_tbl *table;
    struct rte_ip_frag_death_row dead;
    struct counters *counters;
};

struct fragments *fragments_create(struct counters *counters)
{
    struct fragments *f = calloc(1, sizeof(*f));

    if (!f)
        return NULL;
    /* The table's clock is whatever it is given: microseconds. */
    f->table = rte_ip_frag_table_create(FRAGMENT_PACKETS, BUCKET_ENTRIES, FRAGMENT_PACKETS,
                                        FRAGMENT_TIMEOUT_US, (int)rte_socket_id());
    f->counters = counters;
    if (!f->table) {
        free(f);
        return NULL;
    }
    return f;
}

void fragments_advance(struct fragments *f)
{
    f->counters->drop_fragment += f->dead.cnt;
    rte_ip_frag_free_death_row(&f->dead, PREFETCH);
}

void fragments_destroy(struct fragments *f)
{
    if (!f)
        return;
    rte_ip_frag_table_destroy(f->table);
    rte_ip_frag_free_death_row(&f->dead, PREFETCH);
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

    if (frame->l3_bytes != sizeof(*ip)) { /* rte_ip_frag wants it right behind the header */
        f->counters->drop_fragment++;
        rte_pktmbuf_free(mbuf);
        return NULL;
    }
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

struct rte_mbuf *fragment_add(struct fragments *f, struct rte_mbuf *mbuf, const struct frame *frame,
                              uint64_t now)
{
    struct rte_mbuf *whole;

    if (mbuf->nb_segs != 1) {
        f->counters->drop_fragment++;
        rte_pktmbuf_free(mbuf);
        return NULL;
    }
    trim_padding(mbuf, frame);
    if (address_is_v4(&frame->source))
        whole = add4(f, mbuf, frame, now);
    else
        whole = add6(f, mbuf, frame, now);
    if (!whole)
        return NULL;
    if (rte_pktmbuf_linearize(whole) != 0) { /* larger than a buffer */
        f->counters->drop_fragment++;
        rte_pktmbuf_free(whole);
        return NULL;
    }
    f->counters->reassembled++;
    return whole;
}
