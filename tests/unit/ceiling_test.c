/* The answers of bench/ceiling: whole, with checksums that are right because the request's were. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "bench/ceiling/answer.h"

#define ROUNDS     20000
#define MESSAGE_AT 42
#define ADDRESS    RTE_BE32(0x0a630002)
#define PORT       RTE_BE16(5683)

struct packet {
    struct rte_ether_hdr ether;
    struct rte_ipv4_hdr ip;
    struct rte_udp_hdr udp;
    uint8_t message[1500];
} __attribute__((packed, aligned(64)));

static uint8_t random_byte(void)
{
    return (uint8_t)(rand() >> 7);
}

static void seal(struct packet *p, size_t message)
{
    p->udp.dgram_len = rte_cpu_to_be_16((uint16_t)(sizeof(p->udp) + message));
    p->ip.total_length = rte_cpu_to_be_16((uint16_t)(sizeof(p->ip) + sizeof(p->udp) + message));
    p->ip.hdr_checksum = 0;
    p->ip.hdr_checksum = rte_ipv4_cksum(&p->ip);
    p->udp.dgram_cksum = 0;
    p->udp.dgram_cksum = rte_ipv4_udptcp_cksum(&p->ip, &p->udp);
}

/* A CON GET with `token` bytes of token and `options` bytes of anything behind it. */
static uint16_t make_request(struct packet *p, unsigned token, unsigned options)
{
    uint8_t *bytes = (uint8_t *)p;
    size_t message = 4 + token + options;

    for (size_t i = 0; i < MESSAGE_AT + message; i++)
        bytes[i] = random_byte();
    p->ether.ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV4);
    p->ip.version_ihl = RTE_IPV4_VHL_DEF;
    p->ip.fragment_offset = 0;
    p->ip.next_proto_id = 17;
    p->ip.dst_addr = ADDRESS;
    p->udp.dst_port = PORT;
    p->message[0] = (uint8_t)(0x40 | token);
    p->message[1] = 1;
    seal(p, message);
    return (uint16_t)(MESSAGE_AT + message);
}

static void check_headers(const struct packet *out, const struct packet *in, uint16_t length)
{
    assert_memory_equal(&out->ether.dst_addr, &in->ether.src_addr, 6);
    assert_memory_equal(&out->ether.src_addr, &in->ether.dst_addr, 6);
    assert_int_equal(out->ip.src_addr, in->ip.dst_addr);
    assert_int_equal(out->ip.dst_addr, in->ip.src_addr);
    assert_int_equal(out->ip.time_to_live, 64);
    assert_int_equal(rte_be_to_cpu_16(out->ip.total_length), length - 14);
    assert_int_equal(out->udp.src_port, in->udp.dst_port);
    assert_int_equal(out->udp.dst_port, in->udp.src_port);
    assert_int_equal(rte_be_to_cpu_16(out->udp.dgram_len), length - 34);
}

static void check_message(const struct packet *out, const struct packet *in, uint16_t length,
                          unsigned payload)
{
    unsigned token = in->message[0] & 15;
    const uint8_t *end = (const uint8_t *)out + length;

    assert_int_equal(out->message[0], 0x60 | token); /* ACK, RFC 7252 3 */
    assert_int_equal(out->message[1], 0x45);         /* 2.05 Content */
    assert_memory_equal(out->message + 2, in->message + 2, 2 + token);
    /* ETag of 4, empty Content-Format, Max-Age of 1, payload marker. */
    assert_int_equal(length, MESSAGE_AT + 4 + token + 5 + 1 + 2 + 1 + payload);
    assert_int_equal(out->message[4 + token], 0x44);
    assert_int_equal(end[-(int)payload - 1], 0xff);
}

static void answers_are_whole(void **state)
{
    static const uint16_t payloads[] = {1, 12, 13, 64, 1024};
    static struct packet in, out;
    struct answer answer;

    (void)state;
    srand(7252);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint16_t payload = payloads[i % 5], length;

        if (i % (ROUNDS / 100) < 5)
            assert_int_equal(answer_make(&answer, ADDRESS, PORT, payload), 0);
        payload = (uint16_t)(answer.tail_length - 9);
        length = make_request(&in, i % 9, (unsigned)rand() % 50);
        memcpy(&out, &in, sizeof(out));
        assert_true(answer_wanted(&answer, (uint8_t *)&out, length));
        length = answer_in_place(&answer, (uint8_t *)&out);
        check_headers(&out, &in, length);
        check_message(&out, &in, length, payload);
        assert_int_equal(rte_ipv4_cksum(&out.ip), 0);
        assert_int_equal(rte_ipv4_udptcp_cksum_verify(&out.ip, &out.udp), 0);
    }
}

