"""Observe (RFC 7641) through the gateway: one observation at the origin for all clients. On a TAP."""

import os
import re
import tempfile

import pytest

import wire
from client import QUIET, Client, Crowd
from conftest import coap_client, shared_rig, start_origin
from gateway import LISTENERS, small
from netns import wait_until
from resources import Origin, Resource
from transports import GATEWAY4, GATEWAY6, HOST4

OBSERVE = f"""
observe: {{confirm_every: 3}}
upstreams:
  - {{name: o, servers: ["coap://{HOST4}:5701"], transmission: {{nstart: 64}}}}
  - {{name: libcoap, servers: ["coap://{HOST4}:5683"], transmission: {{nstart: 64}}}}
routes:
  - {{path: /, to: o}}
  - {{host: "{GATEWAY6}", path: /, to: o}}
  - {{path: /lib, to: libcoap, strip: true}}
"""
# Clients that do not acknowledge are given up fast here.
IMPATIENT = f"""
listeners:
  - uri: coap://{GATEWAY4}
    transmission: {{ack_timeout: 300ms, ack_random_factor: 1, max_retransmit: 2}}
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with shared_rig(tmp_path_factory.mktemp("observe"), small() + LISTENERS + OBSERVE) as one:
        start_origin(one.hosts.namespace, HOST4)
        yield one


@pytest.fixture
def net(shared):
    return shared.hosts.namespace


@pytest.fixture
def origin(net, path):
    with Origin(net, HOST4, 5701, {path: Resource(b"0", observable=True, max_age=600)}) as origin:
        yield origin


@pytest.fixture
def client(net):
    return Client(net)


@pytest.fixture
def path(request):
    return "/" + re.sub(r"\W", "_", request.node.name)


def cancelled(origin):
    """The origin's only observation has been cancelled by the token of its registration."""
    wait_until("the origin is told", lambda: origin.cancelled)
    assert [m.token for m in origin.cancelled] == [origin.registered[-1].token]
    assert [m.code for m in origin.cancelled] == [wire.GET]
    assert not any(origin.observers.values())


# libcoap.

@pytest.mark.core
def test_libcoap_client_and_server(net):
    """/time of coap-server, which changes each second."""
    answer = coap_client(net, f"coap://{GATEWAY4}/lib/time", "-s", 5, "-w", timeout=20)
    assert len(set(answer.payload.split("\n")) - {""}) >= 4, answer.output
    assert "Observe:" in answer.output


@pytest.mark.core
def test_libcoap_client_sees_what_others_put(net):
    """States come from clients of the gateway and from one at the origin; the last one arrives."""
    uri = f"coap://{GATEWAY4}/lib/watched"
    assert coap_client(net, uri, "-m", "put", "-e", "state 0").code == "2.01"
    with tempfile.NamedTemporaryFile() as output:
        watcher = net.popen("coap-client-notls", "-s", 60, "-B", 60, "-w", "-o", output.name, uri)

        def seen():
            with open(output.name) as file:
                return file.read().split("\n")
        wait_until("the registration is answered", lambda: "state 0" in seen())
        for i in range(1, 7):
            target = uri if i % 2 else f"coap://{HOST4}/watched"
            assert coap_client(net, target, "-m", "put", "-e", f"state {i}").code == "2.04"
            wait_until(f"state {i} is seen", lambda: f"state {i}" in seen())
        net.stop(watcher)


def test_libcoap_client_cancels(shared, origin, path):
    """At its end coap-client cancels; so does the gateway then."""
    answer = coap_client(shared.hosts.namespace, f"coap://{GATEWAY4}{path}", "-s", 1, timeout=20)
    assert answer.payload == "0", answer.output
    cancelled(origin)


# Registration and states.

@pytest.mark.core
def test_states_come_in_order(origin, client, path):
    token = os.urandom(4)
    first = client.observe(path, token)
    assert (first.code_text, first.payload) == ("2.05", b"0")
    numbers = [first.uint(wire.OBSERVE)]
    for i in range(1, 9):
        origin.change(path, str(i).encode())
        seen = client.notification(token)
        assert (seen.code_text, seen.payload) == ("2.05", str(i).encode())
        numbers.append(seen.uint(wire.OBSERVE))
    assert numbers == sorted(set(numbers)) and numbers[-1] < 1 << 24
    assert len(origin.registered) == 1 and origin.count() == 1


