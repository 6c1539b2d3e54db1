"""The admin endpoint of the real binary: metrics, health, sessions, relations, parameters, packet
loss, and requests that are wrong. On a TAP."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

import wire
from admin import Admin, value
from capture import Capture, gaps, transmissions
from client import Client
from conftest import coap_client, shared_rig
from gateway import BINARY, HELLO, LISTENERS, ROOT, SMALL, interfaces_text, small
from netns import Namespace, wait_until
from resources import Origin, Resource
from transports import GATEWAY4, GATEWAY6, HOST4, Tap

CONFIG = f"""
observe: {{confirm_every: 1}}
upstreams:
  - {{name: o, servers: ["coap://{HOST4}:5701"], transmission: {{nstart: 64}}}}
  - {{name: closed, servers: ["coap://{HOST4}:5691"]}}
routes:
  - {{path: /, to: o}}
  - {{path: /closed, to: closed}}
  - {{path: /hello, respond: {{payload: "hello world!"}}}}
  - {{path: /held, resources: {{create: true}}}}
"""
WORKERS = 2


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with shared_rig(tmp_path_factory.mktemp("admin"), small(parameter_sets=3) + LISTENERS + CONFIG,
                    workers=WORKERS) as one:
        yield one


@pytest.fixture
def net(shared):
    return shared.hosts.namespace


@pytest.fixture
def admin(shared):
    return Admin(shared.transport.inner)


@pytest.fixture
def origin(net):
    resources = {"/state": Resource(b"0", observable=True, max_age=600)}
    with Origin(net, HOST4, 5701, resources) as origin:
        yield origin


def peer_of(client):
    return "{}:{}".format(*client.sock.getsockname())


def session_of(admin, client):
    """The session of a client as the list has it, by its endpoint."""
    found = admin.all("sessions", f"&peer={peer_of(client)}")
    assert len(found) == 1, found
    return found[0]


# Metrics.

@pytest.mark.core
def test_metrics(shared, admin, net):
    client = Client(net)
    assert client.get("/hello").payload == b"hello world!"
    samples, types = admin.metrics()
    for worker in range(WORKERS):
        assert value(samples, "coapgw_worker_answers", worker=worker) == 1
        assert value(samples, "coapgw_loop_turns_total", worker=worker) > 0
        assert value(samples, "coapgw_loop_turn_age_seconds", worker=worker) < 2
        assert value(samples, "coapgw_limit", worker=worker, resource="sessions") > 1000
    assert value(samples, "coapgw_requests_total") >= 1
    assert value(samples, "coapgw_rx_codes_total", code="0.01") >= 1
    assert value(samples, "coapgw_tx_codes_total", code="2.05") >= 1
    assert value(samples, "coapgw_rx_messages_total", type="con") >= 1
    assert value(samples, "coapgw_rx_verdicts_total", verdict="ok") >= 1
    assert value(samples, "coapgw_in_use", resource="sessions") >= 1
    assert value(samples, "coapgw_interface_rx_packets_total", interface="south") >= 1
    assert value(samples, "coapgw_server_up", upstream="o", server=f"{HOST4}:5701") == WORKERS
    assert value(samples, "coapgw_server_up", upstream="closed") <= WORKERS
    assert value(samples, "coapgw_build_info") == 1
    assert abs(value(samples, "process_start_time_seconds") - time.time()) < 3600
    assert types["coapgw_in_use"] == "gauge"
    # Counters go on counting, and agree with what a signal prints.
    before = value(samples, "coapgw_requests_total")
    client.get("/hello")
    after = value(admin.metrics()[0], "coapgw_requests_total")
    assert after == before + 1 == shared.gateway.counter("requests")


@pytest.mark.core
def test_every_documented_counter_is_a_metric(admin):
    """Those of docs/counters.md by their names; those of type, code and verdict as labels."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", (ROOT / "docs" / "counters.md").read_text(), re.M)
    samples, types = admin.metrics()
    assert len(rows) > 100
    for name, _ in rows:
        if name.startswith(("rx_verdict_", "rx_code_", "tx_code_")):
            continue
        assert types.get(f"coapgw_{name}_total") == "counter", name
        value(samples, f"coapgw_{name}_total", worker=0)
    for kind in ("con", "non", "ack", "rst"):
        value(samples, "coapgw_rx_messages_total", type=kind)
        value(samples, "coapgw_tx_messages_total", type=kind)


# Health.

