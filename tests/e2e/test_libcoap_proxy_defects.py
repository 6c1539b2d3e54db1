"""What goes wrong in the proxy of libcoap's example server, by observation of it (develop, 4.3.5):
each defect with a test that shows that coapgw does not have it. On a TAP."""

import os
import time

import pytest

import wire
from client import QUIET, Client
from conftest import coap_client, shared_rig
from gateway import LISTENERS, small
from netns import wait_until
from resources import Origin, Resource, piggybacked
from transports import GATEWAY4, HOST4

CONFIG = f"""
upstreams:
  - name: o
    servers: ["coap://{HOST4}:5701"]
    timeout: 1s
    transmission: {{nstart: 64}}
  - name: narrow
    servers: ["coap://{HOST4}:5701"]
    ports: 1
  - name: silent
    servers: ["coap://{HOST4}:5702"]
    transmission: {{ack_timeout: 500ms, max_retransmit: 1}}
  - {{name: closed, servers: ["coap://{HOST4}:5703"], transmission: {{ack_timeout: 60s}}}}
routes:
  - {{path: /, to: o}}
  - {{path: /narrow, to: narrow}}
  - {{path: /silent, to: silent}}
  - {{path: /closed, to: closed}}
forward_proxy:
  allow: [{HOST4}]
  ports: 1
  transmission: {{nstart: 64}}
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with shared_rig(tmp_path_factory.mktemp("defects"), small() + LISTENERS + CONFIG) as one:
        yield one


@pytest.fixture
def net(shared):
    return shared.hosts.namespace


@pytest.fixture
def origin(net):
    with Origin(net, HOST4, 5701) as origin:
        yield origin


@pytest.fixture
def client(net):
    return Client(net)


def proxy_uri(path, port=5701):
    return (wire.PROXY_URI, f"coap://{HOST4}:{port}{path}".encode())


@pytest.mark.core
def test_1_reverse_proxy_needs_no_proxy_option(net, origin):
    """Defect: a request without a proxy option is answered 4.04 by a reverse proxy."""
    origin.resources["/d1"] = Resource(b"there")
    answer = coap_client(net, f"coap://{GATEWAY4}/d1")
    assert (answer.code, answer.payload) == ("2.05", "there"), answer.output


@pytest.mark.core
def test_2_path_and_query_do_not_vanish(net, origin, client):
    """Defect: with Uri-Host or Uri-Port beside Proxy-Scheme or Proxy-Uri the rest of the options is
    lost, and the root's representation comes as success. coap-client itself asks like that."""
    origin.resources["/"] = Resource(b"the root")
    origin.answer = lambda m: None if m.path == "/" else piggybacked(
        m, "2.05", [], b"%s %s" % (m.path.encode(), b"&".join(m.all(wire.URI_QUERY))))
    port = (wire.URI_PORT, wire.uint(5701))
    scheme = client.get("/d2/a", host=HOST4, query=("q=1", "r"),
                        options=[(wire.PROXY_SCHEME, b"coap"), port])
    assert scheme.payload == b"/d2/a q=1&r"
    both = client.get("", options=[proxy_uri("/d2/b?q=1&r"), (wire.URI_HOST, HOST4.encode()), port])
    assert both.payload == b"/d2/b q=1&r"
    assert all(m.uint(wire.HOP_LIMIT) == 16 for m in origin.requests)
    answer = coap_client(net, f"coap://{HOST4}:5701/d2/c?q=1", "-P", f"coap://{GATEWAY4}")
    assert (answer.code, answer.payload) == ("2.05", "/d2/c q=1"), answer.output


@pytest.mark.core
def test_3_proxy_uri_wins_over_uri_path(origin, client):
    """Defect: both are used, one behind the other."""
    origin.answer = lambda m: piggybacked(m, "2.05", [], m.path.encode())
    answer = client.get("/async", query=("x",), options=[proxy_uri("/d3")])
    assert answer.payload == b"/d3"
    assert origin.requests[0].option(wire.URI_QUERY) is None


