"""The same requests on every device, with one worker and with two, over IPv4 and IPv6."""

import concurrent.futures
import re
import select
import time
from pathlib import Path

import pytest

import transports
import wire
from transports import HOST4

MATRIX = [(name, workers) for name in transports.ALL for workers in (1, 2)]
CORE = [("tap", 2), ("af_packet", 1)]


def pytest_generate_tests(metafunc):
    if "hosts" in metafunc.fixturenames:
        matrix = [m for m in MATRIX if m[1] > 1 or metafunc.function is not test_both_workers_work]
        params = [pytest.param(m, id=f"{m[0]}-{m[1]}", marks=[pytest.mark.core] if m in CORE else [])
                  for m in matrix]
        metafunc.parametrize("hosts", params, indirect=True, scope="module")
    if "family" in metafunc.fixturenames:
        metafunc.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


def test_respond(hosts, family):
    answer = hosts.client("/hello", family=family)
    assert (answer.code, answer.payload) == ("2.05", "hello world!"), answer.output
    assert "Content-Format:text/plain" in answer.output
    assert "Max-Age:60" in answer.output


def test_get_through_the_proxy(hosts, family):
    answer = hosts.client("/", family=family)
    assert answer.code == "2.05", answer.output
    assert answer.payload.startswith("This is a test server made with libcoap")


def test_put_get_post_delete(hosts, family):
    """A resource is made, read, changed and removed at the origin."""
    steps = [("put", "first", "2.01", ""), ("get", "", "2.05", "first"),
             ("post", "second", "2.04", ""), ("get", "", "2.05", "second"),
             ("put", "third", "2.04", ""), ("get", "", "2.05", "third"),
             ("delete", "", "2.02", ""), ("get", "", "4.04", "")]
    for method, body, code, payload in steps:
        answer = hosts.client("/thing", "-m", method, *(["-e", body] if body else []), family=family)
        assert (answer.code, answer.payload) == (code, payload), f"{method}: {answer.output}"


def test_non_confirmable(hosts, family):
    answer = hosts.client("/time", "-N", family=family)
    assert answer.code == "2.05" and "t:NON c:2.05" in answer.output, answer.output


def test_separate_response(hosts):
    """libcoap's /async answers after as many seconds as the query says; both families at once."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda f: hosts.client("/async?3", family=f), (4, 6)))
    for answer in answers:
        assert (answer.code, answer.payload) == ("2.05", "done"), answer.output


def test_silent_origin(hosts):
    """A socket that never answers, and an address that nobody has: 5.04 after all retransmissions."""
    hole = hosts.namespace.socket()
    hole.bind((HOST4, 5690))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = list(pool.map(hosts.client, ("/silent", "/nobody")))
    hole.close()
    assert [a.code for a in answers] == ["5.04", "5.04"], [a.output for a in answers]


def test_unreachable_origin(hosts, family):
    """The closed port's ICMP error ends the exchange: its first retransmission is due after 60 s."""
    before = hosts.gateway.counters()
    answer = hosts.client(f"/closed{family}", family=family)
    after = hosts.gateway.counters()
    assert answer.code == "5.04", answer.output
    assert _total(after, "unreachables") == _total(before, "unreachables") + 1
    assert _total(after, "retransmissions") == _total(before, "retransmissions")


def _total(counters, name):
    return sum(c.get(name, 0) for c in counters.values())


def test_ping(hosts, family):
    """RFC 7252 4.3: an Empty CON provokes a Reset."""
    answer = hosts.exchange(wire.Message(wire.CON, wire.EMPTY, 0x1234), family)
    assert answer == wire.Message(wire.RST, wire.EMPTY, 0x1234)


def test_200_clients_at_once(hosts, family):
    """200 endpoints ask at the same time, half of them through the proxy; all are answered."""
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        clients = [pool.submit(hosts.client, "/hello", family=family) for _ in range(12)]
        answered = ask_all(hosts, family, 200)
        assert len(answered) == 200
        assert [c.result().code for c in clients] == ["2.05"] * 12


def ask_all(hosts, family, count, seconds=20):
    """One request from each of `count` sockets, retransmitted as a client would. Returns the answers."""
    waiting = {}
    for i in range(count):
        sock = hosts.socket(family)
        host = transports.GATEWAY6 if family == 6 else None
        message = wire.request(wire.GET, "/hello" if i % 2 else "/time", host=host)
        waiting[sock] = message
        sock.send(message.encode())
    answered, give_up, again = {}, time.monotonic() + seconds, time.monotonic() + 2
    while waiting and time.monotonic() < give_up:
        for sock in select.select(list(waiting), [], [], 0.2)[0]:
            answer = wire.decode(sock.recv(2048))
            if answer.code == wire.EMPTY:
                continue
            asked = waiting.pop(sock)
            assert (answer.token, answer.code_text) == (asked.token, "2.05")
            if answer.type == wire.CON:
                sock.send(wire.Message(wire.ACK, wire.EMPTY, answer.mid).encode())
            else:
                assert answer.mid == asked.mid
            answered[sock] = answer
        if time.monotonic() > again:
            again += 4
            for sock, message in waiting.items():
                sock.send(message.encode())
    for sock in (*waiting, *answered):
        sock.close()
    return answered


NET_ADMIN, SYS_ADMIN = 1 << 12, 1 << 21
KEPT = {"tap": NET_ADMIN, "af_packet": 0, "af_xdp": NET_ADMIN | SYS_ADMIN, "memif": 0}


def test_capabilities_are_given_up(hosts):
    """Every thread has what the end of its device needs, and no way to more."""
    held = {}
    for path in Path(f"/proc/{hosts.gateway.pid}/task").glob("*/status"):
        fields = dict(re.findall(r"^(\w+):\t(.*)$", path.read_text(), re.M))
        held[path.parent.name, fields["Name"]] = [int(fields[key], 16) for key in
                                                  ("CapPrm", "CapEff", "CapInh", "CapAmb", "NoNewPrivs")]
    kept = KEPT[hosts.transport.name]
    assert len(held) > hosts.transport.workers, held
    assert {name: [kept, kept, 0, 0, 1] for name in held} == held
    assert "given up" not in hosts.gateway.log()


def test_both_workers_work(hosts):
    """The steering spreads clients: with two workers, each has handled some of them."""
    assert len(ask_all(hosts, 4, 60)) == 60
    requests = [c.get("requests", 0) for c in hosts.gateway.counters().values()]
    assert len(requests) == 2 and min(requests) > 5, requests
