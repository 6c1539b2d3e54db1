"""Each limit reached on purpose: the answer that a client gets there, and that service goes on when
there is room again. On a TAP."""

import os
import time

import pytest

import wire
from client import Client, Crowd
from gateway import LISTENERS, small
from netns import wait_until
from resources import Origin, Resource, block_bytes
from transports import HOST4


def proxy(more=""):
    return LISTENERS + f"""
cache: {{size: 0}}
upstreams: [{{name: o, servers: ["coap://{HOST4}:5701"], {more} transmission: {{nstart: 10000}}}}]
routes: [{{path: /, to: o}}]
"""


@pytest.fixture
def start(rig):
    """start(upstream="...", limit=value...): a gateway, its hosts' namespace and an origin."""
    origins = []

    def begin(upstream="", **limits):
        one = rig(small(**limits) + proxy(upstream))
        origins.append(Origin(one.hosts.namespace, HOST4, 5701))
        return one, one.hosts.namespace, origins[-1]
    yield begin
    for origin in origins:
        origin.__exit__()


def flood(namespace, count, clients=1, method=wire.GET, path="/"):
    """So many requests at the same time; the clients, and the requests by token."""
    socks = [Client(namespace) for _ in range(clients)]
    asked = {}
    for i in range(count):
        message = wire.request(method, f"{path}{i}", b"p" if method == wire.POST else b"", type=wire.NON)
        asked[message.token] = message
        socks[i % clients].send(message)
    return socks, asked


def gather(socks, count, timeout=20):
    """So many answers, from whoever gets them."""
    answers, deadline = [], time.monotonic() + timeout
    while len(answers) < count and time.monotonic() < deadline:
        for sock in socks:
            try:
                answers.append(sock.receive(0.01))
            except TimeoutError:
                pass
    assert len(answers) == count, f"{len(answers)} of {count}"
    return answers


def overloaded(answer):
    return (answer.code_text, answer.uint(wire.MAX_AGE)) == ("5.03", 5)


@pytest.mark.core
def test_client_requests(start):
    """4.29 with Max-Age beyond; other clients are served."""
    one, namespace, origin = start(client_requests=10)
    origin.hold()
    socks, asked = flood(namespace, 30)
    refused = gather(socks, 20)
    assert {a.code_text for a in refused} == {"4.29"}
    assert all(a.uint(wire.MAX_AGE) > 0 for a in refused)
    others, _ = flood(namespace, 1, path="/other")
    wait_until("the other's request goes on", lambda: origin.count() == 11)
    origin.release()
    assert {a.code_text for a in gather(socks, 10)} == {"4.04"}
    gather(others, 1)
    assert socks[0].get("/again").code_text == "4.04"


@pytest.mark.core
@pytest.mark.parametrize("method", [wire.GET, wire.POST])
def test_exchanges(start, method):
    one, namespace, origin = start("max_outstanding: 1000,", exchanges=16, client_requests=1000)
    origin.hold()
    socks, asked = flood(namespace, 40, clients=4, method=method)
    refused = gather(socks, 24)
    assert all(overloaded(a) for a in refused), refused
    wait_until("the others are at the origin", lambda: origin.count() == 16)
    assert one.gateway.counter("refused_memory") == 24
    origin.release()
    assert not any(overloaded(a) for a in gather(socks, 16))
    assert not overloaded(socks[0].get("/again"))


@pytest.mark.core
@pytest.mark.parametrize("method", [wire.GET, wire.POST])
def test_max_outstanding(start, method):
    one, namespace, origin = start("max_outstanding: 8,", client_requests=1000)
    origin.hold()
    socks, asked = flood(namespace, 40, clients=4, method=method)
    refused = gather(socks, 32)
    assert all(overloaded(a) for a in refused), refused
    wait_until("the others are at the origin", lambda: origin.count() == 8)
    origin.release()
    assert not any(overloaded(a) for a in gather(socks, 8))
    assert not overloaded(socks[0].get("/again"))


@pytest.mark.core
def test_queue_to_a_server(rig):
    """Confirmable requests beyond NSTART wait for their turn: so many, and 5.03 for the others."""
    one = rig(small(queue=4, client_requests=1000)
              + proxy("ports: 1,").replace("nstart: 10000", "nstart: 1"))
    with Origin(one.hosts.namespace, HOST4, 5701, answer=lambda m: False) as origin:
        socks, asked = flood(one.hosts.namespace, 30, method=wire.POST)
        refused = gather(socks, 25)
        assert all(overloaded(a) for a in refused), refused
        assert one.gateway.counter("refused_queue") == 25
        wait_until("one is at the origin", lambda: origin.count() == 1)


# Bodies.

