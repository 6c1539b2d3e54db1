"""The load generator, over the kernel's sockets and over devices: what it counts and what it says."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

import transports
from gateway import BINARY, SANITIZERS, small
from netns import Namespace, wait_until
from transports import GATEWAY4, GATEWAY6, HOST4

COAPGUN = Path(os.environ.get("COAPGUN", BINARY.parent / "bench" / "coapgun")).resolve()
ORIGIN = "10.99.0.100"
ORIGIN6 = "fd99::100"

KEYS = {"version": str, "command": str, "mode": str, "carrier": str, "endpoints": int, "window": int,
        "offered": float, "seconds": float, "sent": int, "answered": int, "timeouts": int,
        "resets": int, "unsent": int, "late": int, "duplicates": int, "wrong": int,
        "unexpected": int, "declined": int, "messages": int, "retransmits": int, "pings": int,
        "body_bytes": int, "behind_ns": int, "mids_repeated": bool, "loss": float, "rate": float,
        "cycles_each": float, "p50_ns": int, "p90_ns": int, "p99_ns": int, "p999_ns": int,
        "p9999_ns": int, "max_ns": int, "kinds": dict, "codes": dict, "registered": int,
        "refused": int, "notifications": int, "stale": int, "notify_rate": float,
        "notify_p50_ns": int, "notify_p90_ns": int, "notify_p99_ns": int, "notify_p999_ns": int,
        "notify_p9999_ns": int, "notify_max_ns": int, "origin_requests": int,
        "origin_registrations": int, "origin_notifications": int, "steps": list}

GATEWAY = f"""
listeners:
  - uri: coap://{GATEWAY4}
  - uri: "coap://[{GATEWAY6}]"
upstreams:
  - {{name: origin, servers: ["coap://{ORIGIN}"], transmission: {{nstart: 64}}}}
  - {{name: origin6, servers: ["coap://[{ORIGIN6}]"], transmission: {{nstart: 64}}}}
  - {{name: host, servers: ["coap://{HOST4}"], transmission: {{nstart: 64}}}}
routes:
  - {{path: /, to: origin}}
  - {{path: /host, to: host}}
  - {{host: "{GATEWAY6}", path: /, to: origin6}}
  - {{path: /hello, respond: {{payload: "hello world!", max_age: 60s}}}}
  - {{host: "{GATEWAY6}", path: /hello, respond: {{payload: "hello world!", max_age: 60s}}}}
"""


class DirectMemif(transports.Memif):
    """The generator itself is the other end."""

    def connect(self):
        pass

    def close(self):
        transports.Transport.close(self)
        self._folder.cleanup()


class Result:
    def __init__(self, process, path):
        self.status = process.returncode
        self.output = process.stdout + process.stderr
        self.json = json.loads(path.read_text()) if path.exists() else None
        assert "Sanitizer" not in self.output and "runtime error" not in self.output, self.output

    def right(self):
        """Status 0, and all that was sent was answered or is accounted for."""
        assert self.status == 0, self.output
        j = self.json
        assert j["sent"] == j["answered"] + j["timeouts"] + j["resets"], self.output
        assert j["wrong"] == 0 and j["resets"] == 0, self.output
        return j


@pytest.fixture
def gun(tmp_path):
    """gun(namespace, arguments...): runs coapgun to its end."""
    def run(namespace, *arguments, duration=1):
        path = tmp_path / "result.json"
        path.unlink(missing_ok=True)
        # Long waits for answers: the machine may have other things to do.
        done = namespace.run(COAPGUN, "--warmup", "0.1", "--duration", duration, "--timeout", 8000,
                             "--json", path, "--no-progress", *arguments, check=False, timeout=120,
                             env=os.environ | SANITIZERS)
        return Result(done, path)

    if not COAPGUN.exists():
        pytest.skip(f"{COAPGUN} was not built")
    return run


@pytest.fixture(scope="module")
def server():
    """libcoap's server in a namespace of its own, on loopback."""
    namespace = Namespace("gun")
    try:
        namespace.popen("coap-server-notls", "-A", "127.0.0.1", "-p", "5683", "-v", "0",
                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL)
        wait_until("the server listens",
                   lambda: ":1633 " in namespace.run("cat", "/proc/net/udp").stdout)
        yield namespace
    finally:
        namespace.close()


@pytest.fixture
def memif(rig):
    one = rig(small() + GATEWAY, transport=DirectMemif)
    return one.transport.hosts, ["--device", one.transport.device, "--target", GATEWAY4, "--source",
                                 "10.99.0.128/25"]


@pytest.fixture
def veth(rig):
    one = rig(small() + GATEWAY, transport="af_packet")
    return one.transport.hosts, ["--device", f"af_packet:{one.transport.host_interface}"]


# ---- the kernel's sockets ----

