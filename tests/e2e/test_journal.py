"""A gateway that is killed while requests are under way: those that add up (POST, PATCH) are not executed
a second time when devices repeat them to the one that is started next (RFC 7252 4.5)."""

import os
import stat
import threading
from pathlib import Path

import pytest

import wire
from client import Client
from fleet import ORIGIN_PORT, Redis, Site, site_text
from gateway import Gateway, interfaces_text
from netns import wait_until
from origins import TinyOrigin
from transports import HOST4, AfPacket, Tap

UNKNOWN = b"the gateway was restarted: it is not known whether this was carried out"


class Silent:
    """An origin that takes requests and answers none until it may. `had` lists their payloads, each
    message once."""

    def __init__(self, namespace):
        self.had = []
        self.may_answer = threading.Event()
        self._seen = set()
        self.origin = TinyOrigin(namespace, HOST4, ORIGIN_PORT, self._answer)

    def _answer(self, message):
        if (message.mid, message.token) not in self._seen:
            self._seen.add((message.mid, message.token))
            self.had.append(message.payload)
        if not self.may_answer.is_set():
            return None
        kind = wire.ACK if message.type == wire.CON else wire.NON
        return wire.Message(kind, wire.code("2.04"), message.mid, message.token, [], message.payload)

    def wait_for(self, *payloads):
        wait_until(f"the origin has {payloads}", lambda: self.had == list(payloads))

    def __enter__(self):
        self.origin.__enter__()
        return self

    def __exit__(self, *args):
        self.origin.__exit__(*args)


class World:
    def __init__(self, site, origin):
        self.site, self.origin = site, origin
        self.client = None  # an endpoint that stays

    @property
    def journal(self):
        return Path(self.site.transport.journal)

    def post(self, payload, method=wire.POST, type=wire.CON, path="/x"):
        """Sends it and waits until the origin has it."""
        request = self.client.send(wire.request(method, path, payload, type=type))
        wait_until("the origin has it", lambda: payload in self.origin.had)
        return request

    def again(self, request):
        """The same datagram once more."""
        self.client.send(request)
        return self.client.receive()

    def restart(self, how="kill", **options):
        self.site.kill() if how == "kill" else self.site.stop()
        return self.site.start(**options)

    def refuses(self, request):
        got = self.again(request)
        assert (got.type, got.code_text, got.mid, got.token, got.payload) == \
            (wire.ACK, "5.04", request.mid, request.token, UNKNOWN)

    def works(self, payload):
        """A new request is executed and answered."""
        self.origin.may_answer.set()
        got = self.client.exchange(wire.request(wire.POST, "/x", payload))
        assert (got.code_text, got.payload) == ("2.04", payload)
        assert self.origin.had.count(payload) == 1


@pytest.fixture
def world(tmp_path):
    """world(workers=1, store="", ...): devices, a gateway and an origin that keeps silent."""
    made = []

    def make(workers=1, transport=AfPacket, start=True, **options):
        # Long enough that no Empty ACK goes before the kill: a device repeats what has none.
        text = site_text(**options) + "separate_after: 10s\n"
        site = Site(tmp_path, text, transport(workers), workers)
        made.append(site)
        if start:
            site.start()
        origin = Silent(site.namespace)
        made.append(origin)
        one = World(site, origin.__enter__())
        one.client = Client(site.namespace)
        return one

    yield make
    for one in reversed(made):
        one.__exit__(None, None, None)


@pytest.mark.core
@pytest.mark.parametrize("method", [wire.POST, wire.PATCH])
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_it_is_not_executed_twice(world, how, method):
    w = world()
    request = w.post(b"1", method)
    w.restart(how)
    assert "1 requests of before the start are known" in w.site.gateway.log()
    w.refuses(request)
    w.refuses(request)
    assert w.origin.had == [b"1"]
    w.works(b"2")
    assert w.origin.had == [b"1", b"2"]
    assert w.site.gateway.counter("refused_former") == 1
    assert w.site.gateway.counter("duplicates_replayed") == 1


@pytest.mark.core
@pytest.mark.parametrize("workers", [[1, 2], [2, 1], [2, 2]], ids=["1-2", "2-1", "2-2"])
def test_whatever_the_number_of_workers(world, workers):
    """Flows go to other workers after a restart: all of them know."""
    w = world(workers[0])
    clients = [Client(w.site.namespace) for _ in range(16)]
    requests = [c.send(wire.request(wire.POST, "/x", b"%d" % i)) for i, c in enumerate(clients)]
    wait_until("the origin has them", lambda: len(w.origin.had) == len(clients))
    w.restart(workers=workers[1])
    for client, request in zip(clients, requests):
        client.send(request)
        assert (client.receive().code_text, len(w.origin.had)) == ("5.04", len(clients))
    w.works(b"new")


