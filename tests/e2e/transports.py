"""How the hosts' side of a test reaches the gateway: one class for each kind of device.

Each gives two namespaces (`hosts`, where clients and origins live, and `inner`, where the gateway
runs; often the same), the gateway's `device:` line and the name of the hosts' interface. The life
of a transport: made, prepare() before the gateway starts, connect() once it is ready, close()."""

import os
import shutil
import subprocess
import tempfile

from netns import Namespace, wait_until

HOST4, HOST6 = "10.99.0.1", "fd99::1"
GATEWAY4, GATEWAY6 = "10.99.0.2", "fd99::2"
HOST_ADDRESSES = [f"{HOST4}/24", f"{HOST6}/64"]
GATEWAY_ADDRESSES = [f"{GATEWAY4}/24", f"{GATEWAY6}/64"]


class Transport:
    name = ""
    device = ""
    host_interface = ""
    host_addresses = []  # what the gateway itself is to give the hosts' end

    def __init__(self, workers=1):
        self.workers = workers
        self.hosts = self.inner = Namespace(self.name.replace("_", ""))

    @property
    def journal(self):
        """A folder in memory, for gateways on this transport that follow each other."""
        return f"/dev/shm/{self.inner.name}"

    def prepare(self):
        pass

    def connect(self):
        self.hosts.wait_for_addresses()

    def left_behind(self):
        """What a stopped gateway should have removed."""
        return []

    def drop_journal(self):
        shutil.rmtree(self.journal, ignore_errors=True)

    def close(self):
        self.drop_journal()
        self.hosts.close()
        if self.inner is not self.hosts:
            self.inner.close()


class Tap(Transport):
    name = "tap"
    device = "tap:south0"
    host_interface = "south0"
    host_addresses = HOST_ADDRESSES

    def left_behind(self):
        return [link for link in self.inner.links() if link == self.host_interface]


class Veth(Transport):
    """A pair of interfaces between two namespaces; the gateway takes over the inner end."""

    host_interface = "host0"
    inner_interface = "gw0"

    def __init__(self, workers=1):
        super().__init__(workers)
        self.inner = Namespace("inner")

    def queues(self):
        return self.workers

    def prepare(self):
        queues = ["numtxqueues", str(self.queues()), "numrxqueues", str(self.queues())]
        self.hosts.run("ip", "link", "add", self.host_interface, *queues, "type", "veth", "peer",
                       "name", self.inner_interface, *queues, "netns", self.inner.name)
        # A veth pair leaves checksums for later; nobody behind a raw socket would compute them.
        self.hosts.run("ethtool", "-K", self.host_interface, "tx", "off")
        self.inner.sysctl(f"net.ipv6.conf.{self.inner_interface}.disable_ipv6=1")
        self.hosts.run("ip", "link", "set", self.host_interface, "up")
        self.inner.run("ip", "link", "set", self.inner_interface, "up")
        for address in HOST_ADDRESSES:
            self.hosts.add_address(self.host_interface, address)


class AfPacket(Veth):
    name = "af_packet"
    device = f"af_packet:{Veth.inner_interface}"


class AfXdp(Veth):
    name = "af_xdp"
    device = f"af_xdp:{Veth.inner_interface},force_copy=1"

    def queues(self):
        """DPDK opens no more on a veth, which has separate channels for both directions."""
        return 1


class Memif(Transport):
    """The gateway is the server of a memif; dpdk-testpmd forwards between its other end and a TAP."""

    name = "memif"
    host_interface = "bridge0"

    def __init__(self, workers=1):
        super().__init__(workers)
        self._folder = tempfile.TemporaryDirectory(prefix="cgw-memif-")
        self.socket_path = os.path.join(self._folder.name, "memif.sock")
        self.device = f"memif:{self.socket_path}"
        self._testpmd = None

    def connect(self):
        """Also again, to a gateway that was started anew: testpmd's end does not reconnect."""
        self._stop_bridge()
        self._start_bridge()
        super().connect()

    def _start_bridge(self):
        queues = str(self.workers)
        self._log = open(os.path.join(self._folder.name, "testpmd.log"), "w+")
        self._testpmd = self.hosts.popen(
            "stdbuf", "-oL", "dpdk-testpmd", "-l", "0,1", "--no-huge", "-m", "128", "--no-shconf",
            "--no-pci", f"--file-prefix=bridge-{self.hosts.name}",
            f"--vdev=net_memif0,role=client,socket={self.socket_path},socket-abstract=no",
            f"--vdev=net_tap0,iface={self.host_interface}",
            "--", "--forward-mode=io", "--auto-start", "--nb-cores=1", f"--rxq={queues}",
            f"--txq={queues}", "--total-num-mbufs=8192", "--no-lsc-interrupt",
            stdin=subprocess.PIPE, stdout=self._log, stderr=subprocess.STDOUT)
        wait_until("testpmd forwards", lambda: "Press enter" in self._read_log())
        for address in HOST_ADDRESSES:
            self.hosts.add_address(self.host_interface, address)
        self.hosts.run("ip", "link", "set", self.host_interface, "up")

    def _stop_bridge(self):
        if self._testpmd:
            self.hosts.stop(self._testpmd)
            self._log.close()
            self._testpmd = None
            shutil.rmtree(f"/run/dpdk/bridge-{self.hosts.name}", ignore_errors=True)

    def _read_log(self):
        with open(self._log.name) as log:
            text = log.read()
        assert self._testpmd.poll() is None, f"testpmd has ended:\n{text}"
        return text

    def left_behind(self):
        return [self.socket_path] if os.path.exists(self.socket_path) else []

    def close(self):
        self._stop_bridge()
        super().close()
        self._folder.cleanup()


ALL = {t.name: t for t in (Tap, AfPacket, AfXdp, Memif)}
