"""CoAP datagrams as they passed an interface, with the kernel's time stamps (tcpdump)."""

import socket
import struct
import subprocess
from dataclasses import dataclass

import wire
from netns import wait_until
from transports import GATEWAY4, GATEWAY6

ETHERNET_BYTES = 14


@dataclass
class Packet:
    time: float
    source: tuple  # (address, port)
    target: tuple
    message: wire.Message

    @property
    def from_gateway(self):
        return self.source[0] in (GATEWAY4, GATEWAY6)


class Capture:
    """with Capture(namespace, interface, folder) as capture: ...; afterwards `packets` has all that
    passed."""

    def __init__(self, namespace, interface, folder):
        self._path = folder / f"{interface}.pcap"
        self._log = folder / f"{interface}.tcpdump"
        self._namespace, self._interface = namespace, interface
        self.packets = []

    def __enter__(self):
        with open(self._log, "w") as log:
            self._process = self._namespace.popen(
                "tcpdump", "-i", self._interface, "-w", self._path, "-U", "--immediate-mode", "-n",
                "-B", "16384", "-Z", "root", "udp", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until("tcpdump listens", lambda: "listening on" in self._log.read_text())
        return self

    def __exit__(self, *_):
        self.packets = self.read()
        self._namespace.stop(self._process)
        self.packets = self.read()

    def read(self):
        """What has passed so far."""
        data, at, found = self._path.read_bytes(), 24, []
        while at + 16 <= len(data):
            seconds, micros, length = struct.unpack_from("<III", data, at)
            at += 16
            if at + length > len(data):
                break
            packet = self._parse(seconds + micros / 1e6, data[at:at + length])
            at += length
            if packet:
                found.append(packet)
        return found

    @staticmethod
    def _parse(time, frame):
        kind, ip = frame[12:14], frame[ETHERNET_BYTES:]
        if kind == b"\x08\x00":
            header, family, at = (ip[0] & 15) * 4, socket.AF_INET, 12
        elif kind == b"\x86\xdd":
            header, family, at = 40, socket.AF_INET6, 8
        else:
            return None
        size = 4 if family == socket.AF_INET else 16
        source, target = ip[at:at + size], ip[at + size:at + 2 * size]
        source_port, target_port, length = struct.unpack_from("!HHH", ip, header)
        try:
            message = wire.decode(ip[header + 8:header + length])
        except (AssertionError, struct.error, IndexError):
            return None
        return Packet(time, (socket.inet_ntop(family, source), source_port),
                      (socket.inet_ntop(family, target), target_port), message)

    def wait(self, what, condition, timeout=20.0):
        """Until a condition on the list of packets is true; returns its value."""
        return wait_until(what, lambda: condition(self.read()), timeout, 0.1)


def transmissions(packets):
    """{(target, message ID): times} of confirmable messages from the gateway."""
    found = {}
    for p in packets:
        if p.from_gateway and p.message.type == wire.CON:
            found.setdefault((p.target, p.message.mid), []).append(p.time)
    return found


def gaps(times):
    return [later - earlier for earlier, later in zip(times, times[1:])]
