"""Requests through the proxy and to the gateway itself: methods, options by class, No-Response, Echo,
preconditions, Hop-Limit, hosts and stripped prefixes. On a TAP."""

import concurrent.futures

import pytest

import wire
from client import Client
from conftest import shared_rig
from gateway import LISTENERS, small
from netns import wait_until
from resources import Origin, Resource, piggybacked
from transports import GATEWAY4, HOST4

# Nothing is cached: a test wants to see its own request at the origin.
ROUTES = f"""
cache: {{size: 0}}
upstreams:
  - {{name: one, servers: ["coap://{HOST4}:5701"], transmission: {{nstart: 64}}}}
  - {{name: two, servers: ["coap://{HOST4}:5702"], transmission: {{nstart: 64}}}}
routes:
  - {{path: /, to: one}}
  - {{path: /cut/here, to: one, strip: true}}
  - {{path: /whole, to: one, strip: false}}
  - {{host: two.example, path: /, to: two}}
  - {{host: two.example, path: /cut, to: one, strip: true}}
  - {{path: /hello, respond: {{payload: "hello world!", content_format: text/plain, max_age: 60s}}}}
  - {{path: /blank, respond: {{payload: ""}}}}
  - {{path: /long, respond: {{payload: "{'0123456789' * 40}"}}}}
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with shared_rig(tmp_path_factory.mktemp("requests"), small() + LISTENERS + ROUTES) as one:
        yield one


@pytest.fixture
def net(shared):
    return shared.hosts.namespace


@pytest.fixture
def one(net):
    with Origin(net, HOST4, 5701) as origin:
        yield origin


@pytest.fixture
def two(net):
    with Origin(net, HOST4, 5702) as origin:
        yield origin


@pytest.fixture
def client(net):
    return Client(net)


# Methods.

@pytest.mark.core
@pytest.mark.parametrize("method, name", [
    (wire.GET, "GET"), (wire.POST, "POST"), (wire.PUT, "PUT"), (wire.DELETE, "DELETE"),
    (wire.FETCH, "FETCH"), (wire.PATCH, "PATCH"), (wire.IPATCH, "iPATCH")])
@pytest.mark.parametrize("kind", [wire.CON, wire.NON], ids=["con", "non"])
def test_method_goes_through(one, client, method, name, kind):
    """RFC 7252 5.8, RFC 8132: the method, the payload and its format arrive, and so does the answer."""
    one.answer = lambda m: piggybacked(m, "2.05", [(wire.CONTENT_FORMAT, b"\x2a")], b"done")
    payload = b"" if method in (wire.GET, wire.DELETE) else b"question"
    options = [(wire.CONTENT_FORMAT, b"\x32")] if payload else []
    answer = client.ask(method, f"/m/{name}", payload, type=kind, options=options)
    seen = one.requests[0]
    assert (seen.code, seen.path, seen.payload) == (method, f"/m/{name}", payload)
    assert seen.all(wire.CONTENT_FORMAT) == [v for _, v in options]
    assert (answer.code_text, answer.payload) == ("2.05", b"done")
    assert answer.option(wire.CONTENT_FORMAT) == b"\x2a"
    assert answer.type == (wire.ACK if kind == wire.CON else wire.NON)
    assert len(one.requests) == 1


@pytest.mark.parametrize("method", ["fetch", "patch", "ipatch"])
def test_libcoap_sends_the_newer_methods(shared, one, method):
    one.resources["/m"] = Resource(b"state")
    answer = shared.hosts.client("/m", "-m", method, "-t", "50", "-e", "question")
    assert answer.code == ("2.05" if method == "fetch" else "2.04"), answer.output
    assert one.bodies == [({"fetch": 5, "patch": 6, "ipatch": 7}[method], "/m", b"question")]


def test_unknown_method(one, client):
    """RFC 7252 5.8: a method that the gateway does not know is 4.05 and not forwarded."""
    for path in ("/x", "/hello"):
        assert client.ask(30, path).code_text == "4.05"
    assert one.requests == []


@pytest.mark.core
def test_repeated_request_while_the_origin_thinks(one, client):
    """RFC 7252 4.5, 5.2.2: an Empty ACK first, and again for each repetition; then the answer in a
    message of its own, and that again when the request comes once more. The origin has it once."""
    one.resources["/slow"] = Resource(b"slow")
    one.hold()
    client.acknowledge = False
    request = client.send(wire.request(wire.POST, "/slow", b"x"))
    empty = wire.Message(wire.ACK, wire.EMPTY, request.mid)
    assert client.receive() == empty
    for _ in range(3):
        client.send(request)
        assert client.receive() == empty
    one.release()
    answer = client.receive()
    assert (answer.type, answer.code_text, answer.token) == (wire.CON, "2.04", request.token)
    client.send(wire.Message(wire.ACK, wire.EMPTY, answer.mid))
    client.send(request)
    again = client.receive()
    assert again == empty or (again.code_text, again.token) == ("2.04", request.token)
    assert one.count() == 1


# Options by class (RFC 7252 5.4.6, 5.7.1).

ELECTIVE_SAFE, CRITICAL_SAFE, ELECTIVE_UNSAFE, CRITICAL_UNSAFE, NO_CACHE_KEY = (
    65000, 65001, 65002, 65003, 65020)


@pytest.mark.core
@pytest.mark.parametrize("number", [ELECTIVE_SAFE, CRITICAL_SAFE, NO_CACHE_KEY])
def test_safe_option_is_forwarded(one, client, number):
    one.answer = lambda m: piggybacked(m, "2.05", [(number, b"back")])
    answer = client.get("/x", options=[(number, b"there")])
    assert one.requests[0].all(number) == [b"there"]
    assert answer.code_text == "2.05" and answer.all(number) == [b"back"]


@pytest.mark.core
@pytest.mark.parametrize("number", [ELECTIVE_UNSAFE, CRITICAL_UNSAFE])
@pytest.mark.parametrize("kind", [wire.CON, wire.NON], ids=["con", "non"])
def test_unsafe_option_is_refused(one, client, number, kind):
    """What a proxy does not know and must not pass on is 4.02, whether critical or not."""
    answer = client.get("/x", type=kind, options=[(number, b"there")])
    assert answer.code_text == "4.02", answer
    assert one.requests == []


@pytest.mark.parametrize("number", [ELECTIVE_UNSAFE, CRITICAL_UNSAFE])
def test_unsafe_option_in_the_answer(one, client, number):
    one.answer = lambda m: piggybacked(m, "2.05", [(number, b"back")], b"x")
    assert client.get("/x").code_text == "5.02"


def test_resource_of_the_gateway_and_unknown_options(client):
    """Critical: 4.02 to a CON, a rejection of a NON. Elective: ignored (RFC 7252 5.4.1)."""
    assert client.get("/hello", options=[(ELECTIVE_SAFE, b"x")]).code_text == "2.05"
    assert client.get("/hello", options=[(ELECTIVE_UNSAFE, b"x")]).code_text == "2.05"
    assert client.get("/hello", options=[(CRITICAL_SAFE, b"x")]).code_text == "4.02"
    client.send(wire.request(wire.GET, "/hello", type=wire.NON, options=[(CRITICAL_SAFE, b"x")]))
    try:
        rejected = client.receive(0.5)
        assert rejected.type == wire.RST
    except TimeoutError:
        pass


def test_surplus_of_an_option_that_does_not_repeat(one, client):
    """RFC 7252 5.4.5: the second one is an unknown option: critical and unsafe here."""
    twice = [(wire.URI_HOST, b"a.example"), (wire.URI_HOST, b"b.example")]
    assert client.get("/x", options=twice).code_text == "4.02"
    # Elective and safe to forward: it may go on, or not, but harms nobody.
    twice = [(wire.CONTENT_FORMAT, b""), (wire.CONTENT_FORMAT, b"")]
    assert client.get("/x", options=twice).code_text == "4.04"


def test_option_of_a_wrong_length(one, client):
    """RFC 7252 5.4.3: treated as unknown; If-None-Match is critical and safe, Accept is so too."""
    assert client.get("/hello", options=[(wire.ACCEPT, b"123")]).code_text == "4.02"
    one.answer = lambda m: piggybacked(m, "2.05")
    assert client.get("/x", options=[(wire.URI_PORT, b"123")]).code_text == "4.02"


def test_options_keep_their_order(one, client):
    one.answer = lambda m: piggybacked(m, "2.05")
    request = wire.request(wire.POST, "/b/a/b", b"p", query=("z=1", "a=2", "z=1"),
                           options=[(ELECTIVE_SAFE, b"2"), (ELECTIVE_SAFE, b"1")])
    assert client.exchange(request).code_text == "2.05"
    seen = one.requests[0]
    request.options.sort(key=lambda o: o[0])
    assert [o for o in seen.options if o[0] != wire.HOP_LIMIT] == request.options
    assert seen.token != request.token and len(seen.token) == 8


# Hop-Limit (RFC 8768).

@pytest.mark.core
@pytest.mark.parametrize("sent, seen", [(None, 16), (255, 254), (16, 15), (2, 1)])
def test_hop_limit_counts_down(one, client, sent, seen):
    one.answer = lambda m: piggybacked(m, "2.05")
    options = [] if sent is None else [(wire.HOP_LIMIT, wire.uint(sent))]
    assert client.get("/x", options=options).code_text == "2.05"
    assert one.requests[0].uint(wire.HOP_LIMIT) == seen


@pytest.mark.core
def test_hop_limit_at_its_end(one, client):
    assert client.get("/x", options=[(wire.HOP_LIMIT, b"\x01")]).code_text == "5.08"
    assert client.get("/x", options=[(wire.HOP_LIMIT, b"")]).code_text == "4.00"
    assert client.get("/x", options=[(wire.HOP_LIMIT, b"\x00")]).code_text == "4.00"
    assert client.get("/x", options=[(wire.HOP_LIMIT, b"\x01\x00")]).code_text == "4.00"
    assert one.requests == []
    assert client.get("/hello", options=[(wire.HOP_LIMIT, b"\x01")]).code_text == "2.05"


def test_gateways_that_point_at_each_other(rig):
    """A loop ends with 5.08: the origin sends everything back, as a gateway would whose own origin is
    the first one."""
    hosts = rig(small() + LISTENERS + ROUTES).hosts
    back = Client(hosts.namespace)

    def bounce(message):
        hops = message.uint(wire.HOP_LIMIT) - 1
        back.send(wire.request(message.code, message.path, message.payload,
                               options=[(wire.HOP_LIMIT, wire.uint(hops))]))
        return False
    with Origin(hosts.namespace, HOST4, 5701, answer=bounce) as origin:
        Client(hosts.namespace).send(wire.request(wire.POST, "/x", b"p", type=wire.NON))
        answer = back.receive()
        while answer.code == wire.EMPTY:
            answer = back.receive()
        assert answer.code_text == "5.08"
        assert [m.uint(wire.HOP_LIMIT) for m in origin.requests] == list(range(16, 0, -2))


# Hosts and paths.

@pytest.mark.core
def test_host_chooses_the_route(one, two, client):
    one.answer = two.answer = lambda m: piggybacked(m, "2.05", [], m.path.encode())
    assert client.get("/a", host="two.example").code_text == "2.05"
    assert client.get("/a", host="TWO.Example").code_text == "2.05"
    assert (one.count(), two.count()) == (0, 2)
    assert client.get("/a", host="three.example").code_text == "2.05"
    assert client.get("/a").code_text == "2.05"
    assert (one.count(), two.count()) == (2, 2)
    assert all(m.option(wire.URI_HOST) is None for m in two.requests)


@pytest.mark.core
def test_prefix_is_stripped(one, client):
    one.answer = lambda m: piggybacked(m, "2.05", [], m.path.encode())
    for asked, seen in (("/cut/here/a/b", "/a/b"), ("/cut/here", "/"), ("/cut/her", "/cut/her"),
                        ("/cut/here/cut/here", "/cut/here"), ("/whole/a", "/whole/a")):
        assert client.get(asked).payload.decode() == seen
    assert client.get("/cut/a", host="two.example").payload == b"/a"


@pytest.mark.core
def test_location_gets_its_prefix_back(one, client):
    """RFC 7252 5.10.7: the new resource's path is one that the client can ask for."""
    one.answer = lambda m: piggybacked(m, "2.01", [
        (wire.LOCATION_PATH, b"new"), (wire.LOCATION_PATH, b"7"), (wire.LOCATION_QUERY, b"q=1")])
    answer = client.ask(wire.POST, "/cut/here/list", b"x")
    assert answer.code_text == "2.01"
    assert answer.all(wire.LOCATION_PATH) == [b"cut", b"here", b"new", b"7"]
    assert answer.all(wire.LOCATION_QUERY) == [b"q=1"]
    answer = client.ask(wire.POST, "/whole/list", b"x")
    assert answer.all(wire.LOCATION_PATH) == [b"new", b"7"]


