"""Who a client over DTLS is, and where: routes for some of them, what origins are told, clients that
change their address, and many at a time. With the client of the tests (tests/dtls)."""

import re
import socket
import struct
import subprocess
import time

import pytest

import dtls
import wire
from admin import Admin
from client import Client
from conftest import coap_client, shared_rig
from dtls import coaps_client, peer, psk
from gateway import small
from netns import wait_until
from resources import Origin, Resource, piggybacked
from transports import GATEWAY4, HOST4

ROUTES = f"""
admin: {{listen: "127.0.0.1:9683"}}
upstreams:
  - {{name: o, servers: ["coap://{HOST4}:5701"], transmission: {{nstart: 64}}}}
  - {{name: told, servers: ["coap://{HOST4}:5701"], transmission: {{nstart: 64}}, tell_client: {{query: who}}}}
  - {{name: marked, servers: ["coap://{HOST4}:5701"], transmission: {{nstart: 64}},
      tell_client: {{option: 65000}}}}
routes:
  - {{path: /, to: o}}
  - {{path: /hello, respond: {{payload: "hello world!"}}}}
  - {{path: /one, respond: {{payload: "for device-1"}}, allow: ["psk:device-1"]}}
  - {{path: /some, to: o, allow: ["psk:device-*"]}}
  - {{path: /mine, to: o, allow: ["psk:device-1"]}}
  - {{path: /kept, resources: {{create: true, max: 10}}, allow: ["psk:device-2"]}}
  - {{path: /told, to: told}}
  - {{path: /marked, to: marked}}
"""
OPTION = 65000


