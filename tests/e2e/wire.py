"""CoAP messages as bytes (RFC 7252 3): enough to build what a test sends and to read what comes back."""

import itertools
import os
import struct
from dataclasses import dataclass, field

CON, NON, ACK, RST = range(4)
GET, POST, PUT, DELETE, FETCH, PATCH, IPATCH = range(1, 8)
EMPTY = 0

IF_MATCH, URI_HOST, ETAG, IF_NONE_MATCH, OBSERVE, URI_PORT, LOCATION_PATH = 1, 3, 4, 5, 6, 7, 8
URI_PATH, CONTENT_FORMAT, MAX_AGE, URI_QUERY, HOP_LIMIT, ACCEPT = 11, 12, 14, 15, 16, 17
LOCATION_QUERY, BLOCK2, BLOCK1, SIZE2, PROXY_URI, PROXY_SCHEME, SIZE1 = 20, 23, 27, 28, 35, 39, 60
ECHO, NO_RESPONSE, REQUEST_TAG = 252, 258, 292

_mids = itertools.count(int.from_bytes(os.urandom(2), "big"))


def code(text):
    """"2.05" to its number."""
    high, low = text.split(".")
    return int(high) << 5 | int(low)


def code_text(number):
    return f"{number >> 5}.{number & 31:02d}"


def uint(value):
    """An option value of format uint: no leading zeros, and nothing for 0 (RFC 7252 3.2)."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def number(value):
    return int.from_bytes(value, "big")


def block(num, more, szx):
    """The value of Block1 or Block2 (RFC 7959 2.2)."""
    return uint(num << 4 | more << 3 | szx)


def unblock(value):
    """(num, more, szx) of Block1 or Block2."""
    value = number(value)
    return value >> 4, value >> 3 & 1, value & 7


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

    def all(self, number):
        return [value for n, value in self.options if n == number]

    def uint(self, number):
        """The value of the first such option as a number, or None."""
        value = self.option(number)
        return None if value is None else int.from_bytes(value, "big")

    def block(self, number):
        """(num, more, szx) of Block1 or Block2, or None."""
        value = self.option(number)
        return None if value is None else unblock(value)

    @property
    def path(self):
        return "/" + "/".join(v.decode() for v in self.all(URI_PATH))

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


def fresh_mid():
    return next(_mids) & 0xFFFF


def request(method, path, payload=b"", type=CON, token=None, query=(), host=None, options=()):
    """A request with a fresh message ID and a random token."""
    path_options = [(URI_PATH, s.encode()) for s in path.split("/") if s]
    path_options += [(URI_QUERY, q.encode()) for q in query]
    if host is not None:
        path_options.append((URI_HOST, host.encode()))
    token = os.urandom(4) if token is None else token
    return Message(type, method, fresh_mid(), token, path_options + list(options), payload)
