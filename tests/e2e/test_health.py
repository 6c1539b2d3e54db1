"""Servers of an upstream that fail and come back, while clients go on asking. On a TAP."""

import collections
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import resources
import wire
from client import Client
from gateway import LISTENERS, small
from netns import wait_until
from resources import Origin, Resource, piggybacked
from transports import HOST4

PORTS = (5701, 5702, 5703)


def spread(*, balance="round_robin", ports=PORTS, more=""):
    """Several servers, nothing cached. One that is silent is found out after 900 ms."""
    servers = ", ".join(f'"coap://{HOST4}:{port}"' for port in ports)
    return LISTENERS + f"""
cache: {{size: 0}}
upstreams:
  - {{name: o, servers: [{servers}], balance: {balance}, revive: 200ms, timeout: 10s, {more}
      transmission: {{nstart: 256, ack_random_factor: 1, ack_timeout: 300ms, max_retransmit: 1}}}}
routes: [{{path: /, to: o}}]
"""


class Load:
    """Clients that ask all the time, each with one request in flight, until told to stop. What they
    are told is counted: by code, and by who answered."""

    def __init__(self, namespace, clients=8, method=wire.GET):
        self.codes, self.names, self.errors = collections.Counter(), collections.Counter(), []
        self._method = method
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(Client(namespace), i))
                         for i in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, client, i):
        number = 0
        while not self._ended.is_set():
            number += 1
            try:
                answer = client.ask(self._method, "/who", query=(f"n={i}-{number}",), timeout=60)
            except (AssertionError, OSError) as error:
                self.errors.append(error)
                return
            with self._lock:
                self.codes[answer.code_text] += 1
                if answer.code_text == "2.05":
                    self.names[answer.payload] += 1

    def more(self, count):
        """Until so many more have been answered."""
        target = sum(self.codes.values()) + count
        wait_until(f"{count} more are answered", timeout=60,
                   condition=lambda: self.errors or sum(self.codes.values()) >= target)

    def name_comes_back(self, name):
        """Until the server of that name has answered more than it has."""
        before = self.names[name]
        wait_until("it gets requests again", timeout=30,
                   condition=lambda: self.errors or self.names[name] > before + 20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join()


def start_named(namespace, port):
    """A server in a process of its own that answers each request with its port."""
    server = namespace.popen(sys.executable, "-B", resources.__file__, HOST4, port,
                             stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "ready\n"
    return server


@pytest.mark.core
@pytest.mark.parametrize("balance", ["hash", "round_robin"])
def test_killed_under_load(rig, balance):
    """SIGKILL: no safe request fails, the others take over, and when the server is back it gets
    requests again."""
    one = rig(small() + spread(balance=balance))
    namespace = one.hosts.namespace
    servers = {port: start_named(namespace, port) for port in PORTS}
    victim = PORTS[1]
    name = str(victim).encode()
    with Load(namespace) as load:
        load.more(300)
        assert {str(p).encode() for p in PORTS} == set(load.names), load.names
        os.kill(servers[victim].pid, signal.SIGKILL)
        servers[victim].wait()
        load.more(300)
        before = load.names[name]
        load.more(300)
        assert load.names[name] == before
        start_named(namespace, victim)
        load.name_comes_back(name)
    assert not load.errors, load.errors[0]
    assert set(load.codes) == {"2.05"}, load.codes


@pytest.mark.core
def test_frozen_under_load(rig):
    """A server that says nothing at all (SIGSTOP): found by exchanges that fail, and left out; back
    when it answers."""
    one = rig(small() + spread())
    namespace = one.hosts.namespace
    servers = {port: start_named(namespace, port) for port in PORTS}
    victim = PORTS[2]
    name = str(victim).encode()
    with Load(namespace) as load:
        load.more(300)
        os.kill(servers[victim].pid, signal.SIGSTOP)
        try:
            load.more(600)
            before = load.names[name]
            load.more(300)
            assert load.names[name] == before
        finally:
            os.kill(servers[victim].pid, signal.SIGCONT)
        load.name_comes_back(name)
    assert not load.errors, load.errors[0]
    assert set(load.codes) == {"2.05"}, load.codes


@contextlib.contextmanager
def origins(namespace, ports=PORTS, answer=None):
    """One for each port; each answers with its port."""
    with contextlib.ExitStack() as stack:
        made = []
        for port in ports:
            def named(message, port=port):
                return piggybacked(message, "2.05", [], str(port).encode())
            made.append(stack.enter_context(Origin(namespace, HOST4, port, answer=answer or named)))
        yield made


@pytest.mark.core
def test_unsafe_request_is_not_repeated(rig):
    """Whether the dead server has carried it out, nobody knows: the client is told 5.04."""
    one = rig(small() + spread())
    with origins(one.hosts.namespace) as servers:
        for server in servers:
            server.answer = lambda m: False
        client = Client(one.hosts.namespace)
        assert client.ask(wire.POST, "/x", b"p").code_text == "5.04"
        assert sum(s.count() for s in servers) == 1


@pytest.mark.core
def test_safe_request_goes_to_another_server(rig):
    """Without ping and without an error of the network: by the first exchange that fails."""
    one = rig(small() + spread(more="retries: 2,"))
    with origins(one.hosts.namespace) as servers:
        servers[0].answer = servers[1].answer = lambda m: False
        servers[0].pong = servers[1].pong = False
        client = Client(one.hosts.namespace)
        for i in range(6):
            assert client.get(f"/x{i}").payload == b"5703"
        assert client.ask(wire.FETCH, "/x", b"q").payload == b"5703"
        # After they have failed once they are not asked again while another is up.
        assert servers[0].count() <= 3 and servers[1].count() <= 3, [s.count() for s in servers]


def test_retries_are_limited(rig):
    one = rig(small() + spread(more="retries: 1,"))
    with origins(one.hosts.namespace, answer=lambda m: False) as servers:
        assert Client(one.hosts.namespace).get("/x").code_text == "5.04"
        assert sum(s.count() for s in servers) == 2


def test_no_retries(rig):
    one = rig(small() + spread(more="retries: 0,"))
    with origins(one.hosts.namespace, answer=lambda m: False) as servers:
        assert Client(one.hosts.namespace).get("/x").code_text == "5.04"
        assert sum(s.count() for s in servers) == 1


@pytest.mark.core
def test_all_are_down(rig):
    """Then they are tried all the same: nobody has to wait for a ping when they are back."""
    one = rig(small() + spread(more="", ports=PORTS[:1]).replace("revive: 200ms", "revive: 1h"))
    client = Client(one.hosts.namespace)
    assert client.get("/x").code_text == "5.04"
    assert client.get("/x").code_text == "5.04"
    with origins(one.hosts.namespace, PORTS[:1]):
        assert client.get("/x").payload == b"5701"


@pytest.mark.core
def test_hash_moves_only_what_it_must(rig):
    """The resources of a server that is down go to the others; those of the others stay, and all
    come home when it is back."""
    one = rig(small() + spread(balance="hash"))
    client = Client(one.hosts.namespace)
    paths = [f"/{i}" for i in range(60)]

    def places():
        return {path: client.get(path).payload for path in paths}
    with origins(one.hosts.namespace) as servers:
        home = places()
        assert set(home.values()) == {b"5701", b"5702", b"5703"}
        assert places() == home
        pings = len(servers[0].pings)
    with origins(one.hosts.namespace, PORTS[1:]):
        away = places()
        assert all(away[p] == home[p] for p in paths if home[p] != b"5701")
        assert b"5701" not in away.values()
    with origins(one.hosts.namespace) as servers:
        wait_until("it is home again", lambda: places() == home, timeout=30, interval=0.3)
    assert pings == 0, "a server that is up needs none"


@pytest.mark.core
def test_silent_server_is_pinged(rig):
    """keepalive: found dead by an Empty CON that nobody answers, before any client has to wait."""
    one = rig(small() + spread(more="keepalive: 1s, retries: 0,"))
    with origins(one.hosts.namespace) as servers:
        client = Client(one.hosts.namespace)
        for i in range(3):
            assert client.get(f"/{i}").code_text == "2.05"
        wait_until("each is pinged", lambda: all(s.pings for s in servers), timeout=20)
        servers[0].pong = False
        servers[0].answer = lambda m: False
        pings = len(servers[0].pings)
        wait_until("the ping was repeated in vain, and tried again",
                   lambda: len(servers[0].pings) >= pings + 4, timeout=30)
        for i in range(9):
            assert client.get(f"/again/{i}").payload in (b"5702", b"5703")
        servers[0].answer, servers[0].pong = (lambda m: piggybacked(m, "2.05", [], b"5701")), True
        wait_until("it is asked again", lambda: client.get("/back").payload == b"5701", timeout=30,
                   interval=0.1)


def test_no_pings_by_default(rig):
    one = rig(small() + spread())
    with origins(one.hosts.namespace) as servers:
        assert Client(one.hosts.namespace).get("/x").code_text == "2.05"
        time.sleep(3)
        assert [len(s.pings) for s in servers] == [0, 0, 0]


@pytest.mark.slow
def test_observation_moves_to_another_server(rig):
    """The server that held it dies: the gateway registers at another, and clients go on."""
    one = rig(small() + spread(balance="hash"))
    client, token = Client(one.hosts.namespace), os.urandom(4)
    with contextlib.ExitStack() as stack:
        made = {port: stack.enter_context(contextlib.ExitStack()) for port in PORTS}
        servers = {port: made[port].enter_context(Origin(
            one.hosts.namespace, HOST4, port, {"/o": Resource(b"0", observable=True, max_age=1)}))
            for port in PORTS}
        assert client.observe("/o", token).option(wire.OBSERVE) is not None
        holder = next(port for port in PORTS if servers[port].registered)
        others = [servers[port] for port in PORTS if port != holder]
        made[holder].close()
        wait_until("another has it", lambda: any(s.registered for s in others), timeout=60)
        for server in others:
            server.change("/o", b"moved", max_age=600)
        client.until(token, b"moved", timeout=60)


def test_one_gateway_two_workers(rig):
    """Each worker finds out for itself; nobody is failed meanwhile."""
    one = rig(small() + spread(), workers=2)
    with origins(one.hosts.namespace, PORTS[1:]), Load(one.hosts.namespace, clients=12) as load:
        load.more(500)
    assert not load.errors and set(load.codes) == {"2.05"}, (load.errors, load.codes)
    assert set(load.names) == {b"5702", b"5703"}
