"""Held resources and Redis: what clients have been told is kept survives, also with another number of
workers, and what was removed does not come back."""

import contextlib
import os
import threading
import time

import pytest

import wire
from client import Client
from conftest import coap_client
from fleet import SERVICE, Redis, Site, site_text
from netns import wait_until
from transports import GATEWAY4, AfPacket

ROUTES = "  - {path: /shared, resources: {}}"
RECORD = f"{{coapgw:{SERVICE}}}:resource:"
TEXT = (wire.CONTENT_FORMAT, b"")


class Stage:
    """Redis and a gateway that comes and goes."""

    def __init__(self, stack, folder, workers=1, store=""):
        carrier = AfPacket(2)
        self.redis = Redis(carrier.inner, folder / "redis")
        url = f'{{url: "{self.redis.url}", resume_spread: 100ms{store}}}'
        self.site = stack.enter_context(
            Site(folder, site_text(url, routes=ROUTES), carrier, workers))
        self.site.start()

    def client(self):
        return Client(self.site.namespace)

    def clients(self, count=8):
        return [self.client() for _ in range(count)]

    def settled(self, method, path, payload=b"", **arguments):
        """An answer that is not 5.03: records may still be being read back."""
        answers = []

        def answered():
            answers.append(self.client().ask(method, path, payload, **arguments))
            return answers[-1].code_text != "5.03"
        wait_until("the gateway has its resources", answered)
        return answers[-1]

    def records(self):
        return {key[len(RECORD):] for key in self.redis.keys() if key.startswith(RECORD)}


