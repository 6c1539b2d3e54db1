"""What the tests of restarts share: many devices in a process of their own (tests/fleet), an origin
that survives, a Redis to be killed, and a gateway to be killed and started again."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import wire
from gateway import BINARY, REPORTS, Gateway, interfaces_text, small
from netns import wait_until
from transports import GATEWAY4, HOST4, AfPacket

FLEET = Path(os.environ.get("COAPGW_FLEET", BINARY.parent / "tests" / "fleet" / "coapgw-fleet"))
DEVICES = "10.100.0.0/16"  # all addresses of devices
SERVICE = f"{GATEWAY4}:5683"
ORIGIN_PORT = 5701
EXCHANGE_LIFETIME = 247.0
SO_RCVBUFFORCE, IP_FREEBIND = 33, 15  # which the socket module does not name


class Fleet:
    """coapgw-fleet, and what it says. Commands: see tests/fleet/command.c."""

    def __init__(self, namespace, devices, **options):
        self.devices = devices
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self.process = namespace.popen(FLEET, f"--devices={devices}", *arguments,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, *words, timeout=60):
        """One command; waits for the line that answers it."""
        self.send(*words)
        return self.answer(timeout)

    def send(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self, timeout=60):
        assert select.select([self.process.stdout], [], [], timeout)[0], "the fleet says nothing"
        line = self.process.stdout.readline()
        assert line, f"the fleet has ended: {self.process.wait()}"
        return json.loads(line)

    def run(self):
        self.say("run")

    def calm(self, seconds=60):
        """No more changes; all requests are answered."""
        said = self.say("calm", int(seconds * 1000), timeout=seconds + 30)
        assert said["ok"], f"{said['missing']} requests are not answered: {self.report()}"

    def connect(self, window=256, timeout=120):
        """All devices do their handshakes."""
        said = self.say("connect", window, timeout=timeout)
        assert said["ok"], f"{said}: {self.report()}"

    def open(self, window=256, timeout=120):
        said = self.say("open", window, timeout=timeout)
        assert said["ok"], f"{said}: {self.report()}"
        return said

    def heard(self, seconds=60):
        """All relations that were there when the gateway was killed have been notified since."""
        said = self.say("heard", int(seconds * 1000), timeout=seconds + 30)
        assert said["ok"], f"{said['missing']} relations are lost: {self.report()}"
        return said

    def expect(self, state, seconds=60):
        """All relations have got this state of their path."""
        said = self.say("expect", state, int(seconds * 1000), timeout=seconds + 30)
        assert said["ok"], f"{said['missing']} relations lack state {state}: {self.report()}"
        return said

    def report(self):
        return self.say("report")

    def check(self):
        """Nothing has happened that must not."""
        report = self.report()
        assert report["violations"]["total"] == 0, report
        return report

    def accepted(self, path):
        """The relations that devices have seen accepted: {(address:port, token)}."""
        return self._listed("list", path)

    def cancelled(self, path):
        """Some of those that were cancelled lately, but long enough ago that nothing is left of them."""
        return self._listed("cancelled", path)

    def _listed(self, command, path):
        assert self.say(command, path)["ok"]
        return {tuple(line.split()[:2]) for line in Path(path).read_text().splitlines()}


class StateOrigin:
    """An origin with observable resources "/s/0", "/s/1", ...: the representation is "NUMBER STATE".

    Notifications are confirmable and repeated until they are acknowledged. It judges the gateway,
    too: `wrong` lists message IDs that came again within EXCHANGE_LIFETIME for something else."""

    def __init__(self, namespace, paths, address=HOST4, port=ORIGIN_PORT, prefix="s", max_age=3600):
        self.states = [0] * paths
        self.registrations = self.cancellations = self.requests = self.resets = 0
        self.wrong = []
        self.delay = 0.0  # before each answer; nothing else is done meanwhile
        self._prefix, self._max_age = prefix, max_age
        self._numbers = [1] * paths
        self._observers = [{} for _ in range(paths)]  # (peer, token): last message ID
        self._by_mid = {}   # (peer, mid) of a notification: (path, token)
        self._waiting = {}  # (peer, mid): (when, tries, bytes)
        self._seen = {}     # (peer, mid): (when, request, answer)
        self._lock = threading.RLock()
        self._socket = namespace.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        # On a TAP the address comes and goes with the gateway.
        self._socket.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
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

    @property
    def observer_count(self):
        return sum(map(len, self._observers))

    def change(self, path, state=None):
        """A new state of one path, told to all who observe it."""
        with self._lock:
            self.states[path] = self.states[path] + 1 if state is None else state
            self._numbers[path] += 1
            for peer, token in list(self._observers[path]):
                self._notify(path, peer, token)

    def change_all(self, state):
        for path in range(len(self.states)):
            self.change(path, state)

    def _representation(self, path):
        return f"{path} {self.states[path]}".encode()

    def _options(self, path, observe):
        options = [(wire.CONTENT_FORMAT, b""), (wire.MAX_AGE, wire.uint(self._max_age))]
        return options + ([(wire.OBSERVE, wire.uint(self._numbers[path]))] if observe else [])

    def _notify(self, path, peer, token):
        mid = wire.fresh_mid()
        data = wire.Message(wire.CON, wire.code("2.05"), mid, token, self._options(path, True),
                            self._representation(path)).encode()
        self._waiting.pop((peer, self._observers[path][peer, token]), None)
        self._observers[path][peer, token] = mid
        self._by_mid[peer, mid] = path, token
        self._waiting[peer, mid] = time.monotonic() + 1, 0, data
        self._send(data, peer)

    def _send(self, data, peer):
        try:
            self._socket.sendto(data, peer)
        except OSError:  # the gateway's interface is away
            pass

    def _serve(self):
        again = 0.0
        while not self._ended.is_set():
            if select.select([self._socket], [], [], 0.05)[0]:
                try:
                    data, peer = self._socket.recvfrom(4096)
                except OSError:
                    continue
                if self.delay:
                    time.sleep(self.delay)
                with self._lock:
                    self._receive(data, peer)
            if time.monotonic() > again:
                again = time.monotonic() + 0.25
                with self._lock:
                    self._repeat()

    def _repeat(self):
        now = time.monotonic()
        for key, (when, tries, data) in list(self._waiting.items()):
            if now < when:
                continue
            if tries == 5:
                del self._waiting[key]
                self._forget(key)
            else:
                self._waiting[key] = now + (2 << tries), tries + 1, data
                self._send(data, key[0])

    def _forget(self, key):
        path, token = self._by_mid.pop(key, (None, None))
        if path is not None:
            self._observers[path].pop((key[0], token), None)

    def _receive(self, data, peer):
        message = wire.decode(data)
        if message.type in (wire.ACK, wire.RST):
            self._waiting.pop((peer, message.mid), None)
            if message.type == wire.RST:
                self.resets += 1
                self._forget((peer, message.mid))
        elif message.code == wire.EMPTY:
            self._send(wire.Message(wire.RST, wire.EMPTY, message.mid).encode(), peer)
        else:
            self._request(message, data, peer)

    def _request(self, message, data, peer):
        now = time.monotonic()
        when, before, answer = self._seen.get((peer, message.mid), (0, None, None))
        if now - when > EXCHANGE_LIFETIME or before != data:
            if now - when <= EXCHANGE_LIFETIME:
                self.wrong.append(f"message ID {message.mid} of {peer} after {now - when:.3f} s: "
                                  f"{wire.decode(before)} and then {message}")
            self.requests += 1
            answer = self._answer(message, peer).encode()
            self._seen[peer, message.mid] = now, data, answer
        self._send(answer, peer)

    def _answer(self, message, peer):
        segments = message.all(wire.URI_PATH)
        kind = wire.ACK if message.type == wire.CON else wire.NON
        answer = wire.Message(kind, wire.code("2.05"), message.mid, message.token)
        if len(segments) != 2 or segments[0].decode() != self._prefix or \
                not segments[1].isdigit() or int(segments[1]) >= len(self.states):
            answer.code = wire.code("4.04")
            return answer
        path, key = int(segments[1]), (peer, message.token)
        if message.uint(wire.OBSERVE) == 0:
            self.registrations += 1
            self._observers[path][key] = None
        elif message.uint(wire.OBSERVE) == 1:
            self.cancellations += 1
            self._observers[path].pop(key, None)
        answer.options = self._options(path, message.uint(wire.OBSERVE) == 0)
        answer.payload = self._representation(path)
        return answer


class Redis:
    """A redis-server on a Unix socket that loses nothing that it has confirmed."""

    def __init__(self, namespace, folder, *arguments, password=None, start=True):
        self._namespace = namespace
        self._password = password
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.path = str(self.folder / "redis.sock")
        self._arguments = arguments
        self.process = None
        if start:
            self.start()

    @property
    def url(self):
        return f"unix://{self.path}"

    def start(self):
        with open(self.folder / "redis.log", "a") as log:
            self.process = self._namespace.popen(
                "redis-server", "--port", "0", "--unixsocket", self.path, "--dir", self.folder,
                "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no",
                *self._arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        wait_until("Redis answers", self._answers)

    def _answers(self):
        try:
            return self.ask("PING") == "PONG"
        except (OSError, AssertionError):
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart(self):
        self.kill()
        self.start()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def ask(self, *words):
        """One command, over a connection of its own."""
        return self.ask_all([words])[0]

    def ask_all(self, commands):
        """Many at once, over one connection."""
        before = [("AUTH", self._password)] if self._password else []
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(self.path)
            with sock.makefile("rb") as stream:
                sock.sendall(b"".join(map(self._encode, before + commands)))
                return [self._reply(stream) for _ in before + commands][len(before):]

    @staticmethod
    def _encode(words):
        words = [str(word).encode(errors="surrogateescape") for word in words]
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)

    def _reply(self, stream):
        line = stream.readline()
        assert line.endswith(b"\r\n"), "Redis has closed the connection"
        kind, rest = line[:1], line[1:-2]
        assert kind != b"-", rest.decode()
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == b"-1":
                return None
            return stream.read(int(rest) + 2)[:-2].decode(errors="surrogateescape")
        if kind == b"*":
            return [self._reply(stream) for _ in range(int(rest))]
        return rest.decode()

    def keys(self, pattern="*"):
        return set(self.ask("KEYS", pattern))

    def relations(self, service=SERVICE, prefix="coapgw"):
        """{(address:port, token)} of all records of relations."""
        start = f"{{{prefix}:{service}}}:observe:"
        keys = [key for key in self.keys() if key.startswith(start)]
        return {tuple(key[len(start):].split("|")[1:]) for key in keys}

    def record(self, key):
        flat = self.ask("HGETALL", key)
        return dict(zip(flat[::2], flat[1::2]))


def site_text(store="", *, more="", routes="", listener="", scheme="coap", **limits):
    """Listener, upstream and store of a gateway whose clients are a fleet. Cached answers would do for
    many registrations; each path is observed once by each worker all the same."""
    limits = {"sessions": 60000, "relations": 60000, "exchanges": 16384, "outbound": 65536,
              "remembered": 262144, "message_memory": "64MiB"} | limits
    text = small(**limits).replace("size: 128MiB", "size: 512MiB")
    return text + f"""