def test_two_kills(world):
    """The second one before the device has said anything."""
    w = world()
    request = w.post(b"1")
    w.restart()
    other = w.post(b"2")
    w.restart()
    w.refuses(request)
    w.refuses(other)
    assert w.origin.had == [b"1", b"2"]


def test_a_non_is_ignored(world):
    """RFC 7252 4.3"""
    w = world()
    request = w.post(b"1", type=wire.NON)
    w.restart()
    w.client.send(request)
    wait_until("it was dropped", lambda: w.site.gateway.counter("drop_former") == 1)
    assert w.origin.had == [b"1"]
    w.works(b"2")


def test_what_may_be_done_twice_is(world):
    """RFC 7252 5.1: PUT is idempotent, and its answer is worth more than knowing that it was done."""
    w = world()
    request = w.post(b"1", wire.PUT)
    w.restart()
    w.origin.may_answer.set()
    assert w.again(request).code_text == "2.04"
    assert w.origin.had == [b"1", b"1"]


def test_with_a_store(world, tmp_path):
    """It needs none, and none is in its way."""
    w = world(start=False, store=f'{{url: "unix://{tmp_path}/redis/redis.sock"}}')
    redis = Redis(w.site.transport.inner, tmp_path / "redis")
    w.site.start()
    request = w.post(b"1")
    redis.kill()
    w.restart()
    w.refuses(request)
    redis.start()
    w.restart()
    w.refuses(request)
    w.works(b"2")


def test_on_a_tap(world):
    """Where the link goes with the process."""
    w = world(transport=Tap)
    request = w.post(b"1")
    w.restart()
    w.refuses(request)
    assert w.origin.had == [b"1"]


def test_nobody_else_can_read_it(world):
    w = world()
    name = w.site.transport.inner.name
    for path, mode in ((w.journal, 0o700), (w.journal / f"{name}.journal", 0o600),
                       (w.journal / f"{name}.lock", 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path
    assert sorted(p.name for p in w.journal.iterdir()) == [f"{name}.journal", f"{name}.lock"]


@pytest.mark.parametrize("damage", ["garbage", "cut", "link", "flipped"])
def test_what_cannot_be_read_is_replaced(world, damage, tmp_path):
    w = world()
    request = w.post(b"1")
    w.site.kill()
    path = w.journal / f"{w.site.transport.inner.name}.journal"
    data = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(b"x" * 5000)
    elif damage == "cut":
        os.truncate(path, len(data) // 2)
    elif damage == "flipped":
        path.write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    else:
        (tmp_path / "target").write_bytes(data)
        path.unlink()
        path.symlink_to(tmp_path / "target")
    log = w.site.start().log()
    assert log.count("coapgw: journal: ") == 1 and "a new one is begun" in log
    w.origin.may_answer.set()
    assert w.again(request).code_text == "2.04"  # nobody knows of it any more
    request = w.client.send(wire.request(wire.POST, "/x", b"2"))
    assert w.client.receive().code_text == "2.04"
    w.restart()
    w.refuses(request)


def test_without_a_place_for_it(world):
    """The gateway works, says once what it does without, and what is repeated is executed again."""
    w = world(start=False)
    w.journal.write_text("no directory")
    try:
        log = w.site.start().log()
        assert log.count("coapgw: journal: ") == 1
        assert "Not a directory" in log and "repeated after a kill are executed again" in log
        request = w.post(b"1")
        w.restart()
        w.origin.may_answer.set()
        assert w.again(request).code_text == "2.04"
        assert w.origin.had == [b"1", b"1"]
    finally:
        w.journal.unlink()


def test_where_it_is_switched_off(world):
    w = world(start=False)
    text = interfaces_text(w.site.transport, extra=f"gateway: {HOST4}") + w.site.text
    text = text.replace(f"journal: {{directory: {w.journal}}}", "journal: none")
    gateway = w.site.gateway = Gateway(w.site.transport, text, w.site.folder)
    w.works(b"1")
    assert "journal" not in gateway.log() and not w.journal.exists()


def test_a_second_process_of_the_instance(world, tmp_path):
    """It works without the journal, and leaves it to the first one."""
    w = world()
    request = w.post(b"1")
    other = Tap(1)
    try:
        folder = tmp_path / "second"
        folder.mkdir()
        text = interfaces_text(other) + w.site.text
        text = text.replace(f"instance: {other.inner.name}", f"instance: {w.site.transport.inner.name}")
        text = text.replace(other.journal, w.site.transport.journal)
        second = Gateway(other, text, folder)
        assert "another process of this instance has it" in second.log()
        assert second.log().count("coapgw: journal: ") == 1
        second.stop()
        assert second.status == 0
    finally:
        other.close()
    more = w.post(b"2")
    w.restart()
    w.refuses(request)
    w.refuses(more)