@pytest.mark.core
def test_every_third_is_confirmable(origin, client, path):
    """observe.confirm_every: 3; and message IDs are all different."""
    token = os.urandom(4)
    client.observe(path, token)
    seen = []
    for i in range(9):
        origin.change(path, b"state %d" % i)
        seen.append(client.notification(token))
    assert [m.type for m in seen] == [wire.NON, wire.NON, wire.CON] * 3
    assert len({m.mid for m in seen}) == 9


def test_all_confirmable(rig, path):
    hosts = rig(small() + LISTENERS + OBSERVE.replace("confirm_every: 3", "confirm_every: 1")).hosts
    with Origin(hosts.namespace, HOST4, 5701, {path: Resource(b"0", observable=True)}) as origin:
        client = Client(hosts.namespace)
        token = os.urandom(4)
        client.observe(path, token)
        for i in range(4):
            origin.change(path, b"state %d" % i)
            assert client.notification(token).type == wire.CON


@pytest.mark.core
def test_thousand_observers_and_one_observation(shared, origin, path):
    """Each of 1,000 endpoints gets each state; the origin has one observer and sends each once. Those
    who leave, by Reset or by Observe=1, leave; with the last one the observation ends."""
    crowd = Crowd(shared.hosts.namespace, 1000, path)
    try:
        answers = crowd.request(range(1000), 0)
        assert {(a.code_text, a.payload) for a in answers.values()} == {("2.05", b"0")}
        assert all(a.option(wire.OBSERVE) is not None for a in answers.values())
        assert len(origin.registered) == 1 and origin.count() == 1
        assert len(origin.observers[path]) == 1
        for i in range(1, 11):
            origin.change(path, b"state %d" % i)
            crowd.wait_for(b"state %d" % i)
        wanted = [b"state %d" % i for i in range(1, 11)]
        for states in crowd.states.values():
            payloads = [p for _, p in states if p.startswith(b"state")]
            assert payloads == wanted, payloads
            numbers = [n for n, _ in states]
            assert numbers == sorted(numbers)
        assert len(origin.registered) == 1 and origin.count() == 1

        # A third leaves by a Reset, a third by Observe=1, the others still get all.
        crowd.resetting |= set(range(0, 1000, 3))
        origin.change(path, b"reset me")
        wait_until("all have sent their Reset", lambda: crowd.listen(0.1) >= 0 and not crowd.resetting)
        crowd.request(range(1, 1000, 3), 1)
        stay = range(2, 1000, 3)
        lengths = {i: len(s) for i, s in crowd.states.items()}
        for i in range(4):
            origin.change(path, b"for few %d" % i)
            crowd.wait_for(b"for few %d" % i, stay)
        assert all(len(crowd.states[i]) == lengths[i] for i in crowd.states if i % 3 != 2)
        assert not origin.cancelled

        crowd.request(stay, 1)
        cancelled(origin)
        origin.change(path, b"for nobody")
        assert crowd.listen(QUIET) == 0
    finally:
        crowd.close()


def test_two_workers_observe_twice(rig, path):
    """An observation for each worker at the most, however many clients."""
    hosts = rig(small() + LISTENERS + OBSERVE, workers=2).hosts
    with Origin(hosts.namespace, HOST4, 5701, {path: Resource(b"0", observable=True)}) as origin:
        crowd = Crowd(hosts.namespace, 100, path)
        crowd.request(range(100), 0)
        assert 1 <= len(origin.registered) <= 2
        for i in range(5):
            origin.change(path, b"state %d" % i)
            crowd.wait_for(b"state %d" % i)
        crowd.request(range(100), 1)
        wait_until("all is cancelled", lambda: len(origin.cancelled) == len(origin.registered))
        crowd.close()


def test_over_ipv6(shared, origin, path):
    client, token = Client(shared.hosts.namespace, family=6), os.urandom(4)
    first = client.observe(path, token, host=GATEWAY6)
    assert first.payload == b"0" and first.option(wire.OBSERVE) is not None
    origin.change(path, b"six")
    assert client.notification(token).payload == b"six"


def test_different_keys_are_different_observations(origin, client, path):
    """The query is in the key: two observations, and each client gets its own answers."""
    a, b = os.urandom(4), os.urandom(4)
    client.observe(path, a, query=("a",))
    client.observe(path, b, query=("b",))
    assert len(origin.registered) == 2
    assert {m.option(wire.URI_QUERY) for m in origin.registered} == {b"a", b"b"}