@pytest.mark.core
def test_health(admin):
    assert admin.get("/healthz") == {"status": "ok", "reasons": []}
    assert admin.get("/readyz") == {"ready": True}
    assert admin.get("/store") == {"enabled": False}


def test_health_of_a_process_that_stood_still(shared, admin):
    """Stopped for 3 s as a whole: once it goes on, its loops do, too."""
    shared.gateway.process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    shared.gateway.process.send_signal(signal.SIGCONT)
    wait_until("all is well", lambda: admin.ask("GET", "/healthz")[0] == 200)


def test_a_worker_that_stands_still(rig):
    """A debugger would do that: one thread is stopped, the others go on."""
    one = rig(SMALL + LISTENERS + HELLO, workers=2)
    admin = Admin(one.transport.inner)
    threads = {(path / "comm").read_text().strip(): int(path.name)
               for path in (ROOT / f"/proc/{one.gateway.pid}/task").iterdir()}
    worker = next(pid for name, pid in sorted(threads.items()) if "worker" in name)
    with Stopped(worker):
        wait_until("it is noticed", lambda: admin.ask("GET", "/healthz")[0] == 503)
        status, _, text = admin.ask("GET", "/healthz")
        answer = json.loads(text)
        assert (status, answer["status"]) == (503, "failing")
        assert re.fullmatch(r"worker \d has stood still for \d+\.\d s", answer["reasons"][0])
        begun = time.monotonic()
        status, _, text = admin.ask("GET", "/sessions")
        assert (status, "does not answer" in text) == (504, True)
        assert time.monotonic() - begun < 5
        samples, _ = admin.metrics()
        assert value(samples, "coapgw_worker_answers") == 1
        assert value(samples, "coapgw_requests_total", worker=0) == 0
    wait_until("it goes on", lambda: admin.ask("GET", "/healthz")[0] == 200)
    admin.get("/sessions")
    one.gateway.check_stopped()


class Stopped:
    """One thread of another process stands still, held by ptrace."""

    PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17

    def __init__(self, thread):
        self.thread = thread
        self.ended, self.held = threading.Event(), threading.Event()

    def __enter__(self):
        # All ptrace calls have to come from one thread.
        self.keeper = threading.Thread(target=self._keep)
        self.keeper.start()
        assert self.held.wait(10), "the thread could not be stopped"

    def __exit__(self, *_):
        self.ended.set()
        self.keeper.join()

    def _keep(self):
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        if libc.ptrace(self.PTRACE_SEIZE, self.thread, None, None) != 0:
            return
        libc.ptrace(self.PTRACE_INTERRUPT, self.thread, None, None)
        os.waitpid(self.thread, 0x40000000)  # __WALL
        self.held.set()
        self.ended.wait()
        libc.ptrace(self.PTRACE_DETACH, self.thread, None, None)


# Sessions and relations.

@pytest.mark.core
def test_sessions_and_relations_of_libcoap(shared, admin, net, origin):
    """coap-client observes, twice, and is seen; when it has gone, so have its relations."""
    watchers = [net.popen("coap-client-notls", "-s", 60, "-B", 60, "-p", port,
                          f"coap://{GATEWAY4}/state", stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) for port in (6001, 6002)]

    def relations():
        return [r for r in admin.all("relations") if r["peer"] in (f"{HOST4}:6001", f"{HOST4}:6002")]
    wait_until("both observe", lambda: len(relations()) == 2)
    for row in relations():
        assert row["resource"] == "/state" and row["method"] == "GET"
        assert (row["upstream"], row["observation"], row["kept"]) == ("o", "live", "no")
        session = admin.get("/sessions/" + row["session"])
        assert session["peer"] == row["peer"]
        assert (session["role"], session["relations"]) == ("client", 1)
        assert session["local"] == f"{GATEWAY4}:5683"
        assert [o["token"] for o in session["observes"]] == [row["token"]]
    seen = sorted(r["state"] for r in relations())
    origin.change("/state", b"1")
    wait_until("the state is new", lambda: min(r["state"] for r in relations()) > seen[-1])
    upstream = [u for u in admin.get("/upstreams")["upstreams"] if u["name"] == "o"][0]
    assert upstream["servers"][0]["address"] == f"{HOST4}:5701"
    workers = upstream["servers"][0]["workers"]
    assert [w["worker"] for w in workers] == [0, 1]
    assert {w["state"] for w in workers} == {"up"}
    assert sum(w["observations"] for w in workers) >= 1
    for watcher in watchers:
        watcher.send_signal(signal.SIGINT)  # it deregisters
    wait_until("nothing is left", lambda: not relations())


