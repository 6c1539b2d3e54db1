/* Addresses, endpoints and flows. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/net.h"

static struct address address_of(const char *text)
{
    struct address a;

    assert_int_equal(address_parse(text, &a), 0);
    return a;
}

static void text_there_and_back(void **state)
{
    static const char *const good[] = {
        "0.0.0.0", "10.99.0.2", "255.255.255.255", "::", "2001:db8::1", "fe80::1", "ff02::fd"};
    static const char *const bad[] = {
        "",        "1.2.3",         "1.2.3.4.5",     "256.0.0.1",        "10.0.0.1 ", " 10.0.0.1",
        "1.2.3.x", "2001:db8:::1",  "[2001:db8::1]", "fe80::1%eth0",     "localhost", "10.0.0.1/24",
        ":",       "1:2:3:4:5:6:7", "12345::",       "1:2:3:4:5:6:7:8:9"};
    char text[ENDPOINT_TEXT_BYTES];
    struct address a;

    (void)state;
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        a = address_of(good[i]);
        assert_ptr_equal(address_format(&a, text), text);
        assert_string_equal(text, good[i]);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (address_parse(bad[i], &a) != -EINVAL)
            fail_msg("\"%s\" was taken", bad[i]);
    /* An IPv4 address in IPv6 notation is the IPv4 address (RFC 4291 2.5.5.2). */
    a = address_of("::ffff:10.99.0.2");
    assert_true(address_is_v4(&a));
    assert_string_equal(address_format(&a, text), "10.99.0.2");
}

static void endpoints_as_text(void **state)
{
    struct address a = address_of("10.0.0.1");
    char text[ENDPOINT_TEXT_BYTES];

    (void)state;
    assert_string_equal(endpoint_format(&a, 5683, text), "10.0.0.1:5683");
    a = address_of("2001:db8::1");
    assert_string_equal(endpoint_format(&a, 5684, text), "[2001:db8::1]:5684");
    a = address_of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"); /* the longest */
    assert_string_equal(endpoint_format(&a, 65535, text),
                        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535");
}

static void kinds(void **state)
{
    static const struct {
        const char *text;
        bool v4, multicast, link_local, unspecified;
    } cases[] = {
        {"0.0.0.0", true, false, false, true},
        {"::", false, false, false, true},
        {"::1", false, false, false, false},
        {"10.0.0.1", true, false, false, false},
        {"223.255.255.255", true, false, false, false},
        {"224.0.1.187", true, true, false, false}, /* All CoAP Nodes, RFC 7252 12.8 */
        {"239.255.255.255", true, true, false, false},
        {"240.0.0.1", true, false, false, false},
        {"169.253.255.255", true, false, false, false},
        {"169.254.0.1", true, false, true, false},
        {"169.255.0.1", true, false, false, false},
        {"ff02::fd", false, true, false, false}, /* All CoAP Nodes, RFC 7252 12.8 */
        {"feff::1", false, false, false, false},
        {"fe7f::1", false, false, false, false},
        {"fe80::1", false, false, true, false},
        {"febf::1", false, false, true, false},
        {"fec0::1", false, false, false, false},
        {"fd99::1", false, false, false, false},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct address a = address_of(cases[i].text);

        if (address_is_v4(&a) != cases[i].v4 || address_is_multicast(&a) != cases[i].multicast ||
            address_is_link_local(&a) != cases[i].link_local ||
            address_is_unspecified(&a) != cases[i].unspecified)
            fail_msg("%s is taken for something else", cases[i].text);
    }
}

/* All twelve bytes of the prefix decide the family: change any bit of it, and it is IPv6. */
static void every_bit_of_the_v4_prefix_counts(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 128; bit++) {
        struct address a = address_of("10.99.0.2");

        a.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(address_is_v4(&a), bit >= 96);
    }
}

static void every_bit_counts_in_a_comparison(void **state)
{
    struct endpoint peer = {address_of("2001:db8::1:2"), 40000};
    struct flow flow = flow_make(3, 5683, &peer, TRANSPORT_UDP);

    (void)state;
    assert_true(address_equal(&peer.address, &flow.peer));
    for (unsigned bit = 0; bit < 128; bit++) {
        struct address other = peer.address;

        other.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(address_equal(&peer.address, &other));
        assert_false(address_equal(&other, &peer.address));
    }
    for (unsigned bit = 0; bit < 8 * sizeof(flow); bit++) {
        struct flow other = flow;

        assert_true(flow_equal(&flow, &other));
        ((uint8_t *)&other)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(flow_equal(&flow, &other));
    }
}

/* Flows are hashed and compared as bytes: nothing in them may be left over from the stack. */
static void a_flow_has_no_loose_bytes(void **state)
{
    struct endpoint peer = {address_of("10.0.0.1"), 40000};
    struct flow flow = flow_make(3, 5683, &peer, TRANSPORT_UDP);

    (void)state;
    assert_int_equal(flow.local, 3);
    assert_int_equal(flow.local_port, 5683);
    assert_int_equal(flow.peer_port, 40000);
    assert_int_equal(flow.transport, TRANSPORT_UDP);
    for (unsigned i = 0; i < sizeof(flow.zero); i++)
        assert_int_equal(flow.zero[i], 0);
}

/* Every prefix length: an address differs from the subnet's in exactly one bit. */
static void subnets_of_every_length(void **state)
{
    static const struct {
        const char *text;
        unsigned offset, bits; /* where the family's bits are */
    } families[] = {{"10.99.7.1", 96, 32}, {"2001:db8:8000::1", 0, 128}};

    (void)state;
    for (unsigned f = 0; f < 2; f++) {
        struct address subnet = address_of(families[f].text);

        for (unsigned bit = 0; bit < families[f].bits; bit++) {
            struct address a = subnet;

            a.bytes[(families[f].offset + bit) / 8] ^= (uint8_t)(0x80u >> bit % 8);
            for (unsigned prefix = 0; prefix <= families[f].bits; prefix++)
                assert_int_equal(address_in_subnet(&a, &subnet, prefix), prefix <= bit);
        }
        assert_true(address_in_subnet(&subnet, &subnet, families[f].bits));
    }
}

static void subnets_of_different_families(void **state)
{
    struct address a = address_of("10.99.7.1"), b = address_of("::a63:701");

    (void)state;
    assert_false(address_in_subnet(&a, &b, 0));
    assert_false(address_in_subnet(&b, &a, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_there_and_back),
        cmocka_unit_test(endpoints_as_text),
        cmocka_unit_test(kinds),
        cmocka_unit_test(every_bit_of_the_v4_prefix_counts),
        cmocka_unit_test(every_bit_counts_in_a_comparison),
        cmocka_unit_test(a_flow_has_no_loose_bytes),
        cmocka_unit_test(subnets_of_every_length),
        cmocka_unit_test(subnets_of_different_families),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
