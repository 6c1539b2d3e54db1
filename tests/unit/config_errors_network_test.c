/* Configurations with a wrong interface or listener: what is said about them, word for word with
 * line and key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/config_harness.h"

static const struct error_case cases[] = {
    /* interfaces */
    {"interfaces:\n  - name: a b\n    device: tap:t\n    addresses: [10.9.0.2/24]\n" LISTEN2,
     "2: interfaces[0].name: \"a b\" is not a name; write 1 to 32 letters, digits, _, - or ."},
    {DEV("eth0", "10.9.0.2/24"),
     "2: interfaces[0].device: \"eth0\" is of no known kind; write tap:NAME, af_xdp:IF, "
     "af_packet:IF, memif:SOCKET, pci:ADDRESS or vdev:ARGS"},
    {DEV("tap:" X16, "10.9.0.2/24"), "2: interfaces[0].device: \"tap:" X16 "\" is not a device; "
                                     "write tap:NAME with a name of 1 to 15 characters"},
    {DEV("tap:", "10.9.0.2/24"),
     "2: interfaces[0].device: \"tap:\" is not a device; write tap:NAME "
     "with a name of 1 to 15 characters"},
    {DEV("tap:a,", "10.9.0.2/24"), "2: interfaces[0].device: \"tap:a,\" ends with a comma; write "
                                   "options or remove it"},
    {DEV("af_packet:a/b", "10.9.0.2/24"),
     "2: interfaces[0].device: \"af_packet:a/b\" is not a device; write af_packet:IF with the name "
     "of an interface, 1 to 15 characters"},
    {DEV("af_xdp:..", "10.9.0.2/24"),
     "2: interfaces[0].device: \"af_xdp:..\" is not a device; write af_xdp:IF with the name of an "
     "interface, 1 to 15 characters"},
    {DEV("memif:run/x", "10.9.0.2/24"), "2: interfaces[0].device: \"memif:run/x\" is not a device; "
                                        "write memif:SOCKET with an absolute "
                                        "path of at most 107 bytes"},
    {DEV("memif:/" X64 X16 X16 "xxxxxxxxxxx", "10.9.0.2/24"),
     "2: interfaces[0].device: \"memif:/" X64 X16 X16 "xxxxxxxxxxx\" is not a device; write "
     "memif:SOCKET with an absolute path of at most 107 bytes"},
    {DEV("pci:3:0.0", "10.9.0.2/24"), "2: interfaces[0].device: \"pci:3:0.0\" is not a device; "
                                      "write pci:DDDD:BB:DD.F or pci:BB:DD.F"},
    {DEV("pci:0000:03:00.8", "10.9.0.2/24"),
     "2: interfaces[0].device: \"pci:0000:03:00.8\" is not a device; write pci:DDDD:BB:DD.F or "
     "pci:BB:DD.F"},
    {DEV("vdev:,a=1", "10.9.0.2/24"), "2: interfaces[0].device: \"vdev:,a=1\" is not a device; "
                                      "write vdev:ARGS with a driver's name, "
                                      "such as net_null0"},
    {IF4 "    mac: 02-00-00-00-00-01\n" LISTEN2,
     "5: interfaces[0].mac: \"02-00-00-00-00-01\" is not a MAC address; write auto, or one such as "
     "\"02:00:00:00:00:01\""},
    {IF4 "    mac: \"01:00:5e:00:00:01\"\n" LISTEN2,
     "5: interfaces[0].mac: \"01:00:5e:00:00:01\" is not a unicast address; write one with an even "
     "first byte"},
    {IF4 "    mac: \"00:00:00:00:00:00\"\n" LISTEN2,
     "5: interfaces[0].mac: \"00:00:00:00:00:00\" is not a unicast address; write one with an even "
     "first byte"},
    {DEV("tap:t", "10.9.0.2/24,\n  10.9.0.300/24"),
     "3: interfaces[0].addresses[1]: \"10.9.0.300/24\" is not an address; write ADDRESS/LENGTH, "
     "such "
     "as 10.99.0.2/24"},
    {DEV("tap:t", "10.9.0.2/24, \"fd09::2\""), "2: interfaces[0].addresses[1]: \"fd09::2\" has no "
                                               "prefix length; write ADDRESS/LENGTH, such as "
                                               "fd09::2/64"},
    {DEV("tap:t", "10.9.0.2/24, 10.8.0.1/33"),
     "2: interfaces[0].addresses[1]: \"10.8.0.1/33\" has a prefix length out of range; write 1 to "
     "32"},
    {DEV("tap:t", "10.9.0.2/24, \"fd09::2/129\""),
     "2: interfaces[0].addresses[1]: \"fd09::2/129\" has a prefix length out of range; write 1 to "
     "128"},
    {DEV("tap:t", "10.9.0.2/24, 10.8.0.1/x"), "2: interfaces[0].addresses[1]: \"10.8.0.1/x\" is "
                                              "not an address; write ADDRESS/LENGTH, such as "
                                              "10.99.0.2/24"},
    {DEV("tap:t", "10.9.0.2/24, 10.8.0.0/24"), "2: interfaces[0].addresses[1]: \"10.8.0.0/24\" is "
                                               "the network's own or its broadcast address; "
                                               "write a host's"},
    {DEV("tap:t", "10.9.0.2/24, 224.0.1.187/32"),
     "2: interfaces[0].addresses[1]: \"224.0.1.187/32\" is a multicast address; write a unicast "
     "address"},
    {DEV("tap:t", "10.9.0.2/24, 127.0.0.1/8"), "2: interfaces[0].addresses[1]: \"127.0.0.1/8\" is "
                                               "a loopback address; write a unicast address"},
    {DEV("tap:t", "10.9.0.2/24, \"::1/128\""),
     "2: interfaces[0].addresses[1]: \"::1/128\" is a loopback address; write a unicast address"},
    {DEV("tap:t", "10.9.0.2/24, \"::/64\""), "2: interfaces[0].addresses[1]: \"::/64\" is the "
                                             "unspecified address; write a unicast address"},
    {DEV("tap:t", "10.9.0.2/24, \"ff02::fd/64\""),
     "2: interfaces[0].addresses[1]: \"ff02::fd/64\" is a multicast address; write a unicast "
     "address"},
    {DEV("tap:t", "10.9.0.2/24, 10.9.0.2/16"),
     "2: interfaces[0].addresses[1]: \"10.9.0.2/16\" is there twice; remove one of them"},
    {IF4 "  - {name: b, device: 'tap:b', addresses: [10.9.0.2/16]}\n" LISTEN2,
     "5: interfaces[1].addresses[0]: \"10.9.0.2/16\" is also an address of interfaces[0]; remove "
     "one "
     "of them"},
    {IF4 "  - {name: a, device: 'tap:b', addresses: [10.8.0.2/16]}\n" LISTEN2,
     "5: interfaces[1].name: \"a\" is also the name of interfaces[0]; write another one"},
    {IF4 "  - {name: b, device: 'tap:t0,x=1', addresses: [10.8.0.2/16]}\n" LISTEN2,
     "5: interfaces[1].device: \"tap:t0,x=1\" is also the device of interfaces[0]; write another "
     "one"},
    {IF4 "    gateway: 10.8.0.1\n" LISTEN2,
     "5: interfaces[0].gateway: \"10.8.0.1\" is in no subnet "
     "of this interface; write an address that is"},
    {IF4 "    gateway: 10.9.0.1/24\n" LISTEN2,
     "5: interfaces[0].gateway: \"10.9.0.1/24\" is not an "
     "IPv4 address; write one without a prefix length"},
    {IF4 "    gateway: \"fd09::1\"\n" LISTEN2,
     "5: interfaces[0].gateway: \"fd09::1\" is not an IPv4 "
     "address; write one without a prefix length"},
    {IF4 "    gateway6: 10.9.0.1\n" LISTEN2,
     "5: interfaces[0].gateway6: \"10.9.0.1\" is not an IPv6 "
     "address; write one without a prefix length"},
    {IF4 "    gateway6: \"fd08::1\"\n" LISTEN2,
     "5: interfaces[0].gateway6: \"fd08::1\" is in no "
     "subnet of this interface; write an address that is"},
    {IF4 "    gateway: 10.9.0.2\n" LISTEN2, "5: interfaces[0].gateway: \"10.9.0.2\" is the "
                                            "interface's own address; write the next hop's"},
    {"interfaces:\n  - name: a\n    device: af_packet:v\n    addresses: [10.9.0.2/24]\n"
     "    host_addresses: [10.9.0.1/24]\n" LISTEN2,
     "5: interfaces[0].host_addresses: only a tap: device has them; remove them"},
    {IF4 "    host_addresses:\n      - 10.9.0.1/24\n      - 10.9.0.2/24\n" LISTEN2,
     "7: interfaces[0].host_addresses[1]: \"10.9.0.2/24\" is the interface's own address; write "
     "another one"},
    {IF4 "    host_addresses: [10.8.0.1/24]\n"
         "  - {name: b, device: 'tap:b', addresses: [10.8.0.1/24]}\n" LISTEN2,
     "5: interfaces[0].host_addresses[0]: \"10.8.0.1/24\" is an address of interfaces[1]; write "
     "another one"},
    {IF4 "    vlan: 4095\n" LISTEN2,
     "5: interfaces[0].vlan: \"4095\" is out of range; write 1 to 4094"},
    {IF4 "    mtu: 9000\n" LISTEN2,
     "5: interfaces[0].mtu: \"9000\" is out of range; write 1280 to 1500"},
    {IF4 "    queues: 65\n" LISTEN2,
     "5: interfaces[0].queues: \"65\" is out of range; write 0 to 64"},
    {IF4 "    rx_descriptors: 1000\n" LISTEN2, "5: interfaces[0].rx_descriptors: \"1000\" is not a "
                                               "power of two; write one from 64 to 4096"},
    {IF4 "    tx_descriptors: 32\n" LISTEN2,
     "5: interfaces[0].tx_descriptors: \"32\" is out of range; write 64 to 4096"},
    {DEV("tap:t", "10.9.0.2/24, 10.8.0.1/0"),
     "2: interfaces[0].addresses[1]: \"10.8.0.1/0\" has a prefix length out of range; write 1 to "
     "32"},
    /* listeners */
    {IF4 "listeners: [{uri: coap://10.9.0.9}]\n",
     "5: listeners[0].uri: no interface has the address of \"coap://10.9.0.9\"; write 10.9.0.2, "
     "fd09::2"},
    {IF4 "listeners: [{uri: coaps://10.9.0.2}]\n",
     "5: listeners[0].dtls: is missing; add it with psk or certificate and key"},
    {IF4 "listeners: [{uri: coap+tcp://10.9.0.2}]\n",
     "5: listeners[0].uri: \"coap+tcp://10.9.0.2\" has a scheme that is not supported; write "
     "coap://ADDRESS[:PORT] or coaps://ADDRESS[:PORT]"},
    {IF4 "listeners: [{uri: 10.9.0.2}]\n",
     "5: listeners[0].uri: \"10.9.0.2\" is not a CoAP URI; write coap://ADDRESS[:PORT], an IPv6 "
     "address in brackets"},
    {IF4 "listeners: [{uri: coap://10.9.0.2:65536}]\n",
     "5: listeners[0].uri: \"coap://10.9.0.2:65536\" is not a CoAP URI; write "
     "coap://ADDRESS[:PORT], "
     "an IPv6 address in brackets"},
    {IF4 "listeners: [{uri: 'coap://fd09::2'}]\n",
     "5: listeners[0].uri: \"coap://fd09::2\" is not a CoAP URI; write coap://ADDRESS[:PORT], an "
     "IPv6 address in brackets"},
    {IF4 "listeners: [{uri: coap://10.9.0.2/x}]\n",
     "5: listeners[0].uri: \"coap://10.9.0.2/x\" has a path or a query; write "
     "coap://ADDRESS[:PORT] "
     "alone"},
    {IF4 "listeners: [{uri: 'coap://10.9.0.2?x'}]\n",
     "5: listeners[0].uri: \"coap://10.9.0.2?x\" has a path or a query; write "
     "coap://ADDRESS[:PORT] "
     "alone"},
    {IF4 "listeners: [{uri: coap://localhost}]\n",
     "5: listeners[0].uri: \"coap://localhost\" has no IP address; write coap://ADDRESS[:PORT]"},
    {IF4 "listeners: [{uri: coap://0.0.0.0}]\n",
     "5: listeners[0].uri: \"coap://0.0.0.0\" is the unspecified address; write a unicast address"},
    {BASE6 "  - uri: coap://10.9.0.2:5683\n",
     "7: listeners[1].uri: \"coap://10.9.0.2:5683\" is also listeners[0]; remove one of them"},
    {BASE6 "  - uri: coap://10.9.0.2:40959\nworkers: 2\n",
     "7: listeners[1].uri: \"coap://10.9.0.2:40959\" has one of the upstream ports 32768 to 40959; "
     "write another port, or another upstream_ports.base"},
    {BASE6 "    block_size: 48B\n",
     "7: listeners[0].block_size: \"48B\" is not a power of two; write one from 16B to 1KiB"},
    {BASE6 "    block_size: 2KiB\n",
     "7: listeners[0].block_size: \"2KiB\" is out of range; write 16B to 1KiB"},
    {BASE6 "    block_size: 8B\n",
     "7: listeners[0].block_size: \"8B\" is out of range; write 16B to 1KiB"},
    {BASE6 "    block_size: 512\n",
     "7: listeners[0].block_size: \"512\" is not a size; write a number with a unit (B, KiB)"},
    {BASE6 "    multicast: no\n",
     "7: listeners[0].multicast: \"no\" is not known; write true or false"},
};

static void test_table(void **state)
{
    (void)state;
    assert_cases(cases, sizeof(cases) / sizeof(cases[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
