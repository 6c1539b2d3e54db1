/* Announcing groups: IGMPv1 to v3 and MLDv1 and v2 as the wire has them. The queries follow the
 * figures of RFC 1112 appendix I, 2236 2, 3376 4.1, 2710 3 and 3810 5.1; the reports that are
 * expected were put together by hand from RFC 3376 4.2 and 3810 5.2. */
#include "tests/unit/membership_packets.h"

#define ROUTER4 "10.99.0.254"
#define ROUTER6 "fe80::1"
#define ALL4    "224.0.0.1"
#define ALL6    "ff02::1"
#define COAP4   "224.0.1.187"

static const uint8_t igmp1[] = {0x11, 0, 0, 0, 0, 0, 0, 0};
static const uint8_t igmp2[] = {0x11, 100, 0, 0, 0, 0, 0, 0};                     /* 10 s */
static const uint8_t igmp3[] = {0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0};       /* 10 s */
static const uint8_t mld1[24] = {130, 0, 0, 0, 0x27, 0x10};                       /* 10 s */
static const uint8_t mld2[28] = {130, 0, 0, 0, 0x27, 0x10, [24] = 2, [25] = 125}; /* 10 s */

static void give_igmp(struct bench *b, const uint8_t *message, size_t length)
{
    uint8_t bytes[128];

    give(b, bytes, igmp(bytes, ROUTER4, ALL4, message, length, (struct flaw){0}));
}

static void give_mld(struct bench *b, const uint8_t *message, size_t length)
{
    uint8_t bytes[160];

    give(b, bytes, mld(bytes, ROUTER6, ALL6, message, length, (struct flaw){0}));
}

/* The message in a report that was sent: right from the Ethernet header to the checksum. */
static const uint8_t *report(struct bench *b, unsigned i, const char *to, uint16_t bytes)
{
    struct address destination = address_of(to);
    bool v4 = address_is_v4(&destination);
    struct rte_ether_addr mac = frame_group_mac(&destination);
    struct frame f = sent_frame(b, i, v4 ? FRAME_IGMP : FRAME_ICMP6);

    assert_memory_equal(rte_pktmbuf_mtod(b->sent[i], uint8_t *), &mac, 6);
    assert_memory_equal(f.destination.bytes, destination.bytes, 16);
    assert_memory_equal(f.source.bytes, address_of(v4 ? OUR_IP : "fe80::ff:fe00:2").bytes, 16);
    assert_int_equal(f.hop_limit, 1);
    assert_true(f.router_alert);
    assert_int_equal(f.payload_bytes, bytes);
    assert_int_equal(rte_pktmbuf_pkt_len(b->sent[i]), f.l2_bytes + f.l3_bytes + bytes);
    if (v4)
        assert_int_equal(rte_raw_cksum(f.payload, bytes), 0xffff);
    else
        assert_int_equal(frame_icmp6_checksum(&f.source, &f.destination, f.payload, bytes), 0);
    return f.payload;
}

/* A report of IGMPv3 with one record for 224.0.1.187, or of MLDv2 with records for our groups. */
static void assert_report4(struct bench *b, unsigned i, uint8_t type)
{
    const uint8_t records[] = {0, 0, 0, 1, type, 0, 0, 0, 224, 0, 1, 187};
    const uint8_t *message = report(b, i, "224.0.0.22", 16);

    assert_int_equal(message[0], 0x22);
    assert_memory_equal(message + 4, records, sizeof(records));
}

static void assert_record6(const uint8_t *record, uint8_t type, const char *group)
{
    const uint8_t head[] = {type, 0, 0, 0};

    assert_memory_equal(record, head, 4);
    assert_memory_equal(record + 4, address_of(group).bytes, 16);
}

static void assert_report6(struct bench *b, unsigned i, uint8_t type)
{
    const uint8_t *message = report(b, i, "ff02::16", 68);

    assert_int_equal(message[0], 143);
    assert_int_equal(message[7], 3);
    assert_record6(message + 8, type, "ff02::fd");
    assert_record6(message + 28, type, "ff05::fd");
    assert_record6(message + 48, type, "ff02::1:ff00:2");
}