@pytest.mark.core
def test_4_second_request_finds_the_first_ones_session(origin, net):
    """Defect: the target's name outlives the request that held it, so that memory is read after its
    end, or each request opens a session of its own. (With sanitizers the first is seen, too.)"""
    origin.answer = lambda m: piggybacked(m, "2.05", [], m.path.encode())
    for i in range(30):
        client = Client(net)
        assert client.get("", options=[proxy_uri(f"/d4/{i}")]).payload == b"/d4/%d" % i
        assert client.get(f"/narrow/{i}").payload == b"/narrow/%d" % i
    assert len(set(origin.peers)) <= 2, "one source port for each of the two ways"


@pytest.mark.core
def test_5_answer_of_one_client_never_reaches_another(shared, origin, net):
    """Defect: token values come again while old requests are remembered: B's answer went to A. Here
    A has given up when the origin answers; and no token ever comes twice."""
    origin.hold()
    early, late = Client(net), Client(net)
    origin.resources = {"/d5/secret": Resource(b"for A alone"), "/d5/other": Resource(b"for B")}
    asked = early.send(wire.request(wire.POST, "/d5/secret", b"mine"))
    wait_until("the origin has it", lambda: origin.count("/d5/secret") == 1)
    while (answer := early.receive()).code == wire.EMPTY:
        pass
    assert (answer.token, answer.code_text) == (asked.token, "5.04")
    late.send(wire.request(wire.GET, "/d5/other", token=asked.token, type=wire.NON))
    wait_until("the origin has that, too", lambda: origin.count("/d5/other") == 1)
    origin.release()
    assert late.receive().payload == b"for B"
    assert early.is_quiet() and late.is_quiet()
    for i in range(300):
        late.get(f"/d5/{i}")
    tokens = [m.token for m in origin.requests]
    assert len(set(tokens)) == len(tokens) and all(len(t) == 8 for t in tokens)


def test_6_observation_outlives_other_traffic(rig):
    """Defect: an idle timer that knows only requests cancels observations that are alive. Here 600
    clients come and go, more than there is room for; whoever observes and whoever is observed stay."""
    one = rig(small(sessions=128, client_requests=64) + LISTENERS + CONFIG)
    namespace = one.hosts.namespace
    watched = {"/d6": Resource(b"0", observable=True, max_age=600)}
    with Origin(namespace, HOST4, 5701, watched) as origin:
        watcher, token = Client(namespace), os.urandom(4)
        assert watcher.observe("/d6", token).option(wire.OBSERVE) is not None
        for i in range(600):
            passer = Client(namespace)
            passer.get(f"/d6/{i}")
            passer.sock.close()
            if i % 100 == 99:
                origin.change("/d6", b"state %d" % i)
                assert watcher.until(token, b"state %d" % i)
        assert one.gateway.counter("sessions_evicted") > 400
        assert len(origin.registered) == 1 and not origin.cancelled


@pytest.mark.core
def test_7_observations_are_shared_and_end(origin, net):
    """Defect: an observation at the origin for each client; neither a Reset nor Observe=1 ends it."""
    origin.resources["/d7"] = Resource(b"0", observable=True, max_age=600)
    clients = [Client(net) for _ in range(20)]
    tokens = [os.urandom(4) for _ in clients]
    for client, token in zip(clients, tokens):
        client.observe("/d7", token)
        client.acknowledge = False
    assert len(origin.registered) == 1
    origin.change("/d7", b"1")
    for i, (client, token) in enumerate(zip(clients, tokens)):
        seen = client.until(token, b"1")[-1]
        if i % 2:
            client.send(wire.Message(wire.RST, wire.EMPTY, seen.mid))
        else:
            client.cancel("/d7", token)
    wait_until("the observation is cancelled", lambda: len(origin.cancelled) == 1)
    assert origin.cancelled[0].token == origin.registered[0].token
    origin.change("/d7", b"2")
    assert all(client.is_quiet(0.05) for client in clients)


@pytest.mark.core
def test_8_nobody_waits_for_ever(net, client):
    """Defect: an origin that is silent or not there is never told to the client."""
    hole = net.socket()
    hole.bind((HOST4, 5702))
    for kind in (wire.CON, wire.NON):
        assert client.get("/silent", type=kind).code_text == "5.04"
        assert client.ask(wire.POST, "/silent", b"x", type=kind).code_text == "5.04"
        assert client.get("/closed", type=kind).code_text == "5.04"
        assert client.get("", type=kind, options=[proxy_uri("/", 5703)]).code_text == "5.04"
    hole.close()