listeners:
  - {{uri: "{scheme}://{GATEWAY4}"{listener}}}
upstreams:
  - {{name: o, servers: ["coap://{HOST4}:{ORIGIN_PORT}"], transmission: {{nstart: 1024}}}}
routes:
  - {{path: /, to: o}}
  - {{path: /hello, respond: {{payload: "hello world!"}}}}
{routes}
{f"store: {store}" if store else ""}
{more}
"""


class Site:
    """A gateway between devices and an origin, that comes and goes."""

    def __init__(self, folder, text, transport=None, workers=1, environment=None):
        self.folder = Path(folder)
        self.text = text
        self.transport = transport or AfPacket(workers)
        self.transport.workers = workers
        self.gateway = None
        self.runs = []
        self._environment = environment
        try:
            self.transport.prepare()
            self._route_devices()
        except BaseException:
            self.transport.close()
            raise

    def _route_devices(self):
        """Whatever the address of a device, this host has it."""
        self.namespace.run("ip", "route", "add", "local", DEVICES, "dev", "lo")

    @property
    def namespace(self):
        return self.transport.hosts

    def start(self, text=None, workers=None):
        self.text = text or self.text
        self.transport.workers = workers or self.transport.workers
        folder = self.folder / f"run-{len(self.runs)}"
        folder.mkdir()
        complete = interfaces_text(self.transport, extra=f"gateway: {HOST4}") + self.text
        self.gateway = Gateway(self.transport, complete, folder, self._environment)
        self.runs.append(self.gateway)
        self.transport.connect()
        return self.gateway

    def wait_for_store(self):
        """Until then, what the gateway accepts it may not be able to keep (on_failure: serve)."""
        wait_until("the store is read", lambda: "store: read back" in self.gateway.log())

    def kill(self):
        """kill -9."""
        self.gateway.process.kill()
        self.gateway.process.wait()
        self._check_log(self.gateway)

    def stop(self):
        self.gateway.check_stopped()

    @staticmethod
    def _check_log(gateway):
        log = gateway.log()
        assert not any(report in log for report in REPORTS), log[-8000:]

    def close(self):
        try:
            if self.gateway and self.gateway.process.poll() is None:
                self.gateway.stop()
        finally:
            self.transport.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            for gateway in self.runs[-2:]:
                print(f"---- {gateway.log_path}\n{gateway.log()[-3000:]}")
        self.close()


def rss_bytes(pid):
    """Resident memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024
