"""What happens below CoAP: neighbours, echo, fragments, VLAN tags, multicast, huge pages."""

import json
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

import transports
import wire
from conftest import coap_client, start_origin
from gateway import HELLO, LISTENERS, PROXY, SMALL
from transports import GATEWAY4, GATEWAY6, HOST4, HOST6
from vlan import Vlan

DEVICES = ["tap", "af_packet"]


@pytest.mark.parametrize("transport", DEVICES)
@pytest.mark.parametrize("workers", [1, 2])
def test_ping(rig, transport, workers):
    """ICMP and ICMPv6 echo, also of packets that arrive in fragments."""
    hosts = rig(SMALL + LISTENERS + HELLO, transport, workers).hosts
    for target in (GATEWAY4, GATEWAY6):
        for size in (0, 56, 1400):
            hosts.namespace.run("ping", "-c", "3", "-i", "0.05", "-W", "5", "-s", size, target)


@pytest.mark.core
@pytest.mark.parametrize("family", [4, 6])
def test_neighbours_both_ways(rig, family):
    """The gateway answers for its own address, and asks for the origin's."""
    one = rig(transport="af_packet")
    capture = one.hosts.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW,
                                         socket.htons(0x0806 if family == 4 else 0x86DD))
    capture.bind((one.transport.host_interface, 0))
    capture.settimeout(5)
    start_origin(one.hosts.namespace, HOST4 if family == 4 else HOST6)
    # Any source but the origin's address, so that the gateway cannot learn it from the request.
    other = "10.99.0.9" if family == 4 else "fd99::9"
    one.hosts.namespace.add_address(one.transport.host_interface,
                                    other + ("/24" if family == 4 else "/64"))
    target = GATEWAY4 if family == 4 else f"[{GATEWAY6}]"
    extra = () if family == 4 else ("-O", f"3,{GATEWAY6}")
    answer = coap_client(one.hosts.namespace, f"coap://{target}/", "-a", other, *extra)
    assert answer.code == "2.05", answer.output

    neighbours = json.loads(one.hosts.namespace.run("ip", "-j", "neigh").stdout)
    ours = {n["dst"]: n for n in neighbours}[GATEWAY4 if family == 4 else GATEWAY6]
    wanted = socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6,
                              HOST4 if family == 4 else HOST6)
    mac = bytes.fromhex(ours["lladdr"].replace(":", ""))
    while True:  # times out when the gateway never asked
        frame = capture.recv(2048)
        if frame[6:12] != mac:
            continue
        if family == 4 and frame[20:22] == b"\x00\x01" and frame[38:42] == wanted:
            break
        if family == 6 and frame[54] == 135 and frame[62:78] == wanted:
            break


@pytest.mark.parametrize("transport", DEVICES)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("family", [4, 6])
def test_fragments_are_reassembled(rig, transport, workers, family):
    """A datagram larger than the MTU arrives in fragments and is understood as a whole: the route
    for /hello knows GET only, so 4.05 says that the gateway has read the first and last byte."""
    hosts = rig(transport=transport, workers=workers).hosts
    body = bytes(range(256)) * 7 + b"x" * 108
    host = GATEWAY6 if family == 6 else None
    for _ in range(4):  # source ports, and so owners, differ
        answer = hosts.exchange(wire.request(wire.PUT, "/hello", body, host=host), family)
        assert answer.code_text == "4.05", answer


def test_large_request_through_the_proxy(rig):
    """A request larger than the MTU is forwarded in fragments, or refused, but never lost."""
    hosts = rig(origins=True).hosts
    answer = hosts.exchange(wire.request(wire.PUT, "/big", bytes(1900)))
    while answer.code == wire.EMPTY:
        raise AssertionError("no answer within ACK_TIMEOUT")
    assert answer.code_text in ("2.01", "4.13"), answer


@pytest.mark.core
def test_vlan(rig):
    """Tagged packets in and out; untagged ones are none of this interface's business."""
    class Tagged(transports.AfPacket):
        host_interface = "host0"

        def prepare(self):
            super().prepare()
            self.hosts.run("ip", "address", "flush", "dev", self.host_interface)
            self.vlan = Vlan(self.hosts, self.host_interface, "vlan100", 100)
            for address in transports.HOST_ADDRESSES:
                self.hosts.add_address("vlan100", address)
            self.hosts.run("ip", "link", "set", "vlan100", "up")

        def close(self):
            self.vlan.close()
            super().close()

    one = rig(transport=Tagged, interface="vlan: 100", origins=True)
    for family in (4, 6):
        answer = one.hosts.client("/", family=family)
        assert answer.code == "2.05", answer.output
        one.hosts.namespace.run("ping", "-c", "1", "-W", "5",
                                GATEWAY4 if family == 4 else GATEWAY6)


@pytest.mark.core
@pytest.mark.parametrize("transport", DEVICES)
@pytest.mark.parametrize("workers", [1, 2])
def test_multicast(rig, transport, workers):
    """RFC 7252 8: All CoAP Nodes; answered from the gateway's own address, once, and only when NON."""
    one = rig(SMALL + LISTENERS + HELLO, transport, workers)
    interface = one.transport.host_interface
    index = json.loads(one.hosts.namespace.run("ip", "-j", "link", "show", interface).stdout)[0]["ifindex"]
    for group, own in (("224.0.1.187", GATEWAY4), ("ff02::fd", None)):
        v4 = own is not None
        sock = one.hosts.namespace.socket(socket.AF_INET if v4 else socket.AF_INET6)
        sock.settimeout(10)
        if v4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF,
                            struct.pack("4s4si", bytes(4), bytes(4), index))
            sock.bind((HOST4, 0))
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            sock.bind((HOST6, 0))
        asked = wire.request(wire.GET, "/hello", type=wire.NON)
        sock.sendto(asked.encode(), (group, 5683))
        data, peer = sock.recvfrom(2048)
        answer = wire.decode(data)
        assert (answer.type, answer.code_text, answer.token) == (wire.NON, "2.05", asked.token)
        assert peer[:2] == (GATEWAY4 if v4 else GATEWAY6, 5683)
        # Errors are suppressed, and a CON request to a group is not answered (8.1, 8.2).
        sock.sendto(wire.request(wire.GET, "/nothing-here", type=wire.NON).encode(), (group, 5683))
        sock.sendto(wire.request(wire.GET, "/hello", type=wire.CON).encode(), (group, 5683))
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            print(wire.decode(sock.recv(2048)))


def test_huge_pages(rig):
    """With huge pages the gateway takes them, and gives all back."""
    knob = Path("/proc/sys/vm/nr_hugepages")
    before = knob.read_text()
    try:
        if free_pages() < 128:
            knob.write_text(str(int(before) + 160))
        if free_pages() < 128:
            pytest.skip("this machine has no huge pages to give")
        free = free_pages()
        one = rig(SMALL.replace("huge_pages: never", "huge_pages: always") + LISTENERS + HELLO)
        assert one.hosts.client("/hello").code == "2.05"
        assert free_pages() < free
        one.gateway.check_stopped()
        assert free_pages() == free
        mounted = Path("/dev/hugepages")
        assert not mounted.is_dir() or not list(mounted.iterdir())
    finally:
        if knob.read_text() != before:
            knob.write_text(before)


def free_pages():
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["HugePages_Free"])