# No-Response (RFC 7967).

@pytest.mark.core
@pytest.mark.parametrize("value, code, suppressed", [
    (0, "2.04", False), (2, "2.04", True), (2, "4.04", False), (8, "4.04", True),
    (8, "2.04", False), (16, "5.00", True), (26, "2.04", True), (26, "4.00", True),
    (26, "5.01", True)])
@pytest.mark.parametrize("kind", [wire.CON, wire.NON], ids=["con", "non"])
def test_no_response(one, client, value, code, suppressed, kind):
    """The class that is not wanted does not come: to a CON only an Empty ACK, to a NON nothing."""
    one.answer = lambda m: piggybacked(m, code)
    without_answer(client, wire.PUT, "/x", value, kind, suppressed)
    assert len(one.requests) == 1 and one.requests[0].option(wire.NO_RESPONSE) is None


@pytest.mark.parametrize("method, value, suppressed", [
    (wire.GET, 2, True), (wire.GET, 24, False), (wire.PUT, 8, True), (wire.PUT, 2, False)])
@pytest.mark.parametrize("kind", [wire.CON, wire.NON], ids=["con", "non"])
def test_no_response_of_the_gateway(client, method, value, suppressed, kind):
    """GET is 2.05 there, PUT is 4.05."""
    without_answer(client, method, "/hello", value, kind, suppressed)