/* ---- tests ---- */

static void joins_are_announced_twice(void **state)
{
    static const uint8_t igmp3_join[] = {
        0x01, 0x00, 0x5e, 0x00, 0x00, 0x16, 2,    0,    0,    0,    0,    2,    0x08, 0x00,
        0x46, 0xc0, 0x00, 0x28, 0x00, 0x00, 0x40, 0x00, 0x01, 0x02, 0xf9, 0x94, 10,   99,
        0,    2,    224,  0,    0,    22,   0x94, 0x04, 0x00, 0x00, 0x22, 0x00, 0xf8, 0x42,
        0x00, 0x00, 0x00, 0x01, 0x04, 0x00, 0x00, 0x00, 224,  0,    1,    187};
    static const uint8_t mld2_join[] = {
        0x33, 0x33, 0x00, 0x00, 0x00, 0x16, 2,    0,    0,    0,    0,    2,    0x86, 0xdd,
        0x60, 0x00, 0x00, 0x00, 0x00, 0x4c, 0x00, 0x01, /* hop-by-hop, hop limit 1 */
        0xfe, 0x80, 0,    0,    0,    0,    0,    0,    0,    0,    0,    0xff, 0xfe, 0,
        0,    2,    0xff, 0x02, 0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
        0,    0,    0,    0x16, 0x3a, 0x00, 0x05, 0x02, 0x00, 0x00, 0x01, 0x00, /* router alert */
        0x8f, 0x00, 0x69, 0xd8, 0x00, 0x00, 0x00, 0x03, 0x04, 0x00, 0x00, 0x00, 0xff, 0x02};
    struct bench b;

    (void)state;
    begin(&b, 1, "");
    stack_advance(b.stack[0], b.now);
    assert_int_equal(b.sent_count, 2);
    assert_int_equal(rte_pktmbuf_pkt_len(b.sent[0]), sizeof(igmp3_join));
    assert_memory_equal(rte_pktmbuf_mtod(b.sent[0], uint8_t *), igmp3_join, sizeof(igmp3_join));
    assert_int_equal(rte_pktmbuf_pkt_len(b.sent[1]), 14 + 40 + 76);
    assert_memory_equal(rte_pktmbuf_mtod(b.sent[1], uint8_t *), mld2_join, sizeof(mld2_join));
    assert_report6(&b, 1, 4);
    drop_sent(&b);
    assert_true(stack_next_us(b.stack[0]) <= b.now + SECOND_US);
    advance(&b, SECOND_US);
    assert_int_equal(b.sent_count, 2);
    assert_report4(&b, b.sent[0]->pkt_len > 100, 4);
    assert_report6(&b, b.sent[0]->pkt_len < 100, 4);
    drop_sent(&b);
    advance(&b, 300 * SECOND_US);
    assert_int_equal(b.sent_count, 0);
    assert_int_equal(b.counters[0].membership_reports, 4);
    assert_int_equal(stack_next_us(b.stack[0]), UINT64_MAX);
    stop(&b);
}

/* Once, at any time within Max Resp Time and not later. */
static void current_queries_are_answered_in_time(void **state)
{
    struct bench b;
    uint64_t soonest = UINT64_MAX, latest = 0;

    (void)state;
    start(&b, 1, "");
    for (unsigned round = 0; round < 40; round++) {
        uint64_t asked_us = b.now;

        if (round & 1)
            give_mld(&b, mld2, sizeof(mld2));
        else
            give_igmp(&b, igmp3, sizeof(igmp3));
        while (b.sent_count == 0 && b.now < asked_us + 10 * SECOND_US)
            advance(&b, 10000);
        assert_int_equal(b.sent_count, 1);
        if (b.now - asked_us < soonest)
            soonest = b.now - asked_us;
        if (b.now - asked_us > latest)
            latest = b.now - asked_us;
        if (round & 1)
            assert_report6(&b, 0, 2);
        else
            assert_report4(&b, 0, 2);
        advance(&b, 12 * SECOND_US);
        assert_int_equal(b.sent_count, 1);
        drop_sent(&b);
    }
    assert_true(soonest < 2 * SECOND_US && latest > 8 * SECOND_US); /* at random */
    assert_int_equal(b.counters[0].membership_heard, 40);
    stop(&b);
}