@pytest.mark.core
def test_relations_of_what_the_gateway_holds(admin, net):
    client = Client(net)
    assert client.ask(wire.PUT, "/held/a", b"1").code_text == "2.01"
    assert client.observe("/held/a", b"\x07").payload == b"1"
    rows = [r for r in admin.all("relations") if r["peer"] == peer_of(client)]
    assert [(r["resource"], r["upstream"], r["token"]) for r in rows] \
        == [("/held/a", "(gateway)", "07")]
    assert value(admin.metrics()[0], "coapgw_in_use", resource="resources", worker=0) == 1
    assert client.ask(wire.DELETE, "/held/a").code_text == "2.02"
    assert client.notification(b"\x07").code_text == "4.04"
    wait_until("it is over", lambda: not [r for r in admin.all("relations")
                                          if r["peer"] == peer_of(client)])


@pytest.mark.core
def test_pages(shared, admin, net):
    clients = [Client(net) for _ in range(60)]
    for client in clients:
        client.get("/hello")
    ports = [client.sock.getsockname()[1] for client in clients]
    for limit in (1, 7, 1000):
        rows = [r for r in admin.all("sessions", limit=limit) if r["role"] == "client"]
        assert len({r["id"] for r in rows}) == len(rows)
        assert {f"{HOST4}:{p}" for p in ports} <= {r["peer"] for r in rows}
    by_worker = [admin.all("sessions", f"&worker={w}&peer={HOST4}") for w in range(WORKERS)]
    assert all({r["worker"] for r in rows} == {w} for w, rows in enumerate(by_worker))
    assert len(admin.all("sessions", f"&peer={HOST4}")) == sum(map(len, by_worker))
    assert [r["peer"] for r in admin.all("sessions", f"&peer={peer_of(clients[3])}")] \
        == [peer_of(clients[3])]
    assert admin.all("sessions", "&peer=10.99.0.200") == []
    assert admin.all("sessions", "&peer=fd99::1234") == []
    six = Client(net, family=6)
    six.get("/hello")
    peer = f"[{six.sock.getsockname()[0]}]:{six.sock.getsockname()[1]}"
    assert [r["peer"] for r in admin.all("sessions", f"&peer={peer}")] == [peer]


# Parameters.

@pytest.mark.core
def test_patch_changes_the_next_retransmission(shared, admin, net, origin, tmp_path):
    client = Client(net)
    client.acknowledge = False
    client.observe("/state", b"\x01")
    session = session_of(admin, client)
    assert session["transmission"]["ack_timeout"] == 2 and not session["own_parameters"]
    status, after = admin.patch(session["id"], ack_timeout=0.25, ack_random_factor=1,
                                max_retransmit=3)
    assert status == 200 and after["own_parameters"]
    assert after["transmission"] == session["transmission"] | {
        "ack_timeout": 0.25, "ack_random_factor": 1, "max_retransmit": 3}
    assert admin.get("/sessions/" + session["id"])["transmission"] == after["transmission"]

    def sent(packets):
        """Transmissions of a confirmable notification."""
        mine = [times for (target, _), times in transmissions(packets).items()
                if target == client.sock.getsockname()]
        return mine[0] if mine else []
    with Capture(net, shared.transport.host_interface, tmp_path) as capture:
        origin.change("/state", b"1")  # a confirmable notification, which is not acknowledged
        capture.wait("all have been sent", lambda packets: len(sent(packets)) >= 4)
        time.sleep(4.5)  # another would come 2 s after the last
    times = sent(capture.packets)
    assert len(times) == 4
    assert gaps(times) == pytest.approx([0.25, 0.5, 1], abs=0.1)


@pytest.mark.core
def test_parameters_are_given_back_and_run_out(admin, net):
    """limits.parameter_sets of a worker is 3; null gives back what the listener has."""
    clients = [Client(net) for _ in range(40)]
    for client in clients:
        client.get("/hello")
    rows = [s for s in (session_of(admin, c) for c in clients) if s["worker"] == 0][:4]
    assert len(rows) == 4
    free = 3 - sum(s["own_parameters"] for s in admin.all("sessions", "&worker=0"))
    for session in rows[:free]:
        assert admin.patch(session["id"], nstart=2)[0] == 200
    status, answer = admin.patch(rows[free]["id"], nstart=2)
    assert status == 503 and "parameter_sets" in answer["error"]
    status, answer = admin.patch(rows[0]["id"], nstart=None)
    assert status == 200 and not answer["own_parameters"]
    assert answer["transmission"] == rows[0]["transmission"]
    assert admin.patch(rows[free]["id"], nstart=2)[0] == 200
    for session in rows[1:free + 1]:
        assert admin.patch(session["id"], nstart=None)[0] == 200


