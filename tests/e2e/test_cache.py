"""The cache: what it answers, for how long and to whom, and what the origin still sees. On a TAP."""

import concurrent.futures
import re
import time

import pytest

import wire
from client import Client
from conftest import shared_rig
from gateway import LISTENERS, small
from netns import wait_until
from resources import Origin, Resource, piggybacked
from transports import HOST4

FAST = "transmission: {nstart: 64, ack_timeout: 200ms, max_retransmit: 1}"
UPSTREAM = f"""
upstreams:
  - {{name: o, servers: ["coap://{HOST4}:5701"], {FAST}}}
  - {{name: other, servers: ["coap://{HOST4}:5702"], {FAST}}}
routes:
  - {{path: /, to: o}}
  - {{host: other.example, path: /, to: other}}
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with shared_rig(tmp_path_factory.mktemp("cache"), small() + LISTENERS + UPSTREAM) as one:
        yield one


@pytest.fixture
def origin(shared):
    with Origin(shared.hosts.namespace, HOST4, 5701) as origin:
        yield origin


@pytest.fixture
def client(shared):
    return Client(shared.hosts.namespace)


@pytest.fixture
def path(request):
    """A path that no other test has asked for."""
    return "/" + re.sub(r"\W", "_", request.node.name)


@pytest.mark.core
def test_hits_are_counted_and_the_origin_sees_one_request(shared, origin, path):
    origin.resources[path] = Resource(b"kept", max_age=60, content_format=42)
    before = shared.gateway.counter("cache_hits")
    clients = [Client(shared.hosts.namespace) for _ in range(5)]
    answers = [c.get(path) for c in clients for _ in range(20)]
    assert {(a.code_text, a.payload, a.option(wire.CONTENT_FORMAT)) for a in answers} == {
        ("2.05", b"kept", b"\x2a")}
    assert origin.count(path) == 1
    assert shared.gateway.counter("cache_hits") == before + 99


def test_hits_with_libcoap(shared, origin, path):
    """coap-client's own requests differ in nothing that counts."""
    origin.resources["/libcoap"] = Resource(b"kept", max_age=60)
    for kind in ((), ("-N",), ()):
        assert shared.hosts.client("/libcoap", *kind).payload == "kept"
    assert origin.count("/libcoap") == 1


@pytest.mark.core
def test_age_is_taken_off_max_age(origin, client, path):
    """RFC 7252 5.6.1, 5.7.1: what is left of the freshness, not what it was."""
    origin.resources[path] = Resource(b"kept", max_age=600)
    assert client.get(path).uint(wire.MAX_AGE) == 600
    time.sleep(2.1)
    left = client.get(path).uint(wire.MAX_AGE)
    assert 500 < left <= 598
    assert origin.count(path) == 1


def test_default_max_age_ages_too(origin, client, path):
    """Without the option it is 60 s: a cached answer must say what is left of them."""
    origin.resources[path] = Resource(b"kept")
    assert client.get(path).uint(wire.MAX_AGE) in (None, 60)
    time.sleep(1.1)
    assert 1 <= client.get(path).uint(wire.MAX_AGE) <= 59
    assert origin.count(path) == 1


@pytest.mark.core
def test_what_is_over_is_asked_again(origin, client, path):
    origin.resources[path] = Resource(b"first", max_age=1)
    assert client.get(path).payload == b"first"
    origin.change(path, b"second")
    wait_until("the entry is stale", lambda: client.get(path).payload == b"second", timeout=10,
               interval=0.3)
    assert origin.count(path) == 2


def test_max_age_zero_is_for_one_request(origin, client, path):
    origin.resources[path] = Resource(b"now", max_age=0)
    for _ in range(3):
        assert client.get(path).payload == b"now"
    assert origin.count(path) == 3


# Validation.

@pytest.mark.core
def test_valid(origin, client, path):
    """2.03 with ETag and Max-Age for who has the representation, and for nobody else."""
    origin.resources[path] = Resource(b"kept", etag=b"\x00\x01", max_age=600)
    first = client.get(path)
    assert (first.code_text, first.option(wire.ETAG)) == ("2.05", b"\x00\x01")
    valid = client.get(path, options=[(wire.ETAG, b"old"), (wire.ETAG, b"\x00\x01")])
    assert (valid.code_text, valid.payload, valid.option(wire.ETAG)) == ("2.03", b"", b"\x00\x01")
    assert 0 < valid.uint(wire.MAX_AGE) <= 600
    assert valid.option(wire.CONTENT_FORMAT) is None
    for options in ([], [(wire.ETAG, b"\x01")], [(wire.ETAG, b"\x00\x00\x01")]):
        answer = client.get(path, options=options)
        assert (answer.code_text, answer.payload) == ("2.05", b"kept")
    assert origin.count(path) == 1


