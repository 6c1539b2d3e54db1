"""Fixtures of the end-to-end tests: the real binary on virtual devices, real CoAP peers around it."""

import contextlib
import os
import re
import socket
import subprocess
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

import transports
import wire
from gateway import BINARY, LISTENERS, PROXY, Gateway, interfaces_text, small
from netns import wait_until
from transports import GATEWAY4, GATEWAY6, HOST4, HOST6

Answer = namedtuple("Answer", "code payload output")


def pytest_configure(config):
    config.addinivalue_line("markers", "core: the shorter suite that also runs under sanitizers")
    config.addinivalue_line("markers", "alone: times something, and wants the machine for itself")
    config.addinivalue_line("markers", "slow: takes more than 10 s, and so is begun before others")
    if os.geteuid() != 0:
        pytest.exit("network namespaces and devices need root", returncode=1)
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is missing: build it, or name another in COAPGW", returncode=1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """For pytest -n: what shares a gateway stays together, anything else goes wherever there is room,
    and at the end nobody waits for a long test that was begun last."""
    for item in items:
        shared = [d[-1] for d in item._fixtureinfo.name2fixturedefs.values() if d[-1].scope == "module"]
        if shared:
            params = item.callspec.params if hasattr(item, "callspec") else {}
            which = [str(params[d.argname]) for d in shared if d.argname in params]
            item.add_marker(pytest.mark.xdist_group(" ".join([item.path.stem, *which])))
    items.sort(key=lambda item: not item.get_closest_marker("slow"))


def coap_client(namespace, uri, *arguments, timeout=10):
    """Runs libcoap's client: the code and the payload of the answer, or code None when there was none."""
    with tempfile.NamedTemporaryFile() as body:
        command = ["coap-client-notls", "-B", timeout, "-v", "6", "-o", body.name, *arguments, uri]
        result = namespace.run(*command, check=False, timeout=timeout + 20)
        payload = Path(body.name).read_text(errors="replace")
    output = result.stdout + result.stderr
    codes = [c for c in re.findall(r"^v:1 t:\w+ c:(\d\.\d\d) ", output, re.M) if c != "0.00"]
    return Answer(codes[-1] if codes else None, payload, output)


class Hosts:
    """The hosts' side of a running gateway: clients and origins."""

    def __init__(self, transport, gateway):
        self.transport = transport
        self.gateway = gateway
        self.namespace = transport.hosts

    def client(self, path, *arguments, family=4, timeout=10):
        host = GATEWAY4 if family == 4 else f"[{GATEWAY6}]"
        if family == 6:
            # An address in the URI is no Uri-Host (RFC 7252 6.4); with it, the route is chosen by it.
            arguments = ("-O", f"3,{GATEWAY6}", *arguments)
        return coap_client(self.namespace, f"coap://{host}{path}", *arguments, timeout=timeout)

    def socket(self, family=4):
        """A connected UDP socket with a port of its own."""
        made = self.namespace.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
        made.connect((GATEWAY4 if family == 4 else GATEWAY6, 5683))
        made.settimeout(10)
        return made

    def exchange(self, message, family=4, sock=None):
        """Sends a message as bytes or wire.Message, and returns the next answer that is decoded: the
        separate one when a busy machine has made it one."""
        sock = sock or self.socket(family)
        sock.send(message if isinstance(message, bytes) else message.encode())
        answer = wire.decode(sock.recv(2048))
        if (answer.type, answer.code) == (wire.ACK, wire.EMPTY):
            answer = wire.decode(sock.recv(2048))
            if answer.type == wire.CON:
                sock.send(wire.Message(wire.ACK, wire.EMPTY, answer.mid).encode())
        return answer


def start_origin(namespace, address, *arguments, port=5683):
    """coap-server-notls, once it answers."""
    server = namespace.popen("coap-server-notls", "-A", address, "-p", port, "-d", "100", "-v",
                             "3", *arguments,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    host = f"[{address}]" if ":" in address else address
    wait_until("the origin answers",
               lambda: coap_client(namespace, f"coap://{host}:{port}/", timeout=1).code == "2.05")
    return server


class Rig:
    """A transport with a gateway on it, made by the fixtures and taken down by them."""

    def __init__(self, transport, text, folder, origins=True):
        self.transport = transport
        self.gateway = None
        try:
            transport.prepare()
            self.gateway = Gateway(transport, text, folder)
            transport.connect()
            self.hosts = Hosts(transport, self.gateway)
            if origins:
                start_origin(transport.hosts, HOST4)
                start_origin(transport.hosts, HOST6)
        except BaseException:
            self.close()
            raise

    def close(self):
        try:
            if self.gateway:
                self.gateway.stop()
        finally:
            left = self.transport.left_behind() if self.gateway else []
            self.transport.close()
        assert not left, f"left behind: {left}"


@pytest.fixture
def rig(tmp_path):
    """rig(text="...", transport="tap", workers=1, interface="...", origins=False): a gateway of a test's own.

    `text` is all of the configuration but the interfaces."""
    made = []

    def start(text=small() + LISTENERS + PROXY, transport="tap", workers=1, interface="", origins=False):
        kind = transport if isinstance(transport, type) else transports.ALL[transport]
        carrier = kind(workers)
        one = Rig(carrier, interfaces_text(carrier, extra=interface) + text,
                  _folder(tmp_path, len(made)), origins)
        made.append(one)
        return one

    start.made = made
    yield start
    errors = []
    for one in reversed(made):
        try:
            one.gateway.check_stopped()
        except AssertionError as error:
            errors.append(error)
        one.close()
    if errors:
        raise errors[0]


@contextlib.contextmanager
def shared_rig(folder, text, transport="tap", workers=1, origins=False,
               addresses=transports.GATEWAY_ADDRESSES):
    """A gateway that the tests of a module share; it is checked when it has stopped."""
    carrier = transports.ALL[transport](workers)
    one = Rig(carrier, interfaces_text(carrier, addresses) + text, folder, origins)
    try:
        yield one
        one.gateway.check_stopped()
    finally:
        one.close()


def _folder(path, number):
    folder = path / str(number)
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def hosts(request, tmp_path_factory):
    """The hosts' side of a gateway that a module shares; the parameter is (transport, workers)."""
    kind, workers = request.param
    with shared_rig(tmp_path_factory.mktemp(f"{kind}-{workers}"), small() + LISTENERS + PROXY, kind,
                    workers, origins=True) as one:
        yield one.hosts


@pytest.fixture(autouse=True)
def gateway_log(request):
    """Shows the end of the gateway's log when a test fails."""
    yield
    for value in getattr(request.node, "funcargs", {}).values():
        for one in getattr(value, "made", [value]):
            if not isinstance(one, (Hosts, Rig)):
                continue
            print(f"---- {one.gateway.log_path}\n{one.gateway.log()[-3000:]}")
