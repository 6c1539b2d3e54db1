"""Peers that have been silent are pinged (RFC 7252 4.3), clients and servers; those that do not answer
are given up. What is sent and when is read from a capture. On a TAP."""

import os
import time

import pytest

import wire
from capture import Capture, gaps
from client import Client
from gateway import small
from netns import wait_until
from resources import Origin, Resource
from transports import GATEWAY4, HOST4

# What a busy machine may add to a time; never anything is early.
EARLY, LATE = 0.02, 0.3


def text(client="0s", server="0s", transmission="ack_timeout: 2s", revive="1s"):
    return small() + f"""
cache: {{size: 0}}
listeners:
  - {{uri: "coap://{GATEWAY4}", keepalive: {client}, transmission: {{{transmission}}}}}
upstreams:
  - {{name: o, servers: ["coap://{HOST4}:5701"], keepalive: {server}, revive: {revive}, retries: 0,
      transmission: {{{transmission}}}}}
routes:
  - {{path: /, to: o}}
  - {{path: /hello, respond: {{payload: "hello world!"}}}}
"""


# First 500 ms, doubled each time, but never longer than the keepalive interval; six transmissions.
IMPATIENT = "ack_timeout: 500ms, ack_random_factor: 1, max_retransmit: 5"


def capped(keepalive, first=0.5, count=5):
    return [min(first * 2 ** n, keepalive) for n in range(count)]


def is_ping(packet):
    m = packet.message
    return packet.from_gateway and m.type == wire.CON and m.code == wire.EMPTY


def pings_to(packets, port):
    """[(message ID, times)] of the pings that a peer got, in order."""
    found = {}
    for p in packets:
        if is_ping(p) and p.target[1] == port:
            found.setdefault(p.message.mid, []).append(p.time)
    return list(found.items())


def check_gaps(times, expected):
    """Each transmission comes when it is due, none is missing and none is too many."""
    assert len(times) == len(expected) + 1, gaps(times)
    for gap, due in zip(gaps(times), expected):
        assert due - EARLY < gap < due + LATE, f"{gaps(times)} instead of {expected}"


def port_of(client):
    return client.sock.getsockname()[1]


def give_pong(client, timeout=10):
    """Waits for a ping and answers it."""
    client.acknowledge = False
    ping = client.receive(timeout)
    assert (ping.type, ping.code, ping.token) == (wire.CON, wire.EMPTY, b""), ping
    client.send(wire.Message(wire.RST, wire.EMPTY, ping.mid))
    return ping


@pytest.mark.core
def test_clients_are_pinged(rig, tmp_path):
    """One ping each time a client has been silent for the interval, as long as it answers; the interval
    begins anew with whatever is sent or received."""
    one = rig(text(client="1s"))
    with Capture(one.hosts.namespace, one.transport.host_interface, tmp_path) as capture:
        client = Client(one.hosts.namespace)
        assert client.get("/hello").code_text == "2.05"
        answered = time.time()
        pings = [give_pong(client) for _ in range(3)]
        time.sleep(0.5)
        assert client.get("/hello").code_text == "2.05"
        again = time.time()
        pings.append(give_pong(client))
    assert len({p.mid for p in pings}) == 4
    seen = pings_to(capture.packets, port_of(client))
    assert [len(times) for _, times in seen] == [1, 1, 1, 1]
    starts = [times[0] for _, times in seen]
    for gap in [starts[0] - answered] + gaps(starts[:3]) + [starts[3] - again]:
        assert 1 - 2 * EARLY < gap < 1 + LATE, (answered, starts, again)


@pytest.mark.slow
def test_silent_client_is_given_up(rig, tmp_path):
    """The ping is repeated after 0.5 and 1 s, and then each 1.5 s, which is the interval, as often as
    max_retransmit says. Then client and relation are gone: no message follows, whatever changes."""
    one = rig(text(client="1500ms", transmission=IMPATIENT))
    with Origin(one.hosts.namespace, HOST4, 5701,
                {"/x": Resource(b"0", observable=True, max_age=600)}) as origin, \
            Capture(one.hosts.namespace, one.transport.host_interface, tmp_path) as capture:
        client = Client(one.hosts.namespace)
        assert client.observe("/x").option(wire.OBSERVE) is not None
        wait_until("the relation is over at the origin", lambda: origin.cancelled, timeout=30)
        over = time.time()
        origin.change("/x", b"1")
        time.sleep(2)
    seen = pings_to(capture.packets, port_of(client))
    assert len(seen) == 1
    check_gaps(seen[0][1], capped(1.5))
    assert 1.5 - EARLY < over - seen[0][1][-1] < 1.5 + 2 * LATE
    assert not [p for p in capture.packets if p.target[1] == port_of(client) and p.time > over]


