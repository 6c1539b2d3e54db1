"""Upstreams with several servers, and what a broken origin makes of a request. On a TAP."""

import collections
import contextlib

import pytest

import wire
from gateway import LISTENERS, SMALL
from origins import TinyOrigin
from transports import HOST4

PORTS = (5701, 5702, 5703)
SERVERS = ", ".join(f'"coap://{HOST4}:{port}"' for port in PORTS)
SPREAD = f"""
upstreams:
  - {{name: by_hash, servers: [{SERVERS}], transmission: {{nstart: 64}}}}
  - {{name: in_turn, servers: [{SERVERS}], balance: round_robin, transmission: {{nstart: 64}}}}
  - {{name: non, servers: ["coap://{HOST4}:5701"], reliable: false}}
routes:
  - {{path: /hash, to: by_hash}}
  - {{path: /turn, to: in_turn}}
  - {{path: /non, to: non}}
"""


@pytest.fixture
def spread(rig):
    one = rig(SMALL + LISTENERS + SPREAD)
    with contextlib.ExitStack() as stack:
        origins = [stack.enter_context(TinyOrigin(one.hosts.namespace, HOST4, p)) for p in PORTS]
        yield one.hosts, origins


def served_by(hosts, paths):
    sock = hosts.socket()
    return [hosts.exchange(wire.request(wire.GET, path), sock=sock).payload.decode()
            for path in paths]


@pytest.mark.core
def test_hash_spreads_resources_and_keeps_each_at_one_server(spread):
    hosts, origins = spread
    paths = [f"/hash/{i}" for i in range(60)]
    first, second = served_by(hosts, paths), served_by(hosts, paths)
    assert first == second
    counts = collections.Counter(first)
    assert len(counts) == 3 and min(counts.values()) >= 5, counts


def test_round_robin_takes_servers_in_turn(spread):
    hosts, origins = spread
    names = served_by(hosts, [f"/turn/{i}" for i in range(9)])
    assert sorted(names[:3]) == sorted(o.name for o in origins)
    assert names == names[:3] * 3


def test_unreliable_upstream_gets_non(spread):
    hosts, origins = spread
    answer = hosts.exchange(wire.request(wire.GET, "/non"))
    assert answer.code_text == "2.05"
    assert [m.type for m in origins[0].requests] == [wire.NON]


def test_request_arrives_as_it_was_sent(spread):
    """Options, query and payload unchanged and in order; token and message ID are the gateway's own."""
    hosts, origins = spread
    request = wire.request(wire.PUT, "/non/a%20b/c", b"\x00\xff payload", query=("x=1", "y"))
    request.options += [(wire.CONTENT_FORMAT, b"\x2a"), (2048 + 3 * 4, b"an option that nobody knows")]
    assert hosts.exchange(request).code_text == "2.05"
    seen = origins[0].requests[0]
    assert (seen.code, seen.payload) == (request.code, request.payload)
    # A Hop-Limit may be added on the way (RFC 8768 3).
    assert [o for o in seen.options if o[0] != 16] == sorted(request.options, key=lambda o: o[0])


@pytest.mark.parametrize("broken, code", [
    (lambda m: wire.Message(wire.RST, wire.EMPTY, m.mid), "5.02"),
    (lambda m: wire.Message(wire.ACK, wire.code("2.05"), m.mid, m.token, [(2051, b"critical and unsafe")]), "5.02"),
], ids=["reset", "critical-option"])
def test_broken_answer(rig, broken, code):
    """RFC 7252 5.9.3.3, 5.7.1: a Reset, and an answer with an unknown critical unsafe option."""
    one = rig(SMALL + LISTENERS + f"""
upstreams: [{{name: o, servers: ["coap://{HOST4}:5701"], transmission: {{ack_timeout: 200ms, max_retransmit: 1}}}}]
routes: [{{path: /, to: o}}]
""")
    with TinyOrigin(one.hosts.namespace, HOST4, 5701, broken):
        assert one.hosts.exchange(wire.request(wire.GET, "/x")).code_text == code


def test_duplicate_request_runs_once(spread):
    """The same message again gets the same answer again, and the origin sees one request."""
    hosts, origins = spread
    request = wire.request(wire.POST, "/non/once", b"x")
    sock = hosts.socket()
    first = hosts.exchange(request, sock=sock)
    second = hosts.exchange(request, sock=sock)
    assert first == second and first.code_text == "2.05"
    assert len(origins[0].requests) == 1
    assert hosts.gateway.counter("duplicates") == 1
