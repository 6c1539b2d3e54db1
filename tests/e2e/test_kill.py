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

KILLS = int(os.environ.get("COAPGW_KILLS", 8))
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


# Each returns how many gateways it has killed.

def kill_gateway(site, redis, fleet):
    site.kill()
    fleet.say("down", "gateway")
    site.start()
    return 1


def kill_redis(site, redis, fleet):
    """The gateway goes on; nobody is owed anything."""
    fleet.say("down", "store")
    redis.restart()
    fleet.say("up", "store")
    return 0


def kill_both(site, redis, fleet):
    fleet.say("down", "store")
    if random.random() < 0.5:
        redis.kill()
        site.kill()
    else:
        site.kill()
        redis.kill()
    fleet.say("down", "gateway")
    redis.start()
    site.start()
    fleet.say("up", "store")
    return 1


def kill_one_or_both(site, redis, fleet):
    return random.choice((kill_gateway, kill_redis, kill_both))(site, redis, fleet)


@pytest.mark.core
@pytest.mark.parametrize("kill", [kill_gateway, kill_redis, kill_both, kill_one_or_both])
def test_kill(tmp_path, kill, capsys):
    """What a device has seen accepted is in the store when the answer leaves: for that, a registration is
    refused when the store is away."""
    chance = random.Random(SEED)
    random.seed(SEED)
    carrier = AfPacket(2)
    redis = Redis(carrier.inner, tmp_path / "redis", start=False)
    text = site_text(f'{{url: "{redis.url}", resume_spread: 1s, on_failure: reject, timeout: 1s}}',
                     more="observe: {confirm_every: 3}")
    gateways = 0
    with Site(tmp_path, text, carrier, 1) as site, StateOrigin(site.namespace, PATHS) as origin:
        redis.start()
        site.start()
        fleet = Fleet(site.namespace, DEVICES, paths=PATHS, slots=2, seed=SEED, mean_ms=6000)
        fleet.open()
        fleet.run()
        with Changes(origin, SEED):
            for i in range(KILLS):
                time.sleep(chance.uniform(0.05, 2))
                site.transport.workers = chance.choice([1, 2])
                gateways += kill(site, redis, fleet)
                if chance.random() < 0.7:  # otherwise it is killed again before all is resumed
                    fleet.heard(60)
                fleet.check()
        fleet.heard(60)
        fleet.calm()
        origin.change_all(1000000)
        fleet.expect(1000000)
        report = fleet.check()
        assert origin.wrong == []
        the_store_has(redis, fleet, tmp_path)
        with capsys.disabled():
            print(f"\n{kill.__name__}: seed {SEED}, {KILLS} kills, {DEVICES} devices: "
                  f"{report['checked']} registrations checked, {report['checked_non']} of them by a "
                  f"NON; at the end {report['active']} in the store and with the last state; "
                  f"{report['accepted']} accepted, {report['refreshed']} again, "
                  f"{report['cancelled']} cancelled, {report['rejected']} rejected "
                  f"({report['excused']} excused), {report['notifications']} notifications; "
                  f"{report['gave_up']} requests without an answer; answers {report['codes']}")
    assert report["checked"] >= gateways * DEVICES / 10


def the_store_has(redis, fleet, folder):
    """All that devices have, and nothing else."""
    accepted = fleet.accepted(folder / "accepted")
    wait_until("nothing is missing in the store, nor too much", timeout=30, interval=0.3,
               condition=lambda: redis.relations() == accepted)
    assert not redis.keys("*rejected*")