@pytest.mark.core
def test_etag_of_a_client_stays_here(origin, client, path):
    """The first request has one already: the origin is asked for the whole, the client gets 2.03."""
    origin.resources[path] = Resource(b"kept", etag=b"tag", max_age=600)
    assert client.get(path, options=[(wire.ETAG, b"tag")]).code_text == "2.03"
    assert origin.requests[0].option(wire.ETAG) is None
    answer = client.get(path)
    assert (answer.code_text, answer.payload) == ("2.05", b"kept")
    assert origin.count(path) == 1


@pytest.mark.core
def test_stale_entry_is_validated_with_the_origin(origin, client, path):
    origin.resources[path] = Resource(b"kept", etag=b"tag", max_age=1, content_format=42)
    assert client.get(path).payload == b"kept"
    time.sleep(1.5)
    origin.resources[path].max_age = 600
    answer = client.get(path)
    assert (answer.code_text, answer.payload) == ("2.05", b"kept")
    assert answer.option(wire.CONTENT_FORMAT) == b"\x2a"
    assert origin.requests[-1].all(wire.ETAG) == [b"tag"]
    assert client.get(path).uint(wire.MAX_AGE) > 500, "2.03 has made it fresh again"
    assert origin.count(path) == 2


def test_stale_entry_that_has_changed(origin, client, path):
    origin.resources[path] = Resource(b"first", etag=b"1", max_age=1)
    assert client.get(path).payload == b"first"
    time.sleep(1.5)
    origin.change(path, b"second", etag=b"2", max_age=600)
    answer = client.get(path, options=[(wire.ETAG, b"1")])
    assert (answer.code_text, answer.payload, answer.option(wire.ETAG)) == ("2.05", b"second", b"2")
    assert origin.requests[-1].all(wire.ETAG) == [b"1"]
    assert client.get(path).payload == b"second" and origin.count(path) == 2


# The key (RFC 7252 5.4.2, 5.6).

SAFE, NO_CACHE_KEY = 65000, 65020


@pytest.mark.core
@pytest.mark.parametrize("one, other", [
    (dict(query=("a=1",)), dict(query=("a=2",))),
    (dict(query=("a", "b")), dict(query=("b", "a"))),
    (dict(query=("ab",)), dict(query=("a", "b"))),
    (dict(options=[(wire.ACCEPT, b"")]), dict(options=[(wire.ACCEPT, b"\x28")])),
    (dict(options=[(wire.ACCEPT, b"")]), dict()),
    (dict(options=[(SAFE, b"1")]), dict(options=[(SAFE, b"2")])),
    (dict(options=[(SAFE, b"")]), dict()),
], ids=["query", "order", "borders", "accept", "no-accept", "option", "empty-option"])
def test_other_keys_do_not_share(origin, client, path, one, other):
    """Each has its own answer, asked for once."""
    origin.answer = lambda m: piggybacked(m, "2.05", [], b"%d" % origin.count())
    first, second = client.get(path, **one).payload, client.get(path, **other).payload
    assert first != second
    assert client.get(path, **one).payload == first
    assert client.get(path, **other).payload == second
    assert origin.count() == 2


def test_host_is_in_the_key(shared, origin, client, path):
    origin.resources[path] = Resource(b"one", max_age=600)
    other = {path: Resource(b"other", max_age=600)}
    with Origin(shared.hosts.namespace, HOST4, 5702, other) as second:
        for _ in range(2):
            assert client.get(path).payload == b"one"
            assert client.get(path, host="other.example").payload == b"other"
            assert client.get(path, host="third.example").payload == b"one"
        assert second.count() == 1


def test_path_has_borders(origin, client):
    origin.answer = lambda m: piggybacked(m, "2.05", [], repr(m.path).encode())
    paths = ["/k/ab/c", "/k/a/bc", "/k/abc"]
    first = [client.get(p).payload for p in paths]
    assert len(set(first)) == 3 and [client.get(p).payload for p in paths] == first
    assert origin.count() == 3