def without_answer(client, method, path, value, kind, suppressed):
    message = client.send(wire.request(method, path, type=kind,
                                       options=[(wire.NO_RESPONSE, wire.uint(value))]))
    if not suppressed:
        answer = client.receive()
        assert answer.token == message.token and answer.code != wire.EMPTY
    elif kind == wire.CON:
        answer = client.receive()
        assert (answer.type, answer.code, answer.mid) == (wire.ACK, wire.EMPTY, message.mid)
    assert client.is_quiet(), client.inbox


# Content negotiation and preconditions of what the gateway holds (RFC 7252 5.10).

def etag_of(client, path):
    return client.get(path).option(wire.ETAG)


@pytest.mark.core
def test_accept(client):
    assert client.get("/hello", options=[(wire.ACCEPT, b"")]).code_text == "2.05"
    assert client.get("/hello", options=[(wire.ACCEPT, b"\x32")]).code_text == "4.06"
    # A representation whose format nobody has told meets no wish but is what there is.
    assert client.get("/long").option(wire.CONTENT_FORMAT) is None


@pytest.mark.core
def test_validation(client):
    tag = etag_of(client, "/hello")
    assert 1 <= len(tag) <= 8
    answer = client.get("/hello", options=[(wire.ETAG, b"other"), (wire.ETAG, tag)])
    assert (answer.code_text, answer.payload, answer.option(wire.ETAG)) == ("2.03", b"", tag)
    assert answer.uint(wire.MAX_AGE) == 60
    assert client.get("/hello", options=[(wire.ETAG, b"other")]).code_text == "2.05"


