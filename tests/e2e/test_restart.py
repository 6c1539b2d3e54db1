"""What survives when the gateway, its store or both are stopped or killed: every registration that a
device has seen accepted goes on, with newer numbers, and what was cancelled stays cancelled."""

import contextlib
import json
import os
import tempfile
import time

import pytest

import wire
from capture import Capture
from client import Client
from conftest import coap_client
from fleet import DEVICES, SERVICE, Fleet, Redis, Site, StateOrigin, site_text
from netns import Namespace, wait_until
from transports import GATEWAY4, HOST4, AfPacket, Tap

PATHS = 20


class Stage:
    """Redis, origin, gateway and devices."""

    def __init__(self, stack, folder, devices=200, workers=1, store="", transport=None, start=True,
                 text="", redis=(), password=None, options=None, **more):
        self.folder = folder
        carrier = transport or AfPacket(2)
        self.redis = Redis(carrier.inner, folder / "redis", *redis, password=password, start=False)
        url = f'{{url: "{self.redis.url}", resume_spread: 1s{store}}}'
        self.text = site_text(url, **more) + text
        self.site = stack.enter_context(Site(folder, self.text, carrier, workers))
        self.redis.start()
        self.origin = stack.enter_context(StateOrigin(self.site.namespace, PATHS))
        self.fleet = Fleet(self.site.namespace, devices, paths=PATHS, mean_ms=2000,
                           **(options or {}))
        self.state = 0
        if start:
            self.site.start()
            self.site.wait_for_store()

    @property
    def gateway(self):
        return self.site.gateway

    def down(self, how="kill"):
        """The gateway goes away. From now on all relations are owed a notification."""
        self.site.kill() if how == "kill" else self.site.stop()
        self.fleet.say("down", "gateway")

    def restart(self, how="kill", workers=None):
        self.down(how)
        self.site.start(workers=workers)

    def change(self):
        """A new state of all resources, which all get."""
        self.state += 1
        self.origin.change_all(self.state)
        self.fleet.expect(self.state, 30)

    def kept(self):
        """Until the store has all relations that devices have, and no others."""
        accepted = self.fleet.accepted(self.folder / "accepted")

        def same():
            kept = self.redis.relations()
            return accepted == kept or print(f"missing {len(accepted - kept)}, "
                                             f"surplus {len(kept - accepted)}")
        wait_until("the store has what devices have", same, interval=0.2)
        return len(accepted)

    def all_is_well(self):
        """After restarts: nobody has noticed anything but a pause."""
        self.change()
        report = self.fleet.check()
        for wrong in ("ended", "gave_up", "resets", "refused"):
            assert report[wrong] == 0, report
        assert self.origin.wrong == []
        assert not self.redis.keys("*rejected*")
        return report