@pytest.mark.core
def test_options_outside_the_key(origin, client, path):
    origin.resources[path] = Resource(b"kept", max_age=600)
    for options in ([], [(NO_CACHE_KEY, b"1")], [(NO_CACHE_KEY, b"2")], [(wire.SIZE2, b"")],
                    [(wire.BLOCK2, wire.block(0, 0, 6))], [(wire.HOP_LIMIT, b"\x05")]):
        assert client.get(path, options=options).payload == b"kept"
    assert origin.count(path) == 1


@pytest.mark.core
def test_fetch_has_its_payload_in_the_key(origin, client, path):
    origin.answer = lambda m: piggybacked(m, "2.05", [(wire.MAX_AGE, b"\x3c")], b"to " + m.payload)
    for _ in range(2):
        for question in (b"a", b"b"):
            assert client.ask(wire.FETCH, path, question).payload == b"to " + question
    other = [(wire.CONTENT_FORMAT, b"\x32")]
    assert client.ask(wire.FETCH, path, b"a", options=other).payload == b"to a"
    assert client.get(path).payload == b"to "
    assert origin.count() == 4


# What is kept, and what ends it.

@pytest.mark.core
@pytest.mark.parametrize("method", [wire.PUT, wire.POST, wire.DELETE, wire.PATCH, wire.IPATCH])
def test_success_of_an_unsafe_method_ends_an_entry(origin, client, path, method):
    origin.answer = lambda m: piggybacked(m, "2.05", [], b"%d" % origin.count()) \
        if m.code == wire.GET else piggybacked(m, "2.02" if m.code == wire.DELETE else "2.04")
    assert client.get(path).payload == client.get(path).payload == b"1"
    assert client.get(path, query=("q",)).payload == b"2"
    assert client.ask(method, path, b"x").code >> 5 == 2
    assert client.get(path).payload == b"4"


@pytest.mark.core
def test_change_through_one_worker_is_known_to_all(rig):
    """Each worker has a cache of its own; what one of them changes is stored by none any more."""
    one = rig(small() + LISTENERS + UPSTREAM, workers=2)
    with Origin(one.hosts.namespace, HOST4, 5701, {"/x": Resource(b"0", max_age=600)}) as origin:
        clients = [Client(one.hosts.namespace) for _ in range(20)]
        assert {c.get("/x").payload for c in clients} == {b"0"}
        assert origin.count("/x") == 2, "once for each worker"
        for i, client in enumerate(clients[:10], 1):
            state = b"%d" % i
            assert client.ask(wire.PUT, "/x", state).code_text == "2.04"
            for other in clients:
                wait_until("all have the new state", lambda: other.get("/x").payload == state)
        assert origin.count("/x", wire.GET) <= 2 + 10 * 2


def test_failure_of_an_unsafe_method_changes_nothing(origin, client, path):
    origin.answer = lambda m: None if m.code == wire.GET else piggybacked(m, "4.03")
    origin.resources[path] = Resource(b"kept", max_age=600)
    assert client.get(path).payload == b"kept"
    assert client.ask(wire.PUT, path, b"x").code_text == "4.03"
    assert client.get(path).payload == b"kept"
    assert origin.count(path, wire.GET) == 1


@pytest.mark.parametrize("code, kept", [
    ("2.05", True), ("4.04", True), ("4.05", True), ("5.01", True), ("2.04", False)])
def test_which_codes_are_kept(origin, client, path, code, kept):
    """RFC 7252 5.9: errors of the origin are cacheable too; 2.04 is not."""
    origin.answer = lambda m: piggybacked(m, code, [(wire.MAX_AGE, b"\x3c")], b"why")
    method = wire.GET if code != "2.04" else wire.POST
    for _ in range(3):
        answer = client.ask(method, path, b"" if method == wire.GET else b"x")
        assert (answer.code_text, answer.payload) == (code, b"why")
    assert origin.count() == (1 if kept else 3)


def test_options_of_the_answer_are_kept(origin, client, path):
    """Unknown ones too, in order; a missing Content-Format stays away (also from an error)."""
    options = [(SAFE, b"b"), (SAFE, b"a"), (65020, b"")]
    origin.resources[path] = Resource(b"kept", options=options, max_age=600)
    for _ in range(2):
        answer = client.get(path)
        assert [o for o in answer.options if o[0] >= SAFE] == options
        assert answer.option(wire.CONTENT_FORMAT) is None
    assert origin.count(path) == 1


