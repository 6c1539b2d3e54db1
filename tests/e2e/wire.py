"""CoAP messages as bytes (RFC 7252 3): enough to build what a test sends and to read what comes back."""

import itertools
import os
import struct
from dataclasses import dataclass, field

CON, NON, ACK, RST = range(4)
GET, POST, PUT, DELETE = range(1, 5)
EMPTY = 0

URI_HOST, URI_PATH, CONTENT_FORMAT, MAX_AGE, URI_QUERY = 3, 11, 12, 14, 15

_mids = itertools.count(int.from_bytes(os.urandom(2), "big"))


def code(text):
    """"2.05" to its number."""
    high, low = text.split(".")
    return int(high) << 5 | int(low)


def code_text(number):
    return f"{number >> 5}.{number & 31:02d}"


@dataclass
class Message:
    type: int
    code: int
    mid: int
    token: bytes = b""
    options: list = field(default_factory=list)  # of (number, value)
    payload: bytes = b""

    @property
    def code_text(self):
        return code_text(self.code)

    def option(self, number):
        """The value of the first such option, or None."""
        return next((value for n, value in self.options if n == number), None)

    def encode(self):
        out = bytearray(struct.pack("!BBH", 1 << 6 | self.type << 4 | len(self.token), self.code,
                                    self.mid))
        out += self.token
        last = 0
        for number, value in sorted(self.options, key=lambda o: o[0]):
            (d, dx), (n, nx) = _nibble(number - last), _nibble(len(value))
            out += bytes([d << 4 | n]) + dx + nx + value
            last = number
        if self.payload:
            out += b"\xff" + self.payload
        return bytes(out)


def _nibble(value):
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes([value - 13])
    return 14, struct.pack("!H", value - 269)


def extended(nibble, data, at):
    """A length or delta whose nibble may say that it goes on at `at`: the value, and where it ends."""
    if nibble == 13:
        return data[at] + 13, at + 1
    if nibble == 14:
        return struct.unpack_from("!H", data, at)[0] + 269, at + 2
    assert nibble != 15, "a reserved nibble"
    return nibble, at


def decode(data):
    """Reads a well-formed message; raises when it is not one."""
    first, number, mid = struct.unpack_from("!BBH", data)
    assert first >> 6 == 1, f"version {first >> 6}"
    length, at = extended(first & 15, data, 4)
    message = Message(first >> 4 & 3, number, mid, data[at:at + length])
    assert len(message.token) == length
    at += length
    option = 0
    while at < len(data) and data[at] != 0xFF:
        head = data[at]
        delta, at = extended(head >> 4, data, at + 1)
        length, at = extended(head & 15, data, at)
        option += delta
        assert at + length <= len(data), "an option past the end"
        message.options.append((option, data[at:at + length]))
        at += length
    if at < len(data):
        message.payload = data[at + 1:]
        assert message.payload, "a payload marker without payload"
    return message


def request(method, path, payload=b"", type=CON, token=None, query=(), host=None):
    """A request with a fresh message ID and a random token."""
    options = [(URI_PATH, s.encode()) for s in path.split("/") if s]
    options += [(URI_QUERY, q.encode()) for q in query]
    if host is not None:
        options.append((URI_HOST, host.encode()))
    token = os.urandom(4) if token is None else token
    return Message(type, method, next(_mids) & 0xFFFF, token, options, payload)