@pytest.mark.core
def test_9_options_of_the_answer_stay_as_they_are(origin, client):
    """Defect: 2.03 loses ETag and Max-Age, 2.04 its ETag, a zero at the front of an ETag goes, and
    text/plain comes where nobody has said it, even on a diagnostic payload."""
    origin.resources["/d9"] = Resource(b"x", etag=b"\x00\x01", max_age=100)
    first = client.get("/d9")
    assert first.option(wire.ETAG) == b"\x00\x01"
    assert first.option(wire.CONTENT_FORMAT) is None
    valid = client.get("/d9", options=[(wire.ETAG, b"\x00\x01")])
    assert (valid.code_text, valid.option(wire.ETAG)) == ("2.03", b"\x00\x01")
    assert 1 <= valid.uint(wire.MAX_AGE) <= 100
    origin.answer = lambda m: piggybacked(m, "2.04", [(wire.ETAG, b"\x00\x02")])
    assert client.ask(wire.PUT, "/d9", b"y").option(wire.ETAG) == b"\x00\x02"
    origin.answer = lambda m: piggybacked(m, "4.03", [], b"a diagnostic")
    refused = client.get("/d9/refused")
    assert (refused.payload, refused.option(wire.CONTENT_FORMAT)) == (b"a diagnostic", None)


@pytest.mark.core
@pytest.mark.parametrize("number, forwarded", [
    (65000, True), (65001, True), (65002, False), (65003, False)],
    ids=["elective-safe", "critical-safe", "elective-unsafe", "critical-unsafe"])
def test_10_unknown_options_by_class(origin, client, number, forwarded):
    """Defect: an unknown option that is elective and unsafe to forward is forwarded."""
    origin.answer = lambda m: piggybacked(m, "2.05")
    for options in ([(number, b"v")], [(number, b"v"), proxy_uri("/d10/forward")]):
        answer = client.ask(wire.POST, "/d10" if len(options) == 1 else "", b"p", options=options)
        assert answer.code_text == ("2.05" if forwarded else "4.02")
    assert [m.all(number) for m in origin.requests] == ([[b"v"]] * 2 if forwarded else [])


@pytest.mark.core
def test_11_cache_age_hops_and_targets(net, origin, client):
    """Defect: nothing is cached and no age taken off, no Hop-Limit put in, and any target is fine."""
    origin.resources["/d11"] = Resource(b"x", max_age=100)
    assert client.get("/d11").uint(wire.MAX_AGE) == 100
    time.sleep(1.1)
    assert client.get("/d11").uint(wire.MAX_AGE) < 100
    assert origin.count("/d11") == 1
    assert origin.requests[0].uint(wire.HOP_LIMIT) == 16
    for target in ("127.0.0.1", "10.99.0.77", "[::1]", "169.254.169.254", GATEWAY4 + ":5699"):
        uri = f"coap://{target}/".encode()
        assert client.get("", options=[(wire.PROXY_URI, uri)]).code_text == "4.03"


@pytest.mark.core
def test_11_targets_and_queues_are_bounded(rig):
    """Defect: no limit on targets or on what waits."""
    text = CONFIG.replace("    timeout: 1s\n", "    timeout: 20s\n    max_outstanding: 8\n")
    text = text.replace(f"allow: [{HOST4}]", f"allow: [{HOST4}]\n  max_outstanding: 8")
    one = rig(small(destinations=4, client_requests=1000) + LISTENERS + text)
    with Origin(one.hosts.namespace, HOST4, 5701) as origin:
        origin.hold()
        client = Client(one.hosts.namespace)
        for i in range(50):
            client.send(wire.request(wire.POST, f"/{i}", b"p", type=wire.NON))
        refused = [client.receive() for _ in range(42)]
        assert {m.code_text for m in refused} == {"5.03"}
        assert all(m.uint(wire.MAX_AGE) > 0 for m in refused)
        origin.release()
        assert {client.receive().code >> 5 for _ in range(8)} == {2}
        assert client.is_quiet(QUIET)
    # Closed ports, each a target of its own: more than are remembered, and all are answered.
    for port in range(5710, 5730):
        assert client.get("", options=[proxy_uri("/", port)]).code_text in ("5.04", "5.03")
