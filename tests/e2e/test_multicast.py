"""Multicast: requests to the all-CoAP-nodes groups (RFC 7252 8), and that the gateway says which
groups it is in (IGMP, MLD), seen and asked from the wire."""

import json
import socket
import struct
import time

import pytest

import transports
import wire
from gateway import LISTENERS, SMALL
from netns import wait_until
from transports import GATEWAY4, GATEWAY6, HOST4, HOST6

DEVICES = ["tap", "af_packet"]
COAP4, COAP6 = "224.0.1.187", ("ff02::fd", "ff05::fd")
IGMP, MLD_QUERY, MLD_REPORT1, MLD_DONE, MLD_REPORT2 = 2, 130, 131, 132, 143
LEISURE = 0.1  # SMALL's

# /far leads to an origin that counts what reaches it: a socket of the test's.
ROUTES = f"""
upstreams:
  - {{name: far, servers: ["coap://{HOST4}:7000"]}}
routes:
  - {{path: /hello, respond: {{payload: "hello world!", content_format: text/plain, max_age: 60s}}}}
  - {{path: /far, to: far}}
"""


def index_of(namespace, interface):
    return json.loads(namespace.run("ip", "-j", "link", "show", interface).stdout)[0]["ifindex"]


def group_socket(one, group):
    """A socket that sends to groups on the hosts' interface."""
    index = index_of(one.hosts.namespace, one.transport.host_interface)
    v4 = ":" not in group
    made = one.hosts.namespace.socket(socket.AF_INET if v4 else socket.AF_INET6)
    if v4:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF,
                        struct.pack("4s4si", bytes(4), bytes(4), index))
        made.bind((HOST4, 0))
    else:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 4)
        made.bind((HOST6, 0))
    made.settimeout(10)
    return made


# ---- IGMP and MLD as bytes ----

def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def with_checksum(message, pseudo=b""):
    return message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]


def address(text):
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def igmp_frame(message, source=HOST4, destination="224.0.0.1"):
    """An IGMP message with the router alert option and TTL 1, in its Ethernet frame."""
    header = struct.pack("!BBHHHBBH", 0x46, 0xC0, 24 + len(message), 0, 0, 1, IGMP, 0)
    header += address(source) + address(destination) + b"\x94\x04\0\0"
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    mac = b"\x01\0\x5e" + bytes([address(destination)[1] & 0x7F]) + address(destination)[2:]
    return mac + b"\x02\0\0\0\0\x99" + b"\x08\0" + header + with_checksum(message)


def mld_frame(message, source="fe80::99", destination="ff02::1"):
    """An MLD message likewise, behind a hop-by-hop header."""
    ends = address(source) + address(destination)
    header = struct.pack("!IHBB", 6 << 28, 8 + len(message), 0, 1) + ends
    pseudo = ends + struct.pack("!II", len(message), 58)
    return (b"\x33\x33" + address(destination)[12:] + b"\x02\0\0\0\0\x99" + b"\x86\xdd" + header +
            b"\x3a\0\x05\x02\0\0\x01\0" + with_checksum(message, pseudo))


def general_query(version):
    """A query for all groups that is to be answered within a second."""
    return {"igmp1": igmp_frame(bytes([0x11, 0, 0, 0]) + bytes(4)),
            "igmp2": igmp_frame(bytes([0x11, 10, 0, 0]) + bytes(4)),
            "igmp3": igmp_frame(bytes([0x11, 10, 0, 0]) + bytes(4) + bytes([2, 125, 0, 0])),
            "mld1": mld_frame(struct.pack("!BBHHH", MLD_QUERY, 0, 0, 1000, 0) + bytes(16)),
            "mld2": mld_frame(struct.pack("!BBHHH", MLD_QUERY, 0, 0, 1000, 0) + bytes(16) +
                              bytes([2, 125, 0, 0]))}[version]


