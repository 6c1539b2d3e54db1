"""Start and stop, idle cores, and the counters that say where everything went."""

import os
import re
import signal
import socket
import statistics
import threading
import time
from pathlib import Path

import pytest

import transports
import wire
from gateway import HELLO, LISTENERS, ROOT, SMALL, Gateway, interfaces_text
from netns import wait_until


def load(hosts, ended):
    """Keeps a window of requests in flight until told to stop."""
    socks = [hosts.socket() for _ in range(8)]
    for sock in socks:
        sock.setblocking(False)
    while not ended.is_set():
        for sock in socks:
            try:
                sock.send(wire.request(wire.GET, "/hello", type=wire.NON).encode())
                sock.recv(2048)
            except (BlockingIOError, OSError):
                pass


@pytest.mark.core
@pytest.mark.alone
@pytest.mark.parametrize("transport", list(transports.ALL))
def test_stop_under_load_and_start_again(rig, transport, tmp_path):
    """SIGTERM ends it within 2 s with status 0, nothing is left, and the next start works at once."""
    one = rig(SMALL + LISTENERS + HELLO, transport, workers=2)
    ended = threading.Event()
    loader = threading.Thread(target=load, args=(one.hosts, ended))
    loader.start()
    try:
        wait_until("load runs", lambda: one.gateway.counter("requests") > 200)
        one.gateway.check_stopped()
        carrier = one.transport
        one.gateway = Gateway(carrier, interfaces_text(carrier) + SMALL + LISTENERS + HELLO, tmp_path)
        carrier.connect()
        wait_until("the second one answers", lambda: one.hosts.client("/hello").code == "2.05")
    finally:
        ended.set()
        loader.join()


@pytest.mark.parametrize("transport", list(transports.ALL))
def test_more_packets_than_buffers(rig, transport):
    """Two workers, through whose hands each packet buffer goes several times: none is lost."""
    one = rig(SMALL + LISTENERS + HELLO, transport, workers=2)
    ended = threading.Event()
    loader = threading.Thread(target=load, args=(one.hosts, ended))
    loader.start()
    try:
        wait_until("80,000 packets were received", lambda: one.gateway.counter("rx_packets") > 80000,
                   timeout=60, interval=0.5)
    finally:
        ended.set()
        loader.join()
    assert one.hosts.client("/hello").code == "2.05"
    assert one.gateway.counter("drop_no_buffer") == 0


@pytest.mark.parametrize("transport", list(transports.ALL))
def test_start_again_after_kill(rig, transport, tmp_path):
    """A killed process leaves no directory, and nothing that keeps the next one from its device."""
    one = rig(SMALL + LISTENERS + HELLO, transport)
    carrier = one.transport
    one.gateway.process.kill()
    one.gateway.process.wait()
    assert not runtime_directories(carrier)
    one.gateway = Gateway(carrier, interfaces_text(carrier) + SMALL + LISTENERS + HELLO, tmp_path)
    carrier.connect()
    wait_until("the second one answers", lambda: one.hosts.client("/hello").code == "2.05")


def runtime_directories(carrier, root=Path("/run")):
    return sorted(path.name for path in (root / "dpdk").glob(f"{carrier.inner.name}*"))


def test_directories_of_the_dead(rig):
    """Those of dead processes of this instance go at the start; all others stay."""
    name = ""

    class Littered(transports.Tap):
        def prepare(self):
            nonlocal name
            super().prepare()
            name = self.inner.name
            for ending in ("-999999999", "-1", "-x-999999999", "-999999999x", "-0", "-"):
                (Path("/run/dpdk") / (name + ending)).mkdir(parents=True)

    one = rig(SMALL + LISTENERS + HELLO, Littered)
    left = runtime_directories(one.transport)
    for path in left:
        (Path("/run/dpdk") / path).rmdir()
    assert left == sorted(name + e for e in ("-1", "-x-999999999", "-999999999x", "-0", "-"))


