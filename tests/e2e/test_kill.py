"""The kill test: devices register, cancel and are notified all the time while the gateway, its store or
both are killed at random moments and started again. No registration whose acceptance a device has
seen may be lost, no number goes back, nothing comes twice, and what was cancelled stays so.

As part of the suite it is short. All of it:

    COAPGW_KILLS=100 COAPGW_DEVICES=10000 /usr/bin/python3 -m pytest -s tests/e2e/test_kill.py

COAPGW_SEED repeats the devices' whims and the times of the kills, as far as a live system can."""

import os
import random
import threading
import time

import pytest

from fleet import Fleet, Redis, Site, StateOrigin, site_text
from netns import wait_until
from transports import AfPacket

KILLS = int(os.environ.get("COAPGW_KILLS", 5))
DEVICES = int(os.environ.get("COAPGW_DEVICES", 1000))
SEED = int(os.environ.get("COAPGW_SEED", time.time_ns() % 1000000))
PATHS = 100


class Changes:
    """New states of random resources, all the time."""

    def __init__(self, origin, seed, each=0.02):
        self._origin, self._each = origin, each
        self._random = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._change, daemon=True)

    def _change(self):
        while not self._ended.wait(self._each):
            self._origin.change(self._random.randrange(PATHS))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()


class World:
    """What is killed, and who looks on."""

    def __init__(self, site, redis, fleet, folder):
        self.site, self.redis, self.fleet = site, redis, fleet
        self.gateways = 0  # killed
        self._folder = folder
        self._unequal("gateway")

    def _connections(self):
        return self.site.gateway.log().count("store: connected")

    def _unequal(self, who):
        """The store may lack what happens from now on, or have what is over, until the gateway is
        connected and has compared everything. What devices cancel meanwhile may come back when the
        gateway is killed before."""
        self.fleet.say("down", "store")
        self._wanted = 1 if who == "gateway" else self._connections() + 1
        self._connected_at = None

    def look(self):
        """Once it is connected and nothing is left of what was cancelled, all counts again."""
        if self._wanted is None:
            return True
        if self._connections() < self._wanted:
            return False
        now = time.monotonic()
        self._connected_at = self._connected_at or now
        if now < self._connected_at + 1.5:
            return False
        if self.redis.relations() & self.fleet.cancelled(self._folder / "cancelled"):
            return False
        self.fleet.say("up", "store")
        self._wanted = None
        return True

    def live(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.look()
            time.sleep(min(0.1, max(0, deadline - time.monotonic())))

    def kill_gateway(self):
        self.site.kill()
        self._restart_gateway()

    def _restart_gateway(self):
        self.gateways += 1
        self.fleet.say("down", "gateway")
        self._unequal("gateway")
        self.site.start()

    def kill_redis(self):
        """The gateway goes on; nobody is owed anything."""
        self._unequal("redis")
        self.redis.restart()

    def kill_both(self):
        self._unequal("redis")
        first, second = random.sample((self.redis.kill, self.site.kill), 2)
        first()
        second()
        self.redis.start()
        self._restart_gateway()

    def kill_one_or_both(self):
        random.choice((self.kill_gateway, self.kill_redis, self.kill_both))()


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["kill_gateway", "kill_redis", "kill_both",
                                  pytest.param("kill_one_or_both", marks=pytest.mark.core)])
def test_kill(tmp_path, kill, capsys):
    """What a device has seen accepted is in the store when the answer leaves: for that, a registration is
    refused when the store is away."""
    print(f"COAPGW_SEED={SEED}")
    chance = random.Random(SEED)
    random.seed(SEED)
    carrier = AfPacket(2)
    redis = Redis(carrier.inner, tmp_path / "redis", start=False)
    text = site_text(f'{{url: "{redis.url}", resume_spread: 1s, on_failure: reject, timeout: 1s}}',
                     more="observe: {confirm_every: 3}")
    with Site(tmp_path, text, carrier, 1) as site, StateOrigin(site.namespace, PATHS) as origin:
        redis.start()
        site.start()
        fleet = Fleet(site.namespace, DEVICES, paths=PATHS, slots=2, seed=SEED, mean_ms=6000)
        world = World(site, redis, fleet, tmp_path)
        fleet.open()
        fleet.run()
        with Changes(origin, SEED):
            for i in range(KILLS):
                world.live(chance.uniform(0.05, 2))
                site.transport.workers = chance.choice([1, 2])
                getattr(world, kill)()
                if chance.random() < 0.7:  # otherwise it is killed again before all is resumed
                    fleet.heard(60)
                if chance.random() < 0.4:
                    wait_until("the store has nothing that is over", world.look, 30, 0.1)
                fleet.check()
        fleet.heard(60)
        fleet.calm()
        origin.change_all(1000000)
        fleet.expect(1000000)
        report = fleet.check()
        assert origin.wrong == []
        the_store_has(redis, fleet, tmp_path)
        with capsys.disabled():
            print(f"\n{kill}: seed {SEED}, {KILLS} kills, {DEVICES} devices: "
                  f"{report['checked']} registrations checked, {report['checked_non']} of them by a "
                  f"NON; at the end {report['active']} in the store and with the last state; "
                  f"{report['accepted']} accepted, {report['refreshed']} again, "
                  f"{report['cancelled']} cancelled, {report['rejected']} rejected "
                  f"({report['excused']} excused), {report['notifications']} notifications; "
                  f"{report['gave_up']} requests without an answer; answers {report['codes']}")
    assert report["checked"] >= world.gateways * DEVICES / 10


def the_store_has(redis, fleet, folder):
    """All that devices have, and nothing else."""
    accepted = fleet.accepted(folder / "accepted")
    wait_until("nothing is missing in the store, nor too much", timeout=30, interval=0.3,
               condition=lambda: redis.relations() == accepted)
    assert not redis.keys("*rejected*")
