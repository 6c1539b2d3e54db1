"""A VLAN interface in user space, for kernels that have no 8021q: a TAP whose frames go out of another
interface with an 802.1Q tag, and come in from it without."""

import fcntl
import os
import select
import socket
import struct
import threading

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 263, 8, 1 << 4
ETH_P_ALL = 3


class Vlan:
    def __init__(self, namespace, lower, name, tag):
        self._tag = struct.pack("!HH", 0x8100, tag)
        self._number = tag
        with namespace.entered():
            self._tap = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(self._tap, TUNSETIFF,
                        struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        self._lower = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._lower.bind((lower, ETH_P_ALL))
        self._lower.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._forward, daemon=True)
        self._thread.start()

    def _forward(self):
        while not self._ended.is_set():
            for ready in select.select([self._tap, self._lower], [], [], 0.1)[0]:
                if ready == self._tap:
                    frame = os.read(self._tap, 2048)
                    self._lower.send(frame[:12] + self._tag + frame[12:])
                else:
                    self._receive()

    def _receive(self):
        """The kernel has taken the tag out of the frame and says it beside it."""
        frame, extra, _, sender = self._lower.recvmsg(2048, 256)
        if sender[2] == socket.PACKET_OUTGOING:
            return
        for level, kind, data in extra:
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                status, _, _, _, _, tci, _ = struct.unpack("IIIHHHH", data[:20])
                if status & TP_STATUS_VLAN_VALID and tci & 0xFFF == self._number:
                    os.write(self._tap, frame)

    def close(self):
        self._ended.set()
        self._thread.join()
        os.close(self._tap)
