"""coapgwctl against a running gateway, and its command line."""

import json
import re
import socket
import subprocess
import threading

import pytest

from admin import parse_metrics
from client import Client
from conftest import shared_rig
from gateway import BINARY, LISTENERS, small
from resources import Origin, Resource
from transports import GATEWAY4, HOST4

CTL = BINARY.parent / "tools" / "coapgwctl"

CONFIG = f"""
observe: {{confirm_every: 1}}
upstreams:
  - {{name: o, servers: ["coap://{HOST4}:5701"], transmission: {{nstart: 64}}}}
routes:
  - {{path: /, to: o}}
  - {{path: /hello, respond: {{payload: "hello world!"}}}}
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with shared_rig(tmp_path_factory.mktemp("ctl"), small() + LISTENERS + CONFIG, workers=2) as one:
        yield one


@pytest.fixture
def net(shared):
    return shared.hosts.namespace


@pytest.fixture
def origin(net):
    with Origin(net, HOST4, 5701, {"/a b": Resource(b"0", observable=True, max_age=600)}) as origin:
        yield origin


@pytest.fixture
def ctl(shared):
    """ctl(ARGUMENTS...): what it prints, when its status is 0; `status=` for another one."""
    def run(*arguments, status=0):
        result = shared.transport.inner.run(CTL, *arguments, check=False, timeout=60)
        assert result.returncode == status, (arguments, result.stdout, result.stderr)
        assert bool(result.stderr) == (status != 0 and arguments != ("health",)), result.stderr
        return result.stdout if status == 0 else result.stderr
    return run


def table(text):
    """A list of dictionaries: columns are parted by two blanks."""
    lines = text.rstrip("\n").split("\n")
    starts = [m.start() for m in re.finditer(r"(?:^|(?<=  ))\S", lines[0])]

    def cells(line):
        return [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None])]
    return [dict(zip(cells(lines[0]), cells(line))) for line in lines[1:]]


def peer_of(client):
    return "{}:{}".format(*client.sock.getsockname())


@pytest.mark.core
def test_health_and_store(ctl):
    assert ctl("health") == "ok\n"
    assert json.loads(ctl("health", "--json"))["status"] == "ok"
    assert ctl("store") == "enabled: no\n"
    assert json.loads(ctl("--json", "store")) == {"enabled": False}


@pytest.mark.core
def test_metrics(ctl):
    samples, _ = parse_metrics(ctl("metrics"))
    assert ("coapgw_workers", frozenset()) in samples


@pytest.mark.core
def test_sessions_and_relations(ctl, net, origin):
    client, other = Client(net), Client(net)
    client.observe("/a b", b"\xab\xcd")
    other.get("/hello")
    rows = table(ctl("sessions", "--peer", HOST4))
    assert {peer_of(client), peer_of(other)} <= {r["PEER"] for r in rows}
    mine, = table(ctl("sessions", "--peer", peer_of(client)))
    assert (mine["ROLE"], mine["LOCAL"], mine["RELATIONS"]) == ("client", f"{GATEWAY4}:5683", "1")
    worker = mine["ID"].split("-")[0]
    assert table(ctl("sessions", "--peer", peer_of(client), "--worker", worker)) != []
    assert table(ctl("sessions", "--peer", peer_of(client), "--worker", 1 - int(worker))) == []
    relation, = table(ctl("relations", "--peer", peer_of(client)))
    assert relation["SESSION"] == mine["ID"]
    assert (relation["TOKEN"], relation["RESOURCE"]) == ("abcd", "/a%20b")
    assert (relation["UPSTREAM"], relation["OBSERVATION"]) == ("o", "live")
    one = ctl("session", mine["ID"])
    assert f"peer: {peer_of(client)}\n" in one and "  ack_timeout: 2\n" in one
    assert "/a%20b" in one
    assert json.loads(ctl("session", mine["ID"], "--json"))["observes"][0]["token"] == "abcd"
    server, = [r for r in table(ctl("upstreams")) if r["WORKER"] == worker]
    assert (server["SERVER"], server["STATE"]) == (f"{HOST4}:5701", "up")
    assert server["OBSERVATIONS"] == "1"


@pytest.mark.core
def test_more_sessions_than_a_page(ctl, net):
    """The gateway gives 1,000 at the most in one answer."""
    socks = [net.socket() for _ in range(1100)]
    for sock in socks:
        sock.settimeout(5)
        sock.connect((GATEWAY4, 5683))
        sock.send(b"\x40\x01\x00\x01\xb5hello")
        assert sock.recv(100)
    rows = json.loads(ctl("sessions", "--json", "--peer", HOST4))
    assert {f"{HOST4}:{s.getsockname()[1]}" for s in socks} <= {r["peer"] for r in rows}
    for sock in socks:
        sock.close()


@pytest.mark.core
def test_set(ctl, net):
    client = Client(net)
    client.get("/hello")
    name = table(ctl("sessions", "--peer", peer_of(client)))[0]["ID"]
    after = ctl("set", name, "ack_timeout=0.5", "nstart=2")
    assert "own_parameters: yes\n" in after
    assert "  ack_timeout: 0.5\n" in after and "  nstart: 2\n" in after
    after = ctl("set", name, "ack_timeout=default", "nstart=default")
    assert "own_parameters: no\n" in after and "  ack_timeout: 2\n" in after
    assert "nstart: a whole number from 1 to 65535" in ctl("set", name, "nstart=0", status=1)
    assert "no such parameter" in ctl("set", name, "speed=1", status=1)
    assert "no such session" in ctl("set", name[:-1] + ("0" if name[-1] != "0" else "1"),
                                    "nstart=2", status=1)
    assert "there is no such" in ctl("session", "../metrics", status=1)
    for bad in ("nstart", "=1", "nstart=", "nstart=x", "nstart=true", 'nstart="2"', "nstart=1 2"):
        assert "KEY=NUMBER" in ctl("set", name, bad, status=2)


@pytest.mark.core
def test_packet_loss(ctl, net):
    client = Client(net)
    client.get("/hello")
    try:
        assert [r["PACKET LOSS"] for r in table(ctl("packet-loss", "100%"))] == ["100%", "100%"]
        assert [r["PACKET LOSS"] for r in table(ctl("packet-loss"))] == ["100%", "100%"]
        with pytest.raises(AssertionError):
            client.get("/hello", timeout=1)
        assert "100 percent" in ctl("packet-loss", "101%", status=1)
    finally:
        ctl("packet-loss", "0%")
    assert client.get("/hello").payload == b"hello world!"


# The command line.

def run(*arguments):
    result = subprocess.run([CTL, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return result.returncode, result.stdout, result.stderr


@pytest.mark.core
def test_help_and_version():
    status, out, _ = run("--help")
    assert status == 0
    for command in ("health", "metrics", "sessions", "session ID", "set ID", "relations", "upstreams",
                    "store", "packet-loss"):
        assert command in out
    assert re.fullmatch(r"coapgwctl \d+\.\d+\.\d+\n", run("--version")[1])


@pytest.mark.core
@pytest.mark.parametrize("arguments", [
    (), ("nonsense",), ("health", "x"), ("session",), ("session", "a", "b"), ("set",), ("set", "0-0-0"),
    ("packet-loss", "1", "2"), ("health", "--peer", "10.0.0.1"), ("--nonsense",), ("-s",),
    ("-s", "nowhere", "health"), ("-s", ":9683", "health"), ("-s", "127.0.0.1:", "health"),
    ("-s", "127.0.0.1:96x3", "health"), ("-s", "user@127.0.0.1:9683", "health"),
    ("-s", "127.0.0.1/x:9683", "health"), ("set", "0-0-0", "nstart"),
])
def test_wrong_usage(arguments):
    status, out, error = run(*arguments)
    assert (status, out) == (2, "")
    assert error


@pytest.mark.core
def test_nobody_is_there():
    """And somebody who is no gateway."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=serve_one, args=(server, b"HTTP/1.1 200 OK\r\n\r\nhello"))
        thread.start()
        status, out, error = run("-s", f"127.0.0.1:{port}", "store")
        thread.join()
        assert (status, out) == (1, "") and "does not answer as a coapgw" in error
    for command in (("health",), ("metrics",), ("sessions",), ("set", "0-0-0", "nstart=1")):
        status, out, error = run("-s", f"127.0.0.1:{port}", *command)
        assert (status, out) == (1, "") and "coapgwctl: 127.0.0.1:" in error


def serve_one(server, answer):
    sock, _ = server.accept()
    sock.recv(4096)
    sock.sendall(answer)
    sock.close()