@pytest.mark.parametrize("value", ["{0}/a", "{0}/a:{0}/b"])
def test_runtime_directory_of_the_service_manager(tmp_path, value):
    """systemd.exec(5): RuntimeDirectory= with two words gives two paths; the first is ours."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    carrier = transports.Tap()
    try:
        one = Gateway(carrier, interfaces_text(carrier) + SMALL + LISTENERS + HELLO, tmp_path,
                      {"RUNTIME_DIRECTORY": value.format(tmp_path)})
        assert (tmp_path / "a" / "dpdk").is_dir() and not runtime_directories(carrier, tmp_path / "a")
        one.check_stopped()
        assert list((tmp_path / "b").iterdir()) == []
        assert not list(tmp_path.glob("a:*"))
    finally:
        carrier.close()


def test_service_has_one_runtime_directory():
    """DPDK takes $RUNTIME_DIRECTORY for one path."""
    unit = (ROOT / "config" / "coapgw.service.in").read_text()
    assert re.findall(r"^RuntimeDirectory=(.*)$", unit, re.M) == ["coapgw"]


def test_sigint_stops_too(rig):
    one = rig(SMALL + LISTENERS + HELLO)
    one.gateway.process.send_signal(signal.SIGINT)
    assert one.gateway.process.wait(5) == 0


def test_service_manager_is_told(tmp_path):
    """sd_notify(3): READY=1 when it is, STOPPING=1 when it goes."""
    carrier = transports.Tap()
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(10)
    try:
        one = Gateway(carrier, interfaces_text(carrier) + SMALL + LISTENERS + HELLO, tmp_path,
                      {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert manager.recv(100) == b"READY=1"
        one.check_stopped()
        assert manager.recv(100) == b"STOPPING=1"
    finally:
        carrier.close()
        manager.close()


def test_counters_add_up(rig):
    """What a client sent is found again in the counters, and a drop has a name."""
    one = rig(SMALL + LISTENERS + HELLO)
    sock = one.hosts.socket()
    for _ in range(20):
        assert one.hosts.exchange(wire.request(wire.GET, "/hello"), sock=sock).code_text == "2.05"
    assert one.hosts.exchange(wire.request(wire.GET, "/none"), sock=sock).code_text == "4.04"
    sock.send(wire.Message(wire.ACK, wire.EMPTY, 7).encode())
    wait_until("the stray ACK is counted", lambda: one.gateway.counter("drop_unmatched_ack") == 1)
    counters = one.gateway.counters()[0]
    assert counters["requests"] == 21
    assert counters["rx_code_0.01"] == 21
    assert counters["tx_code_2.05"] == 20
    assert counters["tx_code_4.04"] == 1
    one.gateway.stop()
    assert "drop_unmatched_ack 1" in one.gateway.log(), "the counters are printed at the end"


def test_unread_port_is_unreachable_or_dropped_by_name(rig):
    """A datagram to a port without a listener is no request."""
    one = rig(SMALL + LISTENERS + HELLO)
    sock = one.hosts.namespace.socket()
    sock.sendto(wire.request(wire.GET, "/hello").encode(), (transports.GATEWAY4, 9999))
    wait_until("it is counted", lambda: one.gateway.counter("drop_no_listener") == 1)


@pytest.mark.alone
@pytest.mark.parametrize("transport", ["tap", "af_packet"])
def test_idle_adaptive_core_is_idle(rig, transport):
    """An adaptive worker without traffic uses less than 5 % of a core. The latency that its sleep
    adds to a first packet is printed beside that of a worker that spins."""
    one = rig(SMALL + LISTENERS + HELLO, transport)
    one.hosts.client("/hello")
    before = cpu_ticks(one.gateway.pid)
    time.sleep(5)
    after = cpu_ticks(one.gateway.pid)
    share = {t: (after[t][1] - before.get(t, ("", 0))[1]) / (5 * os.sysconf("SC_CLK_TCK"))
             for t in after}
    adaptive = first_packet_us(one.hosts)
    spinning = first_packet_us(rig(SMALL + "idle: spin\n" + LISTENERS + HELLO, transport).hosts)
    print(f"{transport}: CPU {', '.join(f'{after[t][0]} {100 * s:.1f} %' for t, s in share.items())}; "
          f"first packet {adaptive:.0f} us, spinning {spinning:.0f} us")
    assert max(share.values()) < 0.05, share


def cpu_ticks(pid):
    """{thread: (name, user and system ticks)}"""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
        fields = rest.split()
        found[int(task.name)] = (name, int(fields[11]) + int(fields[12]))
    return found


def first_packet_us(hosts):
    """The median round trip of requests that come after 100 ms of silence."""
    sock = hosts.socket()
    times = []
    for _ in range(21):
        time.sleep(0.1)
        begun = time.perf_counter()
        hosts.exchange(wire.request(wire.GET, "/hello"), sock=sock)
        times.append((time.perf_counter() - begun) * 1e6)
    return statistics.median(times)
