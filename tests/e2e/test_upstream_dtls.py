"""Origins over DTLS: libcoap's servers with OpenSSL and with GnuTLS behind a plain listener; with
pre-shared keys and with certificates. On a TAP."""

import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

import dtls
import wire
from admin import Admin
from client import Client
from conftest import coap_client, shared_rig
from dns import Dns
from dtls import TEXT_KEYS
from gateway import BINARY, LISTENERS, small
from netns import wait_until
from transports import GATEWAY4, HOST4

LIBRARIES = [("openssl", 2), ("gnutls", 1)]  # and how many workers the gateway has
KEY = TEXT_KEYS["device-1"]
PSK_PORT, PKI_PORT, ALIVE_PORT = 5800, 5810, 5820  # without DTLS; with it one more
DNS_PORT = 5353
BODY = "".join(f"{i:07d}\n" for i in range(700))


def upstreams(folder, authority, other):
    """Those that cannot work find that out soon."""
    psk = f"identity: device-1, key_file: {folder}/key"
    pki = (f"certificate: {authority.path('gateway.pem')}, key: {authority.path('gateway.key')}, "
           f"ca: {authority.certificate}")
    ciphers = "suites: [TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"
    soon = "transmission: {ack_timeout: 500ms, ack_random_factor: 1, max_retransmit: 2, nstart: 16}"
    rows = [("psk", PSK_PORT, psk, "transmission: {nstart: 16}"),
            ("pki", PKI_PORT, f"{pki}, {ciphers}", "transmission: {nstart: 16}"),
            ("named", PKI_PORT, f"{pki}, {ciphers}, name: origin.example", "transmission: {nstart: 16}"),
            ("wrongkey", PSK_PORT, f"identity: device-1, key_file: {folder}/wrong", soon),
            ("wrongname", PKI_PORT, f"{pki}, {ciphers}, name: other.example", soon),
            ("revoked", PKI_PORT, f"{pki}, {ciphers}, crl: {authority.path('crl.pem')}", soon),
            ("wrongca", PKI_PORT, f"{pki.replace(str(authority.certificate), str(other.certificate))}, {ciphers}",
             soon),
            ("alive", ALIVE_PORT, psk, f"keepalive: 1s, {soon}")]
    text = "admin: {listen: \"127.0.0.1:9683\"}\ncache: {size: 0}\nupstreams:\n"
    for name, port, secure, more in rows:
        text += f"  - {{name: {name}, servers: [\"coaps://{HOST4}:{port + 1}\"], {more},\n      dtls: {{{secure}}}}}\n"
    text += f"""forward_proxy:
  allow: [{HOST4}/32, origin.example, other.example]
  dns_servers: ["{HOST4}:{DNS_PORT}"]
  {soon}
  dtls: {{{pki}, {ciphers}}}
"""
    text += "routes:\n"
    return text + "".join(f"  - {{path: /{name}, to: {name}, strip: true}}\n" for name, *_ in rows)


class Scene:
    def __init__(self, rig, folder, authority, tls):
        self.rig, self.folder, self.authority, self.tls = rig, folder, authority, tls
        self.net = rig.hosts.namespace
        self.admin = Admin(rig.transport.inner)

    def counter(self, name):
        return self.rig.gateway.counter(name)

    def get(self, path, *arguments, timeout=10):
        return coap_client(self.net, f"coap://{GATEWAY4}{path}", *arguments, timeout=timeout)

    def until(self, path, code="2.05"):
        wait_until(f"{path} is {code}", lambda: self.get(path).code == code, timeout=60)

    def servers(self, upstream):
        """Its only server, as each worker sees it."""
        return next(u["servers"][0]["workers"] for u in self.admin.get("/upstreams")["upstreams"]
                    if u["name"] == upstream)

    def all_are(self, upstream, state):
        return {row["state"] for row in self.servers(upstream)} == {state}

    def origin(self, port, *arguments):
        return self.net.popen(f"coap-server-{self.tls}", "-A", HOST4, "-p", port, "-d", 100, "-v", 3,
                              *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)

    def psk_origin(self, port):
        return self.origin(port, "-k", KEY, "-h", "hint")