@pytest.fixture(scope="module", params=[1, 2], ids=["1-worker", "2-workers"])
def shared(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    keys = dtls.write_keys(folder, dtls.KEYS | {"stranger": "00" * 16})
    text = small() + dtls.listeners(f"psk: {{file: {keys}}}\n") + ROUTES
    with shared_rig(folder, text, workers=request.param) as one:
        yield one


@pytest.fixture
def net(shared):
    return shared.hosts.namespace


@pytest.fixture
def admin(shared):
    return Admin(shared.transport.inner)


def answered(answer, code, payload=None):
    assert answer.code == code, answer.output
    assert payload is None or answer.payload == payload, answer.output


# Routes for some.

@pytest.mark.core
def test_allow(net):
    """4.01 for who has not said who it is, 4.03 for who is another one (RFC 7252 5.9.2)."""
    answered(coap_client(net, f"coap://{GATEWAY4}/one"), "4.01")
    answered(coaps_client(net, "/one", *psk("device-2")), "4.03")
    answered(coaps_client(net, "/one", *psk("device-1")), "2.05", "for device-1")
    answered(coaps_client(net, "/hello", *psk("device-2")), "2.05")


def test_allow_holds_for_what_is_in_memory(net):
    """The same bytes from others, however often they have been asked for by who may."""
    with Origin(net, HOST4, 5701, {"/mine/x": Resource(b"secret", max_age=600)}) as origin:
        result = peer(net, "connect", *["get /mine/x"] * 6)
        assert result.stdout.count("secret") == 6, result.stdout
        assert len(origin.requests) == 1
        for _ in range(3):
            answered(coap_client(net, f"coap://{GATEWAY4}/mine/x"), "4.01")
        other = peer(net, "connect", *["get /mine/x"] * 3, identity="device-2", check=False)
        assert "secret" not in other.stdout and "4.03" in other.stdout + other.stderr, other
        client = Client(net)
        for _ in range(3):
            assert client.get("/mine/x").code_text == "4.01"
        assert len(origin.requests) == 1


def test_allow_holds_for_writes_and_observers(net):
    with Origin(net, HOST4, 5701, {"/mine/o": Resource(b"0", observable=True)}) as origin:
        client = Client(net)
        assert client.ask(wire.PUT, "/mine/o", b"1").code_text == "4.01"
        refused = client.observe("/mine/o", token=b"ob")
        assert refused.code_text == "4.01" and refused.option(wire.OBSERVE) is None
        assert origin.requests == []
        assert client.ask(wire.PUT, "/kept/a", b"1").code_text == "4.01"
        answered(coaps_client(net, "/kept/a", *psk("device-1"), "-m", "put", "-e", "1"), "4.03")
        answered(coaps_client(net, "/kept/a", *psk("device-2"), "-m", "put", "-e", "1"), "2.01")
        assert client.get("/kept/a").code_text == "4.01"


def test_lists_leave_out_what_one_may_not_use(net):
    answered(coaps_client(net, "/kept/b", *psk("device-2"), "-m", "put", "-e", "1"), "2.01")
    everyone = coap_client(net, f"coap://{GATEWAY4}/.well-known/core").payload
    assert "</hello>" in everyone
    assert not re.search("</(one|some|mine|kept)", everyone)
    first = coaps_client(net, "/.well-known/core", *psk("device-1")).payload
    assert "</one>" in first and "</some>" in first and "</kept" not in first
    second = coaps_client(net, "/.well-known/core", *psk("device-2")).payload
    assert "</one>" not in second and "</kept/b>" in second


# What origins are told.

def echo_queries(message):
    queries = [v.decode() for n, v in message.options if n == wire.URI_QUERY]
    marks = [v.decode() for n, v in message.options if n == OPTION]
    return piggybacked(message, options=[(wire.MAX_AGE, wire.uint(600))],
                       payload=("&".join(queries) + "|" + "&".join(marks)).encode())


@pytest.fixture
def echo(net):
    with Origin(net, HOST4, 5701, answer=echo_queries) as origin:
        yield origin


def test_origin_is_told_by_query(shared, net, echo):
    answered(coaps_client(net, "/told/a?x=1", *psk("device-1")), "2.05", "x=1&who=psk:device-1|")
    answered(coaps_client(net, "/told/a?x=1", *psk("device-2")), "2.05", "x=1&who=psk:device-2|")
    assert coap_client(net, f"coap://{GATEWAY4}/told/a?x=1").payload == "x=1|"
    assert len(echo.requests) == 3
    for device in ("device-1", "device-2"):  # each has its own in the caches of the workers
        for _ in range(3):
            answered(coaps_client(net, "/told/a?x=1", *psk(device)), "2.05", f"x=1&who=psk:{device}|")
    assert len(echo.requests) <= 3 * shared.transport.workers


def test_nobody_can_say_to_be_another_one(net, echo):
    plain = f"coap://{GATEWAY4}/told/b?who=psk:device-1&y=2&who&whose=me"
    assert coap_client(net, plain).payload == "y=2&whose=me|"
    answered(coaps_client(net, "/told/b?who=psk:device-1&y=2", *psk("device-2")), "2.05",
             "y=2&who=psk:device-2|")
    option = ("-O", f"{OPTION},psk:device-1")
    assert coap_client(net, f"coap://{GATEWAY4}/marked/b", *option).payload == "|"
    answered(coaps_client(net, "/marked/b?z=3", *psk("device-2"), *option), "2.05", "z=3|psk:device-2")


def test_origin_is_told_by_option(shared, net, echo):
    for device in ("device-1", "device-2", "device-1"):
        answered(coaps_client(net, "/marked/c", *psk(device)), "2.05", f"|psk:{device}")
    assert len(echo.requests) <= 2 * shared.transport.workers


def test_observers_are_told_of_one_by_one(net):
    """Two clients that observe the same path observe two things."""
    with Origin(net, HOST4, 5701, {"/told/o": Resource(b"0", observable=True)}) as origin:
        both = [subprocess.Popen(net.command(dtls.PEER, "--psk", f"{d}:{dtls.KEYS[d]}", f"{GATEWAY4}:5684",
                                             "connect", "observe /told/o", "wait 1"),
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                for d in ("device-1", "device-2")]
        wait_until("both are registered", lambda: len(origin.registered) == 2)
        assert {tuple(v for n, v in m.options if n == wire.URI_QUERY) for m in origin.registered} == {
            (b"who=psk:device-1",), (b"who=psk:device-2",)}
        time.sleep(0.3)
        origin.change("/told/o", b"1")
        for one in both:
            output, _ = one.communicate(timeout=30)
            assert one.returncode == 0, output


# Clients that change their address (RFC 9146).

@pytest.mark.core
def test_client_with_a_cid_moves(shared, net, admin):
    moved = shared.gateway.counter("associations_moved")
    net.run("ip", "addr", "add", "10.99.0.51/24", "dev", shared.transport.host_interface)
    try:
        result = peer(net, "connect", "get /hello", "rebind", "get /hello", "rebind 10.99.0.51", "get /hello",
                      *["rebind", "get /hello"] * 4, options=["--cid", "c0ffee"])
    finally:
        net.run("ip", "addr", "del", "10.99.0.51/24", "dev", shared.transport.host_interface)
    assert result.stdout.count("hello world!") == 7, result.stdout
    assert shared.gateway.counter("associations_moved") >= moved + 6


def test_client_without_a_cid_cannot(net):
    result = peer(net, "connect", "get /hello", "rebind", "get /hello",
                  options=["--timeout", "3"], check=False)
    assert result.returncode == 1
    assert result.stdout.count("hello world!") == 1, result.stdout


def test_notifications_follow(shared, net):
    """What was observed before the move is notified after it, to the new address."""
    with Origin(net, HOST4, 5701, {"/o/cid": Resource(b"0", observable=True)}) as origin:
        with subprocess.Popen(net.command(dtls.PEER, "--psk", f"device-1:{dtls.KEYS['device-1']}", "--cid", "",
                                          f"{GATEWAY4}:5684"), stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as client:
            client.stdin.write("connect\nobserve /o/cid\nrebind\nget /hello\nwait 1\n")
            client.stdin.close()
            wait_until("it is registered", lambda: origin.registered)
            time.sleep(0.5)
            origin.change("/o/cid", b"1")
            assert client.wait(timeout=30) == 0, client.stdout.read()


def test_nobody_else_moves_it(shared, net):
    """A replay and a forgery from another address: the client's address stays what it was."""
    before = shared.gateway.counters()
    result = peer(net, "connect", "get /hello", "rebind", "replay", "forge", "sleep 0.3", "rebind", "get /hello",
                  options=["--cid", "0102"])
    assert result.stdout.count("hello world!") == 2, result.stdout

    def grown(name):
        return shared.gateway.counter(name) - sum(c.get(name, 0) for c in before.values())

    assert grown("drop_dtls_replay") == 1
    assert grown("drop_dtls_forged") == 1
    assert grown("associations_moved") == 1


# Again, and many.

def test_new_handshake_from_the_same_address(shared, net, admin):
    """RFC 6347 4.2.8: the old association goes when the new one is there."""
    replaced = shared.gateway.counter("associations_replaced")
    result = peer(net, "connect", "get /hello", "connect", "get /hello", "connect", "get /hello")
    assert result.stdout.count("hello world!") == 3
    assert shared.gateway.counter("associations_replaced") == replaced + 2


def in_use(admin, what):
    _, _, text = admin.ask("GET", "/metrics")
    return sum(int(n) for n in re.findall(rf'coapgw_in_use{{worker="\d+",resource="{what}"}} (\d+)', text))


def test_session_is_resumed(shared, net, admin):
    resumed = shared.gateway.counter("dtls_resumed")
    peer(net, "connect", "get /hello", "close", "resume", "get /hello", options=["--ticket"])
    assert shared.gateway.counter("dtls_resumed") == resumed + 1
    handshakes = in_use(admin, "handshakes")
    peer(net, "connect", "get /hello", "close", "resume", options=["--ticket"])  # and then it is silent
    wait_until("the client's last flight is taken", lambda: shared.gateway.counter("dtls_resumed") == resumed + 2)
    wait_until("nothing is kept for repeating", lambda: in_use(admin, "handshakes") <= handshakes)


def test_split_flights(net):
    for options in (["--separate"], ["--separate", "--cid", "aa"], ["--cid-length", "0", "--padding", "5"]):
        assert "hello world!" in peer(net, "connect", "get /hello", options=options).stdout


def hello(number):
    """A ClientHello without a cookie."""
    body = (b"\xfe\xfd" + struct.pack(">I", number) * 8 + b"\0\0" + b"\0\4\0\xa8\xc0\xa8" + b"\1\0")
    message = b"\1" + struct.pack(">I", len(body))[1:] + b"\0\0\0\0\0" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\xfe\xfd\0\0\0\0\0\0\0\0" + struct.pack(">H", len(message)) + message


def test_flood_of_hellos_costs_nothing(shared, net, admin):
    """2,000 ClientHello from many ports are answered with cookies, smaller than they are, and nothing
    is kept; who has an association goes on meanwhile."""
    kinds = ("handshakes", "associations")
    before, verified = [in_use(admin, k) for k in kinds], shared.gateway.counter("dtls_hello_verify")
    with subprocess.Popen(net.command(dtls.PEER, "--psk", f"device-1:{dtls.KEYS['device-1']}",
                                      f"{GATEWAY4}:5684", "connect", *["get /hello"] * 20, "sleep 0.2",
                                      *["get /hello"] * 20),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as client:
        for number in range(100):
            with net.socket(socket.AF_INET) as flood:
                flood.connect((GATEWAY4, 5684))
                for k in range(20):
                    flood.send(hello(number * 20 + k))
                flood.settimeout(5)
                assert len(flood.recv(2048)) < len(hello(0))
        output, _ = client.communicate(timeout=30)
        assert client.returncode == 0 and output.count("hello world!") == 40, output
    wait_until("all are answered", lambda: shared.gateway.counter("dtls_hello_verify") >= verified + 1900)
    assert all(in_use(admin, k) <= n + 1 for k, n in zip(kinds, before))


def test_storm_of_handshakes(shared, net):
    """Four clients that do nothing but handshakes, one after the other: who has an association goes on."""
    handshakes = shared.gateway.counter("dtls_handshakes")
    storm = [net.popen(dtls.PEER, "--psk", f"device-2:{dtls.KEYS['device-2']}", f"{GATEWAY4}:5684",
                       *["connect"] * 50, stdout=subprocess.DEVNULL) for _ in range(4)]
    result = peer(net, "connect", *["get /hello", "sleep 0.01"] * 60)
    assert result.stdout.count("hello world!") == 60
    for one in storm:
        assert one.wait(timeout=60) == 0
    assert shared.gateway.counter("dtls_handshakes") == handshakes + 201


def test_keepalive_and_retransmissions(rig, tmp_path):
    """Pings to a silent client are answered; what is lost is sent again, as a record of its own: the
    client's window would refuse the same one twice."""
    keys = dtls.write_keys(tmp_path)
    one = rig(small() + dtls.listeners(f"psk: {{file: {keys}}}\n") + ROUTES.replace(
        "upstreams:", "keepalive: 1s\nobserve: {confirm_every: 1}\nupstreams:", 1))
    net, admin = one.hosts.namespace, Admin(one.transport.inner)
    with Origin(net, HOST4, 5701, {"/o/again": Resource(b"0", observable=True)}) as origin:
        with subprocess.Popen(net.command(dtls.PEER, "--psk", f"device-1:{dtls.KEYS['device-1']}",
                                          f"{GATEWAY4}:5684", "connect", "observe /o/again", "wait 1"),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as client:
            wait_until("it is registered", lambda: origin.registered)
            wait_until("it has answered a ping", lambda: one.gateway.counter("keepalive_pongs") >= 1)
            status, _, _ = admin.ask("PUT", "/debug/packet-loss", "1-2", {"Content-Type": "text/plain"})
            assert status == 200
            origin.change("/o/again", b"1")
            output, _ = client.communicate(timeout=30)
        assert client.returncode == 0, output
        assert one.gateway.counter("lost_on_purpose") == 2
        assert one.gateway.counter("retransmissions") >= 1


def test_gateway_says_farewell(rig, tmp_path):
    """At its end it closes what no store keeps."""
    keys = dtls.write_keys(tmp_path)
    one = rig(small() + dtls.listeners(f"psk: {{file: {keys}}}\n") + ROUTES)
    net = one.hosts.namespace
    with subprocess.Popen(net.command(dtls.PEER, "--psk", f"device-1:{dtls.KEYS['device-1']}",
                                      f"{GATEWAY4}:5684", "connect", "get /hello", "closed"),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as client:
        wait_until("it is there", lambda: one.gateway.counter("requests") >= 1)
        one.gateway.stop()
        output, _ = client.communicate(timeout=20)
    assert client.returncode == 0, output


def test_fewer_places_than_clients(rig, tmp_path):
    """limits.associations: the longest idle one makes room, and is told."""
    keys = dtls.write_keys(tmp_path)
    one = rig(small(associations=4) + dtls.listeners(f"psk: {{file: {keys}}}\n") + ROUTES)
    net = one.hosts.namespace
    with subprocess.Popen(net.command(dtls.PEER, "--psk", f"device-1:{dtls.KEYS['device-1']}",
                                      f"{GATEWAY4}:5684", "connect", "get /hello", "closed"),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as first:
        wait_until("it is there", lambda: one.gateway.counter("requests") == 1)
        for _ in range(4):
            peer(net, "connect", "get /hello")
        output, _ = first.communicate(timeout=20)
    assert first.returncode == 0, output
    assert one.gateway.counter("associations_evicted") == 1