def test_gets_over_sockets(gun, server):
    result = gun(server, "--kernel", "--target", "127.0.0.1", "--endpoints", 16, "--path", "/",
                 "--window", 8)
    j = result.right()
    assert j["answered"] > 0 and j["codes"] == {"2.05": j["answered"]}
    assert set(j) == set(KEYS)
    assert all(isinstance(j[key], kind) for key, kind in KEYS.items()), j
    assert j["p50_ns"] <= j["p90_ns"] <= j["p99_ns"] <= j["p9999_ns"] <= j["max_ns"]
    assert re.search(r"answers/s in", result.output)


def test_many_devices_over_sockets(gun, server):
    """More devices than there are ports: the addresses of 127.0.0.0/8 share sockets."""
    j = gun(server, "--kernel", "--target", "127.0.0.1", "--endpoints", 100000, "--path", "/",
            "--window", 8).right()
    assert j["answered"] > 0 and j["endpoints"] == 100000


def test_a_socket_for_each_device(gun, server):
    """One source address: each device is a port."""
    j = gun(server, "--kernel", "--target", "127.0.0.1", "--source", "127.0.0.5", "--endpoints", 50,
            "--path", "/", "--window", 50, "--non").right()
    assert j["answered"] > 0


def test_too_many_sockets_are_refused(gun, server):
    result = gun(server, "--kernel", "--target", "127.0.0.1", "--source", "127.0.0.5", "--endpoints",
                 4000000, "--path", "/")
    assert result.status == 1 and "ulimit -n" in result.output, result.output


def test_an_open_loop_keeps_its_rate(gun, server):
    """The number of requests that were due is what was sent, however slow the machine is."""
    j = gun(server, "--kernel", "--target", "127.0.0.1", "--endpoints", 20, "--path", "/", "--rate",
            500, duration=2).right()
    assert j["mode"] == "open" and j["offered"] == 500
    assert j["sent"] + j["unsent"] == 1000


def test_a_ramp_ends(gun, server):
    j = gun(server, "--kernel", "--target", "127.0.0.1", "--endpoints", 20, "--path", "/", "--ramp",
            "100:400:2", "--loss", 50, duration=0.3).right()
    assert j["mode"] == "ramp"
    assert [s["requests"] for s in j["steps"]][:3] == [100, 200, 400]
    assert all(set(s) == {"requests", "answers", "lost", "median_ns", "tail_ns", "good"}
               for s in j["steps"])


def test_nobody_answers(gun, server):
    result = gun(server, "--kernel", "--target", "127.0.0.1:9", "--path", "/", "--timeout", 100,
                 "--window", 4)
    assert result.status == 1 and "there were none" in result.output
    assert result.json["answered"] == 0 and result.json["loss"] == 1


def test_an_origin_over_sockets(gun, rig):
    """Devices and the origin are sockets, with the gateway between them."""
    one = rig(small() + GATEWAY, transport="tap")
    j = gun(one.transport.hosts, "--kernel", "--target", GATEWAY4, "--origin", HOST4,
            "--source", HOST4, "--endpoints", 30, "--path", "/host/%u", "--window", 8,
            "--observe", 30, "--notify-rate", 10, "--mix", "get=2,post=1").right()
    assert j["origin_requests"] > 0 and set(j["codes"]) == {"2.04", "2.05"}
    assert (j["registered"], j["refused"]) == (30, 0)


# ---- devices ----

def test_gets_over_memif(gun, memif):
    namespace, device = memif
    j = gun(namespace, *device, "--expect", "hello world!", "--endpoints", 70000).right()
    assert j["answered"] > 0 and j["codes"] == {"2.05": j["answered"]}


def test_a_wrong_payload(gun, memif):
    namespace, device = memif
    result = gun(namespace, *device, "--expect", "good bye", duration=0.2)
    assert result.status == 1 and "answers were wrong" in result.output
    assert result.json["wrong"] == result.json["answered"] > 0


def test_the_whole_mix_through_the_gateway(gun, memif):
    """Every kind of request, large bodies among them, from devices to the gateway and on to the
    origin that the generator plays itself."""
    namespace, device = memif
    j = gun(namespace, *device, "--origin", ORIGIN, "--origin-payload", 2500, "--payload", 3000,
            "--block", 4, "--con=70", "--path", "/things/%u", "--spread", 500, "--endpoints", 200,
            "--window", 16, "--mix", "get=30,post=20,put=15,delete=10,observe=15,block=10",
            duration=2).right()
    assert set(j["kinds"]) == {"get", "post", "put", "delete", "observe", "block"}
    assert set(j["codes"]) == {"2.02", "2.04", "2.05"}
    assert j["origin_requests"] > 0 and j["declined"] == 0
    assert j["body_bytes"] > 0 and j["messages"] > j["sent"]