def read_report(frame):
    """(sender, destination, message type, {(record type, group)}) of an IGMP or MLD frame whose
    headers are as they must be; None for other frames."""
    if frame[12:14] == b"\x08\0" and frame[23] == IGMP:
        header, message = frame[14:38], frame[38:14 + int.from_bytes(frame[16:18], "big")]
        assert header[0] == 0x46 and header[8] == 1 and header[20:] == b"\x94\x04\0\0", header.hex()
        assert checksum(header) == 0 and checksum(message) == 0, frame.hex()
        sender, destination = header[12:16], header[16:20]
        assert frame[:6] == b"\x01\0\x5e" + bytes([destination[1] & 0x7F]) + destination[2:]
        family, size = socket.AF_INET, 4
    elif frame[12:14] == b"\x86\xdd" and frame[20] == 0 and frame[54] == 58:
        message = frame[62:54 + int.from_bytes(frame[18:20], "big")]
        sender, destination = frame[22:38], frame[38:54]
        assert frame[21] == 1 and frame[54:62] == b"\x3a\0\x05\x02\0\0\x01\0", frame.hex()
        assert checksum(sender + destination + struct.pack("!II", len(message), 58) + message) == 0
        assert frame[:6] == b"\x33\x33" + destination[12:]
        family, size = socket.AF_INET6, 16
    else:
        return None
    groups = set()
    if message[0] in (0x22, MLD_REPORT2):
        for i in range(int.from_bytes(message[6:8], "big")):
            at = 8 + i * (4 + size)
            assert message[at + 1:at + 4] == bytes(3), "auxiliary data or sources"
            groups.add((message[at], socket.inet_ntop(family, message[at + 4:at + 4 + size])))
        assert len(message) == 8 + len(groups) * (4 + size)
    else:
        groups.add((None, socket.inet_ntop(family, message[len(message) - size:])))
    return (socket.inet_ntop(family, sender), socket.inet_ntop(family, destination), message[0],
            groups)