BAD_PARAMETERS = [
    ("{}", "nothing"), ("", "no JSON object"), ("[]", "no JSON object"), ("{", "no JSON object"),
    ('{"ack_timeout": 1, "ack_timeout": 2}', "no JSON object"),
    ('{"nonsense": 1}', "nonsense"),
    ('{"ack_timeout": "2s"}', "ack_timeout: a number from 0.001 to 3600 "),
    ('{"ack_timeout": 0}', "ack_timeout"), ('{"ack_timeout": -1}', "ack_timeout"),
    ('{"ack_timeout": 3600.001}', "ack_timeout"), ('{"ack_timeout": 0.0015}', "ack_timeout"),
    ('{"ack_timeout": 1e300}', "ack_timeout"), ('{"ack_timeout": true}', "ack_timeout"),
    ('{"ack_random_factor": 0.999}', "ack_random_factor: a number from 1 to 10 "),
    ('{"ack_random_factor": 10.001}', "ack_random_factor"),
    ('{"max_retransmit": 21}', "max_retransmit: a whole number from 0 to 20"),
    ('{"max_retransmit": 1.5}', "max_retransmit"),
    ('{"nstart": 0}', "nstart: a whole number from 1 to 65535"), ('{"nstart": 65536}', "nstart"),
    ('{"default_leisure": 3601}', "default_leisure"),
    ('{"probing_rate": 0}', "probing_rate"), ('{"probing_rate": 4000001}', "probing_rate"),
    ('{"nstart": 2, "max_retransmit": 99}', "max_retransmit"),
]


@pytest.mark.core
def test_bad_parameters_change_nothing(admin, net):
    client = Client(net)
    client.get("/hello")
    session = session_of(admin, client)
    for body, expected in BAD_PARAMETERS:
        status, _, text = admin.ask("PATCH", "/sessions/" + session["id"], body,
                                    {"Content-Type": "application/json; charset=utf-8"})
        assert (status, expected in json.loads(text)["error"]) == (400, True), (body, status, text)
    after = session_of(admin, client)
    assert after["transmission"] == session["transmission"] and not after["own_parameters"]
    for name, top in (("ack_timeout", 3600), ("ack_random_factor", 10), ("max_retransmit", 20),
                      ("nstart", 65535), ("default_leisure", 3600), ("probing_rate", 4000000)):
        status, answer = admin.patch(session["id"], **{name: top})
        assert (status, answer["transmission"][name]) == (200, top)
    assert admin.patch(session["id"], **dict.fromkeys(session["transmission"]))[0] == 200


@pytest.mark.core
def test_a_session_that_is_another_now(admin, net):
    """The name of a session holds for its peer only."""
    client = Client(net)
    client.get("/hello")
    worker, index, check = session_of(admin, client)["id"].split("-")
    wrong = f"{int(check, 16) ^ 1:08x}"
    for name in (f"{worker}-{index}-{wrong}", f"{worker}-4294967295-{check}", f"9-{index}-{check}",
                 f"{worker}-{index}", "x", f"{worker}-{index}-{check}0", f"-{worker}-{index}-{check}",
                 f"{worker}-99999999999-{check}", f"{worker}-{index}-{check}-1"):
        assert admin.patch(name, nstart=2)[0] == 404, name
        assert admin.ask("GET", f"/sessions/{name}")[0] == 404, name
    assert not session_of(admin, client)["own_parameters"]


# Packet loss.

