"""The kill test over DTLS: devices with associations and relations, some of them with a Connection ID,
that notice nothing of kills of the gateway, of its store or of both: nobody does a second handshake,
every relation that was accepted is notified, and no sequence number of the gateway's comes twice under
a key, over all kills. Some devices are behind another port afterwards, and go on.

As part of the suite it is short. All of it:

    COAPGW_KILLS=100 COAPGW_DEVICES=10000 /usr/bin/python3 -m pytest -s tests/e2e/test_dtls_kill.py

COAPGW_SEED repeats it as far as a live system can (see test_kill.py)."""

import contextlib
import os
import random
import select
import threading
import time

import pytest

from fleet import Fleet, Redis, Site, StateOrigin, site_text
from netns import wait_until
from transports import GATEWAY4, HOST4, AfPacket
from world import Changes, World

KILLS = int(os.environ.get("COAPGW_KILLS", 2))
DEVICES = int(os.environ.get("COAPGW_DEVICES", 500))
SEED = int(os.environ.get("COAPGW_SEED", time.time_ns() % 1000000))
PATHS = 100
MOVES = max(1, DEVICES // 100)  # at each kill
KEY = "000102030405060708090a0b0c0d0e0f"
SERVICE = f"{GATEWAY4}:5684"
RELAY = f"{HOST4}:5690"


class SecureWorld(World):
    """Relations in the store belong to associations; to devices they belong by their addresses at the
    beginning."""

    def __init__(self, site, redis, fleet, folder):
        super().__init__(site, redis, fleet, folder, self._relations_of_devices)
        self._names = {}  # by the association's ID

    def know(self):
        """All devices are connected, and have not moved yet."""
        start = f"{{coapgw:{SERVICE}}}:association:"
        wait_until("all associations are kept", lambda: len(self._ids(start)) == self.fleet.devices)
        ids = sorted(self._ids(start))
        peers = self.redis.ask_all([("HGET", start + i, "peer") for i in ids])
        assert len(set(peers)) == self.fleet.devices
        self._names = {f"dtls-{i}": peer for i, peer in zip(ids, peers)}

    def _ids(self, start):
        return {key[len(start):] for key in self.redis.keys(start + "*")}

    def _relations_of_devices(self):
        """What belongs to no association is an error."""
        return {(self._names[client], token)
                for client, token in self.redis.relations(SERVICE)}

    def while_down(self):
        assert self.fleet.say("move", MOVES)["ok"]

    def no_handshake(self):
        """By what the gateway says; the fleet knows, too."""
        if self.gateways == 0:
            return
        counters = self.site.gateway.counters().values()
        total = {name: sum(c.get(name, 0) for c in counters) for c in counters for name in c}
        assert total.get("dtls_handshakes", 0) == total.get("dtls_hello_verify", 0) == 0
        assert total["associations_restored"] == self.fleet.devices


def secure_site(folder, redis, more="", devices=DEVICES, **options):
    """The text of a site whose clients use DTLS."""
    folder.mkdir(exist_ok=True)
    (folder / "psk").write_text("".join(f"device-{i}:{KEY}\n" for i in range(devices)))
    (folder / "persist").write_text("5a" * 32 + "\n")
    for name in ("psk", "persist"):
        (folder / name).chmod(0o600)
    return site_text(f'{{url: "{redis.url}", resume_spread: 1s, on_failure: reject, timeout: 1s}}',
                     more=f"security: {{persist_key_file: {folder}/persist}}\n{more}",
                     listener=f", dtls: {{psk: {{file: {folder}/psk}}}}", scheme="coaps",
                     associations=devices + 100, **options)


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["kill_gateway", "kill_redis", "kill_both",
                                  pytest.param("kill_one_or_both", marks=pytest.mark.core)])
