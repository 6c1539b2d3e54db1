/* Putting IP packets together from their fragments, with rte_ip_frag: a bounded table with a time
 * limit, and a bound on the buffers in it, so that a flood of fragments takes no more of the pool
 * than its share. One worker owns it; the fragments in it are its own. */
#ifndef COAPGW_DPDK_FRAGMENT_H
#define COAPGW_DPDK_FRAGMENT_H

#include <rte_mbuf.h>

#include "dpdk/frame.h"
#include "gateway/counters.h"

#define FRAGMENT_TIMEOUT_US 2000000ull
#define FRAGMENT_PACKETS    512 /* being put together at the same time */
#define FRAGMENT_BUFFERS    512 /* fragments of all of them */

struct fragments;

/* NULL when memory is short. */
struct fragments *fragments_create(struct counters *counters);
void fragments_destroy(struct fragments *fragments);

/* Adds a fragment (frame_read() said FRAME_FRAGMENT). Takes it. The whole packet in one segment
 * when this was the last one missing, otherwise NULL. What can't be used is freed and counted. */
struct rte_mbuf *fragment_add(struct fragments *fragments, struct rte_mbuf *mbuf,
                              const struct frame *frame, uint64_t now);

/* Frees what is incomplete and too old; once each turn. Cheap when nothing waits. */
void fragments_advance(struct fragments *fragments, uint64_t now);

#endif