@pytest.mark.core
def test_packet_loss(admin, net):
    client = Client(net)
    client.get("/hello")
    assert admin.packet_loss("100%")[0] == 200
    try:
        assert [w["packet_loss"] for w in admin.get("/debug/packet-loss")["workers"]] == ["100%"] * 2
        client.send(wire.request(wire.GET, "/hello"))
        assert client.is_quiet()
        assert sum(w["sent"] for w in admin.get("/debug/packet-loss")["workers"]) == 1
        for spec, why in (("101%", "100 percent"), ("", "a range"), ("5-1", "upwards"), ("20", None),
                          ("0", "from 1"), (",", "a range"), ("20%%", "percent"), ("x" * 300, "long"),
                          ("1,", "a range"), ("20%\0", "zero")):
            status, answer = admin.packet_loss(spec)
            if why is None:  # the 20th message
                assert status == 200
                assert admin.packet_loss("100%")[0] == 200
            else:
                assert (status, why in answer["error"]) == (400, True), (spec, answer)
        assert [w["packet_loss"] for w in admin.get("/debug/packet-loss")["workers"]] == ["100%"] * 2
        status, answer = admin.packet_loss(" 1,3-4 \n")
        assert status == 200
        assert [w["packet_loss"] for w in answer["workers"]] == ["1,3-4"] * 2
        heard = []
        for _ in range(5):
            client.send(wire.request(wire.GET, "/hello"))
            heard.append(not client.is_quiet(0.3))
            client.inbox.clear()
        assert heard == [False, True, False, False, True]
    finally:
        assert admin.packet_loss("0%")[0] == 200
    assert client.get("/hello").payload == b"hello world!"


# Requests that are wrong.

@pytest.mark.core
@pytest.mark.parametrize("method, path, status", [
    ("GET", "/", 404), ("GET", "/nothing", 404), ("GET", "/metrics/", 404), ("GET", "/sessions/", 404),
    ("GET", "/sessions/a/b", 404), ("GET", "/debug", 404), ("GET", "/METRICS", 404),
    ("POST", "/metrics", 405), ("DELETE", "/sessions", 405), ("PUT", "/sessions/0-1-00000000", 405),
    ("POST", "/debug/packet-loss", 405), ("OPTIONS", "/metrics", 405), ("PATCH", "/healthz", 405),
    ("NONSENSE", "/metrics", 405), ("TRACE", "/metrics", 405),
    ("GET", "/sessions?limit=0", 400), ("GET", "/sessions?limit=1001", 400),
    ("GET", "/sessions?limit=x", 400), ("GET", "/sessions?limit=", 400),
    ("GET", "/sessions?limit=99999999999999999999999", 400),
    ("GET", "/sessions?worker=2", 400), ("GET", "/sessions?worker=-1", 400),
    ("GET", "/sessions?peer=nobody", 400), ("GET", "/sessions?peer=10.99.0.1:0", 400),
    ("GET", "/sessions?peer=10.99.0.1:65536", 400), ("GET", "/sessions?peer=[fd99::1", 400),
    ("GET", "/sessions?peer=[]:1", 400), ("GET", "/sessions?peer=]:1", 400),
    ("GET", "/sessions?peer=:1", 400), ("GET", "/sessions?peer=" + "1" * 200, 400),
    ("GET", "/sessions?from=5", 400), ("GET", "/sessions?from=2-0-0", 400),
    ("GET", "/sessions?worker=0&from=1-0-0", 400), ("GET", "/sessions?from=0-0-0-0", 400),
    ("GET", "/sessions?wroker=1", 400), ("GET", "/metrics?x=1", 400), ("GET", "/healthz?x", 400),
    ("GET", "/sessions?%ff%0a=1", 400), ("GET", "/%ff%00%0a", 404),
    ("GET", "/sessions/%00", 404), ("GET", "/sessions?peer=%ff", 400),
    ("GET", "/relations?from=0-4294967296-0", 400), ("GET", "/upstreams?worker=0", 400),
    ("GET", "/sessions?from=0-4294967295-4294967295", 200), ("HEAD", "/metrics", 200),
    ("HEAD", "/sessions", 200), ("HEAD", "/nothing", 404),
])
def test_wrong_requests(admin, method, path, status):
    found, headers, text = admin.ask(method, path)
    assert found == status, text
    if status == 405:
        assert "GET" in headers["Allow"]
    if method == "HEAD":
        assert text == ""
    elif status != 200:
        assert json.loads(text)["error"]


@pytest.mark.core
def test_bodies(admin):
    """413 beyond 4 KiB, also when its length is not announced; 415 for another media type."""
    text = {"Content-Type": "text/plain"}
    path = "/debug/packet-loss"
    assert admin.ask("PUT", path, "0%" + " " * 4094, text)[0] == 200
    assert admin.ask("PUT", path, "0%" + " " * 4095, text)[0] == 413
    assert admin.ask("PUT", path, iter([b"0%", b" " * 9000]), text)[0] == 413
    head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\n".encode()
    assert admin.raw(head + b"Content-Length: 10000000\r\n\r\n").startswith(b"HTTP/1.1 413")
    assert admin.raw(head + b"Content-Length: 99999999999999999999\r\n\r\n") \
        .startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
    assert admin.ask("PUT", path, "0%", {"Content-Type": "application/json"})[0] == 415
    assert admin.ask("PUT", path, "0%", {"Content-Type": "text/plain ; charset=utf-8"})[0] == 200
    assert admin.ask("PUT", path, "0%")[0] == 200
    assert admin.ask("PATCH", "/sessions/0-0-00000000", "{}", text)[0] == 415