static void one_group_is_asked_for(void **state)
{
    struct bench b;
    uint8_t bytes[160], query4[sizeof(igmp3)], query6[sizeof(mld2)];
    const uint8_t *message;

    (void)state;
    start(&b, 1, "");
    memcpy(query4, igmp3, sizeof(query4));
    memcpy(query4 + 4, address_of(COAP4).bytes + 12, 4);
    give(&b, bytes, igmp(bytes, ROUTER4, COAP4, query4, sizeof(query4), (struct flaw){0}));
    advance(&b, 10 * SECOND_US);
    assert_int_equal(b.sent_count, 1);
    assert_report4(&b, 0, 2);
    drop_sent(&b);
    memcpy(query6, mld2, sizeof(query6));
    memcpy(query6 + 8, address_of("ff05::fd").bytes, 16);
    give(&b, bytes, mld(bytes, ROUTER6, "ff05::fd", query6, sizeof(query6), (struct flaw){0}));
    advance(&b, 10 * SECOND_US);
    assert_int_equal(b.sent_count, 1);
    message = report(&b, 0, "ff02::16", 28);
    assert_int_equal(message[7], 1);
    assert_record6(message + 8, 2, "ff05::fd");
    drop_sent(&b);
    query4[7] = 188; /* a group that we are not in */
    give_igmp(&b, query4, sizeof(query4));
    query6[23] = 0xfe;
    give_mld(&b, query6, sizeof(query6));
    advance(&b, 20 * SECOND_US);
    assert_int_equal(b.sent_count, 0);
    assert_int_equal(b.counters[0].drop_membership, 2);
    stop(&b);
}

/* Queries for certain sources: what we want of the group is all. */
static void sources_are_asked_for(void **state)
{
    struct bench b;
    uint8_t query[sizeof(igmp3) + 8] = {0};

    (void)state;
    start(&b, 1, "");
    memcpy(query, igmp3, sizeof(igmp3));
    memcpy(query + 4, address_of(COAP4).bytes + 12, 4);
    query[11] = 2;
    give_igmp(&b, query, sizeof(query));
    advance(&b, 10 * SECOND_US);
    assert_int_equal(b.sent_count, 1);
    assert_report4(&b, 0, 2);
    query[11] = 3; /* one more than there are */
    give_igmp(&b, query, sizeof(query));
    assert_int_equal(b.counters[0].drop_membership, 1);
    stop(&b);
}

static void old_queriers_get_old_reports(void **state)
{
    static const uint8_t igmp2_report[] = {
        0x01, 0x00, 0x5e, 0x00, 0x01, 0xbb, 2,    0,    0,    0,    0,   2,  0x08, 0x00, 0x46, 0xc0,
        0x00, 0x20, 0x00, 0x00, 0x40, 0x00, 0x01, 0x02, 0xf7, 0xf7, 10,  99, 0,    2,    224,  0,
        1,    187,  0x94, 0x04, 0x00, 0x00, 0x16, 0x00, 0x08, 0x44, 224, 0,  1,    187};
    struct bench b;

    (void)state;
    start(&b, 1, "");
    give_igmp(&b, igmp2, sizeof(igmp2));
    advance(&b, 10 * SECOND_US);
    assert_int_equal(b.sent_count, 1);
    assert_int_equal(rte_pktmbuf_pkt_len(b.sent[0]), sizeof(igmp2_report));
    assert_memory_equal(rte_pktmbuf_mtod(b.sent[0], uint8_t *), igmp2_report, sizeof(igmp2_report));
    drop_sent(&b);
    give_igmp(&b, igmp3, sizeof(igmp3)); /* the old one may still be there */
    advance(&b, 10 * SECOND_US);
    assert_int_equal(b.sent_count, 1);
    assert_int_equal(report(&b, 0, COAP4, 8)[0], 0x16);
    drop_sent(&b);
    give_igmp(&b, igmp1, sizeof(igmp1));
    advance(&b, 10 * SECOND_US);
    assert_int_equal(b.sent_count, 1);
    assert_int_equal(report(&b, 0, COAP4, 8)[0], 0x12);
    drop_sent(&b);
    advance(&b, 240 * SECOND_US); /* 250 s after it: still */
    give_igmp(&b, igmp3, sizeof(igmp3));
    advance(&b, 10 * SECOND_US);
    assert_int_equal(report(&b, 0, COAP4, 8)[0], 0x12);
    drop_sent(&b);
    advance(&b, 11 * SECOND_US); /* 2 times 125 s and 10 s have passed (RFC 3376 8.12) */
    give_igmp(&b, igmp3, sizeof(igmp3));
    advance(&b, 10 * SECOND_US);
    assert_int_equal(b.sent_count, 1);
    assert_report4(&b, 0, 2);
    stop(&b);
}