def test_kill(tmp_path, kill, capsys):
    print(f"COAPGW_SEED={SEED}")
    chance = random.Random(SEED)
    random.seed(SEED)
    carrier = AfPacket(2)
    redis = Redis(carrier.inner, tmp_path / "redis", start=False)
    text = secure_site(tmp_path, redis, "observe: {confirm_every: 3}")
    with Site(tmp_path, text, carrier, 1) as site, StateOrigin(site.namespace, PATHS) as origin:
        redis.start()
        site.start()
        site.wait_for_store()
        fleet = Fleet(site.namespace, DEVICES, gateway=SERVICE, psk=KEY, paths=PATHS, slots=2,
                      seed=SEED, mean_ms=6000, ack_timeout_ms=500)
        world = SecureWorld(site, redis, fleet, tmp_path)
        fleet.connect()
        world.know()
        fleet.open()
        fleet.run()
        begun = time.monotonic()
        with Changes(origin, SEED):
            world.kill(kill, chance, KILLS, world.no_handshake)
        seconds = time.monotonic() - begun
        fleet.heard(60)
        fleet.calm()
        origin.change_all(1000000)
        fleet.expect(1000000)
        report = fleet.check()
        world.no_handshake()
        assert origin.wrong == []
        world.store_has_all()
        with capsys.disabled():
            print(f"\n{kill}: seed {SEED}, {KILLS} kills ({world.gateways} of the gateway), {DEVICES} "
                  f"devices, {seconds:.0f} s: {report['handshakes']} handshakes, "
                  f"{report['records']} records of the gateway's, no number twice; {report['moved']} "
                  f"moves; {report['checked']} registrations checked, {report['checked_non']} of them "
                  f"by a NON; at the end {report['active']} in the store and with the last state; "
                  f"{report['accepted']} accepted, {report['refreshed']} again, "
                  f"{report['cancelled']} cancelled, {report['rejected']} rejected "
                  f"({report['excused']} excused), {report['notifications']} notifications, "
                  f"{report['late']} of them repeated after newer ones; "
                  f"{report['gave_up']} requests without an answer; answers {report['codes']}")
    assert report["handshakes"] == DEVICES
    assert report["records"] > report["notifications"]
    assert report["moved"] == world.gateways * MOVES
    assert report["checked"] >= world.gateways * DEVICES / 10


class Relay:
    """Between one device and the gateway; it may send what the gateway sends once more."""

    def __init__(self, namespace):
        self.again = False
        self._device = None
        self._inside, self._outside = (namespace.socket() for _ in range(2))
        self._inside.bind((HOST4, int(RELAY.split(":")[1])))
        self._outside.connect((GATEWAY4, 5684))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._ended.is_set():
            for ready in select.select([self._inside, self._outside], [], [], 0.05)[0]:
                data, peer = ready.recvfrom(2048)
                if ready is self._inside:
                    self._device = peer
                    self._outside.send(data)
                else:
                    for _ in range(2 if self.again else 1):
                        self._inside.sendto(data, self._device)

    def close(self):
        self._ended.set()
        self._thread.join()
        self._inside.close()
        self._outside.close()


@pytest.mark.core
def test_the_judge_sees_a_number_that_comes_twice(tmp_path):
    """The same record again, which no gateway may send; a relay does."""
    carrier = AfPacket(1)
    redis = Redis(carrier.inner, tmp_path / "redis", start=False)
    text = secure_site(tmp_path, redis, devices=1)
    with Site(tmp_path, text, carrier, 1) as site, StateOrigin(site.namespace, 1) as origin, \
            contextlib.closing(Relay(site.namespace)) as relay:
        redis.start()
        site.start()
        site.wait_for_store()
        fleet = Fleet(site.namespace, 1, gateway=RELAY, psk=KEY, paths=1)
        fleet.connect()
        fleet.open()
        report = fleet.check()
        assert report["records"] > 0
        relay.again = True
        origin.change(0)
        fleet.expect(1)
        wait_until("it is found", lambda: fleet.report()["violations"]["sequence_reused"])
        assert fleet.report()["violations"]["nonce_other"] == 0