class Wire:
    """All frames of the hosts' interface, from before the gateway starts; the gateway's reports
    among them."""

    def __init__(self, namespace, interface):
        self.socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((interface, 0))
        self.own = bytes.fromhex(json.loads(namespace.run(
            "ip", "-j", "link", "show", interface).stdout)[0]["address"].replace(":", ""))

    def send(self, frame):
        self.socket.send(frame)

    def reports(self, seconds, enough=None):
        """What the gateway has reported until `enough` of it is there."""
        found = []
        deadline = time.monotonic() + seconds
        while not (enough and enough(found)) and (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                frame, origin = self.socket.recvfrom(2048)
            except TimeoutError:
                break
            if origin[2] == socket.PACKET_OUTGOING or frame[6:12] in (self.own, b"\x02\0\0\0\0\x99"):
                continue
            if (report := read_report(frame)) and report[2] not in (0x11, MLD_QUERY):
                found.append(report)
        return found


def says(reports, type, *records):
    """How many reports of the type contain all of the records."""
    return sum(r[2] == type and set(records) <= r[3] for r in reports)


@pytest.fixture
def watched(rig):
    """A gateway on a veth whose other end was listened to before it started."""
    def start(workers=1, text=SMALL + LISTENERS + ROUTES):
        class Listened(transports.AfPacket):
            def prepare(self):
                super().prepare()
                # The hosts' kernel has groups of its own and no part in this.
                self.wire = Wire(self.hosts, self.host_interface)

        one = rig(text, Listened, workers)
        return one, one.transport.wire
    return start


# ---- requests ----

@pytest.mark.core
@pytest.mark.parametrize("transport", DEVICES)
@pytest.mark.parametrize("workers", [1, 2])
def test_requests_to_groups(rig, transport, workers):
    """A NON GET is answered by NON from the gateway's unicast address, with the token, once."""
    one = rig(SMALL + LISTENERS + ROUTES, transport, workers)
    for group in (COAP4, *COAP6):
        sock = group_socket(one, group)
        asked = wire.request(wire.GET, "/hello", type=wire.NON)
        sock.sendto(asked.encode(), (group, 5683))
        data, peer = sock.recvfrom(2048)
        answer = wire.decode(data)
        assert (answer.type, answer.code_text, answer.token) == (wire.NON, "2.05", asked.token)
        assert answer.payload == b"hello world!"
        assert peer[:2] == (GATEWAY6 if ":" in group else GATEWAY4, 5683)
        sock.settimeout(LEISURE + 0.3)
        with pytest.raises(TimeoutError):
            print(sock.recv(2048))


@pytest.mark.parametrize("group", [COAP4, COAP6[0]])
def test_what_groups_are_not_answered(rig, group):
    """Errors and CON requests are not answered, and a request for a proxied path goes nowhere
    (RFC 7252 8.1, 8.2, 5.7.1); each is counted."""
    one = rig(SMALL + LISTENERS + ROUTES)
    origin = one.hosts.namespace.socket()
    origin.bind((HOST4, 7000))
    origin.settimeout(LEISURE + 0.4)
    sock = group_socket(one, group)
    for message in (wire.request(wire.GET, "/nothing-here", type=wire.NON),
                    wire.request(wire.PUT, "/hello", b"x", type=wire.NON),
                    wire.request(wire.GET, "/hello", type=wire.CON),
                    wire.request(wire.GET, "/far", type=wire.NON),
                    wire.Message(wire.CON, wire.EMPTY, 77),  # a ping
                    wire.Message(wire.NON, wire.code("2.05"), 78, b"t")):
        sock.sendto(message.encode(), (group, 5683))
    with pytest.raises(TimeoutError):
        print(origin.recv(2048))
    sock.settimeout(LEISURE + 0.4)
    with pytest.raises(TimeoutError):
        print(wire.decode(sock.recv(2048)))
    counters = one.gateway.counters()[0]
    assert counters["drop_multicast"] + counters["drop_multicast_error"] == 6, counters
    assert "forwards" not in counters


def test_answers_come_within_the_leisure(rig):
    """Each at a random time within default_leisure (RFC 7252 8.2)."""
    one = rig(SMALL.replace("100ms", "2s") + LISTENERS + ROUTES)
    sock = group_socket(one, COAP4)
    asked = [wire.request(wire.GET, "/hello", type=wire.NON) for _ in range(40)]
    begun = time.monotonic()
    for request in asked:
        sock.sendto(request.encode(), (COAP4, 5683))
    answered = [wire.decode(sock.recv(2048)).token for _ in asked]
    # The last comes after half of the time but for one in 2^40 runs, and they do not come in order.
    assert time.monotonic() - begun > 1
    assert sorted(answered) == sorted(r.token for r in asked)
    assert answered != [r.token for r in asked]


def test_groups_that_nobody_listens_to(rig):
    """Without `multicast`, and to other groups and ports: dropped and counted."""
    text = f"""
listeners:
  - {{uri: coap://{GATEWAY4}, multicast: false}}
  - {{uri: "coap://[{GATEWAY6}]"}}
"""
    one = rig(SMALL + text + ROUTES)
    before = one.gateway.counter("drop_not_ours")
    request = wire.request(wire.GET, "/hello", type=wire.NON).encode()
    sock4, sock6 = group_socket(one, COAP4), group_socket(one, COAP6[0])
    sock4.sendto(request, (COAP4, 5683))
    sock4.sendto(request, ("224.0.1.188", 5683))
    sock6.sendto(request, ("ff02::fe", 5683))
    sock6.sendto(request, ("ff05::fe", 5683))
    sock6.sendto(request, (COAP6[0], 5699))
    # The hosts' kernel sends reports of its own, which are not for us either.
    wait_until("they are counted", lambda: one.gateway.counter("drop_not_ours") >= before + 4)
    wait_until("and the wrong port", lambda: one.gateway.counter("drop_no_listener") == 1)
    assert one.gateway.counter("requests") == 0


# ---- membership ----

@pytest.mark.core
@pytest.mark.parametrize("workers", [1, 2])
def test_membership_is_announced(watched, workers):
    """At start, twice, and that it is left, at the end: IGMPv3 and MLDv2."""
    one, listened = watched(workers)
    joins4 = [(4, COAP4)]
    joins6 = [(4, group) for group in (*COAP6, "ff02::1:ff00:2")]
    reports = listened.reports(15, lambda found: says(found, 0x22, *joins4) >= 2 and
                               says(found, MLD_REPORT2, *joins6) >= 2)
    assert says(reports, 0x22, *joins4) == 2, reports
    assert says(reports, MLD_REPORT2, *joins6) == 2, reports
    for sender, destination, type, groups in reports:
        if type == 0x22:
            assert (sender, destination) == (GATEWAY4, "224.0.0.22")
        else:
            assert destination == "ff02::16" and sender.startswith("fe80::")
            # Its link-local address: that of its MAC address has a solicited-node group, too.
            assert f"ff02::1:ff{address(sender)[13]:02x}" in " ".join(g for _, g in groups)
    one.gateway.stop()
    leaves6 = [(3, group) for _, group in joins6]
    reports = listened.reports(5, lambda found: says(found, 0x22, (3, COAP4)) and
                               says(found, MLD_REPORT2, *leaves6))
    assert says(reports, 0x22, (3, COAP4)) and says(reports, MLD_REPORT2, *leaves6), reports


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("query,type,record,groups", [
    ("igmp3", 0x22, 2, (COAP4,)),
    ("igmp2", 0x16, None, (COAP4,)),
    ("mld2", MLD_REPORT2, 2, (*COAP6, "ff02::1:ff00:2")),
    ("mld1", MLD_REPORT1, None, (*COAP6, "ff02::1:ff00:2")),
])
def test_queries_are_answered(watched, workers, query, type, record, groups):
    """In the querier's own version, whichever queue the query comes to."""
    one, listened = watched(workers)
    listened.reports(5, lambda found: says(found, 0x22) >= 2 and says(found, MLD_REPORT2) >= 2)
    wanted = {(record, group) for group in groups}

    def all_said(found):
        return wanted <= set().union(*(r[3] for r in found if r[2] == type))

    for _ in range(2 * workers):
        listened.send(general_query(query))
        reports = listened.reports(15, all_said)
        assert all_said(reports), reports
        for sender, destination, kind, said in reports:
            if kind in (0x16, MLD_REPORT1):  # each to its group
                assert {(None, destination)} == said
    assert one.gateway.counter("membership_heard") == 2 * workers


def test_damaged_queries_are_ignored(watched):
    """A wrong checksum or TTL, no router alert option, too short: no answer, and a count of each."""
    one, listened = watched()
    listened.reports(5, lambda found: says(found, 0x22) >= 2 and says(found, MLD_REPORT2) >= 2)
    igmp, mld = bytearray(general_query("igmp3")), bytearray(general_query("mld2"))
    bad = [bytes(igmp[:-1]) + b"\x01", igmp_frame(bytes([0x11, 10, 0, 0, 0, 0, 0, 0, 2])),
           igmp_frame(bytes([0x11, 10, 0, 0]) + bytes(4) + bytes([2, 125, 0, 9])),
           bytes(mld[:-1]) + b"\x01", mld[:21] + b"\xff" + mld[22:], mld[:56] + b"\x01" + mld[57:],
           mld_frame(struct.pack("!BBHHH", MLD_QUERY, 0, 0, 1000, 0) + bytes(12)),
           mld_frame(struct.pack("!BBHHH", MLD_QUERY, 0, 0, 1000, 0) + bytes(20), source=HOST6)]
    for frame in bad:
        listened.send(bytes(frame))
    wait_until("all are counted", lambda: one.gateway.counter("drop_membership") >= len(bad))
    assert listened.reports(1.5) == []
    assert one.gateway.counter("membership_heard") == 0
    assert one.gateway.counter("membership_reports") == 4


def test_the_kernel_of_another_host_understands(rig):
    """The hosts' own kernel is a bridge that snoops and asks: it lists the gateway's groups."""
    one = rig(SMALL + LISTENERS + ROUTES, "af_packet")
    namespace, port = one.hosts.namespace, one.transport.host_interface
    made = namespace.run("ip", "link", "add", "snoop0", "type", "bridge", "mcast_snooping", "1",
                         "mcast_querier", "1", "mcast_igmp_version", "3", "mcast_mld_version", "2",
                         check=False)
    if made.returncode:
        pytest.skip("this kernel has no bridge that snoops")
    namespace.run("ip", "link", "set", port, "master", "snoop0")
    namespace.run("ip", "link", "set", "snoop0", "up")

    def groups():
        tables = json.loads(namespace.run("bridge", "-j", "mdb", "show", "dev", "snoop0").stdout)
        return {entry["grp"] for table in tables for entry in table["mdb"] if entry["port"] == port}

    wait_until("the bridge knows the groups", lambda: {COAP4, *COAP6} <= groups(), timeout=60)