static void old_mld_queriers_get_old_reports(void **state)
{
    static const char *const groups[] = {"ff02::fd", "ff05::fd", "ff02::1:ff00:2"};
    struct bench b;
    unsigned found[3] = {0};

    (void)state;
    start(&b, 1, "");
    give_mld(&b, mld1, sizeof(mld1));
    advance(&b, 10 * SECOND_US);
    assert_int_equal(b.sent_count, 3);
    for (unsigned i = 0; i < 3; i++)
        for (unsigned g = 0; g < 3; g++) {
            struct frame f = sent_frame(&b, i, FRAME_ICMP6);

            if (memcmp(f.destination.bytes, address_of(groups[g]).bytes, 16) == 0) {
                const uint8_t *message = report(&b, i, groups[g], 24);

                assert_int_equal(message[0], 131);
                assert_memory_equal(message + 8, f.destination.bytes, 16);
                found[g]++;
            }
        }
    assert_true(found[0] == 1 && found[1] == 1 && found[2] == 1);
    drop_sent(&b);
    advance(&b, 251 * SECOND_US);
    give_mld(&b, mld2, sizeof(mld2));
    advance(&b, 10 * SECOND_US);
    assert_int_equal(b.sent_count, 1);
    assert_report6(&b, 0, 2);
    stop(&b);
}

/* With old versions one report is enough (RFC 2236 3, RFC 2710 4); with the current ones each host
 * speaks for itself. */
static void others_reports_are_enough(void **state)
{
    struct bench b;
    uint8_t bytes[160], report4[8] = {0x16, 0, 0, 0, 224, 0, 1, 187}, report6[24] = {131};

    (void)state;
    start(&b, 1, "");
    memcpy(report6 + 8, address_of("ff02::fd").bytes, 16);
    give_igmp(&b, igmp3, sizeof(igmp3));
    give(&b, bytes, igmp(bytes, "10.99.0.9", COAP4, report4, 8, (struct flaw){0}));
    advance(&b, 10 * SECOND_US);
    assert_int_equal(b.sent_count, 1);
    drop_sent(&b);
    give_igmp(&b, igmp2, sizeof(igmp2));
    give(&b, bytes, igmp(bytes, "10.99.0.9", COAP4, report4, 8, (struct flaw){0}));
    give_mld(&b, mld1, sizeof(mld1));
    give(&b, bytes, mld(bytes, "fe80::9", "ff02::fd", report6, 24, (struct flaw){0}));
    advance(&b, 20 * SECOND_US);
    assert_int_equal(b.sent_count, 2); /* of the other two groups */
    stop(&b);
}

