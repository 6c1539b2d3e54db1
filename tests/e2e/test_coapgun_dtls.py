"""The load generator over DTLS, against libcoap's server with OpenSSL and with GnuTLS, and against the
gateway."""

import subprocess

import pytest

from gateway import small
from netns import Namespace, wait_until
from test_coapgun import GATEWAY, KEYS, ORIGIN, DirectMemif, gun  # noqa: F401 (a fixture)
from transports import GATEWAY4

SECRET = "a secret"
KEY = SECRET.encode().hex()
OTHERS = {"device-1": "of the second", "device-3": "of the fourth"}
SECURE = {"suite": str, "handshakes": int, "handshakes_failed": int, "handshake_fault": str,
          "handshake_seconds": float, "association_bytes": float, "handshake_p50_ns": int,
          "handshake_p90_ns": int, "handshake_p99_ns": int, "handshake_p999_ns": int,
          "handshake_p9999_ns": int, "handshake_max_ns": int, "records_refused": int,
          "associations_closed": int}
PLACE = ["--kernel", "--target", "127.0.0.1"]
DEVICES = 300
DEVICE_KEY = "000102030405060708090a0b0c0d0e0f"


def serve(namespace, program, *options):
    namespace.popen(program, "-A", "127.0.0.1", "-p", "5683", "-v", "0", "-k", SECRET, *options,
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until("the server listens", lambda: ":1634 " in namespace.run("cat", "/proc/net/udp").stdout)


@pytest.fixture(scope="module", params=["coap-server-openssl", "coap-server-gnutls"])
def server(request):
    namespace = Namespace("gun")
    try:
        serve(namespace, request.param)
        yield namespace
    finally:
        namespace.close()


@pytest.fixture(scope="module")
def identities(tmp_path_factory):
    """A server that has a key of its own for some identities."""
    path = tmp_path_factory.mktemp("psk") / "identities"
    path.write_text("".join(f"CoAP,{name},{key}\n" for name, key in OTHERS.items()))
    namespace = Namespace("gun")
    try:
        serve(namespace, "coap-server-openssl", "-i", path)
        yield namespace
    finally:
        namespace.close()


@pytest.mark.parametrize("suite", ["ccm8", "gcm", "chacha"])
def test_gets(gun, server, suite):
    result = gun(server, *PLACE, "--psk", f"device:{KEY}", "--suite", suite, "--endpoints", 20,
                 "--path", "/time", "--window", 8)
    j = result.right()
    assert j["answered"] > 0 and j["codes"] == {"2.05": j["answered"]}
    assert set(j) == set(KEYS | SECURE)
    assert all(isinstance(j[key], kind) for key, kind in SECURE.items()), j
    assert (j["suite"], j["handshakes"], j["handshakes_failed"]) == (suite, 20, 0)
    assert 0 < j["handshake_p50_ns"] <= j["handshake_p99_ns"] <= j["handshake_max_ns"]
    assert (j["records_refused"], j["associations_closed"]) == (0, 0)
    assert "20 handshakes in" in result.output


def test_an_offered_connection_id_that_is_not_taken(gun, server):
    """libcoap's libraries do not speak RFC 9146: records are ordinary ones then."""
    j = gun(server, *PLACE, "--psk", f"device:{KEY}", "--cid", 4, "--endpoints", 5, "--path", "/time",
            "--window", 4).right()
    assert j["handshakes"] == 5 and j["answered"] > 0


def test_an_open_loop_with_posts(gun, server):
    """A path of its own for each device would have to be made first: PUT does that."""
    j = gun(server, *PLACE, "--psk", f"device:{KEY}", "--endpoints", 10, "--path", "/example_data",
            "--mix", "get=3,put=1", "--payload", 300, "--rate", 200, duration=2).right()
    assert j["sent"] + j["unsent"] == 400 and set(j["kinds"]) == {"get", "put"}
    assert set(j["codes"]) <= {"2.01", "2.04", "2.05"}


def test_observers(gun, server):
    j = gun(server, *PLACE, "--psk", f"device:{KEY}", "--endpoints", 10, "--path", "/time",
            "--observe", 10, "--window", 0, duration=3).right()
    assert (j["registered"], j["refused"]) == (10, 0)
    assert j["notifications"] >= 10 and j["sent"] == 0


def test_handshakes_alone(gun, server):
    result = gun(server, *PLACE, "--psk", f"device-%u:{KEY}", "--endpoints", 200, "--handshakes", 10,
                 duration=0)
    assert result.status == 0, result.output
    assert (result.json["handshakes"], result.json["sent"]) == (200, 0)
    assert "10 at a time" in result.output and "answers/s" not in result.output


def test_a_rate_of_handshakes(gun, server):
    result = gun(server, *PLACE, "--psk", f"device:{KEY}", "--endpoints", 20, "--handshake-rate", 10,
                 duration=0)
    assert result.status == 0, result.output
    assert result.json["handshake_seconds"] >= 1.9  # the last one begins after 19 tenths


def test_a_wrong_key(gun, server):
    """Whether there is an alert or silence, it is said, and nothing is measured."""
    result = gun(server, *PLACE, "--psk", "device:00", "--endpoints", 3, "--path", "/time")
    assert result.status == 1 and "3 handshakes failed" in result.output, result.output
    assert (result.json["handshakes"], result.json["handshakes_failed"]) == (0, 3)
    assert "endpoint" in result.json["handshake_fault"] and result.json["sent"] == 0


def test_the_identities_are_numbered(gun, identities):
    """Of five devices, two have other keys."""
    result = gun(identities, *PLACE, "--psk", f"device-%u:{KEY}", "--endpoints", 5, duration=0)
    assert result.status == 1, result.output
    assert (result.json["handshakes"], result.json["handshakes_failed"]) == (3, 2)
    assert any(name in result.json["handshake_fault"] for name in OTHERS)


def test_nobody_speaks_dtls_there(gun, identities):
    """The port of plain CoAP."""
    result = gun(identities, "--kernel", "--target", "127.0.0.1:5683", "--psk", f"device:{KEY}",
                 "--endpoints", 2)
    assert result.status == 1 and "2 handshakes failed" in result.output, result.output


# ---- the gateway ----

@pytest.fixture
def memif(rig, tmp_path):
    """It knows DEVICES identities."""
    path = tmp_path / "psk"
    path.write_text("".join(f"device-{n}:{DEVICE_KEY}\n" for n in range(DEVICES)))
    path.chmod(0o600)
    listener = f"listeners:\n  - uri: coaps://{GATEWAY4}\n    dtls: {{psk: {{file: {path}}}}}\n"
    one = rig(small() + GATEWAY.replace("listeners:\n", listener), transport=DirectMemif)
    return one.transport.hosts, ["--device", one.transport.device, "--target", GATEWAY4, "--source",
                                 "10.99.0.128/25", "--psk", f"device-%u:{DEVICE_KEY}"]


@pytest.mark.parametrize("suite", ["ccm8", "gcm", "chacha"])
@pytest.mark.parametrize("cid", [[], ["--cid", 0], ["--cid", 8]], ids=["plain", "towards-it", "both-ways"])
def test_gets_over_memif(gun, memif, suite, cid):
    namespace, device = memif
    j = gun(namespace, *device, "--suite", suite, *cid, "--expect", "hello world!", "--endpoints", 50,
            "--window", 16, duration=0.5).right()
    assert (j["handshakes"], j["handshakes_failed"]) == (50, 0)
    assert j["answered"] > 0 and j["codes"] == {"2.05": j["answered"]}
    assert (j["records_refused"], j["associations_closed"]) == (0, 0)


def test_the_whole_mix_through_the_gateway(gun, memif):
    """Every kind of request, large bodies among them; the origin is asked in the clear."""
    namespace, device = memif
    j = gun(namespace, *device, "--cid", 3, "--origin", ORIGIN, "--origin-payload", 2500, "--payload",
            3000, "--block", 4, "--con=70", "--path", "/things/%u", "--spread", 500, "--endpoints",
            DEVICES, "--window", 16, "--mix", "get=30,post=20,put=15,delete=10,observe=15,block=10",
            duration=2).right()
    assert set(j["kinds"]) == {"get", "post", "put", "delete", "observe", "block"}
    assert set(j["codes"]) == {"2.02", "2.04", "2.05"}
    assert j["origin_requests"] > 0 and j["declined"] == 0 and j["body_bytes"] > 0


def test_observers_through_the_gateway(gun, memif):
    namespace, device = memif
    j = gun(namespace, *device, "--suite", "gcm", "--origin", ORIGIN, "--path", "/state", "--endpoints",
            DEVICES, "--observe", DEVICES, "--notify-rate", 20, "--window", 0, duration=2).right()
    assert (j["registered"], j["refused"], j["stale"]) == (DEVICES, 0, 0)
    assert j["notifications"] >= DEVICES and j["origin_notifications"] < j["notifications"]


def test_the_gateway_does_not_know_the_last_one(gun, memif):
    namespace, device = memif
    result = gun(namespace, *device, "--endpoints", DEVICES + 1, duration=0)
    assert result.status == 1, result.output
    assert (result.json["handshakes"], result.json["handshakes_failed"]) == (DEVICES, 1)
    assert f"endpoint {DEVICES} as device-{DEVICES}" in result.json["handshake_fault"]


def test_the_same_devices_come_again(gun, memif):
    """From the same addresses; the first run has ended its associations."""
    namespace, device = memif
    for _ in range(2):
        j = gun(namespace, *device, "--expect", "hello world!", "--endpoints", 20, "--window", 4,
                duration=0.3).right()
        assert j["handshakes"] == 20
