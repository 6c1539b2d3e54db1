"""What a gateway does to the devices that it takes, and what it says about those that it cannot take."""

import json
import signal

import pytest

import transports
from gateway import BINARY, HELLO, LISTENERS, SMALL, interfaces_text
from netns import wait_until

KERNEL = ["af_packet", "af_xdp"]
OTHER_MAC = "mac: 02:00:00:00:00:77"


def link(namespace, name):
    """What an operator could have set on an interface: how it is set, and how it works."""
    found = json.loads(namespace.run("ip", "-d", "-j", "link", "show", name).stdout)[0]
    return {key: found.get(key) for key in ("flags", "promiscuity", "allmulti", "address", "mtu", "xdp")}


def run_to_end(namespace, text, folder, *wrapper):
    """Runs coapgw, which is to fail, until its end. Returns its status and what it said."""
    path = folder / "fails.yaml"
    path.write_text(text)
    result = namespace.run(*wrapper, BINARY, "-c", path, check=False, timeout=60)
    return result.returncode, result.stdout + result.stderr


def kill(gateway):
    gateway.process.kill()
    gateway.process.wait()
    gateway.status, gateway.stop_seconds = 0, 0  # the rig has nothing left to stop


@pytest.fixture
def carrier(request):
    one = transports.ALL[request.param]()
    try:
        one.prepare()
        yield one
    finally:
        one.close()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("extra", ["", OTHER_MAC], ids=["own_mac", "other_mac"])
@pytest.mark.parametrize("transport", KERNEL)
def test_interface_is_left_as_it_was(rig, transport, extra, ending):
    """Nothing stays set on an interface of the operator's, however the gateway ends."""
    before = {}

    class Watched(transports.ALL[transport]):
        def prepare(self):
            super().prepare()
            before.update(link(self.inner, self.inner_interface))

    one = rig(SMALL + LISTENERS + HELLO, Watched, interface=extra)
    for family in (4, 6):
        assert one.hosts.client("/hello", family=family).code == "2.05"
    during = link(one.transport.inner, Watched.inner_interface)
    assert (during["promiscuity"] > 0) == bool(extra)
    assert during["flags"] == before["flags"] and during["address"] == before["address"]
    if ending == signal.SIGKILL:
        # An XDP program stays behind a killed process: the kernel does not take it back by itself.
        before.pop("xdp")
        kill(one.gateway)
    else:
        one.gateway.check_stopped()
    after = link(one.transport.inner, Watched.inner_interface)
    assert {key: after[key] for key in before} == before


REASONS = [
    ("tap:other0", [], "is no multi-queue TAP: choose another name"),
    ("tap:south0", ["setpriv", "--bounding-set", "-net_admin"], "a TAP needs CAP_NET_ADMIN"),
    ("af_packet:none0", [], "the kernel has no interface none0: see ip link"),
    ("af_packet:other0", ["setpriv", "--bounding-set", "-net_raw"],
     "AF_PACKET needs CAP_NET_ADMIN and CAP_NET_RAW"),
    ("af_xdp:none0", [], "the kernel has no interface none0: see ip link"),
    ("af_xdp:other0", ["setpriv", "--bounding-set", "-net_raw"],
     "AF_XDP needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK and CAP_SYS_ADMIN"),
]


@pytest.mark.parametrize("carrier", ["tap"], indirect=True)
@pytest.mark.parametrize("device, wrapper, reason", REASONS, ids=[f"{r[0]}-{len(r[1])}" for r in REASONS])
def test_reason_when_a_device_cannot_be_had(carrier, tmp_path, device, wrapper, reason):
    carrier.inner.run("ip", "link", "add", "other0", "type", "veth", "peer", "name", "other1")
    carrier.device, carrier.host_addresses = device, []
    status, said = run_to_end(carrier.inner, interfaces_text(carrier) + SMALL + LISTENERS + HELLO,
                              tmp_path, *wrapper)
    assert status == 1, said
    assert f"coapgw: interface south (device {device.partition(':')[2]}): " in said, said
    assert reason in said, said
    assert "other0" in carrier.inner.links()


@pytest.mark.parametrize("carrier", ["af_packet"], indirect=True)
def test_one_device_of_two_is_missing(carrier, tmp_path):
    """The one that is there is closed once, and is as before."""
    before = link(carrier.inner, carrier.inner_interface)
    text = interfaces_text(carrier) + """  - name: north
    device: af_packet:none0
    addresses: [10.98.0.2/24]
""" + SMALL + LISTENERS + HELLO
    status, said = run_to_end(carrier.inner, text, tmp_path)
    assert status == 1
    assert said.count("coapgw: interface") == 1 and "interface north (device none0): DPDK cannot make it" in said, said
    assert "Invalid port_id" not in said
    assert link(carrier.inner, carrier.inner_interface) == before


@pytest.mark.parametrize("transport", KERNEL)
def test_interface_that_is_down(rig, transport):
    """It is said, with the way out, and nothing else is needed once that was gone."""
    class Down(transports.ALL[transport]):
        def prepare(self):
            super().prepare()
            self.inner.run("ip", "link", "set", self.inner_interface, "down")

    one = rig(SMALL + LISTENERS + HELLO, Down)
    name = Down.inner_interface
    assert f"the kernel's {name} is down, no packet passes: ip link set {name} up" in one.gateway.log()
    one.transport.inner.run("ip", "link", "set", name, "up")
    wait_until("it answers", lambda: one.hosts.client("/hello", timeout=2).code == "2.05")


def test_larger_mtu_stays(rig):
    """The interface's own MTU is the operator's; ours is below it."""
    class Jumbo(transports.AfPacket):
        def prepare(self):
            super().prepare()
            self.inner.run("ip", "link", "set", self.inner_interface, "mtu", "9000")

    one = rig(SMALL + LISTENERS + HELLO, Jumbo)
    assert one.hosts.client("/hello").code == "2.05"
    assert link(one.transport.inner, Jumbo.inner_interface)["mtu"] == 9000
