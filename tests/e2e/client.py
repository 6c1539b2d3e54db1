"""A CoAP client in Python: one socket, requests that are retransmitted, blocks, notifications."""

import os
import selectors
import socket
import time

import wire
from transports import GATEWAY4, GATEWAY6

PATIENCE = 20.0  # seconds that a test waits for what must come
QUIET = 0.6      # seconds without a message that count as silence


class Client:
    """One endpoint. Notifications and other messages that were not asked for wait in `inbox`."""

    def __init__(self, namespace, family=4, port=5683, address=None):
        self.sock = namespace.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
        if address:
            self.sock.bind((address, 0))
        self.sock.connect((GATEWAY4 if family == 4 else GATEWAY6, port))
        self.inbox = []
        self.acknowledge = True  # confirmable messages
        self.received = 0

    def send(self, message):
        self.sock.send(message.encode())
        return message

    def receive(self, timeout=PATIENCE):
        """The next message, acknowledged; raises TimeoutError."""
        self.sock.settimeout(timeout)
        message = wire.decode(self.sock.recv(4096))
        self.received += 1
        if message.type == wire.CON and self.acknowledge:
            self.send(wire.Message(wire.ACK, wire.EMPTY, message.mid))
        return message

    def exchange(self, message, timeout=PATIENCE):
        """Sends a request until it is answered; CON are repeated after 2, 4 and 8 seconds."""
        begun, wait, acknowledged = time.monotonic(), 2.0, False
        self.send(message)
        again = begun + wait
        while True:
            now = time.monotonic()
            if now - begun > timeout:
                raise AssertionError(f"no answer to {message} within {timeout} s")
            try:
                got = self.receive(max(0.01, min(again, begun + timeout) - now))
            except TimeoutError:
                if message.type == wire.CON and not acknowledged:
                    self.send(message)
                wait *= 2
                again = time.monotonic() + wait
                continue
            if got.code == wire.EMPTY and got.mid == message.mid:
                if got.type == wire.RST:
                    return got
                acknowledged = True
            elif got.token == message.token and got.code != wire.EMPTY:
                return got
            else:
                self.inbox.append(got)

    def ask(self, method, path, payload=b"", timeout=PATIENCE, **arguments):
        return self.exchange(wire.request(method, path, payload, **arguments), timeout)

    def get(self, path, **arguments):
        return self.ask(wire.GET, path, **arguments)

    def observe(self, path, token=None, options=(), **arguments):
        """A registration; `token` says whose notifications come."""
        return self.get(path, token=token, options=[(wire.OBSERVE, b""), *options], **arguments)

    def cancel(self, path, token, options=(), **arguments):
        return self.get(path, token=token, options=[(wire.OBSERVE, b"\x01"), *options], **arguments)

    def notification(self, token, timeout=PATIENCE):
        """The next message with that token; others stay in the inbox."""
        deadline = time.monotonic() + timeout
        while True:
            for message in self.inbox:
                if message.token == token:
                    self.inbox.remove(message)
                    return message
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no notification within {timeout} s")
            try:
                self.inbox.append(self.receive(left))
            except TimeoutError:
                pass

    def until(self, token, payload, timeout=PATIENCE):
        """All notifications up to the one with that payload."""
        seen = [self.notification(token, timeout)]
        while seen[-1].payload != payload:
            seen.append(self.notification(token, timeout))
        return seen

    def is_quiet(self, seconds=QUIET):
        """No message comes, and none has been left."""
        try:
            self.inbox.append(self.receive(seconds))
        except TimeoutError:
            pass
        return not self.inbox

    def download(self, path, szx=None, method=wire.GET, payload=b"", options=(), first=None):
        """All blocks of a representation: (body, answers). `szx` is what is asked for; without it
        the server chooses. `first`: the answer that has block 0 already."""
        if first is None:
            more = [] if szx is None else [(wire.BLOCK2, wire.block(0, 0, szx))]
            first = self.ask(method, path, payload, options=[*options, *more])
        answers, body = [first], first.payload
        while answers[-1].option(wire.BLOCK2) is not None and answers[-1].block(wire.BLOCK2)[1]:
            num, _, szx = answers[-1].block(wire.BLOCK2)
            option = (wire.BLOCK2, wire.block(num + 1, 0, szx))
            answers.append(self.ask(method, path, payload, options=[*options, option]))
            assert answers[-1].code_text == "2.05", answers[-1]
            assert answers[-1].block(wire.BLOCK2)[0] == num + 1, answers[-1]
            body += answers[-1].payload
        return body, answers

    def upload(self, method, path, body, szx, options=(), size1=True):
        """All blocks of a body, smaller ones when the server asks for them. All answers; ends early
        when one of them is an error."""
        answers, at = [], 0
        while True:
            size = 16 << szx
            more = at + size < len(body)
            block = [(wire.BLOCK1, wire.block(at // size, more, szx))]
            if at == 0 and size1:
                block.append((wire.SIZE1, wire.uint(len(body))))
            answers.append(self.ask(method, path, body[at:at + size], options=[*options, *block]))
            if answers[-1].code_text != "2.31":
                return answers
            assert more, "2.31 after the last block"
            num, _, accepted = answers[-1].block(wire.BLOCK1)
            assert num == at // size, answers[-1]
            at += size
            szx = min(szx, accepted)


class Crowd:
    """Many observers of one resource, each a socket of its own, all of them handled in one loop."""

    def __init__(self, namespace, count, path, family=4):
        self.path = path
        self.states = {}  # number of the observer: (Observe value, payload) of all that it got
        self.messages = 0
        self.resetting = set()  # who answers the next message with a Reset
        self._selector = selectors.DefaultSelector()
        self._socks = []
        for i in range(count):
            sock = namespace.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
            sock.connect((GATEWAY4 if family == 4 else GATEWAY6, 5683))
            sock.setblocking(False)
            self._socks.append(sock)
            self._selector.register(sock, selectors.EVENT_READ, i)
            self.states[i] = []
        self._tokens = [os.urandom(6) for _ in range(count)]

    def request(self, which, value):
        """A GET with Observe from each of `which`, repeated until all are answered: {i: answer}."""
        asked = {i: wire.request(wire.GET, self.path, token=self._tokens[i],
                                 options=[(wire.OBSERVE, wire.uint(value))]) for i in which}
        answers, give_up, again = {}, time.monotonic() + 2 * PATIENCE, 0.0
        waiting = list(asked)
        while len(answers) < len(asked):
            assert time.monotonic() < give_up, f"{len(answers)} of {len(asked)} answered"
            if time.monotonic() > again:
                waiting, again = [i for i in asked if i not in answers], time.monotonic() + 3
            for i in waiting[:32]:
                self._socks[i].send(asked[i].encode())
            del waiting[:32]
            for i, message in self._receive(0.01):
                # A separate answer to a cancellation is what has no Observe option.
                if message.code != wire.EMPTY and i in asked and (
                        message.type == wire.ACK or value == 0
                        or message.option(wire.OBSERVE) is None):
                    answers.setdefault(i, message)
        return answers

    def _receive(self, timeout):
        """Messages that have come; acknowledged, and kept as states."""
        for key, _ in self._selector.select(timeout):
            while True:
                try:
                    message = wire.decode(key.fileobj.recv(4096))
                except BlockingIOError:
                    break
                self.messages += 1
                if key.data in self.resetting and message.type != wire.ACK:
                    self.resetting.discard(key.data)
                    key.fileobj.send(wire.Message(wire.RST, wire.EMPTY, message.mid).encode())
                    continue
                if message.type == wire.CON:
                    key.fileobj.send(wire.Message(wire.ACK, wire.EMPTY, message.mid).encode())
                if message.code != wire.EMPTY:
                    self.states[key.data].append((message.uint(wire.OBSERVE), message.payload))
                yield key.data, message

    def wait_for(self, payload, which=None, timeout=2 * PATIENCE):
        """Until each has this as its last state."""
        which = list(self.states) if which is None else list(which)
        deadline = time.monotonic() + timeout
        while True:
            late = [i for i in which if not self.states[i] or self.states[i][-1][1] != payload]
            if not late:
                return
            assert time.monotonic() < deadline, f"{len(late)} of {len(which)} still lack {payload}"
            for _ in self._receive(0.1):
                pass

    def listen(self, seconds):
        """Receives for a while; says how many messages came."""
        before, deadline = self.messages, time.monotonic() + seconds
        while time.monotonic() < deadline:
            for _ in self._receive(0.05):
                pass
        return self.messages - before

    def close(self):
        for sock in self._socks:
            self._selector.unregister(sock)
            sock.close()
        self._selector.close()