@pytest.fixture
def stage(tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda **options: Stage(stack, tmp_path, **options)


def is_back(client, path, old):
    """Each worker has it soon: as it was, or not yet."""
    new = client.get(path)
    assert new.code_text != "2.05" or \
        (new.payload, new.option(wire.ETAG), new.option(wire.CONTENT_FORMAT)) == \
        (old.payload, old.option(wire.ETAG), old.option(wire.CONTENT_FORMAT))
    return new.code_text == "2.05"


@pytest.mark.core
@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize("workers", [(1, 1), (2, 1), (1, 2)], ids=["1-1", "2-1", "1-2"])
def test_restart(stage, how, workers):
    s = stage(workers=workers[0])
    long = os.urandom(5000)
    assert s.settled(wire.PUT, "/shared/a", b"first", options=[TEXT]).code_text == "2.01"
    assert s.client().ask(wire.PUT, "/shared/a", b"second", options=[TEXT]).code_text == "2.04"
    assert s.client().ask(wire.PUT, "/shared/b c", b"\xff\x00\r\n").code_text == "2.01"
    assert s.client().ask(wire.PUT, "/shared/gone", b"x").code_text == "2.01"
    assert s.client().ask(wire.DELETE, "/shared/gone").code_text == "2.02"
    assert s.client().upload(wire.PUT, "/shared/long", long, 6)[-1].code_text == "2.01"
    wait_until("all workers have it", lambda: all(c.get("/shared/a").payload == b"second"
                                                  for c in s.clients()))
    before = {path: s.settled(wire.GET, path) for path in ("/shared/a", "/shared/b c", "/shared/long")}
    wait_until("what was removed has gone",
               lambda: s.records() == {"/shared/a", "/shared/b%20c", "/shared/long"})
    s.site.kill() if how == "kill" else s.site.stop()
    s.site.start(workers=workers[1])
    for path, old in before.items():
        wait_until("all workers have it", lambda: all([is_back(c, path, old) for c in s.clients()]))
    assert s.client().download("/shared/long")[0] == long
    assert {s.settled(wire.GET, "/shared/gone").code_text for _ in range(8)} == {"4.04"}
    # What was there is there: it can be changed on the condition that it is as it was.
    etag = before["/shared/a"].option(wire.ETAG)
    assert s.client().ask(wire.PUT, "/shared/a", b"third",
                          options=[(wire.IF_MATCH, etag)]).code_text == "2.04"
    assert s.client().ask(wire.PUT, "/shared/a", b"fourth",
                          options=[(wire.IF_MATCH, etag)]).code_text == "4.12"


@pytest.mark.core
def test_observers_go_on(stage):
    """They ask nothing again: after the restart they are told the state, and what changes later."""
    s = stage(workers=2)
    assert s.settled(wire.PUT, "/shared/a", b"0", options=[TEXT]).code_text == "2.01"
    watchers, tokens = s.clients(), [os.urandom(4) for _ in range(8)]
    wait_until("all have it", lambda: all(c.get("/shared/a").code_text == "2.05"
                                          for c in s.clients()))
    numbers = {}
    for client, token in zip(watchers, tokens):
        answer = client.observe("/shared/a", token)
        assert answer.option(wire.OBSERVE) is not None
        numbers[token] = answer.uint(wire.OBSERVE)
    assert len(s.redis.relations()) == 8
    s.site.kill()
    s.site.start()
    for client, token in zip(watchers, tokens):
        seen = client.notification(token)
        assert (seen.type, seen.payload) == (wire.CON, b"0")
        assert 0 < (seen.uint(wire.OBSERVE) - numbers[token]) % (1 << 24) < 1 << 23
    assert s.settled(wire.PUT, "/shared/a", b"1").code_text == "2.04"
    for client, token in zip(watchers, tokens):
        assert client.until(token, b"1")
    assert s.settled(wire.DELETE, "/shared/a").code_text == "2.02"
    for client, token in zip(watchers, tokens):
        assert client.notification(token).code_text == "4.04"
    wait_until("nothing is kept any more", lambda: not s.redis.relations() and not s.records())


def test_libcoap_client_sees_a_pause(stage, tmp_path):
    s = stage()
    uri = f"coap://{GATEWAY4}/shared/a"
    s.settled(wire.PUT, "/shared/a", b"state 0", options=[TEXT])
    output = tmp_path / "seen"
    watcher = s.site.namespace.popen("coap-client-notls", "-s", 60, "-B", 60, "-w", "-o", output, uri)

    def seen():
        return output.read_text().split("\n") if output.exists() else []
    wait_until("the registration is answered", lambda: "state 0" in seen())
    for i in range(1, 4):
        s.site.kill() if i % 2 else s.site.stop()
        s.site.start()
        wait_until("it can be written", lambda: coap_client(
            s.site.namespace, uri, "-m", "put", "-e", f"state {i}").code == "2.04", timeout=30)
        wait_until(f"state {i} is seen", lambda: f"state {i}" in seen(), timeout=30)
    assert watcher.poll() is None
    s.site.namespace.stop(watcher)


def test_outage(stage):
    """Without Redis all goes on; when it is back it is given what it has missed."""
    s = stage(workers=2)
    for i in range(4):
        assert s.settled(wire.PUT, f"/shared/{i}", b"before").code_text == "2.01"
    s.redis.kill()
    wait_until("a write is served", lambda: s.client().ask(
        wire.PUT, "/shared/0", b"during").code_text == "2.04", timeout=30)
    assert s.client().ask(wire.DELETE, "/shared/1").code_text == "2.02"
    assert s.client().ask(wire.PUT, "/shared/9", b"new").code_text == "2.01"
    s.redis.start()
    wait_until("it has all", lambda: s.records() == {f"/shared/{i}" for i in (0, 2, 3, 9)}
               and s.redis.record(RECORD + "/shared/0")["payload"] == "during", timeout=40)
    s.site.kill()
    s.site.start()
    for path, payload in (("/shared/9", b"new"), ("/shared/0", b"during")):
        wait_until("it is back", lambda: all(c.get(path).payload == payload for c in s.clients()))
    assert {s.settled(wire.GET, "/shared/1").code_text for _ in range(8)} == {"4.04"}


def test_reject(stage):
    """on_failure: reject: without Redis nothing is changed, and what is there is given."""
    s = stage(store=", on_failure: reject")
    assert s.settled(wire.PUT, "/shared/a", b"kept").code_text == "2.01"
    s.redis.kill()

    def refused_at_once():
        before = s.site.gateway.counter("resource_records")
        answer = s.client().ask(wire.PUT, "/shared/a", b"kept")
        return answer.code_text == "5.03" and s.site.gateway.counter("resource_records") == before
    wait_until("the outage is known", refused_at_once, timeout=30)
    assert s.client().ask(wire.DELETE, "/shared/a").code_text == "5.03"
    assert s.client().ask(wire.PUT, "/shared/a", b"lost").code_text == "5.03"
    assert s.client().get("/shared/a").payload == b"kept"
    s.redis.start()
    wait_until("it is back", lambda: s.client().ask(
        wire.PUT, "/shared/a", b"again").code_text == "2.04", timeout=40)


def test_kill_while_writing(stage):
    """Whatever was acknowledged before the kill is there after it, or a later state is."""
    s = stage(workers=2)
    s.settled(wire.PUT, "/shared/0", b"0")
    acknowledged = [0] * 6
    stop = threading.Event()

    def write(index):
        client = s.client()
        for n in range(1, 1000000):
            try:
                answer = client.ask(wire.PUT, f"/shared/{index}", b"%d" % n, timeout=2)
            except (AssertionError, OSError):
                return
            if answer.code_text in ("2.01", "2.04"):
                acknowledged[index] = n
            if stop.is_set():
                return

    for _ in range(3):
        acknowledged[:] = [0] * 6
        writers = [threading.Thread(target=write, args=(i,)) for i in range(6)]
        for writer in writers:
            writer.start()
        wait_until("all are writing", lambda: min(acknowledged) > 20)
        time.sleep(0.3)
        s.site.kill()
        stop.set()
        for writer in writers:
            writer.join()
        stop.clear()
        s.site.start()
        for i, n in enumerate(acknowledged):
            seen = []

            def read():
                seen.append(s.settled(wire.GET, f"/shared/{i}"))
                return seen[-1].code_text == "2.05"
            wait_until("it is back", read)
            assert int(seen[-1].payload) >= n