def test_fetch_is_observed_by_its_payload(origin, client, path):
    """RFC 8132 2.4: two questions are two observations, each of which ends by a FETCH of its own."""
    tokens = {question: os.urandom(4) for question in (b"a", b"b")}
    for question, token in tokens.items():
        first = client.ask(wire.FETCH, path, question, token=token, options=[(wire.OBSERVE, b"")])
        assert first.option(wire.OBSERVE) is not None
    assert {(m.code, m.payload) for m in origin.registered} == {(wire.FETCH, b"a"), (wire.FETCH, b"b")}
    origin.change(path, b"1")
    for token in tokens.values():
        assert client.notification(token).payload == b"1"
    client.ask(wire.FETCH, path, b"a", token=tokens[b"a"], options=[(wire.OBSERVE, b"\x01")])
    wait_until("one of them ends", lambda: origin.cancelled)
    assert [(m.code, m.payload) for m in origin.cancelled] == [(wire.FETCH, b"a")]


def test_two_tokens_are_two_relations(origin, client, path):
    """RFC 7641 3.1, 4.1: of one client on one resource; the origin has one."""
    tokens = [os.urandom(4), os.urandom(4)]
    for token in tokens:
        client.observe(path, token)
    origin.change(path, b"both")
    for token in tokens:
        assert client.notification(token).payload == b"both"
    assert len(origin.registered) == 1
    client.cancel(path, tokens[0])
    origin.change(path, b"one")
    assert client.notification(tokens[1]).payload == b"one"
    assert client.is_quiet()
    assert not origin.cancelled


@pytest.mark.core
def test_same_token_again_is_the_same_relation(origin, client, path):
    token = os.urandom(4)
    for _ in range(3):
        assert client.observe(path, token).option(wire.OBSERVE) is not None
    origin.change(path, b"once")
    assert client.notification(token).payload == b"once"
    assert client.is_quiet()
    client.cancel(path, token)
    cancelled(origin)


@pytest.mark.core
def test_fresh_entry_registers_too(origin, client, path, net):
    """The first answer comes from the cache, and still the client is told of changes."""
    assert client.get(path).payload == b"0"
    token = os.urandom(4)
    first = client.observe(path, token)
    assert first.payload == b"0" and first.option(wire.OBSERVE) is not None
    origin.change(path, b"1")
    assert client.notification(token).payload == b"1"
    # And what is observed answers the others without a request to the origin.
    asked = origin.count()
    assert Client(net).get(path).payload == b"1"
    assert origin.count() == asked


def test_origin_that_does_not_notify(origin, client, path):
    """It answers without Observe: so does the gateway."""
    origin.resources[path].observable = False
    answer = client.observe(path)
    assert (answer.code_text, answer.payload, answer.option(wire.OBSERVE)) == ("2.05", b"0", None)


def test_registration_that_fails(origin, client):
    answer = client.observe("/not-there")
    assert (answer.code_text, answer.option(wire.OBSERVE)) == ("4.04", None)


# The ways to leave.

@pytest.mark.core
def test_cancel(origin, client, path):
    token = os.urandom(4)
    client.observe(path, token)
    answer = client.cancel(path, token)
    assert (answer.code_text, answer.payload, answer.option(wire.OBSERVE)) == ("2.05", b"0", None)
    cancelled(origin)
    origin.change(path, b"1")
    assert client.is_quiet()


@pytest.mark.core
@pytest.mark.parametrize("confirmable", [False, True], ids=["non", "con"])
def test_reset(origin, client, path, confirmable):
    token = os.urandom(4)
    client.observe(path, token)
    client.acknowledge = False
    for i in range(3 if confirmable else 1):
        origin.change(path, b"state %d" % i)
        seen = client.until(token, b"state %d" % i)[-1]
    assert seen.type == (wire.CON if confirmable else wire.NON)
    client.send(wire.Message(wire.RST, wire.EMPTY, seen.mid))
    cancelled(origin)
    origin.change(path, b"more")
    assert client.is_quiet()


def test_reset_of_an_older_notification(origin, client, path):
    """RFC 7641 3.6: a Reset that comes late still means that nobody knows the relation."""
    token = os.urandom(4)
    client.observe(path, token)
    seen = []
    for i in range(6):
        origin.change(path, b"state %d" % i)
        seen.append(client.notification(token))
    assert seen[0].type == wire.NON
    client.send(wire.Message(wire.RST, wire.EMPTY, seen[0].mid))
    cancelled(origin)


