"""Clients over DTLS: libcoap with OpenSSL and with GnuTLS, the commands of both libraries; with
pre-shared keys and with certificates. On a TAP."""

import contextlib
import re
import signal
import subprocess
import tempfile

import pytest

import dtls
from admin import Admin
from conftest import coap_client, shared_rig, start_origin
from dtls import coaps_client, psk
from gateway import small
from netns import wait_until
from resources import Origin, Resource
from transports import GATEWAY4, GATEWAY6, HOST4

LIBRARIES = ["openssl", "gnutls"]

ROUTES = f"""
admin: {{listen: "127.0.0.1:9683"}}
observe: {{confirm_every: 2}}
upstreams:
  - {{name: o, servers: ["coap://{HOST4}:5701"], transmission: {{nstart: 64}}}}
  - {{name: libcoap, servers: ["coap://{HOST4}:5683"], transmission: {{nstart: 64}}}}
routes:
  - {{path: /, to: o}}
  - {{path: /lib, to: libcoap, strip: true}}
  - {{path: /hello, respond: {{payload: "hello world!", content_format: text/plain, max_age: 60s}}}}
  - {{path: /long, respond: {{payload: "{'0123456789abcde ' * 300}", content_format: text/plain}}}}
  - {{path: /held, resources: {{create: true, max: 10}}}}
"""


class Scene:
    def __init__(self, rig, folder, authority):
        self.rig, self.folder, self.authority = rig, folder, authority
        self.net = rig.hosts.namespace
        self.admin = Admin(rig.transport.inner)

    def counter(self, name):
        return self.rig.gateway.counter(name)

    def sessions(self):
        return [s for s in self.admin.all("sessions") if s["transport"] == "dtls"]

    def in_use(self, what):
        _, _, text = self.admin.ask("GET", "/metrics")
        return sum(int(n) for n in re.findall(rf'coapgw_in_use{{worker="\d+",resource="{what}"}} (\d+)', text))

    @contextlib.contextmanager
    def nothing_stays(self):
        """What others have left is not counted."""
        before = [self.in_use(what) for what in ("handshakes", "associations")]
        failed = self.counter("dtls_handshakes_failed")
        yield
        wait_until("a handshake has failed", lambda: self.counter("dtls_handshakes_failed") > failed)
        wait_until("nothing of it is left", lambda: all(
            self.in_use(what) <= n for what, n in zip(("handshakes", "associations"), before)))


def make_authority(folder):
    authority = dtls.Authority(folder)
    authority.issue("gateway", f"DNS:gateway.example,IP:{GATEWAY4},IP:{GATEWAY6}")
    authority.issue("sensor", "DNS:sensor.example")
    authority.issue("stolen", "DNS:stolen.example")
    authority.issue("late", "DNS:late.example", days=-1)
    authority.revoke("stolen")
    return authority


def listener_text(folder, authority, clients="optional"):
    return (f"psk: {{file: {folder}/psk}}\n"
            f"certificate: {authority.path('gateway.pem')}\nkey: {authority.path('gateway.key')}\n"
            f"client_certificates: {clients}\n"
            f"ca: {authority.certificate}\ncrl: {authority.path('crl.pem')}\n")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dtls")
    dtls.write_keys(folder)
    authority = make_authority(folder)
    text = small() + dtls.listeners(listener_text(folder, authority)) + ROUTES
    with shared_rig(folder, text) as one:
        start_origin(one.hosts.namespace, HOST4)
        yield Scene(one, folder, authority)


@pytest.fixture
def net(scene):
    return scene.net


@pytest.fixture
def client_arguments(scene, request):
    """Both ways to show who one is."""
    return psk() if request.param == "psk" else dtls.certificate(scene.authority, "sensor")


both_kinds = pytest.mark.parametrize("client_arguments", ["psk", "certificate"], indirect=True)
both_libraries = pytest.mark.parametrize("library", LIBRARIES)


def origin_with(net, **resources):
    return Origin(net, HOST4, 5701, {f"/{name}": resource for name, resource in resources.items()})


# What clients do.

@pytest.mark.core
@both_kinds
@both_libraries
def test_get(net, library, client_arguments):
    answer = coaps_client(net, "/hello", *client_arguments, library=library)
    assert (answer.code, answer.payload) == ("2.05", "hello world!"), answer.output


@both_libraries
def test_get_over_ipv6(net, library):
    answer = coaps_client(net, "/hello", *psk(), library=library, host=f"[{GATEWAY6}]")
    assert (answer.code, answer.payload) == ("2.05", "hello world!"), answer.output


