"""The fleet of simulated devices: that it finds what a gateway does wrong, and that this gateway does
nothing of it while thousands of devices come and go."""

import random
import time

import pytest

import wire
from fleet import Fleet, Site, StateOrigin, site_text
from netns import Namespace, wait_until
from transports import GATEWAY4


class Pretender:
    """A server at the gateway's address with one device in front of it, which observes "/s/0"."""

    def __init__(self):
        self.net = Namespace("pretend")
        self.net.add_address("lo", f"{GATEWAY4}/32")
        self.net.run("ip", "route", "add", "local", "10.100.0.0/16", "dev", "lo")
        self.sock = self.net.socket()
        self.sock.bind((GATEWAY4, 5683))
        self.sock.settimeout(10)
        self.fleet = Fleet(self.net, 1, paths=1, sockets=1, ack_timeout_ms=500, grace_ms=50,
                           mean_ms=1)
        self.fleet.send("open", 1)
        self.registration = self.receive()
        self.token = self.registration.token
        self.answer(self.registration, 10)
        assert self.fleet.answer()["ok"]

    def receive(self):
        data, self.peer = self.sock.recvfrom(2048)
        return wire.decode(data)

    def send(self, kind, mid, number=None, payload=b"0 0", code="2.05", token=None):
        options = [] if number is None else [(wire.OBSERVE, wire.uint(number))]
        token = self.token if token is None else token
        message = wire.Message(kind, wire.code(code), mid, token, options, payload)
        self.sock.sendto(message.encode(), self.peer)

    def answer(self, request, number=None, payload=b"0 0"):
        self.send(wire.ACK, request.mid, number, payload, token=request.token)

    def told(self, kind, mid, number, payload=b"0 0", token=None):
        """A confirmable notification, and the device's answer to it."""
        self.send(kind, mid, number, payload, token=token)
        return self.receive()

    def until_cancelled(self):
        """The device follows its whims until it has cancelled."""
        self.fleet.run()
        while True:
            request = self.receive()
            if request.code != wire.GET:
                continue
            if request.uint(wire.OBSERVE) == 1:
                self.fleet.send("calm", 5000)
                self.answer(request)
                assert self.fleet.answer()["ok"]
                return
            self.token = request.token
            self.answer(request, 10)

    def found(self):
        violations = self.fleet.report()["violations"]
        return {name: count for name, count in violations.items() if count and name != "total"}


@pytest.fixture
def pretender():
    one = Pretender()
    yield one
    one.net.close()


@pytest.mark.core
def test_good_notifications(pretender):
    """New numbers, a retransmission, a wrap, a ping: all is well."""
    assert pretender.told(wire.CON, 1, 11).type == wire.ACK
    assert pretender.told(wire.CON, 1, 11).type == wire.ACK
    assert pretender.told(wire.CON, 2, (11 + (1 << 23) - 1) & 0xFFFFFF).type == wire.ACK
    assert pretender.told(wire.CON, 3, 5, b"0 7").type == wire.ACK
    pretender.sock.sendto(wire.Message(wire.CON, wire.EMPTY, 4).encode(), pretender.peer)
    assert (pretender.receive().type, pretender.found()) == (wire.RST, {})
    report = pretender.fleet.report()
    assert (report["retransmissions"], report["notifications"], report["pings"]) == (1, 3, 1)
    assert pretender.fleet.say("expect", 7, 1000)["ok"]
    assert not pretender.fleet.say("expect", 8, 50)["ok"]


@pytest.mark.core
@pytest.mark.parametrize("violation, messages", [
    ("number_back", [(wire.NON, 1, 9)]),
    ("number_back", [(wire.NON, 1, 12), (wire.CON, 2, 11)]),
    ("number_same", [(wire.NON, 1, 11), (wire.NON, 2, 11)]),
    ("number_same", [(wire.NON, 1, 10)]),
    ("mid_reused", [(wire.CON, 1, 11), (wire.CON, 1, 12)]),
    ("non_repeated", [(wire.NON, 1, 11), (wire.NON, 1, 11)]),
    ("content_back", [(wire.NON, 1, 11, b"0 5"), (wire.NON, 2, 12, b"0 4")]),
    ("content_wrong", [(wire.NON, 1, 11, b"1 5")]),
    ("unexpected", [(wire.NON, 1, None)]),
    ("unknown_token", [(wire.NON, 1, 11, b"0 0", "2.05", b"\x00\xff\x00\x00")]),
])
def test_violations_are_found(pretender, violation, messages):
    for message in messages:
        pretender.send(*message)
    wait_until("it is found", lambda: pretender.found() == {violation: 1}, timeout=5)