def end(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module", params=LIBRARIES, ids=[library for library, _ in LIBRARIES])
def scene(request, tmp_path_factory):
    library, workers = request.param
    folder = tmp_path_factory.mktemp(f"upstream-dtls-{library}")
    authority, other = dtls.Authority(folder), dtls.Authority(tmp_path_factory.mktemp("other"), "other")
    authority.issue("gateway", "DNS:gateway.example")
    authority.issue("origin", f"DNS:origin.example,IP:{HOST4}")
    authority.revoke("origin")
    for name, key in ("key", KEY.encode().hex()), ("wrong", "00112233445566778899aabbccddeeff"):
        (folder / name).write_text(key + "\n")
        (folder / name).chmod(0o600)
    with shared_rig(folder, small() + LISTENERS + upstreams(folder, authority, other),
                    workers=workers) as rig:
        scene = Scene(rig, folder, authority, library)
        servers = [scene.psk_origin(PSK_PORT),
                   scene.origin(PKI_PORT, "-c", authority.path("origin.pem"), "-j", authority.path("origin.key"),
                                "-C", authority.certificate)]
        with Dns(scene.net, {"origin.example": [HOST4], "other.example": [HOST4]}, HOST4, DNS_PORT):
            yield scene
        for server in servers:
            end(server)


@pytest.mark.parametrize("upstream", ["psk", "pki", "named"])
def test_requests_are_answered(scene, upstream):
    scene.until(f"/{upstream}/")
    answer = scene.get(f"/{upstream}/")
    assert (answer.code, "libcoap" in answer.payload) == ("2.05", True), answer.output
    assert scene.get(f"/{upstream}/nothing").code == "4.04"
    assert all(row["transport"] == "dtls" for row in scene.servers(upstream))
    assert ("established", "up", 1) in [(row["association"], row["state"], row["associations"])
                                        for row in scene.servers(upstream)]


@pytest.mark.parametrize("upstream", ["psk", "pki"])
def test_bodies_go_in_blocks_both_ways(scene, upstream):
    scene.until(f"/{upstream}/")
    path = f"/{upstream}/body"
    with tempfile.NamedTemporaryFile("w") as body:
        body.write(BODY)
        body.flush()
        answer = scene.get(path, "-m", "put", "-b", 1024, "-f", body.name, timeout=20)
    assert answer.code in ("2.01", "2.04"), answer.output
    answer = scene.get(path, timeout=20)
    assert (answer.code, answer.payload.rstrip("\n")) == ("2.05", BODY.rstrip("\n")), answer.output


@pytest.mark.parametrize("upstream", ["psk", "pki"])
def test_resources_are_observed(scene, upstream):
    """/time changes each second."""
    scene.until(f"/{upstream}/")
    answer = scene.get(f"/{upstream}/time", "-s", 5, "-w", timeout=20)
    assert len(set(answer.payload.split("\n")) - {""}) >= 4, answer.output
    assert "Observe:" in answer.output


@pytest.mark.parametrize("upstream, why", [("wrongname", "mismatch"), ("wrongca", "certificate"),
                                           ("revoked", "revoked")])
def test_a_server_with_a_wrong_certificate_gets_no_request(scene, upstream, why):
    scene.until("/pki/")
    answer = scene.get(f"/{upstream}/", timeout=20)
    assert answer.code == "5.02", answer.output
    wait_until("no worker has one", lambda: scene.all_are(upstream, "down"))
    rows = scene.servers(upstream)
    assert all((row["association"], row["associations"]) == ("none", 0) for row in rows)
    # A worker that was not asked knows that there was no server when it started, no more.
    errors = [row["last_error"] for row in rows if why in row["last_error"]]
    assert errors, rows
    result = scene.rig.transport.inner.run(BINARY.parent / "tools" / "coapgwctl", "upstreams")
    assert errors[0] in result.stdout
    _, _, metrics = scene.admin.ask("GET", "/metrics")
    assert f'upstream="{upstream}",server="{HOST4}:{PKI_PORT + 1}",state="none"' in metrics


@pytest.mark.parametrize("host, code", [(HOST4, "2.05"), ("origin.example", "2.05"), ("other.example", "5.02")])
def test_destinations_of_the_forward_proxy_may_be_secure(scene, host, code):
    """Their certificate has to be for the host that the request names: by its address, or its name."""
    scene.until("/pki/")
    uri = f"coaps://{host}:{PKI_PORT + 1}/".encode()
    answer = Client(scene.net).ask(wire.GET, "", options=[(wire.PROXY_URI, uri)], timeout=20)
    assert answer.code_text == code
    assert code != "2.05" or b"libcoap" in answer.payload


def test_a_wrong_key_finds_no_server(scene):
    """OpenSSL's server is silent then, GnuTLS's says it."""
    scene.until("/psk/")
    answer = scene.get("/wrongkey/", timeout=20)
    assert answer.code in ("5.02", "5.04"), answer.output
    assert not any(row["associations"] for row in scene.servers("wrongkey"))


def test_a_server_that_was_started_anew_is_found_by_keepalive(scene):
    server = scene.psk_origin(ALIVE_PORT)
    scene.until("/alive/")
    down, opened = scene.counter("servers_down"), scene.counter("associations_opened")
    for _ in range(2):
        end(server)
        server = scene.psk_origin(ALIVE_PORT)
        wait_until("there is a new association", timeout=60,
                   condition=lambda: scene.counter("associations_opened") > opened)
        opened = scene.counter("associations_opened")
        scene.until("/alive/")
    end(server)
    wait_until("it is down", lambda: scene.all_are("alive", "down"), timeout=60)
    assert scene.counter("servers_down") > down
    assert scene.get("/alive/", timeout=20).code in ("5.02", "5.04")
    server = scene.psk_origin(ALIVE_PORT)
    wait_until("it is up", lambda: scene.all_are("alive", "up"), timeout=60)
    assert scene.get("/alive/").code == "2.05"
    end(server)


def test_an_observation_outlives_a_restart_of_the_server(scene):
    """It is made anew in the next association; the client, who has been told nothing, gets on."""
    server = scene.psk_origin(ALIVE_PORT)
    scene.until("/alive/")
    with tempfile.NamedTemporaryFile() as body:
        client = scene.net.popen("coap-client-notls", "-s", 40, "-w", "-o", body.name,
                                 f"coap://{GATEWAY4}/alive/time", stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def count():
            return len(set(Path(body.name).read_text().split("\n")) - {""})

        wait_until("it is observed", lambda: count() >= 2, timeout=20)
        end(server)
        server = scene.psk_origin(ALIVE_PORT)
        before = count()
        wait_until("it goes on", lambda: count() >= before + 3, timeout=35)
        end(client)
    end(server)


def test_nothing_goes_to_an_origin_in_clear(scene):
    """From the gateway's first words to a server that was started anew, too."""
    log = scene.folder / "tcpdump.log"
    with open(log, "w") as output:
        dump = scene.net.popen("tcpdump", "-i", "south0", "-l", "-n", "-x", "--immediate-mode",
                               f"udp and dst host {HOST4} and dst port {ALIVE_PORT + 1}",
                               stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    wait_until("tcpdump listens", lambda: "listening on" in log.read_text())
    server = scene.psk_origin(ALIVE_PORT)
    scene.until("/alive/")
    end(server)
    server = scene.psk_origin(ALIVE_PORT)
    scene.until("/alive/")
    wait_until("it has been seen", lambda: len(first_bytes(log.read_text())) > 10)
    end(server)
    scene.net.stop(dump)
    # Content types of records (RFC 6347 4.1); the first byte of a CoAP message is 64 to 127.
    assert set(first_bytes(log.read_text())) <= {20, 21, 22, 23, 25}


def first_bytes(text):
    """Of the UDP payloads in what tcpdump printed: behind 20 bytes of IPv4 and 8 of UDP."""
    found = []
    for packet in re.split(r"\n(?=\S)", text):
        data = "".join(re.findall(r"^\s+0x[0-9a-f]+:\s+(.*)$", packet, re.M)).replace(" ", "")
        if len(data) > 58:
            found.append(int(data[56:58], 16))
    return found