@pytest.mark.core
@pytest.mark.parametrize("host, status", [
    ("localhost", 200), ("localhost:9683", 200), ("LOCALHOST:1", 200), ("127.0.0.1:9683", 200),
    ("[::1]:9683", 200), ("[::1]", 200), ("10.1.2.3", 200), ("", 403),
    ("evil.example", 403), ("localhost.evil.example", 403), ("127.0.0.1.evil.example:9683", 403),
    ("localhost:x", 403), ("[localhost]", 403), ("[::1", 200), ("localhost:99999", 403),
])
def test_host_header(admin, host, status):
    """A page of another site whose name leads to 127.0.0.1 is not served (DNS rebinding)."""
    answer = admin.raw(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer


@pytest.mark.core
def test_garbage_and_many_connections(shared, admin):
    """Connections that say nothing, or nonsense, keep nobody from asking."""
    assert admin.raw(b"\x16\x03\x01" + os.urandom(300) + b"\r\n\r\n").startswith((b"HTTP/1.1 4", b""))
    idle = []
    try:
        for _ in range(20):
            sock = admin.connect()
            sock.sendall(b"GET /metr")
            idle.append(sock)
        assert admin.get("/healthz")["status"] == "ok"
    finally:
        for sock in idle:
            sock.close()
    assert admin.get("/healthz")["status"] == "ok"


def test_asking_goes_on_beside_load(shared, admin, net):
    """Lists are asked for all the time while clients are served, and no request is lost to it."""
    ended = threading.Event()
    asked = []

    def keep_asking():
        while not ended.is_set():
            admin.all("sessions", limit=1000)
            admin.metrics()
            asked.append(1)
    asker = threading.Thread(target=keep_asking)
    asker.start()
    try:
        clients = [Client(net) for _ in range(20)]
        for _ in range(50):
            for client in clients:
                assert client.get("/hello").payload == b"hello world!"
    finally:
        ended.set()
        asker.join()
    assert len(asked) > 3


# Where it listens.

@pytest.mark.core
def test_none_listens_nowhere(rig):
    one = rig(SMALL + LISTENERS + HELLO + "admin: none\n")
    assert one.hosts.client("/hello").code == "2.05"
    with pytest.raises(ConnectionRefusedError):
        Admin(one.transport.inner).get("/healthz")


def test_another_address(rig):
    """IPv6, and an address that others can reach, which is said."""
    one = rig(SMALL + LISTENERS + HELLO + 'admin: {listen: "[::1]:9700"}\n')
    assert Admin(one.transport.inner, "::1", 9700).get("/healthz")["status"] == "ok"
    assert "loopback" not in one.gateway.log()


def test_a_warning_where_it_is_open(rig):
    one = rig(SMALL + LISTENERS + HELLO + 'admin: {listen: "0.0.0.0:9683"}\n')
    admin = Admin(one.transport.inner)
    assert "admin.listen: 0.0.0.0:9683 is not loopback" in one.gateway.log()
    # Names are not checked there: those that lead here are not known.
    answer = admin.raw(b"GET /healthz HTTP/1.1\r\nHost: gw.example\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.core
def test_a_port_that_is_taken(tmp_path):
    """It does not start, and says which key is wrong."""
    carrier = Tap()
    try:
        carrier.prepare()
        with carrier.inner.entered():
            other = socket.create_server(("127.0.0.1", 9683))
        config = tmp_path / "coapgw.yaml"
        config.write_text(interfaces_text(carrier) + SMALL + LISTENERS + HELLO)
        result = carrier.inner.run(BINARY, "-c", config, check=False, timeout=60)
        other.close()
        assert result.returncode == 1
        assert "admin.listen: 127.0.0.1:9683: Address already in use; " in result.stderr
        assert carrier.left_behind() == []
    finally:
        carrier.close()


@pytest.mark.core
def test_it_stops_while_somebody_is_connected(rig):
    one = rig(SMALL + LISTENERS + HELLO)
    with Admin(one.transport.inner).connect() as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
        one.gateway.check_stopped()
