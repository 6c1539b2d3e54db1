"""Associations over DTLS that outlive the gateway: what was agreed on in a handshake goes on after a
kill, with sequence numbers that were never used, and what may have been repeated by somebody else is
asked about first."""

import contextlib
import os
import subprocess
import time

import pytest

import wire
from fleet import Redis, Site
from gateway import BINARY, small
from netns import wait_until
from origins import TinyOrigin
from transports import GATEWAY4, HOST4, AfPacket

PEER = os.environ.get("DTLSPEER", BINARY.parent / "tests" / "dtls" / "dtlspeer")
KEY = "000102030405060708090a0b0c0d0e0f"
SERVICE = f"{GATEWAY4}:5684"
STEP = 30


class Device:
    """dtlspeer, one step at a time; it takes what comes in between."""

    def __init__(self, site, *options, identity="device-1"):
        self.process = site.namespace.popen(
            PEER, "--psk", f"{identity}:{KEY}", *options, f"{GATEWAY4}:5684", stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.lines = []

    def _read(self):
        with contextlib.suppress(TypeError):
            while line := self.process.stdout.readline():
                self.lines.append(line.rstrip("\n"))
        return self.lines

    def until(self, start, after=0):
        """The first line from there on that begins so."""
        def found():
            self._read()
            failed = [line for line in self.lines if line.startswith("failed")]
            assert not failed, self.lines
            return next((line for line in self.lines[after:] if line.startswith(start)), None)
        return wait_until(f"{start} of {self.lines[after:]}", found, timeout=STEP) or found()

    def say(self, step, answer):
        after = len(self._read())
        self.process.stdin.write(step + "\n")
        self.process.stdin.flush()
        return self.until(answer, after)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Posts(TinyOrigin):
    """2.04 for each POST, and a count of them."""

    def __init__(self, namespace):
        super().__init__(namespace, HOST4, 5683, self._answer_post)

    def _answer_post(self, message):
        return wire.Message(wire.ACK, wire.code("2.04"), message.mid, message.token, [],
                            str(len(self.requests)).encode())


class Stage:
    def __init__(self, stack, folder, workers=1, persist=True, limits=None, ask_store=True):
        folder.mkdir(exist_ok=True)
        (folder / "psk").write_text("".join(f"device-{i}:{KEY}\n" for i in range(1, 60)))
        (folder / "persist").write_text("5a" * 32 + "\n")
        for name in ("psk", "persist"):
            (folder / name).chmod(0o600)
        carrier = AfPacket(2)
        self.redis = Redis(carrier.inner, folder / "redis", start=False)
        text = small(**(limits or {})) + f"""
listeners:
  - uri: coaps://{GATEWAY4}
    dtls:
      psk: {{file: {folder}/psk, store: {str(ask_store).lower()}}}
upstreams:
  - {{name: o, servers: ["coap://{HOST4}"]}}
routes:
  - {{path: /post, to: o}}
  - {{path: /shared, resources: {{create: true, max: 100}}}}
store: {{url: "{self.redis.url}", resume_spread: 1s}}
"""
        if persist:
            text += f"security: {{persist_key_file: {folder}/persist}}\n"
        self.site = stack.enter_context(Site(folder, text, carrier, workers))
        self.redis.start()
        self.origin = stack.enter_context(Posts(self.site.namespace))
        self._stack = stack
        self.start()

    def start(self, workers=None):
        self.site.start(workers=workers)
        self.site.wait_for_store()

    @property
    def gateway(self):
        return self.site.gateway

    def device(self, *options, identity="device-1"):
        made = Device(self.site, *options, identity=identity)
        self._stack.callback(made.close)
        return made

    def restart(self, workers=None, stop=False):
        self.site.stop() if stop else self.site.kill()
        self.start(workers)

    def keys(self, kind):
        start = f"{{coapgw:{SERVICE}}}:{kind}:"
        return {key for key in self.redis.keys() if key.startswith(start)}

    def until_kept(self, count):
        """Each association has a record, and there are no others."""
        wait_until(f"{count} records", lambda: len(self.keys("association")) == count, timeout=STEP)


@pytest.fixture
def stage(tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda **options: Stage(stack, tmp_path, **options)


def observing(s, *options, identity="device-1", path="/shared/a"):
    device = s.device(*options, identity=identity)
    device.say("connect", "connected")
    device.say(f"put {path} one", "answer 2.0")
    device.say(f"observe {path}", "answer 2.05 observe=")
    return device


@pytest.mark.core
@pytest.mark.parametrize("cid", [(), ("--cid", "c0ffee")], ids=["address", "cid"])
@pytest.mark.parametrize("stop", [False, True], ids=["kill", "stop"])
def test_goes_on_without_a_handshake(stage, cid, stop):
    """It gets the notification of the restart and those that follow, and asks on: all of it in the same
    association. What changes something is asked for an Echo first."""
    s = stage()
    device = observing(s, *cid)
    s.until_kept(1)
    kept = s.keys("association")
    assert len(s.keys("observe")) == 1 and "|dtls-" in s.keys("observe").pop()
    for round in range(3):
        before = len(device.lines)
        s.restart(stop=stop)
        device.until("notification 2.05 observe=", before)
        assert s.gateway.counter("associations_restored") == 1
        device.say("get /shared/a", "answer 2.05")
        device.say(f"put /shared/a {round}", "answer 4.01")
        device.say(f"put /shared/a {round}", "answer 2.04")
        device.until("notification 2.05 observe=", before + 1)
        device.say(f"put /shared/a again{round}", "answer 2.04") # it has shown that it is there
        assert s.gateway.counter("dtls_handshakes") == 0
        assert s.gateway.counter("dtls_hello_verify") == 0
        assert s.keys("association") == kept
    assert not s.redis.keys("*rejected*")


@pytest.mark.core
def test_a_post_goes_through_once(stage):
    """A POST of before the kill that comes again is not executed; one that is meant, once."""
    s = stage()
    device = observing(s)
    device.say("post /post before", "answer 2.04")
    s.until_kept(1)
    s.restart()
    device.say("replay", "replayed") # the POST, or what followed it: not newer than what was kept
    device.say("post /post after", "answer 4.01")
    assert len(s.origin.requests) == 1
    device.say("post /post after", "answer 2.04")
    assert len(s.origin.requests) == 2
    assert s.origin.requests[-1].payload == b"after"


@pytest.mark.parametrize("workers", [(2, 1), (1, 2)], ids=["2-1", "1-2"])
def test_other_numbers_of_workers(stage, workers):
    """Each record goes to the worker that gets the packets now; relations with their associations."""
    s = stage(workers=workers[0])
    devices = [observing(s, *(("--cid", f"{i:02x}") if i % 2 else ()), identity=f"device-{i}",
                         path=f"/shared/{i}") for i in range(1, 13)]
    s.until_kept(12)
    before = [len(d.lines) for d in devices]
    s.restart(workers=workers[1])
    for device, lines in zip(devices, before):
        device.until("notification 2.05", lines)
        device.say("get /shared/1", "answer 2.05")
    assert s.gateway.counter("associations_restored") == 12
    assert s.gateway.counter("dtls_handshakes") == 0
    assert len(s.keys("observe")) == 12


def test_a_new_address_is_kept(stage):
    """With a CID: it has moved before the kill, and moves after it."""
    s = stage()
    device = observing(s, "--cid", "c1d0")
    s.until_kept(1)
    record = s.keys("association").pop()
    peer = s.redis.record(record)["peer"]
    device.say("rebind", "rebound")
    device.say("get /shared/a", "answer 2.05")
    wait_until("the record follows", lambda: s.redis.record(record)["peer"] != peer)
    before = len(device.lines)
    s.restart()
    device.until("notification 2.05", before)
    device.say("rebind", "rebound")
    device.say("get /shared/a", "answer 2.05")
    assert s.gateway.counter("associations_moved") == 1
    assert s.gateway.counter("dtls_handshakes") == 0


def test_an_association_that_ends_is_forgotten(stage):
    """With close_notify, its record goes, and so does the relation's."""
    s = stage()
    device = observing(s)
    s.until_kept(1)
    device.say("close", "closed")
    s.until_kept(0)
    wait_until("no relation is left", lambda: not s.keys("observe"))
    s.restart()
    assert s.gateway.counter("associations_restored") == 0


def test_a_key_that_has_gone_ends_it(stage):
    """Who is not let in any more is not taken up again; others are."""
    s = stage(ask_store=False)
    observing(s)
    other = observing(s, identity="device-2", path="/shared/b")
    s.until_kept(2)
    s.site.kill()
    (s.site.folder / "psk").write_text(f"device-2:{KEY}\n")
    s.start()
    s.until_kept(1)
    assert s.gateway.counter("associations_restored") == 1
    assert s.gateway.counter("associations_unusable") == 1
    other.say("get /shared/b", "answer 2.05")
    assert s.gateway.counter("dtls_handshakes") == 0


def test_relations_without_their_association_go(stage):
    s = stage()
    observing(s)
    s.until_kept(1)
    s.site.kill()
    s.redis.ask("DEL", *s.keys("association"))
    assert len(s.keys("observe")) == 1
    s.start()
    wait_until("the relation is gone", lambda: not s.keys("observe"))
    assert s.gateway.counter("associations_restored") == 0


def test_what_cannot_be_opened_is_set_aside(stage):
    """Another key: nothing is restored, and the device begins anew."""
    s = stage()
    device = observing(s)
    s.until_kept(1)
    s.site.kill()
    (s.site.folder / "persist").write_text("a5" * 32 + "\n")
    s.start()
    s.until_kept(0)
    assert len(s.redis.keys("*rejected:association:*")) == 1
    assert s.gateway.counter("associations_unusable") == 1
    device.say("connect", "connected")
    device.say("get /shared/a", "answer 2.05")
    s.until_kept(1)


@pytest.mark.core
def test_nothing_without_a_key(stage):
    """No persist_key_file: no record, and after a restart a handshake."""
    s = stage(persist=False)
    device = observing(s)
    time.sleep(0.5)
    assert not s.redis.keys("*association*")
    s.restart()
    assert s.gateway.counter("associations_restored") == 0
    device.say("connect", "connected")
    device.say("get /shared/a", "answer 2.05")
    assert s.gateway.counter("dtls_handshakes") == 1


def test_redis_away_for_a_while(stage):
    """Associations are made all the same, and given to it when it is back."""
    s = stage()
    first = observing(s)
    s.until_kept(1)
    s.redis.kill()
    second = s.device(identity="device-2")
    second.say("connect", "connected")
    second.say("get /shared/a", "answer 2.05")
    first.say("get /shared/a", "answer 2.05")
    s.redis.start()
    s.until_kept(2)
    s.restart()
    for device in (first, second):
        device.say("get /shared/a", "answer 2.05")
    assert s.gateway.counter("dtls_handshakes") == 0


@pytest.mark.core
def test_keys_in_redis(stage):
    """An identity that is not in the file, and one that nobody has; what is no key is refused."""
    s = stage()
    s.redis.ask("SET", "{coapgw}:psk:meter", KEY.upper())
    s.redis.ask("SET", "{coapgw}:psk:broken", "not hexadecimal")
    device = s.device(identity="meter")
    device.say("connect", "connected")
    device.say("put /shared/a x", "answer 2.01")
    for identity in ("nobody", "broken"):
        s.device(identity=identity).say("refused timeout" if identity == "broken" else "refused 115",
                                        "refused")
    assert "the pre-shared key of \"broken\" is not" in s.gateway.log()
