"""A DNS server in a thread, for names that exist only in a test: A, AAAA and CNAME by UDP.

    with Dns(transport.inner, {"origin.example": [HOST4, HOST6]}) as dns:
        ... dns_servers: ["{dns.server}"] ...
        dns.table["other.example"] = dns.SILENT"""

import ipaddress
import socket
import struct
import threading

TYPES = {1: "A", 28: "AAAA", 5: "CNAME"}
NOERROR, FORMERR, SERVFAIL, NXDOMAIN = 0, 1, 2, 3


def _encode_name(name):
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _decode_question(data):
    """The name in lower case, the type, and the question's own bytes."""
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1:at + 1 + data[at]].decode("ascii", "replace").lower())
        at += 1 + data[at]
    kind, _ = struct.unpack_from("!HH", data, at + 1)
    return ".".join(labels), TYPES.get(kind, str(kind)), data[12:at + 5]


class Dns:
    """Answers from `table`, which may be changed at any time: a name (lower case) has a list of
    addresses, the name that it is an alias of, or one of the words below. Other names do not exist.

    What was asked for is in `asked`, as (name, type)."""

    SILENT = "(silent)"
    SERVFAIL = "(servfail)"

    def __init__(self, namespace, table, address="127.0.0.1", port=5353, ttl=60):
        self.table = dict(table)
        self.ttl = ttl
        self.asked = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.server = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self._socket = namespace.socket(family)
        self._socket.bind((address, port))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def count(self, name):
        """How often a name was asked for, A and AAAA together."""
        return sum(asked == name for asked, _ in self.asked)

    def _records(self, name, kind):
        """(rcode, [(owner, type number, data)]), or None for silence."""
        records = []
        while True:
            entry = self.table.get(name)
            if entry is None:
                return NXDOMAIN, records
            if entry == self.SILENT:
                return None
            if entry == self.SERVFAIL:
                return SERVFAIL, []
            if not isinstance(entry, str):
                break
            records.append((name, 5, _encode_name(entry)))
            if len(records) > 8:  # an alias of itself
                return SERVFAIL, []
            name = entry
        for text in entry:
            address = ipaddress.ip_address(text)
            if kind == ("A" if address.version == 4 else "AAAA"):
                records.append((name, 1 if address.version == 4 else 28, address.packed))
        return NOERROR, records

    def _answer(self, data):
        name, kind, question = _decode_question(data)
        self.asked.append((name, kind))
        found = self._records(name, kind)
        if found is None:
            return None
        rcode, records = found
        head = struct.pack("!HHHHHH", int.from_bytes(data[:2], "big"), 0x8180 | rcode, 1,
                           len(records), 0, 0)
        body = b"".join(_encode_name(owner) + struct.pack("!HHIH", number, 1, self.ttl, len(value))
                        + value for owner, number, value in records)
        return head + question + body

    def _serve(self):
        while not self._ended.is_set():
            try:
                data, peer = self._socket.recvfrom(2048)
            except TimeoutError:
                continue
            except ConnectionError:
                continue
            try:
                answer = self._answer(data)
            except (IndexError, struct.error):
                answer = data[:2] + struct.pack("!HHHHH", 0x8180 | FORMERR, 0, 0, 0, 0)
            if answer is not None:
                self._socket.sendto(answer, peer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        self._socket.close()