@both_libraries
def test_put_and_get_back(net, library):
    put = coaps_client(net, f"/held/{library}", *psk(), "-m", "put", "-e", "by DTLS", library=library)
    assert put.code == "2.01", put.output
    got = coaps_client(net, f"/held/{library}", *psk(), library=library)
    assert (got.code, got.payload) == ("2.05", "by DTLS"), got.output
    assert coap_client(net, f"coap://{GATEWAY4}/held/{library}").payload == "by DTLS"


@pytest.mark.core
@both_libraries
def test_body_in_blocks_both_ways(net, library):
    body = "".join(f"{i:07d}\n" for i in range(1500))
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(body)
        file.flush()
        put = coaps_client(net, f"/lib/blocks-{library}", *psk(), "-m", "put", "-f", file.name, "-b", 512,
                           library=library, timeout=30)
    assert put.code in ("2.01", "2.04"), put.output[-2000:]
    got = coaps_client(net, f"/lib/blocks-{library}", *psk(), library=library, timeout=30)
    assert got.payload == body
    assert coap_client(net, f"coap://{HOST4}/blocks-{library}", timeout=30).payload == body


def test_blocks_fit_beside_the_record(net):
    """A body that needs blocks, and records of 1,280 bytes at the most with all that is around."""
    answer = coaps_client(net, "/long", *psk())
    assert answer.payload == "0123456789abcde " * 300, answer.output[-2000:]


@both_libraries
def test_observe(net, library):
    """/time of libcoap's server, which changes each second."""
    answer = coaps_client(net, "/lib/time", *psk(), "-s", 4, "-w", library=library, timeout=20)
    assert len(set(answer.payload.split("\n")) - {""}) >= 3, answer.output
    assert "Observe:" in answer.output


@both_libraries
def test_separate_response(net, library):
    """libcoap's /async answers after some seconds: the ACK goes ahead, the answer is a CON."""
    answer = coaps_client(net, f"/lib/async?{2 + LIBRARIES.index(library)}", *psk(), library=library, timeout=20)
    assert answer.code == "2.05", answer.output
    assert re.search(r"v:1 t:ACK c:0.00", answer.output), answer.output


def test_cached_answers_are_sealed_for_each(scene, net):
    """The same answer out of memory for clients with different keys, and without."""
    with origin_with(net, cached=Resource(b"from memory", max_age=600)) as origin:
        for arguments in (psk("device-1"), psk("device-2"), psk("device-1")):
            assert coaps_client(net, "/cached", *arguments).payload == "from memory"
        for _ in range(3):
            assert coap_client(net, f"coap://{GATEWAY4}/cached").payload == "from memory"
        assert len(origin.requests) == 1