# Joining.

@pytest.mark.core
def test_identical_requests_in_flight_are_one(shared, origin, path):
    origin.resources[path] = Resource(b"late", max_age=600)
    origin.hold()
    clients = [Client(shared.hosts.namespace) for _ in range(50)]
    before = shared.gateway.counter("requests")
    asked = [c.send(wire.request(wire.GET, path, type=wire.NON)) for c in clients]
    wait_until("all have come", lambda: shared.gateway.counter("requests") >= before + 50)
    assert origin.count(path) == 1
    origin.release()
    for client, message in zip(clients, asked):
        answer = client.receive()
        assert (answer.token, answer.payload) == (message.token, b"late")
    assert origin.count(path) == 1


def test_joined_requests_share_the_failure(shared, origin, path):
    origin.answer = lambda m: False
    clients = [Client(shared.hosts.namespace) for _ in range(10)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        codes = {a.code_text for a in pool.map(lambda c: c.get(path), clients)}
    assert codes == {"5.04"}
    assert origin.count() == 1


def test_unsafe_requests_are_never_joined(shared, origin, path):
    origin.hold()
    clients = [Client(shared.hosts.namespace) for _ in range(5)]
    for client in clients:
        client.send(wire.request(wire.POST, path, b"same", type=wire.NON))
    wait_until("all have come", lambda: origin.count(path) == 5)
    origin.release()
    for client in clients:
        assert client.receive().code >> 5 == 2


# Configuration.

@pytest.mark.core
def test_no_cache(rig):
    hosts = rig(small() + "cache: {size: 0}\n" + LISTENERS + UPSTREAM).hosts
    with Origin(hosts.namespace, HOST4, 5701, {"/x": Resource(b"x", max_age=600)}) as origin:
        client = Client(hosts.namespace)
        for i in range(5):
            assert client.get("/x").payload == b"x"
            assert origin.count() == i + 1


@pytest.mark.core
def test_stale_if_error(rig):
    """The origin is gone: an old answer is better than none, where the operator has said so."""
    hosts = rig(small() + "cache: {stale_if_error: 1h}\n" + LISTENERS + UPSTREAM).hosts
    client = Client(hosts.namespace)
    with Origin(hosts.namespace, HOST4, 5701, {"/x": Resource(b"old", max_age=1)}) as origin:
        assert client.get("/x").payload == b"old"
    time.sleep(1.5)
    answer = client.get("/x")
    assert (answer.code_text, answer.payload) == ("2.05", b"old")
    assert client.get("/never-seen").code_text == "5.04"
    with Origin(hosts.namespace, HOST4, 5701, {"/x": Resource(b"new", max_age=600)}) as origin:
        wait_until("the origin is asked again", lambda: client.get("/x").payload == b"new",
                   timeout=30, interval=0.5)
        assert origin.count("/x") == 1


def test_without_it_an_old_answer_is_none(origin, shared, client, path):
    origin.resources[path] = Resource(b"old", max_age=1)
    assert client.get(path).payload == b"old"
    time.sleep(1.5)
    origin.answer = lambda m: False
    assert client.get(path).code_text == "5.04"


@pytest.mark.core
def test_full_cache_gives_up_the_oldest(rig):
    """64 KiB, 300 answers of 1,000 bytes: all are served, the last one is there, the first is not."""
    one = rig(small() + "cache: {size: 64KiB}\n" + LISTENERS + UPSTREAM)
    resources = {f"/{i}": Resource(b"%04d" % i * 250, max_age=600) for i in range(300)}
    with Origin(one.hosts.namespace, HOST4, 5701, resources) as origin:
        client = Client(one.hosts.namespace)
        for i in range(300):
            assert client.get(f"/{i}").payload == resources[f"/{i}"].payload
        assert origin.count() == 300
        assert client.get("/299").payload == resources["/299"].payload
        assert origin.count() == 300
        assert client.get("/0").payload == resources["/0"].payload
        assert origin.count() == 301
        # What is asked for all the time stays while others come and go.
        for i in range(1, 200):
            client.get("/0")
            client.get(f"/{i}")
        assert origin.count("/0") == 2
    assert one.gateway.counter("cache_evictions") >= 200