static void damaged_queries_are_ignored(void **state)
{
    struct bench b;
    uint8_t bytes[200], long6[29], bad_group[sizeof(igmp3)];
    uint64_t drops = 0;

    (void)state;
    start(&b, 1, "");
    memset(long6, 0, sizeof(long6));
    memcpy(long6, mld1, sizeof(mld1));
    memcpy(bad_group, igmp3, sizeof(bad_group));
    bad_group[4] = 10; /* no group */
#define IGNORED(length)                                           \
    do {                                                          \
        size_t n_ = length;                                       \
        give(&b, bytes, n_);                                      \
        assert_int_equal(b.counters[0].drop_membership, ++drops); \
    } while (0)
    IGNORED(igmp(bytes, ROUTER4, ALL4, igmp3, sizeof(igmp3), (struct flaw){.sum = true}));
    IGNORED(igmp(bytes, ROUTER4, ALL4, igmp3, sizeof(igmp3), (struct flaw){.ttl = 2}));
    IGNORED(igmp(bytes, ROUTER4, ALL4, igmp3, sizeof(igmp3), (struct flaw){.no_alert = true}));
    IGNORED(igmp(bytes, ROUTER4, ALL4, igmp2, sizeof(igmp2), (struct flaw){.no_alert = true}));
    IGNORED(igmp(bytes, ROUTER4, COAP4, igmp3, sizeof(igmp3), (struct flaw){0}));
    IGNORED(igmp(bytes, ROUTER4, ALL4, bad_group, sizeof(bad_group), (struct flaw){0}));
    for (size_t n = 4; n < 8; n++)
        IGNORED(igmp(bytes, ROUTER4, ALL4, igmp2, n, (struct flaw){0}));
    for (size_t n = 9; n < 12; n++)
        IGNORED(igmp(bytes, ROUTER4, ALL4, igmp3, n, (struct flaw){0}));
    IGNORED(mld(bytes, ROUTER6, ALL6, mld2, sizeof(mld2), (struct flaw){.sum = true}));
    IGNORED(mld(bytes, ROUTER6, ALL6, mld2, sizeof(mld2), (struct flaw){.ttl = 255}));
    IGNORED(mld(bytes, ROUTER6, ALL6, mld2, sizeof(mld2), (struct flaw){.no_alert = true}));
    IGNORED(mld(bytes, "fd99::1", ALL6, mld2, sizeof(mld2), (struct flaw){0}));
    IGNORED(mld(bytes, "::", ALL6, mld2, sizeof(mld2), (struct flaw){0}));
    IGNORED(mld(bytes, ROUTER6, "ff02::fd", mld2, sizeof(mld2), (struct flaw){0}));
    for (size_t n = 4; n < 24; n++)
        IGNORED(mld(bytes, ROUTER6, ALL6, mld1, n, (struct flaw){0}));
    for (size_t n = 25; n < 28; n++)
        IGNORED(mld(bytes, ROUTER6, ALL6, long6, n, (struct flaw){0}));
#undef IGNORED
    advance(&b, 30 * SECOND_US);
    assert_int_equal(b.sent_count, 0);
    assert_int_equal(b.counters[0].membership_heard, 0);
    /* Whereas these are good: a version that had no option, a switch without an address, unicast.
     */
    give(&b, bytes, igmp(bytes, ROUTER4, ALL4, igmp1, 8, (struct flaw){.no_alert = true}));
    give(&b, bytes, igmp(bytes, "0.0.0.0", ALL4, igmp3, sizeof(igmp3), (struct flaw){0}));
    give(&b, bytes, igmp(bytes, ROUTER4, OUR_IP, igmp3, sizeof(igmp3), (struct flaw){0}));
    assert_int_equal(b.counters[0].membership_heard, 3);
    stop(&b);
}

/* Every flip of a bit in a query: it ends in a counter, or is heard, and nothing is read beyond it.
 */
static void flipped_queries(void **state)
{
    struct bench b;
    uint8_t good[2][160];
    size_t length[2];

    (void)state;
    start(&b, 1, "");
    length[0] = igmp(good[0], ROUTER4, ALL4, igmp3, sizeof(igmp3), (struct flaw){0});
    length[1] = mld(good[1], ROUTER6, ALL6, mld2, sizeof(mld2), (struct flaw){0});
    for (unsigned i = 0; i < 2; i++)
        for (size_t bit = 0; bit < length[i] * 8; bit++) {
            uint8_t bytes[160];

            memcpy(bytes, good[i], length[i]);
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            give(&b, bytes, length[i]);
        }
    assert_true(b.counters[0].drop_membership > 100);
    stop(&b);
}