@pytest.mark.core
def test_preconditions(client):
    tag = etag_of(client, "/hello")
    assert client.get("/hello", options=[(wire.IF_MATCH, tag)]).code_text == "2.05"
    assert client.get("/hello", options=[(wire.IF_MATCH, b"")]).code_text == "2.05"
    assert client.get("/hello", options=[(wire.IF_MATCH, b"other")]).code_text == "4.12"
    either = [(wire.IF_MATCH, b"other"), (wire.IF_MATCH, tag)]
    assert client.get("/hello", options=either).code_text == "2.05"
    assert client.get("/hello", options=[(wire.IF_NONE_MATCH, b"")]).code_text == "4.12"


def test_preconditions_are_the_origins_business(one, client):
    one.answer = lambda m: piggybacked(m, "4.12")
    options = [(wire.IF_MATCH, b"tag"), (wire.IF_NONE_MATCH, b"")]
    assert client.ask(wire.PUT, "/x", b"p", options=options).code_text == "4.12"
    assert [o for o in one.requests[0].options if o in options] == options


def test_empty_representation(client):
    answer = client.get("/blank")
    assert (answer.code_text, answer.payload) == ("2.05", b"")


# 4.29 (RFC 8516).

@pytest.mark.core
def test_client_with_too_many_requests(rig):
    """One client's share is used up: 4.29 with Max-Age for it, and service for others."""
    hosts = rig(small(client_requests=4) + LISTENERS + ROUTES).hosts
    with Origin(hosts.namespace, HOST4, 5701) as origin:
        greedy, modest = Client(hosts.namespace), Client(hosts.namespace)
        origin.resources = {f"/r{i}": Resource(b"late") for i in range(5)}
        origin.hold()
        asked = [greedy.send(wire.request(wire.GET, f"/r{i}", type=wire.NON)) for i in range(4)]
        wait_until("four requests wait", lambda: origin.count() == 4)
        answer = greedy.get("/r4")
        assert answer.code_text == "4.29" and answer.uint(wire.MAX_AGE) > 0
        assert origin.count() == 4
        with concurrent.futures.ThreadPoolExecutor() as pool:
            other = pool.submit(modest.get, "/r4")
            wait_until("the other client's request goes on", lambda: origin.count() == 5)
            origin.release()
            assert other.result().payload == b"late"
        tokens = {greedy.receive().token for _ in asked}
        assert tokens == {m.token for m in asked}
        assert greedy.get("/r4").code_text == "2.05"


