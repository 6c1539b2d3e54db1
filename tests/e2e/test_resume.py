"""Many relations resumed at once. As part of the suite there are few of them, and no figures count;
bench/resume.sh measures:

    COAPGW_RELATIONS=200000 COAPGW_SPREAD=10s /usr/bin/python3 -m pytest -s tests/e2e/test_resume.py"""

import os
import threading
import time

import pytest

from client import Client
from fleet import Fleet, Redis, Site, StateOrigin, rss_bytes, site_text
from netns import wait_until
from transports import AfPacket

RELATIONS = int(os.environ.get("COAPGW_RELATIONS", 5000))
SPREAD = os.environ.get("COAPGW_SPREAD", "1s")
WORKERS = int(os.environ.get("COAPGW_WORKERS", 1))
PATHS = max(10, RELATIONS // 200)


class Asking:
    """One client that asks all the time; the start of the gateway is counted from outside."""

    def __init__(self, namespace):
        self.waits = []
        self._client = Client(namespace)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self):
        while not self._ended.is_set():
            begun = time.monotonic()
            assert self._client.get("/hello", timeout=60).payload == b"hello world!"
            self.waits.append(time.monotonic() - begun)
            time.sleep(0.001)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()


def text(redis):
    store = f'{{url: "{redis.url}", resume_spread: {SPREAD}, timeout: 5s}}'
    room = 1 << (2 * RELATIONS - 1).bit_length()
    return site_text(store, sessions=2 * RELATIONS + 1000, relations=2 * RELATIONS, outbound=room,
                     exchanges=65536, remembered=2 * room, message_memory="512MiB",
                     observations=2 * PATHS).replace("size: 512MiB", "size: 1GiB")


def test_resume(tmp_path, capsys):
    """All of them are told, in the time that the configuration spreads it over and a little more, and
    other requests are answered meanwhile."""
    carrier = AfPacket(WORKERS)
    redis = Redis(carrier.inner, tmp_path / "redis", start=False)
    with Site(tmp_path, text(redis), carrier, WORKERS) as site, \
            StateOrigin(site.namespace, PATHS) as origin:
        redis.start()
        site.start()
        site.wait_for_store()
        fleet = Fleet(site.namespace, RELATIONS, paths=PATHS)
        opened = fleet.open(window=1000, timeout=600)
        wait_until("all are kept", timeout=60,
                   condition=lambda: redis.ask("DBSIZE") >= RELATIONS)
        full = rss_bytes(site.gateway.pid)
        registrations = origin.registrations
        site.kill()
        fleet.say("down", "gateway")
        begun = time.monotonic()
        site.start()
        ready = time.monotonic() - begun
        with Asking(site.namespace) as asking:
            fleet.heard(300)
            last = fleet.report()["owed_done_at"] - begun
        resumed = rss_bytes(site.gateway.pid)
        report = fleet.check()
        assert report["checked"] == RELATIONS and report["checked_non"] == 0, report
        assert origin.registrations - registrations <= PATHS * WORKERS
        origin.change_all(1)
        fleet.expect(1, 300)
        assert report["ended"] == 0 and origin.wrong == []
        waits = sorted(asking.waits)
        with capsys.disabled():
            print(f"\n{RELATIONS} relations of {PATHS} resources, {WORKERS} workers, spread over "
                  f"{SPREAD}: registered in {opened['seconds']:.1f} s; after the kill ready in "
                  f"{ready:.2f} s, last notification {last:.2f} s after the start; "
                  f"{report['retransmissions']} notifications twice; resident memory "
                  f"{full >> 20} MiB before, {resumed >> 20} MiB after; {len(waits)} other requests "
                  f"answered meanwhile in {1e3 * waits[len(waits) // 2]:.2f} ms (median), "
                  f"{1e3 * waits[-1]:.1f} ms (longest)")
