"""A coapgw process under test, and the configuration that most tests give it."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from netns import wait_until
from transports import GATEWAY4, GATEWAY6, GATEWAY_ADDRESSES, HOST4, HOST6

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("COAPGW", ROOT / "build" / "release" / "coapgw")).resolve()
# Side by side with others (pytest -n), the kernel may take its time to remove a device; those tests
# that are about stopping have the machine for themselves.
STOP_SECONDS = 10.0 if "PYTEST_XDIST_WORKER" in os.environ else 2.0

# For a binary with sanitizers; elsewhere the variables do nothing. What libraries lose stands in
# lsan.supp, so that only what this project's code lost counts.
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1",
    "LSAN_OPTIONS": f"suppressions={Path(__file__).with_name('lsan.supp')}:print_suppressions=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
REPORTS = ("AddressSanitizer", "LeakSanitizer", "UndefinedBehaviorSanitizer", "runtime error:")

LIMITS = {"sessions": 10000, "exchanges": 4096, "outbound": 4096, "remembered": 65536,
          "message_memory": "8MiB"}


def _small(limits):
    limits = ", ".join(f"{key}: {value}" for key, value in limits.items())
    return f"""
memory: {{huge_pages: never, size: 128MiB}}
transmission: {{default_leisure: 100ms}}
limits: {{{limits}}}
"""


SMALL = _small(LIMITS)


def small(**limits):
    """SMALL with other limits. Clients are not challenged unless a test asks for it: most tests are
    about something else, and ask short questions with long answers."""
    return _small(LIMITS | {"amplification": 0} | limits)


def cores_text(workers):
    """`cores: auto` gives the last core to each gateway of one worker. Of those that run side by side
    (pytest -n), each begins at another core, as far as there are enough for a list at all."""
    place = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    cores = sorted(os.sched_getaffinity(0), reverse=True)
    if not place or workers > len(cores):
        return ""
    chosen = [cores[(int(place) + i) % len(cores)] for i in range(workers)]
    return f"cores: \"{','.join(map(str, chosen))}\"\n"


def interfaces_text(transport, addresses=GATEWAY_ADDRESSES, extra=""):
    quoted = [f'"{a}"' for a in addresses]
    host = [f'"{a}"' for a in transport.host_addresses]
    text = f"""
instance: {transport.inner.name}
workers: {transport.workers}
journal: {{directory: {transport.journal}}}
{cores_text(transport.workers)}interfaces:
  - name: south
    device: "{transport.device}"
    addresses: [{', '.join(quoted)}]
"""
    if host:
        text += f"    host_addresses: [{', '.join(host)}]\n"
    return text + "".join(f"    {line}\n" for line in extra.splitlines())


LISTENERS = f"""
listeners:
  - uri: coap://{GATEWAY4}
  - uri: "coap://[{GATEWAY6}]"
"""

# Origins: a libcoap server on each family, an address that nobody has, a socket that never answers
# and a port that is closed. The timeouts towards the closed port are so long that only the ICMP
# error can be what ends a request.
PROXY = f"""
upstreams:
  - {{name: origin4, servers: ["coap://{HOST4}"], transmission: {{nstart: 64}}}}
  - {{name: origin6, servers: ["coap://[{HOST6}]"], transmission: {{nstart: 64}}}}
  - {{name: nobody, servers: ["coap://10.99.0.77"],
      transmission: {{ack_timeout: 200ms, max_retransmit: 1}}}}
  - {{name: silent, servers: ["coap://{HOST4}:5690"],
      transmission: {{ack_timeout: 200ms, max_retransmit: 1}}}}
  - {{name: closed4, servers: ["coap://{HOST4}:5691"], transmission: {{ack_timeout: 60s}}}}
  - {{name: closed6, servers: ["coap://[{HOST6}]:5691"], transmission: {{ack_timeout: 60s}}}}
routes:
  - {{path: /, to: origin4}}
  - {{host: "{GATEWAY6}", path: /, to: origin6}}
  - {{path: /hello, respond: {{payload: "hello world!", content_format: text/plain, max_age: 60s}}}}
  - {{host: "{GATEWAY6}", path: /hello,
      respond: {{payload: "hello world!", content_format: text/plain, max_age: 60s}}}}
  - {{path: /nobody, to: nobody}}
  - {{path: /silent, to: silent}}
  - {{path: /closed4, to: closed4}}
  - {{host: "{GATEWAY6}", path: /closed6, to: closed6}}
"""

HELLO = """
routes:
  - {path: /hello, respond: {payload: "hello world!", content_format: text/plain, max_age: 60s}}
"""


class Gateway:
    """Starts coapgw in the transport's inner namespace and waits until it is ready."""

    def __init__(self, transport, text, folder, environment=None):
        self.transport = transport
        self.config_path = Path(folder) / "coapgw.yaml"
        self.config_path.write_text(text)
        self.log_path = Path(folder) / "coapgw.log"
        self.status = None
        self.stop_seconds = None
        with open(self.log_path, "w") as log:
            self.process = transport.inner.popen(
                BINARY, "-c", self.config_path, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env=os.environ | SANITIZERS | (environment or {}))
        wait_until("coapgw is ready", self._is_ready, timeout=60)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def _is_ready(self):
        log = self.log()
        assert self.process.poll() is None, f"coapgw has ended with {self.process.returncode}:\n{log}"
        return "coapgw: ready" in log

    def counters(self):
        """What SIGUSR1 prints: {worker number: {counter: value}}; counters at zero are absent."""
        before = len(self.log())
        self.process.send_signal(signal.SIGUSR1)
        last = [f"\nworker {i} busy " for i in range(self.transport.workers)]
        wait_until("counters printed", lambda: all(line in self.log()[before:] for line in last))
        found = {i: {} for i in range(self.transport.workers)}
        for worker, name, value in re.findall(r"^worker (\d+) (\S+) (\d+)$", self.log()[before:],
                                              re.M):
            found[int(worker)][name] = int(value)
        return found

    def counter(self, name):
        """One counter, summed over the workers."""
        return sum(c.get(name, 0) for c in self.counters().values())

    def stop(self):
        """SIGTERM; says how long it took. What must hold afterwards is checked by check_stopped()."""
        if self.status is None:
            begun = time.monotonic()
            self.process.send_signal(signal.SIGTERM)
            try:
                self.status = self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.status = self.process.wait()
            self.stop_seconds = time.monotonic() - begun

    def check_stopped(self):
        self.stop()
        log = self.log()
        assert self.status == 0, f"status {self.status}:\n{log[-4000:]}"
        assert not any(report in log for report in REPORTS), log[-8000:]
        assert self.stop_seconds < STOP_SECONDS, f"took {self.stop_seconds:.1f} s to stop"
        assert self.transport.left_behind() == []
        assert not list(Path("/run/dpdk").glob(self.transport.inner.name + "-*"))