def text_of(length):
    return b"".join(b"%07d\n" % i for i in range(length // 8 + 1))[:length]


def put_block(client, path, body, num, szx=6, options=()):
    size = block_bytes(szx)
    more = (num + 1) * size < len(body)
    return client.ask(wire.PUT, path, body[num * size:(num + 1) * size],
                      options=[*options, (wire.BLOCK1, wire.block(num, more, szx))])


@pytest.mark.core
def test_body(start):
    """4.13 with the size that would do; 5.02 for an origin's."""
    one, namespace, origin = start(body="4KiB", assembly_memory="64KiB")
    client = Client(namespace)
    answers = client.upload(wire.PUT, "/up", text_of(5000), 6, size1=False)
    assert (answers[-1].code_text, answers[-1].uint(wire.SIZE1)) == ("4.13", 4096)
    answers = client.upload(wire.PUT, "/up", text_of(5000), 6)
    assert [(a.code_text, a.uint(wire.SIZE1)) for a in answers] == [("4.13", 4096)]
    assert origin.requests == []
    assert client.upload(wire.PUT, "/up", text_of(4096), 6)[-1].code_text == "2.01"
    origin.resources["/down"] = Resource(text_of(4097))
    assert client.get("/down").code_text == "5.02"
    origin.resources["/down"] = Resource(text_of(4096))
    assert client.download("/down")[0] == text_of(4096)


@pytest.mark.core
def test_assembly_memory(start):
    """5.03 with Max-Age for the upload for which there is no room; room comes back when the others
    are finished."""
    one, namespace, origin = start(body="64KiB", assembly_memory="128KiB")
    clients = [Client(namespace) for _ in range(12)]
    body = text_of(40000)
    last, refused = {}, set()
    for num in range(len(body) // 1024):
        for i, client in enumerate(clients):
            if i not in refused:
                answer = put_block(client, f"/up/{i}", body, num)
                if answer.code_text != "2.31":
                    assert overloaded(answer), answer
                    refused.add(i)
                last[i] = num
    assert 6 <= len(refused) < 12, refused
    for i, client in enumerate(clients):
        if i not in refused:
            assert put_block(client, f"/up/{i}", body, len(body) // 1024).code_text == "2.01"
    assert {b for _, _, b in origin.bodies} == {body}
    assert clients[min(refused)].upload(wire.PUT, "/up/again", body, 6)[-1].code_text == "2.01"


@pytest.mark.core
def test_transfers(start):
    """More uploads begun than there may be: 5.03 with Max-Age, or an older unfinished one has to start
    again; and all get through in the end."""
    one, namespace, origin = start(transfers=16)
    clients = [Client(namespace) for _ in range(40)]
    body = text_of(3000)
    codes = [put_block(client, f"/t/{i}", body, 0) for i, client in enumerate(clients)]
    assert {c.code_text for c in codes} <= {"2.31", "5.03"}
    going = [i for i, c in enumerate(codes) if c.code_text == "2.31"]
    assert all(overloaded(c) for i, c in enumerate(codes) if i not in going)
    done = 0
    for i in going:
        answers = [put_block(clients[i], f"/t/{i}", body, num).code_text for num in (1, 2)]
        assert answers[-1] in ("2.01", "4.08"), answers
        done += answers[-1] == "2.01"
    assert done == 16
    assert clients[-1].upload(wire.PUT, "/t/more", body, 6)[-1].code_text == "2.01"


def test_downloads_beyond_transfers(start):
    """Bodies that many clients are fetching at once are served from what is there or asked again, but
    each client ends with the whole."""
    one, namespace, origin = start(transfers=16)
    body = text_of(5000)
    origin.resources["/down"] = Resource(body, max_age=600, etag=b"one")
    clients = [Client(namespace) for _ in range(40)]
    firsts = [client.get("/down") for client in clients]
    complete = 0
    for client, first in zip(clients, firsts):
        if first.code_text != "2.05":
            assert overloaded(first), first
            continue
        got, answers = client.download("/down", first=first)
        assert got == body
        complete += 1
    assert complete >= 16
    assert clients[-1].download("/down")[0] == body


# Observe.

def relations(crowd, count):
    """How many of the crowd's first `count` have been taken as observers; all have been answered."""
    answers = crowd.request(range(count), 0)
    assert {a.code_text for a in answers.values()} == {"2.05"}
    return {i for i, a in answers.items() if a.option(wire.OBSERVE) is not None}


@pytest.mark.core
def test_relations(start):
    """Beyond, a registration is answered as a plain GET; a place that gets free is taken."""
    one, namespace, origin = start(relations=20)
    origin.resources["/o"] = Resource(b"0", observable=True, max_age=600)
    crowd = Crowd(namespace, 50, "/o")
    taken = relations(crowd, 50)
    assert len(taken) == 20
    origin.change("/o", b"1")
    crowd.wait_for(b"1", taken)
    assert crowd.listen(0.3) == 0
    crowd.request(list(taken)[:5], 1)
    assert len(relations(crowd, 50)) == 20
    crowd.close()


@pytest.mark.core
def test_client_relations(start):
    one, namespace, origin = start(client_relations=5)
    paths = [f"/o{i}" for i in range(10)]
    origin.resources = {p: Resource(b"0", observable=True, max_age=600) for p in paths}
    greedy, other = Client(namespace), Client(namespace)
    tokens = {p: os.urandom(4) for p in paths}
    answers = [greedy.observe(p, tokens[p]) for p in paths]
    assert {a.code_text for a in answers} == {"2.05"}
    assert [a.option(wire.OBSERVE) is not None for a in answers] == [True] * 5 + [False] * 5
    assert other.observe(paths[9]).option(wire.OBSERVE) is not None
    greedy.cancel(paths[0], tokens[paths[0]])
    assert greedy.observe(paths[8], tokens[paths[8]]).option(wire.OBSERVE) is not None


@pytest.mark.core
def test_observations(start):
    """More resources than may be observed: the rest is answered without Observe, and the origin is
    not left with a registration that nobody holds."""
    one, namespace, origin = start(observations=8)
    paths = [f"/o{i}" for i in range(20)]
    origin.resources = {p: Resource(b"0", observable=True, max_age=600) for p in paths}
    client, tokens = Client(namespace), {p: os.urandom(4) for p in paths}
    answers = [client.observe(p, tokens[p]) for p in paths]
    assert {a.code_text for a in answers} == {"2.05"}
    assert sum(a.option(wire.OBSERVE) is not None for a in answers) == 8
    wait_until("no more than that at the origin",
               lambda: sum(len(o) for o in origin.observers.values()) == 8)
    held = [p for p, a in zip(paths, answers) if a.option(wire.OBSERVE) is not None]
    client.cancel(held[0], tokens[held[0]])
    wait_until("one is given back", lambda: origin.cancelled)
    assert client.observe(paths[19], tokens[paths[19]]).option(wire.OBSERVE) is not None


@pytest.mark.core
def test_no_observations_at_all(start):
    one, namespace, origin = start(observations=0, relations=0)
    origin.resources["/o"] = Resource(b"0", observable=True, max_age=600)
    answer = Client(namespace).observe("/o")
    assert (answer.code_text, answer.payload, answer.option(wire.OBSERVE)) == ("2.05", b"0", None)
    assert not any(origin.observers.values())


# Others.

@pytest.mark.core
def test_message_memory(start):
    """Room for few messages that are kept to be sent again: 5.03, and service when they are settled."""
    one, namespace, origin = start("timeout: 3s,", message_memory="64KiB", client_requests=1000)
    origin.answer = lambda m: False
    socks = [Client(namespace) for _ in range(4)]
    for i in range(200):
        socks[i % 4].send(wire.request(wire.POST, f"/{i}", bytes(1000), type=wire.NON))
        time.sleep(0.002)
    answers = gather(socks, 200)
    refused = [a for a in answers if a.code_text != "5.04"]
    assert 100 < len(refused) < 200 and all(overloaded(a) for a in refused)
    assert one.gateway.counter("refused_memory") == len(refused)
    origin.answer = lambda m: None
    assert socks[0].ask(wire.POST, "/again", bytes(1000)).code_text == "2.01"


@pytest.mark.core
def test_sessions(start):
    """More clients than are remembered: the longest idle are forgotten, and everybody is answered."""
    one, namespace, origin = start(sessions=64)
    for i in range(300):
        client = Client(namespace)
        assert client.get(f"/{i}").code_text == "4.04"
        client.sock.close()
    assert one.gateway.counter("sessions_evicted") > 200


@pytest.mark.core
def test_all_limits_at_their_least(start):
    """Nothing breaks where everything is as small as it can be."""
    one, namespace, origin = start(
        sessions=16, exchanges=16, outbound=16, queue=0, remembered=16, message_memory="64KiB",
        body="1KiB", assembly_memory="64KiB", transfers=16, observations=1, relations=1,
        client_requests=1, client_relations=1, destinations=1, transfer_idle="1s")
    origin.resources["/o"] = Resource(b"0", observable=True, max_age=600)
    for i in range(50):
        client, token = Client(namespace), os.urandom(4)
        assert client.observe("/o", token).code_text == "2.05"
        assert client.upload(wire.PUT, f"/{i}", text_of(1000), 2)[-1].code_text in ("2.01", "5.03")
        assert client.cancel("/o", token).code_text == "2.05"
        client.sock.close()