def test_observers_through_the_gateway(gun, memif):
    """Relations that are held; with nothing else to do, the result is of notifications."""
    namespace, device = memif
    j = gun(namespace, *device, "--origin", ORIGIN, "--path", "/state", "--endpoints", 300,
            "--observe", 300, "--notify-rate", 20, "--window", 0, duration=2).right()
    assert (j["registered"], j["refused"], j["stale"]) == (300, 0, 0)
    assert j["notifications"] >= 300 and j["sent"] == 0
    assert j["origin_notifications"] < j["notifications"]  # the gateway has one relation
    assert 0 < j["notify_p50_ns"] <= j["notify_max_ns"]


def test_a_cache_is_hit_or_missed(gun, memif):
    """%u with a small spread meets what is cached; with a large one it never does."""
    namespace, device = memif
    common = [*device, "--origin", ORIGIN, "--origin-max-age", 60, "--window", 8]
    j = gun(namespace, *common, "--path", "/few/%u", "--spread", 10).right()
    assert j["origin_requests"] <= 10 < j["answered"]
    j = gun(namespace, *common, "--path", "/many/%u", "--spread", 4000000000).right()
    # Some ask before the measured time and are answered in it, and the other way round.
    assert j["origin_requests"] + 50 > j["answered"] > 0


@pytest.mark.parametrize("family", [4, 6])
def test_a_paths_file_over_ethernet(gun, veth, tmp_path, family):
    """With ARP and neighbour discovery on both sides, and Ethernet frames between two kernels."""
    paths = tmp_path / "paths.txt"
    paths.write_text("3 GET /hello\n1 POST /thing # a quarter\n")
    namespace, device = veth
    host, source, origin = {4: (GATEWAY4, "10.99.0.128/25", ORIGIN),
                            6: (f"[{GATEWAY6}]", "fd99::1000/64", f"[{ORIGIN6}]")}[family]
    j = gun(namespace, *device, "--target", f"coap://{host}:5683", "--source", source, "--origin",
            origin, "--paths", paths, "--endpoints", 100, "--window", 8, duration=2).right()
    share = j["kinds"]["post"] / j["sent"]
    assert j["sent"] < 200 or 0.15 < share < 0.35
    assert j["origin_requests"] > 0


# ---- the command line ----

@pytest.mark.parametrize("arguments, said", [
    ([], "--target"),
    (["--kernel"], "--target"),
    (["--kernel", "--device", "tap:x", "--target", "127.0.0.1"], "either"),
    (["--kernel", "--target", "localhost"], "--target localhost"),
    (["--device", "eth0", "--target", "10.99.0.2"], "af_packet:IF"),
    (["--kernel", "--target", "127.0.0.1", "--mix", "fetch=1"], "--mix fetch=1"),
    (["--kernel", "--target", "127.0.0.1", "--payload", "10"], "--payload"),
    (["--kernel", "--target", "127.0.0.1", "--path", "x"], "--path x"),
    (["--kernel", "--target", "127.0.0.1", "--rate", "fast"], "--rate fast"),
    (["--kernel", "--target", "127.0.0.1", "--ramp", "5:1"], "--ramp 5:1"),
    (["--kernel", "--target", "127.0.0.1", "--block", "7"], "--block 7"),
    (["--kernel", "--target", "127.0.0.1", "--paths", "/does/not/exist"], "No such file"),
    (["--device", "memif:/x", "--target", "10.0.0.1", "--source", "10.0.0.1"], "--source"),
    (["--kernel", "--target", "127.0.0.1", "--origin", "127.0.0.1:5683"], "--origin is the target"),
    (["--kernel", "--target", "127.0.0.1", "--notify-rate", "5"], "--origin"),
    (["--kernel", "--target", "127.0.0.1", "rest"], "rest"),
    (["--kernel", "--target", "127.0.0.1", "--psk", "device"], "--psk"),
    (["--kernel", "--target", "127.0.0.1", "--psk", "device:0"], "--psk"),
    (["--kernel", "--target", "127.0.0.1", "--psk", ":00"], "--psk"),
    (["--kernel", "--target", "127.0.0.1", "--psk", "%u%u:00"], "--psk"),
    (["--kernel", "--target", "127.0.0.1", "--psk", "device:00", "--suite", "rc4"], "--suite rc4"),
    (["--kernel", "--target", "127.0.0.1", "--psk", "device:00", "--cid", "17"], "--cid 17"),
    (["--kernel", "--target", "127.0.0.1", "--psk", "device:00", "--raw"], "--raw"),
    (["--kernel", "--target", "127.0.0.1", "--suite", "gcm"], "--psk"),
    (["--kernel", "--target", "127.0.0.1", "--duration", "0"], "--duration"),
    (["--kernel", "--target", "coaps://127.0.0.1"], "--target coaps://127.0.0.1"),
    (["--kernel", "--target", "coap://127.0.0.1", "--psk", "device:00"], "--target coap://127.0.0.1"),
])
def test_bad_command_lines(arguments, said):
    done = subprocess.run([COAPGUN, *arguments], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
