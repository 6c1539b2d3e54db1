"""The DTLS client of the tests against servers that are not ours: OpenSSL's, and libcoap's with OpenSSL
and with GnuTLS. What it can do with them it can be trusted with elsewhere."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from gateway import BINARY
from netns import Namespace, wait_until

DTLSPEER = Path(os.environ.get("DTLSPEER", BINARY.parent / "tests" / "dtls" / "dtlspeer")).resolve()
SECRET = "a secret"
KEY = SECRET.encode().hex()
SUITES = {"ccm8": "PSK-AES128-CCM8", "gcm": "PSK-AES128-GCM-SHA256", "chacha": "PSK-CHACHA20-POLY1305"}
PORT = 5684


@pytest.fixture
def namespace():
    made = Namespace("dtls")
    yield made
    made.close()


class Result:
    def __init__(self, process):
        self.status = process.returncode
        self.lines = process.stdout.splitlines()
        self.output = process.stdout + process.stderr
        assert "Sanitizer" not in self.output and "runtime error" not in self.output, self.output

    def right(self):
        assert self.status == 0, self.output
        return self.lines

    def wrong(self, reason):
        """It ended with a step that did not do what it says."""
        assert self.status == 1 and self.lines[-1].startswith("failed: "), self.output
        assert reason in self.lines[-1], self.output
        return self.lines


def command(*arguments, key=KEY, host="127.0.0.1"):
    """Options first, then the steps."""
    options = [a for a in arguments if a.startswith("--")]
    steps = [a for a in arguments if not a.startswith("--")]
    return [DTLSPEER, "--psk", f"device:{key}", *options, f"{host}:{PORT}", *steps]


def peer(namespace, *arguments, key=KEY, host="127.0.0.1", script=None):
    result = subprocess.run(namespace.command(*command(*arguments, key=key, host=host)), text=True,
                            capture_output=True, input=script, timeout=90)
    return Result(result)


def wait_for_port(server, table="udp"):
    wait_until("the server listens",
               lambda: f":{PORT:04X} " in Path(f"/proc/{server.pid}/net/{table}").read_text())


class OpenSsl:
    """openssl s_server; its standard input goes to the client."""

    def __init__(self, namespace, folder, *arguments, key=KEY):
        self._path = folder / "s_server"
        with self._path.open("wb") as out:
            self._server = namespace.popen(
                "openssl", "s_server", "-dtls1_2", "-nocert", "-psk", key, "-psk_hint", "a hint", "-accept",
                f"127.0.0.1:{PORT}", *arguments, stdin=subprocess.PIPE, stdout=out, stderr=out)
        wait_for_port(self._server)

    def write(self, text):
        self._server.stdin.write(text.encode() + b"\n")
        self._server.stdin.flush()

    def wait_for(self, text):
        wait_until(f"the server gets {text}", lambda: text in self.output())

    def output(self):
        return self._path.read_text(errors="replace")


class Interactive:
    """A dtlspeer that takes its steps while it runs."""

    def __init__(self, namespace, *arguments):
        self._child = namespace.popen(*command(*arguments), stdin=subprocess.PIPE, text=True,
                                      stdout=subprocess.PIPE)

    def step(self, line, lines=1):
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()
        return [self.line() for _ in range(lines)]

    def line(self):
        return self._child.stdout.readline().rstrip("\n")

    def end(self):
        self._child.stdin.close()
        return self._child.wait(20)


@pytest.mark.core
@pytest.mark.parametrize("listen", [["-listen"], []], ids=["cookie", "no-cookie"])
@pytest.mark.parametrize("suite", SUITES)
def test_openssl_both_ways(namespace, tmp_path, suite, listen):
    """A full handshake, and data in both directions."""
    server = OpenSsl(namespace, tmp_path, "-cipher", f"{SUITES[suite]}:@SECLEVEL=0", *listen)
    client = Interactive(namespace, "--raw")
    [line] = client.step("connect")
    assert line == f"connected suite={suite} cid=none own=none extended=yes resumed=no"
    assert client.step("send there it goes") == ["sent"]
    server.wait_for("there it goes")
    server.write("and back")
    assert client.step("expect and back") == ["data and back\\x0a"]
    assert client.step("close") == ["closed"]
    assert client.end() == 0
    assert re.search(f"CIPHER is {SUITES[suite]}", server.output()), server.output()


@pytest.mark.parametrize("options, extended", [
    (["--fragment=1"], "yes"), (["--fragment=20"], "yes"), (["--separate"], "yes"), (["--scsv"], "yes"),
    (["--plain-master"], "no"), (["--cid=a1b2c3"], "yes"), (["--cid-length=0"], "yes"),
    (["--ticket"], "yes")])
def test_openssl_takes_each_hello(namespace, tmp_path, options, extended):
    """Fragments and extensions. OpenSSL 3.0 knows no Connection ID: it is declined."""
    server = OpenSsl(namespace, tmp_path)
    result = peer(namespace, *options, "--raw", "connect", "send it works", "close")
    assert result.right()[0].endswith(f"cid=none own=none extended={extended} resumed=no")
    server.wait_for("it works")


@pytest.mark.parametrize("arguments, options", [([], ["--ticket"]), (["-no_ticket"], [])],
                         ids=["ticket", "session-id"])
@pytest.mark.parametrize("suite", SUITES)
def test_openssl_resumes(namespace, tmp_path, suite, arguments, options):
    server = OpenSsl(namespace, tmp_path, "-cipher", f"{SUITES[suite]}:@SECLEVEL=0", *arguments)
    result = peer(namespace, *options, f"--suite={suite}", "--raw", "connect", "send first", "close",
                  "resume", "send second", "close", "resume", "send third", "close")
    connected = [line for line in result.right() if line.startswith("connected")]
    assert [line.split()[-1] for line in connected] == ["resumed=no", "resumed=yes", "resumed=yes"]
    server.wait_for("third")


def test_openssl_refuses(namespace, tmp_path):
    """No suite in common: handshake_failure, and the reverse is not what was expected."""
    OpenSsl(namespace, tmp_path, "-cipher", f"{SUITES['ccm8']}:@SECLEVEL=0")
    assert peer(namespace, "--suite=chacha", "refused 40").right() == ["alert fatal 40", "refused 40"]
    peer(namespace, "--suite=ccm8", "refused 40").wrong("state")


def test_wrong_key_is_not_answered(namespace, tmp_path):
    """OpenSSL leaves a Finished that it cannot read alone (RFC 6347 4.1.2.7)."""
    OpenSsl(namespace, tmp_path)
    assert peer(namespace, "--timeout=3", "refused timeout", key="00").right() == ["refused timeout"]
    peer(namespace, "--timeout=3", "connect", key="00").wrong("not connected")


@pytest.fixture(params=["openssl", "gnutls"])
def coap_server(request, namespace):
    """libcoap's server with one of its libraries."""
    server = namespace.popen(f"coap-server-{request.param}", "-A", "127.0.0.1", "-k", SECRET, "-h", "a hint",
                             "-d", "10", "-v", "3", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    wait_for_port(server)
    return server


@pytest.mark.core
@pytest.mark.parametrize("suite", SUITES)
def test_libcoap_requests(namespace, coap_server, suite):
    result = peer(namespace, f"--suite={suite}", "connect", "put /kept some text", "get /kept", "get /nowhere",
                  "close")
    connected, created, kept, nowhere, closed = result.right()
    assert connected.startswith(f"connected suite={suite} ")
    assert created.startswith("answer 2.01")
    assert kept == "answer 2.05 some text"
    assert nowhere.startswith("answer 4.04")
    assert closed == "closed"


def test_libcoap_observe(namespace, coap_server):
    result = peer(namespace, "connect", "observe /time", "wait 3", "close")
    assert re.match(r"answer 2\.05 observe=\d+ ", result.right()[1]), result.output
    notified = [line for line in result.lines if re.match(r"notification 2\.05 observe=\d+ .", line)]
    assert len(notified) >= 3, result.output


def test_libcoap_wait_in_seconds(namespace, coap_server):
    """What comes in the time that was given is shown."""
    result = peer(namespace, "connect", "observe /time", "wait 2.5s", "close")
    assert sum(line.startswith("notification") for line in result.right()) >= 1, result.output


def test_libcoap_ignores_what_is_wrong(namespace, coap_server):
    """A replayed and a forged record: nothing comes back, and the association goes on."""
    result = peer(namespace, "connect", "get /", "replay", "forge", "silent 1", "get /", "close")
    words = [line.split()[0] for line in result.right()]
    assert words == ["connected", "answer", "replayed", "forged", "silent", "answer", "closed"]


def test_libcoap_closes(namespace, coap_server):
    """A server that ends says so to its clients."""
    client = Interactive(namespace)
    client.step("connect")
    client.step("get /")
    namespace.stop(coap_server)
    assert client.step("closed", lines=2) == ["alert warning 0", "closed"]
    assert client.end() == 0


def test_libcoap_new_handshake_from_another_port(namespace, coap_server):
    """Without a Connection ID another port is another client."""
    result = peer(namespace, "--timeout=3", "connect", "get /", "rebind", "connect", "get /", "rebind 127.0.0.2",
                  "connect", "get /", "rebind", "get /")
    lines = result.wrong("no answer")
    assert [line.split()[0] for line in lines].count("connected") == 3
    ports = [line.split()[1] for line in lines if line.startswith("rebound")]
    assert len(set(ports)) == 3


def test_back_to_the_port_before(namespace, coap_server):
    """What comes from another port is not taken for the association's, and it goes on from its own."""
    result = peer(namespace, "connect", "get /", "rebind", "replay", "silent 0.5", "back", "get /", "export",
                  "close")
    lines = result.right()
    assert [line.split()[0] for line in lines] == ["connected", "answer", "rebound", "replayed", "silent", "back",
                                                  "answer", "export", "closed"]
    exported = dict(item.split("=") for item in lines[7].split()[1:])
    assert len(exported["write_key"]) == 32 and len(exported["read_iv"]) == 8
    assert exported["write_key"] != exported["read_key"]
    assert exported["next"] == "3"  # Finished and two requests
    assert exported["refused"] == "0"


def test_script_from_standard_input(namespace, coap_server):
    result = peer(namespace, script="connect\nget /\n\nclose\n")
    assert [line.split()[0] for line in result.right()] == ["connected", "answer", "closed"]
    assert peer(namespace, script="connect\nget /\nnonsense\nclose\n").status == 1


def test_ipv6(namespace):
    server = namespace.popen("coap-server-openssl", "-A", "::1", "-k", SECRET, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_port(server, "udp6")
    assert peer(namespace, "connect", "get /", "close", host="[::1]").right()[1].startswith("answer 2.05")


@pytest.mark.parametrize("steps, reason", [
    (["get /"], "not connected"), (["close"], "not connected"), (["forge"], "not connected"),
    (["replay"], "nothing was sent"), (["resume"], "no session"), (["get"], "argument"),
    (["silent x"], "seconds"), (["back"], "no rebind"), (["rebind nowhere"], "Invalid argument"), (["dance"], "no such step"),
    (["wait 1"], "0 of 1 came"), (["closed"], "no close_notify")])
def test_steps_that_cannot_be_done(namespace, steps, reason):
    result = peer(namespace, "--timeout=1", *steps)
    assert result.status == 1
    assert reason in result.output or "Transport endpoint is not connected" in result.output


@pytest.mark.parametrize("arguments", [
    [], ["127.0.0.1:5684"], ["--psk", "device:0", "127.0.0.1:5684"], ["--psk", "device", "127.0.0.1:5684"],
    ["--psk", "device:", "127.0.0.1:5684"], ["--psk", "d:00", "127.0.0.1"], ["--psk", "d:00", "host:5684"],
    ["--psk", "d:00", "--suite", "rot13", "127.0.0.1:5684"], ["--psk", "d:00", "--nonsense", "127.0.0.1:5684"],
    ["--psk", "d:00", "--cid-length", "17", "127.0.0.1:5684"], ["--psk", "d:00", "--cid", "0", "127.0.0.1:5684"]])
def test_wrong_usage(arguments):
    result = subprocess.run([DTLSPEER, *arguments], capture_output=True, text=True, timeout=20)
    assert result.returncode == 2
    assert "dtlspeer --psk" in result.stderr
