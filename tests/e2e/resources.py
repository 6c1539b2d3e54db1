"""A CoAP origin with resources, in a thread: block-wise both ways, ETags, observers. All that it is
asked is kept, so that a test can count it."""

import select
import socket
import sys
import threading
from dataclasses import dataclass, field

import wire

SZX_1024 = 6


def block_bytes(szx):
    return 16 << szx


def piggybacked(request, code="2.05", options=(), payload=b""):
    """The answer to a request in its ACK, or NON to a NON."""
    kind = wire.ACK if request.type == wire.CON else wire.NON
    mid = request.mid if request.type == wire.CON else wire.fresh_mid()
    return wire.Message(kind, wire.code(code), mid, request.token, list(options), payload)


@dataclass
class Resource:
    payload: bytes = b""
    code: str = "2.05"
    etag: bytes = None
    max_age: int = None
    content_format: int = None
    observable: bool = False
    options: list = field(default_factory=list)  # more of them, as they are
    number: int = 10                             # the last Observe value

    def described(self):
        described = list(self.options)
        for number, value in ((wire.ETAG, self.etag),
                              (wire.CONTENT_FORMAT, self.content_format),
                              (wire.MAX_AGE, self.max_age)):
            if value is not None:
                described.append((number, value if isinstance(value, bytes) else wire.uint(value)))
        return described