# Echo and the limit of amplification (RFC 9175 2).

def ip_bytes(message):
    """What a message takes on the wire over IPv4 and UDP."""
    return 28 + len(message.encode())


@pytest.fixture(scope="module")
def careful(tmp_path_factory):
    text = small(amplification=3) + LISTENERS + ROUTES
    with shared_rig(tmp_path_factory.mktemp("echo"), text) as one:
        yield one.hosts


@pytest.fixture
def wary_origin(careful):
    big = {"/big": Resource(bytes(range(256)) * 3)}
    with Origin(careful.namespace, HOST4, 5701, big) as origin:
        yield origin


@pytest.mark.core
@pytest.mark.parametrize("path", ["/long", "/big"])
def test_unproven_client_is_challenged(careful, wary_origin, path):
    """The long answer comes when the client has shown that it is where it says."""
    client, stranger = Client(careful.namespace), Client(careful.namespace)
    request = wire.request(wire.GET, path)
    challenge = client.exchange(request)
    assert challenge.code_text == "4.01", challenge
    echo = challenge.option(wire.ECHO)
    assert 1 <= len(echo) <= 40
    assert ip_bytes(challenge) <= 3 * ip_bytes(request)
    stolen = stranger.get(path, options=[(wire.ECHO, echo)])
    assert stolen.code_text == "4.01", "an Echo value of another client"
    answer = client.get(path, options=[(wire.ECHO, echo)])
    assert answer.code_text == "2.05" and ip_bytes(answer) > 3 * ip_bytes(request)
    assert client.get(path).code_text == "2.05", "the client is proven now"
    assert all(m.option(wire.ECHO) in (None, echo) for m in wary_origin.requests)


@pytest.mark.core
def test_short_answers_need_no_proof(careful, wary_origin):
    client = Client(careful.namespace)
    assert client.get("/hello").code_text == "2.05"
    assert client.get("/nothing").code_text == "4.04"


def test_libcoap_passes_the_challenge(careful, wary_origin):
    answer = careful.client("/long")
    assert (answer.code, answer.payload) == ("2.05", "0123456789" * 40), answer.output


def test_challenge_of_the_origin(careful, wary_origin):
    """The origin's own Echo is the client's to answer."""
    wary_origin.answer = lambda m: piggybacked(m, "2.05", [], b"x") if m.option(wire.ECHO) == b"prove" \
        else piggybacked(m, "4.01", [(wire.ECHO, b"prove")])
    client = Client(careful.namespace)
    challenge = client.get("/x")
    assert (challenge.code_text, challenge.option(wire.ECHO)) == ("4.01", b"prove")
    assert client.get("/x", options=[(wire.ECHO, b"prove")]).payload == b"x"


@pytest.mark.core
def test_long_answer_to_an_unsafe_request(careful, wary_origin):
    """It was carried out, so that no challenge can come any more: the answer is cut into blocks."""
    body = bytes(range(250)) * 3
    wary_origin.answer = lambda m: piggybacked(m, "2.04", [], body)
    client = Client(careful.namespace)
    request = wire.request(wire.POST, "/do", b"it")
    answer = client.exchange(request)
    assert answer.code_text == "2.04" and answer.block(wire.BLOCK2)[1] == 1, answer
    assert ip_bytes(answer) <= 3 * ip_bytes(request)
    assert answer.payload and body.startswith(answer.payload)
    assert wary_origin.count() == 1
