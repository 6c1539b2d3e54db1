/* IGMP (RFC 1112, 2236, 3376) and MLD (RFC 2710, 3810) as bytes: queries and reports.
 *
 * The two are one protocol in two dresses: IGMPv2 and MLDv1, IGMPv3 and MLDv2 correspond; IGMPv1
 * has no brother. Pure functions on packets; no state; any thread. */
#ifndef COAPGW_DPDK_MEMBERSHIP_MESSAGE_H
#define COAPGW_DPDK_MEMBERSHIP_MESSAGE_H

#include "dpdk/frame.h"

enum membership_kind {
    MEMBERSHIP_BAD,      /* malformed, or not for a host to believe */
    MEMBERSHIP_UNNEEDED, /* well-formed, but says nothing to a host */
    MEMBERSHIP_QUERY,
    MEMBERSHIP_REPORT, /* somebody else is in the group, too: of the old versions only */
};

enum membership_version {
    MEMBERSHIP_OLDEST,  /* IGMPv1 */
    MEMBERSHIP_OLD,     /* IGMPv2, MLDv1 */
    MEMBERSHIP_CURRENT, /* IGMPv3, MLDv2 */
};

struct membership_message {
    enum membership_kind kind;
    enum membership_version version; /* of a query */
    bool general;                    /* a query for all groups */
    struct address group;            /* of a report, and of a query that is not general */
    uint32_t response_ms;            /* of a query: the longest that an answer may take */
};

/* True for the types of ICMPv6 that are MLD's. */
bool membership_is_mld(const struct frame *frame);

/* Reads what frame_read() found to be IGMP, or ICMPv6 of MLD's types. BAD: short or with a wrong
 * checksum; a TTL or hop limit that is not 1; a query without the router alert option where its
 * version has one, or for all groups but not to all nodes (RFC 3376 9.1); an MLD message from
 * anything but a link-local address (RFC 3810 6.2). */
struct membership_message membership_read(const struct frame *frame);

/* The record types of current reports (RFC 3376 4.2.12, RFC 3810 5.2.12) that are of use without
 * source filters. */
enum membership_record {
    MEMBERSHIP_IS_IN_GROUP = 2, /* MODE_IS_EXCLUDE of no source: all are wanted */
    MEMBERSHIP_LEAVES = 3,      /* CHANGE_TO_INCLUDE_MODE of none */
    MEMBERSHIP_JOINS = 4,       /* CHANGE_TO_EXCLUDE_MODE of none */
};

/* The most groups in one report: it fits the least MTU of IPv6. */
#define MEMBERSHIP_RECORDS 60

/* Write a complete frame into an empty packet. `source`: of the groups' family. False when it does
 * not fit.
 *
 * The current report, with the same record for each group (1 to MEMBERSHIP_RECORDS). */
bool membership_write(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                      const struct address *source, enum membership_record record,
                      const struct address *groups, unsigned count);

/* The old ones: for one group, that we are in it, or, for MEMBERSHIP_OLD alone, that we leave it.
 */
bool membership_write_old(struct rte_mbuf *mbuf, const struct stack_interface *interface,
                          const struct address *source, enum membership_version version,
                          bool leaves, const struct address *group);

#endif