static struct membership_message decoded(const uint8_t *message, size_t length)
{
    bool v4 = message[0] == 0x11;
    struct stack_interface interface = {.mac = our_mac};
    struct membership_message m;
    uint8_t bytes[160];
    struct frame f;
    struct rte_mbuf *mbuf;

    length = v4 ? igmp(bytes, ROUTER4, ALL4, message, length, (struct flaw){0})
                : mld(bytes, ROUTER6, ALL6, message, length, (struct flaw){0});
    mbuf = packet(bench, bytes, length);
    assert_int_equal(frame_read(mbuf, &interface, false, &f), v4 ? FRAME_IGMP : FRAME_ICMP6);
    m = membership_read(&f);
    rte_pktmbuf_free(mbuf);
    return m;
}

/* RFC 3376 4.1.1 and RFC 3810 5.1.3: codes that stand for themselves, and floating point. */
static void response_codes(void **state)
{
    static const struct {
        uint16_t code;
        uint32_t igmp3_ms, mld2_ms;
    } cases[] = {
        {0, 0, 0},
        {1, 100, 1},
        {0x7f, 12700, 127},
        {0x80, 12800, 128},
        {0x8f, 24800, 143},
        {0x90, 25600, 144},
        {0xff, 3174400, 255},
        {0x7fff, 3174400, 32767},
        {0x8000, 0, 32768},
        {0x8fff, 3174400, 65528},
        {0x9000, 0, 65536},
        {0xffff, 3174400, 8387584},
    };
    struct bench b;

    (void)state;
    start(&b, 1, "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t query4[sizeof(igmp3)], query6[sizeof(mld2)];
        struct membership_message m;

        memcpy(query4, igmp3, sizeof(query4));
        query4[1] = (uint8_t)cases[i].code;
        m = decoded(query4, sizeof(query4));
        assert_true(m.kind == MEMBERSHIP_QUERY && m.version == MEMBERSHIP_CURRENT && m.general);
        assert_int_equal(m.response_ms, cases[i].igmp3_ms);
        memcpy(query6, mld2, sizeof(query6));
        query6[4] = (uint8_t)(cases[i].code >> 8);
        query6[5] = (uint8_t)cases[i].code;
        assert_int_equal(decoded(query6, sizeof(query6)).response_ms, cases[i].mld2_ms);
        memcpy(query4, igmp2, sizeof(igmp2)); /* there it is always the number itself */
        query4[1] = (uint8_t)(cases[i].code | 0x80);
        assert_int_equal(decoded(query4, sizeof(igmp2)).response_ms, query4[1] * 100);
        memcpy(query6, mld1, sizeof(mld1));
        query6[4] = (uint8_t)(cases[i].code >> 8);
        query6[5] = (uint8_t)cases[i].code;
        assert_int_equal(decoded(query6, sizeof(mld1)).response_ms, cases[i].code);
    }
    stop(&b);
}

/* Whoever asks for an answer at once, again and again, gets ten a second. */
static void answers_keep_their_distance(void **state)
{
    struct bench b;
    uint8_t query[sizeof(igmp3)];

    (void)state;
    start(&b, 1, "");
    memcpy(query, igmp3, sizeof(query));
    query[1] = 0;
    for (unsigned i = 0; i < 1000; i++) {
        give_igmp(&b, query, sizeof(query));
        b.now += 1000;
        stack_advance(b.stack[0], b.now);
    }
    assert_true(b.sent_count >= 9 && b.sent_count <= 11);
    stop(&b);
}