/* What happened to the request on its way is seen in the answer. */
static void damage_is_passed_on(void **state)
{
    static struct packet p;
    struct answer answer;

    (void)state;
    assert_int_equal(answer_make(&answer, ADDRESS, PORT, 12), 0);
    for (unsigned i = 0; i < 1000; i++) {
        uint16_t length = make_request(&p, i % 9, 6);

        p.message[2 + i % 2] ^= (uint8_t)(1 + i % 255);
        assert_true(answer_wanted(&answer, (uint8_t *)&p, length));
        answer_in_place(&answer, (uint8_t *)&p);
        assert_int_not_equal(rte_ipv4_udptcp_cksum_verify(&p.ip, &p.udp), 0);
    }
}

/* RFC 768: a checksum of zero means that there is none, and one that comes out as zero is sent as
 * all ones. */
static void no_checksum_stays_none(void **state)
{
    static struct packet in, p;
    struct answer answer;
    unsigned ones = 0;

    (void)state;
    assert_int_equal(answer_make(&answer, ADDRESS, PORT, 12), 0);
    make_request(&p, 8, 6);
    p.udp.dgram_cksum = 0;
    answer_in_place(&answer, (uint8_t *)&p);
    assert_int_equal(p.udp.dgram_cksum, 0);
    make_request(&in, 2, 6);
    for (unsigned mid = 0; mid < 65536; mid++) { /* reaches each sum that there is */
        memcpy(&p, &in, sizeof(p));
        p.message[2] = (uint8_t)(mid >> 8);
        p.message[3] = (uint8_t)mid;
        seal(&p, 12);
        answer_in_place(&answer, (uint8_t *)&p);
        assert_int_not_equal(p.udp.dgram_cksum, 0);
        ones += p.udp.dgram_cksum == 0xffff;
        assert_int_equal(rte_ipv4_udptcp_cksum_verify(&p.ip, &p.udp), 0);
    }
    assert_true(ones >= 1);
}

static void only_gets_for_us(void **state)
{
    static const struct {
        unsigned at;
        uint8_t value;
    } spoilers[] = {
        {12, 0x86}, /* EtherType */ {14, 0x46},  /* IP options */
        {20, 0x20}, /* a fragment */ {21, 0x01}, /* another */
        {23, 6},    /* TCP */ {33, 0x03},        /* another address */
        {37, 0x34},                              /* another port */
        {42, 0x50}, /* NON */ {42, 0x49},        /* a token of 9 (RFC 7252 3) */
        {42, 0x80}, /* version 2 */ {43, 2},     /* POST */
        {17, 200},                               /* longer than the frame */
        {39, 11},                                /* shorter than a message */
    };
    static struct packet p;
    struct answer answer;
    uint16_t length;

    (void)state;
    assert_int_equal(answer_make(&answer, ADDRESS, PORT, 12), 0);
    for (unsigned i = 0; i < sizeof(spoilers) / sizeof(spoilers[0]); i++) {
        length = make_request(&p, 4, 6);
        assert_true(answer_wanted(&answer, (uint8_t *)&p, length));
        ((uint8_t *)&p)[spoilers[i].at] = spoilers[i].value;
        if (answer_wanted(&answer, (uint8_t *)&p, length))
            fail_msg("%u at %u was taken", spoilers[i].value, spoilers[i].at);
    }
    length = make_request(&p, 8, 0);
    for (uint16_t shorter = 0; shorter < length; shorter++)
        assert_false(answer_wanted(&answer, (uint8_t *)&p, shorter));
    assert_true(answer_wanted(&answer, (uint8_t *)&p, length));
}

static void too_large(void **state)
{
    struct answer answer;

    (void)state;
    assert_int_equal(answer_make(&answer, ADDRESS, PORT, ANSWER_PAYLOAD_MAX + 1), -EMSGSIZE);
    assert_int_equal(answer_make(&answer, ADDRESS, PORT, ANSWER_PAYLOAD_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_whole),
        cmocka_unit_test(damage_is_passed_on),
        cmocka_unit_test(no_checksum_stays_none),
        cmocka_unit_test(only_gets_for_us),
        cmocka_unit_test(too_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
