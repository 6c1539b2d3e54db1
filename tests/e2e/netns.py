"""Network namespaces that a test makes, and the processes and sockets in them.

Nothing here touches the network of the machine: every interface, address and packet lives in a
namespace with a unique name that is removed with all that is in it."""

import contextlib
import ctypes
import itertools
import json
import os
import signal
import socket
import subprocess
import threading
import time

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()
CLONE_NEWNET = 0x40000000


def wait_until(what, condition, timeout=20.0, interval=0.02):
    """Polls `condition` until it is true; fails with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout} s still not: {what}")
        time.sleep(interval)
    return value


class Namespace:
    """One network namespace. Processes that were started with popen() end before it goes."""

    def __init__(self, role="net"):
        self.name = f"cgw-{os.getpid()}-{next(_numbers)}-{role}"
        self._children = []
        self._sockets = []
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")
        # Each closed port answers: the kernel's own limit of one ICMP error a second is off.
        self.sysctl("net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0",
                    "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.router_solicitations=0")

    def command(self, *args):
        # Not "ip netns exec", which also wants mount namespaces and so fails in a plain chroot.
        return ["nsenter", f"--net=/run/netns/{self.name}", *map(str, args)]

    def run(self, *args, check=True, **kwargs):
        """Runs a command to its end; the result has stdout and stderr as text."""
        result = subprocess.run(self.command(*args), capture_output=True, text=True, **kwargs)
        assert not check or result.returncode == 0, f"{args}: {result.stdout}{result.stderr}"
        return result

    def sysctl(self, *settings):
        """Written through /proc, so that no procps is needed."""
        for setting in settings:
            name, value = setting.split("=")
            self.run("sh", "-c", f"echo {value} > /proc/sys/{name.replace('.', '/')}")

    def popen(self, *args, **kwargs):
        """Starts a process whose pid is that of the command itself."""
        child = subprocess.Popen(self.command(*args), **kwargs)
        self._children.append(child)
        return child

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in the namespace: for sockets, which stay where they were made."""
        home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        target = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _setns(target)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)
            os.close(target)

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_DGRAM, protocol=0):
        with self.entered():
            made = socket.socket(family, kind, protocol)
        self._sockets.append(made)
        return made

    def links(self):
        """The names of the interfaces."""
        return [link["ifname"] for link in json.loads(self.run("ip", "-j", "link").stdout)]

    def add_address(self, interface, address):
        flags = ["nodad"] if ":" in address else []
        self.run("ip", "address", "add", address, "dev", interface, *flags)

    def wait_for_addresses(self):
        """Until no address is tentative and every wanted link is up."""
        wait_until("addresses usable",
                   lambda: not self.run("ip", "-6", "address", "show", "tentative").stdout.strip())

    def stop(self, child, timeout=5.0):
        """Ends one process, politely first. Returns its status."""
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(timeout)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream:
                stream.close()
        return child.returncode

    def close(self):
        for made in self._sockets:
            made.close()
        for child in reversed(self._children):
            self.stop(child)
        subprocess.run(["ip", "netns", "delete", self.name], check=False)


def _setns(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