static void leaving_is_said(void **state)
{
    struct bench b;

    (void)state;
    start(&b, 1, "");
    stack_leave(b.stack[0]);
    stack_advance(b.stack[0], b.now);
    assert_int_equal(b.sent_count, 2);
    assert_report4(&b, 0, 3);
    assert_report6(&b, 1, 3);
    drop_sent(&b);
    give_igmp(&b, igmp3, sizeof(igmp3));
    give_mld(&b, mld1, sizeof(mld1));
    advance(&b, 20 * SECOND_US);
    assert_int_equal(b.sent_count, 2); /* the same once more, and no answer */
    stop(&b);
    start(&b, 1, "");
    give_igmp(&b, igmp2, sizeof(igmp2));
    give_mld(&b, mld1, sizeof(mld1));
    stack_leave(b.stack[0]);
    stack_advance(b.stack[0], b.now);
    assert_int_equal(b.sent_count, 4);
    assert_memory_equal(report(&b, 0, "224.0.0.2", 8) + 4, address_of(COAP4).bytes + 12, 4);
    assert_int_equal(report(&b, 0, "224.0.0.2", 8)[0], 0x17);
    for (unsigned i = 1; i < 4; i++)
        assert_int_equal(report(&b, i, "ff02::2", 24)[0], 132);
    assert_memory_equal(report(&b, 1, "ff02::2", 24) + 8, address_of("ff02::fd").bytes, 16);
    stop(&b);
}

/* Worker 0 speaks for both; a query at the other's queue reaches it, a bad one goes nowhere. */
static void one_worker_announces(void **state)
{
    struct bench b;
    uint8_t bytes[160];

    (void)state;
    begin(&b, 2, "");
    advance(&b, 2 * SECOND_US);
    assert_int_equal(b.counters[0].membership_reports, 4);
    assert_int_equal(b.counters[1].membership_reports, 0);
    drop_sent(&b);
    give_to(&b, 1,
            packet(&b, bytes,
                   igmp(bytes, ROUTER4, ALL4, igmp3, sizeof(igmp3), (struct flaw){.sum = true})));
    assert_int_equal(b.counters[1].drop_membership, 1);
    assert_int_equal(b.handed_count[0], 0);
    give_to(&b, 1,
            packet(&b, bytes, igmp(bytes, ROUTER4, ALL4, igmp3, sizeof(igmp3), (struct flaw){0})));
    give_to(&b, 1,
            packet(&b, bytes, mld(bytes, ROUTER6, ALL6, mld2, sizeof(mld2), (struct flaw){0})));
    assert_int_equal(b.handed_count[0], 2);
    exchange(&b);
    advance(&b, 10 * SECOND_US);
    assert_int_equal(b.sent_count, 2);
    assert_int_equal(b.counters[0].membership_reports, 6);
    assert_int_equal(b.counters[0].membership_heard, 2);
    stop(&b);
}

/* More groups than one report holds. */
static void many_addresses(void **state)
{
    struct bench b;
    char yaml[8192];
    int at = snprintf(yaml, sizeof(yaml),
                      "interfaces:\n  - {name: s, device: \"tap:x\", addresses: [10.99.0.2/24");

    (void)state;
    for (unsigned i = 1; i <= 61; i++)
        at += snprintf(yaml + at, sizeof(yaml) - (size_t)at, ", \"fd99::%x/64\"", i * 16);
    snprintf(yaml + at, sizeof(yaml) - (size_t)at,
             "]}\nlisteners: [{uri: coap://10.99.0.2, multicast: false}]\n"
             "routes: [{path: /hello, respond: {payload: hi}}]\nlimits: {sessions: 1000}\n");
    begin_with(&b, 1, yaml);
    stack_advance(b.stack[0], b.now);
    assert_int_equal(b.sent_count, 2); /* no listener is for groups: solicited-node groups only */
    assert_int_equal(report(&b, 0, "ff02::16", 8 + 60 * 20)[7], 60);
    assert_int_equal(report(&b, 1, "ff02::16", 8 + 2 * 20)[7], 2);
    stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins_are_announced_twice),
        cmocka_unit_test(current_queries_are_answered_in_time),
        cmocka_unit_test(one_group_is_asked_for),
        cmocka_unit_test(sources_are_asked_for),
        cmocka_unit_test(old_queriers_get_old_reports),
        cmocka_unit_test(old_mld_queriers_get_old_reports),
        cmocka_unit_test(others_reports_are_enough),
        cmocka_unit_test(damaged_queries_are_ignored),
        cmocka_unit_test(flipped_queries),
        cmocka_unit_test(response_codes),
        cmocka_unit_test(answers_keep_their_distance),
        cmocka_unit_test(leaving_is_said),
        cmocka_unit_test(one_worker_announces),
        cmocka_unit_test(many_addresses),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