class Origin:
    """`resources` maps a path to a Resource; others are answered 4.04. `answer(message)` is asked
    first: a Message is sent as it is, False means silence, None what the resources say.

    `requests`: each message but retransmissions, as it came. `bodies`: (method, path, payload) of
    each request that was carried out. `registered`, `cancelled`: those with Observe 0 and 1."""

    def __init__(self, namespace, address, port=5683, resources=None, szx=SZX_1024, answer=None):
        self.name = f"{address}:{port}"
        self.resources = resources or {}
        self.szx = szx
        self.answer = answer or (lambda message: None)
        self.confirmable = False  # notifications
        self.requests, self.bodies, self.peers, self.resets = [], [], [], []
        self.registered, self.cancelled = [], []
        self.pings, self.pong = [], True  # message IDs of pings; whether they are answered
        self.observers = {}  # path: {(peer, token): message ID of the last notification}
        self.acknowledged = set()
        self._assembly = {}
        self._answered = {}
        self._held = None
        self._lock = threading.RLock()
        self._socket = namespace.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((address, port))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        self._socket.close()

    # What a test does with it.

    def count(self, path=None, method=None):
        """How many requests have come."""
        with self._lock:
            return sum((path is None or m.path == path) and (method is None or m.code == method)
                       for m in self.requests)

    def hold(self):
        """From now on requests are acknowledged, and answered only by release()."""
        with self._lock:
            self._held = []

    def release(self):
        with self._lock:
            held, self._held = self._held, None
            for answer, peer in held:
                self._socket.sendto(answer.encode(), peer)

    def change(self, path, payload, code="2.05", **properties):
        """A new state, told to all observers."""
        with self._lock:
            resource = self.resources[path]
            resource.payload, resource.code = payload, code
            for name, value in properties.items():
                setattr(resource, name, value)
            resource.number += 1
            for peer, token in list(self.observers.get(path, {})):
                self.notify(path, peer, token)
            if not code.startswith("2."):
                self.observers[path] = {}

    def notify(self, path, peer, token, kind=None):
        """Tells one observer, also one that is none (any more)."""
        with self._lock:
            resource = self.resources[path]
            if kind is None:
                kind = wire.CON if self.confirmable else wire.NON
            options = resource.described()
            if resource.code.startswith("2."):
                options.append((wire.OBSERVE, wire.uint(resource.number)))
            message = wire.Message(kind, wire.code(resource.code), wire.fresh_mid(), token, options)
            self._fill(message, resource.payload, 0, self.szx)
            if (peer, token) in self.observers.get(path, {}):
                self.observers[path][peer, token] = message.mid
            self._socket.sendto(message.encode(), peer)
            return message.mid

    # Its thread.

    def _serve(self):
        while not self._ended.is_set():
            if not select.select([self._socket], [], [], 0.05)[0]:
                continue
            try:
                data, peer = self._socket.recvfrom(4096)
            except OSError:  # an ICMP error about something that was sent
                continue
            with self._lock:
                self._receive(wire.decode(data), peer)

    def _receive(self, message, peer):
        if message.type == wire.ACK:
            self.acknowledged.add(message.mid)
        elif message.type == wire.RST:
            self._reset(message, peer)
        elif message.code == wire.EMPTY:
            self.pings.append(message.mid)
            if self.pong:
                self._socket.sendto(wire.Message(wire.RST, wire.EMPTY, message.mid).encode(), peer)
        elif (peer, message.mid) in self._answered:
            again = self._answered[peer, message.mid]
            if again:
                self._socket.sendto(again, peer)
        else:
            self._request(message, peer)

    def _reset(self, message, peer):
        self.resets.append(message.mid)
        for observers in self.observers.values():
            for key, mid in list(observers.items()):
                if key[0] == peer and mid == message.mid:
                    del observers[key]

    def _request(self, message, peer):
        self.requests.append(message)
        self.peers.append(peer)
        answer = self.answer(message)
        if answer is None:
            answer = self._from_resources(message, peer)
        if answer is False:
            self._answered[peer, message.mid] = None
            return
        if self._held is not None:
            self._hold(message, answer, peer)
            return
        self._answered[peer, message.mid] = answer.encode()
        self._socket.sendto(answer.encode(), peer)

    def _hold(self, message, answer, peer):
        if message.type == wire.CON:
            empty = wire.Message(wire.ACK, wire.EMPTY, message.mid).encode()
            self._answered[peer, message.mid] = empty
            self._socket.sendto(empty, peer)
        answer.type, answer.mid = wire.NON, wire.fresh_mid()
        self._held.append((answer, peer))

    def _from_resources(self, message, peer):
        payload = self._assembled(message, peer)
        if isinstance(payload, wire.Message):
            return payload
        if message.block(wire.BLOCK2) is None or message.block(wire.BLOCK2)[0] == 0:
            self.bodies.append((message.code, message.path, payload))
        resource = self.resources.get(message.path)
        if message.code in (wire.GET, wire.FETCH):
            return self._read(message, peer, resource)
        if resource is None:
            resource = self.resources[message.path] = Resource()
            answer = piggybacked(message, "2.01")
        else:
            answer = piggybacked(message, "2.02" if message.code == wire.DELETE else "2.04")
        if message.code == wire.DELETE:
            del self.resources[message.path]
        else:
            self.change(message.path, payload)
        if message.option(wire.BLOCK1) is not None:
            num, _, szx = message.block(wire.BLOCK1)
            answer.options.append((wire.BLOCK1, wire.block(num, 0, min(szx, self.szx))))
        return answer

    def _read(self, message, peer, resource):
        if resource is None:
            return piggybacked(message, "4.04")
        if resource.etag is not None and resource.etag in message.all(wire.ETAG):
            valid = [o for o in resource.described() if o[0] in (wire.ETAG, wire.MAX_AGE)]
            return piggybacked(message, "2.03", valid)
        answer = piggybacked(message, resource.code, resource.described())
        if resource.observable and message.option(wire.OBSERVE) is not None:
            self._observe(message, peer, resource, answer)
        num, _, szx = message.block(wire.BLOCK2) or (0, 0, self.szx)
        self._fill(answer, resource.payload, num, min(szx, self.szx))
        return answer

    def _observe(self, message, peer, resource, answer):
        observers = self.observers.setdefault(message.path, {})
        if message.uint(wire.OBSERVE) == 0:
            observers[peer, message.token] = None
            self.registered.append(message)
            answer.options.append((wire.OBSERVE, wire.uint(resource.number)))
        else:
            self.cancelled.append(message)
            observers.pop((peer, message.token), None)

    @staticmethod
    def _fill(answer, payload, num, szx):
        """Block `num` of a payload, or all of it where it fits one block."""
        size = block_bytes(szx)
        if len(payload) > size:
            more = len(payload) > (num + 1) * size
            answer.options.append((wire.BLOCK2, wire.block(num, more, szx)))
            if num == 0:
                answer.options.append((wire.SIZE2, wire.uint(len(payload))))
        answer.payload = payload[num * size:(num + 1) * size]

    def _assembled(self, message, peer):
        """The payload of a request that is complete, or the answer to one that is not."""
        if message.option(wire.BLOCK1) is None:
            return message.payload
        num, more, szx = message.block(wire.BLOCK1)
        key = (peer[0], message.code, message.path, message.option(wire.REQUEST_TAG))
        if num == 0:
            self._assembly[key] = b""
        if len(self._assembly.get(key, b"")) != num * block_bytes(szx):
            return piggybacked(message, "4.08")
        self._assembly[key] += message.payload
        if not more:
            return self._assembly.pop(key)
        if num == 0 and szx > self.szx:  # all of block 0 counts, the next are to be smaller
            return piggybacked(message, "2.31", [(wire.BLOCK1, wire.block(0, 1, self.szx))])
        return piggybacked(message, "2.31", [(wire.BLOCK1, wire.block(num, 1, szx))])


def _serve_alone(address, port):
    """What a test starts as a process of its own, to be killed: each answer names the port."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
                       socket.SOCK_DGRAM) as served:
        served.bind((address, port))
        print("ready", flush=True)
        while True:
            data, peer = served.recvfrom(4096)
            message = wire.decode(data)
            if message.code != wire.EMPTY:
                answer = piggybacked(message, payload=str(port).encode())
            elif message.type == wire.CON:
                answer = wire.Message(wire.RST, wire.EMPTY, message.mid)
            else:
                continue
            served.sendto(answer.encode(), peer)


if __name__ == "__main__":
    _serve_alone(sys.argv[1], int(sys.argv[2]))