@pytest.mark.core
def test_client_that_does_not_acknowledge(rig, path):
    """All retransmissions of a confirmable notification in vain: it is no observer any more."""
    hosts = rig(small() + IMPATIENT + OBSERVE).hosts
    with Origin(hosts.namespace, HOST4, 5701, {path: Resource(b"0", observable=True)}) as origin:
        client = Client(hosts.namespace)
        token = os.urandom(4)
        client.observe(path, token)
        client.acknowledge = False
        for i in range(3):
            origin.change(path, b"state %d" % i)
            client.until(token, b"state %d" % i)
        cancelled(origin)


def test_client_that_is_gone(rig, path):
    """Its port is closed: the ICMP error says so."""
    one = rig(small() + IMPATIENT.replace("300ms", "60s") + OBSERVE)
    namespace = one.hosts.namespace
    with Origin(namespace, HOST4, 5701, {path: Resource(b"0", observable=True)}) as origin:
        client = Client(namespace)
        client.observe(path)
        client.sock.close()
        origin.change(path, b"a state that nobody gets")
        wait_until("the error is heard", lambda: one.gateway.counter("relations_lost") == 1)
        cancelled(origin)


@pytest.mark.core
def test_newest_state_replaces_the_waiting_one(rig, path):
    """RFC 7641 4.5.2: while a notification is not acknowledged no other is sent; what is repeated
    then is the newest state, under a message ID and a number of its own."""
    hosts = rig(small() + IMPATIENT.replace("300ms", "1s") + OBSERVE).hosts
    with Origin(hosts.namespace, HOST4, 5701, {path: Resource(b"0", observable=True)}) as origin:
        client, token = Client(hosts.namespace), os.urandom(4)
        client.observe(path, token)
        client.acknowledge = False
        for i in range(3):
            origin.change(path, b"state %d" % i)
            waiting = client.until(token, b"state %d" % i)[-1]
        assert waiting.type == wire.CON
        for i in range(3, 20):
            origin.change(path, b"state %d" % i)
        newer = client.notification(token)
        while newer.payload == waiting.payload and newer.mid == waiting.mid:
            newer = client.notification(token)
        assert newer.payload == b"state 19"
        assert newer.type == wire.CON and newer.mid != waiting.mid
        assert newer.uint(wire.OBSERVE) > waiting.uint(wire.OBSERVE)
        client.send(wire.Message(wire.ACK, wire.EMPTY, newer.mid))
        client.acknowledge = True
        origin.change(path, b"the last")
        assert client.until(token, b"the last")[-1].payload == b"the last"


@pytest.mark.core
def test_acknowledgement_lets_the_last_state_go(origin, client, path):
    token = os.urandom(4)
    client.observe(path, token)
    client.acknowledge = False
    for i in range(3):
        origin.change(path, b"state %d" % i)
        waiting = client.until(token, b"state %d" % i)[-1]
    for i in range(3, 30):
        origin.change(path, b"state %d" % i)
    client.send(wire.Message(wire.ACK, wire.EMPTY, waiting.mid))
    client.acknowledge = True
    assert client.until(token, b"state 29")


@pytest.mark.core
def test_error_ends_the_relation(shared, origin, path):
    """Of the origin: all clients get it, and none of them is an observer any more."""
    clients = [Client(shared.hosts.namespace) for _ in range(10)]
    tokens = [os.urandom(4) for _ in clients]
    for client, token in zip(clients, tokens):
        client.observe(path, token)
    origin.change(path, b"gone", code="4.04")
    for client, token in zip(clients, tokens):
        last = client.notification(token)
        assert (last.code_text, last.payload, last.option(wire.OBSERVE)) == ("4.04", b"gone", None)
    origin.change(path, b"back")
    assert all(client.is_quiet(0.1) for client in clients)
    assert len(origin.registered) == 1


def test_notification_of_a_cancelled_observation(origin, client, path):
    """RFC 7641 3.6: the origin that goes on is told by a Reset."""
    token = os.urandom(4)
    client.observe(path, token)
    peer, far_token = next(iter(origin.observers[path]))
    client.cancel(path, token)
    cancelled(origin)
    mid = origin.notify(path, peer, far_token, wire.CON)
    wait_until("the origin gets a Reset", lambda: mid in origin.resets)
    assert client.is_quiet()


