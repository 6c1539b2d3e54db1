"""The kill test: devices register, cancel and are notified all the time while the gateway, its store or
both are killed at random moments and started again. No registration whose acceptance a device has
seen may be lost, no number goes back, nothing comes twice, and what was cancelled stays so.

As part of the suite it is short. All of it:

    COAPGW_KILLS=100 COAPGW_DEVICES=10000 /usr/bin/python3 -m pytest -s tests/e2e/test_kill.py

COAPGW_SEED repeats the devices' whims and the times of the kills, as far as a live system can."""

import os
import random
import time

import pytest

from fleet import Fleet, Redis, Site, StateOrigin, site_text
from transports import AfPacket
from world import Changes, World

KILLS = int(os.environ.get("COAPGW_KILLS", 5))
DEVICES = int(os.environ.get("COAPGW_DEVICES", 1000))
SEED = int(os.environ.get("COAPGW_SEED", time.time_ns() % 1000000))
PATHS = 100


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
            world.kill(kill, chance, KILLS)
        fleet.heard(60)
        fleet.calm()
        origin.change_all(1000000)
        fleet.expect(1000000)
        report = fleet.check()
        assert origin.wrong == []
        world.store_has_all()
        with capsys.disabled():
            print(f"\n{kill}: seed {SEED}, {KILLS} kills, {DEVICES} devices: "
                  f"{report['checked']} registrations checked, {report['checked_non']} of them by a "
                  f"NON; at the end {report['active']} in the store and with the last state; "
                  f"{report['accepted']} accepted, {report['refreshed']} again, "
                  f"{report['cancelled']} cancelled, {report['rejected']} rejected "
                  f"({report['excused']} excused), {report['notifications']} notifications; "
                  f"{report['gave_up']} requests without an answer; answers {report['codes']}")
    assert report["checked"] >= world.gateways * DEVICES / 10