@both_kinds
def test_openssl_s_client(scene, net, client_arguments):
    """CoAP by hand in OpenSSL's own client: a ping, which is answered by a RST."""
    arguments = ["-psk", dtls.KEYS["device-1"], "-psk_identity", "device-1", "-cipher", "PSK-AES128-CCM8"]
    if client_arguments[0] == "-c":
        arguments = ["-cert", client_arguments[1], "-key", client_arguments[3], "-CAfile", client_arguments[5],
                     "-verify_return_error", "-verify_hostname", "gateway.example"]
    pings = scene.counter("pings")
    client = net.popen("openssl", "s_client", "-dtls1_2", "-connect", f"{GATEWAY4}:5684", "-quiet",
                       *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    client.stdin.write(b"\x40\x00\x12\x34")
    client.stdin.flush()
    wait_until("the ping is there", lambda: scene.counter("pings") == pings + 1)
    answer = client.stdout.read(4)
    client.kill()
    client.wait()
    assert answer == b"\x70\x00\x12\x34"


def test_gnutls_cli(scene, net):
    arguments = ["--udp", "--mtu", "1200", "--pskusername", "device-1", "--pskkey", dtls.KEYS["device-1"],
                 "--priority", "NORMAL:-KX-ALL:+PSK:-VERS-ALL:+VERS-DTLS1.2", "-p", "5684", GATEWAY4]
    pings = scene.counter("pings")
    client = net.popen("gnutls-cli", *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
    client.stdin.write(b"\x40\x00\x12\n")  # it sends lines
    client.stdin.flush()
    wait_until("the ping is there", lambda: scene.counter("pings") > pings)
    client.stdin.close()
    output = client.stdout.read().decode(errors="replace")
    client.wait()
    assert "Handshake was completed" in output, output


# What operators see.

def test_sessions_say_who_and_where(scene, net):
    with subprocess.Popen(net.command("coap-client-openssl", *map(str, psk()), "-s", "20", "-B", "20",
                                      f"coaps://{GATEWAY4}/lib/time"),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        wait_until("it observes", lambda: any(s["relations"] for s in scene.sessions()))
        mine, = [s for s in scene.sessions() if s["relations"]]
        assert mine["peer"].startswith(f"{HOST4}:")
        assert mine["local"] == f"{GATEWAY4}:5684"
        assert mine["principal"] == "psk:device-1"
        assert mine["connection_id"] == "none"
        assert re.match(r"AES|CHACHA", mine["suite"])
        assert mine["proven"]
        relation, = [r for r in scene.admin.all("relations", f"&peer={mine['peer']}")]
        assert relation["peer"] == mine["peer"]
        client.kill()


def test_ready_line_names_the_scheme(scene):
    assert f" coap://{GATEWAY4}:5683 coaps://{GATEWAY4}:5684 coaps://[{GATEWAY6}]:5684" in \
        scene.rig.gateway.log()


# Who is refused, with which alert (RFC 5246 7.2.2, RFC 4279 2), and that nothing of it stays.

def refused(scene, *arguments, library="openssl"):
    """The client's output; nothing of it is left in the gateway."""
    with scene.nothing_stays():
        answer = coaps_client(scene.net, "/hello", *arguments, library=library, timeout=6)
    assert answer.code is None, answer.output
    return answer.output


@pytest.mark.core
@both_libraries
def test_wrong_key(scene, library):
    """RFC 6347 4.1.2.7: bad_record_mac, as the client's Finished does not open."""
    output = refused(scene, *psk("device-1", "not-the-key-at-all"), library=library)
    assert re.search(r"bad.record.mac|\b20\b", output, re.I), output


@both_libraries
def test_unknown_identity(scene, library):
    output = refused(scene, *psk("nobody", "sesame-sesame-01"), library=library)
    assert re.search(r"unknown.psk.identity|115|decrypt.error|DECRYPT", output, re.I), output


ALERTS = {"late": r"certificate.expired|expired", "stolen": r"revoked", "other": r"unknown.ca|unknown CA"}


@pytest.mark.parametrize("name", list(ALERTS))
def test_certificates_that_are_refused(scene, tmp_path, name):
    """Expired; revoked; of an authority that is not ours."""
    authority = scene.authority
    if name == "other":
        authority = dtls.Authority(tmp_path, "stranger")
        authority.issue("other", "DNS:other.example")
    with scene.nothing_stays():
        result = scene.net.run("timeout", "5", "openssl", "s_client", "-dtls1_2", "-connect",
                               f"{GATEWAY4}:5684", "-cert", authority.path(f"{name}.pem"), "-key",
                               authority.path(f"{name}.key"), check=False, stdin=subprocess.DEVNULL)
    output = result.stdout + result.stderr
    assert re.search(ALERTS[name], output), output


def test_client_checks_the_gateway(scene, tmp_path):
    """A client that trusts another authority ends it; its alert frees all there was."""
    stranger = dtls.Authority(tmp_path, "stranger")
    with scene.nothing_stays():
        result = scene.net.run("timeout", "5", "openssl", "s_client", "-dtls1_2", "-connect",
                               f"{GATEWAY4}:5684", "-CAfile", stranger.certificate,
                               "-verify_return_error", check=False, stdin=subprocess.DEVNULL)
    assert "verify error" in result.stderr + result.stdout


def test_plain_coap_to_the_secure_port(scene, net):
    drops = scene.counter("drop_dtls_malformed")
    answer = coap_client(net, f"coap://{GATEWAY4}:5684/hello", timeout=2)
    assert answer.code is None
    assert scene.counter("drop_dtls_malformed") > drops


# Reload.

def test_sighup_reads_the_keys_again(scene, net):
    """A new identity is known from then on; one that is gone is not; what is wrong changes nothing."""
    assert coaps_client(net, "/hello", *psk("device-3", "sesame-sesame-03"), timeout=5).code is None
    try:
        dtls.write_keys(scene.folder, dtls.KEYS | {"device-3": b"sesame-sesame-03".hex()})
        scene.rig.gateway.process.send_signal(signal.SIGHUP)
        wait_until("it is known", lambda: coaps_client(
            net, "/hello", *psk("device-3", "sesame-sesame-03"), timeout=3).code == "2.05")
        (scene.folder / "psk").write_text("device-1:not hexadecimal\n")
        scene.rig.gateway.process.send_signal(signal.SIGHUP)
        wait_until("it is said", lambda: "psk:1" in scene.rig.gateway.log())
        assert coaps_client(net, "/hello", *psk("device-3", "sesame-sesame-03")).code == "2.05"
    finally:
        dtls.write_keys(scene.folder)
        scene.rig.gateway.process.send_signal(signal.SIGHUP)
    wait_until("it is unknown again", lambda: coaps_client(
        net, "/hello", *psk("device-3", "sesame-sesame-03"), timeout=3).code is None)
    assert coaps_client(net, "/hello", *psk()).code == "2.05"