@pytest.mark.parametrize("confirmable", [False, True], ids=["non", "con"])
def test_notifications_of_the_origin_are_acknowledged(origin, client, path, confirmable):
    origin.confirmable = confirmable
    token = os.urandom(4)
    client.observe(path, token)
    for i in range(3):
        origin.change(path, b"state %d" % i)
        client.notification(token)
    wait_until("acknowledged", lambda: len(origin.acknowledged) == (3 if confirmable else 0))
    assert origin.resets == []


def test_old_notification_of_the_origin_is_ignored(origin, client, path):
    """RFC 7641 3.4: one with a smaller number has been overtaken on the way."""
    token = os.urandom(4)
    client.observe(path, token)
    origin.change(path, b"1")
    assert client.notification(token).payload == b"1"
    origin.resources[path].payload, origin.resources[path].number = b"old", 5
    peer, far_token = next(iter(origin.observers[path]))
    origin.notify(path, peer, far_token)
    assert client.is_quiet()
    assert client.get(path).payload == b"1"


# Large states.

@pytest.mark.core
def test_large_notifications(origin, client, path):
    """Block 0 comes as the notification; the rest is fetched by GET without Observe."""
    token, bodies = os.urandom(4), [b"%d:" % i + os.urandom(2500) for i in range(3)]
    origin.resources[path].etag = b"x"
    first = client.observe(path, token)
    assert first.payload == b"0"
    for i, body in enumerate(bodies):
        origin.change(path, body, etag=b"%d" % i)
        seen = client.notification(token)
        assert seen.payload == body[:1024] and seen.block(wire.BLOCK2) == (0, 1, 6)
        assert seen.option(wire.OBSERVE) is not None and seen.option(wire.ETAG) is not None
        got, answers = client.download(path, first=seen)
        assert got == body
        assert all(a.option(wire.OBSERVE) is None for a in answers[1:])
        assert len({a.option(wire.ETAG) for a in answers}) == 1


def test_large_first_answer(origin, client, path):
    body = os.urandom(3000)
    origin.resources[path].payload = body
    token = os.urandom(4)
    first = client.observe(path, token, options=[(wire.BLOCK2, wire.block(0, 0, 4))])
    assert first.option(wire.OBSERVE) is not None and first.payload == body[:256]
    assert client.download(path, first=first)[0] == body
    origin.change(path, body[::-1])
    seen = client.notification(token)
    assert seen.payload == body[::-1][:256], "in the size that was asked for"


def test_observe_starts_at_block_0(origin, client, path):
    origin.resources[path].payload = bytes(3000)
    answer = client.observe(path, options=[(wire.BLOCK2, wire.block(1, 0, 6))])
    assert answer.code_text == "4.00"


# Towards the origin.

@pytest.mark.slow
def test_registration_is_renewed(net, client, path):
    """Without a notification within Max-Age and a random while the origin may have forgotten: the
    gateway registers again, by the same token, and the relation goes on."""
    resources = {path: Resource(b"0", observable=True, max_age=1)}
    with Origin(net, HOST4, 5701, resources) as origin:
        token = os.urandom(4)
        client.observe(path, token)
        origin.observers.clear()  # a restart
        wait_until("it registers again", lambda: len(origin.registered) == 2, timeout=40)
        assert origin.registered[0].token == origin.registered[1].token
        wait_until("the origin knows it", lambda: origin.observers.get(path))
        origin.change(path, b"after the restart", max_age=600)
        client.until(token, b"after the restart")


def test_fifty_observations_at_one_server(shared, path):
    """Each resource has its own states, and its own observation."""
    paths = [f"{path}{i}" for i in range(50)]
    resources = {p: Resource(b"0", observable=True, max_age=600) for p in paths}
    with Origin(shared.hosts.namespace, HOST4, 5701, resources) as origin:
        client = Client(shared.hosts.namespace)
        tokens = {p: os.urandom(4) for p in paths}
        for p in paths:
            assert client.observe(p, tokens[p]).option(wire.OBSERVE) is not None
        for p in paths:
            origin.change(p, p.encode())
        for p in paths:
            assert client.notification(tokens[p]).payload == p.encode()
        assert len(origin.registered) == 50