def test_late_pong_counts(rig, tmp_path):
    """A client that answers the third transmission stays; the next ping is a new one."""
    one = rig(text(client="1500ms", transmission=IMPATIENT))
    with Capture(one.hosts.namespace, one.transport.host_interface, tmp_path) as capture:
        client = Client(one.hosts.namespace)
        client.acknowledge = False
        assert client.get("/hello").code_text == "2.05"
        assert client.receive().mid == client.receive().mid
        give_pong(client)
        give_pong(client)
    first, second = pings_to(capture.packets, port_of(client))
    check_gaps(first[1], capped(1.5)[:2])
    check_gaps(second[1], [])
    assert 1.5 - EARLY < second[1][0] - first[1][-1] < 1.5 + LATE


@pytest.mark.slow
def test_three_six_twelve(rig, tmp_path):
    """The usual factor of two from 3 s on, below a long interval: 3, 6, 12, 24 s would follow; here the
    interval of 10 s cuts the third."""
    one = rig(text(client="10s", transmission="ack_timeout: 3s, ack_random_factor: 1, "
                                              "max_retransmit: 3"))
    with Capture(one.hosts.namespace, one.transport.host_interface, tmp_path) as capture:
        client = Client(one.hosts.namespace)
        client.acknowledge = False
        client.get("/hello")
        capture.wait("all transmissions", timeout=60, condition=lambda packets: any(
            len(times) == 4 for _, times in pings_to(packets, port_of(client))))
        time.sleep(1)
    [(_, times)] = pings_to(capture.packets, port_of(client))
    check_gaps(times, [3, 6, 10])


def test_notifications_are_capped_too(rig, tmp_path):
    """Keepalive caps the gaps between all retransmissions to a peer."""
    one = rig(text(client="1500ms", transmission=IMPATIENT) + "observe: {confirm_every: 1}\n")
    with Origin(one.hosts.namespace, HOST4, 5701,
                {"/x": Resource(b"0", observable=True, max_age=600)}) as origin, \
            Capture(one.hosts.namespace, one.transport.host_interface, tmp_path) as capture:
        client = Client(one.hosts.namespace)
        client.acknowledge = False
        token = os.urandom(4)
        client.observe("/x", token)
        origin.change("/x", b"1")
        wait_until("the relation is over", lambda: origin.cancelled, timeout=30)
    times = [p.time for p in capture.packets if p.from_gateway and p.message.token == token
             and p.message.type == wire.CON]
    check_gaps(times, capped(1.5))
    assert pings_to(capture.packets, port_of(client)) == [], "a ping beside another CON"


def test_no_keepalive_by_default(rig, tmp_path):
    one = rig(text())
    with Capture(one.hosts.namespace, one.transport.host_interface, tmp_path) as capture:
        client = Client(one.hosts.namespace)
        client.get("/hello")
        time.sleep(3)
    assert not any(map(is_ping, capture.packets))


@pytest.mark.slow
def test_dead_server_is_marked_down_and_comes_back(rig, tmp_path):
    """Found out by pings alone, which nobody answers; it is pinged on, now each `revive`, and with
    the first pong it is up again."""
    one = rig(text(server="1s", transmission=IMPATIENT, revive="700ms"))
    client = Client(one.hosts.namespace)
    with Origin(one.hosts.namespace, HOST4, 5701, {"/x": Resource(b"x")}) as origin, \
            Capture(one.hosts.namespace, one.transport.host_interface, tmp_path) as capture:
        assert client.get("/x").code_text == "2.05"
        wait_until("it is pinged", lambda: origin.pings)
        origin.pong = False
        silent = time.time()
        wait_until("it is marked down", lambda: one.gateway.counter("servers_down") == 1,
                   timeout=30, interval=0.2)
        down = time.time()
        time.sleep(4)
        assert one.gateway.counter("servers_up") == 0
        origin.pong = True
        wait_until("it is up again", lambda: one.gateway.counter("servers_up") == 1, timeout=30,
                   interval=0.2)
        assert one.gateway.counter("servers_down") == 1
        assert client.get("/x").code_text == "2.05"
    times = [t for _, sent in pings_to(after(capture.packets, silent), 5701) for t in sent]
    check_gaps(times[:6], capped(1))
    assert times[5] < down and 1.7 - EARLY < times[6] - times[5] < 1.7 + LATE
    check_gaps(times[6:9], [0.7, 0.7])


def after(packets, when):
    return [p for p in packets if p.time >= when]