def test_notified_after_cancellation(pretender):
    """Within the grace period it may have been under way; later it is a violation. Each is reset."""
    pretender.until_cancelled()
    assert pretender.told(wire.CON, 1001, 11).type == wire.RST
    time.sleep(0.2)
    assert pretender.found() == {}
    pretender.until_cancelled()
    time.sleep(0.2)
    assert pretender.told(wire.CON, 1002, 12).type == wire.RST
    assert pretender.told(wire.CON, 1002, 12).type == wire.RST
    assert pretender.found() == {"cancelled_notified": 1}
    for i in range(4):
        assert pretender.found() == {"cancelled_notified": 1}
        time.sleep(0.2)
        assert pretender.told(wire.NON, 1003 + i, 13 + i).type == wire.RST
    assert pretender.found() == {"cancelled_notified": 1, "reset_ignored": 1}


def test_cancelled_just_before_a_kill(pretender):
    """Whether that reached the store nobody knows."""
    pretender.until_cancelled()
    pretender.fleet.say("down", "gateway")
    time.sleep(0.2)
    assert pretender.told(wire.CON, 1001, 11).type == wire.RST
    assert (pretender.found(), pretender.fleet.report()["excused"]) == ({}, 1)


def test_who_is_owed_a_notification(pretender):
    """After a kill each accepted relation is owed one; an answer is none, a new number is needed."""
    pretender.fleet.say("down", "gateway")
    assert pretender.fleet.say("heard", 50)["missing"] == 1
    pretender.send(wire.ACK, pretender.registration.mid, 11)
    assert pretender.fleet.say("heard", 50)["missing"] == 1
    pretender.told(wire.CON, 1, 12)
    assert pretender.fleet.say("heard", 50)["ok"]
    assert pretender.fleet.report()["checked"] == 1


def test_requests_are_repeated(pretender):
    """After 500 to 750 ms and then twice as long each time, with the same message ID (RFC 7252 4.2)."""
    pretender.fleet.send("touch", 1)
    times, messages = [], []
    for _ in range(3):
        messages.append(pretender.receive())
        times.append(time.monotonic())
    pretender.answer(messages[0])
    assert pretender.fleet.answer()["ok"]
    assert messages[0] == messages[1] == messages[2]
    first, second = times[1] - times[0], times[2] - times[1]
    assert 0.45 < first < 2 and 0.9 < second


def test_accepted_relations_are_listed(pretender, tmp_path):
    assert pretender.fleet.accepted(tmp_path / "list") == {
        (f"{pretender.peer[0]}:{pretender.peer[1]}", pretender.token.hex())}


def test_mute_devices_say_nothing(pretender):
    pretender.fleet.say("mute", 1)
    pretender.send(wire.CON, 1, 11)
    pretender.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        pretender.receive()
    assert pretender.fleet.report()["notifications"] == 1


@pytest.mark.core
@pytest.mark.parametrize("workers", [1, 2])
def test_thousands_come_and_go(tmp_path, workers):
    """Registrations, cancellations of both kinds and changes of 100 resources, all at random. At the
    end each device that is registered has the last state, and each resource was observed once by
    each worker at the most."""
    text = site_text() + "observe: {confirm_every: 3}\n"
    with Site(tmp_path, text, workers=workers) as site:
        site.start()
        with StateOrigin(site.namespace, 100) as origin:
            fleet = Fleet(site.namespace, 2000, paths=100, slots=2, mean_ms=4000)
            fleet.open()
            fleet.run()
            for _ in range(100):
                origin.change(random.randrange(100))
                time.sleep(0.05)
            fleet.calm()
            origin.change_all(1000)
            fleet.expect(1000)
            report = fleet.check()
            assert report["ended"] == report["gave_up"] == report["refused"] == 0, report
            assert min(report["refreshed"], report["cancelled"], report["rejected"]) > 100, report
            assert origin.observer_count <= 100 * workers
            assert origin.wrong == []
        site.stop()
