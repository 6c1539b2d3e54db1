"""Redis behind a network, or a machine, that stalls (SIGSTOP): requests that need no store are answered
as ever, and registrations as on_failure says, after store.timeout and not later."""

import contextlib
import os
import threading
import time

import pytest

import wire
from client import Client
from fleet import Fleet, Redis, Site, StateOrigin, site_text
from netns import wait_until
from transports import AfPacket

STALL = float(os.environ.get("COAPGW_STALL", "3"))  # seconds


class Requests:
    """Clients that ask for /hello, one after the other answer, until told to stop."""

    def __init__(self, namespace, count=4):
        self.taken, self.errors = [], []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(Client(namespace),))
                         for _ in range(count)]

    def _ask(self, client):
        while not self._ended.is_set():
            begun = time.monotonic()
            try:
                assert client.get("/hello").payload == b"hello world!"
            except (AssertionError, OSError) as error:
                self.errors.append(error)
                return
            self.taken.append(time.monotonic() - begun)
            time.sleep(0.002)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def stalling(folder, on_failure, timeout="500ms", workers=1):
    carrier = AfPacket(workers)
    redis = Redis(carrier.inner, folder / "redis", start=False)
    text = site_text(f'{{url: "{redis.url}", resume_spread: 1s, on_failure: {on_failure}, '
                     f'timeout: {timeout}}}')
    with Site(folder, text, carrier, workers) as site, StateOrigin(site.namespace, 20) as origin:
        redis.start()
        site.start()
        site.wait_for_store()
        fleet = Fleet(site.namespace, 200, paths=20)
        fleet.open()
        try:
            yield site, redis, origin, fleet
        finally:
            redis.thaw()


def taken_in(requests, seconds):
    """The seconds that each request of the time to come takes, in order of length."""
    begun = len(requests.taken)
    time.sleep(seconds)
    return sorted(requests.taken[begun:])


def figures(what, taken, record_property):
    """They go to the report: other processes of the machine have their part in them."""
    for percent in (50, 99, 99.9, 100):
        value = taken[min(int(len(taken) * percent / 100), len(taken) - 1)] * 1000
        record_property(f"{what}_ms_p{percent}", round(value, 3))
        print(f"{what}: {percent} % of {len(taken)} within {value:.2f} ms")


@pytest.mark.core
def test_plain_requests_do_not_notice(tmp_path, record_property):
    """As many are answered while Redis stands still as before, and none waits for it; notifications go
    on, too."""
    with stalling(tmp_path, "serve", timeout="10s") as (site, redis, origin, fleet), \
            Requests(site.namespace) as requests:
        observer = Client(site.namespace)
        before = taken_in(requests, STALL)
        redis.freeze()
        waiting = wire.request(wire.GET, "/s/1", options=[(wire.OBSERVE, b"")])
        observer.send(waiting)
        during = taken_in(requests, STALL)
        origin.change_all(1)
        fleet.expect(1)
        redis.thaw()
        answer = observer.exchange(waiting)
        assert answer.option(wire.OBSERVE) is not None
        wait_until("it is kept", lambda: len(redis.relations()) == 201)
        # Generous: half of it would still mean that nobody waits for Redis.
        assert len(during) > len(before) / 2, f"{len(during)} in {STALL} s, {len(before)} before"
        assert during[-1] < STALL / 2, f"a request took {during[-1]:.3f} s"
        figures("before", before, record_property)
        figures("during", during, record_property)
    assert not requests.errors, requests.errors[0]
    fleet_is_well(fleet)


def fleet_is_well(fleet):
    if fleet.process.poll() is None:
        fleet.check()


@pytest.mark.slow
@pytest.mark.core
@pytest.mark.parametrize("on_failure", ["serve", "reject"])
@pytest.mark.parametrize("workers", [1, 2])
def test_registrations_follow_on_failure(tmp_path, on_failure, workers):
    """Each waits for store.timeout, once; then it is answered with or without Observe. Afterwards the
    store has exactly what is observed."""
    with stalling(tmp_path, on_failure, "400ms", workers) as (site, redis, origin, fleet):
        redis.freeze()
        clients = [(Client(site.namespace), os.urandom(4)) for _ in range(20)]
        for client, token in clients:
            begun = time.monotonic()
            answer = client.observe("/s/2", token)
            assert time.monotonic() - begun < 5
            if on_failure == "serve":
                assert (answer.code_text, answer.uint(wire.OBSERVE) is None) == ("2.05", False)
            else:
                assert (answer.code_text, answer.option(wire.OBSERVE)) == ("5.03", None)
        origin.change_all(1)
        fleet.expect(1)
        redis.thaw()
        count = 200 + (20 if on_failure == "serve" else 0)
        wait_until("the store has what is observed", lambda: len(redis.relations()) == count)
        origin.change_all(2)
        fleet.expect(2)
        for client, token in clients:
            if on_failure == "serve":
                assert client.until(token, b"2 2")
            else:
                assert client.is_quiet(0.01)
        fleet.check()


@pytest.mark.slow
def test_cancelled_during_a_stall(tmp_path):
    """A cancellation is answered at once, and does not come back with the store."""
    with stalling(tmp_path, "serve") as (site, redis, origin, fleet):
        redis.freeze()
        fleet.run()
        time.sleep(STALL)
        fleet.calm()
        redis.thaw()
        origin.change_all(1)
        fleet.expect(1)
        accepted = fleet.accepted(tmp_path / "accepted")
        wait_until("the store has what is observed", lambda: redis.relations() == accepted)
        site.kill()
        fleet.say("down", "gateway")
        site.start()
        fleet.heard(30)
        fleet.check()