@pytest.fixture
def stage(tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda **options: Stage(stack, tmp_path, **options)


# The gateway alone.

@pytest.mark.core
@pytest.mark.parametrize("transport", [AfPacket, Tap])
@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize("workers", [[1, 1, 1], [1, 2, 1]], ids=["1-1-1", "1-2-1"])
def test_restart(stage, how, workers, transport, tmp_path):
    """Twice, with as many workers or with more and fewer: each device is notified, confirmably, with a
    number that is newer than all before."""
    s = stage(workers=workers[0], transport=transport(2), options={"slots": 2})
    s.fleet.open()
    s.change()
    for round, count in enumerate(workers[1:], 1):
        s.restart(how, workers=count)
        s.fleet.heard(30)
        report = s.fleet.check()
        assert (report["checked"], report["checked_non"]) == (400 * round, 0), report
        assert s.gateway.counter("relations_resumed") == 400
        s.change()
        assert s.kept() == 400
    s.all_is_well()
    assert s.origin.observer_count <= PATHS * 2


@pytest.mark.core
@pytest.mark.parametrize("state", ["same", "changed"])
def test_state_of_meanwhile(stage, state):
    """What has changed while there was no gateway comes with the first notification; what has not
    changed is notified all the same."""
    s = stage()
    s.fleet.open()
    s.change()
    s.down()
    if state == "changed":
        s.state += 1
        s.origin.change_all(s.state)
    s.site.start()
    s.fleet.heard(30)
    s.fleet.expect(s.state, 5)
    assert s.fleet.report()["notifications"] >= 400
    s.all_is_well()


@pytest.mark.slow
def test_many_restarts_in_a_row(stage):
    """Also when it is killed before it has resumed anything, or half of it."""
    s = stage(devices=500)
    s.fleet.open()
    for i in range(8):
        s.restart()
        time.sleep(0.15 * i)
    s.fleet.heard(30)
    s.all_is_well()
    assert s.kept() == 500


def test_stop_says_nothing_to_observers(stage, tmp_path):
    """SIGTERM: no last word, no Reset, and no record less."""
    s = stage(devices=50)
    s.fleet.open()
    s.change()
    with Capture(s.site.namespace, s.site.transport.host_interface, tmp_path) as capture:
        s.site.stop()
        time.sleep(0.5)
    assert [p for p in capture.packets if p.from_gateway] == []
    assert s.kept() == 50


def test_coap_client_sees_a_pause(stage, tmp_path):
    """libcoap's client observes for a minute, and asks nothing again; the gateway is killed and stopped
    meanwhile."""
    s = stage(devices=1)
    with tempfile.NamedTemporaryFile() as output, \
            Capture(s.site.namespace, s.site.transport.host_interface, tmp_path) as capture:
        watcher = s.site.namespace.popen(
            "coap-client-notls", "-s", 60, "-B", 60, "-w", "-o", output.name,
            f"coap://{GATEWAY4}/s/3")

        def seen():
            return open(output.name).read().split("\n")
        wait_until("the registration is answered", lambda: "3 0" in seen())
        for state in range(1, 5):
            if state % 2:
                s.restart("kill" if state == 1 else "stop")
            s.origin.change(3, state)
            wait_until(f"state {state} is seen", lambda: f"3 {state}" in seen(), timeout=30)
        assert watcher.poll() is None
        s.site.namespace.stop(watcher)
    asked = [p for p in capture.packets if p.target[0] == GATEWAY4 and p.message.code == wire.GET
             and p.message.path == "/s/3" and p.source[1] != 5701]
    assert len({p.message.mid for p in asked}) <= 2, "more than a registration and a cancellation"


def test_dead_devices_are_removed(stage):
    """Who does not acknowledge the first notification after the restart is forgotten, also by the
    store; the others stay."""
    s = stage(listener=", transmission: {ack_timeout: 200ms, ack_random_factor: 1, "
                       "max_retransmit: 2}")
    s.fleet.open()
    s.fleet.say("mute", 60)
    s.restart()
    s.fleet.heard(30)
    wait_until("the store has forgotten them", lambda: len(s.redis.relations()) == 140, timeout=30)
    s.change()
    assert s.fleet.check()["checked"] == 140


# What was cancelled.

@pytest.mark.slow
@pytest.mark.core
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_cancelled_stays_cancelled(stage, how):
    """By a request or by a Reset; who remains goes on."""
    s = stage(options={"grace_ms": 300})
    s.fleet.open()
    s.fleet.run()
    for i in range(40):
        s.origin.change(i % PATHS)
        time.sleep(0.1)
    s.fleet.calm()
    s.state = 1000
    s.change()
    before = s.fleet.check()
    assert min(before["cancelled"], before["rejected"]) > 20, before
    s.kept()
    time.sleep(0.4)
    s.restart(how)
    s.fleet.heard(30)
    s.change()
    after = s.fleet.check()
    assert (after["rejected"], after["excused"]) == (before["rejected"], 0)
    assert after["checked"] == after["active"] == s.kept()


@pytest.mark.slow
def test_cancelled_while_the_store_was_away(stage):
    """It is gone when the store is back, and does not come to life with the next restart."""
    s = stage(options={"grace_ms": 500})
    s.fleet.open()
    s.fleet.say("down", "store")
    s.redis.kill()
    s.fleet.run()
    for i in range(40):
        s.origin.change(i % PATHS)
        time.sleep(0.1)
    s.fleet.calm()
    s.state = 1000
    s.change()
    s.redis.start()
    s.fleet.say("up", "store")
    s.kept()
    time.sleep(1)
    s.restart()
    s.fleet.heard(30)
    s.change()
    report = s.fleet.check()
    assert report["cancelled"] > 20 and report["excused"] == 0, report
    assert report["active"] == s.kept()


# The store.

@pytest.mark.core
def test_store_killed_and_restarted(stage):
    """Devices notice nothing; who registers meanwhile is kept as soon as it is back."""
    s = stage()
    client = Client(s.site.namespace)
    s.fleet.open()
    s.redis.kill()
    s.change()
    assert client.observe("/s/1").option(wire.OBSERVE) is not None
    s.redis.start()
    wait_until("that is kept, too", lambda: len(s.redis.relations()) == 201)
    s.change()
    s.restart()
    s.fleet.heard(30)
    assert s.all_is_well()["checked"] == 200


@pytest.mark.core
def test_store_away_at_start(stage):
    """The gateway serves without it; all that was kept is resumed when it comes."""
    s = stage()
    s.fleet.open()
    s.change()
    s.down()
    s.redis.kill()
    s.site.start()
    client = Client(s.site.namespace)
    assert client.get("/hello").code_text == "2.05"
    assert client.observe("/s/1").option(wire.OBSERVE) is not None
    assert s.fleet.report()["owed"] == 200
    s.redis.start()
    s.fleet.heard(40)
    wait_until("that is kept, too", lambda: len(s.redis.relations()) == 201)
    s.all_is_well()


def test_both_killed(stage):
    """Gateway and store at once, in either order of their return."""
    s = stage()
    s.fleet.open()
    for first in ("store", "gateway"):
        s.down()
        s.redis.kill()
        if first == "store":
            s.redis.start()
        s.site.start()
        if first == "gateway":
            time.sleep(0.5)
            s.redis.start()
        s.fleet.heard(40)
        s.change()
    assert s.all_is_well()["checked"] == 400
    assert s.kept() == 200


@pytest.mark.parametrize("on_failure", ["serve", "reject"])
def test_registration_without_a_store(stage, on_failure):
    """`serve` answers as if there were one, `reject` with 5.03; what is no registration is answered, and
    who is registered is notified, in both cases."""
    s = stage(store=f", on_failure: {on_failure}, timeout: 300ms")
    s.fleet.open()
    s.redis.kill()
    client, token = Client(s.site.namespace), os.urandom(4)
    answer = client.observe("/s/1", token)
    assert client.get("/s/1").code_text == "2.05"
    if on_failure == "serve":
        assert answer.option(wire.OBSERVE) is not None and answer.code_text == "2.05"
    else:
        assert answer.option(wire.OBSERVE) is None and answer.code_text == "5.03"
    s.change()
    assert client.is_quiet() == (on_failure == "reject")
    s.redis.start()
    wait_until("it is registered", lambda: client.observe("/s/1", token).option(wire.OBSERVE)
               is not None, interval=0.3)
    wait_until("and kept", lambda: len(s.redis.relations()) == 201)
    s.all_is_well()


@pytest.mark.core
def test_records_that_cannot_be_understood(stage):
    """They are set aside under another key and counted; all others are resumed."""
    s = stage(devices=50)
    s.fleet.open()
    s.down()
    start = f"{{coapgw:{SERVICE}}}:observe:{SERVICE}|10.100.200."
    good = next(iter(s.redis.keys("*:observe:*")))
    record = s.redis.record(good)
    s.redis.ask("HSET", start + "1:1|aa", "v", "1", "packet", "nonsense")
    s.redis.ask("HSET", start + "2:1|bb", *(w for item in record.items() for w in item))
    s.redis.ask("SET", start + "3:1|cc", "a string")
    s.redis.ask("HSET", start + "4:1|dd", "v", "99")
    s.redis.ask("HSET", f"{{coapgw:{SERVICE}}}:resource:", "v", "1")
    s.redis.ask("HSET", good, "packet", "damaged")
    s.site.start()
    wait_until("they are set aside", lambda: len(s.redis.keys("*:rejected:*")) == 6)
    wait_until("the others are resumed", lambda: s.fleet.report()["checked"] == 49)
    assert len(s.redis.relations()) == 49
    rejected = s.redis.keys("*:rejected:*")
    s.site.kill()
    s.site.start()
    time.sleep(1)
    assert s.redis.keys("*:rejected:*") == rejected


def test_records_of_others_are_left_alone(stage):
    """Of another service, with another prefix, and what is not the gateway's at all."""
    s = stage(devices=20)
    s.fleet.open()
    s.down()
    good = next(iter(s.redis.keys("*:observe:*")))
    record = [w for item in s.redis.record(good).items() for w in item]
    others = [good.replace("{coapgw:", "{other:"), good.replace(GATEWAY4, "10.99.0.9"),
              good.replace("}:observe:", "0}:observe:"), "observe:mine", "something"]
    for key in others:
        s.redis.ask("HSET", key, *record)
    before = {key: s.redis.record(key) for key in others}
    s.site.start()
    s.fleet.heard(30)
    assert {key: s.redis.record(key) for key in others} == before
    assert s.gateway.counter("relations_resumed") == 20
    assert s.kept() == 20


@pytest.mark.parametrize("url", ["tcp", "password", "acl", "database"])
def test_ways_to_redis(stage, url, tmp_path):
    """Over TCP, with a password, as a user of an access list, in another database."""
    secret = tmp_path / "secret"
    secret.write_text("open-sesame\n")
    redis = ["--port", "6390", "--bind", "127.0.0.1"]
    if url == "password":
        redis += ["--requirepass", "open-sesame"]
    elif url == "acl":
        redis += ["--user", "gateway", "on", ">open-sesame", "~{coapgw:*", "+@all"]
    s = stage(devices=20, redis=redis, password="open-sesame" if url == "password" else None,
              start=False)
    more = {"password": f", password_file: {secret}",
            "acl": f", username: gateway, password_file: {secret}"}.get(url, "")
    target = "redis://127.0.0.1:6390" + ("/7" if url == "database" else "")
    s.site.text = s.text.replace(f'"{s.redis.url}"', f'"{target}"{more}')
    s.site.start()
    s.site.wait_for_store()
    s.fleet.open()
    s.restart()
    s.fleet.heard(30)
    s.all_is_well()
    assert "sesame" not in s.gateway.log()


# Another gateway.

class Two:
    """Two gateways with the same address behind a bridge, and a client that can talk to the first one
    whatever the bridge thinks."""

    class Port(AfPacket):
        """One of the bridge's ports."""

        def __init__(self, hosts, number):
            self.workers = 1
            self.hosts = hosts
            self.inner = Namespace(f"gw{number}")
            self.host_interface = f"port{number}"

        def prepare(self):
            self.hosts.run("ip", "link", "add", self.host_interface, "type", "veth", "peer", "name",
                           self.inner_interface, "netns", self.inner.name)
            self.hosts.run("ethtool", "-K", self.host_interface, "tx", "off")
            self.hosts.run("ip", "link", "set", self.host_interface, "up", "master", "bridge0")
            self.inner.sysctl(f"net.ipv6.conf.{self.inner_interface}.disable_ipv6=1")
            self.inner.run("ip", "link", "set", self.inner_interface, "up")

        def close(self):
            self.drop_journal()
            self.inner.close()

    def __init__(self, stack, folder, store=""):
        self.hosts = Namespace("hosts")
        stack.callback(self.hosts.close)
        # With an address of its own, or each new port would change it and make all forget neighbours.
        self.hosts.run("ip", "link", "add", "bridge0", "address", "02:00:00:00:00:99", "type",
                       "bridge")
        self.hosts.run("ip", "link", "set", "bridge0", "up")
        self.hosts.add_address("bridge0", f"{HOST4}/24")
        self.hosts.run("ip", "route", "add", "local", DEVICES, "dev", "lo")
        self.redis = Redis(self.hosts, folder / "redis")
        self.text = site_text(f'{{url: "{self.redis.url}", resume_spread: 1s{store}}}')
        self.sites = []
        for number in range(2):
            (folder / str(number)).mkdir()
            port = self.Port(self.hosts, number)
            self.sites.append(stack.enter_context(OneOfTwo(folder / str(number), self.text, port)))
        self.origin = stack.enter_context(StateOrigin(self.hosts, PATHS))
        self.fleet = Fleet(self.hosts, 200, paths=PATHS)

    def mac_of(self, number):
        link = self.sites[number].transport.inner.run("ip", "-j", "link", "show",
                                                      AfPacket.inner_interface)
        return json.loads(link.stdout)[0]["address"]

    def pin(self, number):
        """The hosts talk to this gateway, whatever the other one announces."""
        self.hosts.run("ip", "neigh", "replace", GATEWAY4, "lladdr", self.mac_of(number), "nud",
                       "permanent", "dev", "bridge0")

    def client_of(self, number):
        """A client whose datagrams reach this gateway although another one has its address."""
        mac = self.mac_of(number)
        net = Namespace("client")
        self.hosts._sockets.append(net)  # closed with the rest
        net.run("ip", "link", "add", "client0", "type", "veth", "peer", "name", "port9", "netns",
                self.hosts.name)
        net.run("ethtool", "-K", "client0", "tx", "off")
        self.hosts.run("ip", "link", "set", "port9", "up", "master", "bridge0")
        net.run("ip", "link", "set", "client0", "up")
        net.add_address("client0", "10.99.0.3/24")
        net.run("ip", "neigh", "replace", GATEWAY4, "lladdr", mac, "dev", "client0")
        return Client(net)


class OneOfTwo(Site):
    def _route_devices(self):
        pass


@pytest.fixture
def two(tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda **options: Two(stack, tmp_path, **options)


def test_take_over_from_a_dead_gateway(two):
    """The second one, in another place, resumes what the first one had accepted."""
    t = two()
    t.sites[0].start()
    t.sites[0].wait_for_store()
    t.fleet.open()
    t.origin.change_all(1)
    t.fleet.expect(1)
    t.sites[0].kill()
    t.fleet.say("down", "gateway")
    t.sites[1].start()
    t.fleet.heard(30)
    t.origin.change_all(2)
    t.fleet.expect(2)
    assert t.fleet.check()["checked"] == 200
    assert len(t.redis.relations()) == 200


@pytest.mark.parametrize("on_failure", ["serve", "reject"])
def test_take_over_from_one_that_is_alive(two, on_failure):
    """The newest owns the service: the first one stops writing, leaves those who observe to the other
    one, and says so. It serves on; what it is asked to keep is treated as when the store is away."""
    t = two(store=f", on_failure: {on_failure}, timeout: 300ms")
    t.sites[0].start()
    t.sites[0].wait_for_store()
    t.fleet.open()
    t.fleet.say("down", "gateway")
    t.sites[1].start()
    t.fleet.heard(30)
    t.pin(1)
    records = t.redis.relations()
    assert len(records) == 200
    owner = t.redis.ask("GET", f"{{coapgw:{SERVICE}}}:owner")
    first = t.sites[0].gateway
    wait_until("the first one is fenced", lambda: first.counter("relations_left") == 200, interval=0.2)
    told = first.counter("notifications")
    # It is asked by a client, and reaches the origin.
    t.pin(0)
    answer = t.client_of(0).observe("/s/1", os.urandom(4))
    assert answer.code_text == ("2.05" if on_failure == "serve" else "5.03")
    t.pin(1)
    assert not [r for r in t.redis.relations() if r[0].startswith("10.99.0.3:")]
    # The second one goes on, and nothing that the first does takes a record away.
    t.origin.change_all(2)
    t.fleet.expect(2)
    assert first.counter("notifications") == told
    assert records <= t.redis.relations()
    assert t.redis.ask("GET", f"{{coapgw:{SERVICE}}}:owner") == owner
    t.fleet.check()


# Resources that the gateway holds itself.

def test_dynamic_resources_survive(stage):
    """All of them, with their last state, format and ETag; observers go on; what was deleted stays so."""
    s = stage(devices=1, routes="  - {path: /shared, resources: {create: true, max: 1000}}")
    client, token = Client(s.site.namespace), os.urandom(4)
    wait_until("the store has been read", interval=0.2, condition=lambda: client.ask(
        wire.DELETE, "/shared/none").code_text == "2.02")
    for i in range(100):
        for payload in (b"old", b"state %d" % i):
            answer = client.ask(wire.PUT, f"/shared/a/{i}", payload,
                                options=[(wire.CONTENT_FORMAT, wire.uint(i))] if i % 2 else [])
            assert answer.code_text == ("2.01" if payload == b"old" else "2.04")
    for i in range(90, 100):
        assert client.ask(wire.DELETE, f"/shared/a/{i}").code_text == "2.02"
    before = [client.get(f"/shared/a/{i}") for i in range(100)]
    first = client.observe("/shared/a/7", token)
    s.restart(workers=2)
    assert client.get("/shared/a/3").code_text in ("2.05", "5.03"), "it is there, only not read yet"
    again = client.notification(token)
    assert (again.payload, again.option(wire.ETAG)) == (b"state 7", before[7].option(wire.ETAG))
    assert newer(first.uint(wire.OBSERVE), again.uint(wire.OBSERVE))
    for i, old in enumerate(before):
        new = when_read_back(client, f"/shared/a/{i}")
        assert (new.code_text, new.payload) == (("2.05", b"state %d" % i) if i < 90
                                                else ("4.04", new.payload))
        for option in (wire.ETAG, wire.CONTENT_FORMAT):
            assert new.option(option) == old.option(option)
    assert client.ask(wire.PUT, "/shared/a/7", b"newest").code_text == "2.04"
    assert client.until(token, b"newest")[-1].uint(wire.OBSERVE) != again.uint(wire.OBSERVE)
    assert client.ask(wire.DELETE, "/shared/a/7").code_text == "2.02"
    assert client.notification(token).code_text == "4.04"
    s.restart("stop", workers=1)
    assert when_read_back(client, "/shared/a/7").code_text == "4.04"
    assert client.is_quiet()


def when_read_back(client, path):
    """What it is, once the gateway has it from the store."""
    answers = []

    def known():
        answers.append(client.get(path))
        return answers[-1].code_text != "5.03"
    wait_until("it is read back", known)
    return answers[-1]


def newer(old, new):
    """RFC 7641 3.4."""
    return old < new < old + (1 << 23) or old - (1 << 23) > new
